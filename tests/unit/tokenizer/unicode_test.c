/* Unicode tables: the counts that the reference gives over all code points, and the arithmetic. */
#include "tokenizer/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static size_t count(uint32_t flag)
{
    size_t n = 0;
    for (uint32_t c = 0; c < 0x110000; c++)
        n += (c < 0xD800 || c > 0xDFFF) && emb_unicode_is(c, flag);
    return n;
}

/* Counted with the reference's own normalizers and pre-tokenizers, one code point at a time. */
static void properties_have_the_references_counts(void **state)
{
    (void)state;
    assert_int_equal(count(EMB_UNICODE_REMOVED), 137681);
    assert_int_equal(count(EMB_UNICODE_WHITESPACE), 25);
    assert_int_equal(count(EMB_UNICODE_MARK_NONSPACING), 1567);
    assert_int_equal(count(EMB_UNICODE_COMBINING_MARK), 2097);
    assert_int_equal(count(EMB_UNICODE_PUNCTUATION), 726);
    assert_int_equal(count(EMB_UNICODE_WORD), 144667);
    assert_int_equal(count(EMB_UNICODE_LETTER), 141028);
    assert_int_equal(count(EMB_UNICODE_NUMBER), 1911);
    assert_int_equal(count(EMB_UNICODE_NUMERIC), 1924);
    assert_int_equal(count(EMB_UNICODE_CHINESE), 81264);
    assert_int_equal(count(EMB_UNICODE_LOWERCASES), 1488);
}

static void ascii_is_what_it_is(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 128; c++) {
        bool letter = (c | 32) >= 'a' && (c | 32) <= 'z', digit = c >= '0' && c <= '9';
        bool space = c == ' ' || (c >= 9 && c <= 13);
        assert_int_equal(emb_unicode_is(c, EMB_UNICODE_LETTER), letter);
        assert_int_equal(emb_unicode_is(c, EMB_UNICODE_NUMBER), digit);
        assert_int_equal(emb_unicode_is(c, EMB_UNICODE_WORD), letter || digit || c == '_');
        assert_int_equal(emb_unicode_is(c, EMB_UNICODE_WHITESPACE), space);
        assert_int_equal(emb_unicode_is(c, EMB_UNICODE_PUNCTUATION), c > 32 && c < 127 && !letter && !digit);
        assert_int_equal(emb_unicode_is(c, EMB_UNICODE_REMOVED),
                         (c < 32 && c != '\t' && c != '\n' && c != '\r') || c == 127);
        assert_int_equal(emb_unicode_flags(c), emb_unicode_lookup(c)->flags);
    }
}

static void lower_case(void **state)
{
    (void)state;
    uint32_t out[2];
    static const uint32_t pairs[][2] = {{'A', 'a'},
                                        {'z', 'z'},
                                        {0xC9, 0xE9},
                                        {0x3A3, 0x3C3},
                                        {0x1E9E, 0xDF},
                                        {0x2126, 0x3C9},
                                        {0x10400, 0x10428},
                                        {0x13A0, 0xAB70},
                                        {0x1C90, 0x10D0},
                                        {0x4E2D, 0x4E2D},
                                        {0xFFFFFFFF, 0xFFFFFFFF}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        assert_int_equal(emb_unicode_lowercase(pairs[i][0], out), 1);
        assert_int_equal(out[0], pairs[i][1]);
    }
    assert_int_equal(emb_unicode_lowercase(0x130, out), 2);
    assert_int_equal(out[0], 'i');
    assert_int_equal(out[1], 0x307);
}

static void hangul_goes_both_ways(void **state)
{
    (void)state;
    for (uint32_t s = 0xAC00; s <= 0xD7A3; s++) {
        uint32_t parts[EMB_UNICODE_DECOMPOSITION_MAX];
        size_t n = emb_unicode_decompose(s, false, parts);
        uint32_t back = emb_unicode_compose(parts[0], parts[1]);
        if (n == 3)
            back = emb_unicode_compose(back, parts[2]);
        assert_true(n == 2 || n == 3);
        assert_int_equal(back, s);
    }
    assert_int_equal(emb_unicode_compose(0xAC00, 0x11A7), 0); /* not a trailing consonant */
    assert_int_equal(emb_unicode_compose(0xAC01, 0x11A8), 0); /* has one already */
}

/* Whatever two characters compose to has them as its decomposition. */
static void compositions_fit_decompositions(void **state)
{
    (void)state;
    size_t composed = 0;
    for (uint32_t c = 0x80; c < 0x110000; c++) {
        uint32_t parts[EMB_UNICODE_DECOMPOSITION_MAX], again[EMB_UNICODE_DECOMPOSITION_MAX];
        size_t n = emb_unicode_decompose(c, false, parts);
        assert_int_equal(emb_unicode_is(c, EMB_UNICODE_CANONICAL), n > 1 || parts[0] != c);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(emb_unicode_decompose(parts[i], false, again), 1);
            assert_int_equal(again[0], parts[i]);
        }
        uint32_t back = n == 2 ? emb_unicode_compose(parts[0], parts[1]) : 0;
        if (back != 0) {
            assert_int_equal(emb_unicode_decompose(back, false, again), 2);
            assert_memory_equal(again, parts, 2 * sizeof *parts);
            assert_true(emb_unicode_is(parts[1], EMB_UNICODE_COMPOSES_BACK));
            composed += back == c;
        }
    }
    assert_true(composed > 700);
    assert_int_equal(emb_unicode_compose('e', 0x301), 0xE9);
    assert_int_equal(emb_unicode_compose('q', 0x301), 0);
    uint32_t long_one[EMB_UNICODE_DECOMPOSITION_MAX];
    assert_int_equal(emb_unicode_decompose(0xFDFA, true, long_one), 18);
    assert_int_equal(emb_unicode_decompose(0xFDFA, false, long_one), 1);
}

static void values_beyond_unicode_are_harmless(void **state)
{
    (void)state;
    static const uint32_t odd[] = {0xD800, 0xDFFF, 0x110000, 0x7FFFFFFF, 0xFFFFFFFF};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        uint32_t out[EMB_UNICODE_DECOMPOSITION_MAX];
        assert_non_null(emb_unicode_lookup(odd[i]));
        assert_int_equal(emb_unicode_decompose(odd[i], true, out), 1);
        assert_int_equal(out[0], odd[i]);
        assert_int_equal(emb_unicode_compose(odd[i], 0x301), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties_have_the_references_counts),
        cmocka_unit_test(ascii_is_what_it_is),
        cmocka_unit_test(lower_case),
        cmocka_unit_test(hangul_goes_both_ways),
        cmocka_unit_test(compositions_fit_decompositions),
        cmocka_unit_test(values_beyond_unicode_are_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
