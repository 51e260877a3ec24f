/*
 * limits.h: how many calls of one provider run at a time, and how fast requests and tokens may go out.
 *
 *     st = emb_limits_enter(&l, deadline_ns, cancel, is_closing, err);    // a slot; waits in line
 *     if (emb_limits_pace(&l, tokens, now, deadline, &start_ns)) …        // may go out at start_ns
 *     emb_limits_leave(&l);
 *
 * A slot is the right to one exchange at a time. A call holds one from its begin to its end; more, for its
 * other parts, only while nobody waits. Thread-safe.
 */
#ifndef EMB_PROVIDER_LIMITS_H
#define EMB_PROVIDER_LIMITS_H

#include "provider/provider.h"

#include <pthread.h>

typedef struct emb_limits_bucket {
    double per_ns, burst, level; /* level < 0: promised ahead */
    uint64_t updated_ns;
} emb_limits_bucket;

typedef struct emb_limits {
    pthread_mutex_t lock;
    size_t slots, used, calls, waiting;
    struct emb_limits_waiter *first, *last;
    emb_limits_bucket requests, tokens; /* per_ns 0: no limit */
    uint64_t until_ns;                  /* by the provider's word */
} emb_limits;

void emb_limits_init(emb_limits *limits, size_t slots, size_t requests_per_minute, size_t tokens_per_minute,
                     uint64_t now_ns);
void emb_limits_fini(emb_limits *limits);

/* EMB_E_BUSY when no slot came free before the deadline, or at once if the provider's own limit outlasts it;
 * EMB_E_CANCELLED, EMB_E_CLOSED. */
EMB_MUST_CHECK emb_status emb_limits_enter(emb_limits *limits, uint64_t deadline_ns,
                                           const volatile int *cancel, bool (*is_closing)(void),
                                           emb_error *err);
void emb_limits_leave(emb_limits *limits);
/* One slot more, if one is free and nobody waits. */
bool emb_limits_more(emb_limits *limits);
/* One of several slots back. */
void emb_limits_less(emb_limits *limits);
bool emb_limits_crowded(emb_limits *limits); /* somebody waits */

/* Promises a request of so many tokens to go out at *start_ns (now or later). false, and nothing promised, if
 * that is not before the deadline; *start_ns is set all the same. */
bool emb_limits_pace(emb_limits *limits, uint64_t tokens, uint64_t now_ns, uint64_t deadline_ns,
                     uint64_t *start_ns);
/* A promise that was not used. */
void emb_limits_unpace(emb_limits *limits, uint64_t tokens);
/* What was really used beside what was promised. */
void emb_limits_settle(emb_limits *limits, uint64_t promised_tokens, uint64_t used_tokens);
/* Nothing before then. */
void emb_limits_hold(emb_limits *limits, uint64_t until_ns);
uint64_t emb_limits_held_until(emb_limits *limits, uint64_t now_ns); /* 0: not held */

#endif
