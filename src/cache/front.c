/*
 * An L2 behind a circuit.
 *
 * A request that asks is counted by its answer; while the circuit is open it does not even take the lock.
 * Only failures that speak of L2 count: not memory that is short here, and not a time-out of a request whose
 * own deadline was nearer than L2's.
 *
 * A probe asks twice: once with time for connecting, which a request would not have, then within the ordinary
 * deadline, since an L2 that cannot keep it would only be asked to fail again. It asks for a key that nothing
 * is filed under.
 */
#include "cache/front.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_NS UINT64_C(1000000000)

struct emb_front {
    emb_l2 *l2;
    const char *kind;
    atomic_uint deadline_ms;
    atomic_bool up;
    atomic_uint_fast64_t hits, misses, corrupt, failures, timeouts;
    pthread_mutex_t lock; /* for what follows */
    emb_circuit circuit;
    char error[256];
    emb_cache_tier_stats known;
    emb_series *series_up, *series_hits, *series_misses, *series_corrupt, *series_seconds;
};

emb_status emb_front_open(emb_l2 *l2, const char *kind, uint32_t deadline_ms, emb_metrics *metrics,
                          emb_front **out, emb_error *err)
{
    emb_front *f = calloc(1, sizeof *f);
    if (!f) {
        l2->ops->close(l2);
        return emb_fail_nomem(err, "the second level of the cache", sizeof *f);
    }
    f->l2 = l2;
    f->kind = kind;
    f->circuit = (emb_circuit)EMB_CIRCUIT_INIT;
    f->circuit.random ^= emb_now_ns();
    atomic_init(&f->deadline_ms, deadline_ms ? deadline_ms : 1);
    atomic_init(&f->up, true);
    pthread_mutex_init(&f->lock, NULL);
    f->series_up = emb_metrics_series(metrics, EMB_METRIC_CACHE_UP);
    f->series_hits = emb_metrics_series(metrics, EMB_METRIC_CACHE_HITS, "l2");
    f->series_misses = emb_metrics_series(metrics, EMB_METRIC_CACHE_MISSES, "l2");
    f->series_corrupt = emb_metrics_series(metrics, EMB_METRIC_CACHE_CORRUPT, "l2");
    f->series_seconds = emb_metrics_series(metrics, EMB_METRIC_CACHE_SECONDS, "l2");
    emb_series_set(f->series_up, 1);
    *out = f;
    return EMB_OK;
}

void emb_front_close(emb_front *front)
{
    if (!front)
        return;
    front->l2->ops->close(front->l2);
    pthread_mutex_destroy(&front->lock);
    free(front);
}

void emb_front_set_deadline(emb_front *front, uint32_t deadline_ms)
{
    atomic_store(&front->deadline_ms, deadline_ms ? deadline_ms : 1);
}

emb_l2 *emb_front_l2(emb_front *front)
{
    return front->l2;
}

bool emb_front_is_up(emb_front *front)
{
    return atomic_load_explicit(&front->up, memory_order_relaxed);
}

/* ---- up and down ---- */

/* With the lock. */
static void note_error(emb_front *f, emb_status status, const emb_error *err)
{
    atomic_fetch_add(status == EMB_E_DEADLINE ? &f->timeouts : &f->failures, 1);
    size_t length = strnlen(err->message, sizeof f->error - 1);
    memcpy(f->error, err->message, length);
    f->error[length] = 0;
}

void emb_front_note_error(emb_front *front, emb_status status, const emb_error *err)
{
    pthread_mutex_lock(&front->lock);
    note_error(front, status, err);
    pthread_mutex_unlock(&front->lock);
}

static void failed(emb_front *f, emb_status status, const emb_error *err, bool counts)
{
    pthread_mutex_lock(&f->lock);
    note_error(f, status, err);
    bool opened = counts && emb_circuit_failed(&f->circuit, emb_now_ns());
    if (opened) {
        atomic_store(&f->up, false);
        emb_series_set(f->series_up, 0);
    }
    pthread_mutex_unlock(&f->lock);
    if (opened)
        emb_log(EMB_LOG_WARN, "cache: the second level is down, going on without it",
                EMB_LOG_TEXT("kind", f->kind), EMB_LOG_TEXT("error", err->message));
}

static void succeeded(emb_front *f, bool probe)
{
    pthread_mutex_lock(&f->lock);
    bool closed = emb_circuit_succeeded(&f->circuit, probe);
    uint64_t down_ns = closed ? emb_now_ns() - f->circuit.opened_ns : 0;
    if (closed) {
        atomic_store(&f->up, true);
        emb_series_set(f->series_up, 1);
    }
    pthread_mutex_unlock(&f->lock);
    if (closed)
        emb_log(EMB_LOG_INFO, "cache: the second level is back", EMB_LOG_TEXT("kind", f->kind),
                EMB_LOG_REAL("down_seconds", (double)down_ns / 1e9));
}

bool emb_front_get(emb_front *f, const emb_cache_key *const *keys, size_t count, uint64_t deadline_ns,
                   emb_l2_found found, void *context)
{
    if (count == 0 || !emb_front_is_up(f))
        return false;
    uint64_t start = emb_now_ns(), limit = start + (uint64_t)atomic_load(&f->deadline_ms) * 1000000;
    bool own = !deadline_ns || deadline_ns >= limit;
    emb_error err = {0};
    emb_status st = f->l2->ops->get_many(f->l2, keys, count, own ? limit : deadline_ns, found, context, &err);
    emb_series_observe(f->series_seconds, (double)(emb_now_ns() - start) / 1e9);
    if (st == EMB_OK)
        succeeded(f, false);
    else
        failed(f, st, &err, st != EMB_E_NOMEM && (own || st != EMB_E_DEADLINE));
    return st == EMB_OK;
}

void emb_front_count(emb_front *f, uint64_t hits, uint64_t misses, uint64_t corrupt)
{
    atomic_fetch_add(&f->hits, hits);
    atomic_fetch_add(&f->misses, misses);
    atomic_fetch_add(&f->corrupt, corrupt);
    emb_series_add(f->series_hits, (double)hits);
    emb_series_add(f->series_misses, (double)misses);
    if (corrupt)
        emb_series_add(f->series_corrupt, (double)corrupt);
}

/* ---- probes ---- */

static void ignore(void *context, size_t index, const void *value, size_t length)
{
    (void)context, (void)index, (void)value, (void)length;
}

uint64_t emb_front_probe_due(emb_front *front)
{
    pthread_mutex_lock(&front->lock);
    uint64_t due = front->circuit.open ? front->circuit.probe_ns : 0;
    pthread_mutex_unlock(&front->lock);
    return due;
}

static emb_status ask(emb_front *f, uint64_t within_ns, emb_error *err)
{
    static const emb_cache_key nothing;
    const emb_cache_key *const keys[] = {&nothing};
    return f->l2->ops->get_many(f->l2, keys, 1, emb_now_ns() + within_ns, ignore, NULL, err);
}

void emb_front_probe(emb_front *f)
{
    emb_error err = {0};
    uint64_t usual = (uint64_t)atomic_load(&f->deadline_ms) * 1000000;
    emb_status st = ask(f, usual > CONNECT_NS ? usual : CONNECT_NS, &err);
    if (st == EMB_OK)
        st = ask(f, usual, &err);
    if (st == EMB_OK) {
        succeeded(f, true);
        return;
    }
    pthread_mutex_lock(&f->lock);
    bool open = f->circuit.open;
    if (open) {
        note_error(f, st, &err);
        emb_circuit_probe_failed(&f->circuit, emb_now_ns());
    } else { /* asked at the start: one failure is enough to know */
        f->circuit.failures = f->circuit.threshold - 1;
    }
    pthread_mutex_unlock(&f->lock);
    if (!open)
        failed(f, st, &err, true);
}

void emb_front_get_stats(emb_front *f, emb_cache_stats *out)
{
    emb_cache_tier_stats now = {0};
    emb_error err = {0};
    uint64_t deadline = emb_now_ns() + (uint64_t)atomic_load(&f->deadline_ms) * 1000000;
    bool known = emb_front_is_up(f) && f->l2->ops->stats(f->l2, deadline, &now, &err) == EMB_OK;
    pthread_mutex_lock(&f->lock);
    if (known)
        f->known = now;
    out->l2 = f->known;
    snprintf(out->l2_error, sizeof out->l2_error, "%s", f->error);
    pthread_mutex_unlock(&f->lock);
    out->l2.hits = atomic_load(&f->hits);
    out->l2.misses = atomic_load(&f->misses);
    out->l2.corrupt = atomic_load(&f->corrupt);
    out->l2_kind = f->kind;
    out->l2_up = emb_front_is_up(f);
    out->l2_failures = atomic_load(&f->failures);
    out->l2_timeouts = atomic_load(&f->timeouts);
}
