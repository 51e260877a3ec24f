/*
 * openai.c: OpenAI's embeddings and models, and Azure's path to the same.
 *
 * The official clients ask for base64 unless told otherwise, so base64 is the hot path: from the vector's
 * memory to the body without text in between. Members beyond OpenAI's (prompt_name, input_type, truncate,
 * context, …) are optional. Unlike OpenAI, a text over the model's limit is cut as the model's own library
 * does, unless "truncate" is false: an OpenAI client has no way to ask for it, and refusing would break what
 * works with sentence-transformers.
 */
#include "api/decode.h"
#include "api/encode.h"
#include "base/json_write.h"

#include <string.h>

typedef struct embedding_state {
    int base64;
} embedding_state;

static emb_status write_row(emb_buf *body, const emb_answer *a, size_t i, bool base64)
{
    const float *row = a->vectors + i * a->dimension;
    emb_status status =
        emb_buf_addf(body, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i ? "," : "", i);
    if (!status)
        status =
            base64 ? emb_encode_base64(body, row, a->dimension) : emb_encode_floats(body, row, a->dimension);
    return status ? status : emb_buf_add(body, "}", 1);
}

static void write_embeddings(emb_api_call *call, const emb_answer *answer)
{
    const embedding_state *state = call->state;
    emb_buf body;
    emb_call_body(call, &body);
    /* At once what it will take, so that a large body is not copied as it grows. */
    emb_status status =
        emb_buf_reserve(&body, answer->count * (answer->dimension * (state->base64 ? 6 : 13) + 64));
    if (!status)
        status = emb_buf_add_str(&body, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < answer->count && !status; i++)
        status = write_row(&body, answer, i, state->base64);
    if (!status)
        status = emb_buf_add_str(&body, "],\"model\":");
    if (!status)
        status = emb_json_write_string(&body, answer->model, strlen(answer->model));
    if (!status)
        status = emb_buf_addf(&body, ",\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}",
                              answer->total_tokens, answer->total_tokens);
    emb_call_finish(call, answer, &body, status);
}

/* "query" and "document", with the longer names that other services use for them. */
static bool decode_input_type(emb_api_call *call, emb_json_value root, emb_request *r)
{
    static const emb_role roles[] = {EMB_ROLE_QUERY, EMB_ROLE_DOCUMENT, EMB_ROLE_QUERY, EMB_ROLE_DOCUMENT,
                                     EMB_ROLE_DOCUMENT};
    int choice = -1;
    if (!emb_decode_choice(call, root, "input_type", "query|document|search_query|search_document|passage",
                           &choice))
        return false;
    if (choice >= 0)
        r->role = roles[choice];
    return true;
}

static bool decode(emb_api_call *call, emb_json_value root, emb_request *r, embedding_state *state)
{
    return emb_decode_texts(call, root, "input",
                            EMB_TEXTS_ONE | EMB_TEXTS_MANY | EMB_TEXTS_IDS | EMB_TEXTS_NOT_ZERO, r, NULL) &&
           emb_decode_common(call, root, r) &&
           emb_decode_choice(call, root, "encoding_format", "float|base64", &state->base64) &&
           decode_input_type(call, root, r);
}

static void embed_with(emb_api_call *call, const char *deployment)
{
    emb_request r = EMB_REQUEST_INIT;
    emb_json_value root;
    embedding_state *state = emb_arena_calloc(call->arena, 1, sizeof *state);
    if (!state) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return;
    }
    call->state = state;
    if (!emb_call_json(call, &root) || !emb_call_headers(call, &r) || !decode(call, root, &r, state))
        return;
    if (deployment)
        r.model = deployment;
    emb_call_embed(call, &r, write_embeddings);
}

static void create_embeddings(emb_api_call *call)
{
    embed_with(call, NULL);
}

/* Azure: the deployment's name is the model's; the body's "model" counts for nothing, as there. */
static void create_deployment_embeddings(emb_api_call *call)
{
    embed_with(call, call->parameters[0]);
}

/* ---- models ---- */

static emb_status write_model(emb_buf *body, const emb_model_listing *m)
{
    const char *slash = strchr(m->repository, '/');
    size_t owner = slash ? (size_t)(slash - m->repository) : 0;
    emb_status status = emb_buf_add_str(body, "{\"id\":");
    if (!status)
        status = emb_json_write_string(body, m->name, strlen(m->name));
    if (!status)
        status =
            emb_buf_addf(body, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":", (long long)m->created);
    if (!status)
        status = owner ? emb_json_write_string(body, m->repository, owner)
                       : emb_json_write_string(body, m->provider, strlen(m->provider));
    if (!status)
        status = emb_buf_addf(body, ",\"dimensions\":%zu,\"max_tokens\":%zu,\"loaded\":%s,\"default\":%s}",
                              m->dimension, m->max_tokens, m->loaded ? "true" : "false",
                              m->is_default ? "true" : "false");
    return status;
}

static bool may_see(const emb_api_call *call, const emb_model_listing *m)
{
    return !call->caller || emb_caller_may_use(call->caller, m->name);
}

static bool list_models(emb_api_call *call, emb_model_listing **models, size_t *count)
{
    emb_error err;
    if (emb_service_list_models(call->service, call->arena, models, count, &err) == EMB_OK)
        return true;
    emb_call_fail_error(call, &err);
    return false;
}

static void get_models_on_worker(emb_api_call *call)
{
    emb_model_listing *models;
    size_t count;
    emb_buf body;
    if (!list_models(call, &models, &count))
        return;
    emb_call_body(call, &body);
    emb_status status = emb_buf_add_str(&body, "{\"object\":\"list\",\"data\":[");
    const char *comma = "";
    for (size_t i = 0; i < count && !status; i++) {
        if (!may_see(call, &models[i]))
            continue;
        if (!(status = emb_buf_add_str(&body, comma)))
            status = write_model(&body, &models[i]);
        comma = ",";
    }
    emb_call_finish(call, NULL, &body, status ? status : emb_buf_add_str(&body, "]}"));
}

static void get_model_on_worker(emb_api_call *call)
{
    const char *id = call->parameters[0];
    emb_model_listing *models;
    size_t count, i;
    if (!list_models(call, &models, &count))
        return;
    for (i = 0; i < count; i++)
        if (may_see(call, &models[i]) &&
            (strcmp(models[i].name, id) == 0 || strcmp(models[i].repository, id) == 0))
            break;
    if (i == count) {
        emb_call_fail(call, 404, "model_not_found", "model",
                      "The model '%.200s' does not exist or you do not have access to it.", id);
        return;
    }
    emb_buf body;
    emb_call_body(call, &body);
    emb_call_finish(call, NULL, &body, write_model(&body, &models[i]));
}

/* Directories are read, so on a worker. */
static void get_models(emb_api_call *call)
{
    emb_call_park(call, get_models_on_worker);
}

static void get_model(emb_api_call *call)
{
    emb_call_park(call, get_model_on_worker);
}

/* ---- the table ---- */

#define TEXT_SCHEMA "{\"type\":\"string\",\"minLength\":1}"
#define IDS_SCHEMA "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":0},\"minItems\":1}"

#define EMBEDDINGS_REQUEST                                                                                   \
    "{\"type\":\"object\",\"required\":[\"input\"],\"properties\":{"                                         \
    "\"input\":{\"description\":\"A text, texts, token ids, or lists of token ids, which are used as they "  \
    "are.\","                                                                                                \
    "\"examples\":[[\"The food was delicious.\",\"Prices rose.\"]],\"oneOf\":[" TEXT_SCHEMA                  \
    ",{\"type\":\"array\",\"items\":" TEXT_SCHEMA ",\"minItems\":1}," IDS_SCHEMA                             \
    ",{\"type\":\"array\",\"items\":" IDS_SCHEMA ",\"minItems\":1}]},"                                       \
    "\"model\":{\"type\":[\"string\",\"null\"],\"description\":\"Absent or empty: the service's "            \
    "default.\"},"                                                                                           \
    "\"encoding_format\":{\"enum\":[\"float\",\"base64\",null],\"default\":\"float\",\"description\":"       \
    "\"base64: of the little-endian float32 values.\"},"                                                     \
    "\"dimensions\":{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":65536,\"description\":"       \
    "\"Keep this many leading components, then normalise. More than the model has is an error.\"},"          \
    "\"user\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024},"                                          \
    "\"prompt_name\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024,\"description\":\"A prompt of the "  \
    "model by name.\"},"                                                                                     \
    "\"input_type\":{\"enum\":[\"query\",\"document\",\"search_query\",\"search_document\",\"passage\","     \
    "null],"                                                                                                 \
    "\"description\":\"Puts the model's prompt for queries or documents before each text.\"},"               \
    "\"normalize\":{\"type\":[\"boolean\",\"null\"]},"                                                       \
    "\"truncate\":{\"default\":true,\"description\":\"true: a text over the model's limit of tokens is cut " \
    "at the "                                                                                                \
    "model's own side; start, end: cut there; false or none: it is an error (400).\",\"enum\":"              \
    "[true,false,\"none\",\"start\",\"end\",\"left\",\"right\",\"model\",null]},"                            \
    "\"context\":{\"enum\":[\"realtime\",\"analysis\",\"batch\",\"sensitive\",\"default\",null]},"           \
    "\"category\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024},"                                      \
    "\"preferred_provider\":{\"enum\":[\"local\",\"auto\",\"\",null]}}}"

#define EMBEDDINGS_ANSWER                                                                                   \
    "{\"type\":\"object\",\"required\":[\"object\",\"data\",\"model\",\"usage\"],\"properties\":{"          \
    "\"object\":{\"const\":\"list\"},\"data\":{\"type\":\"array\",\"items\":{\"type\":\"object\","          \
    "\"required\":"                                                                                         \
    "[\"object\",\"index\",\"embedding\"],\"properties\":{\"object\":{\"const\":\"embedding\"},"            \
    "\"index\":{\"type\":\"integer\",\"minimum\":0},\"embedding\":{\"oneOf\":[{\"type\":\"array\","         \
    "\"items\":"                                                                                            \
    "{\"type\":\"number\"}},{\"type\":\"string\",\"contentEncoding\":\"base64\"}]}}}},\"model\":{\"type\":" \
    "\"string\"},"                                                                                          \
    "\"usage\":{\"type\":\"object\",\"required\":[\"prompt_tokens\",\"total_tokens\"],\"properties\":{"     \
    "\"prompt_tokens\":{\"type\":\"integer\"},\"total_tokens\":{\"type\":\"integer\"}}}}}"

#define MODEL_ANSWER                                                                                         \
    "{\"type\":\"object\",\"required\":[\"id\",\"object\",\"created\",\"owned_by\"],\"properties\":{\"id\":" \
    "{\"type\":\"string\"},\"object\":{\"const\":\"model\"},\"created\":{\"type\":\"integer\"},\"owned_"     \
    "by\":"                                                                                                  \
    "{\"type\":\"string\"},\"dimensions\":{\"type\":\"integer\",\"description\":\"0: not known before it "   \
    "is opened.\"},"                                                                                         \
    "\"max_tokens\":{\"type\":\"integer\"},\"loaded\":{\"type\":\"boolean\"},\"default\":{\"type\":"         \
    "\"boolean\"}}}"

const emb_route emb_routes_openai[] = {
    {EMB_HTTP_POST, "/v1/embeddings", EMB_FAMILY_OPENAI, EMB_AUTH_KEY, EMB_RIGHT_USE, create_embeddings,
     "Embed texts or token ids.", EMBEDDINGS_REQUEST, EMBEDDINGS_ANSWER, NULL, NULL},
    {EMB_HTTP_GET, "/v1/models", EMB_FAMILY_OPENAI, EMB_AUTH_KEY, EMB_RIGHT_USE | EMB_RIGHT_READ, get_models,
     "Models that can be used.", NULL,
     "{\"type\":\"object\",\"required\":[\"object\",\"data\"],\"properties\":{\"object\":{\"const\":\"list\"}"
     ",\"data\":"
     "{\"type\":\"array\",\"items\":" MODEL_ANSWER "}}}",
     NULL, NULL},
    {EMB_HTTP_GET, "/v1/models/{id...}", EMB_FAMILY_OPENAI, EMB_AUTH_KEY, EMB_RIGHT_USE | EMB_RIGHT_READ,
     get_model, "One of them.", NULL, MODEL_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/openai/deployments/{model}/embeddings", EMB_FAMILY_OPENAI, EMB_AUTH_KEY, EMB_RIGHT_USE,
     create_deployment_embeddings, "Embed as Azure OpenAI does; the deployment is the model.",
     EMBEDDINGS_REQUEST, EMBEDDINGS_ANSWER, NULL, "api-version"},
    {0}};
