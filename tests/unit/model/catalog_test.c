/* What hosted models cost. */
#include "model/catalog.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void costs(void **state)
{
    (void)state;
    const emb_catalog_entry *small = emb_catalog_find("text-embedding-3-small");
    const emb_catalog_entry *large = emb_catalog_find("text-embedding-3-large");
    emb_catalog_entry odd = *small;
    odd.price_nusd_per_1k = 7;
    assert_int_equal(emb_catalog_cost_nusd(small, 0), 0);
    assert_int_equal(emb_catalog_cost_nusd(small, 1), 20);
    assert_int_equal(emb_catalog_cost_nusd(large, 123456789), 16049382570);
    assert_int_equal(emb_catalog_cost_nusd(&odd, 1), 1); /* rounded up */
    assert_int_equal(emb_catalog_cost_nusd(&odd, 1000), 7);
    assert_int_equal(emb_catalog_cost_nusd(&odd, 1001), 8);
    assert_true(emb_catalog_cost_nusd(large, UINT64_MAX) == UINT64_MAX);
    assert_int_equal(emb_catalog_cost_nusd(emb_catalog_find("bge-m3"), 5000), 0);
}

static void encodings(void **state)
{
    (void)state;
    assert_string_equal(emb_catalog_encoding(emb_catalog_find("text-embedding-ada-002")), "cl100k_base");
    assert_null(emb_catalog_encoding(emb_catalog_find("bge-m3")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(costs), cmocka_unit_test(encodings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
