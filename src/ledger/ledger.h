/*
 * ledger.h: what was embedded, where, for whom and what it cost: rows in SQLite or PostgreSQL, reports from
 * them.
 *
 *     emb_ledger *l;
 *     emb_ledger_open("sqlite:/var/lib/embedd/ledger.db", &options, &l, err);
 *     emb_ledger_entry e = { .kind = EMB_LEDGER_API, .provider = "openai", .model = "text-embedding-3-small", .key = "search",
 *                            .category = "faq", .context = "default", .calls = 1, .texts = 3, .tokens = 42, .nusd = 840 };
 *     emb_ledger_add(l, &e);                       // memory only; tens of nanoseconds; never blocks on the store
 *     emb_ledger_report(l, &query, arena, &report, err);
 *
 * Rows are per minute and (kind, provider, model, key, category, context), so a cached hit costs an addition.
 * One thread writes all that has gathered in one transaction: within 100 ms of a paid call, about a second
 * for free ones. A store that cannot be written is told once in the log and asked again; rows wait in memory,
 * up to a bound, then minutes are merged. In the store old rows are merged, too, so that it stays small
 * (compact.c). emb_ledger_close writes the rest. Names over 128 bytes are cut; at most 10,000 distinct
 * categories and keys a day, further ones read "other". Money is nano-dollars; sums cannot overflow
 * (saturate). Thread-safe.
 */
#ifndef EMB_LEDGER_LEDGER_H
#define EMB_LEDGER_LEDGER_H

#include "base/arena.h"
#include "metrics/metrics.h"

typedef struct emb_ledger emb_ledger;

typedef enum emb_ledger_kind {
    EMB_LEDGER_API,
    EMB_LEDGER_CACHE,
    EMB_LEDGER_LOCAL,
    EMB_LEDGER_SHADOW
} emb_ledger_kind;
const char *emb_ledger_kind_name(emb_ledger_kind kind); /* "api", "cache", "local", "shadow" */

typedef struct emb_ledger_entry {
    emb_ledger_kind kind;
    const char *provider, *model, *key, *category, *context; /* NULL reads "" */
    uint64_t calls, texts, tokens;
    uint64_t nusd;       /* spent */
    uint64_t saved_nusd; /* what the same would have cost at the API */
} emb_ledger_entry;

typedef struct emb_ledger_options {
    const char *timezone;   /* of days, weeks and months; "UTC" */
    emb_metrics *metrics;   /* or NULL */
    int64_t (*now_s)(void); /* NULL: the clock */
    bool read_only;         /* reports alone: no thread, the store is not made */
    /* For how many days rows are kept by the minute, then by the quarter of an hour, then by the day; 0: for
     * ever. No report changes by it. */
    unsigned minutes_days, quarters_days;
} emb_ledger_options;

/* A store that cannot be reached yet is no error unless read_only. */
EMB_MUST_CHECK emb_status emb_ledger_open(const char *url, const emb_ledger_options *options,
                                          emb_ledger **out, emb_error *err);
void emb_ledger_close(emb_ledger *ledger);
void emb_ledger_add(emb_ledger *ledger, const emb_ledger_entry *entry); /* ledger may be NULL */
bool emb_ledger_flush(emb_ledger *ledger, uint64_t deadline_ns);
bool emb_ledger_is_up(const emb_ledger *ledger);

/* ---- reports ---- */

typedef enum emb_ledger_by {
    EMB_BY_TOTAL,
    EMB_BY_DAY,
    EMB_BY_WEEK,
    EMB_BY_MONTH,
    EMB_BY_CATEGORY,
    EMB_BY_MODEL,
    EMB_BY_PROVIDER,
    EMB_BY_KEY,
    EMB_BY_CONTEXT,
    EMB_BY_KIND
} emb_ledger_by;
/* In the order of the enum, '|' between. Weeks are ISO weeks, "2026-W48". */
#define EMB_LEDGER_BY_NAMES "total|day|week|month|category|model|provider|key|context|kind"
bool emb_ledger_by_parse(const char *name, emb_ledger_by *out);

typedef struct emb_ledger_query {
    const char *from,
        *to; /* "2026-11-01" or "today", both included, in the zone; NULL: from the first; to today */
    emb_ledger_by by[2];                           /* the second EMB_BY_TOTAL: one dimension */
    const char *provider, *model, *key, *category; /* filters; NULL: any */
    bool with_shadow;                              /* the candidate's costs are apart otherwise */
} emb_ledger_query;

typedef struct emb_ledger_sum {
    const char *name[2]; /* "2026-11-27", "openai" */
    uint64_t calls, texts, cached_texts, local_texts, tokens, nusd, saved_cache_nusd, saved_local_nusd;
} emb_ledger_sum;

typedef struct emb_ledger_report {
    char from[11], to[11];
    emb_ledger_sum total;
    emb_ledger_sum *rows; /* ordered by name for times, by cost descending otherwise */
    size_t count;
} emb_ledger_report;

/* EMB_E_INVALID names "from", "to" or "by". Reads the store, after what this process has in memory was
 * written. */
EMB_MUST_CHECK emb_status emb_ledger_make_report(emb_ledger *ledger, const emb_ledger_query *query,
                                                 emb_arena *arena, emb_ledger_report *out, emb_error *err);

typedef struct emb_ledger_projection {
    char month[8];       /* "2026-11" */
    uint64_t spent_nusd; /* so far */
    uint64_t projected_nusd, low_nusd,
        high_nusd; /* weekday-aware mean of the last 28 days; its 80 % spread */
    unsigned days_left, days_of_history;
} emb_ledger_projection;
EMB_MUST_CHECK emb_status emb_ledger_project(emb_ledger *ledger, emb_ledger_projection *out, emb_error *err);
/* Spend of this month, without I/O, a minute old at most; for alerts. */
uint64_t emb_ledger_month_nusd(emb_ledger *ledger);

#endif
