/* Products of every table against double precision, their epilogues, and their independence of batching. */
#include "kernel_checks.h"

/* The value that a table's operands and weights stand for: x itself, its bf16, or its int8 times scale. */
static double *reference_rows(const emb_kernels *k, emb_precision p, const float *x, size_t rows, size_t n)
{
    double *r = new_bytes(rows * n * sizeof *r);
    size_t group = k->int8_group ? k->int8_group : n;
    for (size_t i = 0; i < rows; i++)
        for (size_t g = 0; g < n; g += group) {
            size_t end = g + group < n ? g + group : n;
            float max = 0;
            for (size_t j = g; j < end; j++)
                max = fabsf(x[i * n + j]) > max ? fabsf(x[i * n + j]) : max;
            for (size_t j = g; j < end; j++) {
                float v = x[i * n + j];
                if (p == EMB_PRECISION_BF16)
                    r[i * n + j] = round_bf16(v);
                else if (p == EMB_PRECISION_INT8)
                    r[i * n + j] = max > 0 ? (double)nearbyintf(v * (127.0f / max)) * (max / 127.0f) : 0;
                else
                    r[i * n + j] = v;
            }
        }
    return r;
}

typedef struct shape {
    size_t m, n, k;
} shape;

static void check_product(const emb_kernels *k, emb_precision p, shape s, emb_activation act, bool bias,
                          bool residual)
{
    size_t mark = memory_mark();
    layer l = new_layer(k, p, s.n, s.k);
    float *x = new_floats(s.m * s.k), *res = new_floats(s.m * s.n);
    void *a = new_operand(k, p, s.k, x, s.m);
    size_t out_stride = (s.n + 3) * sizeof(float);
    char *out = new_bytes(s.m * out_stride);
    size_t scratch_bytes = k->linear_scratch(s.n, s.k);
    void *scratch = new_bytes(scratch_bytes);
    emb_linear args = {.weight = &l.weight,
                       .bias = bias ? l.bias : NULL,
                       .a = a,
                       .a_stride = k->operand_stride(p, s.k),
                       .m = s.m,
                       .n_end = s.n,
                       .activation = act,
                       .out_precision = EMB_PRECISION_FP32,
                       .out = out,
                       .out_stride = out_stride,
                       .residual = residual ? res : NULL,
                       .residual_stride = s.n * sizeof(float)};
    k->linear(&args, scratch);
    check_guard(scratch, scratch_bytes);
    check_guard(out, s.m * out_stride);
    double *xr = reference_rows(k, p, x, s.m, s.k), *wr = reference_rows(k, p, l.w, s.n, s.k);
    for (size_t i = 0; i < s.m; i++)
        for (size_t j = 0; j < s.n; j++) {
            double sum = bias ? l.bias[j] : 0, magnitude = fabs(sum);
            for (size_t t = 0; t < s.k; t++) {
                sum += xr[i * s.k + t] * wr[j * s.k + t];
                magnitude += fabs(xr[i * s.k + t] * wr[j * s.k + t]);
            }
            double want = reference_activation(act, sum) + (residual ? (double)res[i * s.n + j] : 0);
            double got = ((float *)(out + i * out_stride))[j];
            double tolerance = 1.2e-7 * (4 + sqrt((double)s.k) / 4) * magnitude + 1e-6;
            if (!(fabs(got - want) <= tolerance))
                fail_msg("%s %s m=%zu n=%zu k=%zu act=%d (%zu,%zu): got %.9g, want %.9g ± %.2g", k->name,
                         precision_names[p], s.m, s.n, s.k, act, i, j, got, want, tolerance);
        }
    for (size_t i = 0; i < s.m; i++)
        for (size_t b = s.n * sizeof(float); b < out_stride; b++)
            assert_int_equal((unsigned char)out[i * out_stride + b], 0xa5);
    release_to(mark);
}

static const emb_precision precisions[] = {EMB_PRECISION_FP32, EMB_PRECISION_BF16, EMB_PRECISION_INT8};

static void check_shapes(const emb_kernels *k)
{
    static const size_t ns[] = {1, 2, 7, 16, 31, 33, 48, 63, 64, 65, 96, 100, 127, 130, 192, 200, 384};
    static const size_t ks[] = {1, 2, 3, 5, 8, 15, 16, 31, 33, 63, 64, 65, 96, 127, 129, 200, 384, 777, 1537};
    for (size_t p = 0; p < 3; p++) {
        for (size_t m = 1; m <= 40; m++) {
            shape s = {m, ns[random_below(17)], ks[random_below(19)]};
            check_product(k, precisions[p], s, (emb_activation)(m % 6), m % 3 != 0, m % 4 == 0);
        }
        for (size_t i = 0; i < 17; i++)
            check_product(k, precisions[p], (shape){1 + i % 9, ns[i], 64}, EMB_ACT_NONE, true, false);
        for (size_t i = 0; i < 19; i++)
            check_product(k, precisions[p], (shape){1 + i % 15, 70, ks[i]}, EMB_ACT_NONE, false, true);
        check_product(k, precisions[p], (shape){300, 65, 129}, EMB_ACT_GELU, true, false);
        check_product(k, precisions[p], (shape){3, 33, 4097}, EMB_ACT_NONE, true, false);
        check_product(k, precisions[p], (shape){40, 1400, 384}, EMB_ACT_GELU, true, true);
    }
}

static void run_linear(const emb_kernels *k, const layer *l, const void *a, size_t m, size_t begin,
                       size_t end, emb_precision out_precision, void *out, size_t out_stride,
                       const float *residual)
{
    emb_linear args = {.weight = &l->weight,
                       .bias = l->bias,
                       .a = a,
                       .a_stride = k->operand_stride(l->weight.precision, l->weight.k),
                       .m = m,
                       .n_begin = begin,
                       .n_end = end,
                       .activation = EMB_ACT_GELU,
                       .out_precision = out_precision,
                       .out = out,
                       .out_stride = out_stride,
                       .residual = residual,
                       .residual_stride = l->weight.n * sizeof(float)};
    k->linear(&args, new_bytes(k->linear_scratch(l->weight.n, l->weight.k)));
}

/* A row is bit-identical for every m, position, and column range. */
static void check_batch_invariance(const emb_kernels *k)
{
    static const shape shapes[] = {
        {97, 384, 384}, {41, 200, 1537}, {300, 130, 65}, {33, 65, 3072}, {70, 1500, 384}};
    for (size_t p = 0; p < 3; p++)
        for (size_t i = 0; i < 5; i++) {
            shape s = shapes[i];
            layer l = new_layer(k, precisions[p], s.n, s.k);
            float *x = new_floats(s.m * s.k), *res = new_floats(s.m * s.n);
            char *a = new_operand(k, precisions[p], s.k, x, s.m);
            size_t a_stride = k->operand_stride(precisions[p], s.k), stride = s.n * sizeof(float);
            float *whole = new_bytes(s.m * stride), *part = new_bytes(s.m * stride);
            run_linear(k, &l, a, s.m, 0, s.n, EMB_PRECISION_FP32, whole, stride, res);
            for (size_t trial = 0; trial < 60; trial++) {
                size_t row = random_below(s.m), most = s.m - row;
                size_t m = trial < 40 ? trial + 1 : 1 + random_below(most);
                m = m < most ? m : most;
                size_t blocks = (s.n + k->column_block - 1) / k->column_block;
                size_t first = random_below(blocks), last = first + 1 + random_below(blocks - first);
                size_t begin = first * k->column_block, end = last * k->column_block;
                end = end < s.n ? end : s.n;
                memset(part, 0xa5, s.m * stride);
                run_linear(k, &l, a + row * a_stride, m, begin, end, EMB_PRECISION_FP32, part, stride,
                           res + row * s.n);
                for (size_t r = 0; r < m; r++)
                    for (size_t j = 0; j < s.n; j++) {
                        uint32_t got, want = 0xa5a5a5a5;
                        memcpy(&got, &part[r * s.n + j], 4);
                        if (j >= begin && j < end)
                            memcpy(&want, &whole[(row + r) * s.n + j], 4);
                        if (got != want)
                            fail_msg("%s %s m=%zu of %zu, row %zu, column %zu of %zu..%zu: %08x, want %08x",
                                     k->name, precision_names[precisions[p]], m, s.m, r, j, begin, end, got,
                                     want);
                    }
            }
        }
}

/* BF16 and INT8 outputs are what operand_from_f32 makes of the FP32 output, also in column strips. */
static void check_operand_outputs(const emb_kernels *k)
{
    static const size_t ns[] = {1, 31, 64, 65, 128, 129, 384, 447};
    for (size_t p = 0; p < 3; p++)
        for (size_t i = 0; i < 8; i++) {
            shape s = {19, ns[i], 96};
            layer l = new_layer(k, precisions[p], s.n, s.k);
            float *x = new_floats(s.m * s.k), *res = new_floats(s.m * s.n);
            void *a = new_operand(k, precisions[p], s.k, x, s.m);
            size_t f_stride = s.n * sizeof(float);
            float *f = new_bytes(s.m * f_stride);
            run_linear(k, &l, a, s.m, 0, s.n, EMB_PRECISION_FP32, f, f_stride, res);
            for (size_t o = EMB_PRECISION_BF16; o <= EMB_PRECISION_INT8; o++) {
                if (o == EMB_PRECISION_INT8 && !k->emits_int8)
                    continue;
                size_t stride = k->operand_stride((emb_precision)o, s.n), bytes = s.m * stride;
                char *want = new_operand(k, (emb_precision)o, s.n, f, s.m);
                char *got = new_bytes(bytes);
                for (size_t at = 0; at < s.n; at += k->column_block) {
                    size_t end = at + k->column_block < s.n ? at + k->column_block : s.n;
                    run_linear(k, &l, a, s.m, at, end, (emb_precision)o, got, stride, res);
                }
                check_guard(got, bytes);
                if (memcmp(want, got, bytes))
                    fail_msg("%s: %s output of %s products differs from its float rows, n=%zu", k->name,
                             precision_names[o], precision_names[precisions[p]], s.n);
            }
        }
}

/* The residual may be the output itself. */
static void check_residual_in_place(const emb_kernels *k)
{
    for (size_t p = 0; p < 3; p++) {
        shape s = {29, 129, 200};
        layer l = new_layer(k, precisions[p], s.n, s.k);
        float *x = new_floats(s.m * s.k), *res = new_floats(s.m * s.n);
        void *a = new_operand(k, precisions[p], s.k, x, s.m);
        size_t stride = s.n * sizeof(float);
        float *out = new_bytes(s.m * stride);
        run_linear(k, &l, a, s.m, 0, s.n, EMB_PRECISION_FP32, out, stride, res);
        run_linear(k, &l, a, s.m, 0, s.n, EMB_PRECISION_FP32, res, stride, res);
        assert_memory_equal(out, res, s.m * stride);
    }
}

/* Activations of extreme size: what overflows is not finite afterwards, zeros stay zeros. */
static void check_extremes(const emb_kernels *k)
{
    for (size_t p = 0; p < 3; p++) {
        shape s = {4, 64, 200};
        layer l = new_layer(k, precisions[p], s.n, s.k);
        float *x = new_floats(s.m * s.k);
        memset(x, 0, s.k * sizeof *x);
        x[1 * s.k + 70] = INFINITY;
        x[2 * s.k + 199] = NAN;
        for (size_t t = 0; t < s.k; t++)
            x[3 * s.k + t] *= 1e18f;
        void *a = new_operand(k, precisions[p], s.k, x, s.m);
        float *out = new_bytes(s.m * s.n * sizeof *out);
        emb_linear args = {.weight = &l.weight,
                           .a = a,
                           .a_stride = k->operand_stride(precisions[p], s.k),
                           .m = s.m,
                           .n_end = s.n,
                           .out_precision = EMB_PRECISION_FP32,
                           .out = out,
                           .out_stride = s.n * sizeof *out};
        k->linear(&args, new_bytes(k->linear_scratch(s.n, s.k)));
        for (size_t j = 0; j < s.n; j++) {
            assert_true(out[j] == 0);
            assert_false(isfinite(out[s.n + j]));
            assert_true(isnan(out[2 * s.n + j]));
            assert_true(isfinite(out[3 * s.n + j]) && fabsf(out[3 * s.n + j]) > 1e12f);
        }
    }
}

static void check_strides(const emb_kernels *k)
{
    for (size_t p = 0; p < 3; p++)
        for (size_t n = 1; n < 9000; n++) {
            size_t stride = k->operand_stride(precisions[p], n);
            assert_true(stride % 64 == 0 && stride % 4096 != 0);
            if (precisions[p] == EMB_PRECISION_FP32)
                assert_true(stride >= n * sizeof(float));
        }
    assert_true((k->column_block & (k->column_block - 1)) == 0 && k->column_block <= 64);
}

int main(void)
{
    static const kernel_check checks[] = {
        {"strides", check_strides},
        {"shapes, activations, residuals", check_shapes},
        {"batch invariance", check_batch_invariance},
        {"operand outputs", check_operand_outputs},
        {"residual in place", check_residual_in_place},
        {"extreme values", check_extremes},
    };
    return run_checks(checks, sizeof checks / sizeof checks[0]);
}
