/*
 * avx512_int8.h: int8 products with vpdpbusd, for the tables that include vec_linear.h on AVX-512.
 *
 * vpdpbusd multiplies unsigned by signed bytes, so an operand byte is the value + 128 and each sum starts
 * at -128·Σw, which was computed when the weights were packed. Nothing saturates. A group of a panel is
 *
 *     64 float scales, 64 int32 starts, 16 × 64 × 4 int8 (four consecutive k of one output together)
 *
 * and of an operand row 64 bytes, with one float scale per group behind all groups. A group's 16 steps
 * stay in int32 registers; the fp32 sums wait in memory, in L1, and are touched once per group.
 */
#ifndef EMB_KERNELS_AVX512_INT8_H
#define EMB_KERNELS_AVX512_INT8_H

#include "kernels/avx512_operand.h"

enum {
    INT8_HEAD_BYTES = PANEL * (sizeof(float) + sizeof(int32_t)),
    INT8_B_BYTES = INT8_HEAD_BYTES + EMB_INT8_GROUP * PANEL
};

static void pack_int8_group(const int8_t *q, float scale, size_t lane, char *group)
{
    int32_t sum = 0;
    int8_t *to = (int8_t *)group + INT8_HEAD_BYTES + lane * 4;
    for (size_t i = 0; i < EMB_INT8_GROUP; i++) {
        to[i / 4 * PANEL * 4 + i % 4] = q[i];
        sum += q[i];
    }
    ((float *)group)[lane] = scale;
    ((int32_t *)group)[PANEL + lane] = -128 * sum;
}

/* c += dots · scales of a group. In assembly, like the products: left alone, compilers hold c in registers
 * from group to group, of which there are none left, and spill in the inner loop. */
VEC_INLINE void int8_accumulate(vi dots, const float *w_scales, vf a_scale, float *c)
{
    typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));
    __asm__ volatile("vcvtdq2ps %0, %0\n\tvmulps %2, %0, %0\n\tvfmadd213ps %1, %3, %0\n\tvmovups %0, %1"
                     : "+v"(dots), "+m"(*(lanes *)c)
                     : "m"(*(const lanes *)w_scales), "v"(a_scale));
}

VEC_INLINE void product_int8(size_t rows, const char *a, const char *a_scales, size_t a_stride, const char *b,
                             size_t steps, float *c, bool first)
{
    for (size_t r = 0; r < rows && first; r++)
        for (size_t j = 0; j < VEC_COLUMNS; j++)
            vf_store(c + r * TILE + j * VW, vf_zero());
    for (size_t g = 0; g < steps; g++, a += INT8_A_BYTES, a_scales += sizeof(float), b += INT8_B_BYTES) {
        vi sums[VEC_ROWS][VEC_COLUMNS];
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < VEC_COLUMNS; j++)
                sums[r][j] = vi_load(b + (PANEL + j * VW) * sizeof(int32_t));
        const char *w_at = b + INT8_HEAD_BYTES;
        _Pragma("GCC unroll 16") for (size_t i = 0; i < EMB_INT8_GROUP; i += 4, w_at += PANEL * 4)
        {
            vi w[VEC_COLUMNS];
            for (size_t j = 0; j < VEC_COLUMNS; j++)
                w[j] = vi_load(w_at + j * VW * 4);
            for (size_t r = 0; r < rows; r++) {
                vi x = vi_set(*(const int32_t *)(a + r * a_stride + i));
                for (size_t j = 0; j < VEC_COLUMNS; j++)
                    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums[r][j]) : "v"(x), "v"(w[j]));
            }
        }
        for (size_t r = 0; r < rows; r++) {
            vf x = vf_set(*(const float *)(a_scales + r * a_stride));
            for (size_t j = 0; j < VEC_COLUMNS; j++)
                int8_accumulate(sums[r][j], (const float *)b + j * VW, x, c + r * TILE + j * VW);
        }
    }
}

#endif
