/* A list: tests hold a few thousand entries at most, and look them up by a hash. */
#include "support/fake_l2.h"

#include "base/clock.h"
#include "base/error.h"
#include "cache/value.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUCKETS = 4096 };

struct fake_l2_entry {
    struct fake_l2_entry *next;
    emb_cache_key key;
    unsigned char *value;
    size_t length;
    char *model, *text;
    unsigned uses;
};
typedef struct fake_l2_entry entry;

static entry **bucket(fake_l2 *f, const emb_cache_key *key)
{
    return &((entry **)f->entries)[(key->bytes[0] | (unsigned)key->bytes[1] << 8) % BUCKETS];
}

static entry *find(fake_l2 *f, const emb_cache_key *key)
{
    entry *e = *bucket(f, key);
    while (e && memcmp(&e->key, key, sizeof *key) != 0)
        e = e->next;
    return e;
}

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* What every operation does first. */
static emb_status behave(fake_l2 *f, uint64_t deadline_ns, emb_error *err)
{
    fake_l2_mode mode = atomic_load(&f->mode);
    uint64_t start = emb_now_ns(), ms = deadline_ns > start ? (deadline_ns - start) / 1000000 : 0;
    if (ms > atomic_load(&f->longest_ms))
        atomic_store(&f->longest_ms, (unsigned)ms);
    if (deadline_ns && deadline_ns <= start)
        return emb_fail(err, EMB_E_DEADLINE, "fake", "fake: too late");
    if (mode == FAKE_L2_FAILS)
        return emb_fail(err, EMB_E_IO, "fake", "fake: it fails");
    while (atomic_load(&f->mode) == FAKE_L2_HANGS) {
        if (deadline_ns && emb_now_ns() >= deadline_ns)
            return emb_fail(err, EMB_E_DEADLINE, "fake", "fake: it hangs");
        pause_ms(1);
    }
    if (mode == FAKE_L2_SLOW)
        pause_ms(3);
    return EMB_OK;
}

static unsigned char *twisted(fake_l2 *f, fake_l2_mode mode, const entry *e, size_t *length)
{
    static _Atomic unsigned turn;
    unsigned t = atomic_fetch_add(&turn, 1);
    unsigned char *copy = malloc(e->length + 64);
    memcpy(copy, e->value, *length = e->length);
    if (mode == FAKE_L2_FLIPS_BITS) {
        copy[t * 31 % e->length] ^= (unsigned char)(1u << t % 8);
    } else if (mode == FAKE_L2_GARBAGE) {
        *length = t % 5 == 0 ? 0 : t % 5 == 1 ? e->length : t % (e->length + 64);
        for (size_t i = 0; i < *length; i++)
            copy[i] = (unsigned char)(t * 2654435761u >> (i % 24));
    } else if (mode == FAKE_L2_WRONG_VALUES) {
        for (unsigned i = 0; i < BUCKETS; i++) {
            const entry *o = ((entry **)f->entries)[(i + t) % BUCKETS];
            if (o && o != e && o->length == e->length) {
                memcpy(copy, o->value, o->length);
                break;
            }
        }
    } else if (mode == FAKE_L2_HALF_SIZE) {
        float vector[4096];
        uint32_t whole = emb_value_dimension(e->value, e->length), half = whole > 1 ? (whole + 1) / 2 : 2;
        memset(vector, 0, half * sizeof *vector);
        (void)!emb_value_pack(&e->key, &(emb_value){vector, half, 1, (uint64_t)time(NULL), 0}, copy);
        *length = emb_value_size(half);
    }
    return copy;
}

static emb_status get_many(emb_l2 *l2, const emb_cache_key *const *keys, size_t count, uint64_t deadline_ns,
                           emb_l2_found found, void *context, emb_error *err)
{
    fake_l2 *f = (fake_l2 *)l2;
    fake_l2_mode mode = atomic_load(&f->mode);
    atomic_fetch_add(&f->gets, 1);
    atomic_fetch_add(&f->keys, (unsigned)count);
    emb_status st = behave(f, deadline_ns, err);
    for (size_t i = 0; st == EMB_OK && i < count; i++) {
        if (mode == FAKE_L2_HALF_THEN_FAILS && i >= count / 2)
            return emb_fail(err, EMB_E_IO, "fake", "fake: the connection broke");
        pthread_mutex_lock(&f->lock);
        entry *e = find(f, keys[i]);
        size_t length = 0;
        unsigned char *value = e ? twisted(f, mode, e, &length) : NULL;
        if (e)
            e->uses++;
        pthread_mutex_unlock(&f->lock);
        if (!value)
            continue;
        found(context, i, value, length);
        if (mode == FAKE_L2_TWICE) {
            found(context, i, value, length);
            found(context, count, value, length);
            found(context, SIZE_MAX, value, length);
        }
        free(value);
    }
    return st;
}

static void free_entry(entry *e)
{
    free(e->value);
    free(e->model);
    free(e->text);
    free(e);
}

static void drop(fake_l2 *f, entry **link)
{
    entry *e = *link;
    *link = e->next;
    free_entry(e);
    f->count--;
}

static void put_one(fake_l2 *f, const emb_l2_item *item)
{
    for (entry **link = bucket(f, item->key); *link; link = &(*link)->next)
        if (memcmp(&(*link)->key, item->key, sizeof *item->key) == 0) {
            drop(f, link);
            break;
        }
    entry *e = calloc(1, sizeof *e);
    e->key = *item->key;
    e->value = malloc(item->length);
    memcpy(e->value, item->value, e->length = item->length);
    e->model = strdup(item->model ? item->model : "");
    e->text = item->text ? strndup(item->text, item->text_length) : NULL;
    e->next = *bucket(f, item->key);
    *bucket(f, item->key) = e;
    f->count++;
}

static emb_status put_many(emb_l2 *l2, const emb_l2_item *items, size_t count, uint64_t deadline_ns,
                           emb_error *err)
{
    fake_l2 *f = (fake_l2 *)l2;
    fake_l2_mode mode = atomic_load(&f->mode);
    atomic_fetch_add(&f->puts, 1);
    emb_status st = behave(f, deadline_ns, err);
    if (st == EMB_OK && mode == FAKE_L2_READ_ONLY)
        return emb_fail(err, EMB_E_IO, "fake", "fake: read-only");
    for (size_t i = 0; st == EMB_OK && mode == FAKE_L2_REFUSES_ODD && i < count; i++)
        if (((const unsigned char *)items[i].value)[12] & 1)
            return emb_fail(err, EMB_E_INVALID, "fake", "fake: an odd item");
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; st == EMB_OK && i < count; i++) {
        put_one(f, &items[i]);
        atomic_fetch_add(&f->items, 1);
    }
    pthread_mutex_unlock(&f->lock);
    return st;
}

static emb_status remove_matching(emb_l2 *l2, const emb_cache_filter *filter, uint64_t deadline_ns,
                                  uint64_t *removed, emb_error *err)
{
    fake_l2 *f = (fake_l2 *)l2;
    *removed = 0;
    atomic_fetch_add(&f->removes, 1);
    emb_status st = behave(f, deadline_ns, err);
    if (st != EMB_OK)
        return st;
    pthread_mutex_lock(&f->lock);
    for (unsigned i = 0; i < BUCKETS; i++)
        for (entry **link = &((entry **)f->entries)[i]; *link;) {
            uint64_t created;
            memcpy(&created, (*link)->value + 16, sizeof created);
            if ((!filter->key || memcmp(filter->key, &(*link)->key, sizeof(emb_cache_key)) == 0) &&
                (!filter->model || strcmp(filter->model, (*link)->model) == 0) &&
                (!filter->older_than_s || created + filter->older_than_s < (uint64_t)time(NULL))) {
                drop(f, link);
                ++*removed;
            } else {
                link = &(*link)->next;
            }
        }
    pthread_mutex_unlock(&f->lock);
    return EMB_OK;
}

static emb_status get_stats(emb_l2 *l2, uint64_t deadline_ns, emb_cache_tier_stats *out, emb_error *err)
{
    fake_l2 *f = (fake_l2 *)l2;
    emb_status st = behave(f, deadline_ns, err);
    pthread_mutex_lock(&f->lock);
    out->entries = f->count;
    out->bytes = f->count * 100;
    out->evictions = 0;
    pthread_mutex_unlock(&f->lock);
    return st;
}

static emb_status most_used(emb_l2 *l2, size_t limit, uint64_t deadline_ns, emb_l2_visit visit, void *context,
                            emb_error *err)
{
    fake_l2 *f = (fake_l2 *)l2;
    emb_status st = behave(f, deadline_ns, err);
    bool more = st == EMB_OK;
    pthread_mutex_lock(&f->lock);
    for (unsigned uses = 100; more && limit && uses-- > 0;)
        for (unsigned i = 0; more && limit && i < BUCKETS; i++)
            for (entry *e = ((entry **)f->entries)[i]; more && limit && e; e = e->next)
                if (e->uses == uses) {
                    limit--;
                    more = visit(context, &e->key, e->model, e->value, e->length, e->text,
                                 e->text ? strlen(e->text) : 0);
                }
    pthread_mutex_unlock(&f->lock);
    return st;
}

static emb_status tidy(emb_l2 *l2, uint64_t deadline_ns, emb_error *err)
{
    fake_l2 *f = (fake_l2 *)l2;
    atomic_fetch_add(&f->tidies, 1);
    return behave(f, deadline_ns, err);
}

static void set_maximum(emb_l2 *l2, size_t maximum_bytes)
{
    atomic_store(&((fake_l2 *)l2)->maximum, (unsigned)maximum_bytes);
}

static void close_it(emb_l2 *l2)
{
    (void)l2;
}

static const emb_l2_ops OPS = {.get_many = get_many,
                               .put_many = put_many,
                               .remove = remove_matching,
                               .stats = get_stats,
                               .most_used = most_used,
                               .tidy = tidy,
                               .close = close_it,
                               .set_maximum = set_maximum};

fake_l2 *fake_l2_make(void)
{
    fake_l2 *f = calloc(1, sizeof *f);
    f->base.ops = &OPS;
    f->entries = calloc(BUCKETS, sizeof(entry *));
    pthread_mutex_init(&f->lock, NULL);
    return f;
}

void fake_l2_free(fake_l2 *fake)
{
    for (unsigned i = 0; i < BUCKETS; i++)
        while (((entry **)fake->entries)[i])
            drop(fake, &((entry **)fake->entries)[i]);
    free(fake->entries);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}

bool fake_l2_holds(fake_l2 *fake, const emb_cache_key *key, const char *text)
{
    pthread_mutex_lock(&fake->lock);
    entry *e = find(fake, key);
    bool holds = e && (!text || (e->text && strcmp(e->text, text) == 0));
    pthread_mutex_unlock(&fake->lock);
    return holds;
}
