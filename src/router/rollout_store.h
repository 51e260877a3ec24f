/*
 * rollout_store.h: where the state of a rollout and its audit log are kept. Internal to router/.
 *
 *     emb_db *store;
 *     emb_rollout_store_open("sqlite:/var/lib/embedd/rollout.db", &store, err);      // does not touch the store yet
 *     emb_rollout_state now, next; bool won;
 *     emb_rollout_store_load(store, deadline_ns, &now, err);
 *     next = now; next.version++; …
 *     emb_rollout_store_save(store, deadline_ns, &next, &event, &won, err);          // false: another was faster
 *     emb_db_close(store);
 *
 * There is one row of state; its version makes a compare-and-set of a save: it is written only over the
 * version before it, together with the event, in one transaction. Shares are millionths of a percent, so that
 * they compare exactly in every database; SHARE_CONFIGURED stands for whatever the configuration says.
 * Thread-safe.
 */
#ifndef EMB_ROUTER_ROLLOUT_STORE_H
#define EMB_ROUTER_ROLLOUT_STORE_H

#include "router/rollout.h"
#include "store/db.h"

enum {
    EMB_ROLLOUT_STEPS_MAX = 32,
    EMB_ROLLOUT_SCHEDULE_TEXT = 32 * 32,
    EMB_ROLLOUT_SHARE_ONE = 1000000,
    EMB_ROLLOUT_SHARE_CONFIGURED = -1
};

typedef struct emb_rollout_state {
    int64_t version; /* 0: nothing was ever stored */
    emb_rollout_mode mode;
    int64_t share;
    size_t step, steps;
    int64_t step_since_s, changed_s, verified_s;
    char actor[64], reason[200];
    emb_rollout_step_config schedule[EMB_ROLLOUT_STEPS_MAX];
} emb_rollout_state;

typedef struct emb_rollout_change {
    int64_t time_s, from, to;
    const char *action, *actor, *reason;
} emb_rollout_change;

EMB_MUST_CHECK emb_status emb_rollout_store_open(const char *url, emb_db **out, emb_error *err);
/* version 0 if there is no row. */
EMB_MUST_CHECK emb_status emb_rollout_store_load(emb_db *store, uint64_t deadline_ns, emb_rollout_state *out,
                                                 emb_error *err);
/* Writes *next over version next->version - 1 and logs the change; *won: whether that was there. */
EMB_MUST_CHECK emb_status emb_rollout_store_save(emb_db *store, uint64_t deadline_ns,
                                                 const emb_rollout_state *next,
                                                 const emb_rollout_change *change, bool *won, emb_error *err);
EMB_MUST_CHECK emb_status emb_rollout_store_audit(emb_db *store, uint64_t deadline_ns, size_t limit,
                                                  emb_arena *arena, emb_rollout_event **out, size_t *count,
                                                  emb_error *err);

int64_t emb_rollout_to_share(double percentage);
double emb_rollout_from_share(int64_t share); /* not a number for SHARE_CONFIGURED */
/* "5000000:3600 10000000:3600": how a schedule is kept. */
void emb_rollout_write_schedule(const emb_rollout_state *state, char out[EMB_ROLLOUT_SCHEDULE_TEXT]);
/* Takes what was kept into *state; EMB_E_CORRUPT, and the configured state, if others wrote what cannot
 * be. */
EMB_MUST_CHECK emb_status emb_rollout_check_state(emb_rollout_state *state, int64_t mode,
                                                  const char *schedule, emb_error *err);
/* A copy that fits, cut between characters and without invalid ones. */
void emb_rollout_copy_text(char *out, size_t size, const char *text);

#endif
