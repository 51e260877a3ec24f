/*
 * estimate.c: what a request would cost, without sending anything.
 *
 * The plan is the real one, of this moment. Texts with personal data would be refused by a provider that is
 * not local, so they are counted apart and cost nothing; where they leave no candidate, the plan is that of
 * the request without its texts. What the cache holds is not looked for: it may be gone by the time.
 */
#include "base/error.h"
#include "pii/pii.h"
#include "service/embed_parts.h"

#include <string.h>

static bool has_finding(const emb_pii *scanner, const emb_text *text)
{
    emb_pii_finding found[1];
    emb_pii_progress p = {0};
    do {
        if (emb_pii_scan(scanner, text->data, text->length, found, 1, &p) > 0 || p.gave_up)
            return true;
    } while (p.next < text->length);
    return false;
}

void emb_service_find_private(emb_service *service, const emb_text *texts, size_t count, bool *is_private)
{
    const emb_gateway *g = service->gateway;
    bool scans = g && g->scanner;
    if (scans) {
        emb_config *config = emb_service_config(service);
        scans = config->pii_detection;
        emb_config_release(config);
    }
    for (size_t i = 0; i < count; i++)
        is_private[i] = scans && has_finding(g->scanner, &texts[i]);
}

/* The texts that would be sent, in the arena. */
static emb_status leave_out_private(emb_service *service, const emb_request *r, emb_arena *arena,
                                    const emb_text **texts, size_t *count, emb_error *err)
{
    bool *is_private = emb_arena_calloc(arena, r->count ? r->count : 1, sizeof *is_private);
    emb_text *kept = emb_arena_calloc(arena, r->count ? r->count : 1, sizeof *kept);
    if (!is_private || !kept)
        return emb_fail_nomem(err, "texts to estimate", r->count * sizeof *kept);
    emb_service_find_private(service, r->texts, r->count, is_private);
    *count = 0;
    for (size_t i = 0; i < r->count; i++)
        if (!is_private[i])
            kept[(*count)++] = r->texts[i];
    *texts = kept;
    return EMB_OK;
}

static void estimate_local(const emb_text *texts, size_t count, emb_estimate *out)
{
    out->is_priced = true;
    for (size_t i = 0; i < count; i++)
        out->tokens += texts[i].length / 4 + 1;
}

static emb_status estimate_remote(emb_service *service, emb_remote_model *m, const emb_request *r,
                                  const emb_text *texts, size_t count, emb_arena *arena, emb_estimate *out,
                                  emb_error *err)
{
    const char *prompt = emb_remote_prompt(m, r->role);
    const emb_text before = {prompt, strlen(prompt)};
    uint32_t *tokens = emb_arena_calloc(arena, count ? count : 1, sizeof *tokens), of_prompt = 0;
    uint64_t total = 0;
    if (!tokens)
        return emb_fail_nomem(err, "tokens to estimate", count * sizeof *tokens);
    emb_status status = emb_count_tokens(service->gateway, m, texts, count, tokens, &out->tokens, err);
    if (!status && before.length)
        status = emb_count_tokens(service->gateway, m, &before, 1, &of_prompt, &total, err);
    out->tokens += of_prompt * (uint64_t)count;
    out->is_exact = emb_counts_exactly(service->gateway, m);
    out->is_priced = m->config->priced;
    out->cost_nusd = count ? emb_remote_price(m, 1, out->tokens) : 0;
    out->is_remote = true;
    return status;
}

static emb_status plan(emb_service *service, const emb_request *r, emb_arena *arena, emb_choice *choice,
                       emb_error *err)
{
    emb_status status = emb_choice_make(service, r, arena, true, false, choice, err);
    if (status || choice->plan.count || choice->plan.refusal != EMB_E_FORBIDDEN || r->is_private)
        return status;
    emb_request without = *r;
    without.texts = NULL;
    without.count = 0;
    emb_choice_done(choice);
    return emb_choice_make(service, &without, arena, true, false, choice, err);
}

static emb_status estimate_plan(emb_service *service, const emb_request *r, const emb_choice *choice,
                                emb_arena *arena, emb_estimate *out, emb_error *err)
{
    size_t index = choice->plan.order[0], count = r->count;
    const emb_route_candidate *c = &choice->candidates[index];
    const emb_text *texts = r->texts;
    emb_status status = EMB_OK;
    out->provider = emb_arena_strndup(arena, c->provider, strlen(c->provider));
    out->model = emb_arena_strndup(arena, c->model, strlen(c->model));
    if (!out->provider || !out->model)
        return emb_fail_nomem(err, "names of a provider", 0);
    if (!c->is_local)
        status = leave_out_private(service, r, arena, &texts, &count, err);
    if (status)
        return status;
    out->texts = count;
    out->private_texts = r->count - count;
    if (choice->remotes[index])
        return estimate_remote(service, choice->remotes[index], r, texts, count, arena, out, err);
    estimate_local(texts, count, out);
    return EMB_OK;
}

emb_status emb_service_estimate(emb_service *service, const emb_request *r, emb_arena *arena,
                                emb_estimate *out, emb_error *err)
{
    memset(out, 0, sizeof *out);
    out->provider = "local";
    out->model = r->model ? r->model : "";
    if (!r->texts && r->count)
        return emb_fail(err, EMB_E_UNSUPPORTED, "input", "only texts are estimated");
    if (!service->gateway) {
        out->texts = r->count;
        estimate_local(r->texts, r->count, out);
        return EMB_OK;
    }
    emb_choice *choice = emb_arena_alloc(arena, sizeof *choice);
    if (!choice)
        return emb_fail_nomem(err, "route", sizeof *choice);
    emb_status status = plan(service, r, arena, choice, err);
    if (status)
        return status;
    status = choice->plan.count ? estimate_plan(service, r, choice, arena, out, err)
                                : emb_choice_refuse(choice, r, err);
    emb_choice_done(choice);
    return status;
}
