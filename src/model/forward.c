/*
 * The forward pass: embeddings, then per layer, in the order of BERT (layer norm after each residual sum):
 *
 *     q|k|v = x Wqkvᵀ + b            one product for the three
 *     c     = attention(q, k, v)     per sequence
 *     x     = norm(x + c Woᵀ + b)
 *     x     = norm(x + act(x Wupᵀ + b) Wdownᵀ + b)
 *
 * Sequences are taken in groups (see workspace.c) that go through all layers one after the other: the
 * activations of a group stay in cache, while the weights, which do not, are read once per chunk of rows
 * in any order of loops. Between two attentions everything works on rows alone, so a chunk of rows goes
 * through output product, feed-forward and the next layer's q|k|v without leaving the cache.
 *
 * The state x is fp32 throughout and is updated in place; `operand` is x in the form that products read
 * (x itself for fp32).
 *
 * With a team there are two ways to share. Many rows: each helper takes a range of rows through the whole
 * chain between two attentions. Few rows: each product is split by columns, which halves the weights that
 * a core must stream, the cost that counts for a short text. Attention is split by (sequence, head).
 * Kernels compute each element of a row alone and always alike, so all ways give the same bits.
 *
 * For CLS and last-token pooling, only one row of each sequence matters after the last attention: these
 * rows are moved together and the rest of the last layer runs on them alone.
 */
#include "base/clock.h"
#include "model/encoder_parts.h"

#include <string.h>

enum {
    ROWS_PER_HELPER = 64, /* with fewer, columns are shared instead of rows */
    ROWS_STEP = 32,
    NORM_ROWS = 16 /* least rows of a layer norm worth sharing */
};

typedef struct pass {
    const emb_encoder *e;
    const emb_kernels *k;
    const emb_batch *batch;
    emb_buffers *b;
    emb_team *team;
    uint64_t *profile, mark;
    size_t first, last; /* sequences of the group */
    size_t tokens;      /* of the group */
} pass;

static void lap(pass *p, emb_forward_step step)
{
    if (p->profile) {
        uint64_t now = emb_now_ns();
        p->profile[step] += now - p->mark;
        p->mark = now;
    }
}

static float *state_row(const pass *p, size_t row)
{
    return (float *)(p->b->state + row * p->b->layout.state);
}

static bool has_operand(const pass *p)
{
    return p->b->layout.operand != 0;
}

/* ---- steps on rows ----------------------------------------------------------------------------- */

static void norm_rows(const pass *p, const emb_affine *norm, size_t row, size_t rows)
{
    const emb_layout *l = &p->b->layout;
    p->k->layer_norm(rows, p->e->spec->hidden, state_row(p, row), l->state, norm->gamma, norm->beta,
                     p->e->spec->layer_norm_eps, state_row(p, row), l->state, p->e->precision,
                     has_operand(p) ? p->b->operand + row * l->operand : NULL, l->operand);
}

/* States of the tokens of one sequence, from `begin` on, in rows that start at row. */
static void embed_sequence(const pass *p, const int32_t *ids, size_t begin, size_t end, size_t row)
{
    const emb_encoder *e = p->e;
    const emb_model_spec *spec = e->spec;
    size_t offset = spec->position_offset, counted = 0;
    for (size_t t = 0; offset && t < begin; t++)
        counted += (size_t)ids[t] != offset - 1;
    for (size_t t = begin; t < end; t++, row++) {
        float *x = state_row(p, row);
        size_t id = (uint32_t)ids[t] < spec->vocab_size ? (uint32_t)ids[t] : 0, position = t;
        if (offset) /* a pad token in the text stays at the pad's position and is not counted */
            position = id == offset - 1 ? offset - 1 : offset + counted++;
        emb_tensor_row(&e->words, p->k, id, x, false);
        if (e->type_row)
            p->k->widen(EMB_DTYPE_F32, e->type_row, NULL, 0, spec->hidden, x, true);
        emb_tensor_row(&e->positions, p->k, position, x, true);
    }
}

static void embed_rows(const pass *p, size_t row, size_t rows)
{
    const emb_batch *batch = p->batch;
    size_t base = batch->offsets[p->first], end = row + rows;
    for (size_t s = p->first; s < p->last; s++) {
        size_t begin_row = batch->offsets[s] - base, end_row = batch->offsets[s + 1] - base;
        size_t from = begin_row > row ? begin_row : row, to = end_row < end ? end_row : end;
        if (from < to)
            embed_sequence(p, batch->ids + batch->offsets[s], from - begin_row, to - begin_row, from);
    }
    norm_rows(p, &p->e->embedding_norm, row, rows);
}

/* What attention gave, as operand rows. */
static const char *context_operand(const pass *p, emb_slot *slot, size_t row, size_t rows, size_t *stride)
{
    const emb_encoder *e = p->e;
    const emb_layout *l = &p->b->layout;
    const char *context = p->b->context + row * l->context;
    if (!l->context_operand) {
        *stride = l->context;
        return context;
    }
    *stride = l->context_operand;
    if (e->attention == EMB_PRECISION_FP32)
        p->k->operand_from_f32(e->precision, e->attention_width, (const float *)context, l->context, rows,
                               slot->context_operand, *stride);
    for (size_t i = 0; e->attention != EMB_PRECISION_FP32 && i < rows; i++) {
        p->k->widen(EMB_DTYPE_BF16, context + i * l->context, NULL, 0, e->attention_width,
                    (float *)slot->widened, false);
        p->k->operand_from_f32(e->precision, e->attention_width, (const float *)slot->widened, 0, 1,
                               slot->context_operand + i * *stride, *stride);
    }
    return slot->context_operand;
}

typedef enum product { QKV, OUT, UP, DOWN } product;

static const emb_weight *weight_of(const emb_layer *layer, product which)
{
    switch (which) {
    case QKV:
        return &layer->qkv;
    case OUT:
        return &layer->out;
    case UP:
        return &layer->up;
    default:
        return &layer->down;
    }
}

/* A product of rows row .. row+rows-1 for some columns. Buffers between products are those of `data`,
 * scratch memory is that of `own`. OUT reads what context_operand prepared in `data`. */
static void multiply(const pass *p, product which, const emb_layer *layer, size_t row, size_t rows,
                     size_t n_begin, size_t n_end, emb_slot *data, emb_slot *own)
{
    const emb_encoder *e = p->e;
    const emb_layout *l = &p->b->layout;
    emb_linear args = {.weight = weight_of(layer, which), .m = rows, .n_begin = n_begin, .n_end = n_end};
    switch (which) {
    case QKV:
    case UP:
        args.a = has_operand(p) ? p->b->operand + row * l->operand : (char *)state_row(p, row);
        args.a_stride = has_operand(p) ? l->operand : l->state;
        break;
    case OUT:
        args.a = l->context_operand ? data->context_operand : p->b->context + row * l->context;
        args.a_stride = l->context_operand ? l->context_operand : l->context;
        break;
    case DOWN:
        args.a = data->middle;
        args.a_stride = l->middle;
        break;
    }
    switch (which) {
    case QKV:
        args.bias = layer->qkv_bias;
        args.out_precision = e->attention;
        args.out = p->b->qkv + row * l->qkv;
        args.out_stride = l->qkv;
        break;
    case UP:
        args.bias = layer->up_bias;
        args.activation = e->spec->activation;
        args.out_precision = data->middle_float ? EMB_PRECISION_FP32 : e->precision;
        args.out = data->middle_float ? data->middle_float : data->middle;
        args.out_stride = data->middle_float ? l->middle_float : l->middle;
        break;
    case OUT:
    case DOWN:
        args.bias = which == OUT ? layer->out_bias : layer->down_bias;
        args.out_precision = EMB_PRECISION_FP32;
        args.out = state_row(p, row);
        args.out_stride = l->state;
        args.residual = state_row(p, row);
        args.residual_stride = l->state;
        break;
    }
    p->k->linear(&args, own->linear_scratch);
}

static void multiply_all(const pass *p, product which, const emb_layer *layer, size_t row, size_t rows,
                         emb_slot *slot)
{
    multiply(p, which, layer, row, rows, 0, weight_of(layer, which)->n, slot, slot);
}

static void middle_to_operand(const pass *p, emb_slot *slot, size_t row, size_t rows)
{
    const emb_layout *l = &p->b->layout;
    if (slot->middle_float)
        p->k->operand_from_f32(p->e->precision, p->e->spec->intermediate,
                               (const float *)(slot->middle_float + row * l->middle_float), l->middle_float,
                               rows, slot->middle + row * l->middle, l->middle);
}

/* Rows of a chunk from attention's output to the layer's end, and through the next layer's q|k|v. */
static void finish_chunk(pass *p, const emb_layer *layer, const emb_layer *next, size_t row, size_t rows,
                         emb_slot *slot)
{
    size_t stride;
    context_operand(p, slot, row, rows, &stride);
    multiply_all(p, OUT, layer, row, rows, slot);
    lap(p, EMB_STEP_ATTENTION_OUT);
    norm_rows(p, &layer->attention_norm, row, rows);
    lap(p, EMB_STEP_LAYER_NORM);
    multiply_all(p, UP, layer, row, rows, slot);
    middle_to_operand(p, slot, 0, rows);
    lap(p, EMB_STEP_UP);
    multiply_all(p, DOWN, layer, row, rows, slot);
    lap(p, EMB_STEP_DOWN);
    norm_rows(p, &layer->output_norm, row, rows);
    lap(p, EMB_STEP_LAYER_NORM);
    if (next) {
        multiply_all(p, QKV, next, row, rows, slot);
        lap(p, EMB_STEP_QKV);
    }
}

static void finish_rows(pass *p, const emb_layer *layer, const emb_layer *next, size_t row, size_t rows,
                        emb_slot *slot)
{
    size_t chunks = (rows + p->b->layout.chunk - 1) / p->b->layout.chunk;
    for (size_t i = 0; i < chunks; i++) { /* of nearly equal size */
        size_t begin = rows * i / chunks, end = rows * (i + 1) / chunks;
        finish_chunk(p, layer, next, row + begin, end - begin, slot);
    }
}

/* ---- attention ----------------------------------------------------------------------------------- */

static void attend(const pass *p, size_t sequence, size_t head_begin, size_t head_end, emb_slot *slot)
{
    const emb_encoder *e = p->e;
    const emb_layout *l = &p->b->layout;
    size_t row = p->batch->offsets[sequence] - p->batch->offsets[p->first];
    size_t column_bytes = e->attention_width * (e->attention == EMB_PRECISION_BF16 ? 2 : 4);
    const char *qkv = p->b->qkv + row * l->qkv;
    p->k->attention(&(emb_attention){.precision = e->attention,
                                     .q = qkv,
                                     .k = qkv + column_bytes,
                                     .v = qkv + 2 * column_bytes,
                                     .stride = l->qkv,
                                     .out = p->b->context + row * l->context,
                                     .out_stride = l->context,
                                     .length = p->batch->offsets[sequence + 1] - p->batch->offsets[sequence],
                                     .head_dim = e->head_dim,
                                     .head_begin = head_begin,
                                     .head_end = head_end,
                                     .scale = e->attention_scale,
                                     .bias = e->position_bias,
                                     .bias_stride = e->position_bias_stride},
                    slot->attention_scratch);
}

/* ---- sharing --------------------------------------------------------------------------------------- */

/* One step of a pass, cut into `parts`. */
typedef struct work {
    pass *p;
    const emb_layer *layer, *next;
    const emb_affine *norm;
    product which;
    size_t row, rows, parts;
} work;

/* Boundary i of `parts` parts of n, on multiples of step. */
static size_t boundary(size_t n, size_t i, size_t parts, size_t step)
{
    size_t at = (n * i / parts + step / 2) / step * step;
    return i == parts || at > n ? n : at;
}

static void attention_part(void *args, size_t part)
{
    const work *w = args;
    const pass *p = w->p;
    size_t heads = p->e->spec->heads, units = (p->last - p->first) * heads;
    size_t unit = units * part / w->parts, end = units * (part + 1) / w->parts;
    while (unit < end) {
        size_t sequence = unit / heads, head = unit % heads;
        size_t some = end - unit < heads - head ? end - unit : heads - head;
        attend(p, p->first + sequence, head, head + some, &p->b->slots[part]);
        unit += some;
    }
}

static void product_part(void *args, size_t part)
{
    const work *w = args;
    const emb_weight *weight = weight_of(w->layer, w->which);
    const emb_kernels *k = w->p->k;
    size_t step = k->column_block > k->int8_group ? k->column_block : k->int8_group;
    size_t begin = boundary(weight->n, part, w->parts, step),
           end = boundary(weight->n, part + 1, w->parts, step);
    if (begin < end)
        multiply(w->p, w->which, w->layer, w->row, w->rows, begin, end, &w->p->b->slots[0],
                 &w->p->b->slots[part]);
}

static void norm_part(void *args, size_t part)
{
    const work *w = args;
    size_t begin = w->rows * part / w->parts, end = w->rows * (part + 1) / w->parts;
    norm_rows(w->p, w->norm, w->row + begin, end - begin);
}

static void middle_part(void *args, size_t part)
{
    const work *w = args;
    size_t begin = w->rows * part / w->parts, end = w->rows * (part + 1) / w->parts;
    middle_to_operand(w->p, &w->p->b->slots[0], begin, end - begin);
}

static void embed_part(void *args, size_t part)
{
    const work *w = args;
    size_t begin = w->rows * part / w->parts, end = w->rows * (part + 1) / w->parts;
    embed_rows(w->p, begin, end - begin);
}

/* A range of rows through the chain between two attentions; layer NULL: only next's q|k|v. */
static void rows_part(void *args, size_t part)
{
    const work *w = args;
    size_t begin = boundary(w->rows, part, w->parts, ROWS_STEP),
           end = boundary(w->rows, part + 1, w->parts, ROWS_STEP);
    emb_slot *slot = &w->p->b->slots[part];
    if (begin >= end)
        return;
    if (w->layer)
        finish_rows(w->p, w->layer, w->next, begin, end - begin, slot);
    else
        multiply_all(w->p, QKV, w->next, begin, end - begin, slot);
}

static size_t helpers_of(const pass *p)
{
    size_t size = emb_team_size(p->team);
    return size < EMB_SLOTS ? size : EMB_SLOTS;
}

static void share(work *w, emb_team_step step, size_t parts)
{
    w->parts = parts ? parts : 1;
    emb_team_run(w->p->team, step, w, w->parts);
}

static void share_columns(work *w, product which, const emb_layer *layer, size_t helpers)
{
    work own = *w;
    const emb_kernels *k = w->p->k;
    own.which = which;
    own.layer = layer;
    /* An int8 operand with one scale a row needs the whole row. */
    bool whole =
        w->p->e->precision == EMB_PRECISION_INT8 && k->emits_int8 && k->int8_group == 0 && which == UP;
    share(&own, product_part, whole ? 1 : helpers);
}

static void share_norm(work *w, const emb_affine *norm, size_t helpers)
{
    work own = *w;
    own.norm = norm;
    share(&own, norm_part, own.rows < NORM_ROWS ? 1 : helpers);
}

/* finish_chunk, each product shared by columns. */
static void finish_by_columns(pass *p, const emb_layer *layer, const emb_layer *next, size_t row, size_t rows,
                              size_t helpers)
{
    work w = {.p = p, .row = row, .rows = rows};
    size_t stride;
    context_operand(p, &p->b->slots[0], row, rows, &stride);
    share_columns(&w, OUT, layer, helpers);
    share_norm(&w, &layer->attention_norm, helpers);
    share_columns(&w, UP, layer, helpers);
    if (p->b->slots[0].middle_float)
        share(&w, middle_part, rows < NORM_ROWS ? 1 : helpers);
    share_columns(&w, DOWN, layer, helpers);
    share_norm(&w, &layer->output_norm, helpers);
    if (next)
        share_columns(&w, QKV, next, helpers);
}

/* From attention's output of `layer` to q|k|v of `next`, on the first `rows` rows; either may be NULL. */
static void between_attentions(pass *p, const emb_layer *layer, const emb_layer *next, size_t rows)
{
    size_t helpers = helpers_of(p), chunk = p->b->layout.chunk;
    work w = {.p = p, .layer = layer, .next = next, .rows = rows};
    if (helpers == 1 || rows >= helpers * ROWS_PER_HELPER) {
        share(&w, rows_part, helpers);
    } else if (layer) {
        for (size_t row = 0; row < rows; row += chunk)
            finish_by_columns(p, layer, next, row, rows - row < chunk ? rows - row : chunk, helpers);
    } else {
        share_columns(&w, QKV, next, helpers);
    }
}

/* ---- the pass ---------------------------------------------------------------------------------------- */

/* Moves the one row of each sequence that pooling takes to the front; returns their number. Sequence i has
 * at least one row, so rows only move forward. */
static size_t gather_rows(pass *p)
{
    const emb_layout *l = &p->b->layout;
    size_t base = p->batch->offsets[p->first];
    for (size_t s = p->first, to = 0; s < p->last; s++, to++) {
        size_t from = p->batch->offsets[s] - base + emb_pooling_row(p->e, p->batch, s);
        if (from == to)
            continue;
        memcpy(state_row(p, to), state_row(p, from), p->e->spec->hidden * sizeof(float));
        memcpy(p->b->context + to * l->context, p->b->context + from * l->context, l->context);
    }
    return p->last - p->first;
}

/* The states of a sequence, which begin at `row`, without the padding of rows. */
static void copy_states(const pass *p, size_t sequence, size_t row, float *out)
{
    size_t hidden = p->e->spec->hidden,
           end = row + p->batch->offsets[sequence + 1] - p->batch->offsets[sequence];
    for (; row < end; row++, out += hidden)
        memcpy(out, state_row(p, row), hidden * sizeof *out);
}

static void run_group(pass *p, emb_pooler *pooler)
{
    const emb_encoder *e = p->e;
    size_t layers = e->spec->layers, rows = p->tokens, base = p->batch->offsets[p->first];
    bool gathered = emb_pooling_row(e, p->batch, p->first) != SIZE_MAX;
    work w = {.p = p, .rows = rows};
    share(&w, embed_part, rows < NORM_ROWS ? 1 : helpers_of(p));
    lap(p, EMB_STEP_EMBEDDINGS);
    between_attentions(p, NULL, &e->layers[0], rows);
    lap(p, EMB_STEP_QKV);
    for (size_t i = 0; i < layers; i++) {
        bool last = i + 1 == layers;
        share(&w, attention_part, helpers_of(p));
        if (last && gathered)
            rows = gather_rows(p);
        lap(p, EMB_STEP_ATTENTION);
        between_attentions(p, &e->layers[i], last ? NULL : &e->layers[i + 1], rows);
    }
    for (size_t s = p->first; s < p->last && p->batch->tokens; s++)
        copy_states(p, s, p->batch->offsets[s] - base, pooler->out[s]);
    for (size_t s = p->first; s < p->last && !p->batch->tokens; s++)
        emb_pooler_add(pooler, s, (char *)state_row(p, gathered ? s - p->first : p->batch->offsets[s] - base),
                       gathered);
    lap(p, EMB_STEP_POOLING);
}

void emb_encoder_forward(const emb_encoder *encoder, emb_workspace *workspace, const emb_batch *batch,
                         emb_team *team, float *const *out)
{
    emb_buffers buffers;
    emb_workspace_buffers(encoder, workspace, &buffers);
    pass p = {.e = encoder, .k = encoder->kernels, .batch = batch, .b = &buffers, .team = team};
    emb_pooler pooler = {.encoder = encoder, .batch = batch, .buffers = &buffers, .out = out};
    size_t most = buffers.layout.tokens < EMB_GROUP_TOKENS ? buffers.layout.tokens : EMB_GROUP_TOKENS;
    p.profile = team ? NULL : workspace->profile;
    p.mark = p.profile ? emb_now_ns() : 0;
    while (p.last < batch->count) {
        p.first = p.last++;
        while (p.last < batch->count && batch->offsets[p.last + 1] - batch->offsets[p.first] <= most)
            p.last++;
        p.tokens = batch->offsets[p.last] - batch->offsets[p.first];
        run_group(&p, &pooler);
    }
    emb_pooler_flush(&pooler);
    lap(&p, EMB_STEP_POOLING);
}
