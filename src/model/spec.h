/*
 * spec.h: what a model directory says about its model, read from the files that authors publish.
 *
 *     emb_model_spec spec;
 *     if ((st = emb_model_spec_read(&spec, "models/all-MiniLM-L6-v2", err))) return st;
 *     printf("%zu layers of %zu\n", spec.layers, spec.hidden);
 *     emb_model_spec_fini(&spec);
 *
 * The rules are those of sentence-transformers: without modules.json the model is mean pooling without
 * normalisation, max_seq_length wins over tokenizer_config's model_max_length, and so on.
 *
 * Reads config.json, modules.json, <n>_Pooling/config.json, <n>_Dense/config.json,
 * sentence_bert_config.json (and its variants per architecture), config_sentence_transformers.json,
 * tokenizer_config.json. A key that would change the vectors and is not supported is
 * EMB_E_UNSUPPORTED with file and key; unknown keys that cannot matter are ignored.
 * A spec is plain data, immutable after reading; its strings live in its arena.
 */
#ifndef EMB_MODEL_SPEC_H
#define EMB_MODEL_SPEC_H

#include "base/arena.h"
#include "kernels/kernels.h"

typedef enum emb_architecture {
    EMB_ARCH_BERT,
    EMB_ARCH_ROBERTA,
    EMB_ARCH_XLM_ROBERTA,
    EMB_ARCH_MPNET,
    EMB_ARCH_DISTILBERT
} emb_architecture;

const char *emb_architecture_name(emb_architecture architecture);

typedef struct emb_prompt {
    const char *name, *text;
    size_t length; /* bytes of text */
} emb_prompt;

/* What runs after pooling, in the order of modules.json. */
typedef enum emb_module_kind {
    EMB_MODULE_DENSE,
    EMB_MODULE_LAYER_NORM,
    EMB_MODULE_NORMALIZE
} emb_module_kind;

typedef struct emb_module {
    emb_module_kind kind;
    const char *directory; /* of its weights, relative to the model's */
    size_t in_features, out_features;
    bool bias;
    emb_activation activation; /* Identity is EMB_ACT_NONE */
} emb_module;

#define EMB_MAX_MODULES 8

typedef struct emb_model_spec {
    emb_arena arena;
    const char *directory, *name; /* name: the directory's last part; of a hub snapshot, the repository's */
    const char *transformer;      /* directory of config.json, weights and tokenizer: mostly `directory` */
    emb_architecture architecture;
    size_t layers, heads, hidden, intermediate;
    size_t vocab_size, position_rows, type_rows; /* rows of the embedding tables; type_rows 0: none */
    size_t position_offset;       /* position of the first token: pad id + 1 in the RoBERTa family and MPNet
                                     (there a pad id among the tokens keeps position pad id), else 0 */
    size_t relative_buckets;      /* MPNet, else 0 */
    size_t relative_max_distance; /* MPNet: 128 */
    float layer_norm_eps;
    emb_activation activation;
    size_t max_tokens;  /* per text, special tokens included */
    bool lower_case;    /* sentence_bert_config's do_lower_case: lower the text beforehand */
    bool truncate_left; /* tokenizer_config's truncation_side */

    emb_pooling pooling; /* the first kind; several concatenated kinds: pooling_count > 1 */
    emb_pooling poolings[5];
    size_t pooling_count;
    bool include_prompt;                 /* pooling over the prompt's tokens too */
    emb_module modules[EMB_MAX_MODULES]; /* without the last one if that is Normalize */
    size_t module_count;
    bool normalize;   /* the last module is Normalize */
    size_t dimension; /* of the final vector */

    const emb_prompt *prompts;
    size_t prompt_count;
    const char *default_prompt; /* name, or NULL */
} emb_model_spec;

EMB_MUST_CHECK emb_status emb_model_spec_read(emb_model_spec *spec, const char *directory, emb_error *err);
void emb_model_spec_fini(emb_model_spec *spec);
/* NULL if there is none of that name. */
const emb_prompt *emb_model_spec_prompt(const emb_model_spec *spec, const char *name);

#endif
