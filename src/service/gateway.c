/*
 * gateway.c: the instances of providers that the configuration names, opened once.
 *
 * Positions: candidates are ordered as the file has them, the local models among them (twice the number of
 * instances before them; instances have odd ones). Instances that serve the same model of the same origin and
 * revision make vectors of one space: they share the first one's position, and the router shares requests
 * among them by weight.
 *
 * A gateway holds the configuration it was made of: instances need a restart to change.
 */
#include "service/gateway.h"

#include "base/clock.h"
#include "base/error.h"
#include "pii/pii.h"
#include "service/service_parts.h"

#include <stdlib.h>
#include <string.h>

enum { LATENCY_WINDOW_S = 300 };

/* ---- opening --------------------------------------------------------------------------------- */

static unsigned position_of(const emb_gateway *g, size_t instance, const emb_provider_model_config *model)
{
    for (size_t i = 0; i < instance; i++)
        for (size_t m = 0; m < g->remotes[i].model_count; m++) {
            const emb_provider_model_config *other = g->remotes[i].models[m].config;
            if (strcmp(other->name, model->name) == 0 && strcmp(other->origin, model->origin) == 0 &&
                strcmp(other->revision, model->revision) == 0)
                return g->remotes[i].models[m].position;
        }
    return (unsigned)(instance < g->config->gateway.local_position ? 2 * instance : 2 * instance + 1);
}

static emb_status open_models(emb_gateway *g, size_t index, emb_error *err)
{
    emb_remote *remote = &g->remotes[index];
    size_t count = remote->config->model_count;
    remote->models = calloc(count ? count : 1, sizeof *remote->models);
    if (!remote->models)
        return emb_fail_nomem(err, "models of a provider", count * sizeof *remote->models);
    remote->model_count = count;
    for (size_t m = 0; m < count; m++) {
        emb_remote_model *model = &remote->models[m];
        model->remote = remote;
        model->config = &remote->config->models[m];
        model->is_default = m == 0;
        model->position = position_of(g, index, model->config);
        atomic_init(&model->dimension, model->config->dimension);
        emb_model_series_make(g->service->metrics, model->config->name, &model->series);
        emb_status status =
            remote->config->kind == EMB_PROVIDER_EMBEDD ? emb_peer_open(&model->peer, err) : EMB_OK;
        if (status)
            return status;
    }
    return EMB_OK;
}

static emb_status open_remote(emb_gateway *g, size_t index, emb_error *err)
{
    emb_remote *remote = &g->remotes[index];
    const emb_provider_config *config = &g->config->gateway.providers[index];
    const emb_provider_options options = {.metrics = g->service->metrics,
                                          .user_agent = "embedd/" EMB_VERSION_STRING};
    const emb_breaker_rules rules = {
        .failure_threshold = config->failure_threshold,
        .failure_rate = config->failure_rate,
        .minimum_calls = config->minimum_calls,
        .window_s = config->window_s,
        .recovery_timeout_s = config->recovery_timeout_s,
        .recovery_longest_s = config->recovery_longest_s,
        .slow_ms = config->slow_ms,
    };
    remote->config = config;
    emb_status status = emb_window_open(LATENCY_WINDOW_S, &remote->latency, err);
    if (!status)
        status = emb_breaker_get(g->service->kit.breakers, config->name, &rules, &remote->breaker, err);
    if (!status)
        status = emb_provider_open(config, &options, &remote->provider, err);
    return status ? status : open_models(g, index, err);
}

static emb_status open_scanner(emb_gateway *g, emb_error *err)
{
    const emb_gateway_config *config = &g->config->gateway;
    emb_pii_pattern patterns[EMB_PII_PATTERNS_MAX];
    size_t count =
        config->pii_pattern_count < EMB_PII_PATTERNS_MAX ? config->pii_pattern_count : EMB_PII_PATTERNS_MAX;
    for (size_t i = 0; i < count; i++)
        patterns[i] = (emb_pii_pattern){config->pii_patterns[i].name, config->pii_patterns[i].regex};
    const emb_pii_options options = {.kinds = *g->config->pii_kinds ? g->config->pii_kinds : NULL,
                                     .patterns = patterns,
                                     .pattern_count = count};
    return emb_pii_open(&g->scanner, &options, err);
}

static bool wants_counter(const emb_gateway *g)
{
    for (size_t i = 0; i < g->remote_count; i++)
        for (size_t m = 0; m < g->remotes[i].model_count; m++)
            if (strcmp(g->remotes[i].models[m].config->encoding, "cl100k_base") == 0)
                return true;
    return false;
}

emb_status emb_gateway_open(emb_service *service, emb_config *config, emb_gateway **out, emb_error *err)
{
    size_t count = config->gateway.provider_count;
    *out = NULL;
    if (!count)
        return EMB_OK;
    emb_gateway *g = calloc(1, sizeof *g);
    if (!g)
        return emb_fail_nomem(err, "gateway", sizeof *g);
    g->service = service;
    g->config = emb_config_retain(config);
    g->remotes = calloc(count, sizeof *g->remotes);
    emb_status status =
        g->remotes ? open_scanner(g, err) : emb_fail_nomem(err, "providers", count * sizeof *g->remotes);
    for (size_t i = 0; i < count && !status; i++) {
        pthread_mutex_init(&g->remotes[i].probing, NULL);
        g->remote_count = i + 1;
        status = open_remote(g, i, err);
    }
    if (!status && wants_counter(g))
        g->counter = emb_token_counter_open(config->models_path);
    if (status)
        emb_gateway_close(g);
    else
        *out = g;
    return status;
}

void emb_gateway_close(emb_gateway *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->remote_count; i++) {
        emb_provider_close(g->remotes[i].provider);
        emb_window_close(g->remotes[i].latency);
        pthread_mutex_destroy(&g->remotes[i].probing);
        for (size_t m = 0; m < g->remotes[i].model_count; m++)
            emb_peer_close(g->remotes[i].models[m].peer);
        free(g->remotes[i].models);
    }
    free(g->remotes);
    emb_pii_close(g->scanner);
    emb_token_counter_close(g->counter);
    emb_config_release(g->config);
    free(g);
}

/* ---- money ----------------------------------------------------------------------------------- */

uint64_t emb_remote_price(const emb_remote_model *model, uint64_t calls, uint64_t tokens)
{
    const emb_provider_model_config *c = model->config;
    __uint128_t total = (__uint128_t)c->nusd_per_1k_tokens * tokens;
    total = (total + 999) / 1000 + (__uint128_t)c->nusd_per_request * calls;
    return total > UINT64_MAX ? UINT64_MAX : (uint64_t)total;
}

/* ---- views ----------------------------------------------------------------------------------- */

static void view_remote(const emb_remote *remote, uint64_t now_ns, emb_instance_view *out)
{
    emb_provider_state state;
    emb_window_stats latency;
    emb_provider_get_state(remote->provider, &state);
    emb_window_read(remote->latency, now_ns, 0, &latency);
    emb_breaker_view_get(remote->breaker, now_ns, &out->breaker);
    out->name = remote->config->name;
    out->kind = emb_provider_kind_name(remote->config->kind);
    out->is_private = remote->config->is_private;
    for (size_t m = 0; m < remote->model_count && m + 1 < sizeof out->models / sizeof *out->models; m++)
        out->models[m] = remote->models[m].config->name;
    out->available = emb_breaker_is_available(remote->breaker, now_ns);
    out->limited = state.limited_until_ns > now_ns;
    out->active = state.active;
    out->waiting = state.waiting;
    out->calls = state.calls;
    out->attempts = state.attempts;
    out->retries = state.retries;
    out->failures = state.failures;
    out->tokens = state.tokens;
    out->p50_ms = latency.p50 * 1e3;
    out->p95_ms = latency.p95 * 1e3;
    memcpy(out->last_error, state.last_error, sizeof out->last_error);
}

emb_status emb_service_instances(emb_service *service, emb_arena *arena, emb_instance_view **out,
                                 size_t *count, emb_error *err)
{
    const emb_gateway *g = service->gateway;
    size_t remotes = g ? g->remote_count : 0;
    uint64_t now_ns = emb_now_ns();
    emb_instance_view *rows = emb_arena_calloc(arena, remotes + 1, sizeof *rows);
    if (!rows)
        return emb_fail_nomem(err, "providers", (remotes + 1) * sizeof *rows);
    rows[0].name = rows[0].kind = "local";
    rows[0].is_private = true;
    rows[0].available = atomic_load(&service->ready);
    rows[0].models[0] = emb_models_default_name(service->models);
    for (size_t i = 0; i < remotes; i++)
        view_remote(&g->remotes[i], now_ns, &rows[i + 1]);
    *out = rows;
    *count = remotes + 1;
    return EMB_OK;
}

emb_status emb_service_list_models(emb_service *service, emb_arena *arena, emb_model_listing **out,
                                   size_t *count, emb_error *err)
{
    const emb_gateway *g = service->gateway;
    emb_model_listing *local;
    size_t n, more = 0;
    emb_status status = emb_models_list(service->models, arena, &local, &n, err);
    *out = local;
    *count = n;
    for (size_t i = 0; g && i < g->remote_count; i++)
        more += g->remotes[i].model_count;
    if (status || !more)
        return status;
    emb_model_listing *all = emb_arena_calloc(arena, n + more, sizeof *all);
    if (!all)
        return emb_fail_nomem(err, "models", (n + more) * sizeof *all);
    if (n)
        memcpy(all, local, n * sizeof *all);
    for (size_t i = 0; i < g->remote_count; i++)
        for (size_t m = 0; m < g->remotes[i].model_count; m++) {
            emb_remote_model *model = &g->remotes[i].models[m];
            bool is_default =
                model->is_default && strcmp(g->config->provider, g->remotes[i].config->name) == 0;
            for (size_t k = 0; is_default && k < n; k++)
                all[k].is_default = false;
            all[n++] = (emb_model_listing){.name = model->config->name,
                                           .repository = model->config->name,
                                           .provider = g->remotes[i].config->name,
                                           .path = "",
                                           .revision = model->config->revision,
                                           .open = true,
                                           .is_default = is_default,
                                           .dimension = atomic_load(&model->dimension),
                                           .max_tokens = model->config->max_tokens,
                                           .price_nusd_per_1k = model->config->nusd_per_1k_tokens};
        }
    *out = all;
    *count = n;
    return EMB_OK;
}
