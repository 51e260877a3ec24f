/*
 * Linear layers in plain C: packing, operands, products with their epilogue.
 *
 * A weight is cut into panels of 8 outputs, inside a panel k runs slowest, so that the innermost loop adds
 * one input times 8 weights to 8 sums: independent sums that a compiler turns into vectors without being
 * allowed to reorder anything. Four rows share a panel's loads. A panel, by precision:
 *
 *     FP32   k × 8 floats
 *     BF16   k × 8 bf16
 *     INT8   groups × 8 float scales, then groups·64 × 8 int8
 *
 * The tile of up to 4 rows × 64 columns is finished (bias, activation, residual, conversion) while it is
 * in L1; 64 columns are one int8 group, so an INT8 operand can be written right there.
 *
 * Invariant: every sum runs over k in ascending order and belongs to one row, so neither the number of
 * rows nor the column range changes a bit.
 */
#include "kernels/layout.h"
#include "kernels/portable.h"

enum { PANEL = 8, ROWS = 4, TILE = 64 };

static size_t panel_bytes(emb_precision p, size_t k)
{
    size_t groups = emb_round_up(k, EMB_INT8_GROUP) / EMB_INT8_GROUP;
    switch (p) {
    case EMB_PRECISION_BF16:
        return k * PANEL * sizeof(uint16_t);
    case EMB_PRECISION_INT8:
        return groups * PANEL * sizeof(float) + groups * EMB_INT8_GROUP * PANEL;
    default:
        return k * PANEL * sizeof(float);
    }
}

size_t emb_portable_weight_bytes(emb_precision p, size_t n, size_t k)
{
    return emb_round_up(emb_round_up(n, PANEL) / PANEL * panel_bytes(p, k), 64);
}

/* Quantises one group of one row. Returns its scale. */
static float quantise(const float *x, size_t count, int8_t *q)
{
    uint32_t max = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t magnitude = emb_float_bits(x[i]) & 0x7fffffff;
        max = magnitude > max ? magnitude : max;
    }
    float inverse, scale = emb_int8_scale(max, &inverse);
    for (size_t i = 0; i < EMB_INT8_GROUP; i++)
        q[i] = i < count && inverse > 0 ? (int8_t)nearbyintf(x[i] * inverse) : 0;
    return scale;
}

/* Output `lane` of a panel. */
static void pack_row(emb_precision p, size_t k, const float *src, size_t lane, char *panel)
{
    if (p == EMB_PRECISION_FP32) {
        for (size_t i = 0; i < k; i++)
            ((float *)panel)[i * PANEL + lane] = src ? src[i] : 0.0f;
    } else if (p == EMB_PRECISION_BF16) {
        for (size_t i = 0; i < k; i++)
            ((uint16_t *)panel)[i * PANEL + lane] = src ? emb_bf16_from_f32(src[i]) : 0;
    } else {
        size_t groups = emb_round_up(k, EMB_INT8_GROUP) / EMB_INT8_GROUP;
        float *scales = (float *)panel;
        int8_t *values = (int8_t *)(scales + groups * PANEL);
        for (size_t g = 0; g < groups; g++) {
            size_t at = g * EMB_INT8_GROUP, count = k - at < EMB_INT8_GROUP ? k - at : EMB_INT8_GROUP;
            int8_t q[EMB_INT8_GROUP] = {0};
            scales[g * PANEL + lane] = src ? quantise(src + at, count, q) : 0.0f;
            for (size_t i = 0; i < EMB_INT8_GROUP; i++)
                values[(at + i) * PANEL + lane] = q[i];
        }
    }
}

void emb_portable_weight_pack(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                              void *packed)
{
    size_t end = row0 + rows == n ? emb_round_up(n, PANEL) : row0 + rows;
    for (size_t row = row0; row < end; row++)
        pack_row(p, k, row < n ? src + (row - row0) * k : NULL, row % PANEL,
                 (char *)packed + row / PANEL * panel_bytes(p, k));
}

size_t emb_portable_operand_stride(emb_precision p, size_t k)
{
    return emb_operand_row_stride(p, k);
}

/* Writes columns begin .. begin+count-1 of one operand row of k; begin is a multiple of 64. */
static void store_operand(emb_precision p, size_t k, size_t begin, size_t count, const float *src, char *row)
{
    if (p == EMB_PRECISION_BF16) {
        uint16_t *out = (uint16_t *)row + begin;
        for (size_t i = 0; i < count; i++)
            out[i] = emb_bf16_from_f32(src[i]);
        if (count % 2)
            out[count] = 0;
    } else if (p == EMB_PRECISION_INT8) {
        float *scales = (float *)(row + emb_int8_scales_at(k));
        for (size_t at = 0; at < count; at += EMB_INT8_GROUP) {
            size_t group = count - at < EMB_INT8_GROUP ? count - at : EMB_INT8_GROUP;
            scales[(begin + at) / EMB_INT8_GROUP] = quantise(src + at, group, (int8_t *)row + begin + at);
        }
    } else {
        memcpy((float *)row + begin, src, count * sizeof(float));
    }
}

void emb_portable_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride,
                                   size_t rows, void *dst, size_t dst_stride)
{
    for (size_t i = 0; i < rows; i++)
        store_operand(p, k, 0, k, (const float *)((const char *)src + i * src_stride),
                      (char *)dst + i * dst_stride);
}

float emb_portable_activation(emb_activation activation, float x)
{
    switch (activation) {
    case EMB_ACT_GELU:
        return x < -14.0f ? -0.0f : 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case EMB_ACT_GELU_TANH:
        return x < -14.0f ? -0.0f : 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case EMB_ACT_RELU:
        return x < 0.0f ? 0.0f : x;
    case EMB_ACT_TANH:
        return tanhf(x);
    case EMB_ACT_SILU:
        return x < -100.0f ? -0.0f : x / (1.0f + expf(-x));
    default:
        return x;
    }
}

static inline __attribute__((always_inline)) void panel_f32(const float *const *a, size_t rows, size_t k,
                                                            const float *w, float sums[ROWS][PANEL])
{
    for (size_t i = 0; i < k; i++, w += PANEL)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < PANEL; c++)
                sums[r][c] += a[r][i] * w[c];
}

static inline __attribute__((always_inline)) void panel_bf16(const uint16_t *const *a, size_t rows, size_t k,
                                                             const uint16_t *w, float sums[ROWS][PANEL])
{
    for (size_t i = 0; i < k; i++, w += PANEL)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < PANEL; c++)
                sums[r][c] += emb_f32_from_bf16(a[r][i]) * emb_f32_from_bf16(w[c]);
}

static inline __attribute__((always_inline)) void panel_int8(const int8_t *const *a, size_t rows, size_t k,
                                                             const float *scales, float sums[ROWS][PANEL])
{
    size_t groups = emb_round_up(k, EMB_INT8_GROUP) / EMB_INT8_GROUP;
    const int8_t *w = (const int8_t *)(scales + groups * PANEL);
    for (size_t g = 0; g < groups; g++, scales += PANEL, w += EMB_INT8_GROUP * PANEL)
        for (size_t r = 0; r < rows; r++) {
            int32_t dots[PANEL] = {0};
            for (size_t i = 0; i < EMB_INT8_GROUP; i++)
                for (size_t c = 0; c < PANEL; c++)
                    dots[c] += a[r][g * EMB_INT8_GROUP + i] * w[i * PANEL + c];
            float scale = ((const float *)(a[r] + groups * EMB_INT8_GROUP))[g];
            for (size_t c = 0; c < PANEL; c++)
                sums[r][c] += (float)dots[c] * scales[c] * scale;
        }
}

/* Called with rows known to be ROWS, the compiler keeps all sums in registers. */
static inline __attribute__((always_inline)) void panel_rows(const emb_weight *weight, const void *const *a,
                                                             size_t rows, const char *w,
                                                             float sums[ROWS][PANEL])
{
    if (weight->precision == EMB_PRECISION_BF16)
        panel_bf16((const uint16_t *const *)a, rows, weight->k, (const uint16_t *)w, sums);
    else if (weight->precision == EMB_PRECISION_INT8)
        panel_int8((const int8_t *const *)a, rows, weight->k, (const float *)w, sums);
    else
        panel_f32((const float *const *)a, rows, weight->k, (const float *)w, sums);
}

/* The products of up to ROWS operand rows and one panel. */
static void panel_product(const emb_linear *args, size_t row, size_t rows, size_t panel,
                          float sums[ROWS][PANEL])
{
    const emb_weight *weight = args->weight;
    const char *w = (const char *)weight->data + panel * panel_bytes(weight->precision, weight->k);
    const void *a[ROWS];
    for (size_t r = 0; r < rows; r++)
        a[r] = (const char *)args->a + (row + r) * args->a_stride;
    memset(sums, 0, sizeof(float[ROWS][PANEL]));
    if (rows == ROWS)
        panel_rows(weight, a, ROWS, w, sums);
    else
        panel_rows(weight, a, rows, w, sums);
}

/* Bias, activation, residual and conversion of columns begin .. begin+count-1 of one row. */
static void finish_row(const emb_linear *args, size_t row, size_t begin, size_t count, float *sums)
{
    for (size_t c = 0; c < count; c++) {
        float y = sums[c] + (args->bias ? args->bias[begin + c] : 0.0f);
        sums[c] = emb_portable_activation(args->activation, y);
    }
    if (args->residual) {
        const float *residual = (const float *)((const char *)args->residual + row * args->residual_stride);
        for (size_t c = 0; c < count; c++)
            sums[c] += residual[begin + c];
    }
    store_operand(args->out_precision, args->weight->n, begin, count, sums,
                  (char *)args->out + row * args->out_stride);
}

static void linear_tile(const emb_linear *args, size_t row, size_t rows, size_t begin, size_t count)
{
    float tile[ROWS][TILE];
    for (size_t at = 0; at < count; at += PANEL) {
        float sums[ROWS][PANEL];
        panel_product(args, row, rows, (begin + at) / PANEL, sums);
        for (size_t r = 0; r < rows; r++)
            memcpy(tile[r] + at, sums[r], sizeof sums[r]);
    }
    for (size_t r = 0; r < rows; r++)
        finish_row(args, row + r, begin, count, tile[r]);
}

size_t emb_portable_linear_scratch(size_t max_n, size_t max_k)
{
    (void)max_n;
    (void)max_k;
    return 64; /* the tile lives on the stack */
}

void emb_portable_linear(const emb_linear *args, void *scratch)
{
    (void)scratch;
    for (size_t begin = args->n_begin; begin < args->n_end; begin += TILE) {
        size_t count = args->n_end - begin < TILE ? args->n_end - begin : TILE;
        for (size_t row = 0; row < args->m; row += ROWS)
            linear_tile(args, row, args->m - row < ROWS ? args->m - row : ROWS, begin, count);
    }
}
