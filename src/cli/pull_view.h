/*
 * pull_view.h: what `embedd pull` shows while it works.
 *
 *     emb_pull_view view;
 *     emb_pull_view_start(&view, quiet);
 *     options.on_progress = emb_pull_view_show; options.context = &view;
 *     …
 *     emb_pull_view_end(&view);
 *
 * On a terminal a bar for each file that is under way and one for all; elsewhere a line for each file that is
 * complete. Everything goes to stderr. One thread at a time.
 */
#ifndef EMB_CLI_PULL_VIEW_H
#define EMB_CLI_PULL_VIEW_H

#include "hub/hub.h"

typedef struct emb_pull_view {
    bool quiet, terminal;
    unsigned lines; /* drawn at the moment */
    uint64_t start_ns, drawn_ns;
    uint64_t start_bytes; /* that were there before */
} emb_pull_view;

void emb_pull_view_start(emb_pull_view *view, bool quiet);
void emb_pull_view_show(void *view, const emb_hub_progress *progress);
void emb_pull_view_end(emb_pull_view *view);

/* "512 B", "1.2 kB", "90.9 MB", "2.27 GB" into out (room for 32). Returns out. */
char *emb_bytes_text(double bytes, char *out);

#endif
