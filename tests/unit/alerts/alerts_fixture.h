/*
 * alerts_fixture.h: alerts with a clock, a sender and signals of the test's own. Sinks have no threads here:
 * step_all runs them at the test's time.
 */
#ifndef EMB_TESTS_ALERTS_FIXTURE_H
#define EMB_TESTS_ALERTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alerts/parts.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
enum { SENT_MAX = 4000 };

static int64_t clock_s;
static int64_t fake_now_s(void)
{
    return clock_s;
}

/* ---- the sender ---- */

typedef struct sent_notice {
    char sink[32];
    char *body;
} sent_notice;

static struct {
    sent_notice taken[SENT_MAX];
    size_t count, attempts;
    int status; /* 0: no answer */
} world;

static emb_status fake_send(void *context, const emb_sink_request *request, int *http_status, emb_error *err)
{
    (void)context;
    world.attempts++;
    *http_status = world.status;
    if (world.status != 200)
        return emb_fail(err, EMB_E_IO, request->sink->name, "status %d", world.status);
    assert_true(world.count < SENT_MAX);
    snprintf(world.taken[world.count].sink, sizeof world.taken[0].sink, "%s", request->sink->name);
    world.taken[world.count++].body = strndup(request->body, request->length);
    return EMB_OK;
}

static void forget_sent(void)
{
    for (size_t i = 0; i < world.count; i++)
        free(world.taken[i].body);
    world.count = world.attempts = 0;
    world.status = 200;
}

static void took(size_t i, const char *sink, const char *part)
{
    assert_true(i < world.count);
    assert_string_equal(world.taken[i].sink, sink);
    if (!strstr(world.taken[i].body, part))
        fail_msg("%s is not in %s", part, world.taken[i].body);
}

/* ---- alerts ---- */

static const emb_alert_thresholds THRESHOLDS = {
    .p95_warning_ms = 500,
    .p95_error_ms = 1000,
    .hit_warning = 0.7,
    .hit_error = 0.5,
    .similarity_warning = 0.95,
    .similarity_error = 0.9,
    .error_rate_warning = 0.05,
    .budget_warning = 0.8,
    .budget_critical = 0.95,
    .monthly_usd = 100,
    .minimum_requests = 20,
    .minimum_lookups = 20,
    .minimum_comparisons = 10,
    .for_s = 60,
};
static const emb_sink_config HOOK = {EMB_SINK_WEBHOOK, "hook", "http://127.0.0.1:1/secret", "token",
                                     "warning"};
static const emb_sink_config LOUD = {EMB_SINK_WEBHOOK, "loud", "http://127.0.0.1:1/secret", "", "error"};
static const emb_sink_config AM = {EMB_SINK_ALERTMANAGER, "am", "http://127.0.0.1:1/secret", "", "warning"};

static emb_alerts *open_alerts(const emb_sink_config *sinks, size_t count, const char *url, uint32_t for_s)
{
    emb_alerts *a = NULL;
    emb_error err = {0};
    emb_alerts_options o = {.url = url,
                            .sinks = sinks,
                            .sink_count = count,
                            .instance = "127.0.0.1:8000",
                            .thresholds = THRESHOLDS,
                            .now_s = fake_now_s};
    o.thresholds.for_s = for_s;
    if (emb_alerts_open_with(&o, fake_send, NULL, false, &a, &err) != EMB_OK)
        fail_msg("%s", err.message);
    return a;
}

static emb_alert_signals quiet(void)
{
    return (emb_alert_signals){.requests = 100,
                               .p95_ms = 20,
                               .lookups = 100,
                               .hits = 90,
                               .comparisons = 50,
                               .similarity = 0.99,
                               .has_similarity = true,
                               .budget_nusd = 1000};
}

static emb_alert_signals slow(double p95_ms)
{
    emb_alert_signals s = quiet();
    s.p95_ms = p95_ms;
    return s;
}

static inline void step_all(emb_alerts *a, uint64_t now_ns)
{
    for (size_t i = 0; i < a->sink_count; i++)
        emb_alert_sink_step(&a->sinks[i], now_ns);
}

static inline void evaluate(emb_alerts *a, emb_alert_signals signals)
{
    emb_alerts_evaluate(a, &signals);
}

/* The only alert there is, or one of state INACTIVE. Its texts live until the next call. */
static inline emb_alert only_alert(emb_alerts *a)
{
    static emb_arena arena;
    static bool used;
    emb_alert *list;
    size_t count;
    emb_error err;
    if (used)
        emb_arena_fini(&arena);
    used = true;
    emb_arena_init(&arena);
    assert_int_equal(emb_alerts_list(a, &arena, &list, &count, &err), EMB_OK);
    assert_true(count <= 1);
    return count ? list[0]
                 : (emb_alert){.name = "", .subject = "", .summary = "", .state = EMB_ALERT_INACTIVE};
}

#endif
