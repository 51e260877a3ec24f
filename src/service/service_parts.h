/*
 * service_parts.h: the inside of a service. Internal to service/.
 *
 * Settings that each request reads are kept as atomics beside the configuration, so that a request takes no
 * lock for them. The pointer to the configuration is guarded by one lock of EMB_CONFIG_LOCKS for each reader,
 * chosen by its thread, and by all of them for its writer.
 */
#ifndef EMB_SERVICE_SERVICE_PARTS_H
#define EMB_SERVICE_SERVICE_PARTS_H

#include "router/spend.h"
#include "service/gateway.h"
#include "service/models_parts.h"
#include "service/service.h"

enum { EMB_CONFIG_LOCKS = 16 };

/* A lock with a cache line of its own. */
typedef struct emb_config_lock {
    _Alignas(64) pthread_mutex_t mutex;
} emb_config_lock;

/* Written by each request: on cache lines of their own, away from what requests only read. */
typedef struct emb_counts {
    _Alignas(64) atomic_uint_fast64_t requests, texts, l1, l2, computed, shared, tokens, errors, cost_nusd,
        since_ns;
} emb_counts;

/* What surrounds embedding; see emb_service_ledger and the like. */
typedef struct emb_kit {
    emb_ledger *ledger;
    emb_shadow *shadow;
    emb_alerts *alerts;
    emb_rollout *rollout;
    emb_budget *budget;
    emb_spend *spend;
    emb_breakers *breakers;
    emb_window *latency, *errors, *lookups, *hits; /* of the last minutes */
    emb_window *local;                             /* seconds of calls of the engine */
    emb_window *shown[EMB_LATENCIES];              /* as metrics show them; a reset empties them */
    pthread_t watch_thread;                        /* alerts, rollout; see watch.c */
    bool watching, stop_watch;
    pthread_mutex_t watch_lock;
    pthread_cond_t watch_wake;
} emb_kit;

struct emb_service {
    emb_engine *engine;
    emb_models *models;
    emb_metrics *metrics;
    _Atomic(emb_cache *) cache; /* set once, when caching is first on */
    atomic_bool caching, monitoring, ready;
    atomic_size_t ttl_s, ttl_api_s, bulk_from, max_inputs;
    emb_counts counts;
    emb_kit kit;
    emb_gateway *gateway; /* NULL: the local models are all there is */
    atomic_bool hybrid;
    atomic_uint_fast64_t local_p95_us, local_p95_ns; /* of kit.local, as of when */
    atomic_uint_fast64_t reference_nusd;             /* for 1,000 tokens of budget.reference_model */
    emb_config *config;
    emb_config_lock config_locks[EMB_CONFIG_LOCKS];
    pthread_mutex_t reconfiguring;
};

/* kit.c, watch.c: what surrounds embedding. Parts that cannot be opened are told in the log and left out,
 * except that budget and breakers, without which no money may be spent, are errors where there are
 * providers. */
EMB_MUST_CHECK emb_status emb_kit_open(emb_service *service, const emb_config *config, emb_error *err);
/* What uses the rest of the service: the watch and the shadow. */
void emb_kit_stop(emb_service *service);
void emb_kit_close(emb_service *service);
void emb_kit_reconfigure(emb_service *service, const emb_config *config);
void emb_watch_stop(emb_service *service);

/* shadowing.c: whether an answer of the legacy path is to be compared, and handing it to the shadow: a copy,
 * no wait. */
bool emb_shadow_wants(emb_service *service, const emb_request *request, bool is_private);
void emb_shadow_offer(emb_service *service, const emb_request *request, const emb_answer *answer);
emb_status emb_shadow_run_candidate(void *service, const emb_shadow_pair *pair, emb_arena *arena,
                                    emb_shadow_side *candidate, emb_error *err);

/* totals.c: a call that ended well, and one that did not. */
/* Of a window whose last `age_s` seconds count, those that whole slices of it lie within. */
uint32_t emb_watch_part(uint32_t window_s, int64_t age_s);
void emb_totals_add(emb_service *service, const emb_answer *answer, uint64_t end_ns);
void emb_totals_add_error(emb_service *service, emb_status status, uint64_t cost_nusd);

#endif
