/*
 * retry.h: whether and when an attempt is made again.
 *
 *     emb_retry_hints h; emb_retry_hints_init(&h);
 *     emb_retry_header(&h, "retry-after-ms", 14, "120", 3, unix_s);     // for each header of the answer
 *     emb_retry_question q = { .end = EMB_ATTEMPT_LIMITED, .again = true, .made = 1, .max_retries = 2, … };
 *     switch (emb_retry_decide(&q, &wait_ns)) …
 *
 * Pure functions: time and randomness are arguments.
 */
#ifndef EMB_PROVIDER_RETRY_H
#define EMB_PROVIDER_RETRY_H

#include "provider/provider.h"

/* What an answer's headers say of limits; -1: nothing. */
typedef struct emb_retry_hints {
    int64_t retry_after_ms;                       /* retry-after, retry-after-ms */
    int64_t reset_requests_ms, reset_tokens_ms;   /* x-ratelimit-reset-* */
    int64_t remaining_requests, remaining_tokens; /* x-ratelimit-remaining-* */
    int64_t compute_tokens;                       /* x-compute-tokens */
} emb_retry_hints;

void emb_retry_hints_init(emb_retry_hints *hints);
/* now_s: seconds since 1970, for dates. Names in any case; unknown ones and nonsense are ignored. */
void emb_retry_header(emb_retry_hints *hints, const char *name, size_t name_length, const char *value,
                      size_t value_length, int64_t now_s);
/* How long a refused request must wait; -1: not said. */
int64_t emb_retry_wait_ms(const emb_retry_hints *hints);
/* How long nothing is left although this answer was good; -1: there is. */
int64_t emb_retry_drained_ms(const emb_retry_hints *hints);
/* "1s", "6m0s", "120ms", "1h", "0.5s", "12" (seconds); at most a day is returned. */
bool emb_retry_duration_ms(const char *text, int64_t *ms);

typedef struct emb_retry_question {
    emb_attempt_end end;
    bool again;                 /* this failure may pass at all */
    bool once;                  /* and is worth one try more, no further ones */
    bool at_once;               /* the first time without a wait */
    unsigned made, max_retries; /* attempts so far, 1 and more */
    int64_t wait_ms;            /* that the provider asks for; -1: nothing */
    uint64_t now_ns, deadline_ns;
    uint64_t random;
} emb_retry_question;

typedef enum emb_retry_verdict { EMB_RETRY_NO, EMB_RETRY_TOO_LATE, EMB_RETRY_AGAIN } emb_retry_verdict;

/* TOO_LATE: it would be made again, but the wait passes the deadline. *wait_ns is set for AGAIN. */
emb_retry_verdict emb_retry_decide(const emb_retry_question *question, uint64_t *wait_ns);

/* Retries are at most a tenth of the calls and one a second, with some saved up: an outage is not answered
 * with a storm. */
typedef struct emb_retry_budget {
    double saved;
    uint64_t updated_ns;
} emb_retry_budget;

void emb_retry_budget_init(emb_retry_budget *budget, uint64_t now_ns);
void emb_retry_budget_earn(emb_retry_budget *budget, uint64_t now_ns); /* for each first attempt */
bool emb_retry_budget_spend(emb_retry_budget *budget, uint64_t now_ns);

#endif
