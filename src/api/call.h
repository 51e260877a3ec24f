/*
 * call.h: one request on its way through a route: what every handler needs. Internal to api/.
 *
 *     static void create_embeddings(emb_api_call *call)
 *     {
 *         emb_request r = EMB_REQUEST_INIT;
 *         if (!emb_call_json(call, &root) || !emb_call_headers(call, &r) || !decode(call, root, &r)) return;
 *         emb_call_embed(call, &r, write_answer);
 *     }
 *
 * emb_call_embed checks limits and the caller's right to the model, answers on the spot if L1 holds every
 * text, parks otherwise, and calls `write` with the answer; on failure it answers in the family's envelope. A
 * handler or writer returns after exactly one answer.
 *
 * The call lives in the exchange's arena and holds what it was given (document, configuration, caller, model,
 * answer) until it is answered; every function here that answers releases all of it, so after it, and after a
 * function that returned false, the call is not touched. A handler that answers past these functions (a
 * stream) calls emb_call_end just before the exchange's own last word. One thread at a time has a call.
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
    emb_config *config; /* retained for the call */
    emb_caller *caller; /* or NULL */
    emb_arena *arena;
    const char *parameters[4]; /* of the path, in order */
    emb_json *document;        /* of the body; closed with the call */
    uint64_t parse_ns;
    emb_request request; /* of emb_call_embed */
    void (*write)(emb_api_call *call, const emb_answer *answer);
    void *state; /* of the handler, in the arena */
    /* of call.c */
    emb_served *served; /* of emb_call_model, held until the end */
    emb_answer answer;
    void (*work)(emb_api_call *call);
    bool has_answer, parked, has_headers;
    const char *texts_member; /* of emb_decode_texts, for errors */
    const size_t
        *places; /* if a handler left texts out: where the request's texts stand in the client's array */
};

/* For routes that tell of the service itself. */
bool emb_api_draining(const emb_api *api);
emb_http_server *emb_api_server(const emb_api *api); /* NULL: none */
/* Of requests, from their arrival to their end; as emb_service_get_latency. */
void emb_api_get_latency(const emb_api *api, emb_window_stats *out);
void emb_api_reset_latency(emb_api *api);
emb_access *emb_api_access(const emb_api *api);
/* The OpenAPI document, made once; lives as long as the api. */
const emb_buf *emb_api_document(const emb_api *api);

/* Parses the body; on failure answers 400 (or 415, 422) and returns false. The root is an object. Of members
 * that occur twice the first counts. */
EMB_MUST_CHECK bool emb_call_json(emb_api_call *call, emb_json_value *root);
/* Takes x-embedd-context, x-embedd-category, cache-control and the configuration's time limit into *request;
 * on failure has answered. */
EMB_MUST_CHECK bool emb_call_headers(emb_api_call *call, emb_request *request);
void emb_call_embed(emb_api_call *call, const emb_request *request,
                    void (*write)(emb_api_call *call, const emb_answer *answer));
/* Runs `work` on a worker; 429 if none is free. For handlers that block without embedding (tokenize,
 * warm). */
void emb_call_park(emb_api_call *call, void (*work)(emb_api_call *call));
/* Checks that the caller may use `model` (NULL or "": the default), acquires it; on failure has answered,
 * NULL. The call holds it: not to be released. Of a worker. */
emb_served *emb_call_model(emb_api_call *call, const char *model);

/* 200 with a JSON body, and x-embedd-*, server-timing from `answer` if that is not NULL. Takes the body
 * over. */
void emb_call_reply(emb_api_call *call, const emb_answer *answer, emb_buf *body);
/* A body that can grow to what an answer may need. */
void emb_call_body(emb_api_call *call, emb_buf *body);
/* Answers with any status, type and body (taken over; may be NULL), without the headers of emb_call_reply. */
void emb_call_send(emb_api_call *call, int status, const char *content_type, emb_buf *body);
/* Ends a body that was being written: emb_call_reply if `status` is EMB_OK, otherwise releases it and answers
 * that. */
void emb_call_finish(emb_api_call *call, const emb_answer *answer, emb_buf *body, emb_status status);
/* Releases what the call holds, before a stream is ended by its handler. */
void emb_call_end(emb_api_call *call);

/* An error in the family's envelope. `param`: the member concerned, or NULL; `code`: a short name for
 * programs ("model_not_found"), or NULL. */
void emb_call_fail(emb_api_call *call, int status, const char *code, const char *param, const char *format,
                   ...) __attribute__((format(printf, 5, 6)));
/* From an emb_error: its status, with the envelope's types. */
void emb_call_fail_error(emb_api_call *call, const emb_error *err);
/* A member that has to be there and is not. */
void emb_call_fail_missing(emb_api_call *call, const char *member);
/* 429 with Retry-After: as much is in work as may be. */
void emb_call_fail_busy(emb_api_call *call);
/* A member of the wrong type or range: 400, or 422 in families whose clients expect that. */
void emb_call_fail_field(emb_api_call *call, const char *member, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
