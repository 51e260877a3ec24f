/*
 * window.h: counts and percentiles of the last so many seconds.
 *
 *     emb_window *w;
 *     emb_window_open(300, &w, err);
 *     emb_window_observe(w, seconds, now_ns);       // lock-free, any thread
 *     emb_window_stats s; emb_window_read(w, now_ns, 60, &s);   // of the last 60 seconds
 *
 * A ring of slices (a thirtieth of the window each), each a histogram as fine as the registry's: percentiles
 * are at most 1/32 of themselves off, the window's edge at most one slice. Time is the caller's. */
#ifndef EMB_METRICS_WINDOW_H
#define EMB_METRICS_WINDOW_H

#include <embedd.h>

typedef struct emb_window emb_window;
enum { EMB_WINDOW_SLICES = 30 };

typedef struct emb_window_stats {
    uint64_t count;
    double sum, p50, p95, p99, maximum;
} emb_window_stats;

EMB_MUST_CHECK emb_status emb_window_open(uint32_t seconds, emb_window **out, emb_error *err);
void emb_window_close(emb_window *window);
void emb_window_observe(emb_window *window, double value, uint64_t now_ns); /* window may be NULL */
/* seconds 0: the whole window. */
void emb_window_read(const emb_window *window, uint64_t now_ns, uint32_t seconds, emb_window_stats *out);
void emb_window_reset(emb_window *window);

#endif
