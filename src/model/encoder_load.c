/*
 * From tensors in a file to packed weights in memory.
 *
 * Names differ in three ways: a prefix of the saving class ("bert.", "0.auto_model."), the family's own
 * names (a table per family), and LayerNorm's old parameter names gamma and beta. The prefix is the one
 * under which the word embeddings are found.
 *
 * All packed weights lie in one block of memory, aligned and advised for huge pages: fewer TLB misses in
 * the products and fewer page faults here. The block is measured by a first run of the same code that
 * packs (`memory` is NULL in it), so the two cannot disagree. Weights are widened to floats strip by strip
 * and packed from there, so that the peak is packed weights plus a strip; the mapped pages of a packed
 * tensor are given back. Embedding tables stay mapped.
 *
 * Q, K and V become one weight of 3·heads·head_dim rows. Kernels want head_dim to be a multiple of 8; for
 * others (TinyBERT's 26) rows of zeros pad each head, and columns of zeros the output weight, which
 * changes no sum.
 */
#include "base/error.h"
#include "base/file.h"
#include "model/encoder_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { STRIP = 64, BASE_BYTES = 224, NAME_BYTES = 256, HUGE_PAGE = 2 << 20 };

typedef struct names {
    const char *layer;                                                      /* before the layer's number */
    const char *q, *k, *v, *out, *attention_norm, *up, *down, *output_norm; /* after it */
} names;

static const names bert_names = {
    "encoder.layer.",       "attention.self.query",   "attention.self.key",
    "attention.self.value", "attention.output.dense", "attention.output.LayerNorm",
    "intermediate.dense",   "output.dense",           "output.LayerNorm",
};
static const names mpnet_names = {
    "encoder.layer.",      "attention.attn.q",   "attention.attn.k", "attention.attn.v", "attention.attn.o",
    "attention.LayerNorm", "intermediate.dense", "output.dense",     "output.LayerNorm",
};
static const names distilbert_names = {
    "transformer.layer.", "attention.q_lin", "attention.k_lin", "attention.v_lin",   "attention.out_lin",
    "sa_layer_norm",      "ffn.lin1",        "ffn.lin2",        "output_layer_norm",
};

static const names *names_of(emb_architecture architecture)
{
    switch (architecture) {
    case EMB_ARCH_MPNET:
        return &mpnet_names;
    case EMB_ARCH_DISTILBERT:
        return &distilbert_names;
    default:
        return &bert_names;
    }
}

typedef struct loader {
    emb_encoder *e;
    emb_safetensors *tensors; /* those being read: the model's, or a module's */
    const char *directory;
    char prefix[64];
    float *strip;
    emb_error *err;
} loader;

/* ---- finding ------------------------------------------------------------------------------------ */

static emb_status find_prefix(loader *l)
{
    static const char *const outer[] = {"", "0.auto_model.", "auto_model.", "0.model.", "model."};
    static const char *const inner[] = {"", "bert.", "roberta.", "mpnet.", "distilbert.", "xlm_roberta."};
    char name[NAME_BYTES];
    emb_tensor tensor;
    for (size_t i = 0; i < sizeof outer / sizeof *outer; i++)
        for (size_t j = 0; j < sizeof inner / sizeof *inner; j++) {
            snprintf(l->prefix, sizeof l->prefix, "%s%s", outer[i], inner[j]);
            snprintf(name, sizeof name, "%sembeddings.word_embeddings.weight", l->prefix);
            if (emb_safetensors_find(l->tensors, name, &tensor) ||
                emb_safetensors_other_type(l->tensors, name))
                return EMB_OK;
        }
    return emb_fail(l->err, EMB_E_CORRUPT, l->directory,
                    "%s: no tensor \"embeddings.word_embeddings.weight\", under no known prefix",
                    l->directory);
}

static emb_status missing(const loader *l, const char *name, const char *shape)
{
    const char *other = emb_safetensors_other_type(l->tensors, name);
    if (other)
        return emb_fail(l->err, EMB_E_UNSUPPORTED, name,
                        "%s: tensor %s is of type %s; F32, F16, BF16 and scaled I8 are supported",
                        l->directory, name, other);
    return emb_fail(l->err, EMB_E_CORRUPT, name, "%s: tensor %s %s is missing", l->directory, name, shape);
}

/* columns 0: a vector. */
static emb_status find(const loader *l, const char *name, size_t rows, size_t columns, emb_tensor *out)
{
    char shape[64], found[64];
    if (columns)
        snprintf(shape, sizeof shape, "[%zu × %zu]", rows, columns);
    else
        snprintf(shape, sizeof shape, "[%zu]", rows);
    if (!emb_safetensors_find(l->tensors, name, out))
        return missing(l, name, shape);
    if (out->rank == (columns ? 2 : 1) && out->shape[0] == rows && (!columns || out->shape[1] == columns))
        return EMB_OK;
    if (out->rank == 2)
        snprintf(found, sizeof found, "[%zu × %zu]", out->shape[0], out->shape[1]);
    else
        snprintf(found, sizeof found, "of %zu dimensions, %zu elements first", out->rank,
                 out->rank ? out->shape[0] : 0);
    return emb_fail(l->err, EMB_E_CORRUPT, name, "%s: tensor %s is %s, %s is needed", l->directory, name,
                    found, shape);
}

/* ---- memory --------------------------------------------------------------------------------------- */

/* The next piece of the block, or NULL while measuring. */
static void *take(emb_encoder *e, size_t bytes)
{
    void *piece = e->memory ? e->memory + e->memory_used : NULL;
    e->memory_used += (bytes + 63) / 64 * 64;
    return piece;
}

/* A vector at `at` of a taken array (`at` elements in; NULL while measuring). */
static emb_status load_vector(loader *l, const char *name, size_t n, float *dst)
{
    emb_tensor tensor;
    emb_status status = find(l, name, n, 0, &tensor);
    if (!status && dst)
        emb_tensor_rows(&tensor, l->e->kernels, 0, n, dst);
    if (!status && !dst)
        l->e->parameters += n;
    return status;
}

static emb_status load_named_vector(loader *l, const char *base, const char *suffix, size_t n,
                                    const float **out)
{
    char name[NAME_BYTES];
    float *dst = take(l->e, n * sizeof *dst);
    snprintf(name, sizeof name, "%s%s", base, suffix);
    *out = dst;
    return load_vector(l, name, n, dst);
}

static emb_status load_norm(loader *l, const char *base, size_t n, emb_affine *out)
{
    char name[NAME_BYTES];
    emb_tensor tensor;
    emb_status status;
    snprintf(name, sizeof name, "%s.gamma", base);
    bool old = emb_safetensors_find(l->tensors, name, &tensor);
    if ((status = load_named_vector(l, base, old ? ".gamma" : ".weight", n, &out->gamma)))
        return status;
    return load_named_vector(l, base, old ? ".beta" : ".bias", n, &out->beta);
}

/* ---- weights --------------------------------------------------------------------------------------- */

/* The matrix that a packed weight is made of: `parts` tensors one under another, each of `heads` blocks of
 * `block` rows that are padded to `padded` rows; or columns padded the same way. */
typedef struct source {
    emb_tensor parts[3];
    size_t part_count;
    size_t block, padded; /* rows of a head in the tensor and in the weight */
    bool columns;         /* pad columns instead of rows */
} source;

/* Fills one row of the weight. */
static void source_row(const loader *l, const source *s, size_t row, size_t k, float *dst)
{
    const emb_kernels *kernels = l->e->kernels;
    if (s->columns) {
        float *narrow = l->strip + STRIP * k;
        size_t width = s->parts[0].shape[1];
        emb_tensor_rows(&s->parts[0], kernels, row, 1, narrow);
        memset(dst, 0, k * sizeof *dst);
        for (size_t head = 0; head * s->block < width; head++)
            memcpy(dst + head * s->padded, narrow + head * s->block, s->block * sizeof *dst);
        return;
    }
    size_t per_part = s->parts[0].shape[0] / s->block * s->padded;
    size_t part = row / per_part, head = row % per_part / s->padded, in_head = row % s->padded;
    if (in_head < s->block)
        emb_tensor_rows(&s->parts[part], kernels, head * s->block + in_head, 1, dst);
    else
        memset(dst, 0, k * sizeof *dst);
}

static void fill_strip(const loader *l, const source *s, size_t row0, size_t rows, size_t k)
{
    size_t part_rows = s->parts[0].shape[0], row = row0;
    while (row < row0 + rows) {
        float *dst = l->strip + (row - row0) * k;
        size_t some = 1;
        if (s->block == s->padded) {
            size_t left = part_rows - row % part_rows;
            some = row0 + rows - row < left ? row0 + rows - row : left;
            emb_tensor_rows(&s->parts[row / part_rows], l->e->kernels, row % part_rows, some, dst);
        } else {
            source_row(l, s, row, k, dst);
        }
        row += some;
    }
}

static void pack(loader *l, const source *s, emb_weight *w)
{
    for (size_t row = 0; row < w->n; row += STRIP) {
        size_t rows = w->n - row < STRIP ? w->n - row : STRIP;
        fill_strip(l, s, row, rows, w->k);
        l->e->kernels->weight_pack(w->precision, w->n, w->k, row, rows, l->strip, w->data);
    }
    for (size_t i = 0; i < s->part_count; i++)
        emb_safetensors_forget(l->tensors, &s->parts[i]);
}

static void make_weight(loader *l, const source *s, emb_precision precision, size_t n, size_t k,
                        emb_weight *w)
{
    *w = (emb_weight){.precision = precision, .n = n, .k = k};
    w->data = take(l->e, l->e->kernels->weight_bytes(precision, n, k));
    if (w->data)
        pack(l, s, w);
    else
        for (size_t i = 0; i < s->part_count; i++)
            l->e->parameters += s->parts[i].shape[0] * s->parts[i].shape[1];
}

static emb_status load_linear(loader *l, const char *base, size_t n, size_t k, emb_weight *w,
                              const float **bias)
{
    char name[NAME_BYTES];
    source s = {.part_count = 1, .block = 1, .padded = 1};
    emb_status status;
    snprintf(name, sizeof name, "%s.weight", base);
    if ((status = find(l, name, n, k, &s.parts[0])))
        return status;
    make_weight(l, &s, l->e->precision, n, k, w);
    return load_named_vector(l, base, ".bias", n, bias);
}

static emb_status load_qkv(loader *l, const char *const bases[3], emb_layer *layer)
{
    const emb_model_spec *spec = l->e->spec;
    size_t width = l->e->attention_width, real = spec->hidden / spec->heads;
    char name[NAME_BYTES];
    source s = {.part_count = 3, .block = real, .padded = l->e->head_dim};
    emb_status status;
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.weight", bases[i]);
        if ((status = find(l, name, spec->hidden, spec->hidden, &s.parts[i])))
            return status;
    }
    make_weight(l, &s, l->e->precision, 3 * width, spec->hidden, &layer->qkv);
    float *bias = take(l->e, 3 * width * sizeof *bias);
    layer->qkv_bias = bias;
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.bias", bases[i]);
        if ((status = load_vector(l, name, spec->hidden, bias ? l->strip : NULL)))
            return status;
        for (size_t h = 0; bias && h < spec->heads; h++) {
            float *dst = bias + i * width + h * l->e->head_dim;
            memset(dst, 0, l->e->head_dim * sizeof *dst);
            memcpy(dst, l->strip + h * real, real * sizeof *dst);
        }
    }
    return EMB_OK;
}

static emb_status load_out(loader *l, const char *base, emb_layer *layer)
{
    const emb_model_spec *spec = l->e->spec;
    char name[NAME_BYTES];
    source s = {
        .part_count = 1, .block = spec->hidden / spec->heads, .padded = l->e->head_dim, .columns = true};
    emb_status status;
    snprintf(name, sizeof name, "%s.weight", base);
    if ((status = find(l, name, spec->hidden, spec->hidden, &s.parts[0])))
        return status;
    make_weight(l, &s, l->e->precision, spec->hidden, l->e->attention_width, &layer->out);
    return load_named_vector(l, base, ".bias", spec->hidden, &layer->out_bias);
}

static emb_status load_layer(loader *l, const names *n, size_t index, emb_layer *layer)
{
    const emb_model_spec *spec = l->e->spec;
    char base[8][BASE_BYTES];
    const char *const parts[8] = {n->q,  n->k,    n->v,          n->out, n->attention_norm,
                                  n->up, n->down, n->output_norm};
    emb_status status;
    for (int i = 0; i < 8; i++)
        snprintf(base[i], sizeof base[i], "%s%s%zu.%s", l->prefix, n->layer, index, parts[i]);
    const char *const qkv[3] = {base[0], base[1], base[2]};
    if ((status = load_qkv(l, qkv, layer)) || (status = load_out(l, base[3], layer)) ||
        (status = load_norm(l, base[4], spec->hidden, &layer->attention_norm)) ||
        (status = load_linear(l, base[5], spec->intermediate, spec->hidden, &layer->up, &layer->up_bias)) ||
        (status = load_linear(l, base[6], spec->hidden, spec->intermediate, &layer->down, &layer->down_bias)))
        return status;
    return load_norm(l, base[7], spec->hidden, &layer->output_norm);
}

/* ---- embeddings ------------------------------------------------------------------------------------ */

/* The bucket of an offset (key position - query position) as MPNet's and T5's code has it: half of the
 * buckets for each direction; of these half exact, the others logarithmic up to max_distance. */
static size_t relative_bucket(const emb_model_spec *spec, long offset)
{
    size_t buckets = spec->relative_buckets / 2, exact = buckets / 2;
    size_t direction = offset > 0 ? buckets : 0, distance = (size_t)labs(offset);
    if (distance < exact)
        return direction + distance;
    float ratio = logf((float)distance / (float)exact) /
                  (float)log((double)spec->relative_max_distance / (double)exact);
    size_t far = exact + (size_t)(ratio * (float)(buckets - exact));
    return direction + (far < buckets - 1 ? far : buckets - 1);
}

static emb_status load_position_bias(loader *l)
{
    emb_encoder *e = l->e;
    const emb_model_spec *spec = e->spec;
    char name[NAME_BYTES];
    emb_tensor tensor;
    emb_status status;
    long reach = (long)spec->max_tokens - 1;
    snprintf(name, sizeof name, "%sencoder.relative_attention_bias.weight", l->prefix);
    if ((status = find(l, name, spec->relative_buckets, spec->heads, &tensor)))
        return status;
    e->position_bias_stride = (size_t)reach * 2 + 1;
    float *table = take(e, spec->heads * e->position_bias_stride * sizeof *table);
    if (!table) {
        e->parameters += spec->relative_buckets * spec->heads;
        return EMB_OK;
    }
    e->position_bias = table + reach;
    for (long offset = -reach; offset <= reach; offset++) {
        emb_tensor_row(&tensor, e->kernels, relative_bucket(spec, offset), l->strip, false);
        for (size_t h = 0; h < spec->heads; h++)
            table[h * e->position_bias_stride + (size_t)(offset + reach)] = l->strip[h];
    }
    return EMB_OK;
}

static emb_status load_type_row(loader *l)
{
    const emb_model_spec *spec = l->e->spec;
    char name[NAME_BYTES];
    emb_tensor tensor;
    emb_status status;
    snprintf(name, sizeof name, "%sembeddings.token_type_embeddings.weight", l->prefix);
    if ((status = find(l, name, spec->type_rows, spec->hidden, &tensor)))
        return status;
    float *row = take(l->e, spec->hidden * sizeof *row);
    l->e->type_row = row;
    if (row)
        emb_tensor_row(&tensor, l->e->kernels, 0, row, false);
    else
        l->e->parameters += spec->type_rows * spec->hidden;
    return EMB_OK;
}

static emb_status load_embeddings(loader *l)
{
    emb_encoder *e = l->e;
    const emb_model_spec *spec = e->spec;
    char name[NAME_BYTES];
    emb_status status;
    snprintf(name, sizeof name, "%sembeddings.word_embeddings.weight", l->prefix);
    if ((status = find(l, name, spec->vocab_size, spec->hidden, &e->words)))
        return status;
    snprintf(name, sizeof name, "%sembeddings.position_embeddings.weight", l->prefix);
    if ((status = find(l, name, spec->position_rows, spec->hidden, &e->positions)))
        return status;
    if (!e->memory)
        e->parameters += (spec->vocab_size + spec->position_rows) * spec->hidden;
    if (spec->type_rows > 0 && (status = load_type_row(l)))
        return status;
    if (spec->relative_buckets > 0 && (status = load_position_bias(l)))
        return status;
    snprintf(name, sizeof name, "%sembeddings.LayerNorm", l->prefix);
    return load_norm(l, name, spec->hidden, &e->embedding_norm);
}

/* ---- modules ----------------------------------------------------------------------------------------- */

static emb_status load_module_tensors(loader *l, const emb_module *module, emb_dense *dense)
{
    source s = {.part_count = 1, .block = 1, .padded = 1};
    emb_status status;
    if (module->kind == EMB_MODULE_LAYER_NORM)
        return load_norm(l, "norm", module->in_features, &dense->norm);
    if ((status = find(l, "linear.weight", module->out_features, module->in_features, &s.parts[0])))
        return status;
    make_weight(l, &s, EMB_PRECISION_FP32, module->out_features, module->in_features, &dense->weight);
    return module->bias ? load_named_vector(l, "linear", ".bias", module->out_features, &dense->bias)
                        : EMB_OK;
}

static emb_status load_module(loader *l, const emb_module *module, emb_dense *dense)
{
    if (module->kind == EMB_MODULE_NORMALIZE)
        return EMB_OK;
    char *directory = emb_path_join(l->e->spec->directory, module->directory);
    if (!directory)
        return emb_fail_nomem(l->err, "path", 0);
    loader own = *l;
    own.directory = module->directory;
    emb_status status = emb_safetensors_open(directory, "model", &own.tensors, l->err);
    if (!status) {
        status = load_module_tensors(&own, module, dense);
        emb_safetensors_close(own.tensors);
    }
    free(directory);
    return status;
}

/* ---- the whole ---------------------------------------------------------------------------------------- */

static emb_status load_all(loader *l)
{
    emb_encoder *e = l->e;
    const names *n = names_of(e->spec->architecture);
    emb_status status;
    e->memory_used = 0;
    if ((status = load_embeddings(l)))
        return status;
    for (size_t i = 0; i < e->spec->layers; i++)
        if ((status = load_layer(l, n, i, &e->layers[i])))
            return status;
    for (size_t i = 0; i < e->spec->module_count; i++)
        if ((status = load_module(l, &e->spec->modules[i], &e->modules[i])))
            return status;
    return EMB_OK;
}

/* Room for a strip of the widest matrix and, behind it, one unpadded row. */
static size_t strip_floats(const emb_encoder *e)
{
    const emb_model_spec *spec = e->spec;
    size_t widest = spec->hidden > spec->intermediate ? spec->hidden : spec->intermediate;
    if (widest < e->attention_width)
        widest = e->attention_width;
    for (size_t i = 0; i < spec->module_count; i++)
        if (spec->modules[i].in_features > widest)
            widest = spec->modules[i].in_features;
    return (STRIP + 1) * widest;
}

static emb_status allocate(emb_encoder *e, emb_error *err)
{
    size_t alignment = e->memory_used >= HUGE_PAGE ? HUGE_PAGE : 64;
    e->memory_bytes = (e->memory_used + alignment - 1) / alignment * alignment;
    e->memory = aligned_alloc(alignment, e->memory_bytes ? e->memory_bytes : alignment);
    if (!e->memory)
        return emb_fail_nomem(err, "packed weights", e->memory_bytes);
    if (alignment == HUGE_PAGE)
        madvise(e->memory, e->memory_bytes, MADV_HUGEPAGE);
    return EMB_OK;
}

static emb_status load(emb_encoder *e, emb_error *err)
{
    loader l = {.e = e, .tensors = e->tensors, .directory = e->spec->transformer, .err = err};
    emb_status status;
    if ((status = find_prefix(&l)))
        return status;
    l.strip = malloc(strip_floats(e) * sizeof *l.strip);
    if (!l.strip)
        return emb_fail_nomem(err, "strip of weights", strip_floats(e) * sizeof *l.strip);
    status = load_all(&l); /* measures, and checks names and shapes */
    if (!status)
        status = allocate(e, err);
    if (!status)
        status = load_all(&l);
    free(l.strip);
    return status;
}

emb_status emb_encoder_open(const emb_model_spec *spec, const emb_kernels *kernels, emb_precision precision,
                            emb_encoder **out, emb_error *err)
{
    emb_encoder *e = calloc(1, sizeof *e);
    if (!e)
        return emb_fail_nomem(err, "encoder", sizeof *e);
    e->spec = spec;
    e->kernels = kernels;
    e->precision = precision == EMB_PRECISION_AUTO ? kernels->auto_precision : precision;
    e->attention = kernels->attention_precision[e->precision];
    e->head_dim = (spec->hidden / spec->heads + 7) / 8 * 8;
    e->attention_width = spec->heads * e->head_dim;
    e->attention_scale = 1.0f / sqrtf((float)(spec->hidden / spec->heads));
    e->layers = calloc(spec->layers, sizeof *e->layers);
    emb_status status = e->layers ? emb_safetensors_open(spec->transformer, "model", &e->tensors, err)
                                  : emb_fail_nomem(err, "layers", spec->layers * sizeof *e->layers);
    if (!status) {
        uint64_t saved = kernels->thread_begin();
        status = load(e, err);
        kernels->thread_end(saved);
    }
    if (status)
        emb_encoder_close(e);
    else
        *out = e;
    return status;
}

void emb_encoder_close(emb_encoder *e)
{
    if (!e)
        return;
    emb_safetensors_close(e->tensors);
    free(e->layers);
    free(e->memory);
    free(e);
}

emb_precision emb_encoder_precision(const emb_encoder *e)
{
    return e->precision;
}

size_t emb_encoder_parameters(const emb_encoder *e)
{
    return e->parameters;
}

size_t emb_encoder_weight_bytes(const emb_encoder *e)
{
    return e->memory_used;
}
