/*
 * metrics_test.c: counts are exact under concurrency, percentiles are within 1/32 of the sorted values' own,
 * the text output obeys the format's grammar and says what was counted, series are bounded, and no failed
 * allocation is fatal.
 */
#include "metrics/metrics.h"

#include "support/fail_alloc.h"
#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static emb_metrics *open_metrics(void)
{
    emb_metrics *m = NULL;
    emb_error err;
    assert_int_equal(emb_metrics_open(&m, &err), EMB_OK);
    return m;
}

/* ---- a strict reader of the text format ---- */

typedef struct sample {
    char name[80], labels[1024]; /* labels as key=value pairs, unescaped, each with \x01 behind */
    double value;
} sample;

typedef struct samples {
    sample *data;
    size_t count, helps, types;
} samples;

static size_t read_name(const char *p, char *out, size_t room)
{
    size_t n = 0;
    assert_true(isalpha((unsigned char)*p) || *p == '_' || *p == ':');
    for (; isalnum((unsigned char)p[n]) || p[n] == '_' || p[n] == ':'; n++) {
        assert_true(n + 1 < room);
        out[n] = p[n];
    }
    out[n] = 0;
    return n;
}

static const char *read_labels(const char *p, sample *s)
{
    char *out = s->labels, *end = s->labels + sizeof s->labels - 1;
    if (*p != '{')
        return p;
    do {
        char name[80];
        p++;
        p += read_name(p, name, sizeof name);
        out += snprintf(out, (size_t)(end - out), "%s=", name);
        assert_int_equal(*p++, '=');
        assert_int_equal(*p++, '"');
        for (; *p != '"'; p++) {
            assert_true(*p && *p != '\n' && out + 2 < end);
            if (*p == '\\') {
                p++;
                assert_true(*p == '\\' || *p == '"' || *p == 'n');
                *out++ = *p == 'n' ? '\n' : *p;
            } else {
                *out++ = *p;
            }
        }
        *out++ = 1;
        p++;
    } while (*p == ',');
    assert_int_equal(*p, '}');
    return p + 1;
}

static double read_value(const char *text)
{
    char *end;
    if (strcmp(text, "+Inf") == 0)
        return INFINITY;
    if (strcmp(text, "NaN") == 0)
        return NAN;
    double value = strtod(text, &end);
    assert_true(end != text && *end == 0);
    return value;
}

/* A sample of `family` may be called this. */
static bool belongs(const char *family, const char *type, const char *name)
{
    size_t n = strlen(family);
    if (strncmp(name, family, n) != 0)
        return false;
    if (strcmp(type, "histogram") != 0)
        return name[n] == 0;
    return strcmp(name + n, "_bucket") == 0 || strcmp(name + n, "_sum") == 0 ||
           strcmp(name + n, "_count") == 0;
}

static samples parse(emb_buf *buf)
{
    samples all = {calloc(20000, sizeof(sample)), 0, 0, 0};
    char family[80] = "", helped[80] = "", type[20] = "";
    char *text = strdup(emb_buf_cstr(buf));
    assert_int_equal(text[strlen(text) - 1], '\n');
    for (char *line = text, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        *end = 0;
        if (strncmp(line, "# HELP ", 7) == 0) {
            size_t n = read_name(line + 7, helped, sizeof helped);
            assert_true(line[7 + n] == ' ' && line[8 + n]);
            all.helps++;
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            size_t n = read_name(line + 7, family, sizeof family);
            assert_string_equal(family, helped); /* HELP comes right before TYPE */
            assert_int_equal(sscanf(line + 7 + n, " %19s", type), 1);
            assert_true(strcmp(type, "counter") == 0 || strcmp(type, "gauge") == 0 ||
                        strcmp(type, "histogram") == 0);
            all.types++;
        } else {
            sample *s = &all.data[all.count++];
            assert_true(all.count < 20000);
            const char *rest = read_labels(line + read_name(line, s->name, sizeof s->name), s);
            assert_int_equal(*rest, ' ');
            s->value = read_value(rest + 1);
            assert_true(belongs(family, type, s->name));
        }
    }
    free(text);
    return all;
}

static samples written(emb_metrics *m)
{
    emb_buf b = EMB_BUF_INIT(64 << 20);
    assert_int_equal(emb_metrics_write_prometheus(m, &b), EMB_OK);
    samples all = parse(&b);
    emb_buf_fini(&b);
    return all;
}

static const sample *look_up(const samples *all, const char *name, const char *labels)
{
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->data[i].name, name) == 0 && strcmp(all->data[i].labels, labels) == 0)
            return &all->data[i];
    return NULL;
}

static double value_of(const samples *all, const char *name, const char *labels)
{
    const sample *s = look_up(all, name, labels);
    if (!s)
        fail_msg("no sample %s{%s}", name, labels);
    return s ? s->value : 0;
}

/* ---- tests ---- */

static void test_counts(void **state)
{
    (void)state;
    emb_metrics *m = open_metrics();
    emb_series *a = emb_metrics_series(m, EMB_METRIC_REQUESTS, "/a", "200");
    emb_series *b = emb_metrics_series(m, EMB_METRIC_REQUESTS, "/a", "404");
    assert_non_null(a);
    assert_ptr_not_equal(a, b);
    assert_ptr_equal(a, emb_metrics_series(m, EMB_METRIC_REQUESTS, "/a", "200"));
    emb_series_add(a, 3);
    emb_series_add(b, 4);
    emb_series_add(emb_metrics_series(m, EMB_METRIC_REQUESTS, "/b", "200"), 5);
    assert_true(emb_metrics_sum(m, EMB_METRIC_REQUESTS, -1, NULL) == 12);
    assert_true(emb_metrics_sum(m, EMB_METRIC_REQUESTS, 0, "/a") == 7);
    assert_true(emb_metrics_sum(m, EMB_METRIC_REQUESTS, 1, "200") == 8);
    assert_true(emb_metrics_sum(m, EMB_METRIC_REQUESTS, 1, "500") == 0);
    emb_series *gauge = emb_metrics_series(m, EMB_METRIC_CONNECTIONS);
    emb_series_add(gauge, 5);
    emb_series_add(gauge, -2);
    assert_true(emb_series_value(gauge) == 3);
    emb_series_set(gauge, 0.5);
    assert_true(emb_series_value(gauge) == 0.5);
    /* Nothing of these may crash or count. */
    assert_null(emb_metrics_series(NULL, EMB_METRIC_CONNECTIONS));
    emb_series_add(NULL, 1);
    emb_series_set(NULL, 1);
    emb_series_observe(NULL, 1);
    emb_series_observe(gauge, 1);
    assert_true(emb_series_value(NULL) == 0 && emb_series_count(gauge) == 0 &&
                emb_series_quantile(NULL, 0.5) == 0);
    emb_metrics_close(m);
    emb_metrics_close(NULL);
}

enum { THREADS = 8, ROUNDS = 20000 };

static void *hammer(void *metrics)
{
    char route[16];
    for (int i = 0; i < ROUNDS; i++) {
        snprintf(route, sizeof route, "/r%d", i % 7);
        emb_series_add(emb_metrics_series(metrics, EMB_METRIC_REQUESTS, route, "200"), 1);
        emb_series_add(emb_metrics_series(metrics, EMB_METRIC_REQUESTS_ACTIVE), i % 2 ? 1 : -1);
        emb_series_observe(emb_metrics_series(metrics, EMB_METRIC_BATCH_TEXTS, "m"), i % 100 + 1);
    }
    return NULL;
}

static void test_concurrent(void **state)
{
    (void)state;
    emb_metrics *m = open_metrics();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, m), 0);
    for (int i = 0; i < 5; i++) { /* and output meanwhile: each `_count` equals its +Inf bucket */
        samples all = written(m);
        const sample *count = look_up(&all, "embedd_batch_texts_count", "model=m\x01");
        if (count)
            assert_true(count->value ==
                        value_of(&all, "embedd_batch_texts_bucket", "model=m\x01le=+Inf\x01"));
        free(all.data);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(emb_metrics_sum(m, EMB_METRIC_REQUESTS, -1, NULL) == THREADS * ROUNDS);
    assert_true(emb_metrics_sum(m, EMB_METRIC_REQUESTS_ACTIVE, -1, NULL) == 0);
    emb_series *h = emb_metrics_series(m, EMB_METRIC_BATCH_TEXTS, "m");
    assert_true(emb_series_count(h) == THREADS * ROUNDS);
    assert_true(emb_series_value(h) == THREADS * (double)ROUNDS * 101 / 2);
    assert_true(emb_series_quantile(h, 0.1) == 10);
    emb_metrics_close(m);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double uniform(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*seed >> 11) + 0.5) / 9007199254740992.0;
}

/* Distributions of durations: log-uniform over the whole range, exponential, two humps, Pareto, constant. */
static double draw(int kind, uint64_t *seed)
{
    double u = uniform(seed);
    switch (kind) {
    case 0:
        return 1e-7 * pow(3.6e10, u);
    case 1:
        return -0.004 * log(u);
    case 2:
        return u < 0.9 ? 0.0002 + 0.00001 * uniform(seed) : 0.25 + 0.01 * uniform(seed);
    case 3:
        return 0.001 * pow(u, -1.2);
    default:
        return 0.0123;
    }
}

static void test_percentiles(void **state)
{
    (void)state;
    enum { N = 20000 };
    static double values[N];
    static const double qs[] = {0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1};
    uint64_t seed = 42;
    for (int kind = 0; kind < 5; kind++) {
        emb_metrics *m = open_metrics();
        emb_series *h = emb_metrics_series(m, EMB_METRIC_REQUEST_SECONDS, "/x");
        for (size_t i = 0; i < N; i++) {
            values[i] = draw(kind, &seed);
            emb_series_observe(h, values[i]);
        }
        qsort(values, N, sizeof *values, by_value);
        for (size_t k = 0; k < sizeof qs / sizeof *qs; k++) {
            size_t rank = (size_t)ceil(qs[k] * N);
            double exact = values[rank ? rank - 1 : 0], got = emb_series_quantile(h, qs[k]);
            if (fabs(got - exact) > exact / 32)
                fail_msg("distribution %d, q %g: %g, exactly %g", kind, qs[k], got, exact);
            assert_true(got == emb_metrics_quantile(m, EMB_METRIC_REQUEST_SECONDS, qs[k]));
        }
        emb_metrics_close(m);
    }
}

static void test_percentiles_of_counts_and_edges(void **state)
{
    (void)state;
    emb_metrics *m = open_metrics();
    emb_series *h = emb_metrics_series(m, EMB_METRIC_BATCH_TOKENS, "a");
    assert_true(emb_series_quantile(h, 0.5) == 0); /* without observations */
    for (int i = 1; i <= 64; i++) {                /* small whole numbers come back as they are */
        emb_series *one = emb_metrics_series(m, EMB_METRIC_BATCH_TEXTS, (char[]){(char)('A' + i - 1), 0});
        emb_series_observe(one, i);
        assert_true(emb_series_quantile(one, 0.5) == i);
    }
    emb_series_observe(h, 0);
    emb_series_observe(h, -5);
    assert_true(emb_series_quantile(h, 1) == 0);
    emb_series_observe(h, 1e300); /* beyond the range: the top of it */
    assert_true(emb_series_quantile(h, 1) >= 16e6);
    emb_series_observe(h, NAN);
    emb_series_observe(h, INFINITY);
    assert_int_equal(emb_series_count(h), 3);
    /* Two series of a family as one. */
    emb_series *b = emb_metrics_series(m, EMB_METRIC_QUEUE_SECONDS, "b"),
               *c = emb_metrics_series(m, EMB_METRIC_QUEUE_SECONDS, "c");
    for (int i = 0; i < 9; i++)
        emb_series_observe(b, 0.001);
    emb_series_observe(c, 1);
    assert_true(fabs(emb_metrics_quantile(m, EMB_METRIC_QUEUE_SECONDS, 0.9) - 0.001) < 0.00004);
    assert_true(emb_metrics_quantile(m, EMB_METRIC_QUEUE_SECONDS, 0.95) == 1);
    emb_metrics_close(m);
}

static void test_buckets_are_exact(void **state)
{
    (void)state;
    emb_metrics *m = open_metrics();
    emb_series *h = emb_metrics_series(m, EMB_METRIC_REQUEST_SECONDS, "/x");
    double value = 0.005;
    emb_series_observe(h, value);               /* on the bound: inside */
    emb_series_observe(h, nextafter(value, 1)); /* just over it: outside */
    emb_series_observe(h, 1000);
    emb_series *n = emb_metrics_series(m, EMB_METRIC_BATCH_TEXTS, "m");
    emb_series_observe(n, 8);
    emb_series_observe(n, 9);
    samples all = written(m);
    assert_true(value_of(&all, "embedd_request_duration_seconds_bucket", "route=/x\x01le=0.0025\x01") == 0);
    assert_true(value_of(&all, "embedd_request_duration_seconds_bucket", "route=/x\x01le=0.005\x01") == 1);
    assert_true(value_of(&all, "embedd_request_duration_seconds_bucket", "route=/x\x01le=0.01\x01") == 2);
    assert_true(value_of(&all, "embedd_request_duration_seconds_bucket", "route=/x\x01le=60\x01") == 2);
    assert_true(value_of(&all, "embedd_request_duration_seconds_bucket", "route=/x\x01le=+Inf\x01") == 3);
    assert_true(value_of(&all, "embedd_request_duration_seconds_count", "route=/x\x01") == 3);
    assert_true(value_of(&all, "embedd_request_duration_seconds_sum", "route=/x\x01") ==
                0.005 + nextafter(0.005, 1) + 1000);
    assert_true(value_of(&all, "embedd_batch_texts_bucket", "model=m\x01le=8\x01") == 1);
    assert_true(value_of(&all, "embedd_batch_texts_bucket", "model=m\x01le=16\x01") == 2);
    free(all.data);
    emb_metrics_close(m);
}

static void set_gauge(void *metrics)
{
    emb_series_set(emb_metrics_series(metrics, EMB_METRIC_CACHE_ENTRIES, "l1"), 12345);
}

static void test_output(void **state)
{
    (void)state;
    emb_metrics *m = open_metrics();
    emb_series_add(emb_metrics_series(m, EMB_METRIC_TOKENS, "a\"b\\c\nd"), 1);
    emb_series_add(emb_metrics_series(m, EMB_METRIC_TOKENS, "bad\xff\xc3"), 2);
    emb_series_add(emb_metrics_series(m, EMB_METRIC_TOKENS, "schön"), 0.1);
    emb_series_add(emb_metrics_series(m, EMB_METRIC_TOKENS, "big"), 9007199254740992.0);
    emb_series_set(emb_metrics_series(m, EMB_METRIC_MODEL_BYTES, "x"), NAN);
    assert_int_equal(emb_metrics_on_collect(m, set_gauge, m), EMB_OK);
    samples all = written(m);
    assert_int_equal(all.helps, all.types);
    assert_true(all.types >= EMB_METRIC_COUNT + 6); /* every family, and the process's */
    assert_true(value_of(&all, "embedd_tokens_total", "model=a\"b\\c\nd\x01") == 1);
    assert_true(value_of(&all, "embedd_tokens_total", "model=bad\xEF\xBF\xBD\xEF\xBF\xBD\x01") == 2);
    assert_true(value_of(&all, "embedd_tokens_total", "model=schön\x01") == 0.1);
    assert_true(value_of(&all, "embedd_tokens_total", "model=big\x01") == 9007199254740992.0);
    assert_true(isnan(value_of(&all, "embedd_model_bytes", "model=x\x01")));
    assert_true(value_of(&all, "embedd_cache_entries", "tier=l1\x01") == 12345);
    assert_true(value_of(&all, "embedd_requests_abandoned_total", "") ==
                0); /* there before its first event */
    free(all.data);
    emb_buf small = EMB_BUF_INIT(1000);
    assert_int_equal(emb_metrics_write_prometheus(m, &small), EMB_E_LIMIT);
    emb_buf_fini(&small);
    emb_metrics_close(m);
}

static void test_process(void **state)
{
    (void)state;
    emb_metrics *m = open_metrics();
    samples all = written(m), again = written(m);
    assert_true(value_of(&all, "process_cpu_seconds_total", "") > 0);
    if (access("/proc/self/stat", R_OK) == 0) {
        double start = value_of(&all, "process_start_time_seconds", ""), now = (double)time(NULL);
        assert_true(start > now - 3600 && start < now + 2);
        assert_true(start == value_of(&again, "process_start_time_seconds", ""));
        double resident = value_of(&all, "process_resident_memory_bytes", "");
        assert_true(resident > 100000 && resident < value_of(&all, "process_virtual_memory_bytes", ""));
        assert_true(value_of(&all, "process_threads", "") >= 1);
        double before = value_of(&all, "process_open_fds", "");
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        free(again.data);
        again = written(m);
        assert_true(value_of(&again, "process_open_fds", "") == before + 2);
        assert_true(before <= value_of(&again, "process_max_fds", ""));
        close(fds[0]);
        close(fds[1]);
    }
    free(all.data);
    free(again.data);
    emb_metrics_close(m);
}

static void test_bounded(void **state)
{
    (void)state;
    emb_metrics *m = open_metrics();
    char status[16];
    for (int i = 0; i < 3 * EMB_METRIC_SERIES_MAX; i++) {
        snprintf(status, sizeof status, "%d", i);
        emb_series_add(emb_metrics_series(m, EMB_METRIC_REQUESTS, "/r", status), 1);
    }
    assert_true(emb_metrics_sum(m, EMB_METRIC_REQUESTS, -1, NULL) == 3 * EMB_METRIC_SERIES_MAX);
    samples all = written(m);
    size_t series = 0;
    for (size_t i = 0; i < all.count; i++)
        series += strcmp(all.data[i].name, "embedd_requests_total") == 0;
    assert_int_equal(series, EMB_METRIC_SERIES_MAX);
    assert_true(value_of(&all, "embedd_requests_total", "route=other\x01status=other\x01") ==
                2 * EMB_METRIC_SERIES_MAX + 1);
    assert_true(value_of(&all, "embedd_requests_total", "route=/r\x01status=7\x01") == 1); /* old ones stay */
    free(all.data);
    emb_metrics_close(m);
}

static void collect_nothing(void *context)
{
    (void)context;
}

static void test_no_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    for (size_t n = 1;; n++) {
        size_t live = fail_alloc_live();
        emb_error err;
        emb_metrics *m = NULL;
        emb_buf b = EMB_BUF_INIT(16 << 20);
        fail_alloc_at(n);
        emb_status status = emb_metrics_open(&m, &err);
        emb_series *s = emb_metrics_series(m, EMB_METRIC_REQUEST_SECONDS, "/x");
        emb_series_observe(s, 1);
        if (!status)
            status = emb_metrics_on_collect(m, collect_nothing, NULL);
        if (!status)
            status = emb_metrics_write_prometheus(m, &b);
        bool failed = fail_alloc_stop();
        assert_true(status == EMB_E_NOMEM || (status == EMB_OK && (failed == !s)));
        emb_buf_fini(&b);
        emb_metrics_close(m);
        assert_int_equal(fail_alloc_live(), live);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_concurrent),
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_percentiles_of_counts_and_edges),
        cmocka_unit_test(test_buckets_are_exact),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_process),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
