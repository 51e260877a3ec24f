/*
 * load_requests.c: see load_requests.h.
 *
 * The first word has a fixed number of letters, so that Content-Length and the positions stay. Letters rather
 * than digits: tokenizers cut numbers into many tokens. Base 16 of "bcdfghjklmnpqrst" is about as many tokens
 * as a long rare word.
 */
#include "cli/load_requests.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/json_write.h"
#include "cli/workload.h"

#include <stdlib.h>
#include <string.h>

enum { TEMPLATES = 256, SLOT_BYTES = 11, MAX_BYTES = 64 << 20 };
static const char letters[] = "bcdfghjklmnpqrst";

static const struct {
    const char *route, *texts;
} apis[] = {
    [EMB_LOAD_OPENAI] = {"/v1/embeddings", "input"}, [EMB_LOAD_TEI] = {"/embed", "inputs"},
    [EMB_LOAD_EMBEDDER] = {"/embed/batch", "texts"}, [EMB_LOAD_DOCVECTOR] = {"/embed", "texts"},
    [EMB_LOAD_OLLAMA] = {"/api/embed", "input"},
};

const char *emb_load_route(emb_load_api api)
{
    return apis[api].route;
}

static emb_status add_member(emb_buf *out, const char *name, const char *text)
{
    emb_status status = emb_buf_addf(out, "\"%s\":", name);
    if (!status)
        status = emb_json_write_string(out, text, strlen(text));
    return status ? status : emb_buf_add(out, ",", 1);
}

static emb_status add_text(emb_buf *body, const emb_load_shape *shape, uint64_t *random, size_t *slot)
{
    size_t words = shape->words ? shape->words : emb_workload_mixed_length(random, shape->most_words), length;
    emb_status status = emb_buf_add(body, "\"", 1);
    *slot = body->length;
    if (!status)
        status = emb_buf_add(body, "bbbbbbbbbbbbbbbbbbbb", SLOT_BYTES);
    if (!status && words > 1) {
        char *text = emb_workload_text(words - 1, random, &length);
        if (!text)
            return EMB_E_NOMEM;
        if (!(status = emb_buf_add(body, " ", 1)))
            status = emb_buf_add(body, text, length);
        free(text);
    }
    return status ? status : emb_buf_add(body, "\"", 1);
}

static emb_status add_body(emb_buf *body, const emb_load_shape *shape, uint64_t *random, size_t *slots)
{
    emb_status status = emb_buf_add(body, "{", 1);
    bool names_model = shape->api != EMB_LOAD_TEI;
    if (!status && shape->model && names_model)
        status = add_member(body, "model", shape->model);
    if (!status && shape->api == EMB_LOAD_OPENAI)
        status = add_member(body, "encoding_format", shape->floats ? "float" : "base64");
    if (!status)
        status = emb_buf_addf(body, "\"%s\":[", apis[shape->api].texts);
    for (size_t i = 0; i < shape->texts && !status; i++) {
        if (i > 0)
            status = emb_buf_add(body, ",", 1);
        if (!status)
            status = add_text(body, shape, random, &slots[i]);
    }
    return status ? status : emb_buf_add_str(body, "]}");
}

static emb_status add_head(emb_buf *out, const emb_load_shape *shape, size_t body_bytes)
{
    emb_status status = emb_buf_addf(out,
                                     "POST %s%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
                                     "Content-Length: %zu\r\n",
                                     shape->base_path, apis[shape->api].route, shape->host, body_bytes);
    if (!status && shape->api_key)
        status = emb_buf_addf(out, "Authorization: Bearer %s\r\n", shape->api_key);
    return status ? status : emb_buf_add_str(out, "\r\n");
}

static emb_status make(emb_load_template *t, const emb_load_shape *shape, uint64_t *random)
{
    emb_buf body = EMB_BUF_INIT(MAX_BYTES), whole = EMB_BUF_INIT(MAX_BYTES);
    t->slots = calloc(shape->texts, sizeof *t->slots);
    emb_status status = t->slots ? add_body(&body, shape, random, t->slots) : EMB_E_NOMEM;
    if (!status)
        status = add_head(&whole, shape, body.length);
    for (size_t i = 0; i < shape->texts && !status; i++)
        t->slots[i] += whole.length;
    if (!status)
        status = emb_buf_add(&whole, body.data, body.length);
    emb_buf_fini(&body);
    t->bytes = whole.data;
    t->length = whole.length;
    if (status) {
        emb_buf_fini(&whole);
        t->bytes = NULL;
    }
    return status;
}

emb_status emb_load_requests_init(emb_load_requests *q, const emb_load_shape *shape, emb_error *err)
{
    uint64_t random = 0x9E3779B97F4A7C15u;
    size_t total = 0;
    memset(q, 0, sizeof *q);
    q->templates = calloc(TEMPLATES, sizeof *q->templates);
    q->texts = shape->texts;
    q->repeat = shape->repeat;
    emb_status status = q->templates ? EMB_OK : EMB_E_NOMEM;
    while (!status && q->count < TEMPLATES && (q->count == 0 || total < MAX_BYTES)) {
        emb_load_template *t = &q->templates[q->count++];
        status = make(t, shape, &random);
        total += t->length;
        q->largest = t->length > q->largest ? t->length : q->largest;
    }
    size_t places = q->count * shape->texts;
    q->variants = places && shape->distinct > places ? shape->distinct / places : 1;
    if (!status)
        return EMB_OK;
    emb_load_requests_fini(q);
    return status == EMB_E_NOMEM
               ? emb_fail_nomem(err, "requests", MAX_BYTES)
               : emb_fail(err, EMB_E_LIMIT, "texts", "a request would be over %d MiB", MAX_BYTES >> 20);
}

void emb_load_requests_fini(emb_load_requests *q)
{
    for (size_t i = 0; i < q->count; i++) {
        free(q->templates[i].bytes);
        free(q->templates[i].slots);
    }
    free(q->templates);
    memset(q, 0, sizeof *q);
}

static void write_word(char *to, uint64_t number, char first)
{
    *to = first;
    for (int i = SLOT_BYTES - 1; i > 0; i--, number >>= 4)
        to[i] = letters[number & 15];
}

size_t emb_load_request_write(const emb_load_requests *q, uint64_t *random, uint64_t *serial, char *out)
{
    const emb_load_template *t = &q->templates[emb_workload_random(random) % q->count];
    uint64_t border = (uint64_t)(q->repeat * 4294967296.0);
    memcpy(out, t->bytes, t->length);
    for (size_t i = 0; i < q->texts; i++) {
        bool repeat = (emb_workload_random(random) >> 32) < border;
        write_word(out + t->slots[i], repeat ? emb_workload_random(random) % q->variants : (*serial)++,
                   repeat ? 'r' : 'n');
    }
    return t->length;
}
