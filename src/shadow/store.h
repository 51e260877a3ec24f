/*
 * store.h: where comparisons are kept. Internal to shadow/.
 *
 *     emb_shadow_store *store;
 *     emb_shadow_store_open("sqlite:/var/lib/embedd/shadow.db", &store, err);    // the database may be down
 *     store->ops->put(store, rows, n, deadline_ns, err);
 *     store->ops->rows(store, EMB_SHADOW_WORST, since_s, 10, deadline_ns, visit, context, err);
 *     store->ops->close(store);
 *
 * Any thread may call anything but close. A visitor's strings live until it returns; false: it has enough.
 */
#ifndef EMB_SHADOW_STORE_H
#define EMB_SHADOW_STORE_H

#include <embedd.h>

enum { EMB_SHADOW_HASH_BYTES = 16 };

/* Text columns, then the numbers, in the order of the tables and of the SELECTs. */
#define EMB_SHADOW_TEXTS                                                                         \
    "role, category, context, legacy_provider, legacy_model, legacy_space, candidate_provider, " \
    "candidate_model, candidate_space, error"
#define EMB_SHADOW_NUMBERS                                                             \
    "time_s, legacy_ns, candidate_ns, legacy_nusd, candidate_nusd, legacy_dimension, " \
    "candidate_dimension, legacy_cached, candidate_cached, cosine_e9"
enum { EMB_SHADOW_TEXT_COLUMNS = 10, EMB_SHADOW_NUMBER_COLUMNS = 10 };

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

typedef struct emb_shadow_store emb_shadow_store;
typedef struct emb_shadow_store_ops {
    emb_status (*put)(emb_shadow_store *s, const emb_shadow_row *rows, size_t count, uint64_t deadline_ns,
                      emb_error *err);
    emb_status (*rows)(emb_shadow_store *s, emb_shadow_order order, int64_t since_s, size_t limit,
                       uint64_t deadline_ns, emb_shadow_visit_row visit, void *context, emb_error *err);
    /* The newest. */
    emb_status (*points)(emb_shadow_store *s, int64_t since_s, size_t limit, uint64_t deadline_ns,
                         emb_shadow_visit_point visit, void *context, emb_error *err);
    /* First all rows as one, its category NULL; then the categories with most rows. */
    emb_status (*totals)(emb_shadow_store *s, int64_t since_s, size_t limit, uint64_t deadline_ns,
                         emb_shadow_visit_total visit, void *context, emb_error *err);
    emb_status (*get_state)(emb_shadow_store *s, uint64_t deadline_ns, emb_shadow_state *out, emb_error *err);
    emb_status (*put_state)(emb_shadow_store *s, const emb_shadow_state *state, uint64_t deadline_ns,
                            emb_error *err);
    /* Removes at most EMB_SHADOW_PIECE rows that are older than before_s or beyond the newest `keep`. */
    emb_status (*trim)(emb_shadow_store *s, int64_t before_s, int64_t keep, uint64_t deadline_ns,
                       size_t *removed, emb_error *err);
    emb_status (*clear)(emb_shadow_store *s, uint64_t deadline_ns, emb_error *err);
    void (*close)(emb_shadow_store *s);
} emb_shadow_store_ops;

enum { EMB_SHADOW_PIECE = 512 };

struct emb_shadow_store {
    const emb_shadow_store_ops *ops;
};

EMB_MUST_CHECK emb_status emb_shadow_store_open(const char *url, emb_shadow_store **out, emb_error *err);
/* store_sqlite.c, store_postgresql.c */
EMB_MUST_CHECK emb_status emb_shadow_store_open_sqlite(const char *path, emb_shadow_store **out,
                                                       emb_error *err);
EMB_MUST_CHECK emb_status emb_shadow_store_open_postgresql(const char *url, emb_shadow_store **out,
                                                           emb_error *err);

/* ---- rows as columns: store.c ---- */

const char *emb_shadow_row_text(const emb_shadow_row *row, int column);
int64_t emb_shadow_row_number(const emb_shadow_row *row, int column);
void emb_shadow_row_set(emb_shadow_row *row, const unsigned char *hash, size_t hash_length,
                        const char *const texts[EMB_SHADOW_TEXT_COLUMNS],
                        const int64_t numbers[EMB_SHADOW_NUMBER_COLUMNS], bool has_cosine);

/* The 9 numbers of a state: time_s, window, overlap, rank, dropped. */
enum { EMB_SHADOW_STATE_NUMBERS = 9 };
#define EMB_SHADOW_STATE_COLUMNS                                                                         \
    "time_s, samples, overlap_e9, overlap_low_e9, overlap_high_e9, rank_e9, rank_low_e9, rank_high_e9, " \
    "dropped"
void emb_shadow_state_numbers(const emb_shadow_state *state, int64_t out[EMB_SHADOW_STATE_NUMBERS]);
void emb_shadow_state_set(emb_shadow_state *state, const int64_t numbers[EMB_SHADOW_STATE_NUMBERS],
                          const char *pair);

#endif
