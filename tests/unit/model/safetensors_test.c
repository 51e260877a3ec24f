/* Safetensors files: reading, shards, scales, and damaged files of every kind. */
#include "model/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const emb_kernels *kernels;

/* A file of this header and `bytes` of data 0, 1, 2 …; *length receives its size. */
static unsigned char *make_file(const char *header, size_t bytes, size_t *length)
{
    size_t n = strlen(header);
    unsigned char *file = malloc(8 + n + bytes + 1);
    assert_non_null(file);
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(file + 8, header, n);
    for (size_t i = 0; i < bytes; i++)
        file[8 + n + i] = (unsigned char)i;
    *length = 8 + n + bytes;
    return file;
}

static void expect_refusal(const char *header, size_t bytes, const char *words)
{
    size_t length;
    emb_safetensors *s;
    emb_error err = {0};
    unsigned char *file = make_file(header, bytes, &length);
    emb_status status = emb_safetensors_open_memory(file, length, "model.safetensors", &s, &err);
    if (status == EMB_OK)
        emb_safetensors_close(s);
    free(file);
    if (status != EMB_E_CORRUPT || !strstr(err.message, words) || !strstr(err.message, "model.safetensors"))
        fail_msg("status %d, message \"%s\" should say \"%s\"", status, err.message, words);
}

static void test_reading(void **state)
{
    size_t length;
    emb_safetensors *s;
    emb_tensor t;
    emb_error err = {0};
    float row[8];
    /* An odd header length: nothing is aligned. */
    unsigned char *file = make_file(
        "{\"__metadata__\":{\"x\":\"y\"},\"b\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]},"
        "\"ids\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[8,16]},"
        "\"w\":{\"dtype\":\"I8\",\"shape\":[2,8],\"data_offsets\":[16,32]},"
        "\"w.scales\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[32,48]},"
        "\"lone\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[48,49]},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[49,49]}}",
        49, &length);
    float scales[4] = {1, 2, 0.5f, -1};
    memcpy(file + length - 49 + 32, scales, sizeof scales);
    (void)state;
    if (emb_safetensors_open_memory(file, length, "file", &s, &err))
        fail_msg("%s", err.message);
    assert_int_equal(emb_safetensors_count(s), 4); /* b, empty, w, w.scales */
    assert_int_equal(emb_safetensors_parameters(s), 4 + 16);
    assert_true(emb_safetensors_find(s, "b", &t));
    assert_int_equal(t.dtype, EMB_DTYPE_F16);
    assert_int_equal(t.bytes, 8);
    assert_false(emb_safetensors_find(s, "ids", &t));
    assert_string_equal(emb_safetensors_other_type(s, "ids"), "I64");
    assert_string_equal(emb_safetensors_other_type(s, "lone"), "I8 without scales");
    assert_null(emb_safetensors_other_type(s, "b"));
    assert_null(emb_safetensors_other_type(s, "nothing"));
    assert_true(emb_safetensors_find(s, "w", &t));
    assert_int_equal(t.group, 4);
    emb_tensor_rows(&t, kernels, 1, 1, row);
    const float expected[8] = {24 * 0.5f, 25 * 0.5f, 26 * 0.5f, 27 * 0.5f, -28, -29, -30, -31};
    for (int i = 0; i < 8; i++)
        assert_true(row[i] == expected[i]);
    emb_tensor_row(&t, kernels, 1, row, true);
    for (int i = 0; i < 8; i++)
        assert_true(row[i] == 2 * expected[i]);
    emb_safetensors_close(s);
    free(file);
}

static void test_damaged(void **state)
{
    (void)state;
    expect_refusal("[]", 0, "JSON object");
    expect_refusal("{\"a\":", 0, "JSON");
    expect_refusal("{\"a\":3}", 0, "a");
    expect_refusal("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype");
    expect_refusal("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "F33");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "shape");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "shape");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "data_offsets");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "before it begins");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "data_offsets");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 4, "truncated");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[9223372036854775803,"
                   "9223372036854775807]}}",
                   4, "truncated");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "spans 4 bytes");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 4,
                   "overflows");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 4,
                   "spans");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\","
                   "\"shape\":[1],\"data_offsets\":[4,8]}}",
                   8, "overlaps");
    expect_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\","
                   "\"shape\":[1],\"data_offsets\":[4,8]}}",
                   8, "twice");
    expect_refusal("{\"w\":{\"dtype\":\"I8\",\"shape\":[2,8],\"data_offsets\":[0,16]},\"w.scales\":{"
                   "\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[16,40]}}",
                   40, "w.scales");
    expect_refusal("{\"w\":{\"dtype\":\"I8\",\"shape\":[2,8],\"data_offsets\":[0,16]},\"w.scales\":{"
                   "\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[16,24]}}",
                   24, "F16 or F32");
    expect_refusal("{\"w\":{\"dtype\":\"I8\",\"shape\":[2,8],\"data_offsets\":[0,16]},\"w.scales\":{"
                   "\"dtype\":\"F32\",\"shape\":[2,0],\"data_offsets\":[16,16]}}",
                   24, "w.scales");
}

static void test_header_length(void **state)
{
    static const unsigned char files[][16] = {
        {0}, {255, 255, 255, 255, 255, 255, 255, 255}, {9, 0, 0, 0, 0, 0, 0, 0}};
    emb_safetensors *s;
    emb_error err;
    (void)state;
    for (size_t length = 0; length < 8; length++)
        assert_int_equal(emb_safetensors_open_memory(files[0], length, "f", &s, &err), EMB_E_CORRUPT);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(emb_safetensors_open_memory(files[i], 16, "f", &s, &err), EMB_E_CORRUPT);
}

static void write_file(const char *directory, const char *name, const void *data, size_t length)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void expect_directory(const char *directory, emb_status code, const char *words)
{
    emb_safetensors *s;
    emb_error err = {0};
    emb_status status = emb_safetensors_open(directory, "model", &s, &err);
    if (status == EMB_OK)
        emb_safetensors_close(s);
    if (status != code || (words && !strstr(err.message, words)))
        fail_msg("status %d (%d expected), message \"%s\" should say \"%s\"", status, code, err.message,
                 words ? words : "");
}

static void write_index(const char *directory, const char *text)
{
    write_file(directory, "model.safetensors.index.json", text, strlen(text));
}

static void test_directories(void **state)
{
    char directory[] = "/tmp/emb-safetensors-XXXXXX", command[64];
    size_t length;
    unsigned char *file =
        make_file("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, &length);
    (void)state;
    assert_non_null(mkdtemp(directory));
    expect_directory(directory, EMB_E_NOT_FOUND, "model.safetensors");
    write_file(directory, "pytorch_model.bin", "x", 1);
    expect_directory(directory, EMB_E_UNSUPPORTED, "pytorch_model.bin");
    write_index(directory, "{}");
    expect_directory(directory, EMB_E_CORRUPT, "weight_map");
    write_index(directory, "{\"weight_map\":{\"a\":\"../part\"}}");
    expect_directory(directory, EMB_E_CORRUPT, "file names");
    write_index(directory, "{\"weight_map\":{\"a\":\"part\"}}");
    expect_directory(directory, EMB_E_NOT_FOUND, "part");
    write_file(directory, "part", file, length);
    expect_directory(directory, EMB_OK, NULL);
    write_index(directory, "{\"weight_map\":{\"a\":\"part\",\"b\":\"part\"}}");
    expect_directory(directory, EMB_E_CORRUPT, "b is not in the file");
    write_file(directory, "part2", file, length); /* the same tensor in two shards */
    write_index(directory, "{\"weight_map\":{\"a\":\"part\",\"b\":\"part2\"}}");
    expect_directory(directory, EMB_E_CORRUPT, "twice");
    write_file(directory, "model.safetensors", file, length - 1);
    expect_directory(directory, EMB_E_CORRUPT, "truncated");
    write_file(directory, "model.safetensors", file, length);
    expect_directory(directory, EMB_OK, NULL);
    free(file);
    snprintf(command, sizeof command, "rm -r %s", directory);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_header_length),
        cmocka_unit_test(test_directories),
    };
    emb_error err;
    if (emb_kernels_select("portable", &kernels, &err))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
