/*
 * wire.h: what a kind of provider is: a row of functions that write a request and read an answer.
 *
 *     const emb_wire *w = emb_wire_of(EMB_PROVIDER_COHERE);
 *     w->url(config, model, &url);                     // appended
 *     w->body(&request, &body);
 *     st = emb_wire_read(w, &request, bytes, n, &answer, err);
 *
 * Requests hold no member that was not asked for: some servers refuse null. Thread-safe: rows are constant,
 * functions work on their arguments alone.
 */
#ifndef EMB_PROVIDER_WIRE_H
#define EMB_PROVIDER_WIRE_H

#include "base/buf.h"
#include "provider/provider.h"
#include "provider/vectors.h"

/* The texts of one exchange. */
typedef struct emb_wire_request {
    const emb_provider_config *config;
    const emb_provider_call *call;
    const emb_text *texts;
    const size_t *offsets; /* into call->ids; NULL: texts are sent */
    size_t count;
} emb_wire_request;

typedef struct emb_wire_answer {
    emb_vectors vectors;
    uint64_t tokens;
    bool tokens_known;
    bool other_space;                     /* than the call's */
    char space[EMB_PROVIDER_SPACE_BYTES]; /* that it names; "": none */
} emb_wire_answer;

typedef struct emb_wire {
    size_t max_texts, max_tokens, max_body_bytes; /* of one exchange; tokens 0: no limit */
    const char *key_header;                       /* what stands before the key */
    const char *warm_path;                        /* a cheap GET below base_url */
    bool token_header;                            /* x-compute-tokens counts */
    bool takes_ids;                               /* token ids in place of texts */
    emb_status (*url)(const emb_provider_config *config, const char *model, emb_buf *out);
    emb_status (*body)(const emb_wire_request *request, emb_buf *out);
    emb_status (*read)(const emb_wire_request *request, emb_json_value root, emb_wire_answer *answer,
                       emb_error *err);
} emb_wire;

/* NULL for kinds that are no wire (local). */
const emb_wire *emb_wire_of(emb_provider_kind kind);
extern const emb_wire emb_wire_openai, emb_wire_azure, emb_wire_huggingface, emb_wire_cohere, emb_wire_ollama,
    emb_wire_tei, emb_wire_remote, emb_wire_embedd;

/* The body of a 200: rows into answer->vectors, which is initialised; all are checked. *is_json (may not be
 * NULL): it could be parsed. */
EMB_MUST_CHECK emb_status emb_wire_read(const emb_wire *wire, const emb_wire_request *request,
                                        const char *body, size_t length, emb_wire_answer *answer,
                                        bool *is_json, emb_error *err);

/* ---- for the kinds ---- */

/* ,"name":value or {"name":value if out is empty; the body is closed with emb_wire_end. */
EMB_MUST_CHECK emb_status emb_wire_text(emb_buf *out, const char *name,
                                        const char *value); /* NULL and "": nothing */
EMB_MUST_CHECK emb_status emb_wire_raw(emb_buf *out, const char *name, const char *json);
EMB_MUST_CHECK emb_status emb_wire_number(emb_buf *out, const char *name, size_t value); /* 0: nothing */
EMB_MUST_CHECK emb_status emb_wire_switch(emb_buf *out, const char *name,
                                          emb_switch value); /* EMB_DEFAULT: nothing */
EMB_MUST_CHECK emb_status emb_wire_texts(emb_buf *out, const char *name, const emb_wire_request *request);
/* The texts, or the lists of token ids where the call has them. */
EMB_MUST_CHECK emb_status emb_wire_input(emb_buf *out, const char *name, const emb_wire_request *request);
EMB_MUST_CHECK emb_status emb_wire_end(emb_buf *out);
/* base_url, path; `part` percent-encoded between them if not NULL: "<base><before><part><after>". */
EMB_MUST_CHECK emb_status emb_wire_url(const emb_provider_config *config, const char *before,
                                       const char *part, bool keep_slashes, const char *after, emb_buf *out);
/* The provider's usage at a member that may be missing. */
void emb_wire_usage(emb_json_value object, const char *name, emb_wire_answer *answer);
/* A member that must be there. */
EMB_MUST_CHECK emb_status emb_wire_member(emb_json_value root, const char *name, emb_json_value *out,
                                          emb_error *err);

#endif
