/*
 * value.c: texts to values and back, by kind.
 *
 * All sources give text (a YAML scalar, a variable, a flag), so there is one parser, and a value is written
 * in the same way everywhere. Numbers are read without the locale: a decimal point is a point. Sizes are
 * exact integers also with a fraction ("1.5GiB"), computed in 128 bits. Messages say the value, what is wrong
 * with it and what is allowed; those of a secret leave the value out. Control characters and invalid UTF-8
 * are refused in every text, so that no value can break a line of the log, a header or the printed YAML.
 */
#include "config/parts.h"

#include "base/error.h"
#include "base/utf8.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what messages show ---- */

const char *emb_setting_shown(const emb_setting *setting, const char *text, size_t length,
                              char out[EMB_SHOWN_MAX])
{
    enum { LONGEST = 80 };
    if (setting && setting->secret) {
        snprintf(out, EMB_SHOWN_MAX, "the value (which is not shown)");
        return out;
    }
    size_t n = 0;
    out[n++] = '\'';
    for (size_t i = 0; i < length;) {
        uint32_t c;
        size_t taken = emb_utf8_decode(text + i, length - i, &c);
        if (n > LONGEST) {
            memcpy(out + n, "…", 3);
            n += 3;
            break;
        }
        n += emb_utf8_encode(c < 0x20 || c == 0x7f ? '?' : c, out + n);
        i += taken;
    }
    out[n++] = '\'';
    out[n] = 0;
    return out;
}

static void size_in(uint64_t bytes, uint64_t step, const char *const units[5], char out[EMB_SIZE_TEXT_MAX])
{
    size_t unit = 0;
    while (bytes && bytes % step == 0 && unit < 4) {
        bytes /= step;
        unit++;
    }
    snprintf(out, EMB_SIZE_TEXT_MAX, "%llu%s", (unsigned long long)bytes, units[unit]);
}

const char *emb_size_text(uint64_t bytes, char out[EMB_SIZE_TEXT_MAX])
{
    static const char *const binary[] = {"", "KiB", "MiB", "GiB", "TiB"};
    static const char *const decimal[] = {"", "kB", "MB", "GB", "TB"};
    char other[EMB_SIZE_TEXT_MAX];
    size_in(bytes, 1024, binary, out);
    size_in(bytes, 1000, decimal, other);
    if (strlen(other) < strlen(out)) /* 2GB, not 1953125KiB */
        memcpy(out, other, sizeof other);
    return out;
}

/* The shortest text that reads back, with a point whatever the locale. */
static void real_text(double value, char *out, size_t size)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = c ? uselocale(c) : (locale_t)0;
    if (value == floor(value) && fabs(value) < 1e15)
        snprintf(out, size, "%.0f", value); /* not 1e+09 */
    else
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(out, size, "%.*g", digits, value);
            if (strtod(out, NULL) == value)
                break;
        }
    if (c) {
        uselocale(before);
        freelocale(c);
    }
}

const char *emb_setting_range(const emb_setting *s, char out[EMB_RANGE_MAX])
{
    char low[EMB_SIZE_TEXT_MAX], high[EMB_SIZE_TEXT_MAX];
    out[0] = 0;
    switch (s->kind) {
    case EMB_SETTING_BOOL:
        snprintf(out, EMB_RANGE_MAX, "true, false, yes, no, on, off, 1, 0");
        break;
    case EMB_SETTING_COUNT:
        snprintf(out, EMB_RANGE_MAX, "%.0f to %.0f", s->minimum, s->maximum);
        break;
    case EMB_SETTING_BYTES:
        snprintf(out, EMB_RANGE_MAX, "%s to %s", emb_size_text((uint64_t)s->minimum, low),
                 emb_size_text((uint64_t)s->maximum, high));
        break;
    case EMB_SETTING_REAL:
        real_text(s->minimum, low, sizeof low);
        real_text(s->maximum, high, sizeof high);
        snprintf(out, EMB_RANGE_MAX, "%s to %s", low, high);
        break;
    case EMB_SETTING_CHOICE: {
        size_t n = 0;
        for (const char *c = s->choices; *c && n + 3 < EMB_RANGE_MAX; c++) {
            if (*c == '|') {
                out[n++] = ',';
                out[n++] = ' ';
            } else {
                out[n++] = *c;
            }
        }
        out[n] = 0;
        break;
    }
    case EMB_SETTING_TEXT:
        break;
    }
    return out;
}

/* ---- parsing ---- */

static bool is_word(const char *text, size_t length, const char *word)
{
    if (strlen(word) != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != word[i])
            return false;
    }
    return true;
}

static bool parse_bool(const char *text, size_t length, bool *out)
{
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < 4; i++) {
        if (is_word(text, length, yes[i]))
            return *out = true;
        if (is_word(text, length, no[i])) {
            *out = false;
            return true;
        }
    }
    return false;
}

typedef enum reading { READ, NOT_A_NUMBER, TOO_LARGE } reading;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits to the end; *taken of them. */
static reading read_digits(const char *text, size_t length, uint64_t *out, size_t *taken)
{
    uint64_t value = 0;
    bool over = false;
    size_t i = 0;
    for (; i < length && is_digit(text[i]); i++)
        over |= __builtin_mul_overflow(value, 10u, &value) ||
                __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value);
    *out = value;
    *taken = i;
    return i == 0 ? NOT_A_NUMBER : over ? TOO_LARGE : READ;
}

static reading parse_count(const char *text, size_t length, uint64_t *out)
{
    size_t taken;
    reading r = read_digits(text, length, out, &taken);
    return taken == length ? r : NOT_A_NUMBER;
}

/* The bytes of a unit, 0 if there is none of this name. */
static uint64_t unit_bytes(const char *text, size_t length)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {
        {"", 1},
        {"b", 1},
        {"kb", 1000},
        {"mb", 1000000},
        {"gb", 1000000000},
        {"tb", 1000000000000},
        {"kib", 1 << 10},
        {"mib", 1 << 20},
        {"gib", 1ull << 30},
        {"tib", 1ull << 40},
    };
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (is_word(text, length, units[i].name))
            return units[i].bytes;
    return 0;
}

/* Digits, perhaps a fraction, perhaps a space, a unit. */
static reading parse_bytes(const char *text, size_t length, uint64_t *out)
{
    enum { FRACTION_DIGITS = 15 };
    uint64_t whole, scale = 1, fraction = 0;
    size_t at;
    reading r = read_digits(text, length, &whole, &at);
    if (r == NOT_A_NUMBER)
        return r;
    bool has_fraction = at < length && text[at] == '.';
    if (has_fraction) {
        size_t start = ++at;
        for (; at < length && is_digit(text[at]); at++)
            if (at - start < FRACTION_DIGITS) {
                fraction = fraction * 10 + (uint64_t)(text[at] - '0');
                scale *= 10;
            }
        if (at == start)
            return NOT_A_NUMBER;
    }
    at += at < length && text[at] == ' ';
    uint64_t unit = unit_bytes(text + at, length - at);
    if (unit == 0 || (has_fraction && unit == 1))
        return NOT_A_NUMBER;
    unsigned __int128 bytes = (unsigned __int128)whole * unit + (unsigned __int128)fraction * unit / scale;
    if (r == TOO_LARGE || bytes > UINT64_MAX)
        return TOO_LARGE;
    *out = (uint64_t)bytes;
    return READ;
}

/* [-+]digits[.digits][e[-+]digits]; no hex, infinity or NaN, which strtod would take. */
static bool is_real(const char *t, size_t n)
{
    size_t i = n && (t[0] == '-' || t[0] == '+'), digits = 0;
    for (; i < n && is_digit(t[i]); i++)
        digits++;
    if (i < n && t[i] == '.')
        for (i++; i < n && is_digit(t[i]); i++)
            digits++;
    if (!digits)
        return false;
    if (i < n && (t[i] == 'e' || t[i] == 'E')) {
        i++;
        i += i < n && (t[i] == '-' || t[i] == '+');
        size_t start = i;
        while (i < n && is_digit(t[i]))
            i++;
        if (i == start)
            return false;
    }
    return i == n;
}

static reading parse_real(const char *text, size_t length, double *out)
{
    char copy[64];
    if (length >= sizeof copy || !is_real(text, length))
        return NOT_A_NUMBER;
    memcpy(copy, text, length);
    copy[length] = 0;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c)
        return NOT_A_NUMBER; /* glibc's "C" is static and always there */
    *out = strtod_l(copy, NULL, c);
    freelocale(c);
    return isfinite(*out) ? READ : TOO_LARGE;
}

static int parse_choice(const char *choices, const char *text, size_t length)
{
    int index = 0;
    for (const char *c = choices;; index++) {
        size_t n = strcspn(c, "|");
        if (n == length && memcmp(c, text, n) == 0)
            return index;
        if (!c[n])
            return -1;
        c += n + 1;
    }
}

/* ---- storing ---- */

emb_status emb_value_refuse(const emb_setting *setting, const emb_origin *origin, const char *text,
                            size_t length, const char *problem, emb_error *err)
{
    char shown[EMB_SHOWN_MAX], range[EMB_RANGE_MAX];
    emb_setting_shown(setting, text, length, shown);
    emb_setting_range(setting, range);
    return emb_fail(err, EMB_E_INVALID, origin->subject, "%s: %s %s%s%s", origin->subject, shown, problem,
                    range[0] ? "; allowed: " : "", range);
}

static emb_status store_number(void *field, const emb_setting *s, const emb_origin *origin, const char *text,
                               size_t length, emb_error *err)
{
    uint64_t count = 0;
    double real = 0;
    reading r;
    const char *what;
    if (s->kind == EMB_SETTING_REAL) {
        r = parse_real(text, length, &real);
        what = "is not a number";
    } else if (s->kind == EMB_SETTING_COUNT) {
        r = parse_count(text, length, &count);
        real = (double)count;
        what = "is not a whole number";
    } else {
        r = parse_bytes(text, length, &count);
        real = (double)count;
        what = "is not a size, such as 64MiB, 2GB, 1.5GiB or a number of bytes";
    }
    if (r == NOT_A_NUMBER)
        return emb_value_refuse(s, origin, text, length, what, err);
    if (r == TOO_LARGE || real < s->minimum || real > s->maximum)
        return emb_value_refuse(s, origin, text, length, "is out of range", err);
    if (s->kind == EMB_SETTING_REAL)
        *(double *)field = real;
    else
        *(size_t *)field = (size_t)count;
    return EMB_OK;
}

static emb_status store_text(emb_arena *arena, const char **field, const emb_setting *s,
                             const emb_origin *origin, const char *text, size_t length, emb_error *err)
{
    if (emb_utf8_valid_prefix(text, length) != length)
        return emb_value_refuse(s, origin, text, length, "is not valid UTF-8", err);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return emb_value_refuse(s, origin, text, length, "holds a control character", err);
    const char *copy = emb_arena_strndup(arena, text, length);
    if (!copy)
        return emb_fail_nomem(err, "configuration", length + 1);
    *field = copy;
    return EMB_OK;
}

emb_status emb_value_set(emb_arena *arena, const emb_setting *setting, void *field, const emb_origin *origin,
                         const char *text, size_t length, emb_error *err)
{
    emb_status status = EMB_OK;
    int index;
    switch (setting->kind) {
    case EMB_SETTING_BOOL:
        if (!parse_bool(text, length, field))
            status = emb_value_refuse(setting, origin, text, length, "is neither true nor false", err);
        break;
    case EMB_SETTING_COUNT:
    case EMB_SETTING_BYTES:
    case EMB_SETTING_REAL:
        status = store_number(field, setting, origin, text, length, err);
        break;
    case EMB_SETTING_CHOICE:
        index = parse_choice(setting->choices, text, length);
        if (index < 0)
            status = emb_value_refuse(setting, origin, text, length, "is not a choice", err);
        else
            *(int *)field = index;
        break;
    case EMB_SETTING_TEXT:
        status = store_text(arena, field, setting, origin, text, length, err);
        break;
    }
    return status;
}

emb_status emb_config_set(emb_config_state *state, const emb_setting *setting, const emb_origin *origin,
                          const char *text, size_t length, emb_error *err)
{
    void *field = (char *)&state->values + setting->offset;
    emb_status status = emb_value_set(&state->arena, setting, field, origin, text, length, err);
    if (!status)
        state->origins[emb_setting_index(setting)] = *origin;
    return status;
}

/* ---- writing ---- */

static emb_status write_choice(const char *choices, int index, emb_buf *out)
{
    for (; index > 0; index--)
        choices += strcspn(choices, "|") + 1;
    return emb_buf_add(out, choices, strcspn(choices, "|"));
}

emb_status emb_value_write(const void *field, const emb_setting *setting, emb_buf *out)
{
    char text[EMB_SIZE_TEXT_MAX];
    switch (setting->kind) {
    case EMB_SETTING_BOOL:
        return emb_buf_add_str(out, *(const bool *)field ? "true" : "false");
    case EMB_SETTING_COUNT:
        return emb_buf_addf(out, "%zu", *(const size_t *)field);
    case EMB_SETTING_BYTES:
        return emb_buf_add_str(out, emb_size_text(*(const size_t *)field, text));
    case EMB_SETTING_REAL:
        real_text(*(const double *)field, text, sizeof text);
        return emb_buf_add_str(out, text);
    case EMB_SETTING_CHOICE:
        return write_choice(setting->choices, *(const int *)field, out);
    case EMB_SETTING_TEXT:
        break;
    }
    const char *value = *(const char *const *)field;
    return emb_buf_add_str(out, setting->secret && *value ? "(set)" : value);
}

emb_status emb_setting_write(const emb_config *config, const emb_setting *setting, emb_buf *out)
{
    return emb_value_write((const char *)config + setting->offset, setting, out);
}
