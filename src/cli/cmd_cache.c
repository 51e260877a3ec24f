/*
 * cmd_cache.c: `embedd cache stats|clear`: the second level of the cache, which this process and services
 * share. What a running service has in its memory is its own; the hit rates in its memory are in its
 * /metrics.
 */
#include "base/json_write.h"
#include "cli/progress.h"
#include "cli/settings_flags.h"
#include "model/catalog.h"
#include "service/storage.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    emb_settings_flags flags;
    const char *model, *older_than, *key;
    bool json;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

static const emb_option options[] = {
    {.name = "model",
     .letter = 'm',
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, model),
     .help = "clear: only vectors of this model"},
    {.name = "older-than",
     .kind = EMB_OPTION_TEXT,
     .argument = "AGE",
     .offset = offsetof(settings, older_than),
     .help = "clear: only what was computed longer ago: 90s, 30m, 12h, 7d"},
    {.name = "key",
     .letter = 'k',
     .kind = EMB_OPTION_TEXT,
     .argument = "KEY",
     .offset = offsetof(settings, key),
     .help = "clear: only the vector with this key, as stores show it: embed:v1:..."},
    {.name = "json",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, json),
     .help = "the answer as JSON"},
    EMB_SETTINGS_OPTIONS(settings, flags),
    EMB_OPTIONS_END,
};

/* "7d" in seconds. */
static bool parse_age(const char *text, uint64_t *out)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    unsigned long long number = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (end[0] == units[i].unit && !end[1]) {
            *out = number * units[i].seconds;
            return number > 0 && number <= UINT32_MAX;
        }
    return false;
}

/* ---- stats ----------------------------------------------------------------------------------- */

static int print_stats(const settings *s, emb_cache *cache)
{
    char entries[32], bytes[32];
    emb_cache_stats stats;
    emb_cache_get_stats(cache, &stats);
    bool answers = stats.l2_up && !*stats.l2_error;
    if (s->json) {
        emb_buf error = EMB_BUF_INIT(4096);
        const char *text = emb_json_write_string(&error, stats.l2_error, strlen(stats.l2_error))
                               ? NULL
                               : emb_buf_cstr(&error);
        printf("{\"kind\":\"%s\",\"up\":%s,\"entries\":%" PRIu64 ",\"bytes\":%" PRIu64
               ",\"evictions\":%" PRIu64 ",\"error\":%s}\n",
               stats.l2_kind, stats.l2_up ? "true" : "false", stats.l2.entries, stats.l2.bytes,
               stats.l2.evictions, text ? text : "null");
        emb_buf_fini(&error);
    } else if (answers) {
        printf("store    %s\nvectors  %s\nbytes    %s\n", stats.l2_kind,
               emb_number_text(stats.l2.entries, entries), emb_number_text(stats.l2.bytes, bytes));
    }
    if (answers)
        return EMB_EXIT_OK;
    emb_report("cache", "the store does not answer: %s",
               *stats.l2_error ? stats.l2_error : "no reason known");
    return EMB_EXIT_FAILURE;
}

/* ---- clear ----------------------------------------------------------------------------------- */

static int clear(const settings *s, emb_cache *cache, const emb_cache_filter *filter)
{
    char number[32];
    emb_error err = {0};
    uint64_t removed = 0;
    if (emb_cache_remove(cache, filter, &removed, &err))
        return emb_report_error("cache", &err);
    if (s->json)
        printf("{\"removed\":%" PRIu64 "}\n", removed);
    else
        printf("%s %s removed\n", emb_number_text(removed, number),
               removed == 1 ? "vector was" : "vectors were");
    return EMB_EXIT_OK;
}

/* -1, or the exit status after a message. */
static int make_filter(const settings *s, emb_cache_key *key, emb_cache_filter *filter)
{
    const emb_catalog_entry *known = s->model ? emb_catalog_find(s->model) : NULL;
    *filter = (emb_cache_filter){.model = known ? known->name : s->model};
    if (s->older_than && !parse_age(s->older_than, &filter->older_than_s))
        return emb_usage_error(&emb_command_cache,
                               "--older-than: '%s' is not an age such as 90s, 30m, 12h or 7d", s->older_than);
    if (s->key && !emb_cache_key_parse(s->key, key))
        return emb_usage_error(&emb_command_cache,
                               "--key: '%s' is not a key: 64 hex digits, 'embed:v1:' before them", s->key);
    filter->key = s->key ? key : NULL;
    return -1;
}

static int run(const void *opaque, char **arguments, size_t count)
{
    const settings *s = opaque;
    emb_config *config;
    emb_cache *cache;
    emb_error err = {0};
    emb_cache_key key;
    emb_cache_filter filter;
    bool clears = strcmp(arguments[0], "clear") == 0;
    (void)count;
    if (!clears && strcmp(arguments[0], "stats") != 0)
        return emb_usage_error(&emb_command_cache, "there is no 'cache %s'; there are stats and clear",
                               arguments[0]);
    if (!clears && (s->model || s->older_than || s->key))
        return emb_usage_error(&emb_command_cache, "--model, --older-than and --key are for 'cache clear'");
    int code = make_filter(s, &key, &filter);
    if (code < 0)
        code = emb_settings_load("cache", &s->flags, &config);
    if (code)
        return code;
    const emb_storage_options storage = {.config = config};
    emb_cache_stats stats;
    if (emb_storage_open_cache(&storage, &cache, &err)) {
        code = emb_report_error("cache", &err);
    } else {
        emb_cache_get_stats(cache, &stats);
        if (strcmp(stats.l2_kind, "none") == 0) {
            emb_report("cache", "the cache has no second level (cache.url, data.dir)");
            code = EMB_EXIT_FAILURE;
        } else {
            code = clears ? clear(s, cache, &filter) : print_stats(s, cache);
        }
        emb_cache_close(cache);
    }
    emb_config_release(config);
    return code;
}

const emb_command emb_command_cache = {
    .name = "cache",
    .summary = "the store of computed vectors: what is in it, and clearing it",
    .usage = "cache [OPTION...] stats\ncache [OPTION...] clear",
    .description = "stats  how many vectors the second level holds\n"
                   "clear  removes them; with --model, --older-than and --key only those that match all\n"
                   "       that is given\n\n"
                   "The second level is what cache.url says, by default a file in the data directory. A\n"
                   "service that runs keeps what it has in memory: restart it, or use its own route.",
    .examples = "  embedd cache stats\n"
                "  embedd cache clear --model all-MiniLM-L6-v2 --older-than 7d",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .needs = "one of stats and clear is",
    .run = run,
};
