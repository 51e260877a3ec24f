/*
 * Warming: texts go through emb_service_embed like anybody's, in chunks of bulk priority, so that requests go
 * first and what is in the cache already is only counted.
 *
 * A chunk that fails is tried again text by text, so that one bad text costs itself alone. What fails because
 * the service is busy is waited for. Cancelling, closing and running out of memory end the work; the report
 * holds what was done.
 *
 * Texts of a file or of L2 are copied once, into one arena; a list of terms is a few kilobytes.
 */
#include "service/warm.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CHUNK_TEXTS = 128,
    FILE_BYTES_MAX = 1 << 30,
    BUSY_TRIES = 50,
    BUSY_WAIT_MS = 100,
    KEPT_BYTES = 1 << 20
};

typedef struct texts {
    emb_arena arena;
    emb_text *data;
    size_t count, capacity;
    emb_status status;
} texts;

/* ---- gathering texts ------------------------------------------------------------------------- */

static bool add_text(texts *t, const char *data, size_t length, bool copy)
{
    if (t->count == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 256;
        emb_text *more = realloc(t->data, capacity * sizeof *more);
        if (!more) {
            t->status = EMB_E_NOMEM;
            return false;
        }
        t->data = more;
        t->capacity = capacity;
    }
    if (copy && !(data = emb_arena_strndup(&t->arena, data, length))) {
        t->status = EMB_E_NOMEM;
        return false;
    }
    t->data[t->count++] = (emb_text){data, length};
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static emb_status bad_line(const char *path, size_t line, const char *what, emb_error *err)
{
    return emb_fail(err, EMB_E_INVALID, path, "line %zu %s", line, what);
}

/* A line of JSONL: a string, or an object with "text". */
static emb_status add_json(texts *t, const char *path, size_t line, const char *data, size_t length,
                           emb_error *err)
{
    emb_json *document;
    emb_json_value value;
    const char *text;
    size_t text_length;
    emb_status status = emb_json_open(data, length, path, &document, err);
    if (status) {
        (void)emb_error_context(err, "line %zu", line);
        return status == EMB_E_CORRUPT ? EMB_E_INVALID : status;
    }
    value = emb_json_root(document);
    if (emb_json_type_of(value) == EMB_JSON_OBJECT && !emb_json_get(value, "text", &value))
        status = bad_line(path, line, "has no member \"text\"", err);
    else if (!emb_json_string(value, &text, &text_length))
        status = bad_line(path, line, "is neither a string nor an object whose \"text\" is one", err);
    else if (text_length && !add_text(t, text, text_length, true))
        status = emb_fail_nomem(err, "texts", text_length);
    emb_json_close(document);
    return status;
}

/* One line without its end; '#' begins a comment only at the start, since texts have it too. */
static emb_status add_line(texts *t, const char *path, size_t line, const char *data, size_t length,
                           bool json, emb_error *err)
{
    while (length && is_space(*data)) {
        data++;
        length--;
    }
    while (length && is_space(data[length - 1]))
        length--;
    if (!length || (!json && *data == '#'))
        return EMB_OK;
    if (json)
        return add_json(t, path, line, data, length, err);
    if (emb_utf8_valid_prefix(data, length) != length)
        return bad_line(path, line, "is not UTF-8", err);
    return add_text(t, data, length, false) ? EMB_OK : emb_fail_nomem(err, "texts", length);
}

/* A file is JSONL if its name says so, or its first character. */
static bool is_json(const char *path, const char *data, size_t length)
{
    size_t n = strlen(path), at = 0;
    if ((n > 6 && strcmp(path + n - 6, ".jsonl") == 0) || (n > 7 && strcmp(path + n - 7, ".ndjson") == 0))
        return true;
    while (at < length && (is_space(data[at]) || data[at] == '\n'))
        at++;
    return at + 1 < length && data[at] == '{' && data[length - 1 - (data[length - 1] == '\n')] == '}';
}

/* *data is the file's contents, to be released with free after the texts. */
static emb_status read_file(texts *t, const char *path, char **data, emb_error *err)
{
    size_t length, line = 1;
    emb_status status = emb_read_file(path, FILE_BYTES_MAX, data, &length, err);
    if (status)
        return status;
    const char *at = *data, *end = *data + length;
    if (length >= 3 && memcmp(at, "\xEF\xBB\xBF", 3) == 0)
        at += 3;
    bool json = is_json(path, at, (size_t)(end - at));
    for (; at < end && !status; line++) {
        const char *next = memchr(at, '\n', (size_t)(end - at));
        status = add_line(t, path, line, at, (size_t)((next ? next : end) - at), json, err);
        at = next ? next + 1 : end;
    }
    return status;
}

static bool add_used(void *context, const emb_cache_key *key, const char *model, const float *vector,
                     uint32_t dimension, uint32_t tokens, const char *text, size_t text_length)
{
    texts *t = context;
    (void)key, (void)model, (void)vector, (void)dimension, (void)tokens;
    return !text || !text_length || add_text(t, text, text_length, true);
}

static emb_status read_used(emb_service *service, texts *t, size_t limit, emb_error *err)
{
    emb_cache *cache = emb_service_cache(service);
    if (!cache)
        return emb_fail(err, EMB_E_INVALID, "cache.enabled",
                        "the most used texts are asked for, but caching is off");
    emb_config *config = emb_service_config(service);
    bool stored = config->cache_store_text;
    emb_config_release(config);
    emb_status status = emb_cache_most_used(cache, limit, add_used, t, err);
    if (!status && !t->status && !t->count && !stored)
        return emb_fail(err, EMB_E_INVALID, "cache.store_text",
                        "the cache holds no texts, only vectors; cache.store_text makes it keep them");
    return status;
}

static emb_status gather(emb_service *service, const emb_warm_source *source, texts *t, char **data,
                         emb_error *err)
{
    emb_status status = EMB_OK;
    if (source->list) {
        const emb_term_list *list = emb_term_list_find(source->list);
        if (!list)
            return emb_fail(err, EMB_E_NOT_FOUND, "list", "there is no list \"%.100s\"; those that ship: %s",
                            source->list, emb_term_list_at(0)->name);
        for (size_t i = 0; i < list->count && !t->status; i++)
            add_text(t, list->terms[i], strlen(list->terms[i]), false);
    } else if (source->file) {
        status = read_file(t, source->file, data, err);
    } else if (source->most_used) {
        status = read_used(service, t, source->most_used, err);
    } else {
        for (size_t i = 0; i < source->count && !t->status; i++)
            add_text(t, source->texts[i].data, source->texts[i].length, false);
    }
    return status || !t->status ? status : emb_fail_nomem(err, "texts", t->capacity * sizeof *t->data);
}

/* ---- embedding ------------------------------------------------------------------------------- */

typedef struct warming {
    emb_service *service;
    emb_request request;
    emb_warm_report *report;
    emb_arena arena; /* of one answer */
} warming;

static bool ends_all(emb_status status, const emb_error *err)
{
    if (status == EMB_E_FORBIDDEN) /* the model to this key; else a text that may not leave */
        return err && strcmp(err->where, "model") == 0;
    return status == EMB_E_CANCELLED || status == EMB_E_CLOSED || status == EMB_E_NOT_FOUND ||
           status == EMB_E_UNSUPPORTED || status == EMB_E_NOMEM || status == EMB_E_DEADLINE;
}

static emb_status embed_range(warming *w, const emb_text *data, size_t count, emb_error *err)
{
    const struct timespec moment = {.tv_nsec = BUSY_WAIT_MS * 1000000};
    emb_answer answer;
    emb_status status;
    w->request.texts = data;
    w->request.count = count;
    for (int tries = 1;; tries++) {
        emb_arena_reset(&w->arena, KEPT_BYTES);
        status = emb_service_embed(w->service, &w->request, &w->arena, &answer, err);
        if (status != EMB_E_BUSY || tries >= BUSY_TRIES)
            break;
        nanosleep(&moment, NULL);
    }
    if (status)
        return status;
    w->report->cached += answer.cached;
    w->report->computed += count - answer.cached;
    w->report->tokens += answer.total_tokens;
    strncpy(w->report->model, answer.model, sizeof w->report->model - 1);
    emb_answer_done(&answer);
    return EMB_OK;
}

/* A chunk; where it fails, its texts one by one. */
static emb_status embed_chunk(warming *w, const emb_text *data, size_t count, emb_error *err)
{
    emb_status status = embed_range(w, data, count, err);
    if (!status || ends_all(status, err))
        return status;
    for (size_t i = 0; i < count; i++) {
        status = embed_range(w, data + i, 1, err);
        if (ends_all(status, err))
            return status;
        w->report->failed += status != EMB_OK;
    }
    return EMB_OK;
}

static emb_status embed_all(warming *w, const texts *t, emb_warm_progress progress, void *context,
                            emb_error *err)
{
    emb_config *config = emb_service_config(w->service);
    size_t chunk = config->max_inputs < CHUNK_TEXTS ? config->max_inputs : CHUNK_TEXTS;
    emb_config_release(config);
    for (size_t done = 0; done < t->count;) {
        size_t n = t->count - done < chunk ? t->count - done : chunk;
        emb_status status = embed_chunk(w, t->data + done, n, err);
        if (status)
            return status;
        done += n;
        if (progress)
            progress(context, done, t->count);
    }
    return EMB_OK;
}

emb_status emb_warm(emb_service *service, const emb_warm_source *source, const char *model, emb_role role,
                    emb_warm_progress progress, void *context, const volatile int *cancel,
                    emb_warm_report *report, emb_error *err)
{
    uint64_t start = emb_now_ns();
    texts t = {.data = NULL};
    char *data = NULL;
    memset(report, 0, sizeof *report);
    emb_arena_init(&t.arena);
    warming w = {.service = service, .report = report, .request = EMB_REQUEST_INIT};
    emb_arena_init(&w.arena);
    w.request.model = model;
    w.request.role = role;
    w.request.priority = EMB_PRIORITY_BULK;
    w.request.cancel = cancel;
    w.request.caller = source->caller;
    emb_status status = gather(service, source, &t, &data, err);
    report->texts = t.count;
    if (!status)
        status = embed_all(&w, &t, progress, context, err);
    emb_arena_fini(&w.arena);
    emb_arena_fini(&t.arena);
    free(t.data);
    free(data);
    report->elapsed_ns = emb_now_ns() - start;
    return status;
}
