/* The service as a library (embedd_service.h) with a fake model: opening by settings, file and environment,
 * every function of the two interfaces, models, numbers, errors, and that nothing is left behind when memory
 * is short. */
#include "service_fixture.h"

#include <embedd_service.h>

#include <openssl/err.h>

static emb_service *service;
static char models_setting[300], data_setting[300], cache_setting[300];
static const char *usual[8];

static int setup(void **state)
{
    (void)state;
    fake_model_reset();
    fake_model_make("one", "prompts");
    fake_model_make("two", NULL);
    snprintf(models_setting, sizeof models_setting, "models.path=%s", fake_model_root());
    snprintf(data_setting, sizeof data_setting, "data.dir=%s/data", fake_model_root());
    snprintf(cache_setting, sizeof cache_setting, "cache.url=none");
    const char *settings[] = {models_setting,       data_setting,       cache_setting,
                              "models.default=two", "models.threads=1", NULL};
    memcpy(usual, settings, sizeof settings);
    return 0;
}

static emb_status create(const char *const *settings, emb_service **out, emb_error *err)
{
    emb_service_options options = EMB_SERVICE_OPTIONS_INIT;
    options.settings = settings;
    options.ignore_environment = true;
    return emb_service_create(&options, out, err);
}

static void start(void)
{
    OK(create(usual, &service, err));
}

static void stop(void)
{
    emb_service_destroy(service);
    assert_int_equal(fake.open_encoders, 0);
}

/* Row i is the text's vector; with a prompt that is part of the text. */
static void assert_row(const emb_service_result *r, size_t i, const char *text)
{
    float want[FAKE_DIMENSION];
    fake_vector(text, strlen(text), want);
    want[4] = EMB_OFF; /* the service resolves what the model does by default */
    assert_int_equal(r->dimension, FAKE_DIMENSION);
    assert_memory_equal(r->vectors + i * r->dimension, want, sizeof want);
}

static emb_text text_of(const char *text)
{
    return (emb_text){text, strlen(text)};
}

/* ---- the hybrid system's interface ----------------------------------------------------------- */

static void generates(void **state)
{
    (void)state;
    emb_service_result *r;
    start();
    OK(emb_service_generate(service, "red", 3, &r, err));
    assert_int_equal(r->size, sizeof *r);
    assert_int_equal(r->count, 1);
    assert_row(r, 0, "red");
    assert_false(r->cached[0]);
    assert_int_equal(r->tokens[0], 5);
    assert_int_equal(r->total_tokens, 5);
    assert_int_equal(r->cost_nusd, 0);
    assert_true(r->latency_ms > 0);
    assert_string_equal(r->provider, "local");
    assert_string_equal(r->model, "two");
    assert_non_null(strstr(r->space, "local/two@"));
    assert_true(*r->reason);
    emb_service_result_free(r);
    const emb_text texts[] = {text_of("blue"), text_of("red"), text_of("blue"), text_of("näß")};
    OK(emb_service_generate_many(service, texts, 4, "batch", "local", &r, err));
    assert_int_equal(r->count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_row(r, i, texts[i].data);
    assert_true(r->cached[1]);
    assert_false(r->cached[0] || r->cached[3]);
    assert_int_equal(r->cached_count, 1);
    emb_service_result_free(r);
    static const char *const contexts[] = {"default", "realtime", "analysis", "batch", "sensitive", "", NULL};
    for (size_t i = 0; i < 7; i++) {
        OK(emb_service_generate_with_metadata(service, "red", 3, contexts[i], &r, err));
        assert_true(r->cached[0]);
        assert_row(r, 0, "red");
        emb_service_result_free(r);
    }
    emb_service_result_free(NULL);
    stop();
}

/* A result outlives the service that made it. */
static void results_are_their_own(void **state)
{
    (void)state;
    emb_service_result *r;
    start();
    OK(emb_service_generate(service, "red", 3, &r, err));
    stop();
    assert_row(r, 0, "red");
    assert_string_equal(r->model, "two");
    emb_service_result_free(r);
}

/* ---- the embedder service's interface -------------------------------------------------------- */

static void embeds(void **state)
{
    (void)state;
    emb_service_result *r;
    start();
    OK(emb_service_embed_text(service, "red", 3, NULL, true, &r, err));
    assert_row(r, 0, "red");
    emb_service_result_free(r);
    OK(emb_service_embed_text(service, "red", 3, NULL, true, &r, err));
    assert_true(r->cached[0]);
    emb_service_result_free(r);
    OK(emb_service_embed_text(service, "red", 3, NULL, false, &r, err));
    assert_false(r->cached[0]);
    emb_service_result_free(r);
    OK(emb_service_embed_query(service, "red", 3, "one", true, &r, err));
    assert_string_equal(r->model, "one");
    emb_service_result *plain;
    OK(emb_service_embed_text(service, "red", 3, "one", true, &plain, err));
    assert_false(plain->cached[0]); /* keys of their own */
    assert_memory_not_equal(plain->vectors, r->vectors, FAKE_DIMENSION * sizeof(float));
    emb_service_result_free(plain);
    emb_service_result_free(r);
    const emb_text texts[] = {text_of("new"), text_of("red"), text_of("new")};
    OK(emb_service_embed_batch(service, texts, 3, NULL, true, &r, err));
    for (size_t i = 0; i < 3; i++)
        assert_row(r, i, texts[i].data);
    assert_true(r->cached[1] && !r->cached[0]);
    emb_service_result_free(r);
    stop();
}

static const emb_service_model *listed(const emb_service_model *models, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
    fail_msg("%s is not listed", name);
    return NULL;
}

static void models_and_numbers(void **state)
{
    (void)state;
    emb_service_model *models;
    emb_service_result *r;
    emb_service_numbers n = EMB_SERVICE_NUMBERS_INIT;
    size_t count;
    start();
    for (int i = 0; i < 2; i++) {
        OK(emb_service_embed_text(service, "red", 3, NULL, true, &r, err));
        emb_service_result_free(r);
    }
    OK(emb_service_model_list(service, &models, &count, err));
    assert_true(count >= 2); /* and what lies where every process looks */
    const emb_service_model *two = listed(models, count, "two"), *one = listed(models, count, "one");
    assert_true(two->is_default && two->loaded && !one->is_default && !one->loaded);
    assert_string_equal(two->provider, "local");
    assert_int_equal(two->dimension, FAKE_DIMENSION);
    assert_int_equal(two->max_input_tokens, FAKE_MAX_TOKENS);
    assert_int_equal(two->cost_nusd_per_1k_tokens, 0);
    emb_service_model_list_free(models);
    emb_service_model_list_free(NULL);
    emb_service_get_numbers(service, &n);
    assert_int_equal(n.size, sizeof n);
    assert_int_equal(n.total_requests, 2);
    assert_int_equal(n.total_texts, 2);
    assert_int_equal(n.total_embeddings_generated, 1);
    assert_int_equal(n.cache_hits, 1);
    assert_int_equal(n.total_tokens, 10);
    assert_int_equal(n.total_cost_nusd, 0);
    assert_true(n.cache_hit_rate == 0.5);
    assert_int_equal(n.models_loaded, 1);
    FAILS(EMB_E_NOT_FOUND, "none", emb_service_embed_text(service, "red", 3, "none", true, &r, err));
    emb_service_get_numbers(service, &n);
    assert_int_equal(n.total_errors, 1);
    emb_service_reset_numbers(service);
    emb_service_get_numbers(service, &n);
    assert_true(n.total_requests == 0 && n.total_texts == 0 && n.total_errors == 0 && n.cache_hit_rate == 0);
    assert_int_equal(n.models_loaded, 1);
    stop();
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void refuses(void **state)
{
    (void)state;
    emb_service_result *r = (void *)&r;
    const emb_text texts[] = {text_of("red"), text_of(" \t\n"), text_of("blue")};
    start();
    FAILS(EMB_E_INVALID, "text 0 is empty", emb_service_generate(service, "", 0, &r, err));
    assert_null(r);
    FAILS(EMB_E_INVALID, "text 1 is empty",
          emb_service_generate_many(service, texts, 3, NULL, NULL, &r, err));
    FAILS(EMB_E_INVALID, "text 1 is empty", emb_service_embed_batch(service, texts, 3, NULL, true, &r, err));
    FAILS(EMB_E_INVALID, "there is no text", emb_service_embed_batch(service, texts, 0, NULL, true, &r, err));
    FAILS(EMB_E_INVALID, "text 0 is empty", emb_service_embed_text(service, "  ", 2, NULL, true, &r, err));
    FAILS(EMB_E_INVALID, "text 0 is empty", emb_service_embed_query(service, "\n", 1, NULL, true, &r, err));
    FAILS(EMB_E_INVALID, "\"later\" is not a context",
          emb_service_generate_with_metadata(service, "red", 3, "later", &r, err));
    FAILS(EMB_E_INVALID, "preferred_provider",
          emb_service_generate_many(service, texts, 1, NULL, "nobody", &r, err));
    FAILS(EMB_E_NOT_FOUND, "none", emb_service_embed_text(service, "red", 3, "none", true, &r, err));
    assert_null(r);
    stop();
}

static void what_cannot_be_opened(void **state)
{
    (void)state;
    emb_service *none = (void *)&none;
    emb_service_options options = EMB_SERVICE_OPTIONS_INIT;
    const struct {
        const char *setting, *says;
    } bad[] = {{"models.threads", "not section.name=value"},
               {"=1", "not section.name=value"},
               {"models.threads=many", "many"},
               {"models.nothing=1", "models.nothing"},
               {"models.default=none", "none"},
               {"providers.default=openai", "openai"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *settings[] = {models_setting, data_setting, cache_setting, bad[i].setting, NULL};
        emb_error err = {0};
        if (create(settings, &none, &err) == EMB_OK)
            fail_msg("%s was taken", bad[i].setting);
        assert_null(none);
        if (!strstr(err.message, bad[i].says))
            fail_msg("%s: \"%s\" does not say %s", bad[i].setting, err.message, bad[i].says);
    }
    options.size = 3;
    FAILS(EMB_E_INVALID, "options", emb_service_create(&options, &none, err));
    options.size = sizeof options;
    options.config_file = "/nonexistent/embedd.yaml";
    options.ignore_environment = true;
    FAILS(EMB_E_NOT_FOUND, NULL, emb_service_create(&options, &none, err));
    emb_service_destroy(NULL);
}

/* ---- where settings come from ---------------------------------------------------------------- */

static const char *default_model(const emb_service_options *options)
{
    static char name[32];
    emb_service_model *models;
    size_t count;
    emb_service *opened;
    OK(emb_service_create(options, &opened, err));
    OK(emb_service_model_list(opened, &models, &count, err));
    *name = 0;
    for (size_t i = 0; i < count; i++)
        if (models[i].is_default)
            snprintf(name, sizeof name, "%s", models[i].name);
    emb_service_model_list_free(models);
    emb_service_destroy(opened);
    return name;
}

static void file_environment_and_settings(void **state)
{
    (void)state;
    char file[300];
    fake_model_make("three", NULL);
    make_file("embedd.yaml", "models:\n  default: three\n");
    snprintf(file, sizeof file, "%s/embedd.yaml", fake_model_root());
    const char *settings[] = {models_setting, data_setting, cache_setting, NULL, NULL};
    emb_service_options options = EMB_SERVICE_OPTIONS_INIT;
    options.settings = settings;
    options.config_file = file;
    setenv("LOCAL_EMBEDDING_MODEL", "one", 1);
    assert_string_equal(default_model(&options), "one"); /* the environment over the file */
    options.ignore_environment = true;
    assert_string_equal(default_model(&options), "three");
    settings[3] = "models.default=two";
    assert_string_equal(default_model(&options), "two"); /* settings over all */
    options.ignore_environment = false;
    assert_string_equal(default_model(&options), "two");
    unsetenv("LOCAL_EMBEDDING_MODEL");
}

/* ---- many callers, and short memory ---------------------------------------------------------- */

static void *caller(void *context)
{
    size_t seed = (size_t)context;
    for (size_t i = 0; i < 50; i++) {
        char text[16];
        emb_service_result *r;
        int n = snprintf(text, sizeof text, "text %zu", (seed + i) % 20);
        OK(emb_service_embed_text(service, text, (size_t)n, i % 2 ? "one" : NULL, true, &r, err));
        if (i % 2 == 0)
            assert_row(r, 0, text);
        emb_service_result_free(r);
    }
    return NULL;
}

static void many_callers(void **state)
{
    (void)state;
    pthread_t threads[4];
    start();
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, caller, (void *)(i * 5)), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    stop();
}

/* What OpenSSL keeps for this thread is there, and nothing of what it notes about failures. */
static void settle_openssl(void)
{
    emb_service_result *r;
    OK(emb_service_embed_text(service, "red", 3, NULL, true, &r, err)); /* makes a key */
    emb_service_result_free(r);
    ERR_clear_error();
}

static void each_allocation_of_a_result_fails(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    const emb_text texts[] = {text_of("red"), text_of("blue")};
    emb_service_result *r;
    start();
    OK(emb_service_embed_batch(service, texts, 2, NULL, true, &r, err));
    emb_service_result_free(r);
    ERR_raise(ERR_LIB_USER, ERR_R_MALLOC_FAILURE);
    for (size_t n = 1, round = 0; round < 2;
         n++) { /* the first round makes the metrics of errors, which stay */
        settle_openssl();
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_service_embed_batch(service, texts, 2, NULL, true, &r, NULL);
        bool failed = fail_alloc_stop();
        assert_true((status == EMB_OK) == (r != NULL));
        emb_service_result_free(r);
        settle_openssl();
        if ((round && fail_alloc_live() > live) || (status && (!failed || status != EMB_E_NOMEM)))
            fail_msg("allocation %zu: %s, %zu of %zu left", n, emb_status_text(status), fail_alloc_live(),
                     live);
        if (!failed) {
            round++;
            n = 0;
        }
    }
    for (size_t n = 1;; n++) {
        emb_service_model *models;
        size_t count, live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_service_model_list(service, &models, &count, NULL);
        bool failed = fail_alloc_stop();
        assert_true((status == EMB_OK) == (models != NULL));
        emb_service_model_list_free(models);
        if (fail_alloc_live() > live)
            fail_msg("allocation %zu of the list: %zu of %zu left", n, fail_alloc_live(), live);
        if (!failed)
            break;
    }
    stop();
}

/* Under AddressSanitizer this finds leaks of opening and closing, too. */
static void each_allocation_of_opening_fails(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    emb_service *opened;
    ERR_raise(ERR_LIB_USER, ERR_R_MALLOC_FAILURE); /* OpenSSL's own error state is there from here on */
    OK(create(usual, &opened, err));
    emb_service_destroy(opened);
    for (size_t n = 1; n < 4000; n++) {
        fail_alloc_at(n);
        emb_status status = create(usual, &opened, NULL);
        bool failed = fail_alloc_stop();
        assert_true((status == EMB_OK) == (opened != NULL));
        emb_service_destroy(opened);
        if (!failed)
            return;
    }
    fail_msg("opening takes more allocations than that");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(generates, setup),
        cmocka_unit_test_setup(results_are_their_own, setup),
        cmocka_unit_test_setup(embeds, setup),
        cmocka_unit_test_setup(models_and_numbers, setup),
        cmocka_unit_test_setup(refuses, setup),
        cmocka_unit_test_setup(what_cannot_be_opened, setup),
        cmocka_unit_test_setup(file_environment_and_settings, setup),
        cmocka_unit_test_setup(many_callers, setup),
        cmocka_unit_test_setup(each_allocation_of_a_result_fails, setup),
        cmocka_unit_test_setup(each_allocation_of_opening_fails, setup),
    };
    setenv("HF_HOME", "/nonexistent", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
