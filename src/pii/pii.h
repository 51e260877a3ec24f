/*
 * pii.h: finds personal data and secrets in a text: what kind and where, never what.
 *
 *     emb_pii *scanner;
 *     emb_pii_options o = { .kinds = "email,phone" };              // { 0 }: every kind
 *     if ((st = emb_pii_open(&scanner, &o, err))) return st;
 *     emb_pii_finding found[32]; emb_pii_progress p = { 0 };
 *     do {
 *         size_t n = emb_pii_scan(scanner, text, length, found, 32, &p);
 *         for (size_t i = 0; i < n; i++) puts(emb_pii_kind_name(scanner, found[i].kind));
 *     } while (p.next < length);
 *     emb_pii_close(scanner);
 *
 * Findings come in order and do not overlap. Time is linear in the length whatever the text is (with custom
 * patterns: for a scan in one go; each further page searches them again); a scan allocates nothing (SHA-256
 * keeps a context per thread). Texts are bytes: UTF-8 is usual, anything is safe. Patterns are of ASCII; no-
 * break spaces and Unicode hyphens count as separators between digits, full-width letters and digits of other
 * scripts are not recognised.
 *
 * A scanner is not changed by scanning: any number of threads may use one.
 */
#ifndef EMB_PII_PII_H
#define EMB_PII_PII_H

#include <embedd.h>

typedef enum emb_pii_kind {
    EMB_PII_EMAIL,
    EMB_PII_PHONE, /* E.164, national US forms, others with context */
    EMB_PII_US_SSN,
    EMB_PII_US_ITIN,
    EMB_PII_CREDIT_CARD,
    EMB_PII_IBAN,
    EMB_PII_US_ROUTING,      /* with context */
    EMB_PII_PASSPORT,        /* with context */
    EMB_PII_DRIVING_LICENCE, /* with context */
    EMB_PII_IP_ADDRESS,      /* v4 and v6; not loopback, unspecified, broadcast */
    EMB_PII_MAC_ADDRESS,
    EMB_PII_BIRTH_DATE, /* with context */
    EMB_PII_STREET_ADDRESS,
    EMB_PII_CRYPTO_WALLET, /* Bitcoin, Ethereum */
    EMB_PII_API_KEY,       /* keys of services, JSON web tokens */
    EMB_PII_PRIVATE_KEY,   /* PEM */
    EMB_PII_KINDS          /* custom patterns follow from here, in their order */
} emb_pii_kind;

#define EMB_PII_PATTERNS_MAX 16

typedef enum emb_pii_confidence {
    EMB_PII_BY_PATTERN, /* the form alone */
    EMB_PII_BY_CONTEXT, /* the form, and a word near it that names the kind */
    EMB_PII_BY_CHECKSUM /* a checksum over it holds */
} emb_pii_confidence;

typedef struct emb_pii_finding {
    size_t start, end; /* bytes */
    uint32_t kind;
    emb_pii_confidence confidence;
} emb_pii_finding;

typedef struct emb_pii_pattern {
    const char *name;  /* small letters, digits and _ */
    const char *regex; /* Perl-compatible */
} emb_pii_pattern;

typedef struct emb_pii_options {
    const char *kinds; /* names, comma between; NULL: all. Those of patterns need not be named */
    const emb_pii_pattern *patterns;
    size_t pattern_count;
} emb_pii_options;

typedef struct emb_pii_progress {
    size_t next;  /* where to go on: length when all is done */
    bool gave_up; /* a custom pattern took too many steps and was not applied further: more may be there */
} emb_pii_progress;

typedef struct emb_pii emb_pii;

/* EMB_E_INVALID, naming "kinds" or the pattern, for what is not understood. Options are copied. */
EMB_MUST_CHECK emb_status emb_pii_open(emb_pii **out, const emb_pii_options *options, emb_error *err);
void emb_pii_close(emb_pii *scanner);

/* Fills at most `capacity` (at least 1) findings and returns how many. progress NULL: from the beginning, and
 * what does not fit is left out. Otherwise to be called again with the same text until progress->next ==
 * length; words before progress->next still count as context. */
size_t emb_pii_scan(const emb_pii *scanner, const char *text, size_t length, emb_pii_finding *findings,
                    size_t capacity, emb_pii_progress *progress);

/* "email"; NULL past the last. scanner NULL: of the built-in kinds. */
const char *emb_pii_kind_name(const emb_pii *scanner, uint32_t kind);
const char *emb_pii_confidence_name(emb_pii_confidence confidence); /* "pattern", "context", "checksum" */

#endif
