/*
 * cmd_costs.c: `embedd costs`: what remote providers were paid, what cache and local models saved, and what
 * the month is going to cost. Reads the ledger that services write; a service need not run.
 */
#include "base/error.h"
#include "base/json_write.h"
#include "cli/progress.h"
#include "cli/settings_flags.h"
#include "ledger/ledger.h"
#include "service/storage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    emb_settings_flags flags;
    const char *from, *to, *by, *provider, *model, *key, *category;
    bool json, projection, shadow;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

static const emb_option options[] = {
    {.name = "from",
     .kind = EMB_OPTION_TEXT,
     .argument = "DATE",
     .default_note = "the first day there is",
     .offset = offsetof(settings, from),
     .help = "first day, such as 2026-11-01 or today"},
    {.name = "to",
     .kind = EMB_OPTION_TEXT,
     .argument = "DATE",
     .default_note = "today",
     .offset = offsetof(settings, to),
     .help = "last day, included"},
    {.name = "by",
     .letter = 'b',
     .kind = EMB_OPTION_TEXT,
     .argument = "WHAT",
     .fallback = "day",
     .offset = offsetof(settings, by),
     .help = "one or two of total, day, week, month, category, model, provider, key, context, kind; a comma "
             "between"},
    {.name = "provider",
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, provider),
     .help = "only this provider"},
    {.name = "model",
     .letter = 'm',
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, model),
     .help = "only this model"},
    {.name = "key",
     .letter = 'k',
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, key),
     .help = "only calls with the API key of this name"},
    {.name = "category",
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, category),
     .help = "only this category"},
    {.name = "projection",
     .letter = 'p',
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, projection),
     .help = "only what this month is going to cost"},
    {.name = "shadow",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, shadow),
     .help = "with the costs of comparisons (shadow), which are left out otherwise"},
    {.name = "json",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, json),
     .help = "the answer as JSON"},
    EMB_SETTINGS_OPTIONS(settings, flags),
    EMB_OPTIONS_END,
};

enum { DOLLARS_BYTES = 40, COLUMN_BYTES = 40, NAME_COLUMNS_MAX = 40 };

/* ---- numbers ----------------------------------------------------------------------------------- */

/* How many digits behind the point show three of an amount's, 2 at least. */
static int digits_of(uint64_t nusd)
{
    int digits = 2;
    for (uint64_t unit = 10000000; nusd && nusd < 100 * unit && unit > 1; unit /= 10)
        digits++;
    return digits;
}

/* "1,234.56"; "<0.01" for what would read as nothing. Returns out. */
static char *dollars_with(uint64_t nusd, int digits, char out[DOLLARS_BYTES])
{
    char whole[32];
    uint64_t unit = 1;
    for (int i = digits; i < 9; i++)
        unit *= 10;
    uint64_t units = nusd / unit + (unit > 1 && nusd % unit >= unit / 2);
    bool hidden = nusd && !units;
    uint64_t shown = (hidden ? 1 : units) * unit;
    emb_number_text(shown / 1000000000, whole);
    int length =
        snprintf(out, DOLLARS_BYTES, "%s%.26s.%09" PRIu64, hidden ? "<" : "", whole, shown % 1000000000);
    out[length - 9 + digits] = 0;
    return out;
}

static char *dollars(uint64_t nusd, char out[DOLLARS_BYTES])
{
    return dollars_with(nusd, digits_of(nusd), out);
}

/* All nine digits, less the zeros at the end. Returns out. */
static char *exact(uint64_t nusd, char out[DOLLARS_BYTES])
{
    int length = snprintf(out, DOLLARS_BYTES, "%" PRIu64 ".%09" PRIu64, nusd / 1000000000, nusd % 1000000000);
    while (out[length - 1] == '0')
        length--;
    out[length - (out[length - 1] == '.')] = 0;
    return out;
}

/* ---- what is asked for ------------------------------------------------------------------------- */

typedef struct dimensions {
    emb_ledger_by by[2];
    char name[2][16];
    int count;
} dimensions;

static bool read_by(const char *text, dimensions *d)
{
    *d = (dimensions){.count = 0};
    for (int n = 0; n < 2; n++) {
        size_t length = strcspn(text, ",");
        if (length >= sizeof d->name[n])
            return false;
        memcpy(d->name[n], text, length);
        if (!emb_ledger_by_parse(d->name[n], &d->by[n]))
            return false;
        d->count = n + (d->by[n] != EMB_BY_TOTAL);
        if (!text[length])
            return true;
        text += length + 1;
    }
    return false;
}

/* ---- the table ----------------------------------------------------------------------------------- */

enum { COLUMNS = 8 };
static const char *const HEADS[COLUMNS] = {"", "", "texts", "cached", "local", "tokens", "cost $", "saved $"};

typedef char cells[COLUMNS][COLUMN_BYTES];

/* The table: what it is of, and how many digits its amounts have, all of a column the same. */
typedef struct layout {
    const dimensions *of;
    int cost_digits, saved_digits, widths[COLUMNS];
} layout;

static uint64_t saved_of(const emb_ledger_sum *s)
{
    uint64_t saved = s->saved_cache_nusd + s->saved_local_nusd;
    return saved < s->saved_cache_nusd ? UINT64_MAX : saved;
}

static void fill_name(char out[COLUMN_BYTES], const char *name)
{
    size_t length = strlen(name);
    if (length < NAME_COLUMNS_MAX) {
        snprintf(out, COLUMN_BYTES, "%s", *name ? name : "-");
        return;
    }
    length = COLUMN_BYTES - 4; /* cut before a whole character */
    while (length > 0 && ((unsigned char)name[length] & 0xC0) == 0x80)
        length--;
    snprintf(out, COLUMN_BYTES, "%.*s...", (int)length, name);
}

static void fill(cells out, const layout *l, const emb_ledger_sum *s)
{
    for (int n = 0; n < 2; n++) {
        out[n][0] = 0;
        if (n < l->of->count && s->name[n])
            fill_name(out[n], s->name[n]);
    }
    emb_number_text(s->texts, out[2]);
    emb_number_text(s->cached_texts, out[3]);
    emb_number_text(s->local_texts, out[4]);
    emb_number_text(s->tokens, out[5]);
    dollars_with(s->nusd, l->cost_digits, out[6]);
    dollars_with(saved_of(s), l->saved_digits, out[7]);
}

/* Columns as wide as characters are many, not bytes. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

/* Names to the left, numbers to the right. */
static void print_line(const cells row, const layout *l)
{
    const int *widths = l->widths, names = l->of->count;
    for (int c = 0; c < COLUMNS; c++) {
        int pad = widths[c] - width_of(row[c]);
        if (c == 1 && names < 2)
            continue;
        if (c < 2)
            printf("%s%*s", row[c], pad < 0 ? 0 : pad, "");
        else
            printf("  %*s%s", pad < 0 ? 0 : pad, "", row[c]);
        if (c == 0 && names == 2)
            printf("  ");
    }
    printf("\n");
}

static void widen(layout *l, const cells row)
{
    for (int c = 0; c < COLUMNS; c++)
        if (width_of(row[c]) > l->widths[c])
            l->widths[c] = width_of(row[c]);
}

static void fill_total(cells row, const layout *l, const emb_ledger_sum *total)
{
    fill(row, l, total);
    snprintf(row[0], COLUMN_BYTES, "total");
    row[1][0] = 0;
}

static void print_table(const dimensions *d, const emb_ledger_report *r)
{
    layout l = {
        .of = d, .cost_digits = digits_of(r->total.nusd), .saved_digits = digits_of(saved_of(&r->total))};
    cells head, row;
    for (int c = 0; c < COLUMNS; c++)
        snprintf(head[c], COLUMN_BYTES, "%s", c < d->count ? d->name[c] : HEADS[c]);
    widen(&l, head);
    fill_total(row, &l, &r->total);
    widen(&l, row);
    for (size_t i = 0; i < r->count; i++) {
        fill(row, &l, &r->rows[i]);
        widen(&l, row);
    }
    print_line(head, &l);
    for (size_t i = 0; i < r->count; i++) {
        fill(row, &l, &r->rows[i]);
        print_line(row, &l);
    }
    fill_total(row, &l, &r->total);
    print_line(row, &l);
}

static void print_savings(const emb_ledger_sum *s)
{
    char cache[DOLLARS_BYTES], local[DOLLARS_BYTES], texts[2][32];
    printf("\nsaved by the cache     $%s  (%s texts)\nsaved by local models  $%s  (%s texts)\n",
           dollars(s->saved_cache_nusd, cache), emb_number_text(s->cached_texts, texts[0]),
           dollars(s->saved_local_nusd, local), emb_number_text(s->local_texts, texts[1]));
}

static void print_projection(const emb_ledger_projection *p)
{
    char spent[DOLLARS_BYTES], projected[DOLLARS_BYTES], low[DOLLARS_BYTES], high[DOLLARS_BYTES];
    printf("month %s: spent $%s so far, about $%s by its end", p->month, dollars(p->spent_nusd, spent),
           dollars(p->projected_nusd, projected));
    if (p->low_nusd != p->high_nusd)
        printf(" (most likely $%s to $%s)", dollars(p->low_nusd, low), dollars(p->high_nusd, high));
    printf("; %u %s left", p->days_left, p->days_left == 1 ? "day" : "days");
    if (p->days_of_history < 7)
        printf(", from only %u %s of history", p->days_of_history, p->days_of_history == 1 ? "day" : "days");
    printf("\n");
}

/* ---- JSON -------------------------------------------------------------------------------------------- */

static void json_text(emb_buf *b, const char *name, const char *value, emb_status *st)
{
    if (!*st && !(*st = emb_buf_addf(b, "\"%s\":", name)) &&
        !(*st = emb_json_write_string(b, value, strlen(value))))
        *st = emb_buf_add(b, ",", 1);
}

static void json_sum(emb_buf *b, const emb_ledger_sum *s, emb_status *st)
{
    char cost[DOLLARS_BYTES], cache[DOLLARS_BYTES], local[DOLLARS_BYTES];
    if (!*st)
        *st =
            emb_buf_addf(b,
                         "\"calls\":%" PRIu64 ",\"texts\":%" PRIu64 ",\"cached_texts\":%" PRIu64
                         ",\"local_texts\":%" PRIu64 ",\"tokens\":%" PRIu64
                         ",\"cost_usd\":%s,\"saved_cache_usd\":%s,\"saved_local_usd\":%s}",
                         s->calls, s->texts, s->cached_texts, s->local_texts, s->tokens, exact(s->nusd, cost),
                         exact(s->saved_cache_nusd, cache), exact(s->saved_local_nusd, local));
}

static void json_projection(emb_buf *b, const emb_ledger_projection *p, emb_status *st)
{
    char spent[DOLLARS_BYTES], projected[DOLLARS_BYTES], low[DOLLARS_BYTES], high[DOLLARS_BYTES];
    if (!*st)
        *st = emb_buf_addf(b,
                           "{\"month\":\"%s\",\"spent_usd\":%s,\"projected_usd\":%s,\"low_usd\":%s,\"high_"
                           "usd\":%s,\"days_left\":%u,"
                           "\"days_of_history\":%u}",
                           p->month, exact(p->spent_nusd, spent), exact(p->projected_nusd, projected),
                           exact(p->low_nusd, low), exact(p->high_nusd, high), p->days_left,
                           p->days_of_history);
}

static void json_report(emb_buf *b, const dimensions *d, const emb_ledger_report *r,
                        const emb_ledger_projection *p, emb_status *st)
{
    if (!*st)
        *st = emb_buf_addf(b, "{\"from\":\"%s\",\"to\":\"%s\",\"total\":{", r->from, r->to);
    json_sum(b, &r->total, st);
    if (!*st)
        *st = emb_buf_add_str(b, ",\"rows\":[");
    for (size_t i = 0; i < r->count && !*st; i++) {
        *st = emb_buf_add_str(b, i ? ",{" : "{");
        for (int n = 0; n < d->count; n++)
            json_text(b, d->name[n], r->rows[i].name[n], st);
        json_sum(b, &r->rows[i], st);
    }
    if (!*st)
        *st = emb_buf_add_str(b, "],\"projection\":");
    json_projection(b, p, st);
    if (!*st)
        *st = emb_buf_add_str(b, "}");
}

/* ---- running ------------------------------------------------------------------------------------------- */

static int show(const settings *s, const dimensions *d, emb_ledger *ledger, emb_arena *arena)
{
    const emb_ledger_query query = {.from = s->from,
                                    .to = s->to,
                                    .by = {d->by[0], d->by[1]},
                                    .provider = s->provider,
                                    .model = s->model,
                                    .key = s->key,
                                    .category = s->category,
                                    .with_shadow = s->shadow};
    emb_ledger_report r = {.count = 0};
    emb_ledger_projection p;
    emb_error err = {0};
    if ((!s->projection && emb_ledger_make_report(ledger, &query, arena, &r, &err)) ||
        emb_ledger_project(ledger, &p, &err))
        return emb_report_error("costs", &err);
    if (s->json) {
        emb_buf b = EMB_BUF_INIT(1 << 30);
        emb_status st = EMB_OK;
        if (s->projection)
            json_projection(&b, &p, &st);
        else
            json_report(&b, d, &r, &p, &st);
        if (!st)
            st = emb_buf_add_str(&b, "\n");
        return emb_print_answer("costs", &b, st);
    }
    if (!s->projection && r.total.calls) {
        print_table(d, &r);
        print_savings(&r.total);
    } else if (!s->projection) {
        printf("nothing was embedded from %s to %s that matches\n", r.from, r.to);
    }
    print_projection(&p);
    return EMB_EXIT_OK;
}

/* No ledger is what a fresh machine has: no failure, except for programs that want numbers of it. */
static int nothing_yet(const settings *s)
{
    if (s->json)
        printf("null\n");
    else
        printf("There is no ledger yet: 'embedd serve' writes one with the first text that it embeds.\n"
               "It is kept where data.store_url says, by default in the data directory (data.dir).\n");
    return EMB_EXIT_OK;
}

static int with_config(const settings *s, const dimensions *d, const emb_config *config)
{
    const emb_ledger_options o = {.timezone = config->budget_timezone, .read_only = true};
    emb_buf url = EMB_BUF_INIT(1 << 16);
    emb_error err = {0};
    emb_ledger *ledger;
    const char *text;
    emb_status st = emb_storage_store_url(config, "ledger", &url, &text, &err);
    if (!st)
        st = emb_ledger_open(text, &o, &ledger, &err);
    emb_storage_url_fini(&url);
    if (st == EMB_E_NOT_FOUND && strcmp(err.where, "timezone") != 0)
        return nothing_yet(s);
    if (st)
        return emb_report_error("costs", &err);
    emb_arena arena;
    emb_arena_init(&arena);
    int code = show(s, d, ledger, &arena);
    emb_arena_fini(&arena);
    emb_ledger_close(ledger);
    return code;
}

static int run(const void *opaque, char **arguments, size_t count)
{
    const settings *s = opaque;
    emb_config *config;
    dimensions d;
    (void)arguments;
    (void)count;
    if (!read_by(s->by, &d))
        return emb_usage_error(&emb_command_costs, "--by: '%s' is not one or two of %s", s->by,
                               EMB_LEDGER_BY_NAMES);
    int code = emb_settings_load("costs", &s->flags, &config);
    if (code)
        return code;
    code = with_config(s, &d, config);
    emb_config_release(config);
    return code;
}

const emb_command emb_command_costs = {
    .name = "costs",
    .summary = "what embedding has cost and saved, and what the month is going to cost",
    .usage = "costs [OPTION...]",
    .description =
        "Reads the ledger that 'embedd serve' writes: calls of remote providers with their prices, and what\n"
        "cache and local models saved, that is what the same texts would have cost at the API. Days, ISO\n"
        "weeks and months are those of budget.timezone.\n\n"
        "The projection is what was spent this month, and for each day that is left the mean of its\n"
        "weekday in the last 28 days; four of five months end within the range that is given.",
    .examples = "  embedd costs\n"
                "  embedd costs --from 2026-11-01 --by category,model\n"
                "  embedd costs --by week --provider openai --json\n"
                "  embedd costs --projection",
    .options = options,
    .settings_size = sizeof(settings),
    .run = run,
};
