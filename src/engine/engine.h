/*
 * engine.h: the inside of an engine: loaded models, calls, slots, the queue. Internal to engine/.
 *
 *     emb_engine_lock(engine);
 *     emb_queue_add(engine, call);            // compute threads take its texts from now on
 *     …                                       // the caller sleeps on call->finished
 *     emb_engine_unlock(engine);
 *
 * Words. A *core* is a loaded model, shared by the handles that opened its directory. A *call* is one
 * emb_embed in progress; it lives on its caller's stack. A *slot* is the right to use one CPU together
 * with the buffers of one forward pass; there are as many as compute threads, so that the engine never
 * keeps more CPUs busy than it was given, whoever does the work. A *turn* is what a thread does with a
 * slot: claim texts, tokenize those that are not tokenized yet, run the pass, deliver the vectors.
 *
 * Threads: everything below is guarded by engine->lock unless a comment says otherwise. A slot's buffers
 * belong to the thread that took the slot.
 */
#ifndef EMB_ENGINE_ENGINE_H
#define EMB_ENGINE_ENGINE_H

#include "base/buf.h"
#include "engine/list.h"
#include "model/encoder.h"
#include "tokenizer/tokenizer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum {
    EMB_MAX_THREADS = 1024,
    EMB_DEFAULT_BATCH_TOKENS = 8192,
    EMB_DEFAULT_QUEUE_TOKENS = 4194304,
    EMB_DEFAULT_PASS_TOKENS = 512, /* a group of the encoder; see pass.c */
    EMB_SPLIT_TOKENS = 128,        /* fewer are not worth a second pass over the weights */
    EMB_MAX_ROWS = 512,            /* sequences in one pass */
    EMB_MAX_CLAIMS = 16,           /* calls that one turn tokenizes for */
    EMB_MAX_TEAM = 8               /* threads that share a lone pass */
};

/* ---- what a call asks for -------------------------------------------------------------------- */

/* Sequences share a pass only if these are the same. */
typedef struct emb_pass_settings {
    emb_pooling pooling;
    emb_switch normalize;
    size_t dimensions;
    bool tokens; /* vectors of tokens, not of texts: see tokens.h */
} emb_pass_settings;

typedef struct emb_plan {
    emb_pass_settings settings;
    size_t width;       /* floats of one vector, of a text or of a token */
    const char *prompt; /* put before each text; never NULL */
    size_t prompt_length;
    uint32_t skip;             /* tokens of the prompt that pooling leaves out */
    size_t max_tokens;         /* per text, > 0 */
    emb_truncation truncation; /* never MODEL */
    emb_priority priority;
    uint64_t deadline_ns;       /* on emb_now_ns's clock; 0: none */
    const volatile int *cancel; /* or NULL */
} emb_plan;

/* Memory for tokenizing, kept from call to call. */
typedef struct emb_scratch {
    struct emb_scratch *next; /* in the engine's free list */
    emb_encoding encoding;
    emb_buf text; /* prompt and text together, lowered */
    int32_t *ids; /* all sequences of a small call, one after another */
    size_t ids_count, ids_capacity;
    size_t *offsets; /* one more than sequences */
    size_t offsets_count, offsets_capacity;
} emb_scratch;

/* ---- models ---------------------------------------------------------------------------------- */

typedef enum emb_stage { EMB_STAGE_NONE, EMB_STAGE_CONFIGURED, EMB_STAGE_LOADED } emb_stage;

typedef struct emb_core {
    emb_engine *engine;
    struct emb_core *next;
    size_t handles;
    size_t pins; /* turns under way */
    char *path;  /* canonical */
    emb_precision wanted;

    pthread_mutex_t load_lock; /* guards the next four; taken before engine->lock, never after */
    pthread_cond_t load_changed;
    bool loading;
    uint64_t load_attempts;
    emb_error load_error; /* of the last attempt */
    atomic_int stage;     /* emb_stage; written under load_lock */

    emb_model_spec spec; /* immutable from EMB_STAGE_CONFIGURED on */
    emb_tokenizer *tokenizer;
    emb_encoder *encoder;      /* immutable from EMB_STAGE_LOADED on */
    emb_workspace *workspaces; /* one per slot, opened and used by the slot's owner, without the lock */
    bool *ready;               /* by slot: it is prepared for this model */
    unsigned ready_count;

    emb_list calls[2];      /* by priority: calls with texts that nobody has claimed */
    emb_link queue_link[2]; /* in engine->cores_waiting while calls[] is not empty */
} emb_core;

struct emb_model {
    emb_engine *engine;
    emb_core *core;
    size_t calls; /* running on this handle */
    bool closing;
};

/* ---- calls ----------------------------------------------------------------------------------- */

typedef struct emb_call {
    /* set before the call is queued, constant afterwards */
    emb_core *core;
    const emb_plan *plan;
    size_t count;
    const emb_text *texts; /* tokenized by compute threads; or NULL, and then … */
    const int32_t *ids;    /* … sequence i is ids[offsets[i]] .. ids[offsets[i+1]-1] */
    const size_t *offsets;
    float *out;
    uint32_t *token_counts; /* or NULL */
    bool detachable;        /* may return while a pass holds its texts: vectors go through the slot */
    uint64_t queued_ns;

    emb_link link;                  /* in core->calls[priority] while next < count */
    size_t next;                    /* first text that nobody has claimed */
    size_t unfinished;              /* claimed and not delivered */
    size_t waiting_tokens;          /* its part of engine->waiting_tokens */
    size_t seen_bytes, seen_tokens; /* of texts tokenized so far: the ratio estimates the others */
    emb_status status;
    emb_error error;
    emb_usage usage;
    uint64_t first_ns, last_ns; /* start of the first turn, end of the last */
    pthread_cond_t finished;    /* emb_call_done, or status is a failure */
} emb_call;

/* ---- slots ----------------------------------------------------------------------------------- */

/* Consecutive rows of a pass that belong to one call. */
typedef struct emb_segment {
    size_t call; /* index in slot->calls */
    size_t rows;
} emb_segment;

/* Texts [first, end) of a call whose texts are not tokenized. */
typedef struct emb_claim {
    size_t call; /* index in slot->calls */
    size_t first, end;
} emb_claim;

typedef struct emb_slot {
    struct emb_slot *next; /* in engine->free_slots */
    unsigned index;
    emb_core *core; /* of the pass that is being made up */
    emb_pass_settings settings;

    /* The calls that the slot works for. Guarded by the lock: an entry becomes NULL when its caller gives
     * up, which it may do only while `touching` is false. */
    emb_call *calls[EMB_MAX_ROWS];
    size_t call_count;
    bool touching; /* the owner reads texts or writes output of its calls, unlocked */

    int32_t *ids;
    size_t tokens, token_capacity;
    size_t running_tokens; /* its part of engine->running_tokens; guarded by the lock */
    uint32_t offsets[EMB_MAX_ROWS + 1], skip[EMB_MAX_ROWS];
    float *targets[EMB_MAX_ROWS]; /* where the pass writes row i: the caller's memory, or staging */
    float *finals[EMB_MAX_ROWS];  /* where row i goes in the end */
    size_t rows;
    bool any_skip;
    float *staging; /* EMB_MAX_ROWS vectors of up to staging_width floats */
    size_t staging_width;
    emb_segment segments[EMB_MAX_ROWS];
    size_t segment_count;
    emb_claim claims[EMB_MAX_CLAIMS];
    size_t claim_count;
    emb_scratch scratch;
} emb_slot;

/* ---- the engine ------------------------------------------------------------------------------ */

struct emb_engine {
    const emb_kernels *kernels;
    unsigned threads;
    size_t batch_tokens, queue_tokens;
    size_t pass_tokens; /* what a turn aims at */
    char *models_path;  /* or NULL */

    pthread_mutex_t lock;
    pthread_cond_t work;  /* something to do for a compute thread */
    pthread_cond_t quiet; /* a slot came back, a call left, a core was unpinned */
    pthread_t *workers;
    unsigned workers_started;
    bool closed, stop, held;
    size_t handles; /* open models, and one for the engine itself while it is open */
    size_t calls;   /* running */
    emb_core *cores;

    emb_slot *slots, *free_slots;
    unsigned free_count;
    unsigned sleepers, spinners;
    unsigned forgetting; /* callers in emb_slots_forget */
    atomic_uint events;  /* counts changes that a spinning thread should look at */

    emb_list cores_waiting[2];   /* by priority */
    size_t waiting_tokens;       /* unclaimed, estimated for texts that are not tokenized */
    size_t running_tokens;       /* claimed and not delivered */
    atomic_size_t waiting_calls; /* with unclaimed texts; written under the lock */
    uint64_t bulk_served_ns;     /* when bulk work last had a turn, or began to wait */

    emb_team *team;
    bool team_led;
    unsigned team_wanted, team_helpers;

    pthread_mutex_t scratch_lock; /* guards the next two */
    emb_scratch *free_scratch;
    unsigned free_scratch_count;

    /* Tests look at each pass here, before it runs, without the lock. */
    void (*observe)(void *context, const emb_slot *slot);
    void *observe_context;
};

static inline void emb_engine_lock(emb_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
}
static inline void emb_engine_unlock(emb_engine *engine)
{
    pthread_mutex_unlock(&engine->lock);
}

/* engine.c. Those that say (locked) are called with engine->lock held. */
/* (locked) A free slot, preferably one that is prepared for the model (which may be NULL); or NULL. */
emb_slot *emb_slot_take(emb_engine *engine, const emb_core *core);
void emb_slot_give(emb_engine *engine, emb_slot *slot); /* (locked) */
void emb_engine_wake(emb_engine *engine);               /* (locked) one more compute thread, if any */
void emb_engine_leave(emb_engine *engine);              /* a handle was closed; may free the engine */
/* Waits until no pass runs, and lets none begin until emb_engine_release. For tests and measurements. */
void emb_engine_hold(emb_engine *engine);
void emb_engine_release(emb_engine *engine);

/* cpus.c: CPUs that this process may use: affinity mask and control group quota, at least 1. */
unsigned emb_cpus_usable(void);

/* queue.c, all (locked) */
emb_status emb_queue_add(emb_engine *engine, emb_call *call, emb_error *err);
void emb_queue_remove(emb_engine *engine, emb_call *call);
/* The model whose turn it is, and the priority; NULL if nothing waits. */
emb_core *emb_queue_next(emb_engine *engine, emb_priority *priority);
/* Claims texts for one pass: those of tokenized calls go into the slot, the others become claims. */
void emb_queue_claim(emb_engine *engine, emb_core *core, emb_priority priority, emb_slot *slot);
void emb_queue_turn_ended(emb_engine *engine, emb_slot *slot);
/* Claims what one pass takes of a tokenized call that is not queued. */
void emb_queue_claim_all(emb_engine *engine, emb_call *call, emb_slot *slot);
/* Claims more of slot->calls[position], which has rows in the slot, if its texts were shorter than
 * estimated; false when there is nothing to add. */
bool emb_queue_claim_more(emb_engine *engine, emb_slot *slot, size_t position);
/* Ends a call early: nothing more of it is claimed. The first failure stays. */
void emb_call_give_up(emb_engine *engine, emb_call *call, const emb_error *error);
/* Deadline or cancellation: fails the call, true. */
bool emb_call_expired(emb_engine *engine, emb_call *call, uint64_t now_ns);
/* Tokens that a text probably has before any was seen: 4 bytes each. What waits is counted with it. */
static inline size_t emb_tokens_at_first_sight(const emb_plan *plan, const emb_text *text)
{
    size_t tokens = (text->length + plan->prompt_length) / 4 + 2;
    return tokens < plan->max_tokens ? tokens : plan->max_tokens;
}
static inline bool emb_call_done(const emb_call *call)
{
    return call->next == call->count && call->unfinished == 0;
}

/* pass.c */
void emb_slot_init(emb_slot *slot, unsigned index);
void emb_slot_fini(emb_slot *slot);
/* Makes the slot ready for passes of this model: workspace and buffers. Locked; unlocks while it works. */
emb_status emb_slot_prepare(emb_engine *engine, emb_slot *slot, emb_core *core, emb_error *err);
/* Most tokens in a pass of this slot, once prepared. */
size_t emb_slot_limit(const emb_slot *slot, const emb_core *core);
/* Adds sequence `index` of a call, false if the pass has no room for it. */
bool emb_slot_add(emb_slot *slot, size_t call, size_t index, const int32_t *ids, size_t count);
/* Tokenizes the claims, runs the pass or passes, delivers. Not locked; slot->touching was set when the
 * texts were claimed. The thread has called thread_begin. */
void emb_slot_turn(emb_engine *engine, emb_slot *slot);
/* Makes every slot forget a call that its caller gives up; waits for those that touch it. (locked) */
void emb_slots_forget(emb_engine *engine, const emb_call *call);
/* Index in slot->calls, where the call is put if it is not there; EMB_MAX_ROWS if there is no room. (locked)
 */
size_t emb_slot_call(emb_slot *slot, emb_call *call);

/* core.c */
/* Brings the model to a stage; concurrent callers wait for the one that works on it. */
emb_status emb_core_reach(emb_core *core, emb_stage stage, const emb_plan *plan, emb_error *err);
emb_status emb_core_get(emb_engine *engine, const char *path, emb_precision precision, emb_core **out,
                        emb_error *err);
void emb_core_put(emb_core *core);

/* plan.c */
emb_status emb_plan_make(emb_plan *plan, const emb_core *core, const emb_embed_options *options, bool prompts,
                         emb_scratch *scratch, emb_error *err);
/* "" if the model has none for that role. */
const char *emb_role_prompt(const emb_model_spec *spec, emb_role role);
/* Whether the caller has cancelled or the time is up; fills *error then. */
bool emb_plan_expired(const emb_plan *plan, uint64_t now_ns, emb_error *error);
/* When a sleeping caller has to look again, on CLOCK_MONOTONIC. For plans with a deadline or a flag. */
struct timespec emb_plan_poll_time(const emb_plan *plan);

/* scratch.c */
void emb_scratch_init(emb_scratch *scratch);
void emb_scratch_fini(emb_scratch *scratch);
emb_scratch *emb_scratch_get(emb_engine *engine, emb_error *err);
void emb_scratch_put(emb_engine *engine, emb_scratch *scratch);
/* Appends one sequence. */
emb_status emb_scratch_add(emb_scratch *scratch, const int32_t *ids, size_t count, emb_error *err);
/* Text number `index` of a call as this model wants it, into scratch->encoding. */
emb_status emb_tokenize_text(const emb_core *core, const emb_plan *plan, const emb_text *text, size_t index,
                             emb_scratch *scratch, emb_error *err);

#endif
