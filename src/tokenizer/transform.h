/*
 * transform.h: rewriting a text character by character the way the reference counts it.
 *
 *     emb_transform t = { out, in, 0 };
 *     emb_transform_put(&t, 'f', 0);    // replaces one character
 *     emb_transform_put(&t, 'i', 1);    // new: shares the alignment of what precedes it
 *     emb_transform_put(&t, 'x', -2);   // replaces one character and swallows the two behind it
 *
 * The reference describes every rewriting by such changes, and its offsets follow from counting them
 * even where the counts do not fit the characters (after reordering marks, say); so we count the same
 * way. Counting past the end, where the reference would fail, sticks to the last character.
 */
#ifndef EMB_TOKENIZER_TRANSFORM_H
#define EMB_TOKENIZER_TRANSFORM_H

#include "tokenizer/parts.h"

typedef struct emb_transform {
    emb_span_text *out;
    const emb_span_text *in;
    size_t offset; /* bytes of `in` that are accounted for */
} emb_transform;

/* Decodes one character of valid UTF-8; returns its length. */
static inline size_t emb_utf8_next(const char *s, uint32_t *c)
{
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80) {
        *c = p[0];
        return 1;
    }
    if (p[0] < 0xE0) {
        *c = (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
        return 2;
    }
    if (p[0] < 0xF0) {
        *c = (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
        return 3;
    }
    *c = (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
    return 4;
}

/* Length of the character that starts with this byte of valid UTF-8. */
static inline size_t emb_utf8_size(char first)
{
    unsigned char c = (unsigned char)first;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* Appends c; change > 0: new, 0: in place of one character, < 0: and of -change more. */
static inline emb_status emb_transform_put(emb_transform *t, uint32_t c, long change)
{
    if (!t->out->with_align)
        return emb_span_text_put(t->out, c, t->in, EMB_NO_SOURCE);
    size_t source = t->offset;
    if (change > 0)
        source = t->offset > 0 ? t->offset - 1 : EMB_NO_SOURCE;
    else if (source >= t->in->length)
        source = t->in->length > 0 ? t->in->length - 1 : EMB_NO_SOURCE;
    for (long i = change; i <= 0 && t->offset < t->in->length; i++)
        t->offset += emb_utf8_size(t->in->data[t->offset]);
    return emb_span_text_put(t->out, c, t->in, source);
}

#endif
