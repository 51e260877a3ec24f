/*
 * cache_traces.h: sequences of keys to judge a cache policy by, and an LRU of the same size to compare with.
 *
 *     cache_trace *t = cache_trace_make(TRACE_ZIPF, 0.9, 20000, 300000, 1);  // alpha, keys, length, seed
 *     double lru = cache_trace_lru(t, 1000);
 *     double ours = cache_trace_l1(t, 1000);        // src/cache/l1.h with that many entries
 *     cache_trace_free(t);
 */
#ifndef EMB_TESTS_CACHE_TRACES_H
#define EMB_TESTS_CACHE_TRACES_H

#include <stddef.h>
#include <stdint.h>

typedef enum cache_trace_kind {
    TRACE_ZIPF,
    /* now and then, a run of keys that never come again, as long as a third of all keys */
    TRACE_ZIPF_AND_SCANS,
    TRACE_LOOP, /* all keys in turn */
    TRACE_SHIFT /* Zipf over a set of keys that is another one after each tenth of the trace */
} cache_trace_kind;

typedef struct cache_trace {
    uint32_t *keys;
    size_t length;
} cache_trace;

cache_trace *cache_trace_make(cache_trace_kind kind, double alpha, uint32_t keys, size_t length,
                              uint64_t seed);
void cache_trace_free(cache_trace *trace);
/* Hit rates. Both exit the program if memory is short. */
double cache_trace_lru(const cache_trace *trace, size_t entries);
double cache_trace_l1(const cache_trace *trace, size_t entries);

#endif
