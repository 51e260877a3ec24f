/*
 * encoder.h: the forward pass: token ids to pooled vectors.
 *
 *     emb_encoder *e; emb_workspace w;
 *     if ((st = emb_encoder_open(&spec, kernels, EMB_PRECISION_AUTO, &e, err))) return st;
 *     if ((st = emb_workspace_open(&w, e, 4096, err))) …
 *     emb_encoder_forward(e, &w, &batch, NULL, out);
 *     emb_workspace_close(&w); emb_encoder_close(e);
 *
 * A batch is the concatenation of its sequences: no padding anywhere. The encoder is immutable and
 * shared; a workspace belongs to one forward pass at a time and holds all scratch memory, so that the
 * pass allocates nothing and cannot fail. A batch is computed in groups of whole sequences of a few
 * hundred tokens, so memory is that of one group, or of the longest sequence, and max_tokens only bounds
 * it. The calling thread must have called kernels->thread_begin.
 *
 * With a team (base/team.h) the steps of a pass are shared with its helpers; the result is bit-identical
 * to that without.
 */
#ifndef EMB_MODEL_ENCODER_H
#define EMB_MODEL_ENCODER_H

#include "base/team.h"
#include "model/spec.h"

typedef struct emb_encoder emb_encoder;

/* Packs the weights of spec->directory for `kernels`. spec must outlive the encoder. precision AUTO is
 * resolved by the table. Missing or misshapen tensors: EMB_E_CORRUPT with name, found and needed shape. */
EMB_MUST_CHECK emb_status emb_encoder_open(const emb_model_spec *spec, const emb_kernels *kernels,
                                           emb_precision precision, emb_encoder **out, emb_error *err);
void emb_encoder_close(emb_encoder *encoder);
emb_precision emb_encoder_precision(const emb_encoder *encoder);
size_t emb_encoder_parameters(const emb_encoder *encoder);
size_t emb_encoder_weight_bytes(const emb_encoder *encoder); /* packed, in memory */

/* Where the time of a pass goes. */
typedef enum emb_forward_step {
    EMB_STEP_EMBEDDINGS,
    EMB_STEP_QKV,
    EMB_STEP_ATTENTION,
    EMB_STEP_ATTENTION_OUT, /* with the conversion of what attention gave */
    EMB_STEP_LAYER_NORM,
    EMB_STEP_UP,
    EMB_STEP_DOWN,
    EMB_STEP_POOLING, /* with everything after it */
    EMB_STEP_COUNT
} emb_forward_step;

typedef struct emb_workspace {
    void *memory;
    size_t bytes, max_tokens;
    const emb_encoder *encoder;
    uint64_t *profile; /* NULL, or EMB_STEP_COUNT sums of nanoseconds to add to (passes without a team) */
} emb_workspace;

EMB_MUST_CHECK emb_status emb_workspace_open(emb_workspace *workspace, const emb_encoder *encoder,
                                             size_t max_tokens, emb_error *err);
void emb_workspace_close(emb_workspace *workspace);

typedef struct emb_batch {
    const int32_t *ids;      /* all tokens; each < vocab_size */
    const uint32_t *offsets; /* count + 1: sequence i is ids[offsets[i]] .. ids[offsets[i+1]-1] */
    const uint32_t *skip;    /* tokens at the start that pooling leaves out, per sequence; or NULL */
    size_t count;            /* each sequence 1 .. spec->max_tokens tokens */
    emb_pooling pooling;     /* MODEL: the spec's. Ignored for a model that concatenates several */
    emb_switch normalize;
    size_t dimensions; /* keep so many; 0: all */
    bool tokens; /* no pooling nor what follows it: out[i] gets the states of all of sequence i's tokens,
                                   tokens × spec->hidden floats */
} emb_batch;

/* offsets[count] must not exceed max_tokens of the workspace. Vector i goes to out[i]: an array of
 * pointers, so that a batch may answer several callers. */
void emb_encoder_forward(const emb_encoder *encoder, emb_workspace *workspace, const emb_batch *batch,
                         emb_team *team, float *const *out);

#endif
