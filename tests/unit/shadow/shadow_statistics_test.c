/* Intervals that cover what they say, simulated; ranks with ties against values worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shadow/shadow.h"

#include <math.h>

enum { SIMULATIONS = 20000, MOST = 200 };

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

/* Most are as good as the same, some are quite wrong. Mean 0.95 * 0.985 + 0.05 * 0.5. */
static double one_in_twenty(void)
{
    return uniform() < 0.05 ? 0.5 : 0.98 + 0.01 * uniform();
}

static double coverage(double (*value)(void), double mean, size_t count)
{
    double values[MOST];
    int covered = 0;
    for (int i = 0; i < SIMULATIONS; i++) {
        for (size_t j = 0; j < count; j++)
            values[j] = value();
        emb_shadow_interval in = emb_mean_interval(values, count, -1, 1);
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

/* 95 % ± 3 standard deviations of 20,000 simulations is 94.5 to 95.5. Skew may cost a point and a half, down
 * to a dozen values; of few values without tails Student's t makes a little too much. */
static void test_coverage_of_means(void **unused)
{
    (void)unused;
    state = 42;
    check_coverage("even, 20", coverage(even, 0.5, 20), 0.945, 0.975);
    check_coverage("even, 200", coverage(even, 0.5, 200), 0.945, 0.960);
    check_coverage("tenths, 20", coverage(tenths, 0.7, 20), 0.940, 0.965);
    check_coverage("tenths, 50", coverage(tenths, 0.7, 50), 0.940, 0.965);
    check_coverage("skewed, 12", coverage(skewed, 0.96, 12), 0.935, 0.965);
    check_coverage("skewed, 30", coverage(skewed, 0.96, 30), 0.935, 0.965);
    check_coverage("skewed, 200", coverage(skewed, 0.96, 200), 0.935, 0.965);
    check_coverage("one in twenty, 200", coverage(one_in_twenty, 0.96075, 200), 0.935, 0.985);
}

static void test_edges_of_means(void **unused)
{
    (void)unused;
    double one = 0.5, same[] = {0.1, 0.1, 0.1}, many[5000];
    emb_shadow_interval in = emb_mean_interval(NULL, 0, -1, 1);
    assert_true(in.mean == 0 && in.low == 0 && in.high == 0);
    in = emb_mean_interval(&one, 1, -1, 1);
    assert_true(in.mean == 0.5 && in.low == 0.5 && in.high == 0.5);
    in = emb_mean_interval(same, 3, -1, 1);
    assert_true(in.low == in.mean && in.high == in.mean && fabs(in.mean - 0.1) < 1e-15);
    const double two[] = {0.999, 0.2}, three[] = {1, 1, 0.9};
    in = emb_mean_interval(two, 2, -1, 1); /* hardly anything is known, and it ends at the bounds */
    assert_true(in.low == -1 && in.high == 1);
    in = emb_mean_interval(three, 3, -1, 1);
    assert_true(in.low > -1 && in.low < 0.9 && in.high > in.mean && in.high <= 1);
    state = 7;
    for (int i = 0; i < 5000; i++)
        many[i] = skewed();
    in = emb_mean_interval(many, 5000, -1, 1); /* the normal distribution's in the end */
    assert_true(fabs((in.high - in.low) / 2 - 1.96 * 0.04 / sqrt(5000)) < 0.05 * (in.high - in.low));
    for (int i = 0; i < 30; i++)
        many[i] = 1 - many[i]; /* turned round, the interval is */
    emb_shadow_interval right = emb_mean_interval(many, 30, -1, 1);
    for (int i = 0; i < 30; i++)
        many[i] = 1 - many[i];
    in = emb_mean_interval(many, 30, -1, 1);
    assert_true(fabs(in.low - (1 - right.high)) < 1e-12 && fabs(in.high - (1 - right.low)) < 1e-12);
    assert_true(in.mean - in.low > in.high - in.mean); /* the tail is below */
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
        for (int i = 0; i < SIMULATIONS; i++) {
            uint64_t successes = 0;
            for (int j = 0; j < 150; j++)
                successes += uniform() < shares[k];
            emb_shadow_interval in = emb_wilson(successes, 150);
            covered += in.low <= shares[k] && shares[k] <= in.high;
        }
        check_coverage("wilson", (double)covered / (SIMULATIONS), 0.93, 0.985);
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
        cmocka_unit_test(test_coverage_of_means),
        cmocka_unit_test(test_edges_of_means),
        cmocka_unit_test(test_wilson),
        cmocka_unit_test(test_wilson_coverage),
        cmocka_unit_test(test_spearman),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
