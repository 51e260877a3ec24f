/* Splitting: every text once, in order, within the limits. */
#include "base/json_write.h"
#include "provider/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 97 };

static emb_text texts[COUNT];
static uint32_t tokens[COUNT];
static char line[COUNT][256];

static int make_texts(void **state)
{
    (void)state;
    for (unsigned i = 0; i < COUNT; i++) {
        int n = snprintf(line[i], sizeof line[i], "text %u \"%.*s\"", i, (int)(i % 50),
                         "##################################################");
        texts[i] = (emb_text){line[i], (size_t)n};
        tokens[i] = i % 13 + 1;
    }
    return 0;
}

static size_t check(const emb_split_limits *most)
{
    emb_split_part *parts;
    size_t count, next = 0;
    emb_error err;
    assert_int_equal(emb_split(texts, NULL, tokens, COUNT, most, &parts, &count, &err), EMB_OK);
    for (size_t p = 0; p < count; p++) {
        uint64_t sum = 0;
        size_t bytes = most->fixed_bytes;
        assert_int_equal(parts[p].first, next);
        assert_true(parts[p].count > 0);
        for (size_t i = 0; i < parts[p].count; i++) {
            sum += tokens[next + i];
            bytes += emb_split_json_bytes(&texts[next + i]) + 1;
        }
        assert_int_equal(parts[p].tokens, sum);
        assert_true(!most->texts || parts[p].count <= most->texts);
        assert_true(!most->tokens || sum <= most->tokens || parts[p].count == 1);
        assert_true(!most->bytes || bytes <= most->bytes);
        next += parts[p].count;
    }
    assert_int_equal(next, COUNT);
    free(parts);
    return count;
}

static void by_every_limit(void **state)
{
    (void)state;
    assert_int_equal(check(&(emb_split_limits){.texts = 0}), 1);
    assert_int_equal(check(&(emb_split_limits){.texts = 97}), 1);
    assert_int_equal(check(&(emb_split_limits){.texts = 1}), 97);
    for (size_t n = 1; n < 100; n++) {
        assert_int_equal(check(&(emb_split_limits){.texts = n}), (COUNT + n - 1) / n);
        check(&(emb_split_limits){.tokens = n});
        check(&(emb_split_limits){.bytes = 100 + 13 * n, .fixed_bytes = 30});
        check(&(emb_split_limits){.texts = n, .tokens = 40, .bytes = 500, .fixed_bytes = 30});
    }
}

static void evenly(void **state)
{
    (void)state;
    emb_split_part *parts;
    size_t count;
    emb_error err;
    assert_int_equal(
        emb_split(texts, NULL, NULL, COUNT, &(emb_split_limits){.texts = 96}, &parts, &count, &err), EMB_OK);
    assert_int_equal(count, 2);
    assert_int_equal(parts[0].count, 49);
    assert_int_equal(parts[1].count, 48);
    assert_int_equal(parts[1].tokens, 0);
    free(parts);
}

static void a_text_too_large(void **state)
{
    (void)state;
    emb_split_part *parts;
    size_t count;
    emb_error err;
    emb_split_limits most = {.bytes = 60, .fixed_bytes = 0};
    assert_int_equal(emb_split(texts, NULL, tokens, COUNT, &most, &parts, &count, &err), EMB_E_LIMIT);
    assert_int_equal(strncmp(err.where, "input[", 6), 0);
    assert_null(strstr(err.message, "text 4"));
}

static void json_bytes_are_enough(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "", "plain", "\"\\", "\x01\x1f\n\t", "Grüße 日本語", "\xff\xfe bad \xc3", "\x7f"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        emb_text text = {odd[i], strlen(odd[i])};
        emb_buf out = EMB_BUF_INIT(4096);
        assert_int_equal(emb_json_write_string(&out, text.data, text.length), EMB_OK);
        assert_true(emb_split_json_bytes(&text) >= out.length);
        emb_buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_every_limit),
        cmocka_unit_test(evenly),
        cmocka_unit_test(a_text_too_large),
        cmocka_unit_test(json_bytes_are_enough),
    };
    return cmocka_run_group_tests(tests, make_texts, NULL);
}
