/*
 * gateway_parts.h: the structured sections while they are read: drafts, and the tables that describe their
 * members.
 *
 *     const emb_record *r = &emb_records[EMB_RECORD_PROVIDER];
 *     for (size_t i = 0; i < r->count; i++) printf("%s\n", r->members[i].setting.path);
 *
 * A draft is what a file (or the environment) says of one item: the public struct first of what is to become
 * of it, with the members that were given as bits. Reader, printer, schema, documents and comparison all walk
 * over the same tables. Drafts live in the configuration's arena.
 */
#ifndef EMB_CONFIG_GATEWAY_PARTS_H
#define EMB_CONFIG_GATEWAY_PARTS_H

#include "config/parts.h"

struct emb_yaml_node;

/* What a member is beyond the kind of its setting. */
typedef enum emb_form {
    EMB_FORM_PLAIN,
    EMB_FORM_WORD,     /* letters, digits, '_', '-', '.' */
    EMB_FORM_MODEL,    /* a model's name: printable, without spaces */
    EMB_FORM_URL,      /* http:// or https://, no user unless it is a secret */
    EMB_FORM_PROXY,    /* also socks5, with a user */
    EMB_FORM_LINES,    /* a text that may hold line breaks */
    EMB_FORM_FILLED,   /* a text that is not empty */
    EMB_FORM_OPAQUE,   /* a key: ASCII without spaces */
    EMB_FORM_KIND,     /* CHOICE whose first value is 1: EMB_PROVIDER_OPENAI */
    EMB_FORM_SCOPE,    /* "*" or anything printable */
    EMB_FORM_UINT,     /* COUNT kept in 32 bits */
    EMB_FORM_SEVERITY, /* CHOICE kept as its text */
    EMB_FORM_MONEY,    /* dollars, kept as nano-dollars in a uint64_t */
    EMB_FORM_HEADERS,  /* a mapping; the setting's kind means nothing, as for the next */
    EMB_FORM_MODELS    /* a list of names and mappings */
} emb_form;

typedef struct emb_member {
    emb_setting setting; /* path: its name, "weight" or "breaker.slow_ms"; offset: in the draft */
    emb_form form;
} emb_member;

typedef enum emb_record_id {
    EMB_RECORD_PROVIDER,
    EMB_RECORD_LIMIT,
    EMB_RECORD_SINK,
    EMB_RECORD_STEP,
    EMB_RECORD_PATTERN,
    EMB_RECORD_LISTS, /* those before are sections */
    EMB_RECORD_MODEL = EMB_RECORD_LISTS,
    EMB_RECORDS
} emb_record_id;

typedef struct emb_record {
    emb_setting section; /* path "providers.instances", live */
    const char *noun;    /* "an instance" */
    const emb_member *members;
    size_t count, size, maximum; /* of members; of a draft in bytes; of drafts */
} emb_record;

extern const emb_record emb_records[EMB_RECORDS];
/* "providers.prices", which is a mapping and no list. */
extern const emb_setting emb_prices_section;

/* The head of every draft. */
typedef struct emb_draft {
    uint64_t given;    /* bit i: members[i] */
    const char *place; /* "embedd.yaml:7: providers.instances[0]"; "OPENAI_API_KEY" */
    bool made;         /* of the environment or of settings, by no item of the file */
} emb_draft;

typedef struct emb_model_draft {
    emb_draft head;
    emb_provider_model_config config;
} emb_model_draft;

typedef struct emb_provider_draft {
    emb_draft head;
    emb_provider_config config; /* its models are filled at the end */
    const char *api_key_env, *api_key_file;
    emb_model_draft *models;
    size_t model_count;
} emb_provider_draft;

typedef struct emb_limit_draft {
    emb_draft head;
    emb_limit_config config;
    const char *key, *category, *provider;
} emb_limit_draft;

typedef struct emb_sink_draft {
    emb_draft head;
    emb_sink_config config;
} emb_sink_draft;

typedef struct emb_step_draft {
    emb_draft head;
    emb_rollout_step_config config;
    size_t hold_hours, hold_minutes, hold_seconds;
} emb_step_draft;

typedef struct emb_pattern_draft {
    emb_draft head;
    emb_pii_pattern_config config;
} emb_pattern_draft;

/* ---- gateway_table.c ---- */

/* The member's place in the record; SIZE_MAX: none of this name. */
size_t emb_member_find(const emb_record *record, const char *name);
static inline void *emb_member_field(const emb_member *m, const void *draft)
{
    return (char *)draft + m->setting.offset;
}
bool emb_member_given(const emb_record *record, const emb_draft *draft, const char *name);
/* Whether the member says something: given, or filled with more than nothing. */
bool emb_member_filled(const emb_record *record, size_t index, const emb_draft *draft);
emb_draft *emb_draft_at(const emb_config_state *state, emb_record_id id, size_t index);
/* Room for one more; NULL when memory is short. */
emb_draft *emb_draft_add(emb_config_state *state, emb_record_id id);
/* Dollars in decimal text to nano-dollars, exactly. */
typedef enum emb_money_reading {
    EMB_MONEY_READ,
    EMB_MONEY_NO_NUMBER,
    EMB_MONEY_TOO_FINE,
    EMB_MONEY_TOO_LARGE
} emb_money_reading;
emb_money_reading emb_money_parse(const char *text, size_t length, uint64_t *out);
enum { EMB_MONEY_TEXT_MAX = 32 };
const char *emb_money_text(uint64_t nusd, char out[EMB_MONEY_TEXT_MAX]);

/* ---- gateway_form.c ---- */

/* Stores a member's value; messages begin with the origin's subject. */
EMB_MUST_CHECK emb_status emb_member_set(emb_config_state *state, const emb_member *member, void *draft,
                                         const emb_origin *origin, const char *text, size_t length,
                                         emb_error *err);

/* ---- gateway_file.c ---- */

/* Whether it is the path of a structured section, "budget.limits". */
bool emb_gateway_is_section(const char *path);
/* Reads one; node->key is its key. */
EMB_MUST_CHECK emb_status emb_gateway_read(emb_config_state *state, const char *file, const char *path,
                                           const struct emb_yaml_node *node, emb_error *err);

/* ---- gateway.c ---- */

/* After all sources: instances of the environment, defaults, keys, prices; fills values.gateway. */
EMB_MUST_CHECK emb_status emb_gateway_finish(emb_config_state *state, char *const *environment,
                                             const emb_variables *dotenv, emb_error *err);

emb_provider_draft *emb_gateway_find(const emb_config_state *state, const char *name, size_t length);
/* Whether the address is OpenAI's own. */
bool emb_gateway_is_openai(const char *base_url);
/* Whether it is one of this machine. */
bool emb_gateway_is_loopback(const char *url);

/* ---- gateway_models.c ---- */

/* Fills the models of an instance: the built-in ones if it names none, what is known of those it names,
 * prices. `first` is its default model, put before the others, or NULL. */
EMB_MUST_CHECK emb_status emb_gateway_fill_models(emb_config_state *state, emb_provider_draft *draft,
                                                  const char *first, emb_error *err);

/* ---- gateway_check.c ---- */

/* What is missing, not unique or in conflict within the sections. */
EMB_MUST_CHECK emb_status emb_gateway_check_items(emb_config_state *state, emb_error *err);
/* Settings and limits that name a provider, once all instances are there; notes of what is doubtful. */
EMB_MUST_CHECK emb_status emb_gateway_check_references(emb_config_state *state, emb_error *err);
bool emb_gateway_differs(const emb_config_state *a, const emb_config_state *b, emb_record_id id);
bool emb_gateway_prices_differ(const emb_config_state *a, const emb_config_state *b);

/* ---- gateway_document.c ---- */

struct emb_writer;
/* The structured sections of `section`, "budget" (length bytes), in YAML below its settings. */
void emb_gateway_write_yaml(struct emb_writer *w, const emb_config *config, const char *section,
                            size_t length, bool with_origin);
/* Whether it has an item, made ones too. */
bool emb_gateway_has_section(const emb_config *config, const char *section, size_t length);
void emb_gateway_write_schema(struct emb_writer *w, const char *section, size_t length);
void emb_gateway_write_markdown(struct emb_writer *w);

#endif
