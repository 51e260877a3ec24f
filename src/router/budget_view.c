/*
 * A table of scopes by name under one lock, held for some additions.
 *
 * `base` is what the store said, with what this process has put into the store since. What is reserved while
 * the store is being read may or may not be in the answer; it is added, so that for up to a second it may
 * count twice and never not at all: the one who looks here must not think that there is more left than there
 * is. `pending` are settlements that are queued.
 *
 * Scopes are few (a key each); of more than MOST the further ones are not kept, and peeking at them says "not
 * known".
 */
#include "router/budget_view.h"

#include "base/error.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 256, MOST = 4096 };

typedef struct scope scope;
struct scope {
    scope *chain;
    emb_budget_use base, read, since; /* since: reserved while reading */
    emb_budget_use pending;           /* to be spent, and to be taken off what is reserved */
    bool was_read, is_known;
    uint64_t limit; /* 0: not told yet */
    emb_series *series_limit, *series_spent, *series_reserved, *series_refused;
    char name[];
};

struct emb_budget_view {
    pthread_mutex_t lock;
    emb_metrics *metrics;
    int32_t day;
    bool reading, has_read; /* has_read: of this day, once */
    size_t count;
    scope *buckets[BUCKETS];
};

static scope **bucket_of(emb_budget_view *v, const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return &v->buckets[hash % BUCKETS];
}

static scope *find(emb_budget_view *v, const char *name)
{
    scope *s = *bucket_of(v, name);
    while (s && strcmp(s->name, name) != 0)
        s = s->chain;
    return s;
}

static scope *make(emb_budget_view *v, const char *name)
{
    scope *s = find(v, name);
    size_t length = strlen(name) + 1;
    if (s || v->count >= MOST || !(s = calloc(1, sizeof *s + length)))
        return s;
    memcpy(s->name, name, length);
    s->series_limit = emb_metrics_series(v->metrics, EMB_METRIC_BUDGET_LIMIT, name);
    s->series_spent = emb_metrics_series(v->metrics, EMB_METRIC_BUDGET_SPENT, name);
    s->series_reserved = emb_metrics_series(v->metrics, EMB_METRIC_BUDGET_RESERVED, name);
    s->series_refused = emb_metrics_series(v->metrics, EMB_METRIC_BUDGET_REFUSED, name);
    s->chain = *bucket_of(v, name);
    v->count++;
    return *bucket_of(v, name) = s;
}

/* Another day begins with nothing known; what is pending of the old one goes to the old one. */
static void turn(emb_budget_view *v, int32_t day)
{
    if (v->day == day)
        return;
    v->day = day;
    v->has_read = v->reading = false;
    for (size_t i = 0; i < BUCKETS; i++)
        for (scope *s = v->buckets[i]; s; s = s->chain) {
            s->base = s->read = s->since = s->pending = (emb_budget_use){0};
            s->was_read = s->is_known = false;
        }
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

void emb_budget_view_reserved(emb_budget_view *v, const emb_budget_order *o)
{
    pthread_mutex_lock(&v->lock);
    if (o->day > v->day)
        turn(v, o->day);
    for (size_t i = 0; i < o->count; i++) {
        scope *s = make(v, o->wants[i].name);
        if (!s)
            continue;
        s->limit = o->wants[i].limit < 0 ? UINT64_MAX : (uint64_t)o->wants[i].limit;
        if (o->day != v->day)
            continue;
        if (s->is_known || v->has_read)
            s->base.reserved_nusd += o->nusd;
        else
            s->base = o->wants[i].use;
        s->is_known = true;
        if (v->reading)
            s->since.reserved_nusd += o->nusd;
    }
    pthread_mutex_unlock(&v->lock);
}

void emb_budget_view_refused(emb_budget_view *v, const emb_budget_order *o)
{
    const emb_budget_want *w = &o->wants[o->refusing];
    pthread_mutex_lock(&v->lock);
    scope *s = make(v, w->name);
    if (s) {
        s->limit = (uint64_t)w->limit;
        emb_series_add(s->series_refused, 1);
    }
    pthread_mutex_unlock(&v->lock);
}

/* Calls for each scope of a settlement of today; NULL scopes are left out. */
#define EACH_SCOPE(v, settlement, s)                                                  \
    const char *name_ = (settlement)->names;                                          \
    for (uint32_t i_ = 0; i_ < (settlement)->count; i_++, name_ += strlen(name_) + 1) \
        for (scope *s = (settlement)->day == (v)->day ? find(v, name_) : NULL; s; s = NULL)

void emb_budget_view_queued(emb_budget_view *v, const emb_budget_settlement *settlement,
                            uint64_t reserved_nusd)
{
    pthread_mutex_lock(&v->lock);
    EACH_SCOPE(v, settlement, s)
    {
        s->pending.spent_nusd += settlement->actual_nusd;
        s->pending.reserved_nusd += reserved_nusd;
    }
    pthread_mutex_unlock(&v->lock);
}

void emb_budget_view_settled(emb_budget_view *v, const emb_budget_settlement *settlement,
                             uint64_t reserved_nusd)
{
    pthread_mutex_lock(&v->lock);
    EACH_SCOPE(v, settlement, s)
    {
        s->pending.spent_nusd = less(s->pending.spent_nusd, settlement->actual_nusd);
        s->pending.reserved_nusd = less(s->pending.reserved_nusd, reserved_nusd);
        s->base.spent_nusd += settlement->actual_nusd;
        s->base.reserved_nusd = less(s->base.reserved_nusd, reserved_nusd);
    }
    pthread_mutex_unlock(&v->lock);
}

void emb_budget_view_begin(emb_budget_view *v, int32_t day)
{
    pthread_mutex_lock(&v->lock);
    turn(v, day);
    v->reading = true;
    for (size_t i = 0; i < BUCKETS; i++)
        for (scope *s = v->buckets[i]; s; s = s->chain) {
            s->was_read = false;
            s->since = (emb_budget_use){0};
        }
    pthread_mutex_unlock(&v->lock);
}

void emb_budget_view_seen(void *view, const char *name, const emb_budget_use *use)
{
    emb_budget_view *v = view;
    pthread_mutex_lock(&v->lock);
    scope *s = make(v, name);
    if (s) {
        s->read = *use;
        s->was_read = true;
    }
    pthread_mutex_unlock(&v->lock);
}

void emb_budget_view_end(emb_budget_view *v, bool complete)
{
    pthread_mutex_lock(&v->lock);
    bool valid = complete && v->reading; /* the day may have turned meanwhile */
    v->reading = false;
    v->has_read = v->has_read || valid;
    for (size_t i = 0; valid && i < BUCKETS; i++)
        for (scope *s = v->buckets[i]; s; s = s->chain) {
            s->base = s->was_read ? s->read : (emb_budget_use){0};
            s->base.reserved_nusd += s->since.reserved_nusd;
            s->is_known = true;
        }
    pthread_mutex_unlock(&v->lock);
}

static emb_budget_use use_of(const scope *s)
{
    return (emb_budget_use){s->base.spent_nusd + s->pending.spent_nusd,
                            less(s->base.reserved_nusd, s->pending.reserved_nusd)};
}

bool emb_budget_view_get(emb_budget_view *v, int32_t day, const char *name, emb_budget_use *out)
{
    *out = (emb_budget_use){0};
    pthread_mutex_lock(&v->lock);
    const scope *s = v->day == day ? find(v, name) : NULL;
    bool known = v->day == day && (s ? s->is_known || v->has_read : v->has_read && v->count < MOST);
    if (known && s)
        *out = use_of(s);
    pthread_mutex_unlock(&v->lock);
    return known;
}

void emb_budget_view_collect(emb_budget_view *v, int32_t day)
{
    pthread_mutex_lock(&v->lock);
    for (size_t i = 0; i < BUCKETS; i++)
        for (scope *s = v->buckets[i]; s; s = s->chain) {
            emb_budget_use use = v->day == day ? use_of(s) : (emb_budget_use){0};
            emb_series_set(s->series_spent, (double)use.spent_nusd / 1e9);
            emb_series_set(s->series_reserved, (double)use.reserved_nusd / 1e9);
            if (s->limit && s->limit != UINT64_MAX)
                emb_series_set(s->series_limit, (double)s->limit / 1e9);
        }
    pthread_mutex_unlock(&v->lock);
}

emb_status emb_budget_view_open(emb_metrics *metrics, emb_budget_view **out, emb_error *err)
{
    emb_budget_view *v = calloc(1, sizeof *v);
    if (!v)
        return emb_fail_nomem(err, "a budget's totals", sizeof *v);
    pthread_mutex_init(&v->lock, NULL);
    v->metrics = metrics;
    v->day = INT32_MIN;
    *out = v;
    return EMB_OK;
}

void emb_budget_view_close(emb_budget_view *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        for (scope *s = v->buckets[i], *next; s; s = next) {
            next = s->chain;
            free(s);
        }
    pthread_mutex_destroy(&v->lock);
    free(v);
}
