/*
 * breaker.h: circuit breakers of providers: closed / open / half-open, one probe at a time across all
 * processes, state that survives restarts.
 *
 *     emb_breakers *all; emb_breaker *b;
 *     emb_breakers_open(url, &options, &all, err);
 *     emb_breaker_get(all, "openai", &rules, &b, err);         // lives as long as `all`
 *     if (!emb_breaker_allow(b, now_ns, &permit)) pass over;
 *     … emb_breaker_report(b, permit, EMB_BREAKER_FAILURE, duration_ns, now_ns);   // exactly once per permit
 *
 * The local state decides, without I/O; the store only shares "open until" and the permit to probe. A thread
 * of its own writes and reads it about once a second, and the one who wants to probe asks it within
 * command_ms; a store that does not answer is counted, never waited for longer, and asked again for ever.
 * Time is the caller's (tests drive it). Thread-safe.
 */
#ifndef EMB_ROUTER_BREAKER_H
#define EMB_ROUTER_BREAKER_H

#include "metrics/metrics.h"

typedef struct emb_breakers emb_breakers;
typedef struct emb_breaker emb_breaker;

typedef enum emb_breaker_state {
    EMB_BREAKER_CLOSED,
    EMB_BREAKER_OPEN,
    EMB_BREAKER_HALF_OPEN
} emb_breaker_state;
const char *emb_breaker_state_name(emb_breaker_state state); /* "closed", "open", "half_open" */

typedef enum emb_breaker_outcome {
    EMB_BREAKER_SUCCESS,
    EMB_BREAKER_FAILURE, /* 5xx, time-out, connection error, an answer that cannot be used */
    EMB_BREAKER_IGNORED, /* cancelled, 429, other 4xx: gives the permit back and counts nothing */
    EMB_BREAKER_FATAL    /* 401, 403, insufficient_quota: opens at once */
} emb_breaker_outcome;

typedef struct emb_breaker_rules {
    unsigned failure_threshold; /* failures in a row within the window; 0: not looked at */
    double failure_rate;        /* share in the window; 0: not looked at */
    unsigned minimum_calls;
    uint32_t window_s, recovery_timeout_s, recovery_longest_s;
    uint32_t slow_ms; /* a slower success counts as a failure; 0: not */
} emb_breaker_rules;

typedef struct emb_breaker_permit {
    bool probe;
    uint64_t generation;
} emb_breaker_permit;

typedef struct emb_breakers_options {
    uint32_t command_ms, probe_s; /* 0: 50; a probe's permit runs out after this, 0: 30 */
    emb_metrics *metrics;
    /* Told of every change of state, on the thread that made it; or NULL. */
    void (*changed)(void *context, const char *name, emb_breaker_state state, const char *reason);
    void *context;
    bool no_thread; /* tests call emb_breakers_sync themselves */
} emb_breakers_options;

EMB_MUST_CHECK emb_status emb_breakers_open(const char *url, const emb_breakers_options *options,
                                            emb_breakers **out, emb_error *err);
void emb_breakers_close(emb_breakers *all);
EMB_MUST_CHECK emb_status emb_breaker_get(emb_breakers *all, const char *name, const emb_breaker_rules *rules,
                                          emb_breaker **out, emb_error *err);
/* Whether a plan should count on it: closed, or due for a probe. No I/O, takes no permit. */
bool emb_breaker_is_available(emb_breaker *breaker, uint64_t now_ns);
bool emb_breaker_allow(emb_breaker *breaker, uint64_t now_ns, emb_breaker_permit *permit);
void emb_breaker_report(emb_breaker *breaker, emb_breaker_permit permit, emb_breaker_outcome outcome,
                        uint64_t duration_ns, const char *reason, uint64_t now_ns);
/* By an operator. */
void emb_breaker_reset(emb_breaker *breaker, uint64_t now_ns);

typedef struct emb_breaker_view {
    emb_breaker_state state;
    unsigned failures;            /* in a row */
    uint64_t opened_ns, retry_ns; /* while open, on the caller's clock */
    unsigned openings;            /* in a row, for the growing wait */
    char reason[120];
} emb_breaker_view;
void emb_breaker_view_get(emb_breaker *breaker, uint64_t now_ns, emb_breaker_view *out);
/* One exchange with the store: what changed here goes out, what others changed comes in. */
emb_status emb_breakers_sync(emb_breakers *all, uint64_t now_ns, emb_error *err);
bool emb_breakers_store_is_up(const emb_breakers *all);

#endif
