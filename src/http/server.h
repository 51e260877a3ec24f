/*
 * server.h: an HTTP/1.1 server; what lies behind it (libevent and OpenSSL) is nobody else's business.
 *
 *     emb_http_options o = EMB_HTTP_OPTIONS_INIT; o.handle = handle; o.context = app; …
 *     emb_http_server *server;
 *     emb_http_open(&o, &server, err);        // bound and listening
 *     emb_http_start(server, err);            // loops run in threads of their own
 *     …
 *     emb_http_stop_accepting(server);        // listeners closed, keep-alive ends with the next answer
 *     emb_http_drain(server, deadline_ns);    // until no request is in work; true if so
 *     emb_http_close(server);
 *
 * `handle` runs on the loop's thread once a request is there in full, checked for syntax, limits and
 * deadlines. It must not block: it answers at once (emb_exchange_reply), or hands the request to a worker
 * (emb_exchange_park), whose function may block and then answers. Exactly one answer for each exchange; an
 * exchange that is dropped without one is answered 500. The exchange, its arena, head and body live until it
 * is answered (reply and stream_end release it: touch it no more).
 *
 * What never reaches `handle`, because the server answers it: malformed heads 400, too large 413/431, too
 * slow 408, HTTP versions other than 1.0/1.1 505, methods other than the usual 405, unknown Expect 417,
 * OPTIONS with CORS. What is rejected beyond evhttp: two Content-Length or one that is not plain digits,
 * Content-Length with Transfer-Encoding, codings other than chunked, white space around a header's name,
 * obs-fold, control characters, a missing, doubled or malformed Host in 1.1, bare CR or LF. Every head and
 * body has a deadline of its own that trickling does not move.
 */
#ifndef EMB_HTTP_SERVER_H
#define EMB_HTTP_SERVER_H

#include "base/arena.h"
#include "base/buf.h"

typedef struct emb_http_server emb_http_server;
typedef struct emb_exchange emb_exchange;

/* What the access log and the metrics get when an exchange has ended. Strings live for the call. */
typedef struct emb_http_record {
    const char *method, *path, *route; /* route: the label that was set, "" if none; path without its query */
    const char *request_id, *peer, *key_name;
    int status;
    size_t body_bytes, answer_bytes;
    uint64_t duration_ns; /* first byte of the request to the answer handed over */
    bool gone;            /* the client left before its answer */
    bool parked;
    const char *refused; /* "overload", "malformed", "too_large", "timeout", … or NULL */
} emb_http_record;

typedef struct emb_http_options {
    const char *listen;  /* "127.0.0.1:8000,[::1]:8000,unix:/run/embedd.sock"; port 0: a free one */
    unsigned loops;      /* 0: one per two CPUs, at least 1 */
    unsigned max_parked; /* requests with workers at a time; as many threads, made when needed */
    size_t max_connections, max_head_bytes, max_body_bytes;
    uint32_t head_timeout_ms, body_timeout_ms, idle_timeout_ms, write_timeout_ms;
    const char *tls_cert, *tls_key; /* NULL or "": no TLS */
    int tls_min_version;            /* 12 or 13 */
    const char *cors_origins;       /* "https://a.example, *"; NULL or "": none */
    const char *server_name;        /* the Server header, "embedd/0.1.0" */
    void (*handle)(void *context, emb_exchange *exchange);
    void (*record)(void *context, const emb_http_record *record); /* any thread; or NULL */
    void *context;
} emb_http_options;
#define EMB_HTTP_OPTIONS_INIT                                                                                \
    {                                                                                                        \
        .listen = "127.0.0.1:8000", .max_parked = 512, .max_connections = 16384, .max_head_bytes = 16384,    \
        .max_body_bytes = 16777216, .head_timeout_ms = 10000, .body_timeout_ms = 60000,                      \
        .idle_timeout_ms = 120000, .write_timeout_ms = 60000, .tls_min_version = 12, .server_name = "embedd" \
    }

/* Errors name the address, file or setting. EMB_E_IO: "127.0.0.1:8000: address already in use". */
EMB_MUST_CHECK emb_status emb_http_open(const emb_http_options *options, emb_http_server **out,
                                        emb_error *err);
EMB_MUST_CHECK emb_status emb_http_start(emb_http_server *server, emb_error *err);
/* Limits, time-outs, CORS origins, certificate: new connections and requests see them. Loops, listeners and
 * workers stay. A bad certificate is refused and the old one stays. */
EMB_MUST_CHECK emb_status emb_http_adjust(emb_http_server *server, const emb_http_options *options,
                                          emb_error *err);
void emb_http_stop_accepting(emb_http_server *server);
bool emb_http_drain(emb_http_server *server, uint64_t deadline_ns);
/* Sets every parked exchange's `gone`, waits for their workers, closes all connections, ends the loops. */
void emb_http_close(emb_http_server *server);
/* Address `index` that it listens on, "127.0.0.1:43121"; NULL after the last. Lives as long as the server. */
const char *emb_http_address(const emb_http_server *server, size_t index);

typedef struct emb_http_stats {
    size_t connections, active, parked;
    uint64_t last_turn_ns; /* when the slowest loop last went round: for a watchdog */
} emb_http_stats;
void emb_http_get_stats(const emb_http_server *server, emb_http_stats *out);

/* ---- the request ---- */

typedef enum emb_http_method {
    EMB_HTTP_GET = 1,
    EMB_HTTP_POST = 2,
    EMB_HTTP_PUT = 4,
    EMB_HTTP_DELETE = 8,
    EMB_HTTP_HEAD = 16,
    EMB_HTTP_OPTIONS = 32,
    EMB_HTTP_PATCH = 64
} emb_http_method;

emb_http_method emb_exchange_method(const emb_exchange *x);
const char *emb_exchange_method_name(const emb_exchange *x);
/* Percent-decoded, without the query; starts with '/'; valid UTF-8, no NUL. */
const char *emb_exchange_path(const emb_exchange *x);
/* Decoded value of a query parameter, "" if it has none, NULL if it is not there. */
const char *emb_exchange_query(emb_exchange *x, const char *name);
/* NULL if absent. Names ignore case. */
const char *emb_exchange_header(const emb_exchange *x, const char *name);
/* The body in one piece, NUL behind it; at least 64 readable bytes follow. Lives as long as the exchange. */
const char *emb_exchange_body(emb_exchange *x, size_t *length);
const char *emb_exchange_peer(const emb_exchange *x); /* "127.0.0.1:5555", "unix" */
/* The caller's x-request-id if it is 1 to 128 visible ASCII characters, else a new one. Also sent back. */
const char *emb_exchange_request_id(const emb_exchange *x);
emb_arena *emb_exchange_arena(emb_exchange *x);
/* On emb_now_ns's clock: when its first byte came, and when it was there in full. */
uint64_t emb_exchange_started_ns(const emb_exchange *x);
uint64_t emb_exchange_received_ns(const emb_exchange *x);
/* Becomes non-zero when the client has left or the server ends. For emb_request.cancel. */
const volatile int *emb_exchange_gone(const emb_exchange *x);
/* A pointer for the application, NULL at first; and the label for records (a literal), and the key's name
 * (copied). */
void emb_exchange_set_data(emb_exchange *x, void *data);
void *emb_exchange_data(const emb_exchange *x);
void emb_exchange_set_route(emb_exchange *x, const char *route);
void emb_exchange_set_key_name(emb_exchange *x, const char *name);
void emb_exchange_set_refused(emb_exchange *x, const char *reason);

/* ---- the answer ---- */

/* Adds a header; name and value are copied; a value with control characters is dropped. Before the reply. */
void emb_exchange_add_header(emb_exchange *x, const char *name, const char *value);
void emb_exchange_add_headerf(emb_exchange *x, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Answers. The body's memory is taken over and sent without copying; body may be NULL. Any thread. */
void emb_exchange_reply(emb_exchange *x, int status, const char *content_type, emb_buf *body);
/* The same with a text that is copied. */
void emb_exchange_reply_text(emb_exchange *x, int status, const char *content_type, const char *text,
                             size_t length);

/* Hands the exchange to a worker. false: as many as allowed are at work (or memory is short); nothing has
 * happened, answer 429 or 503 now. */
EMB_MUST_CHECK bool emb_exchange_park(emb_exchange *x, void (*work)(emb_exchange *x));

/* The same for work that is short but for its waits, as a call of a provider. If the loop has nothing else in
 * work, its own thread does it, without a change of threads, and gives the loop to another one before it
 * waits (base/duty.h). The work must pass the duty on before whatever may take long. */
EMB_MUST_CHECK bool emb_exchange_park_here(emb_exchange *x, void (*work)(emb_exchange *x));

/* An answer in pieces (server-sent events): begin, write any number of times, end. Of a worker. write waits
 * while the client is slow to read; false: the client has left. */
void emb_exchange_stream_begin(emb_exchange *x, int status, const char *content_type);
EMB_MUST_CHECK bool emb_exchange_stream_write(emb_exchange *x, const void *data, size_t length);
void emb_exchange_stream_end(emb_exchange *x);

#endif
