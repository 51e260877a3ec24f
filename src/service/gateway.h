/*
 * gateway.h: the providers of a service: instances with their breakers and models, and what a request may go
 * to. Internal to service/.
 *
 *     emb_gateway *g;
 *     emb_gateway_open(service, config, &g, err);          // NULL where the configuration names no provider
 *     emb_choice c;
 *     emb_choice_make(service, request, arena, true, &c, err);
 *     for (size_t i = 0; i < c.plan.count; i++) … c.plan.order[i] … c.remotes[…] …
 *     emb_choice_done(&c);
 *
 * A gateway never changes after it is opened; thread-safe.
 */
#ifndef EMB_SERVICE_GATEWAY_H
#define EMB_SERVICE_GATEWAY_H

#include "metrics/window.h"
#include "provider/provider.h"
#include "service/peer.h"
#include "service/service.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct emb_gateway emb_gateway;
typedef struct emb_remote emb_remote;

typedef struct emb_remote_model {
    emb_remote *remote;
    const emb_provider_model_config *config;
    unsigned position;
    bool is_default;         /* of its instance */
    atomic_size_t dimension; /* 0: not known yet */
    emb_peer *peer;          /* of another embedd: its space; else NULL */
    emb_model_series series;
} emb_remote_model;

struct emb_remote {
    const emb_provider_config *config; /* of the configuration that the gateway holds */
    emb_provider *provider;
    emb_breaker *breaker;
    emb_window *latency;
    atomic_uint_fast64_t p95_us, p95_ns; /* of the window, as of when */
    emb_remote_model *models;
    size_t model_count;
    pthread_mutex_t probing;
};

struct emb_pii;
struct emb_token_counter;

struct emb_gateway {
    emb_service *service;
    emb_config *config; /* retained */
    emb_remote *remotes;
    size_t remote_count;
    struct emb_pii *scanner; /* NULL: none */
    struct emb_token_counter *counter;
};

EMB_MUST_CHECK emb_status emb_gateway_open(emb_service *service, emb_config *config, emb_gateway **out,
                                           emb_error *err);
void emb_gateway_close(emb_gateway *gateway);

/* ---- tokens (counter.c) ---- */

/* Exact for cl100k_base where its ranks are here, otherwise half of the bytes and two: for sorting and
 * splitting. */
EMB_MUST_CHECK emb_status emb_count_tokens(emb_gateway *gateway, const emb_remote_model *model,
                                           const emb_text *texts, size_t count, uint32_t *tokens,
                                           uint64_t *total, emb_error *err);
bool emb_counts_exactly(const emb_gateway *gateway, const emb_remote_model *model);
/* What a list of cl100k_base's ids spells. */
typedef struct emb_spelled {
    emb_text text; /* valid UTF-8: where a character is cut, U+FFFD stands for it */
    bool is_whole; /* no character is cut */
    bool is_plain; /* and the text has these very tokens: the ids are what it would be sent as */
} emb_spelled;
/* Of all lists of a request, in the arena; is_plain is looked at only where it is asked for. EMB_E_INVALID:
 * an id that cl100k_base does not have, EMB_E_UNSUPPORTED: its ranks are not here. */
EMB_MUST_CHECK emb_status emb_spell_ids(emb_gateway *gateway, const emb_request *request, bool with_plain,
                                        emb_arena *arena, emb_spelled **out, emb_error *err);
/* Whether lists of cl100k_base's ids go to this model as they are: its vocabulary is that one, and its API
 * takes ids. To others go the texts that they spell. */
bool emb_remote_takes_ids(const emb_remote_model *model);
struct emb_token_counter *emb_token_counter_open(const char *models_path);
void emb_token_counter_close(struct emb_token_counter *counter);

/* What we put before texts of this role; "" for none. */
const char *emb_remote_prompt(const emb_remote_model *model, emb_role role);

/* ---- money ---- */

/* Rounded up; saturates. */
uint64_t emb_remote_price(const emb_remote_model *model, uint64_t calls, uint64_t tokens);

/* Whether a model can serve the settings of a request (EMB_E_BUSY: its dimension is not known yet); its space
 * for them, in the arena, if `space` is not NULL. Never waits. */
EMB_MUST_CHECK emb_status emb_remote_check(emb_remote_model *model, const emb_request *request,
                                           emb_arena *arena, const char **space, emb_error *err);

/* ---- choosing (choice.c) ---- */

typedef struct emb_choice {
    emb_route_candidate candidates[EMB_ROUTE_MAX];
    emb_remote_model *remotes[EMB_ROUTE_MAX]; /* NULL: the local model */
    emb_route_verdict *verdicts;              /* or NULL */
    size_t count;
    emb_route_plan plan;
    emb_served *served;       /* of the local candidate, held; NULL: there is none */
    bool has_pii, is_private; /* is_private: sensitive or has_pii */
    const char *pii_kinds;
    double bucket, percentage;
    uint64_t tokens;
    emb_status local_status;
    emb_error local_error;
    const emb_error *unserved; /* why a hosted model that fits the pin cannot serve these settings; or NULL */
    const emb_error *unread;   /* why token ids could not be read; or NULL */
    const char *not_allowed;   /* a hosted model that was left out since the key may not use it; or NULL */
} emb_choice;

/* may_wait false: only what is known without waiting (no model is opened). `explain`: with verdicts. */
EMB_MUST_CHECK emb_status emb_choice_make(emb_service *service, const emb_request *request, emb_arena *arena,
                                          bool may_wait, bool explain, emb_choice *out, emb_error *err);
/* With everything on the hybrid path, for the shadow's candidate. */
EMB_MUST_CHECK emb_status emb_choice_make_hybrid(emb_service *service, const emb_request *request,
                                                 emb_arena *arena, emb_choice *out, emb_error *err);
void emb_choice_done(emb_choice *choice);
/* The refusal as an error of the request. */
emb_status emb_choice_refuse(const emb_choice *choice, const emb_request *request, emb_error *err);

/* Limits that a call for this request counts against; names live in the arena. */
size_t emb_budget_scopes(emb_gateway *gateway, const emb_request *request, const emb_remote *remote,
                         bool is_shadow, char names[EMB_BUDGET_SCOPES][EMB_BUDGET_NAME],
                         emb_budget_scope scopes[EMB_BUDGET_SCOPES]);

#endif
