/*
 * Vectors of tokens, with real models: their mean is what mean pooling gives, a batch gives the same bits as
 * single texts, ids the same as texts, next to other callers that pool; limits and failing allocations.
 */
#include "engine/tokens.h"
#include "support/fail_alloc.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define DATA EMB_TEST_DATA "/models/"

static const emb_text texts[] = {
    {"hello world", 11}, {"", 0}, {"a cat sat on the mat, re-read it", 32}, {"x", 1}};
enum { COUNT = sizeof texts / sizeof *texts };

static emb_engine *engine;
static emb_model *model;

static void open_all(const char *name, unsigned threads)
{
    emb_engine_options o = EMB_ENGINE_OPTIONS_INIT;
    emb_model_options m = EMB_MODEL_OPTIONS_INIT;
    emb_error err;
    o.threads = threads;
    m.precision = EMB_PRECISION_FP32;
    assert_int_equal(emb_engine_open(&o, &engine, &err), EMB_OK);
    if (emb_model_open(engine, name, &m, &model, &err))
        fail_msg("%s: %s", name, err.message);
}

static void close_all(void)
{
    emb_model_close(model);
    emb_engine_close(engine);
}

static emb_model_info info_of(void)
{
    emb_model_info info = EMB_MODEL_INFO_INIT;
    emb_model_get_info(model, &info);
    return info;
}

static emb_token_vectors tokens_of(const emb_text *t, size_t count)
{
    emb_token_vectors v;
    emb_usage usage = EMB_USAGE_INIT;
    emb_error err;
    if (emb_model_embed_tokens(model, t, NULL, NULL, count, NULL, &v, &usage, &err))
        fail_msg("%s", err.message);
    assert_int_equal(v.count, count);
    assert_int_equal(v.offsets[0], 0);
    assert_int_equal(v.offsets[count], usage.tokens);
    return v;
}

/* Mean of the tokens' vectors against what pooling by mean gives. */
static void check_mean(const emb_token_vectors *v, size_t i, const float *pooled)
{
    size_t n = v->offsets[i + 1] - v->offsets[i];
    for (size_t j = 0; j < v->dimension; j++) {
        double sum = 0;
        for (size_t t = 0; t < n; t++)
            sum += v->vectors[(v->offsets[i] + t) * v->dimension + j];
        assert_true(fabs(sum / (double)n - pooled[j]) < 1e-5);
    }
}

static void test_mean(void **state)
{
    (void)state;
    static const char *const names[] = {DATA "bert", DATA "bert-plain", DATA "bert-sharded",
                                        "models/all-MiniLM-L6-v2"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        open_all(names[k], 2);
        emb_model_info info = info_of();
        emb_embed_options o = EMB_EMBED_OPTIONS_INIT;
        emb_error err;
        o.pooling = EMB_POOLING_MEAN;
        o.normalize = EMB_OFF;
        float *pooled = calloc(COUNT * info.dimension, sizeof *pooled);
        emb_token_vectors v = tokens_of(texts, COUNT);
        assert_int_equal(v.dimension, info.hidden);
        /* a module behind pooling may normalise whatever the options say: directions then */
        if (emb_embed(model, texts, COUNT, &o, pooled, COUNT * info.dimension, NULL, &err))
            fail_msg("%s", err.message);
        for (size_t i = 0; i < COUNT; i++) {
            float *own = pooled + i * info.dimension, mean[1024] = {0};
            size_t n = v.offsets[i + 1] - v.offsets[i];
            assert_true(info.dimension == info.hidden && info.hidden <= 1024);
            for (size_t t = 0; t < n; t++)
                for (size_t j = 0; j < info.hidden; j++)
                    mean[j] += v.vectors[(v.offsets[i] + t) * info.hidden + j] / (float)n;
            assert_true(emb_cosine(own, mean, info.hidden) > 0.999999);
            if (!info.normalize)
                check_mean(&v, i, own);
        }
        emb_token_vectors_fini(&v);
        free(pooled);
        close_all();
    }
}

static void test_alone_and_together(void **state)
{
    (void)state;
    open_all(DATA "bert", 2);
    emb_token_vectors all = tokens_of(texts, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        emb_token_vectors one = tokens_of(&texts[i], 1);
        size_t n = all.offsets[i + 1] - all.offsets[i];
        assert_int_equal(one.offsets[1], n);
        assert_memory_equal(one.vectors, all.vectors + all.offsets[i] * all.dimension,
                            n * all.dimension * sizeof(float));
        emb_token_vectors_fini(&one);
    }
    /* ids the same, also where they do not begin at the array's beginning */
    emb_tokens t;
    emb_error err;
    int32_t ids[64] = {0};
    assert_int_equal(emb_tokenize(model, texts[2].data, texts[2].length, true, 0, &t, &err), EMB_OK);
    for (size_t i = 0; i < t.count; i++)
        ids[3 + i] = t.data[i].id;
    emb_token_vectors v;
    assert_int_equal(
        emb_model_embed_tokens(model, NULL, ids, (size_t[]){3, 3 + t.count}, 1, NULL, &v, NULL, &err),
        EMB_OK);
    assert_int_equal(v.offsets[1], t.count);
    assert_memory_equal(v.vectors, all.vectors + all.offsets[2] * all.dimension,
                        t.count * all.dimension * sizeof(float));
    emb_token_vectors_fini(&v);
    emb_tokens_free(&t);
    assert_int_equal(emb_model_embed_tokens(model, texts, NULL, NULL, 0, NULL, &v, NULL, &err), EMB_OK);
    assert_int_equal(v.count, 0);
    emb_token_vectors_fini(&v);
    emb_token_vectors_fini(&all);
    close_all();
}

static void test_limits(void **state)
{
    (void)state;
    open_all(DATA "bert", 1);
    emb_model_info info = info_of();
    emb_embed_options o = EMB_EMBED_OPTIONS_INIT;
    emb_token_vectors v;
    emb_error err;
    char *data = calloc(info.max_tokens + 10, 2);
    for (size_t i = 0; i < info.max_tokens + 9; i++)
        memcpy(data + 2 * i, "x ", 2);
    emb_text longer = {data, strlen(data)};
    v = tokens_of(&longer, 1);
    assert_int_equal(v.offsets[1], info.max_tokens);
    emb_token_vectors_fini(&v);
    o.truncation = EMB_TRUNCATE_NONE;
    assert_int_equal(emb_model_embed_tokens(model, &longer, NULL, NULL, 1, &o, &v, NULL, &err), EMB_E_LIMIT);
    assert_null(v.vectors);
    o.truncation = EMB_TRUNCATE_MODEL;
    volatile int cancel = 1;
    o.cancel = &cancel;
    assert_int_equal(emb_model_embed_tokens(model, texts, NULL, NULL, COUNT, &o, &v, NULL, &err),
                     EMB_E_CANCELLED);
    assert_null(v.vectors);
    assert_int_equal(
        emb_model_embed_tokens(model, NULL, (int32_t[]){-1}, (size_t[]){0, 1}, 1, NULL, &v, NULL, &err),
        EMB_E_INVALID);
    assert_int_equal(emb_model_embed_tokens(model, NULL, NULL, NULL, 1, NULL, &v, NULL, &err), EMB_E_INVALID);
    free(data);
    close_all();
}

static atomic_bool stop;

static void *pool_meanwhile(void *wanted)
{
    emb_model_info info = info_of();
    float *out = calloc(COUNT * info.dimension, sizeof *out);
    emb_error err;
    while (!atomic_load(&stop)) {
        assert_int_equal(emb_embed(model, texts, COUNT, NULL, out, COUNT * info.dimension, NULL, &err),
                         EMB_OK);
        assert_memory_equal(out, wanted, COUNT * info.dimension * sizeof *out);
    }
    free(out);
    return NULL;
}

static void test_beside_pooling(void **state)
{
    (void)state;
    open_all(DATA "bert", 2);
    emb_model_info info = info_of();
    float *wanted = calloc(COUNT * info.dimension, sizeof *wanted);
    emb_error err;
    pthread_t threads[3];
    assert_int_equal(emb_embed(model, texts, COUNT, NULL, wanted, COUNT * info.dimension, NULL, &err),
                     EMB_OK);
    emb_token_vectors all = tokens_of(texts, COUNT);
    atomic_store(&stop, false);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pool_meanwhile, wanted), 0);
    for (int i = 0; i < 100; i++) {
        emb_token_vectors again = tokens_of(texts, COUNT);
        assert_memory_equal(again.vectors, all.vectors, all.offsets[COUNT] * all.dimension * sizeof(float));
        emb_token_vectors_fini(&again);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    emb_token_vectors_fini(&all);
    free(wanted);
    close_all();
}

static void test_no_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    open_all(DATA "bert", 1);
    emb_token_vectors v = tokens_of(texts, COUNT); /* what the engine keeps is there now */
    emb_token_vectors_fini(&v);
    for (size_t n = 1;; n++) {
        emb_error err;
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_model_embed_tokens(model, texts, NULL, NULL, COUNT, NULL, &v, NULL, &err);
        bool failed = fail_alloc_stop();
        assert_int_equal(status, failed ? EMB_E_NOMEM : EMB_OK);
        emb_token_vectors_fini(&v);
        assert_int_equal(fail_alloc_live(), live);
        if (!failed)
            break;
    }
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mean),      cmocka_unit_test(test_alone_and_together),
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_beside_pooling),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
