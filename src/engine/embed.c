/*
 * emb_embed and its relatives: from the caller's texts to a finished call.
 *
 * Small calls (one pass by estimate) are tokenized here, on the caller's thread, so that many callers
 * tokenize in parallel and compute threads only compute. Large calls are queued with their texts and
 * tokenized a pass at a time by the compute threads.
 *
 * A small call that finds the engine idle is run right here too: handing it to a compute thread would cost
 * two wakes, 50 us each, next to a pass of a few hundred. Other threads are offered a share of it as a
 * team. A call of several texts that is worth dividing is queued instead, because threads that each take
 * some of the texts need no synchronisation.
 */
#include "base/clock.h"
#include "base/error.h"
#include "engine/engine.h"
#include "engine/options.h"
#include "engine/tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the public functions have in common; either texts or ids and offsets. */
typedef struct embed_request {
    const emb_text *texts;
    const int32_t *ids;
    const size_t *offsets;
    size_t count;
    float *out;
    size_t out_floats;
    uint32_t *token_counts;
    emb_token_vectors *tokens; /* instead of `out`: vectors of tokens */
} embed_request;

/* ---- running a call -------------------------------------------------------------------------- */

static bool detachable(const emb_plan *plan)
{
    return plan->deadline_ns || plan->cancel;
}

/* Whether the caller's own thread should run the call. Locked. */
static bool runs_here(const emb_engine *engine, const emb_call *call)
{
    if (call->texts || engine->held || !engine->free_count ||
        atomic_load_explicit(&engine->waiting_calls, memory_order_relaxed))
        return false;
    if (call->waiting_tokens <= EMB_SPLIT_TOKENS)
        return true;
    return (call->count == 1 || engine->threads == 1) && !detachable(call->plan) &&
           call->waiting_tokens <= engine->pass_tokens;
}

/* Runs a call that is not queued. Locked; unlocks while it works. False if no slot can be made ready,
 * although others can. */
static bool run_here(emb_engine *engine, emb_call *call)
{
    emb_slot *slot = emb_slot_take(engine, call->core);
    emb_error error;
    if (emb_slot_prepare(engine, slot, call->core, &error)) {
        emb_slot_give(engine, slot);
        if (call->core->ready_count)
            return false;
        emb_call_give_up(engine, call, &error);
        return true;
    }
    call->detachable = false;
    call->waiting_tokens = 0; /* it never waits */
    call->first_ns = emb_now_ns();
    uint64_t saved = engine->kernels->thread_begin();
    while (call->next < call->count) {
        emb_queue_claim_all(engine, call, slot);
        emb_engine_unlock(engine);
        emb_slot_turn(engine, slot);
        emb_engine_lock(engine);
    }
    engine->kernels->thread_end(saved);
    emb_slot_give(engine, slot);
    if (atomic_load_explicit(&engine->waiting_calls, memory_order_relaxed))
        emb_engine_wake(engine);
    return true;
}

/* Sleeps until the call is done or has failed. Locked. */
static void wait_finished(emb_engine *engine, emb_call *call)
{
    while (!emb_call_done(call) && !(call->detachable && call->status)) {
        if (!call->detachable) {
            pthread_cond_wait(&call->finished, &engine->lock);
        } else if (!emb_call_expired(engine, call, emb_now_ns())) {
            struct timespec until = emb_plan_poll_time(call->plan);
            pthread_cond_timedwait(&call->finished, &engine->lock, &until);
        }
    }
    if (call->detachable && call->status)
        emb_slots_forget(engine, call);
}

static emb_status run_call(emb_engine *engine, emb_call *call, emb_error *err)
{
    emb_status status = EMB_OK;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&call->finished, &attributes);
    pthread_condattr_destroy(&attributes);
    emb_engine_lock(engine);
    call->queued_ns = emb_now_ns();
    if (!emb_call_expired(engine, call, call->queued_ns) &&
        !(runs_here(engine, call) && run_here(engine, call))) {
        status = emb_queue_add(engine, call, err);
        if (!status) {
            emb_engine_wake(engine);
            wait_finished(engine, call);
        }
    }
    emb_engine_unlock(engine);
    pthread_cond_destroy(&call->finished);
    if (!status && call->status) {
        status = call->status;
        if (err)
            *err = call->error;
    }
    call->usage.queue_ns = call->first_ns > call->queued_ns ? call->first_ns - call->queued_ns : 0;
    call->usage.compute_ns = call->last_ns > call->first_ns ? call->last_ns - call->first_ns : 0;
    return status;
}

/* ---- preparing a call ------------------------------------------------------------------------ */

/* Tokens that the texts probably have, before any was tokenized. */
static size_t estimate_all(const emb_plan *plan, const embed_request *request)
{
    size_t total = 0;
    for (size_t i = 0; i < request->count; i++)
        total += emb_tokens_at_first_sight(plan, &request->texts[i]);
    return total;
}

static emb_status tokenize_all(emb_call *call, const embed_request *request, emb_scratch *scratch,
                               emb_error *err)
{
    uint64_t begin = emb_now_ns();
    const emb_encoding *encoding = &scratch->encoding;
    for (size_t i = 0; i < request->count; i++) {
        emb_status status = emb_tokenize_text(call->core, call->plan, &request->texts[i], i, scratch, err);
        if (!status)
            status = emb_scratch_add(scratch, encoding->ids, encoding->count, err);
        if (status)
            return status;
        call->usage.truncated += encoding->untruncated > encoding->count;
        if (call->token_counts)
            call->token_counts[i] = (uint32_t)encoding->count;
    }
    call->ids = scratch->ids;
    call->offsets = scratch->offsets;
    call->usage.tokens = call->waiting_tokens = scratch->ids_count;
    call->usage.tokenize_ns = emb_now_ns() - begin;
    return EMB_OK;
}

/* What an error says it is about. */
static const char *sequence_name(char out[32], size_t i)
{
    snprintf(out, 32, "ids[%zu]", i);
    return out;
}

static emb_status check_sequence(const emb_call *call, const embed_request *request, size_t i, emb_error *err)
{
    const emb_plan *plan = call->plan;
    char where[32];
    size_t begin = request->offsets[i], end = request->offsets[i + 1],
           vocabulary = call->core->spec.vocab_size;
    if (end <= begin)
        return emb_fail(err, EMB_E_INVALID, sequence_name(where, i),
                        "the sequence is empty: offsets %zu and %zu", begin, end);
    if (end - begin > plan->max_tokens && plan->truncation == EMB_TRUNCATE_NONE)
        return emb_fail(err, EMB_E_LIMIT, sequence_name(where, i),
                        "%zu tokens, the limit is %zu and truncation is off", end - begin, plan->max_tokens);
    for (size_t k = begin; k < end; k++)
        if (request->ids[k] < 0 || (size_t)request->ids[k] >= vocabulary)
            return emb_fail(err, EMB_E_INVALID, sequence_name(where, i),
                            "token %d is not in the vocabulary, which has %zu", request->ids[k], vocabulary);
    return EMB_OK;
}

/* The sequences as they are to be embedded, where some are too long. */
static emb_status cut_sequences(emb_call *call, const embed_request *request, emb_scratch *scratch,
                                emb_error *err)
{
    const emb_plan *plan = call->plan;
    for (size_t i = 0; i < request->count; i++) {
        size_t begin = request->offsets[i], count = request->offsets[i + 1] - begin;
        if (count > plan->max_tokens) {
            if (plan->truncation == EMB_TRUNCATE_LEFT)
                begin += count - plan->max_tokens;
            count = plan->max_tokens;
        }
        emb_status status = emb_scratch_add(scratch, request->ids + begin, count, err);
        if (status)
            return status;
    }
    call->ids = scratch->ids;
    call->offsets = scratch->offsets;
    return EMB_OK;
}

/* Checks the caller's sequences and takes them where they are, unless some must be cut. */
static emb_status take_ids(emb_call *call, const embed_request *request, emb_scratch *scratch, emb_error *err)
{
    size_t most = call->plan->max_tokens;
    for (size_t i = 0; i < request->count; i++) {
        emb_status status = check_sequence(call, request, i, err);
        if (status)
            return status;
        size_t count = request->offsets[i + 1] - request->offsets[i];
        call->usage.truncated += count > most;
        call->usage.tokens += count < most ? count : most;
    }
    call->ids = request->ids;
    call->offsets = request->offsets;
    call->waiting_tokens = call->usage.tokens;
    return call->usage.truncated ? cut_sequences(call, request, scratch, err) : EMB_OK;
}

static emb_status make_call(emb_call *call, const emb_engine *engine, const embed_request *request,
                            emb_scratch *scratch, emb_error *err)
{
    if (request->ids)
        return take_ids(call, request, scratch, err);
    call->waiting_tokens = estimate_all(call->plan, request);
    if (request->tokens || (call->waiting_tokens <= engine->pass_tokens && request->count <= EMB_MAX_ROWS))
        return tokenize_all(call, request, scratch, err);
    call->texts = request->texts;
    return EMB_OK;
}

/* Room for the vectors of all tokens, now that they are counted. */
static emb_status make_room(emb_call *call, emb_token_vectors *out, emb_error *err)
{
    size_t count = call->count, width = call->plan->width, first = count ? call->offsets[0] : 0;
    size_t total = count ? call->offsets[count] - first : 0, limit = SIZE_MAX / sizeof(float) / width;
    *out = (emb_token_vectors){.count = count, .dimension = width};
    out->offsets = calloc(count + 1, sizeof *out->offsets);
    out->vectors = total < limit ? malloc((total ? total : 1) * width * sizeof *out->vectors) : NULL;
    if (!out->offsets || !out->vectors) {
        emb_token_vectors_fini(out);
        return emb_fail_nomem(err, "vectors of tokens",
                              total < limit ? total * width * sizeof(float) : SIZE_MAX);
    }
    for (size_t i = 0; i <= count && count; i++)
        out->offsets[i] = call->offsets[i] - first;
    call->out = out->vectors;
    return EMB_OK;
}

static emb_status check_request(const emb_plan *plan, const embed_request *request, emb_error *err)
{
    if (!request->out && request->count && !request->tokens)
        return emb_fail(err, EMB_E_INVALID, "out", "out is NULL");
    if (request->tokens) {
        if (request->count > SIZE_MAX / sizeof(size_t) - 1)
            return emb_fail_nomem(err, "vectors of tokens", SIZE_MAX);
    } else if (request->count > SIZE_MAX / sizeof(float) / plan->width ||
               request->out_floats < request->count * plan->width)
        return emb_fail(err, EMB_E_INVALID, "out_floats",
                        "out has room for %zu floats; %zu vectors of %zu floats are to be stored",
                        request->out_floats, request->count, plan->width);
    for (size_t i = 0; request->texts && i < request->count; i++)
        if (!request->texts[i].data && request->texts[i].length)
            return emb_fail(err, EMB_E_INVALID, "texts", "text %zu is NULL and %zu bytes long", i,
                            request->texts[i].length);
    return EMB_OK;
}

static emb_status embed(emb_model *model, const embed_request *request, const emb_embed_options *options,
                        emb_usage *usage, emb_error *err)
{
    emb_engine *engine = model->engine;
    emb_core *core = model->core;
    emb_plan plan;
    emb_scratch *scratch = emb_scratch_get(engine, err);
    if (!scratch)
        return EMB_E_NOMEM;
    emb_status status = emb_plan_make(&plan, core, options, request->ids == NULL, scratch, err);
    if (!status && request->tokens) {
        plan.settings.tokens = true;
        plan.settings.dimensions = 0;
        plan.width = core->spec.hidden;
    }
    if (!status)
        status = check_request(&plan, request, err);
    if (!status)
        status = emb_core_reach(core, EMB_STAGE_LOADED, &plan, err);
    emb_call call = {
        .core = core,
        .plan = &plan,
        .count = request->count,
        .out = request->out,
        .token_counts = request->token_counts,
        .detachable = detachable(&plan) && !request->tokens, /* staging rows hold vectors of texts */
    };
    if (!status)
        status = make_call(&call, engine, request, scratch, err);
    if (!status && request->tokens)
        status = make_room(&call, request->tokens, err);
    if (!status && call.count)
        status = run_call(engine, &call, err);
    if (status && request->tokens)
        emb_token_vectors_fini(request->tokens);
    emb_scratch_put(engine, scratch);
    if (usage) {
        size_t size = usage->size;
        call.usage.size = size;
        memcpy(usage, &call.usage, size < sizeof *usage ? size : sizeof *usage);
    }
    return status;
}

/* ---- the public functions -------------------------------------------------------------------- */

static emb_status enter(emb_model *model, const emb_usage *usage, emb_error *err)
{
    if (!model)
        return emb_fail(err, EMB_E_INVALID, "model", "model is NULL");
    if (usage && (usage->size < sizeof usage->size || usage->size > 1024))
        return emb_fail(err, EMB_E_INVALID, "usage", "usage.size is %zu: initialise it with EMB_USAGE_INIT",
                        usage->size);
    emb_engine_lock(model->engine);
    bool closed = model->engine->closed || model->closing;
    if (!closed) {
        model->engine->calls++;
        model->calls++;
    }
    emb_engine_unlock(model->engine);
    return closed ? emb_fail(err, EMB_E_CLOSED, NULL, "the engine is closed") : EMB_OK;
}

static void leave(emb_model *model)
{
    emb_engine *engine = model->engine;
    emb_engine_lock(engine);
    model->calls--;
    engine->calls--;
    if ((engine->closed && !engine->calls) || (model->closing && !model->calls))
        pthread_cond_broadcast(&engine->quiet);
    emb_engine_unlock(engine);
}

static emb_status run_request(emb_model *model, const embed_request *request,
                              const emb_embed_options *options, emb_usage *usage, emb_error *err)
{
    emb_status status = enter(model, usage, err);
    if (status)
        return status;
    status = embed(model, request, options, usage, err);
    leave(model);
    return status;
}

emb_status emb_embed_counted(emb_model *model, const emb_text *texts, size_t count,
                             const emb_embed_options *options, float *out, size_t out_floats,
                             uint32_t *token_counts, emb_usage *usage, emb_error *err)
{
    if (!texts && count)
        return emb_fail(err, EMB_E_INVALID, "texts", "texts is NULL");
    embed_request request = {
        .texts = texts,
        .count = count,
        .out = out,
        .out_floats = out_floats,
        .token_counts = token_counts,
    };
    return run_request(model, &request, options, usage, err);
}

emb_status emb_embed(emb_model *model, const emb_text *texts, size_t count, const emb_embed_options *options,
                     float *out, size_t out_floats, emb_usage *usage, emb_error *err)
{
    return emb_embed_counted(model, texts, count, options, out, out_floats, NULL, usage, err);
}

emb_status emb_embed_ids(emb_model *model, const int32_t *ids, const size_t *offsets, size_t count,
                         const emb_embed_options *options, float *out, size_t out_floats, emb_usage *usage,
                         emb_error *err)
{
    static const int32_t none[1] = {0};
    if (count && (!ids || !offsets))
        return emb_fail(err, EMB_E_INVALID, ids ? "offsets" : "ids", "%s is NULL", ids ? "offsets" : "ids");
    embed_request request = {
        .ids = ids ? ids : none, .offsets = offsets, .count = count, .out = out, .out_floats = out_floats};
    return run_request(model, &request, options, usage, err);
}

emb_status emb_model_embed_tokens(emb_model *model, const emb_text *texts, const int32_t *ids,
                                  const size_t *offsets, size_t count, const emb_embed_options *options,
                                  emb_token_vectors *out, emb_usage *usage, emb_error *err)
{
    *out = (emb_token_vectors){NULL, NULL, 0, 0};
    if (!texts && (!ids || !offsets))
        return emb_fail(err, EMB_E_INVALID, "texts", "there are neither texts nor ids with offsets");
    embed_request request = {
        .texts = texts, .ids = texts ? NULL : ids, .offsets = offsets, .count = count, .tokens = out};
    return run_request(model, &request, options, usage, err);
}

void emb_token_vectors_fini(emb_token_vectors *vectors)
{
    free(vectors->vectors);
    free(vectors->offsets);
    *vectors = (emb_token_vectors){NULL, NULL, 0, 0};
}
