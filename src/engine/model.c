/*
 * Model handles: opening by name, closing, what a model says about itself, tokenizing.
 *
 * A handle is a small object of its own for each emb_model_open, in front of the shared core, so that
 * closing one waits for the calls on that handle alone.
 */
#include "base/error.h"
#include "engine/engine.h"
#include "engine/locate.h"
#include "engine/options.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The directory without symbolic links, so that two ways to it are one model. */
static emb_status canonical_path(const char *path, char **out, emb_error *err)
{
    *out = realpath(path, NULL);
    return *out ? EMB_OK : emb_fail_errno(err, path, "resolving");
}

static emb_status open_core(emb_engine *engine, const char *name, const emb_model_options *options,
                            emb_core **out, emb_error *err)
{
    char *found = NULL, *path = NULL;
    emb_status status = emb_locate_model(name, engine->models_path, &found, err);
    if (!status)
        status = canonical_path(found, &path, err);
    if (!status)
        status = emb_core_get(engine, path, options->precision, out, err);
    free(found);
    free(path);
    if (status)
        return status;
    status = emb_core_reach(*out, options->lazy ? EMB_STAGE_CONFIGURED : EMB_STAGE_LOADED, NULL, err);
    if (status)
        emb_core_put(*out);
    return status;
}

emb_status emb_model_open(emb_engine *engine, const char *name, const emb_model_options *given,
                          emb_model **out, emb_error *err)
{
    emb_model_options options = EMB_MODEL_OPTIONS_INIT;
    if (!out)
        return emb_fail(err, EMB_E_INVALID, "out", "out is NULL");
    *out = NULL;
    if (!engine || !name || !*name)
        return emb_fail(err, EMB_E_INVALID, engine ? "name" : "engine", "%s is %s",
                        engine ? "name" : "engine", engine && name ? "empty" : "NULL");
    emb_status status = emb_options_copy(&options, sizeof options, given, "emb_model_options", err);
    if (!status && !emb_precision_name(options.precision))
        status = emb_fail(err, EMB_E_INVALID, "precision", "precision is %d, the last value is %d",
                          (int)options.precision, EMB_PRECISION_INT8);
    if (status)
        return status;
    emb_model *model = calloc(1, sizeof *model);
    if (!model)
        return emb_fail_nomem(err, "model", sizeof *model);
    model->engine = engine;
    status = open_core(engine, name, &options, &model->core, err);
    if (status) {
        free(model);
        return status;
    }
    *out = model;
    return EMB_OK;
}

void emb_model_close(emb_model *model)
{
    if (!model)
        return;
    emb_engine_lock(model->engine);
    model->closing = true;
    while (model->calls)
        pthread_cond_wait(&model->engine->quiet, &model->engine->lock);
    emb_engine_unlock(model->engine);
    emb_core_put(model->core);
    free(model);
}

/* ---- what a model says about itself ---------------------------------------------------------- */

static void describe(const emb_core *core, emb_model_info *info)
{
    const emb_model_spec *spec = &core->spec;
    bool loaded = atomic_load_explicit(&core->stage, memory_order_acquire) >= EMB_STAGE_LOADED;
    info->name = spec->name;
    info->path = core->path;
    info->architecture = emb_architecture_name(spec->architecture);
    info->tokenizer = emb_tokenizer_kind(core->tokenizer);
    info->dimension = spec->dimension;
    info->max_tokens = spec->max_tokens;
    info->vocab_size = spec->vocab_size;
    info->layers = spec->layers;
    info->heads = spec->heads;
    info->hidden = spec->hidden;
    info->intermediate = spec->intermediate;
    info->parameters = loaded ? emb_encoder_parameters(core->encoder) : 0;
    info->weight_bytes = loaded ? emb_encoder_weight_bytes(core->encoder) : 0;
    info->pooling = spec->pooling;
    info->normalize = spec->normalize;
    info->precision = loaded ? emb_encoder_precision(core->encoder) : core->wanted;
    if (info->precision == EMB_PRECISION_AUTO)
        info->precision = core->engine->kernels->auto_precision;
    info->query_prompt = emb_role_prompt(spec, EMB_ROLE_QUERY);
    info->document_prompt = emb_role_prompt(spec, EMB_ROLE_DOCUMENT);
    info->prompts = spec->prompt_count;
    info->default_prompt = spec->default_prompt;
}

void emb_model_get_info(const emb_model *model, emb_model_info *out)
{
    if (!model || !out)
        return;
    emb_model_info info = EMB_MODEL_INFO_INIT;
    size_t size = out->size < sizeof info ? out->size : sizeof info;
    describe(model->core, &info);
    info.size = out->size;
    memcpy(out, &info, size);
}

bool emb_model_prompt(const emb_model *model, size_t index, const char **name, const char **text)
{
    if (!model || index >= model->core->spec.prompt_count)
        return false;
    const emb_prompt *prompt = &model->core->spec.prompts[index];
    if (name)
        *name = prompt->name;
    if (text)
        *text = prompt->text;
    return true;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static emb_status copy_tokens(const emb_encoding *encoding, size_t max_tokens, emb_tokens *out,
                              emb_error *err)
{
    size_t count = encoding->count;
    emb_token *data = count ? malloc(count * sizeof *data) : NULL;
    if (count && !data)
        return emb_fail_nomem(err, "tokens", count * sizeof *data);
    for (size_t i = 0; i < count; i++)
        data[i] =
            (emb_token){encoding->ids[i], encoding->starts[i], encoding->ends[i], encoding->special[i] != 0};
    *out = (emb_tokens){data, count, max_tokens && encoding->untruncated > count};
    return EMB_OK;
}

emb_status emb_tokenize(emb_model *model, const char *text, size_t length, bool add_special_tokens,
                        size_t max_tokens, emb_tokens *out, emb_error *err)
{
    if (!model || !out || (!text && length))
        return emb_fail(err, EMB_E_INVALID, NULL, "%s is NULL", !model ? "model" : !out ? "out" : "text");
    *out = (emb_tokens){NULL, 0, false};
    emb_scratch *scratch = emb_scratch_get(model->engine, err);
    if (!scratch)
        return EMB_E_NOMEM;
    emb_encode_options options = {
        .add_special_tokens = add_special_tokens,
        .offsets = true,
        .max_tokens = max_tokens,
        .truncate_left = model->core->spec.truncate_left,
    };
    emb_status status = emb_tokenizer_encode(model->core->tokenizer, text ? text : "", length, &options,
                                             &scratch->encoding, err);
    if (!status)
        status = copy_tokens(&scratch->encoding, max_tokens, out, err);
    emb_scratch_put(model->engine, scratch);
    return status;
}

void emb_tokens_free(emb_tokens *tokens)
{
    if (!tokens)
        return;
    free(tokens->data);
    *tokens = (emb_tokens){NULL, 0, false};
}

const char *emb_token_text(const emb_model *model, int32_t id, size_t *length)
{
    size_t ignored;
    if (!length)
        length = &ignored;
    *length = 0;
    return model ? emb_tokenizer_token(model->core->tokenizer, id, length) : NULL;
}
