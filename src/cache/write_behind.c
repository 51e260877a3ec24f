/*
 * The queue to L2 and its thread.
 *
 * The thread does one thing at a time, in this order: probe while L2 is down; remove values that did not
 * check; write a batch; now and then tidy. A batch is one round trip (a transaction, a pipeline). It stays in
 * the hands of the thread until L2 took it: a failure is tried again, with growing waits, for as long as it
 * takes, while the queue fills behind it and then drops what is new. So "queued" is kept or counted, and
 * memory is bounded.
 *
 * A failure that speaks of the contents (EMB_E_INVALID, LIMIT) would come back for ever: then the items of
 * the batch are written one by one, and those that are refused alone are counted as failed. Failing writes do
 * not open the circuit of reads: a database that is full or read-only still answers.
 *
 * Removal by a filter has to reach what waits too, or it would be written after it was removed. So the thread
 * pauses, matching items are dropped, and L2 is asked while no batch is under way.
 *
 * Rejected: writing from the request (a slow store would be every caller's), one item a write, a queue on
 * disk (it is a cache: what is lost is computed again).
 */
#include "cache/write_behind.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 256,
    BATCH_BYTES = 4 << 20,
    CORRUPT_MAX = 256,
    TEXT_MAX = 32 << 10, /* longer texts are not kept beside their vectors */
    RETRY_FIRST_MS = 50,
    RETRY_LONGEST_MS = 5000,
};
#define SECOND UINT64_C(1000000000)
#define WRITE_NS (2 * SECOND)
#define TIDY_EVERY_NS (10 * SECOND)
#define TIDY_NS (SECOND / 5)
#define LINGER_NS (SECOND / 200) /* a lone vector waits for others to share its round trip */

typedef struct item item;
struct item {
    item *next;
    emb_cache_key key;
    uint64_t ttl_s, created_s;
    size_t length, text_length; /* of the value, of the text */
    const char *model, *text;   /* behind the value; text may be NULL */
    unsigned char value[];
};

struct emb_writer {
    emb_front *front;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, changed; /* for the thread; for those who wait for it */
    item *oldest, *newest;
    size_t count, limit; /* those in the batch included */
    bool busy, paused, closing;
    unsigned pausing; /* how many want it paused */
    uint64_t close_ns, retry_ns, retry_ms, tidy_ns;
    bool failing;      /* and said so in the log */
    size_t one_by_one; /* items to write alone */
    emb_cache_key corrupt[CORRUPT_MAX];
    size_t corrupt_count;
    uint64_t stored, dropped, failed;
    emb_series *series_stored, *series_dropped, *series_failed, *series_queue;
};

/* ---- counting, with the lock ---- */

static void count_dropped(emb_writer *w, uint64_t n)
{
    w->dropped += n;
    emb_series_add(w->series_dropped, (double)n);
}

static void count_queue(emb_writer *w)
{
    emb_series_set(w->series_queue, (double)w->count);
}

/* ---- the queue ---- */

static item *make_item(const emb_cache_key *key, const emb_value *value, uint64_t ttl_s, const char *model,
                       const char *text, size_t text_length)
{
    size_t model_length = model ? strlen(model) : 0;
    if (!text || text_length > TEXT_MAX)
        text = NULL, text_length = 0;
    item *it = malloc(sizeof *it + emb_value_size(value->dimension) + model_length + 1 + text_length);
    if (!it)
        return NULL;
    it->next = NULL;
    it->key = *key;
    it->ttl_s = ttl_s;
    it->created_s = value->created_s;
    it->length = emb_value_size(value->dimension);
    it->text_length = text_length;
    char *behind = (char *)it->value + it->length;
    memcpy(behind, model ? model : "", model_length + 1);
    it->model = behind;
    it->text = text ? memcpy(behind + model_length + 1, text, text_length) : NULL;
    if (!emb_value_pack(key, value, it->value)) {
        free(it);
        return NULL;
    }
    return it;
}

bool emb_writer_add(emb_writer *w, const emb_cache_key *key, const emb_value *value, uint64_t ttl_s,
                    const char *model, const char *text, size_t text_length)
{
    item *it = make_item(key, value, ttl_s, model, text, text_length);
    pthread_mutex_lock(&w->lock);
    bool taken = it && w->count < w->limit && !w->closing;
    if (taken) {
        *(w->newest ? &w->newest->next : &w->oldest) = it;
        w->newest = it;
        w->count++;
        count_queue(w);
        if (w->count == 1 && !w->retry_ms)
            w->retry_ns = emb_now_ns() + LINGER_NS;
        if (w->count == BATCH && !w->retry_ms)
            w->retry_ns = 0;
        if (w->count == 1 || w->count == BATCH)
            pthread_cond_signal(&w->work);
    } else {
        count_dropped(w, 1);
    }
    pthread_mutex_unlock(&w->lock);
    if (!taken)
        free(it);
    return taken;
}

void emb_writer_remove_corrupt(emb_writer *w, const emb_cache_key *key)
{
    pthread_mutex_lock(&w->lock);
    if (w->corrupt_count < CORRUPT_MAX) {
        w->corrupt[w->corrupt_count++] = *key;
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
}

/* A batch leaves the queue and is still counted in `count`. */
static item *take_batch(emb_writer *w, size_t *count)
{
    size_t most = w->one_by_one ? 1 : BATCH, bytes = 0;
    item *first = w->oldest, *last = NULL;
    *count = 0;
    for (item *it = first; it && *count < most && (last == NULL || bytes + it->length <= BATCH_BYTES);
         it = it->next) {
        bytes += it->length;
        last = it;
        ++*count;
    }
    if (last) {
        w->oldest = last->next;
        if (!w->oldest)
            w->newest = NULL;
        last->next = NULL;
    }
    return first;
}

static void put_back(emb_writer *w, item *batch)
{
    item *last = batch;
    while (last->next)
        last = last->next;
    last->next = w->oldest;
    w->oldest = batch;
    if (!w->newest)
        w->newest = last;
}

static void free_items(item *it)
{
    while (it) {
        item *next = it->next;
        free(it);
        it = next;
    }
}

/* ---- what the thread does, the lock held on entry and exit ---- */

static bool is_refusal(emb_status st)
{
    return st == EMB_E_INVALID || st == EMB_E_LIMIT;
}

static emb_status put(emb_writer *w, const item *batch, uint64_t deadline_ns, emb_error *err)
{
    emb_l2_item items[BATCH];
    size_t n = 0;
    for (const item *it = batch; it; it = it->next)
        items[n++] =
            (emb_l2_item){&it->key, it->value, it->length, it->ttl_s, it->model, it->text, it->text_length};
    emb_l2 *l2 = emb_front_l2(w->front);
    return l2->ops->put_many(l2, items, n, deadline_ns, err);
}

static void say_how_writing_goes(emb_writer *w, emb_status st, const emb_error *err)
{
    if (st == EMB_OK && w->failing)
        emb_log(EMB_LOG_INFO, "cache: vectors are written to the second level again");
    if (st != EMB_OK && !w->failing && emb_front_is_up(w->front))
        emb_log(EMB_LOG_WARN, "cache: vectors cannot be written to the second level",
                EMB_LOG_TEXT("error", err->message));
    w->failing = st != EMB_OK && (w->failing || emb_front_is_up(w->front));
}

static void plan_retry(emb_writer *w)
{
    w->retry_ms = w->retry_ms ? 2 * w->retry_ms : RETRY_FIRST_MS;
    if (w->retry_ms > RETRY_LONGEST_MS)
        w->retry_ms = RETRY_LONGEST_MS;
    w->retry_ns = emb_now_ns() + w->retry_ms * 1000000;
}

static void after_write(emb_writer *w, item *batch, size_t count, emb_status st, const emb_error *err)
{
    say_how_writing_goes(w, st, err);
    if (st == EMB_OK) {
        w->stored += count;
        w->retry_ns = w->retry_ms = 0;
        emb_series_add(w->series_stored, (double)count);
    } else if (is_refusal(st) && count > 1) {
        w->one_by_one = count;
        put_back(w, batch);
        return;
    } else if (is_refusal(st)) {
        w->failed++;
        emb_series_add(w->series_failed, 1);
    } else {
        plan_retry(w);
        put_back(w, batch);
        return;
    }
    w->one_by_one -= w->one_by_one ? 1 : 0;
    w->count -= count;
    count_queue(w);
    free_items(batch);
}

static void write_batch(emb_writer *w)
{
    size_t count;
    item *batch = take_batch(w, &count);
    uint64_t deadline = emb_now_ns() + WRITE_NS;
    if (w->closing && w->close_ns < deadline)
        deadline = w->close_ns;
    w->busy = true;
    pthread_mutex_unlock(&w->lock);
    emb_error err = {0};
    emb_status st = put(w, batch, deadline, &err);
    if (st != EMB_OK)
        emb_front_note_error(w->front, st, &err);
    pthread_mutex_lock(&w->lock);
    w->busy = false;
    after_write(w, batch, count, st, &err);
    pthread_cond_broadcast(&w->changed);
}

static void remove_corrupt(emb_writer *w)
{
    emb_cache_key key = w->corrupt[--w->corrupt_count];
    w->busy = true;
    pthread_mutex_unlock(&w->lock);
    emb_l2 *l2 = emb_front_l2(w->front);
    emb_error err;
    uint64_t removed;
    (void)!l2->ops->remove(l2, &(emb_cache_filter){.key = &key}, emb_now_ns() + WRITE_NS, &removed, &err);
    pthread_mutex_lock(&w->lock);
    w->busy = false;
    pthread_cond_broadcast(&w->changed);
}

static void tidy(emb_writer *w)
{
    w->busy = true;
    pthread_mutex_unlock(&w->lock);
    emb_l2 *l2 = emb_front_l2(w->front);
    emb_error err = {0};
    emb_status st = l2->ops->tidy ? l2->ops->tidy(l2, emb_now_ns() + TIDY_NS, &err) : EMB_OK;
    if (st != EMB_OK && st != EMB_E_DEADLINE) /* more to do than there was time for is no failure */
        emb_front_note_error(w->front, st, &err);
    pthread_mutex_lock(&w->lock);
    w->busy = false;
    /* with more to do, soon again, and still not all the time */
    w->tidy_ns = emb_now_ns() + (st == EMB_E_DEADLINE ? SECOND : TIDY_EVERY_NS);
    pthread_cond_broadcast(&w->changed);
}

static void probe(emb_writer *w)
{
    w->busy = true;
    pthread_mutex_unlock(&w->lock);
    emb_front_probe(w->front);
    pthread_mutex_lock(&w->lock);
    w->busy = false;
    if (emb_front_is_up(w->front))
        w->retry_ns = w->retry_ms = 0;
    pthread_cond_broadcast(&w->changed);
}

static void sleep_until(emb_writer *w, uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    pthread_cond_timedwait(&w->work, &w->lock, &t);
}

/* One thing, or a wait. */
static void work_once(emb_writer *w)
{
    uint64_t now = emb_now_ns(), due = emb_front_probe_due(w->front);
    bool up = due == 0;
    if (w->pausing)
        pthread_cond_wait(&w->work, &w->lock);
    else if (!up && now >= due)
        probe(w);
    else if (up && w->corrupt_count)
        remove_corrupt(w);
    else if (up && w->oldest && now >= w->retry_ns)
        write_batch(w);
    else if (up && now >= w->tidy_ns)
        tidy(w);
    else
        sleep_until(w, !up ? due : w->oldest && w->retry_ns < w->tidy_ns ? w->retry_ns : w->tidy_ns);
}

/* While closing there is no tidying, waits between tries are short, and a circuit that is open gets one
 * try. */
static void drain(emb_writer *w)
{
    bool was_up = emb_front_is_up(w->front);
    while (w->oldest && emb_now_ns() < w->close_ns) {
        size_t before = w->count;
        write_batch(w);
        if (w->count == before && !w->one_by_one) {
            if (!was_up)
                break;
            uint64_t soon = emb_now_ns() + SECOND / 20;
            sleep_until(w, soon < w->close_ns ? soon : w->close_ns);
        }
    }
    if (!w->oldest)
        return;
    emb_log(EMB_LOG_WARN, "cache: vectors were dropped, the second level did not take them in time",
            EMB_LOG_INT("vectors", w->count));
    count_dropped(w, w->count);
    free_items(w->oldest);
    w->oldest = w->newest = NULL;
    w->count = 0;
    count_queue(w);
    pthread_cond_broadcast(&w->changed);
}

static void *run(void *argument)
{
    emb_writer *w = argument;
    emb_thread_background("embedd-l2");
    pthread_mutex_lock(&w->lock);
    while (!w->closing)
        work_once(w);
    drain(w);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- others' calls ---- */

void emb_writer_wake(emb_writer *w)
{
    pthread_mutex_lock(&w->lock);
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
}

/* false when the time is up. */
static bool wait_changed(emb_writer *w, uint64_t deadline_ns)
{
    struct timespec t = {(time_t)(deadline_ns / 1000000000), (long)(deadline_ns % 1000000000)};
    return pthread_cond_timedwait(&w->changed, &w->lock, &t) == 0 || emb_now_ns() < deadline_ns;
}

bool emb_writer_flush(emb_writer *w, uint64_t deadline_ns)
{
    pthread_mutex_lock(&w->lock);
    if (!w->retry_ms)
        w->retry_ns = 0;
    pthread_cond_signal(&w->work);
    while (w->count && wait_changed(w, deadline_ns)) {
    }
    bool empty = w->count == 0;
    pthread_mutex_unlock(&w->lock);
    return empty;
}

static bool matches(const item *it, const emb_cache_filter *f, uint64_t now_s)
{
    return (!f->key || memcmp(&it->key, f->key, sizeof it->key) == 0) &&
           (!f->model || strcmp(it->model, f->model) == 0) &&
           (!f->older_than_s || it->created_s + f->older_than_s < now_s);
}

static void drop_matching(emb_writer *w, const emb_cache_filter *f, uint64_t now_s)
{
    w->newest = NULL;
    for (item **link = &w->oldest; *link;) {
        item *it = *link;
        if (matches(it, f, now_s)) {
            *link = it->next;
            free(it);
            w->count--;
            count_dropped(w, 1);
        } else {
            w->newest = it;
            link = &it->next;
        }
    }
    count_queue(w);
    pthread_cond_broadcast(&w->changed);
}

emb_status emb_writer_remove(emb_writer *w, const emb_cache_filter *filter, uint64_t now_s,
                             uint64_t deadline_ns, uint64_t *removed, emb_error *err)
{
    emb_l2 *l2 = emb_front_l2(w->front);
    *removed = 0;
    pthread_mutex_lock(&w->lock);
    w->pausing++;
    while (w->busy && wait_changed(w, deadline_ns)) {
    }
    bool idle = !w->busy;
    drop_matching(w, filter, now_s);
    pthread_mutex_unlock(&w->lock);
    emb_status st = idle ? l2->ops->remove(l2, filter, deadline_ns, removed, err)
                         : emb_fail(err, EMB_E_DEADLINE, NULL, "a batch is still being written");
    pthread_mutex_lock(&w->lock);
    w->pausing--;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
    return st;
}

void emb_writer_get_stats(emb_writer *w, emb_cache_stats *out)
{
    pthread_mutex_lock(&w->lock);
    out->queued = w->count;
    out->stored = w->stored;
    out->dropped = w->dropped;
    out->write_failures = w->failed;
    pthread_mutex_unlock(&w->lock);
}

emb_status emb_writer_open(emb_front *front, size_t limit, emb_metrics *metrics, emb_writer **out,
                           emb_error *err)
{
    emb_writer *w = calloc(1, sizeof *w);
    if (!w)
        return emb_fail_nomem(err, "the queue to the second level", sizeof *w);
    w->front = front;
    w->limit = limit ? limit : 1;
    w->tidy_ns = emb_now_ns() + TIDY_EVERY_NS;
    w->series_stored = emb_metrics_series(metrics, EMB_METRIC_CACHE_WRITES, "stored");
    w->series_dropped = emb_metrics_series(metrics, EMB_METRIC_CACHE_WRITES, "dropped");
    w->series_failed = emb_metrics_series(metrics, EMB_METRIC_CACHE_WRITES, "failed");
    w->series_queue = emb_metrics_series(metrics, EMB_METRIC_CACHE_QUEUE);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, &attributes);
    pthread_cond_init(&w->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&w->thread, NULL, run, w) != 0) {
        pthread_cond_destroy(&w->work);
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return emb_fail(err, EMB_E_NOMEM, NULL, "no thread can be started for writing the cache");
    }
    *out = w;
    return EMB_OK;
}

void emb_writer_close(emb_writer *w, uint64_t deadline_ns)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    w->close_ns = deadline_ns;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
