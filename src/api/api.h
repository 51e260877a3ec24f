/*
 * api.h: the routes: which path speaks which client's language. One table; /openapi.json, /docs, 404, 405,
 * access and metrics come from it.
 *
 *     emb_api *api;
 *     emb_api_open(service, access, &api, err);
 *     options.handle = emb_api_handle; options.record = emb_api_record; options.context = api;
 *
 * Each family of routes is a file (openai.c, embedder.c, model_server.c, …) that exports a table of
 * emb_route. A handler decodes the body into emb_request (decode.h), calls emb_api_embed, and writes the
 * answer in its client's form; what all families share is in call.h. Errors have the family's own envelope:
 * emb_api_fail picks it by the route.
 */
#ifndef EMB_API_API_H
#define EMB_API_API_H

#include "http/server.h"
#include "service/access.h"
#include "service/service.h"

typedef struct emb_api emb_api;

EMB_MUST_CHECK emb_status emb_api_open(emb_service *service, emb_access *access, emb_api **out,
                                       emb_error *err);
void emb_api_close(emb_api *api);
/* While draining /ready is 503. */
void emb_api_set_draining(emb_api *api, bool draining);
/* For gauges of connections; NULL when it is gone. */
void emb_api_set_server(emb_api *api, emb_http_server *server);

void emb_api_handle(void *api, emb_exchange *x);
void emb_api_record(void *api, const emb_http_record *record);

#endif
