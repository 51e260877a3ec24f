/*
 * spend.c: blocks of a budget.
 *
 * A reserve and its settlement cost one transaction each, some tens of microseconds in SQLite and a round
 * trip in Redis; a gateway that adds 60 µs to a call cannot pay that each time. A block turns up to a thousand of
 * them into one, and changes nothing of what is promised: it is an ordinary reservation of the budget's, with
 * its expiry, and it is settled with the sum of what its calls cost. A process that is killed loses at most
 * what it would have lost with single settlements that were still queued: the last EMB_SPEND_MS.
 *
 * A block is known by its scopes and their limits. There is at most one that is open for each such set, in a
 * small table; it is closed when it is too old, used up, or its day is over, and settled when the last of its
 * calls has settled. A thread closes blocks that nobody asks for any more.
 *
 * One lock, held for a few comparisons; the budget is asked without it.
 */
#include "router/spend.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OPEN_BLOCKS = 32 };

typedef struct emb_spend_block {
    uint64_t hash; /* of scopes and limits */
    emb_budget_ticket ticket;
    uint64_t left_nusd, spent_nusd, opened_ns;
    size_t running; /* calls that have a part of it */
    bool closed;
} emb_spend_block;

struct emb_spend {
    emb_budget *budget;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool stop;
    emb_spend_block *open[OPEN_BLOCKS];
};

/* ---- blocks ---- */

static uint64_t hash_of(const emb_budget_scope *scopes, size_t count)
{
    uint64_t hash = count;
    for (size_t i = 0; i < count; i++) {
        hash = emb_hash(scopes[i].name, strlen(scopes[i].name), hash);
        hash = emb_hash(&scopes[i].limit_nusd, sizeof scopes[i].limit_nusd, hash);
    }
    return hash;
}

/* (locked) Takes it out of the table. Gives it back if it is to be settled now. */
static emb_spend_block *close_block(emb_spend *s, size_t slot)
{
    emb_spend_block *block = s->open[slot];
    s->open[slot] = NULL;
    block->closed = true;
    return block->running ? NULL : block;
}

/* (unlocked) */
static void settle_block(emb_spend *s, emb_spend_block *block)
{
    if (!block)
        return;
    emb_budget_settle(s->budget, &block->ticket, block->spent_nusd);
    free(block);
}

static bool is_over(const emb_spend *s, const emb_spend_block *block, uint64_t now_ns)
{
    return now_ns - block->opened_ns > EMB_SPEND_MS * UINT64_C(1000000) ||
           block->ticket.day != emb_budget_today(s->budget, NULL);
}

/* ---- reserving ---- */

/* A part of an open block. */
static bool take(emb_spend *s, uint64_t hash, uint64_t nusd, emb_spend_ticket *ticket)
{
    emb_spend_block *done = NULL;
    uint64_t now = emb_now_ns();
    bool taken = false;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < OPEN_BLOCKS && !taken; i++) {
        emb_spend_block *block = s->open[i];
        if (!block || block->hash != hash)
            continue;
        if (block->left_nusd < nusd || is_over(s, block, now)) {
            done = close_block(s, i);
            break;
        }
        block->left_nusd -= nusd;
        block->running++;
        ticket->block = block;
        ticket->nusd = nusd;
        taken = true;
    }
    pthread_mutex_unlock(&s->lock);
    settle_block(s, done);
    return taken;
}

/* How many calls' worth a block may be; 0: a limit is near. */
static uint64_t block_calls(emb_spend *s, const emb_budget_scope *scopes, size_t count, uint64_t nusd)
{
    emb_budget_use use;
    uint64_t calls = EMB_SPEND_MOST;
    for (size_t i = 0; i < count; i++) {
        if (scopes[i].limit_nusd == UINT64_MAX)
            continue;
        if (!emb_budget_peek(s->budget, scopes[i].name, &use))
            return 0;
        uint64_t used = use.spent_nusd + use.reserved_nusd, limit = scopes[i].limit_nusd;
        uint64_t left = used < limit ? limit - used : 0;
        uint64_t fit = nusd ? left / EMB_SPEND_PARTS / nusd : calls;
        calls = fit < calls ? fit : calls;
    }
    return calls < EMB_SPEND_LEAST || nusd > UINT64_MAX / EMB_SPEND_MOST ? 0 : calls;
}

/* Puts a block into the table, in the place of an empty slot or of the oldest. */
static emb_spend_block *put(emb_spend *s, emb_spend_block *block)
{
    size_t at = 0;
    for (size_t i = 0; i < OPEN_BLOCKS; i++) {
        if (!s->open[i]) {
            at = i;
            break;
        }
        if (s->open[i]->opened_ns < s->open[at]->opened_ns)
            at = i;
    }
    emb_spend_block *done = s->open[at] ? close_block(s, at) : NULL;
    s->open[at] = block;
    return done;
}

/* Opens a block with this call in it. */
static bool open_block(emb_spend *s, const emb_budget_scope *scopes, size_t count, uint64_t hash,
                       uint64_t nusd, uint64_t deadline_ns, emb_spend_ticket *ticket)
{
    emb_error ignored;
    uint64_t calls = block_calls(s, scopes, count, nusd);
    emb_spend_block *block = calls ? calloc(1, sizeof *block) : NULL;
    if (!block)
        return false;
    if (emb_budget_reserve(s->budget, scopes, count, nusd * calls, deadline_ns, &block->ticket, &ignored)) {
        free(block);
        return false;
    }
    block->hash = hash;
    block->left_nusd = nusd * (calls - 1);
    block->opened_ns = emb_now_ns();
    block->running = 1;
    ticket->block = block;
    ticket->nusd = nusd;
    pthread_mutex_lock(&s->lock);
    emb_spend_block *done = put(s, block);
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    settle_block(s, done);
    return true;
}

emb_status emb_spend_reserve(emb_spend *s, const emb_budget_scope *scopes, size_t count, uint64_t nusd,
                             uint64_t deadline_ns, emb_spend_ticket *ticket, emb_error *err)
{
    uint64_t hash = hash_of(scopes, count);
    ticket->block = NULL;
    ticket->nusd = nusd;
    if (take(s, hash, nusd, ticket))
        return EMB_OK;
    if (open_block(s, scopes, count, hash, nusd, deadline_ns, ticket))
        return EMB_OK;
    return emb_budget_reserve(s->budget, scopes, count, nusd, deadline_ns, &ticket->own, err);
}

void emb_spend_settle(emb_spend *s, const emb_spend_ticket *ticket, uint64_t actual_nusd)
{
    emb_spend_block *block = ticket->block, *done = NULL;
    if (!block) {
        emb_budget_settle(s->budget, &ticket->own, actual_nusd);
        return;
    }
    pthread_mutex_lock(&s->lock);
    block->spent_nusd += actual_nusd;
    if (actual_nusd < ticket->nusd)
        block->left_nusd += ticket->nusd - actual_nusd;
    if (--block->running == 0 && block->closed)
        done = block;
    pthread_mutex_unlock(&s->lock);
    settle_block(s, done);
}

/* ---- life ---- */

/* (locked) Closes what is over; one that is to be settled, or NULL. */
static emb_spend_block *close_next(emb_spend *s, bool all)
{
    uint64_t now = emb_now_ns();
    for (size_t i = 0; i < OPEN_BLOCKS; i++)
        if (s->open[i] && (all || is_over(s, s->open[i], now))) {
            emb_spend_block *done = close_block(s, i);
            if (done)
                return done;
        }
    return NULL;
}

static bool is_idle(const emb_spend *s)
{
    for (size_t i = 0; i < OPEN_BLOCKS; i++)
        if (s->open[i])
            return false;
    return true;
}

static void *sweep(void *context)
{
    emb_spend *s = context;
    emb_thread_background("embedd-spend");
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (is_idle(s)) {
            pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += EMB_SPEND_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        while (!s->stop && pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0)
            ;
        for (emb_spend_block *done; (done = close_next(s, false));) {
            pthread_mutex_unlock(&s->lock);
            settle_block(s, done);
            pthread_mutex_lock(&s->lock);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

emb_status emb_spend_open(emb_budget *budget, emb_spend **out, emb_error *err)
{
    pthread_condattr_t monotonic;
    emb_spend *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return emb_fail_nomem(err, "budget", sizeof *s);
    s->budget = budget;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&s->thread, NULL, sweep, s)) {
        pthread_mutex_destroy(&s->lock);
        pthread_cond_destroy(&s->wake);
        free(s);
        return emb_fail(err, EMB_E_NOMEM, NULL, "the thread of the budget's blocks cannot be started");
    }
    *out = s;
    return EMB_OK;
}

void emb_spend_close(emb_spend *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    for (emb_spend_block *done; (done = close_next(s, true));)
        settle_block(s, done);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free(s);
}
