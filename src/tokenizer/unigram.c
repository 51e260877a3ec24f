/*
 * unigram.c: the Unigram model of SentencePiece: the segmentation whose pieces' scores sum highest.
 *
 * Viterbi over byte positions: from each character's start a trie gives all pieces that begin there; each
 * position keeps the best sum that ends in it and where that last piece began. Sums are doubles added in
 * the reference's order and a later path must be strictly better, so ties fall as they do there. A
 * character without a piece of its own may be crossed at (lowest score - 10); neighbouring such
 * characters become one unknown token, or, with byte_fallback, tokens of their bytes.
 *
 * Time is linear in the text for a given vocabulary (the trie's depth bounds each walk). Words come from
 * a cache when they were seen lately. All scratch is kept in one object per encoding.
 */
#include "base/error.h"
#include "tokenizer/parts.h"
#include "tokenizer/piece_trie.h"
#include "tokenizer/transform.h"
#include "tokenizer/word_cache.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct unigram {
    emb_vocab_model base;
    emb_piece_trie trie;
    const char *text;       /* all pieces, one behind the other */
    const uint32_t *begins; /* count + 1 */
    const double *scores;
    size_t count;
    int32_t unk_id; /* -1: none */
    double unk_score;
    bool byte_fallback;
    int32_t byte_ids[256]; /* -1: absent */
    uint64_t serial;       /* tells scratch of one model from that of another */
} unigram;

/* The best way to reach a position. */
typedef struct reach {
    double score;
    uint32_t start;
    int32_t id; /* -1: not reached */
} reach;

typedef struct scratch {
    uint64_t serial;
    reach *best;
    int32_t *ids; /* tokens of a piece, last first */
    uint32_t *begins;
    size_t capacity;
    emb_word_cache cache;
} scratch;

/* ---- scratch ---- */

static void scratch_free(void *memory)
{
    scratch *s = memory;
    if (s == NULL)
        return;
    free(s->best);
    free(s->ids);
    free(s->begins);
    free(s);
}

static scratch *scratch_for(const unigram *u, void **memory)
{
    scratch *s = *memory;
    if (s != NULL && s->serial == u->serial)
        return s;
    scratch_free(s);
    s = *memory = calloc(1, sizeof *s);
    if (s != NULL)
        s->serial = u->serial;
    return s;
}

/* Room for a piece of `length` bytes. */
static bool scratch_reserve(scratch *s, size_t length)
{
    if (length < s->capacity)
        return true;
    size_t capacity = s->capacity ? s->capacity : 64;
    while (capacity <= length)
        capacity *= 2;
    reach *best = realloc(s->best, capacity * sizeof *best);
    if (best != NULL)
        s->best = best;
    int32_t *ids = realloc(s->ids, capacity * sizeof *ids);
    if (ids != NULL)
        s->ids = ids;
    uint32_t *begins = realloc(s->begins, capacity * sizeof *begins);
    if (begins != NULL)
        s->begins = begins;
    if (best == NULL || ids == NULL || begins == NULL)
        return false;
    s->capacity = capacity;
    return true;
}

/* ---- search ---- */

static inline void offer(reach *at, double score, uint32_t start, int32_t id)
{
    if (at->id < 0 || score > at->score)
        *at = (reach){score, start, id};
}

/* Fills s->best[1 .. length]; false if a character cannot be crossed. */
static bool search(const unigram *u, const char *text, uint32_t length, scratch *s)
{
    reach *best = s->best;
    for (uint32_t i = 0; i <= length; i++)
        best[i].id = -1;
    best[0] = (reach){0.0, 0, 0};
    for (uint32_t start = 0; start < length;) {
        double score = best[start].score;
        uint32_t size = (uint32_t)emb_utf8_size(text[start]);
        bool single = false;
        emb_piece_walk walk = emb_piece_walk_begin(&u->trie, text + start, length - start);
        while (emb_piece_walk_next(&walk)) {
            offer(&best[start + walk.length], score + u->scores[walk.id], start, walk.id);
            single |= walk.length == size;
        }
        if (!single) {
            reach *at = &best[start + size];
            if (u->unk_id >= 0)
                offer(at, score + u->unk_score, start, u->unk_id);
            else if (at->id < 0 || score + u->unk_score > at->score)
                return false;
        }
        start += size;
    }
    return true;
}

/* The best path as tokens in s->ids and s->begins, last first, unknown neighbours fused. A path may cross
 * a character's inside only where pieces do, which begin at characters; so every start was reached. */
static size_t trace(const unigram *u, uint32_t length, scratch *s)
{
    size_t count = 0;
    bool fusing = false;
    for (uint32_t end = length; end > 0; end = s->best[end].start) {
        const reach *at = &s->best[end];
        bool unknown = at->id == u->unk_id;
        if (!(unknown && fusing))
            count++;
        s->ids[count - 1] = at->id;
        s->begins[count - 1] = at->start;
        fusing = unknown;
    }
    return count;
}

/* ---- tokens ---- */

/* Appends one token of the path; *plain is cleared if that is not exactly one token. */
static emb_status emit(const unigram *u, const char *text, int32_t id, uint32_t begin, uint32_t end,
                       uint32_t base, emb_token_sink *sink, int32_t *final_id, bool *plain)
{
    *final_id = id;
    if (id == u->unk_id) {
        int32_t known = emb_piece_trie_find(&u->trie, text + begin, end - begin);
        bool bytes = known < 0 && u->byte_fallback;
        for (uint32_t i = begin; i < end && bytes; i++)
            bytes = u->byte_ids[(unsigned char)text[i]] >= 0;
        if (bytes) {
            emb_status status = EMB_OK;
            *plain = false;
            for (uint32_t i = begin; i < end && status == EMB_OK; i++)
                status =
                    emb_token_sink_add(sink, u->byte_ids[(unsigned char)text[i]], base + begin, base + end);
            return status;
        }
        if (known >= 0)
            *final_id = known;
    }
    return emb_token_sink_add(sink, *final_id, base + begin, base + end);
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

static emb_status unigram_tokenize(const emb_vocab_model *model, const char *text, uint32_t length,
                                   uint32_t base, void **memory, emb_token_sink *sink, emb_error *err)
{
    const unigram *u = (const unigram *)model;
    scratch *s = scratch_for(u, memory);
    if (s == NULL)
        return emb_fail_nomem(err, "tokenizer scratch", sizeof *s);
    if (length == 0)
        return EMB_OK;
    emb_word_entry *entry = emb_word_cache_slot(&s->cache, text, length);
    emb_status status = EMB_OK;
    if (entry != NULL && emb_word_entry_is(entry, text, length)) {
        status = replay(entry, base, sink);
        return status == EMB_OK ? EMB_OK : emb_fail_nomem(err, "tokens", sink->count);
    }
    if (!scratch_reserve(s, length))
        return emb_fail_nomem(err, "tokenizer scratch", length);
    if (!search(u, text, length, s))
        return emb_fail(err, EMB_E_INVALID, "text",
                        "holds a character that the tokenizer has no piece for, "
                        "and the tokenizer has no unknown token");
    size_t count = trace(u, length, s);
    bool plain = count <= EMB_WORD_TOKENS;
    int32_t ids[EMB_WORD_TOKENS];
    uint32_t ends[EMB_WORD_TOKENS];
    for (size_t i = count; i-- > 0 && status == EMB_OK;) {
        int32_t id;
        uint32_t end = i > 0 ? s->begins[i - 1] : length;
        status = emit(u, text, s->ids[i], s->begins[i], end, base, sink, &id, &plain);
        if (plain) {
            ids[count - 1 - i] = id;
            ends[count - 1 - i] = end;
        }
    }
    if (status != EMB_OK)
        return emb_fail_nomem(err, "tokens", sink->count);
    if (entry != NULL && plain)
        emb_word_entry_set(entry, text, length, ids, ends, count);
    return EMB_OK;
}

/* ---- vocabulary ---- */

static size_t unigram_size(const emb_vocab_model *model)
{
    return ((const unigram *)model)->count;
}

static int32_t unigram_id(const emb_vocab_model *model, const char *token, size_t length)
{
    return emb_piece_trie_find(&((const unigram *)model)->trie, token, length);
}

static const char *unigram_token(const emb_vocab_model *model, int32_t id, size_t *length)
{
    const unigram *u = (const unigram *)model;
    if (id < 0 || (size_t)id >= u->count)
        return NULL;
    *length = u->begins[id + 1] - u->begins[id];
    return u->text + u->begins[id];
}

static void unigram_release(emb_vocab_model *model)
{
    emb_piece_trie_fini(&((unigram *)model)->trie);
}

/* ---- loading ---- */

/* The reference reads a number with 16 or 17 digits as (digits rounded to a double) / (a power of ten),
 * which is now and then one unit in the last place off the nearest double, and decides ties by it. Files
 * hold the fewest digits that identify a score, so those can be found again: exactly, in 128 bits, for all
 * scores that occur. */
static double as_reference_reads(double score)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9, 1e10,
                                    1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20};
    double x = fabs(score);
    if (!(x >= 0x1p-10 && x < 0x1p20))
        return score;
    int exponent, places = 14; /* digits behind the point, for 15 in all */
    uint64_t mantissa = (uint64_t)ldexp(frexp(x, &exponent), 53);
    int shift = 53 - exponent;
    for (double limit = 10; x >= limit; limit *= 10)
        places--;
    for (double limit = 1; x < limit; limit /= 10)
        places++;
    for (int digits = 15; digits <= 17; digits++, places++) {
        /* Powers up to 10^20 are integers as doubles, too. */
        unsigned __int128 power = (unsigned __int128)powers[places], product = mantissa * power;
        uint64_t decimal = (uint64_t)((product + ((unsigned __int128)1 << (shift - 1))) >> shift);
        unsigned __int128 back = (unsigned __int128)decimal << shift;
        unsigned __int128 error = back > product ? back - product : product - back;
        if (2 * error <= power)
            return digits == 15 ? score : copysign((double)decimal / powers[places], score);
    }
    return score;
}

/* One [piece, score]. */
static bool read_entry(emb_json_value json, const char **text, size_t *length, double *score)
{
    emb_json_value value;
    emb_json_iter it = emb_json_begin(json);
    return emb_json_type_of(json) == EMB_JSON_ARRAY && emb_json_next(&it, NULL, NULL, &value) &&
           emb_json_string(value, text, length) && emb_json_next(&it, NULL, NULL, &value) &&
           emb_json_double(value, score);
}

/* Copies the pieces into the arena. */
static emb_status read_vocab(unigram *u, emb_json_value vocab, emb_arena *arena, const char *where,
                             emb_error *err)
{
    emb_json_value entry;
    size_t bytes = 0, length, i = 0;
    const char *piece;
    double score, lowest = 0;
    for (emb_json_iter it = emb_json_begin(vocab); emb_json_next(&it, NULL, NULL, &entry); i++) {
        if (!read_entry(entry, &piece, &length, &score) || length > UINT32_MAX / 2)
            return emb_fail(err, EMB_E_CORRUPT, where, "vocab[%zu] is not [piece, score]", i);
        bytes += length;
    }
    uint32_t *begins = emb_arena_calloc(arena, u->count + 1, sizeof *begins);
    double *scores = emb_arena_calloc(arena, u->count ? u->count : 1, sizeof *scores);
    char *text = bytes < UINT32_MAX ? emb_arena_alloc(arena, bytes + 1) : NULL;
    if (begins == NULL || scores == NULL || text == NULL)
        return emb_fail_nomem(err, "vocabulary", bytes);
    uint32_t at = 0;
    i = 0;
    for (emb_json_iter it = emb_json_begin(vocab); emb_json_next(&it, NULL, NULL, &entry) && i < u->count;
         i++) {
        if (!read_entry(entry, &piece, &length, &score))
            break;
        memcpy(text + at, piece, length);
        begins[i] = at;
        scores[i] = score = as_reference_reads(score);
        if (i == 0 || score < lowest)
            lowest = score;
        at += (uint32_t)length;
    }
    begins[i] = at;
    u->text = text;
    u->begins = begins;
    u->scores = scores;
    u->unk_score = lowest - 10.0;
    return EMB_OK;
}

static emb_status read_unk(unigram *u, emb_json_value json, const char *where, emb_error *err)
{
    emb_json_value value;
    int64_t id;
    u->unk_id = -1;
    if (!emb_json_get(json, "unk_id", &value) || emb_json_type_of(value) == EMB_JSON_NULL)
        return EMB_OK;
    if (!emb_json_int(value, &id) || id < 0 || (uint64_t)id >= u->count)
        return emb_fail(err, EMB_E_CORRUPT, where,
                        "unk_id is not an id of the vocabulary, which has %zu pieces", u->count);
    u->unk_id = (int32_t)id;
    return EMB_OK;
}

static void find_byte_pieces(unigram *u)
{
    static const char digits[] = "0123456789ABCDEF";
    for (unsigned byte = 0; byte < 256; byte++) {
        char piece[] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        u->byte_ids[byte] = emb_piece_trie_find(&u->trie, piece, sizeof piece);
    }
}

emb_status emb_unigram_parse(emb_json_value json, emb_arena *arena, const char *where, emb_vocab_model **out,
                             emb_error *err)
{
    static atomic_uint_least64_t serials = 1;
    emb_json_value value;
    unigram *u = emb_arena_calloc(arena, 1, sizeof *u);
    if (u == NULL)
        return emb_fail_nomem(err, "Unigram model", sizeof *u);
    u->base = (emb_vocab_model){"Unigram",    unigram_tokenize, scratch_free,  unigram_size,
                                unigram_size, unigram_id,       unigram_token, unigram_release};
    u->serial = atomic_fetch_add(&serials, 1);
    if (!emb_json_get(json, "vocab", &value) || emb_json_type_of(value) != EMB_JSON_ARRAY)
        return emb_fail(err, EMB_E_CORRUPT, where, "vocab is missing or not an array");
    u->count = emb_json_count(value);
    if (u->count > INT32_MAX)
        return emb_fail(err, EMB_E_LIMIT, where, "vocab has %zu pieces, the limit is %d", u->count,
                        INT32_MAX);
    emb_status status = read_vocab(u, value, arena, where, err);
    if (status == EMB_OK)
        status = read_unk(u, json, where, err);
    if (status == EMB_OK && emb_json_get(json, "byte_fallback", &value) &&
        emb_json_type_of(value) != EMB_JSON_NULL && !emb_json_bool(value, &u->byte_fallback))
        status = emb_fail(err, EMB_E_CORRUPT, where, "byte_fallback is not true or false");
    if (status == EMB_OK) {
        status = emb_piece_trie_build(&u->trie, u->text, u->begins, u->count);
        if (status != EMB_OK)
            status = emb_fail(err, status, where, "the trie of %zu pieces could not be built", u->count);
    }
    if (status != EMB_OK)
        return status;
    find_byte_pieces(u);
    *out = &u->base;
    return EMB_OK;
}
