/*
 * postgresql.h: statements to a PostgreSQL server, each within its deadline whatever the server does.
 *
 *     static const char *const STEPS[] = { "CREATE TABLE t (k bytea PRIMARY KEY, n bigint)" };
 *     static const emb_pg_schema SCHEMA = { "things", STEPS, 1 };
 *     static const emb_pg_statement FIND = { "things_find", "SELECT n FROM t WHERE k = $1::bytea" };
 *     emb_pg *pg;
 *     emb_pg_open("postgresql://user:secret@host/db", &(emb_pg_options){ .schema = &SCHEMA }, &pg, err); // no connection
 *     const emb_param p[] = {emb_param_bytes(key, n)};
 *     emb_pg_result *r;
 *     if ((st = emb_pg_call(pg, &FIND, p, 1, deadline_ns, &r, err)) == EMB_OK) {
 *         for (size_t row = 0; row < emb_pg_rows(r); row++) use(emb_pg_int(r, row, 0));
 *         emb_pg_result_free(r);
 *     }
 *
 * URLs are libpq's: several hosts, TLS (sslmode=…) and all its settings. Parameters and results are in
 * PostgreSQL's binary form. Each connection prepares a statement once, by name.
 *
 * The schema is made or brought up to date by the first connection: under an advisory lock, in one
 * transaction, its version kept in the table embedd_schema; so any number of processes may start at once. A
 * newer version than this program knows is an error and left alone.
 *
 * Thread-safe: a call takes a connection of its own from a small pool. A connection that failed or did not
 * answer in time is closed and never used again; the server ends what it still does for it within about a
 * second, or after statement_ms where it is older than version 14. Errors name the server and hold neither
 * user nor password.
 */
#ifndef EMB_STORE_POSTGRESQL_H
#define EMB_STORE_POSTGRESQL_H

#include "base/buf.h"
#include "store/param.h"

typedef struct emb_pg emb_pg;
typedef struct emb_pg_result emb_pg_result;

typedef struct emb_pg_schema {
    const char *name;         /* of what the tables are for, unique in the database */
    const char *const *steps; /* step n takes the tables from version n to n + 1; ';' between statements */
    int64_t version;          /* how many there are */
} emb_pg_schema;

typedef struct emb_pg_options {
    unsigned connections;  /* 0: 8 */
    uint32_t connect_ms;   /* 0: 2000 */
    uint32_t idle_ms;      /* 0: 60000 */
    uint32_t statement_ms; /* the server's own limit for a statement; 0: 60000 */
    bool relaxed; /* a crash of the server may lose the last moments' commits (synchronous_commit off) */
    const emb_pg_schema *schema; /* or NULL */
} emb_pg_options;

typedef struct emb_pg_statement {
    const char *name; /* unique in the program */
    const char *sql;  /* with the types of its parameters: $1::bytea[] */
} emb_pg_statement;

EMB_MUST_CHECK emb_status emb_pg_open(const char *url, const emb_pg_options *options, emb_pg **out,
                                      emb_error *err);
void emb_pg_close(emb_pg *pg);              /* no call may be running; takes NULL */
const char *emb_pg_where(const emb_pg *pg); /* "PostgreSQL at host:5432/database" */
void emb_pg_tidy(emb_pg *pg);               /* closes connections that have been idle for long */

/* One statement in a transaction of its own. `out` may be NULL if its rows are of no interest. */
EMB_MUST_CHECK emb_status emb_pg_call(emb_pg *pg, const emb_pg_statement *statement, const emb_param *params,
                                      size_t count, uint64_t deadline_ns, emb_pg_result **out,
                                      emb_error *err);
/* The same for a statement whose answer is one integer: the first column of the first row, 0 without one. */
EMB_MUST_CHECK emb_status emb_pg_ask(emb_pg *pg, const emb_pg_statement *statement, const emb_param *params,
                                     size_t count, uint64_t deadline_ns, int64_t *out, emb_error *err);

/* ---- several statements in one transaction ---- */

typedef struct emb_pg_session emb_pg_session;

/* Takes a connection and begins. */
EMB_MUST_CHECK emb_status emb_pg_begin(emb_pg *pg, uint64_t deadline_ns, emb_pg_session **out,
                                       emb_error *err);
EMB_MUST_CHECK emb_status emb_pg_run(emb_pg_session *session, const emb_pg_statement *statement,
                                     const emb_param *params, size_t count, emb_pg_result **out,
                                     emb_error *err);
/* Commits if `so_far` is EMB_OK, else rolls back and returns it; gives the connection back either way. */
EMB_MUST_CHECK emb_status emb_pg_end(emb_pg_session *session, emb_status so_far, emb_error *err);

/* ---- arrays as parameters ---- */

/* An array of one type, for unnest(). */
typedef struct emb_pg_array {
    emb_buf bytes;
    uint32_t count;
    emb_status status; /* the first failure to add */
} emb_pg_array;

enum { EMB_PG_BYTEA = 17, EMB_PG_INT8 = 20, EMB_PG_INT4 = 23, EMB_PG_TEXT = 25 };

void emb_pg_array_add(emb_pg_array *array, const void *data, size_t length); /* data NULL: SQL's NULL */
void emb_pg_array_add_int4(emb_pg_array *array, int32_t value);
void emb_pg_array_add_int8(emb_pg_array *array, int64_t value);
/* `count` arrays as the parameters 1 to count of a statement, in the order of `types`: init, add, values,
 * fini. */
void emb_pg_arrays_init(emb_pg_array *arrays, const uint32_t *types, size_t count);
void emb_pg_arrays_fini(emb_pg_array *arrays, size_t count);
/* Puts the counts in; what could not be added is reported here. */
EMB_MUST_CHECK emb_status emb_pg_arrays_params(emb_pg_array *arrays, size_t count, emb_param *out,
                                               emb_error *err);

/* ---- results ---- */

size_t emb_pg_rows(const emb_pg_result *result);
/* NULL if the column is; what they give lives as long as the result, a NUL follows. */
const void *emb_pg_bytes(const emb_pg_result *result, size_t row, int column, size_t *length);
const char *emb_pg_text(const emb_pg_result *result, size_t row, int column);
int64_t emb_pg_int(const emb_pg_result *result, size_t row, int column); /* of int2, int4, int8; 0 for NULL */
void emb_pg_result_free(emb_pg_result *result);                          /* takes NULL */

#endif
