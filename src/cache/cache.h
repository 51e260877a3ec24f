/*
 * cache.h: vectors that were computed before: L1 in this process, L2 in a store, single flight between.
 *
 *     emb_cache_lookup l[n];                      // key, vector, dimension set by the caller for each text
 *     emb_cache_flight *flight;
 *     emb_cache_begin(cache, l, n, &policy, deadline_ns, cancel, &flight, err);
 *     while (emb_cache_next(flight, todo, &count)) {   // indexes of lookups that this caller has to compute
 *         compute the vectors of todo into l[i].vector, l[i].tokens;
 *         emb_cache_publish(flight, todo, count);      // to L1, to those who wait, and to L2 behind
 *     }                                           // emb_cache_next waits for what others compute, and hands
 *     emb_cache_end(flight, status, err);         // over what they failed to
 *
 * Keys are SHA-256 over everything that decides a vector (key.h), so an entry never has to be compared with
 * its text. Entries carry dimension, tokens and a checksum; one that does not check is a miss, is counted and
 * removed.
 *
 * L1 is sharded; a hit takes one shard's lock for the time of a copy. Policy: see l1.h. L2 is one round trip
 * for all keys of a call and is never waited for longer than its deadline; after repeated failures its
 * circuit opens and calls go on without it until a probe succeeds. What is written to L2 is queued (bounded;
 * what does not fit is dropped and counted) and written in batches by a thread of the cache; emb_cache_close
 * writes what is queued.
 *
 * Thread-safe. The caller's memory in a lookup must live until emb_cache_end.
 */
#ifndef EMB_CACHE_CACHE_H
#define EMB_CACHE_CACHE_H

#include "base/buf.h"
#include "cache/key.h"
#include "metrics/metrics.h"

typedef struct emb_cache emb_cache;
typedef struct emb_cache_flight emb_cache_flight;

typedef struct emb_cache_options {
    size_t l1_entries, l1_bytes; /* 0 entries: no L1 */
    const char
        *l2_url; /* "sqlite:PATH", "redis://…", "rediss://…", "postgresql://…"; NULL, "" or "none": no L2 */
    uint32_t l2_deadline_ms;
    size_t l2_bytes;    /* of SQLite; 0: no limit */
    size_t write_queue; /* vectors */
    bool store_text;
    emb_metrics *metrics; /* or NULL */
} emb_cache_options;

/* An L2 that cannot be reached is no error: the cache opens with L1 alone and goes on trying. A URL that
 * cannot be understood, or whose kind is not built in, is EMB_E_INVALID. */
EMB_MUST_CHECK emb_status emb_cache_open(const emb_cache_options *options, emb_cache **out, emb_error *err);
/* Writes what is queued, for at most a few seconds if L2 is slow; then releases. No call may be running. */
void emb_cache_close(emb_cache *cache);
/* Changes L1's limits, the deadline, l2_bytes and store_text while running. */
void emb_cache_adjust(emb_cache *cache, const emb_cache_options *options);
/* Waits until everything queued so far is written or dropped, or the time is up (false). */
bool emb_cache_flush(emb_cache *cache, uint64_t deadline_ns);

typedef enum emb_cache_source {
    EMB_CACHE_NONE, /* not there yet */
    EMB_CACHE_L1,
    EMB_CACHE_L2,
    EMB_CACHE_COMPUTED, /* by this caller */
    EMB_CACHE_SHARED    /* by another request, or for the same text earlier in this one */
} emb_cache_source;

typedef struct emb_cache_lookup {
    emb_cache_key key;
    float *vector; /* room for `dimension` floats; filled on a hit */
    uint32_t dimension;
    uint32_t tokens;         /* filled on a hit; set by the caller before publishing */
    emb_cache_source source; /* out */
    const char *text;        /* for store_text and "most used"; may be NULL */
    size_t text_length;
} emb_cache_lookup;

typedef struct emb_cache_policy {
    bool read;          /* false for cache-control: no-cache */
    bool write;         /* false for no-store, and for private texts: nothing of them is kept anywhere */
    bool shared;        /* false: L2 is neither asked nor written (private texts) */
    uint64_t max_age_s; /* 0: any age */
    uint64_t ttl_s;     /* of what is written; 0: for ever; jittered by up to 10 % */
    const char *model;  /* for invalidation by model and stats; borrowed for the flight */
} emb_cache_policy;

/* L1 alone, without waiting: whether every lookup was answered. On false nothing but `vector`, `tokens` and
 * `source` has changed, no hit or miss is counted, and emb_cache_begin may follow. Equal keys in one call are
 * fine. */
bool emb_cache_peek(emb_cache *cache, emb_cache_lookup *lookups, size_t count,
                    const emb_cache_policy *policy);

/* L1, joins computations that are under way, then L2 for the rest in one round trip. Duplicates within the
 * call are computed once. EMB_E_NOMEM only; a sick L2 is no error. */
EMB_MUST_CHECK emb_status emb_cache_begin(emb_cache *cache, emb_cache_lookup *lookups, size_t count,
                                          const emb_cache_policy *policy, uint64_t deadline_ns,
                                          const volatile int *cancel, emb_cache_flight **out, emb_error *err);
/* The indexes that the caller has to compute now, into todo (room for `count` of begin); false when every
 * lookup is filled, or with *status set (DEADLINE, CANCELLED, or the leader's failure) when one cannot be.
 * The first call returns those that nobody has; later ones wait for others and return what they gave up. */
bool emb_cache_next(emb_cache_flight *flight, size_t *todo, size_t *count, emb_status *status,
                    emb_error *err);
/* Vectors of these lookups are there: into L1, to everyone who waits, and queued for L2. A vector that holds
 * NaN or Inf is never kept. */
void emb_cache_publish(emb_cache_flight *flight, const size_t *done, size_t count);
/* Ends the flight. With a status other than EMB_OK those who wait for this caller's unpublished lookups get
 * that failure, except that CANCELLED and DEADLINE hand the computation to one of them instead. */
void emb_cache_end(emb_cache_flight *flight, emb_status status, const emb_error *err);

/* ---- administration ---- */

typedef struct emb_cache_tier_stats {
    uint64_t hits, misses, evictions, corrupt;
    uint64_t entries, bytes;
} emb_cache_tier_stats;

typedef struct emb_cache_stats {
    emb_cache_tier_stats l1, l2;
    const char *l2_kind; /* "sqlite", "redis", "postgresql", "none" */
    bool l2_up;
    char l2_error[256]; /* the last failure, "" if none */
    uint64_t l2_failures, l2_timeouts;
    uint64_t shared; /* answered by single flight */
    uint64_t queued, stored, dropped, write_failures;
    size_t l1_limit_entries, l1_limit_bytes;
} emb_cache_stats;

void emb_cache_get_stats(emb_cache *cache, emb_cache_stats *out);

/* What to remove: entries that match all that is set. Nothing set: everything. */
typedef struct emb_cache_filter {
    const char *model;        /* NULL: any */
    uint64_t older_than_s;    /* 0: any age */
    const emb_cache_key *key; /* NULL: any */
} emb_cache_filter;
/* From both tiers; *removed counts distinct entries of the tier that had more. EMB_E_IO if L2 could not be
 * reached: L1 is cleared all the same. */
EMB_MUST_CHECK emb_status emb_cache_remove(emb_cache *cache, const emb_cache_filter *filter,
                                           uint64_t *removed, emb_error *err);

/* The most used entries of L2, for warming: visit gets key, model, vector and text (NULL unless stored). */
typedef bool (*emb_cache_visit)(void *context, const emb_cache_key *key, const char *model,
                                const float *vector, uint32_t dimension, uint32_t tokens, const char *text,
                                size_t text_length);
EMB_MUST_CHECK emb_status emb_cache_most_used(emb_cache *cache, size_t limit, emb_cache_visit visit,
                                              void *context, emb_error *err);
/* Loads the most used entries of L2 into L1. */
EMB_MUST_CHECK emb_status emb_cache_preload(emb_cache *cache, size_t limit, uint64_t *loaded, emb_error *err);

#endif
