/* The server inside a program: what its functions promise to the application, and each allocation failing in
 * turn. */
#include "base/clock.h"
#include "http/server.h"
#include "support/fail_alloc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    pthread_mutex_t lock;
    unsigned total, gone, parked, refused, last_status;
    char path[64], route[64], key_name[64], request_id[64];
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void record(void *context, const emb_http_record *r)
{
    assert_ptr_equal(context, &seen);
    pthread_mutex_lock(&seen.lock);
    seen.total++;
    seen.gone += r->gone;
    seen.parked += r->parked;
    seen.refused += r->refused != NULL;
    seen.last_status = (unsigned)r->status;
    snprintf(seen.path, sizeof seen.path, "%s", r->path);
    snprintf(seen.route, sizeof seen.route, "%s", r->route);
    snprintf(seen.key_name, sizeof seen.key_name, "%s", r->key_name);
    snprintf(seen.request_id, sizeof seen.request_id, "%s", r->request_id);
    pthread_mutex_unlock(&seen.lock);
}

static unsigned total(void)
{
    pthread_mutex_lock(&seen.lock);
    unsigned n = seen.total;
    pthread_mutex_unlock(&seen.lock);
    return n;
}

static void wait_for_total(unsigned want)
{
    for (uint64_t until = emb_now_ns() + UINT64_C(30000000000); total() < want;) {
        assert_true(emb_now_ns() < until);
        usleep(500);
    }
}

static void work(emb_exchange *x)
{
    emb_exchange_add_header(x, "X-Data", emb_exchange_data(x));
    emb_exchange_reply_text(x, 200, "text/plain", "worked", 6);
}

static void stream(emb_exchange *x)
{
    emb_exchange_stream_begin(x, 200, "text/plain");
    for (int i = 0; i < 3; i++)
        if (!emb_exchange_stream_write(x, "piece", 5))
            break;
    emb_exchange_stream_end(x);
}

static void handle(void *context, emb_exchange *x)
{
    assert_ptr_equal(context, &seen);
    emb_exchange_set_route(x, "the route");
    emb_exchange_set_key_name(x, "the key");
    emb_exchange_set_data(x, (void *)"datum");
    bool streams = strcmp(emb_exchange_path(x), "/stream") == 0;
    if (strcmp(emb_exchange_path(x), "/place") == 0)
        emb_exchange_reply_text(x, 200, "text/plain", "placed", 6);
    else if (!emb_exchange_park(x, streams ? stream : work))
        emb_exchange_reply_text(x, 429, "text/plain", "busy", 4);
}

static emb_http_options options(void)
{
    emb_http_options o = EMB_HTTP_OPTIONS_INIT;
    o.listen = "127.0.0.1:0";
    o.loops = 2;
    o.handle = handle;
    o.record = record;
    o.context = &seen;
    return o;
}

/* ---- a client that allocates nothing --------------------------------------------------------- */

static int connect_to(const emb_http_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct timeval patience = {30, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_port = htons((unsigned short)atoi(strchr(emb_http_address(server, 0), ':') + 1));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Sends, and reads to the end into answer; the bytes, -1 for a reset. Fails when nothing comes: that is a
 * hang. */
static ssize_t talk(const emb_http_server *server, const char *request, char *answer, size_t size)
{
    int fd = connect_to(server);
    size_t n = 0;
    ssize_t got = send(fd, request, strlen(request), MSG_NOSIGNAL);
    while (got > 0 && n + 1 < size && (got = recv(fd, answer + n, size - 1 - n, 0)) > 0)
        n += (size_t)got;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        fail_msg("no answer and no end");
    answer[n] = 0;
    close(fd);
    return got < 0 ? -1 : (ssize_t)n;
}

#define REQUEST(route) \
    "POST " route      \
    " HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"

static void test_records(void **state)
{
    (void)state;
    emb_http_options o = options();
    emb_http_server *server;
    emb_error err;
    char answer[4096];
    unsigned before = total();
    assert_int_equal(emb_http_open(&o, &server, &err), EMB_OK);
    assert_int_equal(emb_http_start(server, &err), EMB_OK);
    assert_true(talk(server, REQUEST("/work?x=1"), answer, sizeof answer) > 0);
    assert_non_null(strstr(answer, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(answer, "\r\nX-Data: datum\r\n"));
    assert_non_null(strstr(answer, "\r\nx-request-id: mine\r\n"));
    assert_non_null(strstr(answer, "\r\n\r\nworked"));
    wait_for_total(before + 1);
    assert_int_equal(seen.last_status, 200);
    assert_string_equal(seen.path, "/work");
    assert_string_equal(seen.route, "the route");
    assert_string_equal(seen.key_name, "the key");
    assert_string_equal(seen.request_id, "mine");
    emb_http_stats stats;
    emb_http_get_stats(server, &stats);
    assert_int_equal(stats.active + stats.parked, 0);
    assert_true(emb_http_drain(server, emb_now_ns()));
    emb_http_close(server);
}

static void test_never_started(void **state)
{
    (void)state;
    emb_http_options o = options();
    emb_http_server *server;
    emb_error err;
    assert_int_equal(emb_http_open(&o, &server, &err), EMB_OK);
    assert_int_equal(emb_http_adjust(server, &o, &err), EMB_OK);
    assert_null(emb_http_address(server, 1));
    emb_http_stop_accepting(server);
    emb_http_close(server);
    emb_http_close(NULL);
}

/* Every allocation of a server's whole life: open, a connection, a request in place, one parked, a stream,
 * the end. */
static void live_once(bool *opened)
{
    static const char *const requests[] = {REQUEST("/place"), REQUEST("/work"), REQUEST("/stream?a=b")};
    emb_http_options o = options();
    emb_http_server *server;
    emb_error err;
    char answer[4096];
    *opened = false;
    o.loops = 1;
    o.cors_origins = "https://a.example";
    if (emb_http_open(&o, &server, &err)) {
        assert_int_equal(err.code, EMB_E_NOMEM);
        return;
    }
    emb_status status = emb_http_start(server, &err);
    for (size_t i = 0; !status && i < 3; i++) {
        ssize_t n = talk(server, requests[i], answer, sizeof answer);
        /* an answer, or none: never a wrong or a cut one */
        static const char pieces[] = "\r\n\r\n5\r\npiece\r\n5\r\npiece\r\n5\r\npiece\r\n0\r\n\r\n";
        if (i == 2 && n > 5 && strcmp(answer + n - 5, "0\r\n\r\n") == 0 && !strstr(answer, pieces))
            fail_msg("a stream that lacks a piece ends as if it were whole: %s", answer);
        if (n > 0 && !strstr(answer, "HTTP/1.1 200 ") && !strstr(answer, "HTTP/1.1 503 ") &&
            !strstr(answer, "HTTP/1.1 429 "))
            fail_msg("%s", answer);
    }
    *opened = !status;
    emb_http_close(server);
}

/* Blocks that are left after a life in which the n-th allocation failed. */
static size_t left_after(size_t n, bool *opened, bool *failed)
{
    size_t live = fail_alloc_live();
    fail_alloc_at(n);
    live_once(opened);
    *failed = fail_alloc_stop();
    return fail_alloc_live() > live ? fail_alloc_live() - live : 0;
}

static void test_failing_allocations(void **state)
{
    enum {
        TIMES = 6
    }; /* what leaks, leaks each time; what the C library keeps for one more thread at once, hardly ever */
    (void)state;
    if (!fail_alloc_available())
        skip();
    bool opened, failed = true;
    live_once(&opened);
    live_once(&opened); /* what libraries and threads keep for good is there now */
    assert_true(opened);
    size_t n = 1;
    for (; n < 2000 && failed; n++) {
        size_t left = left_after(n, &opened, &failed);
        for (int again = 1; left && again < TIMES; again++)
            left = left_after(n, &opened, &failed);
        if (left)
            fail_msg("%zu blocks are left after allocation %zu failed", left, n);
    }
    assert_false(failed); /* there is an end of allocations */
    assert_true(opened && n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_records), cmocka_unit_test(test_never_started),
                                       cmocka_unit_test(test_failing_allocations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
