/*
 * Attention on AVX-512 with bf16 products: vec_attention.h with vdpbf16ps for q·k and for weights·v.
 *
 * Scores, softmax and sums stay fp32; the weights, 0 .. 1, are rounded to bf16 for the product with v.
 */
#if defined(__x86_64__)
#include "kernels/avx512.h"
#define VEC_ATTENTION_BF16 1
#include "kernels/vec_avx512.h"
#include "kernels/vec_math.h"

enum { VEC_COLUMNS = 4, VEC_ROWS = 6 };
#define VEC_MAX_COLUMNS 4
#include "kernels/vec_attention.h"

/* Of both precisions: fp32 rows go the fp32 way. */
size_t emb_avx512bf16_attention_scratch(size_t max_length, size_t head_dim)
{
    size_t bf16 = attention_scratch_bytes(max_length, head_dim);
    size_t fp32 = emb_avx512_attention_scratch(max_length, head_dim);
    return bf16 > fp32 ? bf16 : fp32;
}

void emb_avx512bf16_attention(const emb_attention *args, void *scratch)
{
    if (args->precision == EMB_PRECISION_BF16)
        attend_heads(args, scratch, true);
    else
        emb_avx512_attention(args, scratch);
}
#endif
