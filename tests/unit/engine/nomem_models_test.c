/*
 * Opening real model directories and embedding with the n-th allocation failing, for every n: an error comes
 * back, nothing crashes, nothing stays allocated. A run that succeeds all the same (memory for something it
 * can do without) gives the same vectors: a settings file that could not be read must not count as absent.
 */
#include "support/fail_alloc.h"

#include <embedd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { FLOATS = 40 * 1024 };

static emb_status use(const char *path, float *out, emb_error *error)
{
    emb_engine_options options = EMB_ENGINE_OPTIONS_INIT;
    emb_embed_options query = EMB_EMBED_OPTIONS_INIT;
    emb_engine *engine = NULL;
    emb_model *model = NULL;
    emb_tokens tokens = {0};
    emb_text texts[40];
    for (size_t i = 0; i < 40; i++)
        texts[i] = (emb_text){"Some naïve text, (with) 42 words: 東京", 40};
    options.threads = 1;
    query.role = EMB_ROLE_QUERY;
    emb_status s = emb_engine_open(&options, &engine, error);
    if (!s && !(s = emb_model_open(engine, path, NULL, &model, error))) {
        emb_model_info info = EMB_MODEL_INFO_INIT;
        emb_model_get_info(model, &info);
        assert_true(info.dimension <= 1024);
        s = emb_embed(model, texts, 1, &query, out, info.dimension, NULL, error);
        if (!s)
            s = emb_embed(model, texts, 40, NULL, out, 40 * info.dimension, NULL, error);
        if (!s)
            s = emb_tokenize(model, "text", 4, true, 0, &tokens, error);
    }
    emb_tokens_free(&tokens);
    emb_model_close(model);
    emb_engine_close(engine);
    return s;
}

static void each_allocation_fails(const char *path)
{
    static float want[FLOATS], got[FLOATS];
    emb_error error;
    memset(want, 0, sizeof want);
    if (use(path, want, &error))
        fail_msg("%s: %s", path, error.message);
    bool failed = true;
    size_t n = 1;
    for (; failed; n++) {
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        memset(got, 0, sizeof got);
        emb_status s = use(path, got, &error);
        failed = fail_alloc_stop();
        if (!failed && s)
            fail_msg("%s: %s", path, error.message);
        if (failed && s && s != EMB_E_NOMEM && s != EMB_E_IO && s != EMB_E_NOT_FOUND)
            fail_msg("%s: allocation %zu: status %d, %s", path, n, s, error.message);
        if (!s && memcmp(got, want, sizeof want) != 0)
            fail_msg("%s: allocation %zu: success with other vectors", path, n);
        if (fail_alloc_live() != live)
            fail_msg("%s: allocation %zu: %zu blocks stay", path, n, fail_alloc_live() - live);
    }
    print_message("%s: %zu allocations\n", path, n - 2);
    assert_true(n > 50);
}

static void models(void **state)
{
    (void)state;
    if (!fail_alloc_available()) {
        print_message("skipped: the sanitizer has its own malloc\n");
        skip();
    }
    static const char *const names[] = {"bert", "bert-prompt", "bert-sharded", "distilbert",
                                        "bert-concatenated"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/models/%s", EMB_TEST_DATA, names[i]);
        each_allocation_fails(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(models)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
