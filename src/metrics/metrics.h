/*
 * metrics.h: counters, gauges and histograms, written to Prometheus' text format.
 *
 *     emb_metrics *m;
 *     if ((st = emb_metrics_open(&m, err))) return st;
 *     emb_series *s = emb_metrics_series(m, EMB_METRIC_REQUESTS, "/v1/embeddings", "200");  // once, keep it
 *     emb_series_add(s, 1);
 *     emb_series_observe(d, seconds);
 *     emb_metrics_write_prometheus(m, &buf);
 *
 * Every family is a row of EMB_METRIC_TABLE: name, type, help, labels. A series is one combination of label
 * values; it is made on first use and lives as long as the registry. A family holds at most
 * EMB_METRIC_SERIES_MAX series; further combinations share one whose labels all read "other". Label values
 * are names (routes, models, tiers), never texts or keys.
 *
 * Updates are lock-free and may come from any thread; a NULL series is ignored. Histograms have
 * logarithmic-linear buckets (relative error of a percentile at most 1/32) and are printed with a fixed
 * ladder of `le` bounds.
 */
#ifndef EMB_METRICS_METRICS_H
#define EMB_METRICS_METRICS_H

#include "base/buf.h"

typedef enum emb_metric_type { EMB_COUNTER, EMB_GAUGE, EMB_HISTOGRAM } emb_metric_type;

/* X(id, type, name, labels with commas, help). Histograms of durations are in seconds, others in their
 * unit. */
#define EMB_METRIC_TABLE(X)                                                                                  \
    X(REQUESTS, EMB_COUNTER, "embedd_requests_total", "route,status", "HTTP requests answered.")             \
    X(REQUEST_SECONDS, EMB_HISTOGRAM, "embedd_request_duration_seconds", "route",                            \
      "Time from the first byte of a request to the last of its answer handed to the system.")               \
    X(REQUESTS_ACTIVE, EMB_GAUGE, "embedd_requests_active", "", "Requests being worked on.")                 \
    X(CONNECTIONS, EMB_GAUGE, "embedd_connections", "", "Open client connections.")                          \
    X(REJECTED, EMB_COUNTER, "embedd_requests_rejected_total", "reason",                                     \
      "Requests refused before any work: overload, rate_limit, auth, right, malformed, too_large, timeout.") \
    X(CLIENT_GONE, EMB_COUNTER, "embedd_requests_abandoned_total", "",                                       \
      "Clients that left before the answer.")                                                                \
    X(ERRORS, EMB_COUNTER, "embedd_errors_total", "route,code", "Failed requests by error.")                 \
    X(TEXTS, EMB_COUNTER, "embedd_texts_total", "model,source",                                              \
      "Texts embedded, by source: l1, l2, computed, shared (computed for a concurrent request).")            \
    X(TOKENS, EMB_COUNTER, "embedd_tokens_total", "model", "Tokens that went through a model.")              \
    X(EMBED_SECONDS, EMB_HISTOGRAM, "embedd_embed_duration_seconds", "model,tier",                           \
      "Time of one embed call, by the slowest source it needed: l1, l2, computed.")                          \
    X(BATCH_TEXTS, EMB_HISTOGRAM, "embedd_batch_texts", "model", "Texts of one engine call.")                \
    X(BATCH_TOKENS, EMB_HISTOGRAM, "embedd_batch_tokens", "model", "Tokens of one engine call.")             \
    X(QUEUE_SECONDS, EMB_HISTOGRAM, "embedd_queue_duration_seconds", "model", "Wait for the engine.")        \
    X(TOKENIZE_SECONDS, EMB_HISTOGRAM, "embedd_tokenize_duration_seconds", "model", "Tokenizing.")           \
    X(COMPUTE_SECONDS, EMB_HISTOGRAM, "embedd_compute_duration_seconds", "model", "Forward passes.")         \
    X(MODELS_LOADED, EMB_GAUGE, "embedd_models_loaded", "", "Models in memory.")                             \
    X(MODEL_BYTES, EMB_GAUGE, "embedd_model_bytes", "model", "Memory of a model's packed weights.")          \
    X(MODEL_LOADS, EMB_COUNTER, "embedd_model_loads_total", "model,result", "Loads: ok, failed, unloaded.")  \
    X(CACHE_HITS, EMB_COUNTER, "embedd_cache_hits_total", "tier", "Vectors found: l1, l2.")                  \
    X(CACHE_MISSES, EMB_COUNTER, "embedd_cache_misses_total", "tier", "Vectors not found: l1, l2.")          \
    X(CACHE_ENTRIES, EMB_GAUGE, "embedd_cache_entries", "tier", "Vectors held.")                             \
    X(CACHE_BYTES, EMB_GAUGE, "embedd_cache_bytes", "tier", "Memory or file size held.")                     \
    X(CACHE_EVICTIONS, EMB_COUNTER, "embedd_cache_evictions_total", "tier", "Vectors pushed out.")           \
    X(CACHE_CORRUPT, EMB_COUNTER, "embedd_cache_corrupt_total", "tier",                                      \
      "Values that failed their checksum.")                                                                  \
    X(CACHE_SECONDS, EMB_HISTOGRAM, "embedd_cache_lookup_duration_seconds", "tier",                          \
      "One lookup, all its keys.")                                                                           \
    X(CACHE_WRITES, EMB_COUNTER, "embedd_cache_writes_total", "result",                                      \
      "Vectors for L2: stored, dropped (queue full), failed.")                                               \
    X(CACHE_QUEUE, EMB_GAUGE, "embedd_cache_write_queue", "", "Vectors that wait to be written to L2.")      \
    X(CACHE_UP, EMB_GAUGE, "embedd_cache_l2_up", "", "1 while L2 answers, 0 while its circuit is open.")     \
    X(CACHE_SHARED, EMB_COUNTER, "embedd_cache_single_flight_total", "",                                     \
      "Misses that waited for another request's computation of the same text.")                              \
    X(RELOADS, EMB_COUNTER, "embedd_config_reloads_total", "result", "Configuration reloads: ok, refused.")  \
    X(PROVIDER_ATTEMPTS, EMB_COUNTER, "embedd_provider_attempts_total", "provider,result",                   \
      "Exchanges with a provider: ok, timeout, broken, limited, quota, denied, refused, bad_answer, …")      \
    X(PROVIDER_SECONDS, EMB_HISTOGRAM, "embedd_provider_duration_seconds", "provider",                       \
      "One exchange with a provider.")                                                                       \
    X(PROVIDER_RETRIES, EMB_COUNTER, "embedd_provider_retries_total", "provider",                            \
      "Attempts after the first.")                                                                           \
    X(PROVIDER_TOKENS, EMB_COUNTER, "embedd_provider_tokens_total", "provider,model",                        \
      "Tokens that a provider counted.")                                                                     \
    X(PROVIDER_ACTIVE, EMB_GAUGE, "embedd_provider_calls_active", "provider", "Calls in work.")              \
    X(BREAKER_STATE, EMB_GAUGE, "embedd_breaker_state", "provider", "0 closed, 1 half-open, 2 open.")        \
    X(BREAKER_CHANGES, EMB_COUNTER, "embedd_breaker_changes_total", "provider,state",                        \
      "Changes of a breaker's state.")                                                                       \
    X(SHARED_STATE_UP, EMB_GAUGE, "embedd_shared_state_up", "part",                                          \
      "1 while the store of budget, breakers, ledger answers.")                                              \
    X(ROUTES, EMB_COUNTER, "embedd_routes_total", "provider,context,rule",                                   \
      "Requests by the provider that answered.")                                                             \
    X(FALLBACKS, EMB_COUNTER, "embedd_fallbacks_total", "from,to",                                           \
      "Requests that went on to another provider.")                                                          \
    X(PRIVATE_TEXTS, EMB_COUNTER, "embedd_private_requests_total", "why",                                    \
      "Requests kept local: sensitive, pii.")                                                                \
    X(BUDGET_LIMIT, EMB_GAUGE, "embedd_budget_limit_usd", "scope", "A day's limit.")                         \
    X(BUDGET_SPENT, EMB_GAUGE, "embedd_budget_spent_usd", "scope", "Spent today.")                           \
    X(BUDGET_RESERVED, EMB_GAUGE, "embedd_budget_reserved_usd", "scope", "Reserved for running calls.")      \
    X(BUDGET_REFUSED, EMB_COUNTER, "embedd_budget_refused_total", "scope",                                   \
      "Reservations that a limit refused.")                                                                  \
    X(COST, EMB_COUNTER, "embedd_cost_usd_total", "provider,model", "Spent.")                                \
    X(SAVED, EMB_COUNTER, "embedd_saved_usd_total", "by", "What the API would have cost: cache, local.")     \
    X(LEDGER_ROWS, EMB_COUNTER, "embedd_ledger_rows_total", "result",                                        \
      "Rows of the ledger: written, merged in memory, failed, compacted in the store.")                      \
    X(SHADOW, EMB_COUNTER, "embedd_shadow_total", "result", "Comparisons: compared, failed, dropped.")       \
    X(SHADOW_SIMILARITY, EMB_HISTOGRAM, "embedd_shadow_similarity", "", "Cosine of compared vectors.")       \
    X(ROLLOUT, EMB_GAUGE, "embedd_rollout_percentage", "", "Share of buckets on the hybrid path.")           \
    X(ALERTS, EMB_GAUGE, "embedd_alerts_firing", "severity", "Alerts that fire.")                            \
    X(ALERT_NOTICES, EMB_COUNTER, "embedd_alert_notices_total", "sink,result",                               \
      "Notices: sent, failed, given_up.")

enum { EMB_METRIC_SERIES_MAX = 256 };

typedef enum emb_metric {
#define EMB_X(id, type, name, labels, help) EMB_METRIC_##id,
    EMB_METRIC_TABLE(EMB_X)
#undef EMB_X
        EMB_METRIC_COUNT
} emb_metric;

typedef struct emb_metrics emb_metrics;
typedef struct emb_series emb_series;

EMB_MUST_CHECK emb_status emb_metrics_open(emb_metrics **out, emb_error *err);
void emb_metrics_close(emb_metrics *metrics);

/* The series with these label values (const char *, as many as the family has labels). Takes a lock the first
 * time; NULL when memory is short or metrics is NULL. */
emb_series *emb_metrics_series(emb_metrics *metrics, emb_metric family, ...);

void emb_series_add(emb_series *series, double amount);    /* counter or gauge */
void emb_series_set(emb_series *series, double value);     /* gauge */
void emb_series_observe(emb_series *series, double value); /* histogram */
double emb_series_value(const emb_series *series);         /* counter, gauge; of a histogram its sum */
uint64_t emb_series_count(const emb_series *series);       /* observations of a histogram */
/* 0 <= q <= 1; of a histogram since it was opened or reset. 0 without observations. */
double emb_series_quantile(const emb_series *series, double q);

/* Sum of a family over all its series, or the series whose label `position` (from 0) has `value`. */
double emb_metrics_sum(emb_metrics *metrics, emb_metric family, int position, const char *value);
/* All histograms of a family as one: quantile q. */
double emb_metrics_quantile(emb_metrics *metrics, emb_metric family, double q);

/* Called before each output, to set gauges that nobody else keeps (cache sizes, connections). */
typedef void (*emb_metrics_collect)(void *context);
EMB_MUST_CHECK emb_status emb_metrics_on_collect(emb_metrics *metrics, emb_metrics_collect collect,
                                                 void *context);
/* No more calls with this context; waits for one that is running. metrics may be NULL. */
void emb_metrics_off_collect(emb_metrics *metrics, const void *context);

/* Prometheus text format 0.0.4, every family with HELP and TYPE, then the process_* family. */
EMB_MUST_CHECK emb_status emb_metrics_write_prometheus(emb_metrics *metrics, emb_buf *out);

#endif
