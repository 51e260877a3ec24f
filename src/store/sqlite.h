/*
 * sqlite.h: SQLite with what every user of it here needs: deadlines, schema versions, errors that name the
 * file.
 *
 *     static const char *const MIGRATIONS[] = { "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)", … };
 *     static const emb_sqlite_schema SCHEMA = { 0x656D6231, "the job queue", MIGRATIONS, 1 };
 *     emb_sqlite_pool *pool;
 *     emb_sqlite_pool_open(path, &(emb_sqlite_options){ &SCHEMA }, 4, &pool, err);   // does not touch the file yet
 *
 *     emb_sqlite *db; emb_sql *s; bool row;
 *     if ((st = emb_sqlite_enter(pool, deadline_ns, &db, err))) return st;       // a connection, in a transaction
 *     st = emb_sql_call(db, "UPDATE … WHERE a = ?1", (emb_param[]){emb_param_int(42)}, 1, err);
 *     if (st == EMB_OK && (st = emb_sql_get(db, "SELECT …", &s, err)) == EMB_OK) {
 *         emb_sql_int(s, 1, 42);                     // a failed bind is reported by the next step
 *         st = emb_sql_step(s, &row, err);
 *         emb_sql_reset(s);
 *     }
 *     return emb_sqlite_leave(pool, db, st, err);    // commits, or rolls back and keeps st
 *
 * A file is created with mode 0600, in WAL mode, and carries an application id and a version: migration n
 * takes it from version n to n + 1, all in one transaction; a file of another program, of a newer version, or
 * one that is no database is an error and is left as it is. Several processes may use a file at once.
 *
 * A deadline (emb_now_ns's clock, 0: none) bounds waiting for locks and the work of statements. After a
 * failure of the file (corrupt, input/output) the connection is closed when it is released, and the next
 * acquire opens it again.
 *
 * Threads: a pool is thread-safe; a connection and its statements belong to one thread between acquire and
 * release.
 */
#ifndef EMB_STORE_SQLITE_H
#define EMB_STORE_SQLITE_H

#include "store/param.h"

#include <embedd.h>

typedef struct emb_sqlite emb_sqlite; /* a connection */
typedef struct emb_sqlite_pool emb_sqlite_pool;
typedef struct emb_sql emb_sql; /* a prepared statement, kept by its connection */

typedef struct emb_sqlite_schema {
    int32_t application_id; /* not 0 */
    const char *what;       /* "the vector cache", for messages */
    const char *const *migrations;
    int32_t version; /* how many there are */
} emb_sqlite_schema;

typedef struct emb_sqlite_options {
    const emb_sqlite_schema *schema;
    bool durable; /* every commit survives loss of power, not only of the process */
    bool shrinks; /* room of deleted rows can be given back by emb_sqlite_shrink; set at creation */
} emb_sqlite_options;

EMB_MUST_CHECK emb_status emb_sqlite_pool_open(const char *path, const emb_sqlite_options *options,
                                               unsigned maximum, emb_sqlite_pool **out, emb_error *err);
void emb_sqlite_pool_close(emb_sqlite_pool *pool); /* everything is released; takes NULL */

/* A connection with this deadline, opened if none is idle; waits while `maximum` are in use. */
EMB_MUST_CHECK emb_status emb_sqlite_acquire(emb_sqlite_pool *pool, uint64_t deadline_ns, emb_sqlite **out,
                                             emb_error *err);
/* Rolls back what was begun and not ended. */
void emb_sqlite_release(emb_sqlite_pool *pool, emb_sqlite *db);

EMB_MUST_CHECK emb_status emb_sqlite_begin(emb_sqlite *db, bool write, emb_error *err);
EMB_MUST_CHECK emb_status emb_sqlite_end(emb_sqlite *db, emb_status so_far, emb_error *err);
/* Both in one, acquire and begin to write; end and release. */
EMB_MUST_CHECK emb_status emb_sqlite_enter(emb_sqlite_pool *pool, uint64_t deadline_ns, emb_sqlite **out,
                                           emb_error *err);
EMB_MUST_CHECK emb_status emb_sqlite_leave(emb_sqlite_pool *pool, emb_sqlite *db, emb_status so_far,
                                           emb_error *err);
/* Statements without rows or parameters, ';' between. */
EMB_MUST_CHECK emb_status emb_sqlite_run(emb_sqlite *db, const char *sql, emb_error *err);
/* EMB_E_DEADLINE if it has passed: for loops of many cheap statements. */
EMB_MUST_CHECK emb_status emb_sqlite_in_time(emb_sqlite *db, emb_error *err);
uint64_t emb_sqlite_changes(emb_sqlite *db); /* rows of the last INSERT, UPDATE or DELETE */
/* Bytes of the database in use (without free pages, without the log). */
EMB_MUST_CHECK emb_status emb_sqlite_bytes(emb_sqlite *db, uint64_t *out, emb_error *err);
/* The same with free pages: the size of the file. */
EMB_MUST_CHECK emb_status emb_sqlite_file_bytes(emb_sqlite *db, uint64_t *out, emb_error *err);
/* Gives at most this much free room back to the file system. */
EMB_MUST_CHECK emb_status emb_sqlite_shrink(emb_sqlite *db, uint64_t bytes, emb_error *err);

/* The statement with this text, ready to be bound. Prepared once for each connection. */
EMB_MUST_CHECK emb_status emb_sql_get(emb_sqlite *db, const char *sql, emb_sql **out, emb_error *err);
/* Parameters are numbered from 1; bytes and texts are borrowed until the next reset. NULL is NULL. */
void emb_sql_int(emb_sql *sql, int parameter, int64_t value);
void emb_sql_text(emb_sql *sql, int parameter, const char *text, size_t length);
void emb_sql_bytes(emb_sql *sql, int parameter, const void *data, size_t length);
void emb_sql_bind(emb_sql *sql, const emb_param *values, size_t count); /* parameters 1 to count */
/* *row: whether there is a row, whose columns can be read until the next step or reset. */
EMB_MUST_CHECK emb_status emb_sql_step(emb_sql *sql, bool *row, emb_error *err);
/* Steps once and resets, for statements without rows. */
EMB_MUST_CHECK emb_status emb_sql_do(emb_sql *sql, emb_error *err);
/* Get, bind and do in one. */
EMB_MUST_CHECK emb_status emb_sql_call(emb_sqlite *db, const char *sql, const emb_param *values, size_t count,
                                       emb_error *err);
/* Get and bind, for statements with rows. */
EMB_MUST_CHECK emb_status emb_sql_ask(emb_sqlite *db, const char *sql, const emb_param *values, size_t count,
                                      emb_sql **out, emb_error *err);
void emb_sql_reset(emb_sql *sql);                     /* takes NULL */
int64_t emb_sql_column_int(emb_sql *sql, int column); /* columns are numbered from 0 */
const void *emb_sql_column_bytes(emb_sql *sql, int column, size_t *length);
/* NUL-terminated; NULL if the column is. length may be NULL. */
const char *emb_sql_column_text(emb_sql *sql, int column, size_t *length);

#endif
