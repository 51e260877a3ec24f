/*
 * Linear layers on AVX2 and FMA: the template with tiles of 6 rows × 16 outputs, 12 of the 16 registers.
 *
 * int8 multiplies 16-bit integers with vpmaddwd, which is exact; vpmaddubsw would take bytes but saturates.
 * Weights stay bytes in memory and widen on the way in, once for 6 rows. A group of a panel is
 *
 *     16 float scales, 32 × 16 × 2 int8 (two consecutive k of one output together)
 */
#if defined(__x86_64__)
#include "kernels/avx2.h"
#include "kernels/avx2_operand.h"

enum {
    VEC_COLUMNS = 2,
    VEC_ROWS = 6,
    PANEL = VEC_COLUMNS * VW,
    VEC_BLOCK_BYTES = 24 * 1024,
    INT8_HEAD_BYTES = PANEL * sizeof(float),
    INT8_B_BYTES = INT8_HEAD_BYTES + EMB_INT8_GROUP * PANEL
};

#include "kernels/vec_product.h"

/* Without bf16 arithmetic: both sides widen to fp32, where products of bf16 are exact, a chunk at a time on
 * the stack. Widening in the inner loop would need more registers than there are. */
VEC_INLINE void product_bf16(size_t rows, const char *a, const char *a_scales, size_t a_stride, const char *b,
                             size_t steps, float *c, bool first)
{
    enum { CHUNK = 64 };
    float w[CHUNK * PANEL] __attribute__((aligned(64))), x[VEC_ROWS][CHUNK] __attribute__((aligned(64)));
    for (size_t k = 0; k < 2 * steps; k += CHUNK) {
        size_t now = 2 * steps - k < CHUNK ? 2 * steps - k : CHUNK;
        for (size_t i = 0; i < now * PANEL; i += 2 * PANEL, b += PANEL * 2 * sizeof(uint16_t))
            for (size_t j = 0; j < PANEL; j += VW) {
                vi pairs = vi_load(b + j * 2 * sizeof(uint16_t));
                vf_store(w + i + j, vi_floats(vi_shl(pairs, 16)));
                vf_store(w + i + PANEL + j, vi_floats(vi_and(pairs, vi_set((int32_t)0xffff0000))));
            }
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < now; i += VW) {
                const char *from = a + r * a_stride + (k + i) * sizeof(uint16_t);
                vf_store(x[r] + i, now - i >= VW ? vf_from_bf16(from) : vf_from_bf16_n(from, now - i));
            }
        product_f32(rows, (const char *)x, a_scales, sizeof x[0], (const char *)w, now, c, first && !k);
    }
}

static void pack_int8_group(const int8_t *q, float scale, size_t lane, char *group)
{
    int8_t *to = (int8_t *)group + INT8_HEAD_BYTES + lane * 2;
    for (size_t i = 0; i < EMB_INT8_GROUP; i++)
        to[i / 2 * PANEL * 2 + i % 2] = q[i];
    ((float *)group)[lane] = scale;
}

/* c += dots · scales of a group; through memory, so that c does not take registers from the inner loop. */
VEC_INLINE void int8_accumulate(const int32_t *dots, const float *w_scales, float a_scale, float *c)
{
    for (size_t j = 0; j < PANEL; j += VW) {
        vf scaled = vf_mul(vf_from_int(vi_load(dots + j)), vf_load(w_scales + j));
        vf_store(c + j, vf_fma(scaled, vf_set(a_scale), vf_load(c + j)));
    }
}

/* sums += pair · w. In assembly: compilers load all rows' pairs first and run out of registers. */
VEC_INLINE void multiply_add(vi sums[VEC_COLUMNS], const int32_t *pair, const vi w[VEC_COLUMNS])
{
    vi x, y;
    __asm__("vpbroadcastd %4, %2\n\tvpmaddwd %5, %2, %3\n\tvpaddd %3, %0, %0\n\t"
            "vpmaddwd %6, %2, %2\n\tvpaddd %2, %1, %1"
            : "+x"(sums[0]), "+x"(sums[1]), "=&x"(x), "=&x"(y)
            : "m"(*pair), "x"(w[0]), "x"(w[1]));
}

VEC_INLINE void product_int8(size_t rows, const char *a, const char *a_scales, size_t a_stride, const char *b,
                             size_t steps, float *c, bool first)
{
    int32_t dots[VEC_ROWS][PANEL] __attribute__((aligned(32)));
    for (size_t r = 0; r < rows && first; r++)
        for (size_t j = 0; j < PANEL; j += VW)
            vf_store(c + r * TILE + j, vf_zero());
    for (size_t g = 0; g < steps; g++, a += INT8_A_BYTES, a_scales += sizeof(float), b += INT8_B_BYTES) {
        vi sums[VEC_ROWS][VEC_COLUMNS];
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < VEC_COLUMNS; j++)
                sums[r][j] = vi_set(0);
        const char *w_at = b + INT8_HEAD_BYTES;
        for (size_t i = 0; i < EMB_INT8_GROUP; i += 2, w_at += PANEL * 2) {
            vi w[VEC_COLUMNS];
            for (size_t j = 0; j < VEC_COLUMNS; j++)
                w[j] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w_at + j * VW * 2)));
            for (size_t r = 0; r < rows; r++)
                multiply_add(sums[r], (const int32_t *)(a + r * a_stride + i * sizeof(int16_t)), w);
        }
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < VEC_COLUMNS; j++)
                _mm256_store_si256((__m256i *)(dots[r] + j * VW), sums[r][j]);
        __asm__ volatile("" : : "r"(dots) : "memory");
        for (size_t r = 0; r < rows; r++)
            int8_accumulate(dots[r], (const float *)b, *(const float *)(a_scales + r * a_stride),
                            c + r * TILE);
    }
}

#include "kernels/vec_linear.h"

size_t emb_avx2_weight_bytes(emb_precision p, size_t n, size_t k)
{
    return linear_weight_bytes(p, n, k);
}

void emb_avx2_weight_pack(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                          void *packed)
{
    linear_weight_pack(p, n, k, row0, rows, src, packed);
}

size_t emb_avx2_operand_stride(emb_precision p, size_t k)
{
    if (p != EMB_PRECISION_INT8)
        return emb_operand_row_stride(p, k);
    size_t groups = emb_round_up(k, EMB_INT8_GROUP) / EMB_INT8_GROUP;
    size_t bytes = emb_round_up(groups * (INT8_A_BYTES + sizeof(float)), 64);
    return bytes % 4096 ? bytes : bytes + 64;
}

void emb_avx2_operand_from_f32(emb_precision p, size_t k, const float *src, size_t src_stride, size_t rows,
                               void *dst, size_t dst_stride)
{
    linear_operand_from_f32(p, k, src, src_stride, rows, dst, dst_stride);
}

size_t emb_avx2_linear_scratch(size_t max_n, size_t max_k)
{
    return linear_scratch_bytes(max_n, max_k);
}

void emb_avx2_linear(const emb_linear *args, void *scratch)
{
    linear_run(args, scratch);
}
#endif
