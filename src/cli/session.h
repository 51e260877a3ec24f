/*
 * session.h: an engine with one model, opened from the options that several commands share.
 *
 *     typedef struct settings { emb_model_settings model; … } settings;
 *     static const emb_option options[] = { EMB_MODEL_OPTIONS(settings, model), …, EMB_OPTIONS_END };
 *     emb_session session;
 *     if (emb_session_open(&session, &s->model, &err))
 *         return emb_report_error("bench", &err);
 *     emb_session_close(&session);
 *
 * One thread opens and closes; between the two any thread may use engine and model.
 */
#ifndef EMB_CLI_SESSION_H
#define EMB_CLI_SESSION_H

#include "cli/command.h"

#define EMB_DEFAULT_MODEL "all-MiniLM-L6-v2"

typedef struct emb_model_settings {
    const char *model, *isa;
    int precision; /* as emb_precision */
    int device;    /* 0 auto, 1 cpu, 2 cuda */
    size_t threads, batch_tokens;
    bool is_given; /* the model, on the command line */
} emb_model_settings;

#define EMB_MODEL_NAME_OPTION(type, field)                                                     \
    {                                                                                          \
        .name = "model", .letter = 'm', .kind = EMB_OPTION_TEXT, .argument = "NAME|DIR",       \
        .fallback = EMB_DEFAULT_MODEL, .environment = "LOCAL_EMBEDDING_MODEL,EMBEDDING_MODEL", \
        .offset = offsetof(type, field.model), .given = offsetof(type, field.is_given),        \
        .help = "a model's name or its directory"                                              \
    }
#define EMB_RUN_OPTIONS(type, field)                                                                 \
    {.name = "precision",                                                                            \
     .kind = EMB_OPTION_CHOICE,                                                                      \
     .choices = "auto|fp32|bf16|int8",                                                               \
     .fallback = "auto",                                                                             \
     .offset = offsetof(type, field.precision),                                                      \
     .help = "of the products; auto: the fastest here whose vectors stay true to fp32"},             \
        {.name = "device",                                                                           \
         .kind = EMB_OPTION_CHOICE,                                                                  \
         .choices = "auto|cpu|cuda",                                                                 \
         .fallback = "auto",                                                                         \
         .environment = "LOCAL_EMBEDDING_DEVICE,EMBEDDING_DEVICE",                                   \
         .offset = offsetof(type, field.device),                                                     \
         .help = "what computes; cuda is not available in this version"},                            \
        {.name = "threads",                                                                          \
         .letter = 't',                                                                              \
         .kind = EMB_OPTION_COUNT,                                                                   \
         .argument = "N",                                                                            \
         .maximum = 1024,                                                                            \
         .default_note = "one per CPU",                                                              \
         .offset = offsetof(type, field.threads),                                                    \
         .help = "compute threads"},                                                                 \
        {.name = "batch-tokens",                                                                     \
         .kind = EMB_OPTION_COUNT,                                                                   \
         .argument = "N",                                                                            \
         .minimum = 0,                                                                               \
         .maximum = 1 << 20,                                                                         \
         .default_note = "8192",                                                                     \
         .offset = offsetof(type, field.batch_tokens),                                               \
         .help = "most tokens in one forward pass; bounds the memory of a thread"},                  \
    {                                                                                                \
        .name = "isa", .kind = EMB_OPTION_TEXT, .argument = "NAME", .default_note = "the best here", \
        .environment = "EMBEDD_ISA", .offset = offsetof(type, field.isa),                            \
        .help = "instruction set: portable, avx2, avx512, amx, neon"                                 \
    }
#define EMB_MODEL_OPTIONS(type, field) EMB_MODEL_NAME_OPTION(type, field), EMB_RUN_OPTIONS(type, field)

typedef struct emb_text_settings {
    const char *prompt_name, *prompt;
    bool query, document, no_normalize;
    int pooling, truncate;
    size_t dimensions, max_tokens;
} emb_text_settings;

#define EMB_TEXT_OPTIONS(type, field)                                                                      \
    {.name = "query",                                                                                      \
     .kind = EMB_OPTION_FLAG,                                                                              \
     .offset = offsetof(type, field.query),                                                                \
     .help = "the texts are search queries: put the model's query prompt before them"},                    \
        {.name = "document",                                                                               \
         .kind = EMB_OPTION_FLAG,                                                                          \
         .offset = offsetof(type, field.document),                                                         \
         .help = "the texts are documents to be found: put the model's document prompt before them"},      \
        {.name = "prompt-name",                                                                            \
         .kind = EMB_OPTION_TEXT,                                                                          \
         .argument = "NAME",                                                                               \
         .offset = offsetof(type, field.prompt_name),                                                      \
         .help = "another prompt of the model, by its name"},                                              \
        {.name = "prompt",                                                                                 \
         .kind = EMB_OPTION_TEXT,                                                                          \
         .argument = "TEXT",                                                                               \
         .offset = offsetof(type, field.prompt),                                                           \
         .help = "a prompt of your own"},                                                                  \
        {.name = "dimensions",                                                                             \
         .letter = 'd',                                                                                    \
         .kind = EMB_OPTION_COUNT,                                                                         \
         .argument = "N",                                                                                  \
         .minimum = 1,                                                                                     \
         .maximum = 65536,                                                                                 \
         .default_note = "all",                                                                            \
         .offset = offsetof(type, field.dimensions),                                                       \
         .help = "keep the first N components and normalise again (for Matryoshka models)"},               \
        {.name = "pooling",                                                                                \
         .kind = EMB_OPTION_CHOICE,                                                                        \
         .choices = "model|mean|cls|max|mean-sqrt-len|last",                                               \
         .fallback = "model",                                                                              \
         .offset = offsetof(type, field.pooling),                                                          \
         .help = "how token vectors become one; model: as the model's files say"},                         \
        {.name = "no-normalize",                                                                           \
         .kind = EMB_OPTION_FLAG,                                                                          \
         .offset = offsetof(type, field.no_normalize),                                                     \
         .help = "leave the vectors' length as it is"},                                                    \
        {.name = "truncate",                                                                               \
         .kind = EMB_OPTION_CHOICE,                                                                        \
         .choices = "model|right|left|none",                                                               \
         .fallback = "model",                                                                              \
         .offset = offsetof(type, field.truncate),                                                         \
         .help = "where to cut a text that is too long; none: refuse it"},                                 \
    {                                                                                                      \
        .name = "max-tokens", .kind = EMB_OPTION_COUNT, .argument = "N", .minimum = 1, .maximum = 1 << 20, \
        .default_note = "the model's limit", .offset = offsetof(type, field.max_tokens),                   \
        .help = "cut texts at N tokens, special tokens included"                                           \
    }

/* -1, or the exit status after a message about options that exclude each other. */
int emb_text_settings_check(const emb_command *command, const emb_text_settings *settings);

typedef struct emb_session {
    emb_engine *engine;
    emb_model *model;
    emb_model_info info;
    uint64_t load_ns; /* from nothing to a model that can embed */
} emb_session;

/* `lazy` leaves the weights alone until they are needed. */
EMB_MUST_CHECK emb_status emb_session_open(emb_session *session, const emb_model_settings *settings,
                                           bool lazy, emb_error *err);
void emb_session_close(emb_session *session);

void emb_session_apply(const emb_session *session, const emb_text_settings *settings,
                       emb_embed_options *options);
/* Texts of a role get the model's prompt for it. Returns that prompt, "" if there is none. */
const char *emb_session_set_role(const emb_session *session, emb_role role, emb_embed_options *options);

#endif
