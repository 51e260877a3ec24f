/*
 * Breakers in PostgreSQL: one row each, every call one statement by the server's time.
 */
#include "base/error.h"
#include "router/breaker_store.h"
#include "store/postgresql.h"

#include <stdlib.h>
#include <string.h>

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
static const emb_pg_schema SCHEMA = {"embedd_breaker", STEPS, 1};

#define AFTER(milliseconds) "clock_timestamp() + " milliseconds " * interval '1 millisecond'"

static const emb_pg_statement WRITE = {
    "embedd_breaker_write",
    "INSERT INTO embedd_breaker AS b (name, version, is_open, until, openings, reason) "
    "VALUES ($1::text, 1, $2::int8::int4, " AFTER(
        "$3::int8") ", $4::int8::int4, $5::text) "
                    "ON CONFLICT (name) DO UPDATE SET version = b.version + 1, is_open = excluded.is_open, "
                    "until = excluded.until, "
                    "openings = excluded.openings, reason = excluded.reason, prober = NULL, probe_until = "
                    "'-infinity' "
                    "WHERE excluded.is_open = 1 OR $6::int8 = 1 OR b.version = $7::int8 RETURNING version"};
static const emb_pg_statement READ = {
    "embedd_breaker_read",
    "SELECT name, version, is_open, (extract(epoch FROM until - clock_timestamp()) * 1000)::int8, "
    "openings, reason FROM embedd_breaker"};
static const emb_pg_statement PROBE = {
    "embedd_breaker_probe",
    "INSERT INTO embedd_breaker AS b (name, version, is_open, until, openings, reason, prober, probe_until) "
    "VALUES ($1::text, 1, 1, clock_timestamp(), 1, '', $2::bytea, " AFTER(
        "$3::int8") ") "
                    "ON CONFLICT (name) DO UPDATE SET prober = excluded.prober, probe_until = "
                    "excluded.probe_until "
                    "WHERE b.is_open = 1 AND b.until <= " AFTER(
                        "$4::int8") " AND (b.prober IS NULL OR b.prober = excluded.prober "
                                    "OR b.probe_until <= clock_timestamp()) RETURNING 1"};
static const emb_pg_statement RELEASE = {"embedd_breaker_release",
                                         "UPDATE embedd_breaker SET prober = NULL, probe_until = '-infinity' "
                                         "WHERE name = $1::text AND prober = $2::bytea"};

typedef struct pg_store {
    emb_breaker_store base;
    emb_pg *pg;
} pg_store;

static emb_pg_param text_param(const char *text)
{
    return (emb_pg_param){text, strlen(text)};
}

static emb_pg_param int_param(emb_pg_int64 *room, int64_t value)
{
    *room = emb_pg_int64_of(value);
    return (emb_pg_param){room->bytes, sizeof room->bytes};
}

/* The first column of the only row; 0 without a row. */
static emb_status ask(pg_store *q, const emb_pg_statement *statement, const emb_pg_param *params,
                      size_t count, int64_t *out, uint64_t deadline_ns, emb_error *err)
{
    emb_pg_result *r;
    emb_status st = emb_pg_call(q->pg, statement, params, count, deadline_ns, &r, err);
    *out = 0;
    if (st != EMB_OK)
        return st;
    if (emb_pg_rows(r) > 0)
        *out = emb_pg_int(r, 0, 0);
    emb_pg_result_free(r);
    return EMB_OK;
}

static emb_status pg_write(emb_breaker_store *store, const emb_breaker_record *r, bool force,
                           uint64_t *version, uint64_t deadline_ns, emb_error *err)
{
    emb_pg_int64 n[5];
    int64_t out;
    emb_pg_param p[] = {text_param(r->name),
                        int_param(&n[0], r->is_open),
                        int_param(&n[1], r->left_ms),
                        int_param(&n[2], r->openings),
                        text_param(r->reason),
                        int_param(&n[3], force),
                        int_param(&n[4], (int64_t)r->version)};
    emb_status st = ask((pg_store *)store, &WRITE, p, 7, &out, deadline_ns, err);
    *version = (uint64_t)out;
    return st;
}

static emb_status pg_read(emb_breaker_store *store, emb_breaker_seen seen, void *context,
                          uint64_t deadline_ns, emb_error *err)
{
    pg_store *q = (pg_store *)store;
    emb_pg_result *r;
    size_t length;
    emb_pg_tidy(q->pg);
    emb_status st = emb_pg_call(q->pg, &READ, NULL, 0, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    for (size_t i = 0; i < emb_pg_rows(r); i++) {
        emb_breaker_record record = {.name = emb_pg_bytes(r, i, 0, &length),
                                     .version = (uint64_t)emb_pg_int(r, i, 1),
                                     .is_open = emb_pg_int(r, i, 2) != 0,
                                     .left_ms = emb_pg_int(r, i, 3),
                                     .openings = (unsigned)emb_pg_int(r, i, 4),
                                     .reason = emb_pg_bytes(r, i, 5, &length)};
        if (record.name && record.reason)
            seen(context, &record);
    }
    emb_pg_result_free(r);
    return EMB_OK;
}

static emb_status pg_probe(emb_breaker_store *store, const char *name,
                           const uint8_t prober[EMB_BREAKER_PROBER], uint32_t probe_s, bool *granted,
                           uint64_t deadline_ns, emb_error *err)
{
    emb_pg_int64 n[2];
    int64_t out;
    emb_pg_param p[] = {text_param(name),
                        {prober, EMB_BREAKER_PROBER},
                        int_param(&n[0], probe_s * INT64_C(1000)),
                        int_param(&n[1], EMB_BREAKER_SLACK_MS)};
    emb_status st = ask((pg_store *)store, &PROBE, p, 4, &out, deadline_ns, err);
    *granted = st == EMB_OK && out == 1;
    return st;
}

static emb_status pg_release(emb_breaker_store *store, const char *name,
                             const uint8_t prober[EMB_BREAKER_PROBER], uint64_t deadline_ns, emb_error *err)
{
    emb_pg_param p[] = {text_param(name), {prober, EMB_BREAKER_PROBER}};
    return emb_pg_call(((pg_store *)store)->pg, &RELEASE, p, 2, deadline_ns, NULL, err);
}

static void pg_close(emb_breaker_store *store)
{
    pg_store *q = (pg_store *)store;
    emb_pg_close(q->pg);
    free(q);
}

static const emb_breaker_store_ops OPS = {pg_write, pg_read, pg_probe, pg_release, pg_close};

emb_status emb_breaker_postgresql_open(const char *url, emb_breaker_store **out, emb_error *err)
{
    pg_store *q = calloc(1, sizeof *q);
    if (!q)
        return emb_fail_nomem(err, "the breakers' store", sizeof *q);
    q->base.ops = &OPS;
    emb_status st = emb_pg_open(url, &(emb_pg_options){.schema = &SCHEMA, .connections = 2, .relaxed = true},
                                &q->pg, err);
    if (st != EMB_OK) {
        free(q);
        return st;
    }
    *out = &q->base;
    return EMB_OK;
}
