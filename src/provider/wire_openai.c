/*
 * wire_openai.c: POST /embeddings of OpenAI and everything that speaks like it; Azure's deployments differ in
 * address and the header of the key alone.
 *
 * base64 is asked for by default: an answer is a third the size and exact. Servers that do not know
 * encoding_format answer with numbers, which are taken as well. Items carry an index; one that has none
 * stands at its place in the list. Lists of token ids go out as they came, always as a list of lists.
 */
#include "base/error.h"
#include "provider/wire.h"

static emb_status url_openai(const emb_provider_config *config, const char *model, emb_buf *out)
{
    (void)model;
    return emb_wire_url(config, "/embeddings", NULL, false, "", out);
}

static emb_status url_azure(const emb_provider_config *config, const char *model, emb_buf *out)
{
    emb_status status =
        emb_wire_url(config, "/openai/deployments/", model, false, "/embeddings?api-version=", out);
    emb_provider_config version = *config; /* the version is percent-encoded by the same function */
    version.base_url = "";
    return status ? status
                  : emb_wire_url(&version, "", *config->api_version ? config->api_version : "2024-10-21",
                                 false, "", out);
}

static emb_status write_body(const emb_wire_request *request, bool with_model, emb_buf *out)
{
    const emb_provider_call *c = request->call;
    emb_status status = with_model ? emb_wire_text(out, "model", c->model) : EMB_OK;
    if (!status)
        status = emb_wire_input(out, "input", request);
    if (!status)
        status = emb_wire_text(out, "encoding_format", request->config->base64 ? "base64" : "float");
    if (!status)
        status = emb_wire_number(out, "dimensions", c->dimensions);
    if (!status)
        status = emb_wire_text(out, "user", c->user);
    return status ? status : emb_wire_end(out);
}

static emb_status body_openai(const emb_wire_request *request, emb_buf *out)
{
    return write_body(request, true, out);
}

static emb_status body_azure(const emb_wire_request *request, emb_buf *out)
{
    return write_body(request, false, out);
}

/* Where the item goes: its index, or its place in the list. All items say it or none does: in a mixture
 * nobody can know. */
static emb_status find_index(emb_json_value item, int64_t position, size_t *numbered, int64_t *index,
                             emb_error *err)
{
    emb_json_value value;
    *index = position;
    if (emb_json_get(item, "index", &value) && emb_json_type_of(value) != EMB_JSON_NULL) {
        if (!emb_json_int(value, index))
            return emb_fail(err, EMB_E_PROVIDER, "index", "the answer has an index that is not an integer");
        ++*numbered;
    }
    if (*numbered != 0 && *numbered != (size_t)position + 1)
        return emb_fail(err, EMB_E_PROVIDER, "index",
                        "the answer has vectors with an index and vectors without");
    return EMB_OK;
}

static emb_status read_items(emb_json_value data, emb_wire_answer *answer, emb_error *err)
{
    emb_json_value item, embedding;
    emb_json_iter it = emb_json_begin(data);
    emb_status status = EMB_OK;
    size_t numbered = 0;
    int64_t index;
    for (int64_t i = 0; !status && emb_json_next(&it, NULL, NULL, &item); i++) {
        status = emb_wire_member(item, "embedding", &embedding, err);
        if (!status)
            status = find_index(item, i, &numbered, &index, err);
        if (!status)
            status = emb_vectors_put(&answer->vectors, index, embedding, err);
    }
    return status;
}

static emb_status read(const emb_wire_request *request, emb_json_value root, emb_wire_answer *answer,
                       emb_error *err)
{
    emb_json_value data, usage;
    (void)request;
    emb_status status = emb_wire_member(root, "data", &data, err);
    if (status)
        return status;
    if (emb_json_type_of(data) != EMB_JSON_ARRAY)
        return emb_fail(err, EMB_E_PROVIDER, "data", "the answer's \"data\" is not an array");
    status = read_items(data, answer, err);
    if (!status && emb_json_get(root, "usage", &usage)) {
        emb_wire_usage(usage, "prompt_tokens", answer);
        emb_wire_usage(usage, "total_tokens", answer);
    }
    return status;
}

/* 300,000 tokens a request; ours may be estimates, so some are left free. */
const emb_wire emb_wire_openai = {.max_texts = 2048,
                                  .max_tokens = 270000,
                                  .max_body_bytes = 16u << 20,
                                  .key_header = "Authorization: Bearer ",
                                  .takes_ids = true,
                                  .warm_path = "/models",
                                  .url = url_openai,
                                  .body = body_openai,
                                  .read = read};
const emb_wire emb_wire_azure = {.max_texts = 2048,
                                 .max_tokens = 270000,
                                 .max_body_bytes = 16u << 20,
                                 .key_header = "api-key: ",
                                 .takes_ids = true,
                                 .warm_path = "/",
                                 .url = url_azure,
                                 .body = body_azure,
                                 .read = read};
