/*
 * word_cache.h: the tokens of words seen lately.
 *
 *     emb_word_entry *e = emb_word_cache_slot(&cache, text, length);   // NULL: too long to be kept
 *     if (e != NULL && emb_word_entry_is(e, text, length)) ... e->ids[0 .. e->count-1], e->ends ...
 *     else { ...; if (e != NULL) emb_word_entry_set(e, text, length, ids, ends, count); }
 *
 * Language repeats its words, so most are answered by one hash and one cache line. Each word has one slot
 * (a newer word replaces the older one), so the table's size is fixed: 4096 lines of 64 bytes, which
 * stays in the second-level cache. One cache belongs to one thread and one model.
 */
#ifndef EMB_TOKENIZER_WORD_CACHE_H
#define EMB_TOKENIZER_WORD_CACHE_H

#include "base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { EMB_WORD_BYTES = 32, EMB_WORD_TOKENS = 6, EMB_WORD_SLOTS = 4096 };

typedef struct emb_word_entry {
    uint8_t length; /* 0: empty slot */
    uint8_t count;
    uint8_t ends[EMB_WORD_TOKENS]; /* token i is the bytes [ends[i-1], ends[i]) of the word */
    int32_t ids[EMB_WORD_TOKENS];
    char text[EMB_WORD_BYTES];
} emb_word_entry;

typedef struct emb_word_cache {
    emb_word_entry slots[EMB_WORD_SLOTS];
} emb_word_cache;

static inline emb_word_entry *emb_word_cache_slot(emb_word_cache *cache, const char *text, size_t length)
{
    if (length == 0 || length > EMB_WORD_BYTES)
        return NULL;
    return &cache->slots[emb_hash(text, length, 0) % EMB_WORD_SLOTS];
}

static inline bool emb_word_entry_is(const emb_word_entry *entry, const char *text, size_t length)
{
    return entry->length == length && memcmp(entry->text, text, length) == 0;
}

/* Keeps the word unless it has too many tokens. */
static inline void emb_word_entry_set(emb_word_entry *entry, const char *text, size_t length,
                                      const int32_t *ids, const uint32_t *ends, size_t count)
{
    if (count > EMB_WORD_TOKENS)
        return;
    entry->length = (uint8_t)length;
    entry->count = (uint8_t)count;
    for (size_t i = 0; i < count; i++) {
        entry->ids[i] = ids[i];
        entry->ends[i] = (uint8_t)ends[i];
    }
    memcpy(entry->text, text, length);
}

#endif
