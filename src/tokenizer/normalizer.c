/*
 * normalizer.c: the table of normalizers by "type", Sequence, and the kinds that need a line or two:
 * Lowercase, StripAccents, Strip, Prepend, Nmt. The rest live in files of their own.
 *
 * A file may nest and repeat normalizers at will; MAX_STAGES bounds what a hostile one can make of a text.
 */
#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/parts.h"
#include "tokenizer/unicode.h"

#include <string.h>

enum { MAX_STAGES = 64 };

/* ---- kinds that look at one character at a time ---- */

typedef struct per_char {
    emb_normalizer base;
    /* Writes what becomes of c to out (room for 2) and returns how many characters that is. */
    size_t (*map)(uint32_t c, uint32_t out[2]);
} per_char;

static size_t map_lowercase(uint32_t c, uint32_t out[2])
{
    return emb_unicode_lowercase(c, out);
}

static size_t map_strip_accents(uint32_t c, uint32_t out[2])
{
    out[0] = c;
    return !emb_unicode_is(c, EMB_UNICODE_COMBINING_MARK);
}

/* The rules of Google's nmt_nfkc for control characters and spaces. */
static size_t map_nmt(uint32_t c, uint32_t out[2])
{
    bool dropped =
        (c >= 0x1 && c <= 0x8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
    bool space = c == 0x9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                 (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF ||
                 c == 0xFFFD;
    out[0] = space ? ' ' : c;
    return !dropped;
}

static emb_status per_char_apply(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                                 emb_error *err)
{
    const per_char *kind = (const per_char *)self;
    emb_status status = EMB_OK;
    emb_span_text_clear(spare);
    for (size_t i = 0, next; i < text->length && status == EMB_OK; i = next) {
        uint32_t c, mapped[2];
        next = i + emb_utf8_decode(text->data + i, text->length - i, &c);
        size_t count = kind->map(c, mapped);
        for (size_t k = 0; k < count && status == EMB_OK; k++)
            status = emb_span_text_put(spare, mapped[k], text, i);
    }
    if (status != EMB_OK)
        return emb_text_fail(err, status);
    emb_span_text_swap(text, spare);
    return EMB_OK;
}

static emb_status new_per_char(const char *kind, size_t (*map)(uint32_t, uint32_t *), emb_arena *arena,
                               emb_normalizer **out, emb_error *err)
{
    per_char *made = emb_arena_calloc(arena, 1, sizeof *made);
    if (made == NULL)
        return emb_fail_nomem(err, "the normalizer", sizeof *made);
    made->base = (emb_normalizer){.kind = kind, .apply = per_char_apply};
    made->map = map;
    *out = &made->base;
    return EMB_OK;
}

static emb_status parse_lowercase(emb_json_value json, emb_arena *arena, const char *where,
                                  emb_normalizer **out, emb_error *err)
{
    (void)json, (void)where;
    return new_per_char("Lowercase", map_lowercase, arena, out, err);
}

static emb_status parse_strip_accents(emb_json_value json, emb_arena *arena, const char *where,
                                      emb_normalizer **out, emb_error *err)
{
    (void)json, (void)where;
    return new_per_char("StripAccents", map_strip_accents, arena, out, err);
}

static emb_status parse_nmt(emb_json_value json, emb_arena *arena, const char *where, emb_normalizer **out,
                            emb_error *err)
{
    (void)json, (void)where;
    return new_per_char("Nmt", map_nmt, arena, out, err);
}

/* ---- Strip ---- */

typedef struct strip {
    emb_normalizer base;
    bool left, right;
} strip;

static emb_status strip_apply(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                              emb_error *err)
{
    const strip *s = (const strip *)self;
    size_t begin = 0, end = text->length;
    uint32_t c;
    while (s->left && begin < end) {
        size_t taken = emb_utf8_decode(text->data + begin, end - begin, &c);
        if (!emb_unicode_is(c, EMB_UNICODE_WHITESPACE))
            break;
        begin += taken;
    }
    while (s->right && begin < end) {
        size_t at = end - 1;
        while (at > begin && ((unsigned char)text->data[at] & 0xC0) == 0x80)
            at--;
        emb_utf8_decode(text->data + at, end - at, &c);
        if (!emb_unicode_is(c, EMB_UNICODE_WHITESPACE))
            break;
        end = at;
    }
    if (begin == 0) {
        text->length = end;
        return EMB_OK;
    }
    emb_span_text_clear(spare);
    emb_status status = emb_span_text_copy(spare, text, begin, end);
    if (status != EMB_OK)
        return emb_text_fail(err, status);
    emb_span_text_swap(text, spare);
    return EMB_OK;
}

static emb_status parse_strip(emb_json_value json, emb_arena *arena, const char *where, emb_normalizer **out,
                              emb_error *err)
{
    emb_json_value value;
    bool left = true, right = true;
    if ((emb_json_get(json, "strip_left", &value) && !emb_json_bool(value, &left)) ||
        (emb_json_get(json, "strip_right", &value) && !emb_json_bool(value, &right)))
        return emb_fail(err, EMB_E_CORRUPT, where, "strip_left and strip_right must be true or false");
    strip *made = emb_arena_calloc(arena, 1, sizeof *made);
    if (made == NULL)
        return emb_fail_nomem(err, "the normalizer", sizeof *made);
    *made = (strip){{.kind = "Strip", .apply = strip_apply}, left, right};
    *out = &made->base;
    return EMB_OK;
}

/* ---- Prepend ---- */

typedef struct prepend {
    emb_normalizer base;
    const char *content;
    size_t length;
} prepend;

static emb_status prepend_apply(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                                emb_error *err)
{
    const prepend *p = (const prepend *)self;
    if (text->length == 0)
        return EMB_OK;
    emb_align align = text->with_align ? text->align[0] : (emb_align){0, 0};
    emb_span_text_clear(spare);
    emb_status status = emb_span_text_add(spare, p->content, p->length, align.start, align.end);
    if (status == EMB_OK)
        status = emb_span_text_copy(spare, text, 0, text->length);
    if (status != EMB_OK)
        return emb_text_fail(err, status);
    emb_span_text_swap(text, spare);
    return EMB_OK;
}

static emb_status parse_prepend(emb_json_value json, emb_arena *arena, const char *where,
                                emb_normalizer **out, emb_error *err)
{
    emb_json_value value;
    const char *content;
    size_t length;
    if (!emb_json_get(json, "prepend", &value) || !emb_json_string(value, &content, &length))
        return emb_fail(err, EMB_E_CORRUPT, where, "Prepend needs the string \"prepend\"");
    prepend *made = emb_arena_calloc(arena, 1, sizeof *made);
    char *kept = emb_arena_strndup(arena, content, length);
    if (made == NULL || kept == NULL)
        return emb_fail_nomem(err, "the normalizer", sizeof *made + length);
    *made = (prepend){{.kind = "Prepend", .apply = prepend_apply}, kept, length};
    *out = &made->base;
    return EMB_OK;
}

/* ---- Sequence ---- */

typedef struct sequence {
    emb_normalizer base;
    emb_normalizer **stages;
    size_t count;
} sequence;

static emb_status sequence_apply(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                                 emb_error *err)
{
    const sequence *s = (const sequence *)self;
    emb_status status = EMB_OK;
    for (size_t i = 0; i < s->count && status == EMB_OK; i++)
        status = emb_normalizer_apply(s->stages[i], text, spare, err);
    return status;
}

static void sequence_release(emb_normalizer *self)
{
    sequence *s = (sequence *)self;
    for (size_t i = 0; i < s->count; i++)
        emb_normalizer_release(s->stages[i]);
}

static emb_status parse(emb_json_value json, emb_arena *arena, const char *where, unsigned *stages,
                        emb_normalizer **out, emb_error *err);

static emb_status parse_sequence(emb_json_value json, emb_arena *arena, const char *where, unsigned *stages,
                                 emb_normalizer **out, emb_error *err)
{
    emb_json_value list, item;
    const char *key;
    size_t key_length;
    if (!emb_json_get(json, "normalizers", &list) || emb_json_type_of(list) != EMB_JSON_ARRAY)
        return emb_fail(err, EMB_E_CORRUPT, where,
                        "a Sequence of normalizers needs the array \"normalizers\"");
    sequence *made = emb_arena_calloc(arena, 1, sizeof *made);
    emb_normalizer **kept = emb_arena_calloc(arena, MAX_STAGES, sizeof(emb_normalizer *));
    if (made == NULL || kept == NULL)
        return emb_fail_nomem(err, "the normalizer", MAX_STAGES * sizeof(emb_normalizer *));
    *made = (sequence){{.kind = "Sequence", .apply = sequence_apply, .release = sequence_release}, kept, 0};
    for (emb_json_iter it = emb_json_begin(list); emb_json_next(&it, &key, &key_length, &item);) {
        emb_normalizer *stage = NULL;
        emb_status status = parse(item, arena, where, stages, &stage, err);
        if (status != EMB_OK) {
            sequence_release(&made->base);
            return status;
        }
        if (stage != NULL)
            made->stages[made->count++] = stage;
    }
    *out = &made->base;
    return EMB_OK;
}

/* ---- the table ---- */

static const struct {
    const char *type;
    emb_normalizer_parser parser;
} kinds[] = {
    {"BertNormalizer", emb_parse_bert_normalizer},
    {"Bert", emb_parse_bert_normalizer},
    {"Lowercase", parse_lowercase},
    {"StripAccents", parse_strip_accents},
    {"Strip", parse_strip},
    {"Prepend", parse_prepend},
    {"Nmt", parse_nmt},
    {"Replace", emb_parse_replace},
    {"NFC", emb_parse_unicode_form},
    {"NFD", emb_parse_unicode_form},
    {"NFKC", emb_parse_unicode_form},
    {"NFKD", emb_parse_unicode_form},
    {"Precompiled", emb_parse_precompiled},
    {"ByteLevel", emb_parse_byte_level_normalizer},
};

/* `stages` counts what has been parsed so far, so that nesting cannot get around the limit. */
static emb_status parse(emb_json_value json, emb_arena *arena, const char *where, unsigned *stages,
                        emb_normalizer **out, emb_error *err)
{
    emb_json_value type;
    const char *name;
    size_t length;
    *out = NULL;
    if (emb_json_type_of(json) == EMB_JSON_NULL)
        return EMB_OK;
    if (!emb_json_get(json, "type", &type) || !emb_json_string(type, &name, &length))
        return emb_fail(err, EMB_E_CORRUPT, where, "a normalizer has no \"type\"");
    if (++*stages > MAX_STAGES)
        return emb_fail(err, EMB_E_LIMIT, where, "more than %d normalizers", MAX_STAGES);
    if (emb_json_string_is(type, "Sequence"))
        return parse_sequence(json, arena, where, stages, out, err);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (emb_json_string_is(type, kinds[i].type))
            return kinds[i].parser(json, arena, where, out, err);
    return emb_fail(err, EMB_E_UNSUPPORTED, where, "normalizer type \"%.*s\" is not supported",
                    (int)(length < 64 ? length : 64), name);
}

emb_status emb_normalizer_parse(emb_json_value json, emb_arena *arena, const char *where,
                                emb_normalizer **out, emb_error *err)
{
    unsigned stages = 0;
    return parse(json, arena, where, &stages, out, err);
}

emb_status emb_normalizer_apply(const emb_normalizer *normalizer, emb_span_text *text, emb_span_text *spare,
                                emb_error *err)
{
    if (normalizer == NULL)
        return EMB_OK;
    emb_span_text_restart(spare, text->with_align);
    return normalizer->apply(normalizer, text, spare, err);
}

void emb_normalizer_release(emb_normalizer *normalizer)
{
    if (normalizer != NULL && normalizer->release != NULL)
        normalizer->release(normalizer);
}
