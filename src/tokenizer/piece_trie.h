/*
 * piece_trie.h: all pieces of a large vocabulary that a text begins with, shortest first.
 *
 *     emb_piece_trie trie;
 *     if ((st = emb_piece_trie_build(&trie, text, begins, count))) return st;
 *     emb_piece_walk walk = emb_piece_walk_begin(&trie, s, n);
 *     while (emb_piece_walk_next(&walk)) ... walk.id, walk.length
 *     emb_piece_trie_fini(&trie);
 *
 * Piece i is text[begins[i] .. begins[i + 1]); both are borrowed for the trie's life. Of equal pieces the
 * last one counts. Immutable once built, shared by all threads.
 */
#ifndef EMB_TOKENIZER_PIECE_TRIE_H
#define EMB_TOKENIZER_PIECE_TRIE_H

#include <embedd.h>
#include <string.h>

/* The child for byte b is base ^ b, if its check is this node. A leaf has one piece below it, whose
 * other bytes are compared with the text. */
typedef struct emb_piece_node {
    uint32_t base; /* EMB_PIECE_LEAF: leaf */
    uint32_t check;
    int32_t id; /* of the piece that ends here (or, in a leaf, below); -1: none */
} emb_piece_node;

#define EMB_PIECE_LEAF UINT32_MAX

typedef struct emb_piece_trie {
    emb_piece_node *nodes;
    size_t count;
    const char *text;
    const uint32_t *begins;
} emb_piece_trie;

/* EMB_E_NOMEM; EMB_E_LIMIT for more than 2^31 nodes. On failure *trie is empty. */
EMB_MUST_CHECK emb_status emb_piece_trie_build(emb_piece_trie *trie, const char *text, const uint32_t *begins,
                                               size_t count);
void emb_piece_trie_fini(emb_piece_trie *trie);
/* The id of a whole piece, -1 if there is none. */
int32_t emb_piece_trie_find(const emb_piece_trie *trie, const char *text, size_t length);

typedef struct emb_piece_walk {
    const emb_piece_trie *trie;
    const char *text;
    size_t available, depth;
    uint32_t node;
    int32_t id;    /* of the last match */
    size_t length; /* its bytes */
} emb_piece_walk;

static inline emb_piece_walk emb_piece_walk_begin(const emb_piece_trie *trie, const char *text, size_t length)
{
    return (emb_piece_walk){trie, text, length, 0, 0, -1, 0};
}

/* Goes on to the next longer piece; false when there is none. The empty piece is never reported. */
static inline bool emb_piece_walk_next(emb_piece_walk *walk)
{
    const emb_piece_node *nodes = walk->trie->nodes;
    while (walk->depth < walk->available) {
        uint32_t base = nodes[walk->node].base;
        if (base == EMB_PIECE_LEAF)
            return false;
        uint32_t next = base ^ (unsigned char)walk->text[walk->depth];
        if (nodes[next].check != walk->node)
            return false;
        walk->node = next;
        walk->depth++;
        int32_t id = nodes[next].id;
        if (id < 0)
            continue;
        walk->id = id;
        walk->length = walk->depth;
        if (nodes[next].base != EMB_PIECE_LEAF)
            return true;
        uint32_t begin = walk->trie->begins[id];
        walk->length = walk->trie->begins[id + 1] - begin;
        return walk->length <= walk->available &&
               memcmp(walk->trie->text + begin + walk->depth, walk->text + walk->depth,
                      walk->length - walk->depth) == 0;
    }
    return false;
}

#endif
