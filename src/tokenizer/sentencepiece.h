/*
 * sentencepiece.h: SentencePiece model files as XLM-RoBERTa's directories hold them.
 *
 *     char *json; size_t length;
 *     if ((st = emb_sentencepiece_json(bytes, n, "sentencepiece.bpe.model", &json, &length, err))) return st;
 *     st = emb_tokenizer_open_json(json, length, where, &tokenizer, err);
 *     free(json);
 */
#ifndef EMB_TOKENIZER_SENTENCEPIECE_H
#define EMB_TOKENIZER_SENTENCEPIECE_H

#include <embedd.h>

/* The text of the equivalent tokenizer.json (malloc'ed). EMB_E_CORRUPT, EMB_E_UNSUPPORTED name the field
 * of the model file. */
EMB_MUST_CHECK emb_status emb_sentencepiece_json(const void *bytes, size_t size, const char *where,
                                                 char **json, size_t *length, emb_error *err);

#endif
