/*
 * ledger_conformance.h: what a ledger does whatever its store: sums, reports, days of zones, projection,
 * batches that count once. unit/ledger/ledger_sqlite_test.c runs it on SQLite,
 * tests/ledger/ledger_postgresql_conformance.c on PostgreSQL.
 */
#ifndef EMB_TESTS_LEDGER_CONFORMANCE_H
#define EMB_TESTS_LEDGER_CONFORMANCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "ledger/parts.h"

typedef struct ledger_subject {
    const char *url;
    void (*reset)(void); /* empties the store; no ledger is open */
} ledger_subject;

static const ledger_subject *ledger_of;
static _Atomic int64_t ledger_clock;

static inline int64_t ledger_now(void)
{
    return atomic_load(&ledger_clock);
}

/* Unix time of "2026-11-27 13:05" UTC. */
static inline int64_t ledger_time(const char *text)
{
    int hour = 0, minute = 0;
    int32_t day;
    char date[11] = "";
    memcpy(date, text, 10);
    assert_true(emb_day_parse(date, &day));
    if (text[10])
        sscanf(text + 10, "%d:%d", &hour, &minute);
    return (int64_t)day * 86400 + hour * 3600 + minute * 60;
}

static inline void ledger_at(const char *text)
{
    atomic_store(&ledger_clock, ledger_time(text));
}

static inline uint64_t ledger_soon(void)
{
    return emb_now_ns() + UINT64_C(30000000000);
}

static inline emb_ledger *ledger_open(const char *zone)
{
    emb_ledger *l;
    emb_error err = {0};
    const emb_ledger_options o = {.timezone = zone, .now_s = ledger_now};
    if (emb_ledger_open(ledger_of->url, &o, &l, &err) != EMB_OK)
        fail_msg("%s", err.message);
    return l;
}

static inline emb_ledger *ledger_fresh(const char *zone)
{
    ledger_of->reset();
    return ledger_open(zone);
}

static inline void ledger_spend(emb_ledger *l, const char *when, uint64_t nusd)
{
    ledger_at(when);
    emb_ledger_add(l, &(emb_ledger_entry){.kind = EMB_LEDGER_API,
                                          .provider = "openai",
                                          .model = "m",
                                          .calls = 1,
                                          .texts = 1,
                                          .tokens = 10,
                                          .nusd = nusd});
}

static emb_arena ledger_arena;

static inline emb_ledger_report ledger_report(emb_ledger *l, const emb_ledger_query *q)
{
    emb_ledger_report r;
    emb_error err = {0};
    emb_arena_reset(&ledger_arena, 0);
    if (emb_ledger_make_report(l, q, &ledger_arena, &r, &err) != EMB_OK)
        fail_msg("%s", err.message);
    return r;
}

/* The rows as "name/name=nusd ". */
static inline void ledger_expect(emb_ledger *l, const emb_ledger_query *q, const char *expected)
{
    char text[2048] = "";
    size_t at = 0;
    emb_ledger_report r = ledger_report(l, q);
    for (size_t i = 0; i < r.count && at < sizeof text - 200; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s%s%s=%llu", i ? " " : "", r.rows[i].name[0],
                               r.rows[i].name[1][0] ? "/" : "", r.rows[i].name[1],
                               (unsigned long long)r.rows[i].nusd);
    assert_string_equal(text, expected);
}

static inline void ledger_add_mixture(emb_ledger *l)
{
    ledger_at("2026-11-26 10:00");
    emb_ledger_add(l, &(emb_ledger_entry){EMB_LEDGER_API, "openai", "small", "search", "faq", "default", 1, 3,
                                          42, 840, 0});
    emb_ledger_add(l, &(emb_ledger_entry){EMB_LEDGER_API, "openai", "large", "search", "docs", "analysis", 1,
                                          2, 30, 4000, 0});
    emb_ledger_add(l, &(emb_ledger_entry){EMB_LEDGER_CACHE, "openai", "small", "search", "faq", "default", 1,
                                          5, 70, 0, 1400});
    ledger_at("2026-11-27 09:30");
    emb_ledger_add(l, &(emb_ledger_entry){EMB_LEDGER_API, "cohere", "english", "bot", "faq", "default", 2, 9,
                                          100, 100, 0});
    emb_ledger_add(l, &(emb_ledger_entry){EMB_LEDGER_LOCAL, "local", "minilm", NULL, NULL, "sensitive", 1, 4,
                                          50, 0, 1000});
    emb_ledger_add(l, &(emb_ledger_entry){EMB_LEDGER_SHADOW, "voyage", "v3", "search", "faq", "default", 1, 1,
                                          10, 77, 0});
}

static inline void ledger_test_dimensions(void **state)
{
    (void)state;
    emb_ledger *l = ledger_fresh("UTC");
    ledger_add_mixture(l);
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY}}, "2026-11-26=4840 2026-11-27=100");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_WEEK}}, "2026-W48=4940");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_MONTH}}, "2026-11=4940");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_CATEGORY}}, "docs=4000 faq=940 =0");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_MODEL}}, "large=4000 small=840 english=100 minilm=0");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_PROVIDER}}, "openai=4840 cohere=100 local=0");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_KEY}}, "search=4840 bot=100 =0");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_CONTEXT}}, "analysis=4000 default=940 sensitive=0");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_KIND}}, "api=4940 cache=0 local=0");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_KIND}, .with_shadow = true},
                  "api=4940 shadow=77 cache=0 local=0");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY, EMB_BY_CATEGORY}},
                  "2026-11-26/docs=4000 2026-11-26/faq=840 2026-11-27/faq=100 2026-11-27=0");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_CATEGORY, EMB_BY_DAY}},
                  "docs/2026-11-26=4000 faq/2026-11-26=840 faq/2026-11-27=100 /2026-11-27=0");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_PROVIDER, EMB_BY_MODEL}},
                  "openai/large=4000 openai/small=840 cohere/english=100 local/minilm=0");
    emb_ledger_close(l);
}

static inline void ledger_test_totals_and_filters(void **state)
{
    (void)state;
    emb_ledger *l = ledger_fresh("UTC");
    ledger_add_mixture(l);
    emb_ledger_report r = ledger_report(l, &(emb_ledger_query){.by = {EMB_BY_TOTAL}});
    assert_string_equal(r.from, "2026-11-26");
    assert_string_equal(r.to, "2026-11-27");
    assert_int_equal(r.count, 0);
    assert_int_equal(r.total.calls, 6);
    assert_int_equal(r.total.texts, 23);
    assert_int_equal(r.total.cached_texts, 5);
    assert_int_equal(r.total.local_texts, 4);
    assert_int_equal(r.total.tokens, 292);
    assert_int_equal(r.total.nusd, 4940);
    assert_int_equal(r.total.saved_cache_nusd, 1400);
    assert_int_equal(r.total.saved_local_nusd, 1000);
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_MODEL}, .provider = "openai"}, "large=4000 small=840");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_MODEL}, .model = "small"}, "small=840");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_MODEL}, .key = "bot"}, "english=100");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_MODEL}, .category = "faq", .key = "search"},
                  "small=840");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_MODEL}, .category = ""}, "minilm=0");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY}, .from = "2026-11-27"}, "2026-11-27=100");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY}, .from = "today", .to = "today"},
                  "2026-11-27=100");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY}, .to = "2026-11-26"}, "2026-11-26=4840");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY}, .from = "2030-01-01", .to = "2030-12-31"}, "");
    emb_ledger_close(l);
}

static inline void ledger_test_refuses(void **state)
{
    (void)state;
    static const struct {
        emb_ledger_query q;
        const char *where;
    } cases[] = {{{.from = "2026-02-30"}, "from"},
                 {{.to = "yesterday"}, "to"},
                 {{.from = "2026-11-02", .to = "2026-11-01"}, "from"},
                 {{.by = {EMB_BY_DAY, EMB_BY_DAY}}, "by"},
                 {{.by = {(emb_ledger_by)99}}, "by"}};
    emb_ledger *l = ledger_fresh("UTC");
    ledger_at("2026-11-27 12:00");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_ledger_report r;
        emb_error err = {0};
        assert_int_equal(emb_ledger_make_report(l, &cases[i].q, &ledger_arena, &r, &err), EMB_E_INVALID);
        assert_string_equal(err.where, cases[i].where);
    }
    emb_ledger_report r = ledger_report(l, &(emb_ledger_query){.by = {EMB_BY_DAY}}); /* nothing there yet */
    assert_int_equal(r.count, 0);
    assert_string_equal(r.from, "2026-11-27");
    emb_ledger_close(l);
}

/* Days of a zone: 23 and 25 hours, on both sides of midnight; weeks and years that do not end together. */
static inline void ledger_test_zones(void **state)
{
    (void)state;
    emb_ledger *l = ledger_fresh("Europe/Berlin");
    ledger_spend(l, "2026-03-28 22:59", 1);   /* 23:59 on the 28th */
    ledger_spend(l, "2026-03-28 23:00", 10);  /* 00:00 on the 29th */
    ledger_spend(l, "2026-03-29 21:59", 100); /* 23:59, in summer time */
    ledger_spend(l, "2026-03-29 22:00", 1000);
    ledger_spend(l, "2026-10-24 21:59", 2);
    ledger_spend(l, "2026-10-24 22:00", 20);
    ledger_spend(l, "2026-10-25 22:59", 200); /* 23:59 of a day of 25 hours */
    ledger_spend(l, "2026-10-25 23:00", 2000);
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY}},
                  "2026-03-28=1 2026-03-29=110 2026-03-30=1000 2026-10-24=2 2026-10-25=220 2026-10-26=2000");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY}, .from = "2026-03-29", .to = "2026-03-29"},
                  "2026-03-29=110");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_MONTH}}, "2026-03=1111 2026-10=2222");
    ledger_spend(l, "2026-12-27 12:00", 1);
    ledger_spend(l, "2026-12-28 12:00", 10);
    ledger_spend(l, "2026-12-31 23:30", 100); /* 2027 in Berlin */
    ledger_spend(l, "2027-01-03 12:00", 1000);
    ledger_spend(l, "2027-01-04 12:00", 10000);
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_WEEK}, .from = "2026-12-01"},
                  "2026-W52=1 2026-W53=1110 2027-W01=10000");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_MONTH}, .from = "2026-12-01"},
                  "2026-12=11 2027-01=11100");
    ledger_spend(l, "2024-12-30 12:00", 5); /* a Monday of the week with the next year's first Thursday */
    ledger_at("2027-01-05");
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_WEEK}, .to = "2025-01-01"}, "2025-W01=5");
    emb_ledger_close(l);
}

typedef struct ledger_crowd {
    emb_ledger *ledger;
    int number;
} ledger_crowd;
enum { LEDGER_THREADS = 8, LEDGER_ADDS = 40000 };

static inline void *ledger_add_many(void *argument)
{
    static const char *const categories[] = {"a", "b", "c"};
    ledger_crowd *c = argument;
    char key[16];
    snprintf(key, sizeof key, "key%d", c->number % 3);
    for (int i = 0; i < LEDGER_ADDS; i++)
        emb_ledger_add(c->ledger, &(emb_ledger_entry){.kind = i % 10 ? EMB_LEDGER_CACHE : EMB_LEDGER_API,
                                                      .provider = "p",
                                                      .key = key,
                                                      .category = categories[i / 100 % 3],
                                                      .calls = 1,
                                                      .texts = 2,
                                                      .tokens = 3,
                                                      .nusd = i % 10 ? 0 : 7,
                                                      .saved_nusd = i % 10 ? 5 : 0});
    return NULL;
}

static inline void ledger_test_threads(void **state)
{
    (void)state;
    pthread_t threads[LEDGER_THREADS];
    ledger_crowd crowd[LEDGER_THREADS];
    ledger_at("2026-11-27 12:00");
    emb_ledger *l = ledger_fresh("UTC");
    for (int i = 0; i < LEDGER_THREADS; i++) {
        crowd[i] = (ledger_crowd){l, i};
        assert_int_equal(pthread_create(&threads[i], NULL, ledger_add_many, &crowd[i]), 0);
    }
    for (int i = 0; i < 50; i++)
        assert_true(emb_ledger_flush(l, ledger_soon())); /* in the midst of it */
    for (int i = 0; i < LEDGER_THREADS; i++)
        pthread_join(threads[i], NULL);
    emb_ledger_report r = ledger_report(l, &(emb_ledger_query){.by = {EMB_BY_KEY, EMB_BY_CATEGORY}});
    const uint64_t all = (uint64_t)LEDGER_THREADS * LEDGER_ADDS;
    assert_int_equal(r.count, 9);
    assert_int_equal(r.total.calls, all);
    assert_int_equal(r.total.texts, 2 * all);
    assert_int_equal(r.total.tokens, 3 * all);
    assert_int_equal(r.total.nusd, 7 * all / 10);
    assert_int_equal(r.total.saved_cache_nusd, 5 * all / 10 * 9);
    assert_int_equal(emb_ledger_month_nusd(l), 7 * all / 10);
    emb_ledger_close(l);
}

static inline void ledger_test_saturates(void **state)
{
    (void)state;
    emb_ledger *l = ledger_fresh("UTC");
    ledger_spend(l, "2026-11-27 12:00", UINT64_MAX);
    ledger_spend(l, "2026-11-27 12:00", 5);
    assert_true(emb_ledger_flush(l, ledger_soon()));
    ledger_spend(l, "2026-11-27 12:00", UINT64_C(1) << 62); /* added to the row in the store */
    ledger_spend(l, "2026-11-27 12:01", UINT64_C(1) << 62);
    emb_ledger_report r = ledger_report(l, &(emb_ledger_query){.by = {EMB_BY_DAY}});
    assert_true(r.total.nusd == INT64_MAX);
    assert_true(r.rows[0].nusd == INT64_MAX);
    assert_int_equal(r.total.calls, 4);
    assert_true(emb_ledger_month_nusd(l) == INT64_MAX);
    emb_ledger_close(l);
}

/* A batch that is given again, because its answer was lost, counts once. */
static inline void ledger_test_batch_twice(void **state)
{
    (void)state;
    emb_ledger_store *store;
    emb_error err = {0};
    emb_ledger *l = ledger_fresh("UTC");
    ledger_spend(l, "2026-11-27 12:00", 3); /* another writer's */
    assert_true(emb_ledger_flush(l, ledger_soon()));
    assert_int_equal(emb_ledger_store_open(ledger_of->url, false, &store, &err), EMB_OK);
    emb_ledger_id id = {.minute_s = ledger_now(), .names = {"openai", "m", "", "", ""}, .lengths = {6, 1}};
    emb_ledger_row *row = emb_ledger_row_make(&id, 0);
    assert_non_null(row);
    row->amounts.nusd = 100;
    emb_ledger_batch batch = {.writer = "me", .sequence = 1, .now_s = ledger_now(), .rows = &row, .count = 1};
    for (int i = 0; i < 3; i++)
        assert_int_equal(store->ops->write(store, &batch, ledger_soon(), &err), EMB_OK);
    batch.sequence = 2;
    for (int i = 0; i < 2; i++)
        assert_int_equal(store->ops->write(store, &batch, ledger_soon(), &err), EMB_OK);
    free(row);
    store->ops->close(store);
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_PROVIDER}}, "openai=203");
    emb_ledger_close(l);
}

static inline void ledger_test_many_names(void **state)
{
    (void)state;
    enum { NAMES = EMB_LEDGER_DISTINCT + 500 };
    emb_ledger *l = ledger_fresh("UTC");
    ledger_at("2026-11-27 12:00");
    for (int i = 0; i < NAMES; i++) {
        char name[32];
        snprintf(name, sizeof name, "category %d", i);
        emb_ledger_add(l,
                       &(emb_ledger_entry){.kind = EMB_LEDGER_API, .category = name, .calls = 1, .nusd = 1});
    }
    emb_ledger_report r = ledger_report(l, &(emb_ledger_query){.by = {EMB_BY_CATEGORY}});
    assert_int_equal(r.total.calls, NAMES);
    assert_int_equal(r.count, EMB_LEDGER_DISTINCT + 1);
    assert_string_equal(r.rows[0].name[0], "other");
    assert_int_equal(r.rows[0].calls, 500);
    emb_ledger_close(l);
}

/* Long ones are cut before a whole character; what is no UTF-8 does not hold up the rest. */
static inline void ledger_test_odd_names(void **state)
{
    (void)state;
    char name[200];
    emb_ledger *l = ledger_fresh("UTC");
    ledger_at("2026-11-27 12:00");
    memset(name, 'x', sizeof name);
    memcpy(name + 126, "\xE2\x82\xAC\xE2\x82\xAC", 7); /* euro signs, at 126 and 129 */
    emb_ledger_add(l, &(emb_ledger_entry){.kind = EMB_LEDGER_API, .category = name, .calls = 1, .nusd = 100});
    emb_ledger_add(
        l, &(emb_ledger_entry){.kind = EMB_LEDGER_API, .category = "a\xFF\xC3", .calls = 1, .nusd = 10});
    emb_ledger_add(
        l, &(emb_ledger_entry){.kind = EMB_LEDGER_API, .category = "\xC3\xBC'\"\\", .calls = 1, .nusd = 1});
    emb_ledger_report r = ledger_report(l, &(emb_ledger_query){.by = {EMB_BY_CATEGORY}});
    assert_int_equal(r.count, 3);
    assert_int_equal(strlen(r.rows[0].name[0]), 126);
    assert_string_equal(r.rows[1].name[0], "a?"
                                           "?");
    assert_string_equal(r.rows[2].name[0], "\xC3\xBC'\"\\");
    emb_ledger_close(l);
}

/* 28 days of 100 on working days and nothing at weekends: the rest of November 2026 from Friday the 20th
 * on. */
static inline void ledger_test_projection(void **state)
{
    (void)state;
    emb_ledger_projection p;
    emb_error err;
    emb_ledger *l = ledger_fresh("Europe/Berlin");
    for (int64_t t = ledger_time("2026-10-01 11:00"), end = ledger_time("2026-11-20 00:00"); t < end;
         t += 86400) {
        atomic_store(&ledger_clock, t);
        if ((t / 86400 + 3) % 7 < 5)
            emb_ledger_add(
                l, &(emb_ledger_entry){.kind = EMB_LEDGER_API, .provider = "p", .calls = 1, .nusd = 100});
        emb_ledger_add(
            l, &(emb_ledger_entry){.kind = EMB_LEDGER_SHADOW, .provider = "s", .calls = 1, .nusd = 9999});
        emb_ledger_add(
            l, &(emb_ledger_entry){.kind = EMB_LEDGER_CACHE, .provider = "p", .calls = 1, .saved_nusd = 555});
    }
    ledger_spend(l, "2026-11-20 08:00", 30);
    assert_int_equal(emb_ledger_project(l, &p, &err), EMB_OK);
    assert_string_equal(p.month, "2026-11");
    assert_int_equal(p.spent_nusd, 14 * 100 + 30);
    assert_int_equal(p.days_left, 10);
    assert_int_equal(p.days_of_history, 28);
    /* 70 more today, then 23 to 27 and Monday the 30th */
    assert_int_equal(p.projected_nusd, 1430 + 70 + 600);
    assert_int_equal(p.low_nusd, p.projected_nusd); /* every day was as its weekday */
    assert_int_equal(p.high_nusd, p.projected_nusd);
    emb_ledger_close(l);
    l = ledger_open("Europe/Berlin");
    assert_true(emb_ledger_flush(l, ledger_soon()));
    assert_int_equal(emb_ledger_month_nusd(l), 14 * 100 + 30);
    emb_ledger_close(l);
}

static inline void ledger_test_projection_spread(void **state)
{
    (void)state;
    emb_ledger_projection p;
    emb_error err;
    emb_ledger *l = ledger_fresh("UTC");
    ledger_at("2026-11-20 12:00");
    assert_int_equal(emb_ledger_project(l, &p, &err), EMB_OK); /* of nothing */
    assert_int_equal(p.projected_nusd, 0);
    assert_int_equal(p.high_nusd, 0);
    assert_int_equal(p.days_of_history, 0);
    ledger_spend(l, "2026-11-20 08:00", 100);
    ledger_at("2026-11-20 12:00");
    assert_int_equal(emb_ledger_project(l, &p, &err), EMB_OK); /* one unfinished day */
    assert_int_equal(p.projected_nusd, 1100);
    assert_true(p.low_nusd < 1100 && p.low_nusd >= 100 && p.high_nusd > 1100);
    for (int week = 0; week < 4; week++) /* 50 and 150 by turns, the mean 100 on every weekday */
        for (int day = 0; day < 7; day++) {
            atomic_store(&ledger_clock, ledger_time("2026-10-23 12:00") + (week * 7 + day) * 86400);
            emb_ledger_add(l, &(emb_ledger_entry){
                                  .kind = EMB_LEDGER_API, .calls = 1, .nusd = (week + day) % 2 ? 150 : 50});
        }
    ledger_at("2026-11-20 12:00");
    assert_int_equal(emb_ledger_project(l, &p, &err), EMB_OK);
    assert_int_equal(p.days_of_history, 28);
    assert_int_equal(p.projected_nusd, p.spent_nusd + 10 * 100);
    /* variance of a day 28 * 2500 / 21; ten days, with means of four: 1 or 2 of each weekday */
    uint64_t spread = p.high_nusd - p.projected_nusd;
    assert_true(spread >= 274 && spread <= 278);
    assert_int_equal(p.projected_nusd - p.low_nusd, spread);
    emb_ledger_close(l);
}

/* What was flushed is there for others and for later. */
static inline void ledger_test_kept(void **state)
{
    (void)state;
    emb_ledger *l = ledger_fresh("UTC"), *other;
    ledger_spend(l, "2026-11-27 12:00", 5);
    assert_true(emb_ledger_flush(l, ledger_soon()));
    assert_true(emb_ledger_is_up(l));
    other = ledger_open("UTC");
    ledger_spend(other, "2026-11-27 12:00", 6);
    ledger_expect(other, &(emb_ledger_query){.by = {EMB_BY_DAY}}, "2026-11-27=11");
    emb_ledger_close(other);
    ledger_spend(l, "2026-11-27 12:00", 1);
    emb_ledger_close(l); /* writes the rest */
    emb_error err = {0};
    const emb_ledger_options reader = {.now_s = ledger_now, .read_only = true};
    assert_int_equal(emb_ledger_open(ledger_of->url, &reader, &l, &err), EMB_OK);
    ledger_spend(l, "2026-11-27 12:00", 1000); /* is no writer */
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY}}, "2026-11-27=12");
    assert_int_equal(emb_ledger_month_nusd(l), 12);
    emb_ledger_close(l);
    ledger_of->reset();
    assert_int_equal(emb_ledger_open(ledger_of->url, &reader, &l, &err), EMB_E_NOT_FOUND);
}

#include "unit/ledger/ledger_compaction.h"

static inline int ledger_conformance(const ledger_subject *subject)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ledger_test_dimensions),
        cmocka_unit_test(ledger_test_totals_and_filters),
        cmocka_unit_test(ledger_test_refuses),
        cmocka_unit_test(ledger_test_zones),
        cmocka_unit_test(ledger_test_threads),
        cmocka_unit_test(ledger_test_saturates),
        cmocka_unit_test(ledger_test_batch_twice),
        cmocka_unit_test(ledger_test_many_names),
        cmocka_unit_test(ledger_test_odd_names),
        cmocka_unit_test(ledger_test_projection),
        cmocka_unit_test(ledger_test_projection_spread),
        cmocka_unit_test(ledger_test_kept),
        LEDGER_COMPACTION_TESTS,
    };
    ledger_of = subject;
    emb_arena_init(&ledger_arena);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emb_arena_fini(&ledger_arena);
    return failed;
}

#endif
