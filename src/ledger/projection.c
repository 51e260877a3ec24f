/*
 * projection.c: what this month is going to cost.
 *
 * Spent so far, what today is short of its weekday's mean, and the means of the days that are left. Means are
 * of the last 28 whole days, four of each weekday, so that a service that rests at weekends is not taken for
 * one that never rests; days without any spend count, from the first row of the ledger on. A weekday that has
 * not been seen takes the mean of all.
 *
 * The spread is that of a prediction: the standard deviation of days about their weekday's mean (about the
 * mean of all while there is less than two of any weekday), for the sum of m days with means that are
 * themselves estimates, times 1.2816, within which four of five outcomes lie if days are independent and
 * alike. It never goes below what is spent.
 */
#include "base/clock.h"
#include "base/error.h"
#include "ledger/parts.h"

#include <math.h>
#include <string.h>

enum { HISTORY = 28, WEEK = 7, DAYS_MAX = HISTORY + 31 + 1 };
#define EIGHTY_PERCENT 1.2815515655446004
#define SECOND UINT64_C(1000000000)

typedef struct model {
    double mean[WEEK], variance; /* by day modulo 7; of a day about its mean */
    double uncertainty[WEEK];    /* one over how many days the mean is of */
} model;

static double mean_of(const uint64_t *days, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += (double)days[i];
    return count ? sum / count : 0;
}

/* days[i] is of the day first + i. */
static void fit(model *m, const uint64_t *days, int count, int32_t first)
{
    double overall = mean_of(days, count), squares = 0, overall_squares = 0;
    int seen[WEEK] = {0}, weekdays = 0;
    *m = (model){0};
    for (int i = 0; i < count; i++) {
        m->mean[(first + i) % WEEK] += (double)days[i];
        seen[(first + i) % WEEK]++;
    }
    for (int d = 0; d < WEEK; d++) {
        weekdays += seen[d] > 0;
        m->mean[d] = seen[d] ? m->mean[d] / seen[d] : overall;
        m->uncertainty[d] = 1.0 / (seen[d] ? seen[d] : count ? count : 1);
    }
    for (int i = 0; i < count; i++) {
        double off = (double)days[i] - m->mean[(first + i) % WEEK], far = (double)days[i] - overall;
        squares += off * off;
        overall_squares += far * far;
    }
    if (count > weekdays)
        m->variance = squares / (count - weekdays);
    else if (count > 1)
        m->variance = overall_squares / (count - 1);
    else
        m->variance = overall * overall; /* one day says little */
}

static uint64_t rounded(double nusd)
{
    return nusd <= 0 ? 0 : nusd >= (double)EMB_LEDGER_MOST ? EMB_LEDGER_MOST : (uint64_t)(nusd + 0.5);
}

static void project(emb_ledger_projection *out, const model *m, int32_t today, int32_t next,
                    uint64_t spent_today)
{
    int left[WEEK] = {0};
    double rest = m->mean[today % WEEK] - (double)spent_today, variance = 0;
    double more = rest > 0 ? rest : 0;
    left[today % WEEK] = rest > 0;
    for (int32_t day = today + 1; day < next; day++) {
        more += m->mean[day % WEEK];
        left[day % WEEK]++;
    }
    for (int d = 0; d < WEEK; d++)
        variance += m->variance * left[d] * (1 + left[d] * m->uncertainty[d]);
    double spread = EIGHTY_PERCENT * sqrt(variance);
    out->projected_nusd = emb_ledger_sum_of(out->spent_nusd, rounded(more));
    out->low_nusd = emb_ledger_sum_of(out->spent_nusd, rounded(more - spread));
    out->high_nusd = emb_ledger_sum_of(out->spent_nusd, rounded(more + spread));
}

emb_status emb_ledger_project(emb_ledger *l, emb_ledger_projection *out, emb_error *err)
{
    uint64_t days[DAYS_MAX], total, deadline = emb_now_ns() + 30 * SECOND;
    int32_t today = emb_zone_day(l->zone, l->now_s()), first, next;
    int64_t first_s, last_s;
    bool any;
    char text[EMB_DAY_TEXT];
    *out = (emb_ledger_projection){0};
    (void)emb_ledger_flush(l, emb_now_ns() + 2 * SECOND);
    emb_ledger_month_of(today, &first, &next);
    if (today < HISTORY || next - first > 31 || today >= next)
        return emb_fail(err, EMB_E_INVALID, NULL,
                        "the clock is wrong: there is no projection for such a day");
    int32_t start = first < today - HISTORY ? first : today - HISTORY;
    emb_status st = l->store->ops->range(l->store, &any, &first_s, &last_s, deadline, err);
    if (st == EMB_OK)
        st = emb_ledger_spend(l->store, l->zone, start, today + 1, days, &total, deadline, err);
    if (st != EMB_OK)
        return st;
    emb_day_text(today, text);
    memcpy(out->month, text, sizeof out->month - 1);
    for (int32_t day = first; day <= today; day++)
        out->spent_nusd = emb_ledger_sum_of(out->spent_nusd, days[day - start]);
    int32_t begins = any ? emb_zone_day(l->zone, first_s) : today;
    if (begins < today - HISTORY)
        begins = today - HISTORY;
    out->days_left = (unsigned)(next - today - 1);
    out->days_of_history = begins < today ? (unsigned)(today - begins) : 0;
    model m;
    if (out->days_of_history)
        fit(&m, days + (begins - start), (int)out->days_of_history, begins);
    else
        fit(&m, days + (today - start), 1, today); /* no whole day yet: as today was so far */
    project(out, &m, today, next, days[today - start]);
    return EMB_OK;
}
