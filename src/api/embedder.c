/*
 * embedder.c: the embedder service's routes, /embed/….
 *
 * Texts are documents and queries are queries: for models with prompts these differ, and so do their cache
 * keys, since the prompt is part of a key. use_cache false neither reads nor writes the cache. batch_size is
 * checked and has no effect: the engine makes batches by tokens, over all callers.
 *
 * skip_empty leaves blank texts out before the request and puts null in their places after it; `kept` maps
 * the texts of the request back to the places of the client's array, for vectors and for errors alike.
 *
 * /embed/models shows what can be served now, then what the catalog knows besides, so that a client may
 * choose; only those with "available" are here.
 */
#include "api/decode.h"
#include "api/out.h"
#include "model/catalog.h"

#include <stdio.h>
#include <string.h>

enum { BATCH_SIZE_MAX = 100000 };

/* ---- embedding ---- */

static void write_totals(emb_out *o, const emb_answer *a)
{
    emb_out_text(o, "provider", a->provider);
    emb_out_text(o, "space", a->space);
    emb_out_real(o, "latency_ms", (double)a->total_ns / 1e6, 3);
    emb_out_usd(o, "cost_usd", a->cost_nusd);
    emb_out_count(o, "tokens", a->total_tokens);
}

static void write_one(emb_api_call *call, const emb_answer *a)
{
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_floats(&o, "embedding", a->vectors, a->dimension);
    emb_out_count(&o, "dimension", a->dimension);
    emb_out_text(&o, "model", a->model);
    emb_out_bool(&o, "cached", a->cached == a->count);
    emb_out_usd(&o, "cost", a->cost_nusd);
    write_totals(&o, a);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, a);
}

/* What every route of the family takes besides its texts. */
static bool decode_options(emb_api_call *call, emb_json_value root, emb_request *r)
{
    bool use_cache = true;
    if (!emb_decode_common(call, root, r) || !emb_decode_bool(call, root, "use_cache", &use_cache))
        return false;
    r->cache_read &= use_cache;
    r->cache_write &= use_cache;
    return true;
}

static void embed_one(emb_api_call *call, const char *member, emb_role role)
{
    emb_request r = EMB_REQUEST_INIT;
    emb_json_value root;
    r.role = role;
    if (emb_call_json(call, &root) && emb_call_headers(call, &r) &&
        emb_decode_texts(call, root, member, EMB_TEXTS_ONE | EMB_TEXTS_NOT_EMPTY, &r, NULL) &&
        decode_options(call, root, &r))
        emb_call_embed(call, &r, write_one);
}

static void embed_text(emb_api_call *call)
{
    embed_one(call, "text", EMB_ROLE_DOCUMENT);
}

static void embed_query(emb_api_call *call)
{
    embed_one(call, "query", EMB_ROLE_QUERY);
}

typedef struct batch_state {
    size_t places; /* texts of the client's array; kept of them are in call->places */
} batch_state;

static void write_vectors(emb_out *o, const batch_state *state, const size_t *kept, const emb_answer *a)
{
    if (!kept) {
        emb_out_rows(o, "embeddings", a->vectors, a->count, a->dimension);
        return;
    }
    emb_out_open(o, "embeddings", '[');
    for (size_t i = 0, next = 0; i < state->places; i++)
        if (next < a->count && kept[next] == i)
            emb_out_floats(o, NULL, a->vectors + next++ * a->dimension, a->dimension);
        else
            emb_out_null(o, NULL);
    emb_out_close(o, ']');
}

static void write_batch(emb_api_call *call, const emb_answer *a)
{
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    write_vectors(&o, call->state, call->places, a);
    emb_out_count(&o, "dimension", a->dimension);
    emb_out_text(&o, "model", a->model);
    emb_out_count(&o, "total_embeddings", a->count);
    emb_out_count(&o, "cached_count", a->cached);
    emb_out_usd(&o, "total_cost", a->cost_nusd);
    write_totals(&o, a);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, a);
}

/* Leaves the blank texts of the request out and notes the places of the others. */
static bool leave_out_blank(emb_api_call *call, emb_request *r)
{
    batch_state *state = emb_arena_calloc(call->arena, 1, sizeof *state);
    size_t *places = emb_arena_calloc(call->arena, r->count, sizeof *places);
    emb_text *texts = emb_arena_calloc(call->arena, r->count, sizeof *texts);
    if (!state || !places || !texts) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return false;
    }
    size_t kept = 0;
    for (size_t i = 0; i < r->count; i++)
        if (!emb_text_is_blank(r->texts[i])) {
            places[kept] = i;
            texts[kept++] = r->texts[i];
        }
    state->places = r->count;
    call->state = state;
    call->places = places;
    r->texts = texts;
    r->count = kept;
    return true;
}

static void embed_batch(emb_api_call *call)
{
    emb_request r = EMB_REQUEST_INIT;
    emb_json_value root;
    size_t batch_size = 0;
    bool skip_empty = false;
    r.role = EMB_ROLE_DOCUMENT;
    if (!emb_call_json(call, &root) || !emb_call_headers(call, &r) ||
        !emb_decode_bool(call, root, "skip_empty", &skip_empty) ||
        !emb_decode_texts(call, root, "texts", EMB_TEXTS_MANY | (skip_empty ? 0 : EMB_TEXTS_NOT_EMPTY), &r,
                          NULL) ||
        !decode_options(call, root, &r) ||
        !emb_decode_count(call, root, "batch_size", 1, BATCH_SIZE_MAX, &batch_size))
        return;
    if (!skip_empty || leave_out_blank(call, &r))
        emb_call_embed(call, &r, write_batch);
}

/* ---- models ---- */

static void write_catalog_members(emb_out *o, const emb_catalog_entry *e)
{
    if (!e)
        return;
    if (e->mteb > 0)
        emb_out_real(o, "mteb_score", e->mteb, 2);
    emb_out_bool(o, "multilingual", e->multilingual);
    emb_out_bool(o, "supports_dimensions", e->shortens);
    emb_out_text(o, "license", e->licence);
    emb_out_text(o, "query_prompt", e->query_prompt);
    emb_out_text(o, "document_prompt", e->document_prompt);
}

static void write_cost(emb_out *o, uint64_t nusd_per_1k)
{
    emb_out_usd(o, "cost_per_1k_tokens", nusd_per_1k);
}

static void write_served(emb_out *o, const emb_model_listing *m, size_t batch_size)
{
    emb_out_open(o, NULL, '{');
    emb_out_text(o, "name", m->name);
    emb_out_text(o, "provider", m->provider);
    emb_out_text(o, "repository", m->repository);
    emb_out_count(o, "dimension", m->dimension);
    emb_out_count(o, "max_batch_size", batch_size);
    emb_out_count(o, "max_input_length", m->max_tokens);
    write_cost(o, m->price_nusd_per_1k);
    emb_out_bool(o, "loaded", m->loaded);
    emb_out_bool(o, "available", true);
    emb_out_bool(o, "default", m->is_default);
    emb_out_text(o, "revision", m->revision);
    write_catalog_members(o, emb_catalog_find(m->name));
    emb_out_close(o, '}');
}

static void write_known(emb_out *o, const emb_catalog_entry *e, size_t batch_size)
{
    emb_out_open(o, NULL, '{');
    emb_out_text(o, "name", e->name);
    emb_out_text(o, "provider", e->provider);
    emb_out_text(o, "repository", e->repository);
    emb_out_count(o, "dimension", e->dimension);
    emb_out_count(o, "max_batch_size", e->max_batch ? e->max_batch : batch_size);
    emb_out_count(o, "max_input_length", e->max_tokens);
    write_cost(o, e->price_nusd_per_1k);
    emb_out_bool(o, "loaded", false);
    emb_out_bool(o, "available", false);
    emb_out_bool(o, "default", false);
    emb_out_text(o, "revision", "");
    write_catalog_members(o, e);
    emb_out_close(o, '}');
}

static bool is_listed(const emb_model_listing *models, size_t count, const emb_catalog_entry *e)
{
    for (size_t i = 0; i < count; i++)
        if (emb_catalog_find(models[i].name) == e)
            return true;
    return false;
}

/* goal < 0: none was asked for */
static void write_recommendation(emb_out *o, int goal, const char *name)
{
    const emb_catalog_entry *picks[EMB_CATALOG_PICKS];
    if (goal < 0)
        return;
    size_t count = emb_catalog_recommend((emb_goal)goal, picks);
    emb_out_open(o, "recommendation", '{');
    emb_out_text(o, "goal", name);
    emb_out_text(o, "reason", emb_catalog_reason((emb_goal)goal));
    emb_out_open(o, "models", '[');
    for (size_t i = 0; i < count; i++)
        emb_out_text(o, NULL, picks[i]->name);
    emb_out_close(o, ']');
    emb_out_close(o, '}');
}

static int goal_named(const char *name)
{
    const char *p = EMB_GOAL_NAMES;
    for (int i = 0; *p; i++) {
        size_t length = strcspn(p, "|");
        if (strlen(name) == length && memcmp(p, name, length) == 0)
            return i;
        p += length + (p[length] == '|');
    }
    return -1;
}

static void list_models_on_worker(emb_api_call *call)
{
    emb_model_listing *models;
    size_t count, known;
    emb_error err;
    const char *goal = emb_exchange_query(call->x, "goal");
    emb_models *all = emb_service_models(call->service);
    if (emb_service_list_models(call->service, call->arena, &models, &count, &err)) {
        emb_call_fail_error(call, &err);
        return;
    }
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_open(&o, "models", '[');
    for (size_t i = 0; i < count; i++)
        if (!call->caller || emb_caller_may_use(call->caller, models[i].name))
            write_served(&o, &models[i], call->config->batch_size);
    const emb_catalog_entry *entries = emb_catalog_all(&known);
    for (size_t i = 0; i < known; i++)
        if (!is_listed(models, count, &entries[i]) &&
            (!call->caller || emb_caller_may_use(call->caller, entries[i].name)))
            write_known(&o, &entries[i], call->config->batch_size);
    emb_out_close(&o, ']');
    emb_out_text(&o, "default", emb_models_default_name(all));
    write_recommendation(&o, goal && *goal ? goal_named(goal) : -1, goal);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void list_models(emb_api_call *call)
{
    const char *goal = emb_exchange_query(call->x, "goal");
    if (goal && *goal && goal_named(goal) < 0)
        emb_call_fail(call, 422, "invalid_value", "?goal", "goal: \"%.60s\" is none of " EMB_GOAL_NAMES ".",
                      goal);
    else
        emb_call_park(call, list_models_on_worker);
}

/* ---- metrics and health ---- */

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

static void get_metrics(emb_api_call *call)
{
    emb_service_totals t;
    emb_service_get_totals(call->service, &t);
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_open(&o, "metrics", '{');
    emb_out_count(&o, "total_requests", t.requests);
    emb_out_count(&o, "total_texts", t.texts);
    emb_out_count(&o, "total_embeddings_generated", t.computed_texts);
    emb_out_count(&o, "cache_hits", t.cached_texts);
    emb_out_count(&o, "cache_misses", t.texts - t.cached_texts);
    emb_out_real(&o, "cache_hit_rate", share(t.cached_texts, t.texts), 6);
    emb_out_count(&o, "l1_hits", t.l1_texts);
    emb_out_count(&o, "l2_hits", t.l2_texts);
    emb_out_count(&o, "shared_computations", t.shared_texts);
    emb_out_count(&o, "total_tokens", t.tokens);
    emb_out_count(&o, "total_errors", t.errors);
    emb_out_usd(&o, "total_cost_usd", t.cost_nusd);
    emb_out_real(&o, "p50_latency_ms", t.p50_ms, 3);
    emb_out_real(&o, "p95_latency_ms", t.p95_ms, 3);
    emb_out_real(&o, "p99_latency_ms", t.p99_ms, 3);
    emb_out_count(&o, "latency_window_seconds", EMB_LATENCY_SECONDS);
    emb_out_count(&o, "models_loaded", emb_models_loaded(emb_service_models(call->service)));
    emb_out_bool(&o, "caching_enabled", emb_service_cache(call->service) != NULL);
    emb_out_real(&o, "since_seconds", t.since_seconds, 3);
    emb_out_close(&o, '}');
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void reset_metrics(emb_api_call *call)
{
    emb_service_reset_totals(call->service);
    emb_api_reset_latency(call->api);
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_text(&o, "status", "success");
    emb_out_text(&o, "message", "Metrics reset successfully");
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void get_health(emb_api_call *call)
{
    emb_models *models = emb_service_models(call->service);
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_text(&o, "status", "healthy");
    emb_out_text(&o, "service", "embedder");
    emb_out_text(&o, "default_model", emb_models_default_name(models));
    emb_out_bool(&o, "caching_enabled", emb_service_cache(call->service) != NULL);
    emb_out_count(&o, "models_loaded", emb_models_loaded(models));
    emb_out_bool(&o, "ready", emb_service_ready(call->service) && !emb_api_draining(call->api));
    emb_out_text(&o, "version", emb_version());
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

/* ---- the table ---- */

#define COMMON_MEMBERS                                                                                       \
    "\"model\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024,\"examples\":[\"all-MiniLM-L6-v2\"]},"     \
    "\"use_cache\":{\"type\":[\"boolean\",\"null\"],\"default\":true,\"description\":\"false: neither look " \
    "for vectors "                                                                                           \
    "in the cache nor keep them.\"},"                                                                        \
    "\"dimensions\":{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":65536},"                      \
    "\"prompt_name\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024},"                                   \
    "\"normalize\":{\"type\":[\"boolean\",\"null\"]},"                                                       \
    "\"truncate\":{\"default\":true,\"enum\":[true,false,\"none\",\"start\",\"end\",null],\"description\":"  \
    "\"false: a "                                                                                            \
    "text over the model's limit of tokens is an error.\"},"                                                 \
    "\"context\":{\"enum\":[\"realtime\",\"analysis\",\"batch\",\"sensitive\",\"default\",null]},"           \
    "\"category\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024},"                                      \
    "\"preferred_provider\":{\"type\":[\"string\",\"null\"],\"maxLength\":128,\"examples\":[\"local\"]}"
#define NOT_BLANK "{\"type\":\"string\",\"minLength\":1,\"pattern\":\"\\\\S\",\"examples\":[\"Hello world\"]}"
#define FLOATS "{\"type\":\"array\",\"items\":{\"type\":\"number\"}}"
#define COUNT "{\"type\":\"integer\",\"minimum\":0}"
#define AMOUNT "{\"type\":\"number\",\"minimum\":0}"
#define TOTAL_MEMBERS                                                                                      \
    "\"provider\":{\"type\":\"string\"},\"space\":{\"type\":\"string\",\"description\":\"Only vectors of " \
    "one space can "                                                                                       \
    "be compared.\"},\"latency_ms\":" AMOUNT ",\"cost_usd\":" AMOUNT ",\"tokens\":" COUNT
#define TOTAL_NAMES "\"provider\",\"space\",\"latency_ms\",\"cost_usd\",\"tokens\""

#define ONE_REQUEST(member)                                                                        \
    "{\"type\":\"object\",\"required\":[\"" member "\"],\"properties\":{\"" member "\":" NOT_BLANK \
    "," COMMON_MEMBERS "}}"
#define ONE_ANSWER                                                                                           \
    "{\"type\":\"object\",\"required\":[\"embedding\",\"dimension\",\"model\",\"cached\","                   \
    "\"cost\"," TOTAL_NAMES "],"                                                                             \
    "\"properties\":{\"embedding\":" FLOATS ",\"dimension\":{\"type\":\"integer\",\"minimum\":1},\"model\":" \
    "{\"type\":\"string\"},\"cached\":{\"type\":\"boolean\"},\"cost\":" AMOUNT "," TOTAL_MEMBERS "}}"
#define BATCH_REQUEST                                                                                      \
    "{\"type\":\"object\",\"required\":[\"texts\"],\"properties\":{\"texts\":{\"type\":\"array\","         \
    "\"minItems\":1,"                                                                                      \
    "\"items\":{\"type\":\"string\"},\"examples\":[[\"text1\",\"text2\"]]},\"batch_size\":{\"type\":["     \
    "\"integer\","                                                                                         \
    "\"null\"],\"minimum\":1,\"maximum\":100000,\"description\":\"Has no effect: batches are made by "     \
    "tokens.\"},"                                                                                          \
    "\"skip_empty\":{\"type\":[\"boolean\",\"null\"],\"default\":false,\"description\":\"Answer null for " \
    "empty texts, "                                                                                        \
    "in their places, instead of an error.\"}," COMMON_MEMBERS "}}"
#define BATCH_ANSWER                                                                                  \
    "{\"type\":\"object\",\"required\":[\"embeddings\",\"dimension\",\"model\",\"total_embeddings\"," \
    "\"cached_count\","                                                                               \
    "\"total_cost\"," TOTAL_NAMES                                                                     \
    "],\"properties\":{\"embeddings\":{\"type\":\"array\",\"items\":{\"type\":"                       \
    "[\"array\",\"null\"],\"items\":{\"type\":\"number\"}}},\"dimension\":{\"type\":\"integer\","     \
    "\"minimum\":1},"                                                                                 \
    "\"model\":{\"type\":\"string\"},\"total_embeddings\":" COUNT ",\"cached_count\":" COUNT          \
    ",\"total_cost\":" AMOUNT "," TOTAL_MEMBERS "}}"
#define MODELS_ANSWER                                                                                        \
    "{\"type\":\"object\",\"required\":[\"models\",\"default\"],\"properties\":{\"models\":{\"type\":"       \
    "\"array\",\"items\":"                                                                                   \
    "{\"type\":\"object\",\"required\":[\"name\",\"provider\",\"dimension\",\"max_batch_size\",\"max_input_" \
    "length\","                                                                                              \
    "\"cost_per_1k_tokens\",\"loaded\",\"available\",\"default\"],\"properties\":{\"name\":{\"type\":"       \
    "\"string\"},"                                                                                           \
    "\"provider\":{\"type\":\"string\"},\"repository\":{\"type\":[\"string\",\"null\"]},"                    \
    "\"dimension\":" COUNT ",\"max_batch_size\":" COUNT ",\"max_input_length\":" COUNT                       \
    ",\"cost_per_1k_tokens\":" AMOUNT ",\"loaded\":{\"type\":\"boolean\"},\"available\":{\"type\":"          \
    "\"boolean\",\"description\":\"Its files are here.\"},"                                                  \
    "\"default\":{\"type\":\"boolean\"},\"revision\":{\"type\":\"string\"},\"mteb_score\":{\"type\":"        \
    "\"number\"}}}},"                                                                                        \
    "\"default\":{\"type\":\"string\"},\"recommendation\":{\"type\":\"object\",\"required\":[\"goal\","      \
    "\"reason\","                                                                                            \
    "\"models\"],\"properties\":{\"goal\":{\"type\":\"string\"},\"reason\":{\"type\":\"string\"},"           \
    "\"models\":"                                                                                            \
    "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}}}}}"
#define METRICS_ANSWER                                                                                      \
    "{\"type\":\"object\",\"required\":[\"metrics\"],\"properties\":{\"metrics\":{\"type\":\"object\","     \
    "\"required\":["                                                                                        \
    "\"total_embeddings_generated\",\"cache_hit_rate\",\"total_cost_usd\",\"models_loaded\"],"              \
    "\"properties\":{"                                                                                      \
    "\"total_requests\":" COUNT ",\"total_texts\":" COUNT ",\"total_embeddings_generated\":" COUNT          \
    ",\"cache_hits\":" COUNT ",\"cache_misses\":" COUNT                                                     \
    ",\"cache_hit_rate\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1},"                                \
    "\"l1_hits\":" COUNT ",\"l2_hits\":" COUNT ",\"shared_computations\":" COUNT ",\"total_tokens\":" COUNT \
    ",\"total_errors\":" COUNT ",\"total_cost_usd\":" AMOUNT ",\"p50_latency_ms\":" AMOUNT                  \
    ",\"p95_latency_ms\":" AMOUNT ",\"p99_latency_ms\":" AMOUNT ",\"models_loaded\":" COUNT                 \
    ",\"caching_enabled\":{\"type\":\"boolean\"},"                                                          \
    "\"latency_window_seconds\":" COUNT ",\"since_seconds\":" AMOUNT "}}}}"
#define HEALTH_ANSWER                                                                                       \
    "{\"type\":\"object\",\"required\":[\"status\",\"service\",\"default_model\",\"caching_enabled\","      \
    "\"models_loaded\"],"                                                                                   \
    "\"properties\":{\"status\":{\"type\":\"string\"},\"service\":{\"type\":\"string\"},\"default_model\":" \
    "{\"type\":\"string\"},\"caching_enabled\":{\"type\":\"boolean\"},\"models_loaded\":" COUNT             \
    ",\"ready\":{\"type\":\"boolean\"},\"version\":{\"type\":\"string\"}}}"

const emb_route emb_routes_embedder[] = {
    {EMB_HTTP_POST, "/embed/text", EMB_FAMILY_EMBEDDER, EMB_AUTH_KEY, EMB_RIGHT_USE, embed_text,
     "Embed a text.", ONE_REQUEST("text"), ONE_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/embed/batch", EMB_FAMILY_EMBEDDER, EMB_AUTH_KEY, EMB_RIGHT_USE, embed_batch,
     "Embed texts.", BATCH_REQUEST, BATCH_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/embed/query", EMB_FAMILY_EMBEDDER, EMB_AUTH_KEY, EMB_RIGHT_USE, embed_query,
     "Embed a query, with the model's prompt for queries.", ONE_REQUEST("query"), ONE_ANSWER, NULL, NULL},
    {EMB_HTTP_GET, "/embed/models", EMB_FAMILY_EMBEDDER, EMB_AUTH_KEY, EMB_RIGHT_USE | EMB_RIGHT_READ,
     list_models,
     "Models that are here and others that are known; with ?goal=" EMB_GOAL_NAMES ", which to take.", NULL,
     MODELS_ANSWER, NULL, "goal"},
    {EMB_HTTP_GET, "/embed/metrics", EMB_FAMILY_EMBEDDER, EMB_AUTH_METRICS, EMB_RIGHT_READ, get_metrics,
     "Totals since the start or the last reset; percentiles of the last 5 minutes, or since a later reset.",
     NULL, METRICS_ANSWER, NULL, NULL},
    {EMB_HTTP_POST, "/embed/metrics/reset", EMB_FAMILY_EMBEDDER, EMB_AUTH_KEY, EMB_RIGHT_ADMIN, reset_metrics,
     "Set the totals to 0 and forget the latencies. Prometheus' counters and alerts go on.", NULL,
     "{\"type\":\"object\",\"required\":[\"status\",\"message\"],\"properties\":{\"status\":{\"type\":"
     "\"string\"},"
     "\"message\":{\"type\":\"string\"}}}",
     NULL, NULL},
    {EMB_HTTP_GET, "/embed/health", EMB_FAMILY_EMBEDDER, EMB_AUTH_HEALTH, EMB_RIGHT_ANY, get_health,
     "Whether the service is up.", NULL, HEALTH_ANSWER, NULL, NULL},
    {0}};
