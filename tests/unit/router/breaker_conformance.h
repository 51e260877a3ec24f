/*
 * What every store of breakers has to do; two handles stand for two processes. Time goes by the callers'
 * clock where the store's is not asked, else in tenths of a second that really pass.
 *
 *     breaker_url = "sqlite:/tmp/x.db";
 *     const struct CMUnitTest tests[] = { BREAKER_CONFORMANCE };
 */
#ifndef EMB_TESTS_BREAKER_CONFORMANCE_H
#define EMB_TESTS_BREAKER_CONFORMANCE_H

#include "base/clock.h"
#include "base/error.h"
#include "router/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define S UINT64_C(1000000000)

static const char *breaker_url;
static emb_error breaker_err;
static const emb_breaker_rules breaker_rules = {
    .failure_threshold = 2, .window_s = 60, .recovery_timeout_s = 1, .recovery_longest_s = 60};

static emb_breakers *breakers_open(bool no_thread)
{
    emb_breakers *all = NULL;
    emb_breakers_options o = {.command_ms = 20000, .no_thread = no_thread};
    if (emb_breakers_open(breaker_url, &o, &all, &breaker_err) != EMB_OK)
        fail_msg("%s", breaker_err.message);
    return all;
}

static emb_breaker *breaker_get(emb_breakers *all, const char *name)
{
    emb_breaker *b = NULL;
    assert_int_equal(emb_breaker_get(all, name, &breaker_rules, &b, &breaker_err), EMB_OK);
    return b;
}

static const char *breaker_name(char out[64])
{
    static atomic_uint n;
    snprintf(out, 64, "provider-%llx-%u", (unsigned long long)emb_now_ns(), atomic_fetch_add(&n, 1));
    return out;
}

static void breaker_fail(emb_breaker *b, int times)
{
    for (int i = 0; i < times; i++) {
        emb_breaker_permit p;
        uint64_t now = emb_now_ns();
        assert_true(emb_breaker_allow(b, now, &p));
        emb_breaker_report(b, p, EMB_BREAKER_FAILURE, 0, "timeout", now);
    }
}

static emb_breaker_view breaker_view(emb_breaker *b)
{
    emb_breaker_view v;
    emb_breaker_view_get(b, emb_now_ns(), &v);
    return v;
}

static void breakers_sync(emb_breakers *all)
{
    if (emb_breakers_sync(all, emb_now_ns(), &breaker_err) != EMB_OK)
        fail_msg("%s", breaker_err.message);
}

/* Waits until a probe is allowed. */
static emb_breaker_permit breaker_probe(emb_breaker *b)
{
    emb_breaker_permit p = {0};
    uint64_t end = emb_now_ns() + 30 * S;
    while (!emb_breaker_allow(b, emb_now_ns(), &p) && emb_now_ns() < end)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    assert_true(p.probe);
    return p;
}

static void breakers_share_openings_and_closings(void **state)
{
    (void)state;
    char name[64];
    emb_breakers *one = breakers_open(true), *two = breakers_open(true);
    emb_breaker *a = breaker_get(one, breaker_name(name)), *b = breaker_get(two, name);
    emb_breaker_permit p;
    breaker_fail(a, 2);
    assert_int_equal(breaker_view(a).state, EMB_BREAKER_OPEN);
    assert_int_equal(breaker_view(b).state, EMB_BREAKER_CLOSED);
    breakers_sync(one);
    breakers_sync(two);
    emb_breaker_view v = breaker_view(b);
    assert_int_equal(v.state, EMB_BREAKER_OPEN);
    assert_int_equal(v.openings, 1);
    assert_string_equal(v.reason, "2 failures in a row, the last: timeout");
    assert_false(emb_breaker_allow(b, emb_now_ns(), &p));
    p = breaker_probe(b); /* due: one of them may */
    emb_breaker_permit q;
    assert_false(emb_breaker_allow(a, emb_now_ns(), &q));
    assert_false(emb_breaker_allow(b, emb_now_ns(), &q));
    emb_breaker_report(b, p, EMB_BREAKER_SUCCESS, 0, NULL, emb_now_ns());
    breakers_sync(two);
    breakers_sync(one);
    assert_int_equal(breaker_view(a).state, EMB_BREAKER_CLOSED);
    breakers_sync(one);
    breakers_sync(two);
    assert_int_equal(breaker_view(b).state, EMB_BREAKER_CLOSED);
    emb_breakers_close(one);
    emb_breakers_close(two);
}

static void breakers_share_failed_probes(void **state)
{
    (void)state;
    char name[64];
    emb_breakers *one = breakers_open(true), *two = breakers_open(true);
    emb_breaker *a = breaker_get(one, breaker_name(name)), *b = breaker_get(two, name);
    breaker_fail(a, 2);
    breakers_sync(one);
    breakers_sync(two);
    emb_breaker_permit p = breaker_probe(a);
    emb_breaker_report(a, p, EMB_BREAKER_FATAL, 0, "401", emb_now_ns());
    breakers_sync(one);
    breakers_sync(two);
    emb_breaker_view v = breaker_view(b);
    assert_int_equal(v.state, EMB_BREAKER_OPEN);
    assert_int_equal(v.openings, 2);
    assert_string_equal(v.reason, "the probe failed: 401");
    assert_true(v.retry_ns > emb_now_ns() + 30 * S && v.retry_ns < emb_now_ns() + 61 * S);
    emb_breaker_reset(b, emb_now_ns()); /* an operator's word is everybody's */
    breakers_sync(two);
    breakers_sync(one);
    assert_int_equal(breaker_view(a).state, EMB_BREAKER_CLOSED);
    emb_breakers_close(one);
    emb_breakers_close(two);
}

static void breakers_give_probes_back(void **state)
{
    (void)state;
    char name[64];
    emb_breakers *one = breakers_open(true), *two = breakers_open(true);
    emb_breaker *a = breaker_get(one, breaker_name(name)), *b = breaker_get(two, name);
    breaker_fail(a, 2);
    breakers_sync(one);
    breakers_sync(two);
    emb_breaker_permit p = breaker_probe(a), q;
    assert_false(emb_breaker_allow(b, emb_now_ns() + 2 * S, &q)); /* a has it */
    emb_breaker_report(a, p, EMB_BREAKER_IGNORED, 0, NULL, emb_now_ns());
    breakers_sync(one);
    assert_true(emb_breaker_allow(b, emb_now_ns() + 4 * S, &q));
    assert_true(q.probe);
    emb_breaker_report(b, q, EMB_BREAKER_SUCCESS, 0, NULL, emb_now_ns() + 4 * S);
    emb_breakers_close(one);
    emb_breakers_close(two);
}

static void breakers_stay_open_over_restarts(void **state)
{
    (void)state;
    char name[64];
    emb_breakers *one =
        breakers_open(false); /* with its thread, which writes at once, and when it is closed */
    emb_breaker *a = breaker_get(one, breaker_name(name));
    emb_breaker_permit p;
    assert_true(emb_breaker_allow(a, emb_now_ns(), &p));
    emb_breaker_report(a, p, EMB_BREAKER_FATAL, 0, "insufficient_quota", emb_now_ns());
    emb_breakers_close(one);
    one = breakers_open(true);
    a = breaker_get(one, name);
    emb_breaker_view v = breaker_view(a);
    assert_int_equal(v.state, EMB_BREAKER_OPEN);
    assert_string_equal(v.reason, "insufficient_quota");
    assert_true(v.retry_ns > emb_now_ns() + 30 * S);
    assert_false(emb_breaker_is_available(a, emb_now_ns()));
    assert_true(emb_breaker_is_available(a, emb_now_ns() + 61 * S));
    emb_breaker_reset(a, emb_now_ns());
    breakers_sync(one);
    emb_breakers_close(one);
    one = breakers_open(true);
    assert_int_equal(breaker_view(breaker_get(one, name)).state, EMB_BREAKER_CLOSED);
    emb_breakers_close(one);
}

static void breakers_keep_what_is_newer(void **state)
{
    (void)state;
    char name[64];
    emb_breakers *one = breakers_open(true), *two = breakers_open(true);
    emb_breaker *a = breaker_get(one, breaker_name(name)), *b = breaker_get(two, name);
    breaker_fail(a, 2);
    breakers_sync(one);
    breakers_sync(two);
    emb_breaker_permit p = breaker_probe(a);
    emb_breaker_report(a, p, EMB_BREAKER_SUCCESS, 0, NULL, emb_now_ns()); /* closed, not told yet */
    emb_breaker_reset(b, emb_now_ns());
    assert_true(emb_breaker_allow(b, emb_now_ns(), &p));
    emb_breaker_report(b, p, EMB_BREAKER_FATAL, 0, "403", emb_now_ns());
    breakers_sync(two); /* opened again meanwhile: that stands */
    breakers_sync(one);
    assert_int_equal(breaker_view(a).state, EMB_BREAKER_OPEN);
    assert_string_equal(breaker_view(a).reason, "403");
    emb_breakers_close(one);
    emb_breakers_close(two);
}

#define BREAKER_CONFORMANCE                                                                                 \
    cmocka_unit_test(breakers_share_openings_and_closings), cmocka_unit_test(breakers_share_failed_probes), \
        cmocka_unit_test(breakers_give_probes_back), cmocka_unit_test(breakers_stay_open_over_restarts),    \
        cmocka_unit_test(breakers_keep_what_is_newer)

#endif
