/*
 * L2 in Redis.
 *
 *     embed:v1:<hex of the key>        "EMR1", length of the model's name (uint16), two zero bytes, when it
 *                                      was written (uint64, seconds since 1970), the name, value.h's bytes
 *     embed:v1:text:<hex of the key>   the text, where texts are stored; expires with the entry
 *     embed:v1:uses                    sorted set of keys (32 bytes each) by how often they were read
 *
 * Nothing else in the database is touched, and no command walks all of it at once: it may be shared, and one
 * thread serves everybody.
 *
 * Reads are one pipeline of MGETs, writes one of SETs with PX; both take what has been counted of uses with
 * them.
 *
 * The model and the age stand in the entry and not in an index beside it: entries vanish by expiry and
 * eviction without a word, an index would have to be swept for ever, could be evicted itself, and costs a
 * command more for each write. So removal by model or age walks all keys of the prefix, 512 at a time (SCAN,
 * GETRANGE of the head, UNLINK): a million in eight seconds or so, which is fine for what an operator does
 * now and then, and other clients never wait longer than for one such step. When its time runs out it says
 * how far it came, and a second call goes on with what is left.
 *
 * The set of uses is trimmed to its best USES_KEPT; members whose entries are gone are dropped when they turn
 * up.
 *
 * Statistics: Redis keeps none by prefix. Up to a page of SCAN they are exact; beyond, the share of ours in
 * the page and their mean length times the size of the database, the page being random since its order is
 * that of a hash.
 */
#include "cache/l2.h"

#include "base/clock.h"
#include "base/error.h"
#include "cache/l2_uses.h"
#include "store/redis.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PREFIX "embed:v1:"
#define TEXT_PREFIX PREFIX "text:"
#define USES_KEY PREFIX "uses"

enum {
    HEAD = 16,
    MAX_MODEL = 1024,
    KEYS_PER_MGET = 512, /* Redis does nothing else during one command */
    SCAN_COUNT = 512,
    STATS_PAGE = 2048,
    PUT_BYTES = 4 << 20, /* of one pipeline: bounds the memory of a large put */
    USES_KEPT = 100000,
    MAX_TTL_S = 100 * 365 * 86400u, /* Redis refuses times that overflow */
};

typedef struct redis_l2 {
    emb_l2 base;
    emb_redis *redis;
    emb_l2_uses uses;
    atomic_uint puts; /* since uses were trimmed last */
} redis_l2;

typedef struct stored {
    const char *model;
    size_t model_length;
    uint64_t written_s;
    const char *value;
    size_t length;
} stored;

static uint64_t now_s(void)
{
    return (uint64_t)time(NULL);
}

/* ---- entries ---- */

static void write_head(unsigned char head[HEAD], size_t model_length)
{
    uint16_t length = (uint16_t)model_length, zero = 0;
    uint64_t now = now_s();
    memcpy(head, "EMR1", 4);
    memcpy(head + 4, &length, 2);
    memcpy(head + 6, &zero, 2);
    memcpy(head + 8, &now, 8);
}

/* false: not written by us, or cut short before the value begins. */
static bool read_stored(const char *data, size_t size, stored *out)
{
    uint16_t length;
    if (size < HEAD || memcmp(data, "EMR1", 4) != 0)
        return false;
    memcpy(&length, data + 4, 2);
    if (length > size - HEAD)
        return false;
    memcpy(&out->written_s, data + 8, 8);
    out->model = data + HEAD;
    out->model_length = length;
    out->value = out->model + length;
    out->length = size - HEAD - length;
    return true;
}

static void add_key(emb_redis_batch *batch, const emb_cache_key *key)
{
    char text[EMB_CACHE_KEY_TEXT];
    emb_cache_key_text(key, text);
    emb_redis_bytes(batch, text, EMB_CACHE_KEY_TEXT - 1);
}

static void add_text_key(emb_redis_batch *batch, const emb_cache_key *key)
{
    char text[sizeof TEXT_PREFIX + EMB_CACHE_KEY_TEXT], plain[EMB_CACHE_KEY_TEXT];
    emb_cache_key_text(key, plain);
    int n = snprintf(text, sizeof text, "%s%s", TEXT_PREFIX, plain + strlen(PREFIX));
    emb_redis_bytes(batch, text, (size_t)n);
}

/* The key that a name of Redis's stands for; false for texts, uses, and what is not ours. */
static bool read_key(const emb_redis_reply *name, emb_cache_key *key)
{
    return name->type == EMB_REDIS_TEXT && name->length == EMB_CACHE_KEY_TEXT - 1 &&
           memcmp(name->text, PREFIX, strlen(PREFIX)) == 0 && emb_cache_key_parse(name->text, key);
}

static bool is_text_name(const emb_redis_reply *name)
{
    return name->type == EMB_REDIS_TEXT && name->length >= strlen(TEXT_PREFIX) &&
           memcmp(name->text, TEXT_PREFIX, strlen(TEXT_PREFIX)) == 0;
}

/* ---- uses ---- */

/* What was counted, at the end of a batch. Their replies are not looked at: a full or read-only server
 * serves reads. */
static void add_uses(redis_l2 *l, emb_redis_batch *batch)
{
    size_t count;
    emb_l2_use *taken = emb_l2_uses_take(&l->uses, &count);
    for (size_t i = 0; i < count; i++) {
        emb_redis_command(batch, 4);
        emb_redis_text(batch, "ZINCRBY");
        emb_redis_text(batch, USES_KEY);
        emb_redis_int(batch, taken[i].count);
        emb_redis_bytes(batch, taken[i].key.bytes, sizeof taken[i].key.bytes);
    }
    free(taken);
}

/* New entries are known to the set from the start, so that those that are asked for in this process's
 * memory alone, the most used of all, are found after a restart. */
static void add_new(redis_l2 *l, emb_redis_batch *batch, const emb_l2_item *items, size_t count)
{
    emb_redis_command(batch, 3 + 2 * count);
    emb_redis_text(batch, "ZADD");
    emb_redis_text(batch, USES_KEY);
    emb_redis_text(batch, "NX");
    for (size_t i = 0; i < count; i++) {
        emb_redis_text(batch, "0");
        emb_redis_bytes(batch, items[i].key->bytes, sizeof items[i].key->bytes);
    }
    if (atomic_fetch_add(&l->puts, (unsigned)count) > USES_KEPT / 100) {
        atomic_store(&l->puts, 0);
        emb_redis_command(batch, 4);
        emb_redis_text(batch, "ZREMRANGEBYRANK");
        emb_redis_text(batch, USES_KEY);
        emb_redis_int(batch, 0);
        emb_redis_int(batch, -(USES_KEPT + 1));
    }
}

/* ---- get and put ---- */

static void add_gets(emb_redis_batch *batch, const emb_cache_key *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i += KEYS_PER_MGET) {
        size_t n = count - i < KEYS_PER_MGET ? count - i : KEYS_PER_MGET;
        emb_redis_command(batch, 1 + n);
        emb_redis_text(batch, "MGET");
        for (size_t j = 0; j < n; j++)
            add_key(batch, keys[i + j]);
    }
}

/* An entry that we did not write is handed over as it is: value.h refuses it, and the cache counts and
 * removes it. */
static void hand_over(redis_l2 *l, const emb_cache_key *key, size_t index, const emb_redis_reply *reply,
                      emb_l2_found found, void *context)
{
    stored s;
    if (reply->type != EMB_REDIS_TEXT)
        return;
    if (!read_stored(reply->text, reply->length, &s))
        s = (stored){.value = reply->text, .length = reply->length};
    else
        emb_l2_uses_note(&l->uses, key);
    found(context, index, s.value, s.length);
}

static emb_status expect_array(redis_l2 *l, const emb_redis_reply *reply, size_t length, emb_error *err)
{
    emb_status st = emb_redis_expect(l->redis, reply, EMB_REDIS_ARRAY, err);
    if (st == EMB_OK && reply->length != length)
        st = emb_fail(err, EMB_E_CORRUPT, emb_redis_where(l->redis),
                      "%s answered with %zu values where %zu were due", emb_redis_where(l->redis),
                      reply->length, length);
    return st;
}

/* Everything is looked at before anything is handed over: a caller gets all or an error. */
static emb_status read_gets(redis_l2 *l, const emb_redis_replies *replies, const emb_cache_key *const *keys,
                            size_t count, emb_l2_found found, void *context, emb_error *err)
{
    for (size_t i = 0, r = 0; i < count; i += KEYS_PER_MGET, r++) {
        emb_status st =
            expect_array(l, replies->list[r], count - i < KEYS_PER_MGET ? count - i : KEYS_PER_MGET, err);
        if (st != EMB_OK)
            return st;
    }
    for (size_t i = 0; i < count; i++)
        hand_over(l, keys[i], i, &replies->list[i / KEYS_PER_MGET]->elements[i % KEYS_PER_MGET], found,
                  context);
    return EMB_OK;
}

static emb_status redis_get_many(emb_l2 *l2, const emb_cache_key *const *keys, size_t count,
                                 uint64_t deadline_ns, emb_l2_found found, void *context, emb_error *err)
{
    redis_l2 *l = (redis_l2 *)l2;
    emb_redis_batch batch;
    emb_redis_replies replies;
    if (count == 0)
        return EMB_OK;
    emb_redis_batch_init(&batch);
    add_gets(&batch, keys, count);
    if (emb_l2_uses_due(&l->uses))
        add_uses(l, &batch);
    emb_status st = emb_redis_call(l->redis, &batch, deadline_ns, &replies, err);
    emb_redis_batch_fini(&batch);
    if (st != EMB_OK)
        return st;
    st = read_gets(l, &replies, keys, count, found, context, err);
    emb_redis_replies_fini(&replies);
    return st;
}

static void add_ttl(emb_redis_batch *batch, uint64_t ttl_s)
{
    if (!ttl_s)
        return;
    emb_redis_text(batch, "PX");
    emb_redis_int(batch, (int64_t)(ttl_s > MAX_TTL_S ? MAX_TTL_S : ttl_s) * 1000);
}

static emb_status add_put(emb_redis_batch *batch, const emb_l2_item *item, char **scratch, size_t *room,
                          emb_error *err)
{
    size_t model_length = item->model ? strlen(item->model) : 0, length;
    if (model_length > MAX_MODEL)
        return emb_fail(err, EMB_E_LIMIT, "model", "the name of a model is longer than %d bytes", MAX_MODEL);
    length = HEAD + model_length + item->length;
    if (length > *room) {
        char *more = realloc(*scratch, length);
        if (!more)
            return emb_fail_nomem(err, "a cache entry", length);
        *scratch = more;
        *room = length;
    }
    write_head((unsigned char *)*scratch, model_length);
    if (model_length)
        memcpy(*scratch + HEAD, item->model, model_length);
    memcpy(*scratch + HEAD + model_length, item->value, item->length);
    emb_redis_command(batch, item->ttl_s ? 5 : 3);
    emb_redis_text(batch, "SET");
    add_key(batch, item->key);
    emb_redis_bytes(batch, *scratch, length);
    add_ttl(batch, item->ttl_s);
    if (!item->text)
        return EMB_OK;
    emb_redis_command(batch, item->ttl_s ? 5 : 3);
    emb_redis_text(batch, "SET");
    add_text_key(batch, item->key);
    emb_redis_bytes(batch, item->text, item->text_length);
    add_ttl(batch, item->ttl_s);
    return EMB_OK;
}

/* The first failure among the first `count` replies. */
static emb_status check_all(redis_l2 *l, const emb_redis_replies *replies, size_t count, emb_error *err)
{
    emb_status st = EMB_OK;
    for (size_t i = 0; st == EMB_OK && i < count; i++)
        st = emb_redis_check(l->redis, replies->list[i], err);
    return st;
}

/* Some of the items, up to PUT_BYTES; *done counts them. */
static emb_status put_some(redis_l2 *l, emb_redis_batch *batch, const emb_l2_item *items, size_t count,
                           size_t *done, uint64_t deadline_ns, emb_error *err)
{
    emb_redis_replies replies;
    emb_status st = EMB_OK;
    char *scratch = NULL;
    size_t room = 0;
    emb_redis_batch_clear(batch);
    for (*done = 0; st == EMB_OK && *done < count && batch->bytes.length < PUT_BYTES; ++*done)
        st = add_put(batch, &items[*done], &scratch, &room, err);
    free(scratch);
    if (st != EMB_OK)
        return st;
    size_t sets = batch->commands;
    add_new(l, batch, items, *done);
    add_uses(l, batch);
    if ((st = emb_redis_call(l->redis, batch, deadline_ns, &replies, err)) != EMB_OK)
        return st;
    st = check_all(l, &replies, sets, err);
    emb_redis_replies_fini(&replies);
    return st;
}

static emb_status redis_put_many(emb_l2 *l2, const emb_l2_item *items, size_t count, uint64_t deadline_ns,
                                 emb_error *err)
{
    redis_l2 *l = (redis_l2 *)l2;
    emb_redis_batch batch;
    emb_status st = EMB_OK;
    emb_redis_batch_init(&batch);
    for (size_t at = 0, done; st == EMB_OK && at < count; at += done)
        st = put_some(l, &batch, items + at, count - at, &done, deadline_ns, err);
    emb_redis_batch_fini(&batch);
    return st;
}

/* ---- removal ---- */

static bool matches(const emb_cache_filter *filter, const emb_redis_reply *head)
{
    stored s;
    if (!filter->model && !filter->older_than_s)
        return true;
    if (head->type != EMB_REDIS_TEXT || !read_stored(head->text, head->length, &s))
        return false;
    uint64_t now = now_s(), age = now > s.written_s ? now - s.written_s : 0;
    if (filter->older_than_s && age <= filter->older_than_s)
        return false;
    return !filter->model ||
           (strlen(filter->model) == s.model_length && memcmp(filter->model, s.model, s.model_length) == 0);
}

static void add_head(emb_redis_batch *batch, const emb_cache_key *key)
{
    emb_redis_command(batch, 4);
    emb_redis_text(batch, "GETRANGE");
    add_key(batch, key);
    emb_redis_int(batch, 0);
    emb_redis_int(batch, HEAD + MAX_MODEL - 1);
}

static void add_removal(emb_redis_batch *batch, const emb_cache_key *key)
{
    emb_redis_command(batch, 2);
    emb_redis_text(batch, "UNLINK");
    add_key(batch, key);
    emb_redis_command(batch, 2);
    emb_redis_text(batch, "UNLINK");
    add_text_key(batch, key);
    emb_redis_command(batch, 3);
    emb_redis_text(batch, "ZREM");
    emb_redis_text(batch, USES_KEY);
    emb_redis_bytes(batch, key->bytes, sizeof key->bytes);
}

enum { COMMANDS_PER_REMOVAL = 3 };

/* Sends the removals of a batch, and counts the entries that were there. */
static emb_status send_removals(redis_l2 *l, const emb_redis_batch *batch, uint64_t deadline_ns,
                                uint64_t *removed, emb_error *err)
{
    emb_redis_replies replies;
    emb_status st = emb_redis_call(l->redis, batch, deadline_ns, &replies, err);
    if (st != EMB_OK)
        return st;
    for (size_t i = 0; st == EMB_OK && i < replies.count; i += COMMANDS_PER_REMOVAL)
        if ((st = emb_redis_expect(l->redis, replies.list[i], EMB_REDIS_INTEGER, err)) == EMB_OK)
            *removed += (uint64_t)replies.list[i]->integer;
    emb_redis_replies_fini(&replies);
    return st;
}

/* Those of the keys that match the filter. */
static emb_status remove_keys(redis_l2 *l, const emb_cache_filter *filter, const emb_cache_key *keys,
                              size_t count, uint64_t deadline_ns, uint64_t *removed, emb_error *err)
{
    emb_redis_batch batch;
    emb_redis_replies heads = {0};
    bool look = filter->model || filter->older_than_s;
    emb_status st = EMB_OK;
    if (!count)
        return EMB_OK;
    emb_redis_batch_init(&batch);
    if (look) {
        for (size_t i = 0; i < count; i++)
            add_head(&batch, &keys[i]);
        st = emb_redis_call(l->redis, &batch, deadline_ns, &heads, err);
        emb_redis_batch_clear(&batch);
    }
    for (size_t i = 0; st == EMB_OK && i < count; i++)
        if (!look || matches(filter, heads.list[i]))
            add_removal(&batch, &keys[i]);
    if (st == EMB_OK && batch.commands)
        st = send_removals(l, &batch, deadline_ns, removed, err);
    if (look)
        emb_redis_replies_fini(&heads);
    emb_redis_batch_fini(&batch);
    return st;
}

/* One step of SCAN: its names, in `replies`, which the caller releases; *cursor moves on, to "0" at the
 * end. */
static emb_status scan(redis_l2 *l, char cursor[32], unsigned page, uint64_t deadline_ns,
                       emb_redis_replies *replies, const emb_redis_reply **names, emb_error *err)
{
    emb_redis_batch batch;
    emb_redis_batch_init(&batch);
    emb_redis_command(&batch, 6);
    emb_redis_text(&batch, "SCAN");
    emb_redis_text(&batch, cursor);
    emb_redis_text(&batch, "MATCH");
    emb_redis_text(&batch, PREFIX "*");
    emb_redis_text(&batch, "COUNT");
    emb_redis_int(&batch, page);
    emb_status st = emb_redis_call(l->redis, &batch, deadline_ns, replies, err);
    emb_redis_batch_fini(&batch);
    if (st != EMB_OK)
        return st;
    if ((st = expect_array(l, replies->list[0], 2, err)) == EMB_OK) {
        const emb_redis_reply *next = &replies->list[0]->elements[0];
        *names = &replies->list[0]->elements[1];
        if (next->type != EMB_REDIS_TEXT || next->length >= 32 || (*names)->type != EMB_REDIS_ARRAY)
            st = emb_fail(err, EMB_E_CORRUPT, emb_redis_where(l->redis), "%s answered SCAN as Redis does not",
                          emb_redis_where(l->redis));
        else
            memcpy(cursor, next->text, next->length + 1);
    }
    if (st != EMB_OK)
        emb_redis_replies_fini(replies);
    return st;
}

/* The keys among the names; NULL when memory is short. */
static emb_cache_key *keys_of(const emb_redis_reply *names, size_t *count)
{
    emb_cache_key *keys = malloc((names->length + 1) * sizeof *keys);
    *count = 0;
    for (size_t i = 0; keys && i < names->length; i++)
        *count += read_key(&names->elements[i], &keys[*count]);
    return keys;
}

/* Texts without an entry, which expiry in between or eviction leaves: removed with everything. */
static emb_status remove_texts(redis_l2 *l, const emb_redis_reply *names, uint64_t deadline_ns,
                               emb_error *err)
{
    emb_redis_batch batch;
    emb_redis_replies replies;
    emb_redis_batch_init(&batch);
    for (size_t i = 0; i < names->length; i++)
        if (is_text_name(&names->elements[i])) {
            emb_redis_command(&batch, 2);
            emb_redis_text(&batch, "UNLINK");
            emb_redis_bytes(&batch, names->elements[i].text, names->elements[i].length);
        }
    emb_status st = emb_redis_call(l->redis, &batch, deadline_ns, &replies, err);
    emb_redis_batch_fini(&batch);
    if (st == EMB_OK) {
        st = check_all(l, &replies, replies.count, err);
        emb_redis_replies_fini(&replies);
    }
    return st;
}

static emb_status remove_page(redis_l2 *l, const emb_cache_filter *filter, const emb_redis_reply *names,
                              uint64_t deadline_ns, uint64_t *removed, emb_error *err)
{
    size_t count;
    emb_cache_key *keys = keys_of(names, &count);
    if (!keys)
        return emb_fail_nomem(err, "keys to remove", names->length * sizeof *keys);
    emb_status st = remove_keys(l, filter, keys, count, deadline_ns, removed, err);
    if (st == EMB_OK && !filter->model && !filter->older_than_s)
        st = remove_texts(l, names, deadline_ns, err);
    free(keys);
    return st;
}

static emb_status remove_walking(redis_l2 *l, const emb_cache_filter *filter, uint64_t deadline_ns,
                                 uint64_t *removed, emb_error *err)
{
    char cursor[32] = "0";
    uint64_t seen = 0;
    emb_status st;
    do {
        emb_redis_replies replies;
        const emb_redis_reply *names;
        if ((st = scan(l, cursor, SCAN_COUNT, deadline_ns, &replies, &names, err)) != EMB_OK)
            break;
        seen += names->length;
        st = remove_page(l, filter, names, deadline_ns, removed, err);
        emb_redis_replies_fini(&replies);
    } while (st == EMB_OK && strcmp(cursor, "0") != 0);
    if (st != EMB_OK && seen)
        emb_error_context(err, "%llu entries were removed, and of the others some were not looked at",
                          (unsigned long long)*removed);
    return st;
}

static emb_status redis_remove(emb_l2 *l2, const emb_cache_filter *filter, uint64_t deadline_ns,
                               uint64_t *removed, emb_error *err)
{
    redis_l2 *l = (redis_l2 *)l2;
    *removed = 0;
    if (filter->key)
        return remove_keys(l, filter, filter->key, 1, deadline_ns, removed, err);
    return remove_walking(l, filter, deadline_ns, removed, err);
}

/* ---- what there is ---- */

/* The number behind "name:" in what INFO says; 0 if it is not there. */
static uint64_t info_number(const emb_redis_reply *info, const char *name)
{
    const char *at = info->type == EMB_REDIS_TEXT ? strstr(info->text, name) : NULL;
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void add_words(emb_redis_batch *batch, const char *first, const char *second)
{
    emb_redis_command(batch, second ? 2 : 1);
    emb_redis_text(batch, first);
    if (second)
        emb_redis_text(batch, second);
}

/* Lengths of the page's entries, the size of the database, and evictions. */
static emb_status measure(redis_l2 *l, const emb_cache_key *keys, size_t count, bool whole,
                          uint64_t deadline_ns, emb_cache_tier_stats *out, emb_error *err, size_t page)
{
    emb_redis_batch batch;
    emb_redis_replies replies;
    uint64_t there = 0, bytes = 0;
    emb_redis_batch_init(&batch);
    add_words(&batch, "DBSIZE", NULL);
    add_words(&batch, "INFO", "stats");
    for (size_t i = 0; i < count; i++) {
        emb_redis_command(&batch, 2);
        emb_redis_text(&batch, "STRLEN");
        add_key(&batch, &keys[i]);
    }
    emb_status st = emb_redis_call(l->redis, &batch, deadline_ns, &replies, err);
    emb_redis_batch_fini(&batch);
    if (st != EMB_OK)
        return st;
    for (size_t i = 0; i < count; i++) /* 0: gone since; negative cannot be */
        if (replies.list[2 + i]->type == EMB_REDIS_INTEGER && replies.list[2 + i]->integer > 0) {
            there++;
            bytes += (uint64_t)replies.list[2 + i]->integer;
        }
    if ((st = emb_redis_expect(l->redis, replies.list[0], EMB_REDIS_INTEGER, err)) == EMB_OK) {
        double scale = whole || !page ? 1 : (double)replies.list[0]->integer / (double)page;
        out->entries = (uint64_t)((double)there * scale);
        out->bytes = (uint64_t)((double)bytes * scale);
        out->evictions = info_number(replies.list[1], "evicted_keys:"); /* INFO may be forbidden: 0 */
    }
    emb_redis_replies_fini(&replies);
    return st;
}

static emb_status redis_stats(emb_l2 *l2, uint64_t deadline_ns, emb_cache_tier_stats *out, emb_error *err)
{
    redis_l2 *l = (redis_l2 *)l2;
    char cursor[32] = "0";
    emb_redis_replies replies;
    const emb_redis_reply *names;
    size_t count;
    emb_status st = scan(l, cursor, STATS_PAGE, deadline_ns, &replies, &names, err);
    if (st != EMB_OK)
        return st;
    emb_cache_key *keys = keys_of(names, &count);
    emb_redis_replies_fini(&replies);
    if (!keys)
        return emb_fail_nomem(err, "keys to count", STATS_PAGE * sizeof *keys);
    st = measure(l, keys, count, strcmp(cursor, "0") == 0, deadline_ns, out, err, STATS_PAGE);
    free(keys);
    return st;
}

typedef struct visiting {
    emb_l2_visit visit;
    void *context;
    size_t left;
    bool stopped;
} visiting;

static void visit_one(const emb_cache_key *key, const emb_redis_reply *entry, const emb_redis_reply *text,
                      visiting *v)
{
    stored s;
    char model[MAX_MODEL + 1];
    if (entry->type != EMB_REDIS_TEXT || !read_stored(entry->text, entry->length, &s) ||
        s.model_length > MAX_MODEL)
        return;
    memcpy(model, s.model, s.model_length);
    model[s.model_length] = 0;
    bool has_text = text->type == EMB_REDIS_TEXT;
    v->stopped = !v->visit(v->context, key, model, s.value, s.length, has_text ? text->text : NULL,
                           has_text ? text->length : 0);
    v->left--;
}

/* Entries and texts of the members in one round trip; members without an entry leave the set in passing. */
static emb_status visit_members(redis_l2 *l, const emb_redis_reply *members, visiting *v,
                                uint64_t deadline_ns, size_t *dropped, emb_error *err)
{
    emb_redis_batch batch, drop;
    emb_redis_replies replies, ignored;
    size_t n = 0;
    emb_cache_key keys[KEYS_PER_MGET];
    for (size_t i = 0; i < members->length && n < KEYS_PER_MGET; i++)
        if (members->elements[i].type == EMB_REDIS_TEXT &&
            members->elements[i].length == sizeof keys[0].bytes)
            memcpy(keys[n++].bytes, members->elements[i].text, sizeof keys[0].bytes);
    emb_redis_batch_init(&batch);
    emb_redis_batch_init(&drop);
    for (size_t i = 0; i < 2 * n; i++) {
        emb_redis_command(&batch, 2);
        emb_redis_text(&batch, "GET");
        if (i < n)
            add_key(&batch, &keys[i]);
        else
            add_text_key(&batch, &keys[i - n]);
    }
    emb_status st = emb_redis_call(l->redis, &batch, deadline_ns, &replies, err);
    for (size_t i = 0; st == EMB_OK && i < n; i++) {
        if (replies.list[i]->type == EMB_REDIS_NIL) {
            emb_redis_command(&drop, 3);
            emb_redis_text(&drop, "ZREM");
            emb_redis_text(&drop, USES_KEY);
            emb_redis_bytes(&drop, keys[i].bytes, sizeof keys[i].bytes);
        } else if (v->left && !v->stopped)
            visit_one(&keys[i], replies.list[i], replies.list[n + i], v);
    }
    if (st == EMB_OK) {
        emb_redis_replies_fini(&replies);
        *dropped = drop.commands;
        /* a replica refuses: the set stays */
        st = emb_redis_call(l->redis, &drop, deadline_ns, &ignored, err);
        if (st == EMB_OK) {
            if (ignored.count && ignored.list[0]->type == EMB_REDIS_ERROR)
                *dropped = 0;
            emb_redis_replies_fini(&ignored);
        }
    }
    emb_redis_batch_fini(&drop);
    emb_redis_batch_fini(&batch);
    return st;
}

static emb_status flush_uses(redis_l2 *l, uint64_t deadline_ns, emb_error *err)
{
    emb_redis_batch batch;
    emb_redis_replies replies;
    emb_redis_batch_init(&batch);
    add_uses(l, &batch);
    emb_status st = emb_redis_call(l->redis, &batch, deadline_ns, &replies, err);
    if (st == EMB_OK)
        emb_redis_replies_fini(&replies);
    emb_redis_batch_fini(&batch);
    return st;
}

static emb_status redis_most_used(emb_l2 *l2, size_t limit, uint64_t deadline_ns, emb_l2_visit visit,
                                  void *context, emb_error *err)
{
    redis_l2 *l = (redis_l2 *)l2;
    visiting v = {visit, context, limit, false};
    size_t from = 0, dropped, got;
    emb_status st = flush_uses(l, deadline_ns, err);
    while (st == EMB_OK && v.left && !v.stopped) {
        emb_redis_batch batch;
        emb_redis_replies replies;
        size_t want = v.left < KEYS_PER_MGET ? v.left : KEYS_PER_MGET;
        emb_redis_batch_init(&batch);
        emb_redis_command(&batch, 4);
        emb_redis_text(&batch, "ZREVRANGE");
        emb_redis_text(&batch, USES_KEY);
        emb_redis_int(&batch, (int64_t)from);
        emb_redis_int(&batch, (int64_t)(from + want - 1));
        st = emb_redis_call(l->redis, &batch, deadline_ns, &replies, err);
        emb_redis_batch_fini(&batch);
        if (st != EMB_OK)
            break;
        got = 0;
        dropped = 0;
        if ((st = emb_redis_expect(l->redis, replies.list[0], EMB_REDIS_ARRAY, err)) == EMB_OK &&
            (got = replies.list[0]->length) > 0)
            st = visit_members(l, replies.list[0], &v, deadline_ns, &dropped, err);
        emb_redis_replies_fini(&replies);
        if (!got)
            break;
        from += got - (dropped < got ? dropped : got);
    }
    return st;
}

/* Redis expires and evicts by itself; what is left is to hand in uses and to close idle connections. */
static emb_status redis_tidy(emb_l2 *l2, uint64_t deadline_ns, emb_error *err)
{
    redis_l2 *l = (redis_l2 *)l2;
    emb_status st = flush_uses(l, deadline_ns, err);
    emb_redis_tidy(l->redis);
    return st;
}

/* ---- opening ---- */

static void redis_close(emb_l2 *l2)
{
    redis_l2 *l = (redis_l2 *)l2;
    if (!l)
        return;
    emb_redis_close(l->redis);
    emb_l2_uses_fini(&l->uses);
    free(l);
}

static const emb_l2_ops OPS = {
    .get_many = redis_get_many,
    .put_many = redis_put_many,
    .remove = redis_remove,
    .stats = redis_stats,
    .most_used = redis_most_used,
    .tidy = redis_tidy,
    .close = redis_close,
};

static emb_status redis_open(const char *url, const emb_l2_options *options, emb_l2 **out, emb_error *err)
{
    redis_l2 *l = calloc(1, sizeof *l);
    emb_redis_options o = {.connect_ms = options->connect_ms};
    if (!l || !emb_l2_uses_init(&l->uses)) {
        free(l);
        return emb_fail_nomem(err, "a cache in Redis", sizeof *l);
    }
    l->base.ops = &OPS;
    emb_status st = emb_redis_open(url, &o, &l->redis, err);
    if (st != EMB_OK)
        redis_close(&l->base);
    else
        *out = &l->base;
    return st;
}

const emb_l2_kind emb_l2_redis = {"redis", "redis,rediss,unix", redis_open};
