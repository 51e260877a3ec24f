/*
 * config.h: the settings of a process: defaults, then a YAML file, then the environment, then flags.
 *
 *     emb_config_sources sources = { .file = path_or_NULL, .environment = environ, .flags = pairs, .flag_count = n };
 *     emb_config *config;
 *     if ((st = emb_config_load(&sources, &config, err))) { report(err); exit(2); }
 *     printf("%s\n", config->listen);
 *     emb_config_release(config);
 *
 * A loaded configuration never changes and may be read by any thread; a reload makes another one. It is
 * counted: each holder retains and releases. Every string lives as long as it. An error names the setting as
 * the user wrote it (path, variable or flag, with file and line), the value (not that of a secret), the
 * reason and the range.
 */
#ifndef EMB_CONFIG_CONFIG_H
#define EMB_CONFIG_CONFIG_H

#include "base/buf.h"
#include "base/log.h"
#include "config/gateway.h"
#include "config/settings.h"

/* The longest text of a value. */
#define EMB_CONFIG_VALUE_MAX (4u << 20)

#define EMB_CONFIG_FIELD_BOOL(f) bool f;
#define EMB_CONFIG_FIELD_COUNT(f) size_t f;
#define EMB_CONFIG_FIELD_BYTES(f) size_t f;
#define EMB_CONFIG_FIELD_REAL(f) double f;
#define EMB_CONFIG_FIELD_TEXT(f) const char *f;
#define EMB_CONFIG_FIELD_CHOICE(f) int f;

typedef struct emb_config {
#define EMB_X(kind, field, path, environment, fallback, minimum, maximum, traits, help) \
    EMB_CONFIG_FIELD_##kind(field)
    EMB_SETTING_TABLE(EMB_X)
#undef EMB_X
    emb_log_level log_level; /* what `log` says */
    emb_log_format log_format;
    const char *file;      /* the YAML file that was read, or "" */
    const char *data_path; /* data_dir or what stands for it; made on first use, not here */
    emb_gateway_config gateway;
} emb_config;

typedef struct emb_config_flag {
    const char *name; /* "server-listen", or the path "server.listen" */
    const char *value;
} emb_config_flag;

typedef struct emb_config_sources {
    const char *file;         /* NULL: $EMBEDD_CONFIG, or none */
    const char *dotenv;       /* ".env"; NULL: not read. Read if present; the real environment wins over it */
    char *const *environment; /* "NAME=value", NULL at the end */
    const emb_config_flag *flags;
    size_t flag_count;
    /* NULL: the first mistake ends the loading. Otherwise it is told of each, and the loading fails with the
     * first of them at the end. What cannot be read at all ends it either way. */
    void (*problem)(void *context, const emb_error *problem);
    void *problem_context;
} emb_config_sources;

EMB_MUST_CHECK emb_status emb_config_load(const emb_config_sources *sources, emb_config **out,
                                          emb_error *err);
emb_config *emb_config_retain(emb_config *config);
void emb_config_release(emb_config *config); /* takes NULL */

/* ---- the table, for help, schema and documents ---- */

typedef enum emb_setting_kind {
    EMB_SETTING_BOOL,
    EMB_SETTING_COUNT,
    EMB_SETTING_BYTES,
    EMB_SETTING_REAL,
    EMB_SETTING_TEXT,
    EMB_SETTING_CHOICE
} emb_setting_kind;

typedef struct emb_setting {
    emb_setting_kind kind;
    const char *field, *path, *environment, *fallback, *help;
    const char *choices;     /* of CHOICE, otherwise NULL */
    double minimum, maximum; /* both 0: no range */
    bool live, secret, future;
    char separator; /* between the items of a list, or 0 */
    size_t offset;  /* in emb_config */
} emb_setting;

const emb_setting *emb_settings(size_t *count);
const emb_setting *emb_setting_find(const char *path);
/* Whether a flag's name without dashes, "server-max-body-bytes", is that of the setting. */
bool emb_setting_is_flag(const emb_setting *setting, const char *name, size_t length);
/* The value as a user would write it; a secret that is set reads "(set)". Appends to out. */
EMB_MUST_CHECK emb_status emb_setting_write(const emb_config *config, const emb_setting *setting,
                                            emb_buf *out);
/* Where its value came from: "default", "file:LINE", "REDIS_URL", "--server-listen". Lives as long as
 * config. */
const char *emb_setting_origin(const emb_config *config, const emb_setting *setting);

/* Whole documents, appended to out. */
EMB_MUST_CHECK emb_status emb_config_write_yaml(const emb_config *config, bool with_origin, emb_buf *out);
EMB_MUST_CHECK emb_status emb_config_write_schema(emb_buf *out);   /* JSON schema of the YAML file */
EMB_MUST_CHECK emb_status emb_config_write_markdown(emb_buf *out); /* docs/configuration.md */

/* What a user should know although the configuration is good: one line each, without values. */
typedef struct emb_config_note {
    bool
        /* a mistake most likely, such as a misspelled variable; otherwise a setting without effect */
        warning;
    const char *text;
} emb_config_note;

/* Lives as long as config. */
const emb_config_note *emb_config_notes(const emb_config *config, size_t *count);
/* Writes them to the log. */
void emb_config_log_notes(const emb_config *config);

/* Calls visit for each setting that differs. */
typedef void (*emb_config_visit)(void *context, const emb_setting *setting);
void emb_config_differences(const emb_config *before, const emb_config *after, emb_config_visit visit,
                            void *context);

/* The items of a list setting ("a, b"): calls visit with each, trimmed, empty ones left out; visit returns
 * false to stop. */
void emb_config_each(const char *list, bool (*visit)(void *context, const char *item, size_t length),
                     void *context);

#endif
