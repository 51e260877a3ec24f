/*
 * upstream_fast: the least that an OpenAI-compatible upstream can cost, to measure what a gateway before it
 * adds.
 *
 *     upstream_fast [PORT]      0 or nothing: a free port; prints "port N" and serves until it is terminated
 *
 * Every POST is answered with the same embedding of one text in 1,536 dimensions, as base64 where the body
 * asks for it, else as numbers; a GET with an empty list. Both answers are made once: a request costs a read,
 * the search for the end of its head and its length, and one write. One thread, epoll, level-triggered;
 * TCP_NODELAY; connections live until the client ends them. A single-threaded server answers in order of
 * arrival, which is what is wanted: no time hides in locks or in hand-overs. Not for tests of behaviour: that
 * is upstream.py.
 *
 * What it does not do: chunked requests, pipelining, requests over 1 MiB. Such a connection is closed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DIMENSION = 1536, ROOM = 1 << 20, MOST_EVENTS = 64, MOST_CONNECTIONS = 4096 };

typedef struct connection {
    int fd;
    size_t have, room;
    char *data;
} connection;

typedef struct answer {
    char *data;
    size_t length;
} answer;

static answer as_base64, as_numbers, as_list;

/* ---- the answers ---- */

static void fill(float *v)
{
    uint64_t state = 88172645463325252u;
    double sum = 0;
    for (size_t i = 0; i < DIMENSION; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        v[i] = (float)((double)(state >> 11) / 9007199254740992.0 - 0.5);
        sum += (double)v[i] * (double)v[i];
    }
    for (size_t i = 0; i < DIMENSION; i++)
        v[i] = (float)((double)v[i] / sqrt(sum));
}

/* n is a multiple of 3: 4 × 1,536 bytes are. */
static size_t base64(const unsigned char *in, size_t n, char *out)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t length = 0;
    for (size_t i = 0; i + 2 < n; i += 3) {
        unsigned bits = (unsigned)in[i] << 16 | (unsigned)in[i + 1] << 8 | in[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            out[length++] = letters[bits >> shift & 63];
    }
    return length;
}

static size_t numbers(const float *v, char *out)
{
    size_t length = 0;
    for (size_t i = 0; i < DIMENSION; i++)
        length += (size_t)sprintf(out + length, "%s%.9g", i ? "," : "[", (double)v[i]);
    out[length++] = ']';
    return length;
}

/* A head and a body of three pieces. */
static answer make(const char *before, const char *middle, size_t middle_length, const char *after)
{
    size_t body = strlen(before) + middle_length + strlen(after);
    answer a = {malloc(body + 512), 0};
    if (!a.data)
        exit(1);
    a.length =
        (size_t)sprintf(a.data,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_fast\r\n"
                        "x-ratelimit-remaining-requests: 2999\r\nContent-Length: %zu\r\n\r\n%s",
                        body, before);
    memcpy(a.data + a.length, middle, middle_length);
    a.length += middle_length;
    memcpy(a.data + a.length, after, strlen(after));
    a.length += strlen(after);
    return a;
}

static void make_answers(void)
{
    static const char before[] =
        "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":";
    static const char after[] =
        "}],\"model\":\"text-embedding-3-small\",\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}";
    static float v[DIMENSION];
    static char text[DIMENSION * 20];
    fill(v);
    text[0] = '"';
    size_t length = 1 + base64((const unsigned char *)v, sizeof v, text + 1);
    text[length++] = '"';
    as_base64 = make(before, text, length, after);
    as_numbers = make(before, text, numbers(v, text), after);
    as_list = make("{\"object\":\"list\",\"data\":[]}", "", 0, "");
}

/* ---- requests ---- */

/* The length of the whole request, 0 if its head is not all there, or SIZE_MAX if it cannot be read. */
static size_t length_of(const char *data, size_t have, size_t *head)
{
    const char *end = memmem(data, have, "\r\n\r\n", 4), *line = data;
    size_t body = 0;
    if (!end)
        return 0;
    *head = (size_t)(end - data) + 4;
    while (line && line < end) {
        if (strncasecmp(line, "content-length:", 15) == 0)
            body = strtoull(line + 15, NULL, 10);
        else if (strncasecmp(line, "transfer-encoding:", 18) == 0)
            return SIZE_MAX;
        line = memchr(line, '\n', (size_t)(end - line));
        line = line ? line + 1 : NULL;
    }
    return body > ROOM ? SIZE_MAX : *head + body;
}

static int send_all(int fd, const answer *a)
{
    for (size_t sent = 0; sent < a->length;) {
        ssize_t n =
            send(fd, a->data + sent, a->length - sent, MSG_NOSIGNAL); /* blocking: answers fit the buffers */
        if (n < 0 && errno != EINTR)
            return -1;
        sent += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static const answer *answer_to(const connection *c, size_t head, size_t whole)
{
    if (c->data[0] == 'G')
        return &as_list;
    return memmem(c->data + head, whole - head, "\"base64\"", 8) ? &as_base64 : &as_numbers;
}

/* Reads what is there; -1: the connection ends. */
static int serve(connection *c)
{
    size_t head = 0, whole;
    if (c->have == c->room) {
        size_t room = c->room ? c->room * 2 : 16384;
        char *bigger = room <= 2 * ROOM ? realloc(c->data, room + 1) : NULL;
        if (!bigger)
            return -1;
        c->data = bigger;
        c->room = room;
    }
    ssize_t n = recv(c->fd, c->data + c->have, c->room - c->have, 0);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    c->have += (size_t)n;
    c->data[c->have] = '\0';
    whole = length_of(c->data, c->have, &head);
    if (whole == SIZE_MAX || (whole && c->have > whole))
        return -1;
    if (!whole || c->have < whole)
        return 0;
    c->have = 0;
    return send_all(c->fd, answer_to(c, head, whole));
}

/* ---- the loop ---- */

static void take(int epoll, int listener)
{
    static const int one = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    connection *c = fd >= 0 ? calloc(1, sizeof *c) : NULL;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (!c)
        return;
    c->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) {
        close(fd);
        free(c);
    }
}

static void drop(connection *c)
{
    close(c->fd); /* and with it its place in the epoll set */
    free(c->data);
    free(c);
}

static int listen_on(unsigned port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    static const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, MOST_CONNECTIONS) ||
        getsockname(fd, (struct sockaddr *)&address, &length)) {
        perror("upstream_fast");
        exit(1);
    }
    printf("port %u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    make_answers();
    int listener = listen_on(argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[MOST_EVENTS], event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
        return 1;
    for (;;) {
        int n = epoll_wait(epoll, events, MOST_EVENTS, -1);
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            if (!c)
                take(epoll, listener);
            else if (serve(c))
                drop(c);
        }
        if (n < 0 && errno != EINTR)
            return 1;
    }
}
