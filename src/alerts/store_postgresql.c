/*
 * store_postgresql.c: alerts and waiting notices in PostgreSQL; the same tables as in SQLite.
 *
 * Processes share the tables, and each has the rows of its instance; `embedd alerts` reads those of all.
 * Bodies are bytea, so that the database's encoding does not matter; names and summaries are text.
 */
#include "alerts/parts.h"
#include "base/error.h"
#include "store/postgresql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const STEPS[] = {
    "CREATE TABLE embedd_alerts ("
    " instance text NOT NULL, name text NOT NULL, subject text NOT NULL, since_s bigint NOT NULL,"
    " state bigint NOT NULL, severity bigint NOT NULL, value text NOT NULL, threshold text NOT NULL,"
    " summary text NOT NULL, fired_s bigint NOT NULL, resolved_s bigint NOT NULL, updated_s bigint NOT NULL,"
    " PRIMARY KEY (instance, name, subject, since_s));"
    "CREATE TABLE embedd_alert_notices ("
    " instance text NOT NULL, sink text NOT NULL, number bigint NOT NULL, created_s bigint NOT NULL,"
    " name text NOT NULL, body bytea NOT NULL,"
    " PRIMARY KEY (instance, number, sink))",
};
static const emb_pg_schema SCHEMA = {"embedd_alerts", STEPS, 1};

static const emb_pg_statement PUT = {
    "embedd_alerts_put",
    "INSERT INTO embedd_alerts (instance, name, subject, since_s, state, severity, value, threshold, "
    "summary, fired_s, "
    "resolved_s, updated_s) VALUES ($1::text, $2::text, $3::text, $4::int8, $5::int8, $6::int8, $7::text, "
    "$8::text, "
    "$9::text, $10::int8, $11::int8, $12::int8) ON CONFLICT (instance, name, subject, since_s) DO UPDATE SET "
    "state = excluded.state, severity = excluded.severity, value = excluded.value, threshold = "
    "excluded.threshold, "
    "summary = excluded.summary, fired_s = excluded.fired_s, resolved_s = excluded.resolved_s, "
    "updated_s = excluded.updated_s"};
static const emb_pg_statement FORGET = {
    "embedd_alerts_forget", "DELETE FROM embedd_alerts WHERE instance = $1::text AND name = $2::text AND "
                            "subject = $3::text AND since_s = $4::int8"};
static const emb_pg_statement NOTICE = {
    "embedd_alerts_notice",
    "INSERT INTO embedd_alert_notices (instance, sink, number, created_s, name, body) VALUES ($1::text, "
    "$2::text, "
    "$3::int8, $4::int8, $5::text, $6::bytea) ON CONFLICT (instance, number, sink) DO NOTHING"};
static const emb_pg_statement TOLD = {
    "embedd_alerts_told",
    "DELETE FROM embedd_alert_notices WHERE instance = $1::text AND sink = $2::text AND number = $3::int8"};
static const emb_pg_statement TIDY = {
    "embedd_alerts_tidy", "WITH notices AS (DELETE FROM embedd_alert_notices WHERE created_s < $4::int8) "
                          "DELETE FROM embedd_alerts WHERE updated_s < $1::int8 OR (state <> $2::int8 AND "
                          "updated_s < $3::int8)"};
static const emb_pg_statement LOAD = {
    "embedd_alerts_load",
    "SELECT instance, name, subject, since_s, state, severity, value, threshold, summary, fired_s, "
    "resolved_s FROM embedd_alerts WHERE $1::text IS NULL OR instance = $1::text "
    "ORDER BY resolved_s, fired_s, since_s"};
static const emb_pg_statement NOTICES = {
    "embedd_alerts_notices", "SELECT sink, number, created_s, name, body FROM embedd_alert_notices "
                             "WHERE instance = $1::text ORDER BY number"};

typedef struct pg_store {
    emb_alert_store base;
    emb_pg *pg;
} pg_store;

static emb_pg_param text_param(const char *text)
{
    return (emb_pg_param){text, text ? strlen(text) : 0};
}

static emb_pg_param int_param(emb_pg_int64 *room, int64_t value)
{
    *room = emb_pg_int64_of(value);
    return (emb_pg_param){room->bytes, sizeof room->bytes};
}

/* ---- writing ---- */

static emb_status put(emb_pg_session *session, const emb_alert_op *op, emb_error *err)
{
    char value[40], threshold[40];
    emb_pg_int64 n[6];
    const emb_alert_record *r = &op->alert;
    snprintf(value, sizeof value, "%.17g", r->value);
    snprintf(threshold, sizeof threshold, "%.17g", r->threshold);
    const emb_pg_param p[] = {
        text_param(r->instance),
        text_param(r->name),
        text_param(r->subject),
        int_param(&n[0], r->since_s),
        int_param(&n[1], r->state),
        int_param(&n[2], r->severity),
        text_param(value),
        text_param(threshold),
        text_param(r->summary),
        int_param(&n[3], r->fired_s),
        int_param(&n[4], r->resolved_s),
        int_param(&n[5], op->now_s),
    };
    return emb_pg_run(session, &PUT, p, sizeof p / sizeof *p, NULL, err);
}

static emb_status forget(emb_pg_session *session, const emb_alert_op *op, emb_error *err)
{
    emb_pg_int64 n;
    const emb_pg_param p[] = {text_param(op->alert.instance), text_param(op->alert.name),
                              text_param(op->alert.subject), int_param(&n, op->alert.since_s)};
    return emb_pg_run(session, &FORGET, p, sizeof p / sizeof *p, NULL, err);
}

static emb_status put_notice(emb_pg_session *session, const emb_alert_op *op, emb_error *err)
{
    emb_pg_int64 n[2];
    const emb_pg_param p[] = {text_param(op->instance),     text_param(op->sink),
                              int_param(&n[0], op->number), int_param(&n[1], op->now_s),
                              text_param(op->alert_name),   {op->body, op->length}};
    return emb_pg_run(session, &NOTICE, p, sizeof p / sizeof *p, NULL, err);
}

static emb_status told(emb_pg_session *session, const emb_alert_op *op, emb_error *err)
{
    emb_pg_int64 n;
    const emb_pg_param p[] = {text_param(op->instance), text_param(op->sink), int_param(&n, op->number)};
    return emb_pg_run(session, &TOLD, p, sizeof p / sizeof *p, NULL, err);
}

static emb_status tidy(emb_pg_session *session, const emb_alert_op *op, emb_error *err)
{
    emb_pg_int64 n[4];
    const emb_pg_param p[] = {
        int_param(&n[0], op->now_s - EMB_ALERT_KEPT_S), int_param(&n[1], EMB_ALERT_RESOLVED),
        int_param(&n[2], op->now_s - EMB_NOTICE_LIFE_S), int_param(&n[3], op->now_s - 2 * EMB_NOTICE_LIFE_S)};
    return emb_pg_run(session, &TIDY, p, sizeof p / sizeof *p, NULL, err);
}

static emb_status apply_one(emb_pg_session *session, const emb_alert_op *op, emb_error *err)
{
    switch (op->kind) {
    case EMB_OP_PUT:
        return put(session, op, err);
    case EMB_OP_FORGET:
        return forget(session, op, err);
    case EMB_OP_NOTICE:
        return put_notice(session, op, err);
    case EMB_OP_TOLD:
        return told(session, op, err);
    case EMB_OP_TIDY:
        return tidy(session, op, err);
    }
    return EMB_OK;
}

static emb_status pg_apply(emb_alert_store *store, const emb_alert_op *ops, size_t count,
                           uint64_t deadline_ns, emb_error *err)
{
    pg_store *l = (pg_store *)store;
    emb_pg_session *session;
    emb_status st = emb_pg_begin(l->pg, deadline_ns, &session, err);
    if (st != EMB_OK)
        return st;
    for (size_t i = 0; st == EMB_OK && i < count; i++)
        st = apply_one(session, &ops[i], err);
    return emb_pg_end(session, st, err);
}

/* ---- reading ---- */

/* A NUL follows the bytes. */
static const char *text_at(const emb_pg_result *r, size_t row, int column)
{
    size_t length;
    return emb_pg_bytes(r, row, column, &length);
}

static void column_text(const emb_pg_result *r, size_t row, int column, char *out, size_t size)
{
    const char *text = text_at(r, row, column);
    emb_copy_text(out, size, text ? text : "");
}

static double column_real(const emb_pg_result *r, size_t row, int column)
{
    const char *text = text_at(r, row, column);
    return text ? strtod(text, NULL) : 0;
}

static void visit_alert(const emb_pg_result *result, size_t row, const emb_alert_visitor *visitor)
{
    emb_alert_record r = {0};
    int64_t state = emb_pg_int(result, row, 4), severity = emb_pg_int(result, row, 5);
    if (state <= EMB_ALERT_INACTIVE || state > EMB_ALERT_RESOLVED || severity < 0 ||
        severity >= EMB_SEVERITIES)
        return;
    column_text(result, row, 0, r.instance, sizeof r.instance);
    column_text(result, row, 1, r.name, sizeof r.name);
    column_text(result, row, 2, r.subject, sizeof r.subject);
    column_text(result, row, 8, r.summary, sizeof r.summary);
    r.since_s = emb_pg_int(result, row, 3);
    r.state = (emb_alert_state)state;
    r.severity = (emb_severity)severity;
    r.value = column_real(result, row, 6);
    r.threshold = column_real(result, row, 7);
    r.fired_s = emb_pg_int(result, row, 9);
    r.resolved_s = emb_pg_int(result, row, 10);
    visitor->alert(visitor->context, &r);
}

static void visit_notice(const emb_pg_result *r, size_t row, const emb_alert_visitor *visitor)
{
    size_t length;
    const char *sink = text_at(r, row, 0), *name = text_at(r, row, 3);
    const char *body = emb_pg_bytes(r, row, 4, &length);
    if (sink && name && body)
        visitor->notice(visitor->context, sink, emb_pg_int(r, row, 1), emb_pg_int(r, row, 2), name, body,
                        length);
}

static emb_status pg_load(emb_alert_store *store, const char *instance, const emb_alert_visitor *visitor,
                          uint64_t deadline_ns, emb_error *err)
{
    pg_store *l = (pg_store *)store;
    const emb_pg_param p = text_param(instance);
    emb_pg_result *alerts = NULL, *notices = NULL;
    emb_status st = emb_pg_call(l->pg, &LOAD, &p, 1, deadline_ns, &alerts, err);
    if (st == EMB_OK && visitor->notice && instance)
        st = emb_pg_call(l->pg, &NOTICES, &p, 1, deadline_ns, &notices, err);
    for (size_t row = 0; st == EMB_OK && row < emb_pg_rows(alerts); row++)
        visit_alert(alerts, row, visitor);
    for (size_t row = 0; st == EMB_OK && notices && row < emb_pg_rows(notices); row++)
        visit_notice(notices, row, visitor);
    emb_pg_result_free(alerts);
    emb_pg_result_free(notices);
    return st;
}

static void pg_close(emb_alert_store *store)
{
    pg_store *l = (pg_store *)store;
    emb_pg_close(l->pg);
    free(l);
}

static const emb_alert_store_ops OPS = {pg_apply, pg_load, pg_close};

emb_status emb_alert_store_open_postgresql(const char *url, emb_alert_store **out, emb_error *err)
{
    const emb_pg_options options = {.connections = 2, .schema = &SCHEMA};
    pg_store *l = calloc(1, sizeof *l);
    if (!l)
        return emb_fail_nomem(err, "the store of alerts", sizeof *l);
    l->base.ops = &OPS;
    emb_status st = emb_pg_open(url, &options, &l->pg, err);
    if (st != EMB_OK) {
        free(l);
        return st;
    }
    *out = &l->base;
    return EMB_OK;
}
