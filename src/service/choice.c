/*
 * choice.c: from a request to a plan: the candidates that there are, with what is known of them right now,
 * through the pure planner (router/plan.h).
 *
 * Without a model in the request, the local candidate is the default model; with one, it is that model if it
 * is here, and where a provider serves it too, only if it is open already: looking for it on disk or on the
 * hub would make each request for a hosted model slow. "INSTANCE/MODEL" pins both.
 *
 * Nothing here waits unless may_wait is set (then the local model may be opened). What is read of budget,
 * breakers and rollout is what this process knows, about a second old at most; the hard checks are where the
 * money is spent (remote.c).
 *
 * Personal data is looked for only where a text could leave the machine. The estimate of tokens is a quarter
 * of the bytes: it only sorts; exact counts are made for texts that really are sent.
 */
#include "base/clock.h"
#include "base/error.h"
#include "model/catalog.h"
#include "pii/pii.h"
#include "service/embed_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FINDINGS = 64, KINDS_BYTES = 512, P95_NS = 200000000 };

/* What one choosing needs; on its maker's stack. */
typedef struct chooser {
    emb_service *service;
    emb_gateway *gateway;
    const emb_request *request;
    emb_arena *arena;
    const emb_config *config;
    emb_choice *choice;
    emb_route_request route;
    emb_route_settings settings;
    bool wants_spaces; /* to compare or to show them */
    uint64_t now_ns;
} chooser;

static bool is_set(const char *text)
{
    return text && *text;
}

/* ---- the pin --------------------------------------------------------------------------------- */

/* "INSTANCE/MODEL" where there is such an instance that serves it. */
static bool is_prefixed(const emb_gateway *g, const char *name, const char **instance, const char **model)
{
    const char *slash = strchr(name, '/');
    for (size_t i = 0; slash && i < g->remote_count; i++) {
        const emb_remote *remote = &g->remotes[i];
        size_t length = strlen(remote->config->name);
        if ((size_t)(slash - name) != length || strncasecmp(name, remote->config->name, length) != 0)
            continue;
        for (size_t m = 0; m < remote->model_count; m++)
            if (strcmp(remote->models[m].config->name, slash + 1) == 0) {
                *instance = remote->config->name;
                *model = slash + 1;
                return true;
            }
    }
    return false;
}

static bool serves(const emb_gateway *g, const char *model)
{
    for (size_t i = 0; i < g->remote_count; i++)
        for (size_t m = 0; m < g->remotes[i].model_count; m++)
            if (strcmp(g->remotes[i].models[m].config->name, model) == 0)
                return true;
    return false;
}

static void read_pin(chooser *c)
{
    const emb_request *r = c->request;
    c->route.model = r->model;
    c->route.space = r->space;
    c->route.preferred_provider = r->preferred_provider;
    if (is_set(r->model) && is_prefixed(c->gateway, r->model, &c->route.preferred_provider, &c->route.model))
        return;
    /* the default by its name is no pin to this process where requests go to a provider by default */
}

/* ---- personal data --------------------------------------------------------------------------- */

static void note_kinds(const emb_pii *scanner, const emb_pii_finding *found, size_t count, uint64_t *seen,
                       char *names)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t bit = UINT64_C(1) << (found[i].kind & 63);
        size_t used = strlen(names);
        const char *name = emb_pii_kind_name(scanner, found[i].kind);
        if ((*seen & bit) || !name || used + strlen(name) + 3 > KINDS_BYTES)
            continue;
        *seen |= bit;
        snprintf(names + used, KINDS_BYTES - used, "%s%s", used ? ", " : "", name);
    }
}

static void scan(chooser *c, bool all)
{
    const emb_request *r = c->request;
    emb_pii_finding found[FINDINGS];
    uint64_t seen = 0;
    char names[KINDS_BYTES] = "";
    if (!c->gateway->scanner || !c->config->pii_detection)
        return;
    emb_spelled *spelled = NULL;
    const emb_text *texts = r->texts;
    emb_error *unread = texts ? NULL : emb_arena_calloc(c->arena, 1, sizeof *unread);
    if (!texts && r->count &&
        (!unread ||
         emb_spell_ids(c->gateway, r, false, c->arena, &spelled,
                       unread))) { /* ids of an unknown vocabulary cannot be looked at: they stay here */
        c->choice->unread = unread;
        c->choice->has_pii = true;
        c->choice->pii_kinds = "token ids that cannot be read";
        return;
    }
    for (size_t i = 0; i < r->count && (all || !c->choice->has_pii); i++) {
        emb_pii_progress p = {0};
        const emb_text text = texts ? texts[i] : spelled[i].text;
        do {
            size_t n = emb_pii_scan(c->gateway->scanner, text.data, text.length, found, FINDINGS, &p);
            note_kinds(c->gateway->scanner, found, n, &seen, names);
            c->choice->has_pii |=
                n > 0 || p.gave_up; /* what could not be searched is not known to be clean */
        } while (p.next < text.length && (all || !c->choice->has_pii));
    }
    const char *copy = *names ? emb_arena_strndup(c->arena, names, strlen(names)) : NULL;
    c->choice->pii_kinds = copy ? copy : c->choice->has_pii ? "not named" : "";
}

/* ---- candidates ------------------------------------------------------------------------------ */

static bool may_use(const emb_request *r, const char *model, const char *other)
{
    return !r->caller || emb_caller_may_use(r->caller, model) ||
           (other && emb_caller_may_use(r->caller, other));
}

static const char *keep(const chooser *c, const char *text)
{
    const char *copy = emb_arena_strndup(c->arena, text, strlen(text));
    return copy ? copy : "";
}

static emb_status look_locally(chooser *c, bool may_wait, emb_error *err)
{
    const emb_request *r = c->request;
    emb_models *models = c->service->models;
    bool pinned = is_set(c->route.model), elsewhere = pinned && serves(c->gateway, c->route.model);
    const char *name = elsewhere && c->route.model != r->model ? NULL : r->model;
    if (elsewhere || !may_wait) {
        c->choice->served = elsewhere && !name ? NULL : emb_models_try_acquire(models, name);
        return c->choice->served ? EMB_OK
                                 : emb_fail(err, EMB_E_NOT_FOUND, "model", "the model is not open here");
    }
    return emb_models_acquire_until(models, name, r->cancel, r->deadline_ns, &c->choice->served, err);
}

/* Percentiles cost microseconds, so they are read a few times a second, by whoever comes first. */
static uint64_t recent_p95_us(const emb_window *window, atomic_uint_fast64_t *read_ns,
                              atomic_uint_fast64_t *p95_us, uint64_t now_ns)
{
    uint_fast64_t read = atomic_load_explicit(read_ns, memory_order_relaxed);
    if (now_ns - read > P95_NS && atomic_compare_exchange_strong(read_ns, &read, now_ns)) {
        emb_window_stats stats;
        emb_window_read(window, now_ns, 0, &stats);
        atomic_store_explicit(p95_us, stats.count ? (uint64_t)(stats.p95 * 1e6) : 0, memory_order_relaxed);
    }
    return atomic_load_explicit(p95_us, memory_order_relaxed);
}

static void fill_local_latency(const chooser *c, emb_route_candidate *row)
{
    emb_service *s = c->service;
    row->p95_us = recent_p95_us(s->kit.local, &s->local_p95_ns, &s->local_p95_us, c->now_ns);
}

static double quality_of(const char *model)
{
    const emb_catalog_entry *e = emb_catalog_find(model);
    return e ? e->mteb : 0;
}

static void add_local(chooser *c, bool may_wait)
{
    emb_choice *choice = c->choice;
    choice->local_status = look_locally(c, may_wait, &choice->local_error);
    if (choice->local_status)
        return;
    emb_served *served = choice->served;
    if (!may_use(c->request, served->name, served->repository)) {
        emb_models_release(served);
        choice->served = NULL;
        choice->local_status =
            emb_fail(&choice->local_error, EMB_E_FORBIDDEN, "model", "the key may not use %s", served->name);
        return;
    }
    emb_work w = {.service = c->service, .request = c->request, .arena = c->arena};
    w.target.served = served;
    emb_error *error = &choice->local_error;
    choice->local_status = emb_target_local(&w, error);
    emb_route_candidate *row = &choice->candidates[choice->count];
    *row = (emb_route_candidate){
        .provider = "local",
        .kind = "local",
        /* a name that was asked for and means this model is the pin's match, however it is spelled */
        .model =
            is_set(c->route.model) && c->route.model == c->request->model ? c->request->model : served->name,
        .space = choice->local_status ? "" : w.target.space,
        .position = (unsigned)(2 * c->config->gateway.local_position),
        .weight = 1,
        .is_local = true,
        .quality = quality_of(served->name),
        .serves_settings = !choice->local_status,
        .unserved = choice->local_status ? error->message : NULL,
        .available_nusd = UINT64_MAX,
    };
    fill_local_latency(c, row);
    choice->remotes[choice->count++] = NULL;
}

static uint64_t estimate_tokens(const emb_request *r)
{
    uint64_t total = 0;
    for (size_t i = 0; i < r->count; i++)
        total += r->texts ? r->texts[i].length / 4 + 1 : r->offsets[i + 1] - r->offsets[i];
    return total;
}

static void fill_budget(chooser *c, const emb_remote_model *m, emb_route_candidate *row)
{
    char names[EMB_BUDGET_SCOPES][EMB_BUDGET_NAME];
    emb_budget_scope scopes[EMB_BUDGET_SCOPES];
    emb_budget_use use;
    row->available_nusd = UINT64_MAX;
    row->is_unpriced = !m->config->priced && c->config->unpriced == 0;
    row->estimate_nusd = emb_remote_price(m, 1, c->choice->tokens);
    row->is_api = row->estimate_nusd > 0 || row->is_unpriced;
    if (!row->estimate_nusd || !c->service->kit.budget)
        return;
    size_t count = emb_budget_scopes(c->gateway, c->request, m->remote, false, names, scopes);
    for (size_t i = 0; i < count; i++) {
        if (scopes[i].limit_nusd == UINT64_MAX ||
            !emb_budget_peek(c->service->kit.budget, scopes[i].name, &use))
            continue;
        uint64_t used = use.spent_nusd + use.reserved_nusd, limit = scopes[i].limit_nusd;
        uint64_t left = used < limit ? limit - used : 0;
        row->available_nusd = left < row->available_nusd ? left : row->available_nusd;
        row->near_limit |= (double)used >= c->config->alert_budget_warning * (double)limit;
    }
}

static const emb_error *keep_error(const chooser *c, const emb_error *error)
{
    emb_error *copy = emb_arena_alloc(c->arena, sizeof *copy);
    if (copy)
        *copy = *error;
    return copy;
}

/* Whether "maker/model@…" is of a model with this last part of its name. */
static bool has_model(const char *space, const char *name)
{
    const char *at = strrchr(space, '@'), *last = strrchr(name, '/');
    size_t n;
    if (last)
        name = last + 1;
    n = strlen(name);
    return at && at - space > (ptrdiff_t)n && strncasecmp(at - n, name, n) == 0 &&
           at[-(ptrdiff_t)n - 1] == '/';
}

/* Where a request pins the space of another embedd, its model was taken from the space and is that one's name
 * for it, which need not be ours. */
static bool is_named_by_space(const chooser *c, const char *space)
{
    const char *pinned = c->request->space, *at = is_set(pinned) ? strrchr(pinned, '@') : NULL;
    size_t n = c->route.model ? strlen(c->route.model) : 0;
    return at && n && strcmp(space, pinned) == 0 && at - pinned > (ptrdiff_t)n &&
           strncmp(at - n, c->route.model, n) == 0 && at[-(ptrdiff_t)n - 1] == '/';
}

/* Whether a pinned space is of this model: its dimension, which nobody knows yet, is learned and compared
 * when the model is asked. */
static bool may_make(const emb_remote_model *m, const char *space)
{
    char begin[512];
    if (m->peer) /* which makes a name of its own, most likely with this one's */
        return is_set(space) && (has_model(space, m->config->name) || has_model(space, m->config->upstream));
    int n =
        snprintf(begin, sizeof begin, "%s/%s@%s:", m->config->origin, m->config->name, m->config->revision);
    return is_set(space) && n > 0 && (size_t)n < sizeof begin && strncmp(space, begin, (size_t)n) == 0;
}

static void add_remote(chooser *c, emb_remote_model *m)
{
    emb_choice *choice = c->choice;
    emb_remote *remote = m->remote;
    const emb_provider_config *config = remote->config;
    if (!may_use(c->request, m->config->name, NULL)) {
        if (!choice->not_allowed || (is_set(c->route.model) && strcmp(c->route.model, m->config->name) == 0))
            choice->not_allowed = m->config->name;
        return;
    }
    if (choice->count == EMB_ROUTE_MAX)
        return;
    emb_error error;
    const char *space = "";
    emb_status status = emb_remote_check(m, c->request, c->arena, c->wants_spaces ? &space : NULL, &error);
    bool unknown = status == EMB_E_BUSY; /* its dimension has not been learned yet */
    if (status == EMB_E_INVALID && (!is_set(c->route.model) || strcmp(c->route.model, m->config->name) == 0))
        choice->unserved = keep_error(c, &error);
    emb_route_candidate *row = &choice->candidates[choice->count];
    *row = (emb_route_candidate){
        .provider = config->name,
        .kind = emb_provider_kind_name(config->kind),
        .model = m->config->name,
        .space = unknown && may_make(m, c->request->space) ? c->request->space
                 : status                                  ? ""
                                                           : space,
        .position = m->position,
        .weight = config->weight,
        .is_local = config->is_private,
        .is_fallback_only = !m->is_default || config->weight == 0,
        .serves_settings = !status || unknown,
        .unserved = status && !unknown ? keep(c, error.message) : NULL,
        .is_open = !emb_breaker_is_available(remote->breaker, c->now_ns),
        .quality = m->config->quality,
    };
    if (m->peer && is_named_by_space(c, row->space))
        row->model = c->route.model;
    fill_budget(c, m, row);
    row->p95_us = recent_p95_us(remote->latency, &remote->p95_ns, &remote->p95_us, c->now_ns);
    choice->remotes[choice->count++] = m;
}

/* ---- the plan -------------------------------------------------------------------------------- */

static uint64_t next_random(void)
{
    static _Thread_local uint64_t state;
    if (!state)
        state = emb_now_ns() ^ (uint64_t)(uintptr_t)&state;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void fill_settings(chooser *c, bool hybrid_only)
{
    const emb_config *config = c->config;
    emb_choice *choice = c->choice;
    const emb_request *r = c->request;
    choice->percentage = c->service->kit.rollout
                             ? emb_rollout_percentage(c->service->kit.rollout, config->rollout_percentage)
                             : config->rollout_percentage;
    const emb_text *first = r->texts && r->count ? &r->texts[0] : NULL;
    choice->bucket =
        emb_rollout_bucket(config->rollout_salt, r->user, r->caller ? emb_caller_name(r->caller) : "",
                           first ? first->data : "", first ? first->length : 0);
    c->settings = (emb_route_settings){
        .hybrid = hybrid_only || config->hybrid,
        .routing = config->enable_routing,
        .rollout_percentage = hybrid_only ? 100 : choice->percentage,
        .legacy_provider = config->legacy_provider,
        .default_provider = config->provider,
        .realtime_us = config->realtime_latency_ms * 1000,
        .batch_threshold = config->batch_size_threshold,
        .fallback = strcmp(config->fallback, "none") != 0,
    };
    c->route.context = r->context;
    c->route.texts = r->count;
    c->route.bucket = choice->bucket;
    c->route.random = next_random();
}

typedef struct fallback_walk {
    const emb_choice *choice;
    const emb_route_plan *from;
    emb_route_plan *to;
} fallback_walk;

/* A name that stands twice in the list gets its place once: the order has room for each candidate once. */
static bool is_taken(const emb_route_plan *plan, size_t candidate)
{
    for (size_t i = 0; i < plan->count; i++)
        if (plan->order[i] == candidate)
            return true;
    return false;
}

static bool add_named(void *context, const char *item, size_t length)
{
    fallback_walk *walk = context;
    for (size_t i = 1; i < walk->from->count; i++) {
        const char *name = walk->choice->candidates[walk->from->order[i]].provider;
        if (strlen(name) == length && strncasecmp(name, item, length) == 0 &&
            !is_taken(walk->to, walk->from->order[i]))
            walk->to->order[walk->to->count++] = walk->from->order[i];
    }
    return true;
}

/* hybrid.fallback names who may follow the first, and in which order. */
static void order_fallback(const emb_config *config, emb_choice *choice)
{
    if (!*config->fallback || choice->plan.count < 2)
        return;
    emb_route_plan before = choice->plan;
    fallback_walk walk = {choice, &before, &choice->plan};
    choice->plan.count = 1;
    emb_config_each(config->fallback, add_named, &walk);
}

/* Whether any candidate that the pin lets in would take texts off this machine. */
static bool could_leave(const chooser *c)
{
    for (size_t i = 0; i < c->choice->count; i++)
        if (!c->choice->candidates[i].is_local)
            return true;
    return false;
}

static emb_status choose(emb_service *service, const emb_request *request, emb_arena *arena, bool may_wait,
                         bool explain, bool hybrid_only, emb_choice *out, emb_error *err)
{
    emb_config *config = emb_service_config(service);
    chooser c = {.service = service,
                 .gateway = service->gateway,
                 .request = request,
                 .arena = arena,
                 .config = config,
                 .choice = out,
                 .wants_spaces = explain || is_set(request->space),
                 .now_ns = emb_now_ns()};
    memset(out, 0, sizeof *out);
    out->pii_kinds = "";
    out->tokens = estimate_tokens(request);
    read_pin(&c);
    if (hybrid_only && is_set(config->candidate_provider) && !is_set(request->model)) {
        if (!is_prefixed(c.gateway, config->candidate_provider, &c.route.preferred_provider, &c.route.model))
            c.route.preferred_provider = config->candidate_provider;
    }
    fill_settings(&c, hybrid_only);
    add_local(&c, may_wait);
    for (size_t i = 0; i < c.gateway->remote_count; i++)
        for (size_t m = 0; m < c.gateway->remotes[i].model_count; m++)
            add_remote(&c, &c.gateway->remotes[i].models[m]);
    if (explain || (!request->is_private && could_leave(&c)))
        scan(&c, explain);
    out->is_private = request->is_private || out->has_pii;
    c.route.has_pii = out->has_pii;
    if (request->is_private)
        c.route.context = EMB_CONTEXT_SENSITIVE;
    if (explain || out->is_private)
        out->verdicts = emb_arena_calloc(arena, EMB_ROUTE_MAX, sizeof *out->verdicts);
    out->plan.verdicts = out->verdicts;
    emb_route_make(&c.route, &c.settings, out->candidates, out->count, &out->plan);
    order_fallback(config, out);
    emb_config_release(config);
    (void)err;
    return EMB_OK;
}

emb_status emb_choice_make(emb_service *service, const emb_request *request, emb_arena *arena, bool may_wait,
                           bool explain, emb_choice *out, emb_error *err)
{
    return choose(service, request, arena, may_wait, explain, false, out, err);
}

emb_status emb_choice_make_hybrid(emb_service *service, const emb_request *request, emb_arena *arena,
                                  emb_choice *out, emb_error *err)
{
    return choose(service, request, arena, true, false, true, out, err);
}

void emb_choice_done(emb_choice *choice)
{
    emb_models_release(choice->served);
    choice->served = NULL;
}

/* Whether this is the model's name, or ends in it behind an instance's. */
static bool names_model(const char *name, const char *model)
{
    size_t n = name ? strlen(name) : 0, k = strlen(model);
    return n >= k && strcmp(name + n - k, model) == 0 && (n == k || name[n - k - 1] == '/');
}

emb_status emb_choice_refuse(const emb_choice *choice, const emb_request *request, emb_error *err)
{
    emb_status status = choice->plan.refusal ? choice->plan.refusal : EMB_E_UNAVAILABLE;
    bool only_local = choice->count == 0 || (choice->count == 1 && !choice->remotes[0]);
    bool pinned = is_set(request->model) || is_set(request->space) || is_set(request->preferred_provider);
    if (!choice->remotes[0] && choice->not_allowed &&
        (choice->count == 0 || names_model(request->model, choice->not_allowed)))
        return emb_fail(err, EMB_E_FORBIDDEN, "model", "this API key may not use the model %.200s",
                        choice->not_allowed);
    const emb_error *why = status == EMB_E_FORBIDDEN ? choice->unread : NULL;
    if ((status == EMB_E_INVALID || status == EMB_E_NOT_FOUND) && is_set(request->model))
        why = choice->unserved;
    if (why && why->code == EMB_E_INVALID) { /* of the request, and the client can mend it */
        if (err)
            *err = *why;
        return why->code;
    }
    /* The local model's own error says more than "no candidate", where it was the local model that was asked
     * for. */
    bool elsewhere = is_set(request->preferred_provider) &&
                     strcasecmp(request->preferred_provider, "local") != 0 &&
                     strcasecmp(request->preferred_provider, "auto") != 0;
    if (choice->local_status && !elsewhere && !is_set(request->space) &&
        (only_local || status == EMB_E_INVALID || status == EMB_E_NOT_FOUND)) {
        if (err)
            *err = choice->local_error;
        return choice->local_status;
    }
    const char *where = status == EMB_E_NOT_FOUND && pinned
                            ? (is_set(request->preferred_provider) ? "preferred_provider"
                               : is_set(request->space)            ? "space"
                                                                   : "model")
                            : NULL;
    if (status == EMB_E_FORBIDDEN)
        return emb_fail(err, status, NULL,
                        "the texts are private (%s) and stay on this machine, but the request is pinned to "
                        "a provider that is not",
                        request->is_private ? "the context is sensitive" : choice->pii_kinds);
    if (status == EMB_E_NOT_FOUND && is_set(request->space))
        return emb_fail(err, EMB_E_UNAVAILABLE, "space", "nothing here makes the space \"%.200s\"",
                        request->space);
    if (status == EMB_E_NOT_FOUND && is_set(request->preferred_provider))
        status = EMB_E_INVALID; /* of that member, whose value names nothing here */
    return emb_fail(err, status, where, "%s", choice->plan.reason);
}

/* ---- for others ------------------------------------------------------------------------------ */

bool emb_service_is_remote(emb_service *service, const char *model)
{
    const char *instance, *name;
    if (!service->gateway)
        return false;
    if (is_set(model))
        return serves(service->gateway, model) || is_prefixed(service->gateway, model, &instance, &name);
    emb_config *config = emb_service_config(service);
    bool remote = strcasecmp(config->provider, "local") != 0;
    emb_config_release(config);
    return remote;
}

static void explain_local(emb_service *service, const emb_request *request, emb_arena *arena,
                          emb_explanation *out)
{
    emb_error err;
    emb_work w = {.service = service, .request = request, .arena = arena};
    out->local_status = emb_models_acquire_until(service->models, request->model, request->cancel,
                                                 request->deadline_ns, &w.target.served, &err);
    if (!out->local_status) {
        emb_served *served = w.target.served;
        out->local_status = emb_target_local(&w, &err);
        out->candidates[0] = (emb_route_candidate){
            .provider = "local",
            .kind = "local",
            .model = emb_arena_strndup(arena, served->name, strlen(served->name)),
            .space =
                out->local_status ? "" : emb_arena_strndup(arena, w.target.space, strlen(w.target.space)),
            .weight = 1,
            .is_local = true,
            .serves_settings = !out->local_status,
            .unserved = "its settings cannot be served",
            .available_nusd = UINT64_MAX};
        out->count = 1;
        emb_models_release(served);
    }
    if (out->local_status)
        snprintf(out->local_error, sizeof out->local_error, "%.199s", err.message);
}

emb_status emb_service_explain(emb_service *service, const emb_request *request, emb_arena *arena,
                               emb_explanation *out, emb_error *err)
{
    memset(out, 0, sizeof *out);
    out->context = request->is_private ? EMB_CONTEXT_SENSITIVE : request->context;
    out->pii_kinds = "";
    out->tokens = estimate_tokens(request);
    if (!service->gateway) {
        emb_config *config = emb_service_config(service);
        emb_route_request route = {.context = out->context,
                                   .preferred_provider = request->preferred_provider,
                                   .texts = request->count};
        emb_route_settings settings = {.hybrid = config->hybrid,
                                       .routing = config->enable_routing,
                                       .rollout_percentage = 100,
                                       .legacy_provider = "",
                                       .default_provider = "local",
                                       .realtime_us = config->realtime_latency_ms * 1000,
                                       .batch_threshold = config->batch_size_threshold,
                                       .fallback = true};
        out->rollout_percentage = 100;
        explain_local(service, request, arena, out);
        out->plan.verdicts = out->verdicts;
        emb_route_make(&route, &settings, out->candidates, out->count, &out->plan);
        emb_config_release(config);
        return EMB_OK;
    }
    emb_choice *choice = emb_arena_alloc(arena, sizeof *choice);
    if (!choice)
        return emb_fail_nomem(err, "route", sizeof *choice);
    emb_status status = emb_choice_make(service, request, arena, true, true, choice, err);
    if (status)
        return status;
    memcpy(out->candidates, choice->candidates, sizeof out->candidates);
    if (choice->verdicts)
        memcpy(out->verdicts, choice->verdicts, sizeof out->verdicts);
    out->count = choice->count;
    out->plan = choice->plan;
    out->plan.verdicts = out->verdicts;
    out->has_pii = choice->has_pii;
    out->pii_kinds = choice->pii_kinds;
    out->bucket = choice->bucket;
    out->rollout_percentage = choice->percentage;
    out->local_status = choice->local_status;
    if (choice->local_status)
        snprintf(out->local_error, sizeof out->local_error, "%.199s", choice->local_error.message);
    for (size_t i = 0; i < out->count; i++)
        if (!choice->remotes[i]) { /* its strings go with the model */
            chooser keeper = {.arena = arena};
            out->candidates[i].model = keep(&keeper, out->candidates[i].model);
            out->candidates[i].space = keep(&keeper, out->candidates[i].space);
        }
    emb_choice_done(choice);
    return EMB_OK;
}
