/*
 * cache_world.h: keys and the vectors that belong to them, and a caller that uses a cache as the service
 * does.
 *
 *     world_call call = { .cache = cache, .policy = WORLD_POLICY };
 *     emb_status st = world_embed(&call, numbers, n, &err);   // call.computed, call.wrong, call.sources[i]
 *
 * Key number n has a vector that no other key has, so that any mix-up shows. Safe in threads (no assertions
 * of cmocka).
 */
#ifndef EMB_TESTS_CACHE_WORLD_H
#define EMB_TESTS_CACHE_WORLD_H

#include "cache/cache.h"

enum { WORLD_MAX = 256, WORLD_LONGEST = 64 };
#define WORLD_POLICY                                                  \
    {                                                                 \
        .read = true, .write = true, .shared = true, .model = "model" \
    }

typedef struct world_call {
    emb_cache *cache;
    emb_cache_policy policy;
    uint64_t deadline_ns;
    const volatile int *cancel;
    unsigned compute_us;    /* how long a computation takes */
    emb_status fail;        /* the computation fails with it */
    void (*before)(void *); /* called before computing, when set */
    void *context;
    /* out */
    unsigned computed, rounds; /* vectors; how often emb_cache_next gave work */
    bool wrong;                /* a vector that is not its key's */
    emb_cache_source sources[WORLD_MAX];
} world_call;

emb_cache_key world_key(unsigned n);
uint32_t world_dimension(unsigned n);
void world_vector(unsigned n, float *out);
bool world_is(unsigned n, const float *vector);
/* begin, next, compute, publish, end: at most WORLD_MAX texts, equal numbers being equal texts. */
emb_status world_embed(world_call *call, const unsigned *numbers, size_t count, emb_error *err);

#endif
