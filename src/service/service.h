/*
 * service.h: the one embed() behind every route, command and job: plan, cache, compute, cache, account.
 *
 *     emb_service *service;
 *     emb_service_open(config, metrics, &service, err);
 *     emb_request r = EMB_REQUEST_INIT;
 *     r.texts = texts; r.count = n; r.model = "all-MiniLM-L6-v2"; r.role = EMB_ROLE_QUERY;
 *     emb_answer a;
 *     if ((st = emb_service_embed(service, &r, arena, &a, err))) …;
 *     // row i: a.vectors + i × a.dimension
 *     emb_answer_done(&a);
 *
 * Straight-line blocking code: called on a worker thread, any number at once. emb_service_embed_cached is the
 * same for a caller that must not block: it answers only what L1 holds for a model that is open. The answer's
 * memory is the arena's, the caller's; it also holds the model until emb_answer_done.
 */
#ifndef EMB_SERVICE_SERVICE_H
#define EMB_SERVICE_SERVICE_H

#include "alerts/alerts.h"
#include "base/arena.h"
#include "cache/cache.h"
#include "config/config.h"
#include "ledger/ledger.h"
#include "metrics/metrics.h"
#include "metrics/window.h"
#include "router/breaker.h"
#include "router/budget.h"
#include "router/plan.h"
#include "router/rollout.h"
#include "service/access.h"
#include "service/models.h"
#include "shadow/shadow.h"

typedef struct emb_service emb_service;

/* Opens engine, cache and default model (its configuration; weights with the first text or
 * emb_service_warm_up). */
EMB_MUST_CHECK emb_status emb_service_open(emb_config *config, emb_metrics *metrics, emb_service **out,
                                           emb_error *err);
/* No call may be running. Writes what the cache has queued. */
void emb_service_close(emb_service *service);
/* Loads the default and the preloaded models and runs a text through each, then the term lists of `warm`.
 * From then on emb_service_ready. *stop is read between models and lists; may be NULL. */
EMB_MUST_CHECK emb_status emb_service_warm_up(emb_service *service, const volatile int *stop, emb_error *err);
bool emb_service_ready(const emb_service *service);
/* Starts the thread that evaluates alerts and advances rollouts; of a service that serves. */
EMB_MUST_CHECK emb_status emb_service_watch(emb_service *service, emb_error *err);
/* Takes over the settings that can change while running. Running requests end with the configuration they
 * began with. */
void emb_service_reconfigure(emb_service *service, emb_config *config);
/* The configuration in force, retained: release it with emb_config_release. */
emb_config *emb_service_config(emb_service *service);
emb_cache *emb_service_cache(emb_service *service); /* NULL when caching is off */
emb_metrics *emb_service_metrics(emb_service *service);
emb_models *emb_service_models(emb_service *service);
/* The operations kit; each NULL where it is off or could not be opened (the log says why). They live as long
 * as the service. */
emb_ledger *emb_service_ledger(emb_service *service);
emb_shadow *emb_service_shadow(emb_service *service);
emb_alerts *emb_service_alerts(emb_service *service);
emb_rollout *emb_service_rollout(emb_service *service);
emb_budget *emb_service_budget(emb_service *service);
emb_breakers *emb_service_breakers(emb_service *service);

typedef struct emb_request {
    const emb_text *texts; /* `count` texts, valid UTF-8; or NULL, and sequence i is */
    const int32_t *ids;    /* ids[offsets[i]] .. ids[offsets[i+1]-1], used as they are */
    const size_t *offsets;
    size_t count;
    const char *model; /* NULL or "": the default */
    emb_role role;
    const char *prompt_name; /* NULL: by role. Unknown: EMB_E_INVALID naming the prompts there are */
    size_t dimensions;       /* 0: the model's */
    emb_switch normalize;
    emb_truncation truncation;
    size_t max_tokens; /* 0: the model's */
    emb_priority
        priority; /* a request of hybrid.batch_size_threshold texts or more is bulk whatever this says */
    bool cache_read, cache_write;
    uint64_t cache_max_age_s; /* 0: any */
    emb_context context;
    bool is_private;                /* context "sensitive": only local models, and never in L2 */
    const char *category;           /* for accounts, or NULL */
    const char *preferred_provider; /* an instance's name or kind; NULL, "" or "auto": the router chooses */
    const char *space;              /* pinned: no other is answered; or NULL */
    const char *user;               /* whose request it is, for sticky routing; or NULL */
    const emb_caller *caller;       /* whose key it came with; or NULL */
    uint64_t deadline_ns;           /* on emb_now_ns's clock, 0: none */
    const volatile int *cancel;     /* becomes non-zero when the caller has left; or NULL */
} emb_request;
#define EMB_REQUEST_INIT                                               \
    {                                                                  \
        .role = EMB_ROLE_NONE, .cache_read = true, .cache_write = true \
    }

typedef struct emb_answer {
    const float *vectors; /* count × dimension */
    size_t count, dimension;
    const uint32_t *tokens; /* by text, special tokens and prompt included */
    const uint8_t *sources; /* emb_cache_source by text */
    size_t total_tokens, cached;
    const char *model;       /* canonical name */
    const char *provider;    /* "local", or the instance's name */
    const char *space;       /* see models.h */
    const char *path;        /* "hybrid" or "legacy" */
    const char *rule;        /* of the router that decided: "pinned", "context", … */
    const char *reason;      /* in a sentence */
    const char *fell_from;   /* the provider that failed before, or NULL */
    uint64_t retry_after_ms; /* after a failure: what the provider has said; 0: nothing */
    uint64_t cost_nusd;
    uint64_t cache_ns, queue_ns, tokenize_ns, compute_ns, provider_ns, total_ns;
    emb_served *served; /* a local model's, held until emb_answer_done; else NULL */
    const emb_model_series *series;
} emb_answer;

/* Names in an answer live as long as the arena and the service. EMB_E_NOT_FOUND: no such model (names near
 * ones); EMB_E_LIMIT: too many texts, or one too long with TRUNCATE_NONE; EMB_E_INVALID; EMB_E_BUSY;
 * EMB_E_DEADLINE; EMB_E_CANCELLED; EMB_E_FORBIDDEN: private text for a remote provider; EMB_E_BUDGET;
 * EMB_E_PROVIDER, EMB_E_UNAVAILABLE: of providers. err->where names the member concerned ("model",
 * "dimensions", "input[3]"). */
EMB_MUST_CHECK emb_status emb_service_embed(emb_service *service, const emb_request *request,
                                            emb_arena *arena, emb_answer *answer, emb_error *err);
/* Whether the request was answered in full from L1, without waiting. false: nothing was counted or kept; go
 * on with emb_service_embed on a worker. */
bool emb_service_embed_cached(emb_service *service, const emb_request *request, emb_arena *arena,
                              emb_answer *answer);
void emb_answer_done(emb_answer *answer);

/* ---- before anything is sent ---- */

/* What the first of a request's plan would take for its texts. Nothing is sent, opened models aside, and what
 * the cache holds is not looked for. Strings live in the arena or as long as the service. */
typedef struct emb_estimate {
    const char *provider, *model;
    size_t texts, private_texts; /* the latter would be refused, and are not in what follows */
    uint64_t tokens, cost_nusd;  /* of one call */
    bool is_exact;               /* the tokens are counted; otherwise rather too many than too few */
    bool is_remote, is_priced;   /* is_priced: somebody said what the model costs */
} emb_estimate;
EMB_MUST_CHECK emb_status emb_service_estimate(emb_service *service, const emb_request *request,
                                               emb_arena *arena, emb_estimate *out, emb_error *err);
/* Which of the texts hold personal data or secrets and so stay on this machine. */
void emb_service_find_private(emb_service *service, const emb_text *texts, size_t count, bool *is_private);

/* ---- the router ---- */

/* How a request would be routed, without running it. Strings live in the arena or as long as the service. */
typedef struct emb_explanation {
    emb_route_candidate candidates[EMB_ROUTE_MAX];
    emb_route_verdict verdicts[EMB_ROUTE_MAX];
    size_t count;
    emb_route_plan plan;
    bool has_pii;
    const char *pii_kinds; /* "email, phone"; "" */
    double bucket, rollout_percentage;
    uint64_t tokens; /* estimated */
    emb_context context;
    emb_status local_status; /* why the local model could not be looked at, with its message */
    char local_error[200];
} emb_explanation;
EMB_MUST_CHECK emb_status emb_service_explain(emb_service *service, const emb_request *request,
                                              emb_arena *arena, emb_explanation *out, emb_error *err);

/* Whether a provider's instance serves a model of this name. NULL or "": whether requests without a model go
 * to one. */
bool emb_service_is_remote(emb_service *service, const char *model);

/* Instances of providers, with the local one first; for health and metrics. Strings live as long as the
 * service. */
typedef struct emb_instance_view {
    const char *name, *kind;
    bool is_private;
    const char *models[16]; /* NULL behind the last */
    emb_breaker_view breaker;
    bool available, limited;
    size_t active, waiting;
    uint64_t calls, attempts, retries, failures, tokens;
    double p50_ms, p95_ms; /* of the last minutes; 0: unknown */
    char last_error[256];
} emb_instance_view;
EMB_MUST_CHECK emb_status emb_service_instances(emb_service *service, emb_arena *arena,
                                                emb_instance_view **out, size_t *count, emb_error *err);
/* As emb_models_list, with the models of providers behind. */
EMB_MUST_CHECK emb_status emb_service_list_models(emb_service *service, emb_arena *arena,
                                                  emb_model_listing **out, size_t *count, emb_error *err);

/* The last minutes, for alerts and dashboards: requests, errors, latency, cache. */
typedef struct emb_service_recent {
    uint32_t seconds;
    uint64_t requests, errors, texts, cached_texts;
    double p50_ms, p95_ms, p99_ms;
} emb_service_recent;
void emb_service_get_recent(emb_service *service, emb_service_recent *out);

/* Latencies of the last minutes, or since a reset that is not as long ago, for metrics as JSON. Those that
 * alerts are judged by are others, which a reset does not touch: emb_service_get_recent. */
enum { EMB_LATENCY_SECONDS = 300 };
typedef enum emb_latency {
    EMB_LATENCY_EMBED,   /* whole calls */
    EMB_LATENCY_QUEUE,   /* waiting for the engine */
    EMB_LATENCY_COMPUTE, /* forward passes */
    EMB_LATENCIES
} emb_latency;
void emb_service_get_latency(emb_service *service, emb_latency which, emb_window_stats *out);

/* Totals since start or the last reset, for [E]'s metrics; percentiles as above, of calls. */
typedef struct emb_service_totals {
    uint64_t requests, texts, cached_texts, l1_texts, l2_texts, computed_texts, shared_texts, tokens, errors,
        cost_nusd;
    uint64_t recent_requests; /* that the percentiles are of */
    double p50_ms, p95_ms, p99_ms;
    double since_seconds;
} emb_service_totals;
void emb_service_get_totals(emb_service *service, emb_service_totals *out);
void emb_service_reset_totals(emb_service *service);

#endif
