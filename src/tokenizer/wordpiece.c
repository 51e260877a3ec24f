/*
 * wordpiece.c: greedy longest-match-first segmentation of words (BERT's WordPiece).
 *
 * One trie holds the vocabulary. A word's first token is the longest path from the root, every further
 * one the longest path from the node where the continuing prefix ("##") ends: no prefixed copy of the
 * rest is ever made, and all lengths of a match are tried in one walk. A word that cannot be covered, or
 * that has more characters than max_input_chars_per_word, is one unknown token. The cost is the sum of
 * the walks, each bounded by the longest token; in practice a little over one step a byte.
 *
 * Rejected: hashing every candidate (a hash per length), and failure links as in an automaton (twice the
 * memory for steps that the word cache of bert_fast.c mostly avoids).
 */
#include "tokenizer/wordpiece.h"

#include "base/error.h"
#include "tokenizer/vocab.h"

#include <string.h>

typedef struct wordpiece {
    emb_vocab_model base;
    emb_vocab vocab;
    size_t max_chars;
    int32_t unk;           /* -1: not in the vocabulary */
    bool continues;        /* some token starts with the continuing prefix */
    uint32_t continuation; /* the node behind the prefix */
    const char *where;
} wordpiece;

/* Whether text has more than `most` characters. */
static bool longer_than(const char *text, size_t length, size_t most)
{
    if (length <= most)
        return false;
    size_t chars = 0;
    for (size_t i = 0; i < length; i++)
        chars += ((unsigned char)text[i] & 0xC0) != 0x80;
    return chars > most;
}

/* The longest token that starts at text[at]: its id and *end, or -1. */
static inline int32_t longest(const wordpiece *wp, uint32_t node, const char *text, size_t at, size_t length,
                              size_t *end)
{
    int32_t best = -1;
    for (size_t i = at; i < length; i++) {
        node = emb_trie_step(&wp->vocab.trie, node, (unsigned char)text[i]);
        if (node == 0)
            break;
        int32_t value = emb_trie_value(&wp->vocab.trie, node);
        if (value >= 0) {
            best = value;
            *end = i + 1;
        }
    }
    return best;
}

/* The next token of a word from *at on: its id, with *at behind it; -1 if no token fits. */
static inline int32_t next_token(const wordpiece *wp, const char *word, size_t length, size_t *at)
{
    if (*at == 0)
        return longest(wp, EMB_TRIE_ROOT, word, 0, length, at);
    return wp->continues ? longest(wp, wp->continuation, word, *at, length, at) : -1;
}

emb_status emb_wordpiece_unknown(const emb_vocab_model *model, emb_error *err)
{
    return emb_fail(err, EMB_E_CORRUPT, ((const wordpiece *)model)->where,
                    "a word is unknown, and model.unk_token is not in the vocabulary");
}

int emb_wordpiece_split(const emb_vocab_model *model, const char *word, size_t length, int32_t *ids, int room)
{
    const wordpiece *wp = (const wordpiece *)model;
    int count = 0;
    bool known = !longer_than(word, length, wp->max_chars);
    for (size_t at = 0; known && at < length;) {
        int32_t id = next_token(wp, word, length, &at);
        known = id >= 0 && count < room;
        if (known)
            ids[count++] = id;
    }
    if (known)
        return count;
    ids[0] = wp->unk;
    return wp->unk < 0 ? -1 : 1;
}

static emb_status wordpiece_tokenize(const emb_vocab_model *model, const char *text, uint32_t length,
                                     uint32_t base, void **scratch, emb_token_sink *sink, emb_error *err)
{
    const wordpiece *wp = (const wordpiece *)model;
    size_t before = sink->count;
    (void)scratch;
    if (length == 0)
        return EMB_OK;
    bool known = !longer_than(text, length, wp->max_chars);
    for (size_t at = 0, start; known && at < length;) {
        start = at;
        int32_t id = next_token(wp, text, length, &at);
        known = id >= 0;
        if (known && emb_token_sink_add(sink, id, base + (uint32_t)start, base + (uint32_t)at) != EMB_OK)
            return emb_fail_nomem(err, "tokens", sink->count * sizeof(int32_t));
    }
    if (known)
        return EMB_OK;
    sink->count = before;
    if (wp->unk < 0)
        return emb_wordpiece_unknown(model, err);
    if (emb_token_sink_add(sink, wp->unk, base, base + length) != EMB_OK)
        return emb_fail_nomem(err, "tokens", sink->count * sizeof(int32_t));
    return EMB_OK;
}

bool emb_is_wordpiece(const emb_vocab_model *model)
{
    return model->tokenize == wordpiece_tokenize;
}

static size_t wordpiece_size(const emb_vocab_model *model)
{
    return ((const wordpiece *)model)->vocab.size;
}

static size_t wordpiece_entries(const emb_vocab_model *model)
{
    return ((const wordpiece *)model)->vocab.entries;
}

static int32_t wordpiece_id(const emb_vocab_model *model, const char *token, size_t length)
{
    return emb_trie_find(&((const wordpiece *)model)->vocab.trie, token, length);
}

static const char *wordpiece_token(const emb_vocab_model *model, int32_t id, size_t *length)
{
    return emb_vocab_text(&((const wordpiece *)model)->vocab, id, length);
}

static void wordpiece_release(emb_vocab_model *model)
{
    emb_vocab_fini(&((wordpiece *)model)->vocab);
}

/* A string member, `otherwise` if it is absent. */
static emb_status read_string(emb_json_value json, const char *key, const char *otherwise, const char *where,
                              const char **text, size_t *length, emb_error *err)
{
    emb_json_value value;
    *text = otherwise;
    *length = strlen(otherwise);
    if (emb_json_get(json, key, &value) && !emb_json_string(value, text, length))
        return emb_fail(err, EMB_E_CORRUPT, where, "model.%s is %s, a string is needed", key,
                        emb_json_type_name(emb_json_type_of(value)));
    return EMB_OK;
}

emb_status emb_wordpiece_parse(emb_json_value json, emb_arena *arena, const char *where,
                               emb_vocab_model **out, emb_error *err)
{
    const char *unk, *prefix;
    size_t unk_length, prefix_length;
    int64_t max_chars = 100;
    emb_json_value value;
    emb_status status = read_string(json, "unk_token", "[UNK]", where, &unk, &unk_length, err);
    if (status == EMB_OK)
        status = read_string(json, "continuing_subword_prefix", "##", where, &prefix, &prefix_length, err);
    if (status != EMB_OK)
        return status;
    if (emb_json_get(json, "max_input_chars_per_word", &value) &&
        (!emb_json_int(value, &max_chars) || max_chars < 0))
        return emb_fail(err, EMB_E_CORRUPT, where,
                        "model.max_input_chars_per_word is not a number from 0 up");
    if (!emb_json_get(json, "vocab", &value))
        return emb_fail(err, EMB_E_CORRUPT, where, "model.vocab is missing");
    wordpiece *wp = emb_arena_calloc(arena, 1, sizeof *wp);
    if (wp == NULL)
        return emb_fail_nomem(err, "the WordPiece model", sizeof *wp);
    status = emb_vocab_parse(&wp->vocab, value, arena, where, err);
    if (status != EMB_OK)
        return status;
    wp->base = (emb_vocab_model){.kind = "WordPiece",
                                 .tokenize = wordpiece_tokenize,
                                 .size = wordpiece_size,
                                 .entries = wordpiece_entries,
                                 .id = wordpiece_id,
                                 .token = wordpiece_token,
                                 .release = wordpiece_release};
    wp->max_chars = (size_t)max_chars;
    wp->unk = emb_trie_find(&wp->vocab.trie, unk, unk_length);
    wp->continues = emb_trie_prefix(&wp->vocab.trie, prefix, prefix_length, &wp->continuation);
    wp->where = where;
    *out = &wp->base;
    return EMB_OK;
}
