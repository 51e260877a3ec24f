/*
 * gateway_models.c: what is known of hosted models, and what a model costs.
 *
 * A price is, in this order: what the model's entry says, providers.prices, the built-in table, nothing for
 * servers of one's own. A model of a vendor whose price nobody said is `priced` false, and budget.unpriced
 * decides: to take it for free would make the budget worthless, and to guess would be to lie in the reports.
 *
 * The table knows a model by its name, or by the name of the provider's side where callers use another.
 * Prices and limits as of 2026; MTEB averages are the vendors' own.
 */
#include "config/gateway_parts.h"

#include "base/error.h"

#include <string.h>

typedef struct known_model {
    emb_provider_kind kind; /* OPENAI: of Azure too */
    const char *name;
    size_t dimension, max_tokens;
    double quality;
    bool shortens, priced;
    uint64_t nusd_per_1k_tokens;
} known_model;

static const known_model known[] = {
    {EMB_PROVIDER_OPENAI, "text-embedding-3-small", 1536, 8191, 62.3, true, true, 20000},
    {EMB_PROVIDER_OPENAI, "text-embedding-3-large", 3072, 8191, 64.6, true, true, 130000},
    {EMB_PROVIDER_OPENAI, "text-embedding-ada-002", 1536, 8191, 61.0, false, true, 100000},
    {EMB_PROVIDER_COHERE, "embed-english-v3.0", 1024, 512, 64.5, false, false, 0},
    {EMB_PROVIDER_COHERE, "embed-multilingual-v3.0", 1024, 512, 64.0, false, false, 0},
    {EMB_PROVIDER_COHERE, "embed-v4.0", 1536, 128000, 0, true, false, 0},
};
enum { KNOWN = sizeof known / sizeof *known, HUGGINGFACE_NUSD_PER_REQUEST = 500000 };

static const emb_record *const models = &emb_records[EMB_RECORD_MODEL];

static const known_model *find_known(emb_provider_kind kind, const char *name)
{
    if (kind == EMB_PROVIDER_AZURE)
        kind = EMB_PROVIDER_OPENAI;
    for (size_t i = 0; i < KNOWN; i++)
        if (known[i].kind == kind && strcmp(known[i].name, name) == 0)
            return &known[i];
    return NULL;
}

static const emb_price_config *find_price(const emb_price_config *prices, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(prices[i].model, name) == 0)
            return &prices[i];
    return NULL;
}

/* ---- one model ---- */

static void fill_known(emb_model_draft *m, const known_model *k)
{
    emb_provider_model_config *c = &m->config;
    if (!emb_member_given(models, &m->head, "dimension"))
        c->dimension = k->dimension;
    if (!emb_member_given(models, &m->head, "max_tokens"))
        c->max_tokens = k->max_tokens;
    if (!emb_member_given(models, &m->head, "quality"))
        c->quality = k->quality;
    if (!emb_member_given(models, &m->head, "shortens"))
        c->shortens = k->shortens;
    if (!emb_member_given(models, &m->head, "encoding"))
        c->encoding = k->kind == EMB_PROVIDER_OPENAI ? "cl100k_base" : "";
}

static bool is_own_server(emb_provider_kind kind)
{
    return kind == EMB_PROVIDER_OLLAMA || kind == EMB_PROVIDER_TEI || kind == EMB_PROVIDER_REMOTE ||
           kind == EMB_PROVIDER_EMBEDD;
}

static void fill_price(const emb_gateway_drafts *g, emb_provider_kind kind, emb_model_draft *m,
                       const known_model *k)
{
    emb_provider_model_config *c = &m->config;
    bool per_tokens = emb_member_given(models, &m->head, "price_per_1k_tokens");
    bool per_request = emb_member_given(models, &m->head, "price_per_request");
    const emb_price_config *price = find_price(g->prices, g->price_count, c->name);
    c->priced = per_tokens || per_request || price || (k && k->priced) || is_own_server(kind) ||
                kind == EMB_PROVIDER_HUGGINGFACE;
    if (per_tokens)
        return;
    if (price)
        c->nusd_per_1k_tokens = price->nusd_per_1k_tokens;
    else if (k && k->priced && !per_request)
        c->nusd_per_1k_tokens = k->nusd_per_1k_tokens;
    else if (kind == EMB_PROVIDER_HUGGINGFACE && !per_request)
        c->nusd_per_request = HUGGINGFACE_NUSD_PER_REQUEST;
}

static const char *origin_of(const emb_provider_config *p, const known_model *k)
{
    switch (p->kind) {
    case EMB_PROVIDER_AZURE:
        return "openai";
    case EMB_PROVIDER_OPENAI: /* a compatible server's own model is not OpenAI's */
        return k || emb_gateway_is_openai(p->base_url) ? "openai" : p->name;
    case EMB_PROVIDER_HUGGINGFACE:
    case EMB_PROVIDER_COHERE:
        return emb_provider_kind_name(p->kind);
    default:
        return p->name;
    }
}

static void fill_model(const emb_gateway_drafts *g, const emb_provider_config *p, emb_model_draft *m)
{
    emb_provider_model_config *c = &m->config;
    const known_model *k = find_known(p->kind, c->name);
    if (!*c->upstream)
        c->upstream = c->name;
    if (!k)
        k = find_known(p->kind, c->upstream);
    if (k)
        fill_known(m, k);
    fill_price(g, p->kind, m, k);
    if (!*c->origin)
        c->origin = origin_of(p, k);
}

/* ---- the models of an instance ---- */

static void add_model(emb_provider_draft *d, const char *name)
{
    for (size_t i = 0; i < d->model_count; i++)
        if (strcmp(d->models[i].config.name, name) == 0)
            return;
    emb_model_draft *m = &d->models[d->model_count++];
    m->head.place = d->head.place;
    m->head.made = true;
    m->config = (emb_provider_model_config){.name = name,
                                            .upstream = "",
                                            .encoding = "",
                                            .origin = "",
                                            .revision = "api",
                                            .query_prompt = "",
                                            .document_prompt = ""};
}

static emb_status add_known_models(emb_config_state *state, emb_provider_draft *d, const char *first,
                                   emb_error *err)
{
    if (!(d->models = emb_arena_calloc(&state->arena, KNOWN + 1, sizeof *d->models)))
        return emb_fail_nomem(err, "configuration", (KNOWN + 1) * sizeof *d->models);
    if (first)
        add_model(d, first);
    for (size_t i = 0; i < KNOWN; i++)
        if (known[i].kind == d->config.kind)
            add_model(d, known[i].name);
    return EMB_OK;
}

emb_status emb_gateway_fill_models(emb_config_state *state, emb_provider_draft *d, const char *first,
                                   emb_error *err)
{
    bool knows =
        (d->config.kind == EMB_PROVIDER_OPENAI && (first || emb_gateway_is_openai(d->config.base_url))) ||
        d->config.kind == EMB_PROVIDER_COHERE;
    if (!d->model_count && knows) {
        emb_status status = add_known_models(state, d, first, err);
        if (status)
            return status;
    }
    if (!d->model_count)
        return emb_fail(err, EMB_E_INVALID, d->head.place,
                        "%s: has no models; write them as 'models: [NAME, …]'", d->head.place);
    emb_provider_model_config *configs = emb_arena_calloc(&state->arena, d->model_count, sizeof *configs);
    if (!configs)
        return emb_fail_nomem(err, "configuration", d->model_count * sizeof *configs);
    for (size_t i = 0; i < d->model_count; i++) {
        fill_model(&state->gateway, &d->config, &d->models[i]);
        configs[i] = d->models[i].config;
    }
    d->config.models = configs;
    d->config.model_count = d->model_count;
    return EMB_OK;
}

/* ---- asking ---- */

/* A server of one's own may serve a model under the name of a hosted one: what is free is asked for last. */
static bool price_of_instances(const emb_gateway_config *g, const char *model, bool free, uint64_t *per_1k,
                               uint64_t *per_request)
{
    for (size_t i = 0; i < g->provider_count; i++)
        for (size_t j = 0; j < g->providers[i].model_count; j++) {
            const emb_provider_model_config *m = &g->providers[i].models[j];
            bool costs = m->nusd_per_1k_tokens || m->nusd_per_request;
            if (!m->priced || costs == free || strcmp(m->name, model) != 0)
                continue;
            *per_1k = m->nusd_per_1k_tokens;
            *per_request = m->nusd_per_request;
            return true;
        }
    return false;
}

bool emb_gateway_price(const emb_gateway_config *gateway, const char *model, uint64_t *nusd_per_1k_tokens,
                       uint64_t *nusd_per_request)
{
    *nusd_per_1k_tokens = *nusd_per_request = 0;
    const emb_price_config *price = find_price(gateway->prices, gateway->price_count, model);
    if (price) {
        *nusd_per_1k_tokens = price->nusd_per_1k_tokens;
        return true;
    }
    if (price_of_instances(gateway, model, false, nusd_per_1k_tokens, nusd_per_request))
        return true;
    for (size_t i = 0; i < KNOWN; i++)
        if (known[i].priced && strcmp(known[i].name, model) == 0) {
            *nusd_per_1k_tokens = known[i].nusd_per_1k_tokens;
            return true;
        }
    return price_of_instances(gateway, model, true, nusd_per_1k_tokens, nusd_per_request);
}
