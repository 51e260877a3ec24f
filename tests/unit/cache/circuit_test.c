/* The circuit's rules on a clock set by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/circuit.h"

#define MS UINT64_C(1000000)

static void test_opens_after_failures_in_a_row(void **state)
{
    (void)state;
    emb_circuit c = EMB_CIRCUIT_INIT;
    for (int i = 0; i < 10; i++) { /* an answer in between begins again */
        assert_false(emb_circuit_failed(&c, 0));
        assert_false(emb_circuit_failed(&c, 0));
        assert_false(emb_circuit_succeeded(&c, false));
    }
    assert_false(emb_circuit_failed(&c, 0));
    assert_false(emb_circuit_failed(&c, 0));
    assert_true(emb_circuit_failed(&c, 77));
    assert_true(c.open);
    assert_int_equal(c.opened_ns, 77);
    assert_false(emb_circuit_failed(&c, 100)); /* it is said once */
}

static void test_only_a_probe_closes(void **state)
{
    (void)state;
    emb_circuit c = EMB_CIRCUIT_INIT;
    while (!emb_circuit_failed(&c, 0)) {
    }
    assert_false(emb_circuit_succeeded(&c, false));
    assert_true(c.open);
    assert_true(emb_circuit_succeeded(&c, true));
    assert_false(c.open);
    assert_false(emb_circuit_failed(&c, 0)); /* counted from the start again */
    assert_false(emb_circuit_succeeded(&c, true));
}

static void test_waits_grow(void **state)
{
    (void)state;
    emb_circuit c = EMB_CIRCUIT_INIT;
    uint64_t now = 1000 * MS, expected = c.first_ms, least = UINT64_MAX, most = 0;
    while (!emb_circuit_failed(&c, now)) {
    }
    for (int i = 0; i < 100; i++) {
        uint64_t wait = c.probe_ns - now;
        assert_true(wait <= expected * MS && wait > expected * MS * 3 / 4 - MS);
        if (expected == c.longest_ms) {
            least = wait < least ? wait : least;
            most = wait > most ? wait : most;
        }
        now = c.probe_ns;
        emb_circuit_probe_failed(&c, now);
        expected = 2 * expected < c.longest_ms ? 2 * expected : c.longest_ms;
    }
    assert_int_equal(expected, 15000);
    assert_true(most - least > c.longest_ms * MS / 8); /* not all at once */
    assert_true(emb_circuit_succeeded(&c, true));
    while (!emb_circuit_failed(&c, now)) {
    }
    assert_true(c.probe_ns - now <= c.first_ms * MS); /* short again after it was back */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_after_failures_in_a_row),
        cmocka_unit_test(test_only_a_probe_closes),
        cmocka_unit_test(test_waits_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
