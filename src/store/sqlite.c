/*
 * Connections, deadlines and schema versions over SQLite.
 *
 * WAL: readers never wait for the writer nor it for them, and a killed process leaves a log that the next one
 * replays by itself. synchronous is NORMAL (a commit survives the process, loss of power costs the last
 * commits and never the file) unless the user of a file needs FULL.
 *
 * A deadline is kept in two places, since SQLite waits in two: a busy handler, for locks of other connections
 * and processes, and a progress handler, which ends a statement that runs on. What neither bounds is a disk
 * that does not answer.
 *
 * Opening looks before it touches: application id and version are read first, and only a file that is ours,
 * or empty, is switched to WAL. The file is made with O_EXCL and mode 0600 beforehand (SQLite would use the
 * umask). It must not be opened here once it exists: closing any descriptor of a file drops this process's
 * POSIX locks on it, those of other connections included.
 *
 * Statements are kept for the life of their connection in a list; there are a dozen at most, found by text.
 *
 * Rejected: one connection with a lock (a long statement blocks all), a connection per thread (hundreds of
 * workers, each with caches and descriptors; a pool needs a handful), shared-cache mode (discouraged by its
 * authors).
 */
#include "store/sqlite.h"

#include "base/clock.h"
#include "base/duty.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PROGRESS_STEPS = 2000, WAIT_MAX_MS = 10 };
#define PATIENCE_NS UINT64_C(30000000000) /* for locks, where there is no deadline */

struct emb_sql {
    sqlite3_stmt *handle;
    emb_sqlite *db;
    int bind_failure; /* the first since the last reset, or SQLITE_OK */
    const char *text;
    emb_sql *next;
};

struct emb_sqlite {
    sqlite3 *handle;
    const char *path;
    const char *what;
    emb_sql *statements;
    uint64_t deadline_ns, busy_since_ns;
    bool broken; /* not to be used again */
    emb_sqlite *next_idle;
};

struct emb_sqlite_pool {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    emb_sqlite *idle;
    unsigned open, maximum;
    emb_sqlite_options options;
    char path[];
};

/* ---- errors ---- */

static emb_status status_of(int extended)
{
    switch (extended) {
    case SQLITE_IOERR_NOMEM:
        return EMB_E_NOMEM;
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return EMB_OK;
    }
    switch (extended & 0xFF) {
    case SQLITE_NOMEM:
        return EMB_E_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
    case SQLITE_INTERRUPT:
        return EMB_E_DEADLINE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
        return EMB_E_CORRUPT;
    case SQLITE_TOOBIG:
        return EMB_E_LIMIT;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return EMB_E_INVALID;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_NOLFS:
        return EMB_E_IO;
    }
    return EMB_E_INTERNAL;
}

static emb_status fail(emb_sqlite *db, int code, emb_error *err)
{
    int extended = db->handle ? sqlite3_extended_errcode(db->handle) : code;
    if ((extended & 0xFF) != (code & 0xFF))
        extended = code;
    emb_status st = status_of(extended);
    int primary = extended & 0xFF;
    if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB || primary == SQLITE_IOERR ||
        primary == SQLITE_CANTOPEN || extended == SQLITE_READONLY_DBMOVED)
        db->broken = true;
    if (st == EMB_E_NOMEM)
        return emb_fail(err, st, db->path, "%s: memory for %s is short", db->path, db->what);
    if (primary == SQLITE_INTERRUPT)
        return emb_fail(err, st, db->path, "%s: no answer within the deadline", db->path);
    if (st == EMB_E_DEADLINE)
        return emb_fail(err, st, db->path, "%s: locked by another user of the file beyond the deadline",
                        db->path);
    bool has_text = db->handle && (sqlite3_extended_errcode(db->handle) & 0xFF) == primary;
    const char *text = has_text ? sqlite3_errmsg(db->handle) : sqlite3_errstr(extended);
    return emb_fail(err, st, db->path, "%s: %s: %s", db->path, db->what, text);
}

/* ---- deadlines ---- */

static bool is_late(const emb_sqlite *db)
{
    return db->deadline_ns && emb_now_ns() >= db->deadline_ns;
}

static int on_progress(void *context)
{
    return is_late(context);
}

static int on_busy(void *context, int calls)
{
    emb_sqlite *db = context;
    uint64_t now = emb_now_ns();
    if (calls == 0)
        db->busy_since_ns = now;
    uint64_t end = db->deadline_ns ? db->deadline_ns : db->busy_since_ns + PATIENCE_NS;
    if (now >= end)
        return 0;
    uint64_t wait = (uint64_t)(calls < WAIT_MAX_MS ? calls + 1 : WAIT_MAX_MS) * 1000000;
    if (wait > end - now)
        wait = end - now;
    emb_duty_pass_on();
    nanosleep(&(struct timespec){(time_t)(wait / 1000000000), (long)(wait % 1000000000)}, NULL);
    return 1;
}

emb_status emb_sqlite_in_time(emb_sqlite *db, emb_error *err)
{
    return is_late(db) ? fail(db, SQLITE_INTERRUPT, err) : EMB_OK;
}

/* ---- statements ---- */

emb_status emb_sql_get(emb_sqlite *db, const char *sql, emb_sql **out, emb_error *err)
{
    emb_sql *s = db->statements;
    while (s && s->text != sql && strcmp(s->text, sql) != 0)
        s = s->next;
    if (s) {
        emb_sql_reset(s);
        *out = s;
        return EMB_OK;
    }
    size_t length = strlen(sql) + 1;
    s = calloc(1, sizeof *s + length);
    if (!s)
        return emb_fail_nomem(err, "a statement", sizeof *s + length);
    char *text = memcpy(s + 1, sql, length);
    int code = sqlite3_prepare_v3(db->handle, sql, (int)length, SQLITE_PREPARE_PERSISTENT, &s->handle, NULL);
    if (code != SQLITE_OK) {
        free(s);
        return fail(db, code, err);
    }
    s->db = db;
    s->text = text;
    s->next = db->statements;
    db->statements = s;
    *out = s;
    return EMB_OK;
}

static void note_bind(emb_sql *sql, int code)
{
    if (sql->bind_failure == SQLITE_OK)
        sql->bind_failure = code;
}

void emb_sql_int(emb_sql *sql, int parameter, int64_t value)
{
    note_bind(sql, sqlite3_bind_int64(sql->handle, parameter, value));
}

void emb_sql_text(emb_sql *sql, int parameter, const char *text, size_t length)
{
    note_bind(sql, sqlite3_bind_text64(sql->handle, parameter, text, length, SQLITE_STATIC, SQLITE_UTF8));
}

void emb_sql_bytes(emb_sql *sql, int parameter, const void *data, size_t length)
{
    note_bind(sql, sqlite3_bind_blob64(sql->handle, parameter, data, length, SQLITE_STATIC));
}

void emb_sql_bind(emb_sql *sql, const emb_param *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const emb_param *v = &values[i];
        int parameter = (int)i + 1;
        switch (v->kind) {
        case EMB_PARAM_BYTES:
            emb_sql_bytes(sql, parameter, v->data, v->length);
            break;
        case EMB_PARAM_TEXT:
            emb_sql_text(sql, parameter, v->data, v->length);
            break;
        case EMB_PARAM_INT:
        case EMB_PARAM_INT4:
            emb_sql_int(sql, parameter, v->integer);
            break;
        }
    }
}

emb_status emb_sql_ask(emb_sqlite *db, const char *sql, const emb_param *values, size_t count, emb_sql **out,
                       emb_error *err)
{
    emb_status st = emb_sql_get(db, sql, out, err);
    if (st == EMB_OK)
        emb_sql_bind(*out, values, count);
    return st;
}

emb_status emb_sql_call(emb_sqlite *db, const char *sql, const emb_param *values, size_t count,
                        emb_error *err)
{
    emb_sql *s;
    emb_status st = emb_sql_ask(db, sql, values, count, &s, err);
    return st ? st : emb_sql_do(s, err);
}

emb_status emb_sql_step(emb_sql *sql, bool *row, emb_error *err)
{
    *row = false;
    if (sql->bind_failure != SQLITE_OK)
        return fail(sql->db, sql->bind_failure, err);
    int code = sqlite3_step(sql->handle);
    *row = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? EMB_OK : fail(sql->db, code, err);
}

emb_status emb_sql_do(emb_sql *sql, emb_error *err)
{
    bool row;
    emb_status st = emb_sql_step(sql, &row, err);
    emb_sql_reset(sql);
    return st;
}

void emb_sql_reset(emb_sql *sql)
{
    if (!sql)
        return;
    sqlite3_reset(sql->handle); /* repeats the error of the last step, which was reported */
    sqlite3_clear_bindings(sql->handle);
    sql->bind_failure = SQLITE_OK;
}

int64_t emb_sql_column_int(emb_sql *sql, int column)
{
    return sqlite3_column_int64(sql->handle, column);
}

const void *emb_sql_column_bytes(emb_sql *sql, int column, size_t *length)
{
    const void *data = sqlite3_column_blob(sql->handle, column);
    *length = data ? (size_t)sqlite3_column_bytes(sql->handle, column) : 0;
    return data;
}

const char *emb_sql_column_text(emb_sql *sql, int column, size_t *length)
{
    const char *text = (const char *)sqlite3_column_text(sql->handle, column);
    if (length)
        *length = text ? (size_t)sqlite3_column_bytes(sql->handle, column) : 0;
    return text;
}

emb_status emb_sqlite_run(emb_sqlite *db, const char *sql, emb_error *err)
{
    int code = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? EMB_OK : fail(db, code, err);
}

/* The first column of the first row of a statement that is run once. */
static emb_status number_of(emb_sqlite *db, const char *sql, int64_t *out, emb_error *err)
{
    sqlite3_stmt *s;
    int code = sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL);
    if (code != SQLITE_OK)
        return fail(db, code, err);
    code = sqlite3_step(s);
    *out = code == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    emb_status st = code == SQLITE_ROW || code == SQLITE_DONE ? EMB_OK : fail(db, code, err);
    sqlite3_finalize(s);
    return st;
}

/* ---- transactions ---- */

emb_status emb_sqlite_begin(emb_sqlite *db, bool write, emb_error *err)
{
    return emb_sqlite_run(db, write ? "BEGIN IMMEDIATE" : "BEGIN", err);
}

emb_status emb_sqlite_end(emb_sqlite *db, emb_status so_far, emb_error *err)
{
    if (so_far == EMB_OK)
        so_far = emb_sqlite_run(db, "COMMIT", err);
    if (so_far != EMB_OK && !sqlite3_get_autocommit(db->handle)) {
        db->deadline_ns = 0; /* it is over; what is left is to clean up */
        if (sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
            db->broken = true;
    }
    return so_far;
}

uint64_t emb_sqlite_changes(emb_sqlite *db)
{
    return (uint64_t)sqlite3_changes64(db->handle);
}

static emb_status bytes_of(emb_sqlite *db, const char *sql, uint64_t *out, emb_error *err)
{
    emb_sql *s;
    bool row;
    emb_status st = emb_sql_get(db, sql, &s, err);
    if (st != EMB_OK)
        return st;
    st = emb_sql_step(s, &row, err);
    *out = st == EMB_OK && row ? (uint64_t)emb_sql_column_int(s, 0) : 0;
    emb_sql_reset(s);
    return st;
}

emb_status emb_sqlite_bytes(emb_sqlite *db, uint64_t *out, emb_error *err)
{
    return bytes_of(db,
                    "SELECT (p.page_count - f.freelist_count) * s.page_size FROM pragma_page_count p, "
                    "pragma_freelist_count f, pragma_page_size s",
                    out, err);
}

emb_status emb_sqlite_file_bytes(emb_sqlite *db, uint64_t *out, emb_error *err)
{
    return bytes_of(db, "SELECT p.page_count * s.page_size FROM pragma_page_count p, pragma_page_size s", out,
                    err);
}

emb_status emb_sqlite_shrink(emb_sqlite *db, uint64_t bytes, emb_error *err)
{
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%llu)", (unsigned long long)(bytes / 4096 + 1));
    return emb_sqlite_run(db, sql, err);
}

/* ---- opening ---- */

/* Whether a file may be used: EMB_OK with *version, or why not. In a transaction. */
static emb_status look(emb_sqlite *db, const emb_sqlite_schema *schema, int64_t *version, emb_error *err)
{
    int64_t id, objects;
    emb_status st;
    if ((st = number_of(db, "PRAGMA application_id", &id, err)) ||
        (st = number_of(db, "PRAGMA user_version", version, err)) ||
        (st = number_of(db, "SELECT count(*) FROM sqlite_master", &objects, err)))
        return st;
    if (id != schema->application_id && (id || *version || objects))
        return emb_fail(err, EMB_E_CORRUPT, db->path,
                        "%s is a SQLite file of another program and not %s; it is left as it is", db->path,
                        schema->what);
    if (*version > schema->version)
        return emb_fail(err, EMB_E_UNSUPPORTED, db->path,
                        "%s was made by a newer embedd: version %lld of %s, this one knows up to %d",
                        db->path, (long long)*version, schema->what, (int)schema->version);
    return EMB_OK;
}

static emb_status migrate(emb_sqlite *db, const emb_sqlite_schema *schema, emb_error *err)
{
    int64_t version = 0;
    emb_status st = emb_sqlite_begin(db, true, err);
    if (st != EMB_OK)
        return st;
    st = look(db, schema, &version, err); /* again, now that nobody else can migrate it */
    for (; st == EMB_OK && version < schema->version; version++)
        st = emb_sqlite_run(db, schema->migrations[version], err);
    char sql[128];
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             (int)schema->application_id, (int)schema->version);
    if (st == EMB_OK)
        st = emb_sqlite_run(db, sql, err);
    return emb_sqlite_end(db, st, err);
}

/* SQLite does not wait for others while it switches the journal, so waiting is ours. */
static emb_status switch_to_wal(emb_sqlite *db, emb_error *err)
{
    for (int calls = 0;; calls++) {
        int code = sqlite3_exec(db->handle, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (code == SQLITE_OK)
            return EMB_OK;
        if ((code & 0xFF) != SQLITE_BUSY || !on_busy(db, calls))
            return fail(db, code, err);
    }
}

static emb_status prepare_file(emb_sqlite *db, const emb_sqlite_options *options, emb_error *err)
{
    int64_t version = 0;
    emb_status st = emb_sqlite_begin(db, false, err); /* one view: another may be migrating it right now */
    if (st == EMB_OK)
        st = emb_sqlite_end(db, look(db, options->schema, &version, err), err);
    if (st == EMB_OK && version == 0 && options->shrinks)
        st = emb_sqlite_run(db, "PRAGMA auto_vacuum = INCREMENTAL", err);
    if (st == EMB_OK)
        st = switch_to_wal(db, err);
    if (st == EMB_OK)
        st = emb_sqlite_run(
            db, options->durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", err);
    if (st == EMB_OK)
        st = emb_sqlite_run(db,
                            "PRAGMA journal_size_limit = 16777216; PRAGMA foreign_keys = ON; "
                            "PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY",
                            err);
    if (st == EMB_OK && version < options->schema->version)
        st = migrate(db, options->schema, err);
    return st;
}

static void close_connection(emb_sqlite *db)
{
    while (db->statements) {
        emb_sql *s = db->statements;
        db->statements = s->next;
        sqlite3_finalize(s->handle);
        free(s);
    }
    sqlite3_close_v2(db->handle);
    free(db);
}

/* Creating is open and close in one, for all threads: a close drops the locks of a connection that another
 * thread has opened in between. */
static pthread_mutex_t creating = PTHREAD_MUTEX_INITIALIZER;

static emb_status make_file(const char *path, emb_error *err)
{
    pthread_mutex_lock(&creating);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), number = errno;
    if (fd >= 0)
        close(fd);
    pthread_mutex_unlock(&creating);
    if (fd >= 0 || number == EEXIST)
        return EMB_OK;
    errno = number;
    emb_status st = emb_fail_errno(err, path, "creating");
    return st == EMB_E_NOT_FOUND ? EMB_E_IO : st;
}

static emb_status open_connection(emb_sqlite_pool *pool, uint64_t deadline_ns, emb_sqlite **out,
                                  emb_error *err)
{
    emb_status st = make_file(pool->path, err);
    if (st != EMB_OK)
        return st;
    emb_sqlite *db = calloc(1, sizeof *db);
    if (!db)
        return emb_fail_nomem(err, "a database connection", sizeof *db);
    db->path = pool->path;
    db->what = pool->options.schema->what;
    db->deadline_ns = deadline_ns;
    int code = sqlite3_open_v2(pool->path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK) {
        st = fail(db, code, err);
    } else {
        sqlite3_extended_result_codes(db->handle, 1);
        sqlite3_busy_handler(db->handle, on_busy, db);
        sqlite3_progress_handler(db->handle, PROGRESS_STEPS, on_progress, db);
        st = prepare_file(db, &pool->options, err);
    }
    if (st != EMB_OK) {
        close_connection(db);
        return st;
    }
    *out = db;
    return EMB_OK;
}

/* ---- the pool ---- */

emb_status emb_sqlite_pool_open(const char *path, const emb_sqlite_options *options, unsigned maximum,
                                emb_sqlite_pool **out, emb_error *err)
{
    size_t length = strlen(path) + 1;
    if (length == 1)
        return emb_fail(err, EMB_E_INVALID, "path", "the path of %s is empty", options->schema->what);
    emb_sqlite_pool *pool = calloc(1, sizeof *pool + length);
    if (!pool)
        return emb_fail_nomem(err, "a database pool", sizeof *pool + length);
    memcpy(pool->path, path, length);
    pool->options = *options;
    pool->maximum = maximum ? maximum : 1;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->freed, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = pool;
    return EMB_OK;
}

void emb_sqlite_pool_close(emb_sqlite_pool *pool)
{
    if (!pool)
        return;
    while (pool->idle) {
        emb_sqlite *db = pool->idle;
        pool->idle = db->next_idle;
        close_connection(db);
    }
    pthread_cond_destroy(&pool->freed);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* false when the deadline passed. */
static bool wait_for_one(emb_sqlite_pool *pool, uint64_t deadline_ns)
{
    emb_duty_pass_on();
    if (!deadline_ns)
        return pthread_cond_wait(&pool->freed, &pool->lock) == 0;
    struct timespec until = {(time_t)(deadline_ns / 1000000000), (long)(deadline_ns % 1000000000)};
    return pthread_cond_timedwait(&pool->freed, &pool->lock, &until) == 0;
}

emb_status emb_sqlite_acquire(emb_sqlite_pool *pool, uint64_t deadline_ns, emb_sqlite **out, emb_error *err)
{
    if (deadline_ns && emb_now_ns() >= deadline_ns)
        return emb_fail(err, EMB_E_DEADLINE, pool->path, "%s: the deadline has passed", pool->path);
    pthread_mutex_lock(&pool->lock);
    while (!pool->idle && pool->open >= pool->maximum)
        if (!wait_for_one(pool, deadline_ns)) {
            pthread_mutex_unlock(&pool->lock);
            return emb_fail(err, EMB_E_DEADLINE, pool->path, "%s: all %u connections are in use", pool->path,
                            pool->maximum);
        }
    emb_sqlite *db = pool->idle;
    if (db)
        pool->idle = db->next_idle;
    else
        pool->open++;
    pthread_mutex_unlock(&pool->lock);
    if (db) {
        db->deadline_ns = deadline_ns;
        *out = db;
        return EMB_OK;
    }
    emb_status st = open_connection(pool, deadline_ns, out, err);
    if (st != EMB_OK) {
        pthread_mutex_lock(&pool->lock);
        pool->open--;
        pthread_cond_signal(&pool->freed);
        pthread_mutex_unlock(&pool->lock);
    }
    return st;
}

void emb_sqlite_release(emb_sqlite_pool *pool, emb_sqlite *db)
{
    for (emb_sql *s = db->statements; s; s = s->next)
        emb_sql_reset(s);
    if (!sqlite3_get_autocommit(db->handle)) {
        emb_error ignored;
        (void)!emb_sqlite_end(db, EMB_E_CANCELLED, &ignored);
    }
    bool broken = db->broken;
    if (broken)
        close_connection(db);
    pthread_mutex_lock(&pool->lock);
    if (broken) {
        pool->open--;
    } else {
        db->next_idle = pool->idle;
        pool->idle = db;
    }
    pthread_cond_signal(&pool->freed);
    pthread_mutex_unlock(&pool->lock);
}

emb_status emb_sqlite_enter(emb_sqlite_pool *pool, uint64_t deadline_ns, emb_sqlite **out, emb_error *err)
{
    emb_status st = emb_sqlite_acquire(pool, deadline_ns, out, err);
    if (st == EMB_OK && (st = emb_sqlite_begin(*out, true, err)) != EMB_OK)
        emb_sqlite_release(pool, *out);
    return st;
}

emb_status emb_sqlite_leave(emb_sqlite_pool *pool, emb_sqlite *db, emb_status so_far, emb_error *err)
{
    emb_status st = emb_sqlite_end(db, so_far, err);
    emb_sqlite_release(pool, db);
    return st;
}
