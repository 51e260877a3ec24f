/* The YAML file: how settings may be written, and every way to write it wrong, with the message. */
#include "unit/config/config_checks.h"

#include "config/yaml.h"
#include "support/fail_alloc.h"

static emb_status parse(const char *text, size_t length, emb_config_state *state, emb_error *err)
{
    memset(state, 0, sizeof *state);
    emb_arena_init(&state->arena);
    for (size_t i = 0, count; i < EMB_SETTING_TOTAL; i++) /* as emb_config_load does */
        state->origins[i] = (emb_origin){EMB_SOURCE_DEFAULT, "default", emb_settings(&count)[i].path};
    return emb_config_parse_file(state, "f.yaml", text, length, err);
}

static void accepts(const char *text, const char *path, const char *value, const char *where)
{
    emb_config_state state;
    emb_error err = {0};
    if (parse(text, strlen(text), &state, &err))
        fail_msg("%s", err.message);
    assert_string_equal(written(&state.values, path), value);
    assert_string_equal(origin(&state.values, path), where);
    emb_arena_fini(&state.arena);
}

static void refuses_bytes(const char *text, size_t length, const char *message)
{
    emb_config_state state;
    emb_error err = {0};
    emb_status status = parse(text, length, &state, &err);
    if (!status)
        fail_msg("was accepted: %s", text);
    assert_int_equal(status, EMB_E_INVALID);
    assert_string_equal(err.message, message);
    assert_memory_equal(err.where, "f.yaml:", 7);
    emb_arena_fini(&state.arena);
}

static void refuses(const char *text, const char *message)
{
    refuses_bytes(text, strlen(text), message);
}

static void spellings(void **state)
{
    (void)state;
    accepts("server:\n  loops: 3\n", "server.loops", "3", "f.yaml:2");
    accepts("server.loops: 3", "server.loops", "3", "f.yaml:1");
    accepts("{server: {loops: '3'}}", "server.loops", "3", "f.yaml:1");
    accepts("# c\n---\nserver:\n  # c\n  loops: 3 # c\n...\n", "server.loops", "3", "f.yaml:5");
    accepts("\xEF\xBB\xBFserver.loops: 3\r\nlog.level: debug\r\n", "log.level", "debug", "f.yaml:2");
    accepts("server:\n  listen: [\":1\", 'unix:/x y']\n", "server.listen", ":1,unix:/x y", "f.yaml:2");
    accepts("server:\n  listen:\n  - :1\n  - :2\n", "server.listen", ":1,:2", "f.yaml:2");
    accepts("models:\n  path: [/a, /b]\n", "models.path", "/a:/b", "f.yaml:2");
    accepts("models: {allowed: []}", "models.allowed", "", "f.yaml:1");
    accepts("server:\n  cors_origins: \"\"\n", "server.cors_origins", "", "f.yaml:2");
    accepts("server:\nmodels.threads: 2\n", "models.threads", "2", "f.yaml:2");
    accepts("cache:\n  l1_bytes: 1.5GiB\n  enabled: no\n", "cache.enabled", "false", "f.yaml:3");
    accepts("hub:\n  home: >-\n    /a\n    b\n", "hub.home", "/a b", "f.yaml:2");
    accepts("hub:\n  home: \"/\\u00e4\"\n", "hub.home", "/ä", "f.yaml:2");
    accepts("models.default: \"null\"\n", "models.default", "null", "f.yaml:1");
    accepts("server: {loops: &n 7}\nmodels:\n  threads: *n\n", "models.threads", "7", "f.yaml:3");
    accepts("cache: &c {l1_size: 5}\n", "cache.l1_size", "5", "f.yaml:1");
    accepts("", "server.loops", "0", "default");
    accepts("# nothing\n", "server.loops", "0", "default");
    accepts("---\n~\n", "server.loops", "0", "default");
}

static void unknown_keys(void **state)
{
    (void)state;
    refuses("server:\n  loop: 1\n",
            "f.yaml:2: there is no setting 'server.loop'; did you mean 'server.loops'?");
    refuses("servr:\n  loops: 1\n", "f.yaml:1: there is no setting 'servr'; did you mean 'server'?");
    refuses("\n\nserver.lops: 1\n",
            "f.yaml:3: there is no setting 'server.lops'; did you mean 'server.loops'?");
    refuses("loops: 1\n", "f.yaml:1: there is no setting 'loops'; did you mean 'server.loops'?");
    refuses("server: {l1_size: 1}\n",
            "f.yaml:1: there is no setting 'server.l1_size'; did you mean 'cache.l1_size'?");
    refuses("frobnicate: 1\n",
            "f.yaml:1: there is no setting 'frobnicate'; 'embedd config print' lists them");
    refuses("server: {\"a\\nb\": 1}\n",
            "f.yaml:1: there is no setting 'server.a?b'; 'embedd config print' lists them");
    refuses("\"\": 1\n", "f.yaml:1: there is no setting ''; 'embedd config print' lists them");
}

static void wrong_kinds(void **state)
{
    (void)state;
    refuses("server: 5\n",
            "f.yaml:1: server: is a section and holds settings, not a value; write them below it, indented");
    refuses("server: [a]\n",
            "f.yaml:1: server: is a section and holds settings, not a list; write them below it, indented");
    refuses("server:\n  loops: [1]\n", "f.yaml:2: server.loops: is a list, a single value is wanted");
    refuses("server:\n  loops: {a: 1}\n", "f.yaml:2: server.loops: is a mapping, a single value is wanted");
    refuses("server:\n  listen: {a: 1}\n", "f.yaml:2: server.listen: is a mapping, a single value is wanted");
    refuses("server:\n  loops:\n",
            "f.yaml:2: server.loops: has no value; write one (\"\" for an empty text) or leave the "
            "line out");
    refuses("server:\n  loops: ~\n",
            "f.yaml:2: server.loops: has no value; write one (\"\" for an empty text) or leave "
            "the line out");
    refuses("server:\n  loops: many\n",
            "f.yaml:2: server.loops: 'many' is not a whole number; allowed: 0 to 64");
    refuses("server:\n  loops: \"\"\n", "f.yaml:2: server.loops: '' is not a whole number; allowed: 0 to 64");
    refuses("server:\n  listen:\n  - :1\n  - [a]\n",
            "f.yaml:4: server.listen: an item of the list is not a value");
    refuses("server:\n  listen: [~]\n", "f.yaml:2: server.listen: an item of the list is not a value");
    refuses("server:\n  listen: [\"a,b\"]\n",
            "f.yaml:2: server.listen: an item of the list holds a ',', which separates "
            "items");
    refuses("- a\n", "f.yaml:1: the file is a list; sections such as 'server:' are wanted");
    refuses("\nserver\n", "f.yaml:2: the file is a value; sections such as 'server:' are wanted");
    refuses("hub:\n  home: \"a\\0b\"\n", "f.yaml:2: hub.home: 'a?b' holds a control character");
}

static void duplicates(void **state)
{
    (void)state;
    refuses("server:\n  loops: 1\n  access_log: on\n  loops: 1\n",
            "f.yaml:4: loops: is here twice; the first is in line 2");
    refuses("server: {}\ncache: {}\nserver: {}\n", "f.yaml:3: server: is here twice; the first is in line 1");
    refuses("server:\n  loops: 1\nserver.loops: 1\n",
            "f.yaml:3: server.loops: is here twice; the first is in line 2");
}

static void not_yaml(void **state)
{
    (void)state;
    refuses("server:\n\tloops: 1\n", "f.yaml:2: the line is indented with a tab; YAML wants spaces");
    refuses("server:\n  \tloops: x: y\n", "f.yaml:2: the line is indented with a tab; YAML wants spaces");
    refuses("server: [1\n",
            "f.yaml:2: this is not YAML: while parsing a flow sequence, did not find expected ',' or ']'");
    refuses("a: b: c\n", "f.yaml:1: this is not YAML: mapping values are not allowed in this context");
    refuses("a: \"b\n",
            "f.yaml:2: this is not YAML: while scanning a quoted scalar, found unexpected end of stream");
    refuses("a: \x01\n", "f.yaml:1: holds a character that YAML does not allow");
    refuses("server.loops: 1\nx: \xff\n", "f.yaml:2: is not valid UTF-8");
    refuses_bytes("a: 1\n\0b", 7, "f.yaml:2: holds a NUL byte");
    refuses_bytes("\xff\xfe"
                  "a\0:\0",
                  6, "f.yaml:1: is not valid UTF-8");
    refuses("server.loops: 1\n---\nserver.loops: 2\n",
            "f.yaml:2: a second document begins here; one is allowed");
    refuses("server: !x {}\n", "f.yaml:1: tags (!name) are not supported");
    refuses("server.loops: !!int 3\n", "f.yaml:1: tags (!name) are not supported");
    refuses("server: &a {loops: 1}\ncache:\n  <<: *a\n", "f.yaml:3: merge keys (<<) are not supported");
    refuses("[a]: 1\n", "f.yaml:1: a list cannot be a key");
    refuses("? {a: 1}\n: 1\n", "f.yaml:1: a mapping cannot be a key");
    refuses("\"a\\0b\": 1\n", "f.yaml:1: a key holds a NUL character");
}

/* What is nested or named without end is refused, and nothing is expanded. */
static void bounds(void **state)
{
    (void)state;
    refuses("a: *x\n", "f.yaml:1: an alias (*name) has no anchor (&name) that ends before it");
    refuses("server: &x {loops: *x}\n",
            "f.yaml:1: an alias (*name) has no anchor (&name) that ends before it");
    refuses("a: [[[[[[[[[[[[[[[[[[[[\n", "f.yaml:1: more than 16 levels are nested");
    char text[4096] = "";
    for (size_t i = 0; i < 65; i++)
        sprintf(text + strlen(text), "k%zu: &a%zu 1\n", i, i);
    refuses(text, "f.yaml:65: there are more than 64 anchors (&name) in the file");
    /* a thousand million items, were they expanded */
    refuses("a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nserver.listen: *e\n",
            "f.yaml:1: there is no setting 'a'; 'embedd config print' lists them");
    char *big = malloc(400000);
    strcpy(big, "server.listen: [");
    for (size_t i = strlen(big); i < 300000; i++)
        big[i] = 'x';
    strcpy(big + 300000, "]\n");
    refuses(big, "f.yaml:1: server.listen: the list is longer than 262144 bytes");
    free(big);
}

static void secrets_stay_secret(void **state)
{
    (void)state;
    static const char *const texts[] = {"access: {api_keys: \"geheim\\n\"}\n",
                                        "cache.redis_url: \"geheim\\e\"\n",
                                        "access:\n  api_keys: [geheim, \"a,geheim\"]\n",
                                        "access:\n  api_keys: {geheim: 1}\n",
                                        "access:\n  api_keys: geheim: x\n",
                                        "access:\n  api_keys: \"geheim\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        emb_config_state s;
        emb_error err = {0};
        assert_int_equal(parse(texts[i], strlen(texts[i]), &s, &err), EMB_E_INVALID);
        assert_null(strstr(err.message, "geheim"));
        emb_arena_fini(&s.arena);
    }
}

static void files(void **state)
{
    (void)state;
    char message[400];
    char *large = malloc((1 << 20) + 2);
    memset(large, '#', (1 << 20) + 1);
    const char *path = write_file("large.yaml", large, (1 << 20) + 1);
    emb_config_sources sources = {.file = path, .environment = NO_ENVIRONMENT};
    snprintf(message, sizeof message, "%s: over the limit of 1048576 bytes", path);
    emb_error err = {0};
    emb_config *c;
    refuses_sources(&sources, message);
    remove_file(path);
    path = write_file("most.yaml", large, 1 << 20);
    sources.file = path;
    assert_int_equal(emb_config_load(&sources, &c, &err), EMB_OK);
    assert_string_equal(c->file, path);
    emb_config_release(c);
    remove_file(path);
    free(large);
    sources.file = "/tmp";
    refuses_sources(&sources, "reading /tmp: is a directory");
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    static const char text[] = "a: &x {b: [1, \"2\", *y]}\n"; /* fails late, after most allocations */
    static const char good[] = "a: &x {b: [1, \"2\"], c: 3}\nd: *x\ne: |\n  text\n";
    for (size_t n = 1;; n++) {
        emb_yaml *yaml;
        emb_error err = {0};
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_yaml_parse("f", good, sizeof good - 1, &yaml, &err);
        bool failed = fail_alloc_stop();
        assert_int_equal(status, failed ? EMB_E_NOMEM : EMB_OK);
        emb_yaml_close(yaml);
        assert_int_equal(emb_yaml_parse("f", text, sizeof text - 1, &yaml, &err), EMB_E_INVALID);
        assert_int_equal(fail_alloc_live(), live);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spellings),
        cmocka_unit_test(unknown_keys),
        cmocka_unit_test(wrong_kinds),
        cmocka_unit_test(duplicates),
        cmocka_unit_test(not_yaml),
        cmocka_unit_test(bounds),
        cmocka_unit_test(secrets_stay_secret),
        cmocka_unit_test(files),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests_name("config file", tests, NULL, NULL);
}
