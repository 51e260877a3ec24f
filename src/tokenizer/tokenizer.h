/*
 * tokenizer.h: text to token ids, exactly as the reference (Hugging Face `tokenizers`) does it.
 *
 *     emb_tokenizer *t; emb_encoding e;
 *     if ((st = emb_tokenizer_open(dir, &t, err))) return st;
 *     emb_encoding_init(&e);
 *     st = emb_tokenizer_encode(t, text, n, &(emb_encode_options){ .add_special_tokens = true }, &e, err);
 *     // e.ids[0 .. e.count-1]
 *     emb_encoding_fini(&e); emb_tokenizer_close(t);
 *
 * A tokenizer is immutable after opening and shared by all threads. An encoding belongs to one thread at
 * a time and keeps its memory (result and scratch) from call to call, so that a warm encode allocates
 * nothing. Text is UTF-8; invalid sequences are read as U+FFFD. Time is linear in the text, memory is
 * bounded by it.
 */
#ifndef EMB_TOKENIZER_TOKENIZER_H
#define EMB_TOKENIZER_TOKENIZER_H

#include <embedd.h>

typedef struct emb_tokenizer emb_tokenizer;

/* Reads the tokenizer of a model directory: tokenizer.json, else vocab.txt (WordPiece; do_lower_case,
 * strip_accents, tokenize_chinese_chars, special tokens from tokenizer_config.json), else
 * sentencepiece.bpe.model, else vocab.json + merges.txt. EMB_E_NOT_FOUND, EMB_E_CORRUPT,
 * EMB_E_UNSUPPORTED name the file and the key. Padding sections are ignored, truncation too: the caller
 * gives max_tokens. */
EMB_MUST_CHECK emb_status emb_tokenizer_open(const char *directory, emb_tokenizer **out, emb_error *err);
/* The same from the text of a tokenizer.json; `where` names it in errors. */
EMB_MUST_CHECK emb_status emb_tokenizer_open_json(const char *text, size_t length, const char *where,
                                                  emb_tokenizer **out, emb_error *err);
void emb_tokenizer_close(emb_tokenizer *tokenizer);

/* "WordPiece", "Unigram", "BPE" */
const char *emb_tokenizer_kind(const emb_tokenizer *tokenizer);
/* Highest id + 1, added tokens included. */
size_t emb_tokenizer_vocab_size(const emb_tokenizer *tokenizer);
/* -1 if absent. */
int32_t emb_tokenizer_id(const emb_tokenizer *tokenizer, const char *token, size_t length);
/* NULL if no token has that id. */
const char *emb_tokenizer_token(const emb_tokenizer *tokenizer, int32_t id, size_t *length);
/* Special tokens that the post-processor adds to a single text: 2 for BERT. */
size_t emb_tokenizer_added_count(const emb_tokenizer *tokenizer);

typedef struct emb_encode_options {
    bool add_special_tokens;
    bool offsets;       /* fill starts, ends and special */
    size_t max_tokens;  /* special tokens included; 0: no limit */
    bool truncate_left; /* keep the end of the text instead of its beginning */
} emb_encode_options;

typedef struct emb_encoding {
    int32_t *ids;
    uint32_t *starts, *ends; /* bytes in the text as given; valid if options.offsets */
    uint8_t *special;        /* 1 for tokens that the post-processor added; valid if options.offsets */
    size_t count;
    size_t untruncated; /* tokens there would be without max_tokens */
    struct emb_encode_scratch *scratch;
    size_t capacity;
} emb_encoding;

void emb_encoding_init(emb_encoding *encoding);
void emb_encoding_fini(emb_encoding *encoding);

/* EMB_E_NOMEM, EMB_E_LIMIT (text over 1 GiB). With max_tokens the work may stop early where the rest
 * cannot matter; `untruncated` is then a lower bound that is > max_tokens. */
EMB_MUST_CHECK emb_status emb_tokenizer_encode(const emb_tokenizer *tokenizer, const char *text,
                                               size_t length, const emb_encode_options *options,
                                               emb_encoding *encoding, emb_error *err);

#endif
