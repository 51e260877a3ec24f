/*
 * window.c: neighbours and ranks over the recent texts.
 *
 * Cosines of two models' vectors with each other mean nothing; whether both see the same texts as near each
 * other does. For each text of the window: its ten nearest others by either model, and how many are the same
 * ("neighbour overlap@10"); and the Spearman correlation of its similarities to all others. Means over the
 * texts, with intervals over texts: a text is the unit that counts, since the n² pairs of n texts are not
 * independent. Two unrelated models would score 10/(n-1), so fewer than MINIMUM texts (or the capacity, if
 * that is less) say nothing.
 *
 * Entries never change and are counted: measuring takes their pointers under the lock and computes without
 * it. Vectors are kept at length 1, so that a similarity is a product of four lanes, summed in a fixed order.
 *
 * Cost: n² × (d1 + d2) products, and n sorts of n; 200 texts of 384 and 1536 dimensions take some 35 ms,
 * 2,000 some 5 s. Memory: at most BYTES_MAX; beyond, the oldest go. Rejected: keeping all n² similarities (32
 * MB at 2,000 texts, to halve the products), and one correlation over all pairs (no honest interval).
 */
#include "shadow/window.h"

#include "base/error.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MINIMUM = 50, CAPACITY_MAX = 2000 };
#define BYTES_MAX ((size_t)256 << 20)

typedef struct entry {
    atomic_uint holders;
    unsigned char text[EMB_SHADOW_HASH_BYTES];
    size_t dimensions[2], bytes;
    const float *vectors[2];
    float data[];
} entry;

struct emb_shadow_window {
    pthread_mutex_t lock;
    entry **entries; /* a ring, the oldest at `first` */
    size_t capacity, first, count, bytes;
    char pair[EMB_SHADOW_HASH_BYTES * 2 + 1];
    size_t dimensions[2];
};

/* ---- entries ---- */

static void let_go(entry *e)
{
    if (e && atomic_fetch_sub_explicit(&e->holders, 1, memory_order_acq_rel) == 1)
        free(e);
}

static bool normalize(const float *in, size_t count, float *out)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += (double)in[i] * in[i];
    if (!(squares > 0) || !isfinite(squares))
        return false;
    double scale = 1 / sqrt(squares);
    for (size_t i = 0; i < count; i++)
        out[i] = (float)(in[i] * scale);
    return true;
}

static entry *make_entry(const emb_shadow_item *item)
{
    size_t a = item->dimensions[0], b = item->dimensions[1], most = BYTES_MAX / sizeof(float) / 4;
    if (a == 0 || b == 0 || a > most || b > most)
        return NULL;
    size_t bytes = sizeof(entry) + (a + b) * sizeof(float);
    entry *e = malloc(bytes);
    if (!e)
        return NULL;
    atomic_init(&e->holders, 1);
    memcpy(e->text, item->text, sizeof e->text);
    memcpy(e->dimensions, item->dimensions, sizeof e->dimensions);
    e->bytes = bytes;
    e->vectors[0] = e->data;
    e->vectors[1] = e->data + a;
    if (normalize(item->vectors[0], a, e->data) && normalize(item->vectors[1], b, e->data + a))
        return e;
    free(e);
    return NULL;
}

/* ---- the ring, with the lock ---- */

static entry **at(emb_shadow_window *w, size_t i)
{
    return &w->entries[(w->first + i) % w->capacity];
}

static void drop_oldest(emb_shadow_window *w)
{
    entry *e = *at(w, 0);
    w->bytes -= e->bytes;
    w->first = (w->first + 1) % w->capacity;
    w->count--;
    let_go(e);
}

static void drop_all(emb_shadow_window *w)
{
    while (w->count)
        drop_oldest(w);
}

static void take_pair(emb_shadow_window *w, const emb_shadow_item *item)
{
    if (strncmp(w->pair, item->pair, sizeof w->pair) == 0 &&
        memcmp(w->dimensions, item->dimensions, sizeof w->dimensions) == 0)
        return;
    drop_all(w);
    strncpy(w->pair, item->pair, sizeof w->pair - 1);
    memcpy(w->dimensions, item->dimensions, sizeof w->dimensions);
}

static bool replace(emb_shadow_window *w, entry *e)
{
    for (size_t i = 0; i < w->count; i++) {
        entry **old = at(w, i);
        if (memcmp((*old)->text, e->text, sizeof e->text) == 0) {
            let_go(*old); /* of the same dimensions, so of the same size */
            *old = e;
            return true;
        }
    }
    return false;
}

bool emb_shadow_window_add(emb_shadow_window *w, const emb_shadow_item *item)
{
    entry *e = make_entry(item);
    if (!e)
        return false;
    pthread_mutex_lock(&w->lock);
    take_pair(w, item);
    if (!replace(w, e)) {
        while (w->count && (w->count == w->capacity || w->bytes + e->bytes > BYTES_MAX))
            drop_oldest(w);
        *at(w, w->count++) = e;
        w->bytes += e->bytes;
    }
    pthread_mutex_unlock(&w->lock);
    return true;
}

void emb_shadow_window_clear(emb_shadow_window *w)
{
    pthread_mutex_lock(&w->lock);
    drop_all(w);
    pthread_mutex_unlock(&w->lock);
}

/* ---- measuring ---- */

typedef float lanes __attribute__((vector_size(16)));

static float dot(const float *a, const float *b, size_t count)
{
    lanes sums[4] = {{0}}, x, y;
    size_t i = 0;
    float rest = 0;
    for (; i + 16 <= count; i += 16)
        for (int k = 0; k < 4; k++) {
            memcpy(&x, a + i + 4 * k, sizeof x);
            memcpy(&y, b + i + 4 * k, sizeof y);
            sums[k] += x * y;
        }
    for (; i < count; i++)
        rest += a[i] * b[i];
    sums[0] += (sums[1] + sums[2]) + sums[3];
    return rest + (sums[0][0] + sums[0][1]) + (sums[0][2] + sums[0][3]);
}

typedef struct measuring {
    entry **entries;
    size_t count;
    double *similar[2];       /* of one text to the others, by side */
    double *overlaps, *ranks; /* by text */
    size_t ranked;
} measuring;

/* The indexes of the most similar; among equals the first. */
static void nearest(const double *similar, size_t count, size_t out[EMB_SHADOW_NEIGHBOURS])
{
    size_t held = 0;
    for (size_t i = 0; i < count; i++) {
        if (held == EMB_SHADOW_NEIGHBOURS && !(similar[i] > similar[out[held - 1]]))
            continue;
        size_t place = held < EMB_SHADOW_NEIGHBOURS ? held++ : held - 1;
        for (; place > 0 && similar[i] > similar[out[place - 1]]; place--)
            out[place] = out[place - 1];
        out[place] = i;
    }
}

static double overlap_of(const measuring *m, size_t others)
{
    size_t sides[2][EMB_SHADOW_NEIGHBOURS], same = 0;
    for (int side = 0; side < 2; side++)
        nearest(m->similar[side], others, sides[side]);
    for (int i = 0; i < EMB_SHADOW_NEIGHBOURS; i++)
        for (int j = 0; j < EMB_SHADOW_NEIGHBOURS; j++)
            same += sides[0][i] == sides[1][j];
    return (double)same / EMB_SHADOW_NEIGHBOURS;
}

static void measure_text(measuring *m, size_t text)
{
    const entry *e = m->entries[text];
    size_t others = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (i == text)
            continue;
        for (int side = 0; side < 2; side++)
            m->similar[side][others] =
                dot(e->vectors[side], m->entries[i]->vectors[side], e->dimensions[side]);
        others++;
    }
    m->overlaps[text] = overlap_of(m, others);
    double correlation = emb_spearman(m->similar[0], m->similar[1], others);
    if (isfinite(correlation))
        m->ranks[m->ranked++] = correlation;
}

static emb_status measure_all(measuring *m, const volatile int *cancel, emb_shadow_likeness *out,
                              emb_error *err)
{
    double *room = malloc(4 * m->count * sizeof *room);
    if (!room)
        return emb_fail_nomem(err, "measuring the window", 4 * m->count * sizeof *room);
    m->similar[0] = room;
    m->similar[1] = room + m->count;
    m->overlaps = room + 2 * m->count;
    m->ranks = room + 3 * m->count;
    emb_status st = EMB_OK;
    for (size_t i = 0; st == EMB_OK && i < m->count; i++) {
        measure_text(m, i);
        if (cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
            st = emb_fail(err, EMB_E_CANCELLED, NULL, "measuring the window was cancelled");
    }
    if (st == EMB_OK) {
        out->overlap = emb_mean_interval(m->overlaps, m->count, 0, 1);
        out->rank = emb_mean_interval(m->ranks, m->ranked, -1, 1);
        out->enough = true;
    }
    free(room);
    return st;
}

/* Holds what is in the window now; NULL when memory is short. */
static entry **hold(emb_shadow_window *w, size_t *count, emb_shadow_likeness *out)
{
    entry **held = malloc(w->capacity * sizeof *held);
    if (!held)
        return NULL;
    pthread_mutex_lock(&w->lock);
    *count = w->count;
    for (size_t i = 0; i < w->count; i++) {
        held[i] = *at(w, i);
        atomic_fetch_add_explicit(&held[i]->holders, 1, memory_order_relaxed);
    }
    memcpy(out->pair, w->pair, sizeof out->pair);
    pthread_mutex_unlock(&w->lock);
    return held;
}

emb_status emb_shadow_window_measure(emb_shadow_window *w, const volatile int *cancel,
                                     emb_shadow_likeness *out, emb_error *err)
{
    measuring m = {0};
    emb_status st = EMB_OK;
    *out = (emb_shadow_likeness){0};
    if (!(m.entries = hold(w, &m.count, out)))
        return emb_fail_nomem(err, "measuring the window", w->capacity * sizeof *m.entries);
    out->texts = m.count;
    if (m.count > EMB_SHADOW_NEIGHBOURS && m.count >= (w->capacity < MINIMUM ? w->capacity : MINIMUM))
        st = measure_all(&m, cancel, out, err);
    for (size_t i = 0; i < m.count; i++)
        let_go(m.entries[i]);
    free(m.entries);
    return st;
}

/* ---- open and close ---- */

emb_status emb_shadow_window_open(size_t capacity, emb_shadow_window **out, emb_error *err)
{
    size_t n = capacity < EMB_SHADOW_NEIGHBOURS + 1 ? EMB_SHADOW_NEIGHBOURS + 1
               : capacity > CAPACITY_MAX            ? CAPACITY_MAX
                                                    : capacity;
    emb_shadow_window *w = calloc(1, sizeof *w);
    if (w)
        w->entries = calloc(n, sizeof *w->entries);
    if (!w || !w->entries) {
        free(w);
        return emb_fail_nomem(err, "the window of texts", n * sizeof(entry *));
    }
    w->capacity = n;
    pthread_mutex_init(&w->lock, NULL);
    *out = w;
    return EMB_OK;
}

void emb_shadow_window_close(emb_shadow_window *w)
{
    if (!w)
        return;
    drop_all(w);
    pthread_mutex_destroy(&w->lock);
    free(w->entries);
    free(w);
}
