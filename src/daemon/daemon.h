/*
 * daemon.h: the life of a serving process: start, reload, stop, and what supervises it.
 *
 *     emb_daemon_options o = { .sources = sources, .config = config };
 *     return emb_daemon_run(&o);   // until SIGTERM or SIGINT; the program's exit status
 *
 * Called once, on the program's main thread, before any other thread is started: it blocks the signals that
 * it waits for, in every thread. SIGHUP loads the configuration again from the same sources. SIGTERM and
 * SIGINT stop as behaviour.md says: /ready turns 503, new requests are taken for the grace period, running
 * ones finish, what is queued for the cache is written, exit status 0 within the time allowed; a second one
 * ends at once.
 */
#ifndef EMB_DAEMON_DAEMON_H
#define EMB_DAEMON_DAEMON_H

#include "config/config.h"

typedef struct emb_daemon_options {
    emb_config_sources sources; /* for reloads; borrowed until emb_daemon_run returns */
    emb_config *config;         /* what they gave at start; borrowed */
} emb_daemon_options;

int emb_daemon_run(const emb_daemon_options *options);

#endif
