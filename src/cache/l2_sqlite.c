/*
 * L2 in a SQLite file.
 *
 * Reads: all keys of a call in one read transaction, one prepared statement, a few microseconds a key.
 * Writes: one transaction a batch. Uses are counted in memory, in a table of bounded size, and written with
 * the next batch or tidy, so that a read never takes the write lock; what does not fit or cannot be written
 * is forgotten, uses being a statistic. Eviction is by last use, which is as exact as that.
 *
 * Size: pages in use times page size, the log aside. A batch that passes the limit removes as many of the
 * least recently used as it added, and tidy goes on from there; so the file stays within the limit and one
 * batch. Room of removed rows is used again; it is given back to the file system after a removal that was
 * asked for.
 *
 * Each of five indexes serves one question: by key, by expiry, by last use, by uses, by model. They hold
 * small numbers, about a tenth of a row's size in all.
 */
#include "cache/l2.h"

#include "base/clock.h"
#include "base/error.h"
#include "cache/l2_uses.h"
#include "cache/value.h"
#include "store/sqlite.h"
#include "store/url.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CONNECTIONS = 8,
    PIECE = 512, /* rows removed in one transaction */
};

static const char *const MIGRATIONS[] = {
    "CREATE TABLE embedding_cache ("
    " id INTEGER PRIMARY KEY,"
    " cache_key BLOB NOT NULL UNIQUE,"
    " model TEXT NOT NULL,"
    " dimension INTEGER NOT NULL,"
    " value BLOB NOT NULL,"
    " text TEXT,"
    " created_at INTEGER NOT NULL,"
    " expires_at INTEGER NOT NULL,"
    " last_used INTEGER NOT NULL,"
    " uses INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX embedding_cache_expires ON embedding_cache (expires_at) WHERE expires_at > 0;"
    "CREATE INDEX embedding_cache_last_used ON embedding_cache (last_used);"
    "CREATE INDEX embedding_cache_uses ON embedding_cache (uses);"
    "CREATE INDEX embedding_cache_model ON embedding_cache (model);",
};
static const emb_sqlite_schema SCHEMA = {0x656D6243, "embedd's vector cache", MIGRATIONS, 1};

typedef struct sqlite_l2 {
    emb_l2 base;
    emb_sqlite_pool *pool;
    atomic_size_t maximum_bytes;
    atomic_uint_fast64_t evictions, to_shrink;
    emb_l2_uses uses;
} sqlite_l2;

static int64_t now_s(void)
{
    return (int64_t)time(NULL);
}

/* ---- uses ---- */

/* Inside a write transaction. */
static emb_status write_uses(sqlite_l2 *l, emb_sqlite *db, emb_error *err)
{
    size_t count;
    emb_l2_use *uses = emb_l2_uses_take(&l->uses, &count);
    emb_sql *s;
    if (!uses)
        return EMB_OK;
    emb_status st = emb_sql_get(
        db,
        "UPDATE embedding_cache SET uses = uses + ?2, last_used = max(last_used, ?3) WHERE cache_key = ?1",
        &s, err);
    for (size_t i = 0; st == EMB_OK && i < count; i++) {
        emb_sql_bytes(s, 1, uses[i].key.bytes, sizeof uses[i].key.bytes);
        emb_sql_int(s, 2, uses[i].count);
        emb_sql_int(s, 3, uses[i].last_s);
        if ((st = emb_sql_do(s, err)) == EMB_OK)
            st = emb_sqlite_in_time(db, err);
    }
    free(uses);
    return st;
}

static emb_status flush_uses(sqlite_l2 *l, emb_sqlite *db, emb_error *err)
{
    emb_status st = emb_sqlite_begin(db, true, err);
    return st ? st : emb_sqlite_end(db, write_uses(l, db, err), err);
}

/* ---- get and put ---- */

static emb_status get_all(sqlite_l2 *l, emb_sqlite *db, const emb_cache_key *const *keys, size_t count,
                          emb_l2_found found, void *context, emb_error *err)
{
    emb_sql *s;
    emb_status st = emb_sql_get(
        db, "SELECT value FROM embedding_cache WHERE cache_key = ?1 AND (expires_at = 0 OR expires_at > ?2)",
        &s, err);
    int64_t now = now_s();
    for (size_t i = 0; st == EMB_OK && i < count; i++) {
        bool row;
        emb_sql_bytes(s, 1, keys[i]->bytes, sizeof keys[i]->bytes);
        emb_sql_int(s, 2, now);
        if ((st = emb_sql_step(s, &row, err)) == EMB_OK && row) {
            size_t length;
            const void *value = emb_sql_column_bytes(s, 0, &length);
            emb_l2_uses_note(&l->uses, keys[i]);
            found(context, i, value, length);
        }
        emb_sql_reset(s);
        if (st == EMB_OK)
            st = emb_sqlite_in_time(db, err);
    }
    return st;
}

static emb_status sqlite_get_many(emb_l2 *l2, const emb_cache_key *const *keys, size_t count,
                                  uint64_t deadline_ns, emb_l2_found found, void *context, emb_error *err)
{
    sqlite_l2 *l = (sqlite_l2 *)l2;
    emb_sqlite *db;
    if (count == 0)
        return EMB_OK;
    emb_status st = emb_sqlite_acquire(l->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sqlite_begin(db, false, err)) == EMB_OK)
        st = emb_sqlite_end(db, get_all(l, db, keys, count, found, context, err), err);
    emb_sqlite_release(l->pool, db);
    return st;
}

static emb_status put_one(emb_sql *s, const emb_l2_item *item, int64_t now, emb_error *err)
{
    const int64_t lives_s = item->ttl_s > INT32_MAX ? INT32_MAX : (int64_t)item->ttl_s;
    const emb_param values[] = {emb_param_bytes(item->key->bytes, sizeof item->key->bytes),
                                emb_param_text(item->model ? item->model : ""),
                                emb_param_int(emb_value_dimension(item->value, item->length)),
                                emb_param_bytes(item->value, item->length),
                                emb_param_text_of(item->text, item->text_length),
                                emb_param_int(now),
                                emb_param_int(lives_s ? now + lives_s : 0)};
    emb_sql_bind(s, values, 7);
    return emb_sql_do(s, err);
}

/* Removes at most `rows` of the least recently used if the file is over its limit. *over: whether it was. */
static emb_status evict(sqlite_l2 *l, emb_sqlite *db, size_t rows, bool *over, emb_error *err)
{
    uint64_t bytes = 0, limit = atomic_load(&l->maximum_bytes);
    const emb_param most = emb_param_int((int64_t)rows);
    *over = false;
    emb_status st = limit ? emb_sqlite_bytes(db, &bytes, err) : EMB_OK;
    if (st != EMB_OK || bytes <= limit)
        return st;
    st = emb_sql_call(db,
                      "DELETE FROM embedding_cache WHERE id IN "
                      "(SELECT id FROM embedding_cache ORDER BY last_used LIMIT ?1)",
                      &most, 1, err);
    if (st == EMB_OK) {
        uint64_t removed = emb_sqlite_changes(db);
        *over = removed > 0;
        atomic_fetch_add(&l->evictions, removed);
    }
    return st;
}

static emb_status put_all(sqlite_l2 *l, emb_sqlite *db, const emb_l2_item *items, size_t count,
                          emb_error *err)
{
    emb_sql *s;
    bool over;
    emb_status st = emb_sql_get(
        db,
        "INSERT INTO embedding_cache (cache_key, model, dimension, value, text, created_at, expires_at, "
        "last_used) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6) ON CONFLICT (cache_key) DO UPDATE SET model = "
        "excluded.model, "
        "dimension = excluded.dimension, value = excluded.value, text = coalesce(excluded.text, text), "
        "created_at = excluded.created_at, expires_at = excluded.expires_at, last_used = excluded.last_used",
        &s, err);
    int64_t now = now_s();
    for (size_t i = 0; st == EMB_OK && i < count; i++)
        if ((st = put_one(s, &items[i], now, err)) == EMB_OK)
            st = emb_sqlite_in_time(db, err);
    if (st == EMB_OK)
        st = write_uses(l, db, err);
    return st ? st : evict(l, db, count + 16, &over, err);
}

static emb_status sqlite_put_many(emb_l2 *l2, const emb_l2_item *items, size_t count, uint64_t deadline_ns,
                                  emb_error *err)
{
    sqlite_l2 *l = (sqlite_l2 *)l2;
    emb_sqlite *db;
    if (count == 0)
        return EMB_OK;
    emb_status st = emb_sqlite_enter(l->pool, deadline_ns, &db, err);
    return st ? st : emb_sqlite_leave(l->pool, db, put_all(l, db, items, count, err), err);
}

/* ---- removal ---- */

/* Three texts, so that each uses an index. ?1 key, ?2 model or NULL, ?3 created before, ?4 rows. */
static const char *removal(const emb_cache_filter *f)
{
    if (f->key)
        return "DELETE FROM embedding_cache WHERE cache_key = ?1 AND (?2 IS NULL OR model = ?2) AND "
               "created_at < ?3 "
               "AND ?4 > 0";
    if (f->model)
        return "DELETE FROM embedding_cache WHERE id IN (SELECT id FROM embedding_cache WHERE model = ?2 AND "
               "created_at < ?3 AND ?1 IS NULL LIMIT ?4)";
    return "DELETE FROM embedding_cache WHERE id IN (SELECT id FROM embedding_cache WHERE created_at < ?3 "
           "AND "
           "?1 IS NULL AND ?2 IS NULL LIMIT ?4)";
}

/* One statement in a transaction of its own. */
static emb_status remove_piece(emb_sqlite *db, const emb_cache_filter *f, int64_t before, uint64_t *removed,
                               emb_error *err)
{
    const emb_param values[] = {emb_param_bytes(f->key ? f->key->bytes : NULL, sizeof f->key->bytes),
                                emb_param_text(f->model), emb_param_int(before), emb_param_int(PIECE)};
    emb_status st = emb_sql_call(db, removal(f), values, 4, err);
    *removed = st == EMB_OK ? emb_sqlite_changes(db) : 0;
    return st;
}

static emb_status remove_all(emb_sqlite *db, uint64_t *removed, emb_error *err)
{
    emb_status st = emb_sqlite_run(db, "DELETE FROM embedding_cache", err); /* without looking at the rows */
    if (st == EMB_OK)
        *removed = emb_sqlite_changes(db);
    return st;
}

static emb_status remove_pieces(emb_sqlite *db, const emb_cache_filter *f, uint64_t *removed, emb_error *err)
{
    int64_t before = INT64_MAX, age = f->older_than_s > INT32_MAX ? INT32_MAX : (int64_t)f->older_than_s;
    uint64_t piece;
    emb_status st;
    if (age)
        before = now_s() - age;
    do {
        st = remove_piece(db, f, before, &piece, err);
        *removed += piece;
    } while (st == EMB_OK && piece == PIECE && (st = emb_sqlite_in_time(db, err)) == EMB_OK);
    return st;
}

static emb_status sqlite_remove(emb_l2 *l2, const emb_cache_filter *filter, uint64_t deadline_ns,
                                uint64_t *removed, emb_error *err)
{
    sqlite_l2 *l = (sqlite_l2 *)l2;
    emb_sqlite *db;
    *removed = 0;
    emb_status st = emb_sqlite_acquire(l->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    bool everything = !filter->key && !filter->model && !filter->older_than_s;
    st = everything ? remove_all(db, removed, err) : remove_pieces(db, filter, removed, err);
    if (*removed >= PIECE)
        atomic_store(&l->to_shrink, UINT64_MAX);
    emb_sqlite_release(l->pool, db);
    return st;
}

static emb_status remove_expired(emb_sqlite *db, emb_error *err)
{
    emb_status st = EMB_OK;
    while (st == EMB_OK) {
        const emb_param values[] = {emb_param_int(now_s()), emb_param_int(PIECE)};
        st = emb_sql_call(db,
                          "DELETE FROM embedding_cache WHERE id IN (SELECT id FROM embedding_cache "
                          "WHERE expires_at > 0 AND expires_at <= ?1 LIMIT ?2)",
                          values, 2, err);
        if (st == EMB_OK && emb_sqlite_changes(db) < PIECE)
            break;
        if (st == EMB_OK)
            st = emb_sqlite_in_time(db, err);
    }
    return st;
}

static emb_status remove_oldest(sqlite_l2 *l, emb_sqlite *db, emb_error *err)
{
    bool over = true;
    emb_status st = EMB_OK;
    while (st == EMB_OK && over) {
        if ((st = evict(l, db, PIECE, &over, err)) == EMB_OK)
            st = emb_sqlite_in_time(db, err);
    }
    return st;
}

/* What a removal freed, a megabyte at a time. */
static emb_status shrink(sqlite_l2 *l, emb_sqlite *db, emb_error *err)
{
    enum { STEP = 1 << 20 };
    uint64_t before, after;
    emb_status st = EMB_OK;
    while (st == EMB_OK && atomic_load(&l->to_shrink)) {
        if ((st = emb_sqlite_file_bytes(db, &before, err)) || (st = emb_sqlite_shrink(db, STEP, err)) ||
            (st = emb_sqlite_file_bytes(db, &after, err)))
            return st;
        if (after >= before)
            atomic_store(&l->to_shrink, 0);
        st = emb_sqlite_in_time(db, err);
    }
    return st;
}

static emb_status sqlite_tidy(emb_l2 *l2, uint64_t deadline_ns, emb_error *err)
{
    sqlite_l2 *l = (sqlite_l2 *)l2;
    emb_sqlite *db;
    emb_status st = emb_sqlite_acquire(l->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = flush_uses(l, db, err)) == EMB_OK && (st = remove_expired(db, err)) == EMB_OK &&
        (st = remove_oldest(l, db, err)) == EMB_OK)
        st = shrink(l, db, err);
    emb_sqlite_release(l->pool, db);
    return st;
}

/* ---- what there is ---- */

static emb_status count_entries(emb_sqlite *db, uint64_t *out, emb_error *err)
{
    const emb_param now = emb_param_int(now_s());
    emb_sql *s;
    bool row;
    emb_status st = emb_sql_ask(db,
                                "SELECT (SELECT count(*) FROM embedding_cache) - (SELECT count(*) FROM "
                                "embedding_cache WHERE expires_at > 0 AND expires_at <= ?1)",
                                &now, 1, &s, err);
    if (st != EMB_OK)
        return st;
    st = emb_sql_step(s, &row, err);
    *out = st == EMB_OK && row ? (uint64_t)emb_sql_column_int(s, 0) : 0;
    emb_sql_reset(s);
    return st;
}

static emb_status sqlite_stats(emb_l2 *l2, uint64_t deadline_ns, emb_cache_tier_stats *out, emb_error *err)
{
    sqlite_l2 *l = (sqlite_l2 *)l2;
    emb_sqlite *db;
    emb_status st = emb_sqlite_acquire(l->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = count_entries(db, &out->entries, err)) == EMB_OK)
        st = emb_sqlite_bytes(db, &out->bytes, err);
    out->evictions = atomic_load(&l->evictions);
    emb_sqlite_release(l->pool, db);
    return st;
}

static emb_status visit_rows(emb_sqlite *db, size_t limit, emb_l2_visit visit, void *context, emb_error *err)
{
    const emb_param values[] = {emb_param_int(now_s()),
                                emb_param_int(limit > INT64_MAX ? INT64_MAX : (int64_t)limit)};
    emb_sql *s;
    emb_status st =
        emb_sql_ask(db,
                    "SELECT cache_key, model, value, text FROM embedding_cache WHERE expires_at = 0 OR "
                    "expires_at > ?1 ORDER BY uses DESC LIMIT ?2",
                    values, 2, &s, err);
    if (st != EMB_OK)
        return st;
    bool row, more = true;
    while (more && (st = emb_sql_step(s, &row, err)) == EMB_OK && row) {
        emb_cache_key key;
        size_t key_length, length, text_length;
        const void *key_bytes = emb_sql_column_bytes(s, 0, &key_length);
        const char *model = emb_sql_column_text(s, 1, NULL);
        const void *value = emb_sql_column_bytes(s, 2, &length);
        const char *text = emb_sql_column_text(s, 3, &text_length);
        if (key_length != sizeof key.bytes || !model || !value)
            continue;
        memcpy(key.bytes, key_bytes, sizeof key.bytes);
        more = visit(context, &key, model, value, length, text, text_length);
    }
    emb_sql_reset(s);
    return st;
}

static emb_status sqlite_most_used(emb_l2 *l2, size_t limit, uint64_t deadline_ns, emb_l2_visit visit,
                                   void *context, emb_error *err)
{
    sqlite_l2 *l = (sqlite_l2 *)l2;
    emb_sqlite *db;
    emb_status st = emb_sqlite_acquire(l->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = flush_uses(l, db, err)) == EMB_OK)
        st = visit_rows(db, limit, visit, context, err);
    emb_sqlite_release(l->pool, db);
    return st;
}

/* ---- open and close ---- */

static void sqlite_set_maximum(emb_l2 *l2, size_t maximum_bytes)
{
    atomic_store(&((sqlite_l2 *)l2)->maximum_bytes, maximum_bytes);
}

static void sqlite_close(emb_l2 *l2)
{
    sqlite_l2 *l = (sqlite_l2 *)l2;
    emb_sqlite *db;
    emb_error ignored;
    if (l->uses.count &&
        emb_sqlite_acquire(l->pool, emb_now_ns() + UINT64_C(500000000), &db, &ignored) == EMB_OK) {
        (void)!flush_uses(l, db, &ignored);
        emb_sqlite_release(l->pool, db);
    }
    emb_sqlite_pool_close(l->pool);
    emb_l2_uses_fini(&l->uses);
    free(l);
}

static const emb_l2_ops OPS = {
    .get_many = sqlite_get_many,
    .put_many = sqlite_put_many,
    .remove = sqlite_remove,
    .stats = sqlite_stats,
    .most_used = sqlite_most_used,
    .tidy = sqlite_tidy,
    .close = sqlite_close,
    .set_maximum = sqlite_set_maximum,
};

static emb_status sqlite_open(const char *url, const emb_l2_options *options, emb_l2 **out, emb_error *err)
{
    const emb_sqlite_options sqlite = {.schema = &SCHEMA, .shrinks = true};
    sqlite_l2 *l = calloc(1, sizeof *l);
    if (!l || !emb_l2_uses_init(&l->uses)) {
        free(l);
        return emb_fail_nomem(err, "the vector cache's store", sizeof *l);
    }
    l->base.ops = &OPS;
    atomic_init(&l->maximum_bytes, options->maximum_bytes);
    emb_status st = emb_sqlite_pool_open(emb_url_sqlite_path(url), &sqlite, CONNECTIONS, &l->pool, err);
    if (st != EMB_OK) {
        emb_l2_uses_fini(&l->uses);
        free(l);
        return st;
    }
    *out = &l->base;
    return EMB_OK;
}

const emb_l2_kind emb_l2_sqlite = {"sqlite", "sqlite", sqlite_open};
