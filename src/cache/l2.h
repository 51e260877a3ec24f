/*
 * l2.h: what the cache needs of a store that outlives the process; one implementation per database, all
 * through the same conformance suite (tests/unit/cache/l2_conformance.h).
 *
 *     const emb_l2_kind *kind = emb_l2_find("redis://localhost");   // by the URL's scheme
 *     emb_l2 *l2; kind->open(url, &options, &l2, err);
 *     l2->ops->get_many(l2, keys, n, deadline_ns, found, context, err);
 *
 * Every operation is one round trip, keeps its deadline (on emb_now_ns's clock) whatever the database does,
 * and may be called from any thread. A failure leaves the store usable: the next call reconnects. `open` does
 * not connect. Values are opaque here: value.h packs and checks them.
 */
#ifndef EMB_CACHE_L2_H
#define EMB_CACHE_L2_H

#include "cache/cache.h"

typedef struct emb_l2 emb_l2;

typedef struct emb_l2_item {
    const emb_cache_key *key;
    const void *value; /* value.h: header, checksum, floats */
    size_t length;
    uint64_t ttl_s; /* 0: for ever */
    const char *model;
    const char *text; /* NULL unless texts are stored */
    size_t text_length;
} emb_l2_item;

/* Called for each key that was found, in any order; `value` lives until it returns. */
typedef void (*emb_l2_found)(void *context, size_t index, const void *value, size_t length);
typedef bool (*emb_l2_visit)(void *context, const emb_cache_key *key, const char *model, const void *value,
                             size_t length, const char *text, size_t text_length);

typedef struct emb_l2_ops {
    /* Counts a use of what was found, in the same round trip or later in a batch (for most_used). */
    emb_status (*get_many)(emb_l2 *l2, const emb_cache_key *const *keys, size_t count, uint64_t deadline_ns,
                           emb_l2_found found, void *context, emb_error *err);
    emb_status (*put_many)(emb_l2 *l2, const emb_l2_item *items, size_t count, uint64_t deadline_ns,
                           emb_error *err);
    emb_status (*remove)(emb_l2 *l2, const emb_cache_filter *filter, uint64_t deadline_ns, uint64_t *removed,
                         emb_error *err);
    /* entries, bytes and evictions; expired entries do not count. */
    emb_status (*stats)(emb_l2 *l2, uint64_t deadline_ns, emb_cache_tier_stats *out, emb_error *err);
    emb_status (*most_used)(emb_l2 *l2, size_t limit, uint64_t deadline_ns, emb_l2_visit visit, void *context,
                            emb_error *err);
    /* Removes what has expired and what is over the size limit, a bounded piece of work at a time; called now
     * and then by the cache's thread. NULL where the database does it. */
    emb_status (*tidy)(emb_l2 *l2, uint64_t deadline_ns, emb_error *err);
    void (*close)(emb_l2 *l2);
    /* Takes a new size limit while running; NULL where there is none. */
    void (*set_maximum)(emb_l2 *l2, size_t maximum_bytes);
} emb_l2_ops;

struct emb_l2 {
    const emb_l2_ops *ops;
};

typedef struct emb_l2_options {
    size_t maximum_bytes; /* 0: no limit */
    uint32_t connect_ms;  /* time for a connection */
} emb_l2_options;

typedef struct emb_l2_kind {
    const char *name;    /* "redis" */
    const char *schemes; /* "redis,rediss" */
    emb_status (*open)(const char *url, const emb_l2_options *options, emb_l2 **out, emb_error *err);
} emb_l2_kind;

/* NULL if no kind that was built in has the URL's scheme. */
const emb_l2_kind *emb_l2_find(const char *url);

extern const emb_l2_kind emb_l2_sqlite, emb_l2_redis, emb_l2_postgresql;

#endif
