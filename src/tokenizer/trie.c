/*
 * trie.c: a double-array trie.
 *
 * A step is one load and one compare, and a node is twelve bytes beside its value, so that a walk
 * touches one cache line a byte; a hash of every prefix would hash again at each length. Children are
 * placed by base ^ byte (never base + byte), which keeps all children of a node inside one block of 256
 * slots: a step cannot leave the array whatever the byte.
 *
 * Building: keys are sorted (by their first eight bytes, then the rest), the nodes are the runs of keys
 * that share a prefix, placed breadth first. A place is looked for among the free slots of the newest
 * blocks only; older blocks are closed, which bounds the search and leaves some percent of slots empty.
 */
#include "tokenizer/trie.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256, OPEN_BLOCKS = 8 };
#define FREE UINT32_MAX

typedef struct sorted_key {
    uint64_t head; /* first eight bytes, big-endian, zero-padded */
    const emb_trie_key *key;
} sorted_key;

/* A node whose children are still to be placed: keys[begin..end) share their first depth bytes. */
typedef struct pending {
    uint32_t begin, end, depth, node;
} pending;

typedef struct builder {
    emb_trie_node *nodes;
    uint32_t *next_free; /* circular list of free slots in open blocks, with sentinel slot 0 */
    uint32_t *previous_free;
    size_t count, capacity;
    const sorted_key *keys;
    pending *queue;
    size_t queued, queue_capacity;
} builder;

static int compare_keys(const void *left, const void *right)
{
    const sorted_key *a = left, *b = right;
    if (a->head != b->head)
        return a->head < b->head ? -1 : 1;
    uint32_t shorter = a->key->length < b->key->length ? a->key->length : b->key->length;
    int order = memcmp(a->key->text, b->key->text, shorter);
    if (order == 0 && a->key->length != b->key->length)
        order = a->key->length < b->key->length ? -1 : 1;
    if (order == 0)
        order = a->key < b->key ? -1 : a->key > b->key; /* equal keys stay in the caller's order */
    return order;
}

static sorted_key *sort_keys(const emb_trie_key *keys, size_t count)
{
    sorted_key *sorted = malloc((count ? count : 1) * sizeof *sorted);
    if (sorted == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        uint64_t head = 0;
        for (uint32_t j = 0; j < 8; j++)
            head = head << 8 | (j < keys[i].length ? (unsigned char)keys[i].text[j] : 0);
        sorted[i] = (sorted_key){head, &keys[i]};
    }
    qsort(sorted, count, sizeof *sorted, compare_keys);
    return sorted;
}

static void unlink_free(builder *b, uint32_t slot)
{
    b->next_free[b->previous_free[slot]] = b->next_free[slot];
    b->previous_free[b->next_free[slot]] = b->previous_free[slot];
}

/* Adds a block of free slots at the end and closes the one that becomes too old. */
static emb_status add_block(builder *b)
{
    if (b->count + BLOCK > INT32_MAX)
        return EMB_E_LIMIT;
    if (b->count == b->capacity) {
        size_t capacity = b->capacity ? b->capacity * 2 : 16 * BLOCK;
        void *nodes = realloc(b->nodes, capacity * sizeof *b->nodes);
        if (nodes != NULL)
            b->nodes = nodes;
        void *next = realloc(b->next_free, capacity * sizeof *b->next_free);
        if (next != NULL)
            b->next_free = next;
        void *previous = realloc(b->previous_free, capacity * sizeof *b->previous_free);
        if (previous != NULL)
            b->previous_free = previous;
        if (nodes == NULL || next == NULL || previous == NULL)
            return EMB_E_NOMEM;
        b->capacity = capacity;
    }
    uint32_t first = (uint32_t)b->count;
    for (uint32_t slot = first; slot < first + BLOCK; slot++) {
        b->nodes[slot] = (emb_trie_node){0, FREE, -1};
        if (slot == 0) {
            b->next_free[0] = b->previous_free[0] = 0;
            continue;
        }
        b->next_free[slot] = 0;
        b->previous_free[slot] = b->previous_free[0];
        b->next_free[b->previous_free[0]] = slot;
        b->previous_free[0] = slot;
    }
    b->count += BLOCK;
    if (b->count > OPEN_BLOCKS * BLOCK) {
        uint32_t old = (uint32_t)b->count - (OPEN_BLOCKS + 1) * BLOCK;
        for (uint32_t slot = old ? old : 1; slot < old + BLOCK; slot++)
            if (b->nodes[slot].check == FREE)
                unlink_free(b, slot);
    }
    return EMB_OK;
}

static bool fits(const builder *b, uint32_t base, const unsigned char *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint32_t slot = base ^ bytes[i];
        if (slot == 0 || b->nodes[slot].check != FREE)
            return false;
    }
    return true;
}

/* Places the children of node and sets its base. */
static emb_status place(builder *b, uint32_t node, const unsigned char *bytes, unsigned count)
{
    uint32_t base = FREE;
    for (uint32_t slot = b->next_free[0]; slot != 0; slot = b->next_free[slot]) {
        if (fits(b, slot ^ bytes[0], bytes, count)) {
            base = slot ^ bytes[0];
            break;
        }
    }
    if (base == FREE) {
        uint32_t first = (uint32_t)b->count;
        emb_status status = add_block(b);
        if (status != EMB_OK)
            return status;
        base = first;
    }
    b->nodes[node].base = base;
    for (unsigned i = 0; i < count; i++) {
        unlink_free(b, base ^ bytes[i]);
        b->nodes[base ^ bytes[i]].check = node;
    }
    return EMB_OK;
}

static emb_status enqueue(builder *b, pending item)
{
    if (b->queued == b->queue_capacity) {
        size_t capacity = b->queue_capacity ? b->queue_capacity * 2 : 4096;
        void *queue = realloc(b->queue, capacity * sizeof *b->queue);
        if (queue == NULL)
            return EMB_E_NOMEM;
        b->queue = queue;
        b->queue_capacity = capacity;
    }
    b->queue[b->queued++] = item;
    return EMB_OK;
}

/* Handles one node: its own value, then its children. */
static emb_status expand(builder *b, pending item)
{
    while (item.begin < item.end && b->keys[item.begin].key->length == item.depth)
        b->nodes[item.node].value = b->keys[item.begin++].key->value;
    if (item.begin == item.end)
        return EMB_OK;
    unsigned char bytes[256];
    uint32_t starts[257];
    unsigned count = 0;
    for (uint32_t i = item.begin; i < item.end; i++) {
        unsigned char byte = (unsigned char)b->keys[i].key->text[item.depth];
        if (count == 0 || bytes[count - 1] != byte) {
            starts[count] = i;
            bytes[count++] = byte;
        }
    }
    starts[count] = item.end;
    emb_status status = place(b, item.node, bytes, count);
    for (unsigned i = 0; i < count && status == EMB_OK; i++)
        status = enqueue(
            b, (pending){starts[i], starts[i + 1], item.depth + 1, b->nodes[item.node].base ^ bytes[i]});
    return status;
}

emb_status emb_trie_build(emb_trie *trie, const emb_trie_key *keys, size_t count)
{
    builder b = {0};
    *trie = (emb_trie){0};
    if (count > INT32_MAX)
        return EMB_E_LIMIT;
    sorted_key *sorted = sort_keys(keys, count);
    b.keys = sorted;
    emb_status status = sorted == NULL ? EMB_E_NOMEM : add_block(&b);
    if (status == EMB_OK)
        status = enqueue(&b, (pending){0, (uint32_t)count, 0, EMB_TRIE_ROOT});
    for (size_t i = 0; i < b.queued && status == EMB_OK; i++)
        status = expand(&b, b.queue[i]);
    if (status == EMB_OK) {
        void *trimmed = realloc(b.nodes, b.count * sizeof *b.nodes);
        trie->nodes = trimmed != NULL ? trimmed : b.nodes;
        trie->count = b.count;
    } else {
        free(b.nodes);
    }
    free(sorted);
    free(b.queue);
    free(b.next_free);
    free(b.previous_free);
    return status;
}

void emb_trie_fini(emb_trie *trie)
{
    free(trie->nodes);
    *trie = (emb_trie){0};
}

bool emb_trie_prefix(const emb_trie *trie, const char *text, size_t length, uint32_t *node)
{
    uint32_t at = EMB_TRIE_ROOT;
    for (size_t i = 0; i < length; i++) {
        at = emb_trie_step(trie, at, (unsigned char)text[i]);
        if (at == 0)
            return false;
    }
    *node = at;
    return true;
}

int32_t emb_trie_find(const emb_trie *trie, const char *text, size_t length)
{
    uint32_t node;
    return emb_trie_prefix(trie, text, length, &node) ? emb_trie_value(trie, node) : -1;
}
