/*
 * listing.c: three forms of one thing. The hub's answer lists "siblings" with blobId and lfs.sha256 when
 * asked for blobs; a listing on disk maps names to blob_id and lfs_sha256. Either way a file's etag is the
 * SHA-256 of what is stored apart (LFS, Xet), else git's SHA-1: the names under which huggingface_hub keeps
 * blobs.
 *
 * Everything here comes from outside. Names, hashes and the commit become paths, so they are checked on the
 * way in and never again.
 */
#include "hub/listing.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 200000, MAX_RECORD_BYTES = 64 << 20 };

/* A string of at most `size` - 1 bytes without NUL; "" if there is none. */
static void text_member(emb_json_value object, const char *key, char *out, size_t size)
{
    emb_json_value value;
    const char *text;
    size_t length;
    out[0] = 0;
    if (!emb_json_get(object, key, &value) || !emb_json_string(value, &text, &length) || length >= size ||
        memchr(text, 0, length))
        return;
    memcpy(out, text, length);
    out[length] = 0;
}

static uint64_t size_member(emb_json_value object, const char *key)
{
    emb_json_value value;
    int64_t size;
    return emb_json_get(object, key, &value) && emb_json_int(value, &size) && size >= 0
               ? (uint64_t)size
               : EMB_HUB_SIZE_UNKNOWN;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const emb_hub_entry *)a)->name, ((const emb_hub_entry *)b)->name);
}

/* Sorts, and leaves out what is listed twice. */
static void settle(emb_hub_listing *listing)
{
    size_t kept = 0;
    if (listing->count > 1)
        qsort(listing->entries, listing->count, sizeof *listing->entries, by_name);
    for (size_t i = 0; i < listing->count; i++)
        if (kept == 0 || strcmp(listing->entries[kept - 1].name, listing->entries[i].name) != 0)
            listing->entries[kept++] = listing->entries[i];
    listing->count = kept;
}

emb_hub_entry *emb_hub_listing_find(const emb_hub_listing *listing, const char *name)
{
    const emb_hub_entry key = {.name = name};
    return listing->count ? bsearch(&key, listing->entries, listing->count, sizeof key, by_name) : NULL;
}

/* Room for one more entry is there. */
static emb_status add_entry(emb_hub_listing *listing, emb_arena *arena, const char *name, size_t length,
                            const char *where, emb_hub_entry **out, emb_error *err)
{
    if (!emb_hub_name_is_safe(name, length))
        return emb_fail(
            err, EMB_E_CORRUPT, where,
            "%s lists a file with a name that could lead outside of its folder; nothing was fetched", where);
    emb_hub_entry *entry = *out = &listing->entries[listing->count++];
    entry->name = emb_arena_strndup(arena, name, length);
    entry->size = EMB_HUB_SIZE_UNKNOWN;
    entry->etag = NULL;
    return entry->name ? EMB_OK : emb_fail_nomem(err, "list of files", length);
}

/* A hash that is none is taken as not said; the HEAD request will tell. */
static emb_status set_hash(emb_hub_entry *entry, emb_json_value object, const char *key, size_t digits,
                           emb_arena *arena, emb_error *err)
{
    char hash[72];
    text_member(object, key, hash, sizeof hash);
    if (!emb_hub_is_hex(hash, digits))
        return EMB_OK;
    entry->etag = emb_arena_strndup(arena, hash, digits);
    return entry->etag ? EMB_OK : emb_fail_nomem(err, "list of files", digits);
}

static emb_status make_room(emb_hub_listing *listing, emb_arena *arena, size_t count, const char *where,
                            emb_error *err)
{
    listing->count = 0;
    if (count > MAX_FILES)
        return emb_fail(err, EMB_E_LIMIT, where, "%s lists %zu files, the limit is %d", where, count,
                        MAX_FILES);
    listing->entries = emb_arena_calloc(arena, count ? count : 1, sizeof *listing->entries);
    return listing->entries ? EMB_OK : emb_fail_nomem(err, "list of files", count * sizeof *listing->entries);
}

/* ---- the hub's answer ---- */

static emb_status add_sibling(emb_hub_listing *listing, emb_arena *arena, emb_json_value item,
                              const char *where, emb_error *err)
{
    emb_json_value name, lfs;
    const char *text;
    size_t length;
    emb_hub_entry *entry;
    if (!emb_json_get(item, "rfilename", &name) || !emb_json_string(name, &text, &length))
        return emb_fail(err, EMB_E_CORRUPT, where, "%s lists a file without a name", where);
    emb_status status = add_entry(listing, arena, text, length, where, &entry, err);
    if (status)
        return status;
    entry->size = size_member(item, "size");
    if (!emb_json_get(item, "lfs", &lfs) || emb_json_type_of(lfs) != EMB_JSON_OBJECT)
        return set_hash(entry, item, "blobId", 40, arena, err);
    if (entry->size == EMB_HUB_SIZE_UNKNOWN)
        entry->size = size_member(lfs, "size");
    return set_hash(entry, lfs, "sha256", 64, arena, err); /* blobId is the pointer's */
}

static emb_status parse(emb_hub_listing *listing, emb_arena *arena, emb_json_value root, const char *where,
                        emb_error *err)
{
    emb_json_value files, item;
    text_member(root, "sha", listing->commit, sizeof listing->commit);
    if (!emb_hub_is_commit(listing->commit))
        return emb_fail(err, EMB_E_CORRUPT, where, "%s names no commit; is it the address of a hub?", where);
    if (!emb_json_get(root, "siblings", &files) || emb_json_type_of(files) != EMB_JSON_ARRAY)
        return emb_fail(err, EMB_E_CORRUPT, where, "%s has no list of files", where);
    emb_status status = make_room(listing, arena, emb_json_count(files), where, err);
    emb_json_iter it = emb_json_begin(files);
    while (!status && emb_json_next(&it, NULL, NULL, &item))
        status = add_sibling(listing, arena, item, where, err);
    settle(listing);
    return status;
}

emb_status emb_hub_listing_parse(emb_hub_listing *listing, emb_arena *arena, const char *text, size_t length,
                                 const char *where, emb_error *err)
{
    emb_json *doc;
    memset(listing, 0, sizeof *listing);
    emb_status status = emb_json_open(text, length, where, &doc, err);
    if (status)
        return status;
    status = parse(listing, arena, emb_json_root(doc), where, err);
    emb_json_close(doc);
    return status;
}

/* ---- on disk ---- */

static emb_status parse_record(emb_hub_listing *listing, emb_arena *arena, emb_json_value root,
                               const char *where, emb_error *err)
{
    emb_json_value version, files, item;
    int64_t format;
    const char *name;
    size_t length;
    if (!emb_json_get(root, "format_version", &version) || !emb_json_int(version, &format) || format != 1 ||
        !emb_json_get(root, "files", &files) || emb_json_type_of(files) != EMB_JSON_OBJECT)
        return emb_fail(err, EMB_E_CORRUPT, where, "%s is not a list of files", where);
    emb_status status = make_room(listing, arena, emb_json_count(files), where, err);
    emb_json_iter it = emb_json_begin(files);
    while (!status && emb_json_next(&it, &name, &length, &item)) {
        emb_hub_entry *entry;
        if ((status = add_entry(listing, arena, name, length, where, &entry, err)))
            break;
        entry->size = size_member(item, "size");
        if (!(status = set_hash(entry, item, "blob_id", 40, arena, err)))
            status = set_hash(entry, item, "lfs_sha256", 64, arena, err);
    }
    settle(listing);
    return status;
}

static emb_status read_record(emb_hub_listing *listing, emb_arena *arena, const char *path, emb_error *err)
{
    emb_json *doc;
    emb_status status = emb_json_open_file(path, MAX_RECORD_BYTES, &doc, err);
    if (status)
        return status;
    status = parse_record(listing, arena, emb_json_root(doc), path, err);
    emb_json_close(doc);
    return status;
}

static char *record_path(emb_arena *arena, const emb_hub_place *place, const char *folder, const char *commit)
{
    char name[80];
    snprintf(name, sizeof name, "%s.json", commit);
    return emb_hub_path(arena, place->folder, folder, name, NULL);
}

emb_status emb_hub_listing_read(emb_hub_listing *listing, emb_arena *arena, const emb_hub_place *place,
                                const char *commit, emb_error *err)
{
    static const char *const folders[] = {".embedd", "trees"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char *path = record_path(arena, place, folders[i], commit);
        if (!path)
            return emb_fail_nomem(err, "path of a list of files", 0);
        memset(listing, 0, sizeof *listing);
        memcpy(listing->commit, commit, strlen(commit) + 1);
        emb_status status = read_record(listing, arena, path, err);
        if (status == EMB_OK || status == EMB_E_NOMEM)
            return status;
    }
    return emb_fail(err, EMB_E_NOT_FOUND, commit, "the list of files of commit %s is not in the cache",
                    commit);
}

static emb_status write_entry(emb_buf *out, const emb_hub_entry *entry, bool first)
{
    emb_status status = emb_buf_add_str(out, first ? "\n  " : ",\n  ");
    if (!status)
        status = emb_json_write_string(out, entry->name, strlen(entry->name));
    if (!status)
        status = emb_buf_add_str(out, ": {");
    if (!status && entry->size != EMB_HUB_SIZE_UNKNOWN)
        status = emb_buf_addf(out, "\"size\": %" PRIu64 "%s", entry->size, entry->etag ? ", " : "");
    if (!status && entry->etag)
        status = emb_buf_addf(out, "\"%s\": \"%s\"", strlen(entry->etag) == 64 ? "lfs_sha256" : "blob_id",
                              entry->etag);
    return status ? status : emb_buf_add_str(out, "}");
}

emb_status emb_hub_listing_write(const emb_hub_listing *listing, emb_arena *arena, const emb_hub_place *place,
                                 emb_error *err)
{
    char *path = record_path(arena, place, ".embedd", listing->commit);
    emb_buf out = EMB_BUF_INIT(MAX_RECORD_BYTES);
    emb_atomic_file file;
    if (!path)
        return emb_fail_nomem(err, "path of a list of files", 0);
    emb_status status = emb_buf_add_str(&out, "{\n \"format_version\": 1,\n \"files\": {");
    for (size_t i = 0; i < listing->count && !status; i++)
        status = write_entry(&out, &listing->entries[i], i == 0);
    if (!status)
        status = emb_buf_add_str(&out, "\n }\n}\n");
    if (status)
        status = emb_fail(err, status, path, "the list of files is too long to be kept");
    if (!status)
        status = emb_hub_make_parent(path, err);
    if (!status && !(status = emb_atomic_open(&file, path, err))) {
        fwrite(out.data, 1, out.length, file.stream);
        status = emb_atomic_commit(&file, err);
    }
    emb_buf_fini(&out);
    return status;
}
