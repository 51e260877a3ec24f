/*
 * cmd_warm.c: `embedd warm`: texts are embedded and put into the cache's second level, where a service that
 * uses the same one finds them. With a first level of its own this process would only help itself, so it
 * needs the second.
 */
#include "base/clock.h"
#include "base/json_write.h"
#include "cli/progress.h"
#include "cli/settings_flags.h"
#include "cli/stop.h"
#include "service/warm.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct settings {
    emb_settings_flags flags;
    const char *model;
    size_t most_used;
    bool query, document, json, quiet;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

enum { FLUSH_SECONDS = 120, DOWN_SECONDS = 3 };
#define NS UINT64_C(1000000000)

static const emb_option options[] = {
    {.name = "model",
     .letter = 'm',
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, model),
     .default_note = "models.default",
     .help = "the model whose vectors are wanted"},
    {.name = "query",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, query),
     .help = "as search queries: with the model's query prompt, as /embed/query has them"},
    {.name = "document",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, document),
     .help = "as documents: with the model's document prompt"},
    {.name = "most-used",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .maximum = 100000000,
     .default_note = "none",
     .offset = offsetof(settings, most_used),
     .help = "the N most used texts of the cache instead of a list; it must keep texts (cache.store_text)"},
    {.name = "json",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, json),
     .help = "the report as JSON"},
    {.name = "quiet",
     .letter = 'q',
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, quiet),
     .help = "no progress and no report"},
    EMB_SETTINGS_OPTIONS(settings, flags),
    EMB_OPTIONS_END,
};

static void show(void *context, uint64_t done, uint64_t total)
{
    emb_progress_show(context, &(emb_progress_state){.texts = done, .share = (double)done / (double)total});
}

static void print_json(const emb_warm_report *r, const char *model)
{
    emb_buf name = EMB_BUF_INIT(4096);
    const char *text = emb_json_write_string(&name, model, strlen(model)) ? NULL : emb_buf_cstr(&name);
    printf("{\"model\":%s,\"texts\":%" PRIu64 ",\"cached\":%" PRIu64 ",\"computed\":%" PRIu64
           ",\"failed\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"seconds\":%.3f}\n",
           text ? text : "null", r->texts, r->cached, r->computed, r->failed, r->tokens,
           (double)r->elapsed_ns * 1e-9);
    emb_buf_fini(&name);
}

static void print_report(const settings *s, const emb_warm_report *r)
{
    char texts[32], cached[32], computed[32], seconds[32];
    if (s->json) {
        print_json(r, r->model);
        return;
    }
    printf("%s texts for %s: %s were cached, %s computed", emb_number_text(r->texts, texts),
           *r->model ? r->model : "no model", emb_number_text(r->cached, cached),
           emb_number_text(r->computed, computed));
    if (r->failed)
        printf(", %" PRIu64 " failed", r->failed);
    printf(", in %s\n", emb_seconds_text((double)r->elapsed_ns * 1e-9, seconds));
}

/* Waits for the cache to write what was computed, as long as its store takes it. */
static bool flush(emb_cache *cache, emb_cache_stats *stats)
{
    int down = 0;
    bool flushed = false;
    for (int i = 0; i < FLUSH_SECONDS && !flushed && down < DOWN_SECONDS; i++) {
        flushed = emb_cache_flush(cache, emb_now_ns() + NS);
        emb_cache_get_stats(cache, stats);
        down = stats->l2_up ? 0 : down + 1;
    }
    return flushed;
}

/* Whether what was computed is where it belongs. */
static int check_stored(emb_cache *cache)
{
    emb_cache_stats stats;
    bool flushed = flush(cache, &stats);
    if (flushed && !stats.dropped && !stats.write_failures)
        return EMB_EXIT_OK;
    uint64_t lost = stats.dropped + stats.write_failures + stats.queued;
    emb_report("warm", "%" PRIu64 " %s not written to %s: %s", lost,
               lost == 1 ? "vector was" : "vectors were", stats.l2_kind,
               *stats.l2_error ? stats.l2_error : "it is too slow");
    return EMB_EXIT_FAILURE;
}

static emb_status check_cache(emb_service *service, emb_error *err)
{
    emb_cache_stats stats = {.l2_kind = "none"};
    emb_cache *cache = emb_service_cache(service);
    if (cache)
        emb_cache_get_stats(cache, &stats);
    if (strcmp(stats.l2_kind, "none") != 0)
        return EMB_OK;
    *err = (emb_error){.code = EMB_E_INVALID};
    snprintf(err->message, sizeof err->message,
             "there is nothing to warm: the cache has no second level (cache.enabled, cache.url, data.dir)");
    return EMB_E_INVALID;
}

static int warm(const settings *s, emb_service *service, const emb_warm_source *source)
{
    emb_error err = {0};
    emb_warm_report report;
    emb_progress bar;
    emb_role role = s->query ? EMB_ROLE_QUERY : s->document ? EMB_ROLE_DOCUMENT : EMB_ROLE_NONE;
    if (check_cache(service, &err))
        return emb_report_error("warm", &err);
    emb_progress_start(&bar, !s->quiet);
    emb_status status = emb_warm(service, source, s->model, role, show, &bar, emb_stop_flag(), &report, &err);
    emb_progress_end(&bar);
    if (!s->quiet && (!status || status == EMB_E_CANCELLED))
        print_report(s, &report);
    int code = check_stored(emb_service_cache(service));
    if (status && status != EMB_E_CANCELLED)
        return emb_report_error("warm", &err);
    return code || status || report.failed ? EMB_EXIT_FAILURE : EMB_EXIT_OK;
}

static int run(const void *opaque, char **arguments, size_t count)
{
    const settings *s = opaque;
    emb_config *config;
    emb_service *service;
    emb_error err;
    emb_warm_source source = {.most_used = s->most_used};
    if (s->query && s->document)
        return emb_usage_error(&emb_command_warm, "only one of --query and --document can be given");
    if ((count == 0) == (s->most_used == 0))
        return emb_usage_error(&emb_command_warm, "either a list, a file or --most-used is needed");
    if (count && emb_term_list_find(arguments[0]))
        source.list = arguments[0];
    else if (count &&
             (strchr(arguments[0], '/') || strchr(arguments[0], '.') || access(arguments[0], F_OK) == 0))
        source.file = arguments[0];
    else if (count)
        return emb_usage_error(&emb_command_warm, "'%s' is neither a list that ships (%s) nor a file",
                               arguments[0], emb_term_list_at(0)->name);
    int code = emb_settings_load("warm", &s->flags, &config);
    if (code)
        return code;
    emb_stop_install();
    if (emb_service_open(config, NULL, &service, &err)) {
        code = emb_report_error("warm", &err);
    } else {
        code = warm(s, service, &source);
        emb_service_close(service);
    }
    emb_config_release(config);
    code = emb_finish_stdout("warm", code); /* before the signal ends the process */
    emb_stop_die();
    return code;
}

const emb_command emb_command_warm = {
    .name = "warm",
    .summary = "embed texts before anybody asks, so that they are in the cache",
    .usage = "warm [OPTION...] LIST\nwarm [OPTION...] FILE\nwarm [OPTION...] --most-used N",
    .description = "LIST is a list of terms that ships: finance (retirement, tax, investing, banking, ...).\n"
                   "FILE has a text on each line ('#' at its start makes a comment), or is JSONL with\n"
                   "strings or with objects that have \"text\".\n\n"
                   "The vectors go to the second level of the cache, where a service that uses the same\n"
                   "one finds them, even while it runs. What is there already is not computed again.",
    .examples = "  embedd warm finance\n"
                "  embedd warm --query --model bge-small-en-v1.5 questions.txt\n"
                "  embedd warm --most-used 10000 --model bge-base-en-v1.5",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 0,
    .maximum_arguments = 1,
    .run = run,
};
