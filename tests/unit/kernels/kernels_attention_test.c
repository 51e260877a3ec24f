/* Fused attention of every table against a double precision softmax. */
#include "kernel_checks.h"

typedef struct setup {
    emb_precision precision;
    size_t length, heads, head_dim;
    bool bias;
    float spread; /* of the scores */
} setup;

typedef struct data {
    float *q, *k, *v; /* values that the rows stand for, length × heads·head_dim */
    char *rows;       /* q, k, v beside each other */
    size_t stride, width, element;
    float *bias;
} data;

static data new_data(const setup *s)
{
    data d = {.width = s->heads * s->head_dim, .element = s->precision == EMB_PRECISION_BF16 ? 2 : 4};
    float *all = new_floats(s->length * 3 * d.width);
    d.stride = 3 * d.width * d.element + 64;
    d.rows = new_bytes(s->length * d.stride);
    d.q = new_bytes(s->length * d.width * 4);
    d.k = new_bytes(s->length * d.width * 4);
    d.v = new_bytes(s->length * d.width * 4);
    float *parts[] = {d.q, d.k, d.v};
    for (size_t i = 0; i < s->length; i++)
        for (size_t j = 0; j < 3 * d.width; j++) {
            float x = all[i * 3 * d.width + j] * (j < d.width ? s->spread : 1.0f);
            if (s->precision == EMB_PRECISION_BF16) {
                x = round_bf16(x);
                ((uint16_t *)(d.rows + i * d.stride))[j] = to_bf16(x);
            } else {
                ((float *)(d.rows + i * d.stride))[j] = x;
            }
            parts[j / d.width][i * d.width + j % d.width] = x;
        }
    if (s->bias)
        d.bias = new_floats(s->heads * 2 * s->length);
    return d;
}

static emb_attention make_args(const setup *s, const data *d, size_t first, size_t length, void *out)
{
    return (emb_attention){.precision = s->precision,
                           .q = d->rows + first * d->stride,
                           .k = d->rows + first * d->stride + d->width * d->element,
                           .v = d->rows + first * d->stride + 2 * d->width * d->element,
                           .stride = d->stride,
                           .out = out,
                           .out_stride = d->width * d->element,
                           .length = length,
                           .head_dim = s->head_dim,
                           .head_end = s->heads,
                           .scale = 1.0f / sqrtf((float)s->head_dim),
                           .bias = d->bias ? d->bias + s->length : NULL,
                           .bias_stride = 2 * s->length};
}

static double reference(const setup *s, const data *d, size_t head, size_t query, double *out, double *p)
{
    size_t at = head * s->head_dim;
    double sum = 0, max = -INFINITY, largest = 0, scale = 1.0f / sqrtf((float)s->head_dim);
    for (size_t j = 0; j < s->length; j++) {
        double score = 0;
        for (size_t i = 0; i < s->head_dim; i++)
            score += (double)d->q[query * d->width + at + i] * d->k[j * d->width + at + i];
        p[j] = score * scale;
        if (d->bias)
            p[j] += d->bias[s->length + head * 2 * s->length + j - query];
        max = p[j] > max ? p[j] : max;
    }
    for (size_t j = 0; j < s->length; j++)
        sum += p[j] = exp(p[j] - max);
    for (size_t i = 0; i < s->head_dim; i++) {
        out[i] = 0;
        for (size_t j = 0; j < s->length; j++) {
            out[i] += p[j] / sum * d->v[j * d->width + at + i];
            largest =
                fabs(d->v[j * d->width + at + i]) > largest ? fabs(d->v[j * d->width + at + i]) : largest;
        }
    }
    return largest;
}

static float out_value(const setup *s, const void *out, size_t at)
{
    return s->precision == EMB_PRECISION_BF16 ? from_bf16(((const uint16_t *)out)[at])
                                              : ((const float *)out)[at];
}

static void check_one(const emb_kernels *k, setup s)
{
    size_t mark = memory_mark();
    data d = new_data(&s);
    size_t bytes = s.length * d.width * d.element;
    void *out = new_bytes(bytes);
    size_t scratch_bytes = k->attention_scratch(s.length, s.head_dim);
    void *scratch = new_bytes(scratch_bytes);
    emb_attention args = make_args(&s, &d, 0, s.length, out);
    k->attention(&args, scratch);
    check_guard(scratch, scratch_bytes);
    check_guard(out, bytes);
    double *want = new_bytes(s.head_dim * sizeof *want), *p = new_bytes(s.length * sizeof *p);
    double relative = s.precision == EMB_PRECISION_BF16 ? 0x1p-7 : 4e-6 * (1 + s.spread);
    for (size_t h = 0; h < s.heads; h++)
        for (size_t t = 0; t < s.length; t += 1 + s.length / 24) {
            double largest = reference(&s, &d, h, t, want, p);
            for (size_t i = 0; i < s.head_dim; i++) {
                double got = out_value(&s, out, t * d.width + h * s.head_dim + i);
                if (!(fabs(got - want[i]) <= relative * (s.length == 1 ? fabs(want[i]) + 1e-30 : largest)))
                    fail_msg("%s %s length %zu head %zu of %zu×%zu token %zu [%zu]: got %.9g, want %.9g",
                             k->name, precision_names[s.precision], s.length, h, s.heads, s.head_dim, t, i,
                             got, want[i]);
            }
        }
    release_to(mark);
}

static void check_lengths(const emb_kernels *k)
{
    for (size_t p = EMB_PRECISION_FP32; p <= EMB_PRECISION_BF16; p++)
        for (size_t length = 1; length <= 600; length += length < 140 ? 1 : 23)
            check_one(k, (setup){(emb_precision)p, length, length < 100 ? 3 : 1, length % 2 ? 32 : 64,
                                 length % 3 == 0, 1.0f});
}

static void check_head_dims(const emb_kernels *k)
{
    for (size_t p = EMB_PRECISION_FP32; p <= EMB_PRECISION_BF16; p++)
        for (size_t dim = 8; dim <= 256; dim += 8) {
            check_one(k, (setup){(emb_precision)p, 5 + dim / 3, 2, dim, dim % 16 == 0, 1.0f});
            check_one(k, (setup){(emb_precision)p, 130, 1, dim, dim % 16 != 0, 1.0f});
        }
}

/* Scores up to some hundreds: the running maximum must rise and fall correctly. */
static void check_sharp(const emb_kernels *k)
{
    for (size_t p = EMB_PRECISION_FP32; p <= EMB_PRECISION_BF16; p++)
        for (size_t length = 2; length < 500; length = length * 5 / 3 + 1) {
            check_one(k, (setup){(emb_precision)p, length, 2, 32, false, 12.0f});
            check_one(k, (setup){(emb_precision)p, length, 2, 64, true, 100.0f});
        }
}

/* A head alone gives the same bits as all heads, and a sequence the same bits wherever its rows lie. */
static void check_invariance(const emb_kernels *k)
{
    for (size_t p = EMB_PRECISION_FP32; p <= EMB_PRECISION_BF16; p++)
        for (size_t length = 1; length < 300; length += 37) {
            setup s = {(emb_precision)p, length, 4, 32, true, 1.0f};
            data d = new_data(&s);
            size_t bytes = length * d.width * d.element;
            char *whole = new_bytes(bytes), *single = new_bytes(bytes);
            void *scratch = new_bytes(k->attention_scratch(length + 50, s.head_dim));
            emb_attention args = make_args(&s, &d, 0, length, whole);
            k->attention(&args, scratch);
            for (size_t h = 0; h < s.heads; h++) {
                args = make_args(&s, &d, 0, length, single);
                args.head_begin = h;
                args.head_end = h + 1;
                k->attention(&args, scratch);
            }
            assert_memory_equal(whole, single, bytes);
        }
}

int main(void)
{
    static const kernel_check checks[] = {
        {"lengths", check_lengths},
        {"head dimensions", check_head_dims},
        {"sharp scores", check_sharp},
        {"invariance", check_invariance},
    };
    return run_checks(checks, sizeof checks / sizeof checks[0]);
}
