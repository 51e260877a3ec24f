/* src/store/sqlite.h and the vector cache upon it: foreign and damaged files, locks, deadlines, full disks,
 * kill -9. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cache/l2.h"
#include "cache/value.h"
#include "store/sqlite.h"
#include "support/fail_alloc.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static char directory[64], path[128], url[160];

static const char *const ONE[] = {"CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)"};
static const char *const TWO[] = {"CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)",
                                  "ALTER TABLE t ADD COLUMN c TEXT"};
static const char *const BAD[] = {"CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)",
                                  "CREATE TABLE u (a); NONSENSE"};
static const emb_sqlite_schema V1 = {4711, "the test", ONE, 1}, V2 = {4711, "the test", TWO, 2},
                               BROKEN = {4711, "the test", BAD, 2}, OTHER = {815, "another", ONE, 1};

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/embedd-sqlite-XXXXXX");
    if (!mkdtemp(directory))
        return 1;
    snprintf(path, sizeof path, "%s/file.sqlite", directory);
    snprintf(url, sizeof url, "sqlite:%s", path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char name[160];
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s", path, endings[i]);
        unlink(name);
    }
    return rmdir(directory);
}

static uint64_t soon(void)
{
    return emb_now_ns() + 10 * SECOND;
}

/* Opens, runs one statement, closes. */
static emb_status run_sql(const emb_sqlite_schema *schema, const char *sql, emb_error *err)
{
    emb_sqlite_pool *pool;
    emb_sqlite *db;
    memset(err, 0, sizeof *err);
    assert_int_equal(emb_sqlite_pool_open(path, &(emb_sqlite_options){.schema = schema}, 2, &pool, err),
                     EMB_OK);
    emb_status st = emb_sqlite_acquire(pool, soon(), &db, err);
    if (st == EMB_OK) {
        st = emb_sqlite_run(db, sql, err);
        emb_sqlite_release(pool, db);
    }
    emb_sqlite_pool_close(pool);
    return st;
}

static void write_file(const void *data, size_t length, size_t at)
{
    FILE *f = fopen(path, at ? "r+b" : "wb");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
}

static void test_versions(void **state)
{
    (void)state;
    emb_error err;
    struct stat s;
    mode_t mask = umask(0);
    assert_int_equal(run_sql(&V1, "INSERT INTO t (b) VALUES ('x')", &err), EMB_OK);
    umask(mask);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    assert_int_equal(run_sql(&V2, "UPDATE t SET c = b", &err), EMB_OK);
    assert_int_equal(run_sql(&V1, "SELECT 1", &err), EMB_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "newer"));
    assert_int_equal(run_sql(&OTHER, "SELECT 1", &err), EMB_E_CORRUPT);
    assert_non_null(strstr(err.message, "another program"));
    assert_int_equal(run_sql(&V2, "SELECT c FROM t", &err), EMB_OK); /* nothing of that changed it */
}

static void test_failed_migration_changes_nothing(void **state)
{
    (void)state;
    emb_error err;
    assert_int_equal(run_sql(&V1, "INSERT INTO t (b) VALUES ('x')", &err), EMB_OK);
    assert_int_not_equal(run_sql(&BROKEN, "SELECT 1", &err), EMB_OK);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(run_sql(&V1, "SELECT b FROM t", &err), EMB_OK);
    assert_int_equal(run_sql(&V2, "SELECT c FROM t", &err), EMB_OK);
}

static void test_files_that_are_none(void **state)
{
    (void)state;
    emb_error err;
    char text[5000];
    memset(text, 'x', sizeof text);
    write_file(text, sizeof text, 0);
    assert_int_equal(run_sql(&V1, "SELECT 1", &err), EMB_E_CORRUPT);
    assert_non_null(strstr(err.message, path));
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_size, sizeof text); /* left as it is */
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(run_sql(&V1, "SELECT 1", &err), EMB_E_IO);
    assert_int_equal(rmdir(path), 0);
    emb_sqlite_pool *pool;
    assert_int_equal(emb_sqlite_pool_open("", &(emb_sqlite_options){.schema = &V1}, 1, &pool, &err),
                     EMB_E_INVALID);
}

/* Every kilobyte of a file overwritten in turn: an error or an answer, never a crash. */
static void test_damaged_pages(void **state)
{
    (void)state;
    emb_error err;
    unsigned char noise[1024], whole[64 << 10];
    assert_int_equal(run_sql(&V1,
                             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) "
                             "INSERT INTO t (b) SELECT hex(randomblob(50)) FROM n",
                             &err),
                     EMB_OK);
    FILE *f = fopen(path, "rb");
    size_t length = fread(whole, 1, sizeof whole, f);
    fclose(f);
    assert_true(length >= 16384 && length < sizeof whole);
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (unsigned char)(i * 167 + 13);
    unsigned seen = 0;
    for (size_t at = 0; at + sizeof noise <= length; at += sizeof noise) {
        write_file(whole, length, 0);
        write_file(noise, sizeof noise, at ? at : 1);
        emb_status st = run_sql(
            &V1, "UPDATE t SET b = b || 'y'; DELETE FROM t WHERE a % 2; SELECT sum(length(b)) FROM t", &err);
        assert_true(st == EMB_OK || strstr(err.message, path));
        seen += st == EMB_E_CORRUPT;
        unlink(path);
    }
    assert_true(seen > 0);
}

static void test_lock_of_another(void **state)
{
    (void)state;
    emb_sqlite_pool *one, *two;
    emb_sqlite *a, *b;
    emb_error err;
    const emb_sqlite_options o = {.schema = &V1};
    assert_int_equal(emb_sqlite_pool_open(path, &o, 2, &one, &err), EMB_OK);
    assert_int_equal(emb_sqlite_pool_open(path, &o, 2, &two, &err), EMB_OK);
    assert_int_equal(emb_sqlite_acquire(one, soon(), &a, &err), EMB_OK);
    assert_int_equal(emb_sqlite_begin(a, true, &err), EMB_OK);
    assert_int_equal(emb_sqlite_run(a, "INSERT INTO t (b) VALUES ('kept open')", &err), EMB_OK);
    uint64_t start = emb_now_ns();
    assert_int_equal(emb_sqlite_acquire(two, start + SECOND / 10, &b, &err), EMB_OK);
    assert_int_equal(emb_sqlite_begin(b, true, &err), EMB_E_DEADLINE);
    assert_non_null(strstr(err.message, "locked"));
    uint64_t took = emb_now_ns() - start;
    assert_true(took >= SECOND / 10 && took < 10 * SECOND);
    emb_sqlite_release(two, b);
    assert_int_equal(emb_sqlite_acquire(two, soon(), &b, &err), EMB_OK); /* reading goes on */
    assert_int_equal(emb_sqlite_run(b, "SELECT * FROM t", &err), EMB_OK);
    emb_sqlite_release(two, b);
    emb_sqlite_release(one, a); /* and what was begun and not ended is undone */
    assert_int_equal(emb_sqlite_acquire(two, soon(), &b, &err), EMB_OK);
    emb_sql *s;
    bool row;
    assert_int_equal(emb_sql_get(b, "SELECT count(*) FROM t", &s, &err), EMB_OK);
    assert_int_equal(emb_sql_step(s, &row, &err), EMB_OK);
    assert_int_equal(emb_sql_column_int(s, 0), 0);
    emb_sqlite_release(two, b);
    emb_sqlite_pool_close(one);
    emb_sqlite_pool_close(two);
}

static void test_deadline_of_a_long_statement(void **state)
{
    (void)state;
    emb_sqlite_pool *pool;
    emb_sqlite *db, *more;
    emb_error err;
    assert_int_equal(emb_sqlite_pool_open(path, &(emb_sqlite_options){.schema = &V1}, 1, &pool, &err),
                     EMB_OK);
    uint64_t start = emb_now_ns();
    assert_int_equal(emb_sqlite_acquire(pool, start + SECOND / 10, &db, &err), EMB_OK);
    assert_int_equal(
        emb_sqlite_run(
            db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n", &err),
        EMB_E_DEADLINE);
    assert_true(emb_now_ns() - start < 10 * SECOND);
    start = emb_now_ns(); /* the only connection is in use */
    assert_int_equal(emb_sqlite_acquire(pool, start + SECOND / 20, &more, &err), EMB_E_DEADLINE);
    assert_true(emb_now_ns() - start < 10 * SECOND);
    emb_sqlite_release(pool, db);
    assert_int_equal(emb_sqlite_acquire(pool, soon(), &db, &err), EMB_OK);
    assert_int_equal(emb_sqlite_run(db, "SELECT 1", &err), EMB_OK);
    emb_sqlite_release(pool, db);
    emb_sqlite_pool_close(pool);
}

/* ---- the vector cache in such a file ---- */

static void make_value(uint32_t n, emb_cache_key *key, unsigned char *bytes)
{
    float vector[384];
    assert_true(emb_sha256(&n, sizeof n, key->bytes));
    for (uint32_t i = 0; i < 384; i++)
        vector[i] = (float)((n * 2654435761u + i * 97) >> 10) / 4194304;
    assert_true(emb_value_pack(key, &(emb_value){vector, 384, n, 1700000000, 0}, bytes));
}

static emb_status put(emb_l2 *l2, uint32_t first, uint32_t count, emb_error *err)
{
    static emb_cache_key keys[512];
    static unsigned char values[512][EMB_VALUE_HEADER + 384 * 4];
    emb_l2_item items[512];
    for (uint32_t i = 0; i < count; i++) {
        make_value(first + i, &keys[i], values[i]);
        items[i] = (emb_l2_item){&keys[i], values[i], sizeof values[i], 0, "m", NULL, 0};
    }
    return l2->ops->put_many(l2, items, count, soon(), err);
}

typedef struct got {
    uint32_t first, found;
    bool wrong;
} got;

static void on_found(void *context, size_t index, const void *value, size_t length)
{
    got *g = context;
    emb_cache_key key;
    unsigned char expected[EMB_VALUE_HEADER + 384 * 4];
    make_value(g->first + (uint32_t)index, &key, expected);
    g->found++;
    if (length != sizeof expected || memcmp(value, expected, length) != 0)
        g->wrong = true;
}

static uint32_t get(emb_l2 *l2, uint32_t first, uint32_t count)
{
    static emb_cache_key keys[20000];
    static const emb_cache_key *pointers[20000];
    unsigned char value[EMB_VALUE_HEADER + 384 * 4];
    got g = {first, 0, false};
    emb_error err = {0};
    for (uint32_t i = 0; i < count; i++) {
        make_value(first + i, &keys[i], value);
        pointers[i] = &keys[i];
    }
    emb_status st = l2->ops->get_many(l2, pointers, count, soon(), on_found, &g, &err);
    if (st != EMB_OK)
        fail_msg("%s", err.message);
    assert_false(g.wrong);
    return g.found;
}

static emb_l2 *open_l2(size_t maximum)
{
    emb_l2 *l2 = NULL;
    emb_error err;
    const emb_l2_options o = {maximum, 1000};
    assert_int_equal(emb_l2_sqlite.open(url, &o, &l2, &err), EMB_OK);
    return l2;
}

/* A process that writes batches is killed again and again: what it said was written is there, and whole. */
static void test_kill_while_writing(void **state)
{
    (void)state;
    uint32_t next = 0;
    for (int round = 0; round < 20; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            emb_error err;
            emb_l2 *l2 = open_l2(0);
            for (uint32_t n = next;; n += 16)
                if (put(l2, n, 16, &err) != EMB_OK || write(ends[1], &n, sizeof n) != sizeof n)
                    _exit(1);
        }
        close(ends[1]);
        uint32_t last = 0;
        for (int i = 0; i <= round % 7; i++) /* at least so many batches, then at any moment */
            assert_int_equal(read(ends[0], &last, sizeof last), sizeof last);
        nanosleep(&(struct timespec){0, round * 137000 % 900000}, NULL);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        uint32_t said;
        while (read(ends[0], &said, sizeof said) == sizeof said)
            last = said;
        close(ends[0]);
        emb_l2 *l2 = open_l2(0);
        assert_int_equal(get(l2, next, last + 16 - next), last + 16 - next);
        l2->ops->close(l2);
        next = last + 16;
    }
    emb_error err;
    emb_sqlite_pool *pool;
    emb_sqlite *db;
    emb_sql *s;
    bool row;
    emb_l2 *l2 = open_l2(0);
    assert_true(get(l2, 0, next < 20000 ? next : 20000) > 0);
    l2->ops->close(l2);
    static const char *const none[] = {""};
    static const emb_sqlite_schema cache = {0x656D6243, "the cache", none, 1};
    assert_int_equal(emb_sqlite_pool_open(path, &(emb_sqlite_options){.schema = &cache}, 1, &pool, &err),
                     EMB_OK);
    assert_int_equal(emb_sqlite_acquire(pool, soon(), &db, &err), EMB_OK);
    assert_int_equal(emb_sql_get(db, "PRAGMA integrity_check", &s, &err), EMB_OK);
    assert_int_equal(emb_sql_step(s, &row, &err), EMB_OK);
    assert_string_equal(emb_sql_column_text(s, 0, NULL), "ok");
    emb_sqlite_release(pool, db);
    emb_sqlite_pool_close(pool);
}

static void test_size_limit(void **state)
{
    (void)state;
    enum { LIMIT = 1 << 20 };
    emb_l2 *l2 = open_l2(LIMIT);
    emb_cache_tier_stats stats;
    emb_error err = {0};
    for (uint32_t n = 0; n < 3000; n += 100) {
        assert_int_equal(put(l2, n, 100, &err), EMB_OK);
        assert_int_equal(l2->ops->stats(l2, soon(), &stats, &err), EMB_OK);
        assert_true(stats.bytes < LIMIT + 400 * 1024); /* and one batch */
    }
    assert_int_equal(l2->ops->tidy(l2, soon(), &err), EMB_OK);
    assert_int_equal(l2->ops->stats(l2, soon(), &stats, &err), EMB_OK);
    assert_true(stats.bytes <= LIMIT);
    assert_true(stats.entries > 100);
    assert_int_equal(stats.entries + stats.evictions, 3000);
    assert_int_equal(get(l2, 2900, 100) + get(l2, 0, 100),
                     100); /* the newest are there, the oldest are not */
    l2->ops->set_maximum(l2, LIMIT / 4);
    assert_int_equal(l2->ops->tidy(l2, soon(), &err), EMB_OK);
    assert_int_equal(l2->ops->stats(l2, soon(), &stats, &err), EMB_OK);
    assert_true(stats.bytes <= LIMIT / 4);
    l2->ops->close(l2);
}

/* A removal gives the room back to the file system. */
static void test_file_shrinks(void **state)
{
    (void)state;
    emb_l2 *l2 = open_l2(0);
    emb_error err = {0};
    uint64_t removed;
    struct stat before, after;
    for (uint32_t n = 0; n < 2000; n += 500)
        assert_int_equal(put(l2, n, 500, &err), EMB_OK);
    l2->ops->close(l2); /* writes the log into the file */
    assert_int_equal(stat(path, &before), 0);
    l2 = open_l2(0);
    assert_int_equal(l2->ops->remove(l2, &(emb_cache_filter){0}, soon(), &removed, &err), EMB_OK);
    assert_int_equal(removed, 2000);
    assert_int_equal(l2->ops->tidy(l2, soon(), &err), EMB_OK);
    l2->ops->close(l2);
    assert_int_equal(stat(path, &after), 0);
    assert_true(after.st_size < before.st_size / 10);
}

/* A limit on file sizes is a full disk that a test can have. */
static void test_full_disk(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        emb_error err = {0};
        signal(SIGXFSZ, SIG_IGN);
        emb_l2 *l2 = open_l2(0);
        if (put(l2, 0, 50, &err) != EMB_OK)
            _exit(1);
        struct rlimit limit = {400 << 10, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
        setrlimit(RLIMIT_FSIZE, &limit);
        emb_status st = EMB_OK;
        for (uint32_t n = 1000; n < 5000 && st == EMB_OK; n += 50)
            st = put(l2, n, 50, &err);
        if (st != EMB_E_IO || !strstr(err.message, path))
            _exit(2);
        if (get(l2, 0, 50) != 50) /* reading goes on */
            _exit(3);
        setrlimit(RLIMIT_FSIZE, &none);
        if (put(l2, 6000, 50, &err) != EMB_OK ||
            get(l2, 6000, 50) != 50) /* and so does writing, once there is room */
            _exit(4);
        l2->ops->close(l2);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_short_of_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    emb_error err;
    assert_int_equal(run_sql(&V1, "SELECT 1", &err), EMB_OK); /* SQLite's own, once for the process */
    for (size_t n = 1;; n++) {
        emb_sqlite_pool *pool = NULL;
        emb_sqlite *db = NULL;
        emb_sql *s;
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status st = emb_sqlite_pool_open(path, &(emb_sqlite_options){.schema = &V1}, 1, &pool, &err);
        if (st == EMB_OK && (st = emb_sqlite_acquire(pool, soon(), &db, &err)) == EMB_OK) {
            if ((st = emb_sqlite_begin(db, true, &err)) == EMB_OK) {
                if ((st = emb_sql_get(db, "INSERT INTO t (b) VALUES (?1)", &s, &err)) == EMB_OK) {
                    emb_sql_text(s, 1, "text", 4);
                    st = emb_sql_do(s, &err);
                }
                st = emb_sqlite_end(db, st, &err);
            }
            emb_sqlite_release(pool, db);
        }
        emb_sqlite_pool_close(pool);
        bool any = fail_alloc_stop();
        assert_true(st == EMB_OK || st == EMB_E_NOMEM || st == EMB_E_IO);
        assert_int_equal(fail_alloc_live(), live);
        if (!any)
            break;
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_versions),
        T(test_failed_migration_changes_nothing),
        T(test_files_that_are_none),
        T(test_damaged_pages),
        T(test_lock_of_another),
        T(test_deadline_of_a_long_statement),
        T(test_kill_while_writing),
        T(test_size_limit),
        T(test_file_shrinks),
        T(test_full_disk),
        T(test_short_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
