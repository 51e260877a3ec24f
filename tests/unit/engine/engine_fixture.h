/* Shared by the tests of the engine with a fake model: opening, texts with known vectors, waiting. */
#ifndef EMB_TESTS_ENGINE_FIXTURE_H
#define EMB_TESTS_ENGINE_FIXTURE_H

#include "engine/engine.h"
#include "support/fake_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call)                                   \
    do {                                           \
        emb_error e_;                              \
        memset(&e_, 0, sizeof e_);                 \
        emb_error *err = &e_;                      \
        emb_status s_ = (call);                    \
        if (s_)                                    \
            fail_msg("%s: %s", #call, e_.message); \
        (void)err;                                 \
    } while (0)

static inline emb_engine *open_engine(unsigned threads)
{
    emb_engine_options options = EMB_ENGINE_OPTIONS_INIT;
    options.threads = threads;
    options.isa = "portable";
    emb_engine *engine;
    OK(emb_engine_open(&options, &engine, err));
    return engine;
}

static inline emb_model *open_model(emb_engine *engine, const char *path, bool lazy)
{
    emb_model_options options = EMB_MODEL_OPTIONS_INIT;
    options.lazy = lazy;
    emb_model *model;
    OK(emb_model_open(engine, path, &options, &model, err));
    return model;
}

/* A call on a thread of its own: `count` texts of `length` times `letter`. */
typedef struct job {
    emb_model *model;
    char letter;
    size_t count, length;
    emb_embed_options options;
    pthread_t thread;
    emb_text *texts;
    char *text;
    float *out;
    emb_usage usage;
    emb_error error;
    emb_status status;
    atomic_bool finished;
} job;

static inline void *job_run(void *argument)
{
    job *j = argument;
    j->status = emb_embed(j->model, j->texts, j->count, &j->options, j->out, j->count * FAKE_DIMENSION,
                          &j->usage, &j->error);
    atomic_store(&j->finished, true);
    return NULL;
}

static inline void job_init(job *j, emb_model *model, char letter, size_t count, size_t length)
{
    memset(j, 0, sizeof *j);
    j->model = model;
    j->letter = letter;
    j->count = count;
    j->length = length;
    j->options = (emb_embed_options)EMB_EMBED_OPTIONS_INIT;
    j->usage = (emb_usage)EMB_USAGE_INIT;
    j->text = malloc(length + 1);
    memset(j->text, letter, length);
    j->texts = calloc(count, sizeof *j->texts);
    for (size_t i = 0; i < count; i++)
        j->texts[i] = (emb_text){j->text, length};
    j->out = calloc(count, FAKE_DIMENSION * sizeof *j->out);
}

static inline void job_start(job *j)
{
    assert_int_equal(pthread_create(&j->thread, NULL, job_run, j), 0);
}

static inline void job_join(job *j)
{
    pthread_join(j->thread, NULL);
}

static inline void job_check_vectors(const job *j)
{
    float want[FAKE_DIMENSION];
    fake_vector(j->text, j->length, want);
    for (size_t i = 0; i < j->count; i++)
        assert_memory_equal(j->out + i * FAKE_DIMENSION, want, sizeof want);
}

static inline void job_fini(job *j)
{
    free(j->text);
    free(j->texts);
    free(j->out);
}

/* Until `calls` calls wait in the queue. */
static inline void wait_queued(emb_engine *engine, size_t calls)
{
    while (atomic_load(&engine->waiting_calls) != calls)
        usleep(100);
}

/* Index of the first pass that holds the letter; fails if there is none. */
static inline size_t first_pass(char letter)
{
    for (size_t i = 0; i < fake.passes; i++)
        if (fake.log[i].letters[(unsigned char)letter])
            return i;
    fail_msg("no pass with '%c'", letter);
    return 0;
}

static inline size_t last_pass(char letter)
{
    for (size_t i = fake.passes; i-- > 0;)
        if (fake.log[i].letters[(unsigned char)letter])
            return i;
    fail_msg("no pass with '%c'", letter);
    return 0;
}

static inline void assert_nothing_waits(emb_engine *engine)
{
    emb_engine_lock(engine);
    assert_int_equal(engine->waiting_tokens, 0);
    assert_int_equal(atomic_load(&engine->waiting_calls), 0);
    assert_true(emb_list_empty(&engine->cores_waiting[0]));
    assert_true(emb_list_empty(&engine->cores_waiting[1]));
    emb_engine_unlock(engine);
}

#endif
