/*
 * A budget in PostgreSQL, shared by any number of machines.
 *
 *     embedd_budget_total    day, scope → spent, reserved
 *     embedd_budget_ticket   id → day, nusd, state, until, scopes
 *
 * `state` of a ticket: 0 reserved, 1 given up (`nusd` is what was counted for it), 2 done, kept so that it is
 * not done again. Times are the server's.
 *
 * A reserve is one statement and one round trip: it locks the totals' rows, sees what they hold at that
 * moment, and changes them and adds the ticket if all fit. (Under READ COMMITTED a row that was locked or is
 * updated is read again as it is now, not as in the statement's snapshot.) Rows that a day does not have yet
 * are made first, once a day and scope, and the statement runs again.
 *
 * Settling and expiring change many rows by what they find in others, for which the snapshot must be taken
 * after the locks: they are functions in SQL, each of whose statements takes its own. All three lock the
 * totals first, ordered by day and scope, and touch a ticket only under the locks of its totals; so nothing
 * deadlocks and a ticket counts once.
 *
 * The rows of "global" are everybody's: reserves of all processes pass one after another, some thousands a
 * second. For that reason commits do not wait for the server's disk (synchronous_commit off): a crash of the
 * server costs the last moments of counting, as with SQLite.
 */
#include "base/error.h"
#include "router/budget_contact.h"
#include "router/budget_store.h"
#include "store/postgresql.h"

#include <stdlib.h>
#include <string.h>

static const char *const STEPS[] = {
    "CREATE TABLE embedd_budget_total ("
    " day integer NOT NULL,"
    " scope text COLLATE \"C\" NOT NULL,"
    " spent bigint NOT NULL DEFAULT 0,"
    " reserved bigint NOT NULL DEFAULT 0,"
    " PRIMARY KEY (day, scope)) WITH (fillfactor = 50);"
    "CREATE TABLE embedd_budget_ticket ("
    " id bytea PRIMARY KEY,"
    " day integer NOT NULL,"
    " nusd bigint NOT NULL,"
    " state integer NOT NULL,"
    " until timestamptz NOT NULL,"
    " scopes text[] NOT NULL);"
    "CREATE INDEX embedd_budget_ticket_until ON embedd_budget_ticket (state, until);"
    /* p_tickets[i] is the number of the settlement that p_names[i] belongs to. */
    "CREATE FUNCTION embedd_budget_settle(p_ids bytea[], p_days int4[], p_actual int8[], p_unsure int4[],"
    " p_tickets int4[], p_names text[]) RETURNS int8 LANGUAGE sql VOLATILE AS $f$ "
    "SELECT 1 FROM embedd_budget_total t WHERE (t.day, t.scope) IN "
    " (SELECT p_days[n.ticket], n.name FROM unnest(p_tickets, p_names) AS n(ticket, name)) "
    " ORDER BY t.day, t.scope FOR UPDATE; "
    "WITH ops AS (SELECT DISTINCT ON (o.id) o.id, o.actual, o.unsure FROM "
    "  unnest(p_ids, p_actual, p_unsure) WITH ORDINALITY AS o(id, actual, unsure, n) ORDER BY o.id, o.n), "
    " was AS (SELECT k.id, k.day, k.scopes, k.state, k.nusd, o.actual, o.unsure FROM ops o JOIN "
    "embedd_budget_ticket k "
    "  ON k.id = o.id WHERE k.state < 2), "
    " settled AS (DELETE FROM embedd_budget_ticket k USING was WHERE k.id = was.id AND was.state = 0 "
    "  AND was.unsure = 0), "
    " kept AS (UPDATE embedd_budget_ticket k SET state = 2, until = now() + interval '2 days' FROM was "
    "  WHERE k.id = was.id AND was.state = 0 AND was.unsure > 0), "
    " late AS (UPDATE embedd_budget_ticket k SET state = 2 FROM was WHERE k.id = was.id AND was.state = 1), "
    " refused AS (INSERT INTO embedd_budget_ticket (id, day, nusd, state, until, scopes) "
    "  SELECT o.id, 0, 0, 2, now() + interval '2 days', '{}' FROM ops o WHERE o.unsure = 1 ON CONFLICT DO "
    "NOTHING), "
    " sums AS (SELECT was.day, s.scope, sum(CASE was.state WHEN 0 THEN was.nusd ELSE 0 END)::int8 AS back, "
    "  sum(was.actual - CASE was.state WHEN 1 THEN was.nusd ELSE 0 END)::int8 AS spent "
    "  FROM was, unnest(was.scopes) AS s(scope) GROUP BY was.day, s.scope) "
    "UPDATE embedd_budget_total t SET reserved = t.reserved - sums.back, spent = t.spent + sums.spent "
    " FROM sums WHERE t.day = sums.day AND t.scope = sums.scope; "
    "SELECT 1::int8 $f$;"
    "CREATE FUNCTION embedd_budget_expire(p_spend int4, p_most int8) RETURNS int8 LANGUAGE sql VOLATILE AS "
    "$f$ "
    "SELECT 1 FROM embedd_budget_total t WHERE (t.day, t.scope) IN "
    " (SELECT k.day, s.scope FROM embedd_budget_ticket k, unnest(k.scopes) AS s(scope) "
    "  WHERE k.state = 0 AND k.until <= now()) ORDER BY t.day, t.scope FOR UPDATE; "
    "WITH over AS (SELECT k.id, k.nusd FROM embedd_budget_ticket k WHERE k.state = 0 AND k.until <= now() "
    "  ORDER BY k.until LIMIT p_most), "
    " gone AS (UPDATE embedd_budget_ticket k SET state = 1, nusd = over.nusd * p_spend, "
    "  until = now() + interval '2 days' FROM over WHERE k.id = over.id RETURNING k.day, k.scopes, "
    "over.nusd), "
    " sums AS (SELECT gone.day, s.scope, sum(gone.nusd)::int8 AS back FROM gone, unnest(gone.scopes) AS "
    "s(scope) "
    "  GROUP BY gone.day, s.scope), "
    " changed AS (UPDATE embedd_budget_total t SET reserved = t.reserved - sums.back, "
    "  spent = t.spent + sums.back * p_spend FROM sums WHERE t.day = sums.day AND t.scope = sums.scope) "
    "SELECT count(*)::int8 FROM gone $f$",
};
static const emb_pg_schema SCHEMA = {"embedd_budget", STEPS, 1};

/* $1 id, $2 day, $3 amount, $4 seconds it lasts, $5 scopes, $6 limits (under 0: none). One row a scope, in
 * order: spent, reserved, whether the row is missing, whether it does not fit, whether the reservation is
 * made. */
static const emb_pg_statement RESERVE = {
    "embedd_budget_reserve",
    "WITH want AS (SELECT * FROM unnest($5::text[], $6::int8[]) WITH ORDINALITY AS w(scope, most, n)), "
    "l AS MATERIALIZED (SELECT t.scope, t.spent, t.reserved FROM embedd_budget_total t WHERE t.day = "
    "$2::int4 "
    " AND t.scope = ANY ($5::text[]) ORDER BY t.scope FOR UPDATE), "
    "seen AS MATERIALIZED (SELECT w.scope, w.n, l.spent, l.reserved, l.scope IS NULL AS missing, "
    " w.most >= 0 AND l.spent + l.reserved + $3::int8 > w.most AS over FROM want w LEFT JOIN l ON l.scope = "
    "w.scope), "
    "made AS (INSERT INTO embedd_budget_ticket (id, day, nusd, state, until, scopes) "
    " SELECT $1::bytea, $2::int4, $3::int8, 0, clock_timestamp() + $4::int8 * interval '1 second', "
    "$5::text[] "
    " WHERE NOT EXISTS (SELECT FROM seen WHERE missing OR over) ON CONFLICT DO NOTHING RETURNING id), "
    "changed AS (UPDATE embedd_budget_total t SET reserved = t.reserved + $3::int8 FROM l, made "
    " WHERE t.day = $2::int4 AND t.scope = l.scope) "
    "SELECT spent, reserved, missing::int4, coalesce(over, false)::int4, (EXISTS (SELECT FROM made) OR "
    "EXISTS "
    "(SELECT FROM embedd_budget_ticket k WHERE k.id = $1::bytea AND k.state = 0))::int4 FROM seen ORDER BY "
    "n"};
static const emb_pg_statement MAKE = {
    "embedd_budget_make",
    "INSERT INTO embedd_budget_total (day, scope) SELECT $1::int4, w.scope FROM "
    "unnest($2::text[]) AS w(scope) ORDER BY w.scope COLLATE \"C\" ON CONFLICT DO NOTHING"};
static const emb_pg_statement SETTLE = {
    "embedd_budget_settle",
    "SELECT embedd_budget_settle($1::bytea[], $2::int4[], $3::int8[], $4::int4[], $5::int4[], $6::text[])"};
static const emb_pg_statement EXPIRE = {"embedd_budget_expire",
                                        "SELECT embedd_budget_expire($1::int4, $2::int8)"};
/* Most of the time there is nothing, and a look costs less than the function. */
static const emb_pg_statement IS_OVER = {
    "embedd_budget_is_over", "SELECT 1 FROM embedd_budget_ticket WHERE state = 0 AND until <= now() LIMIT 1"};
static const emb_pg_statement READ = {
    "embedd_budget_read", "SELECT scope, spent, reserved FROM embedd_budget_total WHERE day = $1::int4"};
static const emb_pg_statement TIDY = {
    "embedd_budget_tidy", "WITH t AS (DELETE FROM embedd_budget_ticket WHERE state > 0 AND until <= now()) "
                          "DELETE FROM embedd_budget_total WHERE day < $1::int4"};

enum { CONNECTIONS = EMB_BUDGET_TURNS + 2 }; /* the thread's, and one for who wants to read */

typedef struct pg_store {
    emb_budget_store base;
    emb_budget_store_options options;
    emb_pg *pg;
} pg_store;

/* ---- reserve ---- */

/* *missing: rows have to be made first. */
static emb_status reserve_once(pg_store *q, emb_budget_order *o, const emb_param params[6], bool *missing,
                               uint64_t deadline_ns, emb_error *err)
{
    emb_pg_result *r;
    emb_status st = emb_pg_call(q->pg, &RESERVE, params, 6, deadline_ns, &r, err);
    *missing = false;
    if (st != EMB_OK)
        return st;
    bool over = false, made = false;
    size_t rows = emb_pg_rows(r);
    for (size_t i = 0; i < rows && i < o->count; i++) {
        o->wants[i].use = (emb_budget_use){(uint64_t)emb_pg_int(r, i, 0), (uint64_t)emb_pg_int(r, i, 1)};
        *missing = *missing || emb_pg_int(r, i, 2);
        if (emb_pg_int(r, i, 3) && !over) {
            over = true;
            o->refusing = i;
        }
        made = emb_pg_int(r, i, 4) != 0;
    }
    emb_pg_result_free(r);
    for (size_t i = 0; made && i < o->count; i++)
        o->wants[i].use.reserved_nusd += o->nusd;
    o->granted = made;
    if (rows != o->count || (!made && !over && !*missing))
        return emb_fail(err, EMB_E_CORRUPT, emb_pg_where(q->pg),
                        "%s did neither make a reservation nor refuse it", emb_pg_where(q->pg));
    return EMB_OK;
}

static emb_status pg_reserve(emb_budget_store *store, emb_budget_order *o, uint64_t deadline_ns,
                             emb_error *err)
{
    pg_store *q = (pg_store *)store;
    enum { SCOPES, LIMITS, LISTS };
    static const uint32_t TYPES[LISTS] = {EMB_PG_TEXT, EMB_PG_INT8};
    emb_pg_array lists[LISTS];
    emb_param p[4 + LISTS] = {emb_param_bytes(o->id, 16), emb_param_int4(o->day),
                              emb_param_int((int64_t)o->nusd), emb_param_int(q->options.reservation_s)};
    bool missing = true;
    o->granted = false;
    emb_pg_arrays_init(lists, TYPES, LISTS);
    for (size_t i = 0; i < o->count; i++) {
        emb_pg_array_add(&lists[SCOPES], o->wants[i].name, strlen(o->wants[i].name));
        emb_pg_array_add_int8(&lists[LIMITS], o->wants[i].limit);
    }
    emb_status st = emb_pg_arrays_params(lists, LISTS, p + 4, err);
    for (int i = 0; st == EMB_OK && missing && i < 3; i++) {
        const emb_param rows[] = {p[1], p[4 + SCOPES]};
        st = reserve_once(q, o, p, &missing, deadline_ns, err);
        if (st == EMB_OK && missing)
            st = emb_pg_call(q->pg, &MAKE, rows, 2, deadline_ns, NULL, err);
    }
    emb_pg_arrays_fini(lists, LISTS);
    if (st == EMB_OK && missing)
        return emb_fail(err, EMB_E_CORRUPT, emb_pg_where(q->pg), "%s does not keep a budget's rows",
                        emb_pg_where(q->pg));
    return st;
}

/* ---- the others ---- */

enum { ID, DAY, ACTUAL, UNSURE, TICKET, NAME, COLUMNS };

static void add_settlement(emb_pg_array c[COLUMNS], const emb_budget_settlement *s, int32_t number)
{
    const char *name = s->names;
    emb_pg_array_add(&c[ID], s->id, 16);
    emb_pg_array_add_int4(&c[DAY], s->day);
    emb_pg_array_add_int8(&c[ACTUAL], (int64_t)s->actual_nusd);
    emb_pg_array_add_int4(&c[UNSURE], (int32_t)s->sureness);
    for (uint32_t i = 0; i < s->count; i++, name += strlen(name) + 1) {
        emb_pg_array_add_int4(&c[TICKET], number);
        emb_pg_array_add(&c[NAME], name, strlen(name));
    }
}

static emb_status pg_settle(emb_budget_store *store, const emb_budget_settlement *list, size_t count,
                            uint64_t deadline_ns, emb_error *err)
{
    static const uint32_t TYPES[COLUMNS] = {EMB_PG_BYTEA, EMB_PG_INT4, EMB_PG_INT8,
                                            EMB_PG_INT4,  EMB_PG_INT4, EMB_PG_TEXT};
    pg_store *q = (pg_store *)store;
    emb_pg_array c[COLUMNS];
    emb_param p[COLUMNS];
    emb_pg_arrays_init(c, TYPES, COLUMNS);
    for (size_t i = 0; i < count; i++)
        add_settlement(c, &list[i], (int32_t)i + 1);
    emb_status st = emb_pg_arrays_params(c, COLUMNS, p, err);
    if (st == EMB_OK)
        st = emb_pg_call(q->pg, &SETTLE, p, COLUMNS, deadline_ns, NULL, err);
    emb_pg_arrays_fini(c, COLUMNS);
    return st;
}

static emb_status pg_expire(emb_budget_store *store, uint64_t *count, uint64_t deadline_ns, emb_error *err)
{
    pg_store *q = (pg_store *)store;
    const emb_param p[] = {emb_param_int4(q->options.expired_are_spent),
                           emb_param_int(EMB_BUDGET_EXPIRE_BATCH)};
    int64_t number;
    *count = 0;
    emb_status st = emb_pg_ask(q->pg, &IS_OVER, NULL, 0, deadline_ns, &number, err);
    if (st == EMB_OK && number &&
        (st = emb_pg_ask(q->pg, &EXPIRE, p, 2, deadline_ns, &number, err)) == EMB_OK)
        *count = (uint64_t)number;
    return st;
}

static emb_status pg_read(emb_budget_store *store, int32_t day, emb_budget_seen seen, void *context,
                          uint64_t deadline_ns, emb_error *err)
{
    pg_store *q = (pg_store *)store;
    emb_pg_result *r;
    const emb_param p = emb_param_int4(day);
    emb_status st = emb_pg_call(q->pg, &READ, &p, 1, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    for (size_t i = 0; i < emb_pg_rows(r); i++) {
        const char *scope = emb_pg_text(r, i, 0);
        emb_budget_use use = {(uint64_t)emb_pg_int(r, i, 1), (uint64_t)emb_pg_int(r, i, 2)};
        if (scope)
            seen(context, scope, &use);
    }
    emb_pg_result_free(r);
    return EMB_OK;
}

static emb_status pg_tidy(emb_budget_store *store, int32_t before_day, uint64_t deadline_ns, emb_error *err)
{
    pg_store *q = (pg_store *)store;
    const emb_param p = emb_param_int4(before_day);
    emb_pg_tidy(q->pg);
    return emb_pg_call(q->pg, &TIDY, &p, 1, deadline_ns, NULL, err);
}

static void pg_close(emb_budget_store *store)
{
    pg_store *q = (pg_store *)store;
    emb_pg_close(q->pg);
    free(q);
}

static const emb_budget_store_ops OPS = {true, pg_reserve, pg_settle, pg_expire, pg_read, pg_tidy, pg_close};

emb_status emb_budget_postgresql_open(const char *url, const emb_budget_store_options *options,
                                      emb_budget_store **out, emb_error *err)
{
    pg_store *q = calloc(1, sizeof *q);
    if (!q)
        return emb_fail_nomem(err, "a budget's store", sizeof *q);
    q->base.ops = &OPS;
    q->options = *options;
    const emb_pg_options pg = {.schema = &SCHEMA, .relaxed = true, .connections = CONNECTIONS};
    emb_status st = emb_pg_open(url, &pg, &q->pg, err);
    if (st != EMB_OK) {
        free(q);
        return st;
    }
    *out = &q->base;
    return EMB_OK;
}
