/*
 * access.h: who may call: API keys, their models and rate limits.
 *
 *     emb_access *access;
 *     emb_access_open(config, &access, err);
 *     switch (emb_access_check(access, token, length, now_ns, &caller, &retry_after_ms)) { … }
 *
 * Keys come from EMBEDD_API_KEYS (plain) and from a YAML file of hashed ones:
 *
 *     keys:
 *       - name: search
 *         sha256: 9f86d0…          # `embedd key` makes key and line
 *         requests_per_minute: 600 # optional; with burst, default a tenth of it, at least 1
 *         tokens_per_minute: 100000 # optional
 *         models: [all-MiniLM-L6-v2, "bge-*"]  # optional
 *         rights: [use, read]      # optional: a word or a list; access.api_keys_file_rights unless said
 *
 * Keys are kept as SHA-256 and every one is compared, in constant time, so that time tells nothing. Limits
 * are token buckets kept across reloads for keys of the same name. Thread-safe; a caller lives until
 * emb_caller_release.
 */
#ifndef EMB_SERVICE_ACCESS_H
#define EMB_SERVICE_ACCESS_H

#include "config/config.h"

typedef struct emb_access emb_access;
typedef struct emb_caller emb_caller;

typedef enum emb_access_verdict {
    EMB_ACCESS_GRANTED,
    EMB_ACCESS_MISSING, /* 401: keys are set and none was sent */
    EMB_ACCESS_UNKNOWN, /* 401: not a key */
    EMB_ACCESS_LIMITED  /* 429 */
} emb_access_verdict;

/* What a key may do. Bits; a key with admin has them all. */
typedef enum emb_right {
    EMB_RIGHT_USE = 1,  /* embed, tokenize, see models and what the key itself cost */
    EMB_RIGHT_READ = 2, /* reports: costs of all, shadow, rollout, alerts, metrics, the cache */
    EMB_RIGHT_ADMIN = 4 /* change: rollout, clearing, warming */
} emb_right;
enum { EMB_RIGHT_ANY = EMB_RIGHT_USE | EMB_RIGHT_READ | EMB_RIGHT_ADMIN, EMB_RIGHTS_TEXT = 32 };

/* Of one word; its bits are added. False: no right is called so. */
bool emb_right_parse(const char *name, size_t length, unsigned *add_to);
/* Of a list with commas between. */
bool emb_rights_parse(const char *list, unsigned *out);
/* "use, read" with between ", "; EMB_RIGHTS_TEXT bytes hold all. */
void emb_rights_text(unsigned rights, const char *between, char *out, size_t size);

EMB_MUST_CHECK emb_status emb_access_open(const emb_config *config, emb_access **out, emb_error *err);
void emb_access_close(emb_access *access);
/* Reads keys and file again; a bad file leaves the old keys in force. */
EMB_MUST_CHECK emb_status emb_access_reload(emb_access *access, const emb_config *config, emb_error *err);
bool emb_access_needed(const emb_access *access);

/* key NULL: none was sent. On GRANTED *caller is set, NULL when no keys are configured. On LIMITED
 * *retry_after_ms says when one more request will be let in. */
emb_access_verdict emb_access_check(emb_access *access, const char *key, size_t length, uint64_t now_ns,
                                    emb_caller **caller, uint64_t *retry_after_ms);
/* Whether the caller (or NULL) may use a model (403 if not). */
bool emb_caller_may_use(const emb_caller *caller, const char *model);
unsigned emb_caller_rights(const emb_caller *caller); /* of NULL: all, there are no keys */
/* Counts tokens after a request; over the limit, the next requests wait. */
void emb_caller_count_tokens(emb_caller *caller, uint64_t tokens, uint64_t now_ns);
const char *emb_caller_name(const emb_caller *caller); /* "" for NULL */
void emb_caller_release(emb_caller *caller);           /* takes NULL */

#endif
