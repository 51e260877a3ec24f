/*
 * envelope.h: what an error looks like to the clients of each family. Internal to api/.
 *
 *     emb_envelope_write(EMB_FAMILY_OPENAI, &(emb_failure){404, "model_not_found", "model", "…"}, &buf);
 *
 * Statuses are those of emb_buf.
 */
#ifndef EMB_API_ENVELOPE_H
#define EMB_API_ENVELOPE_H

#include "api/route.h"

typedef struct emb_failure {
    int status;
    const char *code;  /* or NULL */
    const char *param; /* the member concerned, "texts[3]"; or NULL */
    const char *message;
} emb_failure;

EMB_MUST_CHECK emb_status emb_envelope_write(emb_family family, const emb_failure *failure, emb_buf *out);
/* The status for a member of the wrong type or range: 400, or 422. */
int emb_envelope_field_status(emb_family family);
/* Its JSON Schema, for /openapi.json. */
const char *emb_envelope_schema(emb_family family);
const char *emb_family_name(emb_family family); /* "OpenAI" */

#endif
