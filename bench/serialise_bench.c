/*
 * serialise_bench.c: how fast vectors become bodies: 2,048 unit vectors as OpenAI's answer, in each encoding.
 *
 *     serialise_bench [DIMENSION]      # default 384
 *
 * Prints bytes of body a second on one core (median of rounds, memory grown anew in each, as a request does)
 * and nanoseconds a float. Bars: base64 1 GB/s, JSON floats 400 MB/s.
 */
#include "api/encode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TEXTS = 2048, ROUNDS = 15 };

typedef emb_status encoder(emb_buf *buf, const float *values, size_t count);

static emb_status encode_int8(emb_buf *buf, const float *values, size_t count)
{
    return emb_encode_quantised(buf, values, count, EMB_QUANT_INT8);
}

static emb_status encode_ubinary(emb_buf *buf, const float *values, size_t count)
{
    return emb_encode_quantised(buf, values, count, EMB_QUANT_UBINARY);
}

/* Components of unit vectors, as a model makes them: normally distributed, then normalised. */
static float *unit_vectors(size_t dimension)
{
    float *v = malloc(TEXTS * dimension * sizeof *v);
    uint64_t seed = 42;
    for (size_t i = 0; v && i < TEXTS; i++) {
        double sum = 0, scale;
        for (size_t j = 0; j < dimension; j++) {
            double x = 0;
            for (int k = 0; k < 4; k++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                x += (double)(seed >> 11) * 0x1p-53 - 0.5;
            }
            v[i * dimension + j] = (float)x;
            sum += x * x;
        }
        scale = 1 / sqrt(sum);
        for (size_t j = 0; j < dimension; j++)
            v[i * dimension + j] = (float)((double)v[i * dimension + j] * scale);
    }
    return v;
}

static emb_status write_body(emb_buf *body, encoder *encode, const float *v, size_t dimension)
{
    emb_status status =
        emb_buf_reserve(body, (size_t)TEXTS * (dimension * (encode == emb_encode_base64 ? 6 : 13) + 64));
    if (!status)
        status = emb_buf_add_str(body, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < TEXTS && !status; i++) {
        status =
            emb_buf_addf(body, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i ? "," : "", i);
        if (!status)
            status = encode(body, v + i * dimension, dimension);
        if (!status)
            status = emb_buf_add(body, "}", 1);
    }
    return status ? status : emb_buf_add_str(body, "],\"model\":\"m\",\"usage\":{}}");
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Of this thread: what others do on the machine does not count. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int measure(const char *name, encoder *encode, const float *v, size_t dimension, double bar_mb)
{
    double seconds[ROUNDS];
    size_t bytes = 0;
    for (int r = 0; r < ROUNDS; r++) {
        emb_buf body = EMB_BUF_INIT((size_t)1 << 31);
        double begin = cpu_seconds();
        emb_status status = write_body(&body, encode, v, dimension);
        seconds[r] = cpu_seconds() - begin;
        bytes = body.length;
        emb_buf_fini(&body);
        if (status) {
            fprintf(stderr, "%s: %s\n", name, emb_status_text(status));
            return 1;
        }
    }
    qsort(seconds, ROUNDS, sizeof *seconds, compare);
    double median = seconds[ROUNDS / 2];
    printf("%-10s %8.1f MB/s of body   %6.2f ns a float   %6.2f ms for %d texts", name,
           (double)bytes / median / 1e6, median * 1e9 / (double)(TEXTS * dimension), median * 1e3, TEXTS);
    if (bar_mb > 0)
        printf("   %s the bar of %.0f MB/s", (double)bytes / median / 1e6 >= bar_mb ? "meets" : "MISSES",
               bar_mb);
    printf("\n");
    return 0;
}

int main(int argc, char **argv)
{
    size_t dimension = argc > 1 ? strtoul(argv[1], NULL, 10) : 384;
    float *v = dimension && dimension <= 65536 ? unit_vectors(dimension) : NULL;
    if (!v)
        return 2;
    int failed = measure("base64", emb_encode_base64, v, dimension, 1000) |
                 measure("float", emb_encode_floats, v, dimension, 400) |
                 measure("int8", encode_int8, v, dimension, 0) |
                 measure("ubinary", encode_ubinary, v, dimension, 0);
    free(v);
    return failed;
}
