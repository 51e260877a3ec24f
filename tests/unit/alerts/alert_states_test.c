/*
 * alert_states_test.c: every rule fires and is resolved at its thresholds; every state follows the one before
 * and nothing flaps; severities change in place; what lacks observations says nothing; lists are in order;
 * memory may be short.
 */
#include "alerts_fixture.h"

#include "support/fail_alloc.h"
#include <math.h>

static int setup(void **state)
{
    (void)state;
    forget_sent();
    clock_s = 1000000;
    return 0;
}

/* ---- states ---- */

static void pending_then_firing_then_resolved(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(&HOOK, 1, NULL, 60);
    evaluate(a, quiet());
    assert_int_equal(only_alert(a).state, EMB_ALERT_INACTIVE);
    evaluate(a, slow(600));
    assert_int_equal(only_alert(a).state, EMB_ALERT_PENDING);
    assert_int_equal(only_alert(a).since_s, 1000000);
    clock_s += 59;
    evaluate(a, slow(700));
    assert_int_equal(only_alert(a).state, EMB_ALERT_PENDING);
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), 0);
    clock_s += 1;
    evaluate(a, slow(812));
    emb_alert alert = only_alert(a);
    assert_int_equal(alert.state, EMB_ALERT_FIRING);
    assert_int_equal(alert.severity, EMB_SEVERITY_WARNING);
    assert_string_equal(alert.name, "p95_latency");
    assert_string_equal(alert.summary, "P95 latency is 812 ms, over 500 ms");
    assert_string_equal(alert.instance, "127.0.0.1:8000");
    assert_true(alert.value == 812 && alert.threshold == 500);
    assert_int_equal(alert.since_s, 1000000);
    assert_int_equal(alert.fired_s, 1000060);
    clock_s += 10;
    evaluate(a, quiet());
    assert_int_equal(only_alert(a).state, EMB_ALERT_FIRING);
    assert_string_equal(only_alert(a).summary, "P95 latency is 812 ms, over 500 ms"); /* not what it is now */
    clock_s += 59;
    evaluate(a, quiet());
    assert_int_equal(only_alert(a).state, EMB_ALERT_FIRING);
    clock_s += 1;
    evaluate(a, quiet());
    alert = only_alert(a);
    assert_int_equal(alert.state, EMB_ALERT_RESOLVED);
    assert_int_equal(alert.resolved_s, 1000130);
    step_all(a, 1);
    assert_int_equal(world.count, 2);
    took(0, "hook", "\"status\":\"firing\"");
    took(0, "hook", "\"since\":\"1970-01-12T13:46:40Z\"");
    took(0, "hook", "\"severity\":\"warning\",\"value\":812,\"threshold\":500");
    took(0, "hook", "\"instance\":\"127.0.0.1:8000\"");
    took(1, "hook", "\"status\":\"resolved\"");
    took(1, "hook", "\"time\":\"1970-01-12T13:48:50Z\"");
    clock_s += 86400; /* a day later nobody asks any more */
    assert_int_equal(only_alert(a).state, EMB_ALERT_INACTIVE);
    emb_alerts_close(a);
}

static void what_swings_changes_nothing(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(&HOOK, 1, NULL, 60);
    for (int i = 0; i < 50; i++, clock_s += 30) /* never long enough to fire */
        evaluate(a, slow(i % 2 ? 600 : 400));
    step_all(a, 1);
    assert_int_equal(world.count, 0);
    evaluate(a, slow(600));
    clock_s += 60;
    evaluate(a, slow(600));
    for (int i = 0; i < 50; i++, clock_s += 30) /* never long enough to be resolved */
        evaluate(a, slow(i % 2 ? 600 : 400));
    step_all(a, 1);
    assert_int_equal(world.count, 1);
    assert_int_equal(only_alert(a).state, EMB_ALERT_FIRING);
    emb_alerts_close(a);
}

static void a_pending_one_goes_without_a_word(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(&HOOK, 1, NULL, 60);
    evaluate(a, slow(600));
    clock_s += 59;
    evaluate(a, quiet());
    assert_int_equal(only_alert(a).state, EMB_ALERT_INACTIVE);
    clock_s += 5;
    evaluate(a, slow(600)); /* its time begins anew */
    clock_s += 59;
    evaluate(a, slow(600));
    assert_int_equal(only_alert(a).state, EMB_ALERT_PENDING);
    step_all(a, 1);
    assert_int_equal(world.count, 0);
    emb_alerts_close(a);
}

static void severities_change_in_place(void **state)
{
    (void)state;
    const emb_sink_config sinks[] = {HOOK, LOUD, AM};
    const char *name;
    emb_alerts *a = open_alerts(sinks, 3, NULL, 60);
    evaluate(a, slow(600));
    clock_s += 60;
    evaluate(a, slow(600));  /* warning */
    evaluate(a, slow(1500)); /* worse, not for long */
    assert_int_equal(only_alert(a).severity, EMB_SEVERITY_WARNING);
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_ERROR, &name), 0);
    assert_null(name);
    clock_s += 60;
    evaluate(a, slow(1500));
    assert_int_equal(only_alert(a).severity, EMB_SEVERITY_ERROR);
    assert_int_equal(only_alert(a).fired_s, 1000060); /* the same alert */
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_ERROR, &name), 1);
    assert_string_equal(name, "p95_latency");
    evaluate(a, slow(700));
    assert_string_equal(only_alert(a).summary, "P95 latency is 700 ms, over 500 ms");
    clock_s += 60;
    evaluate(a, slow(700));
    assert_int_equal(only_alert(a).severity, EMB_SEVERITY_WARNING);
    evaluate(a, quiet());
    clock_s += 60;
    evaluate(a, quiet());
    assert_int_equal(only_alert(a).state, EMB_ALERT_RESOLVED);
    emb_alert_sink_step(&a->sinks[0], 1);
    assert_int_equal(world.count, 4);
    took(0, "hook", "\"severity\":\"warning\"");
    took(1, "hook", "\"severity\":\"error\"");
    took(1, "hook", "\"status\":\"firing\"");
    took(2, "hook", "\"severity\":\"warning\"");
    took(3, "hook", "\"status\":\"resolved\"");
    emb_alert_sink_step(&a->sinks[1], 1); /* hears of errors alone: one began, one ended */
    assert_int_equal(world.count, 6);
    took(4, "loud", "\"status\":\"firing\"");
    took(5, "loud", "\"status\":\"resolved\"");
    took(5, "loud", "\"severity\":\"error\"");
    emb_alert_sink_step(&a->sinks[2], 1);
    assert_int_equal(world.count, 10);
    took(6, "am",
         "[{\"labels\":{\"alertname\":\"p95_latency\",\"severity\":\"warning\",\"instance\":\"127.0.0.1:"
         "8000\"}");
    assert_null(strstr(world.taken[6].body, "endsAt"));
    took(7, "am", "\"severity\":\"warning\"");
    took(7, "am",
         "\"endsAt\":\"1970-01-12T13:48:40Z\"},{\"labels\":{\"alertname\":\"p95_latency\",\"severity\":"
         "\"error\"");
    took(9, "am", "\"endsAt\":");
    emb_alerts_close(a);
}

static void at_once_where_nothing_has_to_hold(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(NULL, 0, NULL, 0);
    evaluate(a, slow(2000));
    assert_int_equal(only_alert(a).state, EMB_ALERT_FIRING);
    assert_int_equal(only_alert(a).severity, EMB_SEVERITY_ERROR);
    evaluate(a, quiet());
    assert_int_equal(only_alert(a).state, EMB_ALERT_RESOLVED);
    emb_alert_thresholds t = THRESHOLDS;
    t.p95_warning_ms = 10;
    t.for_s = 0;
    emb_alerts_set_thresholds(a, &t);
    clock_s++;
    evaluate(a, quiet()); /* 20 ms */
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), 1);
    emb_alerts_close(a);
}

static void the_clock_is_set_back(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(NULL, 0, NULL, 60);
    evaluate(a, slow(600));
    clock_s -= 5000;
    evaluate(a, slow(600));
    clock_s += 59;
    evaluate(a, slow(600));
    assert_int_equal(only_alert(a).state, EMB_ALERT_PENDING);
    clock_s += 1;
    evaluate(a, slow(600));
    assert_int_equal(only_alert(a).state, EMB_ALERT_FIRING);
    emb_alerts_close(a);
}

/* ---- rules ---- */

static const emb_provider_signal SICK = {"openai", false, false, "401"}, OPEN = {"azure", true, true, NULL},
                                 WELL = {"openai", true, false, NULL};

/* With for_s 0: what these signals make fire, of a fresh start. "" for nothing. */
static void fires(emb_alert_signals s, const char *name, int severity, const char *subject,
                  const char *summary)
{
    emb_alerts *a = open_alerts(NULL, 0, NULL, 0);
    evaluate(a, s);
    emb_alert alert = only_alert(a);
    assert_string_equal(alert.name, name);
    assert_string_equal(alert.subject, subject);
    if (*name) {
        assert_int_equal(alert.severity, severity);
        assert_int_equal(alert.state, EMB_ALERT_FIRING);
        assert_string_equal(alert.summary, summary);
        s = quiet();
        evaluate(a, s);
        assert_int_equal(only_alert(a).state, EMB_ALERT_RESOLVED);
    }
    emb_alerts_close(a);
}

static void every_rule(void **state)
{
    (void)state;
    enum { W = EMB_SEVERITY_WARNING, E = EMB_SEVERITY_ERROR, C = EMB_SEVERITY_CRITICAL };
    emb_alert_signals s = quiet();
    fires(s, "", 0, "", "");
    fires(slow(500), "", 0, "", "");
    fires(slow(500.4), "p95_latency", W, "", "P95 latency is 500 ms, over 500 ms");
    fires(slow(1000), "p95_latency", W, "", "P95 latency is 1000 ms, over 500 ms");
    fires(slow(1001), "p95_latency", E, "", "P95 latency is 1001 ms, over 1000 ms");
    fires(slow(NAN), "", 0, "", "");
    s = quiet(), s.hits = 70;
    fires(s, "", 0, "", "");
    s.hits = 69;
    fires(s, "cache_hit_rate", W, "", "cache hit rate is 69.0 %, under 70 %");
    s.hits = 49;
    fires(s, "cache_hit_rate", E, "", "cache hit rate is 49.0 %, under 50 %");
    s = quiet(), s.similarity = 0.9499;
    fires(s, "similarity", W, "", "mean similarity of compared vectors is 0.9499, under 0.95");
    s.similarity = 0.5;
    fires(s, "similarity", E, "", "mean similarity of compared vectors is 0.5000, under 0.9");
    s = quiet(), s.errors = 5;
    fires(s, "", 0, "", "");
    s.errors = 6;
    fires(s, "error_rate", W, "", "6.0 % of requests fail, over 5 %");
    s = quiet(), s.budget_used_nusd = 799;
    fires(s, "", 0, "", "");
    s.budget_used_nusd = 800;
    fires(s, "api_budget", W, "", "80.0 % of today's API budget are spent, 80 % are reached");
    s.budget_used_nusd = 950;
    fires(s, "api_budget", C, "", "95.0 % of today's API budget are spent, 95 % are reached");
    s = quiet(), s.month_nusd = 100000000000;
    fires(s, "", 0, "", "");
    s.month_nusd = 123450000000;
    fires(s, "monthly_cost", W, "", "this month cost 123.45 USD so far, over 100.00 USD");
    s = quiet(), s.providers = &WELL, s.provider_count = 1;
    fires(s, "", 0, "", "");
    s.providers = &SICK;
    fires(s, "provider_unhealthy", E, "openai", "openai is unhealthy: 401");
    s.providers = &OPEN;
    fires(s, "breaker_open", E, "azure", "azure is not called: its breaker is open");
    s = quiet(), s.cache_down = true;
    fires(s, "cache_down", W, "", "the cache's second level does not answer");
    s = quiet(), s.store_down = true;
    fires(s, "store_down", E, "", "the store of ledger, comparisons and alerts does not answer");
    s = quiet(), s.shared_state_down = true;
    fires(s, "shared_state_down", E, "", "the store of budget and breakers does not answer");
}

static void too_little_says_nothing(void **state)
{
    (void)state;
    emb_alert_signals s = {.requests = 19,
                           .errors = 19,
                           .p95_ms = 9999,
                           .lookups = 19,
                           .comparisons = 9,
                           .similarity = 0.1,
                           .has_similarity = true,
                           .budget_used_nusd = 5};
    fires(s, "", 0, "", "");
    s.comparisons = 1000;
    s.has_similarity = false;
    fires(s, "", 0, "", "");
    fires((emb_alert_signals){0}, "", 0, "", "");
    emb_alerts *a = open_alerts(NULL, 0, NULL, 0);
    emb_alert_thresholds t = THRESHOLDS;
    t.monthly_usd = 0; /* none */
    t.minimum_requests = 0;
    t.for_s = 0;
    emb_alerts_set_thresholds(a, &t);
    s = (emb_alert_signals){.month_nusd = 5000000000000};
    evaluate(a, s);
    assert_int_equal(only_alert(a).state, EMB_ALERT_INACTIVE);
    emb_alerts_close(a);
}

static void providers_apart(void **state)
{
    (void)state;
    char long_name[300];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    emb_provider_signal all[] = {
        SICK, {"azure", false, true, "no\nanswer \xff"}, {long_name, false, false, ""}};
    emb_alert_signals s = quiet();
    emb_alerts *a = open_alerts(&HOOK, 1, NULL, 0);
    emb_arena arena;
    emb_alert *list;
    size_t count;
    emb_error err;
    s.providers = all;
    s.provider_count = 3;
    for (int i = 0; i < 3; i++)
        evaluate(a, s);
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), 4);
    s.provider_count = 1; /* the others are configured no more */
    clock_s++;
    evaluate(a, s);
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), 1);
    emb_arena_init(&arena);
    assert_int_equal(emb_alerts_list(a, &arena, &list, &count, &err), EMB_OK);
    assert_int_equal(count, 4);
    assert_int_equal(list[0].state, EMB_ALERT_FIRING);
    assert_string_equal(list[0].subject, "openai");
    for (size_t i = 1; i < count; i++) {
        assert_int_equal(list[i].state, EMB_ALERT_RESOLVED);
        assert_null(strpbrk(list[i].summary, "\n\xff"));
    }
    emb_arena_fini(&arena);
    step_all(a, 1);
    assert_int_equal(world.count, 7);
    emb_alerts_close(a);
}

static void lists_are_in_order(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(NULL, 0, NULL, 60);
    emb_alert_signals s = slow(600);
    emb_arena arena;
    emb_alert *list;
    size_t count;
    emb_error err;
    const char *name;
    s.cache_down = true;
    evaluate(a, s);
    clock_s += 60;
    evaluate(a, s);
    s = slow(600);
    s.budget_used_nusd = 1000;
    evaluate(a, s);
    clock_s += 60; /* cache_down is resolved, api_budget fires */
    evaluate(a, s);
    s.store_down = true;
    evaluate(a, s);
    emb_arena_init(&arena);
    assert_int_equal(emb_alerts_list(a, &arena, &list, &count, &err), EMB_OK);
    assert_int_equal(count, 4);
    assert_string_equal(list[0].name, "api_budget"); /* the worst */
    assert_string_equal(list[1].name, "p95_latency");
    assert_string_equal(list[2].name, "store_down");
    assert_int_equal(list[2].state, EMB_ALERT_PENDING);
    assert_string_equal(list[3].name, "cache_down");
    assert_int_equal(list[3].state, EMB_ALERT_RESOLVED);
    emb_arena_fini(&arena);
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, &name), 2);
    assert_string_equal(name, "api_budget");
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_CRITICAL, &name), 1);
    emb_alerts_close(a);
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(emb_severity_name(EMB_SEVERITY_CRITICAL), "critical");
    assert_string_equal(emb_severity_name((emb_severity)9), "unknown");
    assert_string_equal(emb_alert_state_name(EMB_ALERT_RESOLVED), "resolved");
    assert_string_equal(emb_alert_state_name((emb_alert_state)-1), "unknown");
}

/* ---- memory ---- */

/* Whatever allocation fails, an alert fires with the next evaluation and is told exactly once. */
static void short_of_memory(void **state)
{
    (void)state;
    const emb_sink_config sinks[] = {HOOK, AM};
    if (!fail_alloc_available())
        skip();
    for (size_t n = 1;; n++) {
        emb_alerts *a = open_alerts(sinks, 2, NULL, 0);
        emb_alert_signals s = slow(600);
        s.providers = &SICK;
        s.provider_count = 1;
        fail_alloc_at(n);
        evaluate(a, s);
        bool failed = fail_alloc_stop();
        evaluate(a, s);
        assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), 2);
        forget_sent();
        emb_alert_sink_step(&a->sinks[0], 1);
        assert_int_equal(world.count, 2);
        emb_alerts_close(a);
        forget_sent();
        if (!failed)
            break;
    }
}

static void opening_short_of_memory(void **state)
{
    (void)state;
    const emb_sink_config sinks[] = {HOOK, AM};
    const emb_alerts_options o = {
        .sinks = sinks, .sink_count = 2, .thresholds = THRESHOLDS, .now_s = fake_now_s};
    if (!fail_alloc_available())
        skip();
    emb_alerts_close(open_alerts(sinks, 2, NULL, 0)); /* what libraries keep */
    for (size_t n = 1;; n++) {
        emb_alerts *a;
        emb_error err;
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status st = emb_alerts_open_with(&o, fake_send, NULL, false, &a, &err);
        bool failed = fail_alloc_stop();
        assert_int_equal(st, failed ? EMB_E_NOMEM : EMB_OK);
        emb_alerts_close(a);
        assert_int_equal(fail_alloc_live(), live);
        if (!failed)
            break;
    }
    emb_alerts_close(NULL);
}

/* More subjects than there is room for: those that fit fire, the others wait for room. */
static void more_than_there_is_room_for(void **state)
{
    (void)state;
    enum { MANY = 300 };
    static char names_of[MANY][16];
    static emb_provider_signal all[MANY];
    emb_alerts *a = open_alerts(&HOOK, 1, NULL, 0);
    emb_alert_signals s = quiet();
    for (int i = 0; i < MANY; i++) {
        snprintf(names_of[i], sizeof names_of[i], "p%d", i);
        all[i] = (emb_provider_signal){names_of[i], false, false, NULL};
    }
    s.providers = all;
    s.provider_count = MANY;
    evaluate(a, s);
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), EMB_ALERT_ROWS_MAX);
    s.providers = all + 200;
    s.provider_count = 100;
    evaluate(a, s);
    evaluate(a, s);
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), 100);
    emb_alerts_close(a);
}

/* Since when there is reason to act upon what fires. */
static void since_when_it_holds(void **state)
{
    (void)state;
    emb_alarm alarm;
    emb_alerts *a = open_alerts(NULL, 0, NULL, 60);
    int64_t start = clock_s;
    evaluate(a, slow(1500));
    assert_false(emb_alerts_alarm(a, EMB_SEVERITY_ERROR, &alarm)); /* pending */
    clock_s += 60;
    evaluate(a, slow(1500));
    assert_true(emb_alerts_alarm(a, EMB_SEVERITY_ERROR, &alarm));
    assert_string_equal(alarm.name, "p95_latency");
    assert_true(alarm.held_since_s == start && alarm.for_s == 60);
    assert_false(emb_alerts_alarm(a, EMB_SEVERITY_CRITICAL, &alarm));
    clock_s += 5;
    evaluate(a, slow(700)); /* fires on, as an error for a while, and there is no reason now */
    assert_true(emb_alerts_alarm(a, EMB_SEVERITY_ERROR, &alarm));
    assert_true(alarm.held_since_s == INT64_MAX);
    assert_true(emb_alerts_alarm(a, EMB_SEVERITY_WARNING, &alarm));
    assert_true(alarm.held_since_s == start);
    clock_s += 5;
    evaluate(a, slow(1500));
    assert_true(emb_alerts_alarm(a, EMB_SEVERITY_ERROR, &alarm));
    assert_true(alarm.held_since_s == clock_s);
    emb_alert_signals s = slow(1500);
    s.store_down = true;
    clock_s += 10;
    evaluate(a, s);
    clock_s += 60;
    evaluate(a, s); /* two fire; the one that has held the longest is told */
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_ERROR, NULL), 2);
    assert_true(emb_alerts_alarm(a, EMB_SEVERITY_ERROR, &alarm));
    assert_string_equal(alarm.name, "p95_latency");
    emb_alerts_close(a);
}

static void few_lookups_say_nothing(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(NULL, 0, NULL, 0);
    emb_alert_thresholds t = THRESHOLDS;
    t.for_s = 0;
    t.minimum_lookups = 200;
    emb_alerts_set_thresholds(a, &t);
    emb_alert_signals s = quiet();
    s.lookups = 199;
    s.hits = 0;
    evaluate(a, s);
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), 0);
    s.lookups = 200;
    evaluate(a, s);
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_ERROR, NULL), 1);
    emb_alerts_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(pending_then_firing_then_resolved, setup),
        cmocka_unit_test_setup(what_swings_changes_nothing, setup),
        cmocka_unit_test_setup(a_pending_one_goes_without_a_word, setup),
        cmocka_unit_test_setup(severities_change_in_place, setup),
        cmocka_unit_test_setup(at_once_where_nothing_has_to_hold, setup),
        cmocka_unit_test_setup(the_clock_is_set_back, setup),
        cmocka_unit_test_setup(every_rule, setup),
        cmocka_unit_test_setup(too_little_says_nothing, setup),
        cmocka_unit_test_setup(providers_apart, setup),
        cmocka_unit_test_setup(lists_are_in_order, setup),
        cmocka_unit_test_setup(names, setup),
        cmocka_unit_test_setup(short_of_memory, setup),
        cmocka_unit_test_setup(opening_short_of_memory, setup),
        cmocka_unit_test_setup(since_when_it_holds, setup),
        cmocka_unit_test_setup(few_lookups_say_nothing, setup),
        cmocka_unit_test_setup(more_than_there_is_room_for, setup),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    forget_sent();
    return failed;
}
