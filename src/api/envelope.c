/*
 * envelope.c: error bodies. Each family has its own, because its clients read them: the OpenAI libraries take
 * error.message and error.code apart, pydantic users read detail[].loc, text-embeddings-inference's clients
 * switch on error_type. One function per shape; the message is the same everywhere.
 */
#include "api/envelope.h"

#include "base/json_write.h"

#include <stdlib.h>
#include <string.h>

/* OpenAI's own types for these statuses. */
static const char *openai_type(const emb_failure *f)
{
    if (f->status == 401)
        return "invalid_request_error"; /* as OpenAI has it; the code tells */
    if (f->status == 403)
        return "permission_error";
    if (f->status == 429)
        return "rate_limit_error";
    return f->status >= 500 ? "server_error" : "invalid_request_error";
}

static emb_status write_openai(const emb_failure *f, emb_buf *out)
{
    emb_status status = emb_buf_add_str(out, "{\"error\":{");
    if (!status)
        status = emb_json_write_member(out, "message", f->message);
    if (!status)
        status = emb_buf_addf(out, ",\"type\":\"%s\"", openai_type(f));
    if (!status)
        status = emb_json_write_member(out, "param", f->param);
    if (!status)
        status = emb_json_write_member(out, "code", f->code);
    return status ? status : emb_buf_add_str(out, "}}");
}

/* text-embeddings-inference's kinds. */
static const char *server_type(const emb_failure *f)
{
    if (f->code && strcmp(f->code, "empty") == 0)
        return "Empty";
    if (f->code && strcmp(f->code, "tokenizer") == 0)
        return "Tokenizer";
    if (f->status == 503)
        return "Unhealthy";
    if (f->status == 429)
        return "Overloaded";
    return f->status >= 500 || f->status == 424 ? "Backend" : "Validation";
}

static emb_status write_server(const emb_failure *f, emb_buf *out)
{
    emb_status status = emb_buf_add(out, "{", 1);
    if (!status)
        status = emb_json_write_member(out, "error", f->message);
    return status ? status : emb_buf_addf(out, ",\"error_type\":\"%s\"}", server_type(f));
}

static emb_status write_plain(const char *member, const emb_failure *f, emb_buf *out)
{
    emb_status status = emb_buf_add(out, "{", 1);
    if (!status)
        status = emb_json_write_member(out, member, f->message);
    return status ? status : emb_buf_add(out, "}", 1);
}

/* "texts[3]" as "texts",3; "?goal" is a parameter of the query */
static emb_status write_location(const char *param, emb_buf *out)
{
    param = param ? param : "";
    size_t length = strcspn(param, "[");
    const char *bracket = param[length] ? param + length : NULL;
    bool of_header = length > 2 && strncmp(param, "x-", 2) == 0, of_query = length > 1 && param[0] == '?';
    emb_status status = emb_buf_add_str(out, of_header  ? "[\"header\""
                                             : of_query ? "[\"query\""
                                                        : "[\"body\"");
    param += of_query;
    length -= of_query;
    if (!status && length && !(status = emb_buf_add(out, ",", 1)))
        status = emb_json_write_string(out, param, length);
    if (!status && bracket)
        status = emb_buf_addf(out, ",%llu", strtoull(bracket + 1, NULL, 10));
    return status ? status : emb_buf_add(out, "]", 1);
}

static const char *pydantic_type(const emb_failure *f)
{
    if (f->code && strcmp(f->code, "missing") == 0)
        return "missing";
    return f->code && strcmp(f->code, "invalid_json") == 0 ? "json_invalid" : "value_error";
}

static emb_status write_detail(const emb_failure *f, emb_buf *out)
{
    if (f->status != 422)
        return write_plain("detail", f, out);
    emb_status status = emb_buf_add_str(out, "{\"detail\":[{\"loc\":");
    if (!status)
        status = write_location(f->param, out);
    if (!status)
        status = emb_json_write_member(out, "msg", f->message);
    return status ? status : emb_buf_addf(out, ",\"type\":\"%s\"}]}", pydantic_type(f));
}

emb_status emb_envelope_write(emb_family family, const emb_failure *failure, emb_buf *out)
{
    switch (family) {
    case EMB_FAMILY_OPENAI:
        return write_openai(failure, out);
    case EMB_FAMILY_MODEL_SERVER:
        return write_server(failure, out);
    case EMB_FAMILY_OLLAMA:
        return write_plain("error", failure, out);
    case EMB_FAMILY_COHERE:
        return write_plain("message", failure, out);
    case EMB_FAMILY_EMBEDDER:
    case EMB_FAMILY_HYBRID:
        break;
    }
    return write_detail(failure, out);
}

int emb_envelope_field_status(emb_family family)
{
    return family == EMB_FAMILY_EMBEDDER || family == EMB_FAMILY_HYBRID || family == EMB_FAMILY_MODEL_SERVER
               ? 422
               : 400;
}

const char *emb_family_name(emb_family family)
{
    static const char *const names[] = {"OpenAI", "Embedder service", "Model server",
                                        "Ollama", "Cohere",           "Hybrid system"};
    return family <= EMB_FAMILY_HYBRID ? names[family] : "";
}

const char *emb_envelope_schema(emb_family family)
{
    switch (family) {
    case EMB_FAMILY_OPENAI:
        return "{\"type\":\"object\",\"required\":[\"error\"],\"properties\":{\"error\":{\"type\":\"object\","
               "\"required\":[\"message\",\"type\",\"param\",\"code\"],\"properties\":{"
               "\"message\":{\"type\":\"string\"},\"type\":{\"type\":\"string\"},"
               "\"param\":{\"type\":[\"string\",\"null\"]},\"code\":{\"type\":[\"string\",\"null\"]}}}}}";
    case EMB_FAMILY_MODEL_SERVER:
        return "{\"type\":\"object\",\"required\":[\"error\",\"error_type\"],\"properties\":{"
               "\"error\":{\"type\":\"string\"},\"error_type\":{\"enum\":[\"Unhealthy\",\"Backend\","
               "\"Overloaded\","
               "\"Validation\",\"Tokenizer\",\"Empty\"]}}}";
    case EMB_FAMILY_OLLAMA:
        return "{\"type\":\"object\",\"required\":[\"error\"],\"properties\":{\"error\":{\"type\":\"string\"}"
               "}}";
    case EMB_FAMILY_COHERE:
        return "{\"type\":\"object\",\"required\":[\"message\"],\"properties\":{\"message\":{\"type\":"
               "\"string\"}}}";
    case EMB_FAMILY_EMBEDDER:
    case EMB_FAMILY_HYBRID:
        break;
    }
    return "{\"type\":\"object\",\"required\":[\"detail\"],\"properties\":{\"detail\":{\"oneOf\":["
           "{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"loc\","
           "\"msg\","
           "\"type\"],\"properties\":{\"loc\":{\"type\":\"array\",\"items\":{\"type\":[\"string\","
           "\"integer\"]}},"
           "\"msg\":{\"type\":\"string\"},\"type\":{\"type\":\"string\"}}}}]}}}";
}
