/*
 * parts.h: what the recognisers share. Internal to pii/.
 *
 *     size_t emb_pii_number(emb_pii_view *v, size_t at)     // a run of digits begins at `at`
 *     {
 *         ... emb_pii_add(v, EMB_PII_US_SSN, at, at + 11, EMB_PII_BY_PATTERN); ...
 *     }
 *
 * A recogniser is called at an anchor, a byte that its kind cannot do without, looks at a bounded stretch
 * around it and adds what it finds. It may look behind EMB_PII_BEHIND bytes at most. Of one thread, like its
 * view.
 */
#ifndef EMB_PII_PARTS_H
#define EMB_PII_PARTS_H

#include "pii/pii.h"

#include <string.h>

enum { EMB_PII_BEHIND = 96, EMB_PII_PENDING = 32 };

typedef struct emb_pii_view {
    const unsigned char *s;
    size_t length, floor;                     /* nothing begins before floor: it has been reported */
    uint32_t kinds;                           /* bits of the built-in kinds */
    emb_pii_finding pending[EMB_PII_PENDING]; /* in order, without overlaps */
    size_t pending_count;
    bool crowded; /* pending is full: the candidate was not taken */
} emb_pii_view;

static inline bool emb_pii_wants(const emb_pii_view *v, emb_pii_kind kind)
{
    return v->kinds >> kind & 1;
}
/* The byte at i, 0 outside of the text. */
static inline unsigned char emb_pii_at(const emb_pii_view *v, size_t i)
{
    return i < v->length ? v->s[i] : 0;
}
static inline unsigned char emb_pii_before(const emb_pii_view *v, size_t i)
{
    return i > 0 ? v->s[i - 1] : 0;
}

static inline bool emb_pii_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}
static inline bool emb_pii_upper(unsigned char c)
{
    return c >= 'A' && c <= 'Z';
}
static inline bool emb_pii_lower(unsigned char c)
{
    return c >= 'a' && c <= 'z';
}
static inline bool emb_pii_alpha(unsigned char c)
{
    return emb_pii_lower(c | 0x20);
}
static inline bool emb_pii_alnum(unsigned char c)
{
    return emb_pii_digit(c) || emb_pii_alpha(c);
}
static inline bool emb_pii_word(unsigned char c)
{
    return emb_pii_alnum(c) || c == '_';
}
static inline int emb_pii_hex(unsigned char c)
{
    return emb_pii_digit(c) ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}
/* Whether `text` stands at i. */
static inline bool emb_pii_is(const emb_pii_view *v, size_t i, const char *text)
{
    size_t n = strlen(text);
    return i <= v->length && v->length - i >= n && memcmp(v->s + i, text, n) == 0;
}

/* A candidate; of two that overlap the surer stays, then the longer. */
void emb_pii_add(emb_pii_view *v, uint32_t kind, size_t start, size_t end, emb_pii_confidence confidence);

/* context.c: whether a word (or phrase) that names the kind is near, before or after. */
bool emb_pii_has_context(const emb_pii_view *v, emb_pii_kind kind, size_t start, size_t end);

/* The recognisers. Those that return a size say up to where the text needs no further look (at least past the
 * anchor). */
size_t emb_pii_number(emb_pii_view *v, size_t at);   /* number.c: cards, SSN, ITIN, routing, phone */
size_t emb_pii_phone(emb_pii_view *v, size_t at);    /* phone.c; 0: none */
void emb_pii_document(emb_pii_view *v, size_t at);   /* identity.c: passports, licences */
void emb_pii_birth_date(emb_pii_view *v, size_t at); /* identity.c */
void emb_pii_street(emb_pii_view *v, size_t at);     /* street.c */
void emb_pii_iban(emb_pii_view *v, size_t at);       /* number.c */
void emb_pii_ipv4(emb_pii_view *v, size_t at);       /* net.c */
void emb_pii_colon(emb_pii_view *v, size_t at);      /* net.c: IPv6, MAC */
void emb_pii_mac(emb_pii_view *v, size_t at);        /* net.c */
void emb_pii_email(emb_pii_view *v, size_t at);      /* net.c */
void emb_pii_wallet(emb_pii_view *v, size_t at);     /* wallet.c */
size_t emb_pii_secret(emb_pii_view *v, size_t at);   /* secret.c */

void emb_pii_keccak256(const void *data, size_t length, uint8_t digest[32]); /* length at most 135 */

#endif
