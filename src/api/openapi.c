/*
 * openapi.c: the route table as OpenAPI 3.1.
 *
 * Written once, when the routes are opened, by walking the table; nothing about a route is said anywhere
 * else, so the document cannot drift from what is served. Schemas stand in it as they stand in the rows. A
 * `writer` carries the first failure along, so that the walk reads as the document does.
 */
#include "api/openapi.h"

#include "api/envelope.h"
#include "base/json_write.h"

#include <ctype.h>
#include <string.h>

typedef struct writer {
    emb_buf *buf;
    emb_status status;
} writer;

static void put(writer *w, const char *text)
{
    if (!w->status)
        w->status = emb_buf_add_str(w->buf, text);
}

static void put_bytes(writer *w, const char *text, size_t length)
{
    if (!w->status)
        w->status = emb_buf_add(w->buf, text, length);
}

static void put_string(writer *w, const char *text)
{
    if (!w->status)
        w->status = emb_json_write_string(w->buf, text, strlen(text));
}

static const struct {
    unsigned bit;
    const char *name;
} methods[] = {{EMB_HTTP_GET, "get"},
               {EMB_HTTP_POST, "post"},
               {EMB_HTTP_PUT, "put"},
               {EMB_HTTP_DELETE, "delete"},
               {EMB_HTTP_PATCH, "patch"}};
enum { METHODS = sizeof methods / sizeof *methods };

static const char description[] =
    "Texts into vectors, in the languages of several clients. A member that is null is read as absent; "
    "members that are "
    "not known are ignored; of members that occur twice the first counts. Floats are the shortest text that "
    "reads back to "
    "the same float32. Embedding answers carry x-embedd-provider, x-embedd-space (what is comparable), "
    "x-embedd-cached "
    "(how many of the texts came from the cache), x-embedd-tokens, x-embedd-cost-usd and server-timing. "
    "x-embedd-rights of an operation lists rights of API keys, one of which it needs.";

/* "{id...}" is "{id}" to OpenAPI. */
static void put_path(writer *w, const char *path)
{
    put(w, "\"");
    while (*path) {
        const char *dots = strstr(path, "...}");
        size_t length = dots ? (size_t)(dots - path) : strlen(path);
        put_bytes(w, path, length);
        path += length + (dots ? 3 : 0);
    }
    put(w, "\":{");
}

static void put_operation_id(writer *w, const char *method, const char *path)
{
    put(w, "\"operationId\":\"");
    put(w, method);
    for (bool gap = true; *path; path++) {
        if (!isalnum((unsigned char)*path)) {
            gap = true;
            continue;
        }
        if (gap)
            put(w, "_");
        gap = false;
        put_bytes(w, path, 1);
    }
    put(w, "\"");
}

static void put_path_parameters(writer *w, const char *path, const char **comma)
{
    for (const char *p = path; (p = strchr(p, '{')); p++) {
        size_t length = strcspn(p + 1, ".}");
        put(w, *comma);
        put(w, "{\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\",\"minLength\":1},\"name\":"
               "\"");
        put_bytes(w, p + 1, length);
        put(w, "\"");
        if (p[1 + length] == '.')
            put(w, ",\"description\":\"May hold slashes.\"");
        put(w, "}");
        *comma = ",";
    }
}

static void put_query_parameters(writer *w, const char *names, const char **comma)
{
    while (names && *names) {
        size_t length = strcspn(names, ",");
        put(w, *comma);
        put(w, "{\"in\":\"query\",\"required\":false,\"schema\":{\"type\":\"string\"},\"name\":\"");
        put_bytes(w, names, length);
        put(w, "\"}");
        *comma = ",";
        names += length + (names[length] == ',');
    }
}

static void put_parameters(writer *w, const emb_route *route)
{
    const char *comma = "";
    put(w, ",\"parameters\":[");
    put_path_parameters(w, route->path, &comma);
    put_query_parameters(w, route->query, &comma);
    if (route->request_schema) {
        static const char *const headers[] = {"Context", "Category", "CacheControl"};
        for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
            put(w, comma);
            put(w, "{\"$ref\":\"#/components/parameters/");
            put(w, headers[i]);
            put(w, "\"}");
            comma = ",";
        }
    }
    put(w, "]");
}

/* What the server refuses before a route is known (a malformed head, a body that is too large) has OpenAI's
 * form. */
static bool may_be_early(const char *status)
{
    return strcmp(status, "400") == 0 || strcmp(status, "413") == 0 || strcmp(status, "default") == 0;
}

static void put_error(writer *w, const char *status, const char *text, emb_family family)
{
    static const char *const names[] = {"OpenAIError", "EmbedderError", "ModelServerError",
                                        "OllamaError", "CohereError",   "HybridError"};
    bool early = family != EMB_FAMILY_OPENAI && may_be_early(status);
    put(w, ",\"");
    put(w, status);
    put(w, "\":{\"description\":");
    put_string(w, text);
    put(w, ",\"content\":{\"application/json\":{\"schema\":{");
    put(w, early ? "\"anyOf\":[{\"$ref\":\"#/components/schemas/" : "\"$ref\":\"#/components/schemas/");
    put(w, names[family]);
    put(w, early ? "\"},{\"$ref\":\"#/components/schemas/OpenAIError\"}]}}}}" : "\"}}}}");
}

static void put_responses(writer *w, const emb_route *route)
{
    const char *type = route->answer_type ? route->answer_type : "application/json";
    put(w, ",\"responses\":{\"200\":{\"description\":\"The answer.\"");
    if (route->answer_schema || route->answer_type) {
        put(w, ",\"content\":{");
        put_string(w, type);
        put(w, ":{");
        if (route->answer_schema) {
            put(w, "\"schema\":");
            put(w, route->answer_schema);
        }
        put(w, "}}");
    }
    put(w, "}");
    if (route->request_schema) {
        put_error(w, "400", "The request cannot be understood, or a value is not allowed.", route->family);
        put_error(w, "413", "Too many texts, or the body is too large.", route->family);
        put_error(w, "415", "The body is not JSON in UTF-8.", route->family);
        put_error(w, "422", "A member is missing or of the wrong type or range.", route->family);
    }
    if (route->auth != EMB_AUTH_OPEN) {
        put_error(w, "401", "No key was sent, or not one of this service.", route->family);
        put_error(w, "403", "The key lacks the right, or may not use this model.", route->family);
    }
    if (route->request_schema || strchr(route->path, '{'))
        put_error(w, "404", "There is no such model or object.", route->family);
    put_error(w, "429", "A rate limit is reached, or the service is at its limit; see Retry-After.",
              route->family);
    put_error(w, "503", "The service is starting, stopping or short of memory.", route->family);
    put_error(w, "504", "The time for the request has passed.", route->family);
    put_error(w, "default", "Any other failure.", route->family);
    put(w, "}");
}

/* "x-embedd-rights":["use","read"]: a key needs one of them. */
static void put_rights(writer *w, unsigned rights)
{
    char names[EMB_RIGHTS_TEXT];
    emb_rights_text(rights, "\",\"", names, sizeof names);
    put(w, ",\"x-embedd-rights\":[\"");
    put(w, names);
    put(w, "\"]");
}

static void put_operation(writer *w, const emb_route *route, const char *method)
{
    put_string(w, method);
    put(w, ":{");
    put_operation_id(w, method, route->path);
    put(w, ",\"tags\":[");
    put_string(w, emb_family_name(route->family));
    put(w, "],\"summary\":");
    put_string(w, route->summary ? route->summary : "");
    put_parameters(w, route);
    if (route->request_schema) {
        put(w, ",\"requestBody\":{\"required\":true,\"content\":{\"application/json\":{\"schema\":");
        put(w, route->request_schema);
        put(w, "}}}");
    }
    put_responses(w, route);
    if (route->auth == EMB_AUTH_OPEN)
        put(w, ",\"security\":[]");
    else
        put_rights(w, route->rights);
    put(w, "}");
}

static void put_paths(writer *w, const emb_route_table *routes)
{
    size_t count = emb_routes_count(routes);
    bool first_path = true;
    for (size_t i = 0; i < count; i++) {
        const emb_route *head = emb_routes_at(routes, i);
        if (emb_routes_index(routes, head->path) != i)
            continue; /* with the row that had its path first */
        if (!first_path)
            put(w, ",");
        first_path = false;
        put_path(w, head->path);
        bool first_method = true;
        for (size_t j = i; j < count; j++) {
            const emb_route *route = emb_routes_at(routes, j);
            for (size_t m = 0; m < METHODS && strcmp(route->path, head->path) == 0; m++) {
                if (!(route->methods & methods[m].bit))
                    continue;
                if (!first_method)
                    put(w, ",");
                first_method = false;
                put_operation(w, route, methods[m].name);
            }
        }
        put(w, "}");
    }
}

static void put_components(writer *w)
{
    static const char *const names[] = {"OpenAIError", "EmbedderError", "ModelServerError",
                                        "OllamaError", "CohereError",   "HybridError"};
    put(w,
        "\"components\":{\"securitySchemes\":{"
        "\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"},"
        "\"apiKey\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":\"api-key\"},"
        "\"xApiKey\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":\"x-api-key\"}},"
        "\"parameters\":{"
        "\"Context\":{\"in\":\"header\",\"name\":\"x-embedd-context\",\"required\":false,\"schema\":{"
        "\"enum\":"
        "[\"realtime\",\"analysis\",\"batch\",\"sensitive\",\"default\"]},\"description\":"
        "\"What the texts are for. Sensitive texts never reach the second level of the cache.\"},"
        "\"Category\":{\"in\":\"header\",\"name\":\"x-embedd-category\",\"required\":false,"
        "\"schema\":{\"type\":\"string\"},\"description\":\"A name for accounts.\"},"
        "\"CacheControl\":{\"in\":\"header\",\"name\":\"cache-control\",\"required\":false,"
        "\"schema\":{\"type\":\"string\"},\"description\":\"no-cache: compute anew. no-store: keep nothing. "
        "max-age=SECONDS: no older vectors.\"}},"
        "\"schemas\":{");
    for (int f = 0; f <= EMB_FAMILY_HYBRID; f++) {
        put(w, f ? ",\"" : "\"");
        put(w, names[f]);
        put(w, "\":");
        put(w, emb_envelope_schema((emb_family)f));
    }
    put(w, "}}");
}

emb_status emb_openapi_write(const emb_route_table *routes, emb_buf *out)
{
    writer w = {out, EMB_OK};
    put(&w, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"embedd\",\"version\":\"" EMB_VERSION_STRING
            "\",\"license\":{\"name\":\"Apache-2.0\",\"identifier\":\"Apache-2.0\"},\"description\":");
    put_string(&w, description);
    put(&w, "},\"servers\":[{\"url\":\"/"
            "\"}],\"security\":[{\"bearer\":[]},{\"apiKey\":[]},{\"xApiKey\":[]},{}],\"paths\":{");
    put_paths(&w, routes);
    put(&w, "},");
    put_components(&w);
    put(&w, "}");
    return w.status;
}
