/*
 * settings_flags.h: every setting of the service as a flag of a command, and --config.
 *
 *     typedef struct settings { emb_settings_flags flags; size_t rounds; … } settings;
 *     static const emb_option options[] = { { .name = "rounds", … }, EMB_SETTINGS_OPTIONS(settings, flags),
 *                                           EMB_OPTIONS_END };
 *     static int run(const void *options, char **arguments, size_t count)
 *     {
 *         const settings *s = options;
 *         emb_config *config;
 *         int status = emb_settings_load("warm", &s->flags, &config);
 *         if (status)
 *             return status;  // 2: a bad configuration, and stderr says what is wrong with it
 *         …
 *         emb_config_release(config);
 *
 * A command's own options are parsed as ever; a long option that is not among them is looked for in the table
 * of settings: --server-listen :8000 is server.listen. Switches take a value or none: --models-pull,
 * --models-pull=false. Values are checked by emb_settings_load, together with file and environment. `embedd
 * serve` uses EMB_SETTINGS_OPTIONS_LISTED: its help lists every setting, that of the others points to it.
 *
 * The flags point into argv. One thread.
 */
#ifndef EMB_CLI_SETTINGS_FLAGS_H
#define EMB_CLI_SETTINGS_FLAGS_H

#include "cli/command.h"
#include "config/config.h"

enum {
#define EMB_X(kind, field, path, environment, fallback, minimum, maximum, traits, help) EMB_FLAG_OF_##field,
    EMB_SETTING_TABLE(EMB_X)
#undef EMB_X
        EMB_SETTINGS_FLAGS_MAX
};

typedef struct emb_settings_flags {
    const char *file;                              /* of --config, or NULL */
    emb_config_flag flags[EMB_SETTINGS_FLAGS_MAX]; /* one for each setting that was given */
    size_t count;
} emb_settings_flags;

#define EMB_SETTINGS_OPTIONS_(type, field, listing)                                  \
    {.name = "config",                                                               \
     .letter = 'c',                                                                  \
     .kind = EMB_OPTION_TEXT,                                                        \
     .argument = "FILE",                                                             \
     .default_note = "$EMBEDD_CONFIG, or none",                                      \
     .offset = offsetof(type, field.file),                                           \
     .help = "YAML file with settings"},                                             \
    {                                                                                \
        .name = "SECTION-SETTING", .kind = EMB_OPTION_SETTINGS, .argument = "VALUE", \
        .offset = offsetof(type, field), .help = listing                             \
    }
#define EMB_SETTINGS_OPTIONS(type, field)                                                             \
    EMB_SETTINGS_OPTIONS_(type, field,                                                                \
                          "any setting of 'embedd serve --help', such as --cache-url; wins over the " \
                          "environment, which wins over the file")
#define EMB_SETTINGS_OPTIONS_LISTED(type, field) EMB_SETTINGS_OPTIONS_(type, field, NULL)

/* The sources that the flags stand for, with environment and .env. They point into flags. */
emb_config_sources emb_settings_sources(const emb_settings_flags *flags);
/* 0 and *config, which the caller releases; or the exit status after a message on stderr. */
int emb_settings_load(const char *command, const emb_settings_flags *flags, emb_config **config);

/* ---- for options.c ---- */

/* The setting whose flag this is (without dashes), or NULL. */
const emb_setting *emb_settings_flag_find(const char *name, size_t length);
/* "--server-listen" of a path. Returns out. */
enum { EMB_SETTINGS_FLAG_NAME_MAX = 80 };
const char *emb_settings_flag_name(const emb_setting *setting, char out[EMB_SETTINGS_FLAG_NAME_MAX]);
/* A flag that a mistyped one most likely means, in *out; false if none is near. */
bool emb_settings_flag_nearest(const char *word, char out[EMB_SETTINGS_FLAG_NAME_MAX]);
/* The last value given for a setting counts. */
void emb_settings_flag_set(emb_settings_flags *flags, const emb_setting *setting, const char *value);
/* Whether a word can be the value of a switch. */
bool emb_settings_is_switch_value(const char *word);

#endif
