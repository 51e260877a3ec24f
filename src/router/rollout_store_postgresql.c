/*
 * rollout_store_postgresql.c: the rollout in PostgreSQL, for instances on several machines.
 *
 *     embedd_rollout        one row, id 1: the state and its version
 *     embedd_rollout_audit  what was done, by whom and why
 *
 * A save is one statement: an upsert whose update asks for the version before, and an insert into the log of
 * what the upsert returned. So the log has a line if and only if the state was written, in one round trip.
 */
#include "router/rollout_store.h"

#include "base/error.h"
#include "store/postgresql.h"

#include <stdlib.h>
#include <string.h>

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
static const emb_pg_schema SCHEMA = {"embedd_rollout", STEPS, 1};

static const emb_pg_statement LOAD = {
    "embedd_rollout_load", "SELECT version, mode, share, step, step_since, changed_at, verified_at, actor, "
                           "reason, schedule FROM embedd_rollout WHERE id = 1"};
static const emb_pg_statement SAVE = {
    "embedd_rollout_save",
    "WITH written AS (INSERT INTO embedd_rollout AS r (id, version, mode, share, step, step_since, "
    "changed_at, verified_at, "
    "actor, reason, schedule) VALUES (1, $1::int8, $2::int8, $3::int8, $4::int8, $5::int8, $6::int8, "
    "$7::int8, $8::text, "
    "$9::text, $10::text) ON CONFLICT (id) DO UPDATE SET version = excluded.version, mode = excluded.mode, "
    "share = excluded.share, step = excluded.step, step_since = excluded.step_since, changed_at = "
    "excluded.changed_at, "
    "verified_at = excluded.verified_at, actor = excluded.actor, reason = excluded.reason, schedule = "
    "excluded.schedule "
    "WHERE r.version = excluded.version - 1 RETURNING version) "
    "INSERT INTO embedd_rollout_audit (at, action, share_before, share_after, actor, reason) "
    "SELECT $11::int8, $12::text, $13::int8, $14::int8, $15::text, $16::text FROM written RETURNING id"};
static const emb_pg_statement AUDIT = {"embedd_rollout_audit",
                                       "SELECT id, at, action, share_before, share_after, actor, reason "
                                       "FROM embedd_rollout_audit ORDER BY id DESC LIMIT $1::int8"};

typedef struct pg_store {
    emb_rollout_store base;
    emb_pg *pg;
} pg_store;

static void pg_close(emb_rollout_store *store)
{
    emb_pg_close(((pg_store *)store)->pg);
    free(store);
}

static emb_status pg_open(const char *url, emb_rollout_store **out, emb_error *err)
{
    const emb_pg_options options = {.connections = 2, .schema = &SCHEMA};
    pg_store *s = calloc(1, sizeof *s);
    if (!s)
        return emb_fail_nomem(err, "the rollout's store", sizeof *s);
    s->base.kind = &emb_rollout_postgresql;
    emb_status st = emb_pg_open(url, &options, &s->pg, err);
    if (st != EMB_OK)
        free(s);
    else
        *out = &s->base;
    return st;
}

/* A text column; "" for NULL. */
static const char *column(const emb_pg_result *result, size_t row, int number)
{
    size_t length;
    const char *text = emb_pg_bytes(result, row, number, &length);
    return text ? text : "";
}

static emb_status read_row(const emb_pg_result *r, emb_rollout_state *out, emb_error *err)
{
    int64_t step = emb_pg_int(r, 0, 3);
    out->version = emb_pg_int(r, 0, 0);
    out->share = emb_pg_int(r, 0, 2);
    out->step = step < 0 || step > EMB_ROLLOUT_STEPS_MAX ? EMB_ROLLOUT_STEPS_MAX : (size_t)step;
    out->step_since_s = emb_pg_int(r, 0, 4);
    out->changed_s = emb_pg_int(r, 0, 5);
    out->verified_s = emb_pg_int(r, 0, 6);
    emb_rollout_copy_text(out->actor, sizeof out->actor, column(r, 0, 7));
    emb_rollout_copy_text(out->reason, sizeof out->reason, column(r, 0, 8));
    return emb_rollout_check_state(out, emb_pg_int(r, 0, 1), column(r, 0, 9), err);
}

static emb_status pg_load(emb_rollout_store *store, uint64_t deadline_ns, emb_rollout_state *out,
                          emb_error *err)
{
    emb_pg_result *r;
    memset(out, 0, sizeof *out);
    out->share = EMB_ROLLOUT_SHARE_CONFIGURED;
    emb_status st = emb_pg_call(((pg_store *)store)->pg, &LOAD, NULL, 0, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    if (emb_pg_rows(r))
        st = read_row(r, out, err);
    emb_pg_result_free(r);
    return st;
}

static emb_pg_param text_param(const char *text)
{
    return (emb_pg_param){text, strlen(text)};
}

static emb_status pg_save(emb_rollout_store *store, uint64_t deadline_ns, const emb_rollout_state *next,
                          const emb_rollout_change *change, bool *won, emb_error *err)
{
    char schedule[EMB_ROLLOUT_SCHEDULE_TEXT];
    const int64_t numbers[10] = {next->version,      next->mode,      next->share,      (int64_t)next->step,
                                 next->step_since_s, next->changed_s, next->verified_s, change->time_s,
                                 change->from,       change->to};
    emb_pg_int64 wire[10];
    emb_pg_param params[16];
    emb_pg_result *r;
    emb_rollout_write_schedule(next, schedule);
    for (int i = 0; i < 10; i++)
        wire[i] = emb_pg_int64_of(numbers[i]);
    for (int i = 0; i < 7; i++)
        params[i] = (emb_pg_param){&wire[i], sizeof wire[i]};
    params[7] = text_param(next->actor);
    params[8] = text_param(next->reason);
    params[9] = text_param(schedule);
    params[10] = (emb_pg_param){&wire[7], sizeof wire[7]};
    params[11] = text_param(change->action);
    params[12] = (emb_pg_param){&wire[8], sizeof wire[8]};
    params[13] = (emb_pg_param){&wire[9], sizeof wire[9]};
    params[14] = text_param(change->actor);
    params[15] = text_param(change->reason);
    *won = false;
    emb_status st = emb_pg_call(((pg_store *)store)->pg, &SAVE, params, 16, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    *won = emb_pg_rows(r) == 1;
    emb_pg_result_free(r);
    return EMB_OK;
}

static emb_status read_event(const emb_pg_result *r, size_t row, emb_arena *arena, emb_rollout_event *e,
                             emb_error *err)
{
    emb_status st;
    *e = (emb_rollout_event){.id = emb_pg_int(r, row, 0),
                             .time_s = emb_pg_int(r, row, 1),
                             .from = emb_rollout_from_share(emb_pg_int(r, row, 3)),
                             .to = emb_rollout_from_share(emb_pg_int(r, row, 4))};
    if ((st = emb_rollout_event_text(arena, column(r, row, 2), &e->action, err)) ||
        (st = emb_rollout_event_text(arena, column(r, row, 5), &e->actor, err)))
        return st;
    return emb_rollout_event_text(arena, column(r, row, 6), &e->reason, err);
}

static emb_status pg_audit(emb_rollout_store *store, uint64_t deadline_ns, size_t limit, emb_arena *arena,
                           emb_rollout_event **out, size_t *count, emb_error *err)
{
    emb_pg_int64 rows = emb_pg_int64_of((int64_t)limit);
    emb_pg_param param = {&rows, sizeof rows};
    emb_pg_result *r;
    *count = 0;
    emb_status st = emb_pg_call(((pg_store *)store)->pg, &AUDIT, &param, 1, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    st = emb_rollout_events(arena, emb_pg_rows(r), out, err);
    for (size_t i = 0; st == EMB_OK && i < emb_pg_rows(r); i++)
        if ((st = read_event(r, i, arena, &(*out)[i], err)) == EMB_OK)
            *count = i + 1;
    emb_pg_result_free(r);
    return st;
}

const emb_rollout_store_kind emb_rollout_postgresql = {
    "postgresql,postgres", pg_open, pg_close, pg_load, pg_save, pg_audit};
