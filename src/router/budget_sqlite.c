/*
 * A budget in SQLite, shared by the processes of one machine (tables: state_sqlite.c).
 *
 * Every step is one transaction that takes the write lock at its beginning (BEGIN IMMEDIATE), so it sees the
 * totals it will change. One connection for each process: SQLite lets one writer in at a time anyway, and
 * threads of a process queue for a connection by a condition variable, while connections wait for each
 * other's locks by sleeping.
 *
 * Commits survive the process but not the loss of power (synchronous=NORMAL), which costs the last moments of
 * counting; waiting for the disk would cost a hundred times the step. A reserve costs some 20 µs.
 */
#include "base/error.h"
#include "router/budget_store.h"
#include "router/state_sqlite.h"
#include "store/url.h"

#include <stdlib.h>
#include <string.h>

typedef struct sqlite_store {
    emb_budget_store base;
    emb_budget_store_options options;
    emb_sqlite_pool *pool;
} sqlite_store;

enum { RESERVED, GONE, DONE };

typedef struct ticket {
    bool found;
    int state;
    int32_t day;
    int64_t nusd;
    size_t length;
    char scopes[EMB_BUDGET_SCOPES * EMB_BUDGET_NAME]; /* each ends with NUL */
} ticket;

/* ---- rows ---- */

static emb_status read_total(emb_sqlite *db, int32_t day, const char *scope, emb_budget_use *out,
                             emb_error *err)
{
    const emb_param values[] = {emb_param_int(day), emb_param_text(scope)};
    emb_sql *s;
    bool row;
    *out = (emb_budget_use){0};
    emb_status st = emb_sql_ask(db, "SELECT spent, reserved FROM budget_total WHERE day = ?1 AND scope = ?2",
                                values, 2, &s, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sql_step(s, &row, err)) == EMB_OK && row)
        *out = (emb_budget_use){(uint64_t)emb_sql_column_int(s, 0), (uint64_t)emb_sql_column_int(s, 1)};
    emb_sql_reset(s);
    return st;
}

static emb_status add_total(emb_sqlite *db, int32_t day, const char *scope, int64_t spent, int64_t reserved,
                            emb_error *err)
{
    const emb_param values[] = {emb_param_int(day), emb_param_text(scope), emb_param_int(spent),
                                emb_param_int(reserved)};
    return emb_sql_call(db,
                        "INSERT INTO budget_total (day, scope, spent, reserved) VALUES (?1, ?2, ?3, ?4) "
                        "ON CONFLICT DO UPDATE SET spent = spent + ?3, reserved = reserved + ?4",
                        values, 4, err);
}

static emb_status add_totals(emb_sqlite *db, int32_t day, const char *scopes, size_t length, int64_t spent,
                             int64_t reserved, emb_error *err)
{
    emb_status st = EMB_OK;
    for (const char *p = scopes; st == EMB_OK && p < scopes + length; p += strlen(p) + 1)
        st = add_total(db, day, p, spent, reserved, err);
    return st;
}

static emb_status read_ticket(emb_sqlite *db, const uint8_t id[16], ticket *out, emb_error *err)
{
    const emb_param of = emb_param_bytes(id, 16);
    emb_sql *s;
    emb_status st =
        emb_sql_ask(db, "SELECT state, day, nusd, scopes FROM budget_ticket WHERE id = ?", &of, 1, &s, err);
    if (st != EMB_OK)
        return st;
    st = emb_sql_step(s, &out->found, err);
    if (st == EMB_OK && out->found) {
        out->state = (int)emb_sql_column_int(s, 0);
        out->day = (int32_t)emb_sql_column_int(s, 1);
        out->nusd = emb_sql_column_int(s, 2);
        const void *scopes = emb_sql_column_bytes(s, 3, &out->length);
        if (out->length > sizeof out->scopes || (out->length && ((const char *)scopes)[out->length - 1]))
            st = emb_fail(err, EMB_E_CORRUPT, "budget_ticket",
                          "a reservation of the budget's store is malformed");
        else if (out->length)
            memcpy(out->scopes, scopes, out->length);
    }
    emb_sql_reset(s);
    return st;
}

static emb_status add_ticket(emb_sqlite *db, const uint8_t id[16], int32_t day, int64_t nusd, int state,
                             int64_t until_ms, const char *scopes, size_t length, emb_error *err)
{
    const emb_param values[] = {emb_param_bytes(id, 16), emb_param_int(day),
                                emb_param_int(nusd),     emb_param_int(state),
                                emb_param_int(until_ms), emb_param_bytes(scopes, length)};
    return emb_sql_call(
        db, "INSERT INTO budget_ticket (id, day, nusd, state, until, scopes) VALUES (?, ?, ?, ?, ?, ?)",
        values, 6, err);
}

static emb_status drop_ticket(emb_sqlite *db, const uint8_t id[16], emb_error *err)
{
    const emb_param of = emb_param_bytes(id, 16);
    return emb_sql_call(db, "DELETE FROM budget_ticket WHERE id = ?", &of, 1, err);
}

static emb_status change_ticket(emb_sqlite *db, const uint8_t id[16], int state, int64_t nusd,
                                int64_t until_ms, emb_error *err)
{
    const emb_param values[] = {emb_param_int(state), emb_param_int(nusd), emb_param_int(until_ms),
                                emb_param_bytes(id, 16)};
    return emb_sql_call(db, "UPDATE budget_ticket SET state = ?, nusd = ?, until = ? WHERE id = ?", values, 4,
                        err);
}

/* ---- steps, inside a transaction ---- */

static emb_status reserve(sqlite_store *q, emb_sqlite *db, emb_budget_order *o, emb_error *err)
{
    char scopes[EMB_BUDGET_SCOPES * EMB_BUDGET_NAME];
    size_t length = 0;
    for (size_t i = 0; i < o->count; i++) {
        emb_budget_want *w = &o->wants[i];
        emb_status st = read_total(db, o->day, w->name, &w->use, err);
        if (st != EMB_OK)
            return st;
        if (w->limit >= 0 && w->use.spent_nusd + w->use.reserved_nusd + o->nusd > (uint64_t)w->limit) {
            o->refusing = i;
            return EMB_OK;
        }
        memcpy(scopes + length, w->name, strlen(w->name) + 1);
        length += strlen(w->name) + 1;
    }
    emb_status st = add_totals(db, o->day, scopes, length, 0, (int64_t)o->nusd, err);
    if (st == EMB_OK)
        st = add_ticket(db, o->id, o->day, (int64_t)o->nusd, RESERVED,
                        emb_budget_now_ms(&q->options) + q->options.reservation_s * INT64_C(1000), scopes,
                        length, err);
    for (size_t i = 0; i < o->count; i++)
        o->wants[i].use.reserved_nusd += o->nusd;
    o->granted = st == EMB_OK;
    return st;
}

static emb_status settle(sqlite_store *q, emb_sqlite *db, const emb_budget_settlement *s, emb_error *err)
{
    ticket t;
    int64_t actual = (int64_t)s->actual_nusd;
    int64_t until = emb_budget_now_ms(&q->options) + EMB_BUDGET_GONE_S * INT64_C(1000);
    emb_status st = read_ticket(db, s->id, &t, err);
    if (st != EMB_OK)
        return st;
    if (!t.found)
        return s->sureness == EMB_BUDGET_UNSURE ? add_ticket(db, s->id, s->day, 0, DONE, until, "", 0, err)
                                                : EMB_OK;
    if (t.state == DONE)
        return EMB_OK;
    if (t.state == GONE) {
        st = add_totals(db, t.day, t.scopes, t.length, actual - t.nusd, 0, err);
        return st ? st : change_ticket(db, s->id, DONE, 0, until, err);
    }
    st = add_totals(db, t.day, t.scopes, t.length, actual, -t.nusd, err);
    return st ? st : drop_ticket(db, s->id, err);
}

/* The oldest of a state whose time is over; *found false: none. */
static emb_status find_over(emb_sqlite *db, int state, int64_t now_ms, uint8_t id[16], bool *found,
                            emb_error *err)
{
    const emb_param values[] = {emb_param_int(state), emb_param_int(now_ms)};
    emb_sql *s;
    size_t length;
    emb_status st =
        emb_sql_ask(db, "SELECT id FROM budget_ticket WHERE state = ? AND until <= ? ORDER BY until LIMIT 1",
                    values, 2, &s, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sql_step(s, found, err)) == EMB_OK && *found) {
        const void *bytes = emb_sql_column_bytes(s, 0, &length);
        *found = length == 16;
        if (*found)
            memcpy(id, bytes, 16);
    }
    emb_sql_reset(s);
    return st;
}

static emb_status give_up(sqlite_store *q, emb_sqlite *db, const uint8_t id[16], int64_t now_ms,
                          emb_error *err)
{
    ticket t;
    emb_status st = read_ticket(db, id, &t, err);
    if (st != EMB_OK)
        return st;
    int64_t counted = q->options.expired_are_spent ? t.nusd : 0;
    st = add_totals(db, t.day, t.scopes, t.length, counted, -t.nusd, err);
    return st ? st : change_ticket(db, id, GONE, counted, now_ms + EMB_BUDGET_GONE_S * INT64_C(1000), err);
}

static emb_status expire(sqlite_store *q, emb_sqlite *db, uint64_t *count, emb_error *err)
{
    uint8_t id[16];
    bool found = true;
    int64_t now = emb_budget_now_ms(&q->options);
    emb_status st = EMB_OK;
    while (st == EMB_OK && *count < EMB_BUDGET_EXPIRE_BATCH) {
        st = find_over(db, RESERVED, now, id, &found, err);
        if (st != EMB_OK || !found)
            break;
        st = give_up(q, db, id, now, err);
        ++*count;
    }
    return st;
}

static emb_status tidy(sqlite_store *q, emb_sqlite *db, int32_t before_day, emb_error *err)
{
    const emb_param day = emb_param_int(before_day), now = emb_param_int(emb_budget_now_ms(&q->options));
    emb_status st = emb_sql_call(db, "DELETE FROM budget_total WHERE day < ?", &day, 1, err);
    return st ? st
              : emb_sql_call(db, "DELETE FROM budget_ticket WHERE state > 0 AND until <= ?", &now, 1, err);
}

/* ---- transactions ---- */

static emb_status sqlite_reserve(emb_budget_store *store, emb_budget_order *o, uint64_t deadline_ns,
                                 emb_error *err)
{
    sqlite_store *q = (sqlite_store *)store;
    emb_sqlite *db;
    o->granted = false;
    emb_status st = emb_sqlite_enter(q->pool, deadline_ns, &db, err);
    return st ? st : emb_sqlite_leave(q->pool, db, reserve(q, db, o, err), err);
}

static emb_status sqlite_settle(emb_budget_store *store, const emb_budget_settlement *list, size_t count,
                                uint64_t deadline_ns, emb_error *err)
{
    sqlite_store *q = (sqlite_store *)store;
    emb_sqlite *db;
    emb_status st = emb_sqlite_enter(q->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    for (size_t i = 0; st == EMB_OK && i < count; i++)
        st = settle(q, db, &list[i], err);
    return emb_sqlite_leave(q->pool, db, st, err);
}

/* Looks before it takes the write lock: mostly there is nothing. */
static emb_status sqlite_expire(emb_budget_store *store, uint64_t *count, uint64_t deadline_ns,
                                emb_error *err)
{
    sqlite_store *q = (sqlite_store *)store;
    emb_sqlite *db;
    uint8_t id[16];
    bool found = false;
    *count = 0;
    emb_status st = emb_sqlite_acquire(q->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    st = find_over(db, RESERVED, emb_budget_now_ms(&q->options), id, &found, err);
    if (st == EMB_OK && found && (st = emb_sqlite_begin(db, true, err)) == EMB_OK)
        st = emb_sqlite_end(db, expire(q, db, count, err), err);
    emb_sqlite_release(q->pool, db);
    return st;
}

static emb_status sqlite_read(emb_budget_store *store, int32_t day, emb_budget_seen seen, void *context,
                              uint64_t deadline_ns, emb_error *err)
{
    sqlite_store *q = (sqlite_store *)store;
    emb_sqlite *db;
    emb_sql *s;
    bool row = true;
    const emb_param of = emb_param_int(day);
    emb_status st = emb_sqlite_acquire(q->pool, deadline_ns, &db, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_sql_ask(db, "SELECT scope, spent, reserved FROM budget_total WHERE day = ?", &of, 1, &s,
                          err)) == EMB_OK) {
        while ((st = emb_sql_step(s, &row, err)) == EMB_OK && row) {
            emb_budget_use use = {(uint64_t)emb_sql_column_int(s, 1), (uint64_t)emb_sql_column_int(s, 2)};
            const char *scope = emb_sql_column_text(s, 0, NULL);
            if (scope)
                seen(context, scope, &use);
        }
        emb_sql_reset(s);
    }
    emb_sqlite_release(q->pool, db);
    return st;
}

static emb_status sqlite_tidy(emb_budget_store *store, int32_t before_day, uint64_t deadline_ns,
                              emb_error *err)
{
    sqlite_store *q = (sqlite_store *)store;
    emb_sqlite *db;
    emb_status st = emb_sqlite_enter(q->pool, deadline_ns, &db, err);
    return st ? st : emb_sqlite_leave(q->pool, db, tidy(q, db, before_day, err), err);
}

static void sqlite_close(emb_budget_store *store)
{
    sqlite_store *q = (sqlite_store *)store;
    emb_sqlite_pool_close(q->pool);
    free(q);
}

static const emb_budget_store_ops OPS = {false,       sqlite_reserve, sqlite_settle, sqlite_expire,
                                         sqlite_read, sqlite_tidy,    sqlite_close};

emb_status emb_budget_sqlite_open(const char *url, const emb_budget_store_options *options,
                                  emb_budget_store **out, emb_error *err)
{
    sqlite_store *q = calloc(1, sizeof *q);
    if (!q)
        return emb_fail_nomem(err, "a budget's store", sizeof *q);
    q->base.ops = &OPS;
    q->options = *options;
    emb_status st = emb_sqlite_pool_open(
        emb_url_sqlite_path(url), &(emb_sqlite_options){.schema = &emb_state_schema}, 1, &q->pool, err);
    if (st != EMB_OK) {
        free(q);
        return st;
    }
    *out = &q->base;
    return EMB_OK;
}
