/* The scanner: every kind in sentences, what looks like one and is none, offsets, resuming, patterns, memory,
 * time. */
#include "base/clock.h"
#include "pii/parts.h"
#include "pii/pii.h"
#include "support/fail_alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct row {
    const char *text, *kind, *value;
} row;

static const row good[] = {
#include "good.inc"
};
static const char *const bad[] = {
#include "bad.inc"
};

static emb_pii *open_all(void)
{
    emb_pii *s;
    emb_error err;
    emb_pii_options o = {0};
    assert_int_equal(emb_pii_open(&s, &o, &err), EMB_OK);
    return s;
}

static void finds_each_kind(void **state)
{
    (void)state;
    emb_pii *s = open_all();
    bool seen[EMB_PII_KINDS] = {false};
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        emb_pii_finding f[8];
        const char *at = strstr(good[i].text, good[i].value);
        size_t n = emb_pii_scan(s, good[i].text, strlen(good[i].text), f, 8, NULL);
        assert_non_null(at);
        if (n == 1 && strcmp(emb_pii_kind_name(s, f[0].kind), good[i].kind) == 0 &&
            f[0].start == (size_t)(at - good[i].text) && f[0].end - f[0].start == strlen(good[i].value)) {
            seen[f[0].kind] = true;
            continue;
        }
        wrong++;
        printf("%s: %zu findings in: %s\n", good[i].kind, n, good[i].text);
        for (size_t k = 0; k < n; k++)
            printf("    %s %zu-%zu\n", emb_pii_kind_name(s, f[k].kind), f[k].start, f[k].end);
    }
    assert_int_equal(wrong, 0);
    for (size_t k = 0; k < EMB_PII_KINDS; k++)
        assert_true(seen[k]);
    emb_pii_close(s);
}

static void leaves_the_rest_alone(void **state)
{
    (void)state;
    emb_pii *s = open_all();
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        emb_pii_finding f[8];
        size_t n = emb_pii_scan(s, bad[i], strlen(bad[i]), f, 8, NULL);
        wrong += n > 0;
        for (size_t k = 0; k < n; k++)
            printf("%s %zu-%zu in: %s\n", emb_pii_kind_name(s, f[k].kind), f[k].start, f[k].end, bad[i]);
    }
    assert_int_equal(wrong, 0);
    emb_pii_close(s);
}

/* All good texts one after another: page by page gives what one call gives. */
static void pages_agree(void **state)
{
    (void)state;
    char text[32768];
    size_t length = 0;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s\n\n", good[i].text);
    assert_true(length < sizeof text);
    emb_pii *s = open_all();
    static emb_pii_finding all[1000], page[7];
    size_t count = emb_pii_scan(s, text, length, all, 1000, NULL);
    assert_true(count >= sizeof good / sizeof *good);
    for (size_t capacity = 1; capacity <= 7; capacity++) {
        emb_pii_progress p = {0};
        size_t at = 0;
        while (p.next < length) {
            size_t before = p.next, n = emb_pii_scan(s, text, length, page, capacity, &p);
            assert_true(p.next > before);
            for (size_t i = 0; i < n; i++, at++) {
                assert_true(at < count);
                assert_int_equal(page[i].start, all[at].start);
                assert_int_equal(page[i].end, all[at].end);
                assert_int_equal(page[i].kind, all[at].kind);
            }
        }
        assert_int_equal(at, count);
    }
    emb_pii_close(s);
}

static void kinds_and_patterns(void **state)
{
    (void)state;
    emb_pii *s;
    emb_error err;
    emb_pii_finding f[4];
    static const char text[] = "ann@example.com, TCK-123456, 10.1.2.3";
    emb_pii_pattern p[] = {{"ticket", "TCK-[0-9]{6}"}};
    emb_pii_options o = {.kinds = "ip_address", .patterns = p, .pattern_count = 1};
    assert_int_equal(emb_pii_open(&s, &o, &err), EMB_OK);
    assert_int_equal(emb_pii_scan(s, text, strlen(text), f, 4, NULL), 2);
    assert_string_equal(emb_pii_kind_name(s, f[0].kind), "ticket");
    assert_int_equal(f[0].start, 17);
    assert_string_equal(emb_pii_kind_name(s, f[1].kind), "ip_address");
    emb_pii_close(s);
    static const char *const names[] = {"", "Ticket", "email", "a b"};
    for (size_t i = 0; i < 4; i++) {
        p[0].name = names[i];
        assert_int_equal(emb_pii_open(&s, &o, &err), EMB_E_INVALID);
    }
    p[0] = (emb_pii_pattern){"broken", "a("};
    assert_int_equal(emb_pii_open(&s, &o, &err), EMB_E_INVALID);
    assert_non_null(strstr(err.message, "broken"));
    o = (emb_pii_options){.kinds = "email,telepathy"};
    assert_int_equal(emb_pii_open(&s, &o, &err), EMB_E_INVALID);
    assert_non_null(strstr(err.message, "telepathy"));
}

static void a_greedy_pattern_is_given_up(void **state)
{
    (void)state;
    emb_pii *s;
    emb_error err;
    emb_pii_finding f[4];
    emb_pii_progress progress = {0};
    emb_pii_pattern p[] = {{"evil", "(a+)+$"}};
    emb_pii_options o = {.kinds = "email", .patterns = p, .pattern_count = 1};
    char text[200];
    memset(text, 'a', sizeof text);
    memcpy(text + 100, " x@example.com b", 16);
    assert_int_equal(emb_pii_open(&s, &o, &err), EMB_OK);
    text[199] = 'b';
    assert_int_equal(emb_pii_scan(s, text, sizeof text, f, 4, &progress), 1);
    assert_true(progress.gave_up);
    emb_pii_close(s);
}

static void keccak(void **state)
{
    (void)state;
    static const uint8_t empty[] = {0xc5, 0xd2, 0x46, 0x01, 0x86, 0xf7, 0x23, 0x3c};
    uint8_t digest[32];
    emb_pii_keccak256("", 0, digest);
    assert_memory_equal(digest, empty, sizeof empty);
}

/* Repeated pieces that begin many candidates: four times the length must not take sixteen times as long. */
static void time_is_linear(void **state)
{
    (void)state;
    static const char *const pieces[] = {"1 ",
                                         "1-",
                                         "a@",
                                         "-----BEGIN PRIVATE KEY-----",
                                         "eyJhbGciOiJIUzI1NiJ9.eyJ.",
                                         "::1:",
                                         "sk-",
                                         "a1",
                                         "@",
                                         "4111 ",
                                         "12 Oak ",
                                         "ghp_",
                                         "passport 1234567 ",
                                         "9",
                                         "+1",
                                         "0x",
                                         "a.",
                                         "\xFF"};
    enum { SMALL = 1 << 15, BIG = SMALL * 8 };
    char *text = malloc(BIG);
    emb_pii *s = open_all();
    static emb_pii_finding f[64];
    assert_non_null(text);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        uint64_t took[2];
        size_t n = strlen(pieces[i]);
        for (size_t k = 0; k < BIG; k++)
            text[k] = pieces[i][k % n];
        for (int big = 0; big < 2; big++) {
            took[big] = UINT64_MAX;
            for (int round = 0; round < 3; round++) {
                emb_pii_progress p = {0};
                uint64_t begin = emb_now_ns();
                while (p.next < (big ? BIG : SMALL))
                    emb_pii_scan(s, text, big ? BIG : SMALL, f, 64, &p);
                uint64_t t = emb_now_ns() - begin;
                took[big] = t < took[big] ? t : took[big];
            }
        }
        if (took[1] > took[0] * 40 + 20000000)
            fail_msg("\"%s\": %d bytes take %llu ns, %d take %llu", pieces[i], SMALL,
                     (unsigned long long)took[0], BIG, (unsigned long long)took[1]);
    }
    emb_pii_close(s);
    free(text);
}

static void memory_fails(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    emb_pii_pattern p[] = {{"ticket", "TCK-[0-9]{6}"}};
    emb_pii_options o = {.patterns = p, .pattern_count = 1};
    for (size_t n = 1;; n++) {
        size_t live = fail_alloc_live();
        emb_pii *s;
        emb_error err;
        fail_alloc_at(n);
        emb_status status = emb_pii_open(&s, &o, &err);
        bool failed = fail_alloc_stop();
        assert_int_equal(status, failed ? EMB_E_NOMEM : EMB_OK);
        emb_pii_close(s);
        assert_int_equal(fail_alloc_live(), live);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_each_kind), cmocka_unit_test(leaves_the_rest_alone),
        cmocka_unit_test(pages_agree),     cmocka_unit_test(kinds_and_patterns),
        cmocka_unit_test(keccak),          cmocka_unit_test(a_greedy_pattern_is_given_up),
        cmocka_unit_test(time_is_linear),  cmocka_unit_test(memory_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
