/*
 * portable.h: the plain C kernels, as functions, for tables that take single ones of them.
 *
 *     static const emb_kernels table = { …, .widen = emb_portable_widen, … };
 *
 * The signatures are those of emb_kernels. No state, no allocation, any thread.
 */
#ifndef EMB_KERNELS_PORTABLE_H
#define EMB_KERNELS_PORTABLE_H

#include "kernels/kernels.h"

size_t emb_portable_weight_bytes(emb_precision p, size_t n, size_t k);
void emb_portable_weight_pack(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                              void *packed);
size_t emb_portable_operand_stride(emb_precision p, size_t k);
void emb_portable_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride,
                                   size_t rows, void *dst, size_t dst_stride);
size_t emb_portable_linear_scratch(size_t max_n, size_t max_k);
void emb_portable_linear(const emb_linear *args, void *scratch);
float emb_portable_activation(emb_activation activation, float x);

size_t emb_portable_attention_scratch(size_t max_length, size_t head_dim);
void emb_portable_attention(const emb_attention *args, void *scratch);

void emb_portable_layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                             const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                             void *operand, size_t operand_stride);
void emb_portable_widen(emb_dtype type, const void *src, const float *scales, size_t group, size_t n,
                        float *dst, bool add);
void emb_portable_pool(emb_pooling kind, size_t rows, size_t n, const float *x, size_t x_stride, float *out);
void emb_portable_normalize(float *v, size_t n);
float emb_portable_dot(const float *a, const float *b, size_t n);

#endif
