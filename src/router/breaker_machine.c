/*
 * closed ──(failures in a row, their share, or one that is fatal)──> open ──(wait over, one call)──>
 * half-open
 *    ^                                                                ^                                 │
 *    └──────────────(the probe succeeded)─────────────────────────────┼─────────────────────────────────┤
 *                                                                     └────────(it failed)──────────────┘
 *
 * Failures in a row: so many, the first and the last of them no further apart than the window. Share: over
 * the window, kept in ten slices, so that its edge is exact to a tenth, from minimum_calls on.
 *
 * The wait doubles with every opening that no success came between, up to recovery_longest_s; a fatal one
 * waits the longest at once, since nobody expects a wrong key to heal in seconds.
 *
 * Every probe has a generation of its own. So exactly one outcome counts for it: a second report, one that
 * comes after the probe's time ran out and another took its place, or one of a call that began before the
 * breaker opened, finds another generation and counts nothing.
 */
#include "router/breaker_machine.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
enum { WINDOW_S = 60, RECOVERY_S = 30 };

/* ---- rules ---- */

static emb_breaker_rules completed(const emb_breaker_rules *rules)
{
    emb_breaker_rules r = *rules;
    if (r.window_s == 0)
        r.window_s = WINDOW_S;
    if (r.recovery_timeout_s == 0)
        r.recovery_timeout_s = RECOVERY_S;
    if (r.recovery_longest_s < r.recovery_timeout_s)
        r.recovery_longest_s = r.recovery_timeout_s;
    if (r.minimum_calls == 0)
        r.minimum_calls = 1;
    if (r.failure_threshold > EMB_BREAKER_STREAK_MAX)
        r.failure_threshold = EMB_BREAKER_STREAK_MAX;
    return r;
}

static bool is_same(const emb_breaker_rules *a, const emb_breaker_rules *b)
{
    return a->failure_threshold == b->failure_threshold && a->failure_rate == b->failure_rate &&
           a->minimum_calls == b->minimum_calls && a->window_s == b->window_s &&
           a->recovery_timeout_s == b->recovery_timeout_s && a->recovery_longest_s == b->recovery_longest_s &&
           a->slow_ms == b->slow_ms;
}

static void forget(emb_breaker_machine *m)
{
    m->failures = 0;
    memset(m->slices, 0, sizeof m->slices);
}

emb_status emb_breaker_machine_rules(emb_breaker_machine *m, const emb_breaker_rules *rules, emb_error *err)
{
    emb_breaker_rules r = completed(rules);
    if (m->streak && is_same(&r, &m->rules))
        return EMB_OK;
    size_t room = r.failure_threshold ? r.failure_threshold : 1;
    uint64_t *streak = calloc(room, sizeof *streak);
    if (!streak)
        return emb_fail_nomem(err, "a breaker", room * sizeof *streak);
    free(m->streak);
    m->streak = streak;
    m->streak_room = room;
    m->rules = r;
    forget(m); /* slices and streak are those of the old rules */
    return EMB_OK;
}

void emb_breaker_machine_fini(emb_breaker_machine *m)
{
    free(m->streak);
    m->streak = NULL;
}

uint64_t emb_breaker_machine_now(emb_breaker_machine *m, uint64_t now_ns)
{
    if (now_ns > m->now_ns)
        m->now_ns = now_ns;
    return m->now_ns;
}

/* ---- counting, while closed ---- */

static void count_call(emb_breaker_machine *m, bool failed, uint64_t now)
{
    uint64_t number = now / (m->rules.window_s * SECOND / EMB_BREAKER_SLICES);
    emb_breaker_slice *s = &m->slices[number % EMB_BREAKER_SLICES];
    if (s->number != number)
        *s = (emb_breaker_slice){.number = number};
    s->calls++;
    s->failures += failed;
    if (failed)
        m->streak[m->failures++ % m->streak_room] = now;
    else
        m->failures = 0;
}

static bool is_streak(const emb_breaker_machine *m, uint64_t now)
{
    unsigned n = m->rules.failure_threshold;
    return n && m->failures >= n &&
           now - m->streak[(m->failures - n) % m->streak_room] <= m->rules.window_s * SECOND;
}

static bool is_share(const emb_breaker_machine *m, uint64_t now, uint64_t *calls, uint64_t *failures)
{
    uint64_t number = now / (m->rules.window_s * SECOND / EMB_BREAKER_SLICES);
    *calls = *failures = 0;
    for (size_t i = 0; i < EMB_BREAKER_SLICES; i++)
        if (m->slices[i].number + EMB_BREAKER_SLICES > number) {
            *calls += m->slices[i].calls;
            *failures += m->slices[i].failures;
        }
    return m->rules.failure_rate > 0 && *calls >= m->rules.minimum_calls &&
           (double)*failures >= m->rules.failure_rate * (double)*calls - 1e-9;
}

/* ---- changes ---- */

void emb_breaker_machine_open(emb_breaker_machine *m, uint64_t now, uint64_t retry_ns, unsigned openings,
                              const char *reason)
{
    if (m->state == EMB_BREAKER_CLOSED)
        m->opened_ns = now;
    m->state = EMB_BREAKER_OPEN;
    m->generation++;
    m->probing = false;
    m->retry_ns = retry_ns;
    m->openings = openings;
    snprintf(m->reason, sizeof m->reason, "%s", reason);
}

void emb_breaker_machine_close(emb_breaker_machine *m)
{
    m->state = EMB_BREAKER_CLOSED;
    m->generation++;
    m->probing = false;
    m->openings = 0;
    m->opened_ns = m->retry_ns = 0;
    m->reason[0] = '\0';
    forget(m);
}

static uint64_t wait_ns(const emb_breaker_rules *r, unsigned openings, bool fatal)
{
    uint64_t wait = r->recovery_timeout_s;
    for (unsigned i = 1; i < openings && wait < r->recovery_longest_s; i++)
        wait *= 2;
    return (fatal || wait > r->recovery_longest_s ? r->recovery_longest_s : wait) * SECOND;
}

static emb_breaker_change trip(emb_breaker_machine *m, uint64_t now, bool fatal, const char *reason)
{
    unsigned openings = m->openings < 1000 ? m->openings + 1 : m->openings;
    emb_breaker_machine_open(m, now, now + wait_ns(&m->rules, openings, fatal), openings, reason);
    return EMB_BREAKER_OPENED;
}

/* ---- what happens ---- */

bool emb_breaker_machine_is_due(const emb_breaker_machine *m, uint64_t now)
{
    if (m->state == EMB_BREAKER_OPEN)
        return now >= m->retry_ns;
    return m->state == EMB_BREAKER_HALF_OPEN && (!m->probing || now >= m->probe_until_ns);
}

emb_breaker_permit emb_breaker_machine_probe(emb_breaker_machine *m, uint64_t now, uint64_t probe_ns)
{
    m->state = EMB_BREAKER_HALF_OPEN;
    m->generation++;
    m->probing = true;
    m->probe_until_ns = now + probe_ns;
    return (emb_breaker_permit){true, m->generation};
}

static emb_breaker_change report_probe(emb_breaker_machine *m, emb_breaker_outcome outcome,
                                       const char *reason, uint64_t now)
{
    char text[EMB_BREAKER_REASON];
    if (outcome == EMB_BREAKER_IGNORED) {
        m->probing = false;
        m->generation++;
        return EMB_BREAKER_GAVE_BACK;
    }
    if (outcome == EMB_BREAKER_SUCCESS) {
        emb_breaker_machine_close(m);
        return EMB_BREAKER_WAS_CLOSED;
    }
    snprintf(text, sizeof text, "the probe failed: %s", reason);
    return trip(m, now, outcome == EMB_BREAKER_FATAL, text);
}

static emb_breaker_change report_call(emb_breaker_machine *m, bool failed, const char *reason, uint64_t now)
{
    char text[EMB_BREAKER_REASON];
    uint64_t calls, failures;
    count_call(m, failed, now);
    if (!failed)
        return EMB_BREAKER_SAME;
    if (is_streak(m, now))
        snprintf(text, sizeof text, "%u failures in a row, the last: %s", m->failures, reason);
    else if (is_share(m, now, &calls, &failures))
        snprintf(text, sizeof text, "%llu of %llu calls failed, the last: %s", (unsigned long long)failures,
                 (unsigned long long)calls, reason);
    else
        return EMB_BREAKER_SAME;
    return trip(m, now, false, text);
}

emb_breaker_change emb_breaker_machine_report(emb_breaker_machine *m, emb_breaker_permit permit,
                                              emb_breaker_outcome outcome, uint64_t duration_ns,
                                              const char *reason, uint64_t now)
{
    bool slow = m->rules.slow_ms && duration_ns > m->rules.slow_ms * UINT64_C(1000000);
    if (permit.generation != m->generation || permit.probe != (m->state == EMB_BREAKER_HALF_OPEN))
        return EMB_BREAKER_SAME;
    if (outcome == EMB_BREAKER_SUCCESS && slow) {
        outcome = EMB_BREAKER_FAILURE;
        reason = "slow";
    }
    if (!reason || !*reason)
        reason = outcome == EMB_BREAKER_FATAL ? "denied" : "failure";
    if (m->state == EMB_BREAKER_HALF_OPEN)
        return m->probing ? report_probe(m, outcome, reason, now) : EMB_BREAKER_SAME;
    if (m->state != EMB_BREAKER_CLOSED || outcome == EMB_BREAKER_IGNORED)
        return EMB_BREAKER_SAME;
    if (outcome == EMB_BREAKER_FATAL)
        return trip(m, now, true, reason);
    return report_call(m, outcome == EMB_BREAKER_FAILURE, reason, now);
}
