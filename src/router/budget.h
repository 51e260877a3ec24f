/*
 * budget.h: hard limits of spending a day: reserved before a call, settled after it, never overrun by any
 * number of callers in any number of processes.
 *
 *     emb_budget *b;
 *     emb_budget_open(url, &options, &b, err);               // "memory:", "sqlite:PATH", "redis://…", "postgresql://…"
 *     emb_budget_scope s[] = { { "global", limit }, { "key:search", 5000000000 } };
 *     emb_budget_ticket t;
 *     if ((st = emb_budget_reserve(b, s, 2, nusd, deadline_ns, &t, err))) return st;   // EMB_E_BUDGET: all or nothing
 *     …
 *     emb_budget_settle(b, &t, actual_nusd);                 // never blocks on the store; idempotent by the ticket's id
 *
 * One atomic step in the store per reserve (a transaction; one script in Redis); settlements go out in
 * batches by a thread of the budget. A reservation that was not settled within `reservation_s` comes back,
 * or counts as spent. A store that is busy is waited for, within the deadline; one that answered nobody
 * for command_ms refuses nothing silently: reserve gives EMB_E_UNAVAILABLE, at once until it is back, so
 * that no money is spent unseen. A day is that of the time zone; `now` can be set by tests. Thread-safe.
 */
#ifndef EMB_ROUTER_BUDGET_H
#define EMB_ROUTER_BUDGET_H

#include "metrics/metrics.h"

typedef struct emb_budget emb_budget;

enum { EMB_BUDGET_SCOPES = 8, EMB_BUDGET_NAME = 128 };

typedef struct emb_budget_scope {
    const char *name;    /* "global", "key:NAME", "category:NAME", "provider:NAME", "shadow" */
    uint64_t limit_nusd; /* of a day; UINT64_MAX: none, but spending is counted */
} emb_budget_scope;

typedef struct emb_budget_ticket {
    uint8_t id[16]; /* random */
    uint64_t nusd;
    int32_t day; /* days since 1970 in the zone */
    size_t count;
    char names[EMB_BUDGET_SCOPES][EMB_BUDGET_NAME];
    bool repeated; /* the store was asked for it several times, and may get to some of them late */
} emb_budget_ticket;

typedef struct emb_budget_options {
    const char *timezone;
    uint32_t reservation_s, command_ms; /* command_ms 0: 500 */
    bool expired_are_spent;
    emb_metrics *metrics;   /* or NULL */
    int64_t (*now_s)(void); /* seconds since 1970; NULL: the clock */
} emb_budget_options;

EMB_MUST_CHECK emb_status emb_budget_open(const char *url, const emb_budget_options *options,
                                          emb_budget **out, emb_error *err);
void emb_budget_close(emb_budget *budget); /* writes what is to be settled */
EMB_MUST_CHECK emb_status emb_budget_reserve(emb_budget *budget, const emb_budget_scope *scopes, size_t count,
                                             uint64_t nusd, uint64_t deadline_ns, emb_budget_ticket *ticket,
                                             emb_error *err);
void emb_budget_settle(emb_budget *budget, const emb_budget_ticket *ticket, uint64_t actual_nusd);
/* Waits until every settlement so far is in the store. */
bool emb_budget_flush(emb_budget *budget, uint64_t deadline_ns);

typedef struct emb_budget_use {
    uint64_t spent_nusd, reserved_nusd;
} emb_budget_use;
/* Without I/O: what is known of today, at most about a second old for what other processes did. false:
 * nothing yet. */
bool emb_budget_peek(emb_budget *budget, const char *scope, emb_budget_use *out);
/* From the store. */
EMB_MUST_CHECK emb_status emb_budget_read(emb_budget *budget, const char *scope, uint64_t deadline_ns,
                                          emb_budget_use *out, emb_error *err);
bool emb_budget_is_up(const emb_budget *budget);
/* "today" as a date, and the seconds until it turns. */
int32_t emb_budget_today(emb_budget *budget, uint64_t *seconds_left);

#endif
