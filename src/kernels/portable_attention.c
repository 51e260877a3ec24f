/*
 * Attention in plain C: one query at a time against blocks of keys, with a running softmax.
 *
 * For each block: scores, the largest so far, and if it grew the sums so far are scaled down before the
 * block's weighted values are added. Memory is one block of scores and one head, whatever the length.
 * bf16 rows are read as they are; scores, softmax and sums are fp32.
 *
 * A row of which no score is finite gives NaN, as the formula does.
 */
#include "kernels/layout.h"
#include "kernels/portable.h"

enum { KEYS = 64, MAX_HEAD = 256 };

size_t emb_portable_attention_scratch(size_t max_length, size_t head_dim)
{
    (void)max_length;
    (void)head_dim;
    return 64; /* the block lives on the stack */
}

static void load_head(const emb_attention *args, const void *rows, size_t token, size_t head, float *dst)
{
    const char *row = (const char *)rows + token * args->stride;
    for (size_t i = 0; i < args->head_dim; i++) {
        size_t at = head * args->head_dim + i;
        dst[i] = args->precision == EMB_PRECISION_BF16 ? emb_f32_from_bf16(((const uint16_t *)row)[at])
                                                       : ((const float *)row)[at];
    }
}

static void store_head(const emb_attention *args, size_t token, size_t head, const float *src)
{
    char *row = (char *)args->out + token * args->out_stride;
    for (size_t i = 0; i < args->head_dim; i++) {
        size_t at = head * args->head_dim + i;
        if (args->precision == EMB_PRECISION_BF16)
            ((uint16_t *)row)[at] = emb_bf16_from_f32(src[i]);
        else
            ((float *)row)[at] = src[i];
    }
}

/* Scores of one query against keys begin .. begin+count-1. Returns the largest of them and `max`. */
static float score_block(const emb_attention *args, size_t head, size_t query, const float *q, size_t begin,
                         size_t count, float max, float *scores)
{
    for (size_t j = 0; j < count; j++) {
        float key[MAX_HEAD], sum = 0.0f;
        load_head(args, args->k, begin + j, head, key);
        for (size_t i = 0; i < args->head_dim; i++)
            sum += q[i] * key[i];
        scores[j] = sum * args->scale;
        if (args->bias)
            scores[j] += args->bias[(ptrdiff_t)(head * args->bias_stride + begin + j) - (ptrdiff_t)query];
        max = scores[j] > max ? scores[j] : max;
    }
    return max;
}

static void attend(const emb_attention *args, size_t head, size_t query)
{
    float q[MAX_HEAD], value[MAX_HEAD], out[MAX_HEAD] = {0}, sum = 0.0f, max = -INFINITY;
    load_head(args, args->q, query, head, q);
    for (size_t begin = 0; begin < args->length; begin += KEYS) {
        size_t count = args->length - begin < KEYS ? args->length - begin : KEYS;
        float scores[KEYS];
        float grown = score_block(args, head, query, q, begin, count, max, scores);
        float shrink = max == grown ? 1.0f : expf(max - grown);
        max = grown;
        sum *= shrink;
        for (size_t i = 0; i < args->head_dim; i++)
            out[i] *= shrink;
        for (size_t j = 0; j < count; j++) {
            float p = expf(scores[j] - max);
            sum += p;
            load_head(args, args->v, begin + j, head, value);
            for (size_t i = 0; i < args->head_dim; i++)
                out[i] += p * value[i];
        }
    }
    for (size_t i = 0; i < args->head_dim; i++)
        out[i] /= sum;
    store_head(args, query, head, out);
}

void emb_portable_attention(const emb_attention *args, void *scratch)
{
    (void)scratch;
    for (size_t head = args->head_begin; head < args->head_end; head++)
        for (size_t query = 0; query < args->length; query++)
            attend(args, head, query);
}
