/*
 * thread.h: threads that nobody waits for.
 */
#ifndef EMB_BASE_THREAD_H
#define EMB_BASE_THREAD_H

/* Names the calling thread, at most 15 characters, and lets all others go before it: it does not take the
 * processor from one that runs when it wakes up, and yields to those that do (SCHED_BATCH and a nice value).
 * For writers and clocks in the background, whose work is due within a fraction of a second, so that what
 * they do does not show in the latency of requests on a machine of few cores. A refusal by the system changes
 * nothing else. */
void emb_thread_background(const char *name);

#endif
