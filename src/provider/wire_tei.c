/*
 * wire_tei.c: text-embeddings-inference's /embed {inputs}, which answers the bare rows. It refuses more than
 * 32 texts and 2,000,000 bytes unless its operator said otherwise, and counts tokens in a header.
 */
#include "base/error.h"
#include "provider/wire.h"

static emb_status url(const emb_provider_config *config, const char *model, emb_buf *out)
{
    (void)model; /* a server has one model */
    return emb_wire_url(config, "/embed", NULL, false, "", out);
}

static emb_status body(const emb_wire_request *request, emb_buf *out)
{
    const emb_provider_call *c = request->call;
    bool cuts = c->truncation == EMB_TRUNCATE_LEFT || c->truncation == EMB_TRUNCATE_RIGHT;
    emb_status status = emb_wire_texts(out, "inputs", request);
    if (!status && c->truncation != EMB_TRUNCATE_MODEL)
        status = emb_wire_switch(out, "truncate", cuts ? EMB_ON : EMB_OFF);
    if (!status && cuts)
        status =
            emb_wire_text(out, "truncation_direction", c->truncation == EMB_TRUNCATE_LEFT ? "Left" : "Right");
    if (!status)
        status = emb_wire_switch(out, "normalize", c->normalize);
    if (!status)
        status = emb_wire_text(out, "prompt_name", c->prompt_name);
    if (!status)
        status = emb_wire_number(out, "dimensions", c->dimensions);
    return status ? status : emb_wire_end(out);
}

static emb_status read(const emb_wire_request *request, emb_json_value root, emb_wire_answer *answer,
                       emb_error *err)
{
    (void)request;
    return emb_vectors_put_all(&answer->vectors, root, err);
}

const emb_wire emb_wire_tei = {.max_texts = 32,
                               .max_body_bytes = 2000000,
                               .key_header = "Authorization: Bearer ",
                               .warm_path = "/health",
                               .token_header = true,
                               .url = url,
                               .body = body,
                               .read = read};
