/* crypto_test.c: SHA-256 against FIPS 180-2's examples, and what must be
 * refused. */
#include "crypto/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void check_digest(const uint8_t digest[32], const char *want)
{
    char hex[65];
    emb_hex(digest, 32, hex);
    assert_string_equal(hex, want);
}

static void test_sha256(void **state)
{
    (void)state;
    uint8_t digest[32];
    assert_true(emb_sha256("abc", 3, digest));
    check_digest(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_true(emb_sha256("", 0, digest));
    check_digest(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_true(emb_sha256_pieces((emb_bytes[]){{"a", 1}, {NULL, 0}, {"bc", 2}}, 3, digest));
    check_digest(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    emb_sha256_state *s = emb_sha256_open();
    assert_non_null(s);
    for (int round = 0; round < 2; round++) {
        char block[1000];
        memset(block, 'a', sizeof block);
        for (int i = 0; i < 1000; i++)
            emb_sha256_add(s, block, sizeof block);
        emb_sha256_end(s, digest);
        check_digest(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
    emb_sha256_close(s);
    emb_sha256_close(NULL);
}

static void test_hex_and_compare(void **state)
{
    (void)state;
    unsigned char out[4];
    assert_true(emb_unhex("00fFa5", out, 3));
    assert_memory_equal(out, "\x00\xff\xa5", 3);
    assert_false(emb_unhex("0g", out, 1));
    assert_false(emb_unhex("0", out, 1));
    assert_true(emb_equal_in_constant_time("abc", "abc", 3));
    assert_false(emb_equal_in_constant_time("abc", "abd", 3));
    unsigned char a[16] = {0}, b[16] = {0};
    assert_true(emb_random_bytes(a, sizeof a) && emb_random_bytes(b, sizeof b));
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sha256), cmocka_unit_test(test_hex_and_compare)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
