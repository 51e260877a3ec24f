/*
 * call.c: one call, from its texts to its vectors.
 *
 * The calling thread does all of it: no hand-over, no wake-up of another thread, and nothing to join when a
 * caller gives up. Parts are states in a loop:
 *
 *     NEW -> (slot, promise of the rate limit) -> DUE at some time -> RUNNING -> DONE
 *                                                  ^                     |
 *                                                  +---- retry wait -----+
 *
 * A part that is due or running occupies one of the slots that the call holds (limits.h); further slots are
 * taken only while nobody waits for one. A hedge is a second exchange of a running part, in a slot of its
 * own, paid by the retry budget; the first good answer wins and the other is given up.
 *
 * Invariants: `after` is called once for each `before` that agreed, on every way out; a promise of the rate
 * limit is used or taken back; rows are written only from answers, and the call is good only if every part
 * had a good one. The first failure that is not tried again ends the call; what still runs is cancelled.
 *
 * Cost of a call of one part, beside libcurl's: one allocation for the parts, four locks, no thread switch.
 */
#include "base/clock.h"
#include "base/error.h"
#include "provider/fault.h"
#include "provider/parts.h"
#include "provider/split.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_NS UINT64_C(50000000)
#define DRAINED_MOST_MS 60000
#define MOST_ANSWER_BYTES ((size_t)1 << 30)

typedef enum part_state { PART_NEW, PART_DUE, PART_RUNNING, PART_DONE } part_state;

typedef struct part {
    emb_split_part span;
    part_state state;
    bool promised, hedged;
    unsigned made; /* attempts that failed or run, hedges aside */
    uint64_t due_ns, started_ns, spent_ns;
    emb_lane_exchange *first, *second;
} part;

typedef struct call {
    emb_provider *provider;
    const emb_provider_call *in;
    emb_provider_result *out;
    emb_error *err;
    emb_lane *lane;
    part *parts;
    size_t count, low, next, done; /* parts before low are done, those from next on are new */
    size_t held, occupied;         /* slots */
    uint64_t unknown_tokens;       /* estimated, of parts whose usage nobody said */
    uint64_t random;
    bool unknown, over;
    emb_status status;
} call;

static uint64_t last_moment(const call *c, uint64_t now)
{
    uint32_t timeout_ms = c->provider->config.timeout_ms;
    return c->in->deadline_ns ? c->in->deadline_ns
                              : now + (uint64_t)(timeout_ms ? timeout_ms : 60000) * 1000000u;
}

static void end_call(call *c, emb_status status)
{
    c->over = true;
    c->status = status;
}

static void end_busy(call *c, uint64_t now, uint64_t start)
{
    c->out->retry_after_ms = start > now ? (int64_t)((start - now + 999999) / 1000000) : 0;
    end_call(
        c, emb_fail(c->err, EMB_E_BUSY, c->provider->config.name,
                    "provider %s: its rate limit lets nothing through for %lld ms, longer than the deadline",
                    c->provider->config.name, (long long)c->out->retry_after_ms));
}

/* ---- requests ---- */

static emb_wire_request request_of(const call *c, const part *p)
{
    return (emb_wire_request){.config = &c->provider->config,
                              .call = c->in,
                              .texts = c->in->texts + p->span.first,
                              .offsets = c->in->ids ? c->in->offsets + p->span.first : NULL,
                              .count = p->span.count};
}

static size_t most_answer_bytes(const call *c, const part *p)
{
    size_t dimension = c->out->dimension ? c->out->dimension : EMB_VECTORS_MAX_DIMENSION;
    size_t numbers = c->provider->config.kind == EMB_PROVIDER_HUGGINGFACE ? 512 * 32 : 32;
    __uint128_t bytes = (__uint128_t)p->span.count * dimension * numbers + (1u << 20);
    return bytes < MOST_ANSWER_BYTES ? (size_t)bytes : MOST_ANSWER_BYTES;
}

static emb_status write_request(call *c, const part *p, emb_lane_exchange *x)
{
    const emb_provider *provider = c->provider;
    emb_wire_request request = request_of(c, p);
    emb_status status = provider->wire->url(&provider->config, c->in->model, &x->url);
    if (!status)
        status = provider->wire->body(&request, &x->body);
    if (status == EMB_E_NOMEM)
        return emb_fail_nomem(c->err, "a request", x->body.length);
    return status ? emb_fail(c->err, EMB_E_LIMIT, provider->config.name,
                             "provider %s: the request cannot be written", provider->config.name)
                  : EMB_OK;
}

static emb_status ask_hook(call *c, const part *p, emb_lane_exchange *x, emb_error *err)
{
    const emb_provider_hooks *hooks = c->in->hooks;
    x->ticket = NULL;
    return hooks && hooks->before
               ? hooks->before(hooks->context, p->span.count, p->span.tokens, &x->ticket, err)
               : EMB_OK;
}

/* The attempt of x is over: everybody who counts is told, and x may be used again. */
static void tell(call *c, part *p, emb_lane_exchange *x, emb_attempt *attempt)
{
    const emb_provider_hooks *hooks = c->in->hooks;
    attempt->duration_ns = emb_now_ns() - x->started_ns;
    p->spent_ns += p->second && p->first ? 0 : attempt->duration_ns; /* two side by side count once */
    c->out->end = attempt->end;
    emb_provider_count(c->provider, c->in->model, attempt);
    if (hooks && hooks->after)
        hooks->after(hooks->context, x->ticket, attempt);
    if (p->first == x)
        p->first = p->second;
    p->second = NULL;
    emb_lane_free(c->lane, x);
}

static void cancel_attempt(call *c, part *p, emb_lane_exchange *x)
{
    emb_attempt attempt = {.end = EMB_ATTEMPT_CANCELLED, .retry_after_ms = -1};
    emb_lane_abort(c->lane, x);
    attempt.http_status = x->http_status;
    attempt.maybe_billed = emb_lane_sent(x);
    tell(c, p, x, &attempt);
}

/* One more exchange for the part. err NULL: a hedge, whose refusal ends nothing. */
static bool begin_attempt(call *c, part *p, emb_error *err)
{
    emb_lane_exchange *x = emb_lane_spare(c->lane);
    emb_status status = x ? write_request(c, p, x) : emb_fail_nomem(c->err, "a request", sizeof *x);
    if (!status)
        status = ask_hook(c, p, x, err);
    if (status) {
        if (x)
            emb_lane_free(c->lane, x);
        if (err)
            end_call(c, status);
        return false;
    }
    *(p->first ? &p->second : &p->first) = x;
    x->owner = p;
    c->out->attempts++;
    status = emb_lane_start(c->lane, x, false, most_answer_bytes(c, p), c->err);
    if (status) {
        tell(c, p, x, &(emb_attempt){.end = EMB_ATTEMPT_NOT_SENT, .retry_after_ms = -1});
        if (err)
            end_call(c, status);
        return false;
    }
    return true;
}

/* ---- answers ---- */

static bool read_good(call *c, const part *p, emb_lane_exchange *x, emb_attempt *attempt, emb_fault *fault)
{
    const emb_wire *wire = c->provider->wire;
    emb_wire_request request = request_of(c, p);
    emb_wire_answer answer = {.tokens_known = false};
    emb_error why = {0};
    bool is_json = true;
    float *rows = c->out->vectors ? c->out->vectors + p->span.first * c->out->dimension : NULL;
    emb_status status = emb_vectors_init(&answer.vectors, rows, p->span.count, c->out->dimension, &why);
    if (!status)
        status = emb_wire_read(wire, &request, x->answer.data ? x->answer.data : "", x->answer.length,
                               &answer, &is_json, &why);
    if (!answer.tokens_known && wire->token_header && x->hints.compute_tokens > 0) {
        answer.tokens = (uint64_t)x->hints.compute_tokens;
        answer.tokens_known = true;
    }
    attempt->tokens = answer.tokens;
    if (status) {
        if (!is_json || !emb_fault_in_answer(&request, x->answer.data, x->answer.length, fault))
            emb_fault_of_answer(&why, is_json, fault);
        c->out->other_space |= answer.other_space;
    } else if (c->done && strcmp(c->out->space, answer.space) != 0) { /* of one part and another */
        *fault = (emb_fault){.end = EMB_ATTEMPT_BAD_ANSWER, .status = EMB_E_PROVIDER, .wait_ms = -1};
        snprintf(fault->words, sizeof fault->words, "its answers to one call are of two spaces");
        c->out->other_space = true;
        status = EMB_E_PROVIDER;
    } else {
        memcpy(c->out->space, answer.space, sizeof c->out->space);
        c->out->dimension = answer.vectors.dimension;
        c->out->tokens += answer.tokens_known ? answer.tokens : p->span.tokens;
        c->unknown |= !answer.tokens_known;
        emb_limits_settle(&c->provider->limits, p->span.tokens,
                          answer.tokens_known ? answer.tokens : p->span.tokens);
    }
    emb_vectors_fini(&answer.vectors);
    return status == EMB_OK;
}

/* What became of an exchange that ended: true if the part has its rows. */
static bool judge(call *c, const part *p, emb_lane_exchange *x, emb_attempt *attempt, emb_fault *fault)
{
    emb_wire_request request = request_of(c, p);
    bool sent = emb_lane_sent(x);
    attempt->http_status = x->http_status;
    attempt->retry_after_ms = emb_retry_wait_ms(&x->hints);
    if (x->code != CURLE_OK) {
        emb_fault_of_transport(x->code, x->problem, sent, fault);
    } else if (x->http_status >= 200 && x->http_status < 300) {
        attempt->maybe_billed = true;
        if (read_good(c, p, x, attempt, fault))
            return true;
    } else {
        emb_fault_of_http(&request, x->http_status, x->answer.data ? x->answer.data : "", x->answer.length,
                          fault);
        c->out->other_space |= x->http_status == 409 && c->in->space && *c->in->space;
    }
    attempt->end = fault->end;
    if (fault->wait_ms > attempt->retry_after_ms)
        attempt->retry_after_ms = fault->wait_ms;
    /* a request that was refused costs nothing; of one that broke nobody knows */
    attempt->maybe_billed = fault->end == EMB_ATTEMPT_BAD_ANSWER ||
                            (sent && (fault->end == EMB_ATTEMPT_TIMEOUT || fault->end == EMB_ATTEMPT_BROKEN));
    return false;
}

static void release_spare_slots(call *c)
{
    bool all_begun = c->next == c->count;
    while (c->held > 1 && c->held > c->occupied && (all_begun || emb_limits_crowded(&c->provider->limits))) {
        emb_limits_less(&c->provider->limits);
        c->held--;
    }
}

static void finish_part(call *c, part *p)
{
    if (p->first) /* the other of a hedged pair */
        cancel_attempt(c, p, p->first);
    p->state = PART_DONE;
    c->done++;
    c->occupied -= p->hedged ? 2 : 1;
    if (p->spent_ns > c->out->provider_ns)
        c->out->provider_ns = p->spent_ns;
    release_spare_slots(c);
}

static void fail_call(call *c, const part *p, const emb_fault *fault, int64_t wait_ms)
{
    char where[40];
    const char *name = c->provider->config.name;
    snprintf(where, sizeof where, "input[%zu]", p->span.first + fault->input);
    c->out->retry_after_ms =
        fault->end == EMB_ATTEMPT_LIMITED || fault->end == EMB_ATTEMPT_QUOTA ? wait_ms : -1;
    end_call(c, emb_fail(c->err, fault->status, fault->has_input ? where : name, "provider %s: %s (%s)", name,
                         fault->words, emb_attempt_end_name(fault->end)));
}

static bool may_retry(emb_provider *provider)
{
    pthread_mutex_lock(&provider->lock);
    bool may = emb_retry_budget_spend(&provider->budget, emb_now_ns());
    pthread_mutex_unlock(&provider->lock);
    return may;
}

static uint64_t next_random(call *c)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random;
}

static void count_retry(call *c)
{
    atomic_fetch_add_explicit(&c->provider->retries, 1, memory_order_relaxed);
    emb_series_add(c->provider->series.retries, 1);
}

static void retry_or_fail(call *c, part *p, const emb_fault *fault, int64_t wait_ms)
{
    uint64_t now = emb_now_ns(), wait_ns = 0, start;
    emb_retry_question q = {.end = fault->end,
                            .again = fault->again,
                            .once = fault->once,
                            .at_once = fault->at_once,
                            .made = p->made,
                            .max_retries = c->provider->config.max_retries,
                            .wait_ms = wait_ms,
                            .now_ns = now,
                            .deadline_ns = last_moment(c, now),
                            .random = next_random(c)};
    if (emb_retry_decide(&q, &wait_ns) != EMB_RETRY_AGAIN || !may_retry(c->provider)) {
        fail_call(c, p, fault, wait_ms);
        return;
    }
    if (!emb_limits_pace(&c->provider->limits, p->span.tokens, now, q.deadline_ns, &start)) {
        fail_call(c, p, fault, wait_ms > 0 ? wait_ms : (int64_t)((start - now) / 1000000));
        return;
    }
    p->promised = true;
    p->state = PART_DUE;
    p->due_ns = now + wait_ns > start ? now + wait_ns : start;
    count_retry(c);
}

static void obey_limits(call *c, const emb_attempt *attempt, const emb_retry_hints *hints)
{
    int64_t wait_ms = -1;
    if (attempt->end == EMB_ATTEMPT_LIMITED)
        wait_ms = attempt->retry_after_ms;
    else if (attempt->end == EMB_ATTEMPT_OK && emb_retry_drained_ms(hints) <= DRAINED_MOST_MS)
        wait_ms = emb_retry_drained_ms(hints);
    if (wait_ms > 0)
        emb_limits_hold(&c->provider->limits, emb_now_ns() + (uint64_t)wait_ms * 1000000u);
}

static void finish_attempt(call *c, emb_lane_exchange *x)
{
    part *p = x->owner;
    emb_attempt attempt = {.end = EMB_ATTEMPT_OK, .retry_after_ms = -1};
    emb_fault fault;
    bool good = judge(c, p, x, &attempt, &fault);
    obey_limits(c, &attempt, &x->hints);
    tell(c, p, x, &attempt);
    if (good) {
        finish_part(c, p);
    } else if (!fault.again || !p->first) { /* otherwise the other of a hedged pair may still do it */
        if (!p->first && p->hedged) {
            p->hedged = false;
            c->occupied--;
        }
        retry_or_fail(c, p, &fault, attempt.retry_after_ms);
    }
}

/* ---- the schedule ---- */

/* Room for one exchange more. */
static bool find_slot(call *c)
{
    if (c->occupied == c->held && emb_limits_more(&c->provider->limits))
        c->held++;
    if (c->occupied == c->held)
        return false;
    c->occupied++;
    return true;
}

static void start_part(call *c, part *p, uint64_t now)
{
    uint64_t held_until = emb_limits_held_until(&c->provider->limits, now);
    if (held_until) { /* said after this part's time was promised */
        if (held_until >= last_moment(c, now))
            end_busy(c, now, held_until);
        p->due_ns = held_until;
        return;
    }
    if (p->made == 0) {
        pthread_mutex_lock(&c->provider->lock);
        emb_retry_budget_earn(&c->provider->budget, now);
        pthread_mutex_unlock(&c->provider->lock);
    }
    p->made++;
    p->promised = false;
    p->state = PART_RUNNING;
    p->started_ns = now;
    if (!begin_attempt(c, p, c->err))
        emb_limits_unpace(&c->provider->limits, p->span.tokens);
}

static void promise_part(call *c, part *p, uint64_t now)
{
    uint64_t start;
    if (!emb_limits_pace(&c->provider->limits, p->span.tokens, now, last_moment(c, now), &start)) {
        end_busy(c, now, start);
        return;
    }
    p->promised = true;
    p->state = PART_DUE;
    p->due_ns = start;
    if (start <= now)
        start_part(c, p, now);
}

static void hedge_part(call *c, part *p, uint64_t now)
{
    uint64_t start;
    p->hedged = true; /* one try at it */
    if (!find_slot(c)) {
        p->hedged = false;
        p->started_ns = now; /* later perhaps */
        return;
    }
    if (!emb_limits_pace(&c->provider->limits, p->span.tokens, now, now + 1, &start))
        return;
    if (!may_retry(c->provider) || !begin_attempt(c, p, NULL))
        emb_limits_unpace(&c->provider->limits, p->span.tokens);
    else
        count_retry(c);
}

static uint64_t nearer(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Starts what can be started; when to look again at the latest. */
static uint64_t schedule(call *c, uint64_t now)
{
    uint64_t next = now + SLICE_NS, hedge_ns = (uint64_t)c->provider->config.hedge_ms * 1000000u;
    if (c->in->deadline_ns)
        next = nearer(next, c->in->deadline_ns);
    while (c->low < c->next && c->parts[c->low].state == PART_DONE)
        c->low++;
    for (size_t i = c->low; i < c->next && !c->over; i++) {
        part *p = &c->parts[i];
        if (p->state == PART_DUE && p->due_ns <= now)
            start_part(c, p, now);
        else if (p->state == PART_RUNNING && hedge_ns && !p->hedged && now >= p->started_ns + hedge_ns)
            hedge_part(c, p, now);
        if (p->state == PART_DUE)
            next = nearer(next, p->due_ns);
        else if (p->state == PART_RUNNING && hedge_ns && !p->hedged)
            next = nearer(next, p->started_ns + hedge_ns);
    }
    while (c->next < c->count && !c->over && find_slot(c)) {
        part *p = &c->parts[c->next++];
        promise_part(c, p, now);
        next = nearer(next, p->state == PART_DUE ? p->due_ns : hedge_ns ? now + hedge_ns : next);
    }
    return next;
}

static bool any_running(const call *c)
{
    for (size_t i = c->low; i < c->next; i++)
        if (c->parts[i].state == PART_RUNNING)
            return true;
    return false;
}

/* The caller gave up, its time is over, or the service closes while nothing runs anyway. */
static bool must_stop(call *c, uint64_t now)
{
    const char *name = c->provider->config.name;
    if (c->in->cancel && __atomic_load_n(c->in->cancel, __ATOMIC_RELAXED))
        end_call(c, emb_fail(c->err, EMB_E_CANCELLED, name, "the call of provider %s was cancelled", name));
    else if (c->in->deadline_ns && now >= c->in->deadline_ns)
        end_call(c, emb_fail(c->err, EMB_E_DEADLINE, name, "provider %s has not answered before the deadline",
                             name));
    else if (c->provider->is_closing && c->provider->is_closing() && c->next > 0 && !any_running(c))
        end_call(c, emb_fail(c->err, EMB_E_CLOSED, name, "the service is closing"));
    return c->over;
}

static void run_parts(call *c)
{
    while (!c->over && c->done < c->count) {
        uint64_t now = emb_now_ns();
        if (must_stop(c, now))
            return;
        uint64_t next = schedule(c, now);
        bool moved = false;
        for (emb_lane_exchange *x; !c->over && (x = emb_lane_step(c->lane)); moved = true)
            finish_attempt(c, x);
        now = emb_now_ns();
        if (!moved && !c->over && next > now)
            emb_lane_wait(c->lane, (int)((next - now + 999999) / 1000000));
    }
}

static void give_up_rest(call *c)
{
    for (size_t i = c->low; i < c->next; i++) {
        part *p = &c->parts[i];
        while (p->first)
            cancel_attempt(c, p, p->second ? p->second : p->first);
        if (p->promised)
            emb_limits_unpace(&c->provider->limits, p->span.tokens);
        p->promised = false;
    }
}

/* ---- the whole ---- */

static size_t first_set(size_t of_model, size_t of_instance, size_t of_kind)
{
    return of_model ? of_model : of_instance ? of_instance : of_kind;
}

static emb_status make_parts(call *c)
{
    const emb_provider_config *config = &c->provider->config;
    const emb_wire *wire = c->provider->wire;
    const emb_provider_call *in = c->in;
    emb_split_part *spans;
    emb_split_limits most = {
        .texts = first_set(in->max_batch_texts, config->max_batch_texts, wire->max_texts),
        .tokens = first_set(in->max_batch_tokens, config->max_batch_tokens, wire->max_tokens),
        .bytes = first_set(0, config->max_body_bytes, wire->max_body_bytes),
        .fixed_bytes = 512 + strlen(in->model) * 6 + (in->user ? strlen(in->user) * 6 : 0) +
                       (in->prompt_name ? strlen(in->prompt_name) * 6 : 0) +
                       (in->space ? strlen(in->space) * 6 : 0),
    };
    emb_status status = emb_split(in->texts, in->ids ? in->offsets : NULL, in->token_counts, in->count, &most,
                                  &spans, &c->count, c->err);
    if (status)
        return status;
    c->parts = calloc(c->count, sizeof *c->parts);
    for (size_t i = 0; i < c->count && c->parts; i++)
        c->parts[i].span = spans[i];
    free(spans);
    c->out->parts = (unsigned)c->count;
    return c->parts ? EMB_OK : emb_fail_nomem(c->err, "the parts of a call", c->count * sizeof *c->parts);
}

static emb_status enter(call *c)
{
    uint64_t now = emb_now_ns(), last = last_moment(c, now),
             held_until = emb_limits_held_until(&c->provider->limits, now);
    if (held_until >= last) {
        end_busy(c, now, held_until);
        return c->status;
    }
    emb_status status =
        emb_limits_enter(&c->provider->limits, last, c->in->cancel, c->provider->is_closing, c->err);
    if (!status)
        c->held = 1;
    return status ? emb_error_context(c->err, "provider %s", c->provider->config.name) : EMB_OK;
}

static void leave(call *c)
{
    for (; c->held > 1; c->held--)
        emb_limits_less(&c->provider->limits);
    emb_limits_leave(&c->provider->limits);
}

static emb_status run_entered(call *c)
{
    emb_status status = emb_lanes_take(c->provider->lanes, &c->lane, c->err);
    if (status)
        return status;
    run_parts(c);
    give_up_rest(c);
    emb_lanes_give(c->provider->lanes, c->lane);
    atomic_store_explicit(&c->provider->used_ns, emb_now_ns(), memory_order_relaxed);
    return c->status;
}

emb_status emb_provider_run(emb_provider *provider, const emb_provider_call *in, emb_provider_result *out,
                            emb_error *err)
{
    emb_error own = {0};
    call c = {.provider = provider, .in = in, .out = out, .err = err ? err : &own};
    c.random = emb_provider_random(provider);
    out->tokens = out->provider_ns = out->attempts = out->parts = 0;
    out->tokens_known = out->other_space = false;
    out->space[0] = 0;
    out->retry_after_ms = -1;
    out->end = EMB_ATTEMPT_NOT_SENT;
    emb_status status = make_parts(&c);
    if (!status && !(status = enter(&c))) {
        status = run_entered(&c);
        leave(&c);
    }
    free(c.parts);
    out->tokens_known = !status && !c.unknown;
    return status;
}
