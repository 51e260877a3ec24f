/*
 * team.h: helpers that share the steps of one small piece of work.
 *
 *     // leader
 *     emb_team_lead(team);                         // idle helpers may join from now on
 *     emb_team_run(team, step, &args, n_chunks);   // calls step(&args, chunk) for each chunk, any thread
 *     emb_team_dismiss(team);
 *     // helper thread, when it has nothing better to do
 *     emb_team_help(team);                         // returns when the leader dismissed the team
 *
 * Chunks are claimed one by one, so the leader never waits for a helper that has not come, only for
 * chunks that a helper has claimed. A NULL team runs all chunks on the caller. One leader at a time;
 * helpers in any number. emb_team_run gives no order between chunks and returns when all are done, with
 * all their writes visible. It allocates nothing.
 */
#ifndef EMB_BASE_TEAM_H
#define EMB_BASE_TEAM_H

#include <embedd.h>
#include <stdatomic.h>

typedef struct emb_team emb_team;
typedef void (*emb_team_step)(void *args, size_t chunk);

EMB_MUST_CHECK emb_status emb_team_open(emb_team **out, emb_error *err);
void emb_team_close(emb_team *team);

void emb_team_lead(emb_team *team);
void emb_team_run(emb_team *team, emb_team_step step, void *args, size_t chunks);
void emb_team_dismiss(emb_team *team);

/* Whether a leader is active, i.e. whether emb_team_help would do something. */
bool emb_team_active(const emb_team *team);
void emb_team_help(emb_team *team);
/* The same, but returns between two chunks as soon as *other_work is not 0. */
void emb_team_help_until(emb_team *team, const atomic_size_t *other_work);
/* Helpers in the team right now plus the leader: how many chunks are worth making. 1 for NULL. */
unsigned emb_team_size(const emb_team *team);

#endif
