/*
 * remote.c: an instance of a provider as a target: its space and keys, and the call with all that surrounds
 * it.
 *
 * A space of a provider reads "openai/text-embedding-3-small@api:1536:remote:api": the maker of the model and
 * not the instance, since the same model through two doors makes the same vectors; "l2" at the end where the
 * request asks for normalisation, which is then done here. Another embedd names its spaces itself: its word
 * counts, so that a model has one space in all processes, each call is held to it, and keys are made of it.
 * When it changes, the call fails and the request is run once more in the new space (embed.c).
 *
 * Around every attempt (an HTTP exchange, of which a call may make several): the breaker's permit, then the
 * reservation, and afterwards exactly one report, settlement and entry in the ledger. An attempt that may
 * have been billed is settled by the provider's own count of tokens, else by ours; one that surely was not is
 * settled with nothing.
 */
#include "base/clock.h"
#include "base/duty.h"
#include "base/error.h"
#include "base/log.h"
#include "service/embed_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PROBE_SECONDS = 30, PROBE_LOOK_NS = 2000000, SPACE_BYTES = 512 };

/* ---- what a provider can do -------------------------------------------------------------------- */

static emb_status check_settings(const emb_remote_model *m, const emb_request *r, size_t dimension,
                                 emb_error *err)
{
    const emb_provider_model_config *c = m->config;
    emb_provider_kind kind = m->remote->config->kind;
    bool takes_prompts =
        kind == EMB_PROVIDER_TEI || kind == EMB_PROVIDER_HUGGINGFACE || kind == EMB_PROVIDER_EMBEDD;
    if (r->dimensions && r->dimensions != dimension && !c->shortens)
        return emb_fail(err, EMB_E_INVALID, "dimensions",
                        "dimensions is %zu, the vectors of %s have %zu and cannot be shortened",
                        r->dimensions, c->name, dimension);
    if (dimension && r->dimensions > dimension)
        return emb_fail(err, EMB_E_INVALID, "dimensions", "dimensions is %zu, the vectors of %s have %zu",
                        r->dimensions, c->name, dimension);
    if (r->prompt_name && *r->prompt_name && !takes_prompts)
        return emb_fail(err, EMB_E_INVALID, "prompt_name", "%s takes no prompts by name",
                        m->remote->config->name);
    if (!r->texts && r->count && strcmp(c->encoding, "cl100k_base") != 0)
        return emb_fail(err, EMB_E_INVALID, "input", "%s takes texts, not token ids", c->name);
    return EMB_OK;
}

const char *emb_remote_prompt(const emb_remote_model *m, emb_role role)
{
    return role == EMB_ROLE_QUERY      ? m->config->query_prompt
           : role == EMB_ROLE_DOCUMENT ? m->config->document_prompt
                                       : "";
}

bool emb_remote_takes_ids(const emb_remote_model *m)
{
    return strcmp(m->config->encoding, "cl100k_base") == 0 && emb_provider_takes_ids(m->remote->provider);
}

/* Whether ids go out in this call. */
static bool sends_ids(const emb_work *w)
{
    return !w->request->texts && emb_remote_takes_ids(w->target.remote);
}

/* ---- money ----------------------------------------------------------------------------------- */

static uint64_t limit_of(const emb_config *config, emb_limit_scope scope, const char *name)
{
    uint64_t any = UINT64_MAX;
    for (size_t i = 0; i < config->gateway.limit_count; i++) {
        const emb_limit_config *l = &config->gateway.limits[i];
        if (l->scope != scope)
            continue;
        if (strcmp(l->name, name) == 0)
            return l->daily_nusd;
        if (strcmp(l->name, "*") == 0)
            any = l->daily_nusd;
    }
    return any;
}

static uint64_t nusd_of(double usd)
{
    return (uint64_t)(usd * 1e9 + 0.5);
}

size_t emb_budget_scopes(emb_gateway *g, const emb_request *r, const emb_remote *remote, bool is_shadow,
                         char names[EMB_BUDGET_SCOPES][EMB_BUDGET_NAME],
                         emb_budget_scope scopes[EMB_BUDGET_SCOPES])
{
    emb_config *config = emb_service_config(g->service);
    size_t n = 0;
    const struct {
        emb_limit_scope scope;
        const char *prefix, *name;
    } named[] = {{EMB_LIMIT_PROVIDER, "provider", remote->config->name},
                 {EMB_LIMIT_KEY, "key", r->caller ? emb_caller_name(r->caller) : ""},
                 {EMB_LIMIT_CATEGORY, "category", r->category ? r->category : ""}};
    snprintf(names[n], EMB_BUDGET_NAME, "%s", is_shadow ? "shadow" : "global");
    scopes[n] = (emb_budget_scope){
        names[n], nusd_of(is_shadow ? config->shadow_daily_usd : config->daily_api_budget_usd)};
    n++;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        uint64_t limit = *named[i].name ? limit_of(config, named[i].scope, named[i].name) : UINT64_MAX;
        if (limit == UINT64_MAX)
            continue;
        snprintf(names[n], EMB_BUDGET_NAME, "%s:%.100s", named[i].prefix, named[i].name);
        scopes[n] = (emb_budget_scope){names[n], limit};
        n++;
    }
    emb_config_release(config);
    return n;
}

/* ---- around an attempt ----------------------------------------------------------------------- */

typedef struct attempt {
    emb_breaker_permit permit;
    emb_spend_ticket reservation;
    bool reserved;
    size_t texts;
    uint64_t tokens;
} attempt;

/* Estimates are half of the bytes, and no text has more tokens than bytes and the few that mark its ends. */
static uint64_t most_tokens(const emb_work *w, const attempt *a)
{
    bool counted = emb_counts_exactly(w->service->gateway, w->target.remote) || sends_ids(w);
    return counted ? a->tokens : 2 * a->tokens;
}

static emb_status reserve(emb_work *w, attempt *a, emb_error *err)
{
    emb_remote_model *m = w->target.remote;
    char names[EMB_BUDGET_SCOPES][EMB_BUDGET_NAME];
    emb_budget_scope scopes[EMB_BUDGET_SCOPES];
    uint64_t price = emb_remote_price(m, 1, most_tokens(w, a));
    if (!price)
        return EMB_OK;
    emb_service *service = w->service;
    size_t count = emb_budget_scopes(service->gateway, w->request, m->remote, w->is_shadow, names, scopes);
    emb_status status = emb_spend_reserve(service->kit.spend, scopes, count, price, w->request->deadline_ns,
                                          &a->reservation, err);
    a->reserved = !status;
    if (status == EMB_E_UNAVAILABLE) { /* where the store is, is for the log */
        emb_log(EMB_LOG_DEBUG, "a reservation failed", EMB_LOG_TEXT("error", err ? err->message : NULL));
        status = emb_fail(err, EMB_E_UNAVAILABLE, NULL,
                          "the budget's store cannot be asked now, and nothing is spent unseen");
    }
    return status;
}

static emb_status before(void *context, size_t texts, uint64_t tokens, void **ticket, emb_error *err)
{
    emb_work *w = context;
    emb_remote *remote = w->target.remote->remote;
    uint64_t now = emb_now_ns();
    attempt *a = calloc(1, sizeof *a);
    if (!a)
        return emb_fail_nomem(err, "attempt", sizeof *a);
    a->texts = texts;
    a->tokens = tokens;
    emb_status status = EMB_OK;
    if (!emb_breaker_allow(remote->breaker, now, &a->permit)) {
        status = emb_fail(err, EMB_E_UNAVAILABLE, NULL,
                          "the provider %s is not asked now: its breaker is open", remote->config->name);
    } else if ((status = reserve(w, a, err))) {
        emb_breaker_report(remote->breaker, a->permit, EMB_BREAKER_IGNORED, 0, "", emb_now_ns());
    }
    if (status)
        free(a);
    else
        *ticket = a;
    return status;
}

static emb_breaker_outcome outcome_of(emb_attempt_end end)
{
    switch (end) {
    case EMB_ATTEMPT_OK:
        return EMB_BREAKER_SUCCESS;
    case EMB_ATTEMPT_NOT_SENT:
    case EMB_ATTEMPT_TIMEOUT:
    case EMB_ATTEMPT_BROKEN:
    case EMB_ATTEMPT_BAD_ANSWER:
        return EMB_BREAKER_FAILURE;
    case EMB_ATTEMPT_QUOTA:
    case EMB_ATTEMPT_DENIED:
        return EMB_BREAKER_FATAL;
    default:
        return EMB_BREAKER_IGNORED;
    }
}

static void book(emb_work *w, const attempt *a, const emb_attempt *how, uint64_t tokens, uint64_t cost)
{
    const emb_request *r = w->request;
    const emb_ledger_entry e = {
        .kind = w->is_shadow ? EMB_LEDGER_SHADOW : EMB_LEDGER_API,
        .provider = w->target.provider,
        .model = w->target.model,
        .key = r->caller ? emb_caller_name(r->caller) : "",
        .category = r->category ? r->category : "",
        .context = emb_context_name(r->context),
        .calls = 1,
        .texts = how->end == EMB_ATTEMPT_OK ? a->texts : 0,
        .tokens = tokens,
        .nusd = cost,
    };
    emb_ledger_add(w->service->kit.ledger, &e); /* counts the cost in the metrics too */
}

static void after(void *context, void *ticket, const emb_attempt *how)
{
    emb_work *w = context;
    attempt *a = ticket;
    emb_remote_model *m = w->target.remote;
    uint64_t now = emb_now_ns();
    emb_breaker_report(m->remote->breaker, a->permit, outcome_of(how->end), how->duration_ns,
                       emb_attempt_end_name(how->end), now);
    uint64_t tokens = how->maybe_billed ? (how->tokens ? how->tokens : a->tokens) : 0;
    uint64_t cost = how->maybe_billed ? emb_remote_price(m, 1, tokens) : 0;
    if (a->reserved)
        emb_spend_settle(w->service->kit.spend, &a->reservation, cost);
    if (how->end == EMB_ATTEMPT_OK)
        emb_window_observe(m->remote->latency, (double)how->duration_ns * 1e-9, now);
    if (how->maybe_billed)
        book(w, a, how, tokens, cost);
    atomic_fetch_add(&w->cost_nusd, cost);
    free(a);
}

/* ---- the dimension that nobody told ----------------------------------------------------------- */

/* One asks, the others wait for what it learns, none longer than its request may take. */
static emb_status wait_to_probe(emb_remote_model *m, const emb_request *r, emb_error *err)
{
    const struct timespec moment = {.tv_nsec = PROBE_LOOK_NS};
    const char *name = m->config->name;
    while (pthread_mutex_trylock(&m->remote->probing)) {
        emb_duty_pass_on();
        if (r->cancel && __atomic_load_n(r->cancel, __ATOMIC_RELAXED))
            return emb_fail(err, EMB_E_CANCELLED, NULL, "cancelled while the dimension of %s was asked for",
                            name);
        if (r->deadline_ns && emb_now_ns() >= r->deadline_ns)
            return emb_fail(err, EMB_E_DEADLINE, NULL,
                            "the time ran out while the dimension of %s was asked for", name);
        nanosleep(&moment, NULL);
    }
    return EMB_OK;
}

/* The question is a call like any other: permit, reservation, ledger. */
static emb_status probe(emb_work *w, emb_remote_model *m, size_t *out, emb_error *err)
{
    emb_work asking = {.service = w->service, .request = w->request, .is_shadow = w->is_shadow};
    const emb_provider_hooks hooks = {before, after, &asking};
    const emb_request *r = w->request;
    asking.target.remote = m;
    asking.target.provider = m->remote->config->name;
    asking.target.model = m->config->name;
    emb_provider_result result;
    uint64_t deadline = r->deadline_ns ? r->deadline_ns : emb_now_ns() + PROBE_SECONDS * UINT64_C(1000000000);
    emb_status status = emb_provider_probe_hooked(m->remote->provider, m->config->upstream, deadline,
                                                  r->cancel, &hooks, &result, err);
    atomic_fetch_add(&w->cost_nusd, atomic_load(&asking.cost_nusd));
    if (status)
        return status;
    *out = result.dimension;
    if (m->peer)
        emb_peer_learn(m->peer, result.space);
    return EMB_OK;
}

/* Of another embedd the space is learned with the dimension, and again when it has changed. */
static bool is_known(const emb_remote_model *m, size_t *dimension)
{
    *dimension = atomic_load_explicit(&m->dimension, memory_order_acquire);
    return *dimension && (!m->peer || emb_peer_is_known(m->peer));
}

static emb_status learn_dimension(emb_work *w, emb_remote_model *m, bool may_wait, size_t *out,
                                  emb_error *err)
{
    if (is_known(m, out))
        return EMB_OK;
    if (!may_wait)
        return emb_fail(err, EMB_E_BUSY, "model", "the dimension of %s is not known yet", m->config->name);
    emb_status status = wait_to_probe(m, w->request, err);
    if (status)
        return status;
    if (!is_known(m, out) && !(status = probe(w, m, out, err)))
        atomic_store_explicit(&m->dimension, *out, memory_order_release);
    pthread_mutex_unlock(&m->remote->probing);
    return status;
}

/* ---- target: its space and keys ---------------------------------------------------------------- */

/* What stands for the prompt in a key: ours, or the input type that the provider gets. */
static const char *key_prompt(const emb_remote_model *m, const emb_request *r, emb_arena *arena)
{
    emb_provider_kind kind = m->remote->config->kind;
    bool typed = kind == EMB_PROVIDER_COHERE || kind == EMB_PROVIDER_EMBEDD;
    const char *name = r->prompt_name ? r->prompt_name : "",
               *ours = r->texts ? emb_remote_prompt(m, r->role) : "";
    size_t size = strlen(name) + strlen(ours) + 64; /* whole: prompts that begin alike are not the same */
    char *out = emb_arena_alloc(arena, size);
    if (out)
        snprintf(out, size, "%s%d:%zu:%s:%s", typed ? "role" : "", typed ? (int)r->role : 0, strlen(name),
                 name, ours);
    return out;
}

/* Kinds that are told whether to normalise: for others "no" is what they do anyway. */
static bool forwards_normalize(const emb_remote_model *m)
{
    emb_provider_kind kind = m->remote->config->kind;
    return kind == EMB_PROVIDER_TEI || kind == EMB_PROVIDER_EMBEDD;
}

/* Another embedd's own word, where it says one (*is_named); else ours. */
static const char *make_space(const emb_remote_model *m, const emb_request *r, size_t dimension,
                              emb_arena *arena, bool *is_named)
{
    const emb_provider_model_config *c = m->config;
    char space[SPACE_BYTES];
    _Static_assert(SPACE_BYTES >= (size_t)EMB_PROVIDER_SPACE_BYTES, "room for the other side's word");
    *is_named = m->peer && emb_peer_space(m->peer, r->dimensions, r->normalize, space);
    if (*is_named)
        return emb_arena_strndup(arena, space, strlen(space));
    snprintf(space, sizeof space, "%s/%s@%s:%zu:remote:%s", c->origin, c->name, c->revision,
             r->dimensions ? r->dimensions : dimension, r->normalize == EMB_ON ? "l2" : "api");
    return emb_arena_strndup(arena, space, strlen(space));
}

emb_status emb_remote_check(emb_remote_model *m, const emb_request *r, emb_arena *arena, const char **space,
                            emb_error *err)
{
    size_t dimension;
    bool known = is_known(m, &dimension), is_named;
    emb_status status = dimension ? check_settings(m, r, dimension, err) : EMB_OK;
    if (!status && !known)
        return emb_fail(err, EMB_E_BUSY, "model", "the dimension of %s is not known yet", m->config->name);
    if (!status && space && !(*space = make_space(m, r, dimension, arena, &is_named)))
        status = emb_fail_nomem(err, "name of a space", SPACE_BYTES);
    return status;
}

bool emb_target_is_stale(const emb_work *w)
{
    const emb_target *t = &w->target;
    char space[EMB_PROVIDER_SPACE_BYTES];
    if (!t->remote || !t->remote->peer)
        return false;
    if (!emb_peer_is_known(t->remote->peer))
        return true;
    bool named = emb_peer_space(t->remote->peer, w->request->dimensions, w->request->normalize, space);
    return named != t->names_space || (named && strcmp(space, t->space) != 0);
}

static bool make_scope(emb_work *w, const emb_remote_model *m)
{
    const emb_request *r = w->request;
    const char *prompt = key_prompt(m, r, w->arena);
    if (!prompt)
        return false;
    bool named = w->target.names_space;
    const emb_cache_scope_fields fields = {
        .namespace_ = w->service->gateway->config->cache_namespace,
        .provider = named ? "embedd" : m->config->origin,
        .model = m->config->name,
        .revision = named ? w->target.space : m->config->revision,
        .precision = "remote",
        .prompt = prompt,
        .prompt_length = strlen(prompt),
        .dimensions = w->target.dimension,
        .max_tokens = r->max_tokens,
        .normalize = forwards_normalize(m) ? (int)r->normalize : r->normalize == EMB_ON,
        .truncation = (int)r->truncation,
    };
    return emb_cache_scope_make(&fields, &w->target.scope);
}

emb_status emb_target_remote(emb_work *w, emb_remote_model *m, bool may_wait, emb_error *err)
{
    const emb_request *r = w->request;
    emb_target *t = &w->target;
    size_t dimension;
    emb_status status = learn_dimension(w, m, may_wait, &dimension, err);
    if (!status)
        status = check_settings(m, r, dimension, err);
    if (status)
        return status;
    t->remote = m;
    t->served = NULL;
    t->provider = m->remote->config->name;
    t->model = m->config->name;
    t->dimension = r->dimensions ? r->dimensions : dimension;
    t->series = &m->series;
    t->ttl_s = atomic_load_explicit(&w->service->ttl_api_s, memory_order_relaxed);
    t->space = make_space(m, r, dimension, w->arena, &t->names_space);
    if (!t->space || !make_scope(w, m))
        return emb_fail_nomem(err, "scope of cache keys", sizeof t->scope);
    return EMB_OK;
}

/* ---- the call -------------------------------------------------------------------------------- */

static emb_status check_lengths(const emb_work *w, const uint32_t *tokens, size_t count, const size_t *todo,
                                emb_error *err)
{
    const emb_remote_model *m = w->target.remote;
    bool exact = emb_counts_exactly(w->service->gateway, m) || sends_ids(w);
    for (size_t k = 0; k < count && exact && m->config->max_tokens; k++)
        if (tokens[k] > m->config->max_tokens) {
            char where[32];
            snprintf(where, sizeof where, "input[%zu]", todo[k]);
            return emb_fail(err, EMB_E_LIMIT, where, "input[%zu]: %u tokens, %s takes %zu", todo[k],
                            tokens[k], m->config->name, m->config->max_tokens);
        }
    return EMB_OK;
}

static emb_status put_prompt(const char *prompt, const emb_text *texts, size_t count, emb_arena *arena,
                             emb_text **out)
{
    size_t n = strlen(prompt);
    emb_text *made = emb_arena_calloc(arena, count, sizeof *made);
    for (size_t i = 0; i < count && made; i++) {
        char *text = emb_arena_alloc(arena, n + texts[i].length + 1);
        if (!text)
            return EMB_E_NOMEM;
        memcpy(text, prompt, n);
        if (texts[i].length)
            memcpy(text + n, texts[i].data, texts[i].length);
        made[i] = (emb_text){text, n + texts[i].length};
    }
    *out = made;
    return made ? EMB_OK : EMB_E_NOMEM;
}

/* Ids that go out as they are: a token each, and what they spell so that no error quotes it. */
static void take_ids(const emb_gathered *g, const emb_spelled *spelled, emb_text *texts, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        size_t n = g->offsets[k + 1] - g->offsets[k];
        g->tokens[k] = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
        texts[k] = spelled ? spelled[k].text : (emb_text){"", 0};
    }
}

static emb_status check_whole(const emb_spelled *spelled, emb_text *texts, size_t count, emb_error *err)
{
    for (size_t k = 0; k < count; k++) {
        char where[32];
        if (!spelled[k].is_whole) {
            snprintf(where, sizeof where, "input[%zu]", k);
            return emb_fail(err, EMB_E_INVALID, where,
                            "input[%zu]: the token ids do not spell whole characters; send the text instead",
                            k);
        }
        texts[k] = spelled[k].text;
    }
    return EMB_OK;
}

static emb_status prepare_ids(emb_work *w, const emb_gathered *g, size_t count, emb_arena *arena,
                              const emb_text **out, emb_error *err)
{
    emb_request ids = *w->request;
    emb_spelled *spelled;
    bool as_they_are = emb_remote_takes_ids(w->target.remote);
    emb_text *texts = emb_arena_calloc(arena, count, sizeof *texts);
    if (!texts)
        return emb_fail_nomem(err, "texts of token ids", count * sizeof *texts);
    ids.ids = g->ids;
    ids.offsets = g->offsets;
    ids.count = count;
    *out = texts;
    emb_status status = emb_spell_ids(w->service->gateway, &ids, false, arena, &spelled, err);
    if (status && !(as_they_are && status == EMB_E_UNSUPPORTED))
        return status;
    if (!as_they_are)
        return check_whole(spelled, texts, count, err);
    take_ids(g, status ? NULL : spelled, texts, count);
    return EMB_OK;
}

/* The texts as they go out: those of ids spelled where ids are not taken, prompts in front. */
static emb_status prepare(emb_work *w, const emb_gathered *g, size_t count, emb_arena *arena,
                          const emb_text **out, emb_error *err)
{
    emb_text *made = NULL;
    const char *prompt = emb_remote_prompt(w->target.remote, w->request->role);
    if (!g->texts)
        return prepare_ids(w, g, count, arena, out, err);
    *out = g->texts;
    if (!*prompt)
        return EMB_OK;
    if (put_prompt(prompt, g->texts, count, arena, &made))
        return emb_fail_nomem(err, "texts with their prompts", count);
    *out = made;
    return EMB_OK;
}

/* "input[3]" of the texts that were sent, to the place in the request. */
static void name_text(emb_error *err, const size_t *todo, size_t count)
{
    size_t at, told;
    int begins = 0;
    if (!err || sscanf(err->where, "input[%zu]", &at) != 1 || at >= count || todo[at] == at)
        return;
    snprintf(err->where, sizeof err->where, "input[%zu]", todo[at]);
    if (sscanf(err->message, "input[%zu]: %n", &told, &begins) == 1 && begins) {
        char rest[sizeof err->message];
        memcpy(rest, err->message, sizeof rest);
        snprintf(err->message, sizeof err->message, "input[%zu]: %.*s", todo[at], (int)sizeof rest - 64,
                 rest + begins);
    }
}

static void normalize(const emb_work *w, float *rows, size_t count)
{
    size_t dimension = w->target.dimension;
    for (size_t k = 0; k < count && w->request->normalize == EMB_ON; k++) {
        float *row = rows + k * dimension;
        double sum = 0;
        for (size_t j = 0; j < dimension; j++)
            sum += (double)row[j] * row[j];
        float scale = sum > 0 ? (float)(1 / sqrt(sum)) : 1;
        for (size_t j = 0; j < dimension; j++)
            row[j] *= scale;
    }
}

/* The other side's space is not what it was, or it says one now that said none before: nothing is taken over,
 * and it is asked anew. */
static emb_status look_at_space(emb_work *w, const emb_provider_result *result, emb_status status,
                                emb_error *err)
{
    const emb_target *t = &w->target;
    emb_peer *peer = t->remote->peer;
    if (result->other_space || (!status && !t->names_space && result->space[0])) {
        emb_peer_forget(peer, t->names_space ? t->space : NULL);
        emb_log(EMB_LOG_WARN, "another embedd answers in another space than before",
                EMB_LOG_TEXT("provider", t->provider), EMB_LOG_TEXT("model", t->model),
                EMB_LOG_TEXT("space", t->space));
        if (!status)
            return emb_fail(err, EMB_E_PROVIDER, NULL, "provider %s: it answers in the space \"%.200s\" now",
                            t->provider, result->space);
    }
    return status;
}

static emb_status exchange(emb_work *w, const emb_gathered *g, const emb_text *texts, size_t count,
                           emb_error *err)
{
    emb_remote_model *m = w->target.remote;
    const emb_request *r = w->request;
    const emb_provider_hooks hooks = {before, after, w};
    const emb_provider_call call = {
        .model = m->config->upstream,
        .texts = texts,
        .ids = sends_ids(w) ? g->ids : NULL,
        .offsets = sends_ids(w) ? g->offsets : NULL,
        .count = count,
        .token_counts = g->tokens,
        .max_batch_texts = m->config->max_batch_texts,
        .max_batch_tokens = m->config->max_batch_tokens,
        .dimensions = r->dimensions && m->config->shortens ? r->dimensions : 0,
        .role = r->role,
        .normalize = r->normalize,
        .truncation = r->truncation,
        .prompt_name = r->prompt_name,
        .space = w->target.names_space ? w->target.space : NULL,
        .user = r->user,
        .deadline_ns = r->deadline_ns,
        .cancel = r->cancel,
        .hooks = &hooks,
    };
    emb_provider_result result = {.vectors = g->vectors, .dimension = w->target.dimension};
    emb_status status = emb_provider_embed(m->remote->provider, &call, &result, err);
    w->remote_ns += result.provider_ns;
    if (m->peer)
        status = look_at_space(w, &result, status, err);
    if (status && result.retry_after_ms > 0)
        w->retry_after_ms = (uint64_t)result.retry_after_ms;
    if (status && err && strcmp(err->where, m->remote->config->name) == 0)
        err->where[0] = 0; /* the message names the provider; callers take this for a member of theirs */
    if (!status && result.tokens_known && count == 1)
        g->tokens[0] = (uint32_t)result.tokens;
    return status;
}

emb_status emb_compute_remotely(emb_work *w, const size_t *todo, size_t count, emb_error *err)
{
    emb_gathered g = {0};
    emb_arena arena;
    const emb_text *texts = NULL;
    uint64_t begin = emb_now_ns(), total;
    emb_arena_init(&arena);
    emb_status status = emb_gather(w, todo, count, &g, err);
    if (!status && (status = prepare(w, &g, count, &arena, &texts, err)))
        name_text(err, todo, count);
    if (!status && !sends_ids(w))
        status = emb_count_tokens(w->service->gateway, w->target.remote, texts, count, g.tokens, &total, err);
    if (!status)
        status = check_lengths(w, g.tokens, count, todo, err);
    if (!status) {
        status = exchange(w, &g, texts, count, err);
        if (status)
            name_text(err, todo, count);
    }
    if (!status)
        status = emb_check_finite(w, g.vectors, count * w->target.dimension, err);
    if (!status)
        normalize(w, g.vectors, count);
    emb_scatter(w, todo, count, &g, status);
    emb_arena_fini(&arena);
    w->provider_ns += emb_now_ns() - begin;
    return status;
}
