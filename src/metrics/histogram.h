/*
 * histogram.h: counts of observed values, fine enough for percentiles. Internal to metrics/.
 *
 *     emb_histogram *h = calloc(1, sizeof *h);      // all zero is an empty one
 *     emb_histogram_add(h, EMB_LADDER_SECONDS, 0.0042);
 *     uint64_t fine[EMB_HISTOGRAM_BUCKETS] = { 0 };
 *     emb_histogram_merge(h, fine);
 *     double p95 = emb_histogram_rank(fine, 0.95);
 *
 * Thread-safe without locks; a reader that comes between two writers' steps sees an observation in one of the
 * counts and not yet in another.
 */
#ifndef EMB_METRICS_HISTOGRAM_H
#define EMB_METRICS_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EMB_HISTOGRAM_STEPS = 32,   /* buckets from a power of two to the next */
    EMB_HISTOGRAM_LOWEST = -24, /* 2^-24 s are 60 ns */
    EMB_HISTOGRAM_HIGHEST = 24, /* 2^24 s are half a year */
    EMB_HISTOGRAM_BUCKETS = (EMB_HISTOGRAM_HIGHEST - EMB_HISTOGRAM_LOWEST) * EMB_HISTOGRAM_STEPS + 2,
    EMB_LADDER_MAX = 24
};

typedef enum emb_ladder { EMB_LADDER_SECONDS, EMB_LADDER_COUNTS } emb_ladder;

typedef struct emb_histogram {
    _Atomic uint64_t fine[EMB_HISTOGRAM_BUCKETS];
    _Atomic uint64_t steps[EMB_LADDER_MAX + 1]; /* of the ladder that is printed; the last is over its top */
    _Atomic uint64_t sum;                       /* bits of a double */
} emb_histogram;

/* The `le` bounds of a ladder, ascending. */
const double *emb_ladder_bounds(emb_ladder ladder, size_t *count);

/* Values under 0 count as 0; NaN and infinities are ignored. */
void emb_histogram_add(emb_histogram *histogram, emb_ladder ladder, double value);
uint64_t emb_histogram_count(const emb_histogram *histogram);
double emb_histogram_sum(const emb_histogram *histogram);
/* Adds its fine counts to those of the caller. */
void emb_histogram_merge(const emb_histogram *histogram, uint64_t fine[EMB_HISTOGRAM_BUCKETS]);
/* The value of rank ceil(q × count), at most 1/32 of itself beside it; 0 without observations. */
double emb_histogram_rank(const uint64_t fine[EMB_HISTOGRAM_BUCKETS], double q);

/* A double behind atomic bits: *bits += amount. */
void emb_atomic_add(_Atomic uint64_t *bits, double amount);
double emb_atomic_read(const _Atomic uint64_t *bits);

#endif
