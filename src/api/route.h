/*
 * route.h: a row of the route table. Internal to api/.
 *
 *     const emb_route emb_routes_openai[] = {
 *         { EMB_HTTP_POST, "/v1/embeddings", EMB_FAMILY_OPENAI, EMB_AUTH_KEY, EMB_RIGHT_USE,
 *           create_embeddings, "Embed texts or token ids.", OPENAI_EMBEDDINGS_REQUEST, OPENAI_EMBEDDINGS_ANSWER },
 *         { 0 }
 *     };
 *
 * A path may hold parameters, "/v1/models/{id}"; "{id...}" as the last takes the rest with its slashes.
 * Schemas are JSON Schema texts (OpenAPI 3.1) of the JSON request body and of the 200 answer; NULL: none.
 * They are what /openapi.json shows, and tests/api checks real answers against them.
 * Each row says which rights of a key open it; a key needs one of them (service/access.h). A row that says
 * none is refused when the table is made.
 */
#ifndef EMB_API_ROUTE_H
#define EMB_API_ROUTE_H

#include "api/api.h"
#include "service/access.h"

typedef enum emb_family {
    EMB_FAMILY_OPENAI,       /* {"error":{"message","type","param","code"}} */
    EMB_FAMILY_EMBEDDER,     /* {"detail":"…"}, 422 {"detail":[{"loc","msg","type"}]} */
    EMB_FAMILY_MODEL_SERVER, /* {"error":"…","error_type":"…"} */
    EMB_FAMILY_OLLAMA,       /* {"error":"…"} */
    EMB_FAMILY_COHERE,       /* {"message":"…"} */
    EMB_FAMILY_HYBRID        /* {"detail":"…"} as [E], 422 alike */
} emb_family;

typedef enum emb_auth { EMB_AUTH_KEY, EMB_AUTH_HEALTH, EMB_AUTH_METRICS, EMB_AUTH_OPEN } emb_auth;

struct emb_api_call;

typedef struct emb_route {
    unsigned methods; /* emb_http_method, or'ed; GET serves HEAD too */
    const char *path;
    emb_family family;
    emb_auth auth;
    unsigned rights; /* emb_right, or'ed: any of them lets in; EMB_RIGHT_ANY: whoever has a key */
    void (*handle)(struct emb_api_call *call);
    const char *summary, *request_schema, *answer_schema;
    const char *answer_type; /* NULL: application/json */
    const char *query;       /* names of query parameters, "from,to"; NULL: none */
} emb_route;

/* The arrays below; NULL behind them (api.c). */
extern const emb_route *const emb_route_families[];

/* Each ends with a row whose path is NULL. */
extern const emb_route emb_routes_openai[], emb_routes_cohere[], emb_routes_ollama[], emb_routes_embedder[],
    emb_routes_model_server[], emb_routes_similarity[], emb_routes_tokens[], emb_routes_hybrid[],
    emb_routes_hybrid_cache[], emb_routes_explain[], emb_routes_costs[], emb_routes_shadow[],
    emb_routes_alerts[], emb_routes_rollout[], emb_routes_pii[], emb_routes_system[], emb_routes_docs[];

#endif
