/*
 * Every small model of tests/data/models in every precision and instruction set, against vectors that an
 * independent float64 implementation computed (tests/golden), and the promise that a text's vector has
 * the same bits in every batch and with every sharing of the work.
 */
#include "model_checks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static const char *const models[] = {
    "bert",       "bert-prefixed-f16", "bert-old-names-bf16", "bert-sharded",
    "bert-plain", "bert-no-pooling",   "bert-concatenated",   "bert-prompt",
    "bert-wide",  "roberta",           "xlm-roberta",         "xlm-roberta-dense",
    "mpnet",      "mpnet-prefixed",    "distilbert",
};
static const struct {
    emb_precision precision;
    double least;
} precisions[] = {{EMB_PRECISION_FP32, 0.999999}, {EMB_PRECISION_BF16, 0.9999}, {EMB_PRECISION_INT8, 0.99}};

typedef void (*check)(const char *name, const emb_encoder *encoder, const golden *g, double least);

static void with_model(const char *model, const emb_kernels *kernels, size_t precision, const golden *g,
                       check check_it)
{
    char path[512], name[256];
    emb_model_spec spec;
    emb_encoder *encoder;
    emb_error err = {0};
    snprintf(path, sizeof path, "%s/models/%s", EMB_TEST_DATA, model);
    if (emb_model_spec_read(&spec, path, &err))
        fail_msg("%s: %s", model, err.message);
    if (emb_encoder_open(&spec, kernels, precisions[precision].precision, &encoder, &err))
        fail_msg("%s: %s", model, err.message);
    assert_int_equal(emb_encoder_precision(encoder), precisions[precision].precision);
    assert_int_equal(spec.dimension, g->dimension);
    uint64_t saved = kernels->thread_begin();
    snprintf(name, sizeof name, "%s, %s, %s", model, kernels->name,
             emb_precision_name(precisions[precision].precision));
    check_it(name, encoder, g, precisions[precision].least);
    kernels->thread_end(saved);
    emb_encoder_close(encoder);
    emb_model_spec_fini(&spec);
}

static void everywhere(check check_it)
{
    size_t tables;
    const emb_isa *isas = emb_kernels_all(&tables);
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        char path[512];
        snprintf(path, sizeof path, "%s/models/%s.golden.json", EMB_TEST_DATA, models[m]);
        golden g = read_golden(path);
        for (size_t i = 0; i < tables; i++)
            for (size_t p = 0; isas[i].kernels && isas[i].supported() && p < 3; p++)
                with_model(models[m], isas[i].kernels, p, &g, check_it);
        free_golden(&g);
    }
}

static void check_golden(const char *name, const emb_encoder *encoder, const golden *g, double least)
{
    emb_workspace w;
    emb_error err;
    float vector[1024];
    assert_int_equal(emb_workspace_open(&w, encoder, 4096, &err), EMB_OK);
    for (size_t i = 0; i < g->count; i++) {
        run_batch(encoder, &w, g, &i, 1, NULL, vector);
        double cosine = cosine_of(vector, g->vectors[i], g->dimension);
        if (!(cosine >= least))
            fail_msg("%s, text %zu of %zu tokens: cosine %.8f, at least %.6f is needed", name, i,
                     g->lengths[i], cosine, least);
    }
    emb_workspace_close(&w);
}

static void test_golden(void **state)
{
    (void)state;
    everywhere(check_golden);
}

/* The same texts alone, all together, backwards, and often enough to fill several groups. */
static void check_batches(const char *name, const emb_encoder *encoder, const golden *g, double least)
{
    enum { REPEATS = 5 };
    emb_workspace w;
    emb_error err;
    size_t n = g->count * REPEATS, order[GOLDEN_MAX] = {0};
    size_t bytes = g->dimension * sizeof(float);
    float *alone = malloc(g->count * bytes), *together = malloc(n * bytes);
    (void)least;
    assert_int_equal(emb_workspace_open(&w, encoder, 1 << 20, &err), EMB_OK);
    for (size_t i = 0; i < g->count; i++)
        run_batch(encoder, &w, g, &i, 1, NULL, alone + i * g->dimension);
    for (int way = 0; way < 3; way++) {
        for (size_t i = 0; i < n; i++)
            order[i] = way == 0 ? i % g->count : way == 1 ? (n - 1 - i) % g->count : i * 7 % g->count;
        run_batch(encoder, &w, g, order, n, NULL, together);
        for (size_t i = 0; i < n; i++)
            if (memcmp(together + i * g->dimension, alone + order[i] * g->dimension, bytes) != 0)
                fail_msg("%s: text %zu has other bits in a batch (order %d)", name, order[i], way);
    }
    emb_workspace_close(&w);
    free(alone);
    free(together);
}

static void test_batches(void **state)
{
    (void)state;
    everywhere(check_batches);
}

typedef struct helper {
    emb_team *team;
    const emb_kernels *kernels;
    atomic_bool stop;
} helper;

static void *help(void *args)
{
    helper *h = args;
    while (!atomic_load(&h->stop)) {
        if (emb_team_active(h->team))
            emb_team_help(h->team);
        usleep(10);
    }
    return NULL;
}

static void check_team(const char *name, const emb_encoder *encoder, const golden *g, double least)
{
    enum { HELPERS = 2, ROUNDS = 4 };
    emb_workspace w;
    emb_error err;
    pthread_t threads[HELPERS];
    helper h = {.stop = false};
    size_t order[GOLDEN_MAX], bytes = g->dimension * sizeof(float);
    float *alone = malloc(g->count * bytes), *shared = malloc(g->count * bytes);
    (void)least;
    for (size_t i = 0; i < g->count; i++)
        order[i] = i;
    assert_int_equal(emb_workspace_open(&w, encoder, 4096, &err), EMB_OK);
    assert_int_equal(emb_team_open(&h.team, &err), EMB_OK);
    run_batch(encoder, &w, g, order, g->count, NULL, alone);
    emb_team_lead(h.team);
    for (size_t i = 0; i < HELPERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, help, &h), 0);
    while (emb_team_size(h.team) < HELPERS + 1)
        usleep(10);
    for (int round = 0; round < ROUNDS; round++) {
        if (round % 2 == 0) /* one by one: columns are shared; all at once: rows are */
            for (size_t i = 0; i < g->count; i++)
                run_batch(encoder, &w, g, &i, 1, h.team, shared + i * g->dimension);
        else
            run_batch(encoder, &w, g, order, g->count, h.team, shared);
        if (memcmp(alone, shared, g->count * bytes) != 0)
            fail_msg("%s: other bits with a team (round %d)", name, round);
    }
    emb_team_dismiss(h.team);
    atomic_store(&h.stop, true);
    for (size_t i = 0; i < HELPERS; i++)
        pthread_join(threads[i], NULL);
    emb_team_close(h.team);
    emb_workspace_close(&w);
    free(alone);
    free(shared);
}

static void test_team(void **state)
{
    (void)state;
    everywhere(check_team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_team),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
