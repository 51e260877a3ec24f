/*
 * The threads: some turn a loop, some work on an exchange, some sleep.
 *
 * There is one thread for each exchange in work, made when none is asleep, and kept for a while afterwards. There is
 * no queue: what is over the bound is refused by the caller at once, so that a client learns of overload in
 * microseconds, and what is accepted starts at once.
 *
 * A place is free as soon as the answer is given, not when the function returns: otherwise a client that sends its
 * next request right after an answer would find the place of its own last one still taken. So there can be a few
 * more threads than places, those that are about to return.
 *
 * Leader and followers. To wake a thread for an exchange, and the loop again for its answer, is two changes of
 * threads, some 50 microseconds, half of what a call of a provider near by takes. So when a loop has nothing else
 * in work, its own thread leaves libevent and does the exchange itself (`here`); the loop stands still meanwhile.
 * Before it waits (base/duty.h) it gives the loop to the heir, a sleeper that was set aside when it began, and goes on
 * as a worker; if it needs not wait, nobody else is ever woken. With more in work each exchange gets a thread of
 * its own at once, so that what takes the processor runs side by side. Rejected: an event-driven provider call on the
 * loop's thread. All that it does on its way (cache, budget, single flight, stores) would have to be cut into
 * callbacks, for the same gain.
 *
 * The sleeper that slept least is taken, its stack and tables being warm; those at the bottom leave after
 * IDLE_SECONDS. A thread that leaves cannot join itself: it is joined by whoever comes next to spawn or close.
 */
#include "http/internal.h"

#include "base/duty.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { IDLE_SECONDS = 30, STACK_BYTES = 2 << 20 };

typedef struct emb_http_worker worker;
struct emb_http_worker {
    worker *next; /* in idle or left */
    emb_http_workers *pool;
    pthread_t thread;
    pthread_cond_t wake;
    /* what to do: */
    emb_exchange *task;
    emb_http_loop *loop;
    bool is_heir;
};

struct emb_http_workers {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* for those who close */
    worker *idle, *left;
    unsigned threads, working; /* working: on exchanges */
    unsigned maximum;
    bool closing;
    atomic_uint places; /* taken */
};

/* A thread that works on an exchange while it has the exchange's loop. */
typedef struct leader {
    emb_duty duty; /* first */
    worker *self, *heir;
    emb_exchange *x;
    bool answered, passed;
} leader;

static _Thread_local leader *leading;

emb_status emb_http_workers_open(unsigned maximum, emb_http_workers **out, emb_error *err)
{
    emb_http_workers *pool = calloc(1, sizeof *pool);
    if (!pool)
        return emb_fail_nomem(err, "the pool of workers", sizeof *pool);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    pool->maximum = maximum;
    *out = pool;
    return EMB_OK;
}

/* ---- sleeping ---- */

/* Joins those that have left. With the lock held; gives it back for the time of the joins. */
static void reap(emb_http_workers *pool)
{
    for (worker *w; (w = pool->left);) {
        pool->left = w->next;
        pthread_mutex_unlock(&pool->lock);
        pthread_join(w->thread, NULL);
        pthread_cond_destroy(&w->wake);
        free(w);
        pthread_mutex_lock(&pool->lock);
    }
}

static void push_idle(worker *w)
{
    w->next = w->pool->idle;
    w->pool->idle = w;
}

static void remove_idle(worker *w)
{
    for (worker **link = &w->pool->idle; *link; link = &(*link)->next)
        if (*link == w) {
            *link = w->next;
            break;
        }
}

/* With the lock held: whether there is something to do; false when it slept long enough or the pool closes. */
static bool sleep_until_needed(worker *w)
{
    emb_http_workers *pool = w->pool;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    push_idle(w);
    while (!w->task && !w->loop && (w->is_heir || !pool->closing))
        if (pthread_cond_timedwait(&w->wake, &pool->lock, &until) == ETIMEDOUT) {
            if (!w->is_heir)
                break;
            until.tv_sec += IDLE_SECONDS;
        }
    if (w->task || w->loop)
        return true;
    remove_idle(w);
    return false;
}

/* ---- working ---- */

static void run_task(emb_exchange *x)
{
    x->work(x);
    if (x->stream.begun)
        emb_exchange_stream_end(x); /* no more than a look if it has ended */
    else if (!atomic_load(&x->answered))
        emb_http_exchange_fail(x);
    emb_http_exchange_drop(x);
}

static void end_task(emb_http_workers *pool)
{
    if (--pool->working == 0 && pool->closing)
        pthread_cond_broadcast(&pool->changed);
}

static void pass_loop_on(emb_duty *duty)
{
    leader *l = (leader *)duty;
    emb_http_workers *pool = l->self->pool;
    worker *heir = l->heir;
    emb_exchange *x = l->x;
    leading = NULL;
    l->passed = true;
    if (l->answered) /* and its function goes on, and waits */
        emb_http_loop_post(x->loop, &x->mail);
    pthread_mutex_lock(&pool->lock);
    heir->is_heir = false;
    heir->loop = x->loop;
    pthread_cond_signal(&heir->wake);
    pthread_mutex_unlock(&pool->lock);
}

static void disinherit(worker *heir)
{
    heir->is_heir = false;
    push_idle(heir);
    if (heir->pool->closing)
        pthread_cond_signal(&heir->wake);
}

/* The exchange that was parked here; false: the loop has another thread now. */
static bool lead(worker *w, emb_http_loop *loop)
{
    emb_http_workers *pool = w->pool;
    emb_exchange *x = loop->here;
    leader l = {.duty = {pass_loop_on, loop->epoll_fd}, .self = w, .heir = loop->heir, .x = x};
    loop->here = NULL;
    loop->heir = NULL;
    leading = &l;
    emb_duty_set(&l.duty);
    run_task(x);
    emb_duty_set(NULL);
    leading = NULL;
    if (!l.passed && l.answered)
        x->mail.run(loop, &x->mail);
    pthread_mutex_lock(&pool->lock);
    end_task(pool);
    if (!l.passed)
        disinherit(l.heir);
    pthread_mutex_unlock(&pool->lock);
    return !l.passed;
}

bool emb_http_workers_keep(emb_exchange *x)
{
    if (!leading || leading->x != x)
        return false;
    leading->answered = true;
    return true;
}

/* Until it has ended or been passed on. */
static void turn(worker *w, emb_http_loop *loop)
{
    while (!loop->ended) {
        loop->turns = true;
        event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
        loop->turns = false;
        if (loop->here && !lead(w, loop))
            return;
    }
}

static void *worker_main(void *argument)
{
    worker *w = argument;
    emb_http_workers *pool = w->pool;
    pthread_setname_np(pthread_self(), "embedd-http");
    pthread_mutex_lock(&pool->lock);
    do {
        emb_exchange *task = w->task;
        emb_http_loop *loop = w->loop;
        w->task = NULL;
        w->loop = NULL;
        pthread_mutex_unlock(&pool->lock);
        if (loop)
            turn(w, loop);
        else
            run_task(task);
        pthread_mutex_lock(&pool->lock);
        if (task)
            end_task(pool);
    } while (sleep_until_needed(w));
    w->next = pool->left;
    pool->left = w;
    pool->threads--;
    if (pool->closing)
        pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* With the lock held: a thread that has this to do. */
static bool spawn(emb_http_workers *pool, emb_exchange *task, emb_http_loop *loop)
{
    reap(pool);
    worker *w = calloc(1, sizeof *w);
    if (!w)
        return false;
    pthread_condattr_t clock;
    pthread_attr_t attributes;
    sigset_t all, old;
    w->pool = pool;
    w->task = task;
    w->loop = loop;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &clock);
    pthread_condattr_destroy(&clock);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all,
                    &old); /* signals are the main thread's; SIGPIPE of OpenSSL is nobody's */
    bool made = pthread_create(&w->thread, &attributes, worker_main, w) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    if (!made) {
        pthread_cond_destroy(&w->wake);
        free(w);
        return false;
    }
    pool->threads++;
    return true;
}

emb_status emb_http_workers_turn(emb_http_workers *pool, emb_http_loop *loop, emb_error *err)
{
    pthread_mutex_lock(&pool->lock);
    loop->thread_runs = spawn(pool, NULL, loop);
    pthread_mutex_unlock(&pool->lock);
    return loop->thread_runs ? EMB_OK
                             : emb_fail(err, EMB_E_NOMEM, NULL, "the thread of a loop cannot be started");
}

/* ---- taking ---- */

static bool take_place(emb_http_workers *pool)
{
    unsigned taken = atomic_load(&pool->places);
    do {
        if (taken >= pool->maximum)
            return false;
    } while (!atomic_compare_exchange_weak(&pool->places, &taken, taken + 1));
    return true;
}

/* Whether the loop's thread may do it: it can leave libevent now, and holds up no other exchange. */
static bool may_lead(const emb_http_loop *loop)
{
    return loop->turns && !loop->here && !loop->ended && loop->epoll_fd >= 0 &&
           atomic_load_explicit(&loop->active, memory_order_relaxed) == 1;
}

bool emb_http_workers_take(emb_http_workers *pool, emb_exchange *x, void (*work)(emb_exchange *x), bool here)
{
    emb_http_loop *loop = x->loop;
    if (!take_place(pool))
        return false;
    x->work = work;
    here = here && may_lead(loop);
    pthread_mutex_lock(&pool->lock);
    worker *w = pool->idle;
    bool taken = !pool->closing;
    here = here && w;
    if (taken && w) {
        pool->idle = w->next;
        w->is_heir = here;
        w->task = here ? NULL : x;
    } else if (taken) {
        taken = spawn(pool, x, NULL);
    }
    pool->working += taken;
    pthread_mutex_unlock(&pool->lock);
    if (!taken) {
        emb_http_workers_free_place(pool);
    } else if (here) {
        loop->here = x;
        loop->heir = w;
        event_base_loopbreak(loop->base);
    } else if (w) {
        pthread_cond_signal(&w->wake); /* without the lock, which it would find taken */
    }
    return taken;
}

void emb_http_workers_free_place(emb_http_workers *pool)
{
    atomic_fetch_sub(&pool->places, 1);
}

size_t emb_http_workers_count(const emb_http_workers *pool)
{
    return atomic_load(&pool->places);
}

/* ---- the end ---- */

void emb_http_workers_finish(emb_http_workers *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    for (worker *w = pool->idle; w; w = w->next)
        pthread_cond_signal(&w->wake);
    while (pool->working)
        pthread_cond_wait(&pool->changed, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void emb_http_workers_close(emb_http_workers *pool)
{
    if (!pool)
        return;
    emb_http_workers_finish(pool);
    pthread_mutex_lock(&pool->lock);
    while (pool->threads)
        pthread_cond_wait(&pool->changed, &pool->lock);
    reap(pool);
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->changed);
    free(pool);
}
