/*
 * Alerts at the end of a pipe: reads commands, one a line, and answers each with one line, so that a test in
 * Python can do to the sinks what it likes in between.
 *
 *     sink webhook|alertmanager NAME URL BEARER|- SEVERITY    before open
 *     open STORE|-                                            ok, or what is wrong
 *     evaluate P95_MS PROVIDER|-                              ok; PROVIDER is unhealthy
 *     firing                                                  how many
 *     test NAME                                               ok or what is wrong, and the status that came
 *     close                                                   ok, and how many milliseconds it took
 *
 * Conditions need not hold for any time. The log goes to standard error. Ends at the end of its input.
 */
#include "alerts/alerts.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SINKS = 8 };

static emb_alerts *alerts;
static emb_sink_config sinks[SINKS];
static size_t sink_count;
static emb_error err;

static char *word(void)
{
    return strtok(NULL, " \n");
}

static const char *kept(const char *text)
{
    char *copy = strdup(text && strcmp(text, "-") != 0 ? text : "");
    if (!copy)
        abort();
    return copy;
}

static void add_sink(void)
{
    emb_sink_config *s = &sinks[sink_count];
    if (sink_count == SINKS)
        abort();
    s->kind = strcmp(word(), "webhook") == 0 ? EMB_SINK_WEBHOOK : EMB_SINK_ALERTMANAGER;
    s->name = kept(word());
    s->url = kept(word());
    s->bearer = kept(word());
    s->minimum_severity = kept(word());
    sink_count++;
    puts("ok");
}

static void say(emb_status st)
{
    puts(st == EMB_OK ? "ok" : err.message);
}

static void open_alerts(void)
{
    const char *url = kept(word());
    const emb_alerts_options o = {
        .url = url,
        .sinks = sinks,
        .sink_count = sink_count,
        .instance = "driver:1",
        .thresholds = {.p95_warning_ms = 500,
                       .p95_error_ms = 1000,
                       .hit_warning = 0.7,
                       .hit_error = 0.5,
                       .error_rate_warning = 0.05,
                       .budget_warning = 0.8,
                       .budget_critical = 0.95},
    };
    say(emb_alerts_open(&o, &alerts, &err));
    free((void *)url);
}

static void evaluate(void)
{
    emb_alert_signals s = {.requests = 100, .p95_ms = atof(word())};
    const char *name = word();
    const emb_provider_signal provider = {name, false, false, "it does not answer"};
    if (strcmp(name, "-") != 0) {
        s.providers = &provider;
        s.provider_count = 1;
    }
    emb_alerts_evaluate(alerts, &s);
    puts("ok");
}

static void test_sink(void)
{
    const char *name = word();
    int status = 0;
    for (size_t i = 0; i < sink_count; i++)
        if (strcmp(sinks[i].name, name) == 0) {
            emb_status st = emb_alerts_test_sink(&sinks[i], "driver:1", &status, &err);
            printf("%s: %s (%d)\n", st == EMB_OK ? "ok" : err.where, st == EMB_OK ? "" : err.message, status);
        }
}

static void close_alerts(void)
{
    uint64_t start = emb_now_ns();
    emb_alerts_close(alerts);
    alerts = NULL;
    printf("ok %llu\n", (unsigned long long)((emb_now_ns() - start) / 1000000));
}

int main(void)
{
    char line[4096];
    emb_log_open(EMB_LOG_INFO, EMB_LOG_JSON, 2);
    while (fgets(line, sizeof line, stdin)) {
        const char *command = strtok(line, " \n");
        if (strcmp(command, "sink") == 0)
            add_sink();
        else if (strcmp(command, "open") == 0)
            open_alerts();
        else if (strcmp(command, "evaluate") == 0)
            evaluate();
        else if (strcmp(command, "firing") == 0)
            printf("%u\n", emb_alerts_firing(alerts, EMB_SEVERITY_WARNING, NULL));
        else if (strcmp(command, "test") == 0)
            test_sink();
        else if (strcmp(command, "close") == 0)
            close_alerts();
        else
            return 2;
        fflush(stdout);
    }
    emb_alerts_close(alerts);
    for (size_t i = 0; i < sink_count; i++) {
        free((void *)sinks[i].name);
        free((void *)sinks[i].url);
        free((void *)sinks[i].bearer);
        free((void *)sinks[i].minimum_severity);
    }
    emb_log_close();
    return 0;
}
