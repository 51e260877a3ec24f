/*
 * kernels_bench: how near the kernels come to what the chip can do.
 *
 *     kernels_bench [table [seconds-per-figure [fp32|bf16|int8|attention|rows]]]
 *
 * In one run it measures the rate of bare multiply-add instructions, and per table and precision the rate
 * of the products of MiniLM and BERT-base, printed as GFLOP/s and share of that rate; then attention,
 * activations and layer norm in nanoseconds a token. One thread. Figures are the best of interleaved
 * rounds, since other work on the machine only ever slows them.
 */
#include "kernels/kernels.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double budget = 0.06; /* seconds per figure */
static const char *only;     /* the part asked for; NULL: all */

static bool wanted(const char *part)
{
    return !only || !strcmp(only, part);
}

/* Seconds of one call, the best of many: on a shared machine long calls are seldom left alone. */
static double best_time(void (*call)(void *), void *arg)
{
    call(arg);
    double start = now(), best = 1e9, spent = 0;
    for (int calls = 0; spent < budget || (calls < 40 && spent < 10 * budget); calls++) {
        double before = now();
        call(arg);
        double took = now() - before;
        best = took < best ? took : best;
        spent = now() - start;
    }
    return best;
}

static void *new_bytes(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    memset(p, 0, bytes);
    return p;
}

static float *new_floats(size_t n)
{
    static uint64_t state = 88172645463325252u;
    float *x = new_bytes(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        x[i] = (float)(int32_t)(state >> 32) * 0x1p-31f;
    }
    return x;
}

/* ---- peaks ---- */

typedef struct peak {
    const char *table;
    double flops[4]; /* per precision; 0: unknown */
} peak;

#if defined(__x86_64__)
#include <immintrin.h>

/* Enough independent sums to fill the pipelines, by name, so that they stay in registers. */
#define EACH_SUM(X) X(s0) X(s1) X(s2) X(s3) X(s4) X(s5) X(s6) X(s7) X(s8) X(s9) X(s10) X(s11)
enum { LOOPS = 8000, SUMS = 12 };
static volatile float sink;

#define PEAK(name, isa, type, load, operation)                                                         \
    __attribute__((target(isa))) static void name(void *arg)                                           \
    {                                                                                                  \
        type x = load, s0 = x, s1 = x, s2 = x, s3 = x, s4 = x, s5 = x, s6 = x, s7 = x, s8 = x, s9 = x, \
             s10 = x, s11 = x;                                                                         \
        for (int loop = 0; loop < LOOPS; loop++) {                                                     \
            EACH_SUM(operation)                                                                        \
        }                                                                                              \
        s0 = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;                              \
        sink = ((float *)&s0)[1];                                                                      \
    }
#define OP_FMA(s) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(s) : "v"(x));
#define OP_BF16(s) __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(s) : "v"(x));
#define OP_INT8(s) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(s) : "v"(x));
#define OP_MADD(s)                                                                                 \
    {                                                                                              \
        __m256 t;                                                                                  \
        __asm__ volatile("vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(s), "=&x"(t) : "x"(x)); \
    }

PEAK(peak_f32_512, "avx512f", __m512, _mm512_set1_ps(*(float *)arg), OP_FMA)
PEAK(peak_bf16_512, "avx512f,avx512bf16", __m512, _mm512_set1_ps(*(float *)arg), OP_BF16)
PEAK(peak_int8_512, "avx512f,avx512vnni", __m512, _mm512_set1_ps(*(float *)arg), OP_INT8)
PEAK(peak_f32_256, "avx2,fma", __m256, _mm256_set1_ps(*(float *)arg), OP_FMA)
PEAK(peak_int8_256, "avx2", __m256, _mm256_set1_ps(*(float *)arg), OP_MADD)

static double peak_rate(void (*loop)(void *), double flops)
{
    float one[1] = {0.37f};
    return flops / best_time(loop, one);
}

static peak peak_of(const emb_kernels *k)
{
    peak p = {k->name, {0}};
    if (!strcmp(k->name, "avx512") || !strcmp(k->name, "amx")) {
        p.flops[EMB_PRECISION_FP32] = peak_rate(peak_f32_512, 2.0 * 16 * SUMS * LOOPS);
        p.flops[EMB_PRECISION_BF16] = k->auto_precision == EMB_PRECISION_BF16
                                          ? peak_rate(peak_bf16_512, 4.0 * 16 * SUMS * LOOPS)
                                          : p.flops[EMB_PRECISION_FP32];
        p.flops[EMB_PRECISION_INT8] = peak_rate(peak_int8_512, 8.0 * 16 * SUMS * LOOPS);
    } else if (!strcmp(k->name, "avx2")) {
        p.flops[EMB_PRECISION_BF16] = p.flops[EMB_PRECISION_FP32] =
            peak_rate(peak_f32_256, 2.0 * 8 * SUMS * LOOPS);
        p.flops[EMB_PRECISION_INT8] = peak_rate(peak_int8_256, 4.0 * 8 * SUMS * LOOPS);
    }
    return p;
}
#else
static peak peak_of(const emb_kernels *k)
{
    return (peak){k->name, {0}};
}
#endif

/* ---- products ---- */

typedef struct linear_call {
    const emb_kernels *k;
    emb_linear args;
    void *scratch;
} linear_call;

static void call_linear(void *arg)
{
    linear_call *c = arg;
    c->k->linear(&c->args, c->scratch);
}

static const char *const precision_names[] = {"auto", "fp32", "bf16", "int8"};

static void free_linear(linear_call *c, emb_weight *w)
{
    free(w->data);
    free((void *)c->args.a);
    free((void *)c->args.bias);
    free(c->args.out);
    free(c->scratch);
}

static void bench_linear(const emb_kernels *k, const peak *peaks, emb_precision p, size_t m, size_t n,
                         size_t inputs, emb_activation act)
{
    float *source = new_floats(n * inputs), *x = new_floats(m * inputs);
    emb_weight w = {p, n, inputs, new_bytes(k->weight_bytes(p, n, inputs))};
    k->weight_pack(p, n, inputs, 0, n, source, w.data);
    size_t a_stride = k->operand_stride(p, inputs);
    char *a = new_bytes(m * a_stride);
    k->operand_from_f32(p, inputs, x, inputs * sizeof *x, m, a, a_stride);
    emb_precision out =
        p == EMB_PRECISION_INT8 && (act == EMB_ACT_NONE || !k->emits_int8) ? EMB_PRECISION_FP32 : p;
    size_t out_stride = k->operand_stride(out, n);
    linear_call c = {k,
                     {.weight = &w,
                      .bias = new_floats(n),
                      .a = a,
                      .a_stride = a_stride,
                      .m = m,
                      .n_end = n,
                      .activation = act,
                      .out_precision = out,
                      .out = new_bytes(m * out_stride),
                      .out_stride = out_stride},
                     new_bytes(k->linear_scratch(n, inputs))};
    double flops = 2.0 * (double)m * (double)n * (double)inputs, seconds = best_time(call_linear, &c);
    printf("  %-5s m %4zu  %4zu -> %4zu %-5s %8.1f GFLOP/s", precision_names[p], m, inputs, n,
           act == EMB_ACT_GELU ? "gelu" : "", flops / seconds * 1e-9);
    if (peaks->flops[p] > 0)
        printf(" %5.1f %%", 100 * flops / seconds / peaks->flops[p]);
    if (m < 32)
        printf("   weights at %5.1f GB/s", (double)k->weight_bytes(p, n, inputs) / seconds * 1e-9);
    printf("\n");
    free_linear(&c, &w);
    free(source);
    free(x);
}

static void bench_products(const emb_kernels *k, const peak *peaks)
{
    static const size_t shapes[][2] = {{1152, 384}, {384, 384},  {1536, 384}, {384, 1536},
                                       {768, 768},  {3072, 768}, {768, 3072}};
    static const size_t rows[] = {1, 4, 16, 128, 256};
    for (int p = EMB_PRECISION_FP32; p <= EMB_PRECISION_INT8; p++)
        for (size_t m = 0; m < 5 && wanted(precision_names[p]); m++)
            for (size_t s = 0; s < (m == 3 || m == 4 ? 7 : 4); s++)
                bench_linear(k, peaks, (emb_precision)p, rows[m], shapes[s][0], shapes[s][1],
                             shapes[s][0] > shapes[s][1] * 3 ? EMB_ACT_GELU : EMB_ACT_NONE);
}

/* ---- attention ---- */

typedef struct attention_call {
    const emb_kernels *k;
    emb_attention args;
    void *scratch;
} attention_call;

static void call_attention(void *arg)
{
    attention_call *c = arg;
    c->k->attention(&c->args, c->scratch);
}

static void bench_attention(const emb_kernels *k, const peak *peaks, emb_precision p, size_t length,
                            size_t dim)
{
    size_t width = 12 * dim, element = p == EMB_PRECISION_BF16 ? 2 : 4;
    float *x = new_floats(length * 3 * width);
    size_t stride = 3 * width * element + 64, out_stride = width * element;
    char *rows = new_bytes(length * stride);
    for (size_t i = 0; i < length; i++)
        k->operand_from_f32(p, 3 * width, x + i * 3 * width, 0, 1, rows + i * stride, 0);
    attention_call c = {k,
                        {.precision = p,
                         .q = rows,
                         .k = rows + width * element,
                         .v = rows + 2 * width * element,
                         .stride = stride,
                         .out = new_bytes(length * out_stride),
                         .out_stride = out_stride,
                         .length = length,
                         .head_dim = dim,
                         .head_end = 12,
                         .scale = 0.2f},
                        new_bytes(k->attention_scratch(length, dim))};
    double seconds = best_time(call_attention, &c);
    double flops = 4.0 * (double)length * (double)length * (double)width;
    printf("  attention %s 12 x %zu, length %4zu: %7.0f ns a token, %6.1f GFLOP/s", precision_names[p], dim,
           length, seconds / (double)length * 1e9, flops / seconds * 1e-9);
    if (peaks->flops[p] > 0)
        printf(" %5.1f %%", 100 * flops / seconds / peaks->flops[p]);
    printf("\n");
    free(x);
    free(rows);
    free(c.args.out);
    free(c.scratch);
}

/* ---- rows ---- */

typedef struct rows_call {
    const emb_kernels *k;
    size_t rows, n;
    float *x, *y, *gamma, *beta;
    void *operand;
    emb_precision p;
} rows_call;

static void call_layer_norm(void *arg)
{
    rows_call *c = arg;
    c->k->layer_norm(c->rows, c->n, c->x, c->n * 4, c->gamma, c->beta, 1e-12f, c->y, c->n * 4, c->p,
                     c->operand, c->k->operand_stride(c->p, c->n));
}

static void call_operand(void *arg)
{
    rows_call *c = arg;
    c->k->operand_from_f32(c->p, c->n, c->x, c->n * 4, c->rows, c->operand, c->k->operand_stride(c->p, c->n));
}

static void call_pool(void *arg)
{
    rows_call *c = arg;
    c->k->pool(EMB_POOLING_MEAN, c->rows, c->n, c->x, c->n * 4, c->y);
}

static void call_widen(void *arg)
{
    rows_call *c = arg;
    c->k->widen(EMB_DTYPE_F32, c->x, NULL, 0, c->n * c->rows, c->y, true);
}

static void bench_rows(const emb_kernels *k, size_t n)
{
    rows_call c = {k,
                   128,
                   n,
                   new_floats(128 * n),
                   new_floats(128 * n),
                   new_floats(n),
                   new_floats(n),
                   new_bytes(128 * k->operand_stride(EMB_PRECISION_FP32, n)),
                   EMB_PRECISION_FP32};
    for (int p = EMB_PRECISION_FP32; p <= EMB_PRECISION_INT8; p++) {
        c.p = (emb_precision)p;
        printf("  %zu, %s: layer norm %5.0f ns, operand %5.0f ns a token\n", n, precision_names[p],
               best_time(call_layer_norm, &c) / 128 * 1e9, best_time(call_operand, &c) / 128 * 1e9);
    }
    printf("  %zu: pool %5.1f ns, add of floats %5.1f ns a token\n", n, best_time(call_pool, &c) / 128 * 1e9,
           best_time(call_widen, &c) / 128 * 1e9);
    free(c.x);
    free(c.y);
    free(c.gamma);
    free(c.beta);
    free(c.operand);
}

/* GELU alone: a layer with one input against one with the same and no activation. */
static void bench_gelu(const emb_kernels *k)
{
    enum { M = 128, N = 1536 };
    double seconds[2];
    for (int gelu = 0; gelu < 2; gelu++) {
        float *source = new_floats(N), *x = new_floats(M);
        emb_weight w = {EMB_PRECISION_FP32, N, 1, new_bytes(k->weight_bytes(EMB_PRECISION_FP32, N, 1))};
        k->weight_pack(w.precision, N, 1, 0, N, source, w.data);
        size_t a_stride = k->operand_stride(w.precision, 1);
        char *a = new_bytes(M * a_stride);
        k->operand_from_f32(w.precision, 1, x, sizeof *x, M, a, a_stride);
        linear_call c = {k,
                         {.weight = &w,
                          .bias = new_floats(N),
                          .a = a,
                          .a_stride = a_stride,
                          .m = M,
                          .n_end = N,
                          .activation = gelu ? EMB_ACT_GELU : EMB_ACT_NONE,
                          .out_precision = EMB_PRECISION_BF16,
                          .out = new_bytes(M * N * 2),
                          .out_stride = N * 2},
                         new_bytes(k->linear_scratch(N, 1))};
        seconds[gelu] = best_time(call_linear, &c);
        free_linear(&c, &w);
        free(source);
        free(x);
    }
    printf("  gelu of %d: %5.0f ns a token more than none (%5.0f)\n", N, (seconds[1] - seconds[0]) / M * 1e9,
           seconds[0] / M * 1e9);
}

int main(int argc, char **argv)
{
    if (argc > 2)
        budget = atof(argv[2]);
    if (argc > 3)
        only = argv[3];
    size_t count;
    const emb_isa *all = emb_kernels_all(&count);
    for (size_t i = 0; i < count; i++) {
        const emb_kernels *k = all[i].kernels;
        if (argc > 1 && strcmp(argv[1], k->name))
            continue;
        if (!all[i].supported()) {
            printf("%s: this machine cannot run it\n", k->name);
            continue;
        }
        uint64_t saved = k->thread_begin();
        peak peaks = peak_of(k);
        printf("%s, auto is %s; peaks: fp32 %.0f, bf16 %.0f GFLOP/s, int8 %.0f GOP/s\n", k->name,
               precision_names[k->auto_precision], peaks.flops[1] * 1e-9, peaks.flops[2] * 1e-9,
               peaks.flops[3] * 1e-9);
        bench_products(k, &peaks);
        for (int p = EMB_PRECISION_FP32; p <= EMB_PRECISION_BF16 && wanted("attention"); p++)
            for (size_t dim = 32; dim <= 64; dim += 32)
                for (size_t length = 8; length <= 512; length *= 4)
                    bench_attention(k, &peaks, (emb_precision)p, length, dim);
        if (wanted("rows")) {
            bench_rows(k, 384);
            bench_rows(k, 768);
            bench_gelu(k);
        }
        k->thread_end(saved);
    }
    return 0;
}
