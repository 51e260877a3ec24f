/*
 * avx2_operand.h: operand rows on AVX2; vec_operand.h with its int8 row.
 *
 * An int8 row holds its integers in 16 bits each, ready for vpmaddwd, then a float scale per group of 64.
 */
#ifndef EMB_KERNELS_AVX2_OPERAND_H
#define EMB_KERNELS_AVX2_OPERAND_H

#include "kernels/vec_avx2.h"
#include "kernels/vec_math.h"
#include "kernels/vec_tile.h"

enum { INT8_A_BYTES = EMB_INT8_GROUP * sizeof(int16_t) };

/* One group of an operand row, columns begin .. begin+63, zero where the row has ended. */
VEC_INLINE void store_int8(size_t k, size_t begin, const vf *v, char *row)
{
    vi max = vf_bits(vec_abs(v[0]));
    for (size_t c = 1; c < TILE_VECTORS; c++)
        max = vi_max_unsigned(max, vf_bits(vec_abs(v[c])));
    float inverse, scale = emb_int8_scale(vi_max_lane(max), &inverse);
    float *scales = (float *)(row + emb_round_up(k, EMB_INT8_GROUP) * sizeof(int16_t));
    scales[begin / EMB_INT8_GROUP] = scale;
    for (size_t c = 0; c < TILE_VECTORS; c++) {
        vi q = vf_to_int(vf_mul(v[c], vf_set(inverse)));
        if (!(inverse > 0)) /* not finite times zero is not a number */
            q = vi_set(0);
        __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
        _mm_storeu_si128((__m128i *)(row + (begin + c * VW) * sizeof(int16_t)), words);
    }
}

#include "kernels/vec_operand.h"

#endif
