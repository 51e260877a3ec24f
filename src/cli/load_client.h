/*
 * load_client.h: sends requests as a plan says and keeps the times.
 *
 *     emb_load_plan plan = { … };
 *     emb_load_outcome o;
 *     if ((st = emb_load_run(&plan, &o, err))) return st;
 *     … emb_load_histogram_rank(&o.latency, 0.99) …
 *     emb_load_outcome_fini(&o);
 *
 * Open loop (rate > 0): requests have times at which they are due, evenly or at random (Poisson), whatever
 * the server does. Latency is counted from when a request was due, not from when a connection became free for
 * it: a server that stands still for a second makes all requests of that second late, and they all count.
 * Closed loop (rate 0): each connection sends the next request when it has its answer.
 *
 * Runs its threads and returns when all is done, or soon after the program was told to stop (stop.h).
 */
#ifndef EMB_CLI_LOAD_CLIENT_H
#define EMB_CLI_LOAD_CLIENT_H

#include "cli/load_histogram.h"
#include "cli/load_requests.h"
#include "cli/load_tls.h"

#include <sys/socket.h>

typedef struct emb_load_plan {
    struct sockaddr_storage address;
    socklen_t address_length;
    SSL_CTX *tls;     /* NULL: plain */
    const char *host; /* with TLS */
    const emb_load_requests *requests;
    double rate; /* requests a second of all threads; 0: closed loop */
    bool poisson;
    size_t connections; /* closed: all busy; open: at most */
    size_t threads;
    uint64_t warmup_ns, duration_ns, timeout_ns;
    size_t seconds; /* of the measured time, rounded up: room for the series */
    const volatile int *stop;
} emb_load_plan;

typedef enum emb_load_error {
    EMB_LOAD_CONNECT,   /* no connection */
    EMB_LOAD_BROKEN,    /* the connection ended before the answer did */
    EMB_LOAD_MALFORMED, /* the answer is not HTTP */
    EMB_LOAD_TIMEOUT,
    EMB_LOAD_UNSENT, /* open loop: was due, and no connection was free until the end */
    EMB_LOAD_ERRORS
} emb_load_error;
extern const char *const emb_load_error_names[EMB_LOAD_ERRORS];

/* One second of the measured time, by when answers came. */
typedef struct emb_load_second {
    uint64_t answers, errors, sum_ns, most_ns;
} emb_load_second;

typedef struct emb_load_outcome {
    /* of requests that were due (closed loop: sent) in the measured time: */
    emb_load_histogram
        latency; /* of good answers and of those given up (timeout, unsent) at the age they had */
    emb_load_histogram service; /* from the sending, good answers: what a closed loop would call latency */
    emb_load_histogram late;    /* how late the client itself was though a connection was free */
    uint64_t due, good, errors[EMB_LOAD_ERRORS], statuses[1000]; /* by HTTP status */
    /* of answers that came in the measured time: */
    uint64_t answers, texts, tokens, cached, bytes;
    uint64_t connects; /* connections that were made, all the time */
    double seconds;    /* the measured time, shorter if it was stopped */
    emb_load_second *series;
    size_t series_count;
    bool stopped;
    char complaint[200]; /* the beginning of the first answer that was an error */
    int complaint_status;
} emb_load_outcome;

EMB_MUST_CHECK emb_status emb_load_run(const emb_load_plan *plan, emb_load_outcome *out, emb_error *err);
void emb_load_outcome_fini(emb_load_outcome *outcome);

#endif
