/*
 * The AMX table: Sapphire Rapids and later.
 *
 * Products in bf16 and int8 and attention run on the tile unit; what needs no tiles (fp32 products and
 * attention, layer norm, pooling) is the AVX-512 table's. Rows of q, k and v are bf16 in both tile
 * precisions: attention in int8 would need scales per head, and its scores are the sensitive part.
 *
 * bf16 is the automatic choice: 16 times the fp32 rate, and its error (8 bits of mantissa, fp32 sums)
 * stays far inside what retrieval notices.
 *
 * A thread configures all tiles once to 16 rows of 64 bytes; products that need fewer rows change that
 * and put it back. tilerelease at the end lets the operating system drop the 8 KiB of tile state from
 * context switches. The process's permission to use tiles is asked for by emb_cpu_amx.
 */
#if defined(__x86_64__)
#include "kernels/amx.h"
#include "kernels/amx_tile.h"
#include "kernels/float_mode.h"
#include "kernels/tables.h"

static uint64_t thread_begin(void)
{
    uint64_t saved = emb_float_mode_enter();
    emb_tile_config config = emb_tile_config_of(16, 16);
    emb_tile_load_config(&config);
    return saved;
}

static void thread_end(uint64_t saved)
{
    emb_tile_release();
    emb_float_mode_restore(saved);
}

static void layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                       const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                       void *operand, size_t operand_stride)
{
    if (!operand || p == EMB_PRECISION_FP32) {
        EMB_AMX_FP32.layer_norm(rows, n, x, x_stride, gamma, beta, eps, y, y_stride, p, operand,
                                operand_stride);
        return;
    }
    /* Row by row: the second pass finds its row in L1. */
    for (size_t i = 0; i < rows; i++) {
        const float *src = (const float *)((const char *)x + i * x_stride);
        float *dst = (float *)((char *)y + i * y_stride);
        EMB_AMX_FP32.layer_norm(1, n, src, x_stride, gamma, beta, eps, dst, y_stride, EMB_PRECISION_FP32,
                                NULL, 0);
        EMB_AMX(operand_from_f32)
        (p, n, dst, y_stride, 1, (char *)operand + i * operand_stride, operand_stride);
    }
}

static void widen(emb_dtype type, const void *src, const float *scales, size_t group, size_t n, float *dst,
                  bool add)
{
    EMB_AMX_FP32.widen(type, src, scales, group, n, dst, add);
}

static void pool(emb_pooling kind, size_t rows, size_t n, const float *x, size_t x_stride, float *out)
{
    EMB_AMX_FP32.pool(kind, rows, n, x, x_stride, out);
}

static void normalize(float *v, size_t n)
{
    EMB_AMX_FP32.normalize(v, n);
}

static float dot(const float *a, const float *b, size_t n)
{
    return EMB_AMX_FP32.dot(a, b, n);
}

#ifdef EMB_AMX_EMULATE
extern const emb_kernels emb_kernels_amx_emulated;
const emb_kernels emb_kernels_amx_emulated = {
    .name = "amx-emulated",
#else
const emb_kernels emb_kernels_amx = {
    .name = "amx",
#endif
    .column_block = 64,
    .int8_group = EMB_AMX_GROUP,
    .emits_int8 = false,
    .auto_precision = EMB_PRECISION_BF16,
    .attention_precision = {EMB_PRECISION_BF16, EMB_PRECISION_FP32, EMB_PRECISION_BF16, EMB_PRECISION_BF16},
    .thread_begin = thread_begin,
    .thread_end = thread_end,
    .weight_bytes = EMB_AMX(weight_bytes),
    .weight_pack = EMB_AMX(weight_pack),
    .operand_stride = EMB_AMX(operand_stride),
    .operand_from_f32 = EMB_AMX(operand_from_f32),
    .linear_scratch = EMB_AMX(linear_scratch),
    .linear = EMB_AMX(linear),
    .attention_scratch = EMB_AMX(attention_scratch),
    .attention = EMB_AMX(attention),
    .layer_norm = layer_norm,
    .widen = widen,
    .pool = pool,
    .normalize = normalize,
    .dot = dot,
};
#endif
