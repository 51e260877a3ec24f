/*
 * Linear layers on aarch64: packing, operands, the loop over a product and its epilogue, and the products
 * that every aarch64 CPU can do. neon_dot.c and neon_bf16.c have those of the extensions.
 *
 * 64 columns of weights are taken at a time and used for all rows, 8 rows by 8 panels of 8 columns: one
 * panel's sums are 16 registers, 8 hold inputs, 8 remain for weights. Per 4 inputs that is 16 loads for 64
 * multiply-adds, below what two load ports deliver next to two multiply-add ports (4 lanes each): the
 * limit is 16 flop a cycle and core, 32 where there are four ports. The 8 × 64 results are finished in L1
 * (bias, activation, residual, conversion); 64 columns are one int8 group.
 *
 * bf16 without the extension widens both sides to fp32 (a shift) and is slower than fp32; it exists so that
 * a model packed as bf16 runs everywhere, and is not chosen by itself. int8 without the dot product
 * extension multiplies to 16 bits and adds pairwise to 32.
 *
 * Invariant: a sum runs over k in a fixed order that does not depend on the number of rows; a block of
 * fewer rows runs the same operations on fewer registers.
 */
#if defined(__aarch64__)
#include "kernels/layout.h"
#include "kernels/neon.h"
#include "kernels/neon_math.h"

static size_t bf16_padded(size_t k)
{
    return emb_round_up(k, 8);
}

static size_t groups_of(size_t k)
{
    return (k + EMB_INT8_GROUP - 1) / EMB_INT8_GROUP;
}

static size_t panel_bytes(emb_precision p, size_t k)
{
    switch (p) {
    case EMB_PRECISION_BF16:
        return bf16_padded(k) * EMB_NEON_PANEL * sizeof(uint16_t);
    case EMB_PRECISION_INT8:
        return groups_of(k) * EMB_NEON_PANEL * (EMB_INT8_GROUP + sizeof(float));
    default:
        return k * EMB_NEON_PANEL * sizeof(float);
    }
}

size_t emb_neon_weight_bytes(emb_precision p, size_t n, size_t k)
{
    return emb_round_up((n + EMB_NEON_PANEL - 1) / EMB_NEON_PANEL * panel_bytes(p, k), 64);
}

/* Quantises up to 64 floats to exactly 64 bytes, zeros behind. Returns the scale. */
static float quantise(const float *x, size_t count, int8_t *q)
{
    float padded[EMB_INT8_GROUP] = {0};
    memcpy(padded, x, count * sizeof *x);
    uint32x4_t max = vdupq_n_u32(0);
    for (size_t i = 0; i < EMB_INT8_GROUP; i += 4)
        max =
            vmaxq_u32(max, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(padded + i)), vdupq_n_u32(0x7fffffff)));
    float inverse, scale = emb_int8_scale(vmaxvq_u32(max), &inverse);
    for (size_t i = 0; i < EMB_INT8_GROUP; i += 8) {
        int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(padded + i), inverse));
        int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(padded + i + 4), inverse));
        vst1_s8(q + i, vqmovn_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high))));
    }
    return scale;
}

/* Output `lane` of a panel; src NULL: zeros. */
static void pack_row(emb_precision p, size_t k, const float *src, size_t lane, char *panel)
{
    if (p == EMB_PRECISION_FP32) {
        for (size_t i = 0; i < k; i++)
            ((float *)panel)[i * EMB_NEON_PANEL + lane] = src ? src[i] : 0.0f;
    } else if (p == EMB_PRECISION_BF16) {
        uint16_t *values = (uint16_t *)panel;
        for (size_t i = 0; i < bf16_padded(k); i++)
            values[(i / 4 * EMB_NEON_PANEL + lane) * 4 + i % 4] =
                src && i < k ? emb_bf16_from_f32(src[i]) : 0;
    } else {
        float *scales = (float *)panel;
        int8_t *values = (int8_t *)(scales + groups_of(k) * EMB_NEON_PANEL);
        for (size_t g = 0; g < groups_of(k); g++) {
            size_t at = g * EMB_INT8_GROUP, count = k - at < EMB_INT8_GROUP ? k - at : EMB_INT8_GROUP;
            int8_t q[EMB_INT8_GROUP] = {0};
            scales[g * EMB_NEON_PANEL + lane] = src ? quantise(src + at, count, q) : 0.0f;
            for (size_t i = 0; i < EMB_INT8_GROUP; i++)
                values[((at + i) / 4 * EMB_NEON_PANEL + lane) * 4 + i % 4] = q[i];
        }
    }
}

void emb_neon_weight_pack(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                          void *packed)
{
    size_t end = row0 + rows == n ? emb_round_up(n, EMB_NEON_PANEL) : row0 + rows;
    for (size_t row = row0; row < end; row++)
        pack_row(p, k, row < n ? src + (row - row0) * k : NULL, row % EMB_NEON_PANEL,
                 (char *)packed + row / EMB_NEON_PANEL * panel_bytes(p, k));
}

size_t emb_neon_operand_stride(emb_precision p, size_t k)
{
    return emb_operand_row_stride(p, p == EMB_PRECISION_BF16 ? bf16_padded(k) : k);
}

void emb_neon_store_operand(emb_precision p, size_t k, size_t begin, size_t count, const float *src,
                            char *row, bool pad)
{
    if (p == EMB_PRECISION_BF16) {
        uint16_t *out = (uint16_t *)row + begin;
        size_t i = 0;
        for (; i + 4 <= count; i += 4)
            vst1_u16(out + i, emb_neon_to_bf16(vld1q_f32(src + i)));
        for (; i < count; i++)
            out[i] = emb_bf16_from_f32(src[i]);
        for (; pad && i < bf16_padded(count); i++)
            out[i] = 0;
    } else if (p == EMB_PRECISION_INT8) {
        float *scales = (float *)(row + emb_int8_scales_at(k));
        for (size_t at = 0; at < count; at += EMB_INT8_GROUP) {
            size_t group = count - at < EMB_INT8_GROUP ? count - at : EMB_INT8_GROUP;
            scales[(begin + at) / EMB_INT8_GROUP] = quantise(src + at, group, (int8_t *)row + begin + at);
        }
    } else {
        memcpy((float *)row + begin, src, count * sizeof *src);
    }
}

void emb_neon_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride, size_t rows,
                               void *dst, size_t dst_stride)
{
    for (size_t i = 0; i < rows; i++)
        emb_neon_store_operand(p, k, 0, k, (const float *)((const char *)src + i * src_stride),
                               (char *)dst + i * dst_stride, true);
}

/* ---- products ---- */

#define LANE(j)                                                    \
    {                                                              \
        float32x4_t w0 = vld1q_f32(w), w1 = vld1q_f32(w + 4);      \
        w += EMB_NEON_PANEL;                                       \
        _Pragma("GCC unroll 8") for (size_t r = 0; r < rows; r++)  \
        {                                                          \
            sums[r][0] = vfmaq_laneq_f32(sums[r][0], w0, x[r], j); \
            sums[r][1] = vfmaq_laneq_f32(sums[r][1], w1, x[r], j); \
        }                                                          \
    }

static inline __attribute__((always_inline)) void product_f32(const char *a, size_t a_stride, size_t rows,
                                                              const float *w, size_t k, float *out,
                                                              size_t out_stride)
{
    float32x4_t sums[EMB_NEON_ROWS][2], x[EMB_NEON_ROWS];
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = vdupq_n_f32(0.0f);
    size_t i = 0;
    for (; i + 4 <= k; i += 4) {
#pragma GCC unroll 8
        for (size_t r = 0; r < rows; r++)
            x[r] = vld1q_f32((const float *)(a + r * a_stride) + i);
        LANE(0)
        LANE(1)
        LANE(2)
        LANE(3)
    }
    for (; i < k; i++) {
#pragma GCC unroll 8
        for (size_t r = 0; r < rows; r++)
            x[r] = vld1q_dup_f32((const float *)(a + r * a_stride) + i);
        LANE(0)
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++) {
        vst1q_f32(out + r * out_stride, sums[r][0]);
        vst1q_f32(out + r * out_stride + 4, sums[r][1]);
    }
}

void emb_neon_product_f32(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                          float *out, size_t out_stride)
{
    /* A literal number of rows keeps the sums in registers. */
    switch (rows) {
#define ROWS(n)                                                 \
    case n:                                                     \
        product_f32(a, a_stride, n, panel, k, out, out_stride); \
        break;
        ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8)
#undef ROWS
    }
}

/* Two rows: 16 sums of 4 lanes, added up at the end. */
static inline __attribute__((always_inline)) void product_bf16(const char *a, size_t a_stride, size_t rows,
                                                               const uint16_t *w, size_t k, float *out,
                                                               size_t out_stride)
{
    float32x4_t sums[2][EMB_NEON_PANEL];
#pragma GCC unroll 2
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (size_t c = 0; c < EMB_NEON_PANEL; c++)
            sums[r][c] = vdupq_n_f32(0.0f);
    for (size_t i = 0; i < bf16_padded(k); i += 4) {
        float32x4_t x[2];
#pragma GCC unroll 2
        for (size_t r = 0; r < rows; r++)
            x[r] = emb_neon_from_bf16(vld1_u16((const uint16_t *)(a + r * a_stride) + i));
#pragma GCC unroll 8
        for (size_t c = 0; c < EMB_NEON_PANEL; c++, w += 4) {
            float32x4_t weights = emb_neon_from_bf16(vld1_u16(w));
#pragma GCC unroll 2
            for (size_t r = 0; r < rows; r++)
                sums[r][c] = vfmaq_f32(sums[r][c], x[r], weights);
        }
    }
#pragma GCC unroll 2
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (size_t c = 0; c < EMB_NEON_PANEL; c += 4)
            vst1q_f32(out + r * out_stride + c, vpaddq_f32(vpaddq_f32(sums[r][c], sums[r][c + 1]),
                                                           vpaddq_f32(sums[r][c + 2], sums[r][c + 3])));
}

void emb_neon_product_bf16(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                           float *out, size_t out_stride)
{
    for (; rows >= 2; rows -= 2, a += 2 * a_stride, out += 2 * out_stride)
        product_bf16(a, a_stride, 2, panel, k, out, out_stride);
    if (rows)
        product_bf16(a, a_stride, 1, panel, k, out, out_stride);
}

/* One group of one row: 8 integers. The products of a pair of int8 fit 16 bits: 2·127² < 2¹⁵. */
static inline void group_int8(const int8_t *x, const int8_t *w, int32x4_t dots[2])
{
    int32x4_t sums[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    for (size_t i = 0; i < EMB_INT8_GROUP; i += 4, w += 32) {
        int32_t four;
        memcpy(&four, x + i, sizeof four);
        int8x16_t inputs = vreinterpretq_s8_s32(vdupq_n_s32(four));
        int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);
        sums[0] = vpadalq_s16(sums[0], vmull_s8(vget_low_s8(inputs), vget_low_s8(w0)));
        sums[1] = vpadalq_s16(sums[1], vmull_high_s8(inputs, w0));
        sums[2] = vpadalq_s16(sums[2], vmull_s8(vget_low_s8(inputs), vget_low_s8(w1)));
        sums[3] = vpadalq_s16(sums[3], vmull_high_s8(inputs, w1));
    }
    dots[0] = vpaddq_s32(sums[0], sums[1]);
    dots[1] = vpaddq_s32(sums[2], sums[3]);
}

void emb_neon_product_int8(const char *a, size_t a_stride, size_t rows, const void *panel, size_t k,
                           float *out, size_t out_stride)
{
    size_t groups = groups_of(k);
    const float *scales = panel;
    const int8_t *values = (const int8_t *)(scales + groups * EMB_NEON_PANEL);
    for (size_t r = 0; r < rows; r++, a += a_stride, out += out_stride) {
        const float *row_scales = (const float *)(a + groups * EMB_INT8_GROUP);
        float32x4_t low = vdupq_n_f32(0.0f), high = low;
        for (size_t g = 0; g < groups; g++) {
            int32x4_t dots[2];
            group_int8((const int8_t *)a + g * EMB_INT8_GROUP, values + g * EMB_INT8_GROUP * EMB_NEON_PANEL,
                       dots);
            const float *s = scales + g * EMB_NEON_PANEL;
            low = vfmaq_f32(low, vcvtq_f32_s32(dots[0]), vmulq_n_f32(vld1q_f32(s), row_scales[g]));
            high = vfmaq_f32(high, vcvtq_f32_s32(dots[1]), vmulq_n_f32(vld1q_f32(s + 4), row_scales[g]));
        }
        vst1q_f32(out, low);
        vst1q_f32(out + 4, high);
    }
}

/* ---- the layer ---- */

static inline __attribute__((always_inline)) void activate(emb_activation activation, const float *bias,
                                                           float *x)
{
    for (size_t i = 0; i < EMB_NEON_COLUMNS; i += 4)
        vst1q_f32(x + i, emb_neon_activate(activation, vaddq_f32(vld1q_f32(x + i), vld1q_f32(bias + i))));
}

static void activate_row(emb_activation activation, const float *bias, float *x)
{
    switch (activation) {
    case EMB_ACT_GELU:
        activate(EMB_ACT_GELU, bias, x);
        break;
    case EMB_ACT_GELU_TANH:
        activate(EMB_ACT_GELU_TANH, bias, x);
        break;
    case EMB_ACT_RELU:
        activate(EMB_ACT_RELU, bias, x);
        break;
    case EMB_ACT_TANH:
        activate(EMB_ACT_TANH, bias, x);
        break;
    case EMB_ACT_SILU:
        activate(EMB_ACT_SILU, bias, x);
        break;
    default:
        activate(EMB_ACT_NONE, bias, x);
    }
}

/* Columns begin … begin+count-1 of one row, from the 64 sums in x. */
static void finish_row(const emb_linear *args, size_t row, size_t begin, size_t count, const float *bias,
                       float *x)
{
    activate_row(args->activation, bias, x);
    if (args->residual) {
        const float *residual =
            (const float *)((const char *)args->residual + row * args->residual_stride) + begin;
        size_t i = 0;
        for (; i + 4 <= count; i += 4)
            vst1q_f32(x + i, vaddq_f32(vld1q_f32(x + i), vld1q_f32(residual + i)));
        for (; i < count; i++)
            x[i] += residual[i];
    }
    size_t n = args->weight->n;
    bool pad = begin + count == n && bf16_padded(n) * sizeof(uint16_t) <= args->out_stride;
    emb_neon_store_operand(args->out_precision, n, begin, count, x,
                           (char *)args->out + row * args->out_stride, pad);
}

static void linear(const emb_linear *args, emb_neon_product product)
{
    const emb_weight *weight = args->weight;
    size_t bytes = panel_bytes(weight->precision, weight->k);
    for (size_t begin = args->n_begin; begin < args->n_end; begin += EMB_NEON_COLUMNS) {
        size_t count = args->n_end - begin < EMB_NEON_COLUMNS ? args->n_end - begin : EMB_NEON_COLUMNS;
        float bias[EMB_NEON_COLUMNS] = {0};
        if (args->bias)
            memcpy(bias, args->bias + begin, count * sizeof *bias);
        const char *panels = (const char *)weight->data + begin / EMB_NEON_PANEL * bytes;
        for (size_t row = 0; row < args->m; row += EMB_NEON_ROWS) {
            float sums[EMB_NEON_ROWS * EMB_NEON_COLUMNS] __attribute__((aligned(64))) = {0};
            size_t rows = args->m - row < EMB_NEON_ROWS ? args->m - row : EMB_NEON_ROWS;
            for (size_t at = 0; at < count; at += EMB_NEON_PANEL)
                product((const char *)args->a + row * args->a_stride, args->a_stride, rows,
                        panels + at / EMB_NEON_PANEL * bytes, weight->k, sums + at, EMB_NEON_COLUMNS);
            for (size_t r = 0; r < rows; r++)
                finish_row(args, row + r, begin, count, bias, sums + r * EMB_NEON_COLUMNS);
        }
    }
}

size_t emb_neon_linear_scratch(size_t max_n, size_t max_k)
{
    (void)max_n;
    (void)max_k;
    return 64; /* 2 KiB of sums live on the stack */
}

static void linear_with(const emb_linear *args, emb_neon_product bf16, emb_neon_product int8)
{
    if (args->weight->precision == EMB_PRECISION_BF16)
        linear(args, bf16);
    else if (args->weight->precision == EMB_PRECISION_INT8)
        linear(args, int8);
    else
        linear(args, emb_neon_product_f32);
}

void emb_neon_linear(const emb_linear *args, void *scratch)
{
    (void)scratch;
    linear_with(args, emb_neon_product_bf16, emb_neon_product_int8);
}

void emb_neon_dot_linear(const emb_linear *args, void *scratch)
{
    (void)scratch;
    linear_with(args, emb_neon_product_bf16, emb_neon_dot_product_int8);
}

void emb_neon_bf16_linear(const emb_linear *args, void *scratch)
{
    (void)scratch;
    linear_with(args, emb_neon_bf16_product_bf16, emb_neon_dot_product_int8);
}
#endif
