/*
 * bert_fast.c: the BERT pipeline in one pass, with a cache of runs.
 *
 * A run is what lies between two ASCII spaces, tabs or line ends. The pipeline never looks beyond one:
 * a space starts a new word, is no mark, and nothing composes across it; so the ids of a run depend on its
 * bytes alone, and short runs are looked up as they stand ("Hello," -> 7592 1010), without cleaning,
 * lowering or splitting them again. That is one hash of sixteen bytes and one cache line for the great
 * majority of words. Other runs are normalized character by character into a word buffer that goes
 * through WordPiece at every boundary; no normalized text, no list of pieces is ever stored.
 *
 * What cannot be done this way is left to the general path for the whole section (`done` is false):
 *  - characters that decompose into, or are, marks that strip_accents keeps: canonical ordering could
 *    move them past each other;
 *  - places where an added token with "normalized": true may match. Such a token must begin with ASCII
 *    punctuation, or else this path is not taken at all.
 *
 * Rejected: caching words after normalization (hits would still pay for it), and an exact table of whole
 * words built from the vocabulary (punctuation sticks to words, so runs are what repeats).
 * The cache is direct-mapped: a run that collides is worked out again, nothing is ever searched.
 */
#include "tokenizer/bert_fast.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "tokenizer/bert.h"
#include "tokenizer/unicode.h"
#include "tokenizer/wordpiece.h"

#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    KEY_BYTES = 16,
    ENTRY_IDS = 11,
    CACHE_BITS = 13,
    CHAR_ROOM = EMB_UNICODE_DECOMPOSITION_MAX * 8, /* bytes that one character can become */
};

typedef enum ascii_class { ASCII_WORD, ASCII_SPACE, ASCII_ALONE, ASCII_REMOVED } ascii_class;

struct emb_bert_fast {
    const emb_vocab_model *model;
    const emb_added_matcher *normalized; /* added tokens that match normalized text; NULL: none */
    emb_bert_flags flags;
    uint8_t class[128]; /* ascii_class */
    char lower[128];
};

/* One cache line. length 0: empty. */
typedef struct entry {
    uint64_t key[2]; /* the run, zero-padded */
    uint8_t length, count;
    int32_t ids[ENTRY_IDS];
} entry;

struct emb_bert_fast_scratch {
    entry *cache;
    char *word; /* the word being put together */
    size_t word_length, word_capacity;
};

/* One call of emb_bert_fast_encode. */
typedef struct pass {
    const emb_bert_fast *fast;
    emb_bert_fast_scratch *s;
    const char *text;
    size_t length;
    emb_token_sink *sink;
    bool bail;      /* the general path has to do it */
    bool cacheable; /* the run being worked on */
    emb_error *err;
} pass;

/* ---- making ---- */

/* Whether every pattern starts with a character that is a piece of its own. */
static bool patterns_start_alone(const emb_bert_fast *fast, const emb_added_matcher *patterns)
{
    for (unsigned byte = 0; byte < 256; byte++)
        if (patterns->first[byte] && (byte >= 128 || fast->class[byte] != ASCII_ALONE))
            return false;
    return true;
}

emb_status emb_bert_fast_make(const emb_normalizer *normalizer, const emb_pre_tokenizer *pre,
                              const emb_vocab_model *model, const emb_added_tokens *added, emb_arena *arena,
                              emb_bert_fast **out, emb_error *err)
{
    emb_bert_flags flags;
    *out = NULL;
    if (!emb_bert_normalizer_flags(normalizer, &flags) || !emb_is_bert_pre_tokenizer(pre) ||
        !emb_is_wordpiece(model))
        return EMB_OK;
    emb_bert_fast *fast = emb_arena_calloc(arena, 1, sizeof *fast);
    if (fast == NULL)
        return emb_fail_nomem(err, "the tokenizer", sizeof *fast);
    fast->model = model;
    fast->flags = flags;
    for (uint32_t c = 0; c < 128; c++) {
        uint32_t is = emb_unicode_flags(c), lower[2];
        fast->class[c] = flags.clean_text && (is & EMB_UNICODE_REMOVED) ? ASCII_REMOVED
                         : is & EMB_UNICODE_WHITESPACE                  ? ASCII_SPACE
                         : is & EMB_UNICODE_PUNCTUATION                 ? ASCII_ALONE
                                                                        : ASCII_WORD;
        emb_unicode_lowercase(c, lower);
        fast->lower[c] = (char)(flags.lowercase ? lower[0] : c);
    }
    if (added->normalized.count > 0) {
        if (!patterns_start_alone(fast, &added->normalized))
            return EMB_OK;
        fast->normalized = &added->normalized;
    }
    *out = fast;
    return EMB_OK;
}

void emb_bert_fast_scratch_free(emb_bert_fast_scratch *scratch)
{
    if (scratch == NULL)
        return;
    free(scratch->cache);
    free(scratch->word);
    free(scratch);
}

static emb_status make_scratch(emb_bert_fast_scratch **out, emb_error *err)
{
    size_t bytes = sizeof(entry) << CACHE_BITS;
    emb_bert_fast_scratch *made = calloc(1, sizeof *made);
    if (made == NULL)
        return emb_fail_nomem(err, "an encoding", sizeof *made);
    made->cache = aligned_alloc(sizeof(entry), bytes);
    if (made->cache == NULL) {
        free(made);
        return emb_fail_nomem(err, "an encoding", bytes);
    }
    memset(made->cache, 0, bytes);
    *out = made;
    return EMB_OK;
}

/* ---- words ---- */

/* Appends the ids of a word. */
static emb_status add_word(pass *p, const char *word, size_t length)
{
    emb_token_sink *sink = p->sink;
    if (emb_token_sink_reserve(sink, length) != EMB_OK)
        return emb_fail_nomem(p->err, "tokens", length * sizeof(int32_t));
    int count = emb_wordpiece_split(p->fast->model, word, length, sink->ids + sink->count,
                                    length < INT32_MAX ? (int)length : INT32_MAX);
    if (count < 0)
        return emb_wordpiece_unknown(p->fast->model, p->err);
    sink->count += (size_t)count;
    return EMB_OK;
}

static inline emb_status end_word(pass *p)
{
    size_t length = p->s->word_length;
    p->s->word_length = 0;
    return length > 0 ? add_word(p, p->s->word, length) : EMB_OK;
}

static emb_status reserve_word(pass *p, size_t more)
{
    emb_bert_fast_scratch *s = p->s;
    if (more <= s->word_capacity - s->word_length)
        return EMB_OK;
    size_t capacity = (s->word_length + more) * 2;
    char *word = realloc(s->word, capacity);
    if (word == NULL)
        return emb_fail_nomem(p->err, "a word", capacity);
    s->word = word;
    s->word_capacity = capacity;
    return EMB_OK;
}

/* Whether an added token may match normalized text from the ASCII character at text[at] on. Other than
 * printable ASCII may normalize to anything, so it counts as a match. */
static bool added_token_may_match(const pass *p, size_t at)
{
    const emb_trie *trie = &p->fast->normalized->trie;
    uint32_t node = emb_trie_step(trie, EMB_TRIE_ROOT, (unsigned char)p->text[at]);
    while (node != 0) {
        if (emb_trie_value(trie, node) >= 0)
            return true;
        if (++at >= p->length)
            return false;
        unsigned char byte = (unsigned char)p->text[at];
        if (byte < 0x20 || byte >= 0x7F)
            return true;
        node = emb_trie_step(trie, node, (unsigned char)p->fast->lower[byte]);
    }
    return false;
}

/* ---- characters beyond ASCII ---- */

/* A character after normalization: part of a word, or a piece of its own. */
static emb_status add_char(pass *p, uint32_t c)
{
    char *end = p->s->word + p->s->word_length;
    uint32_t is = emb_unicode_flags(c);
    if (!(is & (EMB_UNICODE_PUNCTUATION | EMB_UNICODE_WHITESPACE))) {
        p->s->word_length += emb_utf8_encode(c, end);
        return EMB_OK;
    }
    if (c < 128 && p->fast->normalized != NULL && p->fast->normalized->first[c])
        p->bail = true;
    emb_status status = end_word(p);
    if (status != EMB_OK || (is & EMB_UNICODE_WHITESPACE))
        return status;
    char alone[4];
    return add_word(p, alone, emb_utf8_encode(c, alone));
}

/* Lowers a character and adds what comes out. */
static emb_status add_lowered(pass *p, uint32_t c)
{
    uint32_t lower[2] = {c, 0};
    size_t count = p->fast->flags.lowercase ? emb_unicode_lowercase(c, lower) : 1;
    emb_status status = EMB_OK;
    for (size_t i = 0; i < count && status == EMB_OK; i++)
        status = add_char(p, lower[i]);
    return status;
}

static emb_status add_decomposed(pass *p, uint32_t c)
{
    uint32_t parts[EMB_UNICODE_DECOMPOSITION_MAX];
    size_t count = emb_unicode_decompose(c, false, parts);
    emb_status status = EMB_OK;
    for (size_t i = 0; i < count && status == EMB_OK; i++) {
        const emb_unicode_info *info = emb_unicode_lookup(parts[i]);
        if (info->flags & EMB_UNICODE_MARK_NONSPACING)
            continue;
        if (info->combining_class != 0)
            p->bail = true;
        status = add_lowered(p, parts[i]);
    }
    return status;
}

static emb_status add_other(pass *p, uint32_t c)
{
    const emb_bert_flags *flags = &p->fast->flags;
    const emb_unicode_info *info = emb_unicode_lookup(c);
    if (flags->clean_text && (info->flags & EMB_UNICODE_REMOVED))
        return EMB_OK;
    if (info->flags & EMB_UNICODE_WHITESPACE)
        return end_word(p);
    bool chinese = flags->handle_chinese_chars && (info->flags & EMB_UNICODE_CHINESE);
    emb_status status = chinese ? end_word(p) : EMB_OK;
    if (status == EMB_OK)
        status = reserve_word(p, CHAR_ROOM);
    if (status != EMB_OK)
        return status;
    if (!flags->strip_accents) {
        status = add_lowered(p, c);
    } else if (info->flags & EMB_UNICODE_CANONICAL) {
        status = add_decomposed(p, c);
    } else if (!(info->flags & EMB_UNICODE_MARK_NONSPACING)) {
        if (info->combining_class != 0)
            p->bail = true;
        status = add_lowered(p, c);
    }
    return status == EMB_OK && chinese ? end_word(p) : status;
}

/* ---- runs ---- */

/* Works out the ids of text[begin .. end), which holds no ASCII space. */
static emb_status add_run(pass *p, size_t begin, size_t end)
{
    const emb_bert_fast *fast = p->fast;
    emb_bert_fast_scratch *s = p->s;
    emb_status status = reserve_word(p, end - begin);
    for (size_t i = begin, next; i < end && status == EMB_OK && !p->bail; i = next) {
        unsigned char byte = (unsigned char)p->text[i];
        next = i + 1;
        if (byte >= 128) {
            uint32_t c;
            next = i + emb_utf8_decode(p->text + i, end - i, &c);
            status = add_other(p, c);
            if (status == EMB_OK)
                status = reserve_word(p, end - next); /* so that ASCII needs no check */
            continue;
        }
        switch ((ascii_class)fast->class[byte]) {
        case ASCII_WORD:
            s->word[s->word_length++] = fast->lower[byte];
            break;
        case ASCII_SPACE:
            status = end_word(p);
            break;
        case ASCII_ALONE:
            if (fast->normalized != NULL && fast->normalized->first[byte]) {
                p->cacheable = false;
                p->bail |= added_token_may_match(p, i);
            }
            status = end_word(p);
            if (status == EMB_OK)
                status = add_word(p, p->text + i, 1);
            break;
        case ASCII_REMOVED:
            break;
        }
    }
    return status == EMB_OK ? end_word(p) : status;
}

static inline bool is_delimiter(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* End of the run that starts at `at`. */
static inline size_t run_end(const char *text, size_t at, size_t length)
{
#if defined(__SSE2__)
    const __m128i space = _mm_set1_epi8(' '), newline = _mm_set1_epi8('\n');
    const __m128i tab = _mm_set1_epi8('\t'), carriage_return = _mm_set1_epi8('\r');
    for (; at + 16 <= length; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(text + at));
        __m128i hits =
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, space), _mm_cmpeq_epi8(bytes, newline)),
                         _mm_or_si128(_mm_cmpeq_epi8(bytes, tab), _mm_cmpeq_epi8(bytes, carriage_return)));
        unsigned mask = (unsigned)_mm_movemask_epi8(hits);
        if (mask != 0)
            return at + (unsigned)__builtin_ctz(mask);
    }
#endif
    while (at < length && !is_delimiter(text[at]))
        at++;
    return at;
}

/* The bytes of a run of 1 to KEY_BYTES bytes, zero-padded, as two words. */
static inline void load_key(const char *run, size_t length, const char *text_end, uint64_t key[2])
{
    if (text_end - run >= KEY_BYTES) {
        memcpy(key, run, KEY_BYTES);
        if (length <= 8) {
            key[0] &= UINT64_MAX >> (64 - 8 * length);
            key[1] = 0;
        } else {
            key[1] &= UINT64_MAX >> (64 - 8 * (length - 8));
        }
    } else {
        key[0] = key[1] = 0;
        memcpy(key, run, length);
    }
}

/* Works a run out and remembers its ids if they fit. */
static emb_status add_uncached(pass *p, size_t begin, size_t end, entry *slot, const uint64_t key[2])
{
    size_t before = p->sink->count;
    p->cacheable = true;
    emb_status status = add_run(p, begin, end);
    size_t count = p->sink->count - before;
    if (status != EMB_OK || p->bail || !p->cacheable || slot == NULL || count > ENTRY_IDS)
        return status;
    slot->key[0] = key[0];
    slot->key[1] = key[1];
    slot->length = (uint8_t)(end - begin);
    slot->count = (uint8_t)count;
    memcpy(slot->ids, p->sink->ids + before, count * sizeof(int32_t));
    return EMB_OK;
}

static emb_status add_all_runs(pass *p, size_t limit)
{
    emb_token_sink *sink = p->sink;
    const char *text = p->text, *text_end = text + p->length;
    size_t at = 0;
    emb_status status = EMB_OK;
    if (emb_token_sink_reserve(sink, ENTRY_IDS) != EMB_OK) /* there is an array from here on */
        return emb_fail_nomem(p->err, "tokens", ENTRY_IDS * sizeof(int32_t));
    while (status == EMB_OK && !p->bail && sink->count <= limit) {
        while (at < p->length && is_delimiter(text[at]))
            at++;
        if (at == p->length)
            break;
        size_t begin = at;
        at = run_end(text, at, p->length);
        if (at - begin > KEY_BYTES) {
            status = add_uncached(p, begin, at, NULL, NULL);
            continue;
        }
        uint64_t key[2];
        load_key(text + begin, at - begin, text_end, key);
        uint64_t hash = emb_hash_mix(key[0] ^ 0xA0761D6478BD642Fu, key[1] ^ 0xE7037ED1A0B428DBu);
        entry *slot = &p->s->cache[hash >> (64 - CACHE_BITS)];
        if (slot->key[0] != key[0] || slot->key[1] != key[1] || slot->length != at - begin) {
            status = add_uncached(p, begin, at, slot, key);
            continue;
        }
        if (emb_token_sink_reserve(sink, ENTRY_IDS) != EMB_OK)
            return emb_fail_nomem(p->err, "tokens", sink->count * sizeof(int32_t));
        memcpy(sink->ids + sink->count, slot->ids, sizeof slot->ids); /* all: no loop, there is room */
        sink->count += slot->count;
    }
    return status;
}

emb_status emb_bert_fast_encode(const emb_bert_fast *fast, const char *text, size_t length, size_t limit,
                                emb_bert_fast_scratch **scratch, emb_token_sink *sink, bool *done,
                                emb_error *err)
{
    size_t before = sink->count;
    *done = false;
    if (*scratch == NULL) {
        emb_status status = make_scratch(scratch, err);
        if (status != EMB_OK)
            return status;
    }
    (*scratch)->word_length = 0;
    pass p = {.fast = fast, .s = *scratch, .text = text, .length = length, .sink = sink, .err = err};
    emb_status status = add_all_runs(&p, limit);
    if (p.bail)
        sink->count = before;
    *done = !p.bail;
    return status;
}
