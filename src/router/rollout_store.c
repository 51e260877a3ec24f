/*
 * rollout_store.c: the rollout in SQLite or PostgreSQL: one row of state, one table of what was done.
 *
 * A schedule is one text in the row of state and not a table of steps: it is read and replaced as a whole,
 * and a compare-and-set of one row stays a compare-and-set.
 *
 * A save is an upsert whose update asks for the version before, and a line in the log if it was written. In
 * PostgreSQL both are one statement and one round trip; in SQLite two in a transaction, whose write lock
 * makes them one. Every commit survives loss of power, since a rollback that is forgotten is worse than a
 * slow one.
 */
#include "router/rollout_store.h"

#include "base/error.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
static const emb_sqlite_schema SQLITE = {0x656D6252, "embedd's rollout", MIGRATIONS, 1};

static const char *const STEPS[] = {
    "CREATE TABLE embedd_rollout ("
    " id integer PRIMARY KEY CHECK (id = 1),"
    " version bigint NOT NULL,"
    " mode bigint NOT NULL,"
    " share bigint NOT NULL,"
    " step bigint NOT NULL,"
    " step_since bigint NOT NULL,"
    " changed_at bigint NOT NULL,"
    " verified_at bigint NOT NULL,"
    " actor text NOT NULL,"
    " reason text NOT NULL,"
    " schedule text NOT NULL);"
    "CREATE TABLE embedd_rollout_audit ("
    " id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " at bigint NOT NULL,"
    " action text NOT NULL,"
    " share_before bigint NOT NULL,"
    " share_after bigint NOT NULL,"
    " actor text NOT NULL,"
    " reason text NOT NULL)",
};
static const emb_pg_schema POSTGRESQL = {"embedd_rollout", STEPS, 1};

static const emb_db_options OPTIONS = {"the rollout's store",
                                       {.schema = &SQLITE, .durable = true},
                                       2,
                                       {.connections = 2, .schema = &POSTGRESQL}};

emb_status emb_rollout_store_open(const char *url, emb_db **out, emb_error *err)
{
    return emb_db_open(url, &OPTIONS, out, err);
}

/* ---- the parts of a row ---- */

int64_t emb_rollout_to_share(double percentage)
{
    return llround(percentage * EMB_ROLLOUT_SHARE_ONE);
}

double emb_rollout_from_share(int64_t share)
{
    return share < 0 ? (double)NAN : (double)share / EMB_ROLLOUT_SHARE_ONE;
}

void emb_rollout_write_schedule(const emb_rollout_state *state, char out[EMB_ROLLOUT_SCHEDULE_TEXT])
{
    size_t at = 0;
    *out = 0;
    for (size_t i = 0; i < state->steps; i++)
        at +=
            (size_t)snprintf(out + at, EMB_ROLLOUT_SCHEDULE_TEXT - at, "%s%" PRId64 ":%" PRIu64, i ? " " : "",
                             emb_rollout_to_share(state->schedule[i].percentage), state->schedule[i].hold_s);
}

static bool read_schedule(const char *text, emb_rollout_state *state)
{
    char *end;
    for (state->steps = 0; *text; state->steps++) {
        if (state->steps == EMB_ROLLOUT_STEPS_MAX)
            return false;
        long long share = strtoll(text, &end, 10);
        if (end == text || *end != ':' || share < 0 || share > 100ll * EMB_ROLLOUT_SHARE_ONE)
            return false;
        text = end + 1;
        unsigned long long hold = strtoull(text, &end, 10);
        if (end == text || (*end && *end != ' ') || hold > INT32_MAX)
            return false;
        text = end + (*end == ' ');
        state->schedule[state->steps] = (emb_rollout_step_config){emb_rollout_from_share(share), hold};
    }
    return true;
}

/* A row as it was read; EMB_E_CORRUPT if it cannot have been written by this program, and then only its
 * version is kept, so that it can be written over. */
emb_status emb_rollout_check_state(emb_rollout_state *state, int64_t mode, const char *schedule,
                                   emb_error *err)
{
    bool good = mode >= EMB_ROLLOUT_CONFIGURED && mode <= EMB_ROLLOUT_FINISHED &&
                read_schedule(schedule, state) && state->version > 0 &&
                state->share <= 100ll * EMB_ROLLOUT_SHARE_ONE;
    state->mode = (emb_rollout_mode)mode;
    if (good && mode == EMB_ROLLOUT_SCHEDULED)
        good = state->step < state->steps;
    if (good && mode != EMB_ROLLOUT_CONFIGURED)
        good = state->share >= 0;
    if (good)
        return EMB_OK;
    *state = (emb_rollout_state){.version = state->version, .share = EMB_ROLLOUT_SHARE_CONFIGURED};
    return emb_fail(err, EMB_E_CORRUPT, "rollout",
                    "the stored state of the rollout makes no sense; `embedd rollout clear` "
                    "or `set` writes a new one");
}

void emb_rollout_copy_text(char *out, size_t size, const char *text)
{
    size_t at = 0, length = text ? strlen(text) : 0;
    for (size_t i = 0; i < length;) {
        uint32_t c;
        size_t taken = emb_utf8_decode(text + i, length - i, &c);
        char bytes[4];
        size_t n = emb_utf8_encode(c < ' ' ? ' ' : c, bytes);
        if (at + n >= size)
            break;
        memcpy(out + at, bytes, n);
        at += n;
        i += taken;
    }
    out[at] = 0;
}

/* ---- reading ---- */

#define STATE "version, mode, share, step, step_since, changed_at, verified_at, actor, reason, schedule"
#define EVENT "at, action, share_before, share_after, actor, reason"

static const char *text_at(const emb_db_rows *rows, int column)
{
    const char *text = emb_db_text(rows, column);
    return text ? text : "";
}

static emb_status read_state(const emb_db_rows *r, emb_rollout_state *out, emb_error *err)
{
    int64_t step = emb_db_int(r, 3);
    out->version = emb_db_int(r, 0);
    out->share = emb_db_int(r, 2);
    out->step = step < 0 || step > EMB_ROLLOUT_STEPS_MAX ? EMB_ROLLOUT_STEPS_MAX : (size_t)step;
    out->step_since_s = emb_db_int(r, 4);
    out->changed_s = emb_db_int(r, 5);
    out->verified_s = emb_db_int(r, 6);
    emb_rollout_copy_text(out->actor, sizeof out->actor, emb_db_text(r, 7));
    emb_rollout_copy_text(out->reason, sizeof out->reason, emb_db_text(r, 8));
    return emb_rollout_check_state(out, emb_db_int(r, 1), text_at(r, 9), err);
}

emb_status emb_rollout_store_load(emb_db *store, uint64_t deadline_ns, emb_rollout_state *out, emb_error *err)
{
    static const emb_db_statement LOAD = {
        {"embedd_rollout_load", "SELECT " STATE " FROM embedd_rollout WHERE id = 1"},
        "SELECT " STATE " FROM rollout_state WHERE id = 1"};
    emb_db_rows rows;
    memset(out, 0, sizeof *out);
    out->share = EMB_ROLLOUT_SHARE_CONFIGURED;
    emb_status st = emb_db_query(store, &LOAD, NULL, 0, deadline_ns, &rows, err), done;
    if (st != EMB_OK)
        return st;
    if (emb_db_next(&rows, err))
        st = read_state(&rows, out, err);
    done = emb_db_done(&rows);
    return st ? st : done;
}

static emb_status copy_text(emb_arena *arena, const char *text, const char **out, emb_error *err)
{
    *out = emb_arena_strndup(arena, text, strlen(text));
    return *out ? EMB_OK : emb_fail_nomem(err, "the audit log of the rollout", strlen(text));
}

static emb_status read_event(const emb_db_rows *r, emb_arena *arena, emb_rollout_event *e, emb_error *err)
{
    emb_status st;
    *e = (emb_rollout_event){.id = emb_db_int(r, 0),
                             .time_s = emb_db_int(r, 1),
                             .from = emb_rollout_from_share(emb_db_int(r, 3)),
                             .to = emb_rollout_from_share(emb_db_int(r, 4))};
    if ((st = copy_text(arena, text_at(r, 2), &e->action, err)) ||
        (st = copy_text(arena, text_at(r, 5), &e->actor, err)))
        return st;
    return copy_text(arena, text_at(r, 6), &e->reason, err);
}

emb_status emb_rollout_store_audit(emb_db *store, uint64_t deadline_ns, size_t limit, emb_arena *arena,
                                   emb_rollout_event **out, size_t *count, emb_error *err)
{
    static const emb_db_statement AUDIT = {
        {"embedd_rollout_audit",
         "SELECT id, " EVENT " FROM embedd_rollout_audit ORDER BY id DESC LIMIT $1::int8"},
        "SELECT id, " EVENT " FROM rollout_audit ORDER BY id DESC LIMIT ?1"};
    const emb_param most = emb_param_int((int64_t)limit);
    emb_db_rows rows;
    *count = 0;
    *out = emb_arena_calloc(arena, limit ? limit : 1, sizeof **out);
    if (!*out)
        return emb_fail_nomem(err, "the audit log of the rollout", limit * sizeof **out);
    emb_status st = emb_db_query(store, &AUDIT, &most, 1, deadline_ns, &rows, err), done;
    if (st != EMB_OK)
        return st;
    while (st == EMB_OK && *count < limit && emb_db_next(&rows, err))
        if ((st = read_event(&rows, arena, &(*out)[*count], err)) == EMB_OK)
            ++*count;
    done = emb_db_done(&rows);
    return st ? st : done;
}

/* ---- writing ---- */

/* The parameters 1 to 10 are the state, 11 to 16 the event. */
enum { STATE_VALUES = 10, EVENT_VALUES = 6 };
#define OVER                                                                                         \
    "ON CONFLICT (id) DO UPDATE SET version = excluded.version, mode = excluded.mode, "              \
    "share = excluded.share, step = excluded.step, step_since = excluded.step_since, "               \
    "changed_at = excluded.changed_at, verified_at = excluded.verified_at, actor = excluded.actor, " \
    "reason = excluded.reason, schedule = excluded.schedule WHERE "

static emb_status save_sqlite(emb_sqlite *db, const emb_param *values, bool *won, emb_error *err)
{
    static const char WRITE[] =
        "INSERT INTO rollout_state (id, " STATE ") VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) " OVER
        "rollout_state.version = excluded.version - 1";
    static const char LOG[] = "INSERT INTO rollout_audit (" EVENT ") VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    emb_status st = emb_sql_call(db, WRITE, values, STATE_VALUES, err);
    *won = st == EMB_OK && emb_sqlite_changes(db) == 1;
    return *won ? emb_sql_call(db, LOG, values + STATE_VALUES, EVENT_VALUES, err) : st;
}

static emb_status save_postgresql(emb_pg *pg, uint64_t deadline_ns, const emb_param *values, bool *won,
                                  emb_error *err)
{
    static const emb_pg_statement SAVE = {
        "embedd_rollout_save",
        "WITH written AS (INSERT INTO embedd_rollout AS r (id, " STATE ") VALUES (1, $1::int8, $2::int8, "
        "$3::int8, $4::int8, $5::int8, $6::int8, $7::int8, $8::text, $9::text, $10::text) " OVER
        "r.version = excluded.version - 1 RETURNING version) INSERT INTO embedd_rollout_audit (" EVENT ") "
        "SELECT $11::int8, $12::text, $13::int8, $14::int8, $15::text, $16::text FROM written RETURNING id"};
    int64_t line;
    emb_status st = emb_pg_ask(pg, &SAVE, values, STATE_VALUES + EVENT_VALUES, deadline_ns, &line, err);
    *won = st == EMB_OK && line > 0;
    return st;
}

emb_status emb_rollout_store_save(emb_db *store, uint64_t deadline_ns, const emb_rollout_state *next,
                                  const emb_rollout_change *change, bool *won, emb_error *err)
{
    char schedule[EMB_ROLLOUT_SCHEDULE_TEXT];
    emb_rollout_write_schedule(next, schedule);
    const emb_param values[STATE_VALUES + EVENT_VALUES] = {
        emb_param_int(next->version),       emb_param_int(next->mode),         emb_param_int(next->share),
        emb_param_int((int64_t)next->step), emb_param_int(next->step_since_s), emb_param_int(next->changed_s),
        emb_param_int(next->verified_s),    emb_param_text(next->actor),       emb_param_text(next->reason),
        emb_param_text(schedule),           emb_param_int(change->time_s),     emb_param_text(change->action),
        emb_param_int(change->from),        emb_param_int(change->to),         emb_param_text(change->actor),
        emb_param_text(change->reason)};
    emb_sqlite_pool *pool = emb_db_sqlite(store);
    emb_sqlite *db;
    *won = false;
    if (!pool)
        return save_postgresql(emb_db_postgresql(store), deadline_ns, values, won, err);
    emb_status st = emb_sqlite_enter(pool, deadline_ns, &db, err);
    if (st == EMB_OK)
        st = emb_sqlite_leave(pool, db, save_sqlite(db, values, won, err), err);
    *won = *won && st == EMB_OK;
    return st;
}
