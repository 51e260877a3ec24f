/*
 * Two ways. Components of unit vectors, 1e-5 <= |x| < 1, take unit_text: x is scaled in double to eight
 * digits before the point, and the nearest multiple of ten, or else of one, that lies between the midpoints
 * to the neighbours is taken without branches; its digits are made at once in one word. Where that cannot
 * decide, for one float in twenty, the second way does.
 *
 * The second, for all else, finds the shortest text by trial: scale in double so that 8 decimal digits stand
 * before the point, round, and see whether they read back; then try fewer digits, or take 9, which always
 * suffice. 10^0..10^22 are exact in double, so digits / 10^k is the correctly rounded double of the text; its
 * conversion to float equals the text's own unless the double lies exactly between two floats, and such
 * candidates are refused unless exact. General algorithms (Ryu, Dragonbox) handle all of double with tables
 * and 128-bit products; the components of unit vectors need neither. Below 1e-13 tiny_digits does as
 * unit_text. What is left, and all outside 1e-37..1e9, is tried with printf: rare, so its speed does not
 * matter.
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
    if (exponent + 1 <= 9 && exponent + 1 >= -13 &&
        d >= (exponent + 1 >= 0 ? power_of_ten[exponent + 1] : 1 / power_of_ten[-exponent - 1]))
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

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "digits are stored a word at a time, first digit lowest");

/* Eight decimal digits of n < 10^8, one a byte, the first in the lowest. */
static uint64_t eight_digits(uint32_t n)
{
    uint64_t fours = n / 10000 | (uint64_t)(n % 10000) << 32;
    uint64_t high = (fours * 10486 >> 20) & 0x0000007F0000007Fu;
    uint64_t twos = high | (fours - high * 100) << 16;
    uint64_t tens = (twos * 103 >> 10) & 0x000F000F000F000Fu;
    return tens | (twos - tens * 10) << 8;
}

/* The nearest multiple of ten, else of one, that is nearer to y than `half`, the way to the midpoint to the
 * neighbours; 0 if that cannot be told: too near to call, nine digits needed, or a second multiple of ten,
 * perhaps a rounder one, in reach. y is 10^7 .. 10^8, off by at most 2^-24; half is 0.3 .. 6. */
static inline int64_t nearest_short(double y, double half)
{
    static const double margin = 1e-6; /* far above the error of y */
    int64_t one = (int64_t)(y + 0.5), ten = (int64_t)(y * 0.1 + 0.5) * 10;
    double off_one = fabs((double)one - y), off_ten = fabs((double)ten - y);
    bool unsure =
        (fabs(off_ten - half) < margin) | (off_one > half - margin) | (10 - off_ten < half + margin);
    int64_t digits = off_ten < half ? ten : one;
    return unsure | (digits >= 100000000) | (digits < 10000000) ? 0 : digits;
}

/* 2^(exponent - 24) for a normal float of these bits: half the way to its neighbours, unless it is a power of
 * two. */
static inline double half_gap(uint32_t bits)
{
    uint64_t half_bits = ((uint64_t)(bits >> 23) - 127 - 24 + 1023) << 52;
    double half;
    memcpy(&half, &half_bits, 8);
    return half;
}

/* Plain text of 1e-5 <= magnitude < 1, or 0 if the other way has to decide. Writes up to 14 bytes. */
static inline size_t unit_text(float magnitude, char *out)
{
    uint32_t bits;
    memcpy(&bits, &magnitude, 4);
    double x = magnitude;
    int zeros = (x < 0.1) + (x < 0.01) + (x < 0.001) + (x < 0.0001);
    double scale = power_of_ten[8 + zeros];
    int64_t digits = nearest_short(x * scale, half_gap(bits) * scale);
    if (digits == 0 || (bits & 0x7FFFFF) == 0)
        return 0;
    uint64_t eight = eight_digits((uint32_t)digits), text = eight + 0x3030303030303030u;
    memcpy(out, "0.00000", 8);
    memcpy(out + 2 + zeros, &text, 8);
    return (size_t)(2 + zeros) + 8 - (size_t)__builtin_clzll(eight) / 8; /* without the zeros at the end */
}

/* Digits and scale of 1e-37 <= magnitude < 1e-13, which models have in components that they do not use; -1 if
 * printf has to decide. The power of ten is a product of two exact ones: two roundings, which nearest_short
 * allows for. */
static int tiny_digits(float magnitude, uint64_t *digits, int *scale)
{
    uint32_t bits;
    memcpy(&bits, &magnitude, 4);
    double x = (double)magnitude * 1e22, half = half_gap(bits) * 1e22;
    int s = 0;
    while (s < 22 && x * power_of_ten[s] < 1e7)
        s++;
    int64_t found = nearest_short(x * power_of_ten[s], half * power_of_ten[s]);
    if (found == 0 || (bits & 0x7FFFFF) == 0)
        return -1;
    *digits = (uint64_t)found;
    *scale = 22 + s;
    return 0;
}

size_t emb_float_text(float value, char *out)
{
    size_t w = 0;
    if (fabsf(value) >= 1e-5f && fabsf(value) < 1) {
        *out = '-';
        w = signbit(value) != 0;
        size_t n = unit_text(fabsf(value), out + w);
        if (n)
            return w + n;
        w = 0;
    }
    if (signbit(value))
        out[w++] = '-';
    float magnitude = fabsf(value);
    if (magnitude == 0) {
        out[w] = '0';
        return w + 1;
    }
    uint64_t digits;
    int scale;
    bool tiny = magnitude < 1e-13f;
    if (magnitude < 1e-37f || magnitude >= 1e9f ||
        (tiny ? tiny_digits(magnitude, &digits, &scale) : shortest_digits(magnitude, &digits, &scale)) < 0)
        return w + by_printf(magnitude, out + w);
    while (digits % 10 == 0) {
        digits /= 10;
        scale--;
    }
    char text[24];
    size_t n = write_digits(digits, text);
    return w + lay_out(text, n, scale, out + w);
}
