/*
 * token_source.h: what makes tokens for `embedd tokenize`: a model of this machine, or the encoding of a
 * hosted one.
 *
 *     emb_token_source source; emb_tokens tokens;
 *     if ((st = emb_token_source_open(&source, &settings, err))) return st;
 *     st = emb_token_source_tokenize(&source, text, n, true, 0, &tokens, err);
 *     emb_token_source_release(&source, &tokens);
 *     emb_token_source_close(&source);
 *
 * One thread. The names of hosted models ("text-embedding-3-small") and "cl100k_base" itself go before
 * directories.
 */
#ifndef EMB_CLI_TOKEN_SOURCE_H
#define EMB_CLI_TOKEN_SOURCE_H

#include "cli/session.h"
#include "model/catalog.h"
#include "tokenizer/tiktoken.h"

typedef struct emb_token_source {
    const char *name;
    const char *encoding; /* NULL: a model of this machine */
    const emb_catalog_entry
        *entry;   /* of a hosted model; NULL for others and for an encoding by its own name */
    size_t limit; /* most tokens of a text; 0: not known */
    /* with encoding */
    emb_tiktoken *tiktoken;
    emb_tiktoken_scratch *scratch;
    emb_tiktoken_ids ids;
    /* without */
    emb_session session;
} emb_token_source;

EMB_MUST_CHECK emb_status emb_token_source_open(emb_token_source *source, const emb_model_settings *settings,
                                                emb_error *err);
void emb_token_source_close(emb_token_source *source);

/* Encodings have no special tokens to add. Offsets are bytes of the text, in which invalid UTF-8 counts as
 * the three bytes of U+FFFD where there is an encoding. */
EMB_MUST_CHECK emb_status emb_token_source_tokenize(emb_token_source *source, const char *text, size_t length,
                                                    bool special, size_t max_tokens, emb_tokens *tokens,
                                                    emb_error *err);
void emb_token_source_release(emb_token_source *source, emb_tokens *tokens);
EMB_MUST_CHECK emb_status emb_token_source_count(emb_token_source *source, const char *text, size_t length,
                                                 bool special, size_t max_tokens, size_t *count,
                                                 emb_error *err);
/* The bytes of a token; of an encoding's they need not be whole characters. */
const char *emb_token_source_text(const emb_token_source *source, int32_t id, size_t *length);

#endif
