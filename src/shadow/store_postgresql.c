/*
 * Comparisons in PostgreSQL, shared by all processes of a service.
 *
 *     embedd_shadow        a row a comparison; id ascends, so that "all but the newest million" is a range
 *     embedd_shadow_state  one row: the last measurement of a window, and the drops of all processes together
 *
 * A batch is one statement of arrays. The one index besides the key is by time: the worst pairs are found by
 * a scan of the period. Removal goes in pieces, each a transaction, over the oldest ids. Commits need not
 * survive a crash of the server (synchronous_commit off): comparisons are a sample.
 */
#include "shadow/store.h"

#include "base/error.h"
#include "store/postgresql.h"

#include <stdlib.h>
#include <string.h>

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
static const emb_pg_schema SCHEMA = {"embedd_shadow", STEPS, 1};

/* The numbers but the last, row by row, are one array: a statement has a bounded number of parameters. */
#define NUMBER(k) "($12::int8[])[(i.row - 1) * 9 + " #k "]"
static const emb_pg_statement PUT = {
    "embedd_shadow_put",
    "INSERT INTO embedd_shadow (text_hash, " EMB_SHADOW_TEXTS ", " EMB_SHADOW_NUMBERS
    ") SELECT i.c1, i.c2, i.c3, i.c4, "
    "i.c5, i.c6, i.c7, i.c8, i.c9, i.c10, i.c11, " NUMBER(1) ", " NUMBER(2) ", " NUMBER(3) ", " NUMBER(
        4) ", " NUMBER(5) ", " NUMBER(6) ", " NUMBER(7) ", " NUMBER(8) ", " NUMBER(9) ", i.cosine FROM "
                                                                                      "unnest($1::bytea[], "
                                                                                      "$2::text[], "
                                                                                      "$3::text[], "
                                                                                      "$4::text[], "
                                                                                      "$5::text[], "
                                                                                      "$6::text[], "
                                                                                      "$7::text[], "
                                                                                      "$8::text[], "
                                                                                      "$9::text[], "
                                                                                      "$10::text[], "
                                                                                      "$11::text[], "
                                                                                      "$13::int8[]) WITH "
                                                                                      "ORDINALITY AS i(c1, "
                                                                                      "c2, c3, c4, c5, c6, "
                                                                                      "c7, c8, c9, c10, c11, "
                                                                                      "cosine, row) ORDER BY "
                                                                                      "i.row"};

#define SELECT_ROWS                                                                                  \
    "SELECT text_hash, " EMB_SHADOW_TEXTS ", " EMB_SHADOW_NUMBERS ", (cosine_e9 IS NOT NULL)::int4 " \
    "FROM embedd_shadow WHERE time_s >= $1::int8 "
static const emb_pg_statement ROWS[] = {
    [EMB_SHADOW_NEWEST] = {"embedd_shadow_newest", SELECT_ROWS "ORDER BY id DESC LIMIT $2::int8"},
    [EMB_SHADOW_WORST] = {"embedd_shadow_worst",
                          SELECT_ROWS "AND cosine_e9 IS NOT NULL ORDER BY cosine_e9, id LIMIT $2::int8"},
    [EMB_SHADOW_LAST_COMPARED] = {"embedd_shadow_last",
                                  SELECT_ROWS "AND error IS NULL ORDER BY id DESC LIMIT $2::int8"},
};
static const emb_pg_statement POINTS = {
    "embedd_shadow_points",
    "SELECT category, legacy_ns, candidate_ns, cosine_e9, legacy_cached, candidate_cached, "
    "(cosine_e9 IS NOT NULL)::int4, (error IS NOT NULL)::int4 FROM embedd_shadow WHERE time_s >= $1::int8 "
    "ORDER BY id DESC LIMIT $2::int8"};

#define SELECT_TOTALS                                                                                      \
    "count(*), count(error), count(cosine_e9), coalesce(sum(legacy_nusd), 0)::int8, "                      \
    "coalesce(sum(candidate_nusd), 0)::int8, min(cosine_e9), min(time_s), max(time_s) FROM embedd_shadow " \
    "WHERE time_s >= $1::int8 "
static const emb_pg_statement TOTAL = {"embedd_shadow_total",
                                       "SELECT NULL::text, " SELECT_TOTALS "AND $2::int8 > 0"};
static const emb_pg_statement TOTALS = {"embedd_shadow_totals",
                                        "SELECT category, " SELECT_TOTALS
                                        "GROUP BY category ORDER BY 2 DESC, 1 LIMIT $2::int8"};

static const emb_pg_statement GET_STATE = {"embedd_shadow_get_state",
                                           "SELECT " EMB_SHADOW_STATE_COLUMNS
                                           ", pair FROM embedd_shadow_state WHERE id = 1"};
#define INSERT_STATE                                                                                      \
    "INSERT INTO embedd_shadow_state AS s (id, " EMB_SHADOW_STATE_COLUMNS ", pair) VALUES (1, $1::int8, " \
    "$2::int8, $3::int8, $4::int8, $5::int8, $6::int8, $7::int8, $8::int8, $9::int8, $10::text) "         \
    "ON CONFLICT (id) DO UPDATE SET dropped = s.dropped + excluded.dropped"
static const emb_pg_statement PUT_DROPPED = {"embedd_shadow_put_dropped", INSERT_STATE};
static const emb_pg_statement PUT_STATE = {
    "embedd_shadow_put_state",
    INSERT_STATE ", time_s = excluded.time_s, samples = excluded.samples, overlap_e9 = excluded.overlap_e9, "
                 "overlap_low_e9 = excluded.overlap_low_e9, overlap_high_e9 = excluded.overlap_high_e9, "
                 "rank_e9 = excluded.rank_e9, rank_low_e9 = excluded.rank_low_e9, "
                 "rank_high_e9 = excluded.rank_high_e9, pair = excluded.pair"};

static const emb_pg_statement TRIM = {"embedd_shadow_trim",
                                      "WITH old AS (SELECT id FROM embedd_shadow WHERE time_s < $1::int8 OR "
                                      "id <= (SELECT max(id) FROM embedd_shadow) - "
                                      "$2::int8 ORDER BY id LIMIT $3::int8 FOR UPDATE SKIP LOCKED), gone AS "
                                      "(DELETE FROM embedd_shadow e USING old WHERE "
                                      "e.id = old.id RETURNING 1) SELECT count(*) FROM gone"};
static const emb_pg_statement CLEAR = {"embedd_shadow_clear", "TRUNCATE embedd_shadow, embedd_shadow_state"};

typedef struct pg_store {
    emb_shadow_store base;
    emb_pg *pg;
} pg_store;

static emb_pg *pg_of(emb_shadow_store *store)
{
    return ((pg_store *)store)->pg;
}

/* ---- rows ---- */

enum {
    FIRST_TEXT = 1,
    FIRST_NUMBER = FIRST_TEXT + EMB_SHADOW_TEXT_COLUMNS,
    SELECTED = FIRST_NUMBER + EMB_SHADOW_NUMBER_COLUMNS, /* where a SELECT says whether there is a cosine */
    NUMBERS = FIRST_NUMBER,
    COSINES,
    ARRAYS
}; /* of PUT */
_Static_assert(EMB_SHADOW_NUMBER_COLUMNS == 10, "NUMBER counts 9 and the cosine");

static void add_row(emb_pg_array arrays[ARRAYS], const emb_shadow_row *row)
{
    emb_pg_array_add(&arrays[0], row->text, sizeof row->text);
    for (int i = 0; i < EMB_SHADOW_TEXT_COLUMNS; i++) {
        const char *text = emb_shadow_row_text(row, i);
        emb_pg_array_add(&arrays[FIRST_TEXT + i], text, text ? strlen(text) : 0);
    }
    for (int i = 0; i < EMB_SHADOW_NUMBER_COLUMNS - 1; i++)
        emb_pg_array_add_int8(&arrays[NUMBERS], emb_shadow_row_number(row, i));
    if (row->has_cosine)
        emb_pg_array_add_int8(&arrays[COSINES], row->cosine_e9);
    else
        emb_pg_array_add(&arrays[COSINES], NULL, 0);
}

static emb_status pg_put(emb_shadow_store *store, const emb_shadow_row *rows, size_t count,
                         uint64_t deadline_ns, emb_error *err)
{
    emb_pg_array arrays[ARRAYS];
    emb_pg_param params[ARRAYS];
    emb_status st = EMB_OK;
    for (int i = 0; i < ARRAYS; i++)
        emb_pg_array_init(&arrays[i], i == 0 ? EMB_PG_BYTEA : i < NUMBERS ? EMB_PG_TEXT : EMB_PG_INT8);
    for (size_t i = 0; i < count; i++)
        add_row(arrays, &rows[i]);
    for (int i = 0; st == EMB_OK && i < ARRAYS; i++)
        st = emb_pg_array_param(&arrays[i], &params[i], err);
    if (st == EMB_OK && count)
        st = emb_pg_call(pg_of(store), &PUT, params, ARRAYS, deadline_ns, NULL, err);
    for (int i = 0; i < ARRAYS; i++)
        emb_pg_array_fini(&arrays[i]);
    return st;
}

/* A statement with a time and a limit. */
static emb_status ask(emb_shadow_store *store, const emb_pg_statement *statement, int64_t since_s,
                      size_t limit, uint64_t deadline_ns, emb_pg_result **out, emb_error *err)
{
    emb_pg_int64 since = emb_pg_int64_of(since_s),
                 most = emb_pg_int64_of((int64_t)(limit > INT32_MAX ? INT32_MAX : limit));
    emb_pg_param params[] = {{&since, sizeof since}, {&most, sizeof most}};
    return emb_pg_call(pg_of(store), statement, params, 2, deadline_ns, out, err);
}

static bool visit_row(const emb_pg_result *r, size_t at, emb_shadow_visit_row visit, void *context)
{
    const char *texts[EMB_SHADOW_TEXT_COLUMNS];
    int64_t numbers[EMB_SHADOW_NUMBER_COLUMNS];
    size_t hash_length, length;
    emb_shadow_row row;
    const unsigned char *hash = emb_pg_bytes(r, at, 0, &hash_length);
    for (int i = 0; i < EMB_SHADOW_TEXT_COLUMNS; i++)
        texts[i] = emb_pg_bytes(r, at, FIRST_TEXT + i, &length);
    for (int i = 0; i < EMB_SHADOW_NUMBER_COLUMNS; i++)
        numbers[i] = emb_pg_int(r, at, FIRST_NUMBER + i);
    emb_shadow_row_set(&row, hash, hash_length, texts, numbers, emb_pg_int(r, at, SELECTED) != 0);
    return visit(context, &row);
}

static emb_status pg_rows(emb_shadow_store *store, emb_shadow_order order, int64_t since_s, size_t limit,
                          uint64_t deadline_ns, emb_shadow_visit_row visit, void *context, emb_error *err)
{
    emb_pg_result *r;
    emb_status st = ask(store, &ROWS[order], since_s, limit, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    for (size_t i = 0; i < emb_pg_rows(r) && visit_row(r, i, visit, context); i++)
        ;
    emb_pg_result_free(r);
    return EMB_OK;
}

static const char *text_at(const emb_pg_result *r, size_t row, int column, const char *otherwise)
{
    size_t length;
    const char *text = emb_pg_bytes(r, row, column, &length);
    return text ? text : otherwise;
}

static emb_status pg_points(emb_shadow_store *store, int64_t since_s, size_t limit, uint64_t deadline_ns,
                            emb_shadow_visit_point visit, void *context, emb_error *err)
{
    emb_pg_result *r;
    emb_status st = ask(store, &POINTS, since_s, limit, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    bool more = true;
    for (size_t i = 0; more && i < emb_pg_rows(r); i++) {
        emb_shadow_point p = {.category = text_at(r, i, 0, ""),
                              .legacy_ns = emb_pg_int(r, i, 1),
                              .candidate_ns = emb_pg_int(r, i, 2),
                              .cosine_e9 = emb_pg_int(r, i, 3),
                              .legacy_cached = emb_pg_int(r, i, 4) != 0,
                              .candidate_cached = emb_pg_int(r, i, 5) != 0,
                              .has_cosine = emb_pg_int(r, i, 6) != 0,
                              .failed = emb_pg_int(r, i, 7) != 0};
        more = visit(context, &p);
    }
    emb_pg_result_free(r);
    return EMB_OK;
}

static emb_status visit_totals(emb_shadow_store *store, const emb_pg_statement *statement, int64_t since_s,
                               size_t limit, uint64_t deadline_ns, emb_shadow_visit_total visit,
                               void *context, emb_error *err)
{
    emb_pg_result *r;
    emb_status st = ask(store, statement, since_s, limit, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    bool more = true;
    for (size_t i = 0; more && i < emb_pg_rows(r); i++) {
        emb_shadow_total t = {.category = text_at(r, i, 0, NULL),
                              .comparisons = emb_pg_int(r, i, 1),
                              .failures = emb_pg_int(r, i, 2),
                              .with_cosine = emb_pg_int(r, i, 3),
                              .legacy_nusd = emb_pg_int(r, i, 4),
                              .candidate_nusd = emb_pg_int(r, i, 5),
                              .worst_e9 = emb_pg_int(r, i, 6),
                              .first_s = emb_pg_int(r, i, 7),
                              .last_s = emb_pg_int(r, i, 8)};
        more = visit(context, &t);
    }
    emb_pg_result_free(r);
    return EMB_OK;
}

static emb_status pg_totals(emb_shadow_store *store, int64_t since_s, size_t limit, uint64_t deadline_ns,
                            emb_shadow_visit_total visit, void *context, emb_error *err)
{
    emb_status st = visit_totals(store, &TOTAL, since_s, 1, deadline_ns, visit, context, err);
    return st ? st : visit_totals(store, &TOTALS, since_s, limit, deadline_ns, visit, context, err);
}

/* ---- state ---- */

static emb_status pg_get_state(emb_shadow_store *store, uint64_t deadline_ns, emb_shadow_state *out,
                               emb_error *err)
{
    int64_t numbers[EMB_SHADOW_STATE_NUMBERS];
    emb_pg_result *r;
    *out = (emb_shadow_state){0};
    emb_status st = emb_pg_call(pg_of(store), &GET_STATE, NULL, 0, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    if (emb_pg_rows(r) == 1) {
        for (int i = 0; i < EMB_SHADOW_STATE_NUMBERS; i++)
            numbers[i] = emb_pg_int(r, 0, i);
        emb_shadow_state_set(out, numbers, text_at(r, 0, EMB_SHADOW_STATE_NUMBERS, ""));
    }
    emb_pg_result_free(r);
    return EMB_OK;
}

static emb_status pg_put_state(emb_shadow_store *store, const emb_shadow_state *state, uint64_t deadline_ns,
                               emb_error *err)
{
    int64_t numbers[EMB_SHADOW_STATE_NUMBERS];
    emb_pg_int64 values[EMB_SHADOW_STATE_NUMBERS];
    emb_pg_param params[EMB_SHADOW_STATE_NUMBERS + 1];
    emb_shadow_state_numbers(state, numbers);
    for (int i = 0; i < EMB_SHADOW_STATE_NUMBERS; i++) {
        values[i] = emb_pg_int64_of(numbers[i]);
        params[i] = (emb_pg_param){&values[i], sizeof values[i]};
    }
    params[EMB_SHADOW_STATE_NUMBERS] = (emb_pg_param){state->pair, strlen(state->pair)};
    return emb_pg_call(pg_of(store), state->time_s ? &PUT_STATE : &PUT_DROPPED, params,
                       EMB_SHADOW_STATE_NUMBERS + 1, deadline_ns, NULL, err);
}

/* ---- removal ---- */

static emb_status pg_trim(emb_shadow_store *store, int64_t before_s, int64_t keep, uint64_t deadline_ns,
                          size_t *removed, emb_error *err)
{
    emb_pg_int64 before = emb_pg_int64_of(before_s), most = emb_pg_int64_of(keep),
                 piece = emb_pg_int64_of(EMB_SHADOW_PIECE);
    emb_pg_param params[] = {{&before, sizeof before}, {&most, sizeof most}, {&piece, sizeof piece}};
    emb_pg_result *r;
    *removed = 0;
    emb_status st = emb_pg_call(pg_of(store), &TRIM, params, 3, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    if (emb_pg_rows(r) == 1)
        *removed = (size_t)emb_pg_int(r, 0, 0);
    emb_pg_result_free(r);
    emb_pg_tidy(pg_of(store));
    return EMB_OK;
}

static emb_status pg_clear(emb_shadow_store *store, uint64_t deadline_ns, emb_error *err)
{
    return emb_pg_call(pg_of(store), &CLEAR, NULL, 0, deadline_ns, NULL, err);
}

/* ---- open and close ---- */

static void pg_close(emb_shadow_store *store)
{
    emb_pg_close(pg_of(store));
    free(store);
}

static const emb_shadow_store_ops OPS = {
    .put = pg_put,
    .rows = pg_rows,
    .points = pg_points,
    .totals = pg_totals,
    .get_state = pg_get_state,
    .put_state = pg_put_state,
    .trim = pg_trim,
    .clear = pg_clear,
    .close = pg_close,
};

emb_status emb_shadow_store_open_postgresql(const char *url, emb_shadow_store **out, emb_error *err)
{
    const emb_pg_options options = {.connections = 4, .relaxed = true, .schema = &SCHEMA};
    pg_store *s = calloc(1, sizeof *s);
    if (!s)
        return emb_fail_nomem(err, "the store of comparisons", sizeof *s);
    s->base.ops = &OPS;
    emb_status st = emb_pg_open(url, &options, &s->pg, err);
    if (st != EMB_OK) {
        free(s);
        return st;
    }
    *out = &s->base;
    return EMB_OK;
}
