/*
 * The text format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats.
 *
 * Hooks run first, one output at a time, so that two scrapes do not set one gauge at once. Each family is
 * written whole even while it has no series, so that a dashboard finds its name. A histogram's `_count` is
 * the sum of the buckets that were just written, whatever is observed meanwhile. Numbers are the shortest
 * that read back as the same double.
 */
#include "metrics/registry.h"

#include "base/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRY(expression)                 \
    do {                                \
        emb_status try_ = (expression); \
        if (try_)                       \
            return try_;                \
    } while (0)

emb_status emb_metrics_write_number(emb_buf *out, double value)
{
    char text[40];
    if (isnan(value))
        return emb_buf_add_str(out, "NaN");
    if (isinf(value))
        return emb_buf_add_str(out, value > 0 ? "+Inf" : "-Inf");
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    char *comma = strchr(text, ','); /* the point of some locales */
    if (comma)
        *comma = '.';
    return emb_buf_add_str(out, text);
}

/* Backslash and line feed, and in label values the quote. */
static emb_status write_escaped(emb_buf *out, const char *text, bool quotes)
{
    for (const char *p = text;; p++) {
        size_t plain = strcspn(p, quotes ? "\\\n\"" : "\\\n");
        TRY(emb_utf8_repair(out, p, plain));
        p += plain;
        if (!*p)
            return EMB_OK;
        TRY(emb_buf_add_str(out, *p == '\n' ? "\\n" : *p == '"' ? "\\\"" : "\\\\"));
    }
}

/* {route="/v1/embeddings",le="0.5"}; le NULL: none */
static emb_status write_labels(emb_buf *out, const emb_series *series, unsigned count, const char *le)
{
    const char *names = emb_metric_infos[series->family].labels;
    if (count == 0 && !le)
        return EMB_OK;
    TRY(emb_buf_add(out, "{", 1));
    for (unsigned i = 0; i < count; i++) {
        size_t length = strcspn(names, ",");
        TRY(emb_buf_addf(out, "%.*s=\"", (int)length, names));
        TRY(write_escaped(out, series->labels[i], true));
        TRY(emb_buf_add_str(out, i + 1 < count || le ? "\"," : "\""));
        names += length + (names[length] == ',');
    }
    if (le)
        TRY(emb_buf_addf(out, "le=\"%s\"", le));
    return emb_buf_add(out, "}", 1);
}

static emb_status write_sample(emb_buf *out, const emb_series *series, unsigned labels, const char *suffix,
                               const char *le, double value)
{
    TRY(emb_buf_add_str(out, emb_metric_infos[series->family].name));
    TRY(emb_buf_add_str(out, suffix));
    TRY(write_labels(out, series, labels, le));
    TRY(emb_buf_add(out, " ", 1));
    TRY(emb_metrics_write_number(out, value));
    return emb_buf_add(out, "\n", 1);
}

static emb_status write_histogram(emb_buf *out, const emb_series_family *family, const emb_series *series)
{
    size_t bounds;
    const double *ladder = emb_ladder_bounds(series->ladder, &bounds);
    uint64_t total = 0;
    char le[32];
    for (size_t i = 0; i < bounds; i++) {
        total += atomic_load_explicit(&series->histogram->steps[i], memory_order_relaxed);
        snprintf(le, sizeof le, "%.9g", ladder[i]);
        TRY(write_sample(out, series, family->labels, "_bucket", le, (double)total));
    }
    total += atomic_load_explicit(&series->histogram->steps[bounds], memory_order_relaxed);
    TRY(write_sample(out, series, family->labels, "_bucket", "+Inf", (double)total));
    TRY(write_sample(out, series, family->labels, "_sum", NULL, emb_histogram_sum(series->histogram)));
    return write_sample(out, series, family->labels, "_count", NULL, (double)total);
}

static emb_status write_family(emb_buf *out, const emb_series_family *family, const emb_metric_info *info)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    TRY(emb_buf_addf(out, "# HELP %s ", info->name));
    TRY(write_escaped(out, info->help, false));
    TRY(emb_buf_addf(out, "\n# TYPE %s %s\n", info->name, types[info->type]));
    for (const emb_series *s = emb_series_first(family); s; s = emb_series_next(s))
        TRY(s->histogram ? write_histogram(out, family, s)
                         : write_sample(out, s, family->labels, "", NULL, emb_series_value(s)));
    return EMB_OK;
}

static void run_hooks(emb_metrics *metrics)
{
    pthread_mutex_lock(&metrics->collecting);
    for (const emb_metrics_hook *hook = metrics->hooks; hook; hook = hook->next)
        hook->collect(hook->context);
    pthread_mutex_unlock(&metrics->collecting);
}

emb_status emb_metrics_write_prometheus(emb_metrics *metrics, emb_buf *out)
{
    run_hooks(metrics);
    for (int i = 0; i < EMB_METRIC_COUNT; i++)
        TRY(write_family(out, &metrics->families[i], &emb_metric_infos[i]));
    return emb_metrics_write_process(out, metrics->start_seconds);
}
