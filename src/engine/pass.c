/*
 * Turns: from claimed texts to delivered vectors, on one thread with one slot.
 *
 * The thread that claimed texts tokenizes them right into the pass, which then runs through all layers
 * and is delivered. No thread waits for another on the way, so two threads do twice the work of one.
 *
 * Vectors go straight to the caller's memory. A caller with a deadline or a cancellation flag must be able
 * to leave while a pass runs, so its vectors go through the slot's staging rows and are copied when the
 * pass is done, if the caller is still there (1.5 KB a text, against the arithmetic of a whole text).
 *
 * Whether a caller may leave is decided by slot->touching: while it is set, the owner reads texts and
 * writes vectors of the slot's calls without the lock, and emb_slots_forget waits, for milliseconds at
 * most; while a pass runs it is clear, and forgetting takes the call out at once. All writes to
 * slot->calls are under the lock.
 *
 * Texts are claimed by estimate. If they turn out longer, the turn runs several passes; if shorter, it
 * claims more before the first.
 *
 * A turn aims at as many tokens as the encoder takes through its layers together. More would save nothing
 * (128 to 2,048 tokens a pass differ by 5 % on MiniLM in bf16) and would make interactive work that arrives
 * meanwhile wait longer.
 *
 * A pass offers itself to a team: threads that have nothing else to do join and leave as they like
 * (base/team.h). A helper needs a slot as well, so the engine never uses more CPUs than it was given.
 */
#include "base/clock.h"
#include "base/error.h"
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

/* ---- slots ----------------------------------------------------------------------------------- */

void emb_slot_init(emb_slot *slot, unsigned index)
{
    memset(slot, 0, sizeof *slot);
    slot->index = index;
    emb_scratch_init(&slot->scratch);
}

void emb_slot_fini(emb_slot *slot)
{
    emb_scratch_fini(&slot->scratch);
    free(slot->ids);
    free(slot->staging);
}

static emb_status grow_buffers(emb_slot *slot, size_t tokens, size_t width, emb_error *err)
{
    if (slot->token_capacity < tokens) {
        int32_t *ids = malloc(tokens * sizeof *ids);
        if (!ids)
            return emb_fail_nomem(err, "tokens of a pass", tokens * sizeof *ids);
        free(slot->ids);
        slot->ids = ids;
        slot->token_capacity = tokens;
    }
    if (slot->staging_width < width) {
        size_t bytes = width * EMB_MAX_ROWS * sizeof(float);
        float *staging = width <= SIZE_MAX / (EMB_MAX_ROWS * sizeof(float)) ? malloc(bytes) : NULL;
        if (!staging)
            return emb_fail_nomem(err, "vectors of a pass", bytes);
        free(slot->staging);
        slot->staging = staging;
        slot->staging_width = width;
    }
    return EMB_OK;
}

/* Opens a workspace for `tokens`, or half of that and so on, but at least `least`. */
static emb_status open_workspace(emb_workspace *workspace, const emb_core *core, size_t tokens, size_t least,
                                 emb_error *err)
{
    for (;;) {
        emb_status status = emb_workspace_open(workspace, core->encoder, tokens, err);
        if (status != EMB_E_NOMEM || tokens <= least)
            return status;
        tokens = tokens / 2 > least ? tokens / 2 : least;
    }
}

emb_status emb_slot_prepare(emb_engine *engine, emb_slot *slot, emb_core *core, emb_error *err)
{
    if (core->ready[slot->index])
        return EMB_OK;
    emb_engine_unlock(engine);
    size_t least = core->spec.max_tokens;
    size_t tokens = engine->pass_tokens < engine->batch_tokens ? engine->pass_tokens : engine->batch_tokens;
    emb_workspace *workspace = &core->workspaces[slot->index];
    emb_status status = open_workspace(workspace, core, tokens > least ? tokens : least, least, err);
    if (!status) {
        status = grow_buffers(slot, workspace->max_tokens, core->spec.dimension, err);
        if (status)
            emb_workspace_close(workspace);
    }
    emb_engine_lock(engine);
    if (!status) {
        core->ready[slot->index] = true;
        core->ready_count++;
    }
    return status;
}

size_t emb_slot_limit(const emb_slot *slot, const emb_core *core)
{
    return core->workspaces[slot->index].max_tokens;
}

/* ---- calls in slots -------------------------------------------------------------------------- */

size_t emb_slot_call(emb_slot *slot, emb_call *call)
{
    for (size_t i = slot->call_count; i-- > 0;)
        if (slot->calls[i] == call)
            return i;
    if (slot->call_count < EMB_MAX_ROWS)
        slot->calls[slot->call_count++] = call;
    else
        return EMB_MAX_ROWS;
    return slot->call_count - 1;
}

static void set_touching(emb_engine *engine, emb_slot *slot, bool touching)
{
    slot->touching = touching;
    if (!touching && engine->forgetting)
        pthread_cond_broadcast(&engine->quiet);
}

static bool slot_forgets(emb_slot *slot, const emb_call *call)
{
    for (size_t i = 0; i < slot->call_count; i++)
        if (slot->calls[i] == call) {
            if (slot->touching)
                return false;
            slot->calls[i] = NULL;
        }
    return true;
}

void emb_slots_forget(emb_engine *engine, const emb_call *call)
{
    engine->forgetting++;
    for (unsigned i = 0; i < engine->threads; i++)
        while (!slot_forgets(&engine->slots[i], call))
            pthread_cond_wait(&engine->quiet, &engine->lock);
    engine->forgetting--;
}

bool emb_slot_add(emb_slot *slot, size_t position, size_t index, const int32_t *ids, size_t count)
{
    emb_call *call = slot->calls[position];
    bool tokens = call->plan->settings.tokens;
    float *final = call->out + (tokens ? call->offsets[index] - call->offsets[0] : index) * call->plan->width;
    if (count == 0) { /* a tokenizer without special tokens, and no text: there is nothing to pool */
        if (!tokens)
            memset(final, 0, call->plan->width * sizeof *final);
        return true;
    }
    size_t row = slot->rows;
    if (row == EMB_MAX_ROWS || count > emb_slot_limit(slot, slot->core) - slot->tokens)
        return false;
    memcpy(slot->ids + slot->tokens, ids, count * sizeof *ids);
    slot->tokens += count;
    slot->offsets[row + 1] = (uint32_t)slot->tokens;
    slot->skip[row] = call->plan->skip < count ? call->plan->skip : (uint32_t)count;
    slot->any_skip |= slot->skip[row] > 0;
    slot->finals[row] = final;
    slot->targets[row] = call->detachable ? slot->staging + row * slot->staging_width : final;
    slot->rows++;
    if (!slot->segment_count || slot->segments[slot->segment_count - 1].call != position)
        slot->segments[slot->segment_count++] = (emb_segment){position, 0};
    slot->segments[slot->segment_count - 1].rows++;
    return true;
}

/* ---- the pass -------------------------------------------------------------------------------- */

/* Offers the pass to idle threads; NULL if another pass has the team. */
static emb_team *lead_team(emb_engine *engine)
{
    if (engine->threads == 1)
        return NULL;
    emb_team *team = NULL;
    emb_engine_lock(engine);
    if (!engine->team_led) {
        team = engine->team;
        engine->team_led = true;
        engine->team_wanted = (engine->threads < EMB_MAX_TEAM ? engine->threads : EMB_MAX_TEAM) - 1;
        emb_team_lead(team);
        if (engine->free_count)
            emb_engine_wake(engine);
    }
    emb_engine_unlock(engine);
    return team;
}

static void dismiss_team(emb_engine *engine, emb_team *team)
{
    if (!team)
        return;
    emb_engine_lock(engine);
    emb_team_dismiss(team);
    engine->team_led = false;
    emb_engine_unlock(engine);
}

/* Copies staged vectors of the calls that are still there. */
static void copy_staged(emb_engine *engine, emb_slot *slot)
{
    bool staged = false;
    for (size_t i = 0; i < slot->rows && !staged; i++)
        staged = slot->targets[i] != slot->finals[i];
    if (!staged)
        return;
    emb_engine_lock(engine);
    set_touching(engine, slot, true);
    emb_engine_unlock(engine);
    size_t row = 0;
    for (size_t s = 0; s < slot->segment_count; s++) {
        const emb_call *call = slot->calls[slot->segments[s].call];
        for (size_t i = 0; i < slot->segments[s].rows; i++, row++)
            if (call && slot->targets[row] != slot->finals[row])
                memcpy(slot->finals[row], slot->targets[row], call->plan->width * sizeof(float));
    }
}

/* Leaves touching clear. */
static void deliver(emb_engine *engine, emb_slot *slot)
{
    copy_staged(engine, slot);
    uint64_t now = emb_now_ns();
    emb_engine_lock(engine);
    for (size_t s = 0; s < slot->segment_count; s++) {
        emb_call *call = slot->calls[slot->segments[s].call];
        if (!call)
            continue;
        call->unfinished -= slot->segments[s].rows;
        call->last_ns = now;
        if (emb_call_done(call))
            pthread_cond_signal(&call->finished);
    }
    set_touching(engine, slot, false);
    emb_engine_unlock(engine);
    slot->segment_count = slot->rows = slot->tokens = 0;
    slot->any_skip = false;
}

static void run_pass(emb_engine *engine, emb_slot *slot)
{
    if (engine->observe)
        engine->observe(engine->observe_context, slot);
    slot->offsets[0] = 0;
    emb_batch batch = {
        .ids = slot->ids,
        .offsets = slot->offsets,
        .skip = slot->any_skip ? slot->skip : NULL,
        .count = slot->rows,
        .pooling = slot->settings.pooling,
        .normalize = slot->settings.normalize,
        .dimensions = slot->settings.dimensions,
        .tokens = slot->settings.tokens,
    };
    emb_team *team = lead_team(engine);
    emb_encoder_forward(slot->core->encoder, &slot->core->workspaces[slot->index], &batch, team,
                        slot->targets);
    dismiss_team(engine, team);
    deliver(engine, slot);
}

/* ---- tokenizing claims ----------------------------------------------------------------------- */

/* What tokenizing a claim came to, reported to its call at the end. */
typedef struct tally {
    size_t texts, empty, tokens, bytes, truncated;
    uint64_t begin_ns;
} tally;

static void report(emb_engine *engine, emb_slot *slot, size_t position, const tally *sum)
{
    emb_engine_lock(engine);
    emb_call *call = slot->calls[position];
    call->usage.tokens += sum->tokens;
    call->usage.truncated += sum->truncated;
    call->usage.tokenize_ns += emb_now_ns() - sum->begin_ns;
    call->seen_bytes += sum->bytes;
    call->seen_tokens += sum->tokens;
    call->unfinished -= sum->empty;
    if (emb_call_done(call))
        pthread_cond_signal(&call->finished);
    emb_engine_unlock(engine);
}

/* The claim cannot go on: its remaining texts are dropped and the call ends. */
static void fail_claim(emb_engine *engine, emb_slot *slot, const emb_claim *claim, size_t done,
                       const emb_error *error)
{
    emb_engine_lock(engine);
    emb_call *call = slot->calls[claim->call];
    call->unfinished -= claim->end - claim->first - done;
    emb_call_give_up(engine, call, error);
    emb_engine_unlock(engine);
}

/* Runs the pass that is full and goes on with an empty one. False if the call left meanwhile. */
static bool flush(emb_engine *engine, emb_slot *slot, size_t position)
{
    emb_engine_lock(engine);
    set_touching(engine, slot, false);
    emb_engine_unlock(engine);
    run_pass(engine, slot);
    emb_engine_lock(engine);
    set_touching(engine, slot, true);
    bool there = slot->calls[position] != NULL;
    emb_engine_unlock(engine);
    return there;
}

/* One text into the pass. EMB_E_CLOSED: the call left while a full pass ran. */
static emb_status tokenize_one(emb_engine *engine, emb_slot *slot, size_t position, size_t index, tally *sum,
                               emb_error *err)
{
    emb_call *call = slot->calls[position];
    const emb_encoding *encoding = &slot->scratch.encoding;
    if (call->detachable && emb_plan_expired(call->plan, emb_now_ns(), err))
        return err->code;
    emb_status status =
        emb_tokenize_text(call->core, call->plan, &call->texts[index], index, &slot->scratch, err);
    if (status)
        return status;
    size_t count = encoding->count;
    sum->texts++;
    sum->empty += count == 0;
    sum->tokens += count;
    sum->bytes += call->texts[index].length + call->plan->prompt_length;
    sum->truncated += encoding->untruncated > count;
    if (call->token_counts)
        call->token_counts[index] = (uint32_t)count;
    while (!emb_slot_add(slot, position, index, encoding->ids, count))
        if (!flush(engine, slot, position))
            return EMB_E_CLOSED;
    return EMB_OK;
}

static void tokenize_claim(emb_engine *engine, emb_slot *slot, const emb_claim *claim)
{
    if (!slot->calls[claim->call]) /* left while an earlier claim filled a pass */
        return;
    tally sum = {.begin_ns = emb_now_ns()};
    for (size_t i = claim->first; i < claim->end; i++) {
        emb_error error;
        emb_status status = tokenize_one(engine, slot, claim->call, i, &sum, &error);
        if (status == EMB_E_CLOSED)
            return;
        if (status) {
            report(engine, slot, claim->call, &sum);
            fail_claim(engine, slot, claim, i - claim->first, &error);
            return;
        }
    }
    report(engine, slot, claim->call, &sum);
}

/* Whether the pass has room and the call it tokenized for has more texts. */
static bool claim_more(emb_engine *engine, emb_slot *slot)
{
    if (!slot->segment_count || !slot->claim_count)
        return false;
    size_t position = slot->segments[slot->segment_count - 1].call;
    if (position != slot->claims[slot->claim_count - 1].call)
        return false;
    emb_engine_lock(engine);
    bool more = emb_queue_claim_more(engine, slot, position);
    emb_engine_unlock(engine);
    return more;
}

void emb_slot_turn(emb_engine *engine, emb_slot *slot)
{
    while (slot->claim_count) {
        for (size_t i = 0; i < slot->claim_count; i++)
            tokenize_claim(engine, slot, &slot->claims[i]);
        if (!claim_more(engine, slot))
            break;
    }
    emb_engine_lock(engine);
    set_touching(engine, slot, false);
    emb_engine_unlock(engine);
    if (slot->rows)
        run_pass(engine, slot);
    emb_engine_lock(engine);
    slot->call_count = slot->claim_count = 0;
    emb_queue_turn_ended(engine, slot);
    emb_engine_unlock(engine);
}
