/*
 * rules.c: the table of rules. A rule reads a value and its thresholds from the signals, and says in a
 * sentence what is wrong; when it fires is the state machine's business (alerts.c).
 *
 * A rule with two severities is one alert whose severity changes, not two alerts: who is told sees one thing
 * get worse. Where too little was observed nothing is known, and no condition holds: twenty requests at night
 * do not keep an alert of the evening alive. Conditions that are or are not (a provider is unhealthy) read 1
 * or 0 against 1.
 */
#include "alerts/parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define USD 1e9

static void set_thresholds(emb_reading *r, double warning, double error, double critical)
{
    r->threshold[EMB_SEVERITY_WARNING] = warning;
    r->threshold[EMB_SEVERITY_ERROR] = error;
    r->threshold[EMB_SEVERITY_CRITICAL] = critical;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

/* ---- values ---- */

static void read_p95(const emb_alert_signals *s, const emb_alert_thresholds *t, const emb_provider_signal *p,
                     emb_reading *r)
{
    (void)p;
    r->known = s->requests >= t->minimum_requests;
    r->value = s->p95_ms;
    set_thresholds(r, t->p95_warning_ms, t->p95_error_ms, NAN);
}

static void say_p95(const emb_reading *r, double threshold, char *out, size_t size)
{
    snprintf(out, size, "P95 latency is %.*f ms, over %.*f ms", r->value < 10 ? 1 : 0, r->value,
             threshold < 10 ? 1 : 0, threshold);
}

static void read_hits(const emb_alert_signals *s, const emb_alert_thresholds *t, const emb_provider_signal *p,
                      emb_reading *r)
{
    (void)p;
    r->known = s->lookups > 0 && s->lookups >= t->minimum_lookups;
    r->below = true;
    r->value = share(s->hits, s->lookups);
    set_thresholds(r, t->hit_warning, t->hit_error, NAN);
}

static void say_hits(const emb_reading *r, double threshold, char *out, size_t size)
{
    snprintf(out, size, "cache hit rate is %.1f %%, under %.4g %%", 100 * r->value, 100 * threshold);
}

static void read_similarity(const emb_alert_signals *s, const emb_alert_thresholds *t,
                            const emb_provider_signal *p, emb_reading *r)
{
    (void)p;
    r->known = s->has_similarity && s->comparisons > 0 && s->comparisons >= t->minimum_comparisons;
    r->below = true;
    r->value = s->similarity;
    set_thresholds(r, t->similarity_warning, t->similarity_error, NAN);
}

static void say_similarity(const emb_reading *r, double threshold, char *out, size_t size)
{
    snprintf(out, size, "mean similarity of compared vectors is %.4f, under %.4g", r->value, threshold);
}

static void read_errors(const emb_alert_signals *s, const emb_alert_thresholds *t,
                        const emb_provider_signal *p, emb_reading *r)
{
    (void)p;
    r->known = s->requests > 0 && s->requests >= t->minimum_requests;
    r->value = share(s->errors, s->requests);
    set_thresholds(r, t->error_rate_warning, NAN, NAN);
}

static void say_errors(const emb_reading *r, double threshold, char *out, size_t size)
{
    snprintf(out, size, "%.1f %% of requests fail, over %.4g %%", 100 * r->value, 100 * threshold);
}

static void read_budget(const emb_alert_signals *s, const emb_alert_thresholds *t,
                        const emb_provider_signal *p, emb_reading *r)
{
    (void)p;
    r->known = s->budget_nusd > 0;
    r->reaches = true;
    r->value = share(s->budget_used_nusd, s->budget_nusd);
    set_thresholds(r, t->budget_warning, NAN, t->budget_critical);
}

static void say_budget(const emb_reading *r, double threshold, char *out, size_t size)
{
    snprintf(out, size, "%.1f %% of today's API budget are spent, %.4g %% are reached", 100 * r->value,
             100 * threshold);
}

/* A threshold of 0 is none. */
static void read_month(const emb_alert_signals *s, const emb_alert_thresholds *t,
                       const emb_provider_signal *p, emb_reading *r)
{
    (void)p;
    r->known = t->monthly_usd > 0;
    r->value = (double)s->month_nusd / USD;
    set_thresholds(r, t->monthly_usd, NAN, NAN);
}

static void say_month(const emb_reading *r, double threshold, char *out, size_t size)
{
    snprintf(out, size, "this month cost %.2f USD so far, over %.2f USD", r->value, threshold);
}

/* ---- what is or is not ---- */

static void is_so(emb_reading *r, bool condition, emb_severity severity)
{
    r->known = r->reaches = true;
    r->value = condition;
    set_thresholds(r, NAN, NAN, NAN);
    r->threshold[severity] = 1;
}

static void read_unhealthy(const emb_alert_signals *s, const emb_alert_thresholds *t,
                           const emb_provider_signal *p, emb_reading *r)
{
    (void)s, (void)t;
    is_so(r, !p->healthy, EMB_SEVERITY_ERROR);
}

static void say_of_provider(const emb_reading *r, const char *what, char *out, size_t size)
{
    char text[512];
    snprintf(text, sizeof text, "%s %s%s%s", r->subject, what, *r->reason ? ": " : "", r->reason);
    emb_copy_text(out, size, text);
}

static void say_unhealthy(const emb_reading *r, double threshold, char *out, size_t size)
{
    (void)threshold;
    say_of_provider(r, "is unhealthy", out, size);
}

static void read_breaker(const emb_alert_signals *s, const emb_alert_thresholds *t,
                         const emb_provider_signal *p, emb_reading *r)
{
    (void)s, (void)t;
    is_so(r, p->breaker_open, EMB_SEVERITY_ERROR);
}

static void say_breaker(const emb_reading *r, double threshold, char *out, size_t size)
{
    (void)threshold;
    say_of_provider(r, "is not called: its breaker is open", out, size);
}

static void read_cache(const emb_alert_signals *s, const emb_alert_thresholds *t,
                       const emb_provider_signal *p, emb_reading *r)
{
    (void)t, (void)p;
    is_so(r, s->cache_down, EMB_SEVERITY_WARNING);
}

static void say_cache(const emb_reading *r, double threshold, char *out, size_t size)
{
    (void)r, (void)threshold;
    snprintf(out, size, "the cache's second level does not answer");
}

static void read_store(const emb_alert_signals *s, const emb_alert_thresholds *t,
                       const emb_provider_signal *p, emb_reading *r)
{
    (void)t, (void)p;
    is_so(r, s->store_down, EMB_SEVERITY_ERROR);
}

static void say_store(const emb_reading *r, double threshold, char *out, size_t size)
{
    (void)r, (void)threshold;
    snprintf(out, size, "the store of ledger, comparisons and alerts does not answer");
}

static void read_shared(const emb_alert_signals *s, const emb_alert_thresholds *t,
                        const emb_provider_signal *p, emb_reading *r)
{
    (void)t, (void)p;
    is_so(r, s->shared_state_down, EMB_SEVERITY_ERROR);
}

static void say_shared(const emb_reading *r, double threshold, char *out, size_t size)
{
    (void)r, (void)threshold;
    snprintf(out, size, "the store of budget and breakers does not answer");
}

/* ---- the table ---- */

const emb_rule emb_rules[] = {
    {"p95_latency", false, read_p95, say_p95},
    {"cache_hit_rate", false, read_hits, say_hits},
    {"similarity", false, read_similarity, say_similarity},
    {"error_rate", false, read_errors, say_errors},
    {"api_budget", false, read_budget, say_budget},
    {"monthly_cost", false, read_month, say_month},
    {"provider_unhealthy", true, read_unhealthy, say_unhealthy},
    {"breaker_open", true, read_breaker, say_breaker},
    {"cache_down", false, read_cache, say_cache},
    {"store_down", false, read_store, say_store},
    {"shared_state_down", false, read_shared, say_shared},
};
const size_t emb_rule_count = sizeof emb_rules / sizeof *emb_rules;

const emb_rule *emb_rule_find(const char *name)
{
    for (size_t i = 0; i < emb_rule_count; i++)
        if (strcmp(emb_rules[i].name, name) == 0)
            return &emb_rules[i];
    return NULL;
}

static bool holds(const emb_reading *r, double threshold)
{
    if (isnan(threshold))
        return false;
    return r->below ? r->value < threshold : r->reaches ? r->value >= threshold : r->value > threshold;
}

int emb_reading_level(const emb_reading *reading)
{
    int level = -1;
    for (int i = 0; reading->known && isfinite(reading->value) && i < EMB_SEVERITIES; i++)
        if (holds(reading, reading->threshold[i]))
            level = i;
    return level;
}
