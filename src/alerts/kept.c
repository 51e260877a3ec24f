/*
 * kept.c: what goes into the store and comes back from it.
 *
 * Writes are collected while the state changes and done afterwards, in one transaction and outside the lock.
 * If that fails they are tried again with the next evaluation, an older one about an alert being replaced by
 * a newer; notices are not, since by then they may have been told: putting them into the store afterwards
 * would tell them twice after a restart.
 */
#include "alerts/parts.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
enum { OPS_MAX = 4096 };

/* ---- what is to be written ---- */

bool emb_alerts_reserve_ops(emb_alerts *a, size_t count)
{
    size_t wanted = a->op_count + count, capacity = a->op_capacity ? a->op_capacity : 8;
    if (!a->store || wanted <= a->op_capacity)
        return true;
    while (capacity < wanted)
        capacity *= 2;
    emb_alert_op *ops = realloc(a->ops, capacity * sizeof *ops);
    if (!ops)
        return false;
    a->ops = ops;
    a->op_capacity = capacity;
    return true;
}

static bool is_about_alert(const emb_alert_op *op)
{
    return op->kind == EMB_OP_PUT || op->kind == EMB_OP_FORGET;
}

static bool same_alert(const emb_alert_record *a, const emb_alert_record *b)
{
    return a->since_s == b->since_s && strcmp(a->name, b->name) == 0 && strcmp(a->subject, b->subject) == 0 &&
           strcmp(a->instance, b->instance) == 0;
}

void emb_alerts_add_op(emb_alerts *a, const emb_alert_op *op)
{
    if (!a->store)
        return;
    for (size_t i = 0; is_about_alert(op) && i < a->op_count; i++)
        if (is_about_alert(&a->ops[i]) && same_alert(&a->ops[i].alert, &op->alert)) {
            a->ops[i] = *op;
            return;
        }
    a->ops[a->op_count++] = *op;
}

/* Of what could not be written, all but notices; what was added meanwhile is newer and comes behind. */
static void put_back(emb_alerts *a, emb_alert_op *ops, size_t count, size_t capacity)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (ops[i].kind != EMB_OP_NOTICE && ops[i].kind != EMB_OP_TIDY)
            ops[kept++] = ops[i];
    if (kept > OPS_MAX) {
        memmove(ops, ops + kept - OPS_MAX, OPS_MAX * sizeof *ops);
        kept = OPS_MAX;
    }
    emb_alert_op *newer = a->ops;
    size_t newer_count = a->op_count;
    a->ops = ops;
    a->op_count = kept;
    a->op_capacity = capacity;
    if (emb_alerts_reserve_ops(a, newer_count))
        for (size_t i = 0; i < newer_count; i++)
            emb_alerts_add_op(a, &newer[i]);
    free(newer);
}

static void note_outcome(emb_alerts *a, emb_status st, const emb_error *err)
{
    bool failed = st != EMB_OK;
    if (failed && !a->store_failed)
        emb_log(EMB_LOG_WARN, "alert: the store does not answer", EMB_LOG_TEXT("error", err->message));
    if (!failed && a->store_failed)
        emb_log(EMB_LOG_INFO, "alert: the store answers again");
    a->store_failed = failed;
}

void emb_alerts_save(emb_alerts *a)
{
    emb_error err = {0};
    pthread_mutex_lock(&a->lock);
    emb_alert_op *ops = a->ops;
    size_t count = a->op_count, capacity = a->op_capacity;
    a->ops = NULL;
    a->op_count = a->op_capacity = 0;
    pthread_mutex_unlock(&a->lock);
    emb_status st = EMB_OK;
    if (count > 0) {
        st = emb_alert_store_apply(a->store, ops, count, emb_now_ns() + SECOND / 2, &err);
        note_outcome(a, st, &err);
    }
    if (st == EMB_OK) {
        free(ops);
        return;
    }
    pthread_mutex_lock(&a->lock);
    put_back(a, ops, count, capacity);
    pthread_mutex_unlock(&a->lock);
}

void emb_alerts_told(emb_alerts *a, const char *sink, int64_t number)
{
    emb_error err;
    emb_alert_op op = {.kind = EMB_OP_TOLD, .instance = a->instance, .sink = sink, .number = number};
    if (!a->store || emb_alert_store_apply(a->store, &op, 1, emb_now_ns() + SECOND / 2, &err) == EMB_OK)
        return;
    pthread_mutex_lock(&a->lock);
    if (a->op_count < OPS_MAX && emb_alerts_reserve_ops(a, 1))
        emb_alerts_add_op(a, &op);
    pthread_mutex_unlock(&a->lock);
}

/* ---- what comes back ---- */

typedef struct loading {
    emb_alerts *alerts;
    bool short_of_memory;
} loading;

/* The store may take its time, so the lock is taken for each row alone. */

static void restore_row(loading *l, const emb_alert_record *record)
{
    emb_alerts *a = l->alerts;
    emb_alert_row *row = a->read_only ? NULL : emb_alerts_find_row(a, record->name, record->subject);
    if (row && emb_alert_row_severity(row) >= 0) /* it fired while the store was away: one alert, not two */
        return;
    if (!row && !(row = emb_alerts_add_row(a))) {
        l->short_of_memory = true;
        return;
    }
    row->record = *record;
    row->rule = emb_rule_find(record->name);
    row->kept_s = a->now_s();
    for (int i = 0; record->state == EMB_ALERT_FIRING && i <= (int)record->severity; i++)
        row->active[i] = true;
}

/* What was pending begins anew: nobody knows whether the condition held all the time. */
static void forget(loading *l, const emb_alert_record *record)
{
    emb_alert_op op = {.kind = EMB_OP_FORGET, .alert = *record};
    if (emb_alerts_reserve_ops(l->alerts, 1))
        emb_alerts_add_op(l->alerts, &op);
}

static void restore_resolved(emb_alerts *a, const emb_alert_record *record)
{
    for (size_t i = 0; i < a->resolved_count; i++)
        if (same_alert(&a->resolved[i], record))
            return;
    emb_alerts_add_resolved(a, record);
}

static void take_alert(void *context, const emb_alert_record *record)
{
    loading *l = context;
    pthread_mutex_lock(&l->alerts->lock);
    if (record->state == EMB_ALERT_RESOLVED)
        restore_resolved(l->alerts, record);
    else if (record->state == EMB_ALERT_FIRING || l->alerts->read_only)
        restore_row(l, record);
    else
        forget(l, record);
    pthread_mutex_unlock(&l->alerts->lock);
}

static emb_alert_sink *sink_named(emb_alerts *a, const char *name)
{
    for (size_t i = 0; i < a->sink_count; i++)
        if (strcmp(a->sinks[i].config.name, name) == 0)
            return &a->sinks[i];
    return NULL;
}

/* One for a sink that is not configured any more stays until it is a day old. */
static void take_notice(void *context, const char *sink, int64_t number, int64_t created_s, const char *name,
                        const char *body, size_t length)
{
    loading *l = context;
    emb_alert_sink *to = sink_named(l->alerts, sink);
    if (to && emb_alert_sink_has(to, number))
        return;
    emb_notice *n = to ? emb_notice_new(number, created_s, name, body, length) : NULL;
    if (number > l->alerts->number)
        l->alerts->number = number;
    if (n) {
        n->to = to;
        emb_alert_sink_add(to, n);
    } else if (to) {
        l->short_of_memory = true;
    }
}

/* After a failure in the middle it is done again; what was taken over by then is found and left as it is. */
emb_status emb_alerts_load(emb_alerts *a, uint64_t deadline_ns, emb_error *err)
{
    loading l = {.alerts = a};
    const emb_alert_visitor visitor = {&l, take_alert, a->read_only ? NULL : take_notice};
    emb_status st =
        emb_alert_store_load(a->store, a->read_only ? NULL : a->instance, &visitor, deadline_ns, err);
    a->loaded = st == EMB_OK;
    if (l.short_of_memory)
        emb_log(EMB_LOG_ERROR, "alert: memory is short, not all of what is kept was taken over");
    return st;
}
