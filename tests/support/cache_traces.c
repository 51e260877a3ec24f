/* Zipf by inversion of the cumulative distribution; LRU with a list and a table over the small integers that
 * keys are. */
#include "support/cache_traces.h"

#include "cache/l1.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *get(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p)
        exit(1);
    return p;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static double *zipf_table(double alpha, uint32_t keys)
{
    double *table = get(keys, sizeof *table), sum = 0;
    for (uint32_t i = 0; i < keys; i++)
        table[i] = sum += pow(i + 1, -alpha);
    for (uint32_t i = 0; i < keys; i++)
        table[i] /= sum;
    return table;
}

static uint32_t zipf_draw(const double *table, uint32_t keys, uint64_t *state)
{
    double u = (double)(next_random(state) >> 11) / 9007199254740992.0;
    uint32_t low = 0, high = keys - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (table[middle] < u)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

cache_trace *cache_trace_make(cache_trace_kind kind, double alpha, uint32_t keys, size_t length,
                              uint64_t seed)
{
    cache_trace *t = get(1, sizeof *t);
    t->keys = get(length, sizeof *t->keys);
    t->length = length;
    double *table = zipf_table(alpha, keys);
    uint32_t fresh = 10 * keys; /* above every key that the others draw */
    size_t scan = keys / 3, scan_left = 0;
    for (size_t i = 0; i < length; i++) {
        if (kind == TRACE_ZIPF_AND_SCANS && !scan_left && i % (4 * scan) == 4 * scan - 1)
            scan_left = scan;
        if (kind == TRACE_LOOP) {
            t->keys[i] = (uint32_t)(i % keys);
        } else if (scan_left) {
            t->keys[i] = fresh++;
            scan_left--;
        } else {
            t->keys[i] = zipf_draw(table, keys, &seed);
            if (kind == TRACE_SHIFT)
                t->keys[i] += (uint32_t)(i / (length / 10 + 1)) * keys;
        }
    }
    free(table);
    return t;
}

void cache_trace_free(cache_trace *trace)
{
    free(trace->keys);
    free(trace);
}

static uint32_t highest(const cache_trace *t)
{
    uint32_t top = 0;
    for (size_t i = 0; i < t->length; i++)
        if (t->keys[i] > top)
            top = t->keys[i];
    return top;
}

double cache_trace_lru(const cache_trace *t, size_t entries)
{
    /* a ring through node 0; node k + 1 is key k */
    size_t nodes = (size_t)highest(t) + 2, held = 0, hits = 0;
    uint32_t *next = get(nodes, sizeof *next), *prev = get(nodes, sizeof *prev);
    unsigned char *in = get(nodes, 1);
    for (size_t i = 0; i < t->length; i++) {
        uint32_t n = t->keys[i] + 1;
        hits += in[n];
        if (!in[n] && held == entries) {
            uint32_t last = prev[0];
            next[prev[last]] = 0;
            prev[0] = prev[last];
            in[last] = 0;
            held--;
        }
        if (in[n]) {
            next[prev[n]] = next[n];
            prev[next[n]] = prev[n];
        } else {
            in[n] = 1;
            held++;
        }
        next[n] = next[0];
        prev[n] = 0;
        prev[next[0]] = n;
        next[0] = n;
    }
    free(next);
    free(prev);
    free(in);
    return (double)hits / (double)t->length;
}

double cache_trace_l1(const cache_trace *t, size_t entries)
{
    emb_l1 *l1;
    emb_error err;
    size_t hits = 0;
    const emb_l1_query query = {1000, 0, EMB_L1_COUNT};
    if (emb_l1_open(entries, (size_t)1 << 30, 0, &l1, &err) != EMB_OK)
        exit(1);
    for (size_t i = 0; i < t->length; i++) {
        emb_cache_key key;
        uint64_t state = t->keys[i];
        for (int j = 0; j < 4; j++) {
            uint64_t word = next_random(&state);
            memcpy(key.bytes + 8 * j, &word, 8);
        }
        float vector = (float)t->keys[i], found = -1;
        uint32_t tokens;
        if (emb_l1_get(l1, &key, &query, &found, 1, &tokens)) {
            if (found != vector)
                exit(1);
            hits++;
        } else {
            emb_l1_put(l1, &key, &(emb_value){&vector, 1, 1, 1000, 0}, "m", 1000);
        }
    }
    emb_l1_close(l1);
    return (double)hits / (double)t->length;
}
