/*
 * ledger.c: adding.
 *
 * Cached hits come at a hundred thousand a second on all cores, so an addition must neither share a lock nor
 * write a cache line that others write. There are SHARDS tables, each with a lock of its own on a line of its
 * own; a thread keeps to one of them, so that locks are uncontended but for the writer, which exchanges a
 * shard's table for an empty one (a few instructions under the lock) and then works on what it got. Rows that
 * were added to lately are tried first, one by the addresses of the names, which are the same from call to
 * call for most callers; what is under the addresses is compared.
 *
 * Cost: the clock (coarse, from the vDSO), a lock, five comparisons of short strings, five additions; a
 * search with a hash when the row is another one; an allocation for each new row, which is one a second and
 * combination. When memory is short the shard's spare rows take the amounts, under the name "other".
 *
 * Rejected: atomics on shared rows (one line for all cores), a queue of entries (as much memory as there are
 * calls), tables in thread-local storage (a thread that ends has to hand over its rows).
 */
#include "base/clock.h"
#include "base/error.h"
#include "ledger/parts.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
    SHARDS = 32,     /* a power of two */
    BUCKETS = 64,    /* of a shard's table at first */
    RECENT = 16,     /* a power of two */
    ROWS_MAX = 32768 /* of a shard between two rounds of the writer */
};

typedef struct emb_ledger_shard {
    alignas(128) pthread_mutex_t lock;
    emb_ledger_row *recent[RECENT]; /* in the table; or NULL */
    emb_ledger_table table;
    int64_t spare_minute_s[EMB_LEDGER_KINDS];
    emb_ledger_amounts spare[EMB_LEDGER_KINDS];
} emb_ledger_shard;

/* ---- adding ---- */

static emb_ledger_shard *my_shard(const emb_ledger *l)
{
    static atomic_uint threads;
    static _Thread_local unsigned mine; /* + 1 */
    if (!mine)
        mine = atomic_fetch_add(&threads, 1) % SHARDS + 1;
    return &l->shards[mine - 1];
}

/* Whether `at` begins with this name; moves it behind. */
static bool is_name(const char **at, uint8_t length, const char *name)
{
    if (strcmp(*at, name ? name : "") != 0)
        return false;
    *at += length + 1;
    return true;
}

static size_t recent_of(const emb_ledger_entry *e)
{
    uint64_t h =
        (uintptr_t)e->provider ^ (uint64_t)(uintptr_t)e->model << 7 ^ (uint64_t)(uintptr_t)e->key << 17;
    h ^= (uint64_t)(uintptr_t)e->category << 29 ^ (uint64_t)(uintptr_t)e->context << 41 ^
         (uint64_t)e->kind << 56;
    return (size_t)(h * 0x9E3779B97F4A7C15u >> 60) & (RECENT - 1);
}

static bool is_like(const emb_ledger_row *row, const emb_ledger_entry *e, int64_t minute_s)
{
    const char *at = row->names;
    return row->minute_s == minute_s && row->kind == e->kind && is_name(&at, row->lengths[0], e->provider) &&
           is_name(&at, row->lengths[1], e->model) && is_name(&at, row->lengths[2], e->key) &&
           is_name(&at, row->lengths[3], e->category) && is_name(&at, row->lengths[4], e->context);
}

/* Cut before a character that would not be whole. */
static uint8_t length_of(const char *name)
{
    size_t length = strnlen(name, EMB_LEDGER_NAME_BYTES + 1);
    if (length <= EMB_LEDGER_NAME_BYTES)
        return (uint8_t)length;
    length = EMB_LEDGER_NAME_BYTES;
    while (length > EMB_LEDGER_NAME_BYTES - 4 && ((unsigned char)name[length] & 0xC0) == 0x80)
        length--;
    return (uint8_t)length;
}

/* NULL when memory is short or too many rows wait. */
static emb_ledger_row *find_or_make(const emb_ledger *l, emb_ledger_shard *s, const emb_ledger_entry *e,
                                    int64_t minute_s)
{
    const char *const names[] = {e->provider, e->model, e->key, e->category, e->context};
    emb_ledger_id id = {.minute_s = minute_s, .kind = e->kind};
    for (int i = 0; i < EMB_LEDGER_NAMES; i++) {
        id.names[i] = names[i] ? names[i] : "";
        id.lengths[i] = length_of(id.names[i]);
    }
    uint64_t hash = emb_ledger_id_hash(&id, l->seed);
    emb_ledger_row *row = emb_ledger_table_find(&s->table, &id, hash);
    if (!row && s->table.count < ROWS_MAX && (row = emb_ledger_row_make(&id, hash)))
        emb_ledger_table_link(&s->table, row);
    return row;
}

static emb_ledger_amounts *spare_of(emb_ledger_shard *s, emb_ledger_kind kind, int64_t minute_s)
{
    static const emb_ledger_amounts none;
    if (memcmp(&s->spare[kind], &none, sizeof none) == 0)
        s->spare_minute_s[kind] = minute_s;
    return &s->spare[kind];
}

void emb_ledger_add(emb_ledger *l, const emb_ledger_entry *e)
{
    if (!l || !l->writer || (unsigned)e->kind >= EMB_LEDGER_KINDS)
        return;
    const emb_ledger_amounts more = {e->calls, e->texts, e->tokens, e->nusd, e->saved_nusd};
    emb_ledger_shard *s = my_shard(l);
    int64_t now = l->now_s(), minute_s = now - now % 60;
    size_t recent = recent_of(e);
    pthread_mutex_lock(&s->lock);
    emb_ledger_row *row = s->recent[recent];
    if (!row || !is_like(row, e, minute_s)) {
        row = find_or_make(l, s, e, minute_s);
        s->recent[recent] = row;
    }
    emb_ledger_amounts_add(row ? &row->amounts : spare_of(s, e->kind, minute_s), &more);
    pthread_mutex_unlock(&s->lock);
    if (e->kind == EMB_LEDGER_API && e->nusd)
        emb_ledger_writer_spent(l->writer, e->nusd);
    emb_ledger_writer_tell(l->writer, e->kind == EMB_LEDGER_API || e->nusd);
}

/* ---- what the writer takes ---- */

static const emb_ledger_id OTHER = {
    .names = {EMB_LEDGER_OTHER, EMB_LEDGER_OTHER, EMB_LEDGER_OTHER, EMB_LEDGER_OTHER, EMB_LEDGER_OTHER},
    .lengths = {5, 5, 5, 5, 5},
};

/* If there is still no memory they stay for the next round. */
static void take_spare(emb_ledger_shard *s, void (*take)(void *writer, emb_ledger_row *row), void *writer)
{
    for (int kind = 0; kind < EMB_LEDGER_KINDS; kind++) {
        static const emb_ledger_amounts none;
        emb_ledger_id id = OTHER;
        emb_ledger_row *row = NULL;
        id.kind = (emb_ledger_kind)kind;
        pthread_mutex_lock(&s->lock);
        id.minute_s = s->spare_minute_s[kind];
        if (memcmp(&s->spare[kind], &none, sizeof none) != 0 && (row = emb_ledger_row_make(&id, 0))) {
            row->amounts = s->spare[kind];
            s->spare[kind] = none;
        }
        pthread_mutex_unlock(&s->lock);
        if (row)
            take(writer, row);
    }
}

static void gather_shard(emb_ledger_shard *s, emb_ledger_table *empty, void (*take)(void *, emb_ledger_row *),
                         void *writer)
{
    emb_ledger_row *row;
    pthread_mutex_lock(&s->lock);
    emb_ledger_table full = s->table;
    if (full.count) {
        s->table = *empty;
        memset(s->recent, 0, sizeof s->recent);
    }
    pthread_mutex_unlock(&s->lock);
    if (full.count) {
        while ((row = emb_ledger_table_pop(&full)))
            take(writer, row);
        *empty = full;
    }
}

static void gather(void *context, void (*take)(void *writer, emb_ledger_row *row), void *writer)
{
    emb_ledger *l = context;
    for (int i = 0; i < SHARDS; i++) {
        gather_shard(&l->shards[i], &l->empty, take, writer);
        take_spare(&l->shards[i], take, writer);
    }
}

/* ---- opening ---- */

static int64_t clock_s(void)
{
    return (int64_t)time(NULL);
}

static emb_status open_shards(emb_ledger *l, emb_error *err)
{
    emb_ledger_shard *shards = aligned_alloc(alignof(emb_ledger_shard), SHARDS * sizeof *shards);
    if (!shards || !emb_ledger_table_init(&l->empty, BUCKETS)) {
        free(shards);
        return emb_fail_nomem(err, "the ledger", SHARDS * sizeof *shards);
    }
    memset(shards, 0, SHARDS * sizeof *shards);
    l->shards = shards;
    bool whole = true;
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&shards[i].lock, NULL);
        whole &= emb_ledger_table_init(&shards[i].table, BUCKETS);
    }
    return whole ? EMB_OK : emb_fail_nomem(err, "the ledger", BUCKETS * sizeof(void *));
}

static void close_shards(emb_ledger *l)
{
    for (int i = 0; l->shards && i < SHARDS; i++) {
        emb_ledger_table_fini(&l->shards[i].table);
        pthread_mutex_destroy(&l->shards[i].lock);
    }
    emb_ledger_table_fini(&l->empty);
    free(l->shards);
}

static emb_status open_writer(emb_ledger *l, const emb_ledger_options *options, const unsigned char id[16],
                              emb_error *err)
{
    const emb_ledger_writer_options o = {.store = l->store,
                                         .zone = l->zone,
                                         .metrics = options->metrics,
                                         .now_s = l->now_s,
                                         .gather = gather,
                                         .context = l,
                                         .seed = l->seed,
                                         .id = id};
    emb_status st = open_shards(l, err);
    return st ? st : emb_ledger_writer_open(&o, &l->writer, err);
}

static emb_status open_compactor(emb_ledger *l, const emb_ledger_options *options, emb_error *err)
{
    const emb_ledger_compact_options o = {.store = l->store,
                                          .zone = l->zone,
                                          .metrics = options->metrics,
                                          .now_s = l->now_s,
                                          .minutes_days = options->minutes_days,
                                          .quarters_days = options->quarters_days,
                                          .thread = true};
    if (options->read_only || (!options->minutes_days && !options->quarters_days))
        return EMB_OK;
    return emb_ledger_compactor_open(&o, &l->compactor, err);
}

static emb_status read_month(emb_ledger *l, emb_error *err)
{
    int32_t first, next;
    emb_ledger_month_of(emb_zone_day(l->zone, l->now_s()), &first, &next);
    return emb_ledger_spend(l->store, l->zone, first, next, NULL, &l->read_only_month_nusd,
                            emb_now_ns() + UINT64_C(10000000000), err);
}

emb_status emb_ledger_open(const char *url, const emb_ledger_options *options, emb_ledger **out,
                           emb_error *err)
{
    static const emb_ledger_options defaults;
    unsigned char random[24];
    emb_ledger *l = calloc(1, sizeof *l);
    if (!l)
        return emb_fail_nomem(err, "the ledger", sizeof *l);
    if (!options)
        options = &defaults;
    l->now_s = options->now_s ? options->now_s : clock_s;
    emb_status st = getrandom(random, sizeof random, 0) == sizeof random
                        ? EMB_OK
                        : emb_fail(err, EMB_E_IO, NULL, "the system gives no random numbers");
    if (st == EMB_OK &&
        (st = emb_zone_open(options->timezone ? options->timezone : "UTC", &l->zone, err)) == EMB_OK)
        st = emb_ledger_store_open(url, options->read_only, &l->store, err);
    if (st == EMB_OK) {
        memcpy(&l->seed, random + 16, sizeof l->seed);
        st = options->read_only ? read_month(l, err) : open_writer(l, options, random, err);
    }
    if (st == EMB_OK)
        st = open_compactor(l, options, err);
    if (st != EMB_OK)
        emb_ledger_close(l);
    else
        *out = l;
    return st;
}

void emb_ledger_close(emb_ledger *l)
{
    if (!l)
        return;
    emb_ledger_compactor_close(l->compactor);
    emb_ledger_writer_close(l->writer);
    close_shards(l);
    if (l->store)
        l->store->ops->close(l->store);
    emb_zone_close(l->zone);
    free(l);
}

bool emb_ledger_flush(emb_ledger *l, uint64_t deadline_ns)
{
    return !l || !l->writer || emb_ledger_writer_flush(l->writer, deadline_ns);
}

bool emb_ledger_is_up(const emb_ledger *l)
{
    return !l->writer || emb_ledger_writer_is_up(l->writer);
}

uint64_t emb_ledger_month_nusd(emb_ledger *l)
{
    if (!l)
        return 0;
    return l->writer ? emb_ledger_writer_month_nusd(l->writer) : l->read_only_month_nusd;
}
