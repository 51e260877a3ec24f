/*
 * write_behind.h: writes to L2 in batches, by a thread of its own, which also looks after L2.
 *
 *     emb_writer *writer;
 *     emb_writer_open(front, 65536, metrics, &writer, err);
 *     emb_writer_add(writer, &key, &value, ttl_s, model, text, text_length);   // never waits
 *     emb_writer_flush(writer, deadline_ns);
 *     emb_writer_close(writer, drain_ns);
 *
 * Every vector that is added is, in the end, counted as one of: stored, dropped (the queue was full, it was
 * removed by a filter, or the time for closing was up), failed (L2 refuses this one for good). While L2 is
 * down they wait. Thread-safe.
 */
#ifndef EMB_CACHE_WRITE_BEHIND_H
#define EMB_CACHE_WRITE_BEHIND_H

#include "cache/front.h"
#include "cache/value.h"

typedef struct emb_writer emb_writer;

EMB_MUST_CHECK emb_status emb_writer_open(emb_front *front, size_t limit, emb_metrics *metrics,
                                          emb_writer **out, emb_error *err);
/* Writes what waits until the deadline (emb_now_ns's clock), drops the rest, and ends. Takes NULL. */
void emb_writer_close(emb_writer *writer, uint64_t deadline_ns);

/* Copies everything. false if it was dropped. ttl_s 0: for ever; model and text may be NULL. */
bool emb_writer_add(emb_writer *writer, const emb_cache_key *key, const emb_value *value, uint64_t ttl_s,
                    const char *model, const char *text, size_t text_length);
/* A value that did not check is to be removed. Forgotten if too many are. */
void emb_writer_remove_corrupt(emb_writer *writer, const emb_cache_key *key);
bool emb_writer_flush(emb_writer *writer, uint64_t deadline_ns);
/* Drops what matches of what waits, then calls L2's remove while nothing is being written. */
EMB_MUST_CHECK emb_status emb_writer_remove(emb_writer *writer, const emb_cache_filter *filter,
                                            uint64_t now_s, uint64_t deadline_ns, uint64_t *removed,
                                            emb_error *err);
/* The thread looks at once whether there is something to do. */
void emb_writer_wake(emb_writer *writer);
/* queued, stored, dropped, write_failures of *out. */
void emb_writer_get_stats(emb_writer *writer, emb_cache_stats *out);

#endif
