/*
 * Models that a request names and that are not here: fetched from the hub when models.pull is on.
 *
 * A fetch takes minutes, a request has seconds. So it runs in a thread of its own, goes on when the request that began
 * it has given up, and all requests for that model wait for the one fetch. At most PULLS_MAX run at a time; what is
 * asked for beyond that is EMB_E_BUSY. A fetch that failed is forgotten once those who waited have seen why: the next
 * request begins another one, which goes on where it stopped.
 */
#include "base/error.h"
#include "base/log.h"
#include "service/models_parts.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PULLS_MAX = 4 };

static void *run_pull(void *context)
{
    emb_pull *pull = context;
    emb_models *models = pull->models;
    emb_error error = {0};
    pthread_mutex_lock(&models->lock);
    emb_config *config = emb_config_retain(models->config);
    emb_models_puller puller = models->puller;
    void *puller_context = models->puller_context;
    pthread_mutex_unlock(&models->lock);
    emb_log(EMB_LOG_INFO, "fetching a model", EMB_LOG_TEXT("model", pull->name));
    emb_status status = puller(puller_context, config, pull->name, &models->closing, &error);
    emb_config_release(config);
    if (status)
        emb_log(EMB_LOG_WARN, "a model could not be fetched", EMB_LOG_TEXT("model", pull->name),
                EMB_LOG_TEXT("error", error.message));
    else
        emb_log(EMB_LOG_INFO, "model fetched", EMB_LOG_TEXT("model", pull->name));
    pthread_mutex_lock(&models->lock);
    pull->status = status;
    pull->error = error;
    pull->done = true;
    models->pulls_running--;
    pthread_cond_broadcast(&models->changed);
    pthread_mutex_unlock(&models->lock);
    return NULL;
}

/* (locked) Releases the fetches that ended and that nobody waits for. */
static void sweep(emb_models *models)
{
    for (emb_pull **at = &models->pulls; *at;) {
        emb_pull *pull = *at;
        if (!pull->done || pull->waiting) {
            at = &pull->next;
            continue;
        }
        *at = pull->next;
        pthread_join(pull->thread, NULL); /* it took its last lock already */
        free(pull->name);
        free(pull);
    }
}

static emb_status begin(emb_models *models, const char *name, emb_pull **out, emb_error *err)
{
    if (models->pulls_running >= PULLS_MAX)
        return emb_fail(err, EMB_E_BUSY, "model", "%s has to be fetched first, and %d models are being fetched", name,
                        PULLS_MAX);
    emb_pull *pull = calloc(1, sizeof *pull);
    char *copy = pull ? strdup(name) : NULL;
    if (!copy) {
        free(pull);
        return emb_fail_nomem(err, "fetch of a model", sizeof *pull);
    }
    pull->models = models;
    pull->name = copy;
    if (pthread_create(&pull->thread, NULL, run_pull, pull) != 0) {
        free(copy);
        free(pull);
        return emb_fail(err, EMB_E_NOMEM, NULL, "the thread that fetches a model cannot be started");
    }
    models->pulls_running++;
    pull->next = models->pulls;
    models->pulls = pull;
    *out = pull;
    return EMB_OK;
}

emb_status emb_pull_wait(emb_models *models, const char *name, const volatile int *cancel, uint64_t deadline_ns,
                         emb_error *err)
{
    emb_status status = EMB_OK;
    sweep(models);
    emb_pull *pull = models->pulls;
    while (pull && (pull->done || strcasecmp(pull->name, name) != 0))
        pull = pull->next;
    if (!pull && (status = begin(models, name, &pull, err)))
        return status;
    pull->waiting++;
    while (!pull->done && !status)
        status = emb_models_wait(models, cancel, deadline_ns, err);
    pull->waiting--;
    if (status)
        return emb_error_context(err, "%s is being fetched from the hub", name);
    if (pull->status) {
        status = pull->status;
        if (err)
            *err = pull->error;
    }
    sweep(models);
    return status;
}

void emb_pulls_end(emb_models *models)
{
    __atomic_store_n(&models->closing, 1, __ATOMIC_RELAXED);
    for (;;) {
        sweep(models);
        if (!models->pulls)
            return;
        pthread_cond_wait(&models->changed, &models->lock);
    }
}
