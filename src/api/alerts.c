/*
 * alerts.c: what fires, is pending and was resolved, for dashboards and for who has no Alertmanager.
 *
 * Read from memory, so it is answered at once and no store is asked. Thresholds are those of the
 * configuration in force.
 */
#include "api/hybrid.h"

#include <time.h>

enum { SEVERITIES = EMB_SEVERITY_CRITICAL + 1 };

static void write_time(emb_out *o, const char *name, int64_t seconds)
{
    char text[40];
    struct tm tm;
    time_t when = (time_t)seconds;
    bool known = seconds && gmtime_r(&when, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    emb_out_text(o, name, known ? text : NULL);
}

static void write_alert(emb_out *o, const emb_alert *a)
{
    emb_out_open(o, NULL, '{');
    emb_out_text(o, "name", a->name);
    emb_out_text(o, "subject", a->subject);
    emb_out_text(o, "severity", emb_severity_name(a->severity));
    emb_out_text(o, "state", emb_alert_state_name(a->state));
    emb_out_real(o, "value", a->value, 9);
    emb_out_real(o, "threshold", a->threshold, 9);
    emb_out_text(o, "summary", a->summary);
    write_time(o, "since", a->since_s);
    write_time(o, "fired", a->fired_s);
    write_time(o, "resolved", a->resolved_s);
    emb_out_close(o, '}');
}

static void write_thresholds(emb_out *o, const emb_config *c)
{
    emb_out_open(o, "thresholds", '{');
    emb_out_count(o, "p95_latency_warning_ms", c->alert_p95_warning);
    emb_out_count(o, "p95_latency_error_ms", c->alert_p95_error);
    emb_out_real(o, "cache_hit_warning", c->alert_cache_hit_warning, 9);
    emb_out_real(o, "cache_hit_error", c->alert_cache_hit_error, 9);
    emb_out_real(o, "similarity_warning", c->alert_similarity_warning, 9);
    emb_out_real(o, "similarity_error", c->alert_similarity_error, 9);
    emb_out_real(o, "error_rate_warning", c->alert_error_rate_warning, 9);
    emb_out_real(o, "api_budget_warning", c->alert_budget_warning, 9);
    emb_out_real(o, "api_budget_critical", c->alert_budget_critical, 9);
    emb_out_real(o, "monthly_cost_warning_usd", c->alert_monthly_cost_usd, 9);
    emb_out_count(o, "for_seconds", c->alert_for_s);
    emb_out_count(o, "window_seconds", c->alert_window_s);
    emb_out_count(o, "minimum_requests", c->alert_minimum_requests);
    emb_out_count(o, "minimum_lookups", c->alert_minimum_lookups);
    emb_out_close(o, '}');
}

static void write_answer(emb_out *o, emb_api_call *call, const emb_alert *list, size_t count)
{
    unsigned firing[SEVERITIES] = {0};
    emb_out_open(o, NULL, '{');
    emb_out_open(o, "alerts", '[');
    for (size_t i = 0; i < count; i++) {
        write_alert(o, &list[i]);
        if (list[i].state == EMB_ALERT_FIRING)
            firing[list[i].severity]++;
    }
    emb_out_close(o, ']');
    emb_out_open(o, "firing", '{');
    for (int i = SEVERITIES - 1; i >= 0; i--)
        emb_out_count(o, emb_severity_name((emb_severity)i), firing[i]);
    emb_out_close(o, '}');
    write_thresholds(o, call->config);
    emb_out_close(o, '}');
}

static void get_alerts(emb_api_call *call)
{
    emb_alerts *alerts = emb_service_alerts(call->service);
    emb_alert *list;
    size_t count;
    emb_error err;
    emb_out o;
    if (!alerts) {
        emb_call_fail(call, 503, "alerts_off", NULL, "There are no alerts: hybrid.monitoring is off.");
        return;
    }
    if (emb_alerts_list(alerts, call->arena, &list, &count, &err)) {
        emb_call_fail_error(call, &err);
        return;
    }
    emb_out_begin(&o, call);
    write_answer(&o, call, list, count);
    emb_out_reply(&o, call, NULL);
}

/* ---- the table ---- */

#define COUNT EMB_HYBRID_COUNT
#define AMOUNT EMB_HYBRID_AMOUNT
#define SHARE "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}"
#define TIME_OR_NULL "{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"}"
#define ALERT                                                                                                \
    "{\"type\":\"object\",\"required\":[\"name\",\"subject\",\"severity\",\"state\",\"value\","              \
    "\"threshold\",\"summary\","                                                                             \
    "\"since\",\"fired\",\"resolved\"],\"properties\":{\"name\":{\"enum\":[\"p95_latency\",\"cache_hit_"     \
    "rate\","                                                                                                \
    "\"similarity\",\"error_rate\",\"api_budget\",\"monthly_cost\",\"provider_unhealthy\",\"breaker_open\"," \
    "\"cache_down\",\"store_down\",\"shared_state_down\"]},\"subject\":{\"type\":\"string\","                \
    "\"description\":"                                                                                       \
    "\"A provider's name, or "                                                                               \
    "empty.\"},\"severity\":{\"enum\":[\"warning\",\"error\",\"critical\"]},\"state\":{\"enum\":"            \
    "[\"pending\",\"firing\",\"resolved\"]},\"value\":{\"type\":\"number\"},\"threshold\":{\"type\":"        \
    "\"number\"},"                                                                                           \
    "\"summary\":{\"type\":\"string\"},\"since\":{\"type\":\"string\",\"format\":\"date-time\"},"            \
    "\"fired\":" TIME_OR_NULL ",\"resolved\":" TIME_OR_NULL "}}"
#define ANSWER                                                                                              \
    "{\"type\":\"object\",\"required\":[\"alerts\",\"firing\",\"thresholds\"],\"properties\":{\"alerts\":{" \
    "\"type\":"                                                                                             \
    "\"array\",\"description\":\"Those that fire, the worst first, those that are pending, then what was "  \
    "resolved within "                                                                                      \
    "the last day.\",\"items\":" ALERT                                                                      \
    "},\"firing\":{\"type\":\"object\",\"required\":[\"critical\",\"error\","                               \
    "\"warning\"],\"properties\":{\"critical\":" COUNT ",\"error\":" COUNT ",\"warning\":" COUNT            \
    "}},\"thresholds\":"                                                                                    \
    "{\"type\":\"object\",\"required\":[\"p95_latency_warning_ms\",\"p95_latency_error_ms\",\"cache_hit_"   \
    "warning\","                                                                                            \
    "\"cache_hit_error\",\"similarity_warning\",\"similarity_error\",\"error_rate_warning\",\"api_budget_"  \
    "warning\","                                                                                            \
    "\"api_budget_critical\",\"monthly_cost_warning_usd\",\"for_seconds\",\"window_seconds\",\"minimum_"    \
    "requests\"],"                                                                                          \
    "\"properties\":{\"p95_latency_warning_ms\":" COUNT ",\"p95_latency_error_ms\":" COUNT                  \
    ",\"cache_hit_warning\":" SHARE ",\"cache_hit_error\":" SHARE ",\"similarity_warning\":" SHARE          \
    ",\"similarity_error\":" SHARE ",\"error_rate_warning\":" SHARE ",\"api_budget_warning\":" SHARE        \
    ",\"api_budget_critical\":" SHARE ",\"monthly_cost_warning_usd\":" AMOUNT ",\"for_seconds\":" COUNT     \
    ",\"window_seconds\":" COUNT ",\"minimum_requests\":" COUNT ",\"minimum_lookups\":" COUNT "}}}}"

const emb_route emb_routes_alerts[] = {
    {EMB_HTTP_GET, "/api/v1/embeddings/alerts", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_READ, get_alerts,
     "What fires, is pending and was resolved lately, and the thresholds.", NULL, ANSWER, NULL, NULL},
    {0}};
