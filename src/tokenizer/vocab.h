/*
 * vocab.h: the tokens of a vocabulary by id and by text, as WordPiece and WordLevel-like "vocab" objects
 * give them ({"token": id}).
 *
 *     emb_vocab vocab;
 *     if ((st = emb_vocab_parse(&vocab, json, arena, "tokenizer.json: model.vocab", err))) return st;
 *     id = emb_trie_find(&vocab.trie, "hello", 5);
 *     emb_vocab_fini(&vocab);
 *
 * Immutable once parsed, shared by all threads.
 */
#ifndef EMB_TOKENIZER_VOCAB_H
#define EMB_TOKENIZER_VOCAB_H

#include "base/arena.h"
#include "base/json.h"
#include "tokenizer/trie.h"

typedef struct emb_vocab_token {
    const char *text; /* in the arena; NULL: no token has this id */
    uint32_t length;
} emb_vocab_token;

typedef struct emb_vocab {
    emb_trie trie;
    emb_vocab_token *tokens; /* by id, in the arena */
    size_t size;             /* highest id + 1 */
    size_t entries;
} emb_vocab;

/* EMB_E_CORRUPT for values that are not ids; EMB_E_LIMIT where ids are far sparser than a vocabulary's
 * can be. On failure there is nothing to release. */
EMB_MUST_CHECK emb_status emb_vocab_parse(emb_vocab *vocab, emb_json_value object, emb_arena *arena,
                                          const char *where, emb_error *err);
void emb_vocab_fini(emb_vocab *vocab);
/* NULL if no token has that id. */
const char *emb_vocab_text(const emb_vocab *vocab, int32_t id, size_t *length);

#endif
