/*
 * window.h: the recent texts with both their vectors, and how alike the two models see them. Internal to
 * shadow/.
 *
 *     emb_shadow_window *w;
 *     emb_shadow_window_open(200, &w, err);
 *     emb_shadow_window_add(w, &item);
 *     emb_shadow_likeness l;
 *     emb_shadow_window_measure(w, cancel, &l, err);     // O(n² × d); adding goes on meanwhile
 *     emb_shadow_window_close(w);
 *
 * It holds one pair of spaces: the first vectors of another pair empty it. A text that comes again takes the
 * place of its earlier self. Thread-safe.
 */
#ifndef EMB_SHADOW_WINDOW_H
#define EMB_SHADOW_WINDOW_H

#include "shadow/shadow.h"
#include "shadow/store.h"

enum { EMB_SHADOW_NEIGHBOURS = 10 };

typedef struct emb_shadow_window emb_shadow_window;

typedef struct emb_shadow_item {
    unsigned char text[EMB_SHADOW_HASH_BYTES];
    const char *pair;        /* which spaces: as emb_shadow_state has it */
    const float *vectors[2]; /* of the legacy side and of the candidate; copied; finite, not zero */
    size_t dimensions[2];
} emb_shadow_item;

typedef struct emb_shadow_likeness {
    size_t texts;
    bool enough; /* what follows is there */
    emb_shadow_interval overlap, rank;
    char pair[EMB_SHADOW_HASH_BYTES * 2 + 1];
} emb_shadow_likeness;

EMB_MUST_CHECK emb_status emb_shadow_window_open(size_t capacity, emb_shadow_window **out, emb_error *err);
void emb_shadow_window_close(emb_shadow_window *window); /* takes NULL */
/* false: no memory, or vectors that no window holds; then without it. */
bool emb_shadow_window_add(emb_shadow_window *window, const emb_shadow_item *item);
/* *cancel (may be NULL) ends it with EMB_E_CANCELLED. */
EMB_MUST_CHECK emb_status emb_shadow_window_measure(emb_shadow_window *window, const volatile int *cancel,
                                                    emb_shadow_likeness *out, emb_error *err);
void emb_shadow_window_clear(emb_shadow_window *window);

#endif
