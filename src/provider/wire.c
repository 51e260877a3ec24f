/*
 * wire.c: the table of kinds and the pieces that they share.
 *
 * Bodies are written straight into the buffer that is sent: a text is copied once. The pieces know by the
 * buffer's length whether a comma is due, so that an optional member costs its line and nothing else.
 */
#include "provider/wire.h"

#include "base/error.h"
#include "base/json_write.h"

#include <stdio.h>
#include <string.h>

const emb_wire *emb_wire_of(emb_provider_kind kind)
{
    static const emb_wire *const table[EMB_PROVIDER_KINDS] = {
        [EMB_PROVIDER_OPENAI] = &emb_wire_openai,           [EMB_PROVIDER_AZURE] = &emb_wire_azure,
        [EMB_PROVIDER_HUGGINGFACE] = &emb_wire_huggingface, [EMB_PROVIDER_COHERE] = &emb_wire_cohere,
        [EMB_PROVIDER_OLLAMA] = &emb_wire_ollama,           [EMB_PROVIDER_TEI] = &emb_wire_tei,
        [EMB_PROVIDER_REMOTE] = &emb_wire_remote,           [EMB_PROVIDER_EMBEDD] = &emb_wire_embedd,
    };
    return (unsigned)kind < EMB_PROVIDER_KINDS ? table[kind] : NULL;
}

/* ---- writing ---- */

emb_status emb_wire_raw(emb_buf *out, const char *name, const char *json)
{
    return emb_buf_addf(out, "%c\"%s\":%s", out->length ? ',' : '{', name, json);
}

emb_status emb_wire_text(emb_buf *out, const char *name, const char *value)
{
    if (!value || !*value)
        return EMB_OK;
    emb_status status = emb_wire_raw(out, name, "");
    return status ? status : emb_json_write_string(out, value, strlen(value));
}

emb_status emb_wire_number(emb_buf *out, const char *name, size_t value)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%zu", value);
    return value ? emb_wire_raw(out, name, digits) : EMB_OK;
}

emb_status emb_wire_switch(emb_buf *out, const char *name, emb_switch value)
{
    return value == EMB_DEFAULT ? EMB_OK : emb_wire_raw(out, name, value == EMB_ON ? "true" : "false");
}

emb_status emb_wire_texts(emb_buf *out, const char *name, const emb_wire_request *request)
{
    emb_status status = emb_wire_raw(out, name, "[");
    for (size_t i = 0; i < request->count && !status; i++) {
        if (i)
            status = emb_buf_add(out, ",", 1);
        if (!status)
            status = emb_json_write_string(out, request->texts[i].data, request->texts[i].length);
    }
    return status ? status : emb_buf_add(out, "]", 1);
}

static emb_status add_ids(emb_buf *out, const int32_t *ids, size_t count)
{
    emb_status status = emb_buf_add(out, "[", 1);
    for (size_t i = 0; i < count && !status; i++)
        status = emb_buf_addf(out, i ? ",%d" : "%d", (int)ids[i]);
    return status ? status : emb_buf_add(out, "]", 1);
}

emb_status emb_wire_input(emb_buf *out, const char *name, const emb_wire_request *request)
{
    const size_t *offsets = request->offsets;
    if (!offsets)
        return emb_wire_texts(out, name, request);
    emb_status status = emb_wire_raw(out, name, "[");
    for (size_t i = 0; i < request->count && !status; i++) {
        if (i)
            status = emb_buf_add(out, ",", 1);
        if (!status)
            status = add_ids(out, request->call->ids + offsets[i], offsets[i + 1] - offsets[i]);
    }
    return status ? status : emb_buf_add(out, "]", 1);
}

emb_status emb_wire_end(emb_buf *out)
{
    return emb_buf_add(out, "}", 1);
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~", c));
}

static emb_status add_encoded(emb_buf *out, const char *text, bool keep_slashes)
{
    emb_status status = EMB_OK;
    for (; *text && !status; text++)
        status = is_unreserved(*text) || (keep_slashes && *text == '/')
                     ? emb_buf_add(out, text, 1)
                     : emb_buf_addf(out, "%%%02X", (unsigned char)*text);
    return status;
}

emb_status emb_wire_url(const emb_provider_config *config, const char *before, const char *part,
                        bool keep_slashes, const char *after, emb_buf *out)
{
    size_t n = strlen(config->base_url);
    while (n > 0 && config->base_url[n - 1] == '/')
        n--;
    emb_status status = emb_buf_add(out, config->base_url, n);
    if (!status)
        status = emb_buf_add_str(out, before);
    if (!status && part)
        status = add_encoded(out, part, keep_slashes);
    return status ? status : emb_buf_add_str(out, after);
}

/* ---- reading ---- */

void emb_wire_usage(emb_json_value object, const char *name, emb_wire_answer *answer)
{
    emb_json_value value;
    double n;
    if (emb_json_get(object, name, &value) && emb_json_double(value, &n) && n >= 0 && n < 1e15) {
        answer->tokens = (uint64_t)n;
        answer->tokens_known = true;
    }
}

emb_status emb_wire_member(emb_json_value root, const char *name, emb_json_value *out, emb_error *err)
{
    if (emb_json_get(root, name, out))
        return EMB_OK;
    return emb_fail(err, EMB_E_PROVIDER, name, "the answer has no \"%s\"", name);
}

emb_status emb_wire_read(const emb_wire *wire, const emb_wire_request *request, const char *body,
                         size_t length, emb_wire_answer *answer, bool *is_json, emb_error *err)
{
    emb_json *doc;
    emb_error inner = {0};
    emb_status status = emb_json_open(body, length, "answer", &doc, &inner);
    *is_json = status == EMB_OK;
    if (status == EMB_E_NOMEM)
        return emb_fail_nomem(err, "an answer", length);
    if (status) /* the parser's message could quote the body */
        return emb_fail(err, EMB_E_PROVIDER, "answer", "the answer of %zu bytes is not JSON", length);
    status = wire->read(request, emb_json_root(doc), answer, err);
    if (!status)
        status = emb_vectors_check(&answer->vectors, err);
    emb_json_close(doc);
    return status;
}
