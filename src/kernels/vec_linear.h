/*
 * vec_linear.h: linear layers over vector registers, the template of the AVX-512 and AVX2 products.
 *
 *     #include "kernels/vec_avx512.h"
 *     #include "kernels/vec_math.h"
 *     #include "kernels/vec_operand.h"
 *     enum { VEC_COLUMNS = 4, VEC_ROWS = 6, PANEL = 64, VEC_BLOCK_BYTES = 32768 };
 *     #include "kernels/vec_product.h"
 *     … the bf16 and int8 products and the layout of int8 (see below) …
 *     #include "kernels/vec_linear.h"
 *
 * The including file defines, as functions that unroll for a constant number of rows,
 *
 *     product_bf16, product_int8 (rows, a, a_scales, a_stride, b, steps, c, first)
 *
 * c[rows][TILE] (+)= a · b for one panel of VEC_COLUMNS vectors of outputs; product_f32 is there. A step is
 * one k (fp32), two (bf16) or one group of 64 (int8). For int8 it also gives INT8_B_BYTES, the bytes of a
 * group in a panel, and pack_int8_group. It gets linear_weight_pack, linear_run and so on.
 *
 * Blocking. A panel of weights is k × PANEL, k slowest, packed once, and is read in order. A block of it
 * that fills most of L1 (VEC_BLOCK_BYTES) is multiplied with all rows of a chunk before the next block, so
 * that weights come from L2 or L3 once per chunk; a chunk of rows is what stays in L2. Partial sums live
 * in scratch between blocks. The finished tile gets bias, activation, residual and conversion while it is
 * in L1.
 *
 * Invariant: every element is one chain of multiply-adds over ascending k, whatever the blocking, the
 * number of rows in a tile or its place: splitting a chain through memory changes no bit of it.
 *
 * Rejected: transposing the rows into panels; broadcasts read them as they are.
 */
#ifndef EMB_KERNELS_VEC_LINEAR_H
#define EMB_KERNELS_VEC_LINEAR_H

enum {
    CHUNK_ROWS = 256,        /* most rows per chunk: bounds scratch */
    CHUNK_BYTES = 384 * 1024 /* of L2 for the rows of a chunk */
};

typedef void (*product_fn)(const char *a, const char *a_scales, size_t a_stride, const char *b, size_t steps,
                           float *c, bool first);

/* One function per number of rows, so that all sums stay in registers. */
#define PRODUCT_ROWS(name, rows)                                                                   \
    static void name##_##rows(const char *a, const char *a_scales, size_t a_stride, const char *b, \
                              size_t steps, float *c, bool first)                                  \
    {                                                                                              \
        name(rows, a, a_scales, a_stride, b, steps, c, first);                                     \
    }
#define PRODUCTS(name)                                                               \
    PRODUCT_ROWS(name, 1)                                                            \
    PRODUCT_ROWS(name, 2)                                                            \
    PRODUCT_ROWS(name, 3)                                                            \
    PRODUCT_ROWS(name, 4)                                                            \
    PRODUCT_ROWS(name, 5)                                                            \
    PRODUCT_ROWS(name, 6)                                                            \
    static const product_fn name##_rows[] = {NULL,     name##_1, name##_2, name##_3, \
                                             name##_4, name##_5, name##_6};

PRODUCTS(product_f32)
PRODUCTS(product_bf16)
PRODUCTS(product_int8)

/* What one precision means for the loops. */
typedef struct linear_kind {
    size_t step;    /* inputs per step */
    size_t a_bytes; /* of an operand row per step */
    size_t b_bytes; /* of a panel per step */
    const product_fn *product;
} linear_kind;

static linear_kind kind_of(emb_precision p)
{
    switch (p) {
    case EMB_PRECISION_BF16:
        return (linear_kind){2, 2 * sizeof(uint16_t), PANEL * 2 * sizeof(uint16_t), product_bf16_rows};
    case EMB_PRECISION_INT8:
        return (linear_kind){EMB_INT8_GROUP, INT8_A_BYTES, INT8_B_BYTES, product_int8_rows};
    default:
        return (linear_kind){1, sizeof(float), PANEL * sizeof(float), product_f32_rows};
    }
}

static size_t steps_of(const linear_kind *kind, size_t k)
{
    return (k + kind->step - 1) / kind->step;
}

/* ---- packing ---- */

static VEC_UNUSED size_t linear_weight_bytes(emb_precision p, size_t n, size_t k)
{
    linear_kind kind = kind_of(p);
    return emb_round_up(n, TILE) / PANEL * steps_of(&kind, k) * kind.b_bytes;
}

static void pack_f32(const float *src, size_t k, size_t lane, char *panel)
{
    float *to = (float *)panel + lane;
    for (size_t i = 0; i < k; i++)
        to[i * PANEL] = src ? src[i] : 0.0f;
}

static void pack_bf16(const float *src, size_t k, size_t lane, char *panel)
{
    uint16_t *to = (uint16_t *)panel + lane * 2;
    for (size_t i = 0; i < emb_round_up(k, 2); i++)
        to[i / 2 * PANEL * 2 + i % 2] = src && i < k ? emb_bf16_from_f32(src[i]) : 0;
}

/* The integers of one group; returns its scale. */
static float quantise_group(const float *src, size_t count, int8_t *q)
{
    uint32_t max = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t magnitude = emb_float_bits(src[i]) & 0x7fffffff;
        max = magnitude > max ? magnitude : max;
    }
    float inverse, scale = emb_int8_scale(max, &inverse);
    memset(q, 0, EMB_INT8_GROUP);
    for (size_t i = 0; i < count && inverse > 0; i++)
        q[i] = (int8_t)nearbyintf(src[i] * inverse);
    return scale;
}

static void pack_int8(const float *src, size_t k, size_t lane, char *panel)
{
    for (size_t at = 0; at < k; at += EMB_INT8_GROUP, panel += INT8_B_BYTES) {
        int8_t q[EMB_INT8_GROUP] = {0};
        size_t count = k - at < EMB_INT8_GROUP ? k - at : EMB_INT8_GROUP;
        float scale = src ? quantise_group(src + at, count, q) : 0.0f;
        pack_int8_group(q, scale, lane, panel);
    }
}

static VEC_UNUSED void linear_weight_pack(emb_precision p, size_t n, size_t k, size_t row0, size_t rows,
                                          const float *src, void *packed)
{
    linear_kind kind = kind_of(p);
    size_t panel_bytes = steps_of(&kind, k) * kind.b_bytes;
    size_t end = row0 + rows == n ? emb_round_up(n, TILE) : row0 + rows;
    for (size_t row = row0; row < end; row++) {
        const float *from = row < n ? src + (row - row0) * k : NULL;
        char *panel = (char *)packed + row / PANEL * panel_bytes;
        if (p == EMB_PRECISION_BF16)
            pack_bf16(from, k, row % PANEL, panel);
        else if (p == EMB_PRECISION_INT8)
            pack_int8(from, k, row % PANEL, panel);
        else
            pack_f32(from, k, row % PANEL, panel);
    }
}

/* ---- products ---- */

/* Bias, activation, residual and conversion of rows × count sums. */
VEC_INLINE void finish(emb_activation activation, const emb_linear *args, size_t row, size_t rows,
                       size_t begin, size_t count, float *sums)
{
    vf bias[TILE_VECTORS];
    for (size_t c = 0; c < TILE_VECTORS; c++)
        bias[c] = vf_zero();
    if (args->bias)
        load_tile(args->bias + begin, count, bias);
    /* An int8 row waits for its largest element; done apart, the rows' waits overlap. */
    bool int8 = args->out_precision == EMB_PRECISION_INT8;
    for (size_t r = 0; r < rows; r++) {
        vf v[TILE_VECTORS];
        for (size_t c = 0; c < TILE_VECTORS; c++)
            v[c] = vec_activate(activation, vf_add(vf_load(sums + r * TILE + c * VW), bias[c]));
        if (args->residual) {
            vf residual[TILE_VECTORS];
            const char *from = (const char *)args->residual + (row + r) * args->residual_stride;
            load_tile((const float *)from + begin, count, residual);
            for (size_t c = 0; c < TILE_VECTORS; c++)
                v[c] = vf_add(v[c], residual[c]);
        }
        if (count < TILE) /* the columns beyond n: nothing of them may reach a scale or padding */
            for (size_t c = 0; c < TILE_VECTORS; c++)
                v[c] = vec_keep(v[c], count > c * VW ? count - c * VW : 0);
        if (int8)
            for (size_t c = 0; c < TILE_VECTORS; c++)
                vf_store(sums + r * TILE + c * VW, v[c]);
        else
            store_tile(args->out_precision, args->weight->n, begin, count, v,
                       (char *)args->out + (row + r) * args->out_stride);
    }
    for (size_t r = 0; int8 && r < rows; r++) {
        vf v[TILE_VECTORS];
        load_tile(sums + r * TILE, TILE, v);
        store_tile(EMB_PRECISION_INT8, args->weight->n, begin, count, v,
                   (char *)args->out + (row + r) * args->out_stride);
    }
}

static void finish_rows(const emb_linear *args, size_t row, size_t rows, size_t begin, size_t count,
                        float *sums)
{
    switch (args->activation) {
    case EMB_ACT_GELU:
        finish(EMB_ACT_GELU, args, row, rows, begin, count, sums);
        break;
    case EMB_ACT_GELU_TANH:
        finish(EMB_ACT_GELU_TANH, args, row, rows, begin, count, sums);
        break;
    case EMB_ACT_RELU:
        finish(EMB_ACT_RELU, args, row, rows, begin, count, sums);
        break;
    case EMB_ACT_TANH:
        finish(EMB_ACT_TANH, args, row, rows, begin, count, sums);
        break;
    case EMB_ACT_SILU:
        finish(EMB_ACT_SILU, args, row, rows, begin, count, sums);
        break;
    default:
        finish(EMB_ACT_NONE, args, row, rows, begin, count, sums);
        break;
    }
}

static VEC_UNUSED size_t linear_scratch_bytes(size_t max_n, size_t max_k)
{
    (void)max_n;
    (void)max_k;
    return CHUNK_ROWS * TILE * sizeof(float);
}

/* One tile of TILE columns for `rows` rows from row0. */
static void linear_tile(const emb_linear *args, const linear_kind *kind, size_t row0, size_t rows,
                        size_t begin, float *sums)
{
    size_t steps = steps_of(kind, args->weight->k), panel_bytes = steps * kind->b_bytes;
    size_t block = rows <= VEC_ROWS ? steps : VEC_BLOCK_BYTES / (kind->b_bytes * (TILE / PANEL));
    size_t count = args->n_end - begin < TILE ? args->n_end - begin : TILE;
    size_t blocks = (rows + VEC_ROWS - 1) / VEC_ROWS;
    const char *scales = (const char *)args->a + INT8_A_BYTES * steps; /* used by int8 only */
    for (size_t at = 0; at < steps; at += block) {
        size_t now = steps - at < block ? steps - at : block;
        bool last = at + now == steps, single = last && !at;
        for (size_t i = 0, row = 0; i < blocks; i++) {
            size_t height = rows / blocks + (i < rows % blocks);
            float *c = single ? sums : sums + row * TILE;
            size_t skip = (row0 + row) * args->a_stride;
            for (size_t p = 0; p < TILE / PANEL; p++)
                kind->product[height]((const char *)args->a + skip + at * kind->a_bytes,
                                      scales + skip + at * sizeof(float), args->a_stride,
                                      (const char *)args->weight->data + (begin / PANEL + p) * panel_bytes +
                                          at * kind->b_bytes,
                                      now, c + p * PANEL, !at);
            if (last)
                finish_rows(args, row0 + row, height, begin, count, c);
            row += height;
        }
    }
}

static VEC_UNUSED void linear_run(const emb_linear *args, void *scratch)
{
    linear_kind kind = kind_of(args->weight->precision);
    size_t row_bytes = steps_of(&kind, args->weight->k) * kind.a_bytes;
    size_t fit = CHUNK_BYTES / row_bytes, chunk = fit < 48 ? 48 : fit > CHUNK_ROWS ? CHUNK_ROWS : fit;
    size_t chunks = (args->m + chunk - 1) / chunk;
    for (size_t i = 0, row = 0; i < chunks; i++) {
        size_t rows = args->m / chunks + (i < args->m % chunks);
        for (size_t begin = args->n_begin; begin < args->n_end; begin += TILE)
            linear_tile(args, &kind, row, rows, begin, scratch);
        row += rows;
    }
}

#endif
