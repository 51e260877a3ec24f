/*
 * l2_conformance.h: what every implementation of cache/l2.h must do, as one suite.
 *
 *     static void reset(void) { … an empty database, whatever was in it … }
 *     static const l2_subject subject = { &emb_l2_redis, "redis://127.0.0.1:7001/0", reset, .has_tidy = false };
 *     int main(void) { … start the server …; return l2_conformance(&subject); }
 *
 * l2_conformance runs all tests with cmocka and returns the number of failures. `url` may also be set by a
 * variable that main fills before the call. Faults (frozen, restarted, read-only, full) are each
 * implementation's own tests. The suite waits about three seconds in all, for entries to grow old and expire.
 */
#ifndef EMB_TESTS_L2_CONFORMANCE_H
#define EMB_TESTS_L2_CONFORMANCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cache/l2.h"
#include "cache/value.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct l2_subject {
    const emb_l2_kind *kind;
    const char *url;
    void (*reset)(void); /* empties the database, before each test */
    bool has_tidy;       /* whether ops->tidy is expected */
} l2_subject;

static const l2_subject *l2_under_test;

static inline uint64_t l2_soon(void)
{
    return emb_now_ns() + UINT64_C(10000000000);
}

/* Key number n, and the vector that belongs to it: what is found under a key can be told from everything
 * else. */
static inline emb_cache_key l2_key(unsigned n)
{
    emb_cache_key key;
    assert_true(emb_sha256(&n, sizeof n, key.bytes));
    return key;
}

static inline uint32_t l2_dimension(unsigned n)
{
    static const uint32_t dimensions[] = {384, 1, 3, 768, 4096, 8192};
    return dimensions[n % 6 && n % 50 ? 0 : n % 6];
}

static inline size_t l2_value(unsigned n, unsigned edition, unsigned char **out)
{
    emb_cache_key key = l2_key(n);
    uint32_t dimension = l2_dimension(n);
    float *vector = malloc(dimension * sizeof *vector);
    unsigned char *bytes = malloc(emb_value_size(dimension));
    assert_non_null(vector);
    assert_non_null(bytes);
    for (uint32_t i = 0; i < dimension; i++)
        vector[i] =
            (float)((int)((n * 2654435761u + edition * 97 + i * 40503u) >> 8 & 0xFFFF) - 32768) / 32768;
    emb_value value = {vector, dimension, n + edition, (uint64_t)time(NULL), 0};
    assert_true(emb_value_pack(&key, &value, bytes));
    free(vector);
    *out = bytes;
    return emb_value_size(dimension);
}

static inline emb_l2 *l2_open_with(size_t maximum_bytes)
{
    emb_l2_options options = {maximum_bytes, 2000};
    emb_l2 *l2 = NULL;
    emb_error err = {0};
    emb_status st = l2_under_test->kind->open(l2_under_test->url, &options, &l2, &err);
    if (st != EMB_OK)
        fail_msg("open: %s", err.message);
    return l2;
}

static inline emb_l2 *l2_open(void)
{
    return l2_open_with(0);
}

static inline void l2_check(emb_status st, const emb_error *err, const char *what)
{
    if (st != EMB_OK)
        fail_msg("%s: %s", what, err->message);
}

/* Puts keys first … first + count - 1 in one call. */
static inline void l2_put(emb_l2 *l2, unsigned first, unsigned count, unsigned edition, uint64_t ttl_s,
                          const char *model)
{
    emb_cache_key *keys = calloc(count + 1, sizeof *keys);
    emb_l2_item *items = calloc(count + 1, sizeof *items);
    assert_non_null(keys);
    assert_non_null(items);
    for (unsigned i = 0; i < count; i++) {
        unsigned char *bytes;
        keys[i] = l2_key(first + i);
        size_t length = l2_value(first + i, edition, &bytes);
        items[i] = (emb_l2_item){&keys[i], bytes, length, ttl_s, model, NULL, 0};
    }
    emb_error err = {0};
    emb_status st = l2->ops->put_many(l2, items, count, l2_soon(), &err);
    for (unsigned i = 0; i < count; i++)
        free((void *)items[i].value);
    free(items);
    free(keys);
    l2_check(st, &err, "put_many");
}

typedef struct l2_got {
    unsigned first, edition, found;
    unsigned char seen[4096];
    bool wrong;
} l2_got;

static inline void l2_on_found(void *context, size_t index, const void *value, size_t length)
{
    l2_got *got = context;
    unsigned char *expected;
    size_t n = l2_value(got->first + (unsigned)index, got->edition, &expected);
    /* created (offset 16) and the checksum depend on the second of the put */
    if (index >= sizeof got->seen || got->seen[index]++ || n != length || memcmp(value, expected, 16) != 0 ||
        memcmp((const char *)value + EMB_VALUE_HEADER, expected + EMB_VALUE_HEADER, n - EMB_VALUE_HEADER) !=
            0)
        got->wrong = true;
    free(expected);
    got->found++;
}

/* How many of keys first … are there; each has to be the given edition. */
static inline unsigned l2_get_seen(emb_l2 *l2, unsigned first, unsigned count, unsigned edition, l2_got *got)
{
    emb_cache_key *keys = calloc(count + 1, sizeof *keys);
    const emb_cache_key **pointers = calloc(count + 1, sizeof *pointers);
    assert_non_null(keys);
    assert_non_null(pointers);
    for (unsigned i = 0; i < count; i++) {
        keys[i] = l2_key(first + i);
        pointers[i] = &keys[i];
    }
    memset(got, 0, sizeof *got);
    got->first = first;
    got->edition = edition;
    emb_error err = {0};
    emb_status st = l2->ops->get_many(l2, pointers, count, l2_soon(), l2_on_found, got, &err);
    free(pointers);
    free(keys);
    l2_check(st, &err, "get_many");
    if (got->wrong)
        fail_msg("get_many answered with another value, or an index twice");
    return got->found;
}

static inline unsigned l2_get(emb_l2 *l2, unsigned first, unsigned count, unsigned edition)
{
    l2_got got;
    return l2_get_seen(l2, first, count, edition, &got);
}

static inline uint64_t l2_remove(emb_l2 *l2, const emb_cache_filter *filter)
{
    uint64_t removed = UINT64_MAX;
    emb_error err = {0};
    l2_check(l2->ops->remove(l2, filter, l2_soon(), &removed, &err), &err, "remove");
    return removed;
}

static inline emb_cache_tier_stats l2_stats(emb_l2 *l2)
{
    emb_cache_tier_stats stats = {0};
    emb_error err = {0};
    l2_check(l2->ops->stats(l2, l2_soon(), &stats, &err), &err, "stats");
    return stats;
}

/* ---- the tests ---- */

static void l2_test_empty(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    assert_int_equal(l2_get(l2, 0, 20, 0), 0);
    assert_int_equal(l2_get(l2, 0, 0, 0), 0);
    l2_put(l2, 0, 0, 0, 0, "m");
    assert_int_equal(l2_stats(l2).entries, 0);
    assert_int_equal(l2_remove(l2, &(emb_cache_filter){0}), 0);
    l2->ops->close(l2);
}

static void l2_test_round_trip(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    l2_put(l2, 0, 300, 1, 0, "m");
    l2_put(l2, 1000, 1, 1, 3600, "m");
    assert_int_equal(l2_get(l2, 0, 300, 1), 300);
    assert_int_equal(l2_get(l2, 1000, 1, 1), 1);
    l2_got got; /* some are there, some are not: indexes have to be those asked for */
    assert_int_equal(l2_get_seen(l2, 200, 200, 1, &got), 100);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(got.seen[i], i < 100);
    l2->ops->close(l2);
}

static void l2_test_overwrite(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    l2_put(l2, 0, 50, 1, 0, "m");
    l2_put(l2, 0, 50, 2, 0, "m");
    assert_int_equal(l2_get(l2, 0, 50, 2), 50);
    assert_int_equal(l2_stats(l2).entries, 50);
    l2->ops->close(l2);
}

typedef struct l2_twice {
    unsigned char *value;
    size_t length;
    unsigned seen[3];
    bool wrong;
} l2_twice;

static inline void l2_on_twice(void *context, size_t index, const void *value, size_t length)
{
    l2_twice *t = context;
    if (index >= 3 || length != t->length ||
        memcmp((const char *)value + EMB_VALUE_HEADER, t->value + EMB_VALUE_HEADER,
               length - EMB_VALUE_HEADER) != 0)
        t->wrong = true;
    else
        t->seen[index]++;
}

static void l2_test_same_key_twice(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    l2_put(l2, 7, 1, 0, 0, "m");
    emb_cache_key there = l2_key(7), absent = l2_key(8);
    const emb_cache_key *keys[] = {&there, &absent, &there};
    l2_twice t = {0};
    t.length = l2_value(7, 0, &t.value);
    emb_error err = {0};
    l2_check(l2->ops->get_many(l2, keys, 3, l2_soon(), l2_on_twice, &t, &err), &err, "get_many");
    assert_false(t.wrong);
    assert_int_equal(t.seen[0], 1);
    assert_int_equal(t.seen[1], 0);
    assert_int_equal(t.seen[2], 1);
    free(t.value);
    l2->ops->close(l2);
}

/* Names that mean something to SQL, LIKE, Redis globs and URLs. */
static const char *const l2_models[] = {
    "all-MiniLM-L6-v2", "BAAI/bge-m3", "a'b", "a\"b\\c", "a%", "a_", "*", "[a]",
    "mod\xC3\xA8le",    "a b:c",       ""};
enum { L2_MODELS = sizeof l2_models / sizeof *l2_models };

static void l2_test_remove_by_model(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    for (unsigned m = 0; m < L2_MODELS; m++)
        l2_put(l2, 100 * m, 5 + m, 0, 0, l2_models[m]);
    for (unsigned m = 0; m < L2_MODELS; m++) {
        emb_cache_filter filter = {.model = l2_models[m]};
        assert_int_equal(l2_remove(l2, &filter), 5 + m);
        assert_int_equal(l2_remove(l2, &filter), 0);
        for (unsigned other = 0; other < L2_MODELS; other++)
            assert_int_equal(l2_get(l2, 100 * other, 5 + other, 0), other > m ? 5 + other : 0);
    }
    l2->ops->close(l2);
}

static void l2_test_remove_by_key(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    l2_put(l2, 0, 10, 0, 0, "m");
    emb_cache_key key = l2_key(3), absent = l2_key(99);
    assert_int_equal(l2_remove(l2, &(emb_cache_filter){.key = &absent}), 0);
    assert_int_equal(l2_remove(l2, &(emb_cache_filter){.key = &key, .model = "other"}), 0);
    assert_int_equal(l2_get(l2, 0, 10, 0), 10);
    assert_int_equal(l2_remove(l2, &(emb_cache_filter){.key = &key, .model = "m"}), 1);
    assert_int_equal(l2_get(l2, 3, 1, 0), 0);
    assert_int_equal(l2_get(l2, 0, 10, 0), 9);
    l2->ops->close(l2);
}

static void l2_test_remove_all(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    l2_put(l2, 0, 1200, 0, 0, "m");
    l2_put(l2, 2000, 1200, 0, 3600, "n");
    assert_int_equal(l2_remove(l2, &(emb_cache_filter){0}), 2400);
    assert_int_equal(l2_get(l2, 0, 1200, 0), 0);
    assert_int_equal(l2_stats(l2).entries, 0);
    l2_put(l2, 0, 3, 0, 0, "m");
    assert_int_equal(l2_get(l2, 0, 3, 0), 3);
    l2->ops->close(l2);
}

static void l2_test_expiry_and_age(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    l2_put(l2, 0, 5, 0, 1, "short");
    l2_put(l2, 100, 5, 0, 3600, "long");
    l2_put(l2, 200, 5, 0, 0, "ever");
    assert_int_equal(l2_get(l2, 100, 5, 0), 5);
    uint64_t start = emb_now_ns(); /* ages are in whole seconds: 2.1 s make an age above 1 */
    while (emb_now_ns() < start + UINT64_C(2100000000))
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    assert_int_equal(l2_get(l2, 0, 5, 0), 0);
    assert_int_equal(l2_get(l2, 100, 5, 0), 5);
    assert_int_equal(l2_get(l2, 200, 5, 0), 5);
    assert_int_equal(l2_stats(l2).entries, 10);
    assert_int_equal(l2->ops->tidy != NULL, l2_under_test->has_tidy);
    emb_error err = {0};
    if (l2->ops->tidy)
        l2_check(l2->ops->tidy(l2, l2_soon(), &err), &err, "tidy");
    l2_put(l2, 300, 4, 0, 0, "ever");
    assert_int_equal(l2_remove(l2, &(emb_cache_filter){.older_than_s = 1, .model = "ever"}), 5);
    assert_int_equal(l2_get(l2, 300, 4, 0), 4);
    assert_int_equal(l2_get(l2, 100, 5, 0), 5);
    assert_int_equal(l2_remove(l2, &(emb_cache_filter){.older_than_s = 3000}), 0);
    assert_int_equal(l2_remove(l2, &(emb_cache_filter){.older_than_s = 1}), 5);
    assert_int_equal(l2_get(l2, 300, 4, 0), 4);
    /* what expired and is written again is there again, and a later put without a time limit lifts it */
    l2_put(l2, 0, 5, 3, 0, "short");
    assert_int_equal(l2_get(l2, 0, 5, 3), 5);
    l2->ops->close(l2);
}

static void l2_test_stats(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    l2_put(l2, 1, 40, 0, 0, "m");
    emb_cache_tier_stats stats = l2_stats(l2);
    assert_int_equal(stats.entries, 40);
    assert_true(stats.bytes >= 40 * 384 * 4);
    l2->ops->close(l2);
}

typedef struct l2_visited {
    unsigned count, stop_after;
    unsigned numbers[64];
    char text[64][32];
    bool wrong;
} l2_visited;

static inline bool l2_on_visit(void *context, const emb_cache_key *key, const char *model, const void *value,
                               size_t length, const char *text, size_t text_length)
{
    l2_visited *v = context;
    uint32_t dimension = emb_value_dimension(value, length);
    float vector[8192];
    emb_value unpacked;
    if (v->count >= 64 || !dimension || strcmp(model, "model'x") != 0 || text_length >= sizeof v->text[0] ||
        emb_value_unpack(key, value, length, &unpacked, vector, dimension) != EMB_OK) {
        v->wrong = true;
        return false;
    }
    v->numbers[v->count] = unpacked.tokens;
    if (text)
        memcpy(v->text[v->count], text, text_length);
    v->count++;
    return v->count != v->stop_after;
}

static void l2_test_most_used(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    for (unsigned i = 0; i < 10; i++) {
        emb_cache_key key = l2_key(i);
        unsigned char *value;
        size_t length = l2_value(i, 0, &value);
        const char text[] = "it's\0a text";
        emb_l2_item item = {
            &key, value, length, 0, "model'x", i == 4 ? text : NULL, i == 4 ? sizeof text - 1 : 0};
        emb_error err = {0};
        l2_check(l2->ops->put_many(l2, &item, 1, l2_soon(), &err), &err, "put_many");
        free(value);
    }
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(l2_get(l2, 4, 1, 0), 1);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(l2_get(l2, 7, 1, 0), 1);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(l2_get(l2, 1, 2, 0), 2);
    emb_error err = {0};
    l2_visited v = {0};
    l2_check(l2->ops->most_used(l2, 3, l2_soon(), l2_on_visit, &v, &err), &err, "most_used");
    assert_false(v.wrong);
    assert_int_equal(v.count, 3);
    assert_int_equal(v.numbers[0], 4);
    assert_int_equal(v.numbers[1], 7);
    assert_true(v.numbers[2] == 1 || v.numbers[2] == 2);
    assert_memory_equal(v.text[0], "it's\0a text", 11);
    assert_int_equal(v.text[1][0], 0);
    l2_visited two = {.stop_after = 2};
    l2_check(l2->ops->most_used(l2, 50, l2_soon(), l2_on_visit, &two, &err), &err, "most_used");
    assert_false(two.wrong);
    assert_int_equal(two.count, 2);
    l2->ops->close(l2);
}

static void l2_test_reopened(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    l2_put(l2, 0, 100, 5, 0, "m");
    l2->ops->close(l2);
    l2 = l2_open();
    assert_int_equal(l2_get(l2, 0, 100, 5), 100);
    l2->ops->close(l2);
}

static void l2_test_two_handles(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *a = l2_open(), *b = l2_open();
    l2_put(a, 0, 20, 0, 0, "m");
    assert_int_equal(l2_get(b, 0, 20, 0), 20);
    l2_put(b, 0, 20, 1, 0, "m");
    assert_int_equal(l2_get(a, 0, 20, 1), 20);
    assert_int_equal(l2_remove(b, &(emb_cache_filter){.model = "m"}), 20);
    assert_int_equal(l2_get(a, 0, 20, 1), 0);
    a->ops->close(a);
    b->ops->close(b);
}

static inline void l2_ignore(void *context, size_t index, const void *value, size_t length)
{
    (void)context, (void)index, (void)value, (void)length;
}

static void l2_test_deadline_passed(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    l2_put(l2, 0, 20, 0, 0, "m");
    emb_cache_key key = l2_key(0);
    const emb_cache_key *keys[] = {&key};
    uint64_t removed;
    emb_cache_tier_stats stats;
    emb_error err = {0};
    uint64_t start = emb_now_ns();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(l2->ops->get_many(l2, keys, 1, start - 1, l2_ignore, NULL, &err), EMB_E_DEADLINE);
        assert_true(err.message[0]);
        assert_int_equal(l2->ops->put_many(l2, NULL, 0, start - 1, &err), EMB_OK); /* nothing to do is done */
        assert_int_equal(l2->ops->remove(l2, &(emb_cache_filter){0}, start - 1, &removed, &err),
                         EMB_E_DEADLINE);
        assert_int_equal(l2->ops->stats(l2, start - 1, &stats, &err), EMB_E_DEADLINE);
    }
    assert_true(emb_now_ns() - start < UINT64_C(10000000000));
    assert_int_equal(l2_get(l2, 0, 20, 0), 20); /* still usable, and nothing was removed */
    l2->ops->close(l2);
}

typedef struct l2_worker {
    emb_l2 *l2;
    unsigned first;
    pthread_t thread;
    const char *failure;
} l2_worker;

/* cmocka's assertions belong to the main thread: a worker reports. */
static inline void *l2_work(void *argument)
{
    l2_worker *w = argument;
    for (unsigned round = 0; round < 20 && !w->failure; round++) {
        emb_cache_key keys[8];
        const emb_cache_key *pointers[8];
        emb_l2_item items[8];
        for (unsigned i = 0; i < 8; i++) {
            unsigned n = w->first + (round * 8 + i) % 40;
            unsigned char *bytes;
            keys[i] = l2_key(n);
            pointers[i] = &keys[i];
            size_t length = l2_value(n, 0, &bytes);
            items[i] = (emb_l2_item){&keys[i], bytes, length, 0, "m", NULL, 0};
        }
        emb_error err;
        if (w->l2->ops->put_many(w->l2, items, 8, l2_soon(), &err) != EMB_OK)
            w->failure = "put_many";
        for (unsigned i = 0; i < 8; i++)
            free((void *)items[i].value);
        l2_got *got = calloc(1, sizeof *got);
        got->first = w->first + round * 8 % 40;
        if (w->l2->ops->get_many(w->l2, pointers, 8, l2_soon(), l2_on_found, got, &err) != EMB_OK)
            w->failure = "get_many";
        else if (got->wrong || got->found != 8)
            w->failure = "values";
        free(got);
    }
    return NULL;
}

static void l2_test_threads(void **state)
{
    (void)state;
    l2_under_test->reset();
    emb_l2 *l2 = l2_open();
    l2_worker workers[6];
    for (unsigned i = 0; i < 6; i++) {
        workers[i] = (l2_worker){l2, i / 2 * 40, 0, NULL}; /* two on each range */
        assert_int_equal(pthread_create(&workers[i].thread, NULL, l2_work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 6; i++)
        pthread_join(workers[i].thread, NULL);
    for (unsigned i = 0; i < 6; i++)
        if (workers[i].failure)
            fail_msg("thread %u: %s", i, workers[i].failure);
    assert_int_equal(l2_get(l2, 0, 120, 0), 120);
    l2->ops->close(l2);
}

static inline int l2_conformance(const l2_subject *subject)
{
    l2_under_test = subject;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(l2_test_empty),           cmocka_unit_test(l2_test_round_trip),
        cmocka_unit_test(l2_test_overwrite),       cmocka_unit_test(l2_test_same_key_twice),
        cmocka_unit_test(l2_test_remove_by_model), cmocka_unit_test(l2_test_remove_by_key),
        cmocka_unit_test(l2_test_remove_all),      cmocka_unit_test(l2_test_expiry_and_age),
        cmocka_unit_test(l2_test_stats),           cmocka_unit_test(l2_test_most_used),
        cmocka_unit_test(l2_test_reopened),        cmocka_unit_test(l2_test_two_handles),
        cmocka_unit_test(l2_test_deadline_passed), cmocka_unit_test(l2_test_threads),
    };
    return cmocka_run_group_tests_name(subject->kind->name, tests, NULL, NULL);
}

#endif
