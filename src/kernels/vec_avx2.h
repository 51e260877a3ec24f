/*
 * vec_avx2.h: the vector vocabulary of the shared kernel templates (vec_*.h), on 256-bit registers.
 *
 *     vf y = vf_fma(vf_load(x), vf_set(2.0f), vf_load_n(bias, left));
 *     vf_store_n(out, y, left);
 *
 * vf is VW floats, vi as many int32. A suffix _n touches only the first n (0 .. VW) elements of memory
 * and reads the rest as zero. Memory may have any alignment. Only for files compiled for AVX2 and FMA.
 */
#ifndef EMB_KERNELS_VEC_AVX2_H
#define EMB_KERNELS_VEC_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { VW = 8 };

typedef __m256 vf;
typedef __m256i vi;

#define VEC_INLINE static inline __attribute__((always_inline, unused))
#define VEC_UNUSED __attribute__((unused)) /* of a template, by some of its users */

static const int32_t vec_masks[16] __attribute__((unused)) = {-1, -1, -1, -1, -1, -1, -1, -1};

VEC_INLINE __m256i vec_first(size_t n)
{
    return _mm256_loadu_si256((const __m256i *)(vec_masks + 8 - n));
}

VEC_INLINE vf vf_set(float x)
{
    return _mm256_set1_ps(x);
}
VEC_INLINE vf vf_zero(void)
{
    return _mm256_setzero_ps();
}
VEC_INLINE vf vf_load(const void *p)
{
    return _mm256_loadu_ps(p);
}
VEC_INLINE vf vf_load_n(const void *p, size_t n)
{
    return _mm256_maskload_ps(p, vec_first(n));
}
VEC_INLINE void vf_store(void *p, vf x)
{
    _mm256_storeu_ps(p, x);
}
VEC_INLINE void vf_store_n(void *p, vf x, size_t n)
{
    _mm256_maskstore_ps(p, vec_first(n), x);
}
VEC_INLINE vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
VEC_INLINE vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
VEC_INLINE vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
VEC_INLINE vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
VEC_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
} /* a·b + c */
/* The second operand if either is NaN. */
VEC_INLINE vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
VEC_INLINE vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
VEC_INLINE vf vf_and(vf a, vf b)
{
    return _mm256_and_ps(a, b);
}
VEC_INLINE vi vf_bits(vf a)
{
    return _mm256_castps_si256(a);
}
VEC_INLINE vf vi_floats(vi a)
{
    return _mm256_castsi256_ps(a);
}
VEC_INLINE vi vi_set(int32_t x)
{
    return _mm256_set1_epi32(x);
}
VEC_INLINE vi vi_load(const void *p)
{
    return _mm256_loadu_si256(p);
}
VEC_INLINE vi vi_add(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}
VEC_INLINE vi vi_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}
VEC_INLINE vi vi_shl(vi a, int bits)
{
    return _mm256_slli_epi32(a, bits);
}
VEC_INLINE vi vi_max_unsigned(vi a, vi b)
{
    return _mm256_max_epu32(a, b);
}
VEC_INLINE vf vf_from_int(vi a)
{
    return _mm256_cvtepi32_ps(a);
}
VEC_INLINE vi vf_to_int(vf a)
{
    return _mm256_cvtps_epi32(a);
} /* nearest even */
/* x < limit ? yes : no; NaN gives no. */
VEC_INLINE vf vf_if_less(vf x, vf limit, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(x, limit, _CMP_LT_OQ));
}
/* x with zeros from lane n on. */
VEC_INLINE vf vec_keep(vf x, size_t n)
{
    return n >= VW ? x : vf_and(x, vi_floats(vec_first(n)));
}

VEC_INLINE vf vf_from_bf16(const void *p)
{
    return vi_floats(vi_shl(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
VEC_INLINE vf vf_from_bf16_n(const void *p, size_t n)
{
    uint16_t all[VW] = {0};
    memcpy(all, p, n * sizeof *all);
    return vf_from_bf16(all);
}
VEC_INLINE vf vf_from_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}
VEC_INLINE vf vf_from_i8(const void *p)
{
    return vf_from_int(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}

VEC_INLINE __m128i vec_round_bf16(vf x)
{
    vi bits = vf_bits(x);
    vi odd = vi_and(_mm256_srli_epi32(bits, 16), vi_set(1));
    vi up = vi_add(bits, vi_add(odd, vi_set(0x7fff)));
    vi nan = vf_bits(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    up = _mm256_blendv_epi8(up, _mm256_or_si256(bits, vi_set(0x400000)), nan);
    up = _mm256_srli_epi32(up, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(up), _mm256_extracti128_si256(up, 1));
}
VEC_INLINE void vf_to_bf16(void *p, vf x)
{
    _mm_storeu_si128(p, vec_round_bf16(x));
}
VEC_INLINE void vf_to_bf16_n(void *p, vf x, size_t n)
{
    uint16_t all[VW];
    vf_to_bf16(all, x);
    memcpy(p, all, n * sizeof *all);
}

/* rows[i] lane j becomes rows[j] lane i. */
VEC_INLINE void vec_transpose(vi rows[VW])
{
    vi t[VW];
    for (int i = 0; i < VW; i += 2) {
        t[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < VW; i += 4) { /* lane L of rows[i + c] is column 4L + c of rows i .. i+3 */
        rows[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        rows[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        rows[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        rows[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int c = 0; c < 4; c++) {
        t[c] = _mm256_permute2x128_si256(rows[c], rows[4 + c], 0x20);
        t[4 + c] = _mm256_permute2x128_si256(rows[c], rows[4 + c], 0x31);
    }
    for (int i = 0; i < VW; i++)
        rows[i] = t[i];
}

/* Sums and maxima over the lanes, always in the same order. */
VEC_INLINE float vf_sum(vf x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
VEC_INLINE float vf_max_lane(vf x)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
VEC_INLINE uint32_t vi_max_lane(vi x)
{
    __m128i s = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    s = _mm_max_epu32(s, _mm_shuffle_epi32(s, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(s, _mm_shuffle_epi32(s, 0xb1)));
}

#endif
