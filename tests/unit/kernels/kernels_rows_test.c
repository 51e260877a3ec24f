/* Activations over the whole float range, layer norm, widening, pooling, normalisation and dot products. */
#include "kernel_checks.h"

/* ---- activations, through the bias of a layer without weights ---- */

static void run_activation(const emb_kernels *k, emb_precision p, emb_activation act, const float *x,
                           size_t n, float *y)
{
    size_t mark = memory_mark();
    emb_weight w = {p, n, 1, NULL};
    static float zero[16] __attribute__((aligned(64)));
    w.data = new_bytes(k->weight_bytes(w.precision, n, 1));
    float *zeros = new_bytes(n * sizeof *zeros);
    memset(zeros, 0, n * sizeof *zeros);
    k->weight_pack(w.precision, n, 1, 0, n, zeros, w.data);
    void *a = new_bytes(k->operand_stride(w.precision, 1));
    k->operand_from_f32(w.precision, 1, zero, 4, 1, a, k->operand_stride(w.precision, 1));
    emb_linear args = {.weight = &w,
                       .bias = x,
                       .a = a,
                       .a_stride = k->operand_stride(w.precision, 1),
                       .m = 1,
                       .n_end = n,
                       .activation = act,
                       .out_precision = EMB_PRECISION_FP32,
                       .out = y,
                       .out_stride = n * sizeof *y};
    k->linear(&args, new_bytes(k->linear_scratch(n, 1)));
    release_to(mark);
}

static void check_activation_values(const emb_kernels *k, emb_precision p, emb_activation act, const float *x,
                                    size_t n, float *y)
{
    run_activation(k, p, act, x, n, y);
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            assert_true(isnan(y[i]));
            continue;
        }
        double want = reference_activation(act, x[i]);
        double scale = fabs((double)x[i]) > 1 ? fabs((double)x[i]) : 1;
        bool ok = isinf(x[i]) ? (double)y[i] == want : fabs(y[i] - want) <= 2e-7 * scale;
        if (!ok)
            fail_msg("%s activation %d of %.9g: got %.9g, want %.9g", k->name, act, x[i], y[i], want);
    }
}

enum { CHUNK = 1 << 14 };

static void check_activations(const emb_kernels *k)
{
    float *x = new_floats(CHUNK), *y = new_floats(CHUNK);
    emb_precision p = EMB_PRECISION_FP32;
    for (int act = EMB_ACT_NONE; act <= EMB_ACT_SILU; act++) {
        uint32_t bits = 12345; /* every 1531st float of all, infinities and NaNs included */
        for (size_t chunk = 0; chunk < (1u << 31) / 765 / CHUNK; chunk++) {
            for (size_t i = 0; i < CHUNK; i++, bits += 1531)
                memcpy(&x[i], &bits, 4);
            check_activation_values(k, p, (emb_activation)act, x, CHUNK, y);
        }
        for (size_t chunk = 0; chunk < 32; chunk++) { /* -16 .. 16 closely */
            for (size_t i = 0; i < CHUNK; i++)
                x[i] = -16.0f + 32.0f * (float)(chunk * CHUNK + i) / (32.0f * CHUNK);
            check_activation_values(k, p, (emb_activation)act, x, CHUNK, y);
        }
        static const float special[] = {INFINITY, -INFINITY, NAN, -NAN, 3.4e38f, -3.4e38f, 1e-45f, 1e-38f, 0};
        for (size_t i = 0; i < CHUNK; i++)
            x[i] = special[i % 9];
        check_activation_values(k, p, (emb_activation)act, x, CHUNK, y);
        /* The other precisions' products may finish with code of their own. */
        for (size_t i = 0; i < CHUNK; i++) {
            uint32_t any = (uint32_t)random_bits();
            memcpy(&x[i], &any, 4);
            x[i] = i % 2 ? x[i] : -12.0f + 24.0f * (float)i / CHUNK;
        }
        for (int other = EMB_PRECISION_BF16; other <= EMB_PRECISION_INT8; other++)
            check_activation_values(k, (emb_precision)other, (emb_activation)act, x, CHUNK, y);
    }
}

/* ---- layer norm ---- */

static void check_layer_norm(const emb_kernels *k)
{
    static const size_t ns[] = {1,  2,   3,   7,   8,   15,  16,   17,   31,  33,
                                64, 100, 129, 384, 385, 768, 1000, 1024, 4099};
    for (size_t i = 0; i < 19; i++)
        for (size_t variant = 0; variant < 4; variant++) {
            size_t n = ns[i], rows = 1 + variant;
            size_t stride = (n + 5) * sizeof(float);
            float *x = new_floats(rows * (n + 5)), *gamma = new_floats(n),
                  *beta = variant % 2 ? NULL : new_floats(n);
            for (size_t j = 0; j < rows * (n + 5) && variant == 3; j++)
                x[j] += 100.0f; /* a mean far from zero */
            float *y = new_bytes(rows * stride);
            emb_precision p = (emb_precision)(1 + variant % 3);
            size_t o_stride = k->operand_stride(p, n);
            void *operand = new_bytes(rows * o_stride), *want_operand = new_bytes(rows * o_stride);
            float eps = 1e-12f;
            k->layer_norm(rows, n, x, stride, gamma, beta, eps, y, stride, p, operand, o_stride);
            check_guard(y, rows * stride);
            check_guard(operand, rows * o_stride);
            for (size_t r = 0; r < rows; r++) {
                const float *in = x + r * (n + 5), *out = y + r * (n + 5);
                double mean = 0, var = 0;
                for (size_t j = 0; j < n; j++)
                    mean += (double)in[j] / (double)n;
                for (size_t j = 0; j < n; j++)
                    var += (in[j] - mean) * (in[j] - mean) / (double)n;
                for (size_t j = 0; j < n && n > 1; j++) {
                    double want = (in[j] - mean) / sqrt(var + eps) * gamma[j] + (beta ? (double)beta[j] : 0);
                    double tolerance = variant == 3 ? 1e-4 : 4e-6;
                    if (!(fabs(out[j] - want) <= tolerance * (1 + fabs(want))))
                        fail_msg("%s layer norm n=%zu [%zu]: got %.9g, want %.9g", k->name, n, j, out[j],
                                 want);
                }
                assert_int_equal(((const unsigned char *)(out + n))[0], 0xa5);
            }
            k->operand_from_f32(p, n, y, stride, rows, want_operand, o_stride);
            assert_memory_equal(operand, want_operand, rows * o_stride);
            k->layer_norm(rows, n, x, stride, gamma, beta, eps, x, stride, p, NULL, 0);
            for (size_t r = 0; r < rows; r++)
                assert_memory_equal(x + r * (n + 5), y + r * (n + 5), n * sizeof *x);
        }
}

/* ---- widening ---- */

static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 0x3ff;
    double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

static void check_widen(const emb_kernels *k)
{
    enum { MOST = 65536 };
    unsigned char *bytes = new_bytes(MOST * 4 + 1);
    float *dst = new_bytes(MOST * 4), *old = new_floats(MOST), *scales = new_floats(MOST);
    for (size_t i = 0; i < MOST; i++) { /* at an odd address, as in a mapped file */
        uint16_t h = (uint16_t)i;
        memcpy(bytes + 1 + 2 * i, &h, 2);
    }
    k->widen(EMB_DTYPE_F16, bytes + 1, NULL, 0, MOST, dst, false);
    for (size_t i = 0; i < MOST; i++) {
        if ((i >> 10 & 31) == 31)
            assert_true(i & 0x3ff ? isnan(dst[i]) : dst[i] == (i & 0x8000 ? -INFINITY : INFINITY));
        else
            assert_true((double)dst[i] == half_value((uint16_t)i));
    }
    k->widen(EMB_DTYPE_BF16, bytes + 1, NULL, 0, MOST, dst, false);
    for (size_t i = 0; i < MOST; i++) {
        uint32_t got;
        memcpy(&got, &dst[i], 4);
        if ((i & 0x7f80) != 0x7f80 || !(i & 0x7f))
            assert_int_equal(got, i << 16);
        else
            assert_true(isnan(dst[i]));
    }
    for (size_t n = 1; n < 100; n++)
        for (size_t group = 1; group <= 64; group *= 2) {
            memcpy(dst, old, MOST * 4);
            k->widen(EMB_DTYPE_I8, bytes + 5, scales, group, n, dst, true);
            for (size_t i = 0; i < n; i++) {
                double want = old[i] + (double)(int8_t)bytes[5 + i] * scales[i / group];
                assert_true(fabs(dst[i] - want) <= 1e-6 * (1 + fabs(want)) * 128);
            }
            assert_memory_equal(dst + n, old + n, 64);
        }
    for (size_t n = 1; n < 100; n++) {
        memcpy(bytes + 3, old, n * 4);
        memset(dst, 0xa5, n * 4 + 4);
        k->widen(EMB_DTYPE_F32, bytes + 3, NULL, 0, n, dst, false);
        assert_memory_equal(dst, old, n * 4);
        k->widen(EMB_DTYPE_F32, bytes + 3, NULL, 0, n, dst, true);
        for (size_t i = 0; i < n; i++)
            assert_true(dst[i] == old[i] + old[i]);
        assert_int_equal(((unsigned char *)(dst + n))[0], 0xa5);
    }
}

/* ---- pooling, norms ---- */

static void check_pool(const emb_kernels *k)
{
    static const size_t ns[] = {1, 5, 16, 17, 64, 100, 384, 385};
    for (size_t i = 0; i < 8; i++)
        for (size_t rows = 1; rows < 40; rows += 6)
            for (int kind = EMB_POOLING_MEAN; kind <= EMB_POOLING_LAST; kind++) {
                size_t n = ns[i];
                float *x = new_floats(rows * (n + 3)), *out = new_bytes(n * sizeof *out);
                k->pool((emb_pooling)kind, rows, n, x, (n + 3) * sizeof *x, out);
                check_guard(out, n * sizeof *out);
                for (size_t j = 0; j < n; j++) {
                    double sum = 0, max = -INFINITY;
                    for (size_t r = 0; r < rows; r++) {
                        sum += x[r * (n + 3) + j];
                        max = x[r * (n + 3) + j] > max ? x[r * (n + 3) + j] : max;
                    }
                    double want[] = {0,   sum / (double)rows,       x[j],
                                     max, sum / sqrt((double)rows), x[(rows - 1) * (n + 3) + j]};
                    assert_true(fabs(out[j] - want[kind]) <= 1e-6 * (1 + fabs(want[kind])));
                }
            }
}

static void check_norms(const emb_kernels *k)
{
    for (size_t n = 1; n < 700; n += n < 70 ? 1 : 37) {
        float *a = new_floats(n), *b = new_floats(n), *v = new_bytes(n * sizeof *v);
        double sum = 0, magnitude = 0, squares = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)a[i] * b[i];
            magnitude += fabs((double)a[i] * b[i]);
            squares += (double)a[i] * a[i];
        }
        assert_true(fabs(k->dot(a, b, n) - sum) <= 1e-6 * magnitude + 1e-30);
        memcpy(v, a, n * sizeof *v);
        k->normalize(v, n);
        check_guard(v, n * sizeof *v);
        for (size_t i = 0; i < n; i++)
            assert_true(fabs(v[i] - a[i] / sqrt(squares)) <= 5e-7);
        memset(v, 0, n * sizeof *v);
        k->normalize(v, n);
        for (size_t i = 0; i < n; i++)
            assert_true(v[i] == 0);
    }
}

int main(void)
{
    static const kernel_check checks[] = {
        {"activations", check_activations},
        {"layer norm", check_layer_norm},
        {"widen", check_widen},
        {"pool", check_pool},
        {"dot and normalize", check_norms},
    };
    return run_checks(checks, sizeof checks / sizeof checks[0]);
}
