/*
 * money.c: dollars in decimal text to integer nano-dollars and back.
 *
 * The digits are taken as an integer and moved by the exponent, so that 0.00002 is 20,000 and not the nearest
 * double times a thousand million. What is finer than a nano-dollar is refused: to round a price silently
 * would be to charge another one. Nothing here depends on the locale.
 */
#include "config/gateway_parts.h"

#include <stdio.h>
#include <string.h>

enum { NANO_DIGITS = 9, EXPONENT_MAX = 1000 };

typedef struct decimal {
    unsigned __int128 digits;
    long exponent; /* value = digits × 10^exponent */
    bool too_long; /* more digits than fit */
} decimal;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void add_digit(decimal *d, char c)
{
    const unsigned __int128 most = ~(unsigned __int128)0 / 10 - 1;
    if (d->digits > most)
        d->too_long = true;
    else
        d->digits = d->digits * 10 + (unsigned)(c - '0');
}

/* "e-5" at text[i..]; false: not an exponent. */
static bool take_exponent(const char *text, size_t length, size_t i, long *out)
{
    bool negative = false;
    long value = 0;
    if (++i < length && (text[i] == '-' || text[i] == '+'))
        negative = text[i++] == '-';
    if (i == length)
        return false;
    for (; i < length && is_digit(text[i]); i++)
        if (value < EXPONENT_MAX)
            value = value * 10 + (text[i] - '0');
    *out += negative ? -value : value;
    return i == length;
}

static bool take_decimal(const char *text, size_t length, decimal *out)
{
    size_t i = length && *text == '+', digits = 0;
    *out = (decimal){0};
    for (; i < length && is_digit(text[i]); i++, digits++)
        add_digit(out, text[i]);
    if (i < length && text[i] == '.')
        for (i++; i < length && is_digit(text[i]); i++, digits++) {
            add_digit(out, text[i]);
            out->exponent--;
        }
    if (!digits)
        return false;
    return i == length ||
           ((text[i] == 'e' || text[i] == 'E') && take_exponent(text, length, i, &out->exponent));
}

emb_money_reading emb_money_parse(const char *text, size_t length, uint64_t *out)
{
    decimal d;
    if (!take_decimal(text, length, &d))
        return EMB_MONEY_NO_NUMBER;
    if (d.too_long)
        return d.exponent < -NANO_DIGITS ? EMB_MONEY_TOO_FINE : EMB_MONEY_TOO_LARGE;
    d.exponent += NANO_DIGITS;
    for (; d.digits && d.exponent < 0; d.exponent++, d.digits /= 10)
        if (d.digits % 10)
            return EMB_MONEY_TOO_FINE;
    for (; d.digits && d.exponent > 0; d.exponent--, d.digits *= 10)
        if (d.digits > UINT64_MAX / 10)
            return EMB_MONEY_TOO_LARGE;
    if (d.digits > UINT64_MAX)
        return EMB_MONEY_TOO_LARGE;
    *out = (uint64_t)d.digits;
    return EMB_MONEY_READ;
}

const char *emb_money_text(uint64_t nusd, char out[EMB_MONEY_TEXT_MAX])
{
    const uint64_t dollar = 1000000000;
    int n = snprintf(out, EMB_MONEY_TEXT_MAX, "%llu.%09llu", (unsigned long long)(nusd / dollar),
                     (unsigned long long)(nusd % dollar));
    while (out[n - 1] == '0')
        out[--n] = 0;
    if (out[n - 1] == '.')
        out[n - 1] = 0;
    return out;
}
