/*
 * budget_queue.h: settlements on their way to the store. Internal to router/.
 *
 *     item = emb_budget_item_make(&ticket, actual_nusd, EMB_BUDGET_SURE);
 *     emb_budget_queue_add(q, item);                           // any thread; memory only
 *     count = emb_budget_queue_take(q, list);                  // the writer's: the oldest, which stay in the queue
 *     emb_budget_queue_done(q, count);                         // or not: then they are taken again
 */
#ifndef EMB_ROUTER_BUDGET_QUEUE_H
#define EMB_ROUTER_BUDGET_QUEUE_H

#include "router/budget_store.h"

#include <pthread.h>

typedef struct emb_budget_item emb_budget_item;
struct emb_budget_item {
    emb_budget_item *next;
    emb_budget_settlement settlement;
    uint64_t reserved_nusd;
    char names[];
};

typedef struct emb_budget_queue {
    pthread_mutex_t lock;
    pthread_cond_t work,
        idle; /* for the writer; for those who wait until all is written. On the monotonic clock */
    emb_budget_item *oldest, *newest;
    size_t count;
    bool closing;
} emb_budget_queue;

void emb_budget_queue_init(emb_budget_queue *queue);
void emb_budget_queue_fini(emb_budget_queue *queue); /* drops what is left */
/* NULL when memory is short. */
emb_budget_item *emb_budget_item_make(const emb_budget_ticket *ticket, uint64_t actual_nusd,
                                      emb_budget_sureness sureness);
/* Takes the item; false: there is no room for one that is unsure, which is dropped. */
bool emb_budget_queue_add(emb_budget_queue *queue, emb_budget_item *item);
/* Looks at the oldest, at most a batch; they stay. */
size_t emb_budget_queue_peek(emb_budget_queue *queue, const emb_budget_item *out[EMB_BUDGET_SETTLE_BATCH]);
void emb_budget_queue_done(emb_budget_queue *queue, size_t count);
bool emb_budget_queue_wait_empty(emb_budget_queue *queue, uint64_t deadline_ns);
/* Sleeps until there is something new, or the time has come. */
void emb_budget_queue_sleep(emb_budget_queue *queue, uint64_t until_ns, bool wake_for_items);

#endif
