/*
 * wire_embedd.c: another embedd, by its hybrid route, because that one tells the space: if one is pinned, the
 * answer must be of it, whatever the other side's configuration has become. Otherwise what it says is handed
 * on; all parts of a call must say the same. Its cache is used; what it says of tokens is what it counted,
 * hits included.
 */
#include "base/error.h"
#include "provider/wire.h"

#include <string.h>

static emb_status url(const emb_provider_config *config, const char *model, emb_buf *out)
{
    (void)model;
    return emb_wire_url(config, "/api/v1/embeddings", NULL, false, "", out);
}

static const char *truncation(emb_truncation t)
{
    return t == EMB_TRUNCATE_NONE    ? "none"
           : t == EMB_TRUNCATE_LEFT  ? "start"
           : t == EMB_TRUNCATE_RIGHT ? "end"
                                     : NULL;
}

static emb_status body(const emb_wire_request *request, emb_buf *out)
{
    const emb_provider_call *c = request->call;
    emb_status status = emb_wire_text(out, "model", c->model);
    if (!status)
        status = emb_wire_texts(out, "texts", request);
    if (!status && c->role != EMB_ROLE_NONE)
        status = emb_wire_text(out, "input_type", c->role == EMB_ROLE_QUERY ? "query" : "document");
    if (!status)
        status = emb_wire_number(out, "dimensions", c->dimensions);
    if (!status)
        status = emb_wire_switch(out, "normalize", c->normalize);
    if (!status)
        status = emb_wire_text(out, "truncate", truncation(c->truncation));
    if (!status)
        status = emb_wire_text(out, "prompt_name", c->prompt_name);
    if (!status)
        status = emb_wire_text(out, "space", c->space);
    return status ? status : emb_wire_end(out);
}

static void read_space(emb_json_value root, emb_wire_answer *answer)
{
    emb_json_value space;
    const char *text;
    size_t length;
    answer->space[0] = 0;
    if (!emb_json_get(root, "space", &space) || !emb_json_string(space, &text, &length) ||
        length >= sizeof answer->space || memchr(text, 0, length))
        return;
    memcpy(answer->space, text, length);
    answer->space[length] = 0;
}

static emb_status check_space(const emb_wire_request *request, emb_json_value root, emb_wire_answer *answer,
                              emb_error *err)
{
    const char *pinned = request->call->space;
    read_space(root, answer);
    if (!pinned || !*pinned || strcmp(answer->space, pinned) == 0)
        return EMB_OK;
    answer->other_space = true;
    return emb_fail(err, EMB_E_PROVIDER, "space", "the answer's vectors are not of the space \"%.120s\"",
                    pinned);
}

static emb_status read(const emb_wire_request *request, emb_json_value root, emb_wire_answer *answer,
                       emb_error *err)
{
    emb_json_value rows;
    emb_status status = check_space(request, root, answer, err);
    if (!status)
        status = emb_wire_member(root, "embeddings", &rows, err);
    if (!status)
        status = emb_vectors_put_all(&answer->vectors, rows, err);
    emb_wire_usage(root, "total_tokens", answer);
    return status;
}

const emb_wire emb_wire_embedd = {.max_texts = 1024,
                                  .max_body_bytes = 8u << 20,
                                  .key_header = "Authorization: Bearer ",
                                  .warm_path = "/health",
                                  .url = url,
                                  .body = body,
                                  .read = read};
