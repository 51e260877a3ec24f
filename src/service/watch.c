/*
 * watch.c: the thread that looks how it goes: alerts are evaluated every alerts.interval_ms, and a scheduled
 * rollout advances, or rolls back when an alert fires.
 *
 * Signals are of the last minutes (windows in the kit) and of what the parts know without I/O, except the
 * mean similarity of the shadow, which is read from its store once a minute.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "service/service_parts.h"

#include <string.h>
#include <time.h>

enum { SIMILARITY_SECONDS = 60 };

typedef struct watch {
    emb_service *service;
    uint64_t similarity_ns; /* when it was read last */
    bool has_similarity;
    double similarity;
    uint64_t comparisons;
} watch;

void emb_service_get_recent(emb_service *service, emb_service_recent *out)
{
    emb_kit *kit = &service->kit;
    uint64_t now = emb_now_ns();
    emb_window_stats latency, errors, lookups, hits;
    emb_config *config = emb_service_config(service);
    emb_window_read(kit->latency, now, 0, &latency);
    emb_window_read(kit->errors, now, 0, &errors);
    emb_window_read(kit->lookups, now, 0, &lookups);
    emb_window_read(kit->hits, now, 0, &hits);
    *out = (emb_service_recent){
        .seconds = (uint32_t)config->alert_window_s,
        .requests = latency.count + errors.count,
        .errors = errors.count,
        .texts = (uint64_t)lookups.sum,
        .cached_texts = (uint64_t)hits.sum,
        .p50_ms = latency.p50 * 1e3,
        .p95_ms = latency.p95 * 1e3,
        .p99_ms = latency.p99 * 1e3,
    };
    emb_config_release(config);
}

static void read_similarity(watch *w, const emb_config *config)
{
    emb_shadow *shadow = w->service->kit.shadow;
    uint64_t now = emb_now_ns();
    if (!shadow || !config->shadow_mode) {
        w->has_similarity = false;
        return;
    }
    if (w->similarity_ns && now - w->similarity_ns < SIMILARITY_SECONDS * UINT64_C(1000000000))
        return;
    w->similarity_ns = now;
    emb_arena arena;
    emb_arena_init(&arena);
    const emb_shadow_query query = {.since_s = (int64_t)time(NULL) - (int64_t)config->alert_window_s};
    emb_shadow_report report;
    emb_error err;
    if (emb_shadow_make_report(shadow, &query, &arena, &report, &err) == EMB_OK) {
        w->has_similarity = report.all.with_cosine > 0 && report.same_space;
        w->similarity = report.all.cosine.mean;
        w->comparisons = report.all.with_cosine;
    }
    emb_arena_fini(&arena);
}

static void fill_budget(emb_service *service, const emb_config *config, emb_alert_signals *s)
{
    emb_budget_use use;
    s->month_nusd = service->kit.ledger ? emb_ledger_month_nusd(service->kit.ledger) : 0;
    if (!service->kit.budget || !emb_budget_peek(service->kit.budget, "global", &use))
        return;
    s->budget_nusd = (uint64_t)(config->daily_api_budget_usd * 1e9);
    s->budget_used_nusd = use.spent_nusd + use.reserved_nusd;
    emb_metrics *m = service->metrics;
    emb_series_set(emb_metrics_series(m, EMB_METRIC_BUDGET_LIMIT, "global"), config->daily_api_budget_usd);
}

static size_t fill_providers(emb_service *service, emb_arena *arena, emb_provider_signal **out)
{
    emb_instance_view *views;
    size_t count;
    emb_error err;
    if (!service->gateway || emb_service_instances(service, arena, &views, &count, &err))
        return 0;
    emb_provider_signal *rows = emb_arena_calloc(arena, count, sizeof *rows);
    for (size_t i = 1; i < count && rows; i++) /* the first is this process */
        rows[i - 1] = (emb_provider_signal){.name = views[i].name,
                                            .healthy = views[i].available && !views[i].limited,
                                            .breaker_open = views[i].breaker.state != EMB_BREAKER_CLOSED,
                                            .reason = views[i].breaker.reason};
    *out = rows;
    return rows ? count - 1 : 0;
}

static void evaluate(watch *w, const emb_config *config)
{
    emb_service *service = w->service;
    emb_arena arena;
    emb_provider_signal *providers = NULL;
    emb_service_recent recent;
    emb_arena_init(&arena);
    emb_service_get_recent(service, &recent);
    read_similarity(w, config);
    emb_alert_signals s = {
        .requests = recent.requests,
        .errors = recent.errors,
        .p95_ms = recent.p95_ms,
        .lookups = recent.texts,
        .hits = recent.cached_texts,
        .comparisons = w->comparisons,
        .similarity = w->similarity,
        .has_similarity = w->has_similarity,
        .store_down = service->kit.ledger && !emb_ledger_is_up(service->kit.ledger),
        .shared_state_down = service->kit.budget && (!emb_budget_is_up(service->kit.budget) ||
                                                     !emb_breakers_store_is_up(service->kit.breakers)),
    };
    emb_cache *cache = emb_service_cache(service);
    if (cache) {
        emb_cache_stats stats;
        emb_cache_get_stats(cache, &stats);
        s.cache_down = strcmp(stats.l2_kind, "none") != 0 && !stats.l2_up;
    }
    fill_budget(service, config, &s);
    s.provider_count = fill_providers(service, &arena, &providers);
    s.providers = providers;
    emb_alerts_evaluate(service->kit.alerts, &s);
    emb_arena_fini(&arena);
}

static void advance(emb_service *service)
{
    emb_error err;
    bool changed = false;
    const char *alert = NULL;
    if (!service->kit.rollout)
        return;
    if (service->kit.alerts && !emb_alerts_firing(service->kit.alerts, EMB_SEVERITY_ERROR, &alert))
        alert = NULL;
    emb_status status = emb_rollout_tick(service->kit.rollout, alert, &changed, &err);
    if (status && status != EMB_E_UNAVAILABLE)
        emb_log(EMB_LOG_DEBUG, "the rollout could not be looked at", EMB_LOG_TEXT("error", err.message));
}

static void *run(void *context)
{
    watch w = {.service = context};
    emb_kit *kit = &w.service->kit;
    emb_thread_background("embedd-watch");
    pthread_mutex_lock(&kit->watch_lock);
    while (!kit->stop_watch) {
        pthread_mutex_unlock(&kit->watch_lock);
        emb_config *config = emb_service_config(w.service);
        uint64_t wait_ns = (uint64_t)config->alert_interval_ms * 1000000;
        if (kit->alerts)
            evaluate(&w, config);
        advance(w.service);
        if (kit->rollout)
            emb_series_set(emb_metrics_series(w.service->metrics, EMB_METRIC_ROLLOUT),
                           emb_rollout_percentage(kit->rollout, config->rollout_percentage));
        emb_config_release(config);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        uint64_t at = (uint64_t)until.tv_sec * 1000000000u + (uint64_t)until.tv_nsec + wait_ns;
        until = (struct timespec){(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
        pthread_mutex_lock(&kit->watch_lock);
        while (!kit->stop_watch && pthread_cond_timedwait(&kit->watch_wake, &kit->watch_lock, &until) == 0)
            ;
    }
    pthread_mutex_unlock(&kit->watch_lock);
    return NULL;
}

emb_status emb_service_watch(emb_service *service, emb_error *err)
{
    emb_kit *kit = &service->kit;
    pthread_condattr_t monotonic;
    if (!kit->alerts && !kit->rollout)
        return EMB_OK;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&kit->watch_lock, NULL);
    pthread_cond_init(&kit->watch_wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    kit->watching = pthread_create(&kit->watch_thread, NULL, run, service) == 0;
    if (kit->watching)
        return EMB_OK;
    pthread_mutex_destroy(&kit->watch_lock);
    pthread_cond_destroy(&kit->watch_wake);
    return emb_fail(err, EMB_E_NOMEM, NULL, "the thread that watches the service cannot be started");
}

void emb_watch_stop(emb_service *service)
{
    emb_kit *kit = &service->kit;
    if (!kit->watching)
        return;
    pthread_mutex_lock(&kit->watch_lock);
    kit->stop_watch = true;
    pthread_cond_signal(&kit->watch_wake);
    pthread_mutex_unlock(&kit->watch_lock);
    pthread_join(kit->watch_thread, NULL);
    pthread_mutex_destroy(&kit->watch_lock);
    pthread_cond_destroy(&kit->watch_wake);
    kit->watching = false;
}
