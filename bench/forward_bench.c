/*
 * forward_bench: how fast the forward pass is, and where its time goes.
 *
 *     forward_bench MODEL_DIR [ISA [SECONDS]]
 *
 * Random token ids, one thread. For each precision and length: tokens/s of a full batch and the time of a
 * lone text (processor time); floating point operations counted from the model's shape; the same rate for the
 * bare products of one layer with everything in cache (the roof of this table's kernels), measured between
 * the other measurements, and the share of it. Then the profile of a pass by step. Best of many short runs,
 * since other work on the machine only ever adds time.
 */
#include "base/clock.h"
#include "model/encoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const step_names[EMB_STEP_COUNT] = {"embeddings", "q|k|v", "attention", "out",
                                                       "layer norm", "up",    "down",      "pooling"};
static double seconds_each = 0.4;

typedef struct bench {
    emb_model_spec spec;
    const emb_kernels *kernels;
    emb_encoder *encoder;
    emb_workspace workspace;
    int32_t *ids;
    uint32_t *offsets;
    float **out, *vectors;
    emb_batch batch;
} bench;

/* Processor time of this thread: a pass takes many time slices on a busy machine. */
static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what, const emb_error *err)
{
    fprintf(stderr, "forward_bench: %s: %s\n", what, err->message);
    exit(1);
}

static void *need(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p)
        exit(1);
    memset(p, 0, bytes);
    return p;
}

static void make_batch(bench *b, size_t length, size_t count)
{
    uint64_t random = 88172645463325252u;
    b->ids = need(length * count * sizeof *b->ids);
    b->offsets = need((count + 1) * sizeof *b->offsets);
    b->out = need(count * sizeof *b->out);
    b->vectors = need(count * b->spec.dimension * sizeof *b->vectors);
    for (size_t i = 0; i < length * count; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        b->ids[i] = (int32_t)(random % (b->spec.vocab_size - 4)) + 4;
    }
    for (size_t i = 0; i <= count; i++)
        b->offsets[i] = (uint32_t)(i * length);
    for (size_t i = 0; i < count; i++)
        b->out[i] = b->vectors + i * b->spec.dimension;
    b->batch = (emb_batch){.ids = b->ids, .offsets = b->offsets, .count = count};
}

static void drop_batch(bench *b)
{
    free(b->ids);
    free(b->offsets);
    free(b->out);
    free(b->vectors);
}

/* Best time of one pass, in seconds. */
static double best_pass(bench *b)
{
    uint64_t begin = emb_now_ns(), best = UINT64_MAX;
    for (int runs = 0; runs < 3 || (double)(emb_now_ns() - begin) < seconds_each * 1e9; runs++) {
        uint64_t t = cpu_ns();
        emb_encoder_forward(b->encoder, &b->workspace, &b->batch, NULL, b->out);
        t = cpu_ns() - t;
        best = t < best ? t : best;
    }
    return (double)best * 1e-9;
}

/* Operations of a token in products, and in attention at a length. */
static double flop_per_token(const emb_model_spec *s, size_t length)
{
    double h = (double)s->hidden, products = 8 * h * h + 4 * h * (double)s->intermediate;
    return (double)s->layers * (products + 4 * h * (double)length);
}

static void fill(float *x, size_t n)
{
    uint32_t random = 2463534242u;
    for (size_t i = 0; i < n; i++) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        x[i] = (float)(int32_t)random * 0x1p-31f;
    }
}

/* Operations per second of one product whose operand and weight stay in cache. */
static double kernel_roof(const emb_kernels *k, emb_precision p, size_t n, size_t width)
{
    size_t m = 128, stride = k->operand_stride(p, width);
    emb_weight w = {p, n, width, need(k->weight_bytes(p, n, width))};
    float *src = need((m > n ? m : n) * width * sizeof *src), *out = need(m * n * sizeof *out);
    char *a = need(m * stride), *scratch = need(k->linear_scratch(n, width));
    fill(src, (m > n ? m : n) * width);
    k->weight_pack(p, n, width, 0, n, src, w.data);
    k->operand_from_f32(p, width, src, width * sizeof *src, m, a, stride);
    emb_linear args = {.weight = &w,
                       .a = a,
                       .a_stride = stride,
                       .m = m,
                       .n_end = n,
                       .out_precision = EMB_PRECISION_FP32,
                       .out = out,
                       .out_stride = n * sizeof *out};
    uint64_t begin = emb_now_ns(), best = UINT64_MAX;
    while ((double)(emb_now_ns() - begin) < seconds_each * 0.5e9) {
        uint64_t t = cpu_ns();
        k->linear(&args, scratch);
        t = cpu_ns() - t;
        best = t < best ? t : best;
    }
    free(w.data);
    free(src);
    free(out);
    free(a);
    free(scratch);
    return 2.0 * (double)m * (double)n * (double)width / ((double)best * 1e-9);
}

static void profile(bench *b, size_t length, size_t count)
{
    uint64_t sums[EMB_STEP_COUNT] = {0}, total = 0;
    make_batch(b, length, count);
    best_pass(b);
    b->workspace.profile = sums;
    for (int i = 0; i < 20; i++)
        emb_encoder_forward(b->encoder, &b->workspace, &b->batch, NULL, b->out);
    b->workspace.profile = NULL;
    for (int i = 0; i < EMB_STEP_COUNT; i++)
        total += sums[i];
    printf("  %4zu × %-4zu", length, count);
    for (int i = 0; i < EMB_STEP_COUNT; i++)
        printf("  %s %.1f%%", step_names[i], 100.0 * (double)sums[i] / (double)total);
    printf("\n");
    drop_batch(b);
}

static void measure(bench *b, emb_precision precision)
{
    static const size_t lengths[] = {16, 32, 128, 256, 512};
    emb_error err;
    uint64_t t = emb_now_ns();
    if (emb_encoder_open(&b->spec, b->kernels, precision, &b->encoder, &err))
        die("opening", &err);
    double open_ms = (double)(emb_now_ns() - t) * 1e-6;
    if (emb_workspace_open(&b->workspace, b->encoder, 8192, &err))
        die("workspace", &err);
    printf("%s %s: opened in %.1f ms, %.1f MB packed\n", b->kernels->name, emb_precision_name(precision),
           open_ms, (double)emb_encoder_weight_bytes(b->encoder) * 1e-6);
    printf("  length   batch tokens/s   GFLOP/s   of kernels   alone ms   tokens/s\n");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths && lengths[i] <= b->spec.max_tokens; i++) {
        size_t length = lengths[i], count = 2048 / length;
        double roof = kernel_roof(b->kernels, precision, b->spec.hidden, b->spec.hidden);
        make_batch(b, length, count);
        double batch = best_pass(b);
        b->batch.count = 1;
        double alone = best_pass(b);
        drop_batch(b);
        double rate = (double)(length * count) / batch, flops = rate * flop_per_token(&b->spec, length);
        printf("  %6zu   %14.0f   %7.1f   %9.1f%%   %8.3f   %8.0f\n", length, rate, flops * 1e-9,
               100 * flops / roof, alone * 1e3, (double)length / alone);
    }
    profile(b, 32, 64);
    profile(b, 128, 16);
    if (b->spec.max_tokens >= 256)
        profile(b, 256, 8);
    profile(b, 16, 1);
    emb_workspace_close(&b->workspace);
    emb_encoder_close(b->encoder);
}

int main(int argc, char **argv)
{
    static const emb_precision precisions[] = {EMB_PRECISION_FP32, EMB_PRECISION_BF16, EMB_PRECISION_INT8};
    bench b = {.kernels = NULL};
    emb_error err;
    if (argc < 2) {
        fprintf(stderr, "usage: forward_bench MODEL_DIR [ISA [SECONDS]]\n");
        return 2;
    }
    if (emb_kernels_select(argc > 2 && *argv[2] ? argv[2] : NULL, &b.kernels, &err))
        die("instruction set", &err);
    if (argc > 3)
        seconds_each = strtod(argv[3], NULL);
    if (emb_model_spec_read(&b.spec, argv[1], &err))
        die("model", &err);
    b.kernels->thread_begin();
    for (size_t i = 0; i < sizeof precisions / sizeof *precisions; i++)
        measure(&b, precisions[i]);
    emb_model_spec_fini(&b.spec);
    return 0;
}
