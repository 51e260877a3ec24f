/* base64_test.c: RFC 4648's examples; every length and every character against one bit after the other. */
#include "base/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_base64(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[16], back[16];
        size_t n = strlen(cases[i][0]), length, want = strlen(cases[i][1]);
        out[want] = '~'; /* nothing may be written behind the text */
        assert_int_equal(emb_base64_encode(cases[i][0], n, out), want);
        assert_int_equal(emb_base64_size(n), want);
        assert_memory_equal(out, cases[i][1], want);
        assert_int_equal(out[want], '~');
        assert_true(emb_base64_decode(out, want, back, &length));
        assert_int_equal(length, n);
        assert_memory_equal(back, cases[i][0], n);
    }
    static const char *const bad[] = {
        "Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "Z===", "====", "Zm 9", "Zm9v\n", "Zm-_", "=Zm9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char back[16];
        size_t length;
        assert_false(emb_base64_decode(bad[i], strlen(bad[i]), back, &length));
    }
}

static void test_base64_large(void **state)
{
    (void)state;
    size_t n = (7u << 20) + 1, length;
    unsigned char *data = malloc(n), *back = malloc(n + 3);
    char *text = malloc(emb_base64_size(n));
    assert_true(data && back && text);
    for (size_t i = 0; i < n; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    assert_int_equal(emb_base64_encode(data, n, text), emb_base64_size(n));
    assert_true(emb_base64_decode(text, emb_base64_size(n), back, &length));
    assert_int_equal(length, n);
    assert_memory_equal(data, back, n);
    free(data);
    free(back);
    free(text);
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Bit by bit. */
static void encode_slowly(const unsigned char *data, size_t n, char *out)
{
    size_t bits = 8 * n, size = emb_base64_size(n);
    for (size_t i = 0; i < size; i++) {
        unsigned value = 0;
        for (size_t b = 6 * i; b < 6 * i + 6; b++)
            value = value << 1 | (b < bits ? data[b / 8] >> (7 - b % 8) & 1u : 0);
        out[i] = 6 * i < bits ? alphabet[value] : '=';
    }
}

static void decode_slowly(const char *text, size_t n, unsigned char *out)
{
    memset(out, 0, n / 4 * 3);
    for (size_t b = 0; b < 6 * n; b++) {
        unsigned value = (unsigned)(strchr(alphabet, text[b / 6]) - alphabet);
        out[b / 8] |= (unsigned char)((value >> (5 - b % 6) & 1u) << (7 - b % 8));
    }
}

static unsigned char byte_at(size_t i)
{
    return (unsigned char)((uint32_t)i * 2654435761u >> 13);
}

/* In memory of just the size, so that a byte too far is one too many for the sanitizer. */
static void test_every_length(void **state)
{
    (void)state;
    for (size_t n = 0; n < 500; n++) {
        size_t size = emb_base64_size(n), length;
        unsigned char *data = malloc(n + !n), *back = malloc(size / 4 * 3 + !n);
        char reference[700];
        char *text = malloc(size + !n);
        assert_true(data && back && text);
        for (size_t i = 0; i < n; i++)
            data[i] = byte_at(i + n * 1000);
        encode_slowly(data, n, reference);
        assert_int_equal(emb_base64_encode(data, n, text), size);
        assert_memory_equal(text, reference, size);
        assert_true(emb_base64_decode(text, size, back, &length));
        assert_int_equal(length, n);
        assert_memory_equal(back, data, n);
        free(data);
        free(back);
        free(text);
    }
}

/* Each of 256 bytes at each place of a text that is long enough for all ways to decode it. */
static void test_every_character(void **state)
{
    (void)state;
    enum { LENGTH = 256 };
    char text[LENGTH];
    unsigned char back[LENGTH / 4 * 3], good[LENGTH / 4 * 3];
    size_t length;
    for (size_t i = 0; i < LENGTH; i++)
        text[i] = alphabet[i * 7 % 64];
    for (size_t place = 0; place < LENGTH; place++) {
        char was = text[place];
        for (int c = 0; c < 256; c++) {
            const char *digit = c ? strchr(alphabet, c) : NULL;
            text[place] = (char)c;
            if (place == LENGTH - 1 && c == '=')
                continue; /* padding, if what stands before it fits */
            assert_int_equal(emb_base64_decode(text, LENGTH, back, &length), digit != NULL);
            if (!digit)
                continue;
            decode_slowly(text, LENGTH, good);
            assert_memory_equal(back, good, sizeof good);
        }
        text[place] = was;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_base64), cmocka_unit_test(test_base64_large),
                                       cmocka_unit_test(test_every_length),
                                       cmocka_unit_test(test_every_character)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
