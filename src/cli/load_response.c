/*
 * load_response.c: see load_response.h. Head and chunk lines are gathered in one small buffer; a longer
 * header line is cut, since none that matters is long.
 */
#include "cli/load_response.h"

#include <string.h>
#include <strings.h>

enum { STATUS_LINE, HEADERS, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILERS, UNTIL_END };
enum { MAX_HEAD_BYTES = 256 << 10 };

void emb_load_response_start(emb_load_response *r)
{
    memset(r, 0, offsetof(emb_load_response, line));
}

static bool read_decimal(const char *text, uint64_t *out)
{
    uint64_t n = 0;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (n > (UINT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(*text - '0');
    }
    *out = n;
    return true;
}

static void fail(emb_load_response *r)
{
    r->state = EMB_LOAD_BAD;
}

static void finish(emb_load_response *r)
{
    static const char key[] = "\"total_tokens\":";
    r->state = EMB_LOAD_DONE;
    if (r->tokens)
        return;
    for (size_t i = 0; i + sizeof key < r->end_length; i++)
        if (memcmp(r->end + i, key, sizeof key - 1) == 0) {
            size_t n = i + sizeof key - 1;
            while (n < r->end_length && r->end[n] == ' ')
                n++;
            r->end[r->end_length] = 0;
            read_decimal(r->end + n, &r->tokens);
        }
}

static void take_status(emb_load_response *r)
{
    const char *l = r->line;
    uint64_t status;
    if (strncmp(l, "HTTP/1.", 7) != 0 || (l[7] != '0' && l[7] != '1') || l[8] != ' ' ||
        !read_decimal(l + 9, &status) || status < 100 || status > 999) {
        fail(r);
        return;
    }
    r->status = (int)status;
    r->old = l[7] == '0';
    r->keep_alive = !r->old;
    r->phase = HEADERS;
}

static void end_head(emb_load_response *r)
{
    if (r->status < 200) { /* 100 Continue: the answer is still to come */
        r->phase = STATUS_LINE;
        return;
    }
    if (r->status == 204 || r->status == 304) {
        finish(r);
    } else if (r->chunked) {
        r->phase = CHUNK_SIZE;
    } else if (!r->has_length) {
        r->phase = UNTIL_END;
        r->keep_alive = false;
    } else if (r->left == 0) {
        finish(r);
    } else {
        r->phase = BODY;
    }
}

static void take_header(emb_load_response *r)
{
    char *colon = strchr(r->line, ':');
    if (r->line_length == 0) {
        end_head(r);
        return;
    }
    if (!colon) {
        fail(r);
        return;
    }
    *colon = 0;
    const char *name = r->line, *value = colon + 1 + strspn(colon + 1, " \t");
    if (strcasecmp(name, "content-length") == 0) {
        r->has_length = read_decimal(value, &r->left);
        if (!r->has_length)
            fail(r);
    } else if (strcasecmp(name, "transfer-encoding") == 0) {
        r->chunked = strcasestr(value, "chunked") != NULL;
    } else if (strcasecmp(name, "connection") == 0) {
        r->keep_alive = strcasestr(value, "close")        ? false
                        : strcasestr(value, "keep-alive") ? true
                                                          : r->keep_alive;
    } else if (strcasecmp(name, "x-embedd-tokens") == 0 || strcasecmp(name, "x-compute-tokens") == 0) {
        read_decimal(value, &r->tokens);
    } else if (strcasecmp(name, "x-embedd-cached") == 0) {
        read_decimal(value, &r->cached);
    }
}

static void take_chunk_size(emb_load_response *r)
{
    uint64_t n = 0;
    const char *p = r->line;
    for (;; p++) {
        int digit = *p >= '0' && *p <= '9'                 ? *p - '0'
                    : (*p | 32) >= 'a' && (*p | 32) <= 'f' ? (*p | 32) - 'a' + 10
                                                           : -1;
        if (digit < 0)
            break;
        if (n >> 59) {
            fail(r);
            return;
        }
        n = n * 16 + (uint64_t)digit;
    }
    if (p == r->line) {
        fail(r);
        return;
    }
    r->left = n;
    r->phase = n ? CHUNK : TRAILERS;
}

static void take_line(emb_load_response *r)
{
    if (r->line_length > 0 && r->line[r->line_length - 1] == '\r')
        r->line_length--;
    r->line[r->line_length] = 0;
    if (r->phase == STATUS_LINE) {
        if (r->line_length > 0) /* an empty line before it is let pass */
            take_status(r);
    } else if (r->phase == HEADERS) {
        take_header(r);
    } else if (r->phase == CHUNK_SIZE) {
        take_chunk_size(r);
    } else if (r->phase == CHUNK_END) {
        r->line_length > 0 ? fail(r) : (void)(r->phase = CHUNK_SIZE);
    } else if (r->line_length == 0) { /* TRAILERS */
        finish(r);
    }
    r->line_length = 0;
}

static size_t take_line_bytes(emb_load_response *r, const char *data, size_t length)
{
    const char *end = memchr(data, '\n', length);
    size_t n = end ? (size_t)(end - data) : length, room = sizeof r->line - 1 - r->line_length;
    memcpy(r->line + r->line_length, data, n < room ? n : room);
    r->line_length += n < room ? n : room;
    r->head_bytes += n + 1;
    if (r->head_bytes > MAX_HEAD_BYTES && r->phase <= HEADERS)
        fail(r);
    else if (end)
        take_line(r);
    return n + (end != NULL);
}

/* Keeps the last bytes of the body. */
static void keep_end(emb_load_response *r, const char *data, size_t length)
{
    size_t room = sizeof r->end - 1;
    if (length >= room) {
        memcpy(r->end, data + length - room, room);
        r->end_length = room;
        return;
    }
    size_t stay = r->end_length + length > room ? room - length : r->end_length;
    memmove(r->end, r->end + r->end_length - stay, stay);
    memcpy(r->end + stay, data, length);
    r->end_length = stay + length;
}

static size_t take_body_bytes(emb_load_response *r, const char *data, size_t length)
{
    size_t n = r->phase == UNTIL_END || length < r->left ? length : (size_t)r->left;
    size_t room = sizeof r->begin - r->begin_length, begin = n < room ? n : room;
    memcpy(r->begin + r->begin_length, data, begin);
    r->begin_length += begin;
    keep_end(r, data, n);
    r->body_bytes += n;
    if (r->phase == UNTIL_END)
        return n;
    r->left -= n;
    if (r->left == 0 && r->phase == BODY)
        finish(r);
    else if (r->left == 0)
        r->phase = CHUNK_END;
    return n;
}

size_t emb_load_response_feed(emb_load_response *r, const char *data, size_t length)
{
    size_t used = 0;
    while (used < length && r->state == EMB_LOAD_MORE)
        used += r->phase == BODY || r->phase == CHUNK || r->phase == UNTIL_END
                    ? take_body_bytes(r, data + used, length - used)
                    : take_line_bytes(r, data + used, length - used);
    return used;
}

void emb_load_response_end(emb_load_response *r)
{
    if (r->state != EMB_LOAD_MORE)
        return;
    if (r->phase == UNTIL_END)
        finish(r);
    else
        fail(r);
}
