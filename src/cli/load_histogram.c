/* load_histogram.c: see load_histogram.h. Values below 64 have a bucket each; above, the leading seven bits
 * choose. */
#include "cli/load_histogram.h"

#include <math.h>

static size_t bucket_of(uint64_t value)
{
    if (value < EMB_LOAD_STEPS)
        return (size_t)value;
    int shift = 63 - __builtin_clzll(value) - 6; /* so that value >> shift is in 64 .. 127 */
    size_t bucket = (size_t)(shift + 1) * EMB_LOAD_STEPS + (size_t)((value >> shift) - EMB_LOAD_STEPS);
    return bucket < EMB_LOAD_BUCKETS ? bucket : EMB_LOAD_BUCKETS - 1;
}

static double middle_of(size_t bucket)
{
    if (bucket < EMB_LOAD_STEPS)
        return (double)bucket;
    int shift = (int)(bucket / EMB_LOAD_STEPS) - 1;
    return ldexp((double)(bucket % EMB_LOAD_STEPS + EMB_LOAD_STEPS) + (shift ? 0.5 : 0), shift);
}

void emb_load_histogram_add(emb_load_histogram *h, uint64_t value)
{
    h->counts[bucket_of(value)]++;
    h->least = h->count == 0 || value < h->least ? value : h->least;
    h->most = value > h->most ? value : h->most;
    h->sum += (double)value;
    h->count++;
}

void emb_load_histogram_merge(emb_load_histogram *to, const emb_load_histogram *from)
{
    if (from->count == 0)
        return;
    for (size_t i = 0; i < EMB_LOAD_BUCKETS; i++)
        to->counts[i] += from->counts[i];
    to->least = to->count == 0 || from->least < to->least ? from->least : to->least;
    to->most = from->most > to->most ? from->most : to->most;
    to->sum += from->sum;
    to->count += from->count;
}

double emb_load_histogram_rank(const emb_load_histogram *h, double q)
{
    if (h->count == 0)
        return 0;
    double wanted = ceil(q * (double)h->count);
    uint64_t rank = wanted < 1 ? 1 : (uint64_t)wanted, seen = 0;
    size_t i = 0;
    if (rank >= h->count)
        return (double)h->most;
    for (; i < EMB_LOAD_BUCKETS; i++)
        if ((seen += h->counts[i]) >= rank)
            break;
    double value = middle_of(i);
    return value < (double)h->least ? (double)h->least : value > (double)h->most ? (double)h->most : value;
}

double emb_load_histogram_mean(const emb_load_histogram *h)
{
    return h->count ? h->sum / (double)h->count : 0;
}
