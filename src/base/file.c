/*
 * Files: read-only private mappings, bounded reads, and writing by temporary name, fsync and rename, so
 * that after a crash a reader finds the old file or the new one. The directory is synced too: without
 * that a rename can be lost with the power.
 */
#include "base/file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

emb_status emb_mapping_open(emb_mapping *mapping, const char *path, emb_error *err)
{
    emb_status status = EMB_OK;
    struct stat info;
    mapping->data = NULL;
    mapping->length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return emb_fail_errno(err, path, "opening");
    if (fstat(fd, &info) < 0) {
        status = emb_fail_errno(err, path, "reading");
    } else if (!S_ISREG(info.st_mode)) {
        status = emb_fail(err, EMB_E_IO, path, "opening %s: not a regular file", path);
    } else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            status = emb_fail_errno(err, path, "mapping");
        } else {
            mapping->data = data;
            mapping->length = (size_t)info.st_size;
        }
    }
    close(fd);
    return status;
}

void emb_mapping_close(emb_mapping *mapping)
{
    if (mapping->data)
        munmap((void *)mapping->data, mapping->length);
    mapping->data = NULL;
    mapping->length = 0;
}

void emb_mapping_forget(const emb_mapping *mapping, size_t offset, size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t begin = (offset + page - 1) / page * page, end = (offset + length) / page * page;
    if (mapping->data && length <= mapping->length && offset <= mapping->length - length && begin < end)
        madvise((void *)(mapping->data + begin), end - begin, MADV_DONTNEED);
}

static emb_status read_all(FILE *stream, const char *path, size_t max_bytes, char **out, size_t *length,
                           emb_error *err)
{
    size_t capacity = 4096, used = 0;
    char *data = malloc(capacity + 1);
    while (data) {
        used += fread(data + used, 1, capacity - used, stream);
        if (used > max_bytes) {
            free(data);
            return emb_fail(err, EMB_E_LIMIT, path, "%s: over the limit of %zu bytes", path, max_bytes);
        }
        if (used < capacity)
            break;
        char *larger = capacity < SIZE_MAX / 2 - 1 ? realloc(data, capacity * 2 + 1) : NULL;
        if (!larger)
            free(data);
        data = larger;
        capacity *= 2;
    }
    if (!data)
        return emb_fail_nomem(err, path, capacity);
    if (ferror(stream)) {
        free(data);
        return emb_fail_errno(err, path, "reading");
    }
    data[used] = 0;
    *out = data;
    *length = used;
    return EMB_OK;
}

emb_status emb_read_file(const char *path, size_t max_bytes, char **out, size_t *length, emb_error *err)
{
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return emb_fail_errno(err, path, "opening");
    struct stat info;
    emb_status status;
    if (fstat(fileno(stream), &info) == 0 && S_ISDIR(info.st_mode))
        status = emb_fail(err, EMB_E_IO, path, "reading %s: is a directory", path);
    else
        status = read_all(stream, path, max_bytes, out, length, err);
    fclose(stream);
    return status;
}

emb_status emb_atomic_open(emb_atomic_file *file, const char *path, emb_error *err)
{
    memset(file, 0, sizeof *file);
    size_t n = strlen(path);
    static const char suffix[] = ".tmp-XXXXXX";
    file->path = strdup(path);
    file->temporary = malloc(n + sizeof suffix);
    if (!file->path || !file->temporary) {
        emb_atomic_abort(file);
        return emb_fail_nomem(err, path, 2 * n);
    }
    memcpy(file->temporary, path, n);
    memcpy(file->temporary + n, suffix, sizeof suffix);
    int fd = mkostemp(file->temporary, O_CLOEXEC);
    if (fd < 0) {
        free(file->temporary);
        file->temporary = NULL;
        emb_atomic_abort(file);
        return emb_fail_errno(err, path, "creating");
    }
    mode_t mask = umask(0); /* mkstemp makes 0600; give the file what creat would */
    umask(mask);
    if (fchmod(fd, 0666 & ~mask) < 0 || !(file->stream = fdopen(fd, "wb"))) {
        emb_status status = emb_fail_errno(err, path, "creating");
        close(fd);
        emb_atomic_abort(file);
        return status;
    }
    return EMB_OK;
}

/* Best effort: some file systems refuse to sync a directory, and the file itself is whole already. */
static void sync_directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash == path ? strdup("/")
                      : slash       ? strndup(path, (size_t)(slash - path))
                                    : strdup(".");
    int fd = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(directory);
}

emb_status emb_atomic_commit(emb_atomic_file *file, emb_error *err)
{
    emb_status status = EMB_OK;
    FILE *stream = file->stream;
    file->stream = NULL;
    if (fflush(stream) != 0 || ferror(stream) || fsync(fileno(stream)) < 0)
        status = emb_fail_errno(err, file->path, "writing");
    if (fclose(stream) != 0 && !status)
        status = emb_fail_errno(err, file->path, "writing");
    if (!status && rename(file->temporary, file->path) < 0)
        status = emb_fail_errno(err, file->path, "renaming to");
    if (!status) {
        free(file->temporary);
        file->temporary = NULL;
        sync_directory_of(file->path);
    }
    emb_atomic_abort(file);
    return status;
}

void emb_atomic_abort(emb_atomic_file *file)
{
    int saved = errno;
    if (file->stream)
        fclose(file->stream);
    if (file->temporary)
        unlink(file->temporary);
    free(file->temporary);
    free(file->path);
    memset(file, 0, sizeof *file);
    errno = saved;
}

char *emb_path_join(const char *directory, const char *name)
{
    size_t n = strlen(directory), m = strlen(name);
    char *path = malloc(n + m + 2);
    if (!path)
        return NULL;
    memcpy(path, directory, n);
    if (n && directory[n - 1] != '/')
        path[n++] = '/';
    memcpy(path + n, name, m + 1);
    return path;
}

bool emb_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool emb_is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}
