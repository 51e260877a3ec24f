/*
 * vec_rows.h: layer norm, widening, pooling, normalisation and dot over vector registers.
 *
 *     #include "kernels/avx512_operand.h"
 *     #include "kernels/vec_rows.h"
 *     … rows_layer_norm(…), rows_widen(…), rows_pool(…), rows_normalize(…), rows_dot(…)
 *
 * Signatures are those of emb_kernels. Sums run over four vectors of lanes, in an order that depends on
 * the row's length alone; rows know nothing of each other.
 */
#ifndef EMB_KERNELS_VEC_ROWS_H
#define EMB_KERNELS_VEC_ROWS_H

#include "kernels/portable.h"
#include "kernels/vec_operand.h"

enum { SUMS = 4, ROWS_STEP = SUMS * VW };

VEC_INLINE float sum_of(vf s[SUMS])
{
    return vf_sum(vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])));
}

/* Sums term(i, n) over vectors of n (VW, fewer at the end) elements from i. */
#define ROWS_SUM(result, count, term)                              \
    do {                                                           \
        vf s[SUMS] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()}; \
        size_t i = 0;                                              \
        for (; i + ROWS_STEP <= (count); i += ROWS_STEP)           \
            for (size_t j = 0; j < SUMS; j++)                      \
                s[j] = term(s[j], i + j * VW, VW);                 \
        for (size_t j = 0; i < (count); i += VW, j++)              \
            s[j] = term(s[j], i, (count)-i < VW ? (count)-i : VW); \
        result = sum_of(s);                                        \
    } while (0)

VEC_INLINE vf load_upto(const float *x, size_t n)
{
    return n == VW ? vf_load(x) : vf_load_n(x, n);
}

VEC_INLINE float rows_dot(const float *a, const float *b, size_t n)
{
    float sum;
#define TERM(s, at, left) vf_fma(load_upto(a + (at), left), load_upto(b + (at), left), s)
    ROWS_SUM(sum, n, TERM);
#undef TERM
    return sum;
}

VEC_INLINE float mean_of(const float *x, size_t n)
{
    float sum;
#define TERM(s, at, left) vf_add(load_upto(x + (at), left), s)
    ROWS_SUM(sum, n, TERM);
#undef TERM
    return sum / (float)n;
}

VEC_INLINE vf square_of(vf x, vf mean, size_t n, vf sum)
{
    vf d = vec_keep(vf_sub(x, mean), n);
    return vf_fma(d, d, sum);
}

VEC_INLINE float variance_of(const float *x, size_t n, float average)
{
    float sum;
    vf mean = vf_set(average);
#define TERM(s, at, left) square_of(load_upto(x + (at), left), mean, left, s)
    ROWS_SUM(sum, n, TERM);
#undef TERM
    return sum / (float)n;
}

VEC_INLINE void norm_row(size_t n, const float *x, const float *gamma, const float *beta, float average,
                         float inverse, float *y, emb_precision p, void *operand)
{
    vf mean = vf_set(average), factor = vf_set(inverse);
    for (size_t begin = 0; begin < n; begin += TILE) {
        size_t count = n - begin < TILE ? n - begin : TILE;
        vf v[TILE_VECTORS], g[TILE_VECTORS], b[TILE_VECTORS];
        load_tile(x + begin, count, v);
        load_tile(gamma + begin, count, g);
        for (size_t c = 0; c < TILE_VECTORS; c++)
            b[c] = vf_zero();
        if (beta)
            load_tile(beta + begin, count, b);
        for (size_t c = 0; c < TILE_VECTORS; c++)
            v[c] = vf_fma(vf_mul(vf_sub(v[c], mean), factor), g[c], b[c]);
        if (count < TILE) /* zero already, unless the mean is not finite */
            for (size_t c = 0; c < TILE_VECTORS; c++)
                v[c] = vec_keep(v[c], count > c * VW ? count - c * VW : 0);
        store_tile(EMB_PRECISION_FP32, n, begin, count, v, (char *)y);
        if (operand)
            store_tile(p, n, begin, count, v, operand);
    }
}

/* A few rows in step: the sums over one row wait for their own lanes, those of the others do not. */
VEC_INLINE void rows_layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                                const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                                void *operand, size_t operand_stride)
{
    enum { STEP = 4 };
    for (size_t row = 0; row < rows; row += STEP) {
        size_t now = rows - row < STEP ? rows - row : STEP;
        const char *in = (const char *)x + row * x_stride;
        float mean[STEP], factor[STEP];
        for (size_t r = 0; r < now; r++)
            mean[r] = mean_of((const float *)(in + r * x_stride), n);
        for (size_t r = 0; r < now; r++)
            factor[r] = variance_of((const float *)(in + r * x_stride), n, mean[r]);
        for (size_t r = 0; r < now; r++)
            factor[r] = 1.0f / sqrtf(factor[r] + eps);
        for (size_t r = 0; r < now; r++)
            norm_row(n, (const float *)(in + r * x_stride), gamma, beta, mean[r], factor[r],
                     (float *)((char *)y + (row + r) * y_stride), p,
                     operand ? (char *)operand + (row + r) * operand_stride : NULL);
    }
}

VEC_INLINE vf widen_vector(emb_dtype type, const char *src, const float *scales, size_t group, size_t i)
{
    switch (type) {
    case EMB_DTYPE_F16:
        return vf_from_f16(src + i * 2);
    case EMB_DTYPE_BF16:
        return vf_from_bf16(src + i * 2);
    case EMB_DTYPE_I8:
        return vf_mul(vf_from_i8(src + i), vf_set(scales[i / group]));
    default:
        return vf_load(src + i * 4);
    }
}

VEC_INLINE void widen_all(emb_dtype type, const char *src, const float *scales, size_t group, size_t n,
                          float *dst, bool add)
{
    size_t i = 0;
    for (; i + VW <= n; i += VW) {
        vf x = widen_vector(type, src, scales, group, i);
        vf_store(dst + i, add ? vf_add(vf_load(dst + i), x) : x);
    }
    size_t element = type == EMB_DTYPE_F32 ? 4 : type == EMB_DTYPE_I8 ? 1 : 2;
    if (i < n) /* within one group, whose size is a multiple of VW */
        emb_portable_widen(type, src + i * element, type == EMB_DTYPE_I8 ? scales + i / group : NULL, VW,
                           n - i, dst + i, add);
}

VEC_INLINE void rows_widen(emb_dtype type, const void *src, const float *scales, size_t group, size_t n,
                           float *dst, bool add)
{
    switch (type) {
    case EMB_DTYPE_F16:
        widen_all(EMB_DTYPE_F16, src, scales, group, n, dst, add);
        break;
    case EMB_DTYPE_BF16:
        widen_all(EMB_DTYPE_BF16, src, scales, group, n, dst, add);
        break;
    case EMB_DTYPE_I8:
        if (group % VW)
            emb_portable_widen(EMB_DTYPE_I8, src, scales, group, n, dst, add);
        else
            widen_all(EMB_DTYPE_I8, src, scales, group, n, dst, add);
        break;
    default:
        widen_all(EMB_DTYPE_F32, src, scales, group, n, dst, add);
        break;
    }
}

VEC_INLINE const float *pool_row(const float *x, size_t stride, size_t row)
{
    return (const float *)((const char *)x + row * stride);
}

/* 64 columns at a time: their sums stay in registers while the rows pass. */
VEC_INLINE void pool_columns(bool max, size_t rows, size_t n, const float *x, size_t x_stride, float divisor,
                             float *out)
{
    for (size_t begin = 0; begin < n; begin += TILE) {
        size_t count = n - begin < TILE ? n - begin : TILE;
        vf v[TILE_VECTORS], row[TILE_VECTORS];
        load_tile(x + begin, count, v);
        for (size_t r = 1; r < rows; r++) {
            load_tile(pool_row(x, x_stride, r) + begin, count, row);
            for (size_t c = 0; c < TILE_VECTORS; c++)
                v[c] = max ? vf_max(row[c], v[c]) : vf_add(v[c], row[c]);
        }
        for (size_t c = 0; c < TILE_VECTORS && !max; c++)
            v[c] = vf_div(v[c], vf_set(divisor));
        store_tile(EMB_PRECISION_FP32, n, begin, count, v, (char *)out);
    }
}

VEC_INLINE void rows_pool(emb_pooling kind, size_t rows, size_t n, const float *x, size_t x_stride,
                          float *out)
{
    switch (kind) {
    case EMB_POOLING_MEAN:
        pool_columns(false, rows, n, x, x_stride, (float)rows, out);
        break;
    case EMB_POOLING_MEAN_SQRT_LEN:
        pool_columns(false, rows, n, x, x_stride, sqrtf((float)rows), out);
        break;
    case EMB_POOLING_MAX:
        pool_columns(true, rows, n, x, x_stride, 1.0f, out);
        break;
    case EMB_POOLING_LAST:
        memcpy(out, pool_row(x, x_stride, rows - 1), n * sizeof *out);
        break;
    default: /* CLS */
        memcpy(out, x, n * sizeof *out);
        break;
    }
}

VEC_INLINE void rows_normalize(float *v, size_t n)
{
    float norm = sqrtf(rows_dot(v, v, n));
    vf divisor = vf_set(norm > 1e-12f ? norm : 1e-12f);
    size_t i = 0;
    for (; i + VW <= n; i += VW)
        vf_store(v + i, vf_div(vf_load(v + i), divisor));
    if (i < n)
        vf_store_n(v + i, vf_div(vf_load_n(v + i, n - i), divisor), n - i);
}

#endif
