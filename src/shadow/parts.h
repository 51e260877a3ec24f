/*
 * parts.h: the inside of a shadow. Internal to shadow/.
 *
 * shadow.c has the queue and its thread, compare.c makes rows of a finished job, report.c reads the store.
 * What stands under "of the thread" is touched by no other.
 */
#ifndef EMB_SHADOW_PARTS_H
#define EMB_SHADOW_PARTS_H

#include "shadow/shadow.h"
#include "shadow/store.h"
#include "shadow/window.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

typedef struct emb_shadow_job emb_shadow_job;

/* Rows that were compared and not yet written; their strings are in the arena. */
typedef struct emb_shadow_batch {
    emb_shadow_row *rows;
    size_t count, capacity;
    emb_arena strings;
    uint64_t since_ns, jobs;
} emb_shadow_batch;

typedef struct emb_shadow_counters {
    emb_series *compared, *failed, *dropped, *unstored, *similarity;
} emb_shadow_counters;

struct emb_shadow {
    emb_shadow_options options;
    emb_db *store;
    emb_shadow_window *window;
    emb_shadow_counters series;
    volatile int cancel;              /* by __atomic operations */
    _Atomic(emb_shadow_job *) newest; /* of those that wait, each pointing to the one before it */
    atomic_size_t waiting, waiting_bytes;
    atomic_uint_fast64_t accepted;          /* jobs */
    atomic_uint_fast64_t dropped, unstored; /* comparisons */
    atomic_uint_fast64_t dropped_told;      /* of these, those that the store knows of */
    sem_t work;
    pthread_mutex_t lock; /* of `finished` alone */
    pthread_cond_t moved;
    uint64_t finished; /* jobs whose rows were written, or given up */
    pthread_t thread;
    bool has_thread;
    /* of the thread */
    emb_shadow_batch batch;
    uint64_t compared, measured, measure_ns, trim_ns, store_ns; /* not before these times */
    bool failing;
};

static inline int64_t emb_shadow_now_s(const emb_shadow *s)
{
    return s->options.now_s();
}

/* compare.c: adds a row for each text of the job. `candidate` is what `run` gave, with its status. */
void emb_shadow_compare(emb_shadow *shadow, const emb_shadow_pair *pair, const emb_shadow_side *candidate,
                        emb_status status);
/* Cosine of two vectors; false where one is not finite or zero. */
bool emb_shadow_cosine(const float *a, const float *b, size_t dimension, double *out);
/* The digest of a pair of spaces, in hex. */
EMB_MUST_CHECK bool emb_shadow_pair_name(const char *legacy_space, const char *candidate_space,
                                         char out[EMB_SHADOW_HASH_BYTES * 2 + 1]);

#endif
