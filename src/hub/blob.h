/*
 * blob.h: one file of the cache while it is being fetched: its lock, its unfinished copy, its hash.
 *
 *     emb_hub_blob b;
 *     emb_hub_blob_init(&b, &arena, place, etag, size, err);
 *     if (!emb_hub_blob_present(&b)) {
 *         emb_hub_blob_lock(&b, &got, err);          // false: another process has it
 *         emb_hub_blob_open(&b, cancel, err);        // b.offset: what is there already
 *         emb_hub_blob_write(&b, data, n, err);
 *         emb_hub_blob_finish(&b, err);              // checked, on disk, in its place
 *     }
 *     emb_hub_blob_close(&b);
 *
 * Not thread-safe per object. Paths live in the arena.
 */
#ifndef EMB_HUB_BLOB_H
#define EMB_HUB_BLOB_H

#include "hub/digest.h"
#include "hub/hub.h"
#include "hub/place.h"

typedef struct emb_hub_blob {
    const char *etag, *path, *lock_path;
    const char *
        partial; /* the unfinished copy: blobs/ETAG.incomplete, or `own` where the file system has no locks */
    const char *own;
    uint64_t size;   /* or EMB_HUB_SIZE_UNKNOWN */
    uint64_t offset; /* bytes in the unfinished copy */
    uint64_t pushed; /* bytes whose writing to disk has been begun */
    int lock, file;
    emb_hub_digest *digest;
} emb_hub_blob;

EMB_MUST_CHECK emb_status emb_hub_blob_init(emb_hub_blob *blob, emb_arena *arena, const emb_hub_place *place,
                                            const char *etag, uint64_t size, emb_error *err);
/* Whether it is complete in its place. */
bool emb_hub_blob_present(const emb_hub_blob *blob);
/* Does not wait. */
EMB_MUST_CHECK emb_status emb_hub_blob_lock(emb_hub_blob *blob, bool *got, emb_error *err);
EMB_MUST_CHECK emb_status emb_hub_blob_open(emb_hub_blob *blob, const volatile int *cancel, emb_error *err);
EMB_MUST_CHECK emb_status emb_hub_blob_write(emb_hub_blob *blob, const void *data, size_t length,
                                             emb_error *err);
/* Empties the unfinished copy. */
EMB_MUST_CHECK emb_status emb_hub_blob_rewind(emb_hub_blob *blob, emb_error *err);
/* EMB_E_CORRUPT: the hash is another; the unfinished copy is empty then. `name` is for the message. */
EMB_MUST_CHECK emb_status emb_hub_blob_finish(emb_hub_blob *blob, const char *name, emb_error *err);
/* Keeps the unfinished copy, if there is anything in it. */
void emb_hub_blob_close(emb_hub_blob *blob);

/* Makes `blob` appear as snapshots/COMMIT/name: by a relative link, or by a copy where links cannot be
 * made. */
EMB_MUST_CHECK emb_status emb_hub_link(const emb_hub_place *place, const char *commit, const char *name,
                                       const char *etag, emb_arena *arena, emb_error *err);

#endif
