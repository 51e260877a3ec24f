/*
 * URLs, batches, the calls, and scripts; one connection is redis_link.c, their pool pool.c.
 *
 * A batch is the protocol's bytes, written as commands are added, so that sending is one copy-free write.
 * Failures to add are kept and reported by the call: commands are built in long rows, and a check after each
 * would drown them.
 *
 * A connection is closed, not returned, when its exchange failed in any way, and also when the server says
 * that it is read-only or has lost its master: after a failover the name may lead to another server, which
 * only a new connection finds.
 */
#include "store/redis.h"

#include "base/clock.h"
#include "base/error.h"
#include "store/pool.h"
#include "store/redis_link.h"
#include "store/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS = 8, CONNECT_MS = 1000, IDLE_MS = 60000, PORT = 6379, MAX_DATABASE = 1 << 20 };
static const size_t REPLY_BYTES = (size_t)256 << 20, BATCH_BYTES = (size_t)512 << 20;

struct emb_redis {
    emb_pool *pool;
    emb_redis_address *address; /* the pool's, which outlives all calls */
    size_t reply_bytes;
};

/* ---- opening ---- */

static void free_address(void *context)
{
    emb_redis_address *a = context;
    if (!a)
        return;
    if (a->password)
        explicit_bzero(a->password, strlen(a->password));
    free(a->host);
    free(a->socket_path);
    free(a->user);
    free(a->password);
    free(a);
}

static emb_status dial(void *context, uint64_t deadline_ns, const atomic_bool *stop, void **out,
                       emb_error *err)
{
    emb_redis_link *link = NULL;
    emb_status st = emb_redis_link_dial(context, deadline_ns, stop, &link, err);
    *out = link;
    return st;
}

static bool alive(void *link)
{
    return emb_redis_link_alive(link);
}

static void hang_up(void *link)
{
    emb_redis_link_hang_up(link);
}

static const emb_pool_kind KIND = {dial, alive, hang_up, free_address};

static emb_status read_database(const char *text, unsigned *out, emb_error *err)
{
    char *end;
    if (!text || !*text)
        return EMB_OK;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || value > MAX_DATABASE)
        return emb_fail(err, EMB_E_INVALID, "url", "the number of the Redis database is not one from 0 to %d",
                        MAX_DATABASE);
    *out = (unsigned)value;
    return EMB_OK;
}

static bool copy(const char *text, char **out)
{
    return !text || (*out = strdup(text));
}

static emb_status read_place(const emb_url *url, emb_redis_address *a, emb_error *err)
{
    bool is_unix = strcmp(url->scheme, "unix") == 0, enough;
    const char *host = url->host ? url->host : "localhost";
    if (is_unix && !url->path)
        return emb_fail(err, EMB_E_INVALID, "url",
                        "the URL lacks the path of the socket, as in unix:///run/redis.sock");
    if (is_unix) {
        snprintf(a->where, sizeof a->where, "Redis at %.100s", url->path);
        enough = copy(url->path, &a->socket_path);
    } else {
        a->port = url->port ? url->port : PORT;
        snprintf(a->where, sizeof a->where, "Redis at %.100s:%u", host, a->port);
        enough = copy(host, &a->host);
    }
    if (!enough || !copy(url->user, &a->user) || !copy(url->password, &a->password))
        return emb_fail_nomem(err, "url", strlen(host));
    if (!is_unix && url->path) {
        emb_status st = read_database(url->path + 1, &a->database, err);
        if (st != EMB_OK)
            return st;
    }
    return read_database(emb_url_option(url, "db"), &a->database, err);
}

static emb_status read_address(const char *text, emb_redis_address *a, emb_error *err)
{
    emb_url url;
    emb_status st = emb_url_parse(text, &url, err);
    if (st != EMB_OK)
        return st;
    if (strcmp(url.scheme, "rediss") == 0)
        st = emb_fail(
            err, EMB_E_UNSUPPORTED, "url",
            "rediss:// (Redis over TLS) is not supported; use redis:// through a tunnel, or a unix socket");
    else if (strcmp(url.scheme, "redis") != 0 && strcmp(url.scheme, "unix") != 0)
        st = emb_fail(err, EMB_E_INVALID, "url", "a Redis URL begins with redis:// or unix://");
    else if (url.user && !url.password)
        st = emb_fail(
            err, EMB_E_INVALID, "url",
            "the URL has a user and no password; a password alone is written redis://:password@host");
    else
        st = read_place(&url, a, err);
    if (url.password)
        explicit_bzero(url.password, strlen(url.password));
    emb_url_fini(&url);
    return st;
}

emb_status emb_redis_open(const char *url, const emb_redis_options *options, emb_redis **out, emb_error *err)
{
    static const emb_redis_options none = {0};
    const emb_redis_options *o = options ? options : &none;
    emb_redis *redis = calloc(1, sizeof *redis);
    emb_redis_address *address = calloc(1, sizeof *address);
    emb_status st = EMB_OK;
    if (!redis || !address)
        st = emb_fail_nomem(err, "a Redis store", sizeof *redis);
    if (st == EMB_OK)
        st = read_address(url, address, err);
    if (st == EMB_OK) {
        emb_pool_options p = {address->where, o->connections ? o->connections : CONNECTIONS,
                              o->connect_ms ? o->connect_ms : CONNECT_MS, o->idle_ms ? o->idle_ms : IDLE_MS};
        st = emb_pool_open(&KIND, address, &p, &redis->pool, err);
    }
    if (st != EMB_OK) {
        free_address(address);
        free(redis);
        return st;
    }
    redis->address = address;
    redis->reply_bytes = o->reply_bytes ? o->reply_bytes : REPLY_BYTES;
    *out = redis;
    return EMB_OK;
}

void emb_redis_close(emb_redis *redis)
{
    if (redis)
        emb_pool_close(redis->pool);
    free(redis);
}

const char *emb_redis_where(const emb_redis *redis)
{
    return redis->address->where;
}

void emb_redis_tidy(emb_redis *redis)
{
    emb_pool_tidy(redis->pool);
}

/* ---- batches ---- */

void emb_redis_batch_init(emb_redis_batch *batch)
{
    *batch = (emb_redis_batch){0};
    emb_buf_init(&batch->bytes, BATCH_BYTES);
}

void emb_redis_batch_fini(emb_redis_batch *batch)
{
    emb_buf_fini(&batch->bytes);
}

void emb_redis_batch_clear(emb_redis_batch *batch)
{
    emb_buf_clear(&batch->bytes);
    batch->commands = batch->missing = 0;
    batch->status = EMB_OK;
    batch->once = false;
}

static void add(emb_redis_batch *batch, const void *data, size_t length)
{
    if (batch->status == EMB_OK)
        batch->status = emb_buf_add(&batch->bytes, data, length);
}

static void add_header(emb_redis_batch *batch, char type, size_t value)
{
    char header[32];
    add(batch, header, (size_t)snprintf(header, sizeof header, "%c%zu\r\n", type, value));
}

void emb_redis_command(emb_redis_batch *batch, size_t arguments)
{
    if (batch->missing || !arguments)
        batch->status = EMB_E_INTERNAL;
    batch->commands++;
    batch->missing = arguments;
    add_header(batch, '*', arguments);
}

void emb_redis_bytes(emb_redis_batch *batch, const void *data, size_t length)
{
    if (!batch->missing)
        batch->status = EMB_E_INTERNAL;
    else
        batch->missing--;
    add_header(batch, '$', length);
    add(batch, data, length);
    add(batch, "\r\n", 2);
}

void emb_redis_text(emb_redis_batch *batch, const char *text)
{
    emb_redis_bytes(batch, text, strlen(text));
}

void emb_redis_int(emb_redis_batch *batch, int64_t value)
{
    char text[32];
    emb_redis_bytes(batch, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)value));
}

void emb_redis_param(emb_redis_batch *batch, const emb_param *value)
{
    if (value->kind == EMB_PARAM_INT || value->kind == EMB_PARAM_INT4)
        emb_redis_int(batch, value->integer);
    else
        emb_redis_bytes(batch, value->data, value->length);
}

/* ---- calls ---- */

/* The server would refuse every write of this connection from now on. */
static bool wants_another(const emb_redis_replies *replies)
{
    for (size_t i = 0; i < replies->count; i++)
        if (emb_redis_is_error(replies->list[i], "READONLY") ||
            emb_redis_is_error(replies->list[i], "MASTERDOWN") ||
            emb_redis_is_error(replies->list[i], "NOAUTH"))
            return true;
    return false;
}

static emb_status call_once(emb_redis *redis, const emb_redis_batch *batch, uint64_t deadline_ns,
                            emb_redis_replies *out, bool *stale, emb_error *err)
{
    void *link;
    bool reused, gone;
    emb_status st = emb_pool_acquire(redis->pool, deadline_ns, &link, &reused, err);
    *stale = false;
    if (st != EMB_OK)
        return st;
    out->limit = redis->reply_bytes;
    st = emb_redis_link_exchange(link, &batch->bytes, batch->commands, deadline_ns, out, &gone, err);
    emb_pool_release(redis->pool, link, st != EMB_OK || wants_another(out));
    if (st != EMB_OK && gone) {
        emb_pool_renew(redis->pool);
        *stale = reused;
    }
    return st;
}

emb_status emb_redis_call(emb_redis *redis, const emb_redis_batch *batch, uint64_t deadline_ns,
                          emb_redis_replies *out, emb_error *err)
{
    bool stale;
    *out = (emb_redis_replies){0};
    emb_arena_init(&out->arena);
    if (batch->status != EMB_OK)
        return emb_fail(err, batch->status, emb_redis_where(redis),
                        "%s: the commands could not be put together: %s", emb_redis_where(redis),
                        emb_status_text(batch->status));
    if (batch->missing)
        return emb_fail(err, EMB_E_INTERNAL, emb_redis_where(redis), "a Redis command lacks %zu arguments",
                        batch->missing);
    if (!batch->commands)
        return EMB_OK;
    emb_status st = call_once(redis, batch, deadline_ns, out, &stale, err);
    if (st != EMB_OK && stale && !batch->once)
        st = call_once(redis, batch, deadline_ns, out, &stale, err);
    return st;
}

void emb_redis_replies_fini(emb_redis_replies *replies)
{
    emb_arena_fini(&replies->arena);
    *replies = (emb_redis_replies){0};
    emb_arena_init(&replies->arena);
}

bool emb_redis_is_error(const emb_redis_reply *reply, const char *word)
{
    size_t n = strlen(word);
    return reply->type == EMB_REDIS_ERROR && reply->length >= n && memcmp(reply->text, word, n) == 0 &&
           (reply->length == n || reply->text[n] == ' ');
}

emb_status emb_redis_check(const emb_redis *redis, const emb_redis_reply *reply, emb_error *err)
{
    return reply->type == EMB_REDIS_ERROR ? emb_redis_link_refusal(emb_redis_where(redis), reply, err)
                                          : EMB_OK;
}

emb_status emb_redis_expect(const emb_redis *redis, const emb_redis_reply *reply, emb_redis_type type,
                            emb_error *err)
{
    emb_status st = emb_redis_check(redis, reply, err);
    if (st == EMB_OK && reply->type != type)
        st = emb_fail(err, EMB_E_CORRUPT, emb_redis_where(redis),
                      "%s answered with another type than Redis does", emb_redis_where(redis));
    return st;
}

/* ---- scripts ---- */

static void add_eval(emb_redis_batch *batch, const char *command, const char *what, const emb_param *keys,
                     size_t key_count, const emb_param *arguments, size_t argument_count)
{
    emb_redis_command(batch, 3 + key_count + argument_count);
    emb_redis_text(batch, command);
    emb_redis_text(batch, what);
    emb_redis_int(batch, (int64_t)key_count);
    for (size_t i = 0; i < key_count; i++)
        emb_redis_param(batch, &keys[i]);
    for (size_t i = 0; i < argument_count; i++)
        emb_redis_param(batch, &arguments[i]);
}

/* The digest, asked of the server the first time: one more round trip once in a process. */
static emb_status learn_digest(emb_redis *redis, emb_redis_script *script, char digest[41],
                               uint64_t deadline_ns, emb_error *err)
{
    pthread_mutex_lock(&script->lock);
    memcpy(digest, script->digest, 41);
    pthread_mutex_unlock(&script->lock);
    if (digest[0])
        return EMB_OK;
    emb_redis_batch batch;
    emb_redis_replies replies;
    emb_redis_batch_init(&batch);
    emb_redis_command(&batch, 3);
    emb_redis_text(&batch, "SCRIPT");
    emb_redis_text(&batch, "LOAD");
    emb_redis_text(&batch, script->source);
    emb_status st = emb_redis_call(redis, &batch, deadline_ns, &replies, err);
    emb_redis_batch_fini(&batch);
    if (st != EMB_OK)
        return st;
    st = emb_redis_expect(redis, replies.list[0], EMB_REDIS_TEXT, err);
    if (st == EMB_OK && replies.list[0]->length != 40)
        st = emb_fail(err, EMB_E_CORRUPT, emb_redis_where(redis), "%s gave a script no digest",
                      emb_redis_where(redis));
    if (st == EMB_OK) {
        memcpy(digest, replies.list[0]->text, 41);
        pthread_mutex_lock(&script->lock);
        memcpy(script->digest, digest, 41);
        pthread_mutex_unlock(&script->lock);
    }
    emb_redis_replies_fini(&replies);
    return st;
}

emb_status emb_redis_eval(emb_redis *redis, emb_redis_script *script, const emb_param *keys, size_t key_count,
                          const emb_param *arguments, size_t argument_count, bool once, uint64_t deadline_ns,
                          emb_redis_replies *out, emb_error *err)
{
    char digest[41];
    emb_redis_batch batch;
    *out = (emb_redis_replies){0};
    emb_arena_init(&out->arena);
    emb_status st = learn_digest(redis, script, digest, deadline_ns, err);
    if (st != EMB_OK)
        return st;
    emb_redis_batch_init(&batch);
    add_eval(&batch, "EVALSHA", digest, keys, key_count, arguments, argument_count);
    batch.once = once;
    st = emb_redis_call(redis, &batch, deadline_ns, out, err);
    if (st == EMB_OK &&
        emb_redis_is_error(out->list[0], "NOSCRIPT")) { /* restarted meanwhile: nothing was run */
        emb_redis_replies_fini(out);
        emb_redis_batch_clear(&batch);
        add_eval(&batch, "EVAL", script->source, keys, key_count, arguments, argument_count);
        batch.once = once;
        st = emb_redis_call(redis, &batch, deadline_ns, out, err);
    }
    if (st == EMB_OK && (st = emb_redis_check(redis, out->list[0], err)) != EMB_OK)
        emb_redis_replies_fini(out);
    emb_redis_batch_fini(&batch);
    return st;
}

emb_status emb_redis_ask(emb_redis *redis, emb_redis_script *script, const emb_param *arguments, size_t count,
                         uint64_t deadline_ns, int64_t *out, emb_error *err)
{
    emb_redis_replies replies;
    *out = 0;
    emb_status st =
        emb_redis_eval(redis, script, NULL, 0, arguments, count, false, deadline_ns, &replies, err);
    if (st != EMB_OK)
        return st;
    if ((st = emb_redis_expect(redis, replies.list[0], EMB_REDIS_INTEGER, err)) == EMB_OK)
        *out = replies.list[0]->integer;
    emb_redis_replies_fini(&replies);
    return st;
}
