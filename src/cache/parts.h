/*
 * parts.h: a cache with its parts given by a test: a store that is made to fail, a clock that is set by hand.
 *
 *     emb_cache_open_with(&options, &(emb_cache_parts){ .l2 = fake, .kind = "fake", .wall_s = my_clock }, &cache, err);
 */
#ifndef EMB_CACHE_PARTS_H
#define EMB_CACHE_PARTS_H

#include "cache/l2.h"

typedef struct emb_cache_parts {
    emb_l2 *l2; /* taken, also on failure; NULL: none, whatever the options say */
    const char *kind;
    uint64_t (*wall_s)(void); /* seconds since 1970; NULL: the system's */
} emb_cache_parts;

EMB_MUST_CHECK emb_status emb_cache_open_with(const emb_cache_options *options, const emb_cache_parts *parts,
                                              emb_cache **out, emb_error *err);
/* Lookups that wait for another call's computation at the moment. */
size_t emb_cache_waiting(emb_cache *cache);

#endif
