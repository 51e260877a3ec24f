/*
 * Real models through the public API alone: a text's vector is the same to the last bit whether it is
 * embedded alone, in a large call, by many callers at once, on one thread or shared by a team, for every
 * small model of tests/data/models and for the model that ships, in every precision.
 */
#include <dirent.h>
#include <embedd.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* Under the thread sanitizer a small part of it: it watches the same code whatever the model. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BRIEF 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define BRIEF 1
#endif
#ifdef BRIEF
enum { TEXTS = 20, CALLERS = 3, ROUNDS = 3, LAST_PRECISION = EMB_PRECISION_FP32 };
#else
enum { TEXTS = 60, CALLERS = 4, ROUNDS = 6, LAST_PRECISION = EMB_PRECISION_INT8 };
#endif

static char *texts_block[TEXTS];
static emb_text texts[TEXTS];

static void make_texts(void)
{
    static const char *const words[] = {"model",   "Zürich", "of",  "naïve", "42",           "токен",
                                        "東京",    "(a+b)",  "the", "🙂",  "transformers", "x",
                                        "re-read", "ﬁne",    "\t",  "don't"};
    unsigned seed = 7;
    for (size_t i = 0; i < TEXTS; i++) {
        size_t count = i < 2 ? i : i == 2 ? 600 : (size_t)rand_r(&seed) % (i % 5 ? 12 : 60);
        texts_block[i] = calloc(count + 1, 16);
        for (size_t w = 0; w < count; w++) {
            strcat(texts_block[i], words[(size_t)rand_r(&seed) % (sizeof words / sizeof *words)]);
            strcat(texts_block[i], " ");
        }
        texts[i] = (emb_text){texts_block[i], strlen(texts_block[i])};
    }
}

static emb_engine *open_engine(unsigned threads)
{
    emb_engine_options options = EMB_ENGINE_OPTIONS_INIT;
    options.threads = threads;
    emb_engine *engine;
    emb_error error;
    if (emb_engine_open(&options, &engine, &error))
        fail_msg("%s", error.message);
    return engine;
}

static emb_model *open_model(emb_engine *engine, const char *path, emb_precision precision)
{
    emb_model_options options = EMB_MODEL_OPTIONS_INIT;
    options.precision = precision;
    emb_model *model;
    emb_error error;
    if (emb_model_open(engine, path, &options, &model, &error))
        fail_msg("%s: %s", path, error.message);
    return model;
}

static size_t dimension_of(const emb_model *model)
{
    emb_model_info info = EMB_MODEL_INFO_INIT;
    emb_model_get_info(model, &info);
    return info.dimension;
}

static void embed(emb_model *model, const emb_text *t, size_t count, float *out)
{
    emb_error error;
    emb_usage usage = EMB_USAGE_INIT;
    if (emb_embed(model, t, count, NULL, out, count * dimension_of(model), &usage, &error))
        fail_msg("%s", error.message);
}

typedef struct caller {
    emb_model *model;
    const float *want;
    unsigned seed;
    int wrong;
} caller;

static void *call(void *argument)
{
    caller *c = argument;
    size_t d = dimension_of(c->model);
    float *out = malloc(TEXTS * d * sizeof *out);
    for (int round = 0; round < ROUNDS; round++) {
        size_t first = (size_t)rand_r(&c->seed) % TEXTS,
               count = 1 + (size_t)rand_r(&c->seed) % (TEXTS - first);
        if (round % 2)
            count = 1;
        embed(c->model, texts + first, count, out);
        c->wrong += memcmp(out, c->want + first * d, count * d * sizeof *out) != 0;
    }
    free(out);
    return NULL;
}

static void check_model(const char *path, emb_precision precision)
{
    emb_engine *one = open_engine(1), *three = open_engine(3);
    emb_model *a = open_model(one, path, precision), *b = open_model(three, path, precision);
    size_t d = dimension_of(a);
    float *want = malloc(TEXTS * d * sizeof *want), *got = malloc(TEXTS * d * sizeof *got);
    for (size_t i = 0; i < TEXTS; i++)
        embed(a, &texts[i], 1, want + i * d);
    for (size_t i = 0; i < TEXTS * d; i++)
        if (!(want[i] > -1e9f && want[i] < 1e9f))
            fail_msg("%s: component %zu is %f", path, i, (double)want[i]);
    embed(a, texts, TEXTS, got);
    assert_memory_equal(got, want, TEXTS * d * sizeof *got);
    embed(b, texts, TEXTS, got);
    assert_memory_equal(got, want, TEXTS * d * sizeof *got);
    for (size_t i = 0; i < TEXTS; i++)
        embed(b, &texts[i], 1, got + i * d);
    assert_memory_equal(got, want, TEXTS * d * sizeof *got);
    caller callers[CALLERS];
    pthread_t threads[CALLERS];
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (caller){b, want, i + 1, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
    }
    for (unsigned i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < CALLERS; i++)
        if (callers[i].wrong)
            fail_msg("%s: %d calls of caller %u differ from single calls", path, callers[i].wrong, i);
    free(want);
    free(got);
    emb_model_close(a);
    emb_model_close(b);
    emb_engine_close(one);
    emb_engine_close(three);
}

/* A copy of the model with the tokenizer of "bert", for models that were published without one here. */
static void with_tokenizer(const char *path, char *copy)
{
    char command[2048];
    strcpy(copy, "/tmp/embedd-model-XXXXXX");
    assert_non_null(mkdtemp(copy));
    snprintf(
        command, sizeof command,
        "cp -r '%s'/* %s/ && cp -n '%s/models/bert/vocab.txt' '%s/models/bert/tokenizer_config.json' %s/",
        path, copy, EMB_TEST_DATA, EMB_TEST_DATA, copy);
    assert_int_equal(system(command), 0);
}

static void remove_copy(const char *copy)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", copy);
    assert_int_equal(system(command), 0);
}

static void check_small_model(const char *path)
{
    char file[1100], copy[64] = "";
    struct stat info;
    snprintf(file, sizeof file, "%s/vocab.txt", path);
    if (stat(file, &info))
        with_tokenizer(path, copy);
    for (int p = EMB_PRECISION_FP32; p <= LAST_PRECISION; p++)
        check_model(copy[0] ? copy : path, (emb_precision)p);
    if (copy[0])
        remove_copy(copy);
}

static void small_models(void **state)
{
    (void)state;
    struct dirent **entries;
    int count = scandir(EMB_TEST_DATA "/models", &entries, NULL, alphasort), models = 0;
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        char path[1024], config[1100];
        struct stat info;
        snprintf(path, sizeof path, "%s/models/%s", EMB_TEST_DATA, entries[i]->d_name);
        snprintf(config, sizeof config, "%s/model.safetensors", path);
        bool whole = !stat(config, &info);
        snprintf(config, sizeof config, "%s/modules.json", path);
        if (entries[i]->d_name[0] != '.' && (whole || !stat(config, &info))) {
            check_small_model(path);
            models++;
        }
        free(entries[i]);
    }
    free(entries);
    assert_true(models >= 10);
}

static void shipped_model(void **state)
{
    (void)state;
    for (int p = EMB_PRECISION_AUTO; p <= LAST_PRECISION; p++)
        check_model(EMB_SOURCE_DIR "/models/all-MiniLM-L6-v2", (emb_precision)p);
}

/* A model that joins kinds of pooling cannot be asked for one. */
static void joined_pooling_is_kept(void **state)
{
    (void)state;
    char copy[64];
    emb_engine *engine;
    emb_error err;
    with_tokenizer(EMB_TEST_DATA "/models/bert-concatenated", copy);
    assert_int_equal(emb_engine_open(NULL, &engine, &err), EMB_OK);
    emb_model *model = open_model(engine, copy, EMB_PRECISION_FP32);
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
    emb_text text = {"x", 1};
    float out[4096];
    assert_int_equal(emb_embed(model, &text, 1, &options, out, 4096, NULL, &err), EMB_OK);
    options.pooling = EMB_POOLING_CLS;
    assert_int_equal(emb_embed(model, &text, 1, &options, out, 4096, NULL, &err), EMB_E_INVALID);
    assert_string_equal(err.where, "pooling");
    emb_model_close(model);
    emb_engine_close(engine);
    remove_copy(copy);
}

/* The published vector of "hello world" (sentence-transformers, fp32), within what int8 weights allow. */
static void known_vector(void **state)
{
    (void)state;
    static const float known[] = {-0.0344772f, 0.0310232f, 0.00673496f, 0.0261089f, -0.0393620f};
    emb_engine *engine = open_engine(2);
    emb_model *model = open_model(engine, EMB_SOURCE_DIR "/models/all-MiniLM-L6-v2", EMB_PRECISION_FP32);
    float out[384];
    emb_text text = {"hello world", 11};
    assert_int_equal(dimension_of(model), 384);
    embed(model, &text, 1, out);
    double norm = 0;
    for (size_t i = 0; i < 384; i++)
        norm += (double)out[i] * out[i];
    assert_float_equal(norm, 1, 1e-5);
    for (size_t i = 0; i < 5; i++)
        assert_float_equal(out[i], known[i], 0.004);
    emb_model_close(model);
    emb_engine_close(engine);
}

int main(void)
{
    make_texts();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_models),
        cmocka_unit_test(shipped_model),
        cmocka_unit_test(known_vector),
        cmocka_unit_test(joined_pooling_is_kept),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < TEXTS; i++)
        free(texts_block[i]);
    return failed;
}
