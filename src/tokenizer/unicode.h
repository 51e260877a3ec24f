/*
 * unicode.h: properties and mappings of code points, as the reference tokenizer has them.
 *
 *     if (emb_unicode_is(c, EMB_UNICODE_PUNCTUATION)) ...
 *     uint32_t out[2];
 *     size_t n = emb_unicode_lowercase(c, out);            // U+0130 becomes two
 *
 * The reference mixes Unicode versions (normalization of 9.0 beside regular expression classes of much
 * newer ones), so general libraries give other answers; the tables are made from its behaviour by
 * tools/generate_unicode_tables.py. Code points may be any value; those that are no Unicode scalar value
 * count as private use. Thread-safe, nothing allocates.
 */
#ifndef EMB_TOKENIZER_UNICODE_H
#define EMB_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EMB_UNICODE_REMOVED = 1 << 0,         /* what BertNormalizer's clean_text drops: U+0000, U+FFFD, Cc
                                             but tab and line ends, Cf, Co */
    EMB_UNICODE_WHITESPACE = 1 << 1,      /* White_Space; also \s of every regular expression */
    EMB_UNICODE_MARK_NONSPACING = 1 << 2, /* Mn as BertNormalizer's strip_accents tests it (after NFD) */
    EMB_UNICODE_COMBINING_MARK = 1 << 3,  /* M as StripAccents tests it */
    EMB_UNICODE_PUNCTUATION = 1 << 4,     /* ASCII punctuation and P* */
    EMB_UNICODE_WORD = 1 << 5,            /* \w of the Whitespace pre-tokenizer */
    EMB_UNICODE_LETTER = 1 << 6,          /* \p{L} of ByteLevel */
    EMB_UNICODE_NUMBER = 1 << 7,          /* \p{N} of ByteLevel */
    EMB_UNICODE_NUMERIC = 1 << 8,         /* what the Digits pre-tokenizer takes */
    EMB_UNICODE_CHINESE = 1 << 9,         /* the CJK ranges of BertNormalizer */
    EMB_UNICODE_LOWERCASES = 1 << 10,     /* emb_unicode_lowercase changes it */
    EMB_UNICODE_COMPOSES_BACK = 1 << 11,  /* may compose with a character before it */
    EMB_UNICODE_CANONICAL = 1 << 12,      /* has a canonical decomposition */
    EMB_UNICODE_COMPATIBLE = 1 << 13      /* has a canonical or compatibility decomposition */
};

/* Classes of the rules for extended grapheme clusters (UAX 29). Regional indicators count as other: see
 * precompiled.c, which is what the classes are for. */
enum emb_unicode_grapheme {
    EMB_GRAPHEME_OTHER,
    EMB_GRAPHEME_CR,
    EMB_GRAPHEME_LF,
    EMB_GRAPHEME_CONTROL,
    EMB_GRAPHEME_EXTEND,
    EMB_GRAPHEME_ZWJ,
    EMB_GRAPHEME_SPACING_MARK,
    EMB_GRAPHEME_PREPEND,
    EMB_GRAPHEME_L,
    EMB_GRAPHEME_V,
    EMB_GRAPHEME_T,
    EMB_GRAPHEME_LV,
    EMB_GRAPHEME_LVT,
    EMB_GRAPHEME_PICTOGRAPHIC
};

/* Indic_Conjunct_Break, for the same rules. */
enum emb_unicode_conjunct {
    EMB_CONJUNCT_NONE,
    EMB_CONJUNCT_CONSONANT,
    EMB_CONJUNCT_LINKER,
    EMB_CONJUNCT_EXTEND
};

typedef struct emb_unicode_info {
    uint16_t flags;          /* EMB_UNICODE_* */
    uint8_t combining_class; /* canonical; 0 for starters */
    uint8_t grapheme;        /* enum emb_unicode_grapheme */
    uint8_t conjunct;        /* enum emb_unicode_conjunct */
} emb_unicode_info;

/* Entry for each ASCII character, so that the common case is one load. */
extern const uint16_t emb_unicode_ascii_flags[128];

const emb_unicode_info *emb_unicode_lookup(uint32_t c) __attribute__((const));

static inline uint32_t emb_unicode_flags(uint32_t c)
{
    return c < 128 ? emb_unicode_ascii_flags[c] : emb_unicode_lookup(c)->flags;
}

/* Whether c has any of the flags. */
static inline bool emb_unicode_is(uint32_t c, uint32_t flags)
{
    return (emb_unicode_flags(c) & flags) != 0;
}

/* Lower case by itself, without regard to context; writes 1 or 2 code points. */
size_t emb_unicode_lowercase(uint32_t c, uint32_t out[2]);

#define EMB_UNICODE_DECOMPOSITION_MAX 18
/* Full decomposition (canonical, or compatibility too), in canonical order; writes c itself if it has
 * none. Returns the number of code points written. */
size_t emb_unicode_decompose(uint32_t c, bool compatible, uint32_t out[EMB_UNICODE_DECOMPOSITION_MAX]);

/* The character that the two compose to, 0 if none. */
uint32_t emb_unicode_compose(uint32_t first, uint32_t second);

#endif
