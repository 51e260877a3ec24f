/*
 * gate.h: embedding through the service instead of a model of this process: the planner, providers, budgets,
 * breakers, retries, cache and ledger that stand behind the server's routes.
 *
 *     typedef struct settings { emb_gate_settings gate; … } settings;
 *     static const emb_option options[] = { …, EMB_GATE_OPTIONS(settings, gate), EMB_OPTIONS_END };
 *     emb_gate *gate;
 *     if ((st = emb_gate_open("embed", &s->gate, &s->model, &s->text, false, &gate, err))) return st;
 *     st = emb_gate_embed(gate, texts, n, NULL, &arena, &answer, err);   // any number at a time
 *     emb_answer_done(&answer);
 *     emb_gate_close(gate);
 *
 * All vectors of a run are of one space: the first answer decides which, and every later request is pinned to
 * it. Nothing of this is opened by a command that only uses a local model. Thread-safe between opening and
 * closing.
 */
#ifndef EMB_CLI_GATE_H
#define EMB_CLI_GATE_H

#include "cli/session.h"
#include "cli/settings_flags.h"
#include "service/service.h"

typedef struct emb_gate_settings {
    emb_settings_flags flags;
    const char *provider, *space, *category, *user, *max_cost;
    int context; /* -1: not given */
    bool route;
} emb_gate_settings;

#define EMB_GATE_OPTIONS(type, field)                                                                     \
    {.name = "provider",                                                                                  \
     .kind = EMB_OPTION_TEXT,                                                                             \
     .argument = "NAME",                                                                                  \
     .offset = offsetof(type, field.provider),                                                            \
     .help = "embed with a configured provider, by the name of its instance or its kind, through the "    \
             "gateway: with its cache, privacy, budgets and accounts"},                                   \
        {.name = "route",                                                                                 \
         .kind = EMB_OPTION_FLAG,                                                                         \
         .offset = offsetof(type, field.route),                                                           \
         .help = "through the gateway, which chooses the provider as it does for the server's requests"}, \
        {.name = "space",                                                                                 \
         .kind = EMB_OPTION_TEXT,                                                                         \
         .argument = "SPACE",                                                                             \
         .offset = offsetof(type, field.space),                                                           \
         .help = "through the gateway, and only vectors of this space, as an answer names it"},           \
        {.name = "context",                                                                               \
         .kind = EMB_OPTION_CHOICE,                                                                       \
         .choices = "default|realtime|analysis|batch|sensitive",                                          \
         .default_note = "default; batch with --input",                                                   \
         .offset = offsetof(type, field.context),                                                         \
         .help = "what the vectors are for; decides the order of providers"},                             \
        {.name = "category",                                                                              \
         .kind = EMB_OPTION_TEXT,                                                                         \
         .argument = "NAME",                                                                              \
         .offset = offsetof(type, field.category),                                                        \
         .help = "for accounts and limits of a category"},                                                \
        {.name = "user",                                                                                  \
         .kind = EMB_OPTION_TEXT,                                                                         \
         .argument = "NAME",                                                                              \
         .offset = offsetof(type, field.user),                                                            \
         .help = "whose request it is: decides the rollout's bucket"},                                    \
        {.name = "max-cost",                                                                              \
         .kind = EMB_OPTION_TEXT,                                                                         \
         .argument = "USD",                                                                               \
         .default_note = "the budgets of the configuration alone",                                        \
         .offset = offsetof(type, field.max_cost),                                                        \
         .help = "stop before a call whose estimated price would take this run over so many dollars"},    \
        EMB_SETTINGS_OPTIONS(type, field.flags)

typedef struct emb_gate emb_gate;

/* Opens what the options mean: *gate where they ask for the gateway, or where the model is not here and the
 * configuration has a provider that serves it; else *session, and *gate is NULL. The configuration is not
 * read for a model that is here. only: the name of another option of the command that the gateway alone has
 * and that was given, or NULL. -1, or the exit status after a message. */
int emb_gate_or_session(const emb_command *command, const emb_gate_settings *settings,
                        const emb_model_settings *model, const emb_text_settings *text, bool is_bulk,
                        const char *only, emb_gate **gate, emb_session *session);

/* is_bulk: texts of a file. The model counts where it was named, or where nothing else asks for the
 * gateway. */
EMB_MUST_CHECK emb_status emb_gate_open(const char *command, const emb_gate_settings *settings,
                                        const emb_model_settings *model, const emb_text_settings *text,
                                        bool is_bulk, emb_gate **out, emb_error *err);
/* Writes what cache and ledger have queued. Takes NULL. */
void emb_gate_close(emb_gate *gate);

/* As emb_service_embed, with the space of the run pinned. A provider that is busy is waited for. role: NULL:
 * that of the options. EMB_E_BUDGET also when --max-cost has no room. */
EMB_MUST_CHECK emb_status emb_gate_embed(emb_gate *gate, const emb_text *texts, size_t count,
                                         const emb_role *role, emb_arena *arena, emb_answer *answer,
                                         emb_error *err);
/* The run ends: from here on a busy provider is an error at once. */
void emb_gate_wait_no_more(emb_gate *gate);
/* What embedding these texts would cost; see emb_service_estimate. */
EMB_MUST_CHECK emb_status emb_gate_estimate(emb_gate *gate, const emb_text *texts, size_t count,
                                            emb_arena *arena, emb_estimate *out, emb_error *err);
/* Which of the texts hold personal data. */
void emb_gate_find_private(emb_gate *gate, const emb_text *texts, size_t count, bool *is_private);

/* What the first answer decided; strings live as long as the gate. */
typedef struct emb_gate_place {
    const char *provider, *model, *space;
    size_t dimension;
} emb_gate_place;
/* false: there was no answer yet. */
bool emb_gate_where(emb_gate *gate, emb_gate_place *out);
/* Takes over what an earlier run had decided, before the first text. */
EMB_MUST_CHECK emb_status emb_gate_go_on(emb_gate *gate, const emb_gate_place *place, emb_error *err);

/* Most texts of one request. */
size_t emb_gate_most_texts(const emb_gate *gate);
/* What the run has cost so far, attempts that failed included, and how many texts came from the cache. */
uint64_t emb_gate_cost_nusd(emb_gate *gate);
uint64_t emb_gate_cached(emb_gate *gate);
/* "$0.000247": enough digits for what it is, at least two. Returns out. */
enum { EMB_COST_TEXT = 48 };
char *emb_cost_text(uint64_t nusd, char out[EMB_COST_TEXT]);

#endif
