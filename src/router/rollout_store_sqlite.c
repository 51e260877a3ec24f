/*
 * rollout_store_sqlite.c: the rollout in a SQLite file: one row of state, one table of what was done.
 *
 * The write lock of the transaction makes the compare-and-set: an upsert whose update asks for the version
 * before. Every commit survives loss of power, since a rollback that is forgotten is worse than a slow one.
 */
#include "router/rollout_store.h"

#include "base/error.h"
#include "store/sqlite.h"

#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS = 2 };

static const char *const MIGRATIONS[] = {
    "CREATE TABLE rollout_state ("
    " id INTEGER PRIMARY KEY CHECK (id = 1),"
    " version INTEGER NOT NULL,"
    " mode INTEGER NOT NULL,"
    " share INTEGER NOT NULL,"
    " step INTEGER NOT NULL,"
    " step_since INTEGER NOT NULL,"
    " changed_at INTEGER NOT NULL,"
    " verified_at INTEGER NOT NULL,"
    " actor TEXT NOT NULL,"
    " reason TEXT NOT NULL,"
    " schedule TEXT NOT NULL);"
    "CREATE TABLE rollout_audit ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " at INTEGER NOT NULL,"
    " action TEXT NOT NULL,"
    " share_before INTEGER NOT NULL,"
    " share_after INTEGER NOT NULL,"
    " actor TEXT NOT NULL,"
    " reason TEXT NOT NULL)",
};
static const emb_sqlite_schema SCHEMA = {0x656D6252, "embedd's rollout", MIGRATIONS, 1};

typedef struct sqlite_store {
    emb_rollout_store base;
    emb_sqlite_pool *pool;
} sqlite_store;

static void sqlite_close(emb_rollout_store *store)
{
    emb_sqlite_pool_close(((sqlite_store *)store)->pool);
    free(store);
}

/* "sqlite:PATH"; "sqlite://PATH" is the same, so that sqlite:///absolute works too. */
static emb_status sqlite_open(const char *url, emb_rollout_store **out, emb_error *err)
{
    const emb_sqlite_options options = {.schema = &SCHEMA, .durable = true};
    const char *path = url + sizeof "sqlite:" - 1;
    sqlite_store *s = calloc(1, sizeof *s);
    if (!s)
        return emb_fail_nomem(err, "the rollout's store", sizeof *s);
    s->base.kind = &emb_rollout_sqlite;
    emb_status st = emb_sqlite_pool_open(strncmp(path, "//", 2) == 0 ? path + 2 : path, &options, CONNECTIONS,
                                         &s->pool, err);
    if (st != EMB_OK)
        free(s);
    else
        *out = &s->base;
    return st;
}

/* ---- reading ---- */

static emb_status read_row(emb_sql *sql, emb_rollout_state *out, emb_error *err)
{
    const char *schedule = emb_sql_column_text(sql, 9, NULL);
    out->version = emb_sql_column_int(sql, 0);
    out->share = emb_sql_column_int(sql, 2);
    int64_t step = emb_sql_column_int(sql, 3);
    out->step = step < 0 || step > EMB_ROLLOUT_STEPS_MAX ? EMB_ROLLOUT_STEPS_MAX : (size_t)step;
    out->step_since_s = emb_sql_column_int(sql, 4);
    out->changed_s = emb_sql_column_int(sql, 5);
    out->verified_s = emb_sql_column_int(sql, 6);
    emb_rollout_copy_text(out->actor, sizeof out->actor, emb_sql_column_text(sql, 7, NULL));
    emb_rollout_copy_text(out->reason, sizeof out->reason, emb_sql_column_text(sql, 8, NULL));
    return emb_rollout_check_state(out, emb_sql_column_int(sql, 1), schedule ? schedule : "", err);
}

static emb_status load(emb_sqlite *db, emb_rollout_state *out, emb_error *err)
{
    emb_sql *sql;
    bool row;
    emb_status st =
        emb_sql_get(db,
                    "SELECT version, mode, share, step, step_since, changed_at, verified_at, actor, reason, "
                    "schedule FROM rollout_state WHERE id = 1",
                    &sql, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sql_step(sql, &row, err)) == EMB_OK && row)
        st = read_row(sql, out, err);
    emb_sql_reset(sql);
    return st;
}

static emb_status sqlite_load(emb_rollout_store *store, uint64_t deadline_ns, emb_rollout_state *out,
                              emb_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    emb_sqlite *db;
    memset(out, 0, sizeof *out);
    out->share = EMB_ROLLOUT_SHARE_CONFIGURED;
    emb_status st = emb_sqlite_acquire(s->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    st = load(db, out, err);
    emb_sqlite_release(s->pool, db);
    return st;
}

static emb_status read_audit(emb_sqlite *db, size_t limit, emb_arena *arena, emb_rollout_event *events,
                             size_t *count, emb_error *err)
{
    emb_sql *sql;
    bool row = true;
    emb_status st =
        emb_sql_get(db,
                    "SELECT id, at, action, share_before, share_after, actor, reason FROM rollout_audit "
                    "ORDER BY id DESC LIMIT ?1",
                    &sql, err);
    if (st != EMB_OK)
        return st;
    emb_sql_int(sql, 1, (int64_t)limit);
    while (*count < limit && (st = emb_sql_step(sql, &row, err)) == EMB_OK && row) {
        emb_rollout_event *e = &events[*count];
        *e = (emb_rollout_event){.id = emb_sql_column_int(sql, 0),
                                 .time_s = emb_sql_column_int(sql, 1),
                                 .from = emb_rollout_from_share(emb_sql_column_int(sql, 3)),
                                 .to = emb_rollout_from_share(emb_sql_column_int(sql, 4))};
        if ((st = emb_rollout_event_text(arena, emb_sql_column_text(sql, 2, NULL), &e->action, err)) ||
            (st = emb_rollout_event_text(arena, emb_sql_column_text(sql, 5, NULL), &e->actor, err)) ||
            (st = emb_rollout_event_text(arena, emb_sql_column_text(sql, 6, NULL), &e->reason, err)))
            break;
        ++*count;
    }
    emb_sql_reset(sql);
    return st;
}

static emb_status sqlite_audit(emb_rollout_store *store, uint64_t deadline_ns, size_t limit, emb_arena *arena,
                               emb_rollout_event **out, size_t *count, emb_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    emb_sqlite *db;
    *count = 0;
    emb_status st = emb_rollout_events(arena, limit, out, err);
    if (st != EMB_OK || (st = emb_sqlite_acquire(s->pool, deadline_ns, &db, err)))
        return st;
    st = read_audit(db, limit, arena, *out, count, err);
    emb_sqlite_release(s->pool, db);
    return st;
}

/* ---- writing ---- */

static void bind_text(emb_sql *sql, int parameter, const char *text)
{
    emb_sql_text(sql, parameter, text, strlen(text));
}

static emb_status write_state(emb_sqlite *db, const emb_rollout_state *next, bool *won, emb_error *err)
{
    char schedule[EMB_ROLLOUT_SCHEDULE_TEXT];
    emb_sql *sql;
    emb_status st = emb_sql_get(
        db,
        "INSERT INTO rollout_state (id, version, mode, share, step, step_since, changed_at, verified_at, "
        "actor, reason, "
        "schedule) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO UPDATE SET "
        "version = excluded.version, mode = excluded.mode, share = excluded.share, step = excluded.step, "
        "step_since = excluded.step_since, changed_at = excluded.changed_at, verified_at = "
        "excluded.verified_at, "
        "actor = excluded.actor, reason = excluded.reason, schedule = excluded.schedule "
        "WHERE rollout_state.version = excluded.version - 1",
        &sql, err);
    if (st != EMB_OK)
        return st;
    emb_rollout_write_schedule(next, schedule);
    emb_sql_int(sql, 1, next->version);
    emb_sql_int(sql, 2, next->mode);
    emb_sql_int(sql, 3, next->share);
    emb_sql_int(sql, 4, (int64_t)next->step);
    emb_sql_int(sql, 5, next->step_since_s);
    emb_sql_int(sql, 6, next->changed_s);
    emb_sql_int(sql, 7, next->verified_s);
    bind_text(sql, 8, next->actor);
    bind_text(sql, 9, next->reason);
    bind_text(sql, 10, schedule);
    if ((st = emb_sql_do(sql, err)) == EMB_OK)
        *won = emb_sqlite_changes(db) == 1;
    return st;
}

static emb_status write_event(emb_sqlite *db, const emb_rollout_change *change, emb_error *err)
{
    emb_sql *sql;
    emb_status st =
        emb_sql_get(db,
                    "INSERT INTO rollout_audit (at, action, share_before, share_after, actor, reason) "
                    "VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    &sql, err);
    if (st != EMB_OK)
        return st;
    emb_sql_int(sql, 1, change->time_s);
    bind_text(sql, 2, change->action);
    emb_sql_int(sql, 3, change->from);
    emb_sql_int(sql, 4, change->to);
    bind_text(sql, 5, change->actor);
    bind_text(sql, 6, change->reason);
    return emb_sql_do(sql, err);
}

static emb_status sqlite_save(emb_rollout_store *store, uint64_t deadline_ns, const emb_rollout_state *next,
                              const emb_rollout_change *change, bool *won, emb_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    emb_sqlite *db;
    *won = false;
    emb_status st = emb_sqlite_acquire(s->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sqlite_begin(db, true, err)) == EMB_OK) {
        st = write_state(db, next, won, err);
        if (st == EMB_OK && *won)
            st = write_event(db, change, err);
        st = emb_sqlite_end(db, st, err);
    }
    emb_sqlite_release(s->pool, db);
    *won = *won && st == EMB_OK;
    return st;
}

const emb_rollout_store_kind emb_rollout_sqlite = {"sqlite",    sqlite_open, sqlite_close,
                                                   sqlite_load, sqlite_save, sqlite_audit};
