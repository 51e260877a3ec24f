/*
 * shadowing.c: the two ends of shadow mode in the service: what the legacy path answered is offered, and the
 * candidate's vectors are made on the shadow's own thread.
 *
 * Private texts are never offered. Which requests are compared follows from the first text, so that a
 * repeated one is compared again and not now and then. The candidate is hybrid.candidate_provider, else the
 * first of the hybrid path's plan that is not what the legacy path was. It reads the cache, and its costs are
 * accounted apart, with a limit of their own.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "service/embed_parts.h"

#include <string.h>

enum { CANDIDATE_SECONDS = 60 };

static bool is_sampled(const emb_request *r, double percentage)
{
    uint64_t hash = emb_hash(r->texts[0].data, r->texts[0].length, 7);
    return (double)(hash >> 11) * 0x1p-53 * 100 < percentage;
}

bool emb_shadow_wants(emb_service *service, const emb_request *r, bool is_private)
{
    if (!service->kit.shadow || is_private || !r->texts || !r->count)
        return false;
    emb_config *config = emb_service_config(service);
    bool wanted = config->shadow_mode && is_sampled(r, config->shadow_sample);
    emb_config_release(config);
    return wanted;
}

void emb_shadow_offer(emb_service *service, const emb_request *r, const emb_answer *a)
{
    const emb_shadow_pair pair = {
        .texts = r->texts,
        .count = r->count,
        .category = r->category ? r->category : "",
        .context = emb_context_name(r->context),
        .key = r->caller ? emb_caller_name(r->caller) : "",
        .role = r->role,
        .legacy = {.provider = a->provider,
                   .model = a->model,
                   .space = a->space,
                   .vectors = a->vectors,
                   .dimension = a->dimension,
                   .latency_ns = a->total_ns,
                   .nusd = a->cost_nusd,
                   .cached = a->cached == a->count},
    };
    (void)emb_shadow_submit(service->kit.shadow, &pair); /* a full queue is counted there */
}

static bool is_legacy(const emb_shadow_pair *pair, const emb_route_candidate *c)
{
    return strcmp(pair->legacy.provider, c->provider) == 0 && strcmp(pair->legacy.model, c->model) == 0;
}

static emb_status take(emb_work *w, emb_choice *choice, size_t index, emb_error *err)
{
    w->target.served = choice->remotes[index] ? NULL : choice->served;
    emb_status status = choice->remotes[index] ? emb_target_remote(w, choice->remotes[index], true, err)
                                               : emb_target_local(w, err);
    if (status)
        return status;
    w->cache = emb_service_cache(w->service);
    w->policy = (emb_cache_policy){.read = true,
                                   .write = true,
                                   .shared = !choice->is_private,
                                   .ttl_s = w->target.ttl_s,
                                   .model = w->target.model};
    return emb_embed_target(w, err);
}

emb_status emb_shadow_run_candidate(void *context, const emb_shadow_pair *pair, emb_arena *arena,
                                    emb_shadow_side *out, emb_error *err)
{
    emb_service *service = context;
    emb_request request = EMB_REQUEST_INIT;
    emb_answer answer = {0};
    request.texts = pair->texts;
    request.count = pair->count;
    request.role = pair->role;
    request.category = pair->category;
    request.priority = EMB_PRIORITY_BULK;
    (void)emb_context_parse(pair->context, &request.context);
    request.cancel = emb_shadow_cancel(service->kit.shadow);
    request.deadline_ns = emb_now_ns() + CANDIDATE_SECONDS * UINT64_C(1000000000);
    emb_work w = {.service = service,
                  .request = &request,
                  .arena = arena,
                  .answer = &answer,
                  .start_ns = emb_now_ns(),
                  .is_shadow = true};
    emb_choice *choice = emb_arena_alloc(arena, sizeof *choice);
    if (!choice)
        return emb_fail_nomem(err, "route", sizeof *choice);
    emb_status status = emb_choice_make_hybrid(service, &request, arena, choice, err);
    if (status)
        return status;
    size_t at = 0;
    while (at < choice->plan.count && is_legacy(pair, &choice->candidates[choice->plan.order[at]]))
        at++;
    if (at == choice->plan.count)
        status = emb_fail(err, EMB_E_UNAVAILABLE, NULL, "there is no candidate beside the legacy provider");
    else
        status = take(&w, choice, choice->plan.order[at], err);
    if (!status) {
        bool cached = true;
        for (size_t i = 0; i < pair->count; i++)
            cached &= w.lookups[i].source == EMB_CACHE_L1 || w.lookups[i].source == EMB_CACHE_L2;
        *out = (emb_shadow_side){
            .provider = emb_arena_strndup(arena, w.target.provider, strlen(w.target.provider)),
            .model = emb_arena_strndup(arena, w.target.model, strlen(w.target.model)),
            .space = emb_arena_strndup(arena, w.target.space, strlen(w.target.space)),
            .vectors = w.vectors,
            .dimension = w.target.dimension,
            .latency_ns = emb_now_ns() - w.start_ns,
            .nusd = atomic_load(&w.cost_nusd),
            .cached = cached,
        };
        if (!out->provider || !out->model || !out->space)
            status = emb_fail_nomem(err, "names of the candidate", 0);
    }
    emb_choice_done(choice);
    return status;
}
