/*
 * The ledger in a SQLite file.
 *
 *     ledger          minute_utc (Unix time of its start), kind, provider, model, key, category, context: the primary key;
 *                     calls, texts, tokens, nusd, saved_nusd
 *     ledger_writers  writer, sequence: the last batch of each process
 *
 * A batch is one transaction of upserts that add. Commits survive loss of power (synchronous FULL): it is
 * money, and they are a few a second at most, on a thread that nobody waits for. Sums saturate, as in memory.
 *
 * Without rowid: rows lie in the order of time, which is how reports read them. They are added up by the
 * reader: GROUP BY would sort them first, which takes several times as long as reading them, and sum()
 * refuses what does not fit.
 */
#include "ledger/parts.h"

#include "base/error.h"
#include "store/sqlite.h"
#include "store/url.h"

#include <stdlib.h>
#include <unistd.h>

enum { CONNECTIONS = 4 };
#define FORGET_S (400 * INT64_C(86400)) /* writers that have not written for so long are gone */

static const char *const MIGRATIONS[] = {
    "CREATE TABLE ledger ("
    " minute_utc INTEGER NOT NULL,"
    " kind TEXT NOT NULL,"
    " provider TEXT NOT NULL,"
    " model TEXT NOT NULL,"
    " key TEXT NOT NULL,"
    " category TEXT NOT NULL,"
    " context TEXT NOT NULL,"
    " calls INTEGER NOT NULL,"
    " texts INTEGER NOT NULL,"
    " tokens INTEGER NOT NULL,"
    " nusd INTEGER NOT NULL,"
    " saved_nusd INTEGER NOT NULL,"
    " PRIMARY KEY (minute_utc, kind, provider, model, key, category, context)) WITHOUT ROWID;"
    "CREATE TABLE ledger_writers ("
    " writer BLOB PRIMARY KEY,"
    " sequence INTEGER NOT NULL,"
    " written_at INTEGER NOT NULL) WITHOUT ROWID;",
};
static const emb_sqlite_schema SCHEMA = {0x656D624C, "embedd's ledger", MIGRATIONS, 1};

#define ADD(column)                                                           \
    column " = CASE WHEN " column " > 9223372036854775807 - excluded." column \
           " THEN 9223372036854775807 ELSE " column " + excluded." column " END"
static const char UPSERT[] =
    "INSERT INTO ledger (minute_utc, kind, provider, model, key, category, context, calls, texts, tokens, "
    "nusd, saved_nusd) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) "
    "ON CONFLICT (minute_utc, kind, provider, model, key, category, context) DO UPDATE SET " ADD(
        "calls") ", " ADD("texts") ", " ADD("tokens") ", " ADD("nusd") ", " ADD("saved_nusd");

static const char CLAIM[] =
    "INSERT INTO ledger_writers (writer, sequence, written_at) VALUES (?1, ?2, ?3) ON CONFLICT (writer) DO "
    "UPDATE SET "
    "sequence = excluded.sequence, written_at = excluded.written_at WHERE sequence < excluded.sequence";
static const char FORGET[] = "DELETE FROM ledger_writers WHERE written_at < ?1";

/* The numbers are those of emb_ledger_by. */
#define NAME(parameter)                                                                               \
    "CASE " parameter " WHEN 4 THEN category WHEN 5 THEN model WHEN 6 THEN provider WHEN 7 THEN key " \
    "WHEN 8 THEN context WHEN 9 THEN kind ELSE '' END"
_Static_assert(EMB_BY_CATEGORY == 4 && EMB_BY_MODEL == 5 && EMB_BY_PROVIDER == 6 && EMB_BY_KEY == 7 &&
                   EMB_BY_CONTEXT == 8 && EMB_BY_KIND == 9,
               "the numbers in NAME");
static const char SCAN[] = "SELECT minute_utc, kind, " NAME("?1") ", " NAME(
    "?2") ", calls, texts, tokens, nusd, saved_nusd FROM ledger "
          "WHERE minute_utc >= ?3 AND minute_utc < ?4 AND (?5 IS NULL OR provider = ?5) AND (?6 IS NULL OR "
          "model = ?6) "
          "AND (?7 IS NULL OR key = ?7) AND (?8 IS NULL OR category = ?8) AND (?9 OR kind <> 'shadow') "
          "AND (NOT ?10 OR kind = 'api')";

typedef struct sqlite_store {
    emb_ledger_store base;
    emb_sqlite_pool *pool;
} sqlite_store;

/* ---- writing ---- */

static emb_status write_row(emb_sql *s, const emb_ledger_row *row, emb_error *err)
{
    const char *at = row->names;
    const emb_ledger_amounts *a = &row->amounts;
    const uint64_t numbers[] = {a->calls, a->texts, a->tokens, a->nusd, a->saved_nusd};
    emb_param values[12] = {emb_param_int(row->minute_s),
                            emb_param_text(emb_ledger_kind_name((emb_ledger_kind)row->kind))};
    for (int i = 0; i < EMB_LEDGER_NAMES; at += row->lengths[i] + 1, i++)
        values[2 + i] = emb_param_text_of(at, row->lengths[i]);
    for (int i = 0; i < 5; i++)
        values[7 + i] = emb_param_int((int64_t)numbers[i]);
    emb_sql_bind(s, values, 12);
    return emb_sql_do(s, err);
}

/* *fresh: false if this batch was committed before. */
static emb_status claim(emb_sqlite *db, const emb_ledger_batch *batch, bool *fresh, emb_error *err)
{
    const emb_param forget = emb_param_int(batch->now_s - FORGET_S);
    const emb_param values[] = {emb_param_bytes(batch->writer, sizeof batch->writer),
                                emb_param_int(batch->sequence), emb_param_int(batch->now_s)};
    emb_status st = batch->sequence == 1 ? emb_sql_call(db, FORGET, &forget, 1, err) : EMB_OK;
    if (st == EMB_OK)
        st = emb_sql_call(db, CLAIM, values, 3, err);
    *fresh = st == EMB_OK && emb_sqlite_changes(db) > 0;
    return st;
}

static emb_status write_all(emb_sqlite *db, const emb_ledger_batch *batch, emb_error *err)
{
    emb_sql *s;
    bool fresh;
    emb_status st = claim(db, batch, &fresh, err);
    if (st != EMB_OK || !fresh)
        return st;
    st = emb_sql_get(db, UPSERT, &s, err);
    for (size_t i = 0; st == EMB_OK && i < batch->count; i++)
        if ((st = write_row(s, batch->rows[i], err)) == EMB_OK)
            st = emb_sqlite_in_time(db, err);
    return st;
}

static emb_status sqlite_write(emb_ledger_store *store, const emb_ledger_batch *batch, uint64_t deadline_ns,
                               emb_error *err)
{
    sqlite_store *l = (sqlite_store *)store;
    emb_sqlite *db;
    emb_status st = emb_sqlite_enter(l->pool, deadline_ns, &db, err);
    return st ? st : emb_sqlite_leave(l->pool, db, write_all(db, batch, err), err);
}

/* ---- reading ---- */

static int64_t day_of(const emb_ledger_scan *scan, int64_t minute_s)
{
    int64_t there = minute_s + scan->offset_s;
    return scan->by_day ? there / 86400 - (there % 86400 < 0) : 0;
}

static uint64_t amount(emb_sql *s, int column)
{
    int64_t value = emb_sql_column_int(s, column);
    return value < 0 ? 0 : (uint64_t)value;
}

static emb_status visit_rows(emb_sql *s, const emb_ledger_scan *scan, emb_ledger_visit visit, void *context,
                             emb_error *err)
{
    bool row;
    emb_status st;
    while ((st = emb_sql_step(s, &row, err)) == EMB_OK && row) {
        const char *kind = emb_sql_column_text(s, 1, NULL), *a = emb_sql_column_text(s, 2, NULL);
        const char *b = emb_sql_column_text(s, 3, NULL);
        if (!kind || !a || !b)
            return emb_fail_nomem(err, "a row of the ledger", EMB_LEDGER_NAME_BYTES);
        emb_ledger_group group = {
            .day = day_of(scan, emb_sql_column_int(s, 0)),
            .name = {a, b},
            .amounts = {amount(s, 4), amount(s, 5), amount(s, 6), amount(s, 7), amount(s, 8)}};
        if (emb_ledger_kind_parse(kind, &group.kind) && (st = visit(context, &group, err)) != EMB_OK)
            return st;
    }
    return st;
}

static emb_status sqlite_scan(emb_ledger_store *store, const emb_ledger_scan *scan, emb_ledger_visit visit,
                              void *context, uint64_t deadline_ns, emb_error *err)
{
    sqlite_store *l = (sqlite_store *)store;
    const emb_param values[] = {emb_param_int(scan->by[0]),       emb_param_int(scan->by[1]),
                                emb_param_int(scan->from_s),      emb_param_int(scan->to_s),
                                emb_param_text(scan->provider),   emb_param_text(scan->model),
                                emb_param_text(scan->key),        emb_param_text(scan->category),
                                emb_param_int(scan->with_shadow), emb_param_int(scan->only_api)};
    emb_sqlite *db;
    emb_sql *s;
    emb_status st = emb_sqlite_acquire(l->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sql_ask(db, SCAN, values, 10, &s, err)) == EMB_OK) {
        st = visit_rows(s, scan, visit, context, err);
        emb_sql_reset(s);
    }
    emb_sqlite_release(l->pool, db);
    return st;
}

static emb_status sqlite_range(emb_ledger_store *store, bool *any, int64_t *first_s, int64_t *last_s,
                               uint64_t deadline_ns, emb_error *err)
{
    sqlite_store *l = (sqlite_store *)store;
    emb_sqlite *db;
    emb_sql *s;
    bool row;
    emb_status st = emb_sqlite_acquire(l->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    /* Two searches; min and max in one SELECT would read the table. */
    st = emb_sql_get(db, "SELECT (SELECT min(minute_utc) FROM ledger), (SELECT max(minute_utc) FROM ledger)",
                     &s, err);
    if (st == EMB_OK) {
        st = emb_sql_step(s, &row, err);
        *any = st == EMB_OK && row && emb_sql_column_text(s, 0, NULL) != NULL;
        *first_s = *any ? emb_sql_column_int(s, 0) : 0;
        *last_s = *any ? emb_sql_column_int(s, 1) : 0;
        emb_sql_reset(s);
    }
    emb_sqlite_release(l->pool, db);
    return st;
}

/* ---- opening ---- */

static void sqlite_close(emb_ledger_store *store)
{
    sqlite_store *l = (sqlite_store *)store;
    emb_sqlite_pool_close(l->pool);
    free(l);
}

static emb_status sqlite_compact(emb_ledger_store *store, const emb_ledger_move *move, size_t *moved,
                                 uint64_t deadline_ns, emb_error *err);

static const emb_ledger_store_ops OPS = {sqlite_write, sqlite_scan, sqlite_range, sqlite_close,
                                         sqlite_compact};

emb_status emb_ledger_sqlite_open(const char *url, bool read_only, emb_ledger_store **out, emb_error *err)
{
    const emb_sqlite_options options = {.schema = &SCHEMA, .durable = true};
    const char *path = emb_url_sqlite_path(url);
    if (read_only && access(path, F_OK) != 0)
        return emb_fail_errno(err, path, "opening the ledger");
    sqlite_store *l = calloc(1, sizeof *l);
    if (!l)
        return emb_fail_nomem(err, "the ledger's store", sizeof *l);
    l->base.ops = &OPS;
    emb_status st = emb_sqlite_pool_open(path, &options, CONNECTIONS, &l->pool, err);
    if (st != EMB_OK)
        free(l);
    else
        *out = &l->base;
    return st;
}

/* ---- fewer rows ---- */

#define PLACE "CASE WHEN ?3 > 0 THEN minute_utc - minute_utc % ?3 ELSE ?4 END"
#define ASTRAY "minute_utc >= ?1 AND minute_utc < ?2 AND minute_utc <> " PLACE
/* Row by row, not by GROUP BY: what is added to may be there before, and sums saturate. */
static const char ASTRAY_MINUTES[] =
    "SELECT min(m), max(m) FROM (SELECT minute_utc AS m FROM ledger WHERE " ASTRAY
    " ORDER BY minute_utc LIMIT ?5)";
static const char MOVE_ROWS[] =
    "INSERT INTO ledger (minute_utc, kind, provider, model, key, category, context, calls, texts, tokens, "
    "nusd, saved_nusd) SELECT " PLACE ", kind, provider, model, key, category, context, calls, texts, "
    "tokens, nusd, saved_nusd FROM ledger WHERE " ASTRAY
    " ON CONFLICT (minute_utc, kind, provider, model, key, category, context) DO UPDATE SET " ADD(
        "calls") ", " ADD("texts") ", " ADD("tokens") ", " ADD("nusd") ", " ADD("saved_nusd");
static const char REMOVE_MOVED[] = "DELETE FROM ledger WHERE " ASTRAY;

static void bind_move(emb_sql *s, const emb_ledger_move *move)
{
    emb_sql_int(s, 1, move->from_s);
    emb_sql_int(s, 2, move->to_s);
    emb_sql_int(s, 3, move->step_s);
    emb_sql_int(s, 4, move->one_s);
}

/* Narrows the time to the first rows that are not where they belong; *any: whether there are some. */
static emb_status find_astray(emb_sqlite *db, emb_ledger_move *move, bool *any, emb_error *err)
{
    emb_sql *s;
    bool row;
    emb_status st = emb_sql_get(db, ASTRAY_MINUTES, &s, err);
    *any = false;
    if (st != EMB_OK)
        return st;
    bind_move(s, move);
    emb_sql_int(s, 5, (int64_t)move->most);
    st = emb_sql_step(s, &row, err);
    if (st == EMB_OK && row && emb_sql_column_text(s, 0, NULL)) {
        *any = true;
        move->from_s = emb_sql_column_int(s, 0);
        move->to_s = emb_sql_column_int(s, 1) + 1;
    }
    emb_sql_reset(s);
    return st;
}

static emb_status do_move(emb_sqlite *db, const char *sql, const emb_ledger_move *move, emb_error *err)
{
    emb_sql *s;
    emb_status st = emb_sql_get(db, sql, &s, err);
    if (st != EMB_OK)
        return st;
    bind_move(s, move);
    return emb_sql_do(s, err);
}

static emb_status move_rows(emb_sqlite *db, const emb_ledger_move *move, size_t *moved, emb_error *err)
{
    emb_ledger_move part = *move;
    bool any;
    emb_status st = find_astray(db, &part, &any, err);
    if (st != EMB_OK || !any)
        return st;
    if ((st = do_move(db, MOVE_ROWS, &part, err)) == EMB_OK &&
        (st = do_move(db, REMOVE_MOVED, &part, err)) == EMB_OK)
        *moved = emb_sqlite_changes(db);
    return st;
}

/* It looks first without keeping others from writing: most days are done. */
static emb_status sqlite_compact(emb_ledger_store *store, const emb_ledger_move *move, size_t *moved,
                                 uint64_t deadline_ns, emb_error *err)
{
    sqlite_store *l = (sqlite_store *)store;
    emb_sqlite *db;
    emb_ledger_move seen = *move;
    bool any;
    *moved = 0;
    emb_status st = emb_sqlite_acquire(l->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    st = find_astray(db, &seen, &any, err);
    if (st == EMB_OK && any && (st = emb_sqlite_begin(db, true, err)) == EMB_OK)
        st = emb_sqlite_end(db, move_rows(db, move, moved, err), err);
    emb_sqlite_release(l->pool, db);
    if (st != EMB_OK)
        *moved = 0;
    return st;
}
