/*
 * A branch in each function, and no table of functions: there are two databases, and what is done here is
 * little beside asking them. Rooms had a table each, with the same dozen functions behind it twice; now they
 * have their statements and what a row means.
 *
 * Rows of SQLite are read as they come, with a connection held until emb_db_done; those of PostgreSQL are all
 * there when the call returns.
 */
#include "store/db.h"

#include "base/error.h"
#include "store/url.h"

#include <stdlib.h>

struct emb_db {
    emb_sqlite_pool *sqlite; /* one of the two */
    emb_pg *postgresql;
};

emb_status emb_db_open(const char *url, const emb_db_options *o, emb_db **out, emb_error *err)
{
    bool is_sqlite = emb_url_is(url, "sqlite");
    *out = NULL;
    if (!is_sqlite && !emb_url_is(url, "postgresql,postgres"))
        return emb_fail(err, EMB_E_INVALID, "data.store_url",
                        "%s is sqlite:PATH or postgresql://…; this URL has another scheme", o->what);
    emb_db *db = calloc(1, sizeof *db);
    if (!db)
        return emb_fail_nomem(err, o->what, sizeof *db);
    emb_status st = is_sqlite ? emb_sqlite_pool_open(emb_url_sqlite_path(url), &o->sqlite,
                                                     o->sqlite_connections, &db->sqlite, err)
                              : emb_pg_open(url, &o->postgresql, &db->postgresql, err);
    if (st != EMB_OK)
        free(db);
    else
        *out = db;
    return st;
}

void emb_db_close(emb_db *db)
{
    if (!db)
        return;
    emb_sqlite_pool_close(db->sqlite);
    emb_pg_close(db->postgresql);
    free(db);
}

emb_sqlite_pool *emb_db_sqlite(emb_db *db)
{
    return db->sqlite;
}

emb_pg *emb_db_postgresql(emb_db *db)
{
    return db->postgresql;
}

void emb_db_tidy(emb_db *db)
{
    if (db->postgresql)
        emb_pg_tidy(db->postgresql);
}

/* ---- one statement ---- */

emb_status emb_db_call(emb_db *db, const emb_db_statement *s, const emb_param *values, size_t count,
                       uint64_t deadline_ns, emb_error *err)
{
    emb_sqlite *sqlite;
    if (db->postgresql)
        return emb_pg_call(db->postgresql, &s->postgresql, values, count, deadline_ns, NULL, err);
    emb_status st = emb_sqlite_acquire(db->sqlite, deadline_ns, &sqlite, err);
    if (st != EMB_OK)
        return st;
    st = emb_sql_call(sqlite, s->sqlite, values, count, err);
    emb_sqlite_release(db->sqlite, sqlite);
    return st;
}

emb_status emb_db_ask(emb_db *db, const emb_db_statement *s, const emb_param *values, size_t count,
                      uint64_t deadline_ns, int64_t *out, emb_error *err)
{
    emb_db_rows rows;
    *out = 0;
    if (db->postgresql)
        return emb_pg_ask(db->postgresql, &s->postgresql, values, count, deadline_ns, out, err);
    emb_status st = emb_db_query(db, s, values, count, deadline_ns, &rows, err);
    if (st != EMB_OK)
        return st;
    if (emb_db_next(&rows, err))
        *out = emb_db_int(&rows, 0);
    while (emb_db_next(&rows, err)) /* RETURNING is done when the statement has run to its end */
        ;
    return emb_db_done(&rows);
}

/* ---- rows ---- */

emb_status emb_db_query(emb_db *db, const emb_db_statement *s, const emb_param *values, size_t count,
                        uint64_t deadline_ns, emb_db_rows *out, emb_error *err)
{
    *out = (emb_db_rows){.db = db};
    if (db->postgresql)
        return emb_pg_call(db->postgresql, &s->postgresql, values, count, deadline_ns, &out->result, err);
    emb_status st = emb_sqlite_acquire(db->sqlite, deadline_ns, &out->sqlite, err);
    if (st == EMB_OK && (st = emb_sql_ask(out->sqlite, s->sqlite, values, count, &out->sql, err)) != EMB_OK)
        emb_sqlite_release(db->sqlite, out->sqlite);
    return st;
}

bool emb_db_next(emb_db_rows *rows, emb_error *err)
{
    bool row = false;
    if (rows->result)
        return rows->at++ < emb_pg_rows(rows->result);
    if (rows->sql)
        rows->status = emb_sql_step(rows->sql, &row, err);
    if (!row)
        rows->sql = NULL; /* another step would begin anew */
    return row;
}

emb_status emb_db_done(emb_db_rows *rows)
{
    if (rows->sqlite)
        emb_sqlite_release(rows->db->sqlite, rows->sqlite); /* which resets its statements */
    emb_pg_result_free(rows->result);
    return rows->status;
}

int64_t emb_db_int(const emb_db_rows *rows, int column)
{
    return rows->sql ? emb_sql_column_int(rows->sql, column) : emb_pg_int(rows->result, rows->at - 1, column);
}

const char *emb_db_text(const emb_db_rows *rows, int column)
{
    return rows->sql ? emb_sql_column_text(rows->sql, column, NULL)
                     : emb_pg_text(rows->result, rows->at - 1, column);
}

const void *emb_db_bytes(const emb_db_rows *rows, int column, size_t *length)
{
    return rows->sql ? emb_sql_column_bytes(rows->sql, column, length)
                     : emb_pg_bytes(rows->result, rows->at - 1, column, length);
}

/* ---- transactions ---- */

emb_status emb_db_begin(emb_db *db, uint64_t deadline_ns, emb_db_work *out, emb_error *err)
{
    *out = (emb_db_work){.db = db};
    return db->sqlite ? emb_sqlite_enter(db->sqlite, deadline_ns, &out->sqlite, err)
                      : emb_pg_begin(db->postgresql, deadline_ns, &out->session, err);
}

emb_status emb_db_run(emb_db_work *work, const emb_db_statement *s, const emb_param *values, size_t count,
                      emb_error *err)
{
    return work->sqlite ? emb_sql_call(work->sqlite, s->sqlite, values, count, err)
                        : emb_pg_run(work->session, &s->postgresql, values, count, NULL, err);
}

emb_status emb_db_end(emb_db_work *work, emb_status so_far, emb_error *err)
{
    return work->sqlite ? emb_sqlite_leave(work->db->sqlite, work->sqlite, so_far, err)
                        : emb_pg_end(work->session, so_far, err);
}
