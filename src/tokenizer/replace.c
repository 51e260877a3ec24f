/*
 * replace.c: the Replace normalizer: every match of a text or regular expression becomes `content`.
 *
 * The inserted characters get the alignment of the byte before the match's end, as in the reference:
 * that of the last character replaced.
 */
#include "base/error.h"
#include "tokenizer/parts.h"
#include "tokenizer/pattern.h"

typedef struct replace {
    emb_normalizer base;
    emb_pattern *pattern;
    const char *content;
    size_t length;
} replace;

static emb_status replace_all(const replace *self, emb_pattern_scan *scan, const emb_span_text *text,
                              emb_span_text *spare, emb_error *err)
{
    size_t copied = 0, start, end;
    bool found;
    for (;;) {
        emb_status status = emb_pattern_scan_next(scan, &found, &start, &end, err);
        if (status != EMB_OK)
            return status;
        if (!found)
            break;
        emb_align align = {text->origin, text->origin};
        if (text->with_align && end > 0)
            align = text->align[end - 1];
        status = emb_span_text_copy(spare, text, copied, start);
        if (status == EMB_OK)
            status = emb_span_text_add(spare, self->content, self->length, align.start, align.end);
        if (status != EMB_OK)
            return emb_text_fail(err, status);
        copied = end;
    }
    emb_status status = emb_span_text_copy(spare, text, copied, text->length);
    return status == EMB_OK ? EMB_OK : emb_text_fail(err, status);
}

static emb_status replace_apply(const emb_normalizer *normalizer, emb_span_text *text, emb_span_text *spare,
                                emb_error *err)
{
    const replace *self = (const replace *)normalizer;
    emb_pattern_scan scan;
    if (text->length == 0)
        return EMB_OK;
    emb_span_text_clear(spare);
    emb_status status = emb_pattern_scan_begin(&scan, self->pattern, text->data, text->length, err);
    if (status != EMB_OK)
        return status;
    status = replace_all(self, &scan, text, spare, err);
    emb_pattern_scan_end(&scan);
    if (status == EMB_OK)
        emb_span_text_swap(text, spare);
    return status;
}

static void replace_release(emb_normalizer *normalizer)
{
    emb_pattern_release(((replace *)normalizer)->pattern);
}

emb_status emb_parse_replace(emb_json_value json, emb_arena *arena, const char *where, emb_normalizer **out,
                             emb_error *err)
{
    emb_json_value value;
    const char *content;
    size_t length;
    if (!emb_json_get(json, "content", &value) || !emb_json_string(value, &content, &length))
        return emb_fail(err, EMB_E_CORRUPT, where, "Replace needs the string \"content\"");
    if (!emb_json_get(json, "pattern", &value))
        return emb_fail(err, EMB_E_CORRUPT, where, "Replace needs a \"pattern\"");
    replace *made = emb_arena_calloc(arena, 1, sizeof *made);
    char *kept = emb_arena_strndup(arena, content, length);
    if (made == NULL || kept == NULL)
        return emb_fail_nomem(err, "the normalizer", sizeof *made + length);
    made->base = (emb_normalizer){.kind = "Replace", .apply = replace_apply, .release = replace_release};
    made->content = kept;
    made->length = length;
    emb_status status = emb_pattern_parse(value, arena, where, &made->pattern, err);
    if (status == EMB_OK)
        *out = &made->base;
    return status;
}
