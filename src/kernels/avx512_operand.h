/*
 * avx512_operand.h: operand rows on AVX-512; vec_operand.h with its int8 row.
 *
 * An int8 row is one byte per value, the value + 128 (see avx512_int8.h), then a float scale per group.
 */
#ifndef EMB_KERNELS_AVX512_OPERAND_H
#define EMB_KERNELS_AVX512_OPERAND_H

#include "kernels/vec_avx512.h"
#include "kernels/vec_math.h"
#include "kernels/vec_tile.h"

enum { INT8_A_BYTES = EMB_INT8_GROUP };

/* One group of an operand row, columns begin .. begin+63, zero where the row has ended. */
VEC_INLINE void store_int8(size_t k, size_t begin, const vf *v, char *row)
{
    vi max = vf_bits(vec_abs(v[0]));
    for (size_t c = 1; c < TILE_VECTORS; c++)
        max = vi_max_unsigned(max, vf_bits(vec_abs(v[c])));
    float inverse, scale = emb_int8_scale(vi_max_lane(max), &inverse);
    ((float *)(row + emb_round_up(k, EMB_INT8_GROUP)))[begin / EMB_INT8_GROUP] = scale;
    vi q[TILE_VECTORS];
    for (size_t c = 0; c < TILE_VECTORS; c++)
        q[c] =
            inverse > 0 ? vf_to_int(vf_mul(v[c], vf_set(inverse))) : vi_set(0); /* infinite times 0 is NaN */
    /* Packing works within 128-bit lanes and leaves the fours of bytes of the four vectors interleaved. */
    vi bytes = _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
    vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    bytes = _mm512_permutexvar_epi32(order, bytes);
    _mm512_storeu_si512(row + begin, _mm512_xor_si512(bytes, _mm512_set1_epi8((char)0x80)));
}

#include "kernels/vec_operand.h"

#endif
