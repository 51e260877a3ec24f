/*
 * A budget of one process, in its memory: the reference of what the other stores do.
 *
 * Tickets are in a chained hash table by id and in one of two lists by the time at which they end, which is
 * the order of their making since all last equally long: reserved ones, and those that were given up or must
 * not be made. So expiring looks at the head alone. Totals are a list: a day has a handful of scopes, or some
 * hundred keys. One lock; a reserve costs less than a microsecond.
 */
#include "base/error.h"
#include "router/budget_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096 };

typedef enum ticket_state { RESERVED, GONE, DONE } ticket_state;

typedef struct total total;
struct total {
    total *next;
    int32_t day;
    uint64_t spent, reserved;
    char name[];
};

typedef struct ticket ticket;
struct ticket {
    ticket *chain, *older, *newer; /* of its list */
    uint8_t id[16];
    ticket_state state;
    uint64_t nusd; /* reserved; of GONE: counted as spent */
    int64_t until_ms;
    size_t count;
    total *totals[EMB_BUDGET_SCOPES];
};

typedef struct list {
    ticket *oldest, *newest;
} list;

typedef struct memory_store {
    emb_budget_store base;
    emb_budget_store_options options;
    pthread_mutex_t lock;
    total *totals;
    list reserved, past;
    ticket *buckets[BUCKETS];
} memory_store;

/* ---- tickets ---- */

static ticket **place_of(memory_store *m, const uint8_t id[16])
{
    uint32_t hash;
    memcpy(&hash, id, sizeof hash);
    ticket **at = &m->buckets[hash % BUCKETS];
    while (*at && memcmp((*at)->id, id, 16) != 0)
        at = &(*at)->chain;
    return at;
}

static void append(list *l, ticket *t)
{
    t->older = l->newest;
    t->newer = NULL;
    *(l->newest ? &l->newest->newer : &l->oldest) = t;
    l->newest = t;
}

static void take_out(list *l, ticket *t)
{
    *(t->older ? &t->older->newer : &l->oldest) = t->newer;
    *(t->newer ? &t->newer->older : &l->newest) = t->older;
}

static ticket *add_ticket(memory_store *m, const uint8_t id[16], ticket_state state, int64_t lasts_s)
{
    ticket *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    memcpy(t->id, id, 16);
    t->state = state;
    t->until_ms = emb_budget_now_ms(&m->options) + lasts_s * 1000;
    *place_of(m, id) = t;
    append(state == RESERVED ? &m->reserved : &m->past, t);
    return t;
}

static void drop(memory_store *m, ticket *t)
{
    *place_of(m, t->id) = t->chain;
    take_out(t->state == RESERVED ? &m->reserved : &m->past, t);
    free(t);
}

/* ---- totals ---- */

static total *total_of(memory_store *m, int32_t day, const char *name)
{
    total *t = m->totals;
    while (t && (t->day != day || strcmp(t->name, name) != 0))
        t = t->next;
    return t;
}

static total *make_total(memory_store *m, int32_t day, const char *name)
{
    total *t = total_of(m, day, name);
    size_t length = strlen(name) + 1;
    if (t || !(t = calloc(1, sizeof *t + length)))
        return t;
    memcpy(t->name, name, length);
    t->day = day;
    t->next = m->totals;
    return m->totals = t;
}

static emb_budget_use use_of(const total *t)
{
    return (emb_budget_use){t->spent, t->reserved};
}

/* ---- the steps, with the lock ---- */

static bool fits(const emb_budget_order *o, const emb_budget_want *w, const total *t)
{
    return w->limit < 0 || t->spent + t->reserved + o->nusd <= (uint64_t)w->limit;
}

static emb_status reserve(memory_store *m, emb_budget_order *o, emb_error *err)
{
    total *totals[EMB_BUDGET_SCOPES];
    for (size_t i = 0; i < o->count; i++) {
        if (!(totals[i] = make_total(m, o->day, o->wants[i].name)))
            return emb_fail_nomem(err, "a budget's total", sizeof(total));
        o->wants[i].use = use_of(totals[i]);
    }
    for (size_t i = 0; i < o->count; i++)
        if (!fits(o, &o->wants[i], totals[i])) {
            o->refusing = i;
            return EMB_OK;
        }
    ticket *t = add_ticket(m, o->id, RESERVED, m->options.reservation_s);
    if (!t)
        return emb_fail_nomem(err, "a reservation", sizeof *t);
    t->nusd = o->nusd;
    t->count = o->count;
    memcpy(t->totals, totals, o->count * sizeof *totals);
    for (size_t i = 0; i < o->count; i++) {
        totals[i]->reserved += o->nusd;
        o->wants[i].use = use_of(totals[i]);
    }
    o->granted = true;
    return EMB_OK;
}

static emb_status memory_reserve(emb_budget_store *store, emb_budget_order *o, uint64_t deadline_ns,
                                 emb_error *err)
{
    memory_store *m = (memory_store *)store;
    (void)deadline_ns;
    o->granted = false;
    pthread_mutex_lock(&m->lock);
    emb_status st = reserve(m, o, err);
    pthread_mutex_unlock(&m->lock);
    return st;
}

static void settle_gone(memory_store *m, ticket *t, const emb_budget_settlement *s)
{
    const char *name = s->names;
    for (uint32_t i = 0; i < s->count; i++, name += strlen(name) + 1) {
        total *sum = total_of(m, s->day, name);
        if (sum)
            sum->spent += s->actual_nusd - t->nusd;
    }
    t->state = DONE;
}

static void settle(memory_store *m, const emb_budget_settlement *s)
{
    ticket *t = *place_of(m, s->id);
    if (!t && s->sureness == EMB_BUDGET_UNSURE) {
        (void)!add_ticket(m, s->id, DONE, EMB_BUDGET_GONE_S);
    } else if (t && t->state == GONE) {
        settle_gone(m, t, s);
    } else if (t && t->state == RESERVED) {
        for (size_t i = 0; i < t->count; i++) {
            t->totals[i]->reserved -= t->nusd;
            t->totals[i]->spent += s->actual_nusd;
        }
        drop(m, t);
    }
}

static emb_status memory_settle(emb_budget_store *store, const emb_budget_settlement *settlements,
                                size_t count, uint64_t deadline_ns, emb_error *err)
{
    memory_store *m = (memory_store *)store;
    (void)deadline_ns, (void)err;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < count; i++)
        settle(m, &settlements[i]);
    pthread_mutex_unlock(&m->lock);
    return EMB_OK;
}

static void give_up(memory_store *m, ticket *t, int64_t now_ms)
{
    for (size_t i = 0; i < t->count; i++) {
        t->totals[i]->reserved -= t->nusd;
        if (m->options.expired_are_spent)
            t->totals[i]->spent += t->nusd;
    }
    take_out(&m->reserved, t);
    t->state = GONE;
    t->count = 0;
    t->nusd = m->options.expired_are_spent ? t->nusd : 0;
    t->until_ms = now_ms + EMB_BUDGET_GONE_S * INT64_C(1000);
    append(&m->past, t);
}

static emb_status memory_expire(emb_budget_store *store, uint64_t *count, uint64_t deadline_ns,
                                emb_error *err)
{
    memory_store *m = (memory_store *)store;
    (void)deadline_ns, (void)err;
    *count = 0;
    pthread_mutex_lock(&m->lock);
    int64_t now = emb_budget_now_ms(&m->options);
    for (; m->reserved.oldest && m->reserved.oldest->until_ms <= now; ++*count)
        give_up(m, m->reserved.oldest, now);
    while (m->past.oldest && m->past.oldest->until_ms <= now)
        drop(m, m->past.oldest);
    pthread_mutex_unlock(&m->lock);
    return EMB_OK;
}

static emb_status memory_read(emb_budget_store *store, int32_t day, emb_budget_seen seen, void *context,
                              uint64_t deadline_ns, emb_error *err)
{
    memory_store *m = (memory_store *)store;
    (void)deadline_ns, (void)err;
    pthread_mutex_lock(&m->lock);
    for (const total *t = m->totals; t; t = t->next)
        if (t->day == day) {
            emb_budget_use use = use_of(t);
            seen(context, t->name, &use);
        }
    pthread_mutex_unlock(&m->lock);
    return EMB_OK;
}

/* A total with reservations stays: their tickets point to it. */
static emb_status memory_tidy(emb_budget_store *store, int32_t before_day, uint64_t deadline_ns,
                              emb_error *err)
{
    memory_store *m = (memory_store *)store;
    (void)deadline_ns, (void)err;
    pthread_mutex_lock(&m->lock);
    bool quiet = !m->reserved.oldest; /* zero reserved may have tickets of nothing */
    for (total **at = &m->totals; quiet && *at;) {
        total *t = *at;
        if (t->day < before_day) {
            *at = t->next;
            free(t);
        } else {
            at = &t->next;
        }
    }
    pthread_mutex_unlock(&m->lock);
    return EMB_OK;
}

static void memory_close(emb_budget_store *store)
{
    memory_store *m = (memory_store *)store;
    while (m->reserved.oldest)
        drop(m, m->reserved.oldest);
    while (m->past.oldest)
        drop(m, m->past.oldest);
    for (total *t = m->totals, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static const emb_budget_store_ops OPS = {false,       memory_reserve, memory_settle, memory_expire,
                                         memory_read, memory_tidy,    memory_close};

emb_status emb_budget_memory_open(const char *url, const emb_budget_store_options *options,
                                  emb_budget_store **out, emb_error *err)
{
    (void)url;
    memory_store *m = calloc(1, sizeof *m);
    if (!m)
        return emb_fail_nomem(err, "a budget", sizeof *m);
    m->base.ops = &OPS;
    m->options = *options;
    pthread_mutex_init(&m->lock, NULL);
    *out = &m->base;
    return EMB_OK;
}
