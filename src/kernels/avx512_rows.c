/* Row kernels on AVX-512: vec_rows.h on 512-bit registers. */
#if defined(__x86_64__)
#include "kernels/avx512.h"
#include "kernels/avx512_operand.h"
#include "kernels/vec_rows.h"

void emb_avx512_layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                           const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                           void *operand, size_t operand_stride)
{
    rows_layer_norm(rows, n, x, x_stride, gamma, beta, eps, y, y_stride, p, operand, operand_stride);
}

void emb_avx512_widen(emb_dtype type, const void *src, const float *scales, size_t group, size_t n,
                      float *dst, bool add)
{
    rows_widen(type, src, scales, group, n, dst, add);
}

void emb_avx512_pool(emb_pooling kind, size_t rows, size_t n, const float *x, size_t x_stride, float *out)
{
    rows_pool(kind, rows, n, x, x_stride, out);
}

void emb_avx512_normalize(float *v, size_t n)
{
    rows_normalize(v, n);
}

float emb_avx512_dot(const float *a, const float *b, size_t n)
{
    return rows_dot(a, b, n);
}
#endif
