/*
 * models.h: the models that are served: found by name, loaded when first needed, unloaded when memory is
 * short.
 *
 *     emb_served *m;
 *     if ((st = emb_models_acquire(models, "bge-small-en-v1.5", cancel, &m, err))) return st;
 *     emb_embed(m->model, …);
 *     emb_models_release(m);
 *
 * A name is looked up as embedd.h says, but one from a request is never taken for a path, unless a pattern of
 * `models.allowed` that is a path lets it; the default and the preloaded may be any path. With `models.pull`
 * on, a name that is nowhere is fetched from the hub (one fetch at a time for a name; others wait).
 * `models.allowed` bounds what may be opened. A model is opened with its configuration alone; weights come
 * with the first text. When weights in memory pass `models.memory`, the least recently used model that nobody
 * holds, that is neither the default nor preloaded, is closed. Thread-safe.
 *
 * revision: the hub's commit for a model in the hub cache, otherwise a fingerprint of its files (12 hex
 * digits of SHA-256 over the small files, and of the weight files their size, header and 256 blocks spread
 * over them): a vector computed with other files is never taken for one of these. space: names what makes
 * vectors comparable, "local/all-MiniLM-L6-v2@1f2e3d4c5b6a:384:mean:l2".
 */
#ifndef EMB_SERVICE_MODELS_H
#define EMB_SERVICE_MODELS_H

#include "base/arena.h"
#include "cache/key.h"
#include "config/config.h"
#include "metrics/metrics.h"

typedef struct emb_models emb_models;

/* What is counted of a model, here or at a provider. */
typedef struct emb_model_series {
    emb_series *texts_l1, *texts_l2, *texts_computed, *texts_shared, *tokens, *batch_texts, *batch_tokens;
    emb_series *seconds_l1, *seconds_l2, *seconds_computed, *queue_seconds, *tokenize_seconds,
        *compute_seconds;
} emb_model_series;
void emb_model_series_make(emb_metrics *metrics, const char *model, emb_model_series *out);

typedef struct emb_served {
    emb_model *model;
    const char *name; /* canonical: without organisation for the catalog's models, else as the hub names it */
    const char *repository; /* "sentence-transformers/all-MiniLM-L6-v2" if known, else name */
    const char *revision;
    emb_model_info info;
    bool can_rerank, can_sparse; /* false in this version for all models */
    emb_model_series series;
} emb_served;

EMB_MUST_CHECK emb_status emb_models_open(emb_engine *engine, emb_config *config, emb_metrics *metrics,
                                          emb_models **out, emb_error *err);
void emb_models_close(emb_models *models); /* nothing may be held */
void emb_models_reconfigure(emb_models *models, emb_config *config);

/* name NULL or "": the default. EMB_E_NOT_FOUND names what is near; EMB_E_UNSUPPORTED: not in models.allowed,
 * with where = "model". */
EMB_MUST_CHECK emb_status emb_models_acquire(emb_models *models, const char *name, const volatile int *cancel,
                                             emb_served **out, emb_error *err);
/* The same for a caller that must not wait: NULL if the model is not open. */
emb_served *emb_models_try_acquire(emb_models *models, const char *name);
void emb_models_release(emb_served *served); /* takes NULL */
/* Notes that its weights are in memory now, and makes room if they are too many. Called after each
 * computation. */
void emb_models_used(emb_models *models, emb_served *served);

/* The space's name for these settings, in the arena; NULL when memory is short. */
const char *emb_served_space(const emb_served *served, size_t dimensions, emb_pooling pooling,
                             emb_switch normalize, emb_arena *arena);

/* What can be served: open models first, then those found on disk that are allowed; strings live in the
 * arena. */
typedef struct emb_model_listing {
    const char *name, *repository, *provider, *path, *revision; /* revision "" while not open */
    bool open, loaded, is_default;
    size_t dimension,
        max_tokens; /* from the model if open, else from its directory or the catalog; 0: unknown */
    uint64_t price_nusd_per_1k, weight_bytes;
    int64_t created; /* seconds since 1970: when its files were last changed */
} emb_model_listing;
EMB_MUST_CHECK emb_status emb_models_list(emb_models *models, emb_arena *arena, emb_model_listing **out,
                                          size_t *count, emb_error *err);
size_t emb_models_loaded(emb_models *models);
const char *emb_models_default_name(emb_models *models);

#endif
