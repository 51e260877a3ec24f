/* Each criterion of readiness at its bound, just beside it, and where nobody recorded it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shadow/shadow.h"

#include <math.h>
#include <string.h>

static emb_shadow_report report;

/* All that passes. */
static emb_readiness_input good(void)
{
    report = (emb_shadow_report){.all = {.comparisons = 100, .with_cosine = 99, .cosine.mean = 0.951},
                                 .same_space = true,
                                 .first_s = 1000,
                                 .last_s = 1000 + 48 * 3600,
                                 .has_overlap = true,
                                 .overlap.mean = 0.61};
    return (emb_readiness_input){.shadow = &report,
                                 .required_similarity = 0.95,
                                 .required_overlap = 0.6,
                                 .required_hours = 48,
                                 .required_hit_rate = 0.8,
                                 .required_comparisons = 100,
                                 .hit_rate_known = true,
                                 .hit_rate = 0.81,
                                 .p95_ms = 500,
                                 .p95_limit_ms = 500,
                                 .rollback_verified_s = 5};
}

static const emb_readiness_criterion *find(const emb_readiness *r, const char *name)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->criteria[i].name, name) == 0)
            return &r->criteria[i];
    return NULL;
}

/* The verdict fails by this criterion alone. */
static void check_fails(const emb_readiness_input *in, const char *name, const char *required,
                        const char *actual)
{
    emb_readiness r;
    emb_readiness_judge(in, &r);
    assert_false(r.ready);
    assert_int_equal(r.count, EMB_READINESS_CRITERIA);
    for (size_t i = 0; i < r.count; i++)
        if (r.criteria[i].passed == (strcmp(r.criteria[i].name, name) == 0))
            fail_msg("%s: passed is %d where %s was to fail", r.criteria[i].name, r.criteria[i].passed, name);
    assert_string_equal(find(&r, name)->required, required);
    assert_string_equal(find(&r, name)->actual, actual);
}

static void test_good(void **state)
{
    (void)state;
    emb_readiness r;
    emb_readiness_input in = good();
    emb_readiness_judge(&in, &r);
    assert_true(r.ready);
    assert_int_equal(r.count, 7);
    assert_non_null(find(&r, "similarity"));
    assert_null(find(&r, "neighbour_overlap"));
    report.same_space = false; /* then cosines do not count, neighbours do */
    report.all.cosine.mean = 0.1;
    emb_readiness_judge(&in, &r);
    assert_true(r.ready);
    assert_null(find(&r, "similarity"));
    assert_string_equal(find(&r, "neighbour_overlap")->actual, "0.6100");
}

static void test_each(void **state)
{
    (void)state;
    emb_readiness_input in = good();
    report.all.comparisons = 99;
    check_fails(&in, "comparisons", ">= 100", "99");
    in = good();
    report.last_s -= 3600;
    check_fails(&in, "duration_hours", ">= 48 h", "47.0 h");
    in = good();
    report.all.cosine.mean = 0.95;
    check_fails(&in, "similarity", "> 0.95", "0.9500");
    in = good();
    report.same_space = false;
    report.overlap.mean = 0.6;
    check_fails(&in, "neighbour_overlap", "> 0.6", "0.6000");
    in = good();
    in.critical_alerts = 2;
    check_fails(&in, "critical_alerts", "0", "2");
    in = good();
    in.hit_rate = 0.8;
    check_fails(&in, "cache_hit_rate", "> 0.8", "0.8000");
    in = good();
    in.p95_ms = 500.1;
    check_fails(&in, "p95_latency_ms", "<= 500 ms", "500.1 ms");
    in = good();
    in.rollback_verified_s = 0;
    check_fails(&in, "rollback_verified", "verified", "never");
}

static void test_not_recorded(void **state)
{
    (void)state;
    emb_readiness_input in = good();
    in.hit_rate_known = false;
    in.lookups = 12;
    check_fails(&in, "cache_hit_rate", "> 0.8", "too few lookups: 12");
    in = good();
    in.p95_ms = NAN;
    check_fails(&in, "p95_latency_ms", "<= 500 ms", "not recorded");
    in = good();
    in.alerts_unknown = true;
    check_fails(&in, "critical_alerts", "0", "not recorded");
    in = good();
    in.rollback_unknown = true;
    check_fails(&in, "rollback_verified", "verified", "not recorded");
    in = good();
    report.all.with_cosine = 0;
    check_fails(&in, "similarity", "> 0.95", "not recorded");
    in = good();
    report.same_space = report.has_overlap = false;
    check_fails(&in, "neighbour_overlap", "> 0.6", "not recorded");
}

static void test_no_report(void **state)
{
    (void)state;
    emb_readiness r;
    emb_readiness_input in = good();
    in.shadow = NULL;
    emb_readiness_judge(&in, &r);
    assert_false(r.ready);
    assert_int_equal(r.count, 7);
    for (size_t i = 0; i < 3; i++) {
        assert_false(r.criteria[i].passed);
        assert_string_equal(r.criteria[i].actual, "not recorded");
    }
    assert_true(r.criteria[3].passed && r.criteria[6].passed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_each),
                                       cmocka_unit_test(test_not_recorded), cmocka_unit_test(test_no_report)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
