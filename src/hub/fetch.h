/*
 * fetch.h: several files at a time, with everything that a network does to them.
 *
 *     emb_hub_fetch f;
 *     if ((st = emb_hub_fetch_init(&f, &place, options, &arena, err))) return st;
 *     emb_hub_fetch_text(&f, url, "list of files", 64 << 20, &buf, err);
 *     emb_hub_fetch_files(&f, &listing, entries, count, true, err);   // blobs complete and checked
 *     emb_hub_fetch_fini(&f);
 *
 * Runs in the calling thread, which also calls the progress function.
 */
#ifndef EMB_HUB_FETCH_H
#define EMB_HUB_FETCH_H

#include "base/buf.h"
#include "hub/exchange.h"
#include "hub/listing.h"
#include "hub/place.h"

typedef struct emb_hub_fetch {
    CURLM *multi;
    const emb_hub_place *place;
    const emb_hub_options *options;
    emb_arena *arena;
    uint64_t random; /* of the waits */
    size_t fetched;  /* files that came over the network */
    uint64_t fetched_bytes;
    emb_hub_file *files; /* for the progress function */
    size_t file_count;
    bool shown;        /* whether it is called */
    uint64_t moved_ns; /* when last */
} emb_hub_fetch;

EMB_MUST_CHECK emb_status emb_hub_fetch_init(emb_hub_fetch *fetch, const emb_hub_place *place,
                                             const emb_hub_options *options, emb_arena *arena,
                                             emb_error *err);
void emb_hub_fetch_fini(emb_hub_fetch *fetch);

/* The body of a GET at the hub, with retries. */
EMB_MUST_CHECK emb_status emb_hub_fetch_text(emb_hub_fetch *fetch, const char *url, const char *what,
                                             emb_buf *out, emb_error *err);
/* Makes the blob of every entry be there; sets etag and size of entries that lack them. */
EMB_MUST_CHECK emb_status emb_hub_fetch_files(emb_hub_fetch *fetch, const char *commit,
                                              emb_hub_entry **entries, size_t count, bool show,
                                              emb_error *err);
/* Calls the progress function with a NOTE. */
void emb_hub_fetch_note(emb_hub_fetch *fetch, const emb_hub_file *file, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Milliseconds until try `attempt` (from 0), between half and all of a span that doubles; at least what the
 * hub asks. */
uint64_t emb_hub_retry_wait_ms(unsigned attempt, int64_t retry_after_ms, uint64_t *random);

#endif
