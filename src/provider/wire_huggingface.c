/*
 * wire_huggingface.c: the Inference API's feature-extraction.
 *
 * Three shapes of answer are in use: rows, for one text the bare row, and for models without a pooling layer
 * a row for each token, of which the mean is taken here as sentence-transformers does without further word
 * from the model. Texts go as a list even if there is one, so that the shape tells which of them it is.
 */
#include "base/error.h"
#include "provider/wire.h"

static emb_status url(const emb_provider_config *config, const char *model, emb_buf *out)
{
    return emb_wire_url(config, "/models/", model, true, "/pipeline/feature-extraction", out);
}

static emb_status body(const emb_wire_request *request, emb_buf *out)
{
    return emb_wire_tei.body(request, out); /* the API is served by that program's schema */
}

static emb_json_type first_type(emb_json_value array, emb_json_value *first)
{
    emb_json_iter it = emb_json_begin(array);
    return emb_json_next(&it, NULL, NULL, first) ? emb_json_type_of(*first) : EMB_JSON_NULL;
}

static emb_status read_tokens(const emb_wire_request *request, emb_json_value root, emb_wire_answer *answer,
                              emb_error *err)
{
    emb_json_iter it = emb_json_begin(root);
    emb_json_value tokens;
    emb_status status = EMB_OK;
    for (int64_t i = 0; !status && emb_json_next(&it, NULL, NULL, &tokens); i++)
        status = emb_vectors_put_tokens(&answer->vectors, i, tokens, request->call->normalize == EMB_ON, err);
    return status;
}

static emb_status read(const emb_wire_request *request, emb_json_value root, emb_wire_answer *answer,
                       emb_error *err)
{
    emb_json_value first, second;
    if (emb_json_type_of(root) == EMB_JSON_ARRAY) {
        emb_json_type type = first_type(root, &first);
        if (type == EMB_JSON_NUMBER && request->count == 1)
            return emb_vectors_put(&answer->vectors, 0, root, err);
        if (type == EMB_JSON_ARRAY && first_type(first, &second) == EMB_JSON_ARRAY)
            return read_tokens(request, root, answer, err);
    }
    return emb_vectors_put_all(&answer->vectors, root, err);
}

const emb_wire emb_wire_huggingface = {.max_texts = 32,
                                       .max_body_bytes = 2000000,
                                       .key_header = "Authorization: Bearer ",
                                       .warm_path = "/",
                                       .token_header = true,
                                       .url = url,
                                       .body = body,
                                       .read = read};
