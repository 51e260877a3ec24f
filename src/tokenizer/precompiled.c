/*
 * precompiled.c: SentencePiece's character map, applied as the reference applies it.
 *
 * The map is a double-array trie over UTF-8 (Darts: 32-bit units, values are offsets) and a blob of
 * NUL-terminated replacements. The reference does not rewrite greedily: it takes grapheme clusters. A
 * cluster of fewer than six bytes is looked up whole, and if any key begins it the shortest such key's
 * replacement stands for the whole cluster (marks behind it vanish); otherwise its characters are looked
 * up one by one. Both quirks are kept, ids depend on them.
 *
 * Since only clusters under six bytes are looked up whole, some rules of UAX 29 cannot show: regional
 * indicators take four bytes each and join nothing but each other, so a pair (eight bytes) and two single
 * ones give the same result, and they count as any other character. All other rules are followed.
 *
 * Most text is ASCII that no key touches, for which there is a table; ASCII never joins ASCII but in CR
 * LF. The trie comes from a file, so every step is checked; a broken map matches less, no more.
 */
#include "tokenizer/precompiled.h"
#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/transform.h"
#include "tokenizer/unicode.h"

#include <string.h>

typedef struct precompiled {
    emb_normalizer base;
    const uint32_t *units;
    size_t unit_count;
    const char *blob;
    size_t blob_length;
    bool ascii_plain[128]; /* no key is this character */
} precompiled;

/* ---- the map ---- */

static uint32_t unit_offset(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The replacement for the shortest key that s begins with; false if none does. */
static bool look_up(const precompiled *p, const char *s, size_t n, const char **replacement, size_t *length)
{
    if (p->unit_count == 0)
        return false;
    size_t at = unit_offset(p->units[0]);
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)s[i];
        at ^= byte;
        if (byte == 0 || at >= p->unit_count)
            return false;
        uint32_t unit = p->units[at];
        if ((unit & (1u << 31 | 0xFF)) != byte)
            return false;
        at ^= unit_offset(unit);
        if (!(unit >> 8 & 1))
            continue;
        if (at >= p->unit_count)
            return false;
        size_t value = p->units[at] & 0x7FFFFFFFu;
        if (value > p->blob_length ||
            (value < p->blob_length && ((unsigned char)p->blob[value] & 0xC0) == 0x80))
            return false; /* not the beginning of a text */
        *replacement = p->blob + value;
        const char *end = memchr(*replacement, 0, p->blob_length - value);
        *length = end != NULL ? (size_t)(end - *replacement) : p->blob_length - value;
        return true;
    }
    return false;
}

/* ---- grapheme clusters ---- */

/* What of the text behind a boundary matters for the next one. */
typedef struct cluster_state {
    uint8_t class;     /* of the last character */
    uint8_t pictogram; /* 1: pictographic and marks, 2: and then a joiner */
    uint8_t conjunct;  /* 1: consonant and marks, 2: with a linker among them */
} cluster_state;

static void cluster_step(cluster_state *state, const emb_unicode_info *info)
{
    if (info->grapheme == EMB_GRAPHEME_PICTOGRAPHIC)
        state->pictogram = 1;
    else if (info->grapheme == EMB_GRAPHEME_ZWJ && state->pictogram == 1)
        state->pictogram = 2;
    else if (info->grapheme != EMB_GRAPHEME_EXTEND || state->pictogram == 2)
        state->pictogram = 0;
    if (info->conjunct == EMB_CONJUNCT_CONSONANT)
        state->conjunct = 1;
    else if (info->conjunct == EMB_CONJUNCT_LINKER && state->conjunct != 0)
        state->conjunct = 2;
    else if (info->conjunct != EMB_CONJUNCT_EXTEND)
        state->conjunct = 0;
    state->class = info->grapheme;
}

/* Whether the next character belongs to the cluster (UAX 29, GB3 to GB11). */
static bool cluster_joins(const cluster_state *state, const emb_unicode_info *next)
{
    uint8_t a = state->class, b = next->grapheme;
    if (a == EMB_GRAPHEME_CR)
        return b == EMB_GRAPHEME_LF;
    if (a == EMB_GRAPHEME_LF || a == EMB_GRAPHEME_CONTROL || b == EMB_GRAPHEME_CR || b == EMB_GRAPHEME_LF ||
        b == EMB_GRAPHEME_CONTROL)
        return false;
    if (b == EMB_GRAPHEME_EXTEND || b == EMB_GRAPHEME_ZWJ || b == EMB_GRAPHEME_SPACING_MARK ||
        a == EMB_GRAPHEME_PREPEND)
        return true;
    if (a == EMB_GRAPHEME_L)
        return b == EMB_GRAPHEME_L || b == EMB_GRAPHEME_V || b == EMB_GRAPHEME_LV || b == EMB_GRAPHEME_LVT;
    if (a == EMB_GRAPHEME_LV || a == EMB_GRAPHEME_V)
        return b == EMB_GRAPHEME_V || b == EMB_GRAPHEME_T;
    if (a == EMB_GRAPHEME_LVT || a == EMB_GRAPHEME_T)
        return b == EMB_GRAPHEME_T;
    if (state->conjunct == 2 && next->conjunct == EMB_CONJUNCT_CONSONANT)
        return true;
    return state->pictogram == 2 && b == EMB_GRAPHEME_PICTOGRAPHIC;
}

/* The end of the cluster that starts at `at`. */
static size_t cluster_end(const char *s, size_t n, size_t at)
{
    uint32_t c;
    cluster_state state = {0};
    at += emb_utf8_next(s + at, &c);
    if (at == n || (c < 0x80 && c != '\r' && (unsigned char)s[at] < 0x80))
        return at;
    cluster_step(&state, emb_unicode_lookup(c));
    while (at < n) {
        size_t size = emb_utf8_next(s + at, &c);
        const emb_unicode_info *info = emb_unicode_lookup(c);
        if (!cluster_joins(&state, info))
            break;
        cluster_step(&state, info);
        at += size;
    }
    return at;
}

/* ---- rewriting ---- */

/* Characters go out one late: a removal counts on the character before it. */
typedef struct rewriter {
    const precompiled *map;
    emb_transform to;
    bool held;
    uint32_t c;
    long change;
} rewriter;

static emb_status push(rewriter *r, uint32_t c, long change)
{
    emb_status status = r->held ? emb_transform_put(&r->to, r->c, r->change) : EMB_OK;
    r->held = true;
    r->c = c;
    r->change = change;
    return status;
}

static long count_characters(const char *s, size_t n)
{
    long count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xC0) != 0x80;
    return count;
}

/* [begin, end) of the input becomes `replacement`. */
static emb_status replace(rewriter *r, size_t begin, size_t end, const char *replacement, size_t length)
{
    emb_span_text *out = r->to.out;
    if (!out->with_align)
        return emb_span_text_add(out, replacement, length, 0, 0);
    long before = count_characters(r->to.in->data + begin, end - begin);
    long after = count_characters(replacement, length);
    emb_status status = EMB_OK;
    long number = 0;
    for (size_t i = 0; i < length && status == EMB_OK; number++) {
        uint32_t c;
        i += emb_utf8_next(replacement + i, &c);
        status = push(r, c, number >= before ? 1 : 0);
    }
    if (after < before && r->held)
        r->change += after - before;
    return status;
}

static emb_status keep(rewriter *r, size_t begin, size_t end)
{
    if (!r->to.out->with_align)
        return emb_span_text_add(r->to.out, r->to.in->data + begin, end - begin, 0, 0);
    emb_status status = EMB_OK;
    while (begin < end && status == EMB_OK) {
        uint32_t c;
        begin += emb_utf8_next(r->to.in->data + begin, &c);
        status = push(r, c, 0);
    }
    return status;
}

static emb_status rewrite_cluster(rewriter *r, size_t begin, size_t end)
{
    const char *s = r->to.in->data, *replacement;
    size_t length;
    if (end - begin < 6 && look_up(r->map, s + begin, end - begin, &replacement, &length))
        return replace(r, begin, end, replacement, length);
    emb_status status = EMB_OK;
    for (size_t i = begin, size; i < end && status == EMB_OK; i += size) {
        size = emb_utf8_size(s[i]);
        if (look_up(r->map, s + i, size, &replacement, &length))
            status = replace(r, i, i + size, replacement, length);
        else
            status = keep(r, i, i + size);
    }
    return status;
}

/* The end of the text from `at` on that is ASCII without a key; the last ASCII character before
 * something else is left to the cluster rules. */
static size_t plain_run(const precompiled *p, const char *s, size_t n, size_t at)
{
    size_t i = at;
    while (i < n && (unsigned char)s[i] < 0x80 && p->ascii_plain[(unsigned char)s[i]])
        i++;
    if (i > at && i < n && (unsigned char)s[i] >= 0x80)
        i--;
    return i;
}

static emb_status precompiled_apply(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                                    emb_error *err)
{
    const precompiled *p = (const precompiled *)self;
    size_t n = text->length, at = plain_run(p, text->data, n, 0);
    if (at == n)
        return EMB_OK;
    rewriter r = {.map = p, .to = {spare, text, 0}};
    emb_span_text_clear(spare);
    emb_status status = emb_span_text_reserve(spare, n + n / 8);
    if (status == EMB_OK)
        status = keep(&r, 0, at);
    while (at < n && status == EMB_OK) {
        size_t end = cluster_end(text->data, n, at);
        status = rewrite_cluster(&r, at, end);
        at = end;
        if (status != EMB_OK || at == n)
            break;
        end = plain_run(p, text->data, n, at);
        if (end > at)
            status = keep(&r, at, end);
        at = end;
    }
    if (status == EMB_OK && r.held)
        status = emb_transform_put(&r.to, r.c, r.change);
    if (status != EMB_OK)
        return emb_fail_nomem(err, "normalized text", n);
    emb_span_text_swap(text, spare);
    return EMB_OK;
}

/* ---- loading ---- */

emb_status emb_precompiled_from_bytes(const void *bytes, size_t length, emb_arena *arena, const char *where,
                                      emb_normalizer **out, emb_error *err)
{
    const unsigned char *b = bytes;
    if (length < 4)
        return emb_fail(err, EMB_E_CORRUPT, where,
                        "precompiled_charsmap has %zu bytes, at least 4 are needed", length);
    size_t trie_bytes = b[0] | (size_t)b[1] << 8 | (size_t)b[2] << 16 | (size_t)b[3] << 24;
    size_t units = trie_bytes / 4;
    if (units > (length - 4) / 4)
        return emb_fail(err, EMB_E_CORRUPT, where,
                        "precompiled_charsmap declares a trie of %zu bytes but has %zu", trie_bytes,
                        length - 4);
    const unsigned char *blob = b + 4 + units * 4;
    size_t blob_length = length - 4 - units * 4;
    if (emb_utf8_valid_prefix((const char *)blob, blob_length) != blob_length)
        return emb_fail(err, EMB_E_CORRUPT, where,
                        "precompiled_charsmap holds replacements that are not UTF-8");
    precompiled *p = emb_arena_calloc(arena, 1, sizeof *p);
    uint32_t *copied = emb_arena_calloc(arena, units ? units : 1, sizeof *copied);
    char *text = emb_arena_strndup(arena, (const char *)blob, blob_length);
    if (p == NULL || copied == NULL || text == NULL)
        return emb_fail_nomem(err, "precompiled_charsmap", length);
    for (size_t i = 0; i < units; i++) {
        const unsigned char *u = b + 4 + i * 4;
        copied[i] = u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
    }
    *p = (precompiled){.base = {"Precompiled", precompiled_apply, NULL},
                       .units = copied,
                       .unit_count = units,
                       .blob = text,
                       .blob_length = blob_length};
    for (unsigned c = 0; c < 128; c++) {
        char character = (char)c;
        const char *replacement;
        size_t size;
        p->ascii_plain[c] = c != '\r' && !look_up(p, &character, 1, &replacement, &size);
    }
    *out = &p->base;
    return EMB_OK;
}

static int base64_value(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Standard base64 with padding; false if text is not that. out has room for length / 4 * 3. */
static bool base64_decode(const char *text, size_t length, unsigned char *out, size_t *out_length)
{
    size_t n = 0, padding = 0;
    if (length % 4 != 0)
        return false;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < length; i += 4) {
        uint32_t word = 0;
        for (size_t j = 0; j < 4; j++) {
            bool pad = i + j >= length - padding;
            int value = pad ? 0 : base64_value((unsigned char)text[i + j]);
            if (value < 0)
                return false;
            word = word << 6 | (uint32_t)value;
        }
        out[n++] = (unsigned char)(word >> 16);
        out[n++] = (unsigned char)(word >> 8);
        out[n++] = (unsigned char)word;
    }
    *out_length = n - padding;
    return true;
}

emb_status emb_parse_precompiled(emb_json_value json, emb_arena *arena, const char *where,
                                 emb_normalizer **out, emb_error *err)
{
    emb_json_value value;
    const char *text;
    size_t length, decoded_length;
    if (!emb_json_get(json, "precompiled_charsmap", &value) || !emb_json_string(value, &text, &length))
        return emb_fail(err, EMB_E_CORRUPT, where, "precompiled_charsmap is missing or not a string");
    unsigned char *decoded = emb_arena_alloc(arena, length / 4 * 3 + 1);
    if (decoded == NULL)
        return emb_fail_nomem(err, "precompiled_charsmap", length);
    if (!base64_decode(text, length, decoded, &decoded_length))
        return emb_fail(err, EMB_E_CORRUPT, where, "precompiled_charsmap is not base64");
    return emb_precompiled_from_bytes(decoded, decoded_length, arena, where, out, err);
}
