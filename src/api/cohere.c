/*
 * cohere.c: Cohere's embed (v1 and v2) and rerank (Cohere's and Jina's shape).
 *
 * One decoder for both versions; they differ in the answer: v2 gives vectors by type and needs input_type; v1
 * gives bare floats unless types were asked for. Integers are quantised from the float vectors with the fixed
 * range -1..1 (encode.h): Cohere calibrates its own models, which nobody can do for models in general, and
 * unit vectors fit.
 *
 * rerank needs a cross-encoder. No model of this version is one, so a request that is well formed is told so,
 * by name, instead of being answered with cosines, which are something else.
 */
#include "api/decode.h"
#include "api/encode.h"
#include "base/json_write.h"

#include <string.h>

/* Cohere's types, in the order of their bits. */
static const char *const type_names[] = {"float", "int8", "uint8", "binary", "ubinary", "base64"};
enum { TYPE_FLOAT = 1, TYPES = 6 };

typedef struct embed_state {
    unsigned types; /* bits */
    bool is_v2, single;
    bool types_given;
    const char *id;
} embed_state;

/* ---- the request ---- */

static bool decode_types(emb_api_call *call, emb_json_value root, embed_state *state)
{
    emb_json_value array, value;
    if (!emb_json_get(root, "embedding_types", &array) || emb_json_type_of(array) == EMB_JSON_NULL) {
        state->types = TYPE_FLOAT;
        return true;
    }
    if (emb_json_type_of(array) != EMB_JSON_ARRAY || emb_json_count(array) == 0) {
        emb_call_fail_field(call, "embedding_types", "must be an array of types, at least one.");
        return false;
    }
    emb_json_iter it = emb_json_begin(array);
    for (size_t i = 0; emb_json_next(&it, NULL, NULL, &value); i++) {
        int t = 0;
        while (t < TYPES && !emb_json_string_is(value, type_names[t]))
            t++;
        if (t == TYPES) {
            emb_call_fail_field(
                call, "embedding_types",
                "holds at index %zu what is none of float, int8, uint8, binary, ubinary, base64.", i);
            return false;
        }
        state->types |= 1u << t;
    }
    state->types_given = true;
    return true;
}

static bool decode_input_type(emb_api_call *call, emb_json_value root, const embed_state *state,
                              emb_request *r)
{
    static const emb_role roles[] = {EMB_ROLE_DOCUMENT, EMB_ROLE_QUERY, EMB_ROLE_NONE, EMB_ROLE_NONE};
    int choice = -1;
    if (!emb_decode_choice(call, root, "input_type",
                           "search_document|search_query|classification|clustering|image", &choice))
        return false;
    if (choice == 4) {
        emb_call_fail_field(call, "input_type", "is \"image\"; the models of this service embed text alone.");
        return false;
    }
    if (choice < 0 && state->is_v2) {
        emb_call_fail_missing(call, "input_type");
        return false;
    }
    if (choice >= 0)
        r->role = roles[choice];
    return true;
}

/* One element of "inputs": {"content":[{"type":"text","text":"…"}]}. */
static bool decode_content(emb_api_call *call, emb_json_value element, const char *label, emb_text *out)
{
    emb_json_value content, part, type;
    if (!emb_json_get(element, "content", &content) || emb_json_count(content) != 1 ||
        emb_json_type_of(content) != EMB_JSON_ARRAY) {
        emb_call_fail_field(call, label, "must have \"content\", an array of one part.");
        return false;
    }
    emb_json_iter it = emb_json_begin(content);
    if (!emb_json_next(&it, NULL, NULL, &part) || !emb_json_get(part, "type", &type) ||
        !emb_json_string_is(type, "text")) {
        emb_call_fail_field(
            call, label, "must have a part of type \"text\"; the models of this service embed text alone.");
        return false;
    }
    return emb_decode_text(call, part, "text", out);
}

static bool decode_inputs(emb_api_call *call, emb_json_value array, emb_request *r)
{
    size_t count = emb_json_count(array);
    if (emb_json_type_of(array) != EMB_JSON_ARRAY || count == 0 || count > call->config->max_inputs) {
        emb_call_fail_field(call, "inputs", "must be an array of 1 to %zu inputs.", call->config->max_inputs);
        return false;
    }
    emb_text *texts = emb_arena_calloc(call->arena, count, sizeof *texts);
    if (!texts) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return false;
    }
    call->texts_member = "inputs";
    emb_json_iter it = emb_json_begin(array);
    emb_json_value value;
    for (size_t i = 0; i < count && emb_json_next(&it, NULL, NULL, &value); i++)
        if (!decode_content(call, value, "inputs", &texts[i]))
            return false;
    r->texts = texts;
    r->count = count;
    return true;
}

static bool decode_texts(emb_api_call *call, emb_json_value root, emb_request *r)
{
    emb_json_value value;
    static const char *const images = "images";
    if (emb_json_get(root, images, &value) && emb_json_count(value) > 0) {
        emb_call_fail_field(call, images, "cannot be embedded; the models of this service embed text alone.");
        return false;
    }
    bool has_texts = emb_json_get(root, "texts", &value) && emb_json_type_of(value) != EMB_JSON_NULL;
    if (!has_texts && emb_json_get(root, "inputs", &value) && emb_json_type_of(value) != EMB_JSON_NULL)
        return decode_inputs(call, value, r);
    return emb_decode_texts(call, root, "texts", EMB_TEXTS_MANY | EMB_TEXTS_NOT_ZERO, r, NULL);
}

static bool decode(emb_api_call *call, emb_json_value root, emb_request *r, embed_state *state)
{
    return decode_texts(call, root, r) && emb_decode_common(call, root, r) &&
           emb_decode_count(call, root, "output_dimension", 1, 65536, &r->dimensions) &&
           emb_decode_count(call, root, "max_tokens", 1, INT32_MAX, &r->max_tokens) &&
           decode_input_type(call, root, state, r) && decode_types(call, root, state);
}

/* ---- the answer ---- */

static emb_status write_vector(emb_buf *body, int type, const float *row, size_t dimension)
{
    switch (type) {
    case 0:
        return emb_encode_floats(body, row, dimension);
    case 5:
        return emb_encode_base64(body, row, dimension);
    default:
        return emb_encode_quantised(body, row, dimension, (emb_quantisation)(type - 1));
    }
}

static emb_status write_type(emb_buf *body, int type, const emb_answer *a)
{
    emb_status status = emb_buf_add(body, "[", 1);
    for (size_t i = 0; i < a->count && !status; i++) {
        if (i)
            status = emb_buf_add(body, ",", 1);
        if (!status)
            status = write_vector(body, type, a->vectors + i * a->dimension, a->dimension);
    }
    return status ? status : emb_buf_add(body, "]", 1);
}

static emb_status write_types(emb_buf *body, const embed_state *state, const emb_answer *a)
{
    emb_status status = emb_buf_add(body, "{", 1);
    const char *comma = "";
    for (int t = 0; t < TYPES && !status; t++) {
        if (!(state->types & 1u << t))
            continue;
        if (!(status = emb_buf_addf(body, "%s\"%s\":", comma, type_names[t])))
            status = write_type(body, t, a);
        comma = ",";
    }
    return status ? status : emb_buf_add(body, "}", 1);
}

static emb_status write_texts(emb_buf *body, const emb_request *r)
{
    emb_status status = emb_buf_add_str(body, ",\"texts\":[");
    for (size_t i = 0; i < r->count && !status; i++) {
        if (i)
            status = emb_buf_add(body, ",", 1);
        if (!status)
            status = emb_json_write_string(body, r->texts[i].data, r->texts[i].length);
    }
    return status ? status : emb_buf_add(body, "]", 1);
}

static void write_embeddings(emb_api_call *call, const emb_answer *answer)
{
    const embed_state *state = call->state;
    bool by_type = state->is_v2 || state->types_given;
    emb_buf body;
    emb_call_body(call, &body);
    emb_status status = emb_buf_add_str(&body, "{\"id\":");
    const char *id = emb_exchange_request_id(call->x);
    if (!status)
        status = emb_json_write_string(&body, id, strlen(id));
    if (!status)
        status = emb_buf_add_str(&body, ",\"embeddings\":");
    if (!status)
        status = by_type ? write_types(&body, state, answer) : write_type(&body, 0, answer);
    if (!status)
        status = write_texts(&body, &call->request);
    if (!status)
        status = emb_buf_addf(
            &body, ",\"meta\":{\"api_version\":{\"version\":\"%d\"},\"billed_units\":{\"input_tokens\":%zu}}",
            state->is_v2 ? 2 : 1, answer->total_tokens);
    if (!status)
        status = emb_buf_addf(&body, ",\"response_type\":\"%s\"}",
                              by_type ? "embeddings_by_type" : "embeddings_floats");
    emb_call_finish(call, answer, &body, status);
}

static void embed(emb_api_call *call, bool is_v2)
{
    emb_request r = EMB_REQUEST_INIT;
    emb_json_value root;
    embed_state *state = emb_arena_calloc(call->arena, 1, sizeof *state);
    if (!state) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return;
    }
    state->is_v2 = is_v2;
    call->state = state;
    if (emb_call_json(call, &root) && emb_call_headers(call, &r) && decode(call, root, &r, state))
        emb_call_embed(call, &r, write_embeddings);
}

static void embed_v1(emb_api_call *call)
{
    embed(call, false);
}

static void embed_v2(emb_api_call *call)
{
    embed(call, true);
}

/* ---- rerank ---- */

/* Documents are strings, or objects with "text". */
static bool check_documents(emb_api_call *call, emb_json_value root)
{
    emb_json_value array, value, text;
    if (!emb_json_get(root, "documents", &array) || emb_json_type_of(array) == EMB_JSON_NULL) {
        emb_call_fail_missing(call, "documents");
        return false;
    }
    size_t count = emb_json_count(array);
    if (emb_json_type_of(array) != EMB_JSON_ARRAY || count == 0) {
        emb_call_fail_field(call, "documents", "must be an array of texts, at least one.");
        return false;
    }
    if (count > call->config->max_inputs) {
        emb_call_fail(call, 413, "too_many_inputs", "documents",
                      "documents has %zu elements; one request may have %zu (server.max_inputs).", count,
                      call->config->max_inputs);
        return false;
    }
    emb_json_iter it = emb_json_begin(array);
    for (size_t i = 0; emb_json_next(&it, NULL, NULL, &value); i++) {
        const char *data;
        size_t length;
        if (emb_json_type_of(value) == EMB_JSON_OBJECT && emb_json_get(value, "text", &text))
            value = text;
        if (!emb_json_string(value, &data, &length) || memchr(data, 0, length)) {
            emb_call_fail_field(call, "documents", "must hold texts without NUL bytes; index %zu is not one.",
                                i);
            return false;
        }
    }
    return true;
}

static void rerank_on_worker(emb_api_call *call)
{
    emb_served *model = emb_call_model(call, call->request.model);
    if (!model)
        return;
    const char *name = emb_arena_strndup(call->arena, model->name, strlen(model->name));
    emb_call_fail(call, 422, "model_cannot_rerank", "model",
                  "The model %.200s makes vectors and cannot rerank (model_cannot_rerank); a cross-encoder "
                  "is needed, such as "
                  "bge-reranker-base, and this version cannot load one. Embed query and documents and "
                  "compare their cosines "
                  "instead.",
                  name ? name : "");
}

static void rerank(emb_api_call *call)
{
    emb_json_value root;
    emb_text query;
    size_t top_n = 0;
    bool documents = false;
    if (!emb_call_json(call, &root) || !emb_decode_model(call, root, &call->request) ||
        !emb_decode_text(call, root, "query", &query) || !check_documents(call, root) ||
        !emb_decode_count(call, root, "top_n", 1, SIZE_MAX >> 1, &top_n) ||
        !emb_decode_bool(call, root, "return_documents", &documents))
        return;
    emb_call_park(call, rerank_on_worker);
}

/* ---- the table ---- */

#define COMMON_MEMBERS                                                                                       \
    "\"model\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024},\"texts\":{\"type\":[\"array\",\"null\"]" \
    ",\"items\":"                                                                                            \
    "{\"type\":\"string\",\"minLength\":1},\"minItems\":1,\"examples\":[[\"The food was delicious.\"]]},"    \
    "\"inputs\":{\"type\":[\"array\",\"null\"],\"description\":\"Instead of texts; parts of type "           \
    "text.\",\"minItems\":1,"                                                                                \
    "\"items\":{\"type\":\"object\",\"required\":[\"content\"],\"properties\":{\"content\":{\"type\":"       \
    "\"array\","                                                                                             \
    "\"minItems\":1,\"maxItems\":1,\"items\":{\"type\":\"object\",\"required\":[\"type\",\"text\"],"         \
    "\"properties\":"                                                                                        \
    "{\"type\":{\"const\":\"text\"},\"text\":{\"type\":\"string\"}}}}}}},"                                   \
    "\"output_dimension\":{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":65536,\"description\":" \
    "\"Keep this many leading components, then normalise. More than the model has is an error.\"},"          \
    "\"max_tokens\":{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":2147483647},"                 \
    "\"embedding_types\":{\"type\":[\"array\",\"null\"],\"minItems\":1,\"items\":{\"enum\":[\"float\","      \
    "\"int8\",\"uint8\","                                                                                    \
    "\"binary\",\"ubinary\",\"base64\"]},\"description\":\"uint8 is floor((x + 1) / (2 / 255)) held to "     \
    "0..255, the fixed "                                                                                     \
    "range -1..1 for every component; int8 is that less 128. ubinary packs x > 0 into bytes, the first "     \
    "component in the "                                                                                      \
    "highest bit; binary is that less 128. base64 is of the little-endian float32 values.\"},"               \
    "\"truncate\":{\"default\":true,\"enum\":[true,false,\"NONE\",\"START\",\"END\",\"none\",\"start\","     \
    "\"end\",\"LEFT\","                                                                                      \
    "\"RIGHT\",\"left\",\"right\",null],\"description\":\"What is cut of a text over the model's limit of "  \
    "tokens; NONE or "                                                                                       \
    "false: it is an error. Absent: the model's own side.\"}"

#define INPUT_TYPES "\"search_document\",\"search_query\",\"classification\",\"clustering\""
#define SOME_TEXTS "\"anyOf\":[{\"required\":[\"texts\"]},{\"required\":[\"inputs\"]}]"
#define V1_REQUEST                                                                              \
    "{\"type\":\"object\"," SOME_TEXTS                                                          \
    ",\"examples\":[{\"texts\":[\"The food was delicious.\"]}],\"properties\":{" COMMON_MEMBERS \
    ",\"input_type\":{\"enum\":[" INPUT_TYPES ",null]}}}"
#define V2_REQUEST                                                                             \
    "{\"type\":\"object\",\"required\":[\"input_type\"]," SOME_TEXTS                           \
    ",\"examples\":[{\"input_type\":\"search_document\","                                      \
    "\"texts\":[\"The food was "                                                               \
    "delicious.\"],\"embedding_types\":[\"float\",\"int8\"]}],\"properties\":{" COMMON_MEMBERS \
    ",\"input_type\":{\"enum\":[" INPUT_TYPES "]}}}"

#define NUMBER_ROWS "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"number\"}}}"
#define INT_ROWS(low, high)                                                                              \
    "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":" low \
    ",\"maximum\":" high "}}}"
#define BY_TYPE                                                                                            \
    "{\"type\":\"object\",\"properties\":{\"float\":" NUMBER_ROWS                                          \
    ",\"int8\":" INT_ROWS("-128", "127") ",\"uint8\":" INT_ROWS("0", "255") ",\"binary\":" INT_ROWS(       \
        "-128",                                                                                            \
        "127") ",\"ubinary\":" INT_ROWS("0", "255") ",\"base64\":{\"type\":\"array\",\"items\":{\"type\":" \
                                                    "\"string\",\"contentEncoding\":\"base64\"}}}}"
#define EMBED_ANSWER(embeddings)                                                                           \
    "{\"type\":\"object\",\"required\":[\"id\",\"embeddings\",\"texts\",\"meta\"],\"properties\":{\"id\":" \
    "{\"type\":\"string\"},\"embeddings\":" embeddings                                                     \
    ",\"texts\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"                                     \
    "\"meta\":{\"type\":\"object\",\"properties\":{\"billed_units\":{\"type\":\"object\",\"properties\":"  \
    "{\"input_tokens\":{\"type\":\"integer\"}}}}},\"response_type\":{\"type\":\"string\"}}}"

#define RERANK_REQUEST                                                                                       \
    "{\"type\":\"object\",\"required\":[\"query\",\"documents\"],\"properties\":{\"model\":{\"type\":["      \
    "\"string\",\"null\"]},"                                                                                 \
    "\"query\":{\"type\":\"string\"},\"documents\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"oneOf\":" \
    "["                                                                                                      \
    "{\"type\":\"string\"},{\"type\":\"object\",\"required\":[\"text\"],\"properties\":{\"text\":{\"type\":" \
    "\"string\"}}}]}},"                                                                                      \
    "\"top_n\":{\"type\":[\"integer\",\"null\"],\"minimum\":1},\"return_documents\":{\"type\":[\"boolean\"," \
    "\"null\"]}}}"
#define RERANK_ANSWER                                                                                        \
    "{\"type\":\"object\",\"required\":[\"results\"],\"properties\":{\"id\":{\"type\":\"string\"},"          \
    "\"results\":{\"type\":"                                                                                 \
    "\"array\",\"items\":{\"type\":\"object\",\"required\":[\"index\",\"relevance_score\"],\"properties\":{" \
    "\"index\":"                                                                                             \
    "{\"type\":\"integer\"},\"relevance_score\":{\"type\":\"number\"}}}}}}"

const emb_route emb_routes_cohere[] = {
    {EMB_HTTP_POST, "/v2/embed", EMB_FAMILY_COHERE, EMB_AUTH_KEY, EMB_RIGHT_USE, embed_v2,
     "Embed texts, in several number types at once.", V2_REQUEST, EMBED_ANSWER(BY_TYPE), NULL, NULL},
    {EMB_HTTP_POST, "/v1/embed", EMB_FAMILY_COHERE, EMB_AUTH_KEY, EMB_RIGHT_USE, embed_v1,
     "Embed texts; vectors by type if types are asked for, else bare.", V1_REQUEST,
     EMBED_ANSWER("{\"oneOf\":[" NUMBER_ROWS "," BY_TYPE "]}"), NULL, NULL},
    {EMB_HTTP_POST, "/v2/rerank", EMB_FAMILY_COHERE, EMB_AUTH_KEY, EMB_RIGHT_USE, rerank,
     "Order documents by a query; 422 (model_cannot_rerank) while no model can.", RERANK_REQUEST,
     RERANK_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/v1/rerank", EMB_FAMILY_OPENAI, EMB_AUTH_KEY, EMB_RIGHT_USE, rerank,
     "The same, with errors as OpenAI's (Jina's and Cohere's body).", RERANK_REQUEST, RERANK_ANSWER, NULL,
     NULL},
    {0}};
