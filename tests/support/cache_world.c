/* Dimensions vary with the number, so that vectors of other lengths meet too. */
#include "support/cache_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

emb_cache_key world_key(unsigned n)
{
    emb_cache_key key;
    for (unsigned i = 0; i < sizeof key.bytes / 4; i++) {
        uint64_t z = ((uint64_t)n + 1) * 0x9E3779B97F4A7C15u + i * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 29) * 0x94D049BB133111EBu;
        uint32_t word = (uint32_t)(z >> 32);
        memcpy(key.bytes + 4 * i, &word, 4);
    }
    return key;
}

uint32_t world_dimension(unsigned n)
{
    return n % 7 == 3 ? WORLD_LONGEST : 1 + n % 19;
}

void world_vector(unsigned n, float *out)
{
    for (uint32_t i = 0; i < world_dimension(n); i++)
        out[i] = (float)n + (float)i / 64;
}

bool world_is(unsigned n, const float *vector)
{
    float expected[WORLD_LONGEST];
    world_vector(n, expected);
    return memcmp(expected, vector, world_dimension(n) * sizeof *expected) == 0;
}

static emb_status compute(world_call *c, emb_cache_lookup *l, const unsigned *numbers, const size_t *todo,
                          size_t n)
{
    if (c->before)
        c->before(c->context);
    if (c->compute_us)
        nanosleep(&(struct timespec){0, c->compute_us * 1000L}, NULL);
    c->rounds++;
    if (c->fail)
        return c->fail;
    for (size_t i = 0; i < n; i++) {
        world_vector(numbers[todo[i]], l[todo[i]].vector);
        l[todo[i]].tokens = numbers[todo[i]];
        c->computed++;
    }
    return EMB_OK;
}

emb_status world_embed(world_call *c, const unsigned *numbers, size_t count, emb_error *err)
{
    emb_cache_lookup l[WORLD_MAX];
    float *vectors = calloc(WORLD_MAX * WORLD_LONGEST, sizeof *vectors);
    char texts[WORLD_MAX][16];
    size_t todo[WORLD_MAX], n;
    emb_cache_flight *flight = NULL;
    emb_status st;
    for (size_t i = 0; i < count; i++) {
        int length = snprintf(texts[i], sizeof texts[i], "text %u", numbers[i]);
        l[i] = (emb_cache_lookup){.key = world_key(numbers[i]),
                                  .vector = vectors + i * WORLD_LONGEST,
                                  .dimension = world_dimension(numbers[i]),
                                  .text = texts[i],
                                  .text_length = (size_t)length};
    }
    st = emb_cache_begin(c->cache, l, count, &c->policy, c->deadline_ns, c->cancel, &flight, err);
    if (st != EMB_OK) {
        free(vectors);
        return st;
    }
    while (st == EMB_OK && emb_cache_next(flight, todo, &n, &st, err))
        if ((st = compute(c, l, numbers, todo, n)) == EMB_OK)
            emb_cache_publish(flight, todo, n);
    emb_cache_end(flight, st, st != EMB_OK ? err : NULL); /* until here others may fill lookups */
    for (size_t i = 0; i < count; i++) {
        c->sources[i] = l[i].source;
        if (st == EMB_OK && (l[i].source == EMB_CACHE_NONE || l[i].tokens != numbers[i] ||
                             !world_is(numbers[i], l[i].vector)))
            c->wrong = true;
    }
    free(vectors);
    return st;
}
