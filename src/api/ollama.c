/*
 * ollama.c: Ollama's embed and what its client needs besides.
 *
 * Names may carry a tag, "all-minilm:latest": a tag of "latest" is dropped, since directories have none.
 * keep_alive is checked and has no effect: the service decides what stays in memory (models.memory,
 * models.unload_seconds). Durations are in nanoseconds. prompt_eval_count counts tokens that were embedded,
 * cached texts included, as Ollama's own counts what it read.
 */
#include "api/decode.h"
#include "api/encode.h"
#include "base/json_write.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *without_latest(emb_api_call *call, const char *name)
{
    size_t length = name ? strlen(name) : 0;
    if (length <= 7 || strcmp(name + length - 7, ":latest") != 0)
        return name;
    const char *copy = emb_arena_strndup(call->arena, name, length - 7);
    return copy ? copy : name;
}

/* Ollama refuses a request without a model; so do we, as its clients always send one. */
static bool decode_model(emb_api_call *call, emb_json_value root, emb_request *r)
{
    if (!emb_decode_model(call, root, r))
        return false;
    if (!r->model && !emb_decode_name(call, root, "name", &r->model))
        return false;
    if (!r->model || !*r->model) {
        emb_call_fail_missing(call, "model");
        return false;
    }
    r->model = without_latest(call, r->model);
    return true;
}

static bool check_keep_alive(emb_api_call *call, emb_json_value root)
{
    emb_json_value value;
    if (!emb_json_get(root, "keep_alive", &value))
        return true;
    emb_json_type type = emb_json_type_of(value);
    if (type == EMB_JSON_STRING || type == EMB_JSON_NUMBER || type == EMB_JSON_NULL)
        return true;
    emb_call_fail_field(call, "keep_alive", "must be a duration such as \"5m\", or seconds; it is %s.",
                        emb_json_type_name(type));
    return false;
}

static bool check_options(emb_api_call *call, emb_json_value root)
{
    emb_json_value value;
    if (!emb_json_get(root, "options", &value) || emb_json_type_of(value) == EMB_JSON_NULL ||
        emb_json_type_of(value) == EMB_JSON_OBJECT)
        return true;
    emb_call_fail_field(call, "options", "must be an object; it is %s.",
                        emb_json_type_name(emb_json_type_of(value)));
    return false;
}

/* ---- embed ---- */

static void write_embeddings(emb_api_call *call, const emb_answer *a)
{
    emb_buf body;
    emb_call_body(call, &body);
    emb_status status = emb_buf_add_str(&body, "{\"model\":");
    const char *name = call->state ? call->state : a->model;
    if (!status)
        status = emb_json_write_string(&body, name, strlen(name));
    if (!status)
        status = emb_buf_add_str(&body, ",\"embeddings\":");
    if (!status)
        status = emb_encode_rows(&body, a->vectors, a->count, a->dimension);
    if (!status)
        status =
            emb_buf_addf(&body, ",\"total_duration\":%llu,\"load_duration\":0,\"prompt_eval_count\":%zu}",
                         (unsigned long long)a->total_ns, a->total_tokens);
    emb_call_finish(call, a, &body, status);
}

/* The name as it was sent goes back: Ollama's clients compare. */
static void keep_name(emb_api_call *call, emb_json_value root)
{
    const char *name = NULL;
    emb_json_value value;
    size_t length;
    if (emb_json_get(root, "model", &value) && emb_json_string(value, &name, &length))
        call->state = emb_arena_strndup(call->arena, name, length);
}

static void embed(emb_api_call *call)
{
    emb_request r = EMB_REQUEST_INIT;
    emb_json_value root;
    if (!emb_call_json(call, &root) || !emb_call_headers(call, &r) ||
        !emb_decode_texts(call, root, "input", EMB_TEXTS_ONE | EMB_TEXTS_MANY | EMB_TEXTS_EMPTY_LIST, &r,
                          NULL) ||
        !emb_decode_common(call, root, &r) || !decode_model(call, root, &r) ||
        !check_keep_alive(call, root) || !check_options(call, root))
        return;
    keep_name(call, root);
    emb_call_embed(call, &r, write_embeddings);
}

static void write_legacy(emb_api_call *call, const emb_answer *a)
{
    emb_buf body;
    emb_call_body(call, &body);
    emb_status status = emb_buf_add_str(&body, "{\"embedding\":");
    if (!status)
        status = emb_encode_floats(&body, a->vectors, a->dimension);
    emb_call_finish(call, a, &body, status ? status : emb_buf_add(&body, "}", 1));
}

static void embed_legacy(emb_api_call *call)
{
    emb_request r = EMB_REQUEST_INIT;
    emb_json_value root;
    if (!emb_call_json(call, &root) || !emb_call_headers(call, &r) ||
        !emb_decode_texts(call, root, "prompt", EMB_TEXTS_ONE, &r, NULL) ||
        !emb_decode_common(call, root, &r) || !decode_model(call, root, &r) ||
        !check_keep_alive(call, root) || !check_options(call, root))
        return;
    emb_call_embed(call, &r, write_legacy);
}

/* ---- about models ---- */

static emb_status write_time(emb_buf *body, int64_t seconds)
{
    time_t t = (time_t)seconds;
    struct tm tm;
    char text[40] = "1970-01-01T00:00:00Z";
    if (gmtime_r(&t, &tm))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return emb_buf_addf(body, "\"%s\"", text);
}

static emb_status write_details(emb_buf *body, const char *family, size_t parameters)
{
    emb_status status =
        emb_buf_add_str(body, "{\"parent_model\":\"\",\"format\":\"safetensors\",\"family\":");
    if (!status)
        status = emb_json_write_string(body, family, strlen(family));
    if (!status)
        status = emb_buf_add_str(body, ",\"families\":[");
    if (!status)
        status = emb_json_write_string(body, family, strlen(family));
    if (!status)
        status = emb_buf_add_str(body, "],\"parameter_size\":\"");
    if (!status && parameters)
        status = emb_buf_addf(body, "%.1fM", (double)parameters / 1e6);
    return status ? status : emb_buf_add_str(body, "\",\"quantization_level\":\"\"}");
}

static emb_status write_tag(emb_buf *body, const emb_model_listing *m)
{
    emb_status status = emb_buf_add_str(body, "{\"name\":");
    if (!status)
        status = emb_json_write_string(body, m->name, strlen(m->name));
    if (!status)
        status = emb_buf_add_str(body, ",\"model\":");
    if (!status)
        status = emb_json_write_string(body, m->name, strlen(m->name));
    if (!status)
        status = emb_buf_add_str(body, ",\"modified_at\":");
    if (!status)
        status = write_time(body, m->created);
    if (!status)
        status = emb_buf_addf(body, ",\"size\":%llu,\"digest\":", (unsigned long long)m->weight_bytes);
    if (!status)
        status = emb_json_write_string(body, m->revision, strlen(m->revision));
    if (!status)
        status = emb_buf_add_str(body, ",\"details\":");
    if (!status)
        status = write_details(body, "", 0);
    return status ? status : emb_buf_add(body, "}", 1);
}

static void get_tags_on_worker(emb_api_call *call)
{
    emb_model_listing *models;
    size_t count;
    emb_error err;
    emb_buf body;
    if (emb_service_list_models(call->service, call->arena, &models, &count, &err)) {
        emb_call_fail_error(call, &err);
        return;
    }
    emb_call_body(call, &body);
    emb_status status = emb_buf_add_str(&body, "{\"models\":[");
    const char *comma = "";
    for (size_t i = 0; i < count && !status; i++) {
        if (call->caller && !emb_caller_may_use(call->caller, models[i].name))
            continue;
        if (!(status = emb_buf_add_str(&body, comma)))
            status = write_tag(&body, &models[i]);
        comma = ",";
    }
    emb_call_finish(call, NULL, &body, status ? status : emb_buf_add_str(&body, "]}"));
}

static void get_tags(emb_api_call *call)
{
    emb_call_park(call, get_tags_on_worker);
}

static void get_version(emb_api_call *call)
{
    emb_buf body;
    emb_call_body(call, &body);
    emb_call_finish(call, NULL, &body, emb_buf_addf(&body, "{\"version\":\"%s\"}", emb_version()));
}

static void show_on_worker(emb_api_call *call)
{
    emb_served *m = emb_call_model(call, call->request.model);
    if (!m)
        return;
    const emb_model_info *i = &m->info;
    emb_buf body;
    emb_call_body(call, &body);
    emb_status status = emb_buf_add_str(
        &body, "{\"license\":\"\",\"modelfile\":\"\",\"parameters\":\"\",\"template\":\"\",\"details\":");
    if (!status)
        status = write_details(&body, i->architecture, i->parameters);
    if (!status)
        status = emb_buf_add_str(&body, ",\"model_info\":{\"general.architecture\":");
    if (!status)
        status = emb_json_write_string(&body, i->architecture, strlen(i->architecture));
    if (!status)
        status = emb_buf_add_str(&body, ",\"general.basename\":");
    if (!status)
        status = emb_json_write_string(&body, m->name, strlen(m->name));
    if (!status)
        status = emb_buf_addf(
            &body,
            ",\"general.parameter_count\":%zu,\"%s.context_length\":%zu,\"%s.embedding_length\":%zu,"
            "\"%s.block_count\":%zu,\"%s.attention.head_count\":%zu,\"%s.feed_forward_length\":%zu,"
            "\"%s.vocab_size\":%zu},\"capabilities\":[\"embedding\"]}",
            i->parameters, i->architecture, i->max_tokens, i->architecture, i->dimension, i->architecture,
            i->layers, i->architecture, i->heads, i->architecture, i->intermediate, i->architecture,
            i->vocab_size);
    emb_call_finish(call, NULL, &body, status);
}

static void show(emb_api_call *call)
{
    emb_json_value root;
    if (emb_call_json(call, &root) && decode_model(call, root, &call->request))
        emb_call_park(call, show_on_worker);
}

/* ---- the table ---- */

#define OPTIONS_MEMBERS                                                                                     \
    "\"keep_alive\":{\"type\":[\"string\",\"number\",\"null\"],\"description\":\"Has no effect; see "       \
    "models.unload_seconds.\"},"                                                                            \
    "\"options\":{\"type\":[\"object\",\"null\"],\"description\":\"Has no effect.\"},"                      \
    "\"truncate\":{\"default\":true,\"enum\":[true,false,\"none\",\"start\",\"end\",null],\"description\":" \
    "\"false: a text over the model's limit of tokens is an error.\"},"                                     \
    "\"dimensions\":{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":65536}"
#define MODEL_MEMBER \
    "\"model\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":1024,\"examples\":[\"all-MiniLM-L6-v2\"]}"
#define FLOATS "{\"type\":\"array\",\"items\":{\"type\":\"number\"}}"
#define DETAILS                                                                                              \
    "{\"type\":\"object\",\"properties\":{\"format\":{\"type\":\"string\"},\"family\":{\"type\":\"string\"}" \
    "}}"

const emb_route emb_routes_ollama[] = {
    {EMB_HTTP_POST, "/api/embed", EMB_FAMILY_OLLAMA, EMB_AUTH_KEY, EMB_RIGHT_USE, embed,
     "Embed a text or texts.",
     "{\"type\":\"object\",\"required\":[\"model\",\"input\"],\"properties\":{" MODEL_MEMBER
     ",\"input\":{\"oneOf\":["
     "{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"string\"}}],\"examples\":[\"Why is the "
     "sky blue?\"]}," OPTIONS_MEMBERS "}}",
     "{\"type\":\"object\",\"required\":[\"model\",\"embeddings\",\"total_duration\",\"load_duration\","
     "\"prompt_eval_count\"],"
     "\"properties\":{\"model\":{\"type\":\"string\"},\"embeddings\":{\"type\":\"array\",\"items\":" FLOATS
     "},"
     "\"total_duration\":{\"type\":\"integer\"},\"load_duration\":{\"type\":\"integer\"},\"prompt_eval_"
     "count\":"
     "{\"type\":\"integer\"}}}",
     NULL, NULL},
    {EMB_HTTP_POST, "/api/embeddings", EMB_FAMILY_OLLAMA, EMB_AUTH_KEY, EMB_RIGHT_USE, embed_legacy,
     "Embed one text (the older form).",
     "{\"type\":\"object\",\"required\":[\"model\",\"prompt\"],\"properties\":{" MODEL_MEMBER ",\"prompt\":"
     "{\"type\":\"string\",\"examples\":[\"Why is the sky blue?\"]}," OPTIONS_MEMBERS "}}",
     "{\"type\":\"object\",\"required\":[\"embedding\"],\"properties\":{\"embedding\":" FLOATS "}}", NULL,
     NULL},
    {EMB_HTTP_GET, "/api/tags", EMB_FAMILY_OLLAMA, EMB_AUTH_KEY, EMB_RIGHT_USE | EMB_RIGHT_READ, get_tags,
     "Models that can be used.", NULL,
     "{\"type\":\"object\",\"required\":[\"models\"],\"properties\":{\"models\":{\"type\":\"array\","
     "\"items\":{\"type\":"
     "\"object\",\"required\":[\"name\",\"model\",\"modified_at\",\"size\",\"digest\",\"details\"],"
     "\"properties\":{\"name\":"
     "{\"type\":\"string\"},\"model\":{\"type\":\"string\"},\"modified_at\":{\"type\":\"string\"},\"size\":"
     "{\"type\":\"integer\"},\"digest\":{\"type\":\"string\"},\"details\":" DETAILS "}}}}}",
     NULL, NULL},
    {EMB_HTTP_GET, "/api/version", EMB_FAMILY_OLLAMA, EMB_AUTH_OPEN, EMB_RIGHT_ANY, get_version,
     "The service's version.", NULL,
     "{\"type\":\"object\",\"required\":[\"version\"],\"properties\":{\"version\":{\"type\":\"string\"}}}",
     NULL, NULL},
    {EMB_HTTP_POST, "/api/show", EMB_FAMILY_OLLAMA, EMB_AUTH_KEY, EMB_RIGHT_USE | EMB_RIGHT_READ, show,
     "What is known of a model.",
     "{\"type\":\"object\",\"required\":[\"model\"],\"properties\":{" MODEL_MEMBER "}}",
     "{\"type\":\"object\",\"required\":[\"details\",\"model_info\",\"capabilities\"],\"properties\":{"
     "\"details\":" DETAILS ",\"model_info\":{\"type\":\"object\"},\"capabilities\":{\"type\":\"array\","
     "\"items\":{\"type\":\"string\"}}}}",
     NULL, NULL},
    {0}};
