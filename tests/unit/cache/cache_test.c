/* The cache's tiers and policies, over a store that does what the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cache/parts.h"
#include "support/cache_world.h"
#include "support/fail_alloc.h"
#include "support/fake_l2.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)

static uint64_t clock_s;
static fake_l2 *fake;
static emb_cache *cache;

static uint64_t fake_clock(void)
{
    return __atomic_load_n(&clock_s, __ATOMIC_RELAXED);
}

static emb_cache_options options(void)
{
    return (emb_cache_options){
        .l1_entries = 1000, .l1_bytes = 16 << 20, .l2_deadline_ms = 500, .write_queue = 1000};
}

static void open_cache(const emb_cache_options *o, bool with_l2)
{
    emb_error err = {0};
    const emb_cache_parts parts = {with_l2 ? &fake->base : NULL, "fake", fake_clock};
    if (emb_cache_open_with(o, &parts, &cache, &err) != EMB_OK)
        fail_msg("%s", err.message);
}

static int setup(void **state)
{
    (void)state;
    clock_s = (uint64_t)time(NULL);
    fake = fake_l2_make();
    emb_cache_options o = options();
    open_cache(&o, true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    emb_cache_close(cache);
    fake_l2_free(fake);
    return 0;
}

/* An empty L1 over the same L2. */
static void reopen(void)
{
    emb_cache_options o = options();
    emb_cache_close(cache);
    open_cache(&o, true);
}

static void flush(void)
{
    assert_true(emb_cache_flush(cache, emb_now_ns() + 10 * SECOND));
}

static emb_cache_stats stats(void)
{
    emb_cache_stats s;
    emb_cache_get_stats(cache, &s);
    return s;
}

static world_call call_with(emb_cache_policy policy)
{
    return (world_call){.cache = cache, .policy = policy};
}

/* Embeds, checks the vectors, and returns how many were computed. */
static unsigned embed_with(emb_cache_policy policy, const unsigned *numbers, size_t count, world_call *out)
{
    world_call call = call_with(policy);
    emb_error err = {0};
    if (world_embed(&call, numbers, count, &err) != EMB_OK)
        fail_msg("%s", err.message);
    assert_false(call.wrong);
    if (out)
        *out = call;
    return call.computed;
}

static unsigned embed(const unsigned *numbers, size_t count, world_call *out)
{
    return embed_with((emb_cache_policy)WORLD_POLICY, numbers, count, out);
}

static unsigned embed_one(unsigned n)
{
    return embed(&n, 1, NULL);
}

static bool peek_one(unsigned n, emb_cache_policy policy)
{
    float vector[WORLD_LONGEST];
    emb_cache_lookup l = {.key = world_key(n), .vector = vector, .dimension = world_dimension(n)};
    bool there = emb_cache_peek(cache, &l, 1, &policy);
    if (there)
        assert_true(world_is(n, vector) && l.tokens == n && l.source == EMB_CACHE_L1);
    return there;
}

/* Until a condition of the cache's thread holds. */
#define WAIT_FOR(condition)                                  \
    do {                                                     \
        uint64_t wait_end_ = emb_now_ns() + 20 * SECOND;     \
        while (!(condition)) {                               \
            if (emb_now_ns() > wait_end_)                    \
                fail_msg("never came true: %s", #condition); \
            nanosleep(&(struct timespec){0, 2000000}, NULL); \
        }                                                    \
    } while (0)

/* ---- tiers ---- */

static void test_tiers_in_turn(void **state)
{
    (void)state;
    world_call call;
    assert_int_equal(embed((unsigned[]){1, 2, 3}, 3, &call), 3);
    assert_int_equal(call.sources[0], EMB_CACHE_COMPUTED);
    assert_int_equal(embed((unsigned[]){3, 2, 4}, 3, &call), 1);
    assert_int_equal(call.sources[0], EMB_CACHE_L1);
    assert_int_equal(call.sources[2], EMB_CACHE_COMPUTED);
    flush();
    reopen();
    unsigned gets = atomic_load(&fake->gets);
    assert_int_equal(embed((unsigned[]){5, 1, 2, 3, 4}, 5, &call), 1);
    assert_int_equal(atomic_load(&fake->gets), gets + 1); /* one round trip */
    assert_int_equal(call.sources[0], EMB_CACHE_COMPUTED);
    for (int i = 1; i < 5; i++)
        assert_int_equal(call.sources[i], EMB_CACHE_L2);
    assert_int_equal(embed((unsigned[]){1, 2, 3, 4}, 4, &call), 0);
    assert_int_equal(call.sources[0], EMB_CACHE_L1); /* what L2 answered is kept in L1 */
    emb_cache_stats s = stats();
    assert_int_equal(s.l1.hits, 4);
    assert_int_equal(s.l1.misses, 5);
    assert_int_equal(s.l2.hits, 4);
    assert_int_equal(s.l2.misses, 1);
    assert_int_equal(s.l1.entries, 5);
    assert_string_equal(s.l2_kind, "fake");
    assert_true(s.l2_up);
}

static void test_duplicates(void **state)
{
    (void)state;
    world_call call;
    assert_int_equal(embed((unsigned[]){7, 8, 7, 7, 9, 8}, 6, &call), 3);
    assert_int_equal(call.sources[0], EMB_CACHE_COMPUTED);
    assert_int_equal(call.sources[2], EMB_CACHE_SHARED);
    assert_int_equal(call.sources[3], EMB_CACHE_SHARED);
    assert_int_equal(call.sources[5], EMB_CACHE_SHARED);
    flush();
    assert_int_equal(atomic_load(&fake->items), 3);
    reopen();
    atomic_store(&fake->keys, 0);
    assert_int_equal(embed((unsigned[]){7, 8, 7, 7, 9, 8}, 6, &call), 0);
    assert_int_equal(atomic_load(&fake->keys), 3); /* L2 is asked once for each key */
    /* no-cache and private calls as well */
    assert_int_equal(embed_with((emb_cache_policy){.write = true}, (unsigned[]){7, 7}, 2, NULL), 1);
    assert_int_equal(embed_with((emb_cache_policy){.read = true}, (unsigned[]){50, 50, 51}, 3, NULL), 2);
    assert_int_equal(embed(NULL, 0, NULL), 0);
}

static void test_without_l2_and_without_l1(void **state)
{
    (void)state;
    emb_cache_options o = options();
    emb_cache_close(cache);
    open_cache(&o, false);
    assert_int_equal(embed_one(1), 1);
    assert_int_equal(embed_one(1), 0);
    uint64_t removed;
    emb_error err;
    assert_true(emb_cache_flush(cache, emb_now_ns()));
    assert_int_equal(emb_cache_remove(cache, &(emb_cache_filter){0}, &removed, &err), EMB_OK);
    assert_int_equal(removed, 1);
    assert_int_equal(emb_cache_preload(cache, 10, &removed, &err), EMB_OK);
    assert_int_equal(removed, 0);
    assert_string_equal(stats().l2_kind, "none");
    emb_cache_close(cache);
    o.l1_entries = 0;
    open_cache(&o, true);
    assert_int_equal(embed_one(2), 1);
    flush();
    assert_int_equal(embed_one(2), 0);
    assert_int_equal(stats().l1.misses, 0);
    assert_int_equal(stats().l2.hits, 1);
}

static void test_peek(void **state)
{
    (void)state;
    const emb_cache_policy policy = WORLD_POLICY;
    assert_false(peek_one(1, policy));
    embed_one(1);
    embed_one(2);
    uint64_t misses = stats().l1.misses;
    assert_true(peek_one(1, policy));
    assert_false(peek_one(1, (emb_cache_policy){.write = true}));
    float vectors[3][WORLD_LONGEST];
    emb_cache_lookup l[3];
    for (unsigned i = 0; i < 3; i++)
        l[i] = (emb_cache_lookup){
            .key = world_key(i + 1), .vector = vectors[i], .dimension = world_dimension(i + 1)};
    assert_false(emb_cache_peek(cache, l, 3, &policy)); /* 3 is not there */
    assert_int_equal(stats().l1.hits, 1);
    assert_true(emb_cache_peek(cache, l, 2, &policy));
    assert_int_equal(stats().l1.hits, 3);
    assert_int_equal(stats().l1.misses, misses);
    assert_true(emb_cache_peek(cache, l, 0, &policy));
}

/* ---- policies ---- */

/* Each combination: whether it uses what is in L1 and L2, and what of it is in L1 and L2 afterwards. */
static void test_policies(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 8; bits++) {
        emb_cache_policy p = {.read = bits & 1, .write = bits & 2, .shared = bits & 4, .model = "model"};
        unsigned in_l1 = 100 * bits + 1, in_l2 = 100 * bits + 2, nowhere = 100 * bits + 3;
        embed_one(in_l2);
        flush();
        reopen();
        embed_one(in_l1);
        flush();
        unsigned asked = atomic_load(&fake->gets);
        assert_int_equal(embed_with(p, &in_l1, 1, NULL), p.read ? 0 : 1);
        assert_int_equal(embed_with(p, &in_l2, 1, NULL), p.read && p.shared ? 0 : 1);
        assert_int_equal(embed_with(p, &nowhere, 1, NULL), 1);
        if (!p.read || !p.shared)
            assert_int_equal(atomic_load(&fake->gets), asked);
        flush();
        emb_cache_key key = world_key(nowhere);
        assert_int_equal(fake_l2_holds(fake, &key, NULL), p.write && p.shared);
        assert_int_equal(peek_one(nowhere, (emb_cache_policy)WORLD_POLICY), p.write);
        assert_int_equal(peek_one(in_l2, (emb_cache_policy)WORLD_POLICY), p.write);
    }
}

static void test_ages(void **state)
{
    (void)state;
    emb_cache_policy short_lived = WORLD_POLICY, young = WORLD_POLICY;
    short_lived.ttl_s = young.ttl_s = 1000;
    young.max_age_s = 60;
    assert_int_equal(embed_with(short_lived, (unsigned[]){1}, 1, NULL), 1);
    assert_int_equal(embed_with(young, (unsigned[]){1}, 1, NULL), 0);
    flush();
    clock_s += 61;
    assert_false(peek_one(1, young));
    assert_true(peek_one(1, short_lived));
    assert_int_equal(embed_with(young, (unsigned[]){1}, 1, NULL), 1); /* neither L1 nor L2 is young enough */
    assert_true(peek_one(1, young));
    clock_s += 899; /* jitter takes at most a tenth */
    assert_true(peek_one(1, short_lived));
    clock_s += 101;
    assert_false(peek_one(1, short_lived));
    flush();
    reopen();
    assert_int_equal(embed_one(1), 1); /* the store still has it; its own date says that it has expired */
}

static void test_jitter(void **state)
{
    (void)state;
    emb_cache_policy p = WORLD_POLICY;
    p.ttl_s = 1000;
    for (unsigned n = 0; n < 200; n++)
        embed_with(p, &n, 1, NULL);
    unsigned alive[11];
    for (unsigned step = 0; step <= 10; step++) {
        alive[step] = 0;
        for (unsigned n = 0; n < 200; n++)
            alive[step] += peek_one(n, p);
        clock_s += step == 0 ? 899 : 12;
    }
    assert_int_equal(alive[0], 200);
    assert_int_equal(alive[1], 200);
    assert_true(alive[5] > 60 && alive[5] < 160); /* spread evenly */
    assert_int_equal(alive[10], 0);
}

static void test_store_text_and_adjust(void **state)
{
    (void)state;
    emb_cache_options o = options();
    embed_one(1);
    flush();
    emb_cache_key one = world_key(1), two = world_key(2);
    assert_true(fake_l2_holds(fake, &one, NULL));
    assert_false(fake_l2_holds(fake, &one, "text 1"));
    o.store_text = true;
    o.l1_entries = 10;
    o.l2_bytes = 12345;
    emb_cache_adjust(cache, &o);
    embed_one(2);
    flush();
    assert_true(fake_l2_holds(fake, &two, "text 2"));
    assert_int_equal(atomic_load(&fake->maximum), 12345);
    for (unsigned n = 0; n < 100; n++)
        embed_one(n);
    assert_true(stats().l1.entries <= 10);
    assert_int_equal(stats().l1_limit_entries, 10);
}

/* ---- vectors that must not spread ---- */

static void test_not_a_number(void **state)
{
    (void)state;
    const emb_cache_policy policy = WORLD_POLICY;
    float vector[WORLD_LONGEST];
    emb_cache_lookup l = {.key = world_key(1), .vector = vector, .dimension = world_dimension(1)};
    emb_cache_flight *flight;
    emb_error err;
    emb_status st;
    size_t todo[1], n;
    assert_int_equal(emb_cache_begin(cache, &l, 1, &policy, 0, NULL, &flight, &err), EMB_OK);
    assert_true(emb_cache_next(flight, todo, &n, &st, &err));
    world_vector(1, vector);
    vector[world_dimension(1) - 1] = NAN;
    emb_cache_publish(flight, todo, n);
    assert_false(emb_cache_next(flight, todo, &n, &st, &err));
    assert_int_equal(st, EMB_OK);
    emb_cache_end(flight, EMB_OK, NULL);
    flush();
    assert_false(peek_one(1, policy));
    assert_int_equal(atomic_load(&fake->items), 0);
    assert_int_equal(embed_one(1), 1);
}

static void test_bad_values_of_l2(void **state)
{
    (void)state;
    static const fake_l2_mode modes[] = {FAKE_L2_FLIPS_BITS, FAKE_L2_GARBAGE, FAKE_L2_WRONG_VALUES,
                                         FAKE_L2_HALF_SIZE};
    unsigned numbers[40];
    for (unsigned i = 0; i < 40; i++)
        numbers[i] = 7 * i + 3; /* all of one dimension */
    for (size_t m = 0; m < 4; m++) {
        embed(numbers, 40, NULL);
        flush();
        reopen();
        atomic_store(&fake->mode, modes[m]);
        assert_int_equal(embed(numbers, 40, NULL), 40); /* embed checks every vector */
        assert_int_equal(stats().l2.corrupt, 40);
        assert_int_equal(stats().l2.hits, 0);
        assert_true(stats().l2_up);
        atomic_store(&fake->mode, FAKE_L2_WORKS);
        flush();
        unsigned removes = atomic_load(&fake->removes);
        assert_true(removes > 0); /* and what does not check is removed */
        reopen();
    }
    WAIT_FOR(atomic_load(&fake->removes) >= 160);
    atomic_store(&fake->mode, FAKE_L2_TWICE);
    embed(numbers, 40, NULL);
    reopen();
    embed(numbers, 40, NULL);
}

static void test_removed_corrupt_value(void **state)
{
    (void)state;
    embed_one(3);
    flush();
    reopen();
    emb_cache_key key = world_key(3);
    atomic_store(&fake->mode, FAKE_L2_FLIPS_BITS);
    emb_cache_policy no_store = {.read = true, .shared = true};
    assert_int_equal(embed_with(no_store, (unsigned[]){3}, 1, NULL), 1);
    WAIT_FOR(!fake_l2_holds(fake, &key, NULL));
}

/* ---- a sick L2 ---- */

static void test_down_and_back(void **state)
{
    (void)state;
    static const fake_l2_mode modes[] = {FAKE_L2_FAILS, FAKE_L2_HANGS};
    for (unsigned m = 0; m < 2; m++) {
        unsigned base = 1000 * (m + 1);
        embed_one(base);
        flush();
        atomic_store(&fake->mode, modes[m]);
        for (unsigned i = 1; i <= 3; i++) {
            uint64_t start = emb_now_ns();
            assert_int_equal(embed_one(base + i), 1);
            assert_true(emb_now_ns() - start < 10 * SECOND); /* half a second, and a loaded machine */
        }
        emb_cache_stats s = stats();
        assert_false(s.l2_up);
        assert_true(s.l2_error[0]);
        assert_true((modes[m] == FAKE_L2_FAILS ? s.l2_failures : s.l2_timeouts) >= 3);
        unsigned keys = atomic_load(&fake->keys);
        for (unsigned i = 4; i < 40; i++)
            assert_int_equal(embed_one(base + i), 1);
        assert_true(atomic_load(&fake->keys) - keys < 36); /* probes at most */
        assert_true(stats().queued > 0);
        WAIT_FOR(stats().l2_failures + stats().l2_timeouts >
                 s.l2_failures + s.l2_timeouts); /* a probe failed */
        atomic_store(&fake->mode, FAKE_L2_WORKS);
        WAIT_FOR(stats().l2_up);
        flush(); /* what was queued meanwhile is written */
        for (unsigned i = 0; i < 40; i++) {
            emb_cache_key key = world_key(base + i);
            assert_true(fake_l2_holds(fake, &key, NULL));
        }
    }
    assert_int_equal(stats().dropped, 0);
}

static void test_down_from_the_start(void **state)
{
    (void)state;
    atomic_store(&fake->mode, FAKE_L2_FAILS);
    reopen();
    assert_false(stats().l2_up);
    assert_int_equal(embed_one(1), 1);
    atomic_store(&fake->mode, FAKE_L2_WORKS);
    WAIT_FOR(stats().l2_up);
    flush();
    assert_int_equal(stats().stored, 1);
}

static void test_deadlines_of_l2(void **state)
{
    (void)state;
    atomic_store(&fake->mode, FAKE_L2_HANGS);
    uint64_t start = emb_now_ns();
    for (unsigned i = 0; i < 10; i++) { /* a request in a hurry says nothing of L2 */
        world_call call = call_with((emb_cache_policy)WORLD_POLICY);
        call.deadline_ns = emb_now_ns() + 5000000;
        emb_error err;
        assert_int_equal(world_embed(&call, (unsigned[]){500 + i}, 1, &err), EMB_OK);
        assert_int_equal(call.computed, 1);
    }
    assert_true(stats().l2_up);
    assert_true(stats().l2_timeouts >= 10);
    assert_true(emb_now_ns() - start < 4 * SECOND); /* L2's own deadline would be five */
    atomic_store(&fake->mode, FAKE_L2_HALF_THEN_FAILS);
    world_call call;
    atomic_store(&fake->mode, FAKE_L2_WORKS);
    embed((unsigned[]){1, 2, 3, 4}, 4, NULL);
    flush();
    reopen();
    atomic_store(&fake->mode, FAKE_L2_HALF_THEN_FAILS);
    assert_int_equal(embed((unsigned[]){1, 2, 3, 4}, 4, &call), 2); /* what it said before it failed counts */
}

static void test_writes_that_fail(void **state)
{
    (void)state;
    atomic_store(&fake->mode, FAKE_L2_READ_ONLY);
    for (unsigned n = 0; n < 300; n++)
        embed_one(n);
    WAIT_FOR(strstr(stats().l2_error, "read-only"));
    assert_true(stats().l2_up); /* it still answers */
    assert_int_equal(stats().queued, 300);
    assert_false(emb_cache_flush(cache, emb_now_ns() + SECOND / 10));
    atomic_store(&fake->mode, FAKE_L2_WORKS);
    flush();
    assert_int_equal(stats().stored, 300);
    assert_true(atomic_load(&fake->puts) < 100);    /* in batches */
    atomic_store(&fake->mode, FAKE_L2_REFUSES_ODD); /* tokens are the number */
    for (unsigned n = 400; n < 440; n++)
        embed_one(n);
    flush();
    emb_cache_stats s = stats();
    assert_int_equal(s.write_failures, 20);
    assert_int_equal(s.stored, 320);
    assert_int_equal(s.dropped, 0);
}

static void test_queue_is_bounded(void **state)
{
    (void)state;
    emb_cache_options o = options();
    o.write_queue = 20;
    emb_cache_close(cache);
    atomic_store(&fake->mode, FAKE_L2_READ_ONLY);
    open_cache(&o, true);
    for (unsigned n = 0; n < 50; n++)
        embed_one(n);
    emb_cache_stats s = stats();
    assert_int_equal(s.queued, 20);
    assert_int_equal(s.dropped, 30);
    atomic_store(&fake->mode, FAKE_L2_WORKS);
    flush();
    s = stats();
    assert_int_equal(s.stored, 20);
    assert_int_equal(s.queued, 0);
}

static void test_close_writes_what_waits(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 200; n++)
        embed_one(n);
    reopen();
    assert_int_equal(atomic_load(&fake->items), 200);
    atomic_store(&fake->mode, FAKE_L2_HANGS);
    embed_one(1000);
    uint64_t start = emb_now_ns();
    reopen(); /* closing gives up after its time */
    assert_true(emb_now_ns() - start < 8 * SECOND);
    atomic_store(&fake->mode, FAKE_L2_WORKS);
}

/* ---- administration ---- */

static void test_removal(void **state)
{
    (void)state;
    emb_cache_policy other = WORLD_POLICY;
    other.model = "other";
    for (unsigned n = 0; n < 30; n++)
        embed_with(n < 10 ? other : (emb_cache_policy)WORLD_POLICY, &n, 1, NULL);
    flush();
    uint64_t removed;
    emb_error err = {0};
    emb_cache_key key = world_key(15), one = world_key(1);
    assert_int_equal(emb_cache_remove(cache, &(emb_cache_filter){.key = &key}, &removed, &err), EMB_OK);
    assert_int_equal(removed, 1);
    assert_int_equal(emb_cache_remove(cache, &(emb_cache_filter){.model = "other"}, &removed, &err), EMB_OK);
    assert_int_equal(removed, 10);
    assert_false(peek_one(1, (emb_cache_policy)WORLD_POLICY));
    assert_false(fake_l2_holds(fake, &one, NULL));
    assert_true(peek_one(20, (emb_cache_policy)WORLD_POLICY));
    assert_int_equal(stats().l1.entries, 19);
    /* what waits to be written is removed too */
    atomic_store(&fake->mode, FAKE_L2_READ_ONLY);
    embed_with(other, (unsigned[]){1, 2}, 2, NULL);
    embed_one(50);
    assert_int_equal(emb_cache_remove(cache, &(emb_cache_filter){.model = "other"}, &removed, &err), EMB_OK);
    assert_int_equal(removed, 2);
    atomic_store(&fake->mode, FAKE_L2_WORKS);
    flush();
    assert_false(fake_l2_holds(fake, &one, NULL));
    assert_int_equal(stats().dropped, 2);
    /* L2 cannot be reached: L1 is cleared all the same */
    atomic_store(&fake->mode, FAKE_L2_FAILS);
    assert_int_equal(emb_cache_remove(cache, &(emb_cache_filter){0}, &removed, &err), EMB_E_IO);
    assert_true(strstr(err.message, "fake: it fails") != NULL);
    assert_int_equal(stats().l1.entries, 0);
    atomic_store(&fake->mode, FAKE_L2_WORKS);
}

typedef struct seen {
    unsigned count, sum;
} seen;

static bool on_visit(void *context, const emb_cache_key *key, const char *model, const float *vector,
                     uint32_t dimension, uint32_t tokens, const char *text, size_t text_length)
{
    seen *s = context;
    emb_cache_key expected = world_key(tokens);
    (void)text, (void)text_length;
    if (memcmp(key, &expected, sizeof *key) != 0 || strcmp(model, "model") != 0 ||
        dimension != world_dimension(tokens) || !world_is(tokens, vector))
        return false;
    s->count++;
    s->sum += tokens;
    return true;
}

static void test_preload(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 100; n++)
        embed_one(n);
    flush();
    reopen();
    embed((unsigned[]){10, 20, 30}, 3, NULL);
    reopen();
    seen s = {0};
    emb_error err = {0};
    uint64_t loaded;
    assert_int_equal(emb_cache_most_used(cache, 3, on_visit, &s, &err), EMB_OK);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.sum, 60);
    assert_int_equal(emb_cache_preload(cache, 1000, &loaded, &err), EMB_OK);
    assert_int_equal(loaded, 100);
    unsigned gets = atomic_load(&fake->gets);
    for (unsigned n = 0; n < 100; n++)
        assert_int_equal(embed_one(n), 0);
    assert_int_equal(atomic_load(&fake->gets), gets);
}

static void test_metrics(void **state)
{
    (void)state;
    emb_metrics *m;
    emb_error err;
    assert_int_equal(emb_metrics_open(&m, &err), EMB_OK);
    emb_cache_options o = options();
    o.metrics = m;
    emb_cache_close(cache);
    open_cache(&o, true);
    embed((unsigned[]){1, 2, 3}, 3, NULL);
    embed((unsigned[]){1, 2, 4}, 3, NULL);
    flush();
    emb_buf text = EMB_BUF_INIT(1 << 22);
    assert_int_equal(emb_metrics_write_prometheus(m, &text), EMB_OK);
    const char *all = emb_buf_cstr(&text);
    static const char *const lines[] = {
        "embedd_cache_hits_total{tier=\"l1\"} 2\n",
        "embedd_cache_misses_total{tier=\"l1\"} 4\n",
        "embedd_cache_misses_total{tier=\"l2\"} 4\n",
        "embedd_cache_entries{tier=\"l1\"} 4\n",
        "embedd_cache_entries{tier=\"l2\"} 4\n",
        "embedd_cache_writes_total{result=\"stored\"} 4\n",
        "embedd_cache_writes_total{result=\"dropped\"} 0\n",
        "embedd_cache_write_queue 0\n",
        "embedd_cache_l2_up 1\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(all, lines[i]))
            fail_msg("no line %s in\n%s", lines[i], all);
    emb_cache_close(cache);
    emb_buf_clear(&text);
    assert_int_equal(emb_metrics_write_prometheus(m, &text), EMB_OK); /* does not look at the closed cache */
    emb_buf_fini(&text);
    emb_metrics_close(m);
    o.metrics = NULL;
    open_cache(&o, true);
}

static void test_urls(void **state)
{
    (void)state;
    emb_cache_options o = options();
    emb_cache *c;
    emb_error err = {0};
    o.l2_url = "mysql://user:secret@host/db";
    assert_int_equal(emb_cache_open(&o, &c, &err), EMB_E_INVALID);
    assert_non_null(strstr(err.message, "mysql"));
    assert_null(strstr(err.message, "secret"));
    static const char *const none[] = {NULL, "", "none"};
    for (int i = 0; i < 3; i++) {
        o.l2_url = none[i];
        assert_int_equal(emb_cache_open(&o, &c, &err), EMB_OK);
        emb_cache_close(c);
    }
    o.l2_url = "sqlite:/nowhere/at/all/cache.sqlite"; /* cannot be reached, which is no error */
    assert_int_equal(emb_cache_open(&o, &c, &err), EMB_OK);
    emb_cache_stats s;
    emb_cache_get_stats(c, &s);
    assert_false(s.l2_up);
    assert_non_null(strstr(s.l2_error, "/nowhere/at/all/cache.sqlite"));
    emb_cache_close(c);
}

static void test_short_of_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    emb_cache_options o = options();
    o.l1_entries = 100;
    o.l1_bytes = 1 << 20;
    const emb_cache_parts parts = {NULL, NULL, fake_clock};
    for (size_t n = 1;; n++) {
        size_t live = fail_alloc_live();
        emb_cache *c = NULL;
        emb_error err;
        fail_alloc_at(n);
        emb_status st = emb_cache_open_with(&o, &parts, &c, &err);
        if (st == EMB_OK) {
            world_call call = {.cache = c, .policy = WORLD_POLICY};
            float vectors[3][WORLD_LONGEST];
            emb_cache_lookup l[3];
            size_t todo[3], count;
            emb_cache_flight *flight;
            for (unsigned i = 0; i < 3; i++)
                l[i] = (emb_cache_lookup){
                    .key = world_key(i), .vector = vectors[i], .dimension = world_dimension(i)};
            st = emb_cache_begin(c, l, 3, &call.policy, 0, NULL, &flight, &err);
            if (st == EMB_OK) {
                assert_true(emb_cache_next(flight, todo, &count, &st, &err));
                assert_int_equal(count, 3);
                for (unsigned i = 0; i < 3; i++)
                    world_vector(i, vectors[i]);
                emb_cache_publish(flight, todo, count);
                emb_cache_end(flight, EMB_OK, NULL);
            }
        }
        assert_true(st == EMB_OK || st == EMB_E_NOMEM);
        emb_cache_close(c);
        bool any = fail_alloc_stop();
        assert_int_equal(fail_alloc_live(), live);
        if (!any)
            break;
    }
}

/* Keeping is not worth failing for: the vector is the caller's, and what is lost is counted. */
static void test_short_of_memory_for_keeping(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    const emb_cache_policy policy = WORLD_POLICY;
    float vector[WORLD_LONGEST];
    emb_cache_lookup l = {.key = world_key(1), .vector = vector, .dimension = world_dimension(1)};
    emb_cache_flight *flight;
    emb_error err;
    emb_status st;
    size_t todo[1], n;
    assert_int_equal(emb_cache_begin(cache, &l, 1, &policy, 0, NULL, &flight, &err), EMB_OK);
    assert_true(emb_cache_next(flight, todo, &n, &st, &err));
    world_vector(1, vector);
    fail_alloc_from(1);
    emb_cache_publish(flight, todo, n);
    assert_true(fail_alloc_stop());
    assert_false(emb_cache_next(flight, todo, &n, &st, &err));
    assert_int_equal(st, EMB_OK);
    assert_int_equal(l.source, EMB_CACHE_COMPUTED);
    emb_cache_end(flight, EMB_OK, NULL);
    emb_cache_stats s = stats();
    assert_int_equal(s.dropped, 1);
    assert_int_equal(s.queued, 0);
    assert_int_equal(s.l1.entries, 0);
    assert_int_equal(embed_one(1), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_tiers_in_turn),
        T(test_duplicates),
        T(test_without_l2_and_without_l1),
        T(test_peek),
        T(test_policies),
        T(test_ages),
        T(test_jitter),
        T(test_store_text_and_adjust),
        T(test_not_a_number),
        T(test_bad_values_of_l2),
        T(test_removed_corrupt_value),
        T(test_down_and_back),
        T(test_down_from_the_start),
        T(test_deadlines_of_l2),
        T(test_writes_that_fail),
        T(test_queue_is_bounded),
        T(test_close_writes_what_waits),
        T(test_removal),
        T(test_preload),
        T(test_metrics),
        T(test_urls),
        T(test_short_of_memory),
        T(test_short_of_memory_for_keeping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
