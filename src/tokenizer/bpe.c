/*
 * bpe.c: byte pair encoding: a word's characters are merged pair by pair, the earliest learnt pair first.
 *
 * Symbols form a linked list; a binary heap holds the candidate merges by (rank, position), so a word of
 * n characters takes O(n log n) however long it is. A candidate that a later merge has spoiled is noticed
 * when it comes up: the pair that stands there now must lead to the same token. Merges are looked up in
 * one open-addressed table by pair of ids. Words come from a cache when they were seen lately, which
 * answers most of them; the rest pays about as much for the vocabulary walk as for the merges.
 *
 * What the reference does with characters that the vocabulary lacks is kept in all its turns: tokens of
 * bytes, an unknown token (one for each, or fused), or nothing at all; and an unknown token that waits to
 * be fused comes behind bytes that follow it.
 */
#include "base/error.h"
#include "tokenizer/parts.h"
#include "tokenizer/transform.h"
#include "tokenizer/vocab.h"
#include "tokenizer/word_cache.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef struct merge_rule {
    uint64_t pair; /* left id << 32 | right id; NO_PAIR: empty slot */
    uint32_t rank;
    int32_t id; /* what the two become */
} merge_rule;

#define NO_PAIR UINT64_MAX

typedef struct bpe {
    emb_vocab_model base;
    emb_vocab vocab;
    merge_rule *merges;
    size_t merge_mask;
    const char *prefix, *suffix; /* of continuing subwords, of a word's end */
    size_t prefix_length, suffix_length;
    bool has_unk, fuse_unk, byte_fallback, ignore_merges;
    int32_t unk_id;        /* -1: named, but not in the vocabulary */
    int32_t byte_ids[256]; /* -1: absent */
    uint64_t serial;       /* tells scratch of one model from that of another */
} bpe;

typedef struct symbol {
    int32_t id;
    int32_t previous, next; /* -1: none */
    uint32_t length;        /* bytes of the word; 0: merged into another */
} symbol;

/* A merge that may be possible. */
typedef struct candidate {
    uint64_t order; /* rank << 32 | position of the left symbol */
    int32_t id;
} candidate;

typedef struct scratch {
    uint64_t serial;
    symbol *symbols;
    size_t symbol_count, symbol_capacity;
    candidate *heap;
    size_t heap_count, heap_capacity;
    emb_word_cache cache;
} scratch;

/* ---- scratch ---- */

static void scratch_free(void *memory)
{
    scratch *s = memory;
    if (s == NULL)
        return;
    free(s->symbols);
    free(s->heap);
    free(s);
}

static scratch *scratch_for(const bpe *b, void **memory)
{
    scratch *s = *memory;
    if (s != NULL && s->serial == b->serial)
        return s;
    scratch_free(s);
    s = *memory = calloc(1, sizeof *s);
    if (s != NULL)
        s->serial = b->serial;
    return s;
}

static emb_status add_symbol(scratch *s, int32_t id, uint32_t length)
{
    if (s->symbol_count == s->symbol_capacity) {
        size_t capacity = s->symbol_capacity ? s->symbol_capacity * 2 : 64;
        symbol *symbols = realloc(s->symbols, capacity * sizeof *symbols);
        if (symbols == NULL)
            return EMB_E_NOMEM;
        s->symbols = symbols;
        s->symbol_capacity = capacity;
    }
    if (s->symbol_count >= INT32_MAX)
        return EMB_E_NOMEM;
    int32_t at = (int32_t)s->symbol_count++;
    if (at > 0)
        s->symbols[at - 1].next = at;
    s->symbols[at] = (symbol){id, at - 1, -1, length};
    return EMB_OK;
}

/* ---- characters ---- */

/* The id of a character as the vocabulary writes it at this place of a word, -1 if it has none. */
static int32_t character_id(const bpe *b, const char *c, size_t size, bool first, bool last)
{
    uint32_t node = EMB_TRIE_ROOT;
    const char *parts[] = {b->prefix, c, b->suffix};
    size_t lengths[] = {first ? 0 : b->prefix_length, size, last ? b->suffix_length : 0};
    for (int part = 0; part < 3; part++)
        for (size_t i = 0; i < lengths[part]; i++) {
            node = emb_trie_step(&b->vocab.trie, node, (unsigned char)parts[part][i]);
            if (node == 0)
                return -1;
        }
    return emb_trie_value(&b->vocab.trie, node);
}

/* Adds the bytes of a character (with prefix and suffix) as tokens; *done is false if one is missing. */
static emb_status add_bytes(const bpe *b, scratch *s, const char *c, size_t size, bool first, bool last,
                            bool *done)
{
    const char *parts[] = {b->prefix, c, b->suffix};
    size_t lengths[] = {first ? 0 : b->prefix_length, size, last ? b->suffix_length : 0};
    emb_status status = EMB_OK;
    *done = false;
    for (int part = 0; part < 3; part++)
        for (size_t i = 0; i < lengths[part]; i++)
            if (b->byte_ids[(unsigned char)parts[part][i]] < 0)
                return EMB_OK;
    *done = true;
    for (int part = 0; part < 3; part++)
        for (size_t i = 0; i < lengths[part] && status == EMB_OK; i++)
            status = add_symbol(s, b->byte_ids[(unsigned char)parts[part][i]], 1);
    return status;
}

/* Fills s->symbols with the word's characters. */
static emb_status spell(const bpe *b, const char *text, uint32_t length, scratch *s, emb_error *err)
{
    emb_status status = EMB_OK;
    uint32_t unknown = 0; /* bytes of the unknown token that waits */
    s->symbol_count = 0;
    for (uint32_t i = 0, size; i < length && status == EMB_OK; i += size) {
        size = (uint32_t)emb_utf8_size(text[i]);
        bool first = i == 0, last = i + size >= length, done = false;
        int32_t id = character_id(b, text + i, size, first, last);
        if (id < 0 && b->byte_fallback)
            status = add_bytes(b, s, text + i, size, first, last, &done);
        if (done || status != EMB_OK || (id < 0 && !b->has_unk))
            continue;
        if (id < 0 && b->unk_id < 0)
            return emb_fail(err, EMB_E_CORRUPT, "model.unk_token",
                            "the unknown token is not in the vocabulary");
        if (unknown > 0 && (id >= 0 || !b->fuse_unk)) {
            status = add_symbol(s, b->unk_id, unknown);
            unknown = 0;
        }
        if (id < 0)
            unknown += size;
        else if (status == EMB_OK)
            status = add_symbol(s, id, size);
    }
    if (unknown > 0 && status == EMB_OK)
        status = add_symbol(s, b->unk_id, unknown);
    return status == EMB_OK ? EMB_OK : emb_fail_nomem(err, "tokenizer scratch", length);
}

/* ---- merges ---- */

static const merge_rule *find_merge(const bpe *b, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = (size_t)emb_hash_mix(pair ^ 0x9E3779B97F4A7C15u, 0xD6E8FEB86659FD93u) & b->merge_mask;
    for (;; at = (at + 1) & b->merge_mask) {
        if (b->merges[at].pair == pair)
            return &b->merges[at];
        if (b->merges[at].pair == NO_PAIR)
            return NULL;
    }
}

static emb_status heap_push(scratch *s, candidate c)
{
    if (s->heap_count == s->heap_capacity) {
        size_t capacity = s->heap_capacity ? s->heap_capacity * 2 : 64;
        candidate *heap = realloc(s->heap, capacity * sizeof *heap);
        if (heap == NULL)
            return EMB_E_NOMEM;
        s->heap = heap;
        s->heap_capacity = capacity;
    }
    size_t at = s->heap_count++;
    for (; at > 0 && s->heap[(at - 1) / 2].order > c.order; at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = c;
    return EMB_OK;
}

static candidate heap_pop(scratch *s)
{
    candidate top = s->heap[0], moving = s->heap[--s->heap_count];
    size_t at = 0, count = s->heap_count;
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && s->heap[child + 1].order < s->heap[child].order)
            child++;
        if (moving.order <= s->heap[child].order)
            break;
        s->heap[at] = s->heap[child];
    }
    s->heap[at] = moving;
    return top;
}

/* Makes the pair at symbol `left` a candidate if it can merge. */
static emb_status consider(const bpe *b, scratch *s, int32_t left)
{
    if (left < 0 || s->symbols[left].next < 0)
        return EMB_OK;
    const merge_rule *rule = find_merge(b, s->symbols[left].id, s->symbols[s->symbols[left].next].id);
    if (rule == NULL)
        return EMB_OK;
    return heap_push(s, (candidate){(uint64_t)rule->rank << 32 | (uint32_t)left, rule->id});
}

static emb_status merge_all(const bpe *b, scratch *s)
{
    emb_status status = EMB_OK;
    s->heap_count = 0;
    for (size_t i = 0; i + 1 < s->symbol_count && status == EMB_OK; i++)
        status = consider(b, s, (int32_t)i);
    while (s->heap_count > 0 && status == EMB_OK) {
        candidate c = heap_pop(s);
        int32_t at = (int32_t)(uint32_t)c.order;
        symbol *left = &s->symbols[at];
        if (left->length == 0 || left->next < 0)
            continue;
        symbol *right = &s->symbols[left->next];
        const merge_rule *rule = find_merge(b, left->id, right->id);
        if (rule == NULL || rule->id != c.id)
            continue;
        left->id = c.id;
        left->length += right->length;
        left->next = right->next;
        right->length = 0;
        if (left->next >= 0)
            s->symbols[left->next].previous = at;
        status = consider(b, s, left->previous);
        if (status == EMB_OK)
            status = consider(b, s, at);
    }
    return status;
}

/* ---- tokens ---- */

static emb_status emit(const scratch *s, uint32_t base, uint32_t length, emb_word_entry *entry,
                       const char *text, emb_token_sink *sink)
{
    int32_t ids[EMB_WORD_TOKENS];
    uint32_t ends[EMB_WORD_TOKENS], begin = 0;
    size_t count = 0;
    emb_status status = EMB_OK;
    for (size_t i = 0; i < s->symbol_count && status == EMB_OK; i++) {
        const symbol *one = &s->symbols[i];
        if (one->length == 0)
            continue;
        /* Byte tokens of a prefix or suffix count more bytes than the word has. */
        uint32_t end = one->length < length - begin ? begin + one->length : length;
        status = emb_token_sink_add(sink, one->id, base + begin, base + end);
        if (count < EMB_WORD_TOKENS) {
            ids[count] = one->id;
            ends[count] = end;
        }
        count++;
        begin = end;
    }
    if (status == EMB_OK && entry != NULL)
        emb_word_entry_set(entry, text, length, ids, ends, count);
    return status;
}

static emb_status replay(const emb_word_entry *entry, uint32_t base, emb_token_sink *sink)
{
    emb_status status = emb_token_sink_reserve(sink, entry->count);
    uint32_t begin = base;
    for (size_t i = 0; i < entry->count && status == EMB_OK; i++) {
        status = emb_token_sink_add(sink, entry->ids[i], begin, base + entry->ends[i]);
        begin = base + entry->ends[i];
    }
    return status;
}

static emb_status bpe_tokenize(const emb_vocab_model *model, const char *text, uint32_t length, uint32_t base,
                               void **memory, emb_token_sink *sink, emb_error *err)
{
    const bpe *b = (const bpe *)model;
    scratch *s = scratch_for(b, memory);
    if (s == NULL)
        return emb_fail_nomem(err, "tokenizer scratch", sizeof *s);
    if (length == 0)
        return EMB_OK;
    emb_word_entry *entry = emb_word_cache_slot(&s->cache, text, length);
    emb_status status;
    if (entry != NULL && emb_word_entry_is(entry, text, length)) {
        status = replay(entry, base, sink);
        return status == EMB_OK ? EMB_OK : emb_fail_nomem(err, "tokens", sink->count);
    }
    int32_t whole = b->ignore_merges ? emb_trie_find(&b->vocab.trie, text, length) : -1;
    if (whole >= 0) {
        s->symbol_count = 0;
        status = add_symbol(s, whole, length);
    } else {
        status = spell(b, text, length, s, err);
        if (status != EMB_OK)
            return status;
        status = merge_all(b, s);
    }
    if (status == EMB_OK)
        status = emit(s, base, length, entry, text, sink);
    return status == EMB_OK ? EMB_OK : emb_fail_nomem(err, "tokens", sink->count);
}

/* ---- vocabulary ---- */

static size_t bpe_size(const emb_vocab_model *model)
{
    return ((const bpe *)model)->vocab.size;
}

static size_t bpe_entries(const emb_vocab_model *model)
{
    return ((const bpe *)model)->vocab.entries;
}

static int32_t bpe_id(const emb_vocab_model *model, const char *token, size_t length)
{
    return emb_trie_find(&((const bpe *)model)->vocab.trie, token, length);
}

static const char *bpe_token(const emb_vocab_model *model, int32_t id, size_t *length)
{
    return emb_vocab_text(&((const bpe *)model)->vocab, id, length);
}

static void bpe_release(emb_vocab_model *model)
{
    bpe *b = (bpe *)model;
    emb_vocab_fini(&b->vocab);
    free(b->merges);
    b->merges = NULL;
}

/* ---- loading ---- */

static void add_merge(bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = (size_t)emb_hash_mix(pair ^ 0x9E3779B97F4A7C15u, 0xD6E8FEB86659FD93u) & b->merge_mask;
    while (b->merges[at].pair != NO_PAIR && b->merges[at].pair != pair)
        at = (at + 1) & b->merge_mask;
    b->merges[at] = (merge_rule){pair, rank, id}; /* of equal pairs the last one counts */
}

/* The two parts of a merge: "a b", or ["a", "b"]. */
static bool read_merge(emb_json_value json, const char *parts[2], size_t lengths[2])
{
    emb_json_value value;
    const char *text;
    size_t length;
    if (emb_json_string(json, &text, &length)) {
        const char *space = memchr(text, ' ', length);
        if (space == NULL || memchr(space + 1, ' ', (size_t)(text + length - space - 1)) != NULL)
            return false;
        parts[0] = text;
        lengths[0] = (size_t)(space - text);
        parts[1] = space + 1;
        lengths[1] = length - lengths[0] - 1;
        return true;
    }
    emb_json_iter it = emb_json_begin(json);
    if (emb_json_type_of(json) != EMB_JSON_ARRAY || emb_json_count(json) != 2)
        return false;
    for (int i = 0; i < 2; i++)
        if (!emb_json_next(&it, NULL, NULL, &value) || !emb_json_string(value, &parts[i], &lengths[i]))
            return false;
    return true;
}

/* The id of left + right without its prefix, -1 if the vocabulary lacks it. */
static int32_t merged_id(const bpe *b, const char *parts[2], const size_t lengths[2])
{
    uint32_t node;
    if (lengths[1] < b->prefix_length || !emb_trie_prefix(&b->vocab.trie, parts[0], lengths[0], &node))
        return -1;
    for (size_t i = b->prefix_length; i < lengths[1]; i++) {
        node = emb_trie_step(&b->vocab.trie, node, (unsigned char)parts[1][i]);
        if (node == 0)
            return -1;
    }
    return emb_trie_value(&b->vocab.trie, node);
}

static emb_status read_merges(bpe *b, emb_json_value json, const char *where, emb_error *err)
{
    emb_json_value value;
    size_t count = emb_json_count(json), slots = 16;
    const char *text;
    size_t length;
    uint32_t rank = 0;
    if (count > 1u << 28)
        return emb_fail(err, EMB_E_LIMIT, where, "merges has %zu entries, the limit is %u", count, 1u << 28);
    while (slots < 2 * count)
        slots *= 2;
    b->merges = malloc(slots * sizeof *b->merges);
    if (b->merges == NULL)
        return emb_fail_nomem(err, "merges", slots * sizeof *b->merges);
    for (size_t i = 0; i < slots; i++)
        b->merges[i].pair = NO_PAIR;
    b->merge_mask = slots - 1;
    for (emb_json_iter it = emb_json_begin(json); emb_json_next(&it, NULL, NULL, &value);) {
        const char *parts[2];
        size_t lengths[2];
        if (emb_json_string(value, &text, &length) && length >= 8 && memcmp(text, "#version", 8) == 0)
            continue;
        if (!read_merge(value, parts, lengths))
            return emb_fail(err, EMB_E_CORRUPT, where, "merges[%u] is not a pair of tokens", rank);
        int32_t left = emb_trie_find(&b->vocab.trie, parts[0], lengths[0]);
        int32_t right = emb_trie_find(&b->vocab.trie, parts[1], lengths[1]);
        int32_t id = merged_id(b, parts, lengths);
        if (left < 0 || right < 0 || id < 0)
            return emb_fail(err, EMB_E_CORRUPT, where,
                            "merges[%u] names a token that vocab lacks: \"%.*s\" + \"%.*s\"", rank,
                            (int)(lengths[0] < 64 ? lengths[0] : 64), parts[0],
                            (int)(lengths[1] < 64 ? lengths[1] : 64), parts[1]);
        add_merge(b, left, right, rank++, id);
    }
    return EMB_OK;
}

static emb_status read_flag(emb_json_value json, const char *key, const char *where, bool *out,
                            emb_error *err)
{
    emb_json_value value;
    if (!emb_json_get(json, key, &value) || emb_json_type_of(value) == EMB_JSON_NULL ||
        emb_json_bool(value, out))
        return EMB_OK;
    return emb_fail(err, EMB_E_CORRUPT, where, "%s is %s, true or false is needed", key,
                    emb_json_type_name(emb_json_type_of(value)));
}

/* A string of the arena; NULL with length 0 if absent or null. */
static emb_status read_text(emb_json_value json, const char *key, emb_arena *arena, const char *where,
                            const char **out, size_t *length, emb_error *err)
{
    emb_json_value value;
    const char *text;
    *out = NULL;
    *length = 0;
    if (!emb_json_get(json, key, &value) || emb_json_type_of(value) == EMB_JSON_NULL)
        return EMB_OK;
    if (!emb_json_string(value, &text, length))
        return emb_fail(err, EMB_E_CORRUPT, where, "%s is %s, a string is needed", key,
                        emb_json_type_name(emb_json_type_of(value)));
    *out = emb_arena_strndup(arena, text, *length);
    return *out != NULL ? EMB_OK : emb_fail_nomem(err, key, *length);
}

static emb_status read_options(bpe *b, emb_json_value json, emb_arena *arena, const char *where,
                               emb_error *err)
{
    emb_json_value value;
    double dropout = 0;
    if (emb_json_get(json, "dropout", &value) && emb_json_double(value, &dropout) && dropout != 0)
        return emb_fail(err, EMB_E_UNSUPPORTED, where,
                        "dropout %g makes tokens random, which is not supported", dropout);
    emb_status status = read_flag(json, "fuse_unk", where, &b->fuse_unk, err);
    if (status == EMB_OK)
        status = read_flag(json, "byte_fallback", where, &b->byte_fallback, err);
    if (status == EMB_OK)
        status = read_flag(json, "ignore_merges", where, &b->ignore_merges, err);
    if (status == EMB_OK)
        status =
            read_text(json, "continuing_subword_prefix", arena, where, &b->prefix, &b->prefix_length, err);
    if (status == EMB_OK)
        status = read_text(json, "end_of_word_suffix", arena, where, &b->suffix, &b->suffix_length, err);
    return status;
}

static emb_status read_unknown(bpe *b, emb_json_value json, emb_arena *arena, const char *where,
                               emb_error *err)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *unk;
    size_t length;
    emb_status status = read_text(json, "unk_token", arena, where, &unk, &length, err);
    b->has_unk = unk != NULL;
    b->unk_id = unk != NULL ? emb_trie_find(&b->vocab.trie, unk, length) : -1;
    for (unsigned byte = 0; byte < 256; byte++) {
        char piece[] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        b->byte_ids[byte] = emb_trie_find(&b->vocab.trie, piece, sizeof piece);
    }
    return status;
}

emb_status emb_bpe_parse(emb_json_value json, emb_arena *arena, const char *where, emb_vocab_model **out,
                         emb_error *err)
{
    static atomic_uint_least64_t serials = 1;
    emb_json_value value;
    bpe *b = emb_arena_calloc(arena, 1, sizeof *b);
    if (b == NULL)
        return emb_fail_nomem(err, "BPE model", sizeof *b);
    b->base = (emb_vocab_model){"BPE",       bpe_tokenize, scratch_free, bpe_size,
                                bpe_entries, bpe_id,       bpe_token,    bpe_release};
    b->serial = atomic_fetch_add(&serials, 1);
    emb_status status = read_options(b, json, arena, where, err);
    if (status != EMB_OK)
        return status;
    if (!emb_json_get(json, "vocab", &value))
        return emb_fail(err, EMB_E_CORRUPT, where, "vocab is missing");
    status = emb_vocab_parse(&b->vocab, value, arena, where, err);
    if (status != EMB_OK)
        return status;
    status = read_unknown(b, json, arena, where, err);
    if (status == EMB_OK &&
        (!emb_json_get(json, "merges", &value) || emb_json_type_of(value) != EMB_JSON_ARRAY))
        status = emb_fail(err, EMB_E_CORRUPT, where, "merges is missing or not an array");
    if (status == EMB_OK)
        status = read_merges(b, value, where, err);
    if (status == EMB_OK)
        *out = &b->base;
    else
        bpe_release(&b->base);
    return status;
}
