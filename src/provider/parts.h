/* parts.h: what provider.c, call.c and warm.c share: the provider itself. Nothing else includes it. */
#ifndef EMB_PROVIDER_PARTS_H
#define EMB_PROVIDER_PARTS_H

#include "provider/lanes.h"
#include "provider/limits.h"
#include "provider/provider.h"
#include "provider/retry.h"
#include "provider/wire.h"

#include <pthread.h>
#include <stdatomic.h>

#define EMB_ATTEMPT_ENDS (EMB_ATTEMPT_BAD_ANSWER + 1)

typedef struct emb_provider_series {
    emb_series *ends[EMB_ATTEMPT_ENDS], *seconds, *retries, *active;
    emb_series **tokens; /* by model of the configuration */
} emb_provider_series;

struct emb_provider {
    emb_arena memory; /* of the copied configuration */
    emb_provider_config config;
    const emb_wire *wire;
    emb_lanes *lanes;
    emb_limits limits;
    emb_metrics *metrics;
    emb_provider_series series;
    bool (*is_closing)(void);
    atomic_uint_fast64_t calls, attempts, retries, failures, tokens, used_ns;
    pthread_mutex_t lock; /* for what follows */
    pthread_cond_t wake;
    emb_retry_budget budget;
    uint64_t random;
    char last_error[256];
    bool closing, warming;
    pthread_t warm_thread;
};

/* One call; result->dimension 0: learned, vectors NULL: not kept. */
EMB_MUST_CHECK emb_status emb_provider_run(emb_provider *provider, const emb_provider_call *call,
                                           emb_provider_result *result, emb_error *err);
uint64_t emb_provider_random(emb_provider *provider);
/* The counters of an attempt that ended. */
void emb_provider_count(emb_provider *provider, const char *model, const emb_attempt *attempt);

/* The thread that keeps a connection warm, if the configuration wants it. */
EMB_MUST_CHECK emb_status emb_provider_warm_start(emb_provider *provider, emb_error *err);
void emb_provider_warm_stop(emb_provider *provider);

#endif
