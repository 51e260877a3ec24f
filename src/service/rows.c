/*
 * rows.c: from positions in a request to what a provider gets, and back.
 *
 * Rows are addressed by the position of the text in the request, all the way: a lookup's vector is the row of
 * the answer, and what is computed for a gathered subset is scattered back to those rows by the list of
 * positions that gathered it. No step sorts or compacts the rows themselves. Positions that follow each other
 * are not copied: the request's memory and the rows are used as they are.
 */
#include "base/error.h"
#include "base/finite.h"
#include "service/embed_parts.h"

#include <stdlib.h>
#include <string.h>

static bool is_run(const size_t *todo, size_t count)
{
    return todo[count - 1] - todo[0] == count - 1; /* positions ascend */
}

static bool gather_ids(const emb_request *r, const size_t *todo, size_t count, emb_gathered *g)
{
    size_t total = 0, *offsets = malloc((count + 1) * sizeof *offsets);
    g->memory[1] = offsets;
    for (size_t k = 0; k < count; k++)
        total += r->offsets[todo[k] + 1] - r->offsets[todo[k]];
    int32_t *ids = offsets ? malloc((total ? total : 1) * sizeof *ids) : NULL;
    g->memory[2] = ids;
    if (!ids)
        return false;
    offsets[0] = 0;
    for (size_t k = 0; k < count; k++) {
        size_t begin = r->offsets[todo[k]], n = r->offsets[todo[k] + 1] - begin;
        memcpy(ids + offsets[k], r->ids + begin, n * sizeof *ids);
        offsets[k + 1] = offsets[k] + n;
    }
    g->ids = ids;
    g->offsets = offsets;
    return true;
}

static bool gather_texts(const emb_request *r, const size_t *todo, size_t count, emb_gathered *g)
{
    emb_text *texts = malloc(count * sizeof *texts);
    g->memory[1] = texts;
    for (size_t k = 0; k < count && texts; k++)
        texts[k] = r->texts[todo[k]];
    g->texts = texts;
    return texts != NULL;
}

emb_status emb_gather(emb_work *w, const size_t *todo, size_t count, emb_gathered *g, emb_error *err)
{
    const emb_request *r = w->request;
    size_t dimension = w->target.dimension, first = todo[0];
    memset(g, 0, sizeof *g);
    g->in_place = is_run(todo, count);
    size_t floats = g->in_place ? 0 : count * dimension;
    float *memory = malloc(floats * sizeof(float) + count * sizeof(uint32_t));
    g->memory[0] = memory;
    bool ok = memory != NULL;
    if (g->in_place) {
        g->texts = r->texts ? r->texts + first : NULL;
        g->ids = r->ids;
        g->offsets = r->texts ? NULL : r->offsets + first;
    } else {
        ok = ok && (r->texts ? gather_texts(r, todo, count, g) : gather_ids(r, todo, count, g));
    }
    if (!ok)
        return emb_fail_nomem(err, "texts to compute",
                              count * (sizeof(emb_text) + dimension * sizeof(float)));
    g->vectors = g->in_place ? w->vectors + first * dimension : memory;
    g->tokens = (uint32_t *)(memory + floats);
    return EMB_OK;
}

void emb_scatter(emb_work *w, const size_t *todo, size_t count, emb_gathered *g, emb_status status)
{
    size_t dimension = w->target.dimension;
    for (size_t k = 0; k < count && !status; k++) {
        emb_cache_lookup *l = &w->lookups[todo[k]];
        l->tokens = g->tokens[k];
        l->source = EMB_CACHE_COMPUTED;
        if (!g->in_place)
            memcpy(l->vector, g->vectors + k * dimension, dimension * sizeof(float));
    }
    for (size_t i = 0; i < sizeof g->memory / sizeof *g->memory; i++)
        free(g->memory[i]);
}

emb_status emb_check_finite(const emb_work *w, const float *values, size_t count, emb_error *err)
{
    if (emb_all_finite(values, count))
        return EMB_OK;
    return emb_fail(err, w->target.remote ? EMB_E_PROVIDER : EMB_E_INTERNAL, NULL,
                    "%s gave a vector with values that are not finite", w->target.model);
}
