/*
 * fetch.c: a small state machine per file over one libcurl multi handle.
 *
 *     NEW ── HEAD (only if the listing did not name its hash) ── LOCK ── TRANSFER ── DONE
 *                                                                 ↑         ↓
 *                                              WAIT (another process)   BACKOFF
 *
 * One thread and no locks of our own: the network is slower than one core can hash. At most `parallel` files
 * are in HEAD, TRANSFER or BACKOFF; those that wait for another process hold no place.
 *
 * What counts as progress: a mebibyte. A transfer that breaks off is begun again from where it is, and the
 * number of attempts counts anew only after that much, so that a server that gives a few bytes a minute is
 * given up.
 *
 * What a server answers to "Range" decides where bytes go: 206 with the very offset: on; 200: from the
 * beginning; anything else (416, another offset): the copy is thrown away and the whole is asked for. The
 * hash over everything decides in the end; when it is wrong the file is fetched once more from the beginning.
 */
#include "hub/fetch.h"

#include "base/clock.h"
#include "base/error.h"
#include "crypto/crypto.h"
#include "hub/blob.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POLL_MS = 100, LOCK_POLL_MS = 200, RETRY_BASE_MS = 250, RETRY_MOST_MS = 10000, WAIT_MOST_MS = 300000 };
enum { DEFAULT_PARALLEL = 4, MOST_PARALLEL = 64 };
static const uint64_t progress_bytes = 1 << 20, moved_ns = 100000000;

typedef enum job_state { NEW, HEAD, WAIT, TRANSFER, BACKOFF, DONE } job_state;
typedef enum job_trouble { NO_TROUBLE, BROKEN, WHOLE_AGAIN, CHANGED } job_trouble;

typedef struct job {
    emb_hub_fetch *fetch;
    emb_hub_entry *entry;
    emb_hub_file *file;
    emb_hub_blob blob;
    emb_hub_exchange exchange;
    const char *url;
    job_state state;
    unsigned attempts, damaged;
    uint64_t due_ns;
    uint64_t from; /* where the transfer began */
    bool begun, has_blob, waited;
    job_trouble trouble; /* why the taker ended a transfer */
    emb_error problem;   /* of BROKEN */
} job;

/* ---- telling ---- */

static void tell(emb_hub_fetch *f, emb_hub_event event, const emb_hub_file *file, const char *message)
{
    if (!f->options->on_progress || (!f->shown && event != EMB_HUB_NOTE))
        return;
    emb_hub_progress p = {.event = event,
                          .files = f->files,
                          .count = f->shown ? f->file_count : 0,
                          .file = file,
                          .message = message};
    f->options->on_progress(f->options->context, &p);
}

void emb_hub_fetch_note(emb_hub_fetch *f, const emb_hub_file *file, const char *format, ...)
{
    char text[700];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tell(f, EMB_HUB_NOTE, file, text);
}

/* ---- waiting ---- */

uint64_t emb_hub_retry_wait_ms(unsigned attempt, int64_t retry_after_ms, uint64_t *random)
{
    uint64_t span = RETRY_BASE_MS;
    for (unsigned i = 0; i < attempt && span < RETRY_MOST_MS; i++)
        span *= 2;
    if (span > RETRY_MOST_MS)
        span = RETRY_MOST_MS;
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    uint64_t wait = span / 2 + *random % (span / 2 + 1);
    return retry_after_ms > 0 && (uint64_t)retry_after_ms > wait ? (uint64_t)retry_after_ms : wait;
}

static emb_status check_stop(const emb_hub_fetch *f, emb_error *err)
{
    const emb_hub_options *o = f->options;
    if (o->cancel && __atomic_load_n(o->cancel, __ATOMIC_RELAXED))
        return emb_fail(err, EMB_E_CANCELLED, NULL, "stopped");
    if (o->deadline_ns && emb_now_ns() > o->deadline_ns)
        return emb_fail(err, EMB_E_DEADLINE, NULL, "fetching %s took longer than it may",
                        f->place->repository);
    return EMB_OK;
}

/* Whether to try again, and when: *due_ns. Otherwise the error that is there stays. */
static bool try_again(emb_hub_fetch *f, unsigned *attempts, int64_t retry_after_ms, const char *what,
                      const emb_hub_file *file, emb_error *err, uint64_t *due_ns)
{
    if (*attempts >= f->options->retries)
        return false;
    uint64_t wait = emb_hub_retry_wait_ms(*attempts, retry_after_ms, &f->random);
    *due_ns = emb_now_ns() + wait * 1000000;
    if (wait > WAIT_MOST_MS) {
        emb_fail(err, EMB_E_BUSY, f->place->endpoint,
                 "%s: the hub asks to wait %llu s, more than the %d s that are waited; the same command goes "
                 "on later",
                 what, (unsigned long long)(wait / 1000), WAIT_MOST_MS / 1000);
        return false;
    }
    if (f->options->deadline_ns && *due_ns > f->options->deadline_ns)
        return false;
    ++*attempts;
    emb_hub_fetch_note(f, file, "%s; try %u of %u in %.1f s", err->message, *attempts + 1,
                       f->options->retries + 1, (double)wait / 1000);
    return true;
}

/* ---- a text ---- */

static bool take_text(void *context, const emb_hub_answer *answer, const char *data, size_t length)
{
    return !answer->encoded && emb_buf_add(context, data, length) == EMB_OK;
}

/* Runs one exchange to its end; follows redirects. */
static emb_status complete(emb_hub_fetch *f, emb_hub_exchange *x, CURLcode *code, emb_error *err)
{
    for (;;) {
        int running, left;
        bool again;
        emb_status status = check_stop(f, err);
        if (status)
            return status;
        if (curl_multi_perform(f->multi, &running) != CURLM_OK)
            return emb_fail_nomem(err, "HTTP request", 0);
        CURLMsg *message = curl_multi_info_read(f->multi, &left);
        if (!message) {
            curl_multi_poll(f->multi, NULL, 0, POLL_MS, NULL);
            continue;
        }
        *code = message->data.result;
        if (*code != CURLE_OK)
            return EMB_OK;
        status = emb_hub_exchange_follow(x, f->multi, &again, err);
        if (status || !again)
            return status;
    }
}

static emb_status wait_until(const emb_hub_fetch *f, uint64_t due_ns, emb_error *err)
{
    emb_status status = EMB_OK;
    while (emb_now_ns() < due_ns && !(status = check_stop(f, err)))
        curl_multi_poll(f->multi, NULL, 0, POLL_MS, NULL);
    return status;
}

emb_status emb_hub_fetch_text(emb_hub_fetch *f, const char *url, const char *what, emb_buf *out,
                              emb_error *err)
{
    emb_hub_exchange x;
    emb_error local;
    unsigned attempts = 0;
    if (!err)
        err = &local;
    emb_status status = emb_hub_exchange_init(&x, f->place, f->options, err);
    if (status)
        return status;
    x.take = take_text;
    x.context = out;
    for (;;) {
        CURLcode code = CURLE_OK;
        bool passing = false;
        uint64_t due_ns;
        emb_buf_clear(out);
        status = emb_hub_exchange_begin(&x, f->multi, url, false, 0, NULL, err);
        if (!status)
            status = complete(f, &x, &code, err);
        if (status)
            break;
        if (code == CURLE_WRITE_ERROR)
            status = emb_fail(err, EMB_E_LIMIT, what, "%s: the answer is over %zu bytes, or memory is short",
                              what, out->maximum);
        else
            status = emb_hub_exchange_result(&x, code, what, &passing, err);
        if (!status || !passing ||
            !try_again(f, &attempts, x.answer.retry_after_ms, what, NULL, err, &due_ns))
            break;
        if ((status = wait_until(f, due_ns, err)))
            break;
    }
    emb_hub_exchange_fini(&x, f->multi);
    return status;
}

/* ---- one file ---- */

static bool fits(const job *j, const emb_hub_answer *answer)
{
    return answer->has_range && answer->range_start == j->blob.offset &&
           (answer->range_total == EMB_HUB_SIZE_UNKNOWN || j->blob.size == EMB_HUB_SIZE_UNKNOWN ||
            answer->range_total == j->blob.size);
}

/* The first bytes: do they belong where the copy ends? */
static bool begin_body(job *j, const emb_hub_answer *answer)
{
    const char *etag = answer->linked_etag[0] ? answer->linked_etag : answer->etag;
    j->begun = true;
    if (emb_hub_digest_of(j->entry->etag) == EMB_HUB_DIGEST_NONE && etag[0] &&
        strcmp(etag, j->entry->etag) != 0) {
        j->trouble = CHANGED;
        return false;
    }
    if (answer->encoded) {
        j->trouble = BROKEN;
        emb_fail(&j->problem, EMB_E_IO, j->entry->name,
                 "%s: the server compressed it although that was declined", j->entry->name);
        return false;
    }
    if (answer->status == 206 && !fits(j, answer)) {
        j->trouble = WHOLE_AGAIN;
        return false;
    }
    if (answer->status == 200 && j->blob.offset > 0 && emb_hub_blob_rewind(&j->blob, &j->problem)) {
        j->trouble = BROKEN;
        return false;
    }
    if (answer->status == 200 && j->blob.size == EMB_HUB_SIZE_UNKNOWN)
        j->blob.size = j->entry->size = j->file->size = answer->length;
    return true;
}

static bool take_body(void *context, const emb_hub_answer *answer, const char *data, size_t length)
{
    job *j = context;
    if (!j->begun && !begin_body(j, answer))
        return false;
    if (j->blob.size != EMB_HUB_SIZE_UNKNOWN && length > j->blob.size - j->blob.offset) {
        j->trouble = WHOLE_AGAIN;
        return false;
    }
    if (emb_hub_blob_write(&j->blob, data, length, &j->problem)) {
        j->trouble = BROKEN;
        return false;
    }
    j->fetch->fetched_bytes += length;
    return true;
}

/* A handle is made when it is first used: of thousands of files a few are under way. */
static emb_status make_exchange(job *j, emb_error *err)
{
    if (j->exchange.easy)
        return EMB_OK;
    emb_status status = emb_hub_exchange_init(&j->exchange, j->fetch->place, j->fetch->options, err);
    j->exchange.take = take_body;
    j->exchange.context = j;
    return status;
}

static emb_status begin_head(job *j, emb_error *err)
{
    emb_status status = make_exchange(j, err);
    if (status)
        return status;
    j->state = HEAD;
    return emb_hub_exchange_begin(&j->exchange, j->fetch->multi, j->url, true, 0, NULL, err);
}

static emb_status begin_transfer(job *j, emb_error *err)
{
    /* The hub's etag is the blob's name, which If-Range then guards; for hashes the check at the end does,
     * and mirrors that show another etag can still be gone on with. */
    bool opaque = emb_hub_digest_of(j->entry->etag) == EMB_HUB_DIGEST_NONE;
    emb_status status = make_exchange(j, err);
    if (status)
        return status;
    j->state = TRANSFER;
    j->begun = false;
    j->trouble = NO_TROUBLE;
    j->from = j->blob.offset;
    j->file->running = true;
    return emb_hub_exchange_begin(&j->exchange, j->fetch->multi, j->url, false, j->blob.offset,
                                  opaque ? j->entry->etag : NULL, err);
}

static void finish_job(job *j, bool fetched)
{
    emb_hub_blob_close(&j->blob);
    emb_hub_exchange_fini(&j->exchange, j->fetch->multi);
    j->state = DONE;
    j->file->running = false;
    j->file->complete = true;
    if (j->file->size == EMB_HUB_SIZE_UNKNOWN)
        j->file->size = j->blob.offset;
    j->file->done = j->file->size;
    j->fetch->fetched += fetched;
    tell(j->fetch, EMB_HUB_DONE, j->file, NULL);
}

/* The lock is ours. */
static emb_status begin_locked(job *j, emb_error *err)
{
    if (emb_hub_blob_present(&j->blob)) { /* the other one fetched it */
        finish_job(j, false);
        return EMB_OK;
    }
    emb_status status = emb_hub_blob_open(&j->blob, j->fetch->options->cancel, err);
    if (status)
        return status;
    j->file->done = j->file->resumed = j->blob.offset;
    tell(j->fetch, EMB_HUB_STARTED, j->file, NULL);
    if (j->blob.offset > 0 &&
        j->blob.offset == j->blob.size) { /* stopped between the last byte and its name */
        status = emb_hub_blob_finish(&j->blob, j->entry->name, err);
        if (!status)
            finish_job(j, false);
        if (status != EMB_E_CORRUPT)
            return status;
        j->file->done = j->file->resumed = 0;
    }
    return begin_transfer(j, err);
}

static emb_status try_lock(job *j, emb_error *err)
{
    bool got;
    emb_status status = emb_hub_blob_lock(&j->blob, &got, err);
    if (status)
        return status;
    if (got)
        return begin_locked(j, err);
    j->state = WAIT;
    j->due_ns = emb_now_ns() + LOCK_POLL_MS * 1000000ull;
    if (!j->waited)
        emb_hub_fetch_note(j->fetch, j->file, "another process is fetching %s; waiting for it",
                           j->entry->name);
    j->waited = true;
    return EMB_OK;
}

static emb_status begin_job(job *j, emb_error *err)
{
    emb_hub_fetch *f = j->fetch;
    if (!j->entry->etag)
        return begin_head(j, err);
    emb_status status =
        j->has_blob ? EMB_OK
                    : emb_hub_blob_init(&j->blob, f->arena, f->place, j->entry->etag, j->entry->size, err);
    j->has_blob = !status;
    if (status)
        return status;
    if (emb_hub_blob_present(&j->blob)) {
        finish_job(j, false);
        return EMB_OK;
    }
    return try_lock(j, err);
}

/* ---- ends of transfers ---- */

static emb_status retry_job(job *j, emb_error *err)
{
    if (j->state == TRANSFER && j->blob.offset >= j->from + progress_bytes)
        j->attempts = 0;
    if (!try_again(j->fetch, &j->attempts, j->exchange.answer.retry_after_ms, j->entry->name, j->file, err,
                   &j->due_ns))
        return err->code;
    j->state = BACKOFF;
    return EMB_OK;
}

static emb_status end_head(job *j, emb_error *err)
{
    const emb_hub_answer *a = &j->exchange.answer;
    const char *etag = a->linked_etag[0] ? a->linked_etag : a->etag;
    if (!emb_hub_etag_is_safe(etag))
        return emb_fail(
            err, EMB_E_IO, j->entry->name,
            "%s: the server does not name its content (no usable ETag); is %s the address of a hub?",
            j->entry->name, j->fetch->place->endpoint);
    char *copy = emb_arena_strndup(j->fetch->arena, etag, strlen(etag));
    if (!copy)
        return emb_fail_nomem(err, "name of a file", strlen(etag));
    j->entry->etag = copy;
    if (a->linked_size != EMB_HUB_SIZE_UNKNOWN)
        j->entry->size = a->linked_size;
    else if (a->status == 200 && !a->linked_etag[0])
        j->entry->size = a->length;
    j->file->size = j->entry->size;
    j->state = NEW;
    return EMB_OK;
}

/* The hub has another content than a moment ago: forget what was said. */
static emb_status begin_anew(job *j, emb_error *err)
{
    emb_fail(err, EMB_E_IO, j->entry->name, "%s changed while it was fetched", j->entry->name);
    emb_status status = retry_job(j, err);
    if (status)
        return status;
    emb_hub_blob_close(&j->blob);
    j->has_blob = false;
    j->entry->etag = NULL;
    j->entry->size = EMB_HUB_SIZE_UNKNOWN;
    return EMB_OK;
}

static emb_status whole_again(job *j, const char *why, emb_error *err)
{
    emb_status status = emb_hub_blob_rewind(&j->blob, err);
    if (status)
        return status;
    emb_fail(err, EMB_E_CORRUPT, j->entry->name, "%s: %s", j->entry->name, why);
    return retry_job(j, err);
}

static emb_status end_taken(job *j, emb_error *err)
{
    switch (j->trouble) {
    case CHANGED:
        return begin_anew(j, err);
    case WHOLE_AGAIN:
        return whole_again(j, "the server sent another part than was asked for, or too much", err);
    case BROKEN:
    case NO_TROUBLE:
        break;
    }
    *err = j->problem;
    return err->code
               ? err->code
               : emb_fail(err, EMB_E_INTERNAL, j->entry->name, "%s could not be written", j->entry->name);
}

static emb_status end_body(job *j, emb_error *err)
{
    if (j->blob.size != EMB_HUB_SIZE_UNKNOWN && j->blob.offset < j->blob.size) {
        emb_fail(err, EMB_E_IO, j->entry->name, "%s ended after %llu of %llu bytes", j->entry->name,
                 (unsigned long long)j->blob.offset, (unsigned long long)j->blob.size);
        return retry_job(j, err);
    }
    emb_status status = emb_hub_blob_finish(&j->blob, j->entry->name, err);
    if (!status)
        finish_job(j, true);
    if (status != EMB_E_CORRUPT || j->damaged++ > 0)
        return status;
    return retry_job(j, err); /* from the beginning */
}

static emb_status end_exchange(job *j, CURLcode code, emb_error *err)
{
    bool again, passing;
    emb_status status = EMB_OK;
    if (code == CURLE_OK &&
        ((status = emb_hub_exchange_follow(&j->exchange, j->fetch->multi, &again, err)) || again))
        return status;
    emb_hub_exchange_end(&j->exchange, j->fetch->multi);
    if (code == CURLE_WRITE_ERROR)
        return end_taken(j, err);
    if (code == CURLE_OK && j->exchange.answer.status == 416 && j->blob.offset > 0)
        return whole_again(j, "the server refused to go on from where it stopped (416)", err);
    status = emb_hub_exchange_result(&j->exchange, code, j->entry->name, &passing, err);
    if (status)
        return passing ? retry_job(j, err) : status;
    return j->state == HEAD ? end_head(j, err) : end_body(j, err);
}

/* ---- all files ---- */

static unsigned parallel_of(const emb_hub_fetch *f)
{
    unsigned n = f->options->parallel ? f->options->parallel : DEFAULT_PARALLEL;
    return n < MOST_PARALLEL ? n : MOST_PARALLEL;
}

static bool is_active(const job *j)
{
    return j->state == HEAD || j->state == TRANSFER || j->state == BACKOFF;
}

/* Begins what can be begun; *left: files that are not done. */
static emb_status step_jobs(emb_hub_fetch *f, job *jobs, size_t count, size_t *left, emb_error *err)
{
    unsigned active = 0, most = parallel_of(f);
    emb_status status = EMB_OK;
    uint64_t now = emb_now_ns();
    *left = 0;
    for (size_t i = 0; i < count; i++)
        active += is_active(&jobs[i]);
    for (size_t i = 0; i < count && !status; i++) {
        job *j = &jobs[i];
        bool was = is_active(j);
        if (j->state == NEW && active < most)
            status = begin_job(j, err);
        else if (j->state == WAIT && active < most && now >= j->due_ns)
            status = try_lock(j, err);
        else if (j->state == BACKOFF && now >= j->due_ns)
            status = j->has_blob ? begin_transfer(j, err) : begin_head(j, err);
        active += is_active(j) && !was;
        *left += j->state != DONE;
    }
    return status;
}

/* *any: whether something ended, so that the jobs are to be looked at again at once. */
static emb_status take_messages(emb_hub_fetch *f, bool *any, emb_error *err)
{
    int left;
    emb_status status = EMB_OK;
    *any = false;
    for (CURLMsg *message; !status && (message = curl_multi_info_read(f->multi, &left));) {
        emb_hub_exchange *x;
        CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE ||
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &x) != CURLE_OK)
            continue;
        *any = true;
        status = end_exchange(x->context, code, err);
    }
    return status;
}

static void show_moves(emb_hub_fetch *f, job *jobs, size_t count)
{
    uint64_t now = emb_now_ns();
    if (now - f->moved_ns < moved_ns)
        return;
    f->moved_ns = now;
    for (size_t i = 0; i < count; i++)
        if (jobs[i].has_blob && jobs[i].state != DONE)
            jobs[i].file->done = jobs[i].blob.offset;
    tell(f, EMB_HUB_MOVED, NULL, NULL);
}

static emb_status run_jobs(emb_hub_fetch *f, job *jobs, size_t count, emb_error *err)
{
    for (;;) {
        size_t left;
        int running;
        emb_status status = check_stop(f, err);
        if (!status)
            status = step_jobs(f, jobs, count, &left, err);
        if (status || left == 0)
            return status;
        if (curl_multi_perform(f->multi, &running) != CURLM_OK)
            return emb_fail_nomem(err, "HTTP request", 0);
        bool any;
        if ((status = take_messages(f, &any, err)))
            return status;
        show_moves(f, jobs, count);
        if (!any)
            curl_multi_poll(f->multi, NULL, 0, POLL_MS, NULL);
    }
}

static emb_status init_job(job *j, emb_hub_fetch *f, const char *commit, emb_hub_entry *entry,
                           emb_hub_file *file, emb_error *err)
{
    const char *name = emb_hub_encode(f->arena, entry->name, false);
    j->fetch = f;
    j->entry = entry;
    j->file = file;
    j->blob.lock = j->blob.file = -1;
    file->name = entry->name;
    file->size = entry->size;
    j->url =
        name ? emb_hub_path(f->arena, f->place->endpoint, f->place->repository, "resolve", commit, name, NULL)
             : NULL;
    return j->url ? EMB_OK : emb_fail_nomem(err, "address of a file", 0);
}

emb_status emb_hub_fetch_files(emb_hub_fetch *f, const char *commit, emb_hub_entry **entries, size_t count,
                               bool show, emb_error *err)
{
    emb_error local;
    if (!err)
        err = &local;
    if (count == 0)
        return EMB_OK;
    job *jobs = calloc(count, sizeof *jobs);
    f->files = emb_arena_calloc(f->arena, count, sizeof *f->files);
    emb_status status =
        jobs && f->files ? EMB_OK : emb_fail_nomem(err, "list of files", count * sizeof *jobs);
    f->file_count = status ? 0 : count;
    f->shown = show;
    for (size_t i = 0; i < count && !status; i++)
        status = init_job(&jobs[i], f, commit, entries[i], &f->files[i], err);
    if (!status) {
        tell(f, EMB_HUB_LISTED, NULL, NULL);
        status = run_jobs(f, jobs, count, err);
    }
    for (size_t i = 0; jobs && i < count; i++) {
        emb_hub_exchange_fini(&jobs[i].exchange, f->multi);
        if (jobs[i].fetch)
            emb_hub_blob_close(&jobs[i].blob);
    }
    free(jobs);
    return status;
}

emb_status emb_hub_fetch_init(emb_hub_fetch *f, const emb_hub_place *place, const emb_hub_options *options,
                              emb_arena *arena, emb_error *err)
{
    memset(f, 0, sizeof *f);
    f->place = place;
    f->options = options;
    f->arena = arena;
    if (!emb_random_bytes(&f->random, sizeof f->random))
        f->random = emb_now_ns();
    f->random |= 1;
    f->multi = curl_multi_init();
    if (!f->multi)
        return emb_fail_nomem(err, "HTTP requests", 0);
    curl_multi_setopt(f->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    return EMB_OK;
}

void emb_hub_fetch_fini(emb_hub_fetch *f)
{
    if (f->multi)
        curl_multi_cleanup(f->multi);
    f->multi = NULL;
}
