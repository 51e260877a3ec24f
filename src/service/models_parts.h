/*
 * models_parts.h: the inside of the registry of served models. Internal to service/.
 *
 * Words. An *entry* is a model directory that was asked for once; it stays until the registry is closed, so
 * that pointers to it never dangle. An *instance* is an entry's open model with everything worked out for it;
 * it comes and goes. A *variant* is an instance under one set of request settings: prompt, dimensions and so
 * on, with the scope of its cache keys. An *alias* is a name under which an entry was asked for.
 *
 * holds: bit 63 says that the instance is open, the rest counts those who hold it. Holding is one
 * compare-and-swap that succeeds only while the bit is set; closing is one that succeeds only at "open, held
 * by nobody". So whoever holds may use entry->instance without a lock, and nobody waits for anybody. An
 * instance that must not be used any more is *retired*: the bit is cleared while it is held, and whoever lets
 * go of it last closes it.
 */
#ifndef EMB_SERVICE_MODELS_PARTS_H
#define EMB_SERVICE_MODELS_PARTS_H

#include "service/models.h"
#include "service/service.h"

#include <pthread.h>
#include <stdatomic.h>

#define EMB_HOLD_OPEN (UINT64_C(1) << 63)

enum {
    EMB_ALIAS_SLOTS = 8192,
    EMB_ALIASES_MAX = EMB_ALIAS_SLOTS / 2,
    EMB_VARIANTS_MAX = 64,
    EMB_REVISION_MAX = 72
};

/* ---- variants (variant.c) ---- */

/* What of a request decides a vector, besides the text. */
typedef struct emb_variant_key {
    emb_role role;
    const char *prompt_name; /* or NULL */
    size_t dimensions, max_tokens;
    emb_switch normalize;
    emb_truncation truncation;
} emb_variant_key;

typedef struct emb_variant {
    struct emb_variant *next;
    emb_variant_key key;
    emb_cache_scope scope;
    emb_embed_options
        options; /* for the engine: everything resolved; priority, time and cancel are the call's */
    size_t dimension, max_tokens;
    const char *space;
} emb_variant;

typedef struct emb_entry emb_entry;

typedef struct emb_instance {
    emb_served served; /* first: an emb_served is its instance */
    emb_entry *entry;
    char revision[EMB_REVISION_MAX];
    _Atomic(emb_variant *) variants; /* only ever added to */
    atomic_uint variant_count;
} emb_instance;

/* The variant for a request, made and kept if it is new. One that does not fit into the instance's table
 * lives in the arena. Checks all settings: EMB_E_INVALID names the one at fault. */
EMB_MUST_CHECK emb_status emb_variant_get(emb_instance *instance, const emb_request *request,
                                          emb_arena *arena, const emb_variant **out, emb_error *err);
void emb_variants_free(emb_instance *instance);

/* ---- entries ---- */

struct emb_entry {
    emb_entry *next; /* in models->entries; written once, under the lock */
    emb_models *models;
    char *path; /* without symbolic links */
    char *name, *repository;
    char commit[EMB_REVISION_MAX]; /* of the hub, or "" */
    bool pinned;                   /* the default or preloaded; set before others see it or under the lock */
    atomic_bool allowed;
    atomic_uint_fast64_t holds;
    emb_instance *instance; /* for those who hold it, and under the lock */
    atomic_uint_fast64_t used_ns;
    atomic_size_t weight_bytes; /* 0 until the first text; written under the lock */
    /* under the lock */
    bool opening;
    uint64_t attempts; /* to open it, so far */
    emb_status status; /* of the last attempt */
    emb_error error;
    uint64_t stamp; /* of the files that `fingerprint` was computed of; 0: none */
    char fingerprint[EMB_REVISION_MAX];
};

typedef struct emb_alias {
    uint64_t hash;
    _Atomic(emb_entry *) entry;
    char name[];
} emb_alias;

/* Fetching a model that is not here: a background thread for each, which all who wait for that model
 * share. */
typedef struct emb_pull {
    struct emb_pull *next;
    emb_models *models;
    char *name; /* on the hub, or of the catalog */
    pthread_t thread;
    bool done;
    uint64_t ended_ns;
    size_t waiting;
    emb_status status;
    emb_error error;
} emb_pull;

/* Fetches `name` into the hub's cache. emb_models_pull_from_hub, or a test's. */
typedef emb_status (*emb_models_puller)(void *context, const emb_config *config, const char *name,
                                        const volatile int *cancel, emb_error *err);

struct emb_models {
    emb_engine *engine;
    emb_metrics *metrics;
    emb_precision precision;
    char *search_path; /* as emb_locate_model wants it, or NULL */
    char *default_name, *key_namespace;
    emb_entry *_Atomic default_entry;
    emb_series *loads_ok, *loads_failed, *unloads, *loaded;

    _Atomic(emb_alias *) aliases[EMB_ALIAS_SLOTS]; /* read without the lock, filled under it */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* an opening or a pull ended */
    emb_config *config;     /* in force */
    emb_entry *entries;
    size_t alias_count;
    emb_pull *pulls;
    size_t pulls_running;
    uint64_t pulls_fetched; /* that ended well, ever */
    volatile int closing;   /* what pulls look at */
    size_t memory_limit, memory_used;
    atomic_bool over; /* the limit is passed and everything else was held */

    pthread_t idle_thread;
    bool idle_started, stop;
    pthread_cond_t idle_changed;

    emb_models_puller puller;
    void *puller_context;
};

/* emb_models_acquire with a deadline on emb_now_ns's clock (0: none). */
EMB_MUST_CHECK emb_status emb_models_acquire_until(emb_models *models, const char *name,
                                                   const volatile int *cancel, uint64_t deadline_ns,
                                                   emb_served **out, emb_error *err);
/* Opens a model that the operator named, which may be a path, and keeps it for good. `may_pull`: as
 * models.pull. */
EMB_MUST_CHECK emb_status emb_models_pin(emb_models *models, const char *name, bool may_pull,
                                         const volatile int *cancel, emb_error *err);
void emb_models_set_puller(emb_models *models, emb_models_puller puller, void *context);

/* ---- names.c ---- */

/* Whether a comma-separated list of patterns lets one of the names in. An empty list does. */
bool emb_names_allow(const char *patterns, const char *const *names, size_t count);
bool emb_name_is_path(const char *name);
/* From a name to the directory, without symbolic links, released with free. `trusted`: the operator's own
 * name. */
EMB_MUST_CHECK emb_status emb_names_locate(const char *name, const char *search_path, const char *patterns,
                                           bool trusted, char **path, emb_error *err);
/* What the model at a path is called; *name and *repository are released with free, commit is "" if it is not
 * the hub's. */
EMB_MUST_CHECK emb_status emb_names_canonical(const char *asked, const char *path, char **name,
                                              char **repository, char commit[EMB_REVISION_MAX],
                                              emb_error *err);
emb_entry *emb_alias_find(emb_models *models, const char *name);
/* (locked) Best effort: when the table is full or memory short, the name is only looked up the long way. */
void emb_alias_set(emb_models *models, const char *name, emb_entry *entry);
void emb_aliases_free(emb_models *models);

/* ---- room.c: what is in memory ---- */

bool emb_entry_hold(emb_entry *entry);
/* emb_models_release in two parts, for callers who have read the clock already. */
void emb_models_note_use(emb_served *served, uint64_t now_ns);
void emb_models_put(emb_served *served);
/* After the first computation and before its vectors are filed: whether the weights that came in are of the
 * files that the revision was made of. If not, the model is retired and the caller has to ask again:
 * EMB_E_IO. */
EMB_MUST_CHECK emb_status emb_models_confirm(emb_models *models, emb_served *served, emb_error *err);
/* Closes models until the limit is kept; the one that was used last stays. */
void emb_models_make_room(emb_models *models);
emb_status emb_models_start_idle(emb_models *models, emb_error *err);
void emb_models_stop_idle(emb_models *models);
/* (locked) Takes the entry's instance if it is open and nobody holds it. Close it with emb_instance_close,
 * unlocked. */
emb_instance *emb_entry_take(emb_entry *entry);
void emb_instance_close(emb_instance *instance);
/* Half of the memory that this process may use. */
size_t emb_half_of_memory(void);

/* ---- pull.c ---- */

/* Whether the hub could have a model of this name. */
bool emb_pull_is_possible(const char *name);
/* The emb_models_puller of every registry, unless a test sets another. */
emb_status emb_models_pull_from_hub(void *context, const emb_config *config, const char *name,
                                    const volatile int *cancel, emb_error *err);
/* Begins or joins the fetch of a model and waits for it. Locked; unlocks while it waits. */
EMB_MUST_CHECK emb_status emb_pull_wait(emb_models *models, const char *name, const volatile int *cancel,
                                        uint64_t deadline_ns, emb_error *err);
/* (locked) Ends all fetches. */
void emb_pulls_end(emb_models *models);

/* ---- waiting ---- */

/* Waits a moment for models->changed. Locked. EMB_E_CANCELLED or EMB_E_DEADLINE when it is time to give
 * up. */
EMB_MUST_CHECK emb_status emb_models_wait(emb_models *models, const volatile int *cancel,
                                          uint64_t deadline_ns, emb_error *err);

/* ---- fingerprint.c ---- */

/* Of a model directory's files: `stamp` by their names, sizes and times, cheap; the fingerprint by their
 * contents, 12 hex digits. */
EMB_MUST_CHECK emb_status emb_fingerprint_stamp(const char *path, uint64_t *stamp, emb_error *err);
EMB_MUST_CHECK emb_status emb_fingerprint(const char *path, char out[EMB_REVISION_MAX], emb_error *err);

#endif
