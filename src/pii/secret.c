/*
 * secret.c: keys of services, JSON web tokens and private keys.
 *
 * Each begins with a prefix that its maker chose so that it can be found; the anchor is the rarest byte of
 * the prefix ("-" of "sk-", "_" of "ghp_", "K" of "AKIA", "J" of "eyJ"). Where the prefix is short, the rest
 * must look random: digits and letters of both cases, which "sk-learn-contrib-something" has not. GitHub's
 * tokens end in a CRC-32 in base 62; a good one makes the finding sure, a bad one is no reason to drop it.
 *
 * A PEM private key reaches to its END line, or, cut off, as far as its lines do. A token is read to its end
 * once: of an anchor within a longer run of token characters nothing is read, so that all stays linear.
 */
#include "pii/parts.h"

#include <strings.h>

static bool is_token(unsigned char c)
{
    return emb_pii_word(c) || c == '-';
}

/* What kinds of characters a stretch has. */
typedef struct looks {
    size_t digits, upper, lower, other;
    bool hex;
} looks;

static looks look_at(const unsigned char *s, size_t n)
{
    looks l = {.hex = true};
    for (size_t i = 0; i < n; i++) {
        l.digits += emb_pii_digit(s[i]);
        l.upper += emb_pii_upper(s[i]);
        l.lower += emb_pii_lower(s[i]);
        l.other += !emb_pii_alnum(s[i]);
        l.hex = l.hex && emb_pii_hex(s[i]) >= 0;
    }
    return l;
}

/* ---- prefixes ---- */

typedef struct prefix {
    const char *text;
    unsigned char anchor; /* its place in the text */
    unsigned char dashes; /* whether - and _ may follow */
    unsigned short minimum, maximum;
    bool mixed; /* the rest must have digits and letters of both cases, or be hexadecimal */
} prefix;

static const prefix prefixes[] = {
    {"sk-", 2, 1, 20, 300, true},       {"sk_live_", 2, 0, 16, 255, false},
    {"sk_test_", 2, 0, 16, 255, false}, {"rk_live_", 2, 0, 16, 255, false},
    {"rk_test_", 2, 0, 16, 255, false}, {"pk_live_", 2, 0, 16, 255, false},
    {"ghp_", 3, 0, 36, 36, false},      {"gho_", 3, 0, 36, 36, false},
    {"ghu_", 3, 0, 36, 36, false},      {"ghs_", 3, 0, 36, 36, false},
    {"ghr_", 3, 0, 36, 76, false},      {"github_pat_", 6, 1, 60, 90, false},
    {"xoxb-", 4, 1, 16, 255, true},     {"xoxp-", 4, 1, 16, 255, true},
    {"xoxa-", 4, 1, 16, 255, true},     {"xoxr-", 4, 1, 16, 255, true},
    {"xoxs-", 4, 1, 16, 255, true},     {"xapp-", 4, 1, 16, 255, true},
    {"glpat-", 5, 1, 20, 64, true},     {"GOCSPX-", 6, 1, 24, 40, false},
    {"hf_", 2, 0, 30, 40, true},        {"npm_", 3, 0, 36, 36, true},
    {"whsec_", 5, 0, 24, 64, true},     {"AIza", 2, 1, 35, 35, false},
    {"pypi-", 4, 1, 60, 300, true},
};

static bool base62_crc_holds(const unsigned char *body)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < 30; i++) {
        crc ^= body[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    crc = ~crc;
    for (size_t i = 36; i-- > 30; crc /= 62)
        if (body[i] != (unsigned char)digits[crc % 62])
            return false;
    return true;
}

static bool looks_random(const unsigned char *s, size_t n)
{
    looks l = look_at(s, n);
    return l.digits && (l.upper || (l.hex && n >= 24)) && (l.lower || (l.hex && n >= 24));
}

static size_t try_prefix(emb_pii_view *v, const prefix *x, size_t at)
{
    size_t start = at - x->anchor, body = start + strlen(x->text), end = body;
    if (at < x->anchor || !emb_pii_is(v, start, x->text) || is_token(emb_pii_before(v, start)))
        return 0;
    while (end < v->length && end - body <= x->maximum &&
           (x->dashes ? is_token(v->s[end]) : emb_pii_alnum(v->s[end])))
        end++;
    if (end - body < x->minimum || end - body > x->maximum || emb_pii_word(emb_pii_at(v, end)) ||
        (x->mixed && !looks_random(v->s + body, end - body)))
        return 0;
    bool sure = x->text[0] == 'g' && x->text[1] == 'h' && end - body == 36 && base62_crc_holds(v->s + body);
    emb_pii_add(v, EMB_PII_API_KEY, start, end, sure ? EMB_PII_BY_CHECKSUM : EMB_PII_BY_PATTERN);
    return end;
}

/* ---- Amazon ---- */

static size_t aws_id(emb_pii_view *v, size_t at)
{
    size_t start = at - 1, end = at + 3;
    if (at < 1 || emb_pii_word(emb_pii_before(v, start)) ||
        !(emb_pii_is(v, start, "AKIA") || emb_pii_is(v, start, "ASIA")))
        return 0;
    while (end - start < 20 && (emb_pii_upper(emb_pii_at(v, end)) || emb_pii_digit(emb_pii_at(v, end))))
        end++;
    if (end - start != 20 || emb_pii_word(emb_pii_at(v, end)))
        return 0;
    emb_pii_add(v, EMB_PII_API_KEY, start, end, EMB_PII_BY_PATTERN);
    return end;
}

/* aws_secret_access_key = …, whose first "_" is at `at` */
static size_t aws_secret(emb_pii_view *v, size_t at)
{
    static const char name[] = "_secret_access_key";
    size_t n = sizeof name - 1, start, end;
    if (v->length - at < n + 40 || at < 3 || strncasecmp((const char *)v->s + at - 3, "aws", 3) != 0 ||
        strncasecmp((const char *)v->s + at, name, n) != 0)
        return 0;
    for (start = at + n; start < at + n + 8 && emb_pii_at(v, start) && strchr(" \t\"'=:", v->s[start]);)
        start++;
    for (end = start; end - start <= 40 && (emb_pii_alnum(emb_pii_at(v, end)) || emb_pii_at(v, end) == '/' ||
                                            emb_pii_at(v, end) == '+');)
        end++;
    if (end - start != 40 || start == at + n)
        return 0;
    emb_pii_add(v, EMB_PII_API_KEY, start, end, EMB_PII_BY_CONTEXT);
    return end;
}

/* ---- JSON web tokens ---- */

static size_t segment_end(const emb_pii_view *v, size_t i)
{
    while (i < v->length && is_token(v->s[i]))
        i++;
    return i;
}

static size_t web_token(emb_pii_view *v, size_t at)
{
    size_t start = at - 2;
    if (at < 2 || v->s[at - 1] != 'y' || v->s[at - 2] != 'e' || is_token(emb_pii_before(v, start)))
        return 0;
    size_t header = segment_end(v, start);
    if (header - start < 16 || emb_pii_at(v, header) != '.' || !emb_pii_is(v, header + 1, "ey"))
        return 0;
    size_t payload = segment_end(v, header + 1);
    if (payload - header < 8 || emb_pii_at(v, payload) != '.')
        return 0;
    size_t end = segment_end(v, payload + 1);
    emb_pii_add(v, EMB_PII_API_KEY, start, end, EMB_PII_BY_PATTERN);
    return end;
}

/* ---- PEM ---- */

/* "-----BEGIN RSA PRIVATE KEY-----": the byte after it, or 0. */
static size_t begin_line(const emb_pii_view *v, size_t at)
{
    size_t i = at + 11, limit = i + 48;
    if (!emb_pii_is(v, at, "-----BEGIN "))
        return 0;
    for (; i < limit; i++)
        if (emb_pii_is(v, i, "PRIVATE KEY"))
            break;
        else if (!emb_pii_upper(emb_pii_at(v, i)) && !emb_pii_digit(emb_pii_at(v, i)) &&
                 emb_pii_at(v, i) != ' ')
            return 0;
    if (i >= limit)
        return 0;
    i += emb_pii_is(v, i + 11, " BLOCK") ? 17 : 11;
    return emb_pii_is(v, i, "-----") ? i + 5 : 0;
}

static size_t private_key(emb_pii_view *v, size_t at)
{
    size_t i = begin_line(v, at), end;
    if (!i)
        return 0;
    /* lines may be folded into one by "\n" spelt out; the characters of headers ("Proc-Type: 4,ENCRYPTED")
     * count too */
    for (end = i; i < v->length && !emb_pii_is(v, i, "-----"); i++) {
        unsigned char c = v->s[i];
        if (emb_pii_alnum(c) || c == '+' || c == '/' || c == '=')
            end = i + 1;
        else if (!c || !strchr(" \t\r\n\\:,-.\"'_", c))
            break;
        if (c == ' ' && i - end > 16)
            break;
    }
    if (emb_pii_is(v, i, "-----END ")) {
        size_t close = i + 9, limit = close + 48;
        while (close < v->length && close < limit && v->s[close] != '-' && v->s[close] != '\n')
            close++;
        end = emb_pii_is(v, close, "-----") ? close + 5 : close;
    }
    emb_pii_add(v, EMB_PII_PRIVATE_KEY, at, end, EMB_PII_BY_PATTERN);
    return end;
}

size_t emb_pii_secret(emb_pii_view *v, size_t at)
{
    unsigned char c = v->s[at];
    size_t end = 0;
    if (c == '-' && emb_pii_at(v, at + 1) == '-')
        return emb_pii_wants(v, EMB_PII_PRIVATE_KEY) && emb_pii_before(v, at) != '-' ? private_key(v, at) : 0;
    if (!emb_pii_wants(v, EMB_PII_API_KEY))
        return 0;
    if (c == 'J')
        return web_token(v, at);
    if (c == 'K' || c == 'S')
        return aws_id(v, at);
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes && !end; i++)
        if ((unsigned char)prefixes[i].text[prefixes[i].anchor] == c)
            end = try_prefix(v, &prefixes[i], at);
    return end || c != '_' ? end : aws_secret(v, at);
}
