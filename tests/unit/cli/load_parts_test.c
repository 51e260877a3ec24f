/* The parts of `embedd loadtest` that can be wrong unseen: percentiles, and responses cut at any byte. */
#include "cli/load_histogram.h"
#include "cli/load_response.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Against sorted values, over 30 powers of two. */
static void percentiles(void **state)
{
    (void)state;
    enum { N = 20000 };
    static uint64_t values[N];
    static emb_load_histogram h, half;
    memset(&h, 0, sizeof h);
    memset(&half, 0, sizeof half);
    for (size_t i = 0; i < N; i++) {
        values[i] = (next_random() >> 24) >> (next_random() % 40);
        emb_load_histogram_add(i % 2 ? &h : &half, values[i]);
    }
    emb_load_histogram_merge(&h, &half);
    qsort(values, N, sizeof *values, ascending);
    static const double qs[] = {0, 0.001, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1};
    for (size_t i = 0; i < sizeof qs / sizeof *qs; i++) {
        size_t rank = (size_t)ceil(qs[i] * N);
        double exact = (double)values[rank ? rank - 1 : 0], got = emb_load_histogram_rank(&h, qs[i]);
        assert_true(fabs(got - exact) <= exact / 64);
    }
    assert_true(h.count == N && h.least == values[0] && h.most == values[N - 1]);
    double sum = 0;
    for (size_t i = 0; i < N; i++)
        sum += (double)values[i];
    assert_true(fabs(emb_load_histogram_mean(&h) - sum / N) < 1e-9 * sum);
}

static void few_values(void **state)
{
    (void)state;
    static emb_load_histogram h;
    memset(&h, 0, sizeof h);
    assert_true(emb_load_histogram_rank(&h, 0.99) == 0 && emb_load_histogram_mean(&h) == 0);
    emb_load_histogram_add(&h, 1000003);
    assert_true(emb_load_histogram_rank(&h, 0.5) == 1000003 && emb_load_histogram_rank(&h, 0.99) == 1000003);
    emb_load_histogram_add(&h, UINT64_MAX);
    assert_true(emb_load_histogram_rank(&h, 1) == (double)UINT64_MAX);
    assert_true(emb_load_histogram_rank(&h, 0.5) >= 1000003 && emb_load_histogram_rank(&h, 0.5) < 1020000);
}

typedef struct sample {
    const char *text;
    emb_load_state state;
    int status;
    uint64_t body, tokens;
    bool keep_alive;
    size_t rest; /* bytes that belong to what follows */
} sample;

static const sample samples[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Embedd-Tokens: 9\r\n\r\nhello", EMB_LOAD_DONE, 200, 5, 9,
     true, 0},
    {"HTTP/1.1 200 OK\nContent-Length: 0\n\nHTTP/1.1 500", EMB_LOAD_DONE, 200, 0, 0, true, 12},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\nA;q\r\n0123456789\r\n0\r\nA: "
     "b\r\n\r\nx",
     EMB_LOAD_DONE, 200, 15, 0, true, 1},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 No\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx",
     EMB_LOAD_DONE, 429, 1, 0, false, 0},
    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", EMB_LOAD_DONE, 200, 2, 0,
     true, 0},
    {"HTTP/1.0 200 OK\r\n\r\nto the end", EMB_LOAD_MORE, 200, 10, 0, false, 0},
    {"HTTP/1.1 204 No\r\n\r\n", EMB_LOAD_DONE, 204, 0, 0, true, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 62\r\n\r\n{\"data\":[],\"usage\":{\"prompt_tokens\":7,  "
     "\"total_tokens\":  70007}}",
     EMB_LOAD_DONE, 200, 62, 70007, true, 2},
    {"HTTP/2 200\r\n\r\n", EMB_LOAD_BAD, 0, 0, 0, false, 0},
    {"HTTP/1.1 20\r\n\r\n", EMB_LOAD_BAD, 0, 0, 0, false, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", EMB_LOAD_BAD, 200, 0, 0, true, 0},
    {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", EMB_LOAD_BAD, 200, 0, 0, true, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ng\r\n", EMB_LOAD_BAD, 200, 0, 0, true, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", EMB_LOAD_BAD, 200, 0, 0,
     true, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", EMB_LOAD_BAD, 200, 1, 0, true, 0},
    {"SSH-2.0\r\n", EMB_LOAD_BAD, 0, 0, 0, false, 0},
};

static void check(const sample *s, size_t first)
{
    static emb_load_response r;
    size_t length = strlen(s->text), used;
    memset(&r, 0xA5, sizeof r); /* whatever was there before */
    emb_load_response_start(&r);
    used = emb_load_response_feed(&r, s->text, first);
    if (used == first)
        used += emb_load_response_feed(&r, s->text + first, length - first);
    assert_int_equal(r.state, s->state);
    if (s->state != EMB_LOAD_BAD)
        assert_int_equal(length - used, s->rest);
    assert_int_equal(r.status, s->status);
    assert_true(r.body_bytes == s->body && r.tokens == s->tokens);
    if (s->state != EMB_LOAD_BAD)
        assert_int_equal(r.keep_alive, s->keep_alive);
    emb_load_response_end(&r);
    assert_int_equal(r.state, s->state == EMB_LOAD_MORE ? EMB_LOAD_DONE : s->state);
}

static void responses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        for (size_t first = 0; first <= strlen(samples[i].text); first++)
            check(&samples[i], first);
}

static void cut_off(void **state)
{
    (void)state;
    static emb_load_response r;
    const char *text = samples[0].text;
    for (size_t n = 0; n < strlen(text); n++) {
        emb_load_response_start(&r);
        assert_int_equal(emb_load_response_feed(&r, text, n), n);
        assert_int_equal(r.state, EMB_LOAD_MORE);
        assert_int_equal(emb_load_response_begun(&r), n > 0);
        emb_load_response_end(&r);
        assert_int_equal(r.state, EMB_LOAD_BAD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(percentiles), cmocka_unit_test(few_values),
                                       cmocka_unit_test(responses), cmocka_unit_test(cut_off)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
