/* Numbers of the report against values worked out by hand; neighbours against a plain computation; another
 * process. */
#include "unit/shadow/shadow_world.h"

#include "shadow/window.h"

#include <math.h>

enum { MS = 1000000 };

/* A candidate vector with this cosine to (1, 0). */
static void compare(const char *category, const char *text, double cosine, unsigned legacy_ms,
                    unsigned candidate_ms, uint64_t legacy_nusd)
{
    static const float legacy[] = {1, 0};
    float candidate[] = {(float)cosine, (float)sqrt(1 - cosine * cosine)};
    world.vectors = candidate;
    world.dimension = 2;
    world.latency_ns = (uint64_t)candidate_ms * MS;
    world.nusd = 7;
    assert_true(world_submit_in(category, text, legacy, 2, (uint64_t)legacy_ms * MS, legacy_nusd));
    world_flush();
}

static void near(double actual, double expected)
{
    if (fabs(actual - expected) > 1e-6)
        fail_msg("%.9f is not %.9f", actual, expected);
}

static void test_numbers(void **state)
{
    (void)state;
    emb_arena arena;
    world_open(&(emb_shadow_options){.queue = 10, .window = 20, .run = world_run});
    static const double cosines[] = {0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0};
    for (int i = 0; i < 10; i++) {
        char text[8];
        snprintf(text, sizeof text, "t%d", i);
        world_set_now_s(1700000000 + 3600 * i);
        compare(i < 4 ? "search" : "chat", text, cosines[i], 10 * (unsigned)(i + 1), 100, 1000);
    }
    world.fail = EMB_E_DEADLINE;
    compare("chat", "failed", 1, 500, 900, 1000);
    world.fail = EMB_OK;
    emb_shadow_report r = world_report(&arena, 3);
    assert_int_equal(r.all.comparisons, 11);
    assert_int_equal(r.all.failures, 1);
    assert_int_equal(r.all.with_cosine, 10);
    near(r.all.cosine.mean, 0.45);
    assert_true(r.all.cosine.low > 0.2 && r.all.cosine.low < 0.35 && r.all.cosine.high > 0.55 &&
                r.all.cosine.high < 0.7);
    near(r.all.cosine_p5, 0.0);  /* nearest rank: the 1st of 10 */
    near(r.all.cosine_p50, 0.4); /* the 5th */
    near(r.all.cosine_worst, 0.0);
    near(r.all.legacy_p50_ms, 60); /* the 6th of 11 */
    near(r.all.legacy_p95_ms, 500);
    near(r.all.candidate_p50_ms, 100); /* without the one that failed */
    near(r.all.candidate_p95_ms, 100);
    assert_int_equal(r.all.legacy_nusd, 11000);
    assert_int_equal(r.all.candidate_nusd, 77);
    assert_int_equal(r.first_s, 1700000000);
    assert_int_equal(r.last_s, 1700000000 + 9 * 3600);
    assert_true(r.same_space);
    assert_false(r.has_overlap);
    assert_int_equal(r.window, 10);

    assert_int_equal(r.category_count, 2); /* the one with most first */
    assert_string_equal(r.categories[0].name, "chat");
    assert_int_equal(r.categories[0].comparisons, 7);
    assert_int_equal(r.categories[0].failures, 1);
    near(r.categories[0].cosine.mean, 0.25);
    assert_string_equal(r.categories[1].name, "search");
    near(r.categories[1].cosine.mean, 0.75);
    near(r.categories[1].cosine_worst, 0.6);
    near(r.categories[1].legacy_p50_ms, 20);
    near(r.categories[1].legacy_p95_ms, 40);

    assert_int_equal(r.worst_count, 3);
    near(r.worst[0].cosine, 0.0);
    near(r.worst[2].cosine, 0.2);
    assert_int_equal(r.newest_count, 3);
    assert_string_equal(r.newest[0].error, "deadline passed");
    near(r.newest[1].cosine, 0.0);
    near(r.newest[1].legacy_ms, 100);
    emb_arena_fini(&arena);

    emb_error err = {0};
    emb_arena_init(&arena);
    emb_shadow_query query = {.since_s = 1700000000 + 8 * 3600};
    assert_int_equal(emb_shadow_make_report(world.shadow, &query, &arena, &r, &err), EMB_OK);
    assert_int_equal(r.all.comparisons, 3);
    near(r.all.cosine.mean, 0.05);
    emb_arena_fini(&arena);
}

/* Answers from a cache are no latency of a provider. */
static void test_cached_latencies(void **state)
{
    (void)state;
    emb_arena arena;
    world_open(&(emb_shadow_options){.queue = 10, .window = 20, .run = world_run});
    compare("c", "a", 0.9, 10, 30, 0);
    world.cached = true;
    compare("c", "b", 0.9, 10, 1, 0);
    emb_shadow_report r = world_report(&arena, 0);
    near(r.all.candidate_p50_ms, 30);
    assert_int_equal(r.all.comparisons, 2);
    emb_arena_fini(&arena);
}

static void test_nothing(void **state)
{
    (void)state;
    emb_arena arena;
    world_open(&(emb_shadow_options){0});
    emb_shadow_report r = world_report(&arena, 10);
    assert_int_equal(r.all.comparisons, 0);
    assert_int_equal(r.category_count + r.worst_count + r.newest_count, 0);
    assert_false(r.has_overlap);
    near(r.failure_share.low, 0);
    near(r.failure_share.high, 1);
    emb_arena_fini(&arena);
}

/* ---- neighbours ---- */

static uint64_t seed;

static float component(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 11) * 0x1p-52 - 1);
}

enum { TEXTS = 60, WIDE = 24, NARROW = 9 };

static void fill(float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = component();
}

static void add(emb_shadow_window *w, unsigned number, const char *pair, const float *legacy,
                size_t legacy_dimension, const float *candidate, size_t dimension)
{
    emb_shadow_item item = {
        .pair = pair, .vectors = {legacy, candidate}, .dimensions = {legacy_dimension, dimension}};
    memcpy(item.text, &number, sizeof number);
    assert_true(emb_shadow_window_add(w, &item));
}

static double plain_cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++)
        ab += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    return ab / sqrt(aa * bb);
}

/* How many others are nearer to text i than text j is. */
static unsigned rank_of(const float *all, size_t dimension, size_t i, size_t j)
{
    unsigned nearer = 0;
    double mine = plain_cosine(all + i * dimension, all + j * dimension, dimension);
    for (size_t k = 0; k < TEXTS; k++)
        nearer +=
            k != i && k != j && plain_cosine(all + i * dimension, all + k * dimension, dimension) > mine;
    return nearer;
}

static void test_neighbours(void **state)
{
    (void)state;
    static float wide[TEXTS * WIDE], narrow[TEXTS * NARROW];
    emb_shadow_window *w;
    emb_shadow_likeness l;
    seed = 1;
    assert_int_equal(emb_shadow_window_open(200, &w, NULL), EMB_OK);
    fill(wide, TEXTS * WIDE);
    for (size_t i = 0; i < TEXTS; i++) /* the first of its components, so that neighbours are alike in part */
        memcpy(narrow + i * NARROW, wide + i * WIDE, NARROW * sizeof(float));
    for (unsigned i = 0; i < TEXTS; i++) {
        add(w, i, "pair", wide + i * WIDE, WIDE, narrow + i * NARROW, NARROW);
        assert_int_equal(emb_shadow_window_measure(w, NULL, &l, NULL), EMB_OK);
        assert_int_equal(l.texts, i + 1);
        assert_int_equal(l.enough, i + 1 >= 50);
    }
    double same = 0, rho = 0;
    for (size_t i = 0; i < TEXTS; i++) {
        double squares = 0;
        for (size_t j = 0; j < TEXTS; j++) {
            if (i == j)
                continue;
            unsigned a = rank_of(wide, WIDE, i, j), b = rank_of(narrow, NARROW, i, j);
            same += a < 10 && b < 10;
            squares += ((double)a - b) * ((double)a - b);
        }
        double n = TEXTS - 1;
        rho += 1 - 6 * squares / (n * (n * n - 1));
    }
    near(l.overlap.mean, same / TEXTS / 10);
    near(l.rank.mean, rho / TEXTS);
    assert_true(l.overlap.mean > 0.3 && l.overlap.mean < 0.9);
    assert_true(l.overlap.low < l.overlap.mean && l.overlap.mean < l.overlap.high);

    add(w, 5, "pair", wide + 5 * WIDE, WIDE, narrow + 5 * NARROW, NARROW); /* again: no second of its kind */
    assert_int_equal(emb_shadow_window_measure(w, NULL, &l, NULL), EMB_OK);
    assert_int_equal(l.texts, TEXTS);
    int cancel = 1;
    assert_int_equal(emb_shadow_window_measure(w, &cancel, &l, NULL), EMB_E_CANCELLED);
    add(w, 1, "another pair", wide, WIDE, narrow, NARROW); /* of other spaces: nothing to compare with */
    assert_int_equal(emb_shadow_window_measure(w, NULL, &l, NULL), EMB_OK);
    assert_int_equal(l.texts, 1);
    assert_string_equal(l.pair, "another pair");
    emb_shadow_window_close(w);
}

static void test_same_model_is_the_same(void **state)
{
    (void)state;
    static float wide[30 * WIDE];
    emb_shadow_window *w;
    emb_shadow_likeness l;
    seed = 2;
    fill(wide, 30 * WIDE);
    assert_int_equal(emb_shadow_window_open(20, &w, NULL), EMB_OK);
    for (unsigned i = 0; i < 30; i++)
        add(w, i, "pair", wide + i * WIDE, WIDE, wide + i * WIDE, WIDE);
    assert_int_equal(emb_shadow_window_measure(w, NULL, &l, NULL), EMB_OK);
    assert_int_equal(l.texts, 20);
    assert_true(l.enough);
    near(l.overlap.mean, 1);
    near(l.rank.mean, 1);
    emb_shadow_window_close(w);
}

/* A service compares; another process, and the service after a restart, know its neighbours. */
static void test_other_process(void **state)
{
    (void)state;
    float vector[WIDE];
    emb_arena arena;
    seed = 3;
    world_open(&(emb_shadow_options){.queue = 100, .window = 40, .run = world_run});
    for (int i = 0; i < 55; i++) {
        char text[8];
        snprintf(text, sizeof text, "t%d", i);
        fill(vector, WIDE);
        assert_true(world_submit(text, vector, WIDE));
        if (i == 39 || i == 54)
            world_flush();
    }
    emb_shadow_report r = world_report(&arena, 0);
    assert_true(r.has_overlap);
    assert_int_equal(r.window, 40);
    near(r.overlap.mean, 1);
    emb_arena_fini(&arena);
    world_close();
    for (int with_thread = 0; with_thread < 2; with_thread++) {
        world_open(&(emb_shadow_options){.queue = 10, .window = 40, .run = with_thread ? world_run : NULL});
        r = world_report(&arena, 0);
        assert_true(r.has_overlap);
        assert_int_equal(r.window, 40);
        near(r.overlap.mean, 1);
        near(r.rank_correlation.low, 1);
        emb_arena_fini(&arena);
        if (with_thread) { /* once another model answers, what was measured of the former says nothing */
            world.space = "another";
            fill(vector, WIDE);
            assert_true(world_submit("new", vector, WIDE));
            world_flush();
            r = world_report(&arena, 0);
            assert_false(r.same_space);
            assert_false(r.has_overlap);
            emb_arena_fini(&arena);
        }
        world_close();
    }
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(test_numbers),
        IN_WORLD(test_cached_latencies),
        IN_WORLD(test_nothing),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_same_model_is_the_same),
        IN_WORLD(test_other_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
