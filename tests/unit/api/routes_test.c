/* routes_test.c: which row a path finds, what it says otherwise, and tables that are refused. */
#include "api/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void handler(struct emb_api_call *call)
{
    (void)call;
}

#define ROW(methods, path)                                                                                 \
    {                                                                                                      \
        methods, path, EMB_FAMILY_OPENAI, EMB_AUTH_KEY, EMB_RIGHT_USE, handler, "", NULL, NULL, NULL, NULL \
    }

static const emb_route one[] = {ROW(EMB_HTTP_POST, "/v1/embeddings"),
                                ROW(EMB_HTTP_GET, "/v1/models"),
                                ROW(EMB_HTTP_GET, "/v1/models/{id...}"),
                                ROW(EMB_HTTP_GET, "/items/{c}/list/{i}"),
                                ROW(EMB_HTTP_GET | EMB_HTTP_DELETE, "/items/{c}"),
                                ROW(EMB_HTTP_POST, "/items/{c}"),
                                ROW(EMB_HTTP_GET, "/"),
                                {0}};
static const emb_route two[] = {
    ROW(EMB_HTTP_GET, "/v1/models/{id}/files"), ROW(EMB_HTTP_PUT, "/v1/models"), {0}};
static const emb_route *const families[] = {one, two};

typedef struct fixture {
    emb_route_table *table;
    emb_arena arena;
    emb_route_match match;
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    emb_error err;
    emb_arena_init(&f->arena);
    *state = f;
    return emb_routes_open(families, 2, &f->table, &err) ? -1 : 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    emb_routes_close(f->table);
    emb_arena_fini(&f->arena);
    free(f);
    return 0;
}

static void check(fixture *f, emb_http_method method, const char *path, const char *route, const char *a,
                  const char *b)
{
    emb_route_result r = emb_routes_find(f->table, method, path, &f->arena, &f->match);
    if (!route) {
        assert_int_equal(r, EMB_ROUTE_NOT_FOUND);
        return;
    }
    assert_int_equal(r, EMB_ROUTE_FOUND);
    assert_string_equal(f->match.route->path, route);
    if (a)
        assert_string_equal(f->match.parameters[0], a);
    else
        assert_null(f->match.parameters[0]);
    if (b)
        assert_string_equal(f->match.parameters[1], b);
}

static void test_find(void **state)
{
    fixture *f = *state;
    check(f, EMB_HTTP_POST, "/v1/embeddings", "/v1/embeddings", NULL, NULL);
    check(f, EMB_HTTP_POST, "/v1/embeddings/", "/v1/embeddings", NULL, NULL);
    check(f, EMB_HTTP_GET, "/", "/", NULL, NULL);
    check(f, EMB_HTTP_GET, "/v1/models", "/v1/models", NULL, NULL);
    check(f, EMB_HTTP_HEAD, "/v1/models", "/v1/models", NULL, NULL);
    check(f, EMB_HTTP_PUT, "/v1/models", "/v1/models", NULL, NULL);
    check(f, EMB_HTTP_GET, "/v1/models/a/b/c", "/v1/models/{id...}", "a/b/c", NULL);
    check(f, EMB_HTTP_GET, "/v1/models/a/files", "/v1/models/{id}/files", "a",
          NULL); /* though the other came first */
    check(f, EMB_HTTP_GET, "/v1/models/a/b/files", "/v1/models/{id...}", "a/b/files", NULL);
    check(f, EMB_HTTP_GET, "/items/x/list/y", "/items/{c}/list/{i}", "x", "y");
    check(f, EMB_HTTP_DELETE, "/items/x", "/items/{c}", "x", NULL);
    check(f, EMB_HTTP_POST, "/items/{c}", "/items/{c}", "{c}", NULL);
    const char *const nowhere[] = {"",
                                   "x",
                                   "///",
                                   "/v1",
                                   "/v1/embedding",
                                   "/v1/embeddings/x",
                                   "/items/",
                                   "/items",
                                   "/items/x/list/",
                                   "/items//list/y",
                                   "/items/x/y",
                                   "/v1//models"};
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++)
        check(f, EMB_HTTP_GET, nowhere[i], NULL, NULL, NULL);
}

static void test_methods(void **state)
{
    fixture *f = *state;
    char text[80];
    assert_int_equal(emb_routes_find(f->table, EMB_HTTP_PUT, "/items/x", &f->arena, &f->match),
                     EMB_ROUTE_NO_METHOD);
    emb_methods_text(f->match.methods, text, sizeof text);
    assert_string_equal(text, "GET, HEAD, POST, DELETE");
    assert_int_equal(emb_routes_find(f->table, EMB_HTTP_HEAD, "/v1/embeddings", &f->arena, &f->match),
                     EMB_ROUTE_NO_METHOD);
    emb_methods_text(f->match.methods, text, sizeof text);
    assert_string_equal(text, "POST");
    emb_methods_text(EMB_HTTP_GET | EMB_HTTP_POST, text, 6); /* cut, never past its end */
    assert_int_equal(strlen(text), 5);
}

static void test_index(void **state)
{
    fixture *f = *state;
    assert_int_equal(emb_routes_count(f->table), 9);
    for (size_t i = 0; i < 9; i++) {
        size_t first = 0;
        while (strcmp(emb_routes_at(f->table, first)->path, emb_routes_at(f->table, i)->path) != 0)
            first++;
        assert_int_equal(emb_routes_index(f->table, emb_routes_at(f->table, i)->path), first);
    }
    assert_int_equal(emb_routes_index(f->table, ""), 9);
    assert_null(emb_routes_at(f->table, 9));
}

static void test_near(void **state)
{
    fixture *f = *state;
    const emb_route *near[3];
    assert_int_equal(emb_routes_near(f->table, "/v1/embedding", near, 3), 3);
    assert_string_equal(near[0]->path, "/v1/embeddings");
    assert_int_equal(emb_routes_near(f->table, "/v1/modles", near, 1), 1);
    assert_string_equal(near[0]->path, "/v1/models");
    char path[5000];
    memset(path, 'x', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = 0;
    assert_int_equal(emb_routes_near(f->table, path, near, 3), 0);
}

static void refuse(emb_route row)
{
    const emb_route rows[] = {ROW(EMB_HTTP_GET, "/a/{b}"), row, {0}};
    const emb_route *const tables[] = {rows};
    emb_route_table *table = NULL;
    emb_error err;
    assert_int_equal(emb_routes_open(tables, 1, &table, &err), EMB_E_INVALID);
    assert_null(table);
    assert_non_null(strstr(err.message, row.path));
}

static void test_refused(void **state)
{
    (void)state;
    refuse((emb_route)ROW(EMB_HTTP_GET, "a"));
    refuse((emb_route)ROW(EMB_HTTP_GET, "/a/{"));
    refuse((emb_route)ROW(EMB_HTTP_GET, "/a/{}"));
    refuse((emb_route)ROW(EMB_HTTP_GET, "/a/{b}c"));
    refuse((emb_route)ROW(EMB_HTTP_GET, "/a/x{b}"));
    refuse((emb_route)ROW(EMB_HTTP_GET, "/{a}/{b}/{c}/{d}/{e}"));
    refuse((emb_route)ROW(0, "/b"));
    refuse((emb_route)ROW(EMB_HTTP_POST | EMB_HTTP_GET, "/a/{b}"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(test_find), TEST(test_methods), TEST(test_index), TEST(test_near),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
