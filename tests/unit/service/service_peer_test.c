/* The spaces of another embedd: what follows from the one that it said, and what is no space. */
#include "service/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <cmocka.h>

static emb_peer *open_peer(const char *space)
{
    emb_peer *p;
    emb_error err;
    assert_int_equal(emb_peer_open(&p, &err), EMB_OK);
    if (space)
        emb_peer_learn(p, space);
    return p;
}

static void follows(const char *said, size_t dimensions, emb_switch normalize, const char *expected)
{
    char space[EMB_PROVIDER_SPACE_BYTES];
    emb_peer *p = open_peer(said);
    assert_true(emb_peer_is_known(p));
    assert_int_equal(emb_peer_space(p, dimensions, normalize, space), expected != NULL);
    if (expected)
        assert_string_equal(space, expected);
    emb_peer_close(p);
}

static void test_follows(void **state)
{
    (void)state;
    const char *unit = "local/org/m@0123:384:mean:l2", *raw = "local/m@0123:384:cls:none",
               *remote = "openai/m@api:1536:remote:api";
    follows(unit, 0, EMB_DEFAULT, unit);
    follows(unit, 384, EMB_ON, unit);
    follows(unit, 64, EMB_DEFAULT, "local/org/m@0123:64:mean:l2");
    follows(unit, 64, EMB_OFF, "local/org/m@0123:64:mean:none");
    follows(raw, 0, EMB_OFF, raw);
    follows(raw, 0, EMB_ON, "local/m@0123:384:cls:l2");
    follows(remote, 0, EMB_OFF, remote);
    follows(remote, 256, EMB_ON, "openai/m@api:256:remote:l2");
    follows("o/m@a:b:8:mean:l2", 4, EMB_DEFAULT, "o/m@a:b:4:mean:l2"); /* a revision may have colons */
}

static void test_no_space(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "x",
                                        "local/m",
                                        "local/m@1",
                                        "local/m@1:8",
                                        "a@b/c:8:d:e",
                                        "o/m@1::mean:l2",
                                        "o/m@1:x8:mean:l2",
                                        "o/m@8:mean:l2",
                                        ":::",
                                        "/@:::"};
    char long_one[EMB_PROVIDER_SPACE_BYTES + 32];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        follows(texts[i], 0, EMB_DEFAULT, NULL);
    memset(long_one, 'm', sizeof long_one);
    memcpy(long_one, "o/", 2);
    strcpy(long_one + sizeof long_one - 16, "@1:8:mean:l2");
    follows(long_one, 0, EMB_DEFAULT, NULL);
}

static void test_forget(void **state)
{
    (void)state;
    char space[EMB_PROVIDER_SPACE_BYTES];
    emb_peer *p = open_peer(NULL);
    assert_false(emb_peer_is_known(p));
    assert_false(emb_peer_space(p, 0, EMB_DEFAULT, space));
    emb_peer_learn(p, "local/m@2:8:mean:l2");
    emb_peer_forget(p, "local/m@1:8:mean:l2"); /* an older one: somebody has learned meanwhile */
    assert_true(emb_peer_is_known(p));
    emb_peer_forget(p, "local/m@2:4:mean:none"); /* the same with other settings */
    assert_false(emb_peer_is_known(p));
    emb_peer_learn(p, "");
    emb_peer_forget(p, NULL);
    assert_false(emb_peer_is_known(p));
    emb_peer_close(p);
    emb_peer_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_follows),
        cmocka_unit_test(test_no_space),
        cmocka_unit_test(test_forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
