/*
 * cmd_quantize.c: `embedd quantize`: a copy of a model directory with int8 weights, about a quarter of
 * the size.
 */
#include "cli/session.h"

#include "base/error.h"
#include "base/file.h"
#include "model/quantize.h"

#include <stdio.h>

typedef struct settings {
    size_t group, table_group;
    bool quiet;
} settings;

static const emb_option options[] = {
    {.name = "group",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "16",
     .minimum = 8,
     .maximum = 256,
     .offset = offsetof(settings, group),
     .help = "numbers of a row that share a scale: fewer are more exact and larger"},
    {.name = "table-group",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "64",
     .minimum = 8,
     .maximum = 256,
     .offset = offsetof(settings, table_group),
     .help = "the same for the word embeddings"},
    {.name = "quiet",
     .letter = 'q',
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, quiet),
     .help = "print nothing but errors"},
    EMB_OPTIONS_END,
};

static int run(const void *raw, char **arguments, size_t count)
{
    const settings *s = raw;
    const char *from = arguments[0], *to = arguments[1];
    emb_quantize_options o = EMB_QUANTIZE_OPTIONS_INIT;
    emb_quantize_report report;
    emb_error err;
    (void)count;
    if (!emb_is_directory(from))
        return emb_usage_error(&emb_command_quantize, "%s is not a directory", from);
    o.group = s->group;
    o.table_group = s->table_group;
    if (emb_quantize_directory(from, to, &o, &report, &err))
        return emb_report_error("quantize", &err);
    if (s->quiet)
        return EMB_EXIT_OK;
    printf("%s: %zu of %zu tensors as int8, %.1f MB instead of %.1f MB", to, report.quantized, report.tensors,
           (double)report.bytes_after / 1e6, (double)report.bytes_before / 1e6);
    if (report.worst_tensor[0])
        printf("; largest error %.2f %%, in %s", report.worst_error * 100, report.worst_tensor);
    putchar('\n');
    return EMB_EXIT_OK;
}

const emb_command emb_command_quantize = {
    .name = "quantize",
    .summary = "copy a model directory with int8 weights, a quarter of the size",
    .usage = "quantize [OPTION...] DIR OUT",
    .description = "The matrices become int8 with a scale for each small group of numbers; the rest and the\n"
                   "configuration stay as they are. OUT is a model directory like any other.",
    .examples = "  embedd quantize ./bge-base-en-v1.5 ./bge-base-int8",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 2,
    .maximum_arguments = 2,
    .needs = "two directories are",
    .run = run,
};
