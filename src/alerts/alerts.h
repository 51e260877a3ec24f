/*
 * alerts.h: rules over a snapshot of how it goes; pending, firing, resolved; told to the log, webhooks,
 * Alertmanager.
 *
 *     emb_alerts *a;
 *     emb_alerts_open(&options, &a, err);
 *     emb_alerts_evaluate(a, &signals);               // every few seconds; sinks are told by a thread of their own
 *     size_t n = emb_alerts_list(a, arena, &list, err);
 *     emb_alerts_close(a);
 *
 * A rule is a row of a table: name, severities with their conditions, summary. A rule with two severities
 * makes one alert, whose severity changes in place. It fires once its condition has held for `for_s`, is
 * resolved once it has not for as long. Sinks get each change once, in order, with retries (backoff up to a
 * minute, 24 h); Alertmanager is told again every minute while an alert fires, as it wants. What is firing is
 * kept in the store, if there is one, so that a restart neither forgets nor repeats it; notices that were not
 * told yet are kept, too (one whose telling a crash cut off may be told twice). A process has the rows of its
 * instance. Thread-safe.
 */
#ifndef EMB_ALERTS_ALERTS_H
#define EMB_ALERTS_ALERTS_H

#include "base/arena.h"
#include "config/gateway.h"
#include "metrics/metrics.h"

#include <embedd.h>

typedef struct emb_alerts emb_alerts;

typedef enum emb_severity { EMB_SEVERITY_WARNING, EMB_SEVERITY_ERROR, EMB_SEVERITY_CRITICAL } emb_severity;
const char *emb_severity_name(emb_severity severity);
typedef enum emb_alert_state {
    EMB_ALERT_INACTIVE,
    EMB_ALERT_PENDING,
    EMB_ALERT_FIRING,
    EMB_ALERT_RESOLVED
} emb_alert_state;
const char *emb_alert_state_name(emb_alert_state state);

typedef struct emb_alert_thresholds {
    double p95_warning_ms, p95_error_ms, hit_warning, hit_error, similarity_warning, similarity_error,
        error_rate_warning, budget_warning, budget_critical, monthly_usd;
    uint64_t minimum_requests, minimum_lookups, minimum_comparisons;
    uint32_t for_s;
} emb_alert_thresholds;

typedef struct emb_provider_signal {
    const char *name;
    bool healthy, breaker_open;
    const char *reason;
} emb_provider_signal;

typedef struct emb_alert_signals {
    uint64_t requests, errors; /* in the window */
    double p95_ms;
    uint64_t lookups, hits; /* of the cache, texts in the window */
    uint64_t comparisons;   /* of the shadow, in the window */
    double similarity;      /* their mean cosine; only where has_similarity */
    bool has_similarity;
    uint64_t budget_nusd, budget_used_nusd; /* today, the global one; budget 0: none */
    uint64_t month_nusd;
    bool cache_down, store_down, shared_state_down;
    const emb_provider_signal *providers;
    size_t provider_count;
} emb_alert_signals;

typedef struct emb_alerts_options {
    const char *url;              /* "sqlite:PATH", "postgresql://…"; NULL or "": state is not kept */
    const emb_sink_config *sinks; /* copied */
    size_t sink_count;
    const char *instance; /* label of what is told and key of what is kept: unique among processes that share
                                       a store, "host:port" rather than "0.0.0.0:8000" */
    emb_alert_thresholds thresholds;
    emb_metrics *metrics;
    bool read_only; /* for `embedd alerts`: only what the store holds */
    int64_t (*now_s)(void);
} emb_alerts_options;

EMB_MUST_CHECK emb_status emb_alerts_open(const emb_alerts_options *options, emb_alerts **out,
                                          emb_error *err);
void emb_alerts_close(
    emb_alerts *alerts); /* tries once more to tell what was not told, for at most a second */
void emb_alerts_set_thresholds(emb_alerts *alerts, const emb_alert_thresholds *thresholds);
void emb_alerts_evaluate(emb_alerts *alerts, const emb_alert_signals *signals);

typedef struct emb_alert {
    const char *name;    /* "p95_latency", "cache_hit_rate", "similarity", "error_rate", "api_budget",
                                       "monthly_cost", "provider_unhealthy", "breaker_open", … */
    const char *subject; /* a provider's name, or "" */
    emb_severity severity;
    emb_alert_state state;
    double value, threshold;
    const char *summary;                  /* "P95 latency is 812 ms, over 500 ms" */
    int64_t since_s, fired_s, resolved_s; /* 0: not */
    const char *instance; /* whose it is: another's only in a store that several share, read by read_only */
} emb_alert;
/* Those that fire, the worst first, those that are pending, then what was resolved within the last day
 * (read_only: all that the store holds, 30 days), newest first. */
EMB_MUST_CHECK emb_status emb_alerts_list(emb_alerts *alerts, emb_arena *arena, emb_alert **out,
                                          size_t *count, emb_error *err);
/* How many fire at this severity or a higher one; the name of one of them (a literal), or NULL. */
unsigned emb_alerts_firing(emb_alerts *alerts, emb_severity at_least, const char **name);

typedef struct emb_alarm {
    const char *name;     /* a literal */
    int64_t held_since_s; /* since when its condition has held without a break; INT64_MAX: it does not now */
    uint32_t for_s;       /* how long one has to hold before it fires */
} emb_alarm;
/* Of those that fire at this severity or a higher one, that whose condition has held the longest; false: none
 * fires. An alert fires on for a while when its condition is over, and one that fires may have done so for a
 * week: who acts upon it has to know since when there was reason to. */
bool emb_alerts_alarm(emb_alerts *alerts, emb_severity at_least, emb_alarm *out);

/* Sends one test notice to a sink, waits at most ten seconds. *http_status: what it answered, 0: nothing. */
EMB_MUST_CHECK emb_status emb_alerts_test_sink(const emb_sink_config *sink, const char *instance,
                                               int *http_status, emb_error *err);

#endif
