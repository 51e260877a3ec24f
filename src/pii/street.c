/*
 * street.c: street addresses as English writes them: a number, one to four capitalised words, a word for a
 * street, and if they follow a flat, "City, ST" and a ZIP code; post office boxes. "1999 Supreme Court" is no
 * address: after what may be a year, words that mean other things too (Court, Way, Place ...) need a town or
 * context.
 */
#include "pii/parts.h"

static bool one_of(const char *list, const unsigned char *s, size_t n)
{
    for (const char *p = list; *p; p += strcspn(p, "|"), p += *p == '|')
        if (strcspn(p, "|") == n && memcmp(p, s, n) == 0)
            return true;
    return false;
}

static size_t word_end(const emb_pii_view *v, size_t i)
{
    size_t n = 0;
    while (n < 24 && (emb_pii_alnum(emb_pii_at(v, i + n)) || emb_pii_at(v, i + n) == '\'' ||
                      emb_pii_at(v, i + n) >= 0x80))
        n++;
    return n < 24 ? i + n : i;
}

/* Past " NW" and the like, which belong to the street. */
static size_t direction_end(const emb_pii_view *v, size_t end)
{
    size_t i = end + 1, word = emb_pii_at(v, end) == ' ' ? word_end(v, i) : i;
    return word > i && one_of("N|S|E|W|NE|NW|SE|SW|North|South|East|West", v->s + i, word - i) ? word : end;
}

/* Past ", Apt 4B", " Suite 200", " #12" */
static size_t flat_end(const emb_pii_view *v, size_t end)
{
    size_t i = end + (emb_pii_at(v, end) == ',');
    i += emb_pii_at(v, i) == ' ';
    size_t word = word_end(v, i);
    if (emb_pii_at(v, i) == '#')
        word = i + 1;
    else if (!one_of("Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Room", v->s + i, word - i))
        return end;
    word += emb_pii_at(v, word) == '.';
    word += emb_pii_at(v, word) == ' ';
    size_t number = word_end(v, word);
    return number > word && number - word <= 6 ? number : end;
}

/* Past ", Springfield, IL 62704" or as much of it as ends in a state or a ZIP code. */
static size_t town_end(const emb_pii_view *v, size_t end)
{
    size_t i = end;
    for (size_t words = 0; words < 5; words++) {
        i += emb_pii_at(v, i) == ',';
        if (emb_pii_at(v, i++) != ' ' || !emb_pii_upper(emb_pii_at(v, i)))
            return end;
        size_t word = word_end(v, i);
        bool state = word - i == 2 && emb_pii_upper(v->s[i + 1]) && words > 0;
        i = word;
        if (state) {
            size_t zip = i + 1, n = 0;
            while (n < 6 && emb_pii_digit(emb_pii_at(v, zip + n)))
                n++;
            return emb_pii_at(v, i) == ' ' && n == 5 ? zip + 5 : i;
        }
    }
    return end;
}

static void post_box(emb_pii_view *v, size_t at)
{
    static const char *const forms[] = {"P.O. Box ",  "PO Box ", "P.O. box ",
                                        "P. O. Box ", "PO BOX ", "P.O. BOX "};
    size_t end = at;
    while (end - at < 7 && emb_pii_digit(emb_pii_at(v, end)))
        end++;
    for (size_t i = 0; i < sizeof forms / sizeof *forms && end - at <= 6; i++) {
        size_t n = strlen(forms[i]);
        if (at >= n && emb_pii_is(v, at - n, forms[i])) {
            emb_pii_add(v, EMB_PII_STREET_ADDRESS, at - n, town_end(v, end), EMB_PII_BY_PATTERN);
            return;
        }
    }
}

void emb_pii_street(emb_pii_view *v, size_t at)
{
    static const char sure[] =
        "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Parkway|Pkwy|Highway|Hwy|Crescent|Terrace";
    static const char weak[] =
        "Drive|Dr|Court|Ct|Way|Place|Pl|Square|Sq|Circle|Cir|Trail|Close|Grove|Gardens|Mews|Alley|Row|Loop";
    size_t i = at;
    unsigned char before = emb_pii_before(v, at);
    if (before == ' ')
        post_box(v, at);
    while (i - at < 6 && emb_pii_digit(emb_pii_at(v, i)))
        i++;
    bool year = i - at == 4 && (emb_pii_is(v, at, "19") || emb_pii_is(v, at, "20"));
    i += emb_pii_alpha(emb_pii_at(v, i)) && emb_pii_at(v, i + 1) == ' ';
    if (i - at > 6 || emb_pii_at(v, i) != ' ' || emb_pii_word(before) || before == '.' || before == '-' ||
        before == '$')
        return;
    for (size_t words = 0; words < 6; words++) {
        size_t begin = ++i;
        i = word_end(v, begin);
        if (i == begin ||
            !(emb_pii_upper(v->s[begin]) || (emb_pii_digit(v->s[begin]) && emb_pii_alpha(v->s[i - 1]))))
            return;
        bool strong = words > 0 && one_of(sure, v->s + begin, i - begin);
        if (strong || (words > 0 && one_of(weak, v->s + begin, i - begin))) {
            size_t street = direction_end(v, i + (emb_pii_at(v, i) == '.' && emb_pii_at(v, i + 1) == ','));
            size_t end = town_end(v, flat_end(v, street));
            bool context = emb_pii_has_context(v, EMB_PII_STREET_ADDRESS, at, end);
            if (!year || strong || end > street || context)
                emb_pii_add(v, EMB_PII_STREET_ADDRESS, at, end,
                            context ? EMB_PII_BY_CONTEXT : EMB_PII_BY_PATTERN);
            return;
        }
        i += emb_pii_at(v, i) == '.';
        if (emb_pii_at(v, i) != ' ')
            return;
    }
}
