/*
 * settings.h: every setting, once. The struct, the parsers of YAML, environment and flags, `embedd config`,
 * the JSON schema, `embedd serve --help` and docs/configuration.md come from this table.
 *
 * X(kind, field, path, environment, default, minimum, maximum, traits, help)
 *   kind         BOOL bool; COUNT size_t; REAL double; BYTES size_t ("64MiB", "2GB", plain bytes); TEXT const
 *                char *, "" if not set, never NULL; CHOICE int, an index into `minimum`, which is "a|b|c" then
 *   path         in the YAML file, "section.name"; the flag of `embedd serve` is --section-name
 *   environment  names, comma between; the first that is set and not empty counts
 *   minimum ..   inclusive; 0, 0 for kinds without a range
 *   traits       L: a reload changes it while running; S: a secret, never printed; F: waits for a component that
 *                this version does not have: it is checked, and `embedd config check` says that it does nothing yet;
 *                "," or ":": a list with that between its items, which may be a sequence in the YAML file
 */
#ifndef EMB_CONFIG_SETTINGS_H
#define EMB_CONFIG_SETTINGS_H

#define EMB_SETTING_TABLE(X)                                                                                     \
    /* ---- server ---- */                                                                                       \
    X(TEXT, listen, "server.listen", "EMBEDD_LISTEN", "127.0.0.1:8000", 0, 0, ",",                               \
      "addresses to listen on, comma between: HOST:PORT, [IPV6]:PORT, :PORT for all, unix:/path")                \
    X(TEXT, tls_cert, "server.tls_cert", "EMBEDD_TLS_CERT", "", 0, 0, "L",                                       \
      "PEM file of the certificate chain; turns TLS on")                                                         \
    X(TEXT, tls_key, "server.tls_key", "EMBEDD_TLS_KEY", "", 0, 0, "L", "PEM file of its private key")           \
    X(CHOICE, tls_min_version, "server.tls_min_version", "EMBEDD_TLS_MIN_VERSION", "1.2", "1.2|1.3", 0, "",      \
      "oldest TLS version that is spoken")                                                                       \
    X(TEXT, cors_origins, "server.cors_origins", "EMBEDD_CORS_ORIGINS", "", 0, 0, "L,",                          \
      "origins that browsers may call from, comma between, or *; empty: none")                                   \
    X(COUNT, loops, "server.loops", "EMBEDD_LOOPS", "0", 0, 64, "",                                              \
      "threads that read and write connections; 0: one per two CPUs")                                            \
    X(COUNT, max_connections, "server.max_connections", "EMBEDD_MAX_CONNECTIONS", "16384", 1, 1000000, "L",      \
      "open connections; more are closed at once")                                                               \
    X(COUNT, max_concurrent_requests, "server.max_concurrent_requests", "EMBEDD_MAX_CONCURRENT_REQUESTS",        \
      "512", 1, 8192, "", "requests in work at a time, cached ones aside; more get 429")                         \
    X(BYTES, max_body_bytes, "server.max_body_bytes", "EMBEDD_MAX_BODY_BYTES", "16MiB", 1024, 1073741824,        \
      "L", "largest request body")                                                                               \
    X(BYTES, max_head_bytes, "server.max_head_bytes", "EMBEDD_MAX_HEAD_BYTES", "16KiB", 1024, 1048576, "L",      \
      "largest request head")                                                                                    \
    X(COUNT, head_timeout_ms, "server.head_timeout_ms", "EMBEDD_HEAD_TIMEOUT_MS", "10000", 10, 3600000, "L",     \
      "time for a whole request head")                                                                           \
    X(COUNT, body_timeout_ms, "server.body_timeout_ms", "EMBEDD_BODY_TIMEOUT_MS", "60000", 10, 3600000, "L",     \
      "time for a whole request body")                                                                           \
    X(COUNT, idle_timeout_ms, "server.idle_timeout_ms", "EMBEDD_IDLE_TIMEOUT_MS", "120000", 10, 86400000,        \
      "L", "time an idle connection is kept")                                                                    \
    X(COUNT, write_timeout_ms, "server.write_timeout_ms", "EMBEDD_WRITE_TIMEOUT_MS", "60000", 10, 3600000,       \
      "L", "time without progress after which an answer that is not read is given up")                           \
    X(COUNT, request_timeout_ms, "server.request_timeout_ms", "EMBEDD_REQUEST_TIMEOUT_MS", "60000", 1,           \
      3600000, "L", "time for a request's work; then 504")                                                       \
    X(COUNT, shutdown_seconds, "server.shutdown_seconds", "EMBEDD_SHUTDOWN_SECONDS", "30", 1, 3600, "L",         \
      "SIGTERM to exit, at most")                                                                                \
    X(COUNT, shutdown_grace_ms, "server.shutdown_grace_ms", "EMBEDD_SHUTDOWN_GRACE_MS", "0", 0, 600000, "L",     \
      "after SIGTERM, how long new requests are still accepted while /ready says 503")                           \
    X(BOOL, access_log, "server.access_log", "EMBEDD_ACCESS_LOG", "true", 0, 0, "L",                             \
      "a line for each request")                                                                                 \
    X(COUNT, max_inputs, "server.max_inputs", "EMBEDD_MAX_INPUTS", "2048", 1, 1000000, "L",                      \
      "texts in one request")                                                                                    \
    X(COUNT, max_batch_tokens, "server.max_batch_tokens", "EMBEDD_MAX_BATCH_TOKENS", "8192", 0, 1048576, "",     \
      "tokens in one forward pass; 0: the engine's choice")                                                      \
    /* ---- access ---- */                                                                                       \
    X(TEXT, api_keys, "access.api_keys", "EMBEDD_API_KEYS", "", 0, 0, "LS,",                                     \
      "keys that may use the service, comma between; none: no key is asked for")                                 \
    X(TEXT, api_keys_file, "access.api_keys_file", "EMBEDD_API_KEYS_FILE", "", 0, 0, "L",                        \
      "YAML file of hashed keys with name, rights, rate limit and allowed models (`embedd key`)")                \
    X(TEXT, api_keys_rights, "access.api_keys_rights", "EMBEDD_API_KEYS_RIGHTS", "admin", 0, 0, "L,",            \
      "what keys of access.api_keys may do: use, read, admin, or several with commas between")                   \
    X(TEXT, api_keys_file_rights, "access.api_keys_file_rights", "EMBEDD_API_KEYS_FILE_RIGHTS", "use", 0, 0,     \
      "L,", "what keys of access.api_keys_file may do whose entry has no rights")                                \
    X(BOOL, open_health, "access.open_health", "EMBEDD_OPEN_HEALTH", "true", 0, 0, "L",                          \
      "/health, /ready and /embed/health need no key")                                                           \
    X(BOOL, open_metrics, "access.open_metrics", "EMBEDD_OPEN_METRICS", "false", 0, 0, "L",                      \
      "/metrics needs no key")                                                                                   \
    /* ---- models ---- */                                                                                       \
    X(TEXT, model, "models.default", "LOCAL_EMBEDDING_MODEL,EMBEDDING_MODEL", "all-MiniLM-L6-v2", 0, 0, "",      \
      "the model of requests that name none")                                                                    \
    X(CHOICE, device, "models.device", "LOCAL_EMBEDDING_DEVICE,EMBEDDING_DEVICE", "auto", "auto|cpu|cuda",       \
      0, "", "what computes")                                                                                    \
    X(COUNT, batch_size, "models.batch_size", "LOCAL_EMBEDDING_BATCH_SIZE,EMBEDDING_BATCH_SIZE", "32", 1,        \
      100000, "L",                                                                                               \
      "the batch size that clients are told; batches are made by tokens, see server.max_batch_tokens")           \
    X(CHOICE, precision, "models.precision", "EMBEDD_PRECISION", "auto", "auto|fp32|bf16|int8", 0, "",           \
      "of the products")                                                                                         \
    X(COUNT, threads, "models.threads", "EMBEDD_THREADS", "0", 0, 1024, "",                                      \
      "compute threads; 0: one per CPU")                                                                         \
    X(TEXT, models_path, "models.path", "EMBEDD_MODELS", "", 0, 0, ":",                                          \
      "directories to look for models in, ':' between")                                                          \
    X(TEXT, allowed_models, "models.allowed", "EMBEDD_ALLOWED_MODELS", "", 0, 0, "L,",                           \
      "models that may be loaded, comma between, * at an end matches; empty: any that is found")                 \
    X(TEXT, preload_models, "models.preload", "EMBEDD_PRELOAD_MODELS", "", 0, 0, ",",                            \
      "models loaded at start besides the default, comma between; these are never unloaded")                     \
    X(BYTES, model_memory, "models.memory", "EMBEDD_MODEL_MEMORY", "0", 0, 1099511627776, "L",                   \
      "packed weights in memory; the least recently used model is unloaded for another; 0: half of the "         \
      "memory there is")                                                                                         \
    X(COUNT, unload_seconds, "models.unload_seconds", "EMBEDD_MODEL_UNLOAD_SECONDS", "0", 0, 31536000, "L",      \
      "an idle model is unloaded after this; 0: never")                                                          \
    X(BOOL, pull, "models.pull", "EMBEDD_PULL", "false", 0, 0, "L",                                              \
      "fetch a model from the hub when a request names one that is not here")                                    \
    /* ---- hub ---- */                                                                                          \
    X(TEXT, hf_token, "hub.token", "HF_TOKEN,HF_API_KEY,HUGGING_FACE_HUB_TOKEN", "", 0, 0, "S",                  \
      "access token of the Hugging Face hub")                                                                    \
    X(TEXT, hf_endpoint, "hub.endpoint", "HF_ENDPOINT", "https://huggingface.co", 0, 0, "",                      \
      "address of the hub")                                                                                      \
    X(TEXT, hf_home, "hub.home", "HF_HOME", "", 0, 0, "",                                                        \
      "folder of the hub's cache; empty: ~/.cache/huggingface")                                                  \
    X(BOOL, hf_offline, "hub.offline", "HF_HUB_OFFLINE", "false", 0, 0, "", "never ask the hub")                 \
    /* ---- cache ---- */                                                                                        \
    X(BOOL, enable_caching, "cache.enabled", "EMBEDDING_ENABLE_CACHING", "true", 0, 0, "L", "keep vectors")      \
    X(COUNT, l1_cache_size, "cache.l1_size", "EMBEDDING_L1_CACHE_SIZE", "1000", 0, 100000000, "L",               \
      "vectors in memory; 0: none")                                                                              \
    X(BYTES, l1_cache_bytes, "cache.l1_bytes", "EMBEDD_L1_CACHE_BYTES", "256MiB", 0, 1099511627776, "L",         \
      "memory for them")                                                                                         \
    X(TEXT, cache_url, "cache.url", "EMBEDD_CACHE_URL", "", 0, 0, "S",                                           \
      "second level: sqlite:PATH, redis://…, postgresql://…, none; empty: REDIS_URL if set, else SQLite in " \
      "the data directory")                                                                                      \
    X(TEXT, redis_url, "cache.redis_url", "REDIS_URL", "", 0, 0, "S",                                            \
      "Redis for the cache, redis://[:PASSWORD@]HOST:PORT/DB")                                                   \
    X(TEXT, redis_host, "cache.redis_host", "REDIS_HOST", "", 0, 0, "", "instead of the URL")                    \
    X(COUNT, redis_port, "cache.redis_port", "REDIS_PORT", "6379", 1, 65535, "", "with redis_host")              \
    X(COUNT, redis_db, "cache.redis_db", "REDIS_DB", "0", 0, 1000000, "", "with redis_host")                     \
    X(COUNT, ttl_api, "cache.ttl_api", "EMBEDDING_L2_CACHE_TTL_API", "604800", 0, 3153600000, "L",               \
      "seconds a vector of a remote provider is kept; 0: for ever")                                              \
    X(COUNT, ttl_local, "cache.ttl_local", "EMBEDDING_L2_CACHE_TTL_LOCAL", "86400", 0, 3153600000, "L",          \
      "seconds a vector of a local model is kept; 0: for ever")                                                  \
    X(COUNT, l2_deadline_ms, "cache.l2_deadline_ms", "EMBEDD_L2_DEADLINE_MS", "50", 1, 60000, "L",               \
      "a request waits no longer for the second level")                                                          \
    X(BYTES, l2_bytes, "cache.l2_bytes", "EMBEDD_L2_CACHE_BYTES", "4GiB", 0, 1152921504606846976, "L",           \
      "SQLite cache: size from which the oldest are removed; 0: no limit")                                       \
    X(COUNT, cache_write_queue, "cache.write_queue", "EMBEDD_CACHE_WRITE_QUEUE", "65536", 16, 10000000, "",      \
      "vectors that may wait to be written to the second level")                                                 \
    X(BOOL, cache_store_text, "cache.store_text", "EMBEDD_CACHE_STORE_TEXT", "false", 0, 0, "L",                 \
      "keep the text beside its vector, so that the most used can be embedded with another model")               \
    X(TEXT, cache_namespace, "cache.namespace", "EMBEDD_CACHE_NAMESPACE", "", 0, 0, "",                          \
      "goes into every key: services that share a store and not their vectors")                                  \
    X(TEXT, warm, "cache.warm", "EMBEDD_WARM", "", 0, 0, ",",                                                    \
      "term lists embedded at start, comma between: finance, or files")                                          \
    /* ---- data ---- */                                                                                         \
    X(TEXT, data_dir, "data.dir", "EMBEDD_DATA_DIR", "", 0, 0, "",                                               \
      "folder of the databases; empty: $STATE_DIRECTORY, else $XDG_DATA_HOME/embedd, else "                      \
      "~/.local/share/embedd")                                                                                   \
    X(TEXT, store_url, "data.store_url", "EMBEDD_STORE_URL", "", 0, 0, "S",                                      \
      "ledger, comparisons, rollout and alerts: sqlite: in the data directory, or postgresql://…")               \
    X(TEXT, state_url, "data.state_url", "EMBEDD_STATE_URL", "", 0, 0, "S",                                      \
      "where budget and breakers are shared: sqlite:PATH, redis://…, postgresql://…, memory:; empty: "       \
      "REDIS_URL if set, else data.store_url")                                                                   \
    X(TEXT, queue_url, "data.queue_url", "EMBEDD_QUEUE_URL", "", 0, 0, "SF",                                     \
      "the job queue: sqlite:, redis://…, postgresql://…")                                                       \
    /* ---- log ---- */                                                                                          \
    X(TEXT, log, "log.level", "EMBEDD_LOG", "info", 0, 0, "L,",                                                  \
      "error, warn, info or debug, and plain or json, comma between (\"info,json\")")                            \
    /* ---- supervision ---- */                                                                                  \
    X(TEXT, preemption_url, "supervision.preemption_url", "EMBEDD_PREEMPTION_URL", "", 0, 0, "",                 \
      "metadata address that announces the end of a spot machine; gcp, aws, azure, one of them with "            \
      "=ADDRESS, or a URL; empty: not asked")                                                                    \
    X(COUNT, preemption_interval_ms, "supervision.preemption_interval_ms", "EMBEDD_PREEMPTION_INTERVAL_MS",      \
      "5000", 100, 3600000, "", "how often it is asked")                                                         \
    /* ---- hybrid system ---- */                                                                                \
    X(BOOL, hybrid, "hybrid.enabled", "USE_HYBRID_EMBEDDINGS", "true", 0, 0, "L",                                \
      "false: everything goes to the legacy provider")                                                           \
    X(BOOL, shadow_mode, "hybrid.shadow_mode", "EMBEDDING_SHADOW_MODE", "false", 0, 0, "L",                      \
      "run the candidate beside the legacy provider")                                                            \
    X(REAL, rollout_percentage, "hybrid.rollout_percentage", "EMBEDDING_ROLLOUT_PERCENTAGE", "100", 0, 100,      \
      "L", "share of buckets on the hybrid path, until `embedd rollout` says otherwise")                         \
    X(TEXT, rollout_salt, "hybrid.rollout_salt", "EMBEDD_ROLLOUT_SALT", "", 0, 0, "L",                           \
      "changes which buckets are the first")                                                                     \
    X(BOOL, enable_routing, "hybrid.routing", "EMBEDDING_ENABLE_ROUTING", "true", 0, 0, "L",                     \
      "choose among providers by context; false: the default provider alone")                                    \
    X(BOOL, enable_monitoring, "hybrid.monitoring", "EMBEDDING_ENABLE_MONITORING", "true", 0, 0, "L",            \
      "count and time requests")                                                                                 \
    X(REAL, daily_api_budget_usd, "hybrid.daily_api_budget_usd", "EMBEDDING_DAILY_API_BUDGET_USD", "10.0",       \
      0, 1000000000, "L", "hard limit a day for remote providers")                                               \
    X(COUNT, realtime_latency_ms, "hybrid.realtime_latency_threshold_ms",                                        \
      "EMBEDDING_REALTIME_LATENCY_THRESHOLD_MS", "1000", 1, 3600000, "L",                                        \
      "a provider slower than this is passed over for realtime")                                                 \
    X(COUNT, batch_size_threshold, "hybrid.batch_size_threshold", "EMBEDDING_BATCH_SIZE_THRESHOLD", "100",       \
      1, 1000000, "L", "from here on a request counts as a large batch and gives way to smaller ones")           \
    X(TEXT, legacy_provider, "hybrid.legacy_provider", "EMBEDD_LEGACY_PROVIDER", "", 0, 0, "L",                  \
      "the provider before the hybrid path, NAME or NAME/MODEL; empty: providers.default")                       \
    X(TEXT, candidate_provider, "hybrid.candidate_provider", "EMBEDD_CANDIDATE_PROVIDER", "", 0, 0, "L",         \
      "what shadow mode runs beside it, NAME or NAME/MODEL; empty: what the hybrid path would choose")           \
    X(TEXT, fallback, "hybrid.fallback", "EMBEDD_FALLBACK", "", 0, 0, "L,",                                      \
      "providers tried in turn when the first fails, comma between; empty: all in the configured order; "        \
      "none: no fallback")                                                                                       \
    /* ---- providers ---- */                                                                                    \
    X(TEXT, provider, "providers.default", "EMBEDDING_PROVIDER,EMBEDDINGS_PROVIDER", "local", 0, 0, "",          \
      "where requests go that name neither provider nor model: local, openai, huggingface, remote, or the "      \
      "name of an instance")                                                                                     \
    X(TEXT, openai_api_key, "providers.openai_api_key", "OPENAI_API_KEY", "", 0, 0, "S",                         \
      "key of the OpenAI API; with it there is an instance openai")                                              \
    X(TEXT, openai_base_url, "providers.openai_base_url", "OPENAI_BASE_URL", "https://api.openai.com/v1", 0,     \
      0, "", "its address, or that of a compatible server")                                                      \
    X(TEXT, openai_model, "providers.openai_model", "OPENAI_EMBEDDING_MODEL", "text-embedding-3-small", 0,       \
      0, "", "its model for requests that name none")                                                            \
    X(COUNT, openai_max_retries, "providers.openai_max_retries", "OPENAI_EMBEDDING_MAX_RETRIES", "3", 0,         \
      100, "", "retries of a failed call")                                                                       \
    X(TEXT, hf_model, "providers.huggingface_model", "EMBEDD_HF_MODEL",                                          \
      "sentence-transformers/all-MiniLM-L6-v2", 0, 0, "",                                                        \
      "model of the Hugging Face Inference API, where providers.default is huggingface")                         \
    X(TEXT, hf_inference_url, "providers.huggingface_url", "EMBEDD_HF_INFERENCE_URL",                            \
      "https://router.huggingface.co/hf-inference", 0, 0, "", "its address")                                     \
    X(TEXT, embedding_service_url, "providers.embedding_service_url", "EMBEDDING_SERVICE_URL", "", 0, 0, "",     \
      "a remote embedding service; with it there is an instance remote")                                         \
    X(TEXT, https_proxy, "providers.proxy", "EMBEDD_PROXY,HTTPS_PROXY,https_proxy", "", 0, 0, "S",               \
      "proxy for calls to providers; never for addresses of this machine")                                       \
    X(COUNT, provider_timeout_ms, "providers.timeout_ms", "EMBEDD_PROVIDER_TIMEOUT_MS", "30000", 1, 3600000,     \
      "", "time for one attempt at a provider, where its instance says nothing")                                 \
    /* ---- budget ---- */                                                                                       \
    X(TEXT, budget_timezone, "budget.timezone", "EMBEDD_TIMEZONE", "UTC", 0, 0, "",                              \
      "where the day of budgets and reports turns, as in the zone database: Europe/Berlin")                      \
    X(CHOICE, unpriced, "budget.unpriced", "EMBEDD_UNPRICED", "refuse", "refuse|free", 0, "L",                   \
      "what a model without a price costs: refuse sends nothing there; free says that it costs nothing")         \
    X(CHOICE, expired_reservations, "budget.expired_reservations", "EMBEDD_EXPIRED_RESERVATIONS", "release",     \
      "release|spend", 0, "",                                                                                    \
      "a reservation whose process died before it was settled: comes back, or counts as spent")                  \
    X(COUNT, reservation_seconds, "budget.reservation_seconds", "EMBEDD_RESERVATION_SECONDS", "120", 1,          \
      86400, "", "after which it is given up")                                                                   \
    X(TEXT, reference_model, "budget.reference_model", "EMBEDD_REFERENCE_MODEL", "text-embedding-3-small",       \
      0, 0, "L", "the hosted model whose price savings are counted by")                                          \
    X(COUNT, ledger_minutes_days, "budget.ledger_minutes_days", "EMBEDD_LEDGER_MINUTES_DAYS", "35", 0,           \
      100000, "",                                                                                                \
      "for so many days the ledger has rows by the minute, then by the quarter of an hour; 0: for ever")         \
    X(COUNT, ledger_quarters_days, "budget.ledger_quarters_days", "EMBEDD_LEDGER_QUARTERS_DAYS", "400", 0,       \
      100000, "",                                                                                                \
      "for so many days by the quarter, then by the day; 0: for ever; no report changes by either")              \
    /* ---- personal data ---- */                                                                                \
    X(BOOL, pii_detection, "pii.enabled", "EMBEDD_PII_DETECTION", "true", 0, 0, "L",                             \
      "texts with personal data stay on this machine")                                                           \
    X(TEXT, pii_kinds, "pii.kinds", "EMBEDD_PII_KINDS", "", 0, 0, ",",                                           \
      "kinds that are looked for, comma between (`embedd pii --list`); empty: all")                              \
    /* ---- shadow ---- */                                                                                       \
    X(REAL, shadow_sample, "shadow.sample_percentage", "EMBEDD_SHADOW_SAMPLE", "100", 0, 100, "L",               \
      "share of requests that are compared")                                                                     \
    X(COUNT, shadow_queue, "shadow.queue", "EMBEDD_SHADOW_QUEUE", "256", 1, 100000, "",                          \
      "comparisons that may wait; more are dropped and counted")                                                 \
    X(REAL, shadow_daily_usd, "shadow.daily_budget_usd", "EMBEDD_SHADOW_DAILY_BUDGET_USD", "1.0", 0,             \
      1000000000, "L", "hard limit a day for the candidate's calls")                                             \
    X(COUNT, shadow_window, "shadow.window", "EMBEDD_SHADOW_WINDOW", "200", 20, 2000, "",                        \
      "recent texts whose neighbours are compared")                                                              \
    X(REAL, shadow_overlap, "shadow.overlap_threshold", "EMBEDD_SHADOW_OVERLAP", "0.6", 0, 1, "L",               \
      "neighbour overlap@10 that is enough where the dimensions differ")                                         \
    X(COUNT, readiness_comparisons, "shadow.readiness_comparisons", "EMBEDD_READINESS_COMPARISONS", "100",       \
      1, 1000000000, "L", "comparisons that readiness asks for")                                                 \
    X(REAL, readiness_hours, "shadow.readiness_hours", "EMBEDD_READINESS_HOURS", "48", 0, 100000, "L",           \
      "over how long")                                                                                           \
    /* ---- alerts ---- */                                                                                       \
    X(COUNT, alert_p95_warning, "alerts.p95_latency_warning", "ALERT_P95_LATENCY_WARNING", "500", 1,             \
      3600000, "L", "milliseconds")                                                                              \
    X(COUNT, alert_p95_error, "alerts.p95_latency_error", "ALERT_P95_LATENCY_ERROR", "1000", 1, 3600000,         \
      "L", "milliseconds")                                                                                       \
    X(REAL, alert_cache_hit_warning, "alerts.cache_hit_warning", "ALERT_CACHE_HIT_WARNING", "0.7", 0, 1,         \
      "L", "hit rate under which to warn")                                                                       \
    X(REAL, alert_cache_hit_error, "alerts.cache_hit_error", "ALERT_CACHE_HIT_ERROR", "0.5", 0, 1, "L",          \
      "hit rate")                                                                                                \
    X(REAL, alert_similarity_warning, "alerts.similarity_warning", "ALERT_SIMILARITY_WARNING", "0.95", 0, 1,     \
      "L", "cosine")                                                                                             \
    X(REAL, alert_similarity_error, "alerts.similarity_error", "ALERT_SIMILARITY_ERROR", "0.90", 0, 1, "L",      \
      "cosine")                                                                                                  \
    X(REAL, alert_error_rate_warning, "alerts.error_rate_warning", "ALERT_ERROR_RATE_WARNING", "0.05", 0, 1,     \
      "L", "share of failed requests")                                                                           \
    X(REAL, alert_budget_warning, "alerts.api_budget_warning", "ALERT_API_BUDGET_WARNING", "0.8", 0, 1, "L",     \
      "share of the day's budget; from here on only `analysis` may spend")                                       \
    X(REAL, alert_budget_critical, "alerts.api_budget_critical", "ALERT_API_BUDGET_CRITICAL", "0.95", 0, 1,      \
      "L", "share of the day's budget")                                                                          \
    X(REAL, alert_monthly_cost_usd, "alerts.monthly_cost_warning_usd", "ALERT_MONTHLY_COST_WARNING_USD",         \
      "100", 0, 1000000000, "L", "spend of a month")                                                             \
    X(COUNT, alert_interval_ms, "alerts.interval_ms", "EMBEDD_ALERT_INTERVAL_MS", "5000", 50, 3600000, "L",      \
      "how often the rules are looked at")                                                                       \
    X(COUNT, alert_window_s, "alerts.window_seconds", "EMBEDD_ALERT_WINDOW_SECONDS", "300", 1, 86400, "",        \
      "of how long the percentiles and rates are")                                                               \
    X(COUNT, alert_for_s, "alerts.for_seconds", "EMBEDD_ALERT_FOR_SECONDS", "60", 0, 86400, "L",                 \
      "how long a condition holds before it fires")                                                              \
    X(COUNT, alert_minimum_requests, "alerts.minimum_requests", "EMBEDD_ALERT_MINIMUM_REQUESTS", "20", 1,        \
      1000000, "L", "fewer requests in the window say nothing")                                                  \
    X(COUNT, alert_minimum_lookups, "alerts.minimum_lookups", "EMBEDD_ALERT_MINIMUM_LOOKUPS", "100", 1,          \
      1000000000, "L",                                                                                           \
      "fewer texts looked for in the cache say nothing of its hit rate, to readiness neither")                   \
    X(TEXT, alert_webhook_url, "alerts.webhook_url", "EMBEDD_ALERT_WEBHOOK_URL", "", 0, 0, "S",                  \
      "where alerts are posted as JSON")                                                                         \
    X(TEXT, alertmanager_url, "alerts.alertmanager_url", "EMBEDD_ALERTMANAGER_URL", "", 0, 0, "S",               \
      "address of an Alertmanager")

#endif
