/*
 * daemon.c: one thread that waits for signals; everything else has threads of its own.
 *
 * All signals that mean something are blocked before the first thread starts, so that every thread inherits
 * the mask and only this one, in sigtimedwait, gets them: no handler runs anywhere, and nothing has to be
 * async-signal-safe. The wait ends each second at the latest, for the watchdog: its ping goes out only while
 * the HTTP loops turn, so that a stuck loop makes systemd restart the service.
 *
 * The listeners are bound before models are loaded: /health answers at once, /ready says 503 until the
 * default model has embedded a text. Loading runs on a thread of its own; a failure there (a corrupt weight
 * file, a hub that does not answer) is logged and stays visible in /ready, since other models may be served
 * all the same.
 *
 * Stopping is bounded by `server.shutdown_seconds` from the first signal on: what is left for draining is
 * what the grace period leaves. Requests that still run then are cancelled. A guard ends the process when
 * even that hangs.
 */
#include "daemon/daemon.h"

#include "api/api.h"
#include "base/clock.h"
#include "base/error.h"
#include "daemon/notify.h"
#include "daemon/preemption.h"
#include "http/server.h"
#include "service/access.h"
#include "service/service.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    TURN_NS = 1000000000, /* longest wait for a signal */
    STUCK_NS_PER_S = 1000000000,
    STUCK_SECONDS = 20, /* a loop that has not turned for so long is stuck */
    CLOSE_SHARE = 10    /* a tenth of the time to stop is kept for closing */
};

typedef struct emb_daemon {
    const emb_daemon_options *options;
    emb_config *config; /* in force, retained */
    emb_metrics *metrics;
    emb_service *service;
    emb_access *access;
    emb_api *api;
    emb_http_server *server;
    emb_preemption *preemption;
    pthread_t main_thread, warm_thread, guard_thread;
    bool warming, guarded;
    volatile int stop_warming; /* by __atomic builtins: the service reads it as a plain flag */
    uint64_t stop_ns;
    pthread_mutex_t guard_lock;
    pthread_cond_t guard_wake;
    bool closed;
} emb_daemon;

/* ---- starting ---- */

static void fill_http_options(emb_daemon *d, const emb_config *c, emb_http_options *o)
{
    *o = (emb_http_options)EMB_HTTP_OPTIONS_INIT;
    o->listen = c->listen;
    o->loops = (unsigned)c->loops;
    o->max_parked = (unsigned)c->max_concurrent_requests;
    o->max_connections = c->max_connections;
    o->max_head_bytes = c->max_head_bytes;
    o->max_body_bytes = c->max_body_bytes;
    o->head_timeout_ms = (uint32_t)c->head_timeout_ms;
    o->body_timeout_ms = (uint32_t)c->body_timeout_ms;
    o->idle_timeout_ms = (uint32_t)c->idle_timeout_ms;
    o->write_timeout_ms = (uint32_t)c->write_timeout_ms;
    o->tls_cert = c->tls_cert;
    o->tls_key = c->tls_key;
    o->tls_min_version = 12 + c->tls_min_version;
    o->cors_origins = c->cors_origins;
    o->server_name = "embedd/" EMB_VERSION_STRING;
    o->handle = emb_api_handle;
    o->record = emb_api_record;
    o->context = d->api;
}

/* glibc gives each thread an arena of its own, up to eight for a CPU, and returns little of them: with a
 * worker for each request that waits, memory would grow with the busiest moment. A few shared arenas cost
 * nothing that can be measured. */
static void bound_arenas(void)
{
    enum { LEAST = 2, CPUS_AN_ARENA = 4 };
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    mallopt(M_ARENA_MAX, cpus > LEAST * CPUS_AN_ARENA ? (int)(cpus / CPUS_AN_ARENA) : LEAST);
}

/* As many descriptors as connections need, as far as the system allows. */
static void raise_file_limit(size_t connections)
{
    struct rlimit limit;
    rlim_t wanted = connections + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max == RLIM_INFINITY || wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted)
        emb_log(EMB_LOG_WARN, "fewer files may be open than server.max_connections needs",
                EMB_LOG_INT("limit", limit.rlim_cur), EMB_LOG_INT("max_connections", connections));
}

static void *warm_up(void *context)
{
    emb_daemon *d = context;
    emb_error err;
    uint64_t start = emb_now_ns();
    if (emb_service_warm_up(d->service, &d->stop_warming, &err)) {
        if (!__atomic_load_n(&d->stop_warming, __ATOMIC_RELAXED))
            emb_log(EMB_LOG_ERROR, "warm-up failed", EMB_LOG_TEXT("error", err.message));
        return NULL;
    }
    emb_log(EMB_LOG_INFO, "ready",
            EMB_LOG_TEXT("model", emb_models_default_name(emb_service_models(d->service))),
            EMB_LOG_INT("ms", (emb_now_ns() - start) / 1000000));
    emb_notify("STATUS=serving");
    return NULL;
}

static void on_preemption(void *context)
{
    emb_daemon *d = context;
    pthread_kill(d->main_thread, SIGTERM);
}

static emb_status start(emb_daemon *d, emb_error *err)
{
    emb_http_options http;
    emb_status status;
    raise_file_limit(d->config->max_connections);
    if ((status = emb_metrics_open(&d->metrics, err)) ||
        (status = emb_service_open(d->config, d->metrics, &d->service, err)) ||
        (status = emb_access_open(d->config, &d->access, err)) ||
        (status = emb_service_watch(d->service, err)) ||
        (status = emb_api_open(d->service, d->access, &d->api, err)))
        return status;
    fill_http_options(d, d->config, &http);
    if ((status = emb_http_open(&http, &d->server, err)) || (status = emb_http_start(d->server, err)))
        return status;
    emb_api_set_server(d->api, d->server);
    if ((status = emb_preemption_open(d->config->preemption_url, d->config->preemption_interval_ms,
                                      on_preemption, d, &d->preemption, err)))
        return status;
    if (pthread_create(&d->warm_thread, NULL, warm_up, d) != 0)
        return emb_fail(err, EMB_E_NOMEM, NULL, "no thread could be started to load the models");
    d->warming = true;
    return EMB_OK;
}

static void announce(emb_daemon *d)
{
    const char *scheme = *d->config->tls_cert ? "https://" : "http://";
    for (size_t i = 0; emb_http_address(d->server, i); i++) {
        char url[256];
        const char *address = emb_http_address(d->server, i);
        snprintf(url, sizeof url, "%s%s", strncmp(address, "unix:", 5) == 0 ? "" : scheme, address);
        emb_log(EMB_LOG_INFO, "listening", EMB_LOG_TEXT("address", url),
                EMB_LOG_TEXT("version", EMB_VERSION_STRING), EMB_LOG_INT("pid", getpid()));
    }
    if (!emb_access_needed(d->access) && strncmp(d->config->listen, "127.", 4) != 0 &&
        strncmp(d->config->listen, "[::1]", 5) != 0 && strncmp(d->config->listen, "unix:", 5) != 0 &&
        strncmp(d->config->listen, "localhost", 9) != 0)
        emb_log(EMB_LOG_WARN, "anybody who reaches this address may use the service; set EMBEDD_API_KEYS",
                EMB_LOG_TEXT("listen", d->config->listen));
    emb_notify("READY=1\nSTATUS=loading models");
}

/* ---- reloading ---- */

static void tell_difference(void *context, const emb_setting *setting)
{
    size_t *live = context;
    if (setting->live)
        ++*live;
    else
        emb_log(EMB_LOG_WARN, "a setting has changed that needs a restart",
                EMB_LOG_TEXT("setting", setting->path));
}

/* The order lets a refusal leave everything as it was: nothing after the two that can refuse can fail. */
static emb_status apply(emb_daemon *d, emb_config *next, emb_error *err)
{
    emb_http_options http, old;
    emb_error ignored;
    fill_http_options(d, next, &http);
    fill_http_options(d, d->config, &old);
    emb_status status = emb_http_adjust(d->server, &http, err);
    if (status)
        return status;
    if ((status = emb_access_reload(d->access, next, err))) {
        if (emb_http_adjust(d->server, &old, &ignored))
            emb_log(EMB_LOG_ERROR, "the old limits could not be restored",
                    EMB_LOG_TEXT("error", ignored.message));
        return status;
    }
    emb_service_reconfigure(d->service, next);
    emb_log_set(next->log_level, next->log_format);
    return EMB_OK;
}

static void reload(emb_daemon *d)
{
    emb_config *next = NULL;
    emb_error err;
    size_t live = 0;
    emb_notifyf("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(emb_now_ns() / 1000));
    emb_status status = emb_config_load(&d->options->sources, &next, &err);
    if (!status)
        status = apply(d, next, &err);
    emb_series_add(emb_metrics_series(d->metrics, EMB_METRIC_RELOADS, status ? "refused" : "ok"), 1);
    if (status) {
        emb_log(EMB_LOG_ERROR, "the new configuration was refused; the old one stays",
                EMB_LOG_TEXT("where", err.where), EMB_LOG_TEXT("error", err.message));
        emb_config_release(next);
    } else {
        emb_config_log_notes(next);
        emb_config_differences(d->config, next, tell_difference, &live);
        emb_log(EMB_LOG_INFO, "configuration reloaded", EMB_LOG_TEXT("file", next->file),
                EMB_LOG_INT("changes", live));
        emb_config_release(d->config);
        d->config = next;
    }
    emb_notify("READY=1\nSTATUS=serving");
}

/* ---- waiting ---- */

static void ping(emb_daemon *d, uint64_t *last_ns, uint64_t every_ns)
{
    emb_http_stats stats;
    uint64_t now = emb_now_ns();
    if (!every_ns || now - *last_ns < every_ns)
        return;
    emb_http_get_stats(d->server, &stats);
    if (now > stats.last_turn_ns + (uint64_t)STUCK_SECONDS * STUCK_NS_PER_S) {
        emb_log(EMB_LOG_ERROR, "a loop of the HTTP server is stuck",
                EMB_LOG_INT("seconds", (now - stats.last_turn_ns) / STUCK_NS_PER_S));
        return;
    }
    *last_ns = now;
    emb_notify("WATCHDOG=1");
}

/* The next signal, 0 when none came within the time. */
static int next_signal(const sigset_t *set, uint64_t wait_ns)
{
    struct timespec wait = {(time_t)(wait_ns / 1000000000), (long)(wait_ns % 1000000000)};
    int number = sigtimedwait(set, NULL, &wait);
    return number > 0 ? number : 0;
}

static int serve(emb_daemon *d, const sigset_t *set)
{
    uint64_t watchdog = emb_notify_watchdog_ns(), pinged = 0;
    uint64_t turn = watchdog && watchdog < TURN_NS ? watchdog : TURN_NS;
    for (;;) {
        int number = next_signal(set, turn);
        if (number == SIGHUP)
            reload(d);
        else if (number == SIGTERM || number == SIGINT)
            return number;
        ping(d, &pinged, watchdog);
    }
}

/* ---- stopping ---- */

static void *guard(void *context)
{
    emb_daemon *d = context;
    /* The guard's clock is the condition's own; two seconds more than allowed, since closing may be about to
     * end. */
    uint64_t until = d->stop_ns + (d->config->shutdown_seconds + 2) * 1000000000u;
    struct timespec end = {(time_t)(until / 1000000000), (long)(until % 1000000000)};
    pthread_mutex_lock(&d->guard_lock);
    while (!d->closed && pthread_cond_timedwait(&d->guard_wake, &d->guard_lock, &end) == 0)
        ;
    if (!d->closed) {
        emb_log(EMB_LOG_ERROR, "stopping took longer than server.shutdown_seconds; ending now",
                EMB_LOG_INT("shutdown_seconds", d->config->shutdown_seconds));
        _exit(EXIT_FAILURE);
    }
    pthread_mutex_unlock(&d->guard_lock);
    return NULL;
}

static void start_guard(emb_daemon *d)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&d->guard_lock, NULL);
    pthread_cond_init(&d->guard_wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    d->guarded = pthread_create(&d->guard_thread, NULL, guard, d) == 0;
}

static void end_guard(emb_daemon *d)
{
    if (!d->guarded)
        return;
    pthread_mutex_lock(&d->guard_lock);
    d->closed = true;
    pthread_cond_signal(&d->guard_wake);
    pthread_mutex_unlock(&d->guard_lock);
    pthread_join(d->guard_thread, NULL);
}

/* Sleeps until `until_ns`; a second signal to stop ends the process at once. */
static void wait_or_end(const sigset_t *set, uint64_t until_ns)
{
    for (uint64_t now = emb_now_ns(); now < until_ns; now = emb_now_ns()) {
        int number = next_signal(set, until_ns - now < TURN_NS ? until_ns - now : TURN_NS);
        if (number == SIGTERM || number == SIGINT) {
            emb_log(EMB_LOG_WARN, "a second signal: ending at once");
            _exit(128 + number);
        }
    }
}

static void stop(emb_daemon *d, const sigset_t *set, int number)
{
    enum { SLICE_NS = 50000000 };
    const emb_config *c = d->config;
    emb_http_stats stats;
    uint64_t total = c->shutdown_seconds * 1000000000u;
    d->stop_ns = emb_now_ns();
    uint64_t grace_end = d->stop_ns + c->shutdown_grace_ms * 1000000u;
    uint64_t drain_end = d->stop_ns + total - total / CLOSE_SHARE;
    if (grace_end > drain_end)
        grace_end = drain_end;
    emb_http_get_stats(d->server, &stats);
    emb_log(EMB_LOG_INFO, "stopping", EMB_LOG_TEXT("signal", number == SIGTERM ? "SIGTERM" : "SIGINT"),
            EMB_LOG_INT("requests", stats.active), EMB_LOG_INT("seconds", c->shutdown_seconds));
    emb_notify("STOPPING=1\nSTATUS=draining");
    start_guard(d);
    __atomic_store_n(&d->stop_warming, 1, __ATOMIC_RELAXED);
    emb_api_set_draining(d->api, true);
    wait_or_end(set, grace_end);
    emb_http_stop_accepting(d->server);
    bool drained = false;
    while (!drained && emb_now_ns() < drain_end) {
        uint64_t slice = emb_now_ns() + SLICE_NS;
        drained = emb_http_drain(d->server, slice < drain_end ? slice : drain_end);
        wait_or_end(set, emb_now_ns() + 1); /* looks for a second signal */
    }
    if (!drained) {
        emb_http_get_stats(d->server, &stats);
        emb_log(EMB_LOG_WARN, "requests are cancelled, the time to stop is up",
                EMB_LOG_INT("requests", stats.active));
    }
}

static void close_all(emb_daemon *d)
{
    __atomic_store_n(&d->stop_warming, 1, __ATOMIC_RELAXED);
    emb_preemption_close(d->preemption);
    emb_http_close(d->server);
    if (d->warming)
        pthread_join(d->warm_thread, NULL);
    if (d->api)
        emb_api_set_server(d->api, NULL);
    emb_api_close(d->api);
    emb_access_close(d->access);
    emb_service_close(d->service);
    emb_metrics_close(d->metrics);
    end_guard(d);
    emb_config_release(d->config);
}

int emb_daemon_run(const emb_daemon_options *options)
{
    emb_daemon d = {
        .options = options, .config = emb_config_retain(options->config), .main_thread = pthread_self()};
    emb_error err;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    bound_arenas();
    emb_log_open(d.config->log_level, d.config->log_format, STDERR_FILENO);
    emb_config_log_notes(d.config);
    int status = EXIT_SUCCESS;
    if (start(&d, &err)) {
        emb_log(EMB_LOG_ERROR, "embedd cannot start", EMB_LOG_TEXT("where", err.where),
                EMB_LOG_TEXT("error", err.message));
        status = EXIT_FAILURE;
    } else {
        announce(&d);
        stop(&d, &set, serve(&d, &set));
    }
    close_all(&d);
    if (!status)
        emb_log(EMB_LOG_INFO, "stopped");
    emb_log_close();
    return status;
}
