/*
 * library.c: the service as a C library (include/embedd_service.h).
 *
 * A result owns an arena with everything in it, and lies in that arena itself, so that releasing it is one
 * step. Names that a model owns are copied, because the model is let go before the result.
 */
#include "base/error.h"
#include "service/service_parts.h"

#include <embedd_service.h>

#include <stdlib.h>
#include <string.h>

extern char **environ;

enum { SETTINGS_MAX = 256, SETTING_NAME_MAX = 128 };

/* ---- opening --------------------------------------------------------------------------------- */

typedef struct pairs {
    emb_config_flag flags[SETTINGS_MAX];
    char names[SETTINGS_MAX][SETTING_NAME_MAX];
    size_t count;
} pairs;

static emb_status read_pairs(const char *const *settings, pairs *out, emb_error *err)
{
    for (; settings && *settings; settings++) {
        const char *equals = strchr(*settings, '=');
        size_t length = equals ? (size_t)(equals - *settings) : 0;
        if (!equals || !length || length >= SETTING_NAME_MAX)
            return emb_fail(err, EMB_E_INVALID, "settings", "\"%.80s\" is not section.name=value", *settings);
        if (out->count == SETTINGS_MAX)
            return emb_fail(err, EMB_E_LIMIT, "settings", "more than %d settings", SETTINGS_MAX);
        memcpy(out->names[out->count], *settings, length);
        out->names[out->count][length] = 0;
        out->flags[out->count] = (emb_config_flag){out->names[out->count], equals + 1};
        out->count++;
    }
    return EMB_OK;
}

static emb_status load(const emb_service_options *options, emb_config **out, emb_error *err)
{
    static char *nothing[] = {NULL};
    pairs *p = calloc(1, sizeof *p);
    if (!p)
        return emb_fail_nomem(err, "settings", sizeof *p);
    emb_status status = read_pairs(options->settings, p, err);
    bool alone = options->ignore_environment;
    const emb_config_sources sources = {.file = options->config_file,
                                        .dotenv = alone ? NULL : ".env",
                                        .environment = alone ? nothing : environ,
                                        .flags = p->flags,
                                        .flag_count = p->count};
    if (!status)
        status = emb_config_load(&sources, out, err);
    free(p);
    return status;
}

emb_status emb_service_create(const emb_service_options *options, emb_service **out, emb_error *err)
{
    const emb_service_options defaults = EMB_SERVICE_OPTIONS_INIT;
    emb_config *config;
    emb_metrics *metrics;
    *out = NULL;
    if (!options)
        options = &defaults;
    if (options->size != sizeof *options)
        return emb_fail(err, EMB_E_INVALID, "options",
                        "options.size is %zu; initialise with EMB_SERVICE_OPTIONS_INIT", options->size);
    emb_status status = load(options, &config, err);
    if (status)
        return status;
    status = emb_metrics_open(&metrics, err);
    if (!status) {
        status = emb_service_open(config, metrics, out, err);
        if (status)
            emb_metrics_close(metrics);
        else
            atomic_store(&(*out)->ready, true);
    }
    emb_config_release(config);
    return status;
}

void emb_service_destroy(emb_service *service)
{
    emb_metrics *metrics = service ? service->metrics : NULL;
    emb_service_close(service);
    emb_metrics_close(metrics);
}

/* ---- results --------------------------------------------------------------------------------- */

typedef struct owned {
    emb_service_result result; /* first: what the caller has */
    emb_arena arena;
} owned;

static const char *copy(emb_arena *arena, const char *text)
{
    return emb_arena_strndup(arena, text ? text : "", text ? strlen(text) : 0);
}

static emb_status fill(owned *o, const emb_answer *a, emb_error *err)
{
    emb_service_result *r = &o->result;
    bool *cached = emb_arena_calloc(&o->arena, a->count ? a->count : 1, sizeof *cached);
    *r = (emb_service_result){
        .size = sizeof *r,
        .count = a->count,
        .dimension = a->dimension,
        .vectors = a->vectors,
        .cached = cached,
        .tokens = a->tokens,
        .cached_count = a->cached,
        .total_tokens = a->total_tokens,
        .cost_nusd = a->cost_nusd,
        .latency_ms = (double)a->total_ns * 1e-6,
        .provider = copy(&o->arena, a->provider),
        .model = copy(&o->arena, a->model),
        .space = copy(&o->arena, a->space),
        .reason = copy(&o->arena, a->reason),
    };
    if (!cached || !r->provider || !r->model || !r->space || !r->reason)
        return emb_fail_nomem(err, "result", a->count);
    for (size_t i = 0; i < a->count; i++)
        cached[i] = a->sources[i] == EMB_CACHE_L1 || a->sources[i] == EMB_CACHE_L2;
    return EMB_OK;
}

static emb_status run(emb_service *service, const emb_request *request, emb_service_result **out,
                      emb_error *err)
{
    emb_answer answer;
    owned *o = calloc(1, sizeof *o);
    *out = NULL;
    if (!o)
        return emb_fail_nomem(err, "result", sizeof *o);
    emb_arena_init(&o->arena);
    emb_status status = emb_service_embed(service, request, &o->arena, &answer, err);
    if (!status) {
        status = fill(o, &answer, err);
        emb_answer_done(&answer);
    }
    if (status)
        emb_service_result_free(&o->result);
    else
        *out = &o->result;
    return status;
}

void emb_service_result_free(emb_service_result *result)
{
    owned *o = (owned *)result;
    if (!o)
        return;
    emb_arena_fini(&o->arena);
    free(o);
}

/* ---- requests -------------------------------------------------------------------------------- */

static bool is_blank(const emb_text *text)
{
    for (size_t i = 0; i < text->length; i++)
        if (!strchr(" \t\r\n\v\f", text->data[i]) || !text->data[i])
            return false;
    return true;
}

static emb_status check_texts(const emb_text *texts, size_t count, emb_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (is_blank(&texts[i]))
            return emb_fail(err, EMB_E_INVALID, "texts", "text %zu is empty", i);
    return count ? EMB_OK : emb_fail(err, EMB_E_INVALID, "texts", "there is no text");
}

static emb_status generate(emb_service *service, const emb_text *texts, size_t count, const char *context,
                           const char *provider, emb_service_result **out, emb_error *err)
{
    emb_request r = EMB_REQUEST_INIT;
    *out = NULL;
    if (context && *context && !emb_context_parse(context, &r.context))
        return emb_fail(
            err, EMB_E_INVALID, "context",
            "\"%.60s\" is not a context; there are realtime, analysis, batch, sensitive and default",
            context);
    emb_status status = check_texts(texts, count, err);
    if (status)
        return status;
    r.texts = texts;
    r.count = count;
    r.preferred_provider = provider;
    r.is_private = r.context == EMB_CONTEXT_SENSITIVE;
    r.priority = r.context == EMB_CONTEXT_BATCH ? EMB_PRIORITY_BULK : EMB_PRIORITY_INTERACTIVE;
    return run(service, &r, out, err);
}

emb_status emb_service_generate(emb_service *service, const char *text, size_t length,
                                emb_service_result **out, emb_error *err)
{
    const emb_text one = {text, length};
    return generate(service, &one, 1, NULL, NULL, out, err);
}

emb_status emb_service_generate_many(emb_service *service, const emb_text *texts, size_t count,
                                     const char *context, const char *preferred_provider,
                                     emb_service_result **out, emb_error *err)
{
    return generate(service, texts, count, context, preferred_provider, out, err);
}

emb_status emb_service_generate_with_metadata(emb_service *service, const char *text, size_t length,
                                              const char *context, emb_service_result **out, emb_error *err)
{
    const emb_text one = {text, length};
    return generate(service, &one, 1, context, NULL, out, err);
}

static emb_status embed(emb_service *service, const emb_text *texts, size_t count, const char *model,
                        emb_role role, bool use_cache, emb_service_result **out, emb_error *err)
{
    emb_request r = EMB_REQUEST_INIT;
    *out = NULL;
    emb_status status = check_texts(texts, count, err);
    if (status)
        return status;
    r.texts = texts;
    r.count = count;
    r.model = model;
    r.role = role;
    r.cache_read = r.cache_write = use_cache;
    return run(service, &r, out, err);
}

emb_status emb_service_embed_text(emb_service *service, const char *text, size_t length, const char *model,
                                  bool use_cache, emb_service_result **out, emb_error *err)
{
    const emb_text one = {text, length};
    return embed(service, &one, 1, model, EMB_ROLE_NONE, use_cache, out, err);
}

emb_status emb_service_embed_query(emb_service *service, const char *query, size_t length, const char *model,
                                   bool use_cache, emb_service_result **out, emb_error *err)
{
    const emb_text one = {query, length};
    return embed(service, &one, 1, model, EMB_ROLE_QUERY, use_cache, out, err);
}

emb_status emb_service_embed_batch(emb_service *service, const emb_text *texts, size_t count,
                                   const char *model, bool use_cache, emb_service_result **out,
                                   emb_error *err)
{
    return embed(service, texts, count, model, EMB_ROLE_NONE, use_cache, out, err);
}

/* ---- models and numbers ---------------------------------------------------------------------- */

/* One piece of memory: the rows, then their names. */
static emb_status pack(const emb_model_listing *list, size_t count, emb_service_model **out, emb_error *err)
{
    size_t bytes = count * sizeof **out + 1;
    for (size_t i = 0; i < count; i++)
        bytes += strlen(list[i].name) + strlen(list[i].provider) + 2;
    emb_service_model *models = malloc(bytes);
    if (!models)
        return emb_fail_nomem(err, "models", bytes);
    char *at = (char *)(models + count);
    for (size_t i = 0; i < count; i++) {
        models[i] = (emb_service_model){.dimension = list[i].dimension,
                                        .max_input_tokens = list[i].max_tokens,
                                        .cost_nusd_per_1k_tokens = list[i].price_nusd_per_1k,
                                        .loaded = list[i].loaded,
                                        .is_default = list[i].is_default};
        models[i].name = at;
        at = stpcpy(at, list[i].name) + 1;
        models[i].provider = at;
        at = stpcpy(at, list[i].provider) + 1;
    }
    *out = models;
    return EMB_OK;
}

emb_status emb_service_model_list(emb_service *service, emb_service_model **out, size_t *count,
                                  emb_error *err)
{
    emb_arena arena;
    emb_model_listing *list;
    *out = NULL;
    *count = 0;
    emb_arena_init(&arena);
    emb_status status = emb_service_list_models(service, &arena, &list, count, err);
    if (!status)
        status = pack(list, *count, out, err);
    emb_arena_fini(&arena);
    return status;
}

void emb_service_model_list_free(emb_service_model *models)
{
    free(models);
}

void emb_service_get_numbers(emb_service *service, emb_service_numbers *out)
{
    emb_service_totals t;
    emb_service_recent recent;
    emb_service_get_totals(service, &t);
    emb_service_get_recent(service, &recent);
    *out = (emb_service_numbers){
        .size = sizeof *out,
        .total_requests = t.requests,
        .total_texts = t.texts,
        .total_embeddings_generated = t.computed_texts,
        .cache_hits = t.cached_texts,
        .total_tokens = t.tokens,
        .total_errors = t.errors,
        .total_cost_nusd = t.cost_nusd,
        .cache_hit_rate = t.texts ? (double)t.cached_texts / (double)t.texts : 0,
        .p50_latency_ms = recent.p50_ms,
        .p95_latency_ms = recent.p95_ms,
        .p99_latency_ms = recent.p99_ms,
        .models_loaded = emb_models_loaded(service->models),
    };
}

void emb_service_reset_numbers(emb_service *service)
{
    emb_service_reset_totals(service);
}
