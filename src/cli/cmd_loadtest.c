/*
 * cmd_loadtest.c: `embedd loadtest`: requests at a running service, ours or another one.
 *
 * Before the test one request is sent and its answer read: a wrong route, model or key is then told in the
 * server's own words and not as a column of errors.
 */
#include "cli/command.h"

#include "base/clock.h"
#include "base/error.h"
#include "cli/load_client.h"
#include "cli/load_report.h"
#include "cli/load_response.h"
#include "cli/stop.h"

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct settings {
    const char *model, *api_key, *rate, *repeat, *duration, *warmup;
    int api, encoding, arrivals, format;
    size_t connections, threads, timeout, texts, words, most_words, distinct;
    bool series, insecure;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

enum { BASE64, FLOAT };
enum { POISSON, UNIFORM };
enum { TEXT, JSON };

static const emb_option options[] = {
    {.name = "rate",
     .letter = 'r',
     .kind = EMB_OPTION_TEXT,
     .argument = "N",
     .default_note = "none: a closed loop",
     .offset = offsetof(settings, rate),
     .help = "open loop: this many requests a second, whether the service keeps up or not; latency counts "
             "from when a "
             "request was due"},
    {.name = "arrivals",
     .kind = EMB_OPTION_CHOICE,
     .choices = "poisson|uniform",
     .fallback = "poisson",
     .offset = offsetof(settings, arrivals),
     .help = "of an open loop: at random, as independent users do, or evenly"},
    {.name = "connections",
     .letter = 'c',
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .minimum = 0,
     .maximum = 60000,
     .default_note = "16; open loop: 1000",
     .offset = offsetof(settings, connections),
     .help = "closed loop: each sends its next request when it has its answer; open loop: at most so many"},
    {.name = "duration",
     .letter = 'd',
     .kind = EMB_OPTION_TEXT,
     .argument = "SECONDS",
     .fallback = "10",
     .offset = offsetof(settings, duration),
     .help = "measured time"},
    {.name = "warmup",
     .kind = EMB_OPTION_TEXT,
     .argument = "SECONDS",
     .fallback = "2",
     .offset = offsetof(settings, warmup),
     .help = "time before it that does not count"},
    {.name = "timeout",
     .kind = EMB_OPTION_COUNT,
     .argument = "SECONDS",
     .fallback = "30",
     .minimum = 1,
     .maximum = 3600,
     .offset = offsetof(settings, timeout),
     .help = "after which a request is given up"},
    {.name = "api",
     .kind = EMB_OPTION_CHOICE,
     .choices = EMB_LOAD_APIS,
     .fallback = "openai",
     .offset = offsetof(settings, api),
     .help = "whose requests: POST /v1/embeddings, /embed with inputs, /embed/batch, /embed with texts, "
             "/api/embed"},
    {.name = "encoding",
     .kind = EMB_OPTION_CHOICE,
     .choices = "base64|float",
     .fallback = "base64",
     .offset = offsetof(settings, encoding),
     .help = "of the vectors, with openai"},
    {.name = "model",
     .letter = 'm',
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .default_note = "the service's own",
     .offset = offsetof(settings, model),
     .help = "model that is asked for"},
    {.name = "api-key",
     .kind = EMB_OPTION_TEXT,
     .argument = "KEY",
     .environment = "EMBEDD_API_KEY,OPENAI_API_KEY",
     .offset = offsetof(settings, api_key),
     .help = "sent as Authorization: Bearer KEY; it needs the right use. Better in EMBEDD_API_KEY"},
    {.name = "insecure",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, insecure),
     .help = "with https: take any certificate"},
    {.name = "texts",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "1",
     .minimum = 1,
     .maximum = 4096,
     .offset = offsetof(settings, texts),
     .help = "texts in a request"},
    {.name = "words",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .minimum = 0,
     .maximum = 100000,
     .default_note = "a mix, mostly short",
     .offset = offsetof(settings, words),
     .help = "words in a text"},
    {.name = "most-words",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "200",
     .minimum = 8,
     .maximum = 100000,
     .offset = offsetof(settings, most_words),
     .help = "longest text of the mix"},
    {.name = "repeat",
     .kind = EMB_OPTION_TEXT,
     .argument = "PERCENT",
     .fallback = "0",
     .offset = offsetof(settings, repeat),
     .help = "how many of the texts were sent before, for the service's cache"},
    {.name = "distinct",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "256",
     .minimum = 1,
     .maximum = 100000000,
     .offset = offsetof(settings, distinct),
     .help = "how many different texts are repeated, about"},
    {.name = "threads",
     .letter = 't',
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .fallback = "1",
     .minimum = 1,
     .maximum = 256,
     .offset = offsetof(settings, threads),
     .help = "of this client; one sends some 50,000 requests/s"},
    {.name = "series",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, series),
     .help = "show every second too (JSON always has them)"},
    {.name = "format",
     .letter = 'f',
     .kind = EMB_OPTION_CHOICE,
     .choices = "text|json",
     .fallback = "text",
     .offset = offsetof(settings, format),
     .help = "how to print the result"},
    EMB_OPTIONS_END,
};

/* ---- the target ---- */

typedef struct target {
    char host[256], port[8], header[300], base[512];
    struct sockaddr_storage address;
    socklen_t length;
    bool tls;
} target;

static emb_status set_unix(target *t, const char *path, emb_error *err)
{
    struct sockaddr_un *a = (struct sockaddr_un *)&t->address;
    if (strlen(path) >= sizeof a->sun_path || !*path)
        return emb_fail(err, EMB_E_INVALID, "address", "unix: is followed by a path of at most %zu bytes",
                        sizeof a->sun_path - 1);
    a->sun_family = AF_UNIX;
    strcpy(a->sun_path, path);
    t->length = sizeof *a;
    snprintf(t->header, sizeof t->header, "localhost");
    return EMB_OK;
}

/* "http://host:port/base", "host:port", "https://[::1]:8000". */
static emb_status split(target *t, const char *url, emb_error *err)
{
    static const char wanted[] = "an address like http://127.0.0.1:8000 or unix:/run/embedd.sock is needed";
    t->tls = strncmp(url, "https://", 8) == 0;
    const char *p = t->tls ? url + 8 : strncmp(url, "http://", 7) == 0 ? url + 7 : url;
    size_t all = strcspn(p, "/"), n = *p == '[' ? strcspn(p, "]") : strcspn(p, ":/");
    const char *host = *p == '[' ? p + 1 : p, *after = p + n + (*p == '[' && p[n] == ']');
    size_t length = *p == '[' ? n - 1 : n;
    if (length == 0 || length >= sizeof t->host || all >= sizeof t->header ||
        strlen(p + all) >= sizeof t->base || strpbrk(p, " \t\r\n@?#") || strstr(p, "://"))
        return emb_fail(err, EMB_E_INVALID, "address", "\"%.100s\" is no address: %s", url, wanted);
    snprintf(t->host, sizeof t->host, "%.*s", (int)length, host);
    snprintf(t->header, sizeof t->header, "%.*s", (int)all, p);
    snprintf(t->base, sizeof t->base, "%s", p + all);
    while (*t->base && t->base[strlen(t->base) - 1] == '/')
        t->base[strlen(t->base) - 1] = 0;
    snprintf(t->port, sizeof t->port, "%s", t->tls ? "443" : "80");
    if (*after == ':' && after[1] >= '0' && after[1] <= '9')
        snprintf(t->port, sizeof t->port, "%.*s", (int)strcspn(after + 1, "/"), after + 1);
    else if (*after != 0 && *after != '/')
        return emb_fail(err, EMB_E_INVALID, "address", "\"%.100s\" is no address: %s", url, wanted);
    return EMB_OK;
}

static emb_status find_target(target *t, const char *url, emb_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found = NULL;
    memset(t, 0, sizeof *t);
    if (strncmp(url, "unix:", 5) == 0)
        return set_unix(t, url + 5, err);
    emb_status status = split(t, url, err);
    if (status)
        return status;
    int code = getaddrinfo(t->host, t->port, &hints, &found);
    if (code)
        return emb_fail(err, EMB_E_NOT_FOUND, t->host, "%s port %s: %s", t->host, t->port,
                        gai_strerror(code));
    memcpy(&t->address, found->ai_addr, found->ai_addrlen);
    t->length = found->ai_addrlen;
    freeaddrinfo(found);
    return EMB_OK;
}

/* ---- the first request ---- */

static emb_status no_answer(const target *t, const emb_load_stream *stream, const char *doing, emb_error *err)
{
    char problem[256];
    int saved = errno;
    emb_load_stream_problem(stream, problem, sizeof problem);
    return emb_fail(err, EMB_E_IO, t->header, "%s %s: %s", doing, t->header,
                    saved == EPROTO   ? *problem ? problem : "TLS failed"
                    : saved == EAGAIN ? "time-out"
                                      : strerror(saved));
}

static emb_status exchange(emb_load_stream *stream, const target *t, const char *out, size_t length,
                           emb_load_response *r, emb_error *err)
{
    char data[16384];
    ssize_t n = 0;
    if (connect(stream->fd, (const struct sockaddr *)&t->address, t->length) < 0)
        return emb_fail(err, EMB_E_IO, t->header, "no connection to %s: %s", t->header, strerror(errno));
    for (size_t sent = 0; sent < length; sent += (size_t)n)
        if ((n = emb_load_stream_send(stream, out + sent, length - sent)) <= 0)
            return no_answer(t, stream, "sending to", err);
    emb_load_response_start(r);
    while (r->state == EMB_LOAD_MORE && (n = emb_load_stream_recv(stream, data, sizeof data)) > 0)
        emb_load_response_feed(r, data, (size_t)n);
    if (n < 0 && r->state == EMB_LOAD_MORE)
        return no_answer(t, stream, "no answer from", err);
    emb_load_response_end(r);
    return r->state == EMB_LOAD_DONE
               ? EMB_OK
               : emb_fail(err, EMB_E_IO, t->header, "what %s answers is not HTTP", t->header);
}

static emb_status open_stream(emb_load_stream *stream, const target *t, SSL_CTX *tls, size_t timeout,
                              emb_error *err)
{
    struct timeval patience = {.tv_sec = (time_t)timeout};
    int fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return emb_fail_errno(err, "socket", "opening");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return emb_load_stream_open(stream, fd, tls, t->host) ? EMB_OK : emb_fail_nomem(err, "TLS", 0);
}

static emb_status probe(const target *t, SSL_CTX *tls, const emb_load_requests *q, const char *url,
                        size_t timeout, emb_error *err)
{
    emb_load_response r;
    emb_load_stream stream;
    uint64_t random = emb_now_ns() | 1, serial = random;
    char *out = malloc(q->largest);
    emb_status status =
        out ? open_stream(&stream, t, tls, timeout, err) : emb_fail_nomem(err, "request", q->largest);
    if (!status) {
        status = exchange(&stream, t, out, emb_load_request_write(q, &random, &serial, out), &r, err);
        emb_load_stream_close(&stream);
        if (!status && (r.status < 200 || r.status > 299))
            status = emb_fail(err, EMB_E_INVALID, url, "%s answers the first request with status %d: %.*s",
                              url, r.status, (int)r.begin_length, r.begin);
    }
    free(out);
    return status;
}

/* ---- the command ---- */

/* A connection is a descriptor; the usual limit of 1024 is soft. */
static emb_status allow_descriptors(size_t connections, emb_error *err)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= connections + 64)
        return EMB_OK;
    rlim_t wanted = connections + 64;
    if (limit.rlim_max < wanted)
        return emb_fail(err, EMB_E_LIMIT, "connections",
                        "%zu connections need %llu open files, the limit is %llu (ulimit -n)", connections,
                        (unsigned long long)wanted, (unsigned long long)limit.rlim_max);
    limit.rlim_cur = wanted;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? EMB_OK
                                                 : emb_fail_errno(err, "open files", "raising the limit of");
}

static bool read_number(const char *text, double least, double most, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end && *out >= least && *out <= most;
}

static int print(const settings *s, const emb_load_outcome *o, const emb_load_about *about)
{
    emb_error err;
    if (s->format == TEXT)
        emb_load_print(o, about);
    else if (emb_load_print_json(o, about, &err))
        return emb_report_error("loadtest", &err);
    return o->good > 0 ? EMB_EXIT_OK : EMB_EXIT_FAILURE;
}

typedef struct numbers {
    double rate, repeat, duration, warmup;
} numbers;

static emb_status test(const settings *s, const char *url, const numbers *n, int *code, emb_error *err)
{
    target t;
    emb_load_requests requests;
    emb_load_outcome outcome;
    SSL_CTX *tls = NULL;
    char asked[1200];
    emb_status status = find_target(&t, url, err);
    if (status)
        return status;
    emb_load_shape shape = {.api = (emb_load_api)s->api,
                            .host = t.header,
                            .base_path = t.base,
                            .model = s->model,
                            .api_key = s->api_key,
                            .floats = s->encoding == FLOAT,
                            .texts = s->texts,
                            .words = s->words,
                            .most_words = s->most_words,
                            .repeat = n->repeat / 100,
                            .distinct = s->distinct};
    emb_load_plan plan = {.address = t.address,
                          .address_length = t.length,
                          .requests = &requests,
                          .rate = n->rate,
                          .poisson = s->arrivals == POISSON,
                          .threads = s->threads,
                          .seconds = (size_t)ceil(n->duration),
                          .connections = s->connections ? s->connections
                                         : n->rate > 0  ? 1000
                                                        : 16,
                          .warmup_ns = (uint64_t)(n->warmup * 1e9),
                          .duration_ns = (uint64_t)(n->duration * 1e9),
                          .timeout_ns = s->timeout * 1000000000ull,
                          .stop = emb_stop_flag()};
    plan.threads = plan.threads < plan.connections ? plan.threads : plan.connections;
    bool local = t.address.ss_family == AF_UNIX;
    snprintf(asked, sizeof asked, "%s%s%s%s",
             local   ? url
             : t.tls ? "https://"
                     : "http://",
             local ? " " : t.header, t.base, emb_load_route(shape.api));
    if ((status = allow_descriptors(plan.connections, err)) ||
        (status = emb_load_requests_init(&requests, &shape, err)))
        return status;
    if (t.tls)
        status = emb_load_tls_open(&tls, s->insecure, err);
    plan.tls = tls;
    plan.host = t.host;
    if (!status)
        status = probe(&t, tls, &requests, asked, s->timeout, err);
    if (!status)
        status = emb_load_run(&plan, &outcome, err);
    if (!status) {
        *code = print(s, &outcome, &(emb_load_about){asked, &plan, &shape, s->series});
        emb_load_outcome_fini(&outcome);
    }
    emb_load_requests_fini(&requests);
    SSL_CTX_free(tls);
    return status;
}

static int run(const void *raw, char **arguments, size_t count)
{
    const settings *s = raw;
    numbers n = {0};
    const struct {
        const char *name, *text;
        double *out, least, most;
    } given[] = {{"rate", s->rate, &n.rate, 0.001, 10000000},
                 {"repeat", s->repeat, &n.repeat, 0, 100},
                 {"duration", s->duration, &n.duration, 0.1, 86400},
                 {"warmup", s->warmup, &n.warmup, 0, 3600}};
    int code = EMB_EXIT_OK;
    emb_error err;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        if (given[i].text && !read_number(given[i].text, given[i].least, given[i].most, given[i].out))
            return emb_usage_error(&emb_command_loadtest, "--%s %s: a number from %g to %.10g is needed",
                                   given[i].name, given[i].text, given[i].least, given[i].most);
    if (s->api_key && strpbrk(s->api_key, " \t\r\n"))
        return emb_usage_error(&emb_command_loadtest, "--api-key: the key holds white space");
    emb_stop_install();
    if (test(s, count ? arguments[0] : "http://127.0.0.1:8000", &n, &code, &err))
        return emb_report_error("loadtest", &err);
    fflush(stdout);
    emb_stop_die();
    return code;
}

const emb_command emb_command_loadtest = {
    .name = "loadtest",
    .summary = "send requests to a running service and measure it",
    .usage = "loadtest [OPTION...] [URL]",
    .description =
        "URL is the service's address, http://127.0.0.1:8000 if none is given; https and unix:PATH too.\n"
        "Texts are new ones in every run, apart from the share that is repeated. Ends with 1 if no\n"
        "request was answered well.",
    .examples = "  embedd loadtest\n"
                "  embedd loadtest --rate 500 --duration 60 --repeat 80 http://127.0.0.1:8000\n"
                "  embedd loadtest --connections 64 --texts 32 --words 100 --format json > report.json",
    .options = options,
    .settings_size = sizeof(settings),
    .maximum_arguments = 1,
    .run = run,
};
