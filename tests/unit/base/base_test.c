/* Buffers, arena, UTF-8, JSON, files and errors: the limits and the odd inputs. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void buffer_keeps_its_maximum(void **state)
{
    (void)state;
    emb_buf buf = EMB_BUF_INIT(10);
    assert_int_equal(emb_buf_add(&buf, "12345678", 8), EMB_OK);
    assert_int_equal(emb_buf_add(&buf, "abc", 3), EMB_E_LIMIT);
    assert_int_equal(buf.length, 8);
    assert_int_equal(emb_buf_add(&buf, "ab", 2), EMB_OK);
    assert_null(emb_buf_cstr(&buf));
    assert_memory_equal(buf.data, "12345678ab", 10);
    assert_int_equal(emb_buf_reserve(&buf, SIZE_MAX), EMB_E_LIMIT);
    emb_buf_fini(&buf);
    emb_buf_init(&buf, 1 << 20);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(emb_buf_addf(&buf, "%03d,", i), EMB_OK);
    assert_int_equal(buf.length, 4000);
    assert_memory_equal(buf.data + 3992, "998,999,", 8);
    emb_buf_fini(&buf);
}

static void arena_gives_distinct_memory(void **state)
{
    (void)state;
    emb_arena arena;
    emb_arena_init(&arena);
    unsigned char *parts[300];
    for (size_t i = 0; i < 300; i++) {
        size_t bytes = i * i % 5000 + 1;
        parts[i] = emb_arena_alloc(&arena, bytes);
        assert_non_null(parts[i]);
        assert_int_equal((uintptr_t)parts[i] % 16, 0);
        memset(parts[i], (int)(i & 0xFF), bytes);
    }
    for (size_t i = 0; i < 300; i++)
        for (size_t j = 0; j < i * i % 5000 + 1; j++)
            assert_int_equal(parts[i][j], i & 0xFF);
    assert_null(emb_arena_alloc(&arena, SIZE_MAX));
    assert_null(emb_arena_calloc(&arena, SIZE_MAX / 2, 4));
    assert_string_equal(emb_arena_strndup(&arena, "hello world", 5), "hello");
    emb_arena_fini(&arena);
}

static void utf8_replaces_maximal_subparts(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"a\xFFz", "a\xEF\xBF\xBDz"},
        {"\xC0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xE2\x82", "\xEF\xBF\xBD"},
        {"\xE2\x28\xA1", "\xEF\xBF\xBD(\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF0\x9F\x98", "\xEF\xBF\xBD"},
        {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xEF\xBF\xBD", "\xEF\xBF\xBD"},
        {"12345678\x80", "12345678\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_buf buf = EMB_BUF_INIT(1000);
        assert_int_equal(emb_utf8_repair(&buf, cases[i].in, strlen(cases[i].in)), EMB_OK);
        assert_string_equal(emb_buf_cstr(&buf), cases[i].out);
        emb_buf_fini(&buf);
    }
    for (uint32_t c = 0; c < 0x110000; c++) {
        char encoded[4];
        uint32_t decoded;
        if (c >= 0xD800 && c < 0xE000)
            continue;
        size_t n = emb_utf8_encode(c, encoded);
        assert_int_equal(emb_utf8_decode(encoded, n, &decoded), n);
        assert_int_equal(decoded, c);
        assert_int_equal(emb_utf8_valid_prefix(encoded, n), n);
    }
}

static emb_json *parse(const char *text)
{
    emb_json *doc = NULL;
    emb_error err;
    if (emb_json_open(text, strlen(text), "test", &doc, &err))
        fail_msg("%s", err.message);
    return doc;
}

static void json_values(void **state)
{
    (void)state;
    emb_json *doc = parse("{\"s\":\"a\\u0000b\\ud83d\\ude00\",\"i\":-5,\"r\":1.5,\"w\":512.0,\"big\":1e300,"
                          "\"t\":true,\"n\":null,\"a\":[1,[2,3],{}],\"o\":{\"x\":1,\"y\":2}}");
    emb_json_value root = emb_json_root(doc), v, element;
    const char *text, *key;
    size_t length;
    int64_t integer;
    double real;
    bool flag = false;
    assert_true(emb_json_get(root, "s", &v) && emb_json_string(v, &text, &length));
    assert_int_equal(length, 7);
    assert_memory_equal(text, "a\0b\xF0\x9F\x98\x80", 7);
    assert_false(emb_json_int(v, &integer));
    assert_true(emb_json_get(root, "i", &v) && emb_json_int(v, &integer) && integer == -5);
    assert_true(emb_json_double(v, &real) && real == -5);
    assert_true(emb_json_get(root, "r", &v) && !emb_json_int(v, &integer) && emb_json_double(v, &real));
    assert_true(emb_json_get(root, "w", &v) && emb_json_int(v, &integer) && integer == 512);
    assert_true(emb_json_get(root, "big", &v) && !emb_json_int(v, &integer));
    assert_true(emb_json_get(root, "t", &v) && emb_json_bool(v, &flag) && flag);
    assert_true(emb_json_get(root, "n", &v) && emb_json_type_of(v) == EMB_JSON_NULL);
    assert_false(emb_json_get(root, "missing", &v));
    assert_true(emb_json_get(root, "a", &v));
    assert_int_equal(emb_json_count(v), 3);
    emb_json_iter it = emb_json_begin(v);
    size_t seen = 0;
    while (emb_json_next(&it, &key, &length, &element)) {
        assert_null(key);
        seen += emb_json_count(element);
    }
    assert_int_equal(seen, 2);
    assert_true(emb_json_get(root, "o", &v));
    it = emb_json_begin(v);
    int64_t sum = 0;
    while (emb_json_next(&it, &key, &length, &element)) {
        assert_int_equal(length, 1);
        assert_true(emb_json_int(element, &integer));
        sum += integer * (*key == 'x' ? 10 : 1);
    }
    assert_int_equal(sum, 12);
    it = emb_json_begin(emb_json_root(doc));
    assert_true(emb_json_next(&it, NULL, NULL, &element));
    emb_json_close(doc);
}

static void json_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"",         "{",   "[1,]",  "{\"a\":\"\\ud800\"}",
                                      "\"\xFF\"", "nul", "[1] 2", "{\"a\" 1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        emb_json *doc;
        emb_error err;
        if (emb_json_open(bad[i], strlen(bad[i]), "here.json", &doc, &err) != EMB_E_CORRUPT)
            fail_msg("accepted: %s", bad[i]);
        assert_non_null(strstr(err.message, "here.json"));
        assert_string_equal(err.where, "here.json");
    }
    char deep[5000];
    memset(deep, '[', sizeof deep);
    emb_json *doc;
    assert_int_not_equal(emb_json_open(deep, sizeof deep, "deep", &doc, NULL), EMB_OK);
}

static void json_writes_strings(void **state)
{
    (void)state;
    emb_buf buf = EMB_BUF_INIT(10000);
    assert_int_equal(emb_json_write_string(&buf, "a\"\\\n\x01\0\xC3\xA9\xFF", 9), EMB_OK);
    assert_string_equal(emb_buf_cstr(&buf), "\"a\\\"\\\\\\n\\u0001\\u0000\xC3\xA9\xEF\xBF\xBD\"");
    emb_buf_clear(&buf);
    assert_int_equal(emb_json_write_floats(&buf, (float[]){0.5f, -1, 0}, 3), EMB_OK);
    assert_string_equal(emb_buf_cstr(&buf), "[0.5,-1,0]");
    assert_int_equal(emb_json_write_floats(&buf, (float[]){1, __builtin_nanf("")}, 2), EMB_E_INVALID);
    assert_int_equal(buf.length, 10);
    emb_buf_clear(&buf);
    assert_int_equal(emb_buf_add_str(&buf, "{"), EMB_OK);
    assert_int_equal(emb_json_write_member(&buf, "a", "{\""), EMB_OK);
    assert_int_equal(emb_json_write_member(&buf, "b", NULL), EMB_OK);
    assert_int_equal(emb_json_write_member(&buf, "c", ""), EMB_OK);
    assert_string_equal(emb_buf_cstr(&buf), "{\"a\":\"{\\\"\",\"b\":null,\"c\":\"\"");
    emb_buf_fini(&buf);
}

static void files_appear_whole_or_not_at_all(void **state)
{
    (void)state;
    char directory[] = "/tmp/embedd-test-XXXXXX";
    assert_non_null(mkdtemp(directory));
    char *path = emb_path_join(directory, "f");
    emb_error err;
    emb_atomic_file file;
    assert_int_equal(emb_atomic_open(&file, path, &err), EMB_OK);
    fputs("content", file.stream);
    assert_false(emb_is_file(path));
    emb_atomic_abort(&file);
    assert_false(emb_is_file(path));
    assert_int_equal(emb_atomic_open(&file, path, &err), EMB_OK);
    fputs("content", file.stream);
    assert_int_equal(emb_atomic_commit(&file, &err), EMB_OK);
    char *text;
    size_t length;
    assert_int_equal(emb_read_file(path, 7, &text, &length, &err), EMB_OK);
    assert_string_equal(text, "content");
    free(text);
    assert_int_equal(emb_read_file(path, 6, &text, &length, &err), EMB_E_LIMIT);
    assert_int_equal(emb_read_file(directory, 6, &text, &length, &err), EMB_E_IO);
    assert_int_equal(emb_read_file("/nonexistent/x", 6, &text, &length, &err), EMB_E_NOT_FOUND);
    emb_mapping mapping;
    assert_int_equal(emb_mapping_open(&mapping, path, &err), EMB_OK);
    assert_int_equal(mapping.length, 7);
    emb_mapping_forget(&mapping, 0, 7);
    assert_memory_equal(mapping.data, "content", 7);
    emb_mapping_close(&mapping);
    assert_int_equal(emb_mapping_open(&mapping, directory, &err), EMB_E_IO);
    unlink(path);
    assert_int_equal(rmdir(directory), 0); /* no temporary file was left */
    free(path);
    assert_int_equal(emb_atomic_open(&file, "/nonexistent/x", &err), EMB_E_NOT_FOUND);
    if (access("/dev/full", W_OK) == 0) {
        file = (emb_atomic_file){fopen("/dev/full", "wb"), strdup("/dev/full"), NULL};
        fputs("content", file.stream);
        assert_int_equal(emb_atomic_commit(&file, &err), EMB_E_IO);
        assert_non_null(strstr(err.message, "No space"));
    }
}

static void errors_are_cut_not_overrun(void **state)
{
    (void)state;
    emb_error err;
    char big[2000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    assert_int_equal(emb_fail(&err, EMB_E_LIMIT, big, "%s", big), EMB_E_LIMIT);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_int_equal(emb_error_context(&err, "outer %d", 5), EMB_E_LIMIT);
    assert_memory_equal(err.message, "outer 5: xxx", 12);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_int_equal(emb_fail(NULL, EMB_E_IO, NULL, "nobody listens"), EMB_E_IO);
    assert_string_equal(emb_status_text(EMB_E_BUSY), "overloaded");
    assert_int_equal(emb_status_http(EMB_E_BUSY), 429);
    assert_true(emb_status_retryable(EMB_E_BUSY));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_keeps_its_maximum),
        cmocka_unit_test(arena_gives_distinct_memory),
        cmocka_unit_test(utf8_replaces_maximal_subparts),
        cmocka_unit_test(json_values),
        cmocka_unit_test(json_refuses),
        cmocka_unit_test(json_writes_strings),
        cmocka_unit_test(files_appear_whole_or_not_at_all),
        cmocka_unit_test(errors_are_cut_not_overrun),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
