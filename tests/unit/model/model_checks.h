/*
 * model_checks.h: what the tests of the encoder share: golden files, sequences, comparing vectors.
 *
 *     golden g = read_golden(EMB_TEST_DATA "/models/bert.golden.json");
 *     run_batch(encoder, &workspace, &g, order, count, NULL, vectors);
 *     free_golden(&g);
 */
#ifndef EMB_TEST_MODEL_CHECKS_H
#define EMB_TEST_MODEL_CHECKS_H

#include "base/json.h"
#include "model/encoder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GOLDEN_MAX = 256 };

typedef struct golden {
    size_t count, dimension;
    int32_t *ids[GOLDEN_MAX];
    size_t lengths[GOLDEN_MAX];
    uint32_t skips[GOLDEN_MAX];
    float *vectors[GOLDEN_MAX];
} golden;

static inline double cosine_of(const float *a, const float *b, size_t n)
{
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        dot += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    if (aa == 0 && bb == 0)
        return 1;
    return dot / sqrt(aa * bb);
}

static inline void read_golden_text(golden *g, emb_json_value item)
{
    emb_json_value value, element;
    emb_json_iter it;
    int64_t number;
    double real;
    size_t i = g->count++, n = 0;
    assert_true(i < GOLDEN_MAX);
    assert_true(emb_json_get(item, "ids", &value));
    g->lengths[i] = emb_json_count(value);
    g->ids[i] = malloc(g->lengths[i] * sizeof *g->ids[i]);
    for (it = emb_json_begin(value); emb_json_next(&it, NULL, NULL, &element); n++) {
        assert_true(emb_json_int(element, &number));
        g->ids[i][n] = (int32_t)number;
    }
    assert_true(emb_json_get(item, "skip", &value) && emb_json_int(value, &number));
    g->skips[i] = (uint32_t)number;
    assert_true(emb_json_get(item, "vector", &value));
    g->dimension = emb_json_count(value);
    g->vectors[i] = malloc(g->dimension * sizeof *g->vectors[i]);
    n = 0;
    for (it = emb_json_begin(value); emb_json_next(&it, NULL, NULL, &element); n++) {
        assert_true(emb_json_double(element, &real));
        g->vectors[i][n] = (float)real;
    }
}

static inline golden read_golden(const char *path)
{
    golden g = {0};
    emb_json *doc;
    emb_error err;
    emb_json_value item;
    if (emb_json_open_file(path, 64 << 20, &doc, &err))
        fail_msg("%s", err.message);
    emb_json_iter it = emb_json_begin(emb_json_root(doc));
    while (emb_json_next(&it, NULL, NULL, &item))
        read_golden_text(&g, item);
    emb_json_close(doc);
    assert_true(g.count > 0);
    return g;
}

static inline void free_golden(golden *g)
{
    for (size_t i = 0; i < g->count; i++) {
        free(g->ids[i]);
        free(g->vectors[i]);
    }
}

static inline size_t tokens_of(const golden *g, const size_t *order, size_t count)
{
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++)
        tokens += g->lengths[order[i]];
    return tokens;
}

/* Runs texts order[0..count-1] as one batch; vector i of the batch goes to vectors + i·dimension. */
static inline void run_batch(const emb_encoder *encoder, emb_workspace *workspace, const golden *g,
                             const size_t *order, size_t count, emb_team *team, float *vectors)
{
    size_t tokens = tokens_of(g, order, count), at = 0;
    int32_t *ids = malloc((tokens + 1) * sizeof *ids);
    uint32_t *offsets = malloc((count + 1) * sizeof *offsets), *skips = malloc((count + 1) * sizeof *skips);
    float **out = malloc((count + 1) * sizeof *out);
    for (size_t i = 0; i < count; i++) {
        offsets[i] = (uint32_t)at;
        skips[i] = g->skips[order[i]];
        out[i] = vectors + i * g->dimension;
        memcpy(ids + at, g->ids[order[i]], g->lengths[order[i]] * sizeof *ids);
        at += g->lengths[order[i]];
    }
    offsets[count] = (uint32_t)at;
    emb_batch batch = {.ids = ids, .offsets = offsets, .skip = skips, .count = count};
    emb_encoder_forward(encoder, workspace, &batch, team, out);
    free(ids);
    free(offsets);
    free(skips);
    free(out);
}

#endif
