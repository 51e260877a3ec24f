/*
 * limits.c: see limits.h.
 *
 * Waiting for a slot is a line: each waiter has a condition of its own and is handed its slot, so none is
 * overtaken, and waking one wakes nobody else. A waiter looks up every 50 ms for its caller's flag.
 *
 * Rates are buckets that may go below zero: a request takes its tokens at once and is told when the level it
 * left would have been reached. That is a line as well (by arrival), needs no queue, tells at once whether a
 * deadline can be met, and lets a request through that is larger than the bucket. The bucket holds a tenth of
 * a minute, so that in no minute much more than the limit goes out.
 */
#include "provider/limits.h"

#include "base/clock.h"
#include "base/duty.h"
#include "base/error.h"

#include <string.h>

#define SLICE_NS UINT64_C(50000000)

typedef struct emb_limits_waiter {
    pthread_cond_t wake;
    bool granted;
    struct emb_limits_waiter *next;
} waiter;

static void open_bucket(emb_limits_bucket *b, size_t per_minute, uint64_t now_ns)
{
    double burst = (double)per_minute / 10;
    *b = (emb_limits_bucket){
        .per_ns = (double)per_minute / 60e9, .burst = burst < 1 ? 1 : burst, .updated_ns = now_ns};
    b->level = b->burst;
}

void emb_limits_init(emb_limits *l, size_t slots, size_t requests_per_minute, size_t tokens_per_minute,
                     uint64_t now_ns)
{
    memset(l, 0, sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    l->slots = slots ? slots : 1;
    open_bucket(&l->requests, requests_per_minute, now_ns);
    open_bucket(&l->tokens, tokens_per_minute, now_ns);
}

void emb_limits_fini(emb_limits *l)
{
    pthread_mutex_destroy(&l->lock);
}

/* ---- slots ---- */

static void append(emb_limits *l, waiter *w)
{
    if (l->last)
        l->last->next = w;
    else
        l->first = w;
    l->last = w;
    l->waiting++;
}

static void unlink_waiter(emb_limits *l, waiter *w)
{
    waiter *before = NULL;
    for (waiter *at = l->first; at && at != w; at = at->next)
        before = at;
    if (before)
        before->next = w->next;
    else
        l->first = w->next;
    if (l->last == w)
        l->last = before;
    l->waiting--;
}

/* The lock is held. */
static void give_back(emb_limits *l)
{
    waiter *w = l->first;
    if (!w) {
        l->used--;
        return;
    }
    unlink_waiter(l, w);
    w->granted = true;
    pthread_cond_signal(&w->wake);
}

static void sleep_slice(emb_limits *l, waiter *w, uint64_t now, uint64_t deadline_ns)
{
    uint64_t until = deadline_ns - now < SLICE_NS ? deadline_ns : now + SLICE_NS;
    struct timespec at = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    emb_duty_pass_on();
    pthread_cond_timedwait(&w->wake, &l->lock, &at);
}

static emb_status wait_in_line(emb_limits *l, uint64_t deadline_ns, const volatile int *cancel,
                               bool (*is_closing)(void), emb_error *err)
{
    pthread_condattr_t monotonic;
    waiter w = {.next = NULL};
    emb_status status = EMB_OK;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w.wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    append(l, &w);
    while (!w.granted && !status) {
        uint64_t now = emb_now_ns();
        if (cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
            status = emb_fail(err, EMB_E_CANCELLED, "concurrency",
                              "the call was cancelled while it waited in line");
        else if (is_closing && is_closing())
            status = emb_fail(err, EMB_E_CLOSED, "concurrency", "the service is closing");
        else if (now >= deadline_ns)
            status = emb_fail(err, EMB_E_BUSY, "concurrency",
                              "all %zu calls at a time were taken until the deadline", l->slots);
        else
            sleep_slice(l, &w, now, deadline_ns);
    }
    if (status && w.granted)
        give_back(l);
    else if (status)
        unlink_waiter(l, &w);
    pthread_cond_destroy(&w.wake);
    return status;
}

emb_status emb_limits_enter(emb_limits *l, uint64_t deadline_ns, const volatile int *cancel,
                            bool (*is_closing)(void), emb_error *err)
{
    emb_status status = EMB_OK;
    pthread_mutex_lock(&l->lock);
    if (l->until_ns >= deadline_ns)
        status = emb_fail(err, EMB_E_BUSY, "rate limit",
                          "the provider's limit lasts longer than the call's deadline");
    else if (l->used < l->slots && !l->first)
        l->used++;
    else
        status = wait_in_line(l, deadline_ns, cancel, is_closing, err);
    l->calls += status == EMB_OK;
    pthread_mutex_unlock(&l->lock);
    return status;
}

void emb_limits_leave(emb_limits *l)
{
    pthread_mutex_lock(&l->lock);
    l->calls--;
    give_back(l);
    pthread_mutex_unlock(&l->lock);
}

bool emb_limits_more(emb_limits *l)
{
    pthread_mutex_lock(&l->lock);
    bool more = l->used < l->slots && !l->first;
    l->used += more;
    pthread_mutex_unlock(&l->lock);
    return more;
}

void emb_limits_less(emb_limits *l)
{
    pthread_mutex_lock(&l->lock);
    give_back(l);
    pthread_mutex_unlock(&l->lock);
}

bool emb_limits_crowded(emb_limits *l)
{
    pthread_mutex_lock(&l->lock);
    bool crowded = l->first != NULL;
    pthread_mutex_unlock(&l->lock);
    return crowded;
}

/* ---- rates ---- */

static void refill(emb_limits_bucket *b, uint64_t now_ns)
{
    if (now_ns <= b->updated_ns)
        return;
    b->level += (double)(now_ns - b->updated_ns) * b->per_ns;
    b->level = b->level > b->burst ? b->burst : b->level;
    b->updated_ns = now_ns;
}

/* When `amount` may be taken. What is more than the bucket holds waits until it is full. */
static uint64_t ready_at(emb_limits_bucket *b, double amount, uint64_t now_ns)
{
    if (b->per_ns == 0)
        return now_ns;
    refill(b, now_ns);
    double missing = (amount < b->burst ? amount : b->burst) - b->level;
    return missing > 1e-6 ? now_ns + (uint64_t)(missing / b->per_ns) + 1 : now_ns;
}

bool emb_limits_pace(emb_limits *l, uint64_t tokens, uint64_t now_ns, uint64_t deadline_ns,
                     uint64_t *start_ns)
{
    pthread_mutex_lock(&l->lock);
    uint64_t by_requests = ready_at(&l->requests, 1, now_ns),
             by_tokens = ready_at(&l->tokens, (double)tokens, now_ns);
    uint64_t start = by_requests > by_tokens ? by_requests : by_tokens;
    *start_ns = start > l->until_ns ? start : l->until_ns;
    bool in_time = *start_ns < deadline_ns;
    if (in_time) {
        l->requests.level -= 1;
        l->tokens.level -= (double)tokens;
    }
    pthread_mutex_unlock(&l->lock);
    return in_time;
}

static void put_back(emb_limits_bucket *b, double amount)
{
    b->level = b->level + amount > b->burst ? b->burst : b->level + amount;
}

void emb_limits_unpace(emb_limits *l, uint64_t tokens)
{
    pthread_mutex_lock(&l->lock);
    put_back(&l->requests, 1);
    put_back(&l->tokens, (double)tokens);
    pthread_mutex_unlock(&l->lock);
}

void emb_limits_settle(emb_limits *l, uint64_t promised_tokens, uint64_t used_tokens)
{
    if (l->tokens.per_ns == 0 || promised_tokens == used_tokens)
        return;
    pthread_mutex_lock(&l->lock);
    put_back(&l->tokens, (double)promised_tokens - (double)used_tokens);
    pthread_mutex_unlock(&l->lock);
}

void emb_limits_hold(emb_limits *l, uint64_t until_ns)
{
    pthread_mutex_lock(&l->lock);
    if (until_ns > l->until_ns)
        l->until_ns = until_ns;
    pthread_mutex_unlock(&l->lock);
}

uint64_t emb_limits_held_until(emb_limits *l, uint64_t now_ns)
{
    pthread_mutex_lock(&l->lock);
    uint64_t until = l->until_ns > now_ns ? l->until_ns : 0;
    pthread_mutex_unlock(&l->lock);
    return until;
}
