/* Keys, limits under a clock of the test's own, reloads, threads, and files that are wrong. */
#include "service/access.h"

#include "base/log.h"
#include "config/config.h"
#include "crypto/crypto.h"
#include "support/fail_alloc.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const uint64_t ms = 1000000, second = 1000000000, start = 5000000000000;

static char path[100];

static const char *hash(const char *key)
{
    static char text[8][2 * EMB_SHA256_BYTES + 1];
    static unsigned next;
    uint8_t digest[EMB_SHA256_BYTES];
    char *out = text[next++ % 8];
    assert_true(emb_sha256(key, strlen(key), digest));
    emb_hex(digest, sizeof digest, out);
    return out;
}

/* The file of keys, and a configuration that names it. */
static emb_config *configure(const char *keys, const char *file)
{
    char keys_variable[400], file_variable[200];
    snprintf(path, sizeof path, "/tmp/embedd-access-%d.yaml", (int)getpid());
    snprintf(keys_variable, sizeof keys_variable, "EMBEDD_API_KEYS=%s", keys);
    snprintf(file_variable, sizeof file_variable, "EMBEDD_API_KEYS_FILE=%s", file ? path : "");
    if (file) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        assert_int_equal(fputs(file, f) >= 0, 1);
        fclose(f);
        chmod(path, 0600);
    }
    char *const environment[] = {keys_variable, file_variable, NULL};
    emb_config_sources sources = {.environment = environment};
    emb_config *config;
    emb_error err = {0};
    if (emb_config_load(&sources, &config, &err))
        fail_msg("%s", err.message);
    return config;
}

static emb_access *open_access(const char *keys, const char *file)
{
    emb_error err = {0};
    emb_access *access;
    emb_config *config = configure(keys, file);
    if (emb_access_open(config, &access, &err))
        fail_msg("%s", err.message);
    emb_config_release(config);
    return access;
}

static void reload(emb_access *access, const char *keys, const char *file)
{
    emb_error err = {0};
    emb_config *config = configure(keys, file);
    if (emb_access_reload(access, config, &err))
        fail_msg("%s", err.message);
    emb_config_release(config);
}

static emb_access_verdict check_at(emb_access *access, const char *key, uint64_t now, emb_caller **caller,
                                   uint64_t *wait)
{
    return emb_access_check(access, key, key ? strlen(key) : 0, now, caller, wait);
}

static emb_access_verdict check(emb_access *access, const char *key, uint64_t now)
{
    emb_caller *caller;
    uint64_t wait;
    emb_access_verdict verdict = check_at(access, key, now, &caller, &wait);
    assert_int_equal(wait != 0, verdict == EMB_ACCESS_LIMITED);
    assert_true(!caller || verdict == EMB_ACCESS_GRANTED);
    emb_caller_release(caller);
    return verdict;
}

static uint64_t wait_of(emb_access *access, const char *key, uint64_t now)
{
    emb_caller *caller;
    uint64_t wait;
    assert_int_equal(check_at(access, key, now, &caller, &wait), EMB_ACCESS_LIMITED);
    return wait;
}

static void without_keys_all_are_let_in(void **state)
{
    (void)state;
    emb_access *access = open_access("", NULL);
    emb_caller *caller = (void *)1;
    uint64_t wait;
    assert_false(emb_access_needed(access));
    assert_int_equal(check_at(access, NULL, start, &caller, &wait), EMB_ACCESS_GRANTED);
    assert_null(caller);
    assert_int_equal(check(access, "whatever", start), EMB_ACCESS_GRANTED);
    assert_string_equal(emb_caller_name(NULL), "");
    assert_true(emb_caller_may_use(NULL, "any"));
    emb_caller_count_tokens(NULL, 5, start);
    emb_caller_release(NULL);
    emb_access_close(access);
    emb_access_close(NULL);
}

static void plain_keys(void **state)
{
    (void)state;
    emb_access *access = open_access(" alpha , beta,alpha", NULL);
    emb_caller *caller;
    uint64_t wait;
    char longest[5000];
    assert_true(emb_access_needed(access));
    assert_int_equal(check(access, NULL, start), EMB_ACCESS_MISSING);
    static const char *const wrong[] = {"", "alph", "alphaa", "ALPHA", " alpha", "alpha,beta"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(check(access, wrong[i], start), EMB_ACCESS_UNKNOWN);
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(check(access, longest, start), EMB_ACCESS_UNKNOWN);
    assert_int_equal(emb_access_check(access, "alpha\0x", 7, start, &caller, &wait), EMB_ACCESS_UNKNOWN);
    assert_int_equal(emb_access_check(access, "alphaxx", 5, start, &caller, &wait), EMB_ACCESS_GRANTED);
    emb_caller_release(caller);
    assert_int_equal(check_at(access, "beta", start, &caller, &wait), EMB_ACCESS_GRANTED);
    assert_string_equal(emb_caller_name(caller), "key-2");
    assert_true(emb_caller_may_use(caller, "any"));
    emb_caller_count_tokens(caller, 1000000, start);
    emb_caller_release(caller);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(check(access, "beta", start), EMB_ACCESS_GRANTED);
    emb_access_close(access);
}

static char *entry(const char *name, const char *key, const char *more)
{
    static char text[4][1000];
    static unsigned next;
    char *out = text[next++ % 4];
    snprintf(out, sizeof text[0], "  - name: %s\n    sha256: %s\n%s", name, hash(key), more);
    return out;
}

static const char *file_of(const char *a, const char *b)
{
    static char text[2100];
    snprintf(text, sizeof text, "keys:\n%s%s", a, b);
    return text;
}

static void a_file_of_keys(void **state)
{
    (void)state;
    emb_access *access = open_access(
        "plain", file_of(entry("a", "ka", "    models: [m1, \"bge-*\"]\n"), entry("b", "kb", "")));
    emb_caller *caller;
    uint64_t wait;
    assert_int_equal(check_at(access, "ka", start, &caller, &wait), EMB_ACCESS_GRANTED);
    assert_string_equal(emb_caller_name(caller), "a");
    assert_true(emb_caller_may_use(caller, "m1"));
    assert_true(emb_caller_may_use(caller, "bge-small"));
    assert_true(emb_caller_may_use(caller, "bge-"));
    assert_false(emb_caller_may_use(caller, "bge"));
    assert_false(emb_caller_may_use(caller, "m"));
    assert_false(emb_caller_may_use(caller, "m12"));
    assert_false(emb_caller_may_use(caller, ""));
    emb_caller_release(caller);
    assert_int_equal(check(access, "kb", start), EMB_ACCESS_GRANTED);
    assert_int_equal(check(access, "plain", start), EMB_ACCESS_GRANTED);
    assert_int_equal(check(access, hash("ka"), start), EMB_ACCESS_UNKNOWN); /* the hash is no key */
    emb_access_close(access);
    access = open_access("", "keys: []\n"); /* a file without keys lets nobody in */
    assert_true(emb_access_needed(access));
    assert_int_equal(check(access, NULL, start), EMB_ACCESS_MISSING);
    assert_int_equal(check(access, "ka", start), EMB_ACCESS_UNKNOWN);
    emb_access_close(access);
}

static void requests_per_minute(void **state)
{
    (void)state;
    emb_access *access =
        open_access("", file_of(entry("a", "ka", "    requests_per_minute: 60\n    burst: 3\n"),
                                entry("b", "kb", "    requests_per_minute: 600\n")));
    for (int i = 0; i < 3; i++)
        assert_int_equal(check(access, "ka", start), EMB_ACCESS_GRANTED);
    assert_int_equal(wait_of(access, "ka", start), 1000);
    assert_int_equal(wait_of(access, "ka", start + 1), 1000); /* rounded up, so that waiting is enough */
    assert_int_equal(wait_of(access, "ka", start + 999 * ms + 1), 1);
    assert_int_equal(check(access, "ka", start + second), EMB_ACCESS_GRANTED);
    assert_int_equal(wait_of(access, "ka", start + second), 1000);
    assert_int_equal(check(access, "kb", start + second), EMB_ACCESS_GRANTED); /* each key has its own */
    uint64_t later = start + 3600 * second; /* no more than a burst is saved up */
    for (int i = 0; i < 3; i++)
        assert_int_equal(check(access, "ka", later), EMB_ACCESS_GRANTED);
    assert_int_equal(check(access, "ka", later), EMB_ACCESS_LIMITED);
    int granted = 0; /* the default burst is a tenth, then the rate holds */
    for (uint64_t t = 0; t < 60 * second; t += 10 * ms)
        granted += check(access, "kb", later + t) == EMB_ACCESS_GRANTED;
    assert_in_range(granted, 60 + 599, 60 + 600);
    emb_access_close(access);
}

static void tokens_per_minute(void **state)
{
    (void)state;
    emb_access *access = open_access("", file_of(entry("a", "ka", "    tokens_per_minute: 600\n"), ""));
    emb_caller *caller;
    uint64_t wait;
    assert_int_equal(check_at(access, "ka", start, &caller, &wait), EMB_ACCESS_GRANTED);
    emb_caller_count_tokens(caller, 599, start);
    assert_int_equal(check(access, "ka", start), EMB_ACCESS_GRANTED); /* one is left */
    emb_caller_count_tokens(caller, 1, start);
    assert_int_equal(wait_of(access, "ka", start), 100);
    assert_int_equal(check(access, "ka", start + second / 10), EMB_ACCESS_GRANTED);
    emb_caller_count_tokens(caller, 1200, start); /* two minutes of debt */
    assert_int_equal(wait_of(access, "ka", start), 120100);
    assert_int_equal(check(access, "ka", start + 120 * second), EMB_ACCESS_LIMITED);
    assert_int_equal(check(access, "ka", start + 121 * second), EMB_ACCESS_GRANTED);
    emb_caller_count_tokens(caller, UINT64_MAX, start); /* no overflow: shut, not open */
    emb_caller_count_tokens(caller, UINT64_MAX, start);
    emb_caller_count_tokens(caller, UINT64_MAX, start);
    emb_caller_count_tokens(caller, UINT64_MAX, start);
    emb_caller_count_tokens(caller, UINT64_MAX, start);
    assert_int_equal(check(access, "ka", start), EMB_ACCESS_LIMITED);
    emb_caller_release(caller);
    emb_access_close(access);
}

static void reloads(void **state)
{
    (void)state;
    static const char limit[] = "    requests_per_minute: 1\n    burst: 1\n";
    emb_access *access = open_access("", file_of(entry("a", "ka", limit), entry("b", "kb", limit)));
    emb_caller *held;
    uint64_t wait;
    assert_int_equal(check_at(access, "ka", start, &held, &wait), EMB_ACCESS_GRANTED);
    assert_int_equal(check(access, "kb", start), EMB_ACCESS_GRANTED);
    /* "a" gets another key and keeps its bucket, "b" is gone, "c" is new */
    reload(access, "", file_of(entry("a", "ka2", limit), entry("c", "kc", limit)));
    assert_int_equal(check(access, "ka", start), EMB_ACCESS_UNKNOWN);
    assert_int_equal(check(access, "kb", start), EMB_ACCESS_UNKNOWN);
    assert_int_equal(wait_of(access, "ka2", start + second), 59000);
    assert_int_equal(check(access, "kc", start), EMB_ACCESS_GRANTED);
    assert_string_equal(emb_caller_name(held), "a"); /* the caller of a running request lives on */
    emb_caller_release(held);
    emb_error err = {0};
    emb_config *bad = configure("", "keys: nothing\n");
    assert_int_equal(emb_access_reload(access, bad, &err), EMB_E_INVALID);
    emb_config_release(bad);
    assert_int_equal(check(access, "ka2", start + 60 * second), EMB_ACCESS_GRANTED);
    reload(access, "", NULL);
    assert_false(emb_access_needed(access));
    assert_int_equal(check(access, NULL, start), EMB_ACCESS_GRANTED);
    reload(access, "x", NULL);
    assert_int_equal(check(access, NULL, start), EMB_ACCESS_MISSING);
    emb_access_close(access);
}

static void refuses_with(const char *keys, const char *file, const char *message)
{
    char expected[700];
    emb_error err = {0};
    emb_access *access;
    emb_config *config = configure(keys, file);
    emb_status status = emb_access_open(config, &access, &err);
    emb_config_release(config);
    if (!status)
        fail_msg("was accepted: %s", file);
    assert_null(access);
    snprintf(expected, sizeof expected, "%s%s", path, message);
    assert_string_equal(err.message, expected);
    assert_null(strstr(err.message, "geheim"));
}

static void bad_files(void **state)
{
    (void)state;
    refuses_with("", "", ":1: 'keys:' with a list of keys is wanted; 'embedd key' makes an entry");
    refuses_with("", "keys:\n", ":1: 'keys:' with a list of keys is wanted; 'embedd key' makes an entry");
    refuses_with("", "- a\n", ":1: 'keys:' with a list of keys is wanted; 'embedd key' makes an entry");
    refuses_with("", "kes: []\n", ":1: 'kes' is not known here; 'keys:' with a list is wanted");
    refuses_with("", "keys: []\nmore: 1\n", ":2: 'more' is not known here; 'keys:' with a list is wanted");
    refuses_with("", "keys:\n - geheim\n",
                 ":2: an entry of keys is a value; fields such as 'name:' are wanted");
    refuses_with("", "keys:\n - name: a\n", ":2: the key 'a' has no sha256");
    refuses_with("", file_of("  - sha256: ", hash("x")), ":2: this key has no name");
    static const char sha[] =
        ": is not a SHA-256 of 64 hexadecimal digits; 'embedd key hash' makes it of a key (the "
        "value is not shown)";
    char message[200];
    snprintf(message, sizeof message, ":3: sha256%s", sha);
    refuses_with("", "keys:\n - name: a\n   sha256: geheim\n", message);
    refuses_with(
        "",
        "keys:\n - name: a\n   sha256: geheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgehe\n",
        message);
    refuses_with("", "keys:\n - name: a\n   sha256: [x]\n", message);
    snprintf(message, sizeof message,
             ":2: name: is not a word of 1 to 64 ASCII characters without spaces, quotes and backslashes");
    refuses_with("", "keys:\n - name: a b\n", message);
    refuses_with("", "keys:\n - name: ~\n", message);
    refuses_with("", "keys:\n - name: \"\"\n", message);
    refuses_with("", "keys:\n - name: ä\n", message);
    refuses_with("", "keys:\n - name: [a]\n", message);
    refuses_with("", "keys:\n - nam: a\n", ":2: 'nam' is not a field of a key; did you mean 'name'?");
    refuses_with("", "keys:\n - requests: a\n",
                 ":2: 'requests' is not a field of a key; did you mean 'requests_per_minute'?");
    refuses_with("", "keys:\n - frobnicate: a\n", ":2: 'frobnicate' is not a field of a key");
    refuses_with("", "keys:\n - requests_per_minute: 0\n",
                 ":2: requests_per_minute: is not a whole number; allowed: 1 to 1000000000");
    refuses_with("", "keys:\n - burst: 1.5\n", ":2: burst: is not a whole number; allowed: 1 to 1000000000");
    refuses_with("", "keys:\n - tokens_per_minute: 100000000001\n",
                 ":2: tokens_per_minute: is not a whole number; allowed: 1 to 100000000000");
    refuses_with("", file_of(entry("a", "ka", "    burst: 2\n"), ""),
                 ":2: the key 'a' has a burst and no requests_per_minute");
    refuses_with("", "keys:\n - models: m\n",
                 ":2: models: is not a list of 1 to 1000 names; leave it out to allow every model");
    refuses_with("", "keys:\n - models: []\n",
                 ":2: models: is not a list of 1 to 1000 names; leave it out to allow every model");
    refuses_with("", "keys:\n - models: [m, \"a*b\"]\n",
                 ":2: models: an item is not a name, or has a * that is not at its end");
    refuses_with("", "keys:\n - models: [\"\"]\n",
                 ":2: models: an item is not a name, or has a * that is not at its end");
    refuses_with("", file_of(entry("a", "ka", ""), entry("a", "kb", "")), ": two keys have the name 'a'");
    refuses_with("", file_of(entry("a", "ka", ""), entry("b", "ka", "    models: [m]\n")),
                 ": 'a' and 'b' are the same key");
    refuses_with("x,ka", file_of(entry("a", "ka", ""), ""), ": 'a' and 'key-2' are the same key");
    refuses_with("x", file_of(entry("key-1", "ka", ""), ""),
                 ": two keys have the name 'key-1'; keys of access.api_keys are "
                 "called key-1, key-2 and so on");
    emb_error err = {0};
    emb_access *access;
    emb_config *config = configure("", "keys: []");
    unlink(path);
    assert_int_equal(emb_access_open(config, &access, &err), EMB_E_NOT_FOUND);
    char expected[200];
    snprintf(expected, sizeof expected, "access.api_keys_file: opening %s: No such file or directory", path);
    assert_string_equal(err.message, expected);
    emb_config_release(config);
}

static void open_files_are_noted(void **state)
{
    (void)state;
    int ends[2];
    char text[1000];
    emb_config *config = configure("", "keys: []");
    static const struct {
        mode_t mode;
        const char *shown;
    } modes[] = {{0600, NULL}, {0640, NULL}, {0644, "0644"}, {0660, "0660"}, {0602, "0602"}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        emb_error err = {0};
        emb_access *access;
        assert_int_equal(pipe(ends), 0);
        chmod(path, modes[i].mode);
        emb_log_open(EMB_LOG_WARN, EMB_LOG_PLAIN, ends[1]);
        assert_int_equal(emb_access_open(config, &access, &err), EMB_OK);
        emb_log_close();
        close(ends[1]);
        ssize_t n = read(ends[0], text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        close(ends[0]);
        assert_int_equal(n > 0, modes[i].shown != NULL);
        if (modes[i].shown) {
            assert_non_null(strstr(
                text, " warn  access: the file of API keys is open to others; 0640 is enough file=/tmp/"));
            assert_non_null(strstr(text, modes[i].shown));
        }
        emb_access_close(access);
    }
    emb_config_release(config);
}

static void many_keys(void **state)
{
    (void)state;
    emb_buf text = EMB_BUF_INIT(4 << 20);
    char key[20];
    assert_int_equal(emb_buf_add_str(&text, "keys:\n"), EMB_OK);
    for (int i = 0; i < 10000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        assert_int_equal(emb_buf_addf(&text, "- {name: n%d, sha256: %s}\n", i, hash(key)), EMB_OK);
    }
    emb_access *access = open_access("", emb_buf_cstr(&text));
    assert_int_equal(check(access, "key0", start), EMB_ACCESS_GRANTED);
    assert_int_equal(check(access, "key9999", start), EMB_ACCESS_GRANTED);
    assert_int_equal(check(access, "key10000", start), EMB_ACCESS_UNKNOWN);
    emb_access_close(access);
    assert_int_equal(emb_buf_addf(&text, "- {name: one, sha256: %s}\n", hash("x")), EMB_OK);
    refuses_with("", emb_buf_cstr(&text), ":10002: there are more than 10000 keys");
    emb_buf_fini(&text);
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 3000 };

typedef struct shared {
    emb_access *access;
    atomic_int granted;
    atomic_bool done;
} shared;

static void *call_often(void *context)
{
    shared *s = context;
    for (int i = 0; i < ROUNDS; i++) {
        emb_caller *caller;
        uint64_t wait;
        if (check_at(s->access, "ka", start, &caller, &wait) == EMB_ACCESS_GRANTED) {
            atomic_fetch_add(&s->granted, 1);
            assert_string_equal(emb_caller_name(caller), "a");
            emb_caller_count_tokens(caller, 1, start);
        }
        emb_caller_release(caller);
        assert_int_equal(check(s->access, "other", start), EMB_ACCESS_UNKNOWN);
    }
    return NULL;
}

static void *reload_often(void *context)
{
    shared *s = context;
    emb_error err;
    emb_config *config = configure(
        "", file_of(entry("a", "ka",
                          "    requests_per_minute: 60\n    burst: 1000\n    tokens_per_minute: 1000000\n"),
                    ""));
    while (!atomic_load(&s->done))
        assert_int_equal(emb_access_reload(s->access, config, &err), EMB_OK);
    emb_config_release(config);
    return NULL;
}

/* The clock stands still: exactly a burst gets through, however many threads and reloads there are. */
static void threads_share_a_bucket(void **state)
{
    (void)state;
    shared s = {.access = open_access("", file_of(entry("a", "ka",
                                                        "    requests_per_minute: 60\n    burst: 1000\n    "
                                                        "tokens_per_minute: 1000000\n"),
                                                  ""))};
    pthread_t threads[THREADS], reloader;
    pthread_create(&reloader, NULL, reload_often, &s);
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, call_often, &s);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&s.done, true);
    pthread_join(reloader, NULL);
    assert_int_equal(atomic_load(&s.granted), 1000);
    emb_access_close(s.access);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    emb_access *old = open_access("z", NULL);
    emb_config *config =
        configure("x,y", file_of(entry("a", "ka", "    models: [m, n]\n"), entry("b", "kb", "")));
    assert_int_equal(check(old, "z", start), EMB_ACCESS_GRANTED);
    size_t live = 0;
    enum { PASSES = 12 };
    for (int pass = 0; pass < PASSES; pass++) { /* OpenSSL keeps the texts of a thread's last 16 errors */
        if (pass + 1 == PASSES)
            live = fail_alloc_live();
        for (size_t n = 1;; n++) {
            emb_access *access;
            emb_error err = {0};
            fail_alloc_at(n);
            emb_status status = emb_access_open(config, &access, &err);
            bool failed = fail_alloc_stop();
            assert_true(status == EMB_OK ||
                        (failed && status == EMB_E_NOMEM)); /* stdio does without its buffer */
            if (!status)
                assert_int_equal(check(access, "ka", start), EMB_ACCESS_GRANTED);
            emb_access_close(access);
            if (!failed)
                break;
        }
        if (pass + 1 == PASSES)
            assert_int_equal(fail_alloc_live(), live);
    }
    for (size_t n = 1;; n++) {
        emb_error err = {0};
        fail_alloc_at(n);
        emb_status status = emb_access_reload(old, config, &err);
        bool failed = fail_alloc_stop();
        assert_true(status == EMB_OK || (failed && status == EMB_E_NOMEM));
        assert_int_equal(check(old, "z", start), status ? EMB_ACCESS_GRANTED : EMB_ACCESS_UNKNOWN);
        if (!status)
            reload(old, "z", NULL);
        if (!failed)
            break;
    }
    emb_access_close(old);
    emb_config_release(config);
}

static int remove_file(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static unsigned rights_of(emb_access *access, const char *key)
{
    emb_caller *caller;
    uint64_t wait;
    assert_int_equal(emb_access_check(access, key, strlen(key), start, &caller, &wait), EMB_ACCESS_GRANTED);
    unsigned rights = emb_caller_rights(caller);
    emb_caller_release(caller);
    return rights;
}

static void rights(void **state)
{
    (void)state;
    char file[1200], part[2][60];
    unsigned set;
    snprintf(file, sizeof file,
             "keys:\n"
             "  - {name: a, sha256: %s}\n"
             "  - {name: b, sha256: %s, rights: read}\n"
             "  - {name: c, sha256: %s, rights: [use, read]}\n"
             "  - {name: d, sha256: %s, rights: [admin]}\n",
             hash("ka"), hash("kb"), hash("kc"), hash("kd"));
    emb_access *access = open_access("plain", file);
    assert_int_equal(rights_of(access, "ka"), EMB_RIGHT_USE);
    assert_int_equal(rights_of(access, "kb"), EMB_RIGHT_READ);
    assert_int_equal(rights_of(access, "kc"), EMB_RIGHT_USE | EMB_RIGHT_READ);
    assert_int_equal(rights_of(access, "kd"), EMB_RIGHT_ANY);
    assert_int_equal(rights_of(access, "plain"), EMB_RIGHT_ANY);
    assert_int_equal(emb_caller_rights(NULL), EMB_RIGHT_ANY);
    emb_access_close(access);

    assert_true(emb_rights_parse(" use , read", &set));
    assert_int_equal(set, EMB_RIGHT_USE | EMB_RIGHT_READ);
    static const char *const bad[] = {"", "use,", ",use", "Use", "use read", "uses", "adm"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(emb_rights_parse(bad[i], &set));
    emb_rights_text(EMB_RIGHT_ANY, " and ", part[0], sizeof part[0]);
    assert_string_equal(part[0], "use and read and admin");
}

static void wrong_rights(void **state)
{
    (void)state;
    static const char *const bad[] = {"all",        "[use, all]", "[]",       "\"\"",
                                      "{use: yes}", "[[use]]",    "use, read"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char file[300];
        emb_access *access;
        emb_error err = {0};
        snprintf(file, sizeof file, "keys:\n  - name: a\n    sha256: %s\n    rights: %s\n", hash("k"),
                 bad[i]);
        emb_config *config = configure("", file);
        if (emb_access_open(config, &access, &err) == EMB_OK)
            fail_msg("%s is taken", bad[i]);
        if (!strstr(err.message, "rights"))
            fail_msg("%s: %s", bad[i], err.message);
        emb_config_release(config);
    }
}

static void rights_of_settings(void **state)
{
    (void)state;
    char file[200], variable[200];
    emb_error err = {0};
    emb_access *access;
    emb_config *config;
    snprintf(file, sizeof file, "keys:\n  - {name: a, sha256: %s}\n", hash("ka"));
    emb_config_release(configure("", file)); /* writes the file */
    snprintf(variable, sizeof variable, "EMBEDD_API_KEYS_FILE=%s", path);
    char *environment[] = {"EMBEDD_API_KEYS=plain", "EMBEDD_API_KEYS_RIGHTS=use,read",
                           "EMBEDD_API_KEYS_FILE_RIGHTS=admin", variable, NULL};
    emb_config_sources sources = {.environment = environment};
    assert_int_equal(emb_config_load(&sources, &config, &err), EMB_OK);
    assert_int_equal(emb_access_open(config, &access, &err), EMB_OK);
    assert_int_equal(rights_of(access, "plain"), EMB_RIGHT_USE | EMB_RIGHT_READ);
    assert_int_equal(rights_of(access, "ka"), EMB_RIGHT_ANY);
    emb_access_close(access);
    emb_config_release(config);
    environment[1] = "EMBEDD_API_KEYS_RIGHTS=everything";
    assert_int_equal(emb_config_load(&sources, &config, &err), EMB_OK);
    assert_int_equal(emb_access_open(config, &access, &err), EMB_E_INVALID);
    assert_non_null(strstr(err.message, "access.api_keys_rights: \"everything\""));
    emb_config_release(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rights),
        cmocka_unit_test(wrong_rights),
        cmocka_unit_test(rights_of_settings),
        cmocka_unit_test(without_keys_all_are_let_in),
        cmocka_unit_test(plain_keys),
        cmocka_unit_test(a_file_of_keys),
        cmocka_unit_test(requests_per_minute),
        cmocka_unit_test(tokens_per_minute),
        cmocka_unit_test(reloads),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(open_files_are_noted),
        cmocka_unit_test(many_keys),
        cmocka_unit_test(threads_share_a_bucket),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests_name("access", tests, NULL, remove_file);
}
