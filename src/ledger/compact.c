/*
 * compact.c: old rows become fewer.
 *
 * A row a minute for each combination of names is half a million rows a year for each; no report looks closer
 * than a day. So rows older than some days (budget.ledger_minutes_days) go to quarter-hours, and much older
 * ones (budget.ledger_quarters_days) to one row a day of the zone.
 *
 * Reports stay what they were, to the nano-dollar. Rows only ever move within a *piece*: the part of one
 * local day in which the zone's offset is the same, which is what a report reads in one statement (spans.c).
 * So neither a day's sum changes, nor can a report that runs meanwhile see a row twice or not at all.
 * Quarters are those of UTC: the days of every zone in use turn on one, so that a zone can still be
 * configured anew for as long as quarters are kept. A piece whose ends are no quarters is left in minutes.
 * The row of a day stands in the middle of its piece, so that another zone, less than half a day away, has it
 * on the same date.
 *
 * What is moved is decided by the database within one transaction: rows that are not where they belong are
 * added to those that are, and removed. A process that dies leaves all of a transaction or none, doing it
 * again finds nothing to do, and several processes at once do no harm; PostgreSQL lets one at a time.
 *
 * One transaction moves CHUNK rows, some tens of milliseconds in SQLite, where nobody else writes meanwhile;
 * then it rests four times as long as it took. Days that are done are found by looking for a row out of
 * place, which is a search in the primary key; a process looks at each day once, from the first that there
 * is.
 *
 * Rejected: GROUP BY over days in one statement, which holds the lock for as long as it takes; a mark in the
 * store of how far it is, which can be wrong, where the rows themselves cannot; rows a day at once, which
 * another zone or an hour's daylight saving would put on wrong days for good; deleting.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "ledger/parts.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>

enum { CHUNK = 2000, QUARTER_S = 900, PROBES = 64, REST = 4 };
#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define FIRST_NS (60 * SECOND) /* a command that is over sooner does not begin */
#define LEAST_REST_NS (20 * MS)
#define IDLE_NS (3600 * SECOND)
#define RETRY_NS (60 * SECOND)
#define STEP_NS (20 * SECOND)

struct emb_ledger_compactor {
    emb_ledger_compact_options o;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool closing, started;
    bool ranged;
    int32_t next_day, next_quarter; /* the first local day that may have something to do */
    emb_series *series;
};

/* ---- one day ---- */

typedef struct piece_work {
    emb_ledger_compactor *c;
    int32_t day;
    bool whole; /* to one row, not to quarters */
    size_t moved;
} piece_work;

static int64_t floor_day(int64_t there)
{
    return there / 86400 - (there % 86400 < 0);
}

static emb_status move_piece(void *context, int64_t from_s, int64_t to_s, int64_t offset_s, emb_error *err)
{
    piece_work *w = context;
    emb_ledger_store *store = w->c->o.store;
    int64_t middle_s = from_s + (to_s - from_s) / 2;
    if (w->moved || floor_day(from_s + offset_s) != w->day || floor_day(to_s - 1 + offset_s) != w->day)
        return EMB_OK; /* the rest later; a day that the clock left and came back to stays as it is */
    if (!w->whole && (from_s % QUARTER_S || to_s % QUARTER_S))
        return EMB_OK;
    const emb_ledger_move move = {.from_s = from_s,
                                  .to_s = to_s,
                                  .step_s = w->whole ? 0 : QUARTER_S,
                                  .one_s =
                                      middle_s - middle_s % 60 < from_s ? from_s : middle_s - middle_s % 60,
                                  .most = w->c->o.chunk ? w->c->o.chunk : CHUNK};
    return store->ops->compact(store, &move, &w->moved, emb_now_ns() + STEP_NS, err);
}

/* ---- all days ---- */

/* The days before which rows are in quarters, and in days. */
static void read_ages(const emb_ledger_compactor *c, int32_t *quarters, int32_t *days)
{
    int32_t today = emb_zone_day(c->o.zone, c->o.now_s());
    *quarters = c->o.minutes_days ? today - (int32_t)c->o.minutes_days : INT32_MIN;
    *days = c->o.quarters_days ? today - (int32_t)c->o.quarters_days : INT32_MIN;
}

static emb_status find_first(emb_ledger_compactor *c, emb_error *err)
{
    bool any;
    int64_t first_s, last_s;
    emb_status st = c->o.store->ops->range(c->o.store, &any, &first_s, &last_s, emb_now_ns() + STEP_NS, err);
    if (st != EMB_OK || !any)
        return st;
    c->next_day = c->next_quarter = emb_zone_day(c->o.zone, first_s);
    c->ranged = true;
    return EMB_OK;
}

/* The next day to look at and for what; false: none is left. */
static bool choose_day(emb_ledger_compactor *c, piece_work *w)
{
    int32_t quarters, days;
    read_ages(c, &quarters, &days);
    if (c->next_quarter < days)
        c->next_quarter = days;
    w->whole = c->next_day < days;
    w->day = w->whole ? c->next_day : c->next_quarter;
    return w->whole || c->next_quarter < quarters;
}

emb_status emb_ledger_compact_step(emb_ledger_compactor *c, size_t *moved, bool *done, emb_error *err)
{
    piece_work w = {.c = c};
    emb_status st = c->ranged ? EMB_OK : find_first(c, err);
    *moved = 0;
    *done = st == EMB_OK && !c->ranged;
    for (int probes = 0; st == EMB_OK && c->ranged && !w.moved && probes < PROBES; probes++) {
        if ((*done = !choose_day(c, &w)))
            break;
        st = emb_ledger_spans(c->o.zone, emb_zone_day_start(c->o.zone, w.day),
                              emb_zone_day_start(c->o.zone, w.day + 1), move_piece, &w, err);
        if (st == EMB_OK && !w.moved)
            ++*(w.whole ? &c->next_day : &c->next_quarter);
    }
    emb_series_add(c->series, (double)w.moved);
    *moved = w.moved;
    return st;
}

/* ---- the thread ---- */

/* With the lock; false: it is time to end. */
static bool rest(emb_ledger_compactor *c, uint64_t ns)
{
    uint64_t until = emb_now_ns() + ns;
    struct timespec t = {(time_t)(until / SECOND), (long)(until % SECOND)};
    while (!c->closing && emb_now_ns() < until)
        pthread_cond_timedwait(&c->wake, &c->lock, &t);
    return !c->closing;
}

static uint64_t rest_after(emb_status st, bool done, uint64_t took_ns)
{
    if (st != EMB_OK)
        return RETRY_NS;
    if (done)
        return IDLE_NS;
    return took_ns * REST > LEAST_REST_NS ? took_ns * REST : LEAST_REST_NS;
}

static void *run(void *argument)
{
    emb_ledger_compactor *c = argument;
    uint64_t sum = 0;
    prctl(PR_SET_NAME, "embedd-compact", 0, 0, 0);
    pthread_mutex_lock(&c->lock);
    for (bool on = rest(c, c->o.begin_ns ? c->o.begin_ns : FIRST_NS); on;) {
        emb_error err = {0};
        size_t moved;
        bool done;
        pthread_mutex_unlock(&c->lock);
        uint64_t begin = emb_now_ns();
        emb_status st = emb_ledger_compact_step(c, &moved, &done, &err);
        sum += moved;
        if (done && sum)
            emb_log(EMB_LOG_INFO, "ledger: old rows were merged", EMB_LOG_INT("rows", sum));
        if (st != EMB_OK && st != EMB_E_BUSY)
            emb_log(EMB_LOG_WARN, "ledger: old rows could not be merged; later again",
                    EMB_LOG_TEXT("error", err.message));
        sum = done ? 0 : sum;
        pthread_mutex_lock(&c->lock);
        on = rest(c, rest_after(st, done, emb_now_ns() - begin));
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- life ---- */

emb_status emb_ledger_compactor_open(const emb_ledger_compact_options *options, emb_ledger_compactor **out,
                                     emb_error *err)
{
    pthread_condattr_t attributes;
    emb_ledger_compactor *c = calloc(1, sizeof *c);
    if (!c)
        return emb_fail_nomem(err, "the ledger", sizeof *c);
    c->o = *options;
    c->series = emb_metrics_series(options->metrics, EMB_METRIC_LEDGER_ROWS, "compacted");
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    c->started = options->thread && pthread_create(&c->thread, NULL, run, c) == 0;
    *out = c;
    if (c->started || !options->thread)
        return EMB_OK;
    emb_ledger_compactor_close(c);
    *out = NULL;
    return emb_fail(err, EMB_E_NOMEM, NULL, "the ledger's second thread could not be started");
}

void emb_ledger_compactor_close(emb_ledger_compactor *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->closing = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    if (c->started)
        pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
