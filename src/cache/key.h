/*
 * key.h: what a vector is filed under: SHA-256 over everything that decides it.
 *
 *     emb_cache_scope scope;                        // once per model and settings
 *     emb_cache_scope_make(&fields, &scope);
 *     emb_cache_key_of_text(&scope, text, n, &key); // once per text
 *     emb_cache_key_text(&key, name);               // "embed:v1:…", as stores show it
 *
 * Fields are length-prefixed, so that no two different sets of fields read alike. The wire encoding of an
 * answer (float, base64) is not part of it. Pure functions, thread-safe.
 */
#ifndef EMB_CACHE_KEY_H
#define EMB_CACHE_KEY_H

#include "crypto/crypto.h"

typedef struct emb_cache_key {
    uint8_t bytes[EMB_SHA256_BYTES];
} emb_cache_key;

typedef struct emb_cache_scope {
    uint8_t bytes[EMB_SHA256_BYTES];
} emb_cache_scope;

typedef struct emb_cache_scope_fields {
    const char *namespace_; /* of the service, or "" */
    const char *provider;   /* "local" */
    const char *model;      /* "all-MiniLM-L6-v2" */
    const char *revision;   /* of the model's files */
    const char *precision;  /* "bf16" */
    const char *prompt;     /* what goes before the text: makes queries and documents differ */
    size_t prompt_length;
    size_t dimensions, max_tokens;
    int pooling, normalize, truncation;
} emb_cache_scope_fields;

EMB_MUST_CHECK bool emb_cache_scope_make(const emb_cache_scope_fields *fields, emb_cache_scope *out);
EMB_MUST_CHECK bool emb_cache_key_of_text(const emb_cache_scope *scope, const char *text, size_t length,
                                          emb_cache_key *out);
/* Of token ids: never equal to that of a text. */
EMB_MUST_CHECK bool emb_cache_key_of_ids(const emb_cache_scope *scope, const int32_t *ids, size_t count,
                                         emb_cache_key *out);

#define EMB_CACHE_KEY_TEXT (9 + 2 * EMB_SHA256_BYTES + 1)
void emb_cache_key_text(const emb_cache_key *key, char out[EMB_CACHE_KEY_TEXT]);
EMB_MUST_CHECK bool emb_cache_key_parse(const char *text,
                                        emb_cache_key *out); /* with or without "embed:v1:" */

#endif
