/*
 * A connection: bytes in, one request at a time, bytes out.
 *
 * Phases: IDLE, between requests → HEAD, from its first byte → BODY → BUSY, from the whole request until its
 * answer has been handed to the kernel → IDLE again, or LINGER: the answer was the last, the writing side is
 * shut, and what still comes is thrown away for a while, because closing with unread bytes makes the kernel
 * send a reset, which can destroy the answer before the client has read it.
 *
 * Bytes are received into the loop's scratch memory and used where they are; only what cannot be used yet
 * (part of a head, pipelined requests) is kept in the connection's `in`, which goes away when it is empty.
 * The rest of a body with a length is received straight into the exchange. While BUSY at most max_head_bytes
 * are taken ahead, then reading stops; a client that leaves is noticed then too (EV_CLOSED).
 *
 * Time: `deadline_ns` says when the phase must be over. The timer is armed lazily: it may fire early, looks
 * at the deadline and is set again; a later deadline costs nothing, which is the case for every request that
 * comes in one piece. Heads and bodies have absolute deadlines; writing has one that progress moves.
 *
 * Nothing frees a connection under its caller's feet: close_connection marks it DEAD, and settle, at the end
 * of each entry (an event, a mail), frees it.
 *
 * A client that shuts its writing side while its request is parked has left, as for most servers: there is no
 * other sign of leaving. One that does so while an answer is being written still gets the answer.
 */
#include "http/internal.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

typedef enum phase { IDLE, HEAD, BODY, BUSY, LINGER, DEAD } phase;

enum { MOST_PIECES = 4 };
#define LINGER_NS UINT64_C(3000000000)

struct emb_http_connection {
    emb_http_mail mail; /* first: brings it to its loop */
    emb_http_loop *loop;
    emb_http_connection *next, **link;
    emb_http_wire wire;
    struct event readable, writable, timer, hangup;
    bool reads, writes, watches_hangup;
    bool handshaking;  /* TLS */
    bool eof;          /* the client will send nothing more */
    bool skipped_line; /* an empty line before the request line was skipped */
    phase phase;
    uint64_t deadline_ns, armed_ns; /* 0: none */
    uint64_t started_ns;            /* of the request at hand */
    char *in;
    size_t in_length, in_capacity, head_seen;
    uint64_t body_left;
    emb_http_chunks chunks;
    bool chunked;
    struct iovec out[MOST_PIECES];
    int out_count;
    int queued; /* bytes that the kernel had not got rid of when writing last stopped */
    emb_exchange *x;
    char peer[64];
};

static void settle(emb_http_connection *c);
static void proceed(emb_http_connection *c);

/* ---- the end --------------------------------------------------------------------------------- */

static void close_connection(emb_http_connection *c)
{
    if (c->phase == DEAD)
        return;
    c->phase = DEAD;
    c->out_count = 0;
    emb_exchange *x = c->x;
    c->x = NULL;
    if (!x)
        return;
    x->connection = NULL;
    emb_http_exchange_set_gone(x);
    pthread_mutex_lock(&x->stream.lock); /* a stream whose last mail brought us here posts no other */
    x->stream.end_seen |= x->stream.ended && !x->stream.posted;
    pthread_mutex_unlock(&x->stream.lock);
    if (!x->parked || x->delivered || x->stream.end_seen)
        emb_http_exchange_done(x);
}

static void free_connection(emb_http_connection *c)
{
    event_del(&c->readable);
    event_del(&c->writable);
    event_del(&c->timer);
    event_del(&c->hangup);
    emb_http_wire_fini(&c->wire);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    atomic_fetch_sub_explicit(&c->loop->connection_count, 1, memory_order_relaxed);
    free(c->in);
    free(c);
}

void emb_http_connections_close(emb_http_loop *loop)
{
    for (emb_http_connection *c = loop->connections, *next; c; c = next) {
        next = c->next;
        close_connection(c);
        free_connection(c);
    }
}

void emb_http_record_refusal(emb_http_server *server, const char *peer, const char *why, int status)
{
    if (!server->options.record)
        return;
    emb_http_record record = {.method = "",
                              .path = "",
                              .route = "",
                              .request_id = "",
                              .peer = peer,
                              .key_name = "",
                              .status = status,
                              .refused = why};
    server->options.record(server->options.context, &record);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void enter_idle(emb_http_connection *c)
{
    c->phase = IDLE;
    c->skipped_line = false;
    c->deadline_ns = emb_now_ns() + c->loop->settings->idle_timeout_ns;
}

static void enter_linger(emb_http_connection *c)
{
    uint64_t most = c->loop->settings->write_timeout_ns;
    emb_http_wire_finish(&c->wire);
    c->phase = LINGER;
    c->in_length = 0;
    c->deadline_ns = emb_now_ns() + (most < LINGER_NS ? most : LINGER_NS);
    if (c->eof)
        close_connection(c);
}

static void finish_answer(emb_http_connection *c)
{
    emb_exchange *x = c->x;
    bool last = x->close_after;
    c->x = NULL;
    emb_http_exchange_done(x);
    if (last)
        enter_linger(c);
    else
        enter_idle(c);
}

static void add_out(emb_http_connection *c, const void *data, size_t length)
{
    if (length)
        c->out[c->out_count++] = (struct iovec){(void *)data, length};
}

static void advance_out(emb_http_connection *c, size_t n)
{
    int done = 0;
    for (; done < c->out_count && n >= c->out[done].iov_len; done++)
        n -= c->out[done].iov_len;
    c->out_count -= done;
    memmove(c->out, c->out + done, (size_t)c->out_count * sizeof *c->out);
    if (n) {
        c->out[0].iov_base = (char *)c->out[0].iov_base + n;
        c->out[0].iov_len -= n;
    }
}

/* What the kernel has taken and the client has not acknowledged. */
static int queued_bytes(const emb_http_connection *c)
{
    int queued = 0;
    return ioctl(c->wire.fd, SIOCOUTQ, &queued) ? 0 : queued;
}

static void expect_progress(emb_http_connection *c)
{
    c->queued = queued_bytes(c);
    c->deadline_ns = emb_now_ns() + c->loop->settings->write_timeout_ns;
}

/* Writes what it can. true: nothing is left to write. */
static bool flush(emb_http_connection *c)
{
    bool moved = false;
    while (c->out_count) {
        ssize_t n =
            emb_http_wire_write(&c->wire, c->out, c->out_count, c->loop->tls_scratch, EMB_HTTP_TLS_RECORD);
        if (n == EMB_HTTP_WIRE_BROKEN) {
            close_connection(c);
            return false;
        }
        if (n <= 0)
            break;
        advance_out(c, (size_t)n);
        moved = true;
    }
    if (c->out_count && c->phase == BUSY && (moved || !c->deadline_ns))
        expect_progress(c);
    return c->out_count == 0;
}

/* The answer in c->x is complete: out with it. */
static void begin_answer(emb_http_connection *c)
{
    emb_exchange *x = c->x;
    if (x->broken) {
        close_connection(c);
        return;
    }
    c->phase = BUSY;
    c->deadline_ns = 0;
    add_out(c, x->answer_head.data, x->answer_head.length);
    add_out(c, x->answer.data, x->answer.length);
    if (flush(c))
        finish_answer(c);
}

/* Moves what the worker has written into out; false: nothing was there. */
static bool take_stream(emb_http_connection *c)
{
    emb_exchange *x = c->x;
    emb_http_stream *s = &x->stream;
    pthread_mutex_lock(&s->lock);
    s->end_seen = s->ended && !s->posted; /* not while mail of this exchange is under way */
    emb_buf taken = s->pending;
    s->pending = s->sending;
    s->sending = taken;
    emb_buf_clear(&s->pending);
    pthread_cond_broadcast(&s->room);
    pthread_mutex_unlock(&s->lock);
    if (!s->head_sent) {
        s->head_sent = true;
        add_out(c, x->answer_head.data, x->answer_head.length);
    }
    add_out(c, s->sending.data, s->sending.length);
    return c->out_count > 0;
}

static void stream_on(emb_http_connection *c)
{
    if (c->x->broken) {
        close_connection(c);
        return;
    }
    do {
        if (!flush(c))
            return;
        c->deadline_ns = 0;
    } while (take_stream(c));
    if (c->x->stream.end_seen)
        finish_answer(c);
}

void emb_http_connection_answer(emb_http_connection *c)
{
    begin_answer(c);
    proceed(c);
}

void emb_http_connection_stream(emb_http_connection *c)
{
    stream_on(c);
    proceed(c);
}

/* ---- requests -------------------------------------------------------------------------------- */

static emb_exchange *open_exchange(emb_http_connection *c)
{
    emb_exchange *x = emb_http_exchange_open(c->loop);
    if (!x) {
        close_connection(c);
        return NULL;
    }
    c->x = x;
    x->connection = c;
    x->started_ns = c->started_ns;
    memcpy(x->peer, c->peer, sizeof x->peer);
    return x;
}

/* Answers what is wrong, and closes: where the next request would begin is not known. */
static void refuse(emb_http_connection *c, emb_http_progress why)
{
    emb_exchange *x = c->x ? c->x : open_exchange(c);
    if (!x)
        return;
    c->phase = BUSY;
    if (why == EMB_HTTP_MORE || (!*x->request_id && !emb_http_exchange_set_id(x, NULL))) {
        close_connection(c); /* memory is short */
        return;
    }
    x->keep_alive = false;
    emb_http_exchange_refuse(x, emb_http_fault_of(why));
    begin_answer(c);
}

static void request_complete(emb_http_connection *c)
{
    emb_exchange *x = c->x;
    const emb_http_options *options = &c->loop->server->options;
    c->phase = BUSY;
    c->deadline_ns = 0;
    x->received_ns = emb_now_ns();
    if (x->body.length)
        memset(x->body.data + x->body.length, 0, EMB_HTTP_BODY_PADDING + 1);
    if (!emb_http_exchange_answer_options(x, x->asterisk))
        options->handle(options->context, x);
    if (x->parked)
        return;
    if (!x->delivered)
        emb_http_exchange_fail(x);
    begin_answer(c);
}

/* The head is known: is there a body, and may it come? */
static void begin_body(emb_http_connection *c, const emb_http_head *head, bool more_is_here)
{
    const emb_http_settings *settings = c->loop->settings;
    emb_exchange *x = c->x;
    if (head->has_length && head->content_length > settings->max_body_bytes) {
        refuse(c, EMB_HTTP_BODY_TOO_LARGE);
        return;
    }
    c->chunked = head->chunked;
    c->body_left = head->has_length ? head->content_length : 0;
    if (!c->chunked && c->body_left == 0) {
        request_complete(c);
        return;
    }
    c->phase = BODY;
    c->deadline_ns = emb_now_ns() + settings->body_timeout_ns;
    if (c->chunked)
        emb_http_chunks_init(&c->chunks, settings->max_body_bytes, settings->max_head_bytes);
    else if (!emb_http_exchange_reserve_body(x, c->body_left < EMB_HTTP_SCRATCH ? c->body_left
                                                                                : EMB_HTTP_SCRATCH)) {
        refuse(c, EMB_HTTP_MORE);
        return;
    }
    if (head->expects_continue && !more_is_here) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        add_out(c, go_on, sizeof go_on - 1);
        flush(c);
    }
}

/* Bytes taken from the front of data: a whole head, or none. */
static size_t take_head(emb_http_connection *c, const char *data, size_t n)
{
    emb_http_loop *loop = c->loop;
    size_t maximum = loop->settings->max_head_bytes, seen = c->head_seen;
    c->head_seen = n;
    /* Nothing new can be said before a line has ended. */
    if (seen && seen <= n && n < maximum && !memchr(data + seen, '\n', n - seen))
        return 0;
    emb_http_progress progress = emb_http_head_read(&loop->head, data, n, maximum);
    if (progress == EMB_HTTP_MORE)
        return 0;
    if (progress != EMB_HTTP_DONE) {
        refuse(c, progress);
        return n;
    }
    emb_exchange *x = open_exchange(c);
    if (!x)
        return n;
    progress = emb_http_exchange_take_head(x, &loop->head, data);
    emb_http_cors_set(x, loop->settings);
    if (progress != EMB_HTTP_DONE)
        refuse(c, progress);
    else
        begin_body(c, &loop->head, n > loop->head.bytes);
    return loop->head.bytes;
}

static bool add_body(emb_http_connection *c, const char *data, size_t n)
{
    emb_exchange *x = c->x;
    if (!emb_http_exchange_reserve_body(x, x->body.length + n)) {
        refuse(c, EMB_HTTP_MORE);
        return false;
    }
    memcpy(x->body.data + x->body.length, data, n);
    x->body.length += n;
    return true;
}

static size_t take_body(emb_http_connection *c, const char *data, size_t n)
{
    if (!c->chunked) {
        size_t take = n < c->body_left ? n : (size_t)c->body_left;
        if (!add_body(c, data, take))
            return n;
        c->body_left -= take;
        if (c->body_left == 0)
            request_complete(c);
        return take;
    }
    size_t used, length;
    const char *piece;
    emb_http_progress progress = emb_http_chunks_read(&c->chunks, data, n, &used, &piece, &length);
    if (progress == EMB_HTTP_DONE)
        request_complete(c);
    else if (progress != EMB_HTTP_MORE)
        refuse(c, progress);
    else if (length && !add_body(c, piece, length))
        return n;
    return used;
}

/* An empty line before a request is skipped once, as RFC 9112, 2.2 asks. */
static size_t begin_request(emb_http_connection *c, const char *data, size_t n)
{
    if (data[0] == '\r' && !c->skipped_line && n == 1)
        return 0;
    if (data[0] == '\r' && !c->skipped_line && data[1] == '\n') {
        c->skipped_line = true;
        return 2;
    }
    c->phase = HEAD;
    c->head_seen = 0;
    c->started_ns = emb_now_ns();
    c->deadline_ns = c->started_ns + c->loop->settings->head_timeout_ns;
    return 0;
}

/* Uses the bytes as far as the phase allows; how many. */
static size_t consume(emb_http_connection *c, const char *data, size_t n)
{
    size_t at = 0;
    while (at < n) {
        size_t used = 0;
        phase before = c->phase;
        if (before == IDLE)
            used = begin_request(c, data + at, n - at);
        else if (before == HEAD)
            used = take_head(c, data + at, n - at);
        else if (before == BODY)
            used = take_body(c, data + at, n - at);
        else
            return before == BUSY ? at : n;
        at += used;
        if (used == 0 && c->phase == before)
            break;
    }
    return at;
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool keep(emb_http_connection *c, const char *data, size_t n)
{
    if (n > c->in_capacity - c->in_length) {
        size_t capacity = c->in_length + n < 2048 ? 2048 : (c->in_length + n) * 2;
        char *in = realloc(c->in, capacity);
        if (!in) {
            close_connection(c);
            return false;
        }
        c->in = in;
        c->in_capacity = capacity;
    }
    memcpy(c->in + c->in_length, data, n);
    c->in_length += n;
    return true;
}

static void drop_in(emb_http_connection *c, size_t n)
{
    c->in_length -= n < c->in_length ? n : c->in_length;
    if (c->in_length) {
        memmove(c->in, c->in + n, c->in_length);
        return;
    }
    free(c->in);
    c->in = NULL;
    c->in_capacity = 0;
}

/* What had to wait. */
static void pump(emb_http_connection *c)
{
    if (c->in_length && c->phase != BUSY && c->phase != DEAD)
        drop_in(c, consume(c, c->in, c->in_length));
    if (c->eof && c->phase != BUSY)
        close_connection(c);
}

static void read_on(emb_http_connection *c);

/* On with what waits here or in OpenSSL's buffer, where no event would announce it. */
static void proceed(emb_http_connection *c)
{
    pump(c);
    if (c->phase != DEAD && emb_http_wire_pending(&c->wire)) {
        read_on(c);
        pump(c);
    }
    settle(c);
}

static void take_input(emb_http_connection *c, const char *data, size_t n)
{
    if (c->in_length) {
        if (keep(c, data, n))
            pump(c);
        return;
    }
    size_t used = consume(c, data, n);
    if (used < n && c->phase != DEAD && c->phase != LINGER)
        keep(c, data + used, n - used);
}

static void input_ended(emb_http_connection *c)
{
    c->eof = true;
    bool waits = c->phase == BUSY && c->x && !(c->x->parked && !c->x->delivered);
    if (!waits)
        close_connection(c);
}

/* Where the next bytes go: the exchange's body itself if they can be nothing else. */
static char *input_room(emb_http_connection *c, size_t *room)
{
    if (c->phase == BODY && !c->chunked && !c->in_length) {
        emb_exchange *x = c->x;
        size_t free_bytes = x->body.capacity - x->body.length;
        free_bytes -= free_bytes < EMB_HTTP_BODY_PADDING + 1 ? free_bytes : EMB_HTTP_BODY_PADDING + 1;
        if (free_bytes < c->body_left && free_bytes < EMB_HTTP_SCRATCH / 4 &&
            emb_http_exchange_reserve_body(
                x,
                x->body.length + (c->body_left < EMB_HTTP_SCRATCH ? (size_t)c->body_left : EMB_HTTP_SCRATCH)))
            free_bytes = x->body.capacity - x->body.length - EMB_HTTP_BODY_PADDING - 1;
        *room = free_bytes < c->body_left ? free_bytes : (size_t)c->body_left;
        if (*room)
            return x->body.data + x->body.length;
    }
    *room = EMB_HTTP_SCRATCH;
    if (c->phase == BUSY) {
        size_t most = c->loop->settings->max_head_bytes;
        size_t left = most > c->in_length ? most - c->in_length : 1;
        *room = left < EMB_HTTP_SCRATCH ? left : EMB_HTTP_SCRATCH;
    }
    return c->loop->scratch;
}

static void took_body(emb_http_connection *c, size_t n)
{
    c->x->body.length += n;
    c->body_left -= n;
    if (c->body_left == 0)
        request_complete(c);
}

static bool wants_input(const emb_http_connection *c)
{
    if (c->phase == DEAD || c->eof)
        return false;
    return c->phase != BUSY || c->in_length < c->loop->settings->max_head_bytes;
}

static void read_on(emb_http_connection *c)
{
    while (wants_input(c)) {
        size_t room;
        char *to = input_room(c, &room);
        ssize_t n = emb_http_wire_read(&c->wire, to, room);
        if (c->handshaking && !emb_http_wire_handshaking(&c->wire)) {
            c->handshaking = false;
            enter_idle(c);
        }
        if (n == EMB_HTTP_WIRE_LATER)
            return;
        if (n <= 0) {
            if (n == EMB_HTTP_WIRE_BROKEN && c->handshaking)
                emb_http_record_refusal(c->loop->server, c->peer, "tls", 0);
            if (n == EMB_HTTP_WIRE_BROKEN)
                close_connection(c);
            else
                input_ended(c);
            return;
        }
        if (to != c->loop->scratch)
            took_body(c, (size_t)n);
        else if (c->phase != LINGER)
            take_input(c, to, (size_t)n);
        if (!emb_http_wire_pending(&c->wire))
            return;
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

static void on_readable(evutil_socket_t fd, short what, void *argument)
{
    (void)fd, (void)what;
    emb_http_connection *c = argument;
    if (c->wire.write_wants_read && c->out_count && flush(c) && c->phase == BUSY && c->x->delivered)
        finish_answer(c);
    read_on(c);
    proceed(c);
}

static void on_writable(evutil_socket_t fd, short what, void *argument)
{
    (void)fd, (void)what;
    emb_http_connection *c = argument;
    if (c->wire.read_wants_write)
        read_on(c);
    if (c->phase == BUSY && c->x->stream.head_sent)
        stream_on(c);
    else if (c->out_count && flush(c) && c->phase == BUSY && c->x->delivered)
        finish_answer(c);
    proceed(c);
}

static void on_hangup(evutil_socket_t fd, short what, void *argument)
{
    (void)fd, (void)what;
    emb_http_connection *c = argument;
    input_ended(c);
    settle(c);
}

static void timed_out(emb_http_connection *c)
{
    if (c->phase == HEAD)
        refuse(c, EMB_HTTP_HEAD_TIMEOUT);
    else if (c->phase == BODY)
        refuse(c, EMB_HTTP_BODY_TIMEOUT);
    else if (c->phase == BUSY && queued_bytes(c) < c->queued)
        expect_progress(c); /* the client reads, though not yet enough for the kernel to take more of us */
    else
        close_connection(c);
}

static void on_timer(evutil_socket_t fd, short what, void *argument)
{
    (void)fd, (void)what;
    emb_http_connection *c = argument;
    c->armed_ns = 0;
    if (c->deadline_ns && emb_now_ns() >= c->deadline_ns)
        timed_out(c);
    settle(c);
}

/* false: memory is short. */
static bool arm(emb_http_connection *c)
{
    if (!c->deadline_ns || (c->armed_ns && c->armed_ns <= c->deadline_ns))
        return true;
    uint64_t now = emb_now_ns(), wait_us = c->deadline_ns > now ? (c->deadline_ns - now + 999) / 1000 : 0;
    struct timeval wait = {(time_t)(wait_us / 1000000), (suseconds_t)(wait_us % 1000000)};
    if (event_add(&c->timer, &wait))
        return false;
    c->armed_ns = c->deadline_ns;
    return true;
}

static bool want(struct event *event, bool *is, bool wanted)
{
    if (*is == wanted)
        return true;
    if (wanted ? event_add(event, NULL) : event_del(event))
        return false;
    *is = wanted;
    return true;
}

/* Brings events and timer in line with the state. The last thing an entry does: c may be freed. */
static void settle(emb_http_connection *c)
{
    bool reads = wants_input(c), alive = c->phase != DEAD;
    bool in = reads || (c->out_count && c->wire.write_wants_read);
    bool out = (c->out_count && !c->wire.write_wants_read) || c->wire.read_wants_write;
    if (alive && want(&c->readable, &c->reads, in) && want(&c->writable, &c->writes, out) &&
        want(&c->hangup, &c->watches_hangup, !reads && !c->eof) && arm(c))
        return;
    close_connection(c); /* that of which no event could tell would hang */
    free_connection(c);
}

/* ---- the beginning --------------------------------------------------------------------------- */

static void adopt(emb_http_loop *loop, emb_http_mail *mail)
{
    emb_http_connection *c = (emb_http_connection *)mail;
    const emb_http_settings *settings = loop->settings;
    int fd = c->wire.fd;
    bool secured = emb_http_wire_init(&c->wire, fd, settings->tls);
    c->next = loop->connections;
    c->link = &loop->connections;
    if (c->next)
        c->next->link = &c->next;
    loop->connections = c;
    event_assign(&c->readable, loop->base, fd, EV_READ | EV_PERSIST, on_readable, c);
    event_assign(&c->writable, loop->base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
    event_assign(&c->hangup, loop->base, fd, EV_CLOSED | EV_PERSIST, on_hangup, c);
    event_assign(&c->timer, loop->base, -1, 0, on_timer, c);
    enter_idle(c);
    c->handshaking = settings->tls != NULL;
    if (c->handshaking) /* has a deadline of its own */
        c->deadline_ns = emb_now_ns() + settings->head_timeout_ns;
    if (!secured)
        close_connection(c);
    settle(c);
}

void emb_http_connection_accept(emb_http_server *server, int fd, const char *peer, bool tcp)
{
    emb_http_loop *loop = &server->loops[0];
    for (unsigned i = 1; i < server->loop_count; i++)
        if (atomic_load_explicit(&server->loops[i].connection_count, memory_order_relaxed) <
            atomic_load_explicit(&loop->connection_count, memory_order_relaxed))
            loop = &server->loops[i];
    emb_http_connection *c = calloc(1, sizeof *c);
    if (!c) {
        close(fd);
        return;
    }
    int one = 1;
    if (tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->loop = loop;
    c->wire.fd = fd;
    memcpy(c->peer, peer, strlen(peer) + 1);
    c->mail.run = adopt;
    atomic_fetch_add_explicit(&loop->connection_count, 1, memory_order_relaxed);
    if (loop == &server->loops[0])
        adopt(loop, &c->mail);
    else
        emb_http_loop_post(loop, &c->mail);
}
