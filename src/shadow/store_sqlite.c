/*
 * Comparisons in a SQLite file.
 *
 * One table of rows, one row of what the service last told of itself. Rows are written by one transaction a
 * batch, without waiting for the disk: a loss of power may take the last moments' comparisons, which are a
 * sample anyway. The one index is by time; the worst pairs are found by a scan of the period, so that each
 * insertion keeps one index and not three.
 *
 * ids ascend, so that "all but the newest million" is a range of them and nobody counts. Reads use
 * connections of their own and, the file being in WAL mode, neither wait for writes nor hold them up.
 */
#include "shadow/store.h"

#include "base/error.h"
#include "store/sqlite.h"

#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS = 4 };

static const char *const MIGRATIONS[] = {
    "CREATE TABLE comparison ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " text_hash BLOB NOT NULL,"
    " role TEXT NOT NULL, category TEXT NOT NULL, context TEXT NOT NULL,"
    " legacy_provider TEXT NOT NULL, legacy_model TEXT NOT NULL, legacy_space TEXT NOT NULL,"
    " candidate_provider TEXT NOT NULL, candidate_model TEXT NOT NULL, candidate_space TEXT NOT NULL,"
    " error TEXT,"
    " time_s INTEGER NOT NULL,"
    " legacy_ns INTEGER NOT NULL, candidate_ns INTEGER NOT NULL,"
    " legacy_nusd INTEGER NOT NULL, candidate_nusd INTEGER NOT NULL,"
    " legacy_dimension INTEGER NOT NULL, candidate_dimension INTEGER NOT NULL,"
    " legacy_cached INTEGER NOT NULL, candidate_cached INTEGER NOT NULL,"
    " cosine_e9 INTEGER);"
    "CREATE INDEX comparison_time ON comparison (time_s);"
    "CREATE TABLE state ("
    " id INTEGER PRIMARY KEY CHECK (id = 1),"
    " time_s INTEGER NOT NULL, samples INTEGER NOT NULL,"
    " overlap_e9 INTEGER NOT NULL, overlap_low_e9 INTEGER NOT NULL, overlap_high_e9 INTEGER NOT NULL,"
    " rank_e9 INTEGER NOT NULL, rank_low_e9 INTEGER NOT NULL, rank_high_e9 INTEGER NOT NULL,"
    " dropped INTEGER NOT NULL, pair TEXT NOT NULL);",
};
static const emb_sqlite_schema SCHEMA = {0x656D6253, "embedd's comparisons", MIGRATIONS, 1};

typedef struct sqlite_store {
    emb_shadow_store base;
    emb_sqlite_pool *pool;
} sqlite_store;

static emb_status acquire(emb_shadow_store *s, uint64_t deadline_ns, emb_sqlite **db, emb_error *err)
{
    return emb_sqlite_acquire(((sqlite_store *)s)->pool, deadline_ns, db, err);
}

static void release(emb_shadow_store *s, emb_sqlite *db)
{
    emb_sqlite_release(((sqlite_store *)s)->pool, db);
}

static void bind_text(emb_sql *s, int parameter, const char *text)
{
    if (text)
        emb_sql_text(s, parameter, text, strlen(text));
}

/* ---- rows ---- */

static emb_status put_row(emb_sql *s, const emb_shadow_row *row, emb_error *err)
{
    int p = 1;
    emb_sql_bytes(s, p++, row->text, sizeof row->text);
    for (int i = 0; i < EMB_SHADOW_TEXT_COLUMNS; i++)
        bind_text(s, p++, emb_shadow_row_text(row, i));
    for (int i = 0; i < EMB_SHADOW_NUMBER_COLUMNS - 1; i++)
        emb_sql_int(s, p++, emb_shadow_row_number(row, i));
    if (row->has_cosine)
        emb_sql_int(s, p, row->cosine_e9);
    return emb_sql_do(s, err);
}

static emb_status put_rows(emb_sqlite *db, const emb_shadow_row *rows, size_t count, emb_error *err)
{
    emb_sql *s;
    emb_status st =
        emb_sql_get(db,
                    "INSERT INTO comparison (text_hash, " EMB_SHADOW_TEXTS ", " EMB_SHADOW_NUMBERS ") VALUES "
                    "(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, "
                    "?20, ?21)",
                    &s, err);
    for (size_t i = 0; st == EMB_OK && i < count; i++)
        if ((st = put_row(s, &rows[i], err)) == EMB_OK)
            st = emb_sqlite_in_time(db, err);
    return st;
}

static emb_status sqlite_put(emb_shadow_store *store, const emb_shadow_row *rows, size_t count,
                             uint64_t deadline_ns, emb_error *err)
{
    emb_sqlite *db;
    emb_status st = acquire(store, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sqlite_begin(db, true, err)) == EMB_OK)
        st = emb_sqlite_end(db, put_rows(db, rows, count, err), err);
    release(store, db);
    return st;
}

/* A statement with a time and a limit, and what to do with each of its rows. */
typedef bool (*on_row)(emb_sql *s, void *visitor);

static emb_status each(emb_shadow_store *store, const char *sql, int64_t since_s, size_t limit,
                       uint64_t deadline_ns, on_row on, void *visitor, emb_error *err)
{
    emb_sqlite *db;
    emb_sql *s;
    bool row, more = true;
    emb_status st = acquire(store, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sql_get(db, sql, &s, err)) == EMB_OK) {
        emb_sql_int(s, 1, since_s);
        emb_sql_int(s, 2, (int64_t)(limit > INT32_MAX ? INT32_MAX : limit));
        while (more && (st = emb_sql_step(s, &row, err)) == EMB_OK && row)
            more = on(s, visitor);
        emb_sql_reset(s);
    }
    release(store, db);
    return st;
}

typedef struct row_visitor {
    emb_shadow_visit_row visit;
    void *context;
} row_visitor;

static bool on_comparison(emb_sql *s, void *visitor)
{
    const row_visitor *v = visitor;
    const char *texts[EMB_SHADOW_TEXT_COLUMNS];
    int64_t numbers[EMB_SHADOW_NUMBER_COLUMNS];
    size_t length;
    emb_shadow_row row;
    int c = 0;
    const unsigned char *hash = emb_sql_column_bytes(s, c++, &length);
    for (int i = 0; i < EMB_SHADOW_TEXT_COLUMNS; i++)
        texts[i] = emb_sql_column_text(s, c++, NULL);
    for (int i = 0; i < EMB_SHADOW_NUMBER_COLUMNS; i++)
        numbers[i] = emb_sql_column_int(s, c++);
    emb_shadow_row_set(&row, hash, length, texts, numbers, emb_sql_column_int(s, c) != 0);
    return v->visit(v->context, &row);
}

#define SELECT_ROWS \
    "SELECT text_hash, " EMB_SHADOW_TEXTS ", " EMB_SHADOW_NUMBERS ", cosine_e9 IS NOT NULL FROM comparison "

static emb_status sqlite_rows(emb_shadow_store *store, emb_shadow_order order, int64_t since_s, size_t limit,
                              uint64_t deadline_ns, emb_shadow_visit_row visit, void *context, emb_error *err)
{
    static const char *const statements[] = {
        [EMB_SHADOW_NEWEST] = SELECT_ROWS "WHERE time_s >= ?1 ORDER BY id DESC LIMIT ?2",
        [EMB_SHADOW_WORST] =
            SELECT_ROWS "WHERE time_s >= ?1 AND cosine_e9 IS NOT NULL ORDER BY cosine_e9, id LIMIT ?2",
        [EMB_SHADOW_LAST_COMPARED] =
            SELECT_ROWS "WHERE time_s >= ?1 AND error IS NULL ORDER BY id DESC LIMIT ?2",
    };
    row_visitor v = {visit, context};
    return each(store, statements[order], since_s, limit, deadline_ns, on_comparison, &v, err);
}

typedef struct point_visitor {
    emb_shadow_visit_point visit;
    void *context;
} point_visitor;

static bool on_point(emb_sql *s, void *visitor)
{
    const point_visitor *v = visitor;
    const char *category = emb_sql_column_text(s, 0, NULL);
    emb_shadow_point p = {.category = category ? category : "",
                          .legacy_ns = emb_sql_column_int(s, 1),
                          .candidate_ns = emb_sql_column_int(s, 2),
                          .cosine_e9 = emb_sql_column_int(s, 3),
                          .legacy_cached = emb_sql_column_int(s, 4) != 0,
                          .candidate_cached = emb_sql_column_int(s, 5) != 0,
                          .has_cosine = emb_sql_column_int(s, 6) != 0,
                          .failed = emb_sql_column_int(s, 7) != 0};
    return v->visit(v->context, &p);
}

static emb_status sqlite_points(emb_shadow_store *store, int64_t since_s, size_t limit, uint64_t deadline_ns,
                                emb_shadow_visit_point visit, void *context, emb_error *err)
{
    point_visitor v = {visit, context};
    return each(store,
                "SELECT category, legacy_ns, candidate_ns, cosine_e9, legacy_cached, candidate_cached, "
                "cosine_e9 IS NOT NULL, error IS NOT NULL FROM comparison WHERE time_s >= ?1 ORDER BY id "
                "DESC LIMIT ?2",
                since_s, limit, deadline_ns, on_point, &v, err);
}

typedef struct total_visitor {
    emb_shadow_visit_total visit;
    void *context;
} total_visitor;

static bool on_total(emb_sql *s, void *visitor)
{
    const total_visitor *v = visitor;
    emb_shadow_total t = {.category = emb_sql_column_text(s, 0, NULL),
                          .comparisons = emb_sql_column_int(s, 1),
                          .failures = emb_sql_column_int(s, 2),
                          .with_cosine = emb_sql_column_int(s, 3),
                          .legacy_nusd = emb_sql_column_int(s, 4),
                          .candidate_nusd = emb_sql_column_int(s, 5),
                          .worst_e9 = emb_sql_column_int(s, 6),
                          .first_s = emb_sql_column_int(s, 7),
                          .last_s = emb_sql_column_int(s, 8)};
    return v->visit(v->context, &t);
}

#define SELECT_TOTALS                                                                             \
    "count(*), count(error), count(cosine_e9), coalesce(sum(legacy_nusd), 0), "                   \
    "coalesce(sum(candidate_nusd), 0), min(cosine_e9), min(time_s), max(time_s) FROM comparison " \
    "WHERE time_s >= ?1 "

static emb_status sqlite_totals(emb_shadow_store *store, int64_t since_s, size_t limit, uint64_t deadline_ns,
                                emb_shadow_visit_total visit, void *context, emb_error *err)
{
    total_visitor v = {visit, context};
    emb_status st =
        each(store, "SELECT NULL, " SELECT_TOTALS "AND ?2 > 0", since_s, 1, deadline_ns, on_total, &v, err);
    return st ? st
              : each(store, "SELECT category, " SELECT_TOTALS "GROUP BY category ORDER BY 2 DESC, 1 LIMIT ?2",
                     since_s, limit, deadline_ns, on_total, &v, err);
}

/* ---- state ---- */

static bool on_state(emb_sql *s, void *visitor)
{
    int64_t numbers[EMB_SHADOW_STATE_NUMBERS];
    for (int i = 0; i < EMB_SHADOW_STATE_NUMBERS; i++)
        numbers[i] = emb_sql_column_int(s, i);
    emb_shadow_state_set(visitor, numbers, emb_sql_column_text(s, EMB_SHADOW_STATE_NUMBERS, NULL));
    return false;
}

static emb_status sqlite_get_state(emb_shadow_store *store, uint64_t deadline_ns, emb_shadow_state *out,
                                   emb_error *err)
{
    *out = (emb_shadow_state){0};
    return each(store,
                "SELECT " EMB_SHADOW_STATE_COLUMNS ", pair FROM state WHERE id = 1 AND ?1 >= 0 LIMIT ?2", 0,
                1, deadline_ns, on_state, out, err);
}

/* Drops are added whatever else is told; the window's figures only where there are any. */
static emb_status sqlite_put_state(emb_shadow_store *store, const emb_shadow_state *state,
                                   uint64_t deadline_ns, emb_error *err)
{
    static const char sql[] = "INSERT INTO state (id, " EMB_SHADOW_STATE_COLUMNS
                              ", pair) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) "
                              "ON CONFLICT (id) DO UPDATE SET dropped = state.dropped + excluded.dropped";
    static const char with_window[] = "INSERT INTO state (id, " EMB_SHADOW_STATE_COLUMNS
                                      ", pair) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) "
                                      "ON CONFLICT (id) DO UPDATE SET dropped = state.dropped + "
                                      "excluded.dropped, time_s = excluded.time_s, "
                                      "samples = excluded.samples, overlap_e9 = excluded.overlap_e9, "
                                      "overlap_low_e9 = excluded.overlap_low_e9, "
                                      "overlap_high_e9 = excluded.overlap_high_e9, rank_e9 = "
                                      "excluded.rank_e9, rank_low_e9 = excluded.rank_low_e9, "
                                      "rank_high_e9 = excluded.rank_high_e9, pair = excluded.pair";
    int64_t numbers[EMB_SHADOW_STATE_NUMBERS];
    emb_sqlite *db;
    emb_sql *s;
    emb_status st = acquire(store, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    emb_shadow_state_numbers(state, numbers);
    if ((st = emb_sql_get(db, state->time_s ? with_window : sql, &s, err)) == EMB_OK) {
        for (int i = 0; i < EMB_SHADOW_STATE_NUMBERS; i++)
            emb_sql_int(s, i + 1, numbers[i]);
        bind_text(s, EMB_SHADOW_STATE_NUMBERS + 1, state->pair);
        st = emb_sql_do(s, err);
    }
    release(store, db);
    return st;
}

/* ---- removal ---- */

/* One statement that removes a piece; *left loses what it removed. */
static emb_status remove_some(emb_sqlite *db, const char *sql, int64_t bound, size_t *left, emb_error *err)
{
    emb_sql *s;
    emb_status st = *left ? emb_sql_get(db, sql, &s, err) : EMB_OK;
    if (st != EMB_OK || !*left)
        return st;
    emb_sql_int(s, 1, bound);
    emb_sql_int(s, 2, (int64_t)*left);
    if ((st = emb_sql_do(s, err)) == EMB_OK)
        *left -= (size_t)emb_sqlite_changes(db);
    return st;
}

static emb_status sqlite_trim(emb_shadow_store *store, int64_t before_s, int64_t keep, uint64_t deadline_ns,
                              size_t *removed, emb_error *err)
{
    size_t left = EMB_SHADOW_PIECE;
    emb_sqlite *db;
    *removed = 0;
    emb_status st = acquire(store, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    st = remove_some(
        db,
        "DELETE FROM comparison WHERE id IN (SELECT id FROM comparison WHERE time_s < ?1 ORDER BY time_s "
        "LIMIT ?2)",
        before_s, &left, err);
    if (st == EMB_OK)
        st = remove_some(
            db,
            "DELETE FROM comparison WHERE id IN (SELECT id FROM comparison WHERE id <= (SELECT max(id) FROM "
            "comparison) - ?1 ORDER BY id LIMIT ?2)",
            keep, &left, err);
    *removed = EMB_SHADOW_PIECE - left;
    release(store, db);
    return st;
}

static emb_status sqlite_clear(emb_shadow_store *store, uint64_t deadline_ns, emb_error *err)
{
    uint64_t bytes;
    emb_sqlite *db;
    emb_status st = acquire(store, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sqlite_begin(db, true, err)) == EMB_OK)
        st = emb_sqlite_end(db, emb_sqlite_run(db, "DELETE FROM comparison; DELETE FROM state", err), err);
    if (st == EMB_OK && emb_sqlite_file_bytes(db, &bytes, NULL) == EMB_OK)
        (void)!emb_sqlite_shrink(db, bytes, NULL); /* the room is free either way */
    release(store, db);
    return st;
}

/* ---- open and close ---- */

static void sqlite_close(emb_shadow_store *store)
{
    emb_sqlite_pool_close(((sqlite_store *)store)->pool);
    free(store);
}

static const emb_shadow_store_ops OPS = {
    .put = sqlite_put,
    .rows = sqlite_rows,
    .points = sqlite_points,
    .totals = sqlite_totals,
    .get_state = sqlite_get_state,
    .put_state = sqlite_put_state,
    .trim = sqlite_trim,
    .clear = sqlite_clear,
    .close = sqlite_close,
};

emb_status emb_shadow_store_open_sqlite(const char *path, emb_shadow_store **out, emb_error *err)
{
    const emb_sqlite_options options = {.schema = &SCHEMA, .shrinks = true};
    sqlite_store *s = calloc(1, sizeof *s);
    if (!s)
        return emb_fail_nomem(err, "the store of comparisons", sizeof *s);
    s->base.ops = &OPS;
    emb_status st = emb_sqlite_pool_open(path, &options, CONNECTIONS, &s->pool, err);
    if (st != EMB_OK) {
        free(s);
        return st;
    }
    *out = &s->base;
    return EMB_OK;
}
