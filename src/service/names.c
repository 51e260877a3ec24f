/*
 * From what a caller calls a model to its directory, and from the directory to what the model is called.
 *
 * A name that came in a request must not be able to open a directory of the caller's choice: a path is
 * refused unless models.allowed has a pattern for it that is a path itself. Names are looked up in the
 * models' places alone (emb_locate_named). What the operator wrote into the configuration is trusted and may
 * be any path.
 *
 * What a model is called comes from where it lies, not from how it was asked for, so that all ways to it
 * share one entry, one set of cache keys and one row of metrics: the catalog's name where the directory or
 * the hub's repository is known there; ORG/NAME in the hub's cache; ORG/NAME too for a directory that was
 * found under that name; else the name of the directory.
 *
 * Aliases are a table of fixed size with open addressing that is only added to: readers need no lock. Only
 * names under which a model was really found get in, and the number of spellings is bounded (letter case of
 * catalog names), so that callers cannot fill it with nonsense; if it is full nevertheless, further names
 * take the long way each time.
 */
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "engine/locate.h"
#include "model/catalog.h"
#include "service/models_parts.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NAME_BYTES_MAX = 255 };

/* ---- patterns -------------------------------------------------------------------------------- */

/* '*' at the beginning or the end of a pattern matches anything. */
static bool pattern_matches(const char *pattern, size_t length, const char *name)
{
    size_t n = strlen(name);
    bool open_start = length && pattern[0] == '*';
    bool open_end = length > 1 && pattern[length - 1] == '*';
    if (open_start && length == 1)
        return true;
    pattern += open_start;
    length -= (size_t)open_start + open_end;
    if (open_start && open_end) {
        for (size_t at = 0; at + length <= n; at++)
            if (strncasecmp(name + at, pattern, length) == 0)
                return true;
        return false;
    }
    if (n < length || (!open_start && !open_end && n != length))
        return false;
    return strncasecmp(open_start ? name + n - length : name, pattern, length) == 0;
}

typedef struct match {
    const char *const *names;
    size_t count;
    bool any, found;
} match;

static bool match_one(void *context, const char *item, size_t length)
{
    match *m = context;
    m->any = true;
    for (size_t i = 0; i < m->count && !m->found; i++)
        m->found = m->names[i] && pattern_matches(item, length, m->names[i]);
    return !m->found;
}

bool emb_names_allow(const char *patterns, const char *const *names, size_t count)
{
    match m = {.names = names, .count = count};
    emb_config_each(patterns, match_one, &m);
    return m.found || !m.any;
}

/* ---- names to directories -------------------------------------------------------------------- */

bool emb_name_is_path(const char *name)
{
    if (name[0] == '/' || name[0] == '.' || name[0] == '~')
        return true;
    for (const char *at = name; (at = strstr(at, "..")); at += 2) /* a whole part ".." */
        if ((at == name || at[-1] == '/') && (at[2] == 0 || at[2] == '/'))
            return true;
    return false;
}

static bool printable(const char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name < ' ' || *name == 0x7F)
            return false;
    return true;
}

typedef struct path_match {
    const char *path;
    bool found;
} path_match;

static bool match_path(void *context, const char *item, size_t length)
{
    path_match *m = context;
    m->found = length && item[0] == '/' && pattern_matches(item, length, m->path);
    return !m->found;
}

static emb_status resolve(char *found, char **path, emb_error *err)
{
    *path = realpath(found, NULL);
    emb_status status = *path ? EMB_OK : emb_fail_errno(err, found, "resolving");
    free(found);
    return status;
}

/* A path from a request. It says the same whether or not there is such a directory. */
static emb_status locate_path(const char *name, const char *patterns, char **path, emb_error *err)
{
    char *real = name[0] == '/' ? realpath(name, NULL) : NULL;
    path_match m = {.path = real};
    if (real)
        emb_config_each(patterns, match_path, &m);
    if (!m.found) {
        free(real);
        return emb_fail(
            err, EMB_E_UNSUPPORTED, "model",
            "the model is given as a path, %.200s, and models.allowed has no path that lets it in", name);
    }
    char *found = NULL;
    emb_status status = emb_locate_model(real, NULL, &found, err);
    free(real);
    return status ? status : resolve(found, path, err);
}

/* A message about where models are looked for is for the operator, not for callers. */
static void leave_out_places(emb_error *err)
{
    char *places = err ? strstr(err->message, "; looked in:") : NULL;
    if (places)
        *places = 0;
}

static emb_status locate_name(const char *name, const char *search_path, char **path, emb_error *err)
{
    const emb_catalog_entry *known = emb_catalog_find(name);
    char *found = NULL;
    if (known && !known->repository)
        return emb_fail(err, EMB_E_NOT_FOUND, "model", "%s is a model of %s, which this service does not use",
                        known->name, known->provider);
    emb_status status = emb_locate_named(known ? known->repository : name, search_path, &found, err);
    if (status == EMB_E_NOT_FOUND && known)
        status = emb_locate_named(known->name, search_path, &found, err);
    return status ? status : resolve(found, path, err);
}

emb_status emb_names_locate(const char *name, const char *search_path, const char *patterns, bool trusted,
                            char **path, emb_error *err)
{
    emb_error local;
    emb_status status;
    char *found = NULL;
    err = err ? err : &local;
    *path = NULL;
    if (strlen(name) > (trusted ? PATH_MAX : NAME_BYTES_MAX) || !printable(name))
        return emb_fail(err, EMB_E_NOT_FOUND, "model",
                        "the name of the model is longer than %d bytes or holds control characters",
                        NAME_BYTES_MAX);
    if (!trusted && emb_name_is_path(name)) {
        status = locate_path(name, patterns, path, err);
    } else {
        status = locate_name(name, search_path, path, err);
        if (status == EMB_E_NOT_FOUND && trusted && (emb_name_is_path(name) || emb_is_directory(name))) {
            status = emb_locate_model(name, search_path, &found, err);
            status = status ? status : resolve(found, path, err);
        }
    }
    if (status == EMB_E_NOT_FOUND) {
        if (!trusted)
            leave_out_places(err);
        strcpy(err->where, "model");
    }
    return status;
}

/* ---- directories to names -------------------------------------------------------------------- */

static bool is_commit(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isxdigit((unsigned char)text[i]))
            return false;
    return length == 40;
}

/* ".../models--ORG--NAME/snapshots/COMMIT": the repository, and the commit. */
static bool read_hub_path(const char *path, char repository[NAME_BYTES_MAX + 1],
                          char commit[EMB_REVISION_MAX])
{
    const char *snapshot = strrchr(path, '/');
    size_t length = snapshot ? strlen(snapshot + 1) : 0;
    static const char middle[] = "/snapshots";
    if (!snapshot || !is_commit(snapshot + 1, length) || (size_t)(snapshot - path) < sizeof middle - 1 ||
        memcmp(snapshot - (sizeof middle - 1), middle, sizeof middle - 1) != 0)
        return false;
    const char *end = snapshot - (sizeof middle - 1), *start = end;
    while (start > path && start[-1] != '/')
        start--;
    size_t n = (size_t)(end - start);
    if (n <= 8 || n - 8 > NAME_BYTES_MAX || memcmp(start, "models--", 8) != 0)
        return false;
    memcpy(repository, start + 8, n - 8);
    repository[n - 8] = 0;
    char *dashes = strstr(repository, "--");
    if (dashes) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    memcpy(commit, snapshot + 1, length);
    commit[length] = 0;
    return true;
}

static bool ends_with_name(const char *path, const char *name)
{
    size_t n = strlen(path), m = strlen(name);
    return n > m && path[n - m - 1] == '/' && strcmp(path + n - m, name) == 0;
}

emb_status emb_names_canonical(const char *asked, const char *path, char **name, char **repository,
                               char commit[EMB_REVISION_MAX], emb_error *err)
{
    char in_hub[NAME_BYTES_MAX + 1];
    commit[0] = 0;
    const char *slash = strrchr(path, '/'), *called = slash && slash[1] ? slash + 1 : path;
    if (read_hub_path(path, in_hub, commit))
        called = in_hub;
    else if (!emb_name_is_path(asked) && strchr(asked, '/') && ends_with_name(path, asked))
        called = asked;
    const emb_catalog_entry *known = emb_catalog_find(called);
    *name = strdup(known ? known->name : called);
    *repository = strdup(known && known->repository ? known->repository : called);
    if (*name && *repository)
        return EMB_OK;
    free(*name);
    free(*repository);
    *name = *repository = NULL;
    return emb_fail_nomem(err, "name of a model", strlen(called) + 1);
}

/* ---- aliases --------------------------------------------------------------------------------- */

/* The slot that holds the name, or the empty one where it would go; NULL only if the table were full. */
static _Atomic(emb_alias *) *slot_of(emb_models *models, const char *name, uint64_t hash)
{
    for (size_t i = 0; i < EMB_ALIAS_SLOTS; i++) {
        _Atomic(emb_alias *) *slot = &models->aliases[(hash + i) % EMB_ALIAS_SLOTS];
        const emb_alias *alias = atomic_load_explicit(slot, memory_order_acquire);
        if (!alias || (alias->hash == hash && strcmp(alias->name, name) == 0))
            return slot;
    }
    return NULL;
}

emb_entry *emb_alias_find(emb_models *models, const char *name)
{
    _Atomic(emb_alias *) *slot = slot_of(models, name, emb_hash(name, strlen(name), 0));
    emb_alias *alias = slot ? atomic_load_explicit(slot, memory_order_acquire) : NULL;
    return alias ? atomic_load_explicit(&alias->entry, memory_order_acquire) : NULL;
}

void emb_alias_set(emb_models *models, const char *name, emb_entry *entry)
{
    size_t length = strlen(name);
    uint64_t hash = emb_hash(name, length, 0);
    _Atomic(emb_alias *) *slot = slot_of(models, name, hash);
    emb_alias *alias = slot ? atomic_load(slot) : NULL;
    if (alias) {
        atomic_store_explicit(&alias->entry, entry, memory_order_release);
        return;
    }
    if (!slot || models->alias_count >= EMB_ALIASES_MAX || !(alias = malloc(sizeof *alias + length + 1)))
        return;
    alias->hash = hash;
    atomic_init(&alias->entry, entry);
    memcpy(alias->name, name, length + 1);
    atomic_store_explicit(slot, alias, memory_order_release);
    models->alias_count++;
}

void emb_aliases_free(emb_models *models)
{
    for (size_t i = 0; i < EMB_ALIAS_SLOTS; i++)
        free(atomic_load(&models->aliases[i]));
}
