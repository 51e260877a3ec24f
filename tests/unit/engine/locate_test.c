/* Names of models to directories: the places, their order, the hub cache, and the error. */
#include "engine/locate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/fail_alloc.h"

#include <cmocka.h>

static char root[64], start[4096];

static void run(const char *format, const char *argument)
{
    char command[1024];
    snprintf(command, sizeof command, format, argument);
    assert_int_equal(system(command), 0);
}

/* Creates an empty file below the root, with its directories. */
static void touch(const char *path)
{
    char file[512];
    snprintf(file, sizeof file, "'%s/%s'", root, path);
    run("mkdir -p \"$(dirname %s)\"", file);
    run(": > %s", file);
}

static void write_file(const char *path, const char *text)
{
    char file[512];
    touch(path);
    snprintf(file, sizeof file, "%s/%s", root, path);
    FILE *stream = fopen(file, "w");
    assert_non_null(stream);
    fputs(text, stream);
    fclose(stream);
}

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/embedd-locate-XXXXXX");
    assert_non_null(mkdtemp(root));
    assert_non_null(getcwd(start, sizeof start));
    assert_int_equal(chdir(root), 0);
    unsetenv("EMBEDD_MODELS");
    unsetenv("HF_HOME");
    unsetenv("XDG_CACHE_HOME");
    char hub[128];
    snprintf(hub, sizeof hub, "%s/hub", root);
    setenv("HF_HUB_CACHE", hub, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(chdir(start), 0);
    run("rm -rf '%s'", root);
    return 0;
}

static void found_at(const char *name, const char *models_path, const char *where)
{
    char *path, want[512];
    emb_error error;
    emb_status status = emb_locate_model(name, models_path, &path, &error);
    if (status)
        fail_msg("%s: %s", name, error.message);
    char *real = realpath(path, NULL);
    snprintf(want, sizeof want, "%s/%s", root, where);
    assert_string_equal(real, want);
    free(real);
    free(path);
}

static void not_there(const char *name, const char *models_path, emb_error *error)
{
    char *path = (char *)"unset";
    assert_int_equal(emb_locate_model(name, models_path, &path, error), EMB_E_NOT_FOUND);
    assert_null(path);
    assert_string_equal(error->where, name);
}

static void paths(void **state)
{
    (void)state;
    emb_error error;
    touch("here/config.json");
    touch("modules/modules.json");
    touch("empty/README.md");
    found_at("here", NULL, "here");
    found_at("./here", NULL, "here");
    found_at("modules", NULL, "modules");
    char absolute[128];
    snprintf(absolute, sizeof absolute, "%s/here", root);
    found_at(absolute, NULL, "here");
    not_there("./empty", NULL, &error);
    assert_non_null(strstr(error.message, "config.json"));
    not_there("./nothing", NULL, &error);
    assert_non_null(strstr(error.message, "no directory"));
    not_there("../../../etc/passwd", NULL, &error);
}

static void places_in_order(void **state)
{
    (void)state;
    char both[256];
    touch("models/m/config.json");
    found_at("m", NULL, "models/m");
    touch("second/m/config.json");
    touch("first/other/config.json");
    snprintf(both, sizeof both, "%s/first:%s/second:", root, root);
    found_at("m", both, "second/m");
    setenv("EMBEDD_MODELS", both, 1);
    found_at("m", NULL, "second/m");
    found_at("other", NULL, "first/other");
    touch("first/m/config.json");
    found_at("m", NULL, "first/m");
    found_at("m", "second", "second/m"); /* an argument replaces the variable */
    found_at("org/m", "second", "second/m");
    touch("second/org/m/config.json");
    found_at("org/m", "second", "second/org/m");
}

static void hub_cache(void **state)
{
    (void)state;
    emb_error error;
    touch("hub/models--BAAI--bge-m3/snapshots/0123abcd/config.json");
    touch("hub/models--BAAI--bge-m3/snapshots/fedcba98/config.json");
    write_file("hub/models--BAAI--bge-m3/refs/main", "0123abcd\n");
    found_at("BAAI/bge-m3", NULL, "hub/models--BAAI--bge-m3/snapshots/0123abcd");
    found_at("bge-m3", NULL, "hub/models--BAAI--bge-m3/snapshots/0123abcd");
    touch("hub/models--sentence-transformers--all-mpnet-base-v2/snapshots/aa/config.json");
    found_at("all-mpnet-base-v2", NULL, "hub/models--sentence-transformers--all-mpnet-base-v2/snapshots/aa");
    touch("hub/models--someone--private/snapshots/aa/config.json");
    found_at("someone/private", NULL, "hub/models--someone--private/snapshots/aa");
    not_there("private", NULL, &error); /* not an organisation that everybody knows */
    assert_non_null(strstr(error.message, "someone/private"));
    /* references that lead out of the cache are not followed */
    touch("hub/models--x--y/snapshots/aa/README");
    write_file("hub/models--x--y/refs/main", "../../../../models/m");
    not_there("x/y", NULL, &error);
    /* half a download */
    touch("hub/models--x--half/refs/main");
    not_there("x/half", NULL, &error);
    /* the other ways to say where the cache is */
    unsetenv("HF_HUB_CACHE");
    char home[128];
    snprintf(home, sizeof home, "%s", root);
    setenv("HF_HOME", home, 1);
    found_at("bge-m3", NULL, "hub/models--BAAI--bge-m3/snapshots/0123abcd");
    unsetenv("HF_HOME");
    setenv("HOME", home, 1);
    not_there("bge-m3", NULL, &error);
    touch(".cache/huggingface/hub/models--a--b/snapshots/1/config.json");
    found_at("a/b", NULL, ".cache/huggingface/hub/models--a--b/snapshots/1");
    found_at("bge-m3", "hub", "hub/models--BAAI--bge-m3/snapshots/0123abcd");
}

static void the_error_helps(void **state)
{
    (void)state;
    emb_error error;
    touch("models/all-MiniLM-L6-v2/config.json");
    touch("models/unrelated/config.json");
    not_there("all-minilm-l6", NULL, &error);
    assert_non_null(strstr(error.message, "near: all-MiniLM-L6-v2)"));
    assert_null(strstr(error.message, "unrelated"));
    assert_non_null(strstr(error.message, "looked in: models, "));
    assert_non_null(strstr(error.message, "/hub"));
    not_there("something-else-entirely", NULL, &error);
    assert_null(strstr(error.message, "near:"));
    char long_name[5000];
    memset(long_name, 'a', sizeof long_name);
    long_name[300] = 0;
    char *path;
    assert_int_equal(emb_locate_model(long_name, NULL, &path, &error), EMB_E_NOT_FOUND);
    long_name[300] = 'a';
    long_name[4999] = 0;
    assert_int_equal(emb_locate_model(long_name, NULL, &path, &error), EMB_E_INVALID);
}

typedef struct seen {
    char names[256];
    int stop_after;
} seen;

static bool note(void *context, const char *name, const char *path)
{
    seen *s = context;
    assert_int_equal(access(path, R_OK), 0);
    strcat(s->names, name);
    strcat(s->names, " ");
    return --s->stop_after != 0;
}

static void listing(void **state)
{
    (void)state;
    touch("models/b/config.json");
    touch("models/a/config.json");
    touch("models/.hidden/config.json");
    touch("models/nothing/x");
    touch("hub/models--org--c/snapshots/1/config.json");
    seen s = {.stop_after = -1};
    assert_int_equal(emb_locate_each(NULL, note, &s, NULL), EMB_OK);
    char *installed = strstr(s.names, "org/c ");
    assert_non_null(installed);
    assert_memory_equal(s.names, "a b ", 4);
    seen first = {.stop_after = 1};
    assert_int_equal(emb_locate_each(NULL, note, &first, NULL), EMB_OK);
    assert_string_equal(first.names, "a ");
}

static void each_allocation_fails(void **state)
{
    (void)state;
    if (!fail_alloc_available()) {
        print_message("skipped: the sanitizer has its own malloc\n");
        skip();
    }
    touch("models/all-MiniLM-L6-v2/config.json");
    touch("hub/models--org--c/snapshots/1/config.json");
    touch("later/c/config.json");
    const char *names[] = {"org/c", "all-minilm-l6"};
    for (int i = 0; i < 2; i++) {
        bool failed = true;
        for (size_t n = 1; failed; n++) {
            char *path;
            emb_error error;
            size_t live = fail_alloc_live();
            fail_alloc_at(n);
            emb_status status = emb_locate_model(names[i], "hub:later", &path, &error);
            failed = fail_alloc_stop();
            if (status != EMB_E_NOMEM || !failed)
                assert_int_equal(status, i == 0 ? EMB_OK : EMB_E_NOT_FOUND);
            if (!status) /* never the second best */
                assert_non_null(strstr(path, "hub/models--org--c/"));
            free(path);
            assert_int_equal(fail_alloc_live(), live);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(paths),           TEST(places_in_order), TEST(hub_cache),
        TEST(the_error_helps), TEST(listing),         TEST(each_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
