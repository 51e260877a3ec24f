/*
 * writer.c: the thread that writes the ledger.
 *
 * It wakes when something was added: 50 ms after a paid entry, a second after free ones, so that others share
 * the transaction. Then it gathers what callers left in their shards into one table (pending), checks names,
 * and writes batches of at most BATCH rows, each a transaction.
 *
 * A batch has a number and stays as it is until the store has answered for it. A store that failed may have
 * committed all the same, the answer lost; so the same rows go out again under the same number, which the
 * store takes once. What comes meanwhile waits in pending and is not added to the batch. A refusal of the
 * contents (a database whose encoding has no such letters) is no such case: then the rows go back with
 * letters beyond ASCII replaced.
 *
 * While the store fails, tries come with growing waits, and pending grows. Over its bound rows are merged:
 * minutes to hours (of the zone, so that days stay right); if that is not enough, to days with keys,
 * categories and contexts "other"; at last without providers and models. Money is never dropped for want of
 * room; the total is exact whatever was merged.
 *
 * The spend of the month is read from the store at times; what this process has added since is counted up on
 * top, so that asking costs no I/O and never lags for its own calls.
 *
 * Rejected: a write for each paid call (a transaction each; ten calls in 50 ms need one), a journal file
 * before the store (SQLite is one; with PostgreSQL away, memory is worth hours).
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "ledger/parts.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 2000,
    PENDING_ROWS = 100000,
    BUCKETS = 4096,
    RETRY_FIRST_MS = 100,
    RETRY_LONGEST_MS = 5000,
};
#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define PAID_NS (50 * MS)
#define FREE_NS SECOND
#define WRITE_NS (5 * SECOND)
#define CLOSE_NS (5 * SECOND)
#define MONTH_NS (30 * SECOND)
#define MONTH_AGAIN_NS (3 * SECOND)
#define MONTH_WAIT_NS (2 * SECOND)

enum { NOTHING, FREE, PAID }; /* what was added since the last round */

struct emb_ledger_writer {
    emb_ledger_writer_options o;
    unsigned char id[16];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, changed; /* for the thread; for those who wait for it */
    atomic_int told;
    atomic_bool up;
    /* with the lock */
    bool closing;
    uint64_t due_ns, retry_ns, close_ns; /* UINT64_MAX: never; 0: at once; */
    uint64_t flushes_wanted, flushes_done;
    /* the thread's own */
    emb_ledger_table pending;
    emb_ledger_row *batch[BATCH];
    size_t batch_count, written_rows;
    int64_t sequence;
    uint64_t retry_ms, written_nusd;
    bool failing;
    atomic_size_t most_rows;
    emb_ledger_names keys, categories;
    int32_t names_day;
    /* the month: base from the store when this process had written `at`; of both the latter by month_lock */
    atomic_uint_fast64_t spent_nusd;
    pthread_mutex_t month_lock;
    uint64_t month_base, month_at, month_due_ns;
    int64_t month_ends_s;
    uint64_t days_before; /* spend of the month before `today` */
    int32_t today;
    unsigned month_reads;
    emb_series *series_written, *series_merged, *series_failed, *series_up;
};

static int64_t now_s(const emb_ledger_writer *w)
{
    return w->o.now_s();
}

/* ---- gathering ---- */

static void rehash(const emb_ledger_writer *w, emb_ledger_row *row)
{
    emb_ledger_id id;
    emb_ledger_row_id(row, &id);
    row->hash = emb_ledger_id_hash(&id, w->o.seed);
}

static void put(emb_ledger_writer *w, emb_ledger_row *row)
{
    rehash(w, row);
    if (!emb_ledger_table_put(&w->pending, row))
        emb_series_add(w->series_merged, 1);
}

static void limit_names(emb_ledger_writer *w, emb_ledger_row *row)
{
    int32_t day = emb_zone_day(w->o.zone, row->minute_s);
    if (day > w->names_day) {
        emb_ledger_names_clear(&w->keys);
        emb_ledger_names_clear(&w->categories);
        w->names_day = day;
    }
    if (!emb_ledger_names_admit(&w->keys, emb_ledger_row_name(row, EMB_LEDGER_KEY),
                                row->lengths[EMB_LEDGER_KEY], w->o.seed))
        emb_ledger_row_rename_other(row, EMB_LEDGER_KEY);
    if (!emb_ledger_names_admit(&w->categories, emb_ledger_row_name(row, EMB_LEDGER_CATEGORY),
                                row->lengths[EMB_LEDGER_CATEGORY], w->o.seed))
        emb_ledger_row_rename_other(row, EMB_LEDGER_CATEGORY);
}

static void count_money(emb_ledger_writer *w, const emb_ledger_row *row)
{
    if (!w->o.metrics)
        return;
    if (row->kind == EMB_LEDGER_API && row->amounts.nusd)
        emb_series_add(emb_metrics_series(w->o.metrics, EMB_METRIC_COST,
                                          emb_ledger_row_name(row, EMB_LEDGER_PROVIDER),
                                          emb_ledger_row_name(row, EMB_LEDGER_MODEL)),
                       (double)row->amounts.nusd * 1e-9);
    if ((row->kind == EMB_LEDGER_CACHE || row->kind == EMB_LEDGER_LOCAL) && row->amounts.saved_nusd)
        emb_series_add(emb_metrics_series(w->o.metrics, EMB_METRIC_SAVED,
                                          emb_ledger_kind_name((emb_ledger_kind)row->kind)),
                       (double)row->amounts.saved_nusd * 1e-9);
}

static void take(void *context, emb_ledger_row *row)
{
    emb_ledger_writer *w = context;
    emb_ledger_row_repair(row, false);
    limit_names(w, row);
    count_money(w, row);
    rehash(w, row);
    (void)!emb_ledger_table_put(&w->pending, row);
}

/* ---- merging ---- */

static int64_t hour_of(const emb_ledger_writer *w, int64_t s)
{
    int64_t there = s + emb_zone_offset(w->o.zone, s), into = there % 3600;
    return s - (into < 0 ? into + 3600 : into);
}

static void coarsen(emb_ledger_writer *w, emb_ledger_row *row, int level)
{
    if (level == 0) {
        row->minute_s = hour_of(w, row->minute_s);
        return;
    }
    row->minute_s = emb_zone_day_start(w->o.zone, emb_zone_day(w->o.zone, row->minute_s));
    for (int name = level == 1 ? EMB_LEDGER_KEY : EMB_LEDGER_PROVIDER; name < EMB_LEDGER_NAMES; name++)
        emb_ledger_row_rename_other(row, name);
}

static void merge(emb_ledger_writer *w)
{
    size_t before = w->pending.count, most = atomic_load(&w->most_rows);
    for (int level = 0; level < 3 && w->pending.count > most - most / 4; level++) {
        emb_ledger_row *rows = NULL, *row;
        while ((row = emb_ledger_table_pop(&w->pending))) {
            row->sibling = rows;
            rows = row;
        }
        while ((row = rows)) {
            rows = row->sibling;
            coarsen(w, row, level);
            put(w, row);
        }
    }
    emb_log(EMB_LOG_WARN, "ledger: rows that wait for the store were merged", EMB_LOG_INT("before", before),
            EMB_LOG_INT("after", w->pending.count));
}

static void gather(emb_ledger_writer *w)
{
    w->o.gather(w->o.context, take, w);
    if (w->pending.count > atomic_load(&w->most_rows) && w->failing)
        merge(w);
}

/* ---- writing ---- */

static void say_how_it_goes(emb_ledger_writer *w, emb_status st, const emb_error *err)
{
    bool up = st == EMB_OK;
    if (up && w->failing)
        emb_log(EMB_LOG_INFO, "ledger: the store takes rows again");
    if (!up && !w->failing)
        emb_log(EMB_LOG_WARN, "ledger: the store cannot be written; rows wait in memory",
                EMB_LOG_TEXT("error", err->message));
    w->failing = !up;
    atomic_store(&w->up, up);
    emb_series_set(w->series_up, up);
}

static void fill_batch(emb_ledger_writer *w)
{
    emb_ledger_row *row;
    while (w->batch_count < BATCH && (row = emb_ledger_table_pop(&w->pending)))
        w->batch[w->batch_count++] = row;
    w->sequence++;
}

static void batch_done(emb_ledger_writer *w)
{
    for (size_t i = 0; i < w->batch_count; i++) {
        if (w->batch[i]->kind == EMB_LEDGER_API)
            w->written_nusd = emb_ledger_sum_of(w->written_nusd, w->batch[i]->amounts.nusd);
        free(w->batch[i]);
    }
    emb_series_add(w->series_written, (double)w->batch_count);
    w->batch_count = 0;
}

/* It was refused for its contents, so it was not committed. */
static void give_back_as_ascii(emb_ledger_writer *w)
{
    for (size_t i = 0; i < w->batch_count; i++) {
        emb_ledger_row_repair(w->batch[i], true);
        put(w, w->batch[i]);
    }
    w->batch_count = 0;
}

static bool has_letters_beyond_ascii(const emb_ledger_writer *w)
{
    for (size_t i = 0; i < w->batch_count; i++) {
        emb_ledger_id id;
        emb_ledger_row_id(w->batch[i], &id);
        for (int n = 0; n < EMB_LEDGER_NAMES; n++)
            for (size_t at = 0; at < id.lengths[n]; at++)
                if ((unsigned char)id.names[n][at] > 0x7E)
                    return true;
    }
    return false;
}

static emb_status write_batch(emb_ledger_writer *w, uint64_t deadline_ns)
{
    emb_error err = {0};
    emb_ledger_batch batch = {.now_s = now_s(w), .rows = w->batch};
    if (!w->batch_count)
        fill_batch(w);
    memcpy(batch.writer, w->id, sizeof batch.writer);
    batch.count = w->batch_count;
    batch.sequence = w->sequence;
    emb_status st = w->o.store->ops->write(w->o.store, &batch, deadline_ns, &err);
    if (st == EMB_OK) {
        batch_done(w);
    } else if ((st == EMB_E_INVALID || st == EMB_E_LIMIT) && has_letters_beyond_ascii(w)) {
        give_back_as_ascii(w);
        return EMB_OK;
    }
    say_how_it_goes(w, st, &err);
    return st;
}

/* Until nothing is left, the store fails or the time is up. */
static bool write_all(emb_ledger_writer *w, uint64_t until_ns)
{
    while (w->batch_count || w->pending.count) {
        uint64_t deadline = emb_now_ns() + WRITE_NS;
        if (write_batch(w, deadline < until_ns ? deadline : until_ns) != EMB_OK)
            return false;
    }
    return true;
}

/* ---- the month ---- */

/* Of the days before today every tenth time and when the day turns: other processes may write late. */
static void read_month(emb_ledger_writer *w)
{
    emb_error err = {0};
    uint64_t deadline = emb_now_ns() + MONTH_WAIT_NS, of_today = 0;
    int32_t day = emb_zone_day(w->o.zone, now_s(w)), first, next;
    emb_status st = EMB_OK;
    emb_ledger_month_of(day, &first, &next);
    if (w->month_reads % 10 == 0 || day != w->today)
        st = emb_ledger_spend(w->o.store, w->o.zone, first, day, NULL, &w->days_before, deadline, &err);
    if (st == EMB_OK)
        st = emb_ledger_spend(w->o.store, w->o.zone, day, day + 1, NULL, &of_today, deadline, &err);
    w->month_due_ns = emb_now_ns() + (st == EMB_OK ? MONTH_NS : MONTH_AGAIN_NS);
    say_how_it_goes(w, st, &err);
    if (st != EMB_OK)
        return;
    w->month_reads++;
    w->today = day;
    pthread_mutex_lock(&w->month_lock);
    w->month_base = emb_ledger_sum_of(w->days_before, of_today);
    w->month_at = w->written_nusd;
    w->month_ends_s = emb_zone_day_start(w->o.zone, next);
    pthread_mutex_unlock(&w->month_lock);
}

uint64_t emb_ledger_writer_month_nusd(emb_ledger_writer *w)
{
    pthread_mutex_lock(&w->month_lock);
    uint64_t base = w->month_ends_s && now_s(w) >= w->month_ends_s ? 0 : w->month_base, at = w->month_at;
    uint64_t spent = atomic_load(&w->spent_nusd);
    pthread_mutex_unlock(&w->month_lock);
    return emb_ledger_sum_of(base, spent > at ? spent - at : 0);
}

void emb_ledger_writer_spent(emb_ledger_writer *w, uint64_t nusd)
{
    uint_fast64_t before = atomic_load_explicit(&w->spent_nusd, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&w->spent_nusd, &before, emb_ledger_sum_of(before, nusd))) {
    }
}

/* ---- the thread ---- */

static void plan_retry(emb_ledger_writer *w, bool written)
{
    uint64_t wait = w->retry_ms ? 2 * w->retry_ms : RETRY_FIRST_MS;
    w->retry_ms = written ? 0 : wait > RETRY_LONGEST_MS ? RETRY_LONGEST_MS : wait;
    w->retry_ns = written ? UINT64_MAX : emb_now_ns() + w->retry_ms * MS;
}

/* One round, the lock held on entry and exit. */
static void work(emb_ledger_writer *w)
{
    uint64_t now = emb_now_ns(), wanted = w->flushes_wanted;
    bool may_write = w->retry_ns == UINT64_MAX || now >= w->retry_ns, written = false;
    atomic_store(&w->told, NOTHING);
    w->due_ns = UINT64_MAX;
    pthread_mutex_unlock(&w->lock);
    gather(w);
    if (may_write)
        written = write_all(w, UINT64_MAX);
    if (w->month_due_ns <= now && !w->batch_count) /* such a batch may be in the store or not */
        read_month(w);
    pthread_mutex_lock(&w->lock);
    if (may_write)
        plan_retry(w, written);
    if (written)
        w->flushes_done = wanted;
    pthread_cond_broadcast(&w->changed);
}

static uint64_t earliest(const emb_ledger_writer *w)
{
    uint64_t due = w->due_ns < w->retry_ns ? w->due_ns : w->retry_ns;
    return w->batch_count || due < w->month_due_ns ? due : w->month_due_ns;
}

static void sleep_until(emb_ledger_writer *w, uint64_t ns)
{
    struct timespec t = {(time_t)(ns / SECOND), (long)(ns % SECOND)};
    if (ns == UINT64_MAX)
        pthread_cond_wait(&w->work, &w->lock);
    else
        pthread_cond_timedwait(&w->work, &w->lock, &t);
}

/* While closing waits between tries are short, and a store that was away gets one try. */
static void drain(emb_ledger_writer *w)
{
    bool was_failing = w->failing, written = false;
    while (!written && emb_now_ns() < w->close_ns) {
        pthread_mutex_unlock(&w->lock);
        gather(w);
        written = write_all(w, w->close_ns);
        pthread_mutex_lock(&w->lock);
        if (!written && was_failing)
            break;
        if (!written)
            sleep_until(w, emb_now_ns() + 50 * MS);
    }
    size_t lost = w->batch_count + w->pending.count;
    if (written || !lost)
        return;
    emb_log(EMB_LOG_ERROR, "ledger: rows were lost, the store did not take them in time",
            EMB_LOG_INT("rows", lost));
    emb_series_add(w->series_failed, (double)lost);
}

static void *run(void *argument)
{
    emb_ledger_writer *w = argument;
    emb_thread_background("embedd-ledger");
    pthread_mutex_lock(&w->lock);
    while (!w->closing) {
        uint64_t due = earliest(w);
        if (emb_now_ns() >= due)
            work(w);
        else
            sleep_until(w, due);
    }
    drain(w);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- others' calls ---- */

void emb_ledger_writer_tell(emb_ledger_writer *w, bool paid)
{
    int level = paid ? PAID : FREE;
    if (atomic_load_explicit(&w->told, memory_order_relaxed) >= level)
        return;
    pthread_mutex_lock(&w->lock);
    if (atomic_load(&w->told) < level) {
        uint64_t due = emb_now_ns() + (paid ? PAID_NS : FREE_NS);
        atomic_store(&w->told, level);
        if (due < w->due_ns)
            w->due_ns = due;
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
}

/* false when the time is up. */
static bool wait_changed(emb_ledger_writer *w, uint64_t deadline_ns)
{
    struct timespec t = {(time_t)(deadline_ns / SECOND), (long)(deadline_ns % SECOND)};
    return pthread_cond_timedwait(&w->changed, &w->lock, &t) == 0 || emb_now_ns() < deadline_ns;
}

bool emb_ledger_writer_flush(emb_ledger_writer *w, uint64_t deadline_ns)
{
    pthread_mutex_lock(&w->lock);
    uint64_t mine = ++w->flushes_wanted;
    w->due_ns = 0;
    if (w->retry_ns != UINT64_MAX)
        w->retry_ns = 0;
    pthread_cond_signal(&w->work);
    while (w->flushes_done < mine && wait_changed(w, deadline_ns)) {
    }
    bool done = w->flushes_done >= mine;
    pthread_mutex_unlock(&w->lock);
    return done;
}

bool emb_ledger_writer_is_up(emb_ledger_writer *w)
{
    return atomic_load(&w->up);
}

void emb_ledger_writer_set_rows(emb_ledger_writer *w, size_t rows)
{
    atomic_store(&w->most_rows, rows);
}

/* ---- opening ---- */

static void free_writer(emb_ledger_writer *w)
{
    for (size_t i = 0; i < w->batch_count; i++)
        free(w->batch[i]);
    emb_ledger_table_fini(&w->pending);
    emb_ledger_names_fini(&w->keys);
    emb_ledger_names_fini(&w->categories);
    pthread_cond_destroy(&w->changed);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->month_lock);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

emb_status emb_ledger_writer_open(const emb_ledger_writer_options *options, emb_ledger_writer **out,
                                  emb_error *err)
{
    pthread_condattr_t attributes;
    emb_ledger_writer *w = calloc(1, sizeof *w);
    if (!w || !emb_ledger_table_init(&w->pending, BUCKETS)) {
        free(w);
        return emb_fail_nomem(err, "the writer of the ledger", sizeof *w);
    }
    w->o = *options;
    memcpy(w->id, options->id, sizeof w->id);
    w->due_ns = w->retry_ns = UINT64_MAX;
    w->names_day = INT32_MIN;
    atomic_init(&w->up, true);
    atomic_init(&w->most_rows, PENDING_ROWS);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_mutex_init(&w->month_lock, NULL);
    pthread_cond_init(&w->work, &attributes);
    pthread_cond_init(&w->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    w->series_written = emb_metrics_series(options->metrics, EMB_METRIC_LEDGER_ROWS, "written");
    w->series_merged = emb_metrics_series(options->metrics, EMB_METRIC_LEDGER_ROWS, "merged");
    w->series_failed = emb_metrics_series(options->metrics, EMB_METRIC_LEDGER_ROWS, "failed");
    w->series_up = emb_metrics_series(options->metrics, EMB_METRIC_SHARED_STATE_UP, "ledger");
    if (pthread_create(&w->thread, NULL, run, w) != 0) {
        free_writer(w);
        return emb_fail(err, EMB_E_NOMEM, NULL, "the ledger's thread could not be started");
    }
    *out = w;
    return EMB_OK;
}

void emb_ledger_writer_close(emb_ledger_writer *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    w->close_ns = emb_now_ns() + CLOSE_NS;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    free_writer(w);
}
