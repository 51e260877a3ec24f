/*
 * listing.c: what fires, is pending and was resolved, for who asks; and the test of a sink.
 */
#include "alerts/parts.h"
#include "base/clock.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *emb_severity_name(emb_severity severity)
{
    static const char *const names[] = {"warning", "error", "critical"};
    return (unsigned)severity < EMB_SEVERITIES ? names[severity] : "unknown";
}

const char *emb_alert_state_name(emb_alert_state state)
{
    static const char *const names[] = {"inactive", "pending", "firing", "resolved"};
    return (unsigned)state < sizeof names / sizeof *names ? names[state] : "unknown";
}

static const char *copy(emb_arena *arena, const char *text)
{
    return emb_arena_strndup(arena, text, strlen(text));
}

static bool export_record(const emb_alert_record *r, emb_arena *arena, emb_alert *out)
{
    *out = (emb_alert){.name = copy(arena, r->name),
                       .subject = copy(arena, r->subject),
                       .severity = r->severity,
                       .state = r->state,
                       .value = r->value,
                       .threshold = r->threshold,
                       .summary = copy(arena, r->summary),
                       .since_s = r->since_s,
                       .fired_s = r->fired_s,
                       .resolved_s = r->resolved_s,
                       .instance = copy(arena, r->instance)};
    return out->name && out->subject && out->summary && out->instance;
}

/* Those of one state, the worst first. */
static bool export_rows(emb_alerts *a, emb_alert_state state, emb_arena *arena, emb_alert *list,
                        size_t *count)
{
    for (int severity = EMB_SEVERITIES - 1; severity >= 0; severity--)
        for (size_t i = 0; i < a->row_count; i++) {
            const emb_alert_record *r = &a->rows[i].record;
            if (r->state == state && (int)r->severity == severity &&
                !export_record(r, arena, &list[(*count)++]))
                return false;
        }
    return true;
}

static bool export_resolved(emb_alerts *a, emb_arena *arena, emb_alert *list, size_t *count)
{
    int64_t after_s = a->read_only ? INT64_MIN : a->now_s() - 86400;
    for (size_t i = a->resolved_count; i-- > 0;)
        if (a->resolved[i].resolved_s > after_s && !export_record(&a->resolved[i], arena, &list[(*count)++]))
            return false;
    return true;
}

emb_status emb_alerts_list(emb_alerts *a, emb_arena *arena, emb_alert **out, size_t *count, emb_error *err)
{
    *out = NULL;
    *count = 0;
    pthread_mutex_lock(&a->lock);
    size_t most = a->row_count + a->resolved_count;
    emb_alert *list = emb_arena_calloc(arena, most + 1, sizeof *list);
    bool ok = list && export_rows(a, EMB_ALERT_FIRING, arena, list, count) &&
              export_rows(a, EMB_ALERT_PENDING, arena, list, count) && export_resolved(a, arena, list, count);
    pthread_mutex_unlock(&a->lock);
    if (!ok) {
        *count = 0;
        return emb_fail_nomem(err, "the list of alerts", most * sizeof *list);
    }
    *out = list;
    return EMB_OK;
}

unsigned emb_alerts_firing(emb_alerts *a, emb_severity at_least, const char **name)
{
    unsigned count = 0;
    int worst = -1;
    if (name)
        *name = NULL;
    pthread_mutex_lock(&a->lock);
    for (size_t i = 0; i < a->row_count; i++) {
        const emb_alert_record *r = &a->rows[i].record;
        if (r->state != EMB_ALERT_FIRING || r->severity < at_least)
            continue;
        count++;
        if (name && (int)r->severity > worst) {
            worst = (int)r->severity;
            *name = a->rows[i].rule ? a->rows[i].rule->name : "an alert of another version";
        }
    }
    pthread_mutex_unlock(&a->lock);
    return count;
}

bool emb_alerts_alarm(emb_alerts *a, emb_severity at_least, emb_alarm *out)
{
    bool any = false;
    pthread_mutex_lock(&a->lock);
    for (size_t i = 0; i < a->row_count; i++) {
        const emb_alert_row *row = &a->rows[i];
        if (row->record.state != EMB_ALERT_FIRING || row->record.severity < at_least)
            continue;
        int64_t since_s = row->holds[at_least] ? row->holds_s[at_least] : INT64_MAX;
        if (!any || since_s < out->held_since_s)
            *out = (emb_alarm){.name = row->rule ? row->rule->name : "an alert of another version",
                               .held_since_s = since_s,
                               .for_s = a->thresholds.for_s};
        any = true;
    }
    pthread_mutex_unlock(&a->lock);
    return any;
}

emb_status emb_alerts_write_firing(emb_alerts *a, int minimum, emb_buf *out, size_t *count)
{
    *count = 0;
    pthread_mutex_lock(&a->lock);
    emb_status st = emb_buf_add_str(out, "[");
    for (size_t i = 0; st == EMB_OK && i < a->row_count; i++) {
        const emb_alert_record *r = &a->rows[i].record;
        if (r->state != EMB_ALERT_FIRING || (int)r->severity < minimum)
            continue;
        if (*count)
            st = emb_buf_add_str(out, ",");
        if (st == EMB_OK)
            st = emb_notice_element(r, r->severity, 0, out);
        ++*count;
    }
    pthread_mutex_unlock(&a->lock);
    return st ? st : emb_buf_add_str(out, "]");
}

/* An Alertmanager forgets it after a minute. */
emb_status emb_alerts_test_sink(const emb_sink_config *sink, const char *instance, int *http_status,
                                emb_error *err)
{
    _Atomic uint64_t stop_at_ns = UINT64_MAX;
    emb_buf body = EMB_BUF_INIT(64 << 10);
    emb_alert_record r = {.name = "test",
                          .summary = "this is a test, nothing is wrong",
                          .severity = EMB_SEVERITY_WARNING,
                          .state = EMB_ALERT_FIRING,
                          .value = 1,
                          .threshold = 1};
    r.since_s = r.fired_s = (int64_t)time(NULL);
    *http_status = 0;
    emb_copy_text(r.instance, sizeof r.instance, instance ? instance : "");
    const emb_change change = {&r, -1, EMB_SEVERITY_WARNING, r.since_s};
    emb_status st;
    if (sink->kind != EMB_SINK_ALERTMANAGER) {
        st = emb_notice_webhook(&change, &body);
    } else if ((st = emb_buf_add_str(&body, "[")) == EMB_OK &&
               (st = emb_notice_element(&r, r.severity, r.since_s + 60, &body)) == EMB_OK) {
        st = emb_buf_add_str(&body, "]");
    }
    if (st != EMB_OK)
        st = emb_fail_nomem(err, "a test notice", body.length);
    else
        st = emb_sink_send_http(NULL, &(emb_sink_request){sink, body.data, body.length, &stop_at_ns},
                                http_status, err);
    emb_buf_fini(&body);
    return st;
}
