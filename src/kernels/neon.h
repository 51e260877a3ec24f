/*
 * neon.h: what the files of the aarch64 tables share. Private to neon*.c.
 *
 *     emb_neon_linear(&args, scratch);          // plain NEON; emb_neon_dot_linear, emb_neon_bf16_linear
 *
 * Operand rows. FP32: k floats. BF16: k bf16, zeros up to a multiple of 8. INT8: signed, as in layout.h.
 *
 * Weights. Panels of 8 outputs, by precision:
 *     FP32   k × 8 floats
 *     BF16   [k/4][8][4] bf16, k up to a multiple of 8
 *     INT8   groups × 8 float scales, then [k/4][8][4] int8, k up to a multiple of 64
 * The three tables differ only in the function that multiplies a panel, not in what it reads.
 *
 * All functions are pure and run on any thread.
 */
#ifndef EMB_KERNELS_NEON_H
#define EMB_KERNELS_NEON_H

#include "kernels/kernels.h"

enum { EMB_NEON_PANEL = 8, EMB_NEON_ROWS = 8, EMB_NEON_COLUMNS = 64 };

/* Products of up to 8 operand rows with one panel: row r, column c to out[r·out_stride + c]. */
typedef void (*emb_neon_product)(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                                 float *out, size_t out_stride);

void emb_neon_product_f32(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                          float *out, size_t out_stride);
void emb_neon_product_bf16(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                           float *out, size_t out_stride);
void emb_neon_product_int8(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                           float *out, size_t out_stride);
/* With the dot product extension. */
void emb_neon_dot_product_int8(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                               float *out, size_t out_stride);
/* With the bf16 extension. */
void emb_neon_bf16_product_bf16(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                                float *out, size_t out_stride);

size_t emb_neon_weight_bytes(emb_precision p, size_t n, size_t k);
void emb_neon_weight_pack(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                          void *packed);
size_t emb_neon_operand_stride(emb_precision p, size_t k);
void emb_neon_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride, size_t rows,
                               void *dst, size_t dst_stride);
/* Columns begin … begin+count-1 of an operand row of k; begin is a multiple of 64, and src has room for
 * reading up to a multiple of 4. `pad`: write the zeros behind k too. */
void emb_neon_store_operand(emb_precision p, size_t k, size_t begin, size_t count, const float *src,
                            char *row, bool pad);

size_t emb_neon_linear_scratch(size_t max_n, size_t max_k);
void emb_neon_linear(const emb_linear *args, void *scratch);
void emb_neon_dot_linear(const emb_linear *args, void *scratch);
void emb_neon_bf16_linear(const emb_linear *args, void *scratch);

size_t emb_neon_attention_scratch(size_t max_length, size_t head_dim);
void emb_neon_attention(const emb_attention *args, void *scratch);

void emb_neon_layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                         const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                         void *operand, size_t operand_stride);
void emb_neon_widen(emb_dtype type, const void *src, const float *scales, size_t group, size_t n, float *dst,
                    bool add);
void emb_neon_pool(emb_pooling kind, size_t rows, size_t n, const float *x, size_t x_stride, float *out);
void emb_neon_normalize(float *v, size_t n);
float emb_neon_dot(const float *a, const float *b, size_t n);

#endif
