/*
 * gateway.c: from drafts to the gateway's configuration: instances that variables alone describe, defaults,
 * keys.
 *
 * Runs once, when all sources are read, since what an instance does not say may come from settings that a
 * variable or flag overrides. An instance of the environment is made only where the file has none of its
 * name, and stands behind those of the file; it is printed as a comment, because the environment makes it
 * again.
 *
 * HF_TOKEN alone makes nothing: it is set on many machines for the hub, and texts must not leave a machine
 * because of it. For the same reason OPENAI_API_KEY makes no instance where one of the file takes the key
 * from it by name: that one may be meant to be the only one, in another region say.
 *
 * Defaults are texts in the table of members and go through the same parsers, so a default outside its own
 * range would be seen by the first test.
 */
#include "config/gateway_parts.h"

#include "base/error.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { KEY_FILE_MAX = 65536 };

typedef struct finish {
    emb_config_state *state;
    char *const *environment;
    const emb_variables *dotenv;
    emb_error *err;
} finish;

static const emb_record *const providers = &emb_records[EMB_RECORD_PROVIDER];

static const emb_origin *origin_of(const emb_config_state *state, size_t index)
{
    return &state->origins[index];
}

static emb_status set_member(finish *f, emb_record_id id, void *draft, const char *name,
                             const emb_origin *origin, const char *text)
{
    const emb_member *m = &emb_records[id].members[emb_member_find(&emb_records[id], name)];
    return emb_member_set(f->state, m, draft, origin, text, strlen(text), f->err);
}

/* ---- addresses ---- */

static const char *host_of(const char *url, size_t *length)
{
    const char *host = strstr(url, "://"), *at;
    host = host ? host + 3 : url;
    size_t n = strcspn(host, "/?#");
    if ((at = memchr(host, '@', n))) {
        n -= (size_t)(at + 1 - host);
        host = at + 1;
    }
    const char *end = *host == '[' ? memchr(host, ']', n) : memchr(host, ':', n);
    *length = end ? (size_t)(end - host) + (*host == '[') : n;
    return host;
}

bool emb_gateway_is_openai(const char *base_url)
{
    static const char domain[] = "openai.com";
    size_t length, n = sizeof domain - 1;
    const char *host = host_of(base_url, &length);
    return length >= n && strncasecmp(host + length - n, domain, n) == 0 &&
           (length == n || host[length - n - 1] == '.');
}

bool emb_gateway_is_loopback(const char *url)
{
    size_t length;
    const char *host = host_of(url, &length);
    return (length == 9 && strncasecmp(host, "localhost", 9) == 0) ||
           (length > 4 && memcmp(host, "127.", 4) == 0) || (length == 5 && memcmp(host, "[::1]", 5) == 0);
}

/* ---- instances of the environment ---- */

emb_provider_draft *emb_gateway_find(const emb_config_state *state, const char *name, size_t length)
{
    const emb_drafts *list = &state->gateway.lists[EMB_RECORD_PROVIDER];
    for (size_t i = 0; i < list->count; i++) {
        emb_provider_draft *d = (emb_provider_draft *)list->items[i];
        if (d->config.name && strncmp(d->config.name, name, length) == 0 && !d->config.name[length])
            return d;
    }
    return NULL;
}

static bool is_default_provider(const emb_config_state *state, const char *name)
{
    const char *wanted = state->values.provider;
    size_t length = strlen(name);
    return strncmp(wanted, name, length) == 0 && (!wanted[length] || wanted[length] == '/');
}

static emb_draft *make(finish *f, emb_record_id id, const char *name, const char *place)
{
    emb_draft *draft = emb_draft_add(f->state, id);
    if (!draft)
        return NULL;
    draft->made = true;
    draft->place = place;
    *(const char **)emb_member_field(&emb_records[id].members[0], draft) = name;
    return draft;
}

static emb_status make_instance(finish *f, const char *name, emb_provider_kind kind, const char *place,
                                const char *model)
{
    emb_provider_draft *d = (emb_provider_draft *)make(f, EMB_RECORD_PROVIDER, name, place);
    if (!d)
        return emb_fail_nomem(f->err, "configuration", providers->size);
    d->config.kind = kind;
    d->config.is_private = kind == EMB_PROVIDER_REMOTE;
    if (!model)
        return EMB_OK;
    if (!(d->models = emb_arena_calloc(&f->state->arena, 1, sizeof *d->models)))
        return emb_fail_nomem(f->err, "configuration", sizeof *d->models);
    d->model_count = 1;
    d->models[0].head.place = place;
    d->models[0].config.name = model;
    return EMB_OK;
}

static bool takes_key_from(const emb_config_state *state, const char *variable)
{
    const emb_drafts *list = &state->gateway.lists[EMB_RECORD_PROVIDER];
    for (size_t i = 0; i < list->count; i++) {
        const char *name = ((const emb_provider_draft *)list->items[i])->api_key_env;
        if (name && strcmp(name, variable) == 0)
            return true;
    }
    return false;
}

static emb_status make_openai(finish *f)
{
    const emb_config *v = &f->state->values;
    bool elsewhere = origin_of(f->state, EMB_AT_openai_base_url)->source != EMB_SOURCE_DEFAULT;
    bool wanted = is_default_provider(f->state, "openai");
    if (emb_gateway_find(f->state, "openai", 6) || (!wanted && takes_key_from(f->state, "OPENAI_API_KEY")))
        return EMB_OK;
    if (!*v->openai_api_key && !(elsewhere && wanted))
        return EMB_OK;
    size_t source = *v->openai_api_key ? EMB_AT_openai_api_key : EMB_AT_openai_base_url;
    return make_instance(f, "openai", EMB_PROVIDER_OPENAI, origin_of(f->state, source)->text, NULL);
}

static emb_status make_remote(finish *f)
{
    if (!*f->state->values.embedding_service_url || emb_gateway_find(f->state, "remote", 6))
        return EMB_OK;
    const char *model = emb_config_variable("EMBEDDING_MODEL", f->environment, f->dotenv);
    model = model ? emb_arena_strndup(&f->state->arena, model, strlen(model)) : "default";
    if (!model)
        return emb_fail_nomem(f->err, "configuration", 64);
    return make_instance(f, "remote", EMB_PROVIDER_REMOTE,
                         origin_of(f->state, EMB_AT_embedding_service_url)->text, model);
}

static emb_status make_huggingface(finish *f)
{
    if (!is_default_provider(f->state, "huggingface") || emb_gateway_find(f->state, "huggingface", 11))
        return EMB_OK;
    return make_instance(f, "huggingface", EMB_PROVIDER_HUGGINGFACE,
                         origin_of(f->state, EMB_AT_provider)->text, f->state->values.hf_model);
}

static emb_status make_sink(finish *f, emb_sink_kind kind, const char *name, size_t setting, const char *url)
{
    const emb_drafts *list = &f->state->gateway.lists[EMB_RECORD_SINK];
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(((const emb_sink_draft *)list->items[i])->config.name, name) == 0)
            return EMB_OK;
    if (!*url)
        return EMB_OK;
    emb_sink_draft *d = (emb_sink_draft *)make(f, EMB_RECORD_SINK, name, origin_of(f->state, setting)->text);
    if (!d)
        return emb_fail_nomem(f->err, "configuration", sizeof *d);
    d->config.kind = kind;
    return set_member(f, EMB_RECORD_SINK, d, "url", origin_of(f->state, setting), url);
}

static emb_status make_all(finish *f)
{
    const emb_config *v = &f->state->values;
    emb_status status = make_openai(f);
    if (!status)
        status = make_remote(f);
    if (!status)
        status = make_huggingface(f);
    if (!status)
        status = make_sink(f, EMB_SINK_WEBHOOK, "webhook", EMB_AT_alert_webhook_url, v->alert_webhook_url);
    if (!status)
        status =
            make_sink(f, EMB_SINK_ALERTMANAGER, "alertmanager", EMB_AT_alertmanager_url, v->alertmanager_url);
    return status;
}

/* ---- defaults ---- */

/* Texts of the table; texts that are not set become "". */
static emb_status fill_defaults(finish *f, const emb_record *record, emb_draft *draft)
{
    emb_status status = EMB_OK;
    for (size_t i = 0; i < record->count && !status; i++) {
        const emb_member *m = &record->members[i];
        emb_origin origin = {EMB_SOURCE_DEFAULT, "default", m->setting.path};
        void *field = emb_member_field(m, draft);
        bool special = m->form == EMB_FORM_HEADERS || m->form == EMB_FORM_MODELS || m->form == EMB_FORM_MONEY;
        if (special || emb_member_filled(record, i, draft))
            continue;
        if (*m->setting.fallback)
            status = emb_member_set(f->state, m, draft, &origin, m->setting.fallback,
                                    strlen(m->setting.fallback), f->err);
        else if (m->setting.kind == EMB_SETTING_TEXT)
            *(const char **)field = "";
    }
    return status;
}

static emb_status fill_base_url(finish *f, emb_provider_draft *d)
{
    const emb_config *v = &f->state->values;
    emb_origin origin = {EMB_SOURCE_DEFAULT, "default", "base_url"};
    const char *url = NULL;
    switch (d->config.kind) {
    case EMB_PROVIDER_OPENAI: /* the setting is that of the instance of this name */
        url = strcmp(d->config.name, "openai") == 0 ? v->openai_base_url : "https://api.openai.com/v1";
        break;
    case EMB_PROVIDER_HUGGINGFACE:
        url = v->hf_inference_url;
        origin = *origin_of(f->state, EMB_AT_hf_inference_url);
        break;
    case EMB_PROVIDER_COHERE:
        url = "https://api.cohere.com";
        break;
    case EMB_PROVIDER_OLLAMA:
        url = "http://127.0.0.1:11434";
        break;
    case EMB_PROVIDER_REMOTE:
        url = v->embedding_service_url;
        break;
    default:
        break;
    }
    if (!url || d->config.base_url)
        return EMB_OK;
    return set_member(f, EMB_RECORD_PROVIDER, d, "base_url", &origin, url);
}

static void fill_of_settings(finish *f, emb_provider_draft *d)
{
    const emb_config *v = &f->state->values;
    emb_provider_config *c = &d->config;
    if (!emb_member_given(providers, &d->head, "timeout_ms"))
        c->timeout_ms = (uint32_t)v->provider_timeout_ms;
    if (!emb_member_given(providers, &d->head, "proxy"))
        c->proxy = emb_gateway_is_loopback(c->base_url) ? "" : v->https_proxy;
    if (!emb_member_given(providers, &d->head, "max_retries") && strcmp(c->name, "openai") == 0)
        c->max_retries = (unsigned)v->openai_max_retries;
    if (c->kind == EMB_PROVIDER_AZURE && !*c->api_version)
        c->api_version = "2024-10-21";
}

/* ---- keys ---- */

static emb_status take_key(finish *f, emb_provider_draft *d, const char *subject, const char *key)
{
    emb_origin origin = {EMB_SOURCE_ENVIRONMENT, subject, subject};
    return set_member(f, EMB_RECORD_PROVIDER, d, "api_key", &origin, key);
}

static emb_status read_key_file(finish *f, emb_provider_draft *d)
{
    char *text;
    size_t length;
    struct stat info;
    const char *path = d->api_key_file;
    emb_status status = emb_read_file(path, KEY_FILE_MAX, &text, &length, f->err);
    if (status) {
        emb_error_context(f->err, "%s.api_key_file", d->head.place);
        f->err->code = status == EMB_E_NOMEM ? EMB_E_NOMEM : EMB_E_INVALID;
        return f->err->code;
    }
    if (stat(path, &info) == 0 && (info.st_mode & 077))
        status = emb_config_add_note(f->state, true, f->err,
                                     "%s.api_key_file: others than its owner may use %.200s; chmod 0600",
                                     d->head.place, path);
    while (length && strchr(" \t\r\n", text[length - 1]))
        text[--length] = 0;
    if (!status && !length)
        status = emb_fail(f->err, EMB_E_INVALID, d->head.place, "%s.api_key_file: %s is empty", d->head.place,
                          path);
    if (!status)
        status = take_key(f, d, path, text);
    explicit_bzero(text, length);
    free(text);
    return status;
}

/* The variables that hold the key of an instance named after its kind. */
static const char *usual_variable(const emb_provider_config *c)
{
    if (strcmp(c->name, emb_provider_kind_name(c->kind)) != 0)
        return NULL;
    return c->kind == EMB_PROVIDER_COHERE  ? "CO_API_KEY"
           : c->kind == EMB_PROVIDER_AZURE ? "AZURE_OPENAI_API_KEY"
                                           : NULL;
}

static emb_status find_key(finish *f, emb_provider_draft *d)
{
    const emb_config *v = &f->state->values;
    const char *name = *d->api_key_env ? d->api_key_env : usual_variable(&d->config);
    if (*d->config.api_key)
        return EMB_OK;
    if (*d->api_key_file)
        return read_key_file(f, d);
    const char *key = name ? emb_config_variable(name, f->environment, f->dotenv) : NULL;
    if (key)
        return take_key(f, d, name, key);
    if (*d->api_key_env)
        return emb_fail(f->err, EMB_E_INVALID, d->head.place, "%s.api_key_env: the variable %s is not set",
                        d->head.place, d->api_key_env);
    if (d->config.kind == EMB_PROVIDER_OPENAI && strcmp(d->config.name, "openai") == 0 && *v->openai_api_key)
        return take_key(f, d, origin_of(f->state, EMB_AT_openai_api_key)->subject, v->openai_api_key);
    if (d->config.kind == EMB_PROVIDER_HUGGINGFACE && strcmp(d->config.name, "huggingface") == 0 &&
        *v->hf_token)
        return take_key(f, d, origin_of(f->state, EMB_AT_hf_token)->subject, v->hf_token);
    return EMB_OK;
}

/* ---- the whole ---- */

static emb_status fill_instance(finish *f, emb_provider_draft *d)
{
    emb_status status = fill_base_url(f, d);
    if (!status)
        status = fill_defaults(f, providers, &d->head);
    for (size_t i = 0; i < d->model_count && !status; i++)
        status = fill_defaults(f, &emb_records[EMB_RECORD_MODEL], &d->models[i].head);
    if (status)
        return status;
    fill_of_settings(f, d);
    if ((status = find_key(f, d)))
        return status;
    bool first = strcmp(d->config.name, "openai") == 0 && d->config.kind == EMB_PROVIDER_OPENAI;
    return emb_gateway_fill_models(f->state, d, first ? f->state->values.openai_model : NULL, f->err);
}

static emb_status fill_all(finish *f)
{
    emb_status status = EMB_OK;
    for (emb_record_id id = 0; id < EMB_RECORD_LISTS; id++)
        for (size_t i = 0; i < f->state->gateway.lists[id].count && !status; i++) {
            emb_draft *d = emb_draft_at(f->state, id, i);
            status = id == EMB_RECORD_PROVIDER ? fill_instance(f, (emb_provider_draft *)d)
                                               : fill_defaults(f, &emb_records[id], d);
            status = emb_config_settle(f->state, status, f->err);
        }
    return status;
}

static void finish_limit(emb_limit_draft *d)
{
    d->config.scope = *d->key ? EMB_LIMIT_KEY : *d->category ? EMB_LIMIT_CATEGORY : EMB_LIMIT_PROVIDER;
    d->config.name = *d->key ? d->key : *d->category ? d->category : d->provider;
}

static void finish_step(emb_step_draft *d)
{
    d->config.hold_s = (uint64_t)d->hold_hours * 3600 + (uint64_t)d->hold_minutes * 60 + d->hold_seconds;
}

/* The public parts of the drafts, one behind the other. */
static emb_status publish(finish *f, emb_record_id id, size_t size, const void *out_items, size_t *out_count)
{
    const emb_drafts *list = &f->state->gateway.lists[id];
    char *items = emb_arena_calloc(&f->state->arena, list->count + 1, size);
    if (!items)
        return emb_fail_nomem(f->err, "configuration", (list->count + 1) * size);
    for (size_t i = 0; i < list->count; i++) {
        emb_draft *d = list->items[i];
        if (id == EMB_RECORD_LIMIT)
            finish_limit((emb_limit_draft *)d);
        if (id == EMB_RECORD_STEP)
            finish_step((emb_step_draft *)d);
        memcpy(items + i * size, (const char *)d + offsetof(emb_sink_draft, config), size);
    }
    memcpy((void *)out_items, &items, sizeof items);
    *out_count = list->count;
    return EMB_OK;
}

/* One for all: the public struct stands behind the head in each. */
_Static_assert(offsetof(emb_provider_draft, config) == offsetof(emb_sink_draft, config) &&
                   offsetof(emb_limit_draft, config) == offsetof(emb_sink_draft, config) &&
                   offsetof(emb_step_draft, config) == offsetof(emb_sink_draft, config) &&
                   offsetof(emb_pattern_draft, config) == offsetof(emb_sink_draft, config),
               "where publish takes them from");

static emb_status publish_all(finish *f)
{
    emb_gateway_config *g = &f->state->values.gateway;
    const emb_gateway_drafts *drafts = &f->state->gateway;
    emb_status status =
        publish(f, EMB_RECORD_PROVIDER, sizeof *g->providers, &g->providers, &g->provider_count);
    if (!status)
        status = publish(f, EMB_RECORD_LIMIT, sizeof *g->limits, &g->limits, &g->limit_count);
    if (!status)
        status = publish(f, EMB_RECORD_SINK, sizeof *g->sinks, &g->sinks, &g->sink_count);
    if (!status)
        status =
            publish(f, EMB_RECORD_STEP, sizeof *g->rollout_steps, &g->rollout_steps, &g->rollout_step_count);
    if (!status)
        status =
            publish(f, EMB_RECORD_PATTERN, sizeof *g->pii_patterns, &g->pii_patterns, &g->pii_pattern_count);
    g->local_position = drafts->local_position;
    g->prices = drafts->prices;
    g->price_count = drafts->price_count;
    return status;
}

emb_status emb_gateway_finish(emb_config_state *state, char *const *environment, const emb_variables *dotenv,
                              emb_error *err)
{
    finish f = {state, environment, dotenv, err};
    emb_status status = state->problem_count ? EMB_OK : emb_gateway_check_items(state, err);
    if (status || state->problem_count) /* what is made of bad items would be blamed for them */
        return status;
    status = emb_config_settle(state, make_all(&f), err);
    if (!status && !state->problem_count)
        status = fill_all(&f);
    if (!status && !state->problem_count)
        status = emb_gateway_check_references(state, err);
    return status || state->problem_count ? status : publish_all(&f);
}
