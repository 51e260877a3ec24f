/*
 * cmd_doctor.c: `embedd doctor`: looks at everything the service stands on, and says what to do about what is
 * wrong.
 *
 * Each check prints one line, ok, note or FAIL, and goes on, so that one run shows all there is. Checks do
 * what the service would do: they load the model, write to the data directory, connect to the second cache
 * level, bind the address. The model's vectors are compared with those of the portable kernels, which share
 * nothing with the fast ones but the weights: a processor or hypervisor that miscomputes shows here. With
 * --ready the command asks a running service only, for health checks of containers.
 */
#include "cli/session.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_write.h"
#include "cache/cache.h"
#include "cli/progress.h"
#include "cli/settings_flags.h"
#include "engine/engine.h"
#include "http/server.h"
#include "service/service.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- findings ---- */

typedef enum verdict { OK, NOTE, FAIL, VERDICTS } verdict;
static const char *const verdict_names[VERDICTS] = {"ok", "note", "FAIL"};

typedef struct examination {
    const emb_config *config;
    bool json;
    size_t counts[VERDICTS];
    emb_buf out; /* of --format json */
} examination;

static void tell(examination *e, verdict v, const char *subject, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void tell(examination *e, verdict v, const char *subject, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!e->json) {
        printf("%-4s  %-14s %s\n", verdict_names[v], subject, text);
        fflush(stdout);
    } else if (emb_buf_addf(&e->out, "%s{\"verdict\":\"%s\",\"subject\":\"%s\",\"text\":",
                            e->counts[OK] + e->counts[NOTE] + e->counts[FAIL] ? "," : "",
                            v == FAIL ? "fail" : verdict_names[v], subject) ||
               emb_json_write_string(&e->out, text, strlen(text)) || emb_buf_add_str(&e->out, "}")) {
        e->counts[FAIL]++; /* memory is short: the document is not whole, and the exit status says so */
    }
    e->counts[v]++;
}

/* ---- the machine ---- */

/* The value of the first line of a /proc file that starts with `key`, or NULL; lives until the next call. */
static const char *proc_value(const char *path, const char *key)
{
    static char line[512];
    FILE *stream = fopen(path, "re");
    const char *value = NULL;
    while (stream && !value && fgets(line, sizeof line, stream))
        if (strncmp(line, key, strlen(key)) == 0 && (value = strchr(line, ':'))) {
            value += 1 + strspn(value + 1, " \t");
            line[strcspn(line, "\n")] = 0;
        }
    if (stream)
        fclose(stream);
    return value;
}

static void check_machine(examination *e)
{
    char cpu[128], a[32];
    const char *model = proc_value("/proc/cpuinfo", "model name");
    snprintf(cpu, sizeof cpu, "%s", model ? model : "unknown processor");
    unsigned usable = emb_cpus_usable();
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    tell(e, OK, "processor", "%s, %u of %ld CPUs usable", cpu, usable, online);
    const char *available = proc_value("/proc/meminfo", "MemAvailable");
    double bytes = available ? strtod(available, NULL) * 1024 : 0;
    tell(e, bytes > 0 && bytes < 512e6 ? NOTE : OK, "memory", "%s MB available",
         emb_number_text((uint64_t)(bytes / 1e6), a));
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        bool enough = files.rlim_max == RLIM_INFINITY || files.rlim_max >= e->config->max_connections + 256;
        if (enough)
            tell(e, OK, "open files", "as many as server.max_connections (%zu) needs",
                 e->config->max_connections);
        else
            tell(e, NOTE, "open files",
                 "the limit is %llu, server.max_connections is %zu: raise it (LimitNOFILE=, ulimit -n), or "
                 "lower that",
                 (unsigned long long)files.rlim_max, e->config->max_connections);
    }
}

/* ---- the model ---- */

static const char *const probes[] = {"hello world", "The quick brown fox jumps over the lazy dog.",
                                     "Wie hoch ist die Rendite einer zehnjährigen Anleihe?"};
enum { PROBES = sizeof probes / sizeof *probes };

/* The probes' vectors with an instruction set (NULL: the best) and precision; malloc'ed. */
static emb_status embed_probes(const examination *e, const char *isa, emb_precision precision,
                               emb_session *session, float **vectors, emb_error *err)
{
    emb_model_settings m = {.model = e->config->model, .precision = (int)precision, .isa = isa};
    emb_text texts[PROBES];
    *vectors = NULL;
    emb_status status = emb_session_open(session, &m, false, err);
    if (status)
        return status;
    for (size_t i = 0; i < PROBES; i++)
        texts[i] = (emb_text){probes[i], strlen(probes[i])};
    size_t floats = PROBES * session->info.dimension;
    *vectors = malloc(floats * sizeof **vectors);
    status = *vectors ? emb_embed(session->model, texts, PROBES, NULL, *vectors, floats, NULL, err)
                      : emb_fail_nomem(err, "probes", floats * sizeof **vectors);
    if (status) {
        free(*vectors);
        *vectors = NULL;
        emb_session_close(session);
    }
    return status;
}

static void compare(examination *e, const float *fast, const float *plain, size_t dimension,
                    emb_precision precision)
{
    double least = precision == EMB_PRECISION_INT8   ? 0.99
                   : precision == EMB_PRECISION_BF16 ? 0.999
                                                     : 0.99999,
           worst = 1;
    for (size_t i = 0; i < PROBES; i++) {
        double cosine = emb_cosine(fast + i * dimension, plain + i * dimension, dimension);
        if (!(cosine >= worst))
            worst = cosine;
    }
    if (worst >= least)
        tell(e, OK, "vectors", "as the portable kernels compute them (worst cosine %.6f)", worst);
    else
        tell(e, FAIL, "vectors",
             "differ from those of the portable kernels (worst cosine %.6f, at least %.5f is right): this "
             "processor or "
             "its hypervisor miscomputes; EMBEDD_ISA=avx2 or portable may help",
             worst, least);
}

static void check_model(examination *e)
{
    emb_session session, plain_session;
    emb_error err;
    float *fast, *plain;
    if (embed_probes(e, NULL, (emb_precision)e->config->precision, &session, &fast, &err)) {
        /* where a provider is asked first, it is only what answers when that one does not */
        bool needed = !e->config->gateway.provider_count || strcasecmp(e->config->provider, "local") == 0;
        tell(e, needed ? FAIL : NOTE, "model", "%s", err.message);
        return;
    }
    tell(e, OK, "model", "%s: %zu dimensions, %s on %s, %.1f MB, loaded in %.0f ms (%s)", session.info.name,
         session.info.dimension, emb_precision_name(session.info.precision), emb_engine_isa(session.engine),
         (double)session.info.weight_bytes / 1e6, (double)session.load_ns / 1e6, session.info.path);
    if (embed_probes(e, "portable", EMB_PRECISION_FP32, &plain_session, &plain, &err)) {
        tell(e, FAIL, "vectors", "%s", err.message);
    } else {
        compare(e, fast, plain, session.info.dimension, session.info.precision);
        free(plain);
        emb_session_close(&plain_session);
    }
    free(fast);
    emb_session_close(&session);
}

/* ---- where data goes ---- */

/* The nearest folder above `path` that exists. */
static void existing_parent(const char *path, char *out, size_t size)
{
    snprintf(out, size, "%s", path);
    while (!emb_is_directory(out)) {
        char *slash = strrchr(out, '/');
        if (!slash || slash == out) {
            snprintf(out, size, "%s", slash ? "/" : ".");
            return;
        }
        *slash = 0;
    }
}

static void check_data(examination *e)
{
    char folder[1024];
    struct statvfs space;
    const char *path = e->config->data_path;
    existing_parent(path, folder, sizeof folder);
    bool there = strcmp(folder, path) == 0;
    if (access(folder, W_OK | X_OK) != 0)
        tell(e, FAIL, "data", "%s: %s cannot be written (%s); set EMBEDD_DATA_DIR", path, folder,
             strerror(errno));
    else if (statvfs(folder, &space) == 0 && (double)space.f_bavail * (double)space.f_frsize < 256e6)
        tell(e, NOTE, "data", "%s: only %.0f MB are free there", path,
             (double)space.f_bavail * (double)space.f_frsize / 1e6);
    else
        tell(e, OK, "data", "%s%s", path, there ? "" : " (will be made)");
}

static void check_cache(examination *e)
{
    emb_service *service;
    emb_error err;
    emb_cache_stats stats;
    char a[32];
    if (!e->config->enable_caching) {
        tell(e, NOTE, "cache", "off (cache.enabled)");
        return;
    }
    emb_config *config = emb_config_retain((emb_config *)e->config);
    if (emb_service_open(config, NULL, &service, &err)) {
        tell(e, FAIL, "service", "%s", err.message);
        emb_config_release(config);
        return;
    }
    emb_cache_get_stats(emb_service_cache(service), &stats);
    if (strcmp(stats.l2_kind, "none") == 0 && strcmp(e->config->cache_url, "none") != 0)
        tell(e, FAIL, "cache",
             "in memory only, since %s cannot be used as the data directory; set EMBEDD_DATA_DIR",
             e->config->data_path);
    else if (strcmp(stats.l2_kind, "none") == 0)
        tell(e, NOTE, "cache", "in memory only: nothing of it survives a restart");
    else if (stats.l2_up && !*stats.l2_error)
        tell(e, OK, "cache", "%s answers, %s vectors", stats.l2_kind, emb_number_text(stats.l2.entries, a));
    else
        tell(e, FAIL, "cache", "%s does not answer: %s; the service runs without it, from memory",
             stats.l2_kind, *stats.l2_error ? stats.l2_error : "no connection");
    emb_service_close(service);
    emb_config_release(config);
}

/* ---- the network ---- */

static size_t discard(char *data, size_t size, size_t count, void *context)
{
    (void)data, (void)context;
    return size * count;
}

/* The HTTP status of a GET, 0 without an answer; `why` (CURL_ERROR_SIZE) says why then. */
static long get(const char *url, const char *unix_socket, long timeout_ms, char *why)
{
    long status = 0;
    CURL *curl = curl_easy_init();
    *why = 0;
    if (!curl)
        return 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, discard);
    if (unix_socket)
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, unix_socket);
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    else if (!*why)
        snprintf(why, CURL_ERROR_SIZE, "%s", curl_easy_strerror(code));
    curl_easy_cleanup(curl);
    return status;
}

static void unused(void *context, emb_exchange *x)
{
    (void)context;
    emb_exchange_reply_text(x, 503, "text/plain", "", 0);
}

static bool check_address(void *context, const char *item, size_t length)
{
    examination *e = context;
    emb_http_options o = EMB_HTTP_OPTIONS_INIT;
    emb_http_server *server;
    emb_error err;
    char address[512], url[600], why[CURL_ERROR_SIZE];
    snprintf(address, sizeof address, "%.*s", (int)length, item);
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    o.listen = address;
    o.handle = unused;
    o.tls_cert = e->config->tls_cert;
    o.tls_key = e->config->tls_key;
    snprintf(url, sizeof url, "http%s://%s%s/health", *e->config->tls_cert ? "s" : "",
             is_unix || address[0] == ':' ? "localhost" : "", is_unix ? "" : address);
    long status = get(url, is_unix ? address + 5 : NULL, 2000, why);
    if (status == 200)
        tell(e, OK, "address", "%s: embedd is running there", address);
    else if (status)
        tell(e, FAIL, "address", "%s: something answers there with HTTP status %ld", address, status);
    else if (emb_http_open(&o, &server, &err))
        tell(e, FAIL, "address", "%s", err.message);
    else {
        tell(e, OK, "address", "%s is free%s", address, *o.tls_cert ? ", certificate and key are good" : "");
        emb_http_close(server);
    }
    return true;
}

static void check_hub(examination *e)
{
    char why[CURL_ERROR_SIZE];
    const char *address = e->config->hf_endpoint;
    if (e->config->hf_offline) {
        tell(e, OK, "hub", "offline by HF_HUB_OFFLINE; models that are here are used");
        return;
    }
    long status = get(address, NULL, 3000, why);
    if (status && status < 500)
        tell(e, OK, "hub", "%s answers", address);
    else
        tell(e, NOTE, "hub", "%s cannot be reached (%s): only models that are here can be used", address,
             status ? "HTTP status 5xx" : why);
}

static void check_access(examination *e)
{
    const emb_config *c = e->config;
    bool keys = *c->api_keys || *c->api_keys_file,
         local = strncmp(c->listen, "127.", 4) == 0 || strncmp(c->listen, "[::1]", 5) == 0 ||
                 strncmp(c->listen, "localhost", 9) == 0 || strncmp(c->listen, "unix:", 5) == 0;
    if (keys && !local && !*c->tls_cert)
        tell(e, NOTE, "access",
             "API keys travel in the clear on %s: set server.tls_cert, or put a TLS proxy before it",
             c->listen);
    else if (keys)
        tell(e, OK, "access", "API keys are asked for");
    else if (local)
        tell(e, OK, "access", "no API keys are set; only this machine can reach %s", c->listen);
    else
        tell(e, NOTE, "access", "anybody who reaches %s may use the service: set EMBEDD_API_KEYS", c->listen);
}

/* ---- the command ---- */

typedef struct settings {
    emb_settings_flags flags;
    const char *ready;
    bool quiet;
    int format;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

enum { TEXT, JSON };

static const emb_option options[] = {
    {.name = "ready",
     .kind = EMB_OPTION_TEXT,
     .argument = "URL",
     .offset = offsetof(settings, ready),
     .help = "only ask the service there whether it is ready"},
    {.name = "quiet",
     .letter = 'q',
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, quiet),
     .help = "with --ready: only the exit status"},
    {.name = "format",
     .letter = 'f',
     .kind = EMB_OPTION_CHOICE,
     .choices = "text|json",
     .fallback = "text",
     .offset = offsetof(settings, format),
     .help = "how to print it"},
    EMB_SETTINGS_OPTIONS(settings, flags),
    EMB_OPTIONS_END,
};

static int ask_ready(const settings *s)
{
    char url[1024], why[CURL_ERROR_SIZE];
    size_t length = strlen(s->ready);
    while (length && s->ready[length - 1] == '/')
        length--;
    snprintf(url, sizeof url, "%.*s/ready", (int)length, s->ready);
    long status = get(url, NULL, 2000, why);
    if (!s->quiet && status == 200)
        printf("ready\n");
    else if (!s->quiet && status)
        printf("not ready (HTTP status %ld)\n", status);
    else if (!s->quiet)
        printf("no answer: %s\n", why);
    return status == 200 ? EMB_EXIT_OK : EMB_EXIT_FAILURE;
}

static void examine(examination *e)
{
    const emb_config *c = e->config;
    tell(e, OK, "settings", "%s%s", *c->file ? c->file : "no file",
         *c->file ? "" : "; defaults and environment");
    check_machine(e);
    if (*c->models_path) /* the engine looks there by itself; a file's setting is the same to it */
        setenv("EMBEDD_MODELS", c->models_path, 1);
    check_model(e);
    check_data(e);
    check_cache(e);
    emb_config_each(c->listen, check_address, e);
    check_access(e);
    check_hub(e);
}

static int run(const void *raw, char **arguments, size_t count)
{
    const settings *s = raw;
    emb_config *config;
    (void)arguments, (void)count;
    if (s->ready)
        return ask_ready(s);
    int status = emb_settings_load("doctor", &s->flags, &config);
    if (status)
        return status;
    examination e = {.config = config, .json = s->format == JSON, .out = EMB_BUF_INIT(1 << 20)};
    examine(&e);
    if (e.json)
        printf("{\"healthy\":%s,\"checks\":[%.*s]}\n", e.counts[FAIL] ? "false" : "true", (int)e.out.length,
               e.out.data ? e.out.data : "");
    else if (e.counts[FAIL])
        printf("\n%zu to mend, %zu to know.\n", e.counts[FAIL], e.counts[NOTE]);
    else
        printf("\nAll is well%s.\n", e.counts[NOTE] ? "; mind the notes" : "");
    emb_buf_fini(&e.out);
    emb_config_release(config);
    return e.counts[FAIL] ? EMB_EXIT_FAILURE : EMB_EXIT_OK;
}

const emb_command emb_command_doctor = {
    .name = "doctor",
    .summary = "examine machine, model, cache and address, and say what to do about what is wrong",
    .usage = "doctor [OPTION...]\ndoctor --ready URL",
    .description =
        "Does what the service would do, once: loads the model and compares its vectors with those of the\n"
        "portable kernels, looks at the data directory, connects to the second cache level, binds the\n"
        "address. Exit status 1 if something is to be mended.",
    .examples = "  embedd doctor\n  embedd doctor --config /etc/embedd/embedd.yaml\n"
                "  embedd doctor --ready http://127.0.0.1:8000 --quiet",
    .options = options,
    .settings_size = sizeof(settings),
    .run = run,
};
