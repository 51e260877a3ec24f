/*
 * A list under a lock. What was spent is never dropped for want of room: there is at most one item for each
 * call that was in work when the store went away, since without the store no call begins. Only items that
 * take back a reservation of which nobody knows whether it was made could grow with every try while a store
 * does not answer; they are bounded, and what is dropped of them ends by expiring.
 */
#include "router/budget_queue.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { UNSURE_MOST = 65536 };

void emb_budget_queue_init(emb_budget_queue *q)
{
    pthread_condattr_t a;
    memset(q, 0, sizeof *q);
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&q->work, &a);
    pthread_cond_init(&q->idle, &a);
    pthread_condattr_destroy(&a);
}

void emb_budget_queue_fini(emb_budget_queue *q)
{
    while (q->oldest) {
        emb_budget_item *next = q->oldest->next;
        free(q->oldest);
        q->oldest = next;
    }
    pthread_cond_destroy(&q->idle);
    pthread_cond_destroy(&q->work);
    pthread_mutex_destroy(&q->lock);
}

emb_budget_item *emb_budget_item_make(const emb_budget_ticket *t, uint64_t actual_nusd,
                                      emb_budget_sureness sureness)
{
    size_t length = 0, count = t->count < EMB_BUDGET_SCOPES ? t->count : EMB_BUDGET_SCOPES;
    for (size_t i = 0; i < count; i++)
        length += strnlen(t->names[i], EMB_BUDGET_NAME - 1) + 1;
    emb_budget_item *item = calloc(1, sizeof *item + length);
    if (!item)
        return NULL;
    char *at = item->names;
    for (size_t i = 0; i < count; i++) {
        size_t n = strnlen(t->names[i], EMB_BUDGET_NAME - 1);
        memcpy(at, t->names[i], n);
        at += n + 1;
    }
    item->reserved_nusd = sureness == EMB_BUDGET_UNSURE ? 0 : t->nusd;
    item->settlement = (emb_budget_settlement){.day = t->day,
                                               .actual_nusd = actual_nusd,
                                               .sureness = sureness,
                                               .count = (uint32_t)count,
                                               .length = (uint32_t)length,
                                               .names = item->names};
    memcpy(item->settlement.id, t->id, sizeof t->id);
    return item;
}

bool emb_budget_queue_add(emb_budget_queue *q, emb_budget_item *item)
{
    pthread_mutex_lock(&q->lock);
    bool room = item->settlement.sureness != EMB_BUDGET_UNSURE || q->count < UNSURE_MOST;
    if (room) {
        *(q->newest ? &q->newest->next : &q->oldest) = item;
        q->newest = item;
        if (q->count++ == 0)
            pthread_cond_signal(&q->work);
    }
    pthread_mutex_unlock(&q->lock);
    if (!room)
        free(item);
    return room;
}

size_t emb_budget_queue_peek(emb_budget_queue *q, const emb_budget_item *out[EMB_BUDGET_SETTLE_BATCH])
{
    size_t count = 0;
    pthread_mutex_lock(&q->lock);
    for (const emb_budget_item *i = q->oldest; i && count < EMB_BUDGET_SETTLE_BATCH; i = i->next)
        out[count++] = i;
    pthread_mutex_unlock(&q->lock);
    return count;
}

void emb_budget_queue_done(emb_budget_queue *q, size_t count)
{
    pthread_mutex_lock(&q->lock);
    while (count-- > 0 && q->oldest) {
        emb_budget_item *item = q->oldest;
        if (!(q->oldest = item->next))
            q->newest = NULL;
        q->count--;
        free(item);
    }
    if (q->count == 0)
        pthread_cond_broadcast(&q->idle);
    pthread_mutex_unlock(&q->lock);
}

static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
}

bool emb_budget_queue_wait_empty(emb_budget_queue *q, uint64_t deadline_ns)
{
    struct timespec t = time_of(deadline_ns);
    pthread_mutex_lock(&q->lock);
    while (q->count > 0)
        if (deadline_ns == 0)
            pthread_cond_wait(&q->idle, &q->lock);
        else if (pthread_cond_timedwait(&q->idle, &q->lock, &t) != 0)
            break;
    bool empty = q->count == 0;
    pthread_mutex_unlock(&q->lock);
    return empty;
}

void emb_budget_queue_sleep(emb_budget_queue *q, uint64_t until_ns, bool wake_for_items)
{
    struct timespec t = time_of(until_ns);
    pthread_mutex_lock(&q->lock);
    while (!q->closing && !(wake_for_items && q->count > 0))
        if (pthread_cond_timedwait(&q->work, &q->lock, &t) != 0)
            break;
    pthread_mutex_unlock(&q->lock);
}
