/*
 * The memory of a pass: one block, laid out from sizes that depend on the encoder alone.
 *
 *     per token of a group   hidden state (fp32), operand, q|k|v, attention's output
 *     per slot               the middle of the feed-forward for one chunk of rows, kernels' scratch
 *     per pooled row         two vectors of the widest module
 *
 * A group is EMB_GROUP_TOKENS tokens or the longest text the model takes, so that memory does not grow
 * with the batch, and a group's activations stay in the second-level cache. Pages that a pass never
 * touches (slots without a helper, rows beyond the longest text seen) cost address space only.
 *
 * A chunk is as many rows as let the middle of the feed-forward stay in half of the second-level cache.
 * Strides are odd multiples of 64 bytes: rows then spread over all sets of the first-level cache.
 */
#include "base/error.h"
#include "model/encoder_parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_LEAST = 64, CHUNK_MOST = 512, CHUNK_STEP = 32 };

static size_t spread(size_t bytes)
{
    size_t lines = (bytes + 63) / 64;
    return (lines | 1) * 64;
}

static size_t cache_bytes(void)
{
    long bytes = -1;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? (size_t)bytes : (size_t)1 << 20;
}

/* Rows of `precision` and width n that a kernel reads or writes as plain rows. */
static size_t row_stride(const emb_kernels *kernels, emb_precision precision, size_t n)
{
    return precision == EMB_PRECISION_FP32 ? spread(n * sizeof(float))
                                           : kernels->operand_stride(precision, n);
}

static size_t widest_vector(const emb_encoder *e)
{
    size_t widest = e->spec->hidden * e->spec->pooling_count;
    for (size_t i = 0; i < e->spec->module_count; i++)
        if (e->spec->modules[i].out_features > widest)
            widest = e->spec->modules[i].out_features;
    return widest;
}

static emb_layout layout_of(const emb_encoder *e, size_t max_tokens)
{
    const emb_model_spec *spec = e->spec;
    const emb_kernels *k = e->kernels;
    emb_layout l = {0};
    l.tokens = spec->max_tokens > EMB_GROUP_TOKENS ? spec->max_tokens : EMB_GROUP_TOKENS;
    if (l.tokens > max_tokens)
        l.tokens = max_tokens;
    l.state = spread(spec->hidden * sizeof(float));
    if (e->precision != EMB_PRECISION_FP32)
        l.operand = k->operand_stride(e->precision, spec->hidden);
    l.qkv = row_stride(k, e->attention, 3 * e->attention_width);
    l.context = row_stride(k, e->attention, e->attention_width);
    if (e->attention != e->precision)
        l.context_operand = k->operand_stride(e->precision, e->attention_width);
    l.middle = row_stride(k, e->precision, spec->intermediate);
    if (e->precision == EMB_PRECISION_INT8 && !k->emits_int8)
        l.middle_float = spread(spec->intermediate * sizeof(float));
    l.chunk = cache_bytes() / 2 / (l.middle_float ? l.middle_float : l.middle) / CHUNK_STEP * CHUNK_STEP;
    if (l.chunk < CHUNK_LEAST)
        l.chunk = CHUNK_LEAST;
    if (l.chunk > CHUNK_MOST)
        l.chunk = CHUNK_MOST;
    l.pooled = spread(widest_vector(e) * sizeof(float));
    return l;
}

/* The next `rows` rows of the block that starts at memory (NULL while measuring). */
static char *take(char *memory, size_t *used, size_t rows, size_t stride)
{
    char *piece = memory ? memory + *used : NULL;
    *used += (rows * stride + 63) / 64 * 64;
    return rows && stride ? piece : NULL;
}

static size_t place(const emb_encoder *e, char *memory, emb_buffers *b)
{
    const emb_model_spec *spec = e->spec;
    const emb_layout *l = &b->layout;
    size_t used = 0, modules_n = 0, modules_k = 0;
    for (size_t i = 0; i < spec->module_count; i++) {
        modules_n = spec->modules[i].out_features > modules_n ? spec->modules[i].out_features : modules_n;
        modules_k = spec->modules[i].in_features > modules_k ? spec->modules[i].in_features : modules_k;
    }
    size_t n = 3 * e->attention_width > spec->intermediate ? 3 * e->attention_width : spec->intermediate;
    size_t k = e->attention_width > spec->intermediate ? e->attention_width : spec->intermediate;
    k = spec->hidden > k ? spec->hidden : k;
    size_t linear = e->kernels->linear_scratch(n > modules_n ? n : modules_n, k > modules_k ? k : modules_k);
    size_t attention = e->kernels->attention_scratch(spec->max_tokens, e->head_dim);

    b->state = take(memory, &used, l->tokens, l->state);
    b->operand = l->operand ? take(memory, &used, l->tokens, l->operand) : b->state;
    b->qkv = take(memory, &used, l->tokens, l->qkv);
    b->context = take(memory, &used, l->tokens, l->context);
    b->pooled = take(memory, &used, EMB_POOL_ROWS, l->pooled);
    b->pooled_other = take(memory, &used, EMB_POOL_ROWS, l->pooled);
    for (size_t i = 0; i < EMB_SLOTS; i++) {
        emb_slot *s = &b->slots[i];
        s->linear_scratch = take(memory, &used, 1, linear);
        s->attention_scratch = take(memory, &used, 1, attention);
        s->widened = take(memory, &used, 1, e->attention_width * sizeof(float));
        s->middle = take(memory, &used, l->chunk, l->middle);
        s->middle_float = take(memory, &used, l->chunk, l->middle_float);
        s->context_operand = take(memory, &used, l->chunk, l->context_operand);
    }
    return used;
}

void emb_workspace_buffers(const emb_encoder *e, const emb_workspace *workspace, emb_buffers *buffers)
{
    buffers->layout = layout_of(e, workspace->max_tokens);
    place(e, workspace->memory, buffers);
}

/* Attention writes bf16 rows that the next product reads as operands: what pads them must be zero. */
static void clear_padding(const emb_encoder *e, emb_buffers *b)
{
    size_t used = e->attention_width * 2;
    if (e->attention != EMB_PRECISION_BF16 || e->precision != EMB_PRECISION_BF16 || used % 64 == 0)
        return;
    for (size_t i = 0; i < b->layout.tokens; i++)
        memset(b->context + i * b->layout.context + used, 0, b->layout.context - used);
}

emb_status emb_workspace_open(emb_workspace *workspace, const emb_encoder *e, size_t max_tokens,
                              emb_error *err)
{
    emb_buffers buffers;
    *workspace = (emb_workspace){.max_tokens = max_tokens ? max_tokens : 1, .encoder = e};
    buffers.layout = layout_of(e, workspace->max_tokens);
    workspace->bytes = place(e, NULL, &buffers);
    workspace->memory = aligned_alloc(64, workspace->bytes);
    if (!workspace->memory) {
        size_t bytes = workspace->bytes;
        memset(workspace, 0, sizeof *workspace);
        return emb_fail_nomem(err, "workspace of a forward pass", bytes);
    }
    emb_workspace_buffers(e, workspace, &buffers);
    clear_padding(e, &buffers);
    return EMB_OK;
}

void emb_workspace_close(emb_workspace *workspace)
{
    free(workspace->memory);
    memset(workspace, 0, sizeof *workspace);
}
