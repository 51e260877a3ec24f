/*
 * row.c: rows of the ledger and tables of them in memory.
 *
 * A table is chained through the rows themselves: an addition is one search, a new row one allocation, and
 * moving a row into another table none, which is why nothing that was counted can be lost between a caller
 * and the store. Growing the buckets is tried and may fail; then chains get longer. A row has room for
 * EMB_LEDGER_OTHER in place of each of its names, so that renaming does not allocate either.
 */
#include "ledger/parts.h"

#include "base/hash.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { OTHER_LENGTH = sizeof EMB_LEDGER_OTHER - 1, BUCKETS_MAX = 1 << 20 };

/* ---- amounts ---- */

uint64_t emb_ledger_sum_of(uint64_t a, uint64_t b)
{
    if (a > EMB_LEDGER_MOST || b > EMB_LEDGER_MOST || a > EMB_LEDGER_MOST - b)
        return EMB_LEDGER_MOST;
    return a + b;
}

void emb_ledger_amounts_add(emb_ledger_amounts *to, const emb_ledger_amounts *more)
{
    to->calls = emb_ledger_sum_of(to->calls, more->calls);
    to->texts = emb_ledger_sum_of(to->texts, more->texts);
    to->tokens = emb_ledger_sum_of(to->tokens, more->tokens);
    to->nusd = emb_ledger_sum_of(to->nusd, more->nusd);
    to->saved_nusd = emb_ledger_sum_of(to->saved_nusd, more->saved_nusd);
}

/* ---- rows ---- */

uint64_t emb_ledger_id_hash(const emb_ledger_id *id, uint64_t seed)
{
    uint64_t h = emb_hash_mix((uint64_t)id->minute_s ^ 0x9E3779B97F4A7C15u, seed ^ (uint64_t)id->kind << 56);
    for (int i = 0; i < EMB_LEDGER_NAMES; i++)
        h = id->lengths[i] ? emb_hash(id->names[i], id->lengths[i], h)
                           : emb_hash_mix(h ^ 0xE7037ED1A0B428DBu, 0x589965CC75374CC3u);
    return h;
}

static size_t room_for(size_t length)
{
    return (length > OTHER_LENGTH ? length : (size_t)OTHER_LENGTH) + 1;
}

emb_ledger_row *emb_ledger_row_make(const emb_ledger_id *id, uint64_t hash)
{
    size_t bytes = sizeof(emb_ledger_row);
    for (int i = 0; i < EMB_LEDGER_NAMES; i++)
        bytes += room_for(id->lengths[i]);
    emb_ledger_row *row = malloc(bytes);
    if (!row)
        return NULL;
    *row = (emb_ledger_row){.hash = hash, .minute_s = id->minute_s, .kind = (uint8_t)id->kind};
    char *at = row->names;
    for (int i = 0; i < EMB_LEDGER_NAMES; i++) {
        memcpy(at, id->lengths[i] ? id->names[i] : "", id->lengths[i]);
        at[id->lengths[i]] = 0;
        at += id->lengths[i] + 1;
        row->lengths[i] = id->lengths[i];
    }
    return row;
}

const char *emb_ledger_row_name(const emb_ledger_row *row, int name)
{
    const char *at = row->names;
    for (int i = 0; i < name; i++)
        at += row->lengths[i] + 1;
    return at;
}

void emb_ledger_row_id(const emb_ledger_row *row, emb_ledger_id *out)
{
    const char *at = row->names;
    out->minute_s = row->minute_s;
    out->kind = (emb_ledger_kind)row->kind;
    for (int i = 0; i < EMB_LEDGER_NAMES; i++) {
        out->names[i] = at;
        out->lengths[i] = row->lengths[i];
        at += row->lengths[i] + 1;
    }
}

void emb_ledger_row_rename_other(emb_ledger_row *row, int name)
{
    char *at = row->names, *rest;
    size_t length = 0;
    for (int i = 0; i < name; i++)
        at += row->lengths[i] + 1;
    rest = at + row->lengths[name] + 1;
    for (int i = name + 1; i < EMB_LEDGER_NAMES; i++)
        length += row->lengths[i] + 1u;
    memmove(at + OTHER_LENGTH + 1, rest, length);
    memcpy(at, EMB_LEDGER_OTHER, OTHER_LENGTH + 1);
    row->lengths[name] = OTHER_LENGTH;
}

void emb_ledger_row_repair(emb_ledger_row *row, bool ascii)
{
    char *at = row->names;
    for (int i = 0; i < EMB_LEDGER_NAMES; at += row->lengths[i] + 1, i++)
        for (size_t n = 0, length = row->lengths[i]; n < length; n++) {
            if (!ascii)
                n += emb_utf8_valid_prefix(at + n, length - n);
            if (n < length && (!ascii || (unsigned char)at[n] > 0x7E))
                at[n] = '?';
        }
}

/* ---- tables ---- */

bool emb_ledger_table_init(emb_ledger_table *t, size_t buckets)
{
    *t = (emb_ledger_table){.buckets = calloc(buckets, sizeof *t->buckets), .mask = buckets - 1};
    return t->buckets != NULL;
}

void emb_ledger_table_fini(emb_ledger_table *t)
{
    while (t->rows) {
        emb_ledger_row *row = t->rows;
        t->rows = row->sibling;
        free(row);
    }
    free(t->buckets);
    *t = (emb_ledger_table){0};
}

static bool is_row(const emb_ledger_row *row, const emb_ledger_id *id)
{
    const char *at = row->names;
    if (row->minute_s != id->minute_s || row->kind != id->kind ||
        memcmp(row->lengths, id->lengths, sizeof id->lengths) != 0)
        return false;
    for (int i = 0; i < EMB_LEDGER_NAMES; at += id->lengths[i] + 1, i++)
        if (id->lengths[i] && memcmp(at, id->names[i], id->lengths[i]) != 0)
            return false;
    return true;
}

emb_ledger_row *emb_ledger_table_find(const emb_ledger_table *t, const emb_ledger_id *id, uint64_t hash)
{
    emb_ledger_row *row = t->buckets[hash & t->mask];
    while (row && (row->hash != hash || !is_row(row, id)))
        row = row->next;
    return row;
}

static void grow(emb_ledger_table *t)
{
    size_t buckets = 4 * (t->mask + 1);
    emb_ledger_row **fresh = buckets <= BUCKETS_MAX ? calloc(buckets, sizeof *fresh) : NULL;
    if (!fresh)
        return;
    free(t->buckets);
    t->buckets = fresh;
    t->mask = buckets - 1;
    for (emb_ledger_row *row = t->rows; row; row = row->sibling) {
        row->next = fresh[row->hash & t->mask];
        fresh[row->hash & t->mask] = row;
    }
}

void emb_ledger_table_link(emb_ledger_table *t, emb_ledger_row *row)
{
    emb_ledger_row **bucket;
    if (t->count > 2 * t->mask)
        grow(t);
    bucket = &t->buckets[row->hash & t->mask];
    row->next = *bucket;
    *bucket = row;
    row->sibling = t->rows;
    t->rows = row;
    t->count++;
}

bool emb_ledger_table_put(emb_ledger_table *t, emb_ledger_row *row)
{
    emb_ledger_id id;
    emb_ledger_row_id(row, &id);
    emb_ledger_row *like = emb_ledger_table_find(t, &id, row->hash);
    if (!like) {
        emb_ledger_table_link(t, row);
        return true;
    }
    emb_ledger_amounts_add(&like->amounts, &row->amounts);
    free(row);
    return false;
}

emb_ledger_row *emb_ledger_table_pop(emb_ledger_table *t)
{
    emb_ledger_row *row = t->rows;
    if (!row)
        return NULL;
    emb_ledger_row **link = &t->buckets[row->hash & t->mask];
    while (*link != row)
        link = &(*link)->next;
    *link = row->next;
    t->rows = row->sibling;
    t->count--;
    row->next = row->sibling = NULL;
    return row;
}
