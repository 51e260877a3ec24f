/*
 * The AVX2 table. bf16 products widen to fp32, so AUTO is fp32; attention is fp32 throughout.
 */
#if defined(__x86_64__)
#include "kernels/avx2.h"
#include "kernels/float_mode.h"
#include "kernels/layout.h"
#include "kernels/tables.h"

const emb_kernels emb_kernels_avx2 = {
    .name = "avx2",
    .column_block = 64,
    .int8_group = EMB_INT8_GROUP,
    .emits_int8 = true,
    .auto_precision = EMB_PRECISION_FP32,
    .attention_precision = {EMB_PRECISION_FP32, EMB_PRECISION_FP32, EMB_PRECISION_FP32, EMB_PRECISION_FP32},
    .thread_begin = emb_float_mode_enter,
    .thread_end = emb_float_mode_restore,
    .weight_bytes = emb_avx2_weight_bytes,
    .weight_pack = emb_avx2_weight_pack,
    .operand_stride = emb_avx2_operand_stride,
    .operand_from_f32 = emb_avx2_operand_from_f32,
    .linear_scratch = emb_avx2_linear_scratch,
    .linear = emb_avx2_linear,
    .attention_scratch = emb_avx2_attention_scratch,
    .attention = emb_avx2_attention,
    .layer_norm = emb_avx2_layer_norm,
    .widen = emb_avx2_widen,
    .pool = emb_avx2_pool,
    .normalize = emb_avx2_normalize,
    .dot = emb_avx2_dot,
};
#endif
