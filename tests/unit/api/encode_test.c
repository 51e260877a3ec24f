/* encode_test.c: vectors as text and back, quantisation against sentence-transformers' formulas, error
 * envelopes. */
#include "api/encode.h"

#include "api/envelope.h"
#include "base/base64.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static emb_buf buf;

static int set_up(void **state)
{
    (void)state;
    emb_buf_init(&buf, 1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    emb_buf_fini(&buf);
    return 0;
}

static void assert_written(const char *want)
{
    const char *text = emb_buf_cstr(&buf);
    assert_non_null(text);
    assert_string_equal(text, want);
    emb_buf_clear(&buf);
}

static void test_floats(void **state)
{
    (void)state;
    const float v[] = {0.0f, -1.0f, 0.1f, 1e-7f, -0.034478f, 3.4028235e38f};
    assert_int_equal(emb_encode_floats(&buf, v, 6), EMB_OK);
    const char *text = emb_buf_cstr(&buf);
    assert_non_null(text);
    char *end = (char *)text;
    for (int i = 0; i < 6; i++)
        assert_true(strtof(end + 1, &end) == v[i]);
    emb_buf_clear(&buf);
    assert_int_equal(emb_encode_rows(&buf, v, 3, 2), EMB_OK);
    assert_written("[[0,-1],[0.1,1e-7],[-0.034478,3.4028235e38]]");
    assert_int_equal(emb_encode_rows(&buf, v, 0, 2), EMB_OK);
    assert_written("[]");
    assert_int_equal(emb_encode_floats(&buf, v, 0), EMB_OK);
    assert_written("[]");
}

static void test_base64(void **state)
{
    (void)state;
    float v[385], back[388];
    size_t bytes;
    for (int i = 0; i < 385; i++)
        v[i] = (float)sin(i) / 7;
    for (size_t n = 0; n <= 385; n += n < 8 ? 1 : 377) {
        emb_buf_clear(&buf);
        assert_int_equal(emb_encode_base64(&buf, v, n), EMB_OK);
        assert_int_equal(buf.data[0], '"');
        assert_int_equal(buf.data[buf.length - 1], '"');
        assert_true(emb_base64_decode(buf.data + 1, buf.length - 2, back, &bytes));
        assert_int_equal(bytes, n * 4);
        assert_memory_equal(back, v, bytes);
    }
}

static void test_not_finite(void **state)
{
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++)
        for (int at = 0; at < 9; at++) {
            float v[9] = {0};
            v[at] = bad[i];
            assert_int_equal(emb_encode_floats(&buf, v, 9), EMB_E_INTERNAL);
            assert_int_equal(emb_encode_base64(&buf, v, 9), EMB_E_INTERNAL);
            assert_int_equal(emb_encode_quantised(&buf, v, 9, EMB_QUANT_UBINARY), EMB_E_INTERNAL);
            assert_int_equal(emb_encode_quantised(&buf, v, 9, EMB_QUANT_INT8), EMB_E_INTERNAL);
        }
}

static void test_limit(void **state)
{
    (void)state;
    float v[64] = {0};
    emb_buf small = EMB_BUF_INIT(100);
    assert_int_equal(emb_encode_base64(&small, v, 64), EMB_E_LIMIT);
    assert_int_equal(emb_encode_floats(&small, v, 64), EMB_E_LIMIT);
    assert_int_equal(emb_encode_quantised(&small, v, 64, EMB_QUANT_INT8), EMB_E_LIMIT);
    assert_int_equal(emb_encode_base64(&small, v, SIZE_MAX / 2), EMB_E_LIMIT);
    emb_buf_fini(&small);
}

static void test_quantised(void **state)
{
    (void)state;
    const float v[] = {-1.0f, 1.0f, 0.0f, -2.0f, 2.0f, 0.5f, -0.25f, 1e-9f, -1e-9f, 0.999f};
    assert_int_equal(emb_encode_quantised(&buf, v, 10, EMB_QUANT_UINT8), EMB_OK);
    assert_written("[0,255,127,0,255,191,95,127,127,254]");
    assert_int_equal(emb_encode_quantised(&buf, v, 10, EMB_QUANT_INT8), EMB_OK);
    assert_written("[-128,127,-1,-128,127,63,-33,-1,-1,126]");
    /* 0 1 0 0 1 1 0 1 | 0 1 and zeros */
    assert_int_equal(emb_encode_quantised(&buf, v, 10, EMB_QUANT_UBINARY), EMB_OK);
    assert_written("[77,64]");
    assert_int_equal(emb_encode_quantised(&buf, v, 10, EMB_QUANT_BINARY), EMB_OK);
    assert_written("[-51,-64]");
    assert_int_equal(emb_encode_quantised(&buf, v, 0, EMB_QUANT_BINARY), EMB_OK);
    assert_written("[]");
}

static void test_envelopes(void **state)
{
    (void)state;
    const emb_failure wrong = {422, "invalid_value", "texts[3]", "texts[3] is \"so\""};
    assert_int_equal(
        emb_envelope_write(EMB_FAMILY_OPENAI, &(emb_failure){404, "model_not_found", "model", "no\n"}, &buf),
        EMB_OK);
    assert_written("{\"error\":{\"message\":\"no\\n\",\"type\":\"invalid_request_error\",\"param\":\"model\","
                   "\"code\":\"model_not_found\"}}");
    assert_int_equal(emb_envelope_write(EMB_FAMILY_OPENAI, &(emb_failure){503, NULL, NULL, "no"}, &buf),
                     EMB_OK);
    assert_written("{\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"param\":null,\"code\":null}}");
    assert_int_equal(emb_envelope_write(EMB_FAMILY_EMBEDDER, &wrong, &buf), EMB_OK);
    assert_written("{\"detail\":[{\"loc\":[\"body\",\"texts\",3],\"msg\":\"texts[3] is "
                   "\\\"so\\\"\",\"type\":\"value_error\"}]}");
    assert_int_equal(
        emb_envelope_write(EMB_FAMILY_HYBRID, &(emb_failure){422, "missing", "texts", "m"}, &buf), EMB_OK);
    assert_written("{\"detail\":[{\"loc\":[\"body\",\"texts\"],\"msg\":\"m\",\"type\":\"missing\"}]}");
    assert_int_equal(
        emb_envelope_write(EMB_FAMILY_HYBRID, &(emb_failure){422, NULL, "x-embedd-context", "m"}, &buf),
        EMB_OK);
    assert_written(
        "{\"detail\":[{\"loc\":[\"header\",\"x-embedd-context\"],\"msg\":\"m\",\"type\":\"value_error\"}]}");
    assert_int_equal(emb_envelope_write(EMB_FAMILY_EMBEDDER, &(emb_failure){404, NULL, NULL, "m"}, &buf),
                     EMB_OK);
    assert_written("{\"detail\":\"m\"}");
    assert_int_equal(emb_envelope_write(EMB_FAMILY_OLLAMA, &wrong, &buf), EMB_OK);
    assert_written("{\"error\":\"texts[3] is \\\"so\\\"\"}");
    assert_int_equal(emb_envelope_write(EMB_FAMILY_COHERE, &wrong, &buf), EMB_OK);
    assert_written("{\"message\":\"texts[3] is \\\"so\\\"\"}");
    static const struct {
        emb_failure failure;
        const char *type;
    } kinds[] = {{{400, "empty", NULL, "m"}, "Empty"},   {{413, NULL, NULL, "m"}, "Validation"},
                 {{422, NULL, NULL, "m"}, "Validation"}, {{429, NULL, NULL, "m"}, "Overloaded"},
                 {{503, NULL, NULL, "m"}, "Unhealthy"},  {{424, NULL, NULL, "m"}, "Backend"},
                 {{500, NULL, NULL, "m"}, "Backend"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char want[80];
        snprintf(want, sizeof want, "{\"error\":\"m\",\"error_type\":\"%s\"}", kinds[i].type);
        assert_int_equal(emb_envelope_write(EMB_FAMILY_MODEL_SERVER, &kinds[i].failure, &buf), EMB_OK);
        assert_written(want);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(test_floats), TEST(test_base64),    TEST(test_not_finite),
                                       TEST(test_limit),  TEST(test_quantised), TEST(test_envelopes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
