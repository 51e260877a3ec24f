/* The wire formats: what is written for each kind, what is taken from answers, and what is not. */
#include "base/error.h"
#include "provider/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const emb_text two[] = {{"a\"b", 3}, {"\xc3\xbc", 2}};

static emb_provider_config config_of(emb_provider_kind kind)
{
    return (emb_provider_config){.kind = kind,
                                 .name = "p",
                                 .base_url = "http://h/v1",
                                 .api_key = "",
                                 .api_version = "2024-10-21",
                                 .base64 = true};
}

static void written(emb_provider_kind kind, const emb_provider_call *call, const char *url, const char *body)
{
    emb_provider_config config = config_of(kind);
    const emb_wire *wire = emb_wire_of(kind);
    emb_wire_request request = {.config = &config, .call = call, .texts = two, .count = 2};
    emb_buf out = EMB_BUF_INIT(4096), address = EMB_BUF_INIT(4096);
    assert_int_equal(wire->url(&config, call->model, &address), EMB_OK);
    assert_int_equal(wire->body(&request, &out), EMB_OK);
    assert_string_equal(emb_buf_cstr(&address), url);
    assert_string_equal(emb_buf_cstr(&out), body);
    emb_buf_fini(&out);
    emb_buf_fini(&address);
}

#define TEXTS "[\"a\\\"b\",\"\xc3\xbc\"]"

static void plain_requests(void **state)
{
    (void)state;
    emb_provider_call call = {.model = "org/m 1"};
    written(EMB_PROVIDER_OPENAI, &call, "http://h/v1/embeddings",
            "{\"model\":\"org/m 1\",\"input\":" TEXTS ",\"encoding_format\":\"base64\"}");
    written(EMB_PROVIDER_AZURE, &call,
            "http://h/v1/openai/deployments/org%2Fm%201/embeddings?api-version=2024-10-21",
            "{\"input\":" TEXTS ",\"encoding_format\":\"base64\"}");
    written(EMB_PROVIDER_HUGGINGFACE, &call, "http://h/v1/models/org/m%201/pipeline/feature-extraction",
            "{\"inputs\":" TEXTS "}");
    written(EMB_PROVIDER_COHERE, &call, "http://h/v1/v2/embed",
            "{\"model\":\"org/m 1\",\"input_type\":\"search_document\",\"texts\":" TEXTS
            ",\"embedding_types\":[\"float\"]}");
    written(EMB_PROVIDER_OLLAMA, &call, "http://h/v1/api/embed",
            "{\"model\":\"org/m 1\",\"input\":" TEXTS "}");
    written(EMB_PROVIDER_TEI, &call, "http://h/v1/embed", "{\"inputs\":" TEXTS "}");
    written(EMB_PROVIDER_REMOTE, &call, "http://h/v1/embed", "{\"texts\":" TEXTS ",\"batch_size\":2}");
    written(EMB_PROVIDER_EMBEDD, &call, "http://h/v1/api/v1/embeddings",
            "{\"model\":\"org/m 1\",\"texts\":" TEXTS "}");
}

static void requests_with_everything(void **state)
{
    (void)state;
    emb_provider_call call = {.model = "m",
                              .dimensions = 256,
                              .role = EMB_ROLE_QUERY,
                              .normalize = EMB_OFF,
                              .truncation = EMB_TRUNCATE_LEFT,
                              .prompt_name = "q",
                              .space = "o/m@1:256:cls:l2",
                              .user = "u"};
    written(EMB_PROVIDER_OPENAI, &call, "http://h/v1/embeddings",
            "{\"model\":\"m\",\"input\":" TEXTS
            ",\"encoding_format\":\"base64\",\"dimensions\":256,\"user\":\"u\"}");
    written(EMB_PROVIDER_COHERE, &call, "http://h/v1/v2/embed",
            "{\"model\":\"m\",\"input_type\":\"search_query\",\"texts\":" TEXTS
            ",\"embedding_types\":[\"float\"],\"output_dimension\":256,\"truncate\":\"START\"}");
    written(EMB_PROVIDER_TEI, &call, "http://h/v1/embed",
            "{\"inputs\":" TEXTS ",\"truncate\":true,\"truncation_direction\":\"Left\",\"normalize\":false,"
            "\"prompt_name\":\"q\",\"dimensions\":256}");
    written(EMB_PROVIDER_EMBEDD, &call, "http://h/v1/api/v1/embeddings",
            "{\"model\":\"m\",\"texts\":" TEXTS
            ",\"input_type\":\"query\",\"dimensions\":256,\"normalize\":false,"
            "\"truncate\":\"start\",\"prompt_name\":\"q\",\"space\":\"o/m@1:256:cls:l2\"}");
    call.truncation = EMB_TRUNCATE_NONE;
    written(EMB_PROVIDER_OLLAMA, &call, "http://h/v1/api/embed",
            "{\"model\":\"m\",\"input\":" TEXTS ",\"truncate\":false,\"dimensions\":256}");
}

/* ---- answers ---- */

typedef struct outcome {
    emb_status status;
    float rows[2][2];
    uint64_t tokens;
    bool tokens_known, is_json;
    emb_error err;
} outcome;

static outcome read_answer(emb_provider_kind kind, const char *body, size_t count, const char *space)
{
    emb_provider_config config = config_of(kind);
    emb_provider_call call = {.model = "m", .space = space, .normalize = EMB_ON};
    emb_wire_request request = {.config = &config, .call = &call, .texts = two, .count = count};
    emb_wire_answer answer = {.tokens_known = false};
    outcome o = {.status = EMB_OK};
    assert_int_equal(emb_vectors_init(&answer.vectors, &o.rows[0][0], count, 2, &o.err), EMB_OK);
    o.status = emb_wire_read(emb_wire_of(kind), &request, body, strlen(body), &answer, &o.is_json, &o.err);
    o.tokens = answer.tokens;
    o.tokens_known = answer.tokens_known;
    emb_vectors_fini(&answer.vectors);
    return o;
}

static void is_good(emb_provider_kind kind, const char *body, int64_t tokens)
{
    outcome o = read_answer(kind, body, 2, NULL);
    assert_int_equal(o.status, EMB_OK);
    static const float expected[2][2] = {{0.5f, -1}, {0.25f, 2}};
    assert_memory_equal(o.rows, expected, sizeof expected);
    assert_int_equal(o.tokens_known, tokens >= 0);
    if (tokens >= 0)
        assert_int_equal(o.tokens, tokens);
}

static void good_answers(void **state)
{
    (void)state;
    is_good(EMB_PROVIDER_OPENAI,
            "{\"object\":\"list\",\"data\":[{\"index\":1,\"embedding\":[0.25,2]},{\"index\":0,\"embedding\":["
            "0.5,-1]}],"
            "\"usage\":{\"prompt_tokens\":7,\"total_tokens\":8}}",
            8);
    is_good(EMB_PROVIDER_AZURE, /* base64 of 0.5, -1 and 0.25, 2 */
            "{\"data\":[{\"index\":0,\"embedding\":\"AAAAPwAAgL8=\"},{\"index\":1,\"embedding\":"
            "\"AACAPgAAAEA=\"}],"
            "\"usage\":null}",
            -1);
    is_good(EMB_PROVIDER_OPENAI, "{\"data\":[{\"embedding\":[0.5,-1.0]},{\"embedding\":[25e-2,2]}]}", -1);
    is_good(
        EMB_PROVIDER_COHERE,
        "{\"embeddings\":{\"float\":[[0.5,-1],[0.25,2]]},\"meta\":{\"billed_units\":{\"input_tokens\":5}}}",
        5);
    is_good(EMB_PROVIDER_COHERE, "{\"embeddings\":[[0.5,-1],[0.25,2]]}", -1);
    is_good(EMB_PROVIDER_OLLAMA,
            "{\"model\":\"m\",\"embeddings\":[[0.5,-1],[0.25,2]],\"prompt_eval_count\":3}", 3);
    is_good(EMB_PROVIDER_TEI, "[[0.5,-1],[0.25,2]]", -1);
    is_good(EMB_PROVIDER_HUGGINGFACE, "[[0.5,-1],[0.25,2]]", -1);
    is_good(EMB_PROVIDER_REMOTE, "{\"embeddings\":[[0.5,-1],[0.25,2]],\"model\":\"m\",\"dimension\":2}", -1);
    is_good(EMB_PROVIDER_EMBEDD, "{\"embeddings\":[[0.5,-1],[0.25,2]],\"space\":\"s\",\"total_tokens\":4}",
            4);
}

static void rows_of_tokens(void **state)
{
    (void)state;
    outcome o = read_answer(EMB_PROVIDER_HUGGINGFACE, "[[[0,6],[6,2]],[[0,9]]]", 2, NULL);
    assert_int_equal(o.status, EMB_OK); /* means (3,4) and (0,9), to unit length since that is asked for */
    assert_float_equal(o.rows[0][0], 0.6, 1e-6);
    assert_float_equal(o.rows[0][1], 0.8, 1e-6);
    assert_float_equal(o.rows[1][1], 1, 1e-6);
    o = read_answer(EMB_PROVIDER_HUGGINGFACE, "[3,4]", 1, NULL); /* a bare row */
    assert_int_equal(o.status, EMB_OK);
    assert_float_equal(o.rows[0][1], 4, 0);
    assert_int_equal(read_answer(EMB_PROVIDER_HUGGINGFACE, "[3,4]", 2, NULL).status, EMB_E_PROVIDER);
    assert_int_equal(read_answer(EMB_PROVIDER_TEI, "[3,4]", 1, NULL).status, EMB_E_PROVIDER);
    assert_int_equal(read_answer(EMB_PROVIDER_HUGGINGFACE, "[[[0,6],[6]],[[0,9]]]", 2, NULL).status,
                     EMB_E_PROVIDER);
    assert_int_equal(read_answer(EMB_PROVIDER_HUGGINGFACE, "[[[0,6]],[]]", 2, NULL).status, EMB_E_PROVIDER);
    assert_int_equal(read_answer(EMB_PROVIDER_HUGGINGFACE, "[[[0,6]],[0,9]]", 2, NULL).status,
                     EMB_E_PROVIDER);
}

static void spaces(void **state)
{
    (void)state;
    static const char body[] = "{\"embeddings\":[[0.5,-1],[0.25,2]],\"space\":\"a/m\"}";
    assert_int_equal(read_answer(EMB_PROVIDER_EMBEDD, body, 2, "a/m").status, EMB_OK);
    assert_int_equal(read_answer(EMB_PROVIDER_EMBEDD, body, 2, "b/m").status, EMB_E_PROVIDER);
    assert_int_equal(
        read_answer(EMB_PROVIDER_EMBEDD, "{\"embeddings\":[[0.5,-1],[0.25,2]]}", 2, "a/m").status,
        EMB_E_PROVIDER);
}

static void hostile_answers(void **state)
{
    (void)state;
    static const struct {
        emb_provider_kind kind;
        const char *body;
    } cases[] = {
        {EMB_PROVIDER_OPENAI, ""},
        {EMB_PROVIDER_OPENAI, "<html>"},
        {EMB_PROVIDER_OPENAI, "null"},
        {EMB_PROVIDER_OPENAI, "[]"},
        {EMB_PROVIDER_OPENAI, "{}"},
        {EMB_PROVIDER_OPENAI, "{\"data\":{}}"},
        {EMB_PROVIDER_OPENAI, "{\"data\":[1,2]}"},
        {EMB_PROVIDER_OPENAI, "{\"data\":[{\"index\":0,\"embedding\":[1,2]}]}"},
        {EMB_PROVIDER_OPENAI,
         "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":0,\"embedding\":[1,2]}]}"},
        {EMB_PROVIDER_OPENAI,
         "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":2,\"embedding\":[1,2]}]}"},
        {EMB_PROVIDER_OPENAI,
         "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":-1,\"embedding\":[1,2]}]}"},
        {EMB_PROVIDER_OPENAI,
         "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":1.5,\"embedding\":[1,2]}]}"},
        {EMB_PROVIDER_OPENAI,
         "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":\"1\",\"embedding\":[1,2]}]}"},
        {EMB_PROVIDER_OPENAI, "{\"data\":[{\"index\":1,\"embedding\":[1,2]},{\"embedding\":[1,2]}]}"},
        {EMB_PROVIDER_OPENAI, "{\"data\":[{\"embedding\":[1,2]},{\"index\":1,\"embedding\":[1,2]}]}"},
        {EMB_PROVIDER_OPENAI,
         "{\"data\":[{\"embedding\":\"AAAAPwAAgL8=\"},{\"embedding\":\"AAAAPwAAgL8\"}]}"},
        {EMB_PROVIDER_OPENAI,
         "{\"data\":[{\"embedding\":\"AAAAPwAAgL8=\"},{\"embedding\":\"AAAAPwAAgA==\"}]}"},
        {EMB_PROVIDER_OPENAI, "{\"data\":[{\"embedding\":\"AAAAPwAAgL8=\"},{\"embedding\":\"\"}]}"},
        {EMB_PROVIDER_OPENAI,
         "{\"data\":[{\"embedding\":\"AAAAPwAAgL8=\"},{\"embedding\":\"AADAfwAAgL8=\"}]}"}, /* NaN */
        {EMB_PROVIDER_TEI, "[[1,2]]"},
        {EMB_PROVIDER_TEI, "[[1,2],[3,4],[5,6]]"},
        {EMB_PROVIDER_TEI, "[[1,2],[3]]"},
        {EMB_PROVIDER_TEI, "[[1,2],[3,4,5]]"},
        {EMB_PROVIDER_TEI, "[[1,2],[]]"},
        {EMB_PROVIDER_TEI, "[[1,2],null]"},
        {EMB_PROVIDER_TEI, "[[1,2],{\"0\":1,\"1\":2}]"},
        {EMB_PROVIDER_TEI, "[[1,2],[1,null]]"},
        {EMB_PROVIDER_TEI, "[[1,2],[1,\"2\"]]"},
        {EMB_PROVIDER_TEI, "[[1,2],[1,true]]"},
        {EMB_PROVIDER_TEI, "[[1,2],[1,1e39]]"},
        {EMB_PROVIDER_TEI, "[[1,2],[1,-1e999]]"},
        {EMB_PROVIDER_TEI, "[[1,2],[1,NaN]]"},
        {EMB_PROVIDER_TEI, "[[1,2],[3,4]"},
        {EMB_PROVIDER_TEI, "[[1,2],[3,4]]x"},
        {EMB_PROVIDER_COHERE, "{\"embeddings\":{\"int8\":[[1,2],[3,4]]}}"},
        {EMB_PROVIDER_COHERE, "{\"embeddings\":{\"float\":{}}}"},
        {EMB_PROVIDER_OLLAMA, "{\"embedding\":[1,2]}"},
        {EMB_PROVIDER_REMOTE, "{\"embeddings\":\"x\"}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        outcome o = read_answer(cases[i].kind, cases[i].body, 2, NULL);
        assert_int_equal(o.status, EMB_E_PROVIDER);
        assert_true(o.err.message[0] != 0);
    }
}

static void many_rows_and_a_learned_dimension(void **state)
{
    (void)state;
    emb_vectors v;
    emb_error err;
    emb_json *doc;
    emb_json_value row;
    assert_int_equal(emb_json_open("[1,2,3]", 7, "row", &doc, &err), EMB_OK);
    row = emb_json_root(doc);
    assert_int_equal(emb_vectors_init(&v, NULL, 1000, 0, &err), EMB_OK);
    for (int64_t i = 999; i >= 0; i--)
        assert_int_equal(emb_vectors_put(&v, i, row, &err), EMB_OK);
    assert_int_equal(v.dimension, 3);
    assert_int_equal(emb_vectors_check(&v, &err), EMB_OK);
    assert_int_equal(emb_vectors_put(&v, 5, row, &err), EMB_E_PROVIDER);
    assert_int_equal(emb_vectors_put(&v, INT64_MAX, row, &err), EMB_E_PROVIDER);
    emb_vectors_fini(&v);
    emb_json_close(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_requests),
        cmocka_unit_test(requests_with_everything),
        cmocka_unit_test(good_answers),
        cmocka_unit_test(rows_of_tokens),
        cmocka_unit_test(spaces),
        cmocka_unit_test(hostile_answers),
        cmocka_unit_test(many_rows_and_a_learned_dimension),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
