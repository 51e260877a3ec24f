/*
 * modules.json and the small configs of what comes after the Transformer. sentence-transformers writes
 * the class of each module ("sentence_transformers.models.Pooling", in newer versions
 * "sentence_transformers.sentence_transformer.modules.pooling.Pooling"); the last part names it.
 *
 * Pooling has two spellings: a boolean per kind, and since 2026 "pooling_mode". With several kinds the
 * vectors are concatenated, in the order of the reference: cls, max, mean, mean_sqrt_len, weightedmean,
 * last for the booleans; as listed for "pooling_mode".
 */
#include "base/error.h"
#include "model/spec_parts.h"

#include <string.h>

enum { MAX_WIDTH = 1 << 20 };

static bool equals(const char *text, size_t length, const char *name)
{
    return strlen(name) == length && memcmp(text, name, length) == 0;
}

/* The part after the last '.'. */
static const char *class_of(const char *text, size_t *length)
{
    size_t begin = *length;
    while (begin > 0 && text[begin - 1] != '.')
        begin--;
    *length -= begin;
    return text + begin;
}

/* ---- pooling ----------------------------------------------------------------------------------- */

static const struct {
    const char *switch_key, *name;
    emb_pooling pooling; /* MODEL: not supported */
} kinds[] = {
    {"pooling_mode_cls_token", "cls", EMB_POOLING_CLS},
    {"pooling_mode_max_tokens", "max", EMB_POOLING_MAX},
    {"pooling_mode_mean_tokens", "mean", EMB_POOLING_MEAN},
    {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", EMB_POOLING_MEAN_SQRT_LEN},
    {"pooling_mode_weightedmean_tokens", "weightedmean", EMB_POOLING_MODEL},
    {"pooling_mode_lasttoken", "lasttoken", EMB_POOLING_LAST},
};
enum { KINDS = sizeof kinds / sizeof *kinds };
#define POOLING_NAMES "cls, mean, max, mean_sqrt_len_tokens, lasttoken"

static emb_status add_pooling(emb_model_spec *spec, const emb_spec_file *file, const char *text,
                              size_t length, emb_error *err)
{
    for (int i = 0; i < KINDS; i++)
        if (equals(text, length, kinds[i].name) && kinds[i].pooling != EMB_POOLING_MODEL) {
            if (spec->pooling_count == sizeof spec->poolings / sizeof *spec->poolings)
                return emb_fail(err, EMB_E_UNSUPPORTED, file->path,
                                "%s: \"pooling_mode\" concatenates more than %zu kinds", file->path,
                                spec->pooling_count);
            spec->poolings[spec->pooling_count++] = kinds[i].pooling;
            return EMB_OK;
        }
    return emb_spec_unsupported(file, "pooling_mode", text, length, POOLING_NAMES, err);
}

static emb_status read_pooling_names(emb_model_spec *spec, const emb_spec_file *file, emb_error *err)
{
    emb_json_value value, item;
    const char *text;
    size_t length;
    emb_status status;
    emb_json_get(file->root, "pooling_mode", &value);
    if (emb_json_string(value, &text, &length))
        return add_pooling(spec, file, text, length, err);
    if (emb_json_type_of(value) != EMB_JSON_ARRAY || emb_json_count(value) == 0)
        return emb_fail(err, EMB_E_CORRUPT, file->path,
                        "%s: \"pooling_mode\" is neither a name nor a list of names", file->path);
    emb_json_iter it = emb_json_begin(value);
    while (emb_json_next(&it, NULL, NULL, &item)) {
        if (!emb_json_string(item, &text, &length))
            return emb_fail(err, EMB_E_CORRUPT, file->path,
                            "%s: \"pooling_mode\" lists a %s, names are needed", file->path,
                            emb_json_type_name(emb_json_type_of(item)));
        if ((status = add_pooling(spec, file, text, length, err)))
            return status;
    }
    return EMB_OK;
}

static emb_status read_pooling_switches(emb_model_spec *spec, const emb_spec_file *file, emb_error *err)
{
    emb_status status;
    for (int i = 0; i < KINDS; i++) {
        bool on = false;
        if ((status = emb_spec_get_bool(file, kinds[i].switch_key, &on, err)))
            return status;
        if (!on)
            continue;
        if (kinds[i].pooling == EMB_POOLING_MODEL)
            return emb_spec_unsupported(file, kinds[i].switch_key, "true", 4, POOLING_NAMES, err);
        spec->poolings[spec->pooling_count++] = kinds[i].pooling;
    }
    if (spec->pooling_count == 0)
        spec->poolings[spec->pooling_count++] = EMB_POOLING_MEAN;
    return EMB_OK;
}

static emb_status read_pooling(emb_model_spec *spec, const emb_spec_source *source, const char *folder,
                               emb_error *err)
{
    emb_spec_file file;
    emb_status status = emb_spec_file_open(&file, spec, source, folder, "config.json", false, err);
    if (status == EMB_E_NOT_FOUND)
        return EMB_OK; /* mean, as set by default */
    if (status)
        return status;
    spec->pooling_count = 0;
    status = emb_spec_has(&file, "pooling_mode") ? read_pooling_names(spec, &file, err)
                                                 : read_pooling_switches(spec, &file, err);
    spec->pooling = spec->poolings[0];
    if (!status)
        status = emb_spec_get_bool(&file, "include_prompt", &spec->include_prompt, err);
    emb_spec_file_close(&file);
    return status;
}

/* ---- Dense, LayerNorm, Normalize ----------------------------------------------------------------- */

static emb_status only_sentence(const emb_spec_file *file, const char *key, emb_error *err)
{
    const char *text = "sentence_embedding";
    size_t length = strlen(text);
    emb_status status = emb_spec_get_string(file, key, &text, &length, err);
    if (!status && !equals(text, length, "sentence_embedding"))
        return emb_spec_unsupported(file, key, text, length, "sentence_embedding", err);
    return status;
}

static emb_status read_dense_activation(emb_module *module, const emb_spec_file *file, emb_error *err)
{
    static const struct {
        const char *name;
        emb_activation activation;
    } classes[] = {{"Identity", EMB_ACT_NONE},
                   {"Tanh", EMB_ACT_TANH},
                   {"GELU", EMB_ACT_GELU},
                   {"ReLU", EMB_ACT_RELU},
                   {"SiLU", EMB_ACT_SILU}};
    const char *text = "Tanh";
    size_t length = 4;
    emb_status status = emb_spec_get_string(file, "activation_function", &text, &length, err);
    if (status)
        return status;
    size_t n = length;
    const char *name = class_of(text, &n);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (equals(name, n, classes[i].name)) {
            module->activation = classes[i].activation;
            return EMB_OK;
        }
    return emb_spec_unsupported(file, "activation_function", text, length, "Identity, Tanh, GELU, ReLU, SiLU",
                                err);
}

static emb_status read_dense(emb_module *module, const emb_spec_file *file, emb_error *err)
{
    bool residual = false;
    emb_status status;
    module->bias = true;
    if ((status = emb_spec_need_size(file, "in_features", 1, MAX_WIDTH, &module->in_features, err)) ||
        (status = emb_spec_need_size(file, "out_features", 1, MAX_WIDTH, &module->out_features, err)) ||
        (status = emb_spec_get_bool(file, "bias", &module->bias, err)) ||
        (status = emb_spec_get_bool(file, "use_residual", &residual, err)) ||
        (status = only_sentence(file, "module_input_name", err)) ||
        (status = only_sentence(file, "module_output_name", err)))
        return status;
    if (residual)
        return emb_spec_unsupported(file, "use_residual", "true", 4, "false", err);
    return read_dense_activation(module, file, err);
}

static emb_status add_module(emb_model_spec *spec, const emb_spec_source *source, emb_module_kind kind,
                             const char *folder, emb_error *err)
{
    emb_spec_file file;
    emb_status status;
    if (spec->module_count == EMB_MAX_MODULES)
        return emb_fail(err, EMB_E_UNSUPPORTED, "modules.json",
                        "modules.json: more than %d modules after pooling", EMB_MAX_MODULES);
    emb_module *module = &spec->modules[spec->module_count++];
    *module = (emb_module){.kind = kind, .directory = folder};
    status = emb_spec_file_open(&file, spec, source, folder, "config.json", false, err);
    if (status == EMB_E_NOT_FOUND && kind == EMB_MODULE_NORMALIZE)
        return EMB_OK;
    if (status)
        return status;
    switch (kind) {
    case EMB_MODULE_DENSE:
        status = read_dense(module, &file, err);
        break;
    case EMB_MODULE_LAYER_NORM:
        module->bias = true;
        status = emb_spec_need_size(&file, "dimension", 1, MAX_WIDTH, &module->in_features, err);
        module->out_features = module->in_features;
        break;
    case EMB_MODULE_NORMALIZE:
        status = only_sentence(&file, "module_input_name", err);
        break;
    }
    emb_spec_file_close(&file);
    return status;
}

/* ---- modules.json -------------------------------------------------------------------------------- */

/* A folder below the model's, never elsewhere. */
static emb_status read_folder(emb_model_spec *spec, const emb_spec_file *file, emb_json_value entry,
                              const char **out, emb_error *err)
{
    emb_json_value value;
    const char *text = "";
    size_t length = 0;
    if (emb_json_get(entry, "path", &value) && !emb_json_string(value, &text, &length))
        return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: \"path\" is of type %s, a string is needed",
                        file->path, emb_json_type_name(emb_json_type_of(value)));
    if (memchr(text, 0, length) || length > 255 || (length > 0 && text[0] == '/') ||
        (length >= 2 && memcmp(text, "..", 2) == 0) || memmem(text, length, "/..", 3))
        return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: \"path\" \"%.*s\" is not a folder of the model",
                        file->path, (int)(length > 80 ? 80 : length), text);
    *out = emb_arena_strndup(&spec->arena, text, length);
    return *out ? EMB_OK : emb_fail_nomem(err, "path", length);
}

static emb_status read_module(emb_model_spec *spec, const emb_spec_source *source, const emb_spec_file *file,
                              emb_json_value entry, size_t index, bool *pooled, const char **transformer,
                              emb_error *err)
{
    emb_json_value value;
    const char *type, *folder = "";
    size_t length;
    emb_status status;
    if (!emb_json_get(entry, "type", &value) || !emb_json_string(value, &type, &length))
        return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: module %zu has no \"type\"", file->path, index);
    if ((status = read_folder(spec, file, entry, &folder, err)))
        return status;
    size_t n = length;
    const char *name = class_of(type, &n);
    if (index == 0) {
        if (!equals(name, n, "Transformer"))
            return emb_spec_unsupported(file, "type", type, length, "Transformer as the first module", err);
        *transformer = folder;
        return EMB_OK;
    }
    if (equals(name, n, "Dropout"))
        return EMB_OK; /* of training only */
    if (equals(name, n, "Pooling") && !*pooled) {
        *pooled = true;
        return read_pooling(spec, source, folder, err);
    }
    if (*pooled && equals(name, n, "Dense"))
        return add_module(spec, source, EMB_MODULE_DENSE, folder, err);
    if (*pooled && equals(name, n, "LayerNorm"))
        return add_module(spec, source, EMB_MODULE_LAYER_NORM, folder, err);
    if (*pooled && equals(name, n, "Normalize"))
        return add_module(spec, source, EMB_MODULE_NORMALIZE, folder, err);
    return emb_spec_unsupported(file, "type", type, length,
                                "Transformer, then Pooling, then Dense, LayerNorm, Dropout, Normalize", err);
}

emb_status emb_spec_read_modules(emb_model_spec *spec, const emb_spec_source *source,
                                 const emb_spec_file *file, const char **transformer, emb_error *err)
{
    emb_json_value entry;
    emb_json_iter it = emb_json_begin(file->root);
    bool pooled = false;
    emb_status status;
    for (size_t index = 0; emb_json_next(&it, NULL, NULL, &entry); index++)
        if ((status = read_module(spec, source, file, entry, index, &pooled, transformer, err)))
            return status;
    if (!pooled)
        return emb_fail(err, EMB_E_UNSUPPORTED, file->path,
                        "%s: no Pooling module, so there is no vector per text", file->path);
    return EMB_OK;
}

emb_status emb_spec_check_modules(emb_model_spec *spec, emb_error *err)
{
    size_t width = spec->hidden * spec->pooling_count;
    for (size_t i = 0; i < spec->module_count; i++) {
        const emb_module *module = &spec->modules[i];
        if (module->kind == EMB_MODULE_NORMALIZE)
            continue;
        if (module->in_features != width)
            return emb_fail(err, EMB_E_CORRUPT, module->directory,
                            "%s/config.json: takes vectors of %zu components, the module before gives %zu",
                            module->directory, module->in_features, width);
        width = module->out_features;
    }
    spec->dimension = width;
    if (spec->module_count > 0 && spec->modules[spec->module_count - 1].kind == EMB_MODULE_NORMALIZE) {
        spec->normalize = true;
        spec->module_count--;
    }
    return EMB_OK;
}
