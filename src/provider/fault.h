/*
 * fault.h: what a failed exchange means: how the attempt ended, what the caller is told, whether another try
 * may help.
 *
 *     emb_fault f;
 *     emb_fault_of_http(&request, 429, body, n, &f);
 *     if (f.end == EMB_ATTEMPT_QUOTA) …
 *
 * Decided by the error's code before its status: "insufficient_quota" comes as 429 and does not pass. The
 * provider's own words are repeated only if they quote no text and no key. Thread-safe.
 */
#ifndef EMB_PROVIDER_FAULT_H
#define EMB_PROVIDER_FAULT_H

#include "provider/wire.h"

typedef struct emb_fault {
    emb_attempt_end end;
    emb_status status;
    bool again, once; /* another attempt may help; one more at most */
    bool at_once;     /* and needs no wait: the provider is not at fault */
    int64_t wait_ms;  /* that the body asks for (estimated_time); -1: nothing */
    bool has_input;   /* it is known which text is at fault */
    size_t input;     /* by position in the request */
    char words[240];  /* what happened, for people: "HTTP 400: …" */
} emb_fault;

/* An answer that is not 200, or a 200 whose body holds an error. */
void emb_fault_of_http(const emb_wire_request *request, int http_status, const char *body, size_t length,
                       emb_fault *fault);
/* Whether the body of a 200 is an error in disguise; then as above. */
bool emb_fault_in_answer(const emb_wire_request *request, const char *body, size_t length, emb_fault *fault);
/* An exchange that broke: libcurl's code and words. `sent`: the request was out. */
void emb_fault_of_transport(int curl_code, const char *words, bool sent, emb_fault *fault);
/* A 200 that cannot be used, for the reason in err. */
void emb_fault_of_answer(const emb_error *err, bool is_json, emb_fault *fault);

/* Copies what may be shown of a provider's message: one line, at most size - 1 bytes, nothing if it quotes a
 * text or the key. Returns whether something is left. */
bool emb_fault_words(const emb_wire_request *request, const char *message, size_t length, char *out,
                     size_t size);

#endif
