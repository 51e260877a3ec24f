/*
 * Breakers in SQLite (table: state_sqlite.c) or PostgreSQL: one row each, every change one statement and so
 * one transaction. Times are the store's: in SQLite milliseconds since 1970 by this machine's clock, which
 * all users of the file share; in PostgreSQL the server's.
 */
#include "base/error.h"
#include "router/breaker_store.h"
#include "router/state_sqlite.h"
#include "store/db.h"

#include <stdlib.h>

static const char *const STEPS[] = {
    "CREATE TABLE embedd_breaker ("
    " name text PRIMARY KEY,"
    " version bigint NOT NULL,"
    " is_open integer NOT NULL,"
    " until timestamptz NOT NULL,"
    " openings integer NOT NULL,"
    " reason text NOT NULL,"
    " prober bytea,"
    " probe_until timestamptz NOT NULL DEFAULT '-infinity')",
};
static const emb_pg_schema POSTGRESQL = {"embedd_breaker", STEPS, 1};

static const emb_db_options OPTIONS = {"the breakers' store",
                                       {.schema = &emb_state_schema},
                                       2,
                                       {.schema = &POSTGRESQL, .connections = 2, .relaxed = true}};

#define NOW "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)" /* Unix time in ms */
#define AFTER(milliseconds) "clock_timestamp() + " milliseconds " * interval '1 millisecond'"

/* 1 name, 2 open, 3 milliseconds left, 4 openings, 5 reason, 6 force, 7 version. */
static const emb_db_statement WRITE = {
    {"embedd_breaker_write",
     "INSERT INTO embedd_breaker AS b (name, version, is_open, until, openings, reason) VALUES ($1::text, 1, "
     "$2::int8::int4, " AFTER(
         "$3::int8") ", $4::int8::int4, $5::text) ON CONFLICT (name) DO UPDATE SET "
                     "version = b.version + 1, is_open = excluded.is_open, until = excluded.until, openings "
                     "= "
                     "excluded.openings, reason = excluded.reason, prober = NULL, probe_until = '-infinity' "
                     "WHERE excluded.is_open = 1 OR $6::int8 = 1 OR b.version = $7::int8 RETURNING version"},
    "INSERT INTO breaker (name, version, is_open, until, openings, reason) VALUES (?1, 1, ?2, " NOW
    " + ?3, ?4, "
    "?5) ON CONFLICT DO UPDATE SET version = version + 1, is_open = excluded.is_open, until = "
    "excluded.until, "
    "openings = excluded.openings, reason = excluded.reason, prober = NULL, probe_until = 0 "
    "WHERE ?2 OR ?6 OR version = ?7 RETURNING version"};

static const emb_db_statement READ = {
    {"embedd_breaker_read",
     "SELECT name, version, is_open, (extract(epoch FROM until - clock_timestamp()) * 1000)::int8, "
     "openings, reason FROM embedd_breaker"},
    "SELECT name, version, is_open, until - " NOW ", openings, reason FROM breaker"};

/* 1 name, 2 prober, 3 milliseconds it lasts, 4 milliseconds it may be early. A breaker that is not there was
 * opened by this process, which could not write it yet. */
static const emb_db_statement PROBE = {
    {"embedd_breaker_probe",
     "INSERT INTO embedd_breaker AS b (name, version, is_open, until, openings, reason, prober, probe_until) "
     "VALUES ($1::text, 1, 1, clock_timestamp(), 1, '', $2::bytea, " AFTER(
         "$3::int8") ") "
                     "ON CONFLICT (name) DO UPDATE SET prober = excluded.prober, probe_until = "
                     "excluded.probe_until "
                     "WHERE b.is_open = 1 AND b.until <= " AFTER(
                         "$4::int8") " AND (b.prober IS NULL OR b.prober = "
                                     "excluded.prober OR b.probe_until <= clock_timestamp()) RETURNING 1"},
    "INSERT INTO breaker (name, version, is_open, until, openings, reason, prober, probe_until) "
    "VALUES (?1, 1, 1, " NOW ", 1, '', ?2, " NOW " + ?3) "
    "ON CONFLICT DO UPDATE SET prober = excluded.prober, probe_until = excluded.probe_until "
    "WHERE is_open AND until <= " NOW " + ?4 AND (prober IS NULL OR prober = ?2 OR probe_until <= " NOW ") "
    "RETURNING 1"};

static const emb_db_statement RELEASE = {
    {"embedd_breaker_release", "UPDATE embedd_breaker SET prober = NULL, probe_until = '-infinity' "
                               "WHERE name = $1::text AND prober = $2::bytea"},
    "UPDATE breaker SET prober = NULL, probe_until = 0 WHERE name = ?1 AND prober = ?2"};

typedef struct sql_store {
    emb_breaker_store base;
    emb_db *db;
} sql_store;

static emb_db *db_of(emb_breaker_store *store)
{
    return ((sql_store *)store)->db;
}

static emb_status sql_write(emb_breaker_store *store, const emb_breaker_record *r, bool force,
                            uint64_t *version, uint64_t deadline_ns, emb_error *err)
{
    const emb_param values[] = {emb_param_text(r->name),           emb_param_int(r->is_open),
                                emb_param_int(r->left_ms),         emb_param_int(r->openings),
                                emb_param_text(r->reason),         emb_param_int(force),
                                emb_param_int((int64_t)r->version)};
    int64_t out;
    emb_status st = emb_db_ask(db_of(store), &WRITE, values, 7, deadline_ns, &out, err);
    *version = (uint64_t)out;
    return st;
}

static emb_status sql_read(emb_breaker_store *store, emb_breaker_seen seen, void *context,
                           uint64_t deadline_ns, emb_error *err)
{
    emb_db_rows rows;
    emb_db_tidy(db_of(store));
    emb_status st = emb_db_query(db_of(store), &READ, NULL, 0, deadline_ns, &rows, err);
    if (st != EMB_OK)
        return st;
    while (emb_db_next(&rows, err)) {
        const emb_breaker_record r = {.name = emb_db_text(&rows, 0),
                                      .version = (uint64_t)emb_db_int(&rows, 1),
                                      .is_open = emb_db_int(&rows, 2) != 0,
                                      .left_ms = emb_db_int(&rows, 3),
                                      .openings = (unsigned)emb_db_int(&rows, 4),
                                      .reason = emb_db_text(&rows, 5)};
        if (r.name && r.reason)
            seen(context, &r);
    }
    return emb_db_done(&rows);
}

static emb_status sql_probe(emb_breaker_store *store, const char *name,
                            const uint8_t prober[EMB_BREAKER_PROBER], uint32_t probe_s, bool *granted,
                            uint64_t deadline_ns, emb_error *err)
{
    const emb_param values[] = {emb_param_text(name), emb_param_bytes(prober, EMB_BREAKER_PROBER),
                                emb_param_int(probe_s * INT64_C(1000)), emb_param_int(EMB_BREAKER_SLACK_MS)};
    int64_t out;
    emb_status st = emb_db_ask(db_of(store), &PROBE, values, 4, deadline_ns, &out, err);
    *granted = st == EMB_OK && out == 1;
    return st;
}

static emb_status sql_release(emb_breaker_store *store, const char *name,
                              const uint8_t prober[EMB_BREAKER_PROBER], uint64_t deadline_ns, emb_error *err)
{
    const emb_param values[] = {emb_param_text(name), emb_param_bytes(prober, EMB_BREAKER_PROBER)};
    return emb_db_call(db_of(store), &RELEASE, values, 2, deadline_ns, err);
}

static void sql_close(emb_breaker_store *store)
{
    emb_db_close(db_of(store));
    free(store);
}

static const emb_breaker_store_ops OPS = {sql_write, sql_read, sql_probe, sql_release, sql_close};

emb_status emb_breaker_sql_open(const char *url, emb_breaker_store **out, emb_error *err)
{
    sql_store *q = calloc(1, sizeof *q);
    if (!q)
        return emb_fail_nomem(err, "the breakers' store", sizeof *q);
    q->base.ops = &OPS;
    emb_status st = emb_db_open(url, &OPTIONS, &q->db, err);
    if (st != EMB_OK)
        free(q);
    else
        *out = &q->base;
    return st;
}
