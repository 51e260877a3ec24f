/*
 * Breakers in SQLite (table: state_sqlite.c): one row each, every change one statement and so one
 * transaction. Times are milliseconds since 1970 by this machine's clock, which all users of the file share.
 */
#include "base/error.h"
#include "router/breaker_store.h"
#include "router/state_sqlite.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct sqlite_store {
    emb_breaker_store base;
    emb_sqlite_pool *pool;
} sqlite_store;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* One statement with at most one row, whose first column is the answer. */
typedef struct work {
    emb_sqlite *db;
    emb_sql *s;
} work;

static emb_status begin(sqlite_store *q, const char *sql, uint64_t deadline_ns, work *w, emb_error *err)
{
    emb_status st = emb_sqlite_acquire(q->pool, deadline_ns, &w->db, err);
    if (st == EMB_OK && (st = emb_sql_get(w->db, sql, &w->s, err)) != EMB_OK)
        emb_sqlite_release(q->pool, w->db);
    return st;
}

static emb_status end(sqlite_store *q, work *w, int64_t *out, emb_error *err)
{
    bool row, more;
    emb_status st = emb_sql_step(w->s, &row, err);
    *out = st == EMB_OK && row ? emb_sql_column_int(w->s, 0) : 0;
    if (st == EMB_OK && row) /* RETURNING is done when the statement has run to its end */
        st = emb_sql_step(w->s, &more, err);
    emb_sql_reset(w->s);
    emb_sqlite_release(q->pool, w->db);
    return st;
}

static emb_status sqlite_write(emb_breaker_store *store, const emb_breaker_record *r, bool force,
                               uint64_t *version, uint64_t deadline_ns, emb_error *err)
{
    static const char SQL[] =
        "INSERT INTO breaker (name, version, is_open, until, openings, reason) VALUES (?1, 1, ?2, ?3, ?4, "
        "?5) "
        "ON CONFLICT DO UPDATE SET version = version + 1, is_open = ?2, until = ?3, openings = ?4, reason = "
        "?5, "
        "prober = NULL, probe_until = 0 WHERE ?2 OR ?6 OR version = ?7 RETURNING version";
    sqlite_store *q = (sqlite_store *)store;
    work w;
    int64_t out;
    emb_status st = begin(q, SQL, deadline_ns, &w, err);
    if (st != EMB_OK)
        return st;
    emb_sql_text(w.s, 1, r->name, strlen(r->name));
    emb_sql_int(w.s, 2, r->is_open);
    emb_sql_int(w.s, 3, now_ms() + r->left_ms);
    emb_sql_int(w.s, 4, r->openings);
    emb_sql_text(w.s, 5, r->reason, strlen(r->reason));
    emb_sql_int(w.s, 6, force);
    emb_sql_int(w.s, 7, (int64_t)r->version);
    st = end(q, &w, &out, err);
    *version = (uint64_t)out;
    return st;
}

static emb_status sqlite_read(emb_breaker_store *store, emb_breaker_seen seen, void *context,
                              uint64_t deadline_ns, emb_error *err)
{
    sqlite_store *q = (sqlite_store *)store;
    work w;
    bool row;
    int64_t now = now_ms();
    emb_status st =
        begin(q, "SELECT name, version, is_open, until, openings, reason FROM breaker", deadline_ns, &w, err);
    if (st != EMB_OK)
        return st;
    while ((st = emb_sql_step(w.s, &row, err)) == EMB_OK && row) {
        emb_breaker_record r = {.name = emb_sql_column_text(w.s, 0, NULL),
                                .version = (uint64_t)emb_sql_column_int(w.s, 1),
                                .is_open = emb_sql_column_int(w.s, 2) != 0,
                                .left_ms = emb_sql_column_int(w.s, 3) - now,
                                .openings = (unsigned)emb_sql_column_int(w.s, 4),
                                .reason = emb_sql_column_text(w.s, 5, NULL)};
        if (r.name && r.reason)
            seen(context, &r);
    }
    emb_sql_reset(w.s);
    emb_sqlite_release(q->pool, w.db);
    return st;
}

static emb_status sqlite_probe(emb_breaker_store *store, const char *name,
                               const uint8_t prober[EMB_BREAKER_PROBER], uint32_t probe_s, bool *granted,
                               uint64_t deadline_ns, emb_error *err)
{
    /* A breaker that is not there was opened by this process, which could not write it yet. */
    static const char SQL[] =
        "INSERT INTO breaker (name, version, is_open, until, openings, reason, prober, probe_until) "
        "VALUES (?1, 1, 1, ?2, 1, '', ?3, ?4) ON CONFLICT DO UPDATE SET prober = ?3, probe_until = ?4 "
        "WHERE is_open AND until <= ?5 AND (prober IS NULL OR prober = ?3 OR probe_until <= ?2) RETURNING 1";
    sqlite_store *q = (sqlite_store *)store;
    work w;
    int64_t out, now = now_ms();
    emb_status st = begin(q, SQL, deadline_ns, &w, err);
    if (st != EMB_OK)
        return st;
    emb_sql_text(w.s, 1, name, strlen(name));
    emb_sql_int(w.s, 2, now);
    emb_sql_bytes(w.s, 3, prober, EMB_BREAKER_PROBER);
    emb_sql_int(w.s, 4, now + probe_s * INT64_C(1000));
    emb_sql_int(w.s, 5, now + EMB_BREAKER_SLACK_MS);
    st = end(q, &w, &out, err);
    *granted = st == EMB_OK && out;
    return st;
}

static emb_status sqlite_release(emb_breaker_store *store, const char *name,
                                 const uint8_t prober[EMB_BREAKER_PROBER], uint64_t deadline_ns,
                                 emb_error *err)
{
    sqlite_store *q = (sqlite_store *)store;
    work w;
    int64_t unused;
    emb_status st =
        begin(q, "UPDATE breaker SET prober = NULL, probe_until = 0 WHERE name = ? AND prober = ?",
              deadline_ns, &w, err);
    if (st != EMB_OK)
        return st;
    emb_sql_text(w.s, 1, name, strlen(name));
    emb_sql_bytes(w.s, 2, prober, EMB_BREAKER_PROBER);
    return end(q, &w, &unused, err);
}

static void sqlite_close(emb_breaker_store *store)
{
    sqlite_store *q = (sqlite_store *)store;
    emb_sqlite_pool_close(q->pool);
    free(q);
}

static const emb_breaker_store_ops OPS = {sqlite_write, sqlite_read, sqlite_probe, sqlite_release,
                                          sqlite_close};

emb_status emb_breaker_sqlite_open(const char *url, emb_breaker_store **out, emb_error *err)
{
    sqlite_store *q = calloc(1, sizeof *q);
    if (!q)
        return emb_fail_nomem(err, "the breakers' store", sizeof *q);
    q->base.ops = &OPS;
    emb_status st = emb_state_sqlite_open(url, 2, &q->pool, err);
    if (st != EMB_OK) {
        free(q);
        return st;
    }
    *out = &q->base;
    return EMB_OK;
}
