/*
 * watch.c: the thread that looks how it goes: alerts are evaluated every alerts.interval_ms, and a scheduled
 * rollout advances, or rolls back when an alert fires.
 *
 * Signals are of the last minutes (windows in the kit) and of what the parts know without I/O, except the
 * mean similarity of the shadow, which is read from its store once a minute.
 *
 * While a schedule runs, they are of the time since its step, as far as that is shorter: an alert that takes
 * the step back shall speak of the step. The hit rate leaves out one window more, after the start and after
 * each change of the rollout: a cache that is empty, or that has none of the candidate's vectors yet, is cold
 * and not broken, and needs a while to say anything. A window is read by whole slices, a thirtieth of it, so
 * that nothing from before gets in. After a quiet night there are too few lookups, and then nothing is said.
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
    uint64_t start_ns;
    uint64_t similarity_ns; /* when it was read last */
    bool has_similarity;
    double similarity;
    uint64_t comparisons;
} watch;

/* What is read of each window: seconds at its end, 0: nothing. */
typedef struct spans {
    uint32_t requests_s, lookups_s;
    int64_t step_s; /* Unix time of the step of a schedule; 0: none runs */
} spans;

static void read_part(const emb_window *window, uint64_t now_ns, uint32_t seconds, emb_window_stats *out)
{
    if (seconds)
        emb_window_read(window, now_ns, seconds, out);
    else
        *out = (emb_window_stats){0};
}

static void read_recent(emb_service *service, uint32_t window_s, const spans *of, emb_service_recent *out)
{
    emb_kit *kit = &service->kit;
    uint64_t now = emb_now_ns();
    emb_window_stats latency, errors, lookups, hits;
    read_part(kit->latency, now, of->requests_s, &latency);
    read_part(kit->errors, now, of->requests_s, &errors);
    read_part(kit->lookups, now, of->lookups_s, &lookups);
    read_part(kit->hits, now, of->lookups_s, &hits);
    *out = (emb_service_recent){
        .seconds = window_s,
        .requests = latency.count + errors.count,
        .errors = errors.count,
        .texts = (uint64_t)lookups.sum,
        .cached_texts = (uint64_t)hits.sum,
        .p50_ms = latency.p50 * 1e3,
        .p95_ms = latency.p95 * 1e3,
        .p99_ms = latency.p99 * 1e3,
    };
}

void emb_service_get_recent(emb_service *service, emb_service_recent *out)
{
    emb_config *config = emb_service_config(service);
    uint32_t window_s = (uint32_t)config->alert_window_s;
    emb_config_release(config);
    read_recent(service, window_s, &(spans){.requests_s = window_s, .lookups_s = window_s}, out);
}

uint32_t emb_watch_part(uint32_t window_s, int64_t age_s)
{
    if (age_s >= (int64_t)window_s)
        return window_s;
    if (age_s <= 0)
        return 0;
    uint64_t slices = (uint64_t)age_s * EMB_WINDOW_SLICES / window_s;
    return (uint32_t)(slices * window_s / EMB_WINDOW_SLICES);
}

/* Ages are rounded down: the step was made within its second. */
static void choose_spans(const watch *w, uint32_t window_s, spans *out)
{
    int64_t now_s = (int64_t)time(NULL),
            age_s = (int64_t)((emb_now_ns() - w->start_ns) / UINT64_C(1000000000));
    *out = (spans){.requests_s = window_s};
    if (w->service->kit.rollout) {
        emb_rollout_view v;
        emb_rollout_get(w->service->kit.rollout, 0, &v);
        if (v.changed_s && now_s - v.changed_s - 1 < age_s)
            age_s = now_s - v.changed_s - 1;
        if (v.mode == EMB_ROLLOUT_SCHEDULED) {
            out->step_s = v.step_since_s;
            out->requests_s = emb_watch_part(window_s, now_s - v.step_since_s - 1);
        }
    }
    out->lookups_s = emb_watch_part(window_s, age_s - (int64_t)window_s);
}

static void read_similarity(watch *w, const emb_config *config, int64_t step_s)
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
    int64_t since_s = (int64_t)time(NULL) - (int64_t)config->alert_window_s;
    const emb_shadow_query query = {.since_s = since_s > step_s ? since_s : step_s};
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
    spans of;
    emb_arena_init(&arena);
    choose_spans(w, (uint32_t)config->alert_window_s, &of);
    read_recent(service, (uint32_t)config->alert_window_s, &of, &recent);
    read_similarity(w, config, of.step_s);
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
    emb_alarm found;
    emb_rollout_alarm alarm;
    if (!service->kit.rollout)
        return;
    bool fires = service->kit.alerts && emb_alerts_alarm(service->kit.alerts, EMB_SEVERITY_ERROR, &found);
    if (fires)
        alarm = (emb_rollout_alarm){found.name, found.held_since_s, found.for_s};
    emb_status status = emb_rollout_tick(service->kit.rollout, fires ? &alarm : NULL, &changed, &err);
    if (status && status != EMB_E_UNAVAILABLE)
        emb_log(EMB_LOG_DEBUG, "the rollout could not be looked at", EMB_LOG_TEXT("error", err.message));
}

static void *run(void *context)
{
    watch w = {.service = context, .start_ns = emb_now_ns()};
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
