/*
 * Totals since start or reset, as plain counters beside the metrics: Prometheus wants counters that never go
 * back. A reset while calls are counted may leave one of them half counted.
 *
 * Percentiles are not totals: over all calls since the start they hardly move any more after a day, whatever
 * happens. They are of the last five minutes. A reset empties their windows too; alerts have windows of their
 * own (kit.c), so that nobody silences one by looking at figures.
 */
#include "base/clock.h"
#include "service/service_parts.h"

static void add(atomic_uint_fast64_t *counter, uint64_t amount)
{
    if (amount)
        atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static void add_seconds(emb_series *series, uint64_t ns)
{
    emb_series_observe(series, (double)ns * 1e-9);
}

void emb_totals_add(emb_service *service, const emb_answer *answer, uint64_t end_ns)
{
    const emb_model_series *series = answer->series;
    uint64_t by_source[EMB_CACHE_SHARED + 1] = {0};
    for (size_t i = 0; i < answer->count; i++)
        by_source[answer->sources[i]]++;
    uint64_t l1 = by_source[EMB_CACHE_L1], l2 = by_source[EMB_CACHE_L2], shared = by_source[EMB_CACHE_SHARED],
             computed = by_source[EMB_CACHE_COMPUTED];
    add(&service->counts.requests, 1);
    add(&service->counts.texts, answer->count);
    add(&service->counts.l1, l1);
    add(&service->counts.l2, l2);
    add(&service->counts.shared, shared);
    add(&service->counts.computed, computed);
    add(&service->counts.tokens, answer->total_tokens);
    add(&service->counts.cost_nusd, answer->cost_nusd);
    if (!atomic_load_explicit(&service->monitoring, memory_order_relaxed))
        return;
    if (l1)
        emb_series_add(series->texts_l1, (double)l1);
    if (l2)
        emb_series_add(series->texts_l2, (double)l2);
    if (shared)
        emb_series_add(series->texts_shared, (double)shared);
    if (computed)
        emb_series_add(series->texts_computed, (double)computed);
    if (answer->count)
        add_seconds(computed || shared ? series->seconds_computed
                    : l2               ? series->seconds_l2
                                       : series->seconds_l1,
                    answer->total_ns);
    emb_window_observe(service->kit.shown[EMB_LATENCY_EMBED], (double)answer->total_ns * 1e-9, end_ns);
}

void emb_totals_add_error(emb_service *service, emb_status status, uint64_t cost_nusd)
{
    add(&service->counts.cost_nusd, cost_nusd); /* what failed in the end may have been billed on the way */
    if (status == EMB_E_CANCELLED)
        return;
    add(&service->counts.errors, 1);
    if (emb_status_http(status) >= 500 &&
        atomic_load_explicit(
            &service->monitoring,
            memory_order_relaxed)) /* what is the caller's fault says nothing of the service */
        emb_window_observe(service->kit.errors, 1, emb_now_ns());
}

static uint64_t get(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void emb_service_get_latency(emb_service *service, emb_latency which, emb_window_stats *out)
{
    emb_window_read(service->kit.shown[which], emb_now_ns(), 0, out);
}

void emb_service_get_totals(emb_service *service, emb_service_totals *out)
{
    const emb_counts *c = &service->counts;
    uint64_t l1 = get(&c->l1), l2 = get(&c->l2);
    emb_window_stats recent;
    emb_service_get_latency(service, EMB_LATENCY_EMBED, &recent);
    *out = (emb_service_totals){
        .requests = get(&c->requests),
        .texts = get(&c->texts),
        .cached_texts = l1 + l2,
        .l1_texts = l1,
        .l2_texts = l2,
        .computed_texts = get(&c->computed),
        .shared_texts = get(&c->shared),
        .tokens = get(&c->tokens),
        .errors = get(&c->errors),
        .cost_nusd = get(&c->cost_nusd),
        .recent_requests = recent.count,
        .p50_ms = recent.p50 * 1e3,
        .p95_ms = recent.p95 * 1e3,
        .p99_ms = recent.p99 * 1e3,
        .since_seconds = (double)(emb_now_ns() - get(&c->since_ns)) * 1e-9,
    };
}

void emb_service_reset_totals(emb_service *service)
{
    emb_counts *c = &service->counts;
    atomic_uint_fast64_t *all[] = {&c->requests, &c->texts,  &c->l1,     &c->l2,       &c->computed,
                                   &c->shared,   &c->tokens, &c->errors, &c->cost_nusd};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        atomic_store_explicit(all[i], 0, memory_order_relaxed);
    for (size_t i = 0; i < EMB_LATENCIES; i++)
        emb_window_reset(service->kit.shown[i]);
    atomic_store_explicit(&c->since_ns, emb_now_ns(), memory_order_relaxed);
}
