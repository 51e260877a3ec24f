/* The double-array trie against a list. */
#include "tokenizer/trie.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 3000, LONGEST = 12 };

static uint64_t random_state = 88172645463325252u;

static unsigned pick(unsigned below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state % below);
}

/* The value that the last of equal keys has, -1 for none. */
static int32_t find_slowly(const emb_trie_key *keys, size_t count, const char *text, size_t length)
{
    int32_t found = -1;
    for (size_t i = 0; i < count; i++)
        if (keys[i].length == length && memcmp(keys[i].text, text, length) == 0)
            found = keys[i].value;
    return found;
}

static void check_random(unsigned alphabet)
{
    static char texts[KEYS][LONGEST];
    static emb_trie_key keys[KEYS];
    emb_trie trie;
    for (size_t i = 0; i < KEYS; i++) {
        keys[i] = (emb_trie_key){texts[i], pick(LONGEST + 1), (int32_t)pick(1u << 30)};
        for (size_t j = 0; j < LONGEST; j++)
            texts[i][j] = (char)(pick(alphabet) * (256 / alphabet));
    }
    assert_int_equal(emb_trie_build(&trie, keys, KEYS), EMB_OK);
    for (size_t i = 0; i < KEYS; i++) {
        assert_int_equal(emb_trie_find(&trie, keys[i].text, keys[i].length),
                         find_slowly(keys, KEYS, keys[i].text, keys[i].length));
        char other[LONGEST];
        size_t length = pick(LONGEST + 1);
        for (size_t j = 0; j < LONGEST; j++)
            other[j] = (char)(pick(alphabet) * (256 / alphabet));
        assert_int_equal(emb_trie_find(&trie, other, length), find_slowly(keys, KEYS, other, length));
    }
    emb_trie_fini(&trie);
}

static void test_random(void **state)
{
    (void)state;
    check_random(1); /* NUL bytes only */
    check_random(2);
    check_random(16);
    check_random(256);
}

/* From every node no byte leads anywhere but to a child. */
static void test_steps_stay_inside(void **state)
{
    const emb_trie_key keys[] = {{"a", 1, 1}, {"\xff\xff", 2, 2}, {"ab", 2, 3}, {"\0", 1, 4}};
    emb_trie trie;
    size_t edges = 0;
    (void)state;
    assert_int_equal(emb_trie_build(&trie, keys, 4), EMB_OK);
    for (size_t node = 0; node < trie.count; node++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            assert_true((trie.nodes[node].base ^ byte) < trie.count);
            edges += emb_trie_step(&trie, (uint32_t)node, (unsigned char)byte) != 0;
        }
    }
    assert_int_equal(edges, 5);
    emb_trie_fini(&trie);
}

static void test_empty(void **state)
{
    emb_trie trie;
    uint32_t node;
    (void)state;
    assert_int_equal(emb_trie_build(&trie, NULL, 0), EMB_OK);
    assert_int_equal(emb_trie_find(&trie, "", 0), -1);
    assert_int_equal(emb_trie_find(&trie, "x", 1), -1);
    assert_true(emb_trie_prefix(&trie, "", 0, &node));
    assert_false(emb_trie_prefix(&trie, "x", 1, &node));
    emb_trie_fini(&trie);
    assert_int_equal(emb_trie_build(&trie, &(emb_trie_key){"", 0, 7}, 1), EMB_OK);
    assert_int_equal(emb_trie_find(&trie, "", 0), 7);
    emb_trie_fini(&trie);
}

static void test_long_key(void **state)
{
    static char text[100000];
    emb_trie trie;
    (void)state;
    memset(text, 'x', sizeof text);
    assert_int_equal(emb_trie_build(&trie, &(emb_trie_key){text, sizeof text, 5}, 1), EMB_OK);
    assert_int_equal(emb_trie_find(&trie, text, sizeof text), 5);
    assert_int_equal(emb_trie_find(&trie, text, sizeof text - 1), -1);
    emb_trie_fini(&trie);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random),
                                       cmocka_unit_test(test_steps_stay_inside), cmocka_unit_test(test_empty),
                                       cmocka_unit_test(test_long_key)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
