/*
 * vec_avx512.h: the vector vocabulary of the shared kernel templates (vec_*.h), on 512-bit registers.
 *
 *     vf y = vf_fma(vf_load(x), vf_set(2.0f), vf_load_n(bias, left));
 *     vf_store_n(out, y, left);
 *
 * vf is VW floats, vi as many int32. A suffix _n touches only the first n (0 .. VW) elements of memory
 * and reads the rest as zero. Memory may have any alignment. Only for files compiled for AVX-512.
 */
#ifndef EMB_KERNELS_VEC_AVX512_H
#define EMB_KERNELS_VEC_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

enum { VW = 16 };
#define VEC_LOOKUP 1 /* has vf_lookup */

typedef __m512 vf;
typedef __m512i vi;

#define VEC_INLINE static inline __attribute__((always_inline, unused))
#define VEC_UNROLL _Pragma("GCC unroll 8") /* before loops over registers */
#define VEC_UNUSED __attribute__((unused)) /* of a template, by some of its users */

VEC_INLINE __mmask16 vec_first(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

VEC_INLINE vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}
VEC_INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}
VEC_INLINE vf vf_load(const void *p)
{
    return _mm512_loadu_ps(p);
}
VEC_INLINE vf vf_load_n(const void *p, size_t n)
{
    return _mm512_maskz_loadu_ps(vec_first(n), p);
}
VEC_INLINE void vf_store(void *p, vf x)
{
    _mm512_storeu_ps(p, x);
}
VEC_INLINE void vf_store_n(void *p, vf x, size_t n)
{
    _mm512_mask_storeu_ps(p, vec_first(n), x);
}
VEC_INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
VEC_INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
VEC_INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
VEC_INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
VEC_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
} /* a·b + c */
VEC_INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
} /* c - a·b */
/* The second operand if either is NaN. */
VEC_INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
VEC_INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
VEC_INLINE vf vf_and(vf a, vf b)
{
    return _mm512_and_ps(a, b);
}
VEC_INLINE vf vf_or(vf a, vf b)
{
    return _mm512_or_ps(a, b);
}
VEC_INLINE vi vf_bits(vf a)
{
    return _mm512_castps_si512(a);
}
VEC_INLINE vf vi_floats(vi a)
{
    return _mm512_castsi512_ps(a);
}
VEC_INLINE vi vi_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}
VEC_INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
VEC_INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
VEC_INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
VEC_INLINE vi vi_shl(vi a, int bits)
{
    return _mm512_slli_epi32(a, (unsigned)bits);
}
VEC_INLINE vi vi_max_unsigned(vi a, vi b)
{
    return _mm512_max_epu32(a, b);
}
VEC_INLINE vf vf_from_int(vi a)
{
    return _mm512_cvtepi32_ps(a);
}
VEC_INLINE vi vf_to_int(vf a)
{
    return _mm512_cvtps_epi32(a);
} /* nearest even */
/* x < limit ? yes : no; NaN gives no. */
VEC_INLINE vf vf_if_less(vf x, vf limit, vf yes, vf no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), no, yes);
}

/* table[index mod 16] */
VEC_INLINE vf vf_lookup(const float *table, vi index)
{
    return _mm512_permutexvar_ps(index, vf_load(table));
}
/* x - floor(x), and x·2^floor(t); both keep NaN, and t may be infinite. */
#define VEC_SCALEF 1
VEC_INLINE vf vf_fraction(vf x)
{
    return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
}
VEC_INLINE vf vf_scale(vf x, vf t)
{
    return _mm512_scalef_ps(x, t);
}
/* x with zeros from lane n on. */
VEC_INLINE vf vec_keep(vf x, size_t n)
{
    return n >= VW ? x : _mm512_maskz_mov_ps(vec_first(n), x);
}

VEC_INLINE vf vf_from_bf16(const void *p)
{
    return vi_floats(vi_shl(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
VEC_INLINE vf vf_from_bf16_n(const void *p, size_t n)
{
    return vi_floats(vi_shl(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vec_first(n), p)), 16));
}
VEC_INLINE vf vf_from_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
VEC_INLINE vf vf_from_i8(const void *p)
{
    return vf_from_int(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}

#if defined(__AVX512BF16__)
VEC_INLINE __m256i vec_round_bf16(vf x)
{
    return (__m256i)_mm512_cvtneps_pbh(x);
}
#else
VEC_INLINE __m256i vec_round_bf16(vf x)
{
    vi bits = vf_bits(x);
    vi odd = vi_and(_mm512_srli_epi32(bits, 16), vi_set(1));
    vi up = vi_add(bits, vi_add(odd, vi_set(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    up = _mm512_mask_or_epi32(up, nan, bits, vi_set(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
}
#endif
VEC_INLINE void vf_to_bf16(void *p, vf x)
{
    _mm256_storeu_si256(p, vec_round_bf16(x));
}
VEC_INLINE void vf_to_bf16_n(void *p, vf x, size_t n)
{
    _mm256_mask_storeu_epi16(p, vec_first(n), vec_round_bf16(x));
}

/* rows[i] lane j becomes rows[j] lane i. */
VEC_INLINE void vec_transpose(vi rows[VW])
{
    vi t[VW];
    for (int i = 0; i < VW; i += 2) { /* pairs within 128-bit lanes */
        t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < VW; i += 4) { /* fours: lane L of rows[i + c] is column 4L + c of rows i .. i+3 */
        rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int c = 0; c < 4; c++) { /* a 4 × 4 transposition of 128-bit lanes for each c */
        vi a = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0x88),
           b = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0xdd);
        vi d = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0x88);
        vi e = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0xdd);
        t[c] = _mm512_shuffle_i32x4(a, d, 0x88);
        t[4 + c] = _mm512_shuffle_i32x4(b, e, 0x88);
        t[8 + c] = _mm512_shuffle_i32x4(a, d, 0xdd);
        t[12 + c] = _mm512_shuffle_i32x4(b, e, 0xdd);
    }
    for (int i = 0; i < VW; i++)
        rows[i] = t[i];
}

/* Sums and maxima over the lanes, always in the same order. */
VEC_INLINE float vf_sum(vf x)
{
    return _mm512_reduce_add_ps(x);
}
VEC_INLINE float vf_max_lane(vf x)
{
    return _mm512_reduce_max_ps(x);
}
VEC_INLINE uint32_t vi_max_lane(vi x)
{
    return _mm512_reduce_max_epu32(x);
}

#endif
