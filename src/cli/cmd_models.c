/*
 * cmd_models.c: `embedd models`: the known models side by side, and which to take.
 *
 * A model counts as installed if it would be found by its name or its hub name, in the order of places
 * that opening it uses.
 */
#include "cli/command.h"

#include "base/error.h"
#include "base/json_write.h"
#include "engine/locate.h"
#include "model/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    int goal, format;
} settings;

enum { TABLE, JSON };

static const emb_option options[] = {
    {.name = "recommend",
     .letter = 'r',
     .kind = EMB_OPTION_CHOICE,
     .choices = EMB_GOAL_NAMES,
     .offset = offsetof(settings, goal),
     .help = "only the models for a goal, the best first"},
    {.name = "format",
     .letter = 'f',
     .kind = EMB_OPTION_CHOICE,
     .choices = "table|json",
     .fallback = "table",
     .offset = offsetof(settings, format),
     .help = "how to print them"},
    EMB_OPTIONS_END,
};

/* The directory of an installed model in malloc'ed memory, or NULL. */
static char *installed_at(const emb_catalog_entry *entry)
{
    char *path;
    if (!entry->repository || (emb_locate_model(entry->name, NULL, &path, NULL) &&
                               emb_locate_model(entry->repository, NULL, &path, NULL)))
        return NULL;
    return path;
}

/* Models on this machine that are not in the table, one line each; a name is listed once. */
typedef struct others {
    emb_buf lines, names;
    emb_status status;
} others;

static bool visit_other(void *context, const char *name, const char *path)
{
    others *o = context;
    const char *last = strrchr(name, '/');
    char marked[300];
    int n = snprintf(marked, sizeof marked, "\n%s\n", name);
    if (emb_catalog_find(name) || emb_catalog_find(last ? last + 1 : name) || n < 0 ||
        (size_t)n >= sizeof marked)
        return true;
    if (o->names.length > 0 && memmem(o->names.data, o->names.length, marked, (size_t)n))
        return true;
    o->status = emb_buf_add(&o->names, marked, (size_t)n);
    if (!o->status)
        o->status = emb_buf_addf(&o->lines, "  %-24s %s\n", name, path);
    return o->status == EMB_OK;
}

static void print_others(void)
{
    others o = {EMB_BUF_INIT(1 << 24), EMB_BUF_INIT(1 << 24), EMB_OK};
    if (emb_locate_each(NULL, visit_other, &o, NULL) == EMB_OK && !o.status && o.lines.length > 0)
        printf("\nAlso installed:\n%.*s", (int)o.lines.length, o.lines.data);
    emb_buf_fini(&o.lines);
    emb_buf_fini(&o.names);
}

/* ---- table ---- */

static void print_row(const emb_catalog_entry *e, const char *path)
{
    char size[32] = "-", mteb[32] = "-", price[32] = "free";
    if (e->download_mb >= 1000)
        snprintf(size, sizeof size, "%.1f GB", e->download_mb / 1000.0);
    else if (e->download_mb)
        snprintf(size, sizeof size, "%u MB", e->download_mb);
    if (e->mteb > 0)
        snprintf(mteb, sizeof mteb, "%.1f", (double)e->mteb + 1e-4); /* 63.55 is a little less in binary */
    if (e->price_nusd_per_1k)
        snprintf(price, sizeof price, "$%.5f", (double)e->price_nusd_per_1k / 1e9);
    printf("%-24s %5u  %6u  %5s  %7s  %-9s %-7s %-5s %s\n", e->name, e->dimension, e->max_tokens, mteb, size,
           price, e->provider, e->multilingual ? "many" : "en",
           path            ? "installed"
           : e->repository ? e->repository
                           : "hosted");
}

static void print_table(const emb_catalog_entry *const *entries, char **paths, size_t count, int goal)
{
    printf("%-24s %5s  %6s  %5s  %7s  %-9s %-7s %-5s %s\n", "MODEL", "DIM", "TOKENS", "MTEB", "SIZE",
           "COST/1K", "RUNS", "LANG", "WHERE");
    for (size_t i = 0; i < count; i++)
        print_row(entries[i], paths[i]);
    if (goal >= 0) {
        printf("\nFor %s take %s: %s.\n", emb_option_choice(EMB_GOAL_NAMES, goal), entries[0]->name,
               emb_catalog_reason((emb_goal)goal));
        return;
    }
    printf(
        "\nDIM: numbers in a vector. TOKENS: the longest text. MTEB: average of MTEB English v1 as "
        "published,\n"
        "'-' where there is none. SIZE: weights to download. COST: US dollars for 1,000 tokens, list price.\n"
        "WHERE: installed, or the name on the Hugging Face hub; hosted models are listed to compare.\n"
        "'embedd models --recommend GOAL' helps to choose.\n");
    print_others();
}

/* ---- JSON ---- */

/* A number, or null where nothing is known (0). */
static emb_status add_known(emb_buf *out, const char *name, double value)
{
    return value > 0 ? emb_buf_addf(out, ",\"%s\":%.10g", name, value)
                     : emb_buf_addf(out, ",\"%s\":null", name);
}

static emb_status add_entry(emb_buf *out, const emb_catalog_entry *e, const char *path)
{
    emb_status status = emb_buf_add_str(out, "{\"name\":");
    if (!status)
        status = emb_json_write_string(out, e->name, strlen(e->name));
    if (!status)
        status = emb_json_write_member(out, "provider", e->provider);
    if (!status)
        status = emb_json_write_member(out, "repository", e->repository);
    if (!status)
        status = emb_buf_addf(out, ",\"dimension\":%u,\"max_tokens\":%u", e->dimension, e->max_tokens);
    if (!status)
        status = add_known(out, "max_batch", e->max_batch);
    if (!status)
        status = add_known(out, "parameters", e->parameters_k * 1000.0);
    if (!status)
        status = add_known(out, "download_bytes", e->download_mb * 1e6);
    if (!status)
        status = add_known(out, "mteb", (double)(int)(e->mteb * 100 + 0.5f) / 100);
    if (!status)
        status = emb_buf_addf(out, ",\"usd_per_1k_tokens\":%.10g,\"multilingual\":%s,\"shortens\":%s",
                              (double)e->price_nusd_per_1k / 1e9, e->multilingual ? "true" : "false",
                              e->shortens ? "true" : "false");
    if (!status)
        status = emb_json_write_member(out, "licence", e->licence);
    if (!status)
        status = emb_json_write_member(out, "query_prompt", e->query_prompt);
    if (!status)
        status = emb_json_write_member(out, "document_prompt", e->document_prompt);
    if (!status)
        status = emb_buf_addf(out, ",\"installed\":%s", path ? "true" : "false");
    if (!status)
        status = emb_json_write_member(out, "path", path);
    return status ? status : emb_buf_add(out, "}", 1);
}

static emb_status print_json(const emb_catalog_entry *const *entries, char **paths, size_t count)
{
    emb_buf out = EMB_BUF_INIT(1 << 24);
    emb_status status = emb_buf_add_str(&out, "[\n");
    for (size_t i = 0; i < count && !status; i++) {
        status = add_entry(&out, entries[i], paths[i]);
        if (!status)
            status = emb_buf_add_str(&out, i + 1 < count ? ",\n" : "\n]\n");
    }
    if (!status)
        fwrite(out.data, 1, out.length, stdout);
    emb_buf_fini(&out);
    return status;
}

/* ---- the command ---- */

enum { MOST = 64 };

static int run(const void *raw, char **arguments, size_t none)
{
    const settings *s = raw;
    emb_error err;
    const emb_catalog_entry *entries[MOST];
    char *paths[MOST];
    size_t count;
    (void)arguments, (void)none;
    const emb_catalog_entry *all = emb_catalog_all(&count);
    if (s->goal >= 0)
        count = emb_catalog_recommend((emb_goal)s->goal, entries);
    else
        for (size_t i = 0; i < count && i < MOST; i++)
            entries[i] = &all[i];
    for (size_t i = 0; i < count; i++)
        paths[i] = installed_at(entries[i]);
    emb_status status = EMB_OK;
    if (s->format == JSON)
        status = print_json(entries, paths, count);
    else
        print_table(entries, paths, count, s->goal);
    for (size_t i = 0; i < count; i++)
        free(paths[i]);
    if (status)
        emb_fail_nomem(&err, "output", 0);
    return status ? emb_report_error("models", &err) : EMB_EXIT_OK;
}

const emb_command emb_command_models = {
    .name = "models",
    .summary = "the known models: dimension, size, quality, cost; which are installed",
    .usage = "models [OPTION...]",
    .description = "Any other BERT, RoBERTa, XLM-RoBERTa, MPNet or DistilBERT encoder works too: give its\n"
                   "directory with --model.",
    .options = options,
    .settings_size = sizeof(settings),
    .run = run,
};
