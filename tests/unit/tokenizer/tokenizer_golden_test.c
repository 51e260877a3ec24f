/* Tokenizations that the reference made (tests/data/tokenizers), on both paths through the tokenizer. */
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static emb_json *open_golden(const char *name)
{
    emb_error err;
    emb_json *doc;
    char *path = emb_path_join(EMB_TEST_DATA "/tokenizers", name);
    assert_non_null(path);
    if (emb_json_open_file(path, (size_t)64 << 20, &doc, &err) != EMB_OK)
        fail_msg("%s: %s", err.where, err.message);
    free(path);
    return doc;
}

static emb_json_value get(emb_json_value object, const char *key)
{
    emb_json_value value;
    if (!emb_json_get(object, key, &value))
        fail_msg("no member %s", key);
    return value;
}

/* The next element of an array. */
static emb_json_value next(emb_json_iter *it)
{
    const char *key;
    size_t length;
    emb_json_value value;
    assert_true(emb_json_next(it, &key, &length, &value));
    return value;
}

static int64_t next_int(emb_json_iter *it)
{
    int64_t number;
    assert_true(emb_json_int(next(it), &number));
    return number;
}

/* Encodes with and without offsets; false, with what differs printed, where that is not as expected. */
static bool agrees(const emb_tokenizer *t, const char *name, const char *text, size_t length,
                   emb_json_value ids, emb_json_value offsets, emb_encoding *e)
{
    emb_error err;
    emb_encode_options options = {.add_special_tokens = true, .offsets = true};
    size_t count = emb_json_count(ids);
    if (emb_tokenizer_encode(t, text, length, &options, e, &err) != EMB_OK)
        fail_msg("%s: %s: %s", name, err.where, err.message);
    bool same = e->count == count;
    emb_json_iter id = emb_json_begin(ids), offset = emb_json_begin(offsets);
    for (size_t i = 0; i < count && same; i++) {
        int64_t want_id = next_int(&id), want_start = next_int(&offset), want_end = next_int(&offset);
        same = e->ids[i] == want_id && e->starts[i] == want_start && e->ends[i] == want_end;
        if (!same)
            print_error("token %zu is %d [%u, %u), expected %d [%d, %d)\n", i, e->ids[i], e->starts[i],
                        e->ends[i], (int)want_id, (int)want_start, (int)want_end);
    }
    options.offsets = false;
    if (emb_tokenizer_encode(t, text, length, &options, e, &err) != EMB_OK)
        fail_msg("%s: %s: %s", name, err.where, err.message);
    same = same && e->count == count;
    id = emb_json_begin(ids);
    for (size_t i = 0; i < count && same; i++)
        same = e->ids[i] == next_int(&id);
    if (!same)
        print_error("%s: \"%.*s\": %zu tokens, %zu expected\n", name, (int)length, text, e->count, count);
    return same;
}

static void test_minilm(void **state)
{
    emb_tokenizer *t;
    emb_encoding e;
    emb_error err;
    size_t wrong = 0, count = 0;
    (void)state;
    emb_json *golden = open_golden("minilm.json");
    if (emb_tokenizer_open(EMB_SOURCE_DIR "/models/all-MiniLM-L6-v2", &t, &err) != EMB_OK)
        fail_msg("%s: %s", err.where, err.message);
    emb_encoding_init(&e);
    emb_json_value cases = get(emb_json_root(golden), "cases"), item;
    const char *key, *text;
    size_t key_length, length;
    for (emb_json_iter it = emb_json_begin(cases); emb_json_next(&it, &key, &key_length, &item); count++) {
        emb_json_iter parts = emb_json_begin(item);
        assert_true(emb_json_string(next(&parts), &text, &length));
        emb_json_value ids = next(&parts), offsets = next(&parts);
        wrong += !agrees(t, "minilm", text, length, ids, offsets, &e);
    }
    assert_true(count > 2000);
    assert_int_equal(wrong, 0);
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    emb_json_close(golden);
}

/* The text of a variant's tokenizer.json. */
static void put_vocab(emb_buf *out, const char *tokenizer, size_t length, const char *vocab,
                      size_t vocab_length)
{
    static const char mark[] = "@VOCAB@";
    const char *at = memmem(tokenizer, length, mark, strlen(mark));
    assert_non_null(at);
    emb_buf_clear(out);
    assert_int_equal(emb_buf_add(out, tokenizer, (size_t)(at - tokenizer)), EMB_OK);
    assert_int_equal(emb_buf_add(out, vocab, vocab_length), EMB_OK);
    at += strlen(mark);
    assert_int_equal(emb_buf_add(out, at, length - (size_t)(at - tokenizer)), EMB_OK);
}

static emb_json_value element(emb_json_value array, int64_t index)
{
    emb_json_iter it = emb_json_begin(array);
    for (; index > 0; index--)
        next(&it);
    return next(&it);
}

/* Number of texts that come out differently. */
static size_t check_variant(emb_json_value variant, emb_json_value vocabs, emb_json_value texts, emb_buf *buf,
                            emb_encoding *e)
{
    const char *name, *tokenizer, *vocab, *text, *key;
    size_t name_length, tokenizer_length, vocab_length, length, wrong = 0;
    int64_t index;
    emb_tokenizer *t;
    emb_error err;
    emb_json_value item;
    assert_true(emb_json_string(get(variant, "name"), &name, &name_length));
    assert_true(emb_json_string(get(variant, "tokenizer"), &tokenizer, &tokenizer_length));
    assert_true(emb_json_int(get(variant, "vocab"), &index));
    assert_true(emb_json_string(element(vocabs, index), &vocab, &vocab_length));
    put_vocab(buf, tokenizer, tokenizer_length, vocab, vocab_length);
    char short_name[80];
    snprintf(short_name, sizeof short_name, "%.*s", (int)name_length, name);
    if (emb_tokenizer_open_json(buf->data, buf->length, short_name, &t, &err) != EMB_OK)
        fail_msg("%s: %s", err.where, err.message);
    emb_json_iter result = emb_json_begin(get(variant, "results"));
    for (emb_json_iter it = emb_json_begin(texts); emb_json_next(&it, &key, &length, &item);) {
        assert_true(emb_json_string(item, &text, &length));
        emb_json_iter parts = emb_json_begin(next(&result));
        emb_json_value ids = next(&parts), offsets = next(&parts);
        wrong += !agrees(t, short_name, text, length, ids, offsets, e);
    }
    emb_tokenizer_close(t);
    return wrong;
}

static void test_variants(void **state)
{
    emb_json *golden = open_golden("variants.json");
    emb_json_value root = emb_json_root(golden), variant;
    emb_json_value vocabs = get(root, "vocabs"), texts = get(root, "texts"), variants = get(root, "variants");
    emb_buf buf = EMB_BUF_INIT((size_t)1 << 24);
    emb_encoding e; /* shared by all: what it keeps for one tokenizer must not serve another */
    const char *key;
    size_t length, wrong = 0, count = 0;
    (void)state;
    emb_encoding_init(&e);
    for (emb_json_iter it = emb_json_begin(variants); emb_json_next(&it, &key, &length, &variant); count++)
        wrong += check_variant(variant, vocabs, texts, &buf, &e);
    assert_true(count > 150);
    assert_int_equal(wrong, 0);
    emb_encoding_fini(&e);
    emb_buf_fini(&buf);
    emb_json_close(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_minilm), cmocka_unit_test(test_variants)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
