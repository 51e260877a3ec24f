/* Time zones against the C library's, which reads the same files by other code, for years past and to
 * come. */
#include "base/zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static emb_error err;

static emb_zone *open_zone(const char *name)
{
    emb_zone *z = NULL;
    emb_status st = emb_zone_open(name, &z, &err);
    if (st == EMB_E_NOT_FOUND)
        skip(); /* no tzdata here */
    assert_int_equal(st, EMB_OK);
    return z;
}

static void compare(const char *name, int64_t t, const emb_zone *z)
{
    struct tm tm;
    time_t at = (time_t)t;
    assert_non_null(localtime_r(&at, &tm));
    if (tm.tm_gmtoff != emb_zone_offset(z, t))
        fail_msg("%s at %lld: %d, the C library says %ld", name, (long long)t, emb_zone_offset(z, t),
                 tm.tm_gmtoff);
    tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
    assert_int_equal(emb_zone_day(z, t), timegm(&tm) / 86400 - (timegm(&tm) % 86400 < 0));
}

static void test_offsets_are_the_c_librarys(void **state)
{
    (void)state;
    static const char *const NAMES[] = {
        "Europe/Berlin",      "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe",
        "Asia/Kathmandu",     "Pacific/Apia",     "Africa/Casablanca", "Europe/Dublin",
        "America/St_Johns",   "America/Santiago", "Asia/Gaza",         "Asia/Tehran",
        "Pacific/Kiritimati", "Antarctica/Troll", "America/Nuuk",      "Etc/GMT+12"};
    uint64_t seed = 1;
    for (size_t n = 0; n < sizeof NAMES / sizeof *NAMES; n++) {
        emb_zone *z = open_zone(NAMES[n]);
        setenv("TZ", NAMES[n], 1);
        tzset();
        for (int i = 0; i < 20000; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            compare(NAMES[n], (int64_t)((seed >> 20) % 8520336000u) - 2208988800, z); /* 1900 to 2170 */
        }
        for (int64_t t = 1735689600; t < 1735689600 + 2 * 366 * 86400; t += 1799) /* two years, closely */
            compare(NAMES[n], t, z);
        emb_zone_close(z);
    }
    unsetenv("TZ");
    tzset();
}

static void check_starts(const char *name, int32_t first, int32_t last)
{
    emb_zone *z = open_zone(name);
    for (int32_t day = first; day < last; day++) {
        int64_t start = emb_zone_day_start(z, day);
        assert_true(emb_zone_day(z, start) >= day);
        if (emb_zone_day(z, start - 1) >= day)
            fail_msg("%s: day %d begins before %lld", name, day, (long long)start);
    }
    emb_zone_close(z);
}

static void test_days_begin_once(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"UTC",          "Europe/Berlin",     "America/Sao_Paulo",
                                        "Africa/Cairo", "Pacific/Apia",      "America/Santiago",
                                        "Asia/Beirut",  "Pacific/Kiritimati"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        check_starts(NAMES[i], 10957, 32871); /* 2000 to 2059 */
}

static void test_known_days(void **state)
{
    (void)state;
    emb_zone *z = open_zone("Europe/Berlin");
    int32_t day;
    assert_true(emb_day_parse("2026-03-29", &day)); /* summer begins: 23 hours */
    assert_int_equal(emb_zone_day_start(z, day), 1774738800);
    assert_int_equal(emb_zone_day_start(z, day + 1) - emb_zone_day_start(z, day), 23 * 3600);
    assert_true(emb_day_parse("2026-10-25", &day));
    assert_int_equal(emb_zone_day_start(z, day + 1) - emb_zone_day_start(z, day), 25 * 3600);
    emb_zone_close(z);
    z = open_zone("Pacific/Apia"); /* went over the date line: there was no 2011-12-30 */
    assert_true(emb_day_parse("2011-12-30", &day));
    assert_int_equal(emb_zone_day_start(z, day), emb_zone_day_start(z, day + 1));
    emb_zone_close(z);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const BAD[] = {
        "/etc/passwd",
        "../../etc/passwd",
        "Europe/../../x",
        "a b",
        "Europe/",
        "a//b",
        "0123456789012345678901234567890123456789012345678901234567890123456789"};
    emb_zone *z;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        assert_int_equal(emb_zone_open(BAD[i], &z, &err), EMB_E_INVALID);
        assert_null(z);
    }
    assert_int_equal(emb_zone_open("Europe/Atlantis", &z, &err), EMB_E_NOT_FOUND);
    assert_int_equal(emb_zone_open("Europe", &z, &err), EMB_E_NOT_FOUND); /* a folder */
    assert_int_equal(emb_zone_open("", &z, &err), EMB_OK);
    assert_int_equal(emb_zone_offset(z, 1774738800), 0);
    assert_int_equal(emb_zone_day(z, -1), -1);
    assert_int_equal(emb_zone_day_start(z, -1), -86400);
    emb_zone_close(z);
    emb_zone_close(NULL);
}

static void test_dates(void **state)
{
    (void)state;
    char text[EMB_DAY_TEXT];
    for (int32_t day = -719528; day < 2932897; day += 13) { /* the years 0 to 9999 */
        int32_t back;
        emb_day_text(day, text);
        assert_true(emb_day_parse(text, &back));
        assert_int_equal(back, day);
    }
    emb_day_text(0, text);
    assert_string_equal(text, "1970-01-01");
    static const char *const BAD[] = {"",          "2026-02-29", "2026-13-01",  "2026-00-01", "2026-01-00",
                                      "2026-1-01", "20260101",   "2026-01-011", "2026/01/01", "x026-01-01"};
    int32_t day;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        assert_false(emb_day_parse(BAD[i], &day));
    assert_false(emb_day_parse(NULL, &day));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offsets_are_the_c_librarys),
        cmocka_unit_test(test_days_begin_once),
        cmocka_unit_test(test_known_days),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
