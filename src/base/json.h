/*
 * json.h: reading JSON (simdjson behind a C interface).
 *
 *     emb_json *doc; emb_json_value v; const char *s; size_t n;
 *     if ((st = emb_json_open_file(path, 64 << 20, &doc, err))) return st;
 *     if (emb_json_get(emb_json_root(doc), "model_type", &v) && emb_json_string(v, &s, &n)) ...
 *     emb_json_close(doc);
 *
 * A value is a small handle, passed by value, that lives as long as its document. Strings are UTF-8,
 * unescaped, may hold NUL, and live as long as the document. Input is validated strictly (UTF-8,
 * lone surrogates, depth 1024); an error names the file and the byte's problem. A document may be read
 * from several threads.
 */
#ifndef EMB_BASE_JSON_H
#define EMB_BASE_JSON_H

#include <embedd.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct emb_json emb_json;
typedef struct emb_json_value {
    uint64_t opaque[2];
} emb_json_value;

typedef enum emb_json_type {
    EMB_JSON_NULL,
    EMB_JSON_BOOL,
    EMB_JSON_NUMBER,
    EMB_JSON_STRING,
    EMB_JSON_ARRAY,
    EMB_JSON_OBJECT
} emb_json_type;

/* Copies nothing of `text` that the caller must keep. `where` names the source in errors. */
EMB_MUST_CHECK emb_status emb_json_open(const char *text, size_t length, const char *where, emb_json **out,
                                        emb_error *err);
/* EMB_E_NOT_FOUND if there is no such file, EMB_E_LIMIT over max_bytes. */
EMB_MUST_CHECK emb_status emb_json_open_file(const char *path, size_t max_bytes, emb_json **out,
                                             emb_error *err);
void emb_json_close(emb_json *doc);

emb_json_value emb_json_root(const emb_json *doc);
emb_json_type emb_json_type_of(emb_json_value value);
const char *emb_json_type_name(emb_json_type type);

/* Each returns whether the value was of that type (and in range); otherwise *out is untouched. */
bool emb_json_get(emb_json_value object, const char *key, emb_json_value *out);
bool emb_json_string(emb_json_value value, const char **text, size_t *length);
bool emb_json_string_is(emb_json_value value, const char *text);
bool emb_json_bool(emb_json_value value, bool *out);
bool emb_json_int(emb_json_value value, int64_t *out);   /* integral numbers only */
bool emb_json_double(emb_json_value value, double *out); /* any number */
/* Elements of an array or object, 0 for others. Linear for more than 2^24 elements. */
size_t emb_json_count(emb_json_value value);

/* Iteration over an array or object; key is NULL in arrays. */
typedef struct emb_json_iter {
    uint64_t opaque[4];
} emb_json_iter;
emb_json_iter emb_json_begin(emb_json_value value);
bool emb_json_next(emb_json_iter *it, const char **key, size_t *key_length, emb_json_value *value);

#ifdef __cplusplus
}
#endif
#endif
