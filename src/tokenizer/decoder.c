/*
 * decoder.c: three decoders, token by token.
 *
 * The reference makes a string of each token and joins them; here each is written straight behind the others,
 * which is the same, with two exceptions that decide the order of work: WordPiece's clean-up looks at one
 * token with the space before it, never across tokens, and ByteLevel repairs UTF-8 only after all bytes are
 * there, since characters are split among tokens.
 */
#include "tokenizer/decoder.h"

#include "base/utf8.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/pipeline.h"

#include <string.h>

/* ---- opening ---- */

static emb_status take_mark(emb_json_value json, const char *member, emb_arena *arena, emb_decoder *out)
{
    emb_json_value value;
    const char *text;
    size_t length;
    if (!emb_json_get(json, member, &value) || !emb_json_string(value, &text, &length) || length == 0)
        return EMB_OK;
    out->mark = emb_arena_strndup(arena, text, length);
    out->mark_length = length;
    return out->mark ? EMB_OK : EMB_E_NOMEM;
}

static emb_decoder usual_of(const char *model)
{
    if (strcmp(model, "WordPiece") == 0)
        return (emb_decoder){EMB_DECODER_WORDPIECE, "##", 2, true, false};
    if (strcmp(model, "Unigram") == 0)
        return (emb_decoder){EMB_DECODER_METASPACE, "\xE2\x96\x81", 3, false, false};
    return (emb_decoder){EMB_DECODER_BYTE_LEVEL, "", 0, false, false};
}

emb_status emb_decoder_parse(emb_json_value json, const char *model, emb_arena *arena, emb_decoder *out)
{
    emb_json_value value;
    bool yes = true;
    *out = usual_of(model);
    if (emb_json_type_of(json) != EMB_JSON_OBJECT || !emb_json_get(json, "type", &value))
        return EMB_OK;
    if (emb_json_string_is(value, "WordPiece")) {
        *out = usual_of("WordPiece");
        if (emb_json_get(json, "cleanup", &value) && emb_json_bool(value, &yes))
            out->cleanup = yes;
        return take_mark(json, "prefix", arena, out);
    }
    if (emb_json_string_is(value, "Metaspace")) {
        *out = usual_of("Unigram");
        if (emb_json_get(json, "prepend_scheme", &value))
            out->keeps_first = emb_json_string_is(value, "never");
        else if (emb_json_get(json, "add_prefix_space", &value) && emb_json_bool(value, &yes))
            out->keeps_first = !yes;
        return take_mark(json, "replacement", arena, out);
    }
    if (emb_json_string_is(value, "ByteLevel"))
        *out = usual_of("BPE");
    return EMB_OK;
}

/* ---- WordPiece ---- */

/* What the reference replaces within each token, one after the other. */
static const struct {
    const char *from, *to;
} cleanups[] = {
    {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
    {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
};

/* Replaces in place from `begin` on: nothing gets longer. */
static void replace_all(emb_buf *out, size_t begin, const char *from, const char *to)
{
    size_t n = strlen(from), m = strlen(to), write = begin;
    for (size_t read = begin; read < out->length;) {
        if (out->length - read >= n && memcmp(out->data + read, from, n) == 0) {
            memmove(out->data + write, to, m);
            write += m;
            read += n;
        } else {
            out->data[write++] = out->data[read++];
        }
    }
    out->length = write;
}

static emb_status add_word_piece(const emb_decoder *d, const char *token, size_t length, bool first,
                                 emb_buf *out)
{
    size_t begin = out->length;
    emb_status status = EMB_OK;
    if (!first && length >= d->mark_length && memcmp(token, d->mark, d->mark_length) == 0) {
        token += d->mark_length;
        length -= d->mark_length;
    } else if (!first) {
        status = emb_buf_add(out, " ", 1);
    }
    if (!status)
        status = emb_buf_add(out, token, length);
    for (size_t i = 0; !status && d->cleanup && i < sizeof cleanups / sizeof *cleanups; i++)
        replace_all(out, begin, cleanups[i].from, cleanups[i].to);
    return status;
}

/* ---- Metaspace ---- */

static emb_status add_metaspace(const emb_decoder *d, const char *token, size_t length, bool first,
                                emb_buf *out)
{
    for (size_t i = 0; i < length;) {
        emb_status status = EMB_OK;
        if (length - i >= d->mark_length && memcmp(token + i, d->mark, d->mark_length) == 0) {
            if (!first || d->keeps_first)
                status = emb_buf_add(out, " ", 1);
            i += d->mark_length;
        } else {
            status = emb_buf_add(out, token + i++, 1);
        }
        if (status)
            return status;
    }
    return EMB_OK;
}

/* ---- ByteLevel ---- */

/* emb_byte_character backwards; -1 for others. */
static int byte_of(uint32_t character)
{
    uint32_t byte = character < 0x100   ? character
                    : character < 0x121 ? character - 0x100
                    : character < 0x143 ? character - 0x121 + 0x7F
                                        : 0xAD;
    return byte < 0x100 && emb_byte_character((unsigned char)byte) == character ? (int)byte : -1;
}

/* A token with a character that stands for no byte is taken as it is. */
static emb_status add_bytes(const char *token, size_t length, emb_buf *out)
{
    size_t begin = out->length;
    emb_status status = emb_buf_reserve(out, length);
    for (size_t i = 0; !status && i < length;) {
        uint32_t character;
        i += emb_utf8_decode(token + i, length - i, &character);
        int byte = byte_of(character);
        if (byte < 0) {
            out->length = begin;
            return emb_buf_add(out, token, length);
        }
        char c = (char)byte;
        status = emb_buf_add(out, &c, 1);
    }
    return status;
}

/* ---- all ---- */

static bool is_special(const emb_tokenizer *t, const char *token, size_t length)
{
    int32_t added = emb_trie_find(&t->added.by_content, token, length);
    return added >= 0 && t->added.tokens[added].special;
}

static emb_status add_token(const emb_decoder *d, const char *token, size_t length, bool first, emb_buf *out)
{
    switch (d->kind) {
    case EMB_DECODER_WORDPIECE:
        return add_word_piece(d, token, length, first, out);
    case EMB_DECODER_METASPACE:
        return add_metaspace(d, token, length, first, out);
    case EMB_DECODER_BYTE_LEVEL:
        break;
    }
    return add_bytes(token, length, out);
}

emb_status emb_tokenizer_decode(const emb_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                bool skip_special_tokens, emb_buf *out)
{
    const emb_decoder *d = &tokenizer->decoder;
    emb_buf text = EMB_BUF_INIT(out->maximum);
    emb_status status = EMB_OK;
    bool first = true;
    for (size_t i = 0; i < count && !status; i++) {
        size_t length;
        const char *token = emb_tokenizer_token(tokenizer, ids[i], &length);
        if (!token || (skip_special_tokens && is_special(tokenizer, token, length)))
            continue;
        status = add_token(d, token, length, first, &text);
        first = false;
    }
    if (!status)
        status = emb_utf8_repair(out, text.data, text.length);
    emb_buf_fini(&text);
    return status;
}
