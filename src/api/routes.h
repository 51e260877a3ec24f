/*
 * routes.h: finding the row of the route table for a method and a path. Internal to api/.
 *
 *     emb_route_table *table;
 *     emb_routes_open(families, count, &table, err);
 *     emb_route_match m;
 *     switch (emb_routes_find(table, EMB_HTTP_POST, "/v1/embeddings", arena, &m)) { … m.route->handle … }
 *     emb_routes_close(table);
 *
 * An exact path goes before one with parameters, and "{x...}" comes last. A slash at the end of a path is
 * forgiven. The table never changes and may be read by any thread.
 */
#ifndef EMB_API_ROUTES_H
#define EMB_API_ROUTES_H

#include "api/route.h"

typedef struct emb_route_table emb_route_table;

/* families: tables that end with a row without path. EMB_E_INVALID names a path that is malformed or there
 * twice. */
EMB_MUST_CHECK emb_status emb_routes_open(const emb_route *const *families, size_t count,
                                          emb_route_table **out, emb_error *err);
void emb_routes_close(emb_route_table *table);

typedef enum emb_route_result {
    EMB_ROUTE_FOUND,
    EMB_ROUTE_NO_METHOD,
    EMB_ROUTE_NOT_FOUND,
    EMB_ROUTE_NOMEM
} emb_route_result;

typedef struct emb_route_match {
    const emb_route *route;    /* on NO_METHOD a route of that path */
    unsigned methods;          /* of that path, HEAD for GET included */
    const char *parameters[4]; /* in the arena or the path */
} emb_route_match;

/* Looks for all routes of the path, so that NO_METHOD can say what would do. */
emb_route_result emb_routes_find(const emb_route_table *table, emb_http_method method, const char *path,
                                 emb_arena *arena, emb_route_match *out);

size_t emb_routes_count(const emb_route_table *table);
const emb_route *emb_routes_at(const emb_route_table *table, size_t index); /* in the order of the families */
/* Index of a row by its path's address, as records carry it; emb_routes_count if it is none. Rows of one path
 * (its methods) share the first one's. */
size_t emb_routes_index(const emb_route_table *table, const char *path);
/* The up to `most` routes whose paths are nearest to this one, nearest first; how many there are. */
size_t emb_routes_near(const emb_route_table *table, const char *path, const emb_route **out, size_t most);

/* "GET, HEAD, POST" */
void emb_methods_text(unsigned methods, char *out, size_t size);

#endif
