/*
 * vocab.c: reading {"token": id} objects.
 *
 * Two passes: the first finds the highest id, so that the table by id is allocated once. That table is
 * as long as the highest id, which a hostile file chooses; it may not exceed a small multiple of the
 * number of tokens.
 */
#include "tokenizer/vocab.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 1 << 24, SPARE_IDS = 1 << 16 };

/* Finds the number of tokens, the highest id and the bytes of text. */
static emb_status measure(emb_json_value object, const char *where, size_t *entries, size_t *size,
                          size_t *bytes, emb_error *err)
{
    const char *key;
    size_t length;
    emb_json_value value;
    int64_t id;
    *entries = *size = *bytes = 0;
    for (emb_json_iter it = emb_json_begin(object); emb_json_next(&it, &key, &length, &value);) {
        if (!emb_json_int(value, &id) || id < 0 || id > INT32_MAX - 1)
            return emb_fail(err, EMB_E_CORRUPT, where, "the id of token \"%.*s\" is not a number from 0 up",
                            (int)(length < 64 ? length : 64), key);
        if (length > INT32_MAX)
            return emb_fail(err, EMB_E_LIMIT, where, "a token has %zu bytes", length);
        if ((size_t)id + 1 > *size)
            *size = (size_t)id + 1;
        *entries += 1;
        *bytes += length;
    }
    if (*entries > MAX_TOKENS || *size > *entries * 8 + SPARE_IDS)
        return emb_fail(err, EMB_E_LIMIT, where, "the highest id is %zu with only %zu tokens", *size - 1,
                        *entries);
    return EMB_OK;
}

emb_status emb_vocab_parse(emb_vocab *vocab, emb_json_value object, emb_arena *arena, const char *where,
                           emb_error *err)
{
    size_t bytes, length, count = 0;
    const char *key;
    emb_json_value value;
    *vocab = (emb_vocab){0};
    if (emb_json_type_of(object) != EMB_JSON_OBJECT)
        return emb_fail(err, EMB_E_CORRUPT, where, "is %s, an object is needed",
                        emb_json_type_name(emb_json_type_of(object)));
    emb_status status = measure(object, where, &vocab->entries, &vocab->size, &bytes, err);
    if (status != EMB_OK)
        return status;
    vocab->tokens = emb_arena_calloc(arena, vocab->size ? vocab->size : 1, sizeof *vocab->tokens);
    char *text = emb_arena_alloc(arena, bytes ? bytes : 1);
    emb_trie_key *keys = malloc((vocab->entries ? vocab->entries : 1) * sizeof *keys);
    if (vocab->tokens == NULL || text == NULL || keys == NULL) {
        free(keys);
        return emb_fail_nomem(err, "the vocabulary", bytes);
    }
    for (emb_json_iter it = emb_json_begin(object); emb_json_next(&it, &key, &length, &value);) {
        int64_t id = 0;
        if (!emb_json_int(value, &id))
            continue;
        memcpy(text, key, length);
        keys[count++] = (emb_trie_key){text, (uint32_t)length, (int32_t)id};
        vocab->tokens[id] = (emb_vocab_token){text, (uint32_t)length};
        text += length;
    }
    status = emb_trie_build(&vocab->trie, keys, count);
    free(keys);
    if (status == EMB_E_NOMEM)
        return emb_fail_nomem(err, "the vocabulary's trie", bytes);
    if (status != EMB_OK)
        return emb_fail(err, status, where, "the vocabulary is too large");
    return EMB_OK;
}

void emb_vocab_fini(emb_vocab *vocab)
{
    emb_trie_fini(&vocab->trie);
}

const char *emb_vocab_text(const emb_vocab *vocab, int32_t id, size_t *length)
{
    if (id < 0 || (size_t)id >= vocab->size || vocab->tokens[id].text == NULL)
        return NULL;
    *length = vocab->tokens[id].length;
    return vocab->tokens[id].text;
}
