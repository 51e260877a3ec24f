/* Warming with a fake model: lists, files, texts, the most used; what fails, cancelling; the lists that ship.
 */
#include "service_fixture.h"

#include "service/service_parts.h"
#include "service/warm.h"

#include <ctype.h>

static emb_config *config;
static emb_service *service;

static void start(emb_config *with)
{
    config = with;
    OK(emb_service_open(config, NULL, &service, err));
}

static void stop(void)
{
    emb_service_close(service);
    emb_config_release(config);
}

static int setup(void **state)
{
    (void)state;
    fake_model_reset();
    fake_model_make("one", "prompts");
    fake_model_make("two", NULL);
    return 0;
}

static const char *in_root(const char *name)
{
    static char paths[2][300];
    static int turn;
    char *path = paths[turn = !turn];
    snprintf(path, sizeof paths[0], "%s/%s", fake_model_root(), name);
    return path;
}

static void report_is(const emb_warm_report *r, uint64_t texts, uint64_t cached, uint64_t computed,
                      uint64_t failed)
{
    assert_int_equal(r->texts, texts);
    assert_int_equal(r->cached, cached);
    assert_int_equal(r->computed, computed);
    assert_int_equal(r->failed, failed);
}

/* Whether L1 has the text, for that model and role. */
static bool is_warm(const char *text, const char *model, emb_role role)
{
    emb_text one = {text, strlen(text)};
    emb_request r = EMB_REQUEST_INIT;
    emb_arena arena;
    emb_answer answer;
    r.texts = &one;
    r.count = 1;
    r.model = model;
    r.role = role;
    emb_arena_init(&arena);
    bool found = emb_service_embed_cached(service, &r, &arena, &answer);
    emb_answer_done(&answer);
    emb_arena_fini(&arena);
    return found;
}

typedef struct seen {
    uint64_t calls, last, total;
    volatile int *cancel;
} seen;

static void note(void *context, uint64_t done, uint64_t total)
{
    seen *s = context;
    s->calls++;
    assert_true(done > s->last && done <= total);
    s->last = done;
    s->total = total;
    if (s->cancel)
        __atomic_store_n(s->cancel, 1, __ATOMIC_RELAXED);
}

static void the_finance_list(void **state)
{
    (void)state;
    start(make_config(NULL));
    emb_warm_report report;
    emb_warm_source source = {.list = "finance"};
    seen s = {0};
    size_t count = emb_term_list_find("finance")->count;
    OK(emb_warm(service, &source, NULL, EMB_ROLE_QUERY, note, &s, NULL, &report, err));
    report_is(&report, count, 0, count, 0);
    assert_string_equal(report.model, "one");
    assert_true(report.tokens > 2 * count && report.elapsed_ns > 0);
    assert_true(s.calls >= 2 && s.last == count && s.total == count);
    assert_true(is_warm("Roth IRA", NULL, EMB_ROLE_QUERY));
    assert_false(is_warm("Roth IRA", NULL, EMB_ROLE_NONE));
    assert_false(is_warm("Roth IRA", "two", EMB_ROLE_QUERY));
    OK(emb_warm(service, &source, NULL, EMB_ROLE_QUERY, NULL, NULL, NULL, &report, err));
    report_is(&report, count, count, 0, 0);
    source.list = "finances";
    FAILS(EMB_E_NOT_FOUND, "finance",
          emb_warm(service, &source, NULL, EMB_ROLE_NONE, NULL, NULL, NULL, &report, err));
    source.list = "finance";
    FAILS(EMB_E_NOT_FOUND, "model",
          emb_warm(service, &source, "none", EMB_ROLE_NONE, NULL, NULL, NULL, &report, err));
    stop();
}

static emb_status warm_file(const char *name, const char *contents, emb_warm_report *report, emb_error *err)
{
    emb_warm_source source = {.file = in_root(name)};
    if (contents)
        make_file(name, contents);
    return emb_warm(service, &source, NULL, EMB_ROLE_NONE, NULL, NULL, NULL, report, err);
}

static void files(void **state)
{
    (void)state;
    start(make_config(NULL));
    emb_warm_report report;
    OK(warm_file("a.txt", "\xEF\xBB\xBFred\r\n# no text\n\n  two words \nC# is one\nlast", &report, err));
    report_is(&report, 4, 0, 4, 0);
    assert_true(is_warm("red", NULL, EMB_ROLE_NONE) && is_warm("two words", NULL, EMB_ROLE_NONE) &&
                is_warm("C# is one", NULL, EMB_ROLE_NONE) && is_warm("last", NULL, EMB_ROLE_NONE));
    OK(warm_file("b.jsonl", "{\"id\": 1, \"text\": \"green\"}\n\n\"bl\\u00fce\"\n{\"text\": \"\"}\n", &report,
                 err));
    report_is(&report, 2, 0, 2, 0);
    assert_true(is_warm("green", NULL, EMB_ROLE_NONE) && is_warm("bl\xC3\xBC"
                                                                 "e",
                                                                 NULL, EMB_ROLE_NONE));
    OK(warm_file("c", "{\"text\": \"white\"}\n{\"text\": \"black\"}\n", &report,
                 err)); /* JSONL by its look */
    report_is(&report, 2, 0, 2, 0);
    assert_true(is_warm("black", NULL, EMB_ROLE_NONE));
    OK(warm_file("empty.txt", "", &report, err));
    report_is(&report, 0, 0, 0, 0);
    FAILS(EMB_E_INVALID, "line 2", warm_file("d.jsonl", "\"x\"\n{\"txt\": 1}\n", &report, err));
    FAILS(EMB_E_INVALID, "line 1", warm_file("e.jsonl", "{\"text\": 1}\n", &report, err));
    FAILS(EMB_E_INVALID, "line 3", warm_file("f.jsonl", "\"x\"\n\n{\n", &report, err));
    FAILS(EMB_E_INVALID, "line 2", warm_file("g.txt", "fine\n\xFF\xFE\n", &report, err));
    FAILS(EMB_E_NOT_FOUND, NULL, warm_file("absent.txt", NULL, &report, err));
    stop();
}

static void a_text_that_fails_costs_itself_alone(void **state)
{
    (void)state;
    start(make_config(NULL));
    atomic_store(&fake.nan_id, '!');
    emb_text texts[300];
    static char words[300][8];
    for (size_t i = 0; i < 300; i++) {
        snprintf(words[i], sizeof words[i], "%zu%s", i, i == 7 || i == 222 ? "!" : "");
        texts[i] = (emb_text){words[i], strlen(words[i])};
    }
    emb_warm_report report;
    emb_warm_source source = {.texts = texts, .count = 300};
    OK(emb_warm(service, &source, "two", EMB_ROLE_NONE, NULL, NULL, NULL, &report, err));
    report_is(&report, 300, 0, 298, 2);
    assert_true(is_warm("8", "two", EMB_ROLE_NONE));
    assert_false(is_warm("7!", "two", EMB_ROLE_NONE));
    stop();
}

static void cancelling(void **state)
{
    (void)state;
    start(make_config("server-max_inputs", "10", NULL));
    volatile int cancel = 0;
    seen s = {.cancel = &cancel};
    emb_warm_report report;
    emb_warm_source source = {.list = "finance"};
    FAILS(EMB_E_CANCELLED, NULL,
          emb_warm(service, &source, NULL, EMB_ROLE_NONE, note, &s, &cancel, &report, err));
    report_is(&report, emb_term_list_find("finance")->count, 0, 10, 0);
    stop();
}

/* A new model is warmed with what people asked the old one. */
static void the_most_used(void **state)
{
    (void)state;
    char url[300];
    snprintf(url, sizeof url, "sqlite:%s/cache.db", fake_model_root());
    start(make_config("cache-url", url, NULL));
    emb_text texts[] = {{"rare", 4}, {"often", 5}};
    emb_warm_report report;
    emb_warm_source given = {.texts = texts, .count = 2}, used = {.most_used = 1};
    OK(emb_warm(service, &given, "one", EMB_ROLE_NONE, NULL, NULL, NULL, &report, err));
    assert_true(emb_cache_flush(emb_service_cache(service), emb_now_ns() + UINT64_C(30000000000)));
    FAILS(EMB_E_INVALID, "cache.store_text",
          emb_warm(service, &used, "two", EMB_ROLE_NONE, NULL, NULL, NULL, &report, err));
    stop();
    snprintf(url, sizeof url, "sqlite:%s/other.db", fake_model_root());
    start(make_config("cache-url", url, "cache-store_text", "true", "cache-l1_size", "0", NULL));
    OK(emb_warm(service, &given, "one", EMB_ROLE_NONE, NULL, NULL, NULL, &report, err));
    assert_true(emb_cache_flush(emb_service_cache(service), emb_now_ns() + UINT64_C(30000000000)));
    given = (emb_warm_source){.texts = texts + 1, .count = 1};
    for (size_t i = 0; i < 5; i++)
        OK(emb_warm(service, &given, "one", EMB_ROLE_NONE, NULL, NULL, NULL, &report, err));
    report_is(&report, 1, 1, 0, 0);
    stop();
    start(make_config("cache-url", url, "cache-store_text", "true", NULL));
    OK(emb_warm(service, &used, "two", EMB_ROLE_NONE, NULL, NULL, NULL, &report, err));
    report_is(&report, 1, 0, 1, 0);
    assert_true(is_warm("often", "two", EMB_ROLE_NONE));
    stop();
}

static void each_allocation_fails(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    make_file("list.jsonl", "\"red\"\n{\"text\": \"green\"}\n");
    start(make_config("cache-enabled", "false", "data-dir", "/dev/null/none", "hybrid-monitoring", "false",
                      NULL));
    emb_warm_report report;
    emb_warm_source source = {.file = in_root("list.jsonl")};
    OK(emb_warm(service, &source, NULL, EMB_ROLE_NONE, NULL, NULL, NULL, &report, err));
    /* the first round makes the metrics of errors, which stay */
    for (size_t n = 1, round = 0; round < 2; n++) {
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_warm(service, &source, NULL, EMB_ROLE_NONE, NULL, NULL, NULL, &report, NULL);
        bool failed = fail_alloc_stop();
        if (round && fail_alloc_live() > live)
            fail_msg("allocation %zu: %zu of %zu left", n, fail_alloc_live(), live);
        if (!failed) {
            round++;
            n = 0;
            continue;
        }
        if (status ? status != EMB_E_NOMEM : report.computed != 2) /* stdio does without a buffer */
            fail_msg("allocation %zu: %s", n, emb_status_text(status));
    }
    stop();
}

static void lists_that_ship(void **state)
{
    (void)state;
    const emb_term_list *finance = emb_term_list_find("finance");
    assert_non_null(finance);
    assert_true(finance->count >= 130);
    assert_null(emb_term_list_find("Finance"));
    assert_null(emb_term_list_at(1000));
    for (size_t l = 0; emb_term_list_at(l); l++) {
        const emb_term_list *list = emb_term_list_at(l);
        assert_ptr_equal(emb_term_list_find(list->name), list);
        assert_true(list->description[0]);
        for (size_t i = 0; i < list->count; i++) {
            const char *term = list->terms[i];
            size_t n = strlen(term);
            assert_true(n >= 3 && n < 60 && !isspace((unsigned char)term[0]) &&
                        !isspace((unsigned char)term[n - 1]));
            for (size_t k = 0; k < i; k++)
                if (strcasecmp(list->terms[k], term) == 0)
                    fail_msg("%s stands in %s twice", term, list->name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_finance_list, setup),
        cmocka_unit_test_setup(files, setup),
        cmocka_unit_test_setup(a_text_that_fails_costs_itself_alone, setup),
        cmocka_unit_test_setup(cancelling, setup),
        cmocka_unit_test_setup(the_most_used, setup),
        cmocka_unit_test_setup(each_allocation_fails, setup),
        cmocka_unit_test(lists_that_ship),
    };
    setenv("HF_HOME", "/nonexistent", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
