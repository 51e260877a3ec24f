/*
 * families_rights_test.c: every route with every kind of key. What a route needs stands here once more, so
 * that a route that is added, or whose right is changed, fails until somebody has thought about it.
 */
#include "support/api/fake.h"

#include "api/route.h"
#include "crypto/crypto.h"
#include "service/service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define H "/api/v1/embeddings"
enum { U = EMB_RIGHT_USE, R = EMB_RIGHT_READ, A = EMB_RIGHT_ADMIN, ANY = EMB_RIGHT_ANY };

static const struct {
    const char *method, *path;
    unsigned rights;
    bool open;
} expected[] = {
    {"POST", "/v1/embeddings", U, false},
    {"GET", "/v1/models", U | R, false},
    {"GET", "/v1/models/{id...}", U | R, false},
    {"POST", "/openai/deployments/{model}/embeddings", U, false},
    {"POST", "/v1/embed", U, false},
    {"POST", "/v2/embed", U, false},
    {"POST", "/v1/rerank", U, false},
    {"POST", "/v2/rerank", U, false},
    {"POST", "/api/embed", U, false},
    {"POST", "/api/embeddings", U, false},
    {"GET", "/api/tags", U | R, false},
    {"GET", "/api/version", ANY, true},
    {"POST", "/api/show", U | R, false},
    {"POST", "/embed/text", U, false},
    {"POST", "/embed/batch", U, false},
    {"POST", "/embed/query", U, false},
    {"GET", "/embed/models", U | R, false},
    {"GET", "/embed/metrics", R, false},
    {"POST", "/embed/metrics/reset", A, false},
    {"GET", "/embed/health", ANY, false},
    {"POST", "/embed", U, false},
    {"POST", "/embed_all", U, false},
    {"POST", "/embed_sparse", U, false},
    {"POST", "/rerank", U, false},
    {"POST", "/predict", U, false},
    {"GET", "/info", U | R, false},
    {"POST", "/similarity", U, false},
    {"POST", "/", U, false},
    {"POST", "/models/{model...}", U, false},
    {"POST", "/hf-inference/models/{model...}", U, false},
    {"POST", "/pipeline/{task}/{model...}", U, false},
    {"POST", "/tokenize", U, false},
    {"POST", "/decode", U, false},
    {"POST", H, U, false},
    {"POST", H "/compare", U, false},
    {"GET", H "/health", ANY, false},
    {"GET", H "/metrics", R, false},
    {"GET", H "/cache", R, false},
    {"DELETE", H "/cache", A, false},
    {"POST", H "/cache/warm", A, false},
    {"POST", H "/route", U, false},
    {"GET", H "/costs", U | R, false},
    {"GET", H "/costs/projection", R, false},
    {"GET", H "/costs/alerts", R, false},
    {"GET", H "/shadow", R, false},
    {"DELETE", H "/shadow", A, false},
    {"GET", H "/production-readiness", R, false},
    {"GET", H "/alerts", R, false},
    {"GET", H "/rollout", R, false},
    {"POST", H "/rollout", A, false},
    {"POST", H "/pii", U, false},
    {"GET", "/health", ANY, false},
    {"GET", "/ready", ANY, false},
    {"GET", "/metrics", R, false},
    {"GET", "/openapi.json", ANY, true},
    {"GET", "/docs", ANY, true},
    {"GET", "/", ANY, true},
};
enum { EXPECTED = sizeof expected / sizeof *expected };

static const struct {
    const char *key;
    unsigned rights;
} keys[] = {{"use", U}, {"read", R}, {"both", U | R}, {"admin", ANY}, {"plain", ANY}, {"unsaid", U}};
enum { KEYS = sizeof keys / sizeof *keys };

static char folder[] = "/tmp/embedd-rights-XXXXXX";
static emb_config *config;
static emb_metrics *metrics;
static emb_service *service;
static emb_access *access_;
static emb_api *api;
static fake_answer answer;

static void file_in(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s/%s", folder, name);
}

static void add_key(FILE *f, const char *name, const char *rights)
{
    uint8_t digest[EMB_SHA256_BYTES];
    char hex[2 * EMB_SHA256_BYTES + 1];
    assert_true(emb_sha256(name, strlen(name), digest));
    emb_hex(digest, sizeof digest, hex);
    fprintf(f, "  - {name: %s, sha256: %s%s%s}\n", name, hex, *rights ? ", rights: " : "", rights);
}

static void write_keys(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("keys:\n", f);
    add_key(f, "use", "use");
    add_key(f, "read", "[read]");
    add_key(f, "both", "[read, use]");
    add_key(f, "admin", "admin");
    add_key(f, "unsaid", "");
    assert_int_equal(fclose(f), 0);
}

static int set_up(void **state)
{
    (void)state;
    static char keys_variable[96], store_variable[96];
    static char *environment[] = {"EMBEDD_MODELS=" EMB_TEST_DATA "/models",
                                  "LOCAL_EMBEDDING_MODEL=bert",
                                  "EMBEDD_CACHE_URL=none",
                                  "HF_HOME=/nonexistent",
                                  "EMBEDD_DATA_DIR=/dev/null/none",
                                  "EMBEDD_THREADS=1",
                                  "EMBEDD_API_KEYS=plain",
                                  "EMBEDD_OPEN_HEALTH=false",
                                  keys_variable,
                                  store_variable,
                                  NULL};
    char path[64];
    emb_config_sources sources = {.environment = environment};
    emb_error err = {0};
    if (!mkdtemp(folder))
        return -1;
    file_in(path, sizeof path, "keys.yaml");
    write_keys(path);
    snprintf(keys_variable, sizeof keys_variable, "EMBEDD_API_KEYS_FILE=%s", path);
    file_in(path, sizeof path, "store.db");
    snprintf(store_variable, sizeof store_variable, "EMBEDD_STORE_URL=sqlite:%s", path);
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
    static const char *const files[] = {"keys.yaml", "store.db", "store.db-wal", "store.db-shm"};
    char path[64];
    fake_answer_fini(&answer);
    emb_api_close(api);
    emb_access_close(access_);
    emb_service_close(service);
    emb_metrics_close(metrics);
    emb_config_release(config);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        file_in(path, sizeof path, files[i]);
        unlink(path);
    }
    rmdir(folder);
    return 0;
}

static int ask(const char *method, const char *path, const char *key)
{
    char header[64];
    const char *body = strcmp(method, "POST") == 0 ? "{}" : NULL;
    fake_answer_fini(&answer);
    memset(&answer, 0, sizeof answer);
    if (key)
        snprintf(header, sizeof header, "authorization: Bearer %s", key);
    fake_ask(api, method, path, key ? header : NULL, body, body ? 2 : 0, &answer);
    return answer.status;
}

/* "/v1/models/{id...}" as "/v1/models/x" */
static void fill_in(const char *pattern, char *out)
{
    while (*pattern) {
        if (*pattern != '{') {
            *out++ = *pattern++;
            continue;
        }
        *out++ = 'x';
        pattern = strchr(pattern, '}') + 1;
    }
    *out = 0;
}

static const char *method_name(unsigned methods)
{
    return methods == EMB_HTTP_GET ? "GET" : methods == EMB_HTTP_POST ? "POST" : "DELETE";
}

/* ---- tests ---- */

static size_t find_expected(const emb_route *route)
{
    for (size_t i = 0; i < EXPECTED; i++)
        if (strcmp(expected[i].path, route->path) == 0 &&
            strcmp(expected[i].method, method_name(route->methods)) == 0)
            return i;
    fail_msg("%s %s: which right does it need? Say so here, too.", method_name(route->methods), route->path);
    return 0;
}

static void every_route_declares_what_is_expected(void **state)
{
    (void)state;
    size_t count = 0;
    for (const emb_route *const *f = emb_route_families; *f; f++)
        for (const emb_route *r = *f; r->path; r++, count++) {
            assert_true(r->methods == EMB_HTTP_GET || r->methods == EMB_HTTP_POST ||
                        r->methods == EMB_HTTP_DELETE);
            size_t i = find_expected(r);
            if (r->rights != expected[i].rights || (r->auth == EMB_AUTH_OPEN) != expected[i].open)
                fail_msg("%s %s: rights %u, expected %u", expected[i].method, r->path, r->rights,
                         expected[i].rights);
        }
    assert_int_equal(count, EXPECTED);
}

/* The answer names the right in the family's form, and is counted apart from wrong keys. */
static void check_refusal(const char *method, const char *path, unsigned rights)
{
    char needed[EMB_RIGHTS_TEXT], words[96];
    emb_rights_text(rights, " or ", needed, sizeof needed);
    snprintf(words, sizeof words, "needs a key with the right %s; this one has ", needed);
    if (!strstr(answer.body.data, words))
        fail_msg("%s %s: %s", method, path, answer.body.data);
    assert_string_equal(answer.refused, "right");
    assert_string_equal(answer.type, "application/json");
}

static void every_route_with_every_key(void **state)
{
    (void)state;
    char path[128];
    for (size_t i = 0; i < EXPECTED; i++) {
        fill_in(expected[i].path, path);
        for (size_t k = 0; k < KEYS; k++) {
            int status = ask(expected[i].method, path, keys[k].key);
            bool refused = strcmp(answer.refused, "right") == 0;
            bool wanted = !expected[i].open && !(keys[k].rights & expected[i].rights);
            if (refused != wanted || refused != (status == 403))
                fail_msg("%s %s with the key %s: %d %s", expected[i].method, path, keys[k].key, status,
                         answer.body.data ? answer.body.data : "");
            if (refused)
                check_refusal(expected[i].method, path, expected[i].rights);
        }
        assert_int_equal(ask(expected[i].method, path, NULL) == 401, !expected[i].open);
        assert_int_equal(ask(expected[i].method, path, "wrong") == 401, !expected[i].open);
    }
}

static void assert_costs(const char *path, const char *key, const char *part, const char *not_part)
{
    if (ask("GET", path, key) != 200 || !strstr(answer.body.data, part) ||
        (not_part && strstr(answer.body.data, not_part)))
        fail_msg("%s with the key %s: %d %s", path, key, answer.status, answer.body.data);
}

static void a_key_sees_its_own_costs(void **state)
{
    (void)state;
    emb_ledger *ledger = emb_service_ledger(service);
    assert_non_null(ledger);
    static const char *const of[] = {"use", "both"};
    for (size_t i = 0; i < 2; i++)
        emb_ledger_add(ledger, &(emb_ledger_entry){.kind = EMB_LEDGER_API,
                                                   .provider = "openai",
                                                   .model = "m",
                                                   .key = of[i],
                                                   .category = "",
                                                   .calls = 1,
                                                   .texts = 1,
                                                   .tokens = 1,
                                                   .nusd = 1000000000 * (i + 1)});
    assert_costs(H "/costs?by=key", "use", "\"cost_usd\":1,", "both");
    assert_costs(H "/costs?by=key&key=use", "use", "\"cost_usd\":1,", "both");
    assert_costs(H "/costs?by=key", "both", "\"cost_usd\":3,", NULL);
    assert_costs(H "/costs?by=key", "unsaid", "\"rows\":[]", "cost_usd\":1");
    assert_costs(H "/costs?key=use", "read", "\"cost_usd\":1,", NULL);
    assert_int_equal(ask("GET", H "/costs?key=both", "use"), 403);
    assert_non_null(strstr(answer.body.data, "right read"));
    assert_string_equal(answer.refused, "right");
    assert_int_equal(ask("GET", H "/costs?key=", "use"), 403);
}

static void the_document_says_rights(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/openapi.json", NULL), 200);
    assert_non_null(strstr(answer.body.data, "\"x-embedd-rights\":[\"use\",\"read\"]"));
    assert_non_null(strstr(answer.body.data, "\"x-embedd-rights\":[\"admin\"]"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_declares_what_is_expected),
        cmocka_unit_test(every_route_with_every_key),
        cmocka_unit_test(a_key_sees_its_own_costs),
        cmocka_unit_test(the_document_says_rights),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
