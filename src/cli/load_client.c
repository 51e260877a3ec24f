/*
 * load_client.c: one epoll loop per thread; the threads share nothing while they run.
 *
 * The queue of an open loop needs no memory: what is due is known by arithmetic, so "waiting for a
 * connection" is just that the next arrival's time has passed. It is sent as soon as a connection is free,
 * and counted from when it was due.
 *
 * Waiting: a timerfd wakes the loop for the next arrival; when that is nearer than 50 µs the loop spins,
 * because a sleep would be longer. All time-outs are looked for 50 times a second, by a walk over the
 * connections.
 *
 * A kept connection may be closed by the server just when a request goes out on it. Clients send such a
 * request again, and so does this one, once, if nothing of the answer had come.
 */
#include "cli/load_client.h"

#include "base/clock.h"
#include "base/error.h"
#include "cli/load_response.h"
#include "cli/load_tls.h"
#include "cli/workload.h"
#include "crypto/crypto.h"

#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { EVENTS = 256, READ_BYTES = 256 << 10, SPIN_NS = 50000, SWEEP_NS = 20000000, RECONNECT_NS = 50000000 };

const char *const emb_load_error_names[EMB_LOAD_ERRORS] = {"no connection", "connection broken",
                                                           "malformed answer", "timeout", "not sent"};

typedef enum wire_state { CLOSED, CONNECTING, IDLE, BUSY } wire_state;

typedef struct wire {
    emb_load_stream stream;
    wire_state state;
    size_t idle_at; /* of IDLE: its place in client.idle */
    bool waits_to_write, again,
        fresh; /* again: this request was sent before; fresh: nothing went over it yet */
    char *out;
    size_t length, sent;
    uint64_t due_ns, sent_ns, retry_ns;
    emb_load_response response;
} wire;

typedef struct client {
    const emb_load_plan *plan;
    size_t index;
    pthread_t thread;
    bool started;
    emb_status status;
    emb_load_outcome *o;
    wire *wires;
    size_t count, open;
    wire **idle; /* a stack: connections that were just used are warm */
    size_t idle_count;
    int epoll, timer;
    char *buffer;
    uint64_t start_ns, from_ns, to_ns; /* the measured time */
    uint64_t arrival, next_ns;         /* open loop: number and time of the next one */
    uint64_t random, serial, swept_ns;
    size_t busy;
    bool backlog; /* the next arrival has waited for a connection */
} client;

/* ---- keeping count ---- */

static bool is_measured(const client *c, uint64_t due_ns)
{
    return due_ns >= c->from_ns && due_ns < c->to_ns;
}

static emb_load_second *second_of(client *c, uint64_t now)
{
    if (now < c->from_ns || now >= c->to_ns)
        return NULL;
    size_t i = (size_t)((now - c->from_ns) / 1000000000u);
    return i < c->o->series_count ? &c->o->series[i] : NULL;
}

static void count_error(client *c, const wire *l, emb_load_error error, uint64_t now)
{
    emb_load_second *second = second_of(c, now);
    if (second)
        second->errors++;
    if (!is_measured(c, l->due_ns))
        return;
    c->o->errors[error]++;
    if (error == EMB_LOAD_TIMEOUT || error == EMB_LOAD_UNSENT)
        emb_load_histogram_add(&c->o->latency, now - l->due_ns);
}

static void keep_complaint(client *c, const emb_load_response *r)
{
    if (c->o->complaint_status)
        return;
    c->o->complaint_status = r->status;
    size_t n = r->begin_length < sizeof c->o->complaint - 1 ? r->begin_length : sizeof c->o->complaint - 1;
    for (size_t i = 0; i < n; i++)
        c->o->complaint[i] = (unsigned char)r->begin[i] < 32 ? ' ' : r->begin[i];
    c->o->complaint[n] = 0;
}

static void count_answer(client *c, const wire *l, uint64_t now)
{
    const emb_load_response *r = &l->response;
    bool good = r->status >= 200 && r->status < 300;
    emb_load_second *second = second_of(c, now);
    if (!good)
        keep_complaint(c, r);
    if (second && good) {
        second->answers++;
        second->sum_ns += now - l->due_ns;
        second->most_ns = now - l->due_ns > second->most_ns ? now - l->due_ns : second->most_ns;
        c->o->answers++;
        c->o->texts += c->plan->requests->texts;
        c->o->tokens += r->tokens;
        c->o->cached += r->cached;
        c->o->bytes += r->body_bytes;
    } else if (second) {
        second->errors++;
    }
    if (!is_measured(c, l->due_ns))
        return;
    c->o->statuses[r->status]++;
    if (!good)
        return;
    c->o->good++;
    emb_load_histogram_add(&c->o->latency, now - l->due_ns);
    emb_load_histogram_add(&c->o->service, now - l->sent_ns);
}

/* ---- connections ---- */

static void watch(client *c, wire *l, bool write, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = l};
    epoll_ctl(c->epoll, operation, l->stream.fd, &event);
    l->waits_to_write = write;
}

/* The last of the stack takes its place. */
static void leave_idle(client *c, wire *l)
{
    wire *last = c->idle[--c->idle_count];
    c->idle[l->idle_at] = last;
    last->idle_at = l->idle_at;
}

static void close_wire(client *c, wire *l)
{
    if (l->state == CLOSED)
        return;
    if (l->state == IDLE)
        leave_idle(c, l);
    else
        c->busy--;
    emb_load_stream_close(&l->stream);
    l->state = CLOSED;
    c->open--;
}

static void make_idle(client *c, wire *l)
{
    c->busy--;
    l->state = IDLE;
    l->idle_at = c->idle_count;
    c->idle[c->idle_count++] = l;
}

static bool begin_connect(client *c, wire *l)
{
    int one = 1, fd = socket(c->plan->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || !emb_load_stream_open(&l->stream, fd, c->plan->tls, c->plan->host))
        return false;
    if (c->plan->address.ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int result = connect(fd, (const struct sockaddr *)&c->plan->address, c->plan->address_length);
    if (result < 0 && errno != EINPROGRESS) {
        emb_load_stream_close(&l->stream);
        return false;
    }
    l->state = CONNECTING;
    l->fresh = true;
    c->busy++;
    c->open++;
    c->o->connects++;
    watch(c, l, true, EPOLL_CTL_ADD);
    return true;
}

/* ---- one request ---- */

static void next_request(client *c, wire *l, uint64_t now);
static void reopen(client *c, wire *l, uint64_t now);

static void fail_request(client *c, wire *l, emb_load_error error, uint64_t now)
{
    count_error(c, l, error, now);
    close_wire(c, l);
    l->retry_ns = now + RECONNECT_NS;
}

/* Sends what can be sent; what TLS refuses is left to the reading side, which learns the same. */
static void send_more(client *c, wire *l)
{
    bool blocked = false;
    while (l->sent < l->length) {
        ssize_t n = emb_load_stream_send(&l->stream, l->out + l->sent, l->length - l->sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            blocked = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && l->stream.wants_write;
            break;
        }
        l->sent += (size_t)n;
    }
    if (l->waits_to_write != blocked)
        watch(c, l, blocked, EPOLL_CTL_MOD);
}

static void dispatch(client *c, wire *l, uint64_t due_ns, uint64_t now)
{
    l->length = emb_load_request_write(c->plan->requests, &c->random, &c->serial, l->out);
    l->sent = 0;
    l->due_ns = due_ns;
    l->sent_ns = now;
    l->again = false;
    emb_load_response_start(&l->response);
    if (is_measured(c, due_ns))
        c->o->due++;
    if (l->state == CONNECTING)
        return;
    leave_idle(c, l);
    c->busy++;
    l->state = BUSY;
    send_more(c, l);
}

static void connected(client *c, wire *l, uint64_t now)
{
    int problem = 0;
    socklen_t size = sizeof problem;
    getsockopt(l->stream.fd, SOL_SOCKET, SO_ERROR, &problem, &size);
    if (problem) {
        fail_request(c, l, EMB_LOAD_CONNECT, now);
        return;
    }
    l->state = BUSY;
    send_more(c, l);
}

/* The kept connection was closed under the request: once more, on a new one. */
static bool sent_again(client *c, wire *l, uint64_t now)
{
    if (l->fresh || l->again || emb_load_response_begun(&l->response))
        return false;
    close_wire(c, l);
    if (!begin_connect(c, l)) {
        count_error(c, l, EMB_LOAD_CONNECT, now);
        l->retry_ns = now + RECONNECT_NS;
        return true;
    }
    l->again = true;
    l->sent = 0;
    emb_load_response_start(&l->response);
    return true;
}

static void ended(client *c, wire *l, uint64_t now)
{
    if (l->state == IDLE) {
        close_wire(c, l);
        l->retry_ns = now;
        return;
    }
    emb_load_response_end(&l->response);
    if (l->response.state == EMB_LOAD_DONE) {
        count_answer(c, l, now);
        close_wire(c, l);
        reopen(c, l, now);
    } else if (!sent_again(c, l, now)) {
        fail_request(c, l, EMB_LOAD_BROKEN, now);
    }
}

static void answered(client *c, wire *l, uint64_t now)
{
    count_answer(c, l, now);
    l->fresh = false;
    if (!l->response.keep_alive) {
        close_wire(c, l);
        reopen(c, l, now);
        return;
    }
    make_idle(c, l);
    next_request(c, l, now);
}

static void read_answer(client *c, wire *l)
{
    ssize_t n = emb_load_stream_recv(&l->stream, c->buffer, READ_BYTES);
    uint64_t now = emb_now_ns();
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (n <= 0) {
        ended(c, l, now);
        return;
    }
    if (l->state == IDLE) { /* an answer that nobody asked for */
        close_wire(c, l);
        l->retry_ns = now;
        return;
    }
    size_t used = emb_load_response_feed(&l->response, c->buffer, (size_t)n);
    if (l->response.state == EMB_LOAD_BAD || (l->response.state == EMB_LOAD_DONE && used < (size_t)n))
        fail_request(c, l, EMB_LOAD_MALFORMED, now);
    else if (l->response.state == EMB_LOAD_DONE)
        answered(c, l, now);
}

/* ---- what is due ---- */

static void set_next_arrival(client *c)
{
    double gap_ns = 1e9 / c->plan->rate;
    c->arrival++;
    if (!c->plan->poisson) {
        c->next_ns = c->start_ns + (uint64_t)((double)(c->arrival * c->plan->threads + c->index) * gap_ns);
        return;
    }
    double u = (double)((emb_workload_random(&c->random) >> 11) + 1) / 9007199254740993.0; /* 0 < u < 1 */
    c->next_ns += (uint64_t)(-log(u) * gap_ns * (double)c->plan->threads);
}

/* A connection for a request, idle or new; NULL if all are busy. */
static wire *free_wire(client *c, uint64_t now, bool *failed)
{
    wire *l = c->idle_count > 0 ? c->idle[c->idle_count - 1] : NULL;
    *failed = false;
    for (size_t i = 0; !l && c->open < c->count && i < c->count; i++)
        if (c->wires[i].state == CLOSED) {
            l = &c->wires[i];
            if (!begin_connect(c, l)) {
                l->due_ns = c->next_ns;
                if (is_measured(c, l->due_ns))
                    c->o->due++;
                count_error(c, l, EMB_LOAD_CONNECT, now);
                *failed = true;
                return NULL;
            }
        }
    return l;
}

static void send_due(client *c, uint64_t now)
{
    while (c->next_ns <= now && c->next_ns < c->to_ns) {
        bool failed;
        wire *l = free_wire(c, now, &failed);
        if (!l && !failed) {
            c->backlog = true;
            return;
        }
        if (l) {
            if (!c->backlog && is_measured(c, c->next_ns))
                emb_load_histogram_add(&c->o->late, now - c->next_ns);
            dispatch(c, l, c->next_ns, now);
        }
        set_next_arrival(c);
        now = emb_now_ns();
    }
    c->backlog = false;
}

static void next_request(client *c, wire *l, uint64_t now)
{
    if (c->plan->rate > 0)
        send_due(c, now);
    else if (l->state == IDLE && now < c->to_ns)
        dispatch(c, l, now, now);
}

/* Closed loop: the next request of a connection that is closed. */
static void reopen(client *c, wire *l, uint64_t now)
{
    if (c->plan->rate > 0 || now >= c->to_ns)
        return;
    if (begin_connect(c, l)) {
        dispatch(c, l, now, now);
        return;
    }
    l->due_ns = now;
    if (is_measured(c, now))
        c->o->due++;
    count_error(c, l, EMB_LOAD_CONNECT, now);
    l->retry_ns = now + RECONNECT_NS;
}

static void refill(client *c, uint64_t now)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->wires[i].state == CLOSED && now >= c->wires[i].retry_ns)
            reopen(c, &c->wires[i], now);
}

static void sweep(client *c, uint64_t now)
{
    if (now - c->swept_ns < SWEEP_NS)
        return;
    c->swept_ns = now;
    for (size_t i = 0; i < c->count; i++) {
        wire *l = &c->wires[i];
        if ((l->state == BUSY || l->state == CONNECTING) && now - l->sent_ns > c->plan->timeout_ns)
            fail_request(c, l, EMB_LOAD_TIMEOUT, now);
    }
    if (c->plan->rate == 0)
        refill(c, now);
}

/* ---- the loop ---- */

static bool is_over(const client *c, uint64_t now)
{
    bool stopped = c->plan->stop && __atomic_load_n(c->plan->stop, __ATOMIC_RELAXED);
    bool all_sent = c->plan->rate == 0 || c->next_ns >= c->to_ns;
    return stopped || (now >= c->to_ns && all_sent && c->busy == 0) || now >= c->to_ns + c->plan->timeout_ns;
}

/* Milliseconds for epoll_wait; the timer is set when it is to wake the loop. */
static int wait_time(client *c, uint64_t now)
{
    if (c->plan->rate == 0 || c->backlog || c->next_ns >= c->to_ns)
        return 10;
    uint64_t wait = c->next_ns > now ? c->next_ns - now : 0;
    if (wait < SPIN_NS)
        return 0;
    if (wait > 10000000)
        return 10;
    struct itimerspec time = {.it_value = {.tv_nsec = (long)(wait - SPIN_NS / 2)}};
    timerfd_settime(c->timer, 0, &time, NULL);
    return 10;
}

static void handle(client *c, const struct epoll_event *event)
{
    wire *l = event->data.ptr;
    uint64_t ticks;
    if (!l) {
        ssize_t ignored = read(c->timer, &ticks, sizeof ticks);
        (void)ignored;
        return;
    }
    if (l->state == CLOSED)
        return;
    if (l->state == CONNECTING) {
        connected(c, l, emb_now_ns());
        return;
    }
    if (l->state == BUSY && l->sent < l->length) /* TLS may have waited for something to read */
        send_more(c, l);
    if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_answer(c, l);
}

/* What is unanswered or unsent when the patience ends. */
static void give_up(client *c, uint64_t now)
{
    bool stopped = c->plan->stop && __atomic_load_n(c->plan->stop, __ATOMIC_RELAXED);
    for (size_t i = 0; i < c->count; i++) {
        wire *l = &c->wires[i];
        if (l->state == BUSY || l->state == CONNECTING) {
            if (stopped && is_measured(c, l->due_ns))
                c->o->due--; /* nobody knows what would have become of it */
            else
                count_error(c, l, EMB_LOAD_TIMEOUT, now);
        }
        close_wire(c, l);
    }
    while (c->plan->rate > 0 && !stopped && c->next_ns < c->to_ns) {
        wire waiting = {.due_ns = c->next_ns};
        if (is_measured(c, waiting.due_ns))
            c->o->due++;
        count_error(c, &waiting, EMB_LOAD_UNSENT, now);
        set_next_arrival(c);
    }
}

static void run_loop(client *c)
{
    struct epoll_event events[EVENTS];
    uint64_t now = emb_now_ns();
    if (c->plan->rate > 0) {
        c->arrival = UINT64_MAX; /* so that the first one is number 0 */
        c->next_ns = c->start_ns;
        set_next_arrival(c);
    } else {
        refill(c, now);
    }
    while (!is_over(c, now)) {
        if (c->plan->rate > 0)
            send_due(c, now);
        int n = epoll_wait(c->epoll, events, EVENTS, wait_time(c, now));
        for (int i = 0; i < n; i++)
            handle(c, &events[i]);
        now = emb_now_ns();
        sweep(c, now);
    }
    if (now < c->to_ns) { /* stopped early */
        c->o->stopped = true;
        c->to_ns = now > c->from_ns ? now : c->from_ns;
    }
    c->o->seconds = (double)(c->to_ns - c->from_ns) / 1e9;
    give_up(c, now);
}

/* ---- threads ---- */

static emb_status prepare(client *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    c->wires = calloc(c->count, sizeof *c->wires);
    c->idle = calloc(c->count, sizeof *c->idle);
    c->buffer = malloc(READ_BYTES);
    c->o->series = calloc(c->plan->seconds, sizeof *c->o->series);
    c->o->series_count = c->plan->seconds;
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (!c->wires || !c->idle || !c->buffer || !c->o->series)
        return EMB_E_NOMEM;
    for (size_t i = 0; i < c->count; i++)
        if (!(c->wires[i].out = malloc(c->plan->requests->largest)))
            return EMB_E_NOMEM;
    if (c->epoll < 0 || c->timer < 0 || epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->timer, &event) < 0)
        return EMB_E_IO;
    return EMB_OK;
}

static void release(client *c)
{
    for (size_t i = 0; c->wires && i < c->count; i++) {
        close_wire(c, &c->wires[i]);
        free(c->wires[i].out);
    }
    if (c->epoll >= 0)
        close(c->epoll);
    if (c->timer >= 0)
        close(c->timer);
    free(c->wires);
    free(c->idle);
    free(c->buffer);
}

static void *run_client(void *context)
{
    client *c = context;
    run_loop(c);
    return NULL;
}

static void merge(emb_load_outcome *to, const emb_load_outcome *from)
{
    emb_load_histogram_merge(&to->latency, &from->latency);
    emb_load_histogram_merge(&to->service, &from->service);
    emb_load_histogram_merge(&to->late, &from->late);
    for (size_t i = 0; i < EMB_LOAD_ERRORS; i++)
        to->errors[i] += from->errors[i];
    for (size_t i = 0; i < 1000; i++)
        to->statuses[i] += from->statuses[i];
    for (size_t i = 0; i < to->series_count; i++) {
        to->series[i].answers += from->series[i].answers;
        to->series[i].errors += from->series[i].errors;
        to->series[i].sum_ns += from->series[i].sum_ns;
        if (from->series[i].most_ns > to->series[i].most_ns)
            to->series[i].most_ns = from->series[i].most_ns;
    }
    to->due += from->due;
    to->good += from->good;
    to->answers += from->answers;
    to->texts += from->texts;
    to->tokens += from->tokens;
    to->cached += from->cached;
    to->bytes += from->bytes;
    to->connects += from->connects;
    to->stopped |= from->stopped;
    to->seconds = from->seconds > to->seconds ? from->seconds : to->seconds;
    if (!to->complaint_status && from->complaint_status) {
        to->complaint_status = from->complaint_status;
        memcpy(to->complaint, from->complaint, sizeof to->complaint);
    }
}

static emb_status start_all(client *clients, const emb_load_plan *plan, emb_error *err)
{
    emb_status status = EMB_OK;
    uint64_t seed[2];
    for (size_t i = 0; i < plan->threads && !status; i++) {
        client *c = &clients[i];
        c->plan = plan;
        c->index = i;
        c->epoll = c->timer = -1;
        c->count = plan->connections / plan->threads + (i < plan->connections % plan->threads);
        c->o = calloc(1, sizeof *c->o);
        status = c->o ? prepare(c) : EMB_E_NOMEM;
        if (!emb_random_bytes(seed, sizeof seed)) /* texts that are new to a cache that saw an earlier run */
            seed[0] = seed[1] = emb_now_ns() + i;
        c->random = seed[0] | 1;
        c->serial = seed[1];
    }
    if (status == EMB_E_IO)
        return emb_fail_errno(err, "epoll", "opening");
    if (status)
        return emb_fail_nomem(err, "connections", plan->connections * sizeof(wire));
    uint64_t start = emb_now_ns();
    for (size_t i = 0; i < plan->threads && !status; i++) {
        client *c = &clients[i];
        c->start_ns = c->swept_ns = start;
        c->from_ns = start + plan->warmup_ns;
        c->to_ns = c->from_ns + plan->duration_ns;
        c->started = pthread_create(&c->thread, NULL, run_client, c) == 0;
        if (!c->started)
            status = emb_fail_nomem(err, "thread", 0);
    }
    return status;
}

emb_status emb_load_run(const emb_load_plan *plan, emb_load_outcome *out, emb_error *err)
{
    client *clients = calloc(plan->threads, sizeof *clients);
    memset(out, 0, sizeof *out);
    out->series = calloc(plan->seconds, sizeof *out->series);
    out->series_count = plan->seconds;
    emb_status status = clients && out->series
                            ? start_all(clients, plan, err)
                            : emb_fail_nomem(err, "load test", plan->seconds * sizeof *out->series);
    for (size_t i = 0; clients && i < plan->threads; i++) {
        client *c = &clients[i];
        if (c->started)
            pthread_join(c->thread, NULL);
        if (c->started && !status)
            merge(out, c->o);
        if (c->o)
            release(c);
        if (c->o)
            emb_load_outcome_fini(c->o);
        free(c->o);
    }
    free(clients);
    if (status)
        emb_load_outcome_fini(out);
    return status;
}

void emb_load_outcome_fini(emb_load_outcome *outcome)
{
    free(outcome->series);
    memset(outcome, 0, sizeof *outcome);
}
