/*
 * cmd_rollout.c: `embedd rollout`: which share of callers is on the hybrid path, and changing it.
 *
 * Works on the store and not through a service, so that a rollback needs nothing but the store: services see
 * it within about a second. Only `verify` talks to a running service, since it is answers that have to be
 * looked at.
 */
#include "base/json_write.h"
#include "cli/rollout_proof.h"
#include "cli/settings_flags.h"
#include "cli/stop.h"
#include "router/rollout.h"
#include "service/storage.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STEPS_MAX = 32, HOLD_MAX_S = 366 * 86400, JSON_MAX = 1 << 20 };

typedef struct settings {
    emb_settings_flags flags;
    const char *reason, *actor, *url, *api_key;
    size_t limit, concurrency, seconds;
    bool json, insecure;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

static const emb_option options[] = {
    {.name = "reason",
     .letter = 'r',
     .kind = EMB_OPTION_TEXT,
     .argument = "TEXT",
     .offset = offsetof(settings, reason),
     .help = "why, for the audit log"},
    {.name = "actor",
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .default_note = "the user's name",
     .offset = offsetof(settings, actor),
     .help = "who, for the audit log"},
    {.name = "limit",
     .letter = 'n',
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "20",
     .minimum = 1,
     .maximum = 10000,
     .offset = offsetof(settings, limit),
     .help = "audit: how many events, the newest first"},
    {.name = "url",
     .kind = EMB_OPTION_TEXT,
     .argument = "URL",
     .fallback = "http://127.0.0.1:8000",
     .offset = offsetof(settings, url),
     .help = "verify: the running service"},
    {.name = "api-key",
     .kind = EMB_OPTION_TEXT,
     .argument = "KEY",
     .environment = "EMBEDD_API_KEY",
     .offset = offsetof(settings, api_key),
     .help =
         "verify: sent as Authorization: Bearer KEY; it needs the right admin. Other users of the machine "
         "can see an option, so better in EMBEDD_API_KEY"},
    {.name = "concurrency",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "8",
     .minimum = 1,
     .maximum = 256,
     .offset = offsetof(settings, concurrency),
     .help = "verify: how many requests run at once"},
    {.name = "seconds",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "10",
     .minimum = EMB_ROLLOUT_PROOF_SECONDS_MIN,
     .maximum = 3600,
     .offset = offsetof(settings, seconds),
     .help = "verify: how long the load runs"},
    {.name = "insecure",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, insecure),
     .help = "verify: take any certificate of an https service"},
    {.name = "json",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, json),
     .help = "the answer as JSON"},
    EMB_SETTINGS_OPTIONS(settings, flags),
    EMB_OPTIONS_END,
};

/* ---- reading arguments ---- */

static bool parse_percentage(const char *text, const char *stop_at, double *out)
{
    char *end;
    if (!isdigit((unsigned char)*text) && *text != '.')
        return false;
    *out = strtod(text, &end);
    if (end < stop_at && *end == '%')
        end++;
    return end == stop_at && *out >= 0 && *out <= 100;
}

/* "90s", "30m", "12h", "7d", "2w"; seconds without a unit. */
static bool parse_time(const char *text, uint64_t *out)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{0, 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    unsigned long long number = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (*end == units[i].unit && (!*end || !end[1]) && number > 0 && number <= HOLD_MAX_S) {
            *out = number * units[i].seconds;
            return *out <= HOLD_MAX_S;
        }
    return false;
}

/* "25:12h" */
static bool parse_step(const char *text, emb_rollout_step_config *out)
{
    const char *colon = strchr(text, ':');
    return colon && parse_percentage(text, colon, &out->percentage) && parse_time(colon + 1, &out->hold_s);
}

/* Who calls: the user's name, as the system has it. */
static const char *actor_of(const settings *s)
{
    if (s->actor && *s->actor)
        return s->actor;
    const struct passwd *user = getpwuid(geteuid());
    return user && user->pw_name && *user->pw_name ? user->pw_name : "cli";
}

/* ---- printing ---- */

static const char *time_text(int64_t time_s, char out[40])
{
    time_t t = (time_t)time_s;
    struct tm tm;
    if (time_s <= 0 || !gmtime_r(&t, &tm) || !strftime(out, 40, "%Y-%m-%d %H:%M:%S UTC", &tm))
        strcpy(out, "never");
    return out;
}

static const char *hold_text(uint64_t seconds, char out[32])
{
    static const struct {
        uint64_t seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (seconds % units[i].seconds == 0) {
            snprintf(out, 32, "%" PRIu64 "%c", seconds / units[i].seconds, units[i].unit);
            break;
        }
    return out;
}

/* Texts of others go to a terminal: control characters do not. */
static void print_text(const char *text)
{
    for (; *text; text++)
        putchar((unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
}

static void print_view(const emb_rollout_view *v)
{
    char when[40], hold[32];
    printf("share     %g %%\nmode      %s\n", v->percentage, emb_rollout_mode_name(v->mode));
    if (v->changed_s) {
        printf("changed   %s by ", time_text(v->changed_s, when));
        print_text(v->actor);
        printf("\n");
    }
    if (v->reason[0]) {
        printf("reason    ");
        print_text(v->reason);
        printf("\n");
    }
    for (size_t i = 0; i < v->steps; i++)
        printf("%-10s%s %g %% for %s\n", i ? "" : "schedule",
               v->mode == EMB_ROLLOUT_SCHEDULED && i == v->step ? ">" : " ", v->schedule[i].percentage,
               hold_text(v->schedule[i].hold_s, hold));
    if (v->mode == EMB_ROLLOUT_SCHEDULED)
        printf("until     %s\n", time_text(v->step_until_s, when));
    printf("verified  %s\n", time_text(v->rollback_verified_s, when));
}

static const char *or_null(const char *text)
{
    return *text ? text : NULL;
}

static emb_status add_member_time(emb_buf *b, const char *name, int64_t time_s)
{
    return time_s > 0 ? emb_buf_addf(b, ",\"%s\":%" PRId64, name, time_s)
                      : emb_buf_addf(b, ",\"%s\":null", name);
}

/* The members of GET /api/v1/embeddings/rollout. */
static emb_status view_json(emb_buf *b, const emb_rollout_view *v)
{
    emb_status st;
    if ((st = emb_buf_addf(b, "{\"mode\":\"%s\",\"percentage\":%.9g", emb_rollout_mode_name(v->mode),
                           v->percentage)) ||
        (st = emb_json_write_member(b, "actor", or_null(v->actor))) ||
        (st = emb_json_write_member(b, "reason", or_null(v->reason))) ||
        (st = add_member_time(b, "changed_at", v->changed_s)) ||
        (st = add_member_time(b, "rollback_verified_at", v->rollback_verified_s)) ||
        (st = add_member_time(b, "step", v->mode == EMB_ROLLOUT_SCHEDULED ? (int64_t)v->step + 1 : 0)) ||
        (st = add_member_time(b, "step_since", v->step_since_s)) ||
        (st = add_member_time(b, "step_until", v->step_until_s)) ||
        (st = emb_buf_add_str(b, ",\"schedule\":[")))
        return st;
    for (size_t i = 0; i < v->steps; i++)
        if ((st = emb_buf_addf(b, "%s{\"percentage\":%.9g,\"hold_seconds\":%" PRIu64 "}", i ? "," : "",
                               v->schedule[i].percentage, v->schedule[i].hold_s)))
            return st;
    return emb_buf_add_str(b, "]}\n");
}

static emb_status add_share(emb_buf *b, const char *name, double share)
{
    return isnan(share) ? emb_buf_addf(b, ",\"%s\":null", name)
                        : emb_buf_addf(b, ",\"%s\":%.9g", name, share);
}

static emb_status audit_json(emb_buf *b, const emb_rollout_event *events, size_t count)
{
    emb_status st = EMB_OK;
    for (size_t i = 0; i < count && st == EMB_OK; i++) {
        const emb_rollout_event *e = &events[i];
        if ((st = emb_buf_addf(b, "{\"id\":%" PRId64 ",\"time\":%" PRId64, e->id, e->time_s)) ||
            (st = emb_json_write_member(b, "action", or_null(e->action))) ||
            (st = add_share(b, "from", e->from)) || (st = add_share(b, "to", e->to)) ||
            (st = emb_json_write_member(b, "actor", or_null(e->actor))) ||
            (st = emb_json_write_member(b, "reason", or_null(e->reason))))
            break;
        st = emb_buf_add_str(b, "}\n");
    }
    return st;
}

static const char *share_text(double share, char out[32])
{
    if (isnan(share))
        strcpy(out, "configured");
    else
        snprintf(out, 32, "%g %%", share);
    return out;
}

static void print_audit(const emb_rollout_event *events, size_t count)
{
    char when[40], from[32], to[32];
    if (count)
        printf("%-24s%-10s%-12s%-12s%-16s%s\n", "time", "action", "from", "to", "actor", "reason");
    for (size_t i = 0; i < count; i++) {
        const emb_rollout_event *e = &events[i];
        printf("%-24s%-10s%-12s%-12s", time_text(e->time_s, when), e->action, share_text(e->from, from),
               share_text(e->to, to));
        print_text(e->actor);
        printf("%*s", strlen(e->actor) < 15 ? (int)(16 - strlen(e->actor)) : 1, "");
        print_text(e->reason);
        printf("\n");
    }
}

/* ---- the commands ---- */

typedef struct order {
    const settings *s;
    const emb_config *config;
    emb_rollout *rollout;
    double percentage;
    emb_rollout_step_config steps[STEPS_MAX];
    size_t count;
} order;

static emb_status do_set(const order *o, emb_error *err)
{
    return emb_rollout_set(o->rollout, o->percentage, actor_of(o->s), o->s->reason, err);
}

static emb_status do_schedule(const order *o, emb_error *err)
{
    return emb_rollout_schedule(o->rollout, o->steps, o->count, actor_of(o->s), o->s->reason, err);
}

static emb_status do_back(const order *o, emb_error *err)
{
    return emb_rollout_back(o->rollout, actor_of(o->s), o->s->reason, err);
}

static emb_status do_clear(const order *o, emb_error *err)
{
    return emb_rollout_clear(o->rollout, actor_of(o->s), o->s->reason, err);
}

static const struct verb {
    const char *name;
    emb_status (*change)(const order *o, emb_error *err); /* NULL: only looks */
    size_t least, most;                                   /* arguments behind its name */
} verbs[] = {
    {"get", NULL, 0, 0},         {"set", do_set, 1, 1},     {"schedule", do_schedule, 0, STEPS_MAX},
    {"rollback", do_back, 0, 0}, {"clear", do_clear, 0, 0}, {"audit", NULL, 0, 0},
    {"verify", NULL, 0, 0},
};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

static int show(const order *o)
{
    emb_rollout_view view;
    emb_error err = {0};
    if (emb_rollout_refresh(o->rollout, &err))
        return emb_report_error("rollout", &err);
    emb_rollout_get(o->rollout, o->config->rollout_percentage, &view);
    if (o->s->json) {
        emb_buf b = EMB_BUF_INIT(JSON_MAX);
        return emb_print_answer("rollout", &b, view_json(&b, &view));
    }
    print_view(&view);
    return EMB_EXIT_OK;
}

static int show_audit(const order *o)
{
    emb_arena arena;
    emb_rollout_event *events;
    size_t count;
    emb_error err = {0};
    int code = EMB_EXIT_OK;
    emb_arena_init(&arena);
    if (emb_rollout_audit(o->rollout, o->s->limit, &arena, &events, &count, &err)) {
        code = emb_report_error("rollout", &err);
    } else if (o->s->json) {
        emb_buf b = EMB_BUF_INIT((size_t)64 << 20);
        code = emb_print_answer("rollout", &b, audit_json(&b, events, count));
    } else {
        print_audit(events, count);
    }
    emb_arena_fini(&arena);
    return code;
}

static int print_proof(const settings *s, const emb_rollout_proof *p)
{
    if (s->json) {
        emb_buf b = EMB_BUF_INIT(JSON_MAX);
        emb_status st = emb_buf_addf(
            &b,
            "{\"proved\":%s,\"requests\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"hybrid_before\":%" PRIu64
            ",\"legacy_before\":%" PRIu64 ",\"hybrid_after\":%" PRIu64 ",\"legacy_after\":%" PRIu64
            ",\"hybrid_late\":%" PRIu64 ",\"settled_ms\":%.1f,\"percentage\":%.9g",
            p->proved ? "true" : "false", p->requests, p->failed, p->hybrid_before, p->legacy_before,
            p->hybrid_after, p->legacy_after, p->hybrid_late, p->settled_ms, p->percentage);
        if (st == EMB_OK && (st = emb_json_write_member(&b, "complaint", or_null(p->complaint))) == EMB_OK)
            st = emb_buf_add_str(&b, "}\n");
        int code = emb_print_answer("rollout", &b, st);
        return code ? code : p->proved ? EMB_EXIT_OK : EMB_EXIT_FAILURE;
    }
    printf("requests  %" PRIu64 ", %" PRIu64 " failed\nbefore    %" PRIu64 " hybrid, %" PRIu64 " legacy\n"
           "after     %" PRIu64 " hybrid, %" PRIu64
           " legacy\nsettled   %.0f ms after the rollback\nrestored  %g %%\n",
           p->requests, p->failed, p->hybrid_before, p->legacy_before, p->hybrid_after, p->legacy_after,
           p->settled_ms, p->percentage);
    printf("%s\n", p->proved ? "The rollback works." : "The rollback is NOT proved.");
    if (p->proved)
        return EMB_EXIT_OK;
    emb_report("rollout", "%s", p->complaint);
    return EMB_EXIT_FAILURE;
}

static int verify(const settings *s)
{
    const emb_rollout_proof_plan plan = {.url = s->url,
                                         .api_key = s->api_key,
                                         .reason = s->reason,
                                         .concurrency = s->concurrency,
                                         .seconds = s->seconds,
                                         .insecure = s->insecure};
    emb_rollout_proof proof;
    emb_error err = {0};
    if (s->api_key && strpbrk(s->api_key, " \t\r\n"))
        return emb_usage_error(&emb_command_rollout, "--api-key: the key holds white space");
    emb_stop_install();
    emb_status status = emb_rollout_prove(&plan, &proof, &err);
    if (status == EMB_E_CANCELLED)
        emb_stop_die(); /* the state is back */
    return status ? emb_report_error("rollout", &err) : print_proof(s, &proof);
}

/* Opens the store, does it, shows what is now. */
static int work(order *o, const struct verb *verb)
{
    emb_buf url = EMB_BUF_INIT(4096);
    emb_error err = {0};
    const char *text;
    emb_status st = emb_storage_store_url(o->config, "rollout", &url, &text, &err);
    if (st == EMB_OK)
        st = emb_rollout_open(text, &(emb_rollout_options){.no_thread = true}, &o->rollout, &err);
    emb_storage_url_fini(&url);
    if (st == EMB_OK && verb->change)
        st = verb->change(o, &err);
    int code = st ? emb_report_error("rollout", &err) : strcmp(verb->name, "audit") ? show(o) : show_audit(o);
    emb_rollout_close(o->rollout);
    return code;
}

/* Of `schedule` without steps: the configuration's, or the usual ones, a day each. */
static void default_steps(order *o)
{
    static const double usual[] = {5, 10, 25, 50, 90, 100};
    const emb_gateway_config *g = &o->config->gateway;
    if (o->count)
        return;
    if (g->rollout_step_count && g->rollout_step_count <= STEPS_MAX) {
        o->count = g->rollout_step_count;
        memcpy(o->steps, g->rollout_steps, o->count * sizeof *o->steps);
        return;
    }
    for (; o->count < sizeof usual / sizeof *usual; o->count++)
        o->steps[o->count] = (emb_rollout_step_config){usual[o->count], 86400};
}

/* -1, or the exit status after a message. */
static int read_order(order *o, const struct verb *verb, char **arguments, size_t count)
{
    if (count < verb->least)
        return emb_usage_error(&emb_command_rollout, "'rollout %s' needs a percentage", verb->name);
    if (count > verb->most)
        return emb_usage_error(&emb_command_rollout, "'rollout %s' takes no '%s'", verb->name,
                               arguments[verb->most]);
    if (strcmp(verb->name, "set") == 0 &&
        !parse_percentage(arguments[0], arguments[0] + strlen(arguments[0]), &o->percentage))
        return emb_usage_error(&emb_command_rollout, "'%s' is not a percentage from 0 to 100", arguments[0]);
    for (; strcmp(verb->name, "schedule") == 0 && o->count < count; o->count++) {
        if (!parse_step(arguments[o->count], &o->steps[o->count]))
            return emb_usage_error(
                &emb_command_rollout,
                "'%s' is not a step: PERCENT:TIME, such as 25:12h; times are 90s, 30m, 12h, 7d, 2w",
                arguments[o->count]);
        if (o->count && !(o->steps[o->count].percentage > o->steps[o->count - 1].percentage))
            return emb_usage_error(&emb_command_rollout,
                                   "'%s' is not above the step before it; percentages rise",
                                   arguments[o->count]);
    }
    return -1;
}

static int run(const void *opaque, char **arguments, size_t count)
{
    const settings *s = opaque;
    const struct verb *verb = find_verb(arguments[0]);
    emb_config *config;
    order o = {.s = s};
    if (!verb)
        return emb_usage_error(
            &emb_command_rollout,
            "there is no 'rollout %s'; there are get, set, schedule, rollback, clear, audit and verify",
            arguments[0]);
    int code = read_order(&o, verb, arguments + 1, count - 1);
    if (code >= 0)
        return code;
    if (strcmp(verb->name, "verify") == 0)
        return verify(s);
    if ((code = emb_settings_load("rollout", &s->flags, &config)))
        return code;
    o.config = config;
    default_steps(&o);
    code = work(&o, verb);
    emb_config_release(config);
    return code;
}

const emb_command emb_command_rollout = {
    .name = "rollout",
    .summary = "the share of callers on the hybrid path: set, schedule, roll back",
    .usage = "rollout [OPTION...] get\n"
             "rollout [OPTION...] set PERCENT\n"
             "rollout [OPTION...] schedule [PERCENT:TIME...]\n"
             "rollout [OPTION...] rollback\n"
             "rollout [OPTION...] clear\n"
             "rollout [OPTION...] audit\n"
             "rollout [OPTION...] verify",
    .description =
        "get       the share, the schedule, who changed it last and why\n"
        "set       a fixed share\n"
        "schedule  a share that grows by itself: each step holds for its time; an alert that fires\n"
        "          rolls back. Without steps: those of the configuration, else 5, 10, 25, 50, 90\n"
        "          and 100 percent, a day each\n"
        "rollback  everybody to the legacy provider, within about a second\n"
        "clear     back to hybrid.rollout_percentage of the configuration\n"
        "audit     what was done, the newest first\n"
        "verify    proves on a running service that a rollback works under load: sends requests,\n"
        "          rolls back, looks at every answer, puts the earlier state back\n\n"
        "All but verify work on the store that services share (data.store_url, by default a file in\n"
        "the data directory). Ends with 1 if verify does not prove it.",
    .examples = "  embedd rollout set 25 --reason \"the canary looks good\"\n"
                "  embedd rollout schedule 5:1d 25:1d 50:12h 100:1h\n"
                "  embedd rollout rollback --reason \"latency of the new provider\"\n"
                "  embedd rollout verify --url http://127.0.0.1:8000 --concurrency 16",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 1,
    .maximum_arguments = 1 + STEPS_MAX,
    .needs = "one of get, set, schedule, rollback, clear, audit and verify is",
    .run = run,
};
