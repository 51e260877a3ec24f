/* Quantising: single groups, whole directories, and that nothing but the weights changes. */
#include "base/file.h"
#include "model/quantize.h"
#include "model/safetensors.h"
#include "model_checks.h"
#include "support/fail_alloc.h"

#include <sys/stat.h>
#include <unistd.h>

#define MODELS EMB_TEST_DATA "/models/"

static const emb_kernels *kernels;
static uint32_t random_state = 2463534242u;

static float uniform(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return (float)(int32_t)random_state * 0x1p-31f;
}

static float scale_of(uint16_t bits)
{
    float scale;
    kernels->widen(EMB_DTYPE_F16, &bits, NULL, 0, 1, &scale, false);
    return scale;
}

static double squared_error(const float *x, const int8_t *q, float scale, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)x[i] - (double)q[i] * scale) * ((double)x[i] - (double)q[i] * scale);
    return sum;
}

/* Never worse than the plain scale max/127, the largest integer is ±127, and quantising the result as the
 * int8 kernels do (scale max/127 of the group) finds the same integers. */
static void test_groups(void **state)
{
    enum { N = 64, ROUNDS = 20000 };
    float x[N], plain_scale;
    int8_t q[N], plain[N];
    uint16_t scale;
    double better = 0, total = 0;
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        float size = expf(6 * uniform()), largest = 0, again = 0;
        int top = 0;
        for (int i = 0; i < N; i++) {
            x[i] = size * uniform() * uniform() * uniform();
            largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
        }
        emb_quantize_group(x, N, q, &scale);
        float s = scale_of(scale);
        plain_scale = largest / 127;
        for (int i = 0; i < N; i++) {
            plain[i] = (int8_t)rintf(x[i] / plain_scale);
            top = abs(q[i]) > top ? abs(q[i]) : top;
            again = fabsf(q[i] * s) > again ? fabsf(q[i] * s) : again;
        }
        if (s >= 0x1p-14f)
            assert_int_equal(top, 127);
        for (int i = 0; i < N && top == 127; i++)
            assert_int_equal((int)rintf(q[i] * s * (127.0f / again)), q[i]);
        better += squared_error(x, q, s, N);
        total += squared_error(x, plain, plain_scale, N);
        /* Below 2^-14 F16 scales are coarse, and even the best may be worse. */
        double found = squared_error(x, q, s, N), limit = 1.1 * squared_error(x, plain, plain_scale, N);
        if (s >= 0x1p-14f && !(found <= limit))
            fail_msg("size %g, scale %g: error %g, at most %g is needed", size, s, found, limit);
    }
    assert_true(better < total);
}

static void test_extreme_groups(void **state)
{
    static const float zeros[8] = {0}, tiny[8] = {1e-30f, -1e-35f}, one[8] = {-3.5f};
    int8_t q[8];
    uint16_t scale;
    (void)state;
    emb_quantize_group(zeros, 8, q, &scale);
    assert_int_equal(scale, 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(q[i], 0);
    emb_quantize_group(tiny, 8, q, &scale);
    for (int i = 0; i < 8; i++)
        assert_int_equal(q[i], 0);
    emb_quantize_group(one, 8, q, &scale);
    assert_int_equal(q[0], -127);
    assert_true(fabsf(scale_of(scale) * 127 - 3.5f) < 0.002f);
}

static char *temporary(char *directory)
{
    strcpy(directory, "/tmp/emb-quantize-XXXXXX");
    assert_non_null(mkdtemp(directory));
    return directory;
}

static void drop(const char *directory)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", directory);
    assert_int_equal(system(command), 0);
}

static emb_status quantize(const char *source, const char *target, size_t group, emb_quantize_report *report,
                           emb_error *err)
{
    emb_quantize_options options = EMB_QUANTIZE_OPTIONS_INIT;
    options.group = options.table_group = group;
    return emb_quantize_directory(source, target, &options, report, err);
}

/* Vectors of the quantised model keep close to those of the original. */
static void check_vectors(const char *directory, const golden *g, const char *name)
{
    emb_model_spec spec;
    emb_encoder *encoder;
    emb_workspace w;
    emb_error err = {0};
    float vector[1024];
    if (emb_model_spec_read(&spec, directory, &err) ||
        emb_encoder_open(&spec, kernels, EMB_PRECISION_FP32, &encoder, &err) ||
        emb_workspace_open(&w, encoder, 1024, &err))
        fail_msg("%s", err.message);
    for (size_t i = 0; i < g->count; i++) {
        run_batch(encoder, &w, g, &i, 1, NULL, vector);
        double cosine = cosine_of(vector, g->vectors[i], g->dimension);
        if (cosine < 0.9990)
            fail_msg("%s, text %zu: cosine %.6f after quantising", name, i, cosine);
    }
    emb_workspace_close(&w);
    emb_encoder_close(encoder);
    emb_model_spec_fini(&spec);
}

static void test_directories(void **state)
{
    static const char *const names[] = {
        "bert-wide",  "bert-sharded",      "xlm-roberta",       "mpnet",
        "distilbert", "bert-prefixed-f16", "bert-concatenated", "bert-old-names-bf16"};
    char directory[64], path[256];
    emb_quantize_report report;
    emb_error err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s%s.golden.json", MODELS, names[i]);
        golden g = read_golden(path);
        snprintf(path, sizeof path, "%s%s", MODELS, names[i]);
        if (quantize(path, temporary(directory), 0, &report, &err))
            fail_msg("%s: %s", names[i], err.message);
        assert_true(report.tensors > 0 && report.bytes_after > 0);
        check_vectors(directory, &g, names[i]);
        drop(directory);
        free_golden(&g);
    }
}

/* bert-wide has matrices large enough: they become I8, and the same bytes come every time. */
static void test_contents(void **state)
{
    char first[64], second[64], path[256];
    emb_quantize_report report;
    emb_safetensors *s;
    emb_tensor t;
    emb_mapping a, b;
    emb_error err = {0};
    (void)state;
    assert_int_equal(quantize(MODELS "bert-wide", temporary(first), 32, &report, &err), EMB_OK);
    assert_int_equal(quantize(MODELS "bert-wide", temporary(second), 32, NULL, &err), EMB_OK);
    assert_int_equal(report.quantized, 7);
    assert_true(report.worst_error > 0.001 && report.worst_error < 0.01 && report.worst_tensor[0]);
    assert_int_equal(emb_safetensors_open(first, "model", &s, &err), EMB_OK);
    assert_true(emb_safetensors_find(s, "encoder.layer.0.intermediate.dense.weight", &t));
    assert_int_equal(t.dtype, EMB_DTYPE_I8);
    assert_int_equal(t.group, 32);
    assert_int_equal(t.scales_dtype, EMB_DTYPE_F16);
    assert_true(emb_safetensors_find(s, "embeddings.position_embeddings.weight", &t));
    assert_int_equal(t.dtype, EMB_DTYPE_F16);
    assert_true(emb_safetensors_find(s, "embeddings.LayerNorm.weight", &t));
    assert_int_equal(t.dtype, EMB_DTYPE_F32);
    assert_int_equal((uintptr_t)t.data % 4, 0);
    emb_safetensors_close(s);
    snprintf(path, sizeof path, "%s/model.safetensors", first);
    assert_int_equal(emb_mapping_open(&a, path, &err), EMB_OK);
    snprintf(path, sizeof path, "%s/model.safetensors", second);
    assert_int_equal(emb_mapping_open(&b, path, &err), EMB_OK);
    assert_int_equal(a.length, b.length);
    assert_memory_equal(a.data, b.data, a.length);
    emb_mapping_close(&a);
    emb_mapping_close(&b);
    snprintf(path, sizeof path, "%s/vocab.txt", first);
    assert_true(emb_is_file(path));
    snprintf(path, sizeof path, "%s/1_Pooling/config.json", first);
    assert_true(emb_is_file(path));
    /* quantising what is quantised already, with the same groups, changes no integer */
    drop(second);
    assert_int_equal(quantize(first, temporary(second), 32, &report, &err), EMB_OK);
    assert_true(report.worst_error < 1e-6);
    drop(first);
    drop(second);
}

static void test_refusals(void **state)
{
    char directory[64];
    emb_error err = {0};
    (void)state;
    temporary(directory);
    assert_int_equal(quantize(MODELS "bert", MODELS "bert", 0, NULL, &err), EMB_E_INVALID);
    assert_int_equal(quantize(MODELS "bert", directory, 3, NULL, &err), EMB_E_INVALID);
    assert_non_null(strstr(err.message, "3"));
    assert_int_equal(quantize(MODELS "nothing", directory, 0, NULL, &err), EMB_E_NOT_FOUND);
    assert_int_not_equal(quantize(MODELS "bert", "/nonexistent/deep", 0, NULL, &err), EMB_OK);
    drop(directory);
}

static void test_allocations_fail(void **state)
{
    char directory[64];
    emb_error err;
    (void)state;
    if (!fail_alloc_available())
        skip();
    temporary(directory);
    for (size_t n = 1;; n++) {
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = quantize(MODELS "distilbert", directory, 0, NULL, &err);
        bool failed = fail_alloc_stop();
        assert_int_equal(fail_alloc_live(), live);
        if (!failed)
            break;
        if (status == EMB_E_INTERNAL || status == EMB_E_CORRUPT)
            fail_msg("allocation %zu failed with status %d", n, status);
    }
    drop(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),      cmocka_unit_test(test_extreme_groups),
        cmocka_unit_test(test_directories), cmocka_unit_test(test_contents),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_allocations_fail),
    };
    emb_error err;
    if (emb_kernels_select(NULL, &kernels, &err))
        return 1;
    uint64_t saved = kernels->thread_begin();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kernels->thread_end(saved);
    return failed;
}
