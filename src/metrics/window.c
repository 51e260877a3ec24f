/*
 * A ring of slots, one for each thirtieth of the window; slot `number % SLICES` points to the slice of that
 * stretch of time, which holds a histogram, its maximum and the number itself. A slice that is too old is not
 * cleared where it lies (whoever came meanwhile would have to wait or be lost) but replaced: the first
 * observation of a new stretch puts an empty slice into the slot with one compare-and-swap, then clears the
 * old one at leisure and keeps it as a spare. Whoever lost that race counts into the winner's. So no
 * observation waits for another and none is counted twice.
 *
 * Spares are a list that is pushed to one by one and taken from only as a whole, hence without the ABA
 * problem; what was not needed of it is pushed back. A slice that was ever reachable from a slot is not freed
 * before the window is closed, since another thread may still look at it; a reader takes what it read of a
 * slice only if its number is the same afterwards.
 *
 * Inexact by intent: a thread that stops between finding its slice and counting, for longer than the whole
 * window, counts into a later stretch; a value whose time is a whole window behind is not counted; nor is one
 * that comes first in its stretch when memory is short.
 *
 * Memory: nothing but 300 bytes until something is observed, then 12.5 KB for each stretch in which something
 * was, at most 30 of them (375 KB) and one more for each thread that races for the same slot at the same
 * instant. An observation is four atomic additions; a read of a whole window takes some 50 microseconds.
 * Rejected: a slice's epoch with a busy mark (waiting for whoever clears), clearing the next slice ahead of
 * time (of no use after a silence), exponential decay (its counts are no counts).
 */
#include "metrics/window.h"

#include "base/error.h"
#include "metrics/histogram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SLICES = EMB_WINDOW_SLICES };

typedef struct slice {
    _Atomic uint64_t number;  /* of its stretch, from 1; 0 while it is a spare */
    _Atomic uint64_t maximum; /* bits of a double that is not negative: they compare as the doubles do */
    emb_histogram values;
    struct slice *next; /* of the spares */
    bool was_shared;    /* reachable by others once; written before it is so by its owner */
} slice;

struct emb_window {
    uint64_t slice_ns;
    slice *_Atomic slots[SLICES];
    slice *_Atomic spares;
};

emb_status emb_window_open(uint32_t seconds, emb_window **out, emb_error *err)
{
    *out = NULL;
    if (seconds == 0)
        return emb_fail(err, EMB_E_INVALID, "window",
                        "a window of 0 seconds holds nothing, at least 1 is needed");
    emb_window *window = calloc(1, sizeof *window);
    if (!window)
        return emb_fail_nomem(err, "window", sizeof *window);
    window->slice_ns =
        ((uint64_t)seconds * 1000000000u + SLICES - 1) / SLICES; /* so that SLICES are enough */
    *out = window;
    return EMB_OK;
}

void emb_window_close(emb_window *window)
{
    if (!window)
        return;
    for (size_t i = 0; i < SLICES; i++)
        free(atomic_load(&window->slots[i]));
    for (slice *s = atomic_load(&window->spares), *next; s; s = next) {
        next = s->next;
        free(s);
    }
    free(window);
}

static void push_spare(emb_window *window, slice *s)
{
    s->next = atomic_load_explicit(&window->spares, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&window->spares, &s->next, s, memory_order_release,
                                                  memory_order_relaxed))
        ;
}

/* An empty slice that nobody else has; NULL when memory is short. */
static slice *take_spare(emb_window *window)
{
    slice *list = atomic_exchange_explicit(&window->spares, NULL, memory_order_acquire);
    if (!list)
        return calloc(1, sizeof *list);
    for (slice *s = list->next, *next; s; s = next) {
        next = s->next;
        push_spare(window, s);
    }
    return list;
}

/* Takes a slice out of use that is no longer in a slot. */
static void retire(emb_window *window, slice *s)
{
    if (!s)
        return;
    atomic_exchange(&s->number, 0); /* before its counts go, so that a reader knows: see unchanged */
    for (size_t i = 0; i < EMB_HISTOGRAM_BUCKETS; i++)
        atomic_store_explicit(&s->values.fine[i], 0, memory_order_relaxed);
    for (size_t i = 0; i <= EMB_LADDER_MAX; i++)
        atomic_store_explicit(&s->values.steps[i], 0, memory_order_relaxed);
    atomic_store_explicit(&s->values.sum, 0, memory_order_relaxed);
    atomic_store_explicit(&s->maximum, 0, memory_order_relaxed);
    push_spare(window, s);
}

/* A spare that was not needed after all. */
static void put_back(emb_window *window, slice *s)
{
    if (!s->was_shared) {
        free(s);
        return;
    }
    atomic_store(&s->number, 0);
    push_spare(window, s);
}

/* The slice of this stretch, put into its slot if it is the first; NULL if the stretch is over or memory is
 * short. */
static slice *slice_of(emb_window *window, uint64_t number)
{
    slice *_Atomic *slot = &window->slots[number % SLICES];
    slice *held = atomic_load_explicit(slot, memory_order_acquire);
    for (;;) {
        uint64_t found = held ? atomic_load(&held->number) : 0;
        if (found == number)
            return held;
        if (found > number)
            return NULL;
        slice *fresh = take_spare(window);
        if (!fresh)
            return NULL;
        bool was_shared = fresh->was_shared;
        fresh->was_shared = true;
        atomic_store(&fresh->number, number);
        if (atomic_compare_exchange_strong(slot, &held, fresh)) {
            retire(window, held);
            return fresh;
        }
        fresh->was_shared = was_shared;
        put_back(window, fresh);
    }
}

static void raise_maximum(slice *s, double value)
{
    uint64_t bits, old = atomic_load_explicit(&s->maximum, memory_order_relaxed);
    value = value > 0 ? value : 0;
    memcpy(&bits, &value, sizeof bits);
    while (old < bits && !atomic_compare_exchange_weak_explicit(&s->maximum, &old, bits, memory_order_relaxed,
                                                                memory_order_relaxed))
        ;
}

void emb_window_observe(emb_window *window, double value, uint64_t now_ns)
{
    if (!window || !isfinite(value))
        return;
    slice *s = slice_of(window, now_ns / window->slice_ns + 1);
    if (!s)
        return;
    raise_maximum(s, value); /* first: no percentile without its maximum */
    emb_histogram_add(&s->values, EMB_LADDER_SECONDS, value);
}

typedef struct totals {
    uint64_t fine[EMB_HISTOGRAM_BUCKETS];
    double sum, maximum;
} totals;

/* Both this and what retire does are read-modify-writes of the number: had retire not come yet, it would read
 * what this wrote, so that all that was read before this is older than its clearing. A plain load would order
 * nothing. */
static bool unchanged(slice *s, uint64_t number)
{
    return atomic_fetch_add(&s->number, 0) == number;
}

/* Adds a slice whose number lies within first..last and stays so while it is read. */
static void add_slice(slice *s, uint64_t first, uint64_t last, totals *all)
{
    uint64_t fine[EMB_HISTOGRAM_BUCKETS] = {0};
    uint64_t number = atomic_load(&s->number);
    if (number < first || number > last)
        return;
    emb_histogram_merge(&s->values, fine);
    double sum = emb_histogram_sum(&s->values);
    double maximum = emb_atomic_read(&s->maximum);
    if (!unchanged(s, number))
        return;
    for (size_t i = 0; i < EMB_HISTOGRAM_BUCKETS; i++)
        all->fine[i] += fine[i];
    all->sum += sum;
    all->maximum = maximum > all->maximum ? maximum : all->maximum;
}

/* A bucket's middle may lie over the largest value in it. */
static double percentile(const totals *all, double q)
{
    double value = emb_histogram_rank(all->fine, q);
    return value < all->maximum ? value : all->maximum;
}

void emb_window_read(const emb_window *window, uint64_t now_ns, uint32_t seconds, emb_window_stats *out)
{
    memset(out, 0, sizeof *out);
    if (!window)
        return;
    uint64_t wanted_ns = (uint64_t)seconds * 1000000000u;
    uint64_t slices = seconds == 0 ? SLICES : (wanted_ns + window->slice_ns - 1) / window->slice_ns;
    uint64_t last = now_ns / window->slice_ns + 1;
    slices = slices < SLICES ? slices : SLICES;
    uint64_t first = last > slices ? last - slices + 1 : 1;
    totals all = {{0}, 0, 0};
    for (size_t i = 0; i < SLICES; i++) {
        slice *s = atomic_load_explicit(&window->slots[i], memory_order_acquire);
        if (s)
            add_slice(s, first, last, &all);
    }
    for (size_t i = 0; i < EMB_HISTOGRAM_BUCKETS; i++)
        out->count += all.fine[i];
    out->sum = all.sum;
    out->maximum = all.maximum;
    out->p50 = percentile(&all, 0.50);
    out->p95 = percentile(&all, 0.95);
    out->p99 = percentile(&all, 0.99);
}

void emb_window_reset(emb_window *window)
{
    for (size_t i = 0; window && i < SLICES; i++)
        retire(window, atomic_exchange(&window->slots[i], NULL));
}
