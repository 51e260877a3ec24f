/*
 * similarity.c: cosines, and the paths of the Hugging Face hub's client.
 *
 * huggingface_hub posts {"inputs": …} to the very address that it was given, or to
 * …/models/{model}[/pipeline/{task}] below it. Feature extraction and sentence similarity differ in the shape
 * of "inputs" alone: an object with source_sentence is similarity, wherever it comes in; a task in the path
 * has to agree.
 *
 * Cosines are of vectors in full precision, in the order of the sentences; the source is embedded with them
 * in one request, as its first text.
 */
#include "api/model_server.h"

#include "api/decode.h"
#include "api/out.h"

#include <stdio.h>
#include <string.h>

/* ---- similarity ---- */

static void write_cosines(emb_api_call *call, const emb_answer *a)
{
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '[');
    for (size_t i = 1; i < a->count; i++)
        emb_out_float(&o, NULL, (float)emb_cosine(a->vectors, a->vectors + i * a->dimension, a->dimension));
    emb_out_close(&o, ']');
    emb_out_reply(&o, call, a);
}

/* The source before the sentences. */
static bool join_texts(emb_api_call *call, emb_text source, emb_request *r)
{
    emb_text *all = emb_arena_calloc(call->arena, r->count + 1, sizeof *all);
    if (!all) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return false;
    }
    all[0] = source;
    memcpy(all + 1, r->texts, r->count * sizeof *all);
    r->texts = all;
    r->count++;
    if (r->count <= call->config->max_inputs)
        return true;
    emb_call_fail(call, 422, "too_many_inputs", "sentences",
                  "%zu sentences and their source are more than the %zu texts that one request may have "
                  "(server.max_inputs).",
                  r->count - 1, call->config->max_inputs);
    return false;
}

static bool is_object(emb_json_value root, const char *member, emb_json_value *out)
{
    return emb_json_get(root, member, out) && emb_json_type_of(*out) == EMB_JSON_OBJECT;
}

static void compare(emb_api_call *call, emb_json_value root, emb_request *r)
{
    emb_json_value inputs;
    emb_text source;
    if (!is_object(root, "inputs", &inputs)) {
        emb_call_fail_field(call, "inputs", "must be an object with source_sentence and sentences.");
        return;
    }
    if (emb_decode_text(call, inputs, "source_sentence", &source) &&
        emb_decode_texts(call, inputs, "sentences", EMB_TEXTS_MANY, r, NULL) && join_texts(call, source, r) &&
        emb_server_options(call, root, r))
        emb_call_embed(call, r, write_cosines);
}

static void similarity(emb_api_call *call)
{
    emb_request r = EMB_REQUEST_INIT;
    emb_json_value root;
    if (emb_call_json(call, &root) && emb_call_headers(call, &r))
        compare(call, root, &r);
}

/* ---- the hub client's paths ---- */

static const char *const tasks[] = {"feature-extraction", "sentence-similarity"};

static int task_named(const char *name, size_t length)
{
    for (int i = 0; i < 2; i++)
        if (strlen(tasks[i]) == length && memcmp(tasks[i], name, length) == 0)
            return i;
    return -1;
}

/* task < 0: whatever the inputs look like. model NULL: the body's or the default. */
static void run_task(emb_api_call *call, int task, const char *model)
{
    emb_request r = EMB_REQUEST_INIT;
    emb_json_value root, inputs;
    if (!emb_call_json(call, &root) || !emb_call_headers(call, &r))
        return;
    r.model = model;
    if (task < 0)
        task = is_object(root, "inputs", &inputs);
    if (task == 1) {
        compare(call, root, &r);
        return;
    }
    r.normalize = EMB_ON;
    emb_server_embed_inputs(call, root, &r);
}

static void no_task(emb_api_call *call, const char *name)
{
    emb_call_fail(
        call, 404, "route_not_found", NULL,
        "The task \"%.60s\" is none of this service; it has feature-extraction and sentence-similarity.",
        name);
}

static void at_root(emb_api_call *call)
{
    run_task(call, -1, NULL);
}

/* "org/name", or "org/name/pipeline/task" */
static void at_model(emb_api_call *call)
{
    const char *path = call->parameters[0], *pipeline = strstr(path, "/pipeline/");
    if (!pipeline) {
        run_task(call, -1, path);
        return;
    }
    const char *name = pipeline + strlen("/pipeline/");
    int task = task_named(name, strlen(name));
    const char *model = emb_arena_strndup(call->arena, path, (size_t)(pipeline - path));
    if (task < 0)
        no_task(call, name);
    else if (!model)
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
    else
        run_task(call, task, model);
}

static void at_pipeline(emb_api_call *call)
{
    int task = task_named(call->parameters[0], strlen(call->parameters[0]));
    if (task < 0)
        no_task(call, call->parameters[0]);
    else
        run_task(call, task, call->parameters[1]);
}

/* ---- the table ---- */

#define SIMILARITY_INPUTS                                                                                    \
    "{\"type\":\"object\",\"required\":[\"source_sentence\",\"sentences\"],\"properties\":{\"source_"        \
    "sentence\":"                                                                                            \
    "{\"type\":\"string\"},\"sentences\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"string\"}" \
    "}},"                                                                                                    \
    "\"examples\":[{\"source_sentence\":\"Hello world\",\"sentences\":[\"Hello\",\"Good bye\"]}]}"
#define SIMILARITY_REQUEST                                                                         \
    "{\"type\":\"object\",\"required\":[\"inputs\"],\"properties\":{\"inputs\":" SIMILARITY_INPUTS \
    "," EMB_SERVER_OPTION_MEMBERS "}}"
#define TASK_REQUEST                                                                        \
    "{\"type\":\"object\",\"required\":[\"inputs\"],\"properties\":{\"inputs\":{\"anyOf\":" \
    "[" EMB_SERVER_INPUTS "," SIMILARITY_INPUTS "]}," EMB_SERVER_OPTION_MEMBERS "}}"
#define NUMBERS "{\"type\":\"array\",\"items\":{\"type\":\"number\"}}"
#define TASK_ANSWER "{\"anyOf\":[" NUMBERS ",{\"type\":\"array\",\"items\":" NUMBERS "}]}"
#define TASK_SUMMARY "As the Hugging Face hub's client sends it: feature extraction or sentence similarity."

const emb_route emb_routes_similarity[] = {
    {EMB_HTTP_POST, "/similarity", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE, similarity,
     "Cosines of a sentence to others.", SIMILARITY_REQUEST, NUMBERS, NULL, NULL},
    {EMB_HTTP_POST, "/", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE, at_root, TASK_SUMMARY,
     TASK_REQUEST, TASK_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/models/{model...}", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE, at_model,
     TASK_SUMMARY, TASK_REQUEST, TASK_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/hf-inference/models/{model...}", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE,
     at_model, TASK_SUMMARY, TASK_REQUEST, TASK_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/pipeline/{task}/{model...}", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE,
     at_pipeline, TASK_SUMMARY, TASK_REQUEST, TASK_ANSWER, NULL, NULL},
    {0}};
