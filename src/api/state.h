/*
 * state.h: what an emb_api is made of. Internal to api.c and call.c.
 *
 *     emb_series_add(emb_api_error_series(api, route, "model_not_found"), 1);
 *
 * Made by emb_api_open and read by every thread; only `draining` and `server` change.
 */
#ifndef EMB_API_STATE_H
#define EMB_API_STATE_H

#include "api/routes.h"

#include <stdatomic.h>

typedef struct emb_route_series emb_route_series;

struct emb_api {
    emb_service *service;
    emb_access *access;
    emb_metrics *metrics;
    emb_route_table *routes;
    emb_route_series *series; /* by emb_route_table's index */
    emb_buf document;         /* /openapi.json */
    emb_window *seconds;      /* of requests, the last EMB_LATENCY_SECONDS or since a reset */
    atomic_bool draining;
    _Atomic(emb_http_server *) server;
};

#endif
