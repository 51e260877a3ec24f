/* The queue and its thread: bounds, drops, failures of candidate and store, closing, what is in the file. */
#include "unit/shadow/shadow_world.h"

#include "support/fail_alloc.h"

#include <math.h>
#include <sys/stat.h>

static const float A[] = {1, 0}, B[] = {0.6f, 0.8f}, LONG[] = {1, 2, 3}, ZERO[] = {0, 0};
static const float WITH_NAN[] = {NAN, 1}, WITH_INFINITY[] = {INFINITY, 1};

static void test_bounds(void **state)
{
    (void)state;
    emb_arena arena;
    emb_metrics *metrics;
    assert_int_equal(emb_metrics_open(&metrics, NULL), EMB_OK);
    world_open(&(emb_shadow_options){.queue = 3, .window = 20, .run = world_run, .metrics = metrics});
    world_gate(true);
    assert_true(world_submit("first", A, 2)); /* runs */
    world_wait_entered(1);
    for (int i = 0; i < 3; i++)
        assert_true(world_submit("waits", A, 2));
    assert_false(world_submit("too many", A, 2));
    assert_false(world_submit("too many", A, 2));
    assert_false(emb_shadow_flush(world.shadow, emb_now_ns() + 1000000));
    world_gate(false);
    world_flush();
    assert_int_equal(world.runs, 4);
    assert_true(world_submit("room again", A, 2));
    world_flush();
    emb_shadow_report r = world_report(&arena, 0);
    assert_int_equal(r.all.comparisons, 5);
    assert_int_equal(r.dropped, 2);
    assert_int_equal(r.queued, 0);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_SHADOW, 0, "dropped"), 2);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_SHADOW, 0, "compared"), 5);
    emb_arena_fini(&arena);
    world_close();
    emb_metrics_close(metrics);
}

static void test_bytes(void **state)
{
    (void)state;
    float vectors[1000] = {1};
    emb_arena arena;
    world_open(&(emb_shadow_options){.queue = 100, .window = 20, .queue_bytes = 10000, .run = world_run});
    world_gate(true);
    assert_true(world_submit("first", A, 2));
    world_wait_entered(1);
    assert_true(world_submit("a", vectors, 1000));
    assert_true(world_submit("b", vectors, 1000));
    assert_false(world_submit("c", vectors, 1000)); /* over 10,000 bytes */
    assert_true(world_submit("d", A, 2));           /* a small one still fits */
    world_gate(false);
    world_flush();
    assert_true(world_submit("c", vectors, 1000));
    world_flush();
    emb_shadow_report r = world_report(&arena, 0);
    assert_int_equal(r.all.comparisons, 5);
    assert_int_equal(r.dropped, 1);
    emb_arena_fini(&arena);
}

/* What was submitted is a copy: the caller's memory is gone by then. */
static void test_copies(void **state)
{
    (void)state;
    emb_arena arena;
    float vectors[] = {1, 0, 0, 1, 3, 4};
    char words[] = "onetwo", provider[] = "old", model[] = "m1", space[] = "s", category[] = "c";
    emb_text texts[] = {{words, 3}, {words + 3, 3}, {NULL, 0}};
    emb_shadow_pair pair = {.texts = texts,
                            .count = 3,
                            .category = category,
                            .legacy = {.provider = provider,
                                       .model = model,
                                       .space = space,
                                       .vectors = vectors,
                                       .dimension = 2,
                                       .nusd = 8}};
    world.nusd = 4;
    world_open(&(emb_shadow_options){.queue = 3, .window = 20, .run = world_run});
    world_gate(true);
    assert_true(emb_shadow_submit(world.shadow, &pair));
    memset(vectors, 0, sizeof vectors);
    memset(words, '?', sizeof words - 1);
    memset(texts, 0, sizeof texts);
    *provider = *model = *space = *category = '?';
    world_gate(false);
    world_flush();
    emb_shadow_report r = world_report(&arena, 3);
    assert_int_equal(r.all.with_cosine, 3);
    assert_true(r.all.cosine_worst > 0.999999);
    assert_int_equal(r.all.legacy_nusd, 8); /* shared out and summed up again */
    assert_int_equal(r.all.candidate_nusd, 4);
    assert_string_equal(r.newest[0].legacy, "old/m1");
    assert_string_equal(r.newest[0].category, "c");
    /* SHA-256 of "", of "two", of "one" */
    assert_string_equal(r.newest[0].text, "e3b0c44298fc1c149afbf4c8996fb924");
    assert_string_equal(r.newest[1].text, "3fc4ccfe745870e2c0d99f71f30ff065");
    assert_string_equal(r.newest[2].text, "7692c3ad3540bb803c020b3aee66cd88");
    emb_arena_fini(&arena);
}

static emb_shadow_report compare_once(emb_arena *arena, const char *text, const float *legacy,
                                      size_t legacy_dimension, const float *candidate, size_t dimension)
{
    world.vectors = candidate;
    world.dimension = dimension;
    assert_true(world_submit(text, legacy, legacy_dimension));
    world_flush();
    return world_report(arena, 1);
}

static void test_cosines(void **state)
{
    (void)state;
    static const struct {
        const float *legacy, *candidate;
        size_t legacy_dimension, dimension;
        const char *space;
        bool has_cosine;
        double cosine;
        const char *error;
    } rows[] = {
        {A, B, 2, 2, "s", true, 0.6, NULL},
        {A, A, 2, 2, "s", true, 1, NULL},
        {A, B, 2, 2, "another", true, 0.6, NULL},   /* of equal dimension */
        {A, LONG, 2, 3, "another", false, 0, NULL}, /* neither */
        {ZERO, A, 2, 2, "s", false, 0, NULL},       /* no fault of the candidate */
        {A, ZERO, 2, 2, "s", false, 0, "malformed data"},
        {A, WITH_NAN, 2, 2, "s", false, 0, "malformed data"},
        {A, WITH_INFINITY, 2, 2, "s", false, 0, "malformed data"},
        {A, A, 2, 0, "s", false, 0, "internal error"}, /* it said that all was well */
    };
    world_open(&(emb_shadow_options){.queue = 3, .window = 20, .run = world_run});
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        emb_arena arena;
        world.space = rows[i].space;
        emb_shadow_report r = compare_once(&arena, "text", rows[i].legacy, rows[i].legacy_dimension,
                                           rows[i].candidate, rows[i].dimension);
        assert_int_equal(r.newest_count, 1);
        assert_int_equal(r.newest[0].has_cosine, rows[i].has_cosine);
        assert_true(fabs(r.newest[0].cosine - rows[i].cosine) < 1e-6);
        if (rows[i].error)
            assert_string_equal(r.newest[0].error, rows[i].error);
        else
            assert_null(r.newest[0].error);
        if (!rows[i].error)
            assert_int_equal(r.same_space, strcmp(rows[i].space, "s") == 0);
        emb_arena_fini(&arena);
    }
}

/* Its status is kept, its message, which may hold anything, is not. */
static void test_candidate_fails(void **state)
{
    (void)state;
    emb_arena arena;
    world_open(&(emb_shadow_options){.queue = 3, .window = 20, .run = world_run});
    world.fail = EMB_E_PROVIDER;
    assert_true(world_submit("a", A, 2));
    world_flush();
    world.fail = EMB_OK;
    assert_true(world_submit("b", A, 2));
    world_flush();
    emb_shadow_report r = world_report(&arena, 2);
    assert_int_equal(r.all.comparisons, 2);
    assert_int_equal(r.all.failures, 1);
    assert_true(r.failure_share.mean == 0.5 && r.failure_share.low > 0 && r.failure_share.high < 1);
    assert_string_equal(r.newest[1].error, "the provider's answer cannot be used");
    assert_string_equal(r.newest[1].candidate, "new/m2");
    emb_arena_fini(&arena);
}

static bool file_holds(const char *path, const char *what, size_t length)
{
    FILE *f = fopen(path, "rb");
    static char bytes[4 << 20];
    size_t n = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    if (f)
        fclose(f);
    return memmem(bytes, n, what, length) != NULL;
}

static bool database_holds(const char *what)
{
    char log[160];
    snprintf(log, sizeof log, "%s-wal", world.path);
    return file_holds(world.path, what, strlen(what)) || file_holds(log, what, strlen(what));
}

static void test_no_text_in_the_file(void **state)
{
    (void)state;
    struct stat info;
    world_open(&(emb_shadow_options){.queue = 3, .window = 20, .run = world_run});
    assert_true(world_submit_in("category-marker", "XYZZY-secret-marker-text", A, 2, 1, 1));
    world_flush();
    world.fail = EMB_E_PROVIDER;
    assert_true(world_submit("XYZZY-secret-marker-text", A, 2));
    world_flush();
    assert_true(database_holds("category-marker")); /* the scan finds what is there */
    assert_false(database_holds("XYZZY"));
    assert_false(database_holds("marker-text"));
    assert_false(database_holds("secret"));
    assert_int_equal(stat(world.path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void test_store_fails(void **state)
{
    (void)state;
    emb_error err = {0};
    emb_arena arena;
    emb_metrics *metrics;
    emb_shadow_report r;
    assert_int_equal(emb_metrics_open(&metrics, NULL), EMB_OK);
    emb_shadow_options o = {
        .queue = 10, .window = 20, .run = world_run, .metrics = metrics, .now_s = world_now_s};
    assert_int_equal(emb_shadow_open("sqlite:/nonexistent/folder/shadow.db", &o, &world.shadow, &err),
                     EMB_OK);
    for (int i = 0; i < 5; i++)
        assert_true(world_submit("a", A, 2));
    world_flush(); /* given up counts as done */
    assert_int_equal(world.runs, 5);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_SHADOW, 0, "unstored"), 5);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_SHADOW, 0, "compared"), 5);
    emb_arena_init(&arena);
    assert_int_not_equal(emb_shadow_make_report(world.shadow, &(emb_shadow_query){0}, &arena, &r, &err),
                         EMB_OK);
    emb_arena_fini(&arena);
    assert_int_not_equal(emb_shadow_clear(world.shadow, &err), EMB_OK);
    world_close();
    emb_metrics_close(metrics);
}

static void test_wrong_url(void **state)
{
    (void)state;
    emb_error err = {0};
    emb_shadow_options o = {.queue = 1, .window = 20, .run = world_run};
    assert_int_equal(emb_shadow_open("redis://user:secret@host", &o, &world.shadow, &err), EMB_E_INVALID);
    assert_null(world.shadow);
    assert_null(strstr(err.message, "secret"));
}

/* Closing ends the run that is on, drops what waits, and keeps what was compared. */
static void test_close_is_prompt(void **state)
{
    (void)state;
    emb_arena arena;
    world_open(&(emb_shadow_options){.queue = 10, .window = 20, .run = world_run});
    assert_true(world_submit("done", A, 2));
    world_flush();
    world.waits_for_cancel = true;
    assert_true(world_submit("runs", A, 2));
    world_wait_entered(2);
    for (int i = 0; i < 4; i++)
        assert_true(world_submit("waits", A, 2));
    uint64_t start = emb_now_ns();
    world_close();
    assert_true(emb_now_ns() - start < UINT64_C(5000000000));
    assert_int_equal(world.entered, 2);
    world_open(&(emb_shadow_options){0}); /* another process looks */
    emb_shadow_report r = world_report(&arena, 0);
    assert_int_equal(r.all.comparisons, 1);
    assert_int_equal(r.all.failures, 0); /* to be ended is no failure of the candidate */
    assert_int_equal(r.dropped, 5);
    emb_arena_fini(&arena);
}

static void test_without_run(void **state)
{
    (void)state;
    world_open(&(emb_shadow_options){0});
    assert_false(world_submit("a", A, 2));
    world_flush();
    assert_false(emb_shadow_submit(NULL, NULL));
}

static void *submit_many(void *context)
{
    uintptr_t accepted = 0;
    (void)context;
    for (int i = 0; i < 500; i++)
        accepted += world_submit("a text", A, 2);
    return (void *)accepted;
}

/* From several threads: each is compared once, or was refused. */
static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    uint64_t accepted = 0;
    emb_arena arena;
    world_open(&(emb_shadow_options){.queue = 100, .window = 20, .run = world_run});
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        accepted += (uintptr_t)result;
    }
    world_flush();
    emb_shadow_report r = world_report(&arena, 0);
    assert_int_equal(r.all.comparisons, accepted);
    assert_int_equal(r.dropped, THREADS * 500 - accepted);
    assert_int_equal(world.runs, accepted);
    emb_arena_fini(&arena);
}

/* Names that a database would refuse, or that have no end. */
static void test_odd_names(void **state)
{
    (void)state;
    char endless[5000];
    emb_arena arena;
    memset(endless, 'x', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    world_open(&(emb_shadow_options){.queue = 10, .window = 20, .run = world_run});
    assert_true(world_submit_in(endless, "a", A, 2, 1, 1));
    assert_true(world_submit_in("caf\xC3\xA9\xFF\xFE", "b", A, 2, 1, 1));
    assert_true(world_submit_in(NULL, "c", A, 2, 1, 1));
    world_flush();
    emb_shadow_report r = world_report(&arena, 3);
    assert_int_equal(r.newest_count, 3);
    assert_string_equal(r.newest[0].category, "");
    assert_string_equal(r.newest[1].category, "caf\xC3\xA9");
    assert_int_equal(strlen(r.newest[2].category), 256);
    emb_arena_fini(&arena);
}

static void test_clear(void **state)
{
    (void)state;
    emb_error err = {0};
    emb_arena arena;
    world_open(&(emb_shadow_options){.queue = 1, .window = 20, .run = world_run});
    world_gate(true);
    world_submit("a", A, 2);
    world_wait_entered(1);
    world_submit("b", A, 2);
    assert_false(world_submit("c", A, 2));
    world_gate(false);
    world_flush();
    if (emb_shadow_clear(world.shadow, &err) != EMB_OK)
        fail_msg("%s", err.message);
    emb_shadow_report r = world_report(&arena, 5);
    assert_int_equal(r.all.comparisons, 0);
    assert_int_equal(r.dropped, 0);
    assert_int_equal(r.newest_count + r.worst_count + r.category_count, 0);
    emb_arena_fini(&arena);
}

/* Opening, submitting, comparing and reporting. */
static emb_status whole_life(const char *url)
{
    emb_shadow_options o = {.queue = 10, .window = 20, .run = world_run, .now_s = world_now_s};
    emb_shadow_report r;
    emb_arena arena;
    emb_error err = {0};
    emb_status st = emb_shadow_open(url, &o, &world.shadow, &err);
    if (st != EMB_OK)
        return st;
    (void)world_submit("a", A, 2);
    (void)world_submit("b", A, 2);
    assert_true(emb_shadow_flush(world.shadow, emb_now_ns() + WORLD_PATIENCE));
    emb_arena_init(&arena);
    st = emb_shadow_make_report(world.shadow, &(emb_shadow_query){.samples = 2}, &arena, &r, &err);
    emb_arena_fini(&arena);
    world_close();
    return st;
}

static emb_status report_once(const char *unused)
{
    emb_shadow_report r;
    emb_arena arena;
    emb_error err = {0};
    (void)unused;
    emb_arena_init(&arena);
    emb_status st = emb_shadow_make_report(world.shadow, &(emb_shadow_query){.samples = 2}, &arena, &r, &err);
    emb_arena_fini(&arena);
    return st;
}

/* With allocation n failing; *more: what is allocated afterwards and was not before. */
static emb_status fail_one(emb_status (*thing)(const char *url), const char *url, size_t n, bool *failed,
                           size_t *more)
{
    size_t live = fail_alloc_live();
    fail_alloc_at(n);
    emb_status st = thing(url);
    *failed = fail_alloc_stop();
    *more = fail_alloc_live() - live;
    return st;
}

/* Each allocation fails in turn: an error or a drop, and nothing leaks. After `all` of them only some are
 * tried: SQLite opens with thousands, which its own store's tests look at. What is left the second time, too,
 * has leaked: libraries make some things once. How many attempts failed. */
static unsigned fail_in_turn(emb_status (*thing)(const char *url), const char *url, size_t all,
                             bool leaks_nothing)
{
    unsigned failures = 0;
    for (size_t n = 1;; n += n < all ? 1 : 1 + n / 16) {
        bool failed;
        size_t more;
        failures += fail_one(thing, url, n, &failed, &more) != EMB_OK;
        if (leaks_nothing && more && (fail_one(thing, url, n, &failed, &more), more))
            fail_msg("allocation %zu of %s: %zu are left", n, url, more);
        if (!failed)
            return failures;
    }
}

static void test_allocation_failures(void **state)
{
    (void)state;
    static const char nowhere[] = "sqlite:/nonexistent/folder/shadow.db";
    if (!fail_alloc_available())
        skip();
    assert_int_equal(whole_life(world.url), EMB_OK); /* what is made once, is made */
    assert_true(fail_in_turn(whole_life, world.url, 1, true) > 3);
    assert_int_not_equal(whole_life(nowhere), EMB_OK);
    assert_true(fail_in_turn(whole_life, nowhere, SIZE_MAX, true) > 3);
    world_open(&(emb_shadow_options){0});
    assert_int_equal(report_once(NULL), EMB_OK);
    assert_true(fail_in_turn(report_once, NULL, SIZE_MAX, false) >
                10); /* the connection keeps what it prepared */
    assert_int_equal(report_once(NULL), EMB_OK);
}

/* A figure: what submitting costs the caller. */
static void test_cost(void **state)
{
    (void)state;
    enum { ROUNDS = 2000 };
    static float vector[384];
    char text[200];
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 384; i++)
        vector[i] = 1;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    world_open(&(emb_shadow_options){.queue = ROUNDS + 1, .window = 20, .run = world_run});
    for (int round = 0; round < 5; round++) {
        unsigned entered = world.entered;
        world_gate(true); /* the thread stands still, as one of low priority on a busy machine */
        world_submit("first", vector, 384);
        world_wait_entered(entered + 1);
        uint64_t start = emb_now_ns();
        for (int i = 0; i < ROUNDS; i++)
            assert_true(world_submit(text, vector, 384));
        uint64_t each = (emb_now_ns() - start) / ROUNDS;
        best = each < best ? each : best;
        world_gate(false);
        world_flush();
    }
    print_message("emb_shadow_submit, one text of 199 bytes, 384 dimensions: %llu ns\n",
                  (unsigned long long)best);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(test_bounds),
        IN_WORLD(test_bytes),
        IN_WORLD(test_copies),
        IN_WORLD(test_cosines),
        IN_WORLD(test_candidate_fails),
        IN_WORLD(test_no_text_in_the_file),
        IN_WORLD(test_store_fails),
        IN_WORLD(test_wrong_url),
        IN_WORLD(test_close_is_prompt),
        IN_WORLD(test_without_run),
        IN_WORLD(test_threads),
        IN_WORLD(test_odd_names),
        IN_WORLD(test_clear),
        IN_WORLD(test_allocation_failures),
        IN_WORLD(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
