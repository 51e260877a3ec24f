/* L1's hit rates beside those of an LRU of the same size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/cache_traces.h"

#include <stdio.h>

enum { KEYS = 20000, LENGTH = 300000 };

static const size_t SIZES[] = {100, 200, 1000, 2000, 4000};

/* At least LRU's rate plus `margin`, at every size. */
static void compare(cache_trace_kind kind, const char *name, double alpha, double margin)
{
    cache_trace *t = cache_trace_make(kind, alpha, KEYS, LENGTH, 7);
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        double lru = cache_trace_lru(t, SIZES[i]), l1 = cache_trace_l1(t, SIZES[i]);
        printf("%-22s alpha %.1f size %5zu: LRU %5.2f %%, L1 %5.2f %%\n", name, alpha, SIZES[i], 100 * lru,
               100 * l1);
        if (l1 < lru + margin)
            fail_msg("%s, alpha %.1f, %zu entries: LRU %.4f, L1 %.4f", name, alpha, SIZES[i], lru, l1);
    }
    cache_trace_free(t);
}

static void test_zipf(void **state)
{
    (void)state;
    compare(TRACE_ZIPF, "zipf", 0.6, 0);
    compare(TRACE_ZIPF, "zipf", 0.8, 0.02);
    compare(TRACE_ZIPF, "zipf", 1.0, 0.01);
    compare(TRACE_ZIPF, "zipf", 1.2, 0);
}

static void test_scans(void **state)
{
    (void)state;
    compare(TRACE_ZIPF_AND_SCANS, "zipf with scans", 0.8, 0.02);
    compare(TRACE_ZIPF_AND_SCANS, "zipf with scans", 1.0, 0.01);
}

static void test_loop(void **state)
{
    (void)state;
    compare(TRACE_LOOP, "loop", 0, 0); /* LRU finds nothing in it */
}

static void test_shift(void **state)
{
    (void)state;
    /* every key is replaced after 30,000 requests: a small cache follows faster than LRU, one of 4,000
     * entries, which a set serves 7 times an entry before the next one comes, is up to 5 points behind */
    compare(TRACE_SHIFT, "shifting working set", 0.8, -0.05);
    compare(TRACE_SHIFT, "shifting working set", 1.0, -0.05);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zipf),
        cmocka_unit_test(test_scans),
        cmocka_unit_test(test_loop),
        cmocka_unit_test(test_shift),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
