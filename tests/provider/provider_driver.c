/*
 * A provider at the end of a pipe: reads commands, one JSON object a line, and answers each with one line of
 * JSON, so that a test in Python can script the upstream in between.
 *
 *     {"open": {"kind": "openai", "name": "p", "base_url": "http://127.0.0.1:1/v1", "api_key": "k", …}}
 *         the members of emb_provider_config by their names, "headers": {"X-A": "b"}, "model": one model's name with
 *         "upstream", "user_agent"; answers status, message
 *     {"embed": {"texts": [..] | "generate": {"count": 5, "prefix": "text "}, "model": "m", "dimension": 4, …}}
 *         "ids" [[..], ..]: lists of token ids, sent by kinds that take them, beside the texts that they spell;
 *         optional: dimensions, timeout_ms, role ("query", "document"), normalize, truncation ("none", "left", "right"),
 *         prompt_name, space, user, token_counts [..], max_batch_texts, max_batch_tokens, cancel_after_ms,
 *         refuse_after (the hook lets so many attempts through, then refuses with EMB_E_BUDGET), vectors (true: print
 *         them), threads (so many calls like this at once: answers {"results": [..]})
 *         answers status, message, where, ms, end, checksum, tokens, tokens_known, attempts, parts, provider_ms,
 *         retry_after_ms, hooks {before, after, tokens, ends [..], billed [..], statuses [..]}, vectors
 *     {"probe": {"model": "m", "timeout_ms": 1000}}   status, message, dimension
 *     {"state": {}}      active, waiting, limited_ms, calls, attempts, retries, failures, tokens, last_error
 *     {"metrics": {}}    the registry's text, as "text"
 *     {"close": {}}      status, ms
 *
 * Names below .test are this machine, so that certificates and proxies can have names; slow.test is asked for
 * in vain until 20 s have passed.
 *
 * Ends at the end of its input.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/json_write.h"
#include "provider/provider.h"

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_HEADERS = 8, MOST_THREADS = 256, MOST_ENDS = 4096 };

static emb_provider *provider;
static emb_metrics *metrics;
static emb_arena memory; /* of one command */

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

/* ---- names ---- */

typedef int getaddrinfo_function(const char *, const char *, const struct addrinfo *, struct addrinfo **);
__attribute__((visibility("default"))) getaddrinfo_function getaddrinfo; /* libcurl's threads call it, too */

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    getaddrinfo_function *real;
    void *symbol = must(dlsym(RTLD_NEXT, "getaddrinfo"));
    size_t n = node ? strlen(node) : 0;
    memcpy(&real, &symbol, sizeof real);
    if (n > 5 && strcmp(node + n - 5, ".test") == 0) {
        struct timespec pause = {20, 0};
        while (strcmp(node, "slow.test") == 0 && nanosleep(&pause, &pause) && errno == EINTR)
            ;
        node = "127.0.0.1";
    }
    return real(node, service, hints, found);
}

/* ---- reading commands ---- */

static const char *text_of(emb_json_value object, const char *name, const char *fallback)
{
    emb_json_value v;
    const char *s;
    size_t n;
    return emb_json_get(object, name, &v) && emb_json_string(v, &s, &n)
               ? must(emb_arena_strndup(&memory, s, n))
               : fallback;
}

static int64_t int_of(emb_json_value object, const char *name, int64_t fallback)
{
    emb_json_value v;
    if (emb_json_get(object, name, &v) && !emb_json_int(v, &fallback))
        abort();
    return fallback;
}

static bool bool_of(emb_json_value object, const char *name, bool fallback)
{
    emb_json_value v;
    if (emb_json_get(object, name, &v) && !emb_json_bool(v, &fallback))
        abort();
    return fallback;
}

static emb_provider_kind kind_of(const char *name)
{
#define EMB_X(id, text)          \
    if (strcmp(name, text) == 0) \
        return EMB_PROVIDER_##id;
    EMB_PROVIDER_KIND_TABLE(EMB_X)
#undef EMB_X
    return EMB_PROVIDER_OPENAI;
}

static size_t headers_of(emb_json_value object, emb_header_config *headers)
{
    emb_json_value all, v;
    const char *key, *s;
    size_t n, length, count = 0;
    if (!emb_json_get(object, "headers", &all))
        return 0;
    emb_json_iter it = emb_json_begin(all);
    while (count < MOST_HEADERS && emb_json_next(&it, &key, &n, &v)) {
        if (!emb_json_string(v, &s, &length))
            continue;
        headers[count].name = must(emb_arena_strndup(&memory, key, n));
        headers[count++].value = must(emb_arena_strndup(&memory, s, length));
    }
    return count;
}

static void read_config(emb_json_value o, emb_provider_config *c, emb_provider_model_config *model,
                        emb_header_config *headers)
{
    *model = (emb_provider_model_config){.name = text_of(o, "model", "m"),
                                         .encoding = "",
                                         .origin = "",
                                         .revision = "api",
                                         .query_prompt = "",
                                         .document_prompt = ""};
    model->upstream = text_of(o, "upstream", model->name);
    *c = (emb_provider_config){
        .name = text_of(o, "name", "upstream"),
        .kind = kind_of(text_of(o, "kind", "openai")),
        .base_url = text_of(o, "base_url", ""),
        .api_key = text_of(o, "api_key", ""),
        .api_version = text_of(o, "api_version", ""),
        .proxy = text_of(o, "proxy", ""),
        .ca_file = text_of(o, "ca_file", ""),
        .headers = headers,
        .header_count = headers_of(o, headers),
        .weight = 1,
        .concurrency = (size_t)int_of(o, "concurrency", 8),
        .requests_per_minute = (size_t)int_of(o, "requests_per_minute", 0),
        .tokens_per_minute = (size_t)int_of(o, "tokens_per_minute", 0),
        .connect_timeout_ms = (uint32_t)int_of(o, "connect_timeout_ms", 2000),
        .timeout_ms = (uint32_t)int_of(o, "timeout_ms", 10000),
        .max_retries = (unsigned)int_of(o, "max_retries", 2),
        .hedge_ms = (uint32_t)int_of(o, "hedge_ms", 0),
        .max_batch_texts = (size_t)int_of(o, "max_batch_texts", 0),
        .max_batch_tokens = (size_t)int_of(o, "max_batch_tokens", 0),
        .max_body_bytes = (size_t)int_of(o, "max_body_bytes", 0),
        .http2 = bool_of(o, "http2", true),
        .compress = bool_of(o, "compress", true),
        .base64 = bool_of(o, "base64", true),
        .keep_warm_s = (uint32_t)int_of(o, "keep_warm_s", 0),
        .models = model,
        .model_count = 1,
    };
}

/* ---- one call ---- */

typedef struct trial {
    pthread_t thread;
    emb_provider_call call;
    emb_provider_hooks hooks;
    emb_provider_result result;
    emb_status status;
    emb_error error;
    uint64_t started_ns; /* not after the deadline's clock: a thread may begin late */
    double ms;
    volatile int cancel;
    uint64_t hook_tokens;
    unsigned before, after, allowed;
    emb_attempt attempts[MOST_ENDS];
} trial;

static emb_status before(void *context, size_t texts, uint64_t tokens, void **ticket, emb_error *err)
{
    trial *t = context;
    (void)texts;
    if (t->before >= t->allowed)
        return emb_fail(err, EMB_E_BUDGET, "budget", "the hook refuses attempt %u", t->before + 1);
    *ticket = &t->attempts[t->before % MOST_ENDS];
    t->before++;
    t->hook_tokens += tokens;
    return EMB_OK;
}

static void after(void *context, void *ticket, const emb_attempt *attempt)
{
    trial *t = context;
    *(emb_attempt *)ticket = *attempt;
    t->after++;
}

static void *run(void *context)
{
    trial *t = context;
    t->status = emb_provider_embed(provider, &t->call, &t->result, &t->error);
    t->ms = (double)(emb_now_ns() - t->started_ns) / 1e6;
    return NULL;
}

static void read_texts(emb_json_value o, emb_provider_call *c)
{
    emb_json_value list, v;
    emb_text *texts;
    char line[128];
    if (emb_json_get(o, "generate", &list)) {
        c->count = (size_t)int_of(list, "count", 1);
        c->texts = texts = must(emb_arena_calloc(&memory, c->count + 1, sizeof *texts));
        for (size_t i = 0; i < c->count; i++) {
            int n = snprintf(line, sizeof line, "%s%zu", text_of(list, "prefix", "text "), i);
            texts[i] = (emb_text){must(emb_arena_strndup(&memory, line, (size_t)n)), (size_t)n};
        }
    } else if (emb_json_get(o, "texts", &list)) {
        emb_json_iter it = emb_json_begin(list);
        c->texts = texts = must(emb_arena_calloc(&memory, emb_json_count(list) + 1, sizeof *texts));
        while (emb_json_next(&it, NULL, NULL, &v))
            if (emb_json_string(v, &texts[c->count].data, &texts[c->count].length))
                c->count++;
    }
}

/* Lists of token ids, beside "texts" that they spell. */
static void read_ids(emb_json_value o, emb_provider_call *c)
{
    emb_json_value list, one, v;
    int64_t id;
    size_t n = 0;
    if (!emb_json_get(o, "ids", &list))
        return;
    size_t *offsets = must(emb_arena_calloc(&memory, emb_json_count(list) + 1, sizeof *offsets));
    int32_t *ids = must(emb_arena_calloc(&memory, 1 << 20, sizeof *ids));
    emb_text *texts = must(emb_arena_calloc(&memory, emb_json_count(list) + 1, sizeof *texts));
    emb_json_iter it = emb_json_begin(list);
    for (size_t i = 0; emb_json_next(&it, NULL, NULL, &one); i++) {
        emb_json_iter inner = emb_json_begin(one);
        while (n < 1 << 20 && emb_json_next(&inner, NULL, NULL, &v))
            if (emb_json_int(v, &id))
                ids[n++] = (int32_t)id;
        offsets[i + 1] = n;
        texts[i] = i < c->count ? c->texts[i] : (emb_text){"", 0};
    }
    c->count = emb_json_count(list);
    c->texts = texts;
    c->ids = ids;
    c->offsets = offsets;
}

static void read_counts(emb_json_value o, emb_provider_call *c)
{
    uint32_t *counts = must(emb_arena_calloc(&memory, c->count + 1, sizeof *counts));
    emb_json_value list, v;
    for (size_t i = 0; i < c->count; i++)
        counts[i] = (uint32_t)(c->texts[i].length / 4 + 1);
    if (emb_json_get(o, "token_counts", &list)) {
        emb_json_iter it = emb_json_begin(list);
        int64_t n;
        for (size_t i = 0; i < c->count && emb_json_next(&it, NULL, NULL, &v); i++)
            if (emb_json_int(v, &n))
                counts[i] = (uint32_t)n;
    }
    c->token_counts = counts;
}

static void read_call(emb_json_value o, emb_provider_call *c)
{
    const char *role = text_of(o, "role", "none"), *truncation = text_of(o, "truncation", "model");
    int64_t timeout_ms = int_of(o, "timeout_ms", 0);
    memset(c, 0, sizeof *c);
    read_texts(o, c);
    read_ids(o, c);
    read_counts(o, c);
    c->model = text_of(o, "model", "m");
    c->dimensions = (size_t)int_of(o, "dimensions", 0);
    c->max_batch_texts = (size_t)int_of(o, "max_batch_texts", 0);
    c->max_batch_tokens = (size_t)int_of(o, "max_batch_tokens", 0);
    c->role = strcmp(role, "query") == 0      ? EMB_ROLE_QUERY
              : strcmp(role, "document") == 0 ? EMB_ROLE_DOCUMENT
                                              : EMB_ROLE_NONE;
    emb_json_value v;
    if (emb_json_get(o, "normalize", &v))
        c->normalize = bool_of(o, "normalize", true) ? EMB_ON : EMB_OFF;
    if (!emb_truncation_parse(truncation, &c->truncation))
        c->truncation = EMB_TRUNCATE_MODEL;
    c->prompt_name = text_of(o, "prompt_name", NULL);
    c->space = text_of(o, "space", NULL);
    c->user = text_of(o, "user", NULL);
    c->deadline_ns = timeout_ms ? emb_now_ns() + (uint64_t)timeout_ms * 1000000u : 0;
}

/* ---- answers ---- */

static emb_buf out = EMB_BUF_INIT((size_t)1 << 30);

static void need(emb_status status)
{
    if (status)
        abort();
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    char line[512];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    need(emb_buf_add_str(&out, line));
}

static void say_text(const char *text)
{
    need(emb_json_write_string(&out, text, strlen(text)));
}

static void finish_line(void)
{
    need(emb_buf_add(&out, "\n", 1));
    fwrite(out.data, 1, out.length, stdout);
    fflush(stdout);
    emb_buf_clear(&out);
}

static void say_status(emb_status status, const emb_error *error)
{
    say("{\"status\": %d, \"message\": ", (int)status);
    say_text(status ? error->message : "");
    say(", \"where\": ");
    say_text(status ? error->where : "");
}

static uint64_t checksum(const float *v, size_t n)
{
    uint64_t h = 1469598103934665603u;
    const unsigned char *p = (const unsigned char *)v;
    for (size_t i = 0; i < n * sizeof *v; i++)
        h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static void say_hooks(const trial *t)
{
    unsigned n = t->before < MOST_ENDS ? t->before : MOST_ENDS;
    say(", \"hooks\": {\"before\": %u, \"after\": %u, \"tokens\": %llu, \"ends\": [", t->before, t->after,
        (unsigned long long)t->hook_tokens);
    for (unsigned i = 0; i < n; i++)
        say("%s\"%s\"", i ? ", " : "", emb_attempt_end_name(t->attempts[i].end));
    say("], \"billed\": [");
    for (unsigned i = 0; i < n; i++)
        say("%s%s", i ? ", " : "", t->attempts[i].maybe_billed ? "true" : "false");
    say("], \"statuses\": [");
    for (unsigned i = 0; i < n; i++)
        say("%s%d", i ? ", " : "", t->attempts[i].http_status);
    say("]}");
}

static void say_trial(const trial *t, bool vectors)
{
    const emb_provider_result *r = &t->result;
    say_status(t->status, &t->error);
    say(", \"ms\": %.3f, \"end\": \"%s\", \"checksum\": \"%016llx\", \"tokens\": %llu, \"tokens_known\": %s",
        t->ms, emb_attempt_end_name(r->end),
        (unsigned long long)(t->status ? 0 : checksum(r->vectors, t->call.count * r->dimension)),
        (unsigned long long)r->tokens, r->tokens_known ? "true" : "false");
    say(", \"attempts\": %u, \"parts\": %u, \"provider_ms\": %.3f, \"retry_after_ms\": %lld", r->attempts,
        r->parts, (double)r->provider_ns / 1e6, (long long)r->retry_after_ms);
    say_hooks(t);
    if (vectors && !t->status) {
        say(", \"vectors\": [");
        for (size_t i = 0; i < t->call.count; i++) {
            if (i)
                say(", ");
            need(emb_json_write_floats(&out, r->vectors + i * r->dimension, r->dimension));
        }
        say("]");
    }
    say("}");
}

/* ---- commands ---- */

static void do_embed(emb_json_value o)
{
    size_t threads = (size_t)int_of(o, "threads", 1), dimension = (size_t)int_of(o, "dimension", 4);
    int64_t cancel_ms = int_of(o, "cancel_after_ms", -1);
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    trial *trials = must(calloc(threads, sizeof *trials));
    for (size_t i = 0; i < threads; i++) {
        trial *t = &trials[i];
        t->started_ns = emb_now_ns();
        read_call(o, &t->call);
        t->hooks = (emb_provider_hooks){before, after, t};
        t->allowed = (unsigned)int_of(o, "refuse_after", 1 << 30);
        t->call.hooks = &t->hooks;
        t->call.cancel = &t->cancel;
        t->result.dimension = dimension;
        t->result.vectors = must(calloc(t->call.count * dimension + 1, sizeof(float)));
        if (pthread_create(&t->thread, NULL, run, t))
            abort();
    }
    if (cancel_ms >= 0) {
        struct timespec pause = {cancel_ms / 1000, cancel_ms % 1000 * 1000000};
        while (nanosleep(&pause, &pause) && errno == EINTR)
            ;
        for (size_t i = 0; i < threads; i++)
            __atomic_store_n(&trials[i].cancel, 1, __ATOMIC_RELAXED);
    }
    bool several = threads > 1;
    if (several)
        say("{\"results\": [");
    for (size_t i = 0; i < threads; i++) {
        pthread_join(trials[i].thread, NULL);
        if (i)
            say(", ");
        say_trial(&trials[i], bool_of(o, "vectors", false));
        free(trials[i].result.vectors);
    }
    if (several)
        say("]}");
    free(trials);
}

static void do_open(emb_json_value o)
{
    emb_provider_model_config model;
    emb_header_config headers[MOST_HEADERS];
    emb_provider_config config;
    emb_error err = {0};
    emb_provider_close(provider);
    provider = NULL;
    read_config(o, &config, &model, headers);
    emb_provider_options options = {.metrics = metrics,
                                    .user_agent = text_of(o, "user_agent", "embedd/test")};
    emb_status status = emb_provider_open(&config, &options, &provider, &err);
    say_status(status, &err);
    say("}");
}

static void do_probe(emb_json_value o)
{
    emb_error err = {0};
    size_t dimension = 0;
    uint64_t deadline = emb_now_ns() + (uint64_t)int_of(o, "timeout_ms", 5000) * 1000000u;
    emb_status status = emb_provider_probe(provider, text_of(o, "model", "m"), deadline, &dimension, &err);
    say_status(status, &err);
    say(", \"dimension\": %zu}", dimension);
}

static void do_state(void)
{
    emb_provider_state s;
    uint64_t now = emb_now_ns();
    emb_provider_get_state(provider, &s);
    say("{\"status\": 0, \"active\": %zu, \"waiting\": %zu, \"limited_ms\": %.3f", s.active, s.waiting,
        s.limited_until_ns > now ? (double)(s.limited_until_ns - now) / 1e6 : 0);
    say(", \"calls\": %llu, \"attempts\": %llu, \"retries\": %llu, \"failures\": %llu, \"tokens\": %llu, "
        "\"last_error\": ",
        (unsigned long long)s.calls, (unsigned long long)s.attempts, (unsigned long long)s.retries,
        (unsigned long long)s.failures, (unsigned long long)s.tokens);
    say_text(s.last_error);
    say("}");
}

static void do_metrics(void)
{
    emb_buf text = EMB_BUF_INIT((size_t)64 << 20);
    need(emb_metrics_write_prometheus(metrics, &text));
    say("{\"status\": 0, \"text\": ");
    need(emb_json_write_string(&out, text.data, text.length));
    say("}");
    emb_buf_fini(&text);
}

static void refuse(const char *why)
{
    say("{\"status\": %d, \"message\": ", (int)EMB_E_INVALID);
    say_text(why);
    say("}");
}

static void obey(const char *line, size_t length)
{
    emb_json *doc;
    emb_json_value v;
    emb_error err = {0};
    if (emb_json_open(line, length, "command", &doc, &err)) {
        refuse(err.message);
        return;
    }
    emb_json_value root = emb_json_root(doc);
    if (emb_json_get(root, "open", &v))
        do_open(v);
    else if (emb_json_get(root, "close", &v)) {
        uint64_t start = emb_now_ns();
        emb_provider_close(provider);
        provider = NULL;
        say("{\"status\": 0, \"ms\": %.3f}", (double)(emb_now_ns() - start) / 1e6);
    } else if (emb_json_get(root, "metrics", &v))
        do_metrics();
    else if (!provider)
        refuse("no provider is open");
    else if (emb_json_get(root, "embed", &v))
        do_embed(v);
    else if (emb_json_get(root, "probe", &v))
        do_probe(v);
    else if (emb_json_get(root, "state", &v))
        do_state();
    else
        refuse("no such command");
    emb_json_close(doc);
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    emb_error err;
    if (emb_metrics_open(&metrics, &err))
        return 1;
    while ((length = getline(&line, &capacity, stdin)) > 0) {
        emb_arena_init(&memory);
        obey(line, (size_t)length);
        emb_arena_fini(&memory);
        finish_line();
    }
    emb_provider_close(provider);
    emb_metrics_close(metrics);
    emb_buf_fini(&out);
    free(line);
    return 0;
}
