/*
 * What breakers tell the store, and what they hear from it.
 *
 * An exchange first writes what changed here (openings and closings, each with the version it follows), then
 * gives back probes, then reads all records. A record whose version is not the one known here was written by
 * another process and is adopted, unless there is something newer of our own to write. A closing is written
 * only over the version it ended: if another process opened the breaker again meanwhile, that stands.
 *
 * A breaker that is open here and has no record was forgotten by the store, which was emptied: it is written
 * again. Records of names that nobody has asked for yet are kept; so a process that has just started, and
 * learns its providers later, finds its breakers open as they were.
 *
 * The thread exchanges about once a second and at once when something changes. Each command has command_ms,
 * and the first that fails ends the exchange; failures are counted, logged once, and the next exchange is
 * tried all the same, for ever.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "router/breaker_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COPIES_MOST = 1000 };
#define SECOND UINT64_C(1000000000)
#define EVERY_NS SECOND
#define AT_ONCE_NS (SECOND / 100) /* changes that come together go together */
#define MS UINT64_C(1000000)

/* ---- whether the store answers ---- */

void emb_breakers_note(emb_breakers *all, emb_status status, const emb_error *why)
{
    bool up = status == EMB_OK;
    if (!up)
        atomic_fetch_add(&all->failures, 1);
    if (atomic_exchange(&all->up, up) == up)
        return;
    emb_series_set(all->series_up, up);
    if (up)
        emb_log(EMB_LOG_INFO, "breakers: the store answers again");
    else
        emb_log(EMB_LOG_WARN, "breakers: the store does not answer; each process decides for itself",
                EMB_LOG_TEXT("error", why->message));
}

/* ---- coming in ---- */

static void adopt_open(emb_breaker *b, const emb_breaker_record *r, uint64_t now, emb_breaker_news *news)
{
    emb_breaker_machine *m = &b->machine;
    uint64_t left = r->left_ms > 0 ? (uint64_t)r->left_ms : 0,
             longest = m->rules.recovery_longest_s * UINT64_C(1000);
    bool was_open = m->state == EMB_BREAKER_OPEN;
    if (m->state == EMB_BREAKER_HALF_OPEN && r->left_ms <= EMB_BREAKER_SLACK_MS)
        return; /* that is what is being tried */
    emb_breaker_machine_open(m, now, now + (left < longest ? left : longest) * MS, r->openings, r->reason);
    b->ask_ns = 0;
    if (!was_open)
        emb_breaker_note(b, news, m->reason);
}

void emb_breaker_adopt(emb_breaker *b, const emb_breaker_record *r, uint64_t now, emb_breaker_news *news)
{
    if (b->dirty || r->version == b->version)
        return;
    b->version = r->version;
    if (r->is_open) {
        adopt_open(b, r, now, news);
    } else if (b->machine.state != EMB_BREAKER_CLOSED) {
        emb_breaker_machine_close(&b->machine);
        b->ask_ns = 0;
        emb_breaker_note(b, news, "another process found that it works again");
    }
}

void emb_breaker_adopt_pending(emb_breaker *b, uint64_t now, emb_breaker_news *news)
{
    emb_breaker_copy *c = b->pending;
    emb_breaker_record r = {.version = c->version,
                            .is_open = c->is_open,
                            .left_ms = c->left_ms - (int64_t)((emb_now_ns() - c->read_ns) / MS),
                            .openings = c->openings,
                            .reason = c->reason};
    b->pending = NULL;
    emb_breaker_adopt(b, &r, now, news);
    free(c);
}

/* For those who come later. With the lists' lock. */
static void keep_copy(emb_breakers *all, const emb_breaker_record *r)
{
    size_t count = 0;
    emb_breaker_copy *c = all->copies;
    for (; c && strcmp(c->name, r->name) != 0; c = c->next)
        count++;
    if (!c) {
        if (count >= COPIES_MOST || strlen(r->name) >= EMB_BREAKER_NAME || !(c = calloc(1, sizeof *c)))
            return;
        snprintf(c->name, sizeof c->name, "%s", r->name);
        c->next = all->copies;
        all->copies = c;
    }
    c->version = r->version;
    c->read_ns = emb_now_ns();
    c->is_open = r->is_open;
    c->left_ms = r->left_ms;
    c->openings = r->openings;
    snprintf(c->reason, sizeof c->reason, "%s", r->reason);
}

typedef struct exchange {
    emb_breakers *all;
    uint64_t now_ns;
} exchange;

static void take_in(void *context, const emb_breaker_record *r)
{
    exchange *x = context;
    emb_breaker_news news = {0};
    pthread_mutex_lock(&x->all->lock);
    emb_breaker *b = emb_breaker_find(x->all, r->name);
    if (!b)
        keep_copy(x->all, r);
    pthread_mutex_unlock(&x->all->lock);
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->was_seen = true;
    free(b->pending); /* this is newer */
    b->pending = NULL;
    emb_breaker_adopt(b, r, emb_breaker_machine_now(&b->machine, x->now_ns), &news);
    pthread_mutex_unlock(&b->lock);
    emb_breaker_tell(b, &news);
}

/* ---- going out ---- */

static emb_status write_one(emb_breaker *b, uint64_t now_ns, uint64_t deadline_ns, emb_error *err)
{
    emb_breaker_store *store = b->all->store;
    emb_breaker_machine *m = &b->machine;
    char reason[EMB_BREAKER_REASON];
    uint64_t version = 0;
    pthread_mutex_lock(&b->lock);
    uint64_t edition = b->edition, now = emb_breaker_machine_now(m, now_ns);
    bool force = b->force;
    memcpy(reason, m->reason, sizeof reason);
    emb_breaker_record r = {.name = b->name,
                            .version = b->version,
                            .is_open = m->state != EMB_BREAKER_CLOSED,
                            .left_ms = m->retry_ns > now ? (int64_t)((m->retry_ns - now) / MS) : 0,
                            .openings = m->openings,
                            .reason = reason};
    pthread_mutex_unlock(&b->lock);
    emb_status st = store->ops->write(store, &r, force, &version, deadline_ns, err);
    if (st != EMB_OK)
        return st;
    pthread_mutex_lock(&b->lock);
    if (version)
        b->version = version;
    if (b->edition == edition)
        b->dirty = b->force = false;
    pthread_mutex_unlock(&b->lock);
    return EMB_OK;
}

static emb_status release_one(emb_breaker *b, uint64_t deadline_ns, emb_error *err)
{
    emb_breakers *all = b->all;
    pthread_mutex_lock(&b->lock);
    b->release = false;
    bool probing = b->machine.probing; /* again, by another call of ours */
    pthread_mutex_unlock(&b->lock);
    if (probing)
        return EMB_OK;
    emb_status st = all->store->ops->release(all->store, b->name, all->prober, deadline_ns, err);
    if (st != EMB_OK) {
        pthread_mutex_lock(&b->lock);
        b->release = true;
        pthread_mutex_unlock(&b->lock);
    }
    return st;
}

static emb_status send_one(emb_breaker *b, uint64_t now_ns, emb_error *err)
{
    uint64_t command = b->all->command_ms * MS;
    pthread_mutex_lock(&b->lock);
    bool dirty = b->dirty, give_back = b->release;
    b->was_seen = false;
    pthread_mutex_unlock(&b->lock);
    emb_status st = dirty ? write_one(b, now_ns, emb_now_ns() + command, err) : EMB_OK;
    return st == EMB_OK && give_back ? release_one(b, emb_now_ns() + command, err) : st;
}

/* The store was emptied: it is told again. */
static void send_again(emb_breaker *b)
{
    pthread_mutex_lock(&b->lock);
    if (!b->was_seen && b->machine.state != EMB_BREAKER_CLOSED) {
        b->dirty = true;
        b->edition++;
    }
    pthread_mutex_unlock(&b->lock);
}

static emb_status exchange_all(emb_breakers *all, uint64_t now_ns, emb_error *err)
{
    exchange x = {all, now_ns};
    emb_breaker *first = atomic_load_explicit(&all->first, memory_order_acquire);
    for (emb_breaker *b = first; b; b = b->next) {
        emb_status st = send_one(b, now_ns, err);
        if (st != EMB_OK)
            return st;
    }
    emb_status st = all->store->ops->read(all->store, take_in, &x, emb_now_ns() + all->command_ms * MS, err);
    for (emb_breaker *b = first; st == EMB_OK && b; b = b->next)
        send_again(b);
    return st;
}

emb_status emb_breakers_sync(emb_breakers *all, uint64_t now_ns, emb_error *err)
{
    emb_error why = {0};
    if (!all->store)
        return EMB_OK;
    pthread_mutex_lock(&all->syncing);
    emb_status st = exchange_all(all, now_ns, &why);
    pthread_mutex_unlock(&all->syncing);
    emb_breakers_note(all, st, &why);
    if (st != EMB_OK && err)
        *err = why;
    return st;
}

/* A store that is away is no failure; one that is something else is. */
emb_status emb_breakers_meet(emb_breakers *all, uint64_t deadline_ns, emb_error *err)
{
    exchange x = {all, 0};
    emb_error why = {0};
    if (!all->store)
        return EMB_OK;
    emb_status st = all->store->ops->read(all->store, take_in, &x, deadline_ns, &why);
    if (st == EMB_E_CORRUPT || st == EMB_E_UNSUPPORTED || st == EMB_E_INVALID || st == EMB_E_NOMEM) {
        if (err)
            *err = why;
        return st;
    }
    emb_breakers_note(all, st, &why);
    return EMB_OK;
}

/* ---- the thread ---- */

void emb_breakers_wake(emb_breakers *all)
{
    if (!all->has_thread)
        return;
    pthread_mutex_lock(&all->lock);
    all->wanted = true;
    pthread_cond_signal(&all->wake);
    pthread_mutex_unlock(&all->lock);
}

/* false: it is over. */
static bool sleep_until(emb_breakers *all, uint64_t at_ns)
{
    struct timespec t = {(time_t)(at_ns / SECOND), (long)(at_ns % SECOND)};
    pthread_mutex_lock(&all->lock);
    while (!all->closing && !all->wanted)
        if (pthread_cond_timedwait(&all->wake, &all->lock, &t) != 0)
            break;
    bool at_once = all->wanted && !all->closing;
    all->wanted = false;
    bool closing = all->closing;
    pthread_mutex_unlock(&all->lock);
    if (at_once)
        nanosleep(&(struct timespec){0, (long)AT_ONCE_NS}, NULL);
    return !closing;
}

static void *run(void *context)
{
    emb_breakers *all = context;
    emb_thread_background("embedd-breaker");
    while (sleep_until(all, emb_now_ns() + EVERY_NS))
        (void)!emb_breakers_sync(all, emb_now_ns(), NULL);
    if (emb_breakers_store_is_up(all)) /* what changed last */
        (void)!emb_breakers_sync(all, emb_now_ns(), NULL);
    return NULL;
}

emb_status emb_breakers_start(emb_breakers *all, emb_error *err)
{
    all->has_thread = true;
    if (pthread_create(&all->thread, NULL, run, all) == 0)
        return EMB_OK;
    all->has_thread = false;
    return emb_fail(err, EMB_E_NOMEM, "breakers", "no thread could be started for the breakers");
}

void emb_breakers_stop(emb_breakers *all)
{
    if (!all->has_thread)
        return;
    pthread_mutex_lock(&all->lock);
    all->closing = true;
    pthread_cond_signal(&all->wake);
    pthread_mutex_unlock(&all->lock);
    pthread_join(all->thread, NULL);
}
