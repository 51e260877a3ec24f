/*
 * blob.c: from bytes to a file that others may trust.
 *
 * The lock is huggingface_hub's (flock on .locks/models--…/ETAG.lock), held from before the unfinished copy
 * (blobs/ETAG.incomplete) is touched until the blob is in its place; so two programs never write one copy. A
 * lock file may be removed by whoever releases it, hence the look whether what was locked is still what the
 * name means. Where the file system has no locks the copy gets a name of its own and cannot be gone on with;
 * a wrong guess there would mix two writers.
 *
 * The hash is computed while bytes arrive. Going on with an old copy reads it once more to hash it: reading
 * is fast next to the network, and a damaged copy is found at the end in any case.
 *
 * Order of finishing: hash, fsync, rename, fsync of the folder. A crash leaves either the unfinished copy or
 * the blob.
 */
#include "hub/blob.h"

#include "base/error.h"
#include "base/file.h"
#include "crypto/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 20 };
static const uint64_t push_bytes = 64 << 20;

static char *suffixed(emb_arena *arena, const char *path, const char *suffix)
{
    size_t n = strlen(path), m = strlen(suffix);
    char *out = emb_arena_alloc(arena, n + m + 1);
    if (out) {
        memcpy(out, path, n);
        memcpy(out + n, suffix, m + 1);
    }
    return out;
}

/* ".1a2b3c4d.incomplete", for copies that no lock guards. */
static char *own_partial(emb_arena *arena, const char *path)
{
    unsigned char random[4];
    char hex[9], suffix[32];
    if (!emb_random_bytes(random, sizeof random))
        return NULL;
    emb_hex(random, sizeof random, hex);
    snprintf(suffix, sizeof suffix, ".%s.incomplete", hex);
    return suffixed(arena, path, suffix);
}

emb_status emb_hub_blob_init(emb_hub_blob *blob, emb_arena *arena, const emb_hub_place *place,
                             const char *etag, uint64_t size, emb_error *err)
{
    memset(blob, 0, sizeof *blob);
    blob->lock = blob->file = -1;
    blob->etag = etag;
    blob->size = size;
    blob->path = emb_hub_path(arena, place->folder, "blobs", etag, NULL);
    const char *lock = emb_hub_path(arena, place->locks, etag, NULL);
    blob->lock_path = lock ? suffixed(arena, lock, ".lock") : NULL;
    blob->own = blob->path ? own_partial(arena, blob->path) : NULL;
    blob->partial = blob->path ? suffixed(arena, blob->path, ".incomplete") : NULL;
    return blob->partial && blob->own && blob->lock_path ? EMB_OK : emb_fail_nomem(err, "path of a file", 0);
}

bool emb_hub_blob_present(const emb_hub_blob *blob)
{
    struct stat info;
    return stat(blob->path, &info) == 0 && S_ISREG(info.st_mode) &&
           (blob->size == EMB_HUB_SIZE_UNKNOWN || (uint64_t)info.st_size == blob->size);
}

/* ---- the lock ---- */

/* Whether the locked file is still the one of that name. */
static bool still_named(int fd, const char *path)
{
    struct stat locked, named;
    return fstat(fd, &locked) == 0 && stat(path, &named) == 0 && locked.st_ino == named.st_ino &&
           locked.st_dev == named.st_dev;
}

static emb_status take_lock(emb_hub_blob *blob, int fd, bool *got, emb_error *err)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *got = still_named(fd, blob->lock_path);
        return EMB_OK;
    }
    if (errno == EWOULDBLOCK || errno == EINTR)
        return EMB_OK;
    if (errno != ENOSYS && errno != ENOTSUP && errno != ENOLCK && errno != EINVAL)
        return emb_fail_errno(err, blob->lock_path, "locking");
    blob->partial = blob->own; /* no locks on this file system */
    *got = true;
    return EMB_OK;
}

emb_status emb_hub_blob_lock(emb_hub_blob *blob, bool *got, emb_error *err)
{
    *got = false;
    emb_status status = emb_hub_make_parent(blob->lock_path, err);
    if (status)
        return status;
    int fd = open(blob->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0664);
    if (fd < 0)
        return emb_fail_errno(err, blob->lock_path, "opening");
    status = take_lock(blob, fd, got, err);
    if (*got)
        blob->lock = fd;
    else
        close(fd);
    return status;
}

/* ---- the unfinished copy ---- */

static emb_status hash_what_is_there(emb_hub_blob *blob, const volatile int *cancel, emb_error *err)
{
    if (emb_hub_digest_of(blob->etag) == EMB_HUB_DIGEST_NONE)
        return EMB_OK;
    char *chunk = malloc(CHUNK_BYTES);
    emb_status status = chunk ? EMB_OK : emb_fail_nomem(err, "reading an unfinished file", CHUNK_BYTES);
    uint64_t done = 0;
    while (!status && done < blob->offset) {
        uint64_t left = blob->offset - done;
        ssize_t n = pread(blob->file, chunk, left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            status = n < 0 ? emb_fail_errno(err, blob->partial, "reading")
                           : emb_fail(err, EMB_E_IO, blob->partial, "%s became shorter while it was read",
                                      blob->partial);
        else
            emb_hub_digest_add(blob->digest, chunk, (size_t)n);
        done += n > 0 ? (uint64_t)n : 0;
        if (!status && cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
            status = emb_fail(err, EMB_E_CANCELLED, NULL, "stopped");
    }
    free(chunk);
    return status;
}

/* Better before the transfer than in its middle. File systems that do not know their space are not asked. */
static emb_status check_space(const emb_hub_blob *blob, emb_error *err)
{
    struct statvfs fs;
    if (blob->size == EMB_HUB_SIZE_UNKNOWN || fstatvfs(blob->file, &fs) < 0 || fs.f_blocks == 0)
        return EMB_OK;
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (blob->size <= blob->offset || blob->size - blob->offset <= free_bytes)
        return EMB_OK;
    return emb_fail(err, EMB_E_IO, blob->path,
                    "%.1f MB are still to be fetched and %.1f MB are free on the disk of %s",
                    (double)(blob->size - blob->offset) / 1e6, (double)free_bytes / 1e6, blob->path);
}

emb_status emb_hub_blob_open(emb_hub_blob *blob, const volatile int *cancel, emb_error *err)
{
    struct stat info;
    emb_status status = emb_hub_make_parent(blob->partial, err);
    if (status)
        return status;
    blob->file = open(blob->partial, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (blob->file < 0 || fstat(blob->file, &info) < 0) {
        status = emb_fail_errno(err, blob->partial, "opening");
        return status == EMB_E_NOT_FOUND ? EMB_E_IO : status;
    }
    blob->digest = emb_hub_digest_open(blob->etag, blob->size);
    if (!blob->digest)
        return emb_fail_nomem(err, "hash of a file", 0);
    blob->offset = (uint64_t)info.st_size;
    if (blob->size != EMB_HUB_SIZE_UNKNOWN &&
        blob->offset > blob->size) /* it cannot be the beginning of that */
        return emb_hub_blob_rewind(blob, err);
    status = check_space(blob, err);
    if (!status)
        status = hash_what_is_there(blob, cancel, err);
    return status ? status
           : lseek(blob->file, (off_t)blob->offset, SEEK_SET) < 0
               ? emb_fail_errno(err, blob->partial, "positioning")
               : EMB_OK;
}

emb_status emb_hub_blob_write(emb_hub_blob *blob, const void *data, size_t length, emb_error *err)
{
    const char *from = data;
    while (length > 0) {
        ssize_t n = write(blob->file, from, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return emb_fail_errno(err, blob->path, "writing");
        emb_hub_digest_add(blob->digest, from, (size_t)n);
        from += n;
        length -= (size_t)n;
        blob->offset += (uint64_t)n;
    }
    if (blob->offset - blob->pushed >=
        push_bytes) { /* or the fsync at the end would stand still for all of it */
        sync_file_range(blob->file, (off_t)blob->pushed, (off_t)(blob->offset - blob->pushed),
                        SYNC_FILE_RANGE_WRITE);
        blob->pushed = blob->offset;
    }
    return EMB_OK;
}

emb_status emb_hub_blob_rewind(emb_hub_blob *blob, emb_error *err)
{
    blob->offset = blob->pushed = 0;
    if (ftruncate(blob->file, 0) < 0 || lseek(blob->file, 0, SEEK_SET) < 0)
        return emb_fail_errno(err, blob->partial, "emptying");
    return emb_hub_digest_restart(blob->digest)
               ? EMB_OK
               : emb_fail(err, EMB_E_INTERNAL, blob->path, "the hash of a file could not be begun");
}

/* ---- finishing ---- */

static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path)) : NULL;
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd); /* some file systems refuse; the file itself is on disk */
        close(fd);
    }
    free(folder);
}

emb_status emb_hub_blob_finish(emb_hub_blob *blob, const char *name, emb_error *err)
{
    char actual[65];
    if (!emb_hub_digest_matches(blob->digest, actual)) {
        emb_status ignored = emb_hub_blob_rewind(blob, NULL);
        (void)ignored; /* the next attempt says it */
        return emb_fail(err, EMB_E_CORRUPT, name, "%s came damaged: its %s is %s, the hub says %s", name,
                        strlen(blob->etag) == 64 ? "SHA-256" : "git hash", actual, blob->etag);
    }
    if (fsync(blob->file) < 0 && errno != EINVAL)
        return emb_fail_errno(err, blob->path, "writing");
    if (rename(blob->partial, blob->path) < 0)
        return emb_fail_errno(err, blob->path, "renaming to");
    close(blob->file);
    blob->file = -1;
    sync_folder(blob->path);
    return EMB_OK;
}

void emb_hub_blob_close(emb_hub_blob *blob)
{
    if (blob->file >= 0) {
        close(blob->file);
        if (blob->offset == 0 || blob->partial == blob->own) /* nothing to go on with, or nobody who could */
            unlink(blob->partial);
    }
    if (blob->lock >= 0)
        close(blob->lock); /* and with it the lock */
    blob->file = blob->lock = -1;
    emb_hub_digest_close(blob->digest);
    blob->digest = NULL;
}

/* ---- the snapshot ---- */

static bool links_are_wanted(void)
{
    static const char *const yes[] = {"1", "ON", "YES", "TRUE"};
    const char *value = getenv("HF_HUB_DISABLE_SYMLINKS");
    for (size_t i = 0; value && i < sizeof yes / sizeof *yes; i++)
        if (strcasecmp(value, yes[i]) == 0)
            return false;
    return true;
}

/* "../../blobs/ETAG", with one more ".." for each folder in the name. */
static char *link_target(emb_arena *arena, const char *name, const char *etag)
{
    size_t depth = 2;
    for (const char *p = name; *p; p++)
        depth += *p == '/';
    char *target = emb_arena_alloc(arena, 3 * depth + strlen(etag) + 8), *to = target;
    if (!target)
        return NULL;
    for (; depth > 0; depth--)
        to = stpcpy(to, "../");
    stpcpy(stpcpy(to, "blobs/"), etag);
    return target;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

static emb_status copy_file(const char *from, const char *to, emb_error *err)
{
    emb_mapping map;
    emb_atomic_file file;
    emb_status status = emb_mapping_open(&map, from, err);
    if (status)
        return status;
    status = emb_atomic_open(&file, to, err);
    if (!status) {
        if (map.length)
            fwrite(map.data, 1, map.length, file.stream);
        status = emb_atomic_commit(&file, err);
    }
    emb_mapping_close(&map);
    return status;
}

/* Under a temporary name first: what stood there (a link to an older blob) is replaced, never missing. */
static bool put_link(const char *target, const char *blob, const char *path, const char *temporary,
                     bool symbolic)
{
    unlink(temporary);
    if ((symbolic ? symlink(target, temporary) : link(blob, temporary)) < 0)
        return false;
    if (rename(temporary, path) == 0) {
        unlink(temporary); /* still there if both were links to one file */
        return true;
    }
    unlink(temporary);
    return false;
}

static bool same_size(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_size == y.st_size;
}

emb_status emb_hub_link(const emb_hub_place *place, const char *commit, const char *name, const char *etag,
                        emb_arena *arena, emb_error *err)
{
    unsigned char random[4]; /* threads may make one snapshot at the same time */
    char unique[16] = ".";
    if (!emb_random_bytes(random, sizeof random))
        return emb_fail(err, EMB_E_INTERNAL, NULL, "the system gives no random numbers");
    emb_hex(random, sizeof random, unique + 1);
    memcpy(unique + 9, ".tmp", 5);
    char *blob = emb_hub_path(arena, place->folder, "blobs", etag, NULL),
         *target = link_target(arena, name, etag);
    char *path = emb_hub_path(arena, place->folder, "snapshots", commit, name, NULL);
    char *temporary = path ? suffixed(arena, path, unique) : NULL;
    if (!blob || !target || !temporary)
        return emb_fail_nomem(err, "path of a file", 0);
    if (same_file(path, blob) || (!links_are_wanted() && same_size(path, blob)))
        return EMB_OK;
    emb_status status = emb_hub_make_parent(path, err);
    if (status || (links_are_wanted() && put_link(target, blob, path, temporary, true)) ||
        put_link(target, blob, path, temporary, false))
        return status;
    return copy_file(blob, path, err);
}
