/*
 * options.c: one parser and one help printer for all commands.
 *
 * getopt_long was not used: it knows nothing of defaults, environment, ranges or choices, its messages
 * cannot suggest a spelling, and help would be a second list to keep in step. Here a row of a table says
 * all of it. Options may stand before and after plain arguments; "--" ends them; "--name=value",
 * "--name value", "-n value" and "-nvalue" are the same; the last of several wins.
 */
#include "cli/command.h"

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

/* ---- nearest spelling ---- */

/* Edit distance with transpositions of neighbours counted as one, words cut at WORD_MAX. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strnlen(a, WORD_MAX), m = strnlen(b, WORD_MAX);
    size_t rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *earlier = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best)
                best = before[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && earlier[j - 2] + 1 < best)
                best = earlier[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *emb_nearest(const char *word, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    size_t length = strlen(word), best_distance = length / 3 + 1; /* further away is no spelling mistake */
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, candidates[i]);
        bool prefix = length >= 3 && strncmp(candidates[i], word, length) == 0;
        if (prefix)
            distance = 0;
        if (distance < best_distance || (distance == best_distance && !best)) {
            best = candidates[i];
            best_distance = distance;
        }
    }
    return best;
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

static const emb_option *find_long(const emb_command *command, const char *name, size_t length)
{
    for (const emb_option *o = command->options; o && o->name; o++)
        if (strlen(o->name) == length && memcmp(o->name, name, length) == 0)
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
    char word[WORD_MAX];
    size_t count = 0;
    for (const emb_option *o = command->options; o && o->name && count < 63; o++)
        names[count++] = o->name;
    names[count++] = "help";
    snprintf(word, sizeof word, "%.*s", (int)(length < WORD_MAX ? length : WORD_MAX - 1), name);
    const char *nearest = emb_nearest(word, names, count);
    if (nearest)
        return emb_usage_error(command, "unknown option '--%s'; did you mean '--%s'?", word, nearest);
    return emb_usage_error(command, "unknown option '--%s'", word);
}

static int parse_long(const emb_command *command, int argc, char **argv, int *at, void *settings)
{
    const char *name = argv[*at] + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] ? name + length + 1 : NULL;
    char source[WORD_MAX + 2];
    const emb_option *option = find_long(command, name, length);
    if (!option)
        return unknown_long(command, name, length);
    snprintf(source, sizeof source, "--%s", option->name);
    if (option->kind == EMB_OPTION_FLAG) {
        if (value)
            return emb_usage_error(command, "%s takes no value", source);
    } else if (!value) {
        if (*at + 1 >= argc)
            return emb_usage_error(command, "%s needs a value", source);
        value = argv[++*at];
    }
    return store(command, option, source, value, settings);
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
        int status = store(command, option, source, value, settings);
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

static void print_option(const emb_option *option)
{
    char left[160], right[1024];
    const char *argument = option->kind == EMB_OPTION_CHOICE ? option->choices : option->argument;
    char letter[] = {'-', option->letter, ',', 0};
    int n = snprintf(left, sizeof left, "  %-3s --%s", option->letter ? letter : "", option->name);
    if (argument && option->kind != EMB_OPTION_FLAG)
        n += snprintf(left + n, sizeof left - (size_t)n, " %s", argument);
    const char *fallback = option->default_note ? option->default_note : option->fallback;
    int r = snprintf(right, sizeof right, "%s", option->help);
    if (fallback && *fallback)
        r += snprintf(right + r, sizeof right - (size_t)r, " [default: %s]", fallback);
    if (option->environment)
        add_environment(right + r, sizeof right - (size_t)r, option->environment);
    printf("%s", left);
    if (n + 1 >= HELP_COLUMN)
        printf("\n%*s", HELP_COLUMN, "");
    else
        printf("%*s", HELP_COLUMN - n, "");
    print_wrapped(right, HELP_COLUMN);
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
        print_option(o);
    printf("  -h, --help              this help\n");
    if (command->examples)
        printf("\nExamples:\n%s\n", command->examples);
}
