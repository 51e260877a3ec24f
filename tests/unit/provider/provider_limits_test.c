/* Limits: the buckets with a clock of the test's own, the line for slots. */
#include "base/clock.h"
#include "provider/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define NEVER UINT64_MAX

static void unlimited(void **state)
{
    (void)state;
    emb_limits l;
    uint64_t start;
    emb_limits_init(&l, 4, 0, 0, SECOND);
    for (int i = 0; i < 1000; i++) {
        assert_true(emb_limits_pace(&l, 100000, SECOND, NEVER, &start));
        assert_int_equal(start, SECOND);
    }
    emb_limits_fini(&l);
}

/* 600 a minute: 60 at once, then one each tenth of a second, by arrival. */
static void requests_a_minute(void **state)
{
    (void)state;
    emb_limits l;
    uint64_t start, now = SECOND;
    emb_limits_init(&l, 4, 600, 0, now);
    for (int i = 0; i < 60; i++) {
        assert_true(emb_limits_pace(&l, 1, now, NEVER, &start));
        assert_int_equal(start, now);
    }
    for (uint64_t i = 1; i <= 20; i++) {
        assert_true(emb_limits_pace(&l, 1, now, NEVER, &start));
        assert_in_range(start, now + i * SECOND / 10 - 1000, now + i * SECOND / 10 + 1000);
    }
    emb_limits_unpace(&l, 1);
    assert_true(emb_limits_pace(&l, 1, now, NEVER, &start));
    assert_in_range(start, now + 2 * SECOND - 1000, now + 2 * SECOND + 1000);
    emb_limits_fini(&l);
}

static void in_no_minute_much_more(void **state)
{
    (void)state;
    emb_limits l;
    uint64_t start, now = SECOND, sent = 0;
    emb_limits_init(&l, 4, 100, 0, now);
    while (emb_limits_pace(&l, 1, now, now + 60 * SECOND, &start))
        sent++;
    assert_in_range(sent, 100, 111);
    emb_limits_fini(&l);
}

static void a_deadline_is_known_at_once(void **state)
{
    (void)state;
    emb_limits l;
    uint64_t start, now = SECOND;
    emb_limits_init(&l, 4, 10, 0, now); /* one, then one in six seconds */
    assert_true(emb_limits_pace(&l, 1, now, now + SECOND, &start));
    assert_false(emb_limits_pace(&l, 1, now, now + SECOND, &start));
    assert_in_range(start, now + 6 * SECOND - 1000, now + 6 * SECOND + 1000);
    assert_true(emb_limits_pace(&l, 1, now, now + 7 * SECOND, &start)); /* the refused one took nothing */
    assert_in_range(start, now + 6 * SECOND - 1000, now + 6 * SECOND + 1000);
    emb_limits_fini(&l);
}

static void tokens_a_minute(void **state)
{
    (void)state;
    emb_limits l;
    uint64_t start, now = SECOND;
    emb_limits_init(&l, 4, 0, 60000, now); /* 1000 a second, 6000 at once */
    assert_true(
        emb_limits_pace(&l, 20000, now, NEVER, &start)); /* more than it holds: goes when it is full */
    assert_int_equal(start, now);
    assert_true(emb_limits_pace(&l, 1000, now, NEVER, &start));
    assert_in_range(start, now + 15 * SECOND - 1000, now + 15 * SECOND + 1000);
    emb_limits_settle(&l, 20000, 10000); /* it was less */
    assert_true(emb_limits_pace(&l, 1000, now, NEVER, &start));
    assert_in_range(start, now + 6 * SECOND - 1000, now + 6 * SECOND + 1000);
    emb_limits_fini(&l);
}

static void held_by_the_provider(void **state)
{
    (void)state;
    emb_limits l;
    uint64_t start, now = SECOND;
    emb_limits_init(&l, 4, 0, 0, now);
    emb_limits_hold(&l, now + 5 * SECOND);
    emb_limits_hold(&l, now + 2 * SECOND); /* shortens nothing */
    assert_int_equal(emb_limits_held_until(&l, now), now + 5 * SECOND);
    assert_true(emb_limits_pace(&l, 1, now, now + 6 * SECOND, &start));
    assert_int_equal(start, now + 5 * SECOND);
    assert_false(emb_limits_pace(&l, 1, now, now + 4 * SECOND, &start));
    assert_int_equal(emb_limits_held_until(&l, now + 5 * SECOND), 0);
    emb_limits_fini(&l);
}

static void enter_is_refused_at_once_while_held(void **state)
{
    (void)state;
    emb_limits l;
    emb_error err;
    uint64_t now = emb_now_ns();
    emb_limits_init(&l, 4, 0, 0, now);
    emb_limits_hold(&l, now + 60 * SECOND);
    assert_int_equal(emb_limits_enter(&l, now + 30 * SECOND, NULL, NULL, &err), EMB_E_BUSY);
    assert_in_range(emb_now_ns() - now, 0, 20 * SECOND);
    emb_limits_fini(&l);
}

static void slots(void **state)
{
    (void)state;
    emb_limits l;
    emb_error err;
    volatile int cancel = 1;
    emb_limits_init(&l, 2, 0, 0, emb_now_ns());
    assert_int_equal(emb_limits_enter(&l, NEVER, NULL, NULL, &err), EMB_OK);
    assert_true(emb_limits_more(&l));
    assert_false(emb_limits_more(&l));
    assert_int_equal(emb_limits_enter(&l, emb_now_ns() + 1000000, NULL, NULL, &err), EMB_E_BUSY);
    assert_int_equal(emb_limits_enter(&l, NEVER, &cancel, NULL, &err), EMB_E_CANCELLED);
    assert_int_equal(l.waiting, 0);
    emb_limits_less(&l);
    assert_int_equal(emb_limits_enter(&l, NEVER, NULL, NULL, &err), EMB_OK);
    emb_limits_leave(&l);
    emb_limits_leave(&l);
    assert_int_equal(l.used, 0);
    assert_int_equal(l.calls, 0);
    emb_limits_fini(&l);
}

enum { THREADS = 8, ROUNDS = 200 };

typedef struct crowd {
    emb_limits l;
    int inside, worst;
    uint64_t done;
} crowd;

static void *visit(void *context)
{
    crowd *c = context;
    emb_error err;
    for (int i = 0; i < ROUNDS; i++) {
        if (emb_limits_enter(&c->l, NEVER, NULL, NULL, &err))
            break;
        int inside = __atomic_add_fetch(&c->inside, 1, __ATOMIC_SEQ_CST),
            worst = __atomic_load_n(&c->worst, __ATOMIC_SEQ_CST);
        while (inside > worst && !__atomic_compare_exchange_n(&c->worst, &worst, inside, false,
                                                              __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            ;
        bool more = emb_limits_more(&c->l);
        __atomic_add_fetch(&c->inside, more, __ATOMIC_SEQ_CST);
        sched_yield();
        __atomic_sub_fetch(&c->inside, 1 + more, __ATOMIC_SEQ_CST);
        if (more)
            emb_limits_less(&c->l);
        emb_limits_leave(&c->l);
        __atomic_add_fetch(&c->done, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void never_more_than_slots(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    crowd c = {.inside = 0};
    emb_limits_init(&c.l, 3, 0, 0, emb_now_ns());
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, visit, &c), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(c.done, THREADS * ROUNDS);
    assert_in_range(c.worst, 1, 3);
    assert_int_equal(c.l.used, 0);
    emb_limits_fini(&c.l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unlimited),
        cmocka_unit_test(requests_a_minute),
        cmocka_unit_test(in_no_minute_much_more),
        cmocka_unit_test(a_deadline_is_known_at_once),
        cmocka_unit_test(tokens_a_minute),
        cmocka_unit_test(held_by_the_provider),
        cmocka_unit_test(enter_is_refused_at_once_while_held),
        cmocka_unit_test(slots),
        cmocka_unit_test(never_more_than_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
