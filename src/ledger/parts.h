/*
 * parts.h: what the files of the ledger share: rows, tables of rows, stores. Internal.
 *
 *     emb_ledger_table t;
 *     if (!emb_ledger_table_init(&t, 128)) …;
 *     emb_ledger_row *row = emb_ledger_row_make(&id, emb_ledger_id_hash(&id, seed));
 *     emb_ledger_table_put(&t, row);          // takes the row: linked, or added to its like and freed
 *     while ((row = emb_ledger_table_pop(&t))) free(row);
 *     emb_ledger_table_fini(&t);
 *
 * A row is one allocation with the links of its table in it, so that moving it from one table to another
 * needs no memory and cannot fail. Tables are not thread-safe; a store is.
 */
#ifndef EMB_LEDGER_PARTS_H
#define EMB_LEDGER_PARTS_H

#include "base/zone.h"
#include "ledger/ledger.h"

/* ---- row.c ---- */

enum {
    EMB_LEDGER_PROVIDER,
    EMB_LEDGER_MODEL,
    EMB_LEDGER_KEY,
    EMB_LEDGER_CATEGORY,
    EMB_LEDGER_CONTEXT,
    EMB_LEDGER_NAMES
};
enum { EMB_LEDGER_NAME_BYTES = 128, EMB_LEDGER_KINDS = 4 };
#define EMB_LEDGER_OTHER "other"              /* stands for the names that were too many */
#define EMB_LEDGER_MOST ((uint64_t)INT64_MAX) /* where sums saturate: what the databases' integers hold */

typedef struct emb_ledger_amounts {
    uint64_t calls, texts, tokens, nusd, saved_nusd;
} emb_ledger_amounts;

uint64_t emb_ledger_sum_of(uint64_t a, uint64_t b); /* at most EMB_LEDGER_MOST */
void emb_ledger_amounts_add(emb_ledger_amounts *to, const emb_ledger_amounts *more);

/* What makes two entries one row. Names are borrowed, not NUL-terminated. */
typedef struct emb_ledger_id {
    int64_t minute_s; /* Unix time of its start */
    emb_ledger_kind kind;
    const char *names[EMB_LEDGER_NAMES];
    uint8_t lengths[EMB_LEDGER_NAMES];
} emb_ledger_id;

typedef struct emb_ledger_row emb_ledger_row;
struct emb_ledger_row {
    emb_ledger_row *next, *sibling; /* in its bucket; in its table */
    uint64_t hash;
    int64_t minute_s;
    emb_ledger_amounts amounts;
    uint8_t kind, lengths[EMB_LEDGER_NAMES];
    char names[]; /* each with a NUL; room for EMB_LEDGER_OTHER in place of any */
};

uint64_t emb_ledger_id_hash(const emb_ledger_id *id, uint64_t seed);
emb_ledger_row *emb_ledger_row_make(const emb_ledger_id *id, uint64_t hash); /* NULL when memory is short */
void emb_ledger_row_id(const emb_ledger_row *row, emb_ledger_id *out);
const char *emb_ledger_row_name(const emb_ledger_row *row, int name); /* NUL-terminated */
/* In place; of a row in no table. The hash is the caller's to renew. */
void emb_ledger_row_rename_other(emb_ledger_row *row, int name);
void emb_ledger_row_repair(emb_ledger_row *row,
                           bool ascii); /* bytes that are no UTF-8 (or no ASCII) become '?' */

typedef struct emb_ledger_table {
    emb_ledger_row **buckets, *rows;
    size_t mask, count;
} emb_ledger_table;

EMB_MUST_CHECK bool emb_ledger_table_init(emb_ledger_table *table, size_t buckets); /* a power of two */
void emb_ledger_table_fini(emb_ledger_table *table);
emb_ledger_row *emb_ledger_table_find(const emb_ledger_table *table, const emb_ledger_id *id, uint64_t hash);
void emb_ledger_table_link(emb_ledger_table *table, emb_ledger_row *row); /* one that is not in it */
/* false: it was added to its like and freed. */
bool emb_ledger_table_put(emb_ledger_table *table, emb_ledger_row *row);
emb_ledger_row *emb_ledger_table_pop(emb_ledger_table *table); /* NULL when empty */

/* ---- names.c ---- */

/* How many distinct names there may be; remembers the hash of each. */
typedef struct emb_ledger_names {
    uint64_t *hashes; /* 0: an empty slot */
    size_t count;
} emb_ledger_names;

enum { EMB_LEDGER_DISTINCT = 10000 };

void emb_ledger_names_fini(emb_ledger_names *names);
void emb_ledger_names_clear(emb_ledger_names *names);
/* Whether this name is one of the first EMB_LEDGER_DISTINCT; "" and "other" always are. */
bool emb_ledger_names_admit(emb_ledger_names *names, const char *name, size_t length, uint64_t seed);

/* ---- stores: store.c, store_sqlite.c, store_postgresql.c ---- */

/* Writers number their batches; a store takes each number once, so that a batch whose commit was not answered
 * can be given again. */
typedef struct emb_ledger_batch {
    unsigned char writer[16]; /* random, of this process's ledger */
    int64_t sequence, now_s;
    emb_ledger_row *const *rows; /* no two alike */
    size_t count;
} emb_ledger_batch;

typedef struct emb_ledger_scan {
    int64_t from_s, to_s; /* the second excluded */
    bool by_day;          /* groups by (minute + offset_s) / 86400, otherwise all is day 0 */
    int64_t offset_s;
    emb_ledger_by by[2]; /* those of time are as EMB_BY_TOTAL */
    const char *provider, *model, *key, *category;
    bool with_shadow, only_api;
} emb_ledger_scan;

/* Some groups may come in several parts. */

typedef struct emb_ledger_group {
    int64_t day;
    emb_ledger_kind kind;
    const char *name[2];
    emb_ledger_amounts amounts;
} emb_ledger_group;
typedef emb_status (*emb_ledger_visit)(void *context, const emb_ledger_group *group, emb_error *err);

/* Rows of a time go to fewer. */
typedef struct emb_ledger_move {
    int64_t from_s, to_s; /* the second excluded */
    int64_t step_s;       /* each to the multiple of it before; 0: all to one_s, which is in this time */
    int64_t one_s;
    size_t most; /* in one transaction; of the last minute all go */
} emb_ledger_move;

typedef struct emb_ledger_store emb_ledger_store;
typedef struct emb_ledger_store_ops {
    emb_status (*write)(emb_ledger_store *store, const emb_ledger_batch *batch, uint64_t deadline_ns,
                        emb_error *err);
    emb_status (*scan)(emb_ledger_store *store, const emb_ledger_scan *scan, emb_ledger_visit visit,
                       void *context, uint64_t deadline_ns, emb_error *err);
    /* *any: whether there are rows; the first and the last minute. */
    emb_status (*range)(emb_ledger_store *store, bool *any, int64_t *first_s, int64_t *last_s,
                        uint64_t deadline_ns, emb_error *err);
    void (*close)(emb_ledger_store *store);
    /* One transaction. *moved: how many rows; 0: none is out of place. EMB_E_BUSY: another process is at
     * it. */
    emb_status (*compact)(emb_ledger_store *store, const emb_ledger_move *move, size_t *moved,
                          uint64_t deadline_ns, emb_error *err);
} emb_ledger_store_ops;
struct emb_ledger_store {
    const emb_ledger_store_ops *ops;
};

/* read_only: EMB_E_NOT_FOUND where nothing was written yet. */
EMB_MUST_CHECK emb_status emb_ledger_store_open(const char *url, bool read_only, emb_ledger_store **out,
                                                emb_error *err);
EMB_MUST_CHECK emb_status emb_ledger_sqlite_open(const char *url, bool read_only, emb_ledger_store **out,
                                                 emb_error *err);
EMB_MUST_CHECK emb_status emb_ledger_postgresql_open(const char *url, bool read_only, emb_ledger_store **out,
                                                     emb_error *err);
bool emb_ledger_kind_parse(const char *name, emb_ledger_kind *out);

/* ---- writer.c ---- */

typedef struct emb_ledger_writer emb_ledger_writer;

/* Hands over the rows that callers have made since. */
typedef void (*emb_ledger_gather)(void *context, void (*take)(void *writer, emb_ledger_row *row),
                                  void *writer);

typedef struct emb_ledger_writer_options {
    emb_ledger_store *store;
    const emb_zone *zone;
    emb_metrics *metrics;
    int64_t (*now_s)(void);
    emb_ledger_gather gather;
    void *context;
    uint64_t seed;
    const unsigned char *id; /* 16 bytes */
} emb_ledger_writer_options;

EMB_MUST_CHECK emb_status emb_ledger_writer_open(const emb_ledger_writer_options *options,
                                                 emb_ledger_writer **out, emb_error *err);
void emb_ledger_writer_close(emb_ledger_writer *writer); /* writes the rest; takes NULL */
/* After something was added. Cheap if it was told before. */
void emb_ledger_writer_tell(emb_ledger_writer *writer, bool paid);
bool emb_ledger_writer_flush(emb_ledger_writer *writer, uint64_t deadline_ns);
bool emb_ledger_writer_is_up(emb_ledger_writer *writer);
/* Of kind "api", written or not; see emb_ledger_month_nusd. */
void emb_ledger_writer_spent(emb_ledger_writer *writer, uint64_t nusd);
uint64_t emb_ledger_writer_month_nusd(emb_ledger_writer *writer);
/* How many rows may wait in memory before they are merged; for tests. */
void emb_ledger_writer_set_rows(emb_ledger_writer *writer, size_t rows);

/* ---- compact.c ---- */

typedef struct emb_ledger_compactor emb_ledger_compactor;
typedef struct emb_ledger_compact_options {
    emb_ledger_store *store;
    const emb_zone *zone;
    emb_metrics *metrics; /* or NULL */
    int64_t (*now_s)(void);
    unsigned minutes_days, quarters_days; /* as in emb_ledger_options */
    bool thread;                          /* it works by itself … */
    uint64_t begin_ns;                    /* … so long after it was opened; 0: a minute */
    size_t chunk;                         /* rows of a transaction; 0: the usual number */
} emb_ledger_compact_options;

EMB_MUST_CHECK emb_status emb_ledger_compactor_open(const emb_ledger_compact_options *options,
                                                    emb_ledger_compactor **out, emb_error *err);
void emb_ledger_compactor_close(emb_ledger_compactor *compactor); /* takes NULL */
/* One transaction at most; of one without a thread. */
EMB_MUST_CHECK emb_status emb_ledger_compact_step(emb_ledger_compactor *compactor, size_t *moved, bool *done,
                                                  emb_error *err);

/* ---- ledger.c ---- */

struct emb_ledger {
    emb_ledger_store *store;
    emb_ledger_writer *writer;       /* NULL: read-only */
    emb_ledger_compactor *compactor; /* or NULL */
    emb_zone *zone;
    int64_t (*now_s)(void);
    uint64_t seed, read_only_month_nusd;
    struct emb_ledger_shard *shards;
    emb_ledger_table empty; /* the writer exchanges it for a full one */
};

/* ---- spans.c ---- */

typedef emb_status (*emb_ledger_span)(void *context, int64_t from_s, int64_t to_s, int64_t offset_s,
                                      emb_error *err);
/* Cuts a time into parts within which the zone's offset is the same. */
EMB_MUST_CHECK emb_status emb_ledger_spans(const emb_zone *zone, int64_t from_s, int64_t to_s,
                                           emb_ledger_span each, void *context, emb_error *err);

/* The month a day is in: its first day, the first of the next. */
void emb_ledger_month_of(int32_t day, int32_t *first, int32_t *next);
/* "2026-11-27", "2026-W48", "2026-11". */
void emb_ledger_day_name(emb_ledger_by by, int32_t day, char out[EMB_DAY_TEXT]);
/* Spend of kind "api" between two days, the second excluded; `by_day` may be NULL, else room for each. */
EMB_MUST_CHECK emb_status emb_ledger_spend(emb_ledger_store *store, const emb_zone *zone, int32_t from,
                                           int32_t to, uint64_t *by_day, uint64_t *total,
                                           uint64_t deadline_ns, emb_error *err);

#endif
