/*
 * provider.h: a remote embedding API as a blocking call: split by its limits, sent in parallel, retried, put
 * together by index and checked.
 *
 *     emb_provider *p;
 *     emb_provider_open(&config->gateway.providers[0], &options, &p, err);
 *     emb_provider_call c = { .model = &p_config->models[0], .texts = texts, .count = n, .token_counts = counts,
 *                             .deadline_ns = deadline, .cancel = cancel, .hooks = &hooks };
 *     emb_provider_result r = { .vectors = room_for_n_rows, .dimension = 1536 };
 *     emb_status st = emb_provider_embed(p, &c, &r, err);
 *
 * A kind of provider (openai, azure, huggingface, cohere, ollama, tei, remote, embedd) is a row of functions
 * that write a request and read an answer (wire.h); everything else is shared: connections (lanes.h),
 * splitting, retries, limits. Every kind passes the same conformance suite. An answer whose count, indexes,
 * dimension or numbers are wrong is EMB_E_PROVIDER, never a vector. Errors name the instance and hold neither
 * keys nor texts.
 *
 * Thread-safe: any number of calls at once; those over `concurrency`, or that the provider's rate limits do
 * not let through yet, wait within their deadline.
 */
#ifndef EMB_PROVIDER_PROVIDER_H
#define EMB_PROVIDER_PROVIDER_H

#include "base/arena.h"
#include "config/gateway.h"
#include "metrics/metrics.h"

typedef struct emb_provider emb_provider;

/* How one attempt (one HTTP exchange) ended. */
typedef enum emb_attempt_end {
    EMB_ATTEMPT_OK,
    EMB_ATTEMPT_NOT_SENT,  /* no connection, or given up before the request was out: surely not billed */
    EMB_ATTEMPT_CANCELLED, /* by the caller or its deadline: says nothing of the provider */
    EMB_ATTEMPT_TIMEOUT,
    EMB_ATTEMPT_BROKEN,    /* reset, truncated, 5xx, 408, 409 */
    EMB_ATTEMPT_LIMITED,   /* 429 that passes */
    EMB_ATTEMPT_QUOTA,     /* insufficient_quota and its kin: does not pass */
    EMB_ATTEMPT_DENIED,    /* 401, 403 */
    EMB_ATTEMPT_REFUSED,   /* another 4xx: the request's fault */
    EMB_ATTEMPT_BAD_ANSWER /* 200 with an answer that cannot be used */
} emb_attempt_end;
const char *emb_attempt_end_name(emb_attempt_end end); /* "ok", "timeout", … */

typedef struct emb_attempt {
    emb_attempt_end end;
    int http_status; /* 0: none came */
    uint64_t tokens; /* the provider's own usage; 0: it said nothing */
    uint64_t duration_ns;
    int64_t retry_after_ms; /* -1: not said */
    bool maybe_billed;      /* OK, BAD_ANSWER, or the request was out when it ended */
} emb_attempt;

/* Around each attempt, on the calling thread or one of the provider's: where breakers, budgets and accounts
 * hook in. `before` may refuse (its status ends the call, no retry) and sets *ticket; `after` is called
 * exactly once for each `before` that returned EMB_OK. estimated_tokens is the sum of token_counts of the
 * part's texts. */
typedef struct emb_provider_hooks {
    emb_status (*before)(void *context, size_t texts, uint64_t estimated_tokens, void **ticket,
                         emb_error *err);
    void (*after)(void *context, void *ticket, const emb_attempt *attempt);
    void *context;
} emb_provider_hooks;

typedef struct emb_provider_options {
    emb_metrics *metrics;     /* or NULL */
    const char *user_agent;   /* "embedd/0.1.0" */
    bool (*is_closing)(void); /* or NULL */
} emb_provider_options;

/* config is copied as far as it is needed. Does not connect. */
EMB_MUST_CHECK emb_status emb_provider_open(const emb_provider_config *config,
                                            const emb_provider_options *options, emb_provider **out,
                                            emb_error *err);
void emb_provider_close(emb_provider *provider); /* no call may be running; takes NULL */
const char *emb_provider_name(const emb_provider *provider);
/* Whether its requests may hold token ids instead of texts. */
bool emb_provider_takes_ids(const emb_provider *provider);

typedef struct emb_provider_call {
    const char *model;     /* as the provider names it */
    const emb_text *texts; /* prompts of ours already in front */
    const int32_t *ids;    /* where the kind takes token ids (emb_provider_takes_ids): text i goes out as */
    const size_t *offsets; /* ids[offsets[i]] .. ids[offsets[i+1]-1], and texts are what they spell, as far as
                              that is known: no error may quote them. Otherwise NULL */
    size_t count;
    const uint32_t *token_counts; /* by text, estimated or exact; for splitting, limits and hooks */
    size_t max_batch_texts, max_batch_tokens; /* of the model; 0: the instance's, else the kind's */
    size_t dimensions; /* to be asked for; 0: not mentioned. Kinds that cannot be asked shorten nothing */
    emb_role role;     /* for kinds with input types (cohere, embedd) */
    emb_switch normalize;
    emb_truncation truncation;
    const char *prompt_name;         /* tei, huggingface, embedd; or NULL */
    const char *space;               /* embedd: pinned; or NULL */
    const char *user;                /* openai's `user`; or NULL */
    uint64_t deadline_ns;            /* emb_now_ns's clock; 0: the instance's time-out alone */
    const volatile int *cancel;      /* or NULL */
    const emb_provider_hooks *hooks; /* or NULL */
} emb_provider_call;

enum { EMB_PROVIDER_SPACE_BYTES = 512 };

typedef struct emb_provider_result {
    float *vectors;       /* in: room for count × dimension; rows by position of the text */
    size_t dimension;     /* in: what each vector must have */
    uint64_t tokens;      /* out: the provider's usage over all parts; estimated ones where it said nothing */
    bool tokens_known;    /* out: it did */
    uint64_t provider_ns; /* out: time in exchanges, of the slowest chain */
    unsigned attempts, parts;             /* out */
    emb_attempt_end end;                  /* out: of the last attempt */
    int64_t retry_after_ms;               /* out: when it failed for limits; -1: not said */
    bool other_space;                     /* out: it failed since the other side's space is not the call's */
    char space[EMB_PROVIDER_SPACE_BYTES]; /* out: of another embedd, that it says; "": nothing */
} emb_provider_result;

/* EMB_E_PROVIDER (an answer that cannot be used, or 4xx that is not the caller's fault), EMB_E_UNAVAILABLE
 * (cannot be reached, 5xx, 401/403, quota: another provider may do), EMB_E_BUSY (its limits outlast the
 * deadline), EMB_E_DEADLINE, EMB_E_CANCELLED, EMB_E_INVALID / EMB_E_LIMIT (the provider says that the
 * caller's text is at fault; where "input[3]" if it is known which), EMB_E_NOT_FOUND (no such model there),
 * or what a hook refused with. */
EMB_MUST_CHECK emb_status emb_provider_embed(emb_provider *provider, const emb_provider_call *call,
                                             emb_provider_result *result, emb_error *err);

/* One text to find a model's dimension: *dimension. */
EMB_MUST_CHECK emb_status emb_provider_probe(emb_provider *provider, const char *model, uint64_t deadline_ns,
                                             size_t *dimension, emb_error *err);
/* The same with what surrounds every attempt: it may cost money as any other. Fills out->dimension and
 * out->space. */
EMB_MUST_CHECK emb_status emb_provider_probe_hooked(emb_provider *provider, const char *model,
                                                    uint64_t deadline_ns, const volatile int *cancel,
                                                    const emb_provider_hooks *hooks, emb_provider_result *out,
                                                    emb_error *err);

typedef struct emb_provider_state {
    size_t active, waiting;    /* calls */
    uint64_t limited_until_ns; /* by its own word; 0: not */
    uint64_t calls, attempts, retries, failures, tokens;
    char last_error[256]; /* "" if none */
} emb_provider_state;
void emb_provider_get_state(emb_provider *provider, emb_provider_state *out);

#endif
