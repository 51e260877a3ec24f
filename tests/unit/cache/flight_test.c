/* Single flight between threads: computed once, handed over, failed together; and mixes of everything at
 * random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "cache/parts.h"
#include "cache/value.h"
#include "support/cache_world.h"
#include "support/fake_l2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)

static emb_cache *open_cache(size_t l1_entries, size_t l1_bytes, fake_l2 *fake)
{
    emb_cache_options o = {
        .l1_entries = l1_entries, .l1_bytes = l1_bytes, .l2_deadline_ms = 50, .write_queue = 100};
    const emb_cache_parts parts = {fake ? &fake->base : NULL, "fake", NULL};
    emb_cache *cache = NULL;
    emb_error err = {0};
    if (emb_cache_open_with(&o, &parts, &cache, &err) != EMB_OK)
        fail_msg("%s", err.message);
    return cache;
}

/* A call in a thread. */
typedef struct caller {
    pthread_t thread;
    world_call call;
    unsigned numbers[8];
    size_t count;
    emb_status status;
    emb_error err;
} caller;

static void *run_caller(void *argument)
{
    caller *c = argument;
    c->status = world_embed(&c->call, c->numbers, c->count, &c->err);
    return NULL;
}

static void start_with_age(caller *c, emb_cache *cache, unsigned number, uint64_t max_age_s)
{
    c->call.cache = cache;
    c->call.policy = (emb_cache_policy)WORLD_POLICY;
    c->call.policy.max_age_s = max_age_s;
    c->numbers[0] = number;
    c->count = 1;
    assert_int_equal(pthread_create(&c->thread, NULL, run_caller, c), 0);
}

static void start(caller *c, emb_cache *cache, const unsigned *numbers, size_t count)
{
    c->call.cache = cache;
    c->call.policy = (emb_cache_policy)WORLD_POLICY;
    memcpy(c->numbers, numbers, count * sizeof *numbers);
    c->count = count;
    assert_int_equal(pthread_create(&c->thread, NULL, run_caller, c), 0);
}

/* A gate: who comes waits until it is opened. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned inside;
    bool open;
} gate;
#define GATE_INIT                                                     \
    {                                                                 \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false \
    }

static void enter(void *context)
{
    gate *g = context;
    pthread_mutex_lock(&g->lock);
    g->inside++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void wait_inside(gate *g, unsigned n)
{
    pthread_mutex_lock(&g->lock);
    while (g->inside < n)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void open_gate(gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static void wait_waiting(emb_cache *cache, size_t n)
{
    while (emb_cache_waiting(cache) < n)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static void test_computed_once(void **state)
{
    (void)state;
    emb_cache *cache = open_cache(1000, 16 << 20, NULL);
    gate g = GATE_INIT;
    caller leader = {.call = {.before = enter, .context = &g}}, others[8] = {0};
    start(&leader, cache, (unsigned[]){1, 2}, 2);
    wait_inside(&g, 1);
    for (unsigned i = 0; i < 8; i++)
        start(&others[i], cache, (unsigned[]){2, 1, 1}, 3);
    wait_waiting(cache, 8 * 2);
    open_gate(&g);
    unsigned computed = 0;
    pthread_join(leader.thread, NULL);
    for (unsigned i = 0; i < 8; i++) {
        pthread_join(others[i].thread, NULL);
        assert_int_equal(others[i].status, EMB_OK);
        assert_false(others[i].call.wrong);
        computed += others[i].call.computed;
        for (int k = 0; k < 3; k++)
            assert_int_equal(others[i].call.sources[k], EMB_CACHE_SHARED);
    }
    assert_int_equal(leader.call.computed, 2);
    assert_int_equal(computed, 0);
    emb_cache_stats s;
    emb_cache_get_stats(cache, &s);
    assert_int_equal(s.shared, 8 * 2);
    emb_cache_close(cache);
}

/* Each leads what the other waits for. */
static void test_crossing_calls(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        emb_cache *cache = open_cache(1000, 16 << 20, NULL);
        gate g = GATE_INIT;
        caller a = {.call = {.before = enter, .context = &g}}, b = a, c = {0};
        start(&a, cache, (unsigned[]){1}, 1);
        start(&b, cache, (unsigned[]){2}, 1);
        wait_inside(&g, 2);
        start(&c, cache, (unsigned[]){1, 2, 3}, 3);
        caller d = {0};
        start(&d, cache, (unsigned[]){3, 4, 2, 1}, 4);
        open_gate(&g);
        caller *all[] = {&a, &b, &c, &d};
        for (int i = 0; i < 4; i++) {
            pthread_join(all[i]->thread, NULL);
            assert_int_equal(all[i]->status, EMB_OK);
            assert_false(all[i]->call.wrong);
        }
        assert_int_equal(a.call.computed + b.call.computed + c.call.computed + d.call.computed, 4);
        emb_cache_close(cache);
    }
}

static void leader_fails(emb_status status, bool several, unsigned expect_computed, emb_status expect)
{
    emb_cache *cache = open_cache(1000, 16 << 20, NULL);
    gate g = GATE_INIT;
    caller leader = {.call = {.before = enter, .context = &g, .fail = status}}, others[3] = {0};
    emb_fail(&leader.err, status, "model", "the reason");
    start(&leader, cache, (unsigned[]){1, 2}, several ? 2 : 1);
    wait_inside(&g, 1);
    for (unsigned i = 0; i < 3; i++)
        start(&others[i], cache, (unsigned[]){1}, 1);
    wait_waiting(cache, 3);
    open_gate(&g);
    pthread_join(leader.thread, NULL);
    assert_int_equal(leader.status, status);
    unsigned computed = 0;
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(others[i].thread, NULL);
        assert_int_equal(others[i].status, expect);
        if (expect != EMB_OK)
            assert_string_equal(others[i].err.message, "the reason");
        assert_false(others[i].call.wrong);
        computed += others[i].call.computed;
    }
    assert_int_equal(computed, expect_computed);
    caller again = {0}; /* failures are not kept */
    start(&again, cache, (unsigned[]){1}, 1);
    pthread_join(again.thread, NULL);
    assert_int_equal(again.status, EMB_OK);
    emb_cache_close(cache);
}

static void test_leader_fails(void **state)
{
    (void)state;
    leader_fails(EMB_E_INTERNAL, false, 0, EMB_E_INTERNAL); /* shared */
    leader_fails(EMB_E_BUSY, true, 0, EMB_E_BUSY);
    leader_fails(EMB_E_LIMIT, false, 0, EMB_E_LIMIT); /* this very text */
    leader_fails(EMB_E_LIMIT, true, 1, EMB_OK);       /* perhaps another text of the request */
    leader_fails(EMB_E_CANCELLED, false, 1, EMB_OK);  /* handed over, to one */
    leader_fails(EMB_E_DEADLINE, true, 1, EMB_OK);
}

static void test_waiters_leave(void **state)
{
    (void)state;
    emb_cache *cache = open_cache(1000, 16 << 20, NULL);
    gate g = GATE_INIT;
    volatile int cancel = 0;
    caller leader = {.call = {.before = enter, .context = &g}};
    caller late = {.call = {.deadline_ns = emb_now_ns() + SECOND / 20}};
    caller cancelled = {.call = {.cancel = &cancel}};
    start(&leader, cache, (unsigned[]){1}, 1);
    wait_inside(&g, 1);
    start(&late, cache, (unsigned[]){1}, 1);
    start(&cancelled, cache, (unsigned[]){1}, 1);
    pthread_join(late.thread, NULL);
    assert_int_equal(late.status, EMB_E_DEADLINE);
    __atomic_store_n(&cancel, 1, __ATOMIC_SEQ_CST);
    pthread_join(cancelled.thread, NULL);
    assert_int_equal(cancelled.status, EMB_E_CANCELLED);
    open_gate(&g);
    pthread_join(leader.thread, NULL);
    assert_int_equal(leader.status, EMB_OK);
    emb_cache_close(cache);
}

/* A waiter that wants a young vector is not served with an old one that the leader finds in L2: it computes
 * its own. */
static void test_waiter_wants_younger(void **state)
{
    (void)state;
    fake_l2 *fake = fake_l2_make();
    emb_cache *cache = open_cache(1000, 16 << 20, fake);
    float vector[WORLD_LONGEST];
    unsigned char bytes[EMB_VALUE_HEADER + sizeof vector];
    emb_cache_key key = world_key(1);
    uint64_t hour_ago = (uint64_t)time(NULL) - 3600;
    world_vector(1, vector);
    assert_true(emb_value_pack(&key, &(emb_value){vector, world_dimension(1), 1, hour_ago, 0}, bytes));
    emb_l2_item item = {&key, bytes, emb_value_size(world_dimension(1)), 0, "model", NULL, 0};
    emb_error err;
    assert_int_equal(fake->base.ops->put_many(&fake->base, &item, 1, emb_now_ns() + SECOND, &err), EMB_OK);
    unsigned gets = atomic_load(&fake->gets);
    atomic_store(&fake->mode, FAKE_L2_HANGS); /* the leader stays at L2 while the waiter comes */
    caller leader = {0}, waiter = {0};
    start(&leader, cache, (unsigned[]){1}, 1);
    while (atomic_load(&fake->gets) == gets)
        nanosleep(&(struct timespec){0, 200000}, NULL);
    start_with_age(&waiter, cache, 1, 60);
    atomic_store(&fake->mode, FAKE_L2_WORKS);
    pthread_join(leader.thread, NULL);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(leader.status, EMB_OK);
    assert_int_equal(waiter.status, EMB_OK);
    assert_false(leader.call.wrong || waiter.call.wrong);
    /* or the machine was so slow that the leader gave L2 up and computed, which is young */
    assert_int_equal(waiter.call.sources[0], leader.call.computed ? EMB_CACHE_SHARED : EMB_CACHE_COMPUTED);
    emb_cache_close(cache);
    fake_l2_free(fake);
}

/* ---- everything at random ---- */

typedef struct chaos {
    pthread_t thread;
    emb_cache *cache;
    uint64_t random;
    unsigned calls, failures, wrong;
    volatile int cancel;
} chaos;

static uint64_t draw(chaos *c)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    return c->random ^= c->random << 17;
}

static void *run_chaos(void *argument)
{
    chaos *c = argument;
    static const emb_status failures[] = {EMB_E_INTERNAL, EMB_E_BUSY, EMB_E_LIMIT, EMB_E_CANCELLED,
                                          EMB_E_DEADLINE};
    for (unsigned i = 0; i < c->calls; i++) {
        uint64_t r = draw(c);
        world_call call = {.cache = c->cache, .policy = WORLD_POLICY};
        call.policy.read = r % 10 != 0;
        call.policy.write = r / 10 % 10 != 0;
        call.policy.shared = r / 100 % 8 != 0;
        call.policy.ttl_s = r / 1000 % 4 == 0 ? 1 : 0;
        call.policy.max_age_s = r / 4000 % 8 == 0;
        call.compute_us = r / 32000 % 4 == 0 ? 200 : 0;
        call.fail = r / 128000 % 12 == 0 ? failures[r / 2000000 % 5] : EMB_OK;
        if (r / 12000000 % 6 == 0)
            call.deadline_ns = emb_now_ns() + r / 72000000 % 3000000;
        unsigned numbers[40];
        size_t count = draw(c) % 40;
        for (size_t k = 0; k < count; k++)
            numbers[k] = (unsigned)(draw(c) % (k % 3 ? 60 : 600));
        emb_error err = {0};
        emb_status st = world_embed(&call, numbers, count, &err);
        c->failures += st != EMB_OK;
        c->wrong += call.wrong;
        if (r % 997 == 0) {
            uint64_t removed;
            (void)!emb_cache_remove(c->cache, &(emb_cache_filter){.model = r & 1 ? "model" : "none"},
                                    &removed, &err);
        }
    }
    return NULL;
}

static const fake_l2_mode SICKNESSES[] = {FAKE_L2_WORKS,     FAKE_L2_FLIPS_BITS, FAKE_L2_WRONG_VALUES,
                                          FAKE_L2_WORKS,     FAKE_L2_GARBAGE,    FAKE_L2_HALF_THEN_FAILS,
                                          FAKE_L2_TWICE,     FAKE_L2_FAILS,      FAKE_L2_WORKS,
                                          FAKE_L2_READ_ONLY, FAKE_L2_HALF_SIZE,  FAKE_L2_REFUSES_ODD};

/* Whatever happens, a vector that was answered is that of its key; and every vector that was to be written is
 * counted. */
static void test_random_mixes(void **state)
{
    (void)state;
    for (unsigned run = 0; run < 3; run++) {
        fake_l2 *fake = run == 2 ? NULL : fake_l2_make();
        emb_cache *cache = open_cache(run == 0 ? 100 : 1000, run == 0 ? 64 << 10 : 1 << 20, fake);
        chaos threads[4];
        for (unsigned i = 0; i < 4; i++) {
            threads[i] =
                (chaos){.cache = cache, .random = 0x9E3779B97F4A7C15u * (run * 4 + i + 1), .calls = 1500};
            assert_int_equal(pthread_create(&threads[i].thread, NULL, run_chaos, &threads[i]), 0);
        }
        for (unsigned i = 0; fake && i < 24; i++) {
            atomic_store(&fake->mode, SICKNESSES[i % (sizeof SICKNESSES / sizeof *SICKNESSES)]);
            nanosleep(&(struct timespec){0, 15000000}, NULL);
        }
        if (fake)
            atomic_store(&fake->mode, FAKE_L2_WORKS);
        for (unsigned i = 0; i < 4; i++)
            pthread_join(threads[i].thread, NULL);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(threads[i].wrong, 0);
            assert_true(threads[i].failures < threads[i].calls * 9 / 10);
        }
        assert_true(emb_cache_flush(cache, emb_now_ns() + 30 * SECOND));
        emb_cache_stats s;
        emb_cache_get_stats(cache, &s);
        assert_int_equal(s.queued, 0);
        if (fake)
            assert_int_equal(s.stored, atomic_load(&fake->items));
        emb_cache_close(cache);
        if (fake)
            fake_l2_free(fake);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_computed_once),        cmocka_unit_test(test_crossing_calls),
        cmocka_unit_test(test_leader_fails),         cmocka_unit_test(test_waiters_leave),
        cmocka_unit_test(test_waiter_wants_younger), cmocka_unit_test(test_random_mixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
