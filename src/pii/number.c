/*
 * number.c: numbers that are told by their digits: cards, SSN, ITIN, routing numbers, IBAN.
 *
 * The digits are gathered once with the separators between them; each recogniser then sees digits and the
 * lengths of the groups. A number that is part of a longer one (joined by "-" or "." to digits before or
 * after it) is not looked at, which is what tells a card or an SSN from ISBNs, part numbers and the like.
 * Digits that carry no form of their own need context: nine in a row are an SSN, ITIN or routing number only
 * where a word says so.
 */
#include "pii/parts.h"

enum { DIGITS_MAX = 20, GROUPS_MAX = 8 };

typedef struct number {
    char digit[DIGITS_MAX];
    size_t digits, groups, group[GROUPS_MAX];
    size_t end;
    unsigned separator; /* 0: none; ' ', '-', '.'; 1: several */
} number;

/* Bytes of the separator at i, which digits must follow; *kind: ' ', '-', '.'. */
static size_t separator_at(const emb_pii_view *v, size_t i, unsigned *kind)
{
    size_t n = 0;
    unsigned char c = emb_pii_at(v, i);
    if (c == ' ' || c == '-' || c == '.') {
        *kind = c;
        n = 1;
    } else if (c == 0xC2 && emb_pii_at(v, i + 1) == 0xA0) { /* no-break space */
        *kind = ' ';
        n = 2;
    } else if (c == 0xE2 && emb_pii_at(v, i + 1) == 0x80 && emb_pii_at(v, i + 2) >= 0x90 &&
               emb_pii_at(v, i + 2) <= 0x93) {
        *kind = '-'; /* hyphens and the en dash */
        n = 3;
    }
    return n && emb_pii_digit(emb_pii_at(v, i + n)) ? n : 0;
}

static bool joined_after(const emb_pii_view *v, size_t end)
{
    unsigned kind;
    unsigned char c = emb_pii_at(v, end);
    if (emb_pii_word(c) || ((c == '-' || c == '/') && emb_pii_alnum(emb_pii_at(v, end + 1))))
        return true;
    return separator_at(v, end, &kind) && kind != ' ';
}

static bool joined_before(const emb_pii_view *v, size_t at)
{
    unsigned char c = emb_pii_before(v, at);
    bool join = c == '-' || c == '.' || c == '/' || c == '+';
    return emb_pii_word(c) || (join && at > 1 && emb_pii_alnum(v->s[at - 2])) || (c == '.' || c == '$');
}

/* The groups from `at` on, as far as one separator goes and `most` groups. */
static bool gather(const emb_pii_view *v, size_t at, size_t most, number *n)
{
    unsigned kind = 0;
    *n = (number){.end = at};
    for (size_t i = at; n->groups < most; i = n->end) {
        size_t skip = n->groups ? separator_at(v, i, &kind) : 0, start = n->digits;
        if (n->groups && (!skip || (n->separator && n->separator != kind)))
            break;
        for (i += skip; emb_pii_digit(emb_pii_at(v, i)); i++) {
            if (n->digits == DIGITS_MAX)
                return false;
            n->digit[n->digits++] = (char)(v->s[i] - '0');
        }
        n->separator = n->groups ? kind : 0;
        n->group[n->groups++] = n->digits - start;
        n->end = i;
    }
    return true;
}

static unsigned value(const number *n, size_t from, size_t count)
{
    unsigned x = 0;
    for (size_t i = from; i < from + count; i++)
        x = x * 10 + (unsigned)n->digit[i];
    return x;
}

/* ---- cards ---- */

static bool luhn(const number *n)
{
    unsigned sum = 0;
    for (size_t i = 0; i < n->digits; i++) {
        unsigned d = (unsigned)n->digit[n->digits - 1 - i];
        sum += i % 2 ? (d > 4 ? 2 * d - 9 : 2 * d) : d;
    }
    return sum % 10 == 0;
}

enum { NO_ISSUER, RARE_LENGTH, ISSUER };

/* Whether an issuer has cards of these first digits and this length. */
static int issuer_of(const number *n)
{
    unsigned two = value(n, 0, 2), three = value(n, 0, 3), four = value(n, 0, 4), six = value(n, 0, 6);
    size_t d = n->digits;
    if (n->digit[0] == 4)
        return d == 16 ? ISSUER : d == 13 || d == 19 ? RARE_LENGTH : NO_ISSUER;
    if ((two >= 51 && two <= 55) || (four >= 2221 && four <= 2720) || (four >= 2200 && four <= 2204))
        return d == 16 ? ISSUER : NO_ISSUER;
    if (two == 34 || two == 37)
        return d == 15 ? ISSUER : NO_ISSUER;
    if ((three >= 300 && three <= 305) || three == 309 || two == 36 || two == 38 || two == 39)
        return d == 14 ? ISSUER : d == 16 ? RARE_LENGTH : NO_ISSUER;
    if (four == 6011 || (three >= 644 && three <= 649) || two == 65 || (six >= 622126 && six <= 622925) ||
        (four >= 3528 && four <= 3589) || two == 62)
        return d == 16 ? ISSUER : d >= 17 && d <= 19 ? RARE_LENGTH : NO_ISSUER;
    if (four == 5018 || four == 5020 || four == 5038 || four == 5893 || four == 6304 || four == 6759 ||
        (four >= 6761 && four <= 6763))
        return d >= 12 && d <= 19 ? RARE_LENGTH : NO_ISSUER;
    return NO_ISSUER;
}

static bool groups_are(const number *n, const char *form)
{
    for (size_t i = 0; i < n->groups; i++)
        if (form[i] != (char)('0' + n->group[i]))
            return false;
    return form[n->groups] == 0;
}

static size_t card(emb_pii_view *v, size_t at)
{
    number n;
    if (gather(v, at, 5, &n) && n.digits < 12)
        return 0;
    for (size_t most = 5; most >= 1; most--) { /* "4111 1111 1111 1111 123": the last may be something else */
        if (!gather(v, at, most, &n) || n.groups < most || n.digits < 12 || n.digits > 19)
            continue;
        int issuer = issuer_of(&n);
        bool form = n.groups == 1 || groups_are(&n, "4444") || groups_are(&n, "465") ||
                    groups_are(&n, "464") || groups_are(&n, "44443");
        if (form && issuer != NO_ISSUER && luhn(&n) && !joined_after(v, n.end) &&
            (issuer == ISSUER || emb_pii_has_context(v, EMB_PII_CREDIT_CARD, at, n.end))) {
            emb_pii_add(v, EMB_PII_CREDIT_CARD, at, n.end, EMB_PII_BY_CHECKSUM);
            return n.end;
        }
    }
    return 0;
}

/* ---- nine digits ---- */

static bool ssn_counts(const number *n)
{
    unsigned area = value(n, 0, 3), group = value(n, 3, 2), serial = value(n, 5, 4);
    return area && area != 666 && area < 900 && group && serial &&
           !(area == 78 && group == 5 && serial == 1120) && !(area == 219 && group == 9 && serial == 9999);
}

static bool itin_counts(const number *n)
{
    unsigned area = value(n, 0, 3), group = value(n, 3, 2);
    return area >= 900 && ((group >= 50 && group <= 65) || (group >= 70 && group <= 88) ||
                           (group >= 90 && group <= 92) || group >= 94);
}

static bool routing_counts(const number *n)
{
    static const char weights[] = {3, 7, 1};
    unsigned sum = 0, first = value(n, 0, 2);
    for (size_t i = 0; i < 9; i++)
        sum += (unsigned)(n->digit[i] * weights[i % 3]);
    return sum && sum % 10 == 0 &&
           (first <= 12 || (first >= 21 && first <= 32) || (first >= 61 && first <= 72) || first == 80);
}

static size_t nine(emb_pii_view *v, size_t at)
{
    number n;
    if (!gather(v, at, 3, &n) || (n.groups == 3 && !groups_are(&n, "324")) ||
        (n.groups == 2 && !gather(v, at, 1, &n)) || (n.groups == 1 && n.digits != 9) || n.digits != 9)
        if (!gather(v, at, 1, &n) || n.digits != 9)
            return 0;
    if (joined_after(v, n.end))
        return 0;
    int kind = ssn_counts(&n) ? EMB_PII_US_SSN : itin_counts(&n) ? EMB_PII_US_ITIN : -1;
    bool context = kind >= 0 && emb_pii_has_context(v, (emb_pii_kind)kind, at, n.end);
    if (kind >= 0 && emb_pii_wants(v, (emb_pii_kind)kind) &&
        (context || (n.groups == 3 && n.separator == '-')))
        emb_pii_add(v, (uint32_t)kind, at, n.end, context ? EMB_PII_BY_CONTEXT : EMB_PII_BY_PATTERN);
    else if (emb_pii_wants(v, EMB_PII_US_ROUTING) && n.groups == 1 && routing_counts(&n) &&
             emb_pii_has_context(v, EMB_PII_US_ROUTING, at, n.end))
        emb_pii_add(v, EMB_PII_US_ROUTING, at, n.end, EMB_PII_BY_CHECKSUM);
    else
        return 0;
    return n.end;
}

size_t emb_pii_number(emb_pii_view *v, size_t at)
{
    size_t end = 0;
    if (!joined_before(v, at)) {
        end = emb_pii_wants(v, EMB_PII_CREDIT_CARD) ? card(v, at) : 0;
        if (!end)
            end = nine(v, at);
    }
    return !end && emb_pii_wants(v, EMB_PII_PHONE) ? emb_pii_phone(v, at) : end;
}

/* ---- IBAN ---- */

static size_t iban_length(const unsigned char *country)
{
    static const char table[] = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18"
                                "DO28EE20EG29ES24FI18FK18FO18FR27"
                                "GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21"
                                "LT20LU20LV21LY25MC27MD24ME22MK19"
                                "MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18"
                                "SE24SI19SK24SM27SO23ST25SV28TL23"
                                "TN24TR26UA29VA22VG24XK20YE30";
    for (const char *p = table; *p; p += 4)
        if (memcmp(p, country, 2) == 0)
            return (size_t)((p[2] - '0') * 10 + p[3] - '0');
    return 0;
}

/* "DE89 3704 …": the first digit is at `at`. Small letters are taken where there are no capitals: "de89 …";
 * the checksum tells the rest. */
void emb_pii_iban(emb_pii_view *v, size_t at)
{
    unsigned char text[34];
    size_t start = at - 2, n = 0, i = start, length;
    if (at < 2 || emb_pii_word(emb_pii_before(v, start)) || !emb_pii_digit(emb_pii_at(v, at + 1)))
        return;
    unsigned small = emb_pii_lower(v->s[start]) ? 0x20 : 0;
    unsigned char country[2] = {(unsigned char)(v->s[start] ^ small),
                                (unsigned char)(v->s[start + 1] ^ small)};
    if (!emb_pii_upper(country[0]) || !emb_pii_upper(country[1]) || !(length = iban_length(country)))
        return;
    while (n < length) {
        unsigned char c = emb_pii_at(v, i);
        if ((c == ' ' || c == '-') && n && emb_pii_alnum(emb_pii_at(v, i + 1)))
            c = emb_pii_at(v, ++i);
        if (!emb_pii_digit(c))
            c ^= (unsigned char)small;
        if (!emb_pii_upper(c) && !emb_pii_digit(c))
            return;
        text[n++] = c;
        i++;
    }
    unsigned rest = 0;
    for (size_t k = 0; k < length; k++) {
        unsigned char c = text[(k + 4) % length];
        rest = emb_pii_digit(c) ? (rest * 10 + (c - '0')) % 97 : (rest * 100 + (c - 'A' + 10)) % 97;
    }
    if (rest == 1 && !emb_pii_word(emb_pii_at(v, i)))
        emb_pii_add(v, EMB_PII_IBAN, start, i, EMB_PII_BY_CHECKSUM);
}
