/* What failed exchanges mean, and what of a provider's words is repeated. */
#include "base/error.h"
#include "provider/fault.h"

#include <curl/curl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const emb_text texts[] = {{"The patient's name is Erika Mustermann.", 39}, {"Kiel", 4}};
static emb_provider_call call = {.model = "m"};
static emb_provider_config config = {.name = "p", .base_url = "", .api_key = "sk-secret-1234567890"};
static const emb_wire_request request = {.config = &config, .call = &call, .texts = texts, .count = 2};

static emb_fault of(emb_provider_kind kind, int http, const char *body)
{
    emb_fault f;
    config.kind = kind;
    emb_fault_of_http(&request, http, body, strlen(body), &f);
    return f;
}

#define OPENAI(code, type, message) \
    "{\"error\":{\"message\":\"" message "\",\"type\":\"" type "\",\"param\":null,\"code\":" code "}}"

static void table(void **state)
{
    (void)state;
    static const struct {
        emb_provider_kind kind;
        int http;
        const char *body;
        emb_attempt_end end;
        emb_status status;
        bool again;
    } cases[] = {
        {EMB_PROVIDER_OPENAI, 429, OPENAI("\"insufficient_quota\"", "insufficient_quota", "m"),
         EMB_ATTEMPT_QUOTA, EMB_E_UNAVAILABLE, false},
        {EMB_PROVIDER_OPENAI, 429, OPENAI("null", "insufficient_quota", "m"), EMB_ATTEMPT_QUOTA,
         EMB_E_UNAVAILABLE, false},
        {EMB_PROVIDER_OPENAI, 400, OPENAI("\"billing_hard_limit_reached\"", "x", "m"), EMB_ATTEMPT_QUOTA,
         EMB_E_UNAVAILABLE, false},
        {EMB_PROVIDER_OPENAI, 403, OPENAI("\"access_terminated\"", "x", "m"), EMB_ATTEMPT_QUOTA,
         EMB_E_UNAVAILABLE, false},
        {EMB_PROVIDER_HUGGINGFACE, 402, "{\"error\":\"m\"}", EMB_ATTEMPT_QUOTA, EMB_E_UNAVAILABLE, false},
        {EMB_PROVIDER_COHERE, 429, "{\"message\":\"a Trial key, limited to 1000 API calls / month.\"}",
         EMB_ATTEMPT_QUOTA, EMB_E_UNAVAILABLE, false},
        {EMB_PROVIDER_OPENAI, 429, OPENAI("\"rate_limit_exceeded\"", "tokens", "m"), EMB_ATTEMPT_LIMITED,
         EMB_E_BUSY, true},
        {EMB_PROVIDER_OPENAI, 503, OPENAI("\"slow_down\"", "x", "m"), EMB_ATTEMPT_LIMITED, EMB_E_BUSY, true},
        {EMB_PROVIDER_TEI, 429, "{\"error\":\"Model is overloaded\",\"error_type\":\"Overloaded\"}",
         EMB_ATTEMPT_LIMITED, EMB_E_BUSY, true},
        {EMB_PROVIDER_OPENAI, 429, "", EMB_ATTEMPT_LIMITED, EMB_E_BUSY, true},
        {EMB_PROVIDER_OPENAI, 401, OPENAI("\"invalid_api_key\"", "x", "m"), EMB_ATTEMPT_DENIED,
         EMB_E_UNAVAILABLE, false},
        {EMB_PROVIDER_OPENAI, 403, "<html>", EMB_ATTEMPT_DENIED, EMB_E_UNAVAILABLE, false},
        {EMB_PROVIDER_OPENAI, 408, "", EMB_ATTEMPT_BROKEN, EMB_E_UNAVAILABLE, true},
        {EMB_PROVIDER_OPENAI, 409, "", EMB_ATTEMPT_BROKEN, EMB_E_UNAVAILABLE, true},
        {EMB_PROVIDER_EMBEDD, 409, "{\"detail\":\"The space ...\"}", EMB_ATTEMPT_REFUSED, EMB_E_PROVIDER,
         false},
        {EMB_PROVIDER_OPENAI, 500, "", EMB_ATTEMPT_BROKEN, EMB_E_UNAVAILABLE, true},
        {EMB_PROVIDER_OPENAI, 529, "not json", EMB_ATTEMPT_BROKEN, EMB_E_UNAVAILABLE, true},
        {EMB_PROVIDER_TEI, 424, "{\"error\":\"m\",\"error_type\":\"Backend\"}", EMB_ATTEMPT_BROKEN,
         EMB_E_UNAVAILABLE, true},
        {EMB_PROVIDER_OPENAI, 404, OPENAI("\"model_not_found\"", "x", "m"), EMB_ATTEMPT_REFUSED,
         EMB_E_NOT_FOUND, false},
        {EMB_PROVIDER_AZURE, 404, "{\"error\":{\"code\":\"DeploymentNotFound\",\"message\":\"m\"}}",
         EMB_ATTEMPT_REFUSED, EMB_E_NOT_FOUND, false},
        {EMB_PROVIDER_OLLAMA, 404, "{\"error\":\"model \\\"x\\\" not found, try pulling it first\"}",
         EMB_ATTEMPT_REFUSED, EMB_E_NOT_FOUND, false},
        {EMB_PROVIDER_OPENAI, 404, "nothing here", EMB_ATTEMPT_REFUSED, EMB_E_PROVIDER, false},
        {EMB_PROVIDER_OPENAI, 400,
         OPENAI("null", "invalid_request_error", "This model's maximum context length is 8192 tokens"),
         EMB_ATTEMPT_REFUSED, EMB_E_LIMIT, false},
        {EMB_PROVIDER_TEI, 413, "", EMB_ATTEMPT_REFUSED, EMB_E_LIMIT, false},
        {EMB_PROVIDER_TEI, 422, "{\"error\":\"m\",\"error_type\":\"Validation\"}", EMB_ATTEMPT_REFUSED,
         EMB_E_INVALID, false},
        {EMB_PROVIDER_OPENAI, 400, "", EMB_ATTEMPT_REFUSED, EMB_E_INVALID, false},
        {EMB_PROVIDER_OPENAI, 405, "", EMB_ATTEMPT_REFUSED, EMB_E_PROVIDER, false},
        {EMB_PROVIDER_OPENAI, 302, "", EMB_ATTEMPT_REFUSED, EMB_E_PROVIDER, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_fault f = of(cases[i].kind, cases[i].http, cases[i].body);
        assert_int_equal(f.end, cases[i].end);
        assert_int_equal(f.status, cases[i].status);
        assert_int_equal(f.again, cases[i].again);
        assert_true(f.words[0] != 0);
    }
}

static void loading(void **state)
{
    (void)state;
    emb_fault f = of(EMB_PROVIDER_HUGGINGFACE, 503,
                     "{\"error\":\"Model x is currently loading\",\"estimated_time\":20.5}");
    assert_int_equal(f.end, EMB_ATTEMPT_BROKEN);
    assert_int_equal(f.wait_ms, 20500);
    assert_int_equal(of(EMB_PROVIDER_HUGGINGFACE, 503, "{\"error\":\"m\",\"estimated_time\":-1}").wait_ms,
                     -1);
}

static void which_text(void **state)
{
    (void)state;
    emb_fault f = of(EMB_PROVIDER_OPENAI, 400, "{\"error\":{\"message\":\"m\",\"param\":\"input[1]\"}}");
    assert_true(f.has_input);
    assert_int_equal(f.input, 1);
    f = of(EMB_PROVIDER_OPENAI, 400, "{\"error\":{\"message\":\"'$.input[1]' is invalid.\"}}");
    assert_true(f.has_input);
    f = of(EMB_PROVIDER_REMOTE, 422,
           "{\"detail\":[{\"loc\":[\"body\",\"texts\",1],\"msg\":\"m\",\"type\":\"value_error\"}]}");
    assert_true(f.has_input);
    assert_int_equal(f.input, 1);
    assert_false(
        of(EMB_PROVIDER_OPENAI, 400, "{\"error\":{\"param\":\"input[2]\"}}").has_input); /* there are two */
    assert_false(
        of(EMB_PROVIDER_OPENAI, 400, "{\"error\":{\"param\":\"input[99999999999999999999]\"}}").has_input);
    assert_false(of(EMB_PROVIDER_OPENAI, 500, "{\"error\":{\"param\":\"input[1]\"}}").has_input);
}

static void words_are_shown(void **state)
{
    (void)state;
    emb_fault f = of(EMB_PROVIDER_OPENAI, 400, OPENAI("\"bad\"", "x", "Invalid\\nvalue\\u0007 for input."));
    assert_string_equal(f.words, "HTTP 400 (bad): Invalid value  for input.");
}

static void words_that_quote_are_not(void **state)
{
    (void)state;
    static const char *const messages[] = {
        "cannot embed 'patient's name is'", "CANNOT EMBED ERIKA MUSTERMANN", "no such place: Kiel.",
        "key sk-secret-1234567890",         "starts with: The patien",
    };
    char out[256];
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        config.kind = EMB_PROVIDER_OPENAI;
        assert_false(emb_fault_words(&request, messages[i], strlen(messages[i]), out, sizeof out));
        assert_string_equal(out, "");
    }
    assert_true(emb_fault_words(&request, "Kielce is a town", 16, out,
                                sizeof out)); /* the short text as a word only */
    emb_fault f = of(EMB_PROVIDER_OPENAI, 401,
                     OPENAI("\"invalid_api_key\"", "x", "Incorrect API key provided: sk-sec***7890"));
    assert_null(strstr(f.words, "sk-"));
}

static void long_words_are_cut(void **state)
{
    (void)state;
    char message[2000], out[256];
    for (size_t i = 0; i < sizeof message; i += 2)
        memcpy(message + i, "\xc3\xbc", 2);
    assert_true(emb_fault_words(&request, message, sizeof message, out, sizeof out));
    assert_in_range(strlen(out), 150, 200);
    assert_true(
        emb_fault_words(&request, message, sizeof message, out, 10)); /* not in the middle of a character */
    assert_int_equal(strlen(out) % 2, 0);
}

static void errors_in_good_answers(void **state)
{
    (void)state;
    static const char quota[] = OPENAI("\"insufficient_quota\"", "x", "m"),
                      odd[] = "{\"error\":\"it failed\"}";
    emb_fault f;
    assert_true(emb_fault_in_answer(&request, quota, strlen(quota), &f));
    assert_int_equal(f.end, EMB_ATTEMPT_QUOTA);
    assert_true(emb_fault_in_answer(&request, odd, strlen(odd), &f));
    assert_int_equal(f.end, EMB_ATTEMPT_BAD_ANSWER);
    assert_int_equal(f.status, EMB_E_PROVIDER);
    assert_false(emb_fault_in_answer(&request, "{\"data\":[]}", 11, &f));
    assert_false(emb_fault_in_answer(&request, "[1]", 3, &f));
}

static void transport(void **state)
{
    (void)state;
    static const struct {
        int code;
        bool sent;
        emb_attempt_end end;
        bool again;
    } cases[] = {
        {CURLE_COULDNT_CONNECT, false, EMB_ATTEMPT_NOT_SENT, true},
        {CURLE_COULDNT_RESOLVE_HOST, false, EMB_ATTEMPT_NOT_SENT, true},
        {CURLE_OPERATION_TIMEDOUT, false, EMB_ATTEMPT_NOT_SENT, true},
        {CURLE_OPERATION_TIMEDOUT, true, EMB_ATTEMPT_TIMEOUT, true},
        {CURLE_PEER_FAILED_VERIFICATION, false, EMB_ATTEMPT_NOT_SENT, false},
        {CURLE_PARTIAL_FILE, true, EMB_ATTEMPT_BROKEN, true},
        {CURLE_GOT_NOTHING, true, EMB_ATTEMPT_BROKEN, true},
        {CURLE_SEND_ERROR, false, EMB_ATTEMPT_NOT_SENT, true},
        {CURLE_WRITE_ERROR, true, EMB_ATTEMPT_BAD_ANSWER, false},
        {CURLE_UNSUPPORTED_PROTOCOL, true, EMB_ATTEMPT_BROKEN, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_fault f;
        emb_fault_of_transport(cases[i].code, "", cases[i].sent, &f);
        assert_int_equal(f.end, cases[i].end);
        assert_int_equal(f.again, cases[i].again);
        assert_true(f.words[0] != 0);
    }
}

static void proxies(void **state)
{
    (void)state;
    static const struct {
        const char *words, *said;
        bool again;
    } cases[] = {
        {"CONNECT tunnel failed, response 407",
         "the proxy refused to connect: HTTP 407, it wants another user or password", false},
        {"CONNECT tunnel failed, response 403", "the proxy refused to connect: HTTP 403", false},
        {"CONNECT tunnel failed, response 502", "the proxy refused to connect: HTTP 502", true},
        {"CONNECT tunnel failed, response", "CONNECT tunnel failed, response", true},
    };
    emb_fault f;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_fault_of_transport(CURLE_RECV_ERROR, cases[i].words, false, &f);
        assert_string_equal(f.words, cases[i].said);
        assert_int_equal(f.end, EMB_ATTEMPT_NOT_SENT);
        assert_int_equal(f.again, cases[i].again);
    }
    emb_fault_of_transport(CURLE_COULDNT_RESOLVE_PROXY,
                           "Unsupported proxy syntax in 'http://user:hunter2@h:99999'", false, &f);
    assert_null(strstr(f.words, "hunter2"));
    emb_fault_of_transport(CURLE_COULDNT_RESOLVE_PROXY, "Could not resolve proxy: h", false, &f);
    assert_string_equal(f.words, "Could not resolve proxy: h");
    emb_fault_of_http(&request, 407, "<html>", 6, &f);
    assert_int_equal(f.end, EMB_ATTEMPT_NOT_SENT);
    assert_int_equal(f.status, EMB_E_UNAVAILABLE);
    assert_false(f.again);
    assert_non_null(strstr(f.words, "proxy"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),
        cmocka_unit_test(loading),
        cmocka_unit_test(which_text),
        cmocka_unit_test(words_are_shown),
        cmocka_unit_test(words_that_quote_are_not),
        cmocka_unit_test(long_words_are_cut),
        cmocka_unit_test(errors_in_good_answers),
        cmocka_unit_test(transport),
        cmocka_unit_test(proxies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
