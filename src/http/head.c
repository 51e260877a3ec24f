/*
 * One pass over the bytes with a cursor; running out of bytes is MORE, anything that RFC 9112 does not allow
 * is a fault. Where the RFC lets a server be lenient (bare LF, white space before the colon, folding, several
 * equal Content-Length, empty list elements), this one is not: each of them has been used to make two servers
 * disagree about where a request ends. The caller reads again from the start when more bytes have come, which
 * is cheap because it asks only after a line feed has come (connection.c) and the head is bounded.
 *
 * What decides the framing (Content-Length, Transfer-Encoding) is seen in the same pass, by exact name: there
 * is no second parser that could see another value.
 */
#include "http/head.h"

#include "base/utf8.h"
#include "http/server.h"

#include <string.h>

static const emb_http_fault faults[] = {
#define EMB_X(name, status, why, code, message) {status, why, code, message},
    EMB_HTTP_FAULT_TABLE(EMB_X)
#undef EMB_X
};

const emb_http_fault *emb_http_fault_of(emb_http_progress progress)
{
    return progress > EMB_HTTP_MORE ? &faults[progress - EMB_HTTP_MORE - 1] : NULL;
}

/* ---- characters ------------------------------------------------------------------------------ */

enum { TOKEN = 1, VALUE = 2, HOST = 4, TARGET = 8 };

static unsigned kinds_of(unsigned char c)
{
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'), digit = c >= '0' && c <= '9';
    unsigned kinds = 0;
    if (letter || digit || (c && strchr("!#$%&'*+-.^_`|~", c)))
        kinds |= TOKEN;
    if (c == '\t' || (c >= 0x20 && c != 0x7f))
        kinds |= VALUE;
    if (letter || digit || (c && strchr("-._~%!$&'()*+;=", c)))
        kinds |= HOST;
    if (c > 0x20 && c < 0x7f && c != '#')
        kinds |= TARGET;
    return kinds;
}

static unsigned char kind[256];

__attribute__((constructor)) static void fill_kinds(void)
{
    for (int c = 0; c < 256; c++)
        kind[c] = (unsigned char)kinds_of((unsigned char)c);
}

static bool is(char c, unsigned kinds)
{
    return kind[(unsigned char)c] & kinds;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool emb_http_same(const char *text, size_t length, const char *lower_text)
{
    size_t i = 0;
    for (; i < length && lower_text[i]; i++)
        if (lower(text[i]) != lower_text[i])
            return false;
    return i == length && !lower_text[i];
}

bool emb_http_is_token(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!is(text[i], TOKEN))
            return false;
    return length > 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The next element of a comma-separated list, trimmed; false at its end. */
static bool next_element(const char **at, const char *end, const char **element, size_t *length)
{
    if (*at > end)
        return false;
    const char *comma = memchr(*at, ',', (size_t)(end - *at)), *stop = comma ? comma : end, *start = *at;
    *at = stop + 1;
    while (start < stop && (*start == ' ' || *start == '\t'))
        start++;
    while (stop > start && (stop[-1] == ' ' || stop[-1] == '\t'))
        stop--;
    *element = start;
    *length = (size_t)(stop - start);
    return true;
}

bool emb_http_list_has(const char *list, size_t length, const char *token)
{
    const char *at = list, *element;
    size_t n;
    while (next_element(&at, list + length, &element, &n))
        if (emb_http_same(element, n, token))
            return true;
    return false;
}

/* ---- the authority --------------------------------------------------------------------------- */

static bool is_port(const char *text, size_t length)
{
    unsigned port = 0;
    if (length > 5)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port <= 65535;
}

/* Bytes of the host at the front, 0 if it is none. */
static size_t host_length(const char *text, size_t length)
{
    size_t i = 0;
    if (length && text[0] == '[') {
        for (i = 1; i < length && (hex_digit(text[i]) >= 0 || text[i] == ':' || text[i] == '.'); i++) {
        }
        return i > 2 && i < length && text[i] == ']' ? i + 1 : 0;
    }
    while (i < length && is(text[i], HOST))
        i++;
    return i;
}

bool emb_http_is_authority(const char *text, size_t length)
{
    size_t host = host_length(text, length);
    if (host == 0)
        return false;
    return host == length || (text[host] == ':' && is_port(text + host + 1, length - host - 1));
}

/* ---- the request line ------------------------------------------------------------------------ */

typedef struct reader {
    emb_http_head *head;
    const char *data;
    size_t at, end; /* end: of what may be looked at */
    unsigned hosts, lengths, codings;
    bool closing; /* Connection: close was there: nothing outweighs it */
} reader;

static unsigned method_bit(const char *name, size_t length)
{
    static const struct {
        const char *name;
        unsigned bit;
    } methods[] = {{"GET", EMB_HTTP_GET},        {"POST", EMB_HTTP_POST},     {"PUT", EMB_HTTP_PUT},
                   {"HEAD", EMB_HTTP_HEAD},      {"DELETE", EMB_HTTP_DELETE}, {"PATCH", EMB_HTTP_PATCH},
                   {"OPTIONS", EMB_HTTP_OPTIONS}};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strlen(methods[i].name) == length && memcmp(methods[i].name, name, length) == 0)
            return methods[i].bit;
    return 0;
}

static emb_http_progress read_method(reader *r)
{
    size_t start = r->at;
    while (r->at < r->end && is(r->data[r->at], TOKEN))
        if (++r->at - start > 32)
            return EMB_HTTP_BAD_METHOD;
    if (r->at == r->end)
        return EMB_HTTP_MORE;
    if (r->data[r->at] != ' ' || r->at == start)
        return EMB_HTTP_BAD_LINE;
    r->head->method = (emb_http_span){(uint32_t)start, (uint32_t)(r->at - start)};
    r->head->method_bit = method_bit(r->data + start, r->at - start);
    r->at++;
    return r->head->method_bit ? EMB_HTTP_DONE : EMB_HTTP_BAD_METHOD;
}

/* Path and query of the target in [start, end). */
static emb_http_progress split_target(reader *r, size_t start, size_t end)
{
    const char *d = r->data;
    emb_http_head *head = r->head;
    size_t n = end - start, skip = 0;
    if (n == 1 && d[start] == '*' && head->method_bit == EMB_HTTP_OPTIONS) {
        head->asterisk = true;
        return EMB_HTTP_DONE;
    }
    if (n > 7 && emb_http_same(d + start, 7, "http://"))
        skip = 7;
    else if (n > 8 && emb_http_same(d + start, 8, "https://"))
        skip = 8;
    if (skip) {
        size_t stop = start += skip;
        while (stop < end && d[stop] != '/' && d[stop] != '?')
            stop++;
        if (!emb_http_is_authority(d + start, stop - start))
            return EMB_HTTP_BAD_TARGET;
        start = stop;
    } else if (n == 0 || d[start] != '/') {
        return EMB_HTTP_BAD_TARGET;
    }
    const char *mark = memchr(d + start, '?', end - start);
    size_t path_end = mark ? (size_t)(mark - d) : end;
    head->path = (emb_http_span){(uint32_t)start, (uint32_t)(path_end - start)};
    if (mark)
        head->query = (emb_http_span){(uint32_t)path_end + 1, (uint32_t)(end - path_end - 1)};
    return EMB_HTTP_DONE;
}

static emb_http_progress read_target(reader *r)
{
    size_t start = r->at;
    while (r->at < r->end && is(r->data[r->at], TARGET))
        r->at++;
    if (r->at == r->end)
        return EMB_HTTP_MORE;
    if (r->data[r->at] != ' ')
        return r->data[r->at] == '\r' || r->data[r->at] == '\n' ? EMB_HTTP_BAD_LINE : EMB_HTTP_BAD_TARGET;
    return split_target(r, start, r->at++);
}

static emb_http_progress read_line_end(reader *r)
{
    if (r->at == r->end)
        return EMB_HTTP_MORE;
    if (r->data[r->at] != '\r')
        return EMB_HTTP_BAD_LINE_END;
    if (r->at + 1 == r->end)
        return EMB_HTTP_MORE;
    if (r->data[r->at + 1] != '\n')
        return EMB_HTTP_BAD_LINE_END;
    r->at += 2;
    return EMB_HTTP_DONE;
}

static emb_http_progress read_version(reader *r)
{
    static const char prefix[] = "HTTP/";
    for (size_t i = 0; i < 8; i++) {
        if (r->at + i == r->end)
            return EMB_HTTP_MORE;
        char c = r->data[r->at + i];
        bool digit = c >= '0' && c <= '9';
        if (i < 5 ? c != prefix[i] : i == 6 ? c != '.' : !digit)
            return EMB_HTTP_BAD_LINE;
    }
    const char *version = r->data + r->at + 5;
    if (version[0] != '1' || version[2] > '1')
        return EMB_HTTP_BAD_VERSION;
    r->head->minor = (unsigned)(version[2] - '0');
    r->at += 8;
    return read_line_end(r);
}

static emb_http_progress read_request_line(reader *r)
{
    emb_http_progress progress;
    if ((progress = read_method(r)) || (progress = read_target(r)) || (progress = read_version(r)))
        return progress;
    r->head->keep_alive = r->head->minor == 1;
    return EMB_HTTP_DONE;
}

/* ---- the fields ------------------------------------------------------------------------------ */

static emb_http_progress take_length(reader *r, const char *value, size_t length)
{
    if (r->lengths++ || length == 0)
        return EMB_HTTP_BAD_LENGTH;
    uint64_t number = 0;
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9')
            return EMB_HTTP_BAD_LENGTH;
        number = number * 10 + (uint64_t)(value[i] - '0');
    }
    r->head->has_length = true;
    r->head->content_length = length > 19 ? UINT64_MAX : number; /* 19 digits fit */
    return EMB_HTTP_DONE;
}

static emb_http_progress take_coding(reader *r, const char *value, size_t length)
{
    if (r->codings++)
        return EMB_HTTP_BAD_CODING;
    r->head->chunked = emb_http_same(value, length, "chunked");
    if (r->head->chunked)
        return EMB_HTTP_DONE;
    /* A coding that we lack, then chunked, is well-formed; all else has no end that could be relied on. */
    const char *at = value, *element;
    size_t n, chunked = 0, others = 0;
    while (next_element(&at, value + length, &element, &n)) {
        if (!emb_http_is_token(element, n) || chunked)
            return EMB_HTTP_BAD_CODING;
        if (emb_http_same(element, n, "chunked"))
            chunked++;
        else
            others++;
    }
    return chunked && others ? EMB_HTTP_OTHER_CODING : EMB_HTTP_BAD_CODING;
}

static emb_http_progress take_host(reader *r, const char *value, size_t length)
{
    /* An empty Host is what a client sends whose target has no authority (RFC 9110, 7.2). */
    return r->hosts++ || (length && !emb_http_is_authority(value, length)) ? EMB_HTTP_BAD_HOST
                                                                           : EMB_HTTP_DONE;
}

static emb_http_progress take_expect(reader *r, const char *value, size_t length)
{
    if (r->head->minor == 0)
        return EMB_HTTP_DONE; /* RFC 9110, 10.1.1: ignored */
    if (!emb_http_same(value, length, "100-continue"))
        return EMB_HTTP_BAD_EXPECT;
    r->head->expects_continue = true;
    return EMB_HTTP_DONE;
}

static void take_connection(reader *r, const char *value, size_t length)
{
    if (emb_http_list_has(value, length, "close"))
        r->closing = true;
    else if (r->head->minor == 0 && emb_http_list_has(value, length, "keep-alive"))
        r->head->keep_alive = true;
}

/* The fields that the server itself goes by; told apart by length first, since most are others. */
static emb_http_progress take_field(reader *r, const emb_http_field *field)
{
    const char *name = r->data + field->name.at, *value = r->data + field->value.at;
    size_t n = field->name.length, length = field->value.length;
    if (n == 4 && emb_http_same(name, n, "host"))
        return take_host(r, value, length);
    if (n == 14 && emb_http_same(name, n, "content-length"))
        return take_length(r, value, length);
    if (n == 17 && emb_http_same(name, n, "transfer-encoding"))
        return take_coding(r, value, length);
    if (n == 6 && emb_http_same(name, n, "expect"))
        return take_expect(r, value, length);
    if (n == 10 && emb_http_same(name, n, "connection"))
        take_connection(r, value, length);
    return EMB_HTTP_DONE;
}

static emb_http_progress read_field(reader *r)
{
    const char *d = r->data;
    size_t start = r->at, at = start;
    while (at < r->end && is(d[at], TOKEN))
        at++;
    if (at == r->end)
        return EMB_HTTP_MORE;
    if (at == start)
        return d[at] == ' ' || d[at] == '\t' ? EMB_HTTP_FOLDED
               : d[at] == '\n'               ? EMB_HTTP_BAD_LINE_END
                                             : EMB_HTTP_BAD_FIELD_NAME;
    if (d[at] != ':')
        return EMB_HTTP_BAD_FIELD_NAME;
    size_t name_end = at++;
    while (at < r->end && (d[at] == ' ' || d[at] == '\t'))
        at++;
    size_t value = at;
    while (at < r->end && is(d[at], VALUE))
        at++;
    r->at = at;
    if (at < r->end && d[at] != '\r')
        return d[at] == '\n' ? EMB_HTTP_BAD_LINE_END : EMB_HTTP_BAD_FIELD_VALUE;
    emb_http_progress progress = read_line_end(r);
    if (progress)
        return progress;
    while (at > value && (d[at - 1] == ' ' || d[at - 1] == '\t'))
        at--;
    if (r->head->field_count == EMB_HTTP_MAX_FIELDS)
        return EMB_HTTP_HEAD_TOO_LARGE;
    emb_http_field *field = &r->head->fields[r->head->field_count++];
    field->name = (emb_http_span){(uint32_t)start, (uint32_t)(name_end - start)};
    field->value = (emb_http_span){(uint32_t)value, (uint32_t)(at - value)};
    return take_field(r, field);
}

/* What can be told only when all fields are known. */
static emb_http_progress check_whole(const reader *r)
{
    const emb_http_head *head = r->head;
    if (r->codings && (head->has_length || head->minor == 0))
        return EMB_HTTP_BAD_CODING;
    if (head->minor == 1 && r->hosts == 0)
        return EMB_HTTP_BAD_HOST;
    return EMB_HTTP_DONE;
}

static emb_http_progress read_all(reader *r)
{
    emb_http_progress progress = read_request_line(r);
    while (!progress) {
        if (r->at < r->end && r->data[r->at] == '\r') {
            if ((progress = read_line_end(r)))
                return progress;
            r->head->bytes = r->at;
            r->head->keep_alive = r->head->keep_alive && !r->closing;
            return check_whole(r);
        }
        progress = read_field(r);
    }
    return progress;
}

emb_http_progress emb_http_head_read(emb_http_head *head, const char *data, size_t n, size_t maximum)
{
    reader r = {.head = head, .data = data, .end = n < maximum ? n : maximum};
    head->bytes = 0;
    head->method = head->path = head->query = (emb_http_span){0, 0};
    head->asterisk = head->has_length = head->chunked = head->keep_alive = head->expects_continue = false;
    head->method_bit = head->minor = 0;
    head->content_length = 0;
    head->field_count = 0;
    emb_http_progress progress = read_all(&r);
    return progress == EMB_HTTP_MORE && n >= maximum ? EMB_HTTP_HEAD_TOO_LARGE : progress;
}

/* ---- percent-encoding ------------------------------------------------------------------------ */

bool emb_http_percent_decode(const char *text, size_t length, bool query, char *out, size_t *out_length)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '%') {
            int high = length - i > 2 ? hex_digit(text[i + 1]) : -1,
                low = length - i > 2 ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0 || (high | low) == 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && query) {
            c = ' ';
        }
        out[n++] = c;
    }
    out[n] = 0;
    *out_length = n;
    return emb_utf8_valid_prefix(out, n) == n;
}
