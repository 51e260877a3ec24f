/*
 * The epilogue of the tile products, a few rows at a time.
 *
 * amx_linear.c calls these between the tile instructions of the next block: a tile product occupies the
 * matrix unit for 16 cycles and costs one instruction, so the vector units are free for the block before.
 * One function per activation and output type, chosen once per product, keeps branches out of the rows.
 *
 * Cost per 16 elements with the two 512-bit ports of these chips: bias and store 1.5 cycles, GELU 10.5
 * more, bf16 conversion 1, int8 scaling 2.5 (load and convert, two multiplies, add). A step of four tile
 * products is 64 cycles; 384 inputs are 12 steps, 768 cycles, in which the 64 vectors of a 32 × 32 block
 * with GELU take about 850: there the epilogue is the limit, everywhere else the products are.
 *
 * An element's operations do not depend on where in the block it lies.
 */
#if defined(__x86_64__)
#include "kernels/amx_finish.h"
#include "kernels/amx_math.h"

static inline __attribute__((always_inline)) void
finish_rows(const emb_amx_job *job, size_t begin, size_t end, emb_activation activation, bool bf16)
{
    for (size_t row = begin; row < end; row++)
#pragma GCC unroll 2
        for (size_t p = 0; p < 2; p++) {
            const emb_amx_part *part = &job->part[p];
            if (row >= part->rows)
                continue;
            const float *sums = job->sums + (p * 16 + row) * EMB_AMX_COLUMNS;
            __mmask16 m0 = (__mmask16)part->columns, m1 = (__mmask16)(part->columns >> 16);
            __m512 x0 = _mm512_add_ps(_mm512_load_ps(sums), _mm512_maskz_loadu_ps(m0, part->bias));
            __m512 x1 = _mm512_add_ps(_mm512_load_ps(sums + 16), _mm512_maskz_loadu_ps(m1, part->bias + 16));
            x0 = emb_amx_activate(activation, x0);
            x1 = emb_amx_activate(activation, x1);
            if (part->residual) {
                const float *residual = (const float *)(part->residual + row * job->residual_stride);
                x0 = _mm512_add_ps(x0, _mm512_maskz_loadu_ps(m0, residual));
                x1 = _mm512_add_ps(x1, _mm512_maskz_loadu_ps(m1, residual + 16));
            }
            char *out = part->out + row * job->out_stride;
            if (bf16) {
                _mm512_mask_storeu_epi16(out, part->stored, (__m512i)_mm512_cvtne2ps_pbh(x1, x0));
            } else {
                _mm512_mask_storeu_ps(out, m0, x0);
                _mm512_mask_storeu_ps((float *)out + 16, m1, x1);
            }
        }
}

#define FINISH(name, activation)                                              \
    static void name##_f32(const emb_amx_job *job, size_t begin, size_t end)  \
    {                                                                         \
        finish_rows(job, begin, end, activation, false);                      \
    }                                                                         \
    static void name##_bf16(const emb_amx_job *job, size_t begin, size_t end) \
    {                                                                         \
        finish_rows(job, begin, end, activation, true);                       \
    }
FINISH(none, EMB_ACT_NONE)
FINISH(gelu, EMB_ACT_GELU)
FINISH(gelu_tanh, EMB_ACT_GELU_TANH)
FINISH(relu, EMB_ACT_RELU)
FINISH(tanh, EMB_ACT_TANH)
FINISH(silu, EMB_ACT_SILU)

emb_amx_rows EMB_AMX(finish_function)(emb_activation activation, emb_precision out)
{
    static const emb_amx_rows table[][2] = {
        [EMB_ACT_NONE] = {none_f32, none_bf16},
        [EMB_ACT_GELU] = {gelu_f32, gelu_bf16},
        [EMB_ACT_GELU_TANH] = {gelu_tanh_f32, gelu_tanh_bf16},
        [EMB_ACT_RELU] = {relu_f32, relu_bf16},
        [EMB_ACT_TANH] = {tanh_f32, tanh_bf16},
        [EMB_ACT_SILU] = {silu_f32, silu_bf16},
    };
    return table[activation][out == EMB_PRECISION_BF16];
}

void EMB_AMX(scale_rows)(const emb_amx_job *job, size_t begin, size_t end)
{
    for (size_t row = begin; row < end; row++)
        for (size_t p = 0; p < 2; p++) {
            const emb_amx_part *part = &job->part[p];
            if (row >= part->rows)
                continue;
            size_t at = (p * 16 + row) * EMB_AMX_COLUMNS;
            __m512 scale = _mm512_set1_ps(*(const float *)(part->row_scale + row * job->row_scale_stride));
            for (size_t half = 0; half < EMB_AMX_COLUMNS; half += 16) {
                __m512 x = _mm512_cvtepi32_ps(_mm512_load_si512((const int32_t *)job->staged + at + half));
                __m512 factor = _mm512_mul_ps(scale, _mm512_load_ps(part->column_scale + half));
                float *sums = job->sums + at + half;
                /* The first group is multiplied and not added to zero, the same up to the sign of zero. */
                x = job->add ? _mm512_fmadd_ps(x, factor, _mm512_load_ps(sums)) : _mm512_mul_ps(x, factor);
                _mm512_store_ps(sums, x);
            }
        }
}
#endif
