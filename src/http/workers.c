/*
 * One thread for each exchange in work, made when none is idle, and kept for a while afterwards. There is no
 * queue: what is over the bound is refused by the caller at once, so that a client learns of overload in
 * microseconds, and what is accepted starts at once.
 *
 * A place is free as soon as the answer is given, not when the function returns: otherwise a client that
 * sends its next request right after an answer would find the place of its own last one still taken. So there
 * can be a few more threads than places, those that are about to return.
 *
 * The idle thread that slept least is taken, its stack and tables being warm; those at the bottom leave after
 * IDLE_SECONDS. A thread that leaves cannot join itself: it is joined by whoever comes next to spawn or
 * close.
 */
#include "http/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

enum { IDLE_SECONDS = 30, STACK_BYTES = 2 << 20 };

typedef struct worker {
    struct worker *next; /* in idle or left */
    emb_http_workers *pool;
    pthread_t thread;
    pthread_cond_t wake;
    emb_exchange *task;
} worker;

struct emb_http_workers {
    pthread_mutex_t lock;
    pthread_cond_t empty; /* threads has become 0 */
    worker *idle, *left;
    unsigned threads, maximum;
    bool closing;
    atomic_uint places; /* taken */
};

emb_status emb_http_workers_open(unsigned maximum, emb_http_workers **out, emb_error *err)
{
    emb_http_workers *pool = calloc(1, sizeof *pool);
    if (!pool)
        return emb_fail_nomem(err, "the pool of workers", sizeof *pool);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->empty, NULL);
    pool->maximum = maximum;
    *out = pool;
    return EMB_OK;
}

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

static void run_task(emb_exchange *x)
{
    x->work(x);
    if (x->stream.begun)
        emb_exchange_stream_end(x); /* no more than a look if it has ended */
    else if (!atomic_load(&x->answered))
        emb_http_exchange_fail(x);
    emb_http_exchange_drop(x);
}

/* With the lock held: a task, or NULL when it was long enough idle or the pool closes. */
static emb_exchange *wait_for_task(worker *w)
{
    emb_http_workers *pool = w->pool;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    w->next = pool->idle;
    pool->idle = w;
    while (!w->task && !pool->closing)
        if (pthread_cond_timedwait(&w->wake, &pool->lock, &until) == ETIMEDOUT)
            break;
    if (!w->task)
        for (worker **link = &pool->idle; *link; link = &(*link)->next)
            if (*link == w) {
                *link = w->next;
                break;
            }
    return w->task;
}

static void *worker_main(void *argument)
{
    worker *w = argument;
    emb_http_workers *pool = w->pool;
    pthread_setname_np(pthread_self(), "embedd-work");
    for (emb_exchange *task = w->task; task;) {
        run_task(task);
        pthread_mutex_lock(&pool->lock);
        w->task = NULL;
        task = wait_for_task(w);
        if (!task) {
            w->next = pool->left;
            pool->left = w;
            if (--pool->threads == 0)
                pthread_cond_broadcast(&pool->empty);
        }
        pthread_mutex_unlock(&pool->lock);
    }
    return NULL;
}

/* With the lock held. */
static bool spawn(emb_http_workers *pool, emb_exchange *x)
{
    reap(pool);
    worker *w = calloc(1, sizeof *w);
    if (!w)
        return false;
    pthread_condattr_t clock;
    pthread_attr_t attributes;
    sigset_t all, old;
    w->pool = pool;
    w->task = x;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &clock);
    pthread_condattr_destroy(&clock);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
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

static bool take_place(emb_http_workers *pool)
{
    unsigned taken = atomic_load(&pool->places);
    do {
        if (taken >= pool->maximum)
            return false;
    } while (!atomic_compare_exchange_weak(&pool->places, &taken, taken + 1));
    return true;
}

bool emb_http_workers_take(emb_http_workers *pool, emb_exchange *x, void (*work)(emb_exchange *x))
{
    if (!take_place(pool))
        return false;
    x->work = work;
    pthread_mutex_lock(&pool->lock);
    worker *w = pool->idle;
    bool taken = !pool->closing;
    if (taken && w) {
        pool->idle = w->next;
        w->task = x;
        pthread_cond_signal(&w->wake);
    } else if (taken) {
        taken = spawn(pool, x);
    }
    pthread_mutex_unlock(&pool->lock);
    if (!taken)
        emb_http_workers_free_place(pool);
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

void emb_http_workers_close(emb_http_workers *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    for (worker *w = pool->idle; w; w = w->next)
        pthread_cond_signal(&w->wake);
    while (pool->threads)
        pthread_cond_wait(&pool->empty, &pool->lock);
    reap(pool);
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->empty);
    free(pool);
}
