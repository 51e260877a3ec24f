/* Reading model directories: what published configs mean, and what is said of bad ones. */
#include "base/arena.h"
#include "model/spec_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- files in memory ---------------------------------------------------------------------------- */

typedef struct memory_file {
    const char *path, *text;
} memory_file;

static emb_status read_memory(void *context, const char *path, emb_json **out, emb_error *err)
{
    for (const memory_file *f = context; f->path; f++)
        if (strcmp(f->path, path) == 0)
            return emb_json_open(f->text, strlen(f->text), path, out, err);
    return EMB_E_NOT_FOUND;
}

static emb_status read_files(emb_model_spec *spec, const memory_file *files, emb_error *err)
{
    emb_spec_source source = {read_memory, (void *)files};
    return emb_model_spec_read_from(spec, "models/some-model/", &source, err);
}

/* The config must be refused with `code`, and the message must name file and key. */
static void expect_refusal(const memory_file *files, emb_status code, const char *file, const char *key)
{
    emb_model_spec spec;
    emb_error err = {0};
    emb_status status = read_files(&spec, files, &err);
    if (status == EMB_OK)
        emb_model_spec_fini(&spec);
    if (status != code || !strstr(err.message, file) || !strstr(err.message, key))
        fail_msg("status %d (%d expected), message \"%s\" should name %s and %s", status, code, err.message,
                 file, key);
}

#define BERT                                                                                        \
    "\"model_type\":\"bert\",\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4," \
    "\"intermediate_size\":128,\"vocab_size\":100,\"max_position_embeddings\":128"
#define ONLY_CONFIG(extra)                   \
    (const memory_file[])                    \
    {                                        \
        {"config.json", "{" BERT extra "}"}, \
        {                                    \
            0                                \
        }                                    \
    }
#define TRANSFORMER "{\"idx\":0,\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"}"
#define POOLING "{\"idx\":1,\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"}"
#define MODULE(n, class) \
    "{\"idx\":" #n ",\"path\":\"" #n "_" class "\",\"type\":\"sentence_transformers.models." class "\"}"

/* ---- published models ---------------------------------------------------------------------------- */

typedef struct published {
    const char *name;
    emb_architecture architecture;
    size_t layers, heads, hidden, intermediate, vocab, positions, types, offset, buckets, max_tokens, prompts;
    emb_pooling pooling;
    bool normalize;
    float eps;
} published;

static void test_published(void **state)
{
    static const published models[] = {
        {"all-MiniLM-L6-v2", EMB_ARCH_BERT, 6, 12, 384, 1536, 30522, 512, 2, 0, 0, 256, 2, EMB_POOLING_MEAN,
         true, 1e-12f},
        {"all-mpnet-base-v2", EMB_ARCH_MPNET, 12, 12, 768, 3072, 30527, 514, 0, 2, 32, 384, 0,
         EMB_POOLING_MEAN, true, 1e-5f},
        {"bge-m3", EMB_ARCH_XLM_ROBERTA, 24, 16, 1024, 4096, 250002, 8194, 1, 2, 0, 8192, 2, EMB_POOLING_CLS,
         true, 1e-5f},
        {"e5-small-v2", EMB_ARCH_BERT, 12, 12, 384, 1536, 30522, 512, 2, 0, 0, 512, 2, EMB_POOLING_MEAN, true,
         1e-12f},
        {"gte-small", EMB_ARCH_BERT, 12, 12, 384, 1536, 30522, 512, 2, 0, 0, 512, 0, EMB_POOLING_MEAN, false,
         1e-12f},
        {"multilingual-e5-large", EMB_ARCH_XLM_ROBERTA, 24, 16, 1024, 4096, 250002, 514, 1, 2, 0, 512, 0,
         EMB_POOLING_MEAN, true, 1e-5f},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const published *m = &models[i];
        emb_model_spec spec;
        emb_error err = {0};
        char path[512];
        snprintf(path, sizeof path, "%s/configs/%s", EMB_TEST_DATA, m->name);
        if (emb_model_spec_read(&spec, path, &err))
            fail_msg("%s: %s", m->name, err.message);
        assert_string_equal(spec.name, m->name);
        assert_string_equal(spec.directory, path);
        assert_string_equal(spec.transformer, path);
        assert_int_equal(spec.architecture, m->architecture);
        assert_int_equal(spec.layers, m->layers);
        assert_int_equal(spec.heads, m->heads);
        assert_int_equal(spec.hidden, m->hidden);
        assert_int_equal(spec.intermediate, m->intermediate);
        assert_int_equal(spec.vocab_size, m->vocab);
        assert_int_equal(spec.position_rows, m->positions);
        assert_int_equal(spec.type_rows, m->types);
        assert_int_equal(spec.position_offset, m->offset);
        assert_int_equal(spec.relative_buckets, m->buckets);
        assert_int_equal(spec.max_tokens, m->max_tokens);
        assert_int_equal(spec.pooling, m->pooling);
        assert_int_equal(spec.pooling_count, 1);
        assert_int_equal(spec.normalize, m->normalize);
        assert_int_equal(spec.module_count, 0);
        assert_int_equal(spec.dimension, m->hidden);
        assert_int_equal(spec.prompt_count, m->prompts);
        assert_int_equal(spec.activation, EMB_ACT_GELU);
        assert_true(spec.layer_norm_eps == m->eps);
        assert_true(spec.include_prompt);
        assert_false(spec.lower_case || spec.truncate_left);
        assert_null(spec.default_prompt);
        emb_model_spec_fini(&spec);
    }
    (void)state;
}

static void test_not_a_directory(void **state)
{
    emb_model_spec spec;
    emb_error err;
    (void)state;
    assert_int_equal(emb_model_spec_read(&spec, EMB_TEST_DATA "/nowhere", &err), EMB_E_NOT_FOUND);
    assert_int_equal(emb_model_spec_read(&spec, EMB_TEST_DATA "/configs", &err), EMB_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "config.json"));
}

/* ---- families and variants ------------------------------------------------------------------------ */

static void test_defaults(void **state)
{
    emb_model_spec spec;
    emb_error err;
    (void)state;
    assert_int_equal(read_files(&spec, ONLY_CONFIG(""), &err), EMB_OK);
    assert_string_equal(spec.name, "some-model");
    assert_int_equal(spec.pooling, EMB_POOLING_MEAN);
    assert_false(spec.normalize);
    assert_int_equal(spec.max_tokens, 128);
    assert_int_equal(spec.type_rows, 2);
    assert_int_equal(spec.activation, EMB_ACT_GELU);
    emb_model_spec_fini(&spec);
}

static void test_distilbert(void **state)
{
    const memory_file files[] = {{"config.json",
                                  "{\"model_type\":\"distilbert\",\"dim\":96,\"n_layers\":3,\"n_heads\":6,"
                                  "\"hidden_dim\":200,\"activation\":\"gelu\",\"max_position_embeddings\":64,"
                                  "\"vocab_size\":50,\"sinusoidal_pos_embds\":false,\"pad_token_id\":0}"},
                                 {0}};
    emb_model_spec spec;
    emb_error err;
    (void)state;
    assert_int_equal(read_files(&spec, files, &err), EMB_OK);
    assert_int_equal(spec.architecture, EMB_ARCH_DISTILBERT);
    assert_int_equal(spec.hidden, 96);
    assert_int_equal(spec.layers, 3);
    assert_int_equal(spec.heads, 6);
    assert_int_equal(spec.intermediate, 200);
    assert_int_equal(spec.type_rows, 0);
    assert_true(spec.layer_norm_eps == 1e-12f);
    emb_model_spec_fini(&spec);
}

static void test_activations(void **state)
{
    static const struct {
        const char *config;
        emb_activation activation;
    } cases[] = {{"{" BERT ",\"hidden_act\":\"gelu_new\"}", EMB_ACT_GELU_TANH},
                 {"{" BERT ",\"hidden_act\":\"gelu_pytorch_tanh\"}", EMB_ACT_GELU_TANH},
                 {"{" BERT ",\"hidden_act\":\"relu\"}", EMB_ACT_RELU},
                 {"{" BERT ",\"hidden_act\":\"silu\"}", EMB_ACT_SILU},
                 {"{" BERT ",\"hidden_act\":\"swish\"}", EMB_ACT_SILU},
                 {"{" BERT ",\"hidden_act\":\"tanh\"}", EMB_ACT_TANH}};
    emb_model_spec spec;
    emb_error err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const memory_file files[] = {{"config.json", cases[i].config}, {0}};
        assert_int_equal(read_files(&spec, files, &err), EMB_OK);
        assert_int_equal(spec.activation, cases[i].activation);
        emb_model_spec_fini(&spec);
    }
}

static void test_modules(void **state)
{
    const memory_file files[] = {
        {"modules.json",
         "[{\"path\":\"0_Transformer\",\"type\":\"sentence_transformers.models.Transformer\"}," POOLING
         "," MODULE(2, "Dropout") "," MODULE(3, "LayerNorm") "," MODULE(4, "Dense") "," MODULE(
             5, "Normalize") "]"},
        {"0_Transformer/config.json", "{" BERT ",\"type_vocab_size\":1}"},
        {"0_Transformer/sentence_roberta_config.json", "{\"max_seq_length\":100,\"do_lower_case\":true}"},
        {"0_Transformer/tokenizer_config.json", "{\"model_max_length\":50,\"truncation_side\":\"left\"}"},
        {"1_Pooling/config.json", "{\"pooling_mode_lasttoken\":true,\"pooling_mode_cls_token\":true,"
                                  "\"pooling_mode_mean_tokens\":false,\"include_prompt\":false}"},
        {"3_LayerNorm/config.json", "{\"dimension\":128}"},
        {"4_Dense/config.json", "{\"in_features\":128,\"out_features\":32,\"bias\":false,\"activation_"
                                "function\":\"torch.nn.modules.linear.Identity\"}"},
        {"config_sentence_transformers.json",
         "{\"prompts\":{\"query\":\"query: \",\"none\":null,\"document\":\"p\\u00e4ssage: "
         "\"},\"default_prompt_name\":\"query\"}"},
        {0},
    };
    emb_model_spec spec;
    emb_error err = {0};
    (void)state;
    if (read_files(&spec, files, &err))
        fail_msg("%s", err.message);
    assert_string_equal(spec.transformer, "models/some-model/0_Transformer");
    assert_int_equal(spec.max_tokens, 100);
    assert_true(spec.lower_case && spec.truncate_left);
    assert_int_equal(spec.pooling_count, 2);
    assert_int_equal(spec.poolings[0], EMB_POOLING_CLS);
    assert_int_equal(spec.poolings[1], EMB_POOLING_LAST);
    assert_false(spec.include_prompt);
    assert_int_equal(spec.module_count, 2);
    assert_int_equal(spec.modules[0].kind, EMB_MODULE_LAYER_NORM);
    assert_int_equal(spec.modules[1].kind, EMB_MODULE_DENSE);
    assert_string_equal(spec.modules[1].directory, "4_Dense");
    assert_int_equal(spec.modules[1].activation, EMB_ACT_NONE);
    assert_false(spec.modules[1].bias);
    assert_true(spec.normalize);
    assert_int_equal(spec.dimension, 32);
    assert_int_equal(spec.prompt_count, 2);
    assert_string_equal(spec.default_prompt, "query");
    assert_string_equal(emb_model_spec_prompt(&spec, "query")->text, "query: ");
    assert_int_equal(emb_model_spec_prompt(&spec, "document")->length, strlen("pässage: "));
    assert_null(emb_model_spec_prompt(&spec, "none"));
    emb_model_spec_fini(&spec);
}

static void test_pooling_spellings(void **state)
{
    static const struct {
        const char *config;
        emb_pooling first;
        size_t count;
    } cases[] = {
        {"{\"pooling_mode\":\"lasttoken\"}", EMB_POOLING_LAST, 1},
        {"{\"pooling_mode\":[\"max\",\"cls\"]}", EMB_POOLING_MAX, 2},
        {"{\"pooling_mode\":\"cls\",\"pooling_mode_mean_tokens\":true}", EMB_POOLING_CLS, 1},
        {"{\"pooling_mode_mean_sqrt_len_tokens\":true}", EMB_POOLING_MEAN_SQRT_LEN, 1},
        {"{\"pooling_mode_mean_tokens\":false}", EMB_POOLING_MEAN, 1}, /* none on: mean, as the reference */
        {"{}", EMB_POOLING_MEAN, 1},
    };
    emb_model_spec spec;
    emb_error err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const memory_file files[] = {{"config.json", "{" BERT "}"},
                                     {"modules.json", "[" TRANSFORMER "," POOLING "]"},
                                     {"1_Pooling/config.json", cases[i].config},
                                     {0}};
        assert_int_equal(read_files(&spec, files, &err), EMB_OK);
        assert_int_equal(spec.pooling, cases[i].first);
        assert_int_equal(spec.pooling_count, cases[i].count);
        assert_int_equal(spec.dimension, 64 * cases[i].count);
        emb_model_spec_fini(&spec);
    }
}

static void test_max_tokens(void **state)
{
    static const struct {
        const char *sentence, *tokenizer;
        size_t expected;
    } cases[] = {
        {"{\"max_seq_length\":96}", "{\"model_max_length\":64}", 96}, /* the sentence config wins */
        {"{\"max_seq_length\":null}", "{\"model_max_length\":64}", 64},
        {"{\"do_lower_case\":false}", "{\"model_max_length\":1000000000000000019884624838656}", 128},
        {"{}", "{\"model_max_length\":null}", 128},
        {"{\"max_seq_length\":512}", "{}", 128}, /* cut to the positions */
        {"{\"max_seq_length\":16.0}", "{}", 16},
    };
    emb_model_spec spec;
    emb_error err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const memory_file files[] = {{"config.json", "{" BERT "}"},
                                     {"modules.json", "[" TRANSFORMER "," POOLING "]"},
                                     {"sentence_bert_config.json", cases[i].sentence},
                                     {"tokenizer_config.json", cases[i].tokenizer},
                                     {0}};
        if (read_files(&spec, files, &err))
            fail_msg("case %zu: %s", i, err.message);
        assert_int_equal(spec.max_tokens, cases[i].expected);
        emb_model_spec_fini(&spec);
    }
}

static void test_roberta_positions(void **state)
{
    const memory_file files[] = {
        {"config.json",
         "{\"model_type\":\"roberta\",\"hidden_size\":64,\"num_hidden_layers\":1,\"num_attention_heads\":4,"
         "\"intermediate_size\":8,\"vocab_size\":9,\"max_position_embeddings\":514,\"pad_token_id\":3}"},
        {0}};
    emb_model_spec spec;
    emb_error err;
    (void)state;
    assert_int_equal(read_files(&spec, files, &err), EMB_OK);
    assert_int_equal(spec.position_offset, 4);
    assert_int_equal(spec.max_tokens, 510);
    emb_model_spec_fini(&spec);
}

static void test_names(void **state)
{
    static const char *const cases[][2] = {
        {"a/b/", "b"},
        {"/b", "b"},
        {"/x/models--BAAI--bge-m3/snapshots/0123456789012345678901234567890123456789", "bge-m3"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_model_spec spec;
        emb_error err;
        emb_spec_source source = {read_memory, (void *)ONLY_CONFIG("")};
        assert_int_equal(emb_model_spec_read_from(&spec, cases[i][0], &source, &err), EMB_OK);
        assert_string_equal(spec.name, cases[i][1]);
        emb_model_spec_fini(&spec);
    }
}

/* ---- refusals ------------------------------------------------------------------------------------- */

static void test_bad_configs(void **state)
{
    static const struct {
        const char *config;
        emb_status code;
        const char *key;
    } cases[] = {
        {"{\"model_type\":\"t5\"}", EMB_E_UNSUPPORTED, "t5"},
        {"{}", EMB_E_UNSUPPORTED, "model_type"},
        {"[]", EMB_E_CORRUPT, "array"},
        {"{\"model_type\":\"bert\"}", EMB_E_CORRUPT, "hidden_size"},
        {"{" BERT ",\"hidden_act\":\"mish\"}", EMB_E_UNSUPPORTED, "mish"},
        {"{" BERT ",\"hidden_act\":3}", EMB_E_CORRUPT, "hidden_act"},
        {"{" BERT ",\"position_embedding_type\":\"relative_key\"}", EMB_E_UNSUPPORTED,
         "position_embedding_type"},
        {"{" BERT ",\"is_decoder\":true}", EMB_E_UNSUPPORTED, "is_decoder"},
        {"{" BERT ",\"add_cross_attention\":true}", EMB_E_UNSUPPORTED, "add_cross_attention"},
        {"{" BERT ",\"quantization_config\":{\"bits\":4}}", EMB_E_UNSUPPORTED, "quantization_config"},
        {"{" BERT ",\"pruned_heads\":{\"0\":[1]}}", EMB_E_UNSUPPORTED, "pruned_heads"},
        {"{" BERT ",\"layer_norm_eps\":\"small\"}", EMB_E_CORRUPT, "layer_norm_eps"},
        {"{" BERT ",\"layer_norm_eps\":-1}", EMB_E_CORRUPT, "layer_norm_eps"},
        {"{" BERT ",\"type_vocab_size\":-2}", EMB_E_CORRUPT, "type_vocab_size"},
        {"{\"model_type\":\"bert\",\"hidden_size\":65,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
         "\"intermediate_size\":128,"
         "\"vocab_size\":100,\"max_position_embeddings\":128}",
         EMB_E_CORRUPT, "num_attention_heads"},
        {"{\"model_type\":\"bert\",\"hidden_size\":1e300}", EMB_E_CORRUPT, "hidden_size"},
        {"{\"model_type\":\"bert\",\"hidden_size\":64.5}", EMB_E_CORRUPT, "hidden_size"},
        {"{\"model_type\":\"bert\",\"hidden_size\":\"64\"}", EMB_E_CORRUPT, "hidden_size"},
        {"{\"model_type\":\"bert\",\"hidden_size\":99999999}", EMB_E_CORRUPT, "hidden_size"},
        {"{\"model_type\":\"bert\",", EMB_E_CORRUPT, "JSON"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal((const memory_file[]){{"config.json", cases[i].config}, {0}}, cases[i].code,
                       "config.json", cases[i].key);
}

static void expect_module_refusal(const char *modules, const char *pooling, const char *dense,
                                  emb_status code, const char *file, const char *key)
{
    const memory_file files[] = {{"config.json", "{" BERT "}"},
                                 {"modules.json", modules},
                                 {"1_Pooling/config.json", pooling},
                                 {"2_Dense/config.json", dense},
                                 {0}};
    expect_refusal(files, code, file, key);
}

static void test_bad_modules(void **state)
{
    const char *with_dense = "[" TRANSFORMER "," POOLING "," MODULE(2, "Dense") "]";
    (void)state;
    expect_module_refusal("[" TRANSFORMER "]", "{}", "{}", EMB_E_UNSUPPORTED, "modules.json", "Pooling");
    expect_module_refusal("{}", "{}", "{}", EMB_E_CORRUPT, "modules.json", "array");
    expect_module_refusal("[3]", "{}", "{}", EMB_E_CORRUPT, "modules.json", "type");
    expect_module_refusal("[" POOLING "]", "{}", "{}", EMB_E_UNSUPPORTED, "modules.json", "Pooling");
    expect_module_refusal("[" TRANSFORMER "," POOLING "," MODULE(2, "CNN") "]", "{}", "{}", EMB_E_UNSUPPORTED,
                          "modules.json", "CNN");
    expect_module_refusal("[" TRANSFORMER "," MODULE(1, "WeightedLayerPooling") "," POOLING "]", "{}", "{}",
                          EMB_E_UNSUPPORTED, "modules.json", "WeightedLayerPooling");
    expect_module_refusal("[{\"path\":\"../../etc\",\"type\":\"a.Transformer\"}]", "{}", "{}", EMB_E_CORRUPT,
                          "modules.json", "../../etc");
    expect_module_refusal("[{\"path\":\"a/../../b\",\"type\":\"a.Transformer\"}]", "{}", "{}", EMB_E_CORRUPT,
                          "modules.json", "path");
    expect_module_refusal(with_dense, "{\"pooling_mode\":\"weightedmean\"}", "{}", EMB_E_UNSUPPORTED,
                          "1_Pooling/config.json", "weightedmean");
    expect_module_refusal(with_dense, "{\"pooling_mode_weightedmean_tokens\":true}", "{}", EMB_E_UNSUPPORTED,
                          "1_Pooling/config.json", "weightedmean");
    expect_module_refusal(with_dense, "{\"pooling_mode\":[]}", "{}", EMB_E_CORRUPT, "1_Pooling/config.json",
                          "pooling_mode");
    expect_module_refusal(with_dense, "{\"include_prompt\":1}", "{}", EMB_E_CORRUPT, "1_Pooling/config.json",
                          "include_prompt");
    expect_module_refusal(with_dense, "{}", "{}", EMB_E_CORRUPT, "2_Dense/config.json", "in_features");
    expect_module_refusal(with_dense, "{}", "{\"in_features\":63,\"out_features\":8}", EMB_E_CORRUPT,
                          "2_Dense/config.json", "63");
    expect_module_refusal(with_dense, "{}",
                          "{\"in_features\":64,\"out_features\":8,\"activation_function\":\"a.Softmax\"}",
                          EMB_E_UNSUPPORTED, "2_Dense/config.json", "Softmax");
    expect_module_refusal(with_dense, "{}", "{\"in_features\":64,\"out_features\":8,\"use_residual\":true}",
                          EMB_E_UNSUPPORTED, "2_Dense/config.json", "use_residual");
    expect_module_refusal(
        with_dense, "{}",
        "{\"in_features\":64,\"out_features\":8,\"module_input_name\":\"token_embeddings\"}",
        EMB_E_UNSUPPORTED, "2_Dense/config.json", "module_input_name");
}

static void test_bad_text_settings(void **state)
{
    static const struct {
        const char *path, *text;
        emb_status code;
        const char *key;
    } cases[] = {
        {"sentence_bert_config.json", "{\"max_seq_length\":0}", EMB_E_CORRUPT, "max_seq_length"},
        {"sentence_bert_config.json", "{\"do_lower_case\":\"yes\"}", EMB_E_CORRUPT, "do_lower_case"},
        {"tokenizer_config.json", "{\"truncation_side\":\"middle\"}", EMB_E_UNSUPPORTED, "truncation_side"},
        {"tokenizer_config.json", "{\"model_max_length\":-1}", EMB_E_CORRUPT, "model_max_length"},
        {"config_sentence_transformers.json", "{\"prompts\":[]}", EMB_E_CORRUPT, "prompts"},
        {"config_sentence_transformers.json", "{\"prompts\":{\"query\":1}}", EMB_E_CORRUPT, "query"},
        {"config_sentence_transformers.json", "{\"default_prompt_name\":\"query\"}", EMB_E_CORRUPT,
         "default_prompt_name"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const memory_file files[] = {{"config.json", "{" BERT "}"},
                                     {"modules.json", "[" TRANSFORMER "," POOLING "]"},
                                     {cases[i].path, cases[i].text},
                                     {0}};
        expect_refusal(files, cases[i].code, cases[i].path, cases[i].key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),         cmocka_unit_test(test_not_a_directory),
        cmocka_unit_test(test_defaults),          cmocka_unit_test(test_distilbert),
        cmocka_unit_test(test_activations),       cmocka_unit_test(test_modules),
        cmocka_unit_test(test_pooling_spellings), cmocka_unit_test(test_max_tokens),
        cmocka_unit_test(test_roberta_positions), cmocka_unit_test(test_names),
        cmocka_unit_test(test_bad_configs),       cmocka_unit_test(test_bad_modules),
        cmocka_unit_test(test_bad_text_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
