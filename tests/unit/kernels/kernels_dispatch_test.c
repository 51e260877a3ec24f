/* The choice of a table, and the thread mode that every table brings. */
#include "kernel_checks.h"

static void best_is_supported(void **state)
{
    (void)state;
    unsetenv("EMBEDD_ISA");
    const emb_kernels *best = NULL;
    emb_error err;
    assert_int_equal(emb_kernels_select(NULL, &best, &err), EMB_OK);
    size_t count;
    const emb_isa *all = emb_kernels_all(&count);
    const emb_kernels *last = NULL;
    for (size_t i = 0; i < count; i++)
        if (all[i].supported())
            last = all[i].kernels;
    assert_ptr_equal(best, last);
}

static void names_are_found(void **state)
{
    (void)state;
    size_t count;
    const emb_isa *all = emb_kernels_all(&count);
    assert_true(count >= 1);
    for (size_t i = 0; i < count; i++) {
        bool usable = false; /* by any table of that name */
        for (size_t j = 0; j < count; j++)
            usable |= !strcmp(all[i].kernels->name, all[j].kernels->name) && all[j].supported();
        const emb_kernels *k = NULL;
        emb_error err = {0};
        emb_status status = emb_kernels_select(all[i].kernels->name, &k, &err);
        if (usable) {
            assert_int_equal(status, EMB_OK);
            assert_string_equal(k->name, all[i].kernels->name);
        } else {
            assert_int_equal(status, EMB_E_UNSUPPORTED);
            assert_null(k);
            assert_non_null(strstr(err.message, all[i].kernels->name));
        }
    }
}

static void environment_decides(void **state)
{
    (void)state;
    const emb_kernels *k = NULL;
    emb_error err = {0};
    setenv("EMBEDD_ISA", "portable", 1);
    assert_int_equal(emb_kernels_select(NULL, &k, &err), EMB_OK);
    assert_string_equal(k->name, "portable");
    setenv("EMBEDD_ISA", "sse9", 1);
    assert_int_equal(emb_kernels_select(NULL, &k, &err), EMB_E_UNSUPPORTED);
    assert_null(k);
    assert_string_equal(err.where, "EMBEDD_ISA");
    assert_non_null(strstr(err.message, "sse9"));
    assert_non_null(strstr(err.message, "portable"));
    setenv("EMBEDD_ISA", "", 1);
    assert_int_equal(emb_kernels_select(NULL, &k, NULL), EMB_OK);
    unsetenv("EMBEDD_ISA");
    assert_int_equal(emb_kernels_select("", &k, NULL), EMB_OK);
    assert_int_equal(emb_kernels_select("sse9", &k, NULL), EMB_E_UNSUPPORTED);
}

/* Denormals are zero between begin and end, and are back afterwards. */
static void thread_mode_is_restored(void **state)
{
    (void)state;
    size_t count;
    const emb_isa *all = emb_kernels_all(&count);
    for (size_t i = 0; i < count; i++) {
        if (!all[i].supported())
            continue;
        volatile float tiny = 1e-38f, half = 0.5f, tenth = 0.1f;
        assert_true(tiny * tenth > 0);
        uint64_t saved = all[i].kernels->thread_begin();
#if defined(__x86_64__) || defined(__aarch64__)
        volatile float product = tiny * tenth;
        assert_true(product == 0);
#endif
        assert_true(half * tenth > 0);
        all[i].kernels->thread_end(saved);
        assert_true(tiny * tenth > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_is_supported),
        cmocka_unit_test(names_are_found),
        cmocka_unit_test(environment_decides),
        cmocka_unit_test(thread_mode_is_restored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
