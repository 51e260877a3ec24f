/* The order of sources, every variable, values by kind, flags, what differs. The messages are the contract.
 */
#include "support/fail_alloc.h"
#include "unit/config/config_checks.h"

#include <pthread.h>

static void defaults(void **state)
{
    (void)state;
    emb_config *c = load_environment(NO_ENVIRONMENT);
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    assert_true(count > 80);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(emb_setting_origin(c, &settings[i]), "default");
    assert_string_equal(c->listen, "127.0.0.1:8000");
    assert_int_equal(c->max_body_bytes, 16 << 20);
    assert_int_equal(c->l2_bytes, 4ull << 30);
    assert_string_equal(c->file, "");
    assert_string_equal(c->data_path, "/var/lib/embedd");
    assert_int_equal(c->log_level, EMB_LOG_INFO);
    assert_int_equal(c->log_format, EMB_LOG_PLAIN);
    assert_true(c->access_log);
    assert_false(c->pull);
    assert_int_equal(c->device, 0);
    emb_config_release(c);
}

/* config.md line by line: name, default, another value, as it is written then. */
static const struct variable {
    const char *name, *path, *fallback, *value, *written;
} variables[] = {
    {"USE_HYBRID_EMBEDDINGS", "hybrid.enabled", "true", "0", "false"},
    {"EMBEDDING_SHADOW_MODE", "hybrid.shadow_mode", "false", "yes", "true"},
    {"EMBEDDING_ROLLOUT_PERCENTAGE", "hybrid.rollout_percentage", "100", "12.5", "12.5"},
    {"EMBEDDING_ENABLE_CACHING", "cache.enabled", "true", "off", "false"},
    {"EMBEDDING_ENABLE_ROUTING", "hybrid.routing", "true", "No", "false"},
    {"EMBEDDING_ENABLE_MONITORING", "hybrid.monitoring", "true", "FALSE", "false"},
    {"EMBEDDING_L1_CACHE_SIZE", "cache.l1_size", "1000", "0", "0"},
    {"EMBEDDING_L2_CACHE_TTL_API", "cache.ttl_api", "604800", "0", "0"},
    {"EMBEDDING_L2_CACHE_TTL_LOCAL", "cache.ttl_local", "86400", "60", "60"},
    {"EMBEDDING_DAILY_API_BUDGET_USD", "hybrid.daily_api_budget_usd", "10", "0.25", "0.25"},
    {"EMBEDDING_REALTIME_LATENCY_THRESHOLD_MS", "hybrid.realtime_latency_threshold_ms", "1000", "250", "250"},
    {"EMBEDDING_BATCH_SIZE_THRESHOLD", "hybrid.batch_size_threshold", "100", "7", "7"},
    {"OPENAI_API_KEY", "providers.openai_api_key", "", "sk-secret", "(set)"},
    {"OPENAI_BASE_URL", "providers.openai_base_url", "https://api.openai.com/v1", "http://localhost:9/v1",
     "http://localhost:9/v1"},
    {"OPENAI_EMBEDDING_MODEL", "providers.openai_model", "text-embedding-3-small", "text-embedding-3-large",
     "text-embedding-3-large"},
    {"OPENAI_EMBEDDING_MAX_RETRIES", "providers.openai_max_retries", "3", "0", "0"},
    {"HF_API_KEY", "hub.token", "", "hf_secret", "(set)"},
    {"HF_TOKEN", "hub.token", "", "hf_secret", "(set)"},
    {"HF_ENDPOINT", "hub.endpoint", "https://huggingface.co", "https://mirror.example",
     "https://mirror.example"},
    {"HF_HOME", "hub.home", "", "/srv/hf", "/srv/hf"},
    {"HF_HUB_OFFLINE", "hub.offline", "false", "1", "true"},
    {"LOCAL_EMBEDDING_MODEL", "models.default", "all-MiniLM-L6-v2", "bge-m3", "bge-m3"},
    {"LOCAL_EMBEDDING_DEVICE", "models.device", "auto", "cpu", "cpu"},
    {"LOCAL_EMBEDDING_BATCH_SIZE", "models.batch_size", "32", "64", "64"},
    {"EMBEDDING_PROVIDER", "providers.default", "local", "huggingface", "huggingface"},
    {"EMBEDDINGS_PROVIDER", "providers.default", "local", "huggingface", "huggingface"},
    {"EMBEDDING_MODEL", "models.default", "all-MiniLM-L6-v2", "e5-small-v2", "e5-small-v2"},
    {"EMBEDDING_DEVICE", "models.device", "auto", "cuda", "cuda"},
    {"EMBEDDING_BATCH_SIZE", "models.batch_size", "32", "16", "16"},
    {"EMBEDDING_SERVICE_URL", "providers.embedding_service_url", "", "http://d:1", "http://d:1"},
    {"REDIS_URL", "cache.redis_url", "", "redis://:pw@h:1/2", "(set)"},
    {"REDIS_HOST", "cache.redis_host", "", "redis.local", "redis.local"},
    {"REDIS_PORT", "cache.redis_port", "6379", "6380", "6380"},
    {"REDIS_DB", "cache.redis_db", "0", "3", "3"},
    {"ALERT_P95_LATENCY_WARNING", "alerts.p95_latency_warning", "500", "400", "400"},
    {"ALERT_P95_LATENCY_ERROR", "alerts.p95_latency_error", "1000", "2000", "2000"},
    {"ALERT_CACHE_HIT_WARNING", "alerts.cache_hit_warning", "0.7", "0.75", "0.75"},
    {"ALERT_CACHE_HIT_ERROR", "alerts.cache_hit_error", "0.5", "0.125", "0.125"},
    {"ALERT_SIMILARITY_WARNING", "alerts.similarity_warning", "0.95", "0.99", "0.99"},
    {"ALERT_SIMILARITY_ERROR", "alerts.similarity_error", "0.9", "0.8", "0.8"},
    {"ALERT_ERROR_RATE_WARNING", "alerts.error_rate_warning", "0.05", "1e-3", "0.001"},
    {"ALERT_API_BUDGET_WARNING", "alerts.api_budget_warning", "0.8", "0.5", "0.5"},
    {"ALERT_API_BUDGET_CRITICAL", "alerts.api_budget_critical", "0.95", "1", "1"},
    {"ALERT_MONTHLY_COST_WARNING_USD", "alerts.monthly_cost_warning_usd", "100", "2500.75", "2500.75"},
    {"EMBEDD_LISTEN", "server.listen", "127.0.0.1:8000", ":9000", ":9000"},
    {"EMBEDD_DATA_DIR", "data.dir", "", "/srv/embedd", "/srv/embedd"},
    {"EMBEDD_STORE_URL", "data.store_url", "", "postgresql://u:p@h/d", "(set)"},
    {"EMBEDD_CACHE_URL", "cache.url", "", "none", "(set)"},
    {"EMBEDD_QUEUE_URL", "data.queue_url", "", "sqlite:", "(set)"},
    {"EMBEDD_API_KEYS", "access.api_keys", "", "a,b", "(set)"},
    {"EMBEDD_MAX_BODY_BYTES", "server.max_body_bytes", "16MiB", "1.5MiB", "1536KiB"},
    {"EMBEDD_MAX_INPUTS", "server.max_inputs", "2048", "1", "1"},
    {"EMBEDD_MAX_BATCH_TOKENS", "server.max_batch_tokens", "8192", "4096", "4096"},
    {"EMBEDD_MAX_CONCURRENT_REQUESTS", "server.max_concurrent_requests", "512", "8192", "8192"},
    {"EMBEDD_SHUTDOWN_SECONDS", "server.shutdown_seconds", "30", "5", "5"},
    {"EMBEDD_LOG", "log.level", "info", "debug,json", "debug,json"},
    {"EMBEDD_LEGACY_PROVIDER", "hybrid.legacy_provider", "", "local", "local"},
    {"EMBEDD_ROLLOUT_SALT", "hybrid.rollout_salt", "", "s", "s"},
    {"EMBEDD_CANDIDATE_PROVIDER", "hybrid.candidate_provider", "", "local/bge-m3", "local/bge-m3"},
    {"EMBEDD_FALLBACK", "hybrid.fallback", "", "none", "none"},
    {"EMBEDD_HF_MODEL", "providers.huggingface_model", "sentence-transformers/all-MiniLM-L6-v2", "a/b",
     "a/b"},
    {"EMBEDD_HF_INFERENCE_URL", "providers.huggingface_url", "https://router.huggingface.co/hf-inference",
     "http://h:1", "http://h:1"},
    {"EMBEDD_PROXY", "providers.proxy", "", "http://u:p@h:1", "(set)"},
    {"HTTPS_PROXY", "providers.proxy", "", "http://h:1", "(set)"},
    {"https_proxy", "providers.proxy", "", "http://h:1", "(set)"},
    {"EMBEDD_PROVIDER_TIMEOUT_MS", "providers.timeout_ms", "30000", "5", "5"},
    {"EMBEDD_TIMEZONE", "budget.timezone", "UTC", "Europe/Berlin", "Europe/Berlin"},
    {"EMBEDD_UNPRICED", "budget.unpriced", "refuse", "free", "free"},
    {"EMBEDD_EXPIRED_RESERVATIONS", "budget.expired_reservations", "release", "spend", "spend"},
    {"EMBEDD_RESERVATION_SECONDS", "budget.reservation_seconds", "120", "9", "9"},
    {"EMBEDD_STATE_URL", "data.state_url", "", "memory:", "(set)"},
    {"EMBEDD_REFERENCE_MODEL", "budget.reference_model", "text-embedding-3-small", "m", "m"},
    {"EMBEDD_PII_DETECTION", "pii.enabled", "true", "off", "false"},
    {"EMBEDD_PII_KINDS", "pii.kinds", "", "email,iban", "email,iban"},
    {"EMBEDD_SHADOW_SAMPLE", "shadow.sample_percentage", "100", "0.5", "0.5"},
    {"EMBEDD_SHADOW_QUEUE", "shadow.queue", "256", "1", "1"},
    {"EMBEDD_SHADOW_DAILY_BUDGET_USD", "shadow.daily_budget_usd", "1", "2.5", "2.5"},
    {"EMBEDD_SHADOW_WINDOW", "shadow.window", "200", "20", "20"},
    {"EMBEDD_SHADOW_OVERLAP", "shadow.overlap_threshold", "0.6", "1", "1"},
    {"EMBEDD_READINESS_COMPARISONS", "shadow.readiness_comparisons", "100", "7", "7"},
    {"EMBEDD_READINESS_HOURS", "shadow.readiness_hours", "48", "1.5", "1.5"},
    {"EMBEDD_ALERT_INTERVAL_MS", "alerts.interval_ms", "5000", "50", "50"},
    {"EMBEDD_ALERT_WINDOW_SECONDS", "alerts.window_seconds", "300", "60", "60"},
    {"EMBEDD_ALERT_FOR_SECONDS", "alerts.for_seconds", "60", "0", "0"},
    {"EMBEDD_ALERT_MINIMUM_REQUESTS", "alerts.minimum_requests", "20", "1", "1"},
    {"EMBEDD_ALERT_MINIMUM_LOOKUPS", "alerts.minimum_lookups", "100", "1", "1"},
    {"EMBEDD_LEDGER_MINUTES_DAYS", "budget.ledger_minutes_days", "35", "0", "0"},
    {"EMBEDD_LEDGER_QUARTERS_DAYS", "budget.ledger_quarters_days", "400", "1000", "1000"},
    {"EMBEDD_API_KEYS_RIGHTS", "access.api_keys_rights", "admin", "use,read", "use,read"},
    {"EMBEDD_API_KEYS_FILE_RIGHTS", "access.api_keys_file_rights", "use", "read", "read"},
    {"EMBEDD_ALERT_WEBHOOK_URL", "alerts.webhook_url", "", "https://h/x", "(set)"},
    {"EMBEDD_ALERTMANAGER_URL", "alerts.alertmanager_url", "", "http://h:9093", "(set)"},
    {"HUGGING_FACE_HUB_TOKEN", "hub.token", "", "hf_x", "(set)"},
};

/* The names of config.md as it lists them, so that none is forgotten above. */
static const char *const specified[] = {"USE_HYBRID_EMBEDDINGS",
                                        "EMBEDDING_SHADOW_MODE",
                                        "EMBEDDING_ROLLOUT_PERCENTAGE",
                                        "EMBEDDING_ENABLE_CACHING",
                                        "EMBEDDING_ENABLE_ROUTING",
                                        "EMBEDDING_ENABLE_MONITORING",
                                        "EMBEDDING_L1_CACHE_SIZE",
                                        "EMBEDDING_L2_CACHE_TTL_API",
                                        "EMBEDDING_L2_CACHE_TTL_LOCAL",
                                        "EMBEDDING_DAILY_API_BUDGET_USD",
                                        "EMBEDDING_REALTIME_LATENCY_THRESHOLD_MS",
                                        "EMBEDDING_BATCH_SIZE_THRESHOLD",
                                        "OPENAI_API_KEY",
                                        "OPENAI_BASE_URL",
                                        "OPENAI_EMBEDDING_MODEL",
                                        "OPENAI_EMBEDDING_MAX_RETRIES",
                                        "HF_API_KEY",
                                        "HF_TOKEN",
                                        "HF_ENDPOINT",
                                        "HF_HOME",
                                        "HF_HUB_OFFLINE",
                                        "LOCAL_EMBEDDING_MODEL",
                                        "LOCAL_EMBEDDING_DEVICE",
                                        "LOCAL_EMBEDDING_BATCH_SIZE",
                                        "EMBEDDING_PROVIDER",
                                        "EMBEDDINGS_PROVIDER",
                                        "EMBEDDING_MODEL",
                                        "EMBEDDING_DEVICE",
                                        "EMBEDDING_BATCH_SIZE",
                                        "EMBEDDING_SERVICE_URL",
                                        "REDIS_URL",
                                        "REDIS_HOST",
                                        "REDIS_PORT",
                                        "REDIS_DB",
                                        "ALERT_P95_LATENCY_WARNING",
                                        "ALERT_P95_LATENCY_ERROR",
                                        "ALERT_CACHE_HIT_WARNING",
                                        "ALERT_CACHE_HIT_ERROR",
                                        "ALERT_SIMILARITY_WARNING",
                                        "ALERT_SIMILARITY_ERROR",
                                        "ALERT_ERROR_RATE_WARNING",
                                        "ALERT_API_BUDGET_WARNING",
                                        "ALERT_API_BUDGET_CRITICAL",
                                        "ALERT_MONTHLY_COST_WARNING_USD",
                                        "EMBEDD_LISTEN",
                                        "EMBEDD_DATA_DIR",
                                        "EMBEDD_STORE_URL",
                                        "EMBEDD_CACHE_URL",
                                        "EMBEDD_QUEUE_URL",
                                        "EMBEDD_API_KEYS",
                                        "EMBEDD_MAX_BODY_BYTES",
                                        "EMBEDD_MAX_INPUTS",
                                        "EMBEDD_MAX_BATCH_TOKENS",
                                        "EMBEDD_MAX_CONCURRENT_REQUESTS",
                                        "EMBEDD_SHUTDOWN_SECONDS",
                                        "EMBEDD_LOG",
                                        "EMBEDD_LEGACY_PROVIDER"};

static void the_specification_is_covered(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof specified / sizeof *specified; i++) {
        size_t j = 0, count = sizeof variables / sizeof *variables;
        while (j < count && strcmp(variables[j].name, specified[i]) != 0)
            j++;
        if (j == count)
            fail_msg("%s is not tested", specified[i]);
    }
}

static void every_variable_of_the_specification(void **state)
{
    (void)state;
    emb_config *plain = load_environment(NO_ENVIRONMENT);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const struct variable *v = &variables[i];
        char assignment[256];
        assert_string_equal(written(plain, v->path), v->fallback);
        snprintf(assignment, sizeof assignment, "%s=%s", v->name, v->value);
        emb_config *c = load_environment(ENVIRONMENT("PATH=/bin", assignment));
        assert_string_equal(written(c, v->path), v->written);
        assert_string_equal(origin(c, v->path), v->name);
        emb_config_release(c);
    }
    emb_config_release(plain);
}

/* Every setting can be given as a variable and as a flag: its own default, written out. */
static void every_setting_takes_its_own_default(void **state)
{
    (void)state;
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    for (size_t i = 0; i < count; i++) {
        const emb_setting *s = &settings[i];
        char assignment[256], name[64];
        if (!*s->fallback)
            continue;
        snprintf(assignment, sizeof assignment, "%.*s=%s", (int)strcspn(s->environment, ","), s->environment,
                 s->fallback);
        emb_config *c = load_environment(ENVIRONMENT(assignment));
        emb_config_release(c);
        snprintf(name, sizeof name, "%s", s->path);
        for (char *p = name; *p; p++)
            *p = *p == '.' || *p == '_' ? '-' : *p;
        c = load_flag(name, s->fallback);
        assert_memory_equal(emb_setting_origin(c, s), "--", 2);
        assert_string_equal(emb_setting_origin(c, s) + 2, name);
        emb_config_release(c);
    }
}

static void names_in_their_order(void **state)
{
    (void)state;
    emb_config *c = load_environment(ENVIRONMENT("EMBEDDING_MODEL=b", "LOCAL_EMBEDDING_MODEL=a"));
    assert_string_equal(c->model, "a");
    emb_config_release(c);
    c = load_environment(ENVIRONMENT("LOCAL_EMBEDDING_MODEL=", "EMBEDDING_MODEL=b", "EMBEDDING_MODELX=c"));
    assert_string_equal(c->model, "b");
    assert_string_equal(origin(c, "models.default"), "EMBEDDING_MODEL");
    emb_config_release(c);
}

static void dotenv_is_below_the_environment(void **state)
{
    (void)state;
    static const char text[] =
        "LOCAL_EMBEDDING_MODEL=file\nREDIS_URL=redis://file\nHF_HOME=/file\nHF_HOME=/again\n"
        "EMBEDD_CONFIG=/nonexistent/from/dotenv.yaml\n";
    const char *path = write_file("test.env", text, sizeof text - 1);
    emb_error err = {0};
    emb_config *c;
    emb_config_sources sources = {
        .file = "", .dotenv = path, .environment = ENVIRONMENT("EMBEDDING_MODEL=env", "REDIS_URL=")};
    if (emb_config_load(&sources, &c, &err))
        fail_msg("%s", err.message);
    assert_string_equal(c->model, "env");  /* another name of the same setting */
    assert_string_equal(c->redis_url, ""); /* an empty variable hides the file's */
    assert_string_equal(c->hf_home, "/again");
    char expected[300];
    snprintf(expected, sizeof expected, "HF_HOME (%s:4)", path);
    assert_string_equal(origin(c, "hub.home"), expected);
    emb_config_release(c);
    sources.file = NULL;
    refuses_sources(&sources,
                    "EMBEDD_CONFIG: opening /nonexistent/from/dotenv.yaml: No such file or directory");
    unlink(path);
    sources.file = "";
    assert_int_equal(emb_config_load(&sources, &c, &err), EMB_OK); /* no such file: nothing is set */
    emb_config_release(c);
    free((char *)path);
    sources.dotenv = "/tmp"; /* a folder of that name, as some keep one */
    assert_int_equal(emb_config_load(&sources, &c, &err), EMB_OK);
    emb_config_release(c);
}

static void data_folder(void **state)
{
    (void)state;
    static const struct {
        char *variables[4];
        const char *path;
    } cases[] = {
        {{"HOME=/home/a"}, "/home/a/.local/share/embedd"},
        {{"HOME=/home/a", "XDG_DATA_HOME=/xdg"}, "/xdg/embedd"},
        {{"HOME=/home/a", "XDG_DATA_HOME=relative"}, "/home/a/.local/share/embedd"},
        {{"HOME=/home/a", "XDG_DATA_HOME="}, "/home/a/.local/share/embedd"},
        {{"XDG_DATA_HOME=/xdg", "STATE_DIRECTORY=/var/lib/e:/var/lib/f"}, "/var/lib/e"},
        {{"STATE_DIRECTORY=/var/lib/e", "EMBEDD_DATA_DIR=/data", "HOME=/h"}, "/data"},
        {{NULL}, "/var/lib/embedd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_config *c = load_environment(cases[i].variables);
        assert_string_equal(c->data_path, cases[i].path);
        emb_config_release(c);
    }
}

static void flags(void **state)
{
    (void)state;
    emb_config *c = load_flag("server.max_body_bytes", "2MiB"); /* the path does as well */
    assert_int_equal(c->max_body_bytes, 2 << 20);
    assert_string_equal(origin(c, "server.max_body_bytes"), "--server-max-body-bytes");
    emb_config_release(c);
    c = load_flag("server-cors-origins", ""); /* an empty flag is a value, not nothing */
    assert_string_equal(origin(c, "server.cors_origins"), "--server-cors-origins");
    emb_config_release(c);
    emb_config_flag unknown = {"server-lisen", "x"};
    emb_config_sources sources = {.environment = NO_ENVIRONMENT, .flags = &unknown, .flag_count = 1};
    refuses_sources(&sources, "--server-lisen: there is no such setting");
}

/* A wrong value is an error also where a later source has a good one. */
static void every_source_is_checked(void **state)
{
    (void)state;
    emb_config_flag flag = {"server-loops", "1"};
    emb_config_sources sources = {
        .environment = ENVIRONMENT("EMBEDD_LOOPS=x"), .flags = &flag, .flag_count = 1};
    refuses_sources(&sources, "EMBEDD_LOOPS: 'x' is not a whole number; allowed: 0 to 64");
}

static void remember_path(void *context, const emb_setting *setting)
{
    char *out = context;
    sprintf(out + strlen(out), "%s ", setting->path);
}

static void differences(void **state)
{
    (void)state;
    char out[400] = "";
    emb_config *a = load_environment(NO_ENVIRONMENT);
    emb_config *b = load_environment(ENVIRONMENT("EMBEDD_LISTEN=:1", "EMBEDD_PULL=1", "EMBEDD_LOOPS=2",
                                                 "EMBEDD_L1_CACHE_BYTES=1", "EMBEDDING_ROLLOUT_PERCENTAGE=5",
                                                 "EMBEDD_PRECISION=int8", "EMBEDD_MAX_INPUTS=2048"));
    emb_config_differences(a, b, remember_path, out);
    assert_string_equal(out, "server.listen server.loops models.precision models.pull cache.l1_bytes "
                             "hybrid.rollout_percentage ");
    out[0] = 0;
    emb_config_differences(b, b, remember_path, out);
    assert_string_equal(out, "");
    emb_config_release(a);
    emb_config_release(b);
}

static const char *note(const emb_config *c, size_t index, bool warning)
{
    size_t count;
    const emb_config_note *notes = emb_config_notes(c, &count);
    if (index >= count)
        return "";
    assert_int_equal(notes[index].warning, warning);
    return notes[index].text;
}

/* The notes keep all names in a table of a fixed size. */
static void no_variable_of_ours_is_called_unknown(void **state)
{
    (void)state;
    size_t count, names = 0;
    const emb_setting *settings = emb_settings(&count);
    char *environment[400], texts[400][80];
    for (size_t i = 0; i < count; i++)
        for (const char *e = settings[i].environment; *e; e += strcspn(e, ","), e += *e == ',') {
            snprintf(texts[names], sizeof texts[0], "%.*s=", (int)strcspn(e, ","), e);
            environment[names] = texts[names];
            names++;
        }
    environment[names] = NULL;
    assert_true(names + 64 < 320);
    emb_config *c = load_environment(environment);
    assert_string_equal(note(c, 0, true), "");
    emb_config_release(c);
}

static void notes(void **state)
{
    (void)state;
    emb_config *c = load_environment(ENVIRONMENT(
        "EMBEDD_LISEN=geheim", "EMBEDDING_CACHE_ENABLED=1", "OPENAI_API_KEY=geheim", "EMBEDD_ISA=avx2",
        "EMBEDD_QUEUE_URL=sqlite:", "EMBEDD_CONFIG=", "EMBEDD_PORT=tcp://1", "PATH=/"));
    assert_string_equal(note(c, 0, true), "there is no variable EMBEDD_LISEN; did you mean EMBEDD_LISTEN?");
    assert_string_equal(note(c, 1, false), "data.queue_url (EMBEDD_QUEUE_URL) has no effect in this version");
    assert_string_equal(note(c, 2, false), "");
    emb_config_release(c);
}

/* Traits come from letters in the table; a slip in the macro would show here. */
static void traits(void **state)
{
    (void)state;
    const emb_setting *s = emb_setting_find("access.api_keys");
    assert_true(s->live && s->secret && !s->future && s->separator == ',');
    s = emb_setting_find("models.path");
    assert_true(!s->live && !s->secret && !s->future && s->separator == ':');
    s = emb_setting_find("data.queue_url");
    assert_true(!s->live && s->secret && s->future && !s->separator);
    s = emb_setting_find("data.store_url");
    assert_true(!s->live && s->secret && !s->future && !s->separator);
    s = emb_setting_find("hybrid.shadow_mode");
    assert_true(s->live && !s->secret && !s->future);
    assert_null(emb_setting_find("server"));
    assert_null(emb_setting_find(""));
}

static void paths_and_variables_are_unique(void **state)
{
    (void)state;
    size_t count;
    const emb_setting *s = emb_settings(&count);
    for (size_t i = 0; i < count; i++) {
        assert_true(strlen(s[i].help) > 3 && strchr(s[i].path, '.'));
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(s[i].path, s[j].path);
            assert_string_not_equal(s[i].environment, s[j].environment);
            assert_false(s[i].environment[0] == 0);
        }
    }
}

static void *hold_and_release(void *context)
{
    emb_config *c = context;
    for (int i = 0; i < 10000; i++) {
        emb_config_retain(c);
        assert_string_equal(c->listen, "127.0.0.1:8000");
        emb_config_release(c);
    }
    emb_config_release(c);
    return NULL;
}

static void held_by_threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    emb_config *c = load_environment(NO_ENVIRONMENT);
    for (size_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, hold_and_release, emb_config_retain(c));
    emb_config_release(c);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    emb_config_release(NULL);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    static const char yaml[] = "server: {listen: [\":1\", \":2\"], loops: &n 3}\nmodels.threads: *n\n"
                               "providers:\n  prices: {a: 1}\n  instances:\n"
                               "  - {name: x, kind: tei, base_url: \"http://h/\", headers: {A: b},\n"
                               "     models: [m, {name: n, dimension: 3}]}\n  - local\n"
                               "budget.limits: [{key: k, daily_usd: 1}]\n"
                               "alerts.sinks: [{name: s, kind: webhook, url: \"http://h\"}]\n"
                               "rollout.schedule: [{percentage: 1}]\npii.patterns: [{name: p, regex: r}]\n",
                      dotenv[] = "HF_HOME='/x'\nEMBEDD_LISEN=1\n";
    const char *file = write_file("nomem.yaml", yaml, sizeof yaml - 1);
    const char *env = write_file("nomem.env", dotenv, sizeof dotenv - 1);
    emb_config_flag flag = {"data-dir", "/d"};
    emb_config_sources sources = {.file = file,
                                  .dotenv = env,
                                  .environment = ENVIRONMENT("HF_TOKEN=t", "OPENAI_API_KEY=k",
                                                             "EMBEDDING_SERVICE_URL=http://h",
                                                             "EMBEDDING_PROVIDER=huggingface"),
                                  .flags = &flag,
                                  .flag_count = 1};
    size_t n = 1;
    for (bool failed = true; failed; n++) {
        emb_error err = {0};
        emb_config *c = NULL;
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_config_load(&sources, &c, &err);
        failed = fail_alloc_stop();
        if (status) {
            assert_true(failed);
            assert_int_equal(status, EMB_E_NOMEM);
            assert_null(c);
        } else {
            assert_int_equal(c->threads, 3);
            emb_config_release(c);
        }
        assert_int_equal(fail_alloc_live(), live);
    }
    assert_true(n > 30);
    remove_file(file);
    remove_file(env);
}

static void documents_may_run_out_of_memory(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    emb_config *c = load_environment(NO_ENVIRONMENT);
    for (int document = 0; document < 3; document++)
        for (size_t n = 1;; n++) {
            emb_buf out = EMB_BUF_INIT(1 << 20);
            fail_alloc_at(n);
            emb_status status = document == 0   ? emb_config_write_yaml(c, true, &out)
                                : document == 1 ? emb_config_write_schema(&out)
                                                : emb_config_write_markdown(&out);
            bool failed = fail_alloc_stop();
            assert_int_equal(status, failed ? EMB_E_NOMEM : EMB_OK);
            emb_buf_fini(&out);
            if (!failed)
                break;
        }
    emb_buf small = EMB_BUF_INIT(100);
    assert_int_equal(emb_config_write_yaml(c, true, &small), EMB_E_LIMIT);
    emb_buf_fini(&small);
    emb_config_release(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(the_specification_is_covered),
        cmocka_unit_test(every_variable_of_the_specification),
        cmocka_unit_test(every_setting_takes_its_own_default),
        cmocka_unit_test(names_in_their_order),
        cmocka_unit_test(dotenv_is_below_the_environment),
        cmocka_unit_test(data_folder),
        cmocka_unit_test(flags),
        cmocka_unit_test(every_source_is_checked),
        cmocka_unit_test(differences),
        cmocka_unit_test(no_variable_of_ours_is_called_unknown),
        cmocka_unit_test(notes),
        cmocka_unit_test(traits),
        cmocka_unit_test(paths_and_variables_are_unique),
        cmocka_unit_test(held_by_threads),
        cmocka_unit_test(memory_may_run_out_anywhere),
        cmocka_unit_test(documents_may_run_out_of_memory),
    };
    return cmocka_run_group_tests_name("config load", tests, NULL, NULL);
}
