/*
 * access_keys.h: the keys of one configuration: a set that never changes, made by access_file.c, used by
 * access.c.
 *
 *     emb_key_set *set;
 *     if ((st = emb_key_set_read(config, &set, err))) return st;   // set->keys[i].caller
 *     emb_key_set_release(set);
 *
 * Counted: whoever uses a caller of the set holds the set. Limits outlive it: a new set takes over those of
 * the keys that keep their name (access.c).
 */
#ifndef EMB_SERVICE_ACCESS_KEYS_H
#define EMB_SERVICE_ACCESS_KEYS_H

#include "base/arena.h"
#include "crypto/crypto.h"
#include "service/access.h"

#include <stdatomic.h>

/* Two token buckets, each as the time at which it will be full again: one atomic word, no lock. */
typedef struct emb_key_limits {
    atomic_size_t references;
    atomic_uint_fast64_t requests_full_ns, tokens_full_ns;
} emb_key_limits;

typedef struct emb_key_set emb_key_set;

struct emb_caller {
    emb_key_set *set;
    const char *name;
    const char *const *models; /* patterns; count 0: all */
    size_t model_count;
    uint64_t requests_per_minute, burst, tokens_per_minute; /* 0: no limit */
    emb_key_limits *limits;
    unsigned rights; /* emb_right, or'ed; never 0 */
    uint8_t digest[EMB_SHA256_BYTES];
    bool from_file;
};

struct emb_key_set {
    atomic_size_t references;
    emb_arena arena;
    emb_caller *callers;
    size_t count, capacity;
    bool needed; /* there are keys, or a file for them: an empty one lets nobody in rather than everybody */
};

enum { EMB_KEYS_MAX = 10000 };

/* The keys of access.api_keys and access.api_keys_file, each with limits of its own. */
EMB_MUST_CHECK emb_status emb_key_set_read(const emb_config *config, emb_key_set **out, emb_error *err);
void emb_key_set_release(emb_key_set *set); /* takes NULL */
void emb_key_limits_release(emb_key_limits *limits);

#endif
