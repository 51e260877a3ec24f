/*
 * none.c: the engine of a build without local models (EMB_LOCAL_MODELS=OFF), in place of the rest of this
 * room, model/, kernels/ and most of tokenizer/.
 *
 * An engine opens, so that whoever holds one need not know; a model does not, with an error that says why and
 * what to do. Everything that takes a model can therefore not be reached.
 */
#include "base/error.h"
#include "engine/detokenize.h"
#include "engine/tokens.h"

#include <stdlib.h>

static emb_status no_models(emb_error *err)
{
    return emb_fail(err, EMB_E_UNSUPPORTED, "model",
                    "this build of embedd has no local models; set EMBEDDING_PROVIDER (providers.default) to "
                    "a provider, or "
                    "take the full build");
}

struct emb_engine {
    unsigned threads;
};

emb_status emb_engine_open(const emb_engine_options *options, emb_engine **out, emb_error *err)
{
    emb_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return emb_fail_nomem(err, "engine", sizeof *engine);
    engine->threads = options && options->threads ? options->threads : 1;
    *out = engine;
    return EMB_OK;
}

void emb_engine_close(emb_engine *engine)
{
    free(engine);
}

const char *emb_engine_isa(const emb_engine *engine)
{
    (void)engine;
    return "none";
}

unsigned emb_engine_threads(const emb_engine *engine)
{
    return engine->threads;
}

emb_status emb_model_open(emb_engine *engine, const char *name, const emb_model_options *options,
                          emb_model **out, emb_error *err)
{
    (void)engine;
    (void)name;
    (void)options;
    *out = NULL;
    return no_models(err);
}

void emb_model_close(emb_model *model)
{
    (void)model;
}

void emb_model_get_info(const emb_model *model, emb_model_info *info)
{
    (void)model;
    *info = (emb_model_info)EMB_MODEL_INFO_INIT;
}

bool emb_model_prompt(const emb_model *model, size_t index, const char **name, const char **text)
{
    (void)model;
    (void)index;
    (void)name;
    (void)text;
    return false;
}

emb_status emb_embed_counted(emb_model *model, const emb_text *texts, size_t count,
                             const emb_embed_options *options, float *out, size_t out_floats,
                             uint32_t *token_counts, emb_usage *usage, emb_error *err)
{
    (void)model;
    (void)texts;
    (void)count;
    (void)options;
    (void)out;
    (void)out_floats;
    (void)token_counts;
    (void)usage;
    return no_models(err);
}

emb_status emb_embed(emb_model *model, const emb_text *texts, size_t count, const emb_embed_options *options,
                     float *out, size_t out_floats, emb_usage *usage, emb_error *err)
{
    return emb_embed_counted(model, texts, count, options, out, out_floats, NULL, usage, err);
}

emb_status emb_embed_ids(emb_model *model, const int32_t *ids, const size_t *offsets, size_t count,
                         const emb_embed_options *options, float *out, size_t out_floats, emb_usage *usage,
                         emb_error *err)
{
    (void)ids;
    (void)offsets;
    return emb_embed_counted(model, NULL, count, options, out, out_floats, NULL, usage, err);
}

emb_status emb_model_embed_tokens(emb_model *model, const emb_text *texts, const int32_t *ids,
                                  const size_t *offsets, size_t count, const emb_embed_options *options,
                                  emb_token_vectors *out, emb_usage *usage, emb_error *err)
{
    (void)ids;
    (void)offsets;
    *out = (emb_token_vectors){0};
    return emb_embed_counted(model, texts, count, options, NULL, 0, NULL, usage, err);
}

void emb_token_vectors_fini(emb_token_vectors *vectors)
{
    (void)vectors;
}

emb_status emb_tokenize(emb_model *model, const char *text, size_t length, bool add_special_tokens,
                        size_t max_tokens, emb_tokens *out, emb_error *err)
{
    (void)model;
    (void)text;
    (void)length;
    (void)add_special_tokens;
    (void)max_tokens;
    *out = (emb_tokens){0};
    return no_models(err);
}

void emb_tokens_free(emb_tokens *tokens)
{
    free(tokens->data); /* hosted models' tokens are made elsewhere */
    *tokens = (emb_tokens){0};
}

const char *emb_token_text(const emb_model *model, int32_t id, size_t *length)
{
    (void)model;
    (void)id;
    (void)length;
    return NULL;
}

emb_status emb_model_detokenize(const emb_model *model, const int32_t *ids, size_t count,
                                bool skip_special_tokens, emb_buf *out)
{
    (void)model;
    (void)ids;
    (void)count;
    (void)skip_special_tokens;
    (void)out;
    return EMB_E_UNSUPPORTED;
}
