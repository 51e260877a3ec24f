/*
 * bert.h: the BERT stages' settings, for the fused path (bert_fast.c) that replaces them.
 */
#ifndef EMB_TOKENIZER_BERT_H
#define EMB_TOKENIZER_BERT_H

#include "tokenizer/parts.h"

typedef struct emb_bert_flags {
    bool clean_text, handle_chinese_chars, strip_accents, lowercase;
} emb_bert_flags;

/* Whether normalizer is a BertNormalizer, and its settings. */
bool emb_bert_normalizer_flags(const emb_normalizer *normalizer, emb_bert_flags *flags);
/* Whether pre is a BertPreTokenizer. */
bool emb_is_bert_pre_tokenizer(const emb_pre_tokenizer *pre);

#endif
