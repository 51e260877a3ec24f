/*
 * bert_fast.h: BertNormalizer, BertPreTokenizer and WordPiece fused into one pass over the text.
 *
 *     emb_bert_fast *fast;   // NULL where the pipeline is another one
 *     st = emb_bert_fast_make(normalizer, pre, model, &added, arena, &fast, err);
 *     st = emb_bert_fast_encode(fast, text, n, limit, &scratch, &sink, &done, err);
 *     // !done: this text needs the general path; the sink is as it was
 *
 * The object is immutable; scratch belongs to one thread at a time and to one object: free it with
 * emb_bert_fast_scratch_free before using it with another.
 */
#ifndef EMB_TOKENIZER_BERT_FAST_H
#define EMB_TOKENIZER_BERT_FAST_H

#include "tokenizer/added_tokens.h"
#include "tokenizer/parts.h"

typedef struct emb_bert_fast emb_bert_fast;
typedef struct emb_bert_fast_scratch emb_bert_fast_scratch;

EMB_MUST_CHECK emb_status emb_bert_fast_make(const emb_normalizer *normalizer, const emb_pre_tokenizer *pre,
                                             const emb_vocab_model *model, const emb_added_tokens *added,
                                             emb_arena *arena, emb_bert_fast **out, emb_error *err);

/* Appends the ids of text (valid UTF-8, without added tokens that are not normalized). Stops soon after
 * the sink holds more than `limit` ids. */
EMB_MUST_CHECK emb_status emb_bert_fast_encode(const emb_bert_fast *fast, const char *text, size_t length,
                                               size_t limit, emb_bert_fast_scratch **scratch,
                                               emb_token_sink *sink, bool *done, emb_error *err);
void emb_bert_fast_scratch_free(emb_bert_fast_scratch *scratch);

#endif
