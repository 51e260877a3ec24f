/* Layer norm on AVX-512 with the conversion to bf16 in hardware. */
#if defined(__x86_64__)
#include "kernels/avx512.h"
#include "kernels/avx512_operand.h"
#include "kernels/vec_rows.h"

void emb_avx512bf16_layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                               const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                               void *operand, size_t operand_stride)
{
    rows_layer_norm(rows, n, x, x_stride, gamma, beta, eps, y, y_stride, p, operand, operand_stride);
}
#endif
