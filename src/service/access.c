/*
 * access.c: which key a request carries, and whether it may go on now.
 *
 * The keys are a set that never changes (access_file.c); a reload makes another set and exchanges the
 * pointer. To take a reference, a thread locks one of SHARDS mutexes, its own unless there are many threads,
 * and a reload locks them all: requests never meet on one lock, and no set is freed under a reader. Rejected:
 * a plain rwlock, whose counter every request would write; a list of retired sets, which grows with each
 * reload.
 *
 * The key that was sent is hashed and compared with every key of the set, each in constant time and without
 * leaving early, so neither a near miss nor a key's place shows in the time. Ten thousand keys, the most
 * there can be, take some 20 us.
 *
 * Limits are token buckets in the form of the generic cell rate algorithm: a bucket is the time at which it
 * will be full again, one atomic word, moved on by what a request takes. It is full when that time has
 * passed, and empty when it lies a burst ahead. Requests are taken before they run; tokens are known only
 * afterwards, so the bucket may run into debt, a minute's tokens being its size, and requests wait until it
 * is out of it. With changed limits after a reload the word keeps its meaning, the time until the bucket is
 * full. Time is the caller's, for tests.
 */
#include "service/access.h"

#include "base/error.h"
#include "service/access_keys.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 16, KEY_MAX_BYTES = 4096 };

static const uint64_t minute_ns = 60000000000u;

typedef struct shard {
    alignas(64) pthread_mutex_t lock;
} shard;

struct emb_access {
    shard shards[SHARDS];
    emb_key_set *set;       /* written with all shards locked, read with one */
    atomic_bool needed;     /* as the set says */
    pthread_mutex_t reload; /* one reload at a time */
};

/* Threads are numbered as they come. */
static pthread_mutex_t *own_shard(emb_access *access)
{
    static atomic_uint next;
    static _Thread_local unsigned number; /* from 1 */
    if (!number)
        number = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) + 1;
    return &access->shards[number % SHARDS].lock;
}

static emb_key_set *take_set(emb_access *access)
{
    pthread_mutex_t *lock = own_shard(access);
    pthread_mutex_lock(lock);
    emb_key_set *set = access->set;
    atomic_fetch_add_explicit(&set->references, 1, memory_order_relaxed);
    pthread_mutex_unlock(lock);
    return set;
}

static emb_key_set *exchange_set(emb_access *access, emb_key_set *set)
{
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_lock(&access->shards[i].lock);
    emb_key_set *before = access->set;
    access->set = set;
    atomic_store(&access->needed, set->needed);
    for (size_t i = SHARDS; i-- > 0;)
        pthread_mutex_unlock(&access->shards[i].lock);
    return before;
}

/* ---- life ---- */

emb_status emb_access_open(const emb_config *config, emb_access **out, emb_error *err)
{
    *out = NULL;
    emb_access *access = aligned_alloc(alignof(emb_access), sizeof *access);
    if (!access)
        return emb_fail_nomem(err, "API keys", sizeof *access);
    memset(access, 0, sizeof *access);
    emb_status status = emb_key_set_read(config, &access->set, err);
    if (status) {
        free(access);
        return status;
    }
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_init(&access->shards[i].lock, NULL);
    pthread_mutex_init(&access->reload, NULL);
    atomic_init(&access->needed, access->set->needed);
    *out = access;
    return EMB_OK;
}

void emb_access_close(emb_access *access)
{
    if (!access)
        return;
    emb_key_set_release(access->set);
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_destroy(&access->shards[i].lock);
    pthread_mutex_destroy(&access->reload);
    free(access);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(emb_caller *const *)a)->name, (*(emb_caller *const *)b)->name);
}

/* Keys that keep their name keep their buckets. `sorted` has room for the callers of `before`. */
static void keep_limits(emb_key_set *after, const emb_key_set *before, emb_caller **sorted)
{
    for (size_t i = 0; i < before->count; i++)
        sorted[i] = &before->callers[i];
    qsort(sorted, before->count, sizeof *sorted, compare_names);
    for (size_t i = 0; i < after->count; i++) {
        emb_caller *caller = &after->callers[i];
        emb_caller **same = bsearch(&caller, sorted, before->count, sizeof *sorted, compare_names);
        if (!same)
            continue;
        emb_key_limits_release(caller->limits);
        caller->limits = (*same)->limits;
        atomic_fetch_add(&caller->limits->references, 1);
    }
}

static emb_status reload(emb_access *access, const emb_config *config, emb_error *err)
{
    emb_key_set *set;
    emb_status status = emb_key_set_read(config, &set, err);
    if (status)
        return status;
    const emb_key_set *before = access->set; /* only reloads change it, and this is the one */
    emb_caller **sorted = calloc(before->count + 1, sizeof *sorted);
    if (!sorted) {
        emb_key_set_release(set);
        return emb_fail_nomem(err, "API keys", before->count * sizeof *sorted);
    }
    keep_limits(set, before, sorted);
    free(sorted);
    emb_key_set_release(exchange_set(access, set));
    return EMB_OK;
}

emb_status emb_access_reload(emb_access *access, const emb_config *config, emb_error *err)
{
    pthread_mutex_lock(&access->reload);
    emb_status status = reload(access, config, err);
    pthread_mutex_unlock(&access->reload);
    return status;
}

bool emb_access_needed(const emb_access *access)
{
    return atomic_load_explicit(&access->needed, memory_order_relaxed);
}

/* ---- limits ---- */

/* `amount` at `per_minute`, in nanoseconds. */
static uint64_t time_of(uint64_t amount, uint64_t per_minute)
{
    unsigned __int128 ns = (unsigned __int128)amount * minute_ns / per_minute;
    return ns > UINT64_MAX / 4 ? UINT64_MAX / 4 : (uint64_t)ns;
}

/* How long until the bucket, which holds `size_ns`, has `wanted_ns` in it; 0: it has. */
static uint64_t wait_for(uint64_t full_ns, uint64_t now_ns, uint64_t size_ns, uint64_t wanted_ns)
{
    uint64_t missing = full_ns > now_ns ? full_ns - now_ns : 0,
             most = size_ns > wanted_ns ? size_ns - wanted_ns : 0;
    return missing > most ? missing - most : 0;
}

/* Takes one request, or says how long to wait. */
static uint64_t take_request(emb_caller *caller, uint64_t now_ns)
{
    if (!caller->requests_per_minute)
        return 0;
    atomic_uint_fast64_t *bucket = &caller->limits->requests_full_ns;
    uint64_t one = time_of(1, caller->requests_per_minute);
    uint64_t size = one > UINT64_MAX / 4 / caller->burst ? UINT64_MAX / 4 : one * caller->burst;
    uint64_t full = atomic_load(bucket), after;
    do {
        uint64_t wait = wait_for(full, now_ns, size, one);
        if (wait)
            return wait;
        after = (full > now_ns ? full : now_ns) + one;
    } while (!atomic_compare_exchange_weak(bucket, &full, after));
    return 0;
}

static uint64_t wait_for_tokens(const emb_caller *caller, uint64_t now_ns)
{
    if (!caller->tokens_per_minute)
        return 0;
    return wait_for(atomic_load(&caller->limits->tokens_full_ns), now_ns, minute_ns,
                    time_of(1, caller->tokens_per_minute));
}

void emb_caller_count_tokens(emb_caller *caller, uint64_t tokens, uint64_t now_ns)
{
    if (!caller || !caller->tokens_per_minute || !tokens)
        return;
    atomic_uint_fast64_t *bucket = &caller->limits->tokens_full_ns;
    uint64_t taken = time_of(tokens, caller->tokens_per_minute), full = atomic_load(bucket), after;
    do {
        uint64_t from = full > now_ns ? full : now_ns;
        after = from > UINT64_MAX - taken ? UINT64_MAX : from + taken;
    } while (!atomic_compare_exchange_weak(bucket, &full, after));
}

/* ---- checking ---- */

/* 0 if the digests are equal. Word by word: a call of OpenSSL's comparison costs twenty times as much. */
static uint64_t difference(const uint8_t a[EMB_SHA256_BYTES], const uint8_t b[EMB_SHA256_BYTES])
{
    uint64_t x[EMB_SHA256_BYTES / 8], y[EMB_SHA256_BYTES / 8];
    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    return (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]);
}

/* The caller with this digest; every key is looked at, whichever it is, and nothing branches on the
 * outcome. */
static emb_caller *find(const emb_key_set *set, const uint8_t digest[EMB_SHA256_BYTES])
{
    uintptr_t found = 0;
    for (size_t i = 0; i < set->count; i++) {
        uint64_t d = difference(set->callers[i].digest, digest);
        uintptr_t mask = (uintptr_t)((d | (0 - d)) >> 63) - 1; /* all ones if d is 0 */
        found = (found & ~mask) | ((uintptr_t)&set->callers[i] & mask);
    }
    return (emb_caller *)found;
}

emb_access_verdict emb_access_check(emb_access *access, const char *key, size_t length, uint64_t now_ns,
                                    emb_caller **out, uint64_t *retry_after_ms)
{
    uint8_t digest[EMB_SHA256_BYTES];
    *out = NULL;
    *retry_after_ms = 0;
    if (!emb_access_needed(access))
        return EMB_ACCESS_GRANTED;
    if (!key)
        return EMB_ACCESS_MISSING;
    if (length > KEY_MAX_BYTES || !emb_sha256(key, length, digest))
        return EMB_ACCESS_UNKNOWN;
    emb_key_set *set = take_set(access);
    emb_caller *caller = find(set, digest);
    if (!caller) {
        bool still_needed = set->needed; /* a reload may just have taken all keys away */
        emb_key_set_release(set);
        return still_needed ? EMB_ACCESS_UNKNOWN : EMB_ACCESS_GRANTED;
    }
    uint64_t wait = wait_for_tokens(caller, now_ns);
    if (!wait)
        wait = take_request(caller, now_ns);
    if (wait) {
        emb_key_set_release(set);
        *retry_after_ms = wait / 1000000 + (wait % 1000000 != 0);
        return EMB_ACCESS_LIMITED;
    }
    *out = caller; /* with the reference on its set */
    return EMB_ACCESS_GRANTED;
}

static bool matches(const char *pattern, const char *model)
{
    size_t length = strlen(pattern);
    return pattern[length - 1] == '*' ? strncmp(pattern, model, length - 1) == 0
                                      : strcmp(pattern, model) == 0;
}

bool emb_caller_may_use(const emb_caller *caller, const char *model)
{
    if (!caller || caller->model_count == 0)
        return true;
    for (size_t i = 0; i < caller->model_count; i++)
        if (matches(caller->models[i], model))
            return true;
    return false;
}

unsigned emb_caller_rights(const emb_caller *caller)
{
    return caller ? caller->rights : EMB_RIGHT_ANY;
}

const char *emb_caller_name(const emb_caller *caller)
{
    return caller ? caller->name : "";
}

void emb_caller_release(emb_caller *caller)
{
    if (caller)
        emb_key_set_release(caller->set);
}
