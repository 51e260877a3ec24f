/* Lowering, against what Python's str does (values from Python 3.11). */
#include "engine/engine.h"
#include "engine/prepare.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void lowers_to(const char *text, const char *want)
{
    emb_buf buf = EMB_BUF_INIT(1000);
    assert_int_equal(emb_prepare(&buf, "", 0, text, strlen(text), true), EMB_OK);
    assert_int_equal(buf.length, strlen(want));
    assert_memory_equal(buf.data, want, buf.length);
    emb_buf_fini(&buf);
}

static void lower(void **state)
{
    (void)state;
    lowers_to("HeLLo 42", "hello 42");
    lowers_to("ÄÖÜẞ", "äöüß");
    lowers_to("ΟΔΥΣΣΕΥΣ ΣΟΦΟΣ", "οδυσσευς σοφος"); /* final sigma */
    lowers_to("Σ", "σ");                           /* alone it is not final */
    lowers_to("ΑΣ'", "ας'");
    lowers_to("ΑΣ'Β", "ασ'β");
    lowers_to("Α.Σ", "α.ς");
    lowers_to("İI", "i̇i"); /* two code points */
    lowers_to("ДОМ 🙂", "дом 🙂");
    lowers_to("A\xff", "a\xef\xbf\xbd");
}

static void prompt(void **state)
{
    (void)state;
    emb_buf buf = EMB_BUF_INIT(1000);
    assert_int_equal(emb_prepare(&buf, "Query: ", 7, "Text", 4, false), EMB_OK);
    assert_int_equal(buf.length, 11);
    assert_memory_equal(buf.data, "Query: Text", 11);
    assert_int_equal(emb_prepare(&buf, "Query: ", 7, NULL, 0, false), EMB_OK);
    assert_int_equal(buf.length, 7);
    assert_int_equal(emb_prepare(&buf, "Query: ", 7, "Text", 4, true), EMB_OK);
    assert_memory_equal(buf.data, "query: text", 11);
    emb_buf_fini(&buf);
    emb_buf small = EMB_BUF_INIT(8);
    assert_int_equal(emb_prepare(&small, "Query: ", 7, "Text", 4, false), EMB_E_LIMIT);
    emb_buf_fini(&small);
}

static void names(void **state)
{
    (void)state;
    emb_pooling pooling = EMB_POOLING_MODEL;
    emb_precision precision = EMB_PRECISION_AUTO;
    emb_truncation truncation = EMB_TRUNCATE_MODEL;
    for (int i = EMB_POOLING_MODEL; i <= EMB_POOLING_LAST; i++) {
        assert_true(emb_pooling_parse(emb_pooling_name((emb_pooling)i), &pooling));
        assert_int_equal(pooling, i);
    }
    for (int i = EMB_PRECISION_AUTO; i <= EMB_PRECISION_INT8; i++) {
        assert_true(emb_precision_parse(emb_precision_name((emb_precision)i), &precision));
        assert_int_equal(precision, i);
    }
    for (int i = EMB_TRUNCATE_MODEL; i <= EMB_TRUNCATE_NONE; i++) {
        assert_true(emb_truncation_parse(emb_truncation_name((emb_truncation)i), &truncation));
        assert_int_equal(truncation, i);
    }
    assert_string_equal(emb_pooling_name(EMB_POOLING_MEAN_SQRT_LEN), "mean-sqrt-len");
    assert_null(emb_pooling_name((emb_pooling)6));
    assert_null(emb_precision_name((emb_precision)-1));
    assert_null(emb_truncation_name((emb_truncation)4));
    assert_false(emb_pooling_parse("average", &pooling));
    assert_false(emb_pooling_parse(NULL, &pooling));
    assert_int_equal(pooling, EMB_POOLING_LAST);
    assert_string_equal(emb_version(), EMB_VERSION_STRING);
}

static void cosine(void **state)
{
    (void)state;
    float a[] = {1, 2, 3}, b[] = {2, 4, 6}, c[] = {-1, -2, -3}, d[] = {3, 0, -1}, zero[3] = {0};
    assert_float_equal(emb_cosine(a, b, 3), 1, 1e-15);
    assert_float_equal(emb_cosine(a, c, 3), -1, 1e-15);
    assert_true(emb_cosine(a, d, 3) == 0);
    assert_true(emb_cosine(a, zero, 3) == 0);
    assert_true(emb_cosine(a, b, 0) == 0);
}

/* One CPU in the mask: one thread, whatever the machine has. */
static void cpus(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    unsigned usable = emb_cpus_usable();
    assert_true(usable >= 1 && usable <= (unsigned)CPU_COUNT(&before));
    int cpu = 0;
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(emb_cpus_usable(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(emb_cpus_usable(), usable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lower),  cmocka_unit_test(prompt), cmocka_unit_test(names),
        cmocka_unit_test(cosine), cmocka_unit_test(cpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
