/*
 * families_costs_test.c: the routes of costs against a fake exchange and a ledger in a file: reports,
 * projection, limits, what is refused, a service without a ledger, and each allocation failing in turn.
 */
#include "support/api/fake.h"
#include "support/fail_alloc.h"

#include "base/clock.h"
#include "service/service_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/embedd-costs-XXXXXX";
static emb_config *config;
static emb_metrics *metrics;
static emb_service *service;
static emb_access *access_;
static emb_api *api;
static emb_ledger *ledger, *own; /* own: the service's, if it has one */
static fake_answer answer;

static int64_t now_s(void)
{
    return 1795780800; /* 2026-11-27 12:00 UTC */
}

static void add(emb_ledger_kind kind, const char *provider, const char *category, uint64_t nusd,
                uint64_t saved)
{
    emb_ledger_add(ledger, &(emb_ledger_entry){.kind = kind,
                                               .provider = provider,
                                               .model = "m",
                                               .category = category,
                                               .calls = 1,
                                               .texts = 2,
                                               .tokens = 30,
                                               .nusd = nusd,
                                               .saved_nusd = saved});
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
                                  "EMBEDDING_DAILY_API_BUDGET_USD=2",
                                  "ALERT_MONTHLY_COST_WARNING_USD=1.5",
                                  NULL};
    emb_config_sources sources = {.environment = environment};
    emb_error err = {0};
    char url[64];
    if (!mkdtemp(folder))
        return -1;
    snprintf(url, sizeof url, "sqlite:%s/ledger.db", folder);
    const emb_ledger_options o = {.now_s = now_s};
    if (emb_config_load(&sources, &config, &err) || emb_metrics_open(&metrics, &err) ||
        emb_service_open(config, metrics, &service, &err) || emb_access_open(config, &access_, &err) ||
        emb_api_open(service, access_, &api, &err) || emb_ledger_open(url, &o, &ledger, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    own = service->kit.ledger;
    service->kit.ledger = ledger;
    memset(&fake, 0, sizeof fake);
    add(EMB_LEDGER_API, "openai", "faq", 1600000001, 0);
    add(EMB_LEDGER_API, "cohere", "docs", 5, 0);
    add(EMB_LEDGER_CACHE, "openai", "faq", 0, 240);
    add(EMB_LEDGER_LOCAL, "local", "", 0, 1000000000);
    return emb_ledger_flush(ledger, emb_now_ns() + UINT64_C(30000000000)) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char path[64];
    fake_answer_fini(&answer);
    service->kit.ledger = own;
    emb_ledger_close(ledger);
    emb_api_close(api);
    emb_access_close(access_);
    emb_service_close(service);
    emb_metrics_close(metrics);
    emb_config_release(config);
    snprintf(path, sizeof path, "%s/ledger.db", folder);
    unlink(path);
    rmdir(folder);
    return 0;
}

static int ask(const char *path)
{
    fake_answer_fini(&answer);
    memset(&answer, 0, sizeof answer);
    fake_ask(api, "GET", path, NULL, NULL, 0, &answer);
    return answer.status;
}

static void assert_answers(const char *path, const char *body)
{
    int status = ask(path);
    if (status != 200)
        fail_msg("%s: %d %s", path, status, answer.body.data ? answer.body.data : "");
    assert_string_equal(answer.body.data, body);
    assert_true(answer.parked);
}

#define TOTAL                                                                                               \
    "\"calls\":4,\"texts\":8,\"cached_texts\":2,\"local_texts\":2,\"tokens\":120,\"cost_usd\":1.600000006," \
    "\"saved_cache_usd\":0.00000024,\"saved_local_usd\":1}"

static void test_reports(void **state)
{
    (void)state;
    assert_answers("/api/v1/embeddings/costs",
                   "{\"from\":\"2026-11-27\",\"to\":\"2026-11-27\",\"timezone\":\"UTC\",\"by\":[\"day\"],"
                   "\"total\":{" TOTAL ",\"rows\":[{\"day\":\"2026-11-27\"," TOTAL "]}");
    assert_answers(
        "/api/v1/embeddings/costs?by=category,provider&category=faq&from=2026-11-01&to=today",
        "{\"from\":\"2026-11-01\",\"to\":\"2026-11-27\",\"timezone\":\"UTC\",\"by\":[\"category\","
        "\"provider\"],"
        "\"total\":{\"calls\":2,\"texts\":4,\"cached_texts\":2,\"local_texts\":0,\"tokens\":60,\"cost_usd\":"
        "1.600000001,"
        "\"saved_cache_usd\":0.00000024,\"saved_local_usd\":0},\"rows\":[{\"category\":\"faq\",\"provider\":"
        "\"openai\","
        "\"calls\":2,\"texts\":4,\"cached_texts\":2,\"local_texts\":0,\"tokens\":60,\"cost_usd\":1.600000001,"
        "\"saved_cache_usd\":0.00000024,\"saved_local_usd\":0}]}");
    assert_answers(
        "/api/v1/embeddings/costs?by=total",
        "{\"from\":\"2026-11-27\",\"to\":\"2026-11-27\",\"timezone\":\"UTC\",\"by\":[],\"total\":{" TOTAL
        ",\"rows\":[]}");
}

static void test_projection(void **state)
{
    (void)state;
    assert_answers("/api/v1/embeddings/costs/projection",
                   "{\"month\":\"2026-11\",\"spent_usd\":1.600000006,\"projected_usd\":6.400000024,\"low_"
                   "usd\":1.600000006,"
                   "\"high_usd\":11.422635906,\"days_left\":3,\"days_of_history\":0}");
}

static void test_limits(void **state)
{
    (void)state;
    assert_answers("/api/v1/embeddings/costs/alerts",
                   "{\"alerts\":[{\"name\":\"daily_api_budget\",\"level\":\"warning\",\"spent_usd\":1."
                   "600000006,\"limit_usd\":2,"
                   "\"share\":0.8},{\"name\":\"monthly_cost\",\"level\":\"warning\",\"spent_usd\":1."
                   "600000006,\"limit_usd\":1.5,"
                   "\"share\":1.066667}]}");
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"?by=colour", "by"},
        {"?by=day,", "by"},
        {"?by=day,key,model", "by"},
        {"?by=day,day", "by"},
        {"?from=yesterday", "from"},
        {"?to=2026-13-01", "to"},
        {"?from=2026-11-02&to=2026-11-01", "from"},
        {"?by=", "by"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char path[120];
        snprintf(path, sizeof path, "/api/v1/embeddings/costs%s", wrong[i][0]);
        assert_int_equal(ask(path), 422);
        if (!strstr(answer.body.data, wrong[i][1]))
            fail_msg("%s: %s", path, answer.body.data);
    }
    service->kit.ledger = NULL;
    static const char *const paths[] = {"", "/projection", "/alerts"};
    for (int i = 0; i < 3; i++) {
        char path[120];
        snprintf(path, sizeof path, "/api/v1/embeddings/costs%s", paths[i]);
        assert_int_equal(ask(path), 503);
        assert_non_null(strstr(answer.body.data, "no ledger"));
    }
    service->kit.ledger = ledger;
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

static void test_memory_is_short(void **state)
{
    (void)state;
    static const char *const paths[] = {"?by=day,category&provider=openai", "/projection", "/alerts"};
    if (!fail_alloc_available())
        skip();
    fake.begin = arm;
    fake.end = disarm;
    for (int i = 0; i < 3; i++) {
        char path[120];
        snprintf(path, sizeof path, "/api/v1/embeddings/costs%s", paths[i]);
        for (nth = 1, failed = true; failed; nth++) {
            failed = false;
            int status = ask(path);
            if (status != 200 && status != 503)
                fail_msg("%s: %d after %zu allocations: %s", path, status, nth,
                         answer.body.data ? answer.body.data : "");
        }
        assert_true(nth > 3);
        assert_int_equal(answer.status, 200);
    }
    fake.begin = fake.end = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reports), cmocka_unit_test(test_projection),      cmocka_unit_test(test_limits),
        cmocka_unit_test(test_refuses), cmocka_unit_test(test_memory_is_short),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
