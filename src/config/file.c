/*
 * file.c: the YAML file to settings.
 *
 * A setting is written as its path, nested or with dots: `server: {listen: …}` and `server.listen: …` are the
 * same, and the same setting in both spellings is refused as a duplicate. A list setting may be a sequence,
 * whose items are joined with its separator. A section without content is allowed (all of its lines are
 * comments); a setting without value is not, because nobody can tell whether the default or an empty text was
 * meant.
 *
 * The walk is driven by the file, two levels deep, with the table as its dictionary; sections that are lists
 * of their own branch off to gateway_file.c.
 */
#include "config/gateway_parts.h"

#include "base/error.h"
#include "base/nearest.h"
#include "config/yaml.h"

#include <stdio.h>
#include <string.h>

enum { FILE_MAX_BYTES = 1 << 20, PATH_MAX_BYTES = 128, LIST_MAX_BYTES = 1 << 18 };

typedef struct reading {
    emb_config_state *state;
    const char *file;
    size_t lines[EMB_SETTING_TOTAL]; /* where each was set; 0: not yet */
    emb_error *err;
} reading;

static bool is_section(const char *name)
{
    size_t count, length = strlen(name);
    const emb_setting *settings = emb_settings(&count);
    for (size_t i = 0; i < count; i++)
        if (strncmp(settings[i].path, name, length) == 0 && settings[i].path[length] == '.')
            return true;
    for (emb_record_id id = 0; id < EMB_RECORD_LISTS; id++)
        if (strncmp(emb_records[id].section.path, name, length) == 0 &&
            emb_records[id].section.path[length] == '.')
            return true;
    return false;
}

/* ---- unknown keys ---- */

/* The i-th path that may stand in the file, settings first; NULL behind the last. */
static const char *path_at(size_t i)
{
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    if (i < count)
        return settings[i].path;
    i -= count;
    return i < EMB_RECORD_LISTS    ? emb_records[i].section.path
           : i == EMB_RECORD_LISTS ? emb_prices_section.path
                                   : NULL;
}

/* A path or section near `path`, or NULL. */
static const char *nearest_path(const char *path, char out[PATH_MAX_BYTES])
{
    enum { PATHS = EMB_SETTING_TOTAL + EMB_GATEWAY_SECTIONS };
    const char *candidates[PATHS], *p;
    char sections[PATHS][32];
    size_t n = 0, section_count = 0;
    bool dotted = strchr(path, '.') != NULL;
    for (size_t i = 0; (p = path_at(i)); i++) {
        snprintf(sections[section_count], sizeof sections[0], "%.*s", (int)strcspn(p, "."), p);
        if (dotted)
            candidates[n++] = p;
        else if (!section_count || strcmp(sections[section_count], sections[section_count - 1]))
            candidates[n++] = sections[section_count++];
    }
    const char *dot = strrchr(path, '.'), *nearest = NULL;
    for (size_t i = 0; (p = path_at(i)) && !nearest;
         i++) /* the right name in no section, or in another one */
        if (strcmp(strchr(p, '.') + 1, dot ? dot + 1 : path) == 0)
            nearest = p;
    if (!nearest)
        nearest = emb_nearest(path, candidates, n);
    if (nearest)
        snprintf(out, PATH_MAX_BYTES, "%s", nearest);
    return nearest ? out : NULL;
}

static emb_status unknown(reading *r, const char *path, size_t line)
{
    char near[PATH_MAX_BYTES], shown[EMB_SHOWN_MAX];
    emb_setting_shown(NULL, path, strlen(path), shown);
    if (nearest_path(path, near))
        return emb_yaml_fail(r->err, r->file, line, "there is no setting %s; did you mean '%s'?", shown,
                             near);
    return emb_yaml_fail(r->err, r->file, line, "there is no setting %s; 'embedd config print' lists them",
                         shown);
}

/* ---- values ---- */

static emb_status join_list(reading *r, const emb_setting *s, const emb_yaml_node *list, emb_buf *out)
{
    for (const emb_yaml_node *item = list->first; item; item = item->next) {
        if (item->kind != EMB_YAML_SCALAR || item->empty)
            return emb_yaml_fail(r->err, r->file, item->line, "%s: an item of the list is not a value",
                                 s->path);
        if (memchr(item->text, s->separator, item->length))
            return emb_yaml_fail(r->err, r->file, item->line,
                                 "%s: an item of the list holds a '%c', which separates "
                                 "items",
                                 s->path, s->separator);
        emb_status status = item == list->first ? EMB_OK : emb_buf_add(out, &s->separator, 1);
        if (!status)
            status = emb_buf_add(out, item->text, item->length);
        if (status == EMB_E_LIMIT)
            return emb_yaml_fail(r->err, r->file, list->line, "%s: the list is longer than %d bytes", s->path,
                                 LIST_MAX_BYTES);
        if (status)
            return emb_fail_nomem(r->err, r->file, item->length);
    }
    return EMB_OK;
}

static bool make_origin(reading *r, const emb_setting *s, size_t line, emb_origin *out)
{
    char text[64];
    size_t file = strlen(r->file), n = (size_t)snprintf(text, sizeof text, ":%zu", line);
    char *place = emb_arena_alloc(&r->state->arena, file + n + 1);
    char *subject = emb_arena_alloc(&r->state->arena, file + n + strlen(s->path) + 3);
    if (!place || !subject)
        return false;
    sprintf(place, "%s%s", r->file, text);
    sprintf(subject, "%s: %s", place, s->path);
    *out = (emb_origin){EMB_SOURCE_FILE, place, subject};
    return true;
}

static emb_status set(reading *r, const emb_setting *s, const emb_yaml_node *value)
{
    size_t *line = &r->lines[emb_setting_index(s)];
    size_t key_line = value->key->line;
    if (*line)
        return emb_yaml_fail(r->err, r->file, key_line, "%s: is here twice; the first is in line %zu",
                             s->path, *line);
    *line = key_line;
    if (value->kind == EMB_YAML_SCALAR && value->empty)
        return emb_yaml_fail(r->err, r->file, key_line,
                             "%s: has no value; write one (\"\" for an empty text) or leave "
                             "the line out",
                             s->path);
    if (value->kind == EMB_YAML_MAPPING || (value->kind == EMB_YAML_SEQUENCE && !s->separator))
        return emb_yaml_fail(r->err, r->file, key_line, "%s: is a %s, a single value is wanted", s->path,
                             emb_yaml_kind_name(value->kind));
    emb_origin origin;
    if (!make_origin(r, s, key_line, &origin))
        return emb_fail_nomem(r->err, r->file, strlen(r->file));
    if (value->kind == EMB_YAML_SCALAR)
        return emb_config_set(r->state, s, &origin, value->text, value->length, r->err);
    emb_buf joined = EMB_BUF_INIT(LIST_MAX_BYTES);
    emb_status status = join_list(r, s, value, &joined);
    if (!status)
        status = emb_config_set(r->state, s, &origin, joined.data ? joined.data : "", joined.length, r->err);
    if (joined.data)
        explicit_bzero(joined.data, joined.length);
    emb_buf_fini(&joined);
    return status;
}

/* ---- the walk ---- */

static emb_status read_path(reading *r, const char *path, const emb_yaml_node *node)
{
    const emb_setting *s = emb_setting_find(path);
    if (s)
        return set(r, s, node);
    return emb_gateway_is_section(path) ? emb_gateway_read(r->state, r->file, path, node, r->err)
                                        : unknown(r, path, node->key->line);
}

static emb_status read_section(reading *r, const emb_yaml_node *section)
{
    char path[PATH_MAX_BYTES];
    emb_status status = EMB_OK;
    if (section->kind == EMB_YAML_SCALAR && section->empty)
        return EMB_OK;
    if (section->kind != EMB_YAML_MAPPING)
        return emb_yaml_fail(r->err, r->file, section->key->line,
                             "%s: is a section and holds settings, not a %s; write them below it, indented",
                             section->key->text, emb_yaml_kind_name(section->kind));
    for (const emb_yaml_node *n = section->first; n && !status; n = n->next) {
        snprintf(path, sizeof path, "%s.%s", section->key->text, n->key->text);
        status = emb_config_settle(r->state, read_path(r, path, n), r->err);
    }
    return status;
}

static emb_status read_entry(reading *r, const emb_yaml_node *entry)
{
    return is_section(entry->key->text) ? read_section(r, entry) : read_path(r, entry->key->text, entry);
}

static emb_status read_root(reading *r, const emb_yaml_node *root)
{
    emb_status status = EMB_OK;
    if (!root || root->empty)
        return EMB_OK;
    if (root->kind != EMB_YAML_MAPPING)
        return emb_yaml_fail(r->err, r->file, root->line,
                             "the file is a %s; sections such as 'server:' are wanted",
                             emb_yaml_kind_name(root->kind));
    for (const emb_yaml_node *n = root->first; n && !status; n = n->next)
        status = emb_config_settle(r->state, read_entry(r, n), r->err);
    return status;
}

emb_status emb_config_parse_file(emb_config_state *state, const char *path, const char *text, size_t length,
                                 emb_error *err)
{
    emb_yaml *yaml;
    emb_status status = emb_yaml_parse(path, text, length, &yaml, err);
    if (status)
        return status;
    reading r = {.state = state, .file = path, .err = err};
    status = read_root(&r, emb_yaml_root(yaml));
    emb_yaml_close(yaml);
    return status;
}

emb_status emb_config_read_file(emb_config_state *state, const char *path, emb_error *err)
{
    emb_yaml *yaml;
    emb_status status = emb_yaml_open(path, FILE_MAX_BYTES, &yaml, err);
    if (status)
        return status;
    reading r = {.state = state, .file = path, .err = err};
    status = read_root(&r, emb_yaml_root(yaml));
    emb_yaml_close(yaml);
    return status;
}
