/* Tokenizers of each published family: ids and offsets as the reference gives them, with every allocation
 * failing in turn, and the other file forms of the same tokenizer. */
#include "base/file.h"
#include "base/json.h"
#include "support/fail_alloc.h"
#include "tokenizer/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const names[] = {"xlm-roberta-like", "t5-like",    "unsplit-unigram", "roberta-like",
                                    "gpt4-like",        "llama-like", "odd-bpe",         "odd-bpe-fused"};
enum { NAMES = sizeof names / sizeof names[0] };

static emb_tokenizer *open_tokenizer(const char *name)
{
    char path[512];
    emb_tokenizer *t;
    emb_error err;
    snprintf(path, sizeof path, "%s/tokenizers/%s", EMB_TEST_DATA, name);
    if (emb_tokenizer_open(path, &t, &err) != EMB_OK)
        fail_msg("%s: %s: %s", name, err.where, err.message);
    return t;
}

static int64_t next_int(emb_json_iter *it)
{
    const char *key;
    size_t length;
    emb_json_value value;
    int64_t number = -1;
    assert_true(emb_json_next(it, &key, &length, &value));
    assert_true(emb_json_int(value, &number));
    return number;
}

static void check_line(const emb_tokenizer *t, emb_encoding *e, const char *name, const char *line,
                       size_t length)
{
    emb_json *doc;
    emb_error err;
    emb_json_value text, ids, offsets;
    const char *s;
    size_t n;
    assert_int_equal(emb_json_open(line, length, name, &doc, &err), EMB_OK);
    assert_true(emb_json_get(emb_json_root(doc), "text", &text) && emb_json_string(text, &s, &n));
    assert_true(emb_json_get(emb_json_root(doc), "ids", &ids));
    assert_true(emb_json_get(emb_json_root(doc), "offsets", &offsets));
    for (int with = 0; with < 2; with++) {
        emb_encode_options options = {.add_special_tokens = true, .offsets = with};
        assert_int_equal(emb_tokenizer_encode(t, s, n, &options, e, &err), EMB_OK);
        if (e->count != emb_json_count(ids))
            fail_msg("%s: %zu tokens, not %zu, of %.*s", name, e->count, emb_json_count(ids), (int)length,
                     line);
        emb_json_iter id = emb_json_begin(ids), offset = emb_json_begin(offsets);
        for (size_t i = 0; i < e->count; i++) {
            if (e->ids[i] != next_int(&id))
                fail_msg("%s: token %zu is %d in %.*s", name, i, e->ids[i], (int)length, line);
            if (with && (e->starts[i] != next_int(&offset) || e->ends[i] != next_int(&offset)))
                fail_msg("%s: token %zu is at %u to %u in %.*s", name, i, e->starts[i], e->ends[i],
                         (int)length, line);
        }
    }
    emb_json_close(doc);
}

/* Checks the golden lines of one tokenizer; returns how many there were. */
static size_t check_golden(const emb_tokenizer *t, const char *name)
{
    char path[512], *data;
    size_t length, lines = 0;
    emb_error err;
    emb_encoding e;
    snprintf(path, sizeof path, "%s/tokenizers/%s/golden.jsonl", EMB_TEST_DATA, name);
    assert_int_equal(emb_read_file(path, 64 << 20, &data, &length, &err), EMB_OK);
    emb_encoding_init(&e);
    for (char *line = data, *end; line < data + length; line = end + 1, lines++) {
        end = memchr(line, '\n', (size_t)(data + length - line));
        assert_non_null(end);
        check_line(t, &e, name, line, (size_t)(end - line));
    }
    emb_encoding_fini(&e);
    free(data);
    return lines;
}

static void ids_and_offsets_are_the_references(void **state)
{
    (void)state;
    for (size_t i = 0; i < NAMES; i++) {
        emb_tokenizer *t = open_tokenizer(names[i]);
        assert_true(check_golden(t, names[i]) > 200);
        emb_tokenizer_close(t);
    }
}

static void vocab_and_merges_files_are_the_same_tokenizer(void **state)
{
    (void)state;
    emb_tokenizer *t = open_tokenizer("roberta-files");
    assert_string_equal(emb_tokenizer_kind(t), "BPE");
    assert_int_equal(emb_tokenizer_added_count(t), 2);
    assert_true(check_golden(t, "roberta-like") > 200);
    emb_tokenizer_close(t);
}

/* Opens and encodes; EMB_OK or EMB_E_NOMEM. */
static emb_status open_and_encode(const char *path, size_t *tokens)
{
    static const char text[] =
        "H\u00e9llo  w\u00f6rld, it's 12345 <mask> \u65e5\u672c\u8a9e \U0001F600 \uff41\u0301b "
        "unbelievablylongwordthatdoesnotfitanycache\n";
    emb_tokenizer *t;
    emb_error err;
    emb_encoding e;
    emb_status status = emb_tokenizer_open(path, &t, &err);
    if (status != EMB_OK)
        return status;
    emb_encode_options options = {.add_special_tokens = true, .offsets = true};
    emb_encoding_init(&e);
    status = emb_tokenizer_encode(t, text, sizeof text - 1, &options, &e, &err);
    *tokens = e.count;
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    for (size_t i = 0; i < NAMES + 1; i++) {
        char path[512];
        size_t tokens = 0, wanted;
        snprintf(path, sizeof path, "%s/tokenizers/%s", EMB_TEST_DATA,
                 i < NAMES ? names[i] : "roberta-files");
        assert_int_equal(open_and_encode(path, &wanted), EMB_OK);
        for (size_t n = 1;; n++) {
            size_t live = fail_alloc_live();
            fail_alloc_at(n);
            emb_status status = open_and_encode(path, &tokens);
            bool failed = fail_alloc_stop();
            if (fail_alloc_live() != live)
                fail_msg("%s: allocation %zu: %zu are left, not %zu", path, n, fail_alloc_live(), live);
            if (!failed) {
                assert_int_equal(status, EMB_OK);
                assert_int_equal(tokens, wanted);
                break;
            }
            if (status != EMB_E_NOMEM && status != EMB_OK)
                fail_msg("%s: allocation %zu: status %d", path, n, status);
        }
    }
}

/* One encoding that goes from tokenizer to tokenizer must not carry words over. */
static void scratch_does_not_mix_tokenizers(void **state)
{
    (void)state;
    emb_encoding shared;
    emb_error err;
    const char text[] = "the same words in all of them";
    emb_encode_options options = {.add_special_tokens = true};
    emb_encoding_init(&shared);
    for (size_t i = 0; i < 3 * NAMES; i++) {
        emb_tokenizer *t = open_tokenizer(names[i % NAMES]);
        emb_encoding fresh;
        emb_encoding_init(&fresh);
        assert_int_equal(emb_tokenizer_encode(t, text, sizeof text - 1, &options, &shared, &err), EMB_OK);
        assert_int_equal(emb_tokenizer_encode(t, text, sizeof text - 1, &options, &fresh, &err), EMB_OK);
        assert_int_equal(shared.count, fresh.count);
        assert_memory_equal(shared.ids, fresh.ids, fresh.count * sizeof *fresh.ids);
        emb_encoding_fini(&fresh);
        emb_tokenizer_close(t);
    }
    emb_encoding_fini(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_and_offsets_are_the_references),
        cmocka_unit_test(vocab_and_merges_files_are_the_same_tokenizer),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(scratch_does_not_mix_tokenizers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
