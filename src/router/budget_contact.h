/*
 * budget_contact.h: whether a budget's store answers, and whose turn it is to ask it. Internal to router/.
 *
 *     if ((st = emb_budget_contact_enter(c, deadline_ns, err))) return st;   // away, or too late
 *     do {
 *         since = emb_now_ns();
 *         st = ops->reserve(store, order, …);
 *     } while (st && emb_budget_contact_failed(c, st, since, &why));           // busy with others: once more
 *     if (!st) emb_budget_contact_answered(c);
 *     emb_budget_contact_leave(c);
 *
 * Thread-safe.
 */
#ifndef EMB_ROUTER_BUDGET_CONTACT_H
#define EMB_ROUTER_BUDGET_CONTACT_H

#include "metrics/metrics.h"

#include <pthread.h>
#include <stdatomic.h>

enum { EMB_BUDGET_TURNS = 4 }; /* steps of callers that are in the store at once */

typedef struct emb_budget_contact {
    emb_series *series_up;
    atomic_bool up;
    atomic_uint failures; /* in a row */
    _Atomic uint64_t answered_ns;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    unsigned turns;
    emb_error last; /* why it is down */
} emb_budget_contact;

void emb_budget_contact_init(emb_budget_contact *contact, emb_series *series_up);
void emb_budget_contact_fini(emb_budget_contact *contact);
bool emb_budget_contact_is_up(const emb_budget_contact *contact);

/* Waits for a turn as long as the store is up, until the deadline (0: none). EMB_E_UNAVAILABLE when it is
 * not, or the deadline has passed. */
EMB_MUST_CHECK emb_status emb_budget_contact_enter(emb_budget_contact *contact, uint64_t deadline_ns,
                                                   emb_error *err);
void emb_budget_contact_leave(emb_budget_contact *contact);

/* A step was answered. */
void emb_budget_contact_answered(emb_budget_contact *contact);
/* A step that began at since_ns was not. true: its time was up, and meanwhile others were answered. */
bool emb_budget_contact_failed(emb_budget_contact *contact, emb_status status, uint64_t since_ns,
                               const emb_error *why);
/* It is away, as it shows at once. */
void emb_budget_contact_lost(emb_budget_contact *contact, const emb_error *why);
/* EMB_E_UNAVAILABLE, with these words for the reason. */
EMB_MUST_CHECK emb_status emb_budget_contact_refuse(emb_error *err, const char *why);

#endif
