/*
 * cmd_shadow.c: `embedd shadow report|watch|clear`: what services have compared, from the store that they
 * share.
 *
 * It reads the database and nothing else: the neighbour overlap and the drops are what a service wrote there
 * last. watch draws the report again and again on a terminal, and adds a line each time where it is piped.
 */
#include "base/json_write.h"
#include "cli/progress.h"
#include "cli/settings_flags.h"
#include "cli/stop.h"
#include "service/storage.h"
#include "shadow/shadow.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct settings {
    emb_settings_flags flags;
    size_t since_hours, samples, interval_s;
    bool json, yes;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

static const emb_option options[] = {
    {.name = "since",
     .kind = EMB_OPTION_COUNT,
     .argument = "HOURS",
     .fallback = "0",
     .default_note = "everything",
     .minimum = 0,
     .maximum = 100000,
     .offset = offsetof(settings, since_hours),
     .help = "report, watch: only comparisons of the last HOURS"},
    {.name = "samples",
     .letter = 'n',
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "5",
     .minimum = 0,
     .maximum = 1000,
     .offset = offsetof(settings, samples),
     .help = "report: how many of the worst pairs; with --json of the newest, too"},
    {.name = "interval",
     .kind = EMB_OPTION_COUNT,
     .argument = "S",
     .fallback = "5",
     .minimum = 1,
     .maximum = 86400,
     .offset = offsetof(settings, interval_s),
     .help = "watch: seconds between two looks"},
    {.name = "json", .kind = EMB_OPTION_FLAG, .offset = offsetof(settings, json), .help = "report: as JSON"},
    {.name = "yes",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, yes),
     .help = "clear: yes, remove everything that was compared"},
    EMB_SETTINGS_OPTIONS(settings, flags),
    EMB_OPTIONS_END,
};

/* ---- the report as a table ---- */

static const char *time_text(int64_t time_s, char out[32])
{
    struct tm parts;
    time_t t = (time_t)time_s;
    if (!gmtime_r(&t, &parts) || !strftime(out, 32, "%Y-%m-%d %H:%M", &parts))
        snprintf(out, 32, "-");
    return out;
}

static void print_interval(const char *name, const emb_shadow_interval *i, const char *note)
{
    printf("%-14s%.4f   95 %%: %.4f .. %.4f%s\n", name, i->mean, i->low, i->high, note);
}

static void print_head(const emb_shadow_report *r)
{
    char first[32], last[32], number[32], note[64];
    printf("%-14s%s, %.2f %% failed (95 %%: %.2f .. %.2f %%)\n", "comparisons",
           emb_number_text(r->all.comparisons, number), 100 * r->failure_share.mean,
           100 * r->failure_share.low, 100 * r->failure_share.high);
    printf("%-14s%s\n", "dropped", emb_number_text(r->dropped, number));
    printf("%-14s%s to %s UTC, %.1f hours\n", "period", time_text(r->first_s, first),
           time_text(r->last_s, last), (double)(r->last_s - r->first_s) / 3600);
    printf("%-14s%s\n", "spaces",
           r->same_space ? "one: cosines count" : "two: neighbours count, cosines do not");
    if (r->all.with_cosine) {
        snprintf(note, sizeof note, "   worst %.4f", r->all.cosine_worst);
        print_interval("cosine", &r->all.cosine, note);
    }
    if (r->has_overlap) {
        snprintf(note, sizeof note, "   of %zu texts", r->window);
        print_interval("overlap@10", &r->overlap, note);
        print_interval("ranks", &r->rank_correlation, note);
    }
}

static void print_group(const emb_shadow_group *g, const char *name)
{
    char number[32], cosine[32] = "-", p5[32] = "-";
    if (g->with_cosine) {
        snprintf(cosine, sizeof cosine, "%.4f", g->cosine.mean);
        snprintf(p5, sizeof p5, "%.4f", g->cosine_p5);
    }
    printf("%-20.20s %12s %7" PRIu64 " %8s %8s %9.1f %9.1f %9.1f %9.1f %11.6f %11.6f\n", name,
           emb_number_text(g->comparisons, number), g->failures, cosine, p5, g->legacy_p50_ms,
           g->legacy_p95_ms, g->candidate_p50_ms, g->candidate_p95_ms, (double)g->legacy_nusd / 1e9,
           (double)g->candidate_nusd / 1e9);
}

static void print_groups(const emb_shadow_report *r)
{
    printf("\n%-20s %12s %7s %8s %8s %19s %19s %11s %11s\n", "", "", "", "", "", "legacy ms", "candidate ms",
           "legacy", "candidate");
    printf("%-20s %12s %7s %8s %8s %9s %9s %9s %9s %11s %11s\n", "category", "comparisons", "failed",
           "cosine", "p5", "p50", "p95", "p50", "p95", "USD", "USD");
    for (size_t i = 0; i < r->category_count; i++)
        print_group(&r->categories[i], *r->categories[i].name ? r->categories[i].name : "(none)");
    print_group(&r->all, "all");
}

static void print_worst(const emb_shadow_report *r)
{
    char when[32];
    if (!r->worst_count)
        return;
    printf("\n%-32s %8s  %-16s  %s\n", "worst pairs, by text hash", "cosine", "time (UTC)",
           "category: legacy, candidate");
    for (size_t i = 0; i < r->worst_count; i++) {
        const emb_shadow_sample *s = &r->worst[i];
        printf("%s %8.4f  %s  %s: %s, %s\n", s->text, s->cosine, time_text(s->time_s, when),
               *s->category ? s->category : "(none)", s->legacy, s->candidate);
    }
}

static void print_report(const emb_shadow_report *r)
{
    if (!r->all.comparisons) {
        char number[32];
        printf("nothing was compared, %s dropped\n", emb_number_text(r->dropped, number));
        return;
    }
    print_head(r);
    print_groups(r);
    print_worst(r);
}

/* ---- the report as JSON ---- */

static emb_status put_text(emb_buf *b, const char *name, const char *value)
{
    emb_status st = emb_buf_addf(b, "\"%s\":", name);
    if (st == EMB_OK)
        st = value ? emb_json_write_string(b, value, strlen(value)) : emb_buf_add_str(b, "null");
    return st == EMB_OK ? emb_buf_add_str(b, ",") : st;
}

static emb_status put_interval(emb_buf *b, const char *name, const emb_shadow_interval *i, bool there)
{
    if (!there)
        return emb_buf_addf(b, "\"%s\":null,", name);
    return emb_buf_addf(b, "\"%s\":{\"mean\":%.6f,\"low\":%.6f,\"high\":%.6f},", name, i->mean, i->low,
                        i->high);
}

static emb_status put_group(emb_buf *b, const emb_shadow_group *g)
{
    emb_status st =
        emb_buf_addf(b, "\"comparisons\":%" PRIu64 ",\"failures\":%" PRIu64 ",\"with_cosine\":%" PRIu64 ",",
                     g->comparisons, g->failures, g->with_cosine);
    if (st == EMB_OK && g->with_cosine)
        st = emb_buf_addf(
            b,
            "\"cosine\":{\"mean\":%.6f,\"low\":%.6f,\"high\":%.6f,\"p5\":%.6f,\"p50\":%.6f,\"worst\":%.6f},",
            g->cosine.mean, g->cosine.low, g->cosine.high, g->cosine_p5, g->cosine_p50, g->cosine_worst);
    else if (st == EMB_OK)
        st = emb_buf_add_str(b, "\"cosine\":null,");
    if (st != EMB_OK)
        return st;
    return emb_buf_addf(b,
                        "\"legacy\":{\"p50_ms\":%.3f,\"p95_ms\":%.3f,\"cost_usd\":%.9f},"
                        "\"candidate\":{\"p50_ms\":%.3f,\"p95_ms\":%.3f,\"cost_usd\":%.9f}",
                        g->legacy_p50_ms, g->legacy_p95_ms, (double)g->legacy_nusd / 1e9, g->candidate_p50_ms,
                        g->candidate_p95_ms, (double)g->candidate_nusd / 1e9);
}

static emb_status put_sample(emb_buf *b, const emb_shadow_sample *s)
{
    char cosine[32] = "null";
    if (s->has_cosine)
        snprintf(cosine, sizeof cosine, "%.6f", s->cosine);
    emb_status st = emb_buf_addf(b, "{\"time_s\":%" PRId64 ",", s->time_s);
    if (st == EMB_OK && (st = put_text(b, "text_hash", s->text)) == EMB_OK &&
        (st = put_text(b, "category", s->category)) == EMB_OK &&
        (st = put_text(b, "legacy", s->legacy)) == EMB_OK &&
        (st = put_text(b, "candidate", s->candidate)) == EMB_OK &&
        (st = put_text(b, "error", s->error)) == EMB_OK)
        st = emb_buf_addf(b, "\"cosine\":%s,\"legacy_ms\":%.3f,\"candidate_ms\":%.3f}", cosine, s->legacy_ms,
                          s->candidate_ms);
    return st;
}

static emb_status put_samples(emb_buf *b, const char *name, const emb_shadow_sample *samples, size_t count)
{
    emb_status st = emb_buf_addf(b, ",\"%s\":[", name);
    for (size_t i = 0; st == EMB_OK && i < count; i++) {
        if (i)
            st = emb_buf_add_str(b, ",");
        if (st == EMB_OK)
            st = put_sample(b, &samples[i]);
    }
    return st == EMB_OK ? emb_buf_add_str(b, "]") : st;
}

static emb_status put_categories(emb_buf *b, const emb_shadow_report *r)
{
    emb_status st = emb_buf_add_str(b, ",\"categories\":[");
    for (size_t i = 0; st == EMB_OK && i < r->category_count; i++) {
        if ((st = emb_buf_add_str(b, i ? ",{" : "{")) == EMB_OK &&
            (st = put_text(b, "category", r->categories[i].name)) == EMB_OK &&
            (st = put_group(b, &r->categories[i])) == EMB_OK)
            st = emb_buf_add_str(b, "}");
    }
    return st == EMB_OK ? emb_buf_add_str(b, "]") : st;
}

static emb_status put_report(emb_buf *b, const emb_shadow_report *r)
{
    emb_status st =
        emb_buf_addf(b,
                     "{\"first_s\":%" PRId64 ",\"last_s\":%" PRId64 ",\"same_space\":%s,\"window\":%zu,"
                     "\"dropped\":%" PRIu64 ",",
                     r->first_s, r->last_s, r->same_space ? "true" : "false", r->window, r->dropped);
    if (st == EMB_OK && (st = put_interval(b, "failure_share", &r->failure_share, true)) == EMB_OK &&
        (st = put_interval(b, "neighbour_overlap", &r->overlap, r->has_overlap)) == EMB_OK &&
        (st = put_interval(b, "rank_correlation", &r->rank_correlation, r->has_overlap)) == EMB_OK &&
        (st = put_group(b, &r->all)) == EMB_OK && (st = put_categories(b, r)) == EMB_OK &&
        (st = put_samples(b, "worst", r->worst, r->worst_count)) == EMB_OK &&
        (st = put_samples(b, "newest", r->newest, r->newest_count)) == EMB_OK)
        st = emb_buf_add_str(b, "}\n");
    return st;
}

static int print_json(const emb_shadow_report *r)
{
    emb_buf b = EMB_BUF_INIT(64 << 20);
    return emb_print_answer("shadow", &b, put_report(&b, r));
}

/* ---- the commands ---- */

static emb_shadow_query query_of(const settings *s)
{
    int64_t now = (int64_t)time(NULL);
    return (emb_shadow_query){.since_s = s->since_hours ? now - (int64_t)s->since_hours * 3600 : 0,
                              .samples = s->samples};
}

static int report(const settings *s, emb_shadow *shadow)
{
    emb_shadow_query query = query_of(s);
    emb_shadow_report r;
    emb_arena arena;
    emb_error err = {0};
    int code = EMB_EXIT_OK;
    emb_arena_init(&arena);
    if (emb_shadow_make_report(shadow, &query, &arena, &r, &err))
        code = emb_report_error("shadow", &err);
    else if (s->json)
        code = print_json(&r);
    else
        print_report(&r);
    emb_arena_fini(&arena);
    return code;
}

static void print_line(const emb_shadow_report *r)
{
    char when[32], cosine[32] = "-", overlap[32] = "-";
    if (r->all.with_cosine)
        snprintf(cosine, sizeof cosine, "%.4f", r->all.cosine.mean);
    if (r->has_overlap)
        snprintf(overlap, sizeof overlap, "%.4f", r->overlap.mean);
    printf("%s  comparisons %" PRIu64 "  failed %" PRIu64 "  cosine %s  overlap %s  dropped %" PRIu64 "\n",
           time_text((int64_t)time(NULL), when), r->all.comparisons, r->all.failures, cosine, overlap,
           r->dropped);
}

/* A store that does not answer now may do so at the next look. */
static void look(const settings *s, emb_shadow *shadow, bool terminal)
{
    emb_shadow_query query = query_of(s);
    emb_shadow_report r;
    emb_arena arena;
    emb_error err = {0};
    emb_arena_init(&arena);
    if (emb_shadow_make_report(shadow, &query, &arena, &r, &err)) {
        emb_report_error("shadow", &err);
    } else if (terminal) {
        printf("\033[H\033[J");
        print_report(&r);
    } else {
        print_line(&r);
    }
    fflush(stdout);
    emb_arena_fini(&arena);
}

static int watch(const settings *s, emb_shadow *shadow)
{
    bool terminal = isatty(STDOUT_FILENO) != 0;
    emb_stop_install();
    while (!emb_stopped() && !ferror(stdout)) {
        look(s, shadow, terminal);
        (void)emb_stop_readable_within(-1, (int)s->interval_s * 1000);
    }
    return EMB_EXIT_OK;
}

static int clear(emb_shadow *shadow)
{
    emb_error err = {0};
    if (emb_shadow_clear(shadow, &err))
        return emb_report_error("shadow", &err);
    printf("all comparisons were removed\n");
    return EMB_EXIT_OK;
}

typedef enum action { REPORT, WATCH, CLEAR, UNKNOWN } action;

static action action_of(const char *name)
{
    static const char *const names[] = {"report", "watch", "clear"};
    for (int i = 0; i < UNKNOWN; i++)
        if (strcmp(name, names[i]) == 0)
            return (action)i;
    return UNKNOWN;
}

/* -1, or the exit status after a message. */
static int check(const settings *s, action what, const char *name)
{
    if (what == UNKNOWN)
        return emb_usage_error(&emb_command_shadow,
                               "there is no 'shadow %s'; there are report, watch and clear", name);
    if (what == CLEAR && !s->yes)
        return emb_usage_error(&emb_command_shadow,
                               "'shadow clear' removes everything that was compared; --yes says so");
    if (what != REPORT && s->json)
        return emb_usage_error(&emb_command_shadow, "--json is for 'shadow report'");
    return -1;
}

static int open_store(const settings *s, emb_shadow **out)
{
    const emb_shadow_options nothing = {0};
    emb_config *config;
    emb_buf url = EMB_BUF_INIT(64 << 10);
    emb_error err = {0};
    int code = emb_settings_load("shadow", &s->flags, &config);
    if (code)
        return code;
    const char *text;
    if (emb_storage_store_url(config, "shadow", &url, &text, &err) ||
        emb_shadow_open(text, &nothing, out, &err) != EMB_OK)
        code = emb_report_error("shadow", &err);
    emb_storage_url_fini(&url);
    emb_config_release(config);
    return code;
}

static int run(const void *opaque, char **arguments, size_t count)
{
    const settings *s = opaque;
    emb_shadow *shadow;
    action what = action_of(arguments[0]);
    (void)count;
    int code = check(s, what, arguments[0]);
    if (code < 0)
        code = open_store(s, &shadow);
    if (code)
        return code;
    code = what == REPORT ? report(s, shadow) : what == WATCH ? watch(s, shadow) : clear(shadow);
    emb_shadow_close(shadow);
    if (what == WATCH)
        emb_stop_die();
    return code;
}

const emb_command emb_command_shadow = {
    .name = "shadow",
    .summary = "what the candidate would have answered: report, watch, clear",
    .usage = "shadow [OPTION...] report\nshadow [OPTION...] watch\nshadow --yes clear",
    .description =
        "report  comparisons of the legacy provider and the candidate: likeness, latencies, costs,\n"
        "        failures, by category, and the worst pairs\n"
        "watch   the same again and again until Ctrl-C; one line each where it is piped\n"
        "clear   removes all comparisons\n\n"
        "Comparisons are made by services with hybrid.shadow_mode and kept where data.store_url\n"
        "says, by default in a file in the data directory. Of a text only a hash is kept.",
    .examples = "  embedd shadow report --since 48\n"
                "  embedd shadow watch --interval 10",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .needs = "one of report, watch and clear is",
    .run = run,
};
