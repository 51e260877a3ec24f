/*
 * Single flight.
 *
 * A flight is one call; it has a slot for each lookup. A slot is done, or led (this call computes it), or
 * waits for another call's slot of the same key, or is the twin of an earlier slot of its own call. A table
 * lists the slots that are led; each heads a list of those that wait for it. Slots are both, so that nothing
 * is allocated after emb_flight_make, and a waiter becomes leader by being listed in the other's place.
 *
 * One mutex for all of it. It is taken only for keys that are not in L1, each of which costs a store's answer
 * or a forward pass, and held for a hundred nanoseconds a key; per-key locks would have to be taken in order
 * to move waiters between flights. Whoever finishes a key copies its vector straight into the memory of those
 * who wait: they leave only by emb_flight_end, which takes the mutex too.
 *
 * No deadlock: a flight waits only in emb_flight_next, and only when it leads nothing that is unfilled. A
 * leader that ends without having filled hands its keys over, to a flight that sleeps in emb_flight_next if
 * there is one.
 *
 * Who takes part. Only requests that read, write and share. The others compute for themselves, so that
 * nothing of them reaches another request and nothing another request has stored reaches them:
 *     read, write, share     L1, table, L2; kept in L1 and L2
 *     read, write, private   L1; kept in L1 only; not in the table, which would hand its vector to others
 *     read, no-store         L1, L2; nothing is kept; not in the table, where a leader has to keep
 *     no-cache, write        nothing is asked; kept in L1, and in L2 if shared; a vector that is being computed might have
 *                            been read from L2 by then, so it does not wait for one
 *     no-cache, no-store     nothing
 * Duplicates within a call are computed once in every case: they are the caller's own.
 *
 * Failures. A leader's failure goes to those who wait, unless it is its own affair: CANCELLED and DEADLINE;
 * and errors of its request (HTTP 4xx, 429 aside) when it led more than one key, since it may be another text
 * that was at fault. Then one who waits computes it.
 */
#include "cache/flight.h"
#include "base/duty.h"

#include "base/clock.h"
#include "base/error.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_AT_FIRST = 1024, CANCEL_POLL_MS = 5 };
#define NO_TWIN UINT32_MAX

typedef enum slot_state { SLOT_LED, SLOT_WAITS, SLOT_TWIN, SLOT_FAILED, SLOT_DONE } slot_state;

typedef struct slot slot;
struct slot {
    emb_cache_flight *flight;
    slot_state state;
    uint32_t twin; /* the next slot of this call with the same key */
    bool listed;
    slot *chain;        /* in the table */
    slot *first, *last; /* who waits for it */
    slot *next, *prev;  /* beside others who wait for `leader` */
    slot *leader;
};

struct emb_flights {
    pthread_mutex_t lock;
    slot **buckets;
    size_t slots, listed; /* a power of two; how many are in it */
    size_t waiting;       /* slots that wait */
    uint64_t shared;
    emb_series *series;
};

struct emb_cache_flight {
    emb_flights *table;
    emb_cache *owner;
    emb_cache_lookup *lookups;
    size_t count, open, leads; /* slots not done; slots led and not done; those that were ever led */
    size_t ever_led;
    emb_cache_policy policy;
    uint64_t deadline_ns;
    const volatile int *cancel;
    pthread_cond_t changed;
    bool sleeps;
    emb_status failure;
    emb_error error;
    uint32_t *twins; /* hash table of slots by key, while duplicates are looked for */
    slot slots[];
};

static emb_cache_lookup *lookup_of(const slot *s)
{
    return &s->flight->lookups[s - s->flight->slots];
}

static size_t place_of(const emb_cache_key *key)
{
    size_t place;
    memcpy(&place, key->bytes, sizeof place);
    return place;
}

/* ---- the table ---- */

emb_status emb_flights_open(emb_series *shared, emb_flights **out, emb_error *err)
{
    emb_flights *t = calloc(1, sizeof *t);
    if (t)
        t->buckets = calloc(BUCKETS_AT_FIRST, sizeof *t->buckets);
    if (!t || !t->buckets) {
        free(t);
        return emb_fail_nomem(err, "the table of what is computed", BUCKETS_AT_FIRST * sizeof *t->buckets);
    }
    t->slots = BUCKETS_AT_FIRST;
    t->series = shared;
    pthread_mutex_init(&t->lock, NULL);
    *out = t;
    return EMB_OK;
}

void emb_flights_close(emb_flights *table)
{
    if (!table)
        return;
    pthread_mutex_destroy(&table->lock);
    free(table->buckets);
    free(table);
}

uint64_t emb_flights_shared(emb_flights *table)
{
    pthread_mutex_lock(&table->lock);
    uint64_t shared = table->shared;
    pthread_mutex_unlock(&table->lock);
    return shared;
}

size_t emb_flights_waiting(emb_flights *table)
{
    pthread_mutex_lock(&table->lock);
    size_t waiting = table->waiting;
    pthread_mutex_unlock(&table->lock);
    return waiting;
}

static slot **bucket_of(emb_flights *t, const emb_cache_key *key)
{
    return &t->buckets[place_of(key) & (t->slots - 1)];
}

/* Twice the buckets; without memory for them chains grow instead. */
static void grow(emb_flights *t)
{
    slot **old = t->buckets, **buckets = calloc(2 * t->slots, sizeof *buckets);
    if (!buckets)
        return;
    size_t slots = t->slots;
    t->buckets = buckets;
    t->slots = 2 * slots;
    for (size_t i = 0; i < slots; i++)
        for (slot *s = old[i], *next; s; s = next) {
            next = s->chain;
            slot **b = bucket_of(t, &lookup_of(s)->key);
            s->chain = *b;
            *b = s;
        }
    free(old);
}

static void list(emb_flights *t, slot *s)
{
    if (t->listed >= t->slots)
        grow(t);
    slot **b = bucket_of(t, &lookup_of(s)->key);
    s->chain = *b;
    *b = s;
    s->listed = true;
    t->listed++;
}

static void unlist(emb_flights *t, slot *s)
{
    if (!s->listed)
        return;
    slot **link = bucket_of(t, &lookup_of(s)->key);
    while (*link != s)
        link = &(*link)->chain;
    *link = s->chain;
    s->listed = false;
    t->listed--;
}

static slot *find(emb_flights *t, const emb_cache_key *key)
{
    slot *s = *bucket_of(t, key);
    while (s && memcmp(&lookup_of(s)->key, key, sizeof *key) != 0)
        s = s->chain;
    return s;
}

static void add_waiter(slot *leader, slot *s)
{
    s->state = SLOT_WAITS;
    s->leader = leader;
    s->next = NULL;
    s->prev = leader->last;
    *(leader->last ? &leader->last->next : &leader->first) = s;
    leader->last = s;
    s->flight->table->waiting++;
}

static void take_waiter(slot *s)
{
    *(s->prev ? &s->prev->next : &s->leader->first) = s->next;
    *(s->next ? &s->next->prev : &s->leader->last) = s->prev;
    s->leader = NULL;
    s->flight->table->waiting--;
}

/* ---- making a flight ---- */

/* Slots and, behind them, a hash table for finding duplicates: half full at most. */
static size_t twin_slots(size_t count)
{
    size_t n = 4;
    while (n < 2 * count)
        n *= 2;
    return count > 1 ? n : 0;
}

emb_status emb_flight_make(emb_flights *table, emb_cache_lookup *lookups, size_t count,
                           const emb_cache_policy *policy, uint64_t deadline_ns, const volatile int *cancel,
                           emb_cache_flight **out, emb_error *err)
{
    size_t twins = twin_slots(count), room;
    if (count >= NO_TWIN || __builtin_mul_overflow(count, sizeof(slot), &room))
        return emb_fail_nomem(err, "a lookup in the cache", SIZE_MAX);
    room += sizeof(emb_cache_flight);
    emb_cache_flight *f = malloc(room + twins * sizeof *f->twins);
    if (!f)
        return emb_fail_nomem(err, "a lookup in the cache", room);
    memset(f, 0, sizeof *f);
    f->table = table;
    f->lookups = lookups;
    f->count = f->open = f->leads = count;
    f->policy = *policy;
    f->deadline_ns = deadline_ns;
    f->cancel = cancel;
    f->twins = twins ? (uint32_t *)((char *)f + room) : NULL;
    for (size_t i = 0; i < count; i++) {
        f->slots[i] = (slot){.flight = f, .state = SLOT_LED, .twin = NO_TWIN};
        lookups[i].source = EMB_CACHE_NONE;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&f->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = f;
    return EMB_OK;
}

void emb_flight_found(emb_cache_flight *f, size_t index, emb_cache_source source)
{
    slot *s = &f->slots[index];
    s->state = SLOT_DONE;
    f->lookups[index].source = source;
    f->open--;
    f->leads--;
}

/* The first slot of this call with the same key and dimension, or itself. */
static slot *first_twin(emb_cache_flight *f, slot *s, size_t mask)
{
    emb_cache_lookup *l = lookup_of(s);
    for (size_t at = place_of(&l->key) & mask;; at = (at + 1) & mask) {
        if (f->twins[at] == NO_TWIN) {
            f->twins[at] = (uint32_t)(s - f->slots);
            return s;
        }
        slot *other = &f->slots[f->twins[at]];
        emb_cache_lookup *o = lookup_of(other);
        if (o->dimension == l->dimension && memcmp(&o->key, &l->key, sizeof l->key) == 0)
            return other;
    }
}

static void join_twins(emb_cache_flight *f)
{
    size_t mask = twin_slots(f->count) - 1;
    if (f->leads < 2)
        return;
    memset(f->twins, 0xFF, (mask + 1) * sizeof *f->twins);
    for (size_t i = 0; i < f->count; i++) {
        slot *s = &f->slots[i];
        if (s->state != SLOT_LED)
            continue;
        slot *first = first_twin(f, s, mask);
        if (first != s) {
            s->state = SLOT_TWIN;
            s->twin = first->twin;
            first->twin = (uint32_t)i;
            f->leads--;
        }
    }
}

/* The vector of a slot is there; its twins get it too. */
static void finish(slot *s, emb_cache_source source)
{
    emb_cache_flight *f = s->flight;
    emb_cache_lookup *l = lookup_of(s);
    f->leads -= s->state == SLOT_LED;
    s->state = SLOT_DONE;
    l->source = source;
    f->open--;
    for (uint32_t i = s->twin; i != NO_TWIN; i = f->slots[i].twin) {
        emb_cache_lookup *twin = &f->lookups[i];
        memcpy(twin->vector, l->vector, (size_t)l->dimension * sizeof *l->vector);
        twin->tokens = l->tokens;
        twin->source = source == EMB_CACHE_COMPUTED ? EMB_CACHE_SHARED : source;
        f->slots[i].state = SLOT_DONE;
        f->open--;
    }
}

void emb_flight_join(emb_cache_flight *f, bool listed, emb_flight_recheck recheck, void *context)
{
    emb_flights *t = f->table;
    join_twins(f);
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < f->count && listed; i++) {
        slot *s = &f->slots[i];
        if (s->state != SLOT_LED)
            continue;
        slot *leader = find(t, &f->lookups[i].key);
        if (leader && lookup_of(leader)->dimension == f->lookups[i].dimension && leader->flight != f) {
            add_waiter(leader, s);
            f->leads--;
        } else if (!leader) {
            if (recheck && recheck(context, &f->lookups[i]))
                finish(s, EMB_CACHE_L1);
            else
                list(t, s);
        }
    }
    f->ever_led = f->leads;
    pthread_mutex_unlock(&t->lock);
}

size_t emb_flight_led(emb_cache_flight *f, size_t *indexes)
{
    size_t n = 0;
    pthread_mutex_lock(&f->table->lock);
    for (size_t i = 0; i < f->count && n < f->leads; i++)
        if (f->slots[i].state == SLOT_LED)
            indexes[n++] = i;
    pthread_mutex_unlock(&f->table->lock);
    return n;
}

/* ---- filling and handing over ---- */

static void fail_flight(emb_cache_flight *f, emb_status status, const emb_error *error)
{
    if (f->failure != EMB_OK)
        return;
    f->failure = status;
    if (error)
        f->error = *error;
    else
        emb_fail(&f->error, status, NULL, "%s", emb_status_text(status));
    f->error.code = status;
    pthread_cond_signal(&f->changed);
}

/* One of those who wait for `old` leads from now on; the others wait for it. */
static void hand_over(emb_flights *t, slot *old)
{
    slot *heir = NULL;
    for (slot *s = old->first, *next; s; s = next) {
        next = s->next;
        if (s->flight->failure != EMB_OK) { /* it is on its way out */
            take_waiter(s);
            s->state = SLOT_FAILED;
        } else if (!heir || (s->flight->sleeps && !heir->flight->sleeps)) {
            heir = s;
        }
    }
    if (!heir)
        return;
    take_waiter(heir);
    heir->state = SLOT_LED;
    heir->flight->leads++;
    heir->flight->ever_led++;
    for (slot *s = old->first, *next; s; s = next) {
        next = s->next;
        take_waiter(s);
        add_waiter(heir, s);
    }
    list(t, heir);
    pthread_cond_signal(&heir->flight->changed);
}

void emb_flight_fill(emb_cache_flight *f, size_t index, emb_cache_source source, uint64_t age_s)
{
    emb_flights *t = f->table;
    slot *s = &f->slots[index];
    emb_cache_lookup *l = &f->lookups[index];
    pthread_mutex_lock(&t->lock);
    if (s->state == SLOT_LED) {
        unlist(t, s);
        for (slot *w = s->first, *next; w; w = next) {
            next = w->next;
            uint64_t max_age = w->flight->policy.max_age_s;
            if (max_age && age_s > max_age)
                continue;
            take_waiter(w);
            emb_cache_lookup *to = lookup_of(w);
            memcpy(to->vector, l->vector, (size_t)l->dimension * sizeof *l->vector);
            to->tokens = l->tokens;
            finish(w, EMB_CACHE_SHARED);
            t->shared++;
            emb_series_add(t->series, 1);
            pthread_cond_signal(&w->flight->changed);
        }
        finish(s, source);
        if (s->first)
            hand_over(t, s);
    }
    pthread_mutex_unlock(&t->lock);
}

static void fail_waiters(slot *s, emb_status status, const emb_error *error)
{
    for (slot *w = s->first, *next; w; w = next) {
        next = w->next;
        take_waiter(w);
        w->state = SLOT_FAILED;
        fail_flight(w->flight, status, error);
    }
}

void emb_flight_refuse(emb_cache_flight *f, size_t index, emb_status status, const char *message)
{
    slot *s = &f->slots[index];
    emb_error error;
    emb_fail(&error, status, NULL, "%s", message);
    pthread_mutex_lock(&f->table->lock);
    if (s->state == SLOT_LED) {
        unlist(f->table, s);
        fail_waiters(s, status, &error);
        finish(s, EMB_CACHE_COMPUTED);
    }
    pthread_mutex_unlock(&f->table->lock);
}

static bool is_own_affair(const emb_cache_flight *f, emb_status status)
{
    int http = emb_status_http(status);
    return status == EMB_OK || status == EMB_E_CANCELLED || status == EMB_E_DEADLINE ||
           (http >= 400 && http < 500 && status != EMB_E_BUSY && f->ever_led > 1);
}

void emb_flight_end(emb_cache_flight *f, emb_status status, const emb_error *err)
{
    emb_flights *t = f->table;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < f->count; i++) {
        slot *s = &f->slots[i];
        if (s->state == SLOT_WAITS)
            take_waiter(s);
        if (s->state != SLOT_LED)
            continue;
        unlist(t, s);
        if (is_own_affair(f, status))
            hand_over(t, s);
        else
            fail_waiters(s, status, err);
    }
    pthread_mutex_unlock(&t->lock);
    pthread_cond_destroy(&f->changed);
    free(f);
}

/* ---- waiting ---- */

/* Until something changed, the deadline, or the next look at `cancel`. */
static void sleep_a_while(emb_cache_flight *f)
{
    uint64_t until = f->deadline_ns;
    if (f->cancel) {
        uint64_t poll = emb_now_ns() + CANCEL_POLL_MS * UINT64_C(1000000);
        if (!until || poll < until)
            until = poll;
    }
    emb_duty_pass_on();
    f->sleeps = true;
    if (until) {
        struct timespec t = {(time_t)(until / 1000000000), (long)(until % 1000000000)};
        pthread_cond_timedwait(&f->changed, &f->table->lock, &t);
    } else {
        pthread_cond_wait(&f->changed, &f->table->lock);
    }
    f->sleeps = false;
}

/* EMB_OK while waiting may go on. */
static emb_status why_not_wait(emb_cache_flight *f, emb_error *err)
{
    if (f->failure != EMB_OK) {
        if (err)
            *err = f->error;
        return f->failure;
    }
    if (f->cancel && __atomic_load_n(f->cancel, __ATOMIC_RELAXED))
        return emb_fail(err, EMB_E_CANCELLED, NULL,
                        "cancelled while waiting for another request's computation");
    if (f->deadline_ns && emb_now_ns() >= f->deadline_ns)
        return emb_fail(
            err, EMB_E_DEADLINE, NULL,
            "the deadline passed while waiting for another request's computation of the same text");
    return EMB_OK;
}

bool emb_flight_next(emb_cache_flight *f, size_t *todo, size_t *count, emb_status *status, emb_error *err)
{
    *count = 0;
    *status = EMB_OK;
    pthread_mutex_lock(&f->table->lock);
    while (f->open && !f->leads && (*status = why_not_wait(f, err)) == EMB_OK)
        sleep_a_while(f);
    if (f->open && f->failure != EMB_OK)
        *status = why_not_wait(f, err);
    for (size_t i = 0; *status == EMB_OK && i < f->count && *count < f->leads; i++)
        if (f->slots[i].state == SLOT_LED)
            todo[(*count)++] = i;
    pthread_mutex_unlock(&f->table->lock);
    return *count > 0;
}

/* ---- what the cache asks ---- */

const emb_cache_policy *emb_flight_policy(const emb_cache_flight *flight)
{
    return &flight->policy;
}

emb_cache_lookup *emb_flight_lookup(emb_cache_flight *flight, size_t index)
{
    return index < flight->count ? &flight->lookups[index] : NULL;
}

uint64_t emb_flight_deadline(const emb_cache_flight *flight)
{
    return flight->deadline_ns;
}

void emb_flight_set_owner(emb_cache_flight *flight, emb_cache *cache)
{
    flight->owner = cache;
}

emb_cache *emb_flight_owner(const emb_cache_flight *flight)
{
    return flight->owner;
}
