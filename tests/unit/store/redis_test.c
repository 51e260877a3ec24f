/*
 * Redis without Redis: URLs, what goes over the wire, and how answers are read, against a peer in this
 * process that records and says what it is told. Real servers are in tests/cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "store/redis.h"
#include "support/fail_alloc.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t soon(void)
{
    return emb_now_ns() + UINT64_C(10000000000);
}

/* ---- the peer ---- */

#define SETUP_OK "+OK\r\n+OK\r\n"

/* Serves connections in turn: the setting-up, then for each line of `script` waits for that many bytes and
 * answers. */
typedef struct peer {
    int listener;
    unsigned port;
    const char *setup; /* what the setting-up is answered with */
    size_t setup_bytes;
    struct {
        size_t bytes; /* of the request; 0: the end, close */
        const char *answer;
    } script[8];
    char heard[4096];
    size_t heard_length;
    unsigned connections;
    bool again; /* the script begins anew after its end */
    pthread_t thread;
} peer;

static bool hear(peer *p, int fd, size_t bytes)
{
    for (size_t got = 0; got < bytes;) {
        char c;
        if (read(fd, &c, 1) != 1)
            return false;
        if (p->heard_length + 1 < sizeof p->heard)
            p->heard[p->heard_length++] = c;
        got++;
    }
    return true;
}

static void *serve(void *argument)
{
    peer *p = argument;
    size_t at = 0;
    for (;;) {
        int fd = accept(p->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        p->connections++;
        bool going = hear(p, fd, p->setup_bytes) && write(fd, p->setup, strlen(p->setup)) > 0;
        while (going && p->script[at].bytes) {
            going = hear(p, fd, p->script[at].bytes);
            if (going && write(fd, p->script[at].answer, strlen(p->script[at].answer)) < 0)
                break;
            at += going;
            if (p->again && !p->script[at].bytes)
                at = 0;
        }
        if (!p->script[at].bytes &&
            p->script[at].answer) /* an end in the midst of it: close this connection, go on with the next */
            at++;
        else if (going) {
            char c;
            while (read(fd, &c, 1) > 0)
                ;
        }
        close(fd);
    }
}

static void start(peer *p)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    p->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(p->listener, 128), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&address, &size), 0);
    p->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&p->thread, NULL, serve, p), 0);
}

static void stop(peer *p)
{
    shutdown(p->listener, SHUT_RDWR);
    pthread_join(p->thread, NULL);
    close(p->listener);
}

static emb_redis *open_to(const peer *p, const char *format)
{
    char url[200];
    emb_redis *redis;
    emb_error err;
    snprintf(url, sizeof url, format, p->port);
    assert_int_equal(emb_redis_open(url, NULL, &redis, &err), EMB_OK);
    return redis;
}

/* ---- URLs ---- */

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        emb_status status;
        const char *where;
    } cases[] = {
        {"redis://localhost", EMB_OK, "Redis at localhost:6379"},
        {"redis://:hunter2@h:1/15", EMB_OK, "Redis at h:1"},
        {"redis://", EMB_OK, "Redis at localhost:6379"},
        {"unix:///run/redis.sock?db=3", EMB_OK, "Redis at /run/redis.sock"},
        {"rediss://:hunter2@h", EMB_E_UNSUPPORTED, "TLS"},
        {"http://h", EMB_E_INVALID, "redis://"},
        {"redis://h/x", EMB_E_INVALID, "database"},
        {"redis://h/-1", EMB_E_INVALID, "database"},
        {"redis://h/1/2", EMB_E_INVALID, "database"},
        {"redis://h?db=9999999999999999999999", EMB_E_INVALID, "database"},
        {"redis://hunter2@h", EMB_E_INVALID, "password"},
        {"unix://", EMB_E_INVALID, "socket"},
        {"redis://h:x", EMB_E_INVALID, "port"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_redis *redis = NULL;
        emb_error err = {0};
        assert_int_equal(emb_redis_open(cases[i].url, NULL, &redis, &err), cases[i].status);
        const char *text = redis ? emb_redis_where(redis) : err.message;
        if (!strstr(text, cases[i].where) || strstr(text, "hunter2"))
            fail_msg("%s: %s", cases[i].url, text);
        emb_redis_close(redis);
    }
    emb_redis_close(NULL);
}

/* ---- the wire ---- */

#define SETUP_0 "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$6\r\nembedd\r\n"
#define AUTH_UP "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$3\r\np:@\r\n"
#define SETUP_7 "*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$6\r\nembedd\r\n"
#define TWO "*2\r\n$3\r\nGET\r\n$3\r\na\0b\r\n*2\r\n$4\r\nINCR\r\n$2\r\n-7\r\n"

static void add_two(emb_redis_batch *batch)
{
    emb_redis_batch_init(batch);
    emb_redis_command(batch, 2);
    emb_redis_text(batch, "GET");
    emb_redis_bytes(batch, "a\0b", 3);
    emb_redis_command(batch, 2);
    emb_redis_text(batch, "INCR");
    emb_redis_int(batch, -7);
}

static void test_exchange(void **state)
{
    (void)state;
    peer p = {.setup = "+OK\r\n" SETUP_OK,
              .setup_bytes = sizeof AUTH_UP SETUP_7 - 1,
              .script = {{sizeof TWO - 1,
                          "*4\r\n$3\r\nx\r\n\r\n$-1\r\n:-5\r\n*2\r\n+st\r\n*0\r\n-WRONGTYPE no\r\n"}}};
    start(&p);
    emb_redis *redis = open_to(&p, "redis://u:p%%3A%%40@127.0.0.1:%u/7");
    emb_redis_batch batch;
    emb_redis_replies r;
    emb_error err = {0};
    add_two(&batch);
    assert_int_equal(emb_redis_call(redis, &batch, soon(), &r, &err), EMB_OK);
    assert_int_equal(r.count, 2);
    assert_int_equal(r.list[0]->type, EMB_REDIS_ARRAY);
    assert_int_equal(r.list[0]->length, 4);
    const emb_redis_reply *e = r.list[0]->elements;
    assert_int_equal(e[0].type, EMB_REDIS_TEXT);
    assert_int_equal(e[0].length, 3);
    assert_memory_equal(e[0].text, "x\r\n", 4);
    assert_int_equal(e[1].type, EMB_REDIS_NIL);
    assert_int_equal(e[2].integer, -5);
    assert_int_equal(e[3].elements[0].type, EMB_REDIS_STATUS);
    assert_string_equal(e[3].elements[0].text, "st");
    assert_int_equal(e[3].elements[1].length, 0);
    assert_true(emb_redis_is_error(r.list[1], "WRONGTYPE"));
    assert_false(emb_redis_is_error(r.list[1], "WRONG"));
    assert_int_equal(emb_redis_check(redis, r.list[0], &err), EMB_OK);
    assert_int_equal(emb_redis_check(redis, r.list[1], &err), EMB_E_CORRUPT);
    assert_int_equal(emb_redis_expect(redis, r.list[0], EMB_REDIS_INTEGER, &err), EMB_E_CORRUPT);
    emb_redis_replies_fini(&r);
    emb_redis_batch_fini(&batch);
    emb_redis_close(redis);
    stop(&p);
    assert_int_equal(p.heard_length, sizeof AUTH_UP SETUP_7 TWO - 1);
    assert_memory_equal(p.heard, AUTH_UP SETUP_7 TWO, p.heard_length);
}

static void test_batches(void **state)
{
    (void)state;
    emb_redis *redis;
    emb_redis_batch batch;
    emb_redis_replies r;
    emb_error err;
    assert_int_equal(emb_redis_open("redis://127.0.0.1:1", NULL, &redis, &err), EMB_OK);
    emb_redis_batch_init(&batch);
    assert_int_equal(emb_redis_call(redis, &batch, 0, &r, &err), EMB_OK); /* nothing to do is done */
    assert_int_equal(r.count, 0);
    emb_redis_command(&batch, 2);
    emb_redis_text(&batch, "GET");
    assert_int_equal(emb_redis_call(redis, &batch, soon(), &r, &err),
                     EMB_E_INTERNAL); /* an argument is missing */
    emb_redis_text(&batch, "a");
    emb_redis_text(&batch, "b");
    assert_int_equal(emb_redis_call(redis, &batch, soon(), &r, &err), EMB_E_INTERNAL); /* one too many */
    emb_redis_batch_clear(&batch);
    emb_redis_command(&batch, 1);
    emb_redis_text(&batch, "PING");
    assert_int_equal(emb_redis_call(redis, &batch, soon(), &r, &err), EMB_E_IO); /* nobody is there */
    assert_non_null(strstr(err.message, "127.0.0.1:1"));
    emb_redis_batch_fini(&batch);
    emb_redis_close(redis);
}

/* A connection that ends when it is used again: once more on a new one, unless the batch must not run
 * twice. */
static void test_stale_connection(void **state)
{
    (void)state;
    for (int once = 0; once < 2; once++) {
        peer p = {.setup = SETUP_OK,
                  .setup_bytes = sizeof SETUP_0 - 1,
                  .script = {{sizeof TWO - 1, ":1\r\n:2\r\n"},
                             {sizeof TWO - 1, ""},
                             {0, ""},
                             {sizeof TWO - 1, ":3\r\n:4\r\n"}}};
        start(&p);
        emb_redis *redis = open_to(&p, "redis://127.0.0.1:%u");
        emb_redis_batch batch;
        emb_redis_replies r;
        emb_error err;
        add_two(&batch);
        assert_int_equal(emb_redis_call(redis, &batch, soon(), &r, &err), EMB_OK);
        assert_int_equal(r.list[1]->integer, 2);
        emb_redis_replies_fini(&r);
        batch.once = once;
        if (once)
            assert_int_equal(emb_redis_call(redis, &batch, soon(), &r, &err), EMB_E_IO);
        else {
            assert_int_equal(emb_redis_call(redis, &batch, soon(), &r, &err), EMB_OK);
            assert_int_equal(r.list[1]->integer, 4);
            emb_redis_replies_fini(&r);
        }
        emb_redis_batch_fini(&batch);
        emb_redis_close(redis);
        stop(&p);
        assert_int_equal(p.connections, once ? 1 : 2);
    }
}

#define SHA "0123456789012345678901234567890123456789"
#define LOAD "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$8\r\nreturn 1\r\n"
#define EVALSHA "*5\r\n$7\r\nEVALSHA\r\n$40\r\n" SHA "\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\na\r\n"
#define EVAL "*5\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\na\r\n"

static void test_scripts(void **state)
{
    (void)state;
    peer p = {.setup = SETUP_OK,
              .setup_bytes = sizeof SETUP_0 - 1,
              .script = {{sizeof LOAD - 1, "$40\r\n" SHA "\r\n"},
                         {sizeof EVALSHA - 1, ":1\r\n"},
                         {sizeof EVALSHA - 1, "-NOSCRIPT No matching script.\r\n"},
                         {sizeof EVAL - 1, ":2\r\n"},
                         {sizeof EVALSHA - 1, "-OOM command not allowed\r\n"}}};
    start(&p);
    emb_redis *redis = open_to(&p, "redis://127.0.0.1:%u");
    emb_redis_script script = EMB_REDIS_SCRIPT("return 1");
    const emb_param key = emb_param_text("k"), argument = emb_param_text("a");
    emb_redis_replies r;
    emb_error err;
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(emb_redis_eval(redis, &script, &key, 1, &argument, 1, true, soon(), &r, &err),
                         EMB_OK);
        assert_int_equal(r.list[0]->integer, i);
        emb_redis_replies_fini(&r);
    }
    assert_int_equal(emb_redis_eval(redis, &script, &key, 1, &argument, 1, true, soon(), &r, &err), EMB_E_IO);
    assert_non_null(strstr(err.message, "full"));
    emb_redis_close(redis);
    stop(&p);
    const char expected[] = SETUP_0 LOAD EVALSHA EVALSHA EVAL EVALSHA;
    assert_int_equal(p.heard_length, sizeof expected - 1);
    assert_memory_equal(p.heard, expected, p.heard_length);
}

/* Opening, putting together, connecting (on its thread) and reading with the n-th allocation failing;
 * whether it worked all the same. */
static bool call_failing(const char *url, size_t n)
{
    emb_redis *redis = NULL;
    emb_redis_batch batch;
    emb_redis_replies r;
    emb_error err;
    fail_alloc_at(n);
    emb_status st = emb_redis_open(url, NULL, &redis, &err);
    add_two(&batch);
    if (st == EMB_OK && (st = emb_redis_call(redis, &batch, soon(), &r, &err)) == EMB_OK) {
        assert_int_equal(r.list[1]->integer, 2);
        emb_redis_replies_fini(&r);
    }
    if (!fail_alloc_stop())
        assert_int_equal(st, EMB_OK);
    else if (st != EMB_OK && st != EMB_E_NOMEM && st != EMB_E_IO) /* IO: a name could not be resolved */
        fail_msg("allocation %zu: status %d, %s", n, st, err.message);
    emb_redis_batch_fini(&batch);
    emb_redis_close(redis);
    return st == EMB_OK;
}

static void test_no_memory(void **state)
{
    (void)state;
    enum {
        TIMES = 6
    }; /* what leaks, leaks each time; what the system keeps for a thread that is just ending, hardly ever */
    if (!fail_alloc_available())
        skip();
    peer p = {.setup = SETUP_OK,
              .setup_bytes = sizeof SETUP_0 - 1,
              .again = true,
              .script = {{sizeof TWO - 1, "*2\r\n$1\r\nx\r\n:1\r\n:2\r\n"}}};
    start(&p);
    char url[100];
    snprintf(url, sizeof url, "redis://127.0.0.1:%u", p.port);
    assert_true(call_failing(url, 100000));
    for (size_t n = 1, good = 0; good < 3; n++) { /* some failures are survived: the end is three good ones */
        size_t live = fail_alloc_live();
        bool worked = true;
        for (int i = 0; i < TIMES; i++)
            worked &= call_failing(url, n);
        assert_true(fail_alloc_live() < live + TIMES);
        good = worked ? good + 1 : 0;
        assert_true(n < 1000);
    }
    stop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_scripts),
        cmocka_unit_test(test_stale_connection),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
