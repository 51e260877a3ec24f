/*
 * vec_product.h: the fp32 inner product over vector registers, and the pattern of the others.
 *
 *     enum { VEC_COLUMNS = 4, VEC_ROWS = 6, PANEL = VEC_COLUMNS * VW };
 *     #include "kernels/vec_product.h"
 *     product_f32(6, a, NULL, a_stride, panel, k, c, true);
 *
 * c[rows][TILE], PANEL columns of it, becomes (first) or receives the products of `rows` operand rows and one
 * packed panel over `steps` steps. rows is a constant where it is called, so that the sums are registers.
 */
#ifndef EMB_KERNELS_VEC_PRODUCT_H
#define EMB_KERNELS_VEC_PRODUCT_H

#include "kernels/vec_tile.h"

VEC_INLINE void sums_load(size_t rows, vf sums[VEC_ROWS][VEC_COLUMNS], const float *c, bool first)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < VEC_COLUMNS; j++)
            sums[r][j] = first ? vf_zero() : vf_load(c + r * TILE + j * VW);
}

VEC_INLINE void sums_store(size_t rows, vf sums[VEC_ROWS][VEC_COLUMNS], float *c)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < VEC_COLUMNS; j++)
            vf_store(c + r * TILE + j * VW, sums[r][j]);
}

VEC_INLINE void product_f32(size_t rows, const char *a, const char *a_scales, size_t a_stride, const char *b,
                            size_t steps, float *c, bool first)
{
    (void)a_scales;
    vf sums[VEC_ROWS][VEC_COLUMNS];
    sums_load(rows, sums, c, first);
    for (size_t i = 0; i < steps; i++, a += sizeof(float), b += PANEL * sizeof(float)) {
        vf w[VEC_COLUMNS];
        for (size_t j = 0; j < VEC_COLUMNS; j++)
            w[j] = vf_load(b + j * VW * sizeof(float));
        for (size_t r = 0; r < rows; r++) {
            vf x = vf_set(*(const float *)(a + r * a_stride));
            for (size_t j = 0; j < VEC_COLUMNS; j++)
                sums[r][j] = vf_fma(x, w[j], sums[r][j]);
        }
    }
    sums_store(rows, sums, c);
}

#endif
