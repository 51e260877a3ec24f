/*
 * pool.h: connections to one server, made on demand, used again, never waited for beyond a deadline.
 *
 *     static const emb_pool_kind KIND = { dial, alive, hang_up, free_context };
 *     emb_pool *pool;
 *     emb_pool_open(&KIND, context, &(emb_pool_options){ .maximum = 8, .connect_ms = 1000 }, &pool, err);
 *     void *link;
 *     if ((st = emb_pool_acquire(pool, deadline_ns, &link, NULL, err))) return st;
 *     st = use(link);
 *     emb_pool_release(pool, link, st != EMB_OK);   // true: hang up, do not use it again
 *
 * The pool takes the context: `free_context` gets it when the last thread is through with it. `dial` runs on
 * a thread of its own, so that neither name resolution nor a slow handshake holds a caller; it should give up
 * at its deadline or when *stop is set. `alive` and `hang_up` must not wait. Thread-safe; at emb_pool_close
 * everything must be released.
 */
#ifndef EMB_STORE_POOL_H
#define EMB_STORE_POOL_H

#include <embedd.h>
#include <stdatomic.h>

typedef struct emb_pool emb_pool;

typedef struct emb_pool_kind {
    emb_status (*dial)(void *context, uint64_t deadline_ns, const atomic_bool *stop, void **out,
                       emb_error *err);
    bool (*alive)(void *link);
    void (*hang_up)(void *link);
    void (*free_context)(void *context);
} emb_pool_kind;

typedef struct emb_pool_options {
    const char *where;   /* for messages, "Redis at localhost:6379"; copied */
    unsigned maximum;    /* connections, 1 to EMB_POOL_MAXIMUM */
    uint32_t connect_ms; /* for one attempt */
    uint32_t idle_ms;    /* one that was not used for so long is closed; 0: never */
} emb_pool_options;

enum { EMB_POOL_MAXIMUM = 64 };

/* On failure the context is still the caller's. */
EMB_MUST_CHECK emb_status emb_pool_open(const emb_pool_kind *kind, void *context,
                                        const emb_pool_options *options, emb_pool **out, emb_error *err);
void emb_pool_close(emb_pool *pool); /* takes NULL */
/* EMB_E_DEADLINE if there was none in time, or why the server cannot be reached. *reused (may be NULL): it
 * has been used before, so that the server may have gone since. */
EMB_MUST_CHECK emb_status emb_pool_acquire(emb_pool *pool, uint64_t deadline_ns, void **out, bool *reused,
                                           emb_error *err);
void emb_pool_release(emb_pool *pool, void *link, bool broken);
/* Hangs up every idle connection: the server has gone. */
void emb_pool_renew(emb_pool *pool);
/* Closes what has been idle for too long; releasing does so, too. */
void emb_pool_tidy(emb_pool *pool);

#endif
