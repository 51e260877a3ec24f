/*
 * Linear layers on AVX-512: the template with tiles of 6 rows × 64 outputs, 24 of the 32 registers.
 *
 * The wide tile needs 10 loads for 24 multiply-adds (12 × 32 would need 14), and one panel is one int8 group
 * of the next layer. bf16 widens to fp32 here (see avx512bf16_linear.c).
 */
#if defined(__x86_64__)
#include "kernels/avx512.h"
#include "kernels/avx512_operand.h"

enum { VEC_COLUMNS = 4, VEC_ROWS = 6, PANEL = VEC_COLUMNS * VW, VEC_BLOCK_BYTES = 32 * 1024 };
#include "kernels/avx512_int8.h"
#include "kernels/vec_product.h"

/* Without bf16 arithmetic: both sides widen to fp32, where products of bf16 are exact. */
VEC_INLINE void product_bf16(size_t rows, const char *a, const char *a_scales, size_t a_stride, const char *b,
                             size_t steps, float *c, bool first)
{
    (void)a_scales;
    vf sums[VEC_ROWS][VEC_COLUMNS];
    sums_load(rows, sums, c, first);
    for (size_t i = 0; i < steps; i++, a += 2 * sizeof(uint16_t), b += PANEL * 2 * sizeof(uint16_t))
        for (size_t odd = 0; odd < 2; odd++) {
            vf w[VEC_COLUMNS];
            for (size_t j = 0; j < VEC_COLUMNS; j++) {
                vi pair = vi_load(b + j * VW * 2 * sizeof(uint16_t));
                w[j] = vi_floats(odd ? vi_and(pair, vi_set((int32_t)0xffff0000)) : vi_shl(pair, 16));
            }
            for (size_t r = 0; r < rows; r++) {
                vi pair = vi_set(*(const int32_t *)(a + r * a_stride));
                vf x = vi_floats(odd ? vi_and(pair, vi_set((int32_t)0xffff0000)) : vi_shl(pair, 16));
                for (size_t j = 0; j < VEC_COLUMNS; j++)
                    sums[r][j] = vf_fma(x, w[j], sums[r][j]);
            }
        }
    sums_store(rows, sums, c);
}

#include "kernels/vec_linear.h"

size_t emb_avx512_weight_bytes(emb_precision p, size_t n, size_t k)
{
    return linear_weight_bytes(p, n, k);
}

void emb_avx512_weight_pack(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                            void *packed)
{
    linear_weight_pack(p, n, k, row0, rows, src, packed);
}

size_t emb_avx512_operand_stride(emb_precision p, size_t k)
{
    return emb_operand_row_stride(p, k);
}

void emb_avx512_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride, size_t rows,
                                 void *dst, size_t dst_stride)
{
    linear_operand_from_f32(p, k, src, src_stride, rows, dst, dst_stride);
}

size_t emb_avx512_linear_scratch(size_t max_n, size_t max_k)
{
    return linear_scratch_bytes(max_n, max_k);
}

void emb_avx512_linear(const emb_linear *args, void *scratch)
{
    linear_run(args, scratch);
}
#endif
