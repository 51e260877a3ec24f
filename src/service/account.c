/*
 * account.c: what an answer says of itself, and what is kept of it: counters, the last minutes, the ledger.
 *
 * Attempts at providers are booked where they happen (remote.c), also those of calls that fail in the end.
 * Here is what was free: hits, with what the API would have taken for them, and texts of the local models,
 * whose saving is counted by the price of budget.reference_model. A text that waited for another request's
 * computation is booked as a hit.
 */
#include "base/clock.h"
#include "service/embed_parts.h"

static uint64_t price_of(uint64_t nusd_per_1k, uint64_t tokens)
{
    __uint128_t total = (__uint128_t)nusd_per_1k * tokens / 1000;
    return total > UINT64_MAX ? UINT64_MAX : (uint64_t)total;
}

static void book_free(emb_work *w, uint64_t hits, uint64_t hit_tokens, uint64_t computed,
                      uint64_t computed_tokens)
{
    emb_service *service = w->service;
    emb_ledger *ledger = service->kit.ledger;
    if (!ledger || w->is_shadow)
        return;
    const emb_request *r = w->request;
    uint64_t reference = atomic_load_explicit(&service->reference_nusd, memory_order_relaxed);
    emb_ledger_entry e = {.provider = w->target.provider,
                          .model = w->target.model,
                          .key = r->caller ? emb_caller_name(r->caller) : "",
                          .category = r->category ? r->category : "",
                          .context = emb_context_name(r->context),
                          .calls = 1};
    if (hits) {
        e.kind = EMB_LEDGER_CACHE;
        e.texts = hits;
        e.tokens = hit_tokens;
        e.saved_nusd = w->target.remote ? emb_remote_price(w->target.remote, 0, hit_tokens)
                                        : price_of(reference, hit_tokens);
        emb_ledger_add(ledger, &e);
    }
    if (computed && !w->target.remote) {
        e.kind = EMB_LEDGER_LOCAL;
        e.texts = computed;
        e.tokens = computed_tokens;
        e.saved_nusd = price_of(reference, computed_tokens);
        emb_ledger_add(ledger, &e);
    }
}

/* Only texts that were looked for say something of the cache. */
static void note_recent(emb_service *service, const emb_request *r, const emb_answer *a, uint64_t end_ns)
{
    emb_kit *kit = &service->kit;
    if (!atomic_load_explicit(&service->monitoring, memory_order_relaxed))
        return;
    emb_window_observe(kit->latency, (double)a->total_ns * 1e-9, end_ns);
    if (a->count && r->cache_read && emb_service_cache(service))
        emb_window_observe(kit->lookups, (double)a->count, end_ns);
    if (a->cached)
        emb_window_observe(kit->hits, (double)a->cached, end_ns);
}

void emb_account(emb_work *w, uint64_t end_ns)
{
    emb_answer *a = w->answer;
    uint64_t hits = 0, hit_tokens = 0, computed = 0, computed_tokens = 0;
    a->count = w->request->count;
    a->dimension = w->target.dimension;
    a->vectors = w->vectors;
    a->tokens = w->tokens;
    a->sources = w->sources;
    for (size_t i = 0; i < a->count; i++) {
        uint8_t source = (uint8_t)w->lookups[i].source;
        uint32_t tokens = w->lookups[i].tokens;
        w->tokens[i] = tokens;
        w->sources[i] = source;
        a->total_tokens += tokens;
        a->cached += source == EMB_CACHE_L1 || source == EMB_CACHE_L2;
        hits += source != EMB_CACHE_COMPUTED;
        hit_tokens += source != EMB_CACHE_COMPUTED ? tokens : 0;
        computed += source == EMB_CACHE_COMPUTED;
        computed_tokens += source == EMB_CACHE_COMPUTED ? tokens : 0;
    }
    a->served = w->target.served;
    a->series = w->target.series;
    a->model = w->target.model;
    a->provider = w->target.provider;
    a->space = w->target.space;
    a->cost_nusd = atomic_load(&w->cost_nusd);
    a->provider_ns = w->remote_ns;
    a->total_ns = end_ns - w->start_ns;
    if (w->target.served)
        emb_models_note_use(w->target.served, end_ns);
    if (!w->is_shadow) {
        emb_totals_add(w->service, a, end_ns);
        note_recent(w->service, w->request, a, end_ns);
    }
    book_free(w, hits, hit_tokens, computed, computed_tokens);
}
