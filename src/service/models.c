/*
 * The registry of served models: names to entries, and opening an entry's model once for all who want it.
 *
 * The quick way, for every request: the name is an alias of an entry that is open; it is found and held
 * without a lock. All else takes the long way: find the directory, find or make its entry, open it.
 * Directories are looked up again whenever a model is not open, because files come and go (a pull moves
 * refs/main to another snapshot).
 *
 * One thread opens an entry while others wait for it with their own cancel flags and deadlines; what it could
 * not open they report with the same words, and the next request tries again. Opening reads configuration and
 * tokenizer and computes the fingerprint; weights are left for the first text, whose caller waits in the
 * engine.
 *
 * Lock order: models->lock is never held while a model is opened, closed or fetched, nor while the engine is
 * called.
 */
#include "base/clock.h"
#include "base/duty.h"
#include "base/error.h"
#include "base/log.h"
#include "model/catalog.h"
#include "service/models_parts.h"

#include <stdlib.h>
#include <string.h>

#define POLL_NS UINT64_C(10000000)

/* ---- waiting --------------------------------------------------------------------------------- */

static emb_status given_up(const volatile int *cancel, uint64_t deadline_ns, uint64_t now, emb_error *err)
{
    if (cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
        return emb_fail(err, EMB_E_CANCELLED, NULL, "the request was cancelled");
    if (deadline_ns && now >= deadline_ns)
        return emb_fail(err, EMB_E_DEADLINE, NULL, "the time for the request ran out");
    return EMB_OK;
}

emb_status emb_models_wait(emb_models *models, const volatile int *cancel, uint64_t deadline_ns,
                           emb_error *err)
{
    uint64_t now = emb_now_ns(), until = now + (cancel ? POLL_NS : 100 * POLL_NS);
    emb_status status = given_up(cancel, deadline_ns, now, err);
    if (status)
        return status;
    until = deadline_ns && deadline_ns < until ? deadline_ns : until;
    struct timespec at = {.tv_sec = (time_t)(until / 1000000000), .tv_nsec = (long)(until % 1000000000)};
    emb_duty_pass_on();
    pthread_cond_timedwait(&models->changed, &models->lock, &at);
    return EMB_OK;
}

/* ---- entries --------------------------------------------------------------------------------- */

static bool is_allowed(const emb_models *models, const emb_entry *entry)
{
    const char *names[] = {entry->name, entry->repository, entry->path};
    return entry->pinned || emb_names_allow(models->config->allowed_models, names, 3);
}

static void entry_free(emb_entry *entry)
{
    if (!entry)
        return;
    free(entry->path);
    free(entry->name);
    free(entry->repository);
    free(entry);
}

/* Takes path, in every case. */
static emb_status entry_make(emb_models *models, const char *asked, char *path, emb_entry **out,
                             emb_error *err)
{
    emb_entry *entry = calloc(1, sizeof *entry);
    if (!entry) {
        free(path);
        return emb_fail_nomem(err, "entry of a model", sizeof *entry);
    }
    entry->models = models;
    entry->path = path;
    emb_status status =
        emb_names_canonical(asked, path, &entry->name, &entry->repository, entry->commit, err);
    if (status)
        entry_free(entry);
    else
        *out = entry;
    return status;
}

/* The entry of a directory, made if it is new. Takes path. */
static emb_status entry_of_path(emb_models *models, const char *asked, char *path, bool pinned,
                                emb_entry **out, emb_error *err)
{
    emb_entry *made = NULL;
    emb_status status = entry_make(models, asked, path, &made, err);
    if (status)
        return status;
    pthread_mutex_lock(&models->lock);
    emb_entry *entry = models->entries;
    while (entry && strcmp(entry->path, made->path) != 0)
        entry = entry->next;
    if (!entry) {
        entry = made;
        made = NULL;
        entry->next = models->entries;
        models->entries = entry;
    }
    entry->pinned = entry->pinned || pinned;
    atomic_store(&entry->allowed, is_allowed(models, entry));
    pthread_mutex_unlock(&models->lock);
    entry_free(made);
    *out = entry;
    return EMB_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* What tells this model's files from others. The stamp says whether an earlier fingerprint still holds. */
static emb_status find_revision(emb_models *models, emb_entry *entry, char out[EMB_REVISION_MAX],
                                emb_error *err)
{
    uint64_t stamp;
    if (entry->commit[0]) {
        memcpy(out, entry->commit, EMB_REVISION_MAX);
        return EMB_OK;
    }
    emb_status status = emb_fingerprint_stamp(entry->path, &stamp, err);
    if (status)
        return status;
    pthread_mutex_lock(&models->lock);
    bool known = entry->stamp == stamp;
    if (known)
        memcpy(out, entry->fingerprint, EMB_REVISION_MAX);
    pthread_mutex_unlock(&models->lock);
    if (known)
        return EMB_OK;
    status = emb_fingerprint(entry->path, out, err);
    if (status)
        return status;
    pthread_mutex_lock(&models->lock);
    entry->stamp = stamp;
    memcpy(entry->fingerprint, out, EMB_REVISION_MAX);
    pthread_mutex_unlock(&models->lock);
    return EMB_OK;
}

void emb_model_series_make(emb_metrics *m, const char *model, emb_model_series *s)
{
    s->texts_l1 = emb_metrics_series(m, EMB_METRIC_TEXTS, model, "l1");
    s->texts_l2 = emb_metrics_series(m, EMB_METRIC_TEXTS, model, "l2");
    s->texts_computed = emb_metrics_series(m, EMB_METRIC_TEXTS, model, "computed");
    s->texts_shared = emb_metrics_series(m, EMB_METRIC_TEXTS, model, "shared");
    s->tokens = emb_metrics_series(m, EMB_METRIC_TOKENS, model);
    s->batch_texts = emb_metrics_series(m, EMB_METRIC_BATCH_TEXTS, model);
    s->batch_tokens = emb_metrics_series(m, EMB_METRIC_BATCH_TOKENS, model);
    s->seconds_l1 = emb_metrics_series(m, EMB_METRIC_EMBED_SECONDS, model, "l1");
    s->seconds_l2 = emb_metrics_series(m, EMB_METRIC_EMBED_SECONDS, model, "l2");
    s->seconds_computed = emb_metrics_series(m, EMB_METRIC_EMBED_SECONDS, model, "computed");
    s->queue_seconds = emb_metrics_series(m, EMB_METRIC_QUEUE_SECONDS, model);
    s->tokenize_seconds = emb_metrics_series(m, EMB_METRIC_TOKENIZE_SECONDS, model);
    s->compute_seconds = emb_metrics_series(m, EMB_METRIC_COMPUTE_SECONDS, model);
}

/* What is wrong with a model's files is nothing that a caller named: not the path, and not something to look
 * for elsewhere. */
static emb_status blame_files(const emb_entry *entry, emb_status status, emb_error *err)
{
    if (status == EMB_E_NOMEM || status == EMB_E_CLOSED)
        return status;
    if (status == EMB_E_NOT_FOUND || status == EMB_E_INVALID)
        err->code = EMB_E_CORRUPT;
    strcpy(err->where, "model");
    return emb_error_context(err, "the model %s cannot be opened", entry->name);
}

static emb_status instance_open(emb_models *models, emb_entry *entry, emb_instance **out, emb_error *err)
{
    emb_model_options options = EMB_MODEL_OPTIONS_INIT;
    options.lazy = true;
    options.precision = models->precision;
    emb_instance *instance = calloc(1, sizeof *instance);
    if (!instance)
        return emb_fail_nomem(err, "model", sizeof *instance);
    emb_served *served = &instance->served;
    instance->entry = entry;
    emb_status status = find_revision(models, entry, instance->revision, err);
    if (!status)
        status = emb_model_open(models->engine, entry->path, &options, &served->model, err);
    if (status) {
        free(instance);
        return status;
    }
    served->name = entry->name;
    served->repository = entry->repository;
    served->revision = instance->revision;
    served->info = (emb_model_info)EMB_MODEL_INFO_INIT;
    emb_model_get_info(served->model, &served->info);
    emb_model_series_make(models->metrics, served->name, &served->series);
    *out = instance;
    return EMB_OK;
}

/* (locked) The opening that this thread undertook has ended; on success it holds the model. */
static void opening_ended(emb_models *models, emb_entry *entry, emb_instance *instance, emb_status status,
                          const emb_error *error)
{
    entry->opening = false;
    entry->attempts++;
    entry->status = status;
    if (status) {
        entry->error = *error;
    } else {
        entry->instance = instance;
        atomic_store_explicit(&entry->used_ns, emb_now_ns(), memory_order_relaxed);
        atomic_store_explicit(&entry->holds, EMB_HOLD_OPEN | 1, memory_order_release);
        emb_alias_set(models, entry->name, entry);
        emb_alias_set(models, entry->repository, entry);
    }
    pthread_cond_broadcast(&models->changed);
}

/* Waits for the thread that opens the entry. Locked. EMB_OK: look again. */
static emb_status wait_opened(emb_models *models, emb_entry *entry, const volatile int *cancel,
                              uint64_t deadline_ns, emb_error *err)
{
    uint64_t attempts = entry->attempts;
    while (entry->opening && entry->attempts == attempts) {
        emb_status status = emb_models_wait(models, cancel, deadline_ns, err);
        if (status)
            return status;
    }
    if (entry->attempts == attempts + 1 && entry->status) {
        if (err)
            *err = entry->error;
        return entry->status;
    }
    return EMB_OK;
}

/* Opens the entry's model, or waits for the one who does; then holds it. */
static emb_status entry_open(emb_models *models, emb_entry *entry, const volatile int *cancel,
                             uint64_t deadline_ns, emb_error *err)
{
    emb_error error = {0};
    emb_instance *instance = NULL;
    emb_status status = EMB_OK;
    pthread_mutex_lock(&models->lock);
    while (!status && !emb_entry_hold(entry)) {
        if (entry->opening) {
            status = wait_opened(models, entry, cancel, deadline_ns, err);
            continue;
        }
        if (entry->instance) { /* retired, and somebody still holds it */
            status = emb_models_wait(models, cancel, deadline_ns, err);
            continue;
        }
        entry->opening = true;
        pthread_mutex_unlock(&models->lock);
        emb_duty_pass_on();
        status = instance_open(models, entry, &instance, &error);
        status = status ? blame_files(entry, status, &error) : EMB_OK;
        emb_series_add(status ? models->loads_failed : models->loads_ok, 1);
        pthread_mutex_lock(&models->lock);
        opening_ended(models, entry, instance, status, &error);
        if (status && err)
            *err = error;
        break;
    }
    pthread_mutex_unlock(&models->lock);
    return status;
}

/* ---- acquiring ------------------------------------------------------------------------------- */

static emb_status refuse(const char *name, emb_error *err)
{
    return emb_fail(err, EMB_E_UNSUPPORTED, "model",
                    "the model %.200s is not one that may be loaded (models.allowed)", name);
}

typedef struct wanted {
    const char *name;
    bool trusted, may_pull;
    const volatile int *cancel;
    uint64_t deadline_ns;
} wanted;

/* Fetches a model that was nowhere when `fetched` models had been fetched. EMB_OK: look again. */
static emb_status fetch(emb_models *models, const wanted *w, uint64_t fetched, bool *own, emb_error *err)
{
    emb_status status = EMB_OK;
    pthread_mutex_lock(&models->lock);
    *own =
        models->pulls_fetched == fetched; /* otherwise another caller's fetch may have ended after the look */
    if (*own)
        status = emb_pull_wait(models, w->name, w->cancel, w->deadline_ns, err);
    pthread_mutex_unlock(&models->lock);
    return status;
}

/* The directory of a model, fetched if need be. */
static emb_status find_path(emb_models *models, const wanted *w, char **path, emb_error *err)
{
    pthread_mutex_lock(&models->lock);
    emb_config *config = emb_config_retain(models->config);
    bool may_pull = w->may_pull && config->pull;
    uint64_t fetched = models->pulls_fetched;
    pthread_mutex_unlock(&models->lock);
    emb_status status =
        emb_names_locate(w->name, models->search_path, config->allowed_models, w->trusted, path, err);
    bool is_name = !emb_name_is_path(w->name);
    may_pull = may_pull && emb_pull_is_possible(w->name);
    const emb_catalog_entry *known = emb_catalog_find(w->name);
    const char *names[] = {w->name, known ? known->name : NULL, known ? known->repository : NULL};
    if (status == EMB_E_NOT_FOUND && is_name && !w->trusted &&
        !emb_names_allow(config->allowed_models, names, 3))
        status = refuse(w->name, err);
    bool own = false;
    while (status == EMB_E_NOT_FOUND && is_name && may_pull && !own) {
        status = fetch(models, w, fetched, &own, err);
        if (status)
            break;
        pthread_mutex_lock(&models->lock);
        fetched = models->pulls_fetched;
        pthread_mutex_unlock(&models->lock);
        status =
            emb_names_locate(w->name, models->search_path, config->allowed_models, w->trusted, path, err);
    }
    if (status == EMB_E_NOT_FOUND && is_name && may_pull && err)
        strcpy(err->where, "model");
    emb_config_release(config);
    return status;
}

/* The long way. On success the entry's instance is held. */
static emb_status acquire_slowly(emb_models *models, const wanted *w, emb_entry **out, emb_error *err)
{
    char *path = NULL;
    emb_entry *entry = NULL;
    emb_status status = given_up(w->cancel, w->deadline_ns, emb_now_ns(), err);
    if (!status)
        status = find_path(models, w, &path, err);
    if (!status)
        status = entry_of_path(models, w->name, path, w->trusted, &entry, err);
    if (!status && !atomic_load(&entry->allowed))
        status = refuse(w->name, err);
    if (!status)
        status = entry_open(models, entry, w->cancel, w->deadline_ns, err);
    if (status)
        return status;
    pthread_mutex_lock(&models->lock);
    emb_alias_set(models, w->name, entry);
    pthread_mutex_unlock(&models->lock);
    *out = entry;
    return EMB_OK;
}

/* The entry that a name stands for, if it is known. */
static emb_entry *find_entry(emb_models *models, const char *name)
{
    return name && *name ? emb_alias_find(models, name)
                         : atomic_load_explicit(&models->default_entry, memory_order_acquire);
}

emb_served *emb_models_try_acquire(emb_models *models, const char *name)
{
    emb_entry *entry = find_entry(models, name);
    if (!entry || !atomic_load_explicit(&entry->allowed, memory_order_relaxed) || !emb_entry_hold(entry))
        return NULL;
    return &entry->instance->served;
}

emb_status emb_models_acquire_until(emb_models *models, const char *name, const volatile int *cancel,
                                    uint64_t deadline_ns, emb_served **out, emb_error *err)
{
    *out = emb_models_try_acquire(models, name);
    if (*out)
        return EMB_OK;
    bool is_default = !name || !*name || strcmp(name, models->default_name) == 0;
    const wanted w = {.name = is_default ? models->default_name : name,
                      .trusted = is_default,
                      .may_pull = true,
                      .cancel = cancel,
                      .deadline_ns = deadline_ns};
    emb_entry *entry;
    emb_status status = acquire_slowly(models, &w, &entry, err);
    if (status)
        return status;
    if (is_default)
        atomic_store_explicit(&models->default_entry, entry, memory_order_release);
    *out = &entry->instance->served;
    return EMB_OK;
}

emb_status emb_models_acquire(emb_models *models, const char *name, const volatile int *cancel,
                              emb_served **out, emb_error *err)
{
    return emb_models_acquire_until(models, name, cancel, 0, out, err);
}

emb_status emb_models_pin(emb_models *models, const char *name, bool may_pull, const volatile int *cancel,
                          emb_error *err)
{
    const wanted w = {.name = name, .trusted = true, .may_pull = may_pull, .cancel = cancel};
    emb_entry *entry;
    emb_status status = acquire_slowly(models, &w, &entry, err);
    if (status)
        return status;
    if (strcmp(name, models->default_name) == 0)
        atomic_store_explicit(&models->default_entry, entry, memory_order_release);
    emb_models_release(&entry->instance->served);
    return EMB_OK;
}

/* ---- life ------------------------------------------------------------------------------------ */

static emb_status init_waiting(emb_models *models, emb_error *err)
{
    pthread_condattr_t attributes;
    if (pthread_mutex_init(&models->lock, NULL) || pthread_condattr_init(&attributes))
        return emb_fail_nomem(err, "lock", sizeof models->lock);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&models->changed, &attributes);
    pthread_cond_init(&models->idle_changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return EMB_OK;
}

/* models.path, and the hub's cache where the configuration alone says where it is. */
static emb_status make_search_path(const emb_config *config, char **out, emb_error *err)
{
    const char *home = getenv("HF_HOME");
    bool add_hub =
        *config->hf_home && !getenv("HF_HUB_CACHE") && (!home || strcmp(home, config->hf_home) != 0);
    emb_buf path = EMB_BUF_INIT(1 << 20);
    emb_status status = emb_buf_add_str(&path, config->models_path);
    if (!status && add_hub)
        status = emb_buf_addf(&path, "%s%s/hub", *config->models_path ? ":" : "", config->hf_home);
    const char *text = status ? NULL : emb_buf_cstr(&path);
    *out = text ? strdup(text) : NULL;
    emb_buf_fini(&path);
    return *out ? EMB_OK : emb_fail_nomem(err, "path of the models", strlen(config->models_path));
}

emb_status emb_models_open(emb_engine *engine, emb_config *config, emb_metrics *metrics, emb_models **out,
                           emb_error *err)
{
    *out = NULL;
    emb_models *models = calloc(1, sizeof *models);
    if (!models)
        return emb_fail_nomem(err, "registry of models", sizeof *models);
    emb_status status = init_waiting(models, err);
    if (status) {
        free(models);
        return status;
    }
    models->engine = engine;
    models->metrics = metrics;
    models->config = emb_config_retain(config);
    models->puller = emb_models_pull_from_hub;
    models->precision = (emb_precision)config->precision; /* the choices stand in the order of the enum */
    models->memory_limit = config->model_memory ? config->model_memory : emb_half_of_memory();
    models->loads_ok = emb_metrics_series(metrics, EMB_METRIC_MODEL_LOADS, "all", "ok");
    models->loads_failed = emb_metrics_series(metrics, EMB_METRIC_MODEL_LOADS, "all", "failed");
    models->unloads = emb_metrics_series(metrics, EMB_METRIC_MODEL_LOADS, "all", "unloaded");
    models->loaded = emb_metrics_series(metrics, EMB_METRIC_MODELS_LOADED);
    models->default_name = strdup(config->model);
    models->key_namespace = strdup(config->cache_namespace);
    status = models->default_name && models->key_namespace
                 ? make_search_path(config, &models->search_path, err)
                 : emb_fail_nomem(err, "name of the default model", strlen(config->model));
    if (!status)
        status = emb_models_start_idle(models, err);
    if (status)
        emb_models_close(models);
    else
        *out = models;
    return status;
}

void emb_models_close(emb_models *models)
{
    if (!models)
        return;
    emb_models_stop_idle(models);
    pthread_mutex_lock(&models->lock);
    emb_pulls_end(models);
    pthread_mutex_unlock(&models->lock);
    emb_aliases_free(models);
    for (emb_entry *entry = models->entries; entry;) {
        emb_entry *next = entry->next;
        emb_instance_close(entry->instance);
        entry_free(entry);
        entry = next;
    }
    pthread_cond_destroy(&models->changed);
    pthread_cond_destroy(&models->idle_changed);
    pthread_mutex_destroy(&models->lock);
    emb_config_release(models->config);
    free(models->default_name);
    free(models->key_namespace);
    free(models->search_path);
    free(models);
}

void emb_models_reconfigure(emb_models *models, emb_config *config)
{
    pthread_mutex_lock(&models->lock);
    emb_config *old = models->config;
    models->config = emb_config_retain(config);
    models->memory_limit = config->model_memory ? config->model_memory : emb_half_of_memory();
    for (emb_entry *entry = models->entries; entry; entry = entry->next)
        atomic_store(&entry->allowed, is_allowed(models, entry));
    pthread_cond_broadcast(&models->idle_changed);
    pthread_mutex_unlock(&models->lock);
    emb_config_release(old);
    emb_models_make_room(models);
}

void emb_models_set_puller(emb_models *models, emb_models_puller puller, void *context)
{
    pthread_mutex_lock(&models->lock);
    models->puller = puller;
    models->puller_context = context;
    pthread_mutex_unlock(&models->lock);
}

size_t emb_models_loaded(emb_models *models)
{
    size_t count = 0;
    pthread_mutex_lock(&models->lock);
    for (const emb_entry *entry = models->entries; entry; entry = entry->next)
        count += atomic_load(&entry->weight_bytes) > 0;
    pthread_mutex_unlock(&models->lock);
    return count;
}

const char *emb_models_default_name(emb_models *models)
{
    const emb_entry *entry = atomic_load_explicit(&models->default_entry, memory_order_acquire);
    return entry ? entry->name : models->default_name;
}
