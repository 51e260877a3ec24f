/*
 * sinks.c: a queue and a thread for each sink, so that one that hangs delays no other.
 *
 * A sink gets its notices one after another: the first is tried until it is taken, and those behind it wait,
 * since a "resolved" that overtakes its "firing" would leave an alert standing forever. Waits grow from a
 * second to a minute; a notice is given up after a day, or at once where the sink says that it will never
 * take it (400, 413, 422). The queue holds 256; when it is full the oldest that is not on its way goes, and
 * the log and a counter say so.
 *
 * A notice that was taken is removed from the store afterwards: a process that dies in between tells it once
 * more.
 *
 * Alertmanager forgets alerts that are not repeated, so each minute it is told what fires, as one request,
 * but only when its queue is empty: a repetition is never older than a change.
 */
#include "alerts/parts.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
enum { LONGEST_WAIT_S = 60, BODY_MAX = 1 << 20 };

/* ---- making and ending ---- */

static int severity_of(const char *name)
{
    for (int i = 0; name && i < EMB_SEVERITIES; i++)
        if (strcmp(name, emb_severity_name((emb_severity)i)) == 0)
            return i;
    return EMB_SEVERITY_WARNING;
}

/* Copies a text behind the others; NULL counts as "". */
static const char *keep(char **at, const char *text)
{
    size_t length = text ? strlen(text) : 0;
    char *start = *at;
    memcpy(start, text ? text : "", length + 1);
    *at += length + 1;
    return start;
}

static size_t room_for(const char *text)
{
    return text ? strlen(text) + 1 : 1;
}

emb_status emb_alert_sink_init(emb_alert_sink *sink, emb_alerts *alerts, const emb_sink_config *config,
                               emb_error *err)
{
    pthread_condattr_t monotonic;
    size_t bytes = room_for(config->name) + room_for(config->url) + room_for(config->bearer);
    memset(sink, 0, sizeof *sink);
    char *at = sink->texts = malloc(bytes);
    if (!at)
        return emb_fail_nomem(err, "a sink of alerts", bytes);
    sink->alerts = alerts;
    sink->config.kind = config->kind;
    sink->config.name = keep(&at, config->name);
    sink->config.url = keep(&at, config->url);
    sink->config.bearer = keep(&at, config->bearer);
    sink->minimum = severity_of(config->minimum_severity);
    sink->config.minimum_severity = emb_severity_name((emb_severity)sink->minimum);
    sink->sent = emb_metrics_series(alerts->metrics, EMB_METRIC_ALERT_NOTICES, sink->config.name, "sent");
    sink->failed = emb_metrics_series(alerts->metrics, EMB_METRIC_ALERT_NOTICES, sink->config.name, "failed");
    sink->given_up =
        emb_metrics_series(alerts->metrics, EMB_METRIC_ALERT_NOTICES, sink->config.name, "given_up");
    pthread_mutex_init(&sink->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&sink->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return EMB_OK;
}

void emb_alert_sink_wake(emb_alert_sink *sink)
{
    pthread_mutex_lock(&sink->lock);
    pthread_cond_signal(&sink->wake);
    pthread_mutex_unlock(&sink->lock);
}

void emb_alert_sink_fini(emb_alert_sink *sink)
{
    if (!sink->texts)
        return;
    if (sink->running) {
        emb_alert_sink_wake(sink);
        pthread_join(sink->thread, NULL);
    }
    for (emb_notice *n = sink->first, *next; n; n = next) {
        next = n->next;
        free(n);
    }
    pthread_cond_destroy(&sink->wake);
    pthread_mutex_destroy(&sink->lock);
    free(sink->texts);
    sink->texts = NULL;
}

/* ---- the queue ---- */

emb_notice *emb_notice_new(int64_t number, int64_t created_s, const char *name, const char *body,
                           size_t length)
{
    emb_notice *n = malloc(sizeof *n + length + 1);
    if (!n)
        return NULL;
    n->next = NULL;
    n->number = number;
    n->created_s = created_s;
    n->length = length;
    emb_copy_text(n->name, sizeof n->name, name);
    memcpy(n->body, body, length);
    n->body[length] = 0;
    return n;
}

static void report_given_up(emb_alert_sink *sink, const emb_notice *n, const char *why)
{
    emb_series_add(sink->given_up, 1);
    emb_log(EMB_LOG_ERROR, "alert: a notice is given up", EMB_LOG_TEXT("sink", sink->config.name),
            EMB_LOG_TEXT("alert", n->name), EMB_LOG_TEXT("why", why));
    emb_alerts_told(sink->alerts, sink->config.name, n->number);
}

/* Takes out the oldest that is not on its way; called with the lock. */
static emb_notice *take_oldest(emb_alert_sink *sink)
{
    emb_notice **link = sink->sending ? &sink->first->next : &sink->first, *n = *link;
    *link = n->next;
    if (sink->last == n)
        sink->last = sink->sending && sink->first != n ? sink->first : NULL;
    sink->count--;
    return n;
}

void emb_alert_sink_add(emb_alert_sink *sink, emb_notice *notice)
{
    emb_notice *lost = NULL;
    pthread_mutex_lock(&sink->lock);
    if (sink->count >= EMB_NOTICES_MAX)
        lost = take_oldest(sink);
    if (sink->last)
        sink->last->next = notice;
    else
        sink->first = notice;
    sink->last = notice;
    sink->count++;
    pthread_cond_signal(&sink->wake);
    pthread_mutex_unlock(&sink->lock);
    if (lost)
        report_given_up(sink, lost, "more are waiting than the queue holds");
    free(lost);
}

bool emb_alert_sink_has(emb_alert_sink *sink, int64_t number)
{
    pthread_mutex_lock(&sink->lock);
    const emb_notice *n = sink->first;
    while (n && n->number != number)
        n = n->next;
    pthread_mutex_unlock(&sink->lock);
    return n != NULL;
}

static void remove_first(emb_alert_sink *sink)
{
    pthread_mutex_lock(&sink->lock);
    emb_notice *n = sink->first;
    sink->first = n->next;
    if (!sink->first)
        sink->last = NULL;
    sink->count--;
    sink->sending = false;
    pthread_mutex_unlock(&sink->lock);
    free(n);
}

/* ---- sending ---- */

static uint64_t wait_after(unsigned attempts)
{
    uint64_t seconds = attempts > 6 ? LONGEST_WAIT_S : UINT64_C(1) << (attempts - 1);
    return (seconds < LONGEST_WAIT_S ? seconds : LONGEST_WAIT_S) * SECOND;
}

static bool is_final(int http_status)
{
    return http_status == 400 || http_status == 413 || http_status == 422;
}

static emb_status post(emb_alert_sink *sink, const char *body, size_t length, int *http_status)
{
    emb_alerts *a = sink->alerts;
    emb_error err = {0};
    emb_sink_request request = {&sink->config, body, length, &a->stop_at_ns};
    *http_status = 0;
    emb_status st = a->send(a->send_context, &request, http_status, &err);
    if (st == EMB_OK) {
        if (sink->failing)
            emb_log(EMB_LOG_INFO, "alert: the sink takes notices again",
                    EMB_LOG_TEXT("sink", sink->config.name));
        sink->failing = false;
        return EMB_OK;
    }
    emb_series_add(sink->failed, 1);
    if (!sink->failing) /* once, not for each attempt */
        emb_log(EMB_LOG_WARN, "alert: the sink takes no notices", EMB_LOG_TEXT("sink", sink->config.name),
                EMB_LOG_TEXT("error", err.message));
    sink->failing = true;
    return st;
}

/* Whether the first notice is done with, told or given up. */
static bool try_first(emb_alert_sink *sink, const emb_notice *n, uint64_t now_ns)
{
    int http_status;
    if (sink->alerts->now_s() - n->created_s >= EMB_NOTICE_LIFE_S) {
        report_given_up(sink, n, "it could not be told for a day");
    } else if (post(sink, n->body, n->length, &http_status) == EMB_OK) {
        emb_series_add(sink->sent, 1);
        emb_alerts_told(sink->alerts, sink->config.name, n->number);
    } else if (is_final(http_status)) {
        report_given_up(sink, n, "the sink refused it for good");
    } else {
        sink->attempts++;
        sink->retry_ns = now_ns + wait_after(sink->attempts);
        return false;
    }
    sink->attempts = 0;
    sink->retry_ns = 0;
    return true;
}

static emb_notice *begin_first(emb_alert_sink *sink)
{
    pthread_mutex_lock(&sink->lock);
    emb_notice *n = sink->first;
    sink->sending = n != NULL;
    pthread_mutex_unlock(&sink->lock);
    return n;
}

static void end_first(emb_alert_sink *sink)
{
    pthread_mutex_lock(&sink->lock);
    sink->sending = false;
    pthread_mutex_unlock(&sink->lock);
}

/* A failure is not retried before the next time. */
static void repeat_firing(emb_alert_sink *sink)
{
    emb_buf body = EMB_BUF_INIT(BODY_MAX);
    size_t count = 0;
    int http_status;
    if (emb_alerts_write_firing(sink->alerts, sink->minimum, &body, &count) == EMB_OK && count > 0)
        (void)!post(sink, body.data, body.length, &http_status);
    emb_buf_fini(&body);
}

uint64_t emb_alert_sink_step(emb_alert_sink *sink, uint64_t now_ns)
{
    for (emb_notice *n; (n = begin_first(sink)) != NULL;) {
        if (sink->retry_ns > now_ns || !try_first(sink, n, now_ns)) {
            end_first(sink);
            return sink->retry_ns;
        }
        remove_first(sink);
    }
    if (sink->config.kind != EMB_SINK_ALERTMANAGER)
        return UINT64_MAX;
    if (sink->repeat_ns <= now_ns) {
        repeat_firing(sink);
        sink->repeat_ns = now_ns + EMB_REPEAT_S * SECOND;
    }
    return sink->repeat_ns;
}

/* ---- the thread ---- */

static void wait_until(emb_alert_sink *sink, uint64_t due_ns, const emb_notice *seen)
{
    struct timespec until = {(time_t)(due_ns / SECOND), (long)(due_ns % SECOND)};
    pthread_mutex_lock(&sink->lock);
    while (!atomic_load(&sink->alerts->closing) && sink->first == seen) {
        int code = due_ns == UINT64_MAX ? pthread_cond_wait(&sink->wake, &sink->lock)
                                        : pthread_cond_timedwait(&sink->wake, &sink->lock, &until);
        if (code == ETIMEDOUT)
            break;
    }
    pthread_mutex_unlock(&sink->lock);
}

/* Each once more, in order, until one fails or there is no more time. */
static void drain(emb_alert_sink *sink)
{
    emb_notice *n;
    while (emb_now_ns() < atomic_load(&sink->alerts->stop_at_ns) && (n = begin_first(sink)) != NULL) {
        if (!try_first(sink, n, emb_now_ns()))
            return;
        remove_first(sink);
    }
}

static void *run(void *context)
{
    emb_alert_sink *sink = context;
    emb_thread_background("embedd-alerts");
    while (!atomic_load(&sink->alerts->closing)) {
        uint64_t due_ns = emb_alert_sink_step(sink, emb_now_ns());
        pthread_mutex_lock(&sink->lock);
        const emb_notice *seen =
            sink->retry_ns ? sink->first : NULL; /* one that waits for its time is no news */
        pthread_mutex_unlock(&sink->lock);
        wait_until(sink, due_ns, seen);
    }
    drain(sink);
    return NULL;
}

emb_status emb_alert_sink_start(emb_alert_sink *sink, emb_error *err)
{
    int code = pthread_create(&sink->thread, NULL, run, sink);
    sink->running = code == 0;
    return code == 0 ? EMB_OK
                     : emb_fail(err, EMB_E_NOMEM, sink->config.name,
                                "no thread can be started for it: error %d", code);
}
