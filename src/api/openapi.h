/*
 * openapi.h: the OpenAPI 3.1 document of a route table. Internal to api/.
 *
 *     if (emb_openapi_write(table, &buf)) …   // EMB_E_NOMEM, EMB_E_LIMIT from the buffer
 *
 * Everything in it comes from the rows: paths, methods, parameters, schemas, who may call, and the families'
 * errors.
 */
#ifndef EMB_API_OPENAPI_H
#define EMB_API_OPENAPI_H

#include "api/routes.h"

EMB_MUST_CHECK emb_status emb_openapi_write(const emb_route_table *routes, emb_buf *out);

/* web/docs.html, for /docs. */
const char *emb_docs_page(size_t *length);

#endif
