/*
 * families_alerts_test.c: GET /api/v1/embeddings/alerts against a real service whose alerts are the test's
 * own: what fires, thresholds, no alerts at all, and each allocation that may fail.
 */
#include "support/api/fake.h"
#include "support/fail_alloc.h"

#include "api/call.h"
#include "service/service_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static emb_config *config;
static emb_metrics *metrics;
static emb_service *service;
static emb_access *access_;
static emb_api *api;
static emb_alerts *alerts, *its_own;
static fake_answer answer;

static int64_t noon(void)
{
    return 43200;
}

static int set_up(void **state)
{
    (void)state;
    static char *environment[] = {"EMBEDD_MODELS=" EMB_TEST_DATA "/models",
                                  "LOCAL_EMBEDDING_MODEL=bert",
                                  "EMBEDD_CACHE_URL=none",
                                  "HF_HOME=/nonexistent",
                                  "EMBEDD_DATA_DIR=/dev/null/none",
                                  "EMBEDD_THREADS=1",
                                  "ALERT_P95_LATENCY_WARNING=250",
                                  NULL};
    emb_config_sources sources = {.environment = environment};
    const emb_alerts_options options = {.thresholds = {.p95_warning_ms = 250, .p95_error_ms = 1000},
                                        .now_s = noon};
    emb_error err;
    if (emb_config_load(&sources, &config, &err) || emb_metrics_open(&metrics, &err) ||
        emb_service_open(config, metrics, &service, &err) || emb_access_open(config, &access_, &err) ||
        emb_api_open(service, access_, &api, &err) || emb_alerts_open(&options, &alerts, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    its_own = service->kit.alerts;
    service->kit.alerts = alerts;
    memset(&fake, 0, sizeof fake);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    service->kit.alerts = its_own;
    fake_answer_fini(&answer);
    emb_api_close(api);
    emb_access_close(access_);
    emb_service_close(service);
    emb_alerts_close(alerts);
    emb_metrics_close(metrics);
    emb_config_release(config);
    return 0;
}

static int ask(void)
{
    fake_answer_fini(&answer);
    memset(&answer, 0, sizeof answer);
    fake_ask(api, "GET", "/api/v1/embeddings/alerts", NULL, NULL, 0, &answer);
    return answer.status;
}

static void assert_says(const char *part)
{
    if (!answer.body.data || !strstr(answer.body.data, part))
        fail_msg("no \"%s\" in %s", part, answer.body.data ? answer.body.data : "nothing");
}

static void what_fires(void **state)
{
    (void)state;
    assert_int_equal(ask(), 200);
    assert_says("{\"alerts\":[],\"firing\":{\"critical\":0,\"error\":0,\"warning\":0},\"thresholds\":{"
                "\"p95_latency_warning_ms\":250,\"p95_latency_error_ms\":1000,\"cache_hit_warning\":0.7,");
    const emb_provider_signal sick = {"openai", false, false, "it answers 401"};
    emb_alert_signals s = {.requests = 10, .p95_ms = 300, .providers = &sick, .provider_count = 1};
    emb_alerts_evaluate(alerts, &s);
    assert_int_equal(ask(), 200);
    assert_says("{\"alerts\":[{\"name\":\"provider_unhealthy\",\"subject\":\"openai\",\"severity\":\"error\","
                "\"state\":"
                "\"firing\",\"value\":1,\"threshold\":1,\"summary\":\"openai is unhealthy: it answers 401\","
                "\"since\":\"1970-01-01T12:00:00Z\",\"fired\":\"1970-01-01T12:00:00Z\",\"resolved\":null},"
                "{\"name\":\"p95_latency\",");
    assert_says("\"firing\":{\"critical\":0,\"error\":1,\"warning\":1}");
}

static void no_alerts(void **state)
{
    (void)state;
    service->kit.alerts = NULL;
    assert_int_equal(ask(), 503);
    assert_says("hybrid.monitoring");
    service->kit.alerts = alerts;
}

static size_t nth;
static bool failed;

static void arm(void)
{
    fail_alloc_at(nth);
}

static void disarm(void)
{
    failed |= fail_alloc_stop();
}

static void short_of_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    fake.begin = arm;
    fake.end = disarm;
    for (nth = 1;; nth++) {
        failed = false;
        int status = ask();
        assert_true(status == 200 || (failed && status == 503));
        if (!failed)
            break;
    }
    fake.begin = fake.end = NULL;
    assert_true(nth > 2);
    ask();
    fake_answer_fini(&answer);
    size_t live = fail_alloc_live();
    for (int i = 0; i < 3; i++)
        ask();
    fake_answer_fini(&answer);
    assert_true(fail_alloc_live() <= live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fires),
        cmocka_unit_test(no_alerts),
        cmocka_unit_test(short_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
