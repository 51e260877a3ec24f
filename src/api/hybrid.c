/*
 * hybrid.c: the hybrid system's routes below /api/v1/embeddings that embed and compare, and tell how it goes.
 *
 * Every text is answered with its route: who made its vector, in which space, at which cost, by which rule.
 * `route` tells the same of a request that is not run, with every candidate that was passed over.
 *
 * A pinned space names model, revision and settings ("local/bge-m3@5617a9f61b02:1024:cls:l2"). Model and
 * dimensions are taken from it where the request does not say; whatever the answer's space then is, it must
 * be the pinned one, or the request fails with 409: vectors of another space are never handed out under its
 * name.
 */
#include "api/hybrid.h"
#include "api/decode.h"
#include "api/out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- embedding ---- */

/* Whether the answer is in the space that was asked for; otherwise has answered. */
static bool keeps_space(emb_api_call *call, const emb_answer *a)
{
    const char *pinned = call->state;
    if (!pinned || strcmp(pinned, a->space) == 0)
        return true;
    emb_call_fail(call, 409, "space_unavailable", "space",
                  "The space \"%.200s\" was asked for; what is here makes \"%.200s\", and vectors of two "
                  "spaces cannot be "
                  "compared.",
                  pinned, a->space);
    return false;
}

static const char *source_name(uint8_t source)
{
    static const char *const names[] = {"none", "l1", "l2", "computed", "shared"};
    return source < sizeof names / sizeof *names ? names[source] : "none";
}

static bool is_cached(uint8_t source)
{
    return source == EMB_CACHE_L1 || source == EMB_CACHE_L2;
}

/* The cost of text i: its share of the tokens that were paid for. */
static uint64_t cost_of(const emb_answer *a, size_t i, uint64_t paid_tokens)
{
    if (!paid_tokens || is_cached(a->sources[i]))
        return 0;
    return (uint64_t)((__uint128_t)a->cost_nusd * a->tokens[i] / paid_tokens);
}

static void write_text(emb_out *o, const emb_answer *a, size_t i, uint64_t paid_tokens)
{
    bool cached = is_cached(a->sources[i]);
    emb_out_open(o, NULL, '{');
    emb_out_count(o, "index", i);
    emb_out_text(o, "provider", a->provider);
    emb_out_text(o, "model", a->model);
    emb_out_text(o, "space", a->space);
    emb_out_usd(o, "cost_usd", cost_of(a, i, paid_tokens));
    emb_out_real(o, "latency_ms", (double)(cached ? a->cache_ns : a->total_ns) / 1e6, 3);
    emb_out_bool(o, "cached", cached);
    emb_out_text(o, "source", source_name(a->sources[i]));
    emb_out_count(o, "tokens", a->tokens[i]);
    emb_out_open(o, "route", '{');
    emb_out_text(o, "provider", a->provider);
    emb_out_text(o, "path", a->path);
    emb_out_text(o, "rule", a->rule);
    emb_out_text(o, "reason", a->reason);
    if (a->fell_from)
        emb_out_text(o, "fallback_from", a->fell_from);
    emb_out_close(o, '}');
    emb_out_close(o, '}');
}

static void write_embeddings(emb_api_call *call, const emb_answer *a)
{
    uint64_t paid_tokens = 0;
    emb_out o;
    if (!keeps_space(call, a))
        return;
    for (size_t i = 0; i < a->count; i++)
        paid_tokens += is_cached(a->sources[i]) ? 0 : a->tokens[i];
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_rows(&o, "embeddings", a->vectors, a->count, a->dimension);
    emb_out_count(&o, "dimension", a->dimension);
    emb_out_text(&o, "provider", a->provider);
    emb_out_text(&o, "model", a->model);
    emb_out_text(&o, "space", a->space);
    emb_out_open(&o, "results", '[');
    for (size_t i = 0; i < a->count; i++)
        write_text(&o, a, i, paid_tokens);
    emb_out_close(&o, ']');
    emb_out_count(&o, "cached_count", a->cached);
    emb_out_count(&o, "total_tokens", a->total_tokens);
    emb_out_usd(&o, "total_cost_usd", a->cost_nusd);
    emb_out_real(&o, "latency_ms", (double)a->total_ns / 1e6, 3);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, a);
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n > k && strcmp(text + n - k, end) == 0;
}

/* "provider/model@revision:dimension:pooling:norm": fills what the request left open. */
static bool pin_space(emb_api_call *call, const char *space, emb_request *r)
{
    const char *slash = strchr(space, '/'), *at = strrchr(space, '@');
    const char *colon = at ? strchr(at, ':') : NULL;
    char *end = NULL;
    unsigned long dimension = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!slash || !at || at <= slash + 1 || !colon || end == colon + 1 || *end != ':' || dimension == 0) {
        emb_call_fail_field(call, "space",
                            "\"%.120s\" is not a space; an answer's \"space\" is one, such as "
                            "\"local/bge-m3@5617a9f61b02:1024:cls:l2\".",
                            space);
        return false;
    }
    if (!r->model || !*r->model)
        r->model = emb_arena_strndup(call->arena, slash + 1, (size_t)(at - slash - 1));
    if (!r->model) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return false;
    }
    if (!r->dimensions && dimension <= 65536)
        r->dimensions = dimension;
    if (r->normalize == EMB_DEFAULT && ends_in(space, ":l2"))
        r->normalize = EMB_ON;
    else if (r->normalize == EMB_DEFAULT && ends_in(space, ":none"))
        r->normalize = EMB_OFF; /* "api" is what an API does that is told nothing */
    r->space = space;
    call->state = (void *)space;
    return true;
}

static bool decode_options(emb_api_call *call, emb_json_value root, emb_request *r)
{
    const char *space = NULL;
    bool use_cache = true;
    int role = 0;
    if (!emb_decode_common(call, root, r) || !emb_decode_bool(call, root, "use_cache", &use_cache) ||
        !emb_decode_choice(call, root, "input_type", EMB_INPUT_TYPES, &role) ||
        !emb_decode_name(call, root, "space", &space))
        return false;
    r->cache_read &= use_cache;
    r->cache_write &= use_cache;
    r->role = (emb_role)role;
    return !space || !*space || pin_space(call, space, r);
}

bool emb_hybrid_decode(emb_api_call *call, emb_request *r)
{
    emb_json_value root;
    return emb_call_json(call, &root) && emb_call_headers(call, r) &&
           emb_decode_texts(call, root, "texts", EMB_TEXTS_ONE | EMB_TEXTS_MANY | EMB_TEXTS_NOT_EMPTY, r,
                            NULL) &&
           decode_options(call, root, r);
}

static void embed(emb_api_call *call)
{
    emb_request r = EMB_REQUEST_INIT;
    if (emb_hybrid_decode(call, &r))
        emb_call_embed(call, &r, write_embeddings);
}

/* ---- compare ---- */

static void write_cosine(emb_api_call *call, const emb_answer *a)
{
    emb_out o;
    if (!keeps_space(call, a))
        return;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_float(&o, "cosine", (float)emb_cosine(a->vectors, a->vectors + a->dimension, a->dimension));
    emb_out_text(&o, "provider", a->provider);
    emb_out_text(&o, "model", a->model);
    emb_out_text(&o, "space", a->space);
    emb_out_count(&o, "dimension", a->dimension);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, a);
}

static void compare(emb_api_call *call)
{
    emb_request r = EMB_REQUEST_INIT, one = EMB_REQUEST_INIT;
    emb_json_value root;
    emb_text *both = emb_arena_calloc(call->arena, 2, sizeof *both);
    static const char *const members[] = {"a", "b"};
    if (!both) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return;
    }
    if (!emb_call_json(call, &root) || !emb_call_headers(call, &r))
        return;
    for (size_t i = 0; i < 2; i++) {
        if (!emb_decode_texts(call, root, members[i], EMB_TEXTS_ONE | EMB_TEXTS_NOT_EMPTY, &one, NULL))
            return;
        both[i] = one.texts[0];
    }
    call->texts_member = NULL;
    r.texts = both;
    r.count = 2;
    if (decode_options(call, root, &r))
        emb_call_embed(call, &r, write_cosine);
}

/* ---- health ---- */

static const char *status_of(const emb_instance_view *v, bool ready)
{
    if (strcmp(v->kind, "local") == 0)
        return ready ? "healthy" : "starting";
    return v->breaker.state == EMB_BREAKER_OPEN        ? "unhealthy"
           : v->limited                                ? "limited"
           : v->breaker.state == EMB_BREAKER_HALF_OPEN ? "recovering"
                                                       : "healthy";
}

static void write_breaker(emb_out *o, const emb_instance_view *v)
{
    emb_out_open(o, "breaker", '{');
    emb_out_text(o, "state", emb_breaker_state_name(v->breaker.state));
    emb_out_count(o, "failures", v->breaker.failures);
    if (v->breaker.state != EMB_BREAKER_CLOSED)
        emb_out_text(o, "reason", v->breaker.reason);
    emb_out_close(o, '}');
}

/* "providers": what each instance is, how it is, and what is known of its last minutes. */
void emb_hybrid_write_providers(emb_out *o, emb_api_call *call)
{
    emb_instance_view *views;
    size_t count;
    emb_error err;
    bool ready = emb_service_ready(call->service);
    emb_out_open(o, "providers", '[');
    if (emb_service_instances(call->service, call->arena, &views, &count, &err))
        count = 0;
    for (size_t i = 0; i < count; i++) {
        const emb_instance_view *v = &views[i];
        emb_out_open(o, NULL, '{');
        emb_out_text(o, "name", v->name);
        emb_out_text(o, "kind", v->kind);
        emb_out_text(o, "status", status_of(v, ready));
        emb_out_text(o, "default_model", v->models[0]);
        if (i == 0) {
            emb_out_count(o, "models_loaded", emb_models_loaded(emb_service_models(call->service)));
        } else {
            write_breaker(o, v);
            emb_out_count(o, "calls", v->calls);
            emb_out_count(o, "attempts", v->attempts);
            emb_out_count(o, "retries", v->retries);
            emb_out_count(o, "failures", v->failures);
            emb_out_count(o, "tokens", v->tokens);
            emb_out_real(o, "p50_ms", v->p50_ms, 3);
            emb_out_real(o, "p95_ms", v->p95_ms, 3);
            if (v->last_error[0])
                emb_out_text(o, "last_error", v->last_error);
        }
        emb_out_close(o, '}');
    }
    emb_out_close(o, ']');
}

static bool has_sick_provider(emb_api_call *call)
{
    emb_instance_view *views;
    size_t count;
    emb_error err;
    if (emb_service_instances(call->service, call->arena, &views, &count, &err))
        return false;
    for (size_t i = 1; i < count; i++)
        if (views[i].breaker.state == EMB_BREAKER_OPEN)
            return true;
    return false;
}

static void write_stores(emb_out *o, emb_service *service)
{
    emb_ledger *ledger = emb_service_ledger(service);
    emb_budget *budget = emb_service_budget(service);
    emb_out_open(o, "stores", '{');
    if (ledger)
        emb_out_text(o, "ledger", emb_ledger_is_up(ledger) ? "up" : "down");
    if (budget)
        emb_out_text(o, "shared_state", emb_budget_is_up(budget) ? "up" : "down");
    emb_out_close(o, '}');
}

/* cache NULL: there is none, or nobody could ask. */
static void write_health(emb_api_call *call, const emb_cache_stats *cache)
{
    bool draining = emb_api_draining(call->api), ready = emb_service_ready(call->service);
    bool has_l2 = cache && strcmp(cache->l2_kind, "none") != 0, down = has_l2 && !cache->l2_up;
    emb_out o;
    down |= has_sick_provider(call);
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_text(&o, "status", draining ? "draining" : !ready ? "starting" : down ? "degraded" : "healthy");
    emb_hybrid_write_providers(&o, call);
    emb_out_open(&o, "cache", '{');
    emb_out_bool(&o, "enabled", emb_service_cache(call->service) != NULL);
    emb_out_text(&o, "l2", has_l2 ? cache->l2_kind : "none");
    if (has_l2)
        emb_out_bool(&o, "l2_up", cache->l2_up);
    emb_out_close(&o, '}');
    write_stores(&o, call->service);
    emb_out_text(&o, "version", emb_version());
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void write_health_on_worker(emb_exchange *x)
{
    emb_api_call *call = emb_exchange_data(x);
    emb_cache *cache = emb_service_cache(call->service);
    emb_cache_stats stats;
    if (cache)
        emb_cache_get_stats(cache, &stats);
    write_health(call, cache ? &stats : NULL);
}

/* Asking the cache may take a moment; when no worker is free, the answer comes at once and says nothing of
 * it. */
static void get_health(emb_api_call *call)
{
    if (!emb_exchange_park(call->x, write_health_on_worker))
        write_health(call, NULL);
}

/* ---- metrics ---- */

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static void write_percentiles(emb_out *o, const char *name, const emb_window_stats *s)
{
    emb_out_open(o, name, '{');
    emb_out_real(o, "p50_ms", s->p50 * 1e3, 3);
    emb_out_real(o, "p95_ms", s->p95 * 1e3, 3);
    emb_out_real(o, "p99_ms", s->p99 * 1e3, 3);
    emb_out_close(o, '}');
}

/* Of the last minutes. */
static void write_latency(emb_out *o, const emb_api_call *call)
{
    static const char *const names[EMB_LATENCIES] = {"embed", "queue", "compute"};
    emb_window_stats s;
    emb_out_count(o, "latency_window_seconds", EMB_LATENCY_SECONDS);
    emb_out_open(o, "latency", '{');
    emb_api_get_latency(call->api, &s);
    write_percentiles(o, "requests", &s);
    for (int i = 0; i < EMB_LATENCIES; i++) {
        emb_service_get_latency(call->service, (emb_latency)i, &s);
        write_percentiles(o, names[i], &s);
    }
    emb_out_close(o, '}');
}

static void write_totals(emb_out *o, emb_metrics *m, const emb_service_totals *t)
{
    emb_out_open(o, "requests", '{');
    emb_out_count(o, "total", t->requests);
    emb_out_count(o, "errors", t->errors);
    emb_out_real(o, "error_rate", share((double)t->errors, (double)(t->requests + t->errors)), 6);
    emb_out_real(o, "active", emb_metrics_sum(m, EMB_METRIC_REQUESTS_ACTIVE, -1, NULL), 0);
    emb_out_real(o, "rejected", emb_metrics_sum(m, EMB_METRIC_REJECTED, -1, NULL), 0);
    emb_out_close(o, '}');
    emb_out_open(o, "throughput", '{');
    emb_out_real(o, "requests_per_second", share((double)t->requests, t->since_seconds), 3);
    emb_out_real(o, "texts_per_second", share((double)t->texts, t->since_seconds), 3);
    emb_out_real(o, "tokens_per_second", share((double)t->tokens, t->since_seconds), 3);
    emb_out_close(o, '}');
    emb_out_open(o, "texts", '{');
    emb_out_count(o, "total", t->texts);
    emb_out_count(o, "l1", t->l1_texts);
    emb_out_count(o, "l2", t->l2_texts);
    emb_out_count(o, "computed", t->computed_texts);
    emb_out_count(o, "shared", t->shared_texts);
    emb_out_close(o, '}');
    emb_out_count(o, "tokens", t->tokens);
    emb_out_usd(o, "cost_usd", t->cost_nusd);
}

static void write_models(emb_out *o, emb_metrics *m, const emb_model_listing *models, size_t count)
{
    emb_out_open(o, "models", '[');
    for (size_t i = 0; i < count; i++) {
        if (!models[i].open)
            continue;
        emb_out_open(o, NULL, '{');
        emb_out_text(o, "name", models[i].name);
        emb_out_text(o, "provider", models[i].provider);
        emb_out_bool(o, "loaded", models[i].loaded);
        emb_out_real(o, "texts", emb_metrics_sum(m, EMB_METRIC_TEXTS, 0, models[i].name), 0);
        emb_out_real(o, "tokens", emb_metrics_sum(m, EMB_METRIC_TOKENS, 0, models[i].name), 0);
        emb_out_close(o, '}');
    }
    emb_out_close(o, ']');
}

/* Of the last minutes: what alerts are judged by. */
static void write_recent(emb_out *o, emb_service *service)
{
    emb_service_recent r;
    emb_service_get_recent(service, &r);
    emb_out_open(o, "recent", '{');
    emb_out_count(o, "seconds", r.seconds);
    emb_out_count(o, "requests", r.requests);
    emb_out_real(o, "error_rate", share((double)r.errors, (double)r.requests), 6);
    emb_out_real(o, "cache_hit_rate", share((double)r.cached_texts, (double)r.texts), 6);
    emb_out_real(o, "p50_ms", r.p50_ms, 3);
    emb_out_real(o, "p95_ms", r.p95_ms, 3);
    emb_out_real(o, "p99_ms", r.p99_ms, 3);
    emb_out_close(o, '}');
}

static void write_budget(emb_out *o, emb_api_call *call)
{
    emb_budget *budget = emb_service_budget(call->service);
    emb_budget_use use;
    if (!budget || !emb_budget_peek(budget, "global", &use))
        return;
    emb_out_open(o, "budget", '{');
    emb_out_usd(o, "daily_limit_usd", (uint64_t)(call->config->daily_api_budget_usd * 1e9));
    emb_out_usd(o, "spent_usd", use.spent_nusd);
    emb_out_usd(o, "reserved_usd", use.reserved_nusd);
    emb_out_close(o, '}');
}

static void get_metrics_on_worker(emb_api_call *call)
{
    emb_metrics *m = emb_service_metrics(call->service);
    emb_service_totals t;
    emb_model_listing *models;
    size_t count;
    emb_error err;
    if (emb_service_list_models(call->service, call->arena, &models, &count, &err)) {
        emb_call_fail_error(call, &err);
        return;
    }
    emb_service_get_totals(call->service, &t);
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_real(&o, "since_seconds", t.since_seconds, 3);
    write_latency(&o, call);
    write_totals(&o, m, &t);
    emb_hybrid_write_cache(&o, "cache", emb_service_cache(call->service));
    write_models(&o, m, models, count);
    emb_hybrid_write_providers(&o, call);
    write_recent(&o, call->service);
    write_budget(&o, call);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void get_metrics(emb_api_call *call)
{
    emb_call_park(call, get_metrics_on_worker);
}

/* ---- the table ---- */

#define NOT_BLANK EMB_HYBRID_NOT_BLANK
#define OPTION_MEMBERS EMB_HYBRID_OPTION_MEMBERS
#define STRING "{\"type\":\"string\"}"
#define BOOLEAN "{\"type\":\"boolean\"}"
#define COUNT EMB_HYBRID_COUNT
#define AMOUNT EMB_HYBRID_AMOUNT
#define EMBED_REQUEST EMB_HYBRID_EMBED_REQUEST
#define RESULT                                                                                              \
    "{\"type\":\"object\",\"required\":[\"index\",\"provider\",\"model\",\"space\",\"cost_usd\",\"latency_" \
    "ms\",\"cached\","                                                                                      \
    "\"source\",\"tokens\",\"route\"],\"properties\":{\"index\":" COUNT ",\"provider\":" STRING             \
    ",\"model\":" STRING ",\"space\":" STRING ",\"cost_usd\":" AMOUNT ",\"latency_ms\":" AMOUNT             \
    ",\"cached\":" BOOLEAN                                                                                  \
    ",\"source\":{\"enum\":[\"none\",\"l1\",\"l2\",\"computed\",\"shared\"]},\"tokens\":" COUNT             \
    ",\"route\":{\"type\":\"object\",\"required\":[\"provider\",\"path\",\"rule\",\"reason\"],"             \
    "\"properties\":"                                                                                       \
    "{\"provider\":" STRING ",\"path\":{\"enum\":[\"hybrid\",\"legacy\"]},\"rule\":" STRING                 \
    ",\"reason\":" STRING ",\"fallback_from\":" STRING "}}}}"
#define EMBED_ANSWER                                                                                        \
    "{\"type\":\"object\",\"required\":[\"embeddings\",\"dimension\",\"provider\",\"model\",\"space\","     \
    "\"results\","                                                                                          \
    "\"cached_count\",\"total_tokens\",\"total_cost_usd\",\"latency_ms\"],\"properties\":{\"embeddings\":{" \
    "\"type\":"                                                                                             \
    "\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"number\"}}},\"dimension\":" COUNT        \
    ",\"provider\":" STRING ",\"model\":" STRING ",\"space\":" STRING                                       \
    ",\"results\":{\"type\":\"array\",\"items\":" RESULT "},\"cached_count\":" COUNT                        \
    ",\"total_tokens\":" COUNT ",\"total_cost_usd\":" AMOUNT ",\"latency_ms\":" AMOUNT "}}"
#define COMPARE_REQUEST                                                                                    \
    "{\"type\":\"object\",\"required\":[\"a\",\"b\"],\"properties\":{\"a\":" NOT_BLANK ",\"b\":" NOT_BLANK \
    "," OPTION_MEMBERS "},\"examples\":[{\"a\":\"profit\",\"b\":\"earnings\"}]}"
#define COMPARE_ANSWER                                                                                \
    "{\"type\":\"object\",\"required\":[\"cosine\",\"provider\",\"model\",\"space\",\"dimension\"],"  \
    "\"properties\":{"                                                                                \
    "\"cosine\":{\"type\":\"number\"},\"provider\":" STRING ",\"model\":" STRING ",\"space\":" STRING \
    ",\"dimension\":" COUNT "}}"
#define HEALTH_ANSWER                                                                                        \
    "{\"type\":\"object\",\"required\":[\"status\",\"providers\",\"cache\",\"version\"],\"properties\":{"    \
    "\"status\":"                                                                                            \
    "{\"enum\":[\"healthy\",\"degraded\",\"starting\",\"draining\"]},\"providers\":{\"type\":\"array\","     \
    "\"items\":"                                                                                             \
    "{\"type\":\"object\",\"required\":[\"name\",\"status\"],\"properties\":{\"name\":" STRING               \
    ",\"status\":" STRING ",\"default_model\":{\"type\":[\"string\",\"null\"]},\"models_loaded\":" COUNT     \
    "}}},\"cache\":{\"type\":\"object\",\"required\":["                                                      \
    "\"enabled\",\"l2\"],\"properties\":{\"enabled\":" BOOLEAN ",\"l2\":" STRING ",\"l2_up\":" BOOLEAN "}}," \
    "\"version\":" STRING "}}"
#define LATENCY                                                                                   \
    "{\"type\":\"object\",\"required\":[\"p50_ms\",\"p95_ms\",\"p99_ms\"],\"properties\":{\"p50_" \
    "ms\":" AMOUNT ",\"p95_ms\":" AMOUNT ",\"p99_ms\":" AMOUNT "}}"
#define METRICS_ANSWER                                                                                      \
    "{\"type\":\"object\",\"required\":[\"since_seconds\",\"latency\",\"requests\",\"throughput\","         \
    "\"texts\",\"cache\","                                                                                  \
    "\"models\"],\"properties\":{\"latency_window_seconds\":" COUNT ",\"since_seconds\":" AMOUNT            \
    ",\"latency\":{\"type\":\"object\",\"required\":["                                                      \
    "\"requests\",\"embed\",\"queue\",\"compute\"],\"additionalProperties\":" LATENCY                       \
    "},\"requests\":{\"type\":"                                                                             \
    "\"object\",\"required\":[\"total\",\"errors\",\"error_rate\"]},\"throughput\":{\"type\":\"object\","   \
    "\"required\":["                                                                                        \
    "\"requests_per_second\",\"texts_per_second\",\"tokens_per_second\"],\"additionalProperties\":" AMOUNT  \
    "},\"texts\":{\"type\":\"object\",\"required\":[\"total\",\"l1\",\"l2\",\"computed\",\"shared\"],"      \
    "\"additionalProperties\":" COUNT "},\"tokens\":" COUNT ",\"cost_usd\":" AMOUNT                         \
    ",\"cache\":" EMB_HYBRID_CACHE_SCHEMA ",\"models\":{\"type\":\"array\",\"items\":{\"type\":\"object\"," \
    "\"required\":[\"name\",\"provider\",\"loaded\","                                                       \
    "\"texts\",\"tokens\"]}}}}"

const emb_route emb_routes_hybrid[] = {
    {EMB_HTTP_POST, "/api/v1/embeddings", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_USE, embed,
     "Embed texts and tell of each who made its vector, where and at which cost.", EMBED_REQUEST,
     EMBED_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/api/v1/embeddings/compare", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_USE, compare,
     "The cosine of two texts.", COMPARE_REQUEST, COMPARE_ANSWER, NULL, NULL},
    {EMB_HTTP_GET, "/api/v1/embeddings/health", EMB_FAMILY_HYBRID, EMB_AUTH_HEALTH, EMB_RIGHT_ANY, get_health,
     "Whether providers and cache are well.", NULL, HEALTH_ANSWER, NULL, NULL},
    {EMB_HTTP_GET, "/api/v1/embeddings/metrics", EMB_FAMILY_HYBRID, EMB_AUTH_METRICS, EMB_RIGHT_READ,
     get_metrics,
     "Latencies of the last 5 minutes, throughput, cache and models; totals since the start or the last "
     "reset.",
     NULL, METRICS_ANSWER, NULL, NULL},
    {0}};
