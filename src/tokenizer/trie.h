/*
 * trie.h: an immutable map from byte strings to ids, walked byte by byte.
 *
 *     emb_trie trie;
 *     if ((st = emb_trie_build(&trie, keys, count))) return st;
 *     for (uint32_t node = EMB_TRIE_ROOT; i < n && (node = emb_trie_step(&trie, node, s[i])); i++)
 *         if (emb_trie_value(&trie, node) >= 0) ...   // s[0 .. i] is a key
 *     emb_trie_fini(&trie);
 *
 * Keys are borrowed while building only. Of equal keys the last one counts. A built trie is shared by
 * all threads.
 */
#ifndef EMB_TOKENIZER_TRIE_H
#define EMB_TOKENIZER_TRIE_H

#include <embedd.h>

typedef struct emb_trie_key {
    const char *text;
    uint32_t length;
    int32_t value; /* >= 0 */
} emb_trie_key;

/* The child of a node for byte b is base ^ b, if its check is the node. */
typedef struct emb_trie_node {
    uint32_t base, check;
    int32_t value; /* -1: no key ends here */
} emb_trie_node;

typedef struct emb_trie {
    emb_trie_node *nodes;
    size_t count;
} emb_trie;

#define EMB_TRIE_ROOT 0u

/* EMB_E_NOMEM; EMB_E_LIMIT for more than 2^31 nodes. On failure *trie is empty. */
EMB_MUST_CHECK emb_status emb_trie_build(emb_trie *trie, const emb_trie_key *keys, size_t count);
void emb_trie_fini(emb_trie *trie);

/* The child, 0 if there is none. */
static inline uint32_t emb_trie_step(const emb_trie *trie, uint32_t node, unsigned char byte)
{
    uint32_t next = trie->nodes[node].base ^ byte;
    return trie->nodes[next].check == node ? next : 0;
}

static inline int32_t emb_trie_value(const emb_trie *trie, uint32_t node)
{
    return trie->nodes[node].value;
}

/* The value of a whole key, -1 if absent. */
int32_t emb_trie_find(const emb_trie *trie, const char *text, size_t length);
/* The node where a prefix ends; false if no key has that prefix. */
bool emb_trie_prefix(const emb_trie *trie, const char *text, size_t length, uint32_t *node);

#endif
