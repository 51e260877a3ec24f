/*
 * arena.h: many small allocations with one lifetime.
 *
 *     emb_arena a; emb_arena_init(&a);
 *     char *name = emb_arena_strndup(&a, s, n);  // NULL when memory is short
 *     emb_arena_fini(&a);                        // releases all of it
 *
 * Not thread-safe. Memory is 16-byte aligned and not zeroed, except by emb_arena_calloc.
 */
#ifndef EMB_BASE_ARENA_H
#define EMB_BASE_ARENA_H

#include <stddef.h>

typedef struct emb_arena {
    struct emb_arena_block *blocks;
    size_t used, capacity; /* of the newest block */
    size_t total_bytes;
} emb_arena;

void emb_arena_init(emb_arena *arena);
void emb_arena_fini(emb_arena *arena);
/* Releases what was allocated, but keeps the newest block for the next use if it has at most keep_bytes. */
void emb_arena_reset(emb_arena *arena, size_t keep_bytes);
void *emb_arena_alloc(emb_arena *arena, size_t bytes);
/* NULL also when count × size overflows. */
void *emb_arena_calloc(emb_arena *arena, size_t count, size_t size);
char *emb_arena_strndup(emb_arena *arena, const char *text, size_t length);

#endif
