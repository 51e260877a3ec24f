/*
 * alert_sinks_test.c: a sink gets each notice once and in order, whatever it answers; a store keeps what
 * fires and what was not told over a restart; threads neither lose nor repeat.
 */
#include "alerts_fixture.h"

#include "base/clock.h"
#include "support/fail_alloc.h"
#include <sys/stat.h>
#include <unistd.h>

static char directory[64], url[160];

static int setup(void **state)
{
    (void)state;
    forget_sent();
    clock_s = 1000000;
    snprintf(directory, sizeof directory, "/tmp/embedd-alerts-XXXXXX");
    if (!mkdtemp(directory))
        return 1;
    snprintf(url, sizeof url, "sqlite:%s/alerts.db", directory);
    return 0;
}

static int teardown(void **state)
{
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
    (void)state;
    for (int i = 0; i < 4; i++) {
        char name[200];
        snprintf(name, sizeof name, "%s%s", url + 7, endings[i]);
        unlink(name);
    }
    return rmdir(directory);
}

/* ---- order and retries ---- */

static void a_sink_that_is_down_gets_all_in_order(void **state)
{
    (void)state;
    static const unsigned waits[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
    emb_alerts *a = open_alerts(&HOOK, 1, NULL, 0);
    uint64_t now = 1000 * SECOND;
    world.status = 0;
    evaluate(a, slow(600));
    clock_s++;
    evaluate(a, quiet());
    clock_s++;
    evaluate(a, slow(2000));
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        world.status = i % 2 ? 0 : 503;
        uint64_t due = emb_alert_sink_step(&a->sinks[0], now);
        assert_int_equal(world.attempts, i + 1); /* only the first of them */
        assert_int_equal(due, now + waits[i] * SECOND);
        assert_int_equal(emb_alert_sink_step(&a->sinks[0], due - 1), due); /* not before its time */
        assert_int_equal(world.attempts, i + 1);
        now = due;
    }
    assert_int_equal(world.count, 0);
    world.status = 200;
    assert_true(emb_alert_sink_step(&a->sinks[0], now) == UINT64_MAX);
    assert_int_equal(world.count, 3);
    took(0, "hook", "\"status\":\"firing\"");
    took(1, "hook", "\"status\":\"resolved\"");
    took(2, "hook", "\"severity\":\"error\"");
    emb_alert_sink_step(&a->sinks[0], now + 1000 * SECOND);
    assert_int_equal(world.count, 3);
    emb_alerts_close(a);
}

static void some_notices_are_given_up(void **state)
{
    (void)state;
    emb_metrics *m;
    emb_error err;
    assert_int_equal(emb_metrics_open(&m, &err), EMB_OK);
    emb_alerts *a;
    emb_alerts_options o = {
        .sinks = &HOOK, .sink_count = 1, .thresholds = THRESHOLDS, .now_s = fake_now_s, .metrics = m};
    o.thresholds.for_s = 0;
    assert_int_equal(emb_alerts_open_with(&o, fake_send, NULL, false, &a, &err), EMB_OK);
    world.status = 400; /* never */
    evaluate(a, slow(600));
    assert_true(emb_metrics_sum(m, EMB_METRIC_ALERTS, 0, "warning") == 1);
    step_all(a, 1);
    assert_int_equal(world.attempts, 1);
    assert_true(emb_metrics_sum(m, EMB_METRIC_ALERT_NOTICES, 1, "given_up") == 1);
    world.status = 500;
    clock_s++;
    evaluate(a, quiet());
    assert_true(emb_metrics_sum(m, EMB_METRIC_ALERTS, 0, "warning") == 0);
    step_all(a, 2 * SECOND);
    clock_s += 86399;
    step_all(a, 100 * SECOND);
    assert_int_equal(world.attempts, 3);
    clock_s += 1; /* a day */
    step_all(a, 300 * SECOND);
    assert_int_equal(world.attempts, 3);
    assert_true(emb_metrics_sum(m, EMB_METRIC_ALERT_NOTICES, 1, "given_up") == 2);
    world.status = 200;
    evaluate(a, slow(600));
    step_all(a, 400 * SECOND);
    assert_int_equal(world.count, 1);
    assert_true(emb_metrics_sum(m, EMB_METRIC_ALERT_NOTICES, 1, "sent") == 1);
    emb_alerts_close(a);
    emb_metrics_close(m);
}

static void a_full_queue_loses_the_oldest(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(&HOOK, 1, NULL, 0);
    for (int i = 0; i < 150; i++) { /* 300 changes */
        clock_s++;
        evaluate(a, slow(600 + i));
        evaluate(a, quiet());
    }
    assert_int_equal(a->sinks[0].count, EMB_NOTICES_MAX);
    step_all(a, 1);
    assert_int_equal(world.count, EMB_NOTICES_MAX);
    took(0, "hook", "\"value\":622,");
    took(EMB_NOTICES_MAX - 1, "hook", "\"value\":749,");
    took(EMB_NOTICES_MAX - 1, "hook", "\"status\":\"resolved\"");
    emb_alerts_close(a);
}

static void alertmanager_is_told_again(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(&AM, 1, NULL, 0);
    emb_alert_sink *am = &a->sinks[0];
    uint64_t now = 1000 * SECOND, due = emb_alert_sink_step(am, now);
    assert_int_equal(world.count, 0); /* nothing fires */
    emb_alert_signals s = slow(600);
    s.providers = &(emb_provider_signal){"openai", false, false, "timeouts"};
    s.provider_count = 1;
    evaluate(a, s);
    assert_int_equal(emb_alert_sink_step(am, now + SECOND), due);
    assert_int_equal(world.count, 2);
    emb_alert_sink_step(am, due);
    assert_int_equal(world.count, 3); /* both in one */
    took(2, "am", "\"alertname\":\"p95_latency\"");
    took(2, "am", "\"alertname\":\"provider_unhealthy\",\"severity\":\"error\",\"subject\":\"openai\"");
    world.status = 500;
    due = emb_alert_sink_step(am, due + 60 * SECOND);
    assert_int_equal(world.attempts, 4);
    evaluate(a, quiet());
    emb_alert_sink_step(am, due); /* ends are not told yet: nothing is repeated */
    assert_int_equal(world.attempts, 5);
    world.status = 200;
    emb_alert_sink_step(am, due + 100 * SECOND);
    assert_int_equal(world.count, 5);
    took(3, "am", "endsAt");
    took(4, "am", "endsAt");
    emb_alerts_close(a);
}

/* ---- the store ---- */

static void a_restart_neither_forgets_nor_repeats(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(&HOOK, 1, url, 60);
    emb_alert_signals s = slow(1500);
    evaluate(a, s);
    clock_s += 60;
    s.cache_down = true; /* pending */
    evaluate(a, s);
    step_all(a, 1);
    assert_int_equal(world.count, 1);
    emb_alerts_close(a);

    clock_s += 20;
    a = open_alerts(&HOOK, 1, url, 60);
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_ERROR, NULL), 1);
    emb_alert alert = only_alert(a); /* what was pending begins anew */
    assert_int_equal(alert.state, EMB_ALERT_FIRING);
    assert_int_equal(alert.since_s, 1000000);
    assert_int_equal(alert.fired_s, 1000060);
    assert_true(alert.value == 1500 && alert.threshold == 1000);
    evaluate(a, slow(1500));
    step_all(a, 1);
    assert_int_equal(world.count, 1);
    world.status = 0; /* nobody can be told that it is over */
    evaluate(a, quiet());
    clock_s += 60;
    evaluate(a, quiet());
    step_all(a, 1);
    emb_alerts_close(a);

    world.status = 200;
    a = open_alerts(&HOOK, 1, url, 60);
    assert_int_equal(only_alert(a).state, EMB_ALERT_RESOLVED);
    step_all(a, 1);
    assert_int_equal(world.count, 2);
    took(1, "hook", "\"status\":\"resolved\"");
    emb_alerts_close(a);
    a = open_alerts(&HOOK, 1, url, 60);
    step_all(a, 1);
    assert_int_equal(world.count, 2);
    emb_alerts_close(a);
}

static void the_store_can_be_read(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(NULL, 0, url, 0), *reader;
    emb_alert_signals s = slow(600);
    emb_arena arena;
    emb_alert *list;
    size_t count;
    emb_error err;
    evaluate(a, s);
    clock_s++;
    evaluate(a, quiet());
    clock_s++;
    s.store_down = true;
    evaluate(a, s);
    const emb_alerts_options o = {
        .url = url, .read_only = true, .now_s = fake_now_s, .sinks = &HOOK, .sink_count = 1};
    assert_int_equal(emb_alerts_open(&o, &reader, &err), EMB_OK);
    emb_alerts_evaluate(reader, &s); /* does nothing */
    emb_arena_init(&arena);
    assert_int_equal(emb_alerts_list(reader, &arena, &list, &count, &err), EMB_OK);
    assert_int_equal(count, 3);
    assert_string_equal(list[0].name, "store_down");
    assert_string_equal(list[1].name, "p95_latency");
    assert_string_equal(list[1].instance, "127.0.0.1:8000");
    assert_int_equal(list[2].state, EMB_ALERT_RESOLVED);
    assert_int_equal(emb_alerts_firing(reader, EMB_SEVERITY_ERROR, NULL), 1);
    emb_arena_fini(&arena);
    emb_alerts_close(reader);
    emb_alerts_close(a);
}

static void old_rows_go(void **state)
{
    (void)state;
    emb_alerts *a = open_alerts(NULL, 0, url, 0);
    evaluate(a, slow(600));
    evaluate(a, quiet());
    clock_s += 31 * 86400;
    evaluate(a, quiet());
    emb_alerts_close(a);
    clock_s -= 31 * 86400;
    a = open_alerts(NULL, 0, url, 0);
    assert_int_equal(only_alert(a).state, EMB_ALERT_INACTIVE);
    emb_alerts_close(a);
}

static void a_store_that_is_none(void **state)
{
    (void)state;
    emb_alerts *a = NULL;
    emb_error err;
    emb_alerts_options o = {.url = "redis://127.0.0.1:1", .now_s = fake_now_s, .thresholds = THRESHOLDS};
    assert_int_equal(emb_alerts_open(&o, &a, &err), EMB_E_INVALID);
    assert_null(a);
    o.thresholds.for_s = 0;
    o.url =
        /* does not answer: alerts work without it */
        "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1";
    assert_int_equal(emb_alerts_open(&o, &a, &err), EMB_OK);
    evaluate(a, slow(600));
    evaluate(a, slow(600));
    assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), 1);
    emb_alerts_close(a);
    o.read_only = true;
    assert_int_not_equal(emb_alerts_open(&o, &a, &err), EMB_OK);
    assert_null(strstr(err.message, "nobody"));
}

/* A store that is away for a while gets what happened meanwhile. */
static void a_store_that_comes_back(void **state)
{
    (void)state;
    char hidden[200];
    snprintf(hidden, sizeof hidden, "sqlite:%s/later/alerts.db", directory);
    emb_alerts *a = open_alerts(&HOOK, 1, hidden, 0);
    evaluate(a, slow(600));
    step_all(a, 1);
    assert_int_equal(world.count, 1);
    char folder[100];
    snprintf(folder, sizeof folder, "%s/later", directory);
    assert_int_equal(mkdir(folder, 0700), 0);
    clock_s++;
    evaluate(a, quiet());
    emb_alerts_close(a);
    a = open_alerts(&HOOK, 1, hidden, 0);
    assert_int_equal(only_alert(a).state, EMB_ALERT_RESOLVED);
    step_all(a, 1);
    assert_int_equal(world.count, 2); /* the end, which was kept; not the beginning, which was told */
    took(1, "hook", "resolved");
    emb_alerts_close(a);
    static const char *const endings[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        char name[240];
        snprintf(name, sizeof name, "%s%s", hidden + 7, endings[i]);
        unlink(name);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void with_a_store_short_of_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    for (size_t n = 1; n < 400; n++) {
        emb_alerts *a = open_alerts(&HOOK, 1, url, 0);
        clock_s += 10;
        fail_alloc_at(n);
        evaluate(a, slow(600));
        bool failed = fail_alloc_stop();
        evaluate(a, slow(600));
        assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), 1);
        evaluate(a, quiet());
        forget_sent();
        step_all(a, 1);
        assert_int_equal(world.count, 2);
        emb_alerts_close(a);
        a = open_alerts(&HOOK, 1, url, 0);
        assert_int_equal(emb_alerts_firing(a, EMB_SEVERITY_WARNING, NULL), 0);
        step_all(a, 1);
        assert_int_equal(world.count, 2);
        emb_alerts_close(a);
        if (!failed)
            return;
    }
}

/* ---- threads ---- */

static pthread_mutex_t sending = PTHREAD_MUTEX_INITIALIZER;

static emb_status locked_send(void *context, const emb_sink_request *request, int *http_status,
                              emb_error *err)
{
    pthread_mutex_lock(&sending);
    emb_status st = fake_send(context, request, http_status, err);
    pthread_mutex_unlock(&sending);
    return st;
}

typedef struct crowd {
    emb_alerts *alerts;
    atomic_bool done;
} crowd;

static void *look(void *context)
{
    crowd *c = context;
    while (!atomic_load(&c->done)) {
        emb_arena arena;
        emb_alert *list;
        size_t count;
        emb_error err;
        emb_arena_init(&arena);
        assert_int_equal(emb_alerts_list(c->alerts, &arena, &list, &count, &err), EMB_OK);
        emb_arena_fini(&arena);
        emb_alerts_firing(c->alerts, EMB_SEVERITY_WARNING, NULL);
        emb_alerts_set_thresholds(c->alerts, &c->alerts->thresholds);
    }
    return NULL;
}

/* Closing tells what waits; each sink has got everything, in order. */
static void threads(void **state)
{
    (void)state;
    enum { ROUNDS = 60 };
    const emb_sink_config sinks[] = {HOOK, LOUD};
    emb_alerts_options o = {
        .url = url, .sinks = sinks, .sink_count = 2, .thresholds = THRESHOLDS, .now_s = fake_now_s};
    emb_error err;
    o.thresholds.for_s = 0;
    crowd c = {0};
    pthread_t watching;
    assert_int_equal(emb_alerts_open_with(&o, locked_send, NULL, true, &c.alerts, &err), EMB_OK);
    assert_int_equal(pthread_create(&watching, NULL, look, &c), 0);
    for (int i = 0; i < ROUNDS; i++) {
        evaluate(c.alerts, slow(2000 + i));
        evaluate(c.alerts, quiet());
    }
    atomic_store(&c.done, true);
    pthread_join(watching, NULL);
    emb_alerts_close(c.alerts);
    int next[2] = {0, 0};
    assert_int_equal(world.count, 4 * ROUNDS);
    for (size_t i = 0; i < world.count; i++) {
        int which = strcmp(world.taken[i].sink, "loud") == 0, n = next[which]++;
        char value[40];
        snprintf(value, sizeof value, "\"value\":%d,", 2000 + n / 2);
        took(i, which ? "loud" : "hook", value);
        took(i, which ? "loud" : "hook", n % 2 ? "resolved" : "firing");
    }
}

static emb_status hanging_send(void *context, const emb_sink_request *request, int *http_status,
                               emb_error *err)
{
    atomic_fetch_add((atomic_int *)context, 1);
    *http_status = 0;
    while (emb_now_ns() < atomic_load(request->stop_at_ns))
        usleep(1000);
    return emb_fail(err, EMB_E_DEADLINE, request->sink->name, "no time");
}

static void closing_does_not_wait_for_a_sink_that_hangs(void **state)
{
    (void)state;
    emb_alerts_options o = {
        .url = url, .sinks = &HOOK, .sink_count = 1, .thresholds = THRESHOLDS, .now_s = fake_now_s};
    emb_error err;
    emb_alerts *a;
    atomic_int calls = 0;
    o.thresholds.for_s = 0;
    assert_int_equal(emb_alerts_open_with(&o, hanging_send, &calls, true, &a, &err), EMB_OK);
    evaluate(a, slow(600));
    evaluate(a, quiet());
    while (!atomic_load(&calls))
        usleep(1000);
    uint64_t before = emb_now_ns();
    emb_alerts_close(a);
    assert_true(emb_now_ns() - before < 5 * SECOND); /* one, and what a busy machine takes */
    assert_int_equal(emb_alerts_open_with(&o, fake_send, NULL, false, &a, &err), EMB_OK);
    step_all(a, 1); /* both are still to be told */
    assert_int_equal(world.count, 2);
    took(0, "hook", "firing");
    took(1, "hook", "resolved");
    emb_alerts_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_sink_that_is_down_gets_all_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(some_notices_are_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_loses_the_oldest, setup, teardown),
        cmocka_unit_test_setup_teardown(alertmanager_is_told_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restart_neither_forgets_nor_repeats, setup, teardown),
        cmocka_unit_test_setup_teardown(the_store_can_be_read, setup, teardown),
        cmocka_unit_test_setup_teardown(old_rows_go, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_that_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_that_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(with_a_store_short_of_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(threads, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_does_not_wait_for_a_sink_that_hangs, setup, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    forget_sent();
    return failed;
}
