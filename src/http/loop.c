/*
 * libevent's loop, turned by one thread at a time: one of the workers' (workers.c), which may pass it on.
 * What belongs to the loop is touched by that thread only, so libevent's own locking is off
 * (EVENT_BASE_FLAG_NOLOCK). Other threads leave mail: a push onto a lock-free list, and a write to an eventfd
 * by whoever finds the list empty, so that any number of answers given in a turn cost one wake-up.
 *
 * The list is last in, first out; it is taken whole and turned round, which keeps the order of each sender.
 */
#include "base/log.h"
#include "http/internal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

enum { TICK_MS = 200 }; /* how fresh last_turn_ns is while nothing happens */

void emb_http_loop_run_mail(emb_http_loop *loop)
{
    emb_http_mail *taken = atomic_exchange(&loop->mailbox, NULL), *ordered = NULL;
    while (taken) {
        emb_http_mail *next = taken->next;
        taken->next = ordered;
        ordered = taken;
        taken = next;
    }
    while (ordered) {
        emb_http_mail *mail = ordered;
        ordered = mail->next;
        mail->run(loop, mail);
    }
}

void emb_http_loop_post(emb_http_loop *loop, emb_http_mail *mail)
{
    /* The loop may be done with the mail, and the server closed, as soon as it is in the list: wake_fd is
     * read before. It is not closed before all who post are gone (emb_http_close waits for the workers). */
    int wake_fd = loop->wake_fd;
    emb_http_mail *top = atomic_load(&loop->mailbox);
    do {
        mail->next = top;
    } while (!atomic_compare_exchange_weak(&loop->mailbox, &top, mail));
    uint64_t one = 1;
    if (!top && write(wake_fd, &one, sizeof one) < 0) {
        /* EAGAIN: the counter is full, so the loop has been woken */
    }
}

static void on_wake(evutil_socket_t fd, short what, void *argument)
{
    (void)what;
    emb_http_loop *loop = argument;
    uint64_t count;
    if (read(fd, &count, sizeof count) < 0) {
        /* woken for nothing */
    }
    atomic_store_explicit(&loop->last_turn_ns, emb_now_ns(), memory_order_relaxed);
    emb_http_loop_run_mail(loop);
}

static void on_tick(evutil_socket_t fd, short what, void *argument)
{
    (void)fd, (void)what;
    emb_http_loop *loop = argument;
    atomic_store_explicit(&loop->last_turn_ns, emb_now_ns(), memory_order_relaxed);
}

static void seed(uint64_t state[2])
{
    if (getrandom(state, 16, GRND_NONBLOCK) != 16) {
        state[0] = emb_now_ns() * UINT64_C(0x9E3779B97F4A7C15);
        state[1] = (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)state;
    }
    state[1] |= 1; /* all zero would stay so */
}

/* libevent would write to stderr. */
static void take_event_log(int severity, const char *message)
{
    emb_log(severity == EVENT_LOG_DEBUG ? EMB_LOG_DEBUG : EMB_LOG_WARN, "libevent",
            EMB_LOG_TEXT("message", message));
}

static void set_event_log(void)
{
    event_set_log_callback(take_event_log);
}

static struct event_base *new_base(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_event_log);
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;
    if (config && !event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) &&
        !event_config_require_features(config, EV_FEATURE_EARLY_CLOSE))
        base = event_base_new_with_config(config);
    if (config)
        event_config_free(config);
    return base;
}

static bool add_events(emb_http_loop *loop)
{
    struct timeval tick = {0, TICK_MS * 1000};
    return !event_assign(&loop->wake, loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop) &&
           !event_assign(&loop->tick, loop->base, -1, EV_PERSIST, on_tick, loop) &&
           !event_add(&loop->wake, NULL) && !event_add(&loop->tick, &tick);
}

/* Whether the descriptor is an epoll instance that watches fd. */
static bool watches(int instance, int fd)
{
    char path[48], line[160];
    bool found = false;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", instance);
    FILE *info = fopen(path, "re");
    while (info && !found && fgets(line, sizeof line, info)) {
        int target;
        found = sscanf(line, "tfd: %d", &target) == 1 && target == fd;
    }
    if (info)
        fclose(info);
    return found;
}

/* libevent does not tell its epoll descriptor: it is the one that watches our wake-up. -1 where it cannot be
 * found, as without /proc; then no thread keeps the loop while it works. */
static int find_epoll(int wake_fd)
{
    int fd = -1;
    DIR *list = opendir("/proc/self/fd");
    for (struct dirent *e; list && fd < 0 && (e = readdir(list));)
        if (e->d_name[0] != '.' && watches(atoi(e->d_name), wake_fd))
            fd = atoi(e->d_name);
    if (list)
        closedir(list);
    return fd;
}

emb_status emb_http_loop_init(emb_http_loop *loop, emb_http_server *server, emb_error *err)
{
    memset(loop, 0, sizeof *loop);
    loop->server = server;
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0)
        return emb_fail_errno(err, "eventfd", "making the wake-up of a loop");
    loop->base = new_base();
    loop->scratch = malloc(EMB_HTTP_SCRATCH);
    loop->tls_scratch = malloc(EMB_HTTP_TLS_RECORD);
    if (!loop->base || !loop->scratch || !loop->tls_scratch)
        return emb_fail_nomem(err, "a loop", EMB_HTTP_SCRATCH);
    seed(loop->id_state);
    atomic_store(&loop->last_turn_ns, emb_now_ns());
    loop->events_added = add_events(loop);
    loop->epoll_fd = loop->events_added ? find_epoll(loop->wake_fd) : -1;
    return loop->events_added ? EMB_OK : emb_fail_nomem(err, "a loop's events", sizeof loop->wake);
}

void emb_http_loop_fini(emb_http_loop *loop)
{
    emb_http_loop_run_mail(loop);
    emb_http_connections_close(loop);
    for (emb_exchange *x; (x = loop->spares);) {
        loop->spares = x->next_spare;
        emb_http_exchange_free(x);
    }
    if (loop->events_added) {
        event_del(&loop->wake);
        event_del(&loop->tick);
    }
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    free(loop->scratch);
    free(loop->tls_scratch);
    emb_http_settings_close(loop->settings);
}
