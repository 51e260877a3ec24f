/* Every chunk runs exactly once whoever runs it; helpers may come and go at any time. */
#include "base/team.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CHUNKS = 64, ROUNDS = 3000, HELPERS = 3 };

static emb_team *team;
static atomic_bool stop;
static atomic_uint helped;

struct round {
    unsigned char runs[CHUNKS]; /* plain: distinct chunks are distinct bytes, runs are ordered */
    unsigned round;
};

static void step(void *args, size_t chunk)
{
    struct round *round = args;
    round->runs[chunk]++;
}

static void *help(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop))
        if (emb_team_active(team)) {
            emb_team_help(team);
            atomic_fetch_add(&helped, 1);
        }
    return NULL;
}

static void chunks_run_once(void **state)
{
    (void)state;
    pthread_t threads[HELPERS];
    assert_int_equal(emb_team_open(&team, NULL), EMB_OK);
    for (int i = 0; i < HELPERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, help, NULL), 0);
    struct round round;
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t chunks = i % (CHUNKS + 1);
        if (i % 50 == 0) {
            emb_team_lead(team);
            while (i % 500 == 0 && emb_team_size(team) == 1)
                sched_yield(); /* in some rounds helpers are there for sure */
        }
        memset(&round, 0, sizeof round);
        round.round = i;
        emb_team_run(team, step, &round, chunks);
        for (size_t c = 0; c < CHUNKS; c++)
            assert_int_equal(round.runs[c], c < chunks);
        if (i % 50 == 49)
            emb_team_dismiss(team);
    }
    emb_team_dismiss(team);
    atomic_store(&stop, true);
    for (int i = 0; i < HELPERS; i++)
        pthread_join(threads[i], NULL);
    emb_team_close(team);
    assert_true(atomic_load(&helped) > 0);
}

static void no_team_runs_all(void **state)
{
    (void)state;
    struct round round = {{0}, 0};
    emb_team_run(NULL, step, &round, CHUNKS);
    for (size_t c = 0; c < CHUNKS; c++)
        assert_int_equal(round.runs[c], 1);
    assert_int_equal(emb_team_size(NULL), 1);
    assert_false(emb_team_active(NULL));
    emb_team_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_team_runs_all), cmocka_unit_test(chunks_run_once)};
    return cmocka_run_group_tests_name("team", tests, NULL, NULL);
}
