/*
 * shadow.h: what a candidate would have answered beside what was answered: a bounded queue, stored
 * comparisons, statistics and the verdict whether the candidate is ready for production.
 *
 *     emb_shadow *s;
 *     emb_shadow_open("sqlite:/var/lib/embedd/shadow.db", &options, &s, err);
 *     emb_shadow_submit(s, &pair);             // copies; false: the queue is full, counted; never blocks
 *     …a thread of the queue calls options.run(context, …) for the candidate's vectors, compares and stores…
 *     emb_shadow_make_report(s, &query, arena, &report, err);
 *
 * Stored of a text: SHA-256 cut to 16 bytes, never the text. Cosine only where both are of one space or of
 * equal dimension; over a sliding window of recent texts (in memory) the neighbour overlap@10 and the
 * Spearman rank correlation of pairwise similarities, which mean something between any two models. Intervals:
 * an interval corrected for skewness for means, Wilson for shares. Thread-safe.
 *
 * Costs of a request are shared out among its texts; latencies are the request's, and answers from a cache
 * say nothing of them. Comparisons older than 90 days, and those beyond the newest million, are removed.
 */
#ifndef EMB_SHADOW_SHADOW_H
#define EMB_SHADOW_SHADOW_H

#include "base/arena.h"
#include "metrics/metrics.h"

#include <embedd.h>

typedef struct emb_shadow emb_shadow;

typedef struct emb_shadow_side {
    const char *provider, *model, *space;
    const float *vectors; /* count × dimension */
    size_t dimension;
    uint64_t latency_ns, nusd;
    bool cached;
} emb_shadow_side;

/* What the legacy path answered. Everything is copied by emb_shadow_submit. */
typedef struct emb_shadow_pair {
    const emb_text *texts;
    size_t count;
    const char *category, *context, *key;
    emb_role role;
    emb_shadow_side legacy;
} emb_shadow_pair;

/* Makes the candidate's vectors of these texts: strings and vectors live in the arena. An error is stored and
 * swallowed. */
typedef emb_status (*emb_shadow_run)(void *context, const emb_shadow_pair *pair, emb_arena *arena,
                                     emb_shadow_side *candidate, emb_error *err);

typedef struct emb_shadow_options {
    size_t queue, window; /* requests that wait; texts of the sliding window */
    size_t queue_bytes;   /* 0: 64 MiB */
    emb_shadow_run run;   /* NULL: reports alone, no thread, nothing is made */
    void *context;
    emb_metrics *metrics;
    int64_t (*now_s)(void);
} emb_shadow_options;

EMB_MUST_CHECK emb_status emb_shadow_open(const char *url, const emb_shadow_options *options,
                                          emb_shadow **out, emb_error *err);
/* Drops what waits, ends the one that runs (its `run` sees *cancel), writes what was compared. */
void emb_shadow_close(emb_shadow *shadow);
bool emb_shadow_submit(emb_shadow *shadow, const emb_shadow_pair *pair);
bool emb_shadow_flush(emb_shadow *shadow,
                      uint64_t deadline_ns); /* waits until the queue is empty and written */
const volatile int *emb_shadow_cancel(const emb_shadow *shadow);

typedef struct emb_shadow_interval {
    double mean, low, high; /* 95 % */
} emb_shadow_interval;

typedef struct emb_shadow_group {
    const char *name; /* a category; "" is all */
    uint64_t comparisons, failures, with_cosine;
    emb_shadow_interval cosine;
    double cosine_p5, cosine_p50, cosine_worst;
    double legacy_p50_ms, legacy_p95_ms, candidate_p50_ms, candidate_p95_ms;
    uint64_t legacy_nusd, candidate_nusd;
} emb_shadow_group;

typedef struct emb_shadow_sample {
    int64_t time_s;
    char text[33];                             /* hash, in hex */
    const char *category, *legacy, *candidate; /* provider/model */
    bool has_cosine;
    double cosine, legacy_ms, candidate_ms;
    const char *error; /* of the candidate, or NULL */
} emb_shadow_sample;

typedef struct emb_shadow_query {
    int64_t since_s; /* 0: everything */
    size_t samples;  /* of the worst, and of the newest */
} emb_shadow_query;

typedef struct emb_shadow_report {
    emb_shadow_group all;
    emb_shadow_group *categories;
    size_t category_count;
    emb_shadow_sample *worst, *newest;
    size_t worst_count, newest_count;
    bool same_space;             /* the last pairs were of one space */
    bool has_overlap;            /* the window holds enough */
    emb_shadow_interval overlap; /* neighbour overlap@10 */
    emb_shadow_interval rank_correlation;
    size_t window;
    emb_shadow_interval failure_share; /* Wilson */
    int64_t first_s, last_s;
    uint64_t dropped; /* comparisons, of all processes since the last clear */
    uint64_t queued;  /* requests that wait, of this process */
} emb_shadow_report;

EMB_MUST_CHECK emb_status emb_shadow_make_report(emb_shadow *shadow, const emb_shadow_query *query,
                                                 emb_arena *arena, emb_shadow_report *out, emb_error *err);
EMB_MUST_CHECK emb_status emb_shadow_clear(emb_shadow *shadow, emb_error *err);

/* ---- readiness (readiness.c): pure ---- */

typedef struct emb_readiness_input {
    const emb_shadow_report *shadow;
    double required_similarity, required_overlap, required_hours, required_hit_rate;
    uint64_t required_comparisons;
    unsigned critical_alerts;
    bool hit_rate_known;                   /* enough was looked for */
    double hit_rate;                       /* of the cache, in the last minutes */
    uint64_t lookups;                      /* that it is of, or that were too few */
    double p95_ms, p95_limit_ms;           /* not finite: not recorded */
    int64_t rollback_verified_s;           /* 0: never */
    bool alerts_unknown, rollback_unknown; /* nobody records them */
} emb_readiness_input;

enum { EMB_READINESS_CRITERIA = 7 };
typedef struct emb_readiness_criterion {
    const char *name; /* "comparisons", "duration_hours", "similarity" or "neighbour_overlap", … */
    char required[48], actual[48];
    bool passed;
} emb_readiness_criterion;

typedef struct emb_readiness {
    emb_readiness_criterion criteria[EMB_READINESS_CRITERIA];
    size_t count;
    bool ready;
} emb_readiness;
void emb_readiness_judge(const emb_readiness_input *input, emb_readiness *out);

/* ---- statistics (statistics.c): pure, for tests of their calibration ---- */
/* 95 %, within what values can be at all. */
emb_shadow_interval emb_mean_interval(const double *values, size_t count, double least, double most);
emb_shadow_interval emb_wilson(uint64_t successes, uint64_t trials);
double emb_spearman(const double *a, const double *b, size_t count);

#endif
