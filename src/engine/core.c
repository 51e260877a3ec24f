/*
 * Loaded models, shared by the handles that opened their directory.
 *
 * A core comes to life in two stages: configured (settings and tokenizer) and loaded (weights packed).
 * One thread works on a stage while the others wait for it; if it fails, those that waited get its error,
 * and whoever comes next tries again. So a lazily opened model whose files were missing works as soon as
 * they are there, and a hundred callers do not read broken files a hundred times.
 *
 * Locks: engine->lock guards the list of cores and `handles`; core->load_lock the loading. Nothing is held
 * while files are read.
 */
#include "base/clock.h"
#include "base/error.h"
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

/* ---- loading --------------------------------------------------------------------------------- */

static emb_status configure(emb_core *core, emb_error *err)
{
    emb_status status = emb_model_spec_read(&core->spec, core->path, err);
    if (status)
        return status;
    status = emb_tokenizer_open(core->spec.transformer, &core->tokenizer, err);
    if (!status && emb_tokenizer_added_count(core->tokenizer) >= core->spec.max_tokens)
        status = emb_fail(err, EMB_E_UNSUPPORTED, core->path,
                          "the model takes %zu tokens and the tokenizer adds %zu: no room for text",
                          core->spec.max_tokens, emb_tokenizer_added_count(core->tokenizer));
    if (status) {
        emb_tokenizer_close(core->tokenizer);
        core->tokenizer = NULL;
        emb_model_spec_fini(&core->spec);
    }
    return status;
}

static emb_status load(emb_core *core, emb_error *err)
{
    const emb_kernels *kernels = core->engine->kernels;
    uint64_t saved = kernels->thread_begin();
    emb_status status = emb_encoder_open(&core->spec, kernels, core->wanted, &core->encoder, err);
    kernels->thread_end(saved);
    return status;
}

static int stage_of(const emb_core *core)
{
    return atomic_load_explicit(&core->stage, memory_order_acquire);
}

/* One step up. Locked by load_lock, which it releases while it works. */
static emb_status attempt(emb_core *core, emb_error *err)
{
    int stage = stage_of(core);
    emb_error error;
    core->loading = true;
    pthread_mutex_unlock(&core->load_lock);
    memset(&error, 0, sizeof error);
    emb_status status = stage == EMB_STAGE_NONE ? configure(core, &error) : load(core, &error);
    pthread_mutex_lock(&core->load_lock);
    core->loading = false;
    core->load_attempts++;
    core->load_error = error;
    core->load_error.code = status;
    if (!status)
        atomic_store_explicit(&core->stage, stage + 1, memory_order_release);
    else if (err)
        *err = core->load_error;
    pthread_cond_broadcast(&core->load_changed);
    return status;
}

/* Waits for the attempt that another thread makes and returns what it came to. */
static emb_status wait_attempt(emb_core *core, const emb_plan *plan, emb_error *err)
{
    uint64_t number = core->load_attempts;
    while (core->loading && core->load_attempts == number) {
        if (plan && (plan->deadline_ns || plan->cancel)) {
            emb_error error;
            if (emb_plan_expired(plan, emb_now_ns(), &error)) {
                if (err)
                    *err = error;
                return error.code;
            }
            struct timespec until = emb_plan_poll_time(plan);
            pthread_cond_timedwait(&core->load_changed, &core->load_lock, &until);
        } else {
            pthread_cond_wait(&core->load_changed, &core->load_lock);
        }
    }
    if (core->load_attempts == number + 1 && core->load_error.code) {
        if (err)
            *err = core->load_error;
        return core->load_error.code;
    }
    return EMB_OK;
}

emb_status emb_core_reach(emb_core *core, emb_stage stage, const emb_plan *plan, emb_error *err)
{
    if (stage_of(core) >= (int)stage)
        return EMB_OK;
    emb_status status = EMB_OK;
    pthread_mutex_lock(&core->load_lock);
    while (!status && stage_of(core) < (int)stage)
        status = core->loading ? wait_attempt(core, plan, err) : attempt(core, err);
    pthread_mutex_unlock(&core->load_lock);
    return status;
}

/* ---- sharing --------------------------------------------------------------------------------- */

static void core_free(emb_core *core)
{
    for (unsigned i = 0; core->ready_count && i < core->engine->threads; i++)
        if (core->ready[i])
            emb_workspace_close(&core->workspaces[i]);
    free(core->workspaces);
    free(core->ready);
    if (stage_of(core) >= EMB_STAGE_LOADED)
        emb_encoder_close(core->encoder);
    if (stage_of(core) >= EMB_STAGE_CONFIGURED) {
        emb_tokenizer_close(core->tokenizer);
        emb_model_spec_fini(&core->spec);
    }
    pthread_mutex_destroy(&core->load_lock);
    pthread_cond_destroy(&core->load_changed);
    free(core->path);
    free(core);
}

static emb_core *core_new(emb_engine *engine, const char *path, emb_precision precision)
{
    emb_core *core = calloc(1, sizeof *core);
    if (!core)
        return NULL;
    core->engine = engine;
    core->wanted = precision;
    core->handles = 1;
    atomic_init(&core->stage, EMB_STAGE_NONE);
    pthread_mutex_init(&core->load_lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&core->load_changed, &attributes);
    pthread_condattr_destroy(&attributes);
    emb_list_init(&core->calls[0]);
    emb_list_init(&core->calls[1]);
    core->path = strdup(path);
    core->workspaces = calloc(engine->threads, sizeof *core->workspaces);
    core->ready = calloc(engine->threads, sizeof *core->ready);
    if (core->path && core->workspaces && core->ready)
        return core;
    core_free(core);
    return NULL;
}

static bool serves(const emb_core *core, const char *path, emb_precision precision)
{
    return !strcmp(core->path, path) &&
           (core->wanted == precision || (stage_of(core) == EMB_STAGE_LOADED && precision &&
                                          emb_encoder_precision(core->encoder) == precision));
}

emb_status emb_core_get(emb_engine *engine, const char *path, emb_precision precision, emb_core **out,
                        emb_error *err)
{
    emb_status status = EMB_OK;
    emb_engine_lock(engine);
    emb_core *core = engine->cores;
    while (core && !serves(core, path, precision))
        core = core->next;
    if (engine->closed) {
        status = emb_fail(err, EMB_E_CLOSED, NULL, "the engine is closed");
    } else if (core) {
        core->handles++;
    } else if ((core = core_new(engine, path, precision))) {
        core->next = engine->cores;
        engine->cores = core;
    } else {
        status = emb_fail_nomem(err, "model", sizeof *core);
    }
    if (!status)
        engine->handles++;
    emb_engine_unlock(engine);
    *out = status ? NULL : core;
    return status;
}

void emb_core_put(emb_core *core)
{
    emb_engine *engine = core->engine;
    emb_engine_lock(engine);
    bool last = --core->handles == 0;
    if (last) {
        emb_core **at = &engine->cores;
        while (*at != core)
            at = &(*at)->next;
        *at = core->next;
        while (core->pins)
            pthread_cond_wait(&engine->quiet, &engine->lock);
    }
    emb_engine_unlock(engine);
    if (last)
        core_free(core);
    emb_engine_leave(engine);
}
