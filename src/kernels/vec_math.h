/*
 * vec_math.h: elementary functions and activations over vector registers.
 *
 *     #include "kernels/vec_avx512.h"
 *     #include "kernels/vec_math.h"
 *     vf y = vec_activate(EMB_ACT_GELU, x);      // the activation is a constant, only its code remains
 *
 * Every function is defined for all floats: NaN stays NaN, infinities give the limits. Errors against the
 * exact value: exp2 1.2e-7 relative; GELU 1.3e-7·max(1, |x|) absolute, the others 2e-7·max(1, |x|). The
 * tests hold them to 2e-7 over the whole range of floats.
 */
#ifndef EMB_KERNELS_VEC_MATH_H
#define EMB_KERNELS_VEC_MATH_H

#include "kernels/kernels.h"

#define VEC_LOG2E 1.44269504f
/* 1.5·2^23: adding it rounds to an integer, which then sits in the low bits. */
#define VEC_ROUND 12582912.0f

VEC_INLINE vf vec_abs(vf x)
{
    return vf_and(x, vi_floats(vi_set(0x7fffffff)));
}

/* 2^t for t up to 127; what is below 2^-126 may be that or zero. */
#if defined(VEC_SCALEF)
VEC_INLINE vf vec_exp2(vf t)
{
    vf r = vf_fraction(t);
    vf p = vf_fma(r, vf_set(0.00187623291f), vf_set(0.00899258442f));
    p = vf_fma(r, p, vf_set(0.0558236055f));
    p = vf_fma(r, p, vf_set(0.240154535f));
    p = vf_fma(r, p, vf_set(0.693152964f));
    p = vf_fma(r, p, vf_set(0.99999994f));
    return vf_scale(p, t);
}
#else
VEC_INLINE vf vec_exp2(vf t)
{
    t = vf_max(vf_set(-126.0f), t);
    vf shifted = vf_add(t, vf_set(VEC_ROUND));
    vf r = vf_sub(t, vf_sub(shifted, vf_set(VEC_ROUND)));
    vf p = vf_fma(r, vf_set(0.00132669704f), vf_set(0.00967545975f));
    p = vf_fma(r, p, vf_set(0.0555074262f));
    p = vf_fma(r, p, vf_set(0.240221218f));
    p = vf_fma(r, p, vf_set(0.693146949f));
    p = vf_fma(r, p, vf_set(1.0f));
    return vi_floats(vi_add(vf_bits(p), vi_shl(vf_bits(shifted), 23)));
}
#endif

/* 2^t as a softmax weight; one that will be rounded to bf16 needs less (8e-5 relative). */
VEC_INLINE vf vec_exp2_weight(vf t)
{
#if defined(VEC_ATTENTION_BF16)
    vf r = vf_fraction(t);
    vf p = vf_fma(r, vf_set(0.0779071674f), vf_set(0.226233199f));
    p = vf_fma(r, p, vf_set(0.695777118f));
    p = vf_fma(r, p, vf_set(0.999927819f));
    return vf_scale(p, t);
#else
    return vec_exp2(t);
#endif
}

/* exp(-x), from 0 to 2^127. */
VEC_INLINE vf vec_exp_negative(vf x)
{
    return vec_exp2(vf_min(vf_set(127.0f), vf_mul(x, vf_set(-VEC_LOG2E))));
}

/* GELU(x) = max(x, 0) - h(|x|) with h(a) = a·(1 - Φ(a)): small, and zero to fp32 beyond 5.25. */
#if defined(VEC_LOOKUP)
/* h in 16 pieces of the fifth degree, picked by register lookup; the last is zero. Pieces are centred on
 * multiples of 5.25/14.5. */
static const float vec_gelu_pieces[6][16] __attribute__((aligned(64), unused)) = {
    {0.0f, 0.129856125f, 0.169803485f, 0.150650099f, 0.106839254f, 0.063581422f, 0.0323955379f, 0.014270843f,
     0.00546417618f, 0.00182409817f, 0.000531913422f, 0.000135652794f, 3.02803055e-05f, 5.91934895e-06f,
     1.01376418e-06f, 0.0f},
    {0.181034476f, 0.0808753148f, 0.00442768633f, -0.0367621705f, -0.0465871021f, -0.0380757414f,
     -0.0242383555f, -0.0127089657f, -0.00562240742f, -0.00212505739f, -0.000691238849f, -0.000194404056f,
     -4.74192748e-05f, -1.00538e-05f, -1.85578847e-06f, 0.0f},
    {-0.0522987805f, -0.0457697958f, -0.0296875183f, -0.0118898731f, 0.000892907323f, 0.00648780353f,
     0.00671644835f, 0.00465999218f, 0.00251831906f, 0.00111456495f, 0.000413499016f, 0.000130254091f,
     3.51142517e-05f, 8.14371288e-06f, 1.63079392e-06f, 0.0f},
    {-2.15944601e-06f, 0.00414030533f, 0.00611098157f, 0.00535939448f, 0.00304683927f, 0.000802034745f,
     -0.000465809484f, -0.000780945236f, -0.000604817353f, -0.000336623954f, -0.00014816731f,
     -5.35812178e-05f, -1.62331435e-05f, -4.16795956e-06f, -9.13714644e-07f, 0.0f},
    {0.00115480379f, 0.000824203016f, 0.000134424714f, -0.00044845682f, -0.000624326582f, -0.00045388061f,
     -0.0001837288f, 1.81548387e-06f, 6.65414045e-05f, 5.97399739e-05f, 3.4294455e-05f, 1.49690532e-05f,
     5.26162057e-06f, 1.53026667e-06f, 3.73923797e-07f, 0.0f},
    {-2.78390235e-05f, -0.000115266179f, -0.000143112527f, -7.96661334e-05f, 6.5854997e-06f, 5.26200492e-05f,
     4.91890496e-05f, 2.413927e-05f, 3.6588367e-06f, -4.56753014e-06f, -4.84655766e-06f, -2.82286624e-06f,
     -1.2015106e-06f, -4.04192519e-07f, -1.11229355e-07f, 0.0f},
};

VEC_INLINE vf vec_gelu(vf x)
{
    vf t = vf_min(vf_set(15.25f), vf_mul(vec_abs(x), vf_set(14.5f / 5.25f)));
    vf shifted = vf_add(t, vf_set(VEC_ROUND));
    vf d = vf_sub(t, vf_sub(shifted, vf_set(VEC_ROUND)));
    vi piece = vf_bits(shifted);
    vf h = vf_lookup(vec_gelu_pieces[5], piece);
    for (int i = 4; i >= 0; i--)
        h = vf_fma(d, h, vf_lookup(vec_gelu_pieces[i], piece));
    return vf_sub(vf_max(vf_zero(), x), h);
}
#else
/* 1 - Φ(a) = exp(-a²/2)·p(1/(1 + c·a))/2 (Abramowitz and Stegun 7.1.26 at a/√2). */
VEC_INLINE vf vec_gelu(vf x)
{
    vf a = vf_min(vf_set(6.0f), vec_abs(x));
    vf t = vf_div(vf_set(1.0f), vf_fma(a, vf_set(0.23164189f), vf_set(1.0f)));
    vf p = vf_fma(t, vf_set(0.5307027145f), vf_set(-0.7265760135f));
    p = vf_fma(t, p, vf_set(0.7107068705f));
    p = vf_fma(t, p, vf_set(-0.142248368f));
    p = vf_fma(t, p, vf_set(0.127414796f));
    vf e = vec_exp2(vf_mul(vf_mul(a, a), vf_set(-0.5f * VEC_LOG2E)));
    vf h = vf_mul(vf_mul(a, t), vf_mul(e, p));
    return vf_sub(vf_max(vf_zero(), x), vf_if_less(vf_set(5.25f), a, vf_zero(), h));
}
#endif

/* x/2·(1 + tanh u) = x/(1 + exp(-2u)) */
VEC_INLINE vf vec_gelu_tanh(vf x)
{
    vf cubic = vf_fma(vf_mul(vf_mul(x, x), x), vf_set(0.0713548163f), vf_mul(x, vf_set(1.59576912f)));
    vf y = vf_div(x, vf_add(vf_set(1.0f), vec_exp_negative(cubic)));
    return vf_if_less(x, vf_set(-12.0f), vf_set(-0.0f), y);
}

VEC_INLINE vf vec_silu(vf x)
{
    vf y = vf_div(x, vf_add(vf_set(1.0f), vec_exp_negative(x)));
    return vf_if_less(x, vf_set(-80.0f), vf_set(-0.0f), y);
}

/* 1 - 2/(exp(2x) + 1); near zero that would lose digits, so there a polynomial. */
VEC_INLINE vf vec_tanh(vf x)
{
    vf e = vec_exp_negative(vf_mul(x, vf_set(-2.0f)));
    vf far = vf_sub(vf_set(1.0f), vf_div(vf_set(2.0f), vf_add(e, vf_set(1.0f))));
    vf s = vf_mul(x, x);
    vf p = vf_fma(s, vf_set(0.0218694885f), vf_set(-0.0539682540f));
    p = vf_fma(s, p, vf_set(0.133333333f));
    p = vf_fma(s, p, vf_set(-0.333333333f));
    vf near = vf_fma(vf_mul(s, x), p, x);
    return vf_if_less(vf_set(0.35f), vec_abs(x), far, near);
}

VEC_INLINE vf vec_activate(emb_activation activation, vf x)
{
    switch (activation) {
    case EMB_ACT_GELU:
        return vec_gelu(x);
    case EMB_ACT_GELU_TANH:
        return vec_gelu_tanh(x);
    case EMB_ACT_RELU:
        return vf_max(vf_zero(), x);
    case EMB_ACT_TANH:
        return vec_tanh(x);
    case EMB_ACT_SILU:
        return vec_silu(x);
    default:
        return x;
    }
}

#endif
