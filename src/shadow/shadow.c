/*
 * shadow.c: the queue and its thread.
 *
 * Submitting happens on the path of a caller's request, so it takes no lock and waits for nothing: room is
 * claimed by two counters, the copy is made in one allocation, and it is pushed on a list with a
 * compare-and-swap. The thread takes the whole list at once and turns it round; nobody else pops, so that
 * there is nothing to mix up (no ABA). Rejected: a mutex, which a thread of low priority could hold while it
 * is not running, with every request behind it; a ring of fixed size, whose slots would have to be as large
 * as the largest request.
 *
 * The thread runs one comparison at a time, at a lower priority: shadow work takes what is left over. Rows
 * are written when nothing waits, when there are many, or after a second. A store that fails loses the rows
 * it was given; they are counted, and it is not asked again for a while, so that a store that is away does
 * not hold up comparing. Memory is bounded by the queue's bytes, one running job, one batch and the window.
 *
 * Flush waits for jobs by number: what was accepted before it has been pushed before it, and is written in
 * that order.
 */
#include "shadow/parts.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BATCH_ROWS = 256,
    PAUSE_NS = 2000000,
    MEASURE_AFTER = 50, /* comparisons */
    MEASURE_SHARE = 20, /* of the time at most 1/20 */
    QUEUE_BYTES = 64 << 20,
    KEEP_DAYS = 90,
    KEEP_ROWS = 1000000,
};
#define SECOND UINT64_C(1000000000)
#define WRITE_NS (2 * SECOND)
#define CLOSE_NS SECOND
#define STORE_PAUSE_NS (5 * SECOND)
#define TRIM_EVERY_NS (3600 * SECOND)

struct emb_shadow_job {
    emb_shadow_job *before; /* the one that was submitted before it */
    size_t bytes;
    emb_shadow_pair pair;
    alignas(16) unsigned char data[];
};

static int64_t clock_s(void)
{
    return (int64_t)time(NULL);
}

static bool cancelled(const emb_shadow *s)
{
    return __atomic_load_n(&s->cancel, __ATOMIC_RELAXED) != 0;
}

const volatile int *emb_shadow_cancel(const emb_shadow *shadow)
{
    return &shadow->cancel;
}

static void count_dropped(emb_shadow *s, size_t comparisons)
{
    atomic_fetch_add(&s->dropped, comparisons);
    emb_series_add(s->series.dropped, (double)comparisons);
}

/* ---- submitting ---- */

enum { STRINGS = 6 };

static void strings_of(emb_shadow_pair *pair, const char **out[STRINGS])
{
    const char **const strings[STRINGS] = {&pair->category,        &pair->context,      &pair->key,
                                           &pair->legacy.provider, &pair->legacy.model, &pair->legacy.space};
    memcpy(out, strings, sizeof strings);
}

static bool grow(size_t *total, size_t count, size_t size)
{
    size_t bytes;
    return !__builtin_mul_overflow(count, size, &bytes) && !__builtin_add_overflow(*total, bytes, total);
}

/* Floats first, then texts' places, then bytes: each is aligned by what stands before it. */
static bool size_of_copy(const emb_shadow_pair *pair, size_t *out)
{
    emb_shadow_pair p = *pair;
    const char **strings[STRINGS];
    size_t vectors, total = sizeof(emb_shadow_job) + alignof(emb_text);
    if (__builtin_mul_overflow(p.count, p.legacy.vectors ? p.legacy.dimension : 0, &vectors) ||
        !grow(&total, vectors, sizeof(float)) || !grow(&total, p.count, sizeof(emb_text)))
        return false;
    for (size_t i = 0; i < p.count; i++)
        if (!grow(&total, p.texts[i].length, 1))
            return false;
    strings_of(&p, strings);
    for (int i = 0; i < STRINGS; i++)
        if (*strings[i] && !grow(&total, strlen(*strings[i]) + 1, 1))
            return false;
    *out = total;
    return true;
}

static unsigned char *append(unsigned char *at, const void *data, size_t length)
{
    if (length)
        memcpy(at, data, length);
    return at + length;
}

static void copy_into(emb_shadow_job *job, const emb_shadow_pair *pair)
{
    unsigned char *at = job->data;
    emb_shadow_pair *p = &job->pair;
    const char **strings[STRINGS];
    *p = *pair;
    if (pair->legacy.vectors) {
        p->legacy.vectors = (const float *)(const void *)at;
        at = append(at, pair->legacy.vectors, pair->count * pair->legacy.dimension * sizeof(float));
        at += -(uintptr_t)at % alignof(emb_text);
    }
    emb_text *texts = (emb_text *)(void *)at;
    p->texts = texts;
    at += pair->count * sizeof *texts;
    for (size_t i = 0; i < pair->count; i++) {
        texts[i] = (emb_text){(const char *)at, pair->texts[i].length};
        at = append(at, pair->texts[i].data, pair->texts[i].length);
    }
    strings_of(p, strings);
    for (int i = 0; i < STRINGS; i++) {
        const char *text = *strings[i];
        if (!text)
            continue;
        *strings[i] = (const char *)at;
        at = append(at, text, strlen(text) + 1);
    }
}

/* A place in the queue and room for its bytes, or neither. */
static bool claim(emb_shadow *s, size_t bytes)
{
    if (atomic_fetch_add(&s->waiting, 1) < s->options.queue) {
        size_t before = atomic_fetch_add(&s->waiting_bytes, bytes);
        if (bytes <= s->options.queue_bytes && before <= s->options.queue_bytes - bytes)
            return true;
        atomic_fetch_sub(&s->waiting_bytes, bytes);
    }
    atomic_fetch_sub(&s->waiting, 1);
    return false;
}

static void give_back(emb_shadow *s, size_t bytes)
{
    atomic_fetch_sub(&s->waiting_bytes, bytes);
    atomic_fetch_sub(&s->waiting, 1);
}

static void push(emb_shadow *s, emb_shadow_job *job)
{
    job->before = atomic_load_explicit(&s->newest, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&s->newest, &job->before, job, memory_order_release,
                                                  memory_order_relaxed))
        ;
    sem_post(&s->work);
}

bool emb_shadow_submit(emb_shadow *s, const emb_shadow_pair *pair)
{
    size_t bytes;
    if (!s || !s->has_thread || pair->count == 0)
        return false;
    if (!size_of_copy(pair, &bytes) || !claim(s, bytes)) {
        count_dropped(s, pair->count);
        return false;
    }
    emb_shadow_job *job = malloc(bytes);
    if (!job) {
        give_back(s, bytes);
        count_dropped(s, pair->count);
        return false;
    }
    job->bytes = bytes;
    copy_into(job, pair);
    atomic_fetch_add(&s->accepted, 1);
    push(s, job);
    return true;
}

/* ---- writing, by the thread ---- */

static void tell_failure(emb_shadow *s, const emb_error *err)
{
    if (!s->failing)
        emb_log(EMB_LOG_WARN, "shadow: comparisons cannot be stored and are lost",
                EMB_LOG_TEXT("reason", err->message));
    s->failing = true;
    s->store_ns = emb_now_ns() + STORE_PAUSE_NS;
}

static void tell_recovery(emb_shadow *s)
{
    if (s->failing)
        emb_log(EMB_LOG_INFO, "shadow: comparisons are stored again");
    s->failing = false;
}

static bool store_rests(const emb_shadow *s)
{
    return s->failing && emb_now_ns() < s->store_ns;
}

static void put_rows(emb_shadow *s, uint64_t within_ns)
{
    emb_shadow_batch *b = &s->batch;
    emb_error err = {0};
    bool stored = false;
    if (b->count && !store_rests(s)) {
        stored = emb_shadow_store_put(s->store, b->rows, b->count, emb_now_ns() + within_ns, &err) == EMB_OK;
        if (stored)
            tell_recovery(s);
        else
            tell_failure(s, &err);
    }
    if (b->count && !stored) {
        atomic_fetch_add(&s->unstored, b->count);
        emb_series_add(s->series.unstored, (double)b->count);
    }
    b->count = 0;
    emb_arena_reset(&b->strings, 1 << 16);
}

static void put_interval(const emb_shadow_interval *in, int64_t out[3])
{
    out[0] = (int64_t)(in->mean * 1e9);
    out[1] = (int64_t)(in->low * 1e9);
    out[2] = (int64_t)(in->high * 1e9);
}

/* The window's figures into *state, if it is time to measure and there is enough. */
static void measure(emb_shadow *s, emb_shadow_state *state)
{
    emb_shadow_likeness likeness;
    uint64_t start = emb_now_ns();
    if (s->compared - s->measured < MEASURE_AFTER || start < s->measure_ns)
        return;
    s->measured = s->compared;
    if (emb_shadow_window_measure(s->window, &s->cancel, &likeness, NULL) != EMB_OK || !likeness.enough)
        return;
    s->measure_ns = start + (emb_now_ns() - start) * MEASURE_SHARE;
    state->time_s = emb_shadow_now_s(s);
    state->window = (int64_t)likeness.texts;
    memcpy(state->pair, likeness.pair, sizeof state->pair);
    put_interval(&likeness.overlap, state->overlap_e9);
    put_interval(&likeness.rank, state->rank_e9);
}

static void put_state(emb_shadow *s, const emb_shadow_state *figures, uint64_t within_ns)
{
    emb_shadow_state state = *figures;
    uint64_t dropped = atomic_load(&s->dropped), told = atomic_load(&s->dropped_told);
    emb_error err = {0};
    state.dropped = (int64_t)(dropped - told);
    if ((!state.dropped && !state.time_s) || store_rests(s))
        return;
    if (emb_shadow_store_put_state(s->store, &state, emb_now_ns() + within_ns, &err) == EMB_OK)
        atomic_store(&s->dropped_told, dropped);
    else
        tell_failure(s, &err);
}

/* Everything that was compared is written, or given up; then those who wait for it are told. */
static void settle(emb_shadow *s)
{
    emb_shadow_state state = {0};
    put_rows(s, WRITE_NS);
    measure(s, &state);
    put_state(s, &state, WRITE_NS);
    if (!s->batch.jobs)
        return;
    pthread_mutex_lock(&s->lock);
    s->finished += s->batch.jobs;
    s->batch.jobs = 0;
    pthread_cond_broadcast(&s->moved);
    pthread_mutex_unlock(&s->lock);
}

/* A piece of what is too old or too much, once an hour; the next piece follows at once. */
static void trim(emb_shadow *s)
{
    uint64_t now = emb_now_ns();
    size_t removed = 0;
    emb_error err = {0};
    if (now < s->trim_ns || store_rests(s))
        return;
    int64_t before = emb_shadow_now_s(s) - (int64_t)KEEP_DAYS * 86400;
    if (emb_shadow_store_trim(s->store, before, KEEP_ROWS, now + WRITE_NS, &removed, &err) != EMB_OK)
        tell_failure(s, &err);
    if (removed < EMB_SHADOW_PIECE)
        s->trim_ns = now + TRIM_EVERY_NS;
}

/* ---- running, by the thread ---- */

/* What waits, the oldest first. */
static emb_shadow_job *take_all(emb_shadow *s)
{
    emb_shadow_job *job = atomic_exchange_explicit(&s->newest, NULL, memory_order_acquire), *oldest = NULL;
    while (job) {
        emb_shadow_job *before = job->before;
        job->before = oldest; /* from here on: the one after it */
        oldest = job;
        job = before;
    }
    return oldest;
}

static bool answered(const emb_shadow_side *candidate)
{
    return candidate->vectors && candidate->dimension;
}

static void run_job(emb_shadow *s, const emb_shadow_pair *pair)
{
    emb_shadow_side candidate = {0};
    emb_arena arena;
    emb_error err = {0};
    emb_arena_init(&arena);
    uint64_t start = emb_now_ns();
    emb_status st = s->options.run(s->options.context, pair, &arena, &candidate, &err);
    if (!candidate.latency_ns)
        candidate.latency_ns = emb_now_ns() - start;
    if (st == EMB_OK && !answered(&candidate))
        st = EMB_E_INTERNAL;
    if (st != EMB_OK && cancelled(s)) /* the end of the process is no failure of the candidate */
        count_dropped(s, pair->count);
    else
        emb_shadow_compare(s, pair, &candidate, st);
    emb_arena_fini(&arena);
}

static void work_through(emb_shadow *s, emb_shadow_job *job)
{
    while (job) {
        emb_shadow_job *next = job->before;
        give_back(s, job->bytes);
        if (cancelled(s))
            count_dropped(s, job->pair.count);
        else
            run_job(s, &job->pair);
        free(job);
        job = next;
        s->batch.jobs++;
        if (s->batch.count >= BATCH_ROWS || (s->batch.count && emb_now_ns() - s->batch.since_ns > SECOND))
            settle(s);
    }
}

/* Not at once: whoever submitted is about to send its answer, and the one who waits for it should find a CPU
 * free. What comes meanwhile is taken together, and wakes nobody. */
static void let_answers_out(emb_shadow *s)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    if (!cancelled(s))
        nanosleep(&pause, NULL);
    while (sem_trywait(&s->work) == 0)
        ; /* what was posted has been pushed before */
}

static void wait_for_work(emb_shadow *s)
{
    uint64_t until = s->failing && s->store_ns > s->trim_ns ? s->store_ns : s->trim_ns;
    struct timespec t = {.tv_sec = (time_t)(until / SECOND), .tv_nsec = (long)(until % SECOND)};
    int code;
    while ((code = sem_clockwait(&s->work, CLOCK_MONOTONIC, &t)) != 0 && errno == EINTR)
        ;
    if (code == 0)
        let_answers_out(s);
}

static void *work(void *context)
{
    emb_shadow *s = context;
    emb_thread_background("embedd-shadow");
    while (!cancelled(s)) {
        emb_shadow_job *jobs = take_all(s);
        if (jobs) {
            work_through(s, jobs);
            continue;
        }
        settle(s);
        trim(s);
        wait_for_work(s);
    }
    work_through(s, take_all(s));
    put_rows(s, CLOSE_NS);
    put_state(s, &(emb_shadow_state){0}, CLOSE_NS);
    return NULL;
}

bool emb_shadow_flush(emb_shadow *s, uint64_t deadline_ns)
{
    struct timespec t = {.tv_sec = (time_t)(deadline_ns / SECOND), .tv_nsec = (long)(deadline_ns % SECOND)};
    uint64_t wanted = atomic_load(&s->accepted);
    int code = 0;
    pthread_mutex_lock(&s->lock);
    while (s->finished < wanted && code != ETIMEDOUT)
        code = deadline_ns ? pthread_cond_timedwait(&s->moved, &s->lock, &t)
                           : pthread_cond_wait(&s->moved, &s->lock);
    bool done = s->finished >= wanted;
    pthread_mutex_unlock(&s->lock);
    return done;
}

/* ---- open and close ---- */

static void init_lock(emb_shadow *s)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->moved, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sem_init(&s->work, 0, 0);
}

static void init_series(emb_shadow *s, emb_metrics *metrics)
{
    if (!metrics)
        return;
    s->series.compared = emb_metrics_series(metrics, EMB_METRIC_SHADOW, "compared");
    s->series.failed = emb_metrics_series(metrics, EMB_METRIC_SHADOW, "failed");
    s->series.dropped = emb_metrics_series(metrics, EMB_METRIC_SHADOW, "dropped");
    s->series.unstored = emb_metrics_series(metrics, EMB_METRIC_SHADOW, "unstored");
    s->series.similarity = emb_metrics_series(metrics, EMB_METRIC_SHADOW_SIMILARITY);
}

static void release(emb_shadow *s)
{
    emb_db_close(s->store);
    emb_shadow_window_close(s->window);
    emb_arena_fini(&s->batch.strings);
    free(s->batch.rows);
    sem_destroy(&s->work);
    pthread_cond_destroy(&s->moved);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static emb_status start(emb_shadow *s, emb_error *err)
{
    init_series(s, s->options.metrics);
    emb_status st = emb_shadow_window_open(s->options.window, &s->window, err);
    if (st != EMB_OK)
        return st;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
    int code = pthread_create(&s->thread, NULL, work, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (code != 0)
        return emb_fail(err, EMB_E_BUSY, "shadow", "no thread can be started for comparisons: %s",
                        strerror(code));
    s->has_thread = true;
    return EMB_OK;
}

emb_status emb_shadow_open(const char *url, const emb_shadow_options *options, emb_shadow **out,
                           emb_error *err)
{
    emb_shadow *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return emb_fail_nomem(err, "shadow", sizeof *s);
    s->options = *options;
    if (!s->options.now_s)
        s->options.now_s = clock_s;
    if (!s->options.queue_bytes)
        s->options.queue_bytes = QUEUE_BYTES;
    emb_arena_init(&s->batch.strings);
    init_lock(s);
    emb_status st = emb_shadow_store_open(url, &s->store, err);
    if (st == EMB_OK && options->run)
        st = start(s, err);
    if (st != EMB_OK) {
        release(s);
        return st;
    }
    *out = s;
    return EMB_OK;
}

void emb_shadow_close(emb_shadow *s)
{
    if (!s)
        return;
    __atomic_store_n(&s->cancel, 1, __ATOMIC_RELAXED);
    if (s->has_thread) {
        sem_post(&s->work);
        pthread_join(s->thread, NULL);
    }
    release(s);
}
