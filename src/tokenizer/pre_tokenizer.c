/*
 * pre_tokenizer.c: the table of pre-tokenizers by "type", Sequence, and the kinds that cut by character
 * class: BertPreTokenizer, Whitespace, WhitespaceSplit, Punctuation, CharDelimiterSplit. The rest live in
 * files of their own.
 *
 * All of these look at one character at a time and never rewrite the text, so one loop serves them all:
 * a kind only says what a character is to it.
 */
#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/bert.h"
#include "tokenizer/unicode.h"

#include <string.h>

enum { MAX_STAGES = 64 };

/* What a character is to a class cutter. */
typedef enum char_class {
    CLASS_SPACE, /* a delimiter that is removed */
    CLASS_ALONE, /* a piece of its own */
    CLASS_WORD,  /* pieces are runs of one class */
    CLASS_OTHER
} char_class;

typedef struct class_cutter {
    emb_pre_tokenizer base;
    char_class (*classify)(uint32_t c);
} class_cutter;

/* ---- runs of classes ---- */

static char_class classify_bert(uint32_t c)
{
    uint32_t is = emb_unicode_flags(c);
    if (is & EMB_UNICODE_WHITESPACE)
        return CLASS_SPACE;
    return is & EMB_UNICODE_PUNCTUATION ? CLASS_ALONE : CLASS_WORD;
}

/* \w+|[^\w\s]+ */
static char_class classify_whitespace(uint32_t c)
{
    uint32_t is = emb_unicode_flags(c);
    if (is & EMB_UNICODE_WORD)
        return CLASS_WORD;
    return is & EMB_UNICODE_WHITESPACE ? CLASS_SPACE : CLASS_OTHER;
}

static char_class classify_whitespace_split(uint32_t c)
{
    return emb_unicode_is(c, EMB_UNICODE_WHITESPACE) ? CLASS_SPACE : CLASS_WORD;
}

static emb_status cut_runs(char_class (*classify)(uint32_t), const emb_span_text *text, emb_piece piece,
                           emb_pieces *out)
{
    emb_status status = EMB_OK;
    uint32_t start = piece.begin;
    char_class run = CLASS_SPACE;
    for (uint32_t i = piece.begin, next; i < piece.end && status == EMB_OK; i = next) {
        uint32_t c;
        next = i + (uint32_t)emb_utf8_decode(text->data + i, piece.end - i, &c);
        char_class class = classify(c);
        if (class == run && class != CLASS_ALONE)
            continue;
        if (run != CLASS_SPACE)
            status = emb_pieces_add(out, start, i);
        run = class;
        start = i;
    }
    if (run != CLASS_SPACE && status == EMB_OK)
        status = emb_pieces_add(out, start, piece.end);
    return status;
}

static emb_status class_cutter_apply(const emb_pre_tokenizer *self, emb_span_text *text, emb_span_text *spare,
                                     emb_pieces *pieces, emb_pieces *spare_pieces, emb_error *err)
{
    char_class (*classify)(uint32_t) = ((const class_cutter *)self)->classify;
    emb_status status = EMB_OK;
    (void)spare;
    spare_pieces->count = 0;
    for (size_t i = 0; i < pieces->count && status == EMB_OK; i++)
        status = cut_runs(classify, text, pieces->data[i], spare_pieces);
    if (status != EMB_OK)
        return emb_text_fail(err, status);
    emb_pieces_swap(pieces, spare_pieces);
    return EMB_OK;
}

static emb_status new_class_cutter(const char *kind, char_class (*classify)(uint32_t), emb_arena *arena,
                                   emb_pre_tokenizer **out, emb_error *err)
{
    class_cutter *made = emb_arena_calloc(arena, 1, sizeof *made);
    if (made == NULL)
        return emb_fail_nomem(err, "the pre-tokenizer", sizeof *made);
    made->base = (emb_pre_tokenizer){.kind = kind, .apply = class_cutter_apply};
    made->classify = classify;
    *out = &made->base;
    return EMB_OK;
}

static emb_status parse_bert(emb_json_value json, emb_arena *arena, const char *where,
                             emb_pre_tokenizer **out, emb_error *err)
{
    (void)json, (void)where;
    return new_class_cutter("BertPreTokenizer", classify_bert, arena, out, err);
}

static emb_status parse_whitespace(emb_json_value json, emb_arena *arena, const char *where,
                                   emb_pre_tokenizer **out, emb_error *err)
{
    (void)json, (void)where;
    return new_class_cutter("Whitespace", classify_whitespace, arena, out, err);
}

static emb_status parse_whitespace_split(emb_json_value json, emb_arena *arena, const char *where,
                                         emb_pre_tokenizer **out, emb_error *err)
{
    (void)json, (void)where;
    return new_class_cutter("WhitespaceSplit", classify_whitespace_split, arena, out, err);
}

bool emb_is_bert_pre_tokenizer(const emb_pre_tokenizer *pre)
{
    return pre != NULL && pre->apply == class_cutter_apply &&
           ((const class_cutter *)pre)->classify == classify_bert;
}

/* ---- delimiters ---- */

typedef struct delimiter_cutter {
    emb_pre_tokenizer base;
    emb_split_behavior behavior;
    bool punctuation; /* else: */
    uint32_t delimiter;
} delimiter_cutter;

static emb_status cut_delimiters(const delimiter_cutter *cutter, const emb_span_text *text, emb_piece piece,
                                 emb_pieces *out)
{
    emb_splitter splitter;
    emb_status status = EMB_OK;
    uint32_t start = piece.begin;
    emb_splitter_begin(&splitter, cutter->behavior, out);
    for (uint32_t i = piece.begin, next; i < piece.end && status == EMB_OK; i = next) {
        uint32_t c;
        next = i + (uint32_t)emb_utf8_decode(text->data + i, piece.end - i, &c);
        bool match =
            cutter->punctuation ? emb_unicode_is(c, EMB_UNICODE_PUNCTUATION) : c == cutter->delimiter;
        if (!match)
            continue;
        if (start < i)
            status = emb_splitter_range(&splitter, start, i, false);
        if (status == EMB_OK)
            status = emb_splitter_range(&splitter, i, next, true);
        start = next;
    }
    if (start < piece.end && status == EMB_OK)
        status = emb_splitter_range(&splitter, start, piece.end, false);
    return status == EMB_OK ? emb_splitter_end(&splitter) : status;
}

static emb_status delimiter_cutter_apply(const emb_pre_tokenizer *self, emb_span_text *text,
                                         emb_span_text *spare, emb_pieces *pieces, emb_pieces *spare_pieces,
                                         emb_error *err)
{
    emb_status status = EMB_OK;
    (void)spare;
    spare_pieces->count = 0;
    for (size_t i = 0; i < pieces->count && status == EMB_OK; i++)
        status = cut_delimiters((const delimiter_cutter *)self, text, pieces->data[i], spare_pieces);
    if (status != EMB_OK)
        return emb_text_fail(err, status);
    emb_pieces_swap(pieces, spare_pieces);
    return EMB_OK;
}

static emb_status parse_punctuation(emb_json_value json, emb_arena *arena, const char *where,
                                    emb_pre_tokenizer **out, emb_error *err)
{
    emb_split_behavior behavior;
    emb_status status = emb_split_behavior_parse(json, "behavior", EMB_SPLIT_ISOLATED, where, &behavior, err);
    if (status != EMB_OK)
        return status;
    delimiter_cutter *made = emb_arena_calloc(arena, 1, sizeof *made);
    if (made == NULL)
        return emb_fail_nomem(err, "the pre-tokenizer", sizeof *made);
    made->base = (emb_pre_tokenizer){.kind = "Punctuation", .apply = delimiter_cutter_apply};
    made->behavior = behavior;
    made->punctuation = true;
    *out = &made->base;
    return EMB_OK;
}

static emb_status parse_char_delimiter(emb_json_value json, emb_arena *arena, const char *where,
                                       emb_pre_tokenizer **out, emb_error *err)
{
    emb_json_value value;
    const char *text;
    size_t length;
    uint32_t c;
    if (!emb_json_get(json, "delimiter", &value) || !emb_json_string(value, &text, &length) || length == 0 ||
        emb_utf8_decode(text, length, &c) != length)
        return emb_fail(err, EMB_E_CORRUPT, where,
                        "CharDelimiterSplit needs a \"delimiter\" of one character");
    delimiter_cutter *made = emb_arena_calloc(arena, 1, sizeof *made);
    if (made == NULL)
        return emb_fail_nomem(err, "the pre-tokenizer", sizeof *made);
    made->base = (emb_pre_tokenizer){.kind = "CharDelimiterSplit", .apply = delimiter_cutter_apply};
    made->behavior = EMB_SPLIT_REMOVED;
    made->delimiter = c;
    *out = &made->base;
    return EMB_OK;
}

/* ---- Sequence ---- */

typedef struct sequence {
    emb_pre_tokenizer base;
    emb_pre_tokenizer **stages;
    size_t count;
} sequence;

static emb_status sequence_apply(const emb_pre_tokenizer *self, emb_span_text *text, emb_span_text *spare,
                                 emb_pieces *pieces, emb_pieces *spare_pieces, emb_error *err)
{
    const sequence *s = (const sequence *)self;
    emb_status status = EMB_OK;
    for (size_t i = 0; i < s->count && status == EMB_OK; i++)
        status = emb_pre_tokenizer_apply(s->stages[i], text, spare, pieces, spare_pieces, err);
    return status;
}

static void sequence_release(emb_pre_tokenizer *self)
{
    sequence *s = (sequence *)self;
    for (size_t i = 0; i < s->count; i++)
        emb_pre_tokenizer_release(s->stages[i]);
}

static emb_status parse(emb_json_value json, emb_arena *arena, const char *where, unsigned *stages,
                        emb_pre_tokenizer **out, emb_error *err);

static emb_status parse_sequence(emb_json_value json, emb_arena *arena, const char *where, unsigned *stages,
                                 emb_pre_tokenizer **out, emb_error *err)
{
    emb_json_value list, item;
    const char *key;
    size_t key_length;
    if (!emb_json_get(json, "pretokenizers", &list) || emb_json_type_of(list) != EMB_JSON_ARRAY)
        return emb_fail(err, EMB_E_CORRUPT, where,
                        "a Sequence of pre-tokenizers needs the array \"pretokenizers\"");
    sequence *made = emb_arena_calloc(arena, 1, sizeof *made);
    emb_pre_tokenizer **kept = emb_arena_calloc(arena, MAX_STAGES, sizeof(emb_pre_tokenizer *));
    if (made == NULL || kept == NULL)
        return emb_fail_nomem(err, "the pre-tokenizer", MAX_STAGES * sizeof(emb_pre_tokenizer *));
    made->base =
        (emb_pre_tokenizer){.kind = "Sequence", .apply = sequence_apply, .release = sequence_release};
    made->stages = kept;
    for (emb_json_iter it = emb_json_begin(list); emb_json_next(&it, &key, &key_length, &item);) {
        emb_pre_tokenizer *stage = NULL;
        emb_status status = parse(item, arena, where, stages, &stage, err);
        if (status != EMB_OK) {
            sequence_release(&made->base);
            return status;
        }
        if (stage == NULL)
            continue;
        made->stages[made->count++] = stage;
        made->base.needs_align |= stage->needs_align;
    }
    *out = &made->base;
    return EMB_OK;
}

/* ---- the table ---- */

static const struct {
    const char *type;
    emb_pre_tokenizer_parser parser;
} kinds[] = {
    {"BertPreTokenizer", parse_bert},
    {"Whitespace", parse_whitespace},
    {"WhitespaceSplit", parse_whitespace_split},
    {"Punctuation", parse_punctuation},
    {"CharDelimiterSplit", parse_char_delimiter},
    {"Delimiter", parse_char_delimiter},
    {"ByteLevel", emb_parse_byte_level},
    {"Metaspace", emb_parse_metaspace},
    {"Split", emb_parse_split},
    {"Digits", emb_parse_digits},
};

/* `stages` counts what has been parsed so far, so that nesting cannot get around the limit. */
static emb_status parse(emb_json_value json, emb_arena *arena, const char *where, unsigned *stages,
                        emb_pre_tokenizer **out, emb_error *err)
{
    emb_json_value type;
    const char *name;
    size_t length;
    *out = NULL;
    if (emb_json_type_of(json) == EMB_JSON_NULL)
        return EMB_OK;
    if (!emb_json_get(json, "type", &type) || !emb_json_string(type, &name, &length))
        return emb_fail(err, EMB_E_CORRUPT, where, "a pre-tokenizer has no \"type\"");
    if (++*stages > MAX_STAGES)
        return emb_fail(err, EMB_E_LIMIT, where, "more than %d pre-tokenizers", MAX_STAGES);
    if (emb_json_string_is(type, "Sequence"))
        return parse_sequence(json, arena, where, stages, out, err);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (emb_json_string_is(type, kinds[i].type))
            return kinds[i].parser(json, arena, where, out, err);
    return emb_fail(err, EMB_E_UNSUPPORTED, where, "pre-tokenizer type \"%.*s\" is not supported",
                    (int)(length < 64 ? length : 64), name);
}

emb_status emb_pre_tokenizer_parse(emb_json_value json, emb_arena *arena, const char *where,
                                   emb_pre_tokenizer **out, emb_error *err)
{
    unsigned stages = 0;
    return parse(json, arena, where, &stages, out, err);
}

emb_status emb_pre_tokenizer_apply(const emb_pre_tokenizer *pre, emb_span_text *text, emb_span_text *spare,
                                   emb_pieces *pieces, emb_pieces *spare_pieces, emb_error *err)
{
    if (pre == NULL)
        return EMB_OK;
    emb_span_text_restart(spare, text->with_align);
    return pre->apply(pre, text, spare, pieces, spare_pieces, err);
}

void emb_pre_tokenizer_release(emb_pre_tokenizer *pre)
{
    if (pre != NULL && pre->release != NULL)
        pre->release(pre);
}
