/*
 * avx512.h: the AVX-512 kernels as functions, for the tables that are made of them (with and without
 * bf16 products, and AMX, whose chips have AVX-512 too).
 *
 * The signatures are those of emb_kernels. No state, no allocation, any thread.
 */
#ifndef EMB_KERNELS_AVX512_H
#define EMB_KERNELS_AVX512_H

#include "kernels/kernels.h"

/* Products; emb_avx512bf16_linear's BF16 ones use vdpbf16ps. Layouts are the same. */
size_t emb_avx512_weight_bytes(emb_precision p, size_t n, size_t k);
void emb_avx512_weight_pack(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                            void *packed);
size_t emb_avx512_operand_stride(emb_precision p, size_t k);
void emb_avx512_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride, size_t rows,
                                 void *dst, size_t dst_stride);
size_t emb_avx512_linear_scratch(size_t max_n, size_t max_k);
void emb_avx512_linear(const emb_linear *args, void *scratch);
void emb_avx512bf16_linear(const emb_linear *args, void *scratch);
void emb_avx512bf16_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride,
                                     size_t rows, void *dst, size_t dst_stride);

/* Attention; the bf16 one multiplies bf16 rows with vdpbf16ps. */
size_t emb_avx512_attention_scratch(size_t max_length, size_t head_dim);
void emb_avx512_attention(const emb_attention *args, void *scratch);
size_t emb_avx512bf16_attention_scratch(size_t max_length, size_t head_dim);
void emb_avx512bf16_attention(const emb_attention *args, void *scratch);

/* Rows. The bf16 one differs in how it rounds to bf16 (in hardware), not in the result. */
void emb_avx512_layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                           const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                           void *operand, size_t operand_stride);
void emb_avx512bf16_layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                               const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                               void *operand, size_t operand_stride);
void emb_avx512_widen(emb_dtype type, const void *src, const float *scales, size_t group, size_t n,
                      float *dst, bool add);
void emb_avx512_pool(emb_pooling kind, size_t rows, size_t n, const float *x, size_t x_stride, float *out);
void emb_avx512_normalize(float *v, size_t n);
float emb_avx512_dot(const float *a, const float *b, size_t n);

#endif
