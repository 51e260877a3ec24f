/* The BPE model: merge order, characters that the vocabulary lacks, prefix and suffix, long words. */
#include "models_checks.h"

static void open_bpe(model_under_test *m, const char *json)
{
    emb_error err;
    if (open_model(m, emb_bpe_parse, json, &err) != EMB_OK)
        fail_msg("%s", err.message);
}

#define LETTERS \
    "\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"ab\":4,\"bc\":5,\"cd\":6,\"abc\":7,\"abcd\":8,\"aa\":9,\"aaaa\":10"

static void earlier_merges_go_first(void **state)
{
    (void)state;
    model_under_test m;
    open_bpe(&m, "{\"vocab\":{" LETTERS
                 "},\"merges\":[\"b c\",\"a b\",\"a bc\",\"abc d\",[\"c\",\"d\"],\"a a\",\"aa aa\"]}");
    assert_string_equal(m.model->kind, "BPE");
    assert_string_equal(tokens_of(&m, "abcd"), "8:0-4");
    assert_string_equal(tokens_of(&m, "abd"), "4:0-2 3:2-3");
    assert_string_equal(tokens_of(&m, "bcd"), "5:0-2 3:2-3"); /* b c is earlier than c d */
    assert_string_equal(tokens_of(&m, "cdcd"), "6:0-2 6:2-4");
    assert_string_equal(tokens_of(&m, "aaaaa"), "10:0-4 0:4-5");
    assert_string_equal(tokens_of(&m, "aaaaa"), "10:0-4 0:4-5"); /* from the cache */
    assert_string_equal(tokens_of(&m, "axb"), "4:0-2"); /* no unknown token: x is dropped before merging */
    assert_int_equal(m.model->size(m.model), 11);
    assert_int_equal(m.model->entries(m.model), 11);
    assert_int_equal(m.model->id(m.model, "cd", 2), 6);
    close_model(&m);
}

static void unknown_characters(void **state)
{
    (void)state;
    model_under_test m;
    open_bpe(&m, "{\"unk_token\":\"?\",\"vocab\":{\"?\":9,\"a\":0},\"merges\":[]}");
    assert_string_equal(tokens_of(&m, "xya\u00e9"), "9:0-1 9:1-2 0:2-3 9:3-5");
    close_model(&m);
    open_bpe(&m, "{\"unk_token\":\"?\",\"fuse_unk\":true,\"vocab\":{\"?\":9,\"a\":0},\"merges\":[]}");
    assert_string_equal(tokens_of(&m, "xya\u00e9"), "9:0-2 0:2-3 9:3-5");
    close_model(&m);
    open_bpe(&m, "{\"unk_token\":\"?\",\"vocab\":{\"a\":0},\"merges\":[]}");
    assert_string_equal(tokens_of(&m, "a"), "0:0-1");
    assert_string_equal(tokens_of(&m, "ax"), "status 5");
    close_model(&m);
    open_bpe(&m, "{\"unk_token\":\"?\",\"byte_fallback\":true,\"fuse_unk\":true,\"vocab\":{\"?\":9,\"a\":0,"
                 "\"<0xC3>\":1,"
                 "\"<0xA9>\":2},\"merges\":[]}");
    assert_string_equal(tokens_of(&m, "a\u00e9x"), "0:0-1 1:1-2 2:2-3 9:3-4");
    /* A waiting unknown token comes behind the bytes. */
    assert_string_equal(tokens_of(&m, "x\u00e9a"), "1:0-1 2:1-2 9:2-3 0:3-4");
    close_model(&m);
}

static void prefix_and_suffix(void **state)
{
    (void)state;
    model_under_test m;
    open_bpe(&m, "{\"continuing_subword_prefix\":\"##\",\"end_of_word_suffix\":\"</"
                 "w>\",\"unk_token\":\"?\",\"vocab\":{"
                 "\"?\":0,\"a\":1,\"##b\":2,\"##c</w>\":3,\"ab\":4,\"abc</w>\":5,\"a</w>\":6,\"##bc</w>\":7},"
                 "\"merges\":[\"a ##b\",\"ab ##c</w>\"]}");
    assert_string_equal(tokens_of(&m, "abc"), "5:0-3");
    assert_string_equal(tokens_of(&m, "a"), "6:0-1");
    assert_string_equal(tokens_of(&m, "aba"), "4:0-2 0:2-3");
    close_model(&m);
}

static void whole_words_may_skip_merging(void **state)
{
    (void)state;
    model_under_test m;
    open_bpe(&m, "{\"vocab\":{" LETTERS "},\"merges\":[],\"ignore_merges\":true}");
    assert_string_equal(tokens_of(&m, "abcd"), "8:0-4");
    assert_string_equal(tokens_of(&m, "abcda"), "0:0-1 1:1-2 2:2-3 3:3-4 0:4-5");
    close_model(&m);
}

static void broken_models_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "{\"vocab\":{\"a\":0}}",
        "{\"vocab\":{\"a\":0},\"merges\":{}}",
        "{\"vocab\":{\"a\":0},\"merges\":[1]}",
        "{\"vocab\":{\"a\":0},\"merges\":[\"a\"]}",
        "{\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]}",
        "{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}",
        "{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}",
        "{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}",
        "{\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\",\"a\"]]}",
        "{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":1}",
        "{\"vocab\":{\"a\":0},\"merges\":[],\"fuse_unk\":1}",
        "{\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\"],\"continuing_subword_prefix\":\"##\"}",
    };
    model_under_test m;
    emb_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (open_model(&m, emb_bpe_parse, bad[i], &err) != EMB_E_CORRUPT)
            fail_msg("accepted: %s", bad[i]);
        assert_string_equal(err.where, "test");
    }
    assert_int_equal(open_model(&m, emb_bpe_parse, "{\"dropout\":0.1,\"vocab\":{},\"merges\":[]}", &err),
                     EMB_E_UNSUPPORTED);
}

/* Against merging by hand: the earliest rank, leftmost first, over and over. */
static void heap_gives_what_repeated_search_gives(void **state)
{
    (void)state;
    static const char *const merges[] = {"ab", "ba", "bb", "aba", "abba", "bab", "bbbb", "babab"};
    static const char *const pairs[][2] = {{"a", "b"},   {"b", "a"},  {"b", "b"},   {"ab", "a"},
                                           {"ab", "ba"}, {"b", "ab"}, {"bb", "bb"}, {"bab", "ab"}};
    model_under_test m;
    open_bpe(&m, "{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"ba\":3,\"bb\":4,\"aba\":5,\"abba\":6,\"bab\":7,"
                 "\"bbbb\":8,\"babab\":9},"
                 "\"merges\":[\"a b\",\"b a\",\"b b\",\"ab a\",\"ab ba\",\"b ab\",\"bb bb\",\"bab ab\"]}");
    for (uint32_t bits = 0; bits < 1u << 14; bits++) {
        char word[16], parts[16][8], expected[512] = "";
        int count = 14;
        for (int i = 0; i < 14; i++) {
            word[i] = (char)(bits >> i & 1 ? 'b' : 'a');
            snprintf(parts[i], sizeof parts[i], "%c", word[i]);
        }
        word[14] = 0;
        for (int rank = 0; rank < 8;) {
            int at = 0;
            while (at + 1 < count &&
                   (strcmp(parts[at], pairs[rank][0]) || strcmp(parts[at + 1], pairs[rank][1])))
                at++;
            if (at + 1 >= count) {
                rank++;
                continue;
            }
            snprintf(parts[at], sizeof parts[at], "%s", merges[rank]);
            memmove(parts[at + 1], parts[at + 2], sizeof parts[0] * (size_t)(count - at - 2));
            count--;
            rank = 0;
        }
        int begin = 0;
        for (int i = 0; i < count; i++) {
            int id = parts[i][1] == 0 ? parts[i][0] - 'a' : 0;
            for (int k = 0; k < 8; k++)
                if (strcmp(parts[i], merges[k]) == 0)
                    id = 2 + k;
            int length = (int)strlen(parts[i]);
            snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%d:%d-%d",
                     i ? " " : "", id, begin, begin + length);
            begin += length;
        }
        assert_string_equal(tokens_of(&m, word), expected);
    }
    close_model(&m);
}

static void long_words_take_no_square(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    model_under_test m;
    emb_error err;
    open_bpe(&m, "{\"vocab\":{" LETTERS "},\"merges\":[\"a a\",\"aa aa\"]}");
    char *text = malloc(N);
    memset(text, 'a', N);
    assert_int_equal(m.model->tokenize(m.model, text, N, 0, &m.scratch, &m.sink, &err), EMB_OK);
    assert_int_equal(m.sink.count, N / 4);
    free(text);
    close_model(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(earlier_merges_go_first),   cmocka_unit_test(unknown_characters),
        cmocka_unit_test(prefix_and_suffix),         cmocka_unit_test(whole_words_may_skip_merging),
        cmocka_unit_test(broken_models_are_refused), cmocka_unit_test(heap_gives_what_repeated_search_gives),
        cmocka_unit_test(long_words_take_no_square),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
