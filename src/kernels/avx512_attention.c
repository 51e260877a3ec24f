/* Attention on AVX-512 in fp32: vec_attention.h on tiles of 6 queries × 64 keys; bf16 rows are widened. */
#if defined(__x86_64__)
#include "kernels/avx512.h"
#include "kernels/vec_avx512.h"
#include "kernels/vec_math.h"

enum { VEC_COLUMNS = 4, VEC_ROWS = 6 };
#define VEC_MAX_COLUMNS 4
#include "kernels/vec_attention.h"

size_t emb_avx512_attention_scratch(size_t max_length, size_t head_dim)
{
    return attention_scratch_bytes(max_length, head_dim);
}

void emb_avx512_attention(const emb_attention *args, void *scratch)
{
    if (args->precision == EMB_PRECISION_BF16)
        attend_heads(args, scratch, true);
    else
        attend_heads(args, scratch, false);
}
#endif
