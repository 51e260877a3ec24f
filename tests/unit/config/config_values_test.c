/* Values by kind, what is refused and in which words, settings that depend on each other. */
#include "unit/config/config_checks.h"

static void bools(void **state)
{
    (void)state;
    static const char *const yes[] = {"true", "TRUE", "1", "yes", "Yes", "on"}, *const no[] = {"false", "0",
                                                                                               "No", "OFF"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        emb_config *c = load_flag("models-pull", yes[i]);
        assert_true(c->pull);
        emb_config_release(c);
    }
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        emb_config *c = load_flag("server-access-log", no[i]);
        assert_false(c->access_log);
        emb_config_release(c);
    }
    static const char *const bad[] = {"EMBEDD_PULL=2", "EMBEDD_PULL=truee", "EMBEDD_PULL= true",
                                      "EMBEDD_PULL=tru"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char message[200];
        snprintf(message, sizeof message,
                 "EMBEDD_PULL: '%s' is neither true nor false; allowed: true, false, yes, no, on, off, 1, 0",
                 bad[i] + 12);
        refuses_environment(bad[i], message);
    }
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
        const char *written;
    } good[] = {
        {"0", 0, "0"},
        {"1000", 1000, "1kB"},
        {"1024", 1024, "1KiB"},
        {"1 KiB", 1024, "1KiB"},
        {"64MiB", 64 << 20, "64MiB"},
        {"64mib", 64 << 20, "64MiB"},
        {"2GB", 2000000000, "2GB"},
        {"1.5GiB", 1610612736, "1536MiB"},
        {"0.1kB", 100, "100"},
        {"1.23456789MB", 1234567, "1234567"},
        {"512B", 512, "512"},
        {"1TiB", 1099511627776, "1TiB"},
        {"1TB", 1000000000000, "1TB"},
        {"00012kB", 12000, "12kB"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        emb_config *c = load_flag("models-memory", good[i].text);
        assert_int_equal(c->model_memory, good[i].bytes);
        assert_string_equal(written(c, "models.memory"), good[i].written);
        emb_config_release(c);
    }
    static const char *const bad[] = {"",   "MiB", "1.5",  "1.",      ".5GiB", "64M",    "64 MiB ", "-1",
                                      "+1", "1e3", "0x10", "1..5GiB", "1GiBs", "1  MiB", "1,5GiB"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char message[200];
        emb_config_flag flag = {"models-memory", bad[i]};
        emb_config_sources sources = {.environment = NO_ENVIRONMENT, .flags = &flag, .flag_count = 1};
        snprintf(message, sizeof message,
                 "--models-memory: '%s' is not a size, such as 64MiB, 2GB, 1.5GiB or a number of bytes; "
                 "allowed: 0 to "
                 "1TiB",
                 bad[i]);
        refuses_sources(&sources, message);
    }
    refuses_environment("EMBEDD_MODEL_MEMORY=1.1TiB",
                        "EMBEDD_MODEL_MEMORY: '1.1TiB' is out of range; allowed: 0 to 1TiB");
    refuses_environment(
        "EMBEDD_MODEL_MEMORY=99999999999999999999999TiB",
        "EMBEDD_MODEL_MEMORY: '99999999999999999999999TiB' is out of range; allowed: 0 to 1TiB");
    refuses_environment("EMBEDD_MODEL_MEMORY=18446744073709551615TiB",
                        "EMBEDD_MODEL_MEMORY: '18446744073709551615TiB' is out of range; allowed: 0 to 1TiB");
    refuses_environment("EMBEDD_MAX_BODY_BYTES=1023",
                        "EMBEDD_MAX_BODY_BYTES: '1023' is out of range; allowed: 1KiB to 1GiB");
}

static void counts(void **state)
{
    (void)state;
    emb_config *c = load_flag("server-loops", "064");
    assert_int_equal(c->loops, 64);
    emb_config_release(c);
    static const char *const bad[] = {"x", "-1", "+1", "1.0", " 1", "1 ", "0x1", "1e3", "1,000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char message[200], variable[64];
        snprintf(variable, sizeof variable, "EMBEDD_LOOPS=%s", bad[i]);
        snprintf(message, sizeof message, "EMBEDD_LOOPS: '%s' is not a whole number; allowed: 0 to 64",
                 bad[i]);
        refuses_environment(variable, message);
    }
    refuses_environment("EMBEDD_LOOPS=65", "EMBEDD_LOOPS: '65' is out of range; allowed: 0 to 64");
    refuses_environment("EMBEDD_MAX_INPUTS=0",
                        "EMBEDD_MAX_INPUTS: '0' is out of range; allowed: 1 to 1000000");
    refuses_environment("EMBEDD_LOOPS=18446744073709551616",
                        "EMBEDD_LOOPS: '18446744073709551616' is out of range; allowed: 0 to 64");
}

static void reals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
        const char *written;
    } good[] = {{"0", 0, "0"},
                {"12.5", 12.5, "12.5"},
                {".5", 0.5, "0.5"},
                {"5.", 5, "5"},
                {"1e2", 100, "100"},
                {"1E-3", 0.001, "0.001"},
                {"+3", 3, "3"},
                {"0.1", 0.1, "0.1"},
                {"33.333333333333336", 33.333333333333336, "33.333333333333336"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        emb_config *c = load_flag("hybrid-rollout-percentage", good[i].text);
        assert_true(c->rollout_percentage == good[i].value);
        assert_string_equal(written(c, "hybrid.rollout_percentage"), good[i].written);
        emb_config_release(c);
    }
    static const char *const bad[] = {"x",   "1,5", "nan", "inf", "0x1p3", "1e",
                                      "1e+", ".",   "-",   "1 ",  "1.2.3", "5%"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char message[200], variable[64];
        snprintf(variable, sizeof variable, "EMBEDDING_ROLLOUT_PERCENTAGE=%s", bad[i]);
        snprintf(message, sizeof message,
                 "EMBEDDING_ROLLOUT_PERCENTAGE: '%s' is not a number; allowed: 0 to 100", bad[i]);
        refuses_environment(variable, message);
    }
    refuses_environment("EMBEDDING_ROLLOUT_PERCENTAGE=100.1",
                        "EMBEDDING_ROLLOUT_PERCENTAGE: '100.1' is out of range; allowed: 0 to 100");
    refuses_environment("EMBEDDING_ROLLOUT_PERCENTAGE=-0.1",
                        "EMBEDDING_ROLLOUT_PERCENTAGE: '-0.1' is out of range; allowed: 0 to 100");
    refuses_environment("EMBEDDING_ROLLOUT_PERCENTAGE=1e999",
                        "EMBEDDING_ROLLOUT_PERCENTAGE: '1e999' is out of range; allowed: 0 to 100");
}

static void choices_and_texts(void **state)
{
    (void)state;
    refuses_environment("EMBEDD_PRECISION=fp16",
                        "EMBEDD_PRECISION: 'fp16' is not a choice; allowed: auto, fp32, bf16, int8");
    refuses_environment("EMBEDD_TLS_MIN_VERSION=1",
                        "EMBEDD_TLS_MIN_VERSION: '1' is not a choice; allowed: 1.2, 1.3");
    refuses_environment("HF_HOME=a\tb", "HF_HOME: 'a?b' holds a control character");
    refuses_environment("HF_HOME=a\xff", "HF_HOME: 'a\xEF\xBF\xBD' is not valid UTF-8");
    char variable[400] = "EMBEDD_LOOPS=", message[400];
    memset(variable + 13, 'x', 300);
    snprintf(message, sizeof message, "EMBEDD_LOOPS: '%.80s…' is not a whole number; allowed: 0 to 64",
             variable + 13);
    refuses_environment(variable, message);
}

static void addresses(void **state)
{
    (void)state;
    static const char *const good[] = {":0",
                                       "localhost:8000",
                                       "[::1]:1,127.0.0.1:2",
                                       "unix:/run/e.sock",
                                       "[fe80::1%eth0]:9",
                                       "my-host_1.x:65535",
                                       " :1 , :2 ,"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        emb_config_release(load_flag("server-listen", good[i]));
    static const struct {
        const char *value, *problem;
    } bad[] = {
        {"localhost", "'localhost' has no port; write HOST:PORT, [IPV6]:PORT, :PORT or unix:/path"},
        {":65536", "':65536' does not end in a port; allowed: 0 to 65535, 0 for a free one"},
        {"h:", "'h:' does not end in a port; allowed: 0 to 65535, 0 for a free one"},
        {"h:http", "'h:http' does not end in a port; allowed: 0 to 65535, 0 for a free one"},
        {"h:1,::1:8000", "'::1:8000' holds several colons; an IPv6 address goes into brackets: [::1]:8000"},
        {"[::1:8000", "'[::1:8000' is not an IPv6 address in brackets and a port, such as [::1]:8000"},
        {"[]:1", "'[]:1' is not an IPv6 address in brackets and a port, such as [::1]:8000"},
        {"[1.2.3.4]:1", "'[1.2.3.4]:1' is not an IPv6 address in brackets and a port, such as [::1]:8000"},
        {"http//x:1", "'http//x:1' holds a character that no host name has"},
        {"unix:", "'unix:' names no path; write unix:/path/of/the/socket"},
        {" , ", "' , ' names no address to listen on"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char message[300];
        emb_config_flag flag = {"server-listen", bad[i].value};
        emb_config_sources sources = {.environment = NO_ENVIRONMENT, .flags = &flag, .flag_count = 1};
        snprintf(message, sizeof message, "--server-listen: %s", bad[i].problem);
        refuses_sources(&sources, message);
    }
    char path[200] = "EMBEDD_LISTEN=unix:/", message[300];
    memset(path + 20, 'p', 107);
    snprintf(message, sizeof message,
             "EMBEDD_LISTEN: '%.80s…' is too long for the path of a unix socket; allowed: 107 bytes",
             path + 14);
    refuses_environment(path, message);
    path[14 + 5 + 107] = 0;
    emb_config_release(load_environment(ENVIRONMENT(path)));
}

static void urls(void **state)
{
    (void)state;
    static const char *const good[] = {"EMBEDD_CACHE_URL=sqlite:/x/y.db",
                                       "EMBEDD_CACHE_URL=none",
                                       "EMBEDD_CACHE_URL=",
                                       "EMBEDD_CACHE_URL=rediss://u:p@h:1/2",
                                       "EMBEDD_CACHE_URL=postgresql:///db?host=/run",
                                       "REDIS_URL=REDIS://h",
                                       "EMBEDD_STORE_URL=sqlite:",
                                       "EMBEDD_QUEUE_URL=redis://h",
                                       "HF_ENDPOINT=http://127.0.0.1:1/x",
                                       "EMBEDD_STATE_URL=memory:",
                                       "EMBEDD_STATE_URL=redis://:p@h/1",
                                       "EMBEDD_ALERTMANAGER_URL=https://user:secret@h:9093",
                                       "HTTPS_PROXY=proxy:3128",
                                       "EMBEDD_PREEMPTION_URL=gcp",
                                       "EMBEDD_PREEMPTION_URL=http://169.254.169.254/x?y=1@2"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        emb_config_release(load_environment(ENVIRONMENT((char *)good[i])));
    refuses_environment("HF_ENDPOINT=huggingface.co",
                        "HF_ENDPOINT: 'huggingface.co' does not begin with http:// or https://");
    refuses_environment("OPENAI_BASE_URL=https://", "OPENAI_BASE_URL: 'https://' names no host");
    refuses_environment("HF_ENDPOINT=https:///x", "HF_ENDPOINT: 'https:///x' names no host");
    refuses_environment("HF_ENDPOINT=https://a b",
                        "HF_ENDPOINT: 'https://a b' holds a character that no URL has");
    refuses_environment(
        "EMBEDDING_SERVICE_URL=https://user:geheim@h/x",
        "EMBEDDING_SERVICE_URL: the address holds a user name or password, which would be shown in "
        "logs; leave it out of the address");
    refuses_environment(
        "EMBEDD_PREEMPTION_URL=gce",
        "EMBEDD_PREEMPTION_URL: 'gce' is none of gcp, aws, azure (with =ADDRESS or without), and does "
        "not begin with http:// or https://");
    refuses_environment("REDIS_URL=h:6379/geheim",
                        "REDIS_URL: the value (which is not shown) begins with neither "
                        "redis:// nor rediss://");
    refuses_environment(
        "EMBEDD_STATE_URL=memory:geheim",
        "EMBEDD_STATE_URL: the value (which is not shown) begins with none of sqlite:, redis://, "
        "rediss://, postgresql://, and is not memory:");
    refuses_environment("EMBEDD_ALERT_WEBHOOK_URL=geheim",
                        "EMBEDD_ALERT_WEBHOOK_URL: the value (which is not shown) "
                        "does not begin with http:// or https://");
    refuses_environment("OPENAI_API_KEY=ge heim",
                        "OPENAI_API_KEY: the value (which is not shown) is empty, too long, or "
                        "holds a space or a character outside ASCII");
    refuses_environment("EMBEDD_STORE_URL=redis://geheim",
                        "EMBEDD_STORE_URL: the value (which is not shown) begins with "
                        "neither sqlite: nor postgresql://");
}

static void lists(void **state)
{
    (void)state;
    emb_config *c =
        load_environment(ENVIRONMENT("EMBEDD_LOG= json , debug", "EMBEDD_CORS_ORIGINS=https://a.b:1, *"));
    assert_int_equal(c->log_level, EMB_LOG_DEBUG);
    assert_int_equal(c->log_format, EMB_LOG_JSON);
    emb_config_release(c);
    c = load_environment(ENVIRONMENT("EMBEDD_LOG=plain"));
    assert_int_equal(c->log_level, EMB_LOG_INFO);
    emb_config_release(c);
    refuses_environment("EMBEDD_LOG=verbose",
                        "EMBEDD_LOG: 'verbose' is not a word for the log; allowed: error, warn, "
                        "info, debug, plain, json");
    refuses_environment(
        "EMBEDD_LOG=info,debug",
        "EMBEDD_LOG: 'debug' is a second level; one of error, warn, info and debug is wanted");
    refuses_environment("EMBEDD_LOG=json,plain",
                        "EMBEDD_LOG: 'plain' is a second form; one of plain and json is wanted");
    refuses_environment(
        "EMBEDD_CORS_ORIGINS=example.com",
        "EMBEDD_CORS_ORIGINS: 'example.com' is not an origin; write https://HOST, https://HOST:PORT or *");
    refuses_environment("EMBEDD_CORS_ORIGINS=https://a/",
                        "EMBEDD_CORS_ORIGINS: 'https://a/' has a path; an origin is "
                        "scheme, host and port alone");
    refuses_environment(
        "EMBEDD_ALLOWED_MODELS=a*b",
        "EMBEDD_ALLOWED_MODELS: 'a*b' has a * that is not at its end, the only place for one");
    refuses_environment(
        "EMBEDD_API_KEYS=geheim 1",
        "EMBEDD_API_KEYS: the value (which is not shown) holds a key with a space or a character outside "
        "ASCII, which no client can send");
}

static bool collect(void *context, const char *item, size_t length)
{
    char *out = context;
    sprintf(out + strlen(out), "[%.*s]", (int)length, item);
    return strncmp(item, "stop", length) != 0;
}

static void items_of_a_list(void **state)
{
    (void)state;
    char out[100] = "";
    emb_config_each(" a, b c ,,\t, d", collect, out);
    assert_string_equal(out, "[a][b c][d]");
    out[0] = 0;
    emb_config_each("a,stop,b", collect, out);
    assert_string_equal(out, "[a][stop]");
    out[0] = 0;
    emb_config_each("", collect, out);
    emb_config_each(",", collect, out);
    emb_config_each(" ", collect, out);
    assert_string_equal(out, "");
}

static void settings_together(void **state)
{
    (void)state;
    refuses_environment("EMBEDD_TLS_CERT=c.pem",
                        "EMBEDD_TLS_CERT: is set without server.tls_key; TLS needs both");
    refuses_environment("EMBEDD_TLS_KEY=k.pem",
                        "EMBEDD_TLS_KEY: is set without server.tls_cert; TLS needs both");
    emb_config_release(load_environment(ENVIRONMENT("EMBEDD_TLS_KEY=k.pem", "EMBEDD_TLS_CERT=c.pem")));
    refuses_environment("EMBEDD_SHUTDOWN_GRACE_MS=30000",
                        "EMBEDD_SHUTDOWN_GRACE_MS: 30000 ms leave nothing of "
                        "server.shutdown_seconds, which is 30 (default)");
    refuses_environment(
        "ALERT_P95_LATENCY_WARNING=1001",
        "ALERT_P95_LATENCY_WARNING: 1001 is above alerts.p95_latency_error, which is 1000 (default)");
    refuses_environment(
        "ALERT_P95_LATENCY_ERROR=499",
        "ALERT_P95_LATENCY_ERROR: 499 is below alerts.p95_latency_warning, which is 500 (default)");
    refuses_environment(
        "ALERT_CACHE_HIT_WARNING=0.4",
        "ALERT_CACHE_HIT_WARNING: 0.4 is below alerts.cache_hit_error, which is 0.5 (default)");
    refuses_environment(
        "ALERT_SIMILARITY_ERROR=0.96",
        "ALERT_SIMILARITY_ERROR: 0.96 is above alerts.similarity_warning, which is 0.95 (default)");
    refuses_environment(
        "ALERT_API_BUDGET_CRITICAL=0.7",
        "ALERT_API_BUDGET_CRITICAL: 0.7 is below alerts.api_budget_warning, which is 0.8 (default)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bools),
        cmocka_unit_test(sizes),
        cmocka_unit_test(counts),
        cmocka_unit_test(reals),
        cmocka_unit_test(choices_and_texts),
        cmocka_unit_test(addresses),
        cmocka_unit_test(urls),
        cmocka_unit_test(lists),
        cmocka_unit_test(items_of_a_list),
        cmocka_unit_test(settings_together),
    };
    return cmocka_run_group_tests_name("config values", tests, NULL, NULL);
}
