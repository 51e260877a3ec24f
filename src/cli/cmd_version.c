/* cmd_version.c: `embedd version`: what to write into a bug report. */
#include "cli/command.h"
#ifndef EMB_GATEWAY_ONLY
#include "kernels/kernels.h"
#endif

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static const emb_option options[] = {EMB_OPTIONS_END};

#ifdef EMB_GATEWAY_ONLY
static void print_instruction_sets(void)
{
    printf("local models:     none, this is the gateway alone\n");
}
#else
static void print_instruction_sets(void)
{
    size_t count;
    const emb_isa *all = emb_kernels_all(&count);
    const char *separator = "";
    printf("instruction sets: ");
    for (size_t i = 0; i < count; i++)
        /* a name may have several tables, for chips with and without an extension */
        if (all[i].supported() &&
            (i + 1 == count || strcmp(all[i].kernels->name, all[i + 1].kernels->name))) {
            printf("%s%s", separator, all[i].kernels->name);
            separator = ", ";
        }
    printf(" (the last is used)\n");
}
#endif

static int run(const void *settings, char **arguments, size_t count)
{
    struct utsname system;
    (void)settings, (void)arguments, (void)count;
    printf("embedd %s\n", emb_version());
    print_instruction_sets();
#ifdef __clang__
    printf("built with:       clang %d.%d", __clang_major__, __clang_minor__);
#else
    printf("built with:       gcc %d.%d", __GNUC__, __GNUC_MINOR__);
#endif
#ifdef NDEBUG
    printf(", optimised\n");
#else
    printf(", with assertions\n");
#endif
    if (uname(&system) == 0)
        printf("system:           %s %s\n", system.sysname, system.machine);
    return EMB_EXIT_OK;
}

const emb_command emb_command_version = {
    .name = "version",
    .summary = "version, build and the instruction sets of this machine",
    .usage = "version",
    .options = options,
    .settings_size = 1,
    .run = run,
};
