/*
 * The one embed(): every route, command and job comes through here.
 *
 *     plan     which model, and which of its variants; all settings are checked here
 *     keys     what each text's vector is filed under
 *     cache    what is there, what others compute right now, and what is left …
 *     provider … which the engine computes in one call
 *     account  counters
 *
 * A step knows nothing of the next. Today there is one provider, the engine; another one takes the place of
 * compute_locally for a plan that says so.
 *
 * Rows are addressed by the position of the text in the request, all the way: a lookup's vector is the row of
 * the answer, and what the engine computes for a gathered subset is scattered back to those rows by the list
 * of positions that gathered it. No step sorts or compacts the rows themselves.
 *
 * A vector that is not finite is an error of the whole call; it is neither returned nor filed.
 *
 * emb_service_embed_cached is the same plan, the same keys and the same account around emb_cache_peek, for
 * threads that must not wait. It takes no lock that all share; see models_parts.h and variant.c for how.
 */
#include "base/clock.h"
#include "base/error.h"
#include "service/service_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct work {
    emb_service *service;
    const emb_request *request;
    emb_arena *arena;
    emb_answer *answer;
    /* the plan */
    emb_served *served;
    const emb_variant *variant;
    emb_cache *cache; /* NULL: none is used */
    emb_cache_policy policy;
    /* by text */
    emb_cache_lookup *lookups;
    float *vectors;
    uint64_t start_ns, engine_ns; /* the latter spent in calls of the engine */
} work;

/* ---- plan ------------------------------------------------------------------------------------ */

static emb_status check_request(const work *w, emb_error *err)
{
    const emb_request *r = w->request;
    size_t most = atomic_load_explicit(&w->service->max_inputs, memory_order_relaxed);
    if (r->count > most)
        return emb_fail(err, EMB_E_LIMIT, "input", "%zu texts, the limit is %zu (server.max_inputs)",
                        r->count, most);
    if (r->count && !r->texts && (!r->ids || !r->offsets))
        return emb_fail(err, EMB_E_INVALID, "input", "there are neither texts nor token ids");
    return EMB_OK;
}

static void plan_cache(work *w)
{
    const emb_request *r = w->request;
    emb_service *service = w->service;
    w->cache = atomic_load_explicit(&service->caching, memory_order_relaxed)
                   ? atomic_load_explicit(&service->cache, memory_order_acquire)
                   : NULL;
    w->policy = (emb_cache_policy){
        .read = r->cache_read,
        .write = r->cache_write,
        .shared = !r->is_private,
        .max_age_s = r->cache_max_age_s,
        .ttl_s = atomic_load_explicit(&service->ttl_s, memory_order_relaxed),
        .model = w->served->name,
    };
}

/* The variant of a model that is held already. */
static emb_status plan_variant(work *w, emb_error *err)
{
    return emb_variant_get((emb_instance *)w->served, w->request, w->arena, &w->variant, err);
}

static emb_status plan(work *w, emb_error *err)
{
    const emb_request *r = w->request;
    emb_status status = check_request(w, err);
    if (!status)
        status = emb_models_acquire_until(w->service->models, r->model, r->cancel, r->deadline_ns, &w->served,
                                          err);
    if (status)
        return status;
    plan_cache(w);
    return plan_variant(w, err);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static emb_status make_room(work *w, emb_error *err)
{
    size_t count = w->request->count, dimension = w->variant->dimension;
    if (count > SIZE_MAX / sizeof(float) / dimension)
        return emb_fail_nomem(err, "vectors", SIZE_MAX);
    w->lookups = emb_arena_calloc(w->arena, count ? count : 1, sizeof *w->lookups);
    w->vectors = emb_arena_alloc(w->arena, count ? count * dimension * sizeof(float) : 1);
    if (!w->lookups || !w->vectors)
        return emb_fail_nomem(err, "vectors", count * dimension * sizeof(float));
    for (size_t i = 0; i < count; i++) {
        w->lookups[i].vector = w->vectors + i * dimension;
        w->lookups[i].dimension = (uint32_t)dimension;
    }
    return EMB_OK;
}

static emb_status make_keys(work *w, emb_error *err)
{
    const emb_request *r = w->request;
    const emb_cache_scope *scope = &w->variant->scope;
    for (size_t i = 0; i < r->count; i++) {
        emb_cache_lookup *l = &w->lookups[i];
        bool made;
        if (r->texts) {
            l->text = r->texts[i].data;
            l->text_length = r->texts[i].length;
            made = emb_cache_key_of_text(scope, l->text, l->text_length, &l->key);
        } else {
            size_t begin = r->offsets[i], end = r->offsets[i + 1];
            if (end <= begin) {
                char where[32];
                snprintf(where, sizeof where, "input[%zu]", i);
                return emb_fail(err, EMB_E_INVALID, where, "input[%zu]: the list of token ids is empty", i);
            }
            made = emb_cache_key_of_ids(scope, r->ids + begin, end - begin, &l->key);
        }
        if (!made)
            return emb_fail_nomem(err, "cache key", sizeof l->key);
    }
    return EMB_OK;
}

/* ---- provider: the engine -------------------------------------------------------------------- */

/* What the engine gets: the texts of some positions, one after another. */
typedef struct gathered {
    const emb_text *texts;
    const int32_t *ids;
    const size_t *offsets;
    float *vectors;
    uint32_t *tokens;
    bool in_place;   /* the positions follow each other: the request's own memory is used */
    void *memory[3]; /* what was allocated */
} gathered;

static bool is_run(const size_t *todo, size_t count)
{
    return todo[count - 1] - todo[0] == count - 1; /* positions ascend */
}

static bool gather_ids(const emb_request *r, const size_t *todo, size_t count, gathered *g)
{
    size_t total = 0, *offsets = malloc((count + 1) * sizeof *offsets);
    g->memory[1] = offsets;
    for (size_t k = 0; k < count; k++)
        total += r->offsets[todo[k] + 1] - r->offsets[todo[k]];
    int32_t *ids = offsets ? malloc((total ? total : 1) * sizeof *ids) : NULL;
    g->memory[2] = ids;
    if (!ids)
        return false;
    offsets[0] = 0;
    for (size_t k = 0; k < count; k++) {
        size_t begin = r->offsets[todo[k]], n = r->offsets[todo[k] + 1] - begin;
        memcpy(ids + offsets[k], r->ids + begin, n * sizeof *ids);
        offsets[k + 1] = offsets[k] + n;
    }
    g->ids = ids;
    g->offsets = offsets;
    return true;
}

static bool gather_texts(const emb_request *r, const size_t *todo, size_t count, gathered *g)
{
    emb_text *texts = malloc(count * sizeof *texts);
    g->memory[1] = texts;
    for (size_t k = 0; k < count && texts; k++)
        texts[k] = r->texts[todo[k]];
    g->texts = texts;
    return texts != NULL;
}

static emb_status gather(work *w, const size_t *todo, size_t count, gathered *g, emb_error *err)
{
    const emb_request *r = w->request;
    size_t dimension = w->variant->dimension, first = todo[0];
    memset(g, 0, sizeof *g);
    g->in_place = is_run(todo, count);
    size_t floats = g->in_place ? 0 : count * dimension;
    float *memory = malloc(floats * sizeof(float) + count * sizeof(uint32_t));
    g->memory[0] = memory;
    bool ok = memory != NULL;
    if (g->in_place) {
        g->texts = r->texts ? r->texts + first : NULL;
        g->ids = r->ids;
        g->offsets = r->texts ? NULL : r->offsets + first;
    } else {
        ok = ok && (r->texts ? gather_texts(r, todo, count, g) : gather_ids(r, todo, count, g));
    }
    if (!ok)
        return emb_fail_nomem(err, "texts to compute",
                              count * (sizeof(emb_text) + dimension * sizeof(float)));
    g->vectors = g->in_place ? w->vectors + first * dimension : memory;
    g->tokens = (uint32_t *)(memory + floats);
    return EMB_OK;
}

static void gathered_free(gathered *g)
{
    for (size_t i = 0; i < sizeof g->memory / sizeof *g->memory; i++)
        free(g->memory[i]);
}

static emb_status make_options(const work *w, emb_embed_options *options, emb_error *err)
{
    const emb_request *r = w->request;
    *options = w->variant->options;
    options->cancel = r->cancel;
    options->priority = r->priority;
    if (r->count >= atomic_load_explicit(&w->service->bulk_from, memory_order_relaxed))
        options->priority = EMB_PRIORITY_BULK;
    if (!r->deadline_ns)
        return EMB_OK;
    uint64_t now = emb_now_ns();
    if (now >= r->deadline_ns)
        return emb_fail(err, EMB_E_DEADLINE, NULL, "the time for the request ran out");
    uint64_t left_ms = (r->deadline_ns - now + 999999) / 1000000;
    options->timeout_ms = left_ms < INT64_MAX ? (int64_t)left_ms : INT64_MAX;
    return EMB_OK;
}

/* Weights that cannot be read are told with their path, which is no member of a request. */
static void name_model(emb_error *err)
{
    if (err && err->where[0] == '/')
        strcpy(err->where, "model");
}

/* The engine numbers the texts that it was given; callers know those that they sent. */
static void name_text(emb_error *err, const size_t *todo, size_t count)
{
    size_t at;
    if (!err || (sscanf(err->where, "texts[%zu]", &at) != 1 && sscanf(err->where, "ids[%zu]", &at) != 1) ||
        at >= count)
        return;
    snprintf(err->where, sizeof err->where, "input[%zu]", todo[at]);
    emb_error_context(err, "input[%zu]", todo[at]);
}

static bool is_finite(const float *values, size_t count)
{
    unsigned found = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        found |= (bits & 0x7F800000u) == 0x7F800000u; /* the exponent of NaN and infinity */
    }
    return !found;
}

static emb_status run_engine(work *w, const gathered *g, size_t count, emb_usage *usage, emb_error *err)
{
    emb_embed_options options;
    size_t floats = count * w->variant->dimension;
    emb_status status = make_options(w, &options, err);
    if (status)
        return status;
    if (g->texts)
        return emb_embed_counted(w->served->model, g->texts, count, &options, g->vectors, floats, g->tokens,
                                 usage, err);
    for (size_t k = 0; k < count; k++) {
        size_t n = g->offsets[k + 1] - g->offsets[k];
        g->tokens[k] = (uint32_t)(n < w->variant->max_tokens ? n : w->variant->max_tokens);
    }
    return emb_embed_ids(w->served->model, g->ids, g->offsets, count, &options, g->vectors, floats, usage,
                         err);
}

static void count_pass(work *w, size_t count, const emb_usage *usage)
{
    const emb_served *s = w->served;
    w->answer->queue_ns += usage->queue_ns;
    w->answer->tokenize_ns += usage->tokenize_ns;
    w->answer->compute_ns += usage->compute_ns;
    if (!atomic_load_explicit(&w->service->monitoring, memory_order_relaxed))
        return;
    emb_series_add(s->tokens, (double)usage->tokens);
    emb_series_observe(s->batch_texts, (double)count);
    emb_series_observe(s->batch_tokens, (double)usage->tokens);
    emb_series_observe(s->queue_seconds, (double)usage->queue_ns * 1e-9);
    emb_series_observe(s->tokenize_seconds, (double)usage->tokenize_ns * 1e-9);
    emb_series_observe(s->compute_seconds, (double)usage->compute_ns * 1e-9);
}

/* The vectors of these positions into their rows. Positions ascend. */
static emb_status compute_locally(work *w, const size_t *todo, size_t count, emb_error *err)
{
    gathered g;
    emb_usage usage = EMB_USAGE_INIT;
    size_t dimension = w->variant->dimension;
    uint64_t begin = emb_now_ns();
    emb_status status = gather(w, todo, count, &g, err);
    if (!status)
        status = run_engine(w, &g, count, &usage, err);
    if (!status)
        status = emb_models_confirm(w->service->models, w->served, err);
    if (!status && !is_finite(g.vectors, count * dimension))
        status = emb_fail(err, EMB_E_INTERNAL, NULL, "%s gave a vector with values that are not finite",
                          w->served->name);
    for (size_t k = 0; k < count && !status; k++) {
        emb_cache_lookup *l = &w->lookups[todo[k]];
        l->tokens = g.tokens[k];
        l->source = EMB_CACHE_COMPUTED;
        if (!g.in_place)
            memcpy(l->vector, g.vectors + k * dimension, dimension * sizeof(float));
    }
    if (!status) {
        emb_models_used(w->service->models, w->served);
        count_pass(w, count, &usage);
    } else {
        name_text(err, todo, count);
        name_model(err);
    }
    gathered_free(&g);
    w->engine_ns += emb_now_ns() - begin;
    return status;
}

/* ---- cache ----------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* The cache need not name positions in their order. */
static void sort_positions(size_t *todo, size_t count)
{
    for (size_t k = 1; k < count; k++)
        if (todo[k] < todo[k - 1]) {
            qsort(todo, count, sizeof *todo, ascending);
            return;
        }
}

/* The caller whose computation this one waited for was told that its text cannot be embedded. So is this one,
 * but by the place that the text has in its own request. */
static emb_status compute_unfilled(work *w, size_t *todo, emb_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < w->request->count; i++)
        if (w->lookups[i].source == EMB_CACHE_NONE)
            todo[count++] = i;
    return count ? compute_locally(w, todo, count, err) : EMB_OK;
}

static emb_status through_cache(work *w, size_t *todo, emb_error *err)
{
    const emb_request *r = w->request;
    emb_cache_flight *flight;
    size_t count;
    bool computed = true; /* whether `status` is of this call's own computation */
    emb_status status =
        emb_cache_begin(w->cache, w->lookups, r->count, &w->policy, r->deadline_ns, r->cancel, &flight, err);
    if (status)
        return status;
    while (!status && (computed = emb_cache_next(flight, todo, &count, &status, err))) {
        sort_positions(todo, count);
        status = compute_locally(w, todo, count, err);
        if (!status)
            emb_cache_publish(flight, todo, count);
    }
    if (!computed && (status == EMB_E_LIMIT || status == EMB_E_INVALID))
        status = compute_unfilled(w, todo, err);
    emb_cache_end(flight, status, err);
    return status;
}

static emb_status fill(work *w, emb_error *err)
{
    size_t count = w->request->count;
    if (!count)
        return EMB_OK;
    size_t *todo = malloc(count * sizeof *todo);
    if (!todo)
        return emb_fail_nomem(err, "positions", count * sizeof *todo);
    emb_status status;
    if (w->cache) {
        status = through_cache(w, todo, err);
    } else {
        for (size_t i = 0; i < count; i++)
            todo[i] = i;
        status = compute_locally(w, todo, count, err);
    }
    free(todo);
    return status;
}

/* ---- account --------------------------------------------------------------------------------- */

/* tokens and sources by text. */
static bool make_lists(work *w, uint32_t **tokens, uint8_t **sources)
{
    size_t count = w->request->count ? w->request->count : 1;
    *tokens = emb_arena_alloc(w->arena, count * sizeof **tokens);
    *sources = emb_arena_alloc(w->arena, count);
    return *tokens && *sources;
}

static void account(work *w, uint32_t *tokens, uint8_t *sources, uint64_t end_ns)
{
    emb_answer *a = w->answer;
    a->count = w->request->count;
    a->dimension = w->variant->dimension;
    a->vectors = w->vectors;
    a->tokens = tokens;
    a->sources = sources;
    for (size_t i = 0; i < a->count; i++) {
        tokens[i] = w->lookups[i].tokens;
        sources[i] = (uint8_t)w->lookups[i].source;
        a->total_tokens += tokens[i];
        a->cached += sources[i] == EMB_CACHE_L1 || sources[i] == EMB_CACHE_L2;
    }
    a->served = w->served;
    a->model = w->served->name;
    a->provider = "local";
    a->space = w->variant->space;
    a->total_ns = end_ns - w->start_ns;
    emb_models_note_use(w->served, end_ns);
    emb_totals_add(w->service, a);
}

/* ---- the whole ------------------------------------------------------------------------------- */

emb_status emb_service_embed(emb_service *service, const emb_request *request, emb_arena *arena,
                             emb_answer *answer, emb_error *err)
{
    work w = {
        .service = service, .request = request, .arena = arena, .answer = answer, .start_ns = emb_now_ns()};
    uint32_t *tokens = NULL;
    uint8_t *sources = NULL;
    memset(answer, 0, sizeof *answer);
    emb_status status = plan(&w, err);
    if (!status)
        status = make_room(&w, err);
    if (!status && !make_lists(&w, &tokens, &sources))
        status = emb_fail_nomem(err, "answer", request->count);
    if (!status && w.cache)
        status = make_keys(&w, err);
    uint64_t begin = emb_now_ns();
    if (!status)
        status = fill(&w, err);
    if (status) {
        emb_models_release(w.served);
        memset(answer, 0, sizeof *answer);
        emb_totals_add_error(service, status);
        return status;
    }
    uint64_t end = emb_now_ns();
    answer->cache_ns = w.cache ? end - begin - w.engine_ns : 0;
    account(&w, tokens, sources, end);
    return EMB_OK;
}

bool emb_service_embed_cached(emb_service *service, const emb_request *request, emb_arena *arena,
                              emb_answer *answer)
{
    work w = {
        .service = service, .request = request, .arena = arena, .answer = answer, .start_ns = emb_now_ns()};
    uint32_t *tokens = NULL;
    uint8_t *sources = NULL;
    memset(answer, 0, sizeof *answer);
    if (!request->cache_read || check_request(&w, NULL) != EMB_OK)
        return false;
    w.served = emb_models_try_acquire(service->models, request->model);
    if (!w.served)
        return false;
    plan_cache(&w);
    bool found = w.cache && plan_variant(&w, NULL) == EMB_OK && make_room(&w, NULL) == EMB_OK &&
                 make_lists(&w, &tokens, &sources) && make_keys(&w, NULL) == EMB_OK &&
                 emb_cache_peek(w.cache, w.lookups, request->count, &w.policy);
    if (!found) {
        emb_models_release(w.served);
        return false;
    }
    uint64_t end = emb_now_ns();
    answer->cache_ns = end - w.start_ns; /* reading the clock costs more than the rest that is in it */
    account(&w, tokens, sources, end);
    return true;
}

void emb_answer_done(emb_answer *answer)
{
    if (answer->served)
        emb_models_put(answer->served);
    answer->served = NULL;
}
