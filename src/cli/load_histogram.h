/*
 * load_histogram.h: latencies of a load test, fine enough for percentiles at any scale.
 *
 *     emb_load_histogram h = {0};
 *     emb_load_histogram_add(&h, ns);
 *     double p99 = emb_load_histogram_rank(&h, 0.99);   // ns
 *
 * Logarithmic buckets with 64 steps for each power of two: a percentile is at most 1/64 of itself beside the
 * truth. Plain data, one writer; merging sums. Not metrics/histogram.h, whose atomics cost where 100,000
 * requests a second are counted by one thread.
 */
#ifndef EMB_CLI_LOAD_HISTOGRAM_H
#define EMB_CLI_LOAD_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum {
    EMB_LOAD_STEPS = 64,
    EMB_LOAD_OCTAVES = 34,
    EMB_LOAD_BUCKETS = EMB_LOAD_STEPS * (EMB_LOAD_OCTAVES + 1)
};

typedef struct emb_load_histogram {
    uint64_t counts[EMB_LOAD_BUCKETS];
    uint64_t count, most, least;
    double sum;
} emb_load_histogram;

void emb_load_histogram_add(emb_load_histogram *h, uint64_t value);
void emb_load_histogram_merge(emb_load_histogram *to, const emb_load_histogram *from);
/* The value of rank ceil(q × count): the middle of its bucket, and never beyond the smallest and the largest
 * that were added. 0 without values. */
double emb_load_histogram_rank(const emb_load_histogram *h, double q);
double emb_load_histogram_mean(const emb_load_histogram *h);

#endif
