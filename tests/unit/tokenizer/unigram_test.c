/* The Unigram model: best path, unknown characters, ties, and its trie against a plain search. */
#include "models_checks.h"
#include "tokenizer/piece_trie.h"

static void open_unigram(model_under_test *m, const char *json)
{
    emb_error err;
    if (open_model(m, emb_unigram_parse, json, &err) != EMB_OK)
        fail_msg("%s", err.message);
}

static void best_path_wins(void **state)
{
    (void)state;
    model_under_test m;
    open_unigram(&m,
                 "{\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",0],[\"b\",0],[\"c\",0],[\"d\",0],[\"cd\",1],"
                 "[\"ab\",2],[\"abc\",5],[\"abcd\",10]]}");
    assert_string_equal(m.model->kind, "Unigram");
    assert_string_equal(tokens_of(&m, "abcdacdxx"), "8:0-4 1:4-5 5:5-7 0:7-9");
    assert_string_equal(tokens_of(&m, "abcdacdxx"), "8:0-4 1:4-5 5:5-7 0:7-9"); /* from the cache */
    assert_string_equal(tokens_of(&m, "\u00e9a\u00e9\u65e5"), "0:0-2 1:2-3 0:3-8");
    assert_string_equal(tokens_of(&m, "<unk>x"), "0:0-6");
    assert_string_equal(tokens_of(&m, ""), "");
    assert_int_equal(m.model->size(m.model), 9);
    assert_int_equal(m.model->id(m.model, "abc", 3), 7);
    assert_int_equal(m.model->id(m.model, "abce", 4), -1);
    size_t length;
    assert_memory_equal(m.model->token(m.model, 8, &length), "abcd", 4);
    assert_int_equal(length, 4);
    assert_null(m.model->token(m.model, 9, &length));
    assert_null(m.model->token(m.model, -1, &length));
    close_model(&m);
}

static void earlier_start_keeps_ties_and_the_last_duplicate_counts(void **state)
{
    (void)state;
    model_under_test m;
    /* "abc": a+bc and ab+c sum alike; the path found first, which ends in c from ab's end, needs more. */
    open_unigram(
        &m,
        "{\"unk_id\":0,\"vocab\":[[\"<unk>\",-9],[\"a\",-1],[\"bc\",-2],[\"ab\",-2],[\"c\",-1],[\"b\",-5]]}");
    assert_string_equal(tokens_of(&m, "abc"), "1:0-1 2:1-3");
    close_model(&m);
    open_unigram(&m, "{\"unk_id\":0,\"vocab\":[[\"<unk>\",-9],[\"a\",-1],[\"a\",-3]]}");
    assert_string_equal(tokens_of(&m, "a"), "2:0-1");
    close_model(&m);
}

static void bytes_stand_in_for_unknown_characters(void **state)
{
    (void)state;
    model_under_test m;
    open_unigram(&m, "{\"unk_id\":0,\"byte_fallback\":true,\"vocab\":[[\"<unk>\",0],[\"<0xC3>\",0],[\"<0xA9>"
                     "\",0],[\"a\",-1]]}");
    assert_string_equal(tokens_of(&m, "a\u00e9"), "3:0-1 1:1-3 2:1-3");
    assert_string_equal(tokens_of(&m, "a\u00e9\u00e8"),
                        "3:0-1 0:1-5"); /* one byte is missing: none is used */
    close_model(&m);
}

static void fused_unknowns_may_be_a_piece(void **state)
{
    (void)state;
    model_under_test m;
    /* All scores are high, so two unknown characters beat the piece of both; its id is found again. */
    open_unigram(&m, "{\"unk_id\":0,\"vocab\":[[\"<unk>\",100],[\"xy\",100]]}");
    assert_string_equal(tokens_of(&m, "xy"), "1:0-2");
    assert_string_equal(tokens_of(&m, "yx"), "0:0-2");
    close_model(&m);
}

static void without_unknown_token_it_is_an_error(void **state)
{
    (void)state;
    model_under_test m;
    open_unigram(&m, "{\"unk_id\":null,\"vocab\":[[\"a\",-1],[\"ab\",-2]]}");
    assert_string_equal(tokens_of(&m, "aab"), "0:0-1 1:1-3");
    assert_string_equal(tokens_of(&m, "abb"), "status 2");
    close_model(&m);
}

static void broken_vocabularies_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "{\"vocab\":{}}",
        "{\"vocab\":[\"a\"]}",
        "{\"vocab\":[[\"a\"]]}",
        "{\"vocab\":[[1,2]]}",
        "{\"vocab\":[[\"a\",\"b\"]]}",
        "{\"vocab\":[[\"a\",1]],\"unk_id\":1}",
        "{\"vocab\":[[\"a\",1]],\"unk_id\":-1}",
        "{\"vocab\":[],\"unk_id\":0}",
        "{\"vocab\":[[\"a\",1]],\"unk_id\":\"a\"}",
        "{\"vocab\":[[\"a\",1]],\"byte_fallback\":1}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        model_under_test m;
        emb_error err;
        assert_int_equal(open_model(&m, emb_unigram_parse, bad[i], &err), EMB_E_CORRUPT);
        assert_string_equal(err.where, "test");
    }
}

static void long_texts_are_linear(void **state)
{
    (void)state;
    enum { N = 4000000 };
    model_under_test m;
    emb_error err;
    open_unigram(&m, "{\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-1],[\"aa\",-1.5],[\"aaaaaaaa\",-2]]}");
    char *text = malloc(N);
    memset(text, 'a', N);
    assert_int_equal(m.model->tokenize(m.model, text, N, 0, &m.scratch, &m.sink, &err), EMB_OK);
    assert_int_equal(m.sink.count, N / 8);
    free(text);
    close_model(&m);
}

/* ---- the trie ---- */

enum { KEYS = 3000 };

static void trie_finds_what_a_plain_search_finds(void **state)
{
    (void)state;
    static char text[KEYS * 12];
    static uint32_t begins[KEYS + 1];
    uint32_t at = 0, random = 1;
    for (int i = 0; i < KEYS; i++) {
        begins[i] = at;
        random = random * 1664525u + 1013904223u;
        uint32_t length = (random >> 20) % 12;
        for (uint32_t j = 0; j < length; j++) {
            random = random * 1664525u + 1013904223u;
            /* few letters, so that prefixes are shared, and now and then a far byte */
            text[at++] = (char)(random >> 28 ? 'a' + (random >> 22) % 3 : random >> 16);
        }
    }
    begins[KEYS] = at;
    emb_piece_trie trie;
    assert_int_equal(emb_piece_trie_build(&trie, text, begins, KEYS), EMB_OK);
    for (uint32_t start = 0; start + 20 < at; start += 7) {
        emb_piece_walk walk = emb_piece_walk_begin(&trie, text + start, 20);
        for (uint32_t length = 1; length <= 20; length++) {
            int32_t expected = -1;
            for (int i = 0; i < KEYS; i++)
                if (begins[i + 1] - begins[i] == length &&
                    memcmp(text + begins[i], text + start, length) == 0)
                    expected = i;
            assert_int_equal(emb_piece_trie_find(&trie, text + start, length), expected);
            if (expected >= 0) {
                assert_true(emb_piece_walk_next(&walk));
                assert_int_equal(walk.id, expected);
                assert_int_equal(walk.length, length);
            }
        }
        assert_false(emb_piece_walk_next(&walk));
    }
    emb_piece_trie_fini(&trie);
    assert_int_equal(emb_piece_trie_build(&trie, text, begins, 0), EMB_OK);
    assert_int_equal(emb_piece_trie_find(&trie, "a", 1), -1);
    emb_piece_trie_fini(&trie);
}

static void deep_and_wide_tries_build(void **state)
{
    (void)state;
    /* Two pieces that differ in their last byte only, behind 100,000 shared ones, and all single bytes. */
    enum { DEPTH = 100000 };
    char *text = malloc(2 * (DEPTH + 1) + 256);
    static uint32_t begins[259];
    memset(text, 'x', 2 * (DEPTH + 1));
    text[DEPTH] = 'a';
    text[2 * DEPTH + 1] = 'b';
    begins[1] = DEPTH + 1;
    for (uint32_t i = 0; i < 257; i++)
        begins[2 + i] = 2 * (DEPTH + 1) + i;
    for (int i = 0; i < 256; i++)
        text[2 * (DEPTH + 1) + i] = (char)i;
    emb_piece_trie trie;
    assert_int_equal(emb_piece_trie_build(&trie, text, begins, 258), EMB_OK);
    assert_int_equal(emb_piece_trie_find(&trie, text, DEPTH + 1), 0);
    assert_int_equal(emb_piece_trie_find(&trie, text + DEPTH + 1, DEPTH + 1), 1);
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        assert_int_equal(emb_piece_trie_find(&trie, &byte, 1), 2 + i);
    }
    emb_piece_trie_fini(&trie);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_path_wins),
        cmocka_unit_test(earlier_start_keeps_ties_and_the_last_duplicate_counts),
        cmocka_unit_test(bytes_stand_in_for_unknown_characters),
        cmocka_unit_test(fused_unknowns_may_be_a_piece),
        cmocka_unit_test(without_unknown_token_it_is_an_error),
        cmocka_unit_test(broken_vocabularies_are_refused),
        cmocka_unit_test(long_texts_are_linear),
        cmocka_unit_test(trie_finds_what_a_plain_search_finds),
        cmocka_unit_test(deep_and_wide_tries_build),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
