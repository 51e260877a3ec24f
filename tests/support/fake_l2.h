/*
 * fake_l2.h: a store in memory that does wrong what a test tells it to.
 *
 *     fake_l2 *fake = fake_l2_make();
 *     emb_cache_open_with(&options, &(emb_cache_parts){ .l2 = &fake->base, .kind = "fake" }, &cache, &err);
 *     atomic_store(&fake->mode, FAKE_L2_HANGS);
 *
 * It keeps what it holds when it is closed; fake_l2_free releases it. Thread-safe.
 */
#ifndef EMB_TESTS_FAKE_L2_H
#define EMB_TESTS_FAKE_L2_H

#include "cache/l2.h"

#include <pthread.h>
#include <stdatomic.h>

typedef enum fake_l2_mode {
    FAKE_L2_WORKS,
    FAKE_L2_FAILS,          /* EMB_E_IO at once */
    FAKE_L2_HANGS,          /* until the deadline */
    FAKE_L2_SLOW,           /* 3 ms, then it works */
    FAKE_L2_READ_ONLY,      /* writes fail with EMB_E_IO */
    FAKE_L2_REFUSES_ODD,    /* EMB_E_INVALID for batches with an item of an odd number of tokens */
    FAKE_L2_FLIPS_BITS,     /* every value it answers has a bit flipped */
    FAKE_L2_GARBAGE,        /* answers random bytes of random lengths */
    FAKE_L2_WRONG_VALUES,   /* answers each key with another's value */
    FAKE_L2_HALF_SIZE,      /* answers a whole value of half the dimension */
    FAKE_L2_TWICE,          /* answers everything twice, and indexes that were not asked for */
    FAKE_L2_HALF_THEN_FAILS /* answers some, then EMB_E_IO */
} fake_l2_mode;

typedef struct fake_l2 {
    emb_l2 base;
    _Atomic fake_l2_mode mode;
    atomic_uint gets, keys, puts, items, removes, tidies, longest_ms, maximum;
    pthread_mutex_t lock;
    void *entries;
    size_t count;
} fake_l2;

fake_l2 *fake_l2_make(void);
void fake_l2_free(fake_l2 *fake);
/* Whether it holds a value under the key, with this text (NULL: any or none). */
bool fake_l2_holds(fake_l2 *fake, const emb_cache_key *key, const char *text);

#endif
