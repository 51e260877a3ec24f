/*
 * spend.h: reservations of a budget in blocks, so that a call far from the limit does not pay a store's round
 * trip.
 *
 *     emb_spend *s;
 *     emb_spend_open(budget, &s, err);
 *     emb_spend_ticket t;
 *     if ((st = emb_spend_reserve(s, scopes, count, nusd, deadline_ns, &t, err))) return st;
 *     …
 *     emb_spend_settle(s, &t, actual_nusd);    // exactly once; never blocks
 *
 * While every limit is far, a block of EMB_SPEND_LEAST to EMB_SPEND_MOST calls' worth is reserved at once, and calls
 * take their parts of it in memory. It is never more than one part in EMB_SPEND_PARTS of what any limit leaves: with
 * less than EMB_SPEND_PARTS × EMB_SPEND_LEAST calls left, a limit is near. A block is settled, with what its calls
 * really cost, when it is used up or EMB_SPEND_MS old: no later than single settlements would be. Near a
 * limit every call reserves for itself, so that the limit is used to the last call; a block that the store
 * refuses falls back to that too. What a block holds counts as reserved for everybody, so no limit is ever
 * overrun.
 *
 * Thread-safe. A ticket is its caller's memory.
 */
#ifndef EMB_ROUTER_SPEND_H
#define EMB_ROUTER_SPEND_H

#include "router/budget.h"

enum { EMB_SPEND_LEAST = 64, EMB_SPEND_MOST = 1024, EMB_SPEND_PARTS = 16, EMB_SPEND_MS = 100 };

typedef struct emb_spend emb_spend;

typedef struct emb_spend_ticket {
    struct emb_spend_block *block; /* NULL: a reservation of its own */
    uint64_t nusd;
    emb_budget_ticket own;
} emb_spend_ticket;

EMB_MUST_CHECK emb_status emb_spend_open(emb_budget *budget, emb_spend **out, emb_error *err);
void emb_spend_close(emb_spend *spend); /* every ticket is settled; before its budget; takes NULL */
/* As emb_budget_reserve. */
EMB_MUST_CHECK emb_status emb_spend_reserve(emb_spend *spend, const emb_budget_scope *scopes, size_t count,
                                            uint64_t nusd, uint64_t deadline_ns, emb_spend_ticket *ticket,
                                            emb_error *err);
void emb_spend_settle(emb_spend *spend, const emb_spend_ticket *ticket, uint64_t actual_nusd);

#endif
