/*
 * What is in memory: holding and releasing models, and closing those that are not needed.
 *
 * The limit counts packed weights, which is what a model's size is. It is kept when a model's weights come
 * in, and tried again at each release as long as it could not be kept because everything else was held. The
 * model that was used last is never closed for room, so a model larger than the limit works, instead of being
 * loaded for each request.
 *
 * Times of use are written without a lock and in no order; they choose what to close, nothing depends on
 * them.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "service/models_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NS UINT64_C(1000000000)

/* ---- holding --------------------------------------------------------------------------------- */

bool emb_entry_hold(emb_entry *entry)
{
    uint_fast64_t v = atomic_load_explicit(&entry->holds, memory_order_relaxed);
    while (v & EMB_HOLD_OPEN)
        if (atomic_compare_exchange_weak_explicit(&entry->holds, &v, v + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* Closes a retired instance that nobody holds any more. */
static void bury(emb_entry *entry)
{
    emb_models *models = entry->models;
    pthread_mutex_lock(&models->lock);
    emb_instance *instance = entry->instance;
    entry->instance = NULL;
    models->memory_used -= atomic_load(&entry->weight_bytes);
    atomic_store(&entry->weight_bytes, 0);
    pthread_cond_broadcast(&models->changed);
    pthread_mutex_unlock(&models->lock);
    emb_instance_close(instance);
}

static void retire(emb_entry *entry)
{
    atomic_fetch_and(&entry->holds, ~EMB_HOLD_OPEN);
}

emb_status emb_models_confirm(emb_models *models, emb_served *served, emb_error *err)
{
    emb_entry *entry = ((emb_instance *)served)->entry;
    uint64_t stamp;
    if (entry->commit[0] || atomic_load_explicit(&entry->weight_bytes, memory_order_relaxed))
        return EMB_OK; /* a commit's files never change */
    emb_status status = emb_fingerprint_stamp(entry->path, &stamp, err);
    if (status == EMB_E_NOMEM)
        return status;
    pthread_mutex_lock(&models->lock);
    bool same = !status && stamp == entry->stamp;
    pthread_mutex_unlock(&models->lock);
    if (same)
        return EMB_OK;
    retire(entry);
    return emb_fail(err, EMB_E_IO, "model", "the files of %s changed while it was being loaded; ask again",
                    served->name);
}

void emb_models_put(emb_served *served)
{
    emb_entry *entry = ((emb_instance *)served)->entry;
    emb_models *models = entry->models;
    uint_fast64_t before = atomic_fetch_sub_explicit(&entry->holds, 1, memory_order_acq_rel);
    /* `served` may be gone from here on, unless it is retired and this was the last; entries stay. */
    if (before == 1)
        bury(entry);
    else if (before == (EMB_HOLD_OPEN | 1) && atomic_load_explicit(&models->over, memory_order_relaxed))
        emb_models_make_room(models);
}

void emb_models_note_use(emb_served *served, uint64_t now_ns)
{
    atomic_store_explicit(&((emb_instance *)served)->entry->used_ns, now_ns, memory_order_relaxed);
}

void emb_models_release(emb_served *served)
{
    if (!served)
        return;
    emb_models_note_use(served, emb_now_ns());
    emb_models_put(served);
}

emb_instance *emb_entry_take(emb_entry *entry)
{
    uint_fast64_t open = EMB_HOLD_OPEN;
    if (!atomic_compare_exchange_strong_explicit(&entry->holds, &open, 0, memory_order_acquire,
                                                 memory_order_relaxed))
        return NULL;
    emb_instance *instance = entry->instance;
    emb_models *models = entry->models;
    entry->instance = NULL;
    models->memory_used -= atomic_load(&entry->weight_bytes);
    atomic_store(&entry->weight_bytes, 0);
    return instance;
}

void emb_instance_close(emb_instance *instance)
{
    if (!instance)
        return;
    emb_model_close(instance->served.model);
    emb_variants_free(instance);
    free(instance);
}

/* ---- room ------------------------------------------------------------------------------------ */

/* (locked) Of the entries with weights in memory the one used longest ago, apart from the one used last, that
 * could be taken; NULL if there is none. */
static emb_instance *take_oldest(emb_models *models, uint64_t not_before)
{
    for (;;) {
        emb_entry *oldest = NULL;
        uint64_t oldest_ns = UINT64_MAX, newest_ns = 0;
        for (emb_entry *e = models->entries; e; e = e->next) {
            uint64_t used = atomic_load_explicit(&e->used_ns, memory_order_relaxed);
            if (!atomic_load(&e->weight_bytes))
                continue;
            newest_ns = used > newest_ns ? used : newest_ns;
            if (!e->pinned && used < oldest_ns && used >= not_before &&
                atomic_load_explicit(&e->holds, memory_order_relaxed) == EMB_HOLD_OPEN) {
                oldest = e;
                oldest_ns = used;
            }
        }
        if (!oldest || oldest_ns == newest_ns)
            return NULL;
        emb_instance *taken = emb_entry_take(oldest);
        if (taken)
            return taken;
        not_before = oldest_ns + 1; /* somebody was quicker; look at the others */
    }
}

/* The gauges after a change of a model's weights. */
static void note_weights(emb_models *models, const char *name, size_t bytes)
{
    emb_series_set(emb_metrics_series(models->metrics, EMB_METRIC_MODEL_BYTES, name), (double)bytes);
    emb_series_set(models->loaded, (double)emb_models_loaded(models));
}

static void log_unloaded(const emb_instance *instance, const char *why)
{
    note_weights(instance->entry->models, instance->served.name, 0);
    emb_series_add(instance->entry->models->unloads, 1);
    emb_log(EMB_LOG_INFO, "model unloaded", EMB_LOG_TEXT("model", instance->served.name),
            EMB_LOG_TEXT("why", why));
}

void emb_models_make_room(emb_models *models)
{
    for (;;) {
        pthread_mutex_lock(&models->lock);
        bool over = models->memory_used > models->memory_limit;
        emb_instance *taken = over ? take_oldest(models, 0) : NULL;
        atomic_store(&models->over, over && !taken);
        pthread_mutex_unlock(&models->lock);
        if (!taken)
            return;
        log_unloaded(taken, "memory");
        emb_instance_close(taken);
    }
}

void emb_models_used(emb_models *models, emb_served *served)
{
    emb_entry *entry = ((emb_instance *)served)->entry;
    if (atomic_load_explicit(&entry->weight_bytes, memory_order_relaxed))
        return;
    emb_model_info info = EMB_MODEL_INFO_INIT;
    emb_model_get_info(served->model, &info);
    if (!info.weight_bytes)
        return;
    pthread_mutex_lock(&models->lock);
    bool first = !atomic_load(&entry->weight_bytes);
    if (first) {
        atomic_store(&entry->weight_bytes, info.weight_bytes);
        atomic_store_explicit(&entry->used_ns, emb_now_ns(), memory_order_relaxed);
        models->memory_used += info.weight_bytes;
    }
    pthread_mutex_unlock(&models->lock);
    if (!first)
        return;
    note_weights(models, served->name, info.weight_bytes);
    emb_models_make_room(models);
}

/* ---- idle models ----------------------------------------------------------------------------- */

/* (locked) One that has not been used for so long; or when the next one may be due. */
static emb_instance *take_idle(emb_models *models, uint64_t idle_ns, uint64_t now, uint64_t *next_ns)
{
    *next_ns = now + idle_ns; /* nothing that is opened from now on is due earlier */
    for (emb_entry *e = models->entries; e; e = e->next) {
        uint64_t due = atomic_load_explicit(&e->used_ns, memory_order_relaxed) + idle_ns;
        if (e->pinned || !(atomic_load_explicit(&e->holds, memory_order_relaxed) & EMB_HOLD_OPEN))
            continue;
        if (due > now) {
            *next_ns = due < *next_ns ? due : *next_ns;
            continue;
        }
        emb_instance *taken = emb_entry_take(e);
        if (taken)
            return taken;
        *next_ns = now + NS < *next_ns ? now + NS : *next_ns; /* it is held: look again soon */
    }
    return NULL;
}

static void *unload_idle(void *context)
{
    emb_models *models = context;
    pthread_mutex_lock(&models->lock);
    while (!models->stop) {
        uint64_t idle_ns = models->config->unload_seconds * NS, next_ns;
        if (!idle_ns) {
            pthread_cond_wait(&models->idle_changed, &models->lock);
            continue;
        }
        emb_instance *taken = take_idle(models, idle_ns, emb_now_ns(), &next_ns);
        if (taken) {
            pthread_mutex_unlock(&models->lock);
            log_unloaded(taken, "idle");
            emb_instance_close(taken);
            pthread_mutex_lock(&models->lock);
            continue;
        }
        struct timespec until = {.tv_sec = (time_t)(next_ns / NS), .tv_nsec = (long)(next_ns % NS)};
        pthread_cond_timedwait(&models->idle_changed, &models->lock, &until);
    }
    pthread_mutex_unlock(&models->lock);
    return NULL;
}

emb_status emb_models_start_idle(emb_models *models, emb_error *err)
{
    if (pthread_create(&models->idle_thread, NULL, unload_idle, models) != 0)
        return emb_fail(err, EMB_E_NOMEM, NULL, "the thread that unloads idle models cannot be started");
    models->idle_started = true;
    return EMB_OK;
}

void emb_models_stop_idle(emb_models *models)
{
    pthread_mutex_lock(&models->lock);
    models->stop = true;
    pthread_cond_broadcast(&models->idle_changed);
    pthread_mutex_unlock(&models->lock);
    if (models->idle_started)
        pthread_join(models->idle_thread, NULL);
    models->idle_started = false;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* A number in a file of the control group; SIZE_MAX for "max" or no such file. */
static size_t group_limit(const char *path)
{
    unsigned long long value;
    FILE *file = fopen(path, "re");
    bool read = file && fscanf(file, "%llu", &value) == 1;
    if (file)
        fclose(file);
    return read && value < SIZE_MAX ? (size_t)value : SIZE_MAX;
}

size_t emb_half_of_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t bytes = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : (size_t)1 << 32;
    size_t v2 = group_limit("/sys/fs/cgroup/memory.max"),
           v1 = group_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    bytes = v2 < bytes ? v2 : bytes;
    bytes = v1 < bytes ? v1 : bytes;
    return bytes / 2;
}
