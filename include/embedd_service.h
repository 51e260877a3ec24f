/*
 * embedd_service.h: embedd's whole service in process: cache, router, providers, budgets, accounts, around
 * the engine.
 *
 *     static const char *const settings[] = { "hybrid.daily_api_budget_usd=25", NULL };
 *     emb_service_options o = EMB_SERVICE_OPTIONS_INIT; o.settings = settings;
 *     emb_service *service; emb_error err;
 *     if (emb_service_create(&o, &service, &err)) { puts(err.message); exit(1); }
 *     emb_service_result *r;
 *     if (emb_service_generate_with_metadata(service, "portfolio rebalancing", 21, "analysis", &r, &err) == EMB_OK)
 *         printf("%s, %zu dimensions, $%.9f\n", r->provider, r->dimension, (double)r->cost_nusd * 1e-9);
 *     emb_service_result_free(r); emb_service_destroy(service);
 *
 * The functions mirror two Python interfaces that programs move over from: the hybrid system's
 * get_embedding_service() (generate one, many, with metadata) and the embedder service's EmbedderService
 * (embed text, query, batch; models; metrics; reset). All of them go through the same embed() as the server's
 * routes.
 *
 * A library of its own, libembedd-service (pkg-config: embedd-service): it needs libcurl, SQLite, hiredis,
 * libpq and libyaml, which libembedd does not.
 *
 * Threads, errors and ownership are as in embedd.h: any number of threads at once; arguments are borrowed;
 * what is returned is released by the function that its comment names.
 */
#ifndef EMBEDD_SERVICE_H
#define EMBEDD_SERVICE_H

#include <embedd.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct emb_service emb_service;

typedef struct emb_service_options {
    size_t size;
    const char *config_file; /* YAML; NULL: $EMBEDD_CONFIG, or none */
    const char *const
        *settings; /* "section.name=value", NULL behind the last; win over file and environment; or NULL */
    bool ignore_environment; /* neither environment nor .env are read */
} emb_service_options;
#define EMB_SERVICE_OPTIONS_INIT                       \
    {                                                  \
        sizeof(emb_service_options), NULL, NULL, false \
    }

/* options may be NULL. EMB_E_INVALID names a setting that is wrong. Release with emb_service_destroy. */
EMB_API EMB_MUST_CHECK emb_status emb_service_create(const emb_service_options *options, emb_service **out,
                                                     emb_error *err);
/* No call may be running. Writes what cache and accounts have queued. Takes NULL. */
EMB_API void emb_service_destroy(emb_service *service);

typedef struct emb_service_result {
    size_t size;
    size_t count, dimension;
    const float *vectors;   /* count × dimension */
    const bool *cached;     /* by text */
    const uint32_t *tokens; /* by text */
    size_t cached_count;
    uint64_t total_tokens;
    uint64_t cost_nusd; /* nano-dollars of the whole call */
    double latency_ms;
    const char *provider, *model, *space, *reason; /* space: only vectors of one space can be compared */
} emb_service_result;
/* Takes NULL. */
EMB_API void emb_service_result_free(emb_service_result *result);

/* ---- the hybrid system's interface ---- */

/* context: "default", "realtime", "analysis", "batch", "sensitive", or NULL. preferred_provider: NULL, or an
 * instance's name or kind. Results are released with emb_service_result_free. */
EMB_API EMB_MUST_CHECK emb_status emb_service_generate(emb_service *service, const char *text, size_t length,
                                                       emb_service_result **out, emb_error *err);
EMB_API EMB_MUST_CHECK emb_status emb_service_generate_many(emb_service *service, const emb_text *texts,
                                                            size_t count, const char *context,
                                                            const char *preferred_provider,
                                                            emb_service_result **out, emb_error *err);
EMB_API EMB_MUST_CHECK emb_status emb_service_generate_with_metadata(emb_service *service, const char *text,
                                                                     size_t length, const char *context,
                                                                     emb_service_result **out,
                                                                     emb_error *err);

/* ---- the embedder service's interface ---- */

/* model NULL: the default. An empty or blank text is EMB_E_INVALID. embed_query puts the model's prompt for
 * queries before the text, with cache keys of its own. */
EMB_API EMB_MUST_CHECK emb_status emb_service_embed_text(emb_service *service, const char *text,
                                                         size_t length, const char *model, bool use_cache,
                                                         emb_service_result **out, emb_error *err);
EMB_API EMB_MUST_CHECK emb_status emb_service_embed_query(emb_service *service, const char *query,
                                                          size_t length, const char *model, bool use_cache,
                                                          emb_service_result **out, emb_error *err);
EMB_API EMB_MUST_CHECK emb_status emb_service_embed_batch(emb_service *service, const emb_text *texts,
                                                          size_t count, const char *model, bool use_cache,
                                                          emb_service_result **out, emb_error *err);

typedef struct emb_service_model {
    const char *name, *provider;
    size_t dimension, max_input_tokens; /* 0: not known before its first use */
    uint64_t cost_nusd_per_1k_tokens;
    bool loaded, is_default;
} emb_service_model;
/* Release with emb_service_model_list_free. */
EMB_API EMB_MUST_CHECK emb_status emb_service_model_list(emb_service *service, emb_service_model **out,
                                                         size_t *count, emb_error *err);
EMB_API void emb_service_model_list_free(emb_service_model *models);

typedef struct emb_service_numbers {
    size_t size;
    uint64_t total_requests, total_texts, total_embeddings_generated, cache_hits, total_tokens, total_errors,
        total_cost_nusd;
    double cache_hit_rate, p50_latency_ms, p95_latency_ms, p99_latency_ms;
    size_t models_loaded;
} emb_service_numbers;
#define EMB_SERVICE_NUMBERS_INIT                                        \
    {                                                                   \
        sizeof(emb_service_numbers), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 \
    }
/* Since the start or the last reset; latencies of the last minutes. */
EMB_API void emb_service_get_numbers(emb_service *service, emb_service_numbers *out);
EMB_API void emb_service_reset_numbers(emb_service *service);

#ifdef __cplusplus
}
#endif
#endif
