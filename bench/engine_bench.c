/*
 * The engine's own figures, as ratios within one run:
 *
 *   latency     one short text, warm, against the time to stream the packed weights once (a block of the same
 *               size, read by as many threads as compute)
 *   scaling     a large call on one thread and on all of them
 *   callers     1 to 32 threads that each embed one short text at a time
 *
 *     engine_bench [MODEL] [PRECISION] [SECONDS per figure]
 *
 * Runs of what is compared take turns, and medians are reported, so that a busy machine hits all alike.
 */
#include "base/clock.h"
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MOST = 20000, WORDS = 40 };

static const char *const words[WORDS] = {
    "the",     "of",       "language", "model",   "text",     "vector", "search",   "a",
    "in",      "python",   "function", "returns", "value",    "when",   "called",   "with",
    "default", "argument", "class",    "method",  "defines",  "module", "import",   "error",
    "file",    "and",      "reads",    "writes",  "string",   "number", "list",     "to",
    "is",      "for",      "each",     "other",   "proposal", "syntax", "iterator", "object",
};

static void stop(const char *what, const emb_error *error)
{
    fprintf(stderr, "engine_bench: %s: %s\n", what, error->message);
    exit(1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, size_t count, double q)
{
    qsort(values, count, sizeof *values, by_value);
    return count ? values[(size_t)(q * (double)(count - 1))] : 0;
}

/* ---- reading memory once --------------------------------------------------------------------- */

typedef uint64_t line __attribute__((vector_size(64)));

typedef struct part {
    const line *data;
    size_t lines;
    pthread_barrier_t *start, *end;
    bool *over;
    uint64_t sum;
} part;

static uint64_t read_lines(const line *data, size_t lines)
{
    line sums[4] = {{0}};
    for (size_t i = 0; i + 4 <= lines; i += 4)
        for (int k = 0; k < 4; k++)
            sums[k] += data[i + k];
    return sums[0][0] + sums[1][1] + sums[2][2] + sums[3][3];
}

static void *reader(void *argument)
{
    part *p = argument;
    for (;;) {
        pthread_barrier_wait(p->start);
        if (*p->over)
            return NULL;
        p->sum += read_lines(p->data, p->lines);
        pthread_barrier_wait(p->end);
    }
}

/* Median seconds to read `bytes` with `threads` threads. */
static double stream_seconds(size_t bytes, unsigned threads, double seconds)
{
    size_t lines = bytes / 64 / threads / 4 * 4;
    line *data = aligned_alloc(64, lines * threads * 64);
    part *parts = calloc(threads, sizeof *parts);
    pthread_t *ids = calloc(threads, sizeof *ids);
    pthread_barrier_t start, end;
    bool over = false;
    memset(data, 1, lines * threads * 64);
    pthread_barrier_init(&start, NULL, threads + 1);
    pthread_barrier_init(&end, NULL, threads + 1);
    for (unsigned i = 0; i < threads; i++) {
        parts[i] = (part){data + i * lines, lines, &start, &end, &over, 0};
        pthread_create(&ids[i], NULL, reader, &parts[i]);
    }
    static double times[MOST];
    size_t count = 0;
    uint64_t until = emb_now_ns() + (uint64_t)(seconds * 1e9);
    while (count < MOST && (count < 5 || emb_now_ns() < until)) {
        uint64_t begin = emb_now_ns();
        if (threads == 1) { /* without the barriers' wakes */
            parts[0].sum += read_lines(data, lines);
        } else {
            pthread_barrier_wait(&start);
            pthread_barrier_wait(&end);
        }
        times[count++] = (double)(emb_now_ns() - begin) * 1e-9;
    }
    over = true;
    pthread_barrier_wait(&start);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    free(data);
    free(parts);
    free(ids);
    return quantile(times, count, 0.5);
}

/* ---- engines --------------------------------------------------------------------------------- */

typedef struct subject {
    emb_engine *engine;
    emb_model *model;
    emb_model_info info;
} subject;

static subject open_subject(const char *name, emb_precision precision, unsigned threads)
{
    subject s = {.info = EMB_MODEL_INFO_INIT};
    emb_engine_options options = EMB_ENGINE_OPTIONS_INIT;
    emb_model_options model_options = EMB_MODEL_OPTIONS_INIT;
    emb_error error;
    options.threads = threads;
    model_options.precision = precision;
    if (emb_engine_open(&options, &s.engine, &error))
        stop("engine", &error);
    if (emb_model_open(s.engine, name, &model_options, &s.model, &error))
        stop(name, &error);
    emb_model_get_info(s.model, &s.info);
    return s;
}

static void close_subject(subject *s)
{
    emb_model_close(s->model);
    emb_engine_close(s->engine);
}

static double embed_seconds(const subject *s, const emb_text *texts, size_t count, float *out,
                            emb_usage *usage)
{
    emb_error error;
    uint64_t begin = emb_now_ns();
    if (emb_embed(s->model, texts, count, NULL, out, count * s->info.dimension, usage, &error))
        stop("embed", &error);
    return (double)(emb_now_ns() - begin) * 1e-9;
}

/* ---- the figures ----------------------------------------------------------------------------- */

static void latency(const char *name, emb_precision precision, unsigned threads, double seconds)
{
    static double times[MOST];
    subject s = open_subject(name, precision, threads);
    emb_text text = {"what is the capital of portugal?", 32};
    float *out = malloc(s.info.dimension * sizeof *out);
    emb_usage usage = EMB_USAGE_INIT;
    double stream = 1e9, p50 = 1e9, p99 = 1e9;
    for (int round = 0; round < 3; round++) { /* the best of three: the rest is the machine */
        size_t count = 0;
        double t = stream_seconds(s.info.weight_bytes, threads, seconds / 6);
        stream = t < stream ? t : stream;
        for (int i = 0; i < 20; i++)
            embed_seconds(&s, &text, 1, out, &usage);
        uint64_t until = emb_now_ns() + (uint64_t)(seconds / 6 * 1e9);
        while (count < MOST && (count < 5 || emb_now_ns() < until))
            times[count++] = embed_seconds(&s, &text, 1, out, &usage);
        t = quantile(times, count, 0.5);
        if (t < p50) {
            p50 = t;
            p99 = quantile(times, count, 0.99);
        }
    }
    printf("latency  %u threads  %zu tokens  p50 %.3f ms  p99 %.3f ms  weights %.1f MB stream in %.3f ms  "
           "ratio %.2f\n",
           threads, usage.tokens, p50 * 1e3, p99 * 1e3, (double)s.info.weight_bytes / 1e6, stream * 1e3,
           p50 / stream);
    free(out);
    close_subject(&s);
}

/* `count` texts of about `tokens` tokens. */
static char *make_texts(emb_text *texts, size_t count, size_t tokens)
{
    char *block = malloc(count * tokens * 12 + 1), *at = block;
    unsigned seed = 1;
    for (size_t i = 0; i < count; i++) {
        texts[i].data = at;
        for (size_t w = 0; w + 2 < tokens; w++)
            at += sprintf(at, "%s ", words[(size_t)rand_r(&seed) % WORDS]);
        texts[i].length = (size_t)(at - texts[i].data);
    }
    return block;
}

/* Used by all threads of this process so far. */
static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

/* The ratio by CPU time is what the wall clock would show if nothing else ran on the machine and no thread
 * ever waited. */
static void scaling(const char *name, emb_precision precision, unsigned threads, size_t tokens,
                    double seconds)
{
    subject one = open_subject(name, precision, 1), all = open_subject(name, precision, threads);
    double speed_one[64], speed_all[64], ratios[64], cpu_one = 0, cpu_all = 0;
    size_t count = 64, rounds = 0;
    emb_usage usage = EMB_USAGE_INIT;
    emb_text *texts = malloc(MOST * sizeof *texts);
    char *block = make_texts(texts, MOST, tokens);
    float *out = malloc(MOST * one.info.dimension * sizeof *out);
    double t = embed_seconds(&all, texts, count, out, &usage);
    t = embed_seconds(&all, texts, count, out, &usage);
    count = (size_t)((double)count / t * seconds / 12);
    count = count < 64 ? 64 : count > MOST ? MOST : count;
    uint64_t until = emb_now_ns() + (uint64_t)(seconds * 1e9);
    while (rounds < 64 && (rounds < 3 || emb_now_ns() < until)) {
        double before = cpu_seconds();
        double a = embed_seconds(&one, texts, count, out, &usage);
        double between = cpu_seconds();
        double b = embed_seconds(&all, texts, count, out, &usage);
        cpu_one += between - before;
        cpu_all += cpu_seconds() - between;
        speed_one[rounds] = (double)usage.tokens / a;
        speed_all[rounds] = (double)usage.tokens / b;
        ratios[rounds++] = a / b;
    }
    printf("scaling  %zu texts of %zu tokens  1 thread %.0f tokens/s  %u threads %.0f tokens/s  ratio %.3f  "
           "(%.3f by CPU time, %.3f ms of CPU a text)\n",
           count, usage.tokens / count, quantile(speed_one, rounds, 0.5), threads,
           quantile(speed_all, rounds, 0.5), quantile(ratios, rounds, 0.5), threads * cpu_one / cpu_all,
           cpu_all / (double)(rounds * count) * 1e3);
    free(texts);
    free(block);
    free(out);
    close_subject(&one);
    close_subject(&all);
}

typedef struct caller {
    const subject *subject;
    const emb_text *texts;
    uint64_t until_ns;
    size_t first, done;
    double slowest;
} caller;

static void *call_often(void *argument)
{
    caller *c = argument;
    float *out = malloc(c->subject->info.dimension * sizeof *out);
    for (size_t i = c->first; emb_now_ns() < c->until_ns; i++, c->done++) {
        double t = embed_seconds(c->subject, &c->texts[i % MOST], 1, out, NULL);
        c->slowest = t > c->slowest ? t : c->slowest;
    }
    free(out);
    return NULL;
}

static void callers(const char *name, emb_precision precision, unsigned threads, double seconds)
{
    subject s = open_subject(name, precision, threads);
    emb_text *texts = malloc(MOST * sizeof *texts);
    char *block = make_texts(texts, MOST, 16);
    for (size_t n = 1; n <= 32; n *= 2) {
        caller state[32];
        pthread_t ids[32];
        size_t done = 0;
        double slowest = 0, cpu = cpu_seconds();
        uint64_t begin = emb_now_ns();
        for (size_t i = 0; i < n; i++) {
            state[i] = (caller){&s, texts, begin + (uint64_t)(seconds / 4 * 1e9), i * 997, 0, 0};
            pthread_create(&ids[i], NULL, call_often, &state[i]);
        }
        for (size_t i = 0; i < n; i++) {
            pthread_join(ids[i], NULL);
            done += state[i].done;
            slowest = state[i].slowest > slowest ? state[i].slowest : slowest;
        }
        double t = (double)(emb_now_ns() - begin) * 1e-9;
        printf("callers  %2zu with one text of 16 tokens  %.0f texts/s  mean %.2f ms  slowest %.1f ms  "
               "%.3f ms of CPU a text\n",
               n, (double)done / t, t / (double)done * (double)n * 1e3, slowest * 1e3,
               (cpu_seconds() - cpu) / (double)done * 1e3);
    }
    free(texts);
    free(block);
    close_subject(&s);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "all-MiniLM-L6-v2";
    emb_precision precision = EMB_PRECISION_AUTO;
    if (argc > 2 && !emb_precision_parse(argv[2], &precision)) {
        fprintf(stderr, "engine_bench: no precision %s\n", argv[2]);
        return 1;
    }
    double seconds = argc > 3 ? atof(argv[3]) : 4;
    unsigned threads = emb_cpus_usable();
    subject s = open_subject(name, precision, 1);
    printf("%s  %s  %s  %zu layers of %zu\n", s.info.name, emb_engine_isa(s.engine),
           emb_precision_name(s.info.precision), s.info.layers, s.info.hidden);
    close_subject(&s);
    latency(name, precision, 1, seconds);
    if (threads > 1)
        latency(name, precision, threads, seconds);
    for (size_t tokens = 16; tokens <= 128 && threads > 1; tokens *= 8)
        scaling(name, precision, threads, tokens, seconds);
    callers(name, precision, threads, seconds);
    return 0;
}
