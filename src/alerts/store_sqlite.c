/*
 * store_sqlite.c: alerts and waiting notices in a SQLite file.
 *
 * A few hundred rows at most, so tables without further indexes. Reals are kept as texts of 17 digits, which
 * read back to the same bits. Commits survive a crash of the process; the last ones before a loss of power
 * may be gone, which costs a notice that is told again.
 */
#include "alerts/parts.h"
#include "base/error.h"
#include "store/sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
static const emb_sqlite_schema SCHEMA = {0x656D6261, "embedd's alerts", MIGRATIONS, 1};

typedef struct sqlite_store {
    emb_alert_store base;
    emb_sqlite_pool *pool;
} sqlite_store;

static void bind_text(emb_sql *s, int parameter, const char *text)
{
    emb_sql_text(s, parameter, text, strlen(text));
}

/* ---- writing ---- */

static emb_status put(emb_sqlite *db, const emb_alert_op *op, emb_error *err)
{
    char value[40], threshold[40];
    const emb_alert_record *r = &op->alert;
    emb_sql *s;
    emb_status st = emb_sql_get(
        db,
        "INSERT INTO alerts (instance, name, subject, since_s, state, severity, value, threshold, summary, "
        "fired_s, "
        "resolved_s, updated_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) "
        "ON CONFLICT (instance, name, subject, since_s) DO UPDATE SET state = excluded.state, "
        "severity = excluded.severity, value = excluded.value, threshold = excluded.threshold, "
        "summary = excluded.summary, fired_s = excluded.fired_s, resolved_s = excluded.resolved_s, "
        "updated_s = excluded.updated_s",
        &s, err);
    if (st != EMB_OK)
        return st;
    snprintf(value, sizeof value, "%.17g", r->value);
    snprintf(threshold, sizeof threshold, "%.17g", r->threshold);
    bind_text(s, 1, r->instance);
    bind_text(s, 2, r->name);
    bind_text(s, 3, r->subject);
    emb_sql_int(s, 4, r->since_s);
    emb_sql_int(s, 5, r->state);
    emb_sql_int(s, 6, r->severity);
    bind_text(s, 7, value);
    bind_text(s, 8, threshold);
    bind_text(s, 9, r->summary);
    emb_sql_int(s, 10, r->fired_s);
    emb_sql_int(s, 11, r->resolved_s);
    emb_sql_int(s, 12, op->now_s);
    return emb_sql_do(s, err);
}

static emb_status forget(emb_sqlite *db, const emb_alert_op *op, emb_error *err)
{
    emb_sql *s;
    emb_status st = emb_sql_get(
        db, "DELETE FROM alerts WHERE instance = ?1 AND name = ?2 AND subject = ?3 AND since_s = ?4", &s,
        err);
    if (st != EMB_OK)
        return st;
    bind_text(s, 1, op->alert.instance);
    bind_text(s, 2, op->alert.name);
    bind_text(s, 3, op->alert.subject);
    emb_sql_int(s, 4, op->alert.since_s);
    return emb_sql_do(s, err);
}

static emb_status put_notice(emb_sqlite *db, const emb_alert_op *op, emb_error *err)
{
    emb_sql *s;
    emb_status st =
        emb_sql_get(db,
                    "INSERT OR REPLACE INTO alert_notices (instance, sink, number, created_s, name, body) "
                    "VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    &s, err);
    if (st != EMB_OK)
        return st;
    bind_text(s, 1, op->instance);
    bind_text(s, 2, op->sink);
    emb_sql_int(s, 3, op->number);
    emb_sql_int(s, 4, op->now_s);
    bind_text(s, 5, op->alert_name);
    emb_sql_text(s, 6, op->body, op->length);
    return emb_sql_do(s, err);
}

static emb_status told(emb_sqlite *db, const emb_alert_op *op, emb_error *err)
{
    emb_sql *s;
    emb_status st = emb_sql_get(
        db, "DELETE FROM alert_notices WHERE instance = ?1 AND sink = ?2 AND number = ?3", &s, err);
    if (st != EMB_OK)
        return st;
    bind_text(s, 1, op->instance);
    bind_text(s, 2, op->sink);
    emb_sql_int(s, 3, op->number);
    return emb_sql_do(s, err);
}

/* What was resolved long ago, and what a process that is no more left behind. */
static emb_status tidy(emb_sqlite *db, const emb_alert_op *op, emb_error *err)
{
    emb_sql *s;
    emb_status st = emb_sql_get(
        db, "DELETE FROM alerts WHERE updated_s < ?1 OR (state <> ?2 AND updated_s < ?3)", &s, err);
    if (st != EMB_OK)
        return st;
    emb_sql_int(s, 1, op->now_s - EMB_ALERT_KEPT_S);
    emb_sql_int(s, 2, EMB_ALERT_RESOLVED);
    emb_sql_int(s, 3, op->now_s - EMB_NOTICE_LIFE_S);
    if ((st = emb_sql_do(s, err)) != EMB_OK ||
        (st = emb_sql_get(db, "DELETE FROM alert_notices WHERE created_s < ?1", &s, err)) != EMB_OK)
        return st;
    emb_sql_int(s, 1, op->now_s - 2 * EMB_NOTICE_LIFE_S);
    return emb_sql_do(s, err);
}

static emb_status apply_one(emb_sqlite *db, const emb_alert_op *op, emb_error *err)
{
    switch (op->kind) {
    case EMB_OP_PUT:
        return put(db, op, err);
    case EMB_OP_FORGET:
        return forget(db, op, err);
    case EMB_OP_NOTICE:
        return put_notice(db, op, err);
    case EMB_OP_TOLD:
        return told(db, op, err);
    case EMB_OP_TIDY:
        return tidy(db, op, err);
    }
    return EMB_OK;
}

static emb_status sqlite_apply(emb_alert_store *store, const emb_alert_op *ops, size_t count,
                               uint64_t deadline_ns, emb_error *err)
{
    sqlite_store *l = (sqlite_store *)store;
    emb_sqlite *db;
    emb_status st = emb_sqlite_acquire(l->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sqlite_begin(db, true, err)) == EMB_OK) {
        for (size_t i = 0; st == EMB_OK && i < count; i++)
            st = apply_one(db, &ops[i], err);
        st = emb_sqlite_end(db, st, err);
    }
    emb_sqlite_release(l->pool, db);
    return st;
}

/* ---- reading ---- */

static void column_text(emb_sql *s, int column, char *out, size_t size)
{
    const char *text = emb_sql_column_text(s, column, NULL);
    emb_copy_text(out, size, text ? text : "");
}

static double column_real(emb_sql *s, int column)
{
    const char *text = emb_sql_column_text(s, column, NULL);
    return text ? strtod(text, NULL) : 0;
}

static emb_status load_alerts(emb_sqlite *db, const char *instance, const emb_alert_visitor *visitor,
                              emb_error *err)
{
    emb_sql *s;
    bool row;
    emb_status st =
        emb_sql_get(db,
                    "SELECT instance, name, subject, since_s, state, severity, value, threshold, summary, "
                    "fired_s, resolved_s FROM alerts WHERE ?1 IS NULL OR instance = ?1 "
                    "ORDER BY resolved_s, fired_s, since_s",
                    &s, err);
    if (st != EMB_OK)
        return st;
    emb_sql_text(s, 1, instance, instance ? strlen(instance) : 0);
    while ((st = emb_sql_step(s, &row, err)) == EMB_OK && row) {
        emb_alert_record r = {0};
        int64_t state = emb_sql_column_int(s, 4), severity = emb_sql_column_int(s, 5);
        if (state <= EMB_ALERT_INACTIVE || state > EMB_ALERT_RESOLVED || severity < 0 ||
            severity >= EMB_SEVERITIES)
            continue;
        column_text(s, 0, r.instance, sizeof r.instance);
        column_text(s, 1, r.name, sizeof r.name);
        column_text(s, 2, r.subject, sizeof r.subject);
        column_text(s, 8, r.summary, sizeof r.summary);
        r.since_s = emb_sql_column_int(s, 3);
        r.state = (emb_alert_state)state;
        r.severity = (emb_severity)severity;
        r.value = column_real(s, 6);
        r.threshold = column_real(s, 7);
        r.fired_s = emb_sql_column_int(s, 9);
        r.resolved_s = emb_sql_column_int(s, 10);
        visitor->alert(visitor->context, &r);
    }
    emb_sql_reset(s);
    return st;
}

static emb_status load_notices(emb_sqlite *db, const char *instance, const emb_alert_visitor *visitor,
                               emb_error *err)
{
    emb_sql *s;
    bool row;
    emb_status st =
        emb_sql_get(db,
                    "SELECT sink, number, created_s, name, body FROM alert_notices WHERE instance = ?1 "
                    "ORDER BY number",
                    &s, err);
    if (st != EMB_OK)
        return st;
    bind_text(s, 1, instance);
    while ((st = emb_sql_step(s, &row, err)) == EMB_OK && row) {
        size_t length;
        const char *sink = emb_sql_column_text(s, 0, NULL), *name = emb_sql_column_text(s, 3, NULL);
        const char *body = emb_sql_column_text(s, 4, &length);
        if (sink && name && body)
            visitor->notice(visitor->context, sink, emb_sql_column_int(s, 1), emb_sql_column_int(s, 2), name,
                            body, length);
    }
    emb_sql_reset(s);
    return st;
}

static emb_status sqlite_load(emb_alert_store *store, const char *instance, const emb_alert_visitor *visitor,
                              uint64_t deadline_ns, emb_error *err)
{
    sqlite_store *l = (sqlite_store *)store;
    emb_sqlite *db;
    emb_status st = emb_sqlite_acquire(l->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    st = load_alerts(db, instance, visitor, err);
    if (st == EMB_OK && visitor->notice && instance)
        st = load_notices(db, instance, visitor, err);
    emb_sqlite_release(l->pool, db);
    return st;
}

static void sqlite_close(emb_alert_store *store)
{
    sqlite_store *l = (sqlite_store *)store;
    emb_sqlite_pool_close(l->pool);
    free(l);
}

static const emb_alert_store_ops OPS = {sqlite_apply, sqlite_load, sqlite_close};

emb_status emb_alert_store_open_sqlite(const char *url, emb_alert_store **out, emb_error *err)
{
    const emb_sqlite_options options = {.schema = &SCHEMA};
    const char *path = url + sizeof "sqlite:" - 1;
    sqlite_store *l = calloc(1, sizeof *l);
    if (!l)
        return emb_fail_nomem(err, "the store of alerts", sizeof *l);
    l->base.ops = &OPS;
    emb_status st =
        emb_sqlite_pool_open(strncmp(path, "//", 2) == 0 ? path + 2 : path, &options, 4, &l->pool, err);
    if (st != EMB_OK) {
        free(l);
        return st;
    }
    *out = &l->base;
    return EMB_OK;
}
