/*
 * options.c: one parser and one help printer for all commands.
 *
 * getopt_long was not used: it knows nothing of defaults, environment, ranges or choices, its messages
 * cannot suggest a spelling, and help would be a second list to keep in step. Here a row of a table says
 * all of it. Options may stand before and after plain arguments; "--" ends them; "--name=value",
 * "--name value", "-n value" and "-nvalue" are the same; the last of several wins.
 */
#include "cli/settings_flags.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_WIDTH = 80, HELP_COLUMN = 26, WORD_MAX = 64 };

int emb_usage_error(const emb_command *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "embedd %s: ", command->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nTry 'embedd %s --help'.\n", command->name);
    va_end(args);
    return EMB_EXIT_USAGE;
}

/* ---- values ---- */

const char *emb_option_choice(const char *choices, int index)
{
    static char name[WORD_MAX];
    for (; index > 0 && choices; index--) {
        choices = strchr(choices, '|');
        choices = choices ? choices + 1 : NULL;
    }
    snprintf(name, sizeof name, "%.*s", choices ? (int)strcspn(choices, "|") : 0, choices ? choices : "");
    return name;
}

static int choice_index(const char *choices, const char *value)
{
    size_t length = strlen(value);
    int index = 0;
    for (const char *c = choices; c; index++) {
        size_t n = strcspn(c, "|");
        if (n == length && memcmp(c, value, n) == 0)
            return index;
        c = c[n] ? c + n + 1 : NULL;
    }
    return -1;
}

static bool parse_count(const char *text, size_t *out)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end || errno || value > SIZE_MAX)
        return false;
    *out = (size_t)value;
    return true;
}

/* `source` is how the user wrote it: "--threads" or the name of a variable. */
static int store(const emb_command *command, const emb_option *option, const char *source, const char *value,
                 void *settings)
{
    char *field = (char *)settings + option->offset;
    size_t count;
    int index;
    switch (option->kind) {
    case EMB_OPTION_FLAG:
        *(bool *)field = true;
        return -1;
    case EMB_OPTION_TEXT:
        *(const char **)field = value;
        return -1;
    case EMB_OPTION_COUNT:
        if (!parse_count(value, &count) || count < option->minimum || count > option->maximum)
            return emb_usage_error(command, "%s: '%s' is not a whole number from %zu to %zu", source, value,
                                   option->minimum, option->maximum);
        *(size_t *)field = count;
        return -1;
    case EMB_OPTION_CHOICE:
        index = choice_index(option->choices, value);
        if (index < 0)
            return emb_usage_error(command, "%s: '%s' is not one of %s", source, value, option->choices);
        *(int *)field = index;
        return -1;
    case EMB_OPTION_SETTINGS:
        return -1;
    }
    return -1;
}

static int store_environment(const emb_command *command, const emb_option *option, void *settings)
{
    char name[WORD_MAX];
    for (const char *n = option->environment; n;) {
        size_t length = strcspn(n, ",");
        snprintf(name, sizeof name, "%.*s", (int)length, n);
        const char *value = getenv(name);
        if (value && *value)
            return store(command, option, name, value, settings);
        n = n[length] ? n + length + 1 : NULL;
    }
    return -1;
}

static int store_defaults(const emb_command *command, void *settings)
{
    for (const emb_option *o = command->options; o && o->name; o++) {
        int status = -1;
        if (o->kind == EMB_OPTION_CHOICE)
            *(int *)((char *)settings + o->offset) = -1;
        if (o->fallback)
            status = store(command, o, o->name, o->fallback, settings);
        if (status < 0 && o->environment)
            status = store_environment(command, o, settings);
        if (status >= 0)
            return status;
    }
    return -1;
}

/* ---- the command line ---- */

static int store_given(const emb_command *command, const emb_option *option, const char *source,
                       const char *value, void *settings)
{
    if (option->given)
        *(bool *)((char *)settings + option->given) = true;
    return store(command, option, source, value, settings);
}

static const emb_option *find_long(const emb_command *command, const char *name, size_t length)
{
    for (const emb_option *o = command->options; o && o->name; o++)
        if (o->kind != EMB_OPTION_SETTINGS && strlen(o->name) == length && memcmp(o->name, name, length) == 0)
            return o;
    return NULL;
}

/* The row that stands for all settings, if the command takes them. */
static const emb_option *find_settings(const emb_command *command)
{
    for (const emb_option *o = command->options; o && o->name; o++)
        if (o->kind == EMB_OPTION_SETTINGS)
            return o;
    return NULL;
}

static const emb_option *find_short(const emb_command *command, char letter)
{
    for (const emb_option *o = command->options; o && o->name; o++)
        if (o->letter == letter && letter)
            return o;
    return NULL;
}

static int unknown_long(const emb_command *command, const char *name, size_t length)
{
    const char *names[64];
    char word[WORD_MAX], flag[EMB_SETTINGS_FLAG_NAME_MAX];
    size_t count = 0;
    for (const emb_option *o = command->options; o && o->name && count < 63; o++)
        if (o->kind != EMB_OPTION_SETTINGS)
            names[count++] = o->name;
    names[count++] = "help";
    snprintf(word, sizeof word, "%.*s", (int)(length < WORD_MAX ? length : WORD_MAX - 1), name);
    const char *nearest = emb_nearest(word, names, count);
    if (!nearest && find_settings(command) && emb_settings_flag_nearest(word, flag))
        nearest = flag + 2;
    if (nearest)
        return emb_usage_error(command, "unknown option '--%s'; did you mean '--%s'?", word, nearest);
    return emb_usage_error(command, "unknown option '--%s'", word);
}

/* A setting's flag: the value is checked when the configuration is loaded. */
static int parse_setting(const emb_command *command, const emb_option *row, const emb_setting *setting,
                         int argc, char **argv, int *at, void *settings)
{
    char *equals = strchr(argv[*at], '=');
    const char *value = equals ? equals + 1 : NULL;
    char name[EMB_SETTINGS_FLAG_NAME_MAX];
    bool is_switch = setting->kind == EMB_SETTING_BOOL;
    if (!value && *at + 1 < argc && (!is_switch || emb_settings_is_switch_value(argv[*at + 1])))
        value = argv[++*at];
    if (!value && is_switch)
        value = "true";
    if (!value)
        return emb_usage_error(command, "%s needs a value", emb_settings_flag_name(setting, name));
    emb_settings_flag_set((emb_settings_flags *)((char *)settings + row->offset), setting, value);
    return -1;
}

static int parse_long(const emb_command *command, int argc, char **argv, int *at, void *settings)
{
    const char *name = argv[*at] + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] ? name + length + 1 : NULL;
    char source[WORD_MAX + 2];
    const emb_option *option = find_long(command, name, length);
    if (!option) {
        const emb_option *row = find_settings(command);
        const emb_setting *setting = row ? emb_settings_flag_find(name, length) : NULL;
        return setting ? parse_setting(command, row, setting, argc, argv, at, settings)
                       : unknown_long(command, name, length);
    }
    snprintf(source, sizeof source, "--%s", option->name);
    if (option->kind == EMB_OPTION_FLAG) {
        if (value)
            return emb_usage_error(command, "%s takes no value", source);
    } else if (!value) {
        if (*at + 1 >= argc)
            return emb_usage_error(command, "%s needs a value", source);
        value = argv[++*at];
    }
    return store_given(command, option, source, value, settings);
}

/* A word of short options: flags may be joined, the last may carry its value. */
static int parse_short(const emb_command *command, int argc, char **argv, int *at, void *settings)
{
    for (const char *c = argv[*at] + 1; *c; c++) {
        char source[3] = {'-', *c, 0};
        const emb_option *option = find_short(command, *c);
        if (!option && *c == 'h') {
            emb_options_help(command);
            return EMB_EXIT_OK;
        }
        if (!option)
            return emb_usage_error(
                command, "unknown option '%s'; a text that starts with '-' goes after '--'", source);
        const char *value = NULL;
        if (option->kind != EMB_OPTION_FLAG) {
            value = c[1] ? c + 1 : *at + 1 < argc ? argv[++*at] : NULL;
            if (!value)
                return emb_usage_error(command, "%s needs a value", source);
        }
        int status = store_given(command, option, source, value, settings);
        if (status >= 0 || value)
            return status;
    }
    return -1;
}

static int check_count(const emb_command *command, char **argv, size_t count)
{
    if (count < command->minimum_arguments)
        return emb_usage_error(command, "%s needed", command->needs);
    if (count > command->maximum_arguments)
        return emb_usage_error(command, "unexpected argument '%s'", argv[command->maximum_arguments]);
    return -1;
}

int emb_options_parse(const emb_command *command, int argc, char **argv, void *settings, size_t *count)
{
    bool plain_only = false;
    int status;
    *count = 0;
    memset(settings, 0, command->settings_size);
    for (int i = 0; i < argc; i++) /* help is given even where something else is wrong */
        if (strcmp(argv[i], "--") == 0) {
            break;
        } else if (strcmp(argv[i], "--help") == 0) {
            emb_options_help(command);
            return EMB_EXIT_OK;
        }
    if ((status = store_defaults(command, settings)) >= 0)
        return status;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        if (plain_only || word[0] != '-' || word[1] == 0) {
            argv[(*count)++] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            plain_only = true;
            continue;
        }
        status = word[1] == '-' ? parse_long(command, argc, argv, &i, settings)
                                : parse_short(command, argc, argv, &i, settings);
        if (status >= 0)
            return status;
    }
    return check_count(command, argv, *count);
}

/* ---- help ---- */

/* Prints words from column `at`, continuing on lines indented to HELP_COLUMN. */
static void print_wrapped(const char *text, size_t at)
{
    while (*text) {
        size_t length = strcspn(text, " ");
        if (at > HELP_COLUMN && at + 1 + length > HELP_WIDTH) {
            printf("\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        } else if (at > HELP_COLUMN) {
            putchar(' ');
            at++;
        }
        printf("%.*s", (int)length, text);
        at += length;
        text += length;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void add_environment(char *out, size_t size, const char *names)
{
    size_t n = (size_t)snprintf(out, size, " [env:");
    while (*names && n < size) {
        size_t length = strcspn(names, ",");
        n += (size_t)snprintf(out + n, size - n, " %.*s%s", (int)length, names, names[length] ? "," : "]");
        names += length + (names[length] == ',');
    }
}

/* Left column, help, default, variables. */
static void print_row(const char *left, const char *help, const char *fallback, const char *environment)
{
    char right[1024];
    size_t n = strlen(left), r = (size_t)snprintf(right, sizeof right, "%s", help);
    if (fallback && *fallback)
        r += (size_t)snprintf(right + r, sizeof right - r, " [default: %s]", fallback);
    if (environment)
        add_environment(right + r, sizeof right - r, environment);
    printf("%s", left);
    if (n + 1 >= HELP_COLUMN)
        printf("\n%*s", HELP_COLUMN, "");
    else
        printf("%*s", HELP_COLUMN - (int)n, "");
    print_wrapped(right, HELP_COLUMN);
}

static const char *setting_argument(const emb_setting *setting)
{
    static const char *const names[] = {
        [EMB_SETTING_BOOL] = "[=BOOL]", [EMB_SETTING_COUNT] = " N",   [EMB_SETTING_BYTES] = " SIZE",
        [EMB_SETTING_REAL] = " X",      [EMB_SETTING_TEXT] = " TEXT", [EMB_SETTING_CHOICE] = " "};
    return setting->separator ? " LIST" : names[setting->kind];
}

/* Settings by section, behind the command's own options. */
static void print_settings(void)
{
    size_t count, section = 0;
    const emb_setting *settings = emb_settings(&count);
    const char *before = "";
    for (size_t i = 0; i < count; i++, before = settings[i - 1].path) {
        char name[EMB_SETTINGS_FLAG_NAME_MAX], left[192];
        const emb_setting *s = &settings[i];
        section = strcspn(s->path, ".");
        if (strncmp(before, s->path, section + 1) != 0)
            printf("\nSettings, %.*s:\n", (int)section, s->path);
        snprintf(left, sizeof left, "      %s%s%s", emb_settings_flag_name(s, name), setting_argument(s),
                 s->choices ? s->choices : "");
        print_row(left, s->help, s->fallback, s->environment);
    }
}

static void print_option(const emb_option *option)
{
    char left[160];
    const char *argument = option->kind == EMB_OPTION_CHOICE ? option->choices : option->argument;
    char letter[] = {'-', option->letter, ',', 0};
    int n = snprintf(left, sizeof left, "  %-3s --%s", option->letter ? letter : "", option->name);
    if (argument && option->kind != EMB_OPTION_FLAG)
        n += snprintf(left + n, sizeof left - (size_t)n, " %s", argument);
    const char *fallback = option->default_note ? option->default_note : option->fallback;
    print_row(left, option->help, fallback, option->environment);
}

void emb_options_help(const emb_command *command)
{
    const char *head = "Usage:";
    for (const char *u = command->usage; u && *u;) {
        size_t length = strcspn(u, "\n");
        printf("%-6s embedd %.*s\n", head, (int)length, u);
        head = "  or:";
        u += length + (u[length] == '\n');
    }
    printf("\n%c%s.\n", toupper((unsigned char)command->summary[0]), command->summary + 1);
    if (command->description)
        printf("%s\n", command->description);
    printf("\nOptions:\n");
    for (const emb_option *o = command->options; o && o->name; o++)
        if (o->help)
            print_option(o);
    printf("  -h, --help              this help\n");
    const emb_option *row = find_settings(command);
    if (row && !row->help)
        print_settings();
    if (command->examples)
        printf("\nExamples:\n%s\n", command->examples);
}
