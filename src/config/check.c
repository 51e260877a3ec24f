/*
 * check.c: what the kind of a setting does not say: the form of addresses, URLs and word lists, and settings
 * that only make sense together.
 *
 * Runs once over the values that count. A message begins with the place where the user wrote the value; it
 * names the other setting where two are in conflict. URLs that may carry a password are secrets and not
 * shown; the others must not carry one, since they are printed and logged.
 */
#include "config/parts.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct check {
    emb_config_state *state;
    const emb_setting *setting; /* the one that is checked */
    emb_error *err;
    emb_status status;
    bool has_address;           /* an item of `listen` */
    bool has_level, has_format; /* of `log` */
} check;

static const emb_setting *setting_at(size_t index)
{
    size_t count;
    return emb_settings(&count) + index;
}

static const char *subject_of(const check *c)
{
    return c->state->origins[emb_setting_index(c->setting)].subject;
}

/* Notes "SUBJECT: VALUE PROBLEM". Returns false, to end a visit. */
static bool refuse(check *c, const char *value, size_t length, const char *problem)
{
    char shown[EMB_SHOWN_MAX];
    c->status = emb_fail(c->err, EMB_E_INVALID, subject_of(c), "%s: %s %s", subject_of(c),
                         emb_setting_shown(c->setting, value, length, shown), problem);
    return false;
}

/* A mistake is told of, and the checks go on, where all of them are wanted. */
static void settle(check *c)
{
    c->status = emb_config_settle(c->state, c->status, c->err);
}

static bool is_word(const char *item, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(item, word, length) == 0;
}

static const char *text_of(const check *c)
{
    return *(const char **)((char *)&c->state->values + c->setting->offset);
}

/* ---- addresses to listen on ---- */

static bool is_port(const char *text, size_t length)
{
    unsigned value = 0;
    if (length == 0 || length > 5)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    return value <= 65535;
}

static bool all_of(const char *text, size_t length, const char *allowed)
{
    for (size_t i = 0; i < length; i++)
        if (!strchr(allowed, text[i]))
            return false;
    return true;
}

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static bool check_listen_item(void *context, const char *item, size_t length)
{
    enum { UNIX_PATH_MAX = 107 };
    check *c = context;
    c->has_address = true;
    if (length >= 5 && memcmp(item, "unix:", 5) == 0) {
        if (length == 5)
            return refuse(c, item, length, "names no path; write unix:/path/of/the/socket");
        return length - 5 <= UNIX_PATH_MAX ||
               refuse(c, item, length, "is too long for the path of a unix socket; allowed: 107 bytes");
    }
    const char *colon = memrchr(item, ':', length);
    if (!colon)
        return refuse(c, item, length, "has no port; write HOST:PORT, [IPV6]:PORT, :PORT or unix:/path");
    size_t host = (size_t)(colon - item);
    if (!is_port(colon + 1, length - host - 1))
        return refuse(c, item, length, "does not end in a port; allowed: 0 to 65535, 0 for a free one");
    if (host && item[0] == '[') {
        bool good = host > 2 && item[host - 1] == ']' && memchr(item, ':', host) &&
                    all_of(item + 1, host - 2, DIGITS "abcdefABCDEF:.%" LETTERS);
        return good ||
               refuse(c, item, length, "is not an IPv6 address in brackets and a port, such as [::1]:8000");
    }
    if (memchr(item, ':', host))
        return refuse(c, item, length,
                      "holds several colons; an IPv6 address goes into brackets: [::1]:8000");
    return all_of(item, host, LETTERS DIGITS ".-_") ||
           refuse(c, item, length, "holds a character that no host name has");
}

/* ---- URLs ---- */

static bool begins(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

static bool has_one_of(const char *text, const char *const *prefixes)
{
    for (; *prefixes; prefixes++)
        if (begins(text, *prefixes))
            return true;
    return false;
}

/* Whether it is one of "a|b|c". */
static bool is_one_of(const char *text, const char *words)
{
    size_t length = strlen(text);
    for (const char *w = words; *w;) {
        size_t n = strcspn(w, "|");
        if (n == length && memcmp(w, text, n) == 0)
            return true;
        w += n + (w[n] == '|');
    }
    return false;
}

/* SCHEME://SOMETHING, where a host is needed. */
static void check_url(check *c, const char *const *schemes, const char *problem)
{
    const char *url = text_of(c);
    size_t length = strlen(url);
    if (c->status || !*url)
        return;
    if (!has_one_of(url, schemes)) {
        refuse(c, url, length, problem);
        return;
    }
    if (strpbrk(url, " \"<>\\^`{|}"))
        refuse(c, url, length, "holds a character that no URL has");
    const char *host = strstr(url, "://");
    if (!host || c->status)
        return;
    host += 3;
    size_t authority = strcspn(host, "/?#");
    bool web = begins(url, "http"), shown = !c->setting->secret;
    if (web && authority == 0)
        refuse(c, url, length, "names no host");
    else if (web && shown && memchr(host, '@', authority)) /* it would be printed and logged */
        c->status =
            emb_fail(c->err, EMB_E_INVALID, subject_of(c),
                     "%s: the address holds a user name or password, which would be shown in logs; leave it "
                     "out of the address",
                     subject_of(c));
}

static void check_urls(check *c)
{
    static const char *const web[] = {"http://", "https://", NULL};
    static const char *const redis[] = {"redis://", "rediss://", NULL};
    static const char *const cache[] = {"sqlite:",       "redis://",    "rediss://",
                                        "postgresql://", "postgres://", NULL};
    static const char *const store[] = {"sqlite:", "postgresql://", "postgres://", NULL};
    static const char *const clouds[] = {"http://", "https://", "gcp=http", "aws=http", "azure=http", NULL};
    static const char web_problem[] = "does not begin with http:// or https://";
    static const struct {
        size_t index;
        const char *words; /* that stand for an address */
        const char *const *schemes;
        const char *problem;
    } urls[] = {
        {EMB_AT_hf_endpoint, "", web, web_problem},
        {EMB_AT_openai_base_url, "", web, web_problem},
        {EMB_AT_embedding_service_url, "", web, web_problem},
        {EMB_AT_hf_inference_url, "", web, web_problem},
        {EMB_AT_alert_webhook_url, "", web, web_problem},
        {EMB_AT_alertmanager_url, "", web, web_problem},
        {EMB_AT_preemption_url, "gcp|aws|azure", clouds,
         "is none of gcp, aws, azure (with =ADDRESS or without), and does not begin with http:// or "
         "https://"},
        {EMB_AT_cache_url, "none", cache,
         "begins with none of sqlite:, redis://, rediss://, postgresql://, and is not none"},
        {EMB_AT_redis_url, "", redis, "begins with neither redis:// nor rediss://"},
        {EMB_AT_store_url, "", store, "begins with neither sqlite: nor postgresql://"},
        {EMB_AT_state_url, "memory:", cache,
         "begins with none of sqlite:, redis://, rediss://, postgresql://, and is not memory:"},
        {EMB_AT_queue_url, "", cache, "begins with none of sqlite:, redis://, rediss://, postgresql://"},
    };
    for (size_t i = 0; i < sizeof urls / sizeof *urls && !c->status; i++) {
        c->setting = setting_at(urls[i].index);
        if (!is_one_of(text_of(c), urls[i].words))
            check_url(c, urls[i].schemes, urls[i].problem);
        settle(c);
    }
}

/* ---- lists ---- */

static bool check_origin(void *context, const char *item, size_t length)
{
    check *c = context;
    size_t scheme = begins(item, "http://") ? 7 : begins(item, "https://") ? 8 : 0;
    if (is_word(item, length, "*"))
        return true;
    if (!scheme || length <= scheme)
        return refuse(c, item, length, "is not an origin; write https://HOST, https://HOST:PORT or *");
    return !memchr(item + scheme, '/', length - scheme) ||
           refuse(c, item, length, "has a path; an origin is scheme, host and port alone");
}

static bool check_log_word(void *context, const char *item, size_t length)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"}; /* as emb_log_level */
    check *c = context;
    for (size_t i = 0; i < 4; i++)
        if (is_word(item, length, levels[i])) {
            if (c->has_level)
                return refuse(c, item, length,
                              "is a second level; one of error, warn, info and debug is wanted");
            c->has_level = true;
            c->state->values.log_level = (emb_log_level)i;
            return true;
        }
    if (!is_word(item, length, "json") && !is_word(item, length, "plain"))
        return refuse(c, item, length,
                      "is not a word for the log; allowed: error, warn, info, debug, plain, json");
    if (c->has_format)
        return refuse(c, item, length, "is a second form; one of plain and json is wanted");
    c->has_format = true;
    c->state->values.log_format = *item == 'j' ? EMB_LOG_JSON : EMB_LOG_PLAIN;
    return true;
}

static bool check_pattern(void *context, const char *item, size_t length)
{
    check *c = context;
    const char *star = memchr(item, '*', length);
    return !star || star == item + length - 1 ||
           refuse(c, item, length, "has a * that is not at its end, the only place for one");
}

static bool check_key(void *context, const char *item, size_t length)
{
    check *c = context;
    for (size_t i = 0; i < length; i++)
        if (item[i] <= ' ' || item[i] > '~')
            return refuse(c, item, length,
                          "holds a key with a space or a character outside ASCII, which no client "
                          "can send");
    return true;
}

/* ---- several settings together ---- */

static double number_of(const emb_config *config, const emb_setting *s)
{
    const void *field = (const char *)config + s->offset;
    return s->kind == EMB_SETTING_REAL ? *(const double *)field : (double)*(const size_t *)field;
}

/* `low` must not be above `high`. Of the two the one that was set last is named first. */
static void check_order(check *c, size_t low, size_t high)
{
    const emb_config_state *state = c->state;
    const emb_setting *a = setting_at(low), *b = setting_at(high);
    if (c->status || number_of(&state->values, a) <= number_of(&state->values, b))
        return;
    bool low_is_later = state->origins[low].source >= state->origins[high].source;
    const emb_setting *named = low_is_later ? a : b, *other = low_is_later ? b : a;
    const char *subject = state->origins[emb_setting_index(named)].subject;
    c->status = emb_fail(c->err, EMB_E_INVALID, subject, "%s: %g is %s %s, which is %g (%s)", subject,
                         number_of(&state->values, named), low_is_later ? "above" : "below", other->path,
                         number_of(&state->values, other), state->origins[emb_setting_index(other)].text);
}

static void check_tls(check *c)
{
    const emb_config *v = &c->state->values;
    if (c->status || !*v->tls_cert == !*v->tls_key)
        return;
    c->setting = setting_at(*v->tls_cert ? EMB_AT_tls_cert : EMB_AT_tls_key);
    c->status = emb_fail(c->err, EMB_E_INVALID, subject_of(c), "%s: is set without %s; TLS needs both",
                         subject_of(c), *v->tls_cert ? "server.tls_key" : "server.tls_cert");
}

static void check_shutdown(check *c)
{
    const emb_config *v = &c->state->values;
    c->setting = setting_at(EMB_AT_shutdown_grace_ms);
    if (!c->status && v->shutdown_grace_ms >= v->shutdown_seconds * 1000)
        c->status = emb_fail(c->err, EMB_E_INVALID, subject_of(c),
                             "%s: %zu ms leave nothing of server.shutdown_seconds, which is %zu (%s)",
                             subject_of(c), v->shutdown_grace_ms, v->shutdown_seconds,
                             c->state->origins[EMB_AT_shutdown_seconds].text);
}

static void check_lists(check *c)
{
    static const struct {
        size_t index;
        bool (*visit)(void *, const char *, size_t);
    } lists[] = {{EMB_AT_listen, check_listen_item},
                 {EMB_AT_cors_origins, check_origin},
                 {EMB_AT_log, check_log_word},
                 {EMB_AT_allowed_models, check_pattern},
                 {EMB_AT_api_keys, check_key}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists && !c->status; i++) {
        c->setting = setting_at(lists[i].index);
        emb_config_each(text_of(c), lists[i].visit, c);
        if (lists[i].index == EMB_AT_listen && !c->has_address)
            refuse(c, text_of(c), strlen(text_of(c)), "names no address to listen on");
        settle(c);
    }
}

static void check_together(check *c)
{
    check_tls(c);
    settle(c);
    check_shutdown(c);
    settle(c);
    static const struct {
        size_t low, high;
    } orders[] = {{EMB_AT_alert_p95_warning, EMB_AT_alert_p95_error},
                  {EMB_AT_alert_cache_hit_error, EMB_AT_alert_cache_hit_warning},
                  {EMB_AT_alert_similarity_error, EMB_AT_alert_similarity_warning},
                  {EMB_AT_alert_budget_warning, EMB_AT_alert_budget_critical}};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        check_order(c, orders[i].low, orders[i].high);
        settle(c);
    }
}

emb_status emb_config_check(emb_config_state *state, emb_error *err)
{
    check c = {.state = state, .err = err};
    state->values.log_level = EMB_LOG_INFO;
    state->values.log_format = EMB_LOG_PLAIN;
    check_lists(&c);
    check_urls(&c);
    if (!state->problem_count) /* a default that stands for a bad value would be blamed for it */
        check_together(&c);
    return c.status;
}
