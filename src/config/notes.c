/*
 * notes.c: what is no error and yet not what the user meant: settings that this version only checks, and
 * variables that look like ours and are not.
 *
 * Every unknown EMBEDD_* variable is noted; of the families that other programs share (EMBEDDING_*, ALERT_*
 * …) only those that are one or two letters away from one of ours. Kubernetes puts EMBEDD_SERVICE_HOST,
 * EMBEDD_PORT_… into every container beside a service called embedd: these are left alone. Notes name
 * variables and settings, never values.
 */
#include "config/gateway_parts.h"

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Read elsewhere: by this room, the kernels and the tests. */
static const char *const others[] = {"EMBEDD_CONFIG", "EMBEDD_ISA", "EMBEDD_TEST_MODELS", "EMBEDD_SANITIZED"};
static const char *const shared_prefixes[] = {"EMBED", "LOCAL_EMBED", "ALERT_"};

enum { NAME_MAX_BYTES = 64, NAMES_MAX = 320, OTHERS = sizeof others / sizeof *others };

typedef struct names {
    char texts[NAMES_MAX][NAME_MAX_BYTES];
    const char *pointers[NAMES_MAX];
    size_t count;
} names;

emb_status emb_config_add_note(emb_config_state *state, bool warning, emb_error *err, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (state->note_count == state->note_capacity) {
        size_t capacity = state->note_capacity ? 2 * state->note_capacity : 8;
        emb_config_note *notes = emb_arena_calloc(&state->arena, capacity, sizeof *notes);
        if (!notes)
            return emb_fail_nomem(err, "configuration", capacity * sizeof *notes);
        if (state->note_count)
            memcpy(notes, state->notes, state->note_count * sizeof *notes);
        state->notes = notes;
        state->note_capacity = capacity;
    }
    const char *copy = emb_arena_strndup(&state->arena, text, strlen(text));
    if (!copy)
        return emb_fail_nomem(err, "configuration", strlen(text));
    state->notes[state->note_count++] = (emb_config_note){warning, copy};
    return EMB_OK;
}

static emb_status note_future(emb_config_state *state, emb_error *err)
{
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    emb_status status = EMB_OK;
    for (size_t i = 0; i < count && !status; i++)
        if (settings[i].future && state->origins[i].source != EMB_SOURCE_DEFAULT)
            status = emb_config_add_note(state, false, err, "%s (%s) has no effect in this version",
                                         settings[i].path, state->origins[i].text);
    return status;
}

/* ---- misspelled variables ---- */

static void add_name(names *n, const char *name, size_t length)
{
    if (n->count == NAMES_MAX)
        return;
    snprintf(n->texts[n->count], NAME_MAX_BYTES, "%.*s", (int)length, name);
    n->pointers[n->count] = n->texts[n->count];
    n->count++;
}

static void collect_names(const emb_config_state *state, names *n)
{
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    n->count = 0;
    for (size_t i = 0; i < count; i++)
        for (const char *e = settings[i].environment; *e;) {
            size_t length = strcspn(e, ",");
            add_name(n, e, length);
            e += length + (e[length] == ',');
        }
    for (size_t i = 0; i < OTHERS; i++)
        add_name(n, others[i], strlen(others[i]));
    for (size_t i = 0; i < state->gateway.lists[EMB_RECORD_PROVIDER].count; i++) { /* named by the user */
        const char *name =
            ((const emb_provider_draft *)emb_draft_at(state, EMB_RECORD_PROVIDER, i))->api_key_env;
        if (name && *name)
            add_name(n, name, strlen(name));
    }
}

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_known(const names *n, const char *name)
{
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->pointers[i], name) == 0)
            return true;
    return false;
}

static bool is_of_kubernetes(const char *name)
{
    return begins(name, "EMBEDD_SERVICE_") || strcmp(name, "EMBEDD_PORT") == 0 ||
           begins(name, "EMBEDD_PORT_");
}

/* `place` is "" or ".env:3: ". */
static emb_status note_variable(emb_config_state *state, const names *known, const char *name,
                                const char *place, emb_error *err)
{
    bool ours = begins(name, "EMBEDD_"), shared = false;
    for (size_t i = 0; i < sizeof shared_prefixes / sizeof *shared_prefixes; i++)
        shared |= begins(name, shared_prefixes[i]);
    if ((!ours && !shared) || is_known(known, name) || is_of_kubernetes(name))
        return EMB_OK;
    const char *nearest = emb_nearest(name, known->pointers, known->count);
    if (nearest && emb_edit_distance(name, nearest) > (ours ? 4 : 2))
        nearest = NULL;
    if (nearest)
        return emb_config_add_note(state, true, err, "%sthere is no variable %.100s; did you mean %s?", place,
                                   name, nearest);
    return ours ? emb_config_add_note(state, true, err, "%sthere is no variable %.100s", place, name)
                : EMB_OK;
}

static emb_status note_environment(emb_config_state *state, char *const *environment, const names *known,
                                   emb_error *err)
{
    emb_status status = EMB_OK;
    char name[NAME_MAX_BYTES];
    for (char *const *e = environment; e && *e && !status; e++) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*e, "="), *e);
        status = note_variable(state, known, name, "", err);
    }
    return status;
}

emb_status emb_config_take_notes(emb_config_state *state, char *const *environment,
                                 const emb_variables *dotenv, emb_error *err)
{
    names known;
    collect_names(state, &known);
    emb_status status = note_environment(state, environment, &known, err);
    for (size_t i = 0; i < dotenv->count && !status; i++) {
        char place[128];
        snprintf(place, sizeof place, "%.100s:%zu: ", dotenv->file, dotenv->items[i].line);
        status = note_variable(state, &known, dotenv->items[i].name, place, err);
    }
    return status ? status : note_future(state, err);
}

const emb_config_note *emb_config_notes(const emb_config *config, size_t *count)
{
    const emb_config_state *state = emb_config_state_of(config);
    *count = state->note_count;
    return state->notes;
}

void emb_config_log_notes(const emb_config *config)
{
    size_t count;
    const emb_config_note *notes = emb_config_notes(config, &count);
    for (size_t i = 0; i < count; i++)
        if (notes[i].warning)
            emb_log(EMB_LOG_WARN, "configuration", EMB_LOG_TEXT("note", notes[i].text));
        else
            emb_log(EMB_LOG_INFO, "configuration", EMB_LOG_TEXT("note", notes[i].text));
}
