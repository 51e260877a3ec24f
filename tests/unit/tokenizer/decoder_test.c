/* decoder_test.c: token ids to text as the reference does it (tests/golden/make_decode_golden.py), settings
 * of decoders, and failing allocations. */
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "support/fail_alloc.h"
#include "tokenizer/decoder.h"
#include "tokenizer/pipeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static emb_tokenizer *open_file(const char *name, size_t length)
{
    char path[400];
    char *text;
    size_t size;
    emb_error err;
    emb_tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/%.*s", EMB_SOURCE_DIR, (int)length, name);
    assert_int_equal(emb_read_file(path, 64 << 20, &text, &size, &err), EMB_OK);
    assert_int_equal(emb_tokenizer_open_json(text, size, path, &t, &err), EMB_OK);
    free(text);
    return t;
}

static size_t read_ids(emb_json_value array, int32_t *ids, size_t room)
{
    emb_json_value value;
    int64_t id;
    size_t n = 0;
    for (emb_json_iter it = emb_json_begin(array); emb_json_next(&it, NULL, NULL, &value);) {
        assert_true(n < room && emb_json_int(value, &id));
        ids[n++] = (int32_t)id;
    }
    return n;
}

static void test_golden(void **state)
{
    (void)state;
    char *text, last[200] = "";
    size_t size, cases = 0;
    emb_error err;
    emb_tokenizer *t = NULL;
    assert_int_equal(emb_read_file(EMB_TEST_DATA "/tokenizers/decode.jsonl", 64 << 20, &text, &size, &err),
                     EMB_OK);
    for (char *line = text, *end; *line; line = end + 1, cases++) {
        emb_json *doc;
        emb_json_value file, ids, skip, want;
        const char *name, *wanted;
        size_t name_length, wanted_length;
        int32_t list[400];
        bool skips;
        end = strchr(line, '\n');
        assert_int_equal(emb_json_open(line, (size_t)(end - line), "golden", &doc, &err), EMB_OK);
        emb_json_value root = emb_json_root(doc);
        assert_true(emb_json_get(root, "file", &file) && emb_json_get(root, "ids", &ids) &&
                    emb_json_get(root, "skip", &skip) && emb_json_get(root, "text", &want) &&
                    emb_json_string(file, &name, &name_length) && emb_json_bool(skip, &skips) &&
                    emb_json_string(want, &wanted, &wanted_length));
        if (strlen(last) != name_length || memcmp(last, name, name_length) != 0) {
            emb_tokenizer_close(t);
            t = open_file(name, name_length);
            snprintf(last, sizeof last, "%.*s", (int)name_length, name);
        }
        emb_buf got = EMB_BUF_INIT(1 << 20);
        size_t count = read_ids(ids, list, 400);
        assert_int_equal(emb_tokenizer_decode(t, list, count, skips, &got), EMB_OK);
        if (got.length != wanted_length || memcmp(got.data ? got.data : "", wanted, wanted_length) != 0)
            fail_msg("%.*s\ngot: %.*s", (int)(end - line), line, (int)got.length, got.data ? got.data : "");
        emb_buf_fini(&got);
        emb_json_close(doc);
    }
    assert_true(cases > 400);
    emb_tokenizer_close(t);
    free(text);
}

static emb_decoder parsed(const char *json, const char *model, emb_arena *arena)
{
    emb_json *doc;
    emb_error err;
    emb_decoder d;
    assert_int_equal(emb_json_open(json, strlen(json), "decoder", &doc, &err), EMB_OK);
    assert_int_equal(emb_decoder_parse(emb_json_root(doc), model, arena, &d), EMB_OK);
    emb_json_close(doc);
    return d;
}

static void test_settings(void **state)
{
    (void)state;
    emb_arena arena;
    emb_arena_init(&arena);
    emb_decoder d = parsed("{\"type\":\"WordPiece\",\"prefix\":\"@@\",\"cleanup\":false}", "BPE", &arena);
    assert_int_equal(d.kind, EMB_DECODER_WORDPIECE);
    assert_string_equal(d.mark, "@@");
    assert_false(d.cleanup);
    d = parsed("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"never\"}", "BPE", &arena);
    assert_int_equal(d.kind, EMB_DECODER_METASPACE);
    assert_string_equal(d.mark, "_");
    assert_true(d.keeps_first);
    assert_true(parsed("{\"type\":\"Metaspace\",\"add_prefix_space\":false}", "BPE", &arena).keeps_first);
    assert_false(parsed("{\"type\":\"Metaspace\"}", "BPE", &arena).keeps_first);
    assert_int_equal(parsed("{\"type\":\"ByteLevel\"}", "Unigram", &arena).kind, EMB_DECODER_BYTE_LEVEL);
    assert_int_equal(parsed("null", "WordPiece", &arena).kind, EMB_DECODER_WORDPIECE);
    assert_int_equal(parsed("{\"type\":\"Strange\"}", "Unigram", &arena).kind, EMB_DECODER_METASPACE);
    assert_int_equal(parsed("{\"type\":5,\"prefix\":6}", "BPE", &arena).kind, EMB_DECODER_BYTE_LEVEL);
    emb_arena_fini(&arena);
}

static void test_limits(void **state)
{
    (void)state;
    static const char name[] = "models/all-MiniLM-L6-v2/tokenizer.json";
    emb_tokenizer *t = open_file(name, sizeof name - 1);
    static const int32_t ids[] = {101, -1, INT32_MAX, 30522, 7592, 2088, 102};
    emb_buf text = EMB_BUF_INIT(100), small = EMB_BUF_INIT(6);
    assert_int_equal(emb_tokenizer_decode(t, ids, 7, true, &text), EMB_OK);
    assert_int_equal(text.length, 11);
    assert_memory_equal(text.data, "hello world", 11);
    assert_int_equal(emb_tokenizer_decode(t, ids, 7, true, &small), EMB_E_LIMIT);
    assert_int_equal(emb_tokenizer_decode(t, ids, 0, true, &text), EMB_OK);
    emb_buf_fini(&text);
    emb_buf_fini(&small);
    for (size_t n = 1; fail_alloc_available(); n++) {
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_tokenizer_decode(t, ids, 7, false, &text);
        bool failed = fail_alloc_stop();
        assert_int_equal(status, failed ? EMB_E_NOMEM : EMB_OK);
        emb_buf_fini(&text);
        assert_int_equal(fail_alloc_live(), live);
        if (!failed)
            break;
    }
    emb_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
