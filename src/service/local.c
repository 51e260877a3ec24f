/*
 * local.c: the engine of this process as a provider.
 */
#include "base/clock.h"
#include "base/duty.h"
#include "base/error.h"
#include "service/embed_parts.h"

#include <stdio.h>
#include <string.h>

static emb_status make_options(const emb_work *w, emb_embed_options *options, emb_error *err)
{
    const emb_request *r = w->request;
    *options = w->target.variant->options;
    options->cancel = r->cancel;
    options->priority = r->priority;
    if (r->count >= atomic_load_explicit(&w->service->bulk_from, memory_order_relaxed))
        options->priority = EMB_PRIORITY_BULK;
    if (!r->deadline_ns)
        return EMB_OK;
    uint64_t now = emb_now_ns();
    if (now >= r->deadline_ns)
        return emb_fail(err, EMB_E_DEADLINE, NULL, "the time for the request ran out");
    uint64_t left_ms = (r->deadline_ns - now + 999999) / 1000000;
    options->timeout_ms = left_ms < INT64_MAX ? (int64_t)left_ms : INT64_MAX;
    return EMB_OK;
}

/* Weights that cannot be read are told with their path, which is no member of a request. */
static void name_model(emb_error *err)
{
    if (err && err->where[0] == '/')
        strcpy(err->where, "model");
}

/* The engine numbers the texts that it was given; callers know those that they sent. */
static void name_text(emb_error *err, const size_t *todo, size_t count)
{
    size_t at;
    if (!err || (sscanf(err->where, "texts[%zu]", &at) != 1 && sscanf(err->where, "ids[%zu]", &at) != 1) ||
        at >= count)
        return;
    snprintf(err->where, sizeof err->where, "input[%zu]", todo[at]);
    emb_error_context(err, "input[%zu]", todo[at]);
}

static emb_status run_engine(emb_work *w, const emb_gathered *g, size_t count, emb_usage *usage,
                             emb_error *err)
{
    emb_embed_options options;
    size_t floats = count * w->target.variant->dimension;
    emb_status status = make_options(w, &options, err);
    if (status)
        return status;
    if (g->texts)
        return emb_embed_counted(w->target.served->model, g->texts, count, &options, g->vectors, floats,
                                 g->tokens, usage, err);
    for (size_t k = 0; k < count; k++) {
        size_t n = g->offsets[k + 1] - g->offsets[k];
        g->tokens[k] = (uint32_t)(n < w->target.variant->max_tokens ? n : w->target.variant->max_tokens);
    }
    return emb_embed_ids(w->target.served->model, g->ids, g->offsets, count, &options, g->vectors, floats,
                         usage, err);
}

static void count_pass(emb_work *w, size_t count, const emb_usage *usage, uint64_t now_ns)
{
    const emb_model_series *s = w->target.series;
    w->answer->queue_ns += usage->queue_ns;
    w->answer->tokenize_ns += usage->tokenize_ns;
    w->answer->compute_ns += usage->compute_ns;
    if (!atomic_load_explicit(&w->service->monitoring, memory_order_relaxed))
        return;
    emb_series_add(s->tokens, (double)usage->tokens);
    emb_series_observe(s->batch_texts, (double)count);
    emb_series_observe(s->batch_tokens, (double)usage->tokens);
    emb_series_observe(s->queue_seconds, (double)usage->queue_ns * 1e-9);
    emb_series_observe(s->tokenize_seconds, (double)usage->tokenize_ns * 1e-9);
    emb_series_observe(s->compute_seconds, (double)usage->compute_ns * 1e-9);
    emb_window *const *shown = w->service->kit.shown;
    emb_window_observe(shown[EMB_LATENCY_QUEUE], (double)usage->queue_ns * 1e-9, now_ns);
    emb_window_observe(shown[EMB_LATENCY_COMPUTE], (double)usage->compute_ns * 1e-9, now_ns);
}

emb_status emb_compute_locally(emb_work *w, const size_t *todo, size_t count, emb_error *err)
{
    emb_gathered g = {0};
    emb_usage usage = EMB_USAGE_INIT;
    uint64_t begin = emb_now_ns();
    emb_models *models = w->service->models;
    emb_status status = emb_gather(w, todo, count, &g, err);
    emb_duty_pass_on(); /* it takes milliseconds */
    if (!status)
        status = run_engine(w, &g, count, &usage, err);
    if (!status)
        status = emb_models_confirm(models, w->target.served, err);
    if (!status)
        status = emb_check_finite(w, g.vectors, count * w->target.dimension, err);
    if (!status) {
        emb_models_used(models, w->target.served);
        count_pass(w, count, &usage, emb_now_ns());
    } else {
        name_text(err, todo, count);
        name_model(err);
    }
    emb_scatter(w, todo, count, &g, status);
    uint64_t end = emb_now_ns();
    if (!status && atomic_load_explicit(&w->service->monitoring, memory_order_relaxed))
        emb_window_observe(w->service->kit.local, (double)(end - begin) * 1e-9, end);
    w->provider_ns += end - begin;
    return status;
}

emb_status emb_target_local(emb_work *w, emb_error *err)
{
    emb_target *t = &w->target;
    emb_status status = emb_variant_get((emb_instance *)t->served, w->request, w->arena, &t->variant, err);
    if (status)
        return status;
    t->provider = "local";
    t->model = t->served->name;
    t->space = t->variant->space;
    t->scope = t->variant->scope;
    t->dimension = t->variant->dimension;
    t->ttl_s = atomic_load_explicit(&w->service->ttl_s, memory_order_relaxed);
    t->series = &t->served->series;
    t->remote = NULL;
    return EMB_OK;
}
