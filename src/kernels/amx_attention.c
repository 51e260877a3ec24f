/*
 * Attention on AMX tiles, for bf16 rows; fp32 rows go to the AVX-512 table.
 *
 * One head at a time, queries in blocks of 32 (two tiles), keys in blocks of 128, online softmax: no buffer
 * grows with the square of the length. Per head, q, k and v are first copied into tiles (`head_tiles`): keys
 * transposed and values interleaved, as B needs them, widths padded with zeros to a multiple of 32. Then
 * per block of 32 × 128 scores and head width 32:
 *
 *     scores   16 tile products, one per 16 × 16 scores            256 cycles of the matrix unit
 *     softmax  256 vectors of 16 scores, about 12 micro-operations   1,600 cycles of the vector units
 *     values   16 tile products                                    256 cycles of the matrix unit
 *
 * The exponentials are the cost, so the products hide behind them: the scores of the next block (of the
 * next head too) are computed between the rows of this block's softmax, into a second buffer, and the
 * values' products are so few instructions that the next softmax starts while they run.
 * 2^x is one VREDUCEPS, four multiply-adds and one VSCALEFPS: weights become bf16 anyway (2^-9).
 *
 * Invariant: a row of the result depends on its query and on the sequence's keys and values in blocks of 128
 * from the first, never on the other queries of a tile. Rows and keys beyond the length are zeros in the
 * tiles, their scores -∞.
 *
 * Rejected: scores as keys × queries, which makes the maximum a vertical operation but needs v and the
 * result transposed; a bound instead of the maximum, which underflows on peaked rows.
 */
#if defined(__x86_64__)
#include "kernels/amx.h"
#include "kernels/amx_math.h"
#include "kernels/amx_tile.h"
#include "kernels/amx_transpose.h"
#include "kernels/tables.h"
#include <float.h>

enum {
    QUERIES = 32,
    KEYS = 128,
    TILE = 1024,
    MAX_WIDTH = 256,
    SCORE_STRIDE = KEYS * 4 + 64, /* an odd number of cache lines: 16 rows in 16 L1 sets */
    WEIGHT_STRIDE = KEYS * 2 + 64,
    SUM_STRIDE = MAX_WIDTH * 4 + 64
};

typedef struct block_state {
    char scores[2][QUERIES * SCORE_STRIDE];
    char weights[QUERIES * WEIGHT_STRIDE];
    char sums[QUERIES * SUM_STRIDE]; /* of weighted values, before the division */
    float totals[QUERIES][16];       /* of weights, 16 lanes each */
    float max[QUERIES];
} block_state;

/* One head's q, k, v as tiles. */
typedef struct head_tiles {
    char *q, *kv;
} head_tiles;

typedef struct work {
    const emb_attention *args;
    size_t steps; /* of 32 along the head's width, rounded up */
    block_state *state;
    head_tiles tiles[2]; /* of even and odd heads */
} work;

/* Queries query … and keys key … of a head. */
typedef struct item {
    size_t head, query, key;
} item;

static size_t q_bytes(size_t length, size_t steps)
{
    return (length + QUERIES - 1) / QUERIES * steps * 2 * TILE;
}

/* A block of 128 keys: 8 tiles of k per step of width, then 4 × 2 tiles of v per step of width. */
static size_t kv_block_bytes(size_t steps)
{
    return 16 * steps * TILE;
}

static size_t kv_bytes(size_t length, size_t steps)
{
    return (length + KEYS - 1) / KEYS * kv_block_bytes(steps);
}

size_t EMB_AMX(attention_scratch)(size_t max_length, size_t head_dim)
{
    size_t steps = (head_dim + 31) / 32;
    size_t bytes = sizeof(block_state) + 2 * (q_bytes(max_length, steps) + kv_bytes(max_length, steps));
    size_t fp32 = EMB_AMX_FP32.attention_scratch(max_length, head_dim);
    return bytes > fp32 ? emb_amx_round_up(bytes, 64) : fp32;
}

/* 32 columns of a head's row, zeros beyond the head or the sequence. */
static inline __m512i load_columns(const work *w, const void *rows, size_t head, size_t token, size_t step)
{
    const emb_attention *args = w->args;
    if (token >= args->length)
        return _mm512_setzero_si512();
    size_t left = args->head_dim - 32 * step;
    __mmask32 mask = left >= 32 ? 0xffffffffu : (1u << left) - 1;
    const char *row = (const char *)rows + token * args->stride;
    return _mm512_maskz_loadu_epi16(mask, row + 2 * (head * args->head_dim + 32 * step));
}

static void pack_queries(const work *w, size_t head, char *dst)
{
    for (size_t query = 0; query < w->args->length; query += QUERIES)
        for (size_t step = 0; step < w->steps; step++, dst += 2 * TILE)
            for (size_t i = 0; i < QUERIES; i++)
                _mm512_store_si512(dst + 64 * i, load_columns(w, w->args->q, head, query + i, step));
}

/* Tile (t, step): element [p][j] is the pair 2p, 2p+1 of the width, of key 16t + j. */
static void pack_keys(const work *w, size_t head, size_t key, char *dst)
{
    for (size_t t = 0; t < KEYS / 16 && key + 16 * t < w->args->length; t++)
        for (size_t step = 0; step < w->steps; step++) {
            __m512i rows[16];
            for (size_t i = 0; i < 16; i++)
                rows[i] = load_columns(w, w->args->k, head, key + 16 * t + i, step);
            emb_amx_transpose(rows);
            for (size_t i = 0; i < 16; i++)
                _mm512_store_si512(dst + (t * w->steps + step) * TILE + 64 * i, rows[i]);
        }
}

/* Tiles (t, step): element [p][j] is column j (of 16, then the other 16) of keys 32t + 2p and 2p+1. */
static void pack_values(const work *w, size_t head, size_t key, char *dst)
{
    /* Column j of the even row next to column j of the odd row. */
    static const uint16_t order[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    __m512i low = _mm512_loadu_si512(order), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (size_t t = 0; t < KEYS / 32 && key + 32 * t < w->args->length; t++)
        for (size_t step = 0; step < w->steps; step++, dst += 2 * TILE)
            for (size_t p = 0; p < 16; p++) {
                __m512i even = load_columns(w, w->args->v, head, key + 32 * t + 2 * p, step);
                __m512i odd = load_columns(w, w->args->v, head, key + 32 * t + 2 * p + 1, step);
                _mm512_store_si512(dst + 64 * p, _mm512_permutex2var_epi16(even, low, odd));
                _mm512_store_si512(dst + TILE + 64 * p, _mm512_permutex2var_epi16(even, high, odd));
            }
}

static void pack_head(const work *w, size_t head)
{
    const head_tiles *tiles = &w->tiles[head % 2];
    pack_queries(w, head, tiles->q);
    char *dst = tiles->kv;
    for (size_t key = 0; key < w->args->length; key += KEYS, dst += kv_block_bytes(w->steps)) {
        pack_keys(w, head, key, dst);
        pack_values(w, head, key, dst + 8 * w->steps * TILE);
    }
}

static size_t keys_of(const work *w, const item *at)
{
    size_t left = w->args->length - at->key;
    return left < KEYS ? left : KEYS;
}

static const char *kv_of(const work *w, const item *at)
{
    return w->tiles[at->head % 2].kv + at->key / KEYS * kv_block_bytes(w->steps);
}

/* Scores of 32 queries and keys 32·pair … of the block. */
static void score_pair(const work *w, const item *at, size_t pair, char *scores)
{
    if (32 * pair >= keys_of(w, at))
        return;
    /* The second tile may lie beyond the keys; its scores are not used then, but it is in the buffer. */
    const char *k = kv_of(w, at) + 2 * pair * w->steps * TILE;
    const char *q = w->tiles[at->head % 2].q + at->query / QUERIES * w->steps * 2 * TILE;
    emb_tile_zero(0);
    emb_tile_zero(1);
    emb_tile_zero(2);
    emb_tile_zero(3);
    for (size_t step = 0; step < w->steps; step++, q += 2 * TILE, k += TILE) {
        emb_tile_load(4, q, 64);
        emb_tile_load(6, k, 64);
        emb_tile_dp_bf16(0, 4, 6);
        emb_tile_load(5, q + TILE, 64);
        emb_tile_dp_bf16(2, 5, 6);
        emb_tile_load(7, k + w->steps * TILE, 64);
        emb_tile_dp_bf16(1, 4, 7);
        emb_tile_dp_bf16(3, 5, 7);
    }
    scores += 128 * pair;
    emb_tile_store(0, scores, SCORE_STRIDE);
    emb_tile_store(1, scores + 64, SCORE_STRIDE);
    emb_tile_store(2, scores + 16 * SCORE_STRIDE, SCORE_STRIDE);
    emb_tile_store(3, scores + 16 * SCORE_STRIDE + 64, SCORE_STRIDE);
}

enum { PAIRS = KEYS / 32 };

/* Prepares a row for softmax_row: scores in units of log 2 with their bias, if there is one or the scale
 * is not positive; -∞ beyond the keys. Returns the factor that is left to apply. */
static inline float prepare_row(const work *w, const item *at, size_t i, size_t keys, float *row)
{
    const emb_attention *args = w->args;
    const float log2e = 1.44269504f;
    size_t vectors = (keys + 15) / 16;
    __mmask16 valid = keys % 16 ? (__mmask16)((1u << keys % 16) - 1) : 0xffff;
    __m512 none = _mm512_set1_ps(-INFINITY);
    if (!args->bias && args->scale > 0) {
        float *last = row + 16 * (vectors - 1);
        _mm512_store_ps(last, _mm512_mask_mov_ps(none, valid, _mm512_load_ps(last)));
        return args->scale * log2e;
    }
    const float *bias = args->bias;
    if (bias)
        bias += (ptrdiff_t)(at->head * args->bias_stride + at->key) - (ptrdiff_t)(at->query + i);
    for (size_t v = 0; v < vectors; v++) {
        __mmask16 mask = v + 1 < vectors ? 0xffff : valid;
        __m512 x = _mm512_mul_ps(_mm512_load_ps(row + 16 * v), _mm512_set1_ps(args->scale));
        if (bias)
            x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, bias + 16 * v));
        x = _mm512_mul_ps(x, _mm512_set1_ps(log2e));
        _mm512_store_ps(row + 16 * v, _mm512_mask_mov_ps(none, mask, x));
    }
    return 1.0f;
}

/* Turns one row of scores into bf16 weights relative to the largest score so far. */
static inline void softmax_row(const work *w, const item *at, size_t i, const char *scores)
{
    block_state *state = w->state;
    float *row = (float *)(scores + i * SCORE_STRIDE);
    size_t keys = keys_of(w, at), vectors = (keys + 15) / 16;
    float factor = prepare_row(w, at, i, keys, row);
    __m512 max = _mm512_load_ps(row);
    for (size_t v = 1; v < vectors; v++)
        max = _mm512_max_ps(max, _mm512_load_ps(row + 16 * v));
    /* The start is finite, so that a block of -∞ alone has weights of zero and not of NaN. */
    float before = at->key ? state->max[i] : -FLT_MAX;
    float now = _mm512_reduce_max_ps(max) * factor;
    now = now > before ? now : before;
    __m512 shift = _mm512_set1_ps(now), scale = _mm512_set1_ps(factor), total = _mm512_setzero_ps();
    char *weights = state->weights + i * WEIGHT_STRIDE;
    for (size_t v = 0; v < vectors; v += 2) {
        __m512 x = emb_amx_exp2_short(_mm512_fmsub_ps(_mm512_load_ps(row + 16 * v), scale, shift));
        __m512 y = _mm512_setzero_ps();
        if (v + 1 < vectors)
            y = emb_amx_exp2_short(_mm512_fmsub_ps(_mm512_load_ps(row + 16 * v + 16), scale, shift));
        total = _mm512_add_ps(total, _mm512_add_ps(x, y));
        _mm512_store_si512(weights + 32 * v, (__m512i)_mm512_cvtne2ps_pbh(y, x));
    }
    if (at->key) {
        __m512 fade = emb_amx_exp2_short(_mm512_set1_ps(before - now));
        total = _mm512_fmadd_ps(_mm512_load_ps(state->totals[i]), fade, total);
        float *sums = (float *)(state->sums + i * SUM_STRIDE);
        for (size_t d = 0; d < 32 * w->steps && before != now; d += 16)
            _mm512_store_ps(sums + d, _mm512_mul_ps(_mm512_load_ps(sums + d), fade));
    }
    _mm512_store_ps(state->totals[i], total);
    state->max[i] = now;
}

/* sums += weights · values */
static void add_values(const work *w, const item *at)
{
    size_t blocks = (keys_of(w, at) + 31) / 32;
    for (size_t step = 0; step < w->steps; step++) {
        const char *v = kv_of(w, at) + (8 * w->steps + 2 * step) * TILE, *weights = w->state->weights;
        char *sums = w->state->sums + 128 * step;
        if (at->key) {
            emb_tile_load(0, sums, SUM_STRIDE);
            emb_tile_load(1, sums + 64, SUM_STRIDE);
            emb_tile_load(2, sums + 16 * SUM_STRIDE, SUM_STRIDE);
            emb_tile_load(3, sums + 16 * SUM_STRIDE + 64, SUM_STRIDE);
        } else {
            emb_tile_zero(0);
            emb_tile_zero(1);
            emb_tile_zero(2);
            emb_tile_zero(3);
        }
        for (size_t t = 0; t < blocks; t++, v += 2 * w->steps * TILE, weights += 64) {
            emb_tile_load(4, weights, WEIGHT_STRIDE);
            emb_tile_load(6, v, 64);
            emb_tile_dp_bf16(0, 4, 6);
            emb_tile_load(7, v + TILE, 64);
            emb_tile_dp_bf16(1, 4, 7);
            emb_tile_load(5, weights + 16 * WEIGHT_STRIDE, WEIGHT_STRIDE);
            emb_tile_dp_bf16(2, 5, 6);
            emb_tile_dp_bf16(3, 5, 7);
        }
        emb_tile_store(0, sums, SUM_STRIDE);
        emb_tile_store(1, sums + 64, SUM_STRIDE);
        emb_tile_store(2, sums + 16 * SUM_STRIDE, SUM_STRIDE);
        emb_tile_store(3, sums + 16 * SUM_STRIDE + 64, SUM_STRIDE);
    }
}

/* Writes the rows of a query block: sums / totals as bf16. */
static void write_rows(const work *w, const item *at, size_t rows)
{
    const emb_attention *args = w->args;
    for (size_t i = 0; i < rows; i++) {
        float total = _mm512_reduce_add_ps(_mm512_load_ps(w->state->totals[i]));
        __m512 factor = _mm512_set1_ps(1.0f / total);
        const float *sums = (const float *)(w->state->sums + i * SUM_STRIDE);
        char *out = (char *)args->out + (at->query + i) * args->out_stride + 2 * at->head * args->head_dim;
        for (size_t d = 0; d < args->head_dim; d += 32) {
            size_t left = args->head_dim - d;
            __m512 x = _mm512_mul_ps(_mm512_load_ps(sums + d), factor);
            __m512 y = _mm512_mul_ps(_mm512_load_ps(sums + d + 16), factor);
            __mmask32 mask = left >= 32 ? 0xffffffffu : (1u << left) - 1;
            _mm512_mask_storeu_epi16(out + 2 * d, mask, (__m512i)_mm512_cvtne2ps_pbh(y, x));
        }
    }
}

static item item_after(const work *w, item at)
{
    at.key += KEYS;
    if (at.key < w->args->length)
        return at;
    at.key = 0;
    at.query += QUERIES;
    if (at.query < w->args->length)
        return at;
    at.query = 0;
    at.head++;
    return at;
}

static void all_items(const work *w)
{
    const emb_attention *args = w->args;
    item at = {args->head_begin, 0, 0};
    pack_head(w, at.head);
    for (size_t pair = 0; pair < PAIRS; pair++)
        score_pair(w, &at, pair, w->state->scores[0]);
    for (size_t n = 0; at.head < args->head_end; n++) {
        item next = item_after(w, at);
        bool more = next.head < args->head_end;
        if (more && next.head != at.head)
            pack_head(w, next.head);
        size_t rows = args->length - at.query < QUERIES ? args->length - at.query : QUERIES;
        for (size_t pair = 0; pair < PAIRS; pair++) {
            for (size_t i = pair * QUERIES / PAIRS; i < (pair + 1) * QUERIES / PAIRS && i < rows; i++)
                softmax_row(w, &at, i, w->state->scores[n % 2]);
            if (more)
                score_pair(w, &next, pair, w->state->scores[(n + 1) % 2]);
        }
        add_values(w, &at);
        if (next.key == 0)
            write_rows(w, &at, rows);
        at = next;
    }
}

void EMB_AMX(attention)(const emb_attention *args, void *scratch)
{
    if (args->precision == EMB_PRECISION_FP32) {
        EMB_AMX_FP32.attention(args, scratch);
        return;
    }
    if (!args->length || args->head_begin >= args->head_end)
        return;
    work w = {.args = args, .steps = (args->head_dim + 31) / 32, .state = scratch};
    char *at = (char *)scratch + emb_amx_round_up(sizeof(block_state), 64);
    for (size_t i = 0; i < 2; i++) {
        w.tiles[i].q = at;
        at += q_bytes(args->length, w.steps);
        w.tiles[i].kv = at;
        at += kv_bytes(args->length, w.steps);
    }
    all_items(&w);
}
#endif
