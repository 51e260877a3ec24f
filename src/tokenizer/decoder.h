/*
 * decoder.h: token ids to text, as the reference's `decode`.
 *
 *     emb_decoder_parse(json, kind_of_model, arena, &decoder);            // when a tokenizer is opened
 *     st = emb_tokenizer_decode(tokenizer, ids, n, true, &text);          // later, any thread
 *
 * Of the section "decoder" of tokenizer.json, WordPiece, Metaspace and ByteLevel are read; where there is
 * none, or another, the usual one of the kind of model is taken: this way of reading is for people, and no
 * reason not to open a model.
 */
#ifndef EMB_TOKENIZER_DECODER_H
#define EMB_TOKENIZER_DECODER_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

typedef enum emb_decoder_kind {
    EMB_DECODER_WORDPIECE,
    EMB_DECODER_METASPACE,
    EMB_DECODER_BYTE_LEVEL
} emb_decoder_kind;

typedef struct emb_decoder {
    emb_decoder_kind kind;
    const char *mark; /* "##", or the character that stands for a space; in the arena or a literal */
    size_t mark_length;
    bool cleanup;     /* WordPiece: no space before punctuation */
    bool keeps_first; /* Metaspace: a space at the very beginning is the text's own */
} emb_decoder;

/* `model` is emb_tokenizer_kind's word; `json` the section, JSON null for none. EMB_E_NOMEM. */
EMB_MUST_CHECK emb_status emb_decoder_parse(emb_json_value json, const char *model, emb_arena *arena,
                                            emb_decoder *out);

/* Appends. Ids that no token has are left out; special tokens are too if skip_special_tokens. */
EMB_MUST_CHECK emb_status emb_tokenizer_decode(const emb_tokenizer *tokenizer, const int32_t *ids,
                                               size_t count, bool skip_special_tokens, emb_buf *out);

#endif
