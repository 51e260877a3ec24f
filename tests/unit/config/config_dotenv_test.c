/* .env as other tools read it. */
#include "unit/config/config_checks.h"

static emb_arena arena;

static const char *value_of(const emb_variables *v, const char *name, size_t line)
{
    for (size_t i = v->count; i-- > 0;)
        if (strcmp(v->items[i].name, name) == 0) {
            assert_int_equal(v->items[i].line, line);
            return v->items[i].value;
        }
    fail_msg("%s is not there", name);
    return NULL;
}

static void accepts(const char *text, const char *value, size_t line)
{
    emb_variables v;
    emb_error err = {0};
    emb_arena_init(&arena);
    if (emb_dotenv_parse(".env", text, strlen(text), &arena, &v, &err))
        fail_msg("%s", err.message);
    assert_string_equal(value_of(&v, "A", line), value);
    emb_arena_fini(&arena);
}

static void refuses(const char *text, size_t length, const char *message)
{
    emb_variables v;
    emb_error err = {0};
    emb_arena_init(&arena);
    assert_int_equal(emb_dotenv_parse(".env", text, length, &arena, &v, &err), EMB_E_INVALID);
    assert_string_equal(err.message, message);
    emb_arena_fini(&arena);
}

static void lines(void **state)
{
    (void)state;
    accepts("A=1", "1", 1);
    accepts("A=1\r\nB=2\r\n", "1", 1);
    accepts("\xEF\xBB\xBF"
            "A=1\n",
            "1", 1);
    accepts("\n  # comment\n\t\nA=1\n", "1", 4);
    accepts("export A=1\n", "1", 1);
    accepts("export\tA = 1  \n", "1", 1);
    accepts("exportA=0\nA=1\n", "1", 2);
    accepts("A=1\nA=2\n", "2", 2);
    accepts("A=\n", "", 1);
    accepts("A=  # nothing\n", "", 1);
    accepts("A=a b  # comment\n", "a b", 1);
    accepts("A=a#b\n", "a#b", 1);
    accepts("A=x=y=z\n", "x=y=z", 1);
    accepts("A=redis://:p@h/0?x#y\n", "redis://:p@h/0?x#y", 1);
    accepts("A=${HOME}\n", "${HOME}", 1);
    accepts("odd.name-x=1\nA=1\n", "1", 2);
}

static void quotes(void **state)
{
    (void)state;
    accepts("A=''\n", "", 1);
    accepts("A='a # \"b\" \\n $x'\n", "a # \"b\" \\n $x", 1);
    accepts("A='it\\'s \\\\'\n", "it's \\", 1);
    accepts("A=\"a \\\"b\\\" \\\\ \\$x \\q 'c'\"\n", "a \"b\" \\ $x \\q 'c'", 1);
    accepts("A=\"a\\nb\\tc\\r\"\n", "a\nb\tc\r", 1);
    accepts("A=\"1\" # comment\n", "1", 1);
    accepts("A=\"1\"\r\n", "1", 1);
    accepts("KEY=\"-----BEGIN\nline\n-----END\"\nA=1\n", "1", 4);
    accepts("B='two\nlines'  \n\nA=\"x\"", "x", 4);
    accepts("B=\"a\\nb\"\nA=1\n", "1", 2);
}

static void bad_lines(void **state)
{
    (void)state;
    static const char nul[] = "A=\0\n";
    refuses("A=1\ngeheim\n", 11, ".env:2: this line is not of the form NAME=VALUE");
    refuses("=1\n", 3, ".env:1: this line is not of the form NAME=VALUE");
    refuses("A B=1\n", 6, ".env:1: this line is not of the form NAME=VALUE");
    refuses("export A\n", 9, ".env:1: this line is not of the form NAME=VALUE");
    refuses("\nA='geheim\nB=1\n", 15, ".env:2: the quote that opens here is not closed");
    refuses("A=\"geheim\\\"\n", 12, ".env:1: the quote that opens here is not closed");
    refuses("A=\"a\nb\"geheim\n", 14, ".env:2: something follows the closing quote");
    refuses(nul, sizeof nul - 1, ".env: holds a NUL byte");
}

static void many(void **state)
{
    (void)state;
    emb_buf text = EMB_BUF_INIT(1 << 20);
    emb_variables v;
    emb_error err = {0};
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(emb_buf_addf(&text, "N%zu=%zu\n", i, i * i), EMB_OK);
    emb_arena_init(&arena);
    assert_int_equal(emb_dotenv_parse(".env", text.data, text.length, &arena, &v, &err), EMB_OK);
    assert_int_equal(v.count, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(strtoul(v.items[i].value, NULL, 10), i * i);
        assert_int_equal(v.items[i].line, i + 1);
    }
    emb_arena_fini(&arena);
    emb_buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(quotes),
        cmocka_unit_test(bad_lines),
        cmocka_unit_test(many),
    };
    return cmocka_run_group_tests_name("dotenv", tests, NULL, NULL);
}
