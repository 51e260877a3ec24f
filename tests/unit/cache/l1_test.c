/* L1: limits, ages, removal, threads, short memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/l1.h"
#include "support/fail_alloc.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIMENSION = 384, NOW = 1000000 };

static emb_cache_key key_of(uint32_t n)
{
    emb_cache_key key;
    for (uint32_t i = 0; i < sizeof key.bytes; i++) /* without allocating, as OpenSSL does */
        key.bytes[i] = (uint8_t)(((uint64_t)n + 1) * 0x9E3779B97F4A7C15u * (i + 1) >> 40);
    return key;
}

static float component(uint32_t n, uint32_t i)
{
    return (float)((n * 2654435761u + i * 40503u) >> 12);
}

static emb_l1 *open_l1(size_t entries, size_t bytes, unsigned shards)
{
    emb_l1 *l1 = NULL;
    emb_error err;
    assert_int_equal(emb_l1_open(entries, bytes, shards, &l1, &err), EMB_OK);
    return l1;
}

static void put_at(emb_l1 *l1, uint32_t n, uint32_t dimension, uint64_t created_s, uint64_t expires_s,
                   const char *model, uint64_t now_s)
{
    static _Thread_local float vector[8192];
    emb_cache_key key = key_of(n);
    for (uint32_t i = 0; i < dimension; i++)
        vector[i] = component(n, i);
    emb_l1_put(l1, &key, &(emb_value){vector, dimension, n, created_s, expires_s}, model, now_s);
}

static void put(emb_l1 *l1, uint32_t n)
{
    put_at(l1, n, DIMENSION, NOW, 0, "m", NOW);
}

static bool get_at(emb_l1 *l1, uint32_t n, uint32_t dimension, uint64_t now_s, uint64_t max_age_s)
{
    static _Thread_local float vector[8192];
    emb_cache_key key = key_of(n);
    uint32_t tokens = 0;
    const emb_l1_query query = {now_s, max_age_s, EMB_L1_COUNT};
    if (!emb_l1_get(l1, &key, &query, vector, dimension, &tokens))
        return false;
    if (tokens != n)
        abort();
    for (uint32_t i = 0; i < dimension; i++)
        if (vector[i] != component(n, i))
            abort();
    return true;
}

static bool get(emb_l1 *l1, uint32_t n)
{
    return get_at(l1, n, DIMENSION, NOW, 0);
}

static emb_cache_tier_stats stats(emb_l1 *l1)
{
    emb_cache_tier_stats s;
    emb_l1_get_stats(l1, &s);
    return s;
}

static void test_round_trip(void **state)
{
    (void)state;
    emb_l1 *l1 = open_l1(1000, 64 << 20, 0);
    for (uint32_t n = 0; n < 500; n++)
        assert_false(get(l1, n));
    for (uint32_t n = 0; n < 500; n++)
        put(l1, n);
    for (uint32_t n = 0; n < 500; n++)
        assert_true(get(l1, n));
    put(l1, 3);
    assert_int_equal(stats(l1).entries, 500);
    assert_int_equal(stats(l1).hits, 500);
    assert_int_equal(stats(l1).misses, 500);
    assert_int_equal(stats(l1).evictions, 0);
    emb_l1_close(l1);
}

/* Entries held are exactly the limit once it was reached, never more. */
static void test_entry_limit(void **state)
{
    (void)state;
    static const size_t limits[] = {1, 2, 7, 100, 1000};
    for (size_t i = 0; i < 5; i++) {
        emb_l1 *l1 = open_l1(limits[i], 64 << 20, 0);
        for (uint32_t n = 0; n < 5000; n++) {
            put_at(l1, n, 4, NOW, 0, "m", NOW);
            assert_true(stats(l1).entries <= limits[i]);
        }
        emb_cache_tier_stats s = stats(l1);
        assert_int_equal(s.entries, limits[i]);
        assert_int_equal(s.evictions, 5000 - limits[i]);
        emb_l1_close(l1);
    }
}

/* The bytes that L1 counts are those that the allocator gave. */
static void test_byte_limit(void **state)
{
    (void)state;
    enum { LIMIT = 3 << 20 };
    struct mallinfo2 before = mallinfo2();
    emb_l1 *l1 = open_l1(1000000, LIMIT, 4);
    for (uint32_t n = 0; n < 4000; n++) {
        put_at(l1, n, 1 + n * 37 % 2000, NOW, 0, "m", NOW);
        assert_true(stats(l1).bytes <= LIMIT);
    }
    emb_cache_tier_stats s = stats(l1);
    assert_true(s.bytes > LIMIT * 9 / 10);
    assert_int_equal(s.entries + s.evictions, 4000);
    if (fail_alloc_available()) { /* glibc's own malloc */
        struct mallinfo2 after = mallinfo2();
        double allocated =
            (double)(after.uordblks + after.hblkhd) - (double)(before.uordblks + before.hblkhd);
        assert_true(allocated < 1.02 * (double)s.bytes && allocated > 0.98 * (double)s.bytes);
    }
    emb_l1_close(l1);
}

static void test_tiny_limits(void **state)
{
    (void)state;
    static const size_t bytes[] = {0, 1, 1000, 1500};
    for (size_t i = 0; i < 4; i++) {
        emb_l1 *l1 = open_l1(100, bytes[i], 0);
        put(l1, 1);
        assert_int_equal(stats(l1).entries, 0);
        assert_false(get(l1, 1));
        emb_l1_close(l1);
    }
    emb_l1 *none = open_l1(0, 1 << 20, 0);
    put(none, 1);
    assert_false(get(none, 1));
    assert_int_equal(stats(none).misses, 0); /* there is nothing to miss in */
    emb_l1_close(none);
    emb_l1 *l1 = open_l1(100, 64 << 10, 1); /* one vector is larger than what there is room for */
    put_at(l1, 1, DIMENSION, NOW, 0, "m", NOW);
    put_at(l1, 2, 8192, NOW, 0, "m", NOW);
    assert_true(stats(l1).bytes <= 64 << 10);
    emb_l1_close(l1);
}

static void test_limits_change(void **state)
{
    (void)state;
    emb_l1 *l1 = open_l1(1000, 64 << 20, 0);
    for (uint32_t n = 0; n < 1000; n++)
        put(l1, n);
    emb_l1_set_limits(l1, 100, 64 << 20);
    assert_int_equal(stats(l1).entries, 100);
    emb_l1_set_limits(l1, 5000, 64 << 20);
    uint32_t found = 0;
    for (uint32_t n = 0; n < 1000; n++)
        found += get(l1, n);
    assert_int_equal(found, 100);
    for (uint32_t n = 0; n < 4000; n++)
        put(l1, n);
    assert_true(stats(l1).entries >= 3900); /* a shard's share is its own */
    emb_l1_set_limits(l1, 5000, 1 << 20);
    assert_true(stats(l1).bytes <= 1 << 20);
    assert_true(stats(l1).entries > 300);
    emb_l1_set_limits(l1, 0, 64 << 20);
    assert_int_equal(stats(l1).entries, 0);
    put(l1, 1);
    assert_false(get(l1, 1));
    emb_l1_set_limits(l1, 10, 64 << 20);
    put(l1, 1);
    assert_true(get(l1, 1));
    emb_l1_close(l1);
}

static void test_age_and_expiry(void **state)
{
    (void)state;
    emb_l1 *l1 = open_l1(100, 1 << 20, 0);
    put_at(l1, 1, 4, NOW, NOW + 60, "m", NOW);
    assert_true(get_at(l1, 1, 4, NOW + 59, 0));
    assert_true(get_at(l1, 1, 4, NOW + 50, 50));
    assert_false(get_at(l1, 1, 4, NOW + 51, 50)); /* too old for this caller, and still there for others */
    assert_true(get_at(l1, 1, 4, NOW + 51, 0));
    assert_true(get_at(l1, 1, 4, NOW - 10, 1)); /* the clock was set back */
    assert_false(get_at(l1, 1, 4, NOW + 60, 0));
    assert_int_equal(stats(l1).entries, 0);
    assert_int_equal(stats(l1).evictions, 0);
    emb_l1_close(l1);
}

static void test_other_dimension_is_corrupt(void **state)
{
    (void)state;
    emb_l1 *l1 = open_l1(100, 1 << 20, 0);
    put_at(l1, 1, 4, NOW, 0, "m", NOW);
    assert_false(get_at(l1, 1, 3, NOW, 0));
    assert_int_equal(stats(l1).corrupt, 1);
    assert_false(get_at(l1, 1, 4, NOW, 0));
    emb_l1_close(l1);
}

static void test_query_without_counting(void **state)
{
    (void)state;
    emb_l1 *l1 = open_l1(100, 1 << 20, 0);
    put_at(l1, 1, 4, NOW, 0, "m", NOW);
    emb_cache_key key = key_of(1), absent = key_of(2);
    float vector[4];
    uint32_t tokens;
    const emb_l1_query query = {NOW, 0, EMB_L1_LOOK};
    assert_true(emb_l1_get(l1, &key, &query, vector, 4, &tokens));
    assert_false(emb_l1_get(l1, &absent, &query, vector, 4, &tokens));
    assert_int_equal(stats(l1).hits + stats(l1).misses, 0);
    emb_l1_use(l1, &key);
    assert_int_equal(stats(l1).hits, 1);
    emb_l1_close(l1);
}

static void test_removal(void **state)
{
    (void)state;
    emb_l1 *l1 = open_l1(1000, 16 << 20, 0);
    for (uint32_t n = 0; n < 90; n++)
        put_at(l1, n, 4, NOW - 100 * (n % 3), 0, n % 2 ? "odd" : "even", NOW);
    emb_cache_key key = key_of(1);
    assert_int_equal(emb_l1_remove(l1, &(emb_cache_filter){.key = &key, .model = "even"}, NOW), 0);
    assert_int_equal(emb_l1_remove(l1, &(emb_cache_filter){.key = &key}, NOW), 1);
    assert_int_equal(emb_l1_remove(l1, &(emb_cache_filter){.model = "odd", .older_than_s = 150}, NOW), 15);
    assert_int_equal(emb_l1_remove(l1, &(emb_cache_filter){.model = "odd"}, NOW), 29);
    assert_int_equal(emb_l1_remove(l1, &(emb_cache_filter){.older_than_s = 200}, NOW), 0);
    assert_int_equal(emb_l1_remove(l1, &(emb_cache_filter){.older_than_s = 99}, NOW), 30);
    assert_int_equal(emb_l1_remove(l1, &(emb_cache_filter){0}, NOW), 15);
    assert_int_equal(stats(l1).entries, 0);
    emb_l1_close(l1);
}

/* ---- threads ---- */

static emb_l1 *shared;
static atomic_bool failed;

static void *work(void *argument)
{
    uint32_t random = (uint32_t)(uintptr_t)argument * 7919 + 1;
    emb_cache_tier_stats s;
    for (int i = 0; i < 20000; i++) {
        random = random * 1664525 + 1013904223;
        uint32_t n = random >> 8 & 1023;
        if (i % 5000 == 4999)
            emb_l1_remove(shared, &(emb_cache_filter){.model = "m"}, NOW);
        if (i % 4000 == 3999)
            emb_l1_set_limits(shared, 300 + n % 2 * 400, 1 << 20);
        if (i % 100 == 0) {
            emb_l1_get_stats(shared, &s);
            if (s.entries > 1000)
                atomic_store(&failed, true);
        }
        if (!get_at(shared, n, 1 + n % 64, NOW, 0)) /* aborts on another's vector */
            put_at(shared, n, 1 + n % 64, NOW, 0, "m", NOW);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    shared = open_l1(500, 1 << 20, 4);
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_false(atomic_load(&failed));
    assert_int_equal(stats(shared).hits + stats(shared).misses, 4 * 20000);
    emb_l1_close(shared);
}

static void test_short_of_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    for (size_t n = 1;; n++) {
        size_t live = fail_alloc_live();
        emb_l1 *l1 = NULL;
        emb_error err;
        fail_alloc_at(n);
        emb_status st = emb_l1_open(100, 1 << 20, 1, &l1, &err);
        if (st == EMB_OK) {
            put(l1, 1);
            (void)!get(l1, 1);
            put(l1, 1);
            emb_l1_set_limits(l1, 1000, 2 << 20);
            put(l1, 2);
            (void)!get(l1, 2);
        } else {
            assert_int_equal(st, EMB_E_NOMEM);
        }
        emb_l1_close(st == EMB_OK ? l1 : NULL);
        bool any = fail_alloc_stop();
        assert_int_equal(fail_alloc_live(), live);
        if (!any)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_entry_limit),
        cmocka_unit_test(test_byte_limit),
        cmocka_unit_test(test_tiny_limits),
        cmocka_unit_test(test_limits_change),
        cmocka_unit_test(test_age_and_expiry),
        cmocka_unit_test(test_other_dimension_is_corrupt),
        cmocka_unit_test(test_query_without_counting),
        cmocka_unit_test(test_removal),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_short_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
