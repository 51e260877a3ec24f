/*
 * input.c: a line reader over a descriptor.
 *
 * Lines end with \n or \r\n, the last may lack it; a byte order mark at the start is dropped; NUL and
 * invalid UTF-8 are data like any other and the tokenizer's business (JSONL is checked by the parser).
 * stdio was not used: a reader must be able to wait for its descriptor and for a signal at once, and to
 * say whether it would have to wait, so that what has been read of a slow pipe is embedded meanwhile.
 *
 * A line over the limit is one bad record: it is skipped to its end without being kept.
 */
#include "cli/input.h"

#include "base/error.h"
#include "base/json.h"
#include "base/json_write.h"
#include "cli/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 256 << 10 };

struct emb_input {
    emb_input_options options;
    const char *name;
    /* arguments */
    char **texts;
    size_t text_count;
    /* lines */
    int fd; /* -1: arguments */
    bool jsonl, ended, discarding, started;
    emb_buf buffer; /* what was read, from `begin` on not yet given out */
    size_t begin, searched;
    uint64_t next_index, position, size;
    /* the record given out last */
    emb_json *document;
    emb_buf id;
};

static emb_status input_new(emb_input **out, const emb_input_options *options, const char *name,
                            emb_error *err)
{
    emb_input *in = calloc(1, sizeof *in);
    if (!in)
        return emb_fail_nomem(err, "reader", sizeof *in);
    in->options = *options;
    in->name = name;
    in->fd = -1;
    emb_buf_init(&in->buffer, EMB_LINE_MAX + READ_BYTES + 1);
    emb_buf_init(&in->id, EMB_LINE_MAX * 7);
    *out = in;
    return EMB_OK;
}

emb_status emb_input_open_arguments(emb_input **out, char **texts, size_t count,
                                    const emb_input_options *options, emb_error *err)
{
    emb_status status = input_new(out, options, "argument", err);
    if (!status) {
        (*out)->texts = texts;
        (*out)->text_count = count;
    }
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

emb_status emb_input_open_file(emb_input **out, const char *path, const emb_input_options *options,
                               emb_error *err)
{
    bool standard = strcmp(path, "-") == 0;
    struct stat info;
    emb_input *in;
    emb_status status = input_new(&in, options, standard ? "standard input" : path, err);
    if (status)
        return status;
    in->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0 || fstat(in->fd, &info) < 0)
        status = emb_fail_errno(err, in->name, "reading");
    else if (S_ISDIR(info.st_mode))
        status = emb_fail(err, EMB_E_INVALID, path, "%s is a directory; --input takes a file", path);
    if (status) {
        emb_input_close(in);
        return status;
    }
    in->jsonl =
        options->format == EMB_INPUT_JSONL ||
        (options->format == EMB_INPUT_AUTO && (ends_with(path, ".jsonl") || ends_with(path, ".ndjson")));
    if (S_ISREG(info.st_mode)) {
        off_t at = standard ? lseek(in->fd, 0, SEEK_CUR) : 0;
        if (at >= 0 && info.st_size > at)
            in->size = (uint64_t)(info.st_size - at);
    }
    *out = in;
    return EMB_OK;
}

void emb_input_close(emb_input *in)
{
    if (!in)
        return;
    if (in->fd > STDERR_FILENO)
        close(in->fd);
    emb_json_close(in->document);
    emb_buf_fini(&in->buffer);
    emb_buf_fini(&in->id);
    free(in);
}

const char *emb_input_name(const emb_input *in)
{
    return in->name;
}

bool emb_input_has_lines(const emb_input *in)
{
    return in->fd >= 0;
}

uint64_t emb_input_position(const emb_input *in)
{
    return in->position;
}

uint64_t emb_input_size(const emb_input *in)
{
    return in->size;
}

/* ---- lines ---- */

static emb_input_result fail(emb_input_result result, emb_status status)
{
    (void)status;
    return result;
}

/* Reads more behind what is buffered; sets `ended` at the end of the input. */
static emb_input_result fill(emb_input *in, emb_error *err)
{
    if (in->begin > 0) {
        memmove(in->buffer.data, in->buffer.data + in->begin, in->buffer.length - in->begin);
        in->buffer.length -= in->begin;
        in->searched -= in->begin;
        in->begin = 0;
    }
    emb_status status = emb_buf_reserve(&in->buffer, READ_BYTES);
    if (status)
        return fail(EMB_INPUT_FAILED, emb_fail_nomem(err, in->name, READ_BYTES));
    for (;;) {
        if (!emb_stop_wait_readable(in->fd))
            return EMB_INPUT_STOPPED;
        ssize_t n = read(in->fd, in->buffer.data + in->buffer.length, READ_BYTES);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return fail(EMB_INPUT_FAILED, emb_fail_errno(err, in->name, "reading"));
        in->ended = n == 0;
        in->buffer.length += (size_t)n;
        return EMB_INPUT_RECORD;
    }
}

static emb_input_result check_start(emb_input *in, emb_error *err)
{
    const char *data = in->buffer.data;
    size_t n = in->buffer.length;
    in->started = true;
    if (n >= 2 && (memcmp(data, "\xFF\xFE", 2) == 0 || memcmp(data, "\xFE\xFF", 2) == 0))
        return fail(EMB_INPUT_FAILED,
                    emb_fail(err, EMB_E_CORRUPT, in->name,
                             "%s is UTF-16 text; convert it first: iconv -f UTF-16 -t UTF-8", in->name));
    if (n >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0) {
        in->begin = in->searched = 3;
        in->position = 3;
    }
    return EMB_INPUT_RECORD;
}

/* The next newline in the buffer, or NULL. */
static char *find_newline(emb_input *in)
{
    if (in->searched >= in->buffer.length)
        return NULL;
    char *found = memchr(in->buffer.data + in->searched, '\n', in->buffer.length - in->searched);
    in->searched = found ? (size_t)(found - in->buffer.data) : in->buffer.length;
    return found;
}

/* Gives out one line without its end. */
static emb_input_result next_line(emb_input *in, const char **line, size_t *length, emb_error *err)
{
    char *newline;
    emb_input_result result;
    while (!(newline = find_newline(in))) {
        size_t waiting = in->buffer.length - in->begin;
        if (in->ended && waiting == 0 && !in->discarding)
            return EMB_INPUT_END;
        if (in->ended)
            break;
        if (waiting > EMB_LINE_MAX || in->discarding) {
            in->discarding = true;
            in->position += waiting;
            in->begin = in->searched = in->buffer.length;
        }
        if ((result = fill(in, err)) != EMB_INPUT_RECORD ||
            (!in->started && (in->buffer.length >= 3 || in->ended) &&
             (result = check_start(in, err)) != EMB_INPUT_RECORD))
            return result;
    }
    in->started = true;
    size_t end = newline ? (size_t)(newline - in->buffer.data) : in->buffer.length;
    size_t taken = end - in->begin + (newline != NULL);
    *line = in->buffer.data + in->begin;
    *length = end - in->begin;
    in->position += taken;
    in->begin += taken;
    in->searched = in->begin;
    in->next_index++;
    if (in->discarding || *length > EMB_LINE_MAX) {
        in->discarding = false;
        return fail(EMB_INPUT_BAD, emb_fail(err, EMB_E_LIMIT, NULL, "the line is over the limit of %zu MiB",
                                            EMB_LINE_MAX >> 20));
    }
    if (*length > 0 && (*line)[*length - 1] == '\r')
        --*length;
    return EMB_INPUT_RECORD;
}

bool emb_input_ready(emb_input *in)
{
    if (in->fd < 0 || in->ended)
        return true;
    if (in->buffer.length > in->begin &&
        memchr(in->buffer.data + in->begin, '\n', in->buffer.length - in->begin))
        return true;
    return emb_stop_readable_within(in->fd, 20);
}

/* ---- JSONL ---- */

static bool is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

/* The keys of an object in a few words, for the message about a missing one. */
static void list_keys(emb_json_value object, char *out, size_t size)
{
    emb_json_iter it = emb_json_begin(object);
    const char *key;
    size_t length, used = 0, shown = 0;
    emb_json_value value;
    out[0] = 0;
    while (emb_json_next(&it, &key, &length, &value) && shown < 6) {
        int n = snprintf(out + used, size - used, "%s\"%.*s\"", shown ? ", " : "",
                         (int)(length < 40 ? length : 40), key);
        if (n < 0 || (size_t)n >= size - used)
            break;
        used += (size_t)n;
        shown++;
    }
    if (!shown)
        snprintf(out, size, "none");
}

static emb_input_result take_id(emb_input *in, emb_json_value object, emb_record *record, emb_error *err)
{
    const char *key = in->options.id_key ? in->options.id_key : "id", *text;
    size_t length;
    int64_t number;
    emb_json_value value;
    emb_status status;
    if (!emb_json_get(object, key, &value)) {
        if (!in->options.id_key)
            return EMB_INPUT_RECORD;
        return fail(EMB_INPUT_BAD,
                    emb_fail(err, EMB_E_CORRUPT, NULL, "there is no key \"%s\" for the id", key));
    }
    emb_buf_clear(&in->id);
    if (emb_json_string(value, &text, &length))
        status = emb_json_write_string(&in->id, text, length);
    else if (emb_json_int(value, &number))
        status = emb_buf_addf(&in->id, "%lld", (long long)number);
    else if (emb_json_type_of(value) == EMB_JSON_NULL)
        return EMB_INPUT_RECORD;
    else
        return fail(EMB_INPUT_BAD, emb_fail(err, EMB_E_CORRUPT, NULL,
                                            "the id under \"%s\" is %s; it can be a string or an integer",
                                            key, emb_json_type_name(emb_json_type_of(value))));
    if (status)
        return fail(EMB_INPUT_FAILED, emb_fail_nomem(err, "id", length));
    record->id = in->id.data;
    record->id_length = in->id.length;
    return EMB_INPUT_RECORD;
}

static emb_input_result parse_json(emb_input *in, const char *line, size_t length, emb_record *record,
                                   emb_error *err)
{
    const char *key = in->options.text_key;
    emb_json_value root, value;
    char keys[300];
    emb_json_close(in->document);
    in->document = NULL;
    emb_status status = emb_json_open(line, length, "line", &in->document, err);
    if (status) {
        static const char prefix[] = "line: "; /* the caller names file and line */
        if (strncmp(err->message, prefix, sizeof prefix - 1) == 0)
            memmove(err->message, err->message + sizeof prefix - 1,
                    strlen(err->message) - (sizeof prefix - 2));
        err->where[0] = 0;
        return status == EMB_E_NOMEM ? EMB_INPUT_FAILED : EMB_INPUT_BAD;
    }
    root = emb_json_root(in->document);
    if (emb_json_type_of(root) != EMB_JSON_OBJECT)
        return fail(EMB_INPUT_BAD,
                    emb_fail(err, EMB_E_CORRUPT, NULL, "the line is %s, not an object like {\"%s\": \"...\"}",
                             emb_json_type_name(emb_json_type_of(root)), key));
    if (!emb_json_get(root, key, &value)) {
        list_keys(root, keys, sizeof keys);
        return fail(EMB_INPUT_BAD,
                    emb_fail(err, EMB_E_CORRUPT, NULL,
                             "there is no key \"%s\" (keys: %s); --text-key names another", key, keys));
    }
    if (!emb_json_string(value, &record->text, &record->length))
        return fail(EMB_INPUT_BAD, emb_fail(err, EMB_E_CORRUPT, NULL, "\"%s\" is %s, not a string", key,
                                            emb_json_type_name(emb_json_type_of(value))));
    return take_id(in, root, record, err);
}

/* ---- records ---- */

static emb_input_result next_argument(emb_input *in, emb_record *record)
{
    if (in->next_index >= in->text_count)
        return EMB_INPUT_END;
    record->text = in->texts[in->next_index];
    record->length = strlen(record->text);
    record->index = in->next_index++;
    return EMB_INPUT_RECORD;
}

static emb_input_result next_any(emb_input *in, emb_record *record, bool *blank, emb_error *err)
{
    emb_input_result result;
    memset(record, 0, sizeof *record);
    *blank = false;
    if (in->fd < 0)
        return next_argument(in, record);
    result = next_line(in, &record->text, &record->length, err);
    record->index = in->next_index - 1;
    if (result == EMB_INPUT_RECORD && in->jsonl) {
        *blank = is_blank(record->text, record->length);
        if (!*blank)
            result = parse_json(in, record->text, record->length, record, err);
    }
    return result;
}

emb_input_result emb_input_next(emb_input *in, emb_record *record, emb_error *err)
{
    for (;;) {
        bool blank;
        emb_input_result result = next_any(in, record, &blank, err);
        if (result != EMB_INPUT_RECORD)
            return result;
        if (!blank && !(in->options.skip_empty && record->length == 0))
            return result;
    }
}
