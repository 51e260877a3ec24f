/*
 * slice.c: texts are copied one behind the other into one buffer, so that a slice of thousands of texts
 * takes a handful of allocations, all kept from use to use. Offsets, not pointers, until the slice is
 * full: the buffer may move while it grows.
 */
#include "cli/slice.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A buffer that one long line made larger than this is given back. */
enum { KEEP_BYTES = 4 << 20 };
static const size_t slice_bytes_max = (size_t)1 << 30;

void emb_slice_init(emb_slice *slice)
{
    memset(slice, 0, sizeof *slice);
    emb_buf_init(&slice->bytes, slice_bytes_max);
}

void emb_slice_fini(emb_slice *slice)
{
    emb_buf_fini(&slice->bytes);
    free(slice->items);
    free(slice->texts);
    free(slice->tokens);
    free(slice->vectors);
    emb_slice_init(slice);
}

void emb_slice_clear(emb_slice *slice)
{
    slice->count = 0;
    if (slice->bytes.capacity > KEEP_BYTES) {
        emb_buf_fini(&slice->bytes);
        emb_buf_init(&slice->bytes, slice_bytes_max);
    }
    emb_buf_clear(&slice->bytes);
}

static bool grow(void **array, size_t size, size_t capacity)
{
    void *larger = capacity <= SIZE_MAX / size ? realloc(*array, capacity * size) : NULL;
    if (larger)
        *array = larger;
    return larger != NULL;
}

static emb_status grow_items(emb_slice *slice, emb_error *err)
{
    size_t capacity = slice->capacity ? slice->capacity * 2 : 16;
    if (!grow((void **)&slice->items, sizeof *slice->items, capacity) ||
        !grow((void **)&slice->texts, sizeof *slice->texts, capacity) ||
        !grow((void **)&slice->tokens, sizeof *slice->tokens, capacity))
        return emb_fail_nomem(err, "texts", capacity * sizeof *slice->items);
    slice->capacity = capacity;
    return EMB_OK;
}

emb_status emb_slice_add(emb_slice *slice, const emb_record *record, emb_error *err)
{
    emb_status status = slice->count == slice->capacity ? grow_items(slice, err) : EMB_OK;
    if (status)
        return status;
    emb_slice_item item = {.text = slice->bytes.length,
                           .length = record->length,
                           .index = record->index,
                           .has_id = record->id != NULL,
                           .id_length = record->id_length};
    status = emb_buf_reserve(&slice->bytes, record->length + record->id_length + 1);
    if (!status)
        status = emb_buf_add(&slice->bytes, record->text, record->length);
    item.id = slice->bytes.length;
    if (!status && item.has_id)
        status = emb_buf_add(&slice->bytes, record->id, record->id_length);
    if (status)
        return emb_fail_nomem(err, "text", record->length);
    slice->items[slice->count++] = item;
    return EMB_OK;
}

void emb_slice_record(const emb_slice *slice, size_t i, emb_record *record)
{
    const emb_slice_item *item = &slice->items[i];
    const char *bytes = slice->bytes.data ? slice->bytes.data : "";
    *record = (emb_record){.text = bytes + item->text,
                           .length = item->length,
                           .id = item->has_id ? bytes + item->id : NULL,
                           .id_length = item->id_length,
                           .index = item->index};
}

/* The engine's queue is full: other work is running, try again shortly. */
static void wait_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

static emb_status embed_range(emb_slice *slice, emb_model *model, size_t dimension, size_t from, size_t count,
                              const emb_embed_options *options, emb_error *err)
{
    emb_usage usage = EMB_USAGE_INIT;
    emb_status status;
    while ((status = emb_embed_counted(model, slice->texts + from, count, options,
                                       slice->vectors + from * dimension, count * dimension,
                                       slice->tokens + from, &usage, err)) == EMB_E_BUSY)
        wait_a_little();
    if (!status) {
        slice->usage.tokens += usage.tokens;
        slice->usage.truncated += usage.truncated;
    }
    return status;
}

typedef struct embedding {
    emb_slice *slice;
    emb_model *model;
    size_t dimension;
    const emb_embed_options *options;
    emb_slice_drop drop;
    void *context;
    size_t bad;
} embedding;

/* Embeds a range; where a text in it is refused, halves it until that text is found. */
static emb_status embed_halving(embedding *e, size_t from, size_t count, emb_error *err)
{
    emb_status status = embed_range(e->slice, e->model, e->dimension, from, count, e->options, err);
    if (status != EMB_E_LIMIT)
        return status;
    if (count > 1) {
        status = embed_halving(e, from, count / 2, err);
        return status ? status : embed_halving(e, from + count / 2, count - count / 2, err);
    }
    e->bad = from;
    if (!e->drop)
        return status;
    emb_record record;
    emb_slice_record(e->slice, from, &record);
    e->slice->items[from].dropped = true;
    e->drop(e->context, &record, err);
    return EMB_OK;
}

static emb_status make_room(emb_slice *slice, size_t dimension, emb_error *err)
{
    size_t floats = slice->count <= SIZE_MAX / dimension ? slice->count * dimension : SIZE_MAX;
    if (floats <= slice->vector_floats)
        return EMB_OK;
    free(slice->vectors);
    slice->vector_floats = 0;
    slice->vectors = floats <= SIZE_MAX / sizeof(float) ? malloc(floats * sizeof(float)) : NULL;
    if (!slice->vectors)
        return emb_fail_nomem(err, "vectors", floats);
    slice->vector_floats = floats;
    return EMB_OK;
}

emb_status emb_slice_prepare(emb_slice *slice, size_t dimension, emb_error *err)
{
    for (size_t i = 0; i < slice->count; i++) {
        emb_record record;
        emb_slice_record(slice, i, &record);
        slice->texts[i] = (emb_text){record.text, record.length};
    }
    return dimension ? make_room(slice, dimension, err) : EMB_OK;
}

emb_status emb_slice_embed(emb_slice *slice, emb_model *model, size_t dimension,
                           const emb_embed_options *options, emb_slice_drop drop, void *context, size_t *bad,
                           emb_error *err)
{
    *bad = 0;
    slice->usage = (emb_usage)EMB_USAGE_INIT;
    emb_status status = emb_slice_prepare(slice, dimension, err);
    if (status)
        return status;
    embedding e = {slice, model, dimension, options, drop, context, 0};
    status = embed_halving(&e, 0, slice->count, err);
    *bad = e.bad;
    return status;
}
