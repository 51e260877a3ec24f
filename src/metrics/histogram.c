/*
 * Two counts of each value. The fine one has buckets that grow with the value: each power of two is cut into
 * 32 equal parts, so that a bucket's middle is at most 1/64 beside any value in it. Its index is the top bits
 * of the double itself, exponent and five of the mantissa; no logarithm, no search. Buckets hold (lower,
 * upper]: the bits are those of the next smaller double, so that whole numbers and powers of two end a
 * bucket.
 *
 * The coarse one has the bounds that Prometheus gets. It could be summed up from the fine one only roughly,
 * since 0.005 ends no fine bucket, and `le="0.005"` is to mean what it says; hence it is counted apart, for
 * one more addition.
 *
 * The total is not kept but summed up from the ladder, so that an output's `_count` always equals its `+Inf`
 * bucket. A histogram takes 13 KB. Rejected: t-digest and friends (locks, merging), a sample of recent values
 * (percentiles of the tail need many).
 */
#include "metrics/histogram.h"

#include <math.h>
#include <string.h>

static const double seconds[] = {0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001,
                                 0.0025,  0.005,    0.01,    0.025,  0.05,    0.1,    0.25,
                                 0.5,     1,        2.5,     5,      10,      30,     60};
static const double counts[] = {1,   2,    4,    8,    16,   32,    64,    128,   256,
                                512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 1048576};

enum { SECONDS = sizeof seconds / sizeof *seconds, COUNTS = sizeof counts / sizeof *counts };
_Static_assert((int)SECONDS <= EMB_LADDER_MAX && (int)COUNTS <= EMB_LADDER_MAX,
               "a ladder is longer than a histogram has room");

/* Exponent and STEPS of the mantissa are the bits from 47 up. */
enum { SHIFT = 52 - 5, FIRST = (1023 + EMB_HISTOGRAM_LOWEST) * EMB_HISTOGRAM_STEPS };
_Static_assert(1 << (52 - (int)SHIFT) == (int)EMB_HISTOGRAM_STEPS, "steps and bits of the mantissa");

const double *emb_ladder_bounds(emb_ladder ladder, size_t *count)
{
    *count = ladder == EMB_LADDER_SECONDS ? SECONDS : COUNTS;
    return ladder == EMB_LADDER_SECONDS ? seconds : counts;
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void emb_atomic_add(_Atomic uint64_t *bits, double amount)
{
    uint64_t old = atomic_load_explicit(bits, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(bits, &old, bits_of(double_of(old) + amount),
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

double emb_atomic_read(const _Atomic uint64_t *bits)
{
    return double_of(atomic_load_explicit(bits, memory_order_relaxed));
}

static size_t fine_index(double value)
{
    if (value <= 0)
        return 0;
    uint64_t top = (bits_of(value) - 1) >> SHIFT;
    if (top < FIRST)
        return 0;
    return top - FIRST < EMB_HISTOGRAM_BUCKETS - 2 ? (size_t)(top - FIRST + 1) : EMB_HISTOGRAM_BUCKETS - 1;
}

static size_t ladder_index(emb_ladder ladder, double value)
{
    size_t count, low = 0;
    const double *bounds = emb_ladder_bounds(ladder, &count);
    for (size_t high = count; low < high;) { /* the first bound >= value */
        size_t middle = (low + high) / 2;
        if (bounds[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void emb_histogram_add(emb_histogram *histogram, emb_ladder ladder, double value)
{
    if (!isfinite(value))
        return;
    if (value < 0)
        value = 0;
    atomic_fetch_add_explicit(&histogram->fine[fine_index(value)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->steps[ladder_index(ladder, value)], 1, memory_order_relaxed);
    emb_atomic_add(&histogram->sum, value);
}

uint64_t emb_histogram_count(const emb_histogram *histogram)
{
    uint64_t total = 0;
    for (size_t i = 0; i <= EMB_LADDER_MAX; i++)
        total += atomic_load_explicit(&histogram->steps[i], memory_order_relaxed);
    return total;
}

double emb_histogram_sum(const emb_histogram *histogram)
{
    return emb_atomic_read(&histogram->sum);
}

void emb_histogram_merge(const emb_histogram *histogram, uint64_t fine[EMB_HISTOGRAM_BUCKETS])
{
    for (size_t i = 0; i < EMB_HISTOGRAM_BUCKETS; i++)
        fine[i] += atomic_load_explicit(&histogram->fine[i], memory_order_relaxed);
}

/* The middle of a bucket; whole numbers up to STEPS, of which each has a bucket that ends with it, are
 * exact. */
static double middle_of(size_t index)
{
    if (index == 0)
        return 0;
    double lower = double_of((uint64_t)(FIRST + index - 1) << SHIFT);
    double upper = double_of((uint64_t)(FIRST + index) << SHIFT);
    if (index == EMB_HISTOGRAM_BUCKETS - 1)
        return lower;
    return upper >= 1 && upper <= 2 * EMB_HISTOGRAM_STEPS && upper == floor(upper) ? upper
                                                                                   : (lower + upper) / 2;
}

double emb_histogram_rank(const uint64_t fine[EMB_HISTOGRAM_BUCKETS], double q)
{
    uint64_t total = 0, seen = 0;
    for (size_t i = 0; i < EMB_HISTOGRAM_BUCKETS; i++)
        total += fine[i];
    if (total == 0)
        return 0;
    double wanted = ceil((q > 0 ? q < 1 ? q : 1 : 0) * (double)total);
    uint64_t rank = wanted < 1 ? 1 : wanted > (double)total ? total : (uint64_t)wanted;
    for (size_t i = 0; i < EMB_HISTOGRAM_BUCKETS; i++) {
        seen += fine[i];
        if (seen >= rank)
            return middle_of(i);
    }
    return 0; /* not reached: seen ends as total */
}
