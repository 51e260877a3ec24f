/*
 * gate.c: see gate.h.
 *
 * The first request is made alone, under the lock: it may fall back from one provider to the next as any
 * other request, and what answers it decides the space of the run. Later ones are pinned to that space, so
 * that an instance may step in for another that makes the same vectors, and nobody else.
 *
 * --max-cost counts what was spent (by the service's own totals, attempts that failed included) and the
 * estimates of what runs. It is a stop of this run; the configured budgets stand beside it and are the hard
 * ones. The estimate takes nothing to be in the cache, so it is never too low but for retries.
 *
 * A provider whose limits let nothing through is waited for, with growing pauses: a run of hours shall not
 * end because of a busy minute.
 */
#include "cli/gate.h"

#include "base/error.h"
#include "cli/stop.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 30000, MOST_WAITS = 40, LOOK_MS = 50 };

struct emb_gate {
    const char *command;
    emb_config *config;
    emb_service *service;
    emb_request base;
    uint64_t limit_nusd;
    pthread_mutex_t lock; /* for what follows */
    emb_arena names;
    emb_gate_place place;
    bool settled, told_to_wait, impatient;
    uint64_t running_nusd; /* estimates of calls that run, where there is a limit */
};

/* ---- options ---- */

static bool is_asked_for(const emb_gate_settings *s)
{
    return s->provider || s->route || s->space;
}

/* The name of an option that only the gateway knows and that was given; NULL: none. */
static const char *only_option(const emb_gate_settings *s)
{
    return s->max_cost          ? "--max-cost"
           : s->context >= 0    ? "--context"
           : s->category        ? "--category"
           : s->user            ? "--user"
           : s->flags.file      ? "--config"
           : s->flags.count > 0 ? s->flags.flags[0].name
                                : NULL;
}

static bool parse_money(const char *text, uint64_t *nusd)
{
    char *end;
    double usd = strtod(text, &end);
    if (end == text || *end || !(usd >= 0) || usd > 1e9)
        return false;
    *nusd = (uint64_t)(usd * 1e9 + 0.5);
    return true;
}

/* -1, or the exit status after a message about options that the gateway does not take or that are wrong. */
static int check(const emb_command *command, const emb_gate_settings *gate, const emb_model_settings *model,
                 const emb_text_settings *text)
{
    static const char only_local[] = "is of local models without the gateway; its settings are those of "
                                     "'embedd serve'";
    uint64_t nusd;
    if (gate->max_cost && !parse_money(gate->max_cost, &nusd))
        return emb_usage_error(command, "--max-cost: '%s' is not a sum in dollars, such as 0.50",
                               gate->max_cost);
    if (text->prompt)
        return emb_usage_error(command, "--prompt is of local models; with the gateway use --prompt-name, "
                                        "--query or --document");
    if (text->pooling)
        return emb_usage_error(command, "--pooling %s", only_local);
    if (model->precision)
        return emb_usage_error(command, "--precision %s", only_local);
    if (model->threads)
        return emb_usage_error(command, "--threads %s", only_local);
    if (model->batch_tokens)
        return emb_usage_error(command, "--batch-tokens %s", only_local);
    return -1;
}

/* Whether the configuration has a provider that serves this model; false as well where there is no usable
 * configuration. Opens nothing. */
static bool is_served(const emb_gate_settings *s, const char *model)
{
    emb_config *config;
    emb_error err;
    emb_config_sources sources = emb_settings_sources(&s->flags);
    if (emb_config_load(&sources, &config, &err))
        return false;
    bool serves = false;
    for (size_t i = 0; i < config->gateway.provider_count && !serves; i++) {
        const emb_provider_config *p = &config->gateway.providers[i];
        size_t n = strlen(p->name);
        const char *behind = strncasecmp(model, p->name, n) == 0 && model[n] == '/' ? model + n + 1 : model;
        for (size_t m = 0; m < p->model_count && !serves; m++)
            serves = strcmp(p->models[m].name, model) == 0 || strcmp(p->models[m].name, behind) == 0;
    }
    emb_config_release(config);
    return serves;
}

/* ---- life ---- */

static void make_base(emb_gate *g, const emb_gate_settings *s, const emb_model_settings *model,
                      const emb_text_settings *text, bool is_bulk)
{
    static const emb_context contexts[] = {EMB_CONTEXT_DEFAULT, EMB_CONTEXT_REALTIME, EMB_CONTEXT_ANALYSIS,
                                           EMB_CONTEXT_BATCH, EMB_CONTEXT_SENSITIVE};
    emb_request *r = &g->base;
    *r = (emb_request)EMB_REQUEST_INIT;
    if (!is_asked_for(s) || model->is_given)
        r->model = model->model;
    r->preferred_provider = s->provider;
    r->space = s->space;
    r->category = s->category;
    r->user = s->user;
    r->context = s->context >= 0 ? contexts[s->context] : is_bulk ? EMB_CONTEXT_BATCH : EMB_CONTEXT_DEFAULT;
    r->is_private = r->context == EMB_CONTEXT_SENSITIVE;
    r->priority = is_bulk ? EMB_PRIORITY_BULK : EMB_PRIORITY_INTERACTIVE;
    r->role = text->query ? EMB_ROLE_QUERY : text->document ? EMB_ROLE_DOCUMENT : EMB_ROLE_NONE;
    r->prompt_name = text->prompt_name;
    r->dimensions = text->dimensions;
    r->normalize = text->no_normalize ? EMB_OFF : EMB_DEFAULT;
    r->truncation = (emb_truncation)text->truncate;
    r->max_tokens = text->max_tokens;
    r->cancel = emb_stop_flag();
}

emb_status emb_gate_open(const char *command, const emb_gate_settings *s, const emb_model_settings *model,
                         const emb_text_settings *text, bool is_bulk, emb_gate **out, emb_error *err)
{
    emb_config_sources sources = emb_settings_sources(&s->flags);
    emb_gate *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g)
        return emb_fail_nomem(err, "gateway", sizeof *g);
    pthread_mutex_init(&g->lock, NULL);
    emb_arena_init(&g->names);
    g->command = command;
    g->limit_nusd = UINT64_MAX;
    if (s->max_cost)
        (void)parse_money(s->max_cost, &g->limit_nusd); /* checked by check() */
    make_base(g, s, model, text, is_bulk);
    emb_status status = emb_config_load(&sources, &g->config, err);
    if (!status)
        status = emb_service_open(g->config, NULL, &g->service, err);
    if (status)
        emb_gate_close(g);
    else
        *out = g;
    return status;
}

void emb_gate_close(emb_gate *g)
{
    if (!g)
        return;
    emb_service_close(g->service);
    if (g->config)
        emb_config_release(g->config);
    emb_arena_fini(&g->names);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

/* ---- the space of the run ---- */

static emb_status settle(emb_gate *g, const emb_gate_place *place, emb_error *err)
{
    emb_gate_place *p = &g->place;
    *p = (emb_gate_place){.provider = emb_arena_strndup(&g->names, place->provider, strlen(place->provider)),
                          .model = emb_arena_strndup(&g->names, place->model, strlen(place->model)),
                          .space = emb_arena_strndup(&g->names, place->space, strlen(place->space)),
                          .dimension = place->dimension};
    if (!p->provider || !p->model || !p->space)
        return emb_fail_nomem(err, "the name of a space", strlen(place->space));
    g->settled = true;
    return EMB_OK;
}

bool emb_gate_where(emb_gate *g, emb_gate_place *out)
{
    pthread_mutex_lock(&g->lock);
    bool settled = g->settled;
    *out = g->place;
    pthread_mutex_unlock(&g->lock);
    return settled;
}

emb_status emb_gate_go_on(emb_gate *g, const emb_gate_place *place, emb_error *err)
{
    if (g->base.space && strcmp(g->base.space, place->space) != 0)
        return emb_fail(err, EMB_E_INVALID, "space", "--space is \"%.120s\", what is there is of \"%.120s\"",
                        g->base.space, place->space);
    pthread_mutex_lock(&g->lock);
    emb_status status = settle(g, place, err);
    pthread_mutex_unlock(&g->lock);
    return status;
}

/* ---- money ---- */

char *emb_cost_text(uint64_t nusd, char out[EMB_COST_TEXT])
{
    int n = snprintf(out, EMB_COST_TEXT, "$%.9f", (double)nusd * 1e-9);
    const char *point = strchr(out, '.');
    while (point && n > 0 && out[n - 1] == '0' && out + n > point + 3)
        out[--n] = 0;
    return out;
}

uint64_t emb_gate_cost_nusd(emb_gate *g)
{
    emb_service_totals totals;
    emb_service_get_totals(g->service, &totals);
    return totals.cost_nusd;
}

uint64_t emb_gate_cached(emb_gate *g)
{
    emb_service_totals totals;
    emb_service_get_totals(g->service, &totals);
    return totals.cached_texts;
}

size_t emb_gate_most_texts(const emb_gate *g)
{
    return g->config->max_inputs;
}

/* Under the lock. *estimate is what it adds to what runs. */
static emb_status take_room(emb_gate *g, const emb_request *r, emb_arena *arena, uint64_t *estimate,
                            emb_error *err)
{
    emb_estimate e;
    *estimate = 0;
    if (g->limit_nusd == UINT64_MAX)
        return EMB_OK;
    emb_status status = emb_service_estimate(g->service, r, arena, &e, err);
    if (status)
        return status;
    uint64_t spent = emb_gate_cost_nusd(g), used = spent + g->running_nusd;
    if (e.cost_nusd && (used > g->limit_nusd || e.cost_nusd > g->limit_nusd - used)) {
        char a[EMB_COST_TEXT], b[EMB_COST_TEXT], c[EMB_COST_TEXT];
        return emb_fail(err, EMB_E_BUDGET, NULL,
                        "--max-cost is %s: %s are spent or on their way, and the next call of %zu texts may "
                        "cost %s",
                        emb_cost_text(g->limit_nusd, a), emb_cost_text(used, b), r->count,
                        emb_cost_text(e.cost_nusd, c));
    }
    *estimate = e.cost_nusd;
    g->running_nusd += e.cost_nusd;
    return EMB_OK;
}

/* ---- embedding ---- */

/* false: the work is to stop. */
static bool wait_a_while(unsigned tries)
{
    long ms = FIRST_WAIT_MS;
    for (unsigned i = 0; i < tries && ms < LONGEST_WAIT_MS; i++)
        ms *= 2;
    for (long waited = 0; waited < ms && waited < LONGEST_WAIT_MS && !emb_stopped(); waited += LOOK_MS)
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    return !emb_stopped();
}

/* Says once that the run waits; false: it shall not. The first request holds the lock itself. */
static bool may_wait(emb_gate *g, bool locked, const emb_error *err)
{
    if (!locked)
        pthread_mutex_lock(&g->lock);
    bool may = !g->impatient;
    if (may && !g->told_to_wait)
        emb_report(g->command, "%s; waiting", err->message);
    g->told_to_wait |= may;
    if (!locked)
        pthread_mutex_unlock(&g->lock);
    return may;
}

void emb_gate_wait_no_more(emb_gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->impatient = true;
    pthread_mutex_unlock(&g->lock);
}

static emb_status ask(emb_gate *g, const emb_request *r, bool locked, emb_arena *arena, emb_answer *answer,
                      emb_error *err)
{
    emb_status status;
    for (unsigned i = 0; (status = emb_service_embed(g->service, r, arena, answer, err)) == EMB_E_BUSY &&
                         i < MOST_WAITS && may_wait(g, locked, err);
         i++) {
        if (!wait_a_while(i))
            return emb_fail(err, EMB_E_CANCELLED, NULL, "stopped");
    }
    return status;
}

static emb_status embed_first(emb_gate *g, emb_request *r, emb_arena *arena, emb_answer *answer,
                              emb_error *err)
{
    uint64_t estimate;
    emb_status status = take_room(g, r, arena, &estimate, err);
    if (!status)
        status = ask(g, r, true, arena, answer, err);
    g->running_nusd -= estimate;
    if (status)
        return status;
    const emb_gate_place place = {answer->provider, answer->model, answer->space, answer->dimension};
    if ((status = settle(g, &place, err)))
        emb_answer_done(answer);
    return status;
}

static emb_status embed_later(emb_gate *g, emb_request *r, emb_arena *arena, emb_answer *answer,
                              emb_error *err)
{
    uint64_t estimate;
    r->space = g->place.space;
    pthread_mutex_lock(&g->lock);
    emb_status status = take_room(g, r, arena, &estimate, err);
    pthread_mutex_unlock(&g->lock);
    if (status)
        return status;
    status = ask(g, r, false, arena, answer, err);
    pthread_mutex_lock(&g->lock);
    g->running_nusd -= estimate;
    if (!status && !*g->place.provider) { /* of a run that goes on */
        const char *provider = emb_arena_strndup(&g->names, answer->provider, strlen(answer->provider));
        g->place.provider = provider ? provider : "";
    }
    pthread_mutex_unlock(&g->lock);
    return status;
}

emb_status emb_gate_embed(emb_gate *g, const emb_text *texts, size_t count, const emb_role *role,
                          emb_arena *arena, emb_answer *answer, emb_error *err)
{
    emb_request r = g->base;
    r.texts = texts;
    r.count = count;
    if (role)
        r.role = *role;
    pthread_mutex_lock(&g->lock);
    if (!g->settled) {
        emb_status status = embed_first(g, &r, arena, answer, err);
        pthread_mutex_unlock(&g->lock);
        return status;
    }
    pthread_mutex_unlock(&g->lock);
    return embed_later(g, &r, arena, answer, err);
}

emb_status emb_gate_estimate(emb_gate *g, const emb_text *texts, size_t count, emb_arena *arena,
                             emb_estimate *out, emb_error *err)
{
    emb_request r = g->base;
    r.texts = texts;
    r.count = count;
    return emb_service_estimate(g->service, &r, arena, out, err);
}

void emb_gate_find_private(emb_gate *g, const emb_text *texts, size_t count, bool *is_private)
{
    emb_service_find_private(g->service, texts, count, is_private);
}

/* ---- one or the other ---- */

static int open_gate(const emb_command *command, const emb_gate_settings *s, const emb_model_settings *model,
                     const emb_text_settings *text, bool is_bulk, emb_gate **gate)
{
    emb_error err;
    int code = check(command, s, model, text);
    if (code >= 0)
        return code;
    return emb_gate_open(command->name, s, model, text, is_bulk, gate, &err)
               ? emb_report_error(command->name, &err)
               : -1;
}

int emb_gate_or_session(const emb_command *command, const emb_gate_settings *s,
                        const emb_model_settings *model, const emb_text_settings *text, bool is_bulk,
                        const char *only, emb_gate **gate, emb_session *session)
{
    emb_error err;
    *gate = NULL;
    if (!only)
        only = only_option(s);
    if (is_asked_for(s) || (only && is_served(s, model->model)))
        return open_gate(command, s, model, text, is_bulk, gate);
    if (only)
        return emb_usage_error(command,
                               "%s is of the gateway, and no configured provider serves the model %s; "
                               "--provider or --route sends the texts there",
                               only, model->model);
    emb_status status = emb_session_open(session, model, false, &err);
    if ((status == EMB_E_NOT_FOUND || status == EMB_E_UNSUPPORTED) && is_served(s, model->model))
        return open_gate(command, s, model, text, is_bulk, gate);
    return status ? emb_report_error(command->name, &err) : -1;
}
