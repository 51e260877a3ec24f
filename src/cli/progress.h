/*
 * progress.h: a line on a terminal that tells how far long work has come.
 *
 *     emb_progress bar; emb_progress_start(&bar, wanted);
 *     emb_progress_show(&bar, &(emb_progress_state){ .texts = n, .tokens = t, .share = 0.4 });
 *     emb_progress_end(&bar);
 *
 * Nothing is shown during the first second, nor where stderr is no terminal. One thread at a time.
 */
#ifndef EMB_CLI_PROGRESS_H
#define EMB_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct emb_progress {
    bool wanted, shown;
    uint64_t start_ns, last_ns;
} emb_progress;

typedef struct emb_progress_state {
    uint64_t texts, tokens;
    double share;   /* of the work, 0 .. 1; negative: unknown */
    double resumed; /* share that was there at the start and took no time */
} emb_progress_state;

void emb_progress_start(emb_progress *progress, bool wanted);
/* Draws if it is time to: a few times a second. */
void emb_progress_show(emb_progress *progress, const emb_progress_state *state);
/* Clears the line. */
void emb_progress_end(emb_progress *progress);

/* "1,234,567" into out (room for 32); "12.3 s", "4:05", "1:02:03". Return out. */
char *emb_number_text(uint64_t value, char *out);
char *emb_seconds_text(double seconds, char *out);

#endif
