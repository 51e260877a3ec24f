/*
 * The planner: a table of cases that reads as the rules do, and the product of everything that can vary,
 * against a reference that knows the rules as sets: each rule is a mask of the five candidates below, written
 * by hand, the order's members are their intersection, and the refusal is that of the first mask that leaves
 * nothing.
 */
#include "router/plan.h"

#include "base/utf8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { LOCAL, OPENAI, LARGE, AZURE, TEI, COUNT };
#define BIT(i) (1u << (i))
#define ALL 31u

static const emb_route_candidate WORLD[COUNT] = {
    [LOCAL] = {.provider = "local",
               .kind = "local",
               .model = "minilm",
               .space = "local/minilm",
               .position = 0,
               .weight = 1,
               .is_local = true,
               .serves_settings = true,
               .quality = 56,
               .available_nusd = UINT64_MAX},
    [OPENAI] = {.provider = "openai",
                .kind = "openai",
                .model = "small",
                .space = "openai/small",
                .position = 1,
                .weight = 1,
                .is_api = true,
                .serves_settings = true,
                .quality = 62,
                .estimate_nusd = 200,
                .available_nusd = 1000},
    [LARGE] = {.provider = "openai",
               .kind = "openai",
               .model = "large",
               .space = "openai/large",
               .position = 1,
               .weight = 1,
               .is_fallback_only = true,
               .is_api = true,
               .serves_settings = true,
               .quality = 65,
               .estimate_nusd = 900,
               .available_nusd = 1000},
    [AZURE] = {.provider = "azure-eu",
               .kind = "azure",
               .model = "small",
               .space = "openai/small",
               .position = 2,
               .is_fallback_only = true,
               .is_api = true,
               .serves_settings = true,
               .quality = 62,
               .estimate_nusd = 250,
               .available_nusd = 1000},
    [TEI] = {.provider = "gpu-room",
             .kind = "tei",
             .model = "bge",
             .space = "gpu-room/bge",
             .position = 3,
             .weight = 1,
             .is_local = true,
             .serves_settings = true,
             .quality = 63,
             .available_nusd = UINT64_MAX},
};

static const emb_route_settings SETTINGS = {.hybrid = true,
                                            .routing = true,
                                            .rollout_percentage = 100,
                                            .legacy_provider = "",
                                            .default_provider = "local",
                                            .realtime_us = 100000,
                                            .batch_threshold = 50,
                                            .fallback = true};

typedef struct world {
    emb_route_candidate c[COUNT];
    emb_route_settings s;
    emb_route_request r;
    emb_route_verdict v[COUNT];
    emb_route_plan plan;
} world;

static world fresh(void)
{
    world w;
    memset(&w, 0, sizeof w);
    memcpy(w.c, WORLD, sizeof WORLD);
    w.s = SETTINGS;
    w.r = (emb_route_request){.texts = 1, .bucket = 50};
    return w;
}

static void make(world *w)
{
    memset(&w->plan, 0xA5, sizeof w->plan);
    memset(w->v, 0xA5, sizeof w->v);
    w->plan.verdicts = w->v;
    emb_route_make(&w->r, &w->s, w->c, COUNT, &w->plan);
}

/* "local tei openai …" */
static void expect(world *w, emb_route_rule rule, const char *order)
{
    static const char *const names[COUNT] = {"local", "openai", "large", "azure", "tei"};
    char got[100] = "";
    make(w);
    for (size_t i = 0; i < w->plan.count; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i ? " " : "", names[w->plan.order[i]]);
    if (strcmp(got, order) != 0 || w->plan.rule != rule)
        fail_msg("order \"%s\" by %s, not \"%s\" by %s (%s)", got, emb_route_rule_name(w->plan.rule), order,
                 emb_route_rule_name(rule), w->plan.reason);
}

static void expect_refusal(world *w, emb_status status, const char *reason_holds)
{
    make(w);
    assert_int_equal(w->plan.count, 0);
    assert_int_equal(w->plan.refusal, status);
    if (!strstr(w->plan.reason, reason_holds))
        fail_msg("\"%s\" does not hold \"%s\"", w->plan.reason, reason_holds);
}

/* ---- rule by rule ---- */

static void test_contexts(void **state)
{
    (void)state;
    world w = fresh();
    expect(&w, EMB_RULE_CONTEXT, "local openai tei azure");
    w.s.default_provider = "openai";
    expect(&w, EMB_RULE_CONTEXT, "openai local tei azure");
    w.s.default_provider = "openai/large";
    expect(&w, EMB_RULE_CONTEXT, "large local openai tei azure");

    w = fresh();
    w.r.context = EMB_CONTEXT_ANALYSIS;
    expect(&w, EMB_RULE_CONTEXT, "openai tei local azure");
    assert_non_null(strstr(w.plan.reason, "analysis"));
    w.r.context = EMB_CONTEXT_BATCH;
    expect(&w, EMB_RULE_CONTEXT, "local tei openai azure");
    w.r.context = EMB_CONTEXT_SENSITIVE;
    expect(&w, EMB_RULE_CONTEXT, "local tei");

    w = fresh();
    w.s.default_provider = "openai";
    w.r.texts = 49;
    expect(&w, EMB_RULE_CONTEXT, "openai local tei azure");
    w.r.texts = 50;
    expect(&w, EMB_RULE_CONTEXT, "local tei openai azure");
    w.s.routing = false;
    expect(&w, EMB_RULE_CONTEXT, "openai local tei azure");
    w.r.context = EMB_CONTEXT_ANALYSIS;
    expect(&w, EMB_RULE_CONTEXT, "openai local tei azure");
}

static void test_realtime(void **state)
{
    (void)state;
    world w = fresh();
    w.r.context = EMB_CONTEXT_REALTIME;
    expect(&w, EMB_RULE_CONTEXT, "local tei openai azure"); /* nothing known: local before others */
    w.c[OPENAI].p95_us = 80000;
    w.c[TEI].p95_us = 20000;
    expect(&w, EMB_RULE_CONTEXT, "tei openai local azure");
    w.c[LOCAL].p95_us = 5000;
    expect(&w, EMB_RULE_CONTEXT, "local tei openai azure");
    w.c[LOCAL].p95_us = 100001;
    expect(&w, EMB_RULE_CONTEXT, "tei openai local azure"); /* too slow: last, not removed */
    assert_non_null(strstr(w.v[LOCAL].why, "over"));
    w.c[LOCAL].p95_us = 100000;
    expect(&w, EMB_RULE_CONTEXT, "tei openai local azure");
    assert_non_null(strstr(w.v[LOCAL].why, "within"));
}

static void test_pins(void **state)
{
    (void)state;
    world w = fresh();
    w.r.model = "small";
    expect(&w, EMB_RULE_CONTEXT, "openai azure");
    w.r.model = "large";
    expect(&w, EMB_RULE_PINNED, "large");
    w.r.preferred_provider = "azure-eu";
    expect_refusal(&w, EMB_E_NOT_FOUND, "large");
    assert_non_null(strstr(w.plan.reason, "azure-eu"));
    w.r.model = "";
    expect(&w, EMB_RULE_PINNED, "azure");
    w.r.preferred_provider = "azure"; /* its kind */
    expect(&w, EMB_RULE_PINNED, "azure");
    w.r.preferred_provider = "openai"; /* a provider's default model alone */
    expect(&w, EMB_RULE_PINNED, "openai");
    w.r.preferred_provider = "auto";
    expect(&w, EMB_RULE_CONTEXT, "local openai tei azure");
    w.r.preferred_provider = "local";
    expect(&w, EMB_RULE_PINNED, "local");
    w.c[LOCAL].is_local = false;
    expect_refusal(&w, EMB_E_NOT_FOUND, "local");

    w = fresh();
    w.r.space = "openai/small";
    expect(&w, EMB_RULE_CONTEXT, "openai azure");
    assert_true(w.plan.space_pinned);
    w.r.space = "nowhere/x";
    expect_refusal(&w, EMB_E_NOT_FOUND, "nowhere/x");
    w.r.space = "gpu-room/bge";
    w.c[TEI].space = ""; /* not known yet: cannot be promised */
    expect_refusal(&w, EMB_E_NOT_FOUND, "gpu-room/bge");
    w = fresh();
    make(&w);
    assert_false(w.plan.space_pinned);
}

static void test_privacy(void **state)
{
    (void)state;
    world w = fresh();
    w.s.default_provider = "openai";
    w.r.has_pii = true;
    expect(&w, EMB_RULE_PRIVACY, "local tei");
    assert_non_null(strstr(w.plan.reason, "openai"));
    assert_int_equal(w.v[OPENAI].passed_over, EMB_RULE_PRIVACY);
    w.r.model = "small";
    expect_refusal(&w, EMB_E_FORBIDDEN, "personal data");
    w.r.has_pii = false;
    w.r.context = EMB_CONTEXT_SENSITIVE;
    expect_refusal(&w, EMB_E_FORBIDDEN, "sensitive");
    w.r.model = NULL; /* no fallback either, however sick the local ones are */
    w.c[LOCAL].is_open = w.c[TEI].is_draining = true;
    expect_refusal(&w, EMB_E_UNAVAILABLE, "breaker");
}

static void test_legacy(void **state)
{
    (void)state;
    world w = fresh();
    w.s.legacy_provider = "openai";
    w.s.hybrid = false;
    expect(&w, EMB_RULE_LEGACY, "openai local tei azure");
    assert_true(w.plan.legacy);
    assert_non_null(strstr(w.plan.reason, "off"));
    w.s.hybrid = true;
    w.s.rollout_percentage = 50; /* bucket 50 is the first that is not in it */
    expect(&w, EMB_RULE_LEGACY, "openai local tei azure");
    w.s.rollout_percentage = 50.01;
    expect(&w, EMB_RULE_CONTEXT, "local openai tei azure");
    assert_false(w.plan.legacy);
    w.s.rollout_percentage = 0;
    w.r.bucket = 0;
    expect(&w, EMB_RULE_LEGACY, "openai local tei azure");
    w.r.context = EMB_CONTEXT_BATCH; /* contexts are of the hybrid path */
    expect(&w, EMB_RULE_LEGACY, "openai local tei azure");

    w.s.legacy_provider = "openai/large";
    expect(&w, EMB_RULE_LEGACY, "large local openai tei azure");
    w.s.legacy_provider = "";
    expect(&w, EMB_RULE_LEGACY, "local openai tei azure");
    w.s.legacy_provider = "openai";
    w.c[OPENAI].is_open = true;
    expect(&w, EMB_RULE_HEALTH, "local tei azure");
    assert_true(w.plan.legacy);
    w.s.fallback = false;
    expect_refusal(&w, EMB_E_UNAVAILABLE, "breaker");
    w.c[OPENAI].is_open = false;
    expect(&w, EMB_RULE_LEGACY, "openai");
    assert_int_equal(w.v[LOCAL].passed_over, EMB_RULE_LEGACY);
    w.r.has_pii = true; /* the legacy provider may not see it, and nobody else may answer */
    expect_refusal(&w, EMB_E_FORBIDDEN, "personal data");
    w.r.has_pii = false;
    w.r.model = "bge"; /* a pin that the legacy provider does not serve stands */
    expect(&w, EMB_RULE_PINNED, "tei");
    assert_true(w.plan.legacy);
    w.r.model = "";
    w.s.legacy_provider = "gone";
    expect_refusal(&w, EMB_E_UNAVAILABLE, "gone");
    w.s.fallback = true;
    expect(&w, EMB_RULE_LEGACY, "local openai tei azure");
    w.s.legacy_provider = "azure-eu"; /* weight 0 matters for fallback alone */
    expect(&w, EMB_RULE_LEGACY, "azure local openai tei");
    w.s.rollout_percentage = 100;
    w.r.bucket = (double)NAN;
    expect(&w, EMB_RULE_LEGACY, "azure local openai tei");
}

static void test_health_settings_budget(void **state)
{
    (void)state;
    world w = fresh();
    w.c[LOCAL].is_open = true;
    expect(&w, EMB_RULE_HEALTH, "openai tei azure");
    assert_non_null(strstr(w.plan.reason, "local"));
    w.c[LOCAL].is_open = false;
    w.c[LOCAL].is_draining = true;
    expect(&w, EMB_RULE_HEALTH, "openai tei azure");
    assert_non_null(strstr(w.v[LOCAL].why, "drain"));

    w = fresh();
    w.c[LOCAL].serves_settings = false;
    w.c[LOCAL].unserved = "minilm cannot be shortened to 64.";
    expect(&w, EMB_RULE_SETTINGS, "openai tei azure");
    assert_string_equal(w.v[LOCAL].why, "minilm cannot be shortened to 64.");
    w.r.preferred_provider = "local";
    expect_refusal(&w, EMB_E_INVALID, "minilm cannot be shortened to 64.");

    w = fresh();
    w.s.default_provider = "openai";
    w.c[OPENAI].available_nusd = 199;
    expect(&w, EMB_RULE_BUDGET, "local tei azure");
    assert_non_null(strstr(w.v[OPENAI].why, "$0.000000"));
    w.c[OPENAI].available_nusd = 200;
    expect(&w, EMB_RULE_CONTEXT, "openai local tei azure");
    w.c[OPENAI].near_limit = w.c[AZURE].near_limit = true;
    expect(&w, EMB_RULE_BUDGET, "local tei");
    w.r.context = EMB_CONTEXT_ANALYSIS;
    expect(&w, EMB_RULE_CONTEXT, "openai tei local azure");
    w.c[OPENAI].is_unpriced = true;
    expect(&w, EMB_RULE_BUDGET, "tei local azure");
    w.c[OPENAI].is_unpriced = false;
    w.c[OPENAI].estimate_nusd = 0; /* free: no reservation */
    w.c[OPENAI].available_nusd = 0;
    w.r.context = EMB_CONTEXT_DEFAULT;
    expect(&w, EMB_RULE_CONTEXT, "openai local tei");
    w.c[OPENAI].estimate_nusd = 1;
    w.r.model = "small";
    expect_refusal(&w, EMB_E_BUDGET, "budget");
}

static void test_fallback_off(void **state)
{
    (void)state;
    world w = fresh();
    w.s.fallback = false;
    expect(&w, EMB_RULE_CONTEXT, "local");
    assert_int_equal(w.v[OPENAI].passed_over, EMB_RULE_CONTEXT);
    w.c[LOCAL].is_open = true;
    expect(&w, EMB_RULE_HEALTH, "openai");
    w.c[OPENAI].is_open = w.c[TEI].is_open = true;
    expect_refusal(&w, EMB_E_UNAVAILABLE, "fallback");
    w.r.preferred_provider = "azure-eu";
    expect(&w, EMB_RULE_PINNED, "azure");
    emb_route_plan none = {0};
    emb_route_make(&w.r, &w.s, w.c, 0, &none);
    assert_int_equal(none.refusal, EMB_E_UNAVAILABLE);
}

static void test_weights(void **state)
{
    (void)state;
    enum { DRAWS = 20000 };
    world w = fresh();
    size_t first[COUNT] = {0};
    w.c[LOCAL].position = w.c[OPENAI].position = 0;
    w.c[OPENAI].weight = 3;
    for (uint64_t i = 0; i < DRAWS; i++) {
        w.r.random = i * UINT64_C(0x9E3779B97F4A7C15) ^ (i << 7);
        make(&w);
        first[w.plan.order[0]]++;
        assert_int_equal(w.plan.order[2], TEI);
    }
    double share = (double)first[OPENAI] / DRAWS; /* 0.75, standard deviation 0.003 */
    assert_int_equal(first[LOCAL] + first[OPENAI], DRAWS);
    assert_true(share > 0.735 && share < 0.765);
}

static void test_many(void **state)
{
    (void)state;
    enum { MANY = EMB_ROUTE_MAX + 3 };
    static emb_route_verdict v[MANY];
    static emb_route_candidate c[MANY];
    world w = fresh();
    char longer[300];
    memset(longer, 'x', sizeof longer);
    memcpy(longer + 40, "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 8);
    longer[299] = 0;
    for (size_t i = 0; i < MANY; i++) {
        c[i] = WORLD[OPENAI];
        c[i].provider = c[i].kind = c[i].model = c[i].unserved = longer;
        c[i].serves_settings = i % 2;
    }
    w.plan.verdicts = v;
    emb_route_make(&w.r, &w.s, c, MANY, &w.plan);
    assert_int_equal(w.plan.count, EMB_ROUTE_MAX / 2);
    for (size_t i = 0; i < MANY; i++) {
        size_t n = strnlen(v[i].why, sizeof v[i].why);
        assert_true(n > 0 && n < sizeof v[i].why);
        assert_int_equal(emb_utf8_valid_prefix(v[i].why, n), n);
    }
    w.r.model = "none";
    w.r.preferred_provider = longer;
    emb_route_make(&w.r, &w.s, c, MANY, &w.plan);
    assert_int_equal(w.plan.refusal, EMB_E_NOT_FOUND);
    assert_int_equal(emb_utf8_valid_prefix(w.plan.reason, strlen(w.plan.reason)), strlen(w.plan.reason));
}

static void test_names(void **state)
{
    (void)state;
    emb_context c;
    for (int i = EMB_CONTEXT_DEFAULT; i <= EMB_CONTEXT_SENSITIVE; i++) {
        assert_true(emb_context_parse(emb_context_name((emb_context)i), &c));
        assert_int_equal(c, i);
    }
    assert_false(emb_context_parse("Realtime", &c));
    assert_false(emb_context_parse("", &c));
    assert_false(emb_context_parse(NULL, &c));
    for (int i = EMB_RULE_NONE; i <= EMB_RULE_CONTEXT; i++)
        assert_string_not_equal(emb_route_rule_name((emb_route_rule)i), "unknown");
    assert_string_equal(emb_route_rule_name((emb_route_rule)99), "unknown");
}

/* ---- the product ---- */

static const struct pin {
    const char *model, *space, *provider;
    unsigned mask;
} PINS[] = {
    {NULL, NULL, NULL, BIT(LOCAL) | BIT(OPENAI) | BIT(AZURE) | BIT(TEI)},
    {"", "", "auto", BIT(LOCAL) | BIT(OPENAI) | BIT(AZURE) | BIT(TEI)},
    {"small", NULL, NULL, BIT(OPENAI) | BIT(AZURE)},
    {"large", NULL, "auto", BIT(LARGE)},
    {NULL, NULL, "openai", BIT(OPENAI)},
    {NULL, NULL, "azure", BIT(AZURE)},
    {NULL, NULL, "local", BIT(LOCAL)},
    {NULL, NULL, "tei", BIT(TEI)},
    {"large", NULL, "openai", BIT(LARGE)},
    {"large", NULL, "local", 0},
    {NULL, "openai/small", NULL, BIT(OPENAI) | BIT(AZURE)},
    {NULL, "openai/small", "azure-eu", BIT(AZURE)},
    {"minilm", "openai/small", NULL, 0},
    {"nothing", NULL, NULL, 0},
};
static const struct legacy {
    const char *name;
    unsigned provider,
        extra; /* its candidates for any pin; what its name adds where there is no pin of a model */
} LEGACIES[] = {{"", BIT(LOCAL), 0},
                {"openai", BIT(OPENAI) | BIT(LARGE), 0},
                {"openai/large", BIT(LARGE), BIT(LARGE)},
                {"azure-eu", BIT(AZURE), 0},
                {"gone", 0, 0}};
enum { PIN_COUNT = sizeof PINS / sizeof *PINS, LEGACY_COUNT = sizeof LEGACIES / sizeof *LEGACIES };

typedef struct expectation {
    unsigned members; /* of which the order is made; without fallback one of them */
    unsigned legacy;  /* those that come first */
    emb_status refusal;
    bool off_path;
} expectation;

/* What varies, as digits. */
typedef struct digits {
    unsigned context, health, budget, pii, pin, legacy, hybrid, share, routing, fallback, settings;
} digits;

static expectation reference(const digits *d)
{
    const unsigned local = BIT(LOCAL) | BIT(TEI);
    const struct pin *pin = &PINS[d->pin];
    const struct legacy *legacy = &LEGACIES[d->legacy];
    bool pinned = (pin->model && *pin->model) || (pin->space && *pin->space) ||
                  (pin->provider && strcmp(pin->provider, "auto") != 0);
    bool names_model = (pin->model && *pin->model) || (pin->space && *pin->space);
    expectation e = {.off_path = !d->hybrid || d->share == 0};
    unsigned set = pin->mask;
    if (e.off_path && !names_model && (!pinned || (pin->provider && strcmp(pin->provider, "openai") == 0)))
        set |= legacy->extra;
    unsigned mine = legacy->provider & set;
    bool alone = e.off_path && !d->fallback && (!pinned || mine);
    unsigned masks[6] = {
        set,
        d->pii || d->context == EMB_CONTEXT_SENSITIVE ? local : ALL,
        d->settings ? ALL & ~BIT(LOCAL) : ALL,
        ALL & ~((d->health & 1 ? BIT(LOCAL) : 0) | (d->health & 2 ? BIT(OPENAI) | BIT(LARGE) : 0) |
                (d->health & 4 ? BIT(TEI) : 0)),
        d->budget == 1                                         ? local
        : d->budget == 2 && d->context != EMB_CONTEXT_ANALYSIS ? local
        : d->budget == 3                                       ? local | BIT(AZURE)
                                                               : ALL,
        d->fallback || pinned ? ALL : ALL & ~(e.off_path ? BIT(AZURE) & ~legacy->provider : BIT(AZURE)),
    };
    static const emb_status refusals[6] = {EMB_E_NOT_FOUND,   EMB_E_FORBIDDEN, EMB_E_INVALID,
                                           EMB_E_UNAVAILABLE, EMB_E_BUDGET,    EMB_E_UNAVAILABLE};
    e.members = ALL;
    for (int i = 0; i < 6; i++) {
        e.members &= masks[i];
        if (i == 0 && alone && e.members) {
            e.members &= mine;
            if (!e.members) {
                /* none of this name: the rule of the legacy path refuses, unless privacy had taken all there
                 * were */
                e.refusal = masks[1] & set ? EMB_E_UNAVAILABLE : EMB_E_FORBIDDEN;
                return e;
            }
        }
        if (!e.members) {
            e.refusal = refusals[i];
            return e;
        }
    }
    e.legacy = e.off_path ? mine & e.members : 0;
    return e;
}

static void set_up(world *w, const digits *d)
{
    *w = fresh();
    w->r.context = (emb_context)d->context;
    w->r.has_pii = d->pii;
    w->r.model = PINS[d->pin].model;
    w->r.space = PINS[d->pin].space;
    w->r.preferred_provider = PINS[d->pin].provider;
    w->r.random = d->health * 7919u + d->pin;
    w->s.legacy_provider = LEGACIES[d->legacy].name;
    w->s.hybrid = d->hybrid;
    w->s.rollout_percentage = d->share ? 75 : 25;
    w->s.routing = d->routing;
    w->s.fallback = d->fallback;
    w->c[LOCAL].is_open = d->health & 1;
    w->c[OPENAI].is_open = w->c[LARGE].is_draining = d->health & 2;
    w->c[TEI].is_draining = d->health & 4;
    w->c[LOCAL].serves_settings = !d->settings;
    for (int i = 0; i < COUNT; i++) {
        if (!w->c[i].is_api)
            continue;
        if (d->budget == 1)
            w->c[i].available_nusd = 100;
        w->c[i].near_limit = d->budget == 2;
        w->c[i].is_unpriced = d->budget == 3 && i != AZURE;
    }
}

static void check_texts(const world *w)
{
    assert_true(strlen(w->plan.reason) > 0 && strlen(w->plan.reason) < sizeof w->plan.reason);
    for (int i = 0; i < COUNT; i++)
        assert_true(strnlen(w->v[i].why, sizeof w->v[i].why) > 0 &&
                    strnlen(w->v[i].why, sizeof w->v[i].why) < 120);
}

static bool check(const world *w, const expectation *e, bool fallback)
{
    unsigned seen = 0, first_mask = w->plan.count ? BIT(w->plan.order[0]) : 0;
    for (size_t k = 0; k < w->plan.count; k++) {
        unsigned bit = BIT(w->plan.order[k]);
        if ((seen & bit) || w->v[w->plan.order[k]].passed_over != EMB_RULE_NONE)
            return false;
        if ((bit & ~e->legacy) == 0 && (seen & ~e->legacy)) /* the legacy provider's come first */
            return false;
        seen |= bit;
    }
    for (int i = 0; i < COUNT; i++)
        if ((w->v[i].passed_over == EMB_RULE_NONE) != ((seen & BIT(i)) != 0))
            return false;
    if (w->plan.legacy != e->off_path || (w->plan.count == 0) != (w->plan.refusal != EMB_OK))
        return false;
    if (!e->members || e->refusal)
        return w->plan.count == 0 && w->plan.refusal == e->refusal;
    if (e->legacy && !(first_mask & e->legacy))
        return false;
    return fallback ? seen == e->members : w->plan.count == 1 && !(seen & ~e->members);
}

static size_t run_product(void)
{
    static const unsigned radix[] = {5, 8, 4, 2, PIN_COUNT, LEGACY_COUNT, 2, 2, 2, 2, 2};
    size_t total = 1, places = sizeof radix / sizeof *radix;
    for (size_t i = 0; i < places; i++)
        total *= radix[i];
    for (size_t n = 0; n < total; n++) {
        unsigned digit[sizeof radix / sizeof *radix];
        size_t rest = n;
        for (size_t i = 0; i < places; i++, rest /= radix[i - 1])
            digit[i] = (unsigned)(rest % radix[i]);
        digits d;
        memcpy(&d, digit, sizeof d);
        world w, again;
        set_up(&w, &d);
        make(&w);
        expectation e = reference(&d);
        if (!check(&w, &e, d.fallback))
            fail_msg("case %zu: context %u health %u budget %u pii %u pin %u legacy %u hybrid %u share %u "
                     "routing %u fallback "
                     "%u settings %u: %zu in the order, refusal %d, \"%s\"; expected members %#x, refusal %d",
                     n, d.context, d.health, d.budget, d.pii, d.pin, d.legacy, d.hybrid, d.share, d.routing,
                     d.fallback, d.settings, w.plan.count, w.plan.refusal, w.plan.reason, e.members,
                     e.refusal);
        check_texts(&w);
        if (n % 61 == 0) { /* the same, and without an explanation, too */
            again = w;
            make(&again);
            assert_memory_equal(&again.plan.order, &w.plan.order, sizeof w.plan.order);
            assert_string_equal(again.plan.reason, w.plan.reason);
            assert_memory_equal(again.v, w.v, sizeof w.v);
            again.plan.verdicts = NULL;
            emb_route_make(&again.r, &again.s, again.c, COUNT, &again.plan);
            assert_memory_equal(again.plan.order, w.plan.order, w.plan.count * sizeof *w.plan.order);
        }
    }
    return total;
}

static void test_product(void **state)
{
    (void)state;
    assert_true(run_product() > 500000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contexts),     cmocka_unit_test(test_realtime),
        cmocka_unit_test(test_pins),         cmocka_unit_test(test_privacy),
        cmocka_unit_test(test_legacy),       cmocka_unit_test(test_health_settings_budget),
        cmocka_unit_test(test_fallback_off), cmocka_unit_test(test_weights),
        cmocka_unit_test(test_many),         cmocka_unit_test(test_names),
        cmocka_unit_test(test_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
