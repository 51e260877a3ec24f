/*
 * families_test.c: the routes of the embedder service, model servers, the hybrid system and the system,
 * against a fake exchange and a real service with a small model: each allocation of each kind of request
 * fails in turn, the answer is whole or 503 and nothing is kept; what no client of tests/api can bring about
 * (no worker is free, draining).
 */
#include "support/api/fake.h"
#include "support/fail_alloc.h"

#include "api/call.h"

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
static fake_answer answer;

static int set_up(void **state)
{
    (void)state;
    static char *environment[] = {"EMBEDD_MODELS=" EMB_TEST_DATA "/models",
                                  "LOCAL_EMBEDDING_MODEL=bert",
                                  "EMBEDD_CACHE_URL=none",
                                  "HF_HOME=/nonexistent",
                                  "EMBEDD_DATA_DIR=/dev/null/none",
                                  "EMBEDD_THREADS=1",
                                  NULL};
    emb_config_sources sources = {.environment = environment};
    emb_error err;
    if (emb_config_load(&sources, &config, &err) || emb_metrics_open(&metrics, &err) ||
        emb_service_open(config, metrics, &service, &err) || emb_access_open(config, &access_, &err) ||
        emb_api_open(service, access_, &api, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    memset(&fake, 0, sizeof fake);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fake_answer_fini(&answer);
    emb_api_close(api);
    emb_access_close(access_);
    emb_service_close(service);
    emb_metrics_close(metrics);
    emb_config_release(config);
    return 0;
}

static int ask(const char *method, const char *path, const char *headers, const char *body)
{
    fake_answer_fini(&answer);
    memset(&answer, 0, sizeof answer);
    fake_ask(api, method, path, headers, body, body ? strlen(body) : 0, &answer);
    return answer.status;
}

static void assert_says(const char *part)
{
    if (!answer.body.data || !strstr(answer.body.data, part))
        fail_msg("no \"%s\" in %s", part, answer.body.data ? answer.body.data : "nothing");
}

static const struct {
    const char *method, *path, *headers, *body;
    int status;
} requests[] = {
    {"POST", "/embed/text", NULL, "{\"text\":\"one\",\"use_cache\":false}", 200},
    {"POST", "/embed/query", NULL, "{\"query\":\"one\",\"dimensions\":4,\"category\":\"c\"}", 200},
    {"POST", "/embed/batch", NULL, "{\"texts\":[\"a\",\" \",\"b\"],\"skip_empty\":true,\"model\":\"bert\"}",
     200},
    {"POST", "/embed/batch", NULL, "{\"texts\":[\"a\",\" \"]}", 400},
    {"GET", "/embed/models?goal=speed", NULL, NULL, 200},
    {"GET", "/embed/models?goal=none", NULL, NULL, 422},
    {"GET", "/embed/metrics", NULL, NULL, 200},
    {"POST", "/embed/metrics/reset", NULL, NULL, 200},
    {"GET", "/embed/health", NULL, NULL, 200},
    {"POST", "/embed", NULL, "{\"texts\":[\"a\",\"b\"],\"batch_size\":3}", 200},
    {"POST", "/embed", NULL, "{\"inputs\":[[2,3],[4]],\"truncation_direction\":\"Left\"}", 200},
    {"POST", "/embed_all", NULL, "{\"inputs\":[\"a\",\"b c\"]}", 200},
    {"POST", "/embed_all", NULL, "{\"inputs\":[[2,3],[4]]}", 200},
    {"POST", "/embed_sparse", NULL, "{\"inputs\":\"a\"}", 424},
    {"POST", "/rerank", NULL, "{\"query\":\"q\",\"texts\":[\"a\"]}", 424},
    {"POST", "/predict", NULL, "{\"inputs\":[\"a\",[\"b\",\"c\"]]}", 424},
    {"POST", "/similarity", NULL, "{\"inputs\":{\"source_sentence\":\"a\",\"sentences\":[\"b\",\"c\"]}}",
     200},
    {"POST", "/", NULL, "{\"inputs\":\"a\",\"parameters\":{\"truncate\":true}}", 200},
    {"POST", "/models/bert/pipeline/feature-extraction", NULL, "{\"inputs\":\"a\"}", 200},
    {"POST", "/pipeline/sentence-similarity/bert", NULL,
     "{\"inputs\":{\"source_sentence\":\"a\",\"sentences\":[\"b\"]}}", 200},
    {"POST", "/tokenize", NULL, "{\"inputs\":[\"a b\",\"c\"]}", 200},
    {"POST", "/decode", NULL, "{\"ids\":[[2,3],[4]],\"skip_special_tokens\":false}", 200},
    {"GET", "/info", NULL, NULL, 200},
    {"GET", "/health", NULL, NULL, 200},
    {"GET", "/metrics", "authorization: Bearer x", NULL, 200},
    {"POST", "/api/v1/embeddings", NULL, "{\"texts\":[\"a\",\"b\"],\"context\":\"sensitive\"}", 200},
    {"POST", "/api/v1/embeddings", NULL, "{\"texts\":[\"a\"],\"space\":\"local/bert@0:8:mean:l2\"}", 409},
    {"POST", "/api/v1/embeddings/compare", NULL, "{\"a\":\"x\",\"b\":\"y\"}", 200},
    {"POST", "/api/v1/embeddings/pii", NULL,
     "{\"texts\":[\"ann@example.com\",\"\"],\"kinds\":[\"email\",\"phone\"]}", 200},
    {"POST", "/api/v1/embeddings/pii", NULL, "{\"texts\":\"10.1.2.3\"}", 200},
    {"POST", "/api/v1/embeddings/pii", NULL, "{\"texts\":[\"a\"],\"kinds\":[\"telepathy\"]}", 422},
    {"POST", "/api/v1/embeddings/pii", NULL, "{\"texts\":[\"a\"],\"kinds\":[]}", 422},
    {"GET", "/api/v1/embeddings/health", NULL, NULL, 200},
    {"GET", "/api/v1/embeddings/metrics", NULL, NULL, 200},
    {"GET", "/api/v1/embeddings/cache", NULL, NULL, 200},
    {"DELETE", "/api/v1/embeddings/cache?model=bert", NULL, NULL, 200},
    {"POST", "/api/v1/embeddings/cache/warm", NULL, "{\"texts\":[\"w1\",\"w2\"],\"input_type\":\"query\"}",
     200},
    {"POST", "/api/v1/embeddings/cache/warm", "accept: text/event-stream", "{\"texts\":[\"w1\",\"w2\"]}",
     200},
};
enum { REQUESTS = sizeof requests / sizeof *requests };

static int ask_number(size_t i)
{
    return ask(requests[i].method, requests[i].path, requests[i].headers, requests[i].body);
}

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < REQUESTS; i++)
        if (ask_number(i) != requests[i].status)
            fail_msg("%s %s: %d %s", requests[i].method, requests[i].path, answer.status, answer.body.data);
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

/* The answer is what it should be, or says that memory is short; a stream may tell so in its last event. What
 * cannot be counted (a series of metrics, an entry of the cache) is no failure. */
static void fail_each_allocation(size_t i)
{
    fake.begin = arm;
    fake.end = disarm;
    for (nth = 1;; nth++) {
        failed = false;
        int status = ask_number(i);
        if (status != requests[i].status && status != 503)
            fail_msg("%s %s: allocation %zu: %d %s", requests[i].method, requests[i].path, nth, status,
                     answer.body.data ? answer.body.data : "");
        if (!failed)
            break;
    }
    fake.begin = fake.end = NULL;
    assert_true(nth > 2); /* there were some */
    assert_int_equal(ask_number(i), requests[i].status);
}

static void test_no_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    for (size_t i = 0; i < REQUESTS; i++) {
        fail_each_allocation(i);
        fake_answer_fini(&answer);
        size_t live = fail_alloc_live(); /* what caches keep is there now: nothing more from here on */
        for (int round = 0; round < 3; round++)
            ask_number(i);
        fake_answer_fini(&answer);
        if (fail_alloc_live() > live)
            fail_msg("%s %s: %zu pieces of memory are left each time", requests[i].method, requests[i].path,
                     (fail_alloc_live() - live) / 3);
    }
}

/* What watches the service is answered when all workers are busy; the others are told to come again. */
static void test_no_worker(void **state)
{
    (void)state;
    fake.no_workers = true;
    static const char *const watched[] = {"/health", "/embed/health", "/embed/metrics", "/metrics",
                                          "/api/v1/embeddings/health"};
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        assert_int_equal(ask("GET", watched[i], NULL, NULL), 200);
    static const char *const refused[] = {"/info", "/embed/models", "/api/v1/embeddings/cache",
                                          "/api/v1/embeddings/metrics"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(ask("GET", refused[i], NULL, NULL), 429);
        assert_non_null(fake_header(&answer, "retry-after"));
    }
    assert_int_equal(ask("POST", "/tokenize", NULL, "{\"inputs\":\"a\"}"), 429);
    assert_says("\"error_type\":\"Overloaded\"");
    assert_int_equal(ask("POST", "/embed/text", NULL, "{\"text\":\"new\"}"), 429);
    assert_says("{\"detail\":\"");
    fake.no_workers = false;
}

static void test_ready(void **state)
{
    (void)state;
    emb_error err;
    assert_int_equal(ask("GET", "/ready", NULL, NULL), 503);
    assert_says("\"status\":\"starting\"");
    assert_int_equal(ask("GET", "/api/v1/embeddings/health", NULL, NULL), 200);
    assert_says("\"status\":\"starting\"");
    assert_int_equal(emb_service_warm_up(service, NULL, &err), EMB_OK);
    assert_int_equal(ask("GET", "/ready", NULL, NULL), 200);
    emb_api_set_draining(api, true);
    assert_int_equal(ask("GET", "/ready", NULL, NULL), 503);
    assert_says("\"status\":\"draining\"");
    assert_says("\"error_type\":\"Unhealthy\"");
    assert_string_equal(fake_header(&answer, "retry-after"), "1");
    assert_int_equal(ask("GET", "/health", NULL, NULL), 200);
    emb_api_set_draining(api, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_no_worker),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
