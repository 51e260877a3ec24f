/*
 * What tells one set of model files from another.
 *
 * Hashing all of a model's weights would take seconds at each start; a name or a time alone tells too little:
 * a model that is quantised again, or fine-tuned further, has the same names and sizes. So small files
 * (configuration, tokenizer) are hashed whole, and of weight files their size, their header and 256 blocks
 * spread over them: training changes practically every weight, and an exchange of single tensors changes a
 * block or is hardly one. A file that was changed in a few bytes between the blocks on purpose is not
 * noticed; whoever can do that can do worse.
 *
 * Files that do not take part in computing (README, pictures, weights of other formats) do not count.
 * Directories are read one level deep, where modules and their settings are, in the order of names. Each file
 * goes in as name, length of what follows, and that.
 */
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "crypto/crypto.h"
#include "service/models_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCKS = 256, BLOCK_BYTES = 4096, HEADER_BYTES = 1 << 20, DIGITS = 12, READ_BYTES = 1 << 16 };

typedef struct source {
    const char *root;
    emb_sha256_state *state; /* NULL: only the stamp */
    uint64_t stamp;
    unsigned char *buffer; /* READ_BYTES */
} source;

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

static bool is_weights(const char *name)
{
    return ends_in(name, ".safetensors");
}

static bool counts(const char *name)
{
    return is_weights(name) || ends_in(name, ".json") || ends_in(name, ".txt") || ends_in(name, ".model");
}

/* ---- contents -------------------------------------------------------------------------------- */

/* Adds [offset, offset + length) of an open file. */
static emb_status add_range(source *s, int file, const char *path, uint64_t offset, uint64_t length,
                            emb_error *err)
{
    while (length) {
        ssize_t n = pread(file, s->buffer, length < READ_BYTES ? length : READ_BYTES, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return emb_fail_errno(err, path, "reading");
        if (n == 0)
            return emb_fail(err, EMB_E_IO, path, "the file became shorter while it was read");
        emb_sha256_add(s->state, s->buffer, (size_t)n);
        offset += (uint64_t)n;
        length -= (uint64_t)n;
    }
    return EMB_OK;
}

static emb_status add_weights(source *s, int file, const char *path, uint64_t size, emb_error *err)
{
    uint64_t header = size < HEADER_BYTES ? size : HEADER_BYTES;
    emb_status status = add_range(s, file, path, 0, header, err);
    uint64_t rest = size - header, step = rest / BLOCKS;
    if (step <= BLOCK_BYTES)
        return status ? status : add_range(s, file, path, header, rest, err);
    for (uint64_t i = 0; i < BLOCKS && !status; i++) {
        /* The last block is the end of the file. */
        uint64_t at = i + 1 < BLOCKS ? header + i * step : size - BLOCK_BYTES;
        status = add_range(s, file, path, at, BLOCK_BYTES, err);
    }
    return status;
}

static emb_status add_contents(source *s, const char *name, const char *path, emb_error *err)
{
    struct stat info;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &info)) {
        emb_status failed = emb_fail_errno(err, path, "opening");
        if (file >= 0)
            close(file);
        return failed;
    }
    uint64_t lengths[2] = {strlen(name), (uint64_t)info.st_size};
    emb_sha256_add(s->state, lengths, sizeof lengths);
    emb_sha256_add(s->state, name, strlen(name));
    emb_status status = is_weights(name) ? add_weights(s, file, path, (uint64_t)info.st_size, err)
                                         : add_range(s, file, path, 0, (uint64_t)info.st_size, err);
    close(file);
    return status;
}

/* ---- walking --------------------------------------------------------------------------------- */

static void add_stamp(source *s, const char *name, const struct stat *info)
{
    uint64_t facts[4] = {(uint64_t)info->st_size, (uint64_t)info->st_mtim.tv_sec,
                         (uint64_t)info->st_mtim.tv_nsec, (uint64_t)info->st_ino};
    s->stamp = emb_hash(name, strlen(name), s->stamp);
    s->stamp = emb_hash(facts, sizeof facts, s->stamp);
}

static emb_status add_directory(source *s, const char *inner, emb_error *err);

/* `inner` is the directory below the root, "" for the root itself. */
static emb_status add_entry(source *s, const char *inner, const char *entry, emb_error *err)
{
    char name[PATH_MAX], path[PATH_MAX];
    struct stat info;
    int n = snprintf(name, sizeof name, "%s%s%s", inner, *inner ? "/" : "", entry);
    int m = snprintf(path, sizeof path, "%s/%s", s->root, name);
    if (n < 0 || n >= PATH_MAX || m < 0 || m >= PATH_MAX || stat(path, &info))
        return EMB_OK; /* a name that leads nowhere is no file of the model */
    if (S_ISDIR(info.st_mode))
        return *inner ? EMB_OK : add_directory(s, entry, err);
    if (!S_ISREG(info.st_mode) || !counts(entry))
        return EMB_OK;
    add_stamp(s, name, &info);
    return s->state ? add_contents(s, name, path, err) : EMB_OK;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* not strcoll: the locale must not decide */
}

static emb_status add_directory(source *s, const char *inner, emb_error *err)
{
    char path[PATH_MAX];
    struct dirent **entries = NULL;
    int n = snprintf(path, sizeof path, "%s%s%s", s->root, *inner ? "/" : "", inner);
    int count = n > 0 && n < PATH_MAX ? scandir(path, &entries, NULL, by_name) : -1;
    if (count < 0)
        return *inner && errno != ENOMEM ? EMB_OK : emb_fail_errno(err, s->root, "reading the directory");
    emb_status status = EMB_OK;
    for (int i = 0; i < count; i++) {
        if (!status && entries[i]->d_name[0] != '.')
            status = add_entry(s, inner, entries[i]->d_name, err);
        free(entries[i]);
    }
    free(entries);
    return status;
}

emb_status emb_fingerprint_stamp(const char *path, uint64_t *stamp, emb_error *err)
{
    source s = {.root = path, .stamp = 1};
    emb_status status = add_directory(&s, "", err);
    *stamp = s.stamp ? s.stamp : 1;
    return status;
}

emb_status emb_fingerprint(const char *path, char out[EMB_REVISION_MAX], emb_error *err)
{
    uint8_t digest[EMB_SHA256_BYTES];
    source s = {.root = path, .state = emb_sha256_open(), .buffer = malloc(READ_BYTES)};
    emb_status status = s.state && s.buffer ? add_directory(&s, "", err)
                                            : emb_fail_nomem(err, "fingerprint of a model", READ_BYTES);
    if (!status) {
        emb_sha256_end(s.state, digest);
        emb_hex(digest, DIGITS / 2, out);
    }
    free(s.buffer);
    emb_sha256_close(s.state);
    return status;
}
