/*
 * gateway_check.c: what is missing, not unique or in conflict in the structured sections, and who is named
 * without being there; and whether two configurations differ in them.
 *
 * Two passes: over the drafts as they were written, then, when the environment's instances are there too,
 * over everything that names a provider. Each mistake is told of by itself where all are wanted. A draft
 * remembers its line, a setting its origin, so every message begins with the place to be changed.
 */
#include "config/gateway_parts.h"

#include "base/error.h"
#include "base/nearest.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct check {
    emb_config_state *state;
    const emb_record *record;
    const emb_draft *draft;
    const emb_setting *setting; /* one that names a provider */
    emb_error *err;
    emb_status status;
} check;

static void settle(check *c)
{
    c->status = emb_config_settle(c->state, c->status, c->err);
}

/* "PLACE: …". A first mistake of an item is enough. */
static void refuse(check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void refuse(check *c, const char *format, ...)
{
    char message[400];
    va_list args;
    if (c->status)
        return;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    c->status = emb_fail(c->err, EMB_E_INVALID, c->draft->place, "%s%s", c->draft->place, message);
}

static bool given(const check *c, const char *name)
{
    return emb_member_given(c->record, c->draft, name);
}

static void need(check *c, const char *name)
{
    if (!given(c, name))
        refuse(c, ": has no %s", name);
}

/* Whether an earlier item has the text too. */
static void check_unique(check *c, emb_record_id id, size_t index, const char *member)
{
    const emb_member *m = &c->record->members[emb_member_find(c->record, member)];
    const char *name = *(const char *const *)emb_member_field(m, c->draft);
    for (size_t i = 0; i < index && name; i++) {
        const emb_draft *other = emb_draft_at(c->state, id, i);
        const char *theirs = *(const char *const *)emb_member_field(m, other);
        if (theirs && strcmp(theirs, name) == 0)
            refuse(c, ".%s: '%.64s' is that of %s too; each needs its own", member, name, other->place);
    }
}

/* ---- instances ---- */

static bool name_is_kind(check *c, emb_provider_draft *d)
{
    (void)c;
    for (int kind = EMB_PROVIDER_OPENAI; kind < EMB_PROVIDER_KINDS; kind++)
        if (strcmp(d->config.name, emb_provider_kind_name((emb_provider_kind)kind)) == 0) {
            d->config.kind = (emb_provider_kind)kind;
            return true;
        }
    return false;
}

static void check_name(check *c, emb_provider_draft *d)
{
    static const char *const reserved[] = {"local", "auto", "none"};
    char range[EMB_RANGE_MAX];
    const emb_setting *kind = &c->record->members[emb_member_find(c->record, "kind")].setting;
    need(c, "name");
    for (size_t i = 0; i < 3 && !c->status; i++)
        if (strcmp(d->config.name, reserved[i]) == 0)
            refuse(c, ".name: '%s' cannot be the name of an instance%s", reserved[i],
                   i ? "" : "; the local models are there without one, and stand in the order as '- local'");
    if (!c->status && !given(c, "kind") && !name_is_kind(c, d))
        refuse(c, ": has no kind; allowed: %s", emb_setting_range(kind, range));
}

static void check_models(check *c, emb_provider_draft *d)
{
    for (size_t i = 0; i < d->model_count && !c->status; i++) {
        const emb_model_draft *m = &d->models[i];
        check of = {
            .state = c->state, .record = &emb_records[EMB_RECORD_MODEL], .draft = &m->head, .err = c->err};
        need(&of, "name");
        for (size_t j = 0; j < i && !of.status; j++)
            if (d->models[j].config.name && strcmp(d->models[j].config.name, m->config.name) == 0)
                refuse(&of, ": the model '%.200s' is here twice", m->config.name);
        settle(&of);
        c->status = of.status;
    }
}

static void check_breaker(check *c, const emb_provider_draft *d)
{
    uint32_t first = given(c, "breaker.recovery_timeout_seconds") ? d->config.recovery_timeout_s : 60;
    uint32_t longest = given(c, "breaker.recovery_longest_seconds") ? d->config.recovery_longest_s : 900;
    if (longest < first)
        refuse(c, ".breaker.recovery_longest_seconds: %u is below recovery_timeout_seconds, which is %u",
               longest, first);
}

static void check_instance(check *c, size_t index)
{
    emb_provider_draft *d = (emb_provider_draft *)c->draft;
    check_name(c, d);
    if (c->status)
        return;
    bool has_address = d->config.kind == EMB_PROVIDER_OPENAI || d->config.kind == EMB_PROVIDER_HUGGINGFACE ||
                       d->config.kind == EMB_PROVIDER_COHERE || d->config.kind == EMB_PROVIDER_OLLAMA ||
                       (d->config.kind == EMB_PROVIDER_REMOTE && *c->state->values.embedding_service_url);
    check_unique(c, EMB_RECORD_PROVIDER, index, "name");
    if (!has_address && !given(c, "base_url"))
        refuse(c, ": has no base_url, which an instance of the kind %s needs",
               emb_provider_kind_name(d->config.kind));
    if (given(c, "api_key") + given(c, "api_key_env") + given(c, "api_key_file") > 1)
        refuse(c, ": has more than one of api_key, api_key_env and api_key_file");
    check_breaker(c, d);
    check_models(c, d);
}

/* ---- the other sections ---- */

static void check_limit(check *c, size_t index)
{
    static const char *const scopes[] = {"key", "category", "provider"};
    size_t count = 0;
    for (size_t i = 0; i < 3; i++)
        if (given(c, scopes[i])) {
            count++;
            check_unique(c, EMB_RECORD_LIMIT, index, scopes[i]);
        }
    if (count != 1)
        refuse(c, ": has %s of key, category and provider; one is wanted", count ? "more than one" : "none");
    need(c, "daily_usd");
}

static void check_sink(check *c, size_t index)
{
    need(c, "name");
    need(c, "kind");
    need(c, "url");
    check_unique(c, EMB_RECORD_SINK, index, "name");
}

static void check_step(check *c, size_t index)
{
    const emb_step_draft *d = (const emb_step_draft *)c->draft, *before;
    need(c, "percentage");
    if (index && !c->status) {
        before = (const emb_step_draft *)emb_draft_at(c->state, EMB_RECORD_STEP, index - 1);
        if (d->config.percentage <= before->config.percentage)
            refuse(c, ".percentage: %g is not above that of the step before, which is %g",
                   d->config.percentage, before->config.percentage);
    }
    bool is_last = index + 1 == c->state->gateway.lists[EMB_RECORD_STEP].count;
    if (!is_last && !d->hold_hours && !d->hold_minutes && !d->hold_seconds)
        refuse(c, ": has no hold_hours, hold_minutes or hold_seconds, which every step but the last needs");
}

static void check_pattern(check *c, size_t index)
{
    need(c, "name");
    need(c, "regex");
    const char *name = ((const emb_pattern_draft *)c->draft)->config.name;
    if (!c->status && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")])
        refuse(c, ".name: '%s' is not the name of a kind; allowed: small letters, digits and _", name);
    check_unique(c, EMB_RECORD_PATTERN, index, "name");
}

emb_status emb_gateway_check_items(emb_config_state *state, emb_error *err)
{
    static void (*const checks[EMB_RECORD_LISTS])(check *, size_t) = {[EMB_RECORD_PROVIDER] = check_instance,
                                                                      [EMB_RECORD_LIMIT] = check_limit,
                                                                      [EMB_RECORD_SINK] = check_sink,
                                                                      [EMB_RECORD_STEP] = check_step,
                                                                      [EMB_RECORD_PATTERN] = check_pattern};
    check c = {.state = state, .err = err};
    for (emb_record_id id = 0; id < EMB_RECORD_LISTS; id++)
        for (size_t i = 0; i < state->gateway.lists[id].count && !c.status; i++) {
            c.record = &emb_records[id];
            c.draft = emb_draft_at(state, id, i);
            checks[id](&c, i);
            settle(&c);
        }
    return c.status;
}

/* ---- who is named ---- */

static const emb_provider_draft *provider_at(const emb_config_state *state, size_t i)
{
    return (const emb_provider_draft *)emb_draft_at(state, EMB_RECORD_PROVIDER, i);
}

enum { NAMES_MAX = 65, LIST_BYTES = 200 };

/* "local" and the instances. */
static size_t provider_names(const emb_config_state *state, const char *names[NAMES_MAX])
{
    size_t count = state->gateway.lists[EMB_RECORD_PROVIDER].count, n = 0;
    names[n++] = "local";
    for (size_t i = 0; i < count && n < NAMES_MAX; i++)
        names[n++] = provider_at(state, i)->config.name;
    return n;
}

/* "; did you mean 'openai'?", or "; there are local, azure". */
static const char *hint(const char *name, const char *const *names, size_t count, char out[LIST_BYTES])
{
    const char *nearest = emb_nearest(name, names, count);
    if (nearest) {
        snprintf(out, LIST_BYTES, "; did you mean '%.100s'?", nearest);
        return out;
    }
    size_t used =
        (size_t)snprintf(out, LIST_BYTES, "; there %s %.60s", count > 1 ? "are" : "is only", names[0]);
    for (size_t i = 1; i < count && used + 70 < LIST_BYTES; i++)
        used += (size_t)snprintf(out + used, LIST_BYTES - used, ", %.60s", names[i]);
    return out;
}

/* What would make the provider of this name. */
static const char *remedy(const char *name)
{
    return strcmp(name, "openai") == 0
               ? " needs a key: set OPENAI_API_KEY, or OPENAI_BASE_URL for a compatible server"
           : strcmp(name, "remote") == 0 ? " needs an address: set EMBEDDING_SERVICE_URL"
                                         : NULL;
}

static void refuse_setting(check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void refuse_setting(check *c, const char *format, ...)
{
    char message[400];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    const char *subject = c->state->origins[emb_setting_index(c->setting)].subject;
    c->status = emb_fail(c->err, EMB_E_INVALID, subject, "%s: %s", subject, message);
}

static bool check_model_named(check *c, const emb_provider_draft *d, const char *model)
{
    const char *names[64];
    char text[LIST_BYTES];
    for (size_t i = 0; i < d->model_count; i++) {
        if (strcmp(d->models[i].config.name, model) == 0)
            return true;
        names[i < 64 ? i : 63] = d->models[i].config.name;
    }
    refuse_setting(c, "'%.60s' has no model '%.100s'%s", d->config.name, model,
                   hint(model, names, d->model_count < 64 ? d->model_count : 64, text));
    return false;
}

/* "NAME" or "NAME/MODEL". Returns false, to end a visit. */
static bool check_named(void *context, const char *item, size_t length)
{
    check *c = context;
    char text[512], list[LIST_BYTES];
    const char *names[NAMES_MAX];
    snprintf(text, sizeof text, "%.*s", (int)(length < 500 ? length : 500), item);
    char *slash = strchr(text, '/');
    if (slash)
        *slash = 0;
    if (strcmp(text, "local") == 0)
        return true;
    const emb_provider_draft *d = emb_gateway_find(c->state, text, strlen(text));
    if (d)
        return !slash || check_model_named(c, d, slash + 1);
    size_t count = provider_names(c->state, names);
    if (remedy(text))
        refuse_setting(c, "'%s'%s", text, remedy(text));
    else
        refuse_setting(c, "there is no provider '%.100s'%s", text, hint(text, names, count, list));
    return false;
}

static void check_settings(check *c)
{
    static const size_t named[] = {EMB_AT_provider, EMB_AT_legacy_provider, EMB_AT_candidate_provider,
                                   EMB_AT_fallback};
    for (size_t i = 0; i < sizeof named / sizeof *named && !c->status; i++) {
        size_t count;
        c->setting = emb_settings(&count) + named[i];
        const char *value = *(const char **)((char *)&c->state->values + c->setting->offset);
        if (named[i] == EMB_AT_fallback && strcmp(value, "none") == 0)
            continue;
        if (named[i] == EMB_AT_fallback)
            emb_config_each(value, check_named, c);
        else if (*value)
            check_named(c, value, strlen(value));
        settle(c);
    }
}

static void check_limits(check *c)
{
    const char *names[NAMES_MAX];
    char list[LIST_BYTES];
    size_t count = provider_names(c->state, names);
    for (size_t i = 0; i < c->state->gateway.lists[EMB_RECORD_LIMIT].count && !c->status; i++) {
        const emb_limit_draft *d = (const emb_limit_draft *)emb_draft_at(c->state, EMB_RECORD_LIMIT, i);
        c->draft = &d->head;
        if (*d->provider && strcmp(d->provider, "*") != 0 && strcmp(d->provider, "local") != 0 &&
            !emb_gateway_find(c->state, d->provider, strlen(d->provider)))
            refuse(c, ".provider: there is no provider '%.100s'%s", d->provider,
                   hint(d->provider, names, count, list));
        settle(c);
    }
}

/* ---- keys ---- */

static bool wants_key(const emb_provider_config *p)
{
    return p->kind == EMB_PROVIDER_AZURE || p->kind == EMB_PROVIDER_COHERE ||
           p->kind == EMB_PROVIDER_HUGGINGFACE ||
           (p->kind == EMB_PROVIDER_OPENAI && emb_gateway_is_openai(p->base_url));
}

static bool is_default(const check *c, const char *name)
{
    const char *wanted = c->state->values.provider;
    size_t length = strlen(name);
    return strncmp(wanted, name, length) == 0 && (!wanted[length] || wanted[length] == '/');
}

static void check_key(check *c, const emb_provider_draft *d)
{
    const emb_provider_config *p = &d->config;
    size_t count;
    if (wants_key(p) && !*p->api_key && !p->header_count) {
        c->setting = emb_settings(&count) + EMB_AT_provider;
        if (is_default(c, p->name) && p->kind == EMB_PROVIDER_OPENAI)
            refuse_setting(c, "'%s' needs a key: set %s", p->name,
                           strcmp(p->name, "openai") == 0 ? "OPENAI_API_KEY"
                                                          : "the api_key_env of its instance");
        else
            c->status = emb_config_add_note(c->state, true, c->err,
                                            "%s: '%s' has no key and will be refused by its provider",
                                            d->head.place, p->name);
    }
    bool plain = strncasecmp(p->base_url, "http://", 7) == 0 && !emb_gateway_is_loopback(p->base_url);
    if (!c->status && plain && *p->api_key)
        c->status = emb_config_add_note(c->state, true, c->err,
                                        "%s: the key of '%s' goes over the network unencrypted; use https://",
                                        d->head.place, p->name);
}

emb_status emb_gateway_check_references(emb_config_state *state, emb_error *err)
{
    enum { CANDIDATES = 64 }; /* of the planner */
    size_t models = 1;
    check c = {.state = state, .err = err};
    check_settings(&c);
    check_limits(&c);
    for (size_t i = 0; i < state->gateway.lists[EMB_RECORD_PROVIDER].count && !c.status; i++) {
        models += provider_at(state, i)->model_count;
        check_key(&c, provider_at(state, i));
        settle(&c);
    }
    if (!c.status && models > CANDIDATES)
        c.status =
            emb_config_add_note(state, true, err,
                                "providers.instances: %zu models with the local one; only the first %d "
                                "are candidates of a request",
                                models, CANDIDATES);
    return c.status;
}

/* ---- comparing ---- */

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool same_field(const emb_member *m, const void *x, const void *y)
{
    size_t size = m->form == EMB_FORM_UINT                ? sizeof(uint32_t)
                  : m->form == EMB_FORM_MONEY             ? sizeof(uint64_t)
                  : m->setting.kind == EMB_SETTING_BOOL   ? sizeof(bool)
                  : m->setting.kind == EMB_SETTING_CHOICE ? sizeof(int)
                  : m->setting.kind == EMB_SETTING_REAL   ? sizeof(double)
                                                          : sizeof(size_t);
    bool text =
        m->form == EMB_FORM_SEVERITY || (m->setting.kind == EMB_SETTING_TEXT && m->form != EMB_FORM_MONEY);
    return text ? same_text(*(const char *const *)x, *(const char *const *)y) : memcmp(x, y, size) == 0;
}

static bool same_headers(const emb_provider_config *a, const emb_provider_config *b)
{
    if (a->header_count != b->header_count)
        return false;
    for (size_t i = 0; i < a->header_count; i++)
        if (!same_text(a->headers[i].name, b->headers[i].name) ||
            !same_text(a->headers[i].value, b->headers[i].value))
            return false;
    return true;
}

static bool same_draft(const emb_record *record, const emb_draft *a, const emb_draft *b);

static bool same_models(const emb_provider_draft *a, const emb_provider_draft *b)
{
    if (a->model_count != b->model_count)
        return false;
    for (size_t i = 0; i < a->model_count; i++)
        if (!same_draft(&emb_records[EMB_RECORD_MODEL], &a->models[i].head, &b->models[i].head) ||
            a->models[i].config.priced != b->models[i].config.priced)
            return false;
    return true;
}

static bool same_draft(const emb_record *record, const emb_draft *a, const emb_draft *b)
{
    for (size_t i = 0; i < record->count; i++) {
        const emb_member *m = &record->members[i];
        bool same = m->form == EMB_FORM_HEADERS ? same_headers(&((const emb_provider_draft *)a)->config,
                                                               &((const emb_provider_draft *)b)->config)
                    : m->form == EMB_FORM_MODELS
                        ? same_models((const emb_provider_draft *)a, (const emb_provider_draft *)b)
                        : same_field(m, emb_member_field(m, a), emb_member_field(m, b));
        /* providers.timeout_ms is a setting, and live */
        bool inherited = strcmp(m->setting.path, "timeout_ms") == 0 && !((a->given | b->given) >> i & 1);
        if (!same && !inherited)
            return false;
    }
    return true;
}

bool emb_gateway_differs(const emb_config_state *a, const emb_config_state *b, emb_record_id id)
{
    const emb_drafts *x = &a->gateway.lists[id], *y = &b->gateway.lists[id];
    if (x->count != y->count ||
        (id == EMB_RECORD_PROVIDER && a->gateway.local_position != b->gateway.local_position))
        return true;
    for (size_t i = 0; i < x->count; i++)
        if (!same_draft(&emb_records[id], x->items[i], y->items[i]))
            return true;
    return false;
}

bool emb_gateway_prices_differ(const emb_config_state *a, const emb_config_state *b)
{
    const emb_gateway_drafts *x = &a->gateway, *y = &b->gateway;
    if (x->price_count != y->price_count)
        return true;
    for (size_t i = 0; i < x->price_count; i++)
        if (!same_text(x->prices[i].model, y->prices[i].model) ||
            x->prices[i].nusd_per_1k_tokens != y->prices[i].nusd_per_1k_tokens)
            return true;
    return false;
}
