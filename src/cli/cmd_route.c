/*
 * cmd_route.c: `embedd route`: where a request would go, and why, from the configuration and the stores that
 * a service would use. What only a running service knows (latencies, the breakers of this moment) is what its
 * stores say; ask the service itself at POST /api/v1/embeddings/route for the rest.
 */
#include "base/json_write.h"
#include "cli/settings_flags.h"
#include "service/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct settings {
    emb_settings_flags flags;
    const char *model, *provider, *space, *user, *category;
    int context;
    size_t dimensions;
    bool json;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

static const emb_option options[] = {
    {.name = "context",
     .kind = EMB_OPTION_CHOICE,
     .choices = "default|realtime|analysis|batch|sensitive",
     .fallback = "default",
     .offset = offsetof(settings, context),
     .help = "what the vectors are for"},
    {.name = "model",
     .letter = 'm',
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, model),
     .help = "pin the model"},
    {.name = "provider",
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, provider),
     .help = "pin the provider, by the name of its instance or its kind"},
    {.name = "space",
     .kind = EMB_OPTION_TEXT,
     .argument = "SPACE",
     .offset = offsetof(settings, space),
     .help = "pin the vector space, as an answer names it"},
    {.name = "user",
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, user),
     .help = "whose request it is: decides the rollout's bucket"},
    {.name = "category",
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(settings, category),
     .help = "for limits of a category"},
    {.name = "dimensions",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .maximum = 65536,
     .default_note = "the model's",
     .offset = offsetof(settings, dimensions),
     .help = "length of the vectors"},
    {.name = "json", .kind = EMB_OPTION_FLAG, .offset = offsetof(settings, json), .help = "as JSON"},
    EMB_SETTINGS_OPTIONS(settings, flags),
    EMB_OPTIONS_END,
};

/* The place in the order, from 1; 0: not in it. */
static size_t place_of(const emb_explanation *e, size_t candidate)
{
    for (size_t i = 0; i < e->plan.count; i++)
        if (e->plan.order[i] == candidate)
            return i + 1;
    return 0;
}

static void print_text(const emb_explanation *e)
{
    if (e->plan.count)
        printf("%s / %s\n", e->candidates[e->plan.order[0]].provider, e->candidates[e->plan.order[0]].model);
    else
        printf("refused: %s (HTTP %d)\n", emb_status_text(e->plan.refusal), emb_status_http(e->plan.refusal));
    printf("  by the rule '%s': %s\n", emb_route_rule_name(e->plan.rule), e->plan.reason);
    printf("  context %s, %s path (bucket %.2f of a rollout of %g %%), about %" PRIu64 " tokens\n",
           emb_context_name(e->context), e->plan.legacy ? "legacy" : "hybrid", e->bucket,
           e->rollout_percentage, e->tokens);
    if (e->has_pii)
        printf("  personal data: %s\n", e->pii_kinds);
    printf("\n%5s  %-16s %-30s %12s  %s\n", "order", "provider", "model", "cost USD", "why");
    for (size_t i = 0; i < e->count; i++) {
        size_t place = place_of(e, i);
        char order[24] = "-";
        if (place)
            snprintf(order, sizeof order, "%zu", place);
        printf("%5s  %-16s %-30s %12.9f  %s%s%s\n", order, e->candidates[i].provider, e->candidates[i].model,
               (double)e->candidates[i].estimate_nusd * 1e-9,
               place ? "" : emb_route_rule_name(e->verdicts[i].passed_over), place ? "" : ": ",
               e->verdicts[i].why);
    }
    if (e->local_status)
        printf("    -  %-16s %-30s %12s  %s\n", "local", "", "", e->local_error);
}

static void add_text(emb_buf *b, const char *name, const char *value)
{
    (void)(emb_json_write_member(b, name, value ? value : "") == EMB_OK);
}

static void add_candidate(emb_buf *b, const emb_explanation *e, size_t i)
{
    const emb_route_candidate *c = &e->candidates[i];
    size_t place = place_of(e, i);
    (void)(emb_buf_addf(b, "%s{\"order\":", i ? "," : "") == EMB_OK);
    (void)((place ? emb_buf_addf(b, "%zu", place) : emb_buf_add_str(b, "null")) == EMB_OK);
    add_text(b, "provider", c->provider);
    add_text(b, "model", c->model);
    add_text(b, "space", c->space);
    if (!place)
        add_text(b, "passed_over_by", emb_route_rule_name(e->verdicts[i].passed_over));
    add_text(b, "why", e->verdicts[i].why);
    (void)(emb_buf_addf(b, ",\"estimated_cost_usd\":%.9f}", (double)c->estimate_nusd * 1e-9) == EMB_OK);
}

static void print_json(const emb_explanation *e)
{
    emb_buf b = EMB_BUF_INIT(1 << 20);
    bool routable = e->plan.count > 0;
    (void)(emb_buf_addf(&b, "{\"routable\":%s", routable ? "true" : "false") == EMB_OK);
    add_text(&b, "provider", routable ? e->candidates[e->plan.order[0]].provider : "");
    add_text(&b, "model", routable ? e->candidates[e->plan.order[0]].model : "");
    add_text(&b, "path", e->plan.legacy ? "legacy" : "hybrid");
    add_text(&b, "rule", emb_route_rule_name(e->plan.rule));
    add_text(&b, "reason", e->plan.reason);
    add_text(&b, "context", emb_context_name(e->context));
    add_text(&b, "pii_kinds", e->pii_kinds);
    (void)(emb_buf_addf(&b,
                        ",\"bucket\":%.4f,\"rollout_percentage\":%g,\"estimated_tokens\":%" PRIu64
                        ",\"candidates\":[",
                        e->bucket, e->rollout_percentage, e->tokens) == EMB_OK);
    for (size_t i = 0; i < e->count; i++)
        add_candidate(&b, e, i);
    (void)(emb_buf_add_str(&b, "]}\n") == EMB_OK);
    const char *text = emb_buf_cstr(&b);
    fputs(text ? text : "{}\n", stdout);
    emb_buf_fini(&b);
}

static int explain(const settings *s, emb_service *service, const emb_text *texts, size_t count)
{
    static const emb_context contexts[] = {EMB_CONTEXT_DEFAULT, EMB_CONTEXT_REALTIME, EMB_CONTEXT_ANALYSIS,
                                           EMB_CONTEXT_BATCH, EMB_CONTEXT_SENSITIVE};
    emb_request r = EMB_REQUEST_INIT;
    emb_arena arena;
    emb_error err;
    r.texts = texts;
    r.count = count;
    r.model = s->model;
    r.preferred_provider = s->provider;
    r.space = s->space;
    r.user = s->user;
    r.category = s->category;
    r.dimensions = s->dimensions;
    r.context = contexts[s->context];
    r.is_private = r.context == EMB_CONTEXT_SENSITIVE;
    emb_arena_init(&arena);
    emb_explanation *e = emb_arena_alloc(&arena, sizeof *e);
    emb_status status = e ? emb_service_explain(service, &r, &arena, e, &err) : EMB_E_NOMEM;
    int code = EMB_EXIT_FAILURE;
    if (status)
        emb_report("route", "%s", e ? err.message : "out of memory");
    else if (s->json)
        print_json(e);
    else
        print_text(e);
    if (!status)
        code = e->plan.count ? EMB_EXIT_OK : EMB_EXIT_FAILURE;
    emb_arena_fini(&arena);
    return code;
}

static int run(const void *opaque, char **arguments, size_t count)
{
    enum { TEXTS_MAX = 256 };
    const settings *s = opaque;
    emb_config *config;
    emb_service *service;
    emb_error err;
    emb_text texts[TEXTS_MAX];
    if (count > TEXTS_MAX)
        return emb_usage_error(&emb_command_route, "%zu texts; at most %d are looked at", count, TEXTS_MAX);
    for (size_t i = 0; i < count; i++)
        texts[i] = (emb_text){arguments[i], strlen(arguments[i])};
    int code = emb_settings_load("route", &s->flags, &config);
    if (code)
        return code;
    if (emb_service_open(config, NULL, &service, &err)) {
        code = emb_report_error("route", &err);
    } else {
        code = explain(s, service, texts, count);
        emb_service_close(service);
    }
    emb_config_release(config);
    return emb_finish_stdout("route", code);
}

const emb_command emb_command_route = {
    .name = "route",
    .summary = "explain where a request would go, and why",
    .usage = "route [OPTION...] TEXT...",
    .description =
        "Nothing is embedded, sent or spent. Each provider is listed with its place in the order, or\n"
        "with the rule that passed it over: pinned, privacy, legacy, settings, health, budget, context.\n"
        "The exit status is 1 if the request would be refused.",
    .examples = "  embedd route \"quarterly results\"\n"
                "  embedd route --context analysis --user alice \"quarterly results\"\n"
                "  embedd route --provider openai \"write to jane@example.com\"",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 1,
    .maximum_arguments = 1024,
    .needs = "a text is",
    .run = run,
};
