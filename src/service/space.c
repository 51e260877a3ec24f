/*
 * The name of a vector space: two vectors can be compared exactly if theirs is the same. It says provider,
 * model, revision, dimensions, pooling and normalisation, and leaves out what does not part spaces:
 * precision, prompt, truncation.
 */
#include "service/models.h"

#include <stdio.h>
#include <string.h>

enum { REVISION_DIGITS = 12 };

const char *emb_served_space(const emb_served *served, size_t dimensions, emb_pooling pooling,
                             emb_switch normalize, emb_arena *arena)
{
    char text[512];
    bool l2 = normalize == EMB_DEFAULT ? served->info.normalize : normalize == EMB_ON;
    const char *pooled = emb_pooling_name(pooling == EMB_POOLING_MODEL ? served->info.pooling : pooling);
    int n = snprintf(text, sizeof text, "local/%s@%.*s:%zu:%s:%s", served->name, REVISION_DIGITS,
                     served->revision, dimensions ? dimensions : served->info.dimension,
                     pooled ? pooled : "model", l2 ? "l2" : "none");
    return n > 0 && (size_t)n < sizeof text ? emb_arena_strndup(arena, text, (size_t)n) : NULL;
}
