/*
 * bert_normalizer.c: BertNormalizer, stage by stage as the reference does it: cleaning, spaces around
 * Chinese characters, canonical decomposition without its nonspacing marks, lower case.
 *
 * This is the plain form that knows alignments; bert_fast.c does the same to most text without ever
 * writing the normalized text down, and tests hold the two equal. Decomposition is a stage of its own
 * because canonical ordering moves marks across characters; it is skipped for text where it changes
 * nothing, which is all ASCII.
 */
#include "tokenizer/bert.h"

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/unicode.h"

#include <string.h>

typedef struct bert_normalizer {
    emb_normalizer base;
    emb_bert_flags flags;
} bert_normalizer;

/* Cleaning and Chinese characters; neither looks beyond one character. */
static emb_status clean(const emb_bert_flags *flags, const emb_span_text *text, emb_span_text *spare)
{
    emb_status status = EMB_OK;
    for (size_t i = 0, next; i < text->length && status == EMB_OK; i = next) {
        uint32_t c;
        next = i + emb_utf8_decode(text->data + i, text->length - i, &c);
        uint32_t is = emb_unicode_flags(c);
        if (flags->clean_text && (is & EMB_UNICODE_REMOVED))
            continue;
        if (flags->clean_text && (is & EMB_UNICODE_WHITESPACE))
            c = ' ';
        bool chinese = flags->handle_chinese_chars && (is & EMB_UNICODE_CHINESE);
        if (chinese)
            status = emb_span_text_put(spare, ' ', text, i);
        if (status == EMB_OK)
            status = emb_span_text_put(spare, c, text, i);
        if (chinese && status == EMB_OK)
            status = emb_span_text_put(spare, ' ', text, i);
    }
    return status;
}

static bool is_ascii(const emb_span_text *text)
{
    unsigned char all = 0;
    for (size_t i = 0; i < text->length; i++)
        all |= (unsigned char)text->data[i];
    return all < 0x80;
}

/* Drops nonspacing marks and lowers the rest. */
static emb_status finish(const emb_bert_flags *flags, const emb_span_text *text, emb_span_text *spare)
{
    emb_status status = EMB_OK;
    for (size_t i = 0, next; i < text->length && status == EMB_OK; i = next) {
        uint32_t c, lower[2];
        size_t count = 1;
        next = i + emb_utf8_decode(text->data + i, text->length - i, &c);
        if (flags->strip_accents && emb_unicode_is(c, EMB_UNICODE_MARK_NONSPACING))
            continue;
        lower[0] = c;
        if (flags->lowercase)
            count = emb_unicode_lowercase(c, lower);
        for (size_t k = 0; k < count && status == EMB_OK; k++)
            status = emb_span_text_put(spare, lower[k], text, i);
    }
    return status;
}

static emb_status bert_apply(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                             emb_error *err)
{
    const emb_bert_flags *flags = &((const bert_normalizer *)self)->flags;
    emb_status status = EMB_OK;
    if (flags->clean_text || flags->handle_chinese_chars) {
        emb_span_text_clear(spare);
        if ((status = clean(flags, text, spare)) != EMB_OK)
            return emb_text_fail(err, status);
        emb_span_text_swap(text, spare);
    }
    if (flags->strip_accents && !is_ascii(text)) {
        if ((status = emb_normalize_form(text, spare, false, false, err)) != EMB_OK)
            return status;
    }
    if (flags->strip_accents || flags->lowercase) {
        emb_span_text_clear(spare);
        if ((status = finish(flags, text, spare)) != EMB_OK)
            return emb_text_fail(err, status);
        emb_span_text_swap(text, spare);
    }
    return EMB_OK;
}

/* A boolean member; null and absence give `otherwise`. */
static emb_status read_bool(emb_json_value json, const char *key, bool otherwise, const char *where,
                            bool *out, emb_error *err)
{
    emb_json_value value;
    *out = otherwise;
    if (!emb_json_get(json, key, &value) || emb_json_type_of(value) == EMB_JSON_NULL ||
        emb_json_bool(value, out))
        return EMB_OK;
    return emb_fail(err, EMB_E_CORRUPT, where, "normalizer.%s is %s, true or false is needed", key,
                    emb_json_type_name(emb_json_type_of(value)));
}

emb_status emb_parse_bert_normalizer(emb_json_value json, emb_arena *arena, const char *where,
                                     emb_normalizer **out, emb_error *err)
{
    bert_normalizer *bert = emb_arena_calloc(arena, 1, sizeof *bert);
    if (bert == NULL)
        return emb_fail_nomem(err, "the normalizer", sizeof *bert);
    bert->base = (emb_normalizer){.kind = "BertNormalizer", .apply = bert_apply};
    emb_bert_flags *flags = &bert->flags;
    emb_status status = read_bool(json, "clean_text", true, where, &flags->clean_text, err);
    if (status == EMB_OK)
        status = read_bool(json, "handle_chinese_chars", true, where, &flags->handle_chinese_chars, err);
    if (status == EMB_OK)
        status = read_bool(json, "lowercase", true, where, &flags->lowercase, err);
    if (status == EMB_OK)
        status = read_bool(json, "strip_accents", flags->lowercase, where, &flags->strip_accents, err);
    if (status == EMB_OK)
        *out = &bert->base;
    return status;
}

bool emb_bert_normalizer_flags(const emb_normalizer *normalizer, emb_bert_flags *flags)
{
    if (normalizer == NULL || normalizer->apply != bert_apply)
        return false;
    *flags = ((const bert_normalizer *)normalizer)->flags;
    return true;
}
