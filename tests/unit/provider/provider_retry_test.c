/* Retries: headers that say when, decisions, backoff, the budget. */
#include "provider/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define NOW INT64_C(1785067200) /* Sun, 26 Jul 2026 12:00:00 GMT */
#define MS UINT64_C(1000000)

static emb_retry_hints hints_of(const char *name, const char *value)
{
    emb_retry_hints h;
    emb_retry_hints_init(&h);
    emb_retry_header(&h, name, strlen(name), value, strlen(value), NOW);
    return h;
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms; /* -1: none */
    } cases[] = {
        {"1s", 1000},
        {"6m0s", 360000},
        {"120ms", 120},
        {"1h2m3s", 3723000},
        {"0.5s", 500},
        {"12", 12000},
        {"1.25", 1250},
        {"0", 0},
        {"7.66s", 7660},
        {"1m", 60000},
        {"1d", 86400000},
        {"999d", 86400000},
        {"99999999999999999999999", 86400000},
        {"100us", 1},
        {"", -1},
        {"s", -1},
        {"-1", -1},
        {"1x", -1},
        {"1s2", -1},
        {"nan", -1},
        {"inf", -1},
        {"0x10", -1},
        {"1e9", -1},
        {" 1", -1},
        {"1 s", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = -1;
        bool good = emb_retry_duration_ms(cases[i].text, &ms);
        assert_int_equal(good, cases[i].ms >= 0);
        assert_int_equal(good ? ms : -1, cases[i].ms);
    }
}

static void headers(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
        int64_t wait_ms;
    } cases[] = {
        {"retry-after", " 3\r\n", 3000},
        {"Retry-After", "0", 0},
        {"RETRY-AFTER", "2.5", 2500},
        {"retry-after", "Sun, 26 Jul 2026 12:00:07 GMT", 7000},
        {"retry-after", "Sun, 26 Jul 2026 11:00:00 GMT", 0},
        {"retry-after", "-3", -1},
        {"retry-after", "soon", -1},
        {"retry-after", "", -1},
        {"retry-after-ms", "150", 150},
        {"retry-after-ms", "150.2", 151},
        {"retry-after-ms", "150s", -1},
        {"x-ratelimit-reset-requests", "6m0s", 360000},
        {"x-ratelimit-reset-tokens", "120ms", 120},
        {"x-ratelimit-reset", "5", -1},
        {"x-unrelated-header", "5", -1},
        {"retry-after", "1111111111111111111111111111111111111111111111111111111111111111111111111", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_retry_hints h = hints_of(cases[i].name, cases[i].value);
        assert_int_equal(emb_retry_wait_ms(&h), cases[i].wait_ms);
    }
}

static void add(emb_retry_hints *h, const char *name, const char *value)
{
    emb_retry_header(h, name, strlen(name), value, strlen(value), NOW);
}

static void longest_counts(void **state)
{
    (void)state;
    emb_retry_hints h = hints_of("retry-after", "1");
    add(&h, "retry-after-ms", "1400");
    assert_int_equal(emb_retry_wait_ms(&h), 1400);
    add(&h, "x-ratelimit-reset-requests", "6m0s");
    add(&h, "x-ratelimit-remaining-requests", "12"); /* some are left: not this one's reset */
    assert_int_equal(emb_retry_wait_ms(&h), 1400);
    add(&h, "x-ratelimit-reset-tokens", "2s");
    add(&h, "x-ratelimit-remaining-tokens", "0");
    assert_int_equal(emb_retry_wait_ms(&h), 2000);
    assert_int_equal(emb_retry_drained_ms(&h), 2000);
}

static void drained_only_if_said(void **state)
{
    (void)state;
    emb_retry_hints h = hints_of("x-ratelimit-reset-tokens", "2s");
    assert_int_equal(emb_retry_drained_ms(&h), -1);
    add(&h, "x-ratelimit-remaining-tokens", "5");
    assert_int_equal(emb_retry_drained_ms(&h), -1);
    h = hints_of("x-compute-tokens", "17");
    assert_int_equal(h.compute_tokens, 17);
}

static void decisions(void **state)
{
    (void)state;
    static const struct {
        emb_attempt_end end;
        bool again, once;
        unsigned made, max_retries;
        int64_t wait_ms;
        uint64_t left_ms;
        emb_retry_verdict verdict;
        uint64_t least_ms, most_ms;
    } cases[] = {
        {EMB_ATTEMPT_BROKEN, true, false, 1, 2, -1, 10000, EMB_RETRY_AGAIN, 0, 200},
        {EMB_ATTEMPT_BROKEN, true, false, 2, 2, -1, 10000, EMB_RETRY_AGAIN, 0, 400},
        {EMB_ATTEMPT_BROKEN, true, false, 3, 2, -1, 10000, EMB_RETRY_NO, 0, 0},
        {EMB_ATTEMPT_BROKEN, true, false, 1, 0, -1, 10000, EMB_RETRY_NO, 0, 0},
        {EMB_ATTEMPT_REFUSED, false, false, 1, 2, -1, 10000, EMB_RETRY_NO, 0, 0},
        {EMB_ATTEMPT_QUOTA, false, false, 1, 2, 50, 10000, EMB_RETRY_NO, 0, 0},
        {EMB_ATTEMPT_BAD_ANSWER, true, true, 1, 5, -1, 10000, EMB_RETRY_AGAIN, 0, 200},
        {EMB_ATTEMPT_BAD_ANSWER, true, true, 2, 5, -1, 10000, EMB_RETRY_NO, 0, 0},
        {EMB_ATTEMPT_LIMITED, true, false, 1, 2, -1, 10000, EMB_RETRY_AGAIN, 100, 200},
        {EMB_ATTEMPT_LIMITED, true, false, 4, 9, -1, 100000, EMB_RETRY_AGAIN, 800, 1600},
        {EMB_ATTEMPT_LIMITED, true, false, 30, 99, -1, 100000, EMB_RETRY_AGAIN, 5000, 10000},
        {EMB_ATTEMPT_LIMITED, true, false, 1, 2, 3000, 10000, EMB_RETRY_AGAIN, 3000, 3300},
        {EMB_ATTEMPT_LIMITED, true, false, 1, 2, 20, 10000, EMB_RETRY_AGAIN, 20, 22},
        {EMB_ATTEMPT_LIMITED, true, false, 1, 2, 10000, 10000, EMB_RETRY_TOO_LATE, 0, 0},
        {EMB_ATTEMPT_BROKEN, true, false, 1, 2, 600, 10000, EMB_RETRY_AGAIN, 600, 660},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (uint64_t random = 0; random < 3000; random++) {
            emb_retry_question q = {.end = cases[i].end,
                                    .again = cases[i].again,
                                    .once = cases[i].once,
                                    .made = cases[i].made,
                                    .max_retries = cases[i].max_retries,
                                    .wait_ms = cases[i].wait_ms,
                                    .now_ns = 5 * MS,
                                    .deadline_ns = 5 * MS + cases[i].left_ms * MS,
                                    .random = random * 2654435761u};
            uint64_t wait_ns = 0;
            assert_int_equal(emb_retry_decide(&q, &wait_ns), cases[i].verdict);
            if (cases[i].verdict != EMB_RETRY_AGAIN)
                continue;
            assert_true(wait_ns >= cases[i].least_ms * MS);
            assert_true(wait_ns <= cases[i].most_ms * MS);
        }
    }
}

static void at_once_the_first_time(void **state)
{
    (void)state;
    uint64_t wait_ns = 1;
    emb_retry_question q = {.end = EMB_ATTEMPT_BROKEN,
                            .again = true,
                            .at_once = true,
                            .made = 1,
                            .max_retries = 2,
                            .wait_ms = -1,
                            .deadline_ns = UINT64_MAX,
                            .random = 199};
    assert_int_equal(emb_retry_decide(&q, &wait_ns), EMB_RETRY_AGAIN);
    assert_int_equal(wait_ns, 0);
    q.made = 2;
    assert_int_equal(emb_retry_decide(&q, &wait_ns), EMB_RETRY_AGAIN);
    assert_int_equal(wait_ns, 199 * MS);
}

static unsigned spend_all(emb_retry_budget *b, uint64_t now)
{
    unsigned n = 0;
    while (emb_retry_budget_spend(b, now))
        n++;
    return n;
}

static void budget(void **state)
{
    (void)state;
    emb_retry_budget b;
    uint64_t now = 1000;
    emb_retry_budget_init(&b, now);
    assert_int_equal(spend_all(&b, now), 20);
    for (int i = 0; i < 101; i++)
        emb_retry_budget_earn(&b, now);
    assert_int_equal(spend_all(&b, now), 10);                    /* a tenth */
    assert_int_equal(spend_all(&b, now + 3 * 1000 * MS), 3);     /* one a second */
    assert_int_equal(spend_all(&b, now + 1000 * 1000 * MS), 20); /* no more is saved */
    assert_int_equal(spend_all(&b, now), 0);                     /* a clock that goes back gives nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),      cmocka_unit_test(headers),
        cmocka_unit_test(longest_counts), cmocka_unit_test(drained_only_if_said),
        cmocka_unit_test(decisions),      cmocka_unit_test(at_once_the_first_time),
        cmocka_unit_test(budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
