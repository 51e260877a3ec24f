/* Which part of a window is read when only its last seconds count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/service_parts.h"

static void parts(void **state)
{
    (void)state;
    static const struct {
        uint32_t window_s;
        int64_t age_s;
        uint32_t part_s;
    } rows[] = {{300, -5, 0},    {300, 0, 0},     {300, 9, 0},      {300, 10, 10},      {300, 19, 10},
                {300, 299, 290}, {300, 300, 300}, {300, 9999, 300}, {1, 0, 0},          {1, 1, 1},
                {45, 1, 0},      {45, 2, 1},      {86400, 2879, 0}, {86400, 2880, 2880}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(emb_watch_part(rows[i].window_s, rows[i].age_s), rows[i].part_s);
}

/* A window that is read so never reaches back behind the age: its slices lie within it. */
static void nothing_older(void **state)
{
    (void)state;
    for (uint32_t window = 1; window <= 600; window += 7)
        for (int64_t age = 0; age < (int64_t)window; age++) {
            uint64_t slice_ns = ((uint64_t)window * 1000000000 + EMB_WINDOW_SLICES - 1) / EMB_WINDOW_SLICES;
            uint64_t part_ns = (uint64_t)emb_watch_part(window, age) * 1000000000;
            uint64_t slices = (part_ns + slice_ns - 1) / slice_ns; /* as emb_window_read counts them */
            assert_true(slices * slice_ns <= (uint64_t)age * 1000000000 + EMB_WINDOW_SLICES); /* rounded up */
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts), cmocka_unit_test(nothing_older)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
