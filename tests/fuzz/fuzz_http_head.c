/*
 * A request's head and what follows it as a chunked body, from any bytes. Whatever is accepted must hold what
 * the server builds on: positions inside the head, no line end or NUL in any of them, at most one way to
 * frame the body; and the verdict must not depend on how the network cut the bytes.
 */
#include "http/head.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAXIMUM_HEAD = 4096, MAXIMUM_BODY = 100000, MAXIMUM_TRAILER = 1000 };

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_span(const char *text, const emb_http_head *head, emb_http_span span)
{
    must(span.at <= head->bytes && span.length <= head->bytes - span.at);
    for (size_t i = 0; i < span.length; i++)
        must(text[span.at + i] != '\r' && text[span.at + i] != '\n' && text[span.at + i] != 0);
}

static void check_head(const char *text, size_t n, const emb_http_head *head)
{
    size_t lengths = 0, codings = 0, hosts = 0, lines = 0;
    must(head->bytes <= n && head->bytes <= MAXIMUM_HEAD && head->bytes >= 18);
    must(memcmp(text + head->bytes - 4, "\r\n\r\n", 4) == 0);
    /* the empty line is the first one: nothing before it could end the head for another reader */
    for (size_t i = 0; i + 4 < head->bytes; i++)
        must(memcmp(text + i, "\r\n\r\n", 4) != 0);
    for (size_t i = 0; i < head->bytes; i++) {
        lines += text[i] == '\n';
        must(text[i] != '\n' || text[i - 1] == '\r');
        must(text[i] != '\r' || text[i + 1] == '\n');
    }
    must(lines == head->field_count + 2);
    check_span(text, head, head->method);
    check_span(text, head, head->path);
    check_span(text, head, head->query);
    must(head->path.length == 0 || text[head->path.at] == '/');
    for (size_t i = 0; i < head->field_count; i++) {
        const char *name = text + head->fields[i].name.at;
        size_t length = head->fields[i].name.length;
        check_span(text, head, head->fields[i].name);
        check_span(text, head, head->fields[i].value);
        must(emb_http_is_token(name, length) && name[length] == ':');
        lengths += emb_http_same(name, length, "content-length");
        codings += emb_http_same(name, length, "transfer-encoding");
        hosts += emb_http_same(name, length, "host");
    }
    must(lengths + codings <= 1 && hosts <= 1 && hosts + (head->minor == 0) >= 1);
    must(head->has_length == (lengths == 1) && head->chunked == (codings == 1));
}

static void check_decoding(const char *text, emb_http_span span)
{
    char *out = malloc(span.length + 1);
    size_t n;
    if (!out)
        return;
    for (int query = 0; query <= 1; query++)
        if (emb_http_percent_decode(text + span.at, span.length, query, out, &n))
            must(n <= span.length && strlen(out) == n);
    free(out);
}

typedef struct body {
    char *data;
    size_t length, used;
    emb_http_progress progress;
} body;

static void dechunk(const char *text, size_t n, size_t step, body *out)
{
    emb_http_chunks chunks;
    emb_http_chunks_init(&chunks, MAXIMUM_BODY, MAXIMUM_TRAILER);
    out->length = out->used = 0;
    out->progress = EMB_HTTP_MORE;
    for (size_t at = 0; at < n && out->progress == EMB_HTTP_MORE;) {
        size_t end = at + step < n ? at + step : n, taken, length;
        const char *piece;
        out->progress = emb_http_chunks_read(&chunks, text + at, end - at, &taken, &piece, &length);
        must(taken <= end - at && (taken || out->progress != EMB_HTTP_MORE));
        if (length) {
            must(piece >= text + at && piece + length <= text + at + taken);
            memcpy(out->data + out->length, piece, length);
        }
        out->length += length;
        must(out->length <= MAXIMUM_BODY);
        at += taken;
        out->used = at;
    }
}

static void check_chunks(const char *text, size_t n, size_t step)
{
    body whole = {.data = malloc(n + 1)}, cut = {.data = malloc(n + 1)};
    if (whole.data && cut.data) {
        dechunk(text, n, n, &whole);
        dechunk(text, n, step, &cut);
        must(whole.progress == cut.progress && whole.length == cut.length && whole.used == cut.used);
        must(memcmp(whole.data, cut.data, cut.length) == 0);
    }
    free(whole.data);
    free(cut.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    emb_http_head head, early;
    size_t cut = size ? data[size - 1] * size / 256 : 0, step = size ? data[size / 2] % 9 + 1 : 1;
    emb_http_progress progress = emb_http_head_read(&head, text, size, MAXIMUM_HEAD);
    emb_http_progress before = emb_http_head_read(&early, text, cut, MAXIMUM_HEAD);
    must(before == EMB_HTTP_MORE || before == progress);
    must((progress <= EMB_HTTP_MORE) == (emb_http_fault_of(progress) == NULL));
    if (progress == EMB_HTTP_DONE) {
        check_head(text, size, &head);
        check_decoding(text, head.path);
        check_decoding(text, head.query);
        check_chunks(text + head.bytes, size - head.bytes, step);
    } else {
        check_chunks(text, size, step);
    }
    return 0;
}
