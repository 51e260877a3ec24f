/*
 * file.h: whole files: mapped, read, and written so that a reader never sees half of one.
 *
 *     emb_mapping m;
 *     if ((st = emb_mapping_open(&m, path, err))) return st;   // m.data, m.length
 *     emb_mapping_close(&m);
 *
 *     emb_atomic_file f;                        // writes path.tmp-XXXX, then fsync and rename
 *     if ((st = emb_atomic_open(&f, path, err))) return st;
 *     fwrite(…, f.stream);
 *     st = emb_atomic_commit(&f, err);          // or emb_atomic_abort(&f)
 *
 * Not thread-safe per object. A mapping is read-only and private; pages are shared between processes.
 */
#ifndef EMB_BASE_FILE_H
#define EMB_BASE_FILE_H

#include <embedd.h>
#include <stdio.h>

typedef struct emb_mapping {
    const unsigned char *data; /* NULL for an empty file */
    size_t length;
} emb_mapping;

EMB_MUST_CHECK emb_status emb_mapping_open(emb_mapping *mapping, const char *path, emb_error *err);
void emb_mapping_close(emb_mapping *mapping);
/* Tells the kernel that a range will not be needed soon; it can be read again all the same. */
void emb_mapping_forget(const emb_mapping *mapping, size_t offset, size_t length);

/* Reads a file of at most max_bytes; *out is malloc'ed, NUL-terminated, released with free. */
EMB_MUST_CHECK emb_status emb_read_file(const char *path, size_t max_bytes, char **out, size_t *length,
                                        emb_error *err);

typedef struct emb_atomic_file {
    FILE *stream;
    char *path, *temporary;
} emb_atomic_file;

EMB_MUST_CHECK emb_status emb_atomic_open(emb_atomic_file *file, const char *path, emb_error *err);
EMB_MUST_CHECK emb_status emb_atomic_commit(emb_atomic_file *file, emb_error *err);
void emb_atomic_abort(emb_atomic_file *file);

/* "dir/name" in malloc'ed memory, NULL when memory is short. */
char *emb_path_join(const char *directory, const char *name);
bool emb_is_directory(const char *path);
bool emb_is_file(const char *path);

#endif
