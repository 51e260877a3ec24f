/*
 * The threads: some turn a loop, some work on an exchange, some sleep.
 *
 * There is one thread for each exchange in work, made when none is asleep, and kept for a while afterwards.
 * There is no queue: what is over the bound is refused by the caller at once, so that a client learns of
 * overload in microseconds, and what is accepted starts at once.
 *
 * A place is free as soon as the answer is given, not when the function returns: otherwise a client that
 * sends its next request right after an answer would find the place of its own last one still taken. So there
 * can be a few more threads than places, those that are about to return.
 *
 * Leader and followers. To wake a thread for an exchange, and the loop again for its answer, is two changes
 * of threads, some 50 microseconds, half of what a call of a provider near by takes. So when a loop has
 * nothing else in work, its own thread leaves libevent and does the exchange itself (`here`); the loop stands
 * still meanwhile. Before it waits (base/duty.h) it gives the loop to the heir, a sleeper that was set aside
 * when it began, and goes on as a worker; if it needs not wait, nobody else is ever woken. Code that waits
 * without saying so, or computes for long, is found by the guard, which looks every GUARD_MS while there are
 * leaders and passes the loop on for them: so no loop stands still for more than two of its rounds. With more
 * in work each exchange gets a thread of its own at once, so that what takes the processor runs side by side.
 * Rejected: an event-driven provider call on the loop's thread. All that it does on its way (cache, budget,
 * single flight, stores) would have to be cut into callbacks, for the same gain.
 *
 * The sleeper that slept least is taken, its stack and tables being warm; those at the bottom leave after
 * IDLE_SECONDS. A thread that leaves cannot join itself: it is joined by whoever comes next to spawn or
 * close.
 */
#include "http/internal.h"

#include "base/duty.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
    IDLE_SECONDS = 30,
    STACK_BYTES = 2 << 20,
    GUARD_MS = 10,
    GUARD_ROUNDS = 100 /* without a leader, until it sleeps */
};

typedef struct emb_http_worker worker;
typedef struct leader leader;
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
    pthread_t guard;
    pthread_cond_t guard_wake;
    bool guarded, guard_sleeps, guard_stops;
    leader *leaders;
};

/* A thread that works on an exchange while it has the exchange's loop. Under the pool's lock but for what
 * does not change. */
struct leader {
    emb_duty duty; /* first */
    emb_http_workers *pool;
    worker *heir;
    emb_exchange *x;
    uint64_t began_ns;
    bool answered, passed;
    leader *next, **link; /* of the pool's, until it is passed on or done */
};

static _Thread_local leader *leading;

static void init_clocked(pthread_cond_t *cond)
{
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &clock);
    pthread_condattr_destroy(&clock);
}

emb_status emb_http_workers_open(unsigned maximum, emb_http_workers **out, emb_error *err)
{
    emb_http_workers *pool = calloc(1, sizeof *pool);
    if (!pool)
        return emb_fail_nomem(err, "the pool of workers", sizeof *pool);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    init_clocked(&pool->guard_wake);
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

/* With the lock held: whether there is something to do; false when it slept long enough or the pool
 * closes. */
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

/* ---- leading ---- */

/* With the lock held. */
static void pass_on(leader *l)
{
    if (l->passed)
        return;
    l->passed = true;
    *l->link = l->next;
    if (l->next)
        l->next->link = l->link;
    if (l->answered) /* and its function goes on */
        emb_http_loop_post(l->x->loop, &l->x->mail);
    l->heir->is_heir = false;
    l->heir->loop = l->x->loop;
    pthread_cond_signal(&l->heir->wake);
}

static void pass_loop_on(emb_duty *duty)
{
    leader *l = (leader *)duty;
    pthread_mutex_lock(&l->pool->lock);
    pass_on(l);
    pthread_mutex_unlock(&l->pool->lock);
}

/* With the lock held: when it has to look again; 0: there is no leader. */
static uint64_t pass_on_late(emb_http_workers *pool, uint64_t now)
{
    bool any = pool->leaders != NULL;
    for (leader *l = pool->leaders, *next; l; l = next) {
        next = l->next;
        if (now - l->began_ns >= GUARD_MS * UINT64_C(1000000))
            pass_on(l);
    }
    return any ? now + GUARD_MS * UINT64_C(1000000) : 0;
}

static void *guard_main(void *argument)
{
    emb_http_workers *pool = argument;
    unsigned quiet = 0;
    pthread_setname_np(pthread_self(), "embedd-guard");
    pthread_mutex_lock(&pool->lock);
    while (!pool->guard_stops) {
        uint64_t now = emb_now_ns(), until = now + GUARD_MS * UINT64_C(1000000);
        quiet = pass_on_late(pool, now) ? 0 : quiet + 1;
        struct timespec t = {(time_t)(until / 1000000000), (long)(until % 1000000000)};
        if (quiet < GUARD_ROUNDS) {
            pthread_cond_timedwait(&pool->guard_wake, &pool->lock, &t);
        } else {
            pool->guard_sleeps = true;
            pthread_cond_wait(&pool->guard_wake, &pool->lock);
            pool->guard_sleeps = false;
            quiet = 0;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void disinherit(worker *heir)
{
    heir->is_heir = false;
    push_idle(heir);
    if (heir->pool->closing)
        pthread_cond_signal(&heir->wake);
}

static void begin_to_lead(leader *l)
{
    emb_http_workers *pool = l->pool;
    leading = l;
    emb_duty_set(&l->duty);
    pthread_mutex_lock(&pool->lock);
    l->link = &pool->leaders;
    l->next = pool->leaders;
    if (l->next)
        l->next->link = &l->next;
    pool->leaders = l;
    if (pool->guard_sleeps)
        pthread_cond_signal(&pool->guard_wake);
    pthread_mutex_unlock(&pool->lock);
}

/* Whether the thread still has the loop. */
static bool end_to_lead(leader *l)
{
    emb_http_workers *pool = l->pool;
    emb_duty_set(NULL);
    leading = NULL;
    pthread_mutex_lock(&pool->lock);
    end_task(pool);
    if (!l->passed) {
        *l->link = l->next;
        if (l->next)
            l->next->link = l->link;
        disinherit(l->heir);
    }
    pthread_mutex_unlock(&pool->lock);
    return !l->passed;
}

/* The exchange that was parked here; false: the loop has another thread now. */
static bool lead(worker *w, emb_http_loop *loop)
{
    emb_exchange *x = loop->here;
    leader l = {.duty = {pass_loop_on, loop->epoll_fd},
                .pool = w->pool,
                .heir = loop->heir,
                .x = x,
                .began_ns = emb_now_ns()};
    loop->here = NULL;
    loop->heir = NULL;
    begin_to_lead(&l);
    run_task(x);
    if (!end_to_lead(&l))
        return false;
    if (l.answered)
        x->mail.run(loop, &x->mail);
    return true;
}

bool emb_http_workers_keep(emb_exchange *x)
{
    leader *l = leading;
    if (!l || l->x != x)
        return false;
    pthread_mutex_lock(&l->pool->lock);
    bool has_loop = l->answered = !l->passed;
    pthread_mutex_unlock(&l->pool->lock);
    return has_loop;
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

static bool start_thread(pthread_t *thread, void *(*main)(void *argument), void *argument)
{
    pthread_attr_t attributes;
    sigset_t all, old;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all); /* signals are the main thread's; SIGPIPE of OpenSSL is nobody's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool made = pthread_create(thread, &attributes, main, argument) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    return made;
}

/* With the lock held: a thread that has this to do. */
static bool spawn(emb_http_workers *pool, emb_exchange *task, emb_http_loop *loop)
{
    reap(pool);
    worker *w = calloc(1, sizeof *w);
    if (!w)
        return false;
    w->pool = pool;
    w->task = task;
    w->loop = loop;
    init_clocked(&w->wake);
    if (!start_thread(&w->thread, worker_main, w)) {
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
    if (!pool->guarded) /* without it nobody leads */
        pool->guarded = start_thread(&pool->guard, guard_main, pool);
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
    here = here && w && pool->guarded;
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
    pool->guard_stops = true;
    pthread_cond_signal(&pool->guard_wake);
    pthread_mutex_unlock(&pool->lock);
    if (pool->guarded)
        pthread_join(pool->guard, NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->changed);
    pthread_cond_destroy(&pool->guard_wake);
    free(pool);
}
