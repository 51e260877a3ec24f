/*
 * span_text.c: the containers that tokenizer stages pass on: text with alignments, pieces, tokens, and
 * the rules for what becomes of a delimiter.
 *
 * Alignments are kept per byte, not per character: a token's offsets are then two loads (the start of
 * its first byte, the end of its last), and every stage can copy ranges of both arrays alike. They cost
 * eight bytes per byte of text, so they exist only when the caller asked for offsets. All containers
 * grow by doubling and never shrink: a warm encoding allocates nothing.
 */
#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/parts.h"

#include <stdlib.h>
#include <string.h>

/* The new capacity for `need` elements of `size` bytes, 0 if that overflows. */
static size_t grown(size_t capacity, size_t need, size_t size)
{
    size_t next = capacity < 32 ? 64 : capacity * 2;
    if (next < need)
        next = need;
    return next > SIZE_MAX / 2 / size ? 0 : next;
}

static bool resize(void **data, size_t capacity, size_t size)
{
    void *moved = realloc(*data, capacity * size);
    if (moved == NULL)
        return false;
    *data = moved;
    return true;
}

/* ---- text ---- */

void emb_span_text_init(emb_span_text *text, bool with_align)
{
    *text = (emb_span_text){.with_align = with_align};
}

void emb_span_text_fini(emb_span_text *text)
{
    free(text->data);
    free(text->align);
    *text = (emb_span_text){.limit = 0};
}

void emb_span_text_restart(emb_span_text *text, bool with_align)
{
    text->length = 0;
    if (with_align && !text->with_align && text->align == NULL) {
        /* Room without alignments cannot be used: the next reserve makes both. */
        free(text->data);
        text->data = NULL;
        text->capacity = 0;
    }
    text->with_align = with_align;
}

void emb_span_text_swap(emb_span_text *a, emb_span_text *b)
{
    emb_span_text kept = *a;
    *a = *b;
    *b = kept;
}

emb_status emb_span_text_reserve(emb_span_text *text, size_t more)
{
    if (more <= text->capacity - text->length)
        return EMB_OK;
    size_t limit = text->limit ? text->limit : EMB_SPAN_TEXT_MAX;
    if (text->length > limit || more > limit - text->length)
        return EMB_E_LIMIT;
    size_t capacity = grown(text->capacity, text->length + more, sizeof(emb_align));
    if (capacity == 0 || !resize((void **)&text->data, capacity, 1))
        return EMB_E_NOMEM;
    /* A text that once had alignments keeps room for them in step with its bytes. */
    if ((text->with_align || text->align != NULL) &&
        !resize((void **)&text->align, capacity, sizeof(emb_align)))
        return EMB_E_NOMEM;
    text->capacity = capacity;
    return EMB_OK;
}

emb_status emb_span_text_add(emb_span_text *text, const char *data, size_t length, uint32_t start,
                             uint32_t end)
{
    emb_status status = emb_span_text_reserve(text, length);
    if (status != EMB_OK)
        return status;
    if (length > 0)
        memcpy(text->data + text->length, data, length);
    if (text->with_align)
        for (size_t i = 0; i < length; i++)
            text->align[text->length + i] = (emb_align){start, end};
    text->length += length;
    return EMB_OK;
}

emb_status emb_span_text_copy(emb_span_text *text, const emb_span_text *from, size_t begin, size_t end)
{
    size_t length = end - begin;
    emb_status status = emb_span_text_reserve(text, length);
    if (status != EMB_OK || length == 0)
        return status;
    memcpy(text->data + text->length, from->data + begin, length);
    if (text->with_align)
        memcpy(text->align + text->length, from->align + begin, length * sizeof(emb_align));
    text->length += length;
    return EMB_OK;
}

emb_status emb_span_text_put(emb_span_text *text, uint32_t code_point, const emb_span_text *from,
                             size_t source)
{
    emb_status status = emb_span_text_reserve(text, 4);
    if (status != EMB_OK)
        return status;
    size_t length = emb_utf8_encode(code_point, text->data + text->length);
    if (text->with_align) {
        emb_align align =
            source == EMB_NO_SOURCE ? (emb_align){from->origin, from->origin} : from->align[source];
        for (size_t i = 0; i < length; i++)
            text->align[text->length + i] = align;
    }
    text->length += length;
    return EMB_OK;
}

emb_status emb_text_fail(emb_error *err, emb_status status)
{
    if (status == EMB_E_NOMEM)
        return emb_fail_nomem(err, "the text being tokenized", 0);
    return emb_fail(err, status, "text", "the text grows beyond reason while it is normalized");
}

/* ---- pieces ---- */

emb_status emb_pieces_add(emb_pieces *pieces, uint32_t begin, uint32_t end)
{
    if (begin >= end)
        return EMB_OK;
    if (pieces->count == pieces->capacity) {
        size_t capacity = grown(pieces->capacity, pieces->count + 1, sizeof(emb_piece));
        if (capacity == 0 || !resize((void **)&pieces->data, capacity, sizeof(emb_piece)))
            return EMB_E_NOMEM;
        pieces->capacity = capacity;
    }
    pieces->data[pieces->count++] = (emb_piece){begin, end};
    return EMB_OK;
}

void emb_pieces_swap(emb_pieces *a, emb_pieces *b)
{
    emb_pieces kept = *a;
    *a = *b;
    *b = kept;
}

void emb_pieces_fini(emb_pieces *pieces)
{
    free(pieces->data);
    *pieces = (emb_pieces){0};
}

/* ---- tokens ---- */

emb_status emb_token_sink_reserve(emb_token_sink *sink, size_t more)
{
    if (more <= sink->capacity - sink->count && (!sink->with_ranges || sink->ranges != NULL))
        return EMB_OK;
    if (more > SIZE_MAX - sink->count)
        return EMB_E_NOMEM;
    size_t capacity = grown(sink->capacity, sink->count + more, sizeof(emb_piece));
    if (capacity == 0 || !resize((void **)&sink->ids, capacity, sizeof(int32_t)))
        return EMB_E_NOMEM;
    if ((sink->with_ranges || sink->ranges != NULL) &&
        !resize((void **)&sink->ranges, capacity, sizeof(emb_piece)))
        return EMB_E_NOMEM;
    sink->capacity = capacity;
    return EMB_OK;
}

emb_status emb_token_sink_add(emb_token_sink *sink, int32_t id, uint32_t begin, uint32_t end)
{
    emb_status status = emb_token_sink_reserve(sink, 1);
    if (status != EMB_OK)
        return status;
    sink->ids[sink->count] = id;
    if (sink->with_ranges)
        sink->ranges[sink->count] = (emb_piece){begin, end};
    sink->count++;
    return EMB_OK;
}

void emb_token_sink_fini(emb_token_sink *sink)
{
    free(sink->ids);
    free(sink->ranges);
    *sink = (emb_token_sink){0};
}

/* ---- splitting ---- */

emb_status emb_split_behavior_parse(emb_json_value object, const char *key, emb_split_behavior otherwise,
                                    const char *where, emb_split_behavior *out, emb_error *err)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    emb_json_value value;
    const char *text;
    size_t length;
    if (!emb_json_get(object, key, &value)) {
        *out = otherwise;
        return EMB_OK;
    }
    if (!emb_json_string(value, &text, &length))
        return emb_fail(err, EMB_E_CORRUPT, where, "%s is %s, a string is needed", key,
                        emb_json_type_name(emb_json_type_of(value)));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *name = names[i];
        if (length == strlen(name) && (text[0] | 0x20) == (name[0] | 0x20) &&
            memcmp(text + 1, name + 1, length - 1) == 0) {
            *out = (emb_split_behavior)i;
            return EMB_OK;
        }
    }
    return emb_fail(err, EMB_E_UNSUPPORTED, where, "%s \"%.*s\" is not a known split behaviour", key,
                    (int)(length < 64 ? length : 64), text);
}

void emb_splitter_begin(emb_splitter *splitter, emb_split_behavior behavior, emb_pieces *out)
{
    *splitter = (emb_splitter){.out = out, .behavior = behavior};
}

/* Adds what is held and holds [begin, end) instead. */
static emb_status hold(emb_splitter *splitter, uint32_t begin, uint32_t end)
{
    emb_status status = EMB_OK;
    if (splitter->holds)
        status = emb_pieces_add(splitter->out, splitter->held.begin, splitter->held.end);
    splitter->held = (emb_piece){begin, end};
    splitter->holds = true;
    return status;
}

emb_status emb_splitter_range(emb_splitter *splitter, uint32_t begin, uint32_t end, bool is_match)
{
    bool previous = splitter->previous_match, extend = false;
    splitter->previous_match = is_match;
    switch (splitter->behavior) {
    case EMB_SPLIT_REMOVED:
        return is_match ? EMB_OK : emb_pieces_add(splitter->out, begin, end);
    case EMB_SPLIT_ISOLATED:
        return emb_pieces_add(splitter->out, begin, end);
    case EMB_SPLIT_CONTIGUOUS:
        extend = is_match == previous;
        break;
    case EMB_SPLIT_MERGED_WITH_PREVIOUS:
        extend = is_match && !previous;
        break;
    case EMB_SPLIT_MERGED_WITH_NEXT:
        extend = previous && !is_match;
        break;
    }
    if (!extend || !splitter->holds)
        return hold(splitter, begin, end);
    splitter->held.end = end;
    return EMB_OK;
}

emb_status emb_splitter_end(emb_splitter *splitter)
{
    if (!splitter->holds)
        return EMB_OK;
    splitter->holds = false;
    return emb_pieces_add(splitter->out, splitter->held.begin, splitter->held.end);
}
