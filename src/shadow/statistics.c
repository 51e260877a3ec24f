/*
 * statistics.c: means with their intervals, shares with theirs, and rank correlation.
 *
 * Means: the bootstrap, since cosines are bounded and skewed, crowded just under 1, where a symmetric
 * interval would reach beyond 1. Each value already is the difference of a pair (of one text's two vectors),
 * so resampling values resamples pairs. The plain percentile interval is too narrow for few values: it lacks
 * the factor n/(n-1) and Student's t. Its quantiles are moved outward by just these two ("expanded
 * percentile", Hesterberg 2015); tests/unit/shadow simulates the coverage. Rejected: the bootstrap-t, which
 * is as well covered but leaves the range of the data, and BCa, which costs a jackknife and is no better for
 * means.
 *
 * From MANY values on the interval is that of the normal distribution, which the bootstrap only approximates
 * then; so a report over a hundred thousand rows takes no longer than one over MANY. Cost below: count ×
 * rounds random draws, some 2 ns each.
 *
 * Shares: Wilson's score interval, which is right at 0 and at 1. Everything is deterministic by its seed.
 */
#include "shadow/shadow.h"

#include <math.h>
#include <stdlib.h>

#define Z 1.959963984540054 /* 97.5 % of the normal distribution */

enum { MANY = 4096, ROUNDS_MAX = 20000 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double mean_of(const double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i];
    return sum / (double)count;
}

/* ---- the bootstrap ---- */

/* Student's t at 97.5 % by the expansion around the normal distribution (Abramowitz and Stegun 26.7.5). */
static double student(double freedom)
{
    const double z = Z, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z, v = freedom;
    return z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v);
}

/* splitmix64: one multiplication chain a draw, and any seed is a good one. */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* A draw gives two indexes: count is below 2^32, and so is the error of either. */
static double resampled_mean(const double *values, size_t count, uint64_t *state)
{
    double sum = 0;
    size_t i = 0;
    for (; i + 2 <= count; i += 2) {
        uint64_t bits = draw(state);
        sum += values[(bits >> 32) * count >> 32] + values[(bits & UINT32_MAX) * count >> 32];
    }
    if (i < count)
        sum += values[(draw(state) >> 32) * count >> 32];
    return sum / (double)count;
}

static double quantile_of(const double *sorted, size_t count, double q)
{
    double at = q * (double)(count - 1);
    size_t low = (size_t)at, high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (sorted[high] - sorted[low]) * (at - (double)low);
}

static emb_shadow_interval normal_interval(const double *values, size_t count, double mean)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    double n = (double)count, half = student(n - 1) * sqrt(squares / (n - 1) / n);
    return (emb_shadow_interval){mean, mean - half, mean + half};
}

emb_shadow_interval emb_bootstrap_mean(const double *values, size_t count, unsigned rounds, uint64_t seed)
{
    if (count == 0)
        return (emb_shadow_interval){0, 0, 0};
    double mean = mean_of(values, count), *means = NULL;
    if (count == 1) /* says nothing of the spread */
        return (emb_shadow_interval){mean, mean, mean};
    size_t n = rounds < 100 ? 100 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    if (count < MANY)
        means = malloc(n * sizeof *means);
    if (!means)
        return normal_interval(values, count, mean);
    for (size_t i = 0; i < n; i++)
        means[i] = resampled_mean(values, count, &seed);
    qsort(means, n, sizeof *means, by_value);
    double freedom = (double)count - 1, out = student(freedom) * sqrt((double)count / freedom);
    double tail = erfc(out / sqrt(2)) / 2;
    emb_shadow_interval i = {mean, quantile_of(means, n, tail), quantile_of(means, n, 1 - tail)};
    free(means);
    return i;
}

/* ---- shares ---- */

emb_shadow_interval emb_wilson(uint64_t successes, uint64_t trials)
{
    if (trials == 0)
        return (emb_shadow_interval){0, 0, 1};
    double n = (double)trials, p = (double)(successes < trials ? successes : trials) / n;
    double scale = 1 + Z * Z / n, centre = (p + Z * Z / (2 * n)) / scale;
    double half = Z * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / scale;
    double low = p > 0 ? centre - half : 0,
           high = p < 1 ? centre + half : 1; /* exact where rounding is not */
    return (emb_shadow_interval){p, low < 0 ? 0 : low, high > 1 ? 1 : high};
}

/* ---- ranks ---- */

typedef struct ranked {
    double value;
    size_t index;
} ranked;

static int by_ranked(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

/* Equal values share the mean of their ranks. */
static void rank(const double *values, size_t count, ranked *scratch, double *out)
{
    for (size_t i = 0; i < count; i++)
        scratch[i] = (ranked){values[i], i};
    qsort(scratch, count, sizeof *scratch, by_ranked);
    for (size_t from = 0, to; from < count; from = to) {
        for (to = from + 1; to < count && scratch[to].value == scratch[from].value; to++)
            ;
        for (size_t i = from; i < to; i++)
            out[scratch[i].index] = (double)(from + to - 1) / 2;
    }
}

static double pearson(const double *a, const double *b, size_t count)
{
    double ma = mean_of(a, count), mb = mean_of(b, count), ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < count; i++) {
        ab += (a[i] - ma) * (b[i] - mb);
        aa += (a[i] - ma) * (a[i] - ma);
        bb += (b[i] - mb) * (b[i] - mb);
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : NAN;
}

/* NaN: fewer than two, all of one side equal, or no memory. */
double emb_spearman(const double *a, const double *b, size_t count)
{
    double correlation = NAN;
    if (count < 2 || count > SIZE_MAX / (sizeof(ranked) + 2 * sizeof(double)))
        return NAN;
    ranked *scratch = malloc(count * sizeof *scratch);
    double *ranks = malloc(2 * count * sizeof *ranks);
    if (scratch && ranks) {
        rank(a, count, scratch, ranks);
        rank(b, count, scratch, ranks + count);
        correlation = pearson(ranks, ranks + count, count);
    }
    free(ranks);
    free(scratch);
    return correlation;
}
