/*
 * redis.h: commands to a Redis server, many in one round trip, each call within its deadline whatever the
 * server does.
 *
 *     emb_redis *redis;
 *     emb_redis_open("redis://user:secret@localhost:6379/2", NULL, &redis, err);    // does not connect
 *     emb_redis_batch batch; emb_redis_replies replies;
 *     emb_redis_batch_init(&batch);
 *     emb_redis_command(&batch, 2); emb_redis_text(&batch, "GET"); emb_redis_bytes(&batch, key, n);
 *     if ((st = emb_redis_call(redis, &batch, deadline_ns, &replies, err)) == EMB_OK) {
 *         const emb_redis_reply *reply = replies.list[0];     // a command's own failure is a reply:
 *         st = emb_redis_check(redis, reply, err);            // OOM, READONLY, WRONGTYPE… as an error
 *         emb_redis_replies_fini(&replies);
 *     }
 *     emb_redis_batch_fini(&batch);                           // or _clear, and use it again
 *
 * URLs: redis://[[user]:password@]host[:port][/db], unix://[…@]/path/to/socket[?db=n]; user, password and
 * path percent-encoded. TLS (rediss://) is refused: Debian's hiredis has none. Redis Cluster is not spoken.
 *
 * Thread-safe: a call takes a connection of its own from a small pool. A connection that failed or did not
 * answer in time is closed and never used again, so that no call ever reads another's answer. A batch may be
 * sent a second time when a connection that had been idle turns out to be dead, unless batch.once is set.
 * Errors name the server and never hold user, password or keys.
 */
#ifndef EMB_STORE_REDIS_H
#define EMB_STORE_REDIS_H

#include "base/arena.h"
#include "base/buf.h"
#include "store/param.h"

#include <pthread.h>

typedef struct emb_redis emb_redis;

typedef struct emb_redis_options {
    unsigned connections; /* 0: 8 */
    uint32_t connect_ms;  /* 0: 1000 */
    uint32_t idle_ms;     /* 0: 60000 */
    size_t reply_bytes;   /* most that one call's answers may take; 0: 256 MiB */
} emb_redis_options;

/* options may be NULL. A URL that cannot be understood is EMB_E_INVALID, rediss:// EMB_E_UNSUPPORTED. */
EMB_MUST_CHECK emb_status emb_redis_open(const char *url, const emb_redis_options *options, emb_redis **out,
                                         emb_error *err);
void emb_redis_close(emb_redis *redis); /* no call may be running; takes NULL */
/* "Redis at localhost:6379". */
const char *emb_redis_where(const emb_redis *redis);
/* Closes connections that have been idle for long. */
void emb_redis_tidy(emb_redis *redis);

/* ---- commands ---- */

typedef struct emb_redis_batch {
    emb_buf bytes;
    size_t commands;
    size_t missing;    /* arguments of the last command that are not there yet */
    emb_status status; /* the first failure to add something: the call reports it */
    bool once;         /* must never be sent twice */
} emb_redis_batch;

void emb_redis_batch_init(emb_redis_batch *batch);
void emb_redis_batch_fini(emb_redis_batch *batch);
void emb_redis_batch_clear(emb_redis_batch *batch);
/* Begins a command of this many arguments, its name included. */
void emb_redis_command(emb_redis_batch *batch, size_t arguments);
void emb_redis_bytes(emb_redis_batch *batch, const void *data, size_t length);
void emb_redis_text(emb_redis_batch *batch, const char *text);
void emb_redis_int(emb_redis_batch *batch, int64_t value);
void emb_redis_param(emb_redis_batch *batch, const emb_param *value);

/* ---- answers ---- */

typedef enum emb_redis_type {
    EMB_REDIS_NIL,
    EMB_REDIS_TEXT, /* bytes; a NUL follows */
    EMB_REDIS_STATUS,
    EMB_REDIS_ERROR,
    EMB_REDIS_INTEGER,
    EMB_REDIS_ARRAY
} emb_redis_type;

typedef struct emb_redis_reply {
    emb_redis_type type;
    int64_t integer;
    const char *text; /* of TEXT, STATUS, ERROR */
    size_t length;    /* of the text, or the elements */
    struct emb_redis_reply *elements;
} emb_redis_reply;

typedef struct emb_redis_replies {
    emb_arena arena;
    emb_redis_reply **list; /* one for each command */
    size_t count;
    size_t bytes, limit;
} emb_redis_replies;

/* Sends the batch and reads all answers. On failure there are no replies. An empty batch is answered at
 * once. */
EMB_MUST_CHECK emb_status emb_redis_call(emb_redis *redis, const emb_redis_batch *batch, uint64_t deadline_ns,
                                         emb_redis_replies *out, emb_error *err);
void emb_redis_replies_fini(emb_redis_replies *replies);
/* The failure that a reply states, in words; EMB_OK for every other reply. */
EMB_MUST_CHECK emb_status emb_redis_check(const emb_redis *redis, const emb_redis_reply *reply,
                                          emb_error *err);
/* Whether it is an error that begins with this word. */
bool emb_redis_is_error(const emb_redis_reply *reply, const char *word);
/* The same as emb_redis_check, and that it has this type: a server that answers with another is no Redis. */
EMB_MUST_CHECK emb_status emb_redis_expect(const emb_redis *redis, const emb_redis_reply *reply,
                                           emb_redis_type type, emb_error *err);

/* ---- scripts ---- */

/*
 *     static emb_redis_script TAKE = EMB_REDIS_SCRIPT("return redis.call('DECRBY', KEYS[1], ARGV[1])");
 *
 * Sent whole once, afterwards by its digest; a server that has forgotten it is given it again.
 */
typedef struct emb_redis_script {
    const char *source;
    pthread_mutex_t lock;
    char digest[41];
} emb_redis_script;
#define EMB_REDIS_SCRIPT(text)                              \
    {                                                       \
        .source = (text), .lock = PTHREAD_MUTEX_INITIALIZER \
    }

/* One reply, whose error is the call's failure. It may run twice only where `once` is false. */
EMB_MUST_CHECK emb_status emb_redis_eval(emb_redis *redis, emb_redis_script *script, const emb_param *keys,
                                         size_t key_count, const emb_param *arguments, size_t argument_count,
                                         bool once, uint64_t deadline_ns, emb_redis_replies *out,
                                         emb_error *err);
/* The same for a script without keys that may run twice and gives an integer; 0 after a failure. */
EMB_MUST_CHECK emb_status emb_redis_ask(emb_redis *redis, emb_redis_script *script,
                                        const emb_param *arguments, size_t count, uint64_t deadline_ns,
                                        int64_t *out, emb_error *err);

#endif
