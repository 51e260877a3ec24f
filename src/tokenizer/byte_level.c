/*
 * byte_level.c: the ByteLevel pre-tokenizer (GPT-2, RoBERTa) and normalizer.
 *
 * The pattern is fixed:
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * so it is scanned by hand: each character has one of four classes, a match is a run of one class, with
 * one U+0020 before it if there is one. White space before something else leaves its last character to
 * the next match. A regular expression engine takes more time for this than the merges after it.
 *
 * Cutting and rewriting (each byte becomes a character of one or two bytes) happen in one pass, each
 * piece for itself. A prefix space is not inserted before scanning: the scanner is told of it.
 */
#include "tokenizer/byte_level.h"
#include "base/error.h"
#include "tokenizer/transform.h"
#include "tokenizer/unicode.h"

#include <string.h>

typedef struct byte_level {
    emb_pre_tokenizer base;
    bool add_prefix_space, use_regex;
} byte_level;

/* ---- the pattern ---- */

enum class { LETTER, NUMBER, SPACE, OTHER };

static enum class class_at(const char *s, size_t at, size_t *size) {
    uint32_t c; *size = emb_utf8_next(s + at, &c); uint32_t flags = emb_unicode_flags(c);
    if (flags & EMB_UNICODE_LETTER) return LETTER;
    if (flags & EMB_UNICODE_NUMBER) return NUMBER;
    return flags & EMB_UNICODE_WHITESPACE ? SPACE : OTHER;
}

/* Length of 's 't 're 've 'm 'll 'd at s, 0 if there is none. */
static size_t contraction(const char *s, size_t n)
{
    if (n < 2 || s[0] != '\'')
        return 0;
    if (s[1] == 's' || s[1] == 't' || s[1] == 'm' || s[1] == 'd')
        return 2;
    if (n < 3)
        return 0;
    if ((s[1] == 'r' && s[2] == 'e') || (s[1] == 'v' && s[2] == 'e') || (s[1] == 'l' && s[2] == 'l'))
        return 3;
    return 0;
}

/* The end of the match at `at` < n. With `spaced` a space that is not in s stands before it and is part
 * of the match; then the end may be `at` itself. */
static size_t match_end(const char *s, size_t n, size_t at, bool spaced)
{
    size_t size, i = at;
    if (!spaced && s[i] == '\'') {
        size_t length = contraction(s + i, n - i);
        if (length > 0)
            return i + length;
    }
    enum class class = class_at(s, i, &size);
    if (class == SPACE && !spaced && s[i] == ' ' && i + 1 < n) {
        size_t next_size;
        enum class next = class_at(s, i + 1, &next_size);
        if (next != SPACE) {
            class = next;
            size = 1 + next_size;
        }
    }
    size_t last = size; /* bytes of the run's last character */
    unsigned characters = spaced ? 2 : 1;
    for (i += size; i < n; i += last, characters = 2) {
        size_t step;
        if (class_at(s, i, &step) != class)
            break;
        last = step;
    }
    if (class == SPACE && i < n && characters > 1)
        i -= last;
    return i;
}

/* ---- rewriting ---- */

static emb_status put_byte(emb_span_text *out, unsigned char byte, const emb_span_text *in, size_t source)
{
    /* Room was made. */
    uint32_t c = emb_byte_character(byte);
    if (out->with_align) {
        out->align[out->length] = in->align[source];
        if (c >= 0x80)
            out->align[out->length + 1] = in->align[source];
    }
    if (c < 0x80) {
        out->data[out->length++] = (char)c;
    } else {
        out->data[out->length++] = (char)(0xC0 | c >> 6);
        out->data[out->length++] = (char)(0x80 | (c & 0x3F));
    }
    return EMB_OK;
}

/* Appends bytes [begin, end) of in, rewritten. */
static emb_status put_bytes(emb_span_text *out, const emb_span_text *in, size_t begin, size_t end)
{
    emb_status status = emb_span_text_reserve(out, 2 * (end - begin) + 2);
    for (size_t i = begin; i < end && status == EMB_OK; i++)
        status = put_byte(out, (unsigned char)in->data[i], in, i);
    return status;
}

static emb_status cut_piece(const byte_level *b, const emb_span_text *in, emb_piece piece, emb_span_text *out,
                            emb_pieces *pieces)
{
    bool spaced = b->add_prefix_space && in->data[piece.begin] != ' ';
    emb_status status = EMB_OK;
    for (size_t at = piece.begin; at < piece.end && status == EMB_OK;) {
        size_t begin = out->length, end = piece.end;
        if (b->use_regex)
            end = match_end(in->data, piece.end, at, spaced);
        status = emb_span_text_reserve(out, 2);
        if (status == EMB_OK && spaced)
            status = put_byte(out, ' ', in, piece.begin);
        if (status == EMB_OK)
            status = put_bytes(out, in, at, end);
        if (status == EMB_OK && out->length > UINT32_MAX)
            status = EMB_E_LIMIT;
        if (status == EMB_OK)
            status = emb_pieces_add(pieces, (uint32_t)begin, (uint32_t)out->length);
        at = end;
        spaced = false;
    }
    return status;
}

static emb_status fail(emb_status status, size_t length, emb_error *err)
{
    if (status == EMB_E_LIMIT)
        return emb_fail(err, status, NULL, "text of %zu bytes is too long as byte-level characters", length);
    return emb_fail_nomem(err, "byte-level text", length);
}

static emb_status byte_level_apply(const emb_pre_tokenizer *self, emb_span_text *text, emb_span_text *spare,
                                   emb_pieces *pieces, emb_pieces *spare_pieces, emb_error *err)
{
    emb_span_text_clear(spare);
    spare_pieces->count = 0;
    emb_status status = emb_span_text_reserve(spare, text->length + text->length / 4);
    for (size_t i = 0; i < pieces->count && status == EMB_OK; i++)
        status = cut_piece((const byte_level *)self, text, pieces->data[i], spare, spare_pieces);
    if (status != EMB_OK)
        return fail(status, text->length, err);
    emb_span_text_swap(text, spare);
    emb_pieces_swap(pieces, spare_pieces);
    return EMB_OK;
}

static emb_status byte_level_normalize(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                                       emb_error *err)
{
    (void)self;
    emb_span_text_clear(spare);
    emb_status status = put_bytes(spare, text, 0, text->length);
    if (status != EMB_OK)
        return fail(status, text->length, err);
    emb_span_text_swap(text, spare);
    return EMB_OK;
}

/* ---- loading ---- */

static emb_status flag(emb_json_value json, const char *key, bool otherwise, bool needed, const char *where,
                       bool *out, emb_error *err)
{
    emb_json_value value;
    *out = otherwise;
    if (!emb_json_get(json, key, &value)) {
        if (needed)
            return emb_fail(err, EMB_E_CORRUPT, where, "%s is missing", key);
        return EMB_OK;
    }
    if (!emb_json_bool(value, out))
        return emb_fail(err, EMB_E_CORRUPT, where, "%s is %s, true or false is needed", key,
                        emb_json_type_name(emb_json_type_of(value)));
    return EMB_OK;
}

emb_status emb_parse_byte_level(emb_json_value json, emb_arena *arena, const char *where,
                                emb_pre_tokenizer **out, emb_error *err)
{
    byte_level *b = emb_arena_calloc(arena, 1, sizeof *b);
    if (b == NULL)
        return emb_fail_nomem(err, "pre-tokenizer", sizeof *b);
    b->base = (emb_pre_tokenizer){.kind = "ByteLevel", .apply = byte_level_apply};
    emb_status status = flag(json, "add_prefix_space", true, true, where, &b->add_prefix_space, err);
    if (status == EMB_OK)
        status = flag(json, "use_regex", true, false, where, &b->use_regex, err);
    if (status == EMB_OK)
        *out = &b->base;
    return status;
}

emb_status emb_parse_byte_level_normalizer(emb_json_value json, emb_arena *arena, const char *where,
                                           emb_normalizer **out, emb_error *err)
{
    (void)json;
    (void)where;
    emb_normalizer *made = emb_arena_alloc(arena, sizeof *made);
    if (made == NULL)
        return emb_fail_nomem(err, "normalizer", sizeof *made);
    *made = (emb_normalizer){"ByteLevel", byte_level_normalize, NULL};
    *out = made;
    return EMB_OK;
}
