/* exchange.c: src/http/server.h without a network; see fake.h. */
#include "support/api/fake.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct emb_exchange {
    const char *method, *path, *headers;
    const char *body;
    size_t length;
    emb_arena arena;
    void *data;
    fake_answer *answer;
    void (*work)(emb_exchange *x);
    char query[8][2][256]; /* names and values */
    int gone;
};

fake_world fake;

emb_http_method emb_exchange_method(const emb_exchange *x)
{
    static const char *const names[] = {"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"};
    for (int i = 0; i < 7; i++)
        if (strcmp(x->method, names[i]) == 0)
            return (emb_http_method)(1 << i);
    abort();
}

const char *emb_exchange_method_name(const emb_exchange *x)
{
    return x->method;
}

const char *emb_exchange_path(const emb_exchange *x)
{
    return x->path;
}

const char *emb_exchange_query(emb_exchange *x, const char *name)
{
    for (int i = 0; i < 8; i++)
        if (x->query[i][0][0] && strcmp(x->query[i][0], name) == 0)
            return x->query[i][1];
    return NULL;
}

const char *emb_exchange_header(const emb_exchange *x, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = x->headers; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
            p += n + 1;
            p += strspn(p, " ");
            return emb_arena_strndup((emb_arena *)&x->arena, p, strcspn(p, "\n"));
        }
    return NULL;
}

const char *emb_exchange_body(emb_exchange *x, size_t *length)
{
    *length = x->length;
    return x->body;
}

const char *emb_exchange_peer(const emb_exchange *x)
{
    (void)x;
    return "127.0.0.1:1";
}

const char *emb_exchange_request_id(const emb_exchange *x)
{
    (void)x;
    return "request-1";
}

emb_arena *emb_exchange_arena(emb_exchange *x)
{
    return &x->arena;
}

uint64_t emb_exchange_started_ns(const emb_exchange *x)
{
    (void)x;
    return emb_now_ns();
}

uint64_t emb_exchange_received_ns(const emb_exchange *x)
{
    (void)x;
    return emb_now_ns();
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
    snprintf(x->answer->route, sizeof x->answer->route, "%s", route);
}

void emb_exchange_set_key_name(emb_exchange *x, const char *name)
{
    snprintf(x->answer->key_name, sizeof x->answer->key_name, "%s", name);
}

void emb_exchange_set_refused(emb_exchange *x, const char *reason)
{
    snprintf(x->answer->refused, sizeof x->answer->refused, "%s", reason);
}

void emb_exchange_add_header(emb_exchange *x, const char *name, const char *value)
{
    fake_answer *a = x->answer;
    if (a->header_count == sizeof a->headers / sizeof *a->headers)
        abort();
    snprintf(a->headers[a->header_count][0], sizeof a->headers[0][0], "%s", name);
    snprintf(a->headers[a->header_count++][1], sizeof a->headers[0][1], "%s", value);
}

void emb_exchange_add_headerf(emb_exchange *x, const char *name, const char *format, ...)
{
    char value[256];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    emb_exchange_add_header(x, name, value);
}

static void answered(emb_exchange *x, int status, const char *type)
{
    if (x->answer->status)
        abort();
    x->answer->status = status;
    snprintf(x->answer->type, sizeof x->answer->type, "%s", type ? type : "");
}

void emb_exchange_reply(emb_exchange *x, int status, const char *content_type, emb_buf *body)
{
    if (fake.end)
        fake.end();
    answered(x, status, content_type);
    if (body) {
        x->answer->body = *body;
        *body = (emb_buf)EMB_BUF_INIT(0);
    }
    if (!emb_buf_cstr(&x->answer->body))
        abort();
    emb_arena_fini(&x->arena);
}

void emb_exchange_reply_text(emb_exchange *x, int status, const char *content_type, const char *text,
                             size_t length)
{
    emb_buf body = EMB_BUF_INIT(1 << 30);
    if (fake.end)
        fake.end();
    if (emb_buf_add(&body, text, length))
        abort();
    emb_exchange_reply(x, status, content_type, &body);
}

bool emb_exchange_park(emb_exchange *x, void (*work)(emb_exchange *x))
{
    if (fake.no_workers)
        return false;
    x->answer->parked = true;
    work(x);
    return true;
}

bool emb_exchange_park_here(emb_exchange *x, void (*work)(emb_exchange *x))
{
    return emb_exchange_park(x, work);
}

void emb_exchange_stream_begin(emb_exchange *x, int status, const char *content_type)
{
    answered(x, status, content_type);
}

bool emb_exchange_stream_write(emb_exchange *x, const void *data, size_t length)
{
    if (emb_buf_add(&x->answer->body, data, length))
        abort();
    return true;
}

void emb_exchange_stream_end(emb_exchange *x)
{
    emb_arena_fini(&x->arena);
}

void emb_http_get_stats(const emb_http_server *server, emb_http_stats *out)
{
    (void)server;
    memset(out, 0, sizeof *out);
}

/* ---- the test's side ---- */

void fake_ask(emb_api *api, const char *method, const char *path, const char *headers, const char *body,
              size_t length, fake_answer *out)
{
    emb_exchange x = {.method = method, .headers = headers, .length = length, .answer = out};
    char bare[1024];
    memset(out, 0, sizeof *out);
    emb_buf_init(&out->body, (size_t)1 << 31);
    emb_arena_init(&x.arena);
    snprintf(bare, sizeof bare, "%s", path);
    char *query = strchr(bare, '?');
    if (query) {
        *query++ = 0;
        for (int i = 0; query && i < 8; i++, query = strchr(query, '&') ? strchr(query, '&') + 1 : NULL)
            sscanf(query, "%255[^=&]=%255[^&]", x.query[i][0], x.query[i][1]);
    }
    x.path = bare;
    /* as much room behind the body as the server promises, and not a byte more */
    char *copy = malloc(length + 64);
    if (!copy)
        abort();
    if (length)
        memcpy(copy, body, length);
    memset(copy + length, 0, 64);
    x.body = copy;
    if (fake.begin)
        fake.begin();
    emb_api_handle(api, &x);
    free(copy);
    if (!out->status)
        abort();
}

const char *fake_header(const fake_answer *a, const char *name)
{
    for (size_t i = 0; i < a->header_count; i++)
        if (strcasecmp(a->headers[i][0], name) == 0)
            return a->headers[i][1];
    return NULL;
}

void fake_answer_fini(fake_answer *a)
{
    emb_buf_fini(&a->body);
}
