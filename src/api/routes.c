/*
 * routes.c: one hash table for paths without parameters, a list for the rest.
 *
 * Nearly every request goes to a fixed path, which costs one hash and one comparison. Paths with parameters
 * are few (a dozen) and are matched segment by segment, one after the other; a trie would be more code than
 * it saves time. Distances for "did you mean" are only computed for paths that are nowhere and bounded by
 * NEAR_PATH_MAX, about 100 µs.
 *
 * Invariants: rows of one path are chained by `next`, first one first; slots is a power of two at least twice
 * the rows.
 */
#include "api/routes.h"

#include "base/error.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = -1, NEAR_PATH_MAX = 96, PARAMETERS_MAX = 4 };

struct emb_route_table {
    const emb_route **rows;
    int *next;       /* the next row of the same path, or NONE */
    int *first;      /* the first row of the same path */
    int *slots;      /* first rows of fixed paths, by hash of the path */
    int *patterns;   /* first rows of paths with parameters, those with "..." last */
    int *by_address; /* first rows, by hash of the path's address */
    size_t count, slot_count, pattern_count;
};

static bool has_parameters(const char *path)
{
    return strchr(path, '{') != NULL;
}

static bool takes_rest(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, "...}") == 0;
}

static bool is_well_formed(const char *path)
{
    size_t parameters = 0;
    if (*path != '/')
        return false;
    for (const char *p = path; (p = strchr(p, '{')); parameters++) {
        const char *end = strchr(p, '}');
        if (p[-1] != '/' || !end || (end[1] && end[1] != '/') || end == p + 1)
            return false;
        p = end;
    }
    return parameters <= PARAMETERS_MAX;
}

static size_t slot_of(const emb_route_table *t, const char *path, size_t length)
{
    return emb_hash(path, length, 0) & (t->slot_count - 1);
}

static size_t address_slot_of(const emb_route_table *t, const char *path)
{
    return emb_hash(&path, sizeof path, 1) & (t->slot_count - 1);
}

static int find_fixed(const emb_route_table *t, const char *path, size_t length)
{
    for (size_t s = slot_of(t, path, length); t->slots[s] != NONE; s = (s + 1) & (t->slot_count - 1)) {
        const char *candidate = t->rows[t->slots[s]]->path;
        if (strncmp(candidate, path, length) == 0 && !candidate[length])
            return t->slots[s];
    }
    return NONE;
}

/* The first row with this very path, parameters spelled alike, before row `limit`. */
static int find_same(const emb_route_table *t, const char *path, size_t limit)
{
    for (size_t i = 0; i < limit; i++)
        if (strcmp(t->rows[i]->path, path) == 0)
            return (int)i;
    return NONE;
}

static void remember_address(emb_route_table *t, int row, int first)
{
    const char *path = t->rows[row]->path;
    size_t s = address_slot_of(t, path);
    while (t->by_address[s] != NONE && t->rows[t->by_address[s]]->path != path)
        s = (s + 1) & (t->slot_count - 1);
    if (t->by_address[s] == NONE)
        t->by_address[s] = row;
    t->first[row] = first;
}

static emb_status add_row(emb_route_table *t, size_t i, emb_error *err)
{
    const emb_route *row = t->rows[i];
    if (!is_well_formed(row->path) || !row->methods || !row->handle)
        return emb_fail(err, EMB_E_INVALID, row->path, "route %s: malformed", row->path);
    if (!row->rights || row->rights & ~(unsigned)EMB_RIGHT_ANY)
        return emb_fail(err, EMB_E_INVALID, row->path, "route %s: says no right of keys", row->path);
    int first = find_same(t, row->path, i);
    t->next[i] = NONE;
    remember_address(t, (int)i, first == NONE ? (int)i : first);
    if (first != NONE) {
        for (int r = first;; r = t->next[r]) {
            if (t->rows[r]->methods & row->methods)
                return emb_fail(err, EMB_E_INVALID, row->path, "route %s: a method is there twice",
                                row->path);
            if (t->next[r] == NONE) {
                t->next[r] = (int)i;
                return EMB_OK;
            }
        }
    }
    if (has_parameters(row->path)) {
        t->patterns[t->pattern_count++] = (int)i;
        return EMB_OK;
    }
    size_t s = slot_of(t, row->path, strlen(row->path));
    while (t->slots[s] != NONE)
        s = (s + 1) & (t->slot_count - 1);
    t->slots[s] = (int)i;
    return EMB_OK;
}

/* Stable: those that take the rest of a path go behind the others. */
static void sort_patterns(emb_route_table *t)
{
    for (size_t i = 1; i < t->pattern_count; i++)
        for (size_t j = i; j > 0 && takes_rest(t->rows[t->patterns[j - 1]]->path) &&
                           !takes_rest(t->rows[t->patterns[j]]->path);
             j--) {
            int swap = t->patterns[j];
            t->patterns[j] = t->patterns[j - 1];
            t->patterns[j - 1] = swap;
        }
}

emb_status emb_routes_open(const emb_route *const *families, size_t count, emb_route_table **out,
                           emb_error *err)
{
    emb_status status;
    emb_route_table *t = calloc(1, sizeof *t);
    if (!t)
        return emb_fail_nomem(err, "routes", sizeof *t);
    for (size_t f = 0; f < count; f++)
        for (const emb_route *r = families[f]; r->path; r++)
            t->count++;
    for (t->slot_count = 16; t->slot_count < 2 * t->count; t->slot_count *= 2)
        ;
    t->rows = calloc(t->count + 1, sizeof *t->rows);
    t->next = calloc(t->count + 1, sizeof *t->next);
    t->first = calloc(t->count + 1, sizeof *t->first);
    t->patterns = calloc(t->count + 1, sizeof *t->patterns);
    t->slots = malloc(t->slot_count * sizeof *t->slots);
    t->by_address = malloc(t->slot_count * sizeof *t->by_address);
    if (!t->rows || !t->next || !t->first || !t->patterns || !t->slots || !t->by_address) {
        status = emb_fail_nomem(err, "routes", t->slot_count * sizeof *t->slots);
        goto fail;
    }
    for (size_t s = 0; s < t->slot_count; s++)
        t->slots[s] = t->by_address[s] = NONE;
    size_t n = 0;
    for (size_t f = 0; f < count; f++)
        for (const emb_route *r = families[f]; r->path; r++)
            t->rows[n++] = r;
    for (size_t i = 0; i < n; i++)
        if ((status = add_row(t, i, err)))
            goto fail;
    sort_patterns(t);
    *out = t;
    return EMB_OK;
fail:
    emb_routes_close(t);
    return status;
}

void emb_routes_close(emb_route_table *t)
{
    if (!t)
        return;
    free(t->rows);
    free(t->next);
    free(t->first);
    free(t->patterns);
    free(t->slots);
    free(t->by_address);
    free(t);
}

/* Whether path[0 .. length-1] is of the pattern; its parameters as starts and lengths. */
static bool match_pattern(const char *pattern, const char *path, size_t length, const char **starts,
                          size_t *lengths, size_t *count)
{
    const char *end = path + length;
    *count = 0;
    while (*pattern) {
        if (*pattern != '{') {
            if (path == end || *pattern++ != *path++)
                return false;
            continue;
        }
        const char *close = strchr(pattern, '}');
        bool rest = close[-1] == '.';
        const char *stop = rest ? end : memchr(path, '/', (size_t)(end - path));
        if (!stop)
            stop = end;
        if (stop == path)
            return false;
        starts[*count] = path;
        lengths[(*count)++] = (size_t)(stop - path);
        path = stop;
        pattern = close + 1;
    }
    return path == end;
}

static int find_pattern(const emb_route_table *t, const char *path, size_t length, emb_arena *arena,
                        emb_route_match *out, bool *nomem)
{
    const char *starts[PARAMETERS_MAX];
    size_t lengths[PARAMETERS_MAX], count;
    for (size_t i = 0; i < t->pattern_count; i++) {
        if (!match_pattern(t->rows[t->patterns[i]]->path, path, length, starts, lengths, &count))
            continue;
        for (size_t p = 0; p < count; p++)
            if (!(out->parameters[p] = emb_arena_strndup(arena, starts[p], lengths[p])))
                *nomem = true;
        return t->patterns[i];
    }
    return NONE;
}

emb_route_result emb_routes_find(const emb_route_table *t, emb_http_method method, const char *path,
                                 emb_arena *arena, emb_route_match *out)
{
    bool nomem = false;
    size_t length = strlen(path);
    memset(out, 0, sizeof *out);
    int row = find_fixed(t, path, length);
    if (row == NONE && length > 1 && path[length - 1] == '/')
        row = find_fixed(t, path, --length);
    if (row == NONE)
        row = find_pattern(t, path, length, arena, out, &nomem);
    if (nomem)
        return EMB_ROUTE_NOMEM;
    if (row == NONE)
        return EMB_ROUTE_NOT_FOUND;
    unsigned wanted = method == EMB_HTTP_HEAD ? EMB_HTTP_HEAD | EMB_HTTP_GET : method;
    for (int r = row; r != NONE; r = t->next[r]) {
        out->methods |= t->rows[r]->methods;
        if (t->rows[r]->methods & wanted)
            out->route = t->rows[r];
    }
    if (out->methods & EMB_HTTP_GET)
        out->methods |= EMB_HTTP_HEAD;
    if (out->route)
        return EMB_ROUTE_FOUND;
    out->route = t->rows[row];
    return EMB_ROUTE_NO_METHOD;
}

size_t emb_routes_count(const emb_route_table *t)
{
    return t->count;
}

const emb_route *emb_routes_at(const emb_route_table *t, size_t index)
{
    return index < t->count ? t->rows[index] : NULL;
}

size_t emb_routes_index(const emb_route_table *t, const char *path)
{
    for (size_t s = address_slot_of(t, path); t->by_address[s] != NONE; s = (s + 1) & (t->slot_count - 1))
        if (t->rows[t->by_address[s]]->path == path)
            return (size_t)t->first[t->by_address[s]];
    return t->count;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edits from a to b. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NEAR_PATH_MAX + 1], m = strlen(a), n = strlen(b);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];
            row[j] = least(least(above, row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[n];
}

size_t emb_routes_near(const emb_route_table *t, const char *path, const emb_route **out, size_t most)
{
    size_t distances[8], found = 0;
    if (strlen(path) > NEAR_PATH_MAX)
        return 0;
    if (most > 8)
        most = 8;
    for (size_t i = 0; i < t->count; i++) {
        if ((size_t)t->first[i] != i || strlen(t->rows[i]->path) > NEAR_PATH_MAX)
            continue;
        size_t d = distance(path, t->rows[i]->path), at = found;
        while (at > 0 && distances[at - 1] > d)
            at--;
        if (at == most)
            continue;
        found = found < most ? found + 1 : most;
        for (size_t j = found - 1; j > at; j--) {
            distances[j] = distances[j - 1];
            out[j] = out[j - 1];
        }
        distances[at] = d;
        out[at] = t->rows[i];
    }
    return found;
}

void emb_methods_text(unsigned methods, char *out, size_t size)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{EMB_HTTP_GET, "GET"},        {EMB_HTTP_HEAD, "HEAD"},   {EMB_HTTP_POST, "POST"},
                 {EMB_HTTP_PUT, "PUT"},        {EMB_HTTP_PATCH, "PATCH"}, {EMB_HTTP_DELETE, "DELETE"},
                 {EMB_HTTP_OPTIONS, "OPTIONS"}};
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (methods & names[i].bit) {
            int n = snprintf(out + at, size - at, "%s%s", at ? ", " : "", names[i].name);
            if (n < 0 || (size_t)n >= size - at)
                return;
            at += (size_t)n;
        }
}
