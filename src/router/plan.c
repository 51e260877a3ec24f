/*
 * plan.c: the planner.
 *
 * Each candidate goes through the rules in their order and is passed over by the first that objects; what is
 * left is sorted. So an explanation costs nothing extra: the rule that objected is known for each, and
 * sentences are written only if the caller has room for them. A chain of filters over a shrinking list was
 * rejected, since it loses which candidate fell where.
 *
 * All candidates that the pins allow are ranked, those that were passed over too: the rule that decided is
 * then that which took the candidate that would have come first, or the context where none did.
 *
 * Off the hybrid path the legacy provider comes first and the others follow as its fallback, in the
 * configured order. A pin that leaves the legacy provider nothing stands: the caller said where the text is
 * to go. Without fallback the legacy provider is alone.
 *
 * Shares by weight: each candidate draws -ln(u) / weight, u from the request's random number and its index,
 * and the smaller comes first. That is the order of draws without replacement, without drawing one after
 * another.
 *
 * Invariants: the order holds no candidate twice; none that a pin excludes; with a private text only local
 * ones; none whose breaker is open or that drains; none over its budget. A refusal is set if and only if the
 * order is empty, and it is that of the rule which took the last ones.
 *
 * Cost: candidates × (rules + insertion sort), about two microseconds for five, nine with
 * sentences for each; nothing is allocated.
 */
#include "router/plan.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct rank {
    unsigned group; /* legacy path, context; the weightless last */
    double measure; /* within the group, the smaller first */
    unsigned away;  /* 0: shares the default provider's place */
    unsigned position;
    double draw;
} rank;

typedef struct planner {
    const emb_route_request *request;
    const emb_route_settings *settings;
    const emb_route_candidate *candidates;
    size_t count;
    emb_route_plan *plan;
    bool pins_provider, pins_model, pins_space, is_private;
    bool legacy;         /* off the hybrid path */
    bool legacy_alone;   /* and nobody else may answer */
    emb_context context; /* by which to order; DEFAULT also where contexts do not count */
    bool is_batch;
    const char *legacy_name, *default_name;
    emb_route_rule passed[EMB_ROUTE_MAX];
    rank ranks[EMB_ROUTE_MAX];
    size_t ranked[EMB_ROUTE_MAX], ranked_count;
} planner;

/* ---- names and sentences ---- */

static const char *const CONTEXTS[] = {"default", "realtime", "analysis", "batch", "sensitive"};
static const char *const RULES[] = {"none",     "pinned", "privacy", "legacy",
                                    "settings", "health", "budget",  "context"};

const char *emb_context_name(emb_context context)
{
    return (size_t)context < sizeof CONTEXTS / sizeof *CONTEXTS ? CONTEXTS[context] : "unknown";
}

bool emb_context_parse(const char *name, emb_context *out)
{
    for (size_t i = 0; name && i < sizeof CONTEXTS / sizeof *CONTEXTS; i++)
        if (strcmp(name, CONTEXTS[i]) == 0) {
            *out = (emb_context)i;
            return true;
        }
    return false;
}

const char *emb_route_rule_name(emb_route_rule rule)
{
    return (size_t)rule < sizeof RULES / sizeof *RULES ? RULES[rule] : "unknown";
}

static bool is_set(const char *text)
{
    return text && *text;
}

typedef struct label {
    char text[44];
} label;

/* A name short enough for a sentence, cut between characters. */
static label short_name(const char *name)
{
    label l;
    size_t length = name ? strlen(name) : 0, room = sizeof l.text - 1;
    if (length > room) {
        length = emb_utf8_valid_prefix(name, room - 3);
        memcpy(l.text, name, length);
        memcpy(l.text + length, "...", 4);
    } else {
        memcpy(l.text, name ? name : "", length);
        l.text[length] = 0;
    }
    return l;
}
#define NAME(name) (short_name(name).text)

/* snprintf that leaves no part of a character at the end. */
__attribute__((format(printf, 3, 4))) static void say(char *out, size_t size, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsnprintf(out, size, format, list);
    va_end(list);
    if (n < 0)
        *out = 0;
    else if ((size_t)n >= size)
        out[emb_utf8_valid_prefix(out, size - 1)] = 0;
}

/* ---- who is meant ---- */

/* The part of "NAME" or "NAME/MODEL" that names the instance, and whether the candidate is meant. */
static bool is_meant(const emb_route_candidate *c, const char *name)
{
    size_t length = strlen(c->provider);
    if (!is_set(name) || strncmp(name, c->provider, length) != 0)
        return false;
    return !name[length] || (name[length] == '/' && strcmp(name + length + 1, c->model) == 0);
}

/* It is not the default model of its provider, but the configuration names it as if it were. */
static bool is_named_model(const emb_route_candidate *c, const char *name)
{
    return is_meant(c, name) && name[strlen(c->provider)] == '/';
}

static bool is_legacy(const planner *p, size_t i)
{
    const emb_route_candidate *c = &p->candidates[i];
    if (!is_meant(c, p->legacy_name))
        return false;
    /* "NAME" means its default model, and any that the request pins */
    return !c->is_fallback_only || c->weight == 0 || p->pins_model || p->pins_space ||
           is_named_model(c, p->legacy_name);
}

static bool serves_pins(const planner *p, const emb_route_candidate *c)
{
    const char *wanted = p->request->preferred_provider;
    if (p->pins_provider) {
        bool named = strcmp(wanted, c->provider) == 0 || strcmp(wanted, c->kind) == 0;
        if (!named || (strcmp(wanted, "local") == 0 && !(c->is_local && strcmp(c->kind, "local") == 0)))
            return false;
    }
    if (p->pins_model && strcmp(p->request->model, c->model) != 0)
        return false;
    return !p->pins_space || (c->space && strcmp(p->request->space, c->space) == 0);
}

/* A provider of weight 0 answers by its first model; its others, and models that are not the default of their
 * provider, only where a request or the configuration names them. */
static bool is_primary(const planner *p, size_t i)
{
    const emb_route_candidate *c = &p->candidates[i];
    if (!c->is_fallback_only || p->pins_model || p->pins_space)
        return true;
    if (is_named_model(c, p->default_name) || (p->legacy && is_named_model(c, p->legacy_name)))
        return true;
    if (c->weight)
        return false;
    for (size_t k = 0; k < i; k++)
        if (strcmp(p->candidates[k].provider, c->provider) == 0)
            return false;
    return true;
}

static bool is_last_resort(const emb_route_candidate *c)
{
    return c->is_fallback_only && c->weight == 0;
}

static bool is_pinned(const planner *p)
{
    return p->pins_provider || p->pins_model || p->pins_space;
}

/* ---- the rules ---- */

static bool is_over_budget(const planner *p, const emb_route_candidate *c)
{
    if (!c->is_api)
        return false;
    if (c->is_unpriced)
        return true;
    if (!c->estimate_nusd)
        return false;
    return c->estimate_nusd > c->available_nusd ||
           (c->near_limit && p->request->context != EMB_CONTEXT_ANALYSIS);
}

/* The first rule that objects to a candidate. */
static emb_route_rule judge(const planner *p, size_t i)
{
    const emb_route_candidate *c = &p->candidates[i];
    if (!serves_pins(p, c) || !is_primary(p, i))
        return EMB_RULE_PINNED;
    if (p->is_private && !c->is_local)
        return EMB_RULE_PRIVACY;
    if (p->legacy_alone && !is_legacy(p, i))
        return EMB_RULE_LEGACY;
    if (!c->serves_settings)
        return EMB_RULE_SETTINGS;
    if (c->is_open || c->is_draining)
        return EMB_RULE_HEALTH;
    if (is_over_budget(p, c))
        return EMB_RULE_BUDGET;
    if (is_last_resort(c) && !p->settings->fallback && !is_pinned(p) && !(p->legacy && is_legacy(p, i)))
        return EMB_RULE_CONTEXT;
    return EMB_RULE_NONE;
}

/* ---- the order ---- */

static bool is_slow(const planner *p, const emb_route_candidate *c)
{
    return p->settings->realtime_us && c->p95_us > p->settings->realtime_us;
}

static void rank_by_context(const planner *p, const emb_route_candidate *c, rank *r)
{
    switch (p->context) {
    case EMB_CONTEXT_REALTIME:
        r->group = is_slow(p, c) ? 3 : c->p95_us ? 0 : c->is_local ? 1 : 2;
        r->measure = (double)c->p95_us;
        break;
    case EMB_CONTEXT_ANALYSIS:
        r->group = !c->is_api;
        r->measure = c->quality > 0 ? -c->quality : 0; /* false for NaN, too */
        break;
    case EMB_CONTEXT_BATCH:
        r->group = !c->is_local;
        r->measure = c->is_local ? 0 : (double)c->estimate_nusd;
        break;
    case EMB_CONTEXT_DEFAULT:
    case EMB_CONTEXT_SENSITIVE:
        break;
    }
}

static double draw(uint64_t random, size_t index, size_t weight)
{
    uint64_t z = random + (index + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return -log(((double)(z >> 11) + 0.5) * 0x1p-53) / (double)(weight ? weight : 1);
}

/* With a weighted place the weights decide which of its instances is first, the default provider or
 * another. */
static bool shares_default_place(const planner *p, const emb_route_candidate *c)
{
    if (is_meant(c, p->default_name))
        return true;
    for (size_t k = 0; k < p->count; k++)
        if (p->candidates[k].position == c->position && p->candidates[k].weight && c->weight &&
            p->passed[k] != EMB_RULE_PINNED && strcmp(p->candidates[k].provider, c->provider) != 0 &&
            is_meant(&p->candidates[k], p->default_name))
            return true;
    return false;
}

static rank rank_of(const planner *p, size_t i)
{
    const emb_route_candidate *c = &p->candidates[i];
    rank r = {.position = c->position, .away = !shares_default_place(p, c)};
    if (p->legacy)
        r.group = !is_legacy(p, i);
    else
        rank_by_context(p, c, &r);
    if (is_last_resort(c) && !(p->legacy && is_legacy(p, i)))
        r.group += 8;
    r.draw = draw(p->request->random, i, c->weight);
    return r;
}

static bool comes_before(const planner *p, size_t a, size_t b)
{
    const rank *x = &p->ranks[a], *y = &p->ranks[b];
    if (x->group != y->group)
        return x->group < y->group;
    if (x->measure != y->measure)
        return x->measure < y->measure;
    if (x->away != y->away)
        return x->away < y->away;
    if (x->position != y->position)
        return x->position < y->position;
    return x->draw != y->draw ? x->draw < y->draw : a < b;
}

/* All that the pins allow, the best first. */
static void sort_ranked(planner *p)
{
    p->ranked_count = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (p->passed[i] == EMB_RULE_PINNED)
            continue;
        p->ranks[i] = rank_of(p, i);
        size_t at = p->ranked_count++;
        for (; at && comes_before(p, i, p->ranked[at - 1]); at--)
            p->ranked[at] = p->ranked[at - 1];
        p->ranked[at] = i;
    }
}

static void fill_order(planner *p)
{
    emb_route_plan *plan = p->plan;
    plan->count = 0;
    for (size_t k = 0; k < p->ranked_count; k++)
        if (p->passed[p->ranked[k]] == EMB_RULE_NONE)
            plan->order[plan->count++] = p->ranked[k];
    if (p->settings->fallback)
        return;
    for (size_t k = 1; k < plan->count; k++)
        p->passed[plan->order[k]] = EMB_RULE_CONTEXT;
    if (plan->count > 1)
        plan->count = 1;
}

/* ---- verdicts ---- */

static const char *private_because(const planner *p)
{
    return p->request->context == EMB_CONTEXT_SENSITIVE ? "the context is sensitive"
                                                        : "personal data was found";
}

static void say_pinned(const planner *p, const emb_route_candidate *c, char *out, size_t size)
{
    const emb_route_request *r = p->request;
    if (serves_pins(p, c))
        say(out, size, "Only a request that names the model %s goes to it.", NAME(c->model));
    else if (p->pins_model && strcmp(r->model, c->model) != 0)
        say(out, size, "The request names the model %s.", NAME(r->model));
    else if (p->pins_space && strcmp(r->space, c->space ? c->space : "") != 0)
        say(out, size, "The request names another space: %s.", NAME(r->space));
    else
        say(out, size, "The request names the provider %s.", NAME(r->preferred_provider));
}

static void say_budget(const planner *p, const emb_route_candidate *c, char *out, size_t size)
{
    (void)p;
    if (c->is_unpriced)
        say(out, size, "Nobody said what it costs, and budget.unpriced does not allow that.");
    else if (c->estimate_nusd > c->available_nusd)
        say(out, size, "About $%.6f are needed, and its limits leave $%.6f.", (double)c->estimate_nusd / 1e9,
            (double)c->available_nusd / 1e9);
    else
        say(out, size, "Its budget is near its limit: what is left is kept for the context analysis.");
}

static void say_kept_out(const planner *p, const emb_route_candidate *c, char *out, size_t size)
{
    if (p->plan->count)
        say(out, size, "Another comes first, and fallback is off.");
    else
        say(out, size, "The weight of %s is 0: it is reached by fallback, which is off.", NAME(c->provider));
}

static void say_passed(const planner *p, size_t i, char *out, size_t size)
{
    const emb_route_candidate *c = &p->candidates[i];
    switch (p->passed[i]) {
    case EMB_RULE_PINNED:
        say_pinned(p, c, out, size);
        break;
    case EMB_RULE_PRIVACY:
        say(out, size, "Texts are private (%s), and it is not local.", private_because(p));
        break;
    case EMB_RULE_LEGACY:
        say(out, size, "Only the legacy provider %s may answer: fallback is off.", NAME(p->legacy_name));
        break;
    case EMB_RULE_SETTINGS:
        say(out, size, "%s",
            is_set(c->unserved) ? c->unserved : "It cannot serve the settings of this request.");
        break;
    case EMB_RULE_HEALTH:
        say(out, size, "%s", c->is_open ? "Its circuit breaker is open." : "It is draining.");
        break;
    case EMB_RULE_BUDGET:
        say_budget(p, c, out, size);
        break;
    case EMB_RULE_CONTEXT:
        say_kept_out(p, c, out, size);
        break;
    case EMB_RULE_NONE:
        break;
    }
}

static void say_realtime(const planner *p, const emb_route_candidate *c, char *out, size_t size)
{
    double p95 = (double)c->p95_us / 1e3, limit = (double)p->settings->realtime_us / 1e3;
    if (!c->p95_us)
        say(out, size, "its P95 is not known yet%s", c->is_local ? ", but it is local" : "");
    else if (!p->settings->realtime_us)
        say(out, size, "P95 %.1f ms", p95);
    else
        say(out, size, "P95 %.1f ms is %s the %.1f ms of realtime", p95, is_slow(p, c) ? "over" : "within",
            limit);
}

/* Why it stands where it stands, without a full stop. */
static void say_place(const planner *p, size_t i, char *out, size_t size)
{
    const emb_route_candidate *c = &p->candidates[i];
    if (p->legacy)
        say(out, size, "%s",
            is_legacy(p, i) ? "the legacy provider" : "after the legacy provider, in the configured order");
    else if (is_last_resort(c))
        say(out, size, "its weight is 0: behind all others");
    else if (p->context == EMB_CONTEXT_REALTIME)
        say_realtime(p, c, out, size);
    else if (p->context == EMB_CONTEXT_ANALYSIS && !(c->quality > 0))
        say(out, size, "%s, its quality is not known", c->is_api ? "an API" : "behind the APIs");
    else if (p->context == EMB_CONTEXT_ANALYSIS)
        say(out, size, c->is_api ? "an API of quality %.1f" : "of quality %.1f, behind the APIs", c->quality);
    else if (p->context == EMB_CONTEXT_BATCH && c->is_local)
        say(out, size, "local first for batches");
    else if (p->context == EMB_CONTEXT_BATCH)
        say(out, size, "by price for batches: about $%.6f", (double)c->estimate_nusd / 1e9);
    else
        say(out, size, "the configured order");
}

static void write_verdicts(const planner *p, size_t given)
{
    emb_route_verdict *v = p->plan->verdicts;
    for (size_t i = 0; i < p->count; i++) {
        v[i].passed_over = p->passed[i];
        if (p->passed[i] != EMB_RULE_NONE)
            say_passed(p, i, v[i].why, sizeof v[i].why);
    }
    for (size_t k = 0; k < p->plan->count; k++) {
        size_t i = p->plan->order[k];
        char place[80];
        say_place(p, i, place, sizeof place);
        say(v[i].why, sizeof v[i].why, "Number %zu: %s.", k + 1, place);
    }
    for (size_t i = p->count; i < given; i++) {
        v[i].passed_over = EMB_RULE_CONTEXT;
        say(v[i].why, sizeof v[i].why, "Only the first %d candidates are looked at.", EMB_ROUTE_MAX);
    }
}

/* ---- the plan's reason ---- */

static const char *context_reason(const planner *p)
{
    if (!p->settings->routing)
        return "routing is off: the default provider first";
    if (p->is_batch)
        return "a large batch: local first, then by price";
    switch (p->context) {
    case EMB_CONTEXT_REALTIME:
        return "context realtime: the best recent latency";
    case EMB_CONTEXT_ANALYSIS:
        return "context analysis: the highest quality";
    case EMB_CONTEXT_BATCH:
        return "context batch: local first, then by price";
    case EMB_CONTEXT_DEFAULT:
    case EMB_CONTEXT_SENSITIVE:
        break;
    }
    return p->is_private ? "private texts: the first local candidate" : "the configured order";
}

static void say_pins(const planner *p, char *out, size_t size)
{
    const emb_route_request *r = p->request;
    if (p->pins_model && p->pins_provider)
        say(out, size, "the model %s at %s", NAME(r->model), NAME(r->preferred_provider));
    else if (p->pins_model)
        say(out, size, "the model %s", NAME(r->model));
    else if (p->pins_space)
        say(out, size, "the space %s", NAME(r->space));
    else
        say(out, size, "the provider %s", NAME(r->preferred_provider));
}

static void say_legacy(const planner *p, const char *first, char *out, size_t size)
{
    if (!p->settings->hybrid)
        say(out, size, "The hybrid path is off: %s.", first);
    else
        say(out, size, "Bucket %.2f is not in the rollout's %.2f %%: %s.", p->request->bucket,
            p->settings->rollout_percentage, first);
}

static void say_instead(const planner *p, size_t best, char *out, size_t size)
{
    const emb_route_candidate *c = &p->candidates[best];
    const char *next = p->candidates[p->plan->order[0]].provider;
    switch (p->passed[best]) {
    case EMB_RULE_PRIVACY:
        say(out, size, "Private (%s): %s may not see it, %s is next.", private_because(p), NAME(c->provider),
            NAME(next));
        break;
    case EMB_RULE_SETTINGS:
        say(out, size, "%s cannot serve these settings, %s is next.", NAME(c->provider), NAME(next));
        break;
    case EMB_RULE_HEALTH:
        say(out, size, "%s %s, %s is next.", NAME(c->provider),
            c->is_open ? "is behind an open breaker" : "is draining", NAME(next));
        break;
    default:
        say(out, size, "%s has no budget for it, %s is next.", NAME(c->provider), NAME(next));
        break;
    }
}

static size_t count_ranked(const planner *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->count; i++)
        n += p->passed[i] != EMB_RULE_PINNED;
    return n;
}

/* The rule and the reason of the first place. */
static void explain(planner *p)
{
    emb_route_plan *plan = p->plan;
    size_t best = p->ranked[0], first = plan->order[0], pinned_to = count_ranked(p);
    char part[120];
    if (p->legacy && is_legacy(p, first)) {
        plan->rule = EMB_RULE_LEGACY;
        say(part, sizeof part, "the legacy provider %s", NAME(p->candidates[first].provider));
        say_legacy(p, part, plan->reason, sizeof plan->reason);
    } else if (p->passed[best] != EMB_RULE_NONE && best != first) {
        plan->rule = p->passed[best];
        say_instead(p, best, plan->reason, sizeof plan->reason);
    } else if (is_pinned(p) && (pinned_to == 1 || p->legacy)) {
        plan->rule = EMB_RULE_PINNED;
        say_pins(p, part, sizeof part);
        say(plan->reason, sizeof plan->reason, "The request asks for %s.", part);
    } else if (p->legacy) {
        plan->rule = EMB_RULE_LEGACY;
        say_legacy(p, "the legacy provider is not there, the configured order", plan->reason,
                   sizeof plan->reason);
    } else {
        plan->rule = EMB_RULE_CONTEXT;
        say(plan->reason, sizeof plan->reason, "%s, %zu candidate%s.", context_reason(p), plan->count,
            plan->count == 1 ? "" : "s");
    }
}

/* ---- refusals ---- */

/* The rule that took the last ones. With the legacy provider alone only its candidates count, unless there
 * are none. */
static emb_route_rule last_taker(const planner *p)
{
    emb_route_rule last = EMB_RULE_NONE;
    for (size_t i = 0; i < p->count; i++)
        if (p->passed[i] != EMB_RULE_LEGACY && p->passed[i] > last && !(p->legacy_alone && !is_legacy(p, i)))
            last = p->passed[i];
    if (last == EMB_RULE_NONE || (p->legacy_alone && last == EMB_RULE_PINNED))
        for (size_t i = 0; i < p->count; i++)
            if (p->passed[i] > last)
                last = p->passed[i];
    return last;
}

static const char *some_unserved(const planner *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->passed[i] == EMB_RULE_SETTINGS && is_set(p->candidates[i].unserved))
            return p->candidates[i].unserved;
    return "No candidate can serve the settings of this request.";
}

static emb_status refusal_of(const planner *p, char *out, size_t size)
{
    char pins[120];
    switch (p->plan->rule) {
    case EMB_RULE_PINNED:
        say_pins(p, pins, sizeof pins);
        say(out, size, is_pinned(p) ? "Nothing here serves %s." : "No provider has a default model.%.0s",
            pins);
        return EMB_E_NOT_FOUND;
    case EMB_RULE_PRIVACY:
        say(out, size, "Texts are private (%s), and no candidate is local: refused.", private_because(p));
        return EMB_E_FORBIDDEN;
    case EMB_RULE_LEGACY:
        say(out, size, "Only the legacy provider %s may answer, and there is none of this name.",
            NAME(p->legacy_name));
        return EMB_E_UNAVAILABLE;
    case EMB_RULE_SETTINGS:
        say(out, size, "%s", some_unserved(p));
        return EMB_E_INVALID;
    case EMB_RULE_HEALTH:
        say(out, size, "Every candidate that is left is behind an open circuit breaker or draining.");
        return EMB_E_UNAVAILABLE;
    case EMB_RULE_BUDGET:
        say(out, size, "The budget allows no candidate that is left, and none is free.");
        return EMB_E_BUDGET;
    case EMB_RULE_CONTEXT:
        say(out, size, "What is left is reached by fallback alone, and fallback is off.");
        return EMB_E_UNAVAILABLE;
    case EMB_RULE_NONE:
        break;
    }
    say(out, size, "No provider is configured.");
    return EMB_E_UNAVAILABLE;
}

/* ---- all of it ---- */

static bool any_primary_legacy(const planner *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (is_legacy(p, i) && serves_pins(p, &p->candidates[i]))
            return true;
    return false;
}

static void prepare(planner *p)
{
    const emb_route_request *r = p->request;
    const emb_route_settings *s = p->settings;
    p->pins_provider = is_set(r->preferred_provider) && strcmp(r->preferred_provider, "auto") != 0;
    p->pins_model = is_set(r->model);
    p->pins_space = is_set(r->space);
    p->is_private = r->context == EMB_CONTEXT_SENSITIVE || r->has_pii;
    p->default_name = is_set(s->default_provider) ? s->default_provider : "local";
    p->legacy_name = is_set(s->legacy_provider) ? s->legacy_provider : p->default_name;
    p->legacy = !s->hybrid || !(r->bucket < s->rollout_percentage); /* not a number: off the path */
    p->legacy_alone = p->legacy && !s->fallback && (!is_pinned(p) || any_primary_legacy(p));
    p->is_batch = s->routing && r->context == EMB_CONTEXT_DEFAULT && s->batch_threshold &&
                  r->texts >= s->batch_threshold;
    p->context = !s->routing ? EMB_CONTEXT_DEFAULT : p->is_batch ? EMB_CONTEXT_BATCH : r->context;
}

void emb_route_make(const emb_route_request *request, const emb_route_settings *settings,
                    const emb_route_candidate *candidates, size_t count, emb_route_plan *plan)
{
    planner p = {.request = request, .settings = settings, .candidates = candidates, .plan = plan};
    p.count = count < EMB_ROUTE_MAX ? count : EMB_ROUTE_MAX;
    prepare(&p);
    for (size_t i = 0; i < p.count; i++)
        p.passed[i] = judge(&p, i);
    sort_ranked(&p);
    plan->legacy = p.legacy;
    plan->space_pinned = p.pins_space;
    plan->refusal = EMB_OK;
    fill_order(&p);
    if (plan->count) {
        explain(&p);
    } else {
        plan->rule = last_taker(&p);
        plan->refusal = refusal_of(&p, plan->reason, sizeof plan->reason);
    }
    if (plan->verdicts)
        write_verdicts(&p, count);
}
