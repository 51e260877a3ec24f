/*
 * The tables for aarch64, all named "neon": what every CPU has, with SDOT, and with BFMMLA too.
 *
 * They share layouts, operands and row functions, and differ in the products: SDOT makes int8 fast, BFMMLA
 * makes bf16 four times fp32's rate and with it the automatic choice. Without BFMMLA, bf16 is emulated
 * and fp32 is the automatic choice. Attention and everything else is fp32 inside; q, k, v and the result
 * are bf16 rows where products are, which is then the next product's operand without a conversion.
 */
#if defined(__aarch64__)
#include "kernels/neon.h"
#include "kernels/float_mode.h"
#include "kernels/layout.h"
#include "kernels/tables.h"

#define TABLE(variable, product, precision)                                                             \
    const emb_kernels variable = {                                                                      \
        .name = "neon",                                                                                 \
        .column_block = EMB_NEON_COLUMNS,                                                               \
        .int8_group = EMB_INT8_GROUP,                                                                   \
        .emits_int8 = true,                                                                             \
        .auto_precision = precision,                                                                    \
        .attention_precision = {precision, EMB_PRECISION_FP32, EMB_PRECISION_BF16, EMB_PRECISION_FP32}, \
        .thread_begin = emb_float_mode_enter,                                                           \
        .thread_end = emb_float_mode_restore,                                                           \
        .weight_bytes = emb_neon_weight_bytes,                                                          \
        .weight_pack = emb_neon_weight_pack,                                                            \
        .operand_stride = emb_neon_operand_stride,                                                      \
        .operand_from_f32 = emb_neon_operand_from_f32,                                                  \
        .linear_scratch = emb_neon_linear_scratch,                                                      \
        .linear = product,                                                                              \
        .attention_scratch = emb_neon_attention_scratch,                                                \
        .attention = emb_neon_attention,                                                                \
        .layer_norm = emb_neon_layer_norm,                                                              \
        .widen = emb_neon_widen,                                                                        \
        .pool = emb_neon_pool,                                                                          \
        .normalize = emb_neon_normalize,                                                                \
        .dot = emb_neon_dot,                                                                            \
    }

TABLE(emb_kernels_neon, emb_neon_linear, EMB_PRECISION_FP32);
TABLE(emb_kernels_neon_dot, emb_neon_dot_linear, EMB_PRECISION_FP32);
TABLE(emb_kernels_neon_bf16, emb_neon_bf16_linear, EMB_PRECISION_BF16);
#endif
