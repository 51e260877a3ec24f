/*
 * sink.c: writing that fails cleanly.
 *
 * A regular file is written under a temporary name and renamed at the end. A path that names something
 * else (a device, a pipe) is written in place, since renaming over it would destroy it; a symbolic link is
 * followed for the same reason.
 *
 * Pipes are written in pieces of PIPE_BUF after waiting for room, so that no write blocks while a signal
 * asks to stop. The pieces cost little: a pipe hands on a few GB/s that way, vectors come at a thousandth.
 */
#include "cli/sink.h"

#include "base/error.h"
#include "cli/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 16 };

/* ---- writing ---- */

static emb_status write_failed(const emb_sink *sink, emb_error *err)
{
    if (errno == EPIPE)
        return emb_fail(err, EMB_E_IO, sink->name, "%s was closed by its reader", sink->name);
    return emb_fail_errno(err, sink->name, "writing");
}

static emb_status write_fd(const emb_sink *sink, int fd, const char *data, size_t length, emb_error *err)
{
    struct stat info;
    bool waits = fstat(fd, &info) == 0 && !S_ISREG(info.st_mode);
    while (length > 0) {
        size_t piece = waits && length > PIPE_BUF ? PIPE_BUF : length;
        if (waits && !emb_stop_wait_writable(fd))
            return emb_fail(err, EMB_E_CANCELLED, sink->name, "stopped");
        ssize_t n = write(fd, data, piece);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return write_failed(sink, err);
        data += n;
        length -= (size_t)n;
    }
    return EMB_OK;
}

emb_status emb_sink_write(emb_sink *sink, const void *data, size_t length, emb_error *err)
{
    return write_fd(sink, sink->fd, data, length, err);
}

emb_status emb_sink_write_at(emb_sink *sink, const void *data, size_t length, emb_error *err)
{
    const char *p = data;
    for (size_t done = 0; done < length;) {
        ssize_t n = pwrite(sink->fd, p + done, length - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return write_failed(sink, err);
        done += (size_t)n;
    }
    return EMB_OK;
}

/* ---- opening ---- */

static void sink_clear(emb_sink *sink, emb_sink_form kind, const char *name)
{
    memset(sink, 0, sizeof *sink);
    sink->kind = kind;
    sink->name = name;
    sink->fd = sink->target = -1;
}

/* Output to fd directly, or by way of a file without a name in $TMPDIR. */
static emb_status open_stream(emb_sink *sink, int fd, bool owned, bool rewinds, emb_error *err)
{
    sink->owned = owned;
    sink->fd = sink->target = fd;
    if (!rewinds)
        return EMB_OK;
    const char *directory = getenv("TMPDIR");
    char *path = emb_path_join(directory && *directory ? directory : "/tmp", "embedd-XXXXXX");
    if (!path)
        return emb_fail_nomem(err, "temporary file", 0);
    sink->kind = EMB_SINK_SPOOLED;
    emb_status status = EMB_OK;
    int spool = mkostemp(path, O_CLOEXEC);
    if (spool < 0) {
        status = emb_fail_errno(err, path, "creating temporary file");
    } else {
        unlink(path);
        sink->fd = spool;
    }
    free(path);
    return status;
}

emb_status emb_sink_open_stdout(emb_sink *sink, bool rewinds, emb_error *err)
{
    sink_clear(sink, EMB_SINK_STREAM, "standard output");
    emb_status status = open_stream(sink, STDOUT_FILENO, false, rewinds, err);
    if (status)
        emb_sink_abort(sink);
    return status;
}

static bool exists_as_other_than_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode);
}

/* The file that `path` stands for; "x" itself if it does not exist yet. */
static char *resolve(const char *path)
{
    char *real = realpath(path, NULL);
    return real ? real : strdup(path);
}

emb_status emb_sink_open_file(emb_sink *sink, const char *path, bool rewinds, emb_error *err)
{
    emb_status status;
    sink_clear(sink, EMB_SINK_ATOMIC, path);
    if (emb_is_directory(path))
        return emb_fail(err, EMB_E_INVALID, path, "%s is a directory; --output takes a file", path);
    if (exists_as_other_than_file(path)) {
        sink->kind = EMB_SINK_STREAM;
        int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            return emb_fail_errno(err, path, "opening");
        status = open_stream(sink, fd, true, rewinds, err);
    } else {
        sink->path = resolve(path);
        status = sink->path ? emb_atomic_open(&sink->atomic, sink->path, err) : emb_fail_nomem(err, path, 0);
        if (!status)
            sink->fd = fileno(sink->atomic.stream);
    }
    if (status)
        emb_sink_abort(sink);
    return status;
}

/* ---- partial files ---- */

/* The offset behind the last '\n' before `end`, 0 if there is none; UINT64_MAX if reading failed. */
static uint64_t line_start_before(int fd, uint64_t end)
{
    char block[COPY_BYTES];
    while (end > 0) {
        size_t n = end < sizeof block ? (size_t)end : sizeof block;
        if (pread(fd, block, n, (off_t)(end - n)) != (ssize_t)n)
            return UINT64_MAX;
        for (size_t i = n; i > 0; i--)
            if (block[i - 1] == '\n')
                return end - n + i;
        end -= n;
    }
    return 0;
}

/* Cuts the torn end and takes the last line into memory. */
static emb_status find_last_line(emb_sink *sink, emb_error *err)
{
    off_t size = lseek(sink->fd, 0, SEEK_END);
    uint64_t whole = size < 0 ? UINT64_MAX : line_start_before(sink->fd, (uint64_t)size), start;
    if (whole == UINT64_MAX || ((uint64_t)size != whole && ftruncate(sink->fd, (off_t)whole) < 0))
        return emb_fail_errno(err, sink->partial, "reading");
    if (whole == 0)
        return lseek(sink->fd, 0, SEEK_SET) < 0 ? emb_fail_errno(err, sink->partial, "reading") : EMB_OK;
    start = line_start_before(sink->fd, whole - 1);
    if (start == UINT64_MAX)
        return emb_fail_errno(err, sink->partial, "reading");
    sink->last_length = (size_t)(whole - start);
    sink->last_line = malloc(sink->last_length);
    if (!sink->last_line)
        return emb_fail_nomem(err, sink->partial, sink->last_length);
    if (pread(sink->fd, sink->last_line, sink->last_length, (off_t)start) != (ssize_t)sink->last_length ||
        lseek(sink->fd, (off_t)start, SEEK_SET) < 0)
        return emb_fail_errno(err, sink->partial, "reading");
    sink->verified_end = start;
    return EMB_OK;
}

static emb_status open_partial(emb_sink *sink, const char *path, emb_error *err)
{
    if (exists_as_other_than_file(path))
        return emb_fail(err, EMB_E_INVALID, path, "%s is not a regular file; --resume needs one", path);
    sink->path = resolve(path);
    size_t n = sink->path ? strlen(sink->path) : 0;
    sink->partial = sink->path ? malloc(n + sizeof ".partial") : NULL;
    if (!sink->partial)
        return emb_fail_nomem(err, path, n);
    memcpy(sink->partial, sink->path, n);
    memcpy(sink->partial + n, ".partial", sizeof ".partial");
    sink->fd = open(sink->partial, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (sink->fd < 0)
        return emb_fail_errno(err, sink->partial, "opening");
    sink->owned = true;
    /* the second test: another process may have finished and renamed it between open and lock */
    struct stat mine, named;
    if (flock(sink->fd, LOCK_EX | LOCK_NB) < 0 || fstat(sink->fd, &mine) < 0 ||
        stat(sink->partial, &named) < 0 || mine.st_ino != named.st_ino || mine.st_dev != named.st_dev)
        return emb_fail(err, EMB_E_BUSY, sink->partial, "%s is being written by another process",
                        sink->partial);
    return find_last_line(sink, err);
}

emb_status emb_sink_open_partial(emb_sink *sink, const char *path, emb_error *err)
{
    sink_clear(sink, EMB_SINK_PARTIAL, path);
    emb_status status = open_partial(sink, path, err);
    if (status)
        emb_sink_abort(sink);
    return status;
}

/* ---- ending ---- */

static emb_status copy_spool(emb_sink *sink, emb_error *err)
{
    char block[COPY_BYTES];
    off_t at = 0;
    for (;;) {
        ssize_t n = pread(sink->fd, block, sizeof block, at);
        if (n < 0)
            return emb_fail_errno(err, "temporary file", "reading");
        if (n == 0)
            return EMB_OK;
        emb_status status = write_fd(sink, sink->target, block, (size_t)n, err);
        if (status)
            return status;
        at += n;
    }
}

emb_status emb_sink_commit(emb_sink *sink, emb_error *err)
{
    emb_status status = EMB_OK;
    switch (sink->kind) {
    case EMB_SINK_STREAM:
        if (sink->owned) {
            int fd = sink->fd;
            sink->owned = false;
            if (close(fd) < 0)
                status = write_failed(sink, err);
        }
        break;
    case EMB_SINK_SPOOLED:
        status = copy_spool(sink, err);
        break;
    case EMB_SINK_ATOMIC:
        status = emb_atomic_commit(&sink->atomic, err);
        break;
    case EMB_SINK_PARTIAL:
        if (fsync(sink->fd) < 0)
            status = emb_fail_errno(err, sink->partial, "writing");
        else if (rename(sink->partial, sink->path) < 0)
            status = emb_fail_errno(err, sink->path, "renaming to");
        break;
    }
    emb_sink_abort(sink);
    return status;
}

void emb_sink_abort(emb_sink *sink)
{
    if (sink->kind == EMB_SINK_ATOMIC)
        emb_atomic_abort(&sink->atomic);
    if (sink->kind == EMB_SINK_SPOOLED && sink->fd >= 0 && sink->fd != sink->target)
        close(sink->fd);
    if (sink->owned && sink->kind == EMB_SINK_SPOOLED)
        close(sink->target);
    else if (sink->owned)
        close(sink->fd);
    free(sink->path);
    free(sink->partial);
    free(sink->last_line);
    sink_clear(sink, sink->kind, sink->name);
}
