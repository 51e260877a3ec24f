/* src/store/db.h over SQLite: choice by URL, transactions, rows, answers; parameters of each kind. The rooms'
 * conformance tests run the same over PostgreSQL (tests/router, tests/shadow, tests/alerts). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "store/db.h"
#include "support/fail_alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const TABLES[] = {"CREATE TABLE t (k TEXT PRIMARY KEY, n INTEGER, b BLOB)"};
static const emb_sqlite_schema SCHEMA = {4712, "the test", TABLES, 1};
static const emb_db_options OPTIONS = {"the test's store", {.schema = &SCHEMA}, 2, {.connections = 1}};

static const emb_db_statement ADD = {{"test_add", ""}, "INSERT INTO t (k, n, b) VALUES (?1, ?2, ?3)"};
static const emb_db_statement COUNT = {{"test_count", ""}, "SELECT count(*) FROM t"};
static const emb_db_statement LIST = {{"test_list", ""}, "SELECT k, n, b FROM t WHERE n >= ?1 ORDER BY k"};
static const emb_db_statement RAISE = {{"test_raise", ""},
                                       "UPDATE t SET n = n + ?2 WHERE k = ?1 RETURNING n"};
static const emb_db_statement WRONG = {{"test_wrong", ""}, "SELECT nothing FROM nowhere"};

static char directory[64], url[128];
static emb_error err;

static void ok(emb_status st)
{
    if (st != EMB_OK)
        fail_msg("%s: %s", emb_status_text(st), err.message);
}

static uint64_t soon(void)
{
    return emb_now_ns() + UINT64_C(10000000000);
}

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/embedd-db-XXXXXX");
    if (!mkdtemp(directory))
        return 1;
    snprintf(url, sizeof url, "sqlite://%s/file.sqlite", directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const endings[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s/file.sqlite%s", directory, endings[i]);
        unlink(name);
    }
    return rmdir(directory);
}

static emb_status add(emb_db *db, const char *key, int64_t number)
{
    const emb_param values[] = {emb_param_text(key), emb_param_int(number), emb_param_bytes("\0b", 2)};
    return emb_db_call(db, &ADD, values, 3, soon(), &err);
}

static int64_t count(emb_db *db)
{
    int64_t n;
    ok(emb_db_ask(db, &COUNT, NULL, 0, soon(), &n, &err));
    return n;
}

static void test_urls(void **state)
{
    (void)state;
    static const char *const others[] = {"", "redis://localhost", "sqlite", "/tmp/x", "SQLITE:x", NULL};
    emb_db *db;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(emb_db_open(others[i], &OPTIONS, &db, &err), EMB_E_INVALID);
        assert_null(db);
        assert_non_null(strstr(err.message, "the test's store"));
    }
    assert_int_equal(emb_db_open("sqlite:", &OPTIONS, &db, &err), EMB_E_INVALID);
    ok(emb_db_open("postgres://user:secret@127.0.0.1:1/x", &OPTIONS, &db, &err)); /* does not connect */
    assert_null(emb_db_sqlite(db));
    assert_non_null(emb_db_postgresql(db));
    emb_db_close(db);
    ok(emb_db_open(url, &OPTIONS, &db, &err));
    assert_non_null(emb_db_sqlite(db));
    assert_null(emb_db_postgresql(db));
    emb_db_tidy(db);
    emb_db_close(db);
    emb_db_close(NULL);
}

static void test_rows(void **state)
{
    (void)state;
    emb_db *db;
    emb_db_rows rows;
    size_t length;
    const emb_param from = emb_param_int4(2), all = emb_param_int(0);
    ok(emb_db_open(url, &OPTIONS, &db, &err));
    ok(add(db, "one", 1));
    ok(add(db, "two", 2));
    ok(emb_db_call(
        db, &ADD,
        (emb_param[]){emb_param_text_of("threefold", 5), emb_param_int(3), emb_param_bytes(NULL, 7)}, 3,
        soon(), &err));

    ok(emb_db_query(db, &LIST, &from, 1, soon(), &rows, &err));
    assert_true(emb_db_next(&rows, &err));
    assert_string_equal(emb_db_text(&rows, 0), "three");
    assert_int_equal(emb_db_int(&rows, 1), 3);
    assert_null(emb_db_bytes(&rows, 2, &length));
    assert_int_equal(length, 0);
    assert_true(emb_db_next(&rows, &err));
    assert_string_equal(emb_db_text(&rows, 0), "two");
    assert_memory_equal(emb_db_bytes(&rows, 2, &length), "\0b", 2);
    assert_int_equal(length, 2);
    assert_false(emb_db_next(&rows, &err));
    assert_false(emb_db_next(&rows, &err)); /* and does not begin anew */
    ok(emb_db_done(&rows));

    for (int i = 0; i < 5; i++) { /* more than there are connections: each is given back */
        ok(emb_db_query(db, &LIST, &all, 1, soon(), &rows, &err));
        assert_true(emb_db_next(&rows, &err));
        ok(emb_db_done(&rows));
        assert_int_not_equal(emb_db_query(db, &WRONG, NULL, 0, soon(), &rows, &err), EMB_OK);
    }
    assert_int_equal(emb_db_query(db, &LIST, &all, 1, 1, &rows, &err), EMB_E_DEADLINE);
    emb_db_close(db);
}

static void test_answers(void **state)
{
    (void)state;
    emb_db *db;
    int64_t n;
    ok(emb_db_open(url, &OPTIONS, &db, &err));
    ok(add(db, "one", 1));
    const emb_param values[] = {emb_param_text("one"), emb_param_int(INT64_C(1) << 40)};
    ok(emb_db_ask(db, &RAISE, values, 2, soon(), &n, &err));
    assert_int_equal(n, (INT64_C(1) << 40) + 1);
    ok(emb_db_ask(db, &RAISE, values, 2, soon(), &n, &err)); /* the first was committed */
    assert_int_equal(n, (INT64_C(2) << 40) + 1);
    const emb_param none[] = {emb_param_text(NULL), emb_param_int(1)};
    ok(emb_db_ask(db, &RAISE, none, 2, soon(), &n, &err));
    assert_int_equal(n, 0);
    emb_db_close(db);
}

static void test_transactions(void **state)
{
    (void)state;
    emb_db *db;
    emb_db_work work;
    const emb_param a[] = {emb_param_text("a"), emb_param_int(1), emb_param_text("")};
    const emb_param b[] = {emb_param_text("b"), emb_param_int(2), emb_param_text("")};
    ok(emb_db_open(url, &OPTIONS, &db, &err));
    ok(emb_db_begin(db, soon(), &work, &err));
    ok(emb_db_run(&work, &ADD, a, 3, &err));
    ok(emb_db_run(&work, &ADD, b, 3, &err));
    ok(emb_db_end(&work, EMB_OK, &err));
    assert_int_equal(count(db), 2);

    const emb_param c[] = {emb_param_text("c"), emb_param_int(3), emb_param_text("")};
    ok(emb_db_begin(db, soon(), &work, &err));
    ok(emb_db_run(&work, &ADD, c, 3, &err));
    emb_status st = emb_db_run(&work, &ADD, a, 3, &err); /* there already */
    assert_int_not_equal(st, EMB_OK);
    assert_int_equal(emb_db_end(&work, st, &err), st);
    assert_int_equal(count(db), 2);
    emb_db_close(db);
}

static emb_status all_of_it(const char *key, int64_t *n)
{
    const emb_param values[] = {emb_param_text(key), emb_param_int(1), emb_param_bytes("b", 1)};
    emb_db *db;
    emb_db_work work;
    emb_status st = emb_db_open(url, &OPTIONS, &db, &err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_db_begin(db, soon(), &work, &err)) == EMB_OK)
        st = emb_db_end(&work, emb_db_run(&work, &ADD, values, 3, &err), &err);
    if (st == EMB_OK)
        st = emb_db_ask(db, &COUNT, NULL, 0, soon(), n, &err);
    emb_db_close(db);
    return st;
}

static void test_short_of_memory(void **state)
{
    (void)state;
    int64_t n = 0;
    if (!fail_alloc_available())
        skip();
    emb_db *db;
    ok(emb_db_open(url, &OPTIONS, &db, &err));
    assert_int_equal(count(db), 0); /* SQLite's own, once for the process */
    emb_db_close(db);
    for (size_t i = 1;; i++) {
        char key[24];
        size_t live = fail_alloc_live();
        snprintf(key, sizeof key, "%zu", i);
        fail_alloc_at(i);
        emb_status st = all_of_it(key, &n);
        bool any = fail_alloc_stop();
        assert_true(st == EMB_OK || st == EMB_E_NOMEM || st == EMB_E_IO);
        assert_int_equal(fail_alloc_live(), live);
        if (!any)
            break;
    }
    assert_true(n > 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {T(test_urls), T(test_rows), T(test_answers), T(test_transactions),
                                       T(test_short_of_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
