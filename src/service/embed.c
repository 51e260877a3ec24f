/*
 * The one embed(): every route, command and job comes through here.
 *
 *     route    which targets may answer, in which order (choice.c; the rules are router/plan.h's)
 *     keys     what each text's vector is filed under
 *     cache    what is there, what others compute right now, and what is left …
 *     provider … which the engine (local.c) or a provider (remote.c) computes in one call
 *     account  the answer's members, counters, ledger (account.c)
 *
 * A step knows nothing of the next. A target that fails for reasons of its own gives way to the next one of
 * the plan, for which keys, cache and provider run anew: an answer never holds vectors of two spaces.
 *
 * A vector that is not finite is an error of the whole call; it is neither returned nor filed.
 *
 * emb_service_embed_cached is the same route, the same keys and the same account around emb_cache_peek, for
 * threads that must not wait. Without providers it takes no lock that all share; see models_parts.h and
 * variant.c for how.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "service/embed_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* On a thread that must not wait: texts that are scanned for personal data, numbers that are copied for the
 * shadow. */
enum { PEEK_BYTES = 64 << 10, PEEK_FLOATS = 32 << 10, PEEK_IDS = 4 << 10 };

static emb_status check_request(const emb_work *w, emb_error *err)
{
    const emb_request *r = w->request;
    size_t most = atomic_load_explicit(&w->service->max_inputs, memory_order_relaxed);
    if (r->count > most)
        return emb_fail(err, EMB_E_LIMIT, "input", "%zu texts, the limit is %zu (server.max_inputs)",
                        r->count, most);
    if (r->count && !r->texts && (!r->ids || !r->offsets))
        return emb_fail(err, EMB_E_INVALID, "input", "there are neither texts nor token ids");
    return EMB_OK;
}

static void plan_cache(emb_work *w, bool is_private)
{
    const emb_request *r = w->request;
    emb_service *service = w->service;
    w->cache = atomic_load_explicit(&service->caching, memory_order_relaxed)
                   ? atomic_load_explicit(&service->cache, memory_order_acquire)
                   : NULL;
    w->policy = (emb_cache_policy){
        .read = r->cache_read,
        .write = r->cache_write,
        .shared = !is_private,
        .max_age_s = r->cache_max_age_s,
        .ttl_s = w->target.ttl_s,
        .model = w->target.model,
    };
}

/* ---- keys ------------------------------------------------------------------------------------ */

static emb_status make_room(emb_work *w, emb_error *err)
{
    size_t count = w->request->count, dimension = w->target.dimension, rows = count ? count : 1;
    if (count > SIZE_MAX / sizeof(float) / dimension)
        return emb_fail_nomem(err, "vectors", SIZE_MAX);
    w->lookups = emb_arena_calloc(w->arena, rows, sizeof *w->lookups);
    w->vectors = emb_arena_alloc(w->arena, count ? count * dimension * sizeof(float) : 1);
    w->tokens = emb_arena_alloc(w->arena, rows * sizeof *w->tokens);
    w->sources = emb_arena_alloc(w->arena, rows);
    if (!w->lookups || !w->vectors || !w->tokens || !w->sources)
        return emb_fail_nomem(err, "vectors", count * dimension * sizeof(float));
    for (size_t i = 0; i < count; i++) {
        w->lookups[i].vector = w->vectors + i * dimension;
        w->lookups[i].dimension = (uint32_t)dimension;
    }
    return EMB_OK;
}

/* What ids for a provider spell, once for all targets. Where that cannot be known they are keys
 * themselves. */
static void read_ids(emb_work *w)
{
    emb_error ignored;
    if (w->request->texts || !w->target.remote || w->spelled)
        return;
    if (emb_spell_ids(w->service->gateway, w->request, true, w->arena, &w->spelled, &ignored))
        w->spelled = NULL;
}

/* The text that a provider would compute the vector of, or NULL. The same text sent as text shares it. */
static const emb_text *text_of_ids(const emb_work *w, size_t i)
{
    const emb_spelled *s = w->target.remote && w->spelled ? &w->spelled[i] : NULL;
    if (!s || !s->is_whole || (!s->is_plain && emb_remote_takes_ids(w->target.remote)))
        return NULL;
    return &s->text;
}

static bool make_key_of_ids(emb_work *w, size_t i, emb_cache_lookup *l)
{
    const emb_request *r = w->request;
    const emb_text *text = text_of_ids(w, i);
    size_t begin = r->offsets[i], end = r->offsets[i + 1];
    if (!text)
        return emb_cache_key_of_ids(&w->target.scope, r->ids + begin, end - begin, &l->key);
    l->text = text->data;
    l->text_length = text->length;
    return emb_cache_key_of_text(&w->target.scope, text->data, text->length, &l->key);
}

static emb_status make_keys(emb_work *w, emb_error *err)
{
    const emb_request *r = w->request;
    const emb_cache_scope *scope = &w->target.scope;
    read_ids(w);
    for (size_t i = 0; i < r->count; i++) {
        emb_cache_lookup *l = &w->lookups[i];
        bool made;
        if (r->texts) {
            l->text = r->texts[i].data;
            l->text_length = r->texts[i].length;
            made = emb_cache_key_of_text(scope, l->text, l->text_length, &l->key);
        } else {
            size_t begin = r->offsets[i], end = r->offsets[i + 1];
            if (end <= begin) {
                char where[32];
                snprintf(where, sizeof where, "input[%zu]", i);
                return emb_fail(err, EMB_E_INVALID, where, "input[%zu]: the list of token ids is empty", i);
            }
            made = make_key_of_ids(w, i, l);
        }
        if (!made)
            return emb_fail_nomem(err, "cache key", sizeof l->key);
    }
    return EMB_OK;
}

/* ---- cache and provider ---------------------------------------------------------------------- */

static emb_status compute(emb_work *w, const size_t *todo, size_t count, emb_error *err)
{
    return w->target.remote ? emb_compute_remotely(w, todo, count, err)
                            : emb_compute_locally(w, todo, count, err);
}

static int ascending(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* The cache need not name positions in their order. */
static void sort_positions(size_t *todo, size_t count)
{
    for (size_t k = 1; k < count; k++)
        if (todo[k] < todo[k - 1]) {
            qsort(todo, count, sizeof *todo, ascending);
            return;
        }
}

/* The caller whose computation this one waited for was told that its text cannot be embedded. So is this one,
 * but by the place that the text has in its own request. Or the other's budget was spent: of its key, its
 * category, or the shadow's, which need not be this one's. */
static emb_status compute_unfilled(emb_work *w, size_t *todo, emb_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < w->request->count; i++)
        if (w->lookups[i].source == EMB_CACHE_NONE)
            todo[count++] = i;
    return count ? compute(w, todo, count, err) : EMB_OK;
}

static emb_status through_cache(emb_work *w, size_t *todo, emb_error *err)
{
    const emb_request *r = w->request;
    emb_cache_flight *flight;
    size_t count;
    bool computed = true; /* whether `status` is of this call's own computation */
    emb_status status =
        emb_cache_begin(w->cache, w->lookups, r->count, &w->policy, r->deadline_ns, r->cancel, &flight, err);
    if (status)
        return status;
    while (!status && (computed = emb_cache_next(flight, todo, &count, &status, err))) {
        sort_positions(todo, count);
        status = compute(w, todo, count, err);
        if (!status)
            emb_cache_publish(flight, todo, count);
    }
    if (!computed && (status == EMB_E_LIMIT || status == EMB_E_INVALID || status == EMB_E_BUDGET))
        status = compute_unfilled(w, todo, err);
    emb_cache_end(flight, status, err);
    return status;
}

static emb_status fill(emb_work *w, emb_error *err)
{
    size_t count = w->request->count;
    if (!count)
        return EMB_OK;
    size_t *todo = malloc(count * sizeof *todo);
    if (!todo)
        return emb_fail_nomem(err, "positions", count * sizeof *todo);
    emb_status status;
    if (w->cache) {
        status = through_cache(w, todo, err);
    } else {
        for (size_t i = 0; i < count; i++)
            todo[i] = i;
        status = compute(w, todo, count, err);
    }
    free(todo);
    return status;
}

emb_status emb_embed_target(emb_work *w, emb_error *err)
{
    emb_status status = make_room(w, err);
    if (!status && w->cache)
        status = make_keys(w, err);
    uint64_t begin = emb_now_ns();
    w->provider_ns = 0;
    if (!status)
        status = fill(w, err);
    w->answer->cache_ns = w->cache ? emb_now_ns() - begin - w->provider_ns : 0;
    return status;
}

/* ---- one target after the other -------------------------------------------------------------- */

/* Whether another provider may do what this one could not. */
static bool may_fall(const emb_work *w, emb_status status)
{
    switch (status) {
    case EMB_E_PROVIDER:
    case EMB_E_UNAVAILABLE:
    case EMB_E_BUDGET:
    case EMB_E_BUSY:
    case EMB_E_IO:
    case EMB_E_CORRUPT:
        return true;
    case EMB_E_NOT_FOUND: /* the provider has no such model */
        return w->target.remote != NULL;
    case EMB_E_DEADLINE: /* the provider's, not the request's */
        return !w->request->deadline_ns || emb_now_ns() < w->request->deadline_ns;
    default:
        return false;
    }
}

static emb_status take_target(emb_work *w, const emb_choice *choice, size_t index, bool may_wait,
                              emb_error *err)
{
    memset(&w->target, 0, sizeof w->target);
    w->target.served = choice->remotes[index] ? NULL : choice->served;
    emb_status status = choice->remotes[index] ? emb_target_remote(w, choice->remotes[index], may_wait, err)
                                               : emb_target_local(w, err);
    if (status == EMB_E_INVALID && w->request->space && *w->request->space && err &&
        strcmp(err->where, "dimensions") == 0)
        return emb_fail(err, EMB_E_UNAVAILABLE, "space", "%s makes no vectors of the space \"%.200s\"",
                        choice->candidates[index].provider,
                        w->request->space); /* which the dimensions are of */
    if (!status && w->request->space && *w->request->space && strcmp(w->request->space, w->target.space) != 0)
        status = emb_fail(err, EMB_E_UNAVAILABLE, "space",
                          "the space \"%.120s\" was asked for; %s makes \"%.120s\"", w->request->space,
                          w->target.provider, w->target.space);
    return status;
}

static void note_fall(emb_work *w, const emb_choice *choice, size_t from, size_t to, emb_status status)
{
    const char *a = choice->candidates[from].provider, *b = choice->candidates[to].provider;
    w->answer->fell_from = a;
    emb_series_add(emb_metrics_series(w->service->metrics, EMB_METRIC_FALLBACKS, a, b), 1);
    emb_log(EMB_LOG_INFO, "a provider failed, another one answers", EMB_LOG_TEXT("from", a),
            EMB_LOG_TEXT("to", b), EMB_LOG_TEXT("why", emb_status_text(status)));
}

static emb_status run_target(emb_work *w, const emb_choice *choice, size_t index, emb_error *err)
{
    emb_status status = take_target(w, choice, index, true, err);
    if (status)
        return status;
    plan_cache(w, choice->is_private);
    return emb_embed_target(w, err);
}

static emb_status run_plan(emb_work *w, emb_choice *choice, emb_error *err)
{
    const emb_route_plan *plan = &choice->plan;
    emb_status status = EMB_OK;
    for (size_t i = 0; i < plan->count; i++) {
        size_t index = plan->order[i];
        status = run_target(w, choice, index, err);
        if (status && emb_target_is_stale(w))
            status = run_target(w, choice, index, err);
        if (!status || !may_fall(w, status))
            return status;
        if (i + 1 < plan->count)
            note_fall(w, choice, index, plan->order[i + 1], status);
    }
    return status;
}

/* A provider that was passed over for this rule cannot be asked, but the cache may hold what it made: makes the
 * keys. */
static bool may_look_up(emb_work *w, const emb_choice *choice, size_t i, emb_route_rule rule, bool is_private)
{
    emb_error ignored;
    if (!choice->remotes[i] || choice->verdicts[i].passed_over != rule ||
        take_target(w, choice, i, false, &ignored))
        return false;
    plan_cache(w, is_private);
    return w->cache && w->request->cache_read && make_room(w, &ignored) == EMB_OK &&
           make_keys(w, &ignored) == EMB_OK;
}

/* A pinned provider may not get a private text, but what is in this process' memory is no secret from it. */
static bool peek_private(emb_work *w, const emb_choice *choice)
{
    for (size_t i = 0; i < choice->count; i++) {
        if (may_look_up(w, choice, i, EMB_RULE_PRIVACY, true) &&
            emb_cache_peek(w->cache, w->lookups, w->request->count, &w->policy))
            return true;
    }
    return false;
}

/* Whether L1 and L2 hold all that the request asks for. */
static bool is_kept(emb_work *w)
{
    size_t count;
    emb_cache_flight *flight;
    emb_error err;
    emb_status status;
    const emb_request *r = w->request;
    size_t *todo = emb_arena_alloc(w->arena, (r->count ? r->count : 1) * sizeof *todo);
    if (!todo ||
        emb_cache_begin(w->cache, w->lookups, r->count, &w->policy, r->deadline_ns, r->cancel, &flight, &err))
        return false;
    bool missing = emb_cache_next(flight, todo, &count, &status, &err);
    if (missing) /* who waits for these looks for himself: embed.c, compute_unfilled */
        status = emb_fail(&err, EMB_E_BUDGET, NULL, "the budget is spent");
    emb_cache_end(flight, status, &err);
    return !status;
}

/* What was paid for costs nothing the second time, so a spent budget does not refuse it. */
static bool find_kept(emb_work *w, emb_choice *choice)
{
    for (size_t i = 0; i < choice->count; i++) {
        if (may_look_up(w, choice, i, EMB_RULE_BUDGET, choice->is_private) && is_kept(w)) {
            snprintf(choice->plan.reason, sizeof choice->plan.reason,
                     "answered from the cache: the budget of %s is spent", choice->candidates[i].provider);
            choice->plan.rule = EMB_RULE_BUDGET;
            return true;
        }
    }
    return false;
}

static void tell_route(emb_work *w, const emb_choice *choice)
{
    emb_answer *a = w->answer;
    const char *reason = emb_arena_strndup(w->arena, choice->plan.reason, strlen(choice->plan.reason));
    a->path = choice->plan.legacy ? "legacy" : "hybrid";
    a->rule = emb_route_rule_name(choice->plan.rule);
    a->reason = reason ? reason : a->rule;
    emb_series_add(emb_metrics_series(w->service->metrics, EMB_METRIC_ROUTES, w->target.provider,
                                      emb_context_name(w->request->context), a->rule),
                   1);
    if (choice->is_private)
        emb_series_add(emb_metrics_series(w->service->metrics, EMB_METRIC_PRIVATE_TEXTS,
                                          w->request->is_private ? "sensitive" : "pii"),
                       1);
}

/* Through the router. The served model that the answer keeps is taken from the choice. */
static emb_status embed_routed(emb_work *w, emb_error *err)
{
    emb_choice *choice = emb_arena_alloc(w->arena, sizeof *choice);
    emb_work peeked = *w;
    if (!choice)
        return emb_fail_nomem(err, "route", sizeof *choice);
    emb_status status = emb_choice_make(w->service, w->request, w->arena, true, false, choice, err);
    if (!status && choice->plan.refusal == EMB_E_BUDGET && !choice->verdicts) {
        emb_choice_done(choice); /* once more, with whom the budget refuses */
        status = emb_choice_make(w->service, w->request, w->arena, true, true, choice, err);
    }
    if (status)
        return status;
    if (choice->plan.count)
        status = run_plan(w, choice, err);
    else if (choice->plan.refusal == EMB_E_FORBIDDEN && choice->verdicts && peek_private(&peeked, choice))
        *w = peeked;
    else if (choice->plan.refusal == EMB_E_BUDGET && choice->verdicts && find_kept(&peeked, choice))
        *w = peeked;
    else
        status = emb_choice_refuse(choice, w->request, err);
    if (!status) {
        tell_route(w, choice);
        if (w->target.served)
            choice->served = NULL; /* the answer's now */
        emb_account(w, emb_now_ns());
        if (choice->plan.legacy && emb_shadow_wants(w->service, w->request, choice->is_private))
            emb_shadow_offer(w->service, w->request, w->answer);
    }
    emb_choice_done(choice);
    return status;
}

/* ---- without providers ----------------------------------------------------------------------- */

static emb_status check_preferred(const emb_request *r, emb_error *err)
{
    const char *p = r->preferred_provider;
    if (!p || !*p || strcasecmp(p, "auto") == 0 || strcasecmp(p, "local") == 0)
        return EMB_OK;
    return emb_fail(err, EMB_E_INVALID, "preferred_provider",
                    "preferred_provider: \"%.60s\" is not a provider of this service; there is \"local\"", p);
}

static void tell_local(emb_work *w)
{
    w->answer->path = atomic_load_explicit(&w->service->hybrid, memory_order_relaxed) ? "hybrid" : "legacy";
    w->answer->rule = "context";
    w->answer->reason = "local is the only provider of this service";
}

static emb_status embed_local(emb_work *w, emb_error *err)
{
    const emb_request *r = w->request;
    emb_status status = check_preferred(r, err);
    if (!status)
        status = emb_models_acquire_until(w->service->models, r->model, r->cancel, r->deadline_ns,
                                          &w->target.served, err);
    if (status)
        return status;
    emb_served *served = w->target.served;
    status = emb_target_local(w, err);
    if (!status && r->space && *r->space && strcmp(r->space, w->target.space) != 0)
        status = emb_fail(err, EMB_E_UNAVAILABLE, "space",
                          "the space \"%.120s\" was asked for; what is here makes \"%.120s\"", r->space,
                          w->target.space);
    if (!status) {
        plan_cache(w, r->is_private);
        status = emb_embed_target(w, err);
    }
    if (status) {
        emb_models_release(served);
        return status;
    }
    tell_local(w);
    emb_account(w, emb_now_ns());
    return EMB_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

emb_status emb_service_embed(emb_service *service, const emb_request *request, emb_arena *arena,
                             emb_answer *answer, emb_error *err)
{
    emb_work w = {
        .service = service, .request = request, .arena = arena, .answer = answer, .start_ns = emb_now_ns()};
    memset(answer, 0, sizeof *answer);
    emb_status status = check_request(&w, err);
    if (!status)
        status = service->gateway ? embed_routed(&w, err) : embed_local(&w, err);
    if (status) {
        memset(answer, 0, sizeof *answer);
        emb_totals_add_error(service, status, atomic_load(&w.cost_nusd));
    }
    return status;
}

static bool peek(emb_work *w, bool is_private)
{
    plan_cache(w, is_private);
    return w->cache && make_room(w, NULL) == EMB_OK && make_keys(w, NULL) == EMB_OK &&
           emb_cache_peek(w->cache, w->lookups, w->request->count, &w->policy);
}

static bool peek_local(emb_work *w)
{
    w->target.served = emb_models_try_acquire(w->service->models, w->request->model);
    if (!w->target.served)
        return false;
    emb_served *served = w->target.served;
    if (emb_target_local(w, NULL) == EMB_OK && check_preferred(w->request, NULL) == EMB_OK &&
        (!w->request->space || !*w->request->space || strcmp(w->request->space, w->target.space) == 0) &&
        peek(w, w->request->is_private)) {
        tell_local(w);
        return true;
    }
    emb_models_release(served);
    return false;
}

static bool is_small(const emb_request *r)
{
    size_t bytes = 0;
    if (!r->texts) /* their texts are read and tokenized */
        return r->ids && r->offsets && r->offsets[r->count] - r->offsets[0] <= PEEK_IDS;
    for (size_t i = 0; r->texts && i < r->count && bytes <= PEEK_BYTES; i++)
        bytes += r->texts[i].length;
    return bytes <= PEEK_BYTES;
}

/* Copying what is small holds up nobody else on this thread. */
static bool is_quick_to_copy(const emb_work *w)
{
    return w->request->count * w->target.dimension <= PEEK_FLOATS;
}

static bool peek_routed(emb_work *w, bool *shadowed)
{
    emb_choice *choice = is_small(w->request) ? emb_arena_alloc(w->arena, sizeof *choice) : NULL;
    emb_error err;
    if (!choice || emb_choice_make(w->service, w->request, w->arena, false, false, choice, &err))
        return false;
    bool found = choice->plan.count && take_target(w, choice, choice->plan.order[0], false, &err) == EMB_OK &&
                 peek(w, choice->is_private);
    *shadowed = found && choice->plan.legacy && emb_shadow_wants(w->service, w->request, choice->is_private);
    if (*shadowed && !is_quick_to_copy(w)) /* a worker offers it */
        found = false;
    if (found) {
        tell_route(w, choice);
        if (w->target.served)
            choice->served = NULL;
    }
    emb_choice_done(choice);
    return found;
}

bool emb_service_embed_cached(emb_service *service, const emb_request *request, emb_arena *arena,
                              emb_answer *answer)
{
    emb_work w = {
        .service = service, .request = request, .arena = arena, .answer = answer, .start_ns = emb_now_ns()};
    memset(answer, 0, sizeof *answer);
    if (!request->cache_read || !atomic_load_explicit(&service->caching, memory_order_relaxed) ||
        check_request(&w, NULL) != EMB_OK)
        return false;
    bool shadowed = false;
    if (!(service->gateway ? peek_routed(&w, &shadowed) : peek_local(&w)))
        return false;
    uint64_t end = emb_now_ns();
    answer->cache_ns = end - w.start_ns; /* reading the clock costs more than the rest that is in it */
    emb_account(&w, end);
    if (shadowed)
        emb_shadow_offer(service, request, answer);
    return true;
}

void emb_answer_done(emb_answer *answer)
{
    if (answer->served)
        emb_models_put(answer->served);
    answer->served = NULL;
}
