/* cl100k_base: ids as tiktoken's, texts cut where it cuts them, long runs, small and broken files of
 * ranks. */
#include "base/clock.h"
#include "support/fail_alloc.h"
#include "tokenizer/tiktoken.h"
#include "tokenizer/tiktoken_pieces.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct fixture {
    emb_tiktoken *t;
    emb_tiktoken_scratch *s;
    emb_tiktoken_ids ids;
} fixture;

static fixture f;

static int open_all(void **state)
{
    (void)state;
    emb_error err;
    if (emb_tiktoken_open(EMB_SOURCE_DIR "/models/cl100k_base", &f.t, &err)) {
        fprintf(stderr, "%s: %s\n", err.where, err.message);
        return -1;
    }
    return emb_tiktoken_scratch_new(&f.s, &err) ? -1 : 0;
}

static int close_all(void **state)
{
    (void)state;
    emb_tiktoken_ids_fini(&f.ids);
    emb_tiktoken_scratch_free(f.s);
    emb_tiktoken_close(f.t);
    return 0;
}

/* Fills f.ids and checks that counting agrees. */
static void encode(const char *text, size_t length)
{
    emb_error err;
    size_t count;
    assert_int_equal(emb_tiktoken_encode(f.t, f.s, text, length, &f.ids, &err), EMB_OK);
    assert_int_equal(emb_tiktoken_count(f.t, f.s, text, length, &count, &err), EMB_OK);
    assert_int_equal(count, f.ids.count);
}

static size_t unhex(const char *hex, char *out)
{
    size_t n = 0;
    unsigned byte;
    for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        out[n++] = (char)byte;
    return n;
}

static void as_the_reference(void **state)
{
    (void)state;
    FILE *file = fopen(EMB_SOURCE_DIR "/tests/data/tiktoken/cl100k_base.txt", "r");
    static char line[1 << 16], text[1 << 14];
    size_t texts = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        char *rest, *hex = strtok_r(line, " \n", &rest), *id;
        size_t length = *hex == '-' ? 0 : unhex(hex, text), i = 0;
        encode(text, length);
        for (; (id = strtok_r(NULL, " \n", &rest)) != NULL; i++) {
            assert_true(i < f.ids.count);
            assert_int_equal(f.ids.data[i], strtol(id, NULL, 10));
        }
        assert_int_equal(i, f.ids.count);
        texts++;
    }
    fclose(file);
    assert_true(texts > 400);
}

/* The pieces of a text with '|' between. */
static const char *pieces(const char *text)
{
    static char out[256];
    size_t n = strlen(text), length = 0;
    for (size_t at = 0, end; at < n; at = end) {
        end = emb_cl100k_piece_end(text, n, at);
        assert_true(end > at && end <= n);
        if (at > 0)
            out[length++] = '|';
        memcpy(out + length, text + at, end - at);
        length += end - at;
    }
    out[length] = 0;
    return out;
}

static void cuts(void **state)
{
    (void)state;
    assert_string_equal(pieces("Hello world, it's me"), "Hello| world|,| it|'s| me");
    assert_string_equal(pieces("I'LL DON'T we'Ve'x"), "I|'LL| DON|'T| we|'Ve|'x");
    assert_string_equal(pieces("1234567 12a"), "123|456|7| |12|a");
    assert_string_equal(pieces("a   b"), "a|  | b");
    assert_string_equal(pieces("a \n\n  b"), "a| \n\n| | b");
    assert_string_equal(pieces("a;\r\n b"), "a|;\r\n| b");
    assert_string_equal(pieces("\n(x)  "), "\n|(x|)|  ");
    assert_string_equal(pieces("\tx\r\ny \t1"), "\tx|\r\n|y| |\t|1");
    assert_string_equal(pieces(" !? \xE2\x80\x94x"), " !?| \xE2\x80\x94|x");
    assert_string_equal(pieces("'\xC5\xBF's'r"), "'\xC5\xBF|'s|'r");
}

static void nothing_and_broken(void **state)
{
    (void)state;
    encode("", 0);
    assert_int_equal(f.ids.count, 0);
    encode(NULL, 0);
    encode("a\xFF"
           "b",
           3);
    int32_t broken[16];
    size_t count = f.ids.count;
    assert_true(count <= 16);
    memcpy(broken, f.ids.data, count * sizeof *broken);
    encode("a\xEF\xBF\xBD"
           "b",
           5);
    assert_int_equal(f.ids.count, count);
    assert_memory_equal(broken, f.ids.data, count * sizeof *broken);
}

/* Quadratic work on these would take minutes. */
static void long_runs(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    char *text = malloc(N);
    static const char *const kinds[] = {"a", "\xE8\xAA\x9E", "=-+*", " ", "\n", "qzjx", "ab"};
    assert_non_null(text);
    uint64_t start = emb_now_ns();
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t period = strlen(kinds[k]), n = N / period * period, at = 0;
        for (size_t i = 0; i < n; i++)
            text[i] = kinds[k][i % period];
        encode(text, n);
        for (size_t i = 0, size; i < f.ids.count; i++, at += size) {
            const char *token = emb_tiktoken_token(f.t, f.ids.data[i], &size);
            assert_memory_equal(token, text + at, size);
        }
        assert_int_equal(at, n);
    }
    assert_true(emb_now_ns() - start < UINT64_C(60000000000));
    free(text);
}

static void tokens(void **state)
{
    (void)state;
    size_t length;
    assert_int_equal(emb_tiktoken_size(f.t), 100256);
    assert_memory_equal(emb_tiktoken_token(f.t, 15339, &length), "hello", 5);
    assert_int_equal(length, 5);
    assert_null(emb_tiktoken_token(f.t, -1, &length));
    assert_null(emb_tiktoken_token(f.t, 100256, &length));
    assert_int_equal(length, 0);
}

/* ---- files ---- */

/* All bytes, then `extra` tokens, as a file; returns its length. */
static size_t ranks(unsigned char *out, const char *const *extra, size_t count)
{
    size_t total = 256 + count, at = 12 + total;
    memcpy(out, "EMBRANKS", 8);
    for (int i = 0; i < 4; i++)
        out[8 + i] = (unsigned char)(total >> 8 * i);
    memset(out + 12, 1, 256);
    for (size_t i = 0; i < 256; i++)
        out[at++] = (unsigned char)i;
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(extra[i]);
        out[12 + 256 + i] = (unsigned char)n;
        memcpy(out + at, extra[i], n);
        at += n;
    }
    return at;
}

static void lowest_rank_and_leftmost_first(void **state)
{
    (void)state;
    static const char *const extra[] = {"bc", "ab", "aa", "abc", "cd"};
    unsigned char file[1024];
    emb_tiktoken *t;
    emb_error err;
    size_t n = ranks(file, extra, 5);
    assert_int_equal(emb_tiktoken_open_ranks(file, n, "small", &t, &err), EMB_OK);
    emb_tiktoken_scratch *s;
    assert_int_equal(emb_tiktoken_scratch_new(&s, &err), EMB_OK);
    static const struct {
        const char *text;
        int32_t ids[4];
        size_t count;
    } cases[] = {
        {"abcd", {259, 'd'}, 2}, /* b c before a b and c d; then a bc */
        {"abd", {257, 'd'}, 2},  {"aaa", {258, 'a'}, 2}, {"aaaa", {258, 258}, 2},
        {"bcd", {256, 'd'}, 2},  {"acd", {'a', 260}, 2}, {"aab", {'a', 257}, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_tiktoken_ids ids = {0};
        assert_int_equal(emb_tiktoken_encode(t, s, cases[i].text, strlen(cases[i].text), &ids, &err), EMB_OK);
        assert_int_equal(ids.count, cases[i].count);
        assert_memory_equal(ids.data, cases[i].ids, ids.count * sizeof *ids.data);
        emb_tiktoken_ids_fini(&ids);
    }
    emb_tiktoken_scratch_free(s);
    emb_tiktoken_close(t);
}

static void refused(const unsigned char *file, size_t n, const char *says)
{
    emb_tiktoken *t;
    emb_error err;
    assert_int_equal(emb_tiktoken_open_ranks(file, n, "ranks", &t, &err), EMB_E_CORRUPT);
    assert_null(t);
    if (!strstr(err.message, says))
        fail_msg("\"%s\" does not say \"%s\"", err.message, says);
}

static void broken_files(void **state)
{
    (void)state;
    static const char *const extra[] = {"ab", "cd"}, *const twice[] = {"ab", "ab"};
    unsigned char file[1024];
    size_t n = ranks(file, extra, 2);
    refused(file, 0, "not a file of byte-pair ranks");
    refused(file, 11, "not a file of byte-pair ranks");
    refused(file, 100, "do not fit");
    refused(file, n - 1, "the tokens take");
    file[12 + 256] = 0;
    refused(file, n, "token 256 is empty");
    n = ranks(file, twice, 2);
    refused(file, n, "tokens 256 and 257 are the same");
    n = ranks(file, extra, 2);
    file[12 + 258 + 'x'] = 'z';
    refused(file, n, "the same");
    n = ranks(file, extra, 2);
    file[12 + 'x'] = 2; /* "xy" instead of x, y; one byte more is missing at the end */
    refused(file, n, "the tokens take");
    memset(file + 8, 0xFF, 4);
    refused(file, n, "do not fit");
    memset(file + 8, 0, 4);
    refused(file, 12, "no token for the byte 0x00");
    emb_tiktoken *t;
    emb_error err;
    assert_int_equal(emb_tiktoken_open("/nonexistent", &t, &err), EMB_E_NOT_FOUND);
    assert_null(t);
}

/* ---- memory ---- */

/* Everything from opening to closing, with ids, a broken text and a run that needs memory of its own. */
static emb_status all_of_it(const unsigned char *file, size_t n, const char *text, size_t length)
{
    emb_tiktoken *t;
    emb_tiktoken_scratch *s = NULL;
    emb_tiktoken_ids ids = {0};
    emb_error err;
    size_t count;
    emb_status status = emb_tiktoken_open_ranks(file, n, "ranks", &t, &err);
    if (!status)
        status = emb_tiktoken_scratch_new(&s, &err);
    if (!status)
        status = emb_tiktoken_encode(t, s, "a\xFF", 2, &ids, &err);
    if (!status)
        status = emb_tiktoken_count(t, s, text, length, &count, &err);
    emb_tiktoken_ids_fini(&ids);
    emb_tiktoken_scratch_free(s);
    emb_tiktoken_close(t);
    return status;
}

static void memory_runs_out(void **state)
{
    (void)state;
    static const char *const extra[] = {"bc", "ab", "abc"};
    enum { N = 400000 }; /* so much that it is given back afterwards */
    unsigned char file[1024];
    size_t length = ranks(file, extra, 3), n = 1;
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, 'a', N);
    for (; fail_alloc_available(); n++) {
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = all_of_it(file, length, text, N);
        bool failed = fail_alloc_stop();
        assert_int_equal(fail_alloc_live(), live);
        assert_true(status == EMB_E_NOMEM || status == EMB_OK);
        if (!failed)
            break;
    }
    assert_true(!fail_alloc_available() || n > 6);
    free(text);
}

static void counting_allocates_nothing(void **state)
{
    (void)state;
    char text[4096];
    static const char prose[] =
        "It's 1234 words, isn'T it?\r\n\r\n  \xE8\xAA\x9E\xE6\x96\x87 qzjxqzjxqzjxqzjxqzjxqzjxqzjxqz\n";
    size_t count;
    emb_error err;
    memset(text, 'q', sizeof text);
    if (!fail_alloc_available())
        skip();
    fail_alloc_from(1);
    emb_status status = emb_tiktoken_count(f.t, f.s, prose, sizeof prose - 1, &count, &err);
    emb_status run = emb_tiktoken_count(f.t, f.s, text, sizeof text, &count, &err);
    assert_false(fail_alloc_stop());
    assert_int_equal(status, EMB_OK);
    assert_int_equal(run, EMB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_reference),
        cmocka_unit_test(cuts),
        cmocka_unit_test(nothing_and_broken),
        cmocka_unit_test(long_runs),
        cmocka_unit_test(tokens),
        cmocka_unit_test(lowest_rank_and_leftmost_first),
        cmocka_unit_test(broken_files),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(counting_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
