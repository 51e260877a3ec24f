/*
 * parts.h: what the files of this room share: the whole of a configuration, of which config.h shows the
 * front.
 *
 *     emb_config_state *state = emb_config_state_of(config);
 *     emb_origin origin = { .source = EMB_SOURCE_ENVIRONMENT, .text = name, .name = name };
 *     status = emb_config_set(state, setting, &origin, value, length, err);
 *
 * Written by one thread while it is loaded, read-only afterwards. Strings live in its arena.
 */
#ifndef EMB_CONFIG_PARTS_H
#define EMB_CONFIG_PARTS_H

#include "base/arena.h"
#include "config/config.h"

#include <stdatomic.h>

enum {
#define EMB_X(kind, field, path, environment, fallback, minimum, maximum, traits, help) EMB_AT_##field,
    EMB_SETTING_TABLE(EMB_X)
#undef EMB_X
        EMB_SETTING_TOTAL
};

/* In the order in which one overrides the other. */
typedef enum emb_source {
    EMB_SOURCE_DEFAULT,
    EMB_SOURCE_FILE,
    EMB_SOURCE_DOTENV,
    EMB_SOURCE_ENVIRONMENT,
    EMB_SOURCE_FLAG
} emb_source;

typedef struct emb_origin {
    emb_source source;
    const char *text;    /* as emb_setting_origin gives it */
    const char *subject; /* what a message begins with: "embedd.yaml:3: server.loops", "EMBEDD_LOOPS" */
} emb_origin;

/* Items of a structured section as they are read; see gateway_parts.h. */
typedef struct emb_drafts {
    struct emb_draft **items;
    size_t count, capacity;
} emb_drafts;

enum { EMB_GATEWAY_LISTS = 5, EMB_GATEWAY_SECTIONS = 6 };

typedef struct emb_gateway_drafts {
    emb_drafts lists[EMB_GATEWAY_LISTS]; /* by emb_record_id */
    emb_price_config *prices;
    size_t price_count;
    size_t
        lines[EMB_GATEWAY_SECTIONS]; /* where each section began; 0: it is not there; the last: the prices */
    bool has_local;                  /* "- local" stands among the instances */
    size_t local_position;
} emb_gateway_drafts;

typedef struct emb_config_state {
    emb_config values; /* first, so that the two have one address */
    atomic_size_t references;
    emb_arena arena;
    emb_origin origins[EMB_SETTING_TOTAL];
    emb_config_note *notes;
    size_t note_count, note_capacity;
    emb_gateway_drafts gateway;
    /* while loading: see emb_config_sources */
    void (*problem)(void *context, const emb_error *problem);
    void *problem_context;
    size_t problem_count;
    emb_error first_problem;
} emb_config_state;

static inline emb_config_state *emb_config_state_of(const emb_config *config)
{
    return (emb_config_state *)config;
}

/* Passes a status on, or, where all mistakes are wanted, tells of the mistake that err describes and gives
 * EMB_OK. */
EMB_MUST_CHECK emb_status emb_config_settle(emb_config_state *state, emb_status status, const emb_error *err);

/* The setting's place in the table. */
size_t emb_setting_index(const emb_setting *setting);

/* A variable as it was found. */
typedef struct emb_variable {
    const char *name, *value;
    size_t line; /* in the file, or 0 */
} emb_variable;

typedef struct emb_variables {
    emb_variable *items;
    size_t count, capacity;
    const char *file; /* as it was named */
} emb_variables;

/* ---- value.c ---- */

/* Parses and stores a value; the text is copied. A message begins with the origin's subject. */
EMB_MUST_CHECK emb_status emb_config_set(emb_config_state *state, const emb_setting *setting,
                                         const emb_origin *origin, const char *text, size_t length,
                                         emb_error *err);
/* The value for a message, in quotes, cut and made printable; of a secret "the value". Returns out. */
enum { EMB_SHOWN_MAX = 120 };
const char *emb_setting_shown(const emb_setting *setting, const char *text, size_t length,
                              char out[EMB_SHOWN_MAX]);
/* "0 to 64", "1KiB to 1GiB", "auto, cpu, cuda", or "" for none. Returns out. */
enum { EMB_RANGE_MAX = 96 };
const char *emb_setting_range(const emb_setting *setting, char out[EMB_RANGE_MAX]);
/* 1073741824: "1GiB"; 2000000000: "2GB"; 1001: "1001". */
enum { EMB_SIZE_TEXT_MAX = 32 };
const char *emb_size_text(uint64_t bytes, char out[EMB_SIZE_TEXT_MAX]);

/* The same for a field anywhere, such as that of a structured section. */
EMB_MUST_CHECK emb_status emb_value_set(emb_arena *arena, const emb_setting *setting, void *field,
                                        const emb_origin *origin, const char *text, size_t length,
                                        emb_error *err);
EMB_MUST_CHECK emb_status emb_value_write(const void *field, const emb_setting *setting, emb_buf *out);
/* Fails with "SUBJECT: VALUE PROBLEM; allowed: RANGE". */
emb_status emb_value_refuse(const emb_setting *setting, const emb_origin *origin, const char *text,
                            size_t length, const char *problem, emb_error *err);

/* ---- load.c ---- */

/* The first of `names` (comma between) that is set and not empty, in the environment, then in .env; NULL:
 * none. */
const char *emb_config_variable(const char *names, char *const *environment, const emb_variables *dotenv);

/* ---- dotenv.c ---- */

/* Reads KEY=VALUE lines; a file that is not there has none. */
EMB_MUST_CHECK emb_status emb_dotenv_read(const char *path, emb_arena *arena, emb_variables *out,
                                          emb_error *err);
EMB_MUST_CHECK emb_status emb_dotenv_parse(const char *path, const char *text, size_t length,
                                           emb_arena *arena, emb_variables *out, emb_error *err);

/* ---- file.c ---- */

/* Reads the YAML file and sets what it says. */
EMB_MUST_CHECK emb_status emb_config_read_file(emb_config_state *state, const char *path, emb_error *err);
EMB_MUST_CHECK emb_status emb_config_parse_file(emb_config_state *state, const char *path, const char *text,
                                                size_t length, emb_error *err);

/* ---- check.c ---- */

/* What concerns the form of texts and several settings at once; fills log_level and log_format. */
EMB_MUST_CHECK emb_status emb_config_check(emb_config_state *state, emb_error *err);

/* ---- notes.c ---- */

EMB_MUST_CHECK emb_status emb_config_add_note(emb_config_state *state, bool warning, emb_error *err,
                                              const char *format, ...) __attribute__((format(printf, 4, 5)));
EMB_MUST_CHECK emb_status emb_config_take_notes(emb_config_state *state, char *const *environment,
                                                const emb_variables *dotenv, emb_error *err);

#endif
