/*
 * phone.c: telephone numbers.
 *
 * With "+", E.164: a calling code that exists, 8 to 15 digits with single separators. Without, the North
 * American forms (555) 234-5678, 555-234-5678, 555.234.5678 with or without 1 before, where area and exchange
 * begin with 2 to 9. Blanks alone as separators, ten digits in a row and other countries' national forms (0
 * first) need context: they look like quantities and order numbers.
 */
#include "pii/parts.h"

typedef struct phone {
    char digit[16];
    size_t digits, groups, group[16], end;
    bool blanks; /* nothing but blanks between the groups */
} phone;

/* Bytes of a separator at i: ASCII, a no-break space, Unicode's hyphens and the en dash; 0: none. */
static size_t separator_at(const emb_pii_view *v, size_t i)
{
    unsigned char c = emb_pii_at(v, i);
    if (c == 0xC2)
        return emb_pii_at(v, i + 1) == 0xA0 ? 2 : 0;
    if (c == 0xE2)
        return emb_pii_at(v, i + 1) == 0x80 && emb_pii_at(v, i + 2) >= 0x90 && emb_pii_at(v, i + 2) <= 0x93
                   ? 3
                   : 0;
    return c && strchr(" -.()", c) ? 1 : 0;
}

static bool gather(const emb_pii_view *v, size_t at, phone *p)
{
    *p = (phone){.blanks = true};
    for (size_t i = at;;) {
        size_t begin = p->digits;
        for (; emb_pii_digit(emb_pii_at(v, i)); i++) {
            if (p->digits == 15)
                return false;
            p->digit[p->digits++] = (char)v->s[i];
        }
        if (p->groups == 15)
            return false;
        p->group[p->groups++] = p->digits - begin;
        p->end = i;
        size_t skip = i, n;
        bool blanks = true;
        for (size_t count = 0; count < 3 && (n = separator_at(v, skip)); count++, skip += n)
            blanks = blanks && (v->s[skip] == ' ' || n == 2);
        if (skip == i || !emb_pii_digit(emb_pii_at(v, skip)))
            return true;
        p->blanks = p->blanks && blanks;
        i = skip;
    }
}

static bool calling_code(const char *d)
{
    unsigned two = (unsigned)(d[0] - '0') * 10 + (unsigned)(d[1] - '0'),
             three = two * 10 + (unsigned)(d[2] - '0');
    switch (d[0]) {
    case '1':
        return d[1] >= '2' && d[4] >= '2';
    case '7':
        return true;
    case '2':
        return two == 20 || two == 27 ||
               (three >= 211 && three <= 269 && three != 214 && three != 215 && three != 217 &&
                three != 219 && three != 259) ||
               three >= 290;
    case '3':
        return three != 384 && three != 388;
    case '4':
        return two != 42 || three == 420 || three == 421 || three == 423;
    case '5':
    case '6':
        return three <= 692;
    case '8':
        return two == 81 || two == 82 || two == 84 || two == 86 || three == 800 || three == 808 ||
               two == 85 || two == 87 || three == 880 || three == 886;
    case '9':
        return two <= 95 || two == 98 || (three >= 960 && three <= 979 && three != 969 && three != 978) ||
               (three >= 992 && three <= 998 && three != 997);
    default:
        return false;
    }
}

static bool north_american(const char *d)
{
    return d[0] >= '2' && d[3] >= '2' && !(d[1] == '9') && !(d[1] == '1' && d[2] == '1');
}

/* Past " x123", " ext. 123". */
static size_t extension(const emb_pii_view *v, size_t end)
{
    size_t i = end + (emb_pii_at(v, end) == ' '), digits;
    size_t mark = emb_pii_is(v, i, "ext. ")                              ? 5
                  : emb_pii_is(v, i, "ext ") || emb_pii_is(v, i, "ext.") ? 4
                                                                         : emb_pii_at(v, i) == 'x';
    i += mark;
    for (digits = 0; digits < 6 && emb_pii_digit(emb_pii_at(v, i + digits)); digits++)
        ;
    return mark && digits && !emb_pii_word(emb_pii_at(v, i + digits)) ? i + digits : end;
}

static bool ends_clean(const emb_pii_view *v, size_t end)
{
    unsigned char c = emb_pii_at(v, end), next = emb_pii_at(v, end + 1);
    return !emb_pii_word(c) &&
           !((c == '-' || c == '.' || c == '/' || c == ':' || c == '@') && emb_pii_alnum(next));
}

static size_t found(emb_pii_view *v, size_t start, size_t end, bool context)
{
    end = extension(v, end);
    emb_pii_add(v, EMB_PII_PHONE, start, end, context ? EMB_PII_BY_CONTEXT : EMB_PII_BY_PATTERN);
    return end;
}

size_t emb_pii_phone(emb_pii_view *v, size_t at)
{
    phone p;
    unsigned char before = emb_pii_before(v, at);
    size_t first_group = at;
    while (first_group - at < 5 && emb_pii_digit(emb_pii_at(v, first_group)))
        first_group++;
    if (before == '(' && emb_pii_at(v, first_group) != ')')
        before = ' '; /* the bracket is around more than the area */
    size_t start = at - (before == '(' || before == '+');
    if (before == '(' && emb_pii_before(v, start) == '+')
        start--;
    unsigned char outer = emb_pii_before(v, start);
    if (emb_pii_word(outer) || outer == '$' || outer == '#' || outer == '@' || outer == '=' ||
        ((outer == '-' || outer == '.' || outer == '/' || outer == ':' || outer == ',') && start > 1 &&
         emb_pii_alnum(v->s[start - 2]) && outer != ':') ||
        (outer == '.') || !gather(v, at, &p) || p.digits < 8 || !ends_clean(v, p.end))
        return 0;
    bool context = emb_pii_has_context(v, EMB_PII_PHONE, start, p.end);
    if (start < at && v->s[start] == '+')
        return p.digits >= 8 && calling_code(p.digit) && (p.digit[0] != '1' || p.digits == 11)
                   ? found(v, start, p.end, context)
                   : 0;
    bool one = p.digits == 11 && p.digit[0] == '1';
    const char *d = p.digit + one;
    if ((p.digits == 10 || one) && north_american(d)) {
        bool lone = p.groups == 1 || (p.groups == 2 && one && p.group[0] == 1);
        size_t first = one && p.group[0] == 1;
        bool form = p.groups == first + 3 && p.group[first] == 3 && p.group[first + 1] == 3;
        if (context ? form || lone : form && (!p.blanks || before == '('))
            return found(v, start, p.end, context);
        return 0;
    }
    if (context && p.digits >= 9 && p.digits <= 13 && p.digit[0] == '0')
        return found(v, start, p.end, true);
    return 0;
}
