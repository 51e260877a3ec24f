/*
 * The registry: a hash table of series for each family, read without locks.
 *
 * A series is one piece of memory, made under the registry's lock, published with a release store, and never
 * moved or released before the registry is, so that whoever found one may keep it. Finding one that exists
 * takes a hash of the label values and a walk of a short chain, no lock: routes ask for theirs with every
 * request. Values are doubles behind 64 atomic bits; an addition is a compare-and-swap loop, exact for whole
 * numbers up to 2^53.
 *
 * Label values come from outside in the end (a model's name), hence the bound on series: what a family has no
 * room for is counted under "other" rather than dropped, so that sums stay right. The hash has a random seed.
 *
 * Rejected: counters per thread, summed up on output: faster under contention than any of our rates needs,
 * and a histogram for each thread is memory.
 */
#include "metrics/registry.h"

#include "base/error.h"
#include "base/hash.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

const emb_metric_info emb_metric_infos[EMB_METRIC_COUNT] = {
#define EMB_X(id, kind, name_, labels_, help_) \
    {.name = name_, .labels = labels_, .help = help_, .type = kind},
    EMB_METRIC_TABLE(EMB_X)
#undef EMB_X
};

static const char *const other[EMB_METRIC_LABELS] = {"other", "other", "other", "other"};

static unsigned label_count(const char *labels)
{
    unsigned count = *labels != 0;
    for (; *labels; labels++)
        count += *labels == ',';
    return count;
}

static emb_ladder ladder_of(const char *name)
{
    static const char suffix[] = "_seconds";
    size_t length = strlen(name), n = sizeof suffix - 1;
    return length > n && strcmp(name + length - n, suffix) == 0 ? EMB_LADDER_SECONDS : EMB_LADDER_COUNTS;
}

static bool same_labels(const emb_series *series, uint64_t hash, unsigned count, const char *const *values)
{
    if (series->hash != hash)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (strcmp(series->labels[i], values[i]) != 0)
            return false;
    return true;
}

static emb_series *find(emb_series_family *family, uint64_t hash, const char *const *values)
{
    emb_series *s = atomic_load_explicit(&family->buckets[hash % EMB_METRIC_BUCKETS], memory_order_acquire);
    while (s && !same_labels(s, hash, family->labels, values))
        s = atomic_load_explicit(&s->chain, memory_order_acquire);
    return s;
}

static emb_series *make(emb_metric id, uint64_t hash, unsigned count, const char *const *values)
{
    bool histogram = emb_metric_infos[id].type == EMB_HISTOGRAM;
    size_t bytes = sizeof(emb_series) + (histogram ? sizeof(emb_histogram) : 0), texts = bytes;
    for (unsigned i = 0; i < count; i++)
        bytes += strlen(values[i]) + 1;
    emb_series *s = calloc(1, bytes);
    if (!s)
        return NULL;
    s->family = id;
    s->ladder = ladder_of(emb_metric_infos[id].name);
    s->hash = hash;
    s->histogram = histogram ? (emb_histogram *)(s + 1) : NULL;
    char *text = (char *)s + texts;
    for (unsigned i = 0; i < count; i++) {
        size_t length = strlen(values[i]) + 1;
        s->labels[i] = memcpy(text, values[i], length);
        text += length;
    }
    return s;
}

/* Under the lock. */
static void publish(emb_series_family *family, emb_series *s)
{
    _Atomic(emb_series *) *bucket = &family->buckets[s->hash % EMB_METRIC_BUCKETS];
    atomic_store_explicit(&s->chain, atomic_load_explicit(bucket, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(bucket, s, memory_order_release);
    atomic_store_explicit(family->last ? &family->last->next : &family->first, s, memory_order_release);
    family->last = s;
    family->count++;
}

static uint64_t hash_of(const emb_metrics *m, unsigned count, const char *const *values)
{
    uint64_t hash = m->seed;
    for (unsigned i = 0; i < count; i++)
        hash = emb_hash(values[i], strlen(values[i]), hash);
    return hash;
}

/* Under the lock. The last place of a family is kept for "other". */
static emb_series *find_or_make(emb_metrics *m, emb_metric id, uint64_t hash, const char *const *values)
{
    emb_series_family *family = &m->families[id];
    emb_series *s = find(family, hash, values);
    if (s)
        return s;
    bool full = family->count >= EMB_METRIC_SERIES_MAX - 1;
    if (full && family->other)
        return family->other;
    if (full) {
        values = other;
        hash = hash_of(m, family->labels, other);
        s = find(family, hash, other);
    }
    if (!s && (s = make(id, hash, family->labels, values)))
        publish(family, s);
    if (full)
        family->other = s;
    return s;
}

static emb_series *series_of(emb_metrics *m, emb_metric id, const char *const *values)
{
    emb_series_family *family = &m->families[id];
    uint64_t hash = hash_of(m, family->labels, values);
    emb_series *s = find(family, hash, values);
    if (s)
        return s;
    pthread_mutex_lock(&m->lock);
    s = find_or_make(m, id, hash, values);
    pthread_mutex_unlock(&m->lock);
    return s;
}

emb_series *emb_metrics_series(emb_metrics *metrics, emb_metric family, ...)
{
    const char *values[EMB_METRIC_LABELS] = {NULL};
    if (!metrics || (unsigned)family >= EMB_METRIC_COUNT)
        return NULL;
    va_list args;
    va_start(args, family);
    for (unsigned i = 0; i < metrics->families[family].labels; i++) {
        const char *value = va_arg(args, const char *);
        values[i] = value ? value : "";
    }
    va_end(args);
    return series_of(metrics, family, values);
}

emb_status emb_metrics_open(emb_metrics **out, emb_error *err)
{
    emb_metrics *m = calloc(1, sizeof *m);
    if (!m)
        return emb_fail_nomem(err, "the metrics", sizeof *m);
    m->start_seconds = emb_process_start_seconds();
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->collecting, NULL);
    if (getrandom(&m->seed, sizeof m->seed, GRND_NONBLOCK) != sizeof m->seed)
        m->seed = (uintptr_t)m;
    for (int i = 0; i < EMB_METRIC_COUNT; i++) {
        emb_series_family *family = &m->families[i];
        family->labels = label_count(emb_metric_infos[i].labels);
        /* What has no labels is there from the start, at 0. */
        if (family->labels == 0 && !series_of(m, (emb_metric)i, other)) {
            emb_metrics_close(m);
            return emb_fail_nomem(err, "the metrics", sizeof(emb_series));
        }
    }
    *out = m;
    return EMB_OK;
}

void emb_metrics_close(emb_metrics *metrics)
{
    if (!metrics)
        return;
    for (int i = 0; i < EMB_METRIC_COUNT; i++)
        for (emb_series *s = emb_series_first(&metrics->families[i]), *next; s; s = next) {
            next = emb_series_next(s);
            free(s);
        }
    for (emb_metrics_hook *hook = metrics->hooks, *next; hook; hook = next) {
        next = hook->next;
        free(hook);
    }
    pthread_mutex_destroy(&metrics->lock);
    pthread_mutex_destroy(&metrics->collecting);
    free(metrics);
}

void emb_series_add(emb_series *series, double amount)
{
    if (series)
        emb_atomic_add(&series->value, amount);
}

void emb_series_set(emb_series *series, double value)
{
    if (!series)
        return;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    atomic_store_explicit(&series->value, bits, memory_order_relaxed);
}

void emb_series_observe(emb_series *series, double value)
{
    if (series && series->histogram)
        emb_histogram_add(series->histogram, series->ladder, value);
}

double emb_series_value(const emb_series *series)
{
    if (!series)
        return 0;
    return series->histogram ? emb_histogram_sum(series->histogram) : emb_atomic_read(&series->value);
}

uint64_t emb_series_count(const emb_series *series)
{
    return series && series->histogram ? emb_histogram_count(series->histogram) : 0;
}

double emb_series_quantile(const emb_series *series, double q)
{
    uint64_t fine[EMB_HISTOGRAM_BUCKETS] = {0};
    if (!series || !series->histogram)
        return 0;
    emb_histogram_merge(series->histogram, fine);
    return emb_histogram_rank(fine, q);
}

double emb_metrics_sum(emb_metrics *metrics, emb_metric family, int position, const char *value)
{
    double sum = 0;
    if (!metrics || (unsigned)family >= EMB_METRIC_COUNT)
        return 0;
    const emb_series_family *f = &metrics->families[family];
    bool all = position < 0 || (unsigned)position >= f->labels || !value;
    for (const emb_series *s = emb_series_first(f); s; s = emb_series_next(s))
        if (all || strcmp(s->labels[position], value) == 0)
            sum += emb_series_value(s);
    return sum;
}

double emb_metrics_quantile(emb_metrics *metrics, emb_metric family, double q)
{
    uint64_t fine[EMB_HISTOGRAM_BUCKETS] = {0};
    if (!metrics || (unsigned)family >= EMB_METRIC_COUNT)
        return 0;
    for (const emb_series *s = emb_series_first(&metrics->families[family]); s; s = emb_series_next(s))
        if (s->histogram)
            emb_histogram_merge(s->histogram, fine);
    return emb_histogram_rank(fine, q);
}

emb_status emb_metrics_on_collect(emb_metrics *metrics, emb_metrics_collect collect, void *context)
{
    emb_metrics_hook *hook = malloc(sizeof *hook);
    if (!hook)
        return EMB_E_NOMEM;
    pthread_mutex_lock(&metrics->collecting);
    *hook = (emb_metrics_hook){.collect = collect, .context = context, .next = metrics->hooks};
    metrics->hooks = hook;
    pthread_mutex_unlock(&metrics->collecting);
    return EMB_OK;
}

void emb_metrics_off_collect(emb_metrics *metrics, const void *context)
{
    if (!metrics)
        return;
    pthread_mutex_lock(&metrics->collecting);
    for (emb_metrics_hook **link = &metrics->hooks; *link;) {
        emb_metrics_hook *hook = *link;
        if (hook->context == context) {
            *link = hook->next;
            free(hook);
        } else {
            link = &hook->next;
        }
    }
    pthread_mutex_unlock(&metrics->collecting);
}
