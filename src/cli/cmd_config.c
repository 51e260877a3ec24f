/*
 * cmd_config.c: `embedd config print|check|schema|docs`: what holds, what is wrong, and the documents of the
 * table.
 *
 * `check` reads the file of API keys as well, because a service would not start without it. Mistakes go to
 * stderr as the ones of any command, but all of them; what may be meant otherwise goes to stdout.
 */
#include "cli/settings_flags.h"

#include "service/access.h"

#include <stdio.h>
#include <string.h>

typedef struct settings {
    emb_settings_flags flags;
    bool plain;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

enum { DOCUMENT_MAX_BYTES = 64 << 20 };

static const emb_option options[] = {
    {.name = "no-origin",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, plain),
     .help = "print: without the comments that say where each value comes from"},
    EMB_SETTINGS_OPTIONS(settings, flags),
    EMB_OPTIONS_END,
};

static int print(const settings *s)
{
    emb_config *config;
    emb_buf out = EMB_BUF_INIT(DOCUMENT_MAX_BYTES);
    int status = emb_settings_load("config", &s->flags, &config);
    if (status)
        return status;
    status = emb_print_answer("config", &out, emb_config_write_yaml(config, !s->plain, &out));
    emb_config_release(config);
    return status;
}

static int check_keys(const emb_config *config)
{
    emb_error err = {0};
    emb_access *access;
    emb_status status = emb_access_open(config, &access, &err);
    if (!status) {
        emb_access_close(access);
        return EMB_EXIT_OK;
    }
    emb_report_error("config", &err);
    return status == EMB_E_NOMEM ? EMB_EXIT_FAILURE : EMB_EXIT_USAGE;
}

static void print_problem(void *context, const emb_error *problem)
{
    (void)context;
    emb_report_error("config", problem);
}

/* All mistakes, not the first alone as for a command that cannot go on. */
static int load(const settings *s, emb_config **config)
{
    emb_error err = {0};
    emb_config_sources sources = emb_settings_sources(&s->flags);
    sources.problem = print_problem;
    emb_status status = emb_config_load(&sources, config, &err);
    if (status && status != EMB_E_INVALID) /* the others have been printed */
        emb_report_error("config", &err);
    return status == EMB_OK ? EMB_EXIT_OK : status == EMB_E_NOMEM ? EMB_EXIT_FAILURE : EMB_EXIT_USAGE;
}

static int check(const settings *s)
{
    emb_config *config;
    size_t count;
    int status = load(s, &config);
    if (status)
        return status;
    status = check_keys(config);
    const emb_config_note *notes = emb_config_notes(config, &count);
    for (size_t i = 0; i < count; i++)
        printf("%s: %s\n", notes[i].warning ? "warning" : "note", notes[i].text);
    if (!status)
        printf("ok\n");
    emb_config_release(config);
    return status;
}

static int run(const void *opaque, char **arguments, size_t count)
{
    static const char *const topics[] = {"print", "check", "schema", "docs"};
    const settings *s = opaque;
    emb_buf out = EMB_BUF_INIT(DOCUMENT_MAX_BYTES);
    (void)count;
    if (strcmp(arguments[0], "print") == 0)
        return print(s);
    if (strcmp(arguments[0], "check") == 0)
        return check(s);
    if (strcmp(arguments[0], "schema") == 0)
        return emb_print_answer("config", &out, emb_config_write_schema(&out));
    if (strcmp(arguments[0], "docs") == 0)
        return emb_print_answer("config", &out, emb_config_write_markdown(&out));
    const char *nearest = emb_nearest(arguments[0], topics, sizeof topics / sizeof *topics);
    return emb_usage_error(&emb_command_config, "there is no 'config %s'%s%s%s", arguments[0],
                           nearest ? "; did you mean '" : "; there are print, check, schema and docs",
                           nearest ? nearest : "", nearest ? "'?" : "");
}

const emb_command emb_command_config = {
    .name = "config",
    .summary = "the settings of the service: what holds, and what is wrong",
    .usage = "config [OPTION...] print\nconfig [OPTION...] check\nconfig schema\nconfig docs",
    .description =
        "print   every setting as YAML, with the place that it comes from; a secret is not shown\n"
        "check   says all that is wrong, and which settings or variables have no effect; \"ok\" if\n"
        "        the service can start with it, status 2 if not\n"
        "schema  JSON schema of the YAML file, for editors\n"
        "docs    the page docs/configuration.md",
    .examples = "  embedd config print --config embedd.yaml --server-listen :9000\n"
                "  EMBEDD_LOG=debug embedd config check",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .needs = "one of print, check, schema and docs is",
    .run = run,
};
