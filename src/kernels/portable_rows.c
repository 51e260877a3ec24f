/*
 * Everything that works on rows alone, in plain C: layer norm, widening, pooling, normalisation, dot.
 *
 * Long sums are taken in 16 lanes, which a compiler can keep in vectors, and which lose less than one sum.
 */
#include "kernels/layout.h"
#include "kernels/portable.h"

enum { LANES = 16 };

static float add_lanes(const float *lanes)
{
    float sum = 0.0f;
    for (size_t i = 0; i < LANES; i++)
        sum += lanes[i];
    return sum;
}

float emb_portable_dot(const float *a, const float *b, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lanes[j] += a[i + j] * b[i + j];
    for (size_t j = 0; i + j < n; j++)
        lanes[j] += a[i + j] * b[i + j];
    return add_lanes(lanes);
}

static float mean_of(const float *x, size_t n)
{
    float lanes[LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lanes[i % LANES] += x[i];
    return add_lanes(lanes) / (float)n;
}

static float variance_of(const float *x, size_t n, float mean)
{
    float lanes[LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lanes[i % LANES] += (x[i] - mean) * (x[i] - mean);
    return add_lanes(lanes) / (float)n;
}

void emb_portable_layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                             const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                             void *operand, size_t operand_stride)
{
    for (size_t r = 0; r < rows; r++) {
        const float *in = (const float *)((const char *)x + r * x_stride);
        float *out = (float *)((char *)y + r * y_stride);
        float mean = mean_of(in, n);
        float factor = 1.0f / sqrtf(variance_of(in, n, mean) + eps);
        for (size_t i = 0; i < n; i++)
            out[i] = (in[i] - mean) * factor * gamma[i] + (beta ? beta[i] : 0.0f);
        if (operand)
            emb_portable_operand_from_f32(p, n, out, 0, 1, (char *)operand + r * operand_stride, 0);
    }
}

/* src comes from a mapped file and may have any alignment. */
static float widened(emb_dtype type, const void *src, size_t i)
{
    uint16_t half;
    float single;
    switch (type) {
    case EMB_DTYPE_F16:
        memcpy(&half, (const char *)src + i * sizeof half, sizeof half);
        return emb_f32_from_f16(half);
    case EMB_DTYPE_BF16:
        memcpy(&half, (const char *)src + i * sizeof half, sizeof half);
        return emb_f32_from_bf16(half);
    case EMB_DTYPE_I8:
        return (float)((const int8_t *)src)[i];
    default:
        memcpy(&single, (const char *)src + i * sizeof single, sizeof single);
        return single;
    }
}

void emb_portable_widen(emb_dtype type, const void *src, const float *scales, size_t group, size_t n,
                        float *dst, bool add)
{
    for (size_t i = 0; i < n; i++) {
        float x = widened(type, src, i);
        if (type == EMB_DTYPE_I8)
            x *= scales[i / group];
        dst[i] = add ? dst[i] + x : x;
    }
}

static const float *row_at(const float *x, size_t stride, size_t row)
{
    return (const float *)((const char *)x + row * stride);
}

static void pool_sum(size_t rows, size_t n, const float *x, size_t x_stride, float divisor, float *out)
{
    memset(out, 0, n * sizeof *out);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++)
            out[i] += row_at(x, x_stride, r)[i];
    for (size_t i = 0; i < n; i++)
        out[i] /= divisor;
}

void emb_portable_pool(emb_pooling kind, size_t rows, size_t n, const float *x, size_t x_stride, float *out)
{
    switch (kind) {
    case EMB_POOLING_MEAN:
        pool_sum(rows, n, x, x_stride, (float)rows, out);
        break;
    case EMB_POOLING_MEAN_SQRT_LEN:
        pool_sum(rows, n, x, x_stride, sqrtf((float)rows), out);
        break;
    case EMB_POOLING_MAX:
        memcpy(out, x, n * sizeof *out);
        for (size_t r = 1; r < rows; r++)
            for (size_t i = 0; i < n; i++)
                out[i] = row_at(x, x_stride, r)[i] > out[i] ? row_at(x, x_stride, r)[i] : out[i];
        break;
    case EMB_POOLING_LAST:
        memcpy(out, row_at(x, x_stride, rows - 1), n * sizeof *out);
        break;
    default: /* CLS */
        memcpy(out, x, n * sizeof *out);
        break;
    }
}

void emb_portable_normalize(float *v, size_t n)
{
    float norm = sqrtf(emb_portable_dot(v, v, n));
    float divisor = norm > 1e-12f ? norm : 1e-12f;
    for (size_t i = 0; i < n; i++)
        v[i] /= divisor;
}
