/*
 * kernel_checks.h: what the tests of the kernel tables share: every check is a function over a table, and
 * a program runs its checks for all tables of the build.
 *
 *     static void check_dot(const emb_kernels *k) { … assert_true(…); }
 *     int main(void)
 *     {
 *         static const kernel_check checks[] = { { "dot", check_dot } };
 *         return run_checks(checks, 1);
 *     }
 *
 * A table that this machine cannot run is skipped, visibly. Memory of new_bytes and its like is released
 * after each check, or earlier with release_to(memory_mark()).
 */
#ifndef TESTS_UNIT_KERNELS_KERNEL_CHECKS_H
#define TESTS_UNIT_KERNELS_KERNEL_CHECKS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"

typedef struct kernel_check {
    const char *name;
    void (*check)(const emb_kernels *k);
} kernel_check;

typedef struct check_case {
    const emb_isa *isa;
    const kernel_check *check;
} check_case;

/* ---- memory ---- */

static void **owned;
static size_t owned_count, owned_room;

static inline size_t memory_mark(void)
{
    return owned_count;
}

static inline void release_to(size_t mark)
{
    while (owned_count > mark)
        free(owned[--owned_count]);
    if (!mark) {
        free(owned);
        owned = NULL;
        owned_room = 0;
    }
}

/* 64-byte aligned, followed by room that must stay as it is (see check_guard). */
static inline void *new_bytes(size_t bytes)
{
    if (owned_count == owned_room) {
        owned_room = owned_room * 2 + 64;
        owned = realloc(owned, owned_room * sizeof *owned);
        assert_non_null(owned);
    }
    char *p = aligned_alloc(64, (bytes + 64 + 63) / 64 * 64);
    assert_non_null(p);
    memset(p, 0xa5, (bytes + 64 + 63) / 64 * 64);
    owned[owned_count++] = p;
    return p;
}

static inline void check_guard(const void *p, size_t bytes)
{
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(((const unsigned char *)p)[bytes + i], 0xa5);
}

static inline void run_case(void **state)
{
    const check_case *c = *state;
    if (!c->isa->supported()) {
        printf("skipped: no %s\n", c->isa->kernels->name);
        skip();
    }
    uint64_t saved = c->isa->kernels->thread_begin();
    c->check->check(c->isa->kernels);
    c->isa->kernels->thread_end(saved);
    release_to(0);
}

/* Where the tables come from; builds for tables outside the library name another function. */
#ifndef KERNEL_CHECKS_TABLES
#define KERNEL_CHECKS_TABLES emb_kernels_all
#endif
const emb_isa *KERNEL_CHECKS_TABLES(size_t *count);

static inline int run_checks(const kernel_check *checks, size_t count)
{
    enum { MOST = 64 };
    static struct CMUnitTest tests[MOST];
    static check_case cases[MOST];
    static char names[MOST][80];
    size_t tables, n = 0;
    const emb_isa *all = KERNEL_CHECKS_TABLES(&tables);
    const char *only = getenv("KERNEL_CHECKS_ONLY"); /* tables of this name; emulators are slow */
    for (size_t t = 0; t < tables; t++)
        for (size_t i = 0; i < count && n < MOST && (!only || !strcmp(only, all[t].kernels->name));
             i++, n++) {
            cases[n] = (check_case){&all[t], &checks[i]};
            snprintf(names[n], sizeof names[n], "%s (table %zu): %s", all[t].kernels->name, t,
                     checks[i].name);
            tests[n] = (struct CMUnitTest){names[n], run_case, NULL, NULL, &cases[n]};
        }
    return _cmocka_run_group_tests("kernels", tests, n, NULL, NULL);
}

/* ---- random numbers ---- */

static uint64_t random_state = 88172645463325252u;

static inline uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1du;
}

static inline size_t random_below(size_t n)
{
    return (size_t)(random_bits() >> 33) % n;
}

/* About normal, standard deviation 1. */
static inline float random_float(void)
{
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (double)(random_bits() >> 40) * 0x1p-24 - 0.5;
    return (float)(sum * 1.7320508);
}

static inline float *new_floats(size_t n)
{
    float *x = new_bytes(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float();
    return x;
}

/* ---- reference conversions ---- */

static inline uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline float round_bf16(float x)
{
    return from_bf16(to_bf16(x));
}

static inline double reference_activation(emb_activation a, double x)
{
    switch (a) {
    case EMB_ACT_GELU:
        return isinf(x) && x < 0 ? 0 : 0.5 * x * erfc(-x / sqrt(2));
    case EMB_ACT_GELU_TANH: {
        double u = 0.79788456080286535588 * (x + 0.044715 * x * x * x);
        return isinf(x) && x < 0 ? 0 : u < -300 ? 0 : x / (1 + exp(-2 * u));
    }
    case EMB_ACT_RELU:
        return x < 0 ? 0 : x;
    case EMB_ACT_TANH:
        return tanh(x);
    case EMB_ACT_SILU:
        return x < -700 ? 0 : x / (1 + exp(-x));
    default:
        return x;
    }
}

static const char *const precision_names[] = {"auto", "fp32", "bf16", "int8"};

/* ---- a packed linear layer ---- */

typedef struct layer {
    emb_weight weight;
    float *w, *bias; /* the fp32 originals */
} layer;

/* Packs in strips of 64 rows, in any order, as threads would. */
static inline layer new_layer(const emb_kernels *k, emb_precision p, size_t n, size_t inputs)
{
    layer l = {{p, n, inputs, NULL}, new_floats(n * inputs), new_floats(n)};
    size_t bytes = k->weight_bytes(p, n, inputs);
    l.weight.data = new_bytes(bytes);
    size_t strips = (n + 63) / 64;
    for (size_t s = strips; s-- > 0;) {
        size_t rows = n - s * 64 < 64 ? n - s * 64 : 64;
        k->weight_pack(p, n, inputs, s * 64, rows, l.w + s * 64 * inputs, l.weight.data);
    }
    check_guard(l.weight.data, bytes);
    return l;
}

static inline void *new_operand(const emb_kernels *k, emb_precision p, size_t inputs, const float *x,
                                size_t m)
{
    size_t stride = k->operand_stride(p, inputs);
    void *a = new_bytes(m * stride);
    k->operand_from_f32(p, inputs, x, inputs * sizeof *x, m, a, stride);
    check_guard(a, m * stride);
    return a;
}

#endif
