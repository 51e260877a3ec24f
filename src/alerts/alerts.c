/*
 * alerts.c: the state machine.
 *
 * An alert exists while something about it is not as usual: a row. For each severity the row knows whether it
 * is active and since when the condition has said otherwise; once it has said so for `for_s`, active turns
 * over. The alert's severity is the highest that is active; an alert with none is pending, or gone. So
 * getting worse, getting better and being resolved have the same hysteresis and are the same code, and a
 * value that swings around a threshold changes nothing. Conditions of severities contain each other (over
 * 1000 ms is over 500 ms, too), hence so do the states.
 *
 * Rejected: an alert for each severity. Who watches would see two things where there is one, and resolve them
 * in any order.
 *
 * A change happens as a whole or not at all: room for its notices and for what is to be kept is made first,
 * and where memory is short the row stays as it was until the next evaluation. Then, outside the lock, the
 * change and its notices go into the store in one transaction, and only then to the sinks: a notice is lost
 * neither by a crash nor by a sink that is down. A store that does not answer stops nothing; alerts are kept
 * later, notices then live in memory alone.
 */
#include "alerts/parts.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)
enum { BODY_MAX = 64 << 10, TIDY_S = 3600 };

typedef struct outgoing {
    emb_notice *first, *last;
    size_t count;
} outgoing;

/* ---- opening and closing ---- */

static int64_t system_now_s(void)
{
    return (int64_t)time(NULL);
}

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static emb_status open_sinks(emb_alerts *a, const emb_alerts_options *options, emb_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    emb_status st = EMB_OK;
    if (options->read_only || options->sink_count == 0)
        return EMB_OK;
    pthread_once(&once, init_curl);
    a->sinks = calloc(options->sink_count, sizeof *a->sinks);
    if (!a->sinks)
        return emb_fail_nomem(err, "sinks of alerts", options->sink_count * sizeof *a->sinks);
    for (size_t i = 0; st == EMB_OK && i < options->sink_count; i++)
        if ((st = emb_alert_sink_init(&a->sinks[i], a, &options->sinks[i], err)) == EMB_OK)
            a->sink_count++;
    return st;
}

/* A store that does not answer yet is tried again later, except by who wants nothing but to read it. */
static emb_status open_store(emb_alerts *a, const emb_alerts_options *options, emb_error *err)
{
    emb_error problem = {0};
    if (!options->url || !*options->url) {
        a->loaded = true;
        return EMB_OK;
    }
    emb_status st = emb_alert_store_open(options->url, &a->store, err);
    if (st == EMB_OK && (st = emb_alerts_load(a, emb_now_ns() + 3 * SECOND, &problem)) != EMB_OK) {
        if (a->read_only || st == EMB_E_NOMEM || st == EMB_E_CORRUPT || st == EMB_E_INVALID) {
            if (err)
                *err = problem;
            return st;
        }
        a->store_failed = true;
        emb_log(EMB_LOG_WARN, "alert: the store does not answer yet", EMB_LOG_TEXT("error", problem.message));
    }
    return st == EMB_OK || a->store_failed ? EMB_OK : st;
}

static void find_series(emb_alerts *a, emb_metrics *metrics)
{
    a->metrics = metrics;
    for (int i = 0; i < EMB_SEVERITIES; i++)
        a->firing[i] = emb_metrics_series(metrics, EMB_METRIC_ALERTS, emb_severity_name((emb_severity)i));
}

emb_status emb_alerts_open_with(const emb_alerts_options *options, emb_sink_send send, void *context,
                                bool threads, emb_alerts **out, emb_error *err)
{
    *out = NULL;
    emb_alerts *a = calloc(1, sizeof *a);
    if (!a)
        return emb_fail_nomem(err, "alerts", sizeof *a);
    pthread_mutex_init(&a->evaluating, NULL);
    pthread_mutex_init(&a->lock, NULL);
    atomic_init(&a->stop_at_ns, UINT64_MAX);
    a->thresholds = options->thresholds;
    emb_copy_text(a->instance, sizeof a->instance, options->instance ? options->instance : "");
    a->now_s = options->now_s ? options->now_s : system_now_s;
    a->read_only = options->read_only;
    a->send = send;
    a->send_context = context;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME,
                  &now); /* numbers go on over a restart, even of a store that cannot be read yet */
    a->number = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    find_series(a, options->metrics);
    a->resolved = calloc(EMB_ALERT_RESOLVED_MAX, sizeof *a->resolved);
    emb_status st =
        a->resolved ? open_sinks(a, options, err)
                    : emb_fail_nomem(err, "resolved alerts", EMB_ALERT_RESOLVED_MAX * sizeof *a->resolved);
    if (st == EMB_OK)
        st = open_store(a, options, err);
    for (size_t i = 0; st == EMB_OK && threads && i < a->sink_count; i++)
        st = emb_alert_sink_start(&a->sinks[i], err);
    if (st != EMB_OK)
        emb_alerts_close(a);
    else
        *out = a;
    return st;
}

emb_status emb_alerts_open(const emb_alerts_options *options, emb_alerts **out, emb_error *err)
{
    return emb_alerts_open_with(options, emb_sink_send_http, NULL, true, out, err);
}

void emb_alerts_close(emb_alerts *a)
{
    if (!a)
        return;
    atomic_store(&a->stop_at_ns, emb_now_ns() + SECOND);
    atomic_store(&a->closing, true);
    for (size_t i = 0; i < a->sink_count; i++)
        emb_alert_sink_wake(&a->sinks[i]); /* all at once: they share the second */
    for (size_t i = 0; i < a->sink_count; i++)
        emb_alert_sink_fini(&a->sinks[i]);
    if (a->store && !a->read_only && a->op_count > 0 && !a->store_failed) {
        pthread_mutex_lock(&a->evaluating);
        emb_alerts_save(a);
        pthread_mutex_unlock(&a->evaluating);
    }
    emb_db_close(a->store);
    pthread_mutex_destroy(&a->evaluating);
    pthread_mutex_destroy(&a->lock);
    free(a->sinks);
    free(a->rows);
    free(a->resolved);
    free(a->ops);
    free(a);
}

void emb_alerts_set_thresholds(emb_alerts *a, const emb_alert_thresholds *thresholds)
{
    pthread_mutex_lock(&a->lock);
    a->thresholds = *thresholds;
    pthread_mutex_unlock(&a->lock);
}

/* ---- rows ---- */

emb_alert_row *emb_alerts_find_row(emb_alerts *a, const char *name, const char *subject)
{
    char cut[sizeof a->rows->record.subject];
    emb_copy_text(cut, sizeof cut, subject);
    for (size_t i = 0; i < a->row_count; i++)
        if (strcmp(a->rows[i].record.name, name) == 0 && strcmp(a->rows[i].record.subject, cut) == 0)
            return &a->rows[i];
    return NULL;
}

emb_alert_row *emb_alerts_add_row(emb_alerts *a)
{
    if (a->row_count == a->row_capacity) {
        size_t capacity = a->row_capacity ? 2 * a->row_capacity : 8;
        emb_alert_row *rows =
            capacity > EMB_ALERT_ROWS_MAX ? NULL : realloc(a->rows, capacity * sizeof *rows);
        if (!rows)
            return NULL;
        a->rows = rows;
        a->row_capacity = capacity;
    }
    emb_alert_row *row = &a->rows[a->row_count++];
    memset(row, 0, sizeof *row);
    return row;
}

static void remove_row(emb_alerts *a, emb_alert_row *row)
{
    *row = a->rows[--a->row_count];
}

void emb_alerts_add_resolved(emb_alerts *a, const emb_alert_record *record)
{
    if (a->resolved_count == EMB_ALERT_RESOLVED_MAX)
        memmove(a->resolved, a->resolved + 1, --a->resolved_count * sizeof *a->resolved);
    a->resolved[a->resolved_count++] = *record;
}

int emb_alert_row_severity(const emb_alert_row *row)
{
    for (int i = EMB_SEVERITIES - 1; i >= 0; i--)
        if (row->active[i])
            return i;
    return -1;
}

/* ---- telling ---- */

static void log_change(const emb_alert_record *r, emb_log_level level, const char *what)
{
    if (emb_log_wanted(level)) {
        const emb_log_field fields[] = {
            EMB_LOG_TEXT("alert", r->name),
            EMB_LOG_TEXT("subject", *r->subject ? r->subject : NULL),
            EMB_LOG_TEXT("severity", emb_severity_name(r->severity)),
            EMB_LOG_REAL("value", r->value),
            EMB_LOG_REAL("threshold", r->threshold),
            EMB_LOG_TEXT("summary", r->summary),
        };
        emb_log_write(level, what, fields, sizeof fields / sizeof *fields);
    }
}

static emb_log_level level_of(emb_severity severity)
{
    return severity == EMB_SEVERITY_WARNING ? EMB_LOG_WARN : EMB_LOG_ERROR;
}

static void free_outgoing(outgoing *out)
{
    for (emb_notice *n = out->first, *next; n; n = next) {
        next = n->next;
        free(n);
    }
    *out = (outgoing){0};
}

/* Appends a change's notice for one sink, unless that sink does not hear of it. */
static bool add_notice(emb_alerts *a, emb_alert_sink *sink, const emb_change *whole, outgoing *out)
{
    emb_change change = *whole;
    change.before = whole->before >= sink->minimum ? whole->before : -1;
    change.after = whole->after >= sink->minimum ? whole->after : -1;
    if (change.before == change.after)
        return true;
    emb_buf body = EMB_BUF_INIT(BODY_MAX);
    emb_notice *n = NULL;
    if ((sink->config.kind == EMB_SINK_ALERTMANAGER ? emb_notice_alertmanager(&change, &body)
                                                    : emb_notice_webhook(&change, &body)) == EMB_OK)
        n = emb_notice_new(a->number + 1, change.now_s, change.alert->name, body.data, body.length);
    emb_buf_fini(&body);
    if (!n)
        return false;
    a->number++;
    n->to = sink;
    if (out->last)
        out->last->next = n;
    else
        out->first = n;
    out->last = n;
    out->count++;
    return true;
}

static bool make_notices(emb_alerts *a, const emb_change *change, outgoing *out)
{
    for (size_t i = 0; i < a->sink_count; i++)
        if (!add_notice(a, &a->sinks[i], change, out)) {
            free_outgoing(out);
            return false;
        }
    return true;
}

static void append(outgoing *all, outgoing *more)
{
    if (!more->first)
        return;
    if (all->last)
        all->last->next = more->first;
    else
        all->first = more->first;
    all->last = more->last;
    all->count += more->count;
}

static void hand_over(outgoing *out)
{
    for (emb_notice *n = out->first, *next; n; n = next) {
        next = n->next;
        n->next = NULL;
        emb_alert_sink_add(n->to, n);
    }
}

/* ---- one row ---- */

static void keep_row(emb_alerts *a, int kind, emb_alert_row *row, int64_t now_s)
{
    emb_alert_op op = {.kind = kind, .alert = row->record, .now_s = now_s};
    row->kept_s = now_s;
    emb_alerts_add_op(a, &op);
}

static void keep_notices(emb_alerts *a, const outgoing *out)
{
    for (const emb_notice *n = out->first; n; n = n->next) {
        emb_alert_op op = {.kind = EMB_OP_NOTICE,
                           .instance = a->instance,
                           .sink = n->to->config.name,
                           .alert_name = n->name,
                           .body = n->body,
                           .length = n->length,
                           .number = n->number,
                           .now_s = n->created_s};
        emb_alerts_add_op(a, &op);
    }
}

static void turn_over(emb_alert_row *row, int level, int64_t now_s, uint32_t for_s)
{
    for (int i = 0; i < EMB_SEVERITIES; i++) {
        bool holds = level >= i;
        if (holds && (!row->holds[i] || row->holds_s[i] > now_s))
            row->holds_s[i] = now_s;
        row->holds[i] = holds;
        if (holds == row->active[i]) {
            row->differs[i] = false;
            continue;
        }
        if (!row->differs[i] || row->differs_s[i] > now_s) /* or the clock was set back */
            row->differs_s[i] = now_s;
        row->differs[i] = true;
        if (now_s - row->differs_s[i] >= (int64_t)for_s) {
            row->active[i] = holds;
            row->differs[i] = false;
        }
    }
}

/* What it says is of the last time when the condition held. */
static void describe(emb_alert_row *row, const emb_reading *reading, int level)
{
    emb_alert_record *r = &row->record;
    r->value = reading->value;
    r->threshold = reading->threshold[level];
    row->rule->summarize(reading, r->threshold, r->summary, sizeof r->summary);
}

static const char *set_state(emb_alert_record *r, int before, int after, int64_t now_s)
{
    if (after < 0) {
        r->state = EMB_ALERT_RESOLVED;
        r->resolved_s = now_s;
        return "alert: resolved";
    }
    r->severity = (emb_severity)after;
    r->state = EMB_ALERT_FIRING;
    if (before >= 0)
        return after > before ? "alert: got worse" : "alert: got better";
    r->fired_s = now_s;
    return "alert: fires";
}

/* The severity changed: told, logged and kept, or all left as it was. */
static void change_row(emb_alerts *a, emb_alert_row *row, const emb_alert_row *next, int before, int after,
                       int64_t now_s, outgoing *all)
{
    emb_alert_row changed = *next;
    outgoing out = {0};
    const char *what = set_state(&changed.record, before, after, now_s);
    const emb_change change = {&changed.record, before, after, now_s};
    if (!make_notices(a, &change, &out))
        return;
    if (!emb_alerts_reserve_ops(a, out.count + 1)) {
        free_outgoing(&out);
        return;
    }
    *row = changed;
    log_change(&row->record, after < 0 ? EMB_LOG_INFO : level_of(row->record.severity), what);
    keep_row(a, EMB_OP_PUT, row, now_s);
    keep_notices(a, &out);
    append(all, &out);
    if (after < 0) {
        emb_alerts_add_resolved(a, &row->record);
        remove_row(a, row);
    }
}

/* Its severity did not change: it waits, goes on, or goes away before it fired. */
static void stay(emb_alerts *a, emb_alert_row *row, emb_alert_row *next, int level, int64_t now_s)
{
    bool is_new = next->record.state == EMB_ALERT_INACTIVE, fires = emb_alert_row_severity(next) >= 0;
    bool gone = !fires && !next->differs[0];
    if (!fires && level >= 0) {
        next->record.severity = (emb_severity)level;
        next->record.state = EMB_ALERT_PENDING;
    }
    bool keep = gone || is_new || now_s - row->kept_s >= EMB_REPEAT_S || now_s < row->kept_s;
    if (keep && !emb_alerts_reserve_ops(a, 1))
        return;
    *row = *next;
    if (is_new && !gone)
        log_change(&row->record, EMB_LOG_INFO, "alert: pending");
    if (keep)
        keep_row(a, gone ? EMB_OP_FORGET : EMB_OP_PUT, row, now_s);
    if (gone)
        remove_row(a, row);
}

static void advance(emb_alerts *a, emb_alert_row *row, const emb_reading *reading, int level, int64_t now_s,
                    outgoing *out)
{
    emb_alert_row next = *row;
    int before = emb_alert_row_severity(row);
    next.seen = row->seen = true;
    if (level >= 0)
        describe(&next, reading, level);
    turn_over(&next, level, now_s, a->thresholds.for_s);
    int after = emb_alert_row_severity(&next);
    if (after == before)
        stay(a, row, &next, level, now_s);
    else
        change_row(a, row, &next, before, after, now_s, out);
}

/* ---- evaluating ---- */

static emb_alert_row *new_row(emb_alerts *a, const emb_rule *rule, const char *subject, int64_t now_s)
{
    emb_alert_row *row = emb_alerts_add_row(a);
    if (!row)
        return NULL;
    row->rule = rule;
    emb_copy_text(row->record.instance, sizeof row->record.instance, a->instance);
    emb_copy_text(row->record.name, sizeof row->record.name, rule->name);
    emb_copy_text(row->record.subject, sizeof row->record.subject, subject);
    row->record.since_s = now_s;
    return row;
}

static void apply_rule(emb_alerts *a, const emb_rule *rule, const emb_alert_signals *signals,
                       const emb_provider_signal *provider, int64_t now_s, outgoing *out)
{
    emb_reading reading = {.subject = provider && provider->name ? provider->name : "",
                           .reason = provider && provider->reason ? provider->reason : ""};
    rule->read(signals, &a->thresholds, provider, &reading);
    int level = emb_reading_level(&reading);
    emb_alert_row *row = emb_alerts_find_row(a, rule->name, reading.subject);
    if (!row && level >= 0)
        row = new_row(a, rule, reading.subject, now_s);
    if (row)
        advance(a, row, &reading, level, now_s, out);
}

/* Downwards, since a row that goes is replaced by the last one, which was looked at already. */
static void apply_to_unseen(emb_alerts *a, int64_t now_s, outgoing *out)
{
    for (size_t i = a->row_count; i-- > 0;)
        if (!a->rows[i].seen)
            advance(a, &a->rows[i], NULL, -1, now_s, out);
}

/* A row that memory was too short for to be more than begun. */
static void remove_unborn(emb_alerts *a)
{
    for (size_t i = a->row_count; i-- > 0;)
        if (a->rows[i].record.state == EMB_ALERT_INACTIVE)
            remove_row(a, &a->rows[i]);
}

static void apply_rules(emb_alerts *a, const emb_alert_signals *signals, int64_t now_s, outgoing *out)
{
    for (size_t i = 0; i < a->row_count; i++)
        a->rows[i].seen = false;
    for (size_t i = 0; i < emb_rule_count; i++) {
        if (!emb_rules[i].per_provider)
            apply_rule(a, &emb_rules[i], signals, NULL, now_s, out);
        for (size_t p = 0; emb_rules[i].per_provider && p < signals->provider_count; p++)
            apply_rule(a, &emb_rules[i], signals, &signals->providers[p], now_s, out);
    }
    apply_to_unseen(a, now_s, out);
    remove_unborn(a);
}

static void set_gauges(emb_alerts *a)
{
    unsigned counts[EMB_SEVERITIES] = {0};
    for (size_t i = 0; i < a->row_count; i++)
        if (a->rows[i].record.state == EMB_ALERT_FIRING)
            counts[a->rows[i].record.severity]++;
    for (int i = 0; i < EMB_SEVERITIES; i++)
        emb_series_set(a->firing[i], counts[i]);
}

static void load_late(emb_alerts *a)
{
    emb_error err = {0};
    if (!a->loaded && emb_alerts_load(a, emb_now_ns() + SECOND / 2, &err) == EMB_OK)
        emb_log(EMB_LOG_INFO, "alert: the store answers");
}

void emb_alerts_evaluate(emb_alerts *a, const emb_alert_signals *signals)
{
    outgoing out = {0};
    if (a->read_only)
        return;
    int64_t now_s = a->now_s();
    pthread_mutex_lock(&a->evaluating);
    load_late(a);
    pthread_mutex_lock(&a->lock);
    apply_rules(a, signals, now_s, &out);
    set_gauges(a);
    if (a->store && (now_s - a->tidied_s >= TIDY_S || now_s < a->tidied_s) && emb_alerts_reserve_ops(a, 1)) {
        a->tidied_s = now_s;
        emb_alerts_add_op(a, &(emb_alert_op){.kind = EMB_OP_TIDY, .now_s = now_s});
    }
    pthread_mutex_unlock(&a->lock);
    emb_alerts_save(a);
    hand_over(&out);
    pthread_mutex_unlock(&a->evaluating);
}
