/*
 * Linear layers on AMX tiles.
 *
 * The unit is a block of 32 columns for 32 rows: four tiles of sums, two of A, two of B (2 × 2). Per step of
 * 64 bytes of k: 4 tile loads (8 cycles each at best, on two load ports) and 4 products (16 cycles each), so
 * the products are the limit: 64 cycles for 32·32·32 multiply-adds, 3.7 TFLOP/s at 3.8 GHz with bf16.
 *
 * - B is packed in reading order and streamed past L1 (TILELOADDT1); A of one row block stays in L1, cut
 *   to 16 steps (32 KiB): with larger k the block's sums wait in L2 (`partial`) for the next chunk of k.
 *   Their 4 loads and 4 stores are about 100 cycles per 16 steps, a tenth.
 * - Columns are taken in chunks of about 512 KiB of weights, each used for all rows before the next, so
 *   that weights come from L3 or memory once. Meanwhile the next chunk is prefetched into L2, a few lines
 *   per step. With one row block every step needs new weights and their stream is the limit: then k is
 *   not cut, weights are read front to back, and the prefetch runs one block (or pair) ahead.
 * - The block's epilogue (amx_finish.c) runs between the tile instructions of the next block. The sums
 *   are handed over through 4 KiB in L1 (`staged`).
 * - At most 16 rows (the end of m, or a short text): one tile of A and two blocks of columns, so that
 *   four independent sums still cover the latency of a product (52 cycles). The tile configuration says
 *   how many rows there are: nothing is read or written beyond m. Switching it costs 46 ns.
 *
 * int8 is the same with groups of EMB_AMX_GROUP = 128 inputs, 2 steps: after each the int32 sums are
 * staged, scaled and added in fp32 during the next group. Next to 128 cycles of products that is 64 vectors:
 * 96 cycles of the vector ports (convert, factor, multiply-add), 96 of the load ports and 128 of the store
 * port with the tiles' own rows. So it just fits; groups of 64 would not, and one scale a row or 256
 * inputs lose accuracy (all-MiniLM-L6-v2, mean cosine to fp32: 0.9993 with 128, 0.9987 with 256).
 *
 * Invariant: a sum takes the same steps of k in the same order in every shape, one TDPBF16PS or TDPBSSD
 * each, and rows do not touch each other inside one. So results do not depend on m, the row, the column
 * range or the thread. Inputs beyond k: bf16 reads none (the last partial step goes through a copy padded
 * with zeros), int8 relies on the zeros that operand_from_f32 writes.
 *
 * Rejected: rows of B in L1 with A streamed (the same traffic, worse for few rows); 1 × 6 tiles (more
 * loads per product); chunks of columns by count rather than by bytes.
 */
#if defined(__x86_64__)
#include "kernels/amx_finish.h"
#include "kernels/amx_tile.h"
#include "kernels/tables.h"

enum {
    STEPS_IN_L1 = 16,
    CHUNK_BYTES = 512 * 1024,
    MAX_CHUNK_BLOCKS = 16, /* where partial sums are kept */
    MIN_CHUNK_BLOCKS = 4,
    BLOCK_FLOATS = 32 * EMB_AMX_COLUMNS,
    GROUP_STEPS = EMB_AMX_GROUP / 64
};

/* How the eight tiles are used. */
typedef enum tile_shape { ROWS32, BLOCKS2, SINGLE } tile_shape;

typedef struct work {
    const emb_linear *args;
    size_t steps, block_bytes;
    const float *column_scales; /* INT8 */
    emb_amx_rows finish;
    emb_amx_job job;
    unsigned job_rate; /* rows per step, in 1/65536 */
    unsigned job_at;   /* where the epilogue should be, in 1/65536 */
    const char *prefetch, *prefetch_end;
    size_t prefetch_lines;   /* per step */
    float *staged, *partial; /* of scratch */
    char *tail;              /* 32 rows × 64 bytes: the last partial step of A */
} work;

typedef struct scratch {
    float staged[BLOCK_FLOATS];
    float partial[MAX_CHUNK_BLOCKS * BLOCK_FLOATS];
    char tail[32 * 64];
} scratch;

size_t EMB_AMX(linear_scratch)(size_t max_n, size_t max_k)
{
    size_t fp32 = EMB_AMX_FP32.linear_scratch(max_n, max_k);
    return fp32 > sizeof(scratch) ? fp32 : sizeof(scratch);
}

static inline __attribute__((always_inline)) void between_products(work *w)
{
    if (w->prefetch < w->prefetch_end) {
        for (size_t i = 0; i < w->prefetch_lines; i++)
            _mm_prefetch(w->prefetch + 64 * i, _MM_HINT_T1);
        w->prefetch += 64 * w->prefetch_lines;
    }
    w->job_at += w->job_rate;
    unsigned rows = w->job_at >> 16;
    emb_amx_job_advance(&w->job, rows < 16 ? rows : 16);
}

#define DP(c, a, b)                    \
    do {                               \
        if (int8)                      \
            emb_tile_dp_int8(c, a, b); \
        else                           \
            emb_tile_dp_bf16(c, a, b); \
    } while (0)

/* Adds `steps` steps of A · B to the sums in tiles 0 to 3. */
static inline __attribute__((always_inline)) void
products(work *w, tile_shape shape, bool int8, const char *a, size_t stride, const char *b, size_t steps)
{
    for (size_t step = 0; step < steps; step++, a += 64, b += EMB_AMX_STEP_BYTES) {
        emb_tile_load(4, a, stride);
        emb_tile_stream(6, b, 64);
        DP(0, 4, 6);
        emb_tile_stream(7, b + 1024, 64);
        DP(1, 4, 7);
        if (shape == ROWS32) {
            emb_tile_load(5, a + 16 * stride, stride);
            DP(2, 5, 6);
            DP(3, 5, 7);
        } else if (shape == BLOCKS2) {
            emb_tile_stream(6, b + w->block_bytes, 64);
            DP(2, 4, 6);
            emb_tile_stream(7, b + w->block_bytes + 1024, 64);
            DP(3, 4, 7);
        }
        between_products(w);
    }
}

#define PRODUCTS(name, shape, int8)                                                                  \
    static __attribute__((noinline)) void name(work *w, const char *a, size_t stride, const char *b, \
                                               size_t steps)                                         \
    {                                                                                                \
        products(w, shape, int8, a, stride, b, steps);                                               \
    }
PRODUCTS(products_rows32_bf16, ROWS32, false)
PRODUCTS(products_blocks2_bf16, BLOCKS2, false)
PRODUCTS(products_single_bf16, SINGLE, false)
PRODUCTS(products_rows32_int8, ROWS32, true)
PRODUCTS(products_blocks2_int8, BLOCKS2, true)
PRODUCTS(products_single_int8, SINGLE, true)

typedef void (*products_function)(work *w, const char *a, size_t stride, const char *b, size_t steps);
static const products_function products_bf16[] = {products_rows32_bf16, products_blocks2_bf16,
                                                  products_single_bf16};
static const products_function products_int8[] = {products_rows32_int8, products_blocks2_int8,
                                                  products_single_int8};

static void zero_sums(tile_shape shape)
{
    emb_tile_zero(0);
    emb_tile_zero(1);
    if (shape == SINGLE)
        return;
    emb_tile_zero(2);
    emb_tile_zero(3);
}

enum { SUMS_STRIDE = EMB_AMX_COLUMNS * sizeof(float), SECOND_PART = 16 * EMB_AMX_COLUMNS };

static void load_sums(tile_shape shape, const float *sums)
{
    emb_tile_load(0, sums, SUMS_STRIDE);
    emb_tile_load(1, sums + 16, SUMS_STRIDE);
    if (shape == SINGLE)
        return;
    emb_tile_load(2, sums + SECOND_PART, SUMS_STRIDE);
    emb_tile_load(3, sums + SECOND_PART + 16, SUMS_STRIDE);
}

static void store_sums(tile_shape shape, float *sums)
{
    emb_tile_store(0, sums, SUMS_STRIDE);
    emb_tile_store(1, sums + 16, SUMS_STRIDE);
    if (shape == SINGLE)
        return;
    emb_tile_store(2, sums + SECOND_PART, SUMS_STRIDE);
    emb_tile_store(3, sums + SECOND_PART + 16, SUMS_STRIDE);
}

/* A block of the result, or with BLOCKS2 two: rows row … row+rows-1. */
typedef struct place {
    tile_shape shape;
    size_t row, rows, block;
} place;

static void fill_part(const work *w, emb_amx_part *part, size_t row, size_t rows, size_t block)
{
    static const float zeros[EMB_AMX_COLUMNS] = {0};
    const emb_linear *args = w->args;
    size_t column = block * EMB_AMX_COLUMNS, element = args->out_precision == EMB_PRECISION_BF16 ? 2 : 4;
    part->rows = rows;
    size_t columns = args->n_end - column;
    part->columns = columns >= 32 ? 0xffffffffu : (1u << columns) - 1;
    /* Behind the last column of the whole layer a bf16 row has zeros, if its stride leaves room. */
    bool pad = args->n_end == args->weight->n && (column + EMB_AMX_COLUMNS) * 2 <= args->out_stride;
    part->stored = pad ? 0xffffffffu : part->columns;
    part->bias = args->bias ? args->bias + column : zeros;
    part->residual = args->residual
                         ? (const char *)args->residual + row * args->residual_stride + column * sizeof(float)
                         : NULL;
    part->out = (char *)args->out + row * args->out_stride + column * element;
}

/* Ends the job before, then makes one of the sums in the tiles. */
static void hand_over(work *w, const place *at, bool last)
{
    emb_amx_job *job = &w->job;
    emb_amx_job_advance(job, 16);
    store_sums(at->shape, w->staged);
    size_t first = at->rows < 16 ? at->rows : 16;
    fill_part(w, &job->part[0], at->row, first, at->block);
    if (at->shape == ROWS32)
        fill_part(w, &job->part[1], at->row + 16, at->rows - 16, at->block);
    else if (at->shape == BLOCKS2)
        fill_part(w, &job->part[1], at->row, first, at->block + 1);
    else
        job->part[1].rows = 0;
    job->last = last;
    job->done = 0;
    w->job_at = 0;
}

/* Scales of group g for the job just made. */
static void add_scales(work *w, const place *at, size_t g)
{
    const emb_linear *args = w->args;
    size_t groups = emb_amx_groups(args->weight->k);
    for (size_t p = 0; p < 2; p++) {
        size_t row = at->row + (at->shape == ROWS32 ? 16 * p : 0);
        size_t block = at->block + (at->shape == BLOCKS2 ? p : 0);
        if (!w->job.part[p].rows)
            continue;
        w->job.part[p].row_scale =
            (const char *)args->a + row * args->a_stride + w->steps * 64 + g * sizeof(float);
        w->job.part[p].column_scale = w->column_scales + (block * groups + g) * EMB_AMX_COLUMNS;
    }
    w->job.add = g > 0;
}

static const char *weights_at(const work *w, const place *at, size_t step)
{
    return (const char *)w->args->weight->data + at->block * w->block_bytes + step * EMB_AMX_STEP_BYTES;
}

/* Steps begin … end-1 of a bf16 block. `partial` keeps its sums between chunks of k. */
static void block_bf16(work *w, const place *at, size_t begin, size_t end, float *partial)
{
    const emb_linear *args = w->args;
    const char *a = (const char *)args->a + at->row * args->a_stride + begin * 64;
    const char *b = weights_at(w, at, begin);
    bool copied = end == w->steps && args->weight->k % 32;
    w->job_rate = (16u << 16) / (unsigned)(end - begin) + 1;
    if (begin)
        load_sums(at->shape, partial);
    else
        zero_sums(at->shape);
    products_bf16[at->shape](w, a, args->a_stride, b, end - begin - copied);
    if (copied)
        products_bf16[at->shape](w, w->tail, 64, weights_at(w, at, end - 1), 1);
    if (end == w->steps)
        hand_over(w, at, true);
    else
        store_sums(at->shape, partial);
}

static void block_int8(work *w, const place *at, size_t begin, size_t end, float *sums)
{
    const emb_linear *args = w->args;
    for (size_t step = begin; step < end; step += GROUP_STEPS) {
        size_t steps = end - step < GROUP_STEPS ? end - step : GROUP_STEPS;
        const char *a = (const char *)args->a + at->row * args->a_stride + step * 64;
        w->job_rate = (16u << 16) / (unsigned)steps + 1;
        zero_sums(at->shape);
        products_int8[at->shape](w, a, args->a_stride, weights_at(w, at, step), steps);
        hand_over(w, at, step + steps == w->steps);
        w->job.sums = sums;
        add_scales(w, at, step / GROUP_STEPS);
    }
}

/* The last, partial step of A as 64 bytes a row with zeros behind. */
static void copy_tail(const work *w, size_t row, size_t rows)
{
    const emb_linear *args = w->args;
    size_t left = args->weight->k % 32;
    __mmask32 mask = (__mmask32)((1u << left) - 1);
    const char *src = (const char *)args->a + row * args->a_stride + (w->steps - 1) * 64;
    for (size_t i = 0; i < rows; i++)
        _mm512_store_si512(w->tail + 64 * i, _mm512_maskz_loadu_epi16(mask, src + i * args->a_stride));
}

/* All columns of blocks begin … end-1 for one block of rows. */
static void row_block(work *w, size_t row, size_t rows, size_t begin, size_t end)
{
    bool int8 = w->args->weight->precision == EMB_PRECISION_INT8;
    size_t chunks = w->args->m > 32 ? (w->steps + STEPS_IN_L1 - 1) / STEPS_IN_L1 : 1;
    size_t chunk = (w->steps + chunks - 1) / chunks;
    if (int8)
        chunk = emb_amx_round_up(chunk, GROUP_STEPS);
    if (!int8 && w->args->weight->k % 32)
        copy_tail(w, row, rows);
    for (size_t step = 0; step < w->steps; step += chunk) {
        size_t step_end = step + chunk < w->steps ? step + chunk : w->steps;
        for (size_t block = begin; block < end;) {
            place at = {rows > 16 ? ROWS32 : end - block > 1 ? BLOCKS2 : SINGLE, row, rows, block};
            /* Without chunks the running sums of int8 need one place only, which stays in L1. */
            float *partial = w->partial + (chunk < w->steps ? (block - begin) * BLOCK_FLOATS : 0);
            if (int8)
                block_int8(w, &at, step, step_end, partial);
            else
                block_bf16(w, &at, step, step_end, partial);
            block += at.shape == BLOCKS2 ? 2 : 1;
        }
    }
}

static size_t chunk_blocks(const work *w)
{
    size_t blocks = CHUNK_BYTES / w->block_bytes;
    if (blocks < MIN_CHUNK_BLOCKS)
        blocks = MIN_CHUNK_BLOCKS;
    if (w->steps > STEPS_IN_L1 && blocks > MAX_CHUNK_BLOCKS)
        blocks = MAX_CHUNK_BLOCKS;
    return blocks & ~(size_t)1;
}

static void all_blocks(work *w)
{
    const emb_linear *args = w->args;
    size_t first = args->n_begin / EMB_AMX_COLUMNS;
    size_t last = (args->n_end + EMB_AMX_COLUMNS - 1) / EMB_AMX_COLUMNS, chunk = chunk_blocks(w);
    size_t row_blocks = (args->m + 31) / 32, rest = args->m % 32;
    emb_tile_config whole = emb_tile_config_of(16, 16);
    emb_tile_config partly = rest > 16 ? emb_tile_config_of(16, rest - 16) : emb_tile_config_of(rest, rest);
    const char *weights = args->weight->data;
    size_t ahead = args->m <= 16 ? 2 : 1; /* blocks, as many as are multiplied together */
    w->prefetch = weights + (first + ahead) * w->block_bytes;
    w->prefetch_end = weights + last * w->block_bytes;
    w->prefetch_lines = row_blocks > 1 ? (EMB_AMX_STEP_BYTES / 64 + row_blocks - 1) / row_blocks
                                       : ahead * EMB_AMX_STEP_BYTES / 64;
    for (size_t begin = first; begin < last; begin += chunk) {
        size_t end = begin + chunk < last ? begin + chunk : last;
        size_t next = end + chunk < last ? end + chunk : last;
        if (row_blocks > 1) {
            w->prefetch = weights + end * w->block_bytes;
            w->prefetch_end = weights + next * w->block_bytes;
        }
        for (size_t row = 0; row + 32 <= args->m; row += 32)
            row_block(w, row, 32, begin, end);
        if (rest) {
            emb_tile_load_config(&partly);
            row_block(w, args->m - rest, rest, begin, end);
            emb_tile_load_config(&whole);
        }
    }
    emb_amx_job_advance(&w->job, 16);
}

/* fp32 products are the other table's; its bf16 rows have no zeros up to a multiple of 32. */
static void linear_f32(const emb_linear *args, void *scratch_memory)
{
    EMB_AMX_FP32.linear(args, scratch_memory);
    size_t n = args->weight->n, end = emb_amx_round_up(n, EMB_AMX_COLUMNS);
    if (args->out_precision != EMB_PRECISION_BF16 || args->n_end != n || 2 * end > args->out_stride)
        return;
    for (size_t i = 0; i < args->m; i++)
        memset((char *)args->out + i * args->out_stride + 2 * n, 0, 2 * (end - n));
}

void EMB_AMX(linear)(const emb_linear *args, void *scratch_memory)
{
    if (args->weight->precision == EMB_PRECISION_FP32) {
        linear_f32(args, scratch_memory);
        return;
    }
    if (!args->m || args->n_begin >= args->n_end || !args->weight->k)
        return;
    scratch *memory = scratch_memory;
    work w;
    memset(&w, 0, sizeof w);
    w.args = args;
    w.steps = emb_amx_steps(args->weight->precision, args->weight->k);
    w.block_bytes = w.steps * EMB_AMX_STEP_BYTES;
    w.column_scales = (const float *)((const char *)args->weight->data +
                                      emb_amx_weight_scales_at(args->weight->n, args->weight->k));
    w.staged = memory->staged;
    w.partial = memory->partial;
    w.tail = memory->tail;
    w.job.done = 16;
    w.job.staged = w.staged;
    w.job.sums = w.staged;
    w.job.scale = args->weight->precision == EMB_PRECISION_INT8;
    w.job.finish = EMB_AMX(finish_function)(args->activation, args->out_precision);
    w.job.out_stride = args->out_stride;
    w.job.residual_stride = args->residual_stride;
    w.job.row_scale_stride = args->a_stride;
    all_blocks(&w);
}
#endif
