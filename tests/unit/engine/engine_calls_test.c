/* Single calls through the engine with a fake model: results, options, limits, usage, errors. */
#include "engine_fixture.h"

static emb_engine *engine;
static emb_model *model;

static int setup(void **state)
{
    (void)state;
    fake_model_reset();
    engine = open_engine(2);
    model = open_model(engine, fake_model_make("one", NULL), false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    emb_model_close(model);
    emb_engine_close(engine);
    assert_int_equal(fake.open_encoders, 0);
    assert_int_equal(fake.open_workspaces, 0);
    return 0;
}

static emb_text text_of(const char *s)
{
    return (emb_text){s, strlen(s)};
}

/* Embeds one text with options; returns the status. */
static emb_status embed_one(emb_model *m, const char *text, const emb_embed_options *options, float *out,
                            emb_error *err)
{
    emb_text t = text_of(text);
    return emb_embed(m, &t, 1, options, out, FAKE_DIMENSION, NULL, err);
}

static void one_text(void **state)
{
    (void)state;
    float out[FAKE_DIMENSION], want[FAKE_DIMENSION];
    emb_usage usage = EMB_USAGE_INIT;
    emb_text text = text_of("hello");
    uint32_t tokens = 0;
    OK(emb_embed_counted(model, &text, 1, NULL, out, FAKE_DIMENSION, &tokens, &usage, err));
    fake_vector("hello", 5, want);
    assert_memory_equal(out, want, sizeof want);
    assert_int_equal(usage.tokens, 7);
    assert_int_equal(tokens, 7);
    assert_int_equal(usage.truncated, 0);
    assert_true(usage.compute_ns > 0);
    assert_int_equal(fake.passes, 1);
}

static void no_texts(void **state)
{
    (void)state;
    emb_usage usage = EMB_USAGE_INIT;
    OK(emb_embed(model, NULL, 0, NULL, NULL, 0, &usage, err));
    assert_int_equal(usage.tokens, 0);
    OK(emb_embed_ids(model, NULL, NULL, 0, NULL, NULL, 0, NULL, err));
    assert_int_equal(fake.passes, 0);
}

/* A lone short text runs on the caller's own thread, offered to the team. */
static void lone_text_runs_here(void **state)
{
    (void)state;
    float out[FAKE_DIMENSION];
    OK(embed_one(model, "hello", NULL, out, err));
    assert_true(pthread_equal(fake.log[0].thread, pthread_self()));
    assert_int_equal(fake.log[0].team, 1);
}

/* Several texts that are worth dividing are divided evenly. */
static void large_call_is_spread(void **state)
{
    (void)state;
    job j;
    job_init(&j, model, 'a', 2000, 30);
    fake.pass_us = 200;
    job_run(&j);
    assert_int_equal(j.status, EMB_OK);
    job_check_vectors(&j);
    assert_int_equal(j.usage.tokens, 2000 * 32);
    size_t tokens = 0;
    for (size_t i = 0; i < fake.passes; i++) {
        tokens += fake.log[i].tokens;
        assert_false(pthread_equal(fake.log[i].thread, pthread_self()));
        assert_true(fake.log[i].tokens <= engine->pass_tokens);
    }
    assert_int_equal(tokens, 2000 * 32);
    job_fini(&j);
    assert_nothing_waits(engine);
}

/* Texts whose token count the estimate misses by far, both ways. */
static void wrong_estimates(void **state)
{
    (void)state;
    static char wide[40000];
    enum { COUNT = 3000 };
    emb_text *texts = calloc(COUNT, sizeof *texts);
    float *out = calloc(COUNT, FAKE_DIMENSION * sizeof *out), want[FAKE_DIMENSION];
    uint32_t *counts = calloc(COUNT, sizeof *counts);
    memset(wide, 'w', sizeof wide);
    for (size_t i = 0; i < COUNT; i++)
        texts[i] = (emb_text){wide, i % 100 == 0 ? sizeof wide : i % 7};
    emb_usage usage = EMB_USAGE_INIT;
    OK(emb_embed_counted(model, texts, COUNT, NULL, out, COUNT * FAKE_DIMENSION, counts, &usage, err));
    size_t total = 0;
    for (size_t i = 0; i < COUNT; i++) {
        fake_vector(texts[i].data, texts[i].length, want);
        assert_memory_equal(out + i * FAKE_DIMENSION, want, sizeof want);
        assert_int_equal(counts[i], i % 100 == 0 ? FAKE_MAX_TOKENS : i % 7 + 2);
        total += counts[i];
    }
    assert_int_equal(usage.tokens, total);
    assert_int_equal(usage.truncated, COUNT / 100);
    free(texts);
    free(out);
    free(counts);
}

static void more_rows_than_a_pass(void **state)
{
    (void)state;
    job j;
    job_init(&j, model, 'a', 3 * EMB_MAX_ROWS, 0);
    job_run(&j);
    assert_int_equal(j.status, EMB_OK);
    job_check_vectors(&j);
    job_fini(&j);
}

static void texts_without_tokens(void **state)
{
    (void)state;
    emb_model *bare = open_model(engine, fake_model_make("bare", "bare"), false);
    float out[3][FAKE_DIMENSION], zero[FAKE_DIMENSION] = {0};
    memset(out, 1, sizeof out);
    emb_text texts[] = {text_of(""), text_of("x"), text_of("")};
    emb_usage usage = EMB_USAGE_INIT;
    OK(emb_embed(bare, texts, 3, NULL, &out[0][0], 3 * FAKE_DIMENSION, &usage, err));
    assert_memory_equal(out[0], zero, sizeof zero);
    assert_memory_equal(out[2], zero, sizeof zero);
    assert_true(out[1][0] == 'x');
    assert_int_equal(usage.tokens, 1);
    OK(emb_embed(bare, texts, 1, NULL, &out[1][0], FAKE_DIMENSION, &usage, err));
    assert_memory_equal(out[1], zero, sizeof zero);
    /* the same through the queue, a large call of nothing but empty texts */
    job j;
    job_init(&j, bare, 'a', 5000, 0);
    memset(j.out, 1, j.count * FAKE_DIMENSION * sizeof *j.out);
    job_run(&j);
    assert_int_equal(j.status, EMB_OK);
    for (size_t i = 0; i < j.count * FAKE_DIMENSION; i++)
        assert_true(j.out[i] == 0);
    job_fini(&j);
    emb_model_close(bare);
}

static void truncation(void **state)
{
    (void)state;
    char text[101];
    float out[FAKE_DIMENSION];
    memset(text, 'a', 50);
    memset(text + 50, 'b', 50);
    text[100] = 0;
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
    emb_usage usage = EMB_USAGE_INIT;
    emb_text t = text_of(text);
    options.max_tokens = 12;
    OK(emb_embed(model, &t, 1, &options, out, FAKE_DIMENSION, &usage, err));
    assert_true(out[0] == 256 + 257 + 10 * 'a');
    assert_int_equal(usage.truncated, 1);
    assert_int_equal(usage.tokens, 12);
    options.truncation = EMB_TRUNCATE_LEFT;
    OK(embed_one(model, text, &options, out, err));
    assert_true(out[0] == 256 + 257 + 10 * 'b');
    emb_model *left = open_model(engine, fake_model_make("left", "left"), false);
    options.truncation = EMB_TRUNCATE_MODEL;
    OK(embed_one(left, text, &options, out, err));
    assert_true(out[0] == 256 + 257 + 10 * 'b');
    emb_model_close(left);
    emb_error error;
    options.truncation = EMB_TRUNCATE_NONE;
    assert_int_equal(embed_one(model, text, &options, out, &error), EMB_E_LIMIT);
    assert_string_equal(error.where, "texts[0]");
    assert_non_null(strstr(error.message, "12"));
    options.max_tokens = 0;
    text[62] = 0; /* exactly the limit */
    OK(embed_one(model, text, &options, out, err));
}

/* One text over the limit in a large call: found by a compute thread. */
static void truncation_refused_in_large_call(void **state)
{
    (void)state;
    job j;
    job_init(&j, model, 'a', 4000, 20);
    static char longer[100];
    memset(longer, 'b', sizeof longer);
    j.texts[3210] = (emb_text){longer, sizeof longer};
    j.options.truncation = EMB_TRUNCATE_NONE;
    job_run(&j);
    assert_int_equal(j.status, EMB_E_LIMIT);
    assert_string_equal(j.error.where, "texts[3210]");
    assert_non_null(strstr(j.error.message, "102 tokens, the limit is 64"));
    job_fini(&j);
    assert_nothing_waits(engine);
}

static void foreign_tokenizer(void **state)
{
    (void)state;
    emb_model *foreign = open_model(engine, fake_model_make("foreign", "foreign"), false);
    float out[FAKE_DIMENSION];
    emb_error error;
    assert_int_equal(embed_one(foreign, "a", NULL, out, &error), EMB_E_CORRUPT);
    assert_non_null(strstr(error.message, "300"));
    emb_model_close(foreign);
}

static void token_ids(void **state)
{
    (void)state;
    int32_t ids[100] = {256, 'h', 'i', 257, 256, 'x', 257};
    size_t offsets[3] = {0, 4, 7};
    float out[2 * FAKE_DIMENSION], want[FAKE_DIMENSION];
    emb_usage usage = EMB_USAGE_INIT;
    OK(emb_embed_ids(model, ids, offsets, 2, NULL, out, 2 * FAKE_DIMENSION, &usage, err));
    fake_vector("hi", 2, want);
    assert_memory_equal(out, want, sizeof want);
    fake_vector("x", 1, want);
    assert_memory_equal(out + FAKE_DIMENSION, want, sizeof want);
    assert_int_equal(usage.tokens, 7);
    emb_error error;
    ids[5] = FAKE_VOCAB;
    assert_int_equal(emb_embed_ids(model, ids, offsets, 2, NULL, out, 2 * FAKE_DIMENSION, NULL, &error),
                     EMB_E_INVALID);
    assert_string_equal(error.where, "ids[1]");
    ids[5] = -1;
    assert_int_equal(emb_embed_ids(model, ids, offsets, 2, NULL, out, 2 * FAKE_DIMENSION, NULL, &error),
                     EMB_E_INVALID);
    ids[5] = 'x';
    offsets[1] = 7; /* an empty second sequence */
    assert_int_equal(emb_embed_ids(model, ids, offsets, 2, NULL, out, 2 * FAKE_DIMENSION, NULL, &error),
                     EMB_E_INVALID);
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
    options.max_tokens = 2;
    OK(emb_embed_ids(model, ids, offsets, 1, &options, out, FAKE_DIMENSION, &usage, err));
    assert_true(out[0] == 256 + 'h');
    assert_int_equal(usage.truncated, 1);
    options.truncation = EMB_TRUNCATE_LEFT;
    OK(emb_embed_ids(model, ids, offsets, 1, &options, out, FAKE_DIMENSION, NULL, err));
    assert_true(out[0] == 'x' + 257);
    options.truncation = EMB_TRUNCATE_NONE;
    assert_int_equal(emb_embed_ids(model, ids, offsets, 1, &options, out, FAKE_DIMENSION, NULL, &error),
                     EMB_E_LIMIT);
}

static void prompts(void **state)
{
    (void)state;
    emb_model *with = open_model(engine, fake_model_make("with", "prompts"), false);
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
    float out[FAKE_DIMENSION];
    const float frame = 256 + 257 + ':' + 'x';
    OK(embed_one(with, "x", NULL, out, err));
    assert_true(out[0] == frame + 'A');
    options.role = EMB_ROLE_QUERY;
    OK(embed_one(with, "x", &options, out, err));
    assert_true(out[0] == frame + 'Q');
    options.role = EMB_ROLE_DOCUMENT;
    OK(embed_one(with, "x", &options, out, err));
    assert_true(out[0] == frame + 'D');
    options.prompt_name = "query";
    OK(embed_one(with, "x", &options, out, err));
    assert_true(out[0] == frame + 'Q');
    options.prompt = "Z";
    OK(embed_one(with, "x", &options, out, err));
    assert_true(out[0] == 256 + 257 + 'Z' + 'x');
    options.prompt = "";
    OK(embed_one(with, "x", &options, out, err));
    assert_true(out[0] == 256 + 257 + 'x');
    options.prompt = NULL;
    options.prompt_name = "nothing";
    emb_error error;
    assert_int_equal(embed_one(with, "x", &options, out, &error), EMB_E_INVALID);
    assert_non_null(strstr(error.message, "any, document, query"));
    emb_model_info info = EMB_MODEL_INFO_INIT;
    emb_model_get_info(with, &info);
    assert_string_equal(info.query_prompt, "Q:");
    assert_string_equal(info.document_prompt, "D:");
    assert_string_equal(info.default_prompt, "any");
    assert_int_equal(info.prompts, 3);
    const char *name, *text;
    assert_true(emb_model_prompt(with, 2, &name, &text));
    assert_string_equal(name, "query");
    assert_string_equal(text, "Q:");
    assert_false(emb_model_prompt(with, 3, &name, &text));
    emb_model_close(with);
    /* a role without a prompt of its own has none */
    options = (emb_embed_options)EMB_EMBED_OPTIONS_INIT;
    options.role = EMB_ROLE_QUERY;
    OK(embed_one(model, "x", &options, out, err));
    assert_true(out[0] == 256 + 257 + 'x');
    /* but a well-known model gets the one it was trained with */
    emb_model *known = open_model(engine, fake_model_make("e5-small-v2", ""), false);
    emb_model_get_info(known, &info);
    assert_string_equal(info.query_prompt, "query: ");
    assert_string_equal(info.document_prompt, "passage: ");
    OK(embed_one(known, "x", &options, out, err));
    float sum = 256 + 257 + 'x';
    for (const char *p = "query: "; *p; p++)
        sum += (float)*p;
    assert_true(out[0] == sum);
    emb_model_close(known);
}

static void prompts_not_pooled(void **state)
{
    (void)state;
    emb_model *with = open_model(engine, fake_model_make("with", "prompts exclude"), false);
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
    float out[FAKE_DIMENSION];
    options.role = EMB_ROLE_QUERY;
    OK(embed_one(with, "x", &options, out, err));
    assert_true(out[0] == 257 + 'x'); /* without [CLS] Q : */
    assert_true(out[1] == 5);
    options.pooling = EMB_POOLING_CLS;
    OK(embed_one(with, "x", &options, out, err));
    assert_true(out[0] == 256 + 257 + 'Q' + ':' + 'x');
    emb_model_close(with);
}

static void lower_case(void **state)
{
    (void)state;
    emb_model *lower = open_model(engine, fake_model_make("lower", "lower"), false);
    float out[FAKE_DIMENSION];
    OK(embed_one(lower, " Ab", NULL, out, err));
    assert_true(out[0] == 256 + 257 + ' ' + 'a' + 'b');
    emb_model_close(lower);
    OK(embed_one(model, " Ab", NULL, out, err));
    assert_true(out[0] == 256 + 257 + ' ' + 'A' + 'b');
}

static void settings_reach_the_batch(void **state)
{
    (void)state;
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
    float out[FAKE_DIMENSION];
    options.pooling = EMB_POOLING_MAX;
    options.normalize = EMB_OFF;
    OK(embed_one(model, "x", &options, out, err));
    assert_true(out[3] == EMB_POOLING_MAX && out[4] == EMB_OFF && out[5] == 0);
    options.dimensions = 2;
    float two[3] = {0, 0, -1};
    emb_text t = text_of("x");
    OK(emb_embed(model, &t, 1, &options, two, 2, NULL, err));
    assert_true(two[0] == 256 + 257 + 'x' && two[1] == 3 && two[2] == -1);
}

static void invalid_arguments(void **state)
{
    (void)state;
    float out[2 * FAKE_DIMENSION];
    emb_text texts[2] = {text_of("x"), text_of("y")};
    emb_error error;
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
#define REFUSED(expression, name)                                                                     \
    do {                                                                                              \
        options = (emb_embed_options)EMB_EMBED_OPTIONS_INIT;                                          \
        expression;                                                                                   \
        assert_int_equal(emb_embed(model, texts, 2, &options, out, 2 * FAKE_DIMENSION, NULL, &error), \
                         EMB_E_INVALID);                                                              \
        assert_string_equal(error.where, name);                                                       \
    } while (0)
    REFUSED(options.size = 3, "emb_embed_options");
    REFUSED(options.size = 99999, "emb_embed_options");
    REFUSED(options.role = (emb_role)7, "role");
    REFUSED(options.pooling = (emb_pooling)77, "pooling");
    REFUSED(options.normalize = (emb_switch)3, "normalize");
    REFUSED(options.truncation = (emb_truncation)-1, "truncation");
    REFUSED(options.priority = (emb_priority)2, "priority");
    REFUSED(options.timeout_ms = -1, "timeout_ms");
    REFUSED(options.dimensions = FAKE_DIMENSION + 1, "dimensions");
    REFUSED(options.max_tokens = FAKE_MAX_TOKENS + 1, "max_tokens");
    REFUSED(options.max_tokens = 1, "max_tokens");
    assert_int_equal(emb_embed(model, texts, 2, NULL, out, 2 * FAKE_DIMENSION - 1, NULL, &error),
                     EMB_E_INVALID);
    assert_string_equal(error.where, "out_floats");
    assert_int_equal(emb_embed(model, texts, SIZE_MAX / 4, NULL, out, SIZE_MAX, NULL, &error), EMB_E_INVALID);
    assert_int_equal(emb_embed(model, NULL, 2, NULL, out, 12, NULL, &error), EMB_E_INVALID);
    assert_int_equal(emb_embed(NULL, texts, 2, NULL, out, 12, NULL, &error), EMB_E_INVALID);
    assert_int_equal(emb_embed(model, texts, 2, NULL, NULL, 12, NULL, &error), EMB_E_INVALID);
    texts[1].data = NULL;
    assert_int_equal(emb_embed(model, texts, 2, NULL, out, 12, NULL, NULL), EMB_E_INVALID);
    texts[1].length = 0;
    OK(emb_embed(model, texts, 2, NULL, out, 12, NULL, err));
    emb_usage usage = {0};
    assert_int_equal(emb_embed(model, texts, 2, NULL, out, 12, &usage, &error), EMB_E_INVALID);
    assert_string_equal(error.where, "usage");
}

/* Structs of an older and of a newer header. */
static void other_versions(void **state)
{
    (void)state;
    float out[FAKE_DIMENSION];
    struct {
        emb_embed_options known;
        size_t future;
    } newer = {EMB_EMBED_OPTIONS_INIT, 0};
    newer.known.size = sizeof newer;
    OK(embed_one(model, "x", &newer.known, out, err));
    newer.future = 1;
    emb_error error;
    assert_int_equal(embed_one(model, "x", &newer.known, out, &error), EMB_E_UNSUPPORTED);
    emb_embed_options older = EMB_EMBED_OPTIONS_INIT;
    older.size = offsetof(emb_embed_options, pooling);
    older.pooling = (emb_pooling)99; /* not part of it */
    OK(embed_one(model, "x", &older, out, err));
    emb_usage usage = EMB_USAGE_INIT;
    usage.size = offsetof(emb_usage, truncated);
    usage.truncated = 77;
    emb_text t = text_of("x");
    OK(emb_embed(model, &t, 1, NULL, out, FAKE_DIMENSION, &usage, err));
    assert_int_equal(usage.tokens, 3);
    assert_int_equal(usage.truncated, 77);
    assert_int_equal(usage.size, offsetof(emb_usage, truncated));
}

static void tokens(void **state)
{
    (void)state;
    emb_tokens t;
    OK(emb_tokenize(model, "hello", 5, true, 5, &t, err));
    assert_int_equal(t.count, 5);
    assert_true(t.truncated);
    assert_true(t.data[0].special && !t.data[1].special);
    assert_int_equal(t.data[2].id, 'e');
    assert_int_equal(t.data[2].start, 1);
    assert_int_equal(t.data[2].end, 2);
    emb_tokens_free(&t);
    OK(emb_tokenize(model, "", 0, false, 0, &t, err));
    assert_int_equal(t.count, 0);
    emb_tokens_free(&t);
    size_t n;
    assert_memory_equal(emb_token_text(model, 'a', &n), "a", 1);
    assert_int_equal(n, 1);
    assert_null(emb_token_text(model, 5, NULL));
    emb_error error;
    assert_int_equal(emb_tokenize(model, NULL, 1, true, 0, &t, &error), EMB_E_INVALID);
}

static void info(void **state)
{
    (void)state;
    emb_model_info i = EMB_MODEL_INFO_INIT;
    emb_model_get_info(model, &i);
    assert_string_equal(i.name, "one");
    assert_string_equal(i.tokenizer, "Fake");
    assert_int_equal(i.dimension, FAKE_DIMENSION);
    assert_int_equal(i.weight_bytes, 4000);
    assert_int_equal(i.precision, EMB_PRECISION_FP32);
    assert_string_equal(i.query_prompt, "");
    assert_null(i.default_prompt);
    emb_model *lazy = open_model(engine, fake_model_make("lazy", NULL), true);
    emb_model_get_info(lazy, &i);
    assert_int_equal(i.weight_bytes, 0);
    assert_int_equal(i.precision, EMB_PRECISION_FP32);
    emb_model_close(lazy);
    assert_string_equal(emb_engine_isa(engine), "portable");
    assert_int_equal(emb_engine_threads(engine), 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_text),
        TEST(no_texts),
        TEST(lone_text_runs_here),
        TEST(large_call_is_spread),
        TEST(wrong_estimates),
        TEST(more_rows_than_a_pass),
        TEST(texts_without_tokens),
        TEST(truncation),
        TEST(truncation_refused_in_large_call),
        TEST(foreign_tokenizer),
        TEST(token_ids),
        TEST(prompts),
        TEST(prompts_not_pooled),
        TEST(lower_case),
        TEST(settings_reach_the_batch),
        TEST(invalid_arguments),
        TEST(other_versions),
        TEST(tokens),
        TEST(info),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
