/*
 * plan.h: which candidates a request may go to, in which order, and why not the others. Pure: no clock, no
 * I/O, no lock; the same input gives the same plan.
 *
 *     emb_route_candidate c[n]; emb_route_verdict v[n];    // c: what is there, with a snapshot of health, budget, latency
 *     emb_route_plan plan = { .verdicts = v };
 *     emb_route_make(&request, &settings, c, n, &plan);
 *     for (size_t i = 0; i < plan.count; i++) try(plan.order[i]) …
 *
 * The rules, in this order, are those of docs/routing.md: pinned, privacy, flags and rollout, health, budget,
 * context. Nothing later widens what something earlier narrowed.
 */
#ifndef EMB_ROUTER_PLAN_H
#define EMB_ROUTER_PLAN_H

#include <embedd.h>

typedef enum emb_context {
    EMB_CONTEXT_DEFAULT,
    EMB_CONTEXT_REALTIME,
    EMB_CONTEXT_ANALYSIS,
    EMB_CONTEXT_BATCH,
    EMB_CONTEXT_SENSITIVE
} emb_context;
const char *emb_context_name(emb_context context); /* "default", … */
bool emb_context_parse(const char *name, emb_context *out);

enum { EMB_ROUTE_MAX = 64 }; /* candidates */

typedef struct emb_route_candidate {
    const char *provider; /* the instance: "local", "openai", "azure-eu" */
    const char *kind;     /* "local", "openai", "azure": preferred_provider may name it too */
    const char *model;
    const char *space; /* for these settings; "" if not known yet */
    unsigned position; /* in the configured order; equal for instances that share a weighted place */
    size_t weight;
    bool is_local; /* this process, or an instance that the operator vouches for */
    bool
        /* weight 0, or not the default model of its provider: reached by pin or fallback alone */
        is_fallback_only;
    bool is_api; /* priced by somebody else: needs a reservation unless its price is 0 */
    bool
        /* dimensions, prompt and so on of this request; false: passed over, `unserved` says why */
        serves_settings;
    const char *unserved;
    bool is_open; /* the breaker */
    bool is_draining;
    uint64_t p95_us;         /* recent; 0: unknown */
    double quality;          /* 0: unknown */
    uint64_t estimate_nusd;  /* of this request; 0: free */
    bool is_unpriced;        /* and that is not allowed */
    uint64_t available_nusd; /* least that its limits leave; UINT64_MAX: no limit */
    bool near_limit;         /* from the warning share on */
} emb_route_candidate;

typedef struct emb_route_request {
    emb_context context;
    const char *model, *space, *preferred_provider; /* NULL or "": not pinned. preferred "auto": not pinned */
    bool has_pii;                                   /* detection is on and found something */
    size_t texts;
    double bucket;   /* 0 <= b < 100: emb_rollout_bucket */
    uint64_t random; /* for weights */
} emb_route_request;

typedef struct emb_route_settings {
    bool hybrid, routing;
    double rollout_percentage;
    const char *legacy_provider;  /* "NAME" or "NAME/MODEL"; "": default_provider */
    const char *default_provider; /* likewise; "local" */
    uint64_t realtime_us;
    size_t batch_threshold;
    bool fallback; /* false: the first alone */
} emb_route_settings;

typedef enum emb_route_rule {
    EMB_RULE_NONE,
    EMB_RULE_PINNED,
    EMB_RULE_PRIVACY,
    EMB_RULE_LEGACY,
    EMB_RULE_SETTINGS,
    EMB_RULE_HEALTH,
    EMB_RULE_BUDGET,
    EMB_RULE_CONTEXT
} emb_route_rule;
const char *emb_route_rule_name(emb_route_rule rule); /* "pinned", … */

typedef struct emb_route_verdict {
    emb_route_rule passed_over; /* NONE: it is in the order */
    char why[120];              /* a sentence, for both */
} emb_route_verdict;

typedef struct emb_route_plan {
    size_t order[EMB_ROUTE_MAX], count;
    emb_route_verdict *verdicts; /* room for one per candidate; or NULL: no explanation wanted */
    emb_route_rule rule;         /* that decided the first place */
    bool legacy;                 /* off the hybrid path */
    bool space_pinned;           /* no fallback to another space */
    char reason[160];            /* "context analysis: the highest quality of 3 candidates" */
    emb_status
        refusal; /* with count 0: EMB_E_NOT_FOUND, EMB_E_FORBIDDEN, EMB_E_BUDGET, EMB_E_UNAVAILABLE, … */
} emb_route_plan;

/* count at most EMB_ROUTE_MAX; more are left out. */
void emb_route_make(const emb_route_request *request, const emb_route_settings *settings,
                    const emb_route_candidate *candidates, size_t count, emb_route_plan *plan);

#endif
