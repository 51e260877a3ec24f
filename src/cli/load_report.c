/*
 * load_report.c: see load_report.h. Latencies are milliseconds in both forms. The percentiles of both come
 * from one table, so that they cannot differ.
 */
#include "cli/load_report.h"

#include "base/error.h"
#include "base/json_write.h"
#include "cli/progress.h"
#include "cli/pull_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *key;
    double q;
} ranks[] = {{"p50", "p50", 0.5},         {"p75", "p75", 0.75}, {"p90", "p90", 0.9},
             {"p95", "p95", 0.95},        {"p99", "p99", 0.99}, {"p99.9", "p99_9", 0.999},
             {"p99.99", "p99_99", 0.9999}};
enum { RANKS = sizeof ranks / sizeof *ranks };

static double ms(double ns)
{
    return ns / 1e6;
}

static double per_second(const emb_load_outcome *o, uint64_t count)
{
    return o->seconds > 0 ? (double)count / o->seconds : 0;
}

/* ---- for people ---- */

static void print_plan(const emb_load_about *a)
{
    const emb_load_plan *p = a->plan;
    char time[32];
    printf("%s\n", a->url);
    if (p->rate > 0)
        printf("open loop: %g requests/s, %s, at most %zu connections", p->rate,
               p->poisson ? "at random (Poisson)" : "evenly", p->connections);
    else
        printf("closed loop: %zu connection%s", p->connections, p->connections == 1 ? "" : "s");
    printf("; %zu text%s a request, ", a->shape->texts, a->shape->texts == 1 ? "" : "s");
    if (a->shape->words)
        printf("%zu words", a->shape->words);
    else
        printf("a mix of up to %zu words", a->shape->most_words);
    printf(", %.0f %% repeated\n%s measured", 100 * a->shape->repeat,
           emb_seconds_text((double)p->duration_ns / 1e9, time));
    if (p->warmup_ns)
        printf(" after %s of warm-up", emb_seconds_text((double)p->warmup_ns / 1e9, time));
    printf("\n\n");
}

static void print_throughput(const emb_load_outcome *o)
{
    char a[32], b[32], bytes[32];
    printf("requests  %10.1f/s   %s answered in %.1f s%s\n", per_second(o, o->answers),
           emb_number_text(o->answers, a), o->seconds, o->stopped ? " (stopped)" : "");
    printf("texts     %10.1f/s   %s", per_second(o, o->texts), emb_number_text(o->texts, a));
    if (o->cached)
        printf(", %s from the cache", emb_number_text(o->cached, b));
    printf("\n");
    if (o->tokens)
        printf("tokens    %10.1f/s   %s\n", per_second(o, o->tokens), emb_number_text(o->tokens, a));
    printf("bytes     %10s/s\n\n", emb_bytes_text(per_second(o, o->bytes), bytes));
}

static void print_latency(const emb_load_outcome *o, const emb_load_about *a)
{
    bool open = a->plan->rate > 0;
    printf("latency ms %s\n", open ? "   from when a request was due   from its sending" : "");
    for (size_t i = 0; i < RANKS; i++) {
        printf("  %-8s %12.3f", ranks[i].name, ms(emb_load_histogram_rank(&o->latency, ranks[i].q)));
        if (open)
            printf("            %14.3f", ms(emb_load_histogram_rank(&o->service, ranks[i].q)));
        printf("\n");
    }
    printf("  %-8s %12.3f", "max", ms((double)o->latency.most));
    if (open)
        printf("            %14.3f", ms((double)o->service.most));
    printf("\n  %-8s %12.3f", "mean", ms(emb_load_histogram_mean(&o->latency)));
    if (open)
        printf("            %14.3f", ms(emb_load_histogram_mean(&o->service)));
    printf("\n");
}

static void print_errors(const emb_load_outcome *o)
{
    char n[32];
    const char *title = "\nerrors\n";
    for (int i = 0; i < 1000; i++)
        if (o->statuses[i] && (i < 200 || i > 299)) {
            printf("%s  status %-11d  %s\n", title, i, emb_number_text(o->statuses[i], n));
            title = "";
        }
    for (int i = 0; i < EMB_LOAD_ERRORS; i++)
        if (o->errors[i]) {
            printf("%s  %-18s  %s\n", title, emb_load_error_names[i], emb_number_text(o->errors[i], n));
            title = "";
        }
    if (o->complaint_status)
        printf("  the first answer with status %d began: %s\n", o->complaint_status, o->complaint);
    double late = ms(emb_load_histogram_rank(&o->late, 0.99));
    if (late > 1)
        printf("\nNote: this program itself was late, by %.1f ms at p99: the machine is too busy for this "
               "rate, or more\n"
               "--threads are needed. The latencies above include it.\n",
               late);
}

static void print_series(const emb_load_outcome *o)
{
    printf("\nsecond    requests    errors    mean ms     max ms\n");
    for (size_t i = 0; i < o->series_count && (double)i < o->seconds; i++) {
        const emb_load_second *s = &o->series[i];
        printf("%6zu  %10" PRIu64 "  %8" PRIu64 "  %9.3f  %9.3f\n", i, s->answers, s->errors,
               s->answers ? ms((double)s->sum_ns / (double)s->answers) : 0, ms((double)s->most_ns));
    }
}

void emb_load_print(const emb_load_outcome *o, const emb_load_about *about)
{
    print_plan(about);
    print_throughput(o);
    print_latency(o, about);
    print_errors(o);
    if (about->series)
        print_series(o);
}

/* ---- JSON ---- */

static emb_status add_latency(emb_buf *out, const char *name, const emb_load_histogram *h)
{
    emb_status status = emb_buf_addf(out, ",\"%s\":{\"count\":%" PRIu64 ",\"mean\":%.6g,\"min\":%.6g", name,
                                     h->count, ms(emb_load_histogram_mean(h)), ms((double)h->least));
    for (size_t i = 0; i < RANKS && !status; i++)
        status = emb_buf_addf(out, ",\"%s\":%.6g", ranks[i].key, ms(emb_load_histogram_rank(h, ranks[i].q)));
    return status ? status : emb_buf_addf(out, ",\"max\":%.6g}", ms((double)h->most));
}

static emb_status add_plan(emb_buf *out, const emb_load_about *a)
{
    const emb_load_plan *p = a->plan;
    emb_status status = emb_buf_add_str(out, "{\"url\":");
    if (!status)
        status = emb_json_write_string(out, a->url, strlen(a->url));
    if (!status)
        status = emb_buf_addf(
            out, ",\"loop\":\"%s\",\"rate\":%.10g,\"arrivals\":\"%s\",\"connections\":%zu,\"threads\":%zu",
            p->rate > 0 ? "open" : "closed", p->rate, p->poisson ? "poisson" : "uniform", p->connections,
            p->threads);
    if (!status)
        status = emb_buf_addf(
            out, ",\"warmup_seconds\":%.6g,\"duration_seconds\":%.6g,\"timeout_seconds\":%.6g",
            (double)p->warmup_ns / 1e9, (double)p->duration_ns / 1e9, (double)p->timeout_ns / 1e9);
    return status ? status
                  : emb_buf_addf(out, ",\"texts_per_request\":%zu,\"words\":%zu,\"repeat\":%.6g",
                                 a->shape->texts, a->shape->words, a->shape->repeat);
}

static emb_status add_counts(emb_buf *out, const emb_load_outcome *o)
{
    return emb_buf_addf(out,
                        ",\"measured_seconds\":%.6g,\"stopped\":%s,\"due\":%" PRIu64 ",\"good\":%" PRIu64
                        ",\"requests_per_second\":%.6g,\"texts_per_second\":%.6g,\"tokens_per_second\":%.6g"
                        ",\"requests\":%" PRIu64 ",\"texts\":%" PRIu64 ",\"tokens\":%" PRIu64
                        ",\"cached_texts\":%" PRIu64 ",\"body_bytes\":%" PRIu64 ",\"connects\":%" PRIu64,
                        o->seconds, o->stopped ? "true" : "false", o->due, o->good, per_second(o, o->answers),
                        per_second(o, o->texts), per_second(o, o->tokens), o->answers, o->texts, o->tokens,
                        o->cached, o->bytes, o->connects);
}

static emb_status add_errors(emb_buf *out, const emb_load_outcome *o)
{
    emb_status status = emb_buf_add_str(out, ",\"statuses\":{");
    const char *comma = "";
    for (int i = 0; i < 1000 && !status; i++)
        if (o->statuses[i]) {
            status = emb_buf_addf(out, "%s\"%d\":%" PRIu64, comma, i, o->statuses[i]);
            comma = ",";
        }
    if (!status)
        status = emb_buf_add_str(out, "},\"errors\":{");
    for (int i = 0; i < EMB_LOAD_ERRORS && !status; i++)
        status = emb_buf_addf(out, "%s\"%s\":%" PRIu64, i ? "," : "", emb_load_error_names[i], o->errors[i]);
    if (!status)
        status = emb_buf_add_str(out, "},\"first_error\":");
    if (!status)
        status = o->complaint_status ? emb_json_write_string(out, o->complaint, strlen(o->complaint))
                                     : emb_buf_add_str(out, "null");
    return status;
}

static emb_status add_series(emb_buf *out, const emb_load_outcome *o)
{
    emb_status status = emb_buf_add_str(out, ",\"series\":[");
    for (size_t i = 0; i < o->series_count && (double)i < o->seconds && !status; i++) {
        const emb_load_second *s = &o->series[i];
        status =
            emb_buf_addf(out,
                         "%s{\"second\":%zu,\"requests\":%" PRIu64 ",\"errors\":%" PRIu64
                         ",\"mean_ms\":%.6g,\"max_ms\":%.6g}",
                         i ? "," : "", i, s->answers, s->errors,
                         s->answers ? ms((double)s->sum_ns / (double)s->answers) : 0, ms((double)s->most_ns));
    }
    return status ? status : emb_buf_add_str(out, "]}\n");
}

emb_status emb_load_print_json(const emb_load_outcome *o, const emb_load_about *about, emb_error *err)
{
    emb_buf out = EMB_BUF_INIT(64 << 20);
    emb_status status = add_plan(&out, about);
    if (!status)
        status = add_counts(&out, o);
    if (!status)
        status = add_latency(&out, "latency_ms", &o->latency);
    if (!status)
        status = add_latency(&out, "service_ms", &o->service);
    if (!status)
        status = add_latency(&out, "client_late_ms", &o->late);
    if (!status)
        status = add_errors(&out, o);
    if (!status)
        status = add_series(&out, o);
    if (!status)
        fwrite(out.data, 1, out.length, stdout);
    else
        status = emb_fail_nomem(err, "report", out.length);
    emb_buf_fini(&out);
    return status;
}
