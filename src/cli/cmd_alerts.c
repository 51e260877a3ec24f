/*
 * cmd_alerts.c: `embedd alerts`: what fires, is pending and was resolved, as services wrote it into their
 * store; and `embedd alerts test`: whether those who are to be told can be.
 *
 * It reads the store and asks no service, so that it works beside one and after one. Addresses of sinks are
 * secrets and never shown, only their names.
 */
#include "alerts/alerts.h"
#include "base/json_write.h"
#include "cli/settings_flags.h"
#include "service/storage.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct settings {
    emb_settings_flags flags;
    const char *sink;
    bool json, all, check;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

static const emb_option options[] = {
    {.name = "all",
     .letter = 'a',
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, all),
     .help = "also what was resolved more than a day ago; the store keeps it for 30 days"},
    {.name = "check",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, check),
     .help = "exit status 1 if an alert of severity error or critical fires"},
    {.name = "sink",
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, sink),
     .help = "test: only this one"},
    {.name = "json",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, json),
     .help = "the answer as JSON"},
    EMB_SETTINGS_OPTIONS(settings, flags),
    EMB_OPTIONS_END,
};

enum { SEVERITIES = EMB_SEVERITY_CRITICAL + 1, DAY_S = 86400 };

/* ---- JSON ---- */

static emb_status add_time(emb_buf *out, const char *name, int64_t seconds)
{
    char text[40];
    struct tm tm;
    time_t when = (time_t)seconds;
    bool known = seconds && gmtime_r(&when, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return emb_json_write_member(out, name, known ? text : NULL);
}

static emb_status add_alert(emb_buf *out, const emb_alert *a)
{
    emb_status st = emb_buf_add_str(out, "{");
    if (!st)
        st = emb_json_write_member(out, "name", a->name);
    if (!st)
        st = emb_json_write_member(out, "subject", a->subject);
    if (!st)
        st = emb_json_write_member(out, "severity", emb_severity_name(a->severity));
    if (!st)
        st = emb_json_write_member(out, "state", emb_alert_state_name(a->state));
    if (!st)
        st = emb_buf_addf(out, ",\"value\":%.9g,\"threshold\":%.9g", a->value, a->threshold);
    if (!st)
        st = emb_json_write_member(out, "summary", a->summary);
    if (!st)
        st = add_time(out, "since", a->since_s);
    if (!st)
        st = add_time(out, "fired", a->fired_s);
    if (!st)
        st = add_time(out, "resolved", a->resolved_s);
    if (!st)
        st = emb_json_write_member(out, "instance", a->instance);
    return st ? st : emb_buf_add_str(out, "}");
}

static emb_status add_alerts(emb_buf *out, const emb_alert *list, size_t count,
                             const unsigned firing[SEVERITIES])
{
    emb_status st = emb_buf_add_str(out, "{\"alerts\":[");
    for (size_t i = 0; !st && i < count; i++) {
        st = i ? emb_buf_add_str(out, ",") : EMB_OK;
        if (!st)
            st = add_alert(out, &list[i]);
    }
    return st ? st
              : emb_buf_addf(out, "],\"firing\":{\"critical\":%u,\"error\":%u,\"warning\":%u}}\n",
                             firing[EMB_SEVERITY_CRITICAL], firing[EMB_SEVERITY_ERROR],
                             firing[EMB_SEVERITY_WARNING]);
}

/* ---- the list ---- */

static int64_t state_since(const emb_alert *a)
{
    return a->state == EMB_ALERT_RESOLVED ? a->resolved_s
           : a->state == EMB_ALERT_FIRING ? a->fired_s
                                          : a->since_s;
}

static void print_row(const emb_alert *a, bool with_instance)
{
    char when[40] = "-";
    struct tm tm;
    time_t since = (time_t)state_since(a);
    if (localtime_r(&since, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%-9s %-9s %-19s %-20s %s", emb_alert_state_name(a->state), emb_severity_name(a->severity), when,
           a->name, a->summary);
    if (with_instance && *a->instance)
        printf(" (%s)", a->instance);
    putchar('\n');
}

static void print_table(const emb_alert *list, size_t count)
{
    bool several = false;
    for (size_t i = 1; i < count; i++)
        several |= strcmp(list[i].instance, list[0].instance) != 0;
    if (count == 0)
        printf("nothing fires, nothing is pending\n");
    else
        printf("%-9s %-9s %-19s %-20s %s\n", "STATE", "SEVERITY", "SINCE", "ALERT", "SUMMARY");
    for (size_t i = 0; i < count; i++)
        print_row(&list[i], several);
}

/* Moves what is wanted to the front; returns how many. */
static size_t choose(emb_alert *list, size_t count, bool all, unsigned firing[SEVERITIES])
{
    size_t kept = 0;
    int64_t after_s = (int64_t)time(NULL) - DAY_S;
    for (size_t i = 0; i < count; i++) {
        if (list[i].state == EMB_ALERT_FIRING)
            firing[list[i].severity]++;
        if (all || list[i].state != EMB_ALERT_RESOLVED || list[i].resolved_s > after_s)
            list[kept++] = list[i];
    }
    return kept;
}

static int show(const settings *s, emb_alerts *alerts)
{
    emb_arena arena;
    emb_alert *list;
    size_t count;
    emb_error err = {0};
    unsigned firing[SEVERITIES] = {0};
    emb_arena_init(&arena);
    int code = EMB_EXIT_OK;
    if (emb_alerts_list(alerts, &arena, &list, &count, &err)) {
        code = emb_report_error("alerts", &err);
    } else {
        count = choose(list, count, s->all, firing);
        if (s->json) {
            emb_buf out = EMB_BUF_INIT(16 << 20);
            emb_status st = add_alerts(&out, list, count, firing);
            code = emb_print_answer("alerts", &out, st);
        } else {
            print_table(list, count);
        }
        if (code == EMB_EXIT_OK && s->check && firing[EMB_SEVERITY_ERROR] + firing[EMB_SEVERITY_CRITICAL] > 0)
            code = EMB_EXIT_FAILURE;
    }
    emb_arena_fini(&arena);
    return code;
}

static int list_alerts(const settings *s, const emb_config *config)
{
    emb_buf url = EMB_BUF_INIT(1 << 16);
    emb_alerts *alerts = NULL;
    emb_error err = {0};
    emb_alerts_options o = {.read_only = true};
    int code;
    if (emb_storage_store_url(config, "alerts", &url, &o.url, &err) || emb_alerts_open(&o, &alerts, &err)) {
        code = emb_report_error("alerts", &err);
    } else {
        code = show(s, alerts);
        emb_alerts_close(alerts);
    }
    emb_storage_url_fini(&url);
    return code;
}

/* ---- the test ---- */

static const char *kind_name(emb_sink_kind kind)
{
    return kind == EMB_SINK_ALERTMANAGER ? "alertmanager" : "webhook";
}

static emb_status add_answer(emb_buf *out, const emb_sink_config *sink, bool first, bool ok, int http_status,
                             const char *error)
{
    emb_status st = emb_buf_add_str(out, first ? "{" : ",{");
    if (!st)
        st = emb_json_write_member(out, "name", sink->name);
    if (!st)
        st = emb_json_write_member(out, "kind", kind_name(sink->kind));
    if (!st)
        st = emb_buf_addf(out, ",\"ok\":%s,\"status\":%d", ok ? "true" : "false", http_status);
    if (!st)
        st = emb_json_write_member(out, "error", ok ? NULL : error);
    return st ? st : emb_buf_add_str(out, "}");
}

static int test_sinks(const settings *s, const emb_config *config)
{
    emb_buf json = EMB_BUF_INIT(1 << 20);
    bool failed = false;
    size_t tested = 0;
    emb_status st = emb_buf_add_str(&json, "{\"sinks\":[");
    for (size_t i = 0; i < config->gateway.sink_count; i++) {
        const emb_sink_config *sink = &config->gateway.sinks[i];
        int http_status;
        emb_error err = {0};
        if (s->sink && strcmp(s->sink, sink->name) != 0)
            continue;
        bool ok = emb_alerts_test_sink(sink, config->listen, &http_status, &err) == EMB_OK;
        failed |= !ok;
        if (!st)
            st = add_answer(&json, sink, tested == 0, ok, http_status, err.message);
        if (!s->json && ok)
            printf("%-20s %-13s took it, status %d\n", sink->name, kind_name(sink->kind), http_status);
        else if (!s->json)
            printf("%-20s %-13s did not take it: %s\n", sink->name, kind_name(sink->kind), err.message);
        tested++;
    }
    if (!st)
        st = emb_buf_add_str(&json, "]}\n");
    int code = EMB_EXIT_OK;
    if (s->json && tested > 0)
        code = emb_print_answer("alerts", &json, st);
    else
        emb_buf_fini(&json);
    if (tested == 0 && s->sink)
        emb_report("alerts", "no sink is called '%s'", s->sink);
    else if (tested == 0)
        emb_report(
            "alerts",
            "nobody is to be told: alerts.webhook_url, alerts.alertmanager_url and alerts.sinks are empty");
    return failed || tested == 0 ? EMB_EXIT_FAILURE : code;
}

static int run(const void *opaque, char **arguments, size_t count)
{
    const settings *s = opaque;
    emb_config *config;
    bool tests = count > 0;
    if (tests && strcmp(arguments[0], "test") != 0)
        return emb_usage_error(&emb_command_alerts, "there is no 'alerts %s'; there is test", arguments[0]);
    if (tests && (s->all || s->check))
        return emb_usage_error(&emb_command_alerts, "--all and --check are not for 'alerts test'");
    if (!tests && s->sink)
        return emb_usage_error(&emb_command_alerts, "--sink is for 'alerts test'");
    int code = emb_settings_load("alerts", &s->flags, &config);
    if (code)
        return code;
    code = tests ? test_sinks(s, config) : list_alerts(s, config);
    emb_config_release(config);
    return emb_finish_stdout("alerts", code);
}

const emb_command emb_command_alerts = {
    .name = "alerts",
    .summary = "what fires, is pending or was resolved lately; a test of who is told",
    .usage = "alerts [OPTION...]\nalerts [OPTION...] test",
    .description =
        "Without an argument: the alerts that services have written into their store (data.store_url,\n"
        "by default a file in the data directory): those that fire, those that are pending, those\n"
        "that were resolved within the last day.\n\n"
        "test  sends a test notice to each sink of the configuration and says what it answered",
    .examples = "  embedd alerts\n"
                "  embedd alerts --check || page-somebody\n"
                "  embedd alerts test --sink webhook",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 0,
    .maximum_arguments = 1,
    .run = run,
};
