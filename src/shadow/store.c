/*
 * store.c: comparisons in SQLite or PostgreSQL, the same tables in both.
 *
 *     comparison / embedd_shadow      a row a comparison; ids ascend, so that "all but the newest million" is a
 *                                     range of them and nobody counts
 *     state / embedd_shadow_state     one row: the last measurement of a window, and the drops, of all processes
 *                                     together
 *
 * Cosines are integers in units of 1e-9, latencies nanoseconds, money nano-dollars: sums are exact and alike
 * everywhere, and a column of bytes or integers is all that is asked of src/store.
 *
 * A batch is one transaction in SQLite, one statement of arrays in PostgreSQL. Neither waits for the disk: a
 * loss of power (a crash of the server) may take the last moments' comparisons, which are a sample anyway.
 * The one index besides the key is by time; the worst pairs are found by a scan of the period, so that each
 * insertion keeps one index and not three. Removal goes in pieces, each a transaction, over the oldest.
 *
 * Reads of SQLite use connections of their own and, the file being in WAL mode, neither wait for writes nor
 * hold them up.
 */
#include "shadow/store.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

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
static const emb_sqlite_schema SQLITE = {0x656D6253, "embedd's comparisons", MIGRATIONS, 1};

static const char *const STEPS[] = {
    "CREATE TABLE embedd_shadow ("
    " id bigserial PRIMARY KEY,"
    " text_hash bytea NOT NULL,"
    " role text NOT NULL, category text NOT NULL, context text NOT NULL,"
    " legacy_provider text NOT NULL, legacy_model text NOT NULL, legacy_space text NOT NULL,"
    " candidate_provider text NOT NULL, candidate_model text NOT NULL, candidate_space text NOT NULL,"
    " error text,"
    " time_s bigint NOT NULL,"
    " legacy_ns bigint NOT NULL, candidate_ns bigint NOT NULL,"
    " legacy_nusd bigint NOT NULL, candidate_nusd bigint NOT NULL,"
    " legacy_dimension bigint NOT NULL, candidate_dimension bigint NOT NULL,"
    " legacy_cached bigint NOT NULL, candidate_cached bigint NOT NULL,"
    " cosine_e9 bigint);"
    "CREATE INDEX embedd_shadow_time ON embedd_shadow (time_s);"
    "CREATE TABLE embedd_shadow_state ("
    " id bigint PRIMARY KEY CHECK (id = 1),"
    " time_s bigint NOT NULL, samples bigint NOT NULL,"
    " overlap_e9 bigint NOT NULL, overlap_low_e9 bigint NOT NULL, overlap_high_e9 bigint NOT NULL,"
    " rank_e9 bigint NOT NULL, rank_low_e9 bigint NOT NULL, rank_high_e9 bigint NOT NULL,"
    " dropped bigint NOT NULL, pair text NOT NULL)",
};
static const emb_pg_schema POSTGRESQL = {"embedd_shadow", STEPS, 1};

static const emb_db_options OPTIONS = {"the store of comparisons",
                                       {.schema = &SQLITE, .shrinks = true},
                                       4,
                                       {.connections = 4, .relaxed = true, .schema = &POSTGRESQL}};

emb_status emb_shadow_store_open(const char *url, emb_db **out, emb_error *err)
{
    return emb_db_open(url, &OPTIONS, out, err);
}

/* ---- rows as columns ---- */

/* Texts, then the numbers, in the order of the tables and of the SELECTs. */
#define TEXTS                                                                                    \
    "role, category, context, legacy_provider, legacy_model, legacy_space, candidate_provider, " \
    "candidate_model, candidate_space, error"
#define NUMBERS                                                                        \
    "time_s, legacy_ns, candidate_ns, legacy_nusd, candidate_nusd, legacy_dimension, " \
    "candidate_dimension, legacy_cached, candidate_cached, cosine_e9"
enum {
    FIRST_TEXT = 1,
    TEXT_COLUMNS = 10,
    FIRST_NUMBER = FIRST_TEXT + TEXT_COLUMNS,
    NUMBER_COLUMNS = 10,
    ROW_COLUMNS = FIRST_NUMBER + NUMBER_COLUMNS
};

static void values_of(const emb_shadow_row *row, emb_param out[ROW_COLUMNS])
{
    const char *const texts[TEXT_COLUMNS] = {row->role,
                                             row->category,
                                             row->context,
                                             row->legacy_provider,
                                             row->legacy_model,
                                             row->legacy_space,
                                             row->candidate_provider,
                                             row->candidate_model,
                                             row->candidate_space,
                                             row->error};
    const int64_t numbers[NUMBER_COLUMNS] = {
        row->time_s,           row->legacy_ns,        row->candidate_ns,        row->legacy_nusd,
        row->candidate_nusd,   row->legacy_dimension, row->candidate_dimension, row->legacy_cached,
        row->candidate_cached, row->cosine_e9};
    out[0] = emb_param_bytes(row->text, sizeof row->text);
    for (int i = 0; i < TEXT_COLUMNS; i++)
        out[FIRST_TEXT + i] = emb_param_text(texts[i]);
    for (int i = 0; i < NUMBER_COLUMNS; i++)
        out[FIRST_NUMBER + i] = emb_param_int(numbers[i]);
    if (!row->has_cosine)
        out[ROW_COLUMNS - 1] = emb_param_text(NULL);
}

static const char *text_at(const emb_db_rows *rows, int column)
{
    const char *text = emb_db_text(rows, column);
    return text ? text : "";
}

static void read_row(const emb_db_rows *r, emb_shadow_row *row)
{
    const int t = FIRST_TEXT, n = FIRST_NUMBER;
    size_t length;
    const void *hash = emb_db_bytes(r, 0, &length);
    *row = (emb_shadow_row){.role = text_at(r, t),
                            .category = text_at(r, t + 1),
                            .context = text_at(r, t + 2),
                            .legacy_provider = text_at(r, t + 3),
                            .legacy_model = text_at(r, t + 4),
                            .legacy_space = text_at(r, t + 5),
                            .candidate_provider = text_at(r, t + 6),
                            .candidate_model = text_at(r, t + 7),
                            .candidate_space = text_at(r, t + 8),
                            .error = emb_db_text(r, t + 9),
                            .time_s = emb_db_int(r, n),
                            .legacy_ns = emb_db_int(r, n + 1),
                            .candidate_ns = emb_db_int(r, n + 2),
                            .legacy_nusd = emb_db_int(r, n + 3),
                            .candidate_nusd = emb_db_int(r, n + 4),
                            .legacy_dimension = emb_db_int(r, n + 5),
                            .candidate_dimension = emb_db_int(r, n + 6),
                            .legacy_cached = emb_db_int(r, n + 7),
                            .candidate_cached = emb_db_int(r, n + 8),
                            .cosine_e9 = emb_db_int(r, n + 9),
                            .has_cosine = emb_db_int(r, ROW_COLUMNS) != 0};
    if (hash && length == sizeof row->text)
        memcpy(row->text, hash, sizeof row->text);
}

/* ---- writing ---- */

static const char PUT_SQLITE[] =
    "INSERT INTO comparison (text_hash, " TEXTS ", " NUMBERS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, "
    "?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)";

static emb_status put_sqlite(emb_sqlite *db, const emb_shadow_row *rows, size_t count, emb_error *err)
{
    emb_param values[ROW_COLUMNS];
    emb_sql *s;
    emb_status st = emb_sql_get(db, PUT_SQLITE, &s, err);
    for (size_t i = 0; st == EMB_OK && i < count; i++) {
        values_of(&rows[i], values);
        emb_sql_bind(s, values, ROW_COLUMNS);
        if ((st = emb_sql_do(s, err)) == EMB_OK)
            st = emb_sqlite_in_time(db, err);
    }
    return st;
}

/* The numbers but the last, row by row, are one array: a statement has a bounded number of parameters. */
enum { NUMBERS_ARRAY = FIRST_NUMBER, COSINES_ARRAY, ARRAYS };
_Static_assert(NUMBER_COLUMNS == 10, "NUMBER counts 9 and the cosine");
#define NUMBER(k) "($12::int8[])[(i.row - 1) * 9 + " #k "]"
#define NINE_NUMBERS                                                                                       \
    NUMBER(1)                                                                                              \
    ", " NUMBER(2) ", " NUMBER(3) ", " NUMBER(4) ", " NUMBER(5) ", " NUMBER(6) ", " NUMBER(7) ", " NUMBER( \
        8) ", " NUMBER(9)
static const emb_pg_statement PUT_POSTGRESQL = {
    "embedd_shadow_put",
    "INSERT INTO embedd_shadow (text_hash, " TEXTS ", " NUMBERS ") "
    "SELECT i.c1, i.c2, i.c3, i.c4, i.c5, i.c6, i.c7, i.c8, i.c9, i.c10, i.c11, " NINE_NUMBERS ", i.cosine "
    "FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], "
    "$8::text[], $9::text[], $10::text[], $11::text[], $13::int8[]) WITH ORDINALITY AS i(c1, c2, c3, c4, c5, "
    "c6, c7, c8, c9, c10, c11, cosine, row) ORDER BY i.row"};

static void add_row(emb_pg_array arrays[ARRAYS], const emb_shadow_row *row)
{
    emb_param values[ROW_COLUMNS];
    values_of(row, values);
    for (int i = 0; i < FIRST_NUMBER; i++)
        emb_pg_array_add(&arrays[i], values[i].data, values[i].length);
    for (int i = FIRST_NUMBER; i < ROW_COLUMNS - 1; i++)
        emb_pg_array_add_int8(&arrays[NUMBERS_ARRAY], values[i].integer);
    if (row->has_cosine)
        emb_pg_array_add_int8(&arrays[COSINES_ARRAY], row->cosine_e9);
    else
        emb_pg_array_add(&arrays[COSINES_ARRAY], NULL, 0);
}

static emb_status put_postgresql(emb_pg *pg, const emb_shadow_row *rows, size_t count, uint64_t deadline_ns,
                                 emb_error *err)
{
    emb_pg_array arrays[ARRAYS];
    emb_param values[ARRAYS];
    uint32_t types[ARRAYS];
    for (int i = 0; i < ARRAYS; i++)
        types[i] = i == 0 ? EMB_PG_BYTEA : i < NUMBERS_ARRAY ? EMB_PG_TEXT : EMB_PG_INT8;
    emb_pg_arrays_init(arrays, types, ARRAYS);
    for (size_t i = 0; i < count; i++)
        add_row(arrays, &rows[i]);
    emb_status st = emb_pg_arrays_params(arrays, ARRAYS, values, err);
    if (st == EMB_OK && count)
        st = emb_pg_call(pg, &PUT_POSTGRESQL, values, ARRAYS, deadline_ns, NULL, err);
    emb_pg_arrays_fini(arrays, ARRAYS);
    return st;
}

emb_status emb_shadow_store_put(emb_db *store, const emb_shadow_row *rows, size_t count, uint64_t deadline_ns,
                                emb_error *err)
{
    emb_sqlite_pool *pool = emb_db_sqlite(store);
    emb_sqlite *db;
    if (!pool)
        return put_postgresql(emb_db_postgresql(store), rows, count, deadline_ns, err);
    emb_status st = emb_sqlite_enter(pool, deadline_ns, &db, err);
    return st ? st : emb_sqlite_leave(pool, db, put_sqlite(db, rows, count, err), err);
}

/* ---- reading ---- */

/* A statement with a time and a limit. */
static emb_status query(emb_db *store, const emb_db_statement *statement, int64_t since_s, size_t limit,
                        uint64_t deadline_ns, emb_db_rows *out, emb_error *err)
{
    const emb_param values[] = {emb_param_int(since_s),
                                emb_param_int((int64_t)(limit > INT32_MAX ? INT32_MAX : limit))};
    return emb_db_query(store, statement, values, 2, deadline_ns, out, err);
}

#define ROWS_POSTGRESQL                                                             \
    "SELECT text_hash, " TEXTS ", " NUMBERS ", (cosine_e9 IS NOT NULL)::int4 FROM " \
    "embedd_shadow WHERE time_s >= $1::int8 "
#define ROWS_SQLITE \
    "SELECT text_hash, " TEXTS ", " NUMBERS ", cosine_e9 IS NOT NULL FROM comparison WHERE time_s >= ?1 "

emb_status emb_shadow_store_rows(emb_db *store, emb_shadow_order order, int64_t since_s, size_t limit,
                                 uint64_t deadline_ns, emb_shadow_visit_row visit, void *context,
                                 emb_error *err)
{
    static const emb_db_statement ROWS[] = {
        [EMB_SHADOW_NEWEST] = {{"embedd_shadow_newest", ROWS_POSTGRESQL "ORDER BY id DESC LIMIT $2::int8"},
                               ROWS_SQLITE "ORDER BY id DESC LIMIT ?2"},
        [EMB_SHADOW_WORST] = {{"embedd_shadow_worst", ROWS_POSTGRESQL "AND cosine_e9 IS NOT NULL ORDER BY "
                                                                      "cosine_e9, id LIMIT $2::int8"},
                              ROWS_SQLITE "AND cosine_e9 IS NOT NULL ORDER BY cosine_e9, id LIMIT ?2"},
        [EMB_SHADOW_LAST_COMPARED] = {{"embedd_shadow_last", ROWS_POSTGRESQL "AND error IS NULL ORDER BY id "
                                                                             "DESC LIMIT $2::int8"},
                                      ROWS_SQLITE "AND error IS NULL ORDER BY id DESC LIMIT ?2"},
    };
    emb_db_rows rows;
    emb_shadow_row row;
    bool more = true;
    emb_status st = query(store, &ROWS[order], since_s, limit, deadline_ns, &rows, err);
    if (st != EMB_OK)
        return st;
    while (more && emb_db_next(&rows, err)) {
        read_row(&rows, &row);
        more = visit(context, &row);
    }
    return emb_db_done(&rows);
}

emb_status emb_shadow_store_points(emb_db *store, int64_t since_s, size_t limit, uint64_t deadline_ns,
                                   emb_shadow_visit_point visit, void *context, emb_error *err)
{
    static const emb_db_statement POINTS = {
        {"embedd_shadow_points",
         "SELECT category, legacy_ns, candidate_ns, cosine_e9, legacy_cached, candidate_cached, "
         "(cosine_e9 IS NOT NULL)::int4, (error IS NOT NULL)::int4 FROM embedd_shadow WHERE time_s >= "
         "$1::int8 "
         "ORDER BY id DESC LIMIT $2::int8"},
        "SELECT category, legacy_ns, candidate_ns, cosine_e9, legacy_cached, candidate_cached, cosine_e9 IS "
        "NOT NULL, error IS NOT NULL FROM comparison WHERE time_s >= ?1 ORDER BY id DESC LIMIT ?2"};
    emb_db_rows r;
    bool more = true;
    emb_status st = query(store, &POINTS, since_s, limit, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    while (more && emb_db_next(&r, err)) {
        emb_shadow_point p = {.category = text_at(&r, 0),
                              .legacy_ns = emb_db_int(&r, 1),
                              .candidate_ns = emb_db_int(&r, 2),
                              .cosine_e9 = emb_db_int(&r, 3),
                              .legacy_cached = emb_db_int(&r, 4) != 0,
                              .candidate_cached = emb_db_int(&r, 5) != 0,
                              .has_cosine = emb_db_int(&r, 6) != 0,
                              .failed = emb_db_int(&r, 7) != 0};
        more = visit(context, &p);
    }
    return emb_db_done(&r);
}

#define TOTALS_POSTGRESQL                                                                                  \
    "count(*), count(error), count(cosine_e9), coalesce(sum(legacy_nusd), 0)::int8, "                      \
    "coalesce(sum(candidate_nusd), 0)::int8, min(cosine_e9), min(time_s), max(time_s) FROM embedd_shadow " \
    "WHERE time_s >= $1::int8 "
#define TOTALS_SQLITE                                                                             \
    "count(*), count(error), count(cosine_e9), coalesce(sum(legacy_nusd), 0), "                   \
    "coalesce(sum(candidate_nusd), 0), min(cosine_e9), min(time_s), max(time_s) FROM comparison " \
    "WHERE time_s >= ?1 "
static const emb_db_statement TOTAL = {
    {"embedd_shadow_total", "SELECT NULL::text, " TOTALS_POSTGRESQL "AND $2::int8 > 0"},
    "SELECT NULL, " TOTALS_SQLITE "AND ?2 > 0"};
static const emb_db_statement TOTALS = {
    {"embedd_shadow_totals",
     "SELECT category, " TOTALS_POSTGRESQL "GROUP BY category ORDER BY 2 DESC, 1 LIMIT $2::int8"},
    "SELECT category, " TOTALS_SQLITE "GROUP BY category ORDER BY 2 DESC, 1 LIMIT ?2"};

static emb_status visit_totals(emb_db *store, const emb_db_statement *statement, int64_t since_s,
                               size_t limit, uint64_t deadline_ns, emb_shadow_visit_total visit,
                               void *context, emb_error *err)
{
    emb_db_rows r;
    bool more = true;
    emb_status st = query(store, statement, since_s, limit, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    while (more && emb_db_next(&r, err)) {
        emb_shadow_total t = {.category = emb_db_text(&r, 0),
                              .comparisons = emb_db_int(&r, 1),
                              .failures = emb_db_int(&r, 2),
                              .with_cosine = emb_db_int(&r, 3),
                              .legacy_nusd = emb_db_int(&r, 4),
                              .candidate_nusd = emb_db_int(&r, 5),
                              .worst_e9 = emb_db_int(&r, 6),
                              .first_s = emb_db_int(&r, 7),
                              .last_s = emb_db_int(&r, 8)};
        more = visit(context, &t);
    }
    return emb_db_done(&r);
}

emb_status emb_shadow_store_totals(emb_db *store, int64_t since_s, size_t limit, uint64_t deadline_ns,
                                   emb_shadow_visit_total visit, void *context, emb_error *err)
{
    emb_status st = visit_totals(store, &TOTAL, since_s, 1, deadline_ns, visit, context, err);
    return st ? st : visit_totals(store, &TOTALS, since_s, limit, deadline_ns, visit, context, err);
}

/* ---- state ---- */

#define STATE_COLUMNS                                                                                    \
    "time_s, samples, overlap_e9, overlap_low_e9, overlap_high_e9, rank_e9, rank_low_e9, rank_high_e9, " \
    "dropped, pair"

emb_status emb_shadow_store_get_state(emb_db *store, uint64_t deadline_ns, emb_shadow_state *out,
                                      emb_error *err)
{
    static const emb_db_statement GET = {
        {"embedd_shadow_get_state", "SELECT " STATE_COLUMNS " FROM embedd_shadow_state WHERE id = 1"},
        "SELECT " STATE_COLUMNS " FROM state WHERE id = 1"};
    emb_db_rows r;
    *out = (emb_shadow_state){0};
    emb_status st = emb_db_query(store, &GET, NULL, 0, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    if (emb_db_next(&r, err)) {
        *out = (emb_shadow_state){.time_s = emb_db_int(&r, 0),
                                  .window = emb_db_int(&r, 1),
                                  .overlap_e9 = {emb_db_int(&r, 2), emb_db_int(&r, 3), emb_db_int(&r, 4)},
                                  .rank_e9 = {emb_db_int(&r, 5), emb_db_int(&r, 6), emb_db_int(&r, 7)},
                                  .dropped = emb_db_int(&r, 8)};
        snprintf(out->pair, sizeof out->pair, "%s", text_at(&r, 9));
    }
    return emb_db_done(&r);
}

#define STATE_POSTGRESQL                                                                           \
    "INSERT INTO embedd_shadow_state AS s (id, " STATE_COLUMNS ") VALUES (1, $1::int8, $2::int8, " \
    "$3::int8, $4::int8, $5::int8, $6::int8, $7::int8, $8::int8, $9::int8, $10::text) "            \
    "ON CONFLICT (id) DO UPDATE SET dropped = s.dropped + excluded.dropped"
#define STATE_SQLITE                                                                                 \
    "INSERT INTO state (id, " STATE_COLUMNS ") VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) " \
    "ON CONFLICT (id) DO UPDATE SET dropped = state.dropped + excluded.dropped"
#define AND_WINDOW                                                                               \
    ", time_s = excluded.time_s, samples = excluded.samples, overlap_e9 = excluded.overlap_e9, " \
    "overlap_low_e9 = excluded.overlap_low_e9, overlap_high_e9 = excluded.overlap_high_e9, "     \
    "rank_e9 = excluded.rank_e9, rank_low_e9 = excluded.rank_low_e9, "                           \
    "rank_high_e9 = excluded.rank_high_e9, pair = excluded.pair"

/* Drops are added whatever else is told; the window's figures only where there are any. */
emb_status emb_shadow_store_put_state(emb_db *store, const emb_shadow_state *s, uint64_t deadline_ns,
                                      emb_error *err)
{
    static const emb_db_statement PUT_DROPPED = {{"embedd_shadow_put_dropped", STATE_POSTGRESQL},
                                                 STATE_SQLITE};
    static const emb_db_statement PUT_STATE = {{"embedd_shadow_put_state", STATE_POSTGRESQL AND_WINDOW},
                                               STATE_SQLITE AND_WINDOW};
    const emb_param values[] = {emb_param_int(s->time_s),        emb_param_int(s->window),
                                emb_param_int(s->overlap_e9[0]), emb_param_int(s->overlap_e9[1]),
                                emb_param_int(s->overlap_e9[2]), emb_param_int(s->rank_e9[0]),
                                emb_param_int(s->rank_e9[1]),    emb_param_int(s->rank_e9[2]),
                                emb_param_int(s->dropped),       emb_param_text(s->pair)};
    return emb_db_call(store, s->time_s ? &PUT_STATE : &PUT_DROPPED, values, 10, deadline_ns, err);
}

/* ---- removal ---- */

/* One statement that removes a piece; *left loses what it removed. */
static emb_status remove_some(emb_sqlite *db, const char *sql, int64_t bound, size_t *left, emb_error *err)
{
    const emb_param values[] = {emb_param_int(bound), emb_param_int((int64_t)*left)};
    if (!*left)
        return EMB_OK;
    emb_status st = emb_sql_call(db, sql, values, 2, err);
    if (st == EMB_OK)
        *left -= (size_t)emb_sqlite_changes(db);
    return st;
}

static emb_status trim_sqlite(emb_sqlite *db, int64_t before_s, int64_t keep, size_t *left, emb_error *err)
{
    emb_status st = remove_some(
        db,
        "DELETE FROM comparison WHERE id IN (SELECT id FROM comparison WHERE time_s < ?1 ORDER BY time_s "
        "LIMIT ?2)",
        before_s, left, err);
    return st ? st
              : remove_some(
                    db,
                    "DELETE FROM comparison WHERE id IN (SELECT id FROM comparison WHERE id <= (SELECT "
                    "max(id) FROM comparison) - ?1 ORDER BY id LIMIT ?2)",
                    keep, left, err);
}

static emb_status trim_postgresql(emb_pg *pg, int64_t before_s, int64_t keep, uint64_t deadline_ns,
                                  size_t *removed, emb_error *err)
{
    static const emb_pg_statement TRIM = {
        "embedd_shadow_trim",
        "WITH old AS (SELECT id FROM embedd_shadow WHERE time_s < $1::int8 OR id <= (SELECT max(id) FROM "
        "embedd_shadow) - $2::int8 ORDER BY id LIMIT $3::int8 FOR UPDATE SKIP LOCKED), gone AS "
        "(DELETE FROM embedd_shadow e USING old WHERE e.id = old.id RETURNING 1) SELECT count(*) FROM gone"};
    const emb_param values[] = {emb_param_int(before_s), emb_param_int(keep),
                                emb_param_int(EMB_SHADOW_PIECE)};
    int64_t count;
    emb_status st = emb_pg_ask(pg, &TRIM, values, 3, deadline_ns, &count, err);
    *removed = (size_t)count;
    if (st == EMB_OK)
        emb_pg_tidy(pg);
    return st;
}

emb_status emb_shadow_store_trim(emb_db *store, int64_t before_s, int64_t keep, uint64_t deadline_ns,
                                 size_t *removed, emb_error *err)
{
    emb_sqlite_pool *pool = emb_db_sqlite(store);
    emb_sqlite *db;
    size_t left = EMB_SHADOW_PIECE;
    if (!pool)
        return trim_postgresql(emb_db_postgresql(store), before_s, keep, deadline_ns, removed, err);
    *removed = 0;
    emb_status st = emb_sqlite_acquire(pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    st = trim_sqlite(db, before_s, keep, &left, err);
    *removed = EMB_SHADOW_PIECE - left;
    emb_sqlite_release(pool, db);
    return st;
}

static emb_status clear_sqlite(emb_sqlite *db, emb_error *err)
{
    uint64_t bytes;
    emb_status st = emb_sqlite_begin(db, true, err);
    if (st == EMB_OK)
        st = emb_sqlite_end(db, emb_sqlite_run(db, "DELETE FROM comparison; DELETE FROM state", err), err);
    if (st == EMB_OK && emb_sqlite_file_bytes(db, &bytes, NULL) == EMB_OK)
        (void)!emb_sqlite_shrink(db, bytes, NULL); /* the room is free either way */
    return st;
}

emb_status emb_shadow_store_clear(emb_db *store, uint64_t deadline_ns, emb_error *err)
{
    static const emb_pg_statement CLEAR = {"embedd_shadow_clear",
                                           "TRUNCATE embedd_shadow, embedd_shadow_state"};
    emb_sqlite_pool *pool = emb_db_sqlite(store);
    emb_sqlite *db;
    if (!pool)
        return emb_pg_call(emb_db_postgresql(store), &CLEAR, NULL, 0, deadline_ns, NULL, err);
    emb_status st = emb_sqlite_acquire(pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    st = clear_sqlite(db, err);
    emb_sqlite_release(pool, db);
    return st;
}
