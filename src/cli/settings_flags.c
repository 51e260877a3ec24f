/*
 * settings_flags.c: the table of settings as options.
 *
 * Values are not checked here: they go to emb_config_load as they are, so that a wrong one gets the same
 * message whether it stands in the file, the environment or on the command line. Repeated flags overwrite
 * their slot, so there is room for all of them and nothing is allocated.
 */
#include "cli/settings_flags.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

const emb_setting *emb_settings_flag_find(const char *name, size_t length)
{
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    for (size_t i = 0; i < count; i++)
        if (emb_setting_is_flag(&settings[i], name, length))
            return &settings[i];
    return NULL;
}

const char *emb_settings_flag_name(const emb_setting *setting, char out[EMB_SETTINGS_FLAG_NAME_MAX])
{
    snprintf(out, EMB_SETTINGS_FLAG_NAME_MAX, "--%s", setting->path);
    for (char *c = out; *c; c++)
        if (*c == '.' || *c == '_')
            *c = '-';
    return out;
}

bool emb_settings_flag_nearest(const char *word, char out[EMB_SETTINGS_FLAG_NAME_MAX])
{
    char names[EMB_SETTINGS_FLAGS_MAX][EMB_SETTINGS_FLAG_NAME_MAX];
    const char *candidates[EMB_SETTINGS_FLAGS_MAX];
    size_t count, matches = 0, length = strlen(word);
    const emb_setting *settings = emb_settings(&count), *match = NULL;
    for (size_t i = 0; i < count; i++) {
        candidates[i] = emb_settings_flag_name(&settings[i], names[i]) + 2;
        size_t n = strlen(candidates[i]);
        bool is_end = n > length && candidates[i][n - length - 1] == '-' &&
                      strcmp(candidates[i] + n - length, word) == 0;
        if (is_end) { /* --listen for --server-listen */
            match = &settings[i];
            matches++;
        }
    }
    if (matches == 1) {
        emb_settings_flag_name(match, out);
        return true;
    }
    const char *nearest = emb_nearest(word, candidates, count);
    if (nearest)
        snprintf(out, EMB_SETTINGS_FLAG_NAME_MAX, "--%s", nearest);
    return nearest != NULL;
}

void emb_settings_flag_set(emb_settings_flags *flags, const emb_setting *setting, const char *value)
{
    size_t i = 0;
    while (i < flags->count && flags->flags[i].name != setting->path)
        i++;
    flags->flags[i] = (emb_config_flag){setting->path, value};
    flags->count += i == flags->count;
}

bool emb_settings_is_switch_value(const char *word)
{
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "1", "0"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

emb_config_sources emb_settings_sources(const emb_settings_flags *flags)
{
    return (emb_config_sources){.file = flags->file,
                                .dotenv = ".env",
                                .environment = environ,
                                .flags = flags->flags,
                                .flag_count = flags->count};
}

int emb_settings_load(const char *command, const emb_settings_flags *flags, emb_config **config)
{
    emb_error err = {0};
    emb_config_sources sources = emb_settings_sources(flags);
    emb_status status = emb_config_load(&sources, config, &err);
    if (!status)
        return EMB_EXIT_OK;
    emb_report_error(command, &err);
    return status == EMB_E_NOMEM ? EMB_EXIT_FAILURE : EMB_EXIT_USAGE;
}
