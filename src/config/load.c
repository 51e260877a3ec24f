/*
 * load.c: one configuration out of its sources, and its life.
 *
 * Sources are applied in the order in which they override each other, each value being checked as it is read:
 * a wrong value that another source overrides is an error all the same, because it would come back when that
 * source is gone. What concerns several settings is checked at the end, on the values that count, and only if
 * each is good by itself.
 *
 * Variables: for each setting the names are tried in the order of the table, in the environment first, then
 * in .env. An empty variable counts as not set, except that one in the environment hides its namesake in
 * .env, so that `REDIS_URL= embedd serve` takes back what .env says.
 *
 * A configuration is one block and an arena, counted with an atomic; nothing in it changes once it is loaded,
 * so a reload is the exchange of one pointer by whoever holds it.
 */
#include "config/gateway_parts.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- origins ---- */

static char *arena_join(emb_arena *arena, const char *a, const char *b, const char *c)
{
    size_t la = strlen(a), lb = strlen(b), lc = strlen(c);
    char *text = emb_arena_alloc(arena, la + lb + lc + 1);
    if (text) {
        memcpy(text, a, la);
        memcpy(text + la, b, lb);
        memcpy(text + la + lb, c, lc + 1);
    }
    return text;
}

/* "LOOPS" of the environment; "LOOPS (.env:3)" and ".env:3: LOOPS" of a file. */
static bool variable_origin(emb_config_state *state, const emb_variable *v, const char *file, emb_origin *out)
{
    char line[24];
    *out = (emb_origin){EMB_SOURCE_ENVIRONMENT, v->name, v->name};
    if (!file)
        return true;
    snprintf(line, sizeof line, ":%zu", v->line);
    const char *place = arena_join(&state->arena, file, line, "");
    if (!place)
        return false;
    const char *text = arena_join(&state->arena, v->name, " (", place);
    out->source = EMB_SOURCE_DOTENV;
    out->text = text ? arena_join(&state->arena, text, ")", "") : NULL;
    out->subject = arena_join(&state->arena, place, ": ", v->name);
    return out->text && out->subject;
}

/* ---- variables ---- */

static const char *environment_value(char *const *environment, const char *name, size_t length)
{
    for (char *const *e = environment; e && *e; e++)
        if (strncmp(*e, name, length) == 0 && (*e)[length] == '=')
            return *e + length + 1;
    return NULL;
}

static const emb_variable *dotenv_value(const emb_variables *dotenv, const char *name, size_t length)
{
    for (size_t i = dotenv->count; i-- > 0;) /* the last of several counts */
        if (strncmp(dotenv->items[i].name, name, length) == 0 && dotenv->items[i].name[length] == 0)
            return &dotenv->items[i];
    return NULL;
}

/* The first of `names` that is set and not empty. *file is that of .env if it comes from there. Name and
 * value point into the environment or .env. */
static bool find_variable(const char *names, char *const *environment, const emb_variables *dotenv,
                          emb_variable *out, size_t *name_length, bool *from_dotenv)
{
    for (int pass = 0; pass < 2; pass++)
        for (const char *n = names; *n;) {
            size_t length = strcspn(n, ",");
            const char *value = environment_value(environment, n, length);
            const emb_variable *v = pass && !value ? dotenv_value(dotenv, n, length) : NULL;
            if (v && *v->value) {
                *out = *v;
                *from_dotenv = true;
                return true;
            }
            if (!pass && value && *value) {
                *out = (emb_variable){.name = n, .value = value};
                *name_length = length;
                *from_dotenv = false;
                return true;
            }
            n += length + (n[length] == ',');
        }
    return false;
}

const char *emb_config_variable(const char *names, char *const *environment, const emb_variables *dotenv)
{
    emb_variable v;
    size_t length;
    bool from_dotenv;
    return find_variable(names, environment, dotenv, &v, &length, &from_dotenv) ? v.value : NULL;
}

static emb_status take_variables(emb_config_state *state, char *const *environment,
                                 const emb_variables *dotenv, emb_error *err)
{
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    for (size_t i = 0; i < count; i++) {
        emb_variable v;
        emb_origin origin;
        size_t length = 0;
        bool from_dotenv;
        if (!find_variable(settings[i].environment, environment, dotenv, &v, &length, &from_dotenv))
            continue;
        if (!from_dotenv && !(v.name = emb_arena_strndup(&state->arena, v.name, length)))
            return emb_fail_nomem(err, "configuration", length);
        if (!variable_origin(state, &v, from_dotenv ? dotenv->file : NULL, &origin))
            return emb_fail_nomem(err, "configuration", 256);
        emb_status status = emb_config_set(state, &settings[i], &origin, v.value, strlen(v.value), err);
        if ((status = emb_config_settle(state, status, err)))
            return status;
    }
    return EMB_OK;
}

/* ---- flags ---- */

static char in_flag(char c)
{
    return c == '.' || c == '_' ? '-' : c;
}

bool emb_setting_is_flag(const emb_setting *setting, const char *name, size_t length)
{
    size_t i = 0;
    for (; i < length && setting->path[i]; i++)
        if (in_flag(name[i]) != in_flag(setting->path[i]))
            return false;
    return i == length && !setting->path[i];
}

static emb_status take_flag(emb_config_state *state, const emb_config_flag *flag, emb_error *err)
{
    size_t count, length = strlen(flag->name);
    const emb_setting *settings = emb_settings(&count);
    for (size_t i = 0; i < count; i++) {
        if (!emb_setting_is_flag(&settings[i], flag->name, length))
            continue;
        emb_origin origin = {.source = EMB_SOURCE_FLAG};
        char *text = arena_join(&state->arena, "--", flag->name, "");
        if (!text)
            return emb_fail_nomem(err, "configuration", length + 3);
        for (char *c = text; *c; c++)
            *c = in_flag(*c);
        origin.text = origin.subject = text;
        return emb_config_set(state, &settings[i], &origin, flag->value, strlen(flag->value), err);
    }
    return emb_fail(err, EMB_E_INVALID, flag->name, "--%s: there is no such setting", flag->name);
}

/* ---- the whole ---- */

emb_status emb_config_settle(emb_config_state *state, emb_status status, const emb_error *err)
{
    if (status != EMB_E_INVALID || !state->problem)
        return status;
    if (state->problem_count++ == 0)
        state->first_problem = *err;
    state->problem(state->problem_context, err);
    return EMB_OK;
}

static emb_status take_defaults(emb_config_state *state, emb_error *err)
{
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    emb_status status = EMB_OK;
    for (size_t i = 0; i < count && !status; i++) {
        emb_origin origin = {EMB_SOURCE_DEFAULT, "default", settings[i].path};
        status = emb_config_set(state, &settings[i], &origin, settings[i].fallback,
                                strlen(settings[i].fallback), err);
    }
    return status;
}

static const char *variable(char *const *environment, const char *name)
{
    const char *value = environment_value(environment, name, strlen(name));
    return value && *value ? value : NULL;
}

/* data_dir, or what stands for it. systemd separates several state directories by a colon: the first is ours.
 * A relative XDG_DATA_HOME is to be ignored, says its specification. */
static emb_status find_data_path(emb_config_state *state, char *const *environment, emb_error *err)
{
    const char *base = state->values.data_dir, *behind = "";
    size_t length = strlen(base);
    if (!length && (base = variable(environment, "STATE_DIRECTORY"))) {
        length = strcspn(base, ":");
    } else if (!length && (base = variable(environment, "XDG_DATA_HOME")) && *base == '/') {
        length = strlen(base);
        behind = "/embedd";
    } else if (!length && (base = variable(environment, "HOME"))) {
        length = strlen(base);
        behind = "/.local/share/embedd";
    } else if (!length) {
        base = "/var/lib/embedd";
        length = strlen(base);
    }
    const char *copy = emb_arena_strndup(&state->arena, base, length);
    if (copy && *behind)
        copy = arena_join(&state->arena, copy, behind, "");
    if (!copy)
        return emb_fail_nomem(err, "configuration", length);
    state->values.data_path = copy;
    return EMB_OK;
}

/* The file to read: as told, else $EMBEDD_CONFIG. An error about it names the variable. */
static emb_status read_file(emb_config_state *state, const emb_config_sources *sources,
                            const emb_variables *dotenv, emb_error *err)
{
    const char *path = sources->file;
    emb_variable v;
    size_t length;
    bool from_dotenv;
    bool named =
        !path && find_variable("EMBEDD_CONFIG", sources->environment, dotenv, &v, &length, &from_dotenv);
    if (named)
        path = v.value;
    state->values.file = "";
    if (!path || !*path)
        return EMB_OK;
    if (!(state->values.file = emb_arena_strndup(&state->arena, path, strlen(path))))
        return emb_fail_nomem(err, "configuration", strlen(path));
    emb_status status = emb_config_read_file(state, state->values.file, err);
    if (named && (status == EMB_E_NOT_FOUND || status == EMB_E_IO))
        emb_error_context(err, "EMBEDD_CONFIG");
    return status;
}

static emb_status load(emb_config_state *state, const emb_config_sources *sources, emb_error *err)
{
    emb_variables dotenv = {0};
    emb_status status = take_defaults(state, err);
    if (!status && sources->dotenv)
        status = emb_config_settle(state, emb_dotenv_read(sources->dotenv, &state->arena, &dotenv, err), err);
    if (!status)
        status = emb_config_settle(state, read_file(state, sources, &dotenv, err), err);
    if (!status)
        status = take_variables(state, sources->environment, &dotenv, err);
    for (size_t i = 0; i < sources->flag_count && !status; i++)
        status = emb_config_settle(state, take_flag(state, &sources->flags[i], err), err);
    if (!status)
        status = find_data_path(state, sources->environment, err);
    if (!status)
        status = emb_config_check(state, err);
    if (!status)
        status = emb_gateway_finish(state, sources->environment, &dotenv, err);
    if (!status)
        status = emb_config_take_notes(state, sources->environment, &dotenv, err);
    if (!status && state->problem_count) {
        *err = state->first_problem;
        status = err->code;
    }
    return status;
}

emb_status emb_config_load(const emb_config_sources *sources, emb_config **out, emb_error *err)
{
    emb_error unwanted;
    *out = NULL;
    err = err ? err : &unwanted;
    emb_config_state *state = calloc(1, sizeof *state);
    if (!state)
        return emb_fail_nomem(err, "configuration", sizeof *state);
    state->problem = sources->problem;
    state->problem_context = sources->problem_context;
    atomic_init(&state->references, 1);
    emb_arena_init(&state->arena);
    emb_status status = load(state, sources, err);
    if (status)
        emb_config_release(&state->values);
    else
        *out = &state->values;
    return status;
}

emb_config *emb_config_retain(emb_config *config)
{
    atomic_fetch_add_explicit(&emb_config_state_of(config)->references, 1, memory_order_relaxed);
    return config;
}

void emb_config_release(emb_config *config)
{
    if (!config)
        return;
    emb_config_state *state = emb_config_state_of(config);
    if (atomic_fetch_sub_explicit(&state->references, 1, memory_order_acq_rel) != 1)
        return;
    emb_arena_fini(&state->arena);
    free(state);
}

const char *emb_setting_origin(const emb_config *config, const emb_setting *setting)
{
    return emb_config_state_of(config)->origins[emb_setting_index(setting)].text;
}

/* ---- comparing ---- */

static bool differs(const emb_config *a, const emb_config *b, const emb_setting *s)
{
    const void *x = (const char *)a + s->offset, *y = (const char *)b + s->offset;
    switch (s->kind) {
    case EMB_SETTING_BOOL:
        return *(const bool *)x != *(const bool *)y;
    case EMB_SETTING_COUNT:
    case EMB_SETTING_BYTES:
        return *(const size_t *)x != *(const size_t *)y;
    case EMB_SETTING_REAL:
        return *(const double *)x != *(const double *)y;
    case EMB_SETTING_CHOICE:
        return *(const int *)x != *(const int *)y;
    case EMB_SETTING_TEXT:
        break;
    }
    return strcmp(*(const char *const *)x, *(const char *const *)y) != 0;
}

void emb_config_differences(const emb_config *before, const emb_config *after, emb_config_visit visit,
                            void *context)
{
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    for (size_t i = 0; i < count; i++)
        if (differs(before, after, &settings[i]))
            visit(context, &settings[i]);
    const emb_config_state *a = emb_config_state_of(before), *b = emb_config_state_of(after);
    for (emb_record_id id = 0; id < EMB_RECORD_LISTS; id++)
        if (emb_gateway_differs(a, b, id))
            visit(context, &emb_records[id].section);
    if (emb_gateway_prices_differ(a, b))
        visit(context, &emb_prices_section);
}
