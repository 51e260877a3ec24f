/* Every text reads back to its float, and no text with fewer digits would. */
#include "base/float_text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static unsigned significant_digits(const char *text)
{
    unsigned count = 0, zeros = 0;
    for (const char *p = text; *p && *p != 'e'; p++)
        if (*p >= '1' && *p <= '9')
            count += zeros + 1, zeros = 0;
        else if (*p == '0' && count)
            zeros++;
    return count;
}

static void check(float value, int check_shortest)
{
    char text[EMB_FLOAT_TEXT_MAX + 1], other[40];
    size_t n = emb_float_text(value, text);
    assert_true(n > 0 && n <= EMB_FLOAT_TEXT_MAX);
    text[n] = 0;
    float back = strtof(text, NULL);
    if (memcmp(&back, &value, 4) != 0)
        fail_msg("%a was written as %s, which reads as %a", (double)value, text, (double)back);
    if ((float)strtod(text, NULL) != value)
        fail_msg("%a was written as %s, which differs when read through a double", (double)value, text);
    if (!check_shortest || value == 0)
        return;
    int precision = 1;
    for (; precision < 9; precision++) {
        snprintf(other, sizeof other, "%.*e", precision - 1, (double)value);
        if (strtof(other, NULL) == value)
            break;
    }
    if (significant_digits(text) > (unsigned)precision)
        fail_msg("%a was written as %s, %d digits suffice", (double)value, text, precision);
}

static void expect(float value, const char *wanted)
{
    char text[EMB_FLOAT_TEXT_MAX + 1];
    text[emb_float_text(value, text)] = 0;
    assert_string_equal(text, wanted);
}

static void known_texts(void **state)
{
    (void)state;
    expect(0.0f, "0");
    expect(-0.0f, "-0");
    expect(1.0f, "1");
    expect(-0.0344778f, "-0.0344778");
    expect(0.1f, "0.1");
    expect(100.0f, "100");
    expect(123456.0f, "123456");
    expect(1.5f, "1.5");
    expect(0.00001f, "0.00001");
    expect(1.5e-7f, "1.5e-7");
    expect(3.4028235e38f, "3.4028235e38");
    expect(1e-45f, "1e-45");
}

static void whole_range(void **state)
{
    (void)state;
    /* a prime stride over all positive floats: every exponent, all kinds of mantissas */
    for (uint32_t bits = 0; bits < 0x7F800000u; bits += 2003)
        check(from_bits(bits), bits % 5 == 0);
    for (uint32_t bits = 0x80000000u; bits < 0xFF800000u; bits += 10007)
        check(from_bits(bits), 0);
}

static void unit_vector_range(void **state)
{
    (void)state;
    for (uint32_t bits = 0x38000000u; bits <= 0x3F800000u; bits += 101)
        check(from_bits(bits), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_texts),
        cmocka_unit_test(whole_range),
        cmocka_unit_test(unit_vector_range),
    };
    return cmocka_run_group_tests_name("float_text", tests, NULL, NULL);
}
