/* The service with the model that ships: vectors that are known, the same ones whatever else is asked for. */
#include "base/error.h"
#include "service/service.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static emb_service *service;
static emb_metrics *metrics;

static int open_service(void **state)
{
    (void)state;
    static char *none[] = {NULL};
    emb_config_flag flags[] = {
        {"models-path", EMB_SOURCE_DIR "/models"}, {"cache-url", "none"}, {"models-threads", "2"}};
    emb_config_sources sources = {.environment = none, .flags = flags, .flag_count = 3};
    emb_config *config;
    emb_error err;
    if (emb_config_load(&sources, &config, &err) || emb_metrics_open(&metrics, &err) ||
        emb_service_open(config, metrics, &service, &err) || emb_service_warm_up(service, NULL, &err)) {
        print_error("%s\n", err.message);
        return -1;
    }
    emb_config_release(config);
    return 0;
}

static int close_service(void **state)
{
    (void)state;
    emb_service_close(service);
    emb_metrics_close(metrics);
    return 0;
}

static void embed(const emb_text *texts, size_t count, size_t dimensions, emb_arena *arena,
                  emb_answer *answer)
{
    emb_request r = EMB_REQUEST_INIT;
    emb_error err;
    r.texts = texts;
    r.count = count;
    r.dimensions = dimensions;
    if (emb_service_embed(service, &r, arena, answer, &err))
        fail_msg("%s", err.message);
}

static void known_vector(void **state)
{
    (void)state;
    static const float published[] = {-0.034478f, 0.03102f, 0.00673f, 0.02611f, -0.039362f};
    emb_text text = {"hello world", 11};
    emb_arena arena;
    emb_answer a;
    emb_arena_init(&arena);
    embed(&text, 1, 0, &arena, &a);
    assert_int_equal(a.dimension, 384);
    assert_int_equal(a.tokens[0], 4);
    assert_string_equal(a.model, "all-MiniLM-L6-v2");
    assert_int_equal(strncmp(a.space, "local/all-MiniLM-L6-v2@", 23), 0);
    assert_string_equal(strrchr(a.space, '@') + 13, ":384:mean:l2");
    double norm = 0;
    for (size_t i = 0; i < 384; i++)
        norm += (double)a.vectors[i] * a.vectors[i];
    assert_true(fabs(norm - 1) < 1e-5);
    for (size_t i = 0; i < 5; i++)
        assert_true(fabsf(a.vectors[i] - published[i]) < 0.01f);
    emb_answer_done(&a);
    emb_arena_fini(&arena);
}

/* Alone, in a batch, from the cache, next to others: the same bits. Shortened vectors have their own entries.
 */
static void rows_do_not_depend_on_company(void **state)
{
    (void)state;
    static const char *const words[] = {"a",
                                        "the quick brown fox",
                                        "",
                                        "retirement planning for couples",
                                        "a",
                                        "\xC3\xA9t\xC3\xA9",
                                        "the quick brown fox jumps over the lazy dog"};
    enum { COUNT = sizeof words / sizeof *words };
    emb_text texts[COUNT];
    emb_arena alone_arena, arena;
    emb_arena_init(&alone_arena);
    emb_arena_init(&arena);
    for (size_t i = 0; i < COUNT; i++)
        texts[i] = (emb_text){words[i], strlen(words[i])};
    for (size_t dimensions = 0; dimensions <= 128; dimensions += 128) {
        emb_answer together, again;
        embed(texts, COUNT, dimensions, &arena, &together);
        embed(texts, COUNT, dimensions, &arena, &again);
        size_t floats = together.dimension;
        assert_int_equal(floats, dimensions ? dimensions : 384);
        assert_int_equal(together.sources[4], EMB_CACHE_SHARED);
        assert_int_equal(again.cached, COUNT);
        assert_memory_equal(again.vectors, together.vectors, COUNT * floats * sizeof(float));
        for (size_t i = 0; i < COUNT; i++) {
            emb_answer alone;
            emb_request r = EMB_REQUEST_INIT;
            r.texts = &texts[i];
            r.count = 1;
            r.dimensions = dimensions;
            r.cache_read = r.cache_write = false;
            assert_int_equal(emb_service_embed(service, &r, &alone_arena, &alone, NULL), EMB_OK);
            assert_int_equal(alone.sources[0], EMB_CACHE_COMPUTED);
            assert_memory_equal(alone.vectors, together.vectors + i * floats, floats * sizeof(float));
            assert_int_equal(alone.tokens[0], together.tokens[i]);
            emb_answer_done(&alone);
        }
        emb_answer_done(&together);
        emb_answer_done(&again);
    }
    emb_arena_fini(&alone_arena);
    emb_arena_fini(&arena);
}

static void readiness_and_listing(void **state)
{
    (void)state;
    emb_arena arena;
    emb_model_listing *rows;
    size_t count;
    emb_error err;
    assert_true(emb_service_ready(service));
    assert_int_equal(emb_models_loaded(emb_service_models(service)), 1);
    emb_arena_init(&arena);
    assert_int_equal(emb_models_list(emb_service_models(service), &arena, &rows, &count, &err), EMB_OK);
    assert_true(count >= 1 && rows[0].is_default && rows[0].loaded && rows[0].weight_bytes > 1000000);
    assert_string_equal(rows[0].name, "all-MiniLM-L6-v2");
    emb_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vector),
        cmocka_unit_test(rows_do_not_depend_on_company),
        cmocka_unit_test(readiness_and_listing),
    };
    return cmocka_run_group_tests(tests, open_service, close_service);
}
