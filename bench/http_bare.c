/*
 * What HTTP itself costs: one program, three servers of the same bytes, to be loaded with wrk.
 *
 *     taskset -c 0 http_bare bare inline BYTES PORT    libevent's evhttp as it is, TCP_NODELAY set, the body by reference
 *     taskset -c 0 http_bare ours inline BYTES PORT    src/http, answered on the loop's thread
 *     taskset -c 0 http_bare ours parked BYTES PORT    src/http, answered by a worker
 *
 * Port 0: a free one. Prints "port N"; runs until it is killed. Each has one loop. bench/http_bare.sh runs
 * them interleaved and prints ratios.
 */
#include "http/server.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char *body;
static size_t body_bytes;

/* ---- evhttp ---------------------------------------------------------------------------------- */

static void bare_answer(struct evhttp_request *request, void *context)
{
    (void)context;
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    struct evbuffer *out = evhttp_request_get_output_buffer(request);
    evhttp_add_header(headers, "Server", "embedd/0.1.0");
    evhttp_add_header(headers, "Content-Type", "application/json");
    evhttp_add_header(headers, "x-request-id", "0123456789abcdef0123456789abcdef");
    evbuffer_add_reference(out, body, body_bytes, NULL, NULL);
    evhttp_send_reply(request, 200, "OK", NULL);
}

static int listening(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* accepted sockets inherit it */
    return fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024) ? -1 : fd;
}

static int port_of(int fd)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    return getsockname(fd, (struct sockaddr *)&address, &length) ? 0 : ntohs(address.sin_port);
}

static void say_port(int port)
{
    printf("port %d\n", port);
    fflush(stdout);
}

static int run_bare(int port)
{
    struct event_base *base = event_base_new();
    struct evhttp *http = evhttp_new(base);
    int fd = listening(port);
    if (fd < 0 || evhttp_accept_socket(http, fd)) {
        perror("http_bare");
        return 1;
    }
    evhttp_set_gencb(http, bare_answer, NULL);
    say_port(port_of(fd));
    event_base_dispatch(base);
    evhttp_free(http);
    event_base_free(base);
    return 0;
}

/* ---- src/http -------------------------------------------------------------------------------- */

static void answer(emb_exchange *x)
{
    emb_exchange_reply_text(x, 200, "application/json", body, body_bytes);
}

static void in_place(void *context, emb_exchange *x)
{
    (void)context;
    answer(x);
}

static void parked(void *context, emb_exchange *x)
{
    (void)context;
    if (!emb_exchange_park(x, answer))
        emb_exchange_reply_text(x, 429, "text/plain", "busy", 4);
}

static int run_ours(bool park, int port)
{
    char listen_on[32];
    snprintf(listen_on, sizeof listen_on, "127.0.0.1:%d", port);
    emb_http_options o = EMB_HTTP_OPTIONS_INIT;
    o.listen = listen_on;
    o.loops = 1;
    o.server_name = "embedd/0.1.0";
    o.handle = park ? parked : in_place;
    emb_http_server *server;
    emb_error err;
    if (emb_http_open(&o, &server, &err)) {
        fprintf(stderr, "http_bare: %s\n", err.message);
        return 1;
    }
    if (emb_http_start(server, &err)) {
        fprintf(stderr, "http_bare: %s\n", err.message);
        emb_http_close(server);
        return 1;
    }
    say_port(atoi(strrchr(emb_http_address(server, 0), ':') + 1));
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    bool ours = argc == 5 && strcmp(argv[1], "ours") == 0, park = argc == 5 && strcmp(argv[2], "parked") == 0;
    if (argc != 5 || (!ours && strcmp(argv[1], "bare")) || (!park && strcmp(argv[2], "inline")) ||
        (park && !ours)) {
        fprintf(stderr, "usage: http_bare bare inline | ours inline | ours parked BYTES PORT\n");
        return 2;
    }
    body_bytes = strtoull(argv[3], NULL, 10);
    body = malloc(body_bytes + 1);
    if (!body)
        return 1;
    memset(body, 'x', body_bytes);
    int port = atoi(argv[4]);
    return ours ? run_ours(park, port) : run_bare(port);
}
