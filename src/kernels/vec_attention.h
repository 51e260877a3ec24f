/*
 * vec_attention.h: fused self-attention over vector registers, the template of AVX-512 and AVX2.
 *
 *     #include "kernels/vec_avx512.h"
 *     #include "kernels/vec_math.h"
 *     enum { VEC_COLUMNS = 4, VEC_ROWS = 6 };
 *     #include "kernels/vec_attention.h"
 *     … attention_run(args, scratch) …
 *
 * Per head the keys are transposed and the values copied once into panels, O(length · head_dim). Then
 * GROUPS × VEC_ROWS queries at a time: scores against a block of BLOCK_KEYS keys, into L1; softmax in place,
 * with a running maximum from block to block; the weighted values are added to the sums. No buffer grows
 * with length². A unit is 32 bits of a row: one fp32, or (VEC_ATTENTION_BF16) two bf16 that vdpbf16ps
 * multiplies; without that instruction bf16 rows are widened while they are packed.
 *
 * Exponentials are taken to base 2, with log2 e in the factor of the scores. Keys beyond the end have the
 * score -inf and values of zero.
 *
 * Invariant: a query's result depends on its own row and the keys alone, not on its place in a block.
 */
#ifndef EMB_KERNELS_VEC_ATTENTION_H
#define EMB_KERNELS_VEC_ATTENTION_H

#include "kernels/layout.h"

enum {
    GROUPS = 2,
    BLOCK_QUERIES = GROUPS * VEC_ROWS,
    PANEL_KEYS = VEC_COLUMNS * VW, /* keys that are scored together */
    BLOCK_KEYS = 512,
    SCORE_STRIDE = BLOCK_KEYS + 16, /* rows at a power of two would share a few L1 sets */
    VALUE_KEYS = 64,                /* of values that stay in L1 while all queries of a block pass */
#if defined(VEC_ATTENTION_BF16)
    UNIT_ELEMENTS = 2
#else
    UNIT_ELEMENTS = 1
#endif
};

#if defined(VEC_ATTENTION_BF16)
#define UNIT_DOT(sum, x, w) _mm512_dpbf16_ps(sum, (__m512bh)(x), (__m512bh)(w))
#else
#define UNIT_DOT(sum, x, w) vf_fma(vi_floats(x), vi_floats(w), sum)
#endif

/* Where things lie in scratch, for one head. */
typedef struct attention_plan {
    size_t units;   /* of a query or key */
    size_t columns; /* of a value row, padded to whole vectors */
    size_t key_panels;
    char *keys;    /* key_panels × [units][PANEL_KEYS] units */
    char *values;  /* [keys / UNIT_ELEMENTS][columns] units */
    float *scores; /* [BLOCK_QUERIES][SCORE_STRIDE]; after softmax each row starts with its weights */
    float *sums;   /* [BLOCK_QUERIES][columns] */
    char *queries; /* [BLOCK_QUERIES][units] units */
    float max[BLOCK_QUERIES], total[BLOCK_QUERIES];
} attention_plan;

static char *take(char **at, size_t bytes)
{
    char *here = *at;
    *at += emb_round_up(bytes, 64);
    return here;
}

/* Lays out scratch; returns its size. scratch may be NULL for the size alone. */
static size_t plan_attention(attention_plan *plan, size_t length, size_t head_dim, char *scratch)
{
    char *at = scratch;
    plan->units = head_dim / UNIT_ELEMENTS;
    plan->columns = emb_round_up(head_dim, VW);
    plan->key_panels = (length + PANEL_KEYS - 1) / PANEL_KEYS;
    size_t keys = emb_round_up(length, VALUE_KEYS > PANEL_KEYS ? VALUE_KEYS : PANEL_KEYS);
    plan->keys = take(&at, keys * plan->units * 4);
    plan->values = take(&at, keys / UNIT_ELEMENTS * plan->columns * 4);
    plan->scores = (float *)take(&at, BLOCK_QUERIES * SCORE_STRIDE * sizeof(float));
    plan->sums = (float *)take(&at, BLOCK_QUERIES * plan->columns * sizeof(float));
    plan->queries = take(&at, BLOCK_QUERIES * plan->units * 4);
    return (size_t)(at - scratch);
}

static size_t attention_scratch_bytes(size_t max_length, size_t head_dim)
{
    attention_plan plan;
    static char base[1]; /* an address to count from */
    return plan_attention(&plan, max_length, head_dim, base);
}

/* ---- packing ---- */

/* `count` units of a row from unit `first` on, zeros behind. */
VEC_INLINE vi load_units(bool widen, const char *head, size_t first, size_t count)
{
    if (widen)
        return vf_bits(vf_from_bf16_n(head + first * 2, count));
    return vf_bits(vf_load_n(head + first * 4, count));
}

VEC_INLINE void pack_keys(bool widen, attention_plan *plan, const char *head, size_t stride, size_t length)
{
    for (size_t key = 0; key < length; key += VW) {
        char *panel = plan->keys + key / PANEL_KEYS * plan->units * PANEL_KEYS * 4 + key % PANEL_KEYS * 4;
        for (size_t unit = 0; unit < plan->units; unit += VW) {
            size_t count = plan->units - unit < VW ? plan->units - unit : VW;
            vi rows[VW];
            for (size_t i = 0; i < VW; i++)
                rows[i] =
                    key + i < length ? load_units(widen, head + (key + i) * stride, unit, count) : vi_set(0);
            vec_transpose(rows);
            for (size_t i = 0; i < VW; i++)
                if (i < count)
                    vf_store(panel + (unit + i) * PANEL_KEYS * 4, vi_floats(rows[i]));
        }
    }
}

#if defined(VEC_ATTENTION_BF16)
/* Two keys' values interleaved. */
VEC_INLINE void pack_values(bool widen, attention_plan *plan, const char *head, size_t stride, size_t length,
                            size_t head_dim)
{
    (void)widen;
    for (size_t key = 0; key < emb_round_up(length, VW); key += 2)
        for (size_t column = 0; column < plan->columns; column += VW) {
            size_t count = head_dim - column < VW ? head_dim - column : VW;
            const char *at = head + key * stride + column * 2;
            vi even = key < length ? vf_bits(vf_from_bf16_n(at, count)) : vi_set(0);
            vi odd = key + 1 < length ? vf_bits(vf_from_bf16_n(at + stride, count)) : vi_set(0);
            vi pair = _mm512_or_si512(_mm512_srli_epi32(even, 16), odd);
            vf_store(plan->values + (key / 2 * plan->columns + column) * 4, vi_floats(pair));
        }
}
#else
VEC_INLINE void pack_values(bool widen, attention_plan *plan, const char *head, size_t stride, size_t length,
                            size_t head_dim)
{
    for (size_t key = 0; key < emb_round_up(length, VW); key++)
        for (size_t column = 0; column < plan->columns; column += VW) {
            size_t count = head_dim - column < VW ? head_dim - column : VW;
            vi units = key < length ? load_units(widen, head + key * stride, column, count) : vi_set(0);
            vf_store(plan->values + (key * plan->columns + column) * 4, vi_floats(units));
        }
}
#endif

/* Rows beyond the last query repeat it; nobody reads their result. */
VEC_INLINE void pack_queries(bool widen, attention_plan *plan, const char *head, size_t stride, size_t rows,
                             size_t padded)
{
    for (size_t r = 0; r < padded; r++) {
        const char *row = head + (r < rows ? r : rows - 1) * stride;
        for (size_t unit = 0; unit < plan->units; unit += VW) {
            size_t count = plan->units - unit < VW ? plan->units - unit : VW;
            vf_store_n(plan->queries + (r * plan->units + unit) * 4,
                       vi_floats(load_units(widen, row, unit, count)), count);
        }
    }
}

/* ---- products ---- */

/* c[rows][columns vectors] (+)= a · b: `steps` units of each row of a with rows of b. */
VEC_INLINE void tile(size_t rows, size_t columns, const char *a, size_t a_stride, const char *b,
                     size_t b_stride, size_t steps, float *c, size_t c_stride, bool first)
{
    vf sums[2 * VEC_ROWS][VEC_COLUMNS];
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < columns; j++)
            sums[r][j] = first ? vf_zero() : vf_load(c + r * c_stride + j * VW);
    for (size_t i = 0; i < steps; i++, a += 4, b += b_stride) {
        vi w[VEC_COLUMNS];
        for (size_t j = 0; j < columns; j++)
            w[j] = vi_load(b + j * VW * 4);
        for (size_t r = 0; r < rows; r++) {
            vi x = vi_set(*(const int32_t *)(a + r * a_stride));
            for (size_t j = 0; j < columns; j++)
                sums[r][j] = UNIT_DOT(sums[r][j], x, w[j]);
        }
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < columns; j++)
            vf_store(c + r * c_stride + j * VW, sums[r][j]);
}

/* All groups of a block. Narrow tiles take twice the rows: too few sums would wait for each other. */
static void tiles(size_t groups, size_t columns, const char *a, size_t a_stride, const char *b,
                  size_t b_stride, size_t steps, float *c, size_t c_stride, bool first)
{
    for (size_t g = 0; g < groups; g++, a += VEC_ROWS * a_stride, c += VEC_ROWS * c_stride) {
        switch (columns) {
#if VEC_MAX_COLUMNS > 2
        case 1:
            if (g + 1 < groups) {
                tile(2 * VEC_ROWS, 1, a, a_stride, b, b_stride, steps, c, c_stride, first);
                g++, a += VEC_ROWS * a_stride, c += VEC_ROWS * c_stride;
            } else {
                tile(VEC_ROWS, 1, a, a_stride, b, b_stride, steps, c, c_stride, first);
            }
            break;
        case 2:
            if (g + 1 < groups) {
                tile(2 * VEC_ROWS, 2, a, a_stride, b, b_stride, steps, c, c_stride, first);
                g++, a += VEC_ROWS * a_stride, c += VEC_ROWS * c_stride;
            } else {
                tile(VEC_ROWS, 2, a, a_stride, b, b_stride, steps, c, c_stride, first);
            }
            break;
        case 3:
            tile(VEC_ROWS, 3, a, a_stride, b, b_stride, steps, c, c_stride, first);
            break;
        default:
            tile(VEC_ROWS, 4, a, a_stride, b, b_stride, steps, c, c_stride, first);
            break;
#else
        case 1:
            tile(VEC_ROWS, 1, a, a_stride, b, b_stride, steps, c, c_stride, first);
            break;
        default:
            tile(VEC_ROWS, 2, a, a_stride, b, b_stride, steps, c, c_stride, first);
            break;
#endif
        }
    }
}

/* Scores of the block's queries against keys begin .. begin+count-1. */
static void score_block(const attention_plan *plan, size_t groups, size_t begin, size_t count)
{
    for (size_t key = 0; key < count; key += PANEL_KEYS) {
        const char *panel = plan->keys + (begin + key) / PANEL_KEYS * plan->units * PANEL_KEYS * 4;
        size_t columns = count - key < PANEL_KEYS ? (count - key + VW - 1) / VW : VEC_COLUMNS;
        tiles(groups, columns, plan->queries, plan->units * 4, panel, PANEL_KEYS * 4, plan->units,
              plan->scores + key, SCORE_STRIDE, true);
    }
}

/* Adds the block's weighted values to the sums. count is padded to whole vectors. */
static void add_values(const attention_plan *plan, size_t groups, size_t begin, size_t count)
{
    for (size_t key = 0; key < count; key += VALUE_KEYS) {
        size_t keys = count - key < VALUE_KEYS ? count - key : VALUE_KEYS;
        for (size_t column = 0; column < plan->columns; column += VEC_COLUMNS * VW) {
            size_t columns = (plan->columns - column) / VW;
            const char *b = plan->values + ((begin + key) / UNIT_ELEMENTS * plan->columns + column) * 4;
            tiles(groups, columns < VEC_COLUMNS ? columns : VEC_COLUMNS,
                  (const char *)plan->scores + key * 4 / UNIT_ELEMENTS, SCORE_STRIDE * sizeof(float), b,
                  plan->columns * 4, keys / UNIT_ELEMENTS, plan->sums + column, plan->columns,
                  !begin && !key);
        }
    }
}

/* ---- softmax ---- */

/* Weights `at` and on of a row take the place of its scores, which have been read by then. */
VEC_INLINE void store_weights(float *row, size_t at, vf x)
{
#if defined(VEC_ATTENTION_BF16)
    vf_to_bf16((char *)row + at * 2, x);
#else
    vf_store(row + at, x);
#endif
}

/* The scores of keys beyond `count` become -inf; with a bias all become log2 e · (score · scale + bias). */
VEC_INLINE void prepare_scores(float *scores, size_t count, float scale, const float *bias)
{
    for (size_t at = 0; bias && at < count; at += VW) {
        size_t left = count - at < VW ? count - at : VW;
        vf b = vf_mul(left == VW ? vf_load(bias + at) : vf_load_n(bias + at, left), vf_set(VEC_LOG2E));
        vf_store(scores + at, vf_fma(vf_load(scores + at), vf_set(scale), b));
    }
    for (size_t at = count; at % VW; at++)
        scores[at] = -INFINITY;
}

VEC_INLINE float max_score(const float *scores, size_t count)
{
    vf max = vf_load(scores);
    for (size_t at = VW; at < count; at += VW)
        max = vf_max(max, vf_load(scores + at));
    return vf_max_lane(max);
}

/* The sums so far of row r were for a smaller maximum. */
static void shrink_row(attention_plan *plan, size_t r, float max)
{
    vf shrink = vec_exp2(vf_set(plan->max[r] - max));
    for (size_t c = 0; c < plan->columns; c += VW) {
        float *to = plan->sums + r * plan->columns + c;
        vf_store(to, vf_mul(vf_load(to), shrink));
    }
    float factor;
    vf_store_n(&factor, shrink, 1);
    plan->total[r] *= factor;
}

/* Turns the scores of all rows into weights, and scales sums down where the maximum has grown. Rows go in
 * step: each waits for the maximum and the sum over its own lanes, not for the others. */
VEC_INLINE void softmax_rows(attention_plan *plan, size_t rows, size_t count, float scale,
                             const float *const *bias, bool first)
{
    float max[BLOCK_QUERIES], factor = bias ? 1.0f : scale;
    for (size_t r = 0; r < rows; r++) {
        prepare_scores(plan->scores + r * SCORE_STRIDE, count, scale, bias ? bias[r] : NULL);
        max[r] = max_score(plan->scores + r * SCORE_STRIDE, count);
    }
    for (size_t r = 0; r < rows; r++) {
        max[r] *= factor;
        if (!first && !(max[r] > plan->max[r]))
            max[r] = plan->max[r];
        else if (!first)
            shrink_row(plan, r, max[r]);
        plan->max[r] = max[r];
    }
    for (size_t r = 0; r < rows; r++) {
        float *scores = plan->scores + r * SCORE_STRIDE;
        vf offset = vf_set(-max[r]), total = vf_zero();
        for (size_t at = 0; at < count; at += VW) {
            vf p = vec_exp2_weight(vf_fma(vf_load(scores + at), vf_set(factor), offset));
            total = vf_add(total, p);
            store_weights(scores, at, p);
        }
        plan->total[r] = vf_sum(total) + (first ? 0.0f : plan->total[r]);
    }
}

VEC_INLINE void store_row(const attention_plan *plan, size_t r, bool bf16, size_t head_dim, char *out)
{
    vf inverse = vf_set(1.0f / plan->total[r]);
    for (size_t c = 0; c < head_dim; c += VW) {
        vf x = vf_mul(vf_load(plan->sums + r * plan->columns + c), inverse);
        size_t left = head_dim - c < VW ? head_dim - c : VW;
        if (bf16)
            vf_to_bf16_n(out + c * 2, x, left);
        else
            vf_store_n(out + c * 4, x, left);
    }
}

/* ---- all of it ---- */

VEC_INLINE void attend_block(const emb_attention *args, attention_plan *plan, size_t head, size_t query,
                             size_t rows, bool bf16)
{
    size_t element = bf16 ? 2 : 4, at = head * args->head_dim * element;
    size_t groups = (rows + VEC_ROWS - 1) / VEC_ROWS;
    pack_queries(bf16 && UNIT_ELEMENTS == 1, plan, (const char *)args->q + query * args->stride + at,
                 args->stride, rows, groups * VEC_ROWS);
    for (size_t begin = 0; begin < args->length; begin += BLOCK_KEYS) {
        size_t count = args->length - begin < BLOCK_KEYS ? args->length - begin : BLOCK_KEYS;
        score_block(plan, groups, begin, count);
        const float *bias[BLOCK_QUERIES];
        for (size_t r = 0; args->bias && r < groups * VEC_ROWS; r++)
            bias[r] = args->bias + (ptrdiff_t)(head * args->bias_stride + begin) -
                      (ptrdiff_t)(query + (r < rows ? r : rows - 1));
        softmax_rows(plan, groups * VEC_ROWS, count, args->scale * VEC_LOG2E, args->bias ? bias : NULL,
                     !begin);
        add_values(plan, groups, begin, emb_round_up(count, VW));
    }
    for (size_t r = 0; r < rows; r++)
        store_row(plan, r, bf16, args->head_dim, (char *)args->out + (query + r) * args->out_stride + at);
}

VEC_INLINE void attend_heads(const emb_attention *args, void *scratch, bool bf16)
{
    attention_plan plan;
    plan_attention(&plan, args->length, args->head_dim, scratch);
    size_t element = bf16 ? 2 : 4;
    for (size_t head = args->head_begin; head < args->head_end; head++) {
        size_t at = head * args->head_dim * element;
        pack_keys(bf16 && UNIT_ELEMENTS == 1, &plan, (const char *)args->k + at, args->stride, args->length);
        pack_values(bf16 && UNIT_ELEMENTS == 1, &plan, (const char *)args->v + at, args->stride, args->length,
                    args->head_dim);
        for (size_t query = 0; query < args->length; query += BLOCK_QUERIES) {
            size_t left = args->length - query;
            attend_block(args, &plan, head, query, left < BLOCK_QUERIES ? left : BLOCK_QUERIES, bf16);
        }
    }
}

#endif
