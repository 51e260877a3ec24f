/*
 * split.c: pre-tokenizers that cut without rewriting: Split (at a pattern) and Digits.
 *
 * Both turn each piece into ranges that match or do not and leave the rest to emb_splitter.
 */
#include "base/error.h"
#include "tokenizer/pattern.h"
#include "tokenizer/transform.h"
#include "tokenizer/unicode.h"

typedef struct split {
    emb_pre_tokenizer base;
    emb_pattern *pattern;
    emb_split_behavior behavior;
    bool invert;
} split;

static emb_status split_piece(const split *s, const char *text, emb_piece piece, emb_pieces *out,
                              emb_error *err)
{
    emb_splitter splitter;
    emb_pattern_scan scan;
    size_t length = piece.end - piece.begin, previous = 0, start = 0, end = 0;
    bool found;
    emb_status status = emb_pattern_scan_begin(&scan, s->pattern, text + piece.begin, length, err);
    if (status != EMB_OK)
        return status;
    emb_splitter_begin(&splitter, s->behavior, out);
    while ((status = emb_pattern_scan_next(&scan, &found, &start, &end, err)) == EMB_OK && found) {
        emb_status added = EMB_OK;
        if (previous != start)
            added = emb_splitter_range(&splitter, piece.begin + (uint32_t)previous,
                                       piece.begin + (uint32_t)start, s->invert);
        if (added == EMB_OK)
            added = emb_splitter_range(&splitter, piece.begin + (uint32_t)start, piece.begin + (uint32_t)end,
                                       !s->invert);
        previous = end;
        if (added != EMB_OK) {
            status = emb_fail_nomem(err, "pieces", out->count);
            break;
        }
    }
    emb_pattern_scan_end(&scan);
    if (status != EMB_OK)
        return status;
    if (previous != length)
        status = emb_splitter_range(&splitter, piece.begin + (uint32_t)previous, piece.end, s->invert);
    if (status == EMB_OK)
        status = emb_splitter_end(&splitter);
    return status == EMB_OK ? EMB_OK : emb_fail_nomem(err, "pieces", out->count);
}

static emb_status split_apply(const emb_pre_tokenizer *self, emb_span_text *text, emb_span_text *spare,
                              emb_pieces *pieces, emb_pieces *spare_pieces, emb_error *err)
{
    (void)spare;
    spare_pieces->count = 0;
    emb_status status = EMB_OK;
    for (size_t i = 0; i < pieces->count && status == EMB_OK; i++)
        status = split_piece((const split *)self, text->data, pieces->data[i], spare_pieces, err);
    if (status == EMB_OK)
        emb_pieces_swap(pieces, spare_pieces);
    return status;
}

static void split_release(emb_pre_tokenizer *self)
{
    emb_pattern_release(((split *)self)->pattern);
}

emb_status emb_parse_split(emb_json_value json, emb_arena *arena, const char *where, emb_pre_tokenizer **out,
                           emb_error *err)
{
    emb_json_value value;
    split *s = emb_arena_calloc(arena, 1, sizeof *s);
    if (s == NULL)
        return emb_fail_nomem(err, "pre-tokenizer", sizeof *s);
    s->base = (emb_pre_tokenizer){.kind = "Split", .apply = split_apply, .release = split_release};
    if (emb_json_get(json, "invert", &value) && !emb_json_bool(value, &s->invert))
        return emb_fail(err, EMB_E_CORRUPT, where, "invert is not true or false");
    if (!emb_json_get(json, "behavior", &value))
        return emb_fail(err, EMB_E_CORRUPT, where, "behavior is missing");
    emb_status status =
        emb_split_behavior_parse(json, "behavior", EMB_SPLIT_ISOLATED, where, &s->behavior, err);
    if (status != EMB_OK)
        return status;
    if (!emb_json_get(json, "pattern", &value))
        return emb_fail(err, EMB_E_CORRUPT, where, "pattern is missing");
    status = emb_pattern_parse(value, arena, where, &s->pattern, err);
    if (status == EMB_OK)
        *out = &s->base;
    return status;
}

/* ---- digits ---- */

typedef struct digits {
    emb_pre_tokenizer base;
    emb_split_behavior behavior;
} digits;

static emb_status digits_piece(const digits *d, const char *text, emb_piece piece, emb_pieces *out)
{
    emb_splitter splitter;
    uint32_t previous = piece.begin;
    emb_status status = EMB_OK;
    emb_splitter_begin(&splitter, d->behavior, out);
    for (uint32_t i = piece.begin, size; i < piece.end && status == EMB_OK; i += size) {
        uint32_t c;
        size = (uint32_t)emb_utf8_next(text + i, &c);
        if (!emb_unicode_is(c, EMB_UNICODE_NUMERIC))
            continue;
        if (previous < i)
            status = emb_splitter_range(&splitter, previous, i, false);
        if (status == EMB_OK)
            status = emb_splitter_range(&splitter, i, i + size, true);
        previous = i + size;
    }
    if (status == EMB_OK && previous < piece.end)
        status = emb_splitter_range(&splitter, previous, piece.end, false);
    return status == EMB_OK ? emb_splitter_end(&splitter) : status;
}

static emb_status digits_apply(const emb_pre_tokenizer *self, emb_span_text *text, emb_span_text *spare,
                               emb_pieces *pieces, emb_pieces *spare_pieces, emb_error *err)
{
    (void)spare;
    spare_pieces->count = 0;
    for (size_t i = 0; i < pieces->count; i++)
        if (digits_piece((const digits *)self, text->data, pieces->data[i], spare_pieces) != EMB_OK)
            return emb_fail_nomem(err, "pieces", spare_pieces->count);
    emb_pieces_swap(pieces, spare_pieces);
    return EMB_OK;
}

emb_status emb_parse_digits(emb_json_value json, emb_arena *arena, const char *where, emb_pre_tokenizer **out,
                            emb_error *err)
{
    emb_json_value value;
    bool individual = false;
    if (emb_json_get(json, "individual_digits", &value) && !emb_json_bool(value, &individual))
        return emb_fail(err, EMB_E_CORRUPT, where, "individual_digits is not true or false");
    digits *d = emb_arena_calloc(arena, 1, sizeof *d);
    if (d == NULL)
        return emb_fail_nomem(err, "pre-tokenizer", sizeof *d);
    d->base = (emb_pre_tokenizer){.kind = "Digits", .apply = digits_apply};
    d->behavior = individual ? EMB_SPLIT_ISOLATED : EMB_SPLIT_CONTIGUOUS;
    *out = &d->base;
    return EMB_OK;
}
