/*
 * report.c: sums of the ledger by one or two dimensions.
 *
 * The store tells the local day (where a dimension is of time) and the columns that are asked for; here days
 * become weeks and months, and groups of several kinds and parts of days become one row. Rows are found by a
 * hash of their names and live in the caller's arena, chained; at the end they are put into one array and
 * sorted.
 *
 * Savings are by kind: what the cache answered and what was embedded here, each with what the API would have
 * taken for it.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "ledger/parts.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 200000, BUCKETS = 4096 };
#define SECOND UINT64_C(1000000000)
#define FLUSH_NS (2 * SECOND)
#define SCAN_NS (30 * SECOND)

typedef struct found found;
struct found {
    found *next, *sibling; /* in its bucket; of all */
    emb_ledger_sum sum;
    uint64_t group_nusd, group_texts; /* of all rows with the same first name */
};

typedef struct gathering {
    emb_ledger *ledger;
    const emb_ledger_query *query;
    emb_ledger_by by[2];
    emb_arena *arena;
    found *buckets[BUCKETS], *all;
    size_t count;
    emb_ledger_sum total;
    uint64_t deadline_ns;
    int64_t day; /* that `times` are the names of */
    char times[2][EMB_DAY_TEXT];
} gathering;

static bool is_time(emb_ledger_by by)
{
    return by == EMB_BY_DAY || by == EMB_BY_WEEK || by == EMB_BY_MONTH;
}

/* ---- adding up ---- */

static void add(uint64_t *to, uint64_t more)
{
    *to = emb_ledger_sum_of(*to, more);
}

static void add_amounts(emb_ledger_sum *s, emb_ledger_kind kind, const emb_ledger_amounts *a)
{
    add(&s->calls, a->calls);
    add(&s->texts, a->texts);
    add(&s->tokens, a->tokens);
    add(&s->nusd, a->nusd);
    if (kind == EMB_LEDGER_CACHE) {
        add(&s->cached_texts, a->texts);
        add(&s->saved_cache_nusd, a->saved_nusd);
    } else if (kind == EMB_LEDGER_LOCAL) {
        add(&s->local_texts, a->texts);
        add(&s->saved_local_nusd, a->saved_nusd);
    }
}

static found *find_or_make(gathering *g, const char *const name[2], emb_error *err)
{
    size_t length[2] = {strlen(name[0]), strlen(name[1])};
    uint64_t hash = emb_hash(name[1], length[1], emb_hash(name[0], length[0], g->ledger->seed));
    found **bucket = &g->buckets[hash % BUCKETS], *f = *bucket;
    while (f && (strcmp(f->sum.name[0], name[0]) != 0 || strcmp(f->sum.name[1], name[1]) != 0))
        f = f->next;
    if (f)
        return f;
    if (g->count >= ROWS_MAX) {
        emb_fail(err, EMB_E_LIMIT, "by",
                 "by: the report would have more than %d rows; ask for a shorter time or for less", ROWS_MAX);
        return NULL;
    }
    f = emb_arena_calloc(g->arena, 1, sizeof *f);
    for (int i = 0; f && i < 2; i++)
        if (!(f->sum.name[i] = emb_arena_strndup(g->arena, name[i], length[i])))
            f = NULL;
    if (!f) {
        emb_fail_nomem(err, "a report", sizeof *f);
        return NULL;
    }
    f->next = *bucket;
    *bucket = f;
    f->sibling = g->all;
    g->all = f;
    g->count++;
    return f;
}

static emb_status add_group(void *context, const emb_ledger_group *group, emb_error *err)
{
    gathering *g = context;
    const char *name[2];
    for (int i = 0; i < 2; i++) {
        if (is_time(g->by[i]) && (g->day != group->day || !g->times[i][0]))
            emb_ledger_day_name(g->by[i], (int32_t)group->day, g->times[i]);
        name[i] = is_time(g->by[i]) ? g->times[i] : g->by[i] == EMB_BY_TOTAL ? "" : group->name[i];
    }
    g->day = group->day;
    add_amounts(&g->total, group->kind, &group->amounts);
    if (g->by[0] == EMB_BY_TOTAL)
        return EMB_OK;
    found *f = find_or_make(g, name, err);
    if (!f)
        return err ? err->code : EMB_E_NOMEM;
    add_amounts(&f->sum, group->kind, &group->amounts);
    return EMB_OK;
}

static emb_status scan_span(void *context, int64_t from_s, int64_t to_s, int64_t offset_s, emb_error *err)
{
    gathering *g = context;
    const emb_ledger_query *q = g->query;
    const emb_ledger_scan scan = {.from_s = from_s,
                                  .to_s = to_s,
                                  .offset_s = offset_s,
                                  .by_day = is_time(g->by[0]) || is_time(g->by[1]),
                                  .by = {g->by[0], g->by[1]},
                                  .provider = q->provider,
                                  .model = q->model,
                                  .key = q->key,
                                  .category = q->category,
                                  .with_shadow = q->with_shadow};
    emb_ledger_store *store = g->ledger->store;
    return store->ops->scan(store, &scan, add_group, g, g->deadline_ns, err);
}

/* ---- ordering ---- */

static int compare_names(const void *a, const void *b)
{
    const found *x = *(found *const *)a, *y = *(found *const *)b;
    int order = strcmp(x->sum.name[0], y->sum.name[0]);
    return order ? order : strcmp(x->sum.name[1], y->sum.name[1]);
}

static int descending(uint64_t a, uint64_t b)
{
    return a == b ? 0 : a < b ? 1 : -1;
}

static int compare_first_cost(const found *x, const found *y)
{
    int order = descending(x->group_nusd, y->group_nusd);
    if (!order)
        order = descending(x->group_texts, y->group_texts);
    return order ? order : strcmp(x->sum.name[0], y->sum.name[0]);
}

static int compare_second_cost(const found *x, const found *y)
{
    int order = descending(x->sum.nusd, y->sum.nusd);
    if (!order)
        order = descending(x->sum.texts, y->sum.texts);
    return order ? order : strcmp(x->sum.name[1], y->sum.name[1]);
}

/* By cost and by name, for the first and the second dimension. */
static int compare_cost_cost(const void *a, const void *b)
{
    const found *x = *(found *const *)a, *y = *(found *const *)b;
    int order = compare_first_cost(x, y);
    return order ? order : compare_second_cost(x, y);
}

static int compare_cost_name(const void *a, const void *b)
{
    const found *x = *(found *const *)a, *y = *(found *const *)b;
    int order = compare_first_cost(x, y);
    return order ? order : strcmp(x->sum.name[1], y->sum.name[1]);
}

static int compare_name_cost(const void *a, const void *b)
{
    const found *x = *(found *const *)a, *y = *(found *const *)b;
    int order = strcmp(x->sum.name[0], y->sum.name[0]);
    return order ? order : compare_second_cost(x, y);
}

/* The rows are ordered by name. */
static void sum_groups(found **rows, size_t count)
{
    for (size_t from = 0, to; from < count; from = to) {
        uint64_t nusd = 0, texts = 0;
        for (to = from; to < count && strcmp(rows[from]->sum.name[0], rows[to]->sum.name[0]) == 0; to++) {
            add(&nusd, rows[to]->sum.nusd);
            add(&texts, rows[to]->sum.texts);
        }
        for (size_t i = from; i < to; i++) {
            rows[i]->group_nusd = nusd;
            rows[i]->group_texts = texts;
        }
    }
}

static void order_rows(const gathering *g, found **rows)
{
    bool first = is_time(g->by[0]), second = is_time(g->by[1]);
    qsort(rows, g->count, sizeof *rows, compare_names);
    sum_groups(rows, g->count);
    if (!first)
        qsort(rows, g->count, sizeof *rows, second ? compare_cost_name : compare_cost_cost);
    else if (!second)
        qsort(rows, g->count, sizeof *rows, compare_name_cost);
}

static emb_status put_in_order(const gathering *g, emb_ledger_report *out, emb_error *err)
{
    found **rows = emb_arena_calloc(g->arena, g->count ? g->count : 1, sizeof *rows);
    out->rows = emb_arena_calloc(g->arena, g->count ? g->count : 1, sizeof *out->rows);
    if (!rows || !out->rows)
        return emb_fail_nomem(err, "a report", g->count * sizeof *out->rows);
    size_t n = 0;
    for (found *f = g->all; f; f = f->sibling)
        rows[n++] = f;
    order_rows(g, rows);
    for (size_t i = 0; i < n; i++)
        out->rows[i] = rows[i]->sum;
    out->count = n;
    out->total = g->total;
    return EMB_OK;
}

/* ---- the time that is asked for ---- */

/* *day is today's on entry. */
static emb_status read_date(const char *name, const char *text, int32_t *day, emb_error *err)
{
    if (!text || strcmp(text, "today") == 0 || emb_day_parse(text, day))
        return EMB_OK;
    return emb_fail(err, EMB_E_INVALID, name, "%s: \"%.40s\" is neither a date such as 2026-11-01 nor today",
                    name, text);
}

/* What is outside of what the store has is not looked at. */
static emb_status choose_time(gathering *g, emb_ledger_report *out, int64_t *from_s, int64_t *to_s,
                              emb_error *err)
{
    emb_ledger *l = g->ledger;
    int32_t today = emb_zone_day(l->zone, l->now_s()), from = today, to = today;
    int64_t first_s, last_s;
    bool any;
    emb_status st;
    if ((st = read_date("from", g->query->from, &from, err)) ||
        (st = read_date("to", g->query->to, &to, err)) ||
        (st = l->store->ops->range(l->store, &any, &first_s, &last_s, g->deadline_ns, err)))
        return st;
    if (!g->query->from)
        from = any && emb_zone_day(l->zone, first_s) < to ? emb_zone_day(l->zone, first_s) : to;
    if (from > to)
        return emb_fail(err, EMB_E_INVALID, "from", "from: %.40s is after to, %.40s", g->query->from,
                        g->query->to ? g->query->to : "today");
    char text[EMB_DAY_TEXT];
    emb_day_text(from, text);
    memcpy(out->from, text, sizeof out->from - 1);
    emb_day_text(to, text);
    memcpy(out->to, text, sizeof out->to - 1);
    *from_s = emb_zone_day_start(l->zone, from);
    *to_s = emb_zone_day_start(l->zone, to + 1);
    /* By whole days: within one, rows may move meanwhile (compact.c). */
    int64_t begins_s = any ? emb_zone_day_start(l->zone, emb_zone_day(l->zone, first_s)) : 0;
    int64_t ends_s = any ? emb_zone_day_start(l->zone, emb_zone_day(l->zone, last_s) + 1) : 0;
    if (*from_s < begins_s)
        *from_s = begins_s;
    if (*to_s > ends_s)
        *to_s = ends_s;
    if (!any)
        *to_s = *from_s;
    return EMB_OK;
}

emb_status emb_ledger_make_report(emb_ledger *l, const emb_ledger_query *query, emb_arena *arena,
                                  emb_ledger_report *out, emb_error *err)
{
    emb_error own; /* what went wrong is looked at */
    int64_t from_s = 0, to_s = 0;
    *out = (emb_ledger_report){0};
    if ((unsigned)query->by[0] > EMB_BY_KIND || (unsigned)query->by[1] > EMB_BY_KIND)
        return emb_fail(err, EMB_E_INVALID, "by", "by: one or two of " EMB_LEDGER_BY_NAMES);
    if (query->by[0] != EMB_BY_TOTAL && query->by[0] == query->by[1])
        return emb_fail(err, EMB_E_INVALID, "by", "by: the two dimensions are the same");
    gathering *g = emb_arena_calloc(arena, 1, sizeof *g);
    if (!g)
        return emb_fail_nomem(err, "a report", sizeof *g);
    g->ledger = l;
    g->query = query;
    g->arena = arena;
    bool swapped = query->by[0] == EMB_BY_TOTAL; /* one dimension, given second */
    g->by[0] = query->by[swapped];
    g->by[1] = swapped ? EMB_BY_TOTAL : query->by[1];
    (void)emb_ledger_flush(l, emb_now_ns() + FLUSH_NS); /* a store that cannot be written may still be read */
    g->deadline_ns = emb_now_ns() + SCAN_NS;
    emb_status st = choose_time(g, out, &from_s, &to_s, err ? err : &own);
    if (st == EMB_OK)
        st = emb_ledger_spans(l->zone, from_s, to_s, scan_span, g, err ? err : &own);
    return st ? st : put_in_order(g, out, err);
}
