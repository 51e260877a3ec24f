/*
 * Shortest round-trip text of a float32 by trial: scale in double so that 8 decimal digits stand before
 * the point, round, and see whether they read back; then try fewer digits, or take 9, which always
 * suffice. 10^0..10^22 are exact in double, so digits / 10^k is the correctly rounded double of the text;
 * its conversion to float equals the text's own unless the double lies exactly between two floats, and
 * such candidates are refused unless exact. General algorithms (Ryu, Dragonbox) handle all of double with tables and
 * 128-bit products; the components of unit vectors need neither. Outside 1e-13..1e9 printf's digits are
 * tried instead: rare, so their speed does not matter.
 */
#include "base/float_text.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double power_of_ten[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                        1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                        1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* The float that `digits`·10^-scale reads as, or NaN where rounding twice could matter: an inexact double
 * that lies between two floats. */
static float reads_as(uint64_t digits, int scale)
{
    double d = scale >= 0 ? (double)digits / power_of_ten[scale] : (double)digits * power_of_ten[-scale];
    uint64_t bits;
    memcpy(&bits, &d, 8);
    bool between = (bits & 0x1FFFFFFF) == 0x10000000;
    if (between && scale > 0 && fma(d, power_of_ten[scale], -(double)digits) != 0)
        return NAN;
    return (float)d;
}

static uint64_t rounded(double magnitude, int scale)
{
    double d = scale >= 0 ? magnitude * power_of_ten[scale] : magnitude / power_of_ten[-scale];
    return (uint64_t)(d + 0.5);
}

/* Digits d and scale s with d·10^-s reading back as magnitude, as few digits as possible. */
static int shortest_digits(float magnitude, uint64_t *digits, int *scale)
{
    double d = magnitude;
    int exponent = (int)((ilogbf(magnitude) * 1233) >> 12); /* floor(log10), or one less */
    if (exponent + 1 <= 9 && exponent + 1 >= -13 && d >= (exponent + 1 >= 0 ? power_of_ten[exponent + 1] : 1 / power_of_ten[-exponent - 1]))
        exponent++;
    int best = 0;
    uint64_t candidate = 0;
    for (int count = 8; count >= 6; count--) {
        int s = count - 1 - exponent;
        candidate = rounded(d, s);
        if (reads_as(candidate, s) != magnitude)
            break;
        *digits = candidate;
        *scale = s;
        best = count;
    }
    if (best)
        return 0;
    *scale = 8 - exponent;
    *digits = rounded(d, *scale);
    return reads_as(*digits, *scale) == magnitude ? 0 : -1;
}

static size_t write_digits(uint64_t digits, char *out)
{
    char reversed[24];
    size_t n = 0, i;
    do
        reversed[n++] = (char)('0' + digits % 10);
    while (digits /= 10);
    for (i = 0; i < n; i++)
        out[i] = reversed[n - 1 - i];
    return n;
}

/* Digits with the point before the last `scale` of them. */
static size_t lay_out(const char *digits, size_t n, int scale, char *out)
{
    size_t w = 0;
    int exponent = (int)n - 1 - scale;
    if (exponent < -5 || exponent > 8) {
        out[w++] = digits[0];
        if (n > 1) {
            out[w++] = '.';
            memcpy(out + w, digits + 1, n - 1);
            w += n - 1;
        }
        out[w++] = 'e';
        if (exponent < 0)
            out[w++] = '-';
        return w + write_digits((uint64_t)abs(exponent), out + w);
    }
    if (exponent < 0) {
        memcpy(out, "0.0000000", 9);
        w = (size_t)(1 - exponent);
        memcpy(out + w, digits, n);
        return w + n;
    }
    for (size_t i = 0; i < n || i <= (size_t)exponent; i++) {
        if (i == (size_t)exponent + 1)
            out[w++] = '.';
        out[w++] = i < n ? digits[i] : '0';
    }
    return w;
}

static size_t by_printf(float magnitude, char *out)
{
    char text[40];
    for (int precision = 1; precision <= 9; precision++) {
        snprintf(text, sizeof text, "%.*e", precision - 1, (double)magnitude);
        if (strtof(text, NULL) == magnitude)
            break;
    }
    /* d.ddde±xx, the point being the locale's */
    char digits[16];
    size_t n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    int exponent = *p ? atoi(p + 1) : 0;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    return lay_out(digits, n, (int)n - 1 - exponent, out);
}

size_t emb_float_text(float value, char *out)
{
    size_t w = 0;
    if (signbit(value))
        out[w++] = '-';
    float magnitude = fabsf(value);
    if (magnitude == 0) {
        out[w] = '0';
        return w + 1;
    }
    uint64_t digits;
    int scale;
    if (magnitude < 1e-13f || magnitude >= 1e9f || shortest_digits(magnitude, &digits, &scale) < 0)
        return w + by_printf(magnitude, out + w);
    while (digits % 10 == 0) {
        digits /= 10;
        scale--;
    }
    char text[24];
    size_t n = write_digits(digits, text);
    return w + lay_out(text, n, scale, out + w);
}
