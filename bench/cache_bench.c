/*
 * The cache in memory: time of a hit and of a put, with one and two threads, and hit rates beside an LRU's.
 *
 *     cmake --build build --target cache_bench && build/cache_bench
 */
#include "base/clock.h"
#include "cache/cache.h"
#include "cache/value.h"
#include "support/cache_traces.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIMENSION = 384, ENTRIES = 20000, ROUNDS = 400000 };

static emb_cache *cache;
static emb_cache_key keys[ENTRIES];
static float vectors[ENTRIES][DIMENSION];

typedef struct reader {
    pthread_t thread;
    unsigned spread; /* over how many keys */
    uint64_t random, cpu_ns;
} reader;

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *hit(void *argument)
{
    reader *r = argument;
    static _Thread_local float vector[DIMENSION];
    const emb_cache_policy policy = {.read = true, .write = true};
    size_t missed = 0;
    uint64_t start = cpu_ns();
    for (unsigned i = 0; i < ROUNDS; i++) {
        r->random ^= r->random << 13;
        r->random ^= r->random >> 7;
        r->random ^= r->random << 17;
        emb_cache_lookup l = {.key = keys[r->random % r->spread], .vector = vector, .dimension = DIMENSION};
        missed += !emb_cache_peek(cache, &l, 1, &policy);
    }
    r->cpu_ns = cpu_ns() - start;
    if (missed)
        printf("  (%zu of %d were missed)\n", missed, ROUNDS);
    return NULL;
}

static void measure_hits(unsigned threads, unsigned spread)
{
    reader readers[8];
    uint64_t best = UINT64_MAX, best_cpu = UINT64_MAX;
    for (int repeat = 0; repeat < 5; repeat++) {
        uint64_t start = emb_now_ns(), cpu = 0;
        for (unsigned i = 0; i < threads; i++) {
            readers[i] = (reader){.spread = spread, .random = 88172645463325252u + i * 7919};
            if (pthread_create(&readers[i].thread, NULL, hit, &readers[i]) != 0)
                exit(1);
        }
        for (unsigned i = 0; i < threads; i++) {
            pthread_join(readers[i].thread, NULL);
            cpu += readers[i].cpu_ns / threads;
        }
        uint64_t took = emb_now_ns() - start;
        best = took < best ? took : best;
        best_cpu = cpu < best_cpu ? cpu : best_cpu;
    }
    printf("hit among %5u vectors, %u thread%s: %4.0f ns of CPU, %.1f million a second together\n", spread,
           threads, threads == 1 ? " " : "s", (double)best_cpu / ROUNDS,
           (double)ROUNDS * threads * 1e3 / (double)best);
}

static void measure_copy(void)
{
    static float out[DIMENSION];
    uint64_t start = emb_now_ns(), random = 1;
    for (unsigned i = 0; i < ROUNDS; i++) {
        random = random * 6364136223846793005u + 1;
        memcpy(out, vectors[(random >> 33) % ENTRIES], sizeof out);
        __asm__ volatile("" : : "r"(out) : "memory");
    }
    printf("for comparison, copying %d floats from as many places: %.0f ns\n", DIMENSION,
           (double)(emb_now_ns() - start) / ROUNDS);
}

static void fill(void)
{
    emb_cache_lookup *l = calloc(ENTRIES, sizeof *l);
    size_t *todo = calloc(ENTRIES, sizeof *todo), n;
    const emb_cache_policy policy = {.read = true, .write = true, .model = "m"};
    emb_cache_flight *flight;
    emb_status st;
    emb_error err;
    for (uint32_t i = 0; i < ENTRIES; i++) {
        if (!emb_sha256(&i, sizeof i, keys[i].bytes))
            exit(1);
        for (int j = 0; j < DIMENSION; j++)
            vectors[i][j] = (float)(i + j);
        l[i] = (emb_cache_lookup){.key = keys[i], .vector = vectors[i], .dimension = DIMENSION};
    }
    uint64_t start = emb_now_ns();
    if (emb_cache_begin(cache, l, ENTRIES, &policy, 0, NULL, &flight, &err) != EMB_OK)
        exit(1);
    uint64_t middle = emb_now_ns();
    while (emb_cache_next(flight, todo, &n, &st, &err))
        emb_cache_publish(flight, todo, n);
    emb_cache_end(flight, EMB_OK, NULL);
    printf("miss in one call of %d: %.0f ns a text; keeping it: %.0f ns\n", ENTRIES,
           (double)(middle - start) / ENTRIES, (double)(emb_now_ns() - middle) / ENTRIES);
    free(l);
    free(todo);
}

static void rates(const char *name, cache_trace_kind kind, double alpha)
{
    static const size_t sizes[] = {100, 1000, 4000};
    cache_trace *t = cache_trace_make(kind, alpha, 20000, 300000, 7);
    printf("%-22s", name);
    for (int i = 0; i < 3; i++)
        printf("  %6.2f %6.2f", 100 * cache_trace_lru(t, sizes[i]), 100 * cache_trace_l1(t, sizes[i]));
    printf("\n");
    cache_trace_free(t);
}

int main(void)
{
    const emb_cache_options options = {.l1_entries = 2 * ENTRIES, .l1_bytes = (size_t)256 << 20};
    emb_error err;
    if (emb_cache_open(&options, &cache, &err) != EMB_OK)
        return 1;
    fill();
    measure_copy();
    for (unsigned threads = 1; threads <= 2; threads++) {
        measure_hits(threads, 1000);
        measure_hits(threads, ENTRIES);
    }
    emb_cache_close(cache);
    printf("\nhit rate in %% over 20,000 keys, LRU and ours, with 100, 1,000 and 4,000 entries\n");
    rates("zipf 0.6", TRACE_ZIPF, 0.6);
    rates("zipf 0.8", TRACE_ZIPF, 0.8);
    rates("zipf 1.0", TRACE_ZIPF, 1.0);
    rates("zipf 1.2", TRACE_ZIPF, 1.2);
    rates("zipf 0.8 with scans", TRACE_ZIPF_AND_SCANS, 0.8);
    rates("loop", TRACE_LOOP, 0);
    rates("zipf 0.8, moving set", TRACE_SHIFT, 0.8);
    return 0;
}
