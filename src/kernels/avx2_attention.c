/* Attention on AVX2: vec_attention.h on tiles of 6 queries × 16 keys; bf16 rows are widened. */
#if defined(__x86_64__)
#include "kernels/avx2.h"
#include "kernels/vec_avx2.h"
#include "kernels/vec_math.h"

enum { VEC_COLUMNS = 2, VEC_ROWS = 6 };
#define VEC_MAX_COLUMNS 2
#include "kernels/vec_attention.h"

size_t emb_avx2_attention_scratch(size_t max_length, size_t head_dim)
{
    return attention_scratch_bytes(max_length, head_dim);
}

void emb_avx2_attention(const emb_attention *args, void *scratch)
{
    if (args->precision == EMB_PRECISION_BF16)
        attend_heads(args, scratch, true);
    else
        attend_heads(args, scratch, false);
}
#endif
