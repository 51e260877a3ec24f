/* The registry of served models, with a fake model: names, opening once, room, idle models, fetching. */
#include "service_fixture.h"

#include <openssl/err.h>

static emb_engine *engine;
static emb_config *config;
static emb_metrics *metrics;
static emb_models *models;

static void start(emb_config *with)
{
    emb_engine_options options = EMB_ENGINE_OPTIONS_INIT;
    options.threads = 1;
    config = with;
    OK(emb_engine_open(&options, &engine, err));
    OK(emb_metrics_open(&metrics, err));
    OK(emb_models_open(engine, config, metrics, &models, err));
}

static void stop(void)
{
    emb_models_close(models);
    emb_metrics_close(metrics);
    emb_engine_close(engine);
    emb_config_release(config);
    assert_int_equal(fake.open_encoders, 0);
}

static int setup(void **state)
{
    (void)state;
    fake_model_reset();
    return 0;
}

static emb_served *acquire(const char *name)
{
    emb_served *served = NULL;
    OK(emb_models_acquire(models, name, NULL, &served, err));
    return served;
}

/* Brings in the weights. */
static void use(emb_served *served)
{
    emb_text text = {"abc", 3};
    float out[FAKE_DIMENSION];
    OK(emb_embed(served->model, &text, 1, NULL, out, FAKE_DIMENSION, NULL, err));
    emb_models_used(models, served);
}

static void use_once(const char *name)
{
    emb_served *served = acquire(name);
    use(served);
    emb_models_release(served);
}

static bool is_open(const char *name)
{
    emb_served *served = emb_models_try_acquire(models, name);
    emb_models_release(served);
    return served != NULL;
}

/* ---- names ----------------------------------------------------------------------------------- */

static void names_of_one_model_share_it(void **state)
{
    (void)state;
    fake_model_make("one", NULL);
    fake_model_make("all-MiniLM-L6-v2", NULL);
    start(make_config(NULL));
    static const char *const names[] = {"all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2",
                                        "ALL-minilm-l6-V2"};
    emb_served *first = acquire(names[0]);
    assert_string_equal(first->name, "all-MiniLM-L6-v2");
    assert_string_equal(first->repository, "sentence-transformers/all-MiniLM-L6-v2");
    assert_int_equal(strlen(first->revision), 12);
    for (size_t i = 1; i < 3; i++) {
        emb_served *other = acquire(names[i]);
        assert_ptr_equal(other, first);
        emb_models_release(other);
    }
    emb_served *standard = acquire(NULL), *empty = acquire(""), *named = acquire("one");
    assert_ptr_equal(standard, empty);
    assert_ptr_equal(standard, named);
    assert_string_equal(standard->name, "one");
    assert_string_equal(emb_models_default_name(models), "one");
    emb_models_release(standard);
    emb_models_release(empty);
    emb_models_release(named);
    emb_models_release(first);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_MODEL_LOADS, 1, "ok"), 2);
    stop();
}

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define OTHER_COMMIT "fedcba9876543210fedcba9876543210fedcba98"

static void hub_models_have_their_commit(void **state)
{
    (void)state;
    make_file("models--acme--tiny/refs/main", COMMIT "\n");
    make_file("models--acme--tiny/snapshots/" COMMIT "/config.json", "");
    make_file("models--BAAI--bge-small-en-v1.5/snapshots/" COMMIT "/config.json", "");
    start(make_config("models-unload_seconds", "0", NULL));
    emb_served *tiny = acquire("acme/tiny");
    assert_string_equal(tiny->name, "acme/tiny");
    assert_string_equal(tiny->repository, "acme/tiny");
    assert_string_equal(tiny->revision, COMMIT);
    emb_served *bge = acquire("BAAI/bge-small-en-v1.5");
    assert_string_equal(bge->name, "bge-small-en-v1.5");
    assert_string_equal(bge->repository, "BAAI/bge-small-en-v1.5");
    emb_arena arena;
    emb_arena_init(&arena);
    assert_string_equal(emb_served_space(bge, 0, EMB_POOLING_MODEL, EMB_DEFAULT, &arena),
                        "local/bge-small-en-v1.5@0123456789ab:6:mean:none");
    assert_string_equal(emb_served_space(bge, 3, EMB_POOLING_CLS, EMB_ON, &arena),
                        "local/bge-small-en-v1.5@0123456789ab:3:cls:l2");
    emb_arena_fini(&arena);
    emb_models_release(tiny);
    emb_models_release(bge);
    stop();
}

/* After an unload the directory is looked up again: a pull may have moved refs/main. */
static void a_closed_model_is_found_anew(void **state)
{
    (void)state;
    fake_model_make("one", NULL);
    make_file("models--acme--tiny/refs/main", COMMIT);
    make_file("models--acme--tiny/snapshots/" COMMIT "/config.json", "");
    start(make_config("models-memory", "1", NULL));
    use_once("acme/tiny");
    make_file("models--acme--tiny/refs/main", OTHER_COMMIT);
    make_file("models--acme--tiny/snapshots/" OTHER_COMMIT "/config.json", "");
    emb_served *still = acquire("acme/tiny");
    assert_string_equal(still->revision, COMMIT);
    emb_models_release(still);
    fake_model_make("two", NULL);
    use_once("two"); /* makes tiny go */
    assert_false(is_open("acme/tiny"));
    emb_served *now = acquire("acme/tiny");
    assert_string_equal(now->revision, OTHER_COMMIT);
    emb_models_release(now);
    stop();
}

static void callers_cannot_name_directories(void **state)
{
    (void)state;
    const char *path = fake_model_make("one", NULL);
    char dotted[600], inside[600];
    snprintf(dotted, sizeof dotted, "%s/../%s", path, strrchr(path, '/') + 1);
    snprintf(inside, sizeof inside, "x/../one");
    start(make_config(NULL));
    emb_served *served;
    FAILS(EMB_E_UNSUPPORTED, "model", emb_models_acquire(models, path, NULL, &served, err));
    FAILS(EMB_E_UNSUPPORTED, "model", emb_models_acquire(models, dotted, NULL, &served, err));
    FAILS(EMB_E_UNSUPPORTED, "model", emb_models_acquire(models, "/nonexistent/x", NULL, &served, err));
    FAILS(EMB_E_UNSUPPORTED, "model", emb_models_acquire(models, "~/one", NULL, &served, err));
    FAILS(EMB_E_UNSUPPORTED, "model", emb_models_acquire(models, "./one", NULL, &served, err));
    FAILS(EMB_E_UNSUPPORTED, "model", emb_models_acquire(models, inside, NULL, &served, err));
    /* The working directory is the source tree: this is a model directory relative to it. */
    FAILS(EMB_E_NOT_FOUND, "model",
          emb_models_acquire(models, "tests/data/configs/gte-small", NULL, &served, err));
    FAILS(EMB_E_NOT_FOUND, "model", emb_models_acquire(models, "a\nb", NULL, &served, err));
    char longer[400];
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = 0;
    FAILS(EMB_E_NOT_FOUND, "model", emb_models_acquire(models, longer, NULL, &served, err));
    stop();
    /* A pattern that is a path opens what lies under it, wherever ".." or a link leads. */
    char pattern[600], link[600];
    snprintf(pattern, sizeof pattern, "%s/in/*", fake_model_root());
    make_file("in/two/config.json", "");
    snprintf(link, sizeof link, "%s/in/link", fake_model_root());
    assert_int_equal(symlink(path, link), 0);
    start(make_config("models-allowed", pattern, NULL));
    snprintf(inside, sizeof inside, "%s/in/two", fake_model_root());
    emb_served *two = acquire(inside);
    assert_string_equal(two->name, "two");
    emb_models_release(two);
    FAILS(EMB_E_UNSUPPORTED, "model", emb_models_acquire(models, path, NULL, &served, err));
    FAILS(EMB_E_UNSUPPORTED, "model", emb_models_acquire(models, link, NULL, &served, err));
    stop();
}

static void unknown_names_are_helped(void **state)
{
    (void)state;
    fake_model_make("one", NULL);
    fake_model_make("embedder-base", NULL);
    start(make_config(NULL));
    emb_served *served;
    emb_error error;
    assert_int_equal(emb_models_acquire(models, "embeder-base", NULL, &served, &error), EMB_E_NOT_FOUND);
    assert_string_equal(error.where, "model");
    assert_non_null(strstr(error.message, "embedder-base"));
    assert_null(strstr(error.message, fake_model_root())); /* callers need not know where models lie */
    FAILS(EMB_E_NOT_FOUND, "openai",
          emb_models_acquire(models, "text-embedding-3-small", NULL, &served, err));
    assert_null(served);
    stop();
}

static void allowed_bounds_what_is_opened(void **state)
{
    (void)state;
    fake_model_make("one", NULL);
    fake_model_make("bge-x", NULL);
    fake_model_make("other", NULL);
    start(make_config("models-allowed", "bge-*, sentence-transformers/*", NULL));
    emb_served *served;
    FAILS(EMB_E_UNSUPPORTED, "models.allowed", emb_models_acquire(models, "other", NULL, &served, err));
    FAILS(EMB_E_UNSUPPORTED, "models.allowed", emb_models_acquire(models, "absent", NULL, &served, err));
    /* It is the directory's name that counts, not what a caller puts before it. */
    FAILS(EMB_E_UNSUPPORTED, "models.allowed",
          emb_models_acquire(models, "bge-org/other", NULL, &served, err));
    FAILS(EMB_E_NOT_FOUND, "model", emb_models_acquire(models, "bge-absent", NULL, &served, err));
    FAILS(EMB_E_NOT_FOUND, "model", emb_models_acquire(models, "BAAI/bge-m3", NULL, &served, err));
    emb_models_release(acquire("bge-x"));
    emb_models_release(acquire(NULL)); /* the default is the operator's own */
    emb_config *other = make_config("models-allowed", "other", NULL);
    emb_models_reconfigure(models, other);
    emb_config_release(other);
    assert_false(is_open("bge-x"));
    FAILS(EMB_E_UNSUPPORTED, "model", emb_models_acquire(models, "bge-x", NULL, &served, err));
    emb_models_release(acquire("other"));
    assert_true(is_open("one"));
    stop();
}

static void patterns(void **state)
{
    (void)state;
    const char *bge[] = {"bge-m3", "BAAI/bge-m3"};
    assert_true(emb_names_allow("", bge, 2));
    assert_true(emb_names_allow(" , ", bge, 2));
    assert_true(emb_names_allow("x, bge-m3", bge, 2));
    assert_true(emb_names_allow("BGE-M*", bge, 2));
    assert_true(emb_names_allow("baai/*", bge, 2));
    assert_true(emb_names_allow("*-m3", bge, 2));
    assert_true(emb_names_allow("*/bge*", bge, 2));
    assert_true(emb_names_allow("*", bge, 2));
    assert_false(emb_names_allow("bge-m", bge, 2));
    assert_false(emb_names_allow("bge-m33", bge, 2));
    assert_false(emb_names_allow("m3", bge, 2));
    assert_false(emb_names_allow("*x*", bge, 2));
}

/* ---- room ------------------------------------------------------------------------------------ */

static void least_recently_used_goes(void **state)
{
    (void)state;
    static const char *const names[] = {"one", "two", "three", "four"};
    for (size_t i = 0; i < 4; i++)
        fake_model_make(names[i], NULL);
    start(make_config("models-memory", "12000", "models-preload", "two", NULL)); /* three of 4,000 bytes */
    OK(emb_models_pin(models, "one", false, NULL, err));
    OK(emb_models_pin(models, "two", false, NULL, err));
    use_once("one");
    use_once("two");
    use_once("three");
    assert_int_equal(emb_models_loaded(models), 3);
    use_once("four");
    assert_int_equal(emb_models_loaded(models), 3);
    assert_false(is_open("three")); /* the oldest are pinned */
    assert_true(is_open("one") && is_open("two") && is_open("four"));
    use_once("three");
    assert_false(is_open("four"));
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_MODEL_LOADS, 1, "unloaded"), 2);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_MODELS_LOADED, -1, NULL), 3);
    assert_int_equal(fake.open_encoders, 3);
    stop();
}

static void held_models_stay_until_released(void **state)
{
    (void)state;
    fake_model_make("one", NULL);
    fake_model_make("two", NULL);
    fake_model_make("three", NULL);
    start(make_config("models-memory", "5000", NULL));
    emb_served *two = acquire("two"), *three = acquire("three");
    use(two);
    use(three);
    assert_int_equal(emb_models_loaded(models), 2); /* over the limit, but both are held */
    use(two);
    emb_models_release(three);
    assert_int_equal(emb_models_loaded(models), 1 + (fake.open_encoders == 2));
    emb_models_release(two);
    assert_int_equal(emb_models_loaded(models), 1);
    assert_int_equal(fake.open_encoders, 1);
    stop();
}

static void the_last_one_used_works_over_the_limit(void **state)
{
    (void)state;
    fake_model_make("one", NULL);
    fake_model_make("two", NULL);
    start(make_config("models-memory", "1", NULL));
    for (size_t i = 0; i < 5; i++)
        use_once("two");
    assert_int_equal(fake_loads(), 1);
    stop();
}

static void idle_models_go(void **state)
{
    (void)state;
    fake_model_make("one", NULL);
    fake_model_make("two", NULL);
    start(make_config(NULL));
    OK(emb_models_pin(models, "one", false, NULL, err));
    use_once("one");
    use_once("two");
    emb_served *held = acquire("two");
    emb_config *soon = make_config("models-unload_seconds", "1", NULL);
    emb_models_reconfigure(models, soon);
    emb_config_release(soon);
    usleep(1300000); /* twice the time it would have taken: it is held */
    assert_true(is_open("two"));
    emb_models_release(held);
    UNTIL(emb_models_loaded(models) == 1);
    assert_true(is_open("one"));
    assert_false(is_open("two"));
    use_once("two");
    stop();
}

/* ---- opening --------------------------------------------------------------------------------- */

static void *acquire_and_release(void *name)
{
    emb_served *served = NULL;
    emb_error err;
    if (emb_models_acquire(models, name, NULL, &served, &err))
        return (void *)1;
    emb_models_release(served);
    return NULL;
}

static void many_open_one_model_once(void **state)
{
    (void)state;
    fake_model_make("one", NULL);
    start(make_config(NULL));
    pthread_t threads[12];
    for (size_t i = 0; i < 12; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, acquire_and_release, i % 2 ? "one" : NULL), 0);
    for (size_t i = 0; i < 12; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_MODEL_LOADS, 1, "ok"), 1);
    stop();
}

typedef struct hammer {
    unsigned seed;
    size_t failures;
} hammer;

static void *hammer_models(void *context)
{
    static const char *const names[] = {"one", "two", "three", "four"};
    hammer *h = context;
    emb_text text = {"abc", 3};
    float want[FAKE_DIMENSION], out[FAKE_DIMENSION];
    fake_vector("abc", 3, want);
    for (size_t i = 0; i < 150; i++) {
        const char *name = names[(h->seed = h->seed * 1103515245 + 12345) >> 16 & 3];
        emb_served *served = emb_models_try_acquire(models, name);
        if (!served && emb_models_acquire(models, name, NULL, &served, NULL)) {
            h->failures++;
            continue;
        }
        h->failures += strcmp(served->name, name) != 0;
        h->failures += emb_embed(served->model, &text, 1, NULL, out, FAKE_DIMENSION, NULL, NULL) != EMB_OK ||
                       memcmp(out, want, sizeof want) != 0;
        emb_models_used(models, served);
        emb_models_release(served);
    }
    return NULL;
}

/* Memory for one: each use of another closes somebody's. */
static void models_come_and_go_under_load(void **state)
{
    (void)state;
    static const char *const names[] = {"one", "two", "three", "four"};
    for (size_t i = 0; i < 4; i++)
        fake_model_make(names[i], NULL);
    start(make_config("models-memory", "4000", NULL));
    pthread_t threads[6];
    hammer hammers[6];
    for (unsigned i = 0; i < 6; i++) {
        hammers[i] = (hammer){.seed = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, hammer_models, &hammers[i]), 0);
    }
    for (size_t i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(hammers[i].failures, 0);
    }
    assert_true(emb_metrics_sum(metrics, EMB_METRIC_MODEL_LOADS, 1, "unloaded") > 3);
    assert_true(emb_models_loaded(models) <= 2);
    stop();
}

/* ---- fetching -------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t calls, running;
    bool open;
    bool fails;
} hub = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Waits for the gate, then "fetches" by making the model. */
static emb_status pull(void *context, const emb_config *with, const char *name, const volatile int *cancel,
                       emb_error *err)
{
    (void)context;
    (void)with;
    pthread_mutex_lock(&hub.lock);
    hub.calls++;
    hub.running++;
    pthread_mutex_unlock(&hub.lock);
    for (bool go = false; !go;) {
        pthread_mutex_lock(&hub.lock);
        go = hub.open;
        pthread_mutex_unlock(&hub.lock);
        if (__atomic_load_n(cancel, __ATOMIC_RELAXED))
            break;
        usleep(500);
    }
    pthread_mutex_lock(&hub.lock);
    hub.running--;
    bool fails = hub.fails;
    pthread_mutex_unlock(&hub.lock);
    if (__atomic_load_n(cancel, __ATOMIC_RELAXED))
        return emb_fail(err, EMB_E_CANCELLED, NULL, "stopped");
    if (strstr(name, "absent"))
        return emb_fail(err, EMB_E_NOT_FOUND, name, "the hub has no %s", name);
    if (fails)
        return emb_fail(err, EMB_E_IO, "hub", "the hub fell over");
    char config_file[300];
    snprintf(config_file, sizeof config_file, "%s/config.json", name);
    make_file(config_file, "");
    return EMB_OK;
}

static size_t pulls_running(void)
{
    pthread_mutex_lock(&hub.lock);
    size_t n = hub.running;
    pthread_mutex_unlock(&hub.lock);
    return n;
}

static void gate(bool open, bool fails)
{
    pthread_mutex_lock(&hub.lock);
    hub.open = open;
    hub.fails = fails;
    pthread_mutex_unlock(&hub.lock);
}

static void start_hub(const char *allowed)
{
    fake_model_make("one", NULL);
    hub.calls = 0;
    gate(false, false);
    start(make_config("models-pull", "true", "models-allowed", allowed, NULL));
    emb_models_set_puller(models, pull, NULL);
}

static void one_fetch_serves_all(void **state)
{
    (void)state;
    start_hub("");
    pthread_t threads[6];
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, acquire_and_release, "acme/far"), 0);
    UNTIL(pulls_running() == 1);
    gate(true, false);
    for (size_t i = 0; i < 6; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(hub.calls, 1);
    emb_models_release(acquire("acme/far"));
    assert_int_equal(hub.calls, 1);
    stop();
}

static void callers_leave_a_fetch(void **state)
{
    (void)state;
    start_hub("");
    emb_served *served;
    volatile int cancel = 0;
    uint64_t begin = emb_now_ns();
    FAILS(EMB_E_DEADLINE, "being fetched",
          emb_models_acquire_until(models, "acme/far", &cancel, emb_now_ns() + 30000000, &served, err));
    cancel = 1;
    FAILS(EMB_E_CANCELLED, NULL, emb_models_acquire(models, "acme/far", &cancel, &served, err));
    assert_true(emb_now_ns() - begin < UINT64_C(20000000000));
    assert_int_equal(pulls_running(), 1); /* it goes on */
    gate(true, false);
    emb_models_release(acquire("acme/far"));
    assert_int_equal(hub.calls, 1);
    stop();
}

static void failed_fetches_are_told_and_tried_again(void **state)
{
    (void)state;
    start_hub("");
    emb_served *served;
    gate(true, true);
    FAILS(EMB_E_IO, "fell over", emb_models_acquire(models, "acme/far", NULL, &served, err));
    gate(true, false);
    emb_models_release(acquire("acme/far"));
    assert_int_equal(hub.calls, 2);
    stop();
}

/* A client that goes on asking for what is not there does not become a client of the hub. */
static void what_the_hub_has_not_is_asked_once(void **state)
{
    (void)state;
    start_hub("");
    emb_served *served;
    gate(true, false);
    for (size_t i = 0; i < 5; i++)
        FAILS(EMB_E_NOT_FOUND, "the hub has no acme/absent",
              emb_models_acquire(models, "acme/absent", NULL, &served, err));
    FAILS(EMB_E_NOT_FOUND, "model", emb_models_acquire(models, "acme/absent", NULL, &served, err));
    assert_int_equal(hub.calls, 1);
    FAILS(EMB_E_NOT_FOUND, "model", emb_models_acquire(models, "absent", NULL, &served, err));
    FAILS(EMB_E_NOT_FOUND, "model", emb_models_acquire(models, "a/b/absent", NULL, &served, err));
    FAILS(EMB_E_NOT_FOUND, "openai",
          emb_models_acquire(models, "text-embedding-3-large", NULL, &served, err));
    assert_int_equal(hub.calls, 1);
    stop();
}

static void few_fetches_at_a_time_and_only_of_allowed_models(void **state)
{
    (void)state;
    start_hub("acme/*");
    emb_served *served;
    volatile int gone = 0;
    char name[] = "acme/far0";
    FAILS(EMB_E_UNSUPPORTED, "models.allowed", emb_models_acquire(models, "org/near", NULL, &served, err));
    for (; name[8] < '4'; name[8]++)
        FAILS(EMB_E_DEADLINE, NULL,
              emb_models_acquire_until(models, name, &gone, emb_now_ns() + 1000000, &served, err));
    FAILS(EMB_E_BUSY, "being fetched", emb_models_acquire(models, "acme/far9", NULL, &served, err));
    UNTIL(pulls_running() == 4);
    stop(); /* ends them */
    assert_int_equal(pulls_running(), 0);
    assert_int_equal(hub.calls, 4);
}

static void nothing_is_fetched_unless_asked_for(void **state)
{
    (void)state;
    start_hub("");
    emb_config *off = make_config("models-pull", "false", NULL);
    emb_models_reconfigure(models, off);
    emb_config_release(off);
    emb_served *served;
    FAILS(EMB_E_NOT_FOUND, "model", emb_models_acquire(models, "acme/far", NULL, &served, err));
    assert_int_equal(hub.calls, 0);
    stop();
}

/* ---- listing --------------------------------------------------------------------------------- */

static const emb_model_listing *row_of(const emb_model_listing *rows, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

static void listing(void **state)
{
    (void)state;
    fake_model_make("one", NULL);
    fake_model_make("bge-m3", NULL);
    fake_model_make("secret", NULL);
    start(make_config("models-allowed", "one,bge*", NULL));
    OK(emb_models_pin(models, "one", false, NULL, err));
    use_once("one");
    emb_arena arena;
    emb_arena_init(&arena);
    emb_model_listing *rows;
    size_t count;
    OK(emb_models_list(models, &arena, &rows, &count, err));
    const emb_model_listing *one = row_of(rows, count, "one"), *bge = row_of(rows, count, "bge-m3");
    assert_ptr_equal(one, &rows[0]); /* open ones first */
    assert_true(one->open && one->loaded && one->is_default);
    assert_int_equal(one->weight_bytes, 4000);
    assert_int_equal(one->dimension, FAKE_DIMENSION);
    assert_int_equal(one->max_tokens, FAKE_MAX_TOKENS);
    assert_int_equal(strlen(one->revision), 12);
    assert_true(one->created > 1600000000);
    assert_string_equal(one->provider, "local");
    assert_non_null(bge);
    assert_false(bge->open || bge->loaded || bge->is_default);
    assert_int_equal(bge->dimension, 1024); /* from the catalog */
    assert_string_equal(bge->repository, "BAAI/bge-m3");
    assert_string_equal(bge->revision, "");
    assert_null(row_of(rows, count, "secret"));
    emb_arena_fini(&arena);
    stop();
}

/* ---- fingerprints ---------------------------------------------------------------------------- */

static void print_of(char out[EMB_REVISION_MAX])
{
    char path[512];
    snprintf(path, sizeof path, "%s/model", fake_model_root());
    OK(emb_fingerprint(path, out, err));
    assert_int_equal(strlen(out), 12);
}

static void assert_changed(char last[EMB_REVISION_MAX], bool changed)
{
    char now[EMB_REVISION_MAX];
    print_of(now);
    assert_int_equal(strcmp(now, last) != 0, changed);
    memcpy(last, now, sizeof now);
}

static void write_weights(size_t bytes, size_t at, char byte)
{
    char path[512];
    snprintf(path, sizeof path, "%s/model/model.safetensors", fake_model_root());
    FILE *stream = fopen(path, "w");
    assert_non_null(stream);
    char *data = calloc(1, bytes);
    data[at] = byte;
    assert_int_equal(fwrite(data, 1, bytes, stream), bytes);
    fclose(stream);
    free(data);
}

static void fingerprints(void **state)
{
    (void)state;
    char last[EMB_REVISION_MAX];
    make_file("model/config.json", "{}");
    make_file("model/1_Pooling/config.json", "{}");
    print_of(last);
    assert_changed(last, false);
    make_file("model/README.md", "words");
    make_file("model/onnx/model.onnx", "other weights");
    make_file("model/.cache/x.json", "{}");
    assert_changed(last, false);
    make_file("model/config.json", "{ }");
    assert_changed(last, true);
    make_file("model/1_Pooling/config.json", "{ }");
    assert_changed(last, true);
    make_file("model/vocab.txt", "a\nb\n");
    assert_changed(last, true);
    enum { SIZE = 8 << 20 };
    write_weights(SIZE, 0, 0);
    assert_changed(last, true);
    write_weights(SIZE, 5000, 1); /* in the header */
    assert_changed(last, true);
    write_weights(SIZE, SIZE - 1, 1);
    assert_changed(last, true);
    write_weights(SIZE + 1, SIZE - 1, 1);
    assert_changed(last, true);
    uint64_t stamp, other;
    char path[512];
    snprintf(path, sizeof path, "%s/model", fake_model_root());
    OK(emb_fingerprint_stamp(path, &stamp, err));
    OK(emb_fingerprint_stamp(path, &other, err));
    assert_true(stamp == other);
    write_weights(SIZE, 0, 0);
    OK(emb_fingerprint_stamp(path, &other, err));
    assert_true(stamp != other);
    FAILS(EMB_E_NOT_FOUND, NULL, emb_fingerprint("/proc/nonexistent", last, err));
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Everything from opening to closing, each allocation failing once. */
static emb_status live_once(emb_config *with)
{
    emb_models *short_lived = NULL;
    emb_served *served = NULL;
    emb_model_listing *rows;
    size_t count;
    emb_arena arena;
    emb_arena_init(&arena);
    emb_status status = emb_models_open(engine, with, metrics, &short_lived, NULL);
    if (!status)
        status =
            emb_models_acquire(short_lived, "sentence-transformers/all-MiniLM-L6-v2", NULL, &served, NULL);
    if (!status && !emb_served_space(served, 3, EMB_POOLING_MODEL, EMB_ON, &arena))
        status = EMB_E_NOMEM;
    if (!status)
        status = emb_models_list(short_lived, &arena, &rows, &count, NULL);
    emb_models_release(served);
    emb_models_close(short_lived);
    emb_arena_fini(&arena);
    return status;
}

static void each_allocation_fails(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    fake_model_make("one", NULL);
    fake_model_make("all-MiniLM-L6-v2", NULL);
    start(make_config(NULL));
    assert_int_equal(live_once(config), EMB_OK);   /* what is allocated once stays … */
    ERR_raise(ERR_LIB_USER, ERR_R_MALLOC_FAILURE); /* … as OpenSSL's list of errors does */
    ERR_clear_error();
    for (size_t n = 1;; n++) {
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = live_once(config);
        bool failed = fail_alloc_stop();
        ERR_clear_error();
        if (fail_alloc_live() != live)
            fail_msg("allocation %zu: %s, %zu of %zu left", n, emb_status_text(status), fail_alloc_live(),
                     live);
        if (!failed) {
            assert_int_equal(status, EMB_OK);
            break;
        }
        assert_true(status == EMB_OK ||
                    status == EMB_E_NOMEM); /* OK: an alias or a series that was not made */
    }
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(names_of_one_model_share_it, setup),
        cmocka_unit_test_setup(hub_models_have_their_commit, setup),
        cmocka_unit_test_setup(a_closed_model_is_found_anew, setup),
        cmocka_unit_test_setup(callers_cannot_name_directories, setup),
        cmocka_unit_test_setup(unknown_names_are_helped, setup),
        cmocka_unit_test_setup(allowed_bounds_what_is_opened, setup),
        cmocka_unit_test(patterns),
        cmocka_unit_test_setup(least_recently_used_goes, setup),
        cmocka_unit_test_setup(held_models_stay_until_released, setup),
        cmocka_unit_test_setup(the_last_one_used_works_over_the_limit, setup),
        cmocka_unit_test_setup(idle_models_go, setup),
        cmocka_unit_test_setup(many_open_one_model_once, setup),
        cmocka_unit_test_setup(models_come_and_go_under_load, setup),
        cmocka_unit_test_setup(one_fetch_serves_all, setup),
        cmocka_unit_test_setup(callers_leave_a_fetch, setup),
        cmocka_unit_test_setup(failed_fetches_are_told_and_tried_again, setup),
        cmocka_unit_test_setup(what_the_hub_has_not_is_asked_once, setup),
        cmocka_unit_test_setup(few_fetches_at_a_time_and_only_of_allowed_models, setup),
        cmocka_unit_test_setup(nothing_is_fetched_unless_asked_for, setup),
        cmocka_unit_test_setup(listing, setup),
        cmocka_unit_test_setup(fingerprints, setup),
        cmocka_unit_test_setup(each_allocation_fails, setup),
    };
    setenv("HF_HOME", "/nonexistent", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
