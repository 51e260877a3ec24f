/*
 * shadow.c: what the candidate would have answered, and whether it is ready for production.
 *
 * Both routes read a database and may measure the window of recent texts, so they run on workers. The verdict
 * is made of what the parts of the service know; a part that is off leaves its criterion "not recorded",
 * which does not pass, and the answer is 200 all the same: a dashboard wants to show what is missing.
 */
#include "api/hybrid.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLES = 10, SAMPLES_MAX = 1000 };
#define HIT_RATE 0.80

/* ---- the report ---- */

static void write_interval(emb_out *o, const char *name, const emb_shadow_interval *i)
{
    emb_out_open(o, name, '{');
    emb_out_real(o, "mean", i->mean, 6);
    emb_out_real(o, "low", i->low, 6);
    emb_out_real(o, "high", i->high, 6);
    emb_out_close(o, '}');
}

static void write_side(emb_out *o, const char *name, double p50_ms, double p95_ms, uint64_t nusd)
{
    emb_out_open(o, name, '{');
    emb_out_real(o, "p50_ms", p50_ms, 3);
    emb_out_real(o, "p95_ms", p95_ms, 3);
    emb_out_usd(o, "cost_usd", nusd);
    emb_out_close(o, '}');
}

static void write_group(emb_out *o, const emb_shadow_group *g)
{
    emb_out_count(o, "comparisons", g->comparisons);
    emb_out_count(o, "failures", g->failures);
    emb_out_count(o, "with_cosine", g->with_cosine);
    if (g->with_cosine) {
        emb_out_open(o, "cosine", '{');
        emb_out_real(o, "mean", g->cosine.mean, 6);
        emb_out_real(o, "low", g->cosine.low, 6);
        emb_out_real(o, "high", g->cosine.high, 6);
        emb_out_real(o, "p5", g->cosine_p5, 6);
        emb_out_real(o, "p50", g->cosine_p50, 6);
        emb_out_real(o, "worst", g->cosine_worst, 6);
        emb_out_close(o, '}');
    } else {
        emb_out_null(o, "cosine");
    }
    write_side(o, "legacy", g->legacy_p50_ms, g->legacy_p95_ms, g->legacy_nusd);
    write_side(o, "candidate", g->candidate_p50_ms, g->candidate_p95_ms, g->candidate_nusd);
}

static void write_time(emb_out *o, const char *name, int64_t time_s)
{
    char text[32];
    struct tm parts;
    time_t t = (time_t)time_s;
    if (time_s > 0 && gmtime_r(&t, &parts) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts))
        emb_out_text(o, name, text);
    else
        emb_out_null(o, name);
}

static void write_samples(emb_out *o, const char *name, const emb_shadow_sample *samples, size_t count)
{
    emb_out_open(o, name, '[');
    for (size_t i = 0; i < count; i++) {
        const emb_shadow_sample *s = &samples[i];
        emb_out_open(o, NULL, '{');
        write_time(o, "time", s->time_s);
        emb_out_text(o, "text_hash", s->text);
        emb_out_text(o, "category", s->category);
        emb_out_text(o, "legacy", s->legacy);
        emb_out_text(o, "candidate", s->candidate);
        emb_out_real(o, "cosine", s->has_cosine ? s->cosine : NAN, 6);
        emb_out_real(o, "legacy_ms", s->legacy_ms, 3);
        emb_out_real(o, "candidate_ms", s->candidate_ms, 3);
        emb_out_text(o, "error", s->error);
        emb_out_close(o, '}');
    }
    emb_out_close(o, ']');
}

/* All of the report but categories and samples. */
static void write_summary(emb_out *o, const emb_shadow_report *r)
{
    write_group(o, &r->all);
    write_interval(o, "failure_share", &r->failure_share);
    write_time(o, "first", r->first_s);
    write_time(o, "last", r->last_s);
    emb_out_bool(o, "same_space", r->same_space);
    emb_out_count(o, "window", r->window);
    if (r->has_overlap) {
        write_interval(o, "neighbour_overlap", &r->overlap);
        write_interval(o, "rank_correlation", &r->rank_correlation);
    } else {
        emb_out_null(o, "neighbour_overlap");
        emb_out_null(o, "rank_correlation");
    }
    emb_out_count(o, "dropped", r->dropped);
    emb_out_count(o, "queued", r->queued);
}

static void write_report(emb_out *o, const emb_shadow_report *r)
{
    write_summary(o, r);
    emb_out_open(o, "categories", '[');
    for (size_t i = 0; i < r->category_count; i++) {
        emb_out_open(o, NULL, '{');
        emb_out_text(o, "category", r->categories[i].name);
        write_group(o, &r->categories[i]);
        emb_out_close(o, '}');
    }
    emb_out_close(o, ']');
    write_samples(o, "worst", r->worst, r->worst_count);
    write_samples(o, "newest", r->newest, r->newest_count);
}

static void get_on_worker(emb_api_call *call)
{
    emb_shadow *shadow = emb_service_shadow(call->service);
    emb_shadow_report report;
    emb_error err = {0};
    if (shadow && emb_shadow_make_report(shadow, call->state, call->arena, &report, &err)) {
        emb_call_fail_error(call, &err);
        return;
    }
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_bool(&o, "enabled", shadow != NULL && call->config->shadow_mode);
    if (shadow)
        write_report(&o, &report);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

/* A number of at most `maximum`, or leaves *out alone where there is none; false: has answered. */
static bool read_number(emb_api_call *call, const char *name, double minimum, double maximum, double *out)
{
    char *end, param[32];
    const char *text = emb_exchange_query(call->x, name);
    if (!text)
        return true;
    double value = *text == '+' || *text == ' ' ? NAN : strtod(text, &end);
    if (value >= minimum && value <= maximum && end != text && !*end) {
        *out = value;
        return true;
    }
    snprintf(param, sizeof param, "?%s", name);
    emb_call_fail(call, 422, "invalid_value", param, "%s: \"%.60s\" is not a number from %g to %g.", name,
                  text, minimum, maximum);
    return false;
}

static void get_shadow(emb_api_call *call)
{
    double hours = 0, samples = SAMPLES;
    emb_shadow_query *query = emb_arena_calloc(call->arena, 1, sizeof *query);
    if (!query) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return;
    }
    if (!read_number(call, "since_hours", 0, 100000, &hours) ||
        !read_number(call, "samples", 0, SAMPLES_MAX, &samples))
        return;
    query->since_s = hours > 0 ? (int64_t)time(NULL) - (int64_t)(hours * 3600) : 0;
    query->samples = (size_t)samples;
    call->state = query;
    emb_call_park(call, get_on_worker);
}

static void clear_on_worker(emb_api_call *call)
{
    emb_error err = {0};
    if (emb_shadow_clear(emb_service_shadow(call->service), &err)) {
        emb_call_fail_error(call, &err);
        return;
    }
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_bool(&o, "cleared", true);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void clear_shadow(emb_api_call *call)
{
    if (!emb_service_shadow(call->service))
        emb_call_fail(call, 409, "shadow_off", NULL,
                      "There are no comparisons to clear: shadow mode is off.");
    else
        emb_call_park(call, clear_on_worker);
}

/* ---- readiness ---- */

typedef struct verdict {
    emb_shadow_report report;
    bool has_report, has_alerts;
    emb_error failure; /* why there is no report, if it says so */
    unsigned critical, error, warning;
    emb_rollout_view rollout;
    emb_readiness readiness;
} verdict;

static void gather_alerts(emb_api_call *call, verdict *v, emb_readiness_input *in)
{
    emb_alerts *alerts = emb_service_alerts(call->service);
    const char *name;
    v->has_alerts = alerts != NULL;
    in->alerts_unknown = !alerts;
    if (!alerts)
        return;
    unsigned worse = emb_alerts_firing(alerts, EMB_SEVERITY_ERROR, &name), all;
    v->critical = emb_alerts_firing(alerts, EMB_SEVERITY_CRITICAL, &name);
    v->error = worse > v->critical ? worse - v->critical : 0;
    all = emb_alerts_firing(alerts, EMB_SEVERITY_WARNING, &name);
    v->warning = all > worse ? all - worse : 0;
    in->critical_alerts = v->critical;
}

static void gather_rollout(emb_api_call *call, verdict *v, emb_readiness_input *in)
{
    emb_rollout *rollout = emb_service_rollout(call->service);
    in->rollback_unknown = !rollout;
    v->rollout =
        (emb_rollout_view){.mode = EMB_ROLLOUT_CONFIGURED, .percentage = call->config->rollout_percentage};
    if (rollout)
        emb_rollout_get(rollout, call->config->rollout_percentage, &v->rollout);
    in->rollback_verified_s = v->rollout.rollback_verified_s;
}

/* Of the last minutes, not since the start: what a cold cache missed is forgotten, and what it hit long ago
 * as well. */
static void gather_service(emb_api_call *call, emb_readiness_input *in)
{
    emb_service_recent recent;
    emb_service_totals t;
    emb_service_get_recent(call->service, &recent);
    in->lookups = recent.texts;
    in->hit_rate_known = recent.texts >= call->config->alert_minimum_lookups;
    in->hit_rate = in->hit_rate_known ? (double)recent.cached_texts / (double)recent.texts : 0;
    emb_service_get_totals(call->service, &t);
    in->p95_ms = t.recent_requests ? t.p95_ms : NAN;
}

static void judge(emb_api_call *call, verdict *v)
{
    const emb_config *c = call->config;
    emb_shadow *shadow = emb_service_shadow(call->service);
    emb_readiness_input in = {
        .required_similarity = c->alert_similarity_warning,
        .required_overlap = c->shadow_overlap,
        .required_hours = c->readiness_hours,
        .required_hit_rate = HIT_RATE,
        .required_comparisons = c->readiness_comparisons,
        .p95_limit_ms = (double)c->alert_p95_warning,
    };
    const emb_shadow_query query = {0};
    v->has_report = shadow && !emb_shadow_make_report(shadow, &query, call->arena, &v->report, &v->failure);
    in.shadow = v->has_report ? &v->report : NULL;
    gather_alerts(call, v, &in);
    gather_rollout(call, v, &in);
    gather_service(call, &in);
    emb_readiness_judge(&in, &v->readiness);
}

static void write_criteria(emb_out *o, const emb_readiness *r)
{
    emb_out_open(o, "criteria", '[');
    for (size_t i = 0; i < r->count; i++) {
        emb_out_open(o, NULL, '{');
        emb_out_text(o, "name", r->criteria[i].name);
        emb_out_text(o, "required", r->criteria[i].required);
        emb_out_text(o, "actual", r->criteria[i].actual);
        emb_out_bool(o, "passed", r->criteria[i].passed);
        emb_out_close(o, '}');
    }
    emb_out_close(o, ']');
}

static void write_alerts(emb_out *o, const verdict *v)
{
    emb_out_open(o, "alerts", '{');
    if (v->has_alerts) {
        emb_out_count(o, "critical", v->critical);
        emb_out_count(o, "error", v->error);
        emb_out_count(o, "warning", v->warning);
    } else {
        emb_out_null(o, "critical");
        emb_out_null(o, "error");
        emb_out_null(o, "warning");
    }
    emb_out_close(o, '}');
}

/* One sentence for people: what to do next. */
static void recommend(const verdict *v, char *out, size_t size)
{
    const emb_readiness *r = &v->readiness;
    size_t at = 0;
    if (r->ready) {
        snprintf(out, size, "%s",
                 v->rollout.percentage < 100
                     ? "Every criterion is met: the rollout may go on."
                     : "Every criterion is met, and everybody is on the hybrid path already.");
        return;
    }
    at += (size_t)snprintf(out, size, "Do not roll out further yet; not met:");
    const char *between = " ";
    for (size_t i = 0; i < r->count && at < size; i++) {
        const emb_readiness_criterion *c = &r->criteria[i];
        if (c->passed)
            continue;
        at += (size_t)snprintf(out + at, size - at, "%s%s (%s, required %s)", between, c->name, c->actual,
                               c->required);
        between = ", ";
    }
    if (at + 2 <= size)
        snprintf(out + at, size - at, ".");
}

static void write_shadow(emb_out *o, const verdict *v, bool enabled)
{
    emb_out_open(o, "shadow", '{');
    emb_out_bool(o, "enabled", enabled);
    if (v->has_report)
        write_summary(o, &v->report);
    else if (enabled)
        emb_out_text(o, "error", v->failure.message);
    emb_out_close(o, '}');
}

static void readiness_on_worker(emb_api_call *call)
{
    char text[1024];
    verdict *v = emb_arena_calloc(call->arena, 1, sizeof *v);
    if (!v) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return;
    }
    judge(call, v);
    recommend(v, text, sizeof text);
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_bool(&o, "ready", v->readiness.ready);
    write_criteria(&o, &v->readiness);
    write_shadow(&o, v, emb_service_shadow(call->service) && call->config->shadow_mode);
    write_alerts(&o, v);
    emb_out_open(&o, "rollout", '{');
    emb_out_text(&o, "mode", emb_rollout_mode_name(v->rollout.mode));
    emb_out_real(&o, "percentage", v->rollout.percentage, 6);
    emb_out_close(&o, '}');
    emb_out_text(&o, "recommendation", text);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void get_readiness(emb_api_call *call)
{
    emb_call_park(call, readiness_on_worker);
}

/* ---- the table ---- */

#define COUNT EMB_HYBRID_COUNT
#define AMOUNT EMB_HYBRID_AMOUNT
#define COUNT_OR_NULL "{\"type\":[\"integer\",\"null\"],\"minimum\":0}"
#define TEXT_OR_NULL "{\"type\":[\"string\",\"null\"]}"
#define NUMBER "{\"type\":\"number\"}"
#define INTERVAL(kind)                                                                             \
    "{\"type\":" kind ",\"required\":[\"mean\",\"low\",\"high\"],\"properties\":{\"mean\":" NUMBER \
    ",\"low\":" NUMBER ",\"high\":" NUMBER "}}"
#define SIDE                                                                                        \
    "{\"type\":\"object\",\"required\":[\"p50_ms\",\"p95_ms\",\"cost_usd\"],\"properties\":{\"p50_" \
    "ms\":" AMOUNT ",\"p95_ms\":" AMOUNT ",\"cost_usd\":" AMOUNT "}}"
#define GROUP_MEMBERS                                                         \
    "\"comparisons\":" COUNT ",\"failures\":" COUNT ",\"with_cosine\":" COUNT \
    ",\"cosine\":" INTERVAL("[\"object\",\"null\"]") ",\"legacy\":" SIDE ",\"candidate\":" SIDE
#define SUMMARY_MEMBERS                                                                                      \
    "\"enabled\":{\"type\":\"boolean\"}," GROUP_MEMBERS ",\"failure_share\":" INTERVAL(                      \
        "\"object\"") ",\"first\":" TEXT_OR_NULL ",\"last\":" TEXT_OR_NULL                                   \
                      ",\"same_space\":{\"type\":\"boolean\"},\"window\":" COUNT                             \
                      ",\"neighbour_overlap\":" INTERVAL(                                                    \
                          "[\"object\",\"null\"]") ",\"rank_correlation\":" INTERVAL("[\"object\","          \
                                                                                     "\"null\"]") ",\"dropp" \
                                                                                                  "ed\""     \
                                                                                                  ":" COUNT  \
                                                                                                  ",\"queue" \
                                                                                                  "d\""      \
                                                                                                  ":" COUNT
#define SAMPLES_SCHEMA                                                                                       \
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"text_hash\",\"cosine\",\"error\"],"  \
    "\"properties\":{"                                                                                       \
    "\"time\":" TEXT_OR_NULL                                                                                 \
    ",\"text_hash\":{\"type\":\"string\",\"description\":\"SHA-256 of the text, its first 16 "               \
    "bytes.\"},\"category\":{\"type\":\"string\"},\"legacy\":{\"type\":\"string\"},\"candidate\":{\"type\":" \
    "\"string\"},"                                                                                           \
    "\"cosine\":{\"type\":[\"number\",\"null\"]},\"legacy_ms\":" AMOUNT ",\"candidate_ms\":" AMOUNT          \
    ",\"error\":" TEXT_OR_NULL "}}}"
#define REPORT_ANSWER                                                                                       \
    "{\"type\":\"object\",\"required\":[\"enabled\"],\"properties\":{" SUMMARY_MEMBERS                      \
    ",\"categories\":{\"type\":"                                                                            \
    "\"array\",\"items\":{\"type\":\"object\",\"required\":[\"category\",\"comparisons\"],\"properties\":{" \
    "\"category\":"                                                                                         \
    "{\"type\":\"string\"}," GROUP_MEMBERS "}}},\"worst\":" SAMPLES_SCHEMA ",\"newest\":" SAMPLES_SCHEMA    \
    "}}"
#define READINESS_ANSWER                                                                                     \
    "{\"type\":\"object\",\"required\":[\"ready\",\"criteria\",\"shadow\",\"alerts\",\"rollout\","           \
    "\"recommendation\"],"                                                                                   \
    "\"properties\":{\"ready\":{\"type\":\"boolean\"},\"criteria\":{\"type\":\"array\",\"items\":{\"type\":" \
    "\"object\","                                                                                            \
    "\"required\":[\"name\",\"required\",\"actual\",\"passed\"],\"properties\":{\"name\":{\"type\":"         \
    "\"string\"},"                                                                                           \
    "\"required\":{\"type\":\"string\"},\"actual\":{\"type\":\"string\"},\"passed\":{\"type\":\"boolean\"}}" \
    "}},"                                                                                                    \
    "\"shadow\":{\"type\":\"object\",\"required\":[\"enabled\"],\"properties\":{" SUMMARY_MEMBERS            \
    ",\"error\":{\"type\":\"string\"}}},\"alerts\":{\"type\":\"object\",\"required\":[\"critical\","         \
    "\"error\","                                                                                             \
    "\"warning\"],\"properties\":{\"critical\":" COUNT_OR_NULL ",\"error\":" COUNT_OR_NULL                   \
    ",\"warning\":" COUNT_OR_NULL "}},\"rollout\":{\"type\":\"object\",\"required\":[\"mode\","              \
    "\"percentage\"],\"properties\":{\"mode\":{\"type\":"                                                    \
    "\"string\"},\"percentage\":{\"type\":\"number\",\"minimum\":0,\"maximum\":100}}},\"recommendation\":{"  \
    "\"type\":"                                                                                              \
    "\"string\"}}}"

const emb_route emb_routes_shadow[] = {
    {EMB_HTTP_GET, "/api/v1/embeddings/shadow", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_READ, get_shadow,
     "What the candidate would have answered beside what was answered: figures, the worst and the newest "
     "pairs.",
     NULL, REPORT_ANSWER, NULL, "since_hours,samples"},
    {EMB_HTTP_DELETE, "/api/v1/embeddings/shadow", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_ADMIN,
     clear_shadow, "Remove all stored comparisons.", NULL,
     "{\"type\":\"object\",\"required\":[\"cleared\"],\"properties\":{\"cleared\":{\"type\":\"boolean\"}}}",
     NULL, NULL},
    {EMB_HTTP_GET, "/api/v1/embeddings/production-readiness", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_READ,
     get_readiness,
     "Whether the candidate is ready for production: each criterion with what it requires and what there is.",
     NULL, READINESS_ANSWER, NULL, NULL},
    {0}};
