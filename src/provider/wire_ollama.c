/*
 * wire_ollama.c: Ollama's /api/embed.
 *
 * It cuts long texts silently unless told not to; only "none" and an explicit side are passed on, and of the
 * sides it knows one, so a cut at the beginning cannot be asked for.
 */
#include "base/error.h"
#include "provider/wire.h"

static emb_status url(const emb_provider_config *config, const char *model, emb_buf *out)
{
    (void)model;
    return emb_wire_url(config, "/api/embed", NULL, false, "", out);
}

static emb_status body(const emb_wire_request *request, emb_buf *out)
{
    const emb_provider_call *c = request->call;
    emb_switch truncate = c->truncation == EMB_TRUNCATE_NONE    ? EMB_OFF
                          : c->truncation == EMB_TRUNCATE_RIGHT ? EMB_ON
                                                                : EMB_DEFAULT;
    emb_status status = emb_wire_text(out, "model", c->model);
    if (!status)
        status = emb_wire_texts(out, "input", request);
    if (!status)
        status = emb_wire_switch(out, "truncate", truncate);
    if (!status)
        status = emb_wire_number(out, "dimensions", c->dimensions);
    return status ? status : emb_wire_end(out);
}

static emb_status read(const emb_wire_request *request, emb_json_value root, emb_wire_answer *answer,
                       emb_error *err)
{
    emb_json_value rows;
    (void)request;
    emb_status status = emb_wire_member(root, "embeddings", &rows, err);
    if (!status)
        status = emb_vectors_put_all(&answer->vectors, rows, err);
    emb_wire_usage(root, "prompt_eval_count", answer);
    return status;
}

const emb_wire emb_wire_ollama = {.max_texts = 128,
                                  .max_body_bytes = 8u << 20,
                                  .key_header = "Authorization: Bearer ",
                                  .warm_path = "/api/version",
                                  .url = url,
                                  .body = body,
                                  .read = read};
