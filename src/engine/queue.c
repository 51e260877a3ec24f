/*
 * What waits, and who is next.
 *
 * A call waits as a whole: it sits in the list of its model and priority with a cursor, `next`, and
 * threads claim texts from the cursor on, as much as one pass takes. Nothing is copied when a call of a
 * million texts is queued, and nothing of it is tokenized before a thread is about to need it.
 *
 * Fairness is by turns. Models that wait form a ring per priority, calls that wait form a ring per model:
 * each turn serves the first model and, in it, the first call, then the others as far as the pass has
 * room; who was served goes to the end. So a small call is delayed by at most one pass of each call that
 * is ahead of it, however large those are, and a model by one pass of each other model. Interactive work
 * goes first; bulk work that had no turn for EMB_AGE_NS gets one in between, so it is never starved.
 *
 * There is no timer and no waiting for more: a turn takes what is there. When little is to do, a turn takes
 * only its share of it, so that all threads finish at the same time; it takes no less than
 * EMB_SPLIT_TOKENS, below which the time goes into streaming the weights.
 *
 * Rejected: a queue of tokenized sequences. It must be bounded against large calls, needs its producers
 * woken, and moves tokens from one core's cache to another's; tokenizing costs a few percent of a pass, so
 * the thread that runs the pass does it. Sorting by length: there is no padding that it could save.
 */
#include "base/clock.h"
#include "base/error.h"
#include "engine/engine.h"

#include <string.h>

#define EMB_AGE_NS UINT64_C(100000000)

static emb_call *call_of(emb_link *link)
{
    return link ? EMB_LIST_ENTRY(link, emb_call, link) : NULL;
}

static bool same_settings(const emb_pass_settings *a, const emb_pass_settings *b)
{
    return a->pooling == b->pooling && a->normalize == b->normalize && a->dimensions == b->dimensions &&
           a->tokens == b->tokens;
}

/* ---- entering and leaving -------------------------------------------------------------------- */

emb_status emb_queue_add(emb_engine *engine, emb_call *call, emb_error *err)
{
    emb_core *core = call->core;
    emb_priority priority = call->plan->priority;
    size_t room =
        engine->queue_tokens > engine->waiting_tokens ? engine->queue_tokens - engine->waiting_tokens : 0;
    if (engine->waiting_tokens && call->waiting_tokens > room)
        return emb_fail(err, EMB_E_BUSY, NULL,
                        "overloaded: %zu tokens wait, this call has about %zu, the limit is %zu",
                        engine->waiting_tokens, call->waiting_tokens, engine->queue_tokens);
    if (priority == EMB_PRIORITY_BULK && emb_list_empty(&engine->cores_waiting[priority]))
        engine->bulk_served_ns = call->queued_ns;
    if (emb_list_empty(&core->calls[priority]))
        emb_list_append(&engine->cores_waiting[priority], &core->queue_link[priority]);
    emb_list_append(&core->calls[priority], &call->link);
    engine->waiting_tokens += call->waiting_tokens;
    atomic_fetch_add_explicit(&engine->waiting_calls, 1, memory_order_relaxed);
    return EMB_OK;
}

void emb_queue_remove(emb_engine *engine, emb_call *call)
{
    if (!emb_link_listed(&call->link))
        return;
    emb_priority priority = call->plan->priority;
    emb_list_remove(&call->link);
    if (emb_list_empty(&call->core->calls[priority]))
        emb_list_remove(&call->core->queue_link[priority]);
    engine->waiting_tokens -= call->waiting_tokens;
    call->waiting_tokens = 0;
    atomic_fetch_sub_explicit(&engine->waiting_calls, 1, memory_order_relaxed);
}

void emb_call_give_up(emb_engine *engine, emb_call *call, const emb_error *error)
{
    if (!call->status) {
        call->status = error->code;
        call->error = *error;
    }
    emb_queue_remove(engine, call);
    call->next = call->count;
    pthread_cond_signal(&call->finished);
}

bool emb_call_expired(emb_engine *engine, emb_call *call, uint64_t now_ns)
{
    emb_error error;
    if (!emb_plan_expired(call->plan, now_ns, &error))
        return false;
    emb_call_give_up(engine, call, &error);
    return true;
}

/* ---- choosing -------------------------------------------------------------------------------- */

emb_core *emb_queue_next(emb_engine *engine, emb_priority *priority)
{
    bool bulk = !emb_list_empty(&engine->cores_waiting[EMB_PRIORITY_BULK]);
    bool interactive = !emb_list_empty(&engine->cores_waiting[EMB_PRIORITY_INTERACTIVE]);
    if (!bulk && !interactive)
        return NULL;
    *priority = interactive ? EMB_PRIORITY_INTERACTIVE : EMB_PRIORITY_BULK;
    if (bulk) {
        uint64_t now = emb_now_ns();
        if (!interactive || now - engine->bulk_served_ns > EMB_AGE_NS) {
            *priority = EMB_PRIORITY_BULK;
            engine->bulk_served_ns = now;
        }
    }
    emb_link *link = emb_list_first(&engine->cores_waiting[*priority]);
    emb_list_remove(link);
    emb_list_append(&engine->cores_waiting[*priority], link);
    return *priority == EMB_PRIORITY_BULK
               ? EMB_LIST_ENTRY(link, emb_core, queue_link[EMB_PRIORITY_BULK])
               : EMB_LIST_ENTRY(link, emb_core, queue_link[EMB_PRIORITY_INTERACTIVE]);
}

/* Tokens of the slot's turn, claimed and not delivered. */
static void set_running(emb_engine *engine, emb_slot *slot, size_t tokens)
{
    engine->running_tokens += tokens - slot->running_tokens;
    slot->running_tokens = tokens;
}

void emb_queue_turn_ended(emb_engine *engine, emb_slot *slot)
{
    set_running(engine, slot, 0);
}

/* ---- claiming -------------------------------------------------------------------------------- */

static size_t pass_budget(const emb_engine *engine, const emb_slot *slot, const emb_core *core)
{
    size_t share = (engine->waiting_tokens + engine->running_tokens) / engine->threads + 1;
    size_t budget = share < EMB_SPLIT_TOKENS ? EMB_SPLIT_TOKENS : share;
    size_t limit = emb_slot_limit(slot, core);
    if (budget > engine->pass_tokens)
        budget = engine->pass_tokens;
    return budget < limit ? budget : limit;
}

/* Tokens that a text will have by the ratio seen so far in its call. To begin with it is one a byte, which
 * is never too few, so that a first turn does not take more than its share; emb_queue_claim_more then
 * fills the pass. */
static size_t estimate(const emb_call *call, size_t index)
{
    size_t bytes = call->texts[index].length + call->plan->prompt_length;
    size_t tokens = call->seen_bytes
                        ? (size_t)((double)bytes * (double)call->seen_tokens / (double)call->seen_bytes)
                        : bytes;
    return tokens + 2 < call->plan->max_tokens ? tokens + 2 : call->plan->max_tokens;
}

static void no_longer_waiting(emb_engine *engine, emb_call *call, size_t tokens)
{
    size_t part = tokens < call->waiting_tokens ? tokens : call->waiting_tokens;
    call->waiting_tokens -= part;
    engine->waiting_tokens -= part;
    if (call->next == call->count)
        emb_queue_remove(engine, call);
}

/* Both return the tokens that the pass then has, or will have by estimate. */
static size_t claim_sequences(emb_engine *engine, emb_call *call, emb_slot *slot, size_t used, size_t budget)
{
    size_t before = used, position = emb_slot_call(slot, call);
    while (position < EMB_MAX_ROWS && call->next < call->count) {
        size_t begin = call->offsets[call->next], count = call->offsets[call->next + 1] - begin;
        if (used && used + count > budget)
            break;
        if (!emb_slot_add(slot, position, call->next, call->ids + begin, count))
            break;
        used += count;
        call->next++;
        call->unfinished += count > 0;
    }
    no_longer_waiting(engine, call, used - before);
    if (emb_call_done(call)) /* only texts without tokens */
        pthread_cond_signal(&call->finished);
    return used;
}

static size_t claim_texts(emb_engine *engine, emb_call *call, emb_slot *slot, size_t used, size_t budget)
{
    size_t first = call->next, most = EMB_MAX_ROWS - slot->rows, waited = 0;
    if (slot->claim_count == EMB_MAX_CLAIMS)
        return used;
    size_t position = emb_slot_call(slot, call);
    if (position == EMB_MAX_ROWS)
        return used;
    while (call->next < call->count && call->next - first < most) {
        size_t tokens = estimate(call, call->next);
        if (used && used + tokens > budget)
            break;
        used += tokens;
        waited += emb_tokens_at_first_sight(call->plan, &call->texts[call->next]);
        call->next++;
    }
    if (call->next == first)
        return used;
    call->unfinished += call->next - first;
    slot->claims[slot->claim_count++] = (emb_claim){position, first, call->next};
    no_longer_waiting(engine, call, waited);
    return used;
}

void emb_queue_claim(emb_engine *engine, emb_core *core, emb_priority priority, emb_slot *slot)
{
    emb_list *calls = &core->calls[priority];
    size_t budget = pass_budget(engine, slot, core), used = 0;
    uint64_t now = emb_now_ns();
    emb_link *last = calls->head.prev;
    slot->core = core;
    for (emb_link *link = emb_list_first(calls), *after; link && used < budget; link = after) {
        after = link == last ? NULL : emb_list_after(calls, link);
        emb_call *call = call_of(link);
        if (emb_call_expired(engine, call, now))
            continue;
        if (slot->call_count && !same_settings(&slot->settings, &call->plan->settings))
            continue;
        slot->settings = call->plan->settings;
        if (!call->first_ns)
            call->first_ns = now;
        size_t before = call->next;
        used = call->texts ? claim_texts(engine, call, slot, used, budget)
                           : claim_sequences(engine, call, slot, used, budget);
        if (emb_link_listed(&call->link) && call->next != before) {
            emb_list_remove(&call->link);
            emb_list_append(calls, &call->link);
        }
    }
    set_running(engine, slot, used);
}

void emb_queue_claim_all(emb_engine *engine, emb_call *call, emb_slot *slot)
{
    slot->core = call->core;
    slot->settings = call->plan->settings;
    slot->touching = true;
    set_running(engine, slot, claim_sequences(engine, call, slot, 0, emb_slot_limit(slot, call->core)));
}

bool emb_queue_claim_more(emb_engine *engine, emb_slot *slot, size_t position)
{
    emb_call *call = slot->calls[position];
    set_running(engine, slot, slot->tokens);
    size_t budget = pass_budget(engine, slot, slot->core);
    if (!emb_link_listed(&call->link) || slot->rows == EMB_MAX_ROWS || slot->tokens >= budget - budget / 4)
        return false;
    slot->claim_count = 0;
    set_running(engine, slot, claim_texts(engine, call, slot, slot->tokens, budget));
    return slot->claim_count > 0;
}
