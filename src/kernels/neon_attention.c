/*
 * Attention on aarch64, fp32 inside, for fp32 and bf16 rows.
 *
 * One head at a time. Its keys are packed into panels of 8 keys and its values into panels of 8 columns per
 * 64 keys, both fp32: then scores (queries × keys) and weighted values (weights × values) are products of up
 * to 8 rows with panels, and neon_linear.c's fp32 product does them at its full rate. Softmax is online over
 * blocks of 64 keys; nothing grows with the square of the length.
 *
 * Cost per query, key and head of width d: 2·d multiply-adds (d/2 cycles at 4 a cycle) and one exponential,
 * 22 instructions for 4.
 *
 * Invariant: a query meets the keys in blocks of 64 from the first on, whatever other queries share its
 * product.
 */
#if defined(__aarch64__)
#include "kernels/layout.h"
#include "kernels/neon.h"
#include "kernels/neon_math.h"

enum { QUERIES = EMB_NEON_ROWS, KEYS = 64, MAX_HEAD = 256 };

/* Eight queries on their way through the keys. */
typedef struct query_block {
    float q[QUERIES * MAX_HEAD];
    float weights[QUERIES * KEYS];
    float added[QUERIES * MAX_HEAD]; /* weights · values of one block */
    float sums[QUERIES * MAX_HEAD];  /* of all blocks so far */
    float totals[QUERIES], max[QUERIES];
} query_block;

typedef struct work {
    const emb_attention *args;
    size_t head;
    query_block *block;
    float *keys, *values; /* packed, of this head */
} work;

static size_t padded_keys(size_t length)
{
    return emb_round_up(length, KEYS);
}

size_t emb_neon_attention_scratch(size_t max_length, size_t head_dim)
{
    return emb_round_up(sizeof(query_block) + 2 * padded_keys(max_length) * head_dim * sizeof(float), 64);
}

/* The head's columns of one row, as floats. */
static void load_head(const work *w, const void *rows, size_t token, float *dst)
{
    const emb_attention *args = w->args;
    const char *row = (const char *)rows + token * args->stride;
    size_t column = w->head * args->head_dim;
    for (size_t i = 0; i < args->head_dim; i += 4)
        vst1q_f32(dst + i, args->precision == EMB_PRECISION_BF16
                               ? emb_neon_from_bf16(vld1_u16((const uint16_t *)row + column + i))
                               : vld1q_f32((const float *)row + column + i));
}

/* keys: [key/8][d][8]; values: [key/64][d/8][64][8]. Zeros for keys up to a multiple of 64. */
static void pack_head(const work *w)
{
    size_t d = w->args->head_dim;
    for (size_t key = 0; key < padded_keys(w->args->length); key++) {
        float k[MAX_HEAD], v[MAX_HEAD];
        if (key < w->args->length) {
            load_head(w, w->args->k, key, k);
            load_head(w, w->args->v, key, v);
        } else {
            memset(k, 0, d * sizeof *k);
            memset(v, 0, d * sizeof *v);
        }
        float *to = w->keys + key / 8 * d * 8 + key % 8;
        for (size_t i = 0; i < d; i++)
            to[8 * i] = k[i];
        to = w->values + key / KEYS * d * KEYS + key % KEYS * 8;
        for (size_t i = 0; i < d; i += 8)
            memcpy(to + i * KEYS, v + i, 8 * sizeof *v);
    }
}

/* Scores of one query in place: scaled, with bias, -∞ beyond the keys. Returns the largest. */
static float scale_scores(const work *w, size_t query, size_t key, size_t keys, float *row)
{
    static const float zeros[KEYS] = {0};
    const emb_attention *args = w->args;
    const float *bias = zeros;
    if (args->bias)
        bias = args->bias + ((ptrdiff_t)(w->head * args->bias_stride + key) - (ptrdiff_t)query);
    float32x4_t max = vdupq_n_f32(-INFINITY);
    size_t j = 0;
    for (; j + 4 <= keys; j += 4) {
        float32x4_t x = vaddq_f32(vmulq_n_f32(vld1q_f32(row + j), args->scale), vld1q_f32(bias + j));
        vst1q_f32(row + j, x);
        max = vmaxnmq_f32(max, x);
    }
    for (; j < KEYS; j++)
        row[j] = j < keys ? row[j] * args->scale + bias[j] : -INFINITY;
    for (j = keys & ~(size_t)3; j < keys; j++)
        max = vmaxnmq_f32(max, vdupq_n_f32(row[j]));
    return vmaxnmvq_f32(max);
}

/* One query's scores become weights relative to the largest so far; sums so far are scaled to it. */
static void softmax_row(const work *w, size_t query, size_t i, size_t key, size_t keys)
{
    query_block *block = w->block;
    float *row = block->weights + i * KEYS;
    float found = scale_scores(w, query + i, key, keys, row);
    /* The start is finite, so that a block of -∞ alone has weights of zero and not of NaN. */
    float before = key ? block->max[i] : -3.4e38f, now = found > before ? found : before;
    float32x4_t total = vdupq_n_f32(0.0f), shift = vdupq_n_f32(now);
    for (size_t j = 0; j < KEYS; j += 4) {
        float32x4_t x = emb_neon_exp(vsubq_f32(vld1q_f32(row + j), shift));
        total = vaddq_f32(total, x);
        vst1q_f32(row + j, x);
    }
    float fade = vgetq_lane_f32(emb_neon_exp(vdupq_n_f32(before - now)), 0);
    block->totals[i] = (key ? block->totals[i] * fade : 0.0f) + vaddvq_f32(total);
    block->max[i] = now;
    float *sums = block->sums + i * MAX_HEAD;
    for (size_t d = 0; d < w->args->head_dim; d += 4)
        vst1q_f32(sums + d, key ? vmulq_n_f32(vld1q_f32(sums + d), fade) : vdupq_n_f32(0.0f));
}

static void key_block(const work *w, size_t query, size_t rows, size_t key)
{
    query_block *block = w->block;
    size_t d = w->args->head_dim, left = w->args->length - key, keys = left < KEYS ? left : KEYS;
    for (size_t j = 0; j < keys; j += 8)
        emb_neon_product_f32((const char *)block->q, MAX_HEAD * sizeof(float), rows, w->keys + (key + j) * d,
                             d, block->weights + j, KEYS);
    for (size_t i = 0; i < rows; i++)
        softmax_row(w, query, i, key, keys);
    for (size_t j = 0; j < d; j += 8)
        emb_neon_product_f32((const char *)block->weights, KEYS * sizeof(float), rows,
                             w->values + key * d + j * KEYS, keys, block->added + j, MAX_HEAD);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < d; j += 4) {
            float *sums = block->sums + i * MAX_HEAD + j;
            vst1q_f32(sums, vaddq_f32(vld1q_f32(sums), vld1q_f32(block->added + i * MAX_HEAD + j)));
        }
}

static void write_row(const work *w, size_t query, size_t i)
{
    const emb_attention *args = w->args;
    float *sums = w->block->sums + i * MAX_HEAD, factor = 1.0f / w->block->totals[i];
    char *out = (char *)args->out + (query + i) * args->out_stride;
    size_t column = w->head * args->head_dim;
    for (size_t d = 0; d < args->head_dim; d += 4) {
        float32x4_t x = vmulq_n_f32(vld1q_f32(sums + d), factor);
        if (args->precision == EMB_PRECISION_BF16)
            vst1_u16((uint16_t *)out + column + d, emb_neon_to_bf16(x));
        else
            vst1q_f32((float *)out + column + d, x);
    }
}

void emb_neon_attention(const emb_attention *args, void *scratch)
{
    query_block *block = scratch;
    float *keys = (float *)(block + 1);
    work w = {args, 0, block, keys, keys + padded_keys(args->length) * args->head_dim};
    for (w.head = args->head_begin; w.head < args->head_end; w.head++) {
        pack_head(&w);
        for (size_t query = 0; query < args->length; query += QUERIES) {
            size_t rows = args->length - query < QUERIES ? args->length - query : QUERIES;
            for (size_t i = 0; i < rows; i++)
                load_head(&w, args->q, query + i, block->q + i * MAX_HEAD);
            for (size_t key = 0; key < args->length; key += KEYS)
                key_block(&w, query, rows, key);
            for (size_t i = 0; i < rows; i++)
                write_row(&w, query, i);
        }
    }
}
#endif
