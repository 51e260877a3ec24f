/*
 * A chain of blocks, each at least twice the one before up to 1 MiB, so that the number of mallocs is
 * logarithmic and the waste at most a half. An allocation larger than a block gets a block of its own.
 */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BLOCK = 4096, LARGEST_BLOCK = 1 << 20, ALIGNMENT = 16 };

struct emb_arena_block {
    struct emb_arena_block *next;
    size_t bytes;
    _Alignas(ALIGNMENT) char data[];
};

void emb_arena_init(emb_arena *arena)
{
    memset(arena, 0, sizeof *arena);
}

void emb_arena_fini(emb_arena *arena)
{
    for (struct emb_arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    emb_arena_init(arena);
}

void emb_arena_reset(emb_arena *arena, size_t keep_bytes)
{
    struct emb_arena_block *kept = arena->blocks;
    if (!kept || arena->capacity > keep_bytes) {
        emb_arena_fini(arena);
        return;
    }
    for (struct emb_arena_block *block = kept->next, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    kept->next = NULL;
    arena->used = 0;
    arena->total_bytes = sizeof *kept + kept->bytes;
}

static struct emb_arena_block *new_block(emb_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX - sizeof(struct emb_arena_block))
        return NULL;
    struct emb_arena_block *block = malloc(sizeof *block + bytes);
    if (!block)
        return NULL;
    block->bytes = bytes;
    arena->total_bytes += sizeof *block + bytes;
    return block;
}

/* A block of its own, kept behind the current one, whose rest stays in use. */
static void *alloc_large(emb_arena *arena, size_t bytes)
{
    struct emb_arena_block *block = new_block(arena, bytes);
    if (!block)
        return NULL;
    block->next = arena->blocks->next;
    arena->blocks->next = block;
    return block->data;
}

static int start_block(emb_arena *arena, size_t bytes)
{
    struct emb_arena_block *block = new_block(arena, bytes);
    if (!block)
        return -1;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->used = 0;
    arena->capacity = bytes;
    return 0;
}

void *emb_arena_alloc(emb_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX - ALIGNMENT)
        return NULL;
    bytes = bytes ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : ALIGNMENT;
    if (bytes > arena->capacity - arena->used) {
        size_t size = arena->capacity ? arena->capacity * 2 : FIRST_BLOCK;
        if (size > LARGEST_BLOCK)
            size = LARGEST_BLOCK;
        if (bytes > size / 2 && arena->blocks)
            return alloc_large(arena, bytes);
        if (start_block(arena, bytes > size ? bytes : size))
            return NULL;
    }
    void *result = arena->blocks->data + arena->used;
    arena->used += bytes;
    return result;
}

void *emb_arena_calloc(emb_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *result = emb_arena_alloc(arena, bytes);
    return result ? memset(result, 0, bytes) : NULL;
}

char *emb_arena_strndup(emb_arena *arena, const char *text, size_t length)
{
    char *copy = length < SIZE_MAX ? emb_arena_alloc(arena, length + 1) : NULL;
    if (!copy)
        return NULL;
    memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}
