/* cmd_serve.c: `embedd serve`: settings from the command line into the daemon. */
#include "cli/settings_flags.h"

#include "daemon/daemon.h"

#include <stddef.h>

typedef struct settings {
    emb_settings_flags flags;
    const char *listen, *model;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

static const emb_option options[] = {
    {.name = "listen",
     .letter = 'l',
     .kind = EMB_OPTION_TEXT,
     .argument = "ADDRESS",
     .offset = offsetof(settings, listen),
     .help = "short for --server-listen"},
    {.name = "model",
     .letter = 'm',
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, model),
     .help = "short for --models-default"},
    EMB_SETTINGS_OPTIONS_LISTED(settings, flags),
    EMB_OPTIONS_END,
};

static int run(const void *raw, char **arguments, size_t count)
{
    settings s = *(const settings *)raw;
    emb_daemon_options daemon;
    (void)arguments, (void)count;
    if (s.listen)
        emb_settings_flag_set(&s.flags, emb_setting_find("server.listen"), s.listen);
    if (s.model)
        emb_settings_flag_set(&s.flags, emb_setting_find("models.default"), s.model);
    int status = emb_settings_load("serve", &s.flags, &daemon.config);
    if (status)
        return status;
    daemon.sources = emb_settings_sources(&s.flags);
    status = emb_daemon_run(&daemon);
    emb_config_release(daemon.config);
    return status;
}

const emb_command emb_command_serve = {
    .name = "serve",
    .summary = "answer embedding clients over HTTP: OpenAI's, TEI's, Ollama's, Cohere's",
    .usage = "serve [OPTION...]",
    .description =
        "Serves until SIGTERM or Ctrl-C; SIGHUP reloads the settings. Every setting below is a flag, an\n"
        "environment variable and a line of the YAML file; a flag wins over the variable, that over the\n"
        "file. docs/operation.md tells how to run it.",
    .examples = "  embedd serve\n  embedd serve --listen :8000 --model bge-small-en-v1.5\n"
                "  embedd serve --config /etc/embedd/embedd.yaml --log-level debug",
    .options = options,
    .settings_size = sizeof(settings),
    .run = run,
};
