/*
 * int8 products with SDOT (ARMv8.2 dot product extension).
 *
 * SDOT adds four products to each of four int32: per 16 inputs of a row, 8 SDOT for 8 columns. Four rows
 * share the weights' loads: 8 int32 and 8 fp32 sums, 4 rows of inputs, 2 registers of weights. Per group of
 * 64 inputs and four rows: 128 SDOT, 48 loads, and 32 operations of scaling.
 * The int32 sums are exact, so a group's value is that of every other table.
 */
#if defined(__aarch64__)
#include "kernels/layout.h"
#include "kernels/neon.h"
#include <arm_neon.h>

#define LANE(j)                                                    \
    {                                                              \
        int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);         \
        w += 32;                                                   \
        _Pragma("GCC unroll 4") for (size_t r = 0; r < rows; r++)  \
        {                                                          \
            dots[r][0] = vdotq_laneq_s32(dots[r][0], w0, x[r], j); \
            dots[r][1] = vdotq_laneq_s32(dots[r][1], w1, x[r], j); \
        }                                                          \
    }

static inline __attribute__((always_inline)) void product(const char *a, size_t a_stride, size_t rows,
                                                          const float *scales, size_t groups, float *out,
                                                          size_t out_stride)
{
    const int8_t *w = (const int8_t *)(scales + groups * EMB_NEON_PANEL);
    float32x4_t sums[4][2];
#pragma GCC unroll 4
    for (size_t r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = vdupq_n_f32(0.0f);
    for (size_t g = 0; g < groups; g++, scales += EMB_NEON_PANEL) {
        int32x4_t dots[4][2];
#pragma GCC unroll 4
        for (size_t r = 0; r < rows; r++)
            dots[r][0] = dots[r][1] = vdupq_n_s32(0);
        for (size_t i = g * EMB_INT8_GROUP; i < (g + 1) * EMB_INT8_GROUP; i += 16) {
            int8x16_t x[4];
#pragma GCC unroll 4
            for (size_t r = 0; r < rows; r++)
                x[r] = vld1q_s8((const int8_t *)(a + r * a_stride) + i);
            LANE(0)
            LANE(1)
            LANE(2)
            LANE(3)
        }
#pragma GCC unroll 4
        for (size_t r = 0; r < rows; r++) {
            float scale = ((const float *)(a + r * a_stride + groups * EMB_INT8_GROUP))[g];
            sums[r][0] =
                vfmaq_f32(sums[r][0], vcvtq_f32_s32(dots[r][0]), vmulq_n_f32(vld1q_f32(scales), scale));
            sums[r][1] =
                vfmaq_f32(sums[r][1], vcvtq_f32_s32(dots[r][1]), vmulq_n_f32(vld1q_f32(scales + 4), scale));
        }
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < rows; r++) {
        vst1q_f32(out + r * out_stride, sums[r][0]);
        vst1q_f32(out + r * out_stride + 4, sums[r][1]);
    }
}

void emb_neon_dot_product_int8(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                               float *out, size_t out_stride)
{
    size_t groups = (k + EMB_INT8_GROUP - 1) / EMB_INT8_GROUP;
    for (; rows >= 4; rows -= 4, a += 4 * a_stride, out += 4 * out_stride)
        product(a, a_stride, 4, panel, groups, out, out_stride);
    if (rows == 3)
        product(a, a_stride, 3, panel, groups, out, out_stride);
    else if (rows == 2)
        product(a, a_stride, 2, panel, groups, out, out_stride);
    else if (rows == 1)
        product(a, a_stride, 1, panel, groups, out, out_stride);
}
#endif
