/*
 * internal.h: what the files of this room share. Who may touch what:
 *   loop         the thread that has it, one of the workers', apart from mailbox, counters and last_turn_ns (atomic)
 *   connection   its loop's thread
 *   exchange     its loop's thread until it is parked; then the worker, until the answer is posted to the
 *                mailbox; then the loop again. `connection`, `delivered` and what is marked so are always the
 *                loop's.
 */
#ifndef EMB_HTTP_INTERNAL_H
#define EMB_HTTP_INTERNAL_H

#include "base/clock.h"
#include "base/error.h"
#include "http/head.h"
#include "http/server.h"
#include "http/wire.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>

typedef struct emb_http_loop emb_http_loop;
typedef struct emb_http_connection emb_http_connection;
typedef struct emb_http_workers emb_http_workers;

/* ---- settings: an immutable block, counted; each loop holds the one it goes by ---- */

typedef struct emb_http_settings {
    atomic_uint references;
    size_t max_connections, max_head_bytes, max_body_bytes;
    uint64_t head_timeout_ns, body_timeout_ns, idle_timeout_ns, write_timeout_ns;
    SSL_CTX *tls; /* NULL: plain */
    char *cors;   /* NULL: none; lower case */
    bool cors_any;
} emb_http_settings;

EMB_MUST_CHECK emb_status emb_http_settings_open(const emb_http_options *options, emb_http_settings **out,
                                                 emb_error *err);
emb_http_settings *emb_http_settings_share(emb_http_settings *settings);
void emb_http_settings_close(emb_http_settings *settings);

/* ---- loops ---- */

/* What a loop's thread is asked to do by another: run(loop, mail). The mail belongs to run. */
typedef struct emb_http_mail {
    struct emb_http_mail *next;
    void (*run)(emb_http_loop *loop, struct emb_http_mail *mail);
} emb_http_mail;

enum { EMB_HTTP_SCRATCH = 65536, EMB_HTTP_TLS_RECORD = 16384 };

struct emb_http_loop {
    emb_http_server *server;
    struct event_base *base;
    struct event wake, tick;
    int wake_fd, epoll_fd; /* epoll_fd: what the base waits on; -1 if that is not known */
    bool events_added, thread_runs;
    bool turns; /* its thread is in libevent's loop */
    bool ended;
    emb_exchange *here;           /* parked, for its thread to do when it leaves libevent's loop */
    struct emb_http_worker *heir; /* asleep, kept for taking over the loop while that lasts */
    _Atomic(emb_http_mail *) mailbox;
    emb_http_settings *settings;
    emb_http_connection *connections;
    emb_exchange *spares; /* linked by next_spare */
    unsigned spare_count;
    uint64_t id_state[2];
    char *scratch, *tls_scratch; /* EMB_HTTP_SCRATCH, EMB_HTTP_TLS_RECORD */
    emb_http_head head;          /* of the head that is being read */
    atomic_size_t connection_count,
        active; /* written by this thread; connection_count also by the acceptor */
    _Atomic uint64_t last_turn_ns;
};

EMB_MUST_CHECK emb_status emb_http_loop_init(emb_http_loop *loop, emb_http_server *server, emb_error *err);
void emb_http_loop_fini(emb_http_loop *loop);
/* Any thread. */
void emb_http_loop_post(emb_http_loop *loop, emb_http_mail *mail);
/* What was posted and not yet run; of the loop's thread, or of anyone when that has ended. */
void emb_http_loop_run_mail(emb_http_loop *loop);

/* ---- listening ---- */

typedef struct emb_http_listener {
    emb_http_server *server;
    int fd;
    struct event readable, retry;
    bool accepting;
    char address[160];
    char *unix_path; /* NULL if not a unix socket */
    uint64_t device, inode;
} emb_http_listener;

/* Binds everything that `listen` names; *count listeners at *out, also to be closed after an error. */
EMB_MUST_CHECK emb_status emb_http_listen(const char *listen, emb_http_listener **out, size_t *count,
                                          emb_error *err);
/* Of loop 0's thread. */
EMB_MUST_CHECK emb_status emb_http_listener_start(emb_http_listener *listener, emb_http_server *server,
                                                  emb_error *err);
void emb_http_listener_stop(emb_http_listener *listener);
void emb_http_listeners_close(emb_http_listener *listeners, size_t count);

/* ---- connections ---- */

/* Takes over fd on the loop with the fewest connections. */
void emb_http_connection_accept(emb_http_server *server, int fd, const char *peer, bool tcp);
void emb_http_connection_answer(emb_http_connection *c);
void emb_http_connection_stream(emb_http_connection *c);
void emb_http_connections_close(emb_http_loop *loop);
/* Why the client was refused before there was a request. */
void emb_http_record_refusal(emb_http_server *server, const char *peer, const char *why, int status);

/* ---- workers ---- */

EMB_MUST_CHECK emb_status emb_http_workers_open(unsigned maximum, emb_http_workers **out, emb_error *err);
/* A thread that turns the loop until it has ended, passing it on to others in between. */
EMB_MUST_CHECK emb_status emb_http_workers_turn(emb_http_workers *workers, emb_http_loop *loop,
                                                emb_error *err);
/* here: the calling thread, which must be the loop's, may do it when it comes out of libevent. */
bool emb_http_workers_take(emb_http_workers *workers, emb_exchange *x, void (*work)(emb_exchange *x),
                           bool here);
/* Whether the calling thread works on x and has x's loop as well: then it runs x's mail by itself
 * afterwards. */
bool emb_http_workers_keep(emb_exchange *x);
/* The exchange's answer is given: its place is free, even while its function still runs. */
void emb_http_workers_free_place(emb_http_workers *workers);
size_t emb_http_workers_count(const emb_http_workers *workers);
/* Takes no more, and waits until nothing is in work; loops still turn. */
void emb_http_workers_finish(emb_http_workers *workers);
/* After it, and when all loops have ended: waits for their threads. */
void emb_http_workers_close(emb_http_workers *workers);

/* ---- exchanges ---- */

typedef struct emb_http_param {
    const char *name, *value;
} emb_http_param;

/* What a worker that streams and the loop share; under the lock. */
typedef struct emb_http_stream {
    pthread_mutex_t lock;
    pthread_cond_t room;
    emb_buf pending; /* written by the worker, not yet taken by the loop */
    emb_buf sending; /* the loop's */
    bool begun, ended, posted;
    bool cut;                 /* a piece was lost for lack of memory */
    bool head_sent, end_seen; /* the loop's */
    bool chunked;
} emb_http_stream;

struct emb_exchange {
    emb_http_mail mail; /* first: mail and exchange are one address */
    emb_http_loop *loop;
    emb_http_connection *connection; /* NULL: it has been closed; the loop's */
    emb_exchange *next_spare;
    atomic_uint references; /* the loop's, and the worker's while its function runs */
    atomic_bool answered;
    volatile int gone;
    bool parked;
    bool delivered; /* the answer has reached the loop */
    /* the request */
    emb_arena arena;
    const char *method_name, *path, *request_id;
    emb_http_method method;
    unsigned minor;
    bool keep_alive, head_only;
    bool asterisk; /* OPTIONS * */
    char *head;    /* names and values NUL-terminated in it */
    size_t field_count;
    emb_http_field fields[EMB_HTTP_MAX_FIELDS];
    emb_http_param *params;
    size_t param_count;
    const char *cors_origin; /* allowed and asked for, else NULL */
    bool cors;               /* configured */
    emb_buf body;
    char peer[64];
    uint64_t started_ns, received_ns;
    /* the application's */
    void *data;
    const char *route, *refused;
    char *key_name;
    void (*work)(emb_exchange *x);
    /* the answer */
    emb_buf extra, answer_head, answer;
    int status;
    size_t answer_bytes;
    bool close_after, broken; /* broken: memory ran out; the connection is closed without an answer */
    emb_http_stream stream;
};

enum { EMB_HTTP_BODY_PADDING = 64 };

/* With one reference; NULL when memory is short. */
emb_exchange *emb_http_exchange_open(emb_http_loop *loop);
/* Of the loop: tells the record, and drops the loop's reference. */
void emb_http_exchange_done(emb_exchange *x);
/* One that nobody refers to. */
void emb_http_exchange_free(emb_exchange *x);
/* Of the worker. */
void emb_http_exchange_drop(emb_exchange *x);
/* Copies what the head says. A fault, DONE, or MORE for lack of memory. */
emb_http_progress emb_http_exchange_take_head(emb_exchange *x, const emb_http_head *head, const char *data);
EMB_MUST_CHECK bool emb_http_exchange_reserve_body(emb_exchange *x, size_t length);
void emb_http_exchange_set_gone(emb_exchange *x);
bool emb_http_exchange_is_gone(const emb_exchange *x);
/* Answers in the form of the API's errors and closes the connection after it. */
void emb_http_exchange_refuse(emb_exchange *x, const emb_http_fault *fault);
/* 500: the application gave no answer. */
void emb_http_exchange_fail(emb_exchange *x);
/* Gives an id and what else an exchange without a head needs. false: no memory. */
bool emb_http_exchange_set_id(emb_exchange *x, const char *asked);
/* Header lookup by span; NULL if absent. */
const char *emb_http_exchange_field(const emb_exchange *x, const char *lower_name, size_t *length);
/* The preflight and "*" of OPTIONS; false: it is for the application. */
bool emb_http_exchange_answer_options(emb_exchange *x, bool asterisk);
/* The answer's head in x->answer_head. body_length SIZE_MAX: in pieces. */
bool emb_http_compose_head(emb_exchange *x, int status, const char *content_type, size_t body_length);
void emb_http_cors_set(emb_exchange *x, const emb_http_settings *settings);

/* ---- the server ---- */

struct emb_http_server {
    emb_http_options options; /* handle, record, context; strings are not kept here */
    char *server_name;
    emb_http_loop *loops;
    unsigned loop_count;
    emb_http_listener *listeners;
    size_t listener_count;
    emb_http_workers *workers;
    atomic_bool stopping;
    pthread_mutex_t lock;   /* for changed */
    pthread_cond_t changed; /* an exchange ended while stopping, or a loop did what it was asked */
};

size_t emb_http_server_active(const emb_http_server *server);
/* Wakes who waits for `changed`. */
void emb_http_server_notify(emb_http_server *server);

#endif
