/* Many callers: concurrency, deadlines, cancellation, overload, priority, fairness, closing under load. The
 * order of passes is made certain by holding the compute threads while calls are queued. */
#include "base/clock.h"
#include "engine_fixture.h"

static int setup(void **state)
{
    (void)state;
    fake_model_reset();
    return 0;
}

static void check_released(void)
{
    assert_int_equal(fake.open_encoders, 0);
    assert_int_equal(fake.open_workspaces, 0);
}

/* ---- concurrency ----------------------------------------------------------------------------- */

enum { CALLERS = 12, ROUNDS = 60 };

static void *many_calls(void *argument)
{
    emb_model *model = argument;
    unsigned seed = (unsigned)(uintptr_t)pthread_self() >> 8;
    for (int round = 0; round < ROUNDS; round++) {
        job j;
        unsigned kind = (unsigned)rand_r(&seed) % 10;
        size_t count = kind == 0 ? 700 : kind < 4 ? 1 + (size_t)rand_r(&seed) % 20 : 1;
        job_init(&j, model, (char)('a' + rand_r(&seed) % 26), count, (size_t)rand_r(&seed) % 80);
        j.options.priority = rand_r(&seed) % 4 ? EMB_PRIORITY_INTERACTIVE : EMB_PRIORITY_BULK;
        j.options.normalize = (emb_switch)(rand_r(&seed) % 3);
        if (kind == 9)
            j.options.timeout_ms = 60000;
        job_run(&j);
        assert_int_equal(j.status, EMB_OK);
        float want[FAKE_DIMENSION];
        fake_vector(j.text, j.length, want);
        want[4] = (float)j.options.normalize;
        for (size_t i = 0; i < j.count; i++)
            assert_memory_equal(j.out + i * FAKE_DIMENSION, want, sizeof want);
        assert_int_equal(j.usage.tokens, count * ((j.length < 62 ? j.length : 62) + 2));
        job_fini(&j);
    }
    return NULL;
}

static void run_many(unsigned threads)
{
    emb_engine *engine = open_engine(threads);
    emb_model *a = open_model(engine, fake_model_make("a", NULL), false);
    emb_model *b = open_model(engine, fake_model_make("b", NULL), true);
    pthread_t callers[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, many_calls, i % 3 ? a : b), 0);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], NULL);
    assert_nothing_waits(engine);
    emb_model_close(a);
    emb_model_close(b);
    emb_engine_close(engine);
    check_released();
}

static void mixed_callers(void **state)
{
    (void)state;
    run_many(1);
    run_many(2);
    run_many(5);
}

/* Small calls of several callers share passes. */
static void callers_share_a_pass(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job jobs[20];
    emb_engine_hold(engine);
    for (int i = 0; i < 20; i++) {
        job_init(&jobs[i], model, (char)('a' + i), 1, 10);
        if (i == 7)
            jobs[i].options.pooling = EMB_POOLING_MAX; /* cannot share with the others */
        job_start(&jobs[i]);
        wait_queued(engine, (size_t)i + 1);
    }
    emb_engine_release(engine);
    for (int i = 0; i < 20; i++) {
        job_join(&jobs[i]);
        assert_int_equal(jobs[i].status, EMB_OK);
        if (i != 7)
            job_check_vectors(&jobs[i]);
        job_fini(&jobs[i]);
    }
    assert_int_equal(fake.passes, 2);
    assert_int_equal(fake.log[0].sequences, 19);
    assert_int_equal(fake.log[1].sequences, 1);
    emb_model_close(model);
    emb_engine_close(engine);
}

/* ---- deadlines and cancellation -------------------------------------------------------------- */

static void deadline_in_queue(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job small, large;
    emb_engine_hold(engine);
    job_init(&small, model, 's', 1, 5);
    job_init(&large, model, 'l', 100000, 50);
    small.options.timeout_ms = large.options.timeout_ms = 20;
    job_run(&small);
    job_run(&large);
    assert_int_equal(small.status, EMB_E_DEADLINE);
    assert_int_equal(large.status, EMB_E_DEADLINE);
    assert_nothing_waits(engine);
    emb_engine_release(engine);
    assert_int_equal(fake.passes, 0);
    job_fini(&small);
    job_fini(&large);
    emb_model_close(model);
    emb_engine_close(engine);
}

/* The caller leaves while a pass with its texts runs; what it leaves is not written to any more. */
static void leave_during_pass(bool cancel)
{
    emb_engine *engine = open_engine(2);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job leaving, staying;
    int flag = 0;
    job_init(&leaving, model, 'l', 5000, 50);
    job_init(&staying, model, 's', 300, 20);
    if (cancel)
        leaving.options.cancel = &flag;
    else
        leaving.options.timeout_ms = 60;
    fake_gate(true);
    job_start(&leaving);
    fake_wait_gate(2); /* both threads are in passes with it */
    job_start(&staying);
    __atomic_store_n(&flag, 1, __ATOMIC_RELAXED);
    job_join(&leaving); /* although the gate is closed */
    assert_int_equal(leaving.status, cancel ? EMB_E_CANCELLED : EMB_E_DEADLINE);
    for (size_t i = 0; i < leaving.count * FAKE_DIMENSION; i++)
        assert_true(leaving.out[i] == 0);
    job_fini(&leaving);
    fake_gate(false);
    job_join(&staying);
    assert_int_equal(staying.status, EMB_OK);
    job_check_vectors(&staying);
    job_fini(&staying);
    assert_nothing_waits(engine);
    emb_model_close(model);
    emb_engine_close(engine);
    check_released();
}

static void deadline_during_pass(void **state)
{
    (void)state;
    leave_during_pass(false);
}

static void cancel_during_pass(void **state)
{
    (void)state;
    leave_during_pass(true);
}

static void cancelled_beforehand(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job j;
    int flag = 1;
    job_init(&j, model, 'a', 1, 5);
    j.options.cancel = &flag;
    job_run(&j);
    assert_int_equal(j.status, EMB_E_CANCELLED);
    flag = 0;
    job_run(&j);
    assert_int_equal(j.status, EMB_OK);
    job_check_vectors(&j);
    job_fini(&j);
    emb_model_close(model);
    emb_engine_close(engine);
}

/* ---- overload -------------------------------------------------------------------------------- */

static void busy(void **state)
{
    (void)state;
    emb_engine_options options = EMB_ENGINE_OPTIONS_INIT;
    options.threads = 1;
    options.queue_tokens = 100;
    emb_engine *engine;
    OK(emb_engine_open(&options, &engine, err));
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job first, small, refused;
    emb_engine_hold(engine);
    job_init(&first, model, 'a', 1, 50);
    job_start(&first);
    wait_queued(engine, 1);
    job_init(&small, model, 'b', 1, 40);
    job_start(&small);
    wait_queued(engine, 2);
    job_init(&refused, model, 'c', 1, 30);
    job_run(&refused);
    assert_int_equal(refused.status, EMB_E_BUSY);
    assert_true(emb_status_retryable(refused.status));
    assert_non_null(strstr(refused.error.message, "100"));
    emb_engine_release(engine);
    job_join(&first);
    job_join(&small);
    assert_int_equal(first.status, EMB_OK);
    assert_int_equal(small.status, EMB_OK);
    /* a call that is larger than the limit, when nothing waits */
    emb_engine_hold(engine);
    job large;
    job_init(&large, model, 'd', 500, 50);
    job_start(&large);
    wait_queued(engine, 1);
    emb_engine_release(engine);
    job_join(&large);
    assert_int_equal(large.status, EMB_OK);
    job_run(&refused); /* there is room again */
    assert_int_equal(refused.status, EMB_OK);
    job_fini(&first);
    job_fini(&small);
    job_fini(&refused);
    job_fini(&large);
    emb_model_close(model);
    emb_engine_close(engine);
}

/* ---- order ----------------------------------------------------------------------------------- */

static void run_held(emb_engine *engine, job *jobs, size_t count)
{
    emb_engine_hold(engine);
    for (size_t i = 0; i < count; i++) {
        job_start(&jobs[i]);
        wait_queued(engine, i + 1);
    }
    emb_engine_release(engine);
    for (size_t i = 0; i < count; i++) {
        job_join(&jobs[i]);
        assert_int_equal(jobs[i].status, EMB_OK);
    }
}

static void interactive_before_bulk(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job jobs[3];
    job_init(&jobs[0], model, 'b', 500, 40);
    job_init(&jobs[1], model, 'i', 100, 40);
    job_init(&jobs[2], model, 'j', 1, 40);
    jobs[0].options.priority = EMB_PRIORITY_BULK;
    run_held(engine, jobs, 3);
    assert_true(first_pass('b') > last_pass('i'));
    assert_true(first_pass('b') > last_pass('j'));
    for (int i = 0; i < 3; i++)
        job_fini(&jobs[i]);
    emb_model_close(model);
    emb_engine_close(engine);
}

/* Bulk work gets a turn now and then, however much interactive work there is. */
static void bulk_is_not_starved(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job jobs[2];
    job_init(&jobs[0], model, 'b', 1, 40);
    job_init(&jobs[1], model, 'i', 1500, 40); /* 60 passes of 10 ms */
    jobs[0].options.priority = EMB_PRIORITY_BULK;
    fake.pass_us = 10000;
    run_held(engine, jobs, 2);
    assert_true(first_pass('b') >= 2);
    assert_true(first_pass('b') <= 15);
    assert_true(last_pass('i') > 40);
    job_fini(&jobs[0]);
    job_fini(&jobs[1]);
    emb_model_close(model);
    emb_engine_close(engine);
}

/* A small call waits for at most one pass of each call before it. */
static void huge_call_does_not_starve(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job jobs[4];
    job_init(&jobs[0], model, 'h', 4000, 50);
    job_init(&jobs[1], model, 'k', 4000, 50);
    job_init(&jobs[2], model, 's', 1, 20);
    job_init(&jobs[3], model, 't', 3, 20);
    run_held(engine, jobs, 4);
    assert_int_equal(first_pass('h'), 0);
    assert_int_equal(first_pass('k'), 1);
    assert_true(last_pass('s') <= 2); /* earlier if a pass before had room for it */
    assert_true(last_pass('t') <= 2);
    /* the huge ones take turns: both are under way until the end */
    size_t h = last_pass('h'), k = last_pass('k');
    assert_true((h > k ? h - k : k - h) <= 4);
    for (int i = 0; i < 4; i++) {
        job_check_vectors(&jobs[i]);
        job_fini(&jobs[i]);
    }
    emb_model_close(model);
    emb_engine_close(engine);
}

/* A model with one caller gets as many passes as one with ten. */
static void models_take_turns(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    emb_model *a = open_model(engine, fake_model_make("a", NULL), false);
    emb_model *b = open_model(engine, fake_model_make("b", NULL), false);
    job jobs[11];
    for (int i = 0; i < 10; i++)
        job_init(&jobs[i], a, 'x', 300, 50);
    job_init(&jobs[10], b, 'y', 300, 50);
    run_held(engine, jobs, 11);
    size_t of_b = last_pass('y') + 1, b_passes = 0;
    for (size_t i = 0; i < of_b; i++)
        b_passes += fake.log[i].model == 'b';
    assert_true(b_passes >= 15);
    assert_true(of_b <= 2 * b_passes + 1);
    for (int i = 0; i < 11; i++) {
        job_check_vectors(&jobs[i]);
        job_fini(&jobs[i]);
    }
    emb_model_close(a);
    emb_model_close(b);
    emb_engine_close(engine);
}

/* What waits is divided over the threads, also when it is less than a pass for each. */
static void small_queue_is_divided(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(2);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job j;
    job_init(&j, model, 'a', 20, 38); /* 800 tokens: less than one pass */
    fake_gate(true);
    job_start(&j);
    fake_wait_gate(2);
    fake_gate(false);
    job_join(&j);
    assert_int_equal(j.status, EMB_OK);
    job_check_vectors(&j);
    assert_true(fake.log[0].tokens >= 300 && fake.log[0].tokens <= 500);
    job_fini(&j);
    emb_model_close(model);
    emb_engine_close(engine);
}

/* ---- closing --------------------------------------------------------------------------------- */

typedef struct closing {
    emb_model *model;
    atomic_size_t done, refused;
} closing;

static void *call_until_closed(void *argument)
{
    closing *c = argument;
    for (;;) {
        job j;
        job_init(&j, c->model, 'a', 40, 30);
        job_run(&j);
        if (j.status == EMB_OK)
            job_check_vectors(&j);
        emb_status status = j.status;
        job_fini(&j);
        if (status == EMB_E_CLOSED) {
            atomic_fetch_add(&c->refused, 1);
            return NULL;
        }
        assert_int_equal(status, EMB_OK);
        atomic_fetch_add(&c->done, 1);
    }
}

/* Running calls end well, later ones are refused, and the model may be closed after its engine. */
static void close_under_load(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(2);
    closing c = {.model = open_model(engine, fake_model_make("one", NULL), false)};
    pthread_t callers[6];
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, call_until_closed, &c), 0);
    while (atomic_load(&c.done) < 50)
        usleep(100);
    emb_engine_close(engine);
    for (int i = 0; i < 6; i++)
        pthread_join(callers[i], NULL);
    assert_int_equal(atomic_load(&c.refused), 6);
    emb_model_info info = EMB_MODEL_INFO_INIT;
    emb_model_get_info(c.model, &info);
    assert_string_equal(info.name, "one");
    emb_model_close(c.model);
    check_released();
}

static void *close_model(void *argument)
{
    emb_model_close(argument);
    return NULL;
}

/* Closing waits for a call that is under way on another thread. */
static void close_model_waits(void **state)
{
    (void)state;
    emb_engine *engine = open_engine(1);
    emb_model *model = open_model(engine, fake_model_make("one", NULL), false);
    job j;
    job_init(&j, model, 'a', 100, 30);
    fake_gate(true);
    job_start(&j);
    fake_wait_gate(1);
    pthread_t closer;
    assert_int_equal(pthread_create(&closer, NULL, close_model, model), 0);
    usleep(20000); /* gives a wrong close the time to do harm; nothing depends on it */
    assert_false(atomic_load(&j.finished));
    fake_gate(false);
    job_join(&j);
    pthread_join(closer, NULL);
    assert_int_equal(j.status, EMB_OK);
    job_check_vectors(&j);
    job_fini(&j);
    check_released();
    emb_engine_close(engine);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(mixed_callers),
        TEST(callers_share_a_pass),
        TEST(deadline_in_queue),
        TEST(deadline_during_pass),
        TEST(cancel_during_pass),
        TEST(cancelled_beforehand),
        TEST(busy),
        TEST(interactive_before_bulk),
        TEST(bulk_is_not_starved),
        TEST(huge_call_does_not_starve),
        TEST(models_take_turns),
        TEST(small_queue_is_divided),
        TEST(close_under_load),
        TEST(close_model_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
