/*
 * A store that is away and one that is busy look alike to a single step: both let its time run out. They
 * are told apart by what happens to others. Where nobody was answered during the whole step the store is
 * down, and callers are refused at once until the budget's thread has reached it again: they have other
 * providers to go to, and should not each wait to learn the same. Where somebody was, the step is tried
 * again, as long as its caller has time: a refusal for want of a moment would be one that nobody has a
 * reason for. Failures that come at once (refused, reset, read-only) count; three in a row mean down.
 *
 * Few callers are in the store at once. All steps of a budget lock the same totals, so that a crowd in
 * there gains nothing, and each of its steps would last as long as all of them: with hundreds of threads
 * that is longer than any limit that still tells a dead store from a live one. The others wait here, where
 * waiting says nothing of the store, and leave as soon as it is down.
 *
 * Rejected: limits of time alone (a busy machine is refused what its budget has, or a dead store holds up
 * every call); counting steps in a row (a crowd fails together); letting the connections' pool queue
 * callers, whose time would run meanwhile.
 */
#include "router/budget_contact.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <stdio.h>
#include <time.h>

enum { FAILURES_DOWN = 3 };

void emb_budget_contact_init(emb_budget_contact *c, emb_series *series_up)
{
    pthread_condattr_t monotonic;
    *c = (emb_budget_contact){.series_up = series_up, .turns = EMB_BUDGET_TURNS};
    atomic_init(&c->up, true);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void emb_budget_contact_fini(emb_budget_contact *c)
{
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

bool emb_budget_contact_is_up(const emb_budget_contact *c)
{
    return atomic_load_explicit(&c->up, memory_order_relaxed);
}

emb_status emb_budget_contact_refuse(emb_error *err, const char *why)
{
    char text[400];
    snprintf(text, sizeof text, "%.*s", (int)sizeof text - 1, why);
    return emb_fail(err, EMB_E_UNAVAILABLE, "budget",
                    "the budget's store cannot be asked, and nothing is spent unseen: %s", text);
}

/* ---- turns ---- */

/* (locked) false: the deadline has passed. */
static bool wait_for_change(emb_budget_contact *c, uint64_t deadline_ns)
{
    if (!deadline_ns)
        return pthread_cond_wait(&c->changed, &c->lock) == 0;
    struct timespec t = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
    return pthread_cond_timedwait(&c->changed, &c->lock, &t) == 0;
}

emb_status emb_budget_contact_enter(emb_budget_contact *c, uint64_t deadline_ns, emb_error *err)
{
    bool in_time = true;
    pthread_mutex_lock(&c->lock);
    while (in_time && c->turns == 0 && emb_budget_contact_is_up(c))
        in_time = wait_for_change(c, deadline_ns);
    emb_status st = EMB_OK;
    if (!emb_budget_contact_is_up(c))
        st = emb_budget_contact_refuse(err, c->last.message);
    else if (c->turns == 0)
        st = emb_budget_contact_refuse(err, "the request's deadline passed while others were in the store");
    else
        c->turns--;
    pthread_mutex_unlock(&c->lock);
    return st;
}

void emb_budget_contact_leave(emb_budget_contact *c)
{
    pthread_mutex_lock(&c->lock);
    c->turns++;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* ---- whether it answers ---- */

void emb_budget_contact_answered(emb_budget_contact *c)
{
    atomic_store_explicit(&c->answered_ns, emb_now_ns(), memory_order_relaxed);
    atomic_store_explicit(&c->failures, 0, memory_order_relaxed);
    if (emb_budget_contact_is_up(c) || atomic_exchange(&c->up, true))
        return;
    emb_series_set(c->series_up, 1);
    emb_log(EMB_LOG_INFO, "budget: the store answers again");
}

void emb_budget_contact_lost(emb_budget_contact *c, const emb_error *why)
{
    pthread_mutex_lock(&c->lock);
    c->last = *why;
    bool was_up = atomic_exchange(&c->up, false);
    pthread_cond_broadcast(&c->changed); /* nobody waits for a turn there */
    pthread_mutex_unlock(&c->lock);
    if (!was_up)
        return;
    emb_series_set(c->series_up, 0);
    emb_log(EMB_LOG_WARN, "budget: the store does not answer, so that nothing can be spent",
            EMB_LOG_TEXT("error", why->message));
}

bool emb_budget_contact_failed(emb_budget_contact *c, emb_status status, uint64_t since_ns,
                               const emb_error *why)
{
    bool is_late = status == EMB_E_DEADLINE;
    if (is_late && atomic_load_explicit(&c->answered_ns, memory_order_relaxed) >= since_ns)
        return true;
    if (is_late || atomic_fetch_add(&c->failures, 1) + 1 >= FAILURES_DOWN)
        emb_budget_contact_lost(c, why);
    return false;
}
