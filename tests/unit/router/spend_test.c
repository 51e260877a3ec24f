/* Blocks of a budget: far from a limit a store is asked once for many calls, near it for each, and it is
 * never overrun. */
#include "base/clock.h"
#include "router/spend.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { PRICE = 1000, THREADS = 8 };

static emb_budget *budget;
static emb_spend *spend;

static int open_both(void **state)
{
    (void)state;
    emb_error err;
    const emb_budget_options options = {.timezone = "UTC", .reservation_s = 60};
    assert_int_equal(emb_budget_open("memory:", &options, &budget, &err), EMB_OK);
    assert_int_equal(emb_spend_open(budget, &spend, &err), EMB_OK);
    return 0;
}

static int close_both(void **state)
{
    (void)state;
    emb_spend_close(spend);
    emb_budget_close(budget);
    return 0;
}

static emb_budget_use use_of(const char *scope)
{
    emb_budget_use use = {0};
    emb_error err;
    assert_true(emb_budget_flush(budget, emb_now_ns() + 60000000000u));
    assert_int_equal(emb_budget_read(budget, scope, 0, &use, &err), EMB_OK);
    return use;
}

static void settled(const char *scope, uint64_t spent)
{
    for (int i = 0; i < 5000; i++) { /* blocks are closed by their thread */
        emb_budget_use use = use_of(scope);
        if (use.reserved_nusd == 0) {
            assert_int_equal(use.spent_nusd, spent);
            return;
        }
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    fail_msg("a block was not settled");
}

static void far_from_the_limit_a_block_serves_many(void **state)
{
    (void)state;
    emb_spend_ticket t[EMB_SPEND_LEAST];
    emb_error err;
    const emb_budget_scope s[] = {{"global", 1000000000000u}, {"key:a", UINT64_MAX}};
    uint64_t rounds = 0;
    for (bool one = false; !one;
         rounds++) { /* a block is closed after EMB_SPEND_MS: a busy machine takes several tries */
        assert_true(rounds < 1000);
        for (size_t i = 0; i < EMB_SPEND_LEAST; i++)
            assert_int_equal(emb_spend_reserve(spend, s, 2, PRICE, 0, &t[i], &err), EMB_OK);
        assert_non_null(t[0].block);
        one = t[0].block == t[EMB_SPEND_LEAST / 2].block;
        assert_true(use_of("global").reserved_nusd >= (uint64_t)EMB_SPEND_LEAST * PRICE);
        for (size_t i = 0; i < EMB_SPEND_LEAST; i++)
            emb_spend_settle(spend, &t[i], i % 2 ? PRICE : 0);
    }
    settled("global", rounds * EMB_SPEND_LEAST / 2 * PRICE);
    settled("key:a", rounds * EMB_SPEND_LEAST / 2 * PRICE);
}

static void near_the_limit_every_call_counts(void **state)
{
    (void)state;
    emb_spend_ticket t[11];
    emb_error err;
    const emb_budget_scope s[] = {{"global", 10 * PRICE}};
    for (int i = 0; i < 10; i++) {
        assert_int_equal(emb_spend_reserve(spend, s, 1, PRICE, 0, &t[i], &err), EMB_OK);
        assert_null(t[i].block);
    }
    assert_int_equal(emb_spend_reserve(spend, s, 1, PRICE, 0, &t[10], &err), EMB_E_BUDGET);
    for (int i = 0; i < 10; i++)
        emb_spend_settle(spend, &t[i], PRICE);
    settled("global", 10 * PRICE);
}

/* A sixteenth of what the nearest limit leaves, 1,024 calls at most, and none for fewer than 64. */
static void a_block_is_a_small_part_of_what_is_left(void **state)
{
    static const struct {
        uint64_t left, calls;
    } cases[] = {{16 * 64 - 1, 1}, {16 * 64, 64}, {16 * 100 + 15, 100}, {16 * 1024, 1024}, {1000000, 1024}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char key[16];
        emb_spend_ticket t;
        emb_error err;
        snprintf(key, sizeof key, "key:%zu", i);
        const emb_budget_scope s[] = {{"global", 1000000000000000u}, {key, cases[i].left * PRICE}};
        assert_int_equal(emb_spend_reserve(spend, s, 2, PRICE, 0, &t, &err), EMB_OK);
        assert_int_equal(t.block != NULL, cases[i].calls > 1);
        assert_int_equal(use_of(key).reserved_nusd,
                         cases[i].calls * PRICE); /* a call of it runs, so it lasts */
        emb_spend_settle(spend, &t, 0);
    }
}

static const uint64_t limit = 3000 * PRICE;
static atomic_ulong granted;

static void *hammer(void *context)
{
    (void)context;
    const emb_budget_scope s[] = {{"global", limit}};
    for (int i = 0; i < 1000; i++) {
        emb_spend_ticket t;
        emb_error err;
        if (emb_spend_reserve(spend, s, 1, PRICE, 0, &t, &err))
            continue;
        atomic_fetch_add(&granted, 1);
        emb_spend_settle(spend, &t, PRICE);
    }
    return NULL;
}

/* Over the border between blocks and single reservations: all of the limit may be used, and no more. */
static void many_threads_never_overrun(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    atomic_store(&granted, 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(granted <= 3000);
    assert_true(granted > 2500);
    settled("global", granted * PRICE);
}

static void what_a_call_cost_more_is_counted(void **state)
{
    (void)state;
    emb_spend_ticket t;
    emb_error err;
    const emb_budget_scope s[] = {{"global", 1000000000000u}};
    assert_int_equal(emb_spend_reserve(spend, s, 1, PRICE, 0, &t, &err), EMB_OK);
    emb_spend_settle(spend, &t, 1000 * PRICE);
    settled("global", 1000 * PRICE);
}

static void closing_settles_what_is_open(void **state)
{
    (void)state;
    emb_spend_ticket t;
    emb_error err;
    const emb_budget_scope s[] = {{"global", 1000000000000u}};
    assert_int_equal(emb_spend_reserve(spend, s, 1, PRICE, 0, &t, &err), EMB_OK);
    emb_spend_settle(spend, &t, PRICE);
    emb_spend_close(spend);
    spend = NULL;
    emb_budget_use use = use_of("global");
    assert_int_equal(use.spent_nusd, PRICE);
    assert_int_equal(use.reserved_nusd, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(far_from_the_limit_a_block_serves_many, open_both, close_both),
        cmocka_unit_test_setup_teardown(a_block_is_a_small_part_of_what_is_left, open_both, close_both),
        cmocka_unit_test_setup_teardown(near_the_limit_every_call_counts, open_both, close_both),
        cmocka_unit_test_setup_teardown(many_threads_never_overrun, open_both, close_both),
        cmocka_unit_test_setup_teardown(what_a_call_cost_more_is_counted, open_both, close_both),
        cmocka_unit_test_setup_teardown(closing_settles_what_is_open, open_both, close_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
