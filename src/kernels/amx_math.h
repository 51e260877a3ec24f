/*
 * amx_math.h: exp and activation functions on 16 floats, AVX-512.
 *
 *     __m512 y = emb_amx_activate(EMB_ACT_GELU, x);     // the activation a literal, so that it inlines
 *
 * NaN stays NaN, infinities give the limits. No state, any thread.
 */
#ifndef EMB_KERNELS_AMX_MATH_H
#define EMB_KERNELS_AMX_MATH_H

#include "kernels/kernels.h"
#include <immintrin.h>
#include <math.h>

/* 2^x within 3e-6 relative: for weights that become bf16. 0 far below and for -∞, infinity above. */
static inline __m512 emb_amx_exp2_short(__m512 x)
{
    /* x - floor(x), and 0 for infinities; VSCALEFPS multiplies by 2^floor(x). */
    __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_set1_ps(0.0135341601f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.0520114757f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.241442748f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.693003836f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.00000259f));
    return _mm512_scalef_ps(p, x);
}

/* e^x within 2 ulp. */
static inline __m512 emb_amx_exp(__m512 x)
{
    /* Beyond these the result is infinity or zero anyway; infinities would make inf - inf below. */
    __m512 bounded = _mm512_min_ps(_mm512_set1_ps(100.0f), _mm512_max_ps(_mm512_set1_ps(-110.0f), x));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(bounded, _mm512_set1_ps(1.44269504f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), bounded);
    f = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), f);
    __m512 p = _mm512_set1_ps(0.00138144711f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.00836878083f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.0416683942f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.166665201f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.499999934f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* x/2 · (1 + erf(x/√2)): erf(x/√2)/x as a polynomial of degree 14 in x² on |x| < 5.2, its argument
 * centred to keep cancellation small; beyond, erf is ±1 within the error allowed. 21 instructions. */
static inline __m512 emb_amx_gelu(__m512 x)
{
    static const float c[15] = {0.271899957f,   -0.135487596f,   0.100052191f,   -0.0798513226f,
                                0.0639254028f,  -0.0495216233f,  0.0362612085f,  -0.0247288876f,
                                0.0160462118f,  -0.0100901943f,  0.00527469253f, -0.00199939502f,
                                0.00124799507f, -0.00110926831f, 0.000388287841f};
    __m512 square = _mm512_mul_ps(x, x);
    __m512 s = _mm512_fmadd_ps(square, _mm512_set1_ps(2.0f / (5.2f * 5.2f)), _mm512_set1_ps(-1.0f));
    __m512 p = _mm512_set1_ps(c[14]);
#pragma GCC unroll 14
    for (int i = 13; i >= 0; i--)
        p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(c[i]));
    __m512 half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
    __m512 y = _mm512_fmadd_ps(half, _mm512_mul_ps(x, p), half);
    __mmask16 far = _mm512_cmp_ps_mask(square, _mm512_set1_ps(5.2f * 5.2f), _CMP_GE_OQ);
    return _mm512_mask_max_ps(y, far, x, _mm512_setzero_ps());
}

/* x / (1 + e^-z). For x = z = -∞ the limit, 0. */
static inline __m512 emb_amx_times_sigmoid(__m512 x, __m512 z)
{
    __m512 e = emb_amx_exp(_mm512_sub_ps(_mm512_setzero_ps(), z));
    __m512 y = _mm512_div_ps(x, _mm512_add_ps(e, _mm512_set1_ps(1.0f)));
    __mmask16 low = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-INFINITY), _CMP_EQ_OQ);
    return _mm512_mask_mov_ps(y, low, _mm512_setzero_ps());
}

static inline __m512 emb_amx_tanh(__m512 x)
{
    /* Rational in small arguments would be exact to the last bit; 1 - 2/(1 + e^2x) keeps 1e-7 absolute. */
    __m512 magnitude = _mm512_abs_ps(x), one = _mm512_set1_ps(1.0f);
    __m512 e = emb_amx_exp(_mm512_mul_ps(magnitude, _mm512_set1_ps(-2.0f)));
    __m512 y = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
    /* The sign bit of x onto y. */
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(y), _mm512_castps_si512(x),
                                                         _mm512_set1_epi32((int)0x80000000), 0xd8));
}

static inline __attribute__((always_inline)) __m512 emb_amx_activate(emb_activation activation, __m512 x)
{
    switch (activation) {
    case EMB_ACT_GELU:
        return emb_amx_gelu(x);
    case EMB_ACT_GELU_TANH: {
        /* x/2 (1 + tanh z) = x / (1 + e^-2z), which does not cancel for negative x. */
        __m512 cubic = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), _mm512_set1_ps(1.0f));
        __m512 z = _mm512_mul_ps(_mm512_mul_ps(x, cubic), _mm512_set1_ps(2.0f * 0.797884561f));
        return emb_amx_times_sigmoid(x, z);
    }
    case EMB_ACT_RELU: /* this order passes NaN on */
        return _mm512_max_ps(_mm512_setzero_ps(), x);
    case EMB_ACT_TANH:
        return emb_amx_tanh(x);
    case EMB_ACT_SILU:
        return emb_amx_times_sigmoid(x, x);
    default:
        return x;
    }
}

#endif
