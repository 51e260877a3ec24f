/*
 * rollout.h: which share of callers is on the hybrid path: a fixed share or a schedule of steps that advances
 * or rolls back by itself, with an audit log. Shared by all processes through the store ("sqlite:PATH" or
 * "postgresql://…").
 *
 *     emb_rollout *r;
 *     emb_rollout_open(url, &options, &r, err);
 *     double share = emb_rollout_percentage(r, config->rollout_percentage);  // without I/O; about a second old
 *     double bucket = emb_rollout_bucket(salt, user, key, text, length);
 *     bool hybrid = bucket < share;
 *     emb_rollout_set(r, 25, "ops", "canary looks good", err);
 *     emb_rollout_tick(r, alarm, &changed, err);       // every second or so, one process at a time acts
 *
 * Nothing is stored until somebody sets something: then the store's word wins over the configuration's
 * percentage. Thread-safe.
 */
#ifndef EMB_ROUTER_ROLLOUT_H
#define EMB_ROUTER_ROLLOUT_H

#include "base/arena.h"
#include "config/gateway.h"

#include <embedd.h>

typedef struct emb_rollout emb_rollout;

typedef struct emb_rollout_options {
    int64_t (*now_s)(void); /* NULL: the clock */
    bool no_thread;         /* tests call emb_rollout_refresh */
} emb_rollout_options;

EMB_MUST_CHECK emb_status emb_rollout_open(const char *url, const emb_rollout_options *options,
                                           emb_rollout **out, emb_error *err);
void emb_rollout_close(emb_rollout *rollout);

/* Sticky: the same caller is in the same bucket, 0 <= b < 100, in every process. The first of user, key, text
 * that is not empty counts. */
double emb_rollout_bucket(const char *salt, const char *user, const char *key, const char *text,
                          size_t length);
double emb_rollout_percentage(const emb_rollout *rollout, double configured);

typedef enum emb_rollout_mode {
    EMB_ROLLOUT_CONFIGURED,
    EMB_ROLLOUT_FIXED,
    EMB_ROLLOUT_SCHEDULED,
    EMB_ROLLOUT_ROLLED_BACK,
    EMB_ROLLOUT_FINISHED
} emb_rollout_mode;
const char *emb_rollout_mode_name(emb_rollout_mode mode);

typedef struct emb_rollout_view {
    emb_rollout_mode mode;
    double percentage;
    size_t step, steps; /* of the schedule */
    int64_t step_since_s, step_until_s;
    int64_t changed_s;
    int64_t rollback_verified_s; /* 0: never */
    char actor[64], reason[200];
    emb_rollout_step_config schedule[32];
} emb_rollout_view;
void emb_rollout_get(emb_rollout *rollout, double configured, emb_rollout_view *out);

/* Each is written to the audit log with who and why, in the same transaction. */
EMB_MUST_CHECK emb_status emb_rollout_set(emb_rollout *rollout, double percentage, const char *actor,
                                          const char *reason, emb_error *err);
/* 1 to 32 steps whose percentages rise, each held for 1 s to 366 days. */
EMB_MUST_CHECK emb_status emb_rollout_schedule(emb_rollout *rollout, const emb_rollout_step_config *steps,
                                               size_t count, const char *actor, const char *reason,
                                               emb_error *err);
EMB_MUST_CHECK emb_status emb_rollout_back(emb_rollout *rollout, const char *actor, const char *reason,
                                           emb_error *err);
EMB_MUST_CHECK emb_status emb_rollout_clear(emb_rollout *rollout, const char *actor, const char *reason,
                                            emb_error *err);
/* Notes that a rollback was proved to work. */
EMB_MUST_CHECK emb_status emb_rollout_note_verified(emb_rollout *rollout, const char *actor,
                                                    const char *report, emb_error *err);
/* An alert that fires. */
typedef struct emb_rollout_alarm {
    const char *name;
    int64_t held_since_s; /* since when its condition has held without a break; INT64_MAX: it does not now */
    uint32_t for_s;       /* how long it has to */
} emb_rollout_alarm;
/* Advances or rolls back a schedule, by one step at most; of several processes that call it one does it.
 * Without I/O while nothing is due. Shares that are fixed stay, whatever fires. While there is an alarm
 * (NULL: none) no step is made; it rolls back once its condition has held for as long as it has to since the
 * step was made: what was before is no fault of the step. *changed (may be NULL). */
EMB_MUST_CHECK emb_status emb_rollout_tick(emb_rollout *rollout, const emb_rollout_alarm *alarm,
                                           bool *changed, emb_error *err);
EMB_MUST_CHECK emb_status emb_rollout_refresh(emb_rollout *rollout, emb_error *err);

typedef struct emb_rollout_event {
    int64_t id, time_s;
    const char *action; /* "set", "schedule", "advance", "finish", "rollback", "clear", "verified" */
    double from, to;    /* not a number: what the configuration says */
    const char *actor, *reason;
} emb_rollout_event;
/* The newest first; strings in the arena. */
EMB_MUST_CHECK emb_status emb_rollout_audit(emb_rollout *rollout, size_t limit, emb_arena *arena,
                                            emb_rollout_event **out, size_t *count, emb_error *err);

#endif
