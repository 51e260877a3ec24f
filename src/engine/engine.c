/*
 * The engine: compute threads, slots, opening and closing.
 *
 * Compute threads sleep on one condition variable. Who makes work wakes one thread; a thread that leaves
 * work behind when it starts its turn wakes the next. A thread that ran out of work watches engine->events
 * for EMB_SPIN_NS before it sleeps, because waking a sleeper costs about 50 us, as much as a tenth of a
 * short text's whole pass; a process that is idle for longer than that costs nothing.
 *
 * Slots, not threads, are the currency: a turn, a helper of a team, and a caller that runs its own small
 * call all hold one. Free slots are a stack, so that the one with warm caches is used again.
 *
 * Life: the engine is freed when it was closed and its last model too, so either order of closing is safe.
 * Closing refuses new calls, waits for running ones, then ends the threads.
 */
#include "engine/engine.h"

#include "base/clock.h"
#include "base/error.h"
#include "engine/options.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define EMB_SPIN_NS 50000u

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- slots and waking ------------------------------------------------------------------------ */

emb_slot *emb_slot_take(emb_engine *engine, const emb_core *core)
{
    if (engine->held || !engine->free_slots)
        return NULL;
    emb_slot **found = &engine->free_slots;
    if (core && core->ready_count)
        for (emb_slot **at = found; *at; at = &(*at)->next)
            if (core->ready[(*at)->index]) {
                found = at;
                break;
            }
    emb_slot *slot = *found;
    *found = slot->next;
    engine->free_count--;
    return slot;
}

void emb_slot_give(emb_engine *engine, emb_slot *slot)
{
    slot->next = engine->free_slots;
    engine->free_slots = slot;
    engine->free_count++;
    if (engine->held)
        pthread_cond_broadcast(&engine->quiet);
}

void emb_engine_wake(emb_engine *engine)
{
    atomic_fetch_add_explicit(&engine->events, 1, memory_order_relaxed);
    if (engine->sleepers && !engine->spinners)
        pthread_cond_signal(&engine->work);
}

void emb_engine_hold(emb_engine *engine)
{
    emb_engine_lock(engine);
    engine->held = true;
    while (engine->free_count < engine->threads)
        pthread_cond_wait(&engine->quiet, &engine->lock);
    emb_engine_unlock(engine);
}

void emb_engine_release(emb_engine *engine)
{
    emb_engine_lock(engine);
    engine->held = false;
    emb_engine_wake(engine);
    emb_engine_unlock(engine);
}

/* ---- compute threads ------------------------------------------------------------------------- */

/* The slot could not be made ready for the model. If another slot is, its owner will do the work (false: this
 * thread has nothing to do); otherwise the first call learns that there is no memory. */
static bool cannot_prepare(emb_engine *engine, emb_core *core, emb_priority priority, const emb_error *error)
{
    emb_link *first = emb_list_first(&core->calls[priority]);
    if (core->ready_count)
        return false;
    if (first)
        emb_call_give_up(engine, EMB_LIST_ENTRY(first, emb_call, link), error);
    return true;
}

/* One turn for whoever is next. Locked. False if nothing could be done. */
static bool take_turn(emb_engine *engine)
{
    if (!atomic_load_explicit(&engine->waiting_calls, memory_order_relaxed) || !engine->free_count ||
        engine->held)
        return false;
    emb_priority priority;
    emb_core *core = emb_queue_next(engine, &priority);
    emb_slot *slot = emb_slot_take(engine, core);
    emb_error error;
    core->pins++;
    bool useful = true;
    if (emb_slot_prepare(engine, slot, core, &error) == EMB_OK) {
        emb_queue_claim(engine, core, priority, slot);
        slot->touching = true;
        if (atomic_load_explicit(&engine->waiting_calls, memory_order_relaxed) && engine->free_count)
            emb_engine_wake(engine);
        emb_engine_unlock(engine);
        emb_slot_turn(engine, slot);
        emb_engine_lock(engine);
    } else {
        useful = cannot_prepare(engine, core, priority, &error);
    }
    if (--core->pins == 0)
        pthread_cond_broadcast(&engine->quiet);
    emb_slot_give(engine, slot);
    return useful;
}

/* Joins the team of a pass that runs alone. Locked. */
static bool help(emb_engine *engine)
{
    if (!engine->team_led || engine->team_helpers >= engine->team_wanted ||
        atomic_load_explicit(&engine->waiting_calls, memory_order_relaxed))
        return false;
    emb_slot *slot = emb_slot_take(engine, NULL);
    if (!slot)
        return false;
    if (++engine->team_helpers < engine->team_wanted && engine->free_count)
        emb_engine_wake(engine);
    emb_engine_unlock(engine);
    emb_team_help_until(engine->team, &engine->waiting_calls);
    emb_engine_lock(engine);
    engine->team_helpers--;
    emb_slot_give(engine, slot);
    return true;
}

/* Waits for an event. Locked. */
static void idle(emb_engine *engine, bool spin)
{
    unsigned seen = atomic_load_explicit(&engine->events, memory_order_relaxed);
    if (spin) {
        engine->spinners++;
        emb_engine_unlock(engine);
        uint64_t until = emb_now_ns() + EMB_SPIN_NS;
        do {
            for (int i = 0; i < 64; i++)
                relax();
        } while (atomic_load_explicit(&engine->events, memory_order_relaxed) == seen && emb_now_ns() < until);
        emb_engine_lock(engine);
        engine->spinners--;
        if (atomic_load_explicit(&engine->events, memory_order_relaxed) != seen)
            return;
    }
    engine->sleepers++;
    pthread_cond_wait(&engine->work, &engine->lock);
    engine->sleepers--;
}

static void *worker(void *argument)
{
    emb_engine *engine = argument;
    uint64_t saved = engine->kernels->thread_begin();
    bool worked = false;
    emb_engine_lock(engine);
    while (!engine->stop) {
        if (take_turn(engine) || help(engine)) {
            worked = true;
            continue;
        }
        idle(engine, worked);
        worked = false;
    }
    emb_engine_unlock(engine);
    engine->kernels->thread_end(saved);
    return NULL;
}

/* Threads take no signals: those are the program's business. */
static emb_status start_workers(emb_engine *engine, emb_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    while (engine->workers_started < engine->threads && !failed) {
        failed = pthread_create(&engine->workers[engine->workers_started], NULL, worker, engine);
        if (!failed)
            engine->workers_started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return emb_fail(err, EMB_E_NOMEM, "threads", "thread %u of %u could not be started: %s",
                        engine->workers_started + 1, engine->threads, strerror(failed));
    return EMB_OK;
}

static void stop_workers(emb_engine *engine)
{
    emb_engine_lock(engine);
    engine->stop = true;
    atomic_fetch_add_explicit(&engine->events, 1, memory_order_relaxed);
    pthread_cond_broadcast(&engine->work);
    emb_engine_unlock(engine);
    for (unsigned i = 0; i < engine->workers_started; i++)
        pthread_join(engine->workers[i], NULL);
    engine->workers_started = 0;
}

/* ---- opening and closing --------------------------------------------------------------------- */

static emb_status apply_options(emb_engine *engine, const emb_engine_options *given, emb_error *err)
{
    emb_engine_options options = EMB_ENGINE_OPTIONS_INIT;
    emb_status status = emb_options_copy(&options, sizeof options, given, "emb_engine_options", err);
    if (status)
        return status;
    if (options.threads > EMB_MAX_THREADS)
        return emb_fail(err, EMB_E_INVALID, "threads", "threads is %u, at most %d are possible",
                        options.threads, EMB_MAX_THREADS);
    if (options.batch_tokens > UINT32_MAX / 2)
        return emb_fail(err, EMB_E_INVALID, "batch_tokens", "batch_tokens is %zu, at most %u is possible",
                        options.batch_tokens, UINT32_MAX / 2);
    engine->threads = options.threads ? options.threads : emb_cpus_usable();
    engine->batch_tokens = options.batch_tokens ? options.batch_tokens : EMB_DEFAULT_BATCH_TOKENS;
    engine->queue_tokens = options.queue_tokens ? options.queue_tokens : EMB_DEFAULT_QUEUE_TOKENS;
    engine->pass_tokens = EMB_DEFAULT_PASS_TOKENS;
    if (engine->pass_tokens > engine->batch_tokens)
        engine->pass_tokens = engine->batch_tokens;
    if (options.models_path && !(engine->models_path = strdup(options.models_path)))
        return emb_fail_nomem(err, "models_path", strlen(options.models_path));
    return emb_kernels_select(options.isa, &engine->kernels, err);
}

static emb_status make_parts(emb_engine *engine, emb_error *err)
{
    engine->workers = calloc(engine->threads, sizeof *engine->workers);
    engine->slots = calloc(engine->threads, sizeof *engine->slots);
    if (!engine->workers || !engine->slots)
        return emb_fail_nomem(err, "compute threads", engine->threads * sizeof *engine->slots);
    for (unsigned i = engine->threads; i-- > 0;) {
        emb_slot_init(&engine->slots[i], i);
        emb_slot_give(engine, &engine->slots[i]);
    }
    emb_status status = emb_team_open(&engine->team, err);
    return status ? status : start_workers(engine, err);
}

static void engine_free(emb_engine *engine)
{
    emb_team_close(engine->team);
    for (unsigned i = 0; engine->slots && i < engine->threads; i++)
        emb_slot_fini(&engine->slots[i]);
    free(engine->slots);
    free(engine->workers);
    while (engine->free_scratch) {
        emb_scratch *scratch = engine->free_scratch;
        engine->free_scratch = scratch->next;
        emb_scratch_fini(scratch);
        free(scratch);
    }
    free(engine->models_path);
    pthread_cond_destroy(&engine->work);
    pthread_cond_destroy(&engine->quiet);
    pthread_mutex_destroy(&engine->lock);
    pthread_mutex_destroy(&engine->scratch_lock);
    free(engine);
}

emb_status emb_engine_open(const emb_engine_options *options, emb_engine **out, emb_error *err)
{
    if (!out)
        return emb_fail(err, EMB_E_INVALID, "out", "out is NULL");
    *out = NULL;
    emb_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return emb_fail_nomem(err, "engine", sizeof *engine);
    pthread_mutex_init(&engine->lock, NULL);
    pthread_mutex_init(&engine->scratch_lock, NULL);
    pthread_cond_init(&engine->work, NULL);
    pthread_cond_init(&engine->quiet, NULL);
    emb_list_init(&engine->cores_waiting[0]);
    emb_list_init(&engine->cores_waiting[1]);
    engine->handles = 1;
    emb_status status = apply_options(engine, options, err);
    if (!status)
        status = make_parts(engine, err);
    if (status) {
        stop_workers(engine);
        engine_free(engine);
        return status;
    }
    *out = engine;
    return EMB_OK;
}

void emb_engine_leave(emb_engine *engine)
{
    emb_engine_lock(engine);
    bool last = --engine->handles == 0;
    emb_engine_unlock(engine);
    if (last)
        engine_free(engine);
}

void emb_engine_close(emb_engine *engine)
{
    if (!engine)
        return;
    emb_engine_lock(engine);
    engine->closed = true;
    while (engine->calls)
        pthread_cond_wait(&engine->quiet, &engine->lock);
    emb_engine_unlock(engine);
    stop_workers(engine);
    emb_engine_leave(engine);
}

const char *emb_engine_isa(const emb_engine *engine)
{
    return engine ? engine->kernels->name : "";
}

unsigned emb_engine_threads(const emb_engine *engine)
{
    return engine ? engine->threads : 0;
}
