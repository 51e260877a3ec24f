/*
 * tiktoken.c: byte-pair encoding by rank.
 *
 * A file of its own rather than another loader for bpe.c: that one follows a list of merges over characters,
 * and cl100k_base has none: two neighbours merge if their bytes together are a token, and the token's number
 * is the order. A list of merges that is derived from the ranks says less (one way to each token, where here
 * every way counts). Bytes need no rewriting to characters either, and a piece that is a token is done after
 * one look-up.
 *
 * Ranks: tokens lie end to end as in the file; an open hash table of twice as many slots or more leads from
 * bytes to id. A slot keeps a part of the hash, so that a token's bytes are read only when they are the right
 * ones.
 *
 * A piece is, in this order, a word seen lately (word_cache.h), a token as a whole, or merged. Of equal ranks
 * the leftmost goes first. Short pieces are merged over an array that shrinks. Long ones (a megabyte of one
 * letter) keep for each byte the rank of the pair that starts there, and over these the minima of 16, of 256,
 * ...: the leftmost best pair is found, and replaced, in log n steps, with 4.5 bytes of memory a byte. A heap
 * needs six times that, and entries that have become invalid. Starts of parts are bits; tokens have at most
 * 255 bytes, so that the next or previous start is never far.
 */
#include "tokenizer/tiktoken.h"

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "tokenizer/tiktoken_pieces.h"
#include "tokenizer/word_cache.h"

#include <stdlib.h>

enum {
    MAGIC_BYTES = 8,
    HEADER_BYTES = 12,
    TOKENS_MAX = 1 << 22,
    RANKS_FILE_MAX = 1 << 30,
    SHORT_BYTES = 96,
    EVER_BYTES = 4096, /* pieces of this size are merged without allocating */
    FAN = 16,
    LEVELS = 8, /* 16^8 bytes */
    KEPT_BYTES = 1 << 20
};

#define NONE UINT32_MAX
#define TEXT_MAX ((size_t)1 << 30)

typedef struct slot {
    uint32_t tag, id; /* id + 1; 0: empty */
} slot;

struct emb_tiktoken {
    slot *slots;
    uint32_t mask, longest;
    uint32_t count;
    uint32_t *starts; /* count + 1 */
    char *bytes;
};

struct emb_tiktoken_scratch {
    emb_word_cache cache;
    uint32_t *tree;   /* of long pieces */
    size_t tree_room; /* words */
    emb_buf repaired;
};

/* ---- ranks ---- */

static inline uint32_t find(const emb_tiktoken *t, const char *text, size_t length)
{
    if (length > t->longest)
        return NONE;
    uint64_t hash = emb_hash(text, length, 0);
    for (uint32_t i = (uint32_t)hash & t->mask;; i = (i + 1) & t->mask) {
        const slot *s = &t->slots[i];
        if (s->id == 0)
            return NONE;
        if (s->tag != (uint32_t)(hash >> 32))
            continue;
        uint32_t start = t->starts[s->id - 1];
        if (t->starts[s->id] - start == length && memcmp(t->bytes + start, text, length) == 0)
            return s->id - 1;
    }
}

static void insert(emb_tiktoken *t, uint32_t id)
{
    uint64_t hash = emb_hash(t->bytes + t->starts[id], t->starts[id + 1] - t->starts[id], 0);
    uint32_t i = (uint32_t)hash & t->mask;
    while (t->slots[i].id != 0)
        i = (i + 1) & t->mask;
    t->slots[i] = (slot){(uint32_t)(hash >> 32), id + 1};
}

/* The lengths are read and add up to the rest of the file. */
static emb_status read_lengths(emb_tiktoken *t, const unsigned char *lengths, size_t rest, const char *where,
                               emb_error *err)
{
    size_t sum = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        if (lengths[i] == 0)
            return emb_fail(err, EMB_E_CORRUPT, where, "token %u is empty", i);
        t->starts[i] = (uint32_t)sum;
        sum += lengths[i];
        if (lengths[i] > t->longest)
            t->longest = lengths[i];
    }
    t->starts[t->count] = (uint32_t)sum;
    if (sum != rest)
        return emb_fail(err, EMB_E_CORRUPT, where, "the tokens take %zu bytes, the file has %zu for them",
                        sum, rest);
    return EMB_OK;
}

static emb_status fill(emb_tiktoken *t, const char *where, emb_error *err)
{
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t same = find(t, t->bytes + t->starts[i], t->starts[i + 1] - t->starts[i]);
        if (same != NONE)
            return emb_fail(err, EMB_E_CORRUPT, where, "tokens %u and %u are the same", same, i);
        insert(t, i);
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        if (find(t, &c, 1) == NONE)
            return emb_fail(err, EMB_E_CORRUPT, where, "there is no token for the byte 0x%02x", byte);
    }
    return EMB_OK;
}

static emb_status allocate(emb_tiktoken *t, size_t bytes, emb_error *err)
{
    size_t slots = 512;
    while (slots < 2 * (size_t)t->count)
        slots *= 2;
    t->mask = (uint32_t)(slots - 1);
    t->slots = calloc(slots, sizeof *t->slots);
    t->starts = malloc(((size_t)t->count + 1) * sizeof *t->starts);
    t->bytes = malloc(bytes ? bytes : 1);
    if (t->slots == NULL || t->starts == NULL || t->bytes == NULL)
        return emb_fail_nomem(err, "byte-pair ranks", slots * sizeof *t->slots + bytes);
    return EMB_OK;
}

static emb_status load(emb_tiktoken *t, const unsigned char *data, size_t length, const char *where,
                       emb_error *err)
{
    if (length < HEADER_BYTES || memcmp(data, "EMBRANKS", MAGIC_BYTES) != 0)
        return emb_fail(err, EMB_E_CORRUPT, where, "this is not a file of byte-pair ranks");
    t->count = data[8] | (uint32_t)data[9] << 8 | (uint32_t)data[10] << 16 | (uint32_t)data[11] << 24;
    if (t->count > TOKENS_MAX || length - HEADER_BYTES < t->count || length > RANKS_FILE_MAX)
        return emb_fail(err, EMB_E_CORRUPT, where, "%u tokens do not fit in a file of %zu bytes", t->count,
                        length);
    size_t rest = length - HEADER_BYTES - t->count;
    emb_status status = allocate(t, rest, err);
    if (status == EMB_OK)
        status = read_lengths(t, data + HEADER_BYTES, rest, where, err);
    if (status != EMB_OK)
        return status;
    memcpy(t->bytes, data + HEADER_BYTES + t->count, rest);
    return fill(t, where, err);
}

emb_status emb_tiktoken_open_ranks(const void *data, size_t length, const char *where, emb_tiktoken **out,
                                   emb_error *err)
{
    *out = NULL;
    emb_tiktoken *t = calloc(1, sizeof *t);
    if (t == NULL)
        return emb_fail_nomem(err, "byte-pair ranks", sizeof *t);
    emb_status status = load(t, data, length, where, err);
    if (status == EMB_OK)
        *out = t;
    else
        emb_tiktoken_close(t);
    return status;
}

emb_status emb_tiktoken_open(const char *directory, emb_tiktoken **out, emb_error *err)
{
    *out = NULL;
    emb_mapping file;
    char *path = emb_path_join(directory, EMB_TIKTOKEN_FILE);
    if (path == NULL)
        return emb_fail_nomem(err, "path", strlen(directory));
    emb_status status = emb_mapping_open(&file, path, err);
    if (status == EMB_OK) {
        status = emb_tiktoken_open_ranks(file.data, file.length, path, out, err);
        emb_mapping_close(&file);
    }
    free(path);
    return status;
}

void emb_tiktoken_close(emb_tiktoken *tiktoken)
{
    if (tiktoken == NULL)
        return;
    free(tiktoken->slots);
    free(tiktoken->starts);
    free(tiktoken->bytes);
    free(tiktoken);
}

size_t emb_tiktoken_size(const emb_tiktoken *tiktoken)
{
    return tiktoken->count;
}

const char *emb_tiktoken_token(const emb_tiktoken *tiktoken, int32_t id, size_t *length)
{
    *length = 0;
    if (id < 0 || (uint32_t)id >= tiktoken->count)
        return NULL;
    *length = tiktoken->starts[id + 1] - tiktoken->starts[id];
    return tiktoken->bytes + tiktoken->starts[id];
}

/* ---- scratch ---- */

/* The words of a tree over n bytes: all levels, then the bits of the starts. */
static size_t tree_words(size_t n, size_t offsets[LEVELS + 1], int *levels)
{
    size_t at = 0, width = n;
    *levels = 0;
    do {
        width = (width + FAN - 1) / FAN * FAN;
        offsets[(*levels)++] = at;
        at += width;
        width /= FAN;
    } while (width > 1);
    at += at & 1;
    offsets[*levels] = at;
    return at + 2 * ((n + 63) / 64 + 1);
}

static emb_status tree_reserve(emb_tiktoken_scratch *s, size_t n)
{
    size_t offsets[LEVELS + 1];
    int levels;
    size_t words = tree_words(n, offsets, &levels);
    if (words <= s->tree_room)
        return EMB_OK;
    uint32_t *tree = malloc(words * sizeof *tree);
    if (tree == NULL)
        return EMB_E_NOMEM;
    free(s->tree);
    s->tree = tree;
    s->tree_room = words;
    return EMB_OK;
}

emb_status emb_tiktoken_scratch_new(emb_tiktoken_scratch **out, emb_error *err)
{
    emb_tiktoken_scratch *s = calloc(1, sizeof *s);
    *out = s;
    if (s != NULL) {
        emb_buf_init(&s->repaired, 3 * TEXT_MAX + 16);
        if (tree_reserve(s, EVER_BYTES) == EMB_OK)
            return EMB_OK;
    }
    *out = NULL;
    free(s);
    return emb_fail_nomem(err, "tokens", sizeof *s);
}

void emb_tiktoken_scratch_free(emb_tiktoken_scratch *scratch)
{
    if (scratch == NULL)
        return;
    free(scratch->tree);
    emb_buf_fini(&scratch->repaired);
    free(scratch);
}

/* Gives back what one huge text needed. */
static void shrink(emb_tiktoken_scratch *s)
{
    if (s->repaired.capacity > KEPT_BYTES)
        emb_buf_fini(&s->repaired);
    if (s->tree_room <= KEPT_BYTES / sizeof *s->tree)
        return;
    size_t offsets[LEVELS + 1], words;
    int levels;
    words = tree_words(EVER_BYTES, offsets, &levels);
    uint32_t *smaller = realloc(s->tree, words * sizeof *s->tree);
    if (smaller != NULL) {
        s->tree = smaller;
        s->tree_room = words;
    }
}

/* ---- output ---- */

typedef struct output {
    emb_tiktoken_ids *ids; /* NULL: count only */
    size_t count;
} output;

static emb_status grow(emb_tiktoken_ids *ids, size_t more)
{
    size_t capacity = ids->capacity + ids->capacity / 2 + more + 64;
    int32_t *data = realloc(ids->data, capacity * sizeof *data);
    if (data == NULL)
        return EMB_E_NOMEM;
    ids->data = data;
    ids->capacity = capacity;
    return EMB_OK;
}

static inline emb_status put(output *out, const int32_t *ids, size_t count)
{
    if (out->ids != NULL) {
        if (out->count + count > out->ids->capacity && grow(out->ids, count) != EMB_OK)
            return EMB_E_NOMEM;
        memcpy(out->ids->data + out->count, ids, count * sizeof *ids);
    }
    out->count += count;
    return EMB_OK;
}

/* ---- merging ---- */

/* Merges a piece of 2 .. SHORT_BYTES bytes; returns the number of tokens. */
static size_t merge_short(const emb_tiktoken *t, const char *p, size_t n, int32_t *ids, uint32_t *ends)
{
    uint32_t ranks[SHORT_BYTES]; /* of the part with the next one */
    uint8_t starts[SHORT_BYTES + 1];
    size_t parts = n;
    for (size_t i = 0; i < n; i++) {
        starts[i] = (uint8_t)i;
        ranks[i] = i + 1 < n ? find(t, p + i, 2) : NONE;
    }
    starts[n] = (uint8_t)n;
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < parts; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == NONE)
            break;
        memmove(starts + best + 1, starts + best + 2, (parts - best - 1) * sizeof *starts);
        memmove(ranks + best + 1, ranks + best + 2, (parts - best - 2) * sizeof *ranks);
        parts--;
        ranks[best] =
            best + 1 < parts ? find(t, p + starts[best], (size_t)(starts[best + 2] - starts[best])) : NONE;
        if (best > 0)
            ranks[best - 1] = find(t, p + starts[best - 1], (size_t)(starts[best + 1] - starts[best - 1]));
    }
    for (size_t i = 0; i < parts; i++) {
        ids[i] = (int32_t)find(t, p + starts[i], (size_t)(starts[i + 1] - starts[i]));
        ends[i] = starts[i + 1];
    }
    return parts;
}

typedef struct long_piece {
    const emb_tiktoken *t;
    const char *p;
    size_t n;
    uint32_t *levels[LEVELS]; /* ranks of the pairs that start at a byte; minima of 16 of the level below */
    int level_count;
    uint64_t *starts; /* a bit for each byte at which a part starts, and one for n */
} long_piece;

static inline size_t next_start(const long_piece *l, size_t at)
{
    if (at >= l->n)
        return l->n;
    size_t word = ++at / 64;
    uint64_t bits = l->starts[word] & (~(uint64_t)0 << at % 64);
    while (bits == 0)
        bits = l->starts[++word];
    return word * 64 + (size_t)__builtin_ctzll(bits);
}

/* at > 0 */
static inline size_t previous_start(const long_piece *l, size_t at)
{
    size_t word = --at / 64;
    uint64_t bits = l->starts[word] & (~(uint64_t)0 >> (63 - at % 64));
    while (bits == 0)
        bits = l->starts[--word];
    return word * 64 + 63 - (size_t)__builtin_clzll(bits);
}

static inline uint32_t minimum(const uint32_t *of)
{
    uint32_t least = of[0];
    for (int i = 1; i < FAN; i++)
        least = of[i] < least ? of[i] : least;
    return least;
}

static void set_rank(long_piece *l, size_t at, uint32_t rank)
{
    l->levels[0][at] = rank;
    for (int level = 1; level < l->level_count; level++) {
        at /= FAN;
        uint32_t least = minimum(l->levels[level - 1] + at * FAN);
        if (l->levels[level][at] == least)
            return;
        l->levels[level][at] = least;
    }
}

/* The leftmost of the lowest ranks; *rank is NONE if nothing can be merged. */
static size_t best_pair(const long_piece *l, uint32_t *rank)
{
    size_t at = 0;
    *rank = minimum(l->levels[l->level_count - 1]);
    for (int level = l->level_count - 1; level >= 0; level--) {
        at *= FAN;
        while (l->levels[level][at] != *rank)
            at++;
    }
    return at;
}

static void long_begin(long_piece *l, uint32_t *memory)
{
    size_t offsets[LEVELS + 1];
    size_t words = tree_words(l->n, offsets, &l->level_count);
    memset(memory, 0xFF, words * sizeof *memory);
    for (int i = 0; i < l->level_count; i++)
        l->levels[i] = memory + offsets[i];
    l->starts = (uint64_t *)(void *)(memory + offsets[l->level_count]);
    for (size_t i = 0; i + 1 < l->n; i++)
        l->levels[0][i] = find(l->t, l->p + i, 2);
    for (int level = 1; level < l->level_count; level++)
        for (size_t i = 0; l->levels[level - 1] + i * FAN < l->levels[level]; i++)
            l->levels[level][i] = minimum(l->levels[level - 1] + i * FAN);
}

/* The part at `at` takes in the next one. */
static void long_merge(long_piece *l, size_t at)
{
    size_t gone = next_start(l, at), end = next_start(l, gone), after = next_start(l, end);
    l->starts[gone / 64] &= ~((uint64_t)1 << gone % 64);
    set_rank(l, gone, NONE);
    set_rank(l, at, end < l->n ? find(l->t, l->p + at, after - at) : NONE);
    if (at > 0) {
        size_t before = previous_start(l, at);
        set_rank(l, before, find(l->t, l->p + before, end - before));
    }
}

static emb_status merge_long(const emb_tiktoken *t, emb_tiktoken_scratch *s, const char *p, size_t n,
                             output *out)
{
    if (tree_reserve(s, n) != EMB_OK)
        return EMB_E_NOMEM;
    long_piece l = {.t = t, .p = p, .n = n};
    uint32_t rank;
    long_begin(&l, s->tree);
    for (size_t at = best_pair(&l, &rank); rank != NONE; at = best_pair(&l, &rank))
        long_merge(&l, at);
    emb_status status = EMB_OK;
    for (size_t at = 0, end; at < n && status == EMB_OK; at = end) {
        end = next_start(&l, at);
        int32_t id = (int32_t)find(t, p + at, end - at);
        status = put(out, &id, 1);
    }
    return status;
}

/* ---- texts ---- */

static inline emb_status encode_piece(const emb_tiktoken *t, emb_tiktoken_scratch *s, const char *p, size_t n,
                                      output *out)
{
    emb_word_entry *entry = emb_word_cache_slot(&s->cache, p, n);
    if (entry != NULL && emb_word_entry_is(entry, p, n))
        return put(out, entry->ids, entry->count);
    int32_t ids[SHORT_BYTES];
    uint32_t ends[SHORT_BYTES];
    size_t count = 1;
    uint32_t whole = find(t, p, n);
    if (whole == NONE && n > SHORT_BYTES)
        return merge_long(t, s, p, n, out);
    ids[0] = (int32_t)whole;
    ends[0] = (uint32_t)n;
    if (whole == NONE)
        count = merge_short(t, p, n, ids, ends);
    if (entry != NULL)
        emb_word_entry_set(entry, p, n, ids, ends, count);
    return put(out, ids, count);
}

static emb_status encode(const emb_tiktoken *t, emb_tiktoken_scratch *s, const char *text, size_t length,
                         output *out, emb_error *err)
{
    if (length > TEXT_MAX)
        return emb_fail(err, EMB_E_LIMIT, NULL, "the text has %zu bytes, the limit is %zu", length, TEXT_MAX);
    emb_status status = EMB_OK;
    size_t n = length;
    if (length > 0 && emb_utf8_valid_prefix(text, length) != length) {
        emb_buf_clear(&s->repaired);
        status = emb_utf8_repair(&s->repaired, text, length);
        text = s->repaired.data;
        n = s->repaired.length;
    }
    for (size_t at = 0, end; at < n && status == EMB_OK; at = end) {
        end = emb_cl100k_piece_end(text, n, at);
        status = encode_piece(t, s, text + at, end - at, out);
    }
    shrink(s);
    return status == EMB_OK ? EMB_OK : emb_fail_nomem(err, "tokens", length);
}

emb_status emb_tiktoken_count(const emb_tiktoken *tiktoken, emb_tiktoken_scratch *scratch, const char *text,
                              size_t length, size_t *count, emb_error *err)
{
    output out = {NULL, 0};
    emb_status status = encode(tiktoken, scratch, text, length, &out, err);
    *count = out.count;
    return status;
}

emb_status emb_tiktoken_encode(const emb_tiktoken *tiktoken, emb_tiktoken_scratch *scratch, const char *text,
                               size_t length, emb_tiktoken_ids *ids, emb_error *err)
{
    output out = {ids, 0};
    emb_status status = encode(tiktoken, scratch, text, length, &out, err);
    ids->count = status == EMB_OK ? out.count : 0;
    return status;
}

void emb_tiktoken_ids_fini(emb_tiktoken_ids *ids)
{
    free(ids->data);
    *ids = (emb_tiktoken_ids){NULL, 0, 0};
}
