/*
 * cmd_tune.c: `embedd tune`: which settings are best for this machine and model.
 *
 * Three questions, one after another, each with the best answer to the one before: how many threads, how many
 * tokens in a pass, how many texts a caller should put into a request. Of answers that are as good but for
 * noise the smallest wins: fewer threads leave CPUs to others, smaller passes need less memory, smaller
 * requests answer sooner. Measurements are interleaved in rounds and each answer's best round counts, since
 * disturbance only ever makes it slower.
 */
#include "cli/session.h"

#include "base/json_write.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/workload.h"
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct settings {
    emb_model_settings model;
    size_t seconds, tokens;
    int format;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

enum { TEXT, JSON };

static const emb_option options[] = {
    {.name = "seconds",
     .letter = 's',
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "30",
     .minimum = 1,
     .maximum = 3600,
     .offset = offsetof(settings, seconds),
     .help = "how long all of it may take, roughly"},
    {.name = "tokens",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .minimum = 3,
     .maximum = 1 << 20,
     .default_note = "a mix of lengths",
     .offset = offsetof(settings, tokens),
     .help = "length of your texts in tokens"},
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

enum { POINTS_MAX = 24, ROUNDS = 3, CALL_TEXTS = 512, MIX_MEAN_TOKENS = 64 };

typedef struct point {
    size_t value;
    double tokens_per_second, ms; /* ms: of one call */
} point;

typedef struct question {
    const char *name, *unit, *setting;
    double slack; /* a smaller value that is at most so much slower is preferred */
    point points[POINTS_MAX];
    size_t count, best;
} question;

static emb_status try_point(const settings *s, size_t threads, size_t batch_tokens, size_t texts,
                            size_t tokens, double seconds, point *p, emb_error *err)
{
    emb_model_settings model = s->model;
    emb_session session;
    emb_workload workload;
    emb_workload_figure figure = {0};
    model.threads = threads;
    model.batch_tokens = batch_tokens;
    emb_status status = emb_session_open(&session, &model, false, err);
    if (status)
        return status;
    status = emb_workload_open(&workload, session.model, tokens, texts, err);
    if (!status) {
        status = emb_workload_measure(&workload, session.model, seconds, &figure, err);
        emb_workload_close(&workload);
    }
    emb_session_close(&session);
    if (!status && figure.tokens_per_second > p->tokens_per_second) {
        p->tokens_per_second = figure.tokens_per_second;
        p->ms = (double)texts / figure.texts_per_second * 1e3;
    }
    return status;
}

static void choose(question *q)
{
    double most = 0;
    for (size_t i = 0; i < q->count; i++)
        if (q->points[i].tokens_per_second > most)
            most = q->points[i].tokens_per_second;
    for (q->best = 0; q->points[q->best].tokens_per_second < most * (1 - q->slack); q->best++)
        ;
}

typedef enum topic { THREADS, BATCH, CALL, QUESTIONS } topic;

static emb_status answer(const settings *s, question *questions, topic about, double seconds, emb_error *err)
{
    question *q = &questions[about];
    emb_status status = EMB_OK;
    for (size_t round = 0; round < ROUNDS && !status; round++)
        for (size_t i = 0; i < q->count && !status; i++) {
            size_t value = q->points[i].value;
            size_t threads =
                about == THREADS ? value : questions[THREADS].points[questions[THREADS].best].value;
            size_t batch = about == BATCH  ? value
                           : about == CALL ? questions[BATCH].points[questions[BATCH].best].value
                                           : s->model.batch_tokens;
            if (isatty(STDERR_FILENO))
                fprintf(stderr, "\r%-20s round %zu of %d, %zu   ", q->name, round + 1, ROUNDS, value);
            /* requests of few texts must not differ by what the mix begins with */
            size_t tokens = s->tokens || about != CALL ? s->tokens : MIX_MEAN_TOKENS;
            status = try_point(s, threads, batch, about == CALL ? value : CALL_TEXTS, tokens, seconds,
                               &q->points[i], err);
        }
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%60s\r", "");
    if (!status)
        choose(q);
    return status;
}

static void add(question *q, size_t value)
{
    if (q->count < POINTS_MAX && (q->count == 0 || q->points[q->count - 1].value < value))
        q->points[q->count++].value = value;
}

static void make_questions(const settings *s, question *q)
{
    size_t cpus = emb_cpus_usable();
    q[THREADS] = (question){.name = "threads", .unit = "", .setting = "EMBEDD_THREADS", .slack = 0.03};
    for (size_t n = 1; n < cpus; n *= 2)
        add(&q[THREADS], n);
    if (s->model.threads) {
        q[THREADS].count = 0;
        cpus = s->model.threads;
    }
    add(&q[THREADS], cpus);
    q[BATCH] = (question){
        .name = "tokens in a pass", .unit = "tokens", .setting = "EMBEDD_MAX_BATCH_TOKENS", .slack = 0.02};
    for (size_t n = 256; n <= 16384; n *= 4)
        add(&q[BATCH], n);
    q[CALL] = (question){.name = "texts in a request", .unit = "texts", .setting = "", .slack = 0.05};
    for (size_t n = 1; n <= 256; n *= 4)
        add(&q[CALL], n);
}

/* ---- printing ---- */

static void print_text(const settings *s, const question *questions)
{
    char number[32];
    for (size_t i = 0; i < QUESTIONS; i++) {
        const question *q = &questions[i];
        printf("%-20s %12s %16s\n", q->name, "tokens/s", i == CALL ? "ms a request" : "");
        for (size_t j = 0; j < q->count; j++) {
            const point *p = &q->points[j];
            printf("%12zu         %12s ", p->value,
                   emb_number_text((uint64_t)(p->tokens_per_second + 0.5), number));
            if (i == CALL)
                printf("%16.2f", p->ms);
            printf("%s\n", j == q->best ? "  <-" : "");
        }
        putchar('\n');
    }
    printf("For %s on this machine:\n", s->model.model);
    for (size_t i = 0; i < CALL; i++)
        printf("  %s=%zu\n", questions[i].setting, questions[i].points[questions[i].best].value);
    size_t texts = questions[CALL].points[questions[CALL].best].value;
    printf("and %zu text%s in a request; more of them bring less than %.0f %% more.\n", texts,
           texts == 1 ? "" : "s", questions[CALL].slack * 100);
}

static int print_json(const settings *s, const question *questions)
{
    static const char *const keys[QUESTIONS] = {"threads", "batch_tokens", "texts_per_request"};
    emb_buf out = EMB_BUF_INIT(1 << 16);
    emb_status status = emb_buf_add_str(&out, "{\"model\":");
    if (!status)
        status = emb_json_write_string(&out, s->model.model, strlen(s->model.model));
    for (size_t i = 0; i < QUESTIONS && !status; i++) {
        const question *q = &questions[i];
        status =
            emb_buf_addf(&out, ",\"%s\":{\"best\":%zu,\"measured\":[", keys[i], q->points[q->best].value);
        for (size_t j = 0; j < q->count && !status; j++)
            status = emb_buf_addf(&out, "%s{\"value\":%zu,\"tokens_per_second\":%.1f,\"request_ms\":%.3f}",
                                  j ? "," : "", q->points[j].value, q->points[j].tokens_per_second,
                                  q->points[j].ms);
        if (!status)
            status = emb_buf_add_str(&out, "]}");
    }
    if (!status)
        status = emb_buf_add_str(&out, "}\n");
    return emb_print_answer("tune", &out, status);
}

static int run(const void *raw, char **arguments, size_t count)
{
    const settings *s = raw;
    question questions[QUESTIONS];
    emb_error err;
    emb_status status = EMB_OK;
    size_t points = 0;
    (void)arguments, (void)count;
    emb_stop_install();
    make_questions(s, questions);
    for (size_t i = 0; i < QUESTIONS; i++)
        points += questions[i].count * ROUNDS;
    double seconds = (double)s->seconds / (double)points;
    for (topic i = THREADS; i < QUESTIONS && !status; i++)
        status = answer(s, questions, i, seconds, &err);
    if (status == EMB_E_CANCELLED && emb_stop_signal())
        emb_stop_die();
    if (status)
        return emb_report_error("tune", &err);
    if (s->format == JSON)
        return print_json(s, questions);
    print_text(s, questions);
    return EMB_EXIT_OK;
}

const emb_command emb_command_tune = {
    .name = "tune",
    .summary = "find the best threads, pass and request sizes for this machine and model",
    .usage = "tune [OPTION...]",
    .description =
        "Measures tokens per second over numbers of threads, tokens in a forward pass and texts in\n"
        "a request, and names the smallest of each that is as fast as the best but for noise.",
    .examples = "  embedd tune\n  embedd tune --model bge-base-en-v1.5 --tokens 200 --seconds 120",
    .options = options,
    .settings_size = sizeof(settings),
    .run = run,
};
