/*
 * report.c: figures from the store, and from the window.
 *
 * Counts, costs, the first and the last time and the worst cosine are exact, summed by the database.
 * Percentiles and intervals come from the newest SAMPLE comparisons, whose numbers fit into a few megabytes;
 * of at most CATEGORIES categories, those with most comparisons, since callers name categories as they like.
 * The percentile is the nearest rank: a value that occurred. Latencies leave out answers that came from a
 * cache, and failed candidates'.
 *
 * Neighbours: of this process's window; where that holds too little (another process, or a service that has
 * just started) what a service wrote last, if it was of the spaces that are compared now.
 */
#include "shadow/parts.h"

#include "base/clock.h"
#include "base/error.h"
#include "crypto/crypto.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE = 100000, CATEGORIES = 100, SAMPLES_MAX = 1000 };
#define REPORT_NS UINT64_C(15000000000)

typedef struct number {
    uint32_t category; /* index, or CATEGORIES: none of those that are shown */
    bool failed, has_cosine, has_legacy, has_candidate;
    double cosine, legacy_ms, candidate_ms;
} number;

typedef struct reading {
    emb_arena *arena;
    emb_shadow_report *out;
    number *numbers;
    size_t count, capacity;
    bool no_memory;
    emb_shadow_sample *samples; /* that rows are added to */
    size_t *sample_count;
    bool has_last;
    char last_pair[EMB_SHADOW_HASH_BYTES * 2 + 1];
} reading;

/* ---- totals ---- */

static const char *keep(reading *r, const char *text)
{
    const char *copy = emb_arena_strndup(r->arena, text, strlen(text));
    r->no_memory = r->no_memory || !copy;
    return copy;
}

static bool on_total(void *context, const emb_shadow_total *t)
{
    reading *r = context;
    emb_shadow_report *out = r->out;
    emb_shadow_group *g = t->category ? &out->categories[out->category_count++] : &out->all;
    *g = (emb_shadow_group){.name = keep(r, t->category ? t->category : ""),
                            .comparisons = (uint64_t)t->comparisons,
                            .failures = (uint64_t)t->failures,
                            .with_cosine = (uint64_t)t->with_cosine,
                            .cosine_worst = (double)t->worst_e9 / 1e9,
                            .legacy_nusd = (uint64_t)t->legacy_nusd,
                            .candidate_nusd = (uint64_t)t->candidate_nusd};
    if (!t->category) {
        out->first_s = t->first_s;
        out->last_s = t->last_s;
    }
    return !r->no_memory && out->category_count < CATEGORIES;
}

/* ---- percentiles ---- */

static uint32_t category_of(const emb_shadow_report *out, const char *name)
{
    for (size_t i = 0; i < out->category_count; i++)
        if (strcmp(out->categories[i].name, name) == 0)
            return (uint32_t)i;
    return CATEGORIES;
}

static bool on_point(void *context, const emb_shadow_point *p)
{
    reading *r = context;
    if (r->count == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 1024;
        number *numbers = realloc(r->numbers, capacity * sizeof *numbers);
        if (!numbers) {
            r->no_memory = true;
            return false;
        }
        r->numbers = numbers;
        r->capacity = capacity;
    }
    r->numbers[r->count++] = (number){.category = category_of(r->out, p->category),
                                      .failed = p->failed,
                                      .has_cosine = p->has_cosine,
                                      .has_legacy = !p->legacy_cached,
                                      .has_candidate = !p->candidate_cached && !p->failed,
                                      .cosine = (double)p->cosine_e9 / 1e9,
                                      .legacy_ms = (double)p->legacy_ns / 1e6,
                                      .candidate_ms = (double)p->candidate_ns / 1e6};
    return r->count < SAMPLE;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nearest rank; 0 of nothing. */
static double percentile(const double *sorted, size_t count, double q)
{
    size_t rank = (size_t)ceil(q * (double)count);
    return count ? sorted[rank ? rank - 1 : 0] : 0;
}

typedef enum figure { COSINE, LEGACY_MS, CANDIDATE_MS } figure;

/* The figure of a group's numbers (CATEGORIES: of all), sorted. */
static size_t gather(const reading *r, uint32_t category, figure which, double *out)
{
    size_t count = 0;
    for (size_t i = 0; i < r->count; i++) {
        const number *n = &r->numbers[i];
        if (category != CATEGORIES && n->category != category)
            continue;
        if (which == COSINE && n->has_cosine)
            out[count++] = n->cosine;
        else if (which == LEGACY_MS && n->has_legacy)
            out[count++] = n->legacy_ms;
        else if (which == CANDIDATE_MS && n->has_candidate)
            out[count++] = n->candidate_ms;
    }
    qsort(out, count, sizeof *out, by_value);
    return count;
}

static void fill_group(const reading *r, uint32_t category, double *room, emb_shadow_group *g)
{
    size_t n = gather(r, category, COSINE, room);
    g->cosine = emb_mean_interval(room, n, -1, 1);
    g->cosine_p5 = percentile(room, n, 0.05);
    g->cosine_p50 = percentile(room, n, 0.50);
    n = gather(r, category, LEGACY_MS, room);
    g->legacy_p50_ms = percentile(room, n, 0.50);
    g->legacy_p95_ms = percentile(room, n, 0.95);
    n = gather(r, category, CANDIDATE_MS, room);
    g->candidate_p50_ms = percentile(room, n, 0.50);
    g->candidate_p95_ms = percentile(room, n, 0.95);
}

static emb_status fill_groups(reading *r, emb_error *err)
{
    double *room = malloc((r->count + 1) * sizeof *room);
    if (!room)
        return emb_fail_nomem(err, "the report of comparisons", r->count * sizeof *room);
    fill_group(r, CATEGORIES, room, &r->out->all);
    for (size_t i = 0; i < r->out->category_count; i++)
        fill_group(r, (uint32_t)i, room, &r->out->categories[i]);
    free(room);
    return EMB_OK;
}

/* ---- samples ---- */

/* "provider/model", or the one of both that is there. */
static const char *side_name(reading *r, const char *provider, const char *model)
{
    size_t a = strlen(provider), b = strlen(model);
    char *name = emb_arena_alloc(r->arena, a + b + 2);
    if (!name) {
        r->no_memory = true;
        return NULL;
    }
    memcpy(name, provider, a);
    if (a && b)
        name[a++] = '/';
    memcpy(name + a, model, b + 1);
    return name;
}

static bool on_sample(void *context, const emb_shadow_row *row)
{
    reading *r = context;
    emb_shadow_sample *s = &r->samples[(*r->sample_count)++];
    *s = (emb_shadow_sample){.time_s = row->time_s,
                             .category = keep(r, row->category),
                             .legacy = side_name(r, row->legacy_provider, row->legacy_model),
                             .candidate = side_name(r, row->candidate_provider, row->candidate_model),
                             .has_cosine = row->has_cosine,
                             .cosine = (double)row->cosine_e9 / 1e9,
                             .legacy_ms = (double)row->legacy_ns / 1e6,
                             .candidate_ms = (double)row->candidate_ns / 1e6,
                             .error = row->error ? keep(r, row->error) : NULL};
    emb_hex(row->text, sizeof row->text, s->text);
    return !r->no_memory;
}

static emb_status read_samples(emb_shadow *s, const emb_shadow_query *query, emb_shadow_order order,
                               reading *r, emb_shadow_sample **out, size_t *count, uint64_t deadline_ns,
                               emb_error *err)
{
    size_t limit = query->samples < SAMPLES_MAX ? query->samples : SAMPLES_MAX;
    if (limit == 0)
        return EMB_OK;
    r->samples = *out = emb_arena_calloc(r->arena, limit, sizeof **out);
    r->sample_count = count;
    if (!*out)
        return emb_fail_nomem(err, "samples of comparisons", limit * sizeof **out);
    return emb_shadow_store_rows(s->store, order, query->since_s, limit, deadline_ns, on_sample, r, err);
}

/* ---- the window ---- */

static bool on_last(void *context, const emb_shadow_row *row)
{
    reading *r = context;
    r->has_last = true;
    r->out->same_space = *row->legacy_space && strcmp(row->legacy_space, row->candidate_space) == 0;
    r->no_memory =
        r->no_memory || !emb_shadow_pair_name(row->legacy_space, row->candidate_space, r->last_pair);
    return false;
}

static emb_shadow_interval get_interval(const int64_t in[3])
{
    return (emb_shadow_interval){(double)in[0] / 1e9, (double)in[1] / 1e9, (double)in[2] / 1e9};
}

static void take_stored(const reading *r, int64_t since_s, const emb_shadow_state *state)
{
    if (!state->time_s || state->time_s < since_s || (r->has_last && strcmp(state->pair, r->last_pair) != 0))
        return;
    r->out->has_overlap = true;
    r->out->window = (size_t)state->window;
    r->out->overlap = get_interval(state->overlap_e9);
    r->out->rank_correlation = get_interval(state->rank_e9);
}

static emb_status read_window(emb_shadow *s, int64_t since_s, reading *r, uint64_t deadline_ns,
                              emb_error *err)
{
    emb_shadow_likeness likeness = {0};
    emb_shadow_state state;
    emb_status st = emb_shadow_store_get_state(s->store, deadline_ns, &state, err);
    if (st == EMB_OK && s->window)
        st = emb_shadow_window_measure(s->window, &s->cancel, &likeness, err);
    if (st != EMB_OK)
        return st;
    uint64_t dropped = atomic_load(&s->dropped), told = atomic_load(&s->dropped_told);
    r->out->dropped = (uint64_t)state.dropped + (dropped > told ? dropped - told : 0);
    r->out->queued = atomic_load(&s->waiting);
    r->out->window = likeness.texts;
    if (!likeness.enough) {
        take_stored(r, since_s, &state);
        return EMB_OK;
    }
    r->out->has_overlap = true;
    r->out->overlap = likeness.overlap;
    r->out->rank_correlation = likeness.rank;
    return EMB_OK;
}

/* ---- all of it ---- */

/* A visitor that ran out of memory has stopped the reading, which does not know. */
static emb_status visited(const reading *r, emb_status st, emb_error *err)
{
    return st == EMB_OK && r->no_memory ? emb_fail_nomem(err, "the report of comparisons", 0) : st;
}

static emb_status read_store(emb_shadow *s, const emb_shadow_query *query, reading *r, emb_error *err)
{
    emb_shadow_report *out = r->out;
    uint64_t deadline = emb_now_ns() + REPORT_NS;
    int64_t since = query->since_s;
    emb_status st =
        visited(r, emb_shadow_store_totals(s->store, since, CATEGORIES, deadline, on_total, r, err), err);
    if (st == EMB_OK)
        st = visited(r, emb_shadow_store_points(s->store, since, SAMPLE, deadline, on_point, r, err), err);
    if (st == EMB_OK)
        st = fill_groups(r, err);
    if (st == EMB_OK)
        st = visited(
            r, emb_shadow_store_rows(s->store, EMB_SHADOW_LAST_COMPARED, since, 1, deadline, on_last, r, err),
            err);
    if (st == EMB_OK)
        st = read_window(s, since, r, deadline, err);
    if (st == EMB_OK)
        st = visited(
            r, read_samples(s, query, EMB_SHADOW_WORST, r, &out->worst, &out->worst_count, deadline, err),
            err);
    if (st == EMB_OK)
        st = visited(
            r, read_samples(s, query, EMB_SHADOW_NEWEST, r, &out->newest, &out->newest_count, deadline, err),
            err);
    out->failure_share = emb_wilson(out->all.failures, out->all.comparisons);
    return st;
}

emb_status emb_shadow_make_report(emb_shadow *s, const emb_shadow_query *query, emb_arena *arena,
                                  emb_shadow_report *out, emb_error *err)
{
    reading r = {.arena = arena, .out = out};
    *out = (emb_shadow_report){.all.name = ""};
    out->categories = emb_arena_calloc(arena, CATEGORIES, sizeof *out->categories);
    if (!out->categories)
        return emb_fail_nomem(err, "the report of comparisons", CATEGORIES * sizeof *out->categories);
    emb_status st = read_store(s, query, &r, err);
    free(r.numbers);
    return st;
}

emb_status emb_shadow_clear(emb_shadow *s, emb_error *err)
{
    emb_status st = emb_shadow_store_clear(s->store, emb_now_ns() + REPORT_NS, err);
    if (st != EMB_OK)
        return st;
    if (s->window)
        emb_shadow_window_clear(s->window);
    atomic_store(&s->dropped_told, atomic_load(&s->dropped));
    return EMB_OK;
}
