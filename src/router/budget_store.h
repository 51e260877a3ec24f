/*
 * budget_store.h: where a budget's totals and reservations are kept: one implementation for each database.
 * Internal to router/.
 *
 * A store knows totals (spent and reserved, by day and scope) and tickets (reservations, by id). Each call is
 * one atomic step and may be repeated after an answer was lost:
 *
 *     reserve     all scopes or none; a ticket that is there already is a success, one that was settled before is not made
 *     settle      a ticket counts once: reserved becomes spent; one that was given up adds what it really cost
 *     expire      gives up reservations whose time is over
 *
 * Amounts are at most EMB_BUDGET_NUSD_MAX each. Thread-safe.
 */
#ifndef EMB_ROUTER_BUDGET_STORE_H
#define EMB_ROUTER_BUDGET_STORE_H

#include "router/budget.h"

#define EMB_BUDGET_NUSD_MAX \
    UINT64_C(1000000000000000) /* a million dollars; exact in a double, which Lua counts with */

enum {
    EMB_BUDGET_SETTLE_BATCH = 64,
    EMB_BUDGET_GONE_S = 2 * 86400, /* how long a ticket that was given up is remembered */
    EMB_BUDGET_KEPT_DAYS = 7,      /* totals of earlier days */
    EMB_BUDGET_EXPIRE_BATCH = 200
};

typedef struct emb_budget_store emb_budget_store;

/* A scope of a reservation. `limit` under 0: none. */
typedef struct emb_budget_want {
    const char *name;
    int64_t limit;
    emb_budget_use use; /* out: with this reservation; or as it is where it was refused */
} emb_budget_want;

typedef struct emb_budget_order {
    uint8_t id[16];
    int32_t day;
    uint64_t nusd;
    emb_budget_want *wants;
    size_t count;
    bool granted;    /* out */
    size_t refusing; /* out: the index of the scope whose limit refused */
} emb_budget_order;

typedef enum emb_budget_sureness {
    EMB_BUDGET_SURE,    /* the reservation was made */
    EMB_BUDGET_UNSURE,  /* nobody knows: if it was not, it must not be made any more */
    EMB_BUDGET_REPEATED /* it was, and must not be made again by an order still on its way (remote stores) */
} emb_budget_sureness;

typedef struct emb_budget_settlement {
    uint8_t id[16];
    int32_t day;
    uint64_t actual_nusd;
    emb_budget_sureness sureness;
    uint32_t count, length;
    const char *names; /* `count` of them, each ends with NUL; `length` bytes in all */
} emb_budget_settlement;

typedef void (*emb_budget_seen)(void *context, const char *scope, const emb_budget_use *use);

typedef struct emb_budget_store_ops {
    bool is_remote; /* a failed step may have been done all the same */
    emb_status (*reserve)(emb_budget_store *store, emb_budget_order *order, uint64_t deadline_ns,
                          emb_error *err);
    emb_status (*settle)(emb_budget_store *store, const emb_budget_settlement *list, size_t count,
                         uint64_t deadline_ns, emb_error *err);
    /* *count: how many were given up; at most a batch. */
    emb_status (*expire)(emb_budget_store *store, uint64_t *count, uint64_t deadline_ns, emb_error *err);
    /* All scopes of a day. */
    emb_status (*read)(emb_budget_store *store, int32_t day, emb_budget_seen seen, void *context,
                       uint64_t deadline_ns, emb_error *err);
    /* Drops what is of no use any more. */
    emb_status (*tidy)(emb_budget_store *store, int32_t before_day, uint64_t deadline_ns, emb_error *err);
    void (*close)(emb_budget_store *store);
} emb_budget_store_ops;

struct emb_budget_store {
    const emb_budget_store_ops *ops;
};

typedef struct emb_budget_store_options {
    uint32_t reservation_s;
    bool expired_are_spent;
    int64_t (*now_s)(void); /* of stores without a clock of their own; NULL: the clock */
} emb_budget_store_options;

/* Milliseconds since 1970. */
int64_t emb_budget_now_ms(const emb_budget_store_options *options);

EMB_MUST_CHECK emb_status emb_budget_memory_open(const char *url, const emb_budget_store_options *options,
                                                 emb_budget_store **out, emb_error *err);
EMB_MUST_CHECK emb_status emb_budget_sqlite_open(const char *url, const emb_budget_store_options *options,
                                                 emb_budget_store **out, emb_error *err);
EMB_MUST_CHECK emb_status emb_budget_redis_open(const char *url, const emb_budget_store_options *options,
                                                emb_budget_store **out, emb_error *err);
EMB_MUST_CHECK emb_status emb_budget_postgresql_open(const char *url, const emb_budget_store_options *options,
                                                     emb_budget_store **out, emb_error *err);
/* By the URL's scheme. */
EMB_MUST_CHECK emb_status emb_budget_store_open(const char *url, const emb_budget_store_options *options,
                                                emb_budget_store **out, emb_error *err);

#endif
