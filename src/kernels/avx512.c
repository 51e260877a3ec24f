/*
 * The AVX-512 tables: products, attention and rows of the avx512 files in one place.
 *
 * Two tables bear the name, dispatch.c picks: with bf16 products where the chip does them at the rate of
 * fp32, and without. AUTO means bf16 only in the former; elsewhere bf16 would just lose digits.
 */
#if defined(__x86_64__)
#include "kernels/avx512.h"
#include "kernels/float_mode.h"
#include "kernels/layout.h"
#include "kernels/tables.h"

const emb_kernels emb_kernels_avx512 = {
    .name = "avx512",
    .column_block = 64,
    .int8_group = EMB_INT8_GROUP,
    .emits_int8 = true,
    .auto_precision = EMB_PRECISION_FP32,
    .attention_precision = {EMB_PRECISION_FP32, EMB_PRECISION_FP32, EMB_PRECISION_FP32, EMB_PRECISION_FP32},
    .thread_begin = emb_float_mode_enter,
    .thread_end = emb_float_mode_restore,
    .weight_bytes = emb_avx512_weight_bytes,
    .weight_pack = emb_avx512_weight_pack,
    .operand_stride = emb_avx512_operand_stride,
    .operand_from_f32 = emb_avx512_operand_from_f32,
    .linear_scratch = emb_avx512_linear_scratch,
    .linear = emb_avx512_linear,
    .attention_scratch = emb_avx512_attention_scratch,
    .attention = emb_avx512_attention,
    .layer_norm = emb_avx512_layer_norm,
    .widen = emb_avx512_widen,
    .pool = emb_avx512_pool,
    .normalize = emb_avx512_normalize,
    .dot = emb_avx512_dot,
};

const emb_kernels emb_kernels_avx512_bf16 = {
    .name = "avx512",
    .column_block = 64,
    .int8_group = EMB_INT8_GROUP,
    .emits_int8 = true,
    .auto_precision = EMB_PRECISION_BF16,
    .attention_precision = {EMB_PRECISION_BF16, EMB_PRECISION_FP32, EMB_PRECISION_BF16, EMB_PRECISION_BF16},
    .thread_begin = emb_float_mode_enter,
    .thread_end = emb_float_mode_restore,
    .weight_bytes = emb_avx512_weight_bytes,
    .weight_pack = emb_avx512_weight_pack,
    .operand_stride = emb_avx512_operand_stride,
    .operand_from_f32 = emb_avx512bf16_operand_from_f32,
    .linear_scratch = emb_avx512_linear_scratch,
    .linear = emb_avx512bf16_linear,
    .attention_scratch = emb_avx512bf16_attention_scratch,
    .attention = emb_avx512bf16_attention,
    .layer_norm = emb_avx512bf16_layer_norm,
    .widen = emb_avx512_widen,
    .pool = emb_avx512_pool,
    .normalize = emb_avx512_normalize,
    .dot = emb_avx512_dot,
};
#endif
