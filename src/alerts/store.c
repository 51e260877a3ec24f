/*
 * store.c: alerts and waiting notices in SQLite or PostgreSQL, the same tables in both.
 *
 * A few hundred rows at most, so tables without further indexes. Reals are kept as texts of 17 digits, which
 * read back to the same bits. In SQLite commits survive a crash of the process; the last ones before a loss
 * of power may be gone, which costs a notice that is told again. In PostgreSQL processes share the tables,
 * and each has the rows of its instance; `embedd alerts` reads those of all. Bodies are bytea there, so that
 * the database's encoding does not matter.
 */
#include "alerts/parts.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const MIGRATIONS[] = {
    "CREATE TABLE alerts ("
    " instance TEXT NOT NULL, name TEXT NOT NULL, subject TEXT NOT NULL, since_s INTEGER NOT NULL,"
    " state INTEGER NOT NULL, severity INTEGER NOT NULL, value TEXT NOT NULL, threshold TEXT NOT NULL,"
    " summary TEXT NOT NULL, fired_s INTEGER NOT NULL, resolved_s INTEGER NOT NULL, updated_s INTEGER NOT "
    "NULL,"
    " PRIMARY KEY (instance, name, subject, since_s)) WITHOUT ROWID;"
    "CREATE TABLE alert_notices ("
    " instance TEXT NOT NULL, sink TEXT NOT NULL, number INTEGER NOT NULL, created_s INTEGER NOT NULL,"
    " name TEXT NOT NULL, body TEXT NOT NULL,"
    " PRIMARY KEY (instance, number, sink)) WITHOUT ROWID;",
};
static const emb_sqlite_schema SQLITE = {0x656D6261, "embedd's alerts", MIGRATIONS, 1};

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
static const emb_pg_schema POSTGRESQL = {"embedd_alerts", STEPS, 1};

static const emb_db_options OPTIONS = {
    "the store of alerts", {.schema = &SQLITE}, 4, {.connections = 2, .schema = &POSTGRESQL}};

/* ---- statements ---- */

#define COLUMNS \
    "instance, name, subject, since_s, state, severity, value, threshold, summary, fired_s, resolved_s"
#define PUT_BEHIND                                                                               \
    "ON CONFLICT (instance, name, subject, since_s) DO UPDATE SET state = excluded.state, "      \
    "severity = excluded.severity, value = excluded.value, threshold = excluded.threshold, "     \
    "summary = excluded.summary, fired_s = excluded.fired_s, resolved_s = excluded.resolved_s, " \
    "updated_s = excluded.updated_s"
static const emb_db_statement PUT = {
    {"embedd_alerts_put",
     "INSERT INTO embedd_alerts (" COLUMNS ", updated_s) VALUES ($1::text, $2::text, $3::text, $4::int8, "
     "$5::int8, $6::int8, $7::text, $8::text, $9::text, $10::int8, $11::int8, $12::int8) " PUT_BEHIND},
    "INSERT INTO alerts (" COLUMNS
    ", updated_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) " PUT_BEHIND};
static const emb_db_statement FORGET = {
    {"embedd_alerts_forget", "DELETE FROM embedd_alerts WHERE instance = $1::text AND name = $2::text AND "
                             "subject = $3::text AND since_s = $4::int8"},
    "DELETE FROM alerts WHERE instance = ?1 AND name = ?2 AND subject = ?3 AND since_s = ?4"};
static const emb_db_statement NOTICE = {
    {"embedd_alerts_notice",
     "INSERT INTO embedd_alert_notices (instance, sink, number, created_s, name, body) VALUES ($1::text, "
     "$2::text, $3::int8, $4::int8, $5::text, $6::bytea) ON CONFLICT (instance, number, sink) DO NOTHING"},
    "INSERT OR REPLACE INTO alert_notices (instance, sink, number, created_s, name, body) VALUES (?1, ?2, "
    "?3, ?4, ?5, ?6)"};
static const emb_db_statement TOLD = {
    {"embedd_alerts_told",
     "DELETE FROM embedd_alert_notices WHERE instance = $1::text AND sink = $2::text AND number = $3::int8"},
    "DELETE FROM alert_notices WHERE instance = ?1 AND sink = ?2 AND number = ?3"};
static const emb_db_statement TIDY = {
    {"embedd_alerts_tidy", "DELETE FROM embedd_alerts WHERE updated_s < $1::int8 OR (state <> $2::int8 AND "
                           "updated_s < $3::int8)"},
    "DELETE FROM alerts WHERE updated_s < ?1 OR (state <> ?2 AND updated_s < ?3)"};
static const emb_db_statement TIDY_NOTICES = {
    {"embedd_alerts_tidy_notices", "DELETE FROM embedd_alert_notices WHERE created_s < $1::int8"},
    "DELETE FROM alert_notices WHERE created_s < ?1"};
static const emb_db_statement LOAD = {
    {"embedd_alerts_load", "SELECT " COLUMNS " FROM embedd_alerts WHERE $1::text IS NULL OR instance = "
                           "$1::text ORDER BY resolved_s, fired_s, since_s"},
    "SELECT " COLUMNS " FROM alerts WHERE ?1 IS NULL OR instance = ?1 ORDER BY resolved_s, fired_s, since_s"};
static const emb_db_statement LOAD_NOTICES = {
    {"embedd_alerts_notices", "SELECT sink, number, created_s, name, body FROM embedd_alert_notices "
                              "WHERE instance = $1::text ORDER BY number"},
    "SELECT sink, number, created_s, name, body FROM alert_notices WHERE instance = ?1 ORDER BY number"};

emb_status emb_alert_store_open(const char *url, emb_db **out, emb_error *err)
{
    return emb_db_open(url, &OPTIONS, out, err);
}

/* ---- writing ---- */

static emb_status put(emb_db_work *work, const emb_alert_op *op, emb_error *err)
{
    char value[40], threshold[40];
    const emb_alert_record *r = &op->alert;
    snprintf(value, sizeof value, "%.17g", r->value);
    snprintf(threshold, sizeof threshold, "%.17g", r->threshold);
    const emb_param values[] = {
        emb_param_text(r->instance), emb_param_text(r->name),      emb_param_text(r->subject),
        emb_param_int(r->since_s),   emb_param_int(r->state),      emb_param_int(r->severity),
        emb_param_text(value),       emb_param_text(threshold),    emb_param_text(r->summary),
        emb_param_int(r->fired_s),   emb_param_int(r->resolved_s), emb_param_int(op->now_s)};
    return emb_db_run(work, &PUT, values, 12, err);
}

/* What was resolved long ago, and what a process that is no more left behind. */
static emb_status tidy(emb_db_work *work, const emb_alert_op *op, emb_error *err)
{
    const emb_param alerts[] = {emb_param_int(op->now_s - EMB_ALERT_KEPT_S),
                                emb_param_int(EMB_ALERT_RESOLVED),
                                emb_param_int(op->now_s - EMB_NOTICE_LIFE_S)};
    const emb_param notices = emb_param_int(op->now_s - 2 * EMB_NOTICE_LIFE_S);
    emb_status st = emb_db_run(work, &TIDY, alerts, 3, err);
    return st ? st : emb_db_run(work, &TIDY_NOTICES, &notices, 1, err);
}

static emb_status apply_one(emb_db_work *work, const emb_alert_op *op, emb_error *err)
{
    const emb_alert_record *r = &op->alert;
    switch (op->kind) {
    case EMB_OP_PUT:
        return put(work, op, err);
    case EMB_OP_FORGET: {
        const emb_param values[] = {emb_param_text(r->instance), emb_param_text(r->name),
                                    emb_param_text(r->subject), emb_param_int(r->since_s)};
        return emb_db_run(work, &FORGET, values, 4, err);
    }
    case EMB_OP_NOTICE: {
        const emb_param values[] = {emb_param_text(op->instance),   emb_param_text(op->sink),
                                    emb_param_int(op->number),      emb_param_int(op->now_s),
                                    emb_param_text(op->alert_name), emb_param_text_of(op->body, op->length)};
        return emb_db_run(work, &NOTICE, values, 6, err);
    }
    case EMB_OP_TOLD: {
        const emb_param values[] = {emb_param_text(op->instance), emb_param_text(op->sink),
                                    emb_param_int(op->number)};
        return emb_db_run(work, &TOLD, values, 3, err);
    }
    case EMB_OP_TIDY:
        return tidy(work, op, err);
    }
    return EMB_OK;
}

emb_status emb_alert_store_apply(emb_db *store, const emb_alert_op *ops, size_t count, uint64_t deadline_ns,
                                 emb_error *err)
{
    emb_db_work work;
    emb_status st = emb_db_begin(store, deadline_ns, &work, err);
    if (st != EMB_OK)
        return st;
    for (size_t i = 0; st == EMB_OK && i < count; i++)
        st = apply_one(&work, &ops[i], err);
    return emb_db_end(&work, st, err);
}

/* ---- reading ---- */

static void column_text(const emb_db_rows *rows, int column, char *out, size_t size)
{
    const char *text = emb_db_text(rows, column);
    emb_copy_text(out, size, text ? text : "");
}

static double column_real(const emb_db_rows *rows, int column)
{
    const char *text = emb_db_text(rows, column);
    return text ? strtod(text, NULL) : 0;
}

static void visit_alert(const emb_db_rows *rows, const emb_alert_visitor *visitor)
{
    emb_alert_record r = {0};
    int64_t state = emb_db_int(rows, 4), severity = emb_db_int(rows, 5);
    if (state <= EMB_ALERT_INACTIVE || state > EMB_ALERT_RESOLVED || severity < 0 ||
        severity >= EMB_SEVERITIES)
        return;
    column_text(rows, 0, r.instance, sizeof r.instance);
    column_text(rows, 1, r.name, sizeof r.name);
    column_text(rows, 2, r.subject, sizeof r.subject);
    column_text(rows, 8, r.summary, sizeof r.summary);
    r.since_s = emb_db_int(rows, 3);
    r.state = (emb_alert_state)state;
    r.severity = (emb_severity)severity;
    r.value = column_real(rows, 6);
    r.threshold = column_real(rows, 7);
    r.fired_s = emb_db_int(rows, 9);
    r.resolved_s = emb_db_int(rows, 10);
    visitor->alert(visitor->context, &r);
}

static void visit_notice(const emb_db_rows *rows, const emb_alert_visitor *visitor)
{
    size_t length;
    const char *sink = emb_db_text(rows, 0), *name = emb_db_text(rows, 3);
    const char *body = emb_db_bytes(rows, 4, &length);
    if (sink && name && body)
        visitor->notice(visitor->context, sink, emb_db_int(rows, 1), emb_db_int(rows, 2), name, body, length);
}

emb_status emb_alert_store_load(emb_db *store, const char *instance, const emb_alert_visitor *visitor,
                                uint64_t deadline_ns, emb_error *err)
{
    const emb_param of = emb_param_text(instance);
    emb_db_rows rows;
    emb_status st = emb_db_query(store, &LOAD, &of, 1, deadline_ns, &rows, err);
    if (st != EMB_OK)
        return st;
    while (emb_db_next(&rows, err))
        visit_alert(&rows, visitor);
    if ((st = emb_db_done(&rows)) != EMB_OK || !visitor->notice || !instance)
        return st;
    if ((st = emb_db_query(store, &LOAD_NOTICES, &of, 1, deadline_ns, &rows, err)) != EMB_OK)
        return st;
    while (emb_db_next(&rows, err))
        visit_notice(&rows, visitor);
    return emb_db_done(&rows);
}
