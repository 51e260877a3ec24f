/*
 * split.c: see split.h.
 *
 * Greedy in the order of the texts. Before, the largest number of texts is lowered to what makes parts of
 * equal length with the same number of parts: 97 texts at 96 go as 49 and 48, which run side by side, instead
 * of 96 and 1.
 */
#include "provider/split.h"

#include "base/error.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>

size_t emb_split_json_bytes(const emb_text *text)
{
    bool valid = emb_utf8_valid_prefix(text->data, text->length) == text->length;
    size_t bytes = 2;
    for (size_t i = 0; i < text->length; i++) {
        unsigned char c = (unsigned char)text->data[i];
        bytes += c < 0x20 ? 6 : c == '"' || c == '\\' ? 2 : c < 0x80 || valid ? 1 : 3;
    }
    return bytes;
}

/* Bytes that item i takes in a body, at most. */
static size_t item_bytes(const emb_text *texts, const size_t *offsets, size_t i)
{
    enum { ID_BYTES = 11 }; /* the digits of any id, and a comma */
    return offsets ? 2 + ID_BYTES * (offsets[i + 1] - offsets[i]) : emb_split_json_bytes(&texts[i]);
}

static emb_status add_part(emb_split_part **parts, size_t *count, size_t *capacity, size_t first,
                           emb_error *err)
{
    if (*count == *capacity) {
        size_t more = *capacity ? *capacity * 2 : 4;
        emb_split_part *grown =
            more < SIZE_MAX / sizeof **parts / 2 ? realloc(*parts, more * sizeof **parts) : NULL;
        if (!grown)
            return emb_fail_nomem(err, "the parts of a call", more * sizeof **parts);
        *parts = grown;
        *capacity = more;
    }
    (*parts)[(*count)++] = (emb_split_part){.first = first};
    return EMB_OK;
}

static size_t even_texts(size_t count, size_t most)
{
    if (!most || most >= count)
        return count;
    size_t parts = (count + most - 1) / most;
    return (count + parts - 1) / parts;
}

emb_status emb_split(const emb_text *texts, const size_t *offsets, const uint32_t *token_counts, size_t count,
                     const emb_split_limits *most, emb_split_part **out, size_t *out_count, emb_error *err)
{
    emb_split_part *parts = NULL, *p = NULL;
    size_t n = 0, capacity = 0, bytes = 0, most_texts = even_texts(count, most->texts);
    emb_status status = EMB_OK;
    for (size_t i = 0; i < count && !status; i++) {
        uint64_t tokens = token_counts ? token_counts[i] : 0;
        size_t length = most->bytes ? item_bytes(texts, offsets, i) + 1 : 0;
        char where[40];
        if (most->bytes && most->fixed_bytes + length > most->bytes) {
            snprintf(where, sizeof where, "input[%zu]", i);
            status = emb_fail(err, EMB_E_LIMIT, where,
                              "a text of %zu bytes does not fit into a request of at most %zu bytes",
                              offsets ? length : texts[i].length, most->bytes);
            break;
        }
        if (!p || p->count == most_texts || (most->tokens && p->tokens + tokens > most->tokens) ||
            (most->bytes && bytes + length > most->bytes)) {
            if ((status = add_part(&parts, &n, &capacity, i, err)))
                break;
            p = &parts[n - 1];
            bytes = most->fixed_bytes;
        }
        p->count++;
        p->tokens += tokens;
        bytes += length;
    }
    if (status) {
        free(parts);
        return status;
    }
    *out = parts;
    *out_count = n;
    return EMB_OK;
}
