/*
 * avx2.h: the AVX2 kernels as functions. The signatures are those of emb_kernels. No state, no
 * allocation, any thread.
 */
#ifndef EMB_KERNELS_AVX2_H
#define EMB_KERNELS_AVX2_H

#include "kernels/kernels.h"

size_t emb_avx2_weight_bytes(emb_precision p, size_t n, size_t k);
void emb_avx2_weight_pack(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                          void *packed);
size_t emb_avx2_operand_stride(emb_precision p, size_t k);
void emb_avx2_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride, size_t rows,
                               void *dst, size_t dst_stride);
size_t emb_avx2_linear_scratch(size_t max_n, size_t max_k);
void emb_avx2_linear(const emb_linear *args, void *scratch);

size_t emb_avx2_attention_scratch(size_t max_length, size_t head_dim);
void emb_avx2_attention(const emb_attention *args, void *scratch);

void emb_avx2_layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                         const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                         void *operand, size_t operand_stride);
void emb_avx2_widen(emb_dtype type, const void *src, const float *scales, size_t group, size_t n, float *dst,
                    bool add);
void emb_avx2_pool(emb_pooling kind, size_t rows, size_t n, const float *x, size_t x_stride, float *out);
void emb_avx2_normalize(float *v, size_t n);
float emb_avx2_dot(const float *a, const float *b, size_t n);

#endif
