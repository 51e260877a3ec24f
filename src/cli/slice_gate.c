/*
 * slice_gate.c: a slice through the gateway.
 *
 * What is to be sent is a list of positions. A text that cannot be embedded is taken out of the list and the
 * rest is asked for again, as one request: private texts are found by the scanner, all at once, and one that
 * is too long or refused by the place that the error names. Only where an error says that some text is too
 * long but not which, the list is halved, because every request may cost money.
 *
 * Nothing is lost by asking again: what was embedded in the meantime is in the cache, unless that is off.
 */
#include "base/error.h"
#include "cli/slice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct errand {
    emb_slice *slice;
    emb_gate *gate;
    bool first_alone;
    emb_slice_drop drop;
    void *context;
    size_t bad;      /* the text at fault; SIZE_MAX: none */
    size_t done;     /* the texts before this one have vectors or are dropped */
    emb_text *texts; /* of the request, packed */
    bool *is_private;
} errand;

static emb_status keep(errand *e, const size_t *list, const emb_answer *a, emb_error *err)
{
    emb_slice *s = e->slice;
    emb_status status = emb_slice_prepare(s, a->dimension, err);
    for (size_t k = 0; k < a->count && !status; k++) {
        memcpy(s->vectors + list[k] * a->dimension, a->vectors + k * a->dimension,
               a->dimension * sizeof *a->vectors);
        s->tokens[list[k]] = a->tokens[k];
    }
    s->usage.tokens += a->total_tokens;
    return status;
}

static emb_status ask(errand *e, const size_t *list, size_t count, emb_error *err)
{
    emb_answer answer;
    emb_arena arena;
    for (size_t k = 0; k < count; k++)
        e->texts[k] = e->slice->texts[list[k]];
    emb_arena_init(&arena);
    emb_status status = emb_gate_embed(e->gate, e->texts, count, NULL, &arena, &answer, err);
    if (!status) {
        status = keep(e, list, &answer, err);
        emb_answer_done(&answer);
    }
    emb_arena_fini(&arena);
    return status;
}

static void drop_one(errand *e, size_t position, const emb_error *err)
{
    emb_record record;
    emb_slice_record(e->slice, position, &record);
    e->slice->items[position].dropped = true;
    e->drop(e->context, &record, err);
}

/* Marks in is_private what an error is about; how many. */
static size_t find_faulty(errand *e, size_t count, emb_status status, const emb_error *err)
{
    size_t at, found = 0;
    memset(e->is_private, 0, count * sizeof *e->is_private);
    if (status == EMB_E_FORBIDDEN) {
        emb_gate_find_private(e->gate, e->texts, count, e->is_private);
    } else if ((status == EMB_E_LIMIT || status == EMB_E_INVALID) && count &&
               ((sscanf(err->where, "input[%zu]", &at) == 1 && at < count) || /* or the only one */
                (status == EMB_E_LIMIT && count == 1 && !(at = 0)))) {
        e->is_private[at] = true;
    }
    for (size_t k = 0; k < count; k++)
        found += e->is_private[k];
    return found;
}

/* Takes what is faulty out of the list; without a `drop` also everything behind the first of it. What is left
 * of the list. */
static size_t take_out(errand *e, size_t *list, size_t count, emb_error *err)
{
    size_t left = 0;
    for (size_t k = 0; k < count; k++) {
        if (!e->is_private[k]) {
            list[left++] = list[k];
        } else if (e->drop) {
            drop_one(e, list[k], err);
        } else {
            e->bad = list[k];
            break;
        }
    }
    return left;
}

static emb_status embed_list(errand *e, size_t *list, size_t count, emb_error *err)
{
    emb_status fault = EMB_OK;
    emb_error why;
    while (count) {
        emb_gate_place place;
        size_t n = e->first_alone && !emb_gate_where(e->gate, &place) ? 1 : count;
        emb_status status = ask(e, list, n, err);
        if (!status) {
            list += n;
            count -= n;
            continue;
        }
        if (find_faulty(e, n, status, err)) {
            size_t left = take_out(e, list, n, err);
            if (e->bad != SIZE_MAX) { /* what stands before it is still wanted */
                fault = status;
                why = *err;
                count = left;
                continue;
            }
            memmove(list + left, list + n, (count - n) * sizeof *list);
            count -= n - left;
        } else if (status == EMB_E_LIMIT && n > 1) {
            status = embed_list(e, list, n / 2, err);
            if (status)
                return status;
            list += n / 2;
            count -= n / 2;
        } else {
            e->bad = SIZE_MAX;
            e->done = list[0];
            return status;
        }
    }
    if (fault) {
        *err = why;
        e->done = e->bad;
    }
    return fault;
}

emb_status emb_slice_embed_through(emb_slice *slice, emb_gate *gate, bool first_alone, emb_slice_drop drop,
                                   void *context, size_t *done, bool *is_text, emb_error *err)
{
    size_t count = slice->count, *list = malloc((count ? count : 1) * sizeof *list);
    errand e = {.slice = slice,
                .gate = gate,
                .first_alone = first_alone,
                .drop = drop,
                .context = context,
                .bad = SIZE_MAX,
                .texts = malloc((count ? count : 1) * sizeof *e.texts),
                .is_private = malloc((count ? count : 1) * sizeof *e.is_private)};
    emb_status status = list && e.texts && e.is_private
                            ? emb_slice_prepare(slice, 0, err)
                            : emb_fail_nomem(err, "texts to embed", count * sizeof *e.texts);
    slice->usage = (emb_usage)EMB_USAGE_INIT;
    for (size_t i = 0; i < count && !status; i++)
        list[i] = i;
    if (!status)
        status = embed_list(&e, list, count, err);
    *done = e.done;
    *is_text = e.bad != SIZE_MAX;
    free(list);
    free(e.texts);
    free(e.is_private);
    return status;
}
