/*
 * fail_alloc.h: makes the n-th allocation of a test fail, and counts what is still allocated.
 *
 *     if (!fail_alloc_available()) skip();
 *     for (size_t n = 1;; n++) {
 *         size_t live = fail_alloc_live();
 *         fail_alloc_at(n);
 *         int status = thing_under_test();           // must return an error, not crash
 *         bool failed = fail_alloc_stop();           // false: there were fewer than n allocations
 *         assert_int_equal(fail_alloc_live(), live); // nothing leaked
 *         if (!failed) break;
 *     }
 *
 * Linking this file replaces malloc, calloc, realloc, the aligned ones and free, in every thread and in
 * libraries too (strdup, operator new). Sanitizers bring their own malloc; there it is not available.
 */
#ifndef EMB_TESTS_FAIL_ALLOC_H
#define EMB_TESTS_FAIL_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

bool fail_alloc_available(void);
/* The n-th allocation from now on fails (1: the next), once. */
void fail_alloc_at(size_t n);
/* The n-th and all after it fail. */
void fail_alloc_from(size_t n);
/* Nothing fails any more. Whether an allocation failed since fail_alloc_at or _from. */
bool fail_alloc_stop(void);
/* Allocations not released. */
size_t fail_alloc_live(void);

#endif
