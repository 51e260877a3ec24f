/*
 * budget_view.h: what a process knows of today's totals without asking the store. Internal to router/.
 *
 * Totals as they were read last, plus what this process did since: reservations at once, settlements from the
 * moment at which they are queued. Thread-safe; never waits for I/O.
 */
#ifndef EMB_ROUTER_BUDGET_VIEW_H
#define EMB_ROUTER_BUDGET_VIEW_H

#include "router/budget_store.h"

typedef struct emb_budget_view emb_budget_view;

EMB_MUST_CHECK emb_status emb_budget_view_open(emb_metrics *metrics, emb_budget_view **out, emb_error *err);
void emb_budget_view_close(emb_budget_view *view);

void emb_budget_view_reserved(emb_budget_view *view, const emb_budget_order *order);
void emb_budget_view_refused(emb_budget_view *view, const emb_budget_order *order);
/* A settlement is on its way; then it is in the store. */
void emb_budget_view_queued(emb_budget_view *view, const emb_budget_settlement *settlement,
                            uint64_t reserved_nusd);
void emb_budget_view_settled(emb_budget_view *view, const emb_budget_settlement *settlement,
                             uint64_t reserved_nusd);

/* begin, then `seen` for each scope of the day, then end. Settlements are not written meanwhile. */
void emb_budget_view_begin(emb_budget_view *view, int32_t day);
void emb_budget_view_seen(void *view, const char *scope, const emb_budget_use *use);
void emb_budget_view_end(emb_budget_view *view, bool complete);

bool emb_budget_view_get(emb_budget_view *view, int32_t day, const char *scope, emb_budget_use *out);
/* Sets the gauges of all scopes. */
void emb_budget_view_collect(emb_budget_view *view, int32_t day);

#endif
