/*
 * One request and its answer. The loop keeps a few spent exchanges with their memory (arena block, buffers),
 * so that a request in steady state allocates nothing here; an idle connection holds no exchange at all.
 *
 * Ownership: the loop has a reference from the first byte of the head until the record is told; the worker
 * has one while its function runs. The answer travels through the loop's mailbox; the connection may have
 * been closed by then (connection == NULL), in which case the answer is dropped. So nothing of a connection
 * is ever touched by a worker, and an exchange outlives whoever still looks at it.
 *
 * An exchange that is freed by the worker, which happens when its function goes on after the answer, is freed
 * for good: the spares are the loop's.
 */
#include "http/internal.h"

#include "base/duty.h"
#include "base/utf8.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_SPARES = 32,   /* of a loop */
    KEPT_BYTES = 16384, /* a buffer larger than this is not kept */
    MOST_EXTRA = 32768, /* of the application's headers */
    MOST_PARAMS = 64
};

/* ---- life ------------------------------------------------------------------------------------ */

void emb_http_exchange_free(emb_exchange *x)
{
    emb_arena_fini(&x->arena);
    emb_buf_fini(&x->body);
    emb_buf_fini(&x->extra);
    emb_buf_fini(&x->answer_head);
    emb_buf_fini(&x->answer);
    emb_buf_fini(&x->stream.pending);
    emb_buf_fini(&x->stream.sending);
    pthread_mutex_destroy(&x->stream.lock);
    pthread_cond_destroy(&x->stream.room);
    free(x);
}

static emb_exchange *exchange_new(void)
{
    emb_exchange *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    emb_arena_init(&x->arena);
    emb_buf_init(&x->body, SIZE_MAX);
    emb_buf_init(&x->extra, MOST_EXTRA);
    emb_buf_init(&x->answer_head, SIZE_MAX);
    emb_buf_init(&x->stream.pending, SIZE_MAX);
    emb_buf_init(&x->stream.sending, SIZE_MAX);
    pthread_mutex_init(&x->stream.lock, NULL);
    pthread_cond_init(&x->stream.room, NULL);
    return x;
}

static void reset_buf(emb_buf *buf)
{
    if (buf->capacity > KEPT_BYTES)
        emb_buf_fini(buf);
    emb_buf_clear(buf);
}

/* Ready for another request, with the memory that is worth keeping. */
static void reset(emb_exchange *x)
{
    emb_arena_reset(&x->arena, KEPT_BYTES);
    reset_buf(&x->body);
    reset_buf(&x->extra);
    reset_buf(&x->answer_head);
    emb_buf_fini(&x->answer);
    reset_buf(&x->stream.pending);
    reset_buf(&x->stream.sending);
    x->stream.begun = x->stream.ended = x->stream.posted = x->stream.cut = false;
    x->stream.head_sent = x->stream.end_seen = x->stream.chunked = false;
}

emb_exchange *emb_http_exchange_open(emb_http_loop *loop)
{
    emb_exchange *x = loop->spares;
    if (x) {
        loop->spares = x->next_spare;
        loop->spare_count--;
    } else if (!(x = exchange_new())) {
        return NULL;
    }
    x->loop = loop;
    x->connection = NULL;
    atomic_store_explicit(&x->references, 1, memory_order_relaxed);
    atomic_store_explicit(&x->answered, false, memory_order_relaxed);
    __atomic_store_n(&x->gone, 0, __ATOMIC_RELAXED);
    x->parked = x->delivered = false;
    x->method_name = x->path = "";
    x->request_id = "";
    x->method = 0;
    x->minor = 1;
    x->keep_alive = x->head_only = x->asterisk = false;
    x->head = NULL;
    x->field_count = x->param_count = 0;
    x->cors_origin = NULL;
    x->cors = false;
    x->started_ns = x->received_ns = 0;
    x->data = NULL;
    x->route = "";
    x->refused = NULL;
    x->key_name = NULL;
    x->status = 0;
    x->answer_bytes = 0;
    x->close_after = x->broken = false;
    atomic_fetch_add_explicit(&loop->active, 1, memory_order_relaxed);
    return x;
}

void emb_http_exchange_drop(emb_exchange *x)
{
    if (atomic_fetch_sub(&x->references, 1) == 1)
        emb_http_exchange_free(x);
}

static void tell_record(const emb_exchange *x)
{
    const emb_http_options *options = &x->loop->server->options;
    if (!options->record)
        return;
    emb_http_record record = {.method = x->method_name,
                              .path = x->path,
                              .route = x->route,
                              .request_id = x->request_id,
                              .peer = x->peer,
                              .key_name = x->key_name ? x->key_name : "",
                              .status = x->status,
                              .body_bytes = x->body.length,
                              .answer_bytes = x->answer_bytes,
                              .duration_ns = x->started_ns ? emb_now_ns() - x->started_ns : 0,
                              .gone = emb_http_exchange_is_gone(x),
                              .parked = x->parked,
                              .refused = x->refused};
    options->record(options->context, &record);
}

void emb_http_exchange_done(emb_exchange *x)
{
    emb_http_loop *loop = x->loop;
    tell_record(x);
    if (atomic_fetch_sub(&x->references, 1) != 1) {
        /* the worker is about to return, and frees it */
    } else if (loop->spare_count < MOST_SPARES) {
        reset(x);
        x->next_spare = loop->spares;
        loop->spares = x;
        loop->spare_count++;
    } else {
        emb_http_exchange_free(x);
    }
    atomic_fetch_sub(&loop->active, 1);
    if (atomic_load(&loop->server->stopping))
        emb_http_server_notify(loop->server);
}

void emb_http_exchange_set_gone(emb_exchange *x)
{
    __atomic_store_n(&x->gone, 1, __ATOMIC_RELEASE);
    pthread_mutex_lock(&x->stream.lock);
    pthread_cond_broadcast(&x->stream.room);
    pthread_mutex_unlock(&x->stream.lock);
}

bool emb_http_exchange_is_gone(const emb_exchange *x)
{
    return __atomic_load_n(&x->gone, __ATOMIC_ACQUIRE) != 0;
}

/* ---- the head -------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t state[2])
{
    /* xoroshiro128+: ids need to differ, not to be secret */
    uint64_t a = state[0], b = state[1], sum = a + b;
    b ^= a;
    state[0] = (a << 24 | a >> 40) ^ b ^ (b << 16);
    state[1] = b << 37 | b >> 27;
    return sum;
}

static bool is_id(const char *text)
{
    size_t n = 0;
    for (; text[n]; n++)
        if (text[n] <= 0x20 || text[n] >= 0x7f || n == 128)
            return false;
    return n > 0;
}

bool emb_http_exchange_set_id(emb_exchange *x, const char *asked)
{
    if (asked && is_id(asked)) {
        x->request_id = asked;
        return true;
    }
    char *id = emb_arena_alloc(&x->arena, 33);
    if (!id)
        return false;
    static const char digits[] = "0123456789abcdef";
    for (int half = 0; half < 2; half++) {
        uint64_t bits = next_random(x->loop->id_state);
        for (int i = 0; i < 16; i++, bits >>= 4)
            id[half * 16 + i] = digits[bits & 15];
    }
    id[32] = 0;
    x->request_id = id;
    return true;
}

static const char *method_name(emb_http_method method)
{
    switch (method) {
    case EMB_HTTP_GET:
        return "GET";
    case EMB_HTTP_POST:
        return "POST";
    case EMB_HTTP_PUT:
        return "PUT";
    case EMB_HTTP_DELETE:
        return "DELETE";
    case EMB_HTTP_HEAD:
        return "HEAD";
    case EMB_HTTP_OPTIONS:
        return "OPTIONS";
    case EMB_HTTP_PATCH:
        return "PATCH";
    }
    return "";
}

static size_t count_params(const char *query, size_t length)
{
    size_t count = 1;
    for (size_t i = 0; i < length; i++)
        count += query[i] == '&';
    return count;
}

/* name=value&… decoded once, so that a malformed query is refused here and not in every route. */
static emb_http_progress take_query(emb_exchange *x, const char *query, size_t length)
{
    size_t count = count_params(query, length);
    if (count > MOST_PARAMS)
        return EMB_HTTP_BAD_TARGET;
    x->params = emb_arena_calloc(&x->arena, count, sizeof *x->params);
    char *text = emb_arena_alloc(&x->arena, length + 2 * count + 1);
    if (!x->params || !text)
        return EMB_HTTP_MORE;
    for (const char *at = query, *end = query + length; at < end;) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        stop = stop ? stop : end;
        const char *equals = memchr(at, '=', (size_t)(stop - at)), *name_end = equals ? equals : stop;
        size_t n;
        emb_http_param *param = &x->params[x->param_count];
        param->name = text;
        if (!emb_http_percent_decode(at, (size_t)(name_end - at), true, text, &n))
            return EMB_HTTP_BAD_TARGET;
        param->value = text += n + 1;
        if (!emb_http_percent_decode(equals ? equals + 1 : stop, equals ? (size_t)(stop - equals - 1) : 0,
                                     true, text, &n))
            return EMB_HTTP_BAD_TARGET;
        text += n + 1;
        x->param_count += stop > at;
        at = stop + 1;
    }
    return EMB_HTTP_DONE;
}

static emb_http_progress take_target(emb_exchange *x, const emb_http_head *head)
{
    if (head->path.length == 0) {
        x->path = "/";
    } else {
        size_t n;
        char *path = emb_arena_alloc(&x->arena, head->path.length + 1);
        if (!path)
            return EMB_HTTP_MORE;
        if (!emb_http_percent_decode(x->head + head->path.at, head->path.length, false, path, &n))
            return EMB_HTTP_BAD_TARGET;
        x->path = path;
    }
    return head->query.length ? take_query(x, x->head + head->query.at, head->query.length) : EMB_HTTP_DONE;
}

emb_http_progress emb_http_exchange_take_head(emb_exchange *x, const emb_http_head *head, const char *data)
{
    x->head = emb_arena_strndup(&x->arena, data, head->bytes);
    if (!x->head)
        return EMB_HTTP_MORE;
    x->method = (emb_http_method)head->method_bit;
    x->method_name = method_name(x->method);
    x->minor = head->minor;
    x->keep_alive = head->keep_alive;
    x->head_only = x->method == EMB_HTTP_HEAD;
    x->asterisk = head->asterisk;
    emb_http_progress progress = take_target(x, head);
    for (size_t i = 0; i < head->field_count; i++) {
        const emb_http_field *field = &head->fields[i];
        x->head[field->name.at + field->name.length] = 0;
        x->head[field->value.at + field->value.length] = 0;
    }
    memcpy(x->fields, head->fields, head->field_count * sizeof *head->fields);
    x->field_count = head->field_count;
    if (!emb_http_exchange_set_id(x, emb_exchange_header(x, "x-request-id")))
        return EMB_HTTP_MORE;
    return progress;
}

const char *emb_http_exchange_field(const emb_exchange *x, const char *lower_name, size_t *length)
{
    size_t n = strlen(lower_name);
    for (size_t i = 0; i < x->field_count; i++) {
        const emb_http_field *field = &x->fields[i];
        if (field->name.length == n && emb_http_same(x->head + field->name.at, n, lower_name)) {
            *length = field->value.length;
            return x->head + field->value.at;
        }
    }
    return NULL;
}

bool emb_http_exchange_reserve_body(emb_exchange *x, size_t length)
{
    size_t more = length - x->body.length + EMB_HTTP_BODY_PADDING + 1;
    return emb_buf_reserve(&x->body, more) == EMB_OK;
}

/* ---- what the application sees --------------------------------------------------------------- */

emb_http_method emb_exchange_method(const emb_exchange *x)
{
    return x->method;
}
const char *emb_exchange_method_name(const emb_exchange *x)
{
    return x->method_name;
}
const char *emb_exchange_path(const emb_exchange *x)
{
    return x->path;
}
const char *emb_exchange_peer(const emb_exchange *x)
{
    return x->peer;
}
const char *emb_exchange_request_id(const emb_exchange *x)
{
    return x->request_id;
}
emb_arena *emb_exchange_arena(emb_exchange *x)
{
    return &x->arena;
}
uint64_t emb_exchange_started_ns(const emb_exchange *x)
{
    return x->started_ns;
}
uint64_t emb_exchange_received_ns(const emb_exchange *x)
{
    return x->received_ns;
}
const volatile int *emb_exchange_gone(const emb_exchange *x)
{
    return &x->gone;
}
void emb_exchange_set_data(emb_exchange *x, void *data)
{
    x->data = data;
}
void *emb_exchange_data(const emb_exchange *x)
{
    return x->data;
}
void emb_exchange_set_route(emb_exchange *x, const char *route)
{
    x->route = route ? route : "";
}
void emb_exchange_set_refused(emb_exchange *x, const char *reason)
{
    x->refused = reason;
}

void emb_exchange_set_key_name(emb_exchange *x, const char *name)
{
    x->key_name = name ? emb_arena_strndup(&x->arena, name, strlen(name)) : NULL;
}

const char *emb_exchange_query(emb_exchange *x, const char *name)
{
    for (size_t i = 0; i < x->param_count; i++)
        if (strcmp(x->params[i].name, name) == 0)
            return x->params[i].value;
    return NULL;
}

const char *emb_exchange_header(const emb_exchange *x, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < x->field_count; i++) {
        const emb_http_field *field = &x->fields[i];
        if (field->name.length == n && strncasecmp(x->head + field->name.at, name, n) == 0)
            return x->head + field->value.at;
    }
    return NULL;
}

const char *emb_exchange_body(emb_exchange *x, size_t *length)
{
    static const char none[EMB_HTTP_BODY_PADDING + 1];
    *length = x->body.length;
    return x->body.length ? x->body.data : none;
}

/* ---- answering ------------------------------------------------------------------------------- */

static bool park(emb_exchange *x, void (*work)(emb_exchange *x), bool here)
{
    x->parked = true;
    atomic_store(&x->references, 2);
    if (emb_http_workers_take(x->loop->server->workers, x, work, here))
        return true;
    x->parked = false;
    atomic_store(&x->references, 1);
    return false;
}

bool emb_exchange_park(emb_exchange *x, void (*work)(emb_exchange *x))
{
    return park(x, work, false);
}

bool emb_exchange_park_here(emb_exchange *x, void (*work)(emb_exchange *x))
{
    return park(x, work, true);
}

static void answer_delivered(emb_http_loop *loop, emb_http_mail *mail)
{
    (void)loop;
    emb_exchange *x = (emb_exchange *)mail;
    x->delivered = true;
    if (x->connection)
        emb_http_connection_answer(x->connection);
    else
        emb_http_exchange_done(x);
}

/* The answer is complete in x. Of a worker it goes to the loop; in place, the connection sees to it after
 * handle. */
static void hand_over(emb_exchange *x)
{
    if (!x->parked) {
        x->delivered = true;
        return;
    }
    emb_http_workers_free_place(x->loop->server->workers);
    x->mail.run = answer_delivered;
    if (!emb_http_workers_keep(x)) /* the thread that works has the loop, and sees to it next */
        emb_http_loop_post(x->loop, &x->mail);
}

static bool has_body(const emb_exchange *x, int status)
{
    return !x->head_only && status != 204 && status != 304;
}

void emb_exchange_reply(emb_exchange *x, int status, const char *content_type, emb_buf *body)
{
    if (atomic_exchange(&x->answered, true)) {
        if (body)
            emb_buf_fini(body);
        return;
    }
    if (body) {
        x->answer = *body;
        emb_buf_init(body, body->maximum);
    }
    size_t length = x->answer.length;
    x->broken = !emb_http_compose_head(x, status, content_type, length);
    if (!has_body(x, status))
        x->answer.length = 0;
    x->answer_bytes = x->answer.length;
    hand_over(x);
}

void emb_exchange_reply_text(emb_exchange *x, int status, const char *content_type, const char *text,
                             size_t length)
{
    emb_buf body = EMB_BUF_INIT(SIZE_MAX);
    bool whole = emb_buf_add(&body, text, length) == EMB_OK; /* an answer without its body would be a lie */
    emb_exchange_reply(x, whole ? status : 503, content_type, &body);
}

void emb_http_exchange_fail(emb_exchange *x)
{
    static const char text[] =
        "{\"error\":{\"message\":\"The request got no answer; this is a bug of the server.\","
        "\"type\":\"server_error\",\"param\":null,\"code\":\"internal_error\"}}";
    emb_exchange_reply_text(x, 500, "application/json", text, sizeof text - 1);
}

void emb_http_exchange_refuse(emb_exchange *x, const emb_http_fault *fault)
{
    emb_buf body = EMB_BUF_INIT(SIZE_MAX);
    x->close_after = true;
    x->refused = fault->why;
    if (fault->status == 405)
        emb_exchange_add_header(x, "allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    if (emb_buf_addf(
            &body,
            "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":"
            "\"%s\"}}",
            fault->message, fault->code))
        emb_buf_clear(&body);
    emb_exchange_reply(x, fault->status, "application/json", &body);
}

/* ---- answering in pieces --------------------------------------------------------------------- */

enum { STREAM_ROOM = 262144 };

static void stream_delivered(emb_http_loop *loop, emb_http_mail *mail)
{
    (void)loop;
    emb_exchange *x = (emb_exchange *)mail;
    pthread_mutex_lock(&x->stream.lock);
    x->stream.posted = false;
    bool ended = x->stream.ended;
    pthread_mutex_unlock(&x->stream.lock);
    if (x->connection)
        emb_http_connection_stream(x->connection);
    else if (ended)
        emb_http_exchange_done(x);
}

/* With the stream's lock held; gives it back. The end that has been posted is the last touch. */
static void post_stream(emb_exchange *x)
{
    bool post = !x->stream.posted;
    if (post) { /* else the mail is the loop's */
        x->stream.posted = true;
        x->mail.run = stream_delivered;
    }
    pthread_mutex_unlock(&x->stream.lock);
    if (post)
        emb_http_loop_post(x->loop, &x->mail);
}

void emb_exchange_stream_begin(emb_exchange *x, int status, const char *content_type)
{
    if (!x->parked || atomic_exchange(&x->answered, true))
        return;
    emb_duty_pass_on(); /* somebody has to send the pieces meanwhile */
    x->broken = !emb_http_compose_head(x, status, content_type, SIZE_MAX);
    x->stream.chunked = x->minor == 1;
    x->stream.begun = true;
    pthread_mutex_lock(&x->stream.lock);
    post_stream(x);
}

/* With the lock held. */
static bool add_piece(emb_exchange *x, const void *data, size_t length)
{
    emb_buf *pending = &x->stream.pending;
    char size[24];
    size_t before = pending->length, n = (size_t)snprintf(size, sizeof size, "%zx\r\n", length);
    bool ok = !x->stream.chunked ? emb_buf_add(pending, data, length) == EMB_OK
                                 : !emb_buf_add(pending, size, n) && !emb_buf_add(pending, data, length) &&
                                       !emb_buf_add(pending, "\r\n", 2);
    if (ok) {
        x->answer_bytes += length;
    } else {
        pending->length = before;
        x->stream.cut = true;
    }
    return ok;
}

bool emb_exchange_stream_write(emb_exchange *x, const void *data, size_t length)
{
    if (!x->stream.begun || x->broken || x->stream.cut)
        return false;
    if (length == 0 || x->head_only)
        return !emb_http_exchange_is_gone(x);
    pthread_mutex_lock(&x->stream.lock);
    while (x->stream.pending.length >= STREAM_ROOM && !emb_http_exchange_is_gone(x))
        pthread_cond_wait(&x->stream.room, &x->stream.lock);
    if (emb_http_exchange_is_gone(x) || !add_piece(x, data, length)) {
        pthread_mutex_unlock(&x->stream.lock);
        return false;
    }
    post_stream(x);
    return true;
}

void emb_exchange_stream_end(emb_exchange *x)
{
    pthread_mutex_lock(&x->stream.lock);
    if (!x->stream.begun || x->stream.ended) {
        pthread_mutex_unlock(&x->stream.lock);
        return;
    }
    /* A stream that lacks a piece gets no last chunk: its client must see that it is cut off. */
    if (x->stream.chunked && !x->head_only &&
        (x->stream.cut || emb_buf_add(&x->stream.pending, "0\r\n\r\n", 5)))
        x->close_after = true;
    x->stream.ended = true;
    emb_http_workers_free_place(x->loop->server->workers);
    post_stream(x);
}
