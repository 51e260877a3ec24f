/* cmd_help.c: `embedd help [COMMAND]`. */
#include "cli/command.h"

static const emb_option options[] = {EMB_OPTIONS_END};

static int run(const void *settings, char **arguments, size_t count)
{
    (void)settings;
    if (count == 0) {
        emb_print_commands();
        return EMB_EXIT_OK;
    }
    const emb_command *command = emb_command_find(arguments[0]);
    if (!command)
        return emb_usage_error(&emb_command_help, "there is no command '%s'", arguments[0]);
    emb_options_help(command);
    return EMB_EXIT_OK;
}

const emb_command emb_command_help = {
    .name = "help",
    .summary = "the list of commands, or one of them explained",
    .usage = "help [COMMAND]",
    .options = options,
    .settings_size = 1,
    .maximum_arguments = 1,
    .run = run,
};
