/*
 * A server of src/http for tests/http: what a request says decides what happens to it.
 *
 *     echo_server key=value …     the options of emb_http_options by name; prints "listening ADDRESS" for each
 *                                 address, then obeys lines on stdin and prints one line for each
 *
 * Routes: /echo answers in place with the body; /park the same from a worker; /sleep?ms=N from a worker after
 * N ms or when the client has left; /hold from a worker when "release" is said on stdin; /large?bytes=N;
 * /stream?pieces=N& bytes=M as pieces; /about a JSON of what was seen; /nothing gives no answer;
 * /park-nothing neither, from a worker.
 *
 * Commands: stats, records (what was told so far), release, adjust key=value …, stop, drain MS, close.
 */
#include "base/clock.h"
#include "http/server.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned released, held;
static struct {
    size_t total, gone, parked, dropped, status[600];
    char last_refused[64];
} seen;
static char arguments[32][512];

static void record(void *context, const emb_http_record *r)
{
    (void)context;
    pthread_mutex_lock(&lock);
    seen.total++;
    seen.gone += r->gone;
    seen.parked += r->parked;
    seen.status[r->status >= 0 && r->status < 600 ? r->status : 599]++;
    if (r->refused)
        snprintf(seen.last_refused, sizeof seen.last_refused, "%s", r->refused);
    pthread_mutex_unlock(&lock);
}

static void echo(emb_exchange *x)
{
    size_t length;
    const char *body = emb_exchange_body(x, &length), *type = emb_exchange_header(x, "content-type");
    for (int i = 0; i <= 64; i++)
        if (body[length + i]) /* must be readable, and NUL */
            abort();
    emb_exchange_reply_text(x, 200, type ? type : "application/octet-stream", body, length);
}

static size_t number(emb_exchange *x, const char *name, size_t otherwise)
{
    const char *text = emb_exchange_query(x, name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void nap(emb_exchange *x)
{
    uint64_t until = emb_now_ns() + number(x, "ms", 0) * 1000000u;
    while (emb_now_ns() < until && !__atomic_load_n(emb_exchange_gone(x), __ATOMIC_ACQUIRE))
        usleep(500);
    emb_exchange_reply_text(x, 200, "text/plain", "slept", 5);
}

static void hold(emb_exchange *x)
{
    pthread_mutex_lock(&lock);
    unsigned mine = released;
    held++;
    while (released == mine && !__atomic_load_n(emb_exchange_gone(x), __ATOMIC_ACQUIRE)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 5000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&changed, &lock, &until);
    }
    held--;
    pthread_mutex_unlock(&lock);
    emb_exchange_reply_text(x, 200, "text/plain", "held", 4);
}

static void large(emb_exchange *x)
{
    size_t bytes = number(x, "bytes", 1 << 20);
    emb_buf body = EMB_BUF_INIT(SIZE_MAX);
    if (emb_buf_reserve(&body, bytes)) {
        emb_exchange_reply(x, 503, NULL, NULL);
        return;
    }
    for (size_t i = 0; i < bytes; i++)
        body.data[i] = (char)('a' + i % 23);
    body.length = bytes;
    emb_exchange_reply(x, 200, "text/plain", &body);
}

static void stream(emb_exchange *x)
{
    size_t pieces = number(x, "pieces", 3), bytes = number(x, "bytes", 10);
    char *piece = emb_arena_alloc(emb_exchange_arena(x), bytes + 1);
    emb_exchange_stream_begin(x, 200, "text/event-stream");
    bool going = piece != NULL;
    for (size_t i = 0; i < pieces && going; i++) {
        memset(piece, 'a' + (int)(i % 23), bytes);
        going = emb_exchange_stream_write(x, piece, bytes);
    }
    pthread_mutex_lock(&lock);
    seen.dropped += !going;
    pthread_mutex_unlock(&lock);
    if (!emb_exchange_query(x, "unended"))
        emb_exchange_stream_end(x);
}

static void nothing(emb_exchange *x)
{
    (void)x;
}

static void about(emb_exchange *x)
{
    size_t length;
    emb_exchange_body(x, &length);
    const char *a = emb_exchange_query(x, "a"), *header = emb_exchange_header(x, "X-Test");
    emb_buf body = EMB_BUF_INIT(1 << 20);
    emb_exchange_add_header(x, "X-Kept", "yes");
    emb_exchange_add_header(x, "X-Dropped", "a\r\nX-Injected: 1");
    emb_exchange_add_header(x, "Content-Length", "5");
    emb_exchange_add_headerf(x, "X-Number", "%d", 42);
    if (emb_buf_addf(
            &body,
            "{\"method\":\"%s\",\"path\":\"%s\",\"a\":%s%s%s,\"header\":\"%s\",\"body\":%zu,\"peer\":\"%s\"}",
            emb_exchange_method_name(x), emb_exchange_path(x), a ? "\"" : "", a ? a : "null", a ? "\"" : "",
            header ? header : "", length, emb_exchange_peer(x)))
        abort();
    emb_exchange_reply(x, 200, "application/json", &body);
}

static void park(emb_exchange *x, void (*work)(emb_exchange *))
{
    if (emb_exchange_park(x, work))
        return;
    emb_exchange_add_header(x, "Retry-After", "1");
    emb_exchange_set_refused(x, "overload");
    emb_exchange_reply_text(x, 429, "text/plain", "busy", 4);
}

static void handle(void *context, emb_exchange *x)
{
    (void)context;
    static const struct {
        const char *path;
        void (*work)(emb_exchange *x);
        bool parked;
    } routes[] = {{"/echo", echo, false},          {"/park", echo, true},    {"/sleep", nap, true},
                  {"/hold", hold, true},           {"/large", large, false}, {"/park-large", large, true},
                  {"/stream", stream, true},       {"/about", about, false}, {"/nothing", nothing, false},
                  {"/park-nothing", nothing, true}};
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(emb_exchange_path(x), routes[i].path) == 0) {
            emb_exchange_set_route(x, routes[i].path);
            if (routes[i].parked)
                park(x, routes[i].work);
            else
                routes[i].work(x);
            return;
        }
    if (strncmp(emb_exchange_path(x), "/any/", 5) == 0 || strcmp(emb_exchange_path(x), "/") == 0)
        about(x);
    else
        emb_exchange_reply_text(x, 404, "text/plain", "no such route", 13);
}

static void set_option(emb_http_options *o, char *text)
{
    char *value = strchr(text, '=');
    if (!value)
        exit(2);
    *value++ = 0;
    size_t n = strtoull(value, NULL, 10);
#define SIZE(name) else if (strcmp(text, #name) == 0) o->name = n
#define SHORT(name) else if (strcmp(text, #name) == 0) o->name = (uint32_t)n
#define TEXT(name) else if (strcmp(text, #name) == 0) o->name = value
    if (0) {
    }
    TEXT(listen);
    SHORT(loops);
    SHORT(max_parked);
    SIZE(max_connections);
    SIZE(max_head_bytes);
    SIZE(max_body_bytes);
    SHORT(head_timeout_ms);
    SHORT(body_timeout_ms);
    SHORT(idle_timeout_ms);
    SHORT(write_timeout_ms);
    TEXT(tls_cert);
    TEXT(tls_key);
    else if (strcmp(text, "tls_min_version") == 0) o->tls_min_version = (int)n;
    TEXT(cors_origins);
    TEXT(server_name);
    else exit(2);
}

static void say_records(void)
{
    pthread_mutex_lock(&lock);
    printf("{\"total\":%zu,\"gone\":%zu,\"parked\":%zu,\"dropped\":%zu,\"held\":%u,\"refused\":\"%s\"",
           seen.total, seen.gone, seen.parked, seen.dropped, held, seen.last_refused);
    for (int i = 0; i < 600; i++)
        if (seen.status[i])
            printf(",\"%d\":%zu", i, seen.status[i]);
    pthread_mutex_unlock(&lock);
    puts("}");
}

static void say_stats(const emb_http_server *server)
{
    emb_http_stats s;
    emb_http_get_stats(server, &s);
    uint64_t now = emb_now_ns();
    printf("{\"connections\":%zu,\"active\":%zu,\"parked\":%zu,\"turn_ms\":%" PRIu64 "}\n", s.connections,
           s.active, s.parked, now > s.last_turn_ns ? (now - s.last_turn_ns) / 1000000 : 0);
}

static void adjust(emb_http_server *server, emb_http_options *o, char *rest)
{
    emb_error err;
    int count = 0;
    for (char *part; (part = strsep(&rest, " ")) && count < 32;) {
        snprintf(arguments[count], sizeof arguments[count], "%s", part);
        set_option(o, arguments[count++]);
    }
    puts(emb_http_adjust(server, o, &err) ? err.message : "ok");
}

/* false: the end. */
static bool obey(emb_http_server *server, emb_http_options *o, char *line)
{
    line[strcspn(line, "\n")] = 0;
    if (strcmp(line, "stats") == 0) {
        say_stats(server);
    } else if (strcmp(line, "records") == 0) {
        say_records();
    } else if (strcmp(line, "release") == 0) {
        pthread_mutex_lock(&lock);
        released++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
        puts("ok");
    } else if (strncmp(line, "adjust ", 7) == 0) {
        adjust(server, o, line + 7);
    } else if (strcmp(line, "stop") == 0) {
        emb_http_stop_accepting(server);
        puts("ok");
    } else if (strncmp(line, "drain ", 6) == 0) {
        puts(emb_http_drain(server, emb_now_ns() + strtoull(line + 6, NULL, 10) * 1000000u) ? "drained"
                                                                                            : "late");
    } else {
        return false;
    }
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    emb_http_options o = EMB_HTTP_OPTIONS_INIT;
    emb_http_server *server;
    emb_error err;
    o.listen = "127.0.0.1:0";
    o.handle = handle;
    o.record = record;
    for (int i = 1; i < argc; i++)
        set_option(&o, argv[i]);
    if (emb_http_open(&o, &server, &err)) {
        printf("failed %s\n", err.message);
        return 1;
    }
    for (size_t i = 0; emb_http_address(server, i); i++)
        printf("listening %s\n", emb_http_address(server, i));
    if (emb_http_start(server, &err)) {
        printf("failed %s\n", err.message);
        emb_http_close(server);
        return 1;
    }
    puts("ready");
    fflush(stdout);
    char line[4096];
    while (fgets(line, sizeof line, stdin) && obey(server, &o, line)) {
    }
    emb_http_close(server);
    puts("closed");
    say_records();
    return 0;
}
