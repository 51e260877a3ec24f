/*
 * Linear layers on AVX-512 with bf16 products: vdpbf16ps adds two products of bf16 to each fp32 sum.
 *
 * On AMD's chips it runs at the rate of fp32's multiply-add and so does twice the work; Intel's run it at
 * half that rate, so there it is not used. The other precisions are those of avx512_linear.c.
 */
#if defined(__x86_64__)
#include "kernels/avx512.h"
#include "kernels/avx512_operand.h"

enum { VEC_COLUMNS = 4, VEC_ROWS = 6, PANEL = VEC_COLUMNS * VW, VEC_BLOCK_BYTES = 32 * 1024 };
#include "kernels/avx512_int8.h"
#include "kernels/vec_product.h"

VEC_INLINE void product_bf16(size_t rows, const char *a, const char *a_scales, size_t a_stride, const char *b,
                             size_t steps, float *c, bool first)
{
    (void)a_scales;
    vf sums[VEC_ROWS][VEC_COLUMNS];
    sums_load(rows, sums, c, first);
    for (size_t i = 0; i < steps; i++, a += 2 * sizeof(uint16_t), b += PANEL * 2 * sizeof(uint16_t)) {
        vi w[VEC_COLUMNS];
        for (size_t j = 0; j < VEC_COLUMNS; j++)
            w[j] = vi_load(b + j * VW * 2 * sizeof(uint16_t));
        for (size_t r = 0; r < rows; r++) {
            vi x = vi_set(*(const int32_t *)(a + r * a_stride));
            for (size_t j = 0; j < VEC_COLUMNS; j++)
                sums[r][j] = _mm512_dpbf16_ps(sums[r][j], (__m512bh)x, (__m512bh)w[j]);
        }
    }
    sums_store(rows, sums, c);
}

#include "kernels/vec_linear.h"

void emb_avx512bf16_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride,
                                     size_t rows, void *dst, size_t dst_stride)
{
    linear_operand_from_f32(p, k, src, src_stride, rows, dst, dst_stride);
}

void emb_avx512bf16_linear(const emb_linear *args, void *scratch)
{
    linear_run(args, scratch);
}
#endif
