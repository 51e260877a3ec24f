/*
 * cmd_bench.c: `embedd bench`: how fast this machine is with a model, from text to vector.
 *
 * Texts are made of common words until they have the length wanted in tokens, all different, so that
 * nothing is measured that repetition would make easier. Each length runs for the time given, in calls
 * large enough to keep all threads busy, after some that warm up and are not counted. Comparisons with
 * other programs are the business of `make bench`, not of this command.
 */
#include "cli/session.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/json_write.h"
#include "cli/progress.h"
#include "cli/stop.h"

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

enum { CALL_TOKENS = 32768, MOST_TEXTS = 2048, LATENCY_RUNS = 20000, MIX = 0 };

typedef struct figure {
    size_t length; /* tokens of a text, as they came out; MIX */
    double texts_per_second, tokens_per_second;
} figure;

enum { FIGURES = 4 };
static const size_t lengths[FIGURES] = {16, 128, 512, MIX};

typedef struct report {
    double load_ms, first_ms; /* opening; the first text after it */
    double median_us, p99_us; /* one short text at a time */
    size_t latency_tokens;
    figure figures[FIGURES];
    size_t memory_bytes, peak_bytes;
} report;

/* ---- texts ---- */

static const char *const words[] = {
    "time",     "people",    "water",     "number",   "world",   "house",   "school",   "small",
    "large",    "under",     "never",     "place",    "where",   "after",   "little",   "round",
    "three",    "sentence",  "great",     "think",    "through", "before",  "follow",   "around",
    "another",  "because",   "different", "picture",  "again",   "change",  "animal",   "point",
    "mother",   "earth",     "father",    "plant",    "food",    "country", "city",     "story",
    "night",    "light",     "music",     "those",    "both",    "paper",   "together", "group",
    "often",    "important", "until",     "children", "river",   "second",  "begin",    "idea",
    "mountain", "color",     "morning",   "science",  "winter",  "measure", "market",   "machine",
};
enum { WORDS = sizeof words / sizeof *words };

/* A small generator (xorshift), the same texts in every run. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static char *make_text(size_t word_count, uint64_t *random, size_t *length)
{
    char *text = malloc(word_count * 12 + 1);
    size_t n = 0;
    for (size_t i = 0; text && i < word_count; i++)
        n += (size_t)sprintf(text + n, "%s%s", i ? " " : "", words[next_random(random) % WORDS]);
    if (text)
        text[n] = 0;
    *length = n;
    return text;
}

/* How many of the words above make a token with this model's tokenizer. */
static emb_status words_per_token(const emb_session *session, double *ratio, emb_error *err)
{
    enum { PROBE = 512 };
    uint64_t random = 1;
    size_t bytes;
    emb_tokens tokens;
    char *probe = make_text(PROBE, &random, &bytes);
    *ratio = 1;
    if (!probe)
        return emb_fail_nomem(err, "text", PROBE * 12);
    emb_status status = emb_tokenize(session->model, probe, bytes, false, 0, &tokens, err);
    free(probe);
    if (status)
        return status;
    if (tokens.count > 0)
        *ratio = PROBE / (double)tokens.count;
    emb_tokens_free(&tokens);
    return EMB_OK;
}

typedef struct batch {
    emb_text *texts;
    size_t count;
    float *vectors;
    size_t floats;
} batch;

static void free_batch(batch *b)
{
    for (size_t i = 0; b->texts && i < b->count; i++)
        free((char *)b->texts[i].data);
    free(b->texts);
    free(b->vectors);
}

/* Lengths of the mix: mostly short, a tail of long ones, as in search queries with documents. */
static size_t mixed_length(uint64_t *random, size_t most)
{
    size_t length = 8;
    while (length < most && next_random(random) % 100 < 65)
        length *= 2;
    length += next_random(random) % length;
    return length < most ? length : most;
}

static emb_status make_batch(const emb_session *session, size_t length, batch *b, emb_error *err)
{
    size_t most = session->info.max_tokens, per_text = length == MIX ? 64 : length < most ? length : most;
    uint64_t random = 0x9E3779B97F4A7C15u + length;
    double ratio;
    memset(b, 0, sizeof *b);
    emb_status status = words_per_token(session, &ratio, err);
    if (status)
        return status;
    size_t count = CALL_TOKENS / per_text;
    count = count < MOST_TEXTS ? count ? count : 1 : MOST_TEXTS;
    b->texts = calloc(count, sizeof *b->texts);
    b->floats = count * session->info.dimension;
    b->vectors = malloc(b->floats * sizeof *b->vectors);
    if (!b->texts || !b->vectors)
        return emb_fail_nomem(err, "benchmark", b->floats * sizeof *b->vectors);
    for (; b->count < count; b->count++) {
        size_t tokens = length == MIX ? mixed_length(&random, most) : per_text;
        size_t word_count = (size_t)((double)(tokens > 2 ? tokens - 2 : 1) * ratio + 0.5); /* 2 are special */
        emb_text *text = &b->texts[b->count];
        text->data = make_text(word_count ? word_count : 1, &random, &text->length);
        if (!text->data)
            return emb_fail_nomem(err, "benchmark", tokens * 12);
    }
    return EMB_OK;
}

/* ---- measuring ---- */

static emb_status run_batch(const emb_session *session, const batch *b, size_t count, emb_usage *usage,
                            emb_error *err)
{
    emb_embed_options o = EMB_EMBED_OPTIONS_INIT;
    o.cancel = emb_stop_flag();
    o.priority = EMB_PRIORITY_BULK;
    *usage = (emb_usage)EMB_USAGE_INIT;
    return emb_embed(session->model, b->texts, count, &o, b->vectors, b->floats, usage, err);
}

/* Warms up, and finds how many texts a call should have to take a good part of a second, so that slow
 * machines are not kept far beyond the time given. */
static emb_status choose_count(const emb_session *session, const batch *b, size_t *count, emb_error *err)
{
    emb_usage usage;
    *count = b->count < 8 ? b->count : 8;
    for (;;) {
        uint64_t start = emb_now_ns();
        emb_status status = run_batch(session, b, *count, &usage, err);
        if (status || *count == b->count || emb_now_ns() - start > 200000000)
            return status;
        *count = *count * 2 < b->count ? *count * 2 : b->count;
    }
}

static emb_status measure(const emb_session *session, size_t length, size_t seconds, figure *out,
                          emb_error *err)
{
    batch b;
    emb_usage usage;
    size_t count = 0;
    emb_status status = make_batch(session, length, &b, err);
    if (!status)
        status = choose_count(session, &b, &count, err);
    uint64_t start = emb_now_ns(), now = start, texts = 0, tokens = 0;
    while (!status && now - start < seconds * 1000000000u) {
        status = run_batch(session, &b, count, &usage, err);
        texts += count;
        tokens += usage.tokens;
        now = emb_now_ns();
    }
    free_batch(&b);
    if (status || now == start)
        return status;
    double elapsed = (double)(now - start) / 1e9;
    out->length = (size_t)((double)tokens / (double)texts + 0.5);
    out->texts_per_second = (double)texts / elapsed;
    out->tokens_per_second = (double)tokens / elapsed;
    return EMB_OK;
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
        const figure *f = &r->figures[i];
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
