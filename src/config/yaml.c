/*
 * yaml.c: libyaml's events made into a tree.
 *
 * libyaml reads the text; the tree is ours, because its own document tree (yaml_parser_load) bounds neither
 * anchors nor depth and drops duplicate keys without a word. libcyaml was rejected: it wants the schema as
 * static structs, which the table of settings already is in another form.
 *
 * An alias becomes a copy of the anchored node's head, sharing its children. So nothing is expanded and the
 * "billion laughs" stay as small as they are in the file; whoever walks the tree goes to a fixed depth, never
 * over all of it. A node cannot contain itself: an anchor can be used only when its node is complete.
 *
 * Duplicate keys are found by sorting the keys of each mapping when it ends, O(n log n).
 */
#include "config/yaml.h"

#include "base/arena.h"
#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAX_DEPTH = 16, MAX_ANCHORS = 64 };

typedef struct emb_yaml_node node;

struct emb_yaml {
    emb_arena arena;
    const node *root;
};

/* A sequence or mapping that is being read. */
typedef struct level {
    node *parent, *last;
    const node *key; /* a mapping's key that waits for its value */
    const char *anchor;
} level;

typedef struct builder {
    const char *name, *text;
    size_t length;
    emb_yaml *yaml;
    yaml_parser_t parser;
    level levels[MAX_DEPTH];
    size_t depth;
    struct {
        const char *name;
        const node *node;
    } anchors[MAX_ANCHORS];
    size_t anchor_count, documents;
    emb_error *err;
} builder;

emb_status emb_yaml_fail(emb_error *err, const char *name, size_t line, const char *format, ...)
{
    char where[sizeof err->where], message[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    snprintf(where, sizeof where, "%s:%zu", name, line);
    return emb_fail(err, EMB_E_INVALID, where, "%s: %s", where, message);
}

const char *emb_yaml_kind_name(emb_yaml_kind kind)
{
    return kind == EMB_YAML_MAPPING ? "mapping" : kind == EMB_YAML_SEQUENCE ? "list" : "value";
}

static emb_status no_memory(builder *b)
{
    return emb_fail_nomem(b->err, b->name, sizeof(node));
}

/* ---- anchors ---- */

static emb_status remember(builder *b, const char *anchor, const node *n)
{
    if (!anchor)
        return EMB_OK;
    if (b->anchor_count == MAX_ANCHORS)
        return emb_yaml_fail(b->err, b->name, n->line, "there are more than %d anchors (&name) in the file",
                             MAX_ANCHORS);
    b->anchors[b->anchor_count].name = anchor;
    b->anchors[b->anchor_count++].node = n;
    return EMB_OK;
}

static const node *recall(const builder *b, const char *anchor)
{
    for (size_t i = b->anchor_count; i-- > 0;) /* a later anchor of the same name covers the earlier one */
        if (strcmp(b->anchors[i].name, anchor) == 0)
            return b->anchors[i].node;
    return NULL;
}

/* ---- nodes ---- */

static bool is_empty_word(const char *text)
{
    return !*text || !strcmp(text, "~") || !strcmp(text, "null") || !strcmp(text, "Null") ||
           !strcmp(text, "NULL");
}

static emb_status take_key(builder *b, level *top, const node *n)
{
    if (n->kind != EMB_YAML_SCALAR)
        return emb_yaml_fail(b->err, b->name, n->line, "a %s cannot be a key", emb_yaml_kind_name(n->kind));
    if (strcmp(n->text, "<<") == 0)
        return emb_yaml_fail(b->err, b->name, n->line, "merge keys (<<) are not supported");
    if (n->length != strlen(n->text))
        return emb_yaml_fail(b->err, b->name, n->line, "a key holds a NUL character");
    top->key = n;
    return EMB_OK;
}

/* Puts a node where it belongs: the root, a key, or a child. */
static emb_status place(builder *b, node *n)
{
    if (b->depth == 0) {
        b->yaml->root = n;
        return EMB_OK;
    }
    level *top = &b->levels[b->depth - 1];
    if (top->parent->kind == EMB_YAML_MAPPING) {
        if (!top->key)
            return take_key(b, top, n);
        n->key = top->key;
        top->key = NULL;
    }
    if (top->last)
        top->last->next = n;
    else
        top->parent->first = n;
    top->last = n;
    top->parent->count++;
    return EMB_OK;
}

static node *new_node(builder *b, emb_yaml_kind kind, const yaml_event_t *event)
{
    node *n = emb_arena_calloc(&b->yaml->arena, 1, sizeof *n);
    if (n) {
        n->kind = kind;
        n->line = event->start_mark.line + 1;
    }
    return n;
}

/* The anchor's name, if any. false: no memory. */
static bool copy_anchor(builder *b, const yaml_char_t *anchor, const char **out)
{
    const char *text = (const char *)anchor;
    *out = text ? emb_arena_strndup(&b->yaml->arena, text, strlen(text)) : NULL;
    return !text || *out;
}

static emb_status refuse_tag(builder *b, const yaml_event_t *event, const yaml_char_t *tag)
{
    if (!tag)
        return EMB_OK;
    return emb_yaml_fail(b->err, b->name, event->start_mark.line + 1, "tags (!name) are not supported");
}

static emb_status on_scalar(builder *b, const yaml_event_t *event)
{
    const char *anchor, *text = (const char *)event->data.scalar.value;
    emb_status status = refuse_tag(b, event, event->data.scalar.tag);
    if (status)
        return status;
    node *n = new_node(b, EMB_YAML_SCALAR, event);
    if (!n || !copy_anchor(b, event->data.scalar.anchor, &anchor))
        return no_memory(b);
    n->length = event->data.scalar.length;
    if (!(n->text = emb_arena_strndup(&b->yaml->arena, text, n->length)))
        return no_memory(b);
    n->empty = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && is_empty_word(n->text);
    status = remember(b, anchor, n);
    return status ? status : place(b, n);
}

static emb_status on_alias(builder *b, const yaml_event_t *event)
{
    const node *target = recall(b, (const char *)event->data.alias.anchor);
    if (!target)
        return emb_yaml_fail(b->err, b->name, event->start_mark.line + 1,
                             "an alias (*name) has no anchor (&name) that ends before it");
    node *n = new_node(b, target->kind, event);
    if (!n)
        return no_memory(b);
    size_t line = n->line;
    *n = *target;
    n->line = line;
    n->next = n->key = NULL;
    return place(b, n);
}

static emb_status on_start(builder *b, const yaml_event_t *event, emb_yaml_kind kind)
{
    bool mapping = kind == EMB_YAML_MAPPING;
    const char *anchor;
    emb_status status =
        refuse_tag(b, event, mapping ? event->data.mapping_start.tag : event->data.sequence_start.tag);
    if (status)
        return status;
    if (b->depth == MAX_DEPTH)
        return emb_yaml_fail(b->err, b->name, event->start_mark.line + 1, "more than %d levels are nested",
                             MAX_DEPTH);
    node *n = new_node(b, kind, event);
    if (!n || !copy_anchor(b, mapping ? event->data.mapping_start.anchor : event->data.sequence_start.anchor,
                           &anchor))
        return no_memory(b);
    b->levels[b->depth++] = (level){.parent = n, .anchor = anchor};
    return EMB_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const node *x = *(const node *const *)a, *y = *(const node *const *)b;
    int order = strcmp(x->key->text, y->key->text);
    return order ? order : (x->key->line > y->key->line) - (x->key->line < y->key->line);
}

static emb_status check_keys(builder *b, const node *mapping)
{
    if (mapping->count < 2)
        return EMB_OK;
    const node **sorted = calloc(mapping->count, sizeof *sorted);
    if (!sorted)
        return no_memory(b);
    size_t count = 0;
    for (const node *n = mapping->first; n; n = n->next)
        sorted[count++] = n;
    qsort(sorted, count, sizeof *sorted, compare_keys);
    emb_status status = EMB_OK;
    for (size_t i = 1; i < count && !status; i++)
        if (strcmp(sorted[i - 1]->key->text, sorted[i]->key->text) == 0)
            status = emb_yaml_fail(b->err, b->name, sorted[i]->key->line,
                                   "%.60s: is here twice; the first is in line %zu", sorted[i]->key->text,
                                   sorted[i - 1]->key->line);
    free(sorted);
    return status;
}

static emb_status on_end(builder *b)
{
    level ended = b->levels[--b->depth];
    emb_status status = ended.parent->kind == EMB_YAML_MAPPING ? check_keys(b, ended.parent) : EMB_OK;
    if (!status)
        status = remember(b, ended.anchor, ended.parent);
    return status ? status : place(b, ended.parent);
}

static emb_status on_event(builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->documents++)
            return emb_yaml_fail(b->err, b->name, event->start_mark.line + 1,
                                 "a second document begins here; one is allowed");
        return EMB_OK;
    case YAML_SCALAR_EVENT:
        return on_scalar(b, event);
    case YAML_ALIAS_EVENT:
        return on_alias(b, event);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(b, event, EMB_YAML_SEQUENCE);
    case YAML_MAPPING_START_EVENT:
        return on_start(b, event, EMB_YAML_MAPPING);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_end(b);
    default:
        return EMB_OK;
    }
}

/* ---- the whole file ---- */

/* Lines are those of '\n' here; libyaml knows other breaks too, with which the hint is only missed. */
static bool line_has_tab_indent(const char *text, size_t length, size_t line)
{
    const char *end = text + length;
    for (size_t i = 0; i < line; i++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop)
            return false;
        text = stop + 1;
    }
    while (text < end && *text == ' ')
        text++;
    return text < end && *text == '\t';
}

/* libyaml's messages speak of syntax alone and hold nothing of the text. */
static emb_status syntax_error(builder *b)
{
    const yaml_parser_t *p = &b->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return no_memory(b);
    size_t line = p->problem_mark.line;
    if (line_has_tab_indent(b->text, b->length, line))
        return emb_yaml_fail(b->err, b->name, line + 1, "the line is indented with a tab; YAML wants spaces");
    if (p->error == YAML_READER_ERROR)
        return emb_yaml_fail(b->err, b->name, line + 1, "holds a character that YAML does not allow");
    return emb_yaml_fail(b->err, b->name, line + 1, "this is not YAML: %s%s%s", p->context ? p->context : "",
                         p->context ? ", " : "", p->problem ? p->problem : "syntax error");
}

static emb_status read_events(builder *b)
{
    emb_status status = EMB_OK;
    for (bool done = false; !done && !status;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&b->parser, &event))
            return syntax_error(b);
        done = event.type == YAML_STREAM_END_EVENT || event.type == YAML_NO_EVENT;
        status = on_event(b, &event);
        yaml_event_delete(&event);
    }
    return status;
}

static size_t count_lines(const char *text, size_t length)
{
    size_t lines = 1;
    for (size_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    return lines;
}

static emb_status check_bytes(const char *name, const char *text, size_t length, emb_error *err)
{
    size_t valid = emb_utf8_valid_prefix(text, length);
    const char *nul = memchr(text, 0, valid);
    if (nul)
        return emb_yaml_fail(err, name, count_lines(text, (size_t)(nul - text)), "holds a NUL byte");
    if (valid != length)
        return emb_yaml_fail(err, name, count_lines(text, valid), "is not valid UTF-8");
    return EMB_OK;
}

emb_status emb_yaml_parse(const char *name, const char *text, size_t length, emb_yaml **out, emb_error *err)
{
    *out = NULL;
    emb_status status = check_bytes(name, text, length, err);
    if (status)
        return status;
    if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        length -= 3;
    }
    emb_yaml *yaml = calloc(1, sizeof *yaml);
    if (!yaml)
        return emb_fail_nomem(err, name, sizeof *yaml);
    emb_arena_init(&yaml->arena);
    builder b = {.name = name, .text = text, .length = length, .yaml = yaml, .err = err};
    if (yaml_parser_initialize(&b.parser)) {
        yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, length);
        status = read_events(&b);
        yaml_parser_delete(&b.parser);
    } else {
        status = no_memory(&b);
    }
    if (status)
        emb_yaml_close(yaml);
    else
        *out = yaml;
    return status;
}

emb_status emb_yaml_open(const char *path, size_t max_bytes, emb_yaml **out, emb_error *err)
{
    char *text;
    size_t length;
    *out = NULL;
    emb_status status = emb_read_file(path, max_bytes, &text, &length, err);
    if (status)
        return status;
    status = emb_yaml_parse(path, text, length, out, err);
    explicit_bzero(text, length);
    free(text);
    return status;
}

void emb_yaml_close(emb_yaml *yaml)
{
    if (!yaml)
        return;
    emb_arena_fini(&yaml->arena);
    free(yaml);
}

const emb_yaml_node *emb_yaml_root(const emb_yaml *yaml)
{
    return yaml->root;
}
