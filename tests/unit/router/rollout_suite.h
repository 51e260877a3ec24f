/*
 * rollout_suite.h: what a rollout must do on any store. Included by one program for each.
 *
 *     int main(void) { return rollout_suite("sqlite:/tmp/x.db", reset); }    // reset empties the store
 */
#ifndef EMB_TESTS_ROLLOUT_SUITE_H
#define EMB_TESTS_ROLLOUT_SUITE_H

#include "router/rollout.h"

#include "base/clock.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *suite_url;
static void (*suite_reset)(void);
static _Atomic int64_t suite_now;

static int64_t suite_clock(void)
{
    return atomic_load(&suite_now);
}

static void good(emb_status st, const emb_error *err)
{
    if (st != EMB_OK)
        fail_msg("%s: %s: %s", emb_status_text(st), err->where, err->message);
}
#define GOOD(call)           \
    do {                     \
        emb_error err = {0}; \
        good((call), &err);  \
    } while (0)

static emb_rollout *suite_open(void)
{
    emb_rollout *r = NULL;
    GOOD(emb_rollout_open(suite_url, &(emb_rollout_options){.now_s = suite_clock, .no_thread = true}, &r,
                          &err));
    return r;
}

static emb_rollout_view suite_view(emb_rollout *r)
{
    emb_rollout_view v;
    emb_rollout_get(r, 42, &v);
    return v;
}

static int suite_setup(void **state)
{
    (void)state;
    atomic_store(&suite_now, 1000000);
    suite_reset();
    return 0;
}

static bool suite_tick(emb_rollout *r, const char *alert)
{
    bool changed = true;
    const emb_rollout_alarm alarm = {.name = alert};
    GOOD(emb_rollout_tick(r, alert ? &alarm : NULL, &changed, &err));
    return changed;
}

/* "set 25>0 ops;…" of the newest */
static void suite_expect_audit(emb_rollout *r, const char *expected)
{
    emb_arena arena;
    emb_rollout_event *events;
    size_t count;
    char text[2000] = "";
    emb_arena_init(&arena);
    GOOD(emb_rollout_audit(r, 100, &arena, &events, &count, &err));
    for (size_t i = 0; i < count; i++) {
        const emb_rollout_event *e = &events[i];
        assert_true(i == 0 || e->id < events[i - 1].id);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s %g>%g %s;", e->action,
                 isnan(e->from) ? -1 : e->from, isnan(e->to) ? -1 : e->to, e->actor);
    }
    assert_string_equal(text, expected);
    emb_arena_fini(&arena);
}

static void test_nothing_stored(void **state)
{
    (void)state;
    emb_rollout *r = suite_open();
    assert_true(emb_rollout_percentage(r, 17.5) == 17.5);
    emb_rollout_view v = suite_view(r);
    assert_int_equal(v.mode, EMB_ROLLOUT_CONFIGURED);
    assert_true(v.percentage == 42 && v.changed_s == 0 && v.rollback_verified_s == 0);
    assert_false(suite_tick(r, NULL));
    assert_false(suite_tick(r, "p95_latency"));
    suite_expect_audit(r, "");
    emb_rollout_close(r);
}

static void test_set_is_shared(void **state)
{
    (void)state;
    emb_rollout *a = suite_open(), *b = suite_open();
    GOOD(emb_rollout_set(a, 12.5, "ops", "the first caller", &err));
    assert_true(emb_rollout_percentage(a, 100) == 12.5);
    assert_true(emb_rollout_percentage(b, 100) == 100); /* until it looks */
    GOOD(emb_rollout_refresh(b, &err));
    assert_true(emb_rollout_percentage(b, 100) == 12.5);
    emb_rollout_view v = suite_view(b);
    assert_int_equal(v.mode, EMB_ROLLOUT_FIXED);
    assert_int_equal(v.changed_s, 1000000);
    assert_string_equal(v.actor, "ops");
    assert_string_equal(v.reason, "the first caller");
    GOOD(emb_rollout_back(b, "ops", NULL, &err));
    GOOD(emb_rollout_clear(a, "ops2", "over", &err)); /* though it had not seen the rollback */
    assert_true(emb_rollout_percentage(a, 100) == 100);
    assert_int_equal(suite_view(a).mode, EMB_ROLLOUT_CONFIGURED);
    suite_expect_audit(b, "clear 0>-1 ops2;rollback 12.5>0 ops;set -1>12.5 ops;");
    emb_rollout_close(a);
    a = suite_open(); /* stored, not only remembered */
    assert_string_equal(suite_view(a).actor, "ops2");
    emb_rollout_close(a);
    emb_rollout_close(b);
}

static void test_schedule(void **state)
{
    (void)state;
    static const emb_rollout_step_config steps[] = {{5, 60}, {33.25, 120}, {100, 60}};
    emb_rollout *a = suite_open(), *b = suite_open();
    GOOD(emb_rollout_schedule(a, steps, 3, "ops", "canary", &err));
    GOOD(emb_rollout_refresh(b, &err));
    emb_rollout_view v = suite_view(b);
    assert_int_equal(v.mode, EMB_ROLLOUT_SCHEDULED);
    assert_true(v.percentage == 5 && v.steps == 3 && v.step == 0 && v.step_until_s == 1000060);
    assert_true(v.schedule[1].percentage == 33.25 && v.schedule[1].hold_s == 120);
    atomic_store(&suite_now, 1000059);
    assert_false(suite_tick(a, NULL));
    atomic_store(&suite_now, 1000060);
    assert_true(suite_tick(a, NULL));
    assert_false(suite_tick(b, NULL)); /* due as far as it knew; it learns instead */
    assert_true(emb_rollout_percentage(b, 0) == 33.25);
    atomic_store(&suite_now, 1009999); /* long asleep: one step, which holds its time */
    assert_true(suite_tick(b, NULL));
    assert_false(suite_tick(b, NULL));
    assert_true(suite_view(b).step_until_s == 1010059);
    atomic_store(&suite_now, 1010059);
    assert_true(suite_tick(b, NULL));
    assert_int_equal(suite_view(b).mode, EMB_ROLLOUT_FINISHED);
    assert_true(emb_rollout_percentage(b, 0) == 100);
    assert_false(suite_tick(b, "cost_spike")); /* nothing is scheduled any more */
    suite_expect_audit(
        a, "finish 100>100 schedule;advance 33.25>100 schedule;advance 5>33.25 schedule;schedule -1>5 ops;");
    emb_rollout_close(a);
    emb_rollout_close(b);
}

static void test_alert(void **state)
{
    (void)state;
    static const emb_rollout_step_config steps[] = {{10, 60}, {20, 60}};
    emb_rollout *a = suite_open(), *b = suite_open();
    GOOD(emb_rollout_schedule(a, steps, 2, "ops", "", &err));
    GOOD(emb_rollout_refresh(b, &err));
    assert_false(suite_tick(a, NULL));
    assert_true(suite_tick(a, "p95_latency"));
    assert_false(suite_tick(b, "p95_latency"));
    emb_rollout_view v = suite_view(b);
    assert_int_equal(v.mode, EMB_ROLLOUT_ROLLED_BACK);
    assert_true(v.percentage == 0);
    assert_non_null(strstr(v.reason, "p95_latency"));
    atomic_store(&suite_now, 2000000);
    assert_false(suite_tick(a, NULL)); /* and it stays there */
    suite_expect_audit(a, "rollback 10>0 schedule;schedule -1>10 ops;");
    emb_rollout_close(a);
    emb_rollout_close(b);
}

static bool suite_tick_held(emb_rollout *r, int64_t held_since_s)
{
    bool changed = true;
    const emb_rollout_alarm alarm = {.name = "error_rate", .held_since_s = held_since_s, .for_s = 60};
    GOOD(emb_rollout_tick(r, &alarm, &changed, &err));
    return changed;
}

/* What held before the step is no fault of the step; while there is an alarm no step is made. */
static void test_alert_of_before(void **state)
{
    (void)state;
    static const emb_rollout_step_config steps[] = {{10, 100}, {20, 100}, {30, 100}};
    emb_rollout *a = suite_open(), *b = suite_open();
    GOOD(emb_rollout_schedule(a, steps, 3, "ops", "", &err)); /* at 1000000 */
    GOOD(emb_rollout_refresh(b, &err));
    atomic_store(&suite_now, 1000059);
    assert_false(suite_tick_held(a, 5)); /* for days, but of this step only 59 s */
    atomic_store(&suite_now, 1000110);
    assert_false(suite_tick_held(a, INT64_MAX)); /* it fires and does not hold any more: wait and see */
    assert_false(suite_tick_held(a, 1000051));
    assert_int_equal(suite_view(a).step, 0);
    assert_true(suite_tick(a, NULL)); /* resolved: on to 20 % */
    assert_int_equal(suite_view(b).step, 0);
    assert_false(
        suite_tick_held(b, 1000000)); /* enough for the step that b knows, not for the one there is */
    assert_int_equal(suite_view(b).step, 1);
    atomic_store(&suite_now, 1000169);
    assert_false(suite_tick_held(b, 1000000));
    assert_false(suite_tick_held(b, 1000111));
    atomic_store(&suite_now, 1000170);
    assert_false(suite_tick_held(b, 1000111));
    assert_true(suite_tick_held(b, 1000110));
    assert_int_equal(suite_view(b).mode, EMB_ROLLOUT_ROLLED_BACK);
    suite_expect_audit(a, "rollback 20>0 schedule;advance 10>20 schedule;schedule -1>10 ops;");
    emb_rollout_close(a);
    emb_rollout_close(b);
}

static void test_verified(void **state)
{
    (void)state;
    emb_rollout *r = suite_open();
    GOOD(emb_rollout_set(r, 30, "ops", "why", &err));
    atomic_store(&suite_now, 1000500);
    GOOD(emb_rollout_note_verified(r, "ops2", "1,000 answers", &err));
    emb_rollout_view v = suite_view(r);
    assert_true(v.rollback_verified_s == 1000500 && v.changed_s == 1000000 && v.percentage == 30);
    assert_string_equal(v.actor, "ops"); /* it changed nothing */
    assert_string_equal(v.reason, "why");
    GOOD(emb_rollout_clear(r, "ops", "", &err));
    assert_int_equal(suite_view(r).rollback_verified_s, 1000500);
    suite_expect_audit(r, "clear 30>-1 ops;verified 30>30 ops2;set -1>30 ops;");
    emb_rollout_close(r);
}

static void test_texts(void **state)
{
    (void)state;
    char longer[400];
    memset(longer, 'x', sizeof longer);
    for (int i = 50; i + 3 < 399; i += 3)
        memcpy(longer + i, "\xe2\x82\xac", 3);
    longer[398] = 0;
    emb_rollout *r = suite_open();
    GOOD(emb_rollout_set(r, 1, longer, longer, &err));
    emb_rollout_view v = suite_view(r);
    assert_true(strlen(v.actor) > 55 && strlen(v.actor) < sizeof v.actor);
    assert_true(strlen(v.reason) > 190 && strlen(v.reason) < sizeof v.reason);
    GOOD(emb_rollout_set(r, 2, "a\xff", "line\nfeed'; DROP TABLE x; --", &err));
    GOOD(emb_rollout_refresh(r, &err));
    v = suite_view(r);
    assert_string_equal(v.actor, "a\xef\xbf\xbd");
    assert_string_equal(v.reason, "line feed'; DROP TABLE x; --");
    emb_rollout_close(r);
}

/* Many processes, one step: one of them makes it. */
enum { RIVALS = 6 };
static atomic_int steps_made;

static void *rival(void *opaque)
{
    emb_rollout *r = opaque;
    bool changed = false;
    emb_error err = {0};
    if (emb_rollout_tick(r, NULL, &changed, &err) == EMB_OK && changed)
        atomic_fetch_add(&steps_made, 1);
    return NULL;
}

static void test_rivals(void **state)
{
    (void)state;
    static const emb_rollout_step_config steps[] = {{10, 60}, {20, 60}, {30, 60}, {40, 60}, {50, 60}};
    emb_rollout *r[RIVALS];
    pthread_t threads[RIVALS];
    for (int i = 0; i < RIVALS; i++)
        r[i] = suite_open();
    GOOD(emb_rollout_schedule(r[0], steps, 5, "ops", "", &err));
    for (int round = 1; round < 5; round++) {
        for (int i = 0; i < RIVALS; i++)
            GOOD(emb_rollout_refresh(r[i], &err));
        atomic_fetch_add(&suite_now, 60);
        atomic_store(&steps_made, 0);
        for (int i = 0; i < RIVALS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, rival, r[i]), 0);
        for (int i = 0; i < RIVALS; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(atomic_load(&steps_made), 1);
        GOOD(emb_rollout_refresh(r[0], &err));
        assert_int_equal(suite_view(r[0]).step, round);
    }
    for (int i = 0; i < RIVALS; i++)
        emb_rollout_close(r[i]);
}

/* Whatever people ask for at the same time is done, one after another, and logged with what was before. */
static void *setter(void *opaque)
{
    emb_error err = {0};
    for (int i = 1; i <= 5; i++)
        if (emb_rollout_set(opaque, i, "ops", "", &err) != EMB_OK)
            return (void *)1;
    return NULL;
}

static void test_setters(void **state)
{
    (void)state;
    enum { SETTERS = 3 };
    emb_rollout *r[SETTERS];
    pthread_t threads[SETTERS];
    emb_arena arena;
    emb_rollout_event *events;
    size_t count;
    void *failed;
    for (int i = 0; i < SETTERS; i++)
        r[i] = suite_open();
    for (int i = 0; i < SETTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, setter, r[i]), 0);
    for (int i = 0; i < SETTERS; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    emb_arena_init(&arena);
    GOOD(emb_rollout_audit(r[0], 100, &arena, &events, &count, &err));
    assert_int_equal(count, SETTERS * 5);
    for (size_t i = 0; i + 1 < count; i++)
        assert_true(events[i].from == events[i + 1].to);
    emb_arena_fini(&arena);
    for (int i = 0; i < SETTERS; i++)
        emb_rollout_close(r[i]);
}

/* The thread: what one sets, another sees without asking. */
static void test_thread(void **state)
{
    (void)state;
    emb_rollout *a = suite_open(), *b = NULL;
    GOOD(emb_rollout_open(suite_url, NULL, &b, &err));
    GOOD(emb_rollout_set(a, 7, "ops", "", &err));
    uint64_t start = emb_now_ns();
    while (emb_rollout_percentage(b, 100) != 7) {
        if (emb_now_ns() - start > UINT64_C(30000000000))
            fail_msg("not seen in 30 s");
        struct timespec t = {0, 5000000};
        nanosleep(&t, NULL);
    }
    emb_rollout_close(a);
    emb_rollout_close(b);
}

static void test_invalid(void **state)
{
    (void)state;
    emb_rollout *r = suite_open();
    emb_error problem;
    static const double wrong[] = {-0.001, 100.001, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        emb_rollout_step_config step = {wrong[i], 60};
        assert_int_equal(emb_rollout_set(r, wrong[i], "ops", "", &problem), EMB_E_INVALID);
        assert_int_equal(emb_rollout_schedule(r, &step, 1, "ops", "", &problem), EMB_E_INVALID);
    }
    emb_rollout_step_config steps[33];
    for (int i = 0; i < 33; i++)
        steps[i] = (emb_rollout_step_config){i, 60};
    assert_int_equal(emb_rollout_schedule(r, steps, 0, "ops", "", &problem), EMB_E_INVALID);
    assert_int_equal(emb_rollout_schedule(r, steps, 33, "ops", "", &problem), EMB_E_INVALID);
    steps[1].percentage = 0;
    assert_int_equal(emb_rollout_schedule(r, steps, 3, "ops", "", &problem), EMB_E_INVALID);
    steps[1] = (emb_rollout_step_config){1, 0};
    assert_int_equal(emb_rollout_schedule(r, steps, 3, "ops", "", &problem), EMB_E_INVALID);
    steps[1].hold_s = UINT64_MAX;
    assert_int_equal(emb_rollout_schedule(r, steps, 3, "ops", "", &problem), EMB_E_INVALID);
    steps[1].hold_s = 60;
    GOOD(emb_rollout_schedule(r, steps, 32, "ops", "", &err)); /* as long as may be */
    GOOD(emb_rollout_refresh(r, &err));
    assert_int_equal(suite_view(r).steps, 32);
    assert_int_equal(emb_rollout_set(r, 1, "", "", &problem), EMB_E_INVALID);
    assert_int_equal(emb_rollout_back(r, NULL, "", &problem), EMB_E_INVALID);
    emb_rollout_close(r);
}

static int rollout_suite(const char *url, void (*reset)(void))
{
    suite_url = url;
    suite_reset = reset;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_nothing_stored, suite_setup),
        cmocka_unit_test_setup(test_set_is_shared, suite_setup),
        cmocka_unit_test_setup(test_schedule, suite_setup),
        cmocka_unit_test_setup(test_alert, suite_setup),
        cmocka_unit_test_setup(test_alert_of_before, suite_setup),
        cmocka_unit_test_setup(test_verified, suite_setup),
        cmocka_unit_test_setup(test_texts, suite_setup),
        cmocka_unit_test_setup(test_rivals, suite_setup),
        cmocka_unit_test_setup(test_setters, suite_setup),
        cmocka_unit_test_setup(test_thread, suite_setup),
        cmocka_unit_test_setup(test_invalid, suite_setup),
    };
    return cmocka_run_group_tests_name("rollout", tests, NULL, NULL);
}

#endif
