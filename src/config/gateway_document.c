/*
 * gateway_document.c: the structured sections as YAML that loads again, as JSON schema and as sections of
 * docs/configuration.md.
 *
 * YAML is written from the drafts, with what was filled in: an item says what holds, not only what was
 * written. Secrets are left out as comments. An item that would not load without its secret (a sink without
 * its address), and one that the environment makes anew, are comments as a whole. What comes from a setting
 * (providers.timeout_ms, the proxy) is not repeated, or it would no longer follow that setting.
 *
 * Schema and page follow the tables of gateway_table.c.
 */
#include "config/gateway_parts.h"
#include "config/writer.h"

#include <stdio.h>
#include <string.h>

/* ---- YAML ---- */

typedef struct place {
    emb_writer *w;
    bool comment, origin, first; /* first: the line begins with "- " */
    int indent;
} place;

/* Begins a line of an item, "    - " for its first. */
static void begin_line(place *p)
{
    char text[40];
    snprintf(text, sizeof text, "%s%*s%s", p->comment ? "  # " : "", p->indent - (p->comment ? 2 : 0) - 2, "",
             p->first ? "- " : "  ");
    emb_add(p->w, text);
    p->first = false;
}

static void add_value(emb_writer *w, const emb_member *m, const void *field)
{
    char money[EMB_MONEY_TEXT_MAX];
    emb_setting s = m->setting;
    size_t number;
    int index;
    if (m->form == EMB_FORM_MONEY) {
        emb_add(w, emb_money_text(*(const uint64_t *)field, money));
        return;
    }
    if (m->form == EMB_FORM_SEVERITY || s.kind == EMB_SETTING_TEXT) {
        emb_add_yaml_text(w, *(const char *const *)field);
        return;
    }
    if (m->form == EMB_FORM_UINT) {
        number = *(const uint32_t *)field;
        field = &number;
    }
    if (m->form == EMB_FORM_KIND) {
        index = (int)*(const emb_provider_kind *)field - 1;
        field = &index;
    }
    if (!w->status)
        w->status = emb_value_write(field, &s, w->out);
}

static bool is_inherited(const emb_record *record, const emb_draft *draft, const emb_member *m)
{
    bool from_setting = strcmp(m->setting.path, "timeout_ms") == 0 || strcmp(m->setting.path, "proxy") == 0;
    return record == &emb_records[EMB_RECORD_PROVIDER] && from_setting &&
           !emb_member_given(record, draft, m->setting.path);
}

static void write_draft(place *p, const emb_record *record, const emb_draft *draft);

static void write_headers(place *p, const emb_provider_config *c)
{
    for (size_t i = 0; i < c->header_count; i++) {
        emb_add(p->w, "      # headers: ");
        emb_add(p->w, c->headers[i].name);
        emb_add(p->w, " (set)\n");
    }
}

static void write_models(place *p, const emb_provider_draft *d)
{
    if (!d->model_count)
        return;
    begin_line(p);
    emb_add(p->w, "models:\n");
    for (size_t i = 0; i < d->model_count; i++) {
        place inner = {.w = p->w, .comment = p->comment, .indent = p->indent + 4};
        write_draft(&inner, &emb_records[EMB_RECORD_MODEL], &d->models[i].head);
    }
}

/* Of a group the head once, "breaker:", then its members two deeper. */
static const char *enter_group(place *p, const emb_member *m, const char **group)
{
    const char *dot = strchr(m->setting.path, '.');
    if (!dot)
        return m->setting.path;
    if (!*group || strncmp(*group, m->setting.path, (size_t)(dot - m->setting.path)) != 0) {
        begin_line(p);
        emb_add_bytes(p->w, m->setting.path, (size_t)(dot - m->setting.path));
        emb_add(p->w, ":\n");
    }
    *group = m->setting.path;
    return dot + 1;
}

static void write_member(place *p, const emb_member *m, const emb_draft *draft, const char **group)
{
    if (m->setting.secret) {
        if (draft->made)
            return;
        if (p->comment)
            begin_line(p);
        emb_add(p->w, p->comment ? "" : "      # ");
        emb_add(p->w, m->setting.path);
        emb_add(p->w, ": (set)\n");
        return;
    }
    bool first = p->first;
    const char *name = enter_group(p, m, group);
    begin_line(p);
    emb_add(p->w, name == m->setting.path ? "" : "  ");
    emb_add(p->w, name);
    emb_add(p->w, ": ");
    add_value(p->w, m, emb_member_field(m, draft));
    if (first && p->origin && draft->place) {
        emb_add(p->w, "  # ");
        emb_add(p->w, draft->place);
    }
    emb_add(p->w, "\n");
}

static void write_draft(place *p, const emb_record *record, const emb_draft *draft)
{
    const char *group = NULL;
    p->first = true;
    for (size_t i = 0; i < record->count && !p->w->status; i++) {
        const emb_member *m = &record->members[i];
        if (!emb_member_filled(record, i, draft) || is_inherited(record, draft, m))
            continue;
        if (m->form == EMB_FORM_MODELS)
            write_models(p, (const emb_provider_draft *)draft);
        else if (m->form == EMB_FORM_HEADERS)
            write_headers(p, &((const emb_provider_draft *)draft)->config);
        else
            write_member(p, m, draft, &group);
    }
    if (p->first) { /* nothing was said */
        begin_line(p);
        emb_add(p->w, "{}\n");
    }
}

static void write_local(emb_writer *w, const emb_gateway_drafts *g, size_t index)
{
    if (g->has_local && g->local_position == index)
        emb_add(w, "    - local\n");
}

static void write_list(emb_writer *w, const emb_config_state *state, emb_record_id id, bool origin)
{
    const emb_drafts *list = &state->gateway.lists[id];
    bool providers = id == EMB_RECORD_PROVIDER;
    if (!list->count && !(providers && state->gateway.has_local))
        return;
    emb_add(w, "  ");
    emb_add(w, strchr(emb_records[id].section.path, '.') + 1);
    emb_add(w, ":\n");
    for (size_t i = 0; i < list->count; i++) {
        bool sink_with_secret = id == EMB_RECORD_SINK;
        place p = {
            .w = w, .comment = list->items[i]->made || sink_with_secret, .origin = origin, .indent = 6};
        if (providers)
            write_local(w, &state->gateway, i);
        write_draft(&p, &emb_records[id], list->items[i]);
    }
    if (providers)
        write_local(w, &state->gateway, list->count);
}

static void write_prices(emb_writer *w, const emb_gateway_drafts *g)
{
    char money[EMB_MONEY_TEXT_MAX];
    emb_add(w, g->price_count ? "  prices:\n" : "");
    for (size_t i = 0; i < g->price_count; i++) {
        emb_add(w, "    ");
        emb_add_string(w, g->prices[i].model);
        emb_add(w, ": ");
        emb_add(w, emb_money_text(g->prices[i].nusd_per_1k_tokens, money));
        emb_add(w, "\n");
    }
}

static bool belongs_to(const emb_setting *section, const char *name, size_t length)
{
    return strncmp(section->path, name, length) == 0 && section->path[length] == '.';
}

bool emb_gateway_has_section(const emb_config *config, const char *section, size_t length)
{
    const emb_gateway_drafts *g = &emb_config_state_of(config)->gateway;
    for (emb_record_id id = 0; id < EMB_RECORD_LISTS; id++)
        if (g->lists[id].count && belongs_to(&emb_records[id].section, section, length))
            return true;
    return false;
}

void emb_gateway_write_yaml(emb_writer *w, const emb_config *config, const char *section, size_t length,
                            bool with_origin)
{
    const emb_config_state *state = emb_config_state_of(config);
    for (emb_record_id id = 0; id < EMB_RECORD_LISTS; id++)
        if (belongs_to(&emb_records[id].section, section, length))
            write_list(w, state, id, with_origin);
    if (belongs_to(&emb_prices_section, section, length))
        write_prices(w, &state->gateway);
}

/* ---- JSON schema ---- */

static void write_object(emb_writer *w, const emb_record *record, const char *group, size_t length);

static void write_schema_member(emb_writer *w, const emb_record *record, size_t i)
{
    const emb_member *m = &record->members[i];
    const char *dot = strchr(m->setting.path, '.');
    emb_add(w, "\"");
    emb_add(w, dot ? dot + 1 : m->setting.path);
    emb_add(w, "\":{");
    switch (m->form) {
    case EMB_FORM_MONEY:
        emb_add(w, "\"type\":[\"number\",\"string\"],\"minimum\":0");
        break;
    case EMB_FORM_HEADERS:
        emb_add(
            w, "\"type\":\"object\",\"additionalProperties\":{\"type\":[\"string\",\"number\",\"boolean\"]}");
        break;
    case EMB_FORM_MODELS:
        emb_add(w, "\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\"},");
        write_object(w, &emb_records[EMB_RECORD_MODEL], "", 0);
        emb_add(w, "]}");
        break;
    default:
        emb_add_schema_type(w, &m->setting);
    }
    if (*m->setting.fallback)
        emb_add_schema_default(w, &m->setting);
    emb_add(w, ",\"description\":");
    emb_add_string(w, m->setting.help);
    emb_add(w, "}");
}

/* Whether the member is of the group; of "" those without one. */
static bool is_in_group(const emb_member *m, const char *group, size_t length)
{
    const char *dot = strchr(m->setting.path, '.');
    return length ? dot == m->setting.path + length && strncmp(m->setting.path, group, length) == 0 : !dot;
}

static void write_object(emb_writer *w, const emb_record *record, const char *group, size_t length)
{
    size_t written = 0;
    const char *open = NULL; /* the group that is written already */
    emb_add(w, "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    for (size_t i = 0; i < record->count; i++) {
        const char *path = record->members[i].setting.path, *dot = strchr(path, '.');
        if (is_in_group(&record->members[i], group, length)) {
            emb_add(w, written++ ? ",\n    " : "\n    ");
            write_schema_member(w, record, i);
        } else if (!length && dot && (!open || strncmp(open, path, (size_t)(dot - path)) != 0)) {
            open = path;
            emb_add(w, written++ ? ",\n    \"" : "\n    \"");
            emb_add_bytes(w, path, (size_t)(dot - path));
            emb_add(w, "\":");
            write_object(w, record, path, (size_t)(dot - path));
        }
    }
    emb_add(w, "}}");
}

static void write_list_schema(emb_writer *w, emb_record_id id, bool is_first)
{
    const emb_record *record = &emb_records[id];
    emb_add(w, is_first ? "\n  \"" : ",\n  \"");
    emb_add(w, strchr(record->section.path, '.') + 1);
    emb_add(w, "\":{\"type\":[\"array\",\"null\"],\"items\":");
    emb_add(w, id == EMB_RECORD_PROVIDER ? "{\"anyOf\":[{\"const\":\"local\"}," : "");
    write_object(w, record, "", 0);
    emb_add(w, id == EMB_RECORD_PROVIDER ? "]}" : "");
    emb_add(w, ",\"description\":");
    emb_add_string(w, record->section.help);
    emb_add(w, "}");
}

void emb_gateway_write_schema(emb_writer *w, const char *section, size_t length)
{
    for (emb_record_id id = 0; id < EMB_RECORD_LISTS; id++)
        if (belongs_to(&emb_records[id].section, section, length))
            write_list_schema(w, id, id == EMB_RECORD_STEP); /* the section that has no settings */
    if (!belongs_to(&emb_prices_section, section, length))
        return;
    emb_add(w, ",\n  "
               "\"prices\":{\"type\":[\"object\",\"null\"],\"additionalProperties\":{\"type\":[\"number\","
               "\"string\"],"
               "\"minimum\":0},\"description\":");
    emb_add_string(w, emb_prices_section.help);
    emb_add(w, "}");
}

/* ---- Markdown ---- */

static void write_member_row(emb_writer *w, const emb_member *m)
{
    char range[EMB_RANGE_MAX];
    const emb_setting *s = &m->setting;
    emb_add(w, "| `");
    emb_add(w, s->path);
    emb_add(w, "` | ");
    if (*s->fallback) {
        emb_add(w, "`");
        emb_add(w, s->fallback);
        emb_add(w, "`");
    }
    emb_add(w, " | ");
    if (m->form == EMB_FORM_MONEY) {
        snprintf(range, sizeof range, "0 to %.0f", s->maximum);
        emb_add(w, range);
    } else {
        bool headers = m->form == EMB_FORM_HEADERS, models = m->form == EMB_FORM_MODELS;
        emb_add(w, headers ? "mapping" : models ? "list" : *emb_setting_range(s, range) ? range : "text");
    }
    emb_add(w, " | ");
    emb_add_cell(w, s->help);
    emb_add(w, s->secret ? " *(secret)*" : "");
    emb_add(w, " |\n");
}

static void write_table(emb_writer *w, const emb_record *record)
{
    emb_add(w, "\n| member | default | allowed | |\n|---|---|---|---|\n");
    for (size_t i = 0; i < record->count; i++)
        write_member_row(w, &record->members[i]);
}

static const char lists_head[] =
    "\n# Sections that are lists\n\n"
    "What a flat list of settings cannot say stands in the file alone. A member that is not known, missing "
    "or out of its\n"
    "range is an error with file, line, member and what is allowed; a secret is never shown. `embedd config "
    "print` prints\n"
    "these sections too, with what was filled in: secrets, and what variables make, as comments. A change "
    "of\n"
    "`budget.limits` takes effect with a reload, that of another waits for a restart.\n";

static const char *const examples[EMB_RECORD_LISTS] = {
    [EMB_RECORD_PROVIDER] =
        "Instances of remote APIs, in the order in which they are tried. `- local` marks where the local "
        "models stand in\n"
        "that order, which is before all others unless it is said.\n\n"
        "```yaml\n"
        "providers:\n"
        "  instances:\n"
        "    - name: openai\n"
        "      requests_per_minute: 3000\n"
        "      models: [text-embedding-3-small, text-embedding-3-large]\n"
        "    - local\n"
        "    - name: azure-eu\n"
        "      kind: azure\n"
        "      base_url: https://example.openai.azure.com\n"
        "      api_key_env: AZURE_EU_KEY\n"
        "      breaker: {failure_threshold: 3}\n"
        "      models:\n"
        "        - {name: text-embedding-3-small, upstream: deployment-1}\n"
        "    - name: cluster\n"
        "      kind: tei\n"
        "      base_url: http://tei.internal:8080\n"
        "      private: true\n"
        "      models: [{name: bge-m3, dimension: 1024}]\n"
        "  prices: {text-embedding-3-small: 0.00002}\n"
        "```\n\n"
        "Variables alone make instances as well, behind those of the file and only if it has none of the "
        "name:\n"
        "`OPENAI_API_KEY` (or `OPENAI_BASE_URL` with `EMBEDDING_PROVIDER=openai`) makes `openai`, unless an "
        "instance names that\n"
        "variable as its `api_key_env`; `EMBEDDING_SERVICE_URL` makes `remote`, which is private;\n"
        "`EMBEDDING_PROVIDER=huggingface` makes `huggingface`. `HF_TOKEN` alone makes none.\n",
    [EMB_RECORD_LIMIT] = "```yaml\n"
                         "budget:\n"
                         "  limits:\n"
                         "    - {key: search, daily_usd: 1.5}\n"
                         "    - {category: faq, daily_usd: 2}\n"
                         "    - {provider: openai, daily_usd: 5}\n"
                         "    - {key: \"*\", daily_usd: 0.5}   # each other key\n"
                         "```\n",
    [EMB_RECORD_SINK] =
        "```yaml\n"
        "alerts:\n"
        "  sinks:\n"
        "    - {name: ops, kind: webhook, url: \"https://hooks.example/x\", minimum_severity: error}\n"
        "```\n\n"
        "`alerts.webhook_url` and `alerts.alertmanager_url` make sinks called `webhook` and "
        "`alertmanager`.\n",
    [EMB_RECORD_STEP] = "```yaml\n"
                        "rollout:\n"
                        "  schedule:\n"
                        "    - {percentage: 5, hold_hours: 24}\n"
                        "    - {percentage: 50, hold_hours: 48}\n"
                        "    - {percentage: 100}\n"
                        "```\n",
    [EMB_RECORD_PATTERN] = "```yaml\n"
                           "pii:\n"
                           "  patterns:\n"
                           "    - {name: employee_id, regex: \"EMP-[0-9]{6}\"}\n"
                           "```\n"};

static const char prices_page[] = "\n## providers.prices\n"
                                  "US dollars for 1,000 tokens by model, whichever instance serves it; what "
                                  "a model's own entry says comes before it.\n"
                                  "Built in: text-embedding-3-small 0.00002, text-embedding-3-large 0.00013, "
                                  "text-embedding-ada-002 0.0001; Hugging Face\n"
                                  "0.0005 a request; ollama, tei, remote and embedd, which are servers of "
                                  "one's own, nothing. Any other model has no price,\n"
                                  "and `budget.unpriced` says what that means. Amounts are kept in "
                                  "nano-dollars, exactly; a finer one is an error.\n";

void emb_gateway_write_markdown(emb_writer *w)
{
    emb_add(w, lists_head);
    for (emb_record_id id = 0; id < EMB_RECORD_LISTS; id++) {
        emb_add(w, "\n## ");
        emb_add(w, emb_records[id].section.path);
        emb_add(w, "\n");
        emb_add(w, examples[id]);
        write_table(w, &emb_records[id]);
        if (id == EMB_RECORD_PROVIDER) {
            emb_add(w, "\nThe members of a model:\n");
            write_table(w, &emb_records[EMB_RECORD_MODEL]);
            emb_add(w, prices_page);
        }
    }
}
