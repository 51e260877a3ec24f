/*
 * Everything that surrounds embedding, opened in a data directory while memory is short: an error or a part
 * that is left out, as documented; a service that answers; nothing leaks. A provider stands in the
 * configuration, so that budget, breakers and shadow are opened too; nothing is sent to it.
 *
 * Opening makes some thousand allocations (most in SQLite): the first ones fail one by one, the others by
 * growing steps. EMBEDD_TEST_EACH_ALLOCATION=1 takes every one (2: every second …), which takes half an
 * hour. Under sanitizers malloc is theirs; there the same runs without failures.
 */
#include "service_fixture.h"

#include "crypto/crypto.h"
#include "service/service_parts.h"

#include <dirent.h>
#include <openssl/err.h>

enum { ONE_BY_ONE = 40, STEP = 12 };

static char folder[256];

static int setup(void **state)
{
    (void)state;
    fake_model_reset();
    fake_model_make("one", NULL);
    snprintf(folder, sizeof folder, "/tmp/embedd-kit-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static void empty(void)
{
    char path[768];
    DIR *all = opendir(folder);
    assert_non_null(all);
    for (struct dirent *e; (e = readdir(all));)
        if (e->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            unlink(path);
        }
    closedir(all);
}

static int teardown(void **state)
{
    (void)state;
    empty();
    return rmdir(folder);
}

static emb_config *with_everything(void)
{
    static char *environment[] = {"OPENAI_API_KEY=sk-none", "OPENAI_BASE_URL=http://127.0.0.1:1/v1", NULL};
    const emb_config_flag flags[] = {{"models-path", fake_model_root()},
                                     {"models-threads", "1"},
                                     {"models-default", "one"},
                                     {"data-dir", folder},
                                     {"cache-url", ""},
                                     {"hybrid-monitoring", "true"},
                                     {"hybrid-shadow_mode", "true"},
                                     {"alerts-webhook_url", "http://127.0.0.1:1/"}};
    emb_config_sources sources = {
        .environment = environment, .flags = flags, .flag_count = sizeof flags / sizeof *flags};
    emb_config *config;
    OK(emb_config_load(&sources, &config, err));
    return config;
}

static emb_status embed(emb_service *service)
{
    emb_text text = {"hello", 5};
    emb_request request = EMB_REQUEST_INIT;
    emb_answer answer;
    emb_arena arena;
    emb_error err;
    request.texts = &text;
    request.count = 1;
    emb_arena_init(&arena);
    memset(&answer, 0, sizeof answer);
    emb_status status = emb_service_embed(service, &request, &arena, &answer, &err);
    emb_answer_done(&answer);
    emb_arena_fini(&arena);
    return status;
}

/* What is there of the parts that may be left out. */
static int parts(emb_service *service)
{
    return (emb_service_ledger(service) != NULL) + (emb_service_rollout(service) != NULL) +
           (emb_service_alerts(service) != NULL) + (emb_service_shadow(service) != NULL);
}

/* Opens it while the n-th allocation fails, asks it something, closes it. 0: it failed; else the number of
 * parts, and one. *failed: an allocation did. */
static int once(emb_config *config, size_t n, bool *failed)
{
    emb_service *service;
    emb_metrics *metrics;
    emb_error why = {0};
    OK(emb_metrics_open(&metrics, err));
    fail_alloc_at(n);
    emb_status status = emb_service_open(config, metrics, &service, &why);
    if (!status && (status = emb_service_watch(service, &why))) {
        emb_service_close(service);
        service = NULL;
    }
    *failed = fail_alloc_stop();
    int found = 0;
    if (status) {
        if (!*failed || status != EMB_E_NOMEM)
            fail_msg("allocation %zu: %s (%s)", n, emb_status_text(status), why.message);
        assert_null(service);
    } else {
        found = 1 + parts(service);
        assert_non_null(emb_service_budget(service)); /* what cannot be counted must not be spent */
        assert_non_null(emb_service_breakers(service));
        if ((status = embed(service)))
            fail_msg("allocation %zu: it does not answer: %s", n, emb_status_text(status));
    }
    emb_service_close(service);
    emb_metrics_close(metrics);
    return found;
}

/* What OpenSSL keeps for this thread is there, and nothing of what it notes about failures. */
static void settle_openssl(void)
{
    uint8_t digest[EMB_SHA256_BYTES];
    assert_true(emb_sha256("", 0, digest));
    ERR_clear_error();
}

static size_t next(size_t n)
{
    const char *every = getenv("EMBEDD_TEST_EACH_ALLOCATION");
    if (every)
        return n + (size_t)atoi(every) + (atoi(every) == 0);
    return n < ONE_BY_ONE ? n + 1 : n + 1 + n / STEP;
}

static void each(bool is_new)
{
    emb_config *config = with_everything();
    bool failed;
    int counts[6] = {0};
    ERR_raise(ERR_LIB_USER, ERR_R_MALLOC_FAILURE);            /* makes what OpenSSL keeps */
    assert_int_equal(once(config, SIZE_MAX / 4, &failed), 5); /* what libraries keep from the first time on */
    if (!fail_alloc_available()) {
        emb_config_release(config);
        skip();
    }
    size_t n = 1, tries = 0;
    for (failed = true; failed; n = next(n), tries++) {
        if (is_new)
            empty();
        settle_openssl();
        size_t live = fail_alloc_live();
        counts[once(config, n, &failed)]++;
        settle_openssl();
        if (fail_alloc_live() > live)
            fail_msg("allocation %zu: %zu of %zu left", n, fail_alloc_live(), live);
    }
    print_message("%zu allocations, %zu tries: %d errors, %d with all parts, %d with one left out\n", n,
                  tries, counts[0], counts[5], counts[4]);
    assert_true(counts[0] > 5);                             /* engine, models, gateway, budget */
    assert_true(counts[4] > 3);                             /* ledger, rollout, alerts, shadow */
    assert_int_equal(counts[1] + counts[2] + counts[3], 0); /* one failure costs one part */
    emb_config_release(config);
}

static void each_allocation_of_a_new_directory_fails(void **state)
{
    (void)state;
    each(true);
}

static void each_allocation_of_an_old_directory_fails(void **state)
{
    (void)state;
    each(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_allocation_of_a_new_directory_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(each_allocation_of_an_old_directory_fails, setup, teardown),
    };
    setenv("HF_HOME", "/nonexistent", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
