/*
 * Breakers as callers see them. The machine (breaker_machine.c) decides under a lock of the breaker's own,
 * held for some hundred instructions; what goes to the store and comes from it is breaker_sync.c's.
 *
 * One call in a while asks the store itself: the one that finds a probe due. It does so without the lock,
 * within command_ms, while all others pass over the provider as before. If the store does not answer, it
 * probes on its own account, and until the thread has reached the store again nobody else asks; so a dead
 * store costs one call a breaker command_ms once.
 *
 * `changed` is called without a lock on the thread that made the change; two changes in quick succession may
 * be told in either order.
 */
#include "router/breaker.h"

#include "base/clock.h"
#include "base/error.h"
#include "crypto/crypto.h"
#include "router/breaker_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMMAND_MS = 50, PROBE_S = 30 };
#define SECOND UINT64_C(1000000000)
#define OPEN_NS SECOND
#define ASK_AGAIN_NS SECOND

const char *emb_breaker_state_name(emb_breaker_state state)
{
    static const char *const NAMES[] = {"closed", "open", "half_open"};
    return (unsigned)state < 3 ? NAMES[state] : "unknown";
}

/* ---- news ---- */

void emb_breaker_note(emb_breaker *b, emb_breaker_news *news, const char *reason)
{
    static const double VALUES[] = {
        [EMB_BREAKER_CLOSED] = 0, [EMB_BREAKER_HALF_OPEN] = 1, [EMB_BREAKER_OPEN] = 2};
    news->any = true;
    news->state = b->machine.state;
    snprintf(news->reason, sizeof news->reason, "%s", reason);
    emb_series_set(b->series_state, VALUES[news->state]);
    emb_series_add(b->series_changes[news->state], 1);
}

void emb_breaker_tell(emb_breaker *b, const emb_breaker_news *news)
{
    if (news->any && b->all->changed)
        b->all->changed(b->all->context, b->name, news->state, news->reason);
}

static uint64_t enter(emb_breaker *b, uint64_t now_ns, emb_breaker_news *news)
{
    pthread_mutex_lock(&b->lock);
    now_ns = emb_breaker_machine_now(&b->machine, now_ns);
    if (b->pending)
        emb_breaker_adopt_pending(b, now_ns, news);
    return now_ns;
}

static void leave(emb_breaker *b, const emb_breaker_news *news)
{
    pthread_mutex_unlock(&b->lock);
    emb_breaker_tell(b, news);
}

/* ---- calls ---- */

static bool may_probe(const emb_breaker *b, uint64_t now)
{
    return !b->asking && now >= b->ask_ns && emb_breaker_machine_is_due(&b->machine, now);
}

bool emb_breaker_is_available(emb_breaker *b, uint64_t now_ns)
{
    emb_breaker_news news = {0};
    now_ns = enter(b, now_ns, &news);
    bool available = b->machine.state == EMB_BREAKER_CLOSED || may_probe(b, now_ns);
    leave(b, &news);
    return available;
}

static void begin_probe(emb_breaker *b, uint64_t now, emb_breaker_permit *permit, emb_breaker_news *news)
{
    bool was_open = b->machine.state == EMB_BREAKER_OPEN;
    *permit = emb_breaker_machine_probe(&b->machine, now, b->all->probe_s * SECOND);
    if (was_open)
        emb_breaker_note(b, news, "a call tries whether it works again");
}

/* Asks the store without the lock, which is held before and after. *granted also if the store does not
 * answer. */
static void ask(emb_breaker *b, bool *granted)
{
    emb_breakers *all = b->all;
    emb_error why = {0};
    b->asking = true;
    pthread_mutex_unlock(&b->lock);
    *granted = false;
    emb_status st = all->store->ops->probe(all->store, b->name, all->prober, all->probe_s, granted,
                                           emb_now_ns() + all->command_ms * UINT64_C(1000000), &why);
    emb_breakers_note(all, st, &why);
    if (st != EMB_OK)
        *granted = true;
    pthread_mutex_lock(&b->lock);
    b->asking = false;
}

static bool try_probe(emb_breaker *b, uint64_t now, emb_breaker_permit *permit, emb_breaker_news *news)
{
    uint64_t generation = b->machine.generation;
    bool granted = true;
    if (b->all->store && emb_breakers_store_is_up(b->all))
        ask(b, &granted);
    if (b->machine.generation != generation) { /* changed meanwhile: not this call's business any more */
        b->release = b->release || granted;
        return false;
    }
    if (!granted) {
        b->ask_ns = now + ASK_AGAIN_NS;
        return false;
    }
    begin_probe(b, now, permit, news);
    return true;
}

bool emb_breaker_allow(emb_breaker *b, uint64_t now_ns, emb_breaker_permit *permit)
{
    emb_breaker_news news = {0};
    bool allowed = true, tried = false;
    now_ns = enter(b, now_ns, &news);
    *permit = (emb_breaker_permit){false, b->machine.generation};
    if (b->machine.state != EMB_BREAKER_CLOSED) {
        emb_breaker_news probing = {0};
        tried = may_probe(b, now_ns);
        allowed = tried && try_probe(b, now_ns, permit, &probing);
        if (probing.any) {
            leave(b, &news);
            emb_breaker_tell(b, &probing);
            return allowed;
        }
    }
    leave(b, &news);
    if (tried && !allowed)
        emb_breakers_wake(b->all);
    return allowed;
}

void emb_breaker_report(emb_breaker *b, emb_breaker_permit permit, emb_breaker_outcome outcome,
                        uint64_t duration_ns, const char *reason, uint64_t now_ns)
{
    emb_breaker_news news = {0};
    now_ns = enter(b, now_ns, &news);
    emb_breaker_change change =
        emb_breaker_machine_report(&b->machine, permit, outcome, duration_ns, reason, now_ns);
    if (change == EMB_BREAKER_OPENED || change == EMB_BREAKER_WAS_CLOSED) {
        b->dirty = true;
        b->edition++;
        b->ask_ns = 0;
        emb_breaker_note(b, &news, change == EMB_BREAKER_OPENED ? b->machine.reason : "the probe succeeded");
    } else if (change == EMB_BREAKER_GAVE_BACK) {
        b->release = true;
    }
    leave(b, &news);
    if (change != EMB_BREAKER_SAME)
        emb_breakers_wake(b->all);
}

void emb_breaker_reset(emb_breaker *b, uint64_t now_ns)
{
    emb_breaker_news news = {0};
    enter(b, now_ns, &news);
    bool was_closed = b->machine.state == EMB_BREAKER_CLOSED;
    emb_breaker_machine_close(&b->machine);
    b->dirty = b->force = true;
    b->edition++;
    b->ask_ns = 0;
    if (!was_closed)
        emb_breaker_note(b, &news, "closed by an operator");
    leave(b, &news);
    emb_breakers_wake(b->all);
}

void emb_breaker_view_get(emb_breaker *b, uint64_t now_ns, emb_breaker_view *out)
{
    emb_breaker_news news = {0};
    enter(b, now_ns, &news);
    const emb_breaker_machine *m = &b->machine;
    *out = (emb_breaker_view){.state = m->state,
                              .failures = m->failures,
                              .opened_ns = m->opened_ns,
                              .retry_ns = m->state == EMB_BREAKER_OPEN ? m->retry_ns : 0,
                              .openings = m->openings};
    memcpy(out->reason, m->reason, sizeof out->reason);
    leave(b, &news);
}

/* ---- making them ---- */

emb_breaker *emb_breaker_find(emb_breakers *all, const char *name)
{
    emb_breaker *b = atomic_load_explicit(&all->first, memory_order_acquire);
    while (b && strcmp(b->name, name) != 0)
        b = b->next;
    return b;
}

static void free_breaker(emb_breaker *b)
{
    emb_breaker_machine_fini(&b->machine);
    pthread_mutex_destroy(&b->lock);
    free(b->pending);
    free(b);
}

/* What the store said of this name before anybody asked for it; with the lists' lock. */
static emb_breaker_copy *take_copy(emb_breakers *all, const char *name)
{
    emb_breaker_copy **at = &all->copies;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    emb_breaker_copy *copy = *at;
    if (copy)
        *at = copy->next;
    return copy;
}

static emb_status make(emb_breakers *all, const char *name, const emb_breaker_rules *rules, emb_breaker **out,
                       emb_error *err)
{
    emb_breaker *b = calloc(1, sizeof *b);
    if (!b)
        return emb_fail_nomem(err, "a breaker", sizeof *b);
    pthread_mutex_init(&b->lock, NULL);
    b->all = all;
    snprintf(b->name, sizeof b->name, "%s", name);
    emb_status st = emb_breaker_machine_rules(&b->machine, rules, err);
    if (st != EMB_OK) {
        free_breaker(b);
        return st;
    }
    b->series_state = emb_metrics_series(all->metrics, EMB_METRIC_BREAKER_STATE, name);
    for (int i = 0; i < 3; i++)
        b->series_changes[i] = emb_metrics_series(all->metrics, EMB_METRIC_BREAKER_CHANGES, name,
                                                  emb_breaker_state_name((emb_breaker_state)i));
    b->pending = take_copy(all, name);
    b->next = atomic_load(&all->first);
    atomic_store_explicit(&all->first, b, memory_order_release);
    *out = b;
    return EMB_OK;
}

emb_status emb_breaker_get(emb_breakers *all, const char *name, const emb_breaker_rules *rules,
                           emb_breaker **out, emb_error *err)
{
    size_t length = name ? strlen(name) : 0;
    *out = NULL;
    if (length == 0 || length >= EMB_BREAKER_NAME)
        return emb_fail(err, EMB_E_INVALID, "name",
                        "the name of a breaker has %zu bytes, 1 to %d are possible", length,
                        EMB_BREAKER_NAME - 1);
    pthread_mutex_lock(&all->lock);
    emb_breaker *b = emb_breaker_find(all, name);
    emb_status st = b ? EMB_OK : make(all, name, rules, &b, err);
    pthread_mutex_unlock(&all->lock);
    if (st == EMB_OK) {
        pthread_mutex_lock(&b->lock);
        st = emb_breaker_machine_rules(&b->machine, rules, err);
        pthread_mutex_unlock(&b->lock);
    }
    if (st == EMB_OK)
        *out = b;
    return st;
}

static void release(emb_breakers *all)
{
    for (emb_breaker *b = atomic_load(&all->first), *next; b; b = next) {
        next = b->next;
        free_breaker(b);
    }
    for (emb_breaker_copy *c = all->copies, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    if (all->store)
        all->store->ops->close(all->store);
    pthread_cond_destroy(&all->wake);
    pthread_mutex_destroy(&all->syncing);
    pthread_mutex_destroy(&all->lock);
    free(all);
}

static emb_breakers *allocate(const emb_breakers_options *o)
{
    pthread_condattr_t a;
    emb_breakers *all = calloc(1, sizeof *all);
    if (!all)
        return NULL;
    all->command_ms = o->command_ms ? o->command_ms : COMMAND_MS;
    all->probe_s = o->probe_s ? o->probe_s : PROBE_S;
    all->changed = o->changed;
    all->context = o->context;
    all->metrics = o->metrics;
    all->series_up = emb_metrics_series(o->metrics, EMB_METRIC_SHARED_STATE_UP, "breakers");
    emb_series_set(all->series_up, 1);
    atomic_init(&all->up, true);
    pthread_mutex_init(&all->lock, NULL);
    pthread_mutex_init(&all->syncing, NULL);
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&all->wake, &a);
    pthread_condattr_destroy(&a);
    return all;
}

emb_status emb_breakers_open(const char *url, const emb_breakers_options *options, emb_breakers **out,
                             emb_error *err)
{
    *out = NULL;
    emb_breakers *all = allocate(options);
    if (!all)
        return emb_fail_nomem(err, "breakers", sizeof *all);
    emb_status st = EMB_OK;
    if (!emb_random_bytes(all->prober, sizeof all->prober))
        st = emb_fail(err, EMB_E_INTERNAL, NULL, "the system has no random bytes to give");
    if (st == EMB_OK)
        st = emb_breaker_store_open(url, &all->store, err);
    if (st == EMB_OK)
        st = emb_breakers_meet(all, emb_now_ns() + OPEN_NS, err);
    if (st == EMB_OK && all->store && !options->no_thread)
        st = emb_breakers_start(all, err);
    if (st != EMB_OK) {
        release(all);
        return st;
    }
    *out = all;
    return EMB_OK;
}

void emb_breakers_close(emb_breakers *all)
{
    if (!all)
        return;
    emb_breakers_stop(all);
    release(all);
}

bool emb_breakers_store_is_up(const emb_breakers *all)
{
    return atomic_load_explicit(&all->up, memory_order_relaxed);
}
