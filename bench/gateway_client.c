/*
 * gateway_client: the time of one request after another on one connection, to the microsecond.
 *
 *     gateway_client PORT [REQUESTS [SECONDS [WARM-UP [KEY [MODEL]]]]]
 *
 * Posts one text, another each time, to /v1/embeddings of 127.0.0.1:PORT and asks for base64, as OpenAI's own
 * client does; ends after REQUESTS or SECONDS, whichever is first. Prints JSON: requests, the latency in µs
 * at several quantiles, the bytes of an answer and the FNV-1a hash of the vector's text, by which the caller
 * sees that each contender answered with the same vector. Anything but 200 with a vector ends it with an
 * error.
 *
 * Blocking reads on a pinned CPU: a poll loop would keep the CPU warm and flatter the figures. The clock runs
 * from before the write to the last byte of the answer. A client in Python or a general library costs 50 to
 * 300 µs of its own, more than what is to be measured.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 20 };

static char answer[ROOM];

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *why)
{
    fprintf(stderr, "gateway_client: %s\n", why);
    exit(1);
}

static int connect_to(unsigned port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("cannot connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static size_t write_request(char *out, size_t room, unsigned number, const char *key, const char *model)
{
    char body[1024];
    int length = snprintf(body, sizeof body,
                          "{\"model\":\"%s\",\"input\":\"What is the expense ratio of fund %08u?\","
                          "\"encoding_format\":\"base64\"}",
                          model, number);
    int n = snprintf(out, room,
                     "POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                     "Authorization: Bearer %s\r\nAccept: application/json\r\nContent-Length: %d\r\n\r\n%s",
                     key, length, body);
    if (length < 0 || (size_t)length >= sizeof body || n < 0 || (size_t)n >= room)
        fail("the request is too long");
    return (size_t)n;
}

/* The length of the body, by the head that ends at `end`. */
static size_t body_length(const char *end)
{
    for (const char *line = answer; line && line < end; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncasecmp(line, "content-length:", 15) == 0)
            return strtoull(line + 15, NULL, 10);
    }
    fail("an answer without a content-length");
    return 0;
}

/* Reads one whole answer; gives its body. */
static char *receive(int fd, size_t *length)
{
    size_t have = 0, whole = 0;
    char *body = NULL;
    while (!whole || have < whole) {
        ssize_t n = recv(fd, answer + have, sizeof answer - 1 - have, 0);
        if (n <= 0)
            fail("the connection ended");
        have += (size_t)n;
        answer[have] = '\0';
        char *end = whole ? NULL : strstr(answer, "\r\n\r\n");
        if (end) {
            *length = body_length(end);
            body = end + 4;
            whole = (size_t)(body - answer) + *length;
        }
        if (whole > sizeof answer - 1 || (!whole && have == sizeof answer - 1))
            fail("an answer over 1 MiB");
    }
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0) {
        fprintf(stderr, "%.600s\n", answer);
        fail("not 200");
    }
    return body;
}

/* The text of the first vector. */
static uint64_t hash_of(const char *body)
{
    const char *start = strstr(body, "\"embedding\":"), *quote;
    while (start && start[12] != '"' && start[12] != ' ') /* "object":"embedding" has no colon behind it */
        start = strstr(start + 1, "\"embedding\":");
    start = start ? strchr(start + 12, '"') : NULL;
    quote = start ? strchr(start + 1, '"') : NULL;
    uint64_t h = 1469598103934665603u;
    if (!quote || quote - start < 100)
        fail("an answer without a vector in base64");
    for (const char *p = start + 1; p < quote; p++)
        h = (h ^ (unsigned char)*p) * 1099511628211u;
    return h;
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void report(uint64_t *times, size_t count, size_t bytes, uint64_t hash)
{
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    qsort(times, count, sizeof *times, by_time);
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)times[i];
    printf("{\"requests\": %zu, \"bytes\": %zu, \"vector\": \"%016llx\", \"min\": %.2f, \"mean\": %.2f",
           count, bytes, (unsigned long long)hash, (double)times[0] / 1e3, sum / (double)count / 1e3);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        printf(", \"%s\": %.2f", quantiles[i].name,
               (double)times[(size_t)(quantiles[i].q * (double)(count - 1))] / 1e3);
    printf("}\n");
}

int main(int argc, char **argv)
{
    if (argc < 2)
        fail("PORT [REQUESTS [SECONDS [WARM-UP [KEY [MODEL]]]]]");
    unsigned port = (unsigned)strtoul(argv[1], NULL, 10);
    size_t requests = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000,
           warm_up = argc > 4 ? strtoull(argv[4], NULL, 10) : 100;
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 10;
    const char *key = argc > 5 ? argv[5] : "x", *model = argc > 6 ? argv[6] : "text-embedding-3-small";
    uint64_t *times = calloc(requests + 1, sizeof *times), deadline = 0, hash = 0;
    size_t bytes = 0, count = 0;
    char request[4096];
    int fd = connect_to(port);
    if (!times || requests == 0)
        fail("no room for the times");
    for (size_t i = 0; i < warm_up + requests && (!deadline || now_ns() < deadline); i++) {
        size_t n = write_request(request, sizeof request, (unsigned)(getpid() % 10000 * 10000) + (unsigned)i,
                                 key, model);
        uint64_t start = now_ns();
        if (send(fd, request, n, MSG_NOSIGNAL) != (ssize_t)n)
            fail("the request was not taken");
        char *body = receive(fd, &bytes);
        uint64_t end = now_ns(), h = hash_of(body);
        if (hash && h != hash)
            fail("two answers differ");
        hash = h;
        if (i >= warm_up)
            times[count++] = end - start;
        else
            continue;
        if (!deadline)
            deadline = end + (uint64_t)(seconds * 1e9);
    }
    close(fd);
    report(times, count, bytes, hash);
    free(times);
    return 0;
}
