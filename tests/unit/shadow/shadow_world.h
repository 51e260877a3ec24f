/*
 * shadow_world.h: a candidate in the test's hands, a clock, and a database in a folder of its own.
 *
 *     world_open(&(emb_shadow_options){ .queue = 4, .window = 20, .run = world_run });
 *     world.vectors = candidate; world.dimension = 2;
 *     world_submit("a text", legacy, 2);
 *     world_flush();
 */
#ifndef EMB_TESTS_SHADOW_WORLD_H
#define EMB_TESTS_SHADOW_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "shadow/shadow.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORLD_PATIENCE UINT64_C(60000000000)

static struct world {
    char directory[64], path[128], url[160];
    emb_shadow *shadow;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool closed_gate;      /* a run waits in it */
    bool waits_for_cancel; /* a run waits for *cancel */
    unsigned entered, runs;
    const float *vectors; /* what the candidate answers; NULL: what the legacy side has */
    size_t dimension;
    const char *space, *model;
    uint64_t latency_ns, nusd;
    bool cached;
    emb_status fail;
    int64_t now_s;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

__attribute__((unused)) static int64_t world_now_s(void)
{
    return __atomic_load_n(&world.now_s, __ATOMIC_RELAXED);
}

/* The thread of the shadow reads it at any time. */
__attribute__((unused)) static void world_set_now_s(int64_t now_s)
{
    __atomic_store_n(&world.now_s, now_s, __ATOMIC_RELAXED);
}

static void world_pass_gate(void)
{
    pthread_mutex_lock(&world.lock);
    world.entered++;
    pthread_cond_broadcast(&world.moved);
    while (world.closed_gate)
        pthread_cond_wait(&world.moved, &world.lock);
    world.runs++;
    pthread_mutex_unlock(&world.lock);
}

__attribute__((unused)) static void world_gate(bool closed)
{
    pthread_mutex_lock(&world.lock);
    world.closed_gate = closed;
    pthread_cond_broadcast(&world.moved);
    pthread_mutex_unlock(&world.lock);
}

__attribute__((unused)) static void world_wait_entered(unsigned n)
{
    pthread_mutex_lock(&world.lock);
    while (world.entered < n)
        pthread_cond_wait(&world.moved, &world.lock);
    pthread_mutex_unlock(&world.lock);
}

__attribute__((unused)) static emb_status world_run(void *context, const emb_shadow_pair *pair,
                                                    emb_arena *arena, emb_shadow_side *out, emb_error *err)
{
    (void)context;
    (void)arena;
    world_pass_gate();
    if (world.waits_for_cancel) {
        const volatile int *cancel = emb_shadow_cancel(world.shadow);
        while (!__atomic_load_n(cancel, __ATOMIC_RELAXED))
            sched_yield();
        return emb_fail(err, EMB_E_CANCELLED, NULL, "cancelled");
    }
    *out = (emb_shadow_side){.provider = "new",
                             .model = world.model ? world.model : "m2",
                             .space = world.space ? world.space : "s",
                             .latency_ns = world.latency_ns,
                             .nusd = world.nusd,
                             .cached = world.cached};
    if (world.fail)
        return emb_fail(err, world.fail, NULL, "the candidate said no to a secret text");
    out->vectors = world.vectors ? world.vectors : pair->legacy.vectors;
    out->dimension = world.vectors ? world.dimension : pair->legacy.dimension;
    return EMB_OK;
}

__attribute__((unused)) static int world_setup(void **state)
{
    (void)state;
    char directory[] = "/tmp/embedd-shadow-XXXXXX";
    if (!mkdtemp(directory))
        return 1;
    world.shadow = NULL;
    world.closed_gate = world.waits_for_cancel = world.cached = false;
    world.entered = world.runs = 0;
    world.vectors = NULL;
    world.space = world.model = NULL;
    world.latency_ns = world.nusd = 0;
    world.fail = EMB_OK;
    world.now_s = 1700000000;
    snprintf(world.directory, sizeof world.directory, "%s", directory);
    snprintf(world.path, sizeof world.path, "%s/shadow.db", directory);
    snprintf(world.url, sizeof world.url, "sqlite:%s", world.path);
    return 0;
}

__attribute__((unused)) static int world_teardown(void **state)
{
    (void)state;
    static const char *const endings[] = {"", "-wal", "-shm"};
    char name[160];
    emb_shadow_close(world.shadow);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", world.path, endings[i]);
        unlink(name);
    }
    return rmdir(world.directory);
}

__attribute__((unused)) static void world_open(const emb_shadow_options *options)
{
    emb_error err = {0};
    emb_shadow_options o = *options;
    o.now_s = o.now_s ? o.now_s : world_now_s;
    if (emb_shadow_open(world.url, &o, &world.shadow, &err) != EMB_OK)
        fail_msg("%s", err.message);
}

__attribute__((unused)) static void world_close(void)
{
    emb_shadow_close(world.shadow);
    world.shadow = NULL;
}

__attribute__((unused)) static bool world_submit_in(const char *category, const char *text,
                                                    const float *vector, size_t dimension,
                                                    uint64_t latency_ns, uint64_t nusd)
{
    emb_text t = {text, strlen(text)};
    emb_shadow_pair pair = {.texts = &t,
                            .count = 1,
                            .category = category,
                            .context = "realtime",
                            .key = "k",
                            .role = EMB_ROLE_QUERY,
                            .legacy = {.provider = "old",
                                       .model = "m1",
                                       .space = "s",
                                       .vectors = vector,
                                       .dimension = dimension,
                                       .latency_ns = latency_ns,
                                       .nusd = nusd}};
    return emb_shadow_submit(world.shadow, &pair);
}

__attribute__((unused)) static bool world_submit(const char *text, const float *vector, size_t dimension)
{
    return world_submit_in("c", text, vector, dimension, 1000000, 10);
}

__attribute__((unused)) static void world_flush(void)
{
    assert_true(emb_shadow_flush(world.shadow, emb_now_ns() + WORLD_PATIENCE));
}

__attribute__((unused)) static emb_shadow_report world_report(emb_arena *arena, size_t samples)
{
    emb_shadow_report report;
    emb_error err = {0};
    emb_shadow_query query = {.samples = samples};
    emb_arena_init(arena);
    if (emb_shadow_make_report(world.shadow, &query, arena, &report, &err) != EMB_OK)
        fail_msg("%s", err.message);
    return report;
}

#endif
