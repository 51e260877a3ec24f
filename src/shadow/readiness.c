/*
 * readiness.c: whether the candidate may answer in production: seven criteria, each with what it asks for and
 * what there is; ready is their conjunction.
 *
 * Pure: the caller gathers the figures, so that every row of the verdict can be tested by a table. What
 * nobody recorded does not pass: not knowing is no reason to go live. The mean alone decides similarity, as
 * operators know it from their alerts; its interval is in the report for those who look closer.
 */
#include "shadow/shadow.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define NOT_RECORDED "not recorded"

typedef emb_readiness_criterion criterion;

__attribute__((format(printf, 2, 3))) static criterion *add(emb_readiness *out, const char *format, ...)
{
    criterion *c = &out->criteria[out->count++];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->required, sizeof c->required, format, arguments);
    va_end(arguments);
    snprintf(c->actual, sizeof c->actual, NOT_RECORDED);
    c->passed = false;
    return c;
}

__attribute__((format(printf, 3, 4))) static void found(criterion *c, bool passed, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->actual, sizeof c->actual, format, arguments);
    va_end(arguments);
    c->passed = passed;
}

static void judge_amount(const emb_readiness_input *in, emb_readiness *out)
{
    const emb_shadow_report *r = in->shadow;
    criterion *c = add(out, ">= %llu", (unsigned long long)in->required_comparisons);
    c->name = "comparisons";
    if (r) { /* those that the candidate could not answer compare nothing */
        uint64_t compared = r->all.comparisons -
                            (r->all.failures < r->all.comparisons ? r->all.failures : r->all.comparisons);
        found(c, compared >= in->required_comparisons, "%llu", (unsigned long long)compared);
    }
    c = add(out, ">= %g h", in->required_hours);
    c->name = "duration_hours";
    if (r && r->all.comparisons) {
        double hours = (double)(r->last_s - r->first_s) / 3600;
        found(c, hours >= in->required_hours, "%.1f h", hours);
    }
}

/* Cosines mean something within a space; between two of them only who is near whom does. */
static void judge_likeness(const emb_readiness_input *in, emb_readiness *out)
{
    const emb_shadow_report *r = in->shadow;
    if (!r || r->same_space) {
        criterion *c = add(out, "> %g", in->required_similarity);
        c->name = "similarity";
        if (r && r->all.with_cosine)
            found(c, r->all.cosine.mean > in->required_similarity, "%.4f", r->all.cosine.mean);
        return;
    }
    criterion *c = add(out, "> %g", in->required_overlap);
    c->name = "neighbour_overlap";
    if (r->has_overlap)
        found(c, r->overlap.mean > in->required_overlap, "%.4f", r->overlap.mean);
}

static void judge_health(const emb_readiness_input *in, emb_readiness *out)
{
    criterion *c = add(out, "0");
    c->name = "critical_alerts";
    if (!in->alerts_unknown)
        found(c, in->critical_alerts == 0, "%u", in->critical_alerts);
    c = add(out, "> %g", in->required_hit_rate);
    c->name = "cache_hit_rate";
    if (in->hit_rate_known)
        found(c, in->hit_rate > in->required_hit_rate, "%.4f", in->hit_rate);
    else
        found(c, false, "too few lookups: %llu", (unsigned long long)in->lookups);
    c = add(out, "<= %g ms", in->p95_limit_ms);
    c->name = "p95_latency_ms";
    if (isfinite(in->p95_ms))
        found(c, in->p95_ms <= in->p95_limit_ms, "%.1f ms", in->p95_ms);
}

static void judge_rollback(const emb_readiness_input *in, emb_readiness *out)
{
    criterion *c = add(out, "verified");
    c->name = "rollback_verified";
    if (in->rollback_unknown)
        return;
    if (in->rollback_verified_s > 0)
        found(c, true, "verified");
    else
        found(c, false, "never");
}

void emb_readiness_judge(const emb_readiness_input *input, emb_readiness *out)
{
    *out = (emb_readiness){.ready = true};
    judge_amount(input, out);
    judge_likeness(input, out);
    judge_health(input, out);
    judge_rollback(input, out);
    for (size_t i = 0; i < out->count; i++)
        out->ready = out->ready && out->criteria[i].passed;
}
