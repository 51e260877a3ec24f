/*
 * amx.h: what the files of the AMX table share: layouts, names. Private to amx*.c.
 *
 *     size_t stride = EMB_AMX(operand_stride)(EMB_PRECISION_BF16, k);
 *
 * Operand rows. BF16: k bf16, zeros up to a multiple of 32. INT8: k bytes, zeros up to a multiple of 64,
 * then a float scale per EMB_AMX_GROUP inputs. Strides are odd multiples of 64 bytes: 16 rows of a tile
 * load then fall into 16 different L1 sets.
 *
 * Weights. Blocks of 32 columns; in a block, k in steps of 64 bytes (32 bf16 or 64 int8); a step is two
 * tiles of 16 rows × 64 bytes, each row 4 bytes of k for each of 16 columns: 2 KiB that a product reads
 * front to back. For INT8 the scales follow behind all blocks: [block][group][32] floats.
 *
 * Every function here is pure and runs on any thread after thread_begin.
 */
#ifndef EMB_KERNELS_AMX_H
#define EMB_KERNELS_AMX_H

#include "kernels/kernels.h"

/* The same sources are built a second time with emulated tiles, under other names. */
#ifdef EMB_AMX_EMULATE
#define EMB_AMX(name) emb_amx_emulated_##name
#else
#define EMB_AMX(name) emb_amx_##name
#endif

/* The table that does what needs no tiles: fp32 products and attention, layer norm, pooling. */
#define EMB_AMX_FP32 emb_kernels_avx512

enum {
    EMB_AMX_COLUMNS = 32,      /* of a weight block */
    EMB_AMX_STEP_BYTES = 2048, /* of packed weights: two tiles */
    EMB_AMX_GROUP = 128        /* inputs per int8 scale, a multiple of 64 */
};

static inline size_t emb_amx_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Inputs that one step covers. */
static inline size_t emb_amx_step_inputs(emb_precision p)
{
    return p == EMB_PRECISION_INT8 ? 64 : 32;
}

static inline size_t emb_amx_steps(emb_precision p, size_t k)
{
    return (k + emb_amx_step_inputs(p) - 1) / emb_amx_step_inputs(p);
}

static inline size_t emb_amx_groups(size_t k)
{
    return (k + EMB_AMX_GROUP - 1) / EMB_AMX_GROUP;
}

/* Where an INT8 weight's scales begin. */
static inline size_t emb_amx_weight_scales_at(size_t n, size_t k)
{
    size_t blocks = (n + EMB_AMX_COLUMNS - 1) / EMB_AMX_COLUMNS;
    return blocks * emb_amx_steps(EMB_PRECISION_INT8, k) * EMB_AMX_STEP_BYTES;
}

size_t EMB_AMX(weight_bytes)(emb_precision p, size_t n, size_t k);
void EMB_AMX(weight_pack)(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                          void *packed);
size_t EMB_AMX(operand_stride)(emb_precision p, size_t k);
void EMB_AMX(operand_from_f32)(emb_precision p, size_t k, const float *src, size_t src_stride, size_t rows,
                               void *dst, size_t dst_stride);
size_t EMB_AMX(linear_scratch)(size_t max_n, size_t max_k);
void EMB_AMX(linear)(const emb_linear *args, void *scratch);
size_t EMB_AMX(attention_scratch)(size_t max_length, size_t head_dim);
void EMB_AMX(attention)(const emb_attention *args, void *scratch);

#endif
