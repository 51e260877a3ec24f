/*
 * dotenv.c: the file .env, as the tools that share it with us read it.
 *
 * There is no standard; this is what docker compose, python-dotenv and a shell agree on: KEY=VALUE, `export `
 * before it, # for comments (after a value only behind white space), 'single' quotes with \' and \\, "double"
 * quotes with \n \r \t \" \\ \$ as well, both over several lines (other programs keep PEM keys there).
 * ${NAME} is not expanded. The file belongs to others too: what stands under names that are not ours is not
 * looked at, but a line that cannot be read at all is an error, since nothing behind it could be trusted.
 * Messages name the line and never its text.
 *
 * A directory called .env (some keep a virtual environment there) counts as no file.
 */
#include "config/parts.h"

#include "base/error.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DOTENV_MAX_BYTES = 1 << 20 };

typedef struct reader {
    const char *path, *at, *end;
    size_t line;
    emb_arena *arena;
    emb_variables *out;
    emb_error *err;
} reader;

static emb_status bad(const reader *r, size_t line, const char *problem)
{
    char where[sizeof r->err->where];
    snprintf(where, sizeof where, "%s:%zu", r->path, line);
    return emb_fail(r->err, EMB_E_INVALID, where, "%s: %s", where, problem);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks(reader *r)
{
    while (r->at < r->end && is_blank(*r->at))
        r->at++;
}

static void skip_line(reader *r)
{
    while (r->at < r->end && *r->at != '\n')
        r->at++;
}

static char unescaped(char c)
{
    return c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
}

/* r->at is behind the opening quote; the value is written to `to`, which has room for the rest of the file.
 */
static emb_status read_quoted(reader *r, char quote, char *to, size_t *length)
{
    size_t start = r->line, n = 0;
    for (; r->at < r->end && *r->at != quote; r->at++) {
        char c = *r->at, next = r->at + 1 < r->end ? r->at[1] : 0;
        bool escapes =
            c == '\\' && (next == quote || next == '\\' || (quote == '"' && next && strchr("nrt$", next)));
        if (escapes) {
            r->at++;
            c = quote == '"' ? unescaped(next) : next;
        }
        r->line += c == '\n' && !escapes;
        to[n++] = c;
    }
    if (r->at == r->end)
        return bad(r, start, "the quote that opens here is not closed");
    r->at++;
    skip_blanks(r);
    if (r->at < r->end && *r->at != '\n' && *r->at != '#')
        return bad(r, r->line, "something follows the closing quote");
    *length = n;
    return EMB_OK;
}

static size_t read_plain(reader *r, char *to)
{
    const char *start = r->at, *stop = start;
    for (; r->at < r->end && *r->at != '\n'; r->at++) {
        if (*r->at == '#' && (r->at == start || is_blank(r->at[-1])))
            break;
        if (!is_blank(*r->at))
            stop = r->at + 1;
    }
    memcpy(to, start, (size_t)(stop - start));
    return (size_t)(stop - start);
}

static emb_status add(reader *r, const char *name, size_t name_length, const char *value, size_t length,
                      size_t line)
{
    emb_variables *v = r->out;
    if (v->count == v->capacity) { /* the old array stays in the arena: at most as much again */
        size_t capacity = v->capacity ? 2 * v->capacity : 16;
        emb_variable *items = emb_arena_calloc(r->arena, capacity, sizeof *items);
        if (!items)
            return emb_fail_nomem(r->err, r->path, capacity * sizeof *items);
        if (v->count)
            memcpy(items, v->items, v->count * sizeof *items);
        v->items = items;
        v->capacity = capacity;
    }
    emb_variable variable = {emb_arena_strndup(r->arena, name, name_length),
                             emb_arena_strndup(r->arena, value, length), line};
    if (!variable.name || !variable.value)
        return emb_fail_nomem(r->err, r->path, length);
    v->items[v->count++] = variable;
    return EMB_OK;
}

/* r->at is at the first character of a line that is neither empty nor a comment. */
static emb_status read_assignment(reader *r, char *scratch)
{
    size_t line = r->line, length = 0;
    if (r->end - r->at > 7 && memcmp(r->at, "export", 6) == 0 && is_blank(r->at[6])) {
        r->at += 6;
        skip_blanks(r);
    }
    const char *name = r->at;
    while (r->at < r->end && *r->at != '=' && *r->at != '\n' && !is_blank(*r->at))
        r->at++;
    size_t name_length = (size_t)(r->at - name);
    skip_blanks(r);
    if (r->at == r->end || *r->at != '=' || name_length == 0)
        return bad(r, line, "this line is not of the form NAME=VALUE");
    r->at++;
    skip_blanks(r);
    emb_status status = EMB_OK;
    if (r->at < r->end && (*r->at == '"' || *r->at == '\'')) {
        char quote = *r->at++;
        status = read_quoted(r, quote, scratch, &length);
    } else {
        length = read_plain(r, scratch);
    }
    return status ? status : add(r, name, name_length, scratch, length, line);
}

emb_status emb_dotenv_parse(const char *path, const char *text, size_t length, emb_arena *arena,
                            emb_variables *out, emb_error *err)
{
    reader r = {
        .path = path, .at = text, .end = text + length, .line = 1, .arena = arena, .out = out, .err = err};
    *out = (emb_variables){.file = path};
    if (memchr(text, 0, length))
        return emb_fail(err, EMB_E_INVALID, path, "%s: holds a NUL byte", path);
    if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        r.at += 3;
    char *scratch = malloc(length + 1);
    if (!scratch)
        return emb_fail_nomem(err, path, length);
    emb_status status = EMB_OK;
    while (!status && r.at < r.end) {
        skip_blanks(&r);
        if (r.at < r.end && *r.at != '\n' && *r.at != '#')
            status = read_assignment(&r, scratch);
        if (!status) {
            skip_line(&r);
            r.at += r.at < r.end;
            r.line++;
        }
    }
    explicit_bzero(scratch, length + 1);
    free(scratch);
    return status;
}

emb_status emb_dotenv_read(const char *path, emb_arena *arena, emb_variables *out, emb_error *err)
{
    char *text;
    size_t length;
    *out = (emb_variables){.file = path};
    if (emb_is_directory(path))
        return EMB_OK;
    emb_status status = emb_read_file(path, DOTENV_MAX_BYTES, &text, &length, err);
    if (status == EMB_E_NOT_FOUND) {
        if (err)
            *err = (emb_error){0};
        return EMB_OK;
    }
    if (status)
        return status;
    status = emb_dotenv_parse(path, text, length, arena, out, err);
    explicit_bzero(text, length);
    free(text);
    return status;
}
