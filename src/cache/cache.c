/*
 * The cache as a whole: L1 (l1.c), what is being computed (flight.c), L2 behind its circuit (front.c), and
 * the queue of writes (write_behind.c).
 *
 * A lookup goes down the tiers in this order, and each answer is kept in those above. Between L1 and the
 * table of what is being computed there is a gap in which another call can finish: so L1 is asked again,
 * under the table's lock, for a key that would be led; publishing puts into L1 before it leaves the table.
 * That makes "concurrent misses are computed once" exact as long as L1 keeps what it was given.
 *
 * Which request uses which tier is decided in flight.c's comment; age is the caller's (max-age), expiry the
 * entry's. The jitter of a time to live comes from the key: entries written together expire apart, and one
 * text always at the same share of its time.
 *
 * A removal clears L2 before L1. What was read from L2 before it must not reach L1 after it: readers note a
 * generation beforehand and leave L1 alone if it has moved.
 */
#include "cache/cache.h"

#include "base/clock.h"
#include "base/error.h"
#include "cache/flight.h"
#include "cache/front.h"
#include "cache/l1.h"
#include "cache/parts.h"
#include "cache/write_behind.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)
#define CLOSE_NS (3 * SECOND)
#define REMOVE_NS (30 * SECOND)
#define VISIT_NS (600 * SECOND)

enum { CONNECT_MS = 1000 };

struct emb_cache {
    emb_l1 *l1;
    emb_flights *flights;
    emb_front *front; /* NULL without L2, and then there is no writer either */
    emb_writer *writer;
    atomic_bool store_text;
    atomic_size_t limit_entries, limit_bytes;
    atomic_uint_fast64_t generation;
    uint64_t (*wall_s)(void);
    emb_metrics *metrics;
    emb_series *hits, *misses, *seconds;
    emb_series *entries, *bytes, *evictions, *corrupt;
    emb_series *l2_entries, *l2_bytes, *l2_evictions;
    emb_cache_tier_stats collected, l2_collected; /* at the last collection */
};

static uint64_t system_wall_s(void)
{
    return (uint64_t)time(NULL);
}

/* ---- opening and closing ---- */

/* Sizes are read when somebody looks; counters of rare events follow then too. */
static void collect(void *context)
{
    emb_cache *c = context;
    emb_cache_stats s;
    emb_cache_get_stats(c, &s);
    emb_series_set(c->entries, (double)s.l1.entries);
    emb_series_set(c->bytes, (double)s.l1.bytes);
    emb_series_add(c->evictions, (double)(s.l1.evictions - c->collected.evictions));
    emb_series_add(c->corrupt, (double)(s.l1.corrupt - c->collected.corrupt));
    c->collected = s.l1;
    if (!c->front)
        return;
    emb_series_set(c->l2_entries, (double)s.l2.entries);
    emb_series_set(c->l2_bytes, (double)s.l2.bytes);
    if (s.l2.evictions > c->l2_collected.evictions)
        emb_series_add(c->l2_evictions, (double)(s.l2.evictions - c->l2_collected.evictions));
    c->l2_collected = s.l2;
}

static emb_status open_series(emb_cache *c, emb_error *err)
{
    emb_metrics *m = c->metrics;
    c->hits = emb_metrics_series(m, EMB_METRIC_CACHE_HITS, "l1");
    c->misses = emb_metrics_series(m, EMB_METRIC_CACHE_MISSES, "l1");
    c->seconds = emb_metrics_series(m, EMB_METRIC_CACHE_SECONDS, "l1");
    c->entries = emb_metrics_series(m, EMB_METRIC_CACHE_ENTRIES, "l1");
    c->bytes = emb_metrics_series(m, EMB_METRIC_CACHE_BYTES, "l1");
    c->evictions = emb_metrics_series(m, EMB_METRIC_CACHE_EVICTIONS, "l1");
    c->corrupt = emb_metrics_series(m, EMB_METRIC_CACHE_CORRUPT, "l1");
    if (c->front) {
        c->l2_entries = emb_metrics_series(m, EMB_METRIC_CACHE_ENTRIES, "l2");
        c->l2_bytes = emb_metrics_series(m, EMB_METRIC_CACHE_BYTES, "l2");
        c->l2_evictions = emb_metrics_series(m, EMB_METRIC_CACHE_EVICTIONS, "l2");
    }
    if (m && emb_metrics_on_collect(m, collect, c) != EMB_OK)
        return emb_fail_nomem(err, "the cache's metrics", sizeof *c);
    return EMB_OK;
}

/* The store is connected to before the first request comes, which has less patience. */
static emb_status open_l2(emb_cache *c, const emb_cache_options *o, const emb_cache_parts *parts,
                          emb_error *err)
{
    emb_status st = emb_front_open(parts->l2, parts->kind, o->l2_deadline_ms, o->metrics, &c->front, err);
    if (st != EMB_OK)
        return st;
    emb_front_probe(c->front);
    return emb_writer_open(c->front, o->write_queue, o->metrics, &c->writer, err);
}

emb_status emb_cache_open_with(const emb_cache_options *o, const emb_cache_parts *parts, emb_cache **out,
                               emb_error *err)
{
    emb_cache *c = calloc(1, sizeof *c);
    if (!c) {
        if (parts->l2)
            parts->l2->ops->close(parts->l2);
        return emb_fail_nomem(err, "the cache", sizeof *c);
    }
    c->wall_s = parts->wall_s ? parts->wall_s : system_wall_s;
    c->metrics = o->metrics;
    atomic_init(&c->store_text, o->store_text);
    atomic_init(&c->limit_entries, o->l1_entries);
    atomic_init(&c->limit_bytes, o->l1_bytes);
    emb_status st = parts->l2 ? open_l2(c, o, parts, err) : EMB_OK;
    if (st == EMB_OK)
        st = emb_l1_open(o->l1_entries, o->l1_bytes, 0, &c->l1, err);
    if (st == EMB_OK)
        st = emb_flights_open(emb_metrics_series(o->metrics, EMB_METRIC_CACHE_SHARED), &c->flights, err);
    if (st == EMB_OK)
        st = open_series(c, err);
    if (st != EMB_OK) {
        emb_cache_close(c);
        return st;
    }
    *out = c;
    return EMB_OK;
}

static bool wants_l2(const char *url)
{
    return url && *url && strcmp(url, "none") != 0;
}

emb_status emb_cache_open(const emb_cache_options *o, emb_cache **out, emb_error *err)
{
    emb_cache_parts parts = {0};
    if (wants_l2(o->l2_url)) {
        const emb_l2_kind *kind = emb_l2_find(o->l2_url);
        const emb_l2_options options = {o->l2_bytes, CONNECT_MS};
        size_t scheme = strcspn(o->l2_url, ":");
        if (!kind)
            return emb_fail(err, EMB_E_INVALID, "cache.url",
                            "cache.url: \"%.*s:\" is no store that this build knows; sqlite:PATH, redis://, "
                            "rediss:// and "
                            "postgresql:// are, and \"none\"",
                            (int)(scheme < 32 ? scheme : 32), o->l2_url);
        emb_status st = kind->open(o->l2_url, &options, &parts.l2, err);
        if (st != EMB_OK)
            return st;
        parts.kind = kind->name;
    }
    return emb_cache_open_with(o, &parts, out, err);
}

void emb_cache_close(emb_cache *cache)
{
    if (!cache)
        return;
    emb_metrics_off_collect(cache->metrics, cache);
    emb_writer_close(cache->writer, emb_now_ns() + CLOSE_NS);
    emb_front_close(cache->front);
    emb_flights_close(cache->flights);
    emb_l1_close(cache->l1);
    free(cache);
}

void emb_cache_adjust(emb_cache *cache, const emb_cache_options *o)
{
    atomic_store(&cache->store_text, o->store_text);
    if (atomic_exchange(&cache->limit_entries, o->l1_entries) != o->l1_entries ||
        atomic_load(&cache->limit_bytes) != o->l1_bytes) {
        atomic_store(&cache->limit_bytes, o->l1_bytes);
        emb_l1_set_limits(cache->l1, o->l1_entries, o->l1_bytes);
    }
    if (!cache->front)
        return;
    emb_l2 *l2 = emb_front_l2(cache->front);
    emb_front_set_deadline(cache->front, o->l2_deadline_ms);
    if (l2->ops->set_maximum)
        l2->ops->set_maximum(l2, o->l2_bytes);
}

bool emb_cache_flush(emb_cache *cache, uint64_t deadline_ns)
{
    return !cache->writer || emb_writer_flush(cache->writer, deadline_ns);
}

/* ---- L1 ---- */

bool emb_cache_peek(emb_cache *c, emb_cache_lookup *lookups, size_t count, const emb_cache_policy *policy)
{
    if (!policy->read)
        return false;
    uint64_t start = emb_now_ns();
    emb_l1_query query = {c->wall_s(), policy->max_age_s, count == 1 ? EMB_L1_COUNT_HIT : EMB_L1_LOOK};
    for (size_t i = 0; i < count; i++) {
        emb_cache_lookup *l = &lookups[i];
        if (!emb_l1_get(c->l1, &l->key, &query, l->vector, l->dimension, &l->tokens))
            return false;
        l->source = EMB_CACHE_L1;
    }
    for (size_t i = 0; count > 1 && i < count; i++) /* only now that all of them are there */
        emb_l1_use(c->l1, &lookups[i].key);
    emb_series_add(c->hits, (double)count);
    emb_series_observe(c->seconds, (double)(emb_now_ns() - start) / 1e9);
    return true;
}

static void ask_l1(emb_cache *c, emb_cache_flight *f, emb_cache_lookup *lookups, size_t count)
{
    const emb_cache_policy *policy = emb_flight_policy(f);
    if (!policy->read || atomic_load(&c->limit_entries) == 0)
        return;
    uint64_t start = emb_now_ns();
    size_t hits = 0;
    emb_l1_query query = {c->wall_s(), policy->max_age_s, EMB_L1_COUNT};
    for (size_t i = 0; i < count; i++) {
        emb_cache_lookup *l = &lookups[i];
        if (emb_l1_get(c->l1, &l->key, &query, l->vector, l->dimension, &l->tokens)) {
            emb_flight_found(f, i, EMB_CACHE_L1);
            hits++;
        }
    }
    emb_series_add(c->hits, (double)hits);
    emb_series_add(c->misses, (double)(count - hits));
    emb_series_observe(c->seconds, (double)(emb_now_ns() - start) / 1e9);
}

typedef struct recheck_context {
    emb_cache *cache;
    emb_l1_query query;
} recheck_context;

static bool recheck_l1(void *context, emb_cache_lookup *l)
{
    recheck_context *r = context;
    return emb_l1_get(r->cache->l1, &l->key, &r->query, l->vector, l->dimension, &l->tokens);
}

/* ---- L2 ---- */

typedef struct l2_lookup {
    emb_cache *cache;
    emb_cache_flight *flight;
    const size_t *indexes;
    size_t count;
    uint64_t now_s, generation, hits, corrupt;
} l2_lookup;

static void on_l2_value(void *context, size_t index, const void *data, size_t length)
{
    l2_lookup *q = context;
    if (index >= q->count)
        return;
    emb_cache_lookup *l = emb_flight_lookup(q->flight, q->indexes[index]);
    const emb_cache_policy *policy = emb_flight_policy(q->flight);
    emb_value value;
    if (l->source != EMB_CACHE_NONE) /* a store that answers twice */
        return;
    emb_status st = emb_value_unpack(&l->key, data, length, &value, l->vector, l->dimension);
    if (st == EMB_E_CORRUPT) {
        q->corrupt++;
        emb_writer_remove_corrupt(q->cache->writer, &l->key);
    }
    if (st != EMB_OK || (value.expires_s && value.expires_s <= q->now_s))
        return;
    uint64_t age = value.created_s < q->now_s ? q->now_s - value.created_s : 0;
    if (policy->max_age_s && age > policy->max_age_s)
        return;
    q->hits++;
    l->tokens = value.tokens;
    if (policy->write && q->generation == atomic_load(&q->cache->generation))
        emb_l1_put(q->cache->l1, &l->key, &value, policy->model, q->now_s);
    emb_flight_fill(q->flight, q->indexes[index], EMB_CACHE_L2, age);
}

static emb_status ask_l2(emb_cache *c, emb_cache_flight *f, size_t count, emb_error *err)
{
    const emb_cache_policy *policy = emb_flight_policy(f);
    if (!c->front || !policy->read || !policy->shared || !emb_front_is_up(c->front))
        return EMB_OK;
    size_t *indexes = malloc(count * (sizeof *indexes + sizeof(emb_cache_key *)) + 1);
    if (!indexes)
        return emb_fail_nomem(err, "a lookup in the second level", count * sizeof *indexes);
    const emb_cache_key **keys = (const emb_cache_key **)(indexes + count);
    size_t n = emb_flight_led(f, indexes);
    for (size_t i = 0; i < n; i++)
        keys[i] = &emb_flight_lookup(f, indexes[i])->key;
    l2_lookup q = {c, f, indexes, n, c->wall_s(), atomic_load(&c->generation), 0, 0};
    if (n) {
        if (!emb_front_get(c->front, keys, n, emb_flight_deadline(f), on_l2_value, &q))
            emb_writer_wake(c->writer); /* to plan a probe, if that was one failure too many */
        emb_front_count(c->front, q.hits, n - q.hits, q.corrupt);
    }
    free(indexes);
    return EMB_OK;
}

/* ---- a flight ---- */

emb_status emb_cache_begin(emb_cache *c, emb_cache_lookup *lookups, size_t count,
                           const emb_cache_policy *policy, uint64_t deadline_ns, const volatile int *cancel,
                           emb_cache_flight **out, emb_error *err)
{
    emb_cache_flight *f;
    emb_status st = emb_flight_make(c->flights, lookups, count, policy, deadline_ns, cancel, &f, err);
    if (st != EMB_OK)
        return st;
    emb_flight_set_owner(f, c);
    ask_l1(c, f, lookups, count);
    recheck_context recheck = {c, {c->wall_s(), policy->max_age_s, EMB_L1_LOOK}};
    emb_flight_join(f, policy->read && policy->write && policy->shared, recheck_l1, &recheck);
    st = ask_l2(c, f, count, err);
    if (st != EMB_OK) {
        emb_flight_end(f, EMB_E_CANCELLED, NULL);
        return st;
    }
    *out = f;
    return EMB_OK;
}

bool emb_cache_next(emb_cache_flight *flight, size_t *todo, size_t *count, emb_status *status, emb_error *err)
{
    return emb_flight_next(flight, todo, count, status, err);
}

/* Seconds to live, shortened by up to a tenth; 0: for ever. */
static uint64_t jittered(const emb_cache_key *key, uint64_t ttl_s)
{
    uint32_t random;
    memcpy(&random, key->bytes + 24, sizeof random);
    uint64_t shorter = (uint64_t)((double)ttl_s * 0.1 * random / 4294967296.0);
    return ttl_s - (shorter < ttl_s ? shorter : 0);
}

static void publish(emb_cache *c, emb_cache_flight *f, size_t index, uint64_t now_s)
{
    const emb_cache_policy *policy = emb_flight_policy(f);
    emb_cache_lookup *l = emb_flight_lookup(f, index);
    if (!l)
        return;
    if (!emb_vector_is_finite(l->vector, l->dimension)) {
        emb_flight_refuse(f, index, EMB_E_INTERNAL,
                          "the vector that was computed holds a value that is not a number");
        return;
    }
    uint64_t ttl = jittered(&l->key, policy->ttl_s);
    emb_value value = {l->vector, l->dimension, l->tokens, now_s, ttl ? now_s + ttl : 0};
    if (policy->write)
        emb_l1_put(c->l1, &l->key, &value, policy->model, now_s);
    emb_flight_fill(f, index, EMB_CACHE_COMPUTED, 0);
    if (policy->write && policy->shared && c->writer) {
        const char *text = atomic_load(&c->store_text) ? l->text : NULL;
        emb_writer_add(c->writer, &l->key, &value, ttl, policy->model, text, l->text_length);
    }
}

void emb_cache_publish(emb_cache_flight *flight, const size_t *done, size_t count)
{
    emb_cache *c = emb_flight_owner(flight);
    uint64_t now_s = c->wall_s();
    for (size_t i = 0; i < count; i++)
        publish(c, flight, done[i], now_s);
}

void emb_cache_end(emb_cache_flight *flight, emb_status status, const emb_error *err)
{
    if (flight)
        emb_flight_end(flight, status, err);
}

/* ---- administration ---- */

void emb_cache_get_stats(emb_cache *c, emb_cache_stats *out)
{
    *out = (emb_cache_stats){.l2_kind = "none"};
    if (c->front) {
        emb_front_get_stats(c->front, out);
        emb_writer_get_stats(c->writer, out);
    }
    emb_l1_get_stats(c->l1, &out->l1);
    out->shared = emb_flights_shared(c->flights);
    out->l1_limit_entries = atomic_load(&c->limit_entries);
    out->l1_limit_bytes = atomic_load(&c->limit_bytes);
}

size_t emb_cache_waiting(emb_cache *cache)
{
    return emb_flights_waiting(cache->flights);
}

emb_status emb_cache_remove(emb_cache *c, const emb_cache_filter *filter, uint64_t *removed, emb_error *err)
{
    uint64_t now_s = c->wall_s(), from_l2 = 0;
    emb_status st = EMB_OK;
    atomic_fetch_add(&c->generation, 1);
    if (c->front) {
        uint64_t patience = emb_front_is_up(c->front) ? REMOVE_NS : SECOND;
        emb_error why = {0};
        st = emb_writer_remove(c->writer, filter, now_s, emb_now_ns() + patience, &from_l2, &why);
        if (st != EMB_OK && st != EMB_E_NOMEM)
            st = emb_fail(err, EMB_E_IO, "cache",
                          "nothing or not all could be removed from the second level: %.400s", why.message);
        else if (st != EMB_OK && err)
            *err = why;
    }
    atomic_fetch_add(&c->generation, 1);
    uint64_t from_l1 = emb_l1_remove(c->l1, filter, now_s);
    *removed = from_l1 > from_l2 ? from_l1 : from_l2;
    return st;
}

typedef struct visit_context {
    emb_cache_visit visit;
    void *context;
    float *vector;
    uint32_t room;
    bool no_memory;
    emb_value value; /* the one being visited */
} visit_context;

static bool on_visit(void *context, const emb_cache_key *key, const char *model, const void *data,
                     size_t length, const char *text, size_t text_length)
{
    visit_context *v = context;
    uint32_t dimension = emb_value_dimension(data, length);
    if (dimension > v->room) {
        float *vector = realloc(v->vector, dimension * sizeof *vector);
        if (!vector) {
            v->no_memory = true;
            return false;
        }
        v->vector = vector;
        v->room = dimension;
    }
    emb_status st = emb_value_unpack(key, data, length, &v->value, v->vector, dimension);
    if (st != EMB_OK) {
        v->no_memory = st == EMB_E_NOMEM;
        return !v->no_memory;
    }
    return v->visit(v->context, key, model, v->vector, dimension, v->value.tokens, text, text_length);
}

static emb_status visit_most_used(emb_cache *c, size_t limit, visit_context *v, emb_error *err)
{
    if (!c->front)
        return EMB_OK;
    emb_l2 *l2 = emb_front_l2(c->front);
    emb_status st = l2->ops->most_used(l2, limit, emb_now_ns() + VISIT_NS, on_visit, v, err);
    free(v->vector);
    return st == EMB_OK && v->no_memory ? emb_fail_nomem(err, "a vector", v->room * sizeof(float)) : st;
}

emb_status emb_cache_most_used(emb_cache *cache, size_t limit, emb_cache_visit visit, void *context,
                               emb_error *err)
{
    visit_context v = {.visit = visit, .context = context};
    return visit_most_used(cache, limit, &v, err);
}

typedef struct preload {
    emb_cache *cache;
    visit_context *visited;
    uint64_t loaded, now_s;
} preload;

/* L1 is filled up to where it would push out what came before, which was used more. */
static bool load_one(void *context, const emb_cache_key *key, const char *model, const float *vector,
                     uint32_t dimension, uint32_t tokens, const char *text, size_t text_length)
{
    preload *p = context;
    emb_cache_tier_stats s;
    (void)vector, (void)dimension, (void)tokens, (void)text, (void)text_length;
    const emb_value *value = &p->visited->value;
    if (value->expires_s && value->expires_s <= p->now_s)
        return true;
    if (p->loaded % 64 == 0) {
        emb_l1_get_stats(p->cache->l1, &s);
        if (s.bytes > atomic_load(&p->cache->limit_bytes) / 10 * 9)
            return false;
    }
    emb_l1_put(p->cache->l1, key, value, model, p->now_s);
    p->loaded++;
    return true;
}

emb_status emb_cache_preload(emb_cache *cache, size_t limit, uint64_t *loaded, emb_error *err)
{
    size_t most = atomic_load(&cache->limit_entries);
    visit_context v = {.visit = load_one};
    preload p = {cache, &v, 0, cache->wall_s()};
    v.context = &p;
    emb_status st = visit_most_used(cache, limit < most ? limit : most, &v, err);
    *loaded = p.loaded;
    return st;
}
