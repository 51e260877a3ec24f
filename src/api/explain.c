/*
 * explain.c: POST /api/v1/embeddings/route: how a request would be routed, without running it.
 *
 * The plan is the router's own, from the same snapshot of health, budget and latency that an embedding would
 * use, with a sentence for each candidate: why it would be asked, or why it is passed over. Nothing is sent,
 * spent or kept.
 */
#include "api/decode.h"
#include "api/hybrid.h"
#include "api/out.h"

#include <string.h>

static void write_candidate(emb_out *o, const emb_explanation *e, size_t i)
{
    const emb_route_candidate *c = &e->candidates[i];
    size_t place = 0;
    while (place < e->plan.count && e->plan.order[place] != i)
        place++;
    emb_out_open(o, NULL, '{');
    emb_out_text(o, "provider", c->provider);
    emb_out_text(o, "kind", c->kind);
    emb_out_text(o, "model", c->model);
    emb_out_text(o, "space", c->space);
    emb_out_bool(o, "eligible", place < e->plan.count);
    if (place < e->plan.count)
        emb_out_count(o, "order", place + 1);
    else
        emb_out_text(o, "passed_over_by", emb_route_rule_name(e->verdicts[i].passed_over));
    emb_out_text(o, "why", e->verdicts[i].why);
    emb_out_usd(o, "estimated_cost_usd", c->estimate_nusd);
    if (c->p95_us)
        emb_out_real(o, "p95_ms", (double)c->p95_us / 1e3, 3);
    if (c->available_nusd != UINT64_MAX)
        emb_out_usd(o, "budget_left_usd", c->available_nusd);
    emb_out_close(o, '}');
}

static void explain_on_worker(emb_api_call *call)
{
    emb_explanation *e = emb_arena_alloc(call->arena, sizeof *e);
    emb_error err;
    emb_status status =
        e ? emb_service_explain(call->service, &call->request, call->arena, e, &err) : EMB_E_NOMEM;
    if (status == EMB_E_NOMEM) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return;
    }
    if (status) {
        emb_call_fail_error(call, &err);
        return;
    }
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_bool(&o, "routable", e->plan.count > 0);
    emb_out_text(&o, "provider", e->plan.count ? e->candidates[e->plan.order[0]].provider : NULL);
    emb_out_text(&o, "model", e->plan.count ? e->candidates[e->plan.order[0]].model : NULL);
    emb_out_text(&o, "space", e->plan.count ? e->candidates[e->plan.order[0]].space : NULL);
    emb_out_text(&o, "path", e->plan.legacy ? "legacy" : "hybrid");
    emb_out_text(&o, "rule", emb_route_rule_name(e->plan.rule));
    emb_out_text(&o, "reason", e->plan.reason);
    if (!e->plan.count)
        emb_out_count(&o, "status", (uint64_t)emb_status_http(e->plan.refusal));
    emb_out_text(&o, "context", emb_context_name(e->context));
    emb_out_bool(&o, "pii", e->has_pii);
    emb_out_text(&o, "pii_kinds", e->pii_kinds);
    emb_out_real(&o, "bucket", e->bucket, 4);
    emb_out_real(&o, "rollout_percentage", e->rollout_percentage, 4);
    emb_out_count(&o, "estimated_tokens", e->tokens);
    emb_out_open(&o, "candidates", '[');
    for (size_t i = 0; i < e->count; i++)
        write_candidate(&o, e, i);
    emb_out_close(&o, ']');
    if (e->local_status)
        emb_out_text(&o, "local_error", e->local_error);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void explain(emb_api_call *call)
{
    emb_request r = EMB_REQUEST_INIT;
    if (!emb_hybrid_decode(call, &r))
        return;
    call->request = r;
    call->request.caller = call->caller;
    emb_call_park(call, explain_on_worker);
}

#define STRING "{\"type\":\"string\"}"
#define MAYBE "{\"type\":[\"string\",\"null\"]}"
#define CANDIDATE                                                                                           \
    "{\"type\":\"object\",\"required\":[\"provider\",\"kind\",\"model\",\"space\",\"eligible\",\"why\","    \
    "\"estimated_cost_usd\"],\"properties\":{\"provider\":" STRING ",\"kind\":" STRING ",\"model\":" STRING \
    ",\"space\":" STRING ",\"eligible\":{\"type\":\"boolean\"},\"order\":" EMB_HYBRID_COUNT                 \
    ",\"passed_over_by\":" STRING ",\"why\":" STRING ",\"estimated_cost_usd\":" EMB_HYBRID_AMOUNT           \
    ",\"p95_ms\":" EMB_HYBRID_AMOUNT ",\"budget_left_usd\":" EMB_HYBRID_AMOUNT "}}"
#define ANSWER                                                                                            \
    "{\"type\":\"object\",\"required\":[\"routable\",\"provider\",\"model\",\"space\",\"path\",\"rule\"," \
    "\"reason\","                                                                                         \
    "\"context\",\"pii\",\"candidates\"],\"properties\":{\"routable\":{\"type\":\"boolean\"},"            \
    "\"provider\":" MAYBE ",\"model\":" MAYBE ",\"space\":" MAYBE                                         \
    ",\"path\":{\"enum\":[\"hybrid\",\"legacy\"]},\"rule\":" STRING ",\"reason\":" STRING                 \
    ",\"status\":" EMB_HYBRID_COUNT ",\"context\":" STRING ",\"pii\":{\"type\":\"boolean\"},"             \
    "\"pii_kinds\":" STRING ",\"bucket\":" EMB_HYBRID_AMOUNT ",\"rollout_percentage\":" EMB_HYBRID_AMOUNT \
    ",\"estimated_tokens\":" EMB_HYBRID_COUNT ",\"candidates\":{\"type\":\"array\",\"items\":" CANDIDATE  \
    "},\"local_error\":" STRING "}}"

const emb_route emb_routes_explain[] = {
    {EMB_HTTP_POST, "/api/v1/embeddings/route", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_USE, explain,
     "How a request would be routed, and why not otherwise; nothing is run.", EMB_HYBRID_EMBED_REQUEST,
     ANSWER, NULL, NULL},
    {0}};
