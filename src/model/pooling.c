/*
 * From token states to the vector that is returned: pooling, the model's modules, the leading dimensions
 * asked for, and normalisation, in the order of sentence-transformers.
 *
 * Pooled vectors are collected up to EMB_POOL_ROWS and go through Dense modules together, so that a
 * module's weights are read once for many texts. Dense runs in fp32 whatever the encoder's precision: it
 * is a ten-thousandth of the work and its rounding would go straight into the result.
 *
 * A prompt that pooling leaves out (include_prompt false) shifts the first row for mean, max and CLS. If
 * nothing is left, mean and max of nothing are the zero vector, and CLS is the first token's.
 */
#include "model/encoder_parts.h"

#include <string.h>

static const emb_pooling *kinds_of(const emb_encoder *e, const emb_batch *batch, size_t *count)
{
    bool own = batch->pooling == EMB_POOLING_MODEL || e->spec->pooling_count > 1;
    *count = own ? e->spec->pooling_count : 1;
    return own ? e->spec->poolings : &batch->pooling;
}

static size_t length_of(const emb_batch *batch, size_t sequence)
{
    return batch->offsets[sequence + 1] - batch->offsets[sequence];
}

static size_t skip_of(const emb_batch *batch, size_t sequence)
{
    return batch->skip ? batch->skip[sequence] : 0;
}

size_t emb_pooling_row(const emb_encoder *e, const emb_batch *batch, size_t sequence)
{
    size_t count, length = length_of(batch, sequence), skip = skip_of(batch, sequence);
    const emb_pooling *kinds = kinds_of(e, batch, &count);
    if (batch->tokens)
        return SIZE_MAX;
    if (count == 1 && kinds[0] == EMB_POOLING_CLS)
        return skip < length ? skip : 0;
    if (count == 1 && kinds[0] == EMB_POOLING_LAST)
        return length - 1;
    return SIZE_MAX;
}

static void pool_one(const emb_pooler *p, emb_pooling kind, size_t sequence, const char *rows, float *dst)
{
    size_t length = length_of(p->batch, sequence), skip = skip_of(p->batch, sequence);
    size_t stride = p->buffers->layout.state, hidden = p->encoder->spec->hidden;
    if (skip >= length) {
        if (kind != EMB_POOLING_CLS && kind != EMB_POOLING_LAST) {
            memset(dst, 0, hidden * sizeof *dst);
            return;
        }
        skip = 0;
    }
    p->encoder->kernels->pool(kind, length - skip, hidden, (const float *)(rows + skip * stride), stride,
                              dst);
}

/* Applies one module to the rows of `from`; returns the buffer that holds the result. */
static char *apply(emb_pooler *p, size_t index, char *from, char *to)
{
    const emb_encoder *e = p->encoder;
    const emb_module *module = &e->spec->modules[index];
    const emb_dense *dense = &e->modules[index];
    size_t stride = p->buffers->layout.pooled;
    switch (module->kind) {
    case EMB_MODULE_DENSE:
        e->kernels->linear(&(emb_linear){.weight = &dense->weight,
                                         .bias = dense->bias,
                                         .a = from,
                                         .a_stride = stride,
                                         .m = p->pending,
                                         .n_end = module->out_features,
                                         .activation = module->activation,
                                         .out_precision = EMB_PRECISION_FP32,
                                         .out = to,
                                         .out_stride = stride},
                           p->buffers->slots[0].linear_scratch);
        return to;
    case EMB_MODULE_LAYER_NORM:
        e->kernels->layer_norm(p->pending, module->in_features, (float *)from, stride, dense->norm.gamma,
                               dense->norm.beta, 1e-5f, (float *)from, stride, EMB_PRECISION_FP32, NULL, 0);
        return from;
    case EMB_MODULE_NORMALIZE:
        for (size_t i = 0; i < p->pending; i++) {
            size_t width =
                index ? e->spec->modules[index - 1].out_features : e->spec->hidden * e->spec->pooling_count;
            e->kernels->normalize((float *)(from + i * stride), width);
        }
        return from;
    }
    return from;
}

void emb_pooler_flush(emb_pooler *p)
{
    const emb_encoder *e = p->encoder;
    char *rows = p->buffers->pooled, *other = p->buffers->pooled_other;
    size_t dimension = e->spec->dimension;
    bool normalize = p->batch->normalize == EMB_DEFAULT ? e->spec->normalize : p->batch->normalize == EMB_ON;
    if (p->batch->dimensions && p->batch->dimensions < dimension)
        dimension = p->batch->dimensions;
    for (size_t i = 0; i < e->spec->module_count; i++) {
        char *result = apply(p, i, rows, other);
        if (result == other) {
            other = rows;
            rows = result;
        }
    }
    for (size_t i = 0; i < p->pending; i++) {
        float *out = p->out[p->first + i];
        memcpy(out, rows + i * p->buffers->layout.pooled, dimension * sizeof *out);
        if (normalize)
            e->kernels->normalize(out, dimension);
    }
    p->first += p->pending;
    p->pending = 0;
}

void emb_pooler_add(emb_pooler *p, size_t sequence, const char *rows, bool gathered)
{
    size_t count, hidden = p->encoder->spec->hidden;
    const emb_pooling *kinds = kinds_of(p->encoder, p->batch, &count);
    float *dst = (float *)(p->buffers->pooled + p->pending * p->buffers->layout.pooled);
    if (gathered)
        memcpy(dst, rows, hidden * sizeof *dst);
    else
        for (size_t i = 0; i < count; i++)
            pool_one(p, kinds[i], sequence, rows, dst + i * hidden);
    if (++p->pending == EMB_POOL_ROWS)
        emb_pooler_flush(p);
}
