/*
 * embed_all.c: /embed_all, the vectors of all tokens of a text, as text-embeddings-inference has it.
 *
 * They are the last layer's states, special tokens included, neither pooled nor normalised; not kept in the
 * cache, being hundreds of times what a text's vector is. Texts are computed a few at a time, so that memory
 * stays that of CHUNK_TOKENS and of the answer, which has a limit of its own, and so that deadline and client
 * are looked at between them.
 */
#include "api/model_server.h"

#include "api/decode.h"
#include "api/out.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_TOKENS = 4096 };
static const size_t largest_answer = (size_t)256 << 20;

/* The engine speaks of a text of its chunk; the client's place goes into the error instead. */
static void place_error(emb_error *err, size_t first)
{
    const char *bracket = strchr(err->where, '[');
    if (!bracket)
        return;
    size_t index = first + strtoul(bracket + 1, NULL, 10);
    snprintf(err->where, sizeof err->where, "input[%zu]", index);
    emb_error_context(err, "input[%zu]", index);
}

static void write_texts(emb_out *o, const emb_token_vectors *v)
{
    for (size_t i = 0; i < v->count; i++)
        emb_out_rows(o, NULL, v->vectors + v->offsets[i] * v->dimension, v->offsets[i + 1] - v->offsets[i],
                     v->dimension);
}

/* Texts first .. first+count-1 of the request. */
static emb_status embed_some(const emb_request *r, emb_model *model, size_t first, size_t count, emb_out *o,
                             uint64_t *tokens, emb_error *err)
{
    emb_token_vectors v;
    emb_usage usage = EMB_USAGE_INIT;
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
    uint64_t now = emb_now_ns();
    if (now >= r->deadline_ns)
        return emb_fail(err, EMB_E_DEADLINE, NULL,
                        "the time for the request has passed (server.request_timeout_ms)");
    options.prompt_name = r->prompt_name;
    options.truncation = r->truncation;
    options.priority = r->priority;
    options.cancel = r->cancel;
    options.timeout_ms = (int64_t)((r->deadline_ns - now) / 1000000) + 1;
    emb_status status =
        emb_model_embed_tokens(model, r->texts ? r->texts + first : NULL, r->ids,
                               r->texts ? NULL : r->offsets + first, count, &options, &v, &usage, err);
    if (status) {
        place_error(err, first);
        return status;
    }
    *tokens += usage.tokens;
    write_texts(o, &v);
    emb_token_vectors_fini(&v);
    return EMB_OK;
}

static void embed_on_worker(emb_api_call *call)
{
    const emb_request *r = &call->request;
    emb_served *m = emb_call_model(call, r->model);
    emb_status status = EMB_OK;
    emb_error err;
    uint64_t tokens = 0;
    if (!m)
        return;
    size_t chunk = CHUNK_TOKENS / m->info.max_tokens ? CHUNK_TOKENS / m->info.max_tokens : 1;
    emb_out o;
    emb_out_begin(&o, call);
    o.body.maximum = largest_answer;
    emb_out_open(&o, NULL, '[');
    for (size_t i = 0; i < r->count && !status && !o.status; i += chunk)
        status = embed_some(r, m->model, i, r->count - i < chunk ? r->count - i : chunk, &o, &tokens, &err);
    emb_out_close(&o, ']');
    emb_models_used(emb_service_models(call->service), m);
    emb_series_add(m->series.tokens, (double)tokens);
    if (call->caller)
        emb_caller_count_tokens(call->caller, tokens, emb_now_ns());
    if (!status) {
        emb_out_reply(&o, call, NULL);
        return;
    }
    emb_buf_fini(&o.body);
    emb_call_fail_error(call, &err);
}

void emb_server_embed_all(emb_api_call *call)
{
    emb_json_value root;
    emb_request *r = &call->request;
    unsigned kinds = EMB_TEXTS_ONE | EMB_TEXTS_MANY | EMB_TEXTS_IDS | EMB_TEXTS_NOT_ZERO;
    *r = (emb_request)EMB_REQUEST_INIT;
    if (!emb_call_json(call, &root) || !emb_call_headers(call, r) ||
        !emb_decode_texts(call, root, "inputs", kinds, r, NULL) || !emb_server_options(call, root, r))
        return;
    if (r->dimensions)
        emb_call_fail_field(call, "dimensions",
                            "has no meaning here: vectors of tokens cannot be shortened.");
    else
        emb_call_park(call, embed_on_worker);
}
