/*
 * hybrid_cache.c: what is in the cache, taking it out, and filling it before anybody asks.
 *
 * Taking everything out needs all=true, so that a parameter that was left out by mistake empties nothing.
 * Warming answers with a report; where the client accepts text/event-stream it gets progress first: events
 * "progress" {"done","total"} at most ten times a second, then one "report", or "error" in the family's
 * envelope, since the status line is long gone by then. A client that leaves ends the work.
 *
 * Everything here may ask the second level, so everything runs on workers.
 */
#include "api/decode.h"
#include "api/hybrid.h"
#include "base/clock.h"
#include "service/warm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_USED_MAX = 1000000, PROGRESS_NS = 100000000 };

/* ---- what is there ---- */

static double share(uint64_t part, uint64_t rest)
{
    return part + rest ? (double)part / ((double)part + (double)rest) : 0;
}

static void write_tier(emb_out *o, const emb_cache_tier_stats *t)
{
    emb_out_count(o, "hits", t->hits);
    emb_out_count(o, "misses", t->misses);
    emb_out_real(o, "hit_rate", share(t->hits, t->misses), 6);
    emb_out_count(o, "entries", t->entries);
    emb_out_count(o, "bytes", t->bytes);
    emb_out_count(o, "evictions", t->evictions);
    emb_out_count(o, "corrupt", t->corrupt);
}

static void write_l2(emb_out *o, const emb_cache_stats *s)
{
    emb_out_open(o, "l2", '{');
    emb_out_text(o, "kind", s->l2_kind);
    emb_out_bool(o, "up", s->l2_up);
    emb_out_text(o, "last_error", s->l2_error[0] ? s->l2_error : NULL);
    write_tier(o, &s->l2);
    emb_out_count(o, "failures", s->l2_failures);
    emb_out_count(o, "timeouts", s->l2_timeouts);
    emb_out_count(o, "queued", s->queued);
    emb_out_count(o, "stored", s->stored);
    emb_out_count(o, "dropped", s->dropped);
    emb_out_count(o, "write_failures", s->write_failures);
    emb_out_close(o, '}');
}

void emb_hybrid_write_cache(emb_out *o, const char *name, emb_cache *cache)
{
    emb_cache_stats s;
    emb_out_open(o, name, '{');
    emb_out_bool(o, "enabled", cache != NULL);
    if (cache) {
        emb_cache_get_stats(cache, &s);
        emb_out_open(o, "l1", '{');
        write_tier(o, &s.l1);
        emb_out_count(o, "limit_entries", s.l1_limit_entries);
        emb_out_count(o, "limit_bytes", s.l1_limit_bytes);
        emb_out_close(o, '}');
        write_l2(o, &s);
        uint64_t hits = s.l1.hits + s.l2.hits;
        emb_out_real(o, "hit_rate", share(hits, s.l1.misses > s.l2.hits ? s.l1.misses - s.l2.hits : 0), 6);
        emb_out_count(o, "shared_computations", s.shared);
    }
    emb_out_close(o, '}');
}

static void get_stats_on_worker(emb_api_call *call)
{
    emb_out o;
    emb_out_begin(&o, call);
    emb_hybrid_write_cache(&o, NULL, emb_service_cache(call->service));
    emb_out_reply(&o, call, NULL);
}

static void get_stats(emb_api_call *call)
{
    emb_call_park(call, get_stats_on_worker);
}

/* ---- taking out ---- */

/* "90", "15m", "12h", "7d", "2w" */
static bool read_age(const char *text, uint64_t *seconds)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{0, 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long long number = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (*end == units[i].unit && (!*end || !end[1]) && number > 0 && number <= UINT64_MAX / 604800) {
            *seconds = number * units[i].seconds;
            return true;
        }
    return false;
}

static bool read_filter(emb_api_call *call, emb_cache_filter *filter)
{
    const char *older = emb_exchange_query(call->x, "older_than"), *key = emb_exchange_query(call->x, "key");
    const char *all = emb_exchange_query(call->x, "all");
    emb_cache_key *parsed = emb_arena_calloc(call->arena, 1, sizeof *parsed);
    *filter = (emb_cache_filter){.model = emb_exchange_query(call->x, "model")};
    if (!parsed)
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
    else if (filter->model && !*filter->model)
        emb_call_fail(call, 422, "invalid_value", "?model", "model: is empty.");
    else if (older && !read_age(older, &filter->older_than_s))
        emb_call_fail(call, 422, "invalid_value", "?older_than",
                      "older_than: \"%.60s\" is not an age; seconds, or 15m, 12h, 7d, 2w.", older);
    else if (key && !emb_cache_key_parse(key, parsed))
        emb_call_fail(call, 422, "invalid_value", "?key",
                      "key: \"%.100s\" is not a key; \"embed:v1:\" and 64 hexadecimal digits.", key);
    else if (all && strcmp(all, "true") != 0)
        emb_call_fail(call, 422, "invalid_value", "?all", "all: \"%.60s\" is not true.", all);
    else if (!filter->model && !older && !key && !all)
        emb_call_fail(call, 422, "missing", "?all",
                      "Say what to remove: model, older_than, key, or all=true.");
    else if (filter->model && call->caller && !emb_caller_may_use(call->caller, filter->model))
        emb_call_fail(call, 403, "model_not_allowed", "?model", "This API key may not use the model %.200s.",
                      filter->model);
    else {
        filter->key = key ? parsed : NULL;
        return true;
    }
    return false;
}

/* The cache knows models by their canonical names. */
static bool canonical_model(emb_api_call *call, emb_cache_filter *filter)
{
    emb_served *m = emb_models_try_acquire(emb_service_models(call->service), filter->model);
    if (!m)
        return true; /* not open: as it was given */
    filter->model = emb_arena_strndup(call->arena, m->name, strlen(m->name));
    emb_models_release(m);
    if (filter->model)
        return true;
    emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
    return false;
}

static void clear_on_worker(emb_api_call *call)
{
    emb_cache_filter filter = *(emb_cache_filter *)call->state;
    emb_cache *cache = emb_service_cache(call->service);
    uint64_t removed = 0;
    emb_error err;
    if (filter.model && !canonical_model(call, &filter))
        return;
    if (cache && emb_cache_remove(cache, &filter, &removed, &err)) {
        emb_call_fail_error(call, &err);
        return;
    }
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_count(&o, "removed", removed);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void clear(emb_api_call *call)
{
    emb_cache_filter *filter = emb_arena_calloc(call->arena, 1, sizeof *filter);
    if (!filter) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return;
    }
    if (!read_filter(call, filter))
        return;
    call->state = filter;
    emb_call_park(call, clear_on_worker);
}

/* ---- warming ---- */

typedef struct warm_state {
    emb_warm_source source;
    bool streams;
    uint64_t told_ns;
} warm_state;

/* One event; `data` without line feeds. */
static void send_event(emb_exchange *x, const char *event, const void *data, size_t length)
{
    emb_buf text = EMB_BUF_INIT(64 << 10);
    if (emb_buf_addf(&text, "event: %s\ndata: ", event) == EMB_OK &&
        emb_buf_add(&text, data, length) == EMB_OK && emb_buf_add(&text, "\n\n", 2) == EMB_OK &&
        !emb_exchange_stream_write(x, text.data, text.length)) {
        /* the client has left: `gone` is set and ends the work */
    }
    emb_buf_fini(&text);
}

static void tell_progress(void *context, uint64_t done, uint64_t total)
{
    emb_api_call *call = context;
    warm_state *state = call->state;
    uint64_t now = emb_now_ns();
    char data[80];
    if (state->told_ns && done < total && now - state->told_ns < PROGRESS_NS)
        return;
    state->told_ns = now;
    int n = snprintf(data, sizeof data, "{\"done\":%" PRIu64 ",\"total\":%" PRIu64 "}", done, total);
    send_event(call->x, "progress", data, (size_t)n);
}

static void write_report(emb_out *o, const emb_warm_report *r)
{
    emb_out_open(o, NULL, '{');
    emb_out_text(o, "model", r->model);
    emb_out_count(o, "texts", r->texts);
    emb_out_count(o, "cached", r->cached);
    emb_out_count(o, "computed", r->computed);
    emb_out_count(o, "failed", r->failed);
    emb_out_count(o, "tokens", r->tokens);
    emb_out_real(o, "elapsed_ms", (double)r->elapsed_ns / 1e6, 3);
    emb_out_close(o, '}');
}

static void end_stream(emb_api_call *call, const emb_warm_report *report, const emb_error *err)
{
    emb_exchange *x = call->x;
    emb_out o;
    emb_out_begin(&o, call);
    if (report) {
        write_report(&o, report);
    } else {
        emb_out_open(&o, NULL, '{');
        emb_out_text(&o, "detail", err->message);
        emb_out_close(&o, '}');
    }
    if (o.status == EMB_OK)
        send_event(x, report ? "report" : "error", o.body.data, o.body.length);
    emb_buf_fini(&o.body);
    emb_call_end(call);
    emb_exchange_stream_end(x);
}

/* The name to warm for. Where requests go to a provider, so do these; what is here is opened before the
 * answer begins. */
static bool model_to_warm(emb_api_call *call, const char **name)
{
    *name = call->request.model;
    if (emb_service_is_remote(call->service, *name))
        return true;
    emb_served *m = emb_call_model(call, *name);
    if (m)
        *name = m->name;
    return m != NULL;
}

static void warm_on_worker(emb_api_call *call)
{
    warm_state *state = call->state;
    emb_warm_report report;
    emb_error err = {0};
    const char *model;
    if (!model_to_warm(call, &model))
        return;
    state->source.caller = call->caller;
    if (state->streams) {
        emb_exchange_add_header(call->x, "cache-control", "no-store");
        emb_exchange_stream_begin(call->x, 200, "text/event-stream");
    }
    emb_status status =
        emb_warm(call->service, &state->source, model, call->request.role,
                 state->streams ? tell_progress : NULL, call, emb_exchange_gone(call->x), &report, &err);
    if (!status && call->caller)
        emb_caller_count_tokens(call->caller, report.tokens, emb_now_ns());
    if (state->streams) {
        end_stream(call, status ? NULL : &report, &err);
        return;
    }
    if (status) {
        emb_call_fail_error(call, &err);
        return;
    }
    emb_out o;
    emb_out_begin(&o, call);
    write_report(&o, &report);
    emb_out_reply(&o, call, NULL);
}

static bool is_there(emb_json_value object, const char *member)
{
    emb_json_value value;
    return emb_json_get(object, member, &value) && emb_json_type_of(value) != EMB_JSON_NULL;
}

static bool check_list(emb_api_call *call, const char *name)
{
    char known[200] = "";
    const emb_term_list *list;
    if (emb_term_list_find(name))
        return true;
    for (size_t i = 0, at = 0; (list = emb_term_list_at(i)) && at < sizeof known; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", list->name);
    emb_call_fail_field(call, "list", "\"%.60s\" is not a list of terms; there are: %s.", name, known);
    return false;
}

static bool decode_source(emb_api_call *call, emb_json_value root, emb_warm_source *source)
{
    emb_request texts = EMB_REQUEST_INIT;
    int given = is_there(root, "list") + is_there(root, "texts") + is_there(root, "most_used");
    if (given != 1) {
        emb_call_fail(call, 422, given ? "invalid_value" : "missing", "list",
                      "%s of list, texts and most_used is there; exactly one is needed.",
                      given ? "More than one" : "None");
        return false;
    }
    if (is_there(root, "texts")) {
        if (!emb_decode_texts(call, root, "texts", EMB_TEXTS_MANY | EMB_TEXTS_NOT_EMPTY, &texts, NULL))
            return false;
        source->texts = texts.texts;
        source->count = texts.count;
        return true;
    }
    if (is_there(root, "most_used"))
        return emb_decode_count(call, root, "most_used", 1, MOST_USED_MAX, &source->most_used);
    return emb_decode_name(call, root, "list", &source->list) && check_list(call, source->list);
}

static void warm(emb_api_call *call)
{
    emb_json_value root;
    int role = 0;
    warm_state *state = emb_arena_calloc(call->arena, 1, sizeof *state);
    const char *accept = emb_exchange_header(call->x, "accept");
    if (!state) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return;
    }
    if (!emb_call_json(call, &root) || !decode_source(call, root, &state->source) ||
        !emb_decode_model(call, root, &call->request) ||
        !emb_decode_choice(call, root, "input_type", EMB_INPUT_TYPES, &role))
        return;
    if (!emb_service_cache(call->service)) {
        emb_call_fail(call, 409, "cache_off", NULL, "There is no cache to warm: cache.enabled is false.");
        return;
    }
    call->request.role = (emb_role)role;
    state->streams = accept && strcasestr(accept, "text/event-stream");
    call->state = state;
    emb_call_park(call, warm_on_worker);
}

/* ---- the table ---- */

#define WARM_REQUEST                                                                                         \
    "{\"type\":\"object\",\"description\":\"One of list, texts and "                                         \
    "most_used.\",\"properties\":{\"list\":{\"type\":"                                                       \
    "[\"string\",\"null\"],\"maxLength\":1024,\"description\":\"A list that "                                \
    "ships.\",\"examples\":[\"finance\"]},"                                                                  \
    "\"texts\":{\"type\":[\"array\",\"null\"],\"minItems\":1,\"items\":{\"type\":\"string\",\"minLength\":"  \
    "1}},"                                                                                                   \
    "\"most_used\":{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":1000000,\"description\":\"So " \
    "many of the "                                                                                           \
    "most used texts of the second level; needs "                                                            \
    "cache.store_text.\"},\"model\":{\"type\":[\"string\",\"null\"],"                                        \
    "\"maxLength\":1024},\"input_type\":{\"enum\":[\"none\",\"query\",\"document\",null]}},\"examples\":[{"  \
    "\"texts\":["                                                                                            \
    "\"net income\"]}]}"
#define COUNT EMB_HYBRID_COUNT
#define WARM_ANSWER                                                                                         \
    "{\"type\":\"object\",\"required\":[\"model\",\"texts\",\"cached\",\"computed\",\"failed\",\"tokens\"," \
    "\"elapsed_ms\"],"                                                                                      \
    "\"properties\":{\"model\":{\"type\":\"string\"},\"texts\":" COUNT ",\"cached\":" COUNT                 \
    ",\"computed\":" COUNT ",\"failed\":" COUNT ",\"tokens\":" COUNT ",\"elapsed_ms\":" EMB_HYBRID_AMOUNT   \
    "}}"

const emb_route emb_routes_hybrid_cache[] = {
    {EMB_HTTP_GET, "/api/v1/embeddings/cache", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_READ, get_stats,
     "What the cache holds and finds.", NULL, EMB_HYBRID_CACHE_SCHEMA, NULL, NULL},
    {EMB_HTTP_DELETE, "/api/v1/embeddings/cache", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_ADMIN, clear,
     "Remove what matches all that is given: model, older_than (seconds, or 12h, 7d), key; or all=true.",
     NULL, "{\"type\":\"object\",\"required\":[\"removed\"],\"properties\":{\"removed\":" COUNT "}}", NULL,
     "model,older_than,key,all"},
    {EMB_HTTP_POST, "/api/v1/embeddings/cache/warm", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_ADMIN, warm,
     "Embed texts before anybody asks; with Accept: text/event-stream, events tell the progress.",
     WARM_REQUEST, WARM_ANSWER, NULL, NULL},
    {0}};
