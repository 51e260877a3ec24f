/*
 * call.h: one request on its way through a route: what every handler needs. Internal to api/.
 *
 *     static void create_embeddings(emb_api_call *call)
 *     {
 *         emb_request r = EMB_REQUEST_INIT;
 *         if (!emb_call_json(call, &root) || !decode(call, root, &r)) return;  // has answered
 *         emb_call_embed(call, &r, write_answer);
 *     }
 *
 * emb_call_embed checks limits and the caller's right to the model, answers on the spot if L1 holds every text, parks
 * otherwise, and calls `write` with the answer; on failure it answers in the family's envelope. A handler or writer
 * returns after exactly one answer. The call lives in the exchange's arena.
 */
#ifndef EMB_API_CALL_H
#define EMB_API_CALL_H

#include "api/route.h"
#include "base/json.h"

typedef struct emb_api_call emb_api_call;

struct emb_api_call {
    emb_api *api;
    emb_exchange *x;
    const emb_route *route;
    emb_service *service;
    emb_config *config;      /* retained for the call */
    emb_caller *caller;      /* or NULL */
    emb_arena *arena;
    const char *parameters[4]; /* of the path, in order */
    emb_json *document;      /* of the body; closed with the call */
    uint64_t parse_ns;
    emb_request request;     /* of emb_call_embed */
    void (*write)(emb_api_call *call, const emb_answer *answer);
    void *state;             /* of the handler, in the arena */
};

/* Parses the body; on failure answers 400 (or 415, 422) and returns false. The root is an object. */
EMB_MUST_CHECK bool emb_call_json(emb_api_call *call, emb_json_value *root);
/* Takes x-embedd-context, x-embedd-category, cache-control and the configuration's time limit into *request; on failure
 * has answered. */
EMB_MUST_CHECK bool emb_call_headers(emb_api_call *call, emb_request *request);
void emb_call_embed(emb_api_call *call, const emb_request *request,
                    void (*write)(emb_api_call *call, const emb_answer *answer));
/* Runs `work` on a worker; 429 if none is free. For handlers that block without embedding (tokenize, warm). */
void emb_call_park(emb_api_call *call, void (*work)(emb_api_call *call));
/* Checks that the caller may use `model`, acquires it; on failure has answered, NULL. Of a worker. */
emb_served *emb_call_model(emb_api_call *call, const char *model);

/* 200 with a JSON body, and x-embedd-*, server-timing from `answer` if that is not NULL. Takes the body over. */
void emb_call_reply(emb_api_call *call, const emb_answer *answer, emb_buf *body);
/* A body that can grow to what an answer may need. */
void emb_call_body(emb_api_call *call, emb_buf *body);

/* An error in the family's envelope. `param`: the member concerned, or NULL; `code`: a short name for programs
 * ("model_not_found"), or NULL. */
void emb_call_fail(emb_api_call *call, int status, const char *code, const char *param, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* From an emb_error: its status, with the envelope's types. */
void emb_call_fail_error(emb_api_call *call, const emb_error *err);
/* A member of the wrong type or range: 400, or 422 in families whose clients expect that. */
void emb_call_fail_field(emb_api_call *call, const char *member, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
