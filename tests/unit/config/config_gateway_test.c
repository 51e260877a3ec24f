/* The structured sections: what they become, what the environment alone makes, every mistake with its
 * message. */
#include "config/gateway_parts.h"
#include "model/catalog.h"
#include "support/fail_alloc.h"
#include "unit/config/config_checks.h"

#include <sys/stat.h>

static emb_config *load(const char *yaml, char *const *environment)
{
    const char *path = write_file("g.yaml", yaml, strlen(yaml));
    emb_config_sources sources = {.file = path, .environment = environment};
    emb_config *config = NULL;
    emb_error err = {0};
    emb_status status = emb_config_load(&sources, &config, &err);
    remove_file(path);
    if (status)
        fail_msg("%s", err.message);
    return config;
}

/* The message without the place of the file; "LINE: …". */
static void refuses_with(const char *yaml, char *const *environment, const char *message)
{
    const char *path = write_file("g.yaml", yaml, strlen(yaml));
    emb_config_sources sources = {.file = path, .environment = environment};
    emb_config *config = NULL;
    emb_error err = {0};
    emb_status status = emb_config_load(&sources, &config, &err);
    size_t length = strlen(path);
    if (!status)
        fail_msg("was accepted: %s", yaml);
    const char *said = strncmp(err.message, path, length) == 0 ? err.message + length + 1 : err.message;
    assert_string_equal(said, message);
    assert_int_equal(status, EMB_E_INVALID);
    remove_file(path);
}

static void refuses(const char *yaml, const char *message)
{
    refuses_with(yaml, NO_ENVIRONMENT, message);
}

static const emb_provider_config *provider(const emb_config *c, const char *name)
{
    for (size_t i = 0; i < c->gateway.provider_count; i++)
        if (strcmp(c->gateway.providers[i].name, name) == 0)
            return &c->gateway.providers[i];
    fail_msg("there is no %s", name);
    return NULL;
}

static const char *note(const emb_config *c, size_t index)
{
    size_t count;
    const emb_config_note *notes = emb_config_notes(c, &count);
    return index < count ? notes[index].text : "";
}

static const char full[] =
    "providers:\n"
    "  default: main/my-model\n"
    "  prices: {text-embedding-3-large: 1.4e-4}\n"
    "  instances:\n"
    "    - name: main\n"
    "      kind: openai\n"
    "      base_url: http://proxy.internal/v1//\n"
    "      api_key: sk-1\n"
    "      weight: 3\n"
    "      private: true\n"
    "      concurrency: 9\n"
    "      requests_per_minute: 3000\n"
    "      tokens_per_minute: 1000000\n"
    "      timeout_ms: 1000\n"
    "      connect_timeout_ms: 100\n"
    "      max_retries: 0\n"
    "      hedge_ms: 50\n"
    "      max_batch_texts: 64\n"
    "      max_batch_tokens: 10000\n"
    "      max_body_bytes: 1MiB\n"
    "      http2: false\n"
    "      compress: no\n"
    "      base64: off\n"
    "      keep_warm_seconds: 30\n"
    "      proxy: \"\"\n"
    "      ca_file: /ca.pem\n"
    "      headers: {X-Team: search, X-Other: \"1\"}\n"
    "      breaker: {failure_threshold: 2, failure_rate: 0.25, minimum_calls: 7, window_seconds: 8,\n"
    "                recovery_timeout_seconds: 9, recovery_longest_seconds: 10, slow_ms: 11}\n"
    "      models:\n"
    "        - {name: my-model, upstream: d1, dimension: 768, price_per_1k_tokens: 0.00002, "
    "price_per_request: 0,\n"
    "           max_tokens: 8191, quality: 60, shortens: true, encoding: cl100k_base, origin: maker, "
    "revision: r2,\n"
    "           query_prompt: \"q:\\n\", document_prompt: \"d: \", max_batch_texts: 5, max_batch_tokens: 6}\n"
    "        - text-embedding-3-large\n"
    "        - other\n"
    "    - local\n"
    "    - {name: cohere, api_key: c}\n"
    "budget:\n"
    "  limits:\n"
    "    - {key: search, daily_usd: 1.5}\n"
    "    - {category: faq, daily_usd: 2}\n"
    "    - {provider: main, daily_usd: 0.000000001}\n"
    "    - {key: \"*\", daily_usd: 0}\n"
    "alerts:\n"
    "  sinks:\n"
    "    - {name: ops, kind: alertmanager, url: \"https://h/x\", bearer: b, minimum_severity: error}\n"
    "rollout:\n"
    "  schedule: [{percentage: 0.5, hold_hours: 1, hold_minutes: 2, hold_seconds: 3}, {percentage: 100}]\n"
    "pii:\n"
    "  patterns: [{name: employee_id, regex: \"EMP-[0-9]{6}\"}]\n";

static void an_instance(const emb_provider_config *p)
{
    assert_int_equal(p->kind, EMB_PROVIDER_OPENAI);
    assert_string_equal(p->base_url, "http://proxy.internal/v1");
    assert_string_equal(p->api_key, "sk-1");
    assert_true(p->weight == 3 && p->is_private && p->concurrency == 9);
    assert_true(p->requests_per_minute == 3000 && p->tokens_per_minute == 1000000);
    assert_true(p->timeout_ms == 1000 && p->connect_timeout_ms == 100 && p->max_retries == 0 &&
                p->hedge_ms == 50);
    assert_true(p->max_batch_texts == 64 && p->max_batch_tokens == 10000 && p->max_body_bytes == 1 << 20);
    assert_true(!p->http2 && !p->compress && !p->base64 && p->keep_warm_s == 30);
    assert_string_equal(p->proxy, "");
    assert_string_equal(p->ca_file, "/ca.pem");
    assert_string_equal(p->api_version, "");
    assert_int_equal(p->header_count, 2);
    assert_string_equal(p->headers[0].name, "X-Team");
    assert_string_equal(p->headers[1].value, "1");
    assert_true(p->failure_threshold == 2 && p->failure_rate == 0.25 && p->minimum_calls == 7 &&
                p->window_s == 8);
    assert_true(p->recovery_timeout_s == 9 && p->recovery_longest_s == 10 && p->slow_ms == 11);
    assert_int_equal(p->model_count, 3);
}

static void a_model(const emb_provider_model_config *m)
{
    assert_string_equal(m->name, "my-model");
    assert_string_equal(m->upstream, "d1");
    assert_true(m->dimension == 768 && m->max_tokens == 8191 && m->quality == 60 && m->shortens && m->priced);
    assert_true(m->nusd_per_1k_tokens == 20000 && m->nusd_per_request == 0);
    assert_true(m->max_batch_texts == 5 && m->max_batch_tokens == 6);
    assert_string_equal(m->encoding, "cl100k_base");
    assert_string_equal(m->origin, "maker");
    assert_string_equal(m->revision, "r2");
    assert_string_equal(m->query_prompt, "q:\n");
    assert_string_equal(m->document_prompt, "d: ");
}

static void every_member_reaches_its_field(void **state)
{
    (void)state;
    emb_config *c = load(full, ENVIRONMENT("HTTPS_PROXY=http://p:1"));
    const emb_gateway_config *g = &c->gateway;
    assert_int_equal(g->provider_count, 2);
    assert_int_equal(g->local_position, 1);
    an_instance(&g->providers[0]);
    a_model(&g->providers[0].models[0]);
    const emb_provider_model_config *m =
        &g->providers[0].models[1]; /* known, though the server is not OpenAI's */
    assert_true(m->dimension == 3072 && m->priced && m->nusd_per_1k_tokens == 140000);
    assert_string_equal(m->origin, "openai");
    m = &g->providers[0].models[2];
    assert_true(m->dimension == 0 && !m->priced);
    assert_string_equal(m->upstream, "other");
    assert_string_equal(m->origin, "main");
    assert_string_equal(g->providers[1].proxy, "http://p:1");
    assert_int_equal(g->limit_count, 4);
    assert_int_equal(g->limits[0].scope, EMB_LIMIT_KEY);
    assert_int_equal(g->limits[0].daily_nusd, 1500000000);
    assert_int_equal(g->limits[1].scope, EMB_LIMIT_CATEGORY);
    assert_string_equal(g->limits[1].name, "faq");
    assert_int_equal(g->limits[2].scope, EMB_LIMIT_PROVIDER);
    assert_int_equal(g->limits[2].daily_nusd, 1);
    assert_string_equal(g->limits[3].name, "*");
    assert_int_equal(g->sink_count, 1);
    assert_int_equal(g->sinks[0].kind, EMB_SINK_ALERTMANAGER);
    assert_string_equal(g->sinks[0].url, "https://h/x");
    assert_string_equal(g->sinks[0].bearer, "b");
    assert_string_equal(g->sinks[0].minimum_severity, "error");
    assert_int_equal(g->rollout_step_count, 2);
    assert_true(g->rollout_steps[0].percentage == 0.5);
    assert_int_equal(g->rollout_steps[0].hold_s, 3723);
    assert_int_equal(g->rollout_steps[1].hold_s, 0);
    assert_int_equal(g->pii_pattern_count, 1);
    assert_string_equal(g->pii_patterns[0].regex, "EMP-[0-9]{6}");
    emb_config_release(c);
}

static void defaults_by_kind(void **state)
{
    (void)state;
    emb_config *c =
        load("providers:\n"
             "  timeout_ms: 77\n"
             "  instances:\n"
             "  - {name: ollama, models: [m]}\n"
             "  - {name: t, kind: tei, base_url: http://127.0.0.1:1, models: [m]}\n"
             "  - {name: e, kind: embedd, base_url: http://e, models: [m]}\n"
             "  - {name: azure, base_url: https://a, models: [{name: x, upstream: text-embedding-ada-002}]}\n"
             "  - {name: cohere}\n"
             "  - {name: o2, kind: openai, api_key: k}\n"
             "  - {name: h, kind: huggingface, api_key: k, models: [a/b]}\n"
             "alerts.sinks: [{name: s, kind: webhook, url: http://h}]\n",
             ENVIRONMENT("AZURE_OPENAI_API_KEY=ak", "CO_API_KEY=ck", "EMBEDD_PROXY=http://p:1"));
    const emb_provider_config *p = provider(c, "ollama");
    assert_string_equal(p->base_url, "http://127.0.0.1:11434");
    assert_string_equal(p->proxy, ""); /* this machine */
    assert_true(p->models[0].priced && p->models[0].nusd_per_1k_tokens == 0 && p->models[0].dimension == 0);
    assert_true(p->weight == 1 && p->concurrency == 8 && p->timeout_ms == 77 &&
                p->connect_timeout_ms == 5000);
    assert_true(p->max_retries == 3 && p->http2 && p->compress && p->base64 && !p->is_private &&
                !p->hedge_ms);
    assert_true(p->failure_threshold == 5 && p->failure_rate == 0.5 && p->minimum_calls == 20 &&
                p->window_s == 60);
    assert_true(p->recovery_timeout_s == 60 && p->recovery_longest_s == 900 && p->slow_ms == 0);
    assert_true(provider(c, "t")->models[0].priced && provider(c, "e")->models[0].priced);
    assert_string_equal(provider(c, "t")->models[0].origin, "t");
    assert_string_equal(provider(c, "e")->proxy, "http://p:1");
    p = provider(c, "azure");
    assert_string_equal(p->api_key, "ak");
    assert_string_equal(p->api_version, "2024-10-21");
    assert_string_equal(p->models[0].origin, "openai");
    assert_true(p->models[0].dimension == 1536 && p->models[0].nusd_per_1k_tokens == 100000 &&
                p->models[0].priced);
    p = provider(c, "cohere");
    assert_string_equal(p->api_key, "ck");
    assert_string_equal(p->base_url, "https://api.cohere.com");
    assert_int_equal(p->model_count, 3);
    assert_true(p->models[0].dimension == 1024 && !p->models[0].priced && p->models[2].dimension == 1536);
    assert_string_equal(p->models[0].origin, "cohere");
    p = provider(c, "o2");
    assert_int_equal(p->model_count, 3);
    assert_string_equal(p->models[0].encoding, "cl100k_base");
    p = provider(c, "h");
    assert_true(p->models[0].priced && p->models[0].nusd_per_request == 500000 &&
                !p->models[0].nusd_per_1k_tokens);
    assert_string_equal(p->models[0].origin, "huggingface");
    assert_string_equal(c->gateway.sinks[0].minimum_severity, "warning");
    assert_string_equal(note(c, 0), "");
    emb_config_release(c);
}

static void what_the_environment_makes(void **state)
{
    (void)state;
    emb_config *c = load_environment(ENVIRONMENT("HF_TOKEN=t", "HF_API_KEY=u", "OPENAI_BASE_URL=http://x"));
    assert_int_equal(c->gateway.provider_count, 0); /* nothing leaves the machine because of it */
    emb_config_release(c);
    c = load_environment(ENVIRONMENT("OPENAI_API_KEY=k", "OPENAI_EMBEDDING_MODEL=text-embedding-3-large",
                                     "OPENAI_EMBEDDING_MAX_RETRIES=7"));
    const emb_provider_config *p = provider(c, "openai");
    assert_string_equal(p->api_key, "k");
    assert_string_equal(p->base_url, "https://api.openai.com/v1");
    assert_int_equal(p->max_retries, 7);
    assert_int_equal(p->model_count, 3);
    assert_string_equal(p->models[0].name, "text-embedding-3-large");
    assert_true(p->models[0].nusd_per_1k_tokens == 130000 && p->models[1].nusd_per_1k_tokens == 20000);
    assert_false(p->is_private);
    emb_config_release(c);
    c = load_environment(ENVIRONMENT("EMBEDDING_PROVIDER=openai", "OPENAI_BASE_URL=http://localhost:9/v1/",
                                     "OPENAI_EMBEDDING_MODEL=nomic"));
    p = provider(c, "openai");
    assert_string_equal(p->base_url, "http://localhost:9/v1");
    assert_string_equal(p->api_key, "");
    assert_int_equal(p->model_count, 4);
    assert_true(!p->models[0].priced && p->models[0].dimension == 0 && p->models[1].priced);
    assert_string_equal(p->models[0].origin, "openai"); /* the name of the instance */
    emb_config_release(c);
    c = load_environment(ENVIRONMENT("EMBEDDING_SERVICE_URL=http://d:1/", "EMBEDDING_MODEL=bge",
                                     "EMBEDDING_PROVIDER=remote", "EMBEDD_FALLBACK=local, remote/bge"));
    p = provider(c, "remote");
    assert_true(p->kind == EMB_PROVIDER_REMOTE && p->is_private && p->model_count == 1 &&
                p->models[0].priced);
    assert_string_equal(p->base_url, "http://d:1");
    assert_string_equal(p->models[0].name, "bge");
    emb_config_release(c);
    c = load_environment(ENVIRONMENT("EMBEDDING_SERVICE_URL=http://d:1"));
    assert_string_equal(provider(c, "remote")->models[0].name, "default");
    emb_config_release(c);
    c = load_environment(
        ENVIRONMENT("EMBEDDINGS_PROVIDER=huggingface", "HF_API_KEY=hk", "EMBEDD_HF_MODEL=a/b"));
    p = provider(c, "huggingface");
    assert_string_equal(p->api_key, "hk");
    assert_string_equal(p->base_url, "https://router.huggingface.co/hf-inference");
    assert_string_equal(p->models[0].name, "a/b");
    assert_true(p->models[0].nusd_per_request == 500000);
    emb_config_release(c);
    c = load_environment(
        ENVIRONMENT("EMBEDD_ALERT_WEBHOOK_URL=https://h/1", "EMBEDD_ALERTMANAGER_URL=https://h/2"));
    assert_int_equal(c->gateway.sink_count, 2);
    assert_string_equal(c->gateway.sinks[0].name, "webhook");
    assert_string_equal(c->gateway.sinks[1].url, "https://h/2");
    assert_int_equal(c->gateway.sinks[1].kind, EMB_SINK_ALERTMANAGER);
    emb_config_release(c);
}

static void the_file_comes_before_the_environment(void **state)
{
    (void)state;
    emb_config *c =
        load("providers.instances: [{name: openai, base_url: https://eu.api.openai.com/v1, models: [m]},\n"
             "  {name: huggingface, models: [m]}]\n",
             ENVIRONMENT("OPENAI_API_KEY=k", "EMBEDDING_PROVIDER=huggingface", "HF_TOKEN=t"));
    assert_int_equal(c->gateway.provider_count, 2);
    assert_string_equal(provider(c, "openai")->api_key, "k");
    assert_string_equal(provider(c, "openai")->models[0].origin, "openai");
    assert_string_equal(provider(c, "huggingface")->api_key, "t");
    emb_config_release(c);
    /* an instance that takes the key by name may be meant to be the only one */
    c = load("providers.instances: [{name: eu, kind: openai, api_key_env: OPENAI_API_KEY, models: [m]}]\n",
             ENVIRONMENT("OPENAI_API_KEY=k"));
    assert_int_equal(c->gateway.provider_count, 1);
    assert_string_equal(provider(c, "eu")->api_key, "k");
    emb_config_release(c);
    c = load("providers.instances: [{name: eu, kind: openai, api_key_env: EMBEDD_EU_KEY, models: [m]}]\n",
             ENVIRONMENT("EMBEDD_EU_KEY=k"));
    assert_string_equal(note(c, 0), ""); /* not an unknown variable of ours */
    emb_config_release(c);
    c = load("providers.instances: [{name: a, kind: tei, base_url: http://h, models: [m]}]\n",
             ENVIRONMENT("OPENAI_API_KEY=k"));
    assert_int_equal(c->gateway.provider_count, 2);
    assert_string_equal(c->gateway.providers[1].name, "openai");
    assert_int_equal(c->gateway.local_position, 0);
    emb_config_release(c);
}

static void keys_of_files(void **state)
{
    (void)state;
    char yaml[600], message[400];
    const char *key = write_file("key", "sk-file\n", 8);
    snprintf(yaml, sizeof yaml, "providers.instances: [{name: openai, api_key_file: %s}]\n", key);
    chmod(key, 0600);
    emb_config *c = load(yaml, ENVIRONMENT("OPENAI_API_KEY=not-this"));
    assert_string_equal(provider(c, "openai")->api_key, "sk-file");
    assert_string_equal(note(c, 0), "");
    emb_config_release(c);
    chmod(key, 0644);
    c = load(yaml, NO_ENVIRONMENT);
    assert_non_null(strstr(note(c, 0), "api_key_file: others than its owner may use"));
    emb_config_release(c);
    FILE *f = fopen(key, "w");
    assert_non_null(f);
    fputs(" \n", f);
    fclose(f);
    chmod(key, 0600);
    snprintf(message, sizeof message, "1: providers.instances[0].api_key_file: %s is empty", key);
    refuses(yaml, message);
    unlink(key);
    snprintf(message, sizeof message,
             "1: providers.instances[0].api_key_file: opening %s: No such file or directory", key);
    refuses(yaml, message);
    remove_file(key);
}

static void doubtful_instances_are_noted(void **state)
{
    (void)state;
    emb_config *c =
        load("providers.instances: [{name: cohere}, {name: x, kind: tei, base_url: http://h, api_key: "
             "geheim, models: [m]},\n"
             "  {name: y, kind: tei, base_url: \"http://[::1]:9\", api_key: geheim, models: [m]}]\n",
             NO_ENVIRONMENT);
    assert_non_null(strstr(note(c, 0), "'cohere' has no key"));
    assert_non_null(strstr(note(c, 1), "the key of 'x' goes over the network unencrypted"));
    assert_null(strstr(note(c, 1), "geheim"));
    assert_string_equal(note(c, 2), "");
    emb_config_release(c);
}

static void wrong_instances(void **state)
{
    (void)state;
#define ONE(members) "providers:\n  instances:\n  - {" members "}\n"
    refuses("providers.instances: {a: 1}\n",
            "1: providers.instances: is a mapping, a list is wanted; begin each item with '- '");
    refuses("providers.instances: [openai]\n",
            "1: providers.instances[0]: is a value; an instance is a mapping, or the word local");
    refuses("providers.instances: [local, local]\n", "1: providers.instances: 'local' is here twice");
    refuses("providers.instances: []\nproviders: {instances: []}\n",
            "2: providers.instances: is here twice; the first is in line 1");
    refuses(ONE("kind: openai"), "3: providers.instances[0]: has no name");
    refuses(ONE("name: mine"),
            "3: providers.instances[0]: has no kind; allowed: openai, azure, huggingface, cohere, ollama, "
            "tei, remote, embedd");
    refuses(ONE("name: a b, kind: openai"),
            "3: providers.instances[0].name: 'a b' is not a word; allowed: 1 to 64 letters, "
            "digits, '_', '-' and '.'");
    refuses(ONE("name: local, kind: openai"),
            "3: providers.instances[0].name: 'local' cannot be the name of an instance; the "
            "local models are there without one, and stand in the order as '- local'");
    refuses(ONE("name: x, kind: opnai"),
            "3: providers.instances[0].kind: 'opnai' is not a choice; allowed: openai, azure, "
            "huggingface, cohere, ollama, tei, remote, embedd");
    refuses(ONE("name: x, kind: tei"),
            "3: providers.instances[0]: has no base_url, which an instance of the kind tei needs");
    refuses(ONE("name: openai, api_kye: geheim"),
            "3: providers.instances[0]: there is no member 'api_kye'; did you mean 'api_key'?");
    refuses(ONE("name: openai, slow_ms: 1"),
            "3: providers.instances[0]: there is no member 'slow_ms'; did you mean 'breaker.slow_ms'?");
    refuses(ONE("name: openai, qqq: 1"),
            "3: providers.instances[0]: there is no member 'qqq'; `embedd config docs` lists them");
    refuses(ONE("name: openai, breaker: {windowseconds: 1}"),
            "3: providers.instances[0]: there is no member "
            "'breaker.windowseconds'; did you mean 'breaker.window_seconds'?");
    refuses(ONE("name: openai, breaker: 5"),
            "3: providers.instances[0].breaker: is a value; its members are wanted below it");
    refuses(ONE("name: openai, breaker.slow_ms: 5, breaker: {slow_ms: 5}"),
            "3: providers.instances[0].breaker.slow_ms: is here twice");
    refuses(ONE("name: openai, breaker: {recovery_timeout_seconds: 1000}"),
            "3: providers.instances[0].breaker."
            "recovery_longest_seconds: 900 is below recovery_timeout_seconds, which is 1000");
    refuses("providers:\n  instances:\n  - name: openai\n    weight: 1001\n",
            "4: providers.instances[0].weight: '1001' is out of range; allowed: 0 to 1000");
    refuses(ONE("name: openai, timeout_ms: 1s"),
            "3: providers.instances[0].timeout_ms: '1s' is not a whole number; allowed: 1 to 3600000");
    refuses(ONE("name: openai, max_body_bytes: 2GiB"),
            "3: providers.instances[0].max_body_bytes: '2GiB' is out of range; allowed: 0 to 1GiB");
    refuses(ONE("name: openai, weight: ~"),
            "3: providers.instances[0].weight: has no value; write one or leave the line out");
    refuses(ONE("name: openai, weight: [1]"),
            "3: providers.instances[0].weight: is a list, a single value is wanted");
    refuses(ONE("name: openai, base_url: api.openai.com"),
            "3: providers.instances[0].base_url: 'api.openai.com' does not begin with http:// or https://");
    refuses(ONE("name: openai, base_url: \"https://:80\""),
            "3: providers.instances[0].base_url: 'https://:80' names no host");
    refuses(ONE("name: openai, base_url: \"https://u:geheim@h\""),
            "3: providers.instances[0].base_url: the address holds a user "
            "name or password, which would be shown in logs; leave it out of the address");
    refuses(ONE("name: openai, proxy: \"ftp://geheim\""),
            "3: providers.instances[0].proxy: the value (which is not shown) begins "
            "with none of http://, https://, socks5://, socks5h://");
    refuses(ONE("name: openai, api_key: \"ge heim\""),
            "3: providers.instances[0].api_key: the value (which is not shown) is "
            "empty, too long, or holds a space or a character outside ASCII");
    refuses(ONE("name: openai, api_key: a, api_key_env: B"),
            "3: providers.instances[0]: has more than one of api_key, api_key_env and api_key_file");
    refuses(ONE("name: openai, api_key_env: NO_SUCH_KEY"),
            "3: providers.instances[0].api_key_env: the variable NO_SUCH_KEY is not set");
    refuses(ONE("name: openai, headers: {\"a b\": geheim}"),
            "3: providers.instances[0].headers: 'a b' is not the name of a header");
    refuses(ONE("name: openai, headers: {Host: geheim}"),
            "3: providers.instances[0].headers: 'Host' is a header that is set by the program");
    refuses(ONE("name: openai, headers: {X: \"gehe\\nim\"}"),
            "3: providers.instances[0].headers: 'X' has a value with a control character");
}

/* The messages that hold the path of the file twice. */
static void names_are_unique(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *expected;
    } cases[] = {
        {"providers.instances: [{name: cohere}, {name: cohere}]\n", ".name: 'cohere' is that of "},
        {"pii.patterns: [{name: a, regex: b}, {name: a, regex: c}]\n", ".name: 'a' is that of "},
        {"budget.limits: [{key: a, daily_usd: 1}, {category: a, daily_usd: 1}, {key: a, daily_usd: 1}]\n",
         "budget.limits[2].key: 'a' is that of "},
        {"alerts.sinks: [{name: a, kind: webhook, url: http://h}, {name: a, kind: webhook, url: http://h}]\n",
         "alerts.sinks[1].name: 'a' is that of "}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = write_file("u.yaml", cases[i].yaml, strlen(cases[i].yaml));
        emb_config_sources sources = {.file = path, .environment = NO_ENVIRONMENT};
        emb_config *config = NULL;
        emb_error err = {0};
        assert_int_equal(emb_config_load(&sources, &config, &err), EMB_E_INVALID);
        assert_non_null(strstr(err.message, cases[i].expected));
        remove_file(path);
    }
}

static void wrong_models_and_prices(void **state)
{
    (void)state;
#define MODELS(models) "providers:\n  instances:\n  - {name: ollama, models: " models "}\n"
    refuses(ONE("name: ollama"),
            "3: providers.instances[0]: has no models; write them as 'models: [NAME, …]'");
    refuses(MODELS("[]"), "3: providers.instances[0]: has no models; write them as 'models: [NAME, …]'");
    refuses(MODELS("m"),
            "3: providers.instances[0].models: is not a list; allowed: names or mappings, 64 at most");
    refuses(MODELS("[{dimension: 3}]"), "3: providers.instances[0].models[0]: has no name");
    refuses(MODELS("[a, b, a]"), "3: providers.instances[0].models[2]: the model 'a' is here twice");
    refuses(MODELS("[\"a b\"]"),
            "3: providers.instances[0].models[0].name: 'a b' is not a name; allowed: 1 to 256 characters of "
            "ASCII without spaces");
    refuses(
        MODELS("[{name: a, dimensions: 3}]"),
        "3: providers.instances[0].models[0]: there is no member 'dimensions'; did you mean 'dimension'?");
    refuses(MODELS("[{name: a, dimension: 65537}]"),
            "3: providers.instances[0].models[0].dimension: '65537' is out of range; allowed: 0 to 65536");
    refuses(MODELS("[{name: a, quality: nan}]"),
            "3: providers.instances[0].models[0].quality: 'nan' is not a number; allowed: 0 to 100");
    refuses(MODELS("[{name: a, encoding: p50k}]"),
            "3: providers.instances[0].models[0].encoding: 'p50k' is not an encoding; "
            "allowed: cl100k_base, or an empty text");
    refuses(MODELS("[{name: a, price_per_1k_tokens: -1}]"),
            "3: providers.instances[0].models[0].price_per_1k_tokens: '-1' is not "
            "an amount; allowed: 0 to 1000 dollars, such as 0.00002");
    refuses(MODELS("[{name: a, price_per_request: inf}]"),
            "3: providers.instances[0].models[0].price_per_request: 'inf' is not an "
            "amount; allowed: 0 to 1000 dollars, such as 0.00002");
    refuses(MODELS("[{name: a, price_per_request: 1001}]"),
            "3: providers.instances[0].models[0].price_per_request: '1001' is out "
            "of range; allowed: 0 to 1000 dollars");
    refuses("providers.prices: {m: 1e-10}\n",
            "1: providers.prices.m: '1e-10' is finer than a nano-dollar, 0.000000001; allowed: "
            "0 to 1000 dollars");
    refuses("providers.prices: [m]\n",
            "1: providers.prices: is not a mapping; allowed: names of models and dollars for 1,000 "
            "tokens, 1000 at most");
}

static void wrong_items(void **state)
{
    (void)state;
    refuses("budget.limits: [{daily_usd: 1}]\n",
            "1: budget.limits[0]: has none of key, category and provider; one is wanted");
    refuses("budget.limits: [{key: a, provider: local, daily_usd: 1}]\n",
            "1: budget.limits[0]: has more than one of key, category and provider; one is wanted");
    refuses("budget.limits: [{key: a}]\n", "1: budget.limits[0]: has no daily_usd");
    refuses("budget.limits: [{provider: b, daily_usd: 1}]\n",
            "1: budget.limits[0].provider: there is no provider 'b'; there is only local");
    refuses("alerts.sinks: [{name: a, kind: webhook}]\n", "1: alerts.sinks[0]: has no url");
    refuses("alerts.sinks: [{name: a, kind: slack, url: http://h}]\n",
            "1: alerts.sinks[0].kind: 'slack' is not a choice; allowed: webhook, alertmanager");
    refuses("alerts.sinks: [{name: a, kind: webhook, url: geheim}]\n",
            "1: alerts.sinks[0].url: the value (which is not shown) does not begin with http:// or https://");
    refuses("alerts.sinks: [{name: a, kind: webhook, url: http://h, minimum_severity: info}]\n",
            "1: alerts.sinks[0].minimum_severity: 'info' is not a choice; allowed: warning, error, critical");
    refuses("rollout.schedule: [{percentage: 5, hold_hours: 1}, {percentage: 5}]\n",
            "1: rollout.schedule[1].percentage: 5 is not above that of the step before, which is 5");
    refuses("rollout.schedule: [{percentage: 5}, {percentage: 6}]\n",
            "1: rollout.schedule[0]: has no hold_hours, hold_minutes or hold_seconds, which every step but "
            "the last needs");
    refuses("rollout: {schedule: [{percentage: 101}]}\n",
            "1: rollout.schedule[0].percentage: '101' is out of range; allowed: 0 to 100");
    refuses("rollout: {schedul: []}\n",
            "1: there is no setting 'rollout.schedul'; did you mean 'rollout.schedule'?");
    refuses("pii.patterns: [{name: A-b, regex: c}]\n",
            "1: pii.patterns[0].name: 'A-b' is not the name of a kind; allowed: small letters, digits and _");
    refuses("pii.patterns: [{name: a}]\n", "1: pii.patterns[0]: has no regex");
    refuses("pii.patterns: [{name: a, regex: \"\"}]\n", "1: pii.patterns[0].regex: '' is empty");
}

static void providers_that_are_named_are_there(void **state)
{
    (void)state;
    refuses_environment("EMBEDDING_PROVIDER=openai",
                        "EMBEDDING_PROVIDER: 'openai' needs a key: set OPENAI_API_KEY, or OPENAI_BASE_URL "
                        "for a compatible server");
    refuses_environment("EMBEDDING_PROVIDER=remote",
                        "EMBEDDING_PROVIDER: 'remote' needs an address: set EMBEDDING_SERVICE_URL");
    refuses_environment("EMBEDD_LEGACY_PROVIDER=mine",
                        "EMBEDD_LEGACY_PROVIDER: there is no provider 'mine'; there is only local");
    refuses_with("providers.default: openai\nproviders.instances: [{name: openai}]\n", NO_ENVIRONMENT,
                 "1: providers.default: 'openai' needs a key: set OPENAI_API_KEY");
    static char *const openai[] = {"OPENAI_API_KEY=k", NULL};
    refuses_with("hybrid.fallback: [local, opnai]\n", openai,
                 "1: hybrid.fallback: there is no provider 'opnai'; did you mean 'openai'?");
    refuses_with("hybrid.candidate_provider: openai/text-embedding-3-smal\n", openai,
                 "1: hybrid.candidate_provider: 'openai' has no model 'text-embedding-3-smal'; did you mean "
                 "'text-embedding-3-small'?");
    emb_config_release(
        load("hybrid: {fallback: none, legacy_provider: local/x, candidate_provider: openai}\n", openai));
}

static void money(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t nusd;
        const char *written;
    } good[] = {{"0", 0, "0"},
                {"0.00002", 20000, "0.00002"},
                {"2e-5", 20000, "0.00002"},
                {"0.1", 100000000, "0.1"},
                {"1", 1000000000, "1"},
                {".5", 500000000, "0.5"},
                {"10.", 10000000000, "10"},
                {"0.000000001", 1, "0.000000001"},
                {"0.00013000000000000", 130000, "0.00013"},
                {"+1E2", 100000000000, "100"},
                {"0e-400", 0, "0"},
                {"18446744073.709551615", UINT64_MAX, "18446744073.709551615"}};
    char text[EMB_MONEY_TEXT_MAX];
    uint64_t nusd;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(emb_money_parse(good[i].text, strlen(good[i].text), &nusd), EMB_MONEY_READ);
        assert_true(nusd == good[i].nusd);
        assert_string_equal(emb_money_text(nusd, text), good[i].written);
    }
    static const char *const bad[] = {"",    "x", "-1", "nan", "1,5", "1e",
                                      "1e+", ".", "1 ", "0x1", "$1",  "1e5x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(emb_money_parse(bad[i], strlen(bad[i]), &nusd), EMB_MONEY_NO_NUMBER);
    static const char *const large[] = {"18446744073.709551616", "1e99", "1e99999999999999999999",
                                        "99999999999999999999999999999999999999999999"};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        assert_int_equal(emb_money_parse(large[i], strlen(large[i]), &nusd), EMB_MONEY_TOO_LARGE);
    static const char *const fine[] = {"0.0000000001", "1e-99999999999",
                                       "0.1000000000000000055511151231257827"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
        assert_int_equal(emb_money_parse(fine[i], strlen(fine[i]), &nusd), EMB_MONEY_TOO_FINE);
}

static void prices_that_are_asked_for(void **state)
{
    (void)state;
    uint64_t tokens, request;
    emb_config *c =
        load("providers:\n  prices: {text-embedding-ada-002: 3}\n  instances:\n"
             "  - {name: ollama, models: [text-embedding-3-small, free]}\n"
             "  - {name: t, kind: tei, base_url: http://h, models: [{name: own, price_per_request: 2}]}\n",
             NO_ENVIRONMENT);
    const emb_gateway_config *g = &c->gateway;
    assert_true(emb_gateway_price(g, "text-embedding-ada-002", &tokens, &request) && tokens == 3000000000u &&
                !request);
    assert_true(emb_gateway_price(g, "text-embedding-3-small", &tokens, &request) && tokens == 20000);
    assert_true(emb_gateway_price(g, "text-embedding-3-large", &tokens, &request) && tokens == 130000);
    assert_true(emb_gateway_price(g, "own", &tokens, &request) && !tokens && request == 2000000000u);
    assert_true(emb_gateway_price(g, "free", &tokens, &request) && !tokens && !request);
    assert_false(emb_gateway_price(g, "embed-v4.0", &tokens, &request));
    emb_config_release(c);
}

/* The catalog of `embedd models` has them too, in a room that this one must not see. */
static void the_built_in_models_are_those_of_the_catalog(void **state)
{
    (void)state;
    size_t hosted = 0, count;
    emb_config *c = load_environment(ENVIRONMENT("OPENAI_API_KEY=k"));
    const emb_catalog_entry *all = emb_catalog_all(&count);
    const emb_provider_config *p = provider(c, "openai");
    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].provider, "openai") != 0)
            continue;
        size_t j = 0;
        while (j < p->model_count && strcmp(p->models[j].name, all[i].name) != 0)
            j++;
        assert_true(j < p->model_count);
        const emb_provider_model_config *m = &p->models[j];
        assert_true(m->dimension == all[i].dimension && m->max_tokens == all[i].max_tokens);
        assert_true(m->nusd_per_1k_tokens == all[i].price_nusd_per_1k && m->shortens == all[i].shortens);
        assert_true((float)m->quality == all[i].mteb);
        assert_string_equal(m->encoding, emb_catalog_encoding(&all[i]));
        hosted++;
    }
    assert_int_equal(hosted, p->model_count);
    emb_config_release(c);
}

static char *printed(const emb_config *c)
{
    emb_buf out = EMB_BUF_INIT(1 << 20);
    assert_int_equal(emb_config_write_yaml(c, false, &out), EMB_OK);
    char *text = strdup(emb_buf_cstr(&out));
    emb_buf_fini(&out);
    return text;
}

/* What is printed loads again and then is printed the same: secrets aside, nothing is lost. */
static void what_is_printed_loads_again(void **state)
{
    (void)state;
    static char *const environment[] = {"CO_API_KEY=c", NULL};
    emb_config *c = load(full, environment);
    char *first = printed(c), *line;
    emb_config_release(c);
    assert_null(strstr(first, "sk-1"));
    assert_null(strstr(first, "https://h/x"));
    assert_non_null(strstr(first, "      # api_key: (set)\n"));
    assert_non_null(strstr(first, "      # headers: X-Team (set)\n"));
    c = load(first, environment);
    char *second = printed(c);
    for (line = strtok(second, "\n"); line; line = strtok(NULL, "\n"))
        if (!strchr(line, '#'))
            assert_non_null(strstr(first, line));
    const emb_provider_model_config *m = &c->gateway.providers[0].models[0];
    assert_true(c->gateway.provider_count == 2 && c->gateway.local_position == 1 &&
                m->nusd_per_1k_tokens == 20000);
    assert_string_equal(m->query_prompt, "q:\n");
    emb_config_release(c);
    c = load(first, environment);
    free(second);
    second = printed(c);
    emb_config_release(c);
    c = load(second, environment);
    char *third = printed(c);
    assert_string_equal(second, third);
    emb_config_release(c);
    free(first);
    free(second);
    free(third);
}

static void remember(void *context, const emb_setting *setting)
{
    char *out = context;
    sprintf(out + strlen(out), "%s%s ", setting->path, setting->live ? "!" : "");
}

static void differ(const char *a, const char *b, const char *expected)
{
    char out[400] = "";
    emb_config *x = load(a, NO_ENVIRONMENT), *y = load(b, NO_ENVIRONMENT);
    emb_config_differences(x, y, remember, out);
    assert_string_equal(out, expected);
    emb_config_release(x);
    emb_config_release(y);
}

static void differences(void **state)
{
    (void)state;
    static const char a[] = "providers.instances: [{name: ollama, models: [m]}]\n";
    differ(full, full, "");
    differ(a, "providers.instances: [{models: [m], name: ollama, kind: ollama}]\n", "");
    differ(a, "", "providers.instances ");
    differ(a, "providers.instances: [{name: ollama, models: [{name: m, dimension: 3}]}]\n",
           "providers.instances ");
    differ(a, "providers.instances: [{name: ollama, models: [m], api_key: k}]\n", "providers.instances ");
    differ(a, "providers.instances: [{name: ollama, models: [m], headers: {a: b}}]\n",
           "providers.instances ");
    differ(a, "providers.instances: [{name: ollama, models: [m]}, local]\n", "providers.instances ");
    differ("budget.limits: [{key: a, daily_usd: 1}]\n", "budget.limits: [{key: a, daily_usd: 2}]\n",
           "budget.limits! ");
    differ("providers.prices: {a: 1}\n", "providers.prices: {a: 2}\n", "providers.prices ");
    differ("rollout.schedule: [{percentage: 1}]\npii.patterns: [{name: a, regex: b}]\n", "alerts.sinks: []\n",
           "rollout.schedule pii.patterns ");
    /* a setting that is live and is reported as such */
    differ("providers: {timeout_ms: 5, instances: [{name: ollama, models: [m]}]}\n", a,
           "providers.timeout_ms ");
}

static void tell(void *context, const emb_error *problem)
{
    (void)problem;
    ++*(size_t *)context;
}

static void all_mistakes_are_told(void **state)
{
    (void)state;
    static const char yaml[] =
        "providers.instances:\n- {name: openai, wieght: 1, weight: -1, headers: {Host: x},\n"
        "   models: [{dimension: x}, {nme: y}]}\n- 5\nbudget.limits: [{kee: 1}]\n";
    static const char items[] =
        "providers.instances:\n- {kind: openai, models: [{dimension: 3}, a, a]}\n- {name: x}\n"
        "budget.limits: [{key: a}]\nrollout.schedule: [{percentage: 5}, {percentage: 4}]\n";
    size_t told = 0;
    emb_error err = {0};
    emb_config *c;
    const char *path = write_file("all.yaml", yaml, strlen(yaml));
    emb_config_sources sources = {
        .file = path, .environment = NO_ENVIRONMENT, .problem = tell, .problem_context = &told};
    assert_int_equal(emb_config_load(&sources, &c, &err), EMB_E_INVALID);
    assert_int_equal(told, 7);
    remove_file(path);
    path = write_file("all.yaml", items, strlen(items));
    sources.file = path;
    told = 0;
    assert_int_equal(emb_config_load(&sources, &c, &err), EMB_E_INVALID);
    assert_int_equal(told, 5);
    remove_file(path);
}

static void bounds(void **state)
{
    (void)state;
    char *yaml = malloc(300000);
    strcpy(yaml, "providers:\n  instances: [");
    for (int i = 0; i < 65; i++)
        strcat(yaml, "{},");
    strcat(yaml, "]\n");
    refuses(yaml, "2: providers.instances: has 65 items; allowed: 64");
    free(yaml);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    const char *path = write_file("nomem.yaml", full, sizeof full - 1);
    emb_config_sources sources = {
        .file = path, .environment = ENVIRONMENT("CO_API_KEY=c", "EMBEDDING_SERVICE_URL=http://h")};
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        emb_error err = {0};
        emb_config *c = NULL;
        emb_buf out = EMB_BUF_INIT(1 << 20);
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_config_load(&sources, &c, &err);
        if (!status)
            status = emb_config_write_yaml(c, true, &out);
        failed = fail_alloc_stop();
        if (status) /* stdio does without its buffer */
            assert_true(failed && status == EMB_E_NOMEM);
        else
            assert_int_equal(c->gateway.provider_count, 3);
        emb_config_release(c);
        emb_buf_fini(&out);
        assert_int_equal(fail_alloc_live(), live);
    }
    remove_file(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_member_reaches_its_field),
        cmocka_unit_test(defaults_by_kind),
        cmocka_unit_test(what_the_environment_makes),
        cmocka_unit_test(the_file_comes_before_the_environment),
        cmocka_unit_test(keys_of_files),
        cmocka_unit_test(doubtful_instances_are_noted),
        cmocka_unit_test(wrong_instances),
        cmocka_unit_test(names_are_unique),
        cmocka_unit_test(wrong_models_and_prices),
        cmocka_unit_test(wrong_items),
        cmocka_unit_test(providers_that_are_named_are_there),
        cmocka_unit_test(money),
        cmocka_unit_test(prices_that_are_asked_for),
        cmocka_unit_test(the_built_in_models_are_those_of_the_catalog),
        cmocka_unit_test(what_is_printed_loads_again),
        cmocka_unit_test(differences),
        cmocka_unit_test(all_mistakes_are_told),
        cmocka_unit_test(bounds),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests_name("config gateway", tests, NULL, NULL);
}
