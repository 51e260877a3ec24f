/*
 * The chunked coding, byte by byte through a small machine, so that it does not matter how the network cuts
 * it. Payload goes past in runs, without copying.
 *
 * Strict: a size is one to sixteen hexadecimal digits and nothing else; an extension is visible text after
 * ';', bounded, and ignored; every line ends in CR LF; trailers have the form of headers, are bounded, and
 * dropped (RFC 9110, 6.5.1 allows it: a field that comes after the body must not change what was decided
 * before it).
 */
#include "http/head.h"

#include <string.h>

enum {
    SIZE_FIRST,
    SIZE,
    EXTENSION,
    SIZE_LF,
    PAYLOAD,
    PAYLOAD_CR,
    PAYLOAD_LF,
    TRAILER_FIRST,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
    ENDED
};
enum { MOST_DIGITS = 16, MOST_EXTENSION_BYTES = 16384 };

void emb_http_chunks_init(emb_http_chunks *chunks, uint64_t maximum_body, size_t maximum_trailer)
{
    memset(chunks, 0, sizeof *chunks);
    chunks->maximum = maximum_body;
    chunks->maximum_trailer = maximum_trailer;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_text(char c)
{
    return c == '\t' || ((unsigned char)c >= 0x20 && (unsigned char)c != 0x7f);
}

static emb_http_progress size_byte(emb_http_chunks *c, char byte)
{
    int digit = hex_digit(byte);
    if (digit >= 0) {
        if (c->digits++ == MOST_DIGITS)
            return EMB_HTTP_BAD_CHUNK;
        c->left = c->left << 4 | (uint64_t)digit;
        c->state = SIZE;
        return EMB_HTTP_MORE;
    }
    if (c->state == SIZE_FIRST || (byte != ';' && byte != '\r'))
        return EMB_HTTP_BAD_CHUNK;
    c->state = byte == ';' ? EXTENSION : SIZE_LF;
    return c->left > c->maximum - c->total ? EMB_HTTP_BODY_TOO_LARGE : EMB_HTTP_MORE;
}

static emb_http_progress extension_byte(emb_http_chunks *c, char byte)
{
    if (byte == '\r') {
        c->state = SIZE_LF;
        return EMB_HTTP_MORE;
    }
    return is_text(byte) && ++c->extension_bytes <= MOST_EXTENSION_BYTES ? EMB_HTTP_MORE : EMB_HTTP_BAD_CHUNK;
}

static emb_http_progress trailer_byte(emb_http_chunks *c, char byte)
{
    if (++c->trailer_bytes > c->maximum_trailer)
        return EMB_HTTP_HEAD_TOO_LARGE;
    if (c->state == TRAILER_FIRST && byte == '\r') {
        c->state = END_LF;
    } else if (c->state == TRAILER_VALUE) {
        if (byte == '\r')
            c->state = TRAILER_LF;
        else if (!is_text(byte))
            return EMB_HTTP_BAD_CHUNK;
    } else if (c->state == TRAILER_NAME && byte == ':') {
        c->state = TRAILER_VALUE;
    } else if (emb_http_is_token(&byte, 1)) {
        c->state = TRAILER_NAME;
    } else {
        return EMB_HTTP_BAD_CHUNK;
    }
    return EMB_HTTP_MORE;
}

/* A byte that must be `wanted`. */
static emb_http_progress exact_byte(emb_http_chunks *c, char byte, char wanted, int next)
{
    if (byte != wanted)
        return EMB_HTTP_BAD_CHUNK;
    c->state = next;
    return next == ENDED ? EMB_HTTP_DONE : EMB_HTTP_MORE;
}

static emb_http_progress framing_byte(emb_http_chunks *c, char byte)
{
    switch (c->state) {
    case SIZE_FIRST:
    case SIZE:
        return size_byte(c, byte);
    case EXTENSION:
        return extension_byte(c, byte);
    case SIZE_LF:
        return exact_byte(c, byte, '\n', c->left ? PAYLOAD : TRAILER_FIRST);
    case PAYLOAD_CR:
        return exact_byte(c, byte, '\r', PAYLOAD_LF);
    case PAYLOAD_LF:
        c->digits = 0;
        return exact_byte(c, byte, '\n', SIZE_FIRST);
    case TRAILER_LF:
        return exact_byte(c, byte, '\n', TRAILER_FIRST);
    case END_LF:
        return exact_byte(c, byte, '\n', ENDED);
    default:
        return trailer_byte(c, byte);
    }
}

emb_http_progress emb_http_chunks_read(emb_http_chunks *c, const char *data, size_t n, size_t *used,
                                       const char **piece, size_t *piece_length)
{
    *used = 0;
    *piece = NULL;
    *piece_length = 0;
    if (c->state == ENDED)
        return EMB_HTTP_DONE;
    while (*used < n && c->state != PAYLOAD) {
        emb_http_progress progress = framing_byte(c, data[(*used)++]);
        if (progress != EMB_HTTP_MORE)
            return progress;
    }
    if (*used == n)
        return EMB_HTTP_MORE;
    size_t take = n - *used < c->left ? n - *used : (size_t)c->left;
    *piece = data + *used;
    *piece_length = take;
    *used += take;
    c->total += take;
    c->left -= take;
    if (c->left == 0)
        c->state = PAYLOAD_CR;
    return EMB_HTTP_MORE;
}
