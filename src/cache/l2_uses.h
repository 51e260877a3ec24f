/*
 * l2_uses.h: uses of entries, counted here until they are written to a store together.
 *
 *     emb_l2_uses uses;
 *     if (!emb_l2_uses_init(&uses)) … no memory …
 *     emb_l2_uses_note(&uses, key);                    // for every key that was found
 *     if (emb_l2_uses_due(&uses) && (taken = emb_l2_uses_take(&uses, &count)))
 *         { write taken[0 … count - 1]; free(taken); }
 *
 * A read then never becomes a write, and an entry that is read a hundred times is written once. Bounded:
 * beyond 3072 keys further ones are forgotten until the next taking, uses being a statistic. Thread-safe but
 * for init and fini.
 */
#ifndef EMB_CACHE_L2_USES_H
#define EMB_CACHE_L2_USES_H

#include "cache/key.h"

#include <pthread.h>

typedef struct emb_l2_use {
    emb_cache_key key;
    uint32_t count;
    int64_t last_s; /* Unix time */
} emb_l2_use;

typedef struct emb_l2_uses {
    pthread_mutex_t lock;
    emb_l2_use *slots;
    size_t count;
    uint64_t since_ns; /* of the first that waits */
} emb_l2_uses;

EMB_MUST_CHECK bool emb_l2_uses_init(emb_l2_uses *uses);
void emb_l2_uses_fini(emb_l2_uses *uses);
void emb_l2_uses_note(emb_l2_uses *uses, const emb_cache_key *key);
/* Whether many wait, or some wait for long. */
bool emb_l2_uses_due(emb_l2_uses *uses);
/* All that wait, which then wait no longer; the caller frees them. NULL if none do, or there is no memory. */
emb_l2_use *emb_l2_uses_take(emb_l2_uses *uses, size_t *count);

#endif
