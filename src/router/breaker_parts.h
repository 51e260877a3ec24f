/*
 * breaker_parts.h: what breaker.c (calls) and breaker_sync.c (the store) share. Internal to router/.
 *
 * Locks: `lock` of a breaker guards its machine and what waits to be told; `lock` of all guards the lists.
 * Neither is held during I/O or while `changed` is called, and never one inside the other.
 */
#ifndef EMB_ROUTER_BREAKER_PARTS_H
#define EMB_ROUTER_BREAKER_PARTS_H

#include "router/breaker_machine.h"

#include <pthread.h>
#include <stdatomic.h>

/* A record of the store, kept. */
typedef struct emb_breaker_copy emb_breaker_copy;
struct emb_breaker_copy {
    emb_breaker_copy *next;
    uint64_t version, read_ns; /* on the machine's clock, whatever the callers' is */
    bool is_open;
    int64_t left_ms;
    unsigned openings;
    char name[EMB_BREAKER_NAME], reason[EMB_BREAKER_REASON];
};

struct emb_breaker {
    emb_breaker *next;
    emb_breakers *all;
    pthread_mutex_t lock;
    emb_breaker_machine machine;
    bool asking;                /* one call asks the store for the probe */
    uint64_t ask_ns;            /* another process probes: not asked again before */
    uint64_t version;           /* of the record as it is known here */
    bool dirty, force, release; /* to be written; by an operator; the probe is given back */
    uint64_t edition;           /* of what is to be written: changes while it is being written */
    bool was_seen;              /* in the store, in this exchange */
    emb_breaker_copy *pending;  /* of the time before there was this breaker */
    emb_series *series_state, *series_changes[3];
    char name[EMB_BREAKER_NAME];
};

struct emb_breakers {
    emb_breaker_store *store; /* NULL: none */
    uint32_t command_ms, probe_s;
    void (*changed)(void *context, const char *name, emb_breaker_state state, const char *reason);
    void *context;
    emb_metrics *metrics;
    emb_series *series_up;
    uint8_t prober[EMB_BREAKER_PROBER];
    atomic_bool up;
    atomic_uint_fast64_t failures; /* exchanges that failed */
    pthread_mutex_t lock, syncing;
    pthread_cond_t wake;
    _Atomic(emb_breaker *) first;
    emb_breaker_copy *copies; /* of names that nobody has asked for */
    pthread_t thread;
    bool has_thread, closing, wanted;
};

/* A change to be told when the lock is released. */
typedef struct emb_breaker_news {
    bool any;
    emb_breaker_state state;
    char reason[EMB_BREAKER_REASON];
} emb_breaker_news;

/* Notes the state that the machine has now; with the breaker's lock. */
void emb_breaker_note(emb_breaker *breaker, emb_breaker_news *news, const char *reason);
void emb_breaker_tell(emb_breaker *breaker, const emb_breaker_news *news);
/* A record of another process comes in; with the breaker's lock. */
void emb_breaker_adopt(emb_breaker *breaker, const emb_breaker_record *record, uint64_t now_ns,
                       emb_breaker_news *news);
void emb_breaker_adopt_pending(emb_breaker *breaker, uint64_t now_ns, emb_breaker_news *news);
emb_breaker *emb_breaker_find(emb_breakers *all, const char *name);

void emb_breakers_note(emb_breakers *all, emb_status status, const emb_error *why);
void emb_breakers_wake(emb_breakers *all);
/* Reads the store alone, to begin with. */
emb_status emb_breakers_meet(emb_breakers *all, uint64_t deadline_ns, emb_error *err);
EMB_MUST_CHECK emb_status emb_breakers_start(emb_breakers *all, emb_error *err);
void emb_breakers_stop(emb_breakers *all);

#endif
