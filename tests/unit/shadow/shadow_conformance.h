/*
 * shadow_conformance.h: what every store of comparisons does.
 *
 *     static const shadow_subject subject = { url, reset };
 *     return shadow_conformance(&subject);
 *
 * `reset` makes the database as new.
 */
#ifndef EMB_TESTS_SHADOW_CONFORMANCE_H
#define EMB_TESTS_SHADOW_CONFORMANCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "shadow/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shadow_subject {
    const char *url;
    void (*reset)(void);
} shadow_subject;

static const shadow_subject *shadow_subject_now;
static emb_db *store;
static emb_error conformance_error;

static uint64_t soon(void)
{
    return emb_now_ns() + UINT64_C(20000000000);
}

static void ok(emb_status st)
{
    if (st != EMB_OK)
        fail_msg("%s: %s", emb_status_text(st), conformance_error.message);
}
#define OK(call) ok(emb_shadow_store_##call)
#define ERR &conformance_error

static emb_shadow_row row_of(int64_t time_s, const char *category, int cosine_hundredths)
{
    emb_shadow_row r = {.role = "query",
                        .category = category,
                        .context = "realtime",
                        .legacy_provider = "old",
                        .legacy_model = "m1",
                        .legacy_space = "s1",
                        .candidate_provider = "n\xC3\xA9w",
                        .candidate_model = "m2",
                        .candidate_space = "s2",
                        .time_s = time_s,
                        .legacy_ns = 11,
                        .candidate_ns = INT64_C(5000000000),
                        .legacy_nusd = 20,
                        .candidate_nusd = INT64_C(3000000000),
                        .legacy_dimension = 384,
                        .candidate_dimension = 1536,
                        .legacy_cached = 1};
    for (size_t i = 0; i < sizeof r.text; i++)
        r.text[i] = (unsigned char)(time_s + (int64_t)i);
    r.has_cosine = cosine_hundredths >= 0;
    r.cosine_e9 = r.has_cosine ? cosine_hundredths * INT64_C(10000000) : 0;
    return r;
}

typedef struct collected {
    emb_shadow_row rows[8];
    char categories[8][32], error[32];
    bool has_error[8];
    size_t count, limit;
} collected;

static bool collect(void *context, const emb_shadow_row *row)
{
    collected *c = context;
    assert_true(c->count < 8);
    c->rows[c->count] = *row;
    c->has_error[c->count] = row->error != NULL;
    if (row->error)
        snprintf(c->error, sizeof c->error, "%s", row->error);
    snprintf(c->categories[c->count++], 32, "%s", row->category);
    assert_string_equal(row->candidate_provider, "n\xC3\xA9w");
    assert_string_equal(row->role, "query");
    assert_string_equal(row->candidate_space, "s2");
    return c->count < c->limit;
}

static void put_three(void)
{
    emb_shadow_row rows[] = {row_of(100, "a", 90), row_of(200, "b", -1), row_of(300, "a", 40)};
    rows[1].error = "over a limit";
    OK(put(store, rows, 3, soon(), ERR));
}

static void test_rows(void **state)
{
    (void)state;
    collected c = {.limit = 8};
    put_three();
    OK(rows(store, EMB_SHADOW_NEWEST, 0, 8, soon(), collect, &c, ERR));
    assert_int_equal(c.count, 3);
    assert_int_equal(c.rows[0].time_s, 300);
    assert_int_equal(c.rows[2].time_s, 100);
    emb_shadow_row expected = row_of(300, "a", 40);
    assert_memory_equal(c.rows[0].text, expected.text, sizeof expected.text);
    assert_int_equal(c.rows[0].candidate_ns, expected.candidate_ns);
    assert_int_equal(c.rows[0].candidate_nusd, expected.candidate_nusd);
    assert_int_equal(c.rows[0].legacy_cached, 1);
    assert_int_equal(c.rows[0].candidate_cached, 0);
    assert_int_equal(c.rows[0].candidate_dimension, 1536);
    assert_true(c.rows[0].has_cosine && c.rows[0].cosine_e9 == 400000000);
    assert_false(c.rows[1].has_cosine);
    assert_true(c.has_error[1] && !c.has_error[0] && !c.has_error[2]);
    assert_string_equal(c.error, "over a limit");
    c = (collected){.limit = 8};
    OK(rows(store, EMB_SHADOW_WORST, 0, 8, soon(), collect, &c, ERR));
    assert_int_equal(c.count, 2);
    assert_int_equal(c.rows[0].cosine_e9, 400000000);
    c = (collected){.limit = 8};
    OK(rows(store, EMB_SHADOW_NEWEST, 150, 1, soon(), collect, &c, ERR));
    assert_int_equal(c.count, 1);
    c = (collected){.limit = 1}; /* the visitor has enough */
    OK(rows(store, EMB_SHADOW_NEWEST, 0, 8, soon(), collect, &c, ERR));
    assert_int_equal(c.count, 1);
    c = (collected){.limit = 8};
    OK(rows(store, EMB_SHADOW_LAST_COMPARED, 0, 8, soon(), collect, &c, ERR));
    assert_int_equal(c.count, 2);
}

static bool add_point(void *context, const emb_shadow_point *p)
{
    int64_t *sums = context;
    sums[0]++;
    sums[1] += p->has_cosine ? p->cosine_e9 : 0;
    sums[2] += p->failed;
    sums[3] += p->legacy_cached && !p->candidate_cached;
    sums[4] += p->candidate_ns;
    sums[5] += *p->category == 'a';
    return true;
}

static void test_points(void **state)
{
    (void)state;
    int64_t sums[6] = {0};
    put_three();
    OK(points(store, 0, 100, soon(), add_point, sums, ERR));
    assert_int_equal(sums[0], 3);
    assert_int_equal(sums[1], 1300000000);
    assert_int_equal(sums[2], 1);
    assert_int_equal(sums[3], 3);
    assert_int_equal(sums[4], INT64_C(15000000000));
    assert_int_equal(sums[5], 2);
}

typedef struct totals {
    emb_shadow_total list[4];
    char names[4][32];
    size_t count;
} totals;

static bool add_total(void *context, const emb_shadow_total *t)
{
    totals *all = context;
    assert_true(all->count < 4);
    snprintf(all->names[all->count], 32, "%s", t->category ? t->category : "(all)");
    all->list[all->count++] = *t;
    return true;
}

static void test_totals(void **state)
{
    (void)state;
    totals t = {0};
    put_three();
    OK(totals(store, 0, 10, soon(), add_total, &t, ERR));
    assert_int_equal(t.count, 3);
    assert_string_equal(t.names[0], "(all)");
    assert_int_equal(t.list[0].comparisons, 3);
    assert_int_equal(t.list[0].failures, 1);
    assert_int_equal(t.list[0].with_cosine, 2);
    assert_int_equal(t.list[0].legacy_nusd, 60);
    assert_int_equal(t.list[0].candidate_nusd, INT64_C(9000000000));
    assert_int_equal(t.list[0].worst_e9, 400000000);
    assert_int_equal(t.list[0].first_s, 100);
    assert_int_equal(t.list[0].last_s, 300);
    assert_string_equal(t.names[1], "a");
    assert_int_equal(t.list[1].comparisons, 2);
    assert_string_equal(t.names[2], "b");
    t = (totals){0};
    OK(totals(store, 1000, 10, soon(), add_total, &t, ERR)); /* of nothing */
    assert_int_equal(t.count, 1);
    assert_int_equal(t.list[0].comparisons, 0);
    assert_int_equal(t.list[0].last_s, 0);
}

static void test_state(void **state)
{
    (void)state;
    emb_shadow_state s = {.dropped = 5}, got;
    OK(get_state(store, soon(), &got, ERR));
    assert_int_equal(got.time_s + got.dropped, 0);
    OK(put_state(store, &s, soon(), ERR));
    s = (emb_shadow_state){.time_s = 77,
                           .window = 60,
                           .overlap_e9 = {1, 2, 3},
                           .rank_e9 = {-4, 5, 6},
                           .dropped = 2,
                           .pair = "abcdef"};
    OK(put_state(store, &s, soon(), ERR));
    OK(put_state(store, &(emb_shadow_state){.dropped = 1}, soon(), ERR)); /* leaves the window's figures */
    OK(get_state(store, soon(), &got, ERR));
    assert_int_equal(got.dropped, 8);
    assert_int_equal(got.time_s, 77);
    assert_int_equal(got.window, 60);
    assert_int_equal(got.overlap_e9[2], 3);
    assert_int_equal(got.rank_e9[0], -4);
    assert_string_equal(got.pair, "abcdef");
}

static void put_many(size_t count, int64_t first_s)
{
    emb_shadow_row *rows = malloc(count * sizeof *rows);
    assert_non_null(rows);
    for (size_t i = 0; i < count; i++)
        rows[i] = row_of(first_s + (int64_t)i, "a", 50);
    OK(put(store, rows, count, soon(), ERR));
    free(rows);
}

static size_t count_rows(int64_t *first_s)
{
    totals t = {0};
    OK(totals(store, 0, 1, soon(), add_total, &t, ERR));
    *first_s = t.list[0].first_s;
    return (size_t)t.list[0].comparisons;
}

/* In pieces, the oldest first, by age and by number. */
static void test_trim(void **state)
{
    (void)state;
    size_t removed;
    int64_t first;
    OK(trim(store, 1000, 10, soon(), &removed, ERR));
    assert_int_equal(removed, 0);
    put_many(1000, 0);
    OK(trim(store, 700, 1000000, soon(), &removed, ERR));
    assert_int_equal(removed, EMB_SHADOW_PIECE);
    OK(trim(store, 700, 1000000, soon(), &removed, ERR));
    assert_int_equal(removed, 700 - EMB_SHADOW_PIECE);
    assert_int_equal(count_rows(&first), 300);
    assert_int_equal(first, 700);
    OK(trim(store, 0, 100, soon(), &removed, ERR));
    assert_int_equal(removed, 200);
    assert_int_equal(count_rows(&first), 100);
    assert_int_equal(first, 900);
    OK(trim(store, 0, 100, soon(), &removed, ERR));
    assert_int_equal(removed, 0);
}

static void test_clear(void **state)
{
    (void)state;
    int64_t first;
    emb_shadow_state got;
    put_three();
    OK(put_state(store, &(emb_shadow_state){.dropped = 1}, soon(), ERR));
    OK(clear(store, soon(), ERR));
    assert_int_equal(count_rows(&first), 0);
    OK(get_state(store, soon(), &got, ERR));
    assert_int_equal(got.dropped, 0);
    put_three();
    assert_int_equal(count_rows(&first), 3);
}

static int open_new(void **state)
{
    (void)state;
    shadow_subject_now->reset();
    return emb_shadow_store_open(shadow_subject_now->url, &store, ERR) != EMB_OK;
}

static int close_it(void **state)
{
    (void)state;
    emb_db_close(store);
    return 0;
}

#define ON_STORE(test) cmocka_unit_test_setup_teardown(test, open_new, close_it)

static int shadow_conformance(const shadow_subject *subject)
{
    const struct CMUnitTest tests[] = {ON_STORE(test_rows),  ON_STORE(test_points), ON_STORE(test_totals),
                                       ON_STORE(test_state), ON_STORE(test_trim),   ON_STORE(test_clear)};
    shadow_subject_now = subject;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
