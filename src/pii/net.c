/*
 * net.c: addresses of mail, hosts and network cards.
 *
 * Mail is found from its "@" outward. A local part may hold bytes above ASCII (so may the labels of a domain,
 * not the last one); it ends at whatever cannot be in an address that people write: quotes and the rest of
 * RFC 5322's atoms (!#$&*=?^`{|}~/) were left out, because around real addresses they are almost always
 * markup or code.
 *
 * Of IPv4, addresses that stand for nobody (0/8, 127/8, 255.255.255.255) do not count, nor does what is a
 * version: a part of a name ("lib-1.2.3.4") or after "version", "release", "build", "section". IPv6 is read
 * by inet_pton from the whole run of its characters, so that a part of something longer is never taken.
 */
#include "pii/parts.h"

#include <arpa/inet.h>
#include <strings.h>

/* ---- mail ---- */

static bool is_local(unsigned char c)
{
    return emb_pii_alnum(c) || c >= 0x80 || c == '.' || c == '_' || c == '%' || c == '+' || c == '-' ||
           c == '\'';
}

/* Endings of file names that follow an "@" in names such as "icon@2x.png". */
static bool is_file_ending(const unsigned char *s, size_t n)
{
    static const char *const endings[] = {"png",   "jpg",         "jpeg",    "gif", "svg",  "webp", "css",
                                          "html",  "htm",         "json",    "js",  "jsx",  "tsx",  "tar",
                                          "gz",    "whl",         "tgz",     "jar", "yaml", "yml",  "txt",
                                          "local", "localdomain", "service", "exe", "dll",  "xml",  "lock"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (strlen(endings[i]) == n && strncasecmp((const char *)s, endings[i], n) == 0)
            return true;
    return false;
}

/* The end of the longest domain from `i` on whose last label is of letters; 0 if there is none. */
static size_t domain_end(const emb_pii_view *v, size_t i)
{
    size_t limit = i + 253 < v->length ? i + 253 : v->length, label = i, best = 0, dots = 0;
    bool letters = true;
    for (size_t p = i; p <= limit; p++) {
        unsigned char c = p < limit ? v->s[p] : 0;
        bool in_label = emb_pii_alnum(c) || c == '-' || c >= 0x80;
        size_t n = p - label;
        if (dots && letters && n >= 2 && n <= 24 && (c >= 0x80 || !in_label) &&
            !is_file_ending(v->s + label, n))
            best = p;
        if (in_label) {
            if (c == '-' && p == label)
                break;
            letters = letters && emb_pii_alpha(c);
            if (n >= 63)
                break;
        } else if (c == '.' && n > 0) {
            dots++;
            label = p + 1;
            letters = true;
        } else {
            break;
        }
    }
    return best;
}

void emb_pii_email(emb_pii_view *v, size_t at)
{
    size_t start = at;
    while (start > 0 && at - start < 65 && is_local(v->s[start - 1]))
        start--;
    while (start < at && (v->s[start] == '.' || v->s[start] == '\'' || v->s[start] == '-' ||
                          v->s[start] == '%' || (v->s[start] & 0xC0) == 0x80))
        start++;
    if (start == at || at - start > 64 || v->s[at - 1] == '.' ||
        !(emb_pii_word(v->s[at - 1]) || v->s[at - 1] == '-' || v->s[at - 1] == '+' || v->s[at - 1] >= 0x80))
        return;
    size_t end = domain_end(v, at + 1);
    if (end)
        emb_pii_add(v, EMB_PII_EMAIL, start, end, EMB_PII_BY_PATTERN);
}

/* ---- IPv4 ---- */

/* Whether the word before is one of a version's. */
static bool is_version(const emb_pii_view *v, size_t at)
{
    static const char *const words[] = {
        "version", "versions", "release",  "build",  "section",   "chapter", "v",     "ver",
        "rev",     "revision", "firmware", "clause", "paragraph", "figure",  "table", "oid",
        "chrome",  "chromium", "update",   "patch",  "driver",    "sdk",     "kernel"};
    size_t end = at;
    while (end > 0 && at - end < 4 && (v->s[end - 1] == ' ' || v->s[end - 1] == ':' || v->s[end - 1] == '='))
        end--;
    size_t start = end;
    while (start > 0 && end - start < 16 && emb_pii_alpha(v->s[start - 1]))
        start--;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == end - start &&
            strncasecmp((const char *)v->s + start, words[i], end - start) == 0)
            return true;
    return false;
}

void emb_pii_ipv4(emb_pii_view *v, size_t at)
{
    unsigned part[4];
    size_t p = at;
    unsigned char before = emb_pii_before(v, at);
    if (emb_pii_word(before) || before == '.' || before == '-' ||
        (before == ':' && emb_pii_hex(emb_pii_before(v, at - 1)) >= 0 &&
         !emb_pii_alpha(emb_pii_before(v, at - 1))))
        return;
    for (size_t i = 0; i < 4; i++) {
        size_t begin = p;
        for (part[i] = 0; emb_pii_digit(emb_pii_at(v, p)) && p - begin < 4; p++)
            part[i] = part[i] * 10 + (v->s[p] - '0');
        if (p == begin || p - begin > 3 || part[i] > 255 || (v->s[begin] == '0' && p - begin > 1) ||
            (i < 3 && emb_pii_at(v, p++) != '.'))
            return;
    }
    unsigned char after = emb_pii_at(v, p), next = emb_pii_at(v, p + 1);
    if (emb_pii_word(after) || ((after == '.' || after == '-') && emb_pii_alnum(next)) || part[0] == 0 ||
        part[0] == 127 || (part[0] & part[1] & part[2] & part[3]) == 255 ||
        (before == '/' && !emb_pii_is(v, at - 2, "/")) || is_version(v, at))
        return;
    emb_pii_add(v, EMB_PII_IP_ADDRESS, at, p, EMB_PII_BY_PATTERN);
}

/* ---- MAC ---- */

/* Six pairs with one separator, the first of which is at `at`. */
static bool mac_pairs(emb_pii_view *v, size_t at)
{
    unsigned char separator = v->s[at], before = at > 2 ? v->s[at - 3] : 0;
    size_t start = at - 2;
    bool letter = false, differs = false;
    if (at < 2 || emb_pii_word(before) || before == separator || v->length - start < 17)
        return false;
    for (size_t i = 0; i < 17; i++) {
        unsigned char c = v->s[start + i];
        if (i % 3 == 2 ? c != separator : emb_pii_hex(c) < 0)
            return false;
        letter = letter || emb_pii_alpha(c);
        differs = differs || (i % 3 != 2 && c != v->s[start]);
    }
    unsigned char after = emb_pii_at(v, start + 17);
    if (emb_pii_word(after) || (after == separator && emb_pii_word(emb_pii_at(v, start + 18))) || !differs)
        return false;
    bool context = emb_pii_has_context(v, EMB_PII_MAC_ADDRESS, start, start + 17);
    if (!letter && separator == '-' && !context)
        return false;
    emb_pii_add(v, EMB_PII_MAC_ADDRESS, start, start + 17, context ? EMB_PII_BY_CONTEXT : EMB_PII_BY_PATTERN);
    return true;
}

/* "001a.2b3c.4d5e", the first point of which is at `at` */
static void mac_quads(emb_pii_view *v, size_t at)
{
    size_t start = at - 4, digits = 0;
    bool differs = false;
    if (at < 4 || emb_pii_at(v, at + 5) != '.' || v->length - start < 14 ||
        emb_pii_word(emb_pii_before(v, start)) || emb_pii_before(v, start) == '.')
        return;
    for (size_t i = 0; i < 14; i++) {
        unsigned char c = v->s[start + i];
        if (i % 5 == 4 ? c != '.' : emb_pii_hex(c) < 0)
            return;
        digits += emb_pii_digit(c);
        differs = differs || (i % 5 != 4 && c != v->s[start]);
    }
    unsigned char after = emb_pii_at(v, start + 14);
    if (!differs || digits == 0 || emb_pii_word(after) ||
        (after == '.' && emb_pii_word(emb_pii_at(v, start + 15))))
        return;
    bool context = emb_pii_has_context(v, EMB_PII_MAC_ADDRESS, start, start + 14);
    if (digits < 12 || context)
        emb_pii_add(v, EMB_PII_MAC_ADDRESS, start, start + 14,
                    context ? EMB_PII_BY_CONTEXT : EMB_PII_BY_PATTERN);
}

void emb_pii_mac(emb_pii_view *v, size_t at)
{
    if (v->s[at] == '.')
        mac_quads(v, at);
    else if (at >= 2 && emb_pii_hex(v->s[at - 1]) >= 0 && emb_pii_hex(v->s[at - 2]) >= 0)
        mac_pairs(v, at);
}

/* ---- IPv6 ---- */

static bool is_v6(unsigned char c)
{
    return emb_pii_hex(c) >= 0 || c == ':' || c == '.';
}

/* Whether it is of somebody, and no piece of code such as "a::b". */
static bool v6_counts(const char *text, size_t n, const unsigned char a[16])
{
    size_t groups = 0, digits = 0;
    for (size_t i = 0; i < n; i++) {
        groups += text[i] != ':' && (i == 0 || text[i - 1] == ':');
        digits += emb_pii_digit((unsigned char)text[i]);
    }
    size_t zeros = 0;
    while (zeros < 16 && a[zeros] == 0)
        zeros++;
    return zeros < 15 && digits &&
           (groups >= 3 || strcspn(text, ":") == 4 || strncmp(text, "::ffff:", 7) == 0);
}

void emb_pii_colon(emb_pii_view *v, size_t at)
{
    char text[48];
    unsigned char address[16];
    size_t start = at, end = at;
    if (emb_pii_wants(v, EMB_PII_MAC_ADDRESS))
        emb_pii_mac(v, at);
    while (start > 0 && at - start < 5 && emb_pii_hex(v->s[start - 1]) >= 0)
        start--;
    unsigned char before = emb_pii_before(v, start);
    if (at - start > 4 || emb_pii_word(before) || before == ':' || before == '.' ||
        !(at > start || emb_pii_at(v, at + 1) == ':'))
        return;
    while (end < v->length && end - start < 46 && is_v6(v->s[end]))
        end++;
    while (end > at && (v->s[end - 1] == '.' || (v->s[end - 1] == ':' && v->s[end - 2] != ':')))
        end--;
    if (end - start > 45 || end - start < 5 || emb_pii_word(emb_pii_at(v, end)) ||
        !memchr(v->s + at + 1, ':', end - at - 1))
        return;
    memcpy(text, v->s + start, end - start);
    text[end - start] = 0;
    if (inet_pton(AF_INET6, text, address) == 1 && v6_counts(text, end - start, address))
        emb_pii_add(v, EMB_PII_IP_ADDRESS, start, end, EMB_PII_BY_PATTERN);
}
