/*
 * metaspace.c: the Metaspace pre-tokenizer: spaces become a visible character, usually U+2581, and words
 * start with it.
 *
 * Each piece for itself: U+0020 is replaced, the character is put in front if it is not there (always,
 * never, or only of the piece at the beginning of the original text), and with `split` a new piece starts
 * at every such character. That is what splitting at it and merging with the next comes to.
 */
#include "base/error.h"
#include "tokenizer/transform.h"

#include <string.h>

enum prepend { ALWAYS, FIRST, NEVER };

typedef struct metaspace {
    emb_pre_tokenizer base;
    char replacement[4];
    size_t length;
    enum prepend prepend;
    bool split;
} metaspace;

static bool starts_here(const metaspace *m, const char *s, size_t n)
{
    return n >= m->length && memcmp(s, m->replacement, m->length) == 0;
}

/* Whether the replacement goes in front of this piece. */
static bool prepends(const metaspace *m, const emb_span_text *in, emb_piece piece)
{
    if (m->prepend == NEVER || in->data[piece.begin] == ' ' ||
        starts_here(m, in->data + piece.begin, piece.end - piece.begin))
        return false;
    if (m->prepend == ALWAYS)
        return true;
    return in->align != NULL && in->with_align ? in->align[piece.begin].start == 0 : piece.begin == 0;
}

static emb_status put_replacement(const metaspace *m, emb_span_text *out, const emb_span_text *in,
                                  size_t source)
{
    emb_align align = {0, 0};
    if (in->with_align)
        align = in->align[source];
    return emb_span_text_add(out, m->replacement, m->length, align.start, align.end);
}

static emb_status rewrite_piece(const metaspace *m, const emb_span_text *in, emb_piece piece,
                                emb_span_text *out, emb_pieces *pieces)
{
    size_t begin = out->length, copied = piece.begin;
    emb_status status = EMB_OK;
    if (prepends(m, in, piece))
        status = put_replacement(m, out, in, piece.begin);
    for (size_t i = piece.begin; i < piece.end && status == EMB_OK;) {
        bool space = in->data[i] == ' ';
        if (!space && !starts_here(m, in->data + i, piece.end - i)) {
            i++;
            continue;
        }
        status = emb_span_text_copy(out, in, copied, i);
        if (status == EMB_OK && m->split) {
            status = emb_pieces_add(pieces, (uint32_t)begin, (uint32_t)out->length);
            begin = out->length;
        }
        copied = i;
        if (space) {
            if (status == EMB_OK)
                status = put_replacement(m, out, in, i);
            copied = ++i;
        } else {
            i += m->length;
        }
    }
    if (status == EMB_OK)
        status = emb_span_text_copy(out, in, copied, piece.end);
    if (status == EMB_OK && out->length > UINT32_MAX)
        status = EMB_E_LIMIT;
    if (status == EMB_OK)
        status = emb_pieces_add(pieces, (uint32_t)begin, (uint32_t)out->length);
    return status;
}

static emb_status metaspace_apply(const emb_pre_tokenizer *self, emb_span_text *text, emb_span_text *spare,
                                  emb_pieces *pieces, emb_pieces *spare_pieces, emb_error *err)
{
    emb_span_text_clear(spare);
    spare_pieces->count = 0;
    emb_status status = emb_span_text_reserve(spare, text->length + text->length / 4);
    for (size_t i = 0; i < pieces->count && status == EMB_OK; i++)
        status = rewrite_piece((const metaspace *)self, text, pieces->data[i], spare, spare_pieces);
    if (status == EMB_E_LIMIT)
        return emb_fail(err, status, NULL, "text of %zu bytes is too long once spaces are replaced",
                        text->length);
    if (status != EMB_OK)
        return emb_fail_nomem(err, "pre-tokenized text", text->length);
    emb_span_text_swap(text, spare);
    emb_pieces_swap(pieces, spare_pieces);
    return EMB_OK;
}

/* ---- loading ---- */

static emb_status parse_scheme(emb_json_value json, const char *where, enum prepend *out, emb_error *err)
{
    static const char *const names[] = {"always", "first", "never"};
    emb_json_value value;
    bool add, known = true;
    *out = ALWAYS;
    if (emb_json_get(json, "prepend_scheme", &value)) {
        known = false;
        for (int i = 0; i < 3 && !known; i++) {
            known = emb_json_string_is(value, names[i]);
            *out = (enum prepend)i;
        }
    }
    if (!known)
        return emb_fail(err, EMB_E_UNSUPPORTED, where,
                        "prepend_scheme is not \"always\", \"first\" or \"never\"");
    if (emb_json_get(json, "add_prefix_space", &value) && emb_json_bool(value, &add) && !add) {
        /* The older form of "never"; the two must not contradict each other. */
        if (*out != NEVER && emb_json_get(json, "prepend_scheme", &value))
            return emb_fail(err, EMB_E_CORRUPT, where, "add_prefix_space false contradicts prepend_scheme");
        *out = NEVER;
    }
    return EMB_OK;
}

emb_status emb_parse_metaspace(emb_json_value json, emb_arena *arena, const char *where,
                               emb_pre_tokenizer **out, emb_error *err)
{
    emb_json_value value;
    const char *text = NULL;
    size_t length = 0;
    metaspace *m = emb_arena_calloc(arena, 1, sizeof *m);
    if (m == NULL)
        return emb_fail_nomem(err, "pre-tokenizer", sizeof *m);
    m->base = (emb_pre_tokenizer){.kind = "Metaspace", .apply = metaspace_apply};
    if (!emb_json_get(json, "replacement", &value) || !emb_json_string(value, &text, &length) ||
        length == 0 || length > 4 || emb_utf8_size(text[0]) != length)
        return emb_fail(err, EMB_E_CORRUPT, where, "replacement is not a string of one character");
    memcpy(m->replacement, text, length);
    m->length = length;
    m->split = true;
    if (emb_json_get(json, "split", &value) && emb_json_type_of(value) != EMB_JSON_NULL &&
        !emb_json_bool(value, &m->split))
        return emb_fail(err, EMB_E_CORRUPT, where, "split is not true or false");
    emb_status status = parse_scheme(json, where, &m->prepend, err);
    m->base.needs_align = m->prepend == FIRST;
    if (status == EMB_OK)
        *out = &m->base;
    return status;
}
