/*
 * Putting it together: settings, listeners, loops and workers, and their orderly end.
 *
 * The order of the end: listeners close; parked exchanges learn that they are gone, and their connections
 * close; workers return, which may still post answers, so the loops run until then; loops end; what is left
 * in their mailboxes is dropped by the closing thread.
 */
#include "http/internal.h"

#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- settings -------------------------------------------------------------------------------- */

/* "https://A.example, *" as "https://a.example,*". */
static emb_status take_cors(emb_http_settings *s, const char *origins, emb_error *err)
{
    size_t n = 0;
    if (!origins || !*origins)
        return EMB_OK;
    s->cors = malloc(strlen(origins) + 1);
    if (!s->cors)
        return emb_fail_nomem(err, "the origins", strlen(origins));
    for (; *origins; origins++)
        if (*origins != ' ')
            s->cors[n++] = (char)tolower((unsigned char)*origins);
    s->cors[n] = 0;
    s->cors_any = emb_http_list_has(s->cors, n, "*");
    return EMB_OK;
}

emb_status emb_http_settings_open(const emb_http_options *o, emb_http_settings **out, emb_error *err)
{
    bool cert = o->tls_cert && *o->tls_cert, key = o->tls_key && *o->tls_key;
    if (cert != key)
        return emb_fail(err, EMB_E_INVALID, cert ? "server.tls_key" : "server.tls_cert",
                        "server.tls_cert and server.tls_key belong together: one of them is not set");
    emb_http_settings *s = calloc(1, sizeof *s);
    if (!s)
        return emb_fail_nomem(err, "the server's settings", sizeof *s);
    atomic_init(&s->references, 1);
    s->max_connections = o->max_connections;
    s->max_head_bytes = o->max_head_bytes < (1u << 30) ? o->max_head_bytes : 1u << 30;
    s->max_body_bytes = o->max_body_bytes < SIZE_MAX / 4 ? o->max_body_bytes : SIZE_MAX / 4;
    s->head_timeout_ns = o->head_timeout_ms * UINT64_C(1000000);
    s->body_timeout_ns = o->body_timeout_ms * UINT64_C(1000000);
    s->idle_timeout_ns = o->idle_timeout_ms * UINT64_C(1000000);
    s->write_timeout_ns = o->write_timeout_ms * UINT64_C(1000000);
    emb_status status = take_cors(s, o->cors_origins, err);
    if (!status && cert)
        status = emb_http_tls_open(o->tls_cert, o->tls_key, o->tls_min_version, &s->tls, err);
    if (status)
        emb_http_settings_close(s);
    else
        *out = s;
    return status;
}

emb_http_settings *emb_http_settings_share(emb_http_settings *s)
{
    atomic_fetch_add(&s->references, 1);
    return s;
}

void emb_http_settings_close(emb_http_settings *s)
{
    if (!s || atomic_fetch_sub(&s->references, 1) != 1)
        return;
    SSL_CTX_free(s->tls);
    free(s->cors);
    free(s);
}

/* Turns of all loops before nothing is said to be in work: connections that were waiting to be accepted get
 * to their loops in the first, and what they have sent is read in the next. */
enum { DRAIN_TURNS = 3 };

/* ---- waiting for loops ----------------------------------------------------------------------- */

/* Something for every loop to do, and the wait until all have. */
typedef struct errand {
    emb_http_mail mail; /* first */
    void (*work)(emb_http_loop *loop, struct errand *errand);
    emb_http_settings *settings;
    unsigned *left; /* under the server's lock */
} errand;

void emb_http_server_notify(emb_http_server *server)
{
    pthread_mutex_lock(&server->lock);
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void run_errand(emb_http_loop *loop, emb_http_mail *mail)
{
    errand *e = (errand *)mail;
    emb_http_server *server = loop->server;
    e->work(loop, e);
    pthread_mutex_lock(&server->lock);
    --*e->left;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

/* In their threads; here and now for a loop that has none. */
static void on_loops(emb_http_server *server, unsigned count, errand *errands)
{
    unsigned left = count;
    for (unsigned i = 0; i < count; i++) {
        errands[i].mail.run = run_errand;
        errands[i].left = &left;
        if (server->loops[i].thread_runs)
            emb_http_loop_post(&server->loops[i], &errands[i].mail);
        else
            run_errand(&server->loops[i], &errands[i].mail);
    }
    pthread_mutex_lock(&server->lock);
    while (left)
        pthread_cond_wait(&server->changed, &server->lock);
    pthread_mutex_unlock(&server->lock);
}

/* ---- opening --------------------------------------------------------------------------------- */

static unsigned default_loops(void)
{
    cpu_set_t allowed;
    int cpus = sched_getaffinity(0, sizeof allowed, &allowed) ? 1 : CPU_COUNT(&allowed);
    return cpus >= 4 ? (unsigned)cpus / 2 : 1;
}

static emb_status open_loops(emb_http_server *server, unsigned count, emb_http_settings *settings,
                             emb_error *err)
{
    server->loops = calloc(count, sizeof *server->loops);
    if (!server->loops)
        return emb_fail_nomem(err, "the loops", count * sizeof *server->loops);
    for (unsigned i = 0; i < count; i++) {
        server->loop_count++;
        emb_status status = emb_http_loop_init(&server->loops[i], server, err);
        server->loops[i].settings = emb_http_settings_share(settings);
        if (status)
            return status;
    }
    return EMB_OK;
}

static void make_lock(emb_http_server *server)
{
    pthread_condattr_t clock;
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &clock);
    pthread_condattr_destroy(&clock);
}

emb_status emb_http_open(const emb_http_options *options, emb_http_server **out, emb_error *err)
{
    emb_http_settings *settings = NULL;
    emb_http_server *server = calloc(1, sizeof *server);
    *out = NULL;
    if (!server)
        return emb_fail_nomem(err, "the HTTP server", sizeof *server);
    make_lock(server);
    server->options.handle = options->handle;
    server->options.record = options->record;
    server->options.context = options->context;
    server->server_name = strdup(options->server_name ? options->server_name : "embedd");
    emb_status status = server->server_name ? emb_http_settings_open(options, &settings, err)
                                            : emb_fail_nomem(err, "the server's name", 0);
    if (!status)
        status = open_loops(server, options->loops ? options->loops : default_loops(), settings, err);
    if (!status)
        status = emb_http_workers_open(options->max_parked, &server->workers, err);
    if (!status)
        status = emb_http_listen(options->listen, &server->listeners, &server->listener_count, err);
    emb_http_settings_close(settings);
    if (status)
        emb_http_close(server);
    else
        *out = server;
    return status;
}

emb_status emb_http_start(emb_http_server *server, emb_error *err)
{
    emb_status status = EMB_OK;
    for (size_t i = 0; i < server->listener_count && !status; i++)
        status = emb_http_listener_start(&server->listeners[i], server, err);
    for (unsigned i = server->loop_count;
         i-- > 0 && !status;) /* loop 0 last: it hands connections to the others */
        status = emb_http_workers_turn(server->workers, &server->loops[i], err);
    return status;
}

static void change_settings(emb_http_loop *loop, errand *e)
{
    emb_http_settings_close(loop->settings);
    loop->settings = emb_http_settings_share(e->settings);
}

emb_status emb_http_adjust(emb_http_server *server, const emb_http_options *options, emb_error *err)
{
    emb_http_settings *settings = NULL;
    emb_status status = emb_http_settings_open(options, &settings, err);
    if (status)
        return status;
    errand *errands = calloc(server->loop_count, sizeof *errands);
    if (!errands) {
        emb_http_settings_close(settings);
        return emb_fail_nomem(err, "new settings", server->loop_count * sizeof *errands);
    }
    for (unsigned i = 0; i < server->loop_count; i++)
        errands[i] = (errand){.work = change_settings, .settings = settings};
    on_loops(server, server->loop_count, errands);
    free(errands);
    emb_http_settings_close(settings);
    return EMB_OK;
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void stop_listeners(emb_http_loop *loop, errand *e)
{
    (void)e;
    for (size_t i = 0; i < loop->server->listener_count; i++)
        emb_http_listener_stop(&loop->server->listeners[i]);
}

void emb_http_stop_accepting(emb_http_server *server)
{
    if (atomic_exchange(&server->stopping, true) || !server->loop_count)
        return;
    errand e = {.work = stop_listeners};
    on_loops(server, 1, &e);
}

size_t emb_http_server_active(const emb_http_server *server)
{
    size_t sum = 0;
    for (unsigned i = 0; i < server->loop_count; i++)
        sum += atomic_load(&server->loops[i].active);
    return sum;
}

static void close_connections(emb_http_loop *loop, errand *e)
{
    (void)e;
    emb_http_connections_close(loop);
}

static void end_loop(emb_http_loop *loop, errand *e)
{
    (void)e;
    loop->ended = true;
    event_base_loopbreak(loop->base);
}

/* The same errand for all; on the stack of the closing thread, since closing must not need memory. */
static void for_each_loop(emb_http_server *server, void (*work)(emb_http_loop *loop, errand *e))
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        unsigned left = 1;
        errand e = {.mail.run = run_errand, .work = work, .left = &left};
        if (!server->loops[i].thread_runs)
            continue;
        emb_http_loop_post(&server->loops[i], &e.mail);
        pthread_mutex_lock(&server->lock);
        while (left)
            pthread_cond_wait(&server->changed, &server->lock);
        pthread_mutex_unlock(&server->lock);
    }
}

static void look_around(emb_http_loop *loop, errand *e)
{
    (void)loop, (void)e;
}

bool emb_http_drain(emb_http_server *server, uint64_t deadline_ns)
{
    struct timespec until = {(time_t)(deadline_ns / 1000000000), (long)(deadline_ns % 1000000000)};
    bool done;
    emb_http_stop_accepting(server);
    for (int turn = 0; turn < DRAIN_TURNS; turn++)
        for_each_loop(server, look_around);
    pthread_mutex_lock(&server->lock);
    while (!(done = emb_http_server_active(server) == 0))
        if (pthread_cond_timedwait(&server->changed, &server->lock, &until))
            break;
    pthread_mutex_unlock(&server->lock);
    return done || emb_http_server_active(server) == 0;
}

void emb_http_close(emb_http_server *server)
{
    if (!server)
        return;
    emb_http_stop_accepting(server);
    for_each_loop(server, close_connections);
    emb_http_workers_finish(server->workers);
    for_each_loop(server, end_loop);
    emb_http_workers_close(server->workers);
    for (unsigned i = 0; i < server->loop_count; i++)
        emb_http_loop_fini(&server->loops[i]);
    emb_http_listeners_close(server->listeners, server->listener_count);
    free(server->loops);
    free(server->server_name);
    pthread_mutex_destroy(&server->lock);
    pthread_cond_destroy(&server->changed);
    free(server);
}

/* ---- looking --------------------------------------------------------------------------------- */

const char *emb_http_address(const emb_http_server *server, size_t index)
{
    return index < server->listener_count ? server->listeners[index].address : NULL;
}

void emb_http_get_stats(const emb_http_server *server, emb_http_stats *out)
{
    *out = (emb_http_stats){.active = emb_http_server_active(server),
                            .parked = emb_http_workers_count(server->workers),
                            .last_turn_ns = UINT64_MAX};
    for (unsigned i = 0; i < server->loop_count; i++) {
        const emb_http_loop *loop = &server->loops[i];
        uint64_t turn = atomic_load_explicit(&loop->last_turn_ns, memory_order_relaxed);
        out->connections += atomic_load_explicit(&loop->connection_count, memory_order_relaxed);
        out->last_turn_ns = turn < out->last_turn_ns ? turn : out->last_turn_ns;
    }
}
