/*
 * preemption.h: asks a cloud's metadata address whether this spot machine is about to be taken away.
 *
 *     emb_preemption *p;
 *     emb_preemption_open("gcp", 5000, notice, context, &p, err);   // "" : *p = NULL, nothing is asked
 *     emb_preemption_close(p);
 *
 * `source` is gcp, aws or azure, which may be followed by '=' and another address to ask
 * ("aws=http://127.0.0.1:9000"); or any http URL, which announces the end by a 200 whose body is neither
 * empty nor FALSE, false, 0 or NONE. A thread of its own asks; `notice` is called once, on that thread, and
 * then no more is asked. Failures to reach the address are logged once and otherwise ignored.
 */
#ifndef EMB_DAEMON_PREEMPTION_H
#define EMB_DAEMON_PREEMPTION_H

#include <embedd.h>

typedef struct emb_preemption emb_preemption;
typedef void (*emb_preemption_notice)(void *context);

EMB_MUST_CHECK emb_status emb_preemption_open(const char *source, size_t interval_ms,
                                              emb_preemption_notice notice, void *context,
                                              emb_preemption **out, emb_error *err);
void emb_preemption_close(emb_preemption *preemption); /* takes NULL */

#endif
