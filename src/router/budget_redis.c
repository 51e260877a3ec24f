/*
 * A budget in Redis, shared by any number of machines.
 *
 *     embedd:budget:v1:total:DAY   hash: "s" + scope: spent; "u" + scope: used, that is spent and reserved
 *     embedd:budget:v1:tickets     hash: id → day, amount, scopes (MessagePack)
 *     embedd:budget:v1:until       sorted set of ids by the server's time at which they are given up
 *     embedd:budget:v1:gone:ID     a ticket that was given up: what was counted for it; "done": must not count (again)
 *     embedd:budget:v1:epoch       four random bytes, made with the data: new ones mean that Redis lost it
 *
 * Every step is one script, which Redis runs alone; its time is the server's, so that clocks of machines do
 * not matter. Lua counts in doubles: single amounts are exact in them, sums are added by HINCRBY and compared
 * as texts of digits, exact up to 2^63.
 *
 * A reserve is not sent with `once`: the ticket's id makes it the same if it comes twice. The last four bytes
 * of an id are the epoch in which it was made; so a settlement whose ticket is not there tells apart "was
 * settled already" (nothing to do) and "Redis lost it" (the money was spent all the same, and is added).
 *
 * Redis must not evict (maxmemory-policy noeviction, or volatile-* with room to spare): an evicted total is
 * forgotten spending. The keys of totals expire a week after their day.
 */
#include "base/error.h"
#include "crypto/crypto.h"
#include "router/budget_store.h"
#include "store/redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "embedd:budget:v1:"

enum { EPOCH = 4, ARGUMENTS_MAX = EMB_BUDGET_SETTLE_BATCH * (5 + EMB_BUDGET_SCOPES) };

typedef struct redis_store {
    emb_budget_store base;
    emb_budget_store_options options;
    emb_redis *redis;
    pthread_mutex_t lock;
    uint8_t epoch[EPOCH]; /* as far as is known */
} redis_store;

#define LUA_COMMON                                                                       \
    "local P = '" PREFIX "' "                                                            \
    "local T, U = P..'tickets', P..'until' "                                             \
    "local function text(n) return string.format('%.0f', n) end "                        \
    "local function add(total, scope, used, spent) "                                     \
    " if used ~= 0 then redis.call('HINCRBY', total, 'u'..scope, text(used)) end "       \
    " if spent ~= 0 then redis.call('HINCRBY', total, 's'..scope, text(spent)) end end " \
    "local function keep(total) redis.call('EXPIRE', total, 777600) end "

/* ARGV: id, day, amount, milliseconds it lasts, an epoch if there is none, then scope and limit ("": none) by
 * turns. Gives {"new", epoch}: make another id; {"no", which, spent, used}; {"yes", spent, used, spent, used,
 * …}. */
static emb_redis_script RESERVE = EMB_REDIS_SCRIPT(
    LUA_COMMON "local id, day, n = ARGV[1], ARGV[2], tonumber(ARGV[3]) "
               "local total = P..'total:'..day "
               "local epoch = redis.call('GET', P..'epoch') "
               "if not epoch then epoch = ARGV[5] redis.call('SET', P..'epoch', epoch) end "
               "local function over(a, limit) return #a > #limit or (#a == #limit and a > limit) end "
               "local function use(scope) return redis.call('HGET', total, 's'..scope) or '0', "
               " redis.call('HGET', total, 'u'..scope) or '0' end "
               "local scopes, out = {}, {'yes'} "
               "if redis.call('HEXISTS', T, id) == 0 then "
               " if string.sub(id, 13) ~= epoch then return {'new', epoch} end "
               " if redis.call('EXISTS', P..'gone:'..id) == 1 then return {'new', epoch} end "
               " for i = 6, #ARGV, 2 do "
               "  add(total, ARGV[i], n, 0) "
               "  local spent, used = use(ARGV[i]) "
               "  if ARGV[i + 1] ~= '' and over(used, ARGV[i + 1]) then "
               "   for j = 6, i, 2 do add(total, ARGV[j], -n, 0) end "
               "   spent, used = use(ARGV[i]) "
               "   return {'no', text((i - 6) / 2), spent, used} end "
               "  scopes[#scopes + 1] = ARGV[i] end "
               " local t = redis.call('TIME') "
               " redis.call('HSET', T, id, cmsgpack.pack({day, ARGV[3], scopes})) "
               " redis.call('ZADD', U, text(t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[4])), id) "
               " keep(total) end "
               "for i = 6, #ARGV, 2 do out[#out + 1], out[#out + 2] = use(ARGV[i]) end "
               "return out");

/* ARGV: for each: id, day, what it cost, how sure (a digit), how many scopes, and these. */
static emb_redis_script SETTLE = EMB_REDIS_SCRIPT(
    LUA_COMMON
    "local epoch = redis.call('GET', P..'epoch') "
    "local i = 1 "
    "while i <= #ARGV do "
    " local id, day, n, sureness, count = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], "
    "tonumber(ARGV[i + 4]) "
    " local total, gone = P..'total:'..day, P..'gone:'..id "
    " local ticket, used, spent = redis.call('HGET', T, id), nil, n "
    " if ticket then "
    "  used = n - tonumber(cmsgpack.unpack(ticket)[2]) "
    "  redis.call('HDEL', T, id) redis.call('ZREM', U, id) "
    " else "
    "  local counted = redis.call('GET', gone) "
    "  if counted then if counted ~= 'done' then used = n - tonumber(counted) spent = used end "
    "  elseif sureness ~= '1' and string.sub(id, 13) ~= epoch then used = n end end "
    " if sureness ~= '0' or (used and not ticket) then redis.call('SET', gone, 'done', 'EX', 172800) end "
    " if used then "
    "  for j = i + 5, i + 4 + count do add(total, ARGV[j], used, spent) end "
    "  keep(total) end "
    " i = i + 5 + count end "
    "return 1");

/* ARGV: "1" if they count as spent, how many at most. */
static emb_redis_script EXPIRE = EMB_REDIS_SCRIPT(
    LUA_COMMON
    "local t = redis.call('TIME') "
    "local ids = redis.call('ZRANGEBYSCORE', U, '-inf', text(t[1] * 1000 + math.floor(t[2] / 1000)), "
    " 'LIMIT', 0, ARGV[2]) "
    "for _, id in ipairs(ids) do "
    " local packed = redis.call('HGET', T, id) "
    " if packed then "
    "  local ticket = cmsgpack.unpack(packed) "
    "  local total, n, counted = P..'total:'..ticket[1], tonumber(ticket[2]), 0 "
    "  if ARGV[1] == '1' then counted = n end "
    "  for _, scope in ipairs(ticket[3]) do add(total, scope, counted - n, counted) end "
    "  keep(total) "
    "  redis.call('HDEL', T, id) "
    "  redis.call('SET', P..'gone:'..id, text(counted), 'EX', 172800) end "
    " redis.call('ZREM', U, id) end "
    "return #ids");

static uint64_t number_of(const emb_redis_reply *r)
{
    return r->type == EMB_REDIS_TEXT ? strtoull(r->text, NULL, 10) : 0;
}

static emb_status malformed(redis_store *q, emb_error *err)
{
    return emb_fail(err, EMB_E_CORRUPT, emb_redis_where(q->redis),
                    "%s gave an answer that the budget's script never gives", emb_redis_where(q->redis));
}

/* ---- reserve ---- */

static emb_budget_use use_of(const emb_redis_reply *spent, const emb_redis_reply *used)
{
    uint64_t s = number_of(spent), u = number_of(used);
    return (emb_budget_use){s, u > s ? u - s : 0};
}

/* *again: another epoch has begun; the id is to have it. */
static emb_status read_reserve(redis_store *q, emb_budget_order *o, const emb_redis_reply *r, bool *again,
                               emb_error *err)
{
    const emb_redis_reply *e = r->elements;
    *again = false;
    if (r->type != EMB_REDIS_ARRAY || r->length < 2 || e[0].type != EMB_REDIS_TEXT || !e[1].text)
        return malformed(q, err);
    if (strcmp(e[0].text, "new") == 0 && e[1].length == EPOCH) {
        pthread_mutex_lock(&q->lock);
        memcpy(q->epoch, e[1].text, EPOCH);
        pthread_mutex_unlock(&q->lock);
        *again = true;
        return EMB_OK;
    }
    if (strcmp(e[0].text, "no") == 0 && r->length == 4 && number_of(&e[1]) < o->count) {
        o->refusing = number_of(&e[1]);
        o->wants[o->refusing].use = use_of(&e[2], &e[3]);
        return EMB_OK;
    }
    if (strcmp(e[0].text, "yes") != 0 || r->length != 1 + 2 * o->count)
        return malformed(q, err);
    for (size_t i = 0; i < o->count; i++)
        o->wants[i].use = use_of(&e[1 + 2 * i], &e[2 + 2 * i]);
    o->granted = true;
    return EMB_OK;
}

static emb_status reserve_once(redis_store *q, emb_budget_order *o, bool *again, uint64_t deadline_ns,
                               emb_error *err)
{
    emb_param a[5 + 2 * EMB_BUDGET_SCOPES];
    emb_redis_replies replies;
    uint8_t fresh[EPOCH];
    if (!emb_random_bytes(fresh, sizeof fresh))
        return emb_fail(err, EMB_E_INTERNAL, NULL, "the system has no random bytes to give");
    pthread_mutex_lock(&q->lock);
    memcpy(o->id + 16 - EPOCH, q->epoch, EPOCH);
    pthread_mutex_unlock(&q->lock);
    a[0] = emb_param_bytes(o->id, 16);
    a[1] = emb_param_int(o->day);
    a[2] = emb_param_int((int64_t)o->nusd);
    a[3] = emb_param_int(q->options.reservation_s * INT64_C(1000));
    a[4] = emb_param_bytes(fresh, sizeof fresh);
    for (size_t i = 0; i < o->count; i++) {
        a[5 + 2 * i] = emb_param_text(o->wants[i].name);
        a[6 + 2 * i] = o->wants[i].limit < 0 ? emb_param_text("") : emb_param_int(o->wants[i].limit);
    }
    emb_status st =
        emb_redis_eval(q->redis, &RESERVE, NULL, 0, a, 5 + 2 * o->count, false, deadline_ns, &replies, err);
    if (st != EMB_OK)
        return st;
    st = read_reserve(q, o, replies.list[0], again, err);
    emb_redis_replies_fini(&replies);
    return st;
}

static emb_status redis_reserve(emb_budget_store *store, emb_budget_order *o, uint64_t deadline_ns,
                                emb_error *err)
{
    redis_store *q = (redis_store *)store;
    bool again = true;
    emb_status st = EMB_OK;
    o->granted = false;
    for (int i = 0; st == EMB_OK && again && i < 3; i++)
        st = reserve_once(q, o, &again, deadline_ns, err);
    return st == EMB_OK && again ? malformed(q, err) : st;
}

/* ---- the others ---- */

static size_t add_settlement(emb_param *a, const emb_budget_settlement *s)
{
    const char *name = s->names;
    size_t count = 0;
    a[count++] = emb_param_bytes(s->id, 16);
    a[count++] = emb_param_int(s->day);
    a[count++] = emb_param_int((int64_t)s->actual_nusd);
    a[count++] = emb_param_int(s->sureness);
    a[count++] = emb_param_int(s->count);
    for (uint32_t i = 0; i < s->count; i++, name += strlen(name) + 1)
        a[count++] = emb_param_text(name);
    return count;
}

static emb_status redis_settle(emb_budget_store *store, const emb_budget_settlement *list, size_t count,
                               uint64_t deadline_ns, emb_error *err)
{
    redis_store *q = (redis_store *)store;
    emb_param arguments[ARGUMENTS_MAX];
    size_t used = 0;
    int64_t unused;
    for (size_t i = 0; i < count && i < EMB_BUDGET_SETTLE_BATCH; i++)
        used += add_settlement(arguments + used, &list[i]);
    return emb_redis_ask(q->redis, &SETTLE, arguments, used, deadline_ns, &unused, err);
}

static emb_status redis_expire(emb_budget_store *store, uint64_t *count, uint64_t deadline_ns, emb_error *err)
{
    redis_store *q = (redis_store *)store;
    const emb_param a[] = {emb_param_int(q->options.expired_are_spent),
                           emb_param_int(EMB_BUDGET_EXPIRE_BATCH)};
    int64_t given_up;
    emb_status st = emb_redis_ask(q->redis, &EXPIRE, a, 2, deadline_ns, &given_up, err);
    *count = (uint64_t)given_up;
    return st;
}

/* The fields of a hash come in any order: a scope is told at its "u", for which its "s" is looked up. */
static void tell(const emb_redis_reply *r, emb_budget_seen seen, void *context)
{
    for (size_t i = 0; i + 1 < r->length; i += 2) {
        const emb_redis_reply *field = &r->elements[i], *spent = NULL;
        if (field->type != EMB_REDIS_TEXT || field->length < 1 || field->text[0] != 'u')
            continue;
        for (size_t j = 0; j + 1 < r->length && !spent; j += 2)
            if (r->elements[j].length == field->length && r->elements[j].text &&
                r->elements[j].text[0] == 's' &&
                memcmp(r->elements[j].text + 1, field->text + 1, field->length - 1) == 0)
                spent = &r->elements[j + 1];
        static const emb_redis_reply none = {.type = EMB_REDIS_NIL};
        emb_budget_use use = use_of(spent ? spent : &none, &r->elements[i + 1]);
        seen(context, field->text + 1, &use);
    }
}

static emb_status redis_read(emb_budget_store *store, int32_t day, emb_budget_seen seen, void *context,
                             uint64_t deadline_ns, emb_error *err)
{
    redis_store *q = (redis_store *)store;
    emb_redis_batch batch;
    emb_redis_replies replies;
    char key[sizeof PREFIX + 32];
    snprintf(key, sizeof key, PREFIX "total:%" PRId32, day);
    emb_redis_batch_init(&batch);
    emb_redis_command(&batch, 2);
    emb_redis_text(&batch, "HGETALL");
    emb_redis_text(&batch, key);
    emb_status st = emb_redis_call(q->redis, &batch, deadline_ns, &replies, err);
    emb_redis_batch_fini(&batch);
    if (st != EMB_OK)
        return st;
    if ((st = emb_redis_expect(q->redis, replies.list[0], EMB_REDIS_ARRAY, err)) == EMB_OK)
        tell(replies.list[0], seen, context);
    emb_redis_replies_fini(&replies);
    return st;
}

/* Keys expire by themselves. */
static emb_status redis_tidy(emb_budget_store *store, int32_t before_day, uint64_t deadline_ns,
                             emb_error *err)
{
    (void)before_day, (void)deadline_ns, (void)err;
    emb_redis_tidy(((redis_store *)store)->redis);
    return EMB_OK;
}

static void redis_close(emb_budget_store *store)
{
    redis_store *q = (redis_store *)store;
    emb_redis_close(q->redis);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

static const emb_budget_store_ops OPS = {true,       redis_reserve, redis_settle, redis_expire,
                                         redis_read, redis_tidy,    redis_close};

emb_status emb_budget_redis_open(const char *url, const emb_budget_store_options *options,
                                 emb_budget_store **out, emb_error *err)
{
    redis_store *q = calloc(1, sizeof *q);
    if (!q)
        return emb_fail_nomem(err, "a budget's store", sizeof *q);
    q->base.ops = &OPS;
    q->options = *options;
    emb_status st = emb_redis_open(url, NULL, &q->redis, err);
    if (st != EMB_OK) {
        free(q);
        return st;
    }
    pthread_mutex_init(&q->lock, NULL);
    *out = &q->base;
    return EMB_OK;
}
