/*
 * cmd_bench.c: `embedd bench`: how fast this machine is with a model, from text to vector.
 *
 * Each length of text runs for the time given, in calls large enough to keep all threads busy (workload.h).
 * Comparisons with other programs are the business of `make bench`, not of this command.
 */
#include "cli/session.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/json_write.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    emb_model_settings model;
    size_t seconds;
    int format;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

enum { TEXT, JSON };

static const emb_option options[] = {
    {.name = "seconds",
     .letter = 's',
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "2",
     .minimum = 1,
     .maximum = 3600,
     .offset = offsetof(settings, seconds),
     .help = "how long each of the measurements runs"},
    {.name = "format",
     .letter = 'f',
     .kind = EMB_OPTION_CHOICE,
     .choices = "text|json",
     .fallback = "text",
     .offset = offsetof(settings, format),
     .help = "how to print it"},
    EMB_MODEL_OPTIONS(settings, model),
    EMB_OPTIONS_END,
};

enum { CALL_TOKENS = 32768, MOST_TEXTS = 2048, LATENCY_RUNS = 20000, MIX = EMB_WORKLOAD_MIX };

enum { FIGURES = 4 };
static const size_t lengths[FIGURES] = {16, 128, 512, MIX};

typedef struct report {
    double load_ms, first_ms; /* opening; the first text after it */
    double median_us, p99_us; /* one short text at a time */
    size_t latency_tokens;
    emb_workload_figure figures[FIGURES];
    size_t memory_bytes, peak_bytes;
} report;

/* ---- measuring ---- */

static emb_status measure(const emb_session *session, size_t length, size_t seconds, emb_workload_figure *out,
                          emb_error *err)
{
    emb_workload w;
    size_t most = session->info.max_tokens, tokens = length == MIX ? 64 : length < most ? length : most;
    size_t count = CALL_TOKENS / tokens;
    count = count < MOST_TEXTS ? count ? count : 1 : MOST_TEXTS;
    emb_status status = emb_workload_open(&w, session->model, length, count, err);
    if (status)
        return status;
    status = emb_workload_measure(&w, session->model, (double)seconds, out, err);
    emb_workload_close(&w);
    return status;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static emb_status measure_latency(const emb_session *session, size_t seconds, report *r, emb_error *err)
{
    static const char text[] = "how fast is one short text";
    emb_embed_options o = EMB_EMBED_OPTIONS_INIT;
    emb_usage usage = EMB_USAGE_INIT;
    uint64_t *times = malloc(LATENCY_RUNS * sizeof *times), start, begin = emb_now_ns();
    float *vector = malloc(session->info.dimension * sizeof *vector);
    size_t count = 0;
    emb_status status =
        times && vector ? EMB_OK : emb_fail_nomem(err, "benchmark", LATENCY_RUNS * sizeof *times);
    o.cancel = emb_stop_flag();
    while (!status && count < LATENCY_RUNS && (count < 2 || emb_now_ns() - begin < seconds * 1000000000u)) {
        start = emb_now_ns();
        status = emb_embed(session->model, &(emb_text){text, sizeof text - 1}, 1, &o, vector,
                           session->info.dimension, &usage, err);
        times[count++] = emb_now_ns() - start;
    }
    if (!status) {
        r->first_ms = (double)times[0] / 1e6;
        r->latency_tokens = usage.tokens;
        qsort(times, count, sizeof *times, by_value);
        r->median_us = (double)times[count / 2] / 1e3;
        r->p99_us = (double)times[count * 99 / 100] / 1e3;
    }
    free(times);
    free(vector);
    return status;
}

/* From /proc/self/status; 0 where there is none. */
static size_t memory_of(const char *field)
{
    FILE *stream = fopen("/proc/self/status", "re");
    char line[256];
    size_t kib = 0, length = strlen(field);
    while (stream && fgets(line, sizeof line, stream))
        if (strncmp(line, field, length) == 0)
            kib = strtoul(line + length, NULL, 10);
    if (stream)
        fclose(stream);
    return kib * 1024;
}

/* ---- printing ---- */

static void print_text(const emb_session *session, const report *r)
{
    char a[32], b[32];
    printf("%s: %s on %s, %u thread%s\n\n", session->info.name, emb_precision_name(session->info.precision),
           emb_engine_isa(session->engine), emb_engine_threads(session->engine),
           emb_engine_threads(session->engine) == 1 ? "" : "s");
    printf("%-20s %12s %12s\n", "tokens in a text", "texts/s", "tokens/s");
    for (size_t i = 0; i < FIGURES; i++) {
        const emb_workload_figure *f = &r->figures[i];
        char name[48];
        if (lengths[i] == MIX)
            snprintf(name, sizeof name, "mix (mean %zu)", f->length);
        else
            snprintf(name, sizeof name, "%zu%s", f->length,
                     f->length + 64 < lengths[i] ? " (its limit)" : "");
        printf("%-20s %12s %12s\n", name, emb_number_text((uint64_t)(f->texts_per_second + 0.5), a),
               emb_number_text((uint64_t)(f->tokens_per_second + 0.5), b));
    }
    printf("\none text of %zu tokens   %.0f us (median), %.0f us (99th percentile)\n", r->latency_tokens,
           r->median_us, r->p99_us);
    printf("loading the model      %.1f ms, the first text after it %.1f ms\n", r->load_ms, r->first_ms);
    printf("memory                 %.1f MB, at most %.1f MB; packed weights %.1f MB\n",
           (double)r->memory_bytes / 1e6, (double)r->peak_bytes / 1e6,
           (double)session->info.weight_bytes / 1e6);
}

static void print_json(const emb_session *session, const report *r)
{
    emb_buf name = EMB_BUF_INIT(1 << 16);
    if (emb_json_write_string(&name, session->info.name, strlen(session->info.name)))
        emb_buf_clear(&name);
    printf("{\"model\":%.*s,\"precision\":\"%s\",\"isa\":\"%s\",\"threads\":%u,\"throughput\":[",
           (int)name.length, name.data, emb_precision_name(session->info.precision),
           emb_engine_isa(session->engine), emb_engine_threads(session->engine));
    emb_buf_fini(&name);
    for (size_t i = 0; i < FIGURES; i++)
        printf("%s{\"texts\":\"%s\",\"tokens_per_text\":%zu,\"texts_per_second\":%.1f,\"tokens_per_second\":%"
               ".1f}",
               i ? "," : "", lengths[i] == MIX ? "mix" : "equal", r->figures[i].length,
               r->figures[i].texts_per_second, r->figures[i].tokens_per_second);
    printf("],\"latency\":{\"tokens\":%zu,\"median_us\":%.1f,\"p99_us\":%.1f},\"load_ms\":%.2f,\"first_text_"
           "ms\":%.2f,"
           "\"memory_bytes\":%zu,\"peak_memory_bytes\":%zu,\"weight_bytes\":%zu}\n",
           r->latency_tokens, r->median_us, r->p99_us, r->load_ms, r->first_ms, r->memory_bytes,
           r->peak_bytes, session->info.weight_bytes);
}

static int run(const void *raw, char **arguments, size_t count)
{
    const settings *s = raw;
    emb_session session;
    emb_error err;
    report r;
    (void)arguments, (void)count;
    memset(&r, 0, sizeof r);
    emb_stop_install();
    if (emb_session_open(&session, &s->model, false, &err))
        return emb_report_error("bench", &err);
    r.load_ms = (double)session.load_ns / 1e6;
    emb_status status = measure_latency(&session, s->seconds, &r, &err);
    for (size_t i = 0; i < FIGURES && !status; i++)
        status = measure(&session, lengths[i], s->seconds, &r.figures[i], &err);
    r.memory_bytes = memory_of("VmRSS:");
    r.peak_bytes = memory_of("VmHWM:");
    if (!status && s->format == JSON)
        print_json(&session, &r);
    else if (!status)
        print_text(&session, &r);
    emb_session_close(&session);
    if (status == EMB_E_CANCELLED && emb_stop_signal())
        emb_stop_die();
    return status ? emb_report_error("bench", &err) : EMB_EXIT_OK;
}

const emb_command emb_command_bench = {
    .name = "bench",
    .summary = "measure speed, latency and memory of a model on this machine",
    .usage = "bench [OPTION...]",
    .examples = "  embedd bench\n  embedd bench --model ./my-model --threads 1 --seconds 5",
    .options = options,
    .settings_size = sizeof(settings),
    .run = run,
};
