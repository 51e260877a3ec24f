/*
 * gateway.h: what of the configuration a flat list of settings cannot say: instances of providers with their
 * models and prices, limits of spending, where alerts go, the schedule of a rollout, patterns of personal
 * data.
 *
 *     for (size_t i = 0; i < config->gateway.provider_count; i++)
 *         printf("%s: %s\n", config->gateway.providers[i].name, config->gateway.providers[i].base_url);
 *
 * Filled by emb_config_load, read-only afterwards; every pointer lives as long as the configuration, texts
 * that are not set are "", never NULL. Instances that the environment alone describes (OPENAI_API_KEY,
 * EMBEDDING_SERVICE_URL) are here too, with the built-in models and prices of their kind. Money is in
 * nano-dollars, time in the unit of the name.
 */
#ifndef EMB_CONFIG_GATEWAY_H
#define EMB_CONFIG_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(id, name): the wire format that an instance speaks. */
#define EMB_PROVIDER_KIND_TABLE(X)                                                      \
    X(LOCAL, "local")             /* this process; needs no instance in the file */     \
    X(OPENAI, "openai")           /* and every compatible server */                     \
    X(AZURE, "azure")             /* Azure OpenAI: deployments, api-version, api-key */ \
    X(HUGGINGFACE, "huggingface") /* the Inference API's feature-extraction */          \
    X(COHERE, "cohere")           /* /v2/embed */                                       \
    X(OLLAMA, "ollama")           /* /api/embed */                                      \
    X(TEI, "tei")                 /* text-embeddings-inference's /embed {inputs} */     \
    X(REMOTE, "remote")           /* [D]'s service: /embed {texts, batch_size} */       \
    X(EMBEDD, "embedd")           /* another embedd: /api/v1/embeddings */

typedef enum emb_provider_kind {
#define EMB_X(id, name) EMB_PROVIDER_##id,
    EMB_PROVIDER_KIND_TABLE(EMB_X)
#undef EMB_X
        EMB_PROVIDER_KINDS
} emb_provider_kind;

typedef struct emb_header_config {
    const char *name, *value; /* the value is a secret: never printed */
} emb_header_config;

typedef struct emb_provider_model_config {
    const char *name;     /* as callers name it */
    const char *upstream; /* as the provider names it (Azure: the deployment); the name if not set */
    size_t dimension;     /* 0: learned from the first answer */
    size_t max_tokens;    /* of a text; 0: unknown */
    size_t max_batch_texts, max_batch_tokens; /* of one call; 0: the kind's limit */
    bool priced;                              /* false: nobody said what it costs (budget.unpriced decides) */
    uint64_t nusd_per_1k_tokens, nusd_per_request;
    double quality;       /* 0 .. 100, an MTEB average; 0: unknown */
    bool shortens;        /* takes `dimensions` */
    const char *encoding; /* "cl100k_base" counts its tokens; "": estimated from bytes */
    const char *origin;   /* who made the model: the first part of its space; by default the kind for vendors
                                      (openai and azure: "openai"), else the instance's name, as for an unknown model of an
                                      openai instance that is not at OpenAI. Instances that share origin, model and
                                      revision make comparable vectors */
    const char *revision; /* "api" unless set */
    const char *query_prompt,
        *document_prompt; /* put before texts by us; "" for kinds that have input types */
} emb_provider_model_config;

typedef struct emb_provider_config {
    const char *name; /* unique; "openai", "azure-eu" */
    emb_provider_kind kind;
    const char *base_url;    /* without a slash at its end */
    const char *api_key;     /* a secret */
    const char *api_version; /* Azure */
    const char *proxy, *ca_file;
    const emb_header_config *headers;
    size_t header_count;
    size_t
        weight; /* share among instances that serve the same model of the same origin; 0: only a fallback */
    bool is_private;    /* the operator vouches for it: private texts may go there, as to local models */
    size_t concurrency; /* calls at a time */
    size_t requests_per_minute, tokens_per_minute; /* 0: no limit but the provider's own word */
    uint32_t connect_timeout_ms, timeout_ms;       /* of one attempt */
    unsigned max_retries;
    uint32_t hedge_ms; /* a second attempt beside the first after this; 0: never */
    size_t max_batch_texts, max_batch_tokens, max_body_bytes; /* 0: the kind's */
    bool http2, compress,
        base64; /* offered; gzip'ed answers accepted; vectors asked for as base64 where the kind can */
    uint32_t keep_warm_s; /* a connection is kept open by a cheap request this often; 0: not */
    /* circuit breaker */
    unsigned failure_threshold; /* failures in a row, or ... */
    double failure_rate;        /* this share of at least minimum_calls in window_s; 0: not looked at */
    unsigned minimum_calls;
    uint32_t window_s, recovery_timeout_s, recovery_longest_s;
    uint32_t slow_ms; /* a call slower than this counts as a failure; 0: not looked at */
    const emb_provider_model_config *models; /* at least one */
    size_t model_count;
} emb_provider_config;

typedef enum emb_limit_scope { EMB_LIMIT_KEY, EMB_LIMIT_CATEGORY, EMB_LIMIT_PROVIDER } emb_limit_scope;

/* A day's limit besides the global one (hybrid.daily_api_budget_usd). */
typedef struct emb_limit_config {
    emb_limit_scope scope;
    const char *name; /* of the key, category or provider; "*": each of them that has none of its own */
    uint64_t daily_nusd;
} emb_limit_config;

typedef enum emb_sink_kind { EMB_SINK_WEBHOOK, EMB_SINK_ALERTMANAGER } emb_sink_kind;

typedef struct emb_sink_config {
    emb_sink_kind kind;
    const char *name, *url;       /* the URL is a secret */
    const char *bearer;           /* or "" */
    const char *minimum_severity; /* "warning", "error", "critical" */
} emb_sink_config;

typedef struct emb_rollout_step_config {
    double percentage;
    uint64_t hold_s;
} emb_rollout_step_config;

typedef struct emb_pii_pattern_config {
    const char *name, *regex;
} emb_pii_pattern_config;

/* Of providers.prices: instead of the built-in price, whichever instance serves the model. */
typedef struct emb_price_config {
    const char *model;
    uint64_t nusd_per_1k_tokens;
} emb_price_config;

typedef struct emb_gateway_config {
    const emb_provider_config *providers; /* in the order of the file: the configured order of routing */
    size_t provider_count;
    size_t local_position; /* how many instances stand before the local models in that order */
    const emb_limit_config *limits;
    size_t limit_count;
    const emb_sink_config *sinks;
    size_t sink_count;
    const emb_rollout_step_config *rollout_steps;
    size_t rollout_step_count;
    const emb_pii_pattern_config *pii_patterns;
    size_t pii_pattern_count;
    const emb_price_config *prices; /* the instances' models have them already; see emb_gateway_price */
    size_t price_count;
} emb_gateway_config;

/* "openai"; NULL for values outside the enum. */
const char *emb_provider_kind_name(emb_provider_kind kind);
/* What a model costs, configured or not, such as budget.reference_model: by providers.prices, an instance
 * that serves it, the built-in table, in this order. false: nobody knows, both are 0. */
bool emb_gateway_price(const emb_gateway_config *gateway, const char *model, uint64_t *nusd_per_1k_tokens,
                       uint64_t *nusd_per_request);

#endif
