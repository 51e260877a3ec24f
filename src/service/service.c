/*
 * A service's life: engine, registry of models, cache and configuration, opened in this order and closed in
 * the other.
 *
 * Settings that can change while running are taken over by emb_service_reconfigure; a request that runs keeps
 * the configuration that it retained. The cache is opened when caching is first on, and from then on stays:
 * turning caching off only stops its use, so that requests never see it go.
 *
 * A default model that is not here is an error at start, unless it may be fetched: then the service opens,
 * and warming fetches it.
 */
#include "base/clock.h"
#include "base/error.h"
#include "service/service_parts.h"
#include "service/storage.h"
#include "service/warm.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { DEVICE_CUDA = 2, LIST_NAME_MAX = 4096 };

/* ---- configuration --------------------------------------------------------------------------- */

static pthread_mutex_t *own_config_lock(emb_service *service)
{
    static atomic_uint threads;
    static _Thread_local unsigned mine; /* 0: none yet */
    if (!mine)
        mine = atomic_fetch_add(&threads, 1) + 1;
    return &service->config_locks[mine % EMB_CONFIG_LOCKS].mutex;
}

emb_config *emb_service_config(emb_service *service)
{
    pthread_mutex_t *lock = own_config_lock(service);
    pthread_mutex_lock(lock);
    emb_config *config = emb_config_retain(service->config);
    pthread_mutex_unlock(lock);
    return config;
}

static void swap_config(emb_service *service, emb_config *config)
{
    for (size_t i = 0; i < EMB_CONFIG_LOCKS; i++)
        pthread_mutex_lock(&service->config_locks[i].mutex);
    emb_config *old = service->config;
    service->config = emb_config_retain(config);
    for (size_t i = EMB_CONFIG_LOCKS; i-- > 0;)
        pthread_mutex_unlock(&service->config_locks[i].mutex);
    emb_config_release(old);
}

static void take_settings(emb_service *service, const emb_config *config)
{
    atomic_store(&service->caching, config->enable_caching);
    atomic_store(&service->monitoring, config->enable_monitoring);
    atomic_store(&service->ttl_s, config->ttl_local);
    atomic_store(&service->ttl_api_s, config->ttl_api);
    atomic_store(&service->bulk_from, config->batch_size_threshold);
    atomic_store(&service->max_inputs, config->max_inputs);
}

static emb_status open_cache(emb_service *service, const emb_config *config, emb_error *err)
{
    emb_cache *cache;
    const emb_storage_options options = {.config = config, .metrics = service->metrics, .l1 = true};
    emb_status status = emb_storage_open_cache(&options, &cache, err);
    if (!status)
        atomic_store_explicit(&service->cache, cache, memory_order_release);
    return status;
}

void emb_service_reconfigure(emb_service *service, emb_config *config)
{
    emb_error err;
    pthread_mutex_lock(&service->reconfiguring);
    emb_cache *cache = atomic_load(&service->cache);
    const emb_storage_options storage = {.config = config, .metrics = service->metrics, .l1 = true};
    emb_cache_options options;
    emb_storage_cache_options(&storage, &options);
    if (cache)
        emb_cache_adjust(cache, &options);
    else if (config->enable_caching && open_cache(service, config, &err))
        emb_log(EMB_LOG_WARN, "the cache could not be opened", EMB_LOG_TEXT("error", err.message));
    take_settings(service, config);
    swap_config(service, config);
    emb_models_reconfigure(service->models, config);
    emb_kit_reconfigure(service, config);
    pthread_mutex_unlock(&service->reconfiguring);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Whether requests that name no model go to a provider: then the local one is a fallback, and may be
 * missing. */
static bool is_remote_by_default(const emb_config *config)
{
    return config->gateway.provider_count && strcasecmp(config->provider, "local") != 0;
}

static emb_status open_engine(emb_service *service, const emb_config *config, emb_error *err)
{
    emb_engine_options options = EMB_ENGINE_OPTIONS_INIT;
    if (config->device == DEVICE_CUDA)
        return emb_fail(
            err, EMB_E_UNSUPPORTED, "models.device",
            "models.device is cuda, but this version computes on the CPU only; choose auto or cpu");
    options.threads = (unsigned)config->threads;
    options.batch_tokens = config->max_batch_tokens;
    options.models_path = config->models_path;
    emb_status status = emb_engine_open(&options, &service->engine, err);
    /* said here and not by the search for the default model, which would name folders to look in */
    if (!status && strcmp(emb_engine_isa(service->engine), "none") == 0 && !is_remote_by_default(config))
        return emb_fail(
            err, EMB_E_UNSUPPORTED, "providers.default",
            "this build of embedd has no local models, and no provider is the default: set "
            "EMBEDDING_PROVIDER "
            "(providers.default) to one, such as openai with OPENAI_API_KEY, or take the full build");
    return status;
}

static emb_status pin_default(emb_service *service, const emb_config *config, emb_error *err)
{
    emb_status status = emb_models_pin(service->models, config->model, false, NULL, err);
    if (status && is_remote_by_default(config)) {
        emb_log(EMB_LOG_WARN, "the local model is not here: what a provider cannot answer fails",
                EMB_LOG_TEXT("model", config->model), EMB_LOG_TEXT("error", err->message));
        return EMB_OK;
    }
    if (status != EMB_E_NOT_FOUND || !config->pull)
        return status;
    emb_log(EMB_LOG_INFO, "the default model is not here and will be fetched",
            EMB_LOG_TEXT("model", config->model));
    return EMB_OK;
}

typedef struct source_check {
    emb_status status;
    emb_error *err;
} source_check;

/* An item of cache.warm: a list that ships, or a file. */
static bool check_source(void *context, const char *item, size_t length)
{
    source_check *check = context;
    char name[LIST_NAME_MAX];
    if (length >= sizeof name) {
        check->status =
            emb_fail(check->err, EMB_E_INVALID, "cache.warm", "an item is %zu bytes long", length);
        return false;
    }
    memcpy(name, item, length);
    name[length] = 0;
    if (!emb_term_list_find(name) && access(name, R_OK))
        check->status = emb_fail(
            check->err, EMB_E_INVALID, "cache.warm",
            "cache.warm: \"%.300s\" is neither a list that ships (%s, …) nor a file that can be read", name,
            emb_term_list_at(0)->name);
    return !check->status;
}

static emb_status open_parts(emb_service *service, emb_config *config, emb_error *err)
{
    source_check check = {.err = err};
    emb_config_each(config->warm, check_source, &check);
    emb_status status = check.status;
    if (!status)
        status = open_engine(service, config, err);
    if (!status)
        status = emb_models_open(service->engine, config, service->metrics, &service->models, err);
    if (!status)
        status = pin_default(service, config, err);
    if (!status)
        status = emb_kit_open(service, config, err);
    if (!status)
        status = emb_gateway_open(service, config, &service->gateway, err);
    if (!status && config->enable_caching)
        status = open_cache(service, config, err);
    return status;
}

emb_status emb_service_open(emb_config *config, emb_metrics *metrics, emb_service **out, emb_error *err)
{
    *out = NULL;
    emb_service *service = aligned_alloc(_Alignof(emb_service), sizeof *service);
    if (!service)
        return emb_fail_nomem(err, "service", sizeof *service);
    memset(service, 0, sizeof *service);
    for (size_t i = 0; i < EMB_CONFIG_LOCKS; i++)
        pthread_mutex_init(&service->config_locks[i].mutex, NULL);
    pthread_mutex_init(&service->reconfiguring, NULL);
    service->metrics = metrics;
    service->config = emb_config_retain(config);
    take_settings(service, config);
    atomic_store(&service->counts.since_ns, emb_now_ns());
    emb_status status = open_parts(service, config, err);
    if (status)
        emb_service_close(service);
    else
        *out = service;
    return status;
}

void emb_service_close(emb_service *service)
{
    if (!service)
        return;
    emb_kit_stop(service);
    emb_cache *cache = atomic_load(&service->cache);
    if (cache)
        emb_cache_close(cache);
    emb_gateway_close(service->gateway);
    emb_kit_close(service);
    emb_models_close(service->models);
    emb_engine_close(service->engine);
    emb_config_release(service->config);
    for (size_t i = 0; i < EMB_CONFIG_LOCKS; i++)
        pthread_mutex_destroy(&service->config_locks[i].mutex);
    pthread_mutex_destroy(&service->reconfiguring);
    free(service);
}

/* ---- warming up ------------------------------------------------------------------------------ */

typedef struct warming {
    emb_service *service;
    const volatile int *stop;
    emb_status status;
    emb_error *err;
} warming;

static bool is_stopped(const volatile int *stop)
{
    return stop && __atomic_load_n(stop, __ATOMIC_RELAXED);
}

/* Loads a model and runs a text through it, past cache and counters. */
static emb_status load_model(warming *w, const char *name)
{
    static const emb_text text = {"warm", 4};
    emb_served *served;
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
    emb_status status = emb_models_pin(w->service->models, name, true, w->stop, w->err);
    if (!status)
        status = emb_models_acquire(w->service->models, name, w->stop, &served, w->err);
    if (status)
        return status;
    size_t dimension = served->info.dimension;
    float *vector = malloc(dimension * sizeof *vector);
    options.cancel = w->stop;
    status = vector ? emb_embed(served->model, &text, 1, &options, vector, dimension, NULL, w->err)
                    : emb_fail_nomem(w->err, "vector", dimension * sizeof *vector);
    free(vector);
    if (!status)
        status = emb_models_confirm(w->service->models, served, w->err);
    if (!status)
        emb_models_used(w->service->models, served);
    emb_models_release(served);
    return status;
}

/* Sleeps for so long, or until the stop; whether it may go on. */
static bool pause_unless_stopped(const volatile int *stop, unsigned seconds)
{
    const struct timespec moment = {.tv_nsec = 100000000};
    for (unsigned i = 0; i < 10 * seconds && !is_stopped(stop); i++)
        nanosleep(&moment, NULL);
    return !is_stopped(stop);
}

/* A service that waits for its model is of more use than one that has given up: what may pass, such as a hub
 * that does not answer, is tried again until the stop. */
static emb_status load_patiently(warming *w, const char *name)
{
    emb_status status = load_model(w, name);
    for (unsigned wait_s = 1; status == EMB_E_IO || status == EMB_E_BUSY;
         wait_s = wait_s < 30 ? 2 * wait_s : 60) {
        emb_log(EMB_LOG_WARN, "a model could not be loaded and will be tried again",
                EMB_LOG_TEXT("model", name), EMB_LOG_TEXT("error", w->err->message),
                EMB_LOG_INT("seconds", wait_s));
        if (!pause_unless_stopped(w->stop, wait_s))
            return emb_fail(w->err, EMB_E_CANCELLED, NULL, "stopped");
        status = load_model(w, name);
    }
    return status;
}

static bool load_each(void *context, const char *item, size_t length)
{
    warming *w = context;
    char name[LIST_NAME_MAX];
    if (length >= sizeof name) {
        w->status = emb_fail(w->err, EMB_E_INVALID, "models.preload", "a name is %zu bytes long", length);
        return false;
    }
    memcpy(name, item, length);
    name[length] = 0;
    w->status =
        is_stopped(w->stop) ? emb_fail(w->err, EMB_E_CANCELLED, NULL, "stopped") : load_patiently(w, name);
    return !w->status;
}

/* A list that cannot be embedded is reported; the service works without. */
static bool warm_each(void *context, const char *item, size_t length)
{
    warming *w = context;
    char name[LIST_NAME_MAX];
    emb_error err;
    emb_warm_report report;
    if (length >= sizeof name || is_stopped(w->stop))
        return false;
    memcpy(name, item, length);
    name[length] = 0;
    bool ships = emb_term_list_find(name) != NULL;
    emb_warm_source source = {.list = ships ? name : NULL, .file = ships ? NULL : name};
    emb_status status =
        emb_warm(w->service, &source, NULL, EMB_ROLE_NONE, NULL, NULL, w->stop, &report, &err);
    if (status && status != EMB_E_CANCELLED)
        emb_log(EMB_LOG_WARN, "a list could not be embedded", EMB_LOG_TEXT("list", name),
                EMB_LOG_TEXT("error", err.message));
    else
        emb_log(EMB_LOG_INFO, "list embedded", EMB_LOG_TEXT("list", name), EMB_LOG_INT("texts", report.texts),
                EMB_LOG_INT("cached", report.cached), EMB_LOG_INT("failed", report.failed));
    return true;
}

emb_status emb_service_warm_up(emb_service *service, const volatile int *stop, emb_error *err)
{
    emb_config *config = emb_service_config(service);
    emb_error local;
    warming w = {.service = service, .stop = stop, .err = err ? err : &local};
    load_each(&w, config->model, strlen(config->model));
    if (w.status && w.status != EMB_E_CANCELLED && is_remote_by_default(config))
        w.status = EMB_OK; /* told at start */
    if (!w.status)
        emb_config_each(config->preload_models, load_each, &w);
    if (!w.status && atomic_load(&service->caching))
        emb_config_each(config->warm, warm_each, &w);
    emb_config_release(config);
    if (!w.status && is_stopped(stop))
        w.status = emb_fail(err, EMB_E_CANCELLED, NULL, "stopped");
    if (!w.status)
        atomic_store(&service->ready, true);
    return w.status;
}

/* ---- what it is made of ---------------------------------------------------------------------- */

bool emb_service_ready(const emb_service *service)
{
    return atomic_load(&service->ready);
}

emb_cache *emb_service_cache(emb_service *service)
{
    return atomic_load(&service->caching) ? atomic_load_explicit(&service->cache, memory_order_acquire)
                                          : NULL;
}

emb_metrics *emb_service_metrics(emb_service *service)
{
    return service->metrics;
}

emb_models *emb_service_models(emb_service *service)
{
    return service->models;
}
