/* The whole cache over a SQLite file: restarts, several processes, a locked file, a file that is damaged
 * meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cache/cache.h"
#include "store/sqlite.h"
#include "support/cache_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static char directory[64], path[128], url[160];

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/embedd-cache-XXXXXX");
    if (!mkdtemp(directory))
        return 1;
    snprintf(path, sizeof path, "%s/cache.sqlite", directory);
    snprintf(url, sizeof url, "sqlite:%s", path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char name[160];
    static const char *const endings[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, endings[i]);
        unlink(name);
    }
    return rmdir(directory);
}

static emb_cache *open_cache(uint32_t deadline_ms)
{
    emb_cache_options o = {.l1_entries = 1000,
                           .l1_bytes = 16 << 20,
                           .l2_url = url,
                           .l2_deadline_ms = deadline_ms,
                           .write_queue = 1000};
    emb_cache *cache = NULL;
    emb_error err = {0};
    if (emb_cache_open(&o, &cache, &err) != EMB_OK)
        fail_msg("%s", err.message);
    return cache;
}

/* How many of first … had to be computed. */
static unsigned embed(emb_cache *cache, unsigned first, unsigned count)
{
    unsigned numbers[WORLD_MAX];
    world_call call = {.cache = cache, .policy = WORLD_POLICY};
    emb_error err = {0};
    for (unsigned i = 0; i < count; i++)
        numbers[i] = first + i;
    if (world_embed(&call, numbers, count, &err) != EMB_OK)
        fail_msg("%s", err.message);
    assert_false(call.wrong);
    return call.computed;
}

static emb_cache_stats stats(emb_cache *cache)
{
    emb_cache_stats s;
    emb_cache_get_stats(cache, &s);
    return s;
}

static void test_restart(void **state)
{
    (void)state;
    emb_cache *cache = open_cache(10000);
    assert_int_equal(embed(cache, 0, 200), 200);
    emb_cache_close(cache); /* writes what is queued */
    cache = open_cache(10000);
    assert_int_equal(embed(cache, 0, 250), 50);
    emb_cache_stats s = stats(cache);
    assert_string_equal(s.l2_kind, "sqlite");
    assert_int_equal(s.l2.hits, 200);
    assert_int_equal(s.l2.misses, 50);
    assert_true(emb_cache_flush(cache, emb_now_ns() + 10 * SECOND));
    assert_int_equal(stats(cache).l2.entries, 250);
    uint64_t loaded, removed;
    emb_error err;
    assert_int_equal(emb_cache_remove(cache, &(emb_cache_filter){.model = "model"}, &removed, &err), EMB_OK);
    assert_int_equal(removed, 250);
    assert_int_equal(emb_cache_preload(cache, 1000, &loaded, &err), EMB_OK);
    assert_int_equal(loaded, 0);
    assert_int_equal(embed(cache, 0, 10), 10);
    emb_cache_close(cache);
}

/* Four processes use one file at once; each finds what the others wrote. */
static void test_several_processes(void **state)
{
    (void)state;
    pid_t children[4];
    fflush(NULL);
    for (int c = 0; c < 4; c++) {
        children[c] = fork();
        assert_true(children[c] >= 0);
        if (children[c] == 0) {
            emb_cache *cache = open_cache(10000);
            for (unsigned round = 0; round < 20; round++)
                embed(cache, (round * 4 + (unsigned)c) * 10 % 400, 40);
            bool flushed = emb_cache_flush(cache, emb_now_ns() + 20 * SECOND);
            bool lost = stats(cache).dropped || stats(cache).write_failures;
            emb_cache_close(cache);
            _exit(!flushed || lost);
        }
    }
    for (int c = 0; c < 4; c++) {
        int status;
        assert_int_equal(waitpid(children[c], &status, 0), children[c]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    emb_cache *cache = open_cache(10000);
    assert_int_equal(embed(cache, 0, 200), 0);
    assert_int_equal(embed(cache, 200, 200), 0);
    emb_cache_close(cache);
}

/* Another program holds the file's write lock for good: reading goes on, writes wait, no request does. */
static void test_locked_by_another(void **state)
{
    (void)state;
    static const char *const none[] = {""};
    static const emb_sqlite_schema schema = {0x656D6243, "the cache", none, 1};
    emb_sqlite_pool *pool;
    emb_sqlite *db;
    emb_error err;
    emb_cache *cache = open_cache(10000);
    embed(cache, 0, 20);
    assert_true(emb_cache_flush(cache, emb_now_ns() + 10 * SECOND));
    emb_cache_close(cache);
    cache = open_cache(10000);
    assert_int_equal(emb_sqlite_pool_open(path, &(emb_sqlite_options){.schema = &schema}, 1, &pool, &err),
                     EMB_OK);
    assert_int_equal(emb_sqlite_acquire(pool, emb_now_ns() + 10 * SECOND, &db, &err), EMB_OK);
    assert_int_equal(emb_sqlite_begin(db, true, &err), EMB_OK);
    assert_int_equal(embed(cache, 0, 40), 20);
    assert_false(emb_cache_flush(cache, emb_now_ns() + SECOND / 5));
    emb_cache_stats s = stats(cache);
    assert_int_equal(s.queued, 20);
    assert_true(s.l2_up);
    emb_sqlite_release(pool, db);
    emb_sqlite_pool_close(pool);
    assert_true(emb_cache_flush(cache, emb_now_ns() + 20 * SECOND));
    assert_int_equal(stats(cache).stored, 20);
    assert_int_equal(stats(cache).dropped, 0);
    emb_cache_close(cache);
}

/* Pages overwritten under a running cache: it goes on, and every vector it answers is right. */
static void test_damaged_while_running(void **state)
{
    (void)state;
    emb_cache *cache = open_cache(10000);
    for (unsigned first = 0; first < 1000; first += 200)
        embed(cache, first, 200);
    emb_cache_close(cache);
    cache = open_cache(10000);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long length = ftell(f);
    for (long at = 4096 + 100; at + 40 < length; at += 4096) {
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        assert_int_equal(fwrite("damaged damaged damaged damaged damaged", 1, 40, f), 40);
    }
    assert_int_equal(fclose(f), 0);
    for (unsigned first = 0; first < 1000; first += 50)
        embed(cache, first, 50);
    emb_cache_stats s = stats(cache);
    assert_true(s.l2_failures > 0 || s.l2.corrupt > 0);
    if (!s.l2_up)
        assert_non_null(strstr(s.l2_error, path));
    emb_cache_close(cache);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_restart),
        T(test_several_processes),
        T(test_locked_by_another),
        T(test_damaged_while_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
