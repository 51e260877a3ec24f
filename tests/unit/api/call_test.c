/* call_test.c: whole requests through the routes of OpenAI, Cohere and Ollama, against a fake exchange and
 * service. */
#include "support/api/fake.h"
#include "support/fail_alloc.h"

#include "api/route.h"
#include "base/base64.h"
#include "base/error.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* These tests are about the families above; the others need a whole service. */
const emb_route emb_routes_embedder[] = {{0}}, emb_routes_model_server[] = {{0}},
                emb_routes_similarity[] = {{0}}, emb_routes_tokens[] = {{0}}, emb_routes_hybrid[] = {{0}},
                emb_routes_hybrid_cache[] = {{0}}, emb_routes_explain[] = {{0}}, emb_routes_costs[] = {{0}},
                emb_routes_shadow[] = {{0}}, emb_routes_alerts[] = {{0}}, emb_routes_rollout[] = {{0}},
                emb_routes_pii[] = {{0}}, emb_routes_system[] = {{0}};

static emb_api *api;
static fake_answer answer;
static emb_json *document;

static int set_up(void **state)
{
    (void)state;
    emb_error err;
    fake_reset();
    return emb_api_open((emb_service *)&fake, (emb_access *)&fake, &api, &err) ? -1 : 0;
}

static void forget(void)
{
    emb_json_close(document);
    document = NULL;
    fake_answer_fini(&answer);
    memset(&answer, 0, sizeof answer);
}

static int tear_down(void **state)
{
    (void)state;
    forget();
    emb_api_close(api);
    return 0;
}

static int ask_with(const char *method, const char *path, const char *headers, const char *body)
{
    forget();
    fake_ask(api, method, path, headers, body, body ? strlen(body) : 0, &answer);
    assert_int_equal(fake.held, 0); /* all that the call held was given back */
    return answer.status;
}

static int ask(const char *path, const char *body)
{
    return ask_with(body ? "POST" : "GET", path, NULL, body);
}

/* The value at "data.0.index" of the answer. */
static emb_json_value at(const char *path)
{
    emb_error err;
    if (!document)
        assert_int_equal(emb_json_open(answer.body.data, answer.body.length, "answer", &document, &err),
                         EMB_OK);
    emb_json_value v = emb_json_root(document);
    char name[64];
    while (*path) {
        size_t n = strcspn(path, ".");
        memcpy(name, path, n);
        name[n] = 0;
        path += n + (path[n] == '.');
        if (emb_json_type_of(v) == EMB_JSON_ARRAY) {
            emb_json_iter it = emb_json_begin(v);
            for (int i = atoi(name); i >= 0; i--)
                assert_true(emb_json_next(&it, NULL, NULL, &v));
        } else if (!emb_json_get(v, name, &v)) {
            fail_msg("no %s in %.*s", name, (int)answer.body.length, answer.body.data);
        }
    }
    return v;
}

static void assert_text(const char *path, const char *want)
{
    const char *text = "";
    size_t length = 0;
    assert_true(emb_json_string(at(path), &text, &length));
    char *copy = strndup(text, length);
    assert_string_equal(copy, want);
    free(copy);
}

static void assert_contains(const char *part)
{
    if (!memmem(answer.body.data, answer.body.length, part, strlen(part)))
        fail_msg("no \"%s\" in %.*s", part, (int)answer.body.length, answer.body.data);
}

static int64_t integer(const char *path)
{
    int64_t v = -1;
    assert_true(emb_json_int(at(path), &v));
    return v;
}

static void check_floats(const char *path, const char *text, size_t count)
{
    emb_json_value v;
    emb_json_iter it = emb_json_begin(at(path));
    for (size_t j = 0; j < count; j++) {
        double got;
        assert_true(emb_json_next(&it, NULL, NULL, &v) && emb_json_double(v, &got));
        assert_true((float)got == fake_component(text, strlen(text), j));
    }
    assert_false(emb_json_next(&it, NULL, NULL, &v));
}

/* ---- OpenAI ---- */

static void test_embeddings(void **state)
{
    (void)state;
    assert_int_equal(ask("/v1/embeddings", "{\"model\":\"m\",\"input\":[\"one\",\"two\",\"one\"]}"), 200);
    assert_true(answer.parked);
    assert_string_equal(answer.type, "application/json");
    assert_string_equal(answer.route, "/v1/embeddings");
    assert_text("object", "list");
    check_floats("data.0.embedding", "one", 4);
    check_floats("data.1.embedding", "two", 4);
    check_floats("data.2.embedding", "one", 4);
    assert_int_equal(integer("data.2.index"), 2);
    assert_text("data.2.object", "embedding");
    assert_text("model", "fake-model");
    assert_int_equal(integer("usage.prompt_tokens"), 7);
    assert_int_equal(integer("usage.total_tokens"), 7);
    assert_string_equal(fake.seen_model, "m");
    assert_string_equal(fake_header(&answer, "x-embedd-provider"), "local");
    assert_string_equal(fake_header(&answer, "x-embedd-space"), "local/fake");
    assert_string_equal(fake_header(&answer, "x-embedd-tokens"), "7");
    assert_string_equal(fake_header(&answer, "x-embedd-cached"), "0");
    assert_string_equal(fake_header(&answer, "x-embedd-cost-usd"), "0");
    assert_non_null(strstr(fake_header(&answer, "server-timing"), "compute;dur=1.235"));
    assert_null(fake_header(&answer, "x-compute-time"));
}

static void test_base64(void **state)
{
    (void)state;
    assert_int_equal(ask("/v1/embeddings",
                         "{\"input\":\"one\",\"encoding_format\":\"base64\",\"dimensions\":3,\"user\":null}"),
                     200);
    const char *text;
    size_t length, bytes;
    float v[8];
    assert_true(emb_json_string(at("data.0.embedding"), &text, &length));
    assert_true(emb_base64_decode(text, length, v, &bytes));
    assert_int_equal(bytes, 12);
    for (size_t j = 0; j < 3; j++)
        assert_true(v[j] == fake_component("one", 3, j));
}

static void test_ids(void **state)
{
    (void)state;
    assert_int_equal(ask("/v1/embeddings", "{\"input\":[101,7592,102]}"), 200);
    assert_int_equal(fake.seen.count, 1);
    assert_null(fake.seen.texts);
    const int32_t ids[] = {101, 7592, 102};
    double got;
    assert_true(emb_json_double(at("data.0.embedding.0"), &got));
    assert_true((float)got == fake_component((const char *)ids, sizeof ids, 0));
    assert_int_equal(ask("/v1/embeddings", "{\"input\":[[101,102],[101,7592,102]]}"), 200);
    assert_int_equal(fake.seen.count, 2);
    assert_true(emb_json_double(at("data.1.embedding.0"), &got));
    assert_true((float)got == fake_component((const char *)ids, sizeof ids, 0));
}

static void test_in_place(void **state)
{
    (void)state;
    fake.cached = true;
    assert_int_equal(ask("/v1/embeddings", "{\"input\":[\"one\",\"two\"]}"), 200);
    assert_false(answer.parked);
    assert_string_equal(fake_header(&answer, "x-embedd-cached"), "2");
    assert_int_equal(fake.embeds, 0);
    /* no-cache asks for a computation */
    assert_int_equal(ask_with("POST", "/v1/embeddings", "cache-control: no-cache", "{\"input\":\"one\"}"),
                     200);
    assert_true(answer.parked);
    assert_int_equal(fake.embeds, 1);
    assert_false(fake.seen.cache_read);
    assert_true(fake.seen.cache_write);
}

static void test_members(void **state)
{
    (void)state;
    assert_int_equal(
        ask_with("POST", "/v1/embeddings", "cache-control: max-age=60, no-store\nx-embedd-category: news",
                 "{\"input\":\"a\",\"prompt_name\":\"p\",\"input_type\":\"query\",\"normalize\":false,"
                 "\"truncate\":\"start\",\"context\":\"sensitive\",\"user\":\"u\",\"unknown\":{}}"),
        200);
    assert_int_equal(fake.seen.role, EMB_ROLE_QUERY);
    assert_string_equal(fake.seen_prompt, "p");
    assert_int_equal(fake.seen.normalize, EMB_OFF);
    assert_int_equal(fake.seen.truncation, EMB_TRUNCATE_LEFT);
    assert_true(fake.seen.is_private);
    assert_int_equal(fake.seen.cache_max_age_s, 60);
    assert_false(fake.seen.cache_write);
    assert_true(fake.seen.cache_read);
    assert_true(fake.seen.deadline_ns > 0);
    assert_int_equal(ask("/v1/embeddings",
                         "{\"input\":\"a\",\"truncate\":false,\"model\":null,\"dimensions\":null,"
                         "\"encoding_format\":null,\"normalize\":null,\"input_type\":null}"),
                     200);
    assert_int_equal(fake.seen.truncation, EMB_TRUNCATE_NONE);
    assert_int_equal(fake.seen.normalize, EMB_DEFAULT);
    assert_int_equal(fake.seen.role, EMB_ROLE_NONE);
    assert_int_equal(ask_with("POST", "/v1/embeddings", "x-embedd-context: batch", "{\"input\":\"a\"}"), 200);
    assert_int_equal(fake.seen.priority, EMB_PRIORITY_BULK);
    /* of members that occur twice the first counts */
    assert_int_equal(ask("/v1/embeddings", "{\"input\":\"first\",\"input\":\"second\"}"), 200);
    assert_string_equal(fake.seen_first, "first");
}

/* Each is refused with a status, a parameter and a sentence; none is computed. */
static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int status;
        const char *param, *says;
    } cases[] = {
        {"", 400, NULL, "empty"},
        {"{", 400, NULL, "not valid JSON"},
        {"{\"input\":\"a\"} x", 400, NULL, "not valid JSON"},
        {"[\"a\"]", 400, NULL, "must be a JSON object; it is an array"},
        {"null", 400, NULL, "must be a JSON object"},
        {"{\"input\":\"\xff\"}", 400, NULL, "not valid JSON"},
        {"{\"input\":\"\\ud800\"}", 400, NULL, "not valid JSON"},
        {"{\"input\":NaN}", 400, NULL, "not valid JSON"},
        {"{}", 400, "input", "needed"},
        {"{\"input\":null}", 400, "input", "needed"},
        {"{\"input\":{}}", 400, "input", "it is an object"},
        {"{\"input\":true}", 400, "input", "it is a boolean"},
        {"{\"input\":\"\"}", 400, "input", "empty"},
        {"{\"input\":[]}", 400, "input", "empty array"},
        {"{\"input\":[\"a\",\"\",\"b\",\"\"]}", 400, "input[1]", "at index 1, 3"},
        {"{\"input\":[\"a\",1]}", 400, "input[1]", "must be a string; it is a number"},
        {"{\"input\":[\"a\",null]}", 400, "input[1]", "must be a string; it is null"},
        {"{\"input\":[1,\"a\"]}", 400, "input[1]", "must be a token id"},
        {"{\"input\":[1,-1]}", 400, "input[1]", "it is -1"},
        {"{\"input\":[1.5]}", 400, "input[0]", "it is 1.5"},
        {"{\"input\":[99999999999999999999999999]}", 400, "input[0]", "token id"},
        {"{\"input\":[[1],[]]}", 400, "input[1]", "empty array"},
        {"{\"input\":[[1],2]}", 400, "input[1]", "it is a number"},
        {"{\"input\":[[1],[[2]]]}", 400, "input[1][0]", "it is an array"},
        {"{\"input\":\"a\\u0000b\"}", 400, "input", "NUL byte at byte 1"},
        {"{\"input\":[\"a\",\"\\u0000\"]}", 400, "input[1]", "NUL byte"},
        {"{\"input\":\"a\",\"model\":1}", 400, "model", "must be a string"},
        {"{\"input\":\"a\",\"model\":\"a\\u0000\"}", 400, "model", "NUL"},
        {"{\"input\":\"a\",\"dimensions\":0}", 400, "dimensions", "from 1 to 65536"},
        {"{\"input\":\"a\",\"dimensions\":-5}", 400, "dimensions", "it is -5"},
        {"{\"input\":\"a\",\"dimensions\":1.5}", 400, "dimensions", "must be an integer"},
        {"{\"input\":\"a\",\"dimensions\":1e300}", 400, "dimensions", "must be an integer"},
        {"{\"input\":\"a\",\"dimensions\":18446744073709551616}", 400, "dimensions", "dimensions"},
        {"{\"input\":\"a\",\"dimensions\":\"4\"}", 400, "dimensions", "it is a string"},
        {"{\"input\":\"a\",\"dimensions\":[4]}", 400, "dimensions", "it is an array"},
        {"{\"input\":\"a\",\"dimensions\":5}", 400, "dimensions", "the model has 4"},
        {"{\"input\":\"a\",\"encoding_format\":\"hex\"}", 400, "encoding_format", "none of float|base64"},
        {"{\"input\":\"a\",\"encoding_format\":\"\"}", 400, "encoding_format", "none of float|base64"},
        {"{\"input\":\"a\",\"truncate\":\"middle\"}", 400, "truncate", "middle"},
        {"{\"input\":\"a\",\"truncate\":1}", 400, "truncate", "it is a number"},
        {"{\"input\":\"a\",\"normalize\":\"yes\"}", 400, "normalize", "true or false"},
        {"{\"input\":\"a\",\"context\":\"secret\"}", 400, "context", "not a context"},
        {"{\"input\":\"a\",\"preferred_provider\":1}", 400, "preferred_provider", "must be a string"},
        {"{\"input\":\"a\",\"user\":1}", 400, "user", "must be a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = ask("/v1/embeddings", cases[i].body);
        if (status != cases[i].status)
            fail_msg("%s: %d %s", cases[i].body, status, answer.body.data);
        assert_contains(cases[i].says);
        if (cases[i].param)
            assert_text("error.param", cases[i].param);
        else
            assert_int_equal(emb_json_type_of(at("error.param")), EMB_JSON_NULL);
        assert_text("error.type", "invalid_request_error");
    }
    assert_int_equal(fake.embeds, 1); /* "the model has 4" */
}

static void test_deep(void **state)
{
    (void)state;
    size_t depth = 5000;
    char *body = malloc(2 * depth + 32);
    assert_non_null(body);
    strcpy(body, "{\"input\":");
    memset(body + 9, '[', depth);
    memset(body + 9 + depth, ']', depth);
    strcpy(body + 9 + 2 * depth, "}");
    assert_int_equal(ask("/v1/embeddings", body), 400);
    assert_contains("not valid JSON");
    free(body);
}

static void test_limits(void **state)
{
    (void)state;
    fake.max_inputs = 2;
    assert_int_equal(ask("/v1/embeddings", "{\"input\":[\"a\",\"b\",\"c\"]}"), 413);
    assert_contains("server.max_inputs");
    assert_text("error.code", "too_many_inputs");
    assert_string_equal(answer.refused, "too_large");
    assert_int_equal(ask("/v1/embeddings", "{\"input\":[[1],[2],[3]]}"), 413);
    assert_int_equal(ask("/v1/embeddings", "{\"input\":[1,2,3]}"), 200); /* one text of three tokens */
    fake.no_workers = true;
    assert_int_equal(ask("/v1/embeddings", "{\"input\":\"a\"}"), 429);
    assert_string_equal(fake_header(&answer, "retry-after"), "1");
    assert_string_equal(answer.refused, "overload");
    assert_text("error.code", "overloaded");
    /* a large body is decoded by a worker, or not at all */
    fake.no_workers = false;
    char *body = malloc(400000);
    assert_non_null(body);
    memset(body, ' ', 400000);
    memcpy(body, "{\"input\":\"a\"}", 13);
    fake.cached = true;
    fake_ask(api, "POST", "/v1/embeddings", NULL, body, 400000, (forget(), &answer));
    assert_int_equal(answer.status, 200);
    assert_true(answer.parked);
    fake.no_workers = true;
    fake_ask(api, "POST", "/v1/embeddings", NULL, body, 400000, (forget(), &answer));
    assert_int_equal(answer.status, 429);
    assert_int_equal(fake.held, 0);
    free(body);
}

static void test_failures(void **state)
{
    (void)state;
    static const struct {
        emb_status code;
        const char *where;
        int status;
        const char *name, *param;
    } cases[] = {
        {EMB_E_NOT_FOUND, "model", 404, "model_not_found", "model"},
        {EMB_E_UNSUPPORTED, "model", 404, "model_not_found", "model"},
        {EMB_E_LIMIT, "input[3]", 400, "context_length_exceeded", "input[3]"},
        {EMB_E_LIMIT, "input", 413, "too_many_inputs", "input"},
        {EMB_E_INVALID, "prompt_name", 400, "invalid_value", "prompt_name"},
        {EMB_E_BUSY, "", 429, "overloaded", NULL},
        {EMB_E_DEADLINE, "", 504, "timeout", NULL},
        {EMB_E_CANCELLED, "", 499, "cancelled", NULL},
        {EMB_E_NOMEM, "", 503, "out_of_memory", NULL},
        {EMB_E_CORRUPT, "/x/model.safetensors", 503, "model_unusable", "/x/model.safetensors"},
        {EMB_E_INTERNAL, "", 500, "internal_error", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_fail(&fake.fail, cases[i].code, cases[i].where, "it is \"so\"");
        assert_int_equal(ask("/v1/embeddings", "{\"input\":\"a\"}"), cases[i].status);
        assert_text("error.code", cases[i].name);
        assert_text("error.message", "it is \"so\"");
        if (cases[i].param)
            assert_text("error.param", cases[i].param);
        assert_int_equal(fake_header(&answer, "retry-after") != NULL, cases[i].status == 429);
    }
    memset(&fake.fail, 0, sizeof fake.fail);
    fake.not_finite = true; /* never written, in no encoding */
    assert_int_equal(ask("/v1/embeddings", "{\"input\":\"a\"}"), 500);
    assert_int_equal(ask("/v1/embeddings", "{\"input\":\"a\",\"encoding_format\":\"base64\"}"), 500);
    assert_int_equal(
        ask("/v2/embed",
            "{\"texts\":[\"a\"],\"input_type\":\"search_query\",\"embedding_types\":[\"binary\"]}"),
        500);
}

static void test_content_types(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        int status;
    } cases[] = {
        {"content-type: application/json", 200},
        {"content-type: Application/JSON; charset=UTF-8", 200},
        {"content-type: text/plain", 200},
        {"content-type: application/x-www-form-urlencoded", 200},
        {"content-type: application/vnd.api+json", 200},
        {"content-type: ", 200},
        {"content-encoding: identity", 200},
        {"content-type: application/json; charset=utf-16", 415},
        {"content-type: application/json;charset=\"latin1\"", 415},
        {"content-type: multipart/form-data; boundary=x", 415},
        {"content-type: application/octet-stream", 415},
        {"content-type: application/jsonp", 415},
        {"content-encoding: gzip", 415},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (ask_with("POST", "/v1/embeddings", cases[i].header, "{\"input\":\"a\"}") != cases[i].status)
            fail_msg("%s: %d", cases[i].header, answer.status);
        if (cases[i].status == 415)
            assert_text("error.code", "unsupported_media_type");
    }
}

static void test_routes(void **state)
{
    (void)state;
    assert_int_equal(ask("/v1/embedings", "{}"), 404);
    assert_contains("/v1/embeddings");
    assert_text("error.code", "route_not_found");
    assert_int_equal(ask("/api/embedd", "{}"), 404);
    assert_text("error", "There is no route /api/embedd; near it are /api/embed, /v2/embed, /v1/embed. "
                         "/openapi.json lists all.");
    assert_int_equal(ask("/v1/embeddings", NULL), 405);
    assert_string_equal(fake_header(&answer, "allow"), "POST");
    assert_text("error.code", "method_not_allowed");
    assert_int_equal(ask_with("POST", "/v1/models", NULL, ""), 405);
    assert_string_equal(fake_header(&answer, "allow"), "GET, HEAD");
    assert_int_equal(ask_with("OPTIONS", "/v1/models", NULL, ""), 204);
    assert_string_equal(fake_header(&answer, "allow"), "GET, HEAD");
    assert_int_equal(ask("/v1/embeddings/", "{\"input\":\"a\"}"), 200);
    assert_int_equal(ask("/", NULL), 200);
    assert_string_equal(answer.type, "text/html; charset=utf-8");
    assert_int_equal(ask("/docs", NULL), 200);
    assert_contains("<html");
    assert_int_equal(ask_with("HEAD", "/docs", NULL, ""), 200);
}

static void test_azure(void **state)
{
    (void)state;
    assert_int_equal(ask_with("POST", "/openai/deployments/org/embeddings?api-version=2024-10-21",
                              "api-key: x", "{\"input\":\"a\",\"model\":\"other\"}"),
                     200);
    assert_string_equal(fake.seen_model, "org");
    assert_int_equal(ask("/openai/deployments//embeddings", "{\"input\":\"a\"}"), 404);
}

static void test_models(void **state)
{
    (void)state;
    assert_int_equal(ask("/v1/models", NULL), 200);
    assert_text("data.0.id", "fake-model");
    assert_text("data.0.owned_by", "org");
    assert_text("data.1.id", "other/m");
    assert_int_equal(ask("/v1/models/other/m", NULL), 200);
    assert_text("id", "other/m");
    assert_int_equal(ask("/v1/models/org/fake-model", NULL), 200);
    assert_text("id", "fake-model");
    assert_int_equal(ask("/v1/models/nothing", NULL), 404);
    assert_text("error.code", "model_not_found");
}

static void test_keys(void **state)
{
    (void)state;
    static const char body[] = "{\"input\":\"a\",\"model\":\"fake-model\"}";
    fake.key = "secret";
    assert_int_equal(ask("/v1/embeddings", body), 401);
    assert_string_equal(fake_header(&answer, "www-authenticate"), "Bearer realm=\"embedd\"");
    assert_text("error.code", "missing_api_key");
    assert_int_equal(ask_with("POST", "/v1/embeddings", "authorization: Bearer wrong", body), 401);
    assert_text("error.code", "invalid_api_key");
    assert_null(memmem(answer.body.data, answer.body.length, "wrong", 5));
    assert_int_equal(ask_with("POST", "/v1/embeddings", "authorization: Bearer secret", body), 200);
    assert_string_equal(answer.key_name, "tester");
    assert_int_equal(ask_with("POST", "/v1/embeddings", "authorization: bearer  secret ", body), 200);
    assert_int_equal(ask_with("POST", "/v1/embeddings", "api-key: secret", body), 200);
    assert_int_equal(ask_with("POST", "/v1/embeddings", "x-api-key: secret", body), 200);
    assert_int_equal(ask_with("POST", "/v1/embeddings", "authorization: Basic secret", body), 401);
    assert_int_equal(ask("/docs", NULL), 200);
    fake.limited = true;
    assert_int_equal(ask_with("POST", "/v1/embeddings", "x-api-key: secret", body), 429);
    assert_string_equal(fake_header(&answer, "retry-after"), "2");
    assert_string_equal(fake_header(&answer, "retry-after-ms"), "1500");
    assert_text("error.code", "rate_limit_exceeded");
    fake.limited = false;
    fake.only_model = "fake-model";
    assert_int_equal(ask_with("POST", "/v1/embeddings", "x-api-key: secret", body), 200);
    assert_int_equal(ask_with("POST", "/v1/embeddings", "x-api-key: secret",
                              "{\"input\":\"a\",\"model\":\"org/fake-model\"}"),
                     200);
    assert_int_equal(
        ask_with("POST", "/v1/embeddings", "x-api-key: secret", "{\"input\":\"a\",\"model\":\"other\"}"),
        403);
    assert_text("error.code", "model_not_allowed");
    fake.only_model = "other";
    fake.cached = true;
    assert_int_equal(ask_with("POST", "/v1/embeddings", "x-api-key: secret", "{\"input\":\"a\"}"), 403);
    assert_int_equal(fake.cached_embeds, 0);
    assert_int_equal(ask_with("GET", "/v1/models", "x-api-key: secret", NULL), 200);
    assert_null(memmem(answer.body.data, answer.body.length, "fake-model", 10));
    assert_int_equal(ask_with("POST", "/api/embed", NULL, "{}"), 401);
    assert_contains("{\"error\":\"An API key");
    assert_int_equal(ask_with("POST", "/v2/embed", NULL, "{}"), 401);
    assert_contains("{\"message\":\"An API key");
}

/* ---- Cohere ---- */

static void test_cohere(void **state)
{
    (void)state;
    assert_int_equal(
        ask("/v2/embed",
            "{\"model\":\"m\",\"input_type\":\"search_query\",\"texts\":[\"one\",\"two\"],"
            "\"embedding_types\":[\"int8\",\"float\",\"ubinary\",\"base64\"],\"truncate\":\"START\"}"),
        200);
    assert_int_equal(fake.seen.role, EMB_ROLE_QUERY);
    assert_int_equal(fake.seen.truncation, EMB_TRUNCATE_LEFT);
    check_floats("embeddings.float.1", "two", 4);
    for (int j = 0; j < 4; j++) {
        char path[40];
        snprintf(path, sizeof path, "embeddings.int8.0.%d", j);
        double x = fake_component("one", 3, (size_t)j);
        assert_int_equal(integer(path), (int)((x + 1) * 127.5) - 128);
    }
    int bits = 0;
    for (size_t j = 0; j < 4; j++)
        bits |= (fake_component("one", 3, j) > 0) << (7 - j);
    assert_int_equal(integer("embeddings.ubinary.0.0"), bits);
    assert_text("texts.1", "two");
    assert_text("id", "request-1");
    assert_int_equal(integer("meta.billed_units.input_tokens"), 7);
    assert_int_equal(ask("/v1/embed", "{\"texts\":[\"one\"]}"), 200);
    check_floats("embeddings.0", "one", 4);
    assert_int_equal(
        ask("/v1/embed",
            "{\"texts\":[\"one\"],\"embedding_types\":[\"float\"],\"input_type\":\"search_document\"}"),
        200);
    check_floats("embeddings.float.0", "one", 4);
    assert_int_equal(fake.seen.role, EMB_ROLE_DOCUMENT);
    assert_int_equal(ask("/v2/embed", "{\"input_type\":\"classification\",\"inputs\":[{\"content\":[{"
                                      "\"type\":\"text\",\"text\":\"one\"}]}]}"),
                     200);
    check_floats("embeddings.float.0", "one", 4);
}

static void test_cohere_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"texts\":[\"a\"]}", "input_type"},
        {"{\"input_type\":\"image\",\"texts\":[\"a\"]}", "image"},
        {"{\"input_type\":\"other\",\"texts\":[\"a\"]}", "input_type"},
        {"{\"input_type\":\"clustering\",\"texts\":\"a\"}", "must be an array of strings"},
        {"{\"input_type\":\"clustering\"}", "texts"},
        {"{\"input_type\":\"clustering\",\"texts\":[\"a\"],\"embedding_types\":[]}", "embedding_types"},
        {"{\"input_type\":\"clustering\",\"texts\":[\"a\"],\"embedding_types\":[\"float\",\"f16\"]}",
         "index 1"},
        {"{\"input_type\":\"clustering\",\"texts\":[\"a\"],\"images\":[\"data:\"]}", "images"},
        {"{\"input_type\":\"clustering\",\"texts\":[\"a\"],\"output_dimension\":9}", "the model has 4"},
        {"{\"input_type\":\"clustering\",\"inputs\":[{\"content\":[{\"type\":\"image_url\"}]}]}",
         "type \\\"text\\\""},
        {"{\"input_type\":\"clustering\",\"inputs\":[1]}", "content"},
        {"{\"input_type\":\"clustering\",\"inputs\":1}", "inputs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (ask("/v2/embed", cases[i][0]) != 400)
            fail_msg("%s: %d", cases[i][0], answer.status);
        assert_contains("{\"message\":");
        assert_contains(cases[i][1]);
    }
}

static void test_rerank(void **state)
{
    (void)state;
    assert_int_equal(
        ask("/v1/rerank", "{\"query\":\"q\",\"documents\":[\"a\",{\"text\":\"b\"}],\"top_n\":1}"), 422);
    assert_text("error.code", "model_cannot_rerank");
    assert_contains("fake-model");
    assert_int_equal(ask("/v2/rerank", "{\"model\":\"fake-model\",\"query\":\"q\",\"documents\":[\"a\"]}"),
                     422);
    assert_contains("{\"message\":\"The model fake-model");
    assert_int_equal(ask("/v2/rerank", "{\"model\":\"no\",\"query\":\"q\",\"documents\":[\"a\"]}"), 404);
    assert_int_equal(ask("/v1/rerank", "{\"query\":\"q\"}"), 400);
    assert_text("error.param", "documents");
    assert_int_equal(ask("/v1/rerank", "{\"documents\":[\"a\"]}"), 400);
    assert_text("error.param", "query");
    assert_int_equal(ask("/v1/rerank", "{\"query\":\"q\",\"documents\":[1]}"), 400);
    assert_int_equal(ask("/v1/rerank", "{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":0}"), 400);
}

/* ---- Ollama ---- */

static void test_ollama(void **state)
{
    (void)state;
    assert_int_equal(ask("/api/embed", "{\"model\":\"fake-model:latest\",\"input\":[\"one\",\"two\"],\"keep_"
                                       "alive\":\"5m\",\"options\":{}}"),
                     200);
    assert_text("model", "fake-model:latest");
    assert_string_equal(fake.seen_model, "fake-model");
    check_floats("embeddings.1", "two", 4);
    assert_int_equal(integer("prompt_eval_count"), 7);
    assert_true(integer("total_duration") >= 0);
    assert_int_equal(
        ask("/api/embed", "{\"model\":\"fake-model\",\"input\":\"one\",\"truncate\":false,\"dimensions\":2}"),
        200);
    check_floats("embeddings.0", "one", 2);
    assert_int_equal(fake.seen.truncation, EMB_TRUNCATE_NONE);
    assert_int_equal(ask("/api/embeddings", "{\"model\":\"fake-model\",\"prompt\":\"one\"}"), 200);
    check_floats("embedding", "one", 4);
    assert_int_equal(ask("/api/embed", "{\"input\":\"one\"}"), 400);
    assert_contains("{\"error\":\"model is needed");
    assert_int_equal(ask("/api/embed", "{\"model\":\"m\",\"input\":\"one\",\"keep_alive\":[]}"), 400);
    assert_int_equal(ask("/api/embed", "{\"model\":\"m\",\"input\":\"one\",\"options\":1}"), 400);
    assert_int_equal(ask("/api/version", NULL), 200);
    assert_text("version", EMB_VERSION_STRING);
    assert_int_equal(ask("/api/tags", NULL), 200);
    assert_text("models.0.name", "fake-model");
    assert_text("models.0.modified_at", "2023-11-14T22:13:20Z");
    assert_int_equal(ask("/api/show", "{\"model\":\"fake-model\"}"), 200);
    assert_contains("\"bert.embedding_length\":4");
}

/* ---- memory ---- */

static size_t nth;
static bool failed;

static void arm(void)
{
    fail_alloc_at(nth);
}

static void disarm(void)
{
    failed = fail_alloc_stop() || failed;
}

/* Each allocation of a request fails in turn: 503, or an answer where it did not matter; nothing leaks. */
static void check_allocations(const char *path, const char *body)
{
    fake.begin = arm;
    fake.end = disarm;
    for (nth = 1;; nth++) {
        forget();
        size_t live = fail_alloc_live();
        failed = false;
        int status = ask_with("POST", path, "content-type: application/json\ncache-control: max-age=9", body);
        if (status != 200 && status != 503)
            fail_msg("%s: allocation %zu: %d %s", path, nth, status, answer.body.data);
        forget();
        assert_int_equal(fail_alloc_live(), live);
        if (!failed)
            break;
    }
    assert_true(nth > 3);
    fake.begin = fake.end = NULL;
}

static void test_allocations(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    for (int cached = 0; cached < 2; cached++) {
        fake.cached = cached;
        check_allocations(
            "/v1/embeddings",
            "{\"model\":\"fake-model\",\"input\":[\"one\",\"two\"],\"encoding_format\":\"base64\","
            "\"prompt_name\":\"p\",\"category\":\"c\"}");
        check_allocations("/v1/embeddings", "{\"input\":[[1,2],[3]]}");
        check_allocations(
            "/v2/embed",
            "{\"texts\":[\"a\"],\"input_type\":\"clustering\",\"embedding_types\":[\"int8\",\"float\"]}");
        check_allocations("/api/embed", "{\"model\":\"fake-model:latest\",\"input\":\"a\"}");
    }
}

static void test_allocations_of_opening(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    for (size_t n = 1;; n++) {
        emb_api *other = NULL;
        emb_error err;
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_api_open((emb_service *)&fake, NULL, &other, &err);
        bool some = fail_alloc_stop();
        assert_int_equal(status, some ? EMB_E_NOMEM : EMB_OK);
        emb_api_close(other);
        assert_int_equal(fail_alloc_live(), live);
        if (!some)
            break;
    }
}

/* ---- the document ---- */

static void check_schema(emb_json_value schema, const char *path);

static void check_schemas_of(emb_json_value object, const char *path)
{
    emb_json_iter it = emb_json_begin(object);
    emb_json_value v;
    const char *key;
    size_t length;
    while (emb_json_next(&it, &key, &length, &v))
        check_schema(v, path);
}

/* A schema is an object whose known members have the right types: enough to see a missing bracket or quote.
 */
static void check_schema(emb_json_value schema, const char *path)
{
    emb_json_value v;
    if (emb_json_type_of(schema) != EMB_JSON_OBJECT)
        fail_msg("%s: a schema is no object", path);
    if (emb_json_get(schema, "properties", &v))
        check_schemas_of(v, path);
    if (emb_json_get(schema, "items", &v))
        check_schema(v, path);
    if (emb_json_get(schema, "oneOf", &v))
        check_schemas_of(v, path);
}

static void test_document(void **state)
{
    (void)state;
    assert_int_equal(ask("/openapi.json", NULL), 200);
    assert_text("openapi", "3.1.0");
    emb_json_iter paths = emb_json_begin(at("paths"));
    const char *path, *method;
    size_t length, operations = 0;
    emb_json_value methods, operation, v;
    char *ids = calloc(1, 1 << 16);
    assert_non_null(ids);
    while (emb_json_next(&paths, &path, &length, &methods)) {
        assert_null(memmem(path, length, "...", 3));
        emb_json_iter it = emb_json_begin(methods);
        while (emb_json_next(&it, &method, &length, &operation)) {
            operations++;
            const char *id;
            assert_true(emb_json_get(operation, "operationId", &v) && emb_json_string(v, &id, &length));
            char quoted[200];
            snprintf(quoted, sizeof quoted, "<%.*s>", (int)length, id);
            assert_null(strstr(ids, quoted)); /* each is there once */
            strcat(ids, quoted);
            assert_true(emb_json_get(operation, "responses", &v));
            if (emb_json_get(operation, "requestBody", &v) && emb_json_get(v, "content", &v) &&
                emb_json_get(v, "application/json", &v) && emb_json_get(v, "schema", &v))
                check_schema(v, path);
            assert_true(emb_json_get(operation, "responses", &v) && emb_json_get(v, "200", &v));
            if (emb_json_get(v, "content", &v) && emb_json_get(v, "application/json", &v) &&
                emb_json_get(v, "schema", &v))
                check_schema(v, path);
        }
    }
    free(ids);
    assert_int_equal(operations, 4 + 4 + 5 + 3);
    assert_int_equal(emb_json_type_of(at("components.schemas.OpenAIError")), EMB_JSON_OBJECT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_embeddings),     TEST(test_base64),      TEST(test_ids),
        TEST(test_in_place),       TEST(test_members),     TEST(test_refused),
        TEST(test_deep),           TEST(test_limits),      TEST(test_failures),
        TEST(test_content_types),  TEST(test_routes),      TEST(test_azure),
        TEST(test_models),         TEST(test_keys),        TEST(test_cohere),
        TEST(test_cohere_refused), TEST(test_rerank),      TEST(test_ollama),
        TEST(test_document),       TEST(test_allocations), TEST(test_allocations_of_opening)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
