/*
 * libpq in its non-blocking mode, with waiting of our own.
 *
 * Every step is: flush what is to be sent, wait for the socket with the deadline, consume, look. libpq never
 * waits itself: connecting goes by PQconnectPoll on a thread that may take its time (pool.c), since libpq
 * resolves names there, and PQfinish on a non-blocking socket does not wait.
 *
 * A statement that is late costs its connection. PQcancel is not used: it connects anew and waits for the
 * server, for ever if that is frozen. Instead every session asks the server to look whether its client is
 * still there (client_connection_check_interval) and has a statement_timeout, so that what was given up ends
 * by itself, and does not pile up in the server behind a lock.
 */
#include "store/postgresql_link.h"

#include "base/error.h"
#include "store/wait.h"

#include <ctype.h>
#include <libpq-fe.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { MAX_PREPARED = 64, MAX_PARAMS = 16 };

struct emb_pg_link {
    PGconn *connection;
    const char *where; /* of the store, which outlives all links */
    const atomic_bool *stop;
    bool doubtful, gone;
    char sqlstate[6];
    size_t prepared_count;
    const emb_pg_statement *prepared[MAX_PREPARED];
};

struct emb_pg_result {
    PGresult *rows;
};

/* ---- failures ---- */

/* What a server or libpq says: one printable line, the user's name taken out. */
static void printable(const char *text, const char *user, char *out, size_t size)
{
    size_t n = 0, skip = user ? strlen(user) : 0;
    for (const char *s = text; *s && n + 1 < size; s++) {
        if (*s == '"' && skip && strncmp(s + 1, user, skip) == 0 && s[skip + 1] == '"')
            s += skip + 2;
        if (*s == '\n' || *s == '\t') {
            if (n && out[n - 1] != ' ')
                out[n++] = ' ';
        } else if (*s)
            out[n++] = (unsigned char)*s < 0x80 && isprint((unsigned char)*s) ? *s : '?';
        if (!*s)
            break;
    }
    while (n && out[n - 1] == ' ')
        n--;
    out[n] = 0;
}

/* `doubtful`: the connection must not be used again. */
static const struct {
    const char *state, *meaning;
    emb_status status;
    bool doubtful;
} MEANINGS[] = {
    {"25006", "is read-only and takes no writes", EMB_E_IO,
     true}, /* after a failover a new connection helps */
    {"42501", "does not permit this to the user of the URL", EMB_E_IO, false},
    {"53100", "has a full disk", EMB_E_IO, false},
    {"53200", "is out of memory", EMB_E_IO, false},
    {"53300", "has reached its limit of connections", EMB_E_BUSY, true},
    {"57P01", "is being shut down", EMB_E_IO, true},
    {"57P02", "has crashed and restarts", EMB_E_IO, true},
    {"57P03", "is starting up or shutting down", EMB_E_IO, true},
    {"57014", "gave the statement up for its own time limit", EMB_E_DEADLINE, false},
    {"55P03", "did not get a lock in time", EMB_E_DEADLINE, false},
    {"40P01", "gave the statement up to resolve a deadlock", EMB_E_IO, false},
    {"42P01", "lacks a table; was it dropped while embedd was running?", EMB_E_IO, true},
    {"26000", "lost a prepared statement; a pooler in transaction mode needs support for them", EMB_E_IO,
     true},
    {"42P05", "has a prepared statement already; a pooler in transaction mode needs support for them",
     EMB_E_IO, true},
};

static emb_status refusal(emb_pg_link *link, const PGresult *result, emb_error *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *said = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    char text[240];
    snprintf(link->sqlstate, sizeof link->sqlstate, "%s", state ? state : "");
    printable(said ? said : PQresultErrorMessage(result), PQuser(link->connection), text, sizeof text);
    for (size_t i = 0; state && i < sizeof MEANINGS / sizeof *MEANINGS; i++)
        if (strcmp(state, MEANINGS[i].state) == 0) {
            link->doubtful |= MEANINGS[i].doubtful;
            link->gone |= strncmp(state, "57P0", 4) == 0; /* said to whoever is connected; nothing was run */
            return emb_fail(err, MEANINGS[i].status, link->where, "%s %s (%s)", link->where,
                            MEANINGS[i].meaning, text);
        }
    if (!state || strncmp(state, "08", 2) == 0)
        link->doubtful = true;
    if (state &&
        (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0 || strncmp(state, "54", 2) == 0))
        return emb_fail(err, EMB_E_INVALID, link->where, "%s does not take these values: %s", link->where,
                        text);
    return emb_fail(err, EMB_E_IO, link->where, "%s answered with an error: %s", link->where, text);
}

static emb_status lost(emb_pg_link *link, emb_error *err)
{
    char text[240];
    link->doubtful = link->gone = true;
    printable(PQerrorMessage(link->connection), PQuser(link->connection), text, sizeof text);
    return emb_fail(err, EMB_E_IO, link->where, "the connection to %s was lost: %s", link->where, text);
}

static emb_status wait_for(emb_pg_link *link, short events, uint64_t deadline_ns, emb_error *err)
{
    switch (emb_wait(PQsocket(link->connection), events, deadline_ns, link->stop)) {
    case EMB_WAIT_READY:
        return EMB_OK;
    case EMB_WAIT_FAILED:
        link->doubtful = true;
        return emb_fail_errno(err, link->where, "waiting for");
    case EMB_WAIT_STOPPED:
        link->doubtful = true;
        return emb_fail(err, EMB_E_CANCELLED, link->where, "%s is being closed", link->where);
    default:
        link->doubtful = true;
        return emb_fail(err, EMB_E_DEADLINE, link->where, "%s had not answered when the deadline passed",
                        link->where);
    }
}

/* ---- one exchange ---- */

static emb_status flush(emb_pg_link *link, uint64_t deadline_ns, emb_error *err)
{
    for (;;) {
        int left = PQflush(link->connection);
        if (left == 0)
            return EMB_OK;
        if (left < 0)
            return lost(link, err);
        emb_status st = wait_for(link, POLLIN | POLLOUT, deadline_ns, err);
        if (st != EMB_OK)
            return st;
        if (!PQconsumeInput(link->connection)) /* so that a server that waits for us to read goes on */
            return lost(link, err);
    }
}

/* The next result, NULL after the last. */
static emb_status next_result(emb_pg_link *link, uint64_t deadline_ns, PGresult **out, emb_error *err)
{
    *out = NULL;
    while (PQisBusy(link->connection)) {
        emb_status st = wait_for(link, POLLIN, deadline_ns, err);
        if (st != EMB_OK)
            return st;
        if (!PQconsumeInput(link->connection))
            return lost(link, err);
    }
    *out = PQgetResult(link->connection);
    return EMB_OK;
}

static bool is_good(const PGresult *result)
{
    ExecStatusType s = PQresultStatus(result);
    return s == PGRES_TUPLES_OK || s == PGRES_COMMAND_OK || s == PGRES_EMPTY_QUERY;
}

/* A server that begins a COPY, or what only looks like a server, must not leave us in a mode that never
 * ends. */
static bool is_expected(const PGresult *result)
{
    return is_good(result) || PQresultStatus(result) == PGRES_FATAL_ERROR ||
           PQresultStatus(result) == PGRES_NONFATAL_ERROR || PQresultStatus(result) == PGRES_BAD_RESPONSE;
}

/* What was sent: flushes it and reads all results; the last, or the first failure, counts. */
static emb_status finish(emb_pg_link *link, int sent, uint64_t deadline_ns, PGresult **out, emb_error *err)
{
    PGresult *last = NULL, *next;
    emb_status st = EMB_OK, wire = sent ? flush(link, deadline_ns, err) : lost(link, err);
    while (wire == EMB_OK && (wire = next_result(link, deadline_ns, &next, err)) == EMB_OK && next) {
        if (st == EMB_OK && !is_good(next))
            st = refusal(link, next, err);
        bool expected = is_expected(next);
        PQclear(last);
        last = next;
        if (!expected) {
            link->doubtful = true;
            wire = emb_fail(err, EMB_E_CORRUPT, link->where, "%s does not answer as PostgreSQL does",
                            link->where);
        }
    }
    if (PQstatus(link->connection) == CONNECTION_BAD) {
        link->doubtful = true;
        link->gone |= !last;
    }
    if (st == EMB_OK)
        st = wire;
    if (st == EMB_OK && !last)
        st = lost(link, err);
    if (st == EMB_OK && out)
        *out = last;
    else
        PQclear(last);
    return st;
}

static void start(emb_pg_link *link)
{
    link->gone = false;
    link->sqlstate[0] = 0;
}

/* Wraps the rows for the caller; without `out` they are released. */
static emb_status hand_out(emb_pg_link *link, PGresult *rows, emb_pg_result **out, emb_error *err)
{
    if (!out) {
        PQclear(rows);
        return EMB_OK;
    }
    if (!(*out = malloc(sizeof **out))) {
        PQclear(rows);
        return emb_fail_nomem(err, link->where, sizeof **out);
    }
    (*out)->rows = rows;
    return EMB_OK;
}

emb_status emb_pg_link_plain(emb_pg_link *link, const char *sql, uint64_t deadline_ns, emb_pg_result **out,
                             emb_error *err)
{
    PGresult *rows;
    start(link);
    emb_status st = finish(link, PQsendQuery(link->connection, sql), deadline_ns, &rows, err);
    return st ? st : hand_out(link, rows, out, err);
}

typedef struct binary {
    const char *values[MAX_PARAMS];
    int lengths[MAX_PARAMS], formats[MAX_PARAMS];
    unsigned char integers[MAX_PARAMS][8];
} binary;

void emb_pg_big_endian(uint64_t value, size_t bytes, unsigned char *out)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (unsigned char)(value >> 8 * (bytes - 1 - i));
}

static emb_status as_binary(const emb_pg_link *link, const emb_param *params, size_t count, binary *out,
                            emb_error *err)
{
    static const char empty[1];
    if (count > MAX_PARAMS)
        return emb_fail(err, EMB_E_INTERNAL, link->where, "a statement has more than %d parameters",
                        MAX_PARAMS);
    for (size_t i = 0; i < count; i++) {
        if (params[i].length > INT_MAX)
            return emb_fail(err, EMB_E_LIMIT, link->where, "%s takes no values of %zu bytes", link->where,
                            params[i].length);
        out->values[i] = params[i].data && !params[i].length ? empty : params[i].data;
        out->lengths[i] = (int)params[i].length;
        out->formats[i] = 1;
        if (params[i].kind == EMB_PARAM_INT || params[i].kind == EMB_PARAM_INT4) {
            out->lengths[i] = params[i].kind == EMB_PARAM_INT ? 8 : 4;
            emb_pg_big_endian((uint64_t)params[i].integer, (size_t)out->lengths[i], out->integers[i]);
            out->values[i] = (const char *)out->integers[i];
        }
    }
    return EMB_OK;
}

emb_status emb_pg_link_params(emb_pg_link *link, const char *sql, const emb_param *params, size_t count,
                              uint64_t deadline_ns, emb_pg_result **out, emb_error *err)
{
    binary b;
    PGresult *rows;
    emb_status st = as_binary(link, params, count, &b, err);
    if (st != EMB_OK)
        return st;
    start(link);
    int sent = PQsendQueryParams(link->connection, sql, (int)count, NULL, b.values, b.lengths, b.formats, 1);
    st = finish(link, sent, deadline_ns, &rows, err);
    return st ? st : hand_out(link, rows, out, err);
}

static emb_status prepare(emb_pg_link *link, const emb_pg_statement *statement, uint64_t deadline_ns,
                          emb_error *err)
{
    for (size_t i = 0; i < link->prepared_count; i++)
        if (link->prepared[i] == statement)
            return EMB_OK;
    if (link->prepared_count == MAX_PREPARED)
        return emb_fail(err, EMB_E_INTERNAL, link->where, "more than %d prepared statements", MAX_PREPARED);
    emb_status st = finish(link, PQsendPrepare(link->connection, statement->name, statement->sql, 0, NULL),
                           deadline_ns, NULL, err);
    if (st == EMB_OK)
        link->prepared[link->prepared_count++] = statement;
    return st;
}

emb_status emb_pg_link_prepared(emb_pg_link *link, const emb_pg_statement *statement, const emb_param *params,
                                size_t count, uint64_t deadline_ns, emb_pg_result **out, emb_error *err)
{
    binary b;
    PGresult *rows;
    start(link);
    emb_status st = as_binary(link, params, count, &b, err);
    if (st == EMB_OK)
        st = prepare(link, statement, deadline_ns, err);
    if (st != EMB_OK)
        return st;
    int sent =
        PQsendQueryPrepared(link->connection, statement->name, (int)count, b.values, b.lengths, b.formats, 1);
    st = finish(link, sent, deadline_ns, &rows, err);
    return st ? st : hand_out(link, rows, out, err);
}

/* ---- connecting ---- */

static void ignore_notice(void *context, const PGresult *notice)
{
    (void)context, (void)notice; /* libpq would print it */
}

static emb_status not_connected(emb_pg_link *link, emb_error *err)
{
    char text[300];
    printable(PQerrorMessage(link->connection), PQuser(link->connection), text, sizeof text);
    bool busy = strstr(text, "too many clients") || strstr(text, "remaining connection slots") ||
                strstr(text, "too many connections");
    return emb_fail(err, busy ? EMB_E_BUSY : EMB_E_IO, link->where, "%s cannot be reached: %s", link->where,
                    text);
}

static emb_status poll_connection(emb_pg_link *link, uint64_t deadline_ns, emb_error *err)
{
    for (PostgresPollingStatusType next = PGRES_POLLING_WRITING;;) {
        emb_status st = EMB_OK;
        switch (next) {
        case PGRES_POLLING_OK:
            return EMB_OK;
        case PGRES_POLLING_READING:
            st = wait_for(link, POLLIN, deadline_ns, err);
            break;
        case PGRES_POLLING_WRITING:
            st = wait_for(link, POLLOUT, deadline_ns, err);
            break;
        default:
            return not_connected(link, err);
        }
        if (st != EMB_OK)
            return st;
        next = PQconnectPoll(link->connection);
    }
}

emb_status emb_pg_link_dial(const char *url, const char *where, uint64_t deadline_ns, const atomic_bool *stop,
                            emb_pg_link **out, emb_error *err)
{
    const char *const names[] = {"dbname", "fallback_application_name", "client_encoding", NULL};
    const char *const values[] = {url, "embedd", "UTF8", NULL};
    emb_pg_link *link = calloc(1, sizeof *link);
    if (!link)
        return emb_fail_nomem(err, where, sizeof *link);
    link->where = where;
    link->stop = stop;
    emb_status st = EMB_OK;
    if (!(link->connection = PQconnectStartParams(names, values, 1)))
        st = emb_fail_nomem(err, where, 1);
    else if (PQstatus(link->connection) == CONNECTION_BAD)
        st = not_connected(link, err);
    else {
        PQsetNoticeReceiver(link->connection, ignore_notice, NULL);
        st = poll_connection(link, deadline_ns, err);
    }
    if (st == EMB_OK && PQsetnonblocking(link->connection, 1) != 0)
        st = lost(link, err);
    if (st != EMB_OK)
        emb_pg_link_hang_up(link);
    else
        *out = link;
    return st;
}

void emb_pg_link_set_stop(emb_pg_link *link, const atomic_bool *stop)
{
    link->stop = stop;
}

int emb_pg_link_version(const emb_pg_link *link)
{
    return PQserverVersion(link->connection);
}

/* Idle connections are silent: something to read is the end, or the announcement of it. */
bool emb_pg_link_alive(emb_pg_link *link)
{
    char byte;
    return recv(PQsocket(link->connection), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
}

bool emb_pg_link_usable(const emb_pg_link *link)
{
    return !link->doubtful && PQstatus(link->connection) == CONNECTION_OK &&
           PQtransactionStatus(link->connection) == PQTRANS_IDLE;
}

void emb_pg_link_hang_up(emb_pg_link *link)
{
    if (link && link->connection)
        PQfinish(link->connection);
    free(link);
}

const char *emb_pg_link_sqlstate(const emb_pg_link *link)
{
    return link->sqlstate;
}

void emb_pg_link_trust(emb_pg_link *link)
{
    link->doubtful = false;
}

bool emb_pg_link_gone(const emb_pg_link *link)
{
    return link->gone;
}

/* ---- results ---- */

size_t emb_pg_rows(const emb_pg_result *result)
{
    return (size_t)PQntuples(result->rows);
}

const void *emb_pg_bytes(const emb_pg_result *result, size_t row, int column, size_t *length)
{
    *length = 0;
    if (column >= PQnfields(result->rows) || PQgetisnull(result->rows, (int)row, column))
        return NULL;
    *length = (size_t)PQgetlength(result->rows, (int)row, column);
    return PQgetvalue(result->rows, (int)row, column);
}

const char *emb_pg_text(const emb_pg_result *result, size_t row, int column)
{
    size_t length;
    return emb_pg_bytes(result, row, column, &length);
}

int64_t emb_pg_int(const emb_pg_result *result, size_t row, int column)
{
    size_t length;
    const unsigned char *bytes = emb_pg_bytes(result, row, column, &length);
    uint64_t value = bytes && length && length <= 8 && bytes[0] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = 0; bytes && i < length && length <= 8; i++)
        value = value << 8 | bytes[i];
    return (int64_t)value;
}

void emb_pg_result_free(emb_pg_result *result)
{
    if (result)
        PQclear(result->rows);
    free(result);
}
