/* Keys tell apart everything that decides a vector; values that are not whole are seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/l2.h"
#include "cache/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static emb_cache_scope_fields fields(void)
{
    return (emb_cache_scope_fields){.namespace_ = "",
                                    .provider = "local",
                                    .model = "all-MiniLM-L6-v2",
                                    .revision = "abc",
                                    .precision = "bf16",
                                    .prompt = "query: ",
                                    .prompt_length = 7,
                                    .dimensions = 384,
                                    .max_tokens = 256,
                                    .pooling = 1,
                                    .normalize = 1};
}

static emb_cache_key key_with(const emb_cache_scope_fields *f, const char *text, size_t length)
{
    emb_cache_scope scope;
    emb_cache_key key;
    assert_true(emb_cache_scope_make(f, &scope));
    assert_true(emb_cache_key_of_text(&scope, text, length, &key));
    return key;
}

/* Computed apart, in Python:
 *     n = lambda v: struct.pack("<Q", v); f = lambda b: n(len(b)) + b
 *     scope = sha256(f(b"embed:v1") + f(b"") + f(b"local") + f(b"all-MiniLM-L6-v2") + f(b"abc") + f(b"bf16") +
 *                    f(b"query: ") + n(384) + n(256) + n(1) + n(1) + n(0)).digest()
 *     sha256(scope + b"T" + b"hello").hexdigest(), sha256(scope + b"I" + struct.pack("<3i", 101, -1, 7)).hexdigest() */
static void test_known_key(void **state)
{
    (void)state;
    emb_cache_scope_fields f = fields();
    emb_cache_key key = key_with(&f, "hello", 5);
    char text[EMB_CACHE_KEY_TEXT];
    emb_cache_key_text(&key, text);
    assert_string_equal(text, "embed:v1:b2fbd3bc50f0bd6b4331e3a71b4161dfe34cb0790324b9cbd0bc9dd2b5a31962");
    emb_cache_scope scope;
    assert_true(emb_cache_scope_make(&f, &scope));
    assert_true(emb_cache_key_of_ids(&scope, (const int32_t[]){101, -1, 7}, 3, &key));
    emb_cache_key_text(&key, text);
    assert_string_equal(text, "embed:v1:b83c9cf3a2786bf285de3755e390ccf65b55f56be86cc8f6902feaacd5f052a9");
}

static void test_every_field_counts(void **state)
{
    (void)state;
    emb_cache_scope_fields variants[16];
    size_t n = 0;
    for (size_t i = 0; i < 16; i++)
        variants[i] = fields();
    n++; /* as it is */
    variants[n++].namespace_ = "tenant";
    variants[n++].provider = "openai";
    variants[n++].model = "all-MiniLM-L6-v";
    variants[n++].revision = "abd";
    variants[n++].precision = "fp32";
    variants[n++].prompt = "passage";
    variants[n++].prompt_length = 6;
    variants[n++].dimensions = 256;
    variants[n++].max_tokens = 128;
    variants[n++].pooling = 2;
    variants[n++].normalize = 0;
    variants[n++].truncation = 1;
    /* the same bytes in a row, in other fields */
    variants[n].model = "all-MiniLM-L6-v2a";
    variants[n++].revision = "bc";
    variants[n].namespace_ = "local";
    variants[n++].provider = "";
    variants[n].prompt = NULL;
    variants[n++].prompt_length = 0;
    emb_cache_key keys[16];
    for (size_t i = 0; i < n; i++)
        keys[i] = key_with(&variants[i], "hello", 5);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            if (memcmp(&keys[i], &keys[j], sizeof keys[i]) == 0)
                fail_msg("variants %zu and %zu have one key", i, j);
    emb_cache_scope_fields null = fields(), empty = fields(); /* NULL reads as empty */
    null.namespace_ = NULL;
    emb_cache_key a = key_with(&null, "x", 1), b = key_with(&empty, "x", 1);
    assert_memory_equal(&a, &b, sizeof a);
}

static void test_texts_and_ids(void **state)
{
    (void)state;
    emb_cache_scope_fields f = fields();
    emb_cache_scope scope;
    assert_true(emb_cache_scope_make(&f, &scope));
    const int32_t ids[] = {101, 7592};
    emb_cache_key text, of_ids, fewer;
    assert_true(emb_cache_key_of_text(&scope, (const char *)ids, sizeof ids, &text));
    assert_true(emb_cache_key_of_ids(&scope, ids, 2, &of_ids));
    assert_true(emb_cache_key_of_ids(&scope, ids, 1, &fewer));
    assert_memory_not_equal(&text, &of_ids, sizeof text);
    assert_memory_not_equal(&fewer, &of_ids, sizeof text);
    emb_cache_key nul = key_with(&f, "a\0b", 3), cut = key_with(&f, "a", 1), none = key_with(&f, "", 0);
    assert_memory_not_equal(&nul, &cut, sizeof nul);
    assert_memory_not_equal(&none, &cut, sizeof nul);
}

static void test_key_text(void **state)
{
    (void)state;
    emb_cache_scope_fields f = fields();
    emb_cache_key key = key_with(&f, "hello", 5), back;
    char text[EMB_CACHE_KEY_TEXT];
    emb_cache_key_text(&key, text);
    assert_int_equal(strlen(text), EMB_CACHE_KEY_TEXT - 1);
    assert_true(emb_cache_key_parse(text, &back));
    assert_memory_equal(&key, &back, sizeof key);
    assert_true(emb_cache_key_parse(text + 9, &back));
    assert_memory_equal(&key, &back, sizeof key);
    assert_false(emb_cache_key_parse("", &back));
    assert_false(emb_cache_key_parse("embed:v1:", &back));
    assert_false(emb_cache_key_parse(text + 1, &back));
    assert_false(emb_cache_key_parse(text + 10, &back));
    text[20] = 'g';
    assert_false(emb_cache_key_parse(text, &back));
}

/* ---- values ---- */

static const emb_cache_key KEY = {{1, 2, 3}};

static void test_layout(void **state)
{
    (void)state;
    const float vector[2] = {1.0f, -2.5f};
    unsigned char bytes[48];
    assert_int_equal(emb_value_size(2), 48);
    assert_true(emb_value_pack(&KEY, &(emb_value){vector, 2, 77, 1700000000, 1700000060}, bytes));
    const unsigned char head[] = {'E',  'M',  'B',  'V',  1, 0, 0, 0, 2,    0,    0,    0,    77, 0, 0, 0,
                                  0x00, 0xF1, 0x53, 0x65, 0, 0, 0, 0, 0x3C, 0xF1, 0x53, 0x65, 0,  0, 0, 0};
    assert_memory_equal(bytes, head, sizeof head);
    const unsigned char floats[] = {0, 0, 0x80, 0x3F, 0, 0, 0x20, 0xC0};
    assert_memory_equal(bytes + 40, floats, sizeof floats);
    float back[2];
    emb_value value;
    assert_int_equal(emb_value_unpack(&KEY, bytes, sizeof bytes, &value, back, 2), EMB_OK);
    assert_memory_equal(back, vector, sizeof back);
    assert_ptr_equal(value.vector, back);
    assert_int_equal(value.dimension, 2);
    assert_int_equal(value.tokens, 77);
    assert_int_equal(value.created_s, 1700000000);
    assert_int_equal(value.expires_s, 1700000060);
}

static void test_every_bit_is_checked(void **state)
{
    (void)state;
    float vector[16], back[16];
    for (int i = 0; i < 16; i++)
        vector[i] = (float)i / 7 - 1;
    unsigned char bytes[EMB_VALUE_HEADER + 64];
    emb_value value;
    assert_true(emb_value_pack(&KEY, &(emb_value){vector, 16, 5, 1700000000, 0}, bytes));
    memset(back, 0, sizeof back);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        if (emb_value_unpack(&KEY, bytes, sizeof bytes, &value, back, 16) != EMB_E_CORRUPT)
            fail_msg("bit %zu may flip", bit);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    for (size_t length = 0; length < sizeof bytes; length++)
        assert_int_equal(emb_value_unpack(&KEY, bytes, length, &value, back, 16), EMB_E_CORRUPT);
    assert_int_equal(emb_value_unpack(&KEY, bytes, sizeof bytes, &value, back, 15), EMB_E_CORRUPT);
    emb_cache_key other = KEY;
    other.bytes[31] = 1;
    assert_int_equal(emb_value_unpack(&other, bytes, sizeof bytes, &value, back, 16), EMB_E_CORRUPT);
    for (int i = 0; i < 16; i++)
        assert_true(back[i] == 0); /* untouched by failures */
    assert_int_equal(emb_value_unpack(&KEY, bytes, sizeof bytes, &value, back, 16), EMB_OK);
}

static void test_only_numbers(void **state)
{
    (void)state;
    float vector[3] = {1, 2, 3}, back[3];
    unsigned char bytes[EMB_VALUE_HEADER + 12];
    emb_value value;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    assert_true(emb_vector_is_finite(vector, 3));
    assert_true(emb_vector_is_finite((float[]){3.4e38f, -3.4e38f, 1e-45f}, 3));
    for (int i = 0; i < 9; i++) {
        float saved = vector[i % 3];
        vector[i % 3] = bad[i / 3];
        assert_false(emb_vector_is_finite(vector, 3));
        assert_true(emb_value_pack(&KEY, &(emb_value){vector, 3, 0, 0, 0}, bytes));
        assert_int_equal(emb_value_unpack(&KEY, bytes, sizeof bytes, &value, back, 3), EMB_E_CORRUPT);
        vector[i % 3] = saved;
    }
    assert_int_equal(emb_value_unpack(&KEY, bytes, EMB_VALUE_HEADER, &value, back, 0), EMB_E_CORRUPT);
}

static void test_kinds(void **state)
{
    (void)state;
    assert_ptr_equal(emb_l2_find("sqlite:/tmp/x"), &emb_l2_sqlite);
    assert_null(emb_l2_find("sqlit:/tmp/x"));
    assert_null(emb_l2_find("sqlite"));
    assert_null(emb_l2_find("mysql://x"));
    assert_null(emb_l2_find(":"));
    assert_null(emb_l2_find(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_key),     cmocka_unit_test(test_every_field_counts),
        cmocka_unit_test(test_texts_and_ids), cmocka_unit_test(test_key_text),
        cmocka_unit_test(test_layout),        cmocka_unit_test(test_every_bit_is_checked),
        cmocka_unit_test(test_only_numbers),  cmocka_unit_test(test_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
