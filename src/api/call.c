/*
 * call.c: the life of a call between its handler and its answer.
 *
 * All ways out lead through emb_call_end, which releases what the call holds, right before the exchange's
 * reply: after the reply the arena, and the call in it, may be gone. So nothing here touches a call once it
 * has been answered, and no handler needs a clean-up of its own.
 *
 * A small request tries L1 on the loop's thread (emb_service_embed_cached never waits); all else is parked.
 * There is no queue behind the workers: when none is free the answer is 429 at once, so that latency stays
 * bounded under load.
 *
 * Who may use a model is asked before any work, by the name that was sent if the model is not open yet, and
 * then again of the model that was found, since a model has several names.
 */
#include "api/call.h"
#include "api/decode.h"
#include "api/envelope.h"
#include "api/state.h"
#include "base/clock.h"
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { IN_PLACE_TEXTS = 64, SHORT_BODY_BYTES = 16384, MESSAGE_BYTES = 1024 };
static const size_t largest_body = (size_t)1 << 31;

/* ---- the end of a call ---- */

void emb_call_end(emb_api_call *call)
{
    if (call->has_answer)
        emb_answer_done(&call->answer);
    emb_models_release(call->served);
    emb_json_close(call->document);
    emb_config_release(call->config);
    emb_caller_release(call->caller);
    call->has_answer = false;
    call->served = NULL;
    call->document = NULL;
    call->config = NULL;
    call->caller = NULL;
}

void emb_call_send(emb_api_call *call, int status, const char *content_type, emb_buf *body)
{
    emb_exchange *x = call->x;
    emb_call_end(call);
    emb_exchange_reply(x, status, content_type, body);
}

void emb_call_body(emb_api_call *call, emb_buf *body)
{
    (void)call;
    emb_buf_init(body, largest_body);
}

void emb_call_finish(emb_api_call *call, const emb_answer *answer, emb_buf *body, emb_status status)
{
    if (!status) {
        emb_call_reply(call, answer, body);
        return;
    }
    emb_buf_fini(body);
    emb_error err;
    emb_fail(&err, status, NULL, "The answer cannot be written: %s.",
             status == EMB_E_LIMIT ? "it would be too large; send fewer texts" : emb_status_text(status));
    emb_call_fail_error(call, &err);
}

/* ---- headers of an answer ---- */

static char *put_count(char *out, uint64_t value)
{
    char digits[20];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n)
        *out++ = digits[--n];
    return out;
}

/* "name;dur=0.123" in milliseconds */
static char *put_timing(char *out, const char *name, uint64_t ns)
{
    uint64_t us = (ns + 500) / 1000;
    size_t n = strlen(name);
    memcpy(out, name, n);
    memcpy(out + n, ";dur=", 5);
    out = put_count(out + n + 5, us / 1000);
    *out++ = '.';
    *out++ = (char)('0' + us / 100 % 10);
    *out++ = (char)('0' + us / 10 % 10);
    *out++ = (char)('0' + us % 10);
    return out;
}

static void add_count(emb_exchange *x, const char *name, uint64_t value)
{
    char text[24];
    *put_count(text, value) = 0;
    emb_exchange_add_header(x, name, text);
}

static void add_cost(emb_exchange *x, uint64_t nusd)
{
    if (nusd == 0)
        emb_exchange_add_header(x, "x-embedd-cost-usd", "0");
    else
        emb_exchange_add_headerf(x, "x-embedd-cost-usd", "%llu.%09llu",
                                 (unsigned long long)(nusd / 1000000000),
                                 (unsigned long long)(nusd % 1000000000));
}

static void add_timing(emb_api_call *call, const emb_answer *a)
{
    char text[256], *p = text;
    p = put_timing(p, "parse", call->parse_ns);
    memcpy(p, ", ", 2);
    p = put_timing(p + 2, "cache", a->cache_ns);
    memcpy(p, ", ", 2);
    p = put_timing(p + 2, "queue", a->queue_ns);
    memcpy(p, ", ", 2);
    p = put_timing(p + 2, "tokenize", a->tokenize_ns);
    memcpy(p, ", ", 2);
    p = put_timing(p + 2, "compute", a->compute_ns);
    memcpy(p, ", ", 2);
    p = put_timing(p + 2, "provider", a->provider_ns);
    *p = 0;
    emb_exchange_add_header(call->x, "server-timing", text);
}

/* Code points of all texts. */
static uint64_t characters(const emb_request *r)
{
    uint64_t n = 0;
    for (size_t i = 0; r->texts && i < r->count; i++)
        for (size_t j = 0; j < r->texts[i].length; j++)
            n += ((unsigned char)r->texts[i].data[j] & 0xC0) != 0x80;
    return n;
}

/* text-embeddings-inference's, in milliseconds. */
static void add_compute_headers(emb_api_call *call, const emb_answer *a)
{
    emb_exchange_add_header(call->x, "x-compute-type", "cpu");
    add_count(call->x, "x-compute-time", (a->total_ns + 500000) / 1000000);
    add_count(call->x, "x-compute-characters", characters(&call->request));
    add_count(call->x, "x-compute-tokens", a->total_tokens);
    add_count(call->x, "x-total-time", (emb_now_ns() - emb_exchange_started_ns(call->x) + 500000) / 1000000);
    add_count(call->x, "x-tokenization-time", (a->tokenize_ns + 500000) / 1000000);
    add_count(call->x, "x-queue-time", (a->queue_ns + 500000) / 1000000);
    add_count(call->x, "x-inference-time", (a->compute_ns + 500000) / 1000000);
}

void emb_call_reply(emb_api_call *call, const emb_answer *answer, emb_buf *body)
{
    if (answer) {
        emb_exchange_add_header(call->x, "x-embedd-provider", answer->provider);
        emb_exchange_add_header(call->x, "x-embedd-space", answer->space);
        add_count(call->x, "x-embedd-cached", answer->cached);
        add_count(call->x, "x-embedd-tokens", answer->total_tokens);
        add_cost(call->x, answer->cost_nusd);
        add_timing(call, answer);
        if (call->route->family == EMB_FAMILY_MODEL_SERVER)
            add_compute_headers(call, answer);
    }
    emb_call_send(call, 200, "application/json", body);
}

/* ---- errors ---- */

static void fail(emb_api_call *call, const emb_failure *failure)
{
    emb_buf body = EMB_BUF_INIT(64 << 10);
    const char *route = call->route->path[0] ? call->route->path : "none";
    const char *code = failure->code ? failure->code : "error";
    emb_series_add(emb_metrics_series(call->api->metrics, EMB_METRIC_ERRORS, route, code), 1);
    if (emb_envelope_write(call->route->family, failure, &body) == EMB_OK) {
        emb_call_send(call, failure->status, "application/json", &body);
        return;
    }
    emb_buf_fini(&body);
    emb_exchange *x = call->x;
    emb_call_end(call);
    emb_exchange_reply_text(x, 503, "application/json", "{}", 2);
}

static void fail_with(emb_api_call *call, int status, const char *code, const char *param, const char *prefix,
                      const char *format, va_list args)
{
    char message[MESSAGE_BYTES];
    int n = prefix ? snprintf(message, sizeof message, "%s ", prefix) : 0;
    if (n >= 0 && (size_t)n < sizeof message)
        vsnprintf(message + n, sizeof message - (size_t)n, format, args);
    fail(call, &(emb_failure){status, code, param, message});
}

void emb_call_fail(emb_api_call *call, int status, const char *code, const char *param, const char *format,
                   ...)
{
    va_list args;
    va_start(args, format);
    fail_with(call, status, code, param, NULL, format, args);
    va_end(args);
}

void emb_call_fail_field(emb_api_call *call, const char *member, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail_with(call, emb_envelope_field_status(call->route->family), "invalid_value", member, member, format,
              args);
    va_end(args);
}

void emb_call_fail_missing(emb_api_call *call, const char *member)
{
    emb_call_fail(call, emb_envelope_field_status(call->route->family), "missing", member,
                  "%s is needed and is not there.", member);
}

void emb_call_fail_busy(emb_api_call *call)
{
    emb_exchange_set_refused(call->x, "overload");
    emb_exchange_add_header(call->x, "retry-after", "1");
    emb_call_fail(call, 429, "overloaded", NULL,
                  "As many requests are in work as may be (%zu, server.max_concurrent_requests); try again "
                  "in a second.",
                  call->config->max_concurrent_requests);
}

/* The service speaks of "input[3]"; this family's client of "texts[3]". */
static const char *member_of(emb_api_call *call, const char *where, char *out, size_t size)
{
    if (strncmp(where, "input", 5) != 0 || (where[5] && where[5] != '[') || !call->texts_member)
        return where[0] ? where : NULL;
    size_t index = where[5] ? strtoul(where + 6, NULL, 10) : SIZE_MAX;
    if (call->places && index < call->request.count)
        snprintf(out, size, "%s[%zu]", call->texts_member, call->places[index]);
    else
        snprintf(out, size, "%s%s", call->texts_member, where + 5);
    return out;
}

static const char *error_code(const emb_error *err)
{
    switch (err->code) {
    case EMB_E_NOT_FOUND:
    case EMB_E_UNSUPPORTED:
        return strcmp(err->where, "model") == 0 ? "model_not_found" : NULL;
    case EMB_E_LIMIT:
        return err->where[0] && strcmp(err->where, "input") != 0 ? "context_length_exceeded"
                                                                 : "too_many_inputs";
    case EMB_E_BUSY:
        return "overloaded";
    case EMB_E_DEADLINE:
        return "timeout";
    case EMB_E_CANCELLED:
        return "cancelled";
    case EMB_E_NOMEM:
        return "out_of_memory";
    case EMB_E_CORRUPT:
    case EMB_E_IO:
        return "model_unusable";
    case EMB_E_CLOSED:
        return "stopping";
    case EMB_E_INTERNAL:
        return "internal_error";
    case EMB_E_BUDGET:
        return "budget_exhausted";
    case EMB_E_FORBIDDEN:
        return strcmp(err->where, "model") == 0 ? "model_not_allowed" : "privacy";
    case EMB_E_PROVIDER:
        return "bad_provider_answer";
    case EMB_E_UNAVAILABLE:
        return strcmp(err->where, "space") == 0 ? "space_unavailable" : "provider_unavailable";
    default:
        return "invalid_value";
    }
}

static int error_status(emb_api_call *call, const emb_error *err)
{
    int field = emb_envelope_field_status(call->route->family);
    switch (err->code) {
    case EMB_E_INVALID:
        return err->where[0] ? field : 400;
    case EMB_E_UNSUPPORTED:
        return strcmp(err->where, "model") == 0 ? 404 : field;
    case EMB_E_LIMIT: /* a text that is too long, or too many of them */
        if (strncmp(err->where, "input[", 6) != 0)
            return 413;
        return call->route->family == EMB_FAMILY_MODEL_SERVER ? 422 : 400;
    case EMB_E_CORRUPT: /* a model's files, not the request */
        return 503;
    case EMB_E_UNAVAILABLE: /* what is here makes vectors that cannot be compared with those asked for */
        return strcmp(err->where, "space") == 0 ? 409 : 503;
    default:
        return emb_status_http(err->code);
    }
}

void emb_call_fail_error(emb_api_call *call, const emb_error *err)
{
    char member[sizeof err->where + 64];
    if (err->code == EMB_E_BUSY) {
        uint64_t seconds = (call->answer.retry_after_ms + 999) / 1000;
        emb_exchange_set_refused(call->x, "overload");
        add_count(call->x, "retry-after", seconds ? seconds : 1);
    }
    char message[sizeof err->message + sizeof member + 4];
    const char *where = member_of(call, err->where, member, sizeof member);
    size_t n = strlen(err->where);
    bool named = n && strncmp(err->message, err->where, n) == 0 && err->message[n] == ':';
    if (named) /* "input[1]: …" by the name and the place that the client gave it */
        snprintf(message, sizeof message, "%s%s", where, err->message + n);
    fail(call,
         &(emb_failure){error_status(call, err), error_code(err), where, named ? message : err->message});
}

/* ---- the request ---- */

static bool type_is(const char *type, size_t length, const char *name)
{
    return strlen(name) == length && strncasecmp(type, name, length) == 0;
}

/* JSON, whatever a client calls it: curl's -d says form, many say text or nothing. */
static bool is_json_type(const char *type)
{
    size_t length = strcspn(type, "; \t");
    bool json_suffix = length > 5 && strncasecmp(type + length - 5, "+json", 5) == 0;
    if (!json_suffix && !type_is(type, length, "application/json") && !type_is(type, length, "text/json") &&
        !type_is(type, length, "text/plain") && !type_is(type, length, "application/x-www-form-urlencoded") &&
        !type_is(type, length, "*/*") && length > 0)
        return false;
    const char *charset = strcasestr(type, "charset=");
    if (!charset)
        return true;
    charset += 8;
    charset += *charset == '"';
    return strncasecmp(charset, "utf-8", 5) == 0 || strncasecmp(charset, "utf8", 4) == 0 ||
           strncasecmp(charset, "us-ascii", 8) == 0;
}

static bool check_coding(emb_api_call *call)
{
    const char *coding = emb_exchange_header(call->x, "content-encoding");
    if (coding && *coding && strcasecmp(coding, "identity") != 0) {
        emb_call_fail(call, 415, "unsupported_media_type", "content-encoding",
                      "content-encoding: \"%.60s\" is not understood; send the body as it is.", coding);
        return false;
    }
    const char *type = emb_exchange_header(call->x, "content-type");
    if (type && !is_json_type(type)) {
        emb_call_fail(call, 415, "unsupported_media_type", "content-type",
                      "content-type: \"%.80s\" is not understood; send application/json in UTF-8.", type);
        return false;
    }
    return true;
}

static void fail_json(emb_api_call *call, const char *message)
{
    bool detail = call->route->family == EMB_FAMILY_EMBEDDER || call->route->family == EMB_FAMILY_HYBRID;
    emb_exchange_set_refused(call->x, "malformed");
    emb_call_fail(call, detail ? 422 : 400, "invalid_json", NULL, "%s", message);
}

bool emb_call_json(emb_api_call *call, emb_json_value *root)
{
    size_t length;
    emb_error err;
    uint64_t begin = emb_now_ns();
    if (!check_coding(call))
        return false;
    const char *body = emb_exchange_body(call->x, &length);
    if (!body || length == 0) {
        fail_json(call, "The body is empty; a JSON object is needed.");
        return false;
    }
    if (emb_json_open(body, length, "the body", &call->document, &err)) {
        call->document = NULL;
        if (err.code == EMB_E_CORRUPT)
            fail_json(call, err.message);
        else
            emb_call_fail_error(call, &err);
        return false;
    }
    *root = emb_json_root(call->document);
    call->parse_ns = emb_now_ns() - begin;
    if (emb_json_type_of(*root) == EMB_JSON_OBJECT)
        return true;
    char message[96];
    snprintf(message, sizeof message, "The body must be a JSON object; it is %s.",
             emb_json_type_name(emb_json_type_of(*root)));
    fail_json(call, message);
    return false;
}

/* "no-cache", "no-store", "max-age=60", with others between that mean nothing in a request. An age that
 * cannot be read counts as 0, as HTTP's caches do. */
static void read_cache_control(const char *value, emb_request *request)
{
    while (*value) {
        value += strspn(value, ", \t");
        size_t length = strcspn(value, ",");
        size_t name = strcspn(value, ",= \t");
        if (type_is(value, name, "no-cache")) {
            request->cache_read = false;
        } else if (type_is(value, name, "no-store")) {
            request->cache_write = false;
        } else if (type_is(value, name, "max-age")) {
            const char *digits = value + name + (value[name] == '=');
            char *end;
            unsigned long long age = *digits >= '0' && *digits <= '9' ? strtoull(digits, &end, 10) : 0;
            request->cache_max_age_s = age;
            if (age == 0)
                request->cache_read = false;
        }
        value += length;
    }
}

bool emb_call_headers(emb_api_call *call, emb_request *request)
{
    call->has_headers = true;
    request->cancel = emb_exchange_gone(call->x);
    request->deadline_ns =
        emb_exchange_received_ns(call->x) + (uint64_t)call->config->request_timeout_ms * 1000000;
    const char *control = emb_exchange_header(call->x, "cache-control");
    if (control)
        read_cache_control(control, request);
    const char *category = emb_exchange_header(call->x, "x-embedd-category");
    if (category && *category)
        request->category = category;
    const char *context = emb_exchange_header(call->x, "x-embedd-context");
    if (context && *context && !emb_request_set_context(request, context)) {
        emb_call_fail_field(
            call, "x-embedd-context",
            "\"%.60s\" is not a context; there are realtime, analysis, batch, sensitive and default.",
            context);
        return false;
    }
    return true;
}

/* ---- models ---- */

static const char *without_organisation(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

static void forbid(emb_api_call *call, const char *model)
{
    emb_exchange_set_refused(call->x, "auth");
    emb_call_fail(call, 403, "model_not_allowed", "model", "This API key may not use the model %.200s.",
                  model);
}

static bool may_use(const emb_caller *caller, const emb_served *model)
{
    return emb_caller_may_use(caller, model->name) || emb_caller_may_use(caller, model->repository);
}

/* Of a provider's model the router has asked already. */
static bool may_have(const emb_caller *caller, const emb_answer *answer)
{
    return !answer->served || may_use(caller, answer->served);
}

/* The check before any work: by the model if it is open, else by the name that was sent. */
static bool may_ask_for(emb_api_call *call, const char *name)
{
    if (!call->caller ||
        emb_service_is_remote(call->service, name)) /* of those the router lets in what the key may use */
        return true;
    emb_models *models = emb_service_models(call->service);
    emb_served *open = emb_models_try_acquire(models, name);
    if (!name || !*name)
        name = emb_models_default_name(models);
    bool may = open ? may_use(call->caller, open)
                    : emb_caller_may_use(call->caller, name) ||
                          emb_caller_may_use(call->caller, without_organisation(name));
    emb_models_release(open);
    if (!may)
        forbid(call, name);
    return may;
}

/* A name that is not here but at a provider: it embeds, and that is all it does. */
static void fail_hosted(emb_api_call *call, const char *model)
{
    emb_call_fail(
        call, emb_envelope_field_status(call->route->family), "model_is_hosted", "model",
        "model: %.200s is served by a provider, which embeds texts and does nothing else; this needs a "
        "model that is on this machine.",
        model);
}

emb_served *emb_call_model(emb_api_call *call, const char *model)
{
    emb_error err;
    if (!may_ask_for(call, model))
        return NULL;
    emb_models_release(call->served);
    call->served = NULL;
    if (emb_models_acquire(emb_service_models(call->service), model, emb_exchange_gone(call->x),
                           &call->served, &err)) {
        call->served = NULL;
        if (model && *model && err.code != EMB_E_NOMEM && emb_service_is_remote(call->service, model))
            fail_hosted(call, model);
        else
            emb_call_fail_error(call, &err);
        return NULL;
    }
    if (call->caller && !may_use(call->caller, call->served)) {
        forbid(call, call->served->name);
        return NULL;
    }
    return call->served;
}

/* ---- embedding ---- */

static void run_parked(emb_exchange *x)
{
    emb_api_call *call = emb_exchange_data(x);
    call->work(call);
}

static void park(emb_api_call *call, void (*work)(emb_api_call *call),
                 bool (*where)(emb_exchange *x, void (*work)(emb_exchange *x)))
{
    if (call->parked) { /* a worker has it */
        work(call);
        return;
    }
    call->work = work;
    call->parked = true; /* before: the worker may begin at once */
    if (!where(call->x, run_parked))
        emb_call_fail_busy(call);
}

void emb_call_park(emb_api_call *call, void (*work)(emb_api_call *call))
{
    park(call, work, emb_exchange_park);
}

/* What reading, scanning and counting of takes a fraction of a millisecond. */
static bool is_short(emb_api_call *call)
{
    size_t length;
    emb_exchange_body(call->x, &length);
    return length <= SHORT_BODY_BYTES;
}

static void deliver(emb_api_call *call)
{
    call->has_answer = true;
    if (call->caller)
        emb_caller_count_tokens(call->caller, call->answer.total_tokens, emb_now_ns());
    call->write(call, &call->answer);
}

static void embed_on_worker(emb_api_call *call)
{
    emb_error err;
    if (call->caller && !emb_service_is_remote(call->service, call->request.model) &&
        !emb_call_model(call, call->request.model))
        return;
    if (emb_service_embed(call->service, &call->request, call->arena, &call->answer, &err)) {
        emb_call_fail_error(call, &err);
        return;
    }
    deliver(call);
}

/* Whether L1 has answered. */
static bool embed_here(emb_api_call *call)
{
    if (call->parked || call->request.count > IN_PLACE_TEXTS || !call->request.cache_read)
        return false;
    if (!emb_service_embed_cached(call->service, &call->request, call->arena, &call->answer))
        return false;
    if (call->caller &&
        !may_have(call->caller, &call->answer)) { /* opened since may_ask_for; or by another name */
        emb_answer_done(&call->answer);
        return false; /* embed_on_worker looks again */
    }
    deliver(call);
    return true;
}

void emb_call_embed(emb_api_call *call, const emb_request *request,
                    void (*write)(emb_api_call *call, const emb_answer *answer))
{
    call->request = *request;
    call->request.caller = call->caller;
    call->write = write;
    if (!call->has_headers && !emb_call_headers(call, &call->request))
        return;
    if (call->request.count > call->config->max_inputs) {
        emb_exchange_set_refused(call->x, "too_large");
        emb_call_fail(call, 413, "too_many_inputs", call->texts_member,
                      "%zu texts are more than the %zu that one request may have (server.max_inputs).",
                      call->request.count, call->config->max_inputs);
        return;
    }
    if (may_ask_for(call, call->request.model) && !embed_here(call))
        park(call, embed_on_worker, is_short(call) ? emb_exchange_park_here : emb_exchange_park);
}
