/*
 * gateway_file.c: the structured sections of the YAML file to drafts.
 *
 * A section is a list of mappings whose members stand in the tables of gateway_table.c; the walk is driven by
 * the file, as file.c's. A group of members ("breaker") may be nested or written with dots. What is peculiar
 * is small: `- local` among the instances, models that are a name alone, headers, and the mapping of prices.
 *
 * Only what one value can say is checked here. What is missing, not unique or in conflict is seen at the end,
 * on the drafts (gateway_check.c), which remember their line. Everything is bounded: items of a list, members
 * by their bit, depth by this code; an alias that stands a thousand times costs a thousand items and is
 * refused as such.
 */
#include "config/gateway_parts.h"

#include "base/error.h"
#include "base/nearest.h"
#include "config/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 160, HEADERS_MAX = 32, PRICES_MAX = 1000, HEADER_VALUE_MAX = 4096 };

typedef struct reader {
    emb_config_state *state;
    const char *file;
    char path[PATH_BYTES]; /* of the item: "providers.instances[0]" */
    const emb_record *record;
    emb_draft *draft;
    emb_error *err;
} reader;

static emb_status settle(reader *r, emb_status status)
{
    return emb_config_settle(r->state, status, r->err);
}

static emb_status no_memory(reader *r)
{
    return emb_fail_nomem(r->err, r->file, r->record ? r->record->size : sizeof(emb_price_config));
}

/* Calls fail with what a value's message begins with. */
static const char *subject(const reader *r, size_t line, const char *name, char *out, size_t size)
{
    snprintf(out, size, "%.300s:%zu: %s%s%s", r->file, line, r->path, *name ? "." : "", name);
    return out;
}

static emb_status set_value(reader *r, const emb_member *member, const emb_yaml_node *value)
{
    char text[640];
    emb_origin origin = {.source = EMB_SOURCE_FILE};
    size_t line = value->key ? value->key->line : value->line;
    origin.text = origin.subject = subject(r, line, member->setting.path, text, sizeof text);
    return emb_member_set(r->state, member, r->draft, &origin, value->text, value->length, r->err);
}

/* ---- members ---- */

static emb_status unknown_member(reader *r, const char *name, size_t line)
{
    const char *names[65];
    char shown[EMB_SHOWN_MAX];
    size_t count = 0;
    emb_setting_shown(NULL, name, strlen(name), shown);
    for (size_t i = 0; i < r->record->count && count < 64; i++)
        names[count++] = r->record->members[i].setting.path;
    if (r->record == &emb_records[EMB_RECORD_PROVIDER])
        names[count++] = "breaker";
    const char *nearest = NULL, *dot;
    for (size_t i = 0; i < count && !nearest; i++) /* the right name, outside its group */
        if ((dot = strchr(names[i], '.')) && strcmp(dot + 1, name) == 0)
            nearest = names[i];
    if (!nearest)
        nearest = emb_nearest(name, names, count);
    if (nearest)
        return emb_yaml_fail(r->err, r->file, line, "%s: there is no member %s; did you mean '%s'?", r->path,
                             shown, nearest);
    return emb_yaml_fail(r->err, r->file, line, "%s: there is no member %s; `embedd config docs` lists them",
                         r->path, shown);
}

static emb_status read_headers(reader *r, const emb_yaml_node *node);
static emb_status read_models(reader *r, const emb_yaml_node *node);

static emb_status read_member(reader *r, const char *name, const emb_yaml_node *node)
{
    size_t i = emb_member_find(r->record, name);
    if (i == SIZE_MAX)
        return unknown_member(r, name, node->key->line);
    const emb_member *m = &r->record->members[i];
    if (r->draft->given >> i & 1)
        return emb_yaml_fail(r->err, r->file, node->key->line, "%s.%s: is here twice", r->path, name);
    if (node->kind == EMB_YAML_SCALAR && node->empty)
        return emb_yaml_fail(r->err, r->file, node->key->line,
                             "%s.%s: has no value; write one or leave the line out", r->path, name);
    r->draft->given |= UINT64_C(1) << i;
    if (m->form == EMB_FORM_HEADERS)
        return read_headers(r, node);
    if (m->form == EMB_FORM_MODELS)
        return read_models(r, node);
    if (node->kind != EMB_YAML_SCALAR)
        return emb_yaml_fail(r->err, r->file, node->key->line, "%s.%s: is a %s, a single value is wanted",
                             r->path, name, emb_yaml_kind_name(node->kind));
    return set_value(r, m, node);
}

static bool is_group(const emb_record *record, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < record->count; i++)
        if (strncmp(record->members[i].setting.path, name, length) == 0 &&
            record->members[i].setting.path[length] == '.')
            return true;
    return false;
}

static emb_status read_group(reader *r, const emb_yaml_node *group)
{
    char name[96];
    emb_status status = EMB_OK;
    if (group->kind == EMB_YAML_SCALAR && group->empty)
        return EMB_OK;
    if (group->kind != EMB_YAML_MAPPING)
        return emb_yaml_fail(r->err, r->file, group->key->line,
                             "%s.%s: is a %s; its members are wanted below it", r->path, group->key->text,
                             emb_yaml_kind_name(group->kind));
    for (const emb_yaml_node *n = group->first; n && !status; n = n->next) {
        snprintf(name, sizeof name, "%.20s.%.70s", group->key->text, n->key->text);
        status = settle(r, read_member(r, name, n));
    }
    return status;
}

static emb_status read_members(reader *r, const emb_yaml_node *item)
{
    emb_status status = EMB_OK;
    for (const emb_yaml_node *n = item->first; n && !status; n = n->next)
        status =
            settle(r, is_group(r->record, n->key->text) ? read_group(r, n) : read_member(r, n->key->text, n));
    return status;
}

/* ---- headers ---- */

static bool is_header_name(const char *name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (const char *c = name; *c; c++) {
        bool word = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (!word && !strchr(others, *c))
            return false;
    }
    return *name && strlen(name) <= 128;
}

static bool is_our_header(const char *name)
{
    static const char *const ours[] = {"host",
                                       "content-length",
                                       "transfer-encoding",
                                       "connection",
                                       "content-type",
                                       "content-encoding",
                                       "accept-encoding",
                                       "expect",
                                       "upgrade",
                                       "te"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcasecmp(name, ours[i]) == 0)
            return true;
    return false;
}

static const char *header_problem(const emb_yaml_node *n)
{
    if (!is_header_name(n->key->text))
        return "is not the name of a header";
    if (is_our_header(n->key->text))
        return "is a header that is set by the program";
    if (n->kind != EMB_YAML_SCALAR || n->empty)
        return "has no value; a text is wanted";
    if (n->length > HEADER_VALUE_MAX)
        return "has a value of more than 4096 bytes";
    for (size_t i = 0; i < n->length; i++)
        if ((unsigned char)n->text[i] < 0x20 || n->text[i] == 0x7f)
            return "has a value with a control character";
    return NULL;
}

static emb_status read_header(reader *r, const emb_yaml_node *n, emb_header_config *out)
{
    const char *problem = header_problem(n);
    char shown[EMB_SHOWN_MAX];
    if (problem)
        return emb_yaml_fail(r->err, r->file, n->key->line, "%s.headers: %s %s", r->path,
                             emb_setting_shown(NULL, n->key->text, n->key->length, shown), problem);
    out->name = emb_arena_strndup(&r->state->arena, n->key->text, n->key->length);
    out->value = emb_arena_strndup(&r->state->arena, n->text, n->length);
    return out->name && out->value ? EMB_OK : no_memory(r);
}

static emb_status read_headers(reader *r, const emb_yaml_node *node)
{
    emb_provider_draft *d = (emb_provider_draft *)r->draft;
    if (node->kind != EMB_YAML_MAPPING || node->count > HEADERS_MAX)
        return emb_yaml_fail(r->err, r->file, node->line,
                             "%s.headers: is %s; allowed: names and values, %d at most", r->path,
                             node->kind == EMB_YAML_MAPPING ? "too long" : "not a mapping", HEADERS_MAX);
    emb_header_config *headers = emb_arena_calloc(&r->state->arena, node->count + 1, sizeof *headers);
    if (!headers)
        return no_memory(r);
    size_t count = 0;
    emb_status status = EMB_OK;
    for (const emb_yaml_node *n = node->first; n && !status; n = n->next) {
        status = read_header(r, n, &headers[count]);
        count += !status;
        status = settle(r, status);
    }
    d->config.headers = headers;
    d->config.header_count = count;
    return status;
}

/* ---- models ---- */

static const char *make_place(reader *r, size_t line)
{
    char text[640];
    subject(r, line, "", text, sizeof text);
    return emb_arena_strndup(&r->state->arena, text, strlen(text));
}

static emb_status read_model(reader *outer, const emb_yaml_node *item, size_t index, emb_model_draft *out)
{
    reader r = *outer;
    snprintf(r.path, sizeof r.path, "%.120s.models[%zu]", outer->path, index);
    r.record = &emb_records[EMB_RECORD_MODEL];
    r.draft = &out->head;
    if (!(out->head.place = make_place(&r, item->line)))
        return no_memory(&r);
    if (item->kind == EMB_YAML_MAPPING)
        return read_members(&r, item);
    if (item->kind == EMB_YAML_SEQUENCE || item->empty)
        return emb_yaml_fail(r.err, r.file, item->line, "%s: is a %s; a name or a mapping is wanted", r.path,
                             item->kind == EMB_YAML_SEQUENCE ? "list" : "line without value");
    out->head.given = 1; /* its name */
    return set_value(&r, &r.record->members[0], item);
}

static emb_status read_models(reader *r, const emb_yaml_node *node)
{
    emb_provider_draft *d = (emb_provider_draft *)r->draft;
    size_t maximum = emb_records[EMB_RECORD_MODEL].maximum;
    if (node->kind != EMB_YAML_SEQUENCE || node->count > maximum)
        return emb_yaml_fail(r->err, r->file, node->line,
                             "%s.models: is %s; allowed: names or mappings, %zu at most", r->path,
                             node->kind == EMB_YAML_SEQUENCE ? "too long" : "not a list", maximum);
    d->models = emb_arena_calloc(&r->state->arena, node->count + 1, sizeof *d->models);
    if (!d->models)
        return no_memory(r);
    emb_status status = EMB_OK;
    for (const emb_yaml_node *n = node->first; n && !status; n = n->next) {
        status = settle(r, read_model(r, n, d->model_count, &d->models[d->model_count]));
        d->model_count++;
    }
    return status;
}

/* ---- lists ---- */

static bool is_word(const emb_yaml_node *n, const char *word)
{
    return n->kind == EMB_YAML_SCALAR && strcmp(n->text, word) == 0;
}

static emb_status read_local(reader *r, const emb_yaml_node *item)
{
    emb_gateway_drafts *g = &r->state->gateway;
    if (g->has_local)
        return emb_yaml_fail(r->err, r->file, item->line, "providers.instances: 'local' is here twice");
    g->has_local = true;
    g->local_position = g->lists[EMB_RECORD_PROVIDER].count;
    return EMB_OK;
}

static emb_status read_item(reader *r, emb_record_id id, const emb_yaml_node *item)
{
    if (id == EMB_RECORD_PROVIDER && is_word(item, "local"))
        return read_local(r, item);
    if (item->kind != EMB_YAML_MAPPING)
        return emb_yaml_fail(r->err, r->file, item->line, "%s: is a %s; %s is a mapping%s", r->path,
                             emb_yaml_kind_name(item->kind), r->record->noun,
                             id == EMB_RECORD_PROVIDER ? ", or the word local" : "");
    if (!(r->draft = emb_draft_add(r->state, id)) || !(r->draft->place = make_place(r, item->line)))
        return no_memory(r);
    return read_members(r, item);
}

static emb_status read_list(reader *r, emb_record_id id, const emb_yaml_node *node)
{
    const char *path = r->record->section.path;
    if (node->kind != EMB_YAML_SEQUENCE)
        return emb_yaml_fail(r->err, r->file, node->key->line,
                             "%s: is a %s, a list is wanted; begin each item with '- '", path,
                             emb_yaml_kind_name(node->kind));
    if (node->count > r->record->maximum)
        return emb_yaml_fail(r->err, r->file, node->key->line, "%s: has %zu items; allowed: %zu", path,
                             node->count, r->record->maximum);
    emb_status status = EMB_OK;
    size_t index = 0;
    for (const emb_yaml_node *n = node->first; n && !status; n = n->next) {
        snprintf(r->path, sizeof r->path, "%s[%zu]", path, index++);
        status = settle(r, read_item(r, id, n));
    }
    return status;
}

/* ---- prices ---- */

static emb_status read_price(reader *r, const emb_yaml_node *n, emb_price_config *out)
{
    static const emb_member price = {.setting = {.kind = EMB_SETTING_TEXT,
                                                 .path = "",
                                                 .maximum = 1000,
                                                 .offset = offsetof(emb_price_config, nusd_per_1k_tokens)},
                                     .form = EMB_FORM_MONEY};
    char text[700];
    emb_origin origin = {.source = EMB_SOURCE_FILE};
    if (n->kind != EMB_YAML_SCALAR || n->empty || !*n->key->text || n->key->length > 256)
        return emb_yaml_fail(r->err, r->file, n->key->line,
                             "providers.prices: names of models and dollars for 1,000 tokens are wanted, "
                             "such as 'text-embedding-3-small: 0.00002'");
    snprintf(text, sizeof text, "%.300s:%zu: providers.prices.%.256s", r->file, n->key->line, n->key->text);
    origin.text = origin.subject = text;
    if (!(out->model = emb_arena_strndup(&r->state->arena, n->key->text, n->key->length)))
        return no_memory(r);
    return emb_member_set(r->state, &price, out, &origin, n->text, n->length, r->err);
}

static emb_status read_prices(reader *r, const emb_yaml_node *node)
{
    emb_gateway_drafts *g = &r->state->gateway;
    if (node->kind != EMB_YAML_MAPPING || node->count > PRICES_MAX)
        return emb_yaml_fail(
            r->err, r->file, node->key->line,
            "providers.prices: is %s; allowed: names of models and dollars for 1,000 tokens, %d at most",
            node->kind == EMB_YAML_MAPPING ? "too long" : "not a mapping", PRICES_MAX);
    if (!(g->prices = emb_arena_calloc(&r->state->arena, node->count + 1, sizeof *g->prices)))
        return no_memory(r);
    emb_status status = EMB_OK;
    for (const emb_yaml_node *n = node->first; n && !status; n = n->next) {
        status = read_price(r, n, &g->prices[g->price_count]);
        g->price_count += !status;
        status = settle(r, status);
    }
    return status;
}

/* ---- sections ---- */

/* EMB_RECORD_LISTS for the prices, EMB_RECORDS for what is no section. */
static emb_record_id find_section(const char *path)
{
    for (emb_record_id id = 0; id < EMB_RECORD_LISTS; id++)
        if (strcmp(emb_records[id].section.path, path) == 0)
            return id;
    return strcmp(emb_prices_section.path, path) == 0 ? EMB_RECORD_LISTS : EMB_RECORDS;
}

bool emb_gateway_is_section(const char *path)
{
    return find_section(path) != EMB_RECORDS;
}

emb_status emb_gateway_read(emb_config_state *state, const char *file, const char *path,
                            const emb_yaml_node *node, emb_error *err)
{
    emb_record_id id = find_section(path);
    size_t *line = &state->gateway.lines[id];
    if (*line)
        return emb_yaml_fail(err, file, node->key->line, "%s: is here twice; the first is in line %zu", path,
                             *line);
    *line = node->key->line;
    if (node->kind == EMB_YAML_SCALAR && node->empty) /* all of its lines are comments */
        return EMB_OK;
    reader r = {.state = state, .file = file, .err = err};
    if (id == EMB_RECORD_LISTS)
        return read_prices(&r, node);
    r.record = &emb_records[id];
    return read_list(&r, id, node);
}
