/*
 * added_tokens.h: tokens that are cut out of the text before the model sees it ("[MASK]", "<s>").
 *
 *     emb_sections sections = { 0 };
 *     st = emb_added_split(&added, &added.raw, text, n, &sections);
 *     // sections.data[i]: bytes [begin, end) and the index of a token in added.tokens, or -1 for text
 *
 * Tokens with "normalized": false are looked for in the text as given, the others, normalized
 * themselves, in the normalized text. Immutable once parsed.
 */
#ifndef EMB_TOKENIZER_ADDED_TOKENS_H
#define EMB_TOKENIZER_ADDED_TOKENS_H

#include "tokenizer/parts.h"
#include "tokenizer/trie.h"

typedef struct emb_added_token {
    const char *content; /* in the arena */
    uint32_t length;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool superseded; /* a later entry has the same content */
} emb_added_token;

enum { EMB_ADDED_FIRSTS = 4 };

/* Finds tokens in a text. */
typedef struct emb_added_matcher {
    emb_trie trie;   /* values: indices of tokens */
    size_t count;    /* patterns; 0: nothing to look for */
    bool first[256]; /* bytes that a pattern starts with */
    unsigned char firsts[EMB_ADDED_FIRSTS];
    unsigned first_count; /* of firsts; 0: more than fit */
} emb_added_matcher;

typedef struct emb_added_tokens {
    emb_added_token *tokens; /* in the arena */
    size_t count;
    emb_added_matcher raw, normalized;
    emb_trie by_content; /* values: indices of tokens */
} emb_added_tokens;

typedef struct emb_section {
    uint32_t begin, end;
    int32_t token; /* index, -1 for ordinary text */
} emb_section;

typedef struct emb_sections {
    emb_section *data;
    size_t count, capacity;
} emb_sections;
void emb_sections_fini(emb_sections *sections);

/* `list` is the array "added_tokens". Ids are those of the model for tokens it knows, else counted on from
 * its size, as the reference does whatever the file says. */
EMB_MUST_CHECK emb_status emb_added_parse(emb_added_tokens *added, emb_json_value list,
                                          const emb_vocab_model *model, const emb_normalizer *normalizer,
                                          emb_arena *arena, const char *where, emb_error *err);
void emb_added_fini(emb_added_tokens *added);

/* Cuts text into sections that cover it, replacing those in `out`. EMB_E_NOMEM. */
EMB_MUST_CHECK emb_status emb_added_split(const emb_added_tokens *added, const emb_added_matcher *matcher,
                                          const char *text, size_t length, emb_sections *out);

#endif
