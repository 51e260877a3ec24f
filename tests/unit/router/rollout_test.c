/*
 * The rollout: buckets, and the suite of rollout_suite.h on SQLite and, where EMBEDD_TEST_POSTGRESQL names
 * one, on PostgreSQL (tests/router starts it).
 */
#include "unit/router/rollout_suite.h"

#include "store/postgresql.h"
#include "store/sqlite.h"
#include "support/fail_alloc.h"

#include <unistd.h>

static char directory[] = "/tmp/embedd-rollout-XXXXXX", path[200], url[256];

static void remove_file(void)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char name[256];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
    }
}

static void drop_tables(void)
{
    static const emb_pg_statement drops[] = {
        {"drop_rollout", "DROP TABLE IF EXISTS embedd_rollout, embedd_rollout_audit"},
        {"drop_schema", "DROP TABLE IF EXISTS embedd_schema"}};
    emb_pg *pg;
    GOOD(emb_pg_open(getenv("EMBEDD_TEST_POSTGRESQL"), NULL, &pg, &err));
    for (int i = 0; i < 2; i++)
        GOOD(emb_pg_call(pg, &drops[i], NULL, 0, emb_now_ns() + UINT64_C(10000000000), NULL, &err));
    emb_pg_close(pg);
}

/* ---- buckets ---- */

static double bucket_of(const char *salt, unsigned i)
{
    char user[32];
    snprintf(user, sizeof user, "user-%u", i);
    return emb_rollout_bucket(salt, user, "key", "text", 4);
}

static void test_sticky(void **state)
{
    (void)state;
    /* a number that other versions of the program must give, too: SHA-256("pepper" 0 "u" "alice") */
    assert_true(fabs(emb_rollout_bucket("pepper", "alice", NULL, NULL, 0) - 18.61695545547839) < 1e-9);
    for (unsigned i = 0; i < 100; i++)
        assert_true(bucket_of("s", i) == bucket_of("s", i));
    double user = emb_rollout_bucket("", "u", "k", "t", 1), key = emb_rollout_bucket("", "", "k", "t", 1),
           text = emb_rollout_bucket("", NULL, NULL, "t", 1);
    assert_true(user == emb_rollout_bucket(NULL, "u", "other", "other", 5));
    assert_true(key == emb_rollout_bucket("", NULL, "k", "other", 5));
    assert_true(key != user && text != key);
    assert_true(emb_rollout_bucket("", "x", "", "", 0) != emb_rollout_bucket("", "", "x", "", 0));
    assert_true(emb_rollout_bucket("a", "u", NULL, NULL, 0) != emb_rollout_bucket("b", "u", NULL, NULL, 0));
    assert_true(emb_rollout_bucket("", NULL, NULL, "a\0b", 3) !=
                emb_rollout_bucket("", NULL, NULL, "a\0c", 3));
    double none = emb_rollout_bucket(NULL, NULL, NULL, NULL, 0);
    assert_true(none >= 0 && none < 100 && none == emb_rollout_bucket("", "", "", "", 0));
}

/* Chi-square over 100 cells: 99 degrees of freedom, 148.2 is passed by chance once in a thousand; names are
 * fixed. */
static void test_uniform(void **state)
{
    (void)state;
    enum { CALLERS = 100000, CELLS = 100 };
    static const char *const salts[] = {"", "2026", "another"};
    for (int s = 0; s < 3; s++) {
        unsigned cells[CELLS] = {0};
        double chi = 0;
        for (unsigned i = 0; i < CALLERS; i++) {
            double b = bucket_of(salts[s], i);
            assert_true(b >= 0 && b < 100);
            cells[(int)b]++;
        }
        for (int i = 0; i < CELLS; i++) {
            double off = cells[i] - (double)CALLERS / CELLS;
            chi += off * off / ((double)CALLERS / CELLS);
        }
        if (chi > 148.2 || chi < 60)
            fail_msg("salt \"%s\": chi-square %.1f", salts[s], chi);
    }
}

/* Raising the share takes nobody off, and a share of p has about p % of callers. */
static void test_monotonic(void **state)
{
    (void)state;
    static const double shares[] = {0, 5, 10, 25, 50, 90, 100};
    enum { CALLERS = 20000 };
    unsigned in[7] = {0};
    for (unsigned i = 0; i < CALLERS; i++) {
        double b = bucket_of("salt", i);
        bool before = false;
        for (int k = 0; k < 7; k++) {
            bool now = b < shares[k];
            assert_true(now || !before);
            in[k] += now;
            before = now;
        }
    }
    assert_true(in[0] == 0 && in[6] == CALLERS);
    for (int k = 1; k < 6; k++)
        assert_true(fabs(in[k] * 100.0 / CALLERS - shares[k]) < 1.5);
}

/* ---- stores that are not right ---- */

static void test_stores(void **state)
{
    (void)state;
    emb_rollout *r = NULL;
    emb_error problem;
    assert_int_equal(emb_rollout_open("redis://localhost", NULL, &r, &problem), EMB_E_INVALID);
    assert_int_equal(emb_rollout_open("", NULL, &r, &problem), EMB_E_INVALID);
    assert_null(r);
    /* a server that is not there: the configuration's share counts, and changes say why they fail */
    GOOD(emb_rollout_open("postgresql://127.0.0.1:1/x", &(emb_rollout_options){.no_thread = true}, &r, &err));
    assert_true(emb_rollout_percentage(r, 33) == 33);
    assert_int_not_equal(emb_rollout_set(r, 1, "ops", "", &problem), EMB_OK);
    assert_true(emb_rollout_percentage(r, 33) == 33);
    emb_rollout_close(r);
    emb_rollout_close(NULL);
}

/* A row that makes no sense is told, and can be written over. */
static void test_nonsense(void **state)
{
    (void)state;
    static const char *const wrong[] = {"mode = 9",           "share = 100000001",   "mode = 1, share = -1",
                                        "mode = 2, step = 7", "step = -3, mode = 2", "schedule = '5:'",
                                        "schedule = '5:1x'",  "schedule = '-1:5'"};
    emb_error problem;
    emb_rollout *r = suite_open();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        static const emb_sqlite_schema schema = {0x656D6252, "a test", NULL, 1};
        emb_sqlite_pool *pool;
        emb_sqlite *db;
        char sql[200];
        GOOD(emb_rollout_schedule(r, &(emb_rollout_step_config){5, 60}, 1, "ops", "", &err));
        snprintf(sql, sizeof sql, "UPDATE rollout_state SET %s", wrong[i]);
        GOOD(emb_sqlite_pool_open(path, &(emb_sqlite_options){.schema = &schema}, 1, &pool, &err));
        GOOD(emb_sqlite_acquire(pool, 0, &db, &err));
        GOOD(emb_sqlite_run(db, sql, &err));
        emb_sqlite_release(pool, db);
        emb_sqlite_pool_close(pool);
        assert_int_equal(emb_rollout_refresh(r, &problem), EMB_E_CORRUPT);
        assert_true(emb_rollout_percentage(r, 42) == 5); /* the last word stands */
        GOOD(emb_rollout_back(r, "ops", "", &err));
        assert_true(emb_rollout_percentage(r, 42) == 0);
        GOOD(emb_rollout_refresh(r, &err));
    }
    emb_rollout_close(r);
}

/* What is stored outlives the process; a file that was removed is back to the configuration. */
static void test_reopened(void **state)
{
    (void)state;
    emb_rollout *r = suite_open();
    GOOD(emb_rollout_set(r, 5, "ops", "", &err));
    emb_rollout_close(r);
    r = suite_open();
    assert_true(emb_rollout_percentage(r, 42) == 5);
    emb_rollout_close(r);
    remove_file();
    r = suite_open();
    assert_true(emb_rollout_percentage(r, 42) == 42);
    emb_rollout_close(r);
}

/* Each allocation fails once: an error or the right thing, and nothing leaks. */
static void use_all(void)
{
    emb_rollout *r = NULL;
    emb_rollout_event *events;
    emb_arena arena;
    emb_error problem;
    size_t count;
    if (emb_rollout_open(url, &(emb_rollout_options){.now_s = suite_clock, .no_thread = true}, &r,
                         &problem) != EMB_OK)
        return;
    double before = emb_rollout_percentage(r, 42);
    if (emb_rollout_set(r, 5, "ops", "why", &problem) == EMB_OK)
        assert_true(emb_rollout_percentage(r, 42) == 5);
    else
        assert_true(emb_rollout_percentage(r, 42) == before);
    emb_arena_init(&arena);
    if (emb_rollout_audit(r, 3, &arena, &events, &count, &problem) == EMB_OK)
        for (size_t i = 0; i < count; i++)
            assert_string_equal(events[i].actor, "ops");
    emb_arena_fini(&arena);
    emb_rollout_close(r);
}

static void test_no_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    use_all(); /* what libraries keep for good */
    use_all();
    for (size_t n = 1; n < 100000; n++) {
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        use_all();
        bool failed = fail_alloc_stop();
        assert_int_equal(fail_alloc_live(), live);
        if (!failed)
            return;
    }
    fail_msg("it never ends");
}

int main(void)
{
    const char *postgresql = getenv("EMBEDD_TEST_POSTGRESQL");
    if (!mkdtemp(directory))
        return 1;
    snprintf(path, sizeof path, "%s/rollout.db", directory);
    snprintf(url, sizeof url, "sqlite:%s", path);
    int failures = postgresql ? rollout_suite(postgresql, drop_tables) : rollout_suite(url, remove_file);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sticky),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_monotonic),
        cmocka_unit_test(test_stores),
        cmocka_unit_test_setup(test_nonsense, suite_setup),
        cmocka_unit_test_setup(test_reopened, suite_setup),
        cmocka_unit_test_setup(test_no_memory, suite_setup),
    };
    suite_url = url;
    suite_reset = remove_file;
    failures += cmocka_run_group_tests(tests, NULL, NULL);
    remove_file();
    rmdir(directory);
    return failures;
}
