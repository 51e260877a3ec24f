/* The order of sources, every variable, values by kind, flags, what differs. The messages are the contract. */
#include "unit/config/config_checks.h"

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
    {"HF_ENDPOINT", "hub.endpoint", "https://huggingface.co", "https://mirror.example", "https://mirror.example"},
    {"HF_HOME", "hub.home", "", "/srv/hf", "/srv/hf"},
    {"HF_HUB_OFFLINE", "hub.offline", "false", "1", "true"},
    {"LOCAL_EMBEDDING_MODEL", "models.default", "all-MiniLM-L6-v2", "bge-m3", "bge-m3"},
    {"LOCAL_EMBEDDING_DEVICE", "models.device", "auto", "cpu", "cpu"},
    {"LOCAL_EMBEDDING_BATCH_SIZE", "models.batch_size", "32", "64", "64"},
    {"EMBEDDING_PROVIDER", "providers.default", "local", "openai", "openai"},
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
    {"EMBEDD_LEGACY_PROVIDER", "hybrid.legacy_provider", "", "openai", "openai"},
    {"HUGGING_FACE_HUB_TOKEN", "hub.token", "", "hf_x", "(set)"},
};

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_variable_of_the_specification),
        cmocka_unit_test(every_setting_takes_its_own_default),
    };
    return cmocka_run_group_tests_name("config load", tests, NULL, NULL);
}
