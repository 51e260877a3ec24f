/* session.c: opening engine and model as the options say. */
#include "cli/session.h"

#include "base/clock.h"
#include "base/error.h"

#include <string.h>

enum { DEVICE_CUDA = 2 }; /* position in the option's choices */

int emb_text_settings_check(const emb_command *command, const emb_text_settings *s)
{
    int prompts = s->query + s->document + (s->prompt_name != NULL) + (s->prompt != NULL);
    if (prompts > 1)
        return emb_usage_error(command,
                               "only one of --query, --document, --prompt-name and --prompt can be given");
    return -1;
}

const char *emb_session_set_role(const emb_session *session, emb_role role, emb_embed_options *options)
{
    options->role = role;
    return role == EMB_ROLE_QUERY ? session->info.query_prompt : session->info.document_prompt;
}

void emb_session_apply(const emb_session *session, const emb_text_settings *s, emb_embed_options *options)
{
    options->prompt_name = s->prompt_name;
    options->prompt = s->prompt;
    options->dimensions = s->dimensions;
    options->pooling = (emb_pooling)s->pooling;
    options->normalize = s->no_normalize ? EMB_OFF : EMB_DEFAULT;
    options->truncation = (emb_truncation)s->truncate;
    options->max_tokens = s->max_tokens;
    if (s->query || s->document)
        emb_session_set_role(session, s->query ? EMB_ROLE_QUERY : EMB_ROLE_DOCUMENT, options);
}

emb_status emb_session_open(emb_session *session, const emb_model_settings *s, bool lazy, emb_error *err)
{
    emb_engine_options engine = EMB_ENGINE_OPTIONS_INIT;
    emb_model_options model = EMB_MODEL_OPTIONS_INIT;
    uint64_t start = emb_now_ns();
    memset(session, 0, sizeof *session);
    if (s->device == DEVICE_CUDA)
        return emb_fail(err, EMB_E_UNSUPPORTED, "device",
                        "device is cuda, but this version computes on the CPU only; choose auto or cpu");
    engine.threads = (unsigned)s->threads;
    engine.batch_tokens = s->batch_tokens;
    engine.isa = s->isa;
    model.precision = (emb_precision)s->precision;
    model.lazy = lazy;
    emb_status status = emb_engine_open(&engine, &session->engine, err);
    if (!status)
        status = emb_model_open(session->engine, s->model, &model, &session->model, err);
    if (status) {
        emb_engine_close(session->engine);
        session->engine = NULL;
        session->model = NULL;
        return status;
    }
    session->info = (emb_model_info)EMB_MODEL_INFO_INIT;
    emb_model_get_info(session->model, &session->info);
    session->load_ns = emb_now_ns() - start;
    return EMB_OK;
}

void emb_session_close(emb_session *session)
{
    emb_model_close(session->model);
    emb_engine_close(session->engine);
    session->model = NULL;
    session->engine = NULL;
}
