/* Budgets in memory and in SQLite; days, clocks, files that are something else, and what a reserve costs. */
#include "unit/router/budget_conformance.h"

#include "store/sqlite.h"

#include <unistd.h>

static char folder[64], sqlite_url[128];

static int use_memory(void **state)
{
    (void)state;
    budget_url = "memory:";
    return 0;
}

static int use_sqlite(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/embedd-budget-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(sqlite_url, sizeof sqlite_url, "sqlite:%s/state.db", folder);
    budget_url = sqlite_url;
    return 0;
}

static int drop_sqlite(void **state)
{
    char path[160];
    (void)state;
    static const char *const ENDS[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/state.db%s", folder, ENDS[i]);
        unlink(path);
    }
    return rmdir(folder);
}

/* ---- time ---- */

static _Atomic int64_t test_now;

static int64_t test_clock(void)
{
    return test_now;
}

static void days_turn_in_the_zone(void **state)
{
    (void)state;
    emb_budget *b;
    emb_budget_options o = {
        .timezone = "Europe/Berlin", .now_s = test_clock, .command_ms = 20000, .reservation_s = 600};
    emb_budget_ticket t, u;
    uint64_t left;
    test_now = 1774738800 - 60; /* a minute before 2026-03-29 in Berlin, which has 23 hours */
    emb_status st = emb_budget_open(budget_url, &o, &b, &budget_err);
    if (st == EMB_E_NOT_FOUND)
        skip(); /* no tzdata */
    assert_int_equal(st, EMB_OK);
    int32_t day = emb_budget_today(b, &left);
    assert_int_equal(left, 60);
    assert_int_equal(budget_take(b, "global", 100, 100, &t), EMB_OK);
    assert_int_equal(t.day, day);
    assert_int_equal(budget_take(b, "global", 100, 1, &u), EMB_E_BUDGET);
    assert_non_null(strstr(budget_err.message, "2026-03-29 (Europe/Berlin) begins in 0 h 1 min"));
    test_now = test_now + 60;
    assert_int_equal(emb_budget_today(b, &left), day + 1);
    assert_int_equal(left, 23 * 3600);
    assert_int_equal(budget_take(b, "global", 100, 80, &u), EMB_OK);
    emb_budget_settle(b, &t, 90); /* of the day before: today's is untouched */
    budget_is(b, "global", 0, 80);
    emb_budget_settle(b, &u, 75);
    budget_is(b, "global", 75, 0);
    test_now = test_now - 30; /* the clock is put back */
    assert_int_equal(emb_budget_today(b, NULL), day);
    budget_is(b, "global", 90, 0);
    assert_int_equal(budget_take(b, "global", 100, 11, &u), EMB_E_BUDGET);
    test_now = test_now + 30;
    emb_budget_close(b);
}

static void reservations_end_by_the_clock(void **state)
{
    (void)state;
    emb_budget *b;
    emb_budget_options o = {.now_s = test_clock, .command_ms = 20000, .reservation_s = 600};
    emb_budget_ticket t, u;
    char name[EMB_BUDGET_NAME];
    assert_int_equal(emb_budget_open(budget_url, &o, &b, &budget_err), EMB_OK);
    budget_name(name, "key");
    assert_int_equal(budget_take(b, name, 100, 100, &t), EMB_OK);
    test_now = test_now + 599;
    assert_int_equal(budget_take(b, name, 100, 1, &u), EMB_E_BUDGET);
    test_now = test_now + 1;
    assert_int_equal(budget_take(b, name, 100, 100, &u), EMB_OK); /* without waiting for the thread */
    emb_budget_settle(b, &u, 0);
    emb_budget_close(b);
}

/* ---- errors ---- */

static void urls_are_checked(void **state)
{
    (void)state;
    emb_budget *b;
    emb_budget_options o = {.reservation_s = 1};
    static const char *const BAD[] = {"", "mysql://x", "redis", "redis://h:port"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        assert_int_equal(emb_budget_open(BAD[i], &o, &b, &budget_err), EMB_E_INVALID);
        assert_null(b);
    }
    assert_int_equal(emb_budget_open(NULL, &o, &b, &budget_err), EMB_E_INVALID);
    o.timezone = "No/Where";
    assert_int_equal(emb_budget_open("memory:", &o, &b, &budget_err), EMB_E_NOT_FOUND);
    emb_budget_close(NULL);
}

static void a_file_of_something_else_is_an_error(void **state)
{
    (void)state;
    emb_budget *b;
    emb_budget_options o = {.reservation_s = 1};
    FILE *f = fopen(sqlite_url + 7, "wb");
    assert_non_null(f);
    for (int i = 0; i < 4096; i++)
        fputc('x', f);
    fclose(f);
    assert_int_equal(emb_budget_open(budget_url, &o, &b, &budget_err), EMB_E_CORRUPT);
    assert_null(b);
}

static void nothing_listening_is_no_error_but_spends_nothing(void **state)
{
    (void)state;
    emb_metrics *m;
    emb_budget *b;
    emb_budget_ticket t;
    emb_budget_use use;
    assert_int_equal(emb_metrics_open(&m, &budget_err), EMB_OK);
    emb_budget_options o = {.reservation_s = 1, .metrics = m};
    assert_int_equal(emb_budget_open("redis://127.0.0.1:1", &o, &b, &budget_err), EMB_OK);
    assert_false(emb_budget_is_up(b));
    assert_int_equal(budget_take(b, "global", NONE, 1, &t), EMB_E_UNAVAILABLE);
    assert_false(emb_budget_peek(b, "global", &use));
    assert_int_equal(emb_budget_read(b, "global", emb_now_ns() + 1000000000, &use, &budget_err),
                     EMB_E_UNAVAILABLE);
    assert_true(emb_metrics_sum(m, EMB_METRIC_SHARED_STATE_UP, 0, "budget") == 0);
    emb_budget_close(b);
    emb_metrics_close(m);
}

static void gauges_tell_dollars(void **state)
{
    (void)state;
    emb_metrics *m;
    emb_budget *b;
    emb_budget_ticket t, u;
    emb_buf text = EMB_BUF_INIT(1 << 20);
    assert_int_equal(emb_metrics_open(&m, &budget_err), EMB_OK);
    emb_budget_options o = {.metrics = m};
    assert_int_equal(emb_budget_open("memory:", &o, &b, &budget_err), EMB_OK);
    assert_int_equal(budget_take(b, "global", 5000000000, 2000000000, &t), EMB_OK);
    assert_int_equal(budget_take(b, "global", 5000000000, 4000000000, &u), EMB_E_BUDGET);
    assert_non_null(
        strstr(budget_err.message, "is $5.00: $0.00 are spent, $2.00 reserved, and $4.00 would be needed"));
    emb_budget_settle(b, &t, 1500000000);
    assert_int_equal(emb_metrics_write_prometheus(m, &text), EMB_OK);
    const char *all = emb_buf_cstr(&text);
    assert_non_null(strstr(all, "embedd_budget_limit_usd{scope=\"global\"} 5\n"));
    assert_non_null(strstr(all, "embedd_budget_spent_usd{scope=\"global\"} 1.5\n"));
    assert_non_null(strstr(all, "embedd_budget_refused_total{scope=\"global\"} 1\n"));
    assert_non_null(strstr(all, "embedd_shared_state_up{part=\"budget\"} 1\n"));
    emb_buf_fini(&text);
    emb_budget_close(b);
    emb_metrics_close(m);
}

/* ---- two users of one file ---- */

static void others_are_seen_within_seconds(void **state)
{
    (void)state;
    char name[EMB_BUDGET_NAME];
    emb_budget *a = budget_open(120, false), *b = budget_open(120, false);
    emb_budget_ticket t;
    emb_budget_use use = {0};
    assert_int_equal(budget_take(a, budget_name(name, "key"), 100, 60, &t), EMB_OK);
    assert_int_equal(budget_take(b, name, 100, 60, &(emb_budget_ticket){0}), EMB_E_BUDGET);
    uint64_t end = emb_now_ns() + 30000000000u;
    while (!(emb_budget_peek(b, name, &use) && use.reserved_nusd == 60) && emb_now_ns() < end)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    assert_int_equal(use.reserved_nusd, 60);
    emb_budget_settle(b, &t, 5); /* whoever settles */
    budget_is(b, name, 5, 0);
    emb_budget_close(b);
    emb_budget_settle(a, &t, 5);
    emb_budget_close(a); /* writes what waits */
    a = budget_open(120, false);
    budget_is(a, name, 5, 0);
    emb_budget_close(a);
}

static void prints_what_a_reserve_costs(void **state)
{
    (void)state;
    emb_budget *b = budget_open(120, false);
    emb_budget_ticket t;
    emb_budget_scope s[] = {{"global", NONE}, {"key:cost", NONE}};
    enum { TIMES = 5000 };
    assert_int_equal(emb_budget_reserve(b, s, 2, 1, 0, &t, &budget_err), EMB_OK);
    uint64_t start = emb_now_ns();
    for (int i = 0; i < TIMES; i++)
        assert_int_equal(emb_budget_reserve(b, s, 2, 1, 0, &t, &budget_err), EMB_OK);
    uint64_t reserved = emb_now_ns() - start;
    emb_budget_use use;
    start = emb_now_ns();
    for (int i = 0; i < TIMES; i++)
        (void)!emb_budget_peek(b, "global", &use);
    print_message("%.7s: a reserve of two scopes %.1f us, a peek %.0f ns\n", budget_url,
                  (double)reserved / TIMES / 1e3, (double)(emb_now_ns() - start) / TIMES);
    emb_budget_close(b);
}

int main(void)
{
    const struct CMUnitTest memory[] = {
        BUDGET_CONFORMANCE,
        cmocka_unit_test(days_turn_in_the_zone),
        cmocka_unit_test(reservations_end_by_the_clock),
        cmocka_unit_test(urls_are_checked),
        cmocka_unit_test(nothing_listening_is_no_error_but_spends_nothing),
        cmocka_unit_test(gauges_tell_dollars),
        cmocka_unit_test(prints_what_a_reserve_costs),
    };
    const struct CMUnitTest sqlite[] = {
        BUDGET_CONFORMANCE,
        cmocka_unit_test(days_turn_in_the_zone),
        cmocka_unit_test(reservations_end_by_the_clock),
        cmocka_unit_test(others_are_seen_within_seconds),
        cmocka_unit_test(prints_what_a_reserve_costs),
    };
    const struct CMUnitTest other[] = {cmocka_unit_test(a_file_of_something_else_is_an_error)};
    return cmocka_run_group_tests_name("memory", memory, use_memory, NULL) +
           cmocka_run_group_tests_name("sqlite", sqlite, use_sqlite, drop_sqlite) +
           cmocka_run_group_tests_name("other files", other, use_sqlite, drop_sqlite);
}
