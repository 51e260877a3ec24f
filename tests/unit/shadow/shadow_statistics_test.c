/* Intervals that cover what they say, simulated; ranks with ties against values worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shadow/shadow.h"

#include <math.h>

enum { SIMULATIONS = 2500, ROUNDS = 400, MOST = 200 };

static uint64_t state;

static double uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}

/* Cosines as they are: crowded under 1 with a tail below. Mean 1 - 0.04. */
static double skewed(void)
{
    return 1 + 0.04 * log(1 - uniform());
}

static double even(void)
{
    return uniform();
}

/* Shares of tenths, as neighbour overlaps are. Mean 0.7. */
static double tenths(void)
{
    double sum = 0;
    for (int i = 0; i < 10; i++)
        sum += uniform() < 0.7;
    return sum / 10;
}

static double coverage(double (*value)(void), double mean, size_t count)
{
    double values[MOST];
    int covered = 0;
    for (int i = 0; i < SIMULATIONS; i++) {
        for (size_t j = 0; j < count; j++)
            values[j] = value();
        emb_shadow_interval in = emb_bootstrap_mean(values, count, ROUNDS, (uint64_t)i);
        covered += in.low <= mean && mean <= in.high;
    }
    return (double)covered / SIMULATIONS;
}

static void check_coverage(const char *what, double share, double low, double high)
{
    print_message("%-24s covers %.4f\n", what, share);
    if (share < low || share > high)
        fail_msg("%s: coverage %.4f is not within %.3f and %.3f", what, share, low, high);
}

/* 95 % ± 3 standard deviations of 2,500 simulations is 93.7 to 96.3; skew at 30 values costs a point. */
static void test_bootstrap_coverage(void **unused)
{
    (void)unused;
    state = 42;
    check_coverage("even, 20", coverage(even, 0.5, 20), 0.935, 0.965);
    check_coverage("even, 200", coverage(even, 0.5, 200), 0.935, 0.965);
    check_coverage("tenths, 50", coverage(tenths, 0.7, 50), 0.935, 0.965);
    check_coverage("skewed, 30", coverage(skewed, 0.96, 30), 0.915, 0.965);
    check_coverage("skewed, 200", coverage(skewed, 0.96, 200), 0.930, 0.965);
}

static void test_bootstrap_edges(void **unused)
{
    (void)unused;
    double one = 0.5, same[] = {0.25, 0.25, 0.25}, many[5000];
    emb_shadow_interval in = emb_bootstrap_mean(NULL, 0, 1000, 1);
    assert_true(in.mean == 0 && in.low == 0 && in.high == 0);
    in = emb_bootstrap_mean(&one, 1, 1000, 1);
    assert_true(in.mean == 0.5 && in.low == 0.5 && in.high == 0.5);
    in = emb_bootstrap_mean(same, 3, 1000, 1);
    assert_true(in.mean == 0.25 && in.low == 0.25 && in.high == 0.25);
    state = 7;
    for (int i = 0; i < 5000; i++)
        many[i] = skewed();
    emb_shadow_interval whole = emb_bootstrap_mean(many, 5000, 2000, 3),
                        part = emb_bootstrap_mean(many, 4000, 2000, 3);
    double half = (whole.high - whole.low) / 2, bootstrapped = (part.high - part.low) / 2;
    assert_true(fabs(half - 1.96 * 0.04 / sqrt(5000)) <
                0.1 * half); /* past the bootstrap's end it is the same interval */
    assert_true(fabs(bootstrapped - 1.96 * 0.04 / sqrt(4000)) < 0.1 * half);
}

static void test_seeds(void **unused)
{
    (void)unused;
    double values[50];
    state = 9;
    for (int i = 0; i < 50; i++)
        values[i] = even();
    emb_shadow_interval a = emb_bootstrap_mean(values, 50, 1000, 5),
                        b = emb_bootstrap_mean(values, 50, 1000, 5),
                        c = emb_bootstrap_mean(values, 50, 1000, 6);
    assert_true(a.low == b.low && a.high == b.high);
    assert_true(a.low != c.low && fabs(a.low - c.low) < 0.02);
    assert_true(a.low < a.mean && a.mean < a.high);
}

/* Values of the literature: 10 of 20, and the edges. */
static void test_wilson(void **unused)
{
    (void)unused;
    emb_shadow_interval in = emb_wilson(10, 20);
    assert_true(fabs(in.mean - 0.5) < 1e-12 && fabs(in.low - 0.299298) < 1e-5 &&
                fabs(in.high - 0.700702) < 1e-5);
    in = emb_wilson(0, 10);
    assert_true(in.low == 0 && fabs(in.high - 0.277533) < 1e-5);
    in = emb_wilson(10, 10);
    assert_true(in.high == 1 && fabs(in.low - 0.722467) < 1e-5);
    in = emb_wilson(0, 0);
    assert_true(in.low == 0 && in.high == 1);
}

static void test_wilson_coverage(void **unused)
{
    (void)unused;
    static const double shares[] = {0.02, 0.1, 0.5, 0.97};
    state = 3;
    for (int k = 0; k < 4; k++) {
        int covered = 0;
        for (int i = 0; i < SIMULATIONS * 4; i++) {
            uint64_t successes = 0;
            for (int j = 0; j < 150; j++)
                successes += uniform() < shares[k];
            emb_shadow_interval in = emb_wilson(successes, 150);
            covered += in.low <= shares[k] && shares[k] <= in.high;
        }
        check_coverage("wilson", (double)covered / (SIMULATIONS * 4), 0.93, 0.985);
    }
}

static void test_spearman(void **unused)
{
    (void)unused;
    const double a[] = {1, 2, 3, 4, 5}, reverse[] = {9, 7, 5, 3, 1}, square[] = {1, 4, 9, 16, 25};
    assert_true(fabs(emb_spearman(a, square, 5) - 1) < 1e-12);
    assert_true(fabs(emb_spearman(a, reverse, 5) + 1) < 1e-12);
    /* ranks 1 2.5 2.5 4 and 1 3 2 4: covariance 4.5, variances 4.5 and 5 */
    const double ties[] = {10, 20, 20, 30}, other[] = {1, 3, 2, 4};
    assert_true(fabs(emb_spearman(ties, other, 4) - 4.5 / sqrt(4.5 * 5.0)) < 1e-12);
    /* SciPy: spearmanr([106,86,100,101,99,103,97,113,112,110],[7,0,27,50,28,29,20,12,6,17]) =
     * -0.17575757575757575 */
    const double iq[] = {106, 86, 100, 101, 99, 103, 97, 113, 112, 110},
                 tv[] = {7, 0, 27, 50, 28, 29, 20, 12, 6, 17};
    assert_true(fabs(emb_spearman(iq, tv, 10) + 0.17575757575757575) < 1e-12);
    const double flat[] = {3, 3, 3, 3, 3};
    assert_true(isnan(emb_spearman(a, flat, 5)));
    assert_true(isnan(emb_spearman(a, a, 1)));
    assert_true(isnan(emb_spearman(NULL, NULL, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bootstrap_coverage),
        cmocka_unit_test(test_bootstrap_edges),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_wilson),
        cmocka_unit_test(test_wilson_coverage),
        cmocka_unit_test(test_spearman),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
