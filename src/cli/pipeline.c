/*
 * pipeline.c: a ring of slices between one reader, callers of the engine or the gateway, and one writer.
 *
 *     FREE → (reader) → FILLED → (caller) → TAKEN → DONE → (writer) → FREE
 *
 * Slice number s always lies in ring[s mod size], the reader fills them in order and the writer empties
 * them in order, so output has the order of the input although several are computed at once. Two callers of
 * the engine, because it runs dry at the end of a single call; with the next one already queued its threads
 * never wait. One mutex and one condition serve all: a slice is tens of milliseconds of work.
 *
 * Through the gateway there are as many callers as an instance takes calls by default, and slices are small
 * enough that as many are in memory. The first slice runs alone: its answer decides the space of the run.
 * A resumed run reads the space in the last line of what is there. That line is kept as it is: APIs do not
 * repeat a vector to the last bit.
 *
 * A slice is cut by bytes, so that it takes about half a second: long enough to be efficient, short enough
 * for progress and for stopping. It is also handed on when the input has nothing more to read at the
 * moment, so that a line typed into a pipe is answered at once.
 *
 * Failures: the first error is kept and ends all threads (emb_stop_now). A bad record is no such failure:
 * the reader ends, what it had read before is still computed and written, then its error is returned.
 */
#include "cli/pipeline.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/progress.h"
#include "cli/resume.h"
#include "cli/slice.h"
#include "cli/stop.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 4, CALLERS = 2, FLUSH_BYTES = 1 << 20 };
enum { GATE_RING = 12, GATE_CALLERS = 8, GATE_TEXTS = 512, GATE_BYTES = 256 << 10 };
enum { FIRST_BYTES = 8 << 10, LEAST_BYTES = 4 << 10, MOST_BYTES = 1 << 20, MOST_FLOATS = 1 << 20 };

typedef enum slice_state { FREE, FILLED, TAKEN, DONE } slice_state;

typedef struct pipeline {
    const emb_pipeline_options *options;
    emb_embed_options embed;
    size_t most_texts, ring_size, callers;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* under the mutex */
    emb_slice ring[GATE_RING];
    slice_state state[GATE_RING];
    emb_status refused[GATE_RING]; /* of a text behind the last one of the slice: the work ends there */
    emb_error refused_error[GATE_RING];
    uint64_t filled, taken, written; /* slices so far */
    bool first_done;                 /* the first slice, which decides the space */
    bool ending;                     /* a slice was refused: no other is begun */
    bool read_all, ended;            /* no further slice will be filled; the writer is through */
    size_t target_bytes;
    emb_pipeline_result result;
    uint64_t position, resumed_position; /* bytes of the input that are dealt with */
    emb_status status, deferred;         /* of a failure; of a bad record that ended the reading */
    emb_error error, deferred_error;
    /* the reader's */
    emb_resume resume;
    /* the writer's */
    emb_buf out;
    bool last_line_checked;
    uint64_t start_ns;
} pipeline;

static void fail(pipeline *p, emb_status status, const emb_error *err)
{
    pthread_mutex_lock(&p->mutex);
    if (!p->status) {
        p->status = status;
        p->error = *err;
        p->error.code = status;
    }
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    emb_stop_now();
}

static void fail_stopped(pipeline *p)
{
    emb_error err;
    emb_status status = emb_fail(&err, EMB_E_CANCELLED, NULL, "stopped");
    fail(p, status, &err);
}

/* "data.jsonl:17", "text 3" */
static void place_of(const pipeline *p, uint64_t index, char *out, size_t size)
{
    const emb_input *input = p->options->input;
    if (emb_input_has_lines(input))
        snprintf(out, size, "%s:%" PRIu64, emb_input_name(input), index + 1);
    else
        snprintf(out, size, "text %" PRIu64, index + 1);
}

static void locate_error(const pipeline *p, uint64_t index, emb_error *err)
{
    char place[sizeof err->where];
    place_of(p, index, place, sizeof place);
    emb_error_context(err, "%s", place);
    err->where[0] = 0;
}

/* A record that is left out. */
static void drop(void *context, const emb_record *record, const emb_error *err)
{
    pipeline *p = context;
    char place[200];
    pthread_mutex_lock(&p->mutex);
    p->result.skipped++;
    pthread_mutex_unlock(&p->mutex);
    place_of(p, record->index, place, sizeof place);
    if (!p->options->quiet)
        emb_report(p->options->command, "%s: %s; skipped", place, err->message);
}

/* ---- reading ---- */

typedef enum fill_result { FILL_MORE, FILL_END, FILL_FAILED } fill_result;

/* A bad record ends the reading but not the work on what was read. */
static fill_result defer(pipeline *p, emb_status status, const emb_error *err)
{
    pthread_mutex_lock(&p->mutex);
    p->deferred = status;
    p->deferred_error = *err;
    pthread_mutex_unlock(&p->mutex);
    return FILL_END;
}

static fill_result take_record(pipeline *p, emb_slice *slice, const emb_record *record)
{
    emb_error err;
    emb_status status;
    if (emb_resume_active(&p->resume)) {
        bool there;
        status =
            emb_resume_check(&p->resume, p->options->formatter, record, p->options->skip_bad, &there, &err);
        if (status) {
            fail(p, status, &err);
            return FILL_FAILED;
        }
        pthread_mutex_lock(&p->mutex);
        p->result.resumed += there;
        p->result.skipped += !there;
        p->position = p->resumed_position = emb_input_position(p->options->input);
        pthread_mutex_unlock(&p->mutex);
        return FILL_MORE;
    }
    status = emb_slice_add(slice, record, &err);
    if (!status)
        return FILL_MORE;
    fail(p, status, &err);
    return FILL_FAILED;
}

static fill_result fill_one(pipeline *p, emb_slice *slice)
{
    emb_input *input = p->options->input;
    emb_record record;
    emb_error err;
    switch (emb_input_next(input, &record, &err)) {
    case EMB_INPUT_RECORD:
        return take_record(p, slice, &record);
    case EMB_INPUT_END:
        if (!emb_resume_active(&p->resume))
            return FILL_END;
        emb_fail(&err, EMB_E_INVALID, p->resume.name,
                 "%s has more lines than the input; delete the file to start over", p->resume.name);
        fail(p, err.code, &err);
        return FILL_FAILED;
    case EMB_INPUT_BAD:
        if (p->options->skip_bad) {
            drop(p, &record, &err);
            return FILL_MORE;
        }
        locate_error(p, record.index, &err);
        return defer(p, err.code, &err);
    case EMB_INPUT_STOPPED:
        fail_stopped(p);
        return FILL_FAILED;
    case EMB_INPUT_FAILED:
        return defer(p, err.code, &err);
    }
    return FILL_FAILED;
}

static fill_result fill_slice(pipeline *p, emb_slice *slice, size_t target_bytes)
{
    fill_result result;
    do {
        result = fill_one(p, slice);
    } while (result == FILL_MORE && slice->count < p->most_texts && slice->bytes.length < target_bytes &&
             (slice->count == 0 || emb_input_ready(p->options->input)));
    slice->input_position = emb_input_position(p->options->input);
    return result;
}

static bool over(const pipeline *p)
{
    return p->status || emb_stopped();
}

static void *read_slices(void *context)
{
    pipeline *p = context;
    fill_result result = FILL_MORE;
    pthread_mutex_lock(&p->mutex);
    while (result == FILL_MORE) {
        size_t at = p->filled % p->ring_size, target = p->target_bytes;
        while (!over(p) && p->state[at] != FREE)
            pthread_cond_wait(&p->changed, &p->mutex);
        if (over(p))
            break;
        pthread_mutex_unlock(&p->mutex);
        emb_slice_clear(&p->ring[at]);
        result = fill_slice(p, &p->ring[at], target);
        pthread_mutex_lock(&p->mutex);
        if (p->ring[at].count > 0 && result != FILL_FAILED) {
            p->state[at] = FILLED;
            p->filled++;
            pthread_cond_broadcast(&p->changed);
        }
    }
    p->read_all = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* ---- computing ---- */

/* The work ends behind the first `done` texts of the slice, which are still written. */
static emb_status refuse(pipeline *p, size_t at, size_t done, emb_status status, const emb_error *err)
{
    p->refused[at] = status;
    p->refused_error[at] = *err;
    p->ring[at].count = done;
    return EMB_OK;
}

static emb_status embed_slice(pipeline *p, size_t at, emb_error *err)
{
    emb_slice *slice = &p->ring[at];
    size_t bad;
    emb_status status = emb_slice_embed(slice, p->options->session->model, p->options->formatter->dimension,
                                        &p->embed, p->options->skip_bad ? drop : NULL, p, &bad, err);
    if (status != EMB_E_LIMIT)
        return status;
    locate_error(p, slice->items[bad].index, err);
    return refuse(p, at, bad, status, err);
}

/* Whatever ends the run, what was paid for is written. */
static emb_status embed_slice_through(pipeline *p, size_t at, emb_error *err)
{
    const emb_pipeline_options *o = p->options;
    emb_slice *slice = &p->ring[at];
    size_t done = 0;
    bool is_text = false;
    emb_status status = emb_slice_embed_through(slice, o->gate, emb_input_has_lines(o->input),
                                                o->skip_bad ? drop : NULL, p, &done, &is_text, err);
    if (!status || status == EMB_E_CANCELLED || status == EMB_E_NOMEM)
        return status;
    if (is_text)
        locate_error(p, slice->items[done].index, err);
    emb_gate_wait_no_more(o->gate);
    return refuse(p, at, done, status, err);
}

/* Under the mutex. */
static bool may_take(const pipeline *p)
{
    return p->taken < p->filled && !p->ending && (!p->options->gate || p->taken == 0 || p->first_done);
}

static void *compute_slices(void *context)
{
    pipeline *p = context;
    pthread_mutex_lock(&p->mutex);
    for (;;) {
        while (!over(p) && !may_take(p) && !p->ending && !(p->read_all && p->taken == p->filled))
            pthread_cond_wait(&p->changed, &p->mutex);
        if (over(p) || p->ending || p->taken == p->filled)
            break;
        size_t at = p->taken++ % p->ring_size;
        p->state[at] = TAKEN;
        pthread_mutex_unlock(&p->mutex);
        emb_error err;
        p->refused[at] = EMB_OK;
        emb_status status = p->options->gate ? embed_slice_through(p, at, &err) : embed_slice(p, at, &err);
        if (status)
            fail(p, status, &err);
        pthread_mutex_lock(&p->mutex);
        p->state[at] = DONE;
        p->first_done = true;
        p->ending |= p->refused[at] != EMB_OK;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* ---- writing ---- */

static emb_status flush(pipeline *p, size_t at_least, emb_error *err)
{
    if (p->out.length < at_least)
        return EMB_OK;
    emb_status status = emb_sink_write(p->options->sink, p->out.data, p->out.length, err);
    emb_buf_clear(&p->out);
    return status;
}

/* Whether the line is of the same record and space; then it stays as it was. */
static bool keep_last_line(pipeline *p, const emb_record *record)
{
    const emb_sink *sink = p->options->sink;
    emb_buf prefix = EMB_BUF_INIT((size_t)1 << 31);
    bool same = emb_format_prefix(p->options->formatter, &prefix, record) == EMB_OK &&
                prefix.length <= sink->last_length &&
                memcmp(prefix.data, sink->last_line, prefix.length) == 0;
    emb_buf_fini(&prefix);
    emb_buf_clear(&p->out);
    return same && emb_buf_add(&p->out, sink->last_line, sink->last_length) == EMB_OK;
}

/* The first line after a resumed start was there before and has to come out the same. */
static emb_status check_last_line(pipeline *p, const emb_record *record, emb_error *err)
{
    const emb_sink *sink = p->options->sink;
    if (p->last_line_checked || !sink->last_line)
        return EMB_OK;
    p->last_line_checked = true;
    if (p->options->gate && keep_last_line(p, record))
        return EMB_OK;
    if (p->out.length == sink->last_length && memcmp(p->out.data, sink->last_line, sink->last_length) == 0)
        return EMB_OK;
    return emb_fail(
        err, EMB_E_INVALID, sink->partial,
        "%s: its last line does not come out the same from this input, model and options; give what the "
        "first run was given, or delete the file to start over",
        sink->partial);
}

static emb_status format_failed(emb_status status, const emb_slice_item *item, emb_error *err)
{
    if (status == EMB_E_INVALID)
        return emb_fail(err, EMB_E_INTERNAL, NULL,
                        "the model gave a vector with a number that is not finite (text %" PRIu64 ")",
                        item->index + 1);
    return emb_fail_nomem(err, "output line", item->length);
}

/* What the first answer has decided, for the lines. */
static void describe(const pipeline *p)
{
    emb_formatter *f = p->options->formatter;
    emb_gate_place place;
    if (!p->options->gate || f->model || !emb_gate_where(p->options->gate, &place))
        return;
    f->model = place.model;
    f->space = place.space;
    f->dimension = place.dimension;
}

static emb_status write_slice(pipeline *p, const emb_slice *slice, emb_error *err)
{
    emb_formatter *f = p->options->formatter;
    describe(p);
    for (size_t i = 0; i < slice->count; i++) {
        emb_record record;
        if (slice->items[i].dropped)
            continue;
        emb_slice_record(slice, i, &record);
        emb_status status =
            emb_format_vector(f, &p->out, &record, slice->tokens[i], slice->vectors + i * f->dimension);
        if (status)
            return format_failed(status, &slice->items[i], err);
        if ((status = check_last_line(p, &record, err)) || (status = flush(p, FLUSH_BYTES, err)))
            return status;
    }
    return flush(p, 1, err);
}

/* Under the mutex. */
static void account(pipeline *p, const emb_slice *slice)
{
    double seconds = (double)(emb_now_ns() - p->start_ns) / 1e9;
    for (size_t i = 0; i < slice->count; i++)
        p->result.texts += !slice->items[i].dropped;
    p->result.tokens += slice->usage.tokens;
    p->result.truncated += slice->usage.truncated;
    p->position = slice->input_position;
    if (p->options->gate)
        return;
    double rate = (double)(p->position - p->resumed_position) / (seconds > 1e-3 ? seconds : 1e-3);
    double target = rate / 2;
    p->target_bytes = target < LEAST_BYTES ? LEAST_BYTES : target > MOST_BYTES ? MOST_BYTES : (size_t)target;
}

/* What runs beside a refused slice may be paid for, and ends in the cache if it is not cut off. */
static void await_running(pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    for (size_t i = 0; i < p->ring_size && !over(p); i++)
        while (!over(p) && p->state[i] == TAKEN)
            pthread_cond_wait(&p->changed, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
}

static void *write_slices(void *context)
{
    pipeline *p = context;
    pthread_mutex_lock(&p->mutex);
    for (;;) {
        size_t at = p->written % p->ring_size;
        while (!over(p) && p->state[at] != DONE && !(p->read_all && p->written == p->filled))
            pthread_cond_wait(&p->changed, &p->mutex);
        if (over(p) || p->state[at] != DONE)
            break;
        pthread_mutex_unlock(&p->mutex);
        emb_error err;
        emb_status status = write_slice(p, &p->ring[at], &err);
        if (!status && p->refused[at] && p->options->gate)
            await_running(p);
        if (status)
            fail(p, status, &err);
        else if (p->refused[at])
            fail(p, p->refused[at], &p->refused_error[at]);
        pthread_mutex_lock(&p->mutex);
        account(p, &p->ring[at]);
        p->state[at] = FREE;
        p->written++;
        pthread_cond_broadcast(&p->changed);
    }
    p->ended = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* ---- the whole ---- */

static void watch(pipeline *p)
{
    emb_progress progress;
    uint64_t size = emb_input_size(p->options->input);
    emb_progress_start(&progress, !p->options->quiet);
    pthread_mutex_lock(&p->mutex);
    while (!p->ended) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&p->changed, &p->mutex, &until);
        emb_progress_state state = {p->result.texts, p->result.tokens, -1, 0};
        if (size > 0) {
            state.share = (double)p->position / (double)size;
            state.resumed = (double)p->resumed_position / (double)size;
        }
        if (emb_stopped()) /* a signal handler cannot wake those who wait on the condition */
            pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->mutex);
        emb_progress_show(&progress, &state);
        pthread_mutex_lock(&p->mutex);
    }
    pthread_mutex_unlock(&p->mutex);
    emb_progress_end(&progress);
}

static void run_threads(pipeline *p)
{
    pthread_t threads[GATE_CALLERS + 2];
    size_t started = 0, roles = p->callers + 2;
    while (started < roles) {
        void *(*role)(void *) = started == 0 ? read_slices : started == 1 ? write_slices : compute_slices;
        if (pthread_create(&threads[started], NULL, role, p) != 0)
            break;
        started++;
    }
    if (started < roles) {
        emb_error err;
        fail(p, emb_fail(&err, EMB_E_NOMEM, NULL, "a thread could not be started"), &err);
    } else {
        watch(p);
    }
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

/* What stands behind the last vector, and in an .npy file before the first. */
static emb_status finish_output(pipeline *p, emb_error *err)
{
    emb_formatter *f = p->options->formatter;
    emb_sink *sink = p->options->sink;
    if (sink->last_line && !p->last_line_checked)
        return emb_fail(err, EMB_E_INVALID, sink->partial,
                        "%s has more lines than the input; delete the file to start over", sink->partial);
    emb_status status = flush(p, 1, err); /* the beginning, if nothing came after it */
    if (status)
        return status;
    status = emb_format_end(f, &p->out);
    if (!status && f->format == EMB_FORMAT_NPY)
        status = emb_format_npy_header(&p->out, f->written, f->dimension);
    if (status)
        return emb_fail_nomem(err, "output", EMB_NPY_HEADER_BYTES);
    if (f->format == EMB_FORMAT_NPY)
        return emb_sink_write_at(sink, p->out.data, p->out.length, err);
    return flush(p, 1, err);
}

static emb_status conclude(pipeline *p, emb_error *err)
{
    if (!p->status && emb_stopped())
        return emb_fail(err, EMB_E_CANCELLED, NULL, "stopped");
    if (p->status) {
        *err = p->error;
        return p->status;
    }
    if (p->deferred) {
        *err = p->deferred_error;
        return p->deferred;
    }
    return finish_output(p, err);
}

static const char *text_of(emb_json_value value, emb_arena *arena)
{
    const char *text;
    size_t length;
    return emb_json_string(value, &text, &length) ? emb_arena_strndup(arena, text, length) : NULL;
}

static emb_status read_place(const emb_sink *sink, emb_json_value line, emb_gate *gate, emb_error *err)
{
    emb_arena arena;
    emb_json_value model, space, dimension;
    emb_gate_place place = {.provider = ""};
    int64_t n = 0;
    emb_arena_init(&arena);
    if (emb_json_get(line, "model", &model) && emb_json_get(line, "space", &space) &&
        emb_json_get(line, "dimension", &dimension) && emb_json_int(dimension, &n) && n > 0) {
        place.model = text_of(model, &arena);
        place.space = text_of(space, &arena);
        place.dimension = (size_t)n;
    }
    emb_status status = place.model && place.space
                            ? emb_gate_go_on(gate, &place, err)
                            : emb_fail(err, EMB_E_INVALID, sink->partial,
                                       "%s: its last line names no space, so it was not made through the "
                                       "gateway; delete the file to start over",
                                       sink->partial);
    emb_arena_fini(&arena);
    return status;
}

/* A run that goes on stays in the space that it began in. */
static emb_status go_on_in_space(const pipeline *p, emb_error *err)
{
    const emb_sink *sink = p->options->sink;
    emb_json *line;
    if (!p->options->gate || !sink->last_line)
        return EMB_OK;
    emb_status status = emb_json_open(sink->last_line, sink->last_length, sink->partial, &line, err);
    if (status)
        return status;
    status = read_place(sink, emb_json_root(line), p->options->gate, err);
    emb_json_close(line);
    if (!status)
        describe(p);
    return status;
}

static emb_status start_output(pipeline *p, emb_error *err)
{
    const emb_sink *sink = p->options->sink;
    emb_status status = emb_resume_open(&p->resume, sink->partial, sink->verified_end, err);
    if (!status)
        status = go_on_in_space(p, err);
    if (status)
        return status;
    status = emb_format_begin(p->options->formatter, &p->out);
    return status ? emb_fail_nomem(err, "output", EMB_NPY_HEADER_BYTES) : EMB_OK;
}

static void choose_sizes(pipeline *p)
{
    const emb_gate *gate = p->options->gate;
    size_t by_floats = gate ? GATE_TEXTS : MOST_FLOATS / p->options->formatter->dimension;
    p->most_texts = by_floats < 16 ? 16 : by_floats;
    p->ring_size = gate ? GATE_RING : RING;
    p->callers = gate ? GATE_CALLERS : CALLERS;
    if (gate && emb_gate_most_texts(gate) < p->most_texts)
        p->most_texts = emb_gate_most_texts(gate);
    if (p->options->batch_texts && p->options->batch_texts < p->most_texts)
        p->most_texts = p->options->batch_texts;
    p->target_bytes = gate ? GATE_BYTES : FIRST_BYTES;
    if (gate)
        return;
    p->embed = *p->options->embed;
    p->embed.cancel = emb_stop_flag();
}

emb_status emb_pipeline_run(const emb_pipeline_options *options, emb_pipeline_result *result, emb_error *err)
{
    pipeline *p = calloc(1, sizeof *p);
    memset(result, 0, sizeof *result);
    if (!p)
        return emb_fail_nomem(err, "pipeline", sizeof *p);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&p->mutex, NULL);
    p->options = options;
    p->start_ns = emb_now_ns();
    for (size_t i = 0; i < GATE_RING; i++)
        emb_slice_init(&p->ring[i]);
    emb_buf_init(&p->out, (size_t)1 << 31);
    choose_sizes(p);
    emb_status status = start_output(p, err);
    if (!status) {
        run_threads(p);
        status = conclude(p, err);
    }
    *result = p->result;
    result->seconds = (double)(emb_now_ns() - p->start_ns) / 1e9;
    for (size_t i = 0; i < GATE_RING; i++)
        emb_slice_fini(&p->ring[i]);
    emb_buf_fini(&p->out);
    emb_resume_close(&p->resume);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->mutex);
    free(p);
    return status;
}
