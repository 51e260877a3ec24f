/*
 * tokens.h: a vector for each token instead of one for each text.
 *
 *     emb_token_vectors v;
 *     if ((st = emb_model_embed_tokens(model, texts, NULL, NULL, n, &options, &v, NULL, err))) return st;
 *     // token t of text i: v.vectors + (v.offsets[i] + t) × v.dimension
 *     emb_token_vectors_fini(&v);
 *
 * The states of the last layer as they are, special tokens included: neither pooled nor normalised, nor
 * through the modules behind pooling; pooling, normalize and dimensions of the options have no effect.
 * Otherwise as emb_embed. A call ends early only before its first pass: whoever has a deadline hands over few
 * texts at a time. Memory is tokens × hidden floats. Any thread.
 */
#ifndef EMB_ENGINE_TOKENS_H
#define EMB_ENGINE_TOKENS_H

#include <embedd.h>

typedef struct emb_token_vectors {
    float *vectors;
    size_t *offsets; /* count + 1, from 0 */
    size_t count, dimension;
} emb_token_vectors;

/* Texts, or (texts NULL) sequences of ids as emb_embed_ids takes them. On failure *out holds nothing. */
EMB_MUST_CHECK emb_status emb_model_embed_tokens(emb_model *model, const emb_text *texts, const int32_t *ids,
                                                 const size_t *offsets, size_t count,
                                                 const emb_embed_options *options, emb_token_vectors *out,
                                                 emb_usage *usage, emb_error *err);
void emb_token_vectors_fini(emb_token_vectors *vectors);

#endif
