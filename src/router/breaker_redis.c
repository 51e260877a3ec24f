/*
 * Breakers in Redis.
 *
 *     embedd:breaker:v1           set of names
 *     embedd:breaker:v1:s:NAME    hash: version, open, until (milliseconds of the server's clock), openings, reason
 *     embedd:breaker:v1:p:NAME    who may probe; expires by itself
 *
 * Every call is one script by the server's time. Records are kept for ever: there is one for each provider.
 */
#include "base/error.h"
#include "router/breaker_store.h"
#include "store/redis.h"

#include <stdlib.h>

#define LUA_COMMON                                                                    \
    "local P = 'embedd:breaker:v1' "                                                  \
    "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) " \
    "local function text(n) return string.format('%.0f', n) end "                     \
    "local function state(name) return P..':s:'..name end "                           \
    "local function prober(name) return P..':p:'..name end "

/* ARGV: name, open, milliseconds left, openings, reason, force, version. */
static emb_redis_script WRITE = EMB_REDIS_SCRIPT(
    LUA_COMMON
    "local key = state(ARGV[1]) "
    "local version = redis.call('HGET', key, 'version') "
    "if version and ARGV[2] ~= '1' and ARGV[6] ~= '1' and version ~= ARGV[7] then return 0 end "
    "redis.call('SADD', P, ARGV[1]) "
    "redis.call('HSET', key, 'open', ARGV[2], 'until', text(now + tonumber(ARGV[3])), 'openings', ARGV[4], "
    " 'reason', ARGV[5]) "
    "redis.call('DEL', prober(ARGV[1])) "
    "return redis.call('HINCRBY', key, 'version', 1)");
static emb_redis_script READ = EMB_REDIS_SCRIPT(
    LUA_COMMON
    "local out = {} "
    "for _, name in ipairs(redis.call('SMEMBERS', P)) do "
    " local r = redis.call('HMGET', state(name), 'version', 'open', 'until', 'openings', 'reason') "
    " if r[1] then "
    "  out[#out + 1] = name out[#out + 1] = r[1] out[#out + 1] = r[2] "
    "  out[#out + 1] = text(tonumber(r[3]) - now) out[#out + 1] = r[4] out[#out + 1] = r[5] end end "
    "return out");
/* ARGV: name, who, milliseconds it lasts, milliseconds it may be early. */
static emb_redis_script PROBE = EMB_REDIS_SCRIPT(
    LUA_COMMON "local r = redis.call('HMGET', state(ARGV[1]), 'open', 'until') "
               "if r[1] and (r[1] ~= '1' or tonumber(r[2]) > now + tonumber(ARGV[4])) then return 0 end "
               "local who = redis.call('GET', prober(ARGV[1])) "
               "if who and who ~= ARGV[2] then return 0 end "
               "redis.call('SET', prober(ARGV[1]), ARGV[2], 'PX', ARGV[3]) "
               "return 1");
static emb_redis_script RELEASE = EMB_REDIS_SCRIPT(
    LUA_COMMON "if redis.call('GET', prober(ARGV[1])) == ARGV[2] then redis.call('DEL', prober(ARGV[1])) end "
               "return 1");

enum { FIELDS = 6 };

typedef struct redis_store {
    emb_breaker_store base;
    emb_redis *redis;
} redis_store;

static emb_redis *redis_of(emb_breaker_store *store)
{
    return ((redis_store *)store)->redis;
}

static emb_status redis_write(emb_breaker_store *store, const emb_breaker_record *r, bool force,
                              uint64_t *version, uint64_t deadline_ns, emb_error *err)
{
    const emb_param a[] = {emb_param_text(r->name),           emb_param_int(r->is_open),
                           emb_param_int(r->left_ms),         emb_param_int(r->openings),
                           emb_param_text(r->reason),         emb_param_int(force),
                           emb_param_int((int64_t)r->version)};
    int64_t out;
    emb_status st = emb_redis_ask(redis_of(store), &WRITE, a, 7, deadline_ns, &out, err);
    *version = (uint64_t)out;
    return st;
}

static void tell(const emb_redis_reply *e, emb_breaker_seen seen, void *context)
{
    for (int i = 0; i < FIELDS; i++)
        if (e[i].type != EMB_REDIS_TEXT)
            return;
    emb_breaker_record r = {.name = e[0].text,
                            .version = strtoull(e[1].text, NULL, 10),
                            .is_open = e[2].text[0] == '1',
                            .left_ms = strtoll(e[3].text, NULL, 10),
                            .openings = (unsigned)strtoul(e[4].text, NULL, 10),
                            .reason = e[5].text};
    seen(context, &r);
}

static emb_status redis_read(emb_breaker_store *store, emb_breaker_seen seen, void *context,
                             uint64_t deadline_ns, emb_error *err)
{
    emb_redis *redis = redis_of(store);
    emb_redis_replies replies;
    emb_redis_tidy(redis);
    emb_status st = emb_redis_eval(redis, &READ, NULL, 0, NULL, 0, false, deadline_ns, &replies, err);
    if (st != EMB_OK)
        return st;
    const emb_redis_reply *r = replies.list[0];
    if ((st = emb_redis_expect(redis, r, EMB_REDIS_ARRAY, err)) == EMB_OK)
        for (size_t i = 0; i + FIELDS <= r->length; i += FIELDS)
            tell(&r->elements[i], seen, context);
    emb_redis_replies_fini(&replies);
    return st;
}

static emb_status redis_probe(emb_breaker_store *store, const char *name,
                              const uint8_t prober[EMB_BREAKER_PROBER], uint32_t probe_s, bool *granted,
                              uint64_t deadline_ns, emb_error *err)
{
    const emb_param a[] = {emb_param_text(name), emb_param_bytes(prober, EMB_BREAKER_PROBER),
                           emb_param_int(probe_s * INT64_C(1000)), emb_param_int(EMB_BREAKER_SLACK_MS)};
    int64_t out;
    emb_status st = emb_redis_ask(redis_of(store), &PROBE, a, 4, deadline_ns, &out, err);
    *granted = st == EMB_OK && out == 1;
    return st;
}

static emb_status redis_release(emb_breaker_store *store, const char *name,
                                const uint8_t prober[EMB_BREAKER_PROBER], uint64_t deadline_ns,
                                emb_error *err)
{
    const emb_param a[] = {emb_param_text(name), emb_param_bytes(prober, EMB_BREAKER_PROBER)};
    int64_t unused;
    return emb_redis_ask(redis_of(store), &RELEASE, a, 2, deadline_ns, &unused, err);
}

static void redis_close(emb_breaker_store *store)
{
    emb_redis_close(redis_of(store));
    free(store);
}

static const emb_breaker_store_ops OPS = {redis_write, redis_read, redis_probe, redis_release, redis_close};

emb_status emb_breaker_redis_open(const char *url, emb_breaker_store **out, emb_error *err)
{
    redis_store *q = calloc(1, sizeof *q);
    if (!q)
        return emb_fail_nomem(err, "the breakers' store", sizeof *q);
    q->base.ops = &OPS;
    emb_status st = emb_redis_open(url, NULL, &q->redis, err);
    if (st != EMB_OK) {
        free(q);
        return st;
    }
    *out = &q->base;
    return EMB_OK;
}
