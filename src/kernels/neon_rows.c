/*
 * What works on rows alone, on aarch64: layer norm, widening, pooling, normalisation, dot products.
 *
 * Sums are kept in 16 lanes, four registers: enough independent additions to cover their latency, and more
 * exact than one long sum. Rest elements go through a copy padded with zeros, so that there is one loop.
 * All of it is limited by loads from L1: 2 a cycle, 32 bytes.
 */
#if defined(__aarch64__)
#include "kernels/layout.h"
#include "kernels/neon.h"
#include "kernels/neon_math.h"

enum { LANES = 16 };

static inline float add_lanes(const float32x4_t sums[4])
{
    return vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])));
}

float emb_neon_dot(const float *a, const float *b, size_t n)
{
    float32x4_t sums[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < 4; j++)
            sums[j] = vfmaq_f32(sums[j], vld1q_f32(a + i + 4 * j), vld1q_f32(b + i + 4 * j));
    if (i < n) {
        float x[LANES] = {0}, y[LANES] = {0};
        memcpy(x, a + i, (n - i) * sizeof *x);
        memcpy(y, b + i, (n - i) * sizeof *y);
        for (size_t j = 0; j < 4; j++)
            sums[j] = vfmaq_f32(sums[j], vld1q_f32(x + 4 * j), vld1q_f32(y + 4 * j));
    }
    return add_lanes(sums);
}

static float mean_of(const float *x, size_t n)
{
    float32x4_t sums[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < 4; j++)
            sums[j] = vaddq_f32(sums[j], vld1q_f32(x + i + 4 * j));
    float rest[LANES] = {0};
    memcpy(rest, x + i, (n - i) * sizeof *rest);
    for (size_t j = 0; j < 4; j++)
        sums[j] = vaddq_f32(sums[j], vld1q_f32(rest + 4 * j));
    return add_lanes(sums) / (float)n;
}

static float variance_of(const float *x, size_t n, float mean)
{
    float32x4_t sums[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    float32x4_t centre = vdupq_n_f32(mean);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < 4; j++) {
            float32x4_t d = vsubq_f32(vld1q_f32(x + i + 4 * j), centre);
            sums[j] = vfmaq_f32(sums[j], d, d);
        }
    float rest[LANES];
    for (size_t j = 0; j < LANES; j++)
        rest[j] = i + j < n ? x[i + j] : mean;
    for (size_t j = 0; j < 4; j++) {
        float32x4_t d = vsubq_f32(vld1q_f32(rest + 4 * j), centre);
        sums[j] = vfmaq_f32(sums[j], d, d);
    }
    return add_lanes(sums) / (float)n;
}

static inline float32x4_t norm4(float32x4_t x, float mean, float factor, float32x4_t gamma, float32x4_t beta)
{
    return vfmaq_f32(beta, vmulq_n_f32(vsubq_f32(x, vdupq_n_f32(mean)), factor), gamma);
}

static void norm_row(size_t n, const float *x, const float *gamma, const float *beta, float eps, float *y)
{
    float mean = mean_of(x, n), factor = 1.0f / sqrtf(variance_of(x, n, mean) + eps);
    float32x4_t zero = vdupq_n_f32(0.0f);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(y + i, norm4(vld1q_f32(x + i), mean, factor, vld1q_f32(gamma + i),
                               beta ? vld1q_f32(beta + i) : zero));
    for (; i < n; i++)
        y[i] = vgetq_lane_f32(
            norm4(vdupq_n_f32(x[i]), mean, factor, vdupq_n_f32(gamma[i]), vdupq_n_f32(beta ? beta[i] : 0.0f)),
            0);
}

void emb_neon_layer_norm(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                         const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                         void *operand, size_t operand_stride)
{
    for (size_t r = 0; r < rows; r++) {
        float *out = (float *)((char *)y + r * y_stride);
        norm_row(n, (const float *)((const char *)x + r * x_stride), gamma, beta, eps, out);
        if (operand)
            emb_neon_store_operand(p, n, 0, n, out, (char *)operand + r * operand_stride, true);
    }
}

/* Four values of a type that is not I8; src comes from a mapped file and may have any alignment. */
static inline float32x4_t widen4(emb_dtype type, const char *src)
{
    if (type == EMB_DTYPE_F32)
        return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)src));
    uint8x8_t halves = vld1_u8((const uint8_t *)src);
    if (type == EMB_DTYPE_F16)
        return vcvt_f32_f16(vreinterpret_f16_u8(halves));
    return emb_neon_from_bf16(vreinterpret_u16_u8(halves));
}

static inline void put4(float *dst, float32x4_t x, bool add)
{
    vst1q_f32(dst, add ? vaddq_f32(vld1q_f32(dst), x) : x);
}

/* Up to 4 values at the end. */
static void put_rest(float *dst, float32x4_t x, size_t count, bool add)
{
    float four[4];
    vst1q_f32(four, x);
    for (size_t i = 0; i < count; i++)
        dst[i] = add ? dst[i] + four[i] : four[i];
}

static void widen_int8(const int8_t *src, float scale, size_t n, float *dst, bool add)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        int16x8_t x = vmovl_s8(vld1_s8(src + i));
        put4(dst + i, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))), scale), add);
        put4(dst + i + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(x))), scale), add);
    }
    for (; i < n; i++) {
        float x = (float)src[i] * scale;
        dst[i] = add ? dst[i] + x : x;
    }
}

void emb_neon_widen(emb_dtype type, const void *src, const float *scales, size_t group, size_t n, float *dst,
                    bool add)
{
    if (type == EMB_DTYPE_I8) {
        for (size_t at = 0; at < n; at += group)
            widen_int8((const int8_t *)src + at, scales[at / group], n - at < group ? n - at : group,
                       dst + at, add);
        return;
    }
    size_t width = type == EMB_DTYPE_F32 ? 4 : 2, i = 0;
    const char *bytes = src;
    for (; i + 4 <= n; i += 4)
        put4(dst + i, widen4(type, bytes + i * width), add);
    if (i < n) {
        char rest[16] = {0};
        memcpy(rest, bytes + i * width, (n - i) * width);
        put_rest(dst + i, widen4(type, rest), n - i, add);
    }
}

static inline const float *row_at(const float *x, size_t stride, size_t row)
{
    return (const float *)((const char *)x + row * stride);
}

/* 16 columns at a time, all rows: the sums stay in registers. */
static void pool_columns(bool max, size_t rows, const float *x, size_t x_stride, float divisor, float *out)
{
    float32x4_t sums[4];
    for (size_t j = 0; j < 4; j++)
        sums[j] = vld1q_f32(x + 4 * j);
    for (size_t r = 1; r < rows; r++)
        for (size_t j = 0; j < 4; j++) {
            float32x4_t y = vld1q_f32(row_at(x, x_stride, r) + 4 * j);
            sums[j] = max ? vmaxq_f32(sums[j], y) : vaddq_f32(sums[j], y);
        }
    for (size_t j = 0; j < 4; j++)
        vst1q_f32(out + 4 * j, max ? sums[j] : vdivq_f32(sums[j], vdupq_n_f32(divisor)));
}

static void pool_all(bool max, size_t rows, size_t n, const float *x, size_t x_stride, float divisor,
                     float *out)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        pool_columns(max, rows, x + i, x_stride, divisor, out + i);
    for (; i < n; i++) {
        float sum = x[i];
        for (size_t r = 1; r < rows; r++) {
            float y = row_at(x, x_stride, r)[i];
            sum = !max ? sum + y : y > sum || isnan(y) ? y : sum;
        }
        out[i] = max ? sum : sum / divisor;
    }
}

void emb_neon_pool(emb_pooling kind, size_t rows, size_t n, const float *x, size_t x_stride, float *out)
{
    switch (kind) {
    case EMB_POOLING_MEAN:
        pool_all(false, rows, n, x, x_stride, (float)rows, out);
        break;
    case EMB_POOLING_MEAN_SQRT_LEN:
        pool_all(false, rows, n, x, x_stride, sqrtf((float)rows), out);
        break;
    case EMB_POOLING_MAX:
        pool_all(true, rows, n, x, x_stride, 1.0f, out);
        break;
    case EMB_POOLING_LAST:
        memcpy(out, row_at(x, x_stride, rows - 1), n * sizeof *out);
        break;
    default: /* CLS */
        memcpy(out, x, n * sizeof *out);
        break;
    }
}

void emb_neon_normalize(float *v, size_t n)
{
    float norm = sqrtf(emb_neon_dot(v, v, n)), divisor = norm > 1e-12f ? norm : 1e-12f;
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(v + i, vdivq_f32(vld1q_f32(v + i), vdupq_n_f32(divisor)));
    for (; i < n; i++)
        v[i] /= divisor;
}
#endif
