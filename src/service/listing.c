/*
 * What can be served: the open models, then those on disk that may be opened. A model that lies in several
 * places is listed once, as a lookup would find it. What is not open says little about itself without being
 * opened; dimension and limit come from the catalog, else from its configuration files, which takes a
 * millisecond each.
 */
#include "base/error.h"
#include "engine/locate.h"
#include "model/catalog.h"
#include "model/spec.h"
#include "service/models_parts.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct listing {
    emb_models *models;
    const char *patterns;
    emb_arena *arena;
    emb_model_listing *rows;
    size_t count, capacity;
    emb_status status;
} listing;

static const char *copy(listing *l, const char *text)
{
    const char *copied = emb_arena_strndup(l->arena, text, strlen(text));
    if (!copied)
        l->status = EMB_E_NOMEM;
    return copied;
}

static emb_model_listing *add_row(listing *l)
{
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 16;
        emb_model_listing *rows = emb_arena_calloc(l->arena, capacity, sizeof *rows);
        if (!rows) {
            l->status = EMB_E_NOMEM;
            return NULL;
        }
        if (l->count)
            memcpy(rows, l->rows, l->count * sizeof *rows);
        l->rows = rows;
        l->capacity = capacity;
    }
    return &l->rows[l->count++];
}

static int64_t changed_at(const char *path)
{
    static const char *const files[] = {"config.json", "modules.json", "model.safetensors"};
    char file[PATH_MAX];
    struct stat info;
    int64_t newest = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int n = snprintf(file, sizeof file, "%s/%s", path, files[i]);
        if (n > 0 && n < PATH_MAX && stat(file, &info) == 0 && info.st_mtim.tv_sec > newest)
            newest = info.st_mtim.tv_sec;
    }
    return newest;
}

static void fill_common(listing *l, emb_model_listing *row, const char *name, const char *repository,
                        const char *path)
{
    const emb_catalog_entry *known = emb_catalog_find(name);
    row->name = copy(l, name);
    row->repository = copy(l, repository);
    row->path = copy(l, path);
    row->provider = "local";
    row->price_nusd_per_1k = known ? known->price_nusd_per_1k : 0;
    row->created = changed_at(path);
    row->revision = "";
}

/* ---- open models ----------------------------------------------------------------------------- */

static void add_open(listing *l, emb_entry *entry)
{
    if (!emb_entry_hold(entry))
        return;
    const emb_served *served = &entry->instance->served;
    emb_model_info info = EMB_MODEL_INFO_INIT;
    emb_model_listing *row = add_row(l);
    if (row) {
        fill_common(l, row, served->name, served->repository, entry->path);
        emb_model_get_info(served->model, &info);
        row->revision = copy(l, served->revision);
        row->open = true;
        row->loaded = info.weight_bytes > 0;
        row->weight_bytes = info.weight_bytes;
        row->dimension = info.dimension;
        row->max_tokens = info.max_tokens;
        row->is_default = entry == atomic_load(&l->models->default_entry);
    }
    emb_models_release((emb_served *)served);
}

/* ---- models on disk -------------------------------------------------------------------------- */

static bool is_listed(const listing *l, const char *name, const char *path)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->rows[i].name, name) == 0 || strcmp(l->rows[i].path, path) == 0)
            return true;
    return false;
}

static void fill_from_disk(emb_model_listing *row, const char *name, const char *path)
{
    emb_model_spec spec;
    const emb_catalog_entry *known = emb_catalog_find(name);
    if (known) {
        row->dimension = known->dimension;
        row->max_tokens = known->max_tokens;
    } else if (emb_model_spec_read(&spec, path, NULL) == EMB_OK) {
        row->dimension = spec.dimension;
        row->max_tokens = spec.max_tokens;
        emb_model_spec_fini(&spec);
    }
}

static bool add_found(void *context, const char *found, const char *where)
{
    listing *l = context;
    char *path = realpath(where, NULL), *name = NULL, *repository = NULL, commit[EMB_REVISION_MAX];
    if (!path)
        return true;
    if (emb_names_canonical(found, path, &name, &repository, commit, NULL)) {
        free(path);
        l->status = EMB_E_NOMEM;
        return false;
    }
    const char *names[] = {name, repository, path};
    if (emb_names_allow(l->patterns, names, 3) && !is_listed(l, name, path)) {
        emb_model_listing *row = add_row(l);
        if (row) {
            fill_common(l, row, name, repository, path);
            fill_from_disk(row, name, path);
        }
    }
    free(path);
    free(name);
    free(repository);
    return l->status == EMB_OK;
}

emb_status emb_models_list(emb_models *models, emb_arena *arena, emb_model_listing **out, size_t *count,
                           emb_error *err)
{
    *out = NULL;
    *count = 0;
    pthread_mutex_lock(&models->lock);
    emb_config *config = emb_config_retain(models->config);
    emb_entry *entries = models->entries; /* further ones come in front; none goes */
    pthread_mutex_unlock(&models->lock);
    listing l = {.models = models, .patterns = config->allowed_models, .arena = arena};
    for (emb_entry *entry = entries; entry && !l.status; entry = entry->next)
        if (atomic_load(&entry->allowed))
            add_open(&l, entry);
    emb_status status = l.status ? l.status : emb_locate_each(models->search_path, add_found, &l, err);
    emb_config_release(config);
    if (!status)
        status = l.status;
    if (status)
        return emb_fail_nomem(err, "list of models", l.count * sizeof *l.rows);
    *out = l.rows;
    *count = l.count;
    return EMB_OK;
}
