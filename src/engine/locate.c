/*
 * Names to directories. The places form a list that is made once per lookup and used for the search, for
 * listing, and for the error message, so that the three cannot disagree.
 *
 * The hub cache keeps a model's files in models--ORG--NAME/snapshots/COMMIT, where refs/main holds the
 * commit; without refs/main (a revision was pinned) the latest snapshot is taken.
 */
#include "engine/locate.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "model/hub_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PLACES = 64, MAX_NAME = 255 };

static const char *const organisations[] = {"sentence-transformers", "BAAI", "intfloat", "thenlper"};

typedef struct places {
    char *paths[MAX_PLACES];
    size_t count;
} places;

/* ---- the places ------------------------------------------------------------------------------ */

static void places_fini(places *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->paths[i]);
    list->count = 0;
}

/* Takes `path` (malloc'ed; NULL: memory is short). Places beyond the maximum are not looked at. */
static emb_status add_take(places *list, char *path, emb_error *err)
{
    if (!path)
        return emb_fail_nomem(err, "path of a model", PATH_MAX);
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(list->paths[i], path)) {
            free(path);
            return EMB_OK;
        }
    if (list->count < MAX_PLACES)
        list->paths[list->count++] = path;
    else
        free(path);
    return EMB_OK;
}

static emb_status add_each(places *list, const char *paths, emb_error *err)
{
    while (paths && *paths) {
        size_t length = strcspn(paths, ":");
        if (length) {
            emb_status status = add_take(list, strndup(paths, length), err);
            if (status)
                return status;
        }
        paths += length + (paths[length] == ':');
    }
    return EMB_OK;
}

/* `path` beside the program's directory. */
static emb_status add_beside(places *list, const char *path, emb_error *err)
{
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return EMB_OK;
    program[length] = 0;
    char *slash = strrchr(program, '/');
    if (!slash)
        return EMB_OK;
    *slash = 0;
    slash = strrchr(program, '/'); /* "/usr/bin" → "/usr": shorter to read than "/usr/bin/.." */
    if (slash)
        *slash = 0;
    return add_take(list, emb_path_join(program, path), err);
}

static emb_status add_hub(places *list, emb_error *err)
{
    errno = 0;
    char *cache = emb_hub_cache_directory();
    return cache || errno ? add_take(list, cache, err) : EMB_OK;
}

static emb_status places_make(places *list, const char *models_path, emb_error *err)
{
    list->count = 0;
    emb_status status = add_each(list, models_path ? models_path : getenv("EMBEDD_MODELS"), err);
    if (!status)
        status = add_take(list, strdup("models"), err);
    if (!status)
        status = add_beside(list, "models", err);
    if (!status)
        status = add_beside(list, "share/embedd/models", err);
    if (!status)
        status = add_take(list, strdup(EMB_INSTALLED_MODELS), err);
    if (!status)
        status = add_hub(list, err);
    if (status)
        places_fini(list);
    return status;
}

/* ---- looking in one place --------------------------------------------------------------------
 *
 * Without allocating: if memory ran out in the middle of a search and counted as "not there", the search
 * would go on and find another model of that name. Paths that are too long for PATH_MAX cannot be opened
 * anyway. */

static bool join(char *out, const char *directory, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s/%s", directory, name);
    return n > 0 && n < PATH_MAX;
}

static bool holds_file(const char *directory, const char *name)
{
    char path[PATH_MAX];
    return join(path, directory, name) && emb_is_file(path);
}

static bool is_model(const char *directory)
{
    return holds_file(directory, "config.json") || holds_file(directory, "modules.json");
}

/* Whether "directory/name", which goes to out, is a model. */
static bool model_in(const char *directory, const char *name, char *out)
{
    return join(out, directory, name) && is_model(out);
}

/* The snapshot that was written last. False with errno ENOMEM if the directory could not be read. */
static bool latest_snapshot(const char *snapshots, char *out)
{
    char path[PATH_MAX];
    struct stat info;
    time_t newest = 0;
    bool found = false;
    DIR *stream = opendir(snapshots);
    for (struct dirent *entry; stream && (entry = readdir(stream));) {
        if (entry->d_name[0] == '.' || !model_in(snapshots, entry->d_name, path) || stat(path, &info) ||
            (found && info.st_mtime <= newest))
            continue;
        memcpy(out, path, strlen(path) + 1);
        newest = info.st_mtime;
        found = true;
    }
    if (stream)
        closedir(stream);
    return found;
}

/* The first word of a small file. */
static bool read_word(const char *path, char *word, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file >= 0 ? read(file, word, size - 1) : -1;
    if (file >= 0)
        close(file);
    word[length > 0 ? length : 0] = 0;
    word[strcspn(word, " \r\n")] = 0;
    return *word != 0;
}

/* The model in a hub cache entry (".../models--ORG--NAME"). */
static bool model_in_hub_entry(const char *entry, char *out)
{
    char reference[PATH_MAX], snapshots[PATH_MAX], commit[128];
    if (!join(reference, entry, "refs/main") || !join(snapshots, entry, "snapshots") ||
        !emb_is_directory(snapshots))
        return false;
    if (read_word(reference, commit, sizeof commit) && !strchr(commit, '/') && strcmp(commit, "..") != 0 &&
        model_in(snapshots, commit, out))
        return true;
    return latest_snapshot(snapshots, out);
}

/* organisation may be NULL when the name holds it already. */
static bool model_in_hub(const char *place, const char *organisation, const char *name, char *out)
{
    char entry[2 * MAX_NAME + 16], path[PATH_MAX];
    const char *slash = strchr(name, '/');
    int n = organisation ? snprintf(entry, sizeof entry, "models--%s--%s", organisation, name)
            : slash ? snprintf(entry, sizeof entry, "models--%.*s--%s", (int)(slash - name), name, slash + 1)
                    : snprintf(entry, sizeof entry, "models--%s", name);
    return n > 0 && (size_t)n < sizeof entry && !strchr(entry, '/') && join(path, place, entry) &&
           model_in_hub_entry(path, out);
}

static bool model_at(const char *place, const char *name, char *out)
{
    const char *slash = strrchr(name, '/');
    bool found = model_in(place, name, out) || (slash && model_in(place, slash + 1, out)) ||
                 model_in_hub(place, NULL, name, out);
    for (size_t i = 0; !found && !slash && i < sizeof organisations / sizeof *organisations; i++)
        found = model_in_hub(place, organisations[i], name, out);
    return found;
}

/* ---- listing --------------------------------------------------------------------------------- */

/* Visits one entry of a place; false when the visitor wants no more. */
static bool visit_entry(const char *place, const char *entry, emb_locate_visit visit, void *context)
{
    char name[MAX_NAME + 1], path[PATH_MAX], full[PATH_MAX];
    snprintf(name, sizeof name, "%s", entry);
    if (strncmp(entry, "models--", 8) != 0)
        return !model_in(place, entry, path) || visit(context, name, path);
    memmove(name, name + 8, strlen(name + 8) + 1);
    char *dashes = strstr(name, "--");
    if (dashes) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    return !join(full, place, entry) || !model_in_hub_entry(full, path) || visit(context, name, path);
}

/* By name, so that the order does not depend on the file system. */
static bool visit_place(const char *place, emb_locate_visit visit, void *context)
{
    struct dirent **entries = NULL;
    int count = scandir(place, &entries, NULL, alphasort);
    bool more = true;
    for (int i = 0; i < count; i++) {
        if (more && entries[i]->d_name[0] != '.')
            more = visit_entry(place, entries[i]->d_name, visit, context);
        free(entries[i]);
    }
    free(entries);
    return more;
}

emb_status emb_locate_each(const char *models_path, emb_locate_visit visit, void *context, emb_error *err)
{
    places list;
    emb_status status = places_make(&list, models_path, err);
    if (status)
        return status;
    for (size_t i = 0; i < list.count && visit_place(list.paths[i], visit, context); i++)
        ;
    places_fini(&list);
    return EMB_OK;
}

/* ---- when nothing is found ------------------------------------------------------------------- */

static const char *last_part(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

static int lower(int c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/* Edits between two names, upper and lower case alike; names are at most MAX_NAME long. */
static size_t edits(const char *a, const char *b)
{
    size_t row[MAX_NAME + 1], m = strlen(a), n = strlen(b);
    if (m > MAX_NAME || n > MAX_NAME)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));
            diagonal = row[j];
            size_t gap = (row[j - 1] < row[j] ? row[j - 1] : row[j]) + 1;
            row[j] = change < gap ? change : gap;
        }
    }
    return row[n];
}

typedef struct neighbours {
    const char *name;
    char text[256];
    size_t count;
} neighbours;

static bool note_neighbour(void *context, const char *name, const char *path)
{
    (void)path;
    neighbours *near = context;
    const char *wanted = last_part(near->name), *other = last_part(name);
    if (edits(wanted, other) > 2 + strlen(wanted) / 4 && !strcasestr(other, wanted) &&
        !strcasestr(wanted, other))
        return true;
    size_t used = strlen(near->text);
    if (strstr(near->text, name) || used + strlen(name) + 3 > sizeof near->text)
        return true;
    snprintf(near->text + used, sizeof near->text - used, "%s%s", used ? ", " : "", name);
    return ++near->count < 5;
}

static emb_status not_found(const char *name, const char *models_path, const places *list, emb_error *err)
{
    neighbours near = {.name = name};
    emb_buf places_text = EMB_BUF_INIT(4096);
    emb_status status = emb_locate_each(models_path, note_neighbour, &near, err);
    for (size_t i = 0; i < list->count && !status; i++)
        if (emb_buf_addf(&places_text, "%s%s", i ? ", " : "", list->paths[i]) == EMB_E_NOMEM)
            status = emb_fail_nomem(err, "error message", places_text.length);
    const char *looked = emb_buf_cstr(&places_text);
    if (!status)
        status =
            emb_fail(err, EMB_E_NOT_FOUND, name, "no model \"%s\"%s%s%s; looked in: %s", name,
                     near.count ? " (near: " : "", near.text, near.count ? ")" : "", looked ? looked : "");
    emb_buf_fini(&places_text);
    return status;
}

/* A name that is a path: what is wrong with the directory. */
static emb_status not_a_model(const char *name, emb_error *err)
{
    if (emb_is_directory(name))
        return emb_fail(err, EMB_E_NOT_FOUND, name,
                        "%s holds neither config.json nor modules.json: not a model", name);
    return emb_fail(err, EMB_E_NOT_FOUND, name, "there is no directory %s", name);
}

static emb_status copy_path(const char *path, char **out, emb_error *err)
{
    *out = strdup(path);
    return *out ? EMB_OK : emb_fail_nomem(err, "path of a model", strlen(path) + 1);
}

/* In the places of (2) and (3). */
static emb_status search(const char *name, const char *models_path, char **path, emb_error *err)
{
    places list;
    emb_status status = places_make(&list, models_path, err);
    if (status)
        return status;
    char found[PATH_MAX] = "";
    bool ok = false;
    errno = 0;
    for (size_t i = 0; i < list.count && !ok && errno != ENOMEM; i++)
        ok = model_at(list.paths[i], name, found);
    if (ok)
        status = copy_path(found, path, err);
    else if (errno == ENOMEM)
        status = emb_fail_nomem(err, "search for a model", sizeof found);
    else
        status = not_found(name, models_path, &list, err);
    places_fini(&list);
    return status;
}

static bool reads_as_path(const char *name)
{
    return name[0] == '/' || name[0] == '.' || name[0] == '~' || strlen(name) > MAX_NAME ||
           strstr(name, "..");
}

emb_status emb_locate_model(const char *name, const char *models_path, char **path, emb_error *err)
{
    *path = NULL;
    if (strlen(name) >= PATH_MAX)
        return emb_fail(err, EMB_E_INVALID, "name", "the name is %zu bytes long", strlen(name));
    if (is_model(name))
        return copy_path(name, path, err);
    return reads_as_path(name) ? not_a_model(name, err) : search(name, models_path, path, err);
}

emb_status emb_locate_named(const char *name, const char *models_path, char **path, emb_error *err)
{
    *path = NULL;
    if (!*name || reads_as_path(name))
        return emb_fail(err, EMB_E_NOT_FOUND, "name", "%.255s is a path, not the name of a model", name);
    return search(name, models_path, path, err);
}

emb_status emb_locate_data(const char *name, const char *file, const char *models_path, char **path,
                           emb_error *err)
{
    *path = NULL;
    places list;
    emb_status status = places_make(&list, models_path, err);
    if (status)
        return status;
    emb_buf looked = EMB_BUF_INIT(4096);
    char directory[PATH_MAX], found[PATH_MAX];
    bool ok = false;
    for (size_t i = 0; i < list.count && !ok; i++) {
        ok = join(directory, list.paths[i], name) && join(found, directory, file) && emb_is_file(found);
        if (!ok && emb_buf_addf(&looked, "%s%s", i ? ", " : "", list.paths[i]) == EMB_E_NOMEM) {
            status = emb_fail_nomem(err, "error message", looked.length);
            break;
        }
    }
    const char *text = emb_buf_cstr(&looked);
    if (ok)
        status = copy_path(directory, path, err);
    else if (!status)
        status =
            emb_fail(err, EMB_E_NOT_FOUND, name, "no %s/%s; looked in: %s", name, file, text ? text : "");
    emb_buf_fini(&looked);
    places_fini(&list);
    return status;
}
