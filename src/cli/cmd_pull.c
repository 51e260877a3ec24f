/*
 * cmd_pull.c: `embedd pull`: models from the Hugging Face hub.
 *
 * After the files are there the model is really opened: that alone shows that this version can run it, and it
 * is better to hear it now than from a server at night. The command that is shown at the end names the model
 * in the shortest way that leads to these very files.
 */
#include "cli/command.h"

#include "base/clock.h"
#include "base/error.h"
#include "cli/progress.h"
#include "cli/pull_view.h"
#include "cli/session.h"
#include "cli/stop.h"
#include "engine/locate.h"
#include "hub/hub.h"
#include "model/catalog.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *revision, *token, *endpoint, *cache_directory, *include;
    size_t parallel, retries, timeout;
    bool all, offline, no_check, quiet;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

static const emb_option options[] = {
    {.name = "revision",
     .letter = 'r',
     .kind = EMB_OPTION_TEXT,
     .argument = "BRANCH|TAG|COMMIT",
     .default_note = "main",
     .offset = offsetof(settings, revision),
     .help = "which state of the repository; a commit pins it, and asks the hub only for what is not here"},
    {.name = "include",
     .kind = EMB_OPTION_TEXT,
     .argument = "GLOB",
     .offset = offsetof(settings, include),
     .help = "fetch files that match as well, besides those that embedd needs; several with commas between"},
    {.name = "all",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, all),
     .help = "fetch every file of the repository"},
    {.name = "offline",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, offline),
     .help = "do not ask the hub: say whether everything is here, and what is missing [env: HF_HUB_OFFLINE]"},
    {.name = "cache-dir",
     .kind = EMB_OPTION_TEXT,
     .argument = "DIR",
     .default_note = "HF_HUB_CACHE, HF_HOME/hub, ~/.cache/huggingface/hub",
     .offset = offsetof(settings, cache_directory),
     .help = "where models go"},
    {.name = "token",
     .kind = EMB_OPTION_TEXT,
     .argument = "TOKEN",
     .environment = "HF_TOKEN,HUGGING_FACE_HUB_TOKEN",
     .default_note = "the file HF_TOKEN_PATH, HF_HOME/token",
     .offset = offsetof(settings, token),
     .help = "access token, for private and gated models; other users of the machine can see it here, so "
             "HF_TOKEN is "
             "better"},
    {.name = "endpoint",
     .kind = EMB_OPTION_TEXT,
     .argument = "URL",
     .environment = "HF_ENDPOINT",
     .default_note = "https://huggingface.co",
     .offset = offsetof(settings, endpoint),
     .help = "address of the hub"},
    {.name = "parallel",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "4",
     .minimum = 1,
     .maximum = 64,
     .offset = offsetof(settings, parallel),
     .help = "files at a time"},
    {.name = "retries",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "5",
     .minimum = 0,
     .maximum = 1000,
     .offset = offsetof(settings, retries),
     .help = "how often to try again after a failure that may pass, without progress in between"},
    {.name = "timeout",
     .kind = EMB_OPTION_COUNT,
     .argument = "SECONDS",
     .fallback = "30",
     .minimum = 1,
     .maximum = 86400,
     .environment = "HF_HUB_DOWNLOAD_TIMEOUT",
     .offset = offsetof(settings, timeout),
     .help = "how long a transfer may stand still before it is begun again"},
    {.name = "no-check",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, no_check),
     .help = "do not open the model at the end to see whether it can be run"},
    {.name = "quiet",
     .letter = 'q',
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, quiet),
     .help = "no progress; print the directory and nothing else"},
    EMB_OPTIONS_END,
};

/* ---- afterwards ---- */

static bool leads_to(const char *name, const char *path)
{
    char *found, a[PATH_MAX], b[PATH_MAX];
    if (emb_locate_model(name, NULL, &found, NULL))
        return false;
    bool same = realpath(found, a) && realpath(path, b) && strcmp(a, b) == 0;
    free(found);
    return same;
}

/* The shortest of the name, the repository and the path by which these files are found. */
static const char *way_to(const char *name, const emb_hub_result *r)
{
    const emb_catalog_entry *known = emb_catalog_find(name);
    if (known && leads_to(known->name, r->path))
        return known->name;
    if (leads_to(name, r->path))
        return name;
    return leads_to(r->repository, r->path) ? r->repository : r->path;
}

static int check(const emb_hub_result *r, bool quiet)
{
    emb_model_settings m = {.model = r->path, .precision = EMB_PRECISION_AUTO};
    emb_session session;
    emb_error err;
    char time[32];
    if (emb_session_open(&session, &m, false, &err)) {
        emb_report("pull", "%s is complete and cannot be run: %s", r->repository, err.message);
        return EMB_EXIT_FAILURE;
    }
    if (!quiet)
        printf("  can be run: %s, %zu dimensions, texts of up to %zu tokens; opened in %s\n",
               session.info.architecture, session.info.dimension, session.info.max_tokens,
               emb_seconds_text((double)session.load_ns / 1e9, time));
    emb_session_close(&session);
    return EMB_EXIT_OK;
}

static void print_summary(const emb_hub_result *r, double seconds)
{
    char size[32], came[32], time[32], rate[32];
    printf("%s at commit %.12s: %zu files, %s", r->repository, r->commit, r->files,
           emb_bytes_text((double)r->bytes, size));
    if (r->fetched > 0)
        printf("; fetched %zu, %s in %s (%s/s)\n", r->fetched, emb_bytes_text((double)r->fetched_bytes, came),
               emb_seconds_text(seconds, time), emb_bytes_text((double)r->fetched_bytes / seconds, rate));
    else
        printf("; all of it was here%s\n", r->unconfirmed ? " (the hub was not asked)" : "");
    printf("  in %s\n", r->path);
}

static int finish(const settings *s, const char *name, const emb_hub_result *r, double seconds)
{
    if (s->quiet)
        printf("%s\n", r->path);
    else
        print_summary(r, seconds);
    fflush(stdout);
    if (s->no_check)
        return EMB_EXIT_OK;
    int code = check(r, s->quiet);
    if (code == EMB_EXIT_OK && !s->quiet)
        printf("\n  embedd embed --model %s \"hello world\"\n", way_to(name, r));
    return code;
}

/* ---- the command ---- */

static int stopped(const emb_error *err)
{
    if (err->code != EMB_E_CANCELLED || !emb_stop_signal())
        return emb_report_error("pull", err);
    emb_report("pull", "stopped by SIG%s; what came is kept, and the same command goes on from there",
               emb_stop_signal_name());
    emb_stop_die();
    return EMB_EXIT_FAILURE;
}

static int pull_one(const settings *s, const char *name)
{
    emb_hub_options o = EMB_HUB_OPTIONS_INIT;
    emb_hub_result r;
    emb_error err;
    emb_pull_view view;
    o.name = name;
    o.revision = s->revision;
    o.endpoint = s->endpoint;
    o.token = s->token;
    o.cache_directory = s->cache_directory;
    o.include = s->include;
    o.all = s->all;
    o.offline = s->offline || emb_hub_offline();
    o.parallel = (unsigned)s->parallel;
    o.retries = (unsigned)s->retries;
    o.stall_ms = (unsigned)s->timeout * 1000;
    o.cancel = emb_stop_flag();
    o.on_progress = emb_pull_view_show;
    o.context = &view;
    uint64_t start = emb_now_ns();
    emb_pull_view_start(&view, s->quiet);
    emb_status status = emb_hub_pull(&o, &r, &err);
    emb_pull_view_end(&view);
    if (status)
        return stopped(&err);
    int code = finish(s, name, &r, (double)(emb_now_ns() - start) / 1e9);
    emb_hub_result_fini(&r);
    return code;
}

static int run(const void *raw, char **arguments, size_t count)
{
    int code = EMB_EXIT_OK;
    emb_stop_install();
    for (size_t i = 0; i < count && !emb_stopped(); i++)
        if (pull_one(raw, arguments[i]) != EMB_EXIT_OK)
            code = EMB_EXIT_FAILURE;
    return code;
}

const emb_command emb_command_pull = {
    .name = "pull",
    .summary = "fetch models from the Hugging Face hub",
    .usage = "pull [OPTION...] NAME...",
    .description =
        "NAME is one of 'embedd models', or ORGANISATION/NAME as on the hub. The files go to the hub's\n"
        "cache, which Python's libraries use too. A pull that was stopped goes on where it stopped.",
    .examples = "  embedd pull bge-small-en-v1.5\n"
                "  embedd pull BAAI/bge-m3 --revision 5617a9f61b028005a4858fdac845db406aefb181\n"
                "  HF_ENDPOINT=https://hub.example.com embedd pull intfloat/e5-small-v2",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 1,
    .maximum_arguments = 1000,
    .needs = "the name of a model is",
    .run = run,
};
