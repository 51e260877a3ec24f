/*
 * The store: URL, pool, setting up of connections, schema, calls, parameters; one connection is
 * postgresql_link.c.
 *
 * The schema is looked at by every new connection until one found it up to date: one small SELECT. Only
 * what is missing is made, under one advisory lock for all schemas (they share the table of versions, and
 * even CREATE TABLE IF NOT EXISTS fails where two make it at once), with the version looked at again
 * behind the lock. This has more time than connecting has, for on a slow disk creating tables takes a
 * while, and giving up would undo it each time.
 */
#include "store/postgresql.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "store/pool.h"
#include "store/postgresql_link.h"
#include "store/wait.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS = 8, CONNECT_MS = 2000, IDLE_MS = 60000, STATEMENT_MS = 60000, SCHEMA_MS = 30000 };
static const size_t ARRAY_BYTES = (size_t)512 << 20;

/* What dialing needs; the pool has it, and the store looks at `where`. */
typedef struct target {
    char *url;
    char where[128];
    uint32_t statement_ms;
    bool relaxed;
    const emb_pg_schema *schema;
    atomic_bool schema_ready;
} target;

struct emb_pg {
    emb_pool *pool;
    target *target;
};

struct emb_pg_session {
    emb_pg *pg;
    emb_pg_link *link;
    uint64_t deadline_ns;
};

/* ---- setting up a connection ---- */

static emb_status set_up(target *t, emb_pg_link *link, uint64_t deadline_ns, emb_error *err)
{
    char sql[160];
    snprintf(sql, sizeof sql, "SET statement_timeout = %u; SET idle_in_transaction_session_timeout = %u%s",
             t->statement_ms, t->statement_ms, t->relaxed ? "; SET synchronous_commit = off" : "");
    emb_status st = emb_pg_link_plain(link, sql, deadline_ns, NULL, err);
    if (st == EMB_OK &&
        emb_pg_link_version(link) >= 140000) { /* a server on another system than Linux may refuse it */
        st = emb_pg_link_plain(link, "SET client_connection_check_interval = 1000", deadline_ns, NULL, err);
        if (st != EMB_OK && *emb_pg_link_sqlstate(link) && emb_pg_link_usable(link))
            st = EMB_OK;
    }
    return st;
}

static emb_status read_version(target *t, emb_pg_link *link, uint64_t deadline_ns, int64_t *version,
                               emb_error *err)
{
    emb_pg_result *r;
    emb_param name = emb_param_text(t->schema->name);
    *version = 0;
    emb_status st =
        emb_pg_link_params(link, "SELECT version::bigint FROM embedd_schema WHERE name = $1::text", &name, 1,
                           deadline_ns, &r, err);
    if (st == EMB_OK) {
        *version = emb_pg_rows(r) ? emb_pg_int(r, 0, 0) : 0;
        emb_pg_result_free(r);
    }
    return st;
}

static emb_status write_version(target *t, emb_pg_link *link, uint64_t deadline_ns, emb_error *err)
{
    const emb_param params[] = {emb_param_text(t->schema->name), emb_param_int(t->schema->version)};
    return emb_pg_link_params(link,
                              "INSERT INTO embedd_schema (name, version) VALUES ($1::text, $2::bigint) "
                              "ON CONFLICT (name) DO UPDATE SET version = excluded.version",
                              params, 2, deadline_ns, NULL, err);
}

static emb_status take_steps(target *t, emb_pg_link *link, uint64_t deadline_ns, emb_error *err)
{
    int64_t version;
    emb_status st = read_version(t, link, deadline_ns, &version, err);
    if (st != EMB_OK || version >= t->schema->version)
        return st;
    for (int64_t i = version; st == EMB_OK && i < t->schema->version; i++)
        st = emb_pg_link_plain(link, t->schema->steps[i], deadline_ns, NULL, err);
    return st ? st : write_version(t, link, deadline_ns, err);
}

static emb_status migrate(target *t, emb_pg_link *link, uint64_t deadline_ns, emb_error *err)
{
    char lock[96];
    snprintf(lock, sizeof lock, "BEGIN; SELECT pg_advisory_xact_lock(%lld)",
             (long long)emb_hash("embedd_schema", strlen("embedd_schema"), 0x656D6264));
    emb_status st = emb_pg_link_plain(link, lock, deadline_ns, NULL, err);
    if (st == EMB_OK)
        st = emb_pg_link_plain(
            link, "CREATE TABLE IF NOT EXISTS embedd_schema (name text PRIMARY KEY, version bigint NOT NULL)",
            deadline_ns, NULL, err);
    if (st == EMB_OK)
        st = take_steps(t, link, deadline_ns, err);
    if (st == EMB_OK)
        st = emb_pg_link_plain(link, "COMMIT", deadline_ns, NULL, err);
    if (st != EMB_OK) /* the connection ends, and the transaction with it */
        emb_error_context(err, "the tables of %s could not be made", t->schema->name);
    return st;
}

static emb_status need_schema(target *t, emb_pg_link *link, uint64_t deadline_ns, emb_error *err)
{
    int64_t version;
    if (!t->schema || atomic_load(&t->schema_ready))
        return EMB_OK;
    emb_status st = read_version(t, link, deadline_ns, &version, err);
    if (st != EMB_OK) {
        if (strcmp(emb_pg_link_sqlstate(link), "42P01") != 0)
            return st;
        emb_pg_link_trust(link); /* no such table: nothing is there yet */
    }
    if (version > t->schema->version)
        return emb_fail(
            err, EMB_E_UNSUPPORTED, t->where,
            "%s: the tables of %s are of version %lld, from a newer embedd; this one knows version %lld",
            t->where, t->schema->name, (long long)version, (long long)t->schema->version);
    if (version < t->schema->version && (st = migrate(t, link, emb_after_ms(SCHEMA_MS), err)) != EMB_OK)
        return st;
    atomic_store(&t->schema_ready, true);
    return EMB_OK;
}

/* ---- the pool's functions ---- */

static emb_status dial(void *context, uint64_t deadline_ns, const atomic_bool *stop, void **out,
                       emb_error *err)
{
    target *t = context;
    emb_pg_link *link;
    emb_status st = emb_pg_link_dial(t->url, t->where, deadline_ns, stop, &link, err);
    if (st != EMB_OK)
        return st;
    if ((st = set_up(t, link, deadline_ns, err)) == EMB_OK)
        st = need_schema(t, link, deadline_ns, err);
    emb_pg_link_set_stop(link, NULL);
    if (st != EMB_OK)
        emb_pg_link_hang_up(link);
    else
        *out = link;
    return st;
}

static bool alive(void *link)
{
    return emb_pg_link_alive(link);
}

static void hang_up(void *link)
{
    emb_pg_link_hang_up(link);
}

static void free_target(void *context)
{
    target *t = context;
    if (t && t->url) {
        explicit_bzero(t->url, strlen(t->url));
        free(t->url);
    }
    free(t);
}

static const emb_pool_kind KIND = {dial, alive, hang_up, free_target};

/* ---- opening ---- */

static const char *setting(const PQconninfoOption *options, const char *name)
{
    for (; options->keyword; options++)
        if (strcmp(options->keyword, name) == 0)
            return options->val;
    return NULL;
}

/* libpq's own words about a URL quote parts of it, which may be the password: ours do not. */
static emb_status read_target(const char *url, target *t, emb_error *err)
{
    char *why = NULL;
    PQconninfoOption *options = PQconninfoParse(url, &why);
    PQfreemem(why);
    if (!options)
        return emb_fail(
            err, EMB_E_INVALID, "url",
            "the URL cannot be understood: postgresql://user:password@host:port/database?setting=value is "
            "its form, with special characters of user and password as %%XX, and settings known to libpq");
    const char *host = setting(options, "host"), *port = setting(options, "port"),
               *db = setting(options, "dbname");
    snprintf(t->where, sizeof t->where, "PostgreSQL at %.60s:%.20s%s%.30s", host ? host : "the local socket",
             port ? port : "5432", db ? "/" : "", db ? db : "");
    PQconninfoFree(options);
    if (!(t->url = strdup(url)))
        return emb_fail_nomem(err, "url", strlen(url));
    return EMB_OK;
}

emb_status emb_pg_open(const char *url, const emb_pg_options *options, emb_pg **out, emb_error *err)
{
    static const emb_pg_options none = {0};
    const emb_pg_options *o = options ? options : &none;
    emb_pg *pg = calloc(1, sizeof *pg);
    target *t = calloc(1, sizeof *t);
    emb_status st = EMB_OK;
    if (!pg || !t)
        st = emb_fail_nomem(err, "a PostgreSQL store", sizeof *pg);
    else
        st = read_target(url, t, err);
    if (st == EMB_OK) {
        t->statement_ms = o->statement_ms ? o->statement_ms : STATEMENT_MS;
        t->relaxed = o->relaxed;
        t->schema = o->schema;
        emb_pool_options p = {t->where, o->connections ? o->connections : CONNECTIONS,
                              o->connect_ms ? o->connect_ms : CONNECT_MS, o->idle_ms ? o->idle_ms : IDLE_MS};
        st = emb_pool_open(&KIND, t, &p, &pg->pool, err);
    }
    if (st != EMB_OK) {
        free_target(t);
        free(pg);
        return st;
    }
    pg->target = t;
    *out = pg;
    return EMB_OK;
}

void emb_pg_close(emb_pg *pg)
{
    if (pg)
        emb_pool_close(pg->pool);
    free(pg);
}

const char *emb_pg_where(const emb_pg *pg)
{
    return pg->target->where;
}

void emb_pg_tidy(emb_pg *pg)
{
    emb_pool_tidy(pg->pool);
}

/* ---- calls ---- */

static void give_back(emb_pg *pg, emb_pg_link *link)
{
    if (emb_pg_link_gone(link))
        emb_pool_renew(pg->pool);
    if (strcmp(emb_pg_link_sqlstate(link), "42P01") ==
        0) /* the tables were dropped: the next connection makes them */
        atomic_store(&pg->target->schema_ready, false);
    emb_pool_release(pg->pool, link, !emb_pg_link_usable(link));
}

static emb_status call_once(emb_pg *pg, const emb_pg_statement *statement, const emb_param *params,
                            size_t count, uint64_t deadline_ns, emb_pg_result **out, bool *stale,
                            emb_error *err)
{
    void *link;
    bool reused;
    *stale = false;
    emb_status st = emb_pool_acquire(pg->pool, deadline_ns, &link, &reused, err);
    if (st != EMB_OK)
        return st;
    st = emb_pg_link_prepared(link, statement, params, count, deadline_ns, out, err);
    *stale = st != EMB_OK && reused && emb_pg_link_gone(link);
    give_back(pg, link);
    return st;
}

/* A connection that died while it was idle is no failure of the statement: another is tried. Nothing was
 * answered, but it may have been done all the same; so statements that are not harmless to repeat belong
 * into a session. */
emb_status emb_pg_call(emb_pg *pg, const emb_pg_statement *statement, const emb_param *params, size_t count,
                       uint64_t deadline_ns, emb_pg_result **out, emb_error *err)
{
    bool stale;
    emb_status st = call_once(pg, statement, params, count, deadline_ns, out, &stale, err);
    if (st != EMB_OK && stale)
        st = call_once(pg, statement, params, count, deadline_ns, out, &stale, err);
    return st;
}

emb_status emb_pg_ask(emb_pg *pg, const emb_pg_statement *statement, const emb_param *params, size_t count,
                      uint64_t deadline_ns, int64_t *out, emb_error *err)
{
    emb_pg_result *r;
    *out = 0;
    emb_status st = emb_pg_call(pg, statement, params, count, deadline_ns, &r, err);
    if (st != EMB_OK)
        return st;
    if (emb_pg_rows(r))
        *out = emb_pg_int(r, 0, 0);
    emb_pg_result_free(r);
    return EMB_OK;
}

emb_status emb_pg_begin(emb_pg *pg, uint64_t deadline_ns, emb_pg_session **out, emb_error *err)
{
    emb_pg_session *s = calloc(1, sizeof *s);
    void *link;
    bool reused = true;
    if (!s)
        return emb_fail_nomem(err, pg->target->where, sizeof *s);
    emb_status st = EMB_E_IO;
    for (int attempt = 0; attempt < 2 && st != EMB_OK && reused; attempt++) {
        if ((st = emb_pool_acquire(pg->pool, deadline_ns, &link, &reused, err)) != EMB_OK)
            break;
        if ((st = emb_pg_link_plain(link, "BEGIN", deadline_ns, NULL, err)) != EMB_OK)
            give_back(pg, link);
    }
    if (st != EMB_OK) {
        free(s);
        return st;
    }
    *s = (emb_pg_session){pg, link, deadline_ns};
    *out = s;
    return EMB_OK;
}

emb_status emb_pg_run(emb_pg_session *s, const emb_pg_statement *statement, const emb_param *params,
                      size_t count, emb_pg_result **out, emb_error *err)
{
    return emb_pg_link_prepared(s->link, statement, params, count, s->deadline_ns, out, err);
}

emb_status emb_pg_end(emb_pg_session *s, emb_status so_far, emb_error *err)
{
    emb_status st = so_far;
    if (so_far == EMB_OK)
        st = emb_pg_link_plain(s->link, "COMMIT", s->deadline_ns, NULL, err);
    else if (emb_now_ns() < s->deadline_ns) /* else the connection is closed, which rolls back as well */
        (void)!emb_pg_link_plain(s->link, "ROLLBACK", s->deadline_ns, NULL, NULL);
    give_back(s->pg, s->link);
    free(s);
    return st;
}

/* ---- arrays ---- */

/* Dimensions (1), whether there are NULLs (1: perhaps), the type, then the count and the first index (1). */
enum { ARRAY_HEAD = 20, ARRAY_COUNT = 12 };

static void add(emb_pg_array *a, const void *data, size_t length)
{
    if (a->status == EMB_OK)
        a->status = emb_buf_add(&a->bytes, data, length);
}

static void begin_array(emb_pg_array *a, uint32_t element_type)
{
    unsigned char head[ARRAY_HEAD];
    *a = (emb_pg_array){0};
    emb_buf_init(&a->bytes, ARRAY_BYTES);
    emb_pg_big_endian(1, 4, head);
    emb_pg_big_endian(1, 4, head + 4);
    emb_pg_big_endian(element_type, 4, head + 8);
    emb_pg_big_endian(0, 4, head + ARRAY_COUNT);
    emb_pg_big_endian(1, 4, head + 16);
    add(a, head, sizeof head);
}

void emb_pg_arrays_init(emb_pg_array *arrays, const uint32_t *types, size_t count)
{
    for (size_t i = 0; i < count; i++)
        begin_array(&arrays[i], types[i]);
}

void emb_pg_arrays_fini(emb_pg_array *arrays, size_t count)
{
    for (size_t i = 0; i < count; i++)
        emb_buf_fini(&arrays[i].bytes);
}

void emb_pg_array_add(emb_pg_array *a, const void *data, size_t length)
{
    unsigned char size[4];
    if (length > INT32_MAX && a->status == EMB_OK)
        a->status = EMB_E_LIMIT;
    emb_pg_big_endian(data ? length : UINT32_MAX, 4, size); /* -1: NULL */
    add(a, size, 4);
    if (data)
        add(a, data, length);
    a->count++;
}

void emb_pg_array_add_int4(emb_pg_array *a, int32_t value)
{
    unsigned char bytes[4];
    emb_pg_big_endian((uint32_t)value, 4, bytes);
    emb_pg_array_add(a, bytes, 4);
}

void emb_pg_array_add_int8(emb_pg_array *a, int64_t value)
{
    unsigned char bytes[8];
    emb_pg_big_endian((uint64_t)value, 8, bytes);
    emb_pg_array_add(a, bytes, 8);
}

emb_status emb_pg_arrays_params(emb_pg_array *arrays, size_t count, emb_param *out, emb_error *err)
{
    for (size_t i = 0; i < count; i++) {
        emb_pg_array *a = &arrays[i];
        if (a->status != EMB_OK)
            return emb_fail(err, a->status, "parameters",
                            "the parameters of a statement could not be put together: %s",
                            emb_status_text(a->status));
        emb_pg_big_endian(a->count, 4, (unsigned char *)a->bytes.data + ARRAY_COUNT);
        out[i] = emb_param_bytes(a->bytes.data, a->bytes.length);
    }
    return EMB_OK;
}
