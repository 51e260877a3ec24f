/*
 * circuit.h: whether a store that failed is asked again: closed (asked), or open until a probe succeeds.
 *
 *     emb_circuit c = EMB_CIRCUIT_INIT;
 *     if (emb_circuit_failed(&c, now_ns)) log("down");              // after enough failures in a row
 *     if (c.open && now_ns >= c.probe_ns) …probe…
 *         if (emb_circuit_succeeded(&c, true)) log("back"); else emb_circuit_probe_failed(&c, now_ns);
 *
 * Waits between probes double from first_ms to longest_ms, each shortened by up to a quarter at random, so
 * that many processes do not come back at once. Time is the caller's. Not thread-safe: the owner has a lock.
 */
#ifndef EMB_CACHE_CIRCUIT_H
#define EMB_CACHE_CIRCUIT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct emb_circuit {
    unsigned threshold; /* failures in a row that open it */
    uint32_t first_ms, longest_ms;
    bool open;
    unsigned failures;
    uint64_t wait_ms, probe_ns, opened_ns, random;
} emb_circuit;
#define EMB_CIRCUIT_INIT                                                                   \
    {                                                                                      \
        .threshold = 3, .first_ms = 200, .longest_ms = 15000, .random = 88172645463325252u \
    }

/* Whether this failure opened it. */
bool emb_circuit_failed(emb_circuit *circuit, uint64_t now_ns);
/* Whether this success closed it, which only a probe's does: a late answer says nothing of the next. */
bool emb_circuit_succeeded(emb_circuit *circuit, bool probe);
void emb_circuit_probe_failed(emb_circuit *circuit, uint64_t now_ns);

#endif
