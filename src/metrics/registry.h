/*
 * registry.h: what a registry holds. Internal to metrics/: metrics.c fills it, prometheus.c prints it.
 *
 * Lists only grow, at their end, under `lock`; readers follow them without it. Nothing is released before
 * emb_metrics_close.
 */
#ifndef EMB_METRICS_REGISTRY_H
#define EMB_METRICS_REGISTRY_H

#include "metrics/histogram.h"
#include "metrics/metrics.h"
#include <pthread.h>

enum { EMB_METRIC_LABELS = 4, EMB_METRIC_BUCKETS = 64 };

struct emb_series {
    emb_metric family;
    emb_ladder ladder;
    _Atomic(emb_series *) next;  /* of the family, in order of making */
    _Atomic(emb_series *) chain; /* of its bucket */
    _Atomic uint64_t value;      /* bits of a double; of counters and gauges */
    emb_histogram *histogram;    /* of histograms, in the same piece of memory */
    uint64_t hash;
    const char *labels[EMB_METRIC_LABELS]; /* values, in the same piece of memory */
};

typedef struct emb_series_family {
    _Atomic(emb_series *) first;
    _Atomic(emb_series *) buckets[EMB_METRIC_BUCKETS];
    emb_series *last, *other; /* under the lock; other: what further combinations share */
    size_t count;
    unsigned labels; /* how many */
} emb_series_family;

typedef struct emb_metrics_hook {
    emb_metrics_collect collect;
    void *context;
    struct emb_metrics_hook *next;
} emb_metrics_hook;

struct emb_metrics {
    pthread_mutex_t lock;       /* making series */
    pthread_mutex_t collecting; /* hooks, one output at a time; taken before `lock` */
    emb_metrics_hook *hooks;
    uint64_t seed;
    double start_seconds; /* of the process, since 1970; negative: not known */
    emb_series_family families[EMB_METRIC_COUNT];
};

typedef struct emb_metric_info {
    const char *name, *labels, *help;
    emb_metric_type type;
} emb_metric_info;

extern const emb_metric_info emb_metric_infos[EMB_METRIC_COUNT];

static inline emb_series *emb_series_next(const emb_series *series)
{
    return atomic_load_explicit(&series->next, memory_order_acquire);
}

static inline emb_series *emb_series_first(const emb_series_family *family)
{
    return atomic_load_explicit(&family->first, memory_order_acquire);
}

/* process.c: the process_* family, in the text format. What this system does not tell is left out. */
EMB_MUST_CHECK emb_status emb_metrics_write_process(emb_buf *out, double start_seconds);
double emb_process_start_seconds(void);
/* prometheus.c: a sample's value: "1", "0.25", "NaN". */
EMB_MUST_CHECK emb_status emb_metrics_write_number(emb_buf *out, double value);

#endif
