/*
 * rollout.c: the share of callers on the hybrid path, agreed on by every process through one row of a store.
 *
 * Requests read an atomic number; a thread reads the store about once a second and sets it. So a decision
 * costs nothing, a store that is down costs nothing either (the last word stands, and a log line tells), and
 * a rollback by anybody reaches every process within about a second. Notifications (LISTEN, file watches)
 * were rejected: they save half a second and need a second way for when they are lost.
 *
 * Every change is read, compute, compare-and-set: it is written only over the version that it was computed
 * from. What a person asks for is tried again on what won; a step of a schedule is not, since the winner has
 * made it. That is all the lease that is needed: several processes may find a step due, one of them makes it.
 *
 * A step holds from the moment it was made, by the clock of whoever made it: after a pause of all processes
 * the next step follows at once, but no step is skipped. Clocks of machines that differ shorten or lengthen a
 * step by as much.
 *
 * An alert takes a schedule back only for what was seen since its step: an alarm carries since when its
 * condition has held, and the part of that time before the step does not count. Which figures it is judged by
 * is for the caller to cut likewise (service/watch.c). A step is not made while an alarm is there, proven or
 * not.
 *
 * A bucket is SHA-256 over salt and caller, so that it is uniform whatever callers are named, and a salt
 * makes a new draw. Shares grow from the low end: a caller that is in at 5 % stays in at 10 %.
 *
 * Invariants: the state is under `lock`, the store is called without it. `share` is the state's.
 */
#include "router/rollout.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "crypto/crypto.h"
#include "router/rollout_store.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REFRESH_MS = 1000,
    CALL_MS = 3000, /* for one call of the store */
    TRIES = 16,     /* of a compare-and-set that somebody asked for */
    HOLD_MAX_S = 366 * 86400,
    AUDIT_MAX = 10000
};

struct emb_rollout {
    emb_db *store;
    int64_t (*now_s)(void);
    _Atomic int64_t share;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    emb_rollout_state state;
    unsigned generation; /* of the state: how often it was put here */
    bool stop, has_thread, is_failing;
    pthread_t thread;
};

static const char *const MODES[] = {"configured", "fixed", "scheduled", "rolled_back", "finished"};

const char *emb_rollout_mode_name(emb_rollout_mode mode)
{
    return (size_t)mode < sizeof MODES / sizeof *MODES ? MODES[mode] : "unknown";
}

/* ---- who is in ---- */

double emb_rollout_bucket(const char *salt, const char *user, const char *key, const char *text,
                          size_t length)
{
    const char *names[2] = {user, key};
    emb_bytes pieces[3] = {
        {salt ? salt : "", salt ? strlen(salt) : 0}, {"\0t", 2}, {text, text ? length : 0}};
    uint8_t digest[EMB_SHA256_BYTES];
    uint64_t number = 0;
    for (int i = 0; i < 2; i++)
        if (names[i] && *names[i]) { /* a user and a key of the same name are not the same caller */
            pieces[1].data = i ? "\0k" : "\0u";
            pieces[2] = (emb_bytes){names[i], strlen(names[i])};
            break;
        }
    if (!pieces[2].data)
        pieces[2] = (emb_bytes){"", 0};
    if (!emb_sha256_pieces(pieces, 3, digest))
        return 99.999; /* memory is short: the legacy path, unless all are in */
    for (int i = 0; i < 6; i++)
        number = number << 8 | digest[i];
    return (double)number * (100.0 / 281474976710656.0); /* 48 bits: below 100 without rounding */
}

double emb_rollout_percentage(const emb_rollout *rollout, double configured)
{
    int64_t share = atomic_load_explicit(&rollout->share, memory_order_relaxed);
    return share < 0 ? configured : (double)share / EMB_ROLLOUT_SHARE_ONE;
}

/* ---- the state in this process ---- */

static int64_t system_now_s(void)
{
    return (int64_t)time(NULL);
}

static uint64_t deadline(void)
{
    return emb_now_ns() + CALL_MS * UINT64_C(1000000);
}

static unsigned generation(emb_rollout *r)
{
    pthread_mutex_lock(&r->lock);
    unsigned now = r->generation;
    pthread_mutex_unlock(&r->lock);
    return now;
}

/* What was read or written since `generation`. A slow read never replaces something newer; a store that was
 * emptied or put back from a copy has an older version and counts all the same. */
static void adopt(emb_rollout *r, const emb_rollout_state *state, unsigned since)
{
    pthread_mutex_lock(&r->lock);
    if (since == r->generation || state->version >= r->state.version) {
        r->generation++;
        r->state = *state;
        atomic_store_explicit(&r->share, state->share, memory_order_relaxed);
    }
    pthread_mutex_unlock(&r->lock);
}

emb_status emb_rollout_refresh(emb_rollout *rollout, emb_error *err)
{
    emb_rollout_state state;
    unsigned since = generation(rollout);
    emb_status st = emb_rollout_store_load(rollout->store, deadline(), &state, err);
    if (st == EMB_OK)
        adopt(rollout, &state, since);
    return st;
}

/* Tells of the first failure and of the end of it. */
static void refresh_and_tell(emb_rollout *r)
{
    emb_error err = {0};
    bool failed = emb_rollout_refresh(r, &err) != EMB_OK;
    if (failed && !r->is_failing)
        emb_log(EMB_LOG_WARN, "rollout: its store cannot be read, the last word stands",
                EMB_LOG_TEXT("where", err.where), EMB_LOG_TEXT("error", err.message));
    else if (!failed && r->is_failing)
        emb_log(EMB_LOG_INFO, "rollout: its store answers again");
    r->is_failing = failed;
}

static void *run(void *context)
{
    emb_rollout *r = context;
    emb_thread_background("embedd-rollout");
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        uint64_t until = emb_now_ns() + REFRESH_MS * UINT64_C(1000000);
        struct timespec t = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
        while (!r->stop && emb_now_ns() < until)
            pthread_cond_timedwait(&r->wake, &r->lock, &t);
        if (r->stop)
            break;
        pthread_mutex_unlock(&r->lock);
        refresh_and_tell(r);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- opening and closing ---- */

static emb_status start_thread(emb_rollout *r, emb_error *err)
{
    int code = pthread_create(&r->thread, NULL, run, r);
    r->has_thread = code == 0;
    return code ? emb_fail(err, EMB_E_NOMEM, "rollout", "no thread can be started: %s", strerror(code))
                : EMB_OK;
}

static void init_locks(emb_rollout *r)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* What passes by itself does not keep a service from starting, the thread goes on trying; nor does a state
 * that makes no sense, which can be written over. */
static emb_status first_look(emb_rollout *r, emb_error *err)
{
    emb_error problem = {0};
    emb_status st = emb_rollout_refresh(r, &problem);
    if (st != EMB_OK && st != EMB_E_CORRUPT && !emb_status_retryable(st)) {
        if (err)
            *err = problem;
        return st;
    }
    if (st != EMB_OK)
        emb_log(EMB_LOG_WARN, "rollout: its store cannot be read, the configuration's share counts",
                EMB_LOG_TEXT("where", problem.where), EMB_LOG_TEXT("error", problem.message));
    r->is_failing = st != EMB_OK;
    return EMB_OK;
}

emb_status emb_rollout_open(const char *url, const emb_rollout_options *options, emb_rollout **out,
                            emb_error *err)
{
    emb_rollout *r = calloc(1, sizeof *r);
    if (!r)
        return emb_fail_nomem(err, "the rollout", sizeof *r);
    r->now_s = options && options->now_s ? options->now_s : system_now_s;
    r->state.share = EMB_ROLLOUT_SHARE_CONFIGURED;
    atomic_init(&r->share, EMB_ROLLOUT_SHARE_CONFIGURED);
    init_locks(r);
    emb_status st = emb_rollout_store_open(url, &r->store, err);
    if (st == EMB_OK)
        st = first_look(r, err);
    if (st == EMB_OK && !(options && options->no_thread))
        st = start_thread(r, err);
    if (st != EMB_OK)
        emb_rollout_close(r);
    else
        *out = r;
    return st;
}

void emb_rollout_close(emb_rollout *rollout)
{
    if (!rollout)
        return;
    if (rollout->has_thread) {
        pthread_mutex_lock(&rollout->lock);
        rollout->stop = true;
        pthread_cond_signal(&rollout->wake);
        pthread_mutex_unlock(&rollout->lock);
        pthread_join(rollout->thread, NULL);
    }
    emb_db_close(rollout->store);
    pthread_cond_destroy(&rollout->wake);
    pthread_mutex_destroy(&rollout->lock);
    free(rollout);
}

/* ---- looking ---- */

void emb_rollout_get(emb_rollout *rollout, double configured, emb_rollout_view *out)
{
    pthread_mutex_lock(&rollout->lock);
    emb_rollout_state s = rollout->state;
    pthread_mutex_unlock(&rollout->lock);
    *out = (emb_rollout_view){
        .mode = s.mode,
        .percentage = s.share < 0 ? configured : emb_rollout_from_share(s.share),
        .step = s.step,
        .steps = s.steps,
        .changed_s = s.changed_s,
        .rollback_verified_s = s.verified_s,
    };
    if (s.mode == EMB_ROLLOUT_SCHEDULED) {
        out->step_since_s = s.step_since_s;
        out->step_until_s = s.step_since_s + (int64_t)s.schedule[s.step].hold_s;
    }
    memcpy(out->actor, s.actor, sizeof out->actor);
    memcpy(out->reason, s.reason, sizeof out->reason);
    memcpy(out->schedule, s.schedule, s.steps * sizeof *s.schedule);
}

emb_status emb_rollout_audit(emb_rollout *rollout, size_t limit, emb_arena *arena, emb_rollout_event **out,
                             size_t *count, emb_error *err)
{
    return emb_rollout_store_audit(rollout->store, deadline(), limit < AUDIT_MAX ? limit : AUDIT_MAX, arena,
                                   out, count, err);
}

/* ---- changing ---- */

/* What a change makes of the state; false: nothing is to be done. */
typedef struct change {
    bool (*apply)(const struct change *change, emb_rollout_state *state, int64_t now);
    const char *action; /* NULL: chosen by `apply` into `chosen` */
    const char **chosen;
    const char *actor, *reason;
    int64_t share;                        /* of set */
    const emb_rollout_step_config *steps; /* of schedule */
    size_t count;
    const emb_rollout_alarm *alarm; /* of tick */
    unsigned tries;
} change;

/* The version and who did it; the log's line. */
static emb_status save(emb_rollout *r, const change *c, const emb_rollout_state *before,
                       emb_rollout_state *next, bool *won, emb_error *err)
{
    char reason[sizeof next->reason];
    const char *action = c->action ? c->action : *c->chosen;
    emb_rollout_copy_text(reason, sizeof reason, c->reason ? c->reason : "");
    next->version = before->version + 1;
    if (strcmp(action, "verified") != 0) { /* that changes nothing */
        next->changed_s = r->now_s();
        emb_rollout_copy_text(next->actor, sizeof next->actor, c->actor);
        memcpy(next->reason, reason, sizeof reason);
    }
    char actor[sizeof next->actor];
    emb_rollout_copy_text(actor, sizeof actor, c->actor);
    const emb_rollout_change line = {.time_s = r->now_s(),
                                     .from = before->share,
                                     .to = next->share,
                                     .action = action,
                                     .actor = actor,
                                     .reason = reason};
    return emb_rollout_store_save(r->store, deadline(), next, &line, won, err);
}

static void tell(const change *c, const emb_rollout_state *next, const char *action)
{
    emb_log(strcmp(action, "rollback") == 0 ? EMB_LOG_WARN : EMB_LOG_INFO, "rollout: changed",
            EMB_LOG_TEXT("action", action), EMB_LOG_REAL("percentage", emb_rollout_from_share(next->share)),
            EMB_LOG_TEXT("actor", c->actor), EMB_LOG_TEXT("reason", c->reason));
}

static emb_status make_change(emb_rollout *r, const change *c, bool *changed, emb_error *err)
{
    *changed = false;
    for (unsigned i = 0; i < c->tries; i++) {
        emb_rollout_state before, next;
        bool won;
        unsigned since = generation(r);
        emb_status st = emb_rollout_store_load(r->store, deadline(), &before, err);
        if (st != EMB_OK && !(st == EMB_E_CORRUPT && before.version > 0)) /* nonsense can be written over */
            return st;
        next = before;
        if (!c->apply(c, &next, r->now_s())) {
            adopt(r, &before, since);
            return EMB_OK;
        }
        if ((st = save(r, c, &before, &next, &won, err)))
            return st;
        if (won) {
            adopt(r, &next, since);
            tell(c, &next, c->action ? c->action : *c->chosen);
            *changed = true;
            return EMB_OK;
        }
    }
    return c->action ? emb_fail(err, EMB_E_BUSY, "rollout",
                                "others change it at the same time; %u attempts came too late", c->tries)
                     : EMB_OK;
}

static emb_status ask(emb_rollout *r, change c, emb_error *err)
{
    bool changed;
    if (!c.actor || !*c.actor)
        return emb_fail(err, EMB_E_INVALID, "actor", "nobody is named as who asks for it");
    c.tries = TRIES;
    return make_change(r, &c, &changed, err);
}

static emb_status check_percentage(double percentage, const char *where, emb_error *err)
{
    if (percentage >= 0 && percentage <= 100) /* false for what is not a number */
        return EMB_OK;
    return emb_fail(err, EMB_E_INVALID, where, "%g is no percentage; 0 to 100 are", percentage);
}

static void settle(emb_rollout_state *state, emb_rollout_mode mode, int64_t share)
{
    state->mode = mode;
    state->share = share;
    state->step = state->steps = 0;
    state->step_since_s = 0;
}

static bool apply_set(const change *c, emb_rollout_state *state, int64_t now)
{
    (void)now;
    settle(state, EMB_ROLLOUT_FIXED, c->share);
    return true;
}

emb_status emb_rollout_set(emb_rollout *rollout, double percentage, const char *actor, const char *reason,
                           emb_error *err)
{
    emb_status st = check_percentage(percentage, "percentage", err);
    return st ? st
              : ask(rollout,
                    (change){.apply = apply_set,
                             .action = "set",
                             .actor = actor,
                             .reason = reason,
                             .share = emb_rollout_to_share(percentage)},
                    err);
}

static bool apply_schedule(const change *c, emb_rollout_state *state, int64_t now)
{
    settle(state, EMB_ROLLOUT_SCHEDULED, emb_rollout_to_share(c->steps[0].percentage));
    memcpy(state->schedule, c->steps, c->count * sizeof *c->steps);
    state->steps = c->count;
    state->step_since_s = now;
    return true;
}

static emb_status check_steps(const emb_rollout_step_config *steps, size_t count, emb_error *err)
{
    if (count < 1 || count > EMB_ROLLOUT_STEPS_MAX)
        return emb_fail(err, EMB_E_INVALID, "steps", "a schedule of %zu steps; 1 to %d can be", count,
                        EMB_ROLLOUT_STEPS_MAX);
    for (size_t i = 0; i < count; i++) {
        emb_status st = check_percentage(steps[i].percentage, "steps", err);
        if (st != EMB_OK)
            return st;
        if (i && !(steps[i].percentage > steps[i - 1].percentage))
            return emb_fail(err, EMB_E_INVALID, "steps",
                            "step %zu is %g %%, not more than the %g %% before it", i + 1,
                            steps[i].percentage, steps[i - 1].percentage);
        if (steps[i].hold_s < 1 || steps[i].hold_s > HOLD_MAX_S)
            return emb_fail(err, EMB_E_INVALID, "steps", "step %zu holds for %llu s; 1 to %d can be", i + 1,
                            (unsigned long long)steps[i].hold_s, HOLD_MAX_S);
    }
    return EMB_OK;
}

emb_status emb_rollout_schedule(emb_rollout *rollout, const emb_rollout_step_config *steps, size_t count,
                                const char *actor, const char *reason, emb_error *err)
{
    emb_status st = check_steps(steps, count, err);
    return st ? st
              : ask(rollout,
                    (change){.apply = apply_schedule,
                             .action = "schedule",
                             .actor = actor,
                             .reason = reason,
                             .steps = steps,
                             .count = count},
                    err);
}

static bool apply_back(const change *c, emb_rollout_state *state, int64_t now)
{
    (void)c, (void)now;
    settle(state, EMB_ROLLOUT_ROLLED_BACK, 0);
    return true;
}

emb_status emb_rollout_back(emb_rollout *rollout, const char *actor, const char *reason, emb_error *err)
{
    return ask(rollout, (change){.apply = apply_back, .action = "rollback", .actor = actor, .reason = reason},
               err);
}

static bool apply_clear(const change *c, emb_rollout_state *state, int64_t now)
{
    (void)c, (void)now;
    settle(state, EMB_ROLLOUT_CONFIGURED, EMB_ROLLOUT_SHARE_CONFIGURED);
    return true;
}

emb_status emb_rollout_clear(emb_rollout *rollout, const char *actor, const char *reason, emb_error *err)
{
    return ask(rollout, (change){.apply = apply_clear, .action = "clear", .actor = actor, .reason = reason},
               err);
}

static bool apply_verified(const change *c, emb_rollout_state *state, int64_t now)
{
    (void)c;
    state->verified_s = now;
    return true;
}

emb_status emb_rollout_note_verified(emb_rollout *rollout, const char *actor, const char *report,
                                     emb_error *err)
{
    return ask(rollout,
               (change){.apply = apply_verified, .action = "verified", .actor = actor, .reason = report},
               err);
}

/* ---- a schedule by itself ---- */

/* Since the step that the store has: another process may have made it after this one looked. */
static bool is_proven(const emb_rollout_alarm *alarm, const emb_rollout_state *state, int64_t now)
{
    int64_t since = alarm->held_since_s > state->step_since_s ? alarm->held_since_s : state->step_since_s;
    return since <= now && now - since >= (int64_t)alarm->for_s;
}

static bool is_due(const emb_rollout_state *state, const emb_rollout_alarm *alarm, int64_t now)
{
    if (state->mode != EMB_ROLLOUT_SCHEDULED)
        return false;
    return alarm ? is_proven(alarm, state, now)
                 : now - state->step_since_s >= (int64_t)state->schedule[state->step].hold_s;
}

static bool apply_tick(const change *c, emb_rollout_state *state, int64_t now)
{
    if (!is_due(state, c->alarm, now))
        return false;
    if (c->alarm) {
        settle(state, EMB_ROLLOUT_ROLLED_BACK, 0);
        *c->chosen = "rollback";
    } else if (state->step + 1 < state->steps) {
        state->share = emb_rollout_to_share(state->schedule[++state->step].percentage);
        state->step_since_s = now;
        *c->chosen = "advance";
    } else {
        state->mode = EMB_ROLLOUT_FINISHED;
        *c->chosen = "finish";
    }
    return true;
}

/* What this process knows is enough to see that nothing is due; before anything is done the store is
 * asked. */
emb_status emb_rollout_tick(emb_rollout *rollout, const emb_rollout_alarm *alarm, bool *changed,
                            emb_error *err)
{
    const char *chosen = NULL;
    char reason[sizeof rollout->state.reason];
    bool done = false;
    pthread_mutex_lock(&rollout->lock);
    bool due = is_due(&rollout->state, alarm, rollout->now_s());
    size_t step = rollout->state.step;
    pthread_mutex_unlock(&rollout->lock);
    if (changed)
        *changed = false;
    if (!due)
        return EMB_OK;
    if (alarm)
        snprintf(reason, sizeof reason, "the alert %.120s fires", alarm->name);
    else
        snprintf(reason, sizeof reason, "step %zu has held its time", step + 1);
    emb_status st = make_change(rollout,
                                &(change){.apply = apply_tick,
                                          .chosen = &chosen,
                                          .actor = "schedule",
                                          .reason = reason,
                                          .alarm = alarm,
                                          .tries = alarm ? TRIES : 1},
                                &done, err);
    if (st == EMB_OK && !done)
        st = emb_rollout_refresh(rollout, err); /* somebody else did it */
    if (changed)
        *changed = done;
    return st;
}
