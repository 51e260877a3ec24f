/*
 * neon_math.h: exp, activations and conversions on 4 floats, NEON.
 *
 *     float32x4_t y = emb_neon_activate(EMB_ACT_GELU, x);    // the activation a literal
 *
 * NaN stays NaN, infinities give the limits. No state, any thread.
 */
#ifndef EMB_KERNELS_NEON_MATH_H
#define EMB_KERNELS_NEON_MATH_H

#include "kernels/kernels.h"
#include <arm_neon.h>
#include <math.h>

/* e^x within 2 ulp; 0 and infinity beyond the range of floats. */
static inline float32x4_t emb_neon_exp(float32x4_t x)
{
    /* Beyond these the result is infinity or zero anyway; infinities would make inf - inf below. */
    x = vminq_f32(vdupq_n_f32(100.0f), vmaxq_f32(vdupq_n_f32(-110.0f), x));
    float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
    float32x4_t f = vfmsq_n_f32(x, n, 0.693359375f);
    f = vfmsq_n_f32(f, n, -2.12194440e-4f);
    float32x4_t p = vdupq_n_f32(0.00138144711f);
    p = vfmaq_f32(vdupq_n_f32(0.00836878083f), p, f);
    p = vfmaq_f32(vdupq_n_f32(0.0416683942f), p, f);
    p = vfmaq_f32(vdupq_n_f32(0.166665201f), p, f);
    p = vfmaq_f32(vdupq_n_f32(0.499999934f), p, f);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, f);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, f);
    /* 2^n in two factors, each of which is a normal float: n is within ±160. */
    int32x4_t whole = vcvtq_s32_f32(n), half = vshrq_n_s32(whole, 1), rest = vsubq_s32(whole, half);
    int32x4_t bias = vdupq_n_s32(127);
    float32x4_t first = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    float32x4_t second = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
    return vmulq_f32(vmulq_f32(p, first), second);
}

/* x/2 · (1 + erf(x/√2)): erf(x/√2)/x as a polynomial of degree 14 in x² on |x| < 5.2, its argument
 * centred to keep cancellation small; beyond, erf is ±1 within the error allowed. */
static inline float32x4_t emb_neon_gelu(float32x4_t x)
{
    static const float c[15] = {0.271899957f,   -0.135487596f,   0.100052191f,   -0.0798513226f,
                                0.0639254028f,  -0.0495216233f,  0.0362612085f,  -0.0247288876f,
                                0.0160462118f,  -0.0100901943f,  0.00527469253f, -0.00199939502f,
                                0.00124799507f, -0.00110926831f, 0.000388287841f};
    float32x4_t square = vmulq_f32(x, x);
    float32x4_t s = vfmaq_n_f32(vdupq_n_f32(-1.0f), square, 2.0f / (5.2f * 5.2f));
    float32x4_t p = vdupq_n_f32(c[14]);
#pragma GCC unroll 14
    for (int i = 13; i >= 0; i--)
        p = vfmaq_f32(vdupq_n_f32(c[i]), p, s);
    float32x4_t half = vmulq_n_f32(x, 0.5f);
    float32x4_t y = vfmaq_f32(half, half, vmulq_f32(x, p));
    uint32x4_t far = vcgeq_f32(square, vdupq_n_f32(5.2f * 5.2f));
    return vbslq_f32(far, vmaxq_f32(x, vdupq_n_f32(0.0f)), y);
}

/* x / (1 + e^-z). For x = -∞ the limit, 0. */
static inline float32x4_t emb_neon_times_sigmoid(float32x4_t x, float32x4_t z)
{
    float32x4_t y = vdivq_f32(x, vaddq_f32(emb_neon_exp(vnegq_f32(z)), vdupq_n_f32(1.0f)));
    return vbslq_f32(vceqq_f32(x, vdupq_n_f32(-INFINITY)), vdupq_n_f32(0.0f), y);
}

/* (1 - e) / (1 + e) with e = e^-2|x|, absolute error 1e-7. */
static inline float32x4_t emb_neon_tanh(float32x4_t x)
{
    float32x4_t e = emb_neon_exp(vmulq_n_f32(vabsq_f32(x), -2.0f)), one = vdupq_n_f32(1.0f);
    float32x4_t y = vdivq_f32(vsubq_f32(one, e), vaddq_f32(one, e));
    return vbslq_f32(vdupq_n_u32(0x80000000u), x, y);
}

static inline __attribute__((always_inline)) float32x4_t emb_neon_activate(emb_activation activation,
                                                                           float32x4_t x)
{
    switch (activation) {
    case EMB_ACT_GELU:
        return emb_neon_gelu(x);
    case EMB_ACT_GELU_TANH: {
        /* x/2 (1 + tanh z) = x / (1 + e^-2z), which does not cancel for negative x. */
        float32x4_t cubic = vfmaq_n_f32(vdupq_n_f32(1.0f), vmulq_f32(x, x), 0.044715f);
        return emb_neon_times_sigmoid(x, vmulq_n_f32(vmulq_f32(x, cubic), 2.0f * 0.797884561f));
    }
    case EMB_ACT_RELU:
        return vmaxq_f32(x, vdupq_n_f32(0.0f));
    case EMB_ACT_TANH:
        return emb_neon_tanh(x);
    case EMB_ACT_SILU:
        return emb_neon_times_sigmoid(x, x);
    default:
        return x;
    }
}

/* Nearest even; NaN stays NaN; denormals become zero: as emb_bf16_from_f32. */
static inline uint16x4_t emb_neon_to_bf16(float32x4_t x)
{
    uint32x4_t bits = vreinterpretq_u32_f32(x), magnitude = vandq_u32(bits, vdupq_n_u32(0x7fffffff));
    uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t y = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    y = vbslq_u32(vcgtq_u32(magnitude, vdupq_n_u32(0x7f800000)), vorrq_u32(bits, vdupq_n_u32(0x400000)), y);
    y = vbslq_u32(vcltq_u32(magnitude, vdupq_n_u32(0x00800000)), vandq_u32(bits, vdupq_n_u32(0x80000000)), y);
    return vshrn_n_u32(y, 16);
}

static inline float32x4_t emb_neon_from_bf16(uint16x4_t x)
{
    return vreinterpretq_f32_u32(vshll_n_u16(x, 16));
}

#endif
