/*
 * Models that a request names and that are not here: fetched from the hub when models.pull is on.
 *
 * A fetch takes minutes, a request has seconds. So it runs in a thread of its own, goes on when the request
 * that began it has given up, and all requests for that model wait for the one fetch. At most PULLS_MAX run
 * at a time; what is asked for beyond that is EMB_E_BUSY. A fetch that failed is forgotten once those who
 * waited have seen why: the next request begins another one, which goes on where it stopped. That the hub has
 * no such model is remembered for ABSENT_NS, so that a client with a wrong name does not become a stream of
 * questions to the hub.
 *
 * Only names that the hub could know are fetched: those of the catalog, and ORG/NAME.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "hub/hub.h"
#include "model/catalog.h"
#include "service/models_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PULLS_MAX = 4, ABSENT_MAX = 256 };
#define ABSENT_NS UINT64_C(60000000000)

bool emb_pull_is_possible(const char *name)
{
    const emb_catalog_entry *known = emb_catalog_find(name);
    const char *slash = strchr(name, '/');
    return known ? known->repository != NULL : slash && slash > name && slash[1] && !strchr(slash + 1, '/');
}

emb_status emb_models_pull_from_hub(void *context, const emb_config *config, const char *name,
                                    const volatile int *cancel, emb_error *err)
{
    (void)context;
    emb_hub_options options = EMB_HUB_OPTIONS_INIT;
    emb_hub_result result;
    char *cache = NULL;
    if (*config->hf_home && !getenv("HF_HUB_CACHE") && asprintf(&cache, "%s/hub", config->hf_home) < 0)
        return emb_fail_nomem(err, "path of the hub's cache", strlen(config->hf_home));
    options.name = name;
    options.endpoint = config->hf_endpoint;
    options.token = *config->hf_token ? config->hf_token : NULL;
    options.offline = config->hf_offline;
    options.cache_directory = cache;
    options.cancel = cancel;
    emb_status status = emb_hub_pull(&options, &result, err);
    if (!status)
        emb_hub_result_fini(&result);
    free(cache);
    return status;
}

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
    pull->ended_ns = emb_now_ns();
    models->pulls_running--;
    models->pulls_fetched += !status;
    pthread_cond_broadcast(&models->changed);
    pthread_mutex_unlock(&models->lock);
    return NULL;
}

/* Whether the hub said not long ago that there is no such model. */
static bool is_absent(const emb_pull *pull, uint64_t now)
{
    return pull->done && pull->status == EMB_E_NOT_FOUND && now - pull->ended_ns < ABSENT_NS;
}

/* (locked) Releases the fetches that ended and that nobody waits for; `all`: with what is remembered of them.
 */
static void sweep(emb_models *models, bool all)
{
    uint64_t now = emb_now_ns();
    size_t kept = 0;
    for (emb_pull **at = &models->pulls; *at;) { /* the newest first */
        emb_pull *pull = *at;
        if (!pull->done || pull->waiting || (!all && is_absent(pull, now) && kept++ < ABSENT_MAX)) {
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
        return emb_fail(err, EMB_E_BUSY, "model",
                        "%s has to be fetched first, and %d models are being fetched", name, PULLS_MAX);
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

/* (locked) The fetch of this model that runs, or the one that found the hub to have none. */
static emb_pull *find(emb_models *models, const char *name)
{
    uint64_t now = emb_now_ns();
    emb_pull *pull = models->pulls;
    while (pull && ((pull->done && !is_absent(pull, now)) || strcasecmp(pull->name, name) != 0))
        pull = pull->next;
    return pull;
}

emb_status emb_pull_wait(emb_models *models, const char *name, const volatile int *cancel,
                         uint64_t deadline_ns, emb_error *err)
{
    emb_status status = EMB_OK;
    sweep(models, false);
    emb_pull *pull = find(models, name);
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
    sweep(models, false);
    return status;
}

void emb_pulls_end(emb_models *models)
{
    __atomic_store_n(&models->closing, 1, __ATOMIC_RELAXED);
    for (;;) {
        sweep(models, true);
        if (!models->pulls)
            return;
        pthread_cond_wait(&models->changed, &models->lock);
    }
}
