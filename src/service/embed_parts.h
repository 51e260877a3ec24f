/*
 * embed_parts.h: one request on its way through the service, and what may answer it. Internal to service/.
 *
 * A *target* is a model under the settings of a request, at one place: the engine of this process, or an
 * instance of a provider. Its space and the scope of its cache keys follow from it. A request has one target
 * at a time; when it fails and the router names another, everything is done anew for that one, so that
 * vectors of two are never in one answer.
 */
#ifndef EMB_SERVICE_EMBED_PARTS_H
#define EMB_SERVICE_EMBED_PARTS_H

#include "service/gateway.h"
#include "service/service_parts.h"

typedef struct emb_target {
    const char *provider, *model, *space;
    emb_cache_scope scope;
    size_t dimension;
    size_t ttl_s;
    const emb_model_series *series;
    /* the engine's */
    emb_served *served; /* held by the request; NULL: remote */
    const emb_variant *variant;
    /* a provider's */
    emb_remote_model *remote;
    bool names_space; /* the space is the other side's word, and each call is held to it */
} emb_target;

typedef struct emb_work {
    emb_service *service;
    const emb_request *request;
    emb_arena *arena;
    emb_answer *answer;
    emb_target target;
    emb_cache *cache; /* NULL: none is used */
    emb_cache_policy policy;
    /* by text */
    emb_cache_lookup *lookups;
    float *vectors;
    uint32_t *tokens;
    uint8_t *sources;
    emb_spelled *spelled;           /* of token ids for a provider, by text; NULL: they are not read */
    uint64_t start_ns, provider_ns; /* the latter spent in calls of engine or provider */
    uint64_t remote_ns;
    uint64_t retry_after_ms;        /* what a provider that failed has said; 0: nothing */
    atomic_uint_fast64_t cost_nusd; /* of all attempts, also of those that failed */
    bool is_shadow;                 /* the candidate's run: accounted apart */
} emb_work;

/* What a provider gets: the texts of some positions, one after another; positions ascend. */
typedef struct emb_gathered {
    const emb_text *texts;
    const int32_t *ids;
    const size_t *offsets;
    float *vectors;
    uint32_t *tokens;
    bool in_place;   /* the positions follow each other: the request's own memory is used */
    void *memory[3]; /* what was allocated */
} emb_gathered;
EMB_MUST_CHECK emb_status emb_gather(emb_work *work, const size_t *todo, size_t count, emb_gathered *out,
                                     emb_error *err);
/* The vectors into their rows, and frees what was gathered. `status`: whether there are any. */
void emb_scatter(emb_work *work, const size_t *todo, size_t count, emb_gathered *gathered, emb_status status);
/* EMB_E_INTERNAL or `code` if a value is not finite. */
EMB_MUST_CHECK emb_status emb_check_finite(const emb_work *work, const float *values, size_t count,
                                           emb_error *err);

/* The vectors of these positions into their rows. */
EMB_MUST_CHECK emb_status emb_compute_locally(emb_work *work, const size_t *todo, size_t count,
                                              emb_error *err);
EMB_MUST_CHECK emb_status emb_compute_remotely(emb_work *work, const size_t *todo, size_t count,
                                               emb_error *err);

/* Targets. The local one is of a model that work->target.served holds already. */
EMB_MUST_CHECK emb_status emb_target_local(emb_work *work, emb_error *err);
/* `may_wait`: may ask the provider for what is not known yet (its dimension). */
EMB_MUST_CHECK emb_status emb_target_remote(emb_work *work, emb_remote_model *model, bool may_wait,
                                            emb_error *err);

/* Whether the provider of the target is known by now to make another space than the target's. */
bool emb_target_is_stale(const emb_work *work);

/* account.c: the answer's members, counters, ledger. */
void emb_account(emb_work *work, uint64_t end_ns);

/* embed.c: runs one target, from keys to a full set of rows. */
EMB_MUST_CHECK emb_status emb_embed_target(emb_work *work, emb_error *err);

#endif
