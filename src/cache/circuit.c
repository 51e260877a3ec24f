/*
 * A circuit breaker with growing waits. Failures are counted in a row and not over a window: what it guards
 * answers or does not, and one answer in time shows that it is worth asking.
 */
#include "cache/circuit.h"

static void plan_probe(emb_circuit *c, uint64_t now_ns)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    uint64_t ns = c->wait_ms * 1000000;
    c->probe_ns = now_ns + ns - ns / 4 * (c->random >> 40 & 1023) / 1024;
}

bool emb_circuit_failed(emb_circuit *c, uint64_t now_ns)
{
    if (c->open || ++c->failures < c->threshold)
        return false;
    c->open = true;
    c->opened_ns = now_ns;
    c->wait_ms = c->first_ms;
    plan_probe(c, now_ns);
    return true;
}

bool emb_circuit_succeeded(emb_circuit *c, bool probe)
{
    if (c->open && !probe)
        return false;
    bool closed = c->open;
    c->open = false;
    c->failures = 0;
    return closed;
}

void emb_circuit_probe_failed(emb_circuit *c, uint64_t now_ns)
{
    c->wait_ms = 2 * c->wait_ms < c->longest_ms ? 2 * c->wait_ms : c->longest_ms;
    plan_probe(c, now_ns);
}
