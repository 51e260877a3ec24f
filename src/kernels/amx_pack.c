/*
 * Packing weights and operand rows for the tile products. The layouts are described in amx.h.
 *
 * A weight tile is the transpose of 16 outputs × 64 bytes of k in units of 4 bytes, so packing is:
 * convert 16 rows to 64 bytes each, transpose in registers, store 1 KiB. Conversion to bf16 rounds to
 * nearest even and makes denormals zero, as the products themselves would. An int8 group is scaled by its
 * largest magnitude to ±127.
 *
 * fp32 weights and operands are those of the AVX-512 table, which multiplies them.
 */
#if defined(__x86_64__)
#include "kernels/amx.h"
#include "kernels/amx_transpose.h"
#include "kernels/layout.h"
#include "kernels/tables.h"

size_t EMB_AMX(weight_bytes)(emb_precision p, size_t n, size_t k)
{
    if (p == EMB_PRECISION_FP32)
        return EMB_AMX_FP32.weight_bytes(p, n, k);
    size_t blocks = (n + EMB_AMX_COLUMNS - 1) / EMB_AMX_COLUMNS;
    size_t bytes = blocks * emb_amx_steps(p, k) * EMB_AMX_STEP_BYTES;
    if (p == EMB_PRECISION_INT8)
        bytes += blocks * emb_amx_groups(k) * EMB_AMX_COLUMNS * sizeof(float);
    return bytes;
}

/* Elements [at, at + 16) of a row of k floats, zeros beyond. */
static inline __m512 load_row(const float *row, size_t at, size_t k)
{
    if (at >= k)
        return _mm512_setzero_ps();
    size_t left = k - at;
    return _mm512_maskz_loadu_ps(left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1), row + at);
}

static inline __m512i bf16_of(const float *row, size_t at, size_t k)
{
    if (at + 32 <= k)
        return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + at + 16), _mm512_loadu_ps(row + at));
    return (__m512i)_mm512_cvtne2ps_pbh(load_row(row, at + 16, k), load_row(row, at, k));
}

static inline __m128i int8_quarter(__m512 x, __m512 factor)
{
    return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, factor)));
}

/* 64 bytes, in quarters. */
static inline void store_int8(const float *row, size_t at, size_t k, float inverse, __m128i out[4])
{
    __m512 factor = _mm512_set1_ps(inverse);
    if (at + 64 <= k) {
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++)
            _mm_storeu_si128(out + i, int8_quarter(_mm512_loadu_ps(row + at + 16 * i), factor));
        return;
    }
    for (size_t i = 0; i < 4; i++)
        _mm_storeu_si128(out + i, int8_quarter(load_row(row, at + 16 * i, k), factor));
}

/* The scale of group g of a row. */
static float group_scale(const float *row, size_t g, size_t k, float *inverse)
{
    size_t begin = g * EMB_AMX_GROUP, end = begin + EMB_AMX_GROUP < k ? begin + EMB_AMX_GROUP : k;
    __m512i max = _mm512_setzero_si512(), magnitude = _mm512_set1_epi32(0x7fffffff);
    /* Magnitudes of floats order like their bits, NaN last. */
    size_t at = begin;
    for (; at + 16 <= end; at += 16)
        max = _mm512_max_epu32(max, _mm512_and_si512(_mm512_loadu_si512(row + at), magnitude));
    if (at < end)
        max = _mm512_max_epu32(max, _mm512_and_si512(_mm512_castps_si512(load_row(row, at, end)), magnitude));
    return emb_int8_scale(_mm512_reduce_max_epu32(max), inverse);
}

/* 32 outputs, of which `rows` exist. */
static void pack_block_bf16(size_t k, size_t rows, const float *src, char *dst)
{
    for (size_t step = 0; step < emb_amx_steps(EMB_PRECISION_BF16, k); step++)
        for (size_t half = 0; half < 2; half++, dst += 1024) {
            __m512i tile[16];
            for (size_t i = 0; i < 16; i++)
                tile[i] = 16 * half + i < rows ? bf16_of(src + (16 * half + i) * k, 32 * step, k)
                                               : _mm512_setzero_si512();
            emb_amx_transpose(tile);
            for (size_t i = 0; i < 16; i++)
                _mm512_store_si512(dst + 64 * i, tile[i]);
        }
}

static void pack_block_int8(size_t k, size_t rows, const float *src, char *dst, float *scales)
{
    for (size_t g = 0; g < emb_amx_groups(k); g++) {
        float inverse[EMB_AMX_COLUMNS];
        for (size_t i = 0; i < EMB_AMX_COLUMNS; i++) {
            inverse[i] = 0.0f;
            scales[g * EMB_AMX_COLUMNS + i] = i < rows ? group_scale(src + i * k, g, k, &inverse[i]) : 0.0f;
        }
        for (size_t at = g * EMB_AMX_GROUP; at < (g + 1) * EMB_AMX_GROUP && at < k; at += 64)
            for (size_t half = 0; half < 2; half++, dst += 1024) {
                __m512i tile[16];
                for (size_t i = 0; i < 16; i++) {
                    size_t row = 16 * half + i;
                    tile[i] = _mm512_setzero_si512();
                    if (row < rows)
                        store_int8(src + row * k, at, k, inverse[row], (__m128i *)&tile[i]);
                }
                emb_amx_transpose(tile);
                for (size_t i = 0; i < 16; i++)
                    _mm512_store_si512(dst + 64 * i, tile[i]);
            }
    }
}

void EMB_AMX(weight_pack)(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                          void *packed)
{
    if (p == EMB_PRECISION_FP32) {
        EMB_AMX_FP32.weight_pack(p, n, k, row0, rows, src, packed);
        return;
    }
    size_t block_bytes = emb_amx_steps(p, k) * EMB_AMX_STEP_BYTES;
    float *scales = (float *)((char *)packed + emb_amx_weight_scales_at(n, k));
    for (size_t done = 0; done < rows; done += EMB_AMX_COLUMNS) {
        size_t block = (row0 + done) / EMB_AMX_COLUMNS;
        size_t count = rows - done < EMB_AMX_COLUMNS ? rows - done : EMB_AMX_COLUMNS;
        char *dst = (char *)packed + block * block_bytes;
        if (p == EMB_PRECISION_BF16)
            pack_block_bf16(k, count, src + done * k, dst);
        else
            pack_block_int8(k, count, src + done * k, dst,
                            scales + block * emb_amx_groups(k) * EMB_AMX_COLUMNS);
    }
}

size_t EMB_AMX(operand_stride)(emb_precision p, size_t k)
{
    if (p == EMB_PRECISION_FP32)
        return EMB_AMX_FP32.operand_stride(p, k);
    size_t lines = emb_amx_steps(p, k); /* 64 bytes each in both precisions */
    if (p == EMB_PRECISION_INT8)
        lines += (emb_amx_groups(k) * sizeof(float) + 63) / 64;
    return (lines | 1) * 64;
}

void EMB_AMX(operand_from_f32)(emb_precision p, size_t k, const float *src, size_t src_stride, size_t rows,
                               void *dst, size_t dst_stride)
{
    if (p == EMB_PRECISION_FP32) {
        EMB_AMX_FP32.operand_from_f32(p, k, src, src_stride, rows, dst, dst_stride);
        return;
    }
    for (size_t i = 0; i < rows; i++) {
        const float *row = (const float *)((const char *)src + i * src_stride);
        char *out = (char *)dst + i * dst_stride;
        if (p == EMB_PRECISION_BF16) {
            for (size_t at = 0; at < k; at += 32)
                _mm512_storeu_si512(out + 2 * at, bf16_of(row, at, k));
            continue;
        }
        float *scales = (float *)(out + 64 * emb_amx_steps(p, k));
        for (size_t g = 0; g < emb_amx_groups(k); g++) {
            float inverse;
            scales[g] = group_scale(row, g, k, &inverse);
            for (size_t at = g * EMB_AMX_GROUP; at < (g + 1) * EMB_AMX_GROUP && at < k; at += 64)
                store_int8(row, at, k, inverse, (__m128i *)(out + at));
        }
    }
}
#endif
