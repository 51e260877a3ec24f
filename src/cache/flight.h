/*
 * flight.h: who computes what at the moment, and who waits for it.
 *
 *     emb_cache_flight *f;
 *     emb_flight_make(table, lookups, n, &policy, deadline_ns, cancel, &f, err);   // all slots to be led, none listed
 *     emb_flight_found(f, i, EMB_CACHE_L1);              // a slot that needs nothing
 *     emb_flight_join(f, recheck, context);              // duplicates, then the table: lead or wait
 *     while (emb_flight_next(f, todo, &count, &status, err)) … emb_flight_fill(f, todo[k], EMB_CACHE_COMPUTED, now_s) …
 *     emb_flight_end(f, status, err);
 *
 * The rules are cache.h's (emb_cache_next, _publish, _end). Thread-safe; a flight is one thread's, apart from
 * what others fill in.
 */
#ifndef EMB_CACHE_FLIGHT_H
#define EMB_CACHE_FLIGHT_H

#include "cache/cache.h"

typedef struct emb_flights emb_flights;

/* shared: a counter of lookups that other flights' computations filled, or NULL. */
EMB_MUST_CHECK emb_status emb_flights_open(emb_series *shared, emb_flights **out, emb_error *err);
void emb_flights_close(emb_flights *table); /* no flight is open; takes NULL */
/* Lookups that were filled by other flights' computations. */
uint64_t emb_flights_shared(emb_flights *table);
/* Lookups that wait at the moment. */
size_t emb_flights_waiting(emb_flights *table);

EMB_MUST_CHECK emb_status emb_flight_make(emb_flights *table, emb_cache_lookup *lookups, size_t count,
                                          const emb_cache_policy *policy, uint64_t deadline_ns,
                                          const volatile int *cancel, emb_cache_flight **out, emb_error *err);
void emb_flight_found(emb_cache_flight *flight, size_t index, emb_cache_source source);

/* Whether L1 has it by now: called for a key that would be led, while nobody can finish computing it. */
typedef bool (*emb_flight_recheck)(void *context, emb_cache_lookup *lookup);
/* Makes duplicates of what is missing wait for their first, and, if `listed`, lists what this flight leads,
 * or waits for who leads it already. */
void emb_flight_join(emb_cache_flight *flight, bool listed, emb_flight_recheck recheck, void *context);
/* Slots that are led and not filled, into indexes; how many. */
size_t emb_flight_led(emb_cache_flight *flight, size_t *indexes);

bool emb_flight_next(emb_cache_flight *flight, size_t *todo, size_t *count, emb_status *status,
                     emb_error *err);
/* The lookup's vector and tokens are there: fills duplicates and those who wait, except those who want a
 * younger one than age_s. */
void emb_flight_fill(emb_cache_flight *flight, size_t index, emb_cache_source source, uint64_t age_s);
/* The lookup is its caller's only; those who wait for it fail. */
void emb_flight_refuse(emb_cache_flight *flight, size_t index, emb_status status, const char *message);
void emb_flight_end(emb_cache_flight *flight, emb_status status, const emb_error *err);

const emb_cache_policy *emb_flight_policy(const emb_cache_flight *flight);
emb_cache_lookup *emb_flight_lookup(emb_cache_flight *flight, size_t index); /* NULL beyond the last */
uint64_t emb_flight_deadline(const emb_cache_flight *flight);
/* The cache that a flight belongs to. */
void emb_flight_set_owner(emb_cache_flight *flight, emb_cache *cache);
emb_cache *emb_flight_owner(const emb_cache_flight *flight);

#endif
