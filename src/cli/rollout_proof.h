/*
 * rollout_proof.h: proves on a running service that a rollback works under load.
 *
 *     emb_rollout_proof_plan plan = { .url = "http://127.0.0.1:8000", .concurrency = 8, .seconds = 10, … };
 *     emb_rollout_proof proof;
 *     if ((st = emb_rollout_prove(&plan, &proof, err))) return st;       // could not be tried, or not put back
 *     if (!proof.proved) say(proof.complaint);
 *
 * Sends requests from as many threads as `concurrency`, each as another user; rolls back in the middle; and
 * looks at every answer: none may fail, and those to requests that began more than 3 seconds after the
 * rollback must be of the legacy path. Then the earlier state is put back, whatever came out, and a success
 * is noted in the service.
 */
#ifndef EMB_CLI_ROLLOUT_PROOF_H
#define EMB_CLI_ROLLOUT_PROOF_H

#include <embedd.h>

enum { EMB_ROLLOUT_PROOF_GRACE_S = 3, EMB_ROLLOUT_PROOF_SECONDS_MIN = 6 };

typedef struct emb_rollout_proof_plan {
    const char *url, *api_key; /* of the service, without the route; key or NULL */
    const char *reason;        /* for the audit log, or NULL */
    size_t concurrency, seconds;
    bool insecure; /* any certificate */
} emb_rollout_proof_plan;

typedef struct emb_rollout_proof {
    bool proved;
    uint64_t requests, failed;
    uint64_t hybrid_before, legacy_before; /* of requests that began before the rollback was answered */
    uint64_t hybrid_after, legacy_after;   /* … and after it */
    uint64_t hybrid_late;                  /* of the former, more than 3 s after it */
    double settled_ms;                     /* after which none that began was answered by the hybrid path */
    double percentage;                     /* before */
    char complaint[300];                   /* why it is not proved */
} emb_rollout_proof;

EMB_MUST_CHECK emb_status emb_rollout_prove(const emb_rollout_proof_plan *plan, emb_rollout_proof *out,
                                            emb_error *err);

#endif
