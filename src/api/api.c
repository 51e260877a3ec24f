/*
 * api.c: from an exchange to its handler, and from its end to log and metrics.
 *
 * The loop's thread does what cannot block: route, key, then the handler, which decodes the body, and answers
 * from L1 or parks. A body of more than DECODE_HERE_BYTES goes to a worker first, so that decoding megabytes
 * holds up no other connection. Everything about a request hangs on one emb_api_call in the exchange's arena
 * (call.h).
 *
 * Series of metrics are looked up once per route and status and then kept (a lookup takes a lock): by_status
 * is filled by whoever comes first; two that come at once store the same pointer.
 */
#include "api/call.h"
#include "api/openapi.h"
#include "api/state.h"
#include "base/clock.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { DECODE_HERE_BYTES = 256 << 10 };

static const short known_statuses[] = {200, 204, 307, 400, 401, 403, 404, 405, 408, 413, 415,
                                       422, 424, 429, 431, 499, 500, 501, 503, 504, 505};
enum { KNOWN_STATUSES = sizeof known_statuses / sizeof *known_statuses };

struct emb_route_series {
    _Atomic(emb_series *) by_status[KNOWN_STATUSES];
    _Atomic(emb_series *) seconds;
};

const emb_route *const emb_route_families[] = {
    emb_routes_openai,   emb_routes_cohere,       emb_routes_ollama,
    emb_routes_embedder, emb_routes_model_server, emb_routes_similarity,
    emb_routes_tokens,   emb_routes_hybrid,       emb_routes_hybrid_cache,
    emb_routes_explain,  emb_routes_costs,        emb_routes_shadow,
    emb_routes_alerts,   emb_routes_rollout,      emb_routes_pii,
    emb_routes_system,   emb_routes_docs,         NULL};
enum { FAMILIES = sizeof emb_route_families / sizeof *emb_route_families - 1 };

/* Gauges that the server keeps itself. */
static void collect(void *context)
{
    emb_api *api = context;
    emb_http_server *server = atomic_load(&api->server);
    emb_http_stats stats = {0};
    if (server)
        emb_http_get_stats(server, &stats);
    emb_series_set(emb_metrics_series(api->metrics, EMB_METRIC_CONNECTIONS), (double)stats.connections);
    emb_series_set(emb_metrics_series(api->metrics, EMB_METRIC_REQUESTS_ACTIVE), (double)stats.active);
}

emb_status emb_api_open(emb_service *service, emb_access *access, emb_api **out, emb_error *err)
{
    emb_api *api = calloc(1, sizeof *api);
    if (!api)
        return emb_fail_nomem(err, "routes", sizeof *api);
    api->service = service;
    api->access = access;
    api->metrics = emb_service_metrics(service);
    emb_buf_init(&api->document, 16 << 20);
    emb_status status = emb_window_open(EMB_LATENCY_SECONDS, &api->seconds, err);
    if (status)
        goto fail;
    status = emb_routes_open(emb_route_families, FAMILIES, &api->routes, err);
    if (status)
        goto fail;
    size_t count = emb_routes_count(api->routes);
    api->series = calloc(count + 1, sizeof *api->series);
    if (!api->series) {
        status = emb_fail_nomem(err, "routes", count * sizeof *api->series);
        goto fail;
    }
    if ((status = emb_openapi_write(api->routes, &api->document))) {
        emb_fail(err, status, "/openapi.json", "/openapi.json cannot be made: %s", emb_status_text(status));
        goto fail;
    }
    if (api->metrics && (status = emb_metrics_on_collect(api->metrics, collect, api))) {
        emb_fail(err, status, "metrics", "metrics: %s", emb_status_text(status));
        goto fail;
    }
    *out = api;
    return EMB_OK;
fail:
    emb_api_close(api);
    return status;
}

void emb_api_close(emb_api *api)
{
    if (!api)
        return;
    emb_routes_close(api->routes);
    emb_window_close(api->seconds);
    free(api->series);
    emb_buf_fini(&api->document);
    free(api);
}

void emb_api_set_draining(emb_api *api, bool draining)
{
    atomic_store(&api->draining, draining);
}

void emb_api_set_server(emb_api *api, emb_http_server *server)
{
    atomic_store(&api->server, server);
}

bool emb_api_draining(const emb_api *api)
{
    return atomic_load(&api->draining);
}

emb_http_server *emb_api_server(const emb_api *api)
{
    return atomic_load(&api->server);
}

emb_access *emb_api_access(const emb_api *api)
{
    return api->access;
}

const emb_buf *emb_api_document(const emb_api *api)
{
    return &api->document;
}

void emb_api_get_latency(const emb_api *api, emb_window_stats *out)
{
    emb_window_read(api->seconds, emb_now_ns(), 0, out);
}

void emb_api_reset_latency(emb_api *api)
{
    emb_window_reset(api->seconds);
}

/* ---- who calls ---- */

/* The key that was sent, in any of the headers that clients of the families use. NULL: none. */
static const char *sent_key(const emb_exchange *x, size_t *length)
{
    const char *key = emb_exchange_header(x, "authorization");
    if (key && strncasecmp(key, "bearer", 6) == 0 && (key[6] == ' ' || key[6] == '\t')) {
        key += 7;
        key += strspn(key, " \t");
    } else {
        key = emb_exchange_header(x, "api-key");
        if (!key)
            key = emb_exchange_header(x, "x-api-key");
    }
    if (!key)
        return NULL;
    for (*length = strlen(key); *length && (key[*length - 1] == ' ' || key[*length - 1] == '\t');)
        --*length;
    return *length ? key : NULL;
}

static bool is_open(const emb_api_call *call)
{
    return call->route->auth == EMB_AUTH_OPEN ||
           (call->route->auth == EMB_AUTH_HEALTH && call->config->open_health) ||
           (call->route->auth == EMB_AUTH_METRICS && call->config->open_metrics);
}

/* The key is one of ours; may it do this? The answer names what it needs, the log who it was. */
static bool has_right(emb_api_call *call)
{
    char needed[EMB_RIGHTS_TEXT], had[EMB_RIGHTS_TEXT];
    unsigned rights = emb_caller_rights(call->caller);
    if (rights & call->route->rights)
        return true;
    emb_rights_text(call->route->rights, " or ", needed, sizeof needed);
    emb_rights_text(rights, " and ", had, sizeof had);
    emb_log(EMB_LOG_INFO, "audit: refused, the key lacks the right",
            EMB_LOG_TEXT("key", emb_caller_name(call->caller)),
            EMB_LOG_TEXT("method", emb_exchange_method_name(call->x)),
            EMB_LOG_TEXT("route", call->route->path), EMB_LOG_TEXT("needed", needed),
            EMB_LOG_TEXT("has", had));
    emb_exchange_set_refused(call->x, "right");
    emb_call_fail(call, 403, "right_needed", NULL, "%s %s needs a key with the right %s; this one has %s.",
                  emb_exchange_method_name(call->x), call->route->path, needed, had);
    return false;
}

static bool let_in(emb_api_call *call)
{
    size_t length = 0;
    uint64_t wait_ms = 0;
    if (is_open(call) || !call->api->access)
        return true;
    const char *key = sent_key(call->x, &length);
    switch (emb_access_check(call->api->access, key, length, emb_now_ns(), &call->caller, &wait_ms)) {
    case EMB_ACCESS_GRANTED:
        if (call->caller)
            emb_exchange_set_key_name(call->x, emb_caller_name(call->caller));
        return has_right(call);
    case EMB_ACCESS_MISSING:
        emb_exchange_set_refused(call->x, "auth");
        emb_exchange_add_header(call->x, "www-authenticate", "Bearer realm=\"embedd\"");
        emb_call_fail(
            call, 401, "missing_api_key", NULL,
            "An API key is needed: send it as \"Authorization: Bearer KEY\", \"api-key\" or \"x-api-key\".");
        return false;
    case EMB_ACCESS_UNKNOWN:
        emb_exchange_set_refused(call->x, "auth");
        emb_exchange_add_header(call->x, "www-authenticate",
                                "Bearer realm=\"embedd\", error=\"invalid_token\"");
        emb_call_fail(call, 401, "invalid_api_key", NULL,
                      "The API key that was sent is not one of this service.");
        return false;
    case EMB_ACCESS_LIMITED:
        break;
    }
    emb_exchange_set_refused(call->x, "rate_limit");
    emb_exchange_add_headerf(call->x, "retry-after", "%llu", (unsigned long long)((wait_ms + 999) / 1000));
    emb_exchange_add_headerf(call->x, "retry-after-ms", "%llu", (unsigned long long)wait_ms);
    emb_call_fail(call, 429, "rate_limit_exceeded", NULL,
                  "The rate limit of this API key is reached; try again in %llu ms.",
                  (unsigned long long)wait_ms);
    return false;
}

/* ---- where to ---- */

/* Names what is near, in the envelope of the nearest route's family: most likely that client's. */
static void no_route(emb_api_call *call)
{
    const emb_route *near[3];
    const char *path = emb_exchange_path(call->x);
    size_t count = emb_routes_near(call->api->routes, path, near, 3);
    char list[320] = "";
    for (size_t i = 0, at = 0; i < count && at < sizeof list; i++)
        at +=
            (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "; near it are ", near[i]->path);
    static const emb_route nowhere = {.family = EMB_FAMILY_OPENAI, .path = ""};
    call->route = count ? near[0] : &nowhere;
    emb_call_fail(call, 404, "route_not_found", NULL, "There is no route %.200s%s. /openapi.json lists all.",
                  path, list);
}

static void no_method(emb_api_call *call, unsigned methods)
{
    char allowed[80];
    emb_methods_text(methods, allowed, sizeof allowed);
    emb_exchange_add_header(call->x, "allow", allowed);
    if (emb_exchange_method(call->x) == EMB_HTTP_OPTIONS) {
        emb_call_send(call, 204, NULL, NULL);
        return;
    }
    emb_call_fail(call, 405, "method_not_allowed", NULL, "%s does not take %s; it takes %s.",
                  call->route->path, emb_exchange_method_name(call->x), allowed);
}

static void run_handler(emb_api_call *call)
{
    call->route->handle(call);
}

void emb_api_handle(void *context, emb_exchange *x)
{
    emb_api *api = context;
    emb_api_call *call = emb_arena_calloc(emb_exchange_arena(x), 1, sizeof *call);
    if (!call) {
        emb_exchange_reply_text(x, 503, "text/plain", "out of memory\n", 14);
        return;
    }
    call->api = api;
    call->x = x;
    call->service = api->service;
    call->config = emb_service_config(api->service);
    call->arena = emb_exchange_arena(x);
    emb_exchange_set_data(x, call);
    emb_route_match match;
    emb_route_result result =
        emb_routes_find(api->routes, emb_exchange_method(x), emb_exchange_path(x), call->arena, &match);
    if (result == EMB_ROUTE_NOT_FOUND) {
        no_route(call);
        return;
    }
    call->route = match.route ? match.route : emb_routes_at(api->routes, 0);
    memcpy(call->parameters, match.parameters, sizeof call->parameters);
    emb_exchange_set_route(x, call->route->path);
    if (result == EMB_ROUTE_NOMEM)
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
    else if (result == EMB_ROUTE_NO_METHOD)
        no_method(call, match.methods);
    else if (let_in(call)) {
        size_t length = 0;
        emb_exchange_body(x, &length);
        if (length > DECODE_HERE_BYTES)
            emb_call_park(call, run_handler);
        else
            run_handler(call);
    }
}

/* ---- afterwards ---- */

static int status_index(int status)
{
    for (int i = 0; i < KNOWN_STATUSES; i++)
        if (known_statuses[i] == status)
            return i;
    return -1;
}

static void count(emb_api *api, const emb_http_record *r)
{
    char status[16];
    snprintf(status, sizeof status, "%d", r->status);
    size_t row = emb_routes_index(api->routes, r->route);
    const char *label = row < emb_routes_count(api->routes) ? r->route : "none";
    int at = status_index(r->status);
    emb_series *requests =
        at < 0 ? NULL : atomic_load_explicit(&api->series[row].by_status[at], memory_order_relaxed);
    if (!requests) {
        requests = emb_metrics_series(api->metrics, EMB_METRIC_REQUESTS, label, status);
        if (at >= 0)
            atomic_store_explicit(&api->series[row].by_status[at], requests, memory_order_relaxed);
    }
    emb_series *seconds = atomic_load_explicit(&api->series[row].seconds, memory_order_relaxed);
    if (!seconds) {
        seconds = emb_metrics_series(api->metrics, EMB_METRIC_REQUEST_SECONDS, label);
        atomic_store_explicit(&api->series[row].seconds, seconds, memory_order_relaxed);
    }
    emb_series_add(requests, 1);
    emb_series_observe(seconds, (double)r->duration_ns * 1e-9);
    emb_window_observe(api->seconds, (double)r->duration_ns * 1e-9, emb_now_ns());
    if (r->gone)
        emb_series_add(emb_metrics_series(api->metrics, EMB_METRIC_CLIENT_GONE), 1);
    if (r->refused)
        emb_series_add(emb_metrics_series(api->metrics, EMB_METRIC_REJECTED, r->refused), 1);
}

/* The path is logged only where no route was found: elsewhere the route says as much, without names of
 * models. */
static void write_log(const emb_http_record *r)
{
    const char *no_route_path = r->route[0] ? NULL : r->path;
    emb_log(EMB_LOG_INFO, "request", EMB_LOG_TEXT("id", r->request_id), EMB_LOG_TEXT("method", r->method),
            EMB_LOG_TEXT("route", r->route[0] ? r->route : NULL), EMB_LOG_TEXT("path", no_route_path),
            EMB_LOG_INT("status", r->status), EMB_LOG_REAL("ms", (double)r->duration_ns * 1e-6),
            EMB_LOG_INT("in", r->body_bytes), EMB_LOG_INT("out", r->answer_bytes),
            EMB_LOG_TEXT("key", r->key_name && r->key_name[0] ? r->key_name : NULL),
            EMB_LOG_TEXT("peer", r->peer), EMB_LOG_TEXT("refused", r->refused),
            EMB_LOG_BOOL("parked", r->parked), EMB_LOG_BOOL("gone", r->gone));
}

void emb_api_record(void *context, const emb_http_record *record)
{
    emb_api *api = context;
    emb_http_record r = *record;
    if (!r.route)
        r.route = "";
    count(api, &r);
    if (!emb_log_wanted(EMB_LOG_INFO))
        return;
    emb_config *config = emb_service_config(api->service);
    if (config->access_log)
        write_log(&r);
    emb_config_release(config);
}
