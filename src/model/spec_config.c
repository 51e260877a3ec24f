/*
 * config.json of the five families. The keys of BERT, RoBERTa, XLM-RoBERTa and MPNet agree; DistilBERT has
 * names of its own, so a table of names per family feeds one reader. A key that would change the vectors
 * is refused when its value is not one that the encoder computes; keys of training are ignored.
 *
 * Limits on sizes are far above published models; they keep every product of two of them within 64 bits,
 * so that the encoder's arithmetic needs no check of its own.
 */
#include "base/error.h"
#include "model/spec_parts.h"

#include <string.h>

enum {
    MAX_LAYERS = 1024,
    MAX_HIDDEN = 1 << 16,
    MAX_INTERMEDIATE = 1 << 18,
    MAX_HEAD_DIM = 256,
    MAX_POSITIONS = 1 << 20,
    MAX_VOCABULARY = 1 << 28,
    MAX_TYPES = 1 << 10,
    MAX_BUCKETS = 1 << 12
};

typedef struct family {
    const char *model_type, *class_prefix;
    emb_architecture architecture;
    const char *layers, *heads, *hidden, *intermediate, *activation;
    size_t pad_token_id, default_types;
    double default_eps;
} family;

#define BERT_NAMES \
    "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "hidden_act"
static const family families[] = {
    {"bert", "Bert", EMB_ARCH_BERT, BERT_NAMES, 0, 2, 1e-12},
    {"xlm-roberta", "XLMRoberta", EMB_ARCH_XLM_ROBERTA, BERT_NAMES, 1, 2, 1e-12},
    {"roberta", "Roberta", EMB_ARCH_ROBERTA, BERT_NAMES, 1, 2, 1e-12},
    {"camembert", "Camembert", EMB_ARCH_ROBERTA, BERT_NAMES, 1, 2, 1e-12},
    {"mpnet", "MPNet", EMB_ARCH_MPNET, BERT_NAMES, 1, 0, 1e-12},
    {"distilbert", "DistilBert", EMB_ARCH_DISTILBERT, "n_layers", "n_heads", "dim", "hidden_dim",
     "activation", 0, 0, 1e-12},
};
#define FAMILY_NAMES "bert, roberta, xlm-roberta, camembert, mpnet, distilbert"

/* "BertModel" is Bert's, "BertGenerationEncoder" is not. */
static bool class_belongs(const char *text, size_t length, const char *prefix)
{
    size_t n = strlen(prefix);
    return length > n && memcmp(text, prefix, n) == 0 &&
           ((length - n >= 5 && memcmp(text + n, "Model", 5) == 0) ||
            (length - n >= 3 && memcmp(text + n, "For", 3) == 0));
}

static emb_status find_family(const emb_spec_file *file, const family **out, emb_error *err)
{
    const char *text = NULL;
    size_t length = 0, count = sizeof families / sizeof *families;
    emb_json_value value, item;
    emb_status status = emb_spec_get_string(file, "model_type", &text, &length, err);
    if (status)
        return status;
    if (text) {
        for (size_t i = 0; i < count; i++)
            if (strlen(families[i].model_type) == length &&
                memcmp(families[i].model_type, text, length) == 0) {
                *out = &families[i];
                return EMB_OK;
            }
        return emb_spec_unsupported(file, "model_type", text, length, FAMILY_NAMES, err);
    }
    if (emb_json_get(file->root, "architectures", &value)) { /* configs from before model_type */
        emb_json_iter it = emb_json_begin(value);
        while (emb_json_next(&it, NULL, NULL, &item))
            for (size_t i = 0; i < count; i++)
                if (emb_json_string(item, &text, &length) &&
                    class_belongs(text, length, families[i].class_prefix)) {
                    *out = &families[i];
                    return EMB_OK;
                }
    }
    return emb_fail(
        err, EMB_E_UNSUPPORTED, file->path,
        "%s: \"model_type\" is missing and \"architectures\" names no known family; supported: %s",
        file->path, FAMILY_NAMES);
}

static const struct {
    const char *name;
    emb_activation activation;
} activations[] = {
    {"gelu", EMB_ACT_GELU},
    {"gelu_python", EMB_ACT_GELU},
    {"gelu_new", EMB_ACT_GELU_TANH},
    {"gelu_fast", EMB_ACT_GELU_TANH},
    {"gelu_accurate", EMB_ACT_GELU_TANH},
    {"gelu_pytorch_tanh", EMB_ACT_GELU_TANH},
    {"relu", EMB_ACT_RELU},
    {"silu", EMB_ACT_SILU},
    {"swish", EMB_ACT_SILU},
    {"tanh", EMB_ACT_TANH},
    {"linear", EMB_ACT_NONE},
};

static emb_status read_activation(emb_model_spec *spec, const emb_spec_file *file, const char *key,
                                  emb_error *err)
{
    const char *text = "gelu";
    size_t length = 4;
    emb_status status = emb_spec_get_string(file, key, &text, &length, err);
    if (status)
        return status;
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (strlen(activations[i].name) == length && memcmp(activations[i].name, text, length) == 0) {
            spec->activation = activations[i].activation;
            return EMB_OK;
        }
    return emb_spec_unsupported(file, key, text, length,
                                "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, silu, tanh", err);
}

/* Values under which the encoder's computation would be a different one. */
static emb_status refuse_others(const emb_spec_file *file, emb_error *err)
{
    static const char *const switches[] = {"is_decoder", "add_cross_attention", "is_encoder_decoder"};
    const char *text = "absolute";
    size_t length = 8;
    emb_status status;
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        bool on = false;
        if ((status = emb_spec_get_bool(file, switches[i], &on, err)))
            return status;
        if (on)
            return emb_spec_unsupported(file, switches[i], "true", 4, "false (an encoder)", err);
    }
    if ((status = emb_spec_get_string(file, "position_embedding_type", &text, &length, err)))
        return status;
    if (length != 8 || memcmp(text, "absolute", 8) != 0)
        return emb_spec_unsupported(file, "position_embedding_type", text, length, "absolute", err);
    if (emb_spec_has(file, "quantization_config"))
        return emb_fail(
            err, EMB_E_UNSUPPORTED, file->path,
            "%s: \"quantization_config\" is there; weights quantised by other tools are not supported",
            file->path);
    emb_json_value pruned;
    if (emb_json_get(file->root, "pruned_heads", &pruned) && emb_json_count(pruned) > 0)
        return emb_fail(err, EMB_E_UNSUPPORTED, file->path, "%s: \"pruned_heads\" is not empty", file->path);
    return EMB_OK;
}

static emb_status read_eps(emb_model_spec *spec, const emb_spec_file *file, double fallback, emb_error *err)
{
    emb_json_value value;
    double eps = fallback;
    /* DistilBERT has 1e-12 in its code and no key for it. */
    if (spec->architecture != EMB_ARCH_DISTILBERT && emb_spec_has(file, "layer_norm_eps") &&
        emb_json_get(file->root, "layer_norm_eps", &value) && !emb_json_double(value, &eps))
        return emb_fail(err, EMB_E_CORRUPT, file->path,
                        "%s: \"layer_norm_eps\" is of type %s, a number is needed", file->path,
                        emb_json_type_name(emb_json_type_of(value)));
    if (!(eps >= 0 && eps <= 1))
        return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: \"layer_norm_eps\" is %g, 0 to 1 is possible",
                        file->path, eps);
    spec->layer_norm_eps = (float)eps;
    return EMB_OK;
}

static emb_status read_positions(emb_model_spec *spec, const emb_spec_file *file, const family *f,
                                 emb_error *err)
{
    size_t pad = f->pad_token_id;
    emb_status status;
    if ((status = emb_spec_need_size(file, "max_position_embeddings", 1, MAX_POSITIONS, &spec->position_rows,
                                     err)))
        return status;
    if (f->architecture == EMB_ARCH_BERT || f->architecture == EMB_ARCH_DISTILBERT)
        return EMB_OK;
    /* MPNet's code has the 1 written in, whatever the config says. */
    if (f->architecture != EMB_ARCH_MPNET &&
        (status = emb_spec_get_size(file, "pad_token_id", 0, MAX_VOCABULARY, &pad, err)))
        return status;
    spec->position_offset = pad + 1;
    if (spec->position_offset >= spec->position_rows)
        return emb_fail(
            err, EMB_E_CORRUPT, file->path,
            "%s: \"max_position_embeddings\" is %zu, which leaves no position after the offset of %zu",
            file->path, spec->position_rows, spec->position_offset);
    return EMB_OK;
}

static emb_status check_heads(const emb_model_spec *spec, const emb_spec_file *file, const family *f,
                              emb_error *err)
{
    if (spec->heads == 0 || spec->hidden % spec->heads != 0)
        return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: \"%s\" is %zu, not a multiple of \"%s\", %zu",
                        file->path, f->hidden, spec->hidden, f->heads, spec->heads);
    if (spec->hidden / spec->heads > MAX_HEAD_DIM)
        return emb_fail(err, EMB_E_UNSUPPORTED, file->path,
                        "%s: heads of width %zu (\"%s\" / \"%s\"), at most %d is supported", file->path,
                        spec->hidden / spec->heads, f->hidden, f->heads, MAX_HEAD_DIM);
    return EMB_OK;
}

emb_status emb_spec_read_config(emb_model_spec *spec, const emb_spec_file *file, emb_error *err)
{
    const family *f = NULL;
    emb_status status;
    if ((status = find_family(file, &f, err)) || (status = refuse_others(file, err)))
        return status;
    spec->architecture = f->architecture;
    if ((status = emb_spec_need_size(file, f->hidden, 1, MAX_HIDDEN, &spec->hidden, err)) ||
        (status = emb_spec_need_size(file, f->layers, 1, MAX_LAYERS, &spec->layers, err)) ||
        (status = emb_spec_need_size(file, f->heads, 1, MAX_HIDDEN, &spec->heads, err)) ||
        (status = emb_spec_need_size(file, f->intermediate, 1, MAX_INTERMEDIATE, &spec->intermediate, err)) ||
        (status = emb_spec_need_size(file, "vocab_size", 1, MAX_VOCABULARY, &spec->vocab_size, err)) ||
        (status = check_heads(spec, file, f, err)) || (status = read_positions(spec, file, f, err)) ||
        (status = read_activation(spec, file, f->activation, err)) ||
        (status = read_eps(spec, file, f->default_eps, err)))
        return status;
    spec->type_rows = f->default_types;
    if (f->default_types > 0 &&
        (status = emb_spec_get_size(file, "type_vocab_size", 0, MAX_TYPES, &spec->type_rows, err)))
        return status;
    if (f->architecture == EMB_ARCH_MPNET) {
        spec->relative_buckets = 32;
        spec->relative_max_distance = 128; /* a constant of the reference's code */
        if ((status = emb_spec_get_size(file, "relative_attention_num_buckets", 4, MAX_BUCKETS,
                                        &spec->relative_buckets, err)))
            return status;
        if (spec->relative_buckets % 4 != 0 || spec->relative_buckets / 4 >= spec->relative_max_distance)
            return emb_fail(
                err, EMB_E_UNSUPPORTED, file->path,
                "%s: \"relative_attention_num_buckets\" is %zu, a multiple of 4 below 512 is supported",
                file->path, spec->relative_buckets);
    }
    return EMB_OK;
}
