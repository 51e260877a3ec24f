/*
 * out.h: a JSON answer, member by member. Internal to api/.
 *
 *     emb_out o;
 *     emb_out_begin(&o, call);
 *     emb_out_open(&o, NULL, '{');
 *     emb_out_text(&o, "model", answer->model);
 *     emb_out_rows(&o, "embeddings", answer->vectors, answer->count, answer->dimension);
 *     emb_out_close(&o, '}');
 *     emb_out_reply(&o, call, answer);
 *
 * Commas come by themselves. The first failure is carried along and answered by emb_out_reply, so nothing
 * between has to be checked. name NULL: an element of an array, or the root. Of one thread, like its call.
 */
#ifndef EMB_API_OUT_H
#define EMB_API_OUT_H

#include "api/call.h"

typedef struct emb_out {
    emb_buf body;
    emb_status status;
} emb_out;

void emb_out_begin(emb_out *out, emb_api_call *call);
void emb_out_open(emb_out *out, const char *name, char bracket);
void emb_out_close(emb_out *out, char bracket);
void emb_out_text(emb_out *out, const char *name, const char *value); /* NULL: null */
void emb_out_bytes(emb_out *out, const char *name, const char *value, size_t length);
void emb_out_count(emb_out *out, const char *name, uint64_t value);
/* With at most `digits` digits behind the point, 0 to 9; null if it is not finite. */
void emb_out_real(emb_out *out, const char *name, double value, int digits);
void emb_out_float(emb_out *out, const char *name, float value); /* the shortest that reads back */
void emb_out_bool(emb_out *out, const char *name, bool value);
void emb_out_null(emb_out *out, const char *name);
void emb_out_usd(emb_out *out, const char *name, uint64_t nusd); /* exact, in dollars */
void emb_out_floats(emb_out *out, const char *name, const float *values, size_t count);
void emb_out_rows(emb_out *out, const char *name, const float *values, size_t count, size_t dimension);

/* Answers 200 (or why the body could not be written) and releases the call. */
void emb_out_reply(emb_out *out, emb_api_call *call, const emb_answer *answer);

#endif
