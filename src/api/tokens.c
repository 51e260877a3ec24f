/*
 * tokens.c: texts to tokens and back, as text-embeddings-inference has it.
 *
 * A token's `text` is the piece of the input that it stands for, between the bytes `start` and `stop`; of a
 * special token it is the token itself, with null for both. With prompt_name the prompt goes before the text
 * and offsets count from its beginning. Nothing is truncated. Work is done on a worker, text by text, and
 * ends when the client has left.
 */
#include "api/model_server.h"

#include "api/decode.h"
#include "api/out.h"
#include "engine/detokenize.h"

#include <stdio.h>
#include <string.h>

static const size_t largest_answer = (size_t)256 << 20;

/* ---- /tokenize ---- */

static const char *prompt_named(emb_api_call *call, const emb_served *m, const char *name)
{
    char known[240] = "";
    const char *each, *text;
    size_t at = 0;
    for (size_t i = 0; emb_model_prompt(m->model, i, &each, &text); i++) {
        if (strcmp(each, name) == 0)
            return text;
        if (at < sizeof known)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", each);
    }
    emb_call_fail_field(call, "prompt_name", "\"%.60s\" is not a prompt of %.100s; it has %s.", name, m->name,
                        known[0] ? known : "none");
    return NULL;
}

static void write_token(emb_out *o, const emb_model *model, const emb_token *token, const emb_text *text)
{
    size_t length;
    emb_out_open(o, NULL, '{');
    emb_out_count(o, "id", (uint64_t)token->id);
    if (token->special) {
        const char *name = emb_token_text(model, token->id, &length);
        emb_out_bytes(o, "text", name ? name : "", name ? length : 0);
        emb_out_bool(o, "special", true);
        emb_out_null(o, "start");
        emb_out_null(o, "stop");
    } else {
        emb_out_bytes(o, "text", text->data + token->start, token->end - token->start);
        emb_out_bool(o, "special", false);
        emb_out_count(o, "start", token->start);
        emb_out_count(o, "stop", token->end);
    }
    emb_out_close(o, '}');
}

/* prompt and text in one piece; `joined` keeps it */
static emb_status join(emb_buf *joined, const char *prompt, const emb_text *text, emb_text *out)
{
    emb_buf_clear(joined);
    emb_status status = emb_buf_add_str(joined, prompt);
    if (!status)
        status = emb_buf_add(joined, text->data, text->length);
    *out = (emb_text){joined->data, joined->length};
    return status;
}

static emb_status tokenize_one(emb_out *o, emb_model *model, const emb_text *text, bool add_special,
                               emb_error *err)
{
    emb_tokens tokens;
    emb_status status = emb_tokenize(model, text->data, text->length, add_special, 0, &tokens, err);
    if (status)
        return status;
    emb_out_open(o, NULL, '[');
    for (size_t i = 0; i < tokens.count; i++)
        write_token(o, model, &tokens.data[i], text);
    emb_out_close(o, ']');
    emb_tokens_free(&tokens);
    return EMB_OK;
}

static void tokenize_on_worker(emb_api_call *call)
{
    const emb_request *r = &call->request;
    bool add_special = call->state == NULL;
    emb_served *m = emb_call_model(call, r->model);
    const char *prompt = "";
    if (!m || (r->prompt_name && !(prompt = prompt_named(call, m, r->prompt_name))))
        return;
    emb_buf joined = EMB_BUF_INIT(largest_answer);
    emb_status status = EMB_OK;
    emb_error err;
    emb_out o;
    emb_out_begin(&o, call);
    o.body.maximum = largest_answer;
    emb_out_open(&o, NULL, '[');
    for (size_t i = 0; i < r->count && !status && !o.status && !*emb_exchange_gone(call->x); i++) {
        emb_text text = r->texts[i];
        o.status = *prompt ? join(&joined, prompt, &r->texts[i], &text) : EMB_OK;
        if (!o.status)
            status = tokenize_one(&o, m->model, &text, add_special, &err);
    }
    emb_out_close(&o, ']');
    emb_buf_fini(&joined);
    if (!status) {
        emb_out_reply(&o, call, NULL);
        return;
    }
    emb_buf_fini(&o.body);
    emb_call_fail_error(call, &err);
}

static void tokenize(emb_api_call *call)
{
    emb_json_value root;
    bool add_special = true;
    emb_request *r = &call->request;
    if (!emb_call_json(call, &root) ||
        !emb_decode_texts(call, root, "inputs", EMB_TEXTS_ONE | EMB_TEXTS_MANY | EMB_TEXTS_NOT_ZERO, r,
                          NULL) ||
        !emb_decode_model(call, root, r) || !emb_decode_name(call, root, "prompt_name", &r->prompt_name) ||
        !emb_decode_bool(call, root, "add_special_tokens", &add_special))
        return;
    call->state = add_special ? NULL : call; /* a mark, no more */
    emb_call_park(call, tokenize_on_worker);
}

/* ---- /decode ---- */

static void decode_on_worker(emb_api_call *call)
{
    const emb_request *r = &call->request;
    emb_served *m = emb_call_model(call, r->model);
    if (!m)
        return;
    emb_buf text = EMB_BUF_INIT(largest_answer);
    emb_out o;
    emb_out_begin(&o, call);
    o.body.maximum = largest_answer;
    emb_out_open(&o, NULL, '[');
    for (size_t i = 0; i < r->count && !o.status && !*emb_exchange_gone(call->x); i++) {
        emb_buf_clear(&text);
        o.status = emb_model_detokenize(m->model, r->ids + r->offsets[i], r->offsets[i + 1] - r->offsets[i],
                                        call->state == NULL, &text);
        if (!o.status)
            emb_out_bytes(&o, NULL, text.data ? text.data : "", text.length);
    }
    emb_out_close(&o, ']');
    emb_buf_fini(&text);
    emb_out_reply(&o, call, NULL);
}

static void decode(emb_api_call *call)
{
    emb_json_value root;
    bool skip_special = true;
    emb_request *r = &call->request;
    if (!emb_call_json(call, &root) || !emb_decode_texts(call, root, "ids", EMB_TEXTS_IDS, r, NULL))
        return;
    if (!r->ids) {
        emb_call_fail_field(call, "ids",
                            "must be an array of token ids, or an array of such arrays; it holds strings.");
        return;
    }
    if (!emb_decode_model(call, root, r) ||
        !emb_decode_bool(call, root, "skip_special_tokens", &skip_special))
        return;
    call->state = skip_special ? NULL : call;
    emb_call_park(call, decode_on_worker);
}

/* ---- the table ---- */

#define MODEL_MEMBER \
    "\"model\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024,\"examples\":[\"all-MiniLM-L6-v2\"]}"
#define TOKENIZE_REQUEST                                                                                     \
    "{\"type\":\"object\",\"required\":[\"inputs\"],\"properties\":{\"inputs\":{\"anyOf\":[{\"type\":"       \
    "\"string\","                                                                                            \
    "\"minLength\":1},{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"string\",\"minLength\":1}}]," \
    "\"examples\":["                                                                                         \
    "\"Hello "                                                                                               \
    "world\"]},\"add_special_tokens\":{\"type\":[\"boolean\",\"null\"],\"default\":true},\"prompt_name\":"   \
    "{\"type\":[\"string\",\"null\"],\"maxLength\":1024}," MODEL_MEMBER "}}"
#define OFFSET "{\"type\":[\"integer\",\"null\"],\"minimum\":0}"
#define TOKENIZE_ANSWER                                                                                      \
    "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"id\"," \
    "\"text\","                                                                                              \
    "\"special\",\"start\",\"stop\"],\"properties\":{\"id\":{\"type\":\"integer\"},\"text\":{\"type\":"      \
    "\"string\"},"                                                                                           \
    "\"special\":{\"type\":\"boolean\"},\"start\":" OFFSET ",\"stop\":" OFFSET "}}}}"
#define DECODE_REQUEST                                                                                \
    "{\"type\":\"object\",\"required\":[\"ids\"],\"properties\":{\"ids\":{\"anyOf\":[" EMB_SERVER_IDS \
    ",{\"type\":\"array\",\"minItems\":1,\"items\":" EMB_SERVER_IDS                                   \
    "}],\"examples\":[[101,7592,2088,102]]},"                                                         \
    "\"skip_special_tokens\":{\"type\":[\"boolean\",\"null\"],\"default\":true}," MODEL_MEMBER "}}"

const emb_route emb_routes_tokens[] = {{EMB_HTTP_POST, "/tokenize", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY,
                                        EMB_RIGHT_USE, tokenize, "Texts to tokens.", TOKENIZE_REQUEST,
                                        TOKENIZE_ANSWER, NULL, NULL},
                                       {EMB_HTTP_POST, "/decode", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY,
                                        EMB_RIGHT_USE, decode, "Token ids to texts.", DECODE_REQUEST,
                                        "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}", NULL, NULL},
                                       {0}};
