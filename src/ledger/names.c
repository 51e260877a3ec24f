/*
 * names.c: how many distinct categories and keys a day may have.
 *
 * Both come from callers, so somebody who makes one up for each request must not make the ledger grow without
 * end. Only 64-bit hashes are remembered, with a random seed: two names that share one would count as one,
 * which with 10,000 of them happens once in 10^11 days and lets one name more in. When memory is short every
 * name is admitted.
 */
#include "ledger/parts.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 16384 };
_Static_assert((int)EMB_LEDGER_DISTINCT < (int)SLOTS, "there is always an empty slot");

void emb_ledger_names_fini(emb_ledger_names *n)
{
    free(n->hashes);
    *n = (emb_ledger_names){0};
}

void emb_ledger_names_clear(emb_ledger_names *n)
{
    if (n->hashes)
        memset(n->hashes, 0, SLOTS * sizeof *n->hashes);
    n->count = 0;
}

bool emb_ledger_names_admit(emb_ledger_names *n, const char *name, size_t length, uint64_t seed)
{
    if (length == 0 || strcmp(name, EMB_LEDGER_OTHER) == 0)
        return true;
    if (!n->hashes && !(n->hashes = calloc(SLOTS, sizeof *n->hashes)))
        return true;
    uint64_t hash = emb_hash(name, length, seed) | 1;
    size_t at = (size_t)(hash >> 32) & (SLOTS - 1);
    for (; n->hashes[at]; at = (at + 1) & (SLOTS - 1))
        if (n->hashes[at] == hash)
            return true;
    if (n->count >= EMB_LEDGER_DISTINCT)
        return false;
    n->hashes[at] = hash;
    n->count++;
    return true;
}
