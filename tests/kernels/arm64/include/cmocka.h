/*
 * cmocka.h: the part of cmocka that the kernel checks use, in one header.
 *
 *     const struct CMUnitTest tests[] = { cmocka_unit_test(f) };
 *     return cmocka_run_group_tests(tests, NULL, NULL);
 *
 * Only for builds on foreign architectures, where the real library is not at hand. A failed assertion
 * prints its place and jumps out of the test; one program runs one group on one thread.
 */
#ifndef TESTS_KERNELS_ARM64_CMOCKA_H
#define TESTS_KERNELS_ARM64_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    int (*setup_func)(void **state);
    int (*teardown_func)(void **state);
    void *initial_state;
};

enum { CMOCKA_FAILED = 1, CMOCKA_SKIPPED = 2 };
static jmp_buf cmocka_jump;

__attribute__((format(printf, 3, 4), noreturn, unused)) static void cmocka_stop(const char *file, int line,
                                                                                const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    longjmp(cmocka_jump, CMOCKA_FAILED);
}

__attribute__((unused)) static int _cmocka_run_group_tests(const char *group, const struct CMUnitTest *tests,
                                                           size_t count, int (*setup)(void **),
                                                           int (*teardown)(void **))
{
    volatile int failed = 0;
    (void)setup;
    (void)teardown;
    for (volatile size_t i = 0; i < count; i++) {
        void *state = tests[i].initial_state;
        int outcome = setjmp(cmocka_jump);
        if (!outcome)
            tests[i].test_func(&state);
        failed += outcome == CMOCKA_FAILED;
        printf("[%s] %s: %s\n",
               outcome == CMOCKA_FAILED ? "FAILED"
               : outcome                ? "SKIPPED"
                                        : "OK",
               group, tests[i].name);
        fflush(stdout);
    }
    return failed;
}

#define cmocka_unit_test(f)     \
    {                           \
#f, f, NULL, NULL, NULL \
    }
#define cmocka_run_group_tests(tests, setup, teardown) \
    _cmocka_run_group_tests(#tests, tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)
#define skip() longjmp(cmocka_jump, CMOCKA_SKIPPED)
#define fail_msg(...) cmocka_stop(__FILE__, __LINE__, __VA_ARGS__)
#define assert_true(x) ((x) ? (void)0 : cmocka_stop(__FILE__, __LINE__, "not true: %s", #x))
#define assert_false(x) assert_true(!(x))
#define assert_null(x) assert_true((x) == NULL)
#define assert_non_null(x) assert_true((x) != NULL)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_int_equal(a, b) assert_true((unsigned long long)(a) == (unsigned long long)(b))
#define assert_int_not_equal(a, b) assert_true((unsigned long long)(a) != (unsigned long long)(b))
#define assert_string_equal(a, b) assert_true(!strcmp(a, b))
#define assert_memory_equal(a, b, n) assert_true(!memcmp(a, b, n))

#endif
