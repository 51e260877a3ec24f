/*
 * l1.h: vectors in this process's memory.
 *
 *     emb_l1 *l1;
 *     emb_l1_open(10000, 64 << 20, 0, &l1, err);
 *     emb_l1_put(l1, &key, &(emb_value){ vector, 384, tokens, now_s, 0 }, "all-MiniLM-L6-v2", now_s);
 *     if (emb_l1_get(l1, &key, &(emb_l1_query){ now_s, 0, EMB_L1_COUNT }, vector, 384, &tokens)) …
 *
 * Bounded by entries and by bytes; bytes are all memory it has: vectors, keys, index, allocator's overhead.
 * Times are seconds since 1970 and given by the caller. The key decides the shard, each shard has its own
 * lock, held for one copy. Thread-safe.
 */
#ifndef EMB_CACHE_L1_H
#define EMB_CACHE_L1_H

#include "cache/cache.h"
#include "cache/value.h"

typedef struct emb_l1 emb_l1;

typedef struct emb_l1_query {
    uint64_t now_s, max_age_s; /* max_age 0: any */
    enum {
        EMB_L1_LOOK,
        EMB_L1_COUNT_HIT,
        EMB_L1_COUNT
    } mode; /* counts nothing; hits, as uses too; misses as well */
} emb_l1_query;

/* shards 0: as suits the CPUs and limits; otherwise a power of two. 0 entries: an L1 that keeps nothing. */
EMB_MUST_CHECK emb_status emb_l1_open(size_t entries, size_t bytes, unsigned shards, emb_l1 **out,
                                      emb_error *err);
void emb_l1_close(emb_l1 *l1); /* takes NULL */
void emb_l1_set_limits(emb_l1 *l1, size_t entries, size_t bytes);

/* Copies the vector out. A miss if there is none, it is older than asked for, or has expired; with
 * EMB_L1_COUNT one that expired is removed, and so is one of another dimension, which is counted as
 * corrupt. */
bool emb_l1_get(emb_l1 *l1, const emb_cache_key *key, const emb_l1_query *query, float *vector,
                uint32_t dimension, uint32_t *tokens);
/* Counts a hit that emb_l1_get found without counting. */
void emb_l1_use(emb_l1 *l1, const emb_cache_key *key);
/* Keeps a copy, in place of what was under this key. Keeps nothing if memory is short or the limits are too
 * small. */
void emb_l1_put(emb_l1 *l1, const emb_cache_key *key, const emb_value *value, const char *model,
                uint64_t now_s);
/* How many were removed. */
uint64_t emb_l1_remove(emb_l1 *l1, const emb_cache_filter *filter, uint64_t now_s);
void emb_l1_get_stats(emb_l1 *l1, emb_cache_tier_stats *out);

#endif
