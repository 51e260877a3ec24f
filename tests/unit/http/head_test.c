/* Heads and chunked bodies, good and bad: every trick by which two servers could disagree on where a request
 * ends. */
#include "http/head.h"
#include "http/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define H "Host: a\r\n"
#define GET11 "GET / HTTP/1.1\r\n" H
#define POST11 "POST /v1/embeddings HTTP/1.1\r\n" H

typedef struct head_case {
    const char *text;
    size_t length; /* 0: strlen */
    emb_http_progress want;
} head_case;

/* From a copy of the exact size, so that a sanitizer sees a read beyond it. */
static emb_http_progress read_exact(emb_http_head *head, const char *text, size_t n, size_t maximum)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    emb_http_progress progress = emb_http_head_read(head, copy, n, maximum);
    free(copy);
    return progress;
}

static void check_all(const head_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        emb_http_head head;
        size_t n = cases[i].length ? cases[i].length : strlen(cases[i].text);
        emb_http_progress progress = read_exact(&head, cases[i].text, n, 16384);
        if (progress != cases[i].want)
            fail_msg("case %zu: %d instead of %d for\n%s", i, (int)progress, (int)cases[i].want,
                     cases[i].text);
        /* A prefix is never judged otherwise than the whole: it waits, or has the same fault already. */
        for (size_t k = 0; k < n; k++) {
            emb_http_progress early = read_exact(&head, cases[i].text, k, 16384);
            if (early != EMB_HTTP_MORE && early != progress)
                fail_msg("case %zu: %d after %zu bytes, %d after all of\n%s", i, (int)early, k, (int)progress,
                         cases[i].text);
        }
    }
}

#define CHECK(cases) check_all(cases, sizeof(cases) / sizeof *(cases))

static void test_good(void **state)
{
    (void)state;
    static const head_case cases[] = {
        {GET11 "\r\n", 0, EMB_HTTP_DONE},
        {"GET / HTTP/1.0\r\n\r\n", 0, EMB_HTTP_DONE},
        {"GET http://a.example:80/x?y=1 HTTP/1.1\r\n" H "\r\n", 0, EMB_HTTP_DONE},
        {"GET http://a.example HTTP/1.1\r\n" H "\r\n", 0, EMB_HTTP_DONE},
        {"OPTIONS * HTTP/1.1\r\n" H "\r\n", 0, EMB_HTTP_DONE},
        {"PATCH /a%20b HTTP/1.1\r\nhOsT:a\r\n\r\n", 0, EMB_HTTP_DONE},
        {"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", 0, EMB_HTTP_DONE},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 0, EMB_HTTP_DONE},
        {POST11 "Content-Length: 37\r\n\r\n", 0, EMB_HTTP_DONE},
        {POST11 "content-LENGTH:\t37 \t\r\n\r\n", 0, EMB_HTTP_DONE},
        {POST11 "Transfer-Encoding: Chunked\r\n\r\n", 0, EMB_HTTP_DONE},
        {POST11 "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n", 0, EMB_HTTP_DONE},
        {GET11 "X: caf\xc3\xa9 \xff\r\n\r\n", 0, EMB_HTTP_DONE},
        {GET11 "X:\r\nY:   \r\n\r\n", 0, EMB_HTTP_DONE},
        {POST11 "X-Content-Length: 5\r\nContent-Length2: 6\r\n\r\n", 0, EMB_HTTP_DONE},
        {GET11 "X: a", 0, EMB_HTTP_MORE},
        {GET11, 0, EMB_HTTP_MORE},
        {GET11 "\r", 0, EMB_HTTP_MORE},
        {"G", 0, EMB_HTTP_MORE},
    };
    CHECK(cases);
}

static void test_length_and_coding(void **state)
{
    (void)state;
    static const head_case cases[] = {
        {POST11 "Content-Length: +37\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: -37\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: 37,37\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: 37, 37\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: 3 7\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: 0x25\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: 37;\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: 37.0\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: 1e2\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length:\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: \xd9\xa3\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH}, /* a digit, but not ours */
        {POST11 "Content-Length: 37\r\nContent-Length: 37\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: 37\r\ncontent-length: 38\r\n\r\n", 0, EMB_HTTP_BAD_LENGTH},
        {POST11 "Content-Length: 37\r\nTransfer-Encoding: chunked\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: chunked\r\nContent-Length: 37\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: identity\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: chunked, identity\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: chunked, chunked\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: xchunked\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: \"chunked\"\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: chunked;q=1\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: ,chunked\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: chunked,\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding:\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Transfer-Encoding: \x0b"
                "chunked\r\n\r\n",
         0, EMB_HTTP_BAD_FIELD_VALUE},
        {POST11 "Transfer-Encoding : chunked\r\n\r\n", 0, EMB_HTTP_BAD_FIELD_NAME},
        {POST11 "Transfer-Encoding\t: chunked\r\n\r\n", 0, EMB_HTTP_BAD_FIELD_NAME},
        {POST11 "Transfer-Encoding: gzip, chunked\r\n\r\n", 0, EMB_HTTP_OTHER_CODING},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 0, EMB_HTTP_BAD_CODING},
        {POST11 "Expect: 200-ok\r\n\r\n", 0, EMB_HTTP_BAD_EXPECT},
    };
    CHECK(cases);
}

static void test_lines(void **state)
{
    (void)state;
    static const head_case cases[] = {
        {"GET / HTTP/1.1\n" H "\r\n", 0, EMB_HTTP_BAD_LINE_END},
        {GET11 "X: a\nY: b\r\n\r\n", 0, EMB_HTTP_BAD_LINE_END},
        {GET11 "X: a\r\n\n", 0, EMB_HTTP_BAD_LINE_END},
        {GET11 "\n", 0, EMB_HTTP_BAD_LINE_END},
        {GET11 "X: a\rY: b\r\n\r\n", 0, EMB_HTTP_BAD_LINE_END},
        {GET11 "X: a\r\r\n\r\n", 0, EMB_HTTP_BAD_LINE_END},
        {GET11 "\rX: a\r\n\r\n", 0, EMB_HTTP_BAD_LINE_END},
        {"GET / HTTP/1.1\r" H "\r\n", 0, EMB_HTTP_BAD_LINE_END},
        {GET11 "X: a\r\n b\r\n\r\n", 0, EMB_HTTP_FOLDED},
        {GET11 "X: a\r\n\tb\r\n\r\n", 0, EMB_HTTP_FOLDED},
        {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 0, EMB_HTTP_FOLDED},
        {GET11 "X: a\0b\r\n\r\n", sizeof(GET11 "X: a\0b\r\n\r\n") - 1, EMB_HTTP_BAD_FIELD_VALUE},
        {GET11 "X\0: a\r\n\r\n", sizeof(GET11 "X\0: a\r\n\r\n") - 1, EMB_HTTP_BAD_FIELD_NAME},
        {GET11 "X: \x7f\r\n\r\n", 0, EMB_HTTP_BAD_FIELD_VALUE},
        {GET11 "X: \x1b[31m\r\n\r\n", 0, EMB_HTTP_BAD_FIELD_VALUE},
        {GET11 ": a\r\n\r\n", 0, EMB_HTTP_BAD_FIELD_NAME},
        {GET11 "X\r\n\r\n", 0, EMB_HTTP_BAD_FIELD_NAME},
        {GET11 "X Y: a\r\n\r\n", 0, EMB_HTTP_BAD_FIELD_NAME},
        {GET11 "X(: a\r\n\r\n", 0, EMB_HTTP_BAD_FIELD_NAME},
        {GET11 "\xc3\xa9: a\r\n\r\n", 0, EMB_HTTP_BAD_FIELD_NAME},
    };
    CHECK(cases);
}

static void test_request_lines(void **state)
{
    (void)state;
    static const head_case cases[] = {
        {"GET /\r\n\r\n", 0, EMB_HTTP_BAD_LINE},
        {"GET  / HTTP/1.1\r\n", 0, EMB_HTTP_BAD_TARGET},
        {"GET / HTTP/1.1 \r\n", 0, EMB_HTTP_BAD_LINE_END},
        {"GET / HTTP/1.1x\r\n", 0, EMB_HTTP_BAD_LINE_END},
        {" GET / HTTP/1.1\r\n", 0, EMB_HTTP_BAD_LINE},
        {"GET\t/ HTTP/1.1\r\n", 0, EMB_HTTP_BAD_LINE},
        {"GET /a b HTTP/1.1\r\n", 0, EMB_HTTP_BAD_LINE},
        {"GET / http/1.1\r\n", 0, EMB_HTTP_BAD_LINE},
        {"GET / HTTP/11\r\n", 0, EMB_HTTP_BAD_LINE},
        {"GET / HTTP/1.10\r\n", 0, EMB_HTTP_BAD_LINE_END},
        {"GET / HTTP/1.2\r\n", 0, EMB_HTTP_BAD_VERSION},
        {"GET / HTTP/2.0\r\n", 0, EMB_HTTP_BAD_VERSION},
        {"GET / HTTP/0.9\r\n", 0, EMB_HTTP_BAD_VERSION},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, EMB_HTTP_BAD_METHOD},
        {"CONNECT a:80 HTTP/1.1\r\n", 0, EMB_HTTP_BAD_METHOD},
        {"TRACE / HTTP/1.1\r\n", 0, EMB_HTTP_BAD_METHOD},
        {"get / HTTP/1.1\r\n", 0, EMB_HTTP_BAD_METHOD},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOP", 0, EMB_HTTP_BAD_METHOD},
        {"\x16\x03\x01\x02", 0, EMB_HTTP_BAD_LINE},
        {"GET x HTTP/1.1\r\n", 0, EMB_HTTP_BAD_TARGET},
        {"GET * HTTP/1.1\r\n", 0, EMB_HTTP_BAD_TARGET},
        {"GET /#a HTTP/1.1\r\n", 0, EMB_HTTP_BAD_TARGET},
        {"GET /\xc3\xa9 HTTP/1.1\r\n", 0, EMB_HTTP_BAD_TARGET},
        {"GET /\x7f HTTP/1.1\r\n", 0, EMB_HTTP_BAD_TARGET},
        {"GET http:///x HTTP/1.1\r\n", 0, EMB_HTTP_BAD_TARGET},
        {"GET http://u@a/ HTTP/1.1\r\n", 0, EMB_HTTP_BAD_TARGET},
        {"GET ftp://a/ HTTP/1.1\r\n", 0, EMB_HTTP_BAD_TARGET},
        {"GET /\0 HTTP/1.1\r\n", sizeof "GET /\0 HTTP/1.1\r\n" - 1, EMB_HTTP_BAD_TARGET},
    };
    CHECK(cases);
}

static void test_hosts(void **state)
{
    (void)state;
    static const head_case cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
        {"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", 0, EMB_HTTP_BAD_HOST},
    };
    CHECK(cases);
}

static emb_http_head head_of(const char *text)
{
    emb_http_head head;
    assert_int_equal(emb_http_head_read(&head, text, strlen(text), 16384), EMB_HTTP_DONE);
    assert_int_equal(head.bytes, strlen(text));
    return head;
}

static void assert_span(const char *text, emb_http_span span, const char *want)
{
    assert_int_equal(span.length, strlen(want));
    assert_memory_equal(text + span.at, want, span.length);
}

static void test_what_is_read(void **state)
{
    (void)state;
    const char *text =
        "POST /a/b?c=d&e HTTP/1.1\r\nHost: x\r\nX-One:  two words \t\r\nContent-Length: 0042\r\n\r\n";
    emb_http_head head = head_of(text);
    assert_span(text, head.method, "POST");
    assert_int_equal(head.method_bit, EMB_HTTP_POST);
    assert_span(text, head.path, "/a/b");
    assert_span(text, head.query, "c=d&e");
    assert_int_equal(head.field_count, 3);
    assert_span(text, head.fields[1].name, "X-One");
    assert_span(text, head.fields[1].value, "two words");
    assert_true(head.has_length && !head.chunked && head.keep_alive);
    assert_int_equal(head.content_length, 42);
    text = "GET http://b:1?q HTTP/1.1\r\nHost: x\r\n\r\n";
    head = head_of(text);
    assert_span(text, head.path, "");
    assert_span(text, head.query, "q");
    head = head_of(POST11 "Content-Length: 9999999999999999999\r\n\r\n");
    assert_true(head.content_length == UINT64_C(9999999999999999999));
    head = head_of(POST11 "Content-Length: 18446744073709551621\r\n\r\n"); /* 2^64 + 5 */
    assert_true(head.content_length == UINT64_MAX);
}

static void test_keep_alive(void **state)
{
    (void)state;
    assert_true(head_of(GET11 "\r\n").keep_alive);
    assert_false(head_of(GET11 "Connection: close\r\n\r\n").keep_alive);
    assert_false(head_of(GET11 "Connection: x, CLOSE\r\n\r\n").keep_alive);
    assert_false(head_of(GET11 "Connection: close\r\nConnection: keep-alive\r\n\r\n").keep_alive);
    assert_true(head_of(GET11 "Connection: closed\r\n\r\n").keep_alive);
    assert_false(head_of("GET / HTTP/1.0\r\n\r\n").keep_alive);
    assert_true(head_of("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
    assert_false(head_of("GET / HTTP/1.0\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n").keep_alive);
}

static void test_limits(void **state)
{
    (void)state;
    emb_http_head head;
    char text[8192];
    /* Exactly the limit, one over, and far over without an end. */
    size_t n = (size_t)snprintf(text, sizeof text, GET11 "X: %0200d\r\n\r\n", 1);
    assert_int_equal(read_exact(&head, text, n, n), EMB_HTTP_DONE);
    assert_int_equal(read_exact(&head, text, n, n - 1), EMB_HTTP_HEAD_TOO_LARGE);
    assert_int_equal(read_exact(&head, text, n - 1, n), EMB_HTTP_MORE);
    assert_int_equal(read_exact(&head, text, n - 1, n - 1), EMB_HTTP_HEAD_TOO_LARGE);
    for (int fields = EMB_HTTP_MAX_FIELDS; fields <= EMB_HTTP_MAX_FIELDS + 1; fields++) {
        n = (size_t)snprintf(text, sizeof text, GET11);
        for (int i = 1; i < fields; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "a: b\r\n");
        n += (size_t)snprintf(text + n, sizeof text - n, "\r\n");
        assert_int_equal(read_exact(&head, text, n, sizeof text),
                         fields > EMB_HTTP_MAX_FIELDS ? EMB_HTTP_HEAD_TOO_LARGE : EMB_HTTP_DONE);
    }
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* The payload of `text` cut into pieces of `step` bytes; *used counts what was taken in all. */
static emb_http_progress dechunk(const char *text, size_t n, size_t step, uint64_t maximum, char *out,
                                 size_t *out_n, size_t *used)
{
    emb_http_chunks chunks;
    emb_http_progress progress = EMB_HTTP_MORE;
    emb_http_chunks_init(&chunks, maximum, 100);
    *out_n = *used = 0;
    for (size_t at = 0; at < n && progress == EMB_HTTP_MORE; at += step) {
        size_t end = at + step < n ? at + step : n;
        for (size_t from = at; from < end && progress == EMB_HTTP_MORE;) {
            const char *piece;
            size_t taken, length;
            progress = emb_http_chunks_read(&chunks, text + from, end - from, &taken, &piece, &length);
            if (length)
                memcpy(out + *out_n, piece, length);
            *out_n += length;
            from += taken;
            *used += taken;
        }
    }
    return progress;
}

static void test_chunks(void **state)
{
    (void)state;
    static const struct {
        const char *text, *payload;
        emb_http_progress want;
    } cases[] = {
        {"5\r\nhello\r\n0\r\n\r\n", "hello", EMB_HTTP_DONE},
        {"5\r\nhello\r\n1;a=b\r\n!\r\n000\r\n\r\n", "hello!", EMB_HTTP_DONE},
        {"A;x=\"y z\"\r\n0123456789\r\n0\r\nTrailer: x\r\nB: y\r\n\r\n", "0123456789", EMB_HTTP_DONE},
        {"0\r\n\r\nGET / HTTP/1.1", "", EMB_HTTP_DONE},
        {"5\r\nhel", "hel", EMB_HTTP_MORE},
        {"0000000000000001\r\nx\r\n0\r\n\r\n", "x", EMB_HTTP_DONE},
        {"00000000000000001\r\nx\r\n0\r\n\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"ffffffffffffffff\r\n", NULL, EMB_HTTP_BODY_TOO_LARGE},
        {"10000000000000000\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"7fffffff\r\n", NULL, EMB_HTTP_BODY_TOO_LARGE},
        {"-1\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"+5\r\nhello\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {" 5\r\nhello\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"5 \r\nhello\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"0x5\r\nhello\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"5\nhello\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"5\rhello\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"5;\nhello\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"5;a\x01\r\nhello\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"5\r\nhello0\r\n\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"5\r\nhello\n0\r\n\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"5\r\nhello\r\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"\r\n0\r\n\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {";a\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"g\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"0\r\n\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"0\r\n Folded: x\r\n\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"0\r\nName : x\r\n\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"0\r\nName: \x01\r\n\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"0\r\nName\r\n\r\n", NULL, EMB_HTTP_BAD_CHUNK},
        {"0\r\n: x\r\n\r\n", NULL, EMB_HTTP_BAD_CHUNK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t step = 1; step < 40; step += 4) {
            char out[256];
            size_t n, used;
            emb_http_progress got = dechunk(cases[i].text, strlen(cases[i].text), step, 1000, out, &n, &used);
            if (got != cases[i].want)
                fail_msg("chunks %zu by %zu: %d instead of %d", i, step, (int)got, (int)cases[i].want);
            if (cases[i].payload) {
                assert_int_equal(n, strlen(cases[i].payload));
                assert_memory_equal(out, cases[i].payload, n);
            }
            if (got == EMB_HTTP_DONE && i == 3)
                assert_int_equal(used, 5); /* what follows is the next request's */
        }
}

static void test_chunk_limits(void **state)
{
    (void)state;
    char out[64], text[40000];
    size_t n, used;
    static const char two[] = "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n";
    assert_int_equal(dechunk(two, sizeof two - 1, 3, 10, out, &n, &used), EMB_HTTP_DONE);
    assert_int_equal(dechunk(two, sizeof two - 1, 3, 9, out, &n, &used), EMB_HTTP_BODY_TOO_LARGE);
    assert_int_equal(n, 5); /* refused at the size, not after the payload */
    snprintf(text, sizeof text, "0\r\nA: %0200d\r\n\r\n", 1);
    assert_int_equal(dechunk(text, strlen(text), 7, 10, out, &n, &used), EMB_HTTP_HEAD_TOO_LARGE);
    snprintf(text, sizeof text, "1;%030000d\r\n", 1);
    assert_int_equal(dechunk(text, strlen(text), 7, 10, out, &n, &used), EMB_HTTP_BAD_CHUNK);
}

/* ---- percent-encoding and lists -------------------------------------------------------------- */

static void test_percent(void **state)
{
    (void)state;
    char out[64];
    size_t n;
    assert_true(emb_http_percent_decode("/a%2Fb%20%c3%A9+", 16, false, out, &n));
    assert_string_equal(out, "/a/b \xc3\xa9+");
    assert_true(emb_http_percent_decode("a+b%2B", 6, true, out, &n));
    assert_string_equal(out, "a b+");
    static const char *const bad[] = {"%",   "%2",  "%zz",       "%+1",    "%00",
                                      "%c3", "%ff", "%ed%a0%80", "%c0%af", "a%2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (emb_http_percent_decode(bad[i], strlen(bad[i]), false, out, &n))
            fail_msg("%s was decoded", bad[i]);
}

static void test_lists(void **state)
{
    (void)state;
    assert_true(emb_http_list_has("a, Close ,b", 11, "close"));
    assert_false(emb_http_list_has("aclose", 6, "close"));
    assert_false(emb_http_list_has("", 0, "close"));
    assert_true(emb_http_same("ABC", 3, "abc"));
    assert_false(emb_http_same("ABC", 3, "abcd"));
    assert_false(emb_http_same("ABCD", 4, "abc"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),       cmocka_unit_test(test_length_and_coding),
        cmocka_unit_test(test_lines),      cmocka_unit_test(test_request_lines),
        cmocka_unit_test(test_hosts),      cmocka_unit_test(test_what_is_read),
        cmocka_unit_test(test_keep_alive), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_chunks),     cmocka_unit_test(test_chunk_limits),
        cmocka_unit_test(test_percent),    cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
