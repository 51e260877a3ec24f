/*
 * spans.c: local days over rows of UTC minutes.
 *
 * Stores take (minute + offset) / 86400 for the day, which is exact while the offset stands still. So a time
 * is cut where the zone's offset changes, twice a year at most, and each part is asked for alone; a day with
 * a change in it is in two parts, which the caller adds up. Offsets are compared at the start of each day,
 * then the second of the change is searched by halves.
 */
#include "ledger/parts.h"

#include <stdio.h>
#include <stdlib.h>

/* The first second after from_s, up to to_s, at which the offset is another. */
static int64_t change_between(const emb_zone *zone, int64_t from_s, int64_t to_s)
{
    int32_t offset = emb_zone_offset(zone, from_s);
    while (to_s - from_s > 1) {
        int64_t middle = from_s + (to_s - from_s) / 2;
        if (emb_zone_offset(zone, middle) == offset)
            from_s = middle;
        else
            to_s = middle;
    }
    return to_s;
}

static int64_t end_of_span(const emb_zone *zone, int64_t from_s, int64_t to_s)
{
    int32_t offset = emb_zone_offset(zone, from_s);
    for (int64_t at = from_s; at < to_s;) {
        int64_t next = to_s - at > 86400 ? at + 86400 : to_s;
        if (emb_zone_offset(zone, next) != offset)
            return change_between(zone, at, next);
        at = next;
    }
    return to_s;
}

emb_status emb_ledger_spans(const emb_zone *zone, int64_t from_s, int64_t to_s, emb_ledger_span each,
                            void *context, emb_error *err)
{
    emb_status st = EMB_OK;
    while (st == EMB_OK && from_s < to_s) {
        int64_t end = end_of_span(zone, from_s, to_s);
        st = each(context, from_s, end, emb_zone_offset(zone, from_s), err);
        from_s = end;
    }
    return st;
}

/* ---- names of times ---- */

static int32_t day_of_date(long year, int month, int day)
{
    char text[32];
    int32_t out = 0;
    snprintf(text, sizeof text, "%04ld-%02d-%02d", year, month, day);
    return emb_day_parse(text, &out) ? out : 0;
}

static void date_of_day(int32_t day, long *year, int *month)
{
    char text[EMB_DAY_TEXT];
    char *end;
    emb_day_text(day, text);
    *year = strtol(text, &end, 10);
    *month = *end ? (int)strtol(end + 1, NULL, 10) : 1;
}

void emb_ledger_month_of(int32_t day, int32_t *first, int32_t *next)
{
    long year;
    int month;
    date_of_day(day, &year, &month);
    *first = day_of_date(year, month, 1);
    *next = month == 12 ? day_of_date(year + 1, 1, 1) : day_of_date(year, month + 1, 1);
}

/* Monday is 0. */
static int32_t weekday_of(int32_t day)
{
    return ((day + 3) % 7 + 7) % 7;
}

/* A week belongs to the year that its Thursday is in. */
static void week_name(int32_t day, char out[EMB_DAY_TEXT])
{
    long year;
    int month;
    int32_t thursday = day - weekday_of(day) + 3;
    date_of_day(thursday, &year, &month);
    snprintf(out, EMB_DAY_TEXT, "%04ld-W%02d", year,
             (int)((thursday - day_of_date(year, 1, 1)) / 7 + 1) % 100);
}

void emb_ledger_day_name(emb_ledger_by by, int32_t day, char out[EMB_DAY_TEXT])
{
    if (by == EMB_BY_WEEK) {
        week_name(day, out);
        return;
    }
    emb_day_text(day, out);
    if (by == EMB_BY_MONTH)
        out[7] = 0;
}

/* ---- spend by day ---- */

typedef struct spend {
    emb_ledger_store *store;
    uint64_t deadline_ns;
    int32_t from, to;
    uint64_t *by_day, total;
} spend;

static emb_status add_group(void *context, const emb_ledger_group *g, emb_error *err)
{
    spend *s = context;
    (void)err;
    if (g->kind != EMB_LEDGER_API)
        return EMB_OK;
    s->total = emb_ledger_sum_of(s->total, g->amounts.nusd);
    if (s->by_day && g->day >= s->from && g->day < s->to)
        s->by_day[g->day - s->from] = emb_ledger_sum_of(s->by_day[g->day - s->from], g->amounts.nusd);
    return EMB_OK;
}

static emb_status scan_span(void *context, int64_t from_s, int64_t to_s, int64_t offset_s, emb_error *err)
{
    spend *s = context;
    const emb_ledger_scan scan = {
        .from_s = from_s, .to_s = to_s, .offset_s = offset_s, .by_day = s->by_day != NULL, .only_api = true};
    return s->store->ops->scan(s->store, &scan, add_group, s, s->deadline_ns, err);
}

emb_status emb_ledger_spend(emb_ledger_store *store, const emb_zone *zone, int32_t from, int32_t to,
                            uint64_t *by_day, uint64_t *total, uint64_t deadline_ns, emb_error *err)
{
    spend s = {.store = store, .deadline_ns = deadline_ns, .from = from, .to = to, .by_day = by_day};
    for (int32_t day = from; by_day && day < to; day++)
        by_day[day - from] = 0;
    emb_status st = emb_ledger_spans(zone, emb_zone_day_start(zone, from), emb_zone_day_start(zone, to),
                                     scan_span, &s, err);
    *total = s.total;
    return st;
}
