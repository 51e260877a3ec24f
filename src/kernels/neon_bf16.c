/*
 * bf16 products with BFMMLA (ARMv8.6 bf16 extension).
 *
 * BFMMLA multiplies a 2 × 4 by a 4 × 2 matrix of bf16 and adds to 2 × 2 floats: 16 multiply-adds an
 * instruction, four times FMLA. Eight rows and eight columns are 16 such sums; per 8 inputs 8 + 8 loads, 8
 * permutations that put two rows side by side, and 32 BFMMLA. Pairs of rows are independent of each other
 * and so are the two rows of a pair; an odd last row is paired with itself.
 */
#if defined(__aarch64__)
#include "kernels/neon.h"
#include <arm_neon.h>

enum { PAIRS = 4 };

/* Up to 4 pairs of rows; a row index beyond `last` reads `last`. */
static inline __attribute__((always_inline)) void product(const char *a, size_t a_stride, size_t rows,
                                                          const bfloat16_t *w, size_t k, float *out,
                                                          size_t out_stride)
{
    const size_t pairs = (rows + 1) / 2;
    float32x4_t sums[PAIRS][4];
#pragma GCC unroll 4
    for (size_t p = 0; p < pairs; p++)
        sums[p][0] = sums[p][1] = sums[p][2] = sums[p][3] = vdupq_n_f32(0.0f);
    for (size_t i = 0; i < k; i += 8) {
        uint64x2_t first[PAIRS], second[PAIRS];
#pragma GCC unroll 4
        for (size_t p = 0; p < pairs; p++) {
            const char *even = a + 2 * p * a_stride, *odd = 2 * p + 1 < rows ? even + a_stride : even;
            uint64x2_t x = vreinterpretq_u64_u16(vld1q_u16((const uint16_t *)even + i));
            uint64x2_t y = vreinterpretq_u64_u16(vld1q_u16((const uint16_t *)odd + i));
            first[p] = vzip1q_u64(x, y);
            second[p] = vzip2q_u64(x, y);
        }
#pragma GCC unroll 4
        for (size_t c = 0; c < 4; c++) {
            bfloat16x8_t low = vld1q_bf16(w + 8 * c), high = vld1q_bf16(w + 32 + 8 * c);
#pragma GCC unroll 4
            for (size_t p = 0; p < pairs; p++) {
                sums[p][c] = vbfmmlaq_f32(sums[p][c], vreinterpretq_bf16_u64(first[p]), low);
                sums[p][c] = vbfmmlaq_f32(sums[p][c], vreinterpretq_bf16_u64(second[p]), high);
            }
        }
        w += 64;
    }
#pragma GCC unroll 4
    for (size_t p = 0; p < pairs; p++)
#pragma GCC unroll 2
        for (size_t c = 0; c < 4; c += 2) {
            float64x2_t left = vreinterpretq_f64_f32(sums[p][c]),
                        right = vreinterpretq_f64_f32(sums[p][c + 1]);
            float *even = out + 2 * p * out_stride + 2 * c;
            vst1q_f32(even, vreinterpretq_f32_f64(vzip1q_f64(left, right)));
            if (2 * p + 1 < rows)
                vst1q_f32(even + out_stride, vreinterpretq_f32_f64(vzip2q_f64(left, right)));
        }
}

void emb_neon_bf16_product_bf16(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                                float *out, size_t out_stride)
{
    switch (rows) {
#define ROWS(n)                                             \
    case n:                                                 \
        product(a, a_stride, n, panel, k, out, out_stride); \
        break;
        ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8)
#undef ROWS
    }
}
#endif
