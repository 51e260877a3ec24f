/*
 * The head of an answer, written in one go into a buffer that the exchange keeps. No printf: this runs for
 * every request. Date is made once a second and thread.
 */
#include "http/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *reason_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 206:
        return "Partial Content";
    case 207:
        return "Multi-Status";
    case 301:
        return "Moved Permanently";
    case 302:
        return "Found";
    case 303:
        return "See Other";
    case 304:
        return "Not Modified";
    case 307:
        return "Temporary Redirect";
    case 308:
        return "Permanent Redirect";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 402:
        return "Payment Required";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 406:
        return "Not Acceptable";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 410:
        return "Gone";
    case 411:
        return "Length Required";
    case 412:
        return "Precondition Failed";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 417:
        return "Expectation Failed";
    case 422:
        return "Unprocessable Content";
    case 424:
        return "Failed Dependency";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 499:
        return "Client Closed Request";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 505:
        return "HTTP Version Not Supported";
    }
    return status < 300 ? "OK" : status < 400 ? "Redirect" : status < 500 ? "Client Error" : "Server Error";
}

enum { DATE_LENGTH = 29 };

/* "Sun, 06 Nov 1994 08:49:37 GMT", whatever the locale. */
static const char *date_now(void)
{
    static _Thread_local char text[DATE_LENGTH + 1];
    static _Thread_local time_t made;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != made) {
        struct tm t;
        gmtime_r(&now.tv_sec, &t);
        char wide[96];
        snprintf(wide, sizeof wide, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
                 &"SunMonTueWedThuFriSat"[t.tm_wday * 3], t.tm_mday,
                 &"JanFebMarAprMayJunJulAugSepOctNovDec"[t.tm_mon * 3], t.tm_year + 1900, t.tm_hour, t.tm_min,
                 t.tm_sec);
        memcpy(text, wide, DATE_LENGTH);
        made = now.tv_sec;
    }
    return text;
}

/* ---- composing ------------------------------------------------------------------------------- */

/* With room made before. */
static char *put(char *at, const char *text, size_t length)
{
    memcpy(at, text, length);
    return at + length;
}

#define PUT(at, literal) put(at, literal, sizeof(literal) - 1)

static char *put_text(char *at, const char *text)
{
    return put(at, text, strlen(text));
}

static char *put_number(char *at, size_t number)
{
    char digits[24], *p = digits + sizeof digits;
    do {
        *--p = (char)('0' + number % 10);
    } while (number /= 10);
    return put(at, p, (size_t)(digits + sizeof digits - p));
}

static bool is_plain(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 ? *text != '\t' : *text == 0x7f)
            return false;
    return true;
}

static char *put_status_line(char *at, int status)
{
    const char *reason = reason_of(status);
    at = PUT(at, "HTTP/1.1 ");
    *at++ = (char)('0' + status / 100);
    *at++ = (char)('0' + status / 10 % 10);
    *at++ = (char)('0' + status % 10);
    *at++ = ' ';
    return put_text(at, reason);
}

static char *put_framing(char *at, emb_exchange *x, int status, size_t body_length)
{
    if (body_length == SIZE_MAX) {
        if (x->minor == 1)
            at = PUT(at, "\r\nTransfer-Encoding: chunked");
    } else if (status != 204 && status != 304) {
        at = put_number(PUT(at, "\r\nContent-Length: "), body_length);
    }
    if (x->close_after)
        at = PUT(at, "\r\nConnection: close");
    else if (x->minor == 0)
        at = PUT(at, "\r\nConnection: keep-alive");
    return at;
}

static char *put_cors(char *at, const emb_exchange *x)
{
    if (!x->cors)
        return at;
    at = PUT(at, "\r\nVary: Origin");
    if (x->cors_origin)
        at = PUT(put_text(PUT(at, "\r\nAccess-Control-Allow-Origin: "), x->cors_origin),
                 "\r\nAccess-Control-Expose-Headers: *");
    return at;
}

bool emb_http_compose_head(emb_exchange *x, int status, const char *content_type, size_t body_length)
{
    if (status < 200 || status > 599)
        status = 500;
    x->status = status;
    if (!x->keep_alive || (x->minor == 0 && body_length == SIZE_MAX) ||
        atomic_load_explicit(&x->loop->server->stopping, memory_order_relaxed))
        x->close_after = true;
    const char *name = x->loop->server->server_name;
    bool typed = content_type && *content_type && is_plain(content_type);
    size_t fixed = 512, need = fixed + strlen(name) + strlen(x->request_id) + x->extra.length +
                               (typed ? strlen(content_type) : 0) +
                               (x->cors_origin ? strlen(x->cors_origin) : 0);
    emb_buf_clear(&x->answer_head);
    if (emb_buf_reserve(&x->answer_head, need))
        return false;
    char *at = put_status_line(x->answer_head.data, status);
    at = put_text(PUT(at, "\r\nServer: "), name);
    at = put(PUT(at, "\r\nDate: "), date_now(), DATE_LENGTH);
    if (typed)
        at = put_text(PUT(at, "\r\nContent-Type: "), content_type);
    at = put_framing(at, x, status, body_length);
    at = put_text(PUT(at, "\r\nx-request-id: "), x->request_id);
    at = put_cors(at, x);
    at = PUT(at, "\r\n");
    if (x->extra.length)
        at = put(at, x->extra.data, x->extra.length);
    at = PUT(at, "\r\n");
    x->answer_head.length = (size_t)(at - x->answer_head.data);
    return true;
}

/* ---- the application's headers --------------------------------------------------------------- */

/* Those that frame the message are the server's alone. */
static bool is_reserved(const char *name, size_t length)
{
    static const char *const names[] = {"content-length", "transfer-encoding", "connection", "date",
                                        "server",         "x-request-id",      "keep-alive", "trailer",
                                        "upgrade"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (emb_http_same(name, length, names[i]))
            return true;
    return false;
}

void emb_exchange_add_header(emb_exchange *x, const char *name, const char *value)
{
    size_t n = strlen(name), length = strlen(value);
    if (!emb_http_is_token(name, n) || !is_plain(value) || is_reserved(name, n) ||
        emb_buf_reserve(&x->extra, n + length + 4))
        return;
    char *at = x->extra.data + x->extra.length;
    at = PUT(put(PUT(put(at, name, n), ": "), value, length), "\r\n");
    x->extra.length = (size_t)(at - x->extra.data);
}

void emb_exchange_add_headerf(emb_exchange *x, const char *name, const char *format, ...)
{
    char value[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(value, sizeof value, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof value) {
        emb_exchange_add_header(x, name, value);
        return;
    }
    emb_buf longer = EMB_BUF_INIT(16384);
    va_start(args, format);
    if (n >= 0 && (size_t)n < longer.maximum && !emb_buf_reserve(&longer, (size_t)n + 1)) {
        vsnprintf(longer.data, (size_t)n + 1, format, args);
        emb_exchange_add_header(x, name, longer.data);
    }
    va_end(args);
    emb_buf_fini(&longer);
}

/* ---- cross-origin calls of browsers ---------------------------------------------------------- */

/* The answers carry no credentials (no Access-Control-Allow-Credentials), so '*' is safe where it is asked
 * for. */
void emb_http_cors_set(emb_exchange *x, const emb_http_settings *settings)
{
    size_t length;
    const char *origin = emb_http_exchange_field(x, "origin", &length);
    x->cors = settings->cors != NULL;
    if (!x->cors || !origin)
        return;
    if (settings->cors_any) {
        x->cors_origin = "*";
        return;
    }
    for (const char *at = settings->cors; *at;) {
        size_t n = strcspn(at, ",");
        char *allowed = emb_arena_strndup(&x->arena, at, n);
        if (allowed && emb_http_same(origin, length, allowed)) {
            x->cors_origin = origin;
            return;
        }
        at += n + (at[n] == ',');
    }
}

/* A list of tokens, to be given back as it is. */
static bool is_list(const char *text)
{
    for (; *text; text++)
        if (!emb_http_is_token(text, 1) && *text != ',' && *text != ' ')
            return false;
    return true;
}

#define ALL_METHODS "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

bool emb_http_exchange_answer_options(emb_exchange *x, bool asterisk)
{
    size_t length;
    if (x->method != EMB_HTTP_OPTIONS)
        return false;
    bool preflight = x->cors && emb_http_exchange_field(x, "origin", &length) &&
                     emb_http_exchange_field(x, "access-control-request-method", &length);
    if (!preflight && !asterisk)
        return false;
    if (asterisk)
        emb_exchange_add_header(x, "Allow", ALL_METHODS);
    if (preflight && x->cors_origin) {
        const char *headers = emb_http_exchange_field(x, "access-control-request-headers", &length);
        emb_exchange_add_header(x, "Access-Control-Allow-Methods", ALL_METHODS);
        if (headers && is_list(headers))
            emb_exchange_add_header(x, "Access-Control-Allow-Headers", headers);
        emb_exchange_add_header(x, "Access-Control-Max-Age", "600");
        emb_exchange_add_header(x, "Vary", "Access-Control-Request-Headers");
    }
    emb_exchange_reply(x, 204, NULL, NULL);
    return true;
}
