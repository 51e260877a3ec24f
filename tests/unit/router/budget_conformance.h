/*
 * What every store of a budget has to do: the same tests for memory, SQLite, Redis and PostgreSQL.
 *
 *     budget_url = "sqlite:/tmp/x.db";
 *     const struct CMUnitTest tests[] = { BUDGET_CONFORMANCE };
 *
 * Scopes have random names, so that a database may be used again. Waiting is for the stores' own clocks:
 * reservations last one second where a test wants their end.
 */
#ifndef EMB_TESTS_BUDGET_CONFORMANCE_H
#define EMB_TESTS_BUDGET_CONFORMANCE_H

#include "base/clock.h"
#include "base/error.h"
#include "router/budget.h"
#include "router/budget_store.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NONE UINT64_MAX

static const char *budget_url;
static emb_error budget_err;

static emb_budget *budget_open(uint32_t reservation_s, bool expired_are_spent)
{
    emb_budget *b = NULL;
    emb_budget_options o = {.timezone = "UTC",
                            .reservation_s = reservation_s,
                            .command_ms = 20000, /* test machines are busy */
                            .expired_are_spent = expired_are_spent};
    emb_status st = emb_budget_open(budget_url, &o, &b, &budget_err);
    if (st != EMB_OK)
        fail_msg("%s", budget_err.message);
    return b;
}

/* A name that nobody has used. */
static const char *budget_name(char out[EMB_BUDGET_NAME], const char *kind)
{
    static atomic_uint n;
    snprintf(out, EMB_BUDGET_NAME, "%s:%llx-%u", kind, (unsigned long long)emb_now_ns(),
             atomic_fetch_add(&n, 1));
    return out;
}

static emb_status budget_take(emb_budget *b, const char *name, uint64_t limit, uint64_t nusd,
                              emb_budget_ticket *t)
{
    emb_budget_scope s = {name, limit};
    return emb_budget_reserve(b, &s, 1, nusd, 0, t, &budget_err);
}

static emb_budget_use budget_use(emb_budget *b, const char *name)
{
    emb_budget_use use;
    assert_true(emb_budget_flush(b, emb_now_ns() + 30000000000u));
    emb_status st = emb_budget_read(b, name, emb_now_ns() + 20000000000u, &use, &budget_err);
    if (st != EMB_OK)
        fail_msg("%s", budget_err.message);
    return use;
}

static void budget_is(emb_budget *b, const char *name, uint64_t spent, uint64_t reserved)
{
    emb_budget_use use = budget_use(b, name);
    assert_int_equal(use.spent_nusd, spent);
    assert_int_equal(use.reserved_nusd, reserved);
}

static void budget_becomes(emb_budget *b, const char *name, uint64_t spent, uint64_t reserved)
{
    uint64_t end = emb_now_ns() + 30000000000u;
    emb_budget_use use = budget_use(b, name);
    while ((use.spent_nusd != spent || use.reserved_nusd != reserved) && emb_now_ns() < end) {
        nanosleep(&(struct timespec){0, 10000000}, NULL);
        use = budget_use(b, name);
    }
    assert_int_equal(use.spent_nusd, spent);
    assert_int_equal(use.reserved_nusd, reserved);
}

static void budget_reserves_and_settles(void **state)
{
    (void)state;
    char name[EMB_BUDGET_NAME];
    emb_budget *b = budget_open(120, false);
    emb_budget_ticket first, second, third;
    budget_name(name, "key");
    assert_int_equal(budget_take(b, name, 100, 60, &first), EMB_OK);
    assert_int_equal(first.nusd, 60);
    assert_int_equal(first.count, 1);
    assert_string_equal(first.names[0], name);
    assert_int_equal(first.day, emb_budget_today(b, NULL));
    assert_int_equal(budget_take(b, name, 100, 41, &second), EMB_E_BUDGET);
    assert_string_equal(budget_err.where, name);
    assert_non_null(strstr(budget_err.message, "$0.0000001"));
    assert_int_equal(budget_take(b, name, 100, 40, &second), EMB_OK);
    budget_is(b, name, 0, 100);
    assert_int_equal(budget_take(b, name, 100, 0, &third), EMB_OK); /* nothing always fits */
    emb_budget_settle(b, &first, 10);
    budget_is(b, name, 10, 40);
    emb_budget_settle(b, &first, 10); /* once is enough */
    emb_budget_settle(b, &second, 0); /* gives it back */
    emb_budget_settle(b, &second, 7);
    budget_is(b, name, 10, 0);
    assert_int_equal(budget_take(b, name, 100, 90, &second), EMB_OK);
    emb_budget_settle(b, &second, 200); /* dearer than was thought: counted all the same */
    emb_budget_settle(b, &third, 0);
    budget_is(b, name, 210, 0);
    assert_int_equal(budget_take(b, name, 100, 0, &third), EMB_E_BUDGET);
    assert_int_equal(budget_take(b, name, NONE, UINT64_C(1000000000000000), &third), EMB_OK);
    emb_budget_settle(b, &third, UINT64_C(999999999999999));
    budget_is(b, name, UINT64_C(1000000000000209), 0);
    emb_budget_close(b);
}

static void budget_takes_all_scopes_or_none(void **state)
{
    (void)state;
    char global[EMB_BUDGET_NAME], key[EMB_BUDGET_NAME], tag[EMB_BUDGET_NAME];
    emb_budget *b = budget_open(120, false);
    emb_budget_ticket t, u;
    emb_budget_scope s[] = {{budget_name(global, "global"), 1000},
                            {budget_name(key, "key"), 50},
                            {budget_name(tag, "category"), NONE}};
    assert_int_equal(emb_budget_reserve(b, s, 3, 50, 0, &t, &budget_err), EMB_OK);
    assert_int_equal(emb_budget_reserve(b, s, 3, 1, 0, &u, &budget_err), EMB_E_BUDGET);
    assert_string_equal(budget_err.where, key);
    for (size_t i = 0; i < 3; i++)
        budget_is(b, s[i].name, 0, 50);
    emb_budget_settle(b, &t, 49);
    for (size_t i = 0; i < 3; i++)
        budget_is(b, s[i].name, 49, 0);
    s[1].limit_nusd = 2000; /* another limit holds from now on; the order of scopes does not matter */
    emb_budget_scope back[] = {s[2], s[1], s[0]};
    assert_int_equal(emb_budget_reserve(b, back, 3, 951, 0, &t, &budget_err), EMB_OK);
    assert_int_equal(emb_budget_reserve(b, back, 3, 1, 0, &u, &budget_err), EMB_E_BUDGET);
    assert_string_equal(budget_err.where, global);
    emb_budget_settle(b, &t, 0);
    budget_is(b, global, 49, 0);
    emb_budget_close(b);
}

static void budget_takes_odd_names_and_large_sums(void **state)
{
    (void)state;
    char name[EMB_BUDGET_NAME] = "category:", other[EMB_BUDGET_NAME];
    emb_budget *b = budget_open(120, false);
    emb_budget_ticket t;
    budget_name(other, "c\xc3\xa4t {'\"}\\ %s\n");
    budget_becomes(b, other, 0, 0);
    uint64_t million = UINT64_C(1000000000000000), limit = 20 * million + 3;
    for (int i = 0; i < 20; i++) { /* beyond 2^53: exact all the same */
        assert_int_equal(budget_take(b, other, limit, million, &t), EMB_OK);
        emb_budget_settle(b, &t, million);
    }
    budget_is(b, other, 20 * million, 0);
    assert_int_equal(budget_take(b, other, limit, 4, &t), EMB_E_BUDGET);
    assert_int_equal(budget_take(b, other, limit, 3, &t), EMB_OK);
    assert_int_equal(budget_take(b, other, limit, 1, &t), EMB_E_BUDGET);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(budget_take(b, name, NONE, 1, &t), EMB_OK);
    emb_budget_settle(b, &t, 0);
    emb_budget_close(b);
}

static void budget_refuses_what_is_wrong(void **state)
{
    (void)state;
    char name[EMB_BUDGET_NAME + 1];
    emb_budget *b = budget_open(120, false);
    emb_budget_ticket t;
    emb_budget_scope s[9];
    memset(name, 'x', sizeof name - 1);
    name[EMB_BUDGET_NAME] = '\0';
    assert_int_equal(budget_take(b, name, NONE, 1, &t), EMB_E_INVALID);
    assert_int_equal(budget_take(b, "", NONE, 1, &t), EMB_E_INVALID);
    assert_int_equal(budget_take(b, NULL, NONE, 1, &t), EMB_E_INVALID);
    assert_int_equal(budget_take(b, "global", NONE, UINT64_C(1000000000000001), &t), EMB_E_INVALID);
    for (int i = 0; i < 9; i++)
        s[i] = (emb_budget_scope){"same", NONE};
    assert_int_equal(emb_budget_reserve(b, s, 9, 1, 0, &t, &budget_err), EMB_E_INVALID);
    assert_int_equal(emb_budget_reserve(b, s, 2, 1, 0, &t, &budget_err), EMB_E_INVALID);
    assert_int_equal(emb_budget_reserve(b, s, 0, 1, 0, &t, &budget_err), EMB_OK);
    emb_budget_settle(b, &t, 1);
    emb_budget_close(b);
}

static void budget_gets_expired_back(void **state)
{
    (void)state;
    char name[EMB_BUDGET_NAME];
    emb_budget *b = budget_open(1, false);
    emb_budget_ticket t, u;
    budget_name(name, "key");
    assert_int_equal(budget_take(b, name, 100, 100, &t), EMB_OK);
    assert_int_equal(budget_take(b, name, 100, 1, &u), EMB_E_BUDGET);
    uint64_t end = emb_now_ns() + 30000000000u;
    while (budget_take(b, name, 100, 30, &u) != EMB_OK && emb_now_ns() < end)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    emb_budget_settle(b, &u, 30);
    budget_is(b, name, 30, 0);
    emb_budget_settle(b, &t, 90); /* late, but the money is gone */
    budget_is(b, name, 120, 0);
    emb_budget_settle(b, &t, 90);
    budget_is(b, name, 120, 0);
    emb_budget_close(b);
}

static void budget_counts_expired_as_spent(void **state)
{
    (void)state;
    char name[EMB_BUDGET_NAME];
    emb_budget *b = budget_open(1, true);
    emb_budget_ticket t;
    budget_name(name, "key");
    assert_int_equal(budget_take(b, name, 100, 70, &t), EMB_OK);
    budget_becomes(b, name, 70, 0);
    assert_int_equal(budget_take(b, name, 100, 31, &(emb_budget_ticket){0}), EMB_E_BUDGET);
    emb_budget_settle(b, &t, 20); /* it turns out to have cost less */
    budget_is(b, name, 20, 0);
    emb_budget_settle(b, &t, 20);
    budget_is(b, name, 20, 0);
    emb_budget_close(b);
}

/* An order that was given up and given again may arrive after all is settled. */
static void budget_is_not_made_again_by_a_late_order(void **state)
{
    (void)state;
    char name[EMB_BUDGET_NAME];
    emb_budget_store_options o = {.reservation_s = 120};
    emb_budget_store *store;
    uint64_t soon = emb_now_ns() + 30000000000u;
    if (emb_budget_store_open(budget_url, &o, &store, &budget_err) != EMB_OK)
        fail_msg("%s", budget_err.message);
    if (!store->ops->is_remote) {
        store->ops->close(store);
        skip();
    }
    emb_budget *b = budget_open(120, false);
    static const emb_budget_sureness how[] = {EMB_BUDGET_REPEATED, EMB_BUDGET_UNSURE};
    for (int i = 0; i < 2; i++) {
        emb_budget_want want = {.name = budget_name(name, "key"), .limit = 100};
        emb_budget_order order = {.day = emb_budget_today(b, NULL), .nusd = 60, .wants = &want, .count = 1};
        emb_budget_settlement s = {
            .day = order.day, .actual_nusd = 50, .sureness = how[i], .count = 1, .names = name};
        snprintf((char *)order.id, sizeof order.id, "%d%llx", i, (unsigned long long)emb_now_ns());
        assert_int_equal(store->ops->reserve(store, &order, soon, &budget_err), EMB_OK);
        assert_true(order.granted);
        s.length = (uint32_t)strlen(name) + 1;
        memcpy(s.id, order.id, sizeof s.id);
        assert_int_equal(store->ops->settle(store, &s, 1, soon, &budget_err), EMB_OK);
        budget_is(b, name, 50, 0);
        (void)!store->ops->reserve(store, &order, soon, &budget_err); /* nobody reads its answer */
        assert_false(order.granted);
        assert_int_equal(store->ops->settle(store, &s, 1, soon, &budget_err), EMB_OK);
        budget_is(b, name, 50, 0);
    }
    emb_budget_close(b);
    store->ops->close(store);
}

/* ---- a storm ---- */

enum { STORM_THREADS = 16, STORM_CALLS = 1000 };

typedef struct budget_storm {
    emb_budget *b;
    const emb_budget_scope *scopes;
    atomic_int left, granted, refused;
    emb_budget_ticket tickets[STORM_CALLS];
} budget_storm;

static void *budget_storm_run(void *context)
{
    budget_storm *s = context;
    emb_error err;
    while (atomic_fetch_sub(&s->left, 1) > 0) {
        emb_budget_ticket t;
        emb_status st = emb_budget_reserve(s->b, s->scopes, 2, 7, 0, &t, &err);
        if (st == EMB_OK)
            s->tickets[atomic_fetch_add(&s->granted, 1)] = t;
        else if (st == EMB_E_BUDGET)
            atomic_fetch_add(&s->refused, 1);
    }
    return NULL;
}

static void budget_storm_do(budget_storm *s)
{
    pthread_t threads[STORM_THREADS];
    atomic_store(&s->left, STORM_CALLS);
    for (int i = 0; i < STORM_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, budget_storm_run, s), 0);
    for (int i = 0; i < STORM_THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void budget_grants_exactly_what_there_is(void **state)
{
    (void)state;
    char global[EMB_BUDGET_NAME], key[EMB_BUDGET_NAME];
    budget_storm *s = calloc(1, sizeof *s);
    emb_budget_scope scopes[] = {{budget_name(global, "global"), NONE}, {budget_name(key, "key"), 76}};
    s->b = budget_open(120, false);
    s->scopes = scopes;
    budget_storm_do(s);
    assert_int_equal(atomic_load(&s->granted), 10); /* 10 × 7, and 6 left */
    assert_int_equal(atomic_load(&s->refused), STORM_CALLS - 10);
    budget_is(s->b, global, 0, 70);
    for (int i = 0; i < 10; i++)
        emb_budget_settle(s->b, &s->tickets[i], 0);
    budget_is(s->b, key, 0, 0);
    scopes[1].limit_nusd = NONE;
    atomic_store(&s->granted, 0);
    budget_storm_do(s);
    assert_int_equal(atomic_load(&s->granted), STORM_CALLS);
    for (int i = 0; i < STORM_CALLS; i++)
        emb_budget_settle(s->b, &s->tickets[i], 3);
    budget_is(s->b, global, 3 * STORM_CALLS, 0);
    budget_is(s->b, key, 3 * STORM_CALLS, 0);
    emb_budget_close(s->b);
    free(s);
}

static void budget_is_seen_without_asking(void **state)
{
    (void)state;
    char name[EMB_BUDGET_NAME];
    emb_budget *b = budget_open(120, false);
    emb_budget_ticket t;
    emb_budget_use use;
    assert_true(emb_budget_is_up(b));
    assert_true(emb_budget_peek(b, budget_name(name, "key"), &use)); /* known to be nothing */
    assert_int_equal(use.spent_nusd + use.reserved_nusd, 0);
    assert_int_equal(budget_take(b, name, 100, 60, &t), EMB_OK);
    assert_true(emb_budget_peek(b, name, &use));
    assert_in_range(use.reserved_nusd, 60, 120); /* never less; twice while it is being read */
    emb_budget_settle(b, &t, 25);
    assert_true(emb_budget_peek(b, name, &use));
    assert_int_equal(use.spent_nusd, 25);
    budget_is(b, name, 25, 0);
    emb_budget_close(b);
}

#define BUDGET_CONFORMANCE                                                                            \
    cmocka_unit_test(budget_reserves_and_settles), cmocka_unit_test(budget_takes_all_scopes_or_none), \
        cmocka_unit_test(budget_takes_odd_names_and_large_sums),                                      \
        cmocka_unit_test(budget_refuses_what_is_wrong), cmocka_unit_test(budget_gets_expired_back),   \
        cmocka_unit_test(budget_counts_expired_as_spent),                                             \
        cmocka_unit_test(budget_is_not_made_again_by_a_late_order),                                   \
        cmocka_unit_test(budget_grants_exactly_what_there_is),                                        \
        cmocka_unit_test(budget_is_seen_without_asking)

#endif
