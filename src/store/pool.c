/*
 * A bounded stack of idle connections under one lock.
 *
 * Connecting happens on short-lived threads, at most one for each waiting caller and within the bound: a
 * command's deadline is a few milliseconds, while resolving a name may take seconds and cannot be
 * interrupted, and a TLS handshake with a busy server outlasts a deadline too. A caller whose time is up
 * leaves; the attempt goes on, and whoever comes next finds its connection. Rejected: connecting within the
 * caller's time, which never succeeds on a slow link, and one connecting thread for ever, which one stuck
 * name would block.
 *
 * When an attempt fails, all who wait are told, unless connections are in use that they can wait for (a
 * server at its connection limit refuses new ones while the old ones work); then new attempts pause for a
 * moment.
 *
 * Threads are joined when the next one starts or the pool is closed, not left to themselves: libraries keep
 * things for each thread and tidy up when it ends, which must not meet the end of the process.
 *
 * Invariants (under the lock): open counts idle connections and those in use, open + dialing <= maximum; the
 * pool is freed by emb_pool_close, or by the last dialing thread if that is stuck for longer than close wants
 * to wait.
 */
#include "store/pool.h"

#include "base/clock.h"
#include "base/duty.h"
#include "base/error.h"
#include "store/wait.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAUSE_MS = 200,  /* between attempts that fail while other connections work */
    CLOSE_MS = 1000, /* how long close waits for dialing threads, which give up within 20 ms if they can */
};

typedef struct idle_link {
    void *link;
    uint64_t since_ns;
} idle_link;

struct emb_pool {
    const emb_pool_kind *kind;
    void *context;
    emb_pool_options options;
    char where[128];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_bool stop;
    bool abandoned;
    unsigned open, dialing, waiting, idle_count, ended_count;
    uint64_t failures, pause_until_ns;
    emb_error last;
    idle_link idle[EMB_POOL_MAXIMUM];
    pthread_t ended[EMB_POOL_MAXIMUM]; /* dialing threads that need nothing any more, to be joined */
};

static void free_pool(emb_pool *p)
{
    p->kind->free_context(p->context);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

emb_status emb_pool_open(const emb_pool_kind *kind, void *context, const emb_pool_options *options,
                         emb_pool **out, emb_error *err)
{
    if (options->maximum < 1 || options->maximum > EMB_POOL_MAXIMUM)
        return emb_fail(err, EMB_E_INVALID, "connections", "a store may have 1 to %d connections, not %u",
                        EMB_POOL_MAXIMUM, options->maximum);
    emb_pool *p = calloc(1, sizeof *p);
    pthread_condattr_t attributes;
    if (!p)
        return emb_fail_nomem(err, "a pool of connections", sizeof *p);
    p->kind = kind;
    p->context = context;
    p->options = *options;
    snprintf(p->where, sizeof p->where, "%s", options->where ? options->where : "the store");
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = p;
    return EMB_OK;
}

/* With the lock. */
static void hang_up(emb_pool *p, void *link)
{
    p->kind->hang_up(link);
    p->open--;
}

static void hang_up_idle(emb_pool *p, uint64_t unused_since_ns)
{
    unsigned keep = 0;
    for (unsigned i = 0; i < p->idle_count; i++)
        if (p->idle[i].since_ns <= unused_since_ns)
            hang_up(p, p->idle[i].link);
        else
            p->idle[keep++] = p->idle[i];
    p->idle_count = keep;
}

static void tidy(emb_pool *p, uint64_t now)
{
    uint64_t idle_ns = (uint64_t)p->options.idle_ms * 1000000u;
    if (idle_ns && now > idle_ns)
        hang_up_idle(p, now - idle_ns);
}

static void keep(emb_pool *p, void *link)
{
    p->idle[p->idle_count++] = (idle_link){link, emb_now_ns()};
}

/* ---- dialing ---- */

/* The thread. What it does last under the lock lets others join it. */
static void *dial(void *argument)
{
    emb_pool *p = argument;
    void *link = NULL;
    emb_error err = {0};
    emb_status st = p->kind->dial(p->context, emb_after_ms(p->options.connect_ms), &p->stop, &link, &err);
    pthread_mutex_lock(&p->lock);
    p->dialing--;
    if (st != EMB_OK) {
        p->failures++;
        p->last = err;
        p->last.code = st;
        p->pause_until_ns = emb_after_ms(PAUSE_MS);
    } else {
        p->open++;
        if (atomic_load(&p->stop))
            hang_up(p, link);
        else
            keep(p, link);
    }
    bool last = p->abandoned && p->dialing == 0;
    if (p->abandoned)
        pthread_detach(pthread_self());
    else
        p->ended[p->ended_count++] = pthread_self();
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (last)
        free_pool(p);
    return NULL;
}

/* With the lock: they have nothing left to do but to end. */
static void join_ended(emb_pool *p)
{
    while (p->ended_count)
        pthread_join(p->ended[--p->ended_count], NULL);
}

/* With the lock. The thread takes no signals: those are for the program's own threads. */
static bool start_dialing(emb_pool *p)
{
    pthread_t thread;
    sigset_t all, before;
    join_ended(p); /* so that there are never more than may dial at once */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    p->dialing++;
    bool started = pthread_create(&thread, NULL, dial, p) == 0;
    if (!started)
        p->dialing--;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

/* ---- acquiring ---- */

/* With the lock: the connection used last, if the server has not closed it meanwhile. */
static void *take_idle(emb_pool *p)
{
    while (p->idle_count) {
        void *link = p->idle[--p->idle_count].link;
        if (p->kind->alive(link))
            return link;
        hang_up(p, link);
    }
    return NULL;
}

static emb_status too_late(emb_pool *p, emb_error *err)
{
    if (p->open)
        return emb_fail(err, EMB_E_DEADLINE, p->where,
                        "%s: all %u connections were in use until the deadline had passed", p->where,
                        p->open);
    if (p->failures && p->last.code != EMB_OK)
        return emb_fail(err, EMB_E_DEADLINE, p->where,
                        "%s: no connection within the deadline; the last attempt failed: %.300s", p->where,
                        p->last.message);
    return emb_fail(err, EMB_E_DEADLINE, p->where, "%s: no connection within the deadline", p->where);
}

static bool may_dial(const emb_pool *p)
{
    return p->open + p->dialing < p->options.maximum && p->dialing <= p->waiting &&
           (p->open == 0 || emb_now_ns() >= p->pause_until_ns);
}

/* With the lock. */
static emb_status wait_for_link(emb_pool *p, uint64_t deadline_ns, void **out, emb_error *err)
{
    uint64_t seen = p->failures;
    struct timespec until = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
    for (;;) {
        if ((*out = take_idle(p)))
            return EMB_OK;
        if (p->failures != seen && p->open == 0) {
            if (err)
                *err = p->last;
            return p->last.code;
        }
        if (emb_now_ns() >= deadline_ns)
            return too_late(p, err);
        if (may_dial(p) && !start_dialing(p) && p->dialing == 0 && p->open == 0)
            return emb_fail(err, EMB_E_NOMEM, p->where, "%s: no thread could be started to connect",
                            p->where);
        p->waiting++;
        emb_duty_pass_on();
        pthread_cond_timedwait(&p->changed, &p->lock, &until);
        p->waiting--;
    }
}

emb_status emb_pool_acquire(emb_pool *p, uint64_t deadline_ns, void **out, bool *reused, emb_error *err)
{
    emb_status st = EMB_OK;
    if (emb_now_ns() >= deadline_ns)
        return emb_fail(err, EMB_E_DEADLINE, p->where, "%s: the deadline had passed before it was asked",
                        p->where);
    pthread_mutex_lock(&p->lock);
    *out = take_idle(p);
    if (reused)
        *reused = *out != NULL;
    if (!*out)
        st = wait_for_link(p, deadline_ns, out, err);
    pthread_mutex_unlock(&p->lock);
    return st;
}

void emb_pool_release(emb_pool *p, void *link, bool broken)
{
    pthread_mutex_lock(&p->lock);
    if (broken)
        hang_up(p, link);
    else
        keep(p, link);
    tidy(p, emb_now_ns());
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

void emb_pool_renew(emb_pool *p)
{
    pthread_mutex_lock(&p->lock);
    hang_up_idle(p, UINT64_MAX);
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

void emb_pool_tidy(emb_pool *p)
{
    pthread_mutex_lock(&p->lock);
    tidy(p, emb_now_ns());
    pthread_mutex_unlock(&p->lock);
}

void emb_pool_close(emb_pool *p)
{
    if (!p)
        return;
    uint64_t deadline_ns = emb_after_ms(CLOSE_MS);
    struct timespec until = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
    atomic_store(&p->stop, true);
    pthread_mutex_lock(&p->lock);
    while (p->dialing && emb_now_ns() < deadline_ns)
        pthread_cond_timedwait(&p->changed, &p->lock, &until);
    hang_up_idle(p, UINT64_MAX);
    join_ended(p);
    bool stuck = p->abandoned = p->dialing > 0;
    pthread_mutex_unlock(&p->lock);
    if (!stuck)
        free_pool(p);
}
