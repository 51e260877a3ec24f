/*
 * pull.c: from a name to a snapshot on disk.
 *
 *     1. the list of files: one request to the hub; from the cache for a commit that was listed before, and offline
 *     2. modules.json, which says what folders there are; then what is needed and what of it is missing
 *     3. the missing blobs (fetch.c)
 *     4. the snapshot's links, the list of files, refs/REVISION: in this order, so that what can be found by the
 *        revision's name is complete
 *
 * A commit is immutable: a file that is in its snapshot with the listed size is taken for right, as
 * huggingface_hub does; blobs were checked when they came.
 *
 * When the hub cannot be reached and everything is here, that is enough, with a note. Where a commit was
 * never listed (huggingface_hub before 2026 or transformers put it there) its folder is all there is to go
 * by: it must look like a model then.
 */
#include "hub/hub.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "hub/blob.h"
#include "hub/fetch.h"
#include "hub/listing.h"
#include "hub/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LISTING_BYTES = 64 << 20, MAX_MODULES_BYTES = 1 << 20, MAX_DEPTH = 4, MAX_SCANNED = 4096 };

typedef struct pull {
    const emb_hub_options *options;
    emb_hub_result *result;
    emb_arena arena;
    emb_hub_place place;
    emb_hub_fetch fetch;
    emb_hub_listing listing;
    const char *snapshot; /* its folder */
    const char *pinned;   /* the commit that the revision is, or NULL */
    bool connected;       /* fetch is open */
} pull;

/* ---- what is there ---- */

static char *snapshot_file(pull *p, const char *name)
{
    return emb_hub_path(&p->arena, p->snapshot, name, NULL);
}

static emb_status is_there(pull *p, const emb_hub_entry *entry, bool *there, emb_error *err)
{
    struct stat info;
    char *path = snapshot_file(p, entry->name);
    if (!path)
        return emb_fail_nomem(err, "path of a file", 0);
    *there = stat(path, &info) == 0 && S_ISREG(info.st_mode) &&
             (entry->size == EMB_HUB_SIZE_UNKNOWN || (uint64_t)info.st_size == entry->size);
    return EMB_OK;
}

static emb_status set_snapshot(pull *p, emb_error *err)
{
    p->snapshot = emb_hub_path(&p->arena, p->place.folder, "snapshots", p->listing.commit, NULL);
    return p->snapshot ? EMB_OK : emb_fail_nomem(err, "path of the snapshot", 0);
}

/* Those that are wanted and not there, and how many are wanted. */
static emb_status missing_files(pull *p, emb_hub_entry ***out, size_t *count, emb_error *err)
{
    *count = 0;
    *out = emb_arena_calloc(&p->arena, p->listing.count + 1, sizeof **out);
    if (!*out)
        return emb_fail_nomem(err, "list of files", p->listing.count * sizeof **out);
    p->result->files = 0;
    for (size_t i = 0; i < p->listing.count; i++) {
        emb_hub_entry *entry = &p->listing.entries[i];
        bool there = false;
        emb_status status = entry->wanted ? is_there(p, entry, &there, err) : EMB_OK;
        if (status)
            return status;
        p->result->files += entry->wanted;
        if (entry->wanted && !there)
            (*out)[(*count)++] = entry;
    }
    return EMB_OK;
}

/* ---- modules.json ---- */

/* Reads it from the snapshot, or, if it is new, from its blob. *text stays NULL where the listing has
 * none. */
static emb_status read_modules(pull *p, const emb_hub_entry *entry, bool there, char **text, size_t *length,
                               emb_error *err)
{
    char *path = there ? snapshot_file(p, entry->name)
                       : emb_hub_path(&p->arena, p->place.folder, "blobs", entry->etag, NULL);
    return path ? emb_read_file(path, MAX_MODULES_BYTES, text, length, err)
                : emb_fail_nomem(err, "path of a file", 0);
}

static emb_status choose(pull *p, emb_error *err)
{
    emb_hub_entry *modules = emb_hub_listing_find(&p->listing, "modules.json");
    char *text = NULL;
    size_t length = 0;
    bool there = false;
    emb_status status = modules ? is_there(p, modules, &there, err) : EMB_OK;
    if (!status && modules && !there && !p->connected)
        status = emb_fail(err, EMB_E_NOT_FOUND, modules->name,
                          "modules.json of %s is not in the cache %s, and the hub is not asked",
                          p->place.repository, p->place.cache);
    if (!status && modules && !there)
        status = emb_hub_fetch_files(&p->fetch, p->listing.commit, &modules, 1, false, err);
    if (!status && modules)
        status = read_modules(p, modules, there, &text, &length, err);
    if (!status)
        status = emb_hub_listing_choose(&p->listing, text, length, p->options, p->place.repository, err);
    free(text);
    return status;
}

/* ---- finishing ---- */

static emb_status fill_result(pull *p, bool unconfirmed, emb_error *err)
{
    emb_hub_result *r = p->result;
    r->bytes = 0;
    for (size_t i = 0; i < p->listing.count; i++)
        if (p->listing.entries[i].wanted && p->listing.entries[i].size != EMB_HUB_SIZE_UNKNOWN)
            r->bytes += p->listing.entries[i].size;
    r->path = strdup(p->snapshot);
    r->repository = strdup(p->place.repository);
    memcpy(r->commit, p->listing.commit, sizeof r->commit);
    r->fetched = p->connected ? p->fetch.fetched : 0;
    r->fetched_bytes = p->connected ? p->fetch.fetched_bytes : 0;
    r->unconfirmed = unconfirmed;
    return r->path && r->repository ? EMB_OK : emb_fail_nomem(err, "path of the snapshot", 0);
}

/* The same as huggingface_hub's, so that backups leave the cache out. Not worth an error. */
static void tag_cache(pull *p)
{
    static const char text[] =
        "Signature: 8a477f597d28d172789f06886806bc55\n"
        "# This file is a cache directory tag created by embedd.\n"
        "# For information about cache directory tags see https://bford.info/cachedir/\n";
    char *path = emb_hub_path(&p->arena, p->place.cache, "CACHEDIR.TAG", NULL);
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666) : -1;
    if (fd < 0)
        return;
    ssize_t ignored = write(fd, text, sizeof text - 1);
    (void)ignored;
    close(fd);
}

static emb_status read_reference(pull *p, char *commit, size_t size, emb_error *err)
{
    char *path = emb_hub_path(&p->arena, p->place.folder, "refs", p->place.revision, NULL), *text;
    size_t length;
    commit[0] = 0;
    if (!path)
        return emb_fail_nomem(err, "path of a revision", 0);
    if (emb_read_file(path, 1024, &text, &length, NULL))
        return EMB_OK;
    text[strcspn(text, " \t\r\n")] = 0;
    if (emb_hub_is_commit(text) && strlen(text) < size)
        memcpy(commit, text, strlen(text) + 1);
    free(text);
    return EMB_OK;
}

static emb_status write_reference(pull *p, emb_error *err)
{
    char now[72];
    emb_atomic_file file;
    emb_status status = read_reference(p, now, sizeof now, err);
    if (status || strcmp(now, p->listing.commit) == 0 || strcmp(p->place.revision, p->listing.commit) == 0)
        return status; /* a cache that nobody may write is fine when there is nothing to write */
    char *path = emb_hub_path(&p->arena, p->place.folder, "refs", p->place.revision, NULL);
    if (!path)
        return emb_fail_nomem(err, "path of a revision", 0);
    if ((status = emb_hub_make_parent(path, err)) || (status = emb_atomic_open(&file, path, err)))
        return status;
    fputs(p->listing.commit, file.stream);
    return emb_atomic_commit(&file, err);
}

static emb_status publish(pull *p, emb_hub_entry **entries, size_t count, emb_error *err)
{
    emb_status status = EMB_OK;
    emb_hub_listing kept;
    for (size_t i = 0; i < count && !status; i++)
        status =
            emb_hub_link(&p->place, p->listing.commit, entries[i]->name, entries[i]->etag, &p->arena, err);
    if (status)
        return status;
    if (count > 0)
        tag_cache(p);
    if (emb_hub_listing_read(&kept, &p->arena, &p->place, p->listing.commit, NULL) &&
        (status = emb_hub_listing_write(&p->listing, &p->arena, &p->place, err)) && count > 0)
        return status; /* where nothing was fetched the cache may be one that we may not write */
    return write_reference(p, err);
}

/* ---- without the hub ---- */

static emb_status scan(pull *p, const char *folder, unsigned depth, emb_error *err);

static emb_status scan_entry(pull *p, const char *folder, const char *name, unsigned depth, emb_error *err)
{
    struct stat info;
    char *relative = *folder ? emb_hub_path(&p->arena, folder, name, NULL)
                             : emb_arena_strndup(&p->arena, name, strlen(name));
    char *path = relative ? snapshot_file(p, relative) : NULL;
    if (!path)
        return emb_fail_nomem(err, "path of a file", 0);
    if (stat(path, &info) < 0) /* a link to a blob that is not there */
        return EMB_OK;
    if (S_ISDIR(info.st_mode))
        return depth < MAX_DEPTH ? scan(p, relative, depth + 1, err) : EMB_OK;
    if (p->listing.count < MAX_SCANNED && emb_hub_name_is_safe(relative, strlen(relative)))
        p->listing.entries[p->listing.count++] =
            (emb_hub_entry){.name = relative, .size = (uint64_t)info.st_size};
    return EMB_OK;
}

static emb_status scan(pull *p, const char *folder, unsigned depth, emb_error *err)
{
    struct dirent **names = NULL;
    const char *path = *folder ? snapshot_file(p, folder) : p->snapshot;
    int count = path ? scandir(path, &names, NULL, alphasort) : -1;
    emb_status status = path ? EMB_OK : emb_fail_nomem(err, "path of a folder", 0);
    for (int i = 0; i < count; i++) {
        if (!status && names[i]->d_name[0] != '.')
            status = scan_entry(p, folder, names[i]->d_name, depth, err);
        free(names[i]);
    }
    free(names);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const emb_hub_entry *)a)->name, ((const emb_hub_entry *)b)->name);
}

/* A list of files made of those that are there. */
static emb_status list_snapshot(pull *p, emb_error *err)
{
    p->listing.count = 0;
    p->listing.entries = emb_arena_calloc(&p->arena, MAX_SCANNED, sizeof *p->listing.entries);
    if (!p->listing.entries)
        return emb_fail_nomem(err, "list of files", 0);
    emb_status status = scan(p, "", 0, err);
    if (p->listing.count > 1)
        qsort(p->listing.entries, p->listing.count, sizeof *p->listing.entries, by_name);
    return status;
}

static emb_status not_here(pull *p, emb_error *err)
{
    return emb_fail(err, EMB_E_NOT_FOUND, p->place.repository,
                    "%s at revision %s is not in the cache %s, and the hub is not asked (offline)",
                    p->place.repository, p->place.revision, p->place.cache);
}

static emb_status lacks_files(pull *p, emb_hub_entry **entries, size_t count, emb_error *err)
{
    char names[240];
    size_t used = 0;
    for (size_t i = 0; i < count && i < 3; i++) {
        int n = snprintf(names + used, sizeof names - used, "%s%.70s", i ? ", " : "", entries[i]->name);
        used += n > 0 ? (size_t)n : 0;
    }
    return emb_fail(err, EMB_E_NOT_FOUND, p->place.repository,
                    "of %s in the cache %s %zu file%s missing (%s%s), and the hub is not asked",
                    p->place.repository, p->place.cache, count, count == 1 ? " is" : "s are", names,
                    count > 3 ? ", …" : "");
}

/* EMB_OK if everything that is wanted is in the cache. */
static emb_status pull_local(pull *p, const char *commit, emb_error *err)
{
    emb_hub_entry **missing;
    size_t count;
    emb_status status = emb_hub_listing_read(&p->listing, &p->arena, &p->place, commit, err);
    bool listed = status == EMB_OK;
    if (status && status != EMB_E_NOT_FOUND)
        return status;
    memset(p->listing.commit, 0, sizeof p->listing.commit);
    memcpy(p->listing.commit, commit, strlen(commit) + 1);
    if ((status = set_snapshot(p, err)))
        return status;
    if (!emb_is_directory(p->snapshot))
        return not_here(p, err);
    if (!listed && (status = list_snapshot(p, err)))
        return status;
    status = choose(p, err);
    if (!status)
        status = missing_files(p, &missing, &count, err);
    if (!status && count > 0)
        status = lacks_files(p, missing, count, err);
    return status;
}

static emb_status pull_offline(pull *p, emb_error *err)
{
    char commit[72];
    emb_status status = EMB_OK;
    if (p->pinned)
        memcpy(commit, p->pinned, strlen(p->pinned) + 1);
    else
        status = read_reference(p, commit, sizeof commit, err);
    if (!status && !commit[0])
        status = not_here(p, err);
    if (!status)
        status = pull_local(p, commit, err);
    return status ? status : fill_result(p, true, err);
}

/* ---- with the hub ---- */

static emb_status ask_listing(pull *p, emb_error *err)
{
    char *revision = emb_hub_encode(&p->arena, p->place.revision, true), what[240];
    char *url = revision ? emb_hub_path(&p->arena, p->place.endpoint, "api/models", p->place.repository,
                                        "revision", revision, NULL)
                         : NULL;
    char *asked = url ? emb_arena_alloc(&p->arena, strlen(url) + 16) : NULL;
    emb_buf text = EMB_BUF_INIT(MAX_LISTING_BYTES);
    if (!asked)
        return emb_fail_nomem(err, "address of a model", 0);
    stpcpy(stpcpy(asked, url), "?blobs=true");
    snprintf(what, sizeof what, "the list of files of %s", p->place.repository);
    emb_status status = emb_hub_fetch_text(&p->fetch, asked, what, &text, err);
    if (!status)
        status =
            emb_hub_listing_parse(&p->listing, &p->arena, text.data ? text.data : "", text.length, what, err);
    emb_buf_fini(&text);
    return status;
}

static bool cannot_be_reached(emb_status status)
{
    return status == EMB_E_IO || status == EMB_E_BUSY;
}

static emb_status pull_listed(pull *p, emb_error *err)
{
    emb_hub_entry **missing;
    size_t count;
    emb_status status = set_snapshot(p, err);
    if (!status)
        status = choose(p, err);
    if (!status)
        status = missing_files(p, &missing, &count, err);
    if (!status)
        status = emb_hub_fetch_files(&p->fetch, p->listing.commit, missing, count, true, err);
    if (!status)
        status = publish(p, missing, count, err);
    return status ? status : fill_result(p, false, err);
}

static emb_status pull_online(pull *p, emb_error *err)
{
    emb_error network;
    emb_status status = emb_hub_fetch_init(&p->fetch, &p->place, p->options, &p->arena, err);
    if (status)
        return status;
    p->connected = true;
    status = ask_listing(p, &network);
    if (!status)
        return pull_listed(p, err);
    if (cannot_be_reached(status)) {
        p->connected = false;
        status = pull_offline(p, NULL);
        p->connected = true;
        if (!status)
            emb_hub_fetch_note(&p->fetch, NULL, "%s; taking what is in the cache", network.message);
    }
    if (status && err)
        *err = network;
    return status ? network.code : EMB_OK;
}

static emb_status run(pull *p, emb_error *err)
{
    emb_status status = emb_hub_place_init(&p->place, p->options, &p->arena, err);
    if (status)
        return status;
    p->pinned = emb_hub_is_commit(p->place.revision) ? p->place.revision : NULL;
    if (p->options->offline)
        return pull_offline(p, err);
    /* A commit cannot change: if all of it is here there is nothing to ask. */
    if (p->pinned && !emb_hub_listing_read(&p->listing, &p->arena, &p->place, p->pinned, NULL) &&
        !pull_local(p, p->pinned, NULL))
        return fill_result(p, false, err);
    return pull_online(p, err);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode global;

static void begin_curl(void)
{
    global = curl_global_init(CURL_GLOBAL_DEFAULT);
}

emb_status emb_hub_pull(const emb_hub_options *options, emb_hub_result *result, emb_error *err)
{
    pull p = {.options = options, .result = result};
    memset(result, 0, sizeof *result);
    pthread_once(&once, begin_curl);
    if (global != CURLE_OK)
        return emb_fail(err, EMB_E_INTERNAL, NULL, "libcurl could not be started: %s",
                        curl_easy_strerror(global));
    emb_arena_init(&p.arena);
    emb_status status = run(&p, err);
    if (p.connected)
        emb_hub_fetch_fini(&p.fetch);
    emb_arena_fini(&p.arena);
    if (status)
        emb_hub_result_fini(result);
    return status;
}

void emb_hub_result_fini(emb_hub_result *result)
{
    free(result->path);
    free(result->repository);
    memset(result, 0, sizeof *result);
}
