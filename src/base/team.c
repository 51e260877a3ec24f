/*
 * Chunks are claimed by compare-and-swap on one word that holds (run number, chunks, next chunk), so a
 * claim made against an old run fails by itself. A helper reads step and args only after a successful
 * claim: the leader cannot leave the run, and so cannot overwrite them, before that chunk is counted as
 * done. Waiting is by spinning, since a step takes tens of microseconds and a futex wake costs as much;
 * after a while it yields, for machines with more threads than cores.
 *
 * Rejected: a barrier among a fixed number of ranks. It makes the leader wait for threads that the
 * scheduler has not run yet, which on a busy machine costs milliseconds a pass.
 */
#include "base/team.h"

#include "base/error.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { CHUNK_BITS = 22, SPINS_BEFORE_YIELD = 4000 };
#define CHUNK_MASK ((UINT64_C(1) << CHUNK_BITS) - 1)

struct emb_team {
    _Alignas(64) atomic_uint_fast64_t claim; /* run << 44 | chunks << 22 | next */
    _Alignas(64) atomic_size_t done;
    _Alignas(64) atomic_bool active;
    atomic_uint helpers;
    emb_team_step step;
    void *args;
    uint64_t run;
};

static void relax(unsigned *spins)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    if (++*spins % SPINS_BEFORE_YIELD == 0)
        sched_yield();
}

emb_status emb_team_open(emb_team **out, emb_error *err)
{
    emb_team *team = aligned_alloc(64, sizeof *team);
    if (!team)
        return emb_fail_nomem(err, "team", sizeof *team);
    atomic_init(&team->claim, 0);
    atomic_init(&team->done, 0);
    atomic_init(&team->active, false);
    atomic_init(&team->helpers, 0);
    team->step = NULL;
    team->args = NULL;
    team->run = 0;
    *out = team;
    return EMB_OK;
}

void emb_team_close(emb_team *team)
{
    if (!team)
        return;
    unsigned spins = 0;
    atomic_store_explicit(&team->active, false, memory_order_release);
    while (atomic_load_explicit(&team->helpers, memory_order_acquire))
        relax(&spins);
    free(team);
}

void emb_team_lead(emb_team *team)
{
    if (team)
        atomic_store_explicit(&team->active, true, memory_order_release);
}

void emb_team_dismiss(emb_team *team)
{
    if (team)
        atomic_store_explicit(&team->active, false, memory_order_release);
}

bool emb_team_active(const emb_team *team)
{
    return team && atomic_load_explicit(&team->active, memory_order_acquire);
}

unsigned emb_team_size(const emb_team *team)
{
    return team ? 1 + atomic_load_explicit(&team->helpers, memory_order_relaxed) : 1;
}

/* Claims and runs one chunk; false if there is none to claim. */
static bool work(emb_team *team)
{
    uint_fast64_t seen = atomic_load_explicit(&team->claim, memory_order_acquire);
    for (;;) {
        size_t next = seen & CHUNK_MASK, chunks = seen >> CHUNK_BITS & CHUNK_MASK;
        if (next >= chunks)
            return false;
        if (atomic_compare_exchange_weak_explicit(&team->claim, &seen, seen + 1, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            team->step(team->args, next);
            atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
            return true;
        }
    }
}

static void run_round(emb_team *team, emb_team_step step, void *args, size_t chunks)
{
    unsigned spins = 0;
    team->step = step;
    team->args = args;
    team->run++;
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    atomic_store_explicit(&team->claim, team->run << (2 * CHUNK_BITS) | (uint64_t)chunks << CHUNK_BITS,
                          memory_order_release);
    while (work(team))
        ;
    while (atomic_load_explicit(&team->done, memory_order_acquire) < chunks)
        relax(&spins);
}

void emb_team_run(emb_team *team, emb_team_step step, void *args, size_t chunks)
{
    if (chunks < 2 || chunks > CHUNK_MASK || emb_team_size(team) == 1) {
        for (size_t i = 0; i < chunks; i++)
            step(args, i);
        return;
    }
    run_round(team, step, args, chunks);
}

void emb_team_help(emb_team *team)
{
    const atomic_size_t none = 0;
    emb_team_help_until(team, &none);
}

void emb_team_help_until(emb_team *team, const atomic_size_t *other_work)
{
    unsigned spins = 0;
    atomic_fetch_add_explicit(&team->helpers, 1, memory_order_relaxed);
    while (atomic_load_explicit(&team->active, memory_order_acquire) &&
           !atomic_load_explicit(other_work, memory_order_relaxed))
        if (work(team))
            spins = 0;
        else
            relax(&spins);
    atomic_fetch_sub_explicit(&team->helpers, 1, memory_order_release);
}
