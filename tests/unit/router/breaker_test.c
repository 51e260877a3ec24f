/* Breakers by a clock of the test's: every state and edge, a simple model beside them over millions of
 * events, threads. */
#include "unit/router/breaker_conformance.h"

#include <pthread.h>
#include <unistd.h>

static const emb_breaker_rules RULES = {.failure_threshold = 3,
                                        .failure_rate = 0.5,
                                        .minimum_calls = 10,
                                        .window_s = 10,
                                        .recovery_timeout_s = 30,
                                        .recovery_longest_s = 100,
                                        .slow_ms = 500};

typedef struct told {
    int count;
    emb_breaker_state last;
    char reason[120];
} told;

static void on_change(void *context, const char *name, emb_breaker_state state, const char *reason)
{
    told *t = context;
    assert_string_equal(name, "openai");
    t->count++;
    t->last = state;
    snprintf(t->reason, sizeof t->reason, "%s", reason);
}

static told news;

static emb_breakers *open_memory(emb_metrics *m)
{
    emb_breakers *all;
    news = (told){0};
    emb_breakers_options o = {.changed = on_change, .context = &news, .metrics = m, .probe_s = 20};
    assert_int_equal(emb_breakers_open("memory:", &o, &all, &breaker_err), EMB_OK);
    return all;
}

static emb_breaker *get(emb_breakers *all, const emb_breaker_rules *rules)
{
    emb_breaker *b;
    assert_int_equal(emb_breaker_get(all, "openai", rules, &b, &breaker_err), EMB_OK);
    return b;
}

static void call(emb_breaker *b, emb_breaker_outcome outcome, uint64_t duration_ns, uint64_t now)
{
    emb_breaker_permit p;
    assert_true(emb_breaker_allow(b, now, &p));
    emb_breaker_report(b, p, outcome, duration_ns, "503", now);
}

static emb_breaker_view view(emb_breaker *b, uint64_t now)
{
    emb_breaker_view v;
    emb_breaker_view_get(b, now, &v);
    return v;
}

static void failures_in_a_row_open(void **state)
{
    (void)state;
    emb_breakers *all = open_memory(NULL);
    emb_breaker *b = get(all, &RULES);
    emb_breaker_permit p;
    uint64_t now = 1000 * S;
    call(b, EMB_BREAKER_FAILURE, 0, now);
    call(b, EMB_BREAKER_FAILURE, 0, now);
    call(b, EMB_BREAKER_SUCCESS, 0, now); /* breaks the row */
    call(b, EMB_BREAKER_FAILURE, 0, now);
    call(b, EMB_BREAKER_IGNORED, 0, now); /* does not */
    call(b, EMB_BREAKER_FAILURE, 0, now + 11 * S);
    call(b, EMB_BREAKER_FAILURE, 0, now + 12 * S); /* three, but too far apart */
    assert_int_equal(view(b, now).state, EMB_BREAKER_CLOSED);
    assert_int_equal(view(b, now).failures, 3);
    call(b, EMB_BREAKER_FAILURE, 0, now + 13 * S);
    emb_breaker_view v = view(b, now + 13 * S);
    assert_int_equal(v.state, EMB_BREAKER_OPEN);
    assert_int_equal(v.opened_ns, now + 13 * S);
    assert_int_equal(v.retry_ns, now + 43 * S);
    assert_string_equal(v.reason, "4 failures in a row, the last: 503");
    assert_int_equal(news.count, 1);
    assert_int_equal(news.last, EMB_BREAKER_OPEN);
    assert_string_equal(news.reason, v.reason);
    assert_false(emb_breaker_allow(b, now + 43 * S - 1, &p));
    assert_false(emb_breaker_is_available(b, now + 43 * S - 1));
    assert_true(emb_breaker_is_available(b, now + 43 * S));
    assert_string_equal(emb_breaker_state_name(v.state), "open");
    emb_breakers_close(all);
}

static void a_share_of_failures_opens(void **state)
{
    (void)state;
    emb_breakers *all = open_memory(NULL);
    emb_breaker *b = get(all, &RULES);
    uint64_t now = 1000 * S;
    for (int i = 0; i < 4; i++) { /* by turns: never two in a row */
        call(b, EMB_BREAKER_FAILURE, 0, now);
        call(b, EMB_BREAKER_SUCCESS, 0, now);
    }
    call(b, EMB_BREAKER_SUCCESS, 501000000, now); /* slow: the ninth, a failure */
    assert_int_equal(view(b, now).state, EMB_BREAKER_CLOSED);
    call(b, EMB_BREAKER_FAILURE, 0, now);
    assert_int_equal(view(b, now).state, EMB_BREAKER_OPEN);
    assert_string_equal(view(b, now).reason, "6 of 10 calls failed, the last: 503");
    emb_breaker_reset(b, now);
    assert_int_equal(view(b, now).state, EMB_BREAKER_CLOSED);
    assert_int_equal(view(b, now).failures, 0);
    for (int i = 0; i < 9; i++)
        call(b, i % 2 ? EMB_BREAKER_SUCCESS : EMB_BREAKER_FAILURE, 0, now + S);
    call(b, EMB_BREAKER_FAILURE, 0, now + 12 * S); /* the window has passed */
    assert_int_equal(view(b, now).state, EMB_BREAKER_CLOSED);
    emb_breakers_close(all);
}

static void waits_grow_and_end(void **state)
{
    (void)state;
    static const uint64_t WAITS[] = {30, 60, 100, 100};
    emb_breakers *all = open_memory(NULL);
    emb_breaker *b = get(all, &RULES);
    uint64_t now = 1000 * S;
    emb_breaker_permit p, q;
    for (int i = 0; i < 3; i++)
        call(b, EMB_BREAKER_FAILURE, 0, now);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(view(b, now).retry_ns, now + WAITS[i] * S);
        assert_int_equal(view(b, now).openings, i + 1);
        now += WAITS[i] * S;
        assert_true(emb_breaker_allow(b, now, &p));
        assert_true(p.probe);
        assert_int_equal(view(b, now).state, EMB_BREAKER_HALF_OPEN);
        assert_false(emb_breaker_allow(b, now, &q)); /* one at a time */
        assert_false(emb_breaker_is_available(b, now));
        emb_breaker_report(b, p, EMB_BREAKER_FAILURE, 0, "502", now);
        assert_int_equal(view(b, now).state, EMB_BREAKER_OPEN);
        assert_string_equal(view(b, now).reason, "the probe failed: 502");
    }
    now += 100 * S;
    assert_true(emb_breaker_allow(b, now, &p));
    emb_breaker_report(b, p, EMB_BREAKER_SUCCESS, 600000000, NULL, now); /* slow is no success */
    now += 100 * S;
    assert_true(emb_breaker_allow(b, now, &p));
    emb_breaker_report(b, p, EMB_BREAKER_SUCCESS, 0, NULL, now);
    assert_int_equal(view(b, now).state, EMB_BREAKER_CLOSED);
    assert_int_equal(view(b, now).openings, 0);
    assert_string_equal(view(b, now).reason, "");
    emb_breaker_report(b, p, EMB_BREAKER_FATAL, 0, "late", now); /* a second outcome */
    assert_int_equal(view(b, now).state, EMB_BREAKER_CLOSED);
    for (int i = 0; i < 3; i++)
        call(b, EMB_BREAKER_FAILURE, 0, now);
    assert_int_equal(view(b, now).retry_ns, now + 30 * S); /* from the beginning */
    emb_breakers_close(all);
}

static void fatal_opens_at_once_for_long(void **state)
{
    (void)state;
    emb_breakers *all = open_memory(NULL);
    emb_breaker *b = get(all, &RULES);
    uint64_t now = 1000 * S;
    emb_breaker_permit early;
    assert_true(emb_breaker_allow(b, now, &early));
    call(b, EMB_BREAKER_FATAL, 0, now);
    assert_int_equal(view(b, now).state, EMB_BREAKER_OPEN);
    assert_int_equal(view(b, now).retry_ns, now + 100 * S);
    emb_breaker_report(b, early, EMB_BREAKER_SUCCESS, 0, NULL,
                       now); /* of a call that began before: counts nothing */
    assert_int_equal(view(b, now).state, EMB_BREAKER_OPEN);
    emb_breakers_close(all);
}

static void probes_are_given_back_or_run_out(void **state)
{
    (void)state;
    emb_breakers *all = open_memory(NULL);
    emb_breaker *b = get(all, &RULES);
    uint64_t now = 1000 * S;
    emb_breaker_permit p, q;
    call(b, EMB_BREAKER_FATAL, 0, now);
    now += 100 * S;
    assert_true(emb_breaker_allow(b, now, &p));
    emb_breaker_report(b, p, EMB_BREAKER_IGNORED, 0, NULL, now);
    assert_true(emb_breaker_is_available(b, now));
    assert_true(emb_breaker_allow(b, now, &q));
    emb_breaker_report(b, p, EMB_BREAKER_SUCCESS, 0, NULL, now); /* that one was given back */
    assert_int_equal(view(b, now).state, EMB_BREAKER_HALF_OPEN);
    assert_false(emb_breaker_allow(b, now + 20 * S - 1, &p));
    assert_true(emb_breaker_allow(b, now + 20 * S, &p)); /* q's process forgot it */
    emb_breaker_report(b, q, EMB_BREAKER_FAILURE, 0, NULL, now + 20 * S);
    assert_int_equal(view(b, now).state, EMB_BREAKER_HALF_OPEN);
    emb_breaker_report(b, p, EMB_BREAKER_SUCCESS, 0, NULL, now + 20 * S);
    assert_int_equal(view(b, now).state, EMB_BREAKER_CLOSED);
    assert_int_equal(news.count, 3); /* open, half-open, closed */
    emb_breakers_close(all);
}

static void names_rules_and_gauges(void **state)
{
    (void)state;
    emb_metrics *m;
    char name[129];
    emb_breaker *b, *c;
    assert_int_equal(emb_metrics_open(&m, &breaker_err), EMB_OK);
    emb_breakers *all = open_memory(m);
    memset(name, 'x', sizeof name);
    name[128] = '\0';
    assert_int_equal(emb_breaker_get(all, name, &RULES, &b, &breaker_err), EMB_E_INVALID);
    assert_int_equal(emb_breaker_get(all, "", &RULES, &b, &breaker_err), EMB_E_INVALID);
    b = get(all, &RULES);
    emb_breaker_rules other = RULES;
    other.failure_threshold = 1;
    c = get(all, &other); /* the same, with new rules */
    assert_ptr_equal(b, c);
    call(b, EMB_BREAKER_FAILURE, 0, S);
    assert_int_equal(view(b, S).state, EMB_BREAKER_OPEN);
    assert_true(emb_metrics_sum(m, EMB_METRIC_BREAKER_STATE, 0, "openai") == 2);
    assert_true(emb_metrics_sum(m, EMB_METRIC_BREAKER_CHANGES, 1, "open") == 1);
    assert_int_equal(emb_breakers_sync(all, S, &breaker_err), EMB_OK);
    assert_true(emb_breakers_store_is_up(all));
    emb_breakers_close(all);
    emb_breakers_close(NULL);
    emb_metrics_close(m);
    assert_int_equal(emb_breakers_open("http://x", &(emb_breakers_options){0}, &all, &breaker_err),
                     EMB_E_INVALID);
}

/* ---- a model ---- */

enum { PERMITS = 8, EVENTS = 3000000, HISTORY = 4096 };

/* As simple as can be: all outcomes since it closed last, in a list that is looked through each time. */
typedef struct model {
    emb_breaker_rules rules;
    emb_breaker_state state;
    uint64_t times[HISTORY];
    bool failed[HISTORY];
    size_t count;
    unsigned openings;
    uint64_t retry_ns, probe_until_ns;
    int probe;      /* which permit; -1: none */
    unsigned epoch; /* counts closings and openings: what began in an earlier one counts nothing */
} model;

typedef struct model_permit {
    bool used, probe;
    unsigned epoch;
    emb_breaker_permit real;
} model_permit;

static void model_open(model *m, uint64_t now, bool fatal)
{
    uint64_t wait = m->rules.recovery_timeout_s;
    for (unsigned i = 0; i < m->openings && wait < 1000000; i++)
        wait *= 2;
    if (fatal || wait > m->rules.recovery_longest_s)
        wait = m->rules.recovery_longest_s;
    m->state = EMB_BREAKER_OPEN;
    m->openings++;
    m->retry_ns = now + wait * S;
    m->probe = -1;
    m->epoch++;
}

static bool model_allow(model *m, model_permit *p, int which, uint64_t now)
{
    bool due = (m->state == EMB_BREAKER_OPEN && now >= m->retry_ns) ||
               (m->state == EMB_BREAKER_HALF_OPEN && (m->probe < 0 || now >= m->probe_until_ns));
    if (m->state == EMB_BREAKER_CLOSED) {
        *p = (model_permit){.used = true, .epoch = m->epoch};
        return true;
    }
    if (!due)
        return false;
    m->state = EMB_BREAKER_HALF_OPEN;
    m->probe = which;
    m->probe_until_ns = now + 20 * S;
    *p = (model_permit){.used = true, .probe = true, .epoch = m->epoch};
    return true;
}

static bool model_trips(const model *m, uint64_t now)
{
    uint64_t window = m->rules.window_s * S, slice = now / (window / 10), calls = 0, failures = 0;
    unsigned row = 0;
    for (size_t i = 0; i < m->count; i++)
        if (m->times[i] / (window / 10) + 10 > slice) {
            calls++;
            failures += m->failed[i];
        }
    for (size_t i = m->count; i > 0 && m->failed[i - 1] && now - m->times[i - 1] <= window; i--)
        row++;
    if (m->rules.failure_threshold && row >= m->rules.failure_threshold)
        return true;
    return m->rules.failure_rate > 0 && calls >= m->rules.minimum_calls &&
           failures >= m->rules.failure_rate * calls - 1e-9;
}

static void model_report(model *m, model_permit *p, int which, emb_breaker_outcome o, bool slow, uint64_t now)
{
    bool failed = o == EMB_BREAKER_FAILURE || (o == EMB_BREAKER_SUCCESS && slow && m->rules.slow_ms);
    if (p->probe) {
        if (m->state != EMB_BREAKER_HALF_OPEN || m->probe != which || p->epoch != m->epoch)
            return;
        m->probe = -1;
        if (o == EMB_BREAKER_IGNORED)
            return;
        if (failed || o == EMB_BREAKER_FATAL) {
            model_open(m, now, o == EMB_BREAKER_FATAL);
            return;
        }
        m->state = EMB_BREAKER_CLOSED;
        m->openings = 0;
        m->count = 0;
        m->epoch++;
        return;
    }
    if (m->state != EMB_BREAKER_CLOSED || p->epoch != m->epoch || o == EMB_BREAKER_IGNORED)
        return;
    if (o == EMB_BREAKER_FATAL) {
        model_open(m, now, true);
        return;
    }
    if (m->count == HISTORY) {
        memmove(m->times, m->times + HISTORY / 2, HISTORY / 2 * sizeof *m->times);
        memmove(m->failed, m->failed + HISTORY / 2, HISTORY / 2 * sizeof *m->failed);
        m->count = HISTORY / 2;
    }
    m->times[m->count] = now;
    m->failed[m->count++] = failed;
    if (failed && model_trips(m, now))
        model_open(m, now, false);
}

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % below;
}

/* Outcomes as a good, a middling and a bad provider give them, by turns. */
static emb_breaker_outcome draw_outcome(int health)
{
    uint64_t x = draw(1000);
    if (x < 3)
        return EMB_BREAKER_FATAL;
    if (x < 60)
        return EMB_BREAKER_IGNORED;
    return draw(100) < (uint64_t)(health == 0   ? 3
                                  : health == 1 ? 35
                                                : 85)
               ? EMB_BREAKER_FAILURE
               : EMB_BREAKER_SUCCESS;
}

static void run_model(const emb_breaker_rules *rules, size_t events)
{
    emb_breakers *all = open_memory(NULL);
    emb_breaker *b = get(all, rules);
    model *m = calloc(1, sizeof *m);
    model_permit permits[PERMITS] = {0};
    uint64_t now = 1000000 * S;
    int health = 0;
    size_t opened = 0, closed = 0;
    *m = (model){.rules = *rules, .probe = -1};
    for (size_t i = 0; i < events; i++) {
        int which = (int)draw(PERMITS);
        model_permit *p = &permits[which];
        emb_breaker_state before = m->state;
        now += draw(20) ? draw(200000000) : draw(8 * S);
        if (draw(500) == 0)
            health = (int)draw(3);
        if (!p->used) {
            emb_breaker_permit real;
            bool available = emb_breaker_is_available(b, now), allowed = emb_breaker_allow(b, now, &real);
            if (model_allow(m, p, which, now) != allowed || available != allowed)
                fail_msg("event %zu: allowed %d, available %d", i, allowed, available);
            if (allowed) {
                p->real = real;
                assert_int_equal(p->probe, real.probe);
            }
        } else {
            emb_breaker_outcome o = draw_outcome(health);
            bool slow = draw(50) == 0;
            emb_breaker_report(b, p->real, o, slow ? 501000000 : 1000, "x", now);
            model_report(m, p, which, o, slow, now);
            if (draw(100)) /* now and then the outcome comes twice */
                p->used = false;
        }
        emb_breaker_view v = view(b, now);
        if (v.state != m->state || v.openings != m->openings ||
            (v.state == EMB_BREAKER_OPEN && v.retry_ns != m->retry_ns))
            fail_msg("event %zu: state %d, the model says %d", i, v.state, m->state);
        opened += before != EMB_BREAKER_OPEN && m->state == EMB_BREAKER_OPEN;
        closed += before == EMB_BREAKER_HALF_OPEN && m->state == EMB_BREAKER_CLOSED;
    }
    assert_true(opened > events / 5000 && closed > events / 10000);
    print_message("%zu events: %zu openings, %zu recoveries\n", events, opened, closed);
    free(m);
    emb_breakers_close(all);
}

static void behaves_as_the_model(void **state)
{
    (void)state;
    emb_breaker_rules row = RULES, share = RULES, quick = RULES;
    row.failure_rate = 0;
    row.slow_ms = 0;
    share.failure_threshold = 0;
    quick.failure_threshold = 1;
    quick.recovery_timeout_s = 1;
    quick.recovery_longest_s = 7;
    for (seed = 1; seed < 4; seed++) {
        uint64_t keep = seed;
        run_model(&RULES, EVENTS / 12);
        run_model(&row, EVENTS / 12);
        run_model(&share, EVENTS / 12);
        run_model(&quick, EVENTS / 12);
        seed = keep;
    }
}

/* ---- threads ---- */

typedef struct crowd {
    emb_breaker *b;
    atomic_uint_fast64_t now;
    atomic_int probes, most;
    atomic_bool stop;
} crowd;

static void *crowd_run(void *context)
{
    crowd *c = context;
    for (int i = 0; i < 20000; i++) {
        emb_breaker_permit p;
        uint64_t now = atomic_fetch_add(&c->now, 100000000);
        if (!emb_breaker_allow(c->b, now, &p))
            continue;
        if (p.probe && atomic_fetch_add(&c->probes, 1) > 0)
            atomic_store(&c->most, 2);
        if (p.probe)
            atomic_fetch_sub(&c->probes, 1);
        emb_breaker_report(c->b, p, i % 3 ? EMB_BREAKER_FAILURE : EMB_BREAKER_SUCCESS, 0, "x", now);
    }
    return NULL;
}

static void one_probe_at_a_time_among_threads(void **state)
{
    (void)state;
    emb_breakers *all;
    emb_breakers_options o = {.probe_s = 4000000};
    pthread_t threads[8];
    assert_int_equal(emb_breakers_open("memory:", &o, &all, &breaker_err), EMB_OK);
    crowd c = {.b = get(all, &RULES), .now = 1000 * S};
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_run, &c), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&c.most), 0);
    emb_breakers_close(all);
}

/* ---- stores ---- */

static char folder[64], sqlite_url[128];

static int use_sqlite(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/embedd-breaker-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(sqlite_url, sizeof sqlite_url, "sqlite:%s/state.db", folder);
    breaker_url = sqlite_url;
    return 0;
}

static int drop_sqlite(void **state)
{
    char path[160];
    (void)state;
    static const char *const ENDS[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/state.db%s", folder, ENDS[i]);
        unlink(path);
    }
    return rmdir(folder);
}

static void a_store_that_is_away_changes_nothing(void **state)
{
    (void)state;
    emb_breakers *all;
    emb_breakers_options o = {.no_thread = true};
    emb_breaker_permit p;
    assert_int_equal(emb_breakers_open("redis://127.0.0.1:1", &o, &all, &breaker_err), EMB_OK);
    assert_false(emb_breakers_store_is_up(all));
    emb_breaker *b = get(all, &RULES);
    call(b, EMB_BREAKER_FATAL, 0, S);
    assert_false(emb_breaker_allow(b, 2 * S, &p));
    assert_int_not_equal(emb_breakers_sync(all, 2 * S, &breaker_err), EMB_OK);
    assert_true(emb_breaker_allow(b, 101 * S, &p)); /* probes on its own account */
    assert_true(p.probe);
    emb_breaker_report(b, p, EMB_BREAKER_SUCCESS, 0, NULL, 101 * S);
    assert_int_equal(view(b, 101 * S).state, EMB_BREAKER_CLOSED);
    emb_breakers_close(all);
}

int main(void)
{
    const struct CMUnitTest memory[] = {
        cmocka_unit_test(failures_in_a_row_open),
        cmocka_unit_test(a_share_of_failures_opens),
        cmocka_unit_test(waits_grow_and_end),
        cmocka_unit_test(fatal_opens_at_once_for_long),
        cmocka_unit_test(probes_are_given_back_or_run_out),
        cmocka_unit_test(names_rules_and_gauges),
        cmocka_unit_test(behaves_as_the_model),
        cmocka_unit_test(one_probe_at_a_time_among_threads),
        cmocka_unit_test(a_store_that_is_away_changes_nothing),
    };
    const struct CMUnitTest sqlite[] = {BREAKER_CONFORMANCE};
    return cmocka_run_group_tests_name("memory", memory, NULL, NULL) +
           cmocka_run_group_tests_name("sqlite", sqlite, use_sqlite, drop_sqlite);
}
