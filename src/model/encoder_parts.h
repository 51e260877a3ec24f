/*
 * encoder_parts.h: what the files of the encoder share; private to src/model.
 *
 *     encoder_load.c   finds tensors by their published names and packs them
 *     workspace.c      lays out the memory of a pass
 *     forward.c        embeddings and layers
 *     pooling.c        from token states to the final vectors
 *
 * Strides are in bytes unless a name says otherwise. An encoder is immutable once open.
 */
#ifndef EMB_MODEL_ENCODER_PARTS_H
#define EMB_MODEL_ENCODER_PARTS_H

#include "model/encoder.h"
#include "model/safetensors.h"

enum {
    EMB_SLOTS = 16,        /* chunks of one step that may run at the same time */
    EMB_POOL_ROWS = 32,    /* pooled vectors that go through the modules at once */
    EMB_GROUP_TOKENS = 512 /* sequences are taken together up to so many tokens */
};

typedef struct emb_affine { /* of a layer norm */
    const float *gamma, *beta;
} emb_affine;

typedef struct emb_layer {
    emb_weight qkv, out, up, down;
    const float *qkv_bias, *out_bias, *up_bias, *down_bias;
    emb_affine attention_norm, output_norm;
} emb_layer;

typedef struct emb_dense {
    emb_weight weight;
    const float *bias;
    emb_affine norm; /* of a LayerNorm module */
} emb_dense;

struct emb_encoder {
    const emb_model_spec *spec;
    const emb_kernels *kernels;
    emb_precision precision, attention; /* of products; of q, k, v and what attention gives */
    size_t head_dim;                    /* spec's, padded to a multiple of 8 */
    size_t attention_width;             /* heads × head_dim */
    float attention_scale;

    emb_safetensors *tensors;
    emb_tensor words, positions; /* mapped, widened row by row */
    const float *type_row;       /* of token type 0, or NULL */
    emb_affine embedding_norm;
    emb_layer *layers;
    emb_dense modules[EMB_MAX_MODULES];
    const float *position_bias;  /* relative bias of head 0 at offset 0, or NULL */
    size_t position_bias_stride; /* floats from head to head */

    char *memory; /* all packed weights, biases and norms */
    size_t memory_bytes, memory_used, parameters;
};

/* Sizes of everything in a workspace; computed once, the same for every workspace of an encoder. */
typedef struct emb_layout {
    size_t tokens;                       /* rows of the token buffers: a group, or the longest text */
    size_t chunk;                        /* rows that go through a layer's products together */
    size_t state, operand, qkv, context; /* strides of the token buffers */
    size_t context_operand, middle, middle_float; /* strides of the buffers of a slot; 0: not needed */
    size_t pooled;                                /* stride of pooled rows */
} emb_layout;

/* The buffers of a pass, all inside workspace->memory. */
typedef struct emb_slot {
    char *context_operand, *middle, *middle_float, *widened, *linear_scratch, *attention_scratch;
} emb_slot;

typedef struct emb_buffers {
    emb_layout layout;
    char *state;   /* fp32 hidden states, the residual stream */
    char *operand; /* the same as operand rows; equals state for FP32 */
    char *qkv, *context;
    char *pooled, *pooled_other; /* EMB_POOL_ROWS rows each */
    emb_slot slots[EMB_SLOTS];
} emb_buffers;

void emb_workspace_buffers(const emb_encoder *encoder, const emb_workspace *workspace, emb_buffers *buffers);

/* Collects pooled vectors of one pass and hands them through the modules. */
typedef struct emb_pooler {
    const emb_encoder *encoder;
    const emb_batch *batch;
    emb_buffers *buffers;
    float *const *out;
    size_t first, pending; /* sequences first .. first+pending-1 are in the buffer */
} emb_pooler;

/* The row of the sequence that pooling takes alone (CLS, LAST), or SIZE_MAX. */
size_t emb_pooling_row(const emb_encoder *encoder, const emb_batch *batch, size_t sequence);
/* Pools sequence i, whose states begin at `rows` (only one row is there if `gathered`). Sequences come in
 * order. */
void emb_pooler_add(emb_pooler *pooler, size_t sequence, const char *rows, bool gathered);
void emb_pooler_flush(emb_pooler *pooler);

#endif
