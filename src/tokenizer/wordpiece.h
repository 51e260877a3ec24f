/*
 * wordpiece.h: what the fused BERT path needs of a WordPiece model beside the interface of parts.h.
 */
#ifndef EMB_TOKENIZER_WORDPIECE_H
#define EMB_TOKENIZER_WORDPIECE_H

#include "tokenizer/parts.h"

bool emb_is_wordpiece(const emb_vocab_model *model);

/* Splits one word (valid UTF-8, not empty) into ids and returns their number. `room` must be the word's
 * length: there are never more ids than bytes. -1 if the word is unknown and the vocabulary has no token
 * to say so. Allocates nothing. */
int emb_wordpiece_split(const emb_vocab_model *model, const char *word, size_t length, int32_t *ids,
                        int room);
/* The error for -1. */
emb_status emb_wordpiece_unknown(const emb_vocab_model *model, emb_error *err) __attribute__((cold));

#endif
