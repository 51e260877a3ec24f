/*
 * A socket of our own, hiredis for the protocol.
 *
 * hiredis's redisContext is not used: its blocking mode keeps time-outs for each read and not for a command,
 * so that a server that drips one byte a second holds its caller for ever, and its non-blocking mode tries
 * one address of a name only. Its reader is: fed with what the socket gave, it calls the functions below for
 * each part of an answer, and they build replies in one arena with a bound, so that a length of 2^31 from
 * something that is no Redis costs an error and not the memory.
 *
 * Sending and reading are interleaved: with large batches both sides' buffers fill up, and a client that only
 * sends would wait for a server that waits for it. The clock is looked at in every round, so neither silence,
 * half answers, a drip nor a flood outlasts the deadline. Bytes that follow the last answer mean that the two
 * sides have lost step: the connection is given up.
 */
#include "store/redis_link.h"

#include "base/error.h"
#include "store/wait.h"

#include <ctype.h>
#include <hiredis/read.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_BYTES = 64 << 10, KEEP_BYTES = 1 << 20, SETUP_REPLY_BYTES = 64 << 10 };

struct emb_redis_link {
    int fd;
    redisReader *reader;
    const char *where;       /* of the address, which outlives all links */
    const atomic_bool *stop; /* while dialing */
    char buffer[READ_BYTES];
};

/* ---- building replies ---- */

static void *room(emb_redis_replies *r, size_t bytes)
{
    if (bytes > r->limit - r->bytes)
        return NULL;
    r->bytes += bytes;
    return emb_arena_alloc(&r->arena, bytes);
}

/* The place of a reply: in its array, or on its own. */
static emb_redis_reply *place(const redisReadTask *task, emb_redis_type type)
{
    emb_redis_reply *reply;
    if (task->parent) {
        emb_redis_reply *array = task->parent->obj;
        reply = &array->elements[task->idx];
    } else if (!(reply = room(task->privdata, sizeof *reply)))
        return NULL;
    *reply = (emb_redis_reply){.type = type};
    return reply;
}

static void *create_text(const redisReadTask *task, char *text, size_t length)
{
    emb_redis_reply *reply = place(task, task->type == REDIS_REPLY_STRING  ? EMB_REDIS_TEXT
                                         : task->type == REDIS_REPLY_ERROR ? EMB_REDIS_ERROR
                                                                           : EMB_REDIS_STATUS);
    char *copy = reply ? room(task->privdata, length + 1) : NULL;
    if (!copy)
        return NULL;
    memcpy(copy, text, length);
    copy[length] = 0;
    reply->text = copy;
    reply->length = length;
    return reply;
}

static void *create_array(const redisReadTask *task, int count)
{
    emb_redis_reply *reply = place(task, EMB_REDIS_ARRAY);
    if (!reply || count < 0 || (size_t)count > SIZE_MAX / sizeof *reply)
        return NULL;
    if (count) {
        if (!(reply->elements = room(task->privdata, (size_t)count * sizeof *reply)))
            return NULL;
        memset(reply->elements, 0, (size_t)count * sizeof *reply);
    }
    reply->length = (size_t)count;
    return reply;
}

static void *create_integer(const redisReadTask *task, long long value)
{
    emb_redis_reply *reply = place(task, EMB_REDIS_INTEGER);
    if (reply)
        reply->integer = value;
    return reply;
}

static void *create_nil(const redisReadTask *task)
{
    return place(task, EMB_REDIS_NIL);
}

static void forget(void *reply)
{
    (void)reply; /* the arena has it */
}

static redisReplyObjectFunctions FUNCTIONS = {create_text, create_array, create_integer, create_nil, forget};

/* ---- what a refusal means ---- */

static const struct {
    const char *word, *meaning;
    emb_status status;
} MEANINGS[] = {
    {"OOM", "is full (its maxmemory is used up) and takes no writes", EMB_E_IO},
    {"READONLY", "is a read-only replica and takes no writes", EMB_E_IO},
    {"MISCONF", "takes no writes, since it cannot save to its disk", EMB_E_IO},
    {"LOADING", "is still loading its data", EMB_E_IO},
    {"MASTERDOWN", "is a replica that has lost its master", EMB_E_IO},
    {"NOREPLICAS", "takes no writes, since too few replicas are connected", EMB_E_IO},
    {"BUSY", "is busy with a script", EMB_E_IO},
    {"DENIED", "is in protected mode and takes no connections from other machines", EMB_E_IO},
    {"NOAUTH", "asks for a password, and the URL has none", EMB_E_IO},
    {"WRONGPASS", "does not accept the user and password of the URL", EMB_E_IO},
    {"NOPERM", "does not permit the command to this user", EMB_E_IO},
    {"WRONGTYPE", "holds something else than expected under this key", EMB_E_CORRUPT},
    {"MOVED", "is part of a cluster, which is not supported", EMB_E_UNSUPPORTED},
    {"CROSSSLOT", "is part of a cluster, which is not supported", EMB_E_UNSUPPORTED},
    {"CLUSTERDOWN", "is part of a cluster, which is not supported", EMB_E_UNSUPPORTED},
};

/* Texts come from outside: one printable line of bounded length. */
static void printable(const char *text, size_t length, char *out, size_t size)
{
    size_t n = 0;
    for (; n < length && n + 1 < size; n++)
        out[n] = (unsigned char)text[n] < 0x80 && isprint((unsigned char)text[n]) ? text[n] : '?';
    out[n] = 0;
}

emb_status emb_redis_link_refusal(const char *where, const emb_redis_reply *reply, emb_error *err)
{
    char said[200];
    printable(reply->text, reply->length, said, sizeof said);
    for (size_t i = 0; i < sizeof MEANINGS / sizeof *MEANINGS; i++)
        if (emb_redis_is_error(reply, MEANINGS[i].word))
            return emb_fail(err, MEANINGS[i].status, where, "%s %s (%s)", where, MEANINGS[i].meaning, said);
    return emb_fail(err, EMB_E_IO, where, "%s answered with an error: %s", where, said);
}

/* errno in words. A socket file that is missing is a server that is down, not a thing that was not found. */
static emb_status io_failure(const char *where, const char *doing, emb_error *err)
{
    char text[128];
    const char *why = strerror_r(errno, text, sizeof text);
    return emb_fail(err, EMB_E_IO, where, "%s %s: %s", doing, where, why);
}

/* ---- exchange ---- */

static emb_status too_late(const emb_redis_link *link, size_t got, size_t count, emb_error *err)
{
    return emb_fail(err, EMB_E_DEADLINE, link->where,
                    "%s had answered %zu of %zu commands when the deadline passed", link->where, got, count);
}

static emb_status broken(const emb_redis_link *link, const char *doing, emb_error *err)
{
    return io_failure(link->where, doing, err);
}

/* *sent moves on by what the socket takes now. */
static emb_status send_some(emb_redis_link *link, const emb_buf *out, size_t *sent, bool *gone,
                            emb_error *err)
{
    while (*sent < out->length) {
        ssize_t n = send(link->fd, out->data + *sent, out->length - *sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            *sent += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            break;
        else if (errno != EINTR) {
            *gone = errno == EPIPE || errno == ECONNRESET;
            return broken(link, "writing to", err);
        }
    }
    return EMB_OK;
}

/* Feeds the reader with one read's worth. *got counts the bytes; 0: nothing there. */
static emb_status read_some(emb_redis_link *link, size_t *got, bool *gone, emb_error *err)
{
    ssize_t n = recv(link->fd, link->buffer, sizeof link->buffer, MSG_DONTWAIT);
    *got = 0;
    if (n == 0) {
        *gone = true;
        return emb_fail(err, EMB_E_IO, link->where, "%s closed the connection", link->where);
    }
    if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            return EMB_OK;
        *gone = errno == ECONNRESET;
        return broken(link, "reading from", err);
    }
    *got = (size_t)n;
    if (redisReaderFeed(link->reader, link->buffer, (size_t)n) != REDIS_OK)
        return emb_fail_nomem(err, link->where, (size_t)n);
    return EMB_OK;
}

static emb_status take_replies(emb_redis_link *link, emb_redis_replies *replies, size_t count, emb_error *err)
{
    while (replies->count < count) {
        void *reply = NULL;
        if (redisReaderGetReply(link->reader, &reply) != REDIS_OK) {
            if (link->reader->err == REDIS_ERR_OOM)
                return emb_fail(err, EMB_E_LIMIT, link->where, "%s sent an answer of more than %zu bytes",
                                link->where, replies->limit);
            return emb_fail(err, EMB_E_CORRUPT, link->where, "%s sent what is not Redis's protocol",
                            link->where);
        }
        if (!reply)
            break;
        replies->list[replies->count++] = reply;
    }
    if (replies->count == count && link->reader->pos < link->reader->len)
        return emb_fail(err, EMB_E_CORRUPT, link->where, "%s sent more answers than it was asked for",
                        link->where);
    if (link->reader->len - link->reader->pos > replies->limit)
        return emb_fail(err, EMB_E_LIMIT, link->where, "%s sent an answer of more than %zu bytes",
                        link->where, replies->limit);
    return EMB_OK;
}

static emb_status exchange(emb_redis_link *link, const emb_buf *out, size_t count, uint64_t deadline_ns,
                           emb_redis_replies *replies, bool *gone, emb_error *err)
{
    size_t sent = 0, got, total = 0;
    emb_status st;
    do {
        st = send_some(link, out, &sent, gone, err);
        if (st && !*gone)
            break;
        switch (emb_wait(link->fd, (short)(POLLIN | (sent < out->length ? POLLOUT : 0)), deadline_ns,
                         link->stop)) {
        case EMB_WAIT_READY:
            break;
        case EMB_WAIT_FAILED:
            return broken(link, "waiting for", err);
        default:
            return too_late(link, replies->count, count, err);
        }
        if ((st = read_some(link, &got, gone, err))) /* a server that closed may have said why */
            break;
        total += got;
        if (got && (st = take_replies(link, replies, count, err)))
            break;
    } while (replies->count < count);
    *gone = *gone && total == 0;
    return st;
}

/* What a server says unasked before it closes a new connection. */
static bool is_farewell(const emb_redis_reply *reply)
{
    return emb_redis_is_error(reply, "DENIED") || emb_redis_is_error(reply, "ERR max number of clients");
}

emb_status emb_redis_link_exchange(emb_redis_link *link, const emb_buf *out, size_t count,
                                   uint64_t deadline_ns, emb_redis_replies *replies, bool *gone,
                                   emb_error *err)
{
    size_t limit = replies->limit;
    *gone = false;
    *replies = (emb_redis_replies){.limit = limit};
    emb_arena_init(&replies->arena);
    link->reader->privdata = replies;
    emb_status st = EMB_OK;
    if (!(replies->list = emb_arena_calloc(&replies->arena, count, sizeof *replies->list)))
        st = emb_fail_nomem(err, link->where, count * sizeof *replies->list);
    if (st == EMB_OK)
        st = exchange(link, out, count, deadline_ns, replies, gone, err);
    link->reader->privdata = NULL;
    if (st != EMB_OK && replies->count && is_farewell(replies->list[0]))
        st = emb_redis_link_refusal(link->where, replies->list[0], err);
    if (st != EMB_OK)
        emb_redis_replies_fini(replies);
    return st;
}

/* ---- connecting ---- */

static emb_status finish_connect(int fd, const char *where, uint64_t deadline_ns, const atomic_bool *stop,
                                 emb_error *err)
{
    int failure = 0;
    socklen_t size = sizeof failure;
    switch (emb_wait(fd, POLLOUT, deadline_ns, stop)) {
    case EMB_WAIT_READY:
        break;
    case EMB_WAIT_FAILED:
        return io_failure(where, "connecting to", err);
    case EMB_WAIT_STOPPED:
        return emb_fail(err, EMB_E_CANCELLED, where, "connecting to %s was given up", where);
    default:
        return emb_fail(err, EMB_E_DEADLINE, where, "%s did not take a connection in time", where);
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) < 0)
        failure = errno;
    errno = failure;
    return failure ? io_failure(where, "connecting to", err) : EMB_OK;
}

static emb_status connect_to(const struct sockaddr *address, socklen_t length, const char *where,
                             uint64_t deadline_ns, const atomic_bool *stop, int *out, emb_error *err)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    emb_status st = EMB_OK;
    if (fd < 0)
        return io_failure(where, "opening a socket for", err);
    if (connect(fd, address, length) < 0) {
        if (errno == EINPROGRESS)
            st = finish_connect(fd, where, deadline_ns, stop, err);
        else /* a unix socket whose queue is full says EAGAIN */
            st = io_failure(where, "connecting to", err);
    }
    if (st != EMB_OK) {
        close(fd);
        return st;
    }
    *out = fd;
    return EMB_OK;
}

static emb_status connect_unix(const emb_redis_address *a, int *out, emb_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(a->socket_path) >= sizeof address.sun_path)
        return emb_fail(err, EMB_E_INVALID, a->where, "the path of the socket is longer than %zu bytes",
                        sizeof address.sun_path - 1);
    strcpy(address.sun_path, a->socket_path);
    return connect_to((struct sockaddr *)&address, sizeof address, a->where, 0, NULL, out, err);
}

/* Every address of the name gets its share of the time that is left. */
static emb_status connect_tcp(const emb_redis_address *a, uint64_t deadline_ns, const atomic_bool *stop,
                              int *out, emb_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV}, *list;
    char port[16];
    unsigned left = 0;
    snprintf(port, sizeof port, "%u", a->port);
    int failed = getaddrinfo(a->host, port, &hints, &list);
    if (failed == EAI_BADFLAGS || failed == EAI_ADDRFAMILY ||
        failed == EAI_NONAME) { /* loopback alone: no ADDRCONFIG */
        hints.ai_flags = AI_NUMERICSERV;
        failed = getaddrinfo(a->host, port, &hints, &list);
    }
    if (failed)
        return emb_fail(err, EMB_E_IO, a->where, "%s: the host's address could not be found: %s", a->where,
                        gai_strerror(failed));
    for (struct addrinfo *at = list; at; at = at->ai_next)
        left++;
    emb_status st = EMB_E_IO;
    for (struct addrinfo *at = list; at && st != EMB_OK && st != EMB_E_CANCELLED; at = at->ai_next, left--) {
        uint64_t now = emb_now_ns(), share = deadline_ns > now ? (deadline_ns - now) / left : 0;
        st = connect_to(at->ai_addr, at->ai_addrlen, a->where, now + share, stop, out, err);
    }
    freeaddrinfo(list);
    if (st == EMB_OK) {
        int on = 1;
        setsockopt(*out, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(*out, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    return st;
}

static emb_status add_setup(const emb_redis_address *a, emb_redis_batch *batch)
{
    if (a->password) {
        emb_redis_command(batch, a->user ? 3 : 2);
        emb_redis_text(batch, "AUTH");
        if (a->user)
            emb_redis_text(batch, a->user);
        emb_redis_text(batch, a->password);
    }
    emb_redis_command(batch, 2);
    emb_redis_text(batch, "SELECT");
    emb_redis_int(batch, a->database);
    emb_redis_command(batch, 3); /* so that an operator sees whose connections these are */
    emb_redis_text(batch, "CLIENT");
    emb_redis_text(batch, "SETNAME");
    emb_redis_text(batch, "embedd");
    return batch->status;
}

/* What AUTH was refused with may quote the password, so only known words of it are passed on. */
static emb_status check_auth(const emb_redis_address *a, const emb_redis_reply *reply, emb_error *err)
{
    if (reply->type != EMB_REDIS_ERROR)
        return EMB_OK;
    if (emb_redis_is_error(reply, "WRONGPASS"))
        return emb_fail(err, EMB_E_IO, a->where, "%s does not accept the user and password of the URL",
                        a->where);
    if (emb_redis_is_error(reply, "LOADING"))
        return emb_redis_link_refusal(a->where, reply, err);
    return emb_fail(err, EMB_E_IO, a->where,
                    "%s refused the password of the URL; perhaps it has none set, or knows no users",
                    a->where);
}

static emb_status check_setup(const emb_redis_address *a, const emb_redis_replies *replies, emb_error *err)
{
    emb_redis_reply *const *at = replies->list;
    emb_status st = a->password ? check_auth(a, *at++, err) : EMB_OK;
    if (st != EMB_OK)
        return st;
    /* CLIENT SETNAME may be forbidden, and SELECT too: database 0 needs no leave */
    if ((*at)->type == EMB_REDIS_ERROR && (a->database != 0 || emb_redis_is_error(*at, "NOAUTH")))
        return emb_redis_link_refusal(a->where, *at, err);
    if ((*at)->type != EMB_REDIS_STATUS && (*at)->type != EMB_REDIS_ERROR)
        return emb_fail(err, EMB_E_CORRUPT, a->where, "%s does not answer as Redis does", a->where);
    return EMB_OK;
}

static emb_status set_up(const emb_redis_address *a, emb_redis_link *link, uint64_t deadline_ns,
                         emb_error *err)
{
    emb_redis_batch batch;
    emb_redis_replies replies = {.limit = SETUP_REPLY_BYTES};
    bool gone;
    emb_redis_batch_init(&batch);
    emb_status st = add_setup(a, &batch);
    if (st != EMB_OK)
        st = emb_fail_nomem(err, a->where, batch.bytes.length);
    else if ((st = emb_redis_link_exchange(link, &batch.bytes, batch.commands, deadline_ns, &replies, &gone,
                                           err)) == EMB_OK) {
        st = check_setup(a, &replies, err);
        emb_redis_replies_fini(&replies);
    }
    if (batch.bytes.data) /* it may hold the password */
        explicit_bzero(batch.bytes.data, batch.bytes.length);
    emb_redis_batch_fini(&batch);
    return st;
}

emb_status emb_redis_link_dial(const emb_redis_address *address, uint64_t deadline_ns,
                               const atomic_bool *stop, emb_redis_link **out, emb_error *err)
{
    emb_redis_link *link = calloc(1, sizeof *link);
    if (!link)
        return emb_fail_nomem(err, address->where, sizeof *link);
    link->fd = -1;
    link->where = address->where;
    link->stop = stop;
    emb_status st = EMB_OK;
    if (!(link->reader = redisReaderCreateWithFunctions(&FUNCTIONS)))
        st = emb_fail_nomem(err, address->where, sizeof *link->reader);
    else
        link->reader->maxbuf = KEEP_BYTES;
    if (st == EMB_OK)
        st = address->socket_path ? connect_unix(address, &link->fd, err)
                                  : connect_tcp(address, deadline_ns, stop, &link->fd, err);
    if (st == EMB_OK)
        st = set_up(address, link, deadline_ns, err);
    if (st != EMB_OK)
        emb_redis_link_hang_up(link);
    else {
        link->stop = NULL;
        *out = link;
    }
    return st;
}

/* Idle connections are silent: something to read is the end, or something that nobody asked for. */
bool emb_redis_link_alive(emb_redis_link *link)
{
    char byte;
    return recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

void emb_redis_link_hang_up(emb_redis_link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    if (link->reader)
        redisReaderFree(link->reader);
    free(link);
}
