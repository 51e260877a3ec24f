/*
 * layout.h: the operand rows that every table here shares, and the scalar conversions behind them.
 *
 *     FP32   k floats: a float row is its own operand.
 *     BF16   k bf16, then zeros up to an even k.
 *     INT8   round_up(k, 64) bytes, then one float scale per 64; the table says whether a byte is the
 *            signed value or the value + 128. Padding has the value 0.
 *
 * Rows start on 64 bytes. All functions are pure.
 */
#ifndef EMB_KERNELS_LAYOUT_H
#define EMB_KERNELS_LAYOUT_H

#include "kernels/kernels.h"
#include <math.h>
#include <string.h>

enum { EMB_INT8_GROUP = 64 };

static inline size_t emb_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static inline uint32_t emb_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float emb_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Nearest even; NaN stays NaN; denormals become zero, as the hardware conversion does. */
static inline uint16_t emb_bf16_from_f32(float x)
{
    uint32_t bits = emb_float_bits(x);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    if (magnitude < 0x00800000)
        return (uint16_t)(bits >> 16 & 0x8000);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float emb_f32_from_bf16(uint16_t x)
{
    return emb_bits_float((uint32_t)x << 16);
}

static inline float emb_f32_from_f16(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = x >> 10 & 31, fraction = x & 0x3ff;
    if (exponent == 31)
        return emb_bits_float(sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0));
    if (exponent)
        return emb_bits_float(sign | (exponent + 112) << 23 | fraction << 13);
    float magnitude = (float)fraction * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

/* The scale of a group whose largest magnitude has these bits, and the factor that makes integers of its
 * values. A group of nothing but tiny values is zero; one that is not finite has the scale NaN, so that
 * what it is multiplied with becomes NaN and is not silently finite. */
static inline float emb_int8_scale(uint32_t max_bits, float *inverse)
{
    float max = emb_bits_float(max_bits);
    if (max_bits >= 0x7f800000) {
        *inverse = 0.0f;
        return NAN;
    }
    if (max < 1e-30f) {
        *inverse = 0.0f;
        return 0.0f;
    }
    *inverse = 127.0f / max;
    return max / 127.0f;
}

/* Where the scales of an INT8 row begin, in bytes. */
static inline size_t emb_int8_scales_at(size_t k)
{
    return emb_round_up(k, EMB_INT8_GROUP);
}

static inline size_t emb_operand_bytes(emb_precision p, size_t k)
{
    switch (p) {
    case EMB_PRECISION_BF16:
        return emb_round_up(k, 2) * sizeof(uint16_t);
    case EMB_PRECISION_INT8:
        return emb_int8_scales_at(k) + emb_int8_scales_at(k) / EMB_INT8_GROUP * sizeof(float);
    default:
        return k * sizeof(float);
    }
}

/* Rows that are 4096 bytes apart would all fall into the same few L1 sets. */
static inline size_t emb_operand_row_stride(emb_precision p, size_t k)
{
    size_t bytes = emb_round_up(emb_operand_bytes(p, k), 64);
    return bytes % 4096 ? bytes : bytes + 64;
}

#endif
