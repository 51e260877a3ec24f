/*
 * embedd.h: turn text into embedding vectors, in process.
 *
 *     emb_engine *engine; emb_model *model; emb_error err;
 *     if (emb_engine_open(NULL, &engine, &err) ||
 *         emb_model_open(engine, "all-MiniLM-L6-v2", NULL, &model, &err)) { puts(err.message); exit(1); }
 *     float v[384];
 *     emb_text text = { "hello world", 11 };
 *     if (emb_embed(model, &text, 1, NULL, v, 384, NULL, &err)) puts(err.message);
 *     emb_model_close(model); emb_engine_close(engine);
 *
 * Threads: an engine and its models may be used from any number of threads at once; concurrent calls are
 * batched together. Opening and closing is thread-safe too, but a handle must not be used during or
 * after its own close. A model that outlives its engine answers EMB_E_CLOSED and still has to be closed.
 *
 * Ownership: every argument is borrowed for the call. What a function allocates is released by the
 * function that its comment names. Closers accept NULL.
 *
 * Errors: a function that can fail returns an emb_status, EMB_OK (0) on success, and fills *err if err
 * is not NULL. On failure output arguments hold nothing to release. The library never prints and never
 * ends the process; running out of memory is EMB_E_NOMEM.
 *
 * Stability: structs that may grow start with `size`; initialise them with their EMB_*_INIT macro, so that
 * a program compiled against an older header goes on working with a newer library. A size that is too
 * small to be one is EMB_E_INVALID.
 */
#ifndef EMBEDD_H
#define EMBEDD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EMB_VERSION_MAJOR 0
#define EMB_VERSION_MINOR 1
#define EMB_VERSION_PATCH 0
#define EMB_VERSION_STRING "0.1.0"

#if defined(__GNUC__)
#define EMB_API __attribute__((visibility("default")))
#define EMB_MUST_CHECK __attribute__((warn_unused_result))
#else
#define EMB_API
#define EMB_MUST_CHECK
#endif

/* ---- errors ---------------------------------------------------------------------------------- */

/* X(name, value, text, HTTP status, whether trying again can help) */
#define EMB_STATUS_TABLE(X)                                               \
    X(EMB_OK, 0, "ok", 200, 0)                                            \
    X(EMB_E_NOMEM, 1, "out of memory", 503, 1)                            \
    X(EMB_E_INVALID, 2, "invalid argument", 400, 0)                       \
    X(EMB_E_NOT_FOUND, 3, "not found", 404, 0)                            \
    X(EMB_E_UNSUPPORTED, 4, "unsupported", 400, 0)                        \
    X(EMB_E_CORRUPT, 5, "malformed data", 400, 0)                         \
    X(EMB_E_IO, 6, "input/output error", 503, 1)                          \
    X(EMB_E_LIMIT, 7, "over a limit", 413, 0)                             \
    X(EMB_E_BUSY, 8, "overloaded", 429, 1)                                \
    X(EMB_E_DEADLINE, 9, "deadline passed", 504, 1)                       \
    X(EMB_E_CANCELLED, 10, "cancelled", 499, 0)                           \
    X(EMB_E_CLOSED, 11, "closed", 503, 0)                                 \
    X(EMB_E_INTERNAL, 12, "internal error", 500, 0)                       \
    X(EMB_E_BUDGET, 13, "budget exhausted", 402, 0)                       \
    X(EMB_E_FORBIDDEN, 14, "not allowed", 403, 0)                         \
    X(EMB_E_PROVIDER, 15, "the provider's answer cannot be used", 502, 1) \
    X(EMB_E_UNAVAILABLE, 16, "no provider is available", 503, 1)

typedef enum emb_status {
#define EMB_X(name, value, text, http, retry) name = value,
    EMB_STATUS_TABLE(EMB_X)
#undef EMB_X
} emb_status;

typedef struct emb_error {
    emb_status code;
    char message[512]; /* one line for people: what was wrong, with the value and the limit */
    char where[160];   /* the file, key, tensor or argument concerned; may be empty */
} emb_error;

/* The text of a status, "unknown status" for other values. */
EMB_API const char *emb_status_text(emb_status status);
/* The HTTP status that answers it, and whether a retry can help. */
EMB_API int emb_status_http(emb_status status);
EMB_API bool emb_status_retryable(emb_status status);

/* "0.1.0"; the library's own version, to compare with EMB_VERSION_STRING. */
EMB_API const char *emb_version(void);

/* ---- choices --------------------------------------------------------------------------------- */

typedef enum emb_precision {
    EMB_PRECISION_AUTO = 0, /* the fastest on this CPU whose vectors keep cosine >= 0.9999 to fp32 */
    EMB_PRECISION_FP32 = 1,
    EMB_PRECISION_BF16 = 2, /* bf16 products, fp32 accumulation */
    EMB_PRECISION_INT8 = 3  /* int8 products with group scales, dynamic activations */
} emb_precision;

typedef enum emb_pooling {
    EMB_POOLING_MODEL = 0, /* as the model directory says */
    EMB_POOLING_MEAN = 1,
    EMB_POOLING_CLS = 2,
    EMB_POOLING_MAX = 3,
    EMB_POOLING_MEAN_SQRT_LEN = 4,
    EMB_POOLING_LAST = 5
} emb_pooling;

typedef enum emb_truncation {
    EMB_TRUNCATE_MODEL = 0, /* the model's own side, right unless its files say otherwise */
    EMB_TRUNCATE_RIGHT = 1, /* keep the beginning */
    EMB_TRUNCATE_LEFT = 2,  /* keep the end */
    EMB_TRUNCATE_NONE = 3   /* a text over the limit is EMB_E_LIMIT */
} emb_truncation;

typedef enum emb_switch { EMB_DEFAULT = 0, EMB_ON = 1, EMB_OFF = 2 } emb_switch;

/* What a text is, for models that put different prompts before queries and documents. */
typedef enum emb_role { EMB_ROLE_NONE = 0, EMB_ROLE_QUERY = 1, EMB_ROLE_DOCUMENT = 2 } emb_role;

typedef enum emb_priority { EMB_PRIORITY_INTERACTIVE = 0, EMB_PRIORITY_BULK = 1 } emb_priority;

/* Names as on the command line ("auto", "bf16"; "model", "mean", "mean-sqrt-len"; "left", "none"); NULL for
 * values outside the enum. */
EMB_API const char *emb_precision_name(emb_precision precision);
EMB_API const char *emb_pooling_name(emb_pooling pooling);
EMB_API const char *emb_truncation_name(emb_truncation truncation);
/* Parses such a name; false leaves *out alone. */
EMB_API bool emb_precision_parse(const char *name, emb_precision *out);
EMB_API bool emb_pooling_parse(const char *name, emb_pooling *out);
EMB_API bool emb_truncation_parse(const char *name, emb_truncation *out);

/* ---- engine ---------------------------------------------------------------------------------- */

typedef struct emb_engine emb_engine;

typedef struct emb_engine_options {
    size_t size;
    unsigned threads;        /* compute threads, at most 1024; 0: one per CPU this process may use */
    size_t batch_tokens;     /* most tokens in one forward pass, though never less than one text; 0: 8192.
                                Bounds the memory of a thread; passes are smaller where that is faster */
    size_t queue_tokens;     /* most tokens that wait before further calls are EMB_E_BUSY; 0: 4,194,304.
                                A call that finds nothing waiting is always let in */
    const char *isa;         /* "portable", "avx2", "avx512", "amx", "neon"; NULL: $EMBEDD_ISA or the best */
    const char *models_path; /* directories to look for model names in, ':' between; or NULL */
} emb_engine_options;
#define EMB_ENGINE_OPTIONS_INIT                         \
    {                                                   \
        sizeof(emb_engine_options), 0, 0, 0, NULL, NULL \
    }

/* Starts the compute threads. options may be NULL. Release with emb_engine_close, which refuses new calls
 * and waits for running ones. */
EMB_API EMB_MUST_CHECK emb_status emb_engine_open(const emb_engine_options *options, emb_engine **out,
                                                  emb_error *err);
EMB_API void emb_engine_close(emb_engine *engine);
/* Instruction set in use, e.g. "avx512", and the number of compute threads. */
EMB_API const char *emb_engine_isa(const emb_engine *engine);
EMB_API unsigned emb_engine_threads(const emb_engine *engine);

/* ---- models ---------------------------------------------------------------------------------- */

typedef struct emb_model emb_model;

typedef struct emb_model_options {
    size_t size;
    emb_precision precision;
    bool lazy; /* read the configuration now, the weights with the first text */
} emb_model_options;
#define EMB_MODEL_OPTIONS_INIT                               \
    {                                                        \
        sizeof(emb_model_options), EMB_PRECISION_AUTO, false \
    }

/* Opens a model directory as sentence-transformers publishes it. `name` is a path to a directory, or a
 * model name ("all-MiniLM-L6-v2", "BAAI/bge-m3") that is looked up in: options.models_path or
 * $EMBEDD_MODELS; ./models; ../models and ../share/embedd/models beside the program; the models that were
 * installed with the library; the Hugging Face hub cache. A name that is nowhere is EMB_E_NOT_FOUND and
 * tells where it was looked for. Opening one directory twice in an engine shares its weights. Release
 * with emb_model_close, which waits for running calls. */
EMB_API EMB_MUST_CHECK emb_status emb_model_open(emb_engine *engine, const char *name,
                                                 const emb_model_options *options, emb_model **out,
                                                 emb_error *err);
EMB_API void emb_model_close(emb_model *model);

typedef struct emb_model_info {
    size_t size;
    const char *name;         /* "all-MiniLM-L6-v2" */
    const char *path;         /* the directory */
    const char *architecture; /* "bert", "roberta", "xlm-roberta", "mpnet", "distilbert" */
    const char *tokenizer;    /* "WordPiece", "Unigram", "BPE" */
    size_t dimension;         /* of the vectors, before `dimensions` shortens them */
    size_t max_tokens;        /* per text, special tokens included */
    size_t vocab_size;
    size_t layers, heads, hidden, intermediate;
    size_t parameters;   /* 0 while lazy */
    size_t weight_bytes; /* packed, in memory; 0 while lazy */
    emb_pooling pooling;
    bool normalize;              /* whether the model's own modules normalise */
    emb_precision precision;     /* in use */
    const char *query_prompt;    /* "" if none */
    const char *document_prompt; /* "" if none */
    size_t prompts;              /* how many emb_model_prompt knows */
    const char *default_prompt;  /* name of the prompt that texts without a role get, NULL if none */
} emb_model_info;
#define EMB_MODEL_INFO_INIT                                                                                  \
    {                                                                                                        \
        sizeof(emb_model_info), NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, EMB_POOLING_MODEL, false, \
            EMB_PRECISION_AUTO, NULL, NULL, 0, NULL                                                          \
    }

/* Fills *info, which was initialised with EMB_MODEL_INFO_INIT; its strings live as long as the model. */
EMB_API void emb_model_get_info(const emb_model *model, emb_model_info *info);
/* Prompt `index` of the model: name and text (NUL-terminated, live as long as the model). false when
 * index >= info.prompts. Any output may be NULL. */
EMB_API bool emb_model_prompt(const emb_model *model, size_t index, const char **name, const char **text);

/* ---- embedding ------------------------------------------------------------------------------- */

typedef struct emb_text {
    const char *data; /* UTF-8; NUL bytes allowed; invalid sequences are read as U+FFFD */
    size_t length;    /* bytes */
} emb_text;

typedef struct emb_embed_options {
    size_t size;
    emb_role role;           /* which prompt: the one in the model's files, or, where these have none, the one
                                 that a well-known model was trained with ("query: " of e5) */
    const char *prompt_name; /* a prompt of the model by name; wins over role; unknown: EMB_E_INVALID */
    const char *prompt;      /* a literal prompt ("": none at all); wins over both */
    size_t dimensions;       /* keep this many leading components (Matryoshka), then normalise; 0: all */
    emb_pooling pooling;
    emb_switch normalize; /* EMB_DEFAULT: as the model says */
    emb_truncation truncation;
    size_t max_tokens; /* 0: the model's; otherwise not above it */
    emb_priority priority;
    int64_t timeout_ms;         /* 0: none. EMB_E_DEADLINE when it passes; queued work is dropped */
    const volatile int *cancel; /* read every few milliseconds and between passes, until the call returns;
                                   non-zero ends the call with EMB_E_CANCELLED */
} emb_embed_options;
#define EMB_EMBED_OPTIONS_INIT                                                                   \
    {                                                                                            \
        sizeof(emb_embed_options), EMB_ROLE_NONE, NULL, NULL, 0, EMB_POOLING_MODEL, EMB_DEFAULT, \
            EMB_TRUNCATE_MODEL, 0, EMB_PRIORITY_INTERACTIVE, 0, NULL                             \
    }

typedef struct emb_usage {
    size_t size;
    size_t tokens;        /* of all texts, special tokens included, after truncation */
    size_t truncated;     /* texts that were cut */
    uint64_t tokenize_ns; /* spent by this call */
    uint64_t queue_ns;    /* waited before its first pass */
    uint64_t compute_ns;  /* wall time from the start of its first pass to the end of its last */
} emb_usage;
#define EMB_USAGE_INIT                   \
    {                                    \
        sizeof(emb_usage), 0, 0, 0, 0, 0 \
    }

/* Embeds `count` texts. Row i of `out` receives the vector of texts[i]: count × D floats, D being
 * `dimensions` or the model's dimension; `out_floats` is the room in `out`, EMB_E_INVALID if short.
 * The _counted form also stores the tokens of each text, unless token_counts is NULL.
 * A text's vector does not depend on what else is in the call or in the engine. Empty texts are allowed
 * (the special tokens are embedded), and so is count 0. usage may be NULL. On error `out`, token_counts
 * and usage are unspecified. One call may hold millions of texts: it needs little memory of its own. */
EMB_API EMB_MUST_CHECK emb_status emb_embed(emb_model *model, const emb_text *texts, size_t count,
                                            const emb_embed_options *options, float *out, size_t out_floats,
                                            emb_usage *usage, emb_error *err);
EMB_API EMB_MUST_CHECK emb_status emb_embed_counted(emb_model *model, const emb_text *texts, size_t count,
                                                    const emb_embed_options *options, float *out,
                                                    size_t out_floats, uint32_t *token_counts,
                                                    emb_usage *usage, emb_error *err);

/* Embeds token id sequences as they are (special tokens included by the caller): sequence i is
 * ids[offsets[i]] .. ids[offsets[i+1]-1]. Ids outside the vocabulary: EMB_E_INVALID. Prompts of the
 * options are ignored; a sequence over the limit is cut or refused as `truncation` says. */
EMB_API EMB_MUST_CHECK emb_status emb_embed_ids(emb_model *model, const int32_t *ids, const size_t *offsets,
                                                size_t count, const emb_embed_options *options, float *out,
                                                size_t out_floats, emb_usage *usage, emb_error *err);

/* ---- tokens ---------------------------------------------------------------------------------- */

typedef struct emb_token {
    int32_t id;
    uint32_t start, end; /* bytes of the text; 0, 0 for special tokens that were added */
    bool special;
} emb_token;

typedef struct emb_tokens {
    emb_token *data;
    size_t count;
    bool truncated;
} emb_tokens;

/* Tokenizes one text, without a prompt. max_tokens 0: no truncation. Release with emb_tokens_free. */
EMB_API EMB_MUST_CHECK emb_status emb_tokenize(emb_model *model, const char *text, size_t length,
                                               bool add_special_tokens, size_t max_tokens, emb_tokens *out,
                                               emb_error *err);
EMB_API void emb_tokens_free(emb_tokens *tokens);
/* The vocabulary entry of an id (not NUL-terminated; lives as long as the model), NULL if none. */
EMB_API const char *emb_token_text(const emb_model *model, int32_t id, size_t *length);

/* ---- vectors --------------------------------------------------------------------------------- */

/* Cosine of two vectors of n components, accumulated in double; 0 if either is zero. */
EMB_API double emb_cosine(const float *a, const float *b, size_t n);

#ifdef __cplusplus
}
#endif
#endif
