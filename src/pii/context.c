/*
 * context.c: words that make a form into a finding.
 *
 * Nine digits are a routing number if "routing" stands near. Words before count within BEFORE bytes and after
 * within AFTER, whole words only, letter case aside, in the same paragraph (an empty line ends the search):
 * people write "SSN: 123456789" and "123456789 is my SSN". A paragraph's words are compared where they begin;
 * both windows are bounded, so that context costs a constant. Weighing (Presidio adds 0.35 to a score) was
 * rejected: a threshold then hides what decides.
 *
 * A word followed by an ordinary ending ("phones", "licences") counts.
 */
#include "pii/parts.h"

#include <strings.h>

enum { BEFORE = 56, AFTER = 40 };

static const char *const words[EMB_PII_KINDS][28] = {
    [EMB_PII_PHONE] = {"phone",    "telephone", "tel",       "mobile",   "cell",    "cellphone",
                       "call",     "fax",       "text me",   "whatsapp", "sms",     "dial",
                       "reach me", "reach him", "reach her", "contact",  "hotline", "voicemail",
                       "ph",       "telefon",   "handy",     "tel.",     "ring",    "landline"},
    [EMB_PII_US_SSN] = {"ssn", "ssns", "social security", "social", "soc sec", "ss#", "ssid", "taxpayer"},
    [EMB_PII_US_ITIN] = {"itin", "taxpayer", "tax id", "individual taxpayer", "tin", "tax identification",
                         "tax payer"},
    [EMB_PII_CREDIT_CARD] = {"card", "visa", "mastercard", "amex", "american express", "discover", "diners",
                             "maestro", "credit", "debit", "cc", "jcb", "unionpay", "cvv", "cvc"},
    [EMB_PII_US_ROUTING] = {"routing", "aba", "rtn", "transit", "ach", "wire", "wiring", "bank", "checking",
                            "rtn#"},
    [EMB_PII_PASSPORT] = {"passport", "passeport", "pasaporte", "reisepass", "passaporto", "passaporte"},
    [EMB_PII_DRIVING_LICENCE] = {"driver's license", "drivers license", "driver license", "driver's licence",
                                 "drivers licence", "driving licence", "driving license", "driver licence",
                                 "dmv", "dl", "dl#", "driver\xE2\x80\x99s license",
                                 "driver\xE2\x80\x99s licence", "permit number", "permis de conduire",
                                 "driver's permit", "dvla", "driver's lic", "drivers' license"},
    [EMB_PII_BIRTH_DATE] = {"born", "birth", "dob", "d.o.b", "birthday", "birthdate", "bday", "b-day",
                            "geboren", "geburtsdatum", "date-of-birth", "birth_date", "date_of_birth",
                            "birthdays", "n\xC3\xA9"},
    [EMB_PII_MAC_ADDRESS] = {"mac", "ethernet", "bssid", "hwaddr", "hardware address", "ether",
                             "physical address"},
    [EMB_PII_STREET_ADDRESS] = {"address", "lives at", "live at", "living at", "resides at", "ship to",
                                "mail to", "deliver to", "located at", "moved to", "home", "house",
                                "residence", "delivery"},
};

static bool ends_word(const emb_pii_view *v, size_t i)
{
    if (!emb_pii_alnum(emb_pii_at(v, i)))
        return true;
    return (v->s[i] | 0x20) == 's' && !emb_pii_alnum(emb_pii_at(v, i + 1));
}

static bool word_here(const emb_pii_view *v, const char *const *list, size_t i, size_t limit)
{
    for (; *list; list++) {
        size_t n = strlen(*list);
        if ((*list)[0] == (v->s[i] | 0x20) && limit - i >= n &&
            strncasecmp((const char *)v->s + i, *list, n) == 0 &&
            (!emb_pii_alnum((unsigned char)(*list)[n - 1]) || ends_word(v, i + n)))
            return true;
    }
    return false;
}

static bool word_within(const emb_pii_view *v, const char *const *list, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (emb_pii_alpha(v->s[i]) && !emb_pii_alnum(emb_pii_before(v, i)) && word_here(v, list, i, to))
            return true;
    return false;
}

bool emb_pii_has_context(const emb_pii_view *v, emb_pii_kind kind, size_t start, size_t end)
{
    size_t from = start, to = end;
    while (from > 0 && start - from < BEFORE &&
           !(v->s[from - 1] == '\n' && from > 1 && v->s[from - 2] == '\n'))
        from--;
    while (to < v->length && to - end < AFTER && !(v->s[to] == '\n' && emb_pii_at(v, to + 1) == '\n'))
        to++;
    return word_within(v, words[kind], from, start) || word_within(v, words[kind], end, to);
}
