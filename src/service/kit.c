/*
 * kit.c: what surrounds embedding: ledger, budget, breakers, rollout, shadow, alerts, as the configuration
 * asks for them.
 *
 * A ledger, comparisons or alerts that cannot be kept cost no answer: the log says why, and the part is left
 * out. Budget and breakers are needed where there are providers: what cannot be counted must not be spent.
 * Their store may be away at start; it is asked again for ever.
 */
#include "base/error.h"
#include "base/log.h"
#include "service/service_parts.h"
#include "service/storage.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { URL_MAX = 1 << 16, L2_MS = 50, INSTANCE_BYTES = 512 };

static void left_out(const char *part, const emb_error *err)
{
    emb_log(EMB_LOG_WARN, "a part of the service is left out", EMB_LOG_TEXT("part", part),
            EMB_LOG_TEXT("error", err->message));
}

/* Opens a part at its address, which is a text in `url` by then. */
static bool find_url(const emb_config *config, const char *part, emb_buf *url, const char **text)
{
    emb_error err;
    bool found = emb_storage_store_url(config, part, url, text, &err) == EMB_OK;
    if (!found)
        left_out(part, &err);
    return found;
}

static void open_ledger(emb_service *service, const emb_config *config, emb_buf *url)
{
    emb_error err;
    const char *text;
    const emb_ledger_options options = {.timezone = config->budget_timezone,
                                        .metrics = service->metrics,
                                        .minutes_days = (unsigned)config->ledger_minutes_days,
                                        .quarters_days = (unsigned)config->ledger_quarters_days};
    if (find_url(config, "ledger", url, &text) && emb_ledger_open(text, &options, &service->kit.ledger, &err))
        left_out("ledger", &err);
}

static void open_rollout(emb_service *service, const emb_config *config, emb_buf *url)
{
    emb_error err;
    const char *text;
    const emb_rollout_options options = {0};
    if (find_url(config, "rollout", url, &text) &&
        emb_rollout_open(text, &options, &service->kit.rollout, &err))
        left_out("rollout", &err);
}

static void open_shadow(emb_service *service, const emb_config *config, emb_buf *url)
{
    emb_error err;
    const char *text;
    const emb_shadow_options options = {.queue = config->shadow_queue,
                                        .window = config->shadow_window,
                                        .run = emb_shadow_run_candidate,
                                        .context = service,
                                        .metrics = service->metrics};
    if (find_url(config, "shadow", url, &text) && emb_shadow_open(text, &options, &service->kit.shadow, &err))
        left_out("shadow", &err);
}

static void fill_thresholds(const emb_config *config, emb_alert_thresholds *out)
{
    *out = (emb_alert_thresholds){
        .p95_warning_ms = (double)config->alert_p95_warning,
        .p95_error_ms = (double)config->alert_p95_error,
        .hit_warning = config->alert_cache_hit_warning,
        .hit_error = config->alert_cache_hit_error,
        .similarity_warning = config->alert_similarity_warning,
        .similarity_error = config->alert_similarity_error,
        .error_rate_warning = config->alert_error_rate_warning,
        .budget_warning = config->alert_budget_warning,
        .budget_critical = config->alert_budget_critical,
        .monthly_usd = config->alert_monthly_cost_usd,
        .minimum_requests = config->alert_minimum_requests,
        .minimum_lookups = config->alert_minimum_lookups,
        .minimum_comparisons = config->alert_minimum_requests,
        .for_s = (uint32_t)config->alert_for_s,
    };
}

static void open_alerts(emb_service *service, const emb_config *config, emb_buf *url)
{
    emb_error err;
    const char *text;
    char instance[INSTANCE_BYTES], host[128] = "";
    if (gethostname(host, sizeof host - 1))
        host[0] = 0;
    snprintf(instance, sizeof instance, "%s %s", host,
             config->listen); /* replicas may share an address and a store */
    emb_alerts_options options = {.sinks = config->gateway.sinks,
                                  .sink_count = config->gateway.sink_count,
                                  .instance = instance,
                                  .metrics = service->metrics};
    fill_thresholds(config, &options.thresholds);
    if (find_url(config, "alerts", url, &text))
        options.url = text;
    if (emb_alerts_open(&options, &service->kit.alerts, &err))
        left_out("alerts", &err);
}

static void tell_breaker(void *context, const char *name, emb_breaker_state state, const char *reason)
{
    (void)context;
    emb_log(state == EMB_BREAKER_OPEN ? EMB_LOG_WARN : EMB_LOG_INFO, "a provider's breaker has changed",
            EMB_LOG_TEXT("provider", name), EMB_LOG_TEXT("state", emb_breaker_state_name(state)),
            EMB_LOG_TEXT("reason", reason));
}

static emb_status open_state(emb_service *service, const emb_config *config, emb_buf *url, emb_error *err)
{
    emb_kit *kit = &service->kit;
    const char *text;
    emb_status status = emb_storage_state_url(config, url, &text, err);
    if (status)
        return status;
    const emb_budget_options budget = {.timezone = config->budget_timezone,
                                       .reservation_s = (uint32_t)config->reservation_seconds,
                                       .expired_are_spent = config->expired_reservations == 1,
                                       .metrics = service->metrics};
    const emb_breakers_options breakers = {
        .command_ms = L2_MS, .metrics = service->metrics, .changed = tell_breaker};
    status = emb_budget_open(text, &budget, &kit->budget, err);
    if (!status)
        status = emb_spend_open(kit->budget, &kit->spend, err);
    return status ? status : emb_breakers_open(text, &breakers, &kit->breakers, err);
}

static emb_status open_windows(emb_kit *kit, uint32_t seconds, emb_error *err)
{
    emb_window **all[] = {&kit->latency, &kit->errors, &kit->lookups, &kit->hits, &kit->local};
    emb_status status = EMB_OK;
    for (size_t i = 0; i < sizeof all / sizeof *all && !status; i++)
        status = emb_window_open(seconds, all[i], err);
    for (size_t i = 0; i < EMB_LATENCIES && !status; i++)
        status = emb_window_open(EMB_LATENCY_SECONDS, &kit->shown[i], err);
    return status;
}

static void take_reference(emb_service *service, const emb_config *config)
{
    uint64_t tokens, request;
    if (!emb_gateway_price(&config->gateway, config->reference_model, &tokens, &request))
        emb_log(EMB_LOG_WARN, "savings are not counted: nobody says what budget.reference_model costs",
                EMB_LOG_TEXT("model", config->reference_model));
    atomic_store(&service->reference_nusd, tokens);
    atomic_store(&service->hybrid, config->hybrid);
}

emb_status emb_kit_open(emb_service *service, const emb_config *config, emb_error *err)
{
    emb_buf url = EMB_BUF_INIT(URL_MAX);
    emb_kit *kit = &service->kit;
    take_reference(service, config);
    emb_status status = open_windows(kit, (uint32_t)config->alert_window_s, err);
    if (!status) {
        open_ledger(service, config, &url);
        open_rollout(service, config, &url);
        open_alerts(service, config, &url);
    }
    if (!status && config->gateway.provider_count) {
        open_shadow(service, config, &url);
        status = open_state(service, config, &url, err);
    }
    emb_storage_url_fini(&url);
    return status;
}

void emb_kit_reconfigure(emb_service *service, const emb_config *config)
{
    emb_alert_thresholds thresholds;
    fill_thresholds(config, &thresholds);
    take_reference(service, config);
    if (service->kit.alerts)
        emb_alerts_set_thresholds(service->kit.alerts, &thresholds);
}

void emb_kit_stop(emb_service *service)
{
    emb_watch_stop(service);
    emb_shadow_close(service->kit.shadow);
    service->kit.shadow = NULL;
}

void emb_kit_close(emb_service *service)
{
    emb_kit *kit = &service->kit;
    emb_alerts_close(kit->alerts);
    emb_rollout_close(kit->rollout);
    emb_breakers_close(kit->breakers);
    emb_spend_close(kit->spend);
    emb_budget_close(kit->budget);
    emb_ledger_close(kit->ledger);
    emb_window_close(kit->latency);
    emb_window_close(kit->errors);
    emb_window_close(kit->lookups);
    emb_window_close(kit->hits);
    emb_window_close(kit->local);
    for (size_t i = 0; i < EMB_LATENCIES; i++)
        emb_window_close(kit->shown[i]);
}

emb_ledger *emb_service_ledger(emb_service *service)
{
    return service->kit.ledger;
}

emb_shadow *emb_service_shadow(emb_service *service)
{
    return service->kit.shadow;
}

emb_alerts *emb_service_alerts(emb_service *service)
{
    return service->kit.alerts;
}

emb_rollout *emb_service_rollout(emb_service *service)
{
    return service->kit.rollout;
}

emb_budget *emb_service_budget(emb_service *service)
{
    return service->kit.budget;
}

emb_breakers *emb_service_breakers(emb_service *service)
{
    return service->kit.breakers;
}
