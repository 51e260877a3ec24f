/*
 * The portable table: every kernel in plain C, for any CPU, and the meaning of the others.
 *
 * What a product computes, in each precision, is defined here and tested against double precision; the
 * tables for particular instruction sets are tested against the same. The order in which a sum is taken
 * is each table's own, the int8 integers are the same everywhere.
 */
#include "kernels/portable.h"
#include "kernels/float_mode.h"
#include "kernels/layout.h"
#include "kernels/tables.h"

const emb_kernels emb_kernels_portable = {
    .name = "portable",
    .column_block = 64,
    .int8_group = EMB_INT8_GROUP,
    .emits_int8 = true,
    .auto_precision = EMB_PRECISION_FP32,
    .attention_precision = {EMB_PRECISION_FP32, EMB_PRECISION_FP32, EMB_PRECISION_FP32, EMB_PRECISION_FP32},
    .thread_begin = emb_float_mode_enter,
    .thread_end = emb_float_mode_restore,
    .weight_bytes = emb_portable_weight_bytes,
    .weight_pack = emb_portable_weight_pack,
    .operand_stride = emb_portable_operand_stride,
    .operand_from_f32 = emb_portable_operand_from_f32,
    .linear_scratch = emb_portable_linear_scratch,
    .linear = emb_portable_linear,
    .attention_scratch = emb_portable_attention_scratch,
    .attention = emb_portable_attention,
    .layer_norm = emb_portable_layer_norm,
    .widen = emb_portable_widen,
    .pool = emb_portable_pool,
    .normalize = emb_portable_normalize,
    .dot = emb_portable_dot,
};
