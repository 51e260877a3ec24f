/*
 * notice.c: changes of alerts as the JSON that sinks want.
 *
 * A webhook gets one object a change. Alertmanager tells alerts apart by their labels, severity among them:
 * an alert that gets worse is the end of one and the start of another there, both in one array, so that
 * neither is seen without the other.
 */
#include "alerts/parts.h"
#include "base/json_write.h"
#include "base/utf8.h"

#include <string.h>
#include <time.h>

void emb_copy_text(char *out, size_t size, const char *text)
{
    size_t n = strlen(text);
    if (n >= size) {
        for (n = size - 1; n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80; n--)
            ;
    }
    memcpy(out, text, n);
    out[n] = 0;
    for (size_t i = 0; (i += emb_utf8_valid_prefix(out + i, n - i)) < n;) /* databases take nothing else */
        out[i] = '?';
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)out[i] < ' ' || out[i] == 127)
            out[i] = ' ';
}

/* ,"name":"value" with what comes before it given. */
static emb_status add_text(emb_buf *out, const char *before, const char *value)
{
    emb_status st = emb_buf_add_str(out, before);
    return st ? st : emb_json_write_string(out, value, strlen(value));
}

static emb_status add_time(emb_buf *out, const char *before, int64_t seconds)
{
    char text[40];
    struct tm tm;
    time_t when = (time_t)seconds;
    if (!gmtime_r(&when, &tm) || !strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        emb_copy_text(text, sizeof text, "1970-01-01T00:00:00Z");
    return add_text(out, before, text);
}

emb_status emb_notice_webhook(const emb_change *change, emb_buf *out)
{
    const emb_alert_record *a = change->alert;
    int severity = change->after >= 0 ? change->after : change->before;
    emb_status st =
        emb_buf_add_str(out, change->after >= 0 ? "{\"status\":\"firing\"" : "{\"status\":\"resolved\"");
    if (!st)
        st = add_text(out, ",\"alert\":{\"name\":", a->name);
    if (!st)
        st = add_text(out, ",\"subject\":", a->subject);
    if (!st)
        st = add_text(out, ",\"severity\":", emb_severity_name((emb_severity)severity));
    if (!st)
        st = emb_buf_addf(out, ",\"value\":%.9g,\"threshold\":%.9g", a->value, a->threshold);
    if (!st)
        st = add_text(out, ",\"summary\":", a->summary);
    if (!st)
        st = add_time(out, ",\"since\":", a->since_s);
    if (!st)
        st = add_text(out, "},\"instance\":", a->instance);
    if (!st)
        st = add_time(out, ",\"time\":", change->now_s);
    return st ? st : emb_buf_add_str(out, "}");
}

emb_status emb_notice_element(const emb_alert_record *a, emb_severity severity, int64_t ends_s, emb_buf *out)
{
    emb_status st = add_text(out, "{\"labels\":{\"alertname\":", a->name);
    if (!st)
        st = add_text(out, ",\"severity\":", emb_severity_name(severity));
    if (!st && *a->subject)
        st = add_text(out, ",\"subject\":", a->subject);
    if (!st && *a->instance)
        st = add_text(out, ",\"instance\":", a->instance);
    if (!st)
        st = add_text(out, "},\"annotations\":{\"summary\":", a->summary);
    if (!st)
        st = add_time(out, "},\"startsAt\":", a->fired_s);
    if (!st && ends_s)
        st = add_time(out, ",\"endsAt\":", ends_s);
    return st ? st : emb_buf_add_str(out, "}");
}

emb_status emb_notice_alertmanager(const emb_change *change, emb_buf *out)
{
    bool ends = change->before >= 0 && change->before != change->after;
    emb_status st = emb_buf_add_str(out, "[");
    if (!st && ends)
        st = emb_notice_element(change->alert, (emb_severity)change->before, change->now_s, out);
    if (!st && ends && change->after >= 0)
        st = emb_buf_add_str(out, ",");
    if (!st && change->after >= 0)
        st = emb_notice_element(change->alert, (emb_severity)change->after, 0, out);
    return st ? st : emb_buf_add_str(out, "]");
}
