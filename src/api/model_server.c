/*
 * model_server.c: routes of model servers: DocVector's POST /embed, and those of text-embeddings-inference.
 *
 * POST /embed takes both bodies and tells them by their member, "texts" or "inputs". The Hugging Face hub's
 * client posts to the address that it was given, which may be the bare service ("/"), or below /models/… and
 * /pipeline/…, and sends feature-extraction and sentence-similarity alike; these routes are told apart by the
 * shape of "inputs" (similarity.c).
 *
 * As text-embeddings-inference has it: vectors are normalised unless "normalize" says no; token ids are
 * embedded as they are; no prompt unless prompt_name names one or the model has a default; too many inputs
 * are 422. max_client_batch_size is server.max_inputs. What needs another kind of model (rerank, predict,
 * sparse) is checked in full, then refused with 424: never answered with something that looks like a score.
 */
#include "api/model_server.h"

#include "api/decode.h"
#include "api/out.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH_SIZE_MAX = 100000, DEFAULT_BATCH_TOKENS = 8192 };

/* ---- options ---- */

static bool decode_direction(emb_api_call *call, emb_json_value object, emb_request *r)
{
    int direction = -1;
    if (!emb_decode_choice(call, object, "truncation_direction", "Right|Left|right|left", &direction))
        return false;
    if (direction >= 0 && r->truncation != EMB_TRUNCATE_NONE)
        r->truncation = direction % 2 ? EMB_TRUNCATE_LEFT : EMB_TRUNCATE_RIGHT;
    return true;
}

static bool decode_object(emb_api_call *call, emb_json_value object, emb_request *r)
{
    int format = 0;
    return emb_decode_common(call, object, r) && decode_direction(call, object, r) &&
           emb_decode_choice(call, object, "encoding_format", "float", &format);
}

bool emb_server_options(emb_api_call *call, emb_json_value root, emb_request *r)
{
    emb_json_value parameters;
    if (!decode_object(call, root, r))
        return false;
    if (!emb_json_get(root, "parameters", &parameters) || emb_json_type_of(parameters) == EMB_JSON_NULL)
        return true;
    if (emb_json_type_of(parameters) == EMB_JSON_OBJECT)
        return decode_object(call, parameters, r);
    emb_call_fail_field(call, "parameters", "must be an object; it is %s.",
                        emb_json_type_name(emb_json_type_of(parameters)));
    return false;
}

static bool is_there(emb_json_value object, const char *member)
{
    emb_json_value value;
    return emb_json_get(object, member, &value) && emb_json_type_of(value) != EMB_JSON_NULL;
}

/* ---- /embed ---- */

static void write_named(emb_api_call *call, const emb_answer *a)
{
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_rows(&o, "embeddings", a->vectors, a->count, a->dimension);
    emb_out_text(&o, "model", a->model);
    emb_out_count(&o, "dimension", a->dimension);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, a);
}

static void write_bare(emb_api_call *call, const emb_answer *a)
{
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_rows(&o, NULL, a->vectors, a->count, a->dimension);
    emb_out_reply(&o, call, a);
}

static void embed_texts(emb_api_call *call, emb_json_value root, emb_request *r)
{
    size_t batch_size = 0;
    if (emb_decode_texts(call, root, "texts", EMB_TEXTS_MANY | EMB_TEXTS_EMPTY_LIST, r, NULL) &&
        emb_server_options(call, root, r) &&
        emb_decode_count(call, root, "batch_size", 1, BATCH_SIZE_MAX, &batch_size))
        emb_call_embed(call, r, write_named);
}

void emb_server_embed_inputs(emb_api_call *call, emb_json_value root, emb_request *r)
{
    unsigned kinds = EMB_TEXTS_ONE | EMB_TEXTS_MANY | EMB_TEXTS_IDS | EMB_TEXTS_NOT_ZERO;
    if (emb_decode_texts(call, root, "inputs", kinds, r, NULL) && emb_server_options(call, root, r))
        emb_call_embed(call, r, write_bare);
}

static void embed(emb_api_call *call)
{
    emb_request r = EMB_REQUEST_INIT;
    emb_json_value root;
    r.normalize = EMB_ON;
    if (!emb_call_json(call, &root) || !emb_call_headers(call, &r))
        return;
    bool texts = is_there(root, "texts"), inputs = is_there(root, "inputs");
    if (texts && inputs)
        emb_call_fail(call, 422, "invalid_value", "inputs",
                      "texts and inputs are both there; one of them is needed.");
    else if (texts)
        embed_texts(call, root, &r);
    else if (inputs)
        emb_server_embed_inputs(call, root, &r);
    else
        emb_call_fail(call, 422, "missing", "inputs",
                      "Neither \"texts\" (an array of strings) nor \"inputs\" (a string, an array of "
                      "strings, or token ids) "
                      "is there; one of them is needed.");
}

/* ---- what other kinds of models do ---- */

static void refuse(emb_api_call *call)
{
    const char *const *reason = call->state; /* what it is not; what it would take */
    emb_served *m = emb_call_model(call, call->request.model);
    if (m)
        emb_call_fail(call, 424, "model_cannot", "model",
                      "model is not a %s model: %.200s makes vectors of texts. %s", reason[0], m->name,
                      reason[1]);
}

static void refuse_after_checks(emb_api_call *call, const char *const *reason)
{
    call->state = (void *)reason;
    emb_call_park(call, refuse);
}

static void embed_sparse(emb_api_call *call)
{
    static const char *const reason[] = {
        "sparse embedding",
        "A SPLADE model would, which this version cannot load; POST /embed makes dense vectors."};
    emb_json_value root;
    unsigned kinds = EMB_TEXTS_ONE | EMB_TEXTS_MANY | EMB_TEXTS_IDS | EMB_TEXTS_NOT_ZERO;
    if (emb_call_json(call, &root) && emb_decode_texts(call, root, "inputs", kinds, &call->request, NULL) &&
        emb_server_options(call, root, &call->request))
        refuse_after_checks(call, reason);
}

static void rerank(emb_api_call *call)
{
    static const char *const reason[] = {"re-ranker", "A cross-encoder such as bge-reranker-base would, "
                                                      "which this version cannot load; embed query and texts "
                                                      "and compare their cosines instead."};
    emb_json_value root;
    emb_text query;
    bool raw_scores, return_text;
    if (emb_call_json(call, &root) && emb_decode_text(call, root, "query", &query) &&
        emb_decode_texts(call, root, "texts", EMB_TEXTS_MANY, &call->request, NULL) &&
        emb_decode_bool(call, root, "raw_scores", &raw_scores) &&
        emb_decode_bool(call, root, "return_text", &return_text) &&
        emb_server_options(call, root, &call->request))
        refuse_after_checks(call, reason);
}

/* A text, or one or two in an array. */
static bool is_sequence(emb_json_value value)
{
    const char *text;
    size_t length;
    emb_json_value element;
    if (emb_json_string(value, &text, &length))
        return !memchr(text, 0, length);
    if (emb_json_type_of(value) != EMB_JSON_ARRAY || emb_json_count(value) < 1 || emb_json_count(value) > 2)
        return false;
    for (emb_json_iter it = emb_json_begin(value); emb_json_next(&it, NULL, NULL, &element);)
        if (!emb_json_string(element, &text, &length) || memchr(text, 0, length))
            return false;
    return true;
}

static bool check_predict_inputs(emb_api_call *call, emb_json_value root)
{
    emb_json_value inputs, value;
    if (!emb_json_get(root, "inputs", &inputs) || emb_json_type_of(inputs) == EMB_JSON_NULL) {
        emb_call_fail_missing(call, "inputs");
        return false;
    }
    if (emb_json_type_of(inputs) == EMB_JSON_STRING && is_sequence(inputs))
        return true;
    size_t count = emb_json_count(inputs);
    if (emb_json_type_of(inputs) != EMB_JSON_ARRAY) {
        emb_call_fail_field(call, "inputs",
                            "must be a text without NUL bytes, a pair of texts, or an array of those.");
        return false;
    }
    if (count == 0) {
        emb_call_fail(call, 400, "empty", "inputs",
                      "inputs is an empty array; at least one element is needed.");
        return false;
    }
    if (count > call->config->max_inputs) {
        emb_call_fail(call, 422, "too_many_inputs", "inputs",
                      "inputs has %zu elements; one request may have %zu (server.max_inputs).", count,
                      call->config->max_inputs);
        return false;
    }
    emb_json_iter it = emb_json_begin(inputs);
    for (size_t i = 0; emb_json_next(&it, NULL, NULL, &value); i++)
        if (!is_sequence(value)) {
            emb_call_fail_field(call, "inputs",
                                "must hold texts without NUL bytes, or pairs of them; index %zu does not.",
                                i);
            return false;
        }
    return true;
}

static void predict(emb_api_call *call)
{
    static const char *const reason[] = {
        "classifier", "A model for sequence classification would, which this version cannot load."};
    emb_json_value root;
    bool raw_scores;
    if (emb_call_json(call, &root) && check_predict_inputs(call, root) &&
        emb_decode_bool(call, root, "raw_scores", &raw_scores) &&
        emb_server_options(call, root, &call->request))
        refuse_after_checks(call, reason);
}

/* ---- what is served ---- */

static const char *dtype_of(emb_precision precision)
{
    return precision == EMB_PRECISION_BF16   ? "bfloat16"
           : precision == EMB_PRECISION_INT8 ? "int8"
                                             : "float32";
}

static void get_info_on_worker(emb_api_call *call)
{
    emb_served *m = emb_call_model(call, emb_exchange_query(call->x, "model"));
    if (!m)
        return;
    emb_model_info info = EMB_MODEL_INFO_INIT; /* anew: the precision is known once the weights are there */
    emb_model_get_info(m->model, &info);
    const emb_config *c = call->config;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_text(&o, "model_id", m->repository);
    emb_out_text(&o, "model_sha", m->revision);
    emb_out_text(&o, "model_dtype", dtype_of(info.precision));
    emb_out_open(&o, "model_type", '{');
    emb_out_open(&o, "embedding", '{');
    emb_out_text(&o, "pooling",
                 info.pooling == EMB_POOLING_LAST ? "last_token" : emb_pooling_name(info.pooling));
    emb_out_close(&o, '}');
    emb_out_close(&o, '}');
    emb_out_count(&o, "max_concurrent_requests", c->max_concurrent_requests);
    emb_out_count(&o, "max_input_length", info.max_tokens);
    emb_out_count(&o, "max_batch_tokens", c->max_batch_tokens ? c->max_batch_tokens : DEFAULT_BATCH_TOKENS);
    emb_out_null(&o, "max_batch_requests");
    emb_out_count(&o, "max_client_batch_size", c->max_inputs);
    emb_out_bool(&o, "auto_truncate", true);
    emb_out_count(&o, "tokenization_workers", c->threads ? c->threads : cpus > 0 ? (size_t)cpus : 1);
    emb_out_text(&o, "version", emb_version());
    emb_out_null(&o, "sha");
    emb_out_null(&o, "docker_label");
    emb_out_count(&o, "dimension", info.dimension);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void get_info(emb_api_call *call)
{
    emb_call_park(call, get_info_on_worker);
}

/* ---- the table ---- */

#define FLOATS "{\"type\":\"array\",\"items\":{\"type\":\"number\"}}"
#define ROWS "{\"type\":\"array\",\"items\":" FLOATS "}"
#define RERANK_REQUEST                                                                               \
    "{\"type\":\"object\",\"required\":[\"query\",\"texts\"],\"properties\":{\"query\":{\"type\":"   \
    "\"string\"},\"texts\":"                                                                         \
    "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"string\"}},\"raw_scores\":{\"type\":[" \
    "\"boolean\",\"null\"]},"                                                                        \
    "\"return_text\":{\"type\":[\"boolean\",\"null\"]}," EMB_SERVER_OPTION_MEMBERS "}}"
#define RERANK_ANSWER                                                                                        \
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"index\",\"score\"],\"properties\":{" \
    "\"index\":"                                                                                             \
    "{\"type\":\"integer\"},\"text\":{\"type\":\"string\"},\"score\":{\"type\":\"number\"}}}}"
#define SEQUENCE                                                                                   \
    "{\"type\":\"string\"},{\"type\":\"array\",\"minItems\":1,\"maxItems\":2,\"items\":{\"type\":" \
    "\"string\"}}"
#define PREDICT_REQUEST                                                                               \
    "{\"type\":\"object\",\"required\":[\"inputs\"],\"properties\":{\"inputs\":{\"anyOf\":[" SEQUENCE \
    ",{\"type\":\"array\",\"minItems\":1,\"items\":{\"anyOf\":[" SEQUENCE                             \
    "]}}]},\"raw_scores\":{\"type\":[\"boolean\","                                                    \
    "\"null\"]}," EMB_SERVER_OPTION_MEMBERS "}}"
#define PREDICT_ANSWER                                                                                       \
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"score\",\"label\"],\"properties\":{" \
    "\"score\":"                                                                                             \
    "{\"type\":\"number\"},\"label\":{\"type\":\"string\"}}}}"
#define SPARSE_ANSWER                                                                                 \
    "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[" \
    "\"index\",\"value\"],"                                                                           \
    "\"properties\":{\"index\":{\"type\":\"integer\"},\"value\":{\"type\":\"number\"}}}}}"
#define COUNT "{\"type\":\"integer\",\"minimum\":0}"
#define INFO_ANSWER                                                                                         \
    "{\"type\":\"object\",\"required\":[\"model_id\",\"model_sha\",\"model_dtype\",\"model_type\","         \
    "\"max_concurrent_requests\",\"max_input_length\",\"max_batch_tokens\",\"max_client_batch_size\","      \
    "\"auto_truncate\","                                                                                    \
    "\"tokenization_workers\",\"version\"],\"properties\":{\"model_id\":{\"type\":\"string\"},\"model_"     \
    "sha\":"                                                                                                \
    "{\"type\":\"string\"},\"model_dtype\":{\"enum\":[\"float32\",\"bfloat16\",\"int8\"]},\"model_type\":"  \
    "{\"type\":\"object\",\"required\":[\"embedding\"],\"properties\":{\"embedding\":{\"type\":\"object\"," \
    "\"required\":["                                                                                        \
    "\"pooling\"],\"properties\":{\"pooling\":{\"type\":\"string\"}}}}},\"max_concurrent_requests\":" COUNT \
    ",\"max_input_length\":" COUNT ",\"max_batch_tokens\":" COUNT                                           \
    ",\"max_batch_requests\":{\"type\":\"null\"},"                                                          \
    "\"max_client_batch_size\":" COUNT                                                                      \
    ",\"auto_truncate\":{\"type\":\"boolean\"},\"tokenization_workers\":" COUNT                             \
    ",\"version\":{\"type\":\"string\"},\"sha\":{\"type\":\"null\"},\"docker_label\":{\"type\":\"null\"},"  \
    "\"dimension\":" COUNT "}}"
/* The title makes both bodies readable in /docs. */
#define EMBED_REQUEST                                                                                     \
    "{\"anyOf\":[{\"title\":\"text-embeddings-inference\",\"type\":\"object\",\"required\":[\"inputs\"]," \
    "\"properties\":{"                                                                                    \
    "\"texts\":{\"type\":\"null\"},\"inputs\":" EMB_SERVER_INPUTS "," EMB_SERVER_OPTION_MEMBERS "}},"     \
    "{\"title\":\"DocVector\",\"type\":\"object\",\"required\":[\"texts\"],\"properties\":{\"inputs\":{"  \
    "\"type\":\"null\"},"                                                                                 \
    "\"texts\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"examples\":[[\"Hello "               \
    "world\"]]},\"batch_size\":"                                                                          \
    "{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":100000,\"description\":\"Has no effect: " \
    "batches are made "                                                                                   \
    "by tokens.\"}," EMB_SERVER_OPTION_MEMBERS "}}]}"
#define EMBED_ANSWER                                                                               \
    "{\"oneOf\":[" ROWS                                                                            \
    ",{\"type\":\"object\",\"required\":[\"embeddings\",\"model\",\"dimension\"],\"properties\":{" \
    "\"embeddings\":" ROWS                                                                         \
    ",\"model\":{\"type\":\"string\"},\"dimension\":{\"type\":\"integer\",\"minimum\":1}}}]}"
#define INPUTS_REQUEST                                                                             \
    "{\"type\":\"object\",\"required\":[\"inputs\"],\"properties\":{\"inputs\":" EMB_SERVER_INPUTS \
    "," EMB_SERVER_OPTION_MEMBERS "}}"

const emb_route emb_routes_model_server[] = {
    {EMB_HTTP_POST, "/embed", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE, embed,
     "Embed: {texts} answers {embeddings, model, dimension}, {inputs} the bare array of vectors.",
     EMBED_REQUEST, EMBED_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/embed_all", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE, emb_server_embed_all,
     "A vector for each token of each text: the last layer's states.", INPUTS_REQUEST,
     "{\"type\":\"array\",\"items\":" ROWS "}", NULL, NULL},
    {EMB_HTTP_POST, "/embed_sparse", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE, embed_sparse,
     "Sparse vectors; 424 while no model makes them.", INPUTS_REQUEST, SPARSE_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/rerank", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE, rerank,
     "Order texts by a query; 424 while no model can.", RERANK_REQUEST, RERANK_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/predict", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE, predict,
     "Classify texts or pairs; 424 while no model can.", PREDICT_REQUEST, PREDICT_ANSWER, NULL, NULL},
    {EMB_HTTP_GET, "/info", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_KEY, EMB_RIGHT_USE | EMB_RIGHT_READ, get_info,
     "The model and the limits.", NULL, INFO_ANSWER, NULL, "model"},
    {0}};
