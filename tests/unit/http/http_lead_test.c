/* An exchange that the loop's own thread does (emb_exchange_park_here): without a change of threads if it
 * need not wait; and if it waits, the loop goes on for everybody else. Each test would hang, and fail by its
 * patience, if it did not. */
#include "base/clock.h"
#include "base/duty.h"
#include "http/server.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_NS UINT64_C(60000000000)

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open; /* the gate for "/wait" */
    atomic_uint waiting, leading, same_thread, gone, after;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void set_gate(bool open)
{
    pthread_mutex_lock(&gate.lock);
    gate.open = open;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static void until(atomic_uint *count, unsigned least)
{
    for (uint64_t end = emb_now_ns() + PATIENCE_NS; atomic_load(count) < least; usleep(200))
        assert_true(emb_now_ns() < end);
}

static void answer(emb_exchange *x)
{
    pthread_t *reader = emb_exchange_data(x);
    atomic_fetch_add(&gate.leading, emb_duty_fd() >= 0);
    atomic_fetch_add(&gate.same_thread, pthread_equal(*reader, pthread_self()) != 0);
    emb_exchange_reply_text(x, 200, "text/plain", "answered", 8);
}

static bool is_gone(const emb_exchange *x)
{
    return __atomic_load_n(emb_exchange_gone(x), __ATOMIC_ACQUIRE) != 0;
}

/* The gate, or the client's leaving. Code that forgets to say that it waits. */
static void wait_rudely(emb_exchange *x)
{
    atomic_fetch_add(&gate.waiting, 1);
    pthread_mutex_lock(&gate.lock);
    while (!gate.open && !is_gone(x)) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += 1000000;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&gate.changed, &gate.lock, &t);
    }
    pthread_mutex_unlock(&gate.lock);
    atomic_fetch_add(&gate.gone, is_gone(x));
    answer(x);
}

static void wait_and_answer(emb_exchange *x)
{
    emb_duty_pass_on();
    wait_rudely(x);
}

/* The answer is out before the function waits, and must not wait for its end. */
static void answer_and_wait(emb_exchange *x)
{
    answer(x);
    atomic_fetch_add(&gate.waiting, 1);
    emb_duty_pass_on();
    pthread_mutex_lock(&gate.lock);
    while (!gate.open)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    atomic_fetch_add(&gate.after, 1);
}

static void stream(emb_exchange *x)
{
    emb_exchange_stream_begin(x, 200, "text/plain");
    for (int i = 0; i < 1000; i++) {
        char piece[1024];
        memset(piece, 'a' + i % 26, sizeof piece);
        if (!emb_exchange_stream_write(x, piece, sizeof piece))
            break;
    }
    emb_exchange_stream_end(x);
}

static void forget(emb_exchange *x)
{
    (void)x;
}

static void handle(void *context, emb_exchange *x)
{
    (void)context;
    pthread_t *reader = emb_arena_alloc(emb_exchange_arena(x), sizeof *reader);
    const char *path = emb_exchange_path(x);
    *reader = pthread_self();
    emb_exchange_set_data(x, reader);
    void (*work)(emb_exchange *) = strcmp(path, "/wait") == 0     ? wait_and_answer
                                   : strcmp(path, "/rude") == 0   ? wait_rudely
                                   : strcmp(path, "/after") == 0  ? answer_and_wait
                                   : strcmp(path, "/stream") == 0 ? stream
                                   : strcmp(path, "/forget") == 0 ? forget
                                                                  : answer;
    if (!emb_exchange_park_here(x, work))
        emb_exchange_reply_text(x, 429, "text/plain", "busy", 4);
}

static emb_http_server *start(void)
{
    emb_http_options o = EMB_HTTP_OPTIONS_INIT;
    emb_http_server *server;
    emb_error err;
    o.listen = "127.0.0.1:0";
    o.loops = 1;
    o.handle = handle;
    set_gate(false);
    atomic_store(&gate.waiting, 0);
    atomic_store(&gate.leading, 0);
    atomic_store(&gate.same_thread, 0);
    atomic_store(&gate.gone, 0);
    atomic_store(&gate.after, 0);
    assert_int_equal(emb_http_open(&o, &server, &err), EMB_OK);
    assert_int_equal(emb_http_start(server, &err), EMB_OK);
    return server;
}

static int connect_to(const emb_http_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct timeval patience = {60, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_port = htons((unsigned short)atoi(strchr(emb_http_address(server, 0), ':') + 1));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void ask(int fd, const char *path)
{
    char request[200];
    int n =
        snprintf(request, sizeof request, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", path);
    assert_int_equal(send(fd, request, (size_t)n, MSG_NOSIGNAL), n);
}

/* One answer with a body of 8 bytes. */
static void expect(int fd, const char *status)
{
    char got[2048];
    size_t n = 0;
    const char *body = NULL;
    while (!body || n < (size_t)(body - got) + 12) {
        ssize_t k = recv(fd, got + n, sizeof got - 1 - n, 0);
        assert_true(k > 0);
        n += (size_t)k;
        got[n] = 0;
        body = strstr(got, "\r\n\r\n");
    }
    assert_non_null(strstr(got, status));
    assert_string_equal(body + 4, "answered");
}

static void converse(int fd, const char *path)
{
    ask(fd, path);
    expect(fd, "HTTP/1.1 200 OK");
}

/* The first has no thread asleep that could take over, and wakes one up that is there afterwards. */
static void warm_up(int fd)
{
    for (uint64_t end = emb_now_ns() + PATIENCE_NS; !atomic_load(&gate.leading);) {
        converse(fd, "/");
        assert_true(emb_now_ns() < end);
    }
}

static void test_same_thread(void **state)
{
    (void)state;
    emb_http_server *server = start();
    int fd = connect_to(server);
    warm_up(fd);
    unsigned led = atomic_load(&gate.leading), same = atomic_load(&gate.same_thread);
    for (int i = 0; i < 200; i++)
        converse(fd, "/");
    assert_int_equal(atomic_load(&gate.leading), led + 200);
    assert_int_equal(atomic_load(&gate.same_thread), same + 200);
    close(fd);
    emb_http_close(server);
}

static void others_go_on(const char *path)
{
    emb_http_server *server = start();
    int waits = connect_to(server), other = connect_to(server);
    warm_up(waits);
    for (unsigned round = 1; round <= 50; round++) {
        set_gate(false);
        ask(waits, path);
        until(&gate.waiting, round);
        converse(other, "/"); /* by whoever has the loop now */
        set_gate(true);
        expect(waits, "HTTP/1.1 200 OK");
        converse(waits, "/"); /* the loop's thread was another; all is as before */
    }
    close(waits);
    close(other);
    emb_http_close(server);
}

static void test_others_go_on(void **state)
{
    (void)state;
    others_go_on("/wait");
}

/* The guard sees to it. */
static void test_rudeness(void **state)
{
    (void)state;
    others_go_on("/rude");
}

static void test_client_leaves(void **state)
{
    (void)state;
    emb_http_server *server = start();
    int other = connect_to(server);
    warm_up(other);
    for (unsigned round = 1; round <= 20; round++) {
        int fd = connect_to(server);
        ask(fd, "/wait");
        until(&gate.waiting, round);
        close(fd);
        until(&gate.gone, round);
        converse(other, "/");
    }
    close(other);
    emb_http_close(server);
}

static void test_answer_before_the_wait(void **state)
{
    (void)state;
    emb_http_server *server = start();
    int fd = connect_to(server);
    warm_up(fd);
    for (unsigned round = 1; round <= 20; round++) {
        set_gate(false);
        converse(fd, "/after"); /* comes, though the function waits for the gate */
        until(&gate.waiting, round);
        converse(fd, "/");
        set_gate(true);
        until(&gate.after, round);
    }
    close(fd);
    emb_http_close(server);
}

static void test_streams(void **state)
{
    (void)state;
    emb_http_server *server = start();
    int fd = connect_to(server);
    char *all = malloc(1 << 21);
    warm_up(fd);
    for (int round = 0; round < 10; round++) {
        size_t n = 0;
        ask(fd, "/stream");
        do {
            ssize_t k = recv(fd, all + n, (1 << 21) - n - 1, 0);
            assert_true(k > 0);
            n += (size_t)k;
            all[n] = 0;
        } while (n < 5 || strcmp(all + n - 5, "0\r\n\r\n") != 0);
        assert_true(n > 1000 * 1024);
        converse(fd, "/");
    }
    free(all);
    close(fd);
    emb_http_close(server);
}

static void test_pipelined_and_forgotten(void **state)
{
    (void)state;
    static const char two[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
                              "POST /forget HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    emb_http_server *server = start();
    int fd = connect_to(server);
    warm_up(fd);
    for (int round = 0; round < 50; round++) {
        char got[4096];
        size_t n = 0;
        assert_int_equal(send(fd, two, sizeof two - 1, MSG_NOSIGNAL), sizeof two - 1);
        while (n < 4 || !strstr(got, "HTTP/1.1 500") || !strstr(got, "internal_error\"}}")) {
            ssize_t k = recv(fd, got + n, sizeof got - 1 - n, 0);
            assert_true(k > 0);
            n += (size_t)k;
            got[n] = 0;
        }
        assert_non_null(strstr(got, "answered"));
    }
    close(fd);
    emb_http_close(server);
}

static void *let_in(void *argument)
{
    (void)argument;
    until(&gate.gone, 1); /* closing has told it */
    set_gate(true);
    return NULL;
}

/* Closing while the thread that had the loop works. */
static void test_closing(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        emb_http_server *server = start();
        int fd = connect_to(server);
        pthread_t thread;
        warm_up(fd);
        ask(fd, "/wait");
        until(&gate.waiting, 1);
        assert_int_equal(pthread_create(&thread, NULL, let_in, NULL), 0);
        emb_http_close(server);
        pthread_join(thread, NULL);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_thread),
        cmocka_unit_test(test_others_go_on),
        cmocka_unit_test(test_rudeness),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_answer_before_the_wait),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_pipelined_and_forgotten),
        cmocka_unit_test(test_closing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
