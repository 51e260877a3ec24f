/*
 * An open hash table whose hash is the key's own first bytes, SHA-256 being one. Taking copies the used slots
 * out and clears the table, so that the table itself is allocated once.
 */
#include "cache/l2_uses.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLOTS = 4096, FULL = SLOTS * 3 / 4, MANY = 512 };
static const uint64_t LONG_NS = UINT64_C(5000000000);

bool emb_l2_uses_init(emb_l2_uses *uses)
{
    *uses = (emb_l2_uses){.slots = calloc(SLOTS, sizeof *uses->slots)};
    return uses->slots && pthread_mutex_init(&uses->lock, NULL) == 0;
}

void emb_l2_uses_fini(emb_l2_uses *uses)
{
    if (uses->slots)
        pthread_mutex_destroy(&uses->lock);
    free(uses->slots);
    uses->slots = NULL;
}

void emb_l2_uses_note(emb_l2_uses *uses, const emb_cache_key *key)
{
    size_t at;
    memcpy(&at, key->bytes, sizeof at);
    pthread_mutex_lock(&uses->lock);
    for (at &= SLOTS - 1; uses->slots[at].count; at = (at + 1) & (SLOTS - 1))
        if (memcmp(&uses->slots[at].key, key, sizeof *key) == 0)
            break;
    emb_l2_use *use = &uses->slots[at];
    if (use->count || uses->count < FULL) {
        if (!use->count && !uses->count++)
            uses->since_ns = emb_now_ns();
        use->key = *key;
        use->count += use->count < UINT32_MAX;
        use->last_s = (int64_t)time(NULL);
    }
    pthread_mutex_unlock(&uses->lock);
}

bool emb_l2_uses_due(emb_l2_uses *uses)
{
    pthread_mutex_lock(&uses->lock);
    bool due = uses->count >= MANY || (uses->count && emb_now_ns() - uses->since_ns >= LONG_NS);
    pthread_mutex_unlock(&uses->lock);
    return due;
}

emb_l2_use *emb_l2_uses_take(emb_l2_uses *uses, size_t *count)
{
    size_t n = 0;
    pthread_mutex_lock(&uses->lock);
    emb_l2_use *taken = uses->count ? malloc(uses->count * sizeof *taken) : NULL;
    if (taken) {
        for (size_t i = 0; i < SLOTS; i++)
            if (uses->slots[i].count)
                taken[n++] = uses->slots[i];
        memset(uses->slots, 0, SLOTS * sizeof *uses->slots);
        uses->count = 0;
    }
    pthread_mutex_unlock(&uses->lock);
    *count = n;
    return taken;
}
