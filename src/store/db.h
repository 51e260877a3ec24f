/*
 * db.h: SQLite or PostgreSQL, whichever a URL names, by one interface: for tables that are alike in both.
 *
 *     static const emb_db_options OPTIONS = {"the store of things", {.schema = &SQLITE}, 2, {.schema = &POSTGRESQL}};
 *     static const emb_db_statement ADD = {{"things_add", "INSERT INTO embedd_things VALUES ($1::text, $2::int8)"},
 *                                          "INSERT INTO things VALUES (?1, ?2)"};
 *     emb_db *db; emb_db_work work; emb_db_rows rows;
 *     emb_db_open(url, &OPTIONS, &db, err);                           // does not connect, does not touch the file
 *
 *     if ((st = emb_db_begin(db, deadline_ns, &work, err))) return st;
 *     st = emb_db_run(&work, &ADD, values, 2, err);                   // several of them
 *     return emb_db_end(&work, st, err);                              // commits, or rolls back and keeps st
 *
 *     if ((st = emb_db_query(db, &LIST, values, 1, deadline_ns, &rows, err))) return st;
 *     while (emb_db_next(&rows, err)) use(emb_db_text(&rows, 0), emb_db_int(&rows, 1));
 *     return emb_db_done(&rows);                                      // also where not all were read
 *
 * A statement is written twice, for each dialect, with the same parameters and columns. Where a room's way is
 * another in each database, it asks emb_db_sqlite and emb_db_postgresql and goes on with that one's
 * interface, whose guarantees (deadlines, schema versions, repeated calls) hold here.
 *
 * Thread-safe; a work and rows belong to one thread.
 */
#ifndef EMB_STORE_DB_H
#define EMB_STORE_DB_H

#include "store/postgresql.h"
#include "store/sqlite.h"

typedef struct emb_db emb_db;

typedef struct emb_db_options {
    const char *what; /* "the store of things", for messages */
    emb_sqlite_options sqlite;
    unsigned sqlite_connections;
    emb_pg_options postgresql;
} emb_db_options;

typedef struct emb_db_statement {
    emb_pg_statement postgresql;
    const char *sqlite;
} emb_db_statement;

/* EMB_E_INVALID for another URL than sqlite:PATH and postgresql://… */
EMB_MUST_CHECK emb_status emb_db_open(const char *url, const emb_db_options *options, emb_db **out,
                                      emb_error *err);
void emb_db_close(emb_db *db);              /* no call may be running; takes NULL */
emb_sqlite_pool *emb_db_sqlite(emb_db *db); /* NULL: it is PostgreSQL */
emb_pg *emb_db_postgresql(emb_db *db);      /* NULL: it is SQLite */
void emb_db_tidy(emb_db *db);               /* closes connections that have been idle for long */

/* ---- one statement, in a transaction of its own ---- */

EMB_MUST_CHECK emb_status emb_db_call(emb_db *db, const emb_db_statement *statement, const emb_param *values,
                                      size_t count, uint64_t deadline_ns, emb_error *err);
/* The same for a statement whose answer is one integer: the first column of the first row, 0 without one. */
EMB_MUST_CHECK emb_status emb_db_ask(emb_db *db, const emb_db_statement *statement, const emb_param *values,
                                     size_t count, uint64_t deadline_ns, int64_t *out, emb_error *err);

/* ---- a statement with rows ---- */

typedef struct emb_db_rows {
    emb_db *db;
    emb_sqlite *sqlite;
    emb_sql *sql;
    emb_pg_result *result;
    size_t at; /* the row after this one */
    emb_status status;
} emb_db_rows;

EMB_MUST_CHECK emb_status emb_db_query(emb_db *db, const emb_db_statement *statement, const emb_param *values,
                                       size_t count, uint64_t deadline_ns, emb_db_rows *out, emb_error *err);
/* false: there is no further one, or a failure, which emb_db_done returns. */
bool emb_db_next(emb_db_rows *rows, emb_error *err);
EMB_MUST_CHECK emb_status emb_db_done(emb_db_rows *rows);
/* Of the row, until the next: 0 and NULL for NULL. */
int64_t emb_db_int(const emb_db_rows *rows, int column);
const char *emb_db_text(const emb_db_rows *rows, int column);
const void *emb_db_bytes(const emb_db_rows *rows, int column, size_t *length);

/* ---- several statements in one transaction ---- */

typedef struct emb_db_work {
    emb_db *db;
    emb_sqlite *sqlite;
    emb_pg_session *session;
} emb_db_work;

EMB_MUST_CHECK emb_status emb_db_begin(emb_db *db, uint64_t deadline_ns, emb_db_work *out, emb_error *err);
EMB_MUST_CHECK emb_status emb_db_run(emb_db_work *work, const emb_db_statement *statement,
                                     const emb_param *values, size_t count, emb_error *err);
EMB_MUST_CHECK emb_status emb_db_end(emb_db_work *work, emb_status so_far, emb_error *err);

#endif
