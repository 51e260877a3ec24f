/*
 * vec_operand.h: operand rows over vector registers, shared by products, layer norm and conversion.
 *
 *     vf v[TILE_VECTORS];
 *     load_tile(src + begin, count, v);
 *     store_tile(p, k, begin, count, v, row);     // columns begin .. begin+count-1 of an operand row of k
 *
 * A tile is 64 columns of one row, which is one int8 group. Needs store_int8 and INT8_A_BYTES, the bytes
 * of a group in an operand row, from the including file's instruction set.
 */
#ifndef EMB_KERNELS_VEC_OPERAND_H
#define EMB_KERNELS_VEC_OPERAND_H

#include "kernels/vec_tile.h"

/* Stores columns begin .. begin+count-1 (begin a multiple of TILE, count at most TILE, more only when v is
 * padded with zeros) of an operand or float row of k. */
VEC_INLINE void store_tile(emb_precision p, size_t k, size_t begin, size_t count, const vf *v, char *row)
{
    if (p == EMB_PRECISION_INT8) {
        store_int8(k, begin, v, row);
        return;
    }
    for (size_t c = 0; c < TILE_VECTORS; c++) {
        size_t at = c * VW, left = count > at ? count - at : 0;
        if (p == EMB_PRECISION_BF16) {
            uint16_t *to = (uint16_t *)row + begin + at;
            if (left >= VW)
                vf_to_bf16(to, v[c]);
            else if (left)
                vf_to_bf16_n(to, v[c], left + left % 2);
        } else {
            float *to = (float *)row + begin + at;
            if (left >= VW)
                vf_store(to, v[c]);
            else if (left)
                vf_store_n(to, v[c], left);
        }
    }
}

VEC_INLINE void load_tile(const float *src, size_t count, vf *v)
{
    for (size_t c = 0; c < TILE_VECTORS; c++) {
        size_t at = c * VW;
        v[c] = count >= at + VW ? vf_load(src + at)
               : count > at     ? vf_load_n(src + at, count - at)
                                : vf_zero();
    }
}

static void operand_row(emb_precision p, size_t k, const float *src, char *row)
{
    for (size_t begin = 0; begin < k; begin += TILE) {
        size_t count = k - begin < TILE ? k - begin : TILE;
        vf v[TILE_VECTORS];
        load_tile(src + begin, count, v);
        store_tile(p, k, begin, count, v, row);
    }
}

static VEC_UNUSED void linear_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride,
                                               size_t rows, void *dst, size_t dst_stride)
{
    for (size_t i = 0; i < rows; i++)
        operand_row(p, k, (const float *)((const char *)src + i * src_stride), (char *)dst + i * dst_stride);
}

#endif
