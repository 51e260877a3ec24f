/*
 * parts.h: the stages of a tokenizer, in the order in which text passes them. Internal to tokenizer/.
 *
 *   text → added tokens cut out → normalizer → pre-tokenizer (pieces) → model (ids) → post-processor
 *
 * Stages work on an emb_span_text: the bytes as they are now, and for each byte the range of bytes of
 * the caller's text it came from (only kept when offsets are asked for). Each stage is a parsed,
 * immutable object made from its section of tokenizer.json; memory of parsed objects comes from the
 * tokenizer's arena. A stage is a struct that starts with the struct of its kind (emb_normalizer, ...):
 *
 *     typedef struct lowercase { emb_normalizer base; ... } lowercase;
 *     static emb_status lowercase_apply(const emb_normalizer *self, emb_span_text *text,
 *                                       emb_span_text *spare, emb_error *err)
 *     { emb_span_text_clear(spare); ...; emb_span_text_swap(text, spare); return EMB_OK; }
 *
 * normalizer.c, pre_tokenizer.c and tokenizer.c hold the tables from "type" to parser.
 */
#ifndef EMB_TOKENIZER_PARTS_H
#define EMB_TOKENIZER_PARTS_H

#include "base/arena.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

/* ---- text on its way ---- */

typedef struct emb_align {
    uint32_t start, end; /* bytes of the original text */
} emb_align;

typedef struct emb_span_text {
    char *data;       /* UTF-8, valid */
    emb_align *align; /* one per byte, or NULL when offsets are not wanted */
    size_t length, capacity;
    size_t limit;    /* most bytes it may hold; 0: EMB_SPAN_TEXT_MAX */
    uint32_t origin; /* where this section starts in the original text */
    bool with_align;
} emb_span_text;

/* Positions are 32 bits wide. */
#define EMB_SPAN_TEXT_MAX ((size_t)INT32_MAX)

void emb_span_text_init(emb_span_text *text, bool with_align);
void emb_span_text_fini(emb_span_text *text);
/* Empties text and says whether its next contents carry alignments. */
void emb_span_text_restart(emb_span_text *text, bool with_align);
/* Empties text; stages do this with spare, after restarting it like text. */
static inline void emb_span_text_clear(emb_span_text *text)
{
    text->length = 0;
}
void emb_span_text_swap(emb_span_text *a, emb_span_text *b);
/* Appends bytes that all come from original bytes [start, end). */
EMB_MUST_CHECK emb_status emb_span_text_add(emb_span_text *text, const char *data, size_t length,
                                            uint32_t start, uint32_t end);
/* Appends bytes [begin, end) of `from` with their alignments. */
EMB_MUST_CHECK emb_status emb_span_text_copy(emb_span_text *text, const emb_span_text *from, size_t begin,
                                             size_t end);
/* Appends one code point with the alignment of byte `source` of `from`; source ==
 * EMB_NO_SOURCE gives the empty range at the section's origin, as the reference does for what is
 * inserted before the first byte. */
#define EMB_NO_SOURCE SIZE_MAX
EMB_MUST_CHECK emb_status emb_span_text_put(emb_span_text *text, uint32_t code_point,
                                            const emb_span_text *from, size_t source);
/* Room for `more` bytes. All that add text give EMB_E_NOMEM, or EMB_E_LIMIT where stages of a hostile file
 * blow a text up; they fill no error (emb_text_fail does). */
EMB_MUST_CHECK emb_status emb_span_text_reserve(emb_span_text *text, size_t more);

emb_status emb_text_fail(emb_error *err, emb_status status) __attribute__((cold));

/* A piece: bytes [begin, end) of an emb_span_text. */
typedef struct emb_piece {
    uint32_t begin, end;
} emb_piece;

typedef struct emb_pieces {
    emb_piece *data;
    size_t count, capacity;
} emb_pieces;

/* Leaves out empty pieces, as the reference does. */
EMB_MUST_CHECK emb_status emb_pieces_add(emb_pieces *pieces, uint32_t begin, uint32_t end);
void emb_pieces_swap(emb_pieces *a, emb_pieces *b);
void emb_pieces_fini(emb_pieces *pieces);

/* ---- splitting ---- */

/* What becomes of a delimiter; "the-final--countdown" split at '-':
 * REMOVED the|final|countdown, ISOLATED the|-|final|-|-|countdown,
 * MERGED_WITH_PREVIOUS the-|final-|-|countdown, MERGED_WITH_NEXT the|-final|-|-countdown,
 * CONTIGUOUS the|-|final|--|countdown. */
typedef enum emb_split_behavior {
    EMB_SPLIT_REMOVED,
    EMB_SPLIT_ISOLATED,
    EMB_SPLIT_MERGED_WITH_PREVIOUS,
    EMB_SPLIT_MERGED_WITH_NEXT,
    EMB_SPLIT_CONTIGUOUS
} emb_split_behavior;

/* "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous" (any case of the first
 * letter); an absent member gives `otherwise`. */
EMB_MUST_CHECK emb_status emb_split_behavior_parse(emb_json_value object, const char *key,
                                                   emb_split_behavior otherwise, const char *where,
                                                   emb_split_behavior *out, emb_error *err);

/* Takes the consecutive ranges that cover one piece, delimiters and what lies between them, and adds
 * the resulting pieces:
 *     emb_splitter s; emb_splitter_begin(&s, behavior, out);
 *     emb_splitter_range(&s, 0, 3, false); emb_splitter_range(&s, 3, 4, true); ... emb_splitter_end(&s); */
typedef struct emb_splitter {
    emb_pieces *out;
    emb_split_behavior behavior;
    emb_piece held; /* not added yet: what comes next may extend it */
    bool holds, previous_match;
} emb_splitter;
void emb_splitter_begin(emb_splitter *splitter, emb_split_behavior behavior, emb_pieces *out);
/* Empty ranges that are not delimiters must be left out by the caller. */
EMB_MUST_CHECK emb_status emb_splitter_range(emb_splitter *splitter, uint32_t begin, uint32_t end,
                                             bool is_match);
EMB_MUST_CHECK emb_status emb_splitter_end(emb_splitter *splitter);

/* ---- normalizer ---- */

typedef struct emb_normalizer emb_normalizer;
struct emb_normalizer {
    const char *kind; /* "BertNormalizer" */
    /* Rewrites text in place; spare (restarted like text, contents undefined) may be swapped with it. */
    emb_status (*apply)(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                        emb_error *err);
    void (*release)(emb_normalizer *self); /* what lies outside the arena; NULL if nothing does */
};
typedef emb_status (*emb_normalizer_parser)(emb_json_value json, emb_arena *arena, const char *where,
                                            emb_normalizer **out, emb_error *err);

/* json may be JSON null: *out becomes NULL, meaning identity. */
EMB_MUST_CHECK emb_status emb_normalizer_parse(emb_json_value json, emb_arena *arena, const char *where,
                                               emb_normalizer **out, emb_error *err);
/* NULL is identity. */
EMB_MUST_CHECK emb_status emb_normalizer_apply(const emb_normalizer *normalizer, emb_span_text *text,
                                               emb_span_text *spare, emb_error *err);
void emb_normalizer_release(emb_normalizer *normalizer);

/* Parsers of the kinds, in files of their own. */
emb_status emb_parse_bert_normalizer(emb_json_value json, emb_arena *arena, const char *where,
                                     emb_normalizer **out, emb_error *err);
emb_status emb_parse_replace(emb_json_value json, emb_arena *arena, const char *where, emb_normalizer **out,
                             emb_error *err);
emb_status emb_parse_unicode_form(emb_json_value json, emb_arena *arena, const char *where,
                                  emb_normalizer **out, emb_error *err); /* NFC, NFD, NFKC, NFKD */
/* The same without an object: NFD, NFC (compose), NFKD (compatible), NFKC (both). */
EMB_MUST_CHECK emb_status emb_normalize_form(emb_span_text *text, emb_span_text *spare, bool compatible,
                                             bool compose, emb_error *err);
emb_status emb_parse_precompiled(emb_json_value json, emb_arena *arena, const char *where,
                                 emb_normalizer **out, emb_error *err);
emb_status emb_parse_byte_level_normalizer(emb_json_value json, emb_arena *arena, const char *where,
                                           emb_normalizer **out, emb_error *err);

/* ---- pre-tokenizer ---- */

typedef struct emb_pre_tokenizer emb_pre_tokenizer;
struct emb_pre_tokenizer {
    const char *kind; /* "ByteLevel" */
    /* pieces: in, ranges of text in order; out, finer ranges of text, which may have been rewritten
     * (ByteLevel, Metaspace: each piece for itself). spare (restarted like text, contents undefined)
     * and spare_pieces may be swapped with text and pieces. */
    emb_status (*apply)(const emb_pre_tokenizer *self, emb_span_text *text, emb_span_text *spare,
                        emb_pieces *pieces, emb_pieces *spare_pieces, emb_error *err);
    void (*release)(emb_pre_tokenizer *self); /* NULL if nothing lies outside the arena */
    /* It must see alignments whether or not offsets are asked for: Metaspace's prepend_scheme "first"
     * asks whether a piece starts at byte 0 of the original. */
    bool needs_align;
};
typedef emb_status (*emb_pre_tokenizer_parser)(emb_json_value json, emb_arena *arena, const char *where,
                                               emb_pre_tokenizer **out, emb_error *err);

EMB_MUST_CHECK emb_status emb_pre_tokenizer_parse(emb_json_value json, emb_arena *arena, const char *where,
                                                  emb_pre_tokenizer **out, emb_error *err);
/* NULL leaves the pieces as they are. */
EMB_MUST_CHECK emb_status emb_pre_tokenizer_apply(const emb_pre_tokenizer *pre, emb_span_text *text,
                                                  emb_span_text *spare, emb_pieces *pieces,
                                                  emb_pieces *spare_pieces, emb_error *err);
void emb_pre_tokenizer_release(emb_pre_tokenizer *pre);

emb_status emb_parse_byte_level(emb_json_value json, emb_arena *arena, const char *where,
                                emb_pre_tokenizer **out, emb_error *err);
emb_status emb_parse_metaspace(emb_json_value json, emb_arena *arena, const char *where,
                               emb_pre_tokenizer **out, emb_error *err);
emb_status emb_parse_split(emb_json_value json, emb_arena *arena, const char *where, emb_pre_tokenizer **out,
                           emb_error *err);
emb_status emb_parse_digits(emb_json_value json, emb_arena *arena, const char *where, emb_pre_tokenizer **out,
                            emb_error *err);

/* ---- model ---- */

/* Receives tokens: id, and the bytes [begin, end) of the text that it stands for. */
typedef struct emb_token_sink {
    int32_t *ids;
    emb_piece *ranges; /* NULL unless offsets are wanted */
    size_t count, capacity;
    bool with_ranges;
} emb_token_sink;
EMB_MUST_CHECK emb_status emb_token_sink_add(emb_token_sink *sink, int32_t id, uint32_t begin, uint32_t end);
EMB_MUST_CHECK emb_status emb_token_sink_reserve(emb_token_sink *sink, size_t more);
void emb_token_sink_fini(emb_token_sink *sink);

/* One implementation each of WordPiece, Unigram and BPE. */
typedef struct emb_vocab_model emb_vocab_model;
struct emb_vocab_model {
    const char *kind;
    /* Appends the tokens of one piece; text is valid UTF-8 of `length` bytes at offset `base` in the
     * whole (for ranges). *scratch is the model's own between pieces and calls (lattices, merge lists,
     * word cache), NULL at first, used by one thread at a time. */
    emb_status (*tokenize)(const emb_vocab_model *model, const char *text, uint32_t length, uint32_t base,
                           void **scratch, emb_token_sink *sink, emb_error *err);
    void (*scratch_free)(void *scratch);                                           /* NULL if it has none */
    size_t (*size)(const emb_vocab_model *model);                                  /* highest id + 1 */
    size_t (*entries)(const emb_vocab_model *model);                               /* number of tokens */
    int32_t (*id)(const emb_vocab_model *model, const char *token, size_t length); /* -1 if absent */
    const char *(*token)(const emb_vocab_model *model, int32_t id, size_t *length);
    void (*release)(emb_vocab_model *model); /* what lies outside the arena; may be NULL */
};

EMB_MUST_CHECK emb_status emb_wordpiece_parse(emb_json_value json, emb_arena *arena, const char *where,
                                              emb_vocab_model **out, emb_error *err);
EMB_MUST_CHECK emb_status emb_unigram_parse(emb_json_value json, emb_arena *arena, const char *where,
                                            emb_vocab_model **out, emb_error *err);
EMB_MUST_CHECK emb_status emb_bpe_parse(emb_json_value json, emb_arena *arena, const char *where,
                                        emb_vocab_model **out, emb_error *err);

/* ---- directories without tokenizer.json ---- */

/* Each makes the text of an equivalent tokenizer.json (malloc'ed, released with free), as the
 * reference's converter of slow tokenizers does (special tokens and flags from tokenizer_config.json). */
EMB_MUST_CHECK emb_status emb_convert_vocab_txt(const char *directory, char **json, size_t *length,
                                                emb_error *err);
EMB_MUST_CHECK emb_status emb_convert_sentencepiece(const char *directory, char **json, size_t *length,
                                                    emb_error *err);
EMB_MUST_CHECK emb_status emb_convert_vocab_merges(const char *directory, char **json, size_t *length,
                                                   emb_error *err);

#endif
