/*
 * identity.c: what says something of a person only next to a word that names it: numbers of passports and
 * driving licences, dates of birth. A number is the whole run of capitals and digits around the anchor.
 */
#include "pii/parts.h"

#include <strings.h>

static bool is_document(unsigned char c)
{
    return emb_pii_upper(c) || emb_pii_digit(c);
}

void emb_pii_document(emb_pii_view *v, size_t at)
{
    size_t start = at, end = at, digits = 0, dashes = 0;
    while (start > 0 && at - start < 9 && emb_pii_upper(v->s[start - 1]))
        start--;
    unsigned char before = emb_pii_before(v, start);
    if (at - start > 8 || emb_pii_word(before) || before == '-' || before == '.' || before == '/')
        return;
    for (; end < v->length && end - start < 24; end++) {
        if (v->s[end] == '-' && is_document(emb_pii_at(v, end + 1)))
            dashes++;
        else if (!is_document(v->s[end]))
            break;
        digits += emb_pii_digit(v->s[end]);
    }
    size_t n = end - start;
    if (digits < 5 || n < 6 || n > 20 || emb_pii_word(emb_pii_at(v, end)))
        return;
    if (emb_pii_wants(v, EMB_PII_PASSPORT) && n <= 9 && !dashes &&
        emb_pii_has_context(v, EMB_PII_PASSPORT, start, end))
        emb_pii_add(v, EMB_PII_PASSPORT, start, end, EMB_PII_BY_CONTEXT);
    else if (emb_pii_wants(v, EMB_PII_DRIVING_LICENCE) &&
             emb_pii_has_context(v, EMB_PII_DRIVING_LICENCE, start, end))
        emb_pii_add(v, EMB_PII_DRIVING_LICENCE, start, end, EMB_PII_BY_CONTEXT);
}

/* ---- dates ---- */

/* The bytes of digits at i and their value; at most 4. */
static size_t read_number(const emb_pii_view *v, size_t i, unsigned *value)
{
    size_t n = 0;
    for (*value = 0; n < 5 && emb_pii_digit(emb_pii_at(v, i + n)); n++)
        *value = *value * 10 + (v->s[i + n] - '0');
    return n <= 4 ? n : 0;
}

static bool is_year(unsigned year, size_t digits)
{
    return (digits == 4 && year >= 1880 && year <= 2040) || digits == 2;
}

static bool is_day(unsigned a, unsigned b)
{
    return a && b && ((a <= 12 && b <= 31) || (b <= 12 && a <= 31));
}

/* 1980-01-31, 31.01.1980, 1/31/80: its end or 0. */
static size_t numeric_date(const emb_pii_view *v, size_t at)
{
    unsigned part[3];
    size_t n[3], i = at;
    unsigned char separator = 0;
    for (size_t k = 0; k < 3; k++) {
        n[k] = read_number(v, i, &part[k]);
        i += n[k];
        if (!n[k])
            return 0;
        if (k == 2)
            break;
        unsigned char c = emb_pii_at(v, i++);
        if ((c != '-' && c != '/' && c != '.') || (separator && c != separator))
            return 0;
        separator = c;
    }
    bool first = n[0] == 4 && is_year(part[0], 4) && is_day(part[1], part[2]) && n[1] <= 2 && n[2] <= 2;
    bool last = n[0] <= 2 && n[1] <= 2 && is_year(part[2], n[2]) && is_day(part[0], part[1]);
    return first || last ? i : 0;
}

/* 19800131: its end or 0. */
static size_t compact_date(const emb_pii_view *v, size_t at)
{
    unsigned year = 0, rest = 0;
    size_t n = 0;
    for (; n < 9 && emb_pii_digit(emb_pii_at(v, at + n)); n++)
        *(n < 4 ? &year : &rest) = *(n < 4 ? &year : &rest) * 10 + (v->s[at + n] - '0');
    unsigned month = rest / 100, day = rest % 100;
    return n == 8 && is_year(year, 4) && month >= 1 && month <= 12 && day >= 1 && day <= 31 ? at + 8 : 0;
}

/* The letters of a month's name at i, a point after it included; 0: none. */
static size_t month_at(const emb_pii_view *v, size_t i)
{
    static const char *const months[] = {"january",   "february", "march",    "april",
                                         "may",       "june",     "july",     "august",
                                         "september", "october",  "november", "december"};
    size_t n = 0;
    while (n < 10 && emb_pii_alpha(emb_pii_at(v, i + n)))
        n++;
    for (size_t m = 0; m < 12 && n >= 3; m++)
        if (n <= strlen(months[m]) && strncasecmp((const char *)v->s + i, months[m], n) == 0)
            return n + (emb_pii_at(v, i + n) == '.');
    return n == 4 && strncasecmp((const char *)v->s + i, "sept", 4) == 0 ? 4 : 0;
}

static size_t year_end(const emb_pii_view *v, size_t i)
{
    unsigned year;
    i += emb_pii_at(v, i) == ',';
    i += emb_pii_at(v, i) == ' ';
    return read_number(v, i, &year) == 4 && is_year(year, 4) ? i + 4 : 0;
}

/* "5 January 1980", "5th of January, 1980", "05-Jan-1980", or "January 5, 1980" with its number at `at`. */
static size_t worded_date(const emb_pii_view *v, size_t at, size_t *start)
{
    unsigned day;
    size_t n = read_number(v, at, &day), i = at + n;
    if (!n || n > 2 || !day || day > 31)
        return 0;
    if (emb_pii_alpha(emb_pii_at(v, i)) && emb_pii_alpha(emb_pii_at(v, i + 1)) &&
        !emb_pii_alpha(emb_pii_at(v, i + 2)))
        i += 2; /* st, nd, rd, th */
    size_t word = at - 1;
    if (at > 3 && v->s[at - 1] == ' ') {
        while (word > 0 && at - word < 12 && (emb_pii_alpha(v->s[word - 1]) || v->s[word - 1] == '.'))
            word--;
        size_t m = month_at(v, word);
        if (m && word + m == at - 1) {
            *start = word;
            return year_end(v, i);
        }
    }
    unsigned char separator = emb_pii_at(v, i++);
    if (separator != ' ' && separator != '-')
        return 0;
    i += separator == ' ' && emb_pii_is(v, i, "of ") ? 3 : 0;
    size_t m = month_at(v, i);
    if (separator == '-' && emb_pii_at(v, i + m) != '-')
        return 0;
    return m ? year_end(v, i + m + (separator == '-')) : 0;
}

void emb_pii_birth_date(emb_pii_view *v, size_t at)
{
    size_t start = at;
    unsigned char before = emb_pii_before(v, at);
    if (emb_pii_word(before) || before == '-' || before == '/' || before == '.')
        return;
    size_t end = numeric_date(v, at);
    if (!end)
        end = compact_date(v, at);
    if (!end)
        end = worded_date(v, at, &start);
    if (end && !emb_pii_word(emb_pii_at(v, end)) && emb_pii_at(v, end) != '/' &&
        emb_pii_has_context(v, EMB_PII_BIRTH_DATE, start, end))
        emb_pii_add(v, EMB_PII_BIRTH_DATE, start, end, EMB_PII_BY_CONTEXT);
}
