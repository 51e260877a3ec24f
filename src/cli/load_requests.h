/*
 * load_requests.h: the requests of a load test, made beforehand so that sending one is a copy and a few
 * numbers.
 *
 *     emb_load_requests q;
 *     if ((st = emb_load_requests_init(&q, &shape, err))) return st;
 *     size_t n = emb_load_request_write(&q, &random, &serial, out);   // out has room for q.largest
 *     emb_load_requests_fini(&q);
 *
 * There are a few hundred templates. Each text of a template begins with a word of letters that is filled in
 * when it is sent: a serial number, which makes the text new to every cache, or one of a few, which makes it
 * a repetition. After initialisation read-only, any number of threads.
 */
#ifndef EMB_CLI_LOAD_REQUESTS_H
#define EMB_CLI_LOAD_REQUESTS_H

#include <embedd.h>

typedef enum emb_load_api {
    EMB_LOAD_OPENAI,
    EMB_LOAD_TEI,
    EMB_LOAD_EMBEDDER,
    EMB_LOAD_DOCVECTOR,
    EMB_LOAD_OLLAMA
} emb_load_api;
#define EMB_LOAD_APIS "openai|tei|embedder|docvector|ollama"

typedef struct emb_load_shape {
    emb_load_api api;
    const char *host, *base_path; /* of the Host header; "" or "/prefix" */
    const char *model, *api_key;  /* or NULL */
    bool floats;                  /* OpenAI's: numbers rather than base64 */
    size_t texts;                 /* of a request */
    size_t words;                 /* of a text; 0: a mix, mostly short */
    size_t most_words;            /* of the mix */
    double repeat;                /* share of texts that are repetitions, 0 .. 1 */
    size_t distinct;              /* how many different texts are repeated, about */
} emb_load_shape;

typedef struct emb_load_template {
    char *bytes; /* head and body */
    size_t length;
    size_t *slots; /* where each text's first word is */
} emb_load_template;

typedef struct emb_load_requests {
    emb_load_template *templates;
    size_t count, texts, largest;
    uint64_t variants; /* repetitions of one text of a template */
    double repeat;
} emb_load_requests;

EMB_MUST_CHECK emb_status emb_load_requests_init(emb_load_requests *requests, const emb_load_shape *shape,
                                                 emb_error *err);
void emb_load_requests_fini(emb_load_requests *requests);
/* serial: a number that no other thread uses; it is advanced. Returns the bytes written. */
size_t emb_load_request_write(const emb_load_requests *requests, uint64_t *random, uint64_t *serial,
                              char *out);
/* The route that a shape asks, without the base. */
const char *emb_load_route(emb_load_api api);

#endif
