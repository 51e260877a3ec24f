/*
 * front.h: an L2 as requests see it: asked within a deadline, or not at all while it is down.
 *
 *     emb_front *front;                       // takes the l2
 *     emb_front_open(l2, "redis", 50, metrics, &front, err);
 *     if (emb_front_get(front, keys, n, deadline_ns, found, context)) …
 *
 * After three failures in a row its circuit opens: requests go on without L2, and emb_front_probe, which the
 * thread of write_behind.h calls when emb_front_probe_due says so, finds out when it is back. Going down and
 * coming back are one line each in the log. Thread-safe.
 */
#ifndef EMB_CACHE_FRONT_H
#define EMB_CACHE_FRONT_H

#include "cache/circuit.h"
#include "cache/l2.h"

typedef struct emb_front emb_front;

EMB_MUST_CHECK emb_status emb_front_open(emb_l2 *l2, const char *kind, uint32_t deadline_ms,
                                         emb_metrics *metrics, emb_front **out, emb_error *err);
void emb_front_close(emb_front *front); /* closes the l2; takes NULL */
void emb_front_set_deadline(emb_front *front, uint32_t deadline_ms);
emb_l2 *emb_front_l2(emb_front *front);
bool emb_front_is_up(emb_front *front);

/* One round trip within the deadline of L2 and the request's own (0: none). false: nobody was asked, or it
 * failed; what was found until then counts all the same. */
bool emb_front_get(emb_front *front, const emb_cache_key *const *keys, size_t count, uint64_t deadline_ns,
                   emb_l2_found found, void *context);
/* What came of the last get: hits and misses by key, values that did not check. */
void emb_front_count(emb_front *front, uint64_t hits, uint64_t misses, uint64_t corrupt);

/* When to probe, 0 while it is up. */
uint64_t emb_front_probe_due(emb_front *front);
/* Connects if need be, then asks within the ordinary deadline. */
void emb_front_probe(emb_front *front);
/* Notes an operation's failure for stats, without opening the circuit. */
void emb_front_note_error(emb_front *front, emb_status status, const emb_error *err);
/* Asks L2 for entries and bytes within its deadline; what was known last if it does not answer. */
void emb_front_get_stats(emb_front *front, emb_cache_stats *out);

#endif
