/*
 * provider.c: a provider's life: the configuration is copied (a reload may release it while calls run),
 * limits and connections are made, the series of its metrics looked up once. The work of a call is in call.c.
 */
#include "provider/provider.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "crypto/crypto.h"
#include "provider/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MOST_AUTHORITIES_BYTES = 16 << 20 };

const char *emb_attempt_end_name(emb_attempt_end end)
{
    static const char *const names[EMB_ATTEMPT_ENDS] = {"ok",      "not_sent",  "cancelled", "timeout",
                                                        "broken",  "limited",   "quota",     "denied",
                                                        "refused", "bad_answer"};
    return (unsigned)end < EMB_ATTEMPT_ENDS ? names[end] : "unknown";
}

/* ---- the copy of a configuration ---- */

static bool copy(emb_arena *memory, const char **text)
{
    const char *from = *text ? *text : "";
    *text = emb_arena_strndup(memory, from, strlen(from));
    return *text != NULL;
}

static bool copy_headers(emb_arena *memory, emb_provider_config *c)
{
    emb_header_config *headers = emb_arena_calloc(memory, c->header_count + 1, sizeof *headers);
    for (size_t i = 0; i < c->header_count && headers; i++) {
        headers[i] = c->headers[i];
        if (!copy(memory, &headers[i].name) || !copy(memory, &headers[i].value))
            return false;
    }
    c->headers = headers;
    return headers != NULL;
}

static bool copy_models(emb_arena *memory, emb_provider_config *c)
{
    emb_provider_model_config *models = emb_arena_calloc(memory, c->model_count + 1, sizeof *models);
    for (size_t i = 0; i < c->model_count && models; i++) {
        models[i] = c->models[i];
        if (!copy(memory, &models[i].name) || !copy(memory, &models[i].upstream))
            return false;
        if (!*models[i].upstream)
            models[i].upstream = models[i].name;
        models[i].encoding = models[i].origin = models[i].revision = models[i].query_prompt =
            models[i].document_prompt = "";
    }
    c->models = models;
    return models != NULL;
}

static bool copy_config(emb_arena *memory, emb_provider_config *c)
{
    return copy(memory, &c->name) && copy(memory, &c->base_url) && copy(memory, &c->api_key) &&
           copy(memory, &c->api_version) && copy(memory, &c->proxy) && copy(memory, &c->ca_file) &&
           copy_headers(memory, c) && copy_models(memory, c);
}

/* ---- opening and closing ---- */

static bool find_series(emb_provider *p)
{
    emb_metrics *m = p->metrics;
    const char *name = p->config.name;
    emb_provider_series *s = &p->series;
    s->tokens = emb_arena_calloc(&p->memory, p->config.model_count + 1, sizeof *s->tokens);
    if (!s->tokens)
        return false;
    for (unsigned i = 0; i < EMB_ATTEMPT_ENDS; i++)
        s->ends[i] = emb_metrics_series(m, EMB_METRIC_PROVIDER_ATTEMPTS, name,
                                        emb_attempt_end_name((emb_attempt_end)i));
    s->seconds = emb_metrics_series(m, EMB_METRIC_PROVIDER_SECONDS, name);
    s->retries = emb_metrics_series(m, EMB_METRIC_PROVIDER_RETRIES, name);
    s->active = emb_metrics_series(m, EMB_METRIC_PROVIDER_ACTIVE, name);
    for (size_t i = 0; i < p->config.model_count; i++)
        s->tokens[i] = emb_metrics_series(m, EMB_METRIC_PROVIDER_TOKENS, name, p->config.models[i].name);
    return true;
}

/* NULL: it is one. By the reader that takes it apart at each call: ports that are none, brackets, an @ in a
 * password. "host:3128" is a proxy, too, as in every program that obeys HTTPS_PROXY. */
static const char *address_problem(const char *url, bool proxy)
{
    static const char *const schemes[] = {"http", "https", "socks4", "socks4a", "socks5", "socks5h"};
    CURLU *parsed = curl_url();
    char *scheme = NULL;
    if (!parsed)
        return "memory is short";
    CURLUcode code = curl_url_set(parsed, CURLUPART_URL, url,
                                  CURLU_NON_SUPPORT_SCHEME | (proxy ? (unsigned)CURLU_GUESS_SCHEME : 0u));
    if (!code)
        code = curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0);
    bool known = false;
    for (size_t i = 0; scheme && i < sizeof schemes / sizeof *schemes; i++)
        known |= strcmp(scheme, schemes[i]) == 0;
    curl_free(scheme);
    curl_url_cleanup(parsed);
    return code ? curl_url_strerror(code) : known ? NULL : "no proxies of this kind are known";
}

/* What is wrong with it is said, and not the address: a proxy's may hold a password. */
static emb_status check_address(const emb_provider_config *c, const char *url, const char *member,
                                emb_error *err)
{
    const char *problem = address_problem(url, strcmp(member, "proxy") == 0);
    return problem ? emb_fail(err, EMB_E_INVALID, member, "%s of provider %s is not a usable address: %s",
                              member, c->name ? c->name : "", problem)
                   : EMB_OK;
}

static emb_status check_config(const emb_provider_config *c, const emb_wire *wire, emb_error *err)
{
    const char *url = c->base_url ? c->base_url : "";
    if (!wire)
        return emb_fail(err, EMB_E_INVALID, "kind", "provider %s is of a kind that has no remote interface",
                        c->name ? c->name : "");
    if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
        return emb_fail(err, EMB_E_INVALID, "base_url",
                        "the address of provider %s begins neither with http:// nor https://",
                        c->name ? c->name : "");
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= 0x20 || *p == 0x7F)
            return emb_fail(err, EMB_E_INVALID, "base_url",
                            "the address of provider %s has a space or control character",
                            c->name ? c->name : "");
    emb_status status = check_address(c, url, "base_url", err);
    return status || !c->proxy || !*c->proxy ? status : check_address(c, c->proxy, "proxy", err);
}

/* What libcurl would say at the first call, said at the start. */
static emb_status check_authorities(const emb_provider_config *c, emb_error *err)
{
    char *text;
    size_t length;
    if (!c->ca_file || !*c->ca_file)
        return EMB_OK;
    emb_status status = emb_read_file(c->ca_file, MOST_AUTHORITIES_BYTES, &text, &length, err);
    if (status) {
        emb_error_context(err, "ca_file of provider %s", c->name);
        return err->code = status == EMB_E_NOMEM ? EMB_E_NOMEM : EMB_E_INVALID;
    }
    if (!strstr(text, "-----BEGIN CERTIFICATE-----") && !strstr(text, "-----BEGIN TRUSTED CERTIFICATE-----"))
        status = emb_fail(err, EMB_E_INVALID, "ca_file",
                          "ca_file of provider %s: %s holds no certificate in PEM", c->name, c->ca_file);
    free(text);
    return status;
}

static void init_locks(emb_provider *p)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static emb_status open_parts(emb_provider *p, const emb_provider_options *options, emb_error *err)
{
    if (!copy_config(&p->memory, &p->config) || !find_series(p))
        return emb_fail_nomem(err, "a provider", p->memory.total_bytes);
    emb_status status = check_authorities(&p->config, err);
    if (!status)
        status = emb_lanes_open(&p->config, options ? options->user_agent : NULL, p->wire->key_header,
                                &p->lanes, err);
    return status ? status : emb_provider_warm_start(p, err);
}

emb_status emb_provider_open(const emb_provider_config *config, const emb_provider_options *options,
                             emb_provider **out, emb_error *err)
{
    const emb_wire *wire = emb_wire_of(config->kind);
    emb_status status = check_config(config, wire, err);
    if (status)
        return status;
    emb_provider *p = calloc(1, sizeof *p);
    if (!p)
        return emb_fail_nomem(err, "a provider", sizeof *p);
    uint64_t now = emb_now_ns();
    emb_arena_init(&p->memory);
    p->config = *config;
    p->config.concurrency = config->concurrency ? config->concurrency : 1;
    p->wire = wire;
    p->metrics = options ? options->metrics : NULL;
    p->is_closing = options ? options->is_closing : NULL;
    init_locks(p);
    emb_limits_init(&p->limits, p->config.concurrency, config->requests_per_minute, config->tokens_per_minute,
                    now);
    emb_retry_budget_init(&p->budget, now);
    atomic_init(&p->used_ns, now);
    if (!emb_random_bytes(&p->random, sizeof p->random) || !p->random)
        p->random = now | 1;
    if ((status = open_parts(p, options, err))) {
        emb_provider_close(p);
        return status;
    }
    *out = p;
    return EMB_OK;
}

void emb_provider_close(emb_provider *p)
{
    if (!p)
        return;
    emb_provider_warm_stop(p);
    emb_lanes_close(p->lanes);
    emb_limits_fini(&p->limits);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    if (p->config.api_key && p->config.api_key[0] && p->lanes)
        explicit_bzero((char *)p->config.api_key, strlen(p->config.api_key)); /* our copy */
    emb_arena_fini(&p->memory);
    free(p);
}

const char *emb_provider_name(const emb_provider *provider)
{
    return provider->config.name;
}

bool emb_provider_takes_ids(const emb_provider *provider)
{
    return provider->wire->takes_ids;
}

/* ---- accounts ---- */

uint64_t emb_provider_random(emb_provider *p)
{
    pthread_mutex_lock(&p->lock);
    uint64_t r = p->random += 0x9E3779B97F4A7C15u;
    pthread_mutex_unlock(&p->lock);
    r = (r ^ r >> 30) * 0xBF58476D1CE4E5B9u;
    r = (r ^ r >> 27) * 0x94D049BB133111EBu;
    return (r ^ r >> 31) | 1;
}

static emb_series *tokens_series(emb_provider *p, const char *model)
{
    for (size_t i = 0; i < p->config.model_count; i++)
        if (strcmp(p->config.models[i].upstream, model) == 0)
            return p->series.tokens[i];
    return emb_metrics_series(p->metrics, EMB_METRIC_PROVIDER_TOKENS, p->config.name, model);
}

void emb_provider_count(emb_provider *p, const char *model, const emb_attempt *attempt)
{
    atomic_fetch_add_explicit(&p->attempts, 1, memory_order_relaxed);
    emb_series_add(p->series.ends[attempt->end], 1);
    emb_series_observe(p->series.seconds, (double)attempt->duration_ns * 1e-9);
    if (!attempt->tokens)
        return;
    atomic_fetch_add_explicit(&p->tokens, attempt->tokens, memory_order_relaxed);
    emb_series_add(tokens_series(p, model), (double)attempt->tokens);
}

static void keep_error(emb_provider *p, const emb_error *err)
{
    atomic_fetch_add_explicit(&p->failures, 1, memory_order_relaxed);
    pthread_mutex_lock(&p->lock);
    snprintf(p->last_error, sizeof p->last_error, "%.255s", err->message);
    pthread_mutex_unlock(&p->lock);
}

void emb_provider_get_state(emb_provider *p, emb_provider_state *out)
{
    *out = (emb_provider_state){.limited_until_ns = emb_limits_held_until(&p->limits, emb_now_ns())};
    pthread_mutex_lock(&p->limits.lock);
    out->active = p->limits.calls;
    out->waiting = p->limits.waiting;
    pthread_mutex_unlock(&p->limits.lock);
    out->calls = atomic_load_explicit(&p->calls, memory_order_relaxed);
    out->attempts = atomic_load_explicit(&p->attempts, memory_order_relaxed);
    out->retries = atomic_load_explicit(&p->retries, memory_order_relaxed);
    out->failures = atomic_load_explicit(&p->failures, memory_order_relaxed);
    out->tokens = atomic_load_explicit(&p->tokens, memory_order_relaxed);
    pthread_mutex_lock(&p->lock);
    memcpy(out->last_error, p->last_error, sizeof out->last_error);
    pthread_mutex_unlock(&p->lock);
}

/* ---- calls ---- */

static emb_status run(emb_provider *p, const emb_provider_call *call, emb_provider_result *result,
                      emb_error *err)
{
    emb_error own = {0};
    emb_error *e = err ? err : &own;
    atomic_fetch_add_explicit(&p->calls, 1, memory_order_relaxed);
    emb_series_add(p->series.active, 1);
    emb_status status = emb_provider_run(p, call, result, e);
    emb_series_add(p->series.active, -1);
    if (status && status != EMB_E_CANCELLED && status != EMB_E_CLOSED)
        keep_error(p, e);
    return status;
}

emb_status emb_provider_embed(emb_provider *p, const emb_provider_call *call, emb_provider_result *result,
                              emb_error *err)
{
    if (!call->model)
        return emb_fail(err, EMB_E_INVALID, "model", "a call of provider %s names no model", p->config.name);
    if (call->count == 0) {
        *result = (emb_provider_result){
            .vectors = result->vectors, .dimension = result->dimension, .retry_after_ms = -1};
        return EMB_OK;
    }
    if (!result->vectors || result->dimension == 0 || result->dimension > EMB_VECTORS_MAX_DIMENSION)
        return emb_fail(err, EMB_E_INVALID, "dimension",
                        "vectors of %zu numbers cannot be asked for; 1 to %u can", result->dimension,
                        EMB_VECTORS_MAX_DIMENSION);
    return run(p, call, result, err);
}

emb_status emb_provider_probe_hooked(emb_provider *p, const char *model, uint64_t deadline_ns,
                                     const volatile int *cancel, const emb_provider_hooks *hooks,
                                     emb_provider_result *out, emb_error *err)
{
    static const emb_text text = {"dimension", 9};
    static const uint32_t tokens = 3;
    emb_provider_call call = {.model = model,
                              .texts = &text,
                              .count = 1,
                              .token_counts = &tokens,
                              .deadline_ns = deadline_ns,
                              .cancel = cancel,
                              .hooks = hooks};
    *out = (emb_provider_result){.vectors = NULL};
    return run(p, &call, out, err);
}

emb_status emb_provider_probe(emb_provider *p, const char *model, uint64_t deadline_ns, size_t *dimension,
                              emb_error *err)
{
    emb_provider_result result;
    emb_status status = emb_provider_probe_hooked(p, model, deadline_ns, NULL, NULL, &result, err);
    if (!status)
        *dimension = result.dimension;
    return status;
}
