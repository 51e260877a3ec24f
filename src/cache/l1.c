/*
 * Vectors in memory, by S3-FIFO.
 *
 * Policy. New entries go into a small queue, a sixth of the memory. What reaches its end and was used
 * meanwhile moves to the main queue, what was not leaves, and its fingerprint is remembered; a key that is
 * remembered when it comes again goes straight to main. Main is a queue too, in which a used entry gets
 * another round for each of up to two uses. So a scan passes through the small queue and leaves main alone,
 * and a hit changes one byte and no list. (Yang et al., "FIFO queues are all you need for cache eviction",
 * SOSP 2023.) Rejected: LRU (a scan empties it; every hit writes three entries), SIEVE (simpler, but a scan
 * is not kept out), W-TinyLFU and ARC (more state and code; W-TinyLFU needs its window tuned to follow a
 * changing working set). tests/unit/cache/l1_policy_test.c and bench/cache_bench.c compare it with LRU. A
 * tenth and three uses, as published, are a point better on a steady Zipf trace and several worse where the
 * working set moves.
 *
 * Memory. One allocation an entry. What counts is what the allocator says it takes, its own header, the index
 * and the remembered fingerprints. The index is sized when limits are set, for entries of a kilobyte, so that
 * no put ever stands for a rehash; smaller entries make chains of a few.
 *
 * Index and shards are chosen by the key's bits mixed with a seed of the process: keys are SHA-256, yet who
 * can choose texts could search for some that share a bucket.
 *
 * There is no checksum of memory: a read would cost three times as much. The dimension is compared.
 */
#include "cache/l1.h"

#include "base/error.h"
#include "base/hash.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SHARDS_MAX = 64,
    SMALL_SHARE = 6, /* the small queue is one sixth */
    USES_MAX = 2,
    PROMOTE_USES = 1, /* uses in the small queue that lead to main */
    GHOST_WAYS = 4,
    TYPICAL_BYTES = 1024, /* of an entry, to size the index by */
    LEAST_ENTRIES = 64,   /* of a shard */
    MALLOC_HEADER = sizeof(size_t),
};
#define LEAST_BYTES ((size_t)1 << 20) /* of a shard */

typedef struct entry entry;
struct entry {
    emb_cache_key key;
    entry *chain;       /* in its bucket */
    entry *next, *prev; /* in its queue; next is newer */
    uint64_t hash, model;
    uint64_t created_s, expires_s;
    uint32_t dimension, tokens;
    uint32_t charge;
    uint8_t uses, in_main;
    float vector[];
};

typedef struct queue {
    entry *oldest, *newest;
    size_t bytes;
} queue;

typedef struct ghost {
    uint32_t fingerprint, time; /* fingerprint 0: empty */
} ghost;

typedef struct shard {
    _Alignas(64) pthread_mutex_t lock;
    entry **buckets;
    ghost *ghosts; /* GHOST_WAYS beside each other make a set */
    size_t slots;  /* of buckets and of ghosts: a power of two, or 0 */
    uint32_t ghost_time;
    size_t entries, bytes, limit_entries, limit_bytes;
    queue small, main;
    uint64_t hits, misses, evictions, corrupt;
} shard;

struct emb_l1 {
    uint64_t seed;
    unsigned shard_bits;
    atomic_bool on;
    shard *shards;
};

/* ---- places ---- */

static uint64_t hash_of(const emb_l1 *l1, const emb_cache_key *key)
{
    uint64_t a, b;
    memcpy(&a, key->bytes, 8);
    memcpy(&b, key->bytes + 8, 8);
    return emb_hash_mix(a ^ l1->seed, b ^ 0x9E3779B97F4A7C15u);
}

static shard *shard_of(emb_l1 *l1, uint64_t hash)
{
    return &l1->shards[l1->shard_bits ? hash >> (64 - l1->shard_bits) : 0];
}

static entry *find(const shard *s, uint64_t hash, const emb_cache_key *key)
{
    if (!s->slots)
        return NULL;
    for (entry *e = s->buckets[hash & (s->slots - 1)]; e; e = e->chain)
        if (e->hash == hash && memcmp(&e->key, key, sizeof *key) == 0)
            return e;
    return NULL;
}

static void queue_add(queue *q, entry *e)
{
    e->next = NULL;
    e->prev = q->newest;
    *(q->newest ? &q->newest->next : &q->oldest) = e;
    q->newest = e;
    q->bytes += e->charge;
}

static void queue_take(queue *q, entry *e)
{
    *(e->prev ? &e->prev->next : &q->oldest) = e->next;
    *(e->next ? &e->next->prev : &q->newest) = e->prev;
    q->bytes -= e->charge;
}

static void drop(shard *s, entry *e)
{
    entry **link = &s->buckets[e->hash & (s->slots - 1)];
    while (*link != e)
        link = &(*link)->chain;
    *link = e->chain;
    queue_take(e->in_main ? &s->main : &s->small, e);
    s->entries--;
    s->bytes -= e->charge;
    free(e);
}

/* ---- fingerprints of what left the small queue ---- */

static ghost *ghost_set(const shard *s, uint64_t hash)
{
    return s->slots >= GHOST_WAYS ? &s->ghosts[(hash & (s->slots - 1)) & ~(size_t)(GHOST_WAYS - 1)] : NULL;
}

static uint32_t fingerprint(uint64_t hash)
{
    return (uint32_t)(hash >> 20) | 1;
}

/* As many are remembered as there are entries. */
static bool ghost_lives(const shard *s, const ghost *g)
{
    return g->fingerprint && s->ghost_time - g->time <= s->entries;
}

static void remember(shard *s, uint64_t hash)
{
    ghost *set = ghost_set(s, hash), *oldest = set;
    if (!set)
        return;
    for (int i = 0; i < GHOST_WAYS; i++) {
        if (!set[i].fingerprint) {
            oldest = &set[i];
            break;
        }
        if (s->ghost_time - set[i].time > s->ghost_time - oldest->time)
            oldest = &set[i];
    }
    *oldest = (ghost){fingerprint(hash), ++s->ghost_time};
}

static bool forget(shard *s, uint64_t hash)
{
    ghost *set = ghost_set(s, hash);
    for (int i = 0; set && i < GHOST_WAYS; i++)
        if (set[i].fingerprint == fingerprint(hash) && ghost_lives(s, &set[i])) {
            set[i].fingerprint = 0;
            return true;
        }
    return false;
}

/* ---- eviction ---- */

static bool has_expired(const entry *e, uint64_t now_s)
{
    return e->expires_s && e->expires_s <= now_s;
}

/* One step: an entry leaves, or gets another round. */
static void evict_step(shard *s, uint64_t now_s)
{
    bool from_small = s->small.oldest &&
                      (!s->main.oldest || s->small.bytes * SMALL_SHARE >= s->small.bytes + s->main.bytes);
    queue *q = from_small ? &s->small : &s->main;
    entry *e = q->oldest;
    if (has_expired(e, now_s)) {
        drop(s, e);
        return;
    }
    if (e->uses >= (from_small ? PROMOTE_USES : 1)) {
        queue_take(q, e);
        e->uses = from_small ? 0 : e->uses - 1;
        e->in_main = 1;
        queue_add(&s->main, e);
        return;
    }
    if (from_small)
        remember(s, e->hash);
    drop(s, e);
    s->evictions++;
}

static void keep_limits(shard *s, uint64_t now_s)
{
    while (s->entries && (s->entries > s->limit_entries || s->bytes > s->limit_bytes))
        evict_step(s, now_s);
}

/* ---- reading and writing ---- */

bool emb_l1_get(emb_l1 *l1, const emb_cache_key *key, const emb_l1_query *query, float *vector,
                uint32_t dimension, uint32_t *tokens)
{
    if (!atomic_load_explicit(&l1->on, memory_order_relaxed))
        return false;
    uint64_t hash = hash_of(l1, key);
    shard *s = shard_of(l1, hash);
    pthread_mutex_lock(&s->lock);
    entry *e = find(s, hash, key);
    bool hit = e && e->dimension == dimension && !has_expired(e, query->now_s) &&
               (!query->max_age_s || e->created_s + query->max_age_s >= query->now_s);
    if (hit) {
        memcpy(vector, e->vector, (size_t)dimension * sizeof *vector);
        *tokens = e->tokens;
    }
    if (hit && query->mode != EMB_L1_LOOK) {
        s->hits++;
        e->uses += e->uses < USES_MAX;
    } else if (!hit && query->mode == EMB_L1_COUNT) {
        s->misses++;
        s->corrupt += e && e->dimension != dimension;
        if (e && (e->dimension != dimension || has_expired(e, query->now_s)))
            drop(s, e);
    }
    pthread_mutex_unlock(&s->lock);
    return hit;
}

void emb_l1_use(emb_l1 *l1, const emb_cache_key *key)
{
    uint64_t hash = hash_of(l1, key);
    shard *s = shard_of(l1, hash);
    pthread_mutex_lock(&s->lock);
    entry *e = find(s, hash, key);
    if (e && e->uses < USES_MAX)
        e->uses++;
    s->hits++;
    pthread_mutex_unlock(&s->lock);
}

static entry *make_entry(uint64_t hash, const emb_cache_key *key, const emb_value *value, const char *model)
{
    entry *e = malloc(sizeof *e + (size_t)value->dimension * sizeof(float));
    if (!e)
        return NULL;
    e->key = *key;
    e->hash = hash;
    e->model = emb_hash(model, strlen(model), 0);
    e->created_s = value->created_s;
    e->expires_s = value->expires_s;
    e->dimension = value->dimension;
    e->tokens = value->tokens;
    e->charge = (uint32_t)(malloc_usable_size(e) + MALLOC_HEADER);
    e->uses = e->in_main = 0;
    memcpy(e->vector, value->vector, (size_t)value->dimension * sizeof(float));
    return e;
}

/* What is known of the key's use stays: it is the same text. */
static void replace(shard *s, entry *old, entry *e)
{
    e->uses = old->uses;
    e->in_main = old->in_main;
    drop(s, old);
}

void emb_l1_put(emb_l1 *l1, const emb_cache_key *key, const emb_value *value, const char *model,
                uint64_t now_s)
{
    if (!atomic_load_explicit(&l1->on, memory_order_relaxed) || value->dimension > EMB_VALUE_MAX_DIMENSION)
        return;
    uint64_t hash = hash_of(l1, key);
    entry *e = make_entry(hash, key, value, model ? model : "");
    if (!e)
        return;
    shard *s = shard_of(l1, hash);
    pthread_mutex_lock(&s->lock);
    entry *old = find(s, hash, key);
    if (old)
        replace(s, old, e);
    else
        e->in_main = forget(s, hash);
    if (!s->slots) {
        free(e);
    } else {
        e->chain = s->buckets[hash & (s->slots - 1)];
        s->buckets[hash & (s->slots - 1)] = e;
        queue_add(e->in_main ? &s->main : &s->small, e);
        s->entries++;
        s->bytes += e->charge;
        keep_limits(s, now_s);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- removal and figures ---- */

static bool matches(const entry *e, const emb_cache_filter *f, uint64_t model, uint64_t now_s)
{
    return (!f->key || memcmp(&e->key, f->key, sizeof e->key) == 0) && (!f->model || e->model == model) &&
           (!f->older_than_s || e->created_s + f->older_than_s < now_s);
}

static uint64_t remove_from(shard *s, queue *q, const emb_cache_filter *f, uint64_t model, uint64_t now_s)
{
    uint64_t removed = 0;
    for (entry *e = q->oldest, *next; e; e = next) {
        next = e->next;
        if (matches(e, f, model, now_s)) {
            removed += !has_expired(e, now_s);
            drop(s, e);
        }
    }
    return removed;
}

uint64_t emb_l1_remove(emb_l1 *l1, const emb_cache_filter *filter, uint64_t now_s)
{
    uint64_t removed = 0, model = filter->model ? emb_hash(filter->model, strlen(filter->model), 0) : 0;
    for (size_t i = 0; i < (size_t)1 << l1->shard_bits; i++) {
        shard *s = &l1->shards[i];
        pthread_mutex_lock(&s->lock);
        removed +=
            remove_from(s, &s->small, filter, model, now_s) + remove_from(s, &s->main, filter, model, now_s);
        pthread_mutex_unlock(&s->lock);
    }
    return removed;
}

void emb_l1_get_stats(emb_l1 *l1, emb_cache_tier_stats *out)
{
    *out = (emb_cache_tier_stats){.bytes = sizeof *l1};
    for (size_t i = 0; i < (size_t)1 << l1->shard_bits; i++) {
        shard *s = &l1->shards[i];
        pthread_mutex_lock(&s->lock);
        out->hits += s->hits;
        out->misses += s->misses;
        out->evictions += s->evictions;
        out->corrupt += s->corrupt;
        out->entries += s->entries;
        out->bytes += s->bytes;
        pthread_mutex_unlock(&s->lock);
    }
}

/* ---- limits ---- */

static size_t power_of_two(size_t n)
{
    size_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

/* The index for these limits; the one there is stays if memory for another is short. */
static void size_index(shard *s)
{
    size_t wanted =
        s->limit_bytes / TYPICAL_BYTES < s->limit_entries ? s->limit_bytes / TYPICAL_BYTES : s->limit_entries;
    wanted = wanted ? power_of_two(wanted < GHOST_WAYS ? GHOST_WAYS : wanted) : 0;
    if (wanted == s->slots)
        return;
    if (!wanted) { /* keep_limits made it empty */
        free(s->buckets);
        free(s->ghosts);
        s->buckets = NULL;
        s->ghosts = NULL;
    } else {
        entry **buckets = calloc(wanted, sizeof *buckets);
        ghost *ghosts = calloc(wanted, sizeof *ghosts);
        if (!buckets || !ghosts) {
            free(buckets);
            free(ghosts);
            return;
        }
        for (int main = 0; main < 2; main++)
            for (entry *e = main ? s->main.oldest : s->small.oldest; e; e = e->next) {
                e->chain = buckets[e->hash & (wanted - 1)];
                buckets[e->hash & (wanted - 1)] = e;
            }
        free(s->buckets);
        free(s->ghosts);
        s->buckets = buckets;
        s->ghosts = ghosts;
    }
    size_t each = sizeof *s->buckets + sizeof *s->ghosts;
    s->bytes -= s->slots ? s->slots * each + 2 * MALLOC_HEADER : 0;
    s->bytes += wanted ? wanted * each + 2 * MALLOC_HEADER : 0;
    s->slots = wanted;
}

void emb_l1_set_limits(emb_l1 *l1, size_t entries, size_t bytes)
{
    size_t count = (size_t)1 << l1->shard_bits;
    bytes = bytes > sizeof *l1 ? bytes - sizeof *l1 : 0;
    for (size_t i = 0; i < count; i++) {
        shard *s = &l1->shards[i];
        pthread_mutex_lock(&s->lock);
        s->limit_entries = entries / count + (i < entries % count);
        s->limit_bytes = bytes / count;
        if (s->limit_bytes / TYPICAL_BYTES == 0)
            s->limit_entries = 0;
        if (!s->limit_entries)
            keep_limits(s, 0);
        size_index(s);
        keep_limits(s, 0);
        pthread_mutex_unlock(&s->lock);
    }
    atomic_store(&l1->on, entries > 0);
}

static unsigned bits_for(size_t entries, size_t bytes, unsigned shards)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t n = shards ? shards : power_of_two(4 * (size_t)(cpus > 0 ? cpus : 1));
    unsigned bits = 0;
    if (n > SHARDS_MAX)
        n = SHARDS_MAX;
    while (!shards && entries && n > 1 && (entries / n < LEAST_ENTRIES || bytes / n < LEAST_BYTES))
        n /= 2;
    while ((size_t)1 << bits < n)
        bits++;
    return bits;
}

emb_status emb_l1_open(size_t entries, size_t bytes, unsigned shards, emb_l1 **out, emb_error *err)
{
    unsigned bits = bits_for(entries, bytes, shards);
    size_t room = sizeof(shard) << bits;
    emb_l1 *l1 = calloc(1, sizeof *l1);
    if (l1)
        l1->shards = aligned_alloc(_Alignof(shard), room);
    if (!l1 || !l1->shards) {
        free(l1);
        return emb_fail_nomem(err, "the cache in memory", room);
    }
    memset(l1->shards, 0, room);
    l1->shard_bits = bits;
    if (!emb_random_bytes(&l1->seed, sizeof l1->seed))
        l1->seed = (uint64_t)(uintptr_t)l1;
    for (size_t i = 0; i < (size_t)1 << bits; i++) {
        pthread_mutex_init(&l1->shards[i].lock, NULL);
        l1->shards[i].bytes = sizeof(shard);
    }
    emb_l1_set_limits(l1, entries, bytes);
    for (size_t i = 0; i < (size_t)1 << bits; i++)
        if (l1->shards[i].limit_entries && !l1->shards[i].slots) {
            size_t index_bytes = l1->shards[i].limit_entries * (sizeof(entry *) + sizeof(ghost));
            emb_l1_close(l1);
            return emb_fail_nomem(err, "the cache's index", index_bytes);
        }
    *out = l1;
    return EMB_OK;
}

void emb_l1_close(emb_l1 *l1)
{
    if (!l1)
        return;
    for (size_t i = 0; i < (size_t)1 << l1->shard_bits; i++) {
        shard *s = &l1->shards[i];
        for (int main = 0; main < 2; main++)
            for (entry *e = main ? s->main.oldest : s->small.oldest, *next; e; e = next) {
                next = e->next;
                free(e);
            }
        free(s->buckets);
        free(s->ghosts);
        pthread_mutex_destroy(&s->lock);
    }
    free(l1->shards);
    free(l1);
}
