/*
 * piece_trie.c: a double-array trie that stops where a single piece is left.
 *
 * Most of a plain trie over a vocabulary are unbranched tails: for 250,000 pieces two nodes of three. A
 * leaf here stands for the whole tail, which is compared with the text at once, so that the array is a
 * third as large and a miss ends after fewer loads.
 *
 * Building has to be quick, since every start of the program waits for it. Pieces are sorted by their
 * first eight bytes with a radix sort; the few that share those are sorted by comparison. Nodes are then
 * placed depth first. Children lie at base ^ byte, hence inside one block of 256 slots, and a walk
 * cannot leave the array. A place is looked for among the free slots of the newest blocks and only so many
 * times; then a new block is taken. That leaves some slots empty and keeps the time linear.
 */
#include "tokenizer/piece_trie.h"

#include <stdlib.h>

enum { BLOCK = 256, OPEN_BLOCKS = 16, TRIES = 24 };
#define FREE UINT32_MAX

typedef struct key {
    uint64_t head; /* first eight bytes, big-endian, zero-padded */
    uint32_t id;
} key;

/* A node whose pieces keys[begin .. end) share their first depth bytes. */
typedef struct task {
    uint32_t begin, end, depth, node;
} task;

typedef struct builder {
    const char *text;
    const uint32_t *begins;
    key *keys;
    emb_piece_node *nodes;
    uint32_t *next, *previous; /* circular list of free slots in open blocks; slot 0 is its head */
    size_t count, capacity;
    task *tasks;
    size_t task_count, task_capacity;
} builder;

/* ---- sorting ---- */

static uint64_t head_of(const builder *b, uint32_t id)
{
    uint64_t head = 0;
    uint32_t length = b->begins[id + 1] - b->begins[id];
    for (uint32_t i = 0; i < 8; i++)
        head = head << 8 | (i < length ? (unsigned char)b->text[b->begins[id] + i] : 0);
    return head;
}

/* Whole pieces; equal ones by id. */
static int compare(const builder *b, const key *x, const key *y)
{
    uint32_t x_length = b->begins[x->id + 1] - b->begins[x->id];
    uint32_t y_length = b->begins[y->id + 1] - b->begins[y->id];
    uint32_t shorter = x_length < y_length ? x_length : y_length;
    int order = memcmp(b->text + b->begins[x->id], b->text + b->begins[y->id], shorter);
    if (order == 0)
        order = (x_length > y_length) - (x_length < y_length);
    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

static void sift(const builder *b, key *keys, size_t at, size_t count)
{
    key moving = keys[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && compare(b, &keys[child], &keys[child + 1]) < 0)
            child++;
        if (compare(b, &moving, &keys[child]) >= 0)
            break;
        keys[at] = keys[child];
    }
    keys[at] = moving;
}

/* Pieces with equal heads: insertion for a few, else a heap sort. */
static void sort_group(const builder *b, key *keys, size_t count)
{
    if (count > 32) {
        for (size_t i = count / 2; i-- > 0;)
            sift(b, keys, i, count);
        for (size_t left = count; left-- > 1;) {
            key top = keys[0];
            keys[0] = keys[left];
            keys[left] = top;
            sift(b, keys, 0, left);
        }
        return;
    }
    for (size_t i = 1; i < count; i++) {
        key moving = keys[i];
        size_t at = i;
        for (; at > 0 && compare(b, &keys[at - 1], &moving) > 0; at--)
            keys[at] = keys[at - 1];
        keys[at] = moving;
    }
}

/* Least significant digit first, eleven bits at a time; digits that are all equal are skipped. */
static emb_status sort_keys(builder *b, size_t count)
{
    enum { DIGITS = 6, BITS = 11, VALUES = 1 << BITS };
    key *other = malloc((count ? count : 1) * sizeof *other);
    uint32_t *counts = calloc((size_t)DIGITS * VALUES, sizeof *counts);
    if (other == NULL || counts == NULL) {
        free(other);
        free(counts);
        return EMB_E_NOMEM;
    }
    for (size_t i = 0; i < count; i++)
        for (int d = 0; d < DIGITS; d++)
            counts[d * VALUES + (b->keys[i].head >> (d * BITS) & (VALUES - 1))]++;
    for (int d = 0; d < DIGITS; d++) {
        uint32_t *c = counts + d * VALUES, at = 0;
        if (count == 0 || c[b->keys[0].head >> (d * BITS) & (VALUES - 1)] == count)
            continue;
        for (int v = 0; v < VALUES; v++) {
            uint32_t these = c[v];
            c[v] = at;
            at += these;
        }
        for (size_t i = 0; i < count; i++)
            other[c[b->keys[i].head >> (d * BITS) & (VALUES - 1)]++] = b->keys[i];
        key *sorted = other;
        other = b->keys;
        b->keys = sorted;
    }
    free(other);
    free(counts);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && b->keys[end].head == b->keys[i].head; end++)
            ;
        if (end - i > 1)
            sort_group(b, b->keys + i, end - i);
    }
    return EMB_OK;
}

/* ---- placing ---- */

static emb_status grow(builder *b)
{
    size_t capacity = b->capacity * 2;
    void *nodes = realloc(b->nodes, capacity * sizeof *b->nodes);
    if (nodes != NULL)
        b->nodes = nodes;
    void *next = realloc(b->next, capacity * sizeof *b->next);
    if (next != NULL)
        b->next = next;
    void *previous = realloc(b->previous, capacity * sizeof *b->previous);
    if (previous != NULL)
        b->previous = previous;
    if (nodes == NULL || next == NULL || previous == NULL)
        return EMB_E_NOMEM;
    b->capacity = capacity;
    return EMB_OK;
}

static void take(builder *b, uint32_t slot)
{
    b->next[b->previous[slot]] = b->next[slot];
    b->previous[b->next[slot]] = b->previous[slot];
}

/* Adds a block of free slots and closes the one that becomes too old. */
static emb_status add_block(builder *b)
{
    if (b->count + BLOCK > INT32_MAX)
        return EMB_E_LIMIT;
    if (b->count + BLOCK > b->capacity && grow(b) != EMB_OK)
        return EMB_E_NOMEM;
    uint32_t first = (uint32_t)b->count;
    for (uint32_t slot = first; slot < first + BLOCK; slot++) {
        b->nodes[slot] = (emb_piece_node){EMB_PIECE_LEAF, FREE, -1};
        if (slot == 0) {
            b->next[0] = b->previous[0] = 0;
            continue;
        }
        b->next[slot] = 0;
        b->previous[slot] = b->previous[0];
        b->next[b->previous[0]] = slot;
        b->previous[0] = slot;
    }
    b->count += BLOCK;
    if (b->count > (size_t)OPEN_BLOCKS * BLOCK) {
        uint32_t old = first - (OPEN_BLOCKS - 1) * BLOCK - BLOCK;
        for (uint32_t slot = old ? old : 1; slot < old + BLOCK; slot++)
            if (b->nodes[slot].check == FREE)
                take(b, slot);
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
    unsigned tries = 0;
    for (uint32_t slot = b->next[0]; slot != 0 && tries < TRIES; slot = b->next[slot], tries++) {
        if (fits(b, slot ^ bytes[0], bytes, count)) {
            base = slot ^ bytes[0];
            break;
        }
    }
    if (base == FREE) {
        /* Slot 0 exists from the beginning, so a new block is all free. */
        base = (uint32_t)b->count;
        emb_status status = add_block(b);
        if (status != EMB_OK)
            return status;
    }
    b->nodes[node].base = base;
    for (unsigned i = 0; i < count; i++) {
        take(b, base ^ bytes[i]);
        b->nodes[base ^ bytes[i]].check = node;
    }
    return EMB_OK;
}

static emb_status push(builder *b, task t)
{
    if (b->task_count == b->task_capacity) {
        size_t capacity = b->task_capacity ? b->task_capacity * 2 : 1024;
        task *tasks = realloc(b->tasks, capacity * sizeof *tasks);
        if (tasks == NULL)
            return EMB_E_NOMEM;
        b->tasks = tasks;
        b->task_capacity = capacity;
    }
    b->tasks[b->task_count++] = t;
    return EMB_OK;
}

static uint32_t piece_length(const builder *b, uint32_t at)
{
    return b->begins[b->keys[at].id + 1] - b->begins[b->keys[at].id];
}

/* One node: the piece that ends in it, then its children. */
static emb_status expand(builder *b, task t)
{
    unsigned char bytes[256];
    uint32_t starts[257];
    unsigned count = 0;
    while (t.begin < t.end && piece_length(b, t.begin) == t.depth)
        b->nodes[t.node].id = (int32_t)b->keys[t.begin++].id;
    if (t.begin == t.end)
        return EMB_OK;
    for (uint32_t i = t.begin; i < t.end; i++) {
        unsigned char byte = (unsigned char)b->text[b->begins[b->keys[i].id] + t.depth];
        if (count == 0 || bytes[count - 1] != byte) {
            starts[count] = i;
            bytes[count++] = byte;
        }
    }
    starts[count] = t.end;
    emb_status status = place(b, t.node, bytes, count);
    for (unsigned i = count; i-- > 0 && status == EMB_OK;) {
        uint32_t child = b->nodes[t.node].base ^ bytes[i];
        if (starts[i + 1] - starts[i] == 1)
            b->nodes[child].id = (int32_t)b->keys[starts[i]].id; /* a leaf, as slots are from the start */
        else
            status = push(b, (task){starts[i], starts[i + 1], t.depth + 1, child});
    }
    return status;
}

emb_status emb_piece_trie_build(emb_piece_trie *trie, const char *text, const uint32_t *begins, size_t count)
{
    *trie = (emb_piece_trie){0};
    if (count > INT32_MAX)
        return EMB_E_LIMIT;
    builder b = {.text = text, .begins = begins, .capacity = count + count / 2 + 2 * BLOCK};
    emb_status status = EMB_E_NOMEM;
    b.keys = malloc((count ? count : 1) * sizeof *b.keys);
    b.nodes = malloc(b.capacity * sizeof *b.nodes);
    b.next = malloc(b.capacity * sizeof *b.next);
    b.previous = malloc(b.capacity * sizeof *b.previous);
    if (b.keys == NULL || b.nodes == NULL || b.next == NULL || b.previous == NULL)
        goto out;
    for (size_t i = 0; i < count; i++)
        b.keys[i] = (key){head_of(&b, (uint32_t)i), (uint32_t)i};
    status = sort_keys(&b, count);
    if (status == EMB_OK)
        status = add_block(&b);
    if (status == EMB_OK)
        status = push(&b, (task){0, (uint32_t)count, 0, 0});
    while (b.task_count > 0 && status == EMB_OK)
        status = expand(&b, b.tasks[--b.task_count]);
out:
    free(b.keys);
    free(b.next);
    free(b.previous);
    free(b.tasks);
    if (status != EMB_OK) {
        free(b.nodes);
        return status;
    }
    emb_piece_node *trimmed = realloc(b.nodes, b.count * sizeof *trimmed);
    *trie = (emb_piece_trie){trimmed != NULL ? trimmed : b.nodes, b.count, text, begins};
    return EMB_OK;
}

void emb_piece_trie_fini(emb_piece_trie *trie)
{
    free(trie->nodes);
    *trie = (emb_piece_trie){0};
}

int32_t emb_piece_trie_find(const emb_piece_trie *trie, const char *text, size_t length)
{
    emb_piece_walk walk = emb_piece_walk_begin(trie, text, length);
    if (trie->nodes == NULL)
        return -1;
    if (length == 0)
        return trie->nodes[0].id;
    while (emb_piece_walk_next(&walk))
        if (walk.length == length)
            return walk.id;
    return -1;
}
