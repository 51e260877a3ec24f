/*
 * The ledger in PostgreSQL: tables embedd_ledger and embedd_ledger_writers, as in store_sqlite.c.
 *
 * A batch is one transaction of two statements. The first claims its number in the row of its writer; if the
 * commit of an earlier try went through and only its answer was lost, the claim finds the number taken and
 * nothing is added again. An earlier try that the server has not ended yet holds that row's lock, so the
 * claim waits to see how it ends. The second adds all rows, sorted by their key, so that processes lock rows
 * in the same order and never deadlock.
 *
 * Commits are synchronous, whatever the server's setting for durability: it is money.
 */
#include "ledger/parts.h"

#include "base/clock.h"
#include "base/error.h"
#include "store/postgresql.h"

#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS = 4 };

static const char *const STEPS[] = {
    "CREATE TABLE embedd_ledger ("
    " minute_utc bigint NOT NULL,"
    " kind text NOT NULL,"
    " provider text NOT NULL,"
    " model text NOT NULL,"
    " key text NOT NULL,"
    " category text NOT NULL,"
    " context text NOT NULL,"
    " calls bigint NOT NULL,"
    " texts bigint NOT NULL,"
    " tokens bigint NOT NULL,"
    " nusd bigint NOT NULL,"
    " saved_nusd bigint NOT NULL,"
    " PRIMARY KEY (minute_utc, kind, provider, model, key, category, context)) WITH (fillfactor = 80);"
    "CREATE TABLE embedd_ledger_writers ("
    " writer bytea PRIMARY KEY,"
    " sequence bigint NOT NULL,"
    " written_at timestamptz NOT NULL) WITH (fillfactor = 50)",
};
static const emb_pg_schema SCHEMA = {"embedd_ledger", STEPS, 1};

static const emb_pg_statement CLAIM = {
    "embedd_ledger_claim",
    "INSERT INTO embedd_ledger_writers AS w (writer, sequence, written_at) VALUES ($1::bytea, $2::int8, "
    "now()) "
    "ON CONFLICT (writer) DO UPDATE SET sequence = excluded.sequence, written_at = excluded.written_at "
    "WHERE w.sequence < excluded.sequence RETURNING 1"};
static const emb_pg_statement FORGET = {
    "embedd_ledger_forget",
    "DELETE FROM embedd_ledger_writers WHERE written_at < now() - interval '400 days'"};

#define ADD(column)                                                             \
    column " = CASE WHEN l." column " > 9223372036854775807 - excluded." column \
           " THEN 9223372036854775807 ELSE l." column " + excluded." column " END"
#define KEYS "minute_utc, kind, provider, model, key, category, context"
#define AMOUNTS "calls, texts, tokens, nusd, saved_nusd"
static const emb_pg_statement UPSERT = {
    "embedd_ledger_upsert",
    "INSERT INTO embedd_ledger AS l (" KEYS ", " AMOUNTS ") SELECT " KEYS ", " AMOUNTS " FROM "
    "unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int8[], "
    "$9::int8[], "
    "$10::int8[], $11::int8[], $12::int8[]) AS i(" KEYS ", " AMOUNTS ") ORDER BY " KEYS " ON CONFLICT (" KEYS
    ") DO UPDATE SET " ADD("calls") ", " ADD("texts") ", " ADD("tokens") ", " ADD("nusd") ", " ADD(
        "saved_nusd")};

/* The numbers are those of emb_ledger_by. */
#define NAME(parameter)                                                                                     \
    "CASE " parameter "::int8 WHEN 4 THEN category WHEN 5 THEN model WHEN 6 THEN provider WHEN 7 THEN key " \
    "WHEN 8 THEN context WHEN 9 THEN kind ELSE '' END"
_Static_assert(EMB_BY_CATEGORY == 4 && EMB_BY_MODEL == 5 && EMB_BY_PROVIDER == 6 && EMB_BY_KEY == 7 &&
                   EMB_BY_CONTEXT == 8 && EMB_BY_KIND == 9,
               "the numbers in NAME");
#define SUM(column) "least(sum(" column "), 9223372036854775807)::int8"
#define SUMS SUM("calls") ", " SUM("texts") ", " SUM("tokens") ", " SUM("nusd") ", " SUM("saved_nusd")
static const emb_pg_statement SCAN = {
    "embedd_ledger_scan",
    "SELECT CASE WHEN $1::int8 = 1 THEN (minute_utc + $2::int8) / 86400 ELSE 0 END AS d, kind, " NAME(
        "$3") " AS a, " NAME("$4") " AS b, " SUMS
                                   " FROM embedd_ledger WHERE minute_utc >= $5::int8 AND minute_utc < "
                                   "$6::int8 AND ($7::text IS NULL OR provider = $7::text) AND ($8::text IS "
                                   "NULL OR model = $8::text) "
                                   "AND ($9::text IS NULL OR key = $9::text) AND ($10::text IS NULL OR "
                                   "category = $10::text) "
                                   "AND ($11::int8 = 1 OR kind <> 'shadow') AND ($12::int8 = 0 OR kind = "
                                   "'api') GROUP BY 1, 2, 3, 4"};
static const emb_pg_statement RANGE = {"embedd_ledger_range",
                                       "SELECT min(minute_utc), max(minute_utc) FROM embedd_ledger"};
static const emb_pg_statement EXISTS = {"embedd_ledger_exists",
                                        "SELECT 1 WHERE to_regclass('embedd_ledger') IS NOT NULL"};

typedef struct pg_store {
    emb_ledger_store base;
    emb_pg *pg;
} pg_store;

/* ---- writing ---- */

enum { MINUTE, KIND, NAMES, CALLS = NAMES + EMB_LEDGER_NAMES, COLUMNS = CALLS + 5 };

static void add_row(emb_pg_array columns[COLUMNS], const emb_ledger_row *row)
{
    const char *kind = emb_ledger_kind_name((emb_ledger_kind)row->kind), *at = row->names;
    const emb_ledger_amounts *a = &row->amounts;
    const uint64_t numbers[] = {a->calls, a->texts, a->tokens, a->nusd, a->saved_nusd};
    emb_pg_array_add_int8(&columns[MINUTE], row->minute_s);
    emb_pg_array_add(&columns[KIND], kind, strlen(kind));
    for (int i = 0; i < EMB_LEDGER_NAMES; at += row->lengths[i] + 1, i++)
        emb_pg_array_add(&columns[NAMES + i], at, row->lengths[i]);
    for (int i = 0; i < 5; i++)
        emb_pg_array_add_int8(&columns[CALLS + i], (int64_t)numbers[i]);
}

static emb_status upsert(emb_pg_session *session, const emb_ledger_batch *batch, emb_error *err)
{
    emb_pg_array columns[COLUMNS];
    emb_param values[COLUMNS];
    uint32_t types[COLUMNS];
    for (int i = 0; i < COLUMNS; i++)
        types[i] = i == MINUTE || i >= CALLS ? EMB_PG_INT8 : EMB_PG_TEXT;
    emb_pg_arrays_init(columns, types, COLUMNS);
    for (size_t i = 0; i < batch->count; i++)
        add_row(columns, batch->rows[i]);
    emb_status st = emb_pg_arrays_params(columns, COLUMNS, values, err);
    if (st == EMB_OK)
        st = emb_pg_run(session, &UPSERT, values, COLUMNS, NULL, err);
    emb_pg_arrays_fini(columns, COLUMNS);
    return st;
}

/* *fresh: false if this batch was committed before. */
static emb_status claim(emb_pg_session *session, const emb_ledger_batch *batch, bool *fresh, emb_error *err)
{
    const emb_param values[] = {emb_param_bytes(batch->writer, sizeof batch->writer),
                                emb_param_int(batch->sequence)};
    emb_pg_result *r;
    emb_status st = batch->sequence == 1 ? emb_pg_run(session, &FORGET, NULL, 0, NULL, err) : EMB_OK;
    if (st == EMB_OK)
        st = emb_pg_run(session, &CLAIM, values, 2, &r, err);
    if (st != EMB_OK)
        return st;
    *fresh = emb_pg_rows(r) == 1;
    emb_pg_result_free(r);
    return EMB_OK;
}

static emb_status pg_write(emb_ledger_store *store, const emb_ledger_batch *batch, uint64_t deadline_ns,
                           emb_error *err)
{
    pg_store *l = (pg_store *)store;
    emb_pg_session *session;
    bool fresh;
    emb_status st = emb_pg_begin(l->pg, deadline_ns, &session, err);
    if (st != EMB_OK)
        return st;
    if ((st = claim(session, batch, &fresh, err)) == EMB_OK && fresh)
        st = upsert(session, batch, err);
    return emb_pg_end(session, st, err);
}

/* ---- reading ---- */

static emb_status visit_row(const emb_pg_result *r, size_t row, emb_ledger_visit visit, void *context,
                            emb_error *err)
{
    const char *kind = emb_pg_text(r, row, 1);
    uint64_t n[5];
    for (int i = 0; i < 5; i++)
        n[i] = (uint64_t)emb_pg_int(r, row, 4 + i);
    emb_ledger_group group = {.day = emb_pg_int(r, row, 0),
                              .name = {emb_pg_text(r, row, 2), emb_pg_text(r, row, 3)},
                              .amounts = {n[0], n[1], n[2], n[3], n[4]}};
    if (!kind || !emb_ledger_kind_parse(kind, &group.kind) || !group.name[0] || !group.name[1])
        return EMB_OK;
    return visit(context, &group, err);
}

static emb_status pg_scan(emb_ledger_store *store, const emb_ledger_scan *scan, emb_ledger_visit visit,
                          void *context, uint64_t deadline_ns, emb_error *err)
{
    pg_store *l = (pg_store *)store;
    const emb_param values[] = {
        emb_param_int(scan->by_day),    emb_param_int(scan->offset_s),    emb_param_int(scan->by[0]),
        emb_param_int(scan->by[1]),     emb_param_int(scan->from_s),      emb_param_int(scan->to_s),
        emb_param_text(scan->provider), emb_param_text(scan->model),      emb_param_text(scan->key),
        emb_param_text(scan->category), emb_param_int(scan->with_shadow), emb_param_int(scan->only_api)};
    emb_pg_result *r;
    emb_status st = emb_pg_call(l->pg, &SCAN, values, 12, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    for (size_t row = 0; st == EMB_OK && row < emb_pg_rows(r); row++)
        st = visit_row(r, row, visit, context, err);
    emb_pg_result_free(r);
    return st;
}

static emb_status pg_range(emb_ledger_store *store, bool *any, int64_t *first_s, int64_t *last_s,
                           uint64_t deadline_ns, emb_error *err)
{
    pg_store *l = (pg_store *)store;
    emb_pg_result *r;
    emb_status st = emb_pg_call(l->pg, &RANGE, NULL, 0, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    *any = emb_pg_rows(r) == 1 && emb_pg_text(r, 0, 0) != NULL;
    *first_s = *any ? emb_pg_int(r, 0, 0) : 0;
    *last_s = *any ? emb_pg_int(r, 0, 1) : 0;
    emb_pg_result_free(r);
    return EMB_OK;
}

/* ---- opening ---- */

static void pg_close(emb_ledger_store *store)
{
    pg_store *l = (pg_store *)store;
    emb_pg_close(l->pg);
    free(l);
}

static emb_status check_there(pg_store *l, uint64_t deadline_ns, emb_error *err)
{
    int64_t there;
    emb_status st = emb_pg_ask(l->pg, &EXISTS, NULL, 0, deadline_ns, &there, err);
    return st || there ? st
                       : emb_fail(err, EMB_E_NOT_FOUND, emb_pg_where(l->pg), "%s has no ledger yet",
                                  emb_pg_where(l->pg));
}

static emb_status pg_compact(emb_ledger_store *store, const emb_ledger_move *move, size_t *moved,
                             uint64_t deadline_ns, emb_error *err);

static const emb_ledger_store_ops OPS = {pg_write, pg_scan, pg_range, pg_close, pg_compact};

emb_status emb_ledger_postgresql_open(const char *url, bool read_only, emb_ledger_store **out, emb_error *err)
{
    const emb_pg_options options = {.connections = CONNECTIONS, .schema = read_only ? NULL : &SCHEMA};
    pg_store *l = calloc(1, sizeof *l);
    if (!l)
        return emb_fail_nomem(err, "the ledger's store", sizeof *l);
    l->base.ops = &OPS;
    emb_status st = emb_pg_open(url, &options, &l->pg, err);
    if (st != EMB_OK) {
        free(l);
        return st;
    }
    if (read_only && (st = check_there(l, emb_now_ns() + UINT64_C(10000000000), err)) != EMB_OK)
        pg_close(&l->base);
    else
        *out = &l->base;
    return st;
}

/* ---- fewer rows ---- */

#define PLACE "CASE WHEN $3::int8 > 0 THEN minute_utc - minute_utc % $3::int8 ELSE $4::int8 END"
#define ASTRAY "minute_utc >= $1::int8 AND minute_utc < $2::int8 AND minute_utc <> " PLACE
/* Of this transaction; the number is "embLcmpc". */
static const emb_pg_statement ALONE = {"embedd_ledger_alone",
                                       "SELECT 1 WHERE pg_try_advisory_xact_lock(7308605850517336163)"};
static const emb_pg_statement ASTRAY_MINUTES = {
    "embedd_ledger_astray",
    "SELECT min(m), max(m) FROM (SELECT minute_utc AS m FROM embedd_ledger WHERE " ASTRAY
    " ORDER BY minute_utc LIMIT $5::int8) AS first_ones"};
/* What is taken away is what is added: both are of one statement, and no row that is moved is one that is
 * moved to. A row that another process adds to meanwhile is waited for, and taken as it is then. */
static const emb_pg_statement MOVE_ROWS = {
    "embedd_ledger_move",
    "WITH gone AS (DELETE FROM embedd_ledger WHERE " ASTRAY " RETURNING " PLACE
    " AS place, kind, provider, model, key, category, context, " AMOUNTS "), there AS ("
    "INSERT INTO embedd_ledger AS l (" KEYS ", " AMOUNTS
    ") SELECT place, kind, provider, model, key, category, context, " SUM("calls") ", " SUM("texts") ", " SUM(
        "tokens") ", " SUM("nusd") ", " SUM("saved_nusd") " FROM gone GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY "
                                                          "1, 2, 3, 4, 5, 6, 7 ON CONFLICT (" KEYS
                                                          ") DO UPDATE SET " ADD("calls") ", " ADD("texts") ", " ADD(
                                                              "tokens") ", " ADD("nusd") ", " ADD("saved_"
                                                                                                  "nusd") ") "
                                                                                                          "SE"
                                                                                                          "LE"
                                                                                                          "CT"
                                                                                                          " c"
                                                                                                          "ou"
                                                                                                          "nt"
                                                                                                          "(*"
                                                                                                          ") "
                                                                                                          "FR"
                                                                                                          "OM"
                                                                                                          " g"
                                                                                                          "on"
                                                                                                          "e"};

static void move_params(const emb_ledger_move *move, emb_param params[5])
{
    const int64_t values[] = {move->from_s, move->to_s, move->step_s, move->one_s, (int64_t)move->most};
    for (int i = 0; i < 5; i++) {
        params[i] = emb_param_int(values[i]);
    }
}

/* Narrows the time to the first rows that are not where they belong; *any: whether there are some. */
static void read_astray(const emb_pg_result *r, emb_ledger_move *move, bool *any)
{
    size_t length;
    *any = emb_pg_rows(r) == 1 && emb_pg_bytes(r, 0, 0, &length) != NULL;
    if (!*any)
        return;
    move->from_s = emb_pg_int(r, 0, 0);
    move->to_s = emb_pg_int(r, 0, 1) + 1;
}

static emb_status be_alone(emb_pg_session *session, emb_error *err)
{
    emb_pg_result *r;
    emb_status st = emb_pg_run(session, &ALONE, NULL, 0, &r, err);
    if (st != EMB_OK)
        return st;
    bool alone = emb_pg_rows(r) == 1;
    emb_pg_result_free(r);
    return alone ? EMB_OK : emb_fail(err, EMB_E_BUSY, NULL, "another process merges the ledger's rows now");
}

static emb_status move_rows(emb_pg_session *session, const emb_ledger_move *move, size_t *moved,
                            emb_error *err)
{
    emb_ledger_move part = *move;
    emb_param params[5];
    emb_pg_result *r;
    bool any;
    emb_status st = be_alone(session, err);
    move_params(move, params);
    if (st != EMB_OK || (st = emb_pg_run(session, &ASTRAY_MINUTES, params, 5, &r, err)) != EMB_OK)
        return st;
    read_astray(r, &part, &any);
    emb_pg_result_free(r);
    if (!any)
        return EMB_OK;
    move_params(&part, params);
    if ((st = emb_pg_run(session, &MOVE_ROWS, params, 4, &r, err)) != EMB_OK)
        return st;
    *moved = (size_t)emb_pg_int(r, 0, 0);
    emb_pg_result_free(r);
    return EMB_OK;
}

static emb_status pg_compact(emb_ledger_store *store, const emb_ledger_move *move, size_t *moved,
                             uint64_t deadline_ns, emb_error *err)
{
    pg_store *l = (pg_store *)store;
    emb_ledger_move seen = *move;
    emb_param params[5];
    emb_pg_session *session;
    emb_pg_result *r;
    bool any;
    *moved = 0;
    move_params(move, params);
    emb_status st = emb_pg_call(l->pg, &ASTRAY_MINUTES, params, 5, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    read_astray(r, &seen, &any);
    emb_pg_result_free(r);
    if (!any || (st = emb_pg_begin(l->pg, deadline_ns, &session, err)) != EMB_OK)
        return st;
    st = emb_pg_end(session, move_rows(session, move, moved, err), err);
    if (st != EMB_OK)
        *moved = 0;
    return st;
}
