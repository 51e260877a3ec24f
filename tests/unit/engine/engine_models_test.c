/* Loading: sharing, lazy loading and its failures, several models, memory that is short. */
#include "engine_fixture.h"
#include "support/fail_alloc.h"

static int setup(void **state)
{
    (void)state;
    fake_model_reset();
    return 0;
}

static void one_directory_one_model(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    const char *path = fake_model_make("one", NULL);
    char link[512], around[512];
    snprintf(link, sizeof link, "%s-link", path);
    assert_int_equal(symlink(path, link), 0);
    snprintf(around, sizeof around, "%s/../one", path);
    emb_model *a = open_model(engine, path, false), *b = open_model(engine, link, true);
    emb_model *c = open_model(engine, around, false);
    assert_int_equal(fake.loads, 1);
    assert_ptr_equal(a->core, b->core);
    assert_ptr_equal(a->core, c->core);
    emb_model_options options = EMB_MODEL_OPTIONS_INIT;
    options.precision = EMB_PRECISION_FP32; /* what AUTO came to */
    emb_model *d, *e;
    OK(emb_model_open(engine, path, &options, &d, err));
    assert_int_equal(fake.loads, 1);
    options.precision = EMB_PRECISION_INT8;
    OK(emb_model_open(engine, path, &options, &e, err));
    assert_int_equal(fake.loads, 2);
    assert_int_equal(fake.open_encoders, 2);
    emb_model_close(a);
    emb_model_close(e);
    assert_int_equal(fake.open_encoders, 1);
    job j;
    job_init(&j, b, 'x', 3, 4);
    job_run(&j);
    assert_int_equal(j.status, EMB_OK);
    job_fini(&j);
    emb_model_close(b);
    emb_model_close(c);
    emb_model_close(d);
    assert_int_equal(fake.open_encoders, 0);
    emb_engine_close(engine);
    unlink(link);
}

typedef struct opener {
    emb_engine *engine;
    const char *path;
    emb_model *model;
    emb_status status;
} opener;

static void *open_one(void *argument)
{
    opener *o = argument;
    o->status = emb_model_open(o->engine, o->path, NULL, &o->model, NULL);
    return NULL;
}

static void concurrent_opens_load_once(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    const char *path = fake_model_make("one", NULL);
    opener openers[8];
    pthread_t threads[8];
    fake.load_us = 50000;
    for (int i = 0; i < 8; i++) {
        openers[i] = (opener){.engine = engine, .path = path};
        assert_int_equal(pthread_create(&threads[i], NULL, open_one, &openers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(openers[i].status, EMB_OK);
    }
    assert_int_equal(fake.loads, 1);
    for (int i = 0; i < 8; i++)
        emb_model_close(openers[i].model);
    emb_engine_close(engine);
}

static void lazy_loads_with_first_text(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(2);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), true);
    assert_int_equal(fake.loads, 0);
    emb_tokens tokens;
    OK(emb_tokenize(model, "abc", 3, true, 0, &tokens, err));
    emb_tokens_free(&tokens);
    assert_int_equal(fake.loads, 0);
    job jobs[6];
    fake.load_us = 50000;
    for (int i = 0; i < 6; i++) {
        job_init(&jobs[i], model, 'a', 1, 4);
        job_start(&jobs[i]);
    }
    for (int i = 0; i < 6; i++) {
        job_join(&jobs[i]);
        assert_int_equal(jobs[i].status, EMB_OK);
        job_check_vectors(&jobs[i]);
        job_fini(&jobs[i]);
    }
    assert_int_equal(fake.loads, 1);
    emb_model_close(model);
    emb_engine_close(engine);
}

/* Each waiting caller gets the error of the one attempt; the next one tries again. */
static void lazy_failure_is_retried(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(2);
    emb_model *model = open_model(engine, fake_model_make("one", "broken"), true);
    job jobs[6];
    fake.load_us = 200000;
    for (int i = 0; i < 6; i++) {
        job_init(&jobs[i], model, 'a', 1, 4);
        job_start(&jobs[i]);
    }
    for (int i = 0; i < 6; i++) {
        job_join(&jobs[i]);
        assert_int_equal(jobs[i].status, EMB_E_CORRUPT);
        assert_string_equal(jobs[i].error.message, "fake weights are broken");
    }
    assert_in_range(fake.loads, 1, 5); /* 1, unless the machine stalled a thread for 200 ms */
    fake.load_us = 0;
    job_run(&jobs[0]);
    assert_int_equal(jobs[0].status, EMB_E_CORRUPT);
    fake_model_remove_file("one", "broken");
    job_run(&jobs[0]);
    assert_int_equal(jobs[0].status, EMB_OK);
    job_check_vectors(&jobs[0]);
    for (int i = 0; i < 6; i++)
        job_fini(&jobs[i]);
    emb_model_close(model);
    emb_engine_close(engine);
}

/* A caller with a deadline does not wait longer for somebody else's loading. */
static void deadline_while_loading(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), true);
    job loading, hasty;
    fake.load_us = 500000;
    job_init(&loading, model, 'a', 1, 4);
    job_init(&hasty, model, 'b', 1, 4);
    hasty.options.timeout_ms = 10;
    job_start(&loading);
    while (!fake_loads())
        usleep(100);
    job_run(&hasty);
    assert_int_equal(hasty.status, EMB_E_DEADLINE);
    assert_false(atomic_load(&loading.finished));
    job_join(&loading);
    assert_int_equal(loading.status, EMB_OK);
    job_fini(&loading);
    job_fini(&hasty);
    emb_model_close(model);
    emb_engine_close(engine);
}

static void failures_of_open(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    emb_model *model = (emb_model *)engine;
    emb_error error;
    assert_int_equal(emb_model_open(engine, fake_model_make("bad", "broken"), NULL, &model, &error),
                     EMB_E_CORRUPT);
    assert_null(model);
    assert_int_equal(emb_model_open(engine, "", NULL, &model, &error), EMB_E_INVALID);
    assert_int_equal(emb_model_open(engine, NULL, NULL, &model, &error), EMB_E_INVALID);
    assert_int_equal(emb_model_open(NULL, "x", NULL, &model, &error), EMB_E_INVALID);
    assert_int_equal(emb_model_open(engine, "/nowhere/at/all", NULL, &model, &error), EMB_E_NOT_FOUND);
    emb_model_options options = EMB_MODEL_OPTIONS_INIT;
    options.precision = (emb_precision)9;
    assert_int_equal(emb_model_open(engine, "x", &options, &model, &error), EMB_E_INVALID);
    assert_string_equal(error.where, "precision");
    assert_null(engine->cores);
    emb_engine_close(engine);
    emb_engine_options bad = EMB_ENGINE_OPTIONS_INIT;
    bad.threads = EMB_MAX_THREADS + 1;
    assert_int_equal(emb_engine_open(&bad, &engine, &error), EMB_E_INVALID);
    assert_null(engine);
    bad = (emb_engine_options)EMB_ENGINE_OPTIONS_INIT;
    bad.isa = "mmx";
    assert_int_equal(emb_engine_open(&bad, &engine, &error), EMB_E_UNSUPPORTED);
    emb_engine_close(NULL);
    emb_model_close(NULL);
    emb_tokens_free(NULL);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static emb_status embed_many(emb_engine *engine, size_t passes_at_least)
{
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job j;
    job_init(&j, model, 'a', 500, 40);
    job_run(&j);
    if (!j.status) {
        job_check_vectors(&j);
        assert_true(fake.passes >= passes_at_least);
    }
    job_fini(&j);
    emb_model_close(model);
    return j.status;
}

/* Workspaces for a whole pass cannot be had, those of 200 tokens can: the passes become smaller. */
static void batch_shrinks(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(2);
    fake.workspace_limit = 200;
    assert_int_equal(embed_many(engine, 500 * 42 / 200), EMB_OK);
    for (size_t i = 0; i < fake.passes; i++)
        assert_true(fake.log[i].tokens <= 200);
    emb_engine_close(engine);
}

/* Not even one text of the longest kind fits. */
static void no_memory_at_all(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(2);
    fake.workspace_limit = FAKE_MAX_TOKENS - 1;
    assert_int_equal(embed_many(engine, 0), EMB_E_NOMEM);
    assert_nothing_waits(engine);
    /* each of several calls that wait learns it */
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job jobs[5];
    emb_engine_hold(engine);
    for (size_t i = 0; i < 5; i++) {
        job_init(&jobs[i], model, 'a', i + 1, 40);
        job_start(&jobs[i]);
        wait_queued(engine, i + 1);
    }
    emb_engine_release(engine);
    for (size_t i = 0; i < 5; i++) {
        job_join(&jobs[i]);
        assert_int_equal(jobs[i].status, EMB_E_NOMEM);
        job_fini(&jobs[i]);
    }
    emb_model_close(model);
    assert_nothing_waits(engine);
    fake.workspace_limit = 0;
    assert_int_equal(embed_many(engine, 1), EMB_OK);
    emb_engine_close(engine);
}

/* Memory for one thread's workspace only: it does all the work. */
static void memory_for_one_thread(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(3);
    fake.workspaces_limit = 1;
    fake.pass_us = 100;
    assert_int_equal(embed_many(engine, 1), EMB_OK);
    emb_engine_close(engine);
}

/* Everything from opening to closing with the n-th allocation failing, for each n. */
static bool whole_life(size_t n, bool from)
{
    emb_engine_options options = EMB_ENGINE_OPTIONS_INIT;
    options.threads = 2;
    options.models_path = "somewhere";
    emb_engine *engine = NULL;
    emb_model *model = NULL;
    static float out[300 * FAKE_DIMENSION];
    static emb_text texts[300];
    for (size_t i = 0; i < 300; i++)
        texts[i] = (emb_text){"some text", 9};
    int32_t ids[4] = {256, 5, 6, 257};
    size_t offsets[2] = {0, 4};
    emb_error error;
    emb_tokens tokens = {0};
    emb_embed_options query = EMB_EMBED_OPTIONS_INIT;
    query.role = EMB_ROLE_QUERY;
    const char *path = fake_model_make("one", "prompts exclude");
    (from ? fail_alloc_from : fail_alloc_at)(n);
    emb_status s = emb_engine_open(&options, &engine, &error);
    if (!s && !(s = emb_model_open(engine, path, NULL, &model, &error)) &&
        !(s = emb_embed(model, texts, 1, &query, out, FAKE_DIMENSION, NULL, &error)) &&
        !(s = emb_embed(model, texts, 300, NULL, out, 300 * FAKE_DIMENSION, NULL, &error)) &&
        !(s = emb_embed_ids(model, ids, offsets, 1, NULL, out, FAKE_DIMENSION, NULL, &error)))
        s = emb_tokenize(model, "text", 4, true, 0, &tokens, &error);
    emb_tokens_free(&tokens);
    emb_model_close(model);
    emb_engine_close(engine);
    bool failed = fail_alloc_stop();
    if (!failed)
        assert_int_equal(s, EMB_OK);
    else if (s)
        assert_true(s == EMB_E_NOMEM || s == EMB_E_NOT_FOUND || s == EMB_E_IO);
    assert_int_equal(fake.open_encoders, 0);
    assert_int_equal(fake.open_workspaces, 0);
    return failed;
}

static void each_allocation_fails(void **state)
{
    (void)state;
    if (!fail_alloc_available()) {
        print_message("skipped: the sanitizer has its own malloc\n");
        skip();
    }
    whole_life(1 << 20, false); /* what the C library allocates once */
    for (int from = 0; from < 2; from++) {
        size_t n = 1;
        for (bool failed = true; failed; n++) {
            size_t live = fail_alloc_live();
            failed = whole_life(n, from);
            if (fail_alloc_live() != live)
                fail_msg("allocation %zu: %zu were live before, %zu after", n, live, fail_alloc_live());
        }
        assert_true(n > 20);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(one_directory_one_model), TEST(concurrent_opens_load_once), TEST(lazy_loads_with_first_text),
        TEST(lazy_failure_is_retried), TEST(deadline_while_loading),     TEST(failures_of_open),
        TEST(batch_shrinks),           TEST(no_memory_at_all),           TEST(memory_for_one_thread),
        TEST(each_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
