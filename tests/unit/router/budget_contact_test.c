/* A store that is busy is told from one that is away, and few are in it at once. */
#include "base/clock.h"
#include "base/error.h"
#include "router/budget_contact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static emb_budget_contact c;
static emb_error err;
static const emb_error silent = {.message = "it says nothing"};

static int begin(void **state)
{
    (void)state;
    emb_budget_contact_init(&c, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    emb_budget_contact_fini(&c);
    return 0;
}

static void silence_is_told_from_being_busy(void **state)
{
    (void)state;
    uint64_t since = emb_now_ns();
    emb_budget_contact_answered(&c); /* somebody else, while our step waits */
    for (int i = 0; i < 10; i++)
        assert_true(emb_budget_contact_failed(&c, EMB_E_DEADLINE, since, &silent));
    assert_true(emb_budget_contact_is_up(&c));
    since = emb_now_ns() + 1;
    assert_false(emb_budget_contact_failed(&c, EMB_E_DEADLINE, since, &silent));
    assert_false(emb_budget_contact_is_up(&c));
    assert_int_equal(emb_budget_contact_enter(&c, 0, &err), EMB_E_UNAVAILABLE);
    assert_non_null(strstr(err.message, "it says nothing"));
    emb_budget_contact_answered(&c);
    assert_true(emb_budget_contact_is_up(&c));
    assert_int_equal(emb_budget_contact_enter(&c, 0, &err), EMB_OK);
}

static void failures_in_a_row_count(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_false(emb_budget_contact_failed(&c, EMB_E_IO, emb_now_ns(), &silent));
        if (i % 2)
            emb_budget_contact_answered(&c);
        assert_true(emb_budget_contact_is_up(&c));
    }
    for (int i = 0; i < 3; i++)
        assert_false(emb_budget_contact_failed(&c, EMB_E_IO, emb_now_ns(), &silent));
    assert_false(emb_budget_contact_is_up(&c));
}

static void turns_are_few_and_waited_for(void **state)
{
    (void)state;
    for (int i = 0; i < EMB_BUDGET_TURNS; i++)
        assert_int_equal(emb_budget_contact_enter(&c, 0, &err), EMB_OK);
    assert_int_equal(emb_budget_contact_enter(&c, emb_now_ns() + 5000000, &err), EMB_E_UNAVAILABLE);
    assert_non_null(strstr(err.message, "deadline"));
    emb_budget_contact_leave(&c);
    assert_int_equal(emb_budget_contact_enter(&c, emb_now_ns(), &err), EMB_OK);
}

static void *enter(void *status)
{
    emb_error ignored;
    *(emb_status *)status = emb_budget_contact_enter(&c, 0, &ignored);
    return NULL;
}

/* Without deadlines: whoever is not woken would wait for ever. */
static void waiting_ends_with_a_turn_or_with_the_store(void **state)
{
    (void)state;
    enum { CROWD = 16 };
    pthread_t threads[CROWD];
    emb_status got[CROWD];
    for (int i = 0; i < EMB_BUDGET_TURNS; i++)
        assert_int_equal(emb_budget_contact_enter(&c, 0, &err), EMB_OK);
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, enter, &got[i]), 0);
    for (int i = 0; i < CROWD / 2; i++)
        emb_budget_contact_leave(&c);
    for (int i = 0; i < 4000; i++) { /* half of them get in, at the latest when the last of these is over */
        pthread_mutex_lock(&c.lock);
        unsigned left = c.turns;
        pthread_mutex_unlock(&c.lock);
        if (!left)
            break;
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
    emb_budget_contact_lost(&c, &silent);
    int in = 0, out = 0;
    for (int i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
        in += got[i] == EMB_OK;
        out += got[i] == EMB_E_UNAVAILABLE;
    }
    assert_int_equal(in, CROWD / 2);
    assert_int_equal(out, CROWD / 2);
}

#define WITH_CONTACT(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CONTACT(silence_is_told_from_being_busy),
        WITH_CONTACT(failures_in_a_row_count),
        WITH_CONTACT(turns_are_few_and_waited_for),
        WITH_CONTACT(waiting_ends_with_a_turn_or_with_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
