/*
 * wire_cohere.c: Cohere's /v2/embed, vectors as float.
 *
 * input_type is not optional there: what is not a query is embedded as a document, as Cohere's examples do.
 * Truncation is said only when it was asked for (their default cuts the end).
 */
#include "base/error.h"
#include "provider/wire.h"

static emb_status url(const emb_provider_config *config, const char *model, emb_buf *out)
{
    (void)model;
    return emb_wire_url(config, "/v2/embed", NULL, false, "", out);
}

static const char *truncation(emb_truncation t)
{
    return t == EMB_TRUNCATE_NONE    ? "NONE"
           : t == EMB_TRUNCATE_LEFT  ? "START"
           : t == EMB_TRUNCATE_RIGHT ? "END"
                                     : NULL;
}

static emb_status body(const emb_wire_request *request, emb_buf *out)
{
    const emb_provider_call *c = request->call;
    emb_status status = emb_wire_text(out, "model", c->model);
    if (!status)
        status =
            emb_wire_text(out, "input_type", c->role == EMB_ROLE_QUERY ? "search_query" : "search_document");
    if (!status)
        status = emb_wire_texts(out, "texts", request);
    if (!status)
        status = emb_wire_raw(out, "embedding_types", "[\"float\"]");
    if (!status)
        status = emb_wire_number(out, "output_dimension", c->dimensions);
    if (!status)
        status = emb_wire_text(out, "truncate", truncation(c->truncation));
    return status ? status : emb_wire_end(out);
}

static emb_status read(const emb_wire_request *request, emb_json_value root, emb_wire_answer *answer,
                       emb_error *err)
{
    emb_json_value embeddings, rows, meta, units;
    (void)request;
    emb_status status = emb_wire_member(root, "embeddings", &embeddings, err);
    rows = embeddings;
    if (!status &&
        emb_json_type_of(embeddings) != EMB_JSON_ARRAY) /* version 1 answered the rows themselves */
        status = emb_wire_member(embeddings, "float", &rows, err);
    if (!status)
        status = emb_vectors_put_all(&answer->vectors, rows, err);
    if (!status && emb_json_get(root, "meta", &meta) && emb_json_get(meta, "billed_units", &units))
        emb_wire_usage(units, "input_tokens", answer);
    return status;
}

const emb_wire emb_wire_cohere = {.max_texts = 96,
                                  .max_body_bytes = 8u << 20,
                                  .key_header = "Authorization: Bearer ",
                                  .warm_path = "/v1/models?page_size=1",
                                  .url = url,
                                  .body = body,
                                  .read = read};
