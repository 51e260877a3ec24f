/*
 * main.c: finds the command in the table, parses its options and runs it.
 */
#include "cli/command.h"

#include <fcntl.h>
#include <signal.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* In the order of the list that `embedd help` prints. */
const emb_command *const emb_commands[] = {
    &emb_command_serve,
    &emb_command_embed,
    &emb_command_similarity,
    &emb_command_tokenize,
    &emb_command_models,
    &emb_command_pull,
#ifndef EMB_GATEWAY_ONLY
    &emb_command_inspect,
    &emb_command_quantize,
#endif
    &emb_command_route,
    &emb_command_costs,
    &emb_command_rollout,
    &emb_command_shadow,
    &emb_command_alerts,
    &emb_command_warm,
    &emb_command_cache,
    &emb_command_config,
    &emb_command_key,
    &emb_command_pii,
#ifndef EMB_GATEWAY_ONLY
    &emb_command_bench,
    &emb_command_tune,
#endif
    &emb_command_loadtest,
    &emb_command_doctor,
    &emb_command_version,
    &emb_command_help,
    NULL,
};

enum { COMMANDS_MAX = 32 };

const emb_command *emb_command_find(const char *name)
{
    for (size_t i = 0; emb_commands[i]; i++)
        if (strcmp(emb_commands[i]->name, name) == 0)
            return emb_commands[i];
    return NULL;
}

void emb_print_commands(void)
{
    printf("embedd %s: text to embedding vectors, on this machine\n\n"
           "Usage: embedd COMMAND [OPTION...]\n\nCommands:\n",
           emb_version());
    for (size_t i = 0; emb_commands[i]; i++)
        printf("  %-12s%s\n", emb_commands[i]->name, emb_commands[i]->summary);
    printf("\n'embedd COMMAND --help' tells more about one of them. A first try:\n\n"
           "  embedd embed \"hello world\"\n");
}

static int unknown_command(const char *name)
{
    const char *names[COMMANDS_MAX];
    size_t count = 0;
    for (; emb_commands[count]; count++)
        names[count] = emb_commands[count]->name;
    const char *nearest = emb_nearest(name, names, count);
    fprintf(stderr, "embedd: unknown command '%s'", name);
    if (nearest)
        fprintf(stderr, "; did you mean '%s'?", nearest);
    fprintf(stderr, "\nTry 'embedd help'.\n");
    return EMB_EXIT_USAGE;
}

/* Descriptors 0 to 2 that are closed are opened the wrong way round: a file that is opened later cannot
 * take their number and receive the output, and using them is still an error. */
static void hold_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            return;
}

static int run_command(const emb_command *command, int argc, char **argv)
{
    alignas(16) char settings[EMB_SETTINGS_MAX];
    size_t count;
    int status = emb_options_parse(command, argc, argv, settings, &count);
    if (status < 0)
        status = command->run(settings, argv, count);
    return emb_finish_stdout(command->name, status);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is reported as a failed write … */
    signal(SIGXFSZ, SIG_IGN); /* … and so is a file over the limit of the shell */
    hold_standard_descriptors();
    if (argc < 2) {
        emb_print_commands();
        return emb_finish_stdout("help", EMB_EXIT_USAGE);
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    const emb_command *command = emb_command_find(name);
    if (!command)
        return unknown_command(name);
    return run_command(command, argc - 2, argv + 2);
}
