/* URLs of databases: what they mean, and that no refusal quotes a password. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/url.h"
#include "support/fail_alloc.h"

#include <stdio.h>
#include <string.h>

static void same(const char *actual, const char *expected)
{
    if (!expected)
        assert_null(actual);
    else {
        assert_non_null(actual);
        assert_string_equal(actual, expected);
    }
}

static void test_parts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *scheme, *user, *password, *host, *path;
        unsigned port;
    } cases[] = {
        {"redis://localhost", "redis", NULL, NULL, "localhost", NULL, 0},
        {"redis://localhost:6380/2", "redis", NULL, NULL, "localhost", "/2", 6380},
        {"redis://:pw@h:", "redis", NULL, "pw", "h", NULL, 0},
        {"redis://u:p@h/", "redis", "u", "p", "h", "/", 0},
        {"redis://u:a%40b%3A%2f%25@h:1", "redis", "u", "a@b:/%", "h", NULL, 1},
        {"redis://u:a@b:c@h:65535", "redis", "u", "a@b:c", "h", NULL, 65535},
        {"redis://[::1]:7/3?a=b", "redis", NULL, NULL, "::1", "/3", 7},
        {"redis://[fe80::1%25eth0]", "redis", NULL, NULL, "fe80::1%eth0", NULL, 0},
        {"unix:///run/r%20s.sock?db=4", "unix", NULL, NULL, NULL, "/run/r s.sock", 0},
        {"unix://u:p@/a", "unix", "u", "p", NULL, "/a", 0},
        {"redis://u@h", "redis", "u", NULL, "h", NULL, 0},
        {"redis://", "redis", NULL, NULL, NULL, NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_url url;
        emb_error err;
        if (emb_url_parse(cases[i].text, &url, &err) != EMB_OK)
            fail_msg("%s: %s", cases[i].text, err.message);
        same(url.scheme, cases[i].scheme);
        same(url.user, cases[i].user);
        same(url.password, cases[i].password);
        same(url.host, cases[i].host);
        same(url.path, cases[i].path);
        assert_int_equal(url.port, cases[i].port);
        emb_url_fini(&url);
    }
}

static void test_options(void **state)
{
    (void)state;
    emb_url url;
    emb_error err;
    assert_int_equal(emb_url_parse("s://h?a=1&b=x%3Dy&&c&d=&a=2", &url, &err), EMB_OK);
    same(emb_url_option(&url, "a"), "2");
    same(emb_url_option(&url, "b"), "x=y");
    same(emb_url_option(&url, "c"), "");
    same(emb_url_option(&url, "d"), "");
    same(emb_url_option(&url, "e"), NULL);
    emb_url_fini(&url);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "hunter2",
        "://hunter2",
        "redis:hunter2",
        "redis://h:hunter2",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:99999999999",
        "redis://h:-1",
        "redis://[::1",
        "redis://[::1]x",
        "redis://:hunter2%@h",
        "redis://:hunter2%0g@h",
        "redis://:hunter2%00@h",
        "redis://h/hunter2%1",
        "redis://h?hunter2=%zz",
        "redis://h?%=hunter2",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        emb_url url;
        emb_error err = {0};
        if (emb_url_parse(bad[i], &url, &err) != EMB_E_INVALID)
            fail_msg("%s was taken", bad[i]);
        assert_true(err.message[0]);
        assert_null(strstr(err.message, "hunter2"));
    }
    char text[9000] = "redis://h?", many[400] = "redis://h?";
    memset(text + 10, 'a', sizeof text - 11);
    for (int i = 0; i < 33; i++)
        strcat(many, "a=b&");
    emb_url url;
    assert_int_equal(emb_url_parse(text, &url, NULL), EMB_E_INVALID);
    assert_int_equal(emb_url_parse(many, &url, NULL), EMB_E_INVALID);
    many[strlen(many) - 4] = 0;
    assert_int_equal(emb_url_parse(many, &url, NULL), EMB_OK);
    emb_url_fini(&url);
}

static void test_no_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    emb_url url;
    emb_error err;
    fail_alloc_at(1);
    assert_int_equal(emb_url_parse("redis://h", &url, &err), EMB_E_NOMEM);
    assert_true(fail_alloc_stop());
}

static void test_schemes(void **state)
{
    (void)state;
    assert_true(emb_url_is("sqlite:x", "sqlite"));
    assert_true(emb_url_is("postgres://h", "postgresql,postgres"));
    assert_true(emb_url_is("postgresql://h", "postgresql,postgres"));
    assert_true(emb_url_is("memory:", "memory"));
    assert_false(emb_url_is("postgre://h", "postgresql,postgres"));
    assert_false(emb_url_is("postgresqls://h", "postgresql,postgres"));
    assert_false(emb_url_is("sqlite", "sqlite"));
    assert_false(emb_url_is(":", "sqlite"));
    assert_false(emb_url_is("", "sqlite"));
    assert_false(emb_url_is(NULL, "sqlite"));
    assert_string_equal(emb_url_sqlite_path("sqlite:a/b"), "a/b");
    assert_string_equal(emb_url_sqlite_path("sqlite:/a"), "/a");
    assert_string_equal(emb_url_sqlite_path("sqlite:///a"), "/a");
    assert_string_equal(emb_url_sqlite_path("sqlite:"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),     cmocka_unit_test(test_options), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_schemes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
