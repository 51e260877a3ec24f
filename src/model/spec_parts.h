/*
 * spec_parts.h: the pieces from which spec.c reads a model directory; private to src/model and its tests.
 *
 *     emb_spec_source source = { read_from_memory, &files };
 *     st = emb_model_spec_read_from(&spec, "model", &source, err);
 *
 * A source gives a JSON document by its path below the model directory ("1_Pooling/config.json") or
 * EMB_E_NOT_FOUND. Tests and the fuzzer read from memory through it. An emb_spec_file is one document
 * with the name to use in errors. Getters treat JSON null as an absent key, as Python's configs do.
 */
#ifndef EMB_MODEL_SPEC_PARTS_H
#define EMB_MODEL_SPEC_PARTS_H

#include "base/json.h"
#include "model/spec.h"

typedef struct emb_spec_source {
    emb_status (*read)(void *context, const char *path, emb_json **out, emb_error *err);
    void *context;
} emb_spec_source;

EMB_MUST_CHECK emb_status emb_model_spec_read_from(emb_model_spec *spec, const char *directory,
                                                   const emb_spec_source *source, emb_error *err);

typedef struct emb_spec_file {
    const char *path; /* below the model directory; names the file in errors */
    emb_json *doc;
    emb_json_value root;
} emb_spec_file;

/* Opens source's `folder/name` (folder may be ""). Not finding it is EMB_E_NOT_FOUND. The root must be an
 * object unless `array`. */
EMB_MUST_CHECK emb_status emb_spec_file_open(emb_spec_file *file, emb_model_spec *spec,
                                             const emb_spec_source *source, const char *folder,
                                             const char *name, bool array, emb_error *err);
void emb_spec_file_close(emb_spec_file *file);

/* Whether the key is there and not null. */
bool emb_spec_has(const emb_spec_file *file, const char *key);
/* Each leaves *out alone when the key is absent; a wrong type or range is EMB_E_CORRUPT. */
EMB_MUST_CHECK emb_status emb_spec_get_size(const emb_spec_file *file, const char *key, size_t minimum,
                                            size_t maximum, size_t *out, emb_error *err);
EMB_MUST_CHECK emb_status emb_spec_get_bool(const emb_spec_file *file, const char *key, bool *out,
                                            emb_error *err);
EMB_MUST_CHECK emb_status emb_spec_get_string(const emb_spec_file *file, const char *key, const char **out,
                                              size_t *length, emb_error *err);
/* EMB_E_CORRUPT if absent. */
EMB_MUST_CHECK emb_status emb_spec_need_size(const emb_spec_file *file, const char *key, size_t minimum,
                                             size_t maximum, size_t *out, emb_error *err);
/* EMB_E_UNSUPPORTED "file: key is "value", …". */
emb_status emb_spec_unsupported(const emb_spec_file *file, const char *key, const char *value, size_t length,
                                const char *supported, emb_error *err);

/* config.json */
EMB_MUST_CHECK emb_status emb_spec_read_config(emb_model_spec *spec, const emb_spec_file *file,
                                               emb_error *err);
/* modules.json and the modules it names; *transformer receives the folder of the Transformer module. */
EMB_MUST_CHECK emb_status emb_spec_read_modules(emb_model_spec *spec, const emb_spec_source *source,
                                                const emb_spec_file *file, const char **transformer,
                                                emb_error *err);
/* What follows from the modules once `hidden` is known: widths and the final dimension. */
EMB_MUST_CHECK emb_status emb_spec_check_modules(emb_model_spec *spec, emb_error *err);
/* sentence_*_config.json (if `sentence`), tokenizer_config.json, config_sentence_transformers.json. */
EMB_MUST_CHECK emb_status emb_spec_read_text_settings(emb_model_spec *spec, const emb_spec_source *source,
                                                      const char *transformer, bool sentence, emb_error *err);

#endif
