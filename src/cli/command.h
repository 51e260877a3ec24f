/*
 * command.h: the commands of the program, one table, and the options of each, one table per command.
 *
 *     static const emb_option options[] = {
 *         { .name = "seconds", .kind = EMB_OPTION_COUNT, .argument = "N", .fallback = "2", .minimum = 1,
 *           .maximum = 3600, .offset = offsetof(settings, seconds), .help = "how long each part runs" },
 *         EMB_OPTIONS_END
 *     };
 *     const emb_command emb_command_bench = { .name = "bench", .options = options, .run = run, … };
 *
 * A command's settings are a plain struct of its own; the parser fills it (fallback, then environment,
 * then flag) and hands it to run. `--help` is printed from the same table, so that help and behaviour
 * cannot part. Strings in settings point into argv or the environment.
 */
#ifndef EMB_CLI_COMMAND_H
#define EMB_CLI_COMMAND_H

#include "base/buf.h"
#include "base/nearest.h"

#include <embedd.h>

/* Exit statuses of the program. A run stopped by a signal ends with that signal instead. */
enum { EMB_EXIT_OK = 0, EMB_EXIT_FAILURE = 1, EMB_EXIT_USAGE = 2 };

/* Room for the settings of any command. */
#define EMB_SETTINGS_MAX 4096

typedef enum emb_option_kind {
    EMB_OPTION_FLAG,    /* bool, no argument */
    EMB_OPTION_TEXT,    /* const char *, NULL if neither given nor with a fallback */
    EMB_OPTION_COUNT,   /* size_t in minimum .. maximum */
    EMB_OPTION_CHOICE,  /* int: the index in choices; -1 if neither given nor with a fallback */
    EMB_OPTION_SETTINGS /* emb_settings_flags: all settings of the service, see cli/settings_flags.h */
} emb_option_kind;

typedef struct emb_option {
    const char *name; /* without the dashes */
    char letter;      /* short form, or 0 */
    emb_option_kind kind;
    const char *argument; /* as shown in help: "FILE"; CHOICE shows its choices */
    const char *help;
    const char *fallback;     /* the default as text, or NULL */
    const char *default_note; /* shown as the default where the fallback says too little, or NULL */
    const char *environment;  /* names, comma between; the first that is set and not empty is taken */
    const char *choices;      /* "json|jsonl|text" */
    size_t minimum, maximum;  /* of COUNT */
    size_t offset;            /* in the settings */
    size_t given;             /* offset of a bool that says whether it stood on the command line; 0: none */
} emb_option;

#define EMB_OPTIONS_END \
    {                   \
        .name = NULL    \
    }

typedef struct emb_command {
    const char *name;
    const char *summary;     /* one line for the list of commands */
    const char *usage;       /* what follows the program's name, alternatives on lines of their own */
    const char *description; /* paragraphs for --help, already wrapped; may be NULL */
    const char *examples;    /* lines for --help; may be NULL */
    const emb_option *options;
    size_t settings_size;
    size_t minimum_arguments, maximum_arguments;
    const char *needs; /* "two texts are": the message when arguments are missing goes on with "needed" */
    int (*run)(const void *settings, char **arguments, size_t count);
} emb_command;

/* Ends with NULL. */
extern const emb_command *const emb_commands[];
const emb_command *emb_command_find(const char *name);

extern const emb_command emb_command_serve;
extern const emb_command emb_command_embed;
extern const emb_command emb_command_similarity;
extern const emb_command emb_command_tokenize;
extern const emb_command emb_command_models;
extern const emb_command emb_command_pull;
extern const emb_command emb_command_inspect;
extern const emb_command emb_command_quantize;
extern const emb_command emb_command_route;
extern const emb_command emb_command_costs;
extern const emb_command emb_command_rollout;
extern const emb_command emb_command_shadow;
extern const emb_command emb_command_alerts;
extern const emb_command emb_command_warm;
extern const emb_command emb_command_cache;
extern const emb_command emb_command_config;
extern const emb_command emb_command_key;
extern const emb_command emb_command_pii;
extern const emb_command emb_command_bench;
extern const emb_command emb_command_tune;
extern const emb_command emb_command_loadtest;
extern const emb_command emb_command_doctor;
extern const emb_command emb_command_version;
extern const emb_command emb_command_help;

/* ---- options.c ---- */

/* Fills settings and moves the plain arguments to the front of argv, *count of them. Returns -1 to go on,
 * or the exit status: 0 after --help, 2 after a message about wrong use. */
int emb_options_parse(const emb_command *command, int argc, char **argv, void *settings, size_t *count);
/* The command's help on stdout. */
void emb_options_help(const emb_command *command);
/* The name of `choices` at an index. Lives until the next call. */
const char *emb_option_choice(const char *choices, int index);
/* Prints "embedd COMMAND: MESSAGE", a hint to --help, and returns EMB_EXIT_USAGE. */
int emb_usage_error(const emb_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints the list of commands, as `embedd help` does. */
void emb_print_commands(void);

/* ---- report.c ---- */

/* "embedd COMMAND: where: message" on stderr; returns EMB_EXIT_FAILURE. */
int emb_report_error(const char *command, const emb_error *err);
/* "embedd COMMAND: …" on stderr. */
void emb_report(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Writes an answer that was put together in a buffer to stdout, or reports why it could not be; frees it. */
int emb_print_answer(const char *command, emb_buf *answer, emb_status status);
/* Flushes stdout; a failure (full disk, closed pipe) is reported and turns status 0 into 1. */
int emb_finish_stdout(const char *command, int status);

#endif
