/*
 * wire_remote.c: an embedding service of the plain kind: POST /embed {texts, batch_size} answers {embeddings,
 * model, dimension}. It has one model and cannot be asked for anything else.
 */
#include "base/error.h"
#include "provider/wire.h"

static emb_status url(const emb_provider_config *config, const char *model, emb_buf *out)
{
    (void)model;
    return emb_wire_url(config, "/embed", NULL, false, "", out);
}

static emb_status body(const emb_wire_request *request, emb_buf *out)
{
    emb_status status = emb_wire_texts(out, "texts", request);
    if (!status)
        status = emb_wire_number(out, "batch_size", request->count < 32 ? request->count : 32);
    return status ? status : emb_wire_end(out);
}

static emb_status read(const emb_wire_request *request, emb_json_value root, emb_wire_answer *answer,
                       emb_error *err)
{
    emb_json_value rows;
    (void)request;
    emb_status status = emb_wire_member(root, "embeddings", &rows, err);
    return status ? status : emb_vectors_put_all(&answer->vectors, rows, err);
}

const emb_wire emb_wire_remote = {.max_texts = 256,
                                  .max_body_bytes = 8u << 20,
                                  .key_header = "Authorization: Bearer ",
                                  .warm_path = "/health",
                                  .url = url,
                                  .body = body,
                                  .read = read};
