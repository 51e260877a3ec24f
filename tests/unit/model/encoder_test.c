/*
 * The encoder apart from its numbers: what it says of bad weights, every length, dimensions and
 * normalisation, the memory of a pass, and memory that cannot be had.
 */
#include "model_checks.h"
#include "support/fail_alloc.h"

#include <unistd.h>

#define MODELS EMB_TEST_DATA "/models/"

static const emb_kernels *kernels;

static void open_model(const char *directory, emb_precision precision, emb_model_spec *spec,
                       emb_encoder **encoder)
{
    emb_error err = {0};
    if (emb_model_spec_read(spec, directory, &err) ||
        emb_encoder_open(spec, kernels, precision, encoder, &err))
        fail_msg("%s: %s", directory, err.message);
}

/* ---- bad weights -------------------------------------------------------------------------------- */

static char *copy_model(const char *name)
{
    static char directory[64];
    char command[512];
    strcpy(directory, "/tmp/emb-encoder-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(command, sizeof command, "cp -r '%s%s/.' %s", MODELS, name, directory);
    assert_int_equal(system(command), 0);
    return directory;
}

/* Replaces one text of the header by another of the same length. */
static void patch_weights(const char *directory, const char *from, const char *to)
{
    char path[128], *at;
    size_t length = 0;
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    char *data = malloc(4 << 20);
    length = fread(data, 1, 4 << 20, file);
    at = memmem(data, length, from, strlen(from));
    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
    rewind(file);
    assert_int_equal(fwrite(data, 1, length, file), length);
    fclose(file);
    free(data);
}

static void expect_bad_weights(const char *model, const char *from, const char *to, emb_status code,
                               const char *words, const char *more)
{
    char command[128], *directory = copy_model(model);
    emb_model_spec spec;
    emb_encoder *encoder;
    emb_error err = {0};
    patch_weights(directory, from, to);
    assert_int_equal(emb_model_spec_read(&spec, directory, &err), EMB_OK);
    emb_status status = emb_encoder_open(&spec, kernels, EMB_PRECISION_FP32, &encoder, &err);
    if (status == EMB_OK)
        emb_encoder_close(encoder);
    emb_model_spec_fini(&spec);
    snprintf(command, sizeof command, "rm -r %s", directory);
    assert_int_equal(system(command), 0);
    if (status != code || !strstr(err.message, words) || !strstr(err.message, more))
        fail_msg("status %d (%d expected), message \"%s\" should say \"%s\" and \"%s\"", status, code,
                 err.message, words, more);
}

static void test_bad_weights(void **state)
{
    (void)state;
    expect_bad_weights("bert", "encoder.layer.1.output.dense.weight", "encoder.layer.1.output.dense.weighs",
                       EMB_E_CORRUPT, "encoder.layer.1.output.dense.weight", "missing");
    expect_bad_weights("bert",
                       "encoder.layer.0.attention.self.key.bias\": {\"dtype\": \"F32\", \"shape\": [72]",
                       "encoder.layer.0.attention.self.key.bias\": {\"dtype\": \"I32\", \"shape\": [72]",
                       EMB_E_UNSUPPORTED, "encoder.layer.0.attention.self.key.bias", "I32");
    expect_bad_weights("bert", "intermediate.dense.weight\": {\"dtype\": \"F32\", \"shape\": [100, 72]",
                       "intermediate.dense.weight\": {\"dtype\": \"F32\", \"shape\": [72, 100]",
                       EMB_E_CORRUPT, "[72 × 100]", "[100 × 72]");
    expect_bad_weights("bert", "embeddings.word_embeddings.weight", "embeddings.werd_embeddings.weight",
                       EMB_E_CORRUPT, "word_embeddings", "prefix");
    expect_bad_weights("distilbert", "distilbert.transformer.layer.0.ffn.lin1.bias",
                       "distilbert.transformer.layer.0.ffn.lin3.bias", EMB_E_CORRUPT, "ffn.lin1.bias",
                       "missing");
}

static void test_missing_weights(void **state)
{
    emb_model_spec spec;
    emb_encoder *encoder;
    emb_error err = {0};
    (void)state;
    assert_int_equal(emb_model_spec_read(&spec, EMB_TEST_DATA "/configs/all-MiniLM-L6-v2", &err), EMB_OK);
    assert_int_equal(emb_encoder_open(&spec, kernels, EMB_PRECISION_AUTO, &encoder, &err), EMB_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "model.safetensors"));
    emb_model_spec_fini(&spec);
}

/* ---- lengths, dimensions, pooling ----------------------------------------------------------------- */

static void forward_one(emb_encoder *encoder, const int32_t *ids, size_t length, size_t max_tokens,
                        const emb_batch *like, float *vector)
{
    emb_workspace w;
    emb_error err;
    uint32_t offsets[2] = {0, (uint32_t)length};
    emb_batch batch = *like;
    float *out[1] = {vector};
    batch.ids = ids;
    batch.offsets = offsets;
    batch.count = 1;
    assert_int_equal(emb_workspace_open(&w, encoder, max_tokens, &err), EMB_OK);
    emb_encoder_forward(encoder, &w, &batch, NULL, out);
    emb_workspace_close(&w);
}

/* Every length, in a workspace of exactly that many tokens (a sanitizer sees a byte too far), gives the
 * vector that a large workspace gives. */
static void test_every_length(void **state)
{
    static const char *const names[] = {"bert-wide", "mpnet-prefixed", "roberta"};
    emb_model_spec spec;
    emb_encoder *encoder;
    int32_t ids[512];
    float exact[1024], roomy[1024];
    (void)state;
    for (size_t i = 0; i < 512; i++)
        ids[i] = (int32_t)(2 + i * 37 % 97);
    for (size_t m = 0; m < sizeof names / sizeof *names; m++)
        for (emb_precision p = EMB_PRECISION_FP32; p <= EMB_PRECISION_INT8; p++) {
            char path[256];
            snprintf(path, sizeof path, "%s%s", MODELS, names[m]);
            open_model(path, p, &spec, &encoder);
            for (size_t length = 1; length <= spec.max_tokens; length++) {
                forward_one(encoder, ids, length, length, &(emb_batch){0}, exact);
                forward_one(encoder, ids, length, 100000, &(emb_batch){0}, roomy);
                assert_memory_equal(exact, roomy, spec.dimension * sizeof(float));
                for (size_t i = 0; i < spec.dimension; i++)
                    assert_true(isfinite(exact[i]));
            }
            emb_encoder_close(encoder);
            emb_model_spec_fini(&spec);
        }
}

static void test_options(void **state)
{
    emb_model_spec spec;
    emb_encoder *encoder;
    int32_t ids[40];
    float full[72], raw[72], cut[72], first[72], last[72];
    double norm = 0, scale;
    (void)state;
    for (size_t i = 0; i < 40; i++)
        ids[i] = (int32_t)(5 + i);
    open_model(MODELS "bert", EMB_PRECISION_FP32, &spec, &encoder);
    forward_one(encoder, ids, 40, 64, &(emb_batch){0}, full);
    forward_one(encoder, ids, 40, 64, &(emb_batch){.normalize = EMB_OFF}, raw);
    for (size_t i = 0; i < 72; i++)
        norm += (double)raw[i] * raw[i];
    scale = sqrt(norm);
    assert_true(fabs(scale - 1) > 0.01);
    for (size_t i = 0; i < 72; i++)
        assert_true(fabs(full[i] * scale - raw[i]) < 1e-5);
    cut[10] = 42;
    forward_one(encoder, ids, 40, 64, &(emb_batch){.dimensions = 10}, cut);
    assert_true(cut[10] == 42);
    norm = 0;
    for (size_t i = 0; i < 10; i++)
        norm += (double)cut[i] * cut[i];
    assert_true(fabs(norm - 1) < 1e-5);
    assert_true(cosine_of(cut, full, 10) > 0.999999);
    /* CLS and last rows, computed alone in the last layer, are those that max pooling of one row sees. */
    forward_one(encoder, ids, 40, 64, &(emb_batch){.pooling = EMB_POOLING_CLS, .normalize = EMB_OFF}, first);
    forward_one(encoder, ids, 40, 64, &(emb_batch){.pooling = EMB_POOLING_LAST, .normalize = EMB_OFF}, last);
    uint32_t skip = 39;
    forward_one(encoder, ids, 40, 64,
                &(emb_batch){.pooling = EMB_POOLING_MAX, .normalize = EMB_OFF, .skip = &skip}, full);
    assert_memory_equal(last, full, sizeof full);
    forward_one(encoder, ids, 40, 64,
                &(emb_batch){.pooling = EMB_POOLING_CLS, .normalize = EMB_OFF, .skip = &skip}, full);
    assert_memory_equal(last, full, sizeof full);
    assert_true(memcmp(first, last, sizeof first) != 0);
    emb_encoder_close(encoder);
    emb_model_spec_fini(&spec);
}

/* ---- memory ----------------------------------------------------------------------------------------- */

static void test_workspace_is_bounded(void **state)
{
    emb_model_spec spec;
    emb_encoder *encoder;
    emb_workspace few, many;
    emb_error err;
    (void)state;
    open_model(MODELS "bert", EMB_PRECISION_FP32, &spec, &encoder);
    assert_int_equal(emb_workspace_open(&few, encoder, 1024, &err), EMB_OK);
    assert_int_equal(emb_workspace_open(&many, encoder, 1 << 24, &err), EMB_OK);
    assert_int_equal(few.bytes, many.bytes);
    emb_workspace_close(&few);
    emb_workspace_close(&many);
    emb_encoder_close(encoder);
    emb_model_spec_fini(&spec);
}

static void test_pass_allocates_nothing(void **state)
{
    emb_model_spec spec;
    emb_encoder *encoder;
    emb_workspace w;
    emb_error err;
    float vectors[2 * 50];
    int32_t ids[4] = {3, 4, 5, 6};
    uint32_t offsets[3] = {0, 3, 4};
    float *out[2] = {vectors, vectors + 50};
    (void)state;
    if (!fail_alloc_available())
        skip();
    open_model(MODELS "xlm-roberta-dense", EMB_PRECISION_INT8, &spec, &encoder);
    assert_int_equal(emb_workspace_open(&w, encoder, 512, &err), EMB_OK);
    emb_batch batch = {.ids = ids, .offsets = offsets, .count = 2};
    fail_alloc_at(1);
    emb_encoder_forward(encoder, &w, &batch, NULL, out);
    assert_false(fail_alloc_stop());
    emb_workspace_close(&w);
    emb_encoder_close(encoder);
    emb_model_spec_fini(&spec);
}

static emb_status open_and_run(const char *directory)
{
    emb_model_spec spec;
    emb_encoder *encoder = NULL;
    emb_workspace w = {0};
    emb_error err;
    int32_t ids[2] = {3, 4};
    uint32_t offsets[2] = {0, 2};
    float vector[256], *out[1] = {vector};
    emb_status status = emb_model_spec_read(&spec, directory, &err);
    if (status)
        return status;
    if (!(status = emb_encoder_open(&spec, kernels, EMB_PRECISION_AUTO, &encoder, &err)) &&
        !(status = emb_workspace_open(&w, encoder, 64, &err)))
        emb_encoder_forward(encoder, &w, &(emb_batch){.ids = ids, .offsets = offsets, .count = 1}, NULL, out);
    emb_workspace_close(&w);
    emb_encoder_close(encoder);
    emb_model_spec_fini(&spec);
    return status;
}

/* The n-th allocation fails, for every n: NOMEM, nothing leaks. */
static void test_allocations_fail(void **state)
{
    static const char *const names[] = {MODELS "bert-sharded", MODELS "distilbert", MODELS "bert-prompt"};
    (void)state;
    if (!fail_alloc_available())
        skip();
    for (size_t m = 0; m < sizeof names / sizeof *names; m++) {
        assert_int_equal(open_and_run(names[m]), EMB_OK);
        for (size_t n = 1;; n++) {
            size_t live = fail_alloc_live();
            fail_alloc_at(n);
            emb_status status = open_and_run(names[m]);
            bool failed = fail_alloc_stop();
            assert_int_equal(fail_alloc_live(), live);
            if (!failed)
                break;
            if (status != EMB_E_NOMEM && status != EMB_OK)
                fail_msg("%s: allocation %zu failed with status %d", names[m], n, status);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_weights),          cmocka_unit_test(test_missing_weights),
        cmocka_unit_test(test_every_length),         cmocka_unit_test(test_options),
        cmocka_unit_test(test_workspace_is_bounded), cmocka_unit_test(test_pass_allocates_nothing),
        cmocka_unit_test(test_allocations_fail),
    };
    emb_error err;
    if (emb_kernels_select(NULL, &kernels, &err))
        return 1;
    uint64_t saved = kernels->thread_begin();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kernels->thread_end(saved);
    return failed;
}
