/*
 * window_test.c: counts are exact, within the window and under concurrency, percentiles are within 1/32 of
 * the sorted values' own, old slices make room, memory is bounded, and no failed allocation is fatal.
 */
#include "metrics/window.h"

#include "support/fail_alloc.h"
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static const uint64_t second = 1000000000u;

static emb_window *open_window(uint32_t seconds)
{
    emb_window *w = NULL;
    emb_error err;
    assert_int_equal(emb_window_open(seconds, &w, &err), EMB_OK);
    return w;
}

static emb_window_stats read_window(const emb_window *w, uint64_t now_ns, uint32_t seconds)
{
    emb_window_stats s;
    emb_window_read(w, now_ns, seconds, &s);
    return s;
}

static void nothing_observed(void **state)
{
    (void)state;
    emb_window *w = NULL;
    emb_error err;
    assert_int_equal(emb_window_open(0, &w, &err), EMB_E_INVALID);
    assert_null(w);
    w = open_window(300);
    emb_window_stats s = read_window(w, 0, 0);
    assert_int_equal(s.count, 0);
    assert_true(s.sum == 0 && s.p50 == 0 && s.p95 == 0 && s.p99 == 0 && s.maximum == 0);
    emb_window_observe(w, NAN, 5);
    emb_window_observe(w, INFINITY, 5);
    emb_window_observe(NULL, 1, 5);
    s = read_window(w, 5, 0);
    assert_int_equal(s.count, 0);
    s = read_window(NULL, 5, 0);
    assert_int_equal(s.count, 0);
    emb_window_observe(w, -3, 5); /* counts as 0 */
    s = read_window(w, 5, 0);
    assert_int_equal(s.count, 1);
    assert_true(s.sum == 0 && s.maximum == 0 && s.p99 == 0);
    emb_window_reset(w);
    emb_window_reset(NULL);
    assert_int_equal(read_window(w, 5, 0).count, 0);
    emb_window_close(w);
    emb_window_close(NULL);
}

/* One observation a second: of the last n seconds there are n, at most a slice (10 s) beside. */
static void only_the_last_seconds(void **state)
{
    (void)state;
    emb_window *w = open_window(300);
    for (uint64_t t = 0; t < 2000; t++) {
        emb_window_observe(w, 0.5, t * second);
        for (uint32_t asked = 0; asked <= 330; asked += 30) {
            emb_window_stats s = read_window(w, t * second, asked);
            uint64_t seen = t + 1, wanted = asked == 0 || asked > 300 ? 300 : asked;
            wanted = wanted < seen ? wanted : seen;
            assert_true(s.count <= wanted && s.count + 10 > wanted);
            assert_true(fabs(s.sum - 0.5 * (double)s.count) < 1e-9);
        }
    }
    emb_window_stats s = read_window(w, 2000 * second + 310 * second, 0); /* silence */
    assert_int_equal(s.count, 0);
    assert_true(s.maximum == 0);
    emb_window_observe(w, 2, 9000 * second);
    s = read_window(w, 9000 * second, 0);
    assert_int_equal(s.count, 1);
    assert_true(s.sum == 2 && s.maximum == 2 && s.p50 == 2);
    emb_window_observe(
        w, 7, 8000 * second); /* from before the window: its slot may be taken, or it is out of reach */
    assert_int_equal(read_window(w, 9000 * second, 0).count, 1);
    emb_window_close(w);
}

static void a_jump_back_is_not_counted(void **state)
{
    (void)state;
    emb_window *w = open_window(30); /* slices of a second */
    emb_window_observe(w, 1, 100 * second);
    emb_window_observe(w, 1, 70 * second); /* the same slot, a window earlier */
    assert_int_equal(read_window(w, 100 * second, 0).count, 1);
    assert_int_equal(read_window(w, 70 * second, 0).count, 0);
    emb_window_observe(w, 1, 99 * second); /* late, but within the window */
    assert_int_equal(read_window(w, 100 * second, 0).count, 2);
    emb_window_close(w);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double true_rank(const double *sorted, size_t n, double q)
{
    size_t rank = (size_t)ceil(q * (double)n);
    return sorted[(rank ? rank : 1) - 1];
}

static void close_to(double got, double wanted)
{
    assert_true(fabs(got - wanted) <= wanted / 32);
}

static void percentiles_are_close(void **state)
{
    (void)state;
    enum { N = 30000 };
    double *values = malloc(N * sizeof *values);
    uint64_t random = 88172645463325252u;
    assert_non_null(values);
    for (int shape = 0; shape < 3; shape++) {
        emb_window *w = open_window(60);
        double sum = 0;
        for (size_t i = 0; i < N; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            double u = (double)(random >> 11) / 9007199254740992.0;
            values[i] = shape == 0   ? u
                        : shape == 1 ? exp(12 * u - 9)
                                     : (i % 100 == 0 ? 8 + u : 0.004 + u / 1000);
            sum += values[i];
            emb_window_observe(w, values[i], 1000 * second + i * 1900000); /* over 57 of 60 seconds */
        }
        emb_window_stats s = read_window(w, 1058 * second, 0);
        qsort(values, N, sizeof *values, ascending);
        assert_int_equal(s.count, N);
        assert_true(fabs(s.sum - sum) < 1e-6 * sum);
        assert_true(s.maximum == values[N - 1]);
        close_to(s.p50, true_rank(values, N, 0.50));
        close_to(s.p95, true_rank(values, N, 0.95));
        close_to(s.p99, true_rank(values, N, 0.99));
        assert_true(s.p50 <= s.p95 && s.p95 <= s.p99 && s.p99 <= s.maximum);
        emb_window_close(w);
    }
    free(values);
}

enum { THREADS = 6, EACH = 20000 };

typedef struct crowd {
    emb_window *window;
    _Atomic uint64_t clock; /* shared: a tick an observation, so that all meet at each slice's beginning */
    _Atomic bool done;
} crowd;

static void *observer(void *context)
{
    crowd *c = context;
    for (int i = 0; i < EACH; i++)
        emb_window_observe(c->window, 1, atomic_fetch_add(&c->clock, 1) * (second / 1000));
    return NULL;
}

static void *reader(void *context)
{
    crowd *c = context;
    do {
        uint64_t now = atomic_load(&c->clock) * (second / 1000);
        emb_window_stats s = read_window(c->window, now, 0);
        assert_true(s.count == 0 || (s.p50 == 1 && s.p99 == 1 && s.maximum == 1));
    } while (!atomic_load(&c->done));
    return NULL;
}

/* Nothing is lost or counted twice while six threads race through hundreds of slices, and memory does not
 * grow. */
static void run_crowd(uint32_t seconds, uint64_t expected_least, uint64_t expected_most)
{
    crowd c = {.window = open_window(seconds)};
    pthread_t threads[THREADS], watching;
    assert_int_equal(pthread_create(&watching, NULL, reader, &c), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, observer, &c), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&c.done, true);
    pthread_join(watching, NULL);
    uint64_t last = (THREADS * EACH - 1) * (second / 1000);
    emb_window_stats s = read_window(c.window, last, 0);
    assert_in_range(s.count, expected_least, expected_most);
    assert_true(s.sum == (double)s.count);
    emb_window_close(c.window);
}

static void threads_that_fit_lose_nothing(void **state)
{
    (void)state;
    run_crowd(THREADS * EACH / 1000 + 60, THREADS * EACH, THREADS * EACH); /* all of it lies in the window */
}

static void threads_that_race_through_slices(void **state)
{
    (void)state;
    size_t live = fail_alloc_available() ? fail_alloc_live() : 0;
    run_crowd(3, 2900 - THREADS, 3000 + THREADS); /* slices of 100 ticks: 1200 replacements */
    if (fail_alloc_available())
        assert_int_equal(fail_alloc_live(), live);
}

static void memory_is_bounded_and_lazy(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    size_t live = fail_alloc_live();
    emb_window *w = open_window(30);
    assert_int_equal(fail_alloc_live(), live + 1);
    emb_window_observe(w, 1, 0);
    assert_int_equal(fail_alloc_live(), live + 2);
    for (uint64_t t = 0; t < 500; t++)
        emb_window_observe(w, 1, t * second);
    assert_true(fail_alloc_live() <= live + 1 + 31);
    emb_window_reset(w);
    for (uint64_t t = 500; t < 1000; t++)
        emb_window_observe(w, 1, t * second);
    assert_true(fail_alloc_live() <= live + 1 + 31);
    emb_window_close(w);
    assert_int_equal(fail_alloc_live(), live);
}

static void short_memory(void **state)
{
    (void)state;
    emb_window *w = NULL;
    emb_error err;
    if (!fail_alloc_available())
        skip();
    fail_alloc_at(1);
    assert_int_equal(emb_window_open(30, &w, &err), EMB_E_NOMEM);
    fail_alloc_stop();
    assert_null(w);
    w = open_window(30);
    fail_alloc_at(1);
    emb_window_observe(w, 1, 0); /* not counted */
    assert_true(fail_alloc_stop());
    emb_window_observe(w, 1, 0);
    assert_int_equal(read_window(w, 0, 0).count, 1);
    emb_window_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_observed),
        cmocka_unit_test(only_the_last_seconds),
        cmocka_unit_test(a_jump_back_is_not_counted),
        cmocka_unit_test(percentiles_are_close),
        cmocka_unit_test(threads_that_fit_lose_nothing),
        cmocka_unit_test(threads_that_race_through_slices),
        cmocka_unit_test(memory_is_bounded_and_lazy),
        cmocka_unit_test(short_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
