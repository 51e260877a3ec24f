/*
 * store.h: where comparisons are kept. Internal to shadow/.
 *
 *     emb_db *store;
 *     emb_shadow_store_open("sqlite:/var/lib/embedd/shadow.db", &store, err);    // the database may be down
 *     emb_shadow_store_put(store, rows, n, deadline_ns, err);
 *     emb_shadow_store_rows(store, EMB_SHADOW_WORST, since_s, 10, deadline_ns, visit, context, err);
 *     emb_db_close(store);
 *
 * Any thread may call anything but close. A visitor's strings live until it returns; false: it has enough.
 */
#ifndef EMB_SHADOW_STORE_H
#define EMB_SHADOW_STORE_H

#include "store/db.h"

enum { EMB_SHADOW_HASH_BYTES = 16 };

/* One text's comparison. */
typedef struct emb_shadow_row {
    unsigned char text[EMB_SHADOW_HASH_BYTES];
    const char *role, *category, *context, *legacy_provider, *legacy_model, *legacy_space,
        *candidate_provider, *candidate_model, *candidate_space;
    const char *error; /* of the candidate, or NULL */
    int64_t time_s, legacy_ns, candidate_ns, legacy_nusd, candidate_nusd, legacy_dimension,
        candidate_dimension, legacy_cached, candidate_cached;
    int64_t cosine_e9; /* in 1e-9; only where has_cosine */
    bool has_cosine;
} emb_shadow_row;

/* What statistics need of a row. */
typedef struct emb_shadow_point {
    const char *category;
    int64_t legacy_ns, candidate_ns, cosine_e9;
    bool legacy_cached, candidate_cached, has_cosine, failed;
} emb_shadow_point;

/* Exact over all rows, by category. */
typedef struct emb_shadow_total {
    const char *category;
    int64_t comparisons, failures, with_cosine, legacy_nusd, candidate_nusd, worst_e9, first_s, last_s;
} emb_shadow_total;

/* What a service tells of itself now and then, for reports from other processes. */
typedef struct emb_shadow_state {
    int64_t time_s, window;                   /* of the last measurement of the window; 0: none */
    int64_t overlap_e9[3], rank_e9[3];        /* mean, low, high */
    char pair[EMB_SHADOW_HASH_BYTES * 2 + 1]; /* a digest of both spaces, in hex */
    int64_t dropped;                          /* put_state: to be added */
} emb_shadow_state;

typedef enum emb_shadow_order {
    EMB_SHADOW_NEWEST,
    EMB_SHADOW_WORST,
    EMB_SHADOW_LAST_COMPARED
} emb_shadow_order;

typedef bool (*emb_shadow_visit_row)(void *context, const emb_shadow_row *row);
typedef bool (*emb_shadow_visit_point)(void *context, const emb_shadow_point *point);
typedef bool (*emb_shadow_visit_total)(void *context, const emb_shadow_total *total);

EMB_MUST_CHECK emb_status emb_shadow_store_open(const char *url, emb_db **out, emb_error *err);
EMB_MUST_CHECK emb_status emb_shadow_store_put(emb_db *store, const emb_shadow_row *rows, size_t count,
                                               uint64_t deadline_ns, emb_error *err);
EMB_MUST_CHECK emb_status emb_shadow_store_rows(emb_db *store, emb_shadow_order order, int64_t since_s,
                                                size_t limit, uint64_t deadline_ns,
                                                emb_shadow_visit_row visit, void *context, emb_error *err);
/* The newest. */
EMB_MUST_CHECK emb_status emb_shadow_store_points(emb_db *store, int64_t since_s, size_t limit,
                                                  uint64_t deadline_ns, emb_shadow_visit_point visit,
                                                  void *context, emb_error *err);
/* First all rows as one, its category NULL; then the categories with most rows. */
EMB_MUST_CHECK emb_status emb_shadow_store_totals(emb_db *store, int64_t since_s, size_t limit,
                                                  uint64_t deadline_ns, emb_shadow_visit_total visit,
                                                  void *context, emb_error *err);
EMB_MUST_CHECK emb_status emb_shadow_store_get_state(emb_db *store, uint64_t deadline_ns,
                                                     emb_shadow_state *out, emb_error *err);
EMB_MUST_CHECK emb_status emb_shadow_store_put_state(emb_db *store, const emb_shadow_state *state,
                                                     uint64_t deadline_ns, emb_error *err);

enum { EMB_SHADOW_PIECE = 512 };

/* Removes at most EMB_SHADOW_PIECE rows that are older than before_s or beyond the newest `keep`. */
EMB_MUST_CHECK emb_status emb_shadow_store_trim(emb_db *store, int64_t before_s, int64_t keep,
                                                uint64_t deadline_ns, size_t *removed, emb_error *err);
EMB_MUST_CHECK emb_status emb_shadow_store_clear(emb_db *store, uint64_t deadline_ns, emb_error *err);

#endif
