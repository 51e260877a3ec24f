/*
 * L2 in PostgreSQL.
 *
 *     embedd_cache       cache_key bytea primary key, model, dimension, tokens, embedding (value.h's bytes),
 *                        text, created_at, expires_at (NULL: never)
 *     embedd_cache_uses  cache_key bytea primary key, uses, last_used
 *
 * Reads are one statement for all keys of a call, and so are writes. Writes sort by key, so that two
 * processes that write the same keys lock them in the same order and never deadlock; of a key that stands
 * twice in a batch the last wins.
 *
 * Uses live in a narrow table of their own: counting in the entry's row would write its whole vector again
 * for each use, PostgreSQL never changing a row in place. They are counted in memory and written with puts
 * and tidy, so that reads stay reads and work on a replica, too.
 *
 * Texts are bytea because they may hold NUL and the database may have another encoding; convert_from(text,
 * 'UTF8') shows one.
 *
 * Removal goes over the table by ranges of its pages (ctid), each its own transaction: sequential reading
 * whatever the filter, no index on the model to keep, and what was removed stays removed when the time runs
 * out. Rows that are written meanwhile may be passed by; they are newer than the request. Room is given back
 * by autovacuum.
 *
 * Statistics are exact for tables of up to 8 MiB and scaled up from a random sample of pages beyond, counting
 * being a walk over all rows; the planner's own estimate is of the last ANALYZE, which may never have been.
 * Commits need not survive a crash of the server (synchronous_commit off): this is a cache.
 */
#include "cache/l2.h"

#include "base/clock.h"
#include "base/error.h"
#include "cache/l2_uses.h"
#include "cache/value.h"
#include "store/postgresql.h"

#include <stdlib.h>
#include <string.h>

enum {
    PUT_BYTES = 16 << 20, /* of one statement: bounds the memory of a large put */
    PAGES = 512,          /* one piece of a removal: 4 MiB of table */
    TIDY_ROWS = 1000,
    MAX_TTL_S = 100 * 365 * 86400u,
    VISIT_ROWS = 1000
};

static const char *const STEPS[] = {
    "CREATE TABLE embedd_cache ("
    " cache_key bytea PRIMARY KEY,"
    " model text NOT NULL,"
    " dimension integer NOT NULL,"
    " tokens bigint NOT NULL,"
    " embedding bytea NOT NULL,"
    " text bytea,"
    " created_at timestamptz NOT NULL DEFAULT now(),"
    " expires_at timestamptz);"
    "ALTER TABLE embedd_cache ALTER COLUMN embedding SET STORAGE EXTERNAL;" /* floats do not compress */
    "CREATE INDEX embedd_cache_expires_at ON embedd_cache (expires_at) WHERE expires_at IS NOT NULL;"
    "CREATE INDEX embedd_cache_created_at ON embedd_cache (created_at);"
    "CREATE TABLE embedd_cache_uses ("
    " cache_key bytea PRIMARY KEY,"
    " uses bigint NOT NULL,"
    " last_used timestamptz NOT NULL) WITH (fillfactor = 70)",
};
static const emb_pg_schema SCHEMA = {"embedd_cache", STEPS, 1};

#define FRESH(c) "(" c ".expires_at IS NULL OR " c ".expires_at > now())"

static const emb_pg_statement GET = {
    "embedd_cache_get", "SELECT k.n, c.embedding FROM unnest($1::bytea[]) WITH ORDINALITY AS k(key, n) "
                        "JOIN embedd_cache c ON c.cache_key = k.key WHERE " FRESH("c")};

static const emb_pg_statement PUT = {
    "embedd_cache_put",
    "INSERT INTO embedd_cache AS c (cache_key, model, dimension, tokens, embedding, text, created_at, "
    "expires_at) "
    "SELECT DISTINCT ON (i.key) i.key, i.model, i.dimension, i.tokens, i.value, i.text, now(), "
    "CASE WHEN i.ttl > 0 THEN now() + i.ttl * interval '1 second' END "
    "FROM unnest($1::bytea[], $2::text[], $3::int4[], $4::int8[], $5::bytea[], $6::bytea[], $7::int8[]) "
    "WITH ORDINALITY AS i(key, model, dimension, tokens, value, text, ttl, n) ORDER BY i.key, i.n DESC "
    "ON CONFLICT (cache_key) DO UPDATE SET model = excluded.model, dimension = excluded.dimension, "
    "tokens = excluded.tokens, embedding = excluded.embedding, text = coalesce(excluded.text, c.text), "
    "created_at = excluded.created_at, expires_at = excluded.expires_at"};

static const emb_pg_statement USES = {
    "embedd_cache_uses",
    "INSERT INTO embedd_cache_uses AS u (cache_key, uses, last_used) SELECT i.key, i.n, now() "
    "FROM unnest($1::bytea[], $2::int8[]) AS i(key, n) "
    "WHERE EXISTS (SELECT FROM embedd_cache c WHERE c.cache_key = i.key) ORDER BY i.key "
    "ON CONFLICT (cache_key) DO UPDATE SET uses = u.uses + excluded.uses, "
    "last_used = excluded.last_used"};

/* $1 model or NULL, $2 age in seconds (0: any) */
#define MATCHES                                                                                             \
    "($1::text IS NULL OR model = $1::text) AND ($2::int8 = 0 OR created_at < now() - $2::int8 * interval " \
    "'1 second')"
#define WITH_USES(condition)                                                                     \
    "WITH gone AS (DELETE FROM embedd_cache WHERE " condition " RETURNING cache_key), "          \
    "unused AS (DELETE FROM embedd_cache_uses u USING gone WHERE u.cache_key = gone.cache_key) " \
    "SELECT count(*) FROM gone"

static const emb_pg_statement REMOVE_KEY = {"embedd_cache_remove_key",
                                            WITH_USES("cache_key = $3::bytea AND " MATCHES)};
static const emb_pg_statement REMOVE_PAGES = {"embedd_cache_remove_pages",
                                              WITH_USES("ctid >= $3::tid AND ctid < $4::tid AND " MATCHES)};
static const emb_pg_statement COUNT_PAGES = {
    "embedd_cache_pages",
    "SELECT pg_relation_size('embedd_cache'::regclass) / current_setting('block_size')::int8"};
static const emb_pg_statement TIDY = {
    "embedd_cache_tidy",
    WITH_USES("cache_key IN (SELECT cache_key FROM embedd_cache WHERE expires_at <= now() "
              "ORDER BY expires_at LIMIT $1::int8 FOR UPDATE SKIP LOCKED)")};

/* Of a sample of pages, 8 MiB of them or all; both scaled up. */
static const emb_pg_statement STATS = {
    "embedd_cache_stats",
    "WITH s AS (SELECT least(100.0, 838860800.0 / greatest(1, "
    "pg_relation_size('embedd_cache'::regclass)))::real AS part), "
    "t AS (SELECT count(*) AS entries, coalesce(sum(octet_length(embedding) + coalesce(octet_length(text), "
    "0)), 0) AS bytes "
    "FROM embedd_cache c TABLESAMPLE SYSTEM ((SELECT part FROM s)) WHERE " FRESH(
        "c") ") "
             "SELECT (entries * 100 / part)::int8, (bytes * 100 / part)::int8 FROM s, t"};

#define ENTRY "c.cache_key, c.model, c.embedding, c.text"
static const emb_pg_statement MOST_USED = {
    "embedd_cache_most_used",
    "SELECT " ENTRY " FROM embedd_cache_uses u JOIN embedd_cache c USING (cache_key) WHERE " FRESH(
        "c") " ORDER BY u.uses DESC, u.last_used DESC OFFSET $1::int8 LIMIT $2::int8"};
/* Those that were never read here, because a process has them in its own memory; the newest first. */
static const emb_pg_statement NEWEST = {
    "embedd_cache_newest",
    "SELECT " ENTRY " FROM embedd_cache c WHERE " FRESH(
        "c") " AND NOT EXISTS (SELECT FROM embedd_cache_uses u WHERE u.cache_key = c.cache_key) "
             "ORDER BY c.created_at DESC OFFSET $1::int8 LIMIT $2::int8"};

typedef struct postgresql_l2 {
    emb_l2 base;
    emb_pg *pg;
    emb_l2_uses uses;
} postgresql_l2;

/* ---- get ---- */

static emb_status pg_get_many(emb_l2 *l2, const emb_cache_key *const *keys, size_t count,
                              uint64_t deadline_ns, emb_l2_found found, void *context, emb_error *err)
{
    postgresql_l2 *l = (postgresql_l2 *)l2;
    static const uint32_t TYPES[] = {EMB_PG_BYTEA};
    emb_pg_array array;
    emb_param param;
    emb_pg_result *r = NULL;
    if (count == 0)
        return EMB_OK;
    emb_pg_arrays_init(&array, TYPES, 1);
    for (size_t i = 0; i < count; i++)
        emb_pg_array_add(&array, keys[i]->bytes, sizeof keys[i]->bytes);
    emb_status st = emb_pg_arrays_params(&array, 1, &param, err);
    if (st == EMB_OK)
        st = emb_pg_call(l->pg, &GET, &param, 1, deadline_ns, &r, err);
    emb_pg_arrays_fini(&array, 1);
    for (size_t row = 0; st == EMB_OK && row < emb_pg_rows(r); row++) {
        int64_t n = emb_pg_int(r, row, 0);
        size_t length;
        const void *value = emb_pg_bytes(r, row, 1, &length);
        if (n < 1 || (uint64_t)n > count || !value)
            continue;
        emb_l2_uses_note(&l->uses, keys[n - 1]);
        found(context, (size_t)n - 1, value, length);
    }
    emb_pg_result_free(r);
    return st;
}

/* ---- put ---- */

enum { KEY, MODEL, DIMENSION, TOKENS, VALUE, TEXT, TTL, COLUMNS };

static void add_item(emb_pg_array columns[COLUMNS], const emb_l2_item *item)
{
    uint32_t tokens = 0, dimension = emb_value_dimension(item->value, item->length);
    const char *model = item->model ? item->model : "";
    if (dimension)
        memcpy(&tokens, (const char *)item->value + 12, 4); /* value.h */
    emb_pg_array_add(&columns[KEY], item->key->bytes, sizeof item->key->bytes);
    emb_pg_array_add(&columns[MODEL], model, strlen(model));
    emb_pg_array_add_int4(&columns[DIMENSION], (int32_t)dimension);
    emb_pg_array_add_int8(&columns[TOKENS], tokens);
    emb_pg_array_add(&columns[VALUE], item->value, item->length);
    emb_pg_array_add(&columns[TEXT], item->text, item->text_length);
    emb_pg_array_add_int8(&columns[TTL], (int64_t)(item->ttl_s > MAX_TTL_S ? MAX_TTL_S : item->ttl_s));
}

static emb_status put_some(postgresql_l2 *l, const emb_l2_item *items, size_t count, size_t *done,
                           uint64_t deadline_ns, emb_error *err)
{
    static const uint32_t types[COLUMNS] = {EMB_PG_BYTEA, EMB_PG_TEXT,  EMB_PG_INT4, EMB_PG_INT8,
                                            EMB_PG_BYTEA, EMB_PG_BYTEA, EMB_PG_INT8};
    emb_pg_array columns[COLUMNS];
    emb_param values[COLUMNS];
    emb_pg_arrays_init(columns, types, COLUMNS);
    for (*done = 0; *done < count && columns[VALUE].bytes.length + columns[TEXT].bytes.length < PUT_BYTES;
         ++*done)
        add_item(columns, &items[*done]);
    emb_status st = emb_pg_arrays_params(columns, COLUMNS, values, err);
    if (st == EMB_OK)
        st = emb_pg_call(l->pg, &PUT, values, COLUMNS, deadline_ns, NULL, err);
    emb_pg_arrays_fini(columns, COLUMNS);
    return st;
}

static emb_status write_uses(postgresql_l2 *l, uint64_t deadline_ns, emb_error *err)
{
    static const uint32_t types[] = {EMB_PG_BYTEA, EMB_PG_INT8};
    size_t count;
    emb_pg_array lists[2];
    emb_param values[2];
    emb_l2_use *taken = emb_l2_uses_take(&l->uses, &count);
    if (!taken)
        return EMB_OK;
    emb_pg_arrays_init(lists, types, 2);
    for (size_t i = 0; i < count; i++) {
        emb_pg_array_add(&lists[0], taken[i].key.bytes, sizeof taken[i].key.bytes);
        emb_pg_array_add_int8(&lists[1], taken[i].count);
    }
    free(taken);
    emb_status st = emb_pg_arrays_params(lists, 2, values, err);
    if (st == EMB_OK)
        st = emb_pg_call(l->pg, &USES, values, 2, deadline_ns, NULL, err);
    emb_pg_arrays_fini(lists, 2);
    return st;
}

static emb_status pg_put_many(emb_l2 *l2, const emb_l2_item *items, size_t count, uint64_t deadline_ns,
                              emb_error *err)
{
    postgresql_l2 *l = (postgresql_l2 *)l2;
    emb_status st = EMB_OK;
    for (size_t at = 0, done; st == EMB_OK && at < count; at += done)
        st = put_some(l, items + at, count - at, &done, deadline_ns, err);
    if (st == EMB_OK && count && emb_l2_uses_due(&l->uses))
        (void)!write_uses(l, deadline_ns, NULL); /* a statistic: what was asked for is done */
    return st;
}

/* ---- removal ---- */

static emb_status count_call(postgresql_l2 *l, const emb_pg_statement *statement, const emb_param *values,
                             size_t count, uint64_t deadline_ns, uint64_t *out, emb_error *err)
{
    int64_t answer;
    emb_status st = emb_pg_ask(l->pg, statement, values, count, deadline_ns, &answer, err);
    *out = (uint64_t)answer;
    return st;
}

typedef struct page_start {
    unsigned char bytes[6]; /* of a tid: the page, the row in it */
} page_start;

static page_start start_of_page(uint64_t page)
{
    uint32_t n = page > UINT32_MAX - 1 ? UINT32_MAX - 1 : (uint32_t)page;
    return (page_start){{(unsigned char)(n >> 24), (unsigned char)(n >> 16), (unsigned char)(n >> 8),
                         (unsigned char)n, 0, 0}};
}

static emb_status remove_pages(postgresql_l2 *l, const emb_param filter[2], uint64_t deadline_ns,
                               uint64_t *removed, emb_error *err)
{
    uint64_t pages, page = 0, piece;
    emb_status st = count_call(l, &COUNT_PAGES, NULL, 0, deadline_ns, &pages, err);
    if (st != EMB_OK)
        return st;
    for (; st == EMB_OK && page < pages; page += PAGES) {
        page_start from = start_of_page(page), to = start_of_page(page + PAGES);
        const emb_param values[] = {filter[0], filter[1], emb_param_bytes(&from, sizeof from),
                                    emb_param_bytes(&to, sizeof to)};
        st = count_call(l, &REMOVE_PAGES, values, 4, deadline_ns, &piece, err);
        *removed += piece;
    }
    if (st != EMB_OK)
        emb_error_context(err, "%llu entries were removed, and %llu of 100 parts of the table looked at",
                          (unsigned long long)*removed, (unsigned long long)((page - PAGES) * 100 / pages));
    return st;
}

static emb_status pg_remove(emb_l2 *l2, const emb_cache_filter *filter, uint64_t deadline_ns,
                            uint64_t *removed, emb_error *err)
{
    postgresql_l2 *l = (postgresql_l2 *)l2;
    const int64_t age_s = (int64_t)(filter->older_than_s > MAX_TTL_S ? MAX_TTL_S : filter->older_than_s);
    emb_param values[3] = {emb_param_text(filter->model), emb_param_int(age_s)};
    *removed = 0;
    if (!filter->key)
        return remove_pages(l, values, deadline_ns, removed, err);
    values[2] = emb_param_bytes(filter->key->bytes, sizeof filter->key->bytes);
    return count_call(l, &REMOVE_KEY, values, 3, deadline_ns, removed, err);
}

static emb_status pg_tidy(emb_l2 *l2, uint64_t deadline_ns, emb_error *err)
{
    postgresql_l2 *l = (postgresql_l2 *)l2;
    const emb_param rows = emb_param_int(TIDY_ROWS);
    uint64_t piece = TIDY_ROWS;
    emb_status st = write_uses(l, deadline_ns, err);
    while (st == EMB_OK && piece == TIDY_ROWS)
        st = count_call(l, &TIDY, &rows, 1, deadline_ns, &piece, err);
    emb_pg_tidy(l->pg);
    return st;
}

/* ---- what there is ---- */

static emb_status pg_stats(emb_l2 *l2, uint64_t deadline_ns, emb_cache_tier_stats *out, emb_error *err)
{
    postgresql_l2 *l = (postgresql_l2 *)l2;
    emb_pg_result *r;
    emb_status st = emb_pg_call(l->pg, &STATS, NULL, 0, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    if (emb_pg_rows(r) == 1) {
        out->entries = (uint64_t)emb_pg_int(r, 0, 0);
        out->bytes = (uint64_t)emb_pg_int(r, 0, 1);
    }
    out->evictions = 0; /* nothing is removed for its size */
    emb_pg_result_free(r);
    return EMB_OK;
}

/* false: the visitor has enough. */
static bool visit_row(const emb_pg_result *r, size_t row, emb_l2_visit visit, void *context)
{
    size_t key_length, model_length, length, text_length;
    emb_cache_key key;
    const void *name = emb_pg_bytes(r, row, 0, &key_length);
    const char *model = emb_pg_bytes(r, row, 1, &model_length);
    const void *value = emb_pg_bytes(r, row, 2, &length);
    const char *text = emb_pg_bytes(r, row, 3, &text_length);
    if (!name || !model || !value || key_length != sizeof key.bytes)
        return true;
    memcpy(key.bytes, name, sizeof key.bytes);
    return visit(context, &key, model, value, length, text, text_length);
}

/* Pages of a ranking, until `limit` is used up, there is no more, or the visitor has enough. */
static emb_status visit_ranking(postgresql_l2 *l, const emb_pg_statement *ranking, size_t *limit,
                                bool *enough, uint64_t deadline_ns, emb_l2_visit visit, void *context,
                                emb_error *err)
{
    size_t from = 0, got = VISIT_ROWS;
    emb_status st = EMB_OK;
    while (st == EMB_OK && *limit && !*enough && got == VISIT_ROWS) {
        const emb_param values[] = {emb_param_int((int64_t)from),
                                    emb_param_int(*limit < VISIT_ROWS ? (int64_t)*limit : VISIT_ROWS)};
        emb_pg_result *r;
        if ((st = emb_pg_call(l->pg, ranking, values, 2, deadline_ns, &r, err)) != EMB_OK)
            break;
        got = emb_pg_rows(r);
        from += got;
        for (size_t row = 0; row < got && *limit && !*enough; row++, --*limit)
            *enough = !visit_row(r, row, visit, context);
        emb_pg_result_free(r);
    }
    return st;
}

static emb_status pg_most_used(emb_l2 *l2, size_t limit, uint64_t deadline_ns, emb_l2_visit visit,
                               void *context, emb_error *err)
{
    postgresql_l2 *l = (postgresql_l2 *)l2;
    bool enough = false;
    (void)!write_uses(l, deadline_ns, NULL); /* a replica takes none: then without the latest */
    emb_status st = visit_ranking(l, &MOST_USED, &limit, &enough, deadline_ns, visit, context, err);
    if (st == EMB_OK)
        st = visit_ranking(l, &NEWEST, &limit, &enough, deadline_ns, visit, context, err);
    return st;
}

/* ---- opening ---- */

static void pg_close(emb_l2 *l2)
{
    postgresql_l2 *l = (postgresql_l2 *)l2;
    if (!l)
        return;
    emb_pg_close(l->pg);
    emb_l2_uses_fini(&l->uses);
    free(l);
}

static const emb_l2_ops OPS = {
    .get_many = pg_get_many,
    .put_many = pg_put_many,
    .remove = pg_remove,
    .stats = pg_stats,
    .most_used = pg_most_used,
    .tidy = pg_tidy,
    .close = pg_close,
};

static emb_status pg_open(const char *url, const emb_l2_options *options, emb_l2 **out, emb_error *err)
{
    postgresql_l2 *l = calloc(1, sizeof *l);
    emb_pg_options o = {.connect_ms = options->connect_ms, .relaxed = true, .schema = &SCHEMA};
    if (!l || !emb_l2_uses_init(&l->uses)) {
        free(l);
        return emb_fail_nomem(err, "a cache in PostgreSQL", sizeof *l);
    }
    l->base.ops = &OPS;
    emb_status st = emb_pg_open(url, &o, &l->pg, err);
    if (st != EMB_OK)
        pg_close(&l->base);
    else
        *out = &l->base;
    return st;
}

const emb_l2_kind emb_l2_postgresql = {"postgresql", "postgresql,postgres", pg_open};
