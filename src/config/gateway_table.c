/*
 * gateway_table.c: the members of the structured sections as data, and the drafts that hold them.
 *
 * A member is a setting (settings.h) with an offset in a draft instead of in emb_config, and a form: what its
 * text must look like beyond its kind. So the parsers, ranges, messages and documents of settings serve
 * members too. Rejected: a reader and a printer by hand for each section, which would have to agree with
 * schema, page and comparison, five times.
 *
 * Drafts are allocated one by one and pointed to, so that their addresses stay as more are added.
 */
#include "config/gateway_parts.h"

#include <stdio.h>
#include <string.h>

/* MEMBER(draft, field, kind, form, name, default, minimum, maximum, secret, help) */
#define MEMBER(draft_, field_, kind_, form_, name_, fallback_, minimum_, maximum_, secret_, help_) \
    {                                                                                              \
        .setting = {.kind = EMB_SETTING_##kind_,                                                   \
                    .field = name_,                                                                \
                    .path = name_,                                                                 \
                    .environment = "",                                                             \
                    .fallback = fallback_,                                                         \
                    .help = help_,                                                                 \
                    .minimum = minimum_,                                                           \
                    .maximum = maximum_,                                                           \
                    .secret = secret_,                                                             \
                    .offset = offsetof(draft_, field_)},                                           \
        .form = EMB_FORM_##form_                                                                   \
    }
#define CHOICE(draft_, field_, form_, name_, fallback_, choices_, help_) \
    {                                                                    \
        .setting = {.kind = EMB_SETTING_CHOICE,                          \
                    .field = name_,                                      \
                    .path = name_,                                       \
                    .environment = "",                                   \
                    .fallback = fallback_,                               \
                    .help = help_,                                       \
                    .choices = choices_,                                 \
                    .offset = offsetof(draft_, field_)},                 \
        .form = EMB_FORM_##form_                                         \
    }

/* ---- providers.instances ---- */

#define P(...) MEMBER(emb_provider_draft, __VA_ARGS__)
static const emb_member provider_members[] = {
    P(config.name, TEXT, WORD, "name", "", 0, 0, false,
      "how requests, reports and other settings name it; unique; needed"),
    CHOICE(emb_provider_draft, config.kind, KIND, "kind", "",
           "openai|azure|huggingface|cohere|ollama|tei|remote|embedd",
           "the API it speaks; the name, where that is one of these"),
    P(config.base_url, TEXT, URL, "base_url", "", 0, 0, false,
      "its address; openai, huggingface, cohere and ollama have one of their own, the others need it"),
    P(config.api_key, TEXT, OPAQUE, "api_key", "", 0, 0, true,
      "its key; without one an instance called openai takes OPENAI_API_KEY, azure AZURE_OPENAI_API_KEY, "
      "cohere CO_API_KEY, "
      "huggingface HF_TOKEN or HF_API_KEY"),
    P(api_key_env, TEXT, WORD, "api_key_env", "", 0, 0, false, "or the variable that holds the key"),
    P(api_key_file, TEXT, FILLED, "api_key_file", "", 0, 0, false,
      "or the file that does; only its owner should read it (0600)"),
    P(config.api_version, TEXT, WORD, "api_version", "", 0, 0, false, "of Azure OpenAI; 2024-10-21 there"),
    P(config.proxy, TEXT, PROXY, "proxy", "", 0, 0, true, "instead of providers.proxy; \"\" for none"),
    P(config.ca_file, TEXT, PLAIN, "ca_file", "", 0, 0, false,
      "PEM file of the authorities to trust; empty: the system's"),
    P(config.headers, TEXT, HEADERS, "headers", "", 0, 0, true, "sent with each call"),
    P(config.weight, COUNT, PLAIN, "weight", "1", 0, 1000, false,
      "share among instances that serve the same model of the same origin; 0: only as a fallback"),
    P(config.is_private, BOOL, PLAIN, "private", "false", 0, 0, false,
      "texts with personal data may go there, as to local models: you vouch for it"),
    P(config.concurrency, COUNT, PLAIN, "concurrency", "8", 1, 4096, false, "calls at a time"),
    P(config.requests_per_minute, COUNT, PLAIN, "requests_per_minute", "0", 0, 1e9, false,
      "0: as the provider says in its answers"),
    P(config.tokens_per_minute, COUNT, PLAIN, "tokens_per_minute", "0", 0, 1e12, false, "likewise"),
    P(config.timeout_ms, COUNT, UINT, "timeout_ms", "", 1, 3600000, false,
      "of one attempt; providers.timeout_ms unless given"),
    P(config.connect_timeout_ms, COUNT, UINT, "connect_timeout_ms", "5000", 1, 600000, false,
      "of a connection"),
    P(config.max_retries, COUNT, UINT, "max_retries", "3", 0, 100, false, "after a failure that may pass"),
    P(config.hedge_ms, COUNT, UINT, "hedge_ms", "0", 0, 600000, false,
      "a second attempt beside the first after this long, which may cost twice; 0: never"),
    P(config.max_batch_texts, COUNT, PLAIN, "max_batch_texts", "0", 0, 100000, false,
      "texts in one call; 0: what the kind allows"),
    P(config.max_batch_tokens, COUNT, PLAIN, "max_batch_tokens", "0", 0, 1e9, false,
      "tokens in one call; 0: what the kind allows"),
    P(config.max_body_bytes, BYTES, PLAIN, "max_body_bytes", "0", 0, 1073741824, false,
      "of one call; 0: what the kind allows"),
    P(config.http2, BOOL, PLAIN, "http2", "true", 0, 0, false, "offer HTTP/2"),
    P(config.compress, BOOL, PLAIN, "compress", "true", 0, 0, false, "accept compressed answers"),
    P(config.base64, BOOL, PLAIN, "base64", "true", 0, 0, false,
      "ask for vectors as base64 where the kind can"),
    P(config.keep_warm_s, COUNT, UINT, "keep_warm_seconds", "0", 0, 86400, false,
      "a connection is kept open by a cheap request this often; 0: not"),
    P(config.failure_threshold, COUNT, UINT, "breaker.failure_threshold", "5", 1, 1000, false,
      "failures in a row that open the breaker, or ..."),
    P(config.failure_rate, REAL, PLAIN, "breaker.failure_rate", "0.5", 0, 1, false,
      "... this share of failures; 0: not looked at"),
    P(config.minimum_calls, COUNT, UINT, "breaker.minimum_calls", "20", 1, 1000000, false,
      "among at least so many calls ..."),
    P(config.window_s, COUNT, UINT, "breaker.window_seconds", "60", 1, 86400, false,
      "... of the last seconds"),
    P(config.recovery_timeout_s, COUNT, UINT, "breaker.recovery_timeout_seconds", "60", 1, 86400, false,
      "until the first attempt after it opened; each that fails doubles it ..."),
    P(config.recovery_longest_s, COUNT, UINT, "breaker.recovery_longest_seconds", "900", 1, 604800, false,
      "... up to this"),
    P(config.slow_ms, COUNT, UINT, "breaker.slow_ms", "0", 0, 3600000, false,
      "a slower call counts as a failure; 0: not looked at"),
    P(models, TEXT, MODELS, "models", "", 0, 0, false,
      "its models, the default one first: names, or mappings with the members below; openai and cohere know "
      "their own"),
};

#define M(...) MEMBER(emb_model_draft, __VA_ARGS__)
static const emb_member model_members[] = {
    M(config.name, TEXT, MODEL, "name", "", 0, 0, false,
      "as callers name it; unique in the instance; needed"),
    M(config.upstream, TEXT, MODEL, "upstream", "", 0, 0, false,
      "as the provider names it, the deployment of Azure; the name unless given"),
    M(config.dimension, COUNT, PLAIN, "dimension", "0", 0, 65536, false,
      "of its vectors; 0: learned from the first answer"),
    M(config.max_tokens, COUNT, PLAIN, "max_tokens", "0", 0, 10000000, false, "of a text; 0: unknown"),
    M(config.max_batch_texts, COUNT, PLAIN, "max_batch_texts", "0", 0, 100000, false,
      "of one call; 0: the instance's"),
    M(config.max_batch_tokens, COUNT, PLAIN, "max_batch_tokens", "0", 0, 1e9, false,
      "of one call; 0: the instance's"),
    M(config.nusd_per_1k_tokens, TEXT, MONEY, "price_per_1k_tokens", "", 0, 1000, false, "US dollars"),
    M(config.nusd_per_request, TEXT, MONEY, "price_per_request", "", 0, 1000, false, "US dollars"),
    M(config.quality, REAL, PLAIN, "quality", "0", 0, 100, false,
      "an average of MTEB, by which `analysis` chooses; 0: unknown"),
    M(config.shortens, BOOL, PLAIN, "shortens", "false", 0, 0, false, "can be asked for fewer dimensions"),
    M(config.encoding, TEXT, PLAIN, "encoding", "", 0, 0, false,
      "cl100k_base: tokens are counted with it; empty: estimated from bytes"),
    M(config.origin, TEXT, WORD, "origin", "", 0, 0, false,
      "who made it: instances that share origin, model and revision make comparable vectors; of vendors the "
      "vendor, "
      "otherwise the instance's name"),
    M(config.revision, TEXT, WORD, "revision", "api", 0, 0, false, "which of its versions"),
    M(config.query_prompt, TEXT, LINES, "query_prompt", "", 0, 0, false, "put before queries"),
    M(config.document_prompt, TEXT, LINES, "document_prompt", "", 0, 0, false, "put before documents"),
};

/* ---- the other sections ---- */

#define L(...) MEMBER(emb_limit_draft, __VA_ARGS__)
static const emb_member limit_members[] = {
    L(key, TEXT, SCOPE, "key", "", 0, 0, false, "a key's name; * for each key that has no limit of its own"),
    L(category, TEXT, SCOPE, "category", "", 0, 0, false, "or a category, likewise"),
    L(provider, TEXT, SCOPE, "provider", "", 0, 0, false, "or an instance of a provider, likewise"),
    L(config.daily_nusd, TEXT, MONEY, "daily_usd", "", 0, 1e9, false,
      "US dollars a day, a hard limit; needed"),
};

#define S(...) MEMBER(emb_sink_draft, __VA_ARGS__)
static const emb_member sink_members[] = {
    S(config.name, TEXT, WORD, "name", "", 0, 0, false, "unique; needed"),
    CHOICE(emb_sink_draft, config.kind, PLAIN, "kind", "", "webhook|alertmanager", "needed"),
    S(config.url, TEXT, URL, "url", "", 0, 0, true, "needed"),
    S(config.bearer, TEXT, OPAQUE, "bearer", "", 0, 0, true, "sent as Authorization: Bearer"),
    CHOICE(emb_sink_draft, config.minimum_severity, SEVERITY, "minimum_severity", "warning",
           "warning|error|critical", "alerts below it are not sent there"),
};

#define R(...) MEMBER(emb_step_draft, __VA_ARGS__)
static const emb_member step_members[] = {
    R(config.percentage, REAL, PLAIN, "percentage", "", 0, 100, false,
      "share of buckets on the hybrid path; more with each step; needed"),
    R(hold_hours, COUNT, PLAIN, "hold_hours", "0", 0, 87600, false,
      "how long it stays there; every step but the last needs one ..."),
    R(hold_minutes, COUNT, PLAIN, "hold_minutes", "0", 0, 5256000, false, "... of the three"),
    R(hold_seconds, COUNT, PLAIN, "hold_seconds", "0", 0, 315360000, false, "they are added"),
};

#define T(...) MEMBER(emb_pattern_draft, __VA_ARGS__)
static const emb_member pattern_members[] = {
    T(config.name, TEXT, WORD, "name", "", 0, 0, false,
      "the kind that is reported: small letters, digits and _; unique; needed"),
    T(config.regex, TEXT, FILLED, "regex", "", 0, 0, false,
      "what is looked for, besides the built-in kinds; needed"),
};

#define COUNT_OF(a) (sizeof(a) / sizeof *(a))
_Static_assert(COUNT_OF(provider_members) <= 64, "one bit for each member");

#define RECORD(path_, help_, live_, noun_, members_, draft_, maximum_)                           \
    {                                                                                            \
        .section = {.kind = EMB_SETTING_TEXT,                                                    \
                    .field = "gateway",                                                          \
                    .path = path_,                                                               \
                    .environment = "",                                                           \
                    .fallback = "",                                                              \
                    .help = help_,                                                               \
                    .live = live_},                                                              \
        .noun = noun_, .members = members_, .count = COUNT_OF(members_), .size = sizeof(draft_), \
        .maximum = maximum_                                                                      \
    }

const emb_record emb_records[EMB_RECORDS] = {
    [EMB_RECORD_PROVIDER] = RECORD("providers.instances", "remote APIs, in the order in which they are tried",
                                   false, "an instance", provider_members, emb_provider_draft, 64),
    [EMB_RECORD_LIMIT] = RECORD("budget.limits", "limits of a day besides hybrid.daily_api_budget_usd", true,
                                "a limit", limit_members, emb_limit_draft, 10000),
    [EMB_RECORD_SINK] =
        RECORD("alerts.sinks", "where alerts are sent", false, "a sink", sink_members, emb_sink_draft, 64),
    [EMB_RECORD_STEP] = RECORD("rollout.schedule", "the steps of `embedd rollout start`", false, "a step",
                               step_members, emb_step_draft, 100),
    [EMB_RECORD_PATTERN] =
        RECORD("pii.patterns", "personal data of your own kinds", false, "a pattern", pattern_members,
               emb_pattern_draft, 16), /* EMB_PII_PATTERNS_MAX, of a room that this one does not see */
    [EMB_RECORD_MODEL] = RECORD("models", "", false, "a model", model_members, emb_model_draft, 64),
};

const emb_setting emb_prices_section = {
    .kind = EMB_SETTING_TEXT,
    .field = "gateway",
    .path = "providers.prices",
    .environment = "",
    .fallback = "",
    .help =
        "US dollars for 1,000 tokens by model, whichever instance serves it, instead of the built-in price"};

const char *emb_provider_kind_name(emb_provider_kind kind)
{
    static const char *const names[] = {
#define EMB_X(id, name) name,
        EMB_PROVIDER_KIND_TABLE(EMB_X)
#undef EMB_X
    };
    return (size_t)kind < EMB_PROVIDER_KINDS ? names[kind] : NULL;
}

/* ---- drafts ---- */

size_t emb_member_find(const emb_record *record, const char *name)
{
    for (size_t i = 0; i < record->count; i++)
        if (strcmp(record->members[i].setting.path, name) == 0)
            return i;
    return SIZE_MAX;
}

bool emb_member_given(const emb_record *record, const emb_draft *draft, const char *name)
{
    size_t i = emb_member_find(record, name);
    return i != SIZE_MAX && (draft->given >> i & 1);
}

static bool is_zero(const emb_member *m, const void *field)
{
    switch (m->form) {
    case EMB_FORM_UINT:
        return *(const uint32_t *)field == 0;
    case EMB_FORM_MONEY:
        return *(const uint64_t *)field == 0;
    case EMB_FORM_SEVERITY:
        return !*(const char *const *)field;
    case EMB_FORM_HEADERS:
    case EMB_FORM_MODELS:
        return false;
    default:
        break;
    }
    switch (m->setting.kind) {
    case EMB_SETTING_BOOL:
        return !*(const bool *)field;
    case EMB_SETTING_REAL:
        return *(const double *)field == 0; /* as stored, not computed */
    case EMB_SETTING_TEXT:
        return !*(const char *const *)field || !**(const char *const *)field;
    case EMB_SETTING_CHOICE:
        return *(const int *)field == 0;
    default:
        return *(const size_t *)field == 0;
    }
}

bool emb_member_filled(const emb_record *record, size_t index, const emb_draft *draft)
{
    const emb_member *m = &record->members[index];
    return (draft->given >> index & 1) || !is_zero(m, emb_member_field(m, draft));
}

emb_draft *emb_draft_at(const emb_config_state *state, emb_record_id id, size_t index)
{
    return state->gateway.lists[id].items[index];
}

emb_draft *emb_draft_add(emb_config_state *state, emb_record_id id)
{
    emb_drafts *list = &state->gateway.lists[id];
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 8;
        emb_draft **items = emb_arena_calloc(&state->arena, capacity, sizeof *items);
        if (!items)
            return NULL;
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    emb_draft *draft = emb_arena_calloc(&state->arena, 1, emb_records[id].size);
    if (draft)
        list->items[list->count++] = draft;
    return draft;
}
