/*
 * pipeline.h: what a tokenizer is made of; shared by tokenizer.c (opening) and encode.c (running).
 */
#ifndef EMB_TOKENIZER_PIPELINE_H
#define EMB_TOKENIZER_PIPELINE_H

#include "tokenizer/added_tokens.h"
#include "tokenizer/bert_fast.h"
#include "tokenizer/decoder.h"
#include "tokenizer/parts.h"
#include "tokenizer/post_processor.h"

struct emb_tokenizer {
    emb_arena arena;
    emb_normalizer *normalizer;       /* NULL: identity */
    emb_pre_tokenizer *pre_tokenizer; /* NULL: one piece */
    emb_vocab_model *model;
    emb_added_tokens added;
    emb_post_processor post;
    emb_decoder decoder;
    emb_bert_fast *fast;           /* NULL: only the general path applies */
    uint64_t serial;               /* unlike any other tokenizer's, for scratch that belongs to one */
    size_t vocab_size;             /* highest id + 1, added tokens included */
    const emb_added_token **by_id; /* added tokens whose id lies behind the model's, by id - model size */
    size_t by_id_count;
};

#endif
