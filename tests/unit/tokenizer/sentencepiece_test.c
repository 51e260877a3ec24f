/* SentencePiece model files: ids as XLM-RoBERTa counts them, options, damage; and the published model. */
#include "base/buf.h"
#include "base/file.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- writing such files ---- */

static void put_bytes(emb_buf *out, int field, const void *bytes, size_t length)
{
    assert_true(length < 16384);
    char head[] = {(char)(field << 3 | 2), (char)((length & 127) | 128), (char)(length >> 7)};
    assert_int_equal(emb_buf_add(out, head, 3), EMB_OK);
    assert_int_equal(emb_buf_add(out, bytes, length), EMB_OK);
}

static void put_piece(emb_buf *out, const char *text, float score, int type)
{
    emb_buf piece = EMB_BUF_INIT(1 << 16);
    put_bytes(&piece, 1, text, strlen(text));
    assert_int_equal(emb_buf_add(&piece, "\x15", 1), EMB_OK);
    assert_int_equal(emb_buf_add(&piece, &score, 4), EMB_OK);
    assert_int_equal(emb_buf_add(&piece, (char[]){0x18, (char)type}, 2), EMB_OK);
    put_bytes(out, 1, piece.data, piece.length);
    emb_buf_fini(&piece);
}

static void put_flag(emb_buf *out, int number, int value)
{
    char bytes[3] = {(char)((number << 3) & 127), 0, 0};
    size_t length = 0;
    if (number >= 16) {
        bytes[length++] |= (char)128;
        bytes[length++] = (char)(number >> 4);
    } else {
        length++;
    }
    bytes[length++] = (char)value;
    assert_int_equal(emb_buf_add(out, bytes, length), EMB_OK);
}

static void put_model(emb_buf *out, int dummy_prefix, int remove_spaces, int type)
{
    emb_buf part = EMB_BUF_INIT(1 << 16);
    put_piece(out, "<unk>", 0, 2);
    put_piece(out, "<s>", 0, 3);
    put_piece(out, "</s>", 0, 3);
    put_piece(out, "\u2581a", -1.5f, 1);
    put_piece(out, "b", -2.25f, 1);
    put_piece(out, "\u2581", -3.0f, 1);
    put_piece(out, "a", -3.5f, 1);
    put_flag(&part, 3, type);
    put_flag(&part, 35, 0);
    put_bytes(out, 2, part.data, part.length);
    emb_buf_clear(&part);
    put_bytes(&part, 1, "identity", 8);
    put_flag(&part, 3, dummy_prefix);
    put_flag(&part, 4, remove_spaces);
    put_bytes(out, 3, part.data, part.length);
    emb_buf_fini(&part);
}

/* Encodes and prints the ids; a status if it fails. */
static const char *ids_of(const emb_buf *file, const char *text, char *out, size_t room)
{
    emb_tokenizer *t;
    emb_encoding e;
    emb_error err;
    char *json;
    size_t length, at = 0;
    emb_status status = emb_sentencepiece_json(file->data, file->length, "test.model", &json, &length, &err);
    if (status == EMB_OK) {
        status = emb_tokenizer_open_json(json, length, "test.model", &t, &err);
        free(json);
    }
    if (status != EMB_OK) {
        snprintf(out, room, "status %d", status);
        return out;
    }
    emb_encoding_init(&e);
    emb_encode_options options = {.add_special_tokens = true};
    assert_int_equal(emb_tokenizer_encode(t, text, strlen(text), &options, &e, &err), EMB_OK);
    for (size_t i = 0; i < e.count; i++)
        at += (size_t)snprintf(out + at, room - at, "%s%d", i ? " " : "", e.ids[i]);
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    return out;
}

static void ids_are_xlm_robertas(void **state)
{
    (void)state;
    emb_buf file = EMB_BUF_INIT(1 << 20);
    char out[256];
    put_model(&file, 1, 1, 1);
    /* 4 "\u2581a", 5 "b", 6 "\u2581", 7 "a", 8 "<mask>" */
    assert_string_equal(ids_of(&file, "ab  b <mask>x", out, sizeof out), "0 4 5 6 5 8 6 3 2");
    assert_string_equal(ids_of(&file, "", out, sizeof out), "0 2");
    emb_buf_clear(&file);
    put_model(&file, 0, 1, 1);
    assert_string_equal(ids_of(&file, " ab  a ", out, sizeof out), "0 7 5 4 2");
    emb_buf_clear(&file);
    put_model(&file, 1, 0, 1);
    assert_string_equal(ids_of(&file, "a  a", out, sizeof out), "0 4 6 4 2");
    emb_buf_clear(&file);
    put_model(&file, 1, 1, 2);
    assert_string_equal(ids_of(&file, "a", out, sizeof out), "status 4");
    emb_buf_fini(&file);
}

static void damage_is_noticed_or_harmless(void **state)
{
    (void)state;
    emb_buf file = EMB_BUF_INIT(1 << 20);
    char out[256];
    put_model(&file, 1, 1, 1);
    size_t whole = file.length;
    for (size_t n = 0; n < whole; n++) {
        file.length = n;
        ids_of(&file, "ab", out, sizeof out);
    }
    file.length = 1;
    assert_string_equal(ids_of(&file, "ab", out, sizeof out), "status 5");
    file.length = whole;
    for (size_t i = 0; i < whole; i++)
        for (int bit = 0; bit < 8; bit++) {
            file.data[i] ^= (char)(1 << bit);
            ids_of(&file, "ab", out, sizeof out);
            file.data[i] ^= (char)(1 << bit);
        }
    assert_string_equal(ids_of(&file, "ab", out, sizeof out), "0 4 5 2");
    emb_buf_fini(&file);
}

/* The published XLM-RoBERTa directory, where it lies beside the project: both forms give the same. */
static void published_model_equals_its_tokenizer_json(void **state)
{
    (void)state;
    const char *directory = EMB_SOURCE_DIR "/../shared/data/tokenizers/xlm-roberta";
    emb_error err;
    emb_mapping file;
    emb_tokenizer *json_form, *model_form;
    char *json, *path = emb_path_join(directory, "sentencepiece.bpe.model");
    size_t length;
    assert_non_null(path);
    if (!emb_is_file(path)) {
        print_message("skipped: no %s\n", path);
        free(path);
        skip();
    }
    assert_int_equal(emb_tokenizer_open(directory, &json_form, &err), EMB_OK);
    assert_int_equal(emb_mapping_open(&file, path, &err), EMB_OK);
    assert_int_equal(emb_sentencepiece_json(file.data, file.length, path, &json, &length, &err), EMB_OK);
    assert_int_equal(emb_tokenizer_open_json(json, length, path, &model_form, &err), EMB_OK);
    assert_int_equal(emb_tokenizer_vocab_size(model_form), 250002);
    for (int32_t id = 0; id < 250002; id++) {
        size_t n, m;
        const char *a = emb_tokenizer_token(json_form, id, &n), *b = emb_tokenizer_token(model_form, id, &m);
        if (n != m || memcmp(a, b, n) != 0)
            fail_msg("token %d is %.*s or %.*s", id, (int)n, a, (int)m, b);
    }
    /* Known ids of the published tokenizer. */
    static const char text[] = "Hello world! \u4f60\u597d, \u00e9t\u00e9 <mask>";
    static const int32_t expected[] = {0, 35378, 8999, 38, 6, 124084, 4, 5325, 250001, 2};
    emb_encoding a, b;
    emb_encode_options options = {.add_special_tokens = true};
    emb_encoding_init(&a);
    emb_encoding_init(&b);
    assert_int_equal(emb_tokenizer_encode(json_form, text, sizeof text - 1, &options, &a, &err), EMB_OK);
    assert_int_equal(emb_tokenizer_encode(model_form, text, sizeof text - 1, &options, &b, &err), EMB_OK);
    assert_int_equal(a.count, sizeof expected / sizeof expected[0]);
    assert_memory_equal(a.ids, expected, sizeof expected);
    assert_int_equal(b.count, a.count);
    assert_memory_equal(b.ids, a.ids, a.count * sizeof *a.ids);
    emb_encoding_fini(&a);
    emb_encoding_fini(&b);
    emb_tokenizer_close(json_form);
    emb_tokenizer_close(model_form);
    emb_mapping_close(&file);
    free(json);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_xlm_robertas),
        cmocka_unit_test(damage_is_noticed_or_harmless),
        cmocka_unit_test(published_model_equals_its_tokenizer_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
